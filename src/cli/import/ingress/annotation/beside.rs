//! Annotations beside the way of a request: mirrors, fields of answers, pages of errors, snippets, logs.

use super::super::super::document::{Table, Value};
use super::super::super::report::{Place, Report};
use super::super::controller::{allowed_fields, field_map};
use super::super::object::split_name;
use super::super::variable::template;
use super::{Closed, Read, Set, Settings, Word, as_truth};

/// What they say.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Beside {
    mirror: Set<String>,
    mirror_host: Option<Place>,
    mirror_body: Set<bool>,
    /// Fields of answers, with where they stand.
    pub(in super::super) fields: Vec<(String, String, Place)>,
}

/// Where copies of requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Mirror {
    pub(in super::super) tls: bool,
    pub(in super::super) host: String,
    pub(in super::super) port: u16,
    pub(in super::super) body: bool,
    pub(in super::super) at: Place,
}

pub(super) const TABLE: &[(&str, Read)] = &[
    ("mirror-target", |s, w, _| s.beside.mirror = Some((w.value.to_owned(), w.at))),
    ("mirror-host", |s, w, _| s.beside.mirror_host = Some(w.at)),
    ("mirror-request-body", |s, w, r| match w.value {
        "on" | "off" => s.beside.mirror_body = Some((w.value == "on", w.at)),
        _ => r.wrong(w.at, "it is on or off: the controller takes on"),
    }),
    ("custom-headers", custom_headers),
    ("server-snippet", |s, w, r| {
        s.guards.closed_host = snippet(w, r, "the host, whichever Ingress serves it");
    }),
    ("configuration-snippet", |s, w, r| {
        s.guards.closed = Closed::or(s.guards.closed, snippet(w, r, "the Ingress"));
    }),
    ("stream-snippet", |_, w, r| {
        r.not_possible(w.at, "it is nginx's own language, for what is no HTTP: write a tcp listener")
    }),
    ("fastcgi-index", |_, w, r| r.not_possible(w.at, FCGI)),
    ("fastcgi-params-configmap", |_, w, r| r.not_possible(w.at, FCGI)),
    ("custom-http-errors", |_, w, r| {
        let codes = w.value.split(',').map(str::trim).filter(|code| !code.is_empty());
        if codes.clone().all(|code| code.parse::<u16>().is_ok_and(|code| (400..600).contains(&code))) {
            r.not_possible(w.at, "pages of errors are files: fetch those of the service, and name them in error_pages of the route with intercept_errors = true");
        } else {
            r.wrong(
                w.at,
                "these are no statuses of errors with commas between them: the controller leaves it out",
            );
        }
    }),
    ("disable-proxy-intercept-errors", |_, w, r| {
        if as_truth(w, r) == Some(true) {
            r.ignored(w.at, "the errors of endpoints go on as they are");
        }
    }),
    ("default-backend", |_, w, r| {
        r.not_possible(w.at, "no other service answers where one has no endpoints: write error_pages for 503, or `failover` of the pool");
    }),
    ("enable-access-log", |_, w, r| {
        if as_truth(w, r) == Some(false) {
            r.approximated(
                w.at,
                "the access log has every request, with the name of its route to leave it out by",
            );
        }
    }),
    ("enable-rewrite-log", |_, w, r| {
        if as_truth(w, r) == Some(true) {
            r.ignored(w.at, "`plimsoll explain` tells how a request is rewritten");
        }
    }),
    ("enable-modsecurity", |_, w, r| waf(w, r)),
    ("enable-owasp-core-rules", |_, w, r| waf(w, r)),
    ("enable-owasp-modsecurity-crs", |_, w, r| waf(w, r)),
    ("modsecurity-transaction-id", |_, w, r| {
        r.ignored(w.at, "there is no ModSecurity whose transactions it would name")
    }),
    ("modsecurity-snippet", |_, w, r| r.not_possible(w.at, WAF)),
    ("enable-opentelemetry", |_, w, r| {
        let _yes = as_truth(w, r);
        r.approximated(w.at, "traces are for all requests or for none: [tracing]");
    }),
    ("opentelemetry-operation-name", |_, w, r| {
        r.approximated(w.at, "spans have the names of their routes: [tracing]")
    }),
    ("opentelemetry-trust-incoming-span", |_, w, r| {
        let _yes = as_truth(w, r);
        r.approximated(w.at, "whose traces go on is said for all requests: accept in [tracing]");
    }),
    ("enable-opentracing", |_, w, r| r.ignored(w.at, "it is gone from the controller: [tracing] has traces")),
    ("opentracing-trust-incoming-span", |_, w, r| {
        r.ignored(w.at, "it is gone from the controller: [tracing] has traces")
    }),
    ("enable-influxdb", |_, w, r| r.ignored(w.at, "it is gone from the controller: /metrics has numbers")),
    ("secure-backends", |_, w, r| {
        r.wrong(w.at, "it is gone from the controller, and does nothing: backend-protocol: HTTPS")
    }),
    ("secure-verify-ca-secret", |_, w, r| {
        r.wrong(
            w.at,
            "it is gone from the controller, and does nothing: proxy-ssl-secret and proxy-ssl-verify",
        )
    }),
    ("add-base-url", |_, w, r| r.wrong(w.at, "it is gone from the controller, and does nothing")),
    ("enable-global-rate-limit", |_, w, r| r.wrong(w.at, "it is gone from the controller, and does nothing")),
    ("global-rate-limit", |_, w, r| {
        r.wrong(w.at, "it is gone from the controller, and does nothing: limit-rps")
    }),
    ("global-rate-limit-window", |_, w, r| {
        r.wrong(w.at, "it is gone from the controller, and does nothing: limit-rps")
    }),
    ("global-rate-limit-key", |_, w, r| {
        r.wrong(w.at, "it is gone from the controller, and does nothing: limit-rps")
    }),
];

