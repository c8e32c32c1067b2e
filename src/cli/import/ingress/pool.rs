//! Pools: one for each Service and port, and for each way to speak with it.

use std::collections::{HashMap, HashSet};

use super::super::document::{Block, Table, Value};
use super::super::report::{Place, Report};
use super::super::tree::Node;
use super::draft::Names;
use super::object::{Cluster, Object};
use super::service::{Endpoint, Found, PortName, Services, Wanted, join, port_number};

/// The pools that are made, and whom they are of.
#[derive(Debug)]
pub(super) struct Pools<'c, 'a> {
    services: Services<'c, 'a>,
    pub(super) blocks: Vec<Block>,
    names: Names,
    /// The ports of each Service, by its namespace and name.
    ports: HashMap<(&'a str, &'a str), Ports<'a>>,
    /// The name of each pool, or why there is none.
    known: HashMap<String, Result<String, String>>,
}

/// The ports of a Service, by what they are asked for by; of two the first counts.
#[derive(Debug, Default)]
struct Ports<'a> {
    numbers: HashSet<u16>,
    names: HashMap<&'a str, u16>,
    targets: HashMap<&'a str, u16>,
}

impl<'a> Ports<'a> {
    fn of(service: &Object<'a>) -> Self {
        let mut out = Self::default();
        for port in service.spec(&["ports"]).map_or(&[][..], Node::items) {
            let Some(number) = port.get("port").and_then(port_number) else { continue };
            out.numbers.insert(number);
            let text = |key: &str| port.get(key).and_then(Node::text);
            if let Some(name) = text("name") {
                out.names.entry(name).or_insert(number);
            }
            if let Some(target) = text("targetPort") {
                out.targets.entry(target).or_insert(number);
            }
        }
        out
    }
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
            services: Services::new(cluster),
            blocks: Vec::new(),
            names: Names::default(),
            ports: cluster
                .of("Service")
                .map(|service| ((service.namespace, service.name), Ports::of(service)))
                .collect(),
            known: HashMap::new(),
        }
    }

    /// The port by its number where that is known, so that a name and a number of one port are one pool.
    pub(super) fn by_number(&self, wanted: &Wanted) -> Wanted {
        let mut wanted = wanted.clone();
        let Some(ports) = self.ports.get(&(wanted.namespace.as_str(), wanted.service.as_str())) else {
            return wanted;
        };
        // The controller takes the name or the number of a pod's port too.
        let target = || ports.targets.get(wanted.port.text().as_str()).copied();
        let found = match &wanted.port {
            PortName::Name(name) => ports.names.get(name.as_str()).copied().or_else(target),
            PortName::Number(own) if ports.numbers.contains(own) => None,
            PortName::Number(_) => target(),
        };
        if let Some(number) = found {
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
