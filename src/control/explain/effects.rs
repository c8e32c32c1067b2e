//! What a route makes of the request that takes it, and of its answer, as far as that is known before.

use std::net::IpAddr;

use super::request::Imagined;
use crate::config::gate::Gate;
use crate::config::route::{Action, Route};
use crate::model::field::{FieldName, FieldValue};
use crate::model::request::RequestView as _;
use crate::policy::cors::Grant;
use crate::route::Pattern;
use crate::route::edits::Edits;
use crate::route::path::normalize;
use crate::route::template::{Escape, Facts, Template};

/// Everything that the route does beside its action, a line each.
pub(super) fn explain(listener: &str, route: &Route, request: &Imagined) -> Vec<String> {
    let mut lines = Vec::new();
    let pool = match &route.action {
        Action::Pool(pool) => Some(pool.as_str()),
        _ => None,
    };
    let facts = Facts {
        client_port: None,
        peer: request.source(),
        request_id: b"",
        listener,
        route: route.rule.name.as_str(),
        tls: None,
        pool,
        endpoint: None,
        status: None,
        imagined: true,
    };
    explain_gate(&route.gate, request, &mut lines);
    if let Some(rewrite) = &route.rewrite {
        lines.push(match rewrite.apply(request, &facts) {
            Err(error) => format!("refused with 400: {error}"),
            Ok(rewritten) => {
                let target = rewritten.target.unwrap_or_else(|| request.target().to_vec());
                let host = rewritten.authority.unwrap_or_else(|| request.authority().to_vec());
                format!("goes on as {} of host {}", text(&target), text(&host))
            }
        });
    }
    explain_edits("request", &route.request_headers, (request, &facts), &mut lines);
    match &route.action {
        Action::Redirect { to, regex, .. } => {
            let to = render(to, (request, &facts), regex.as_ref(), Escape::Url);
            lines.push(format!("location: {to}"));
        }
        Action::Respond(respond) => {
            let facts = Facts { status: Some(respond.status), ..facts };
            let body = render(&respond.body, (request, &facts), respond.regex.as_ref(), Escape::Plain);
            lines.push(format!("body ({}): {:?}", respond.content_type.as_str(), start(&body)));
        }
        Action::Pool(_) | Action::Split { .. } | Action::Health(_) => {}
    }
    explain_edits("answer", &route.response_headers, (request, &facts), &mut lines);
    lines
}

/// What a gate answers a request with that does not get past it.
pub(super) fn stopped(gate: &Gate, request: &Imagined) -> Option<String> {
    let source: IpAddr = request.source().to_canonical();
    if let Some(network) = gate.deny.iter().find(|network| network.contains(&source)) {
        return Some(format!("refused with 403: deny has {network}"));
    }
    if !gate.allow.is_empty() && !gate.allow.iter().any(|network| network.contains(&source)) {
        return Some(format!("refused with 403: allow does not have {source}"));
    }
    let maintenance = gate.maintenance.as_ref()?;
    let stands = !maintenance.allow.iter().any(|network| network.contains(&source));
    stands.then(|| "out of service: answered with 503".to_owned())
}

fn explain_gate(gate: &Gate, request: &Imagined, lines: &mut Vec<String>) {
    let source: IpAddr = request.source().to_canonical();
    lines.extend(stopped(gate, request));
    let excused = gate.maintenance.iter().flat_map(|maintenance| &maintenance.allow);
    if let Some(network) = excused.into_iter().find(|network| network.contains(&source)) {
        lines.push(format!("out of service, but not for {network}"));
    }
    if let Some(cors) = &gate.cors {
        lines.push(match (cors.grant(request.field("origin")), request.field("origin")) {
            (Grant::Any, _) => "scripts of every origin may read the answer".to_owned(),
            (Grant::Origin(origin), _) => format!("scripts of {} may read the answer", text(origin)),
            (Grant::Nobody, Some(origin)) => format!("scripts of {} may not read the answer", text(origin)),
            (Grant::Nobody, None) => "it names no origin whose scripts might read the answer".to_owned(),
        });
    }
    if let Some(max) = gate.max_body {
        lines.push(format!("a body of more than {max} is refused with 413"));
    }
    if gate.intercept_errors {
        lines.push("errors of endpoints give way to pages".to_owned());
    }
}

