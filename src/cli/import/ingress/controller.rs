//! The controller's own ConfigMap: what holds for all Ingresses, and which Services it relays without HTTP.

use ipnet::IpNet;

use super::super::pattern::{escape, fault};
use super::super::report::{Place, Report};
use super::super::tree::Node;
use super::annotation::affinity::Affinity;
use super::annotation::auth::Auth;
use super::annotation::beside::guard;
use super::annotation::proxy::Proxy;
use super::annotation::{Closed, Set, Word, as_networks, as_number, as_seconds, as_size, as_truth};
use super::leftover::{IDLE, NOT};
use super::object::{Cluster, Object, split_name};
use super::service::{PortName, Wanted};
use super::value::list;
use super::variable::template;

/// What the controller is told for all.
#[derive(Debug, Default)]
pub(super) struct Controller {
    pub(super) proxy: Proxy,
    pub(super) auth: Auth,
    pub(super) affinity: Affinity,
    pub(super) ssl_redirect: Set<bool>,
    pub(super) force_ssl: Set<bool>,
    pub(super) as_one: bool,
    pub(super) redirect_code: Set<u32>,
    pub(super) limit_status: Set<u32>,
    pub(super) connections_status: Set<u32>,
    pub(super) hsts: Set<bool>,
    pub(super) hsts_age: Set<String>,
    pub(super) hsts_all: Set<bool>,
    pub(super) hsts_preload: Set<bool>,
    /// X-Forwarded-* of clients are believed.
    pub(super) forwarded: Option<Place>,
    pub(super) real_ip: Option<Place>,
    pub(super) networks: Set<Vec<IpNet>>,
    pub(super) field: Set<String>,
    /// The field in which clients are named is none that can be read.
    pub(super) unbelieved: bool,
    pub(super) proxy_protocol: Option<Place>,
    pub(super) tls13: Option<Place>,
    pub(super) no_http2: Option<Place>,
    pub(super) gzip: Option<Place>,
    pub(super) brotli: Option<Place>,
    pub(super) types: Set<Vec<String>>,
    pub(super) min_size: Set<u64>,
    pub(super) head_time: Set<std::time::Duration>,
    pub(super) body_time: Set<std::time::Duration>,
    pub(super) keep_alive: Set<std::time::Duration>,
    /// The longest line of a head, and all of it.
    pub(super) heads: Set<(u64, u64)>,
    pub(super) kept: Set<u32>,
    pub(super) kept_time: Set<std::time::Duration>,
    pub(super) streams: Set<u32>,
    pub(super) drain: Set<String>,
    pub(super) workers: Set<u32>,
    pub(super) ceiling: Set<u32>,
    /// Fields of answers and of requests, with where they stand.
    pub(super) answers: Vec<(String, String, Place)>,
    pub(super) requests: Vec<(String, String, Place)>,
    pub(super) hidden: Set<Vec<String>>,
    /// Why nobody is let in at all.
    pub(super) closed: Option<Closed>,
    /// Fields with the regular expression of values that are refused.
    pub(super) blocked: Vec<(&'static str, String, Place)>,
    /// Ports that are relayed.
    pub(super) relays: Vec<Relay>,
}

/// A port that is relayed to a Service.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) port: u16,
    pub(super) to: Wanted,
    pub(super) accept_proxy: bool,
    pub(super) send_proxy: bool,
    pub(super) at: Place,
}

