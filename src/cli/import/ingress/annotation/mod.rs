//! The annotations of ingress-nginx: each group has a file with a table of its names, what they say of an Ingress, and
//! how that is written into its routes and pools.

pub(super) mod affinity;
pub(super) mod auth;
pub(super) mod backend;
pub(super) mod beside;
pub(super) mod canary;
pub(super) mod cors;
pub(super) mod limit;
pub(super) mod proxy;
pub(super) mod rewrite;

use super::super::report::{Place, Report};
use super::super::tree::Node;
use super::object::{Cluster, Object};
use super::value::{list, networks, seconds, size, truth};

/// A value with where it stands.
pub(super) type Set<T> = Option<(T, Place)>;

/// An annotation that is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<'w> {
    pub(super) value: &'w str,
    pub(super) at: Place,
    /// Of its Ingress.
    pub(super) namespace: &'w str,
    pub(super) cluster: &'w Cluster<'w>,
    /// The controller drops the whole Ingress where this cannot be read.
    pub(super) strict: bool,
}

impl Word<'_> {
    /// What the controller does with a value that it cannot read.
    const fn otherwise(self) -> &'static str {
        if self.strict {
            "the controller drops the whole Ingress"
        } else {
            "the controller takes the default"
        }
    }
}

/// What reads an annotation.
pub(super) type Read = fn(&mut Settings, Word<'_>, &mut Report);

/// What the annotations of an Ingress say.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) rewrite: rewrite::Rewrite,
    pub(super) proxy: proxy::Proxy,
    pub(super) limit: limit::Limits,
    pub(super) auth: auth::Auth,
    pub(super) affinity: affinity::Affinity,
    pub(super) canary: canary::Canary,
    pub(super) backend: backend::Backend,
    pub(super) cors: cors::Cors,
    pub(super) beside: beside::Beside,
    pub(super) guards: Guards,
}

/// Why nobody is let in.
#[derive(Debug, Clone, Default)]
pub(super) struct Guards {
    /// The controller answers 503 to all: an annotation that guards cannot be read.
    pub(super) denied: Vec<Place>,
    /// It answers 403 to all who ask for the host, whatever other Ingresses say of it.
    pub(super) denied_host: Option<Place>,
    /// A guard that cannot be said here.
    pub(super) closed: Option<Closed>,
    /// One of the whole host.
    pub(super) closed_host: Option<Closed>,
}

/// A guard that cannot be said, so that nobody is let in until it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) at: Place,
    /// nginx asks it before it redirects too: most guards it asks only about what goes on to a service.
    pub(super) redirects: bool,
}

impl Closed {
    /// Either of two.
    pub(super) fn or(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let first = one.or(other)?;
        let redirects = [one, other].into_iter().flatten().any(|closed| closed.redirects);
        Some(Self { redirects, ..first })
    }
}

/// What begins the names that ingress-nginx reads.
const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// Annotations of the cluster and of other programs, by how their names begin.
const FOREIGN: &[(&str, &str)] = &[
    ("kubernetes.io/ingress.class", ""),
    ("kubernetes.io/tls-acme", "certificates are files here: whoever makes them writes them there"),
    ("cert-manager.io/", "certificates are files here: cert-manager's can be written there"),
    ("acme.cert-manager.io/", "certificates are files here: cert-manager's can be written there"),
    ("external-dns.alpha.kubernetes.io/", "names in DNS are made by external-dns: let them lead here"),
    ("ingress.kubernetes.io/", "it is not read since 0.9: it begins with nginx.ingress.kubernetes.io/"),
    ("kubectl.kubernetes.io/", "it is kubectl's own"),
    ("meta.helm.sh/", "it is Helm's own"),
    ("argocd.argoproj.io/", "it is Argo CD's own"),
];

/// Other controllers, by a part of the names of their annotations.
const CONTROLLERS: &[(&str, &str)] = &[
    ("nginx.org/", "NGINX Inc.'s controller"),
    ("nginx.com/", "NGINX Inc.'s controller"),
    ("haproxy.org/", "HAProxy Technologies' controller"),
    ("haproxy-ingress.github.io/", "HAProxy Ingress"),
    ("traefik.", "Traefik"),
    ("alb.ingress.kubernetes.io/", "AWS's load balancer controller"),
    ("konghq.com/", "Kong"),
    ("projectcontour.io/", "Contour"),
    ("getambassador.io/", "Ambassador"),
    ("appgw.ingress.kubernetes.io/", "Azure's application gateway"),
    ("cloud.google.com/", "Google's controller"),
    ("networking.gke.io/", "Google's controller"),
];

/// Groups of names with what reads them.
const TABLES: &[&[(&str, Read)]] = &[
    rewrite::TABLE,
    proxy::TABLE,
    limit::TABLE,
    auth::TABLE,
    affinity::TABLE,
    canary::TABLE,
    backend::TABLE,
    cors::TABLE,
    beside::TABLE,
];

/// Names that have an effect in a canary too: all else is the main Ingress' word.
const OF_CANARIES: &[&str] =
    &["canary", "affinity", "session-cookie-", "load-balance", "upstream-hash-by", "service-upstream"];

