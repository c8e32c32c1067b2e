//! Filters of a rule: what is changed on the way, and what takes the place of a backend.

use super::super::super::document::{Table, Value};
use super::super::super::field::{FRAMES, is_editable};
use super::super::super::region::PathTest;
use super::super::super::report::{Place, Report};
use super::super::super::tree::Node;
use super::super::draft::{redirect, respond};
use super::super::value::duration;
use super::entry::{Entry, Protocol};
use super::matching::{Match, first_line};
use crate::model::field::{FieldName, is_framing};

/// The filters of a rule, sorted out.
#[derive(Debug, Default)]
pub(super) struct Filters<'n> {
    redirect: Option<&'n Node>,
    rewrite: Option<&'n Node>,
    request: Option<&'n Node>,
    answer: Option<&'n Node>,
    /// Copies: who gets them.
    pub(super) mirror: Option<&'n Node>,
    cors: Option<&'n Node>,
    /// A filter that cannot be: nobody is let in.
    closed: Option<Place>,
}

impl<'n> Filters<'n> {
    /// Reads the filters of a rule.
    pub(super) fn read(list: &'n [Node], report: &mut Report) -> Self {
        let mut out = Self::default();
        for node in list {
            let at = node.get("type").map_or(node.at, |kind| kind.at);
            let kind = node.get("type").and_then(Node::text).unwrap_or("");
            let slot = match kind {
                "RequestHeaderModifier" => (&mut out.request, "requestHeaderModifier"),
                "ResponseHeaderModifier" => (&mut out.answer, "responseHeaderModifier"),
                "RequestRedirect" => (&mut out.redirect, "requestRedirect"),
                "URLRewrite" => (&mut out.rewrite, "urlRewrite"),
                "RequestMirror" => (&mut out.mirror, "requestMirror"),
                "CORS" => (&mut out.cors, "cors"),
                "ExtensionRef" | "ExternalAuth" => {
                    report.not_possible(at, "the filter is an implementation's own: write what it does as keys of the route. Until then it answers 500, as Gateway API has it");
                    out.closed = Some(at);
                    continue;
                }
                _ => {
                    report.wrong(at, "there is no such filter: it answers 500");
                    out.closed = Some(at);
                    continue;
                }
            };
            let Some(own) = node.get(slot.1) else {
                report.wrong(
                    at,
                    format!("the filter has no `{}`: Kubernetes refuses it. It answers 500", slot.1),
                );
                out.closed = Some(at);
                continue;
            };
            match (&slot.0, kind) {
                (Some(_), "RequestMirror") => {
                    report.not_possible(at, "a route has one mirror: the first one")
                }
                (Some(_), _) => {
                    report.wrong(at, "the filter is there twice: Kubernetes refuses it. The first one counts")
                }
                (None, _) => *slot.0 = Some(own),
            }
        }
        if let (Some(_), Some(rewrite)) = (out.redirect, out.rewrite) {
            report.wrong(
                first_line(rewrite),
                "a redirect and a rewrite cannot be of one rule: Kubernetes refuses it. It is left out",
            );
            out.rewrite = None;
        }
        out
    }

    /// What takes the place of a backend, and the condition on the path that it needs.
    pub(super) fn answer(
        &self,
        one: &Match,
        entry: &Entry<'_, '_>,
        report: &mut Report,
    ) -> Option<(Table, Option<PathTest>)> {
        if let Some(at) = self.closed {
            return Some((respond(500, Some(at)), one.region.path.clone()));
        }
        let node = self.redirect?;
        let at = first_line(node);
        let text = |name: &str| node.get(name).and_then(Node::text);
        let status = node.get("statusCode").and_then(Node::as_i64).unwrap_or(302);
        if ![301, 302, 303, 307, 308].contains(&status) {
            report.wrong(at, "the status of a redirect is 301, 302, 303, 307 or 308: Kubernetes refuses it. It answers 500");
            return Some((respond(500, Some(at)), one.region.path.clone()));
        }
        let own = if entry.protocol == Protocol::Https { "https" } else { "http" };
        let scheme = text("scheme");
        if scheme.is_some_and(|scheme| scheme != "http" && scheme != "https") {
            report.wrong(at, "the scheme is http or https: Kubernetes refuses it. It answers 500");
            return Some((respond(500, Some(at)), one.region.path.clone()));
        }
        let usual =
            |scheme: &str, port: i64| scheme == "http" && port == 80 || scheme == "https" && port == 443;
        let port = match node.get("port").map(Node::as_i64) {
            Some(Some(port)) if (1..=65_535).contains(&port) => Some(port),
            Some(_) => {
                report.wrong(at, "a port is a number from 1 to 65535: Kubernetes refuses it. It is left out");
                None
            }
            // With a scheme it is that one's own port, else the listener's.
            None if scheme.is_some() => None,
            None => Some(i64::from(entry.port)),
        };
        let port = port.filter(|port| !usual(scheme.unwrap_or(own), *port));
        let host = text("hostname").map_or_else(|| "{hostname}".to_owned(), literal);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let (path, test) = target(node, one, report);
        let path = path.map_or_else(|| "{uri}".to_owned(), |path| format!("{path}{{?query}}"));
        let to = format!("{}://{host}{port}{path}", scheme.unwrap_or(own));
        Some((redirect(&to, status, Some(at)), test))
    }

