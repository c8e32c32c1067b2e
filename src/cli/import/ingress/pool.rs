//! Pools: one for each Service and port, and for each way to speak with it.

use std::collections::HashMap;

use super::super::document::{Block, Table, Value};
use super::super::report::{Place, Report};
use super::super::tree::Node;
use super::draft::Names;
use super::object::Cluster;
use super::service::{Endpoint, Found, PortName, Services, Wanted, join, port_number};

/// The pools that are made, and whom they are of.
#[derive(Debug)]
pub(super) struct Pools<'c, 'a> {
    cluster: &'c Cluster<'a>,
    services: Services<'c, 'a>,
    pub(super) blocks: Vec<Block>,
    names: Names,
    /// The name of each pool, or why there is none.
    known: HashMap<String, Result<String, String>>,
}

/// A pool as it is made.
pub(super) struct Made<'p, 'a> {
    /// The block, with its endpoints.
    pub(super) table: &'p mut Table,
    /// What is spoken with it as far as its Service says it.
    pub(super) speaks: Option<&'a str>,
}

impl<'c, 'a> Pools<'c, 'a> {
    pub(super) fn new(cluster: &'c Cluster<'a>) -> Self {
        Self {
            cluster,
            services: Services::new(cluster),
            blocks: Vec::new(),
            names: Names::default(),
            known: HashMap::new(),
        }
    }

    /// The port by its number where that is known, so that a name and a number of one port are one pool.
    pub(super) fn by_number(&self, wanted: &Wanted) -> Wanted {
        let mut wanted = wanted.clone();
        let service = self.cluster.get("Service", &wanted.namespace, &wanted.service);
        let ports = service.and_then(|service| service.spec(&["ports"])).map_or(&[][..], Node::items);
        let number = |port: &Node| port.get("port").and_then(port_number);
        let target = |port: &&Node| port.get("targetPort").and_then(Node::text) == Some(&wanted.port.text());
        let found = match &wanted.port {
            PortName::Name(name) => {
                let named = |port: &&Node| port.get("name").and_then(Node::text) == Some(name);
                ports.iter().find(named).or_else(|| ports.iter().find(target))
            }
            PortName::Number(own) if ports.iter().any(|port| number(port) == Some(*own)) => None,
            // The controller takes the number of a pod's port too.
            PortName::Number(_) => ports.iter().find(target),
        };
        if let Some(number) = found.and_then(number) {
            wanted.port = PortName::Number(number);
        }
        wanted
    }

    /// The pool of a Service; `kind` tells several of one apart. What a new one has beside endpoints is `write`'s.
    pub(super) fn of_service(
        &mut self,
        wanted: &Wanted,
        kind: &str,
        at: Place,
        report: &mut Report,
        write: impl FnOnce(Made<'_, 'a>, &mut Report),
    ) -> Result<String, String> {
        let wanted = self.by_number(wanted);
        let udp = if wanted.udp { " udp" } else { "" };
        let one = if wanted.as_one { " one" } else { "" };
        let key = format!("{}/{}:{}{udp}{one} {kind}", wanted.namespace, wanted.service, wanted.port.text());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let found = match self.services.find(&wanted, at, report) {
            Found::Endpoints(endpoints, speaks) => Ok((endpoints, speaks)),
            Found::Nobody(why) => Err(why),
        };
        let made = found.map(|(endpoints, speaks)| {
            let name = format!("{}-{}-{}", wanted.namespace, wanted.service, wanted.port.text());
            let comment = format!("Service {}/{}", wanted.namespace, wanted.service);
            let (name, block) = self.push(&name, Some(comment), &endpoints);
            write(Made { table: &mut block.table, speaks }, report);
            name
        });
        self.known.insert(key, made.clone());
        made
    }

    /// A pool of several endpoints with weights.
    pub(super) fn weighted(
        &mut self,
        name: &str,
        endpoints: &[(Endpoint, u16)],
        at: Place,
    ) -> (String, &mut Table) {
        let (name, block) = self.push(name, None, &[]);
        let lines = endpoints.iter().map(|(endpoint, weight)| {
            let pairs =
                [("address", Value::text(&endpoint.address)), ("weight", Value::Integer((*weight).into()))];
            (Value::inline(pairs), Some(at))
        });
        block.table.set("endpoints", Value::Lines(lines.collect()), None);
        (name, &mut block.table)
    }

    /// The endpoints of a Service, for a pool of several.
    pub(super) fn endpoints(
        &mut self,
        wanted: &Wanted,
        at: Place,
        report: &mut Report,
    ) -> Result<Vec<Endpoint>, String> {
        match self.services.find(wanted, at, report) {
            Found::Endpoints(endpoints, _) => Ok(endpoints),
            Found::Nobody(why) => Err(why),
        }
    }

    /// The pool of a host that is no Service's.
    pub(super) fn of_host(&mut self, tls: bool, host: &str, port: u16, at: Place) -> String {
        let key = format!("{tls} {host} {port}");
        if let Some(Ok(name)) = self.known.get(&key) {
            return name.clone();
        }
        let endpoint = Endpoint::plain(join(host, port), Some(at));
        let (name, block) = self.push(&format!("{}-{port}", host.replace('.', "-")), None, &[endpoint]);
        if tls {
            block.table.set("tls", Value::inline([("server_name", Value::text(host))]), Some(at));
        }
        self.known.insert(key, Ok(name.clone()));
        name
    }

    fn push(&mut self, name: &str, comment: Option<String>, endpoints: &[Endpoint]) -> (String, &mut Block) {
        let name = self.names.unique(name);
        let mut table = Table::default();
        if !endpoints.is_empty() {
            let lines = endpoints.iter().map(Endpoint::line).collect();
            table.set("endpoints", Value::Lines(lines), None);
        }
        let block = Block { name: name.clone(), comments: comment.into_iter().collect(), table };
        self.blocks.push(block);
        let last = self.blocks.len() - 1;
        // It has just been put there.
        (name, &mut self.blocks[last])
    }
}