/// What reads a key.
type Read = fn(&mut Controller, Word<'_>, &mut Report);

fn yes(word: Word<'_>, report: &mut Report) -> Option<Place> {
    as_truth(word, report).filter(|yes| *yes).map(|_| word.at)
}

const KEYS: &[(&str, Read)] = &[
    ("proxy-connect-timeout", |c, w, r| c.proxy.connect = as_seconds(w, r)),
    ("proxy-read-timeout", |c, w, r| c.proxy.read = as_seconds(w, r)),
    ("proxy-send-timeout", |c, w, r| c.proxy.send = as_seconds(w, r)),
    ("proxy-body-size", |c, w, r| c.proxy.body = as_size(w, r)),
    ("proxy-buffer-size", |c, w, r| c.proxy.head(w, r)),
    ("proxy-next-upstream", |c, w, r| c.proxy.causes(w, r)),
    ("proxy-next-upstream-tries", |c, w, r| c.proxy.tries = as_number(w, r)),
    ("proxy-next-upstream-timeout", |c, w, r| c.proxy.within = as_seconds(w, r)),
    ("retry-non-idempotent", |c, w, r| c.proxy.all_methods = yes(w, r)),
    ("load-balance", |c, w, r| c.affinity.balance(w, r)),
    ("ssl-redirect", |c, w, r| c.ssl_redirect = as_truth(w, r).map(|yes| (yes, w.at))),
    ("force-ssl-redirect", |c, w, r| c.force_ssl = as_truth(w, r).map(|yes| (yes, w.at))),
    ("preserve-trailing-slash", |_, w, r| {
        if as_truth(w, r) == Some(false) {
            r.approximated(w.at, "a slash at the end stays in redirects");
        }
    }),
    ("http-redirect-code", |c, w, r| c.redirect_code = as_number(w, r)),
    ("service-upstream", |c, w, r| c.as_one = as_truth(w, r) == Some(true)),
    ("limit-req-status-code", |c, w, r| c.limit_status = as_number(w, r)),
    ("limit-conn-status-code", |c, w, r| c.connections_status = as_number(w, r)),
    ("hsts", |c, w, r| c.hsts = as_truth(w, r).map(|yes| (yes, w.at))),
    ("hsts-max-age", |c, w, r| c.hsts_age = as_number(w, r).map(|(age, at)| (age.to_string(), at))),
    ("hsts-include-subdomains", |c, w, r| c.hsts_all = as_truth(w, r).map(|yes| (yes, w.at))),
    ("hsts-preload", |c, w, r| c.hsts_preload = as_truth(w, r).map(|yes| (yes, w.at))),
    ("use-forwarded-headers", |c, w, r| c.forwarded = yes(w, r)),
    ("enable-real-ip", |c, w, r| c.real_ip = yes(w, r)),
    ("compute-full-forwarded-for", |_, w, r| {
        if as_truth(w, r) == Some(false) {
            r.approximated(w.at, "lists of trusted peers are extended, not cut to the client");
        }
    }),
    ("proxy-real-ip-cidr", |c, w, r| {
        let list = as_networks(w, r);
        if list.is_none() {
            r.wrong(w.at, "nginx does not start with it: here nobody is believed");
        }
        c.networks = Some((list.unwrap_or_default(), w.at));
    }),
    ("forwarded-for-header", |c, w, r| {
        let field = w.value.to_ascii_lowercase();
        if !["x-forwarded-for", "x-real-ip", "cf-connecting-ip", "forwarded"].contains(&field.as_str()) {
            c.unbelieved = true;
            r.not_possible(w.at, "client_address takes x-forwarded-for, x-real-ip, cf-connecting-ip and forwarded: let the proxies in front send one of these. Until then nobody is believed");
        }
        c.field = Some((field, w.at));
    }),
    ("use-proxy-protocol", |c, w, r| c.proxy_protocol = yes(w, r)),
    ("whitelist-source-range", |c, w, r| c.auth.allow = c.networks(w, r)),
    ("denylist-source-range", |c, w, r| c.auth.deny = c.networks(w, r)),
    ("block-cidrs", |c, w, r| {
        c.auth.blocked = c.networks(w, r);
        if c.auth.blocked.is_some() {
            r.approximated(
                w.at,
                "nginx forgets it where an Ingress has lists of its own: here it holds everywhere",
            );
        }
    }),
    ("block-user-agents", |c, w, r| c.block("user-agent", w, r)),
    ("block-referers", |c, w, r| c.block("referer", w, r)),
    ("global-auth-url", |c, w, r| {
        if !w.value.is_empty() && !c.auth.ask_for_all(w, r) {
            c.close(w.at);
        }
    }),
    ("global-auth-response-headers", |c, w, r| c.auth.take_over(w, r)),
    ("global-auth-method", |_, w, r| {
        if w.value != "GET" {
            r.not_possible(w.at, "the service is asked by GET: let it answer that, or nobody gets in");
        }
    }),
    ("global-auth-cache-key", |_, w, r| r.approximated(w.at, "the service is asked about every request")),
    ("global-auth-cache-duration", |_, w, r| {
        r.approximated(w.at, "the service is asked about every request")
    }),
    ("ssl-protocols", |c, w, r| match w.value {
        "TLSv1.3" => c.tls13 = Some(w.at),
        "TLSv1.2 TLSv1.3" => {}
        _ => r.approximated(w.at, "TLS 1.2 and 1.3 are what is spoken"),
    }),
    ("use-http2", |c, w, r| {
        if as_truth(w, r) == Some(false) {
            c.no_http2 = Some(w.at);
        }
    }),
    ("http2-max-concurrent-streams", |c, w, r| c.streams = as_number(w, r)),
    ("use-gzip", |c, w, r| c.gzip = yes(w, r)),
    ("enable-brotli", |c, w, r| c.brotli = yes(w, r)),
    ("gzip-types", |c, w, _| c.types = Some((w.value.split_whitespace().map(str::to_owned).collect(), w.at))),
    ("brotli-types", |c, w, _| {
        let types = w.value.split_whitespace().map(str::to_owned).collect();
        c.types = c.types.take().or(Some((types, w.at)));
    }),
    ("gzip-min-length", |c, w, r| c.min_size = as_size(w, r)),
    ("brotli-min-length", |c, w, r| c.min_size = c.min_size.or_else(|| as_size(w, r))),
    ("gzip-level", |_, w, r| {
        r.approximated(w.at, "effort of `compress` says how much work goes into answers")
    }),
    ("brotli-level", |_, w, r| {
        r.approximated(w.at, "effort of `compress` says how much work goes into answers")
    }),
    ("client-header-timeout", |c, w, r| c.head_time = as_seconds(w, r)),
    ("client-body-timeout", |c, w, r| c.body_time = as_seconds(w, r)),
    ("large-client-header-buffers", |c, w, r| {
        let (count, each) = w.value.split_once(' ').unwrap_or((w.value, ""));
        match (count.parse::<u64>(), super::value::size(each)) {
            (Ok(count), Some(each)) => c.heads = Some(((each, each.saturating_mul(count)), w.at)),
            _ => r.wrong(w.at, "it is a number and a size: nginx does not start"),
        }
    }),
    ("keep-alive", |c, w, r| c.keep_alive = as_seconds(w, r)),
    ("upstream-keepalive-connections", |c, w, r| c.kept = as_number(w, r)),
    ("upstream-keepalive-timeout", |c, w, r| c.kept_time = as_seconds(w, r)),
    ("worker-processes", |c, w, r| {
        if w.value != "auto" {
            c.workers = as_number(w, r);
        }
    }),
    ("max-worker-connections", |c, w, r| {
        c.ceiling = as_number(w, r);
        r.approximated(w.at, "max_connections is of each listener, for all workers together");
    }),
    ("worker-shutdown-timeout", |c, w, _| c.drain = Some((w.value.to_owned(), w.at))),
    ("add-headers", add_headers),
    ("proxy-set-headers", set_headers),
    ("hide-headers", |c, w, _| c.hidden = Some((list(w.value), w.at))),
    ("global-allowed-response-headers", |_, _, _| {}),
    ("allow-snippet-annotations", |_, _, _| {}),
    ("allow-cross-namespace-resources", |_, w, r| {
        if as_truth(w, r) == Some(true) {
            r.not_possible(w.at, "Secrets of other namespaces are taken for mistakes: name their files in the routes that ask for them");
        }
    }),
];

/// Reads what the files have of the controller's ConfigMaps.
pub(super) fn read(cluster: &Cluster<'_>, report: &mut Report) -> Controller {
    let mut controller = Controller::default();
    for map in cluster.of("ConfigMap") {
        match role(map) {
            Some(Role::Own) => {
                for (key, node) in data(map) {
                    let value = node.text().unwrap_or("").trim();
                    let word = Word { value, at: key.at, namespace: map.namespace, cluster, strict: false };
                    own(&mut controller, &key.text, word, report);
                }
            }
            Some(Role::Relay { udp }) => {
                for (key, node) in data(map) {
                    relay(&mut controller, &key.text, node.text().unwrap_or(""), key.at, udp, report);
                }
                report.approximated(map.at, "the controller is told by an argument that this ConfigMap has ports to relay: its name says so here");
            }
            None => {}
        }
    }
    controller
}

enum Role {
    Own,
    Relay { udp: bool },
}

/// What a ConfigMap is for, by its name and labels.
fn role(map: &Object<'_>) -> Option<Role> {
    let label = |name: &str| map.node.below(&["metadata", "labels", name]).and_then(Node::text);
    let own = map.name.contains("nginx") || map.name.contains("ingress");
    if map.name.ends_with("tcp-services") || map.name.ends_with("-tcp") && own {
        return Some(Role::Relay { udp: false });
    }
    if map.name.ends_with("udp-services") || map.name.ends_with("-udp") && own {
        return Some(Role::Relay { udp: true });
    }
    let named = [
        "ingress-nginx-controller",
        "nginx-configuration",
        "nginx-load-balancer-conf",
        "ingress-controller",
        "ingress-nginx",
    ];
    let labelled = label("app.kubernetes.io/name") == Some("ingress-nginx")
        && label("app.kubernetes.io/component").is_none_or(|part| part == "controller");
    (named.contains(&map.name) || labelled || map.name.ends_with("ingress-nginx-controller"))
        .then_some(Role::Own)
}

fn data<'a>(map: &Object<'a>) -> &'a [(super::super::tree::Key, Node)] {
    map.node.get("data").map_or(&[], Node::pairs)
}

