//! Ingresses, as the controller reads them: which are its own, in which order, and what their rules say.

use super::super::report::{Place, Report};
use super::super::tree::Node;
use super::annotation::{self, Settings};
use super::object::{Cluster, Object, is_name};
use super::service::{PortName, Wanted, port_number};

/// How a path is compared; what is left to the controller is a prefix there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PathKind {
    Exact,
    Prefix,
}

/// One path of a rule.
#[derive(Debug, Clone)]
pub(super) struct PathRule {
    pub(super) path: String,
    pub(super) kind: PathKind,
    pub(super) at: Place,
    /// The Service; nothing where it leads to something else, and the controller leaves it out.
    pub(super) to: Option<(Wanted, Place)>,
}

/// A rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// `""` is every host.
    pub(super) host: String,
    pub(super) at: Place,
    /// Nothing where it has none, and the default of the Ingress has all.
    pub(super) paths: Option<Vec<PathRule>>,
}

/// A certificate for hosts.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) hosts: Vec<String>,
    pub(super) secret: Option<String>,
    pub(super) at: Place,
}

/// An Ingress.
#[derive(Debug)]
pub(super) struct Ingress<'c, 'a> {
    pub(super) object: &'c Object<'a>,
    pub(super) settings: Settings,
    pub(super) rules: Vec<Rule>,
    pub(super) tls: Vec<Tls>,
    pub(super) default: Option<(Wanted, Place)>,
}

/// The controller's own name in classes.
const CONTROLLER: &str = "k8s.io/ingress-nginx";

/// The Ingresses that ingress-nginx serves, the oldest first.
pub(super) fn read<'c, 'a>(
    cluster: &'c Cluster<'a>,
    as_one: bool,
    report: &mut Report,
) -> Vec<Ingress<'c, 'a>> {
    let mut out = Vec::new();
    for object in cluster.of("Ingress") {
        if let Some(why) = left_out(object) {
            report.wrong(object.at, why);
            dropped(object, report);
            continue;
        }
        match whose(object, cluster, report) {
            Whose::Own => {}
            Whose::Other(why) => {
                report.ignored(object.at, why);
                dropped(object, report);
                continue;
            }
            Whose::Unknown(why) => {
                report.not_possible(object.at, why);
                dropped(object, report);
                continue;
            }
        }
        out.push(read_one(object, cluster, as_one, report));
    }
    // Those without a time are taken for old, in the order of the files.
    out.sort_by_key(|ingress| ingress.object.born());
    for pair in out.windows(2) {
        if let [a, b] = pair
            && a.object.born().is_some()
            && a.object.born() == b.object.born()
        {
            report.approximated(b.object.at, format!("{} is as old: of two of one age the controller takes the later name first, here the order of the files decides", a.object.title()));
        }
    }
    out
}

/// Says of all lines of an object that nothing is made of it.
fn dropped(object: &Object<'_>, report: &mut Report) {
    let text = format!("as line {}", object.at.line);
    object.node.each_place(&mut |at, _| {
        if at != object.at {
            report.ignored(at, text.clone())
        }
    });
}