const FCGI: &str = "FastCGI is not spoken: put a server that speaks HTTP before the application";
const WAF: &str =
    "requests are not inspected: keep ModSecurity in a proxy of its own, or ask a service by forward_auth";

fn waf(word: Word<'_>, report: &mut Report) {
    if as_truth(word, report) == Some(true) {
        report.not_possible(word.at, WAF);
    }
}

/// A name that no table has.
pub(super) fn other(name: &str, word: Word<'_>, _settings: &mut Settings, report: &mut Report) {
    let near = super::TABLES
        .iter()
        .flat_map(|table| table.iter())
        .map(|(own, _)| *own)
        .find(|own| is_near(own, name));
    let meant = near.map(|own| format!(" (is {own} meant?)")).unwrap_or_default();
    report.wrong(word.at, format!("the controller has no such annotation{meant}: it does nothing"));
}

/// Whether two neighbouring letters have changed places, or one is missing, too much or another one.
fn is_near(own: &str, name: &str) -> bool {
    let (a, b) = (own.as_bytes(), name.as_bytes());
    if a == b || a.len().abs_diff(b.len()) > 1 {
        return a == b;
    }
    let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let rest = |text: &'_ [u8], skip: usize| text.get(start + skip..).unwrap_or_default().to_vec();
    let swapped = a.len() == b.len()
        && a.get(start) == b.get(start + 1)
        && a.get(start + 1) == b.get(start)
        && rest(a, 2) == rest(b, 2);
    swapped || rest(a, 1) == rest(b, 1) || rest(a, 1) == rest(b, 0) || rest(a, 0) == rest(b, 1)
}

/// Words of nginx's that let some in and others not, and how others of them begin.
const GUARDS: &[&str] = &["allow", "deny", "internal", "satisfy", "valid_referers"];
const GUARD_STARTS: &[&str] = &[
    "access_by_lua",
    "auth_",
    "limit_conn",
    "limit_except",
    "limit_req",
    "rewrite_by_lua",
    "secure_link",
    "ssl_verify",
];

/// Whether nginx's own language turns anybody away.
fn turns_away(text: &str) -> bool {
    let code = text.lines().map(|line| line.split('#').next().unwrap_or(line));
    let words = code.flat_map(|line| line.split(|c: char| c.is_whitespace() || ";{}".contains(c)));
    let mut last = "";
    words.filter(|word| !word.is_empty()).any(|word| {
        let refused = last == "return" && word.starts_with(['4', '5']);
        last = word;
        refused || GUARDS.contains(&word) || GUARD_STARTS.iter().any(|start| word.starts_with(start))
    })
}

/// What in nginx's own language says who may come; nothing where nothing does.
pub(in super::super) fn guard(text: &str, at: Place) -> Option<Closed> {
    let guards = turns_away(text);
    // What is `return`ed outside of locations goes before what they redirect to.
    guards.then(|| Closed { at, redirects: outside_locations(text).contains("return") })
}

/// A snippet without the blocks of its locations.
fn outside_locations(text: &str) -> String {
    let mut out = String::new();
    let (mut depth, mut inside) = (0_usize, None);
    for word in text.split_inclusive(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';')) {
        if word.trim() == "location" && inside.is_none() {
            inside = Some(depth);
        }
        if inside.is_none() {
            out.push_str(word);
        }
        depth += usize::from(word.ends_with('{'));
        if word.ends_with('}') {
            depth = depth.saturating_sub(1);
            inside = inside.filter(|from| depth > *from);
        }
    }
    out
}