/// Fields of answers that Ingresses may set, as the controller's ConfigMap has them; nothing where that is not there.
pub(super) fn allowed_fields(cluster: &Cluster<'_>) -> Option<Vec<String>> {
    let own = cluster.of("ConfigMap").filter(|map| matches!(role(map), Some(Role::Own)));
    let mut all: Option<Vec<String>> = None;
    for map in own {
        let key = map.node.below(&["data", "global-allowed-response-headers"]);
        all.get_or_insert_default().extend(list(key.and_then(Node::text).unwrap_or("")));
    }
    all
}

/// The texts of a ConfigMap, with where they stand.
pub(super) fn field_map<'a>(map: &Object<'a>) -> Vec<(String, &'a str, Place)> {
    data(map).iter().map(|(key, node)| (key.text.clone(), node.text().unwrap_or(""), key.at)).collect()
}

/// What no line of a ConfigMap has been said about: nothing reads it.
pub(super) fn tell_rest(map: &Object<'_>, report: &mut Report) {
    super::secret::tell_shape(map, &["data"], report);
    for (key, value) in data(map) {
        if report.remarks(key.at).is_empty() {
            report.ignored(key.at, "nothing that is carried over reads it");
            super::field::rest(value, key.at, report);
        }
    }
}

fn own(controller: &mut Controller, key: &str, word: Word<'_>, report: &mut Report) {
    if let Some((_, read)) = KEYS.iter().find(|(name, _)| *name == key) {
        report.translated(word.at);
        return read(controller, word, report);
    }
    let off = word.value == "false" || word.value.is_empty();
    // Of all snippets those of HTTP may say who comes.
    if let Some(guard) = guard(word.value, word.at)
        && ["http-snippet", "server-snippet", "location-snippet"].contains(&key)
    {
        controller.close(guard.at);
        return report.not_possible(
            word.at,
            "it is nginx's own language, and says who may come: nobody is let in (maintenance = true) until that is written as keys of the routes",
        );
    }
    match (IDLE.iter().find(|(name, _)| *name == key), NOT.iter().find(|(name, _)| *name == key)) {
        (Some((_, why)), _) => report.ignored(word.at, *why),
        (_, Some((_, why))) if off => report.ignored(word.at, format!("it is off or empty: {why}")),
        (_, Some((_, remedy))) => report.not_possible(word.at, *remedy),
        _ if key.starts_with("jaeger-") || key.starts_with("zipkin-") || key.starts_with("datadog-") => {
            report.ignored(word.at, "it is gone from the controller: [tracing] has traces");
        }
        _ if key.starts_with("otel-") || key.starts_with("opentelemetry-") => {
            report.ignored(word.at, "spans are made as [tracing] says");
        }
        _ if key.starts_with("global-auth-") => {
            report.not_possible(word.at, "write forward_auth in the routes")
        }
        _ => report
            .not_possible(word.at, "the importer does not know this key: see what it does, and write that"),
    }
}