/// Names whose values make the controller drop the whole Ingress when it cannot read them, by how they begin.
const STRICT: &[&str] = &[
    "load-balance",
    "ssl-passthrough",
    "from-to-www-redirect",
    "relative-redirects",
    "permanent-redirect",
    "temporal-redirect",
    "limit-rp",
    "limit-connections",
    "limit-whitelist",
    "limit-allowlist",
    "upstream-hash-by",
    "server-alias",
    "upstream-vhost",
    "x-forwarded-prefix",
    "custom-http-errors",
    "connection-proxy-header",
    "http2-push-preload",
];

/// Reads the annotations of an Ingress.
pub(super) fn read(object: &Object<'_>, cluster: &Cluster<'_>, report: &mut Report) -> Settings {
    let mut settings = Settings::default();
    let pairs = object.annotations();
    let canary = pairs.iter().any(|(key, node)| {
        key.text.strip_prefix(PREFIX) == Some("canary") && node.text().and_then(truth) == Some(true)
    });
    for (key, node) in pairs {
        let value = text_of(key.at, node, report);
        let Some(name) = key.text.strip_prefix(PREFIX) else {
            foreign(&key.text, key.at, report);
            continue;
        };
        if canary && !OF_CANARIES.iter().any(|start| name.starts_with(start)) {
            report.ignored(
                key.at,
                "it is not read in a canary: the Ingress that it is a canary of has the word",
            );
            continue;
        }
        let word = Word {
            value: value.trim(),
            at: key.at,
            namespace: object.namespace,
            cluster,
            strict: STRICT.iter().any(|start| name.starts_with(start)),
        };
        match TABLES.iter().flat_map(|table| table.iter()).find(|(own, _)| *own == name) {
            Some((_, read)) => {
                report.translated(key.at);
                read(&mut settings, word, report);
            }
            None => beside::other(name, word, &mut settings, report),
        }
    }
    settings.proxy.settle(report);
    settings.rewrite.settle(report);
    settings.limit.settle(report);
    settings.auth.settle(object.namespace, cluster, &mut settings.guards, report);
    settings.affinity.settle(report);
    settings.canary.settle(report);
    settings.backend.settle(object.namespace, cluster, &mut settings.guards, report);
    settings.cors.settle(report);
    settings.beside.settle(report);
    settings
}

/// The text of an annotation; what YAML takes for something else is told.
fn text_of<'n>(at: Place, node: &'n Node, report: &mut Report) -> &'n str {
    let Some(text) = node.text() else {
        report.wrong(at, "an annotation is a text: Kubernetes refuses the object");
        super::field::rest(node, at, report);
        return "";
    };
    let other =
        ["true", "false", "yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word))
            || node.as_f64().is_some();
    if other && !node.is_quoted() {
        report.wrong(
            at,
            "without quotes this is no text: Kubernetes refuses the object. Here it is read as it was meant",
        );
    }
    text
}

fn foreign(name: &str, at: Place, report: &mut Report) {
    if name == "kubernetes.io/ingress.class" {
        return report.translated(at);
    }
    if let Some((_, why)) = FOREIGN.iter().find(|(start, _)| name.starts_with(start)) {
        return report.ignored(at, *why);
    }
    match CONTROLLERS.iter().find(|(part, _)| name.contains(part)) {
        Some((_, who)) => report.ignored(at, format!("it is for {who}: ingress-nginx does not read it")),
        None => report.ignored(at, "ingress-nginx does not read it"),
    }
}

/// A yes or no; what is neither is the default.
pub(super) fn as_truth(word: Word<'_>, report: &mut Report) -> Option<bool> {
    let read = truth(word.value);
    if read.is_none() {
        report.wrong(word.at, format!("it is neither true nor false: {}", word.otherwise()));
    }
    read
}

/// A number of seconds; what is none is the default.
pub(super) fn as_seconds(word: Word<'_>, report: &mut Report) -> Set<std::time::Duration> {
    let read = seconds(word.value);
    if read.is_none() {
        report
            .wrong(word.at, format!("it is a whole number of seconds, without a unit: {}", word.otherwise()));
    }
    Some((read?, word.at))
}

/// A number that is not negative; what is none is the default.
pub(super) fn as_number(word: Word<'_>, report: &mut Report) -> Set<u32> {
    let read = word.value.parse().ok();
    if read.is_none() {
        report.wrong(word.at, format!("it is a whole number: {}", word.otherwise()));
    }
    Some((read?, word.at))
}

/// A size as nginx has it; what is none is the default.
pub(super) fn as_size(word: Word<'_>, report: &mut Report) -> Set<u64> {
    let read = size(word.value);
    if read.is_none() {
        report.wrong(word.at, "it is no size (8k, 64m, 1g): the controller takes the default");
    }
    Some((read?, word.at))
}

/// Networks; nothing where one of them is none, since the controller then lets nobody in.
pub(super) fn as_networks(word: Word<'_>, report: &mut Report) -> Option<Vec<ipnet::IpNet>> {
    let (good, bad) = networks(word.value);
    if bad.is_empty() && !good.is_empty() {
        return Some(good);
    }
    report.wrong(word.at, format!("{} is no network", bad.first().map_or("what is written", String::as_str)));
    None
}

/// Names with commas between them.
pub(super) fn as_list(word: Word<'_>) -> Set<Vec<String>> {
    Some((list(word.value), word.at))
}

/// Tells of annotations that only mean something beside another one.
pub(super) fn alone(places: &[Place], why: &str, report: &mut Report) {
    for at in places {
        report.ignored(*at, why);
    }
}