/// Why Kubernetes has no such object.
fn left_out(object: &Object<'_>) -> Option<&'static str> {
    if object.group != "networking.k8s.io" || object.version != "v1" {
        return Some(
            "Ingress is of networking.k8s.io/v1 since Kubernetes 1.22: no cluster takes this (kubectl convert makes it new)",
        );
    }
    None
}

/// Classes that other controllers have where nobody says otherwise, by how they begin.
const OTHERS: &[&str] = &[
    "alb",
    "azure",
    "cilium",
    "citrix",
    "contour",
    "gce",
    "gloo",
    "haproxy",
    "istio",
    "kong",
    "openshift",
    "pomerium",
    "skipper",
    "traefik",
    "voyager",
];

/// Whose an Ingress is.
enum Whose {
    Own,
    Other(String),
    Unknown(String),
}

fn whose(object: &Object<'_>, cluster: &Cluster<'_>, report: &mut Report) -> Whose {
    let by_annotation =
        object.annotations().iter().find(|(key, _)| key.text == "kubernetes.io/ingress.class");
    let class = object.spec(&["ingressClassName"]).or_else(|| by_annotation.map(|(_, node)| node));
    let Some(name) = class.and_then(Node::text) else {
        report.approximated(object.at, "it names no class: ingress-nginx serves it only where its class is the default one, or with --watch-ingress-without-class. Here it is served");
        return Whose::Own;
    };
    let known = cluster.of("IngressClass").find(|class| class.name == name);
    let controller = known.and_then(|class| class.spec(&["controller"])).and_then(Node::text);
    let other = || Whose::Other(format!("it is of class {name}, which is another controller's"));
    if let Some(controller) = controller {
        return if controller == CONTROLLER { Whose::Own } else { other() };
    }
    if name.contains("nginx") {
        return Whose::Own;
    }
    if OTHERS.iter().any(|start| name.starts_with(start)) {
        return other();
    }
    let ours = |key: &str| key.starts_with("nginx.ingress.kubernetes.io/");
    if object.annotations().iter().any(|(key, _)| ours(&key.text)) {
        report.approximated(
            object.at,
            format!(
                "the IngressClass {name} is not in the files: its annotations say that ingress-nginx is meant"
            ),
        );
        return Whose::Own;
    }
    Whose::Unknown(format!(
        "whose class {name} is cannot be known: import it together with its IngressClass (kubectl get ingressclass {name} -o yaml). It is left out"
    ))
}

fn read_one<'c, 'a>(
    object: &'c Object<'a>,
    cluster: &'c Cluster<'a>,
    as_one: bool,
    report: &mut Report,
) -> Ingress<'c, 'a> {
    let settings = annotation::read(object, cluster, report);
    let as_one = settings.backend.as_one.unwrap_or(as_one);
    let mut reader = Reader { namespace: object.namespace, as_one, report };
    let rules = object.spec(&["rules"]).map_or(&[][..], Node::items);
    let rules: Vec<Rule> = rules.iter().filter_map(|node| reader.rule(node)).collect();
    let default = object.spec(&["defaultBackend"]).and_then(|node| reader.backend(node, node.at));
    let tls = object.spec(&["tls"]).map_or(&[][..], Node::items).iter().map(tls).collect();
    if rules.is_empty() && default.is_none() {
        report.wrong(object.at, "it has no rule and no defaultBackend that could be served");
    }
    Ingress { object, settings, rules, tls, default: default.flatten() }
}

fn tls(node: &Node) -> Tls {
    let hosts = node.get("hosts").map_or(&[][..], Node::items).iter();
    let secret = node.get("secretName");
    Tls {
        hosts: hosts.filter_map(Node::text).map(str::to_ascii_lowercase).collect(),
        secret: secret.and_then(Node::text).filter(|name| !name.is_empty()).map(str::to_owned),
        at: secret.map_or(node.at, |secret| secret.at),
    }
}

struct Reader<'r> {
    namespace: &'r str,
    as_one: bool,
    report: &'r mut Report,
}