fn map_of<'w>(word: Word<'w>, report: &mut Report) -> Option<Vec<(String, &'w str, Place)>> {
    let (space, name) = split_name(word.value, word.namespace);
    let found = word.cluster.get("ConfigMap", space, name);
    if found.is_none() {
        report.not_possible(
            word.at,
            format!("the ConfigMap {space}/{name} is not in the files: write its fields in the routes"),
        );
    }
    found.map(field_map)
}

fn add_headers(controller: &mut Controller, word: Word<'_>, report: &mut Report) {
    for (name, value, at) in map_of(word, report).unwrap_or_default() {
        if let Some(field) = field(&name, value, at, report) {
            controller.answers.push(field);
        }
    }
}

fn set_headers(controller: &mut Controller, word: Word<'_>, report: &mut Report) {
    for (name, value, at) in map_of(word, report).unwrap_or_default() {
        if let Some(field) = field(&name, value, at, report) {
            controller.requests.push(field);
        }
    }
}

fn field(name: &str, value: &str, at: Place, report: &mut Report) -> Option<(String, String, Place)> {
    let lower = name.to_ascii_lowercase();
    if crate::model::field::FieldName::new(&lower).is_err()
        || value.chars().any(|c| c.is_control() || !c.is_ascii())
    {
        report.wrong(at, "it is no field: nginx refuses it");
        return None;
    }
    match template(value) {
        Ok(text) => {
            report.translated(at);
            Some((lower, text, at))
        }
        Err(name) => {
            report.not_possible(at, format!("${name} has no counterpart: the field is left out"));
            None
        }
    }
}