/// Tells of nginx's own language, which is of `whole`. Returns what of it says who may come.
fn snippet(word: Word<'_>, report: &mut Report, whole: &str) -> Option<Closed> {
    let guards = guard(word.value, word.at);
    let closed = if guards.is_some() {
        format!(
            ". It says who may come, so nobody is let in to {whole} (maintenance = true) until that is written"
        )
    } else {
        String::new()
    };
    report.not_possible(
        word.at,
        format!("it is nginx's own language: write what it does as keys of the routes (redirect, response_headers, request_headers, allow, deny){closed}"),
    );
    report.wrong(
        word.at,
        "unless the controller is told otherwise (allow-snippet-annotations and annotations-risk-level) it serves nothing of an Ingress with a snippet",
    );
    guards
}

fn custom_headers(settings: &mut Settings, word: Word<'_>, report: &mut Report) {
    let (space, name) = split_name(word.value, word.namespace);
    let Some(map) = word.cluster.get("ConfigMap", space, name) else {
        return report.not_possible(word.at, format!("the ConfigMap {space}/{name} is not in the files: write its fields as response_headers of the routes"));
    };
    let allowed = allowed_fields(word.cluster);
    if allowed.is_none() {
        report.approximated(word.at, "the controller answers 503 to all unless global-allowed-response-headers of its ConfigMap has these fields: that is not in the files, and here they are set");
    }
    for (key, value, at) in field_map(map) {
        if allowed.as_ref().is_some_and(|names| !names.contains(&key)) {
            report.wrong(at, format!("global-allowed-response-headers of the controller's ConfigMap does not have {key}: the controller answers 503 to all"));
            settings.guards.denied.push(at);
            continue;
        }
        match answer_field(&key, value) {
            Ok((key, value)) => {
                report.translated(at);
                settings.beside.fields.push((key, value, at));
            }
            Err(why) => {
                report.wrong(at, why);
                settings.guards.denied.push(at);
            }
        }
    }
}

/// A field of an answer, as the controller takes it: variables are text.
fn answer_field(name: &str, value: &str) -> Result<(String, String), String> {
    let lower = name.to_ascii_lowercase();
    let fits = crate::model::field::FieldName::new(&lower).is_ok() && !value.is_empty();
    if !fits || value.chars().any(|c| c.is_control() || !c.is_ascii()) {
        return Err("it is no field of an answer: the controller answers 503 to all".to_owned());
    }
    Ok((lower, value.replace('{', "{{").replace('}', "}}")))
}

impl Beside {
    pub(super) fn settle(&self, report: &mut Report) {
        if self.mirror.is_none() {
            let rest = [self.mirror_host, self.mirror_body.map(|(_, at)| at)];
            let places: Vec<Place> = rest.into_iter().flatten().collect();
            super::alone(&places, "there is no mirror-target: no copies are made", report);
            return;
        }
        if let Some((_, at)) = &self.mirror {
            let at = self.mirror_host.unwrap_or(*at);
            report.approximated(at, "copies have the Host of the request; the controller's have mirror-host, or the host of mirror-target");
        }
        if let Some((false, at)) = self.mirror_body {
            report.approximated(
                at,
                "of a request with a body no copy is made; the controller makes one without the body",
            );
        }
    }

    /// Where copies of requests go.
    pub(in super::super) fn mirror(&self, report: &mut Report) -> Option<Mirror> {
        let (target, at) = self.mirror.as_ref()?;
        let body = self.mirror_body.is_none_or(|(yes, _)| yes);
        let (scheme, rest) = target.split_once("://")?;
        let (authority, path) = rest.find(['/', '$']).map_or((rest, ""), |at| rest.split_at(at));
        let tls = scheme == "https";
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (authority, Some(if tls { 443 } else { 80 })),
        };
        let good = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        let Some(port) = port.filter(|_| good && (tls || scheme == "http")) else {
            report.not_possible(
                *at,
                "copies go to a host and a port: write `mirror` of the route and a pool for it",
            );
            return None;
        };
        if path == "$request_uri" || template(path).is_ok_and(|path| path == "{uri}") {
            report.approximated(
                *at,
                "a copy is the request as it goes to the endpoint, rewritten where that is",
            );
        } else {
            report.not_possible(*at, "copies ask for what the request asks for, and not for another path");
        }
        if tls {
            report.approximated(*at, "the certificate of who gets the copies is verified, which the controller does not do: ca in tls of its pool is an authority of your own");
        }
        Some(Mirror { tls, host: host.to_owned(), port, body, at: *at })
    }

    /// `response_headers.set`.
    pub(in super::super) fn fields(&self) -> Vec<(String, Value)> {
        self.fields.iter().map(|(name, value, _)| (name.clone(), Value::text(value))).collect()
    }

    /// `mirror` of a route.
    pub(in super::super) fn write_mirror(mirror: &Mirror, pool: &str, table: &mut Table) {
        let mut pairs = vec![("pool", Value::text(pool))];
        if !mirror.body {
            pairs.push(("max_body", Value::text("0B")));
        }
        table.set("mirror", Value::inline(pairs), Some(mirror.at));
    }
}
