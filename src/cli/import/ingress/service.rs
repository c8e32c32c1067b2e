//! Services: which endpoints a name and a port come to.

use std::collections::HashSet;

use super::super::document::{Value, place};
use super::super::report::{Place, Report};
use super::super::tree::Node;
use super::object::{Cluster, Object};

/// A port as a backend names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum PortName {
    Number(u16),
    Name(String),
}

impl PortName {
    /// As it stands in names of pools.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Name(name) => name.clone(),
        }
    }

    /// Whether Kubernetes takes it for a port.
    pub(super) fn is_valid(&self) -> bool {
        let Self::Name(name) = self else { return true };
        super::object::is_name(name) && name.len() <= 63 && !name.contains('.')
    }

    /// A port as a ConfigMap has it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.parse::<u32>() {
            Ok(number) => u16::try_from(number).ok().filter(|number| *number > 0).map(Self::Number),
            Err(_) => Some(Self::Name(text.to_owned())).filter(Self::is_valid),
        }
    }
}

/// A Service's port, as a backend asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: PortName,
    pub(super) udp: bool,
    /// By the address of the Service, and not by those of its pods.
    pub(super) as_one: bool,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: String,
    zone: Option<String>,
    from: Option<Place>,
}

impl Endpoint {
    pub(super) const fn plain(address: String, from: Option<Place>) -> Self {
        Self { address, zone: None, from }
    }

    /// As a line of `endpoints`.
    pub(super) fn line(&self) -> (Value, Option<Place>) {
        let address = Value::text(&self.address);
        let value = match &self.zone {
            Some(zone) => Value::inline([("address", address), ("zone", Value::text(zone))]),
            None => address,
        };
        (value, self.from)
    }
}

/// What a Service comes to.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// Its endpoints, and what is spoken with them as far as the Service says it.
    Endpoints(Vec<Endpoint>, Option<&'a str>),
    /// None: why.
    Nobody(String),
}

/// The port of a Service.
struct Port<'a> {
    name: &'a str,
    number: u16,
    /// A number, the number of the port itself where nothing is said.
    target: Option<u16>,
    speaks: Option<&'a str>,
}

/// Services of a cluster, each told once.
#[derive(Debug)]
pub(super) struct Services<'c, 'a> {
    cluster: &'c Cluster<'a>,
    told: HashSet<(String, String)>,
    /// Where it was said at length what becomes of a Service without EndpointSlices, and of one that is not in the files.
    first: [Option<Place>; 2],
}

impl<'c, 'a> Services<'c, 'a> {
    pub(super) fn new(cluster: &'c Cluster<'a>) -> Self {
        Self { cluster, told: HashSet::new(), first: [None, None] }
    }