/// `PORT: NAMESPACE/SERVICE:PORT[:PROXY[:PROXY]]`.
fn relay(controller: &mut Controller, port: &str, to: &str, at: Place, udp: bool, report: &mut Report) {
    let parts: Vec<&str> = to.trim().split(':').collect();
    let number = port.parse::<u16>().ok().filter(|port| *port > 0);
    let target = parts.first().and_then(|name| name.split_once('/'));
    let service_port = parts.get(1).and_then(|port| PortName::parse(port));
    let (Some(number), Some((namespace, service)), Some(service_port)) = (number, target, service_port)
    else {
        return report.wrong(at, "it is PORT: NAMESPACE/SERVICE:PORT: the controller leaves it out");
    };
    if !super::object::is_name(namespace) || !super::object::is_name(service) {
        return report.wrong(at, "it is PORT: NAMESPACE/SERVICE:PORT: the controller leaves it out");
    }
    report.translated(at);
    let proxy =
        |place: usize| !udp && parts.get(place).is_some_and(|part| part.eq_ignore_ascii_case("PROXY"));
    let to = Wanted {
        namespace: namespace.to_owned(),
        service: service.to_owned(),
        port: service_port,
        udp,
        as_one: false,
    };
    if controller.relays.iter().any(|relay| relay.port == number && relay.to.udp == udp) {
        return report.wrong(at, "the port is relayed already");
    }
    controller.relays.push(Relay { port: number, to, accept_proxy: proxy(2), send_proxy: proxy(3), at });
}

impl Controller {
    /// Lets nobody in to any host.
    fn close(&mut self, at: Place) {
        self.closed = self.closed.or(Some(Closed { at, redirects: true }));
    }

    /// Networks that guard everything; where they cannot be read nobody is let in.
    fn networks(&mut self, word: Word<'_>, report: &mut Report) -> Set<Vec<IpNet>> {
        if word.value.is_empty() {
            return None;
        }
        let list = as_networks(word, report);
        if list.is_none() {
            self.close(word.at);
        }
        list.map(|list| (list, word.at))
    }

    /// Values of a field that are refused: texts, or `~` and `~*` with a regular expression.
    fn block(&mut self, field: &'static str, word: Word<'_>, report: &mut Report) {
        let mut parts: Vec<String> = Vec::new();
        for value in list(word.value) {
            let (start, part) = match (value.strip_prefix("~*"), value.strip_prefix('~')) {
                (Some(regex), _) => ("(?i:", regex.to_owned()),
                (None, Some(regex)) => ("(?:", regex.to_owned()),
                (None, None) => ("(?i:", format!("^{}$", escape(&value))),
            };
            let part = format!("{start}{part})");
            match fault(&part) {
                None => parts.push(part),
                Some(why) => {
                    self.close(word.at);
                    report.not_possible(
                        word.at,
                        format!("`{value}` is no regular expression that Plimsoll reads ({why}), so nobody is let in until a route with respond = {{ status = 403 }} says who is not"),
                    );
                }
            }
        }
        let joined = parts.join("|");
        if fault(&joined).is_none() {
            parts = vec![joined].into_iter().filter(|all| !all.is_empty()).collect();
        }
        self.blocked.extend(parts.into_iter().map(|part| (field, part, word.at)));
    }
}
