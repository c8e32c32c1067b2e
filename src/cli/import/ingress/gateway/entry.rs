//! The listeners of Gateways: what each takes, and which routes may come to it.

use super::super::super::report::{Place, Report};
use super::super::super::tree::Node;
use super::super::object::{Cluster, Object};
use super::super::secret;
use super::super::service::port_number;
use super::grant;

/// The group of Gateway API.
pub(super) const GROUP: &str = "gateway.networking.k8s.io";

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    Http,
    Https,
    /// TLS that goes through.
    Passthrough,
    /// TLS that ends here, and relayed bytes behind.
    Tls,
    Tcp,
    Udp,
}

impl Protocol {
    pub(super) const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// A listener of a Gateway.
#[derive(Debug)]
pub(super) struct Entry<'c, 'a> {
    pub(super) gateway: &'c Object<'a>,
    pub(super) name: &'a str,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    /// `""` is every host.
    pub(super) host: String,
    /// Files of certificates and keys, with where they come from.
    pub(super) certificates: Vec<(String, String, Place)>,
    pub(super) authority: Option<(String, bool, Place)>,
    /// Why its routes let nobody in: what it asks of clients cannot be asked beside others.
    pub(super) closed: Option<Place>,
    pub(super) at: Place,
    allowed: Option<&'a Node>,
}

/// Why a route does not come to a listener.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) why: String,
    /// More files could say otherwise.
    pub(super) unsure: bool,
}

/// The listeners of all Gateways.
pub(super) fn read<'c, 'a>(cluster: &'c Cluster<'a>, report: &mut Report) -> Vec<Entry<'c, 'a>> {
    let mut out: Vec<Entry<'c, 'a>> = Vec::new();
    for gateway in cluster.of("Gateway") {
        if !known(gateway, &["v1", "v1beta1"], report) {
            continue;
        }
        let listeners = gateway.spec(&["listeners"]).map_or(&[][..], Node::items);
        if listeners.is_empty() {
            report.wrong(gateway.at, "a Gateway has a listener at least: Kubernetes refuses it");
        }
        for node in listeners {
            let Some(entry) = read_one(gateway, node, cluster, report) else { continue };
            let same =
                |other: &&Entry<'_, '_>| std::ptr::eq(other.gateway, gateway) && other.name == entry.name;
            let tls = |entry: &Entry<'_, '_>| {
                !matches!(entry.protocol, Protocol::Http | Protocol::Tcp | Protocol::Udp)
            };
            let beside = |other: &&Entry<'_, '_>| {
                std::ptr::eq(other.gateway, gateway)
                    && other.port == entry.port
                    && (other.protocol == Protocol::Https) != (entry.protocol == Protocol::Https)
                    && tls(other)
                    && tls(&entry)
                    && other.host != entry.host
            };
            let clash = |other: &&Entry<'_, '_>| {
                std::ptr::eq(other.gateway, gateway)
                    && other.port == entry.port
                    && (other.protocol == Protocol::Udp) == (entry.protocol == Protocol::Udp)
                    && (other.protocol != entry.protocol || other.host == entry.host)
            };
            if out.iter().any(|other| same(&other)) {
                report.wrong(
                    entry.at,
                    "another listener of the Gateway has this name: Kubernetes refuses it. It is left out",
                );
            } else if let Some(other) = out.iter().find(|other| beside(other)) {
                report.not_possible(entry.at, format!("{} (line {}) has this port already, and an address takes TLS for HTTP or for what is relayed: give this listener a port or an address of its own. It is left out", other.name, other.at.line));
            } else if let Some(other) = out.iter().find(|other| clash(other)) {
                report.wrong(entry.at, format!("{} has this port and protocol already (line {}): the two are in conflict. It is left out", other.name, other.at.line));
            } else {
                out.push(entry);
            }
        }
    }
    out
}