    /// Whether requests are answered without a backend.
    pub(super) const fn redirects(&self) -> bool {
        self.redirect.is_some()
    }

    /// Changes of heads and of what is asked for.
    pub(super) fn write(&self, one: &Match, table: &mut Table, report: &mut Report) {
        for (key, node) in [("request_headers", self.request), ("response_headers", self.answer)] {
            if let Some(node) = node
                && let Some(value) = fields(node, key == "request_headers", report)
            {
                table.set(key, value, Some(first_line(node)));
            }
        }
        if let Some(node) = self.cors {
            cors(node, table, report);
        }
        let Some(node) = self.rewrite else { return };
        let mut pairs = Vec::new();
        let at = first_line(node);
        match node.below(&["path", "type"]).and_then(Node::text) {
            Some("ReplacePrefixMatch") => {
                let to = node.below(&["path", "replacePrefixMatch"]).and_then(Node::text).unwrap_or("/");
                match (&one.prefix, literal(to)) {
                    (None, _) => report.wrong(at, "only the path of a PathPrefix has a prefix that could be replaced: Kubernetes refuses it. The path is left as it is"),
                    (Some(prefix), to) if prefix.is_empty() => {
                        let to = to.trim_end_matches('/').to_owned();
                        pairs.push(("path_regex", Value::text("^/(.*)$")));
                        pairs.push(("path", Value::text(format!("{to}/{{1}}"))));
                    }
                    (Some(_), to) => {
                        let to = if to.is_empty() { "/".to_owned() } else { to };
                        pairs.push(("path_prefix", Value::text(to)));
                    }
                }
            }
            Some("ReplaceFullPath") => {
                let to = node.below(&["path", "replaceFullPath"]).and_then(Node::text).unwrap_or("/");
                pairs.push(("path", Value::text(literal(to))));
            }
            Some(_) => report.wrong(at, "a path is replaced by ReplaceFullPath or ReplacePrefixMatch: Kubernetes refuses it. It is left as it is"),
            None => {}
        }
        if let Some(host) = node.get("hostname").and_then(Node::text) {
            pairs.push(("host", Value::text(literal(host))));
        }
        if !pairs.is_empty() {
            table.set("rewrite", Value::inline(pairs), Some(at));
        }
    }

    /// The share of requests that are copied, in percent.
    pub(super) fn share(node: &Node, report: &mut Report) -> i64 {
        let at = first_line(node);
        let number = |name: &str| node.below(&["fraction", name]).and_then(Node::as_i64);
        if let Some(percent) = node.get("percent").and_then(Node::as_i64) {
            return percent.clamp(0, 100);
        }
        let Some(numerator) = number("numerator") else { return 100 };
        let denominator = number("denominator").unwrap_or(100).max(1);
        let share = numerator.saturating_mul(100).checked_div(denominator).unwrap_or(100);
        if share.saturating_mul(denominator) != numerator.saturating_mul(100) {
            report.approximated(at, "a share is a whole number of percent: it is rounded up");
            return (share + 1).clamp(0, 100);
        }
        share.clamp(0, 100)
    }
}