    /// What is asked for at `at`.
    pub(super) fn find(&mut self, wanted: &Wanted, at: Place, report: &mut Report) -> Found<'a> {
        let Some(service) = self.cluster.get("Service", &wanted.namespace, &wanted.service) else {
            return self.unknown(wanted, at, report);
        };
        let port = port_of(service, wanted);
        if service.spec(&["type"]).and_then(Node::text) == Some("ExternalName") {
            return external(service, port.as_ref(), wanted, report);
        }
        let Some(port) = port else {
            let title = service.title();
            return Found::Nobody(format!("{title} has no such port, and the controller finds no endpoint"));
        };
        let headless = service.spec(&["clusterIP"]).and_then(Node::text) == Some("None");
        if wanted.as_one && !headless {
            let valid = |ip: &&str| ip.parse::<std::net::IpAddr>().is_ok();
            let address = service.spec(&["clusterIP"]).and_then(Node::text).filter(valid);
            let host = address.map_or_else(|| dns_name(wanted), str::to_owned);
            let endpoint = Endpoint::plain(join(&host, port.number), Some(service.at));
            return Found::Endpoints(vec![endpoint], port.speaks);
        }
        let known = self.addresses(wanted, Some(&port));
        match known {
            Some(list) if list.is_empty() => Found::Nobody(format!(
                "{} has no endpoint that is ready, as the files have it",
                service.title()
            )),
            Some(list) => Found::Endpoints(list, port.speaks),
            None => Found::Endpoints(self.by_name(wanted, service, &port, headless, report), port.speaks),
        }
    }

    /// The endpoint of a Service that no slices are known of: its name in the cluster.
    fn by_name(
        &mut self,
        wanted: &Wanted,
        service: &Object<'a>,
        port: &Port<'a>,
        headless: bool,
        report: &mut Report,
    ) -> Vec<Endpoint> {
        let name = dns_name(wanted);
        let address = match port.target {
            Some(target) if headless => join(&name, target),
            None if headless && !port.name.is_empty() => {
                format!("srv:_{}.{}.{name}", port.name, transport(wanted))
            }
            _ => join(&name, port.number),
        };
        if self.told.insert((wanted.namespace.clone(), wanted.service.clone())) {
            let how = if headless {
                format!("its pods are those that the cluster's DNS knows {name} by ([process] resolvers)")
            } else if let [Some(first), _] = self.first {
                format!("no EndpointSlices in the files, as on {}", place(first, report))
            } else {
                let [first, _] = &mut self.first;
                *first = Some(service.at);
                format!(
                    "no EndpointSlices in the files: {name} is the Service's own address, behind which the cluster balances; list its pods in `endpoints` or an endpoints_file"
                )
            };
            report.approximated(service.at, how);
        }
        vec![Endpoint::plain(address, Some(service.at))]
    }

    /// A Service that is not in the files.
    fn unknown(&mut self, wanted: &Wanted, at: Place, report: &mut Report) -> Found<'a> {
        if let Some(list) = self.addresses(wanted, None).filter(|list| !list.is_empty()) {
            return Found::Endpoints(list, None);
        }
        let name = dns_name(wanted);
        let address = match &wanted.port {
            PortName::Number(port) => join(&name, *port),
            PortName::Name(port) => format!("srv:_{port}.{}.{name}", transport(wanted)),
        };
        if self.told.insert((wanted.namespace.clone(), wanted.service.clone())) {
            let asked = match &wanted.port {
                PortName::Number(_) => "the cluster's DNS",
                PortName::Name(_) => "the cluster's DNS, for the number of its port too (SRV)",
            };
            let (namespace, service) = (&wanted.namespace, &wanted.service);
            let [_, first] = &mut self.first;
            let more = match (first, &wanted.port) {
                (Some(first), PortName::Number(_)) => format!("as on {}", place(*first, report)),
                (first, _) => {
                    *first = first.or(Some(at));
                    format!(
                        "{name} is asked of {asked}, and is the Service's own address unless it is headless; list its pods in `endpoints` or an endpoints_file"
                    )
                }
            };
            report.approximated(at, format!("the Service {namespace}/{service} is not in the files: {more}"));
        }
        Found::Endpoints(vec![Endpoint::plain(address, Some(at))], None)
    }

    /// Addresses that EndpointSlices or Endpoints have; nothing where there are none of either.
    fn addresses(&self, wanted: &Wanted, port: Option<&Port<'_>>) -> Option<Vec<Endpoint>> {
        let slices = self.cluster.slices(&wanted.namespace, &wanted.service);
        let mut out: Vec<Endpoint> = Vec::new();
        let mut seen = HashSet::new();
        let mut push = |address: &Node, port: u16, zone: Option<&str>| {
            let Some(ip) = address.text() else { return };
            if crate::model::address::EndpointAddress::parse(&join(ip, port)).is_err() {
                return;
            }
            let address_text = join(ip, port);
            if seen.insert(address_text.clone()) {
                out.push(Endpoint {
                    address: address_text,
                    zone: zone.map(str::to_owned),
                    from: Some(address.at),
                });
            }
        };
        if !slices.is_empty() {
            for slice in slices {
                let port = number_in(slice.node.get("ports").map_or(&[][..], Node::items), port, wanted);
                for endpoint in slice.node.get("endpoints").map_or(&[][..], Node::items) {
                    let ready =
                        endpoint.below(&["conditions", "ready"]).and_then(Node::as_bool) != Some(false);
                    let zone = endpoint.get("zone").and_then(Node::text);
                    let addresses = endpoint.get("addresses").map_or(&[][..], Node::items);
                    if let (true, Some(port)) = (ready, port) {
                        addresses.iter().for_each(|address| push(address, port, zone));
                    }
                }
            }
            return Some(out);
        }
        let endpoints = self.cluster.get("Endpoints", &wanted.namespace, &wanted.service)?;
        for subset in endpoints.node.get("subsets").map_or(&[][..], Node::items) {
            let port = number_in(subset.get("ports").map_or(&[][..], Node::items), port, wanted);
            for address in subset.get("addresses").map_or(&[][..], Node::items) {
                if let (Some(ip), Some(port)) = (address.get("ip"), port) {
                    push(ip, port, None);
                }
            }
        }
        Some(out)
    }
}

