//! `[[route]]` with `sni`: which pool of a tcp listener a TLS client comes to, by the name that it asks for.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use super::diagnostic::Report;
use super::layers::Named;
use super::names::Names;
use super::source::Span;
use super::value::Fields;
use crate::model::host::HostPattern;
use crate::model::name::{ListenerName, PoolName, RouteName};

/// A route by the name in a ClientHello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SniRoute {
    /// Its name.
    pub name: RouteName,
    /// The tcp listeners that it serves; at least one.
    pub listeners: Vec<ListenerName>,
    /// The names; at least one, and no other route of the same listener has it.
    pub sni: Vec<HostPattern>,
    /// Where such clients come to.
    pub pool: PoolName,
    /// What happens to their TLS; nothing is terminated where the listener has TLS, and passed through elsewhere.
    pub tls: Option<Handling>,
}

/// What happens to the TLS of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// It goes through to the endpoint.
    Passthrough,
    /// It ends here.
    Terminate,
}

impl Handling {
    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Passthrough => "passthrough",
            Self::Terminate => "terminate",
        }
    }
}

/// What such routes may name.
pub(super) struct Targets<'a> {
    /// Every listener.
    names: &'a Names,
    /// The tcp ones, with whether they have TLS.
    tcp: HashMap<&'a str, bool>,
    /// Each name of each listener, with where it stands.
    taken: HashMap<(String, HostPattern), Span>,
}

impl<'a> Targets<'a> {
    pub(super) fn new(names: &'a Names, listeners: &'a [Named]) -> Self {
        let tcp = listeners.iter().filter(|one| one.fields.is_word("protocol", "tcp"));
        let tcp = tcp.map(|one| (one.name.as_str(), one.fields.table("tls").is_some())).collect();
        Self { names, tcp, taken: HashMap::new() }
    }

    /// The listeners that routes by `sni` serve.
    pub(super) fn served(&self, root: &Fields) -> HashSet<String> {
        let routes = root.list::<Fields>("route").into_iter().map(|(fields, _)| fields);
        let of_sni = routes.filter(|fields| fields.has("sni"));
        of_sni.flat_map(|fields| self.listeners(&fields)).map(|(name, _)| name).collect()
    }

    /// What a route serves: what is written, or the only tcp listener that there is.
    fn listeners(&self, fields: &Fields) -> Vec<(String, Span)> {
        if fields.has("listeners") {
            return fields.list("listeners");
        }
        let mut all = self.tcp.keys();
        match (all.next(), all.next()) {
            (Some(only), None) => vec![((*only).to_owned(), fields.span_of("sni"))],
            _ => Vec::new(),
        }
    }
}

impl SniRoute {
    /// Reads a table `[[route]]` with `sni`; nothing when something of it was reported.
    pub(super) fn read(
        fields: &Fields,
        name: &str,
        pools: &Names,
        targets: &mut Targets<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        only_of_names(fields, name, report);
        let tls = [Handling::Passthrough, Handling::Terminate];
        let tls = tls.into_iter().find(|handling| fields.is_word("tls", handling.word()));
        let listeners = read_listeners(fields, name, tls, targets, report);
        let sni = read_names(fields, &listeners, targets, report);
        let pool = read_pool(fields, name, pools, report);
        Some(Self {
            name: RouteName::new(name).ok()?,
            listeners: listeners.iter().filter_map(|name| ListenerName::new(name).ok()).collect(),
            sni,
            pool: pool?,
            tls,
        })
    }
}

/// Reports what asks more than the name: requests are not seen, and there is one order, by how close a name is.
fn only_of_names(fields: &Fields, name: &str, report: &mut Report) {
    const KEYS: [&str; 5] = ["name", "listeners", "sni", "pool", "tls"];
    for field in fields.written.iter().filter(|field| !KEYS.contains(&field.name) && !field.inherited) {
        let message =
            format!("`{}` cannot stand beside `sni`: the route `{name}` sees no request", field.name);
        report.error(field.key_span, message, "remove it; such a route has sni, pool, listeners and tls");
    }
}

fn read_pool(fields: &Fields, name: &str, pools: &Names, report: &mut Report) -> Option<PoolName> {
    let Some(pool) = fields.get::<String>("pool") else {
        if !fields.has("pool") {
            let message = format!("the route `{name}` says nothing of where to");
            report.error(fields.span, message, "add pool = \"NAME\", the pool that such clients come to");
        }
        return None;
    };
    pools.check(&pool, fields.span_of("pool"), report);
    PoolName::new(&pool).ok()
}

fn read_listeners(
    fields: &Fields,
    name: &str,
    tls: Option<Handling>,
    targets: &Targets<'_>,
    report: &mut Report,
) -> Vec<String> {
    let written = targets.listeners(fields);
    if written.is_empty() && !fields.has("listeners") {
        let mut all: Vec<&str> = targets.tcp.keys().copied().collect();
        all.sort_unstable();
        let help = match all.first() {
            Some(first) => format!("add listeners = [\"{first}\"]; of tcp there are {}", all.join(", ")),
            None => "add a listener with protocol = \"tcp\"".to_owned(),
        };
        let message = format!("which listeners the route `{name}` serves has to be said");
        report.error(fields.span_of("sni"), message, help);
    }
    for (listener, span) in &written {
        if !targets.names.check(listener, *span, report) {
            continue;
        }
        match targets.tcp.get(listener.as_str()) {
            None => {
                let message = format!("`sni` is for tcp listeners, and `{listener}` is none");
                let help =
                    "on http listeners write host in the place of sni, which requests are compared with";
                report.error(*span, message, help);
            }
            Some(false) if tls == Some(Handling::Terminate) => {
                let message = format!("TLS cannot end at the listener `{listener}`, which has none");
                let help = format!("add [listener.{listener}.tls], or write tls = \"passthrough\"");
                report.error(fields.span_of("tls"), message, help);
            }
            Some(_) => {}
        }
    }
    written.into_iter().map(|(listener, _)| listener).collect()
}

fn read_names(
    fields: &Fields,
    listeners: &[String],
    targets: &mut Targets<'_>,
    report: &mut Report,
) -> Vec<HostPattern> {
    let written = fields.list::<HostPattern>("sni");
    for (pattern, span) in &written {
        let text = pattern.to_string();
        if text.starts_with('[') || text.parse::<Ipv4Addr>().is_ok() {
            let help = "remove it; clients without a name come to the listener's own pool";
            report.error(*span, "no client asks for an address by `sni` (RFC 6066 section 3)", help);
        }
        for listener in listeners {
            if let Some(first) = targets.taken.get(&(listener.clone(), pattern.clone())) {
                let message = format!("`{pattern}` of the listener `{listener}` never comes here");
                report.error_beside(*span, message, ("it is taken at", *first), "remove one of the two");
            } else {
                targets.taken.insert((listener.clone(), pattern.clone()), *span);
            }
        }
    }
    written.into_iter().map(|(pattern, _)| pattern).collect()
}