/// Whether an object is of a version that there is.
pub(super) fn known(object: &Object<'_>, versions: &[&str], report: &mut Report) -> bool {
    if object.group == GROUP && versions.contains(&object.version) && !object.name.is_empty() {
        return true;
    }
    let why = if object.name.is_empty() {
        "an object has a name"
    } else {
        "Gateway API has no such kind in this group and version"
    };
    report.wrong(object.at, format!("{why}: Kubernetes refuses it, and it is left out"));
    false
}

fn read_one<'c, 'a>(
    gateway: &'c Object<'a>,
    node: &'a Node,
    cluster: &Cluster<'_>,
    report: &mut Report,
) -> Option<Entry<'c, 'a>> {
    let at = node.get("name").map_or(node.at, |name| name.at);
    let name = node.get("name").and_then(Node::text).unwrap_or("");
    let mode = node.below(&["tls", "mode"]).and_then(Node::text).unwrap_or("Terminate");
    let mut wrong = |at: Place, why: &str| {
        report.wrong(at, format!("{why}. The listener is left out"));
        None::<Protocol>
    };
    let tls = node.get("tls");
    let protocol = match (node.get("protocol").and_then(Node::text).unwrap_or(""), mode, tls) {
        ("HTTP", _, Some(tls)) => wrong(tls.at, "with protocol HTTP there is no tls: Kubernetes refuses it"),
        ("HTTP", _, None) => Some(Protocol::Http),
        ("HTTPS", "Terminate", Some(_)) => Some(Protocol::Https),
        ("TLS", "Terminate", Some(_)) => Some(Protocol::Tls),
        ("TLS", "Passthrough", Some(_)) => Some(Protocol::Passthrough),
        ("HTTPS", "Passthrough", _) => {
            wrong(at, "with protocol HTTPS TLS ends here: Kubernetes refuses mode Passthrough")
        }
        ("HTTPS" | "TLS", _, None) => {
            wrong(at, "there is no tls with a certificate: the listener does not come up")
        }
        ("HTTPS" | "TLS", _, _) => {
            wrong(at, "the mode of tls is Terminate or Passthrough: Kubernetes refuses it")
        }
        ("TCP", ..) => Some(Protocol::Tcp),
        ("UDP", ..) => Some(Protocol::Udp),
        (other, ..) if other.contains('/') => wrong(at, "the protocol is an implementation's own"),
        _ => wrong(at, "the protocol is HTTP, HTTPS, TLS, TCP or UDP"),
    }?;
    let Some(port) = node.get("port").and_then(port_number) else {
        report.wrong(at, "a listener has a port from 1 to 65535: Kubernetes refuses it. It is left out");
        return None;
    };
    if crate::model::name::PoolName::new(name).is_err() {
        report.wrong(
            at,
            "a listener has a name of letters, digits and dashes: Kubernetes refuses it. It is left out",
        );
        return None;
    }
    let host = node.get("hostname");
    let text = host.and_then(Node::text).unwrap_or("").to_ascii_lowercase();
    if let (Some(why), Some(host)) = (wrong_host(&text), host) {
        report.wrong(host.at, format!("{why}: Kubernetes refuses it. The listener is left out"));
        return None;
    }
    check(node, protocol, name, at, report);
    let certificates = certificates(gateway, node, protocol, at, cluster, report)?;
    let authority = match validation(gateway, node).filter(|_| protocol == Protocol::Https) {
        None => None,
        Some(validation) => Some(authority(gateway, validation, at, cluster, report)?),
    };
    let allowed = node.get("allowedRoutes");
    let closed = None;
    Some(Entry { gateway, name, port, protocol, host: text, certificates, authority, closed, at, allowed })
}