/// The number of a port in a slice: by the name of the Service's port, else the only one.
fn number_in(ports: &[Node], port: Option<&Port<'_>>, wanted: &Wanted) -> Option<u16> {
    let protocol = if wanted.udp { "UDP" } else { "TCP" };
    let same = |node: &&Node| node.get("protocol").and_then(Node::text).unwrap_or("TCP") == protocol;
    let number = |node: &Node| node.get("port").and_then(port_number);
    let name = |node: &Node| node.get("name").and_then(Node::text).unwrap_or("").to_owned();
    let mut all = ports.iter().filter(same);
    let found = match (port, &wanted.port) {
        (Some(port), _) if port.name.is_empty() => all.next().and_then(number),
        (Some(port), _) => all.find(|node| name(node) == port.name).and_then(number),
        (None, PortName::Name(wanted)) => all.find(|node| name(node) == *wanted).and_then(number),
        (None, PortName::Number(_)) => all.next().filter(|_| ports.len() == 1).and_then(number),
    };
    found.or_else(|| port.and_then(|port| port.target))
}

/// A number that a port can have.
pub(super) fn port_number(node: &Node) -> Option<u16> {
    node.as_i64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

/// The port of a Service that is asked for, by its number, its name or what it leads to.
fn port_of<'a>(service: &Object<'a>, wanted: &Wanted) -> Option<Port<'a>> {
    let protocol = if wanted.udp { "UDP" } else { "TCP" };
    let ports = service.spec(&["ports"]).map_or(&[][..], Node::items);
    ports.iter().find_map(|node| {
        let number = node.get("port").and_then(port_number)?;
        let name = node.get("name").and_then(Node::text).unwrap_or("");
        let target = node.get("targetPort");
        let named = target.and_then(Node::text);
        let same = node.get("protocol").and_then(Node::text).unwrap_or("TCP") == protocol;
        let asked = match &wanted.port {
            PortName::Number(wanted) => *wanted == number || target.and_then(port_number) == Some(*wanted),
            PortName::Name(wanted) => name == wanted || named == Some(wanted),
        };
        let target = match target {
            Some(target) => port_number(target),
            None => Some(number),
        };
        (same && asked).then(|| Port {
            name,
            number,
            target,
            speaks: node.get("appProtocol").and_then(Node::text),
        })
    })
}

/// A Service that is a name elsewhere.
fn external<'a>(
    service: &Object<'a>,
    port: Option<&Port<'a>>,
    wanted: &Wanted,
    report: &mut Report,
) -> Found<'a> {
    let name = service.spec(&["externalName"]).and_then(Node::text).unwrap_or("").trim_end_matches('.');
    let number = match (port, &wanted.port) {
        (Some(port), _) => port.target.unwrap_or(port.number),
        (None, PortName::Number(number)) => *number,
        (None, PortName::Name(_)) => return Found::Nobody(format!("{} has no such port", service.title())),
    };
    if name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
        report.wrong(service.at, "the controller takes no name that leads to itself");
        return Found::Nobody(format!("{} leads to the controller itself", service.title()));
    }
    if crate::model::address::EndpointAddress::parse(&join(name, number)).is_err() {
        report.wrong(service.at, "an ExternalName is the name of a host");
        return Found::Nobody(format!("{} has no name that could be asked for", service.title()));
    }
    Found::Endpoints(
        vec![Endpoint::plain(join(name, number), Some(service.at))],
        port.and_then(|port| port.speaks),
    )
}

const fn transport(wanted: &Wanted) -> &'static str {
    if wanted.udp { "_udp" } else { "_tcp" }
}

fn dns_name(wanted: &Wanted) -> String {
    format!("{}.{}.svc.cluster.local", wanted.service, wanted.namespace)
}

/// A host and a port.
#[must_use]
pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