impl Reader<'_> {
    fn rule(&mut self, node: &Node) -> Option<Rule> {
        let (host, at) = match node.get("host") {
            Some(host) => (host.text().unwrap_or(""), host.at),
            None => ("", node.at),
        };
        if let Some(why) = wrong_host(host) {
            self.report.wrong(at, format!("{why}: Kubernetes refuses the object. The rule is left out"));
            return None;
        }
        let lower = host.to_ascii_lowercase();
        if lower != host {
            self.report.wrong(at, "a host is in lower case: Kubernetes refuses the object. Here it is");
        }
        let paths = node.get("http").map(|http| http.get("paths").map_or(&[][..], Node::items));
        let paths = paths.map(|paths| paths.iter().filter_map(|path| self.path(path)).collect());
        Some(Rule { host: lower, at, paths })
    }

    fn path(&mut self, node: &Node) -> Option<PathRule> {
        let at = node.get("path").map_or(node.at, |path| path.at);
        let path = node.get("path").and_then(Node::text).unwrap_or("");
        let refused = |report: &mut Report, at: Place, why: &str| {
            report.wrong(at, format!("{why}: Kubernetes refuses the object. The path is left out"));
        };
        let kind = match node.get("pathType").map(|kind| (kind.text().unwrap_or(""), kind.at)) {
            Some(("Exact", _)) => PathKind::Exact,
            Some(("Prefix" | "ImplementationSpecific", _)) => PathKind::Prefix,
            Some((_, at)) => {
                refused(self.report, at, "it is Exact, Prefix or ImplementationSpecific");
                return None;
            }
            None => {
                refused(self.report, at, "there is no pathType");
                return None;
            }
        };
        let own = node.get("pathType").and_then(Node::text) == Some("ImplementationSpecific");
        if let Some(why) = wrong_path(path, own) {
            refused(self.report, at, why);
            return None;
        }
        if !own && !path.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)) {
            self.report.wrong(at, "only with ImplementationSpecific may a path have such characters: the controller's webhook refuses it since 1.12");
        }
        let Some(backend) = node.get("backend") else {
            refused(self.report, at, "there is no backend");
            return None;
        };
        let to = self.backend(backend, at)?;
        let path = if path.is_empty() { "/" } else { path };
        Some(PathRule { path: path.to_owned(), kind, at, to })
    }

    /// The Service of a backend; an inner nothing where it is something else.
    #[expect(clippy::option_option, reason = "a backend may be wrong, or no Service")]
    fn backend(&mut self, node: &Node, at: Place) -> Option<Option<(Wanted, Place)>> {
        let refused = |report: &mut Report, at: Place, why: &str| {
            report.wrong(at, format!("{why}: Kubernetes refuses the object. What leads there is left out"));
        };
        if let Some((key, _)) = node.entry("resource") {
            self.report.wrong(
                key.at,
                "the controller leads to Services alone, and leaves this out: what asks for it goes where other paths of the host lead",
            );
            return Some(None);
        }
        let Some(service) = node.get("service") else {
            refused(self.report, at, "a backend has a service with a name and a port");
            return None;
        };
        let name = service.get("name").and_then(Node::text).unwrap_or("");
        let port = service.get("port");
        let number = port.and_then(|port| port.get("number"));
        let named = port.and_then(|port| port.get("name")).and_then(Node::text);
        let at = service.get("name").map_or(at, |name| name.at);
        let port = match (number, named) {
            (Some(_), Some(_)) => {
                refused(self.report, at, "a port has a number or a name, not both");
                return None;
            }
            (Some(number), None) => port_number(number).map(PortName::Number),
            (None, Some(name)) if !name.is_empty() => Some(PortName::Name(name.to_owned())),
            _ => None,
        };
        let (Some(port), true) = (port.filter(PortName::is_valid), is_name(name)) else {
            refused(self.report, at, "a service has a name and a port from 1 to 65535");
            return None;
        };
        let wanted = Wanted {
            namespace: self.namespace.to_owned(),
            service: name.to_owned(),
            port,
            udp: false,
            as_one: self.as_one,
        };
        Some(Some((wanted, at)))
    }
}

/// Why Kubernetes takes no such host.
fn wrong_host(host: &str) -> Option<&'static str> {
    if host.is_empty() {
        return None;
    }
    if host.parse::<std::net::IpAddr>().is_ok() {
        return Some("a host is a name, not an address");
    }
    if host.contains(':') {
        return Some("a host has no port");
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    if name.contains('*') {
        return Some("a star is the whole first label");
    }
    let valid = !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| !label.is_empty() && label.len() <= 63)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    (!valid).then_some("it is no name of a host")
}

/// Why Kubernetes takes no such path.
fn wrong_path(path: &str, own: bool) -> Option<&'static str> {
    if own {
        let odd = path
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '"' || c == '\\' && path.ends_with('\\'));
        return odd.then_some("a path has no white space and no quotes");
    }
    if !path.starts_with('/') {
        return Some("a path begins with a slash");
    }
    let odd = ["//", "/./", "/../"].iter().any(|part| path.contains(part))
        || path.ends_with("/.")
        || path.ends_with("/..");
    if odd {
        return Some("a path has no empty elements and no dots as elements");
    }
    path.chars().any(|c| c.is_control() || c.is_whitespace() || "?#\"".contains(c)).then_some("it is no path")
}