/// Says what Kubernetes does not take of a listener that is made all the same.
fn check(node: &Node, protocol: Protocol, name: &str, at: Place, report: &mut Report) {
    if let (Protocol::Tcp | Protocol::Udp, Some(host)) = (protocol, node.get("hostname")) {
        report.wrong(
            host.at,
            "with protocol TCP or UDP there is no hostname: Kubernetes refuses it. It is left out",
        );
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.')) {
        report.wrong(at, "a name is in lower case: Kubernetes refuses it. Here it is taken as it is");
    }
    let allowed = node.get("allowedRoutes");
    for kind in allowed.and_then(|allowed| allowed.get("kinds")).map_or(&[][..], Node::items) {
        let word = kind.get("kind").and_then(Node::text).unwrap_or("");
        if !can_have(protocol, word) {
            report.wrong(
                super::matching::first_line(kind),
                format!("a listener of this protocol has no {word}"),
            );
        }
    }
}

/// Whether listeners of a protocol have routes of a kind.
fn can_have(protocol: Protocol, kind: &str) -> bool {
    match kind {
        "HTTPRoute" | "GRPCRoute" => protocol.is_http(),
        "TLSRoute" => matches!(protocol, Protocol::Tls | Protocol::Passthrough),
        "TCPRoute" => matches!(protocol, Protocol::Tcp | Protocol::Tls),
        "UDPRoute" => protocol == Protocol::Udp,
        _ => false,
    }
}

/// Why Gateway API takes no such host.
pub(super) fn wrong_host(host: &str) -> Option<&'static str> {
    if host.is_empty() {
        return None;
    }
    if host == "*" {
        return Some("every host is what there is without a hostname");
    }
    if host.parse::<std::net::IpAddr>().is_ok() {
        return Some("a hostname is no address");
    }
    if host.contains(':') {
        return Some("a hostname has no port");
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    if name.contains('*') {
        return Some("a star is the whole first label");
    }
    let valid = name.len() <= 253
        && name.split('.').all(|label| !label.is_empty() && label.len() <= 63)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    (!valid).then_some("it is no name of a host")
}

/// The files of the certificates of a listener; nothing where it cannot come up.
fn certificates(
    gateway: &Object<'_>,
    node: &Node,
    protocol: Protocol,
    at: Place,
    cluster: &Cluster<'_>,
    report: &mut Report,
) -> Option<Vec<(String, String, Place)>> {
    if !matches!(protocol, Protocol::Https | Protocol::Tls) {
        return Some(Vec::new());
    }
    let mut out = Vec::new();
    for reference in node.below(&["tls", "certificateRefs"]).map_or(&[][..], Node::items) {
        let text = |name: &str| reference.get(name).and_then(Node::text);
        let at = reference.get("name").map_or(reference.at, |name| name.at);
        let kind = (text("group").unwrap_or(""), text("kind").unwrap_or("Secret"));
        let namespace = text("namespace").unwrap_or(gateway.namespace);
        let Some(name) = text("name").filter(|_| kind == ("", "Secret")) else {
            report.wrong(at, "a certificate is a Secret: an implementation that knows others is its own");
            continue;
        };
        let from = (GROUP, "Gateway", gateway.namespace);
        if !grant::allows(cluster, from, ("", "Secret", namespace, name)) {
            report.wrong(at, format!("no ReferenceGrant in {namespace} lets a Gateway of {} have this Secret: the listener does not come up with it", gateway.namespace));
            continue;
        }
        let (cert, key) = secret::tell_certificate(cluster, namespace, name, at, report);
        out.push((cert, key, at));
    }
    if out.is_empty() {
        report.wrong(
            at,
            "it has no certificate that it may have: the listener does not come up, and is left out",
        );
        return None;
    }
    Some(out)
}

/// Which certificates clients must have: those of the listener, of its port, or of the whole Gateway.
fn validation<'a>(gateway: &Object<'a>, node: &'a Node) -> Option<&'a Node> {
    let frontend = gateway.spec(&["tls", "frontend"]);
    let port = node.get("port").and_then(port_number);
    let ports = frontend.and_then(|frontend| frontend.get("perPort")).map_or(&[][..], Node::items);
    let of_port = ports.iter().find(|node| node.get("port").and_then(port_number) == port);
    let own = node.below(&["tls", "frontendValidation"]);
    let all = frontend.and_then(|frontend| frontend.below(&["default", "validation"]));
    own.or_else(|| of_port.and_then(|node| node.below(&["tls", "validation"]))).or(all)
}