fn explain_edits(
    what: &str,
    edits: &Edits,
    (request, facts): (&Imagined, &Facts<'_>),
    lines: &mut Vec<String>,
) {
    let Edits { fixed, rename, set, add } = edits;
    lines.extend(fixed.remove.iter().map(|name| format!("{what}: removes {}", name.as_str())));
    lines.extend(
        rename.iter().map(|(from, to)| format!("{what}: renames {} to {}", from.as_str(), to.as_str())),
    );
    let value = |value: &Template| {
        value.value(request, facts).map_or_else(|| "nothing, so it is left out".to_owned(), |v| text(&v))
    };
    let mut put = |verb: &str, fixed: &[(FieldName, FieldValue)], templates: &[(FieldName, Template)]| {
        lines.extend(fixed.iter().map(|(n, v)| format!("{what}: {verb} {}: {}", n.as_str(), v.as_str())));
        lines.extend(templates.iter().map(|(n, v)| format!("{what}: {verb} {}: {}", n.as_str(), value(v))));
    };
    put("sets", &fixed.set, set);
    put("adds", &fixed.add, add);
}

fn render(
    template: &Template,
    (request, facts): (&Imagined, &Facts<'_>),
    regex: Option<&Pattern>,
    escape: Escape,
) -> String {
    let path = normalize(request.path());
    let groups = regex.and_then(|regex| regex.captures(&path));
    let mut out = Vec::new();
    template.render(request, facts, groups.as_ref(), escape, &mut out);
    text(&out)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What of a long text fits a line.
fn start(text: &str) -> String {
    const SHOWN: usize = 120;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;

    use super::*;

    fn check(route: &str, url: &str, headers: &[&str]) -> Vec<String> {
        let text = format!(
            "[listener.web]\nbind = [\"127.0.0.1:80\"]\n[[route]]\nname = \"all\"\n{route}\n\
             [pool.api]\nendpoints = [\"10.0.0.1:80\"]\n"
        );
        let config = crate::config::load_text(&text, Path::new("a.toml"), &|_| None);
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let headers: Vec<String> = headers.iter().map(|&header| header.to_owned()).collect();
        let source = Ipv4Addr::new(192, 0, 2, 1).into();
        let request = Imagined::new("GET", url, &headers, source).expect("a request");
        explain("web", &config.routes[0], &request)
    }

    #[test]
    fn what_becomes_of_a_request_is_told() {
        let route = "pool = \"api\"\npath_regex = \"^/u/([0-9]+)$\"\nrewrite = { path = \"/users/{1}\", host = \"b\" }\n\
                     deny = [\"192.0.2.0/24\"]\nmax_body = \"1MiB\"\ncors = { origins = [\"https://x\"] }\n\
                     [route.request_headers]\nrename = { x-a = \"x-b\" }\nset = { x-who = \"{client} {request_id}\" }\n\
                     [route.response_headers]\nremove = [\"server\"]\nadd = { x-by = \"{pool} {endpoint} {status}\" }";
        assert_eq!(
            check(route, "http://a/u/42?q", &["Origin: https://x"]),
            [
                "refused with 403: deny has 192.0.2.0/24",
                "scripts of https://x may read the answer",
                "a body of more than 1MiB is refused with 413",
                "goes on as /users/42?q of host b",
                "request: renames x-a to x-b",
                "request: sets x-who: 192.0.2.1 {request_id}",
                "answer: removes server",
                "answer: adds x-by: api {endpoint} {status}",
            ]
        );
    }

    #[test]
    fn what_a_route_answers_is_told() {
        let redirect = "path_regex = \"^/go/(.*)$\"\nredirect = { to = \"https://{host}/{1}\" }";
        assert_eq!(check(redirect, "http://a/go/x", &[]), ["location: https://a/x"]);
        let respond =
            "maintenance = { allow = [\"10.0.0.0/8\"] }\nrespond = { status = 200, body = \"{path}\" }";
        let want = ["out of service: answered with 503", "body (text/plain; charset=utf-8): \"/x\""];
        assert_eq!(check(respond, "http://a/x", &[]), want);
    }
}