/// Text in which nothing is a variable.
pub(super) fn literal(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// The path of a redirect, and the condition that finds what is left of the old one.
fn target(node: &Node, one: &Match, report: &mut Report) -> (Option<String>, Option<PathTest>) {
    let same = one.region.path.clone();
    let at = first_line(node);
    match node.below(&["path", "type"]).and_then(Node::text) {
        Some("ReplaceFullPath") => {
            let to = node.below(&["path", "replaceFullPath"]).and_then(Node::text).unwrap_or("/");
            (Some(literal(to)), same)
        }
        Some("ReplacePrefixMatch") => {
            let to = node.below(&["path", "replacePrefixMatch"]).and_then(Node::text).unwrap_or("/");
            let Some(prefix) = &one.prefix else {
                report.wrong(at, "only the path of a PathPrefix has a prefix that could be replaced: Kubernetes refuses it. The path is left as it is");
                return (None, same);
            };
            let to = literal(to.trim_end_matches('/'));
            let start = super::super::super::pattern::escape(prefix);
            let (regex, to) = if to.is_empty() || prefix.is_empty() {
                (format!("^{start}(?:/(.*))?$"), format!("{to}/{{1}}"))
            } else {
                (format!("^{start}(/.*)?$"), format!("{to}{{1}}"))
            };
            (Some(to), Some(PathTest::Regex(regex)))
        }
        Some(_) => {
            report.wrong(at, "a path is replaced by ReplaceFullPath or ReplacePrefixMatch: Kubernetes refuses it. It is left as it is");
            (None, same)
        }
        None => (None, same),
    }
}

fn fields(node: &Node, request: bool, report: &mut Report) -> Option<Value> {
    let mut all = Vec::new();
    let mut remove: Vec<String> = Vec::new();
    for one in node.get("remove").map_or(&[][..], Node::items) {
        let name = one.text().unwrap_or("").to_ascii_lowercase();
        if is_editable(&name) {
            remove.push(name);
        } else {
            report.not_possible(
                one.at,
                if is_framing(&name) { FRAMES } else { "no field of this name can be taken away" },
            );
        }
    }
    if !remove.is_empty() {
        all.push(("remove", Value::texts(remove)));
    }
    for key in ["set", "add"] {
        let mut pairs: Vec<(String, Value)> = Vec::new();
        for pair in node.get(key).map_or(&[][..], Node::items) {
            let at = first_line(pair);
            let name = pair.get("name").and_then(Node::text).unwrap_or("").to_ascii_lowercase();
            let value = pair.get("value").and_then(Node::text).unwrap_or("");
            let valid = FieldName::new(&name).is_ok();
            if is_framing(&name) {
                report.not_possible(at, FRAMES);
            } else if !valid || value.chars().any(|c| c.is_control() || !c.is_ascii()) {
                report.wrong(at, "it is no field that can be set: it is left out");
            } else if name == "host" && request {
                report.not_possible(at, "the Host is set by rewrite.host of the route");
            } else if pairs.iter().any(|(known, _)| *known == name) {
                report.wrong(at, "the name is there already, and the first one counts");
            } else {
                pairs.push((name, Value::text(literal(value))));
            }
        }
        if !pairs.is_empty() {
            all.push((key, Value::Inline(pairs)));
        }
    }
    (!all.is_empty()).then(|| Value::inline(all))
}

fn cors(node: &Node, table: &mut Table, report: &mut Report) {
    let at = first_line(node);
    let list = |name: &str| {
        node.get(name)
            .map_or(&[][..], Node::items)
            .iter()
            .filter_map(Node::text)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let origins = list("allowOrigins");
    if origins.is_empty() {
        return report
            .ignored(at, "without allowOrigins no other origin may do anything, as without the filter");
    }
    let any = origins.iter().any(|origin| origin == "*");
    let credentials = node.get("allowCredentials").and_then(Node::as_bool) == Some(true);
    let mut set = |key: &str, value: Value| table.set(&format!("cors.{key}"), value, Some(at));
    set("origins", if any { Value::texts(["*"]) } else { Value::texts(origins) });
    let methods = list("allowMethods");
    if methods.iter().any(|method| method == "*") {
        report.approximated(at, "any method is those that there are");
        set("methods", Value::texts(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]));
    } else if !methods.is_empty() {
        set("methods", Value::texts(methods));
    }
    for (key, name) in [("headers", "allowHeaders"), ("expose", "exposeHeaders")] {
        let names = list(name);
        if !names.is_empty() {
            set(key, Value::texts(names.iter().map(|name| name.to_ascii_lowercase())));
        }
    }
    if credentials && any {
        report.approximated(at, "every origin may, and credentials come along: every site could act as your users, so here they are left out");
    } else if credentials {
        set("credentials", Value::Bool(true));
    }
    let age = node.get("maxAge").and_then(Node::as_i64).and_then(|age| u64::try_from(age).ok()).unwrap_or(5);
    if age > 0 {
        set("max_age", duration(std::time::Duration::from_secs(age)));
    }
}