/// The file of the authority, and whether clients must have a certificate; nothing where the listener cannot come up.
fn authority(
    gateway: &Object<'_>,
    validation: &Node,
    at: Place,
    cluster: &Cluster<'_>,
    report: &mut Report,
) -> Option<(String, bool, Place)> {
    let references = validation.get("caCertificateRefs").map_or(&[][..], Node::items);
    let named = references.first().and_then(|first| Some((first, first.get("name").and_then(Node::text)?)));
    let Some((first, name)) = named else {
        report.wrong(at, "no authority is named by which clients could be verified: Kubernetes refuses it. The listener is left out");
        return None;
    };
    let text = |name: &str| first.get(name).and_then(Node::text);
    let namespace = text("namespace").unwrap_or(gateway.namespace);
    let at = first.get("name").map_or(first.at, |name| name.at);
    let kind = text("kind").unwrap_or("ConfigMap");
    let from = (GROUP, "Gateway", gateway.namespace);
    if !grant::allows(cluster, from, ("", kind, namespace, name)) {
        report.wrong(at, format!("no ReferenceGrant in {namespace} lets a Gateway of {} have it: clients cannot be verified, and the listener is left out", gateway.namespace));
        return None;
    }
    let file = secret::file(namespace, name, "ca.crt");
    secret::tell_authority(cluster, kind, namespace, name, &file, at, report);
    for other in references.iter().skip(1) {
        report.approximated(other.at, format!("write it into {file} too, behind the other one"));
    }
    let fallback = validation.get("mode").and_then(Node::text) == Some("AllowInsecureFallback");
    if fallback && let Some(mode) = validation.get("mode") {
        report.approximated(
            mode.at,
            "clients without a certificate are let in, those with one that is not valid are not",
        );
    }
    Some((file, !fallback, at))
}

impl Entry<'_, '_> {
    /// Whether a route may come to it, by its kind and its namespace.
    pub(super) fn allows(&self, kind: &str, namespace: &str, cluster: &Cluster<'_>) -> Result<(), Refusal> {
        let refuse = |why: String, unsure: bool| Err(Refusal { why, unsure });
        let fits = can_have(self.protocol, kind);
        if !fits {
            return refuse(format!("the listener {} speaks something else", self.name), false);
        }
        let kinds = self.allowed.and_then(|allowed| allowed.get("kinds")).map_or(&[][..], Node::items);
        let named = |node: &Node| node.get("kind").and_then(Node::text) == Some(kind);
        if !kinds.is_empty() && !kinds.iter().any(named) {
            return refuse(format!("the listener {} takes other kinds of routes", self.name), false);
        }
        let from =
            self.allowed.and_then(|allowed| allowed.below(&["namespaces", "from"])).and_then(Node::text);
        let fits = match from.unwrap_or("Same") {
            "All" => true,
            "Same" => namespace == self.gateway.namespace,
            "Selector" => self
                .allowed
                .and_then(|allowed| allowed.below(&["namespaces", "selector"]))
                .is_some_and(|selector| grant::selects(selector, namespace, cluster)),
            _ => false,
        };
        if fits {
            return Ok(());
        }
        if from == Some("Selector") && !cluster.of("Namespace").any(|object| object.name == namespace) {
            return refuse(
                format!(
                    "the Namespace {namespace} is not in the files, and the listener {} goes by its labels (kubectl get namespace {namespace} -o yaml)",
                    self.name
                ),
                true,
            );
        }
        refuse(format!("the listener {} takes no routes of the namespace {namespace}", self.name), false)
    }
}
