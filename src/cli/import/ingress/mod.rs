//! From Kubernetes: Ingresses with the annotations of ingress-nginx, and Gateway API, with a verdict on every line.
//!
//! The map, in the order of the way: `object` finds the objects in the files, `field` knows the fields of each kind,
//! `service` and `secret` look up what others name, `value` and `variable` read texts. `annotation` has what annotations
//! say, `controller` the ConfigMap of the controller; `spec` reads Ingresses, `host` puts together what they say of each
//! host and `location` makes routes of it. `gateway` has Gateway API. `draft`, `pool` and `listener` write what it all
//! comes to.

mod action;
mod annotation;
mod controller;
mod default;
mod draft;
mod field;
mod gateway;
mod host;

#[cfg(test)]
mod kept;
mod kind;
mod leftover;
mod listener;
mod location;
mod object;
mod place;
mod pool;
mod secret;
mod service;
mod spec;
mod value;
mod variable;

use std::collections::HashSet;

use super::Import;
use super::document::{Document, Value};
use super::lift::lift;
use super::mend::settle;
use super::report::{Remark, Report, Verdict};
use super::surroundings::Surroundings;
use super::tree::{self, Lines, Node, read_yaml};
use controller::Controller;
use draft::Names;
use host::Host;
use location::Maker;
use object::Cluster;
use place::Places;
use pool::Pools;

/// Translates the objects of all files together, as one cluster would have them.
#[must_use]
pub fn import(files: &[(&str, &str)], _around: Surroundings<'_>) -> Import {
    let mut report = Report::default();
    let mut read: Vec<(Lines, Vec<tree::Document>)> = Vec::new();
    for (name, text) in files {
        let file = report.file(name, text);
        let lines = Lines::expect(file, text, &mut report);
        let documents = read_yaml(file, text);
        for document in documents.iter().filter(|document| document.unreadable.is_some()) {
            secret::hide_lines(text, document, &mut report);
        }
        read.push((lines, documents));
    }
    let mut cluster = Cluster::default();
    for (_, documents) in &read {
        cluster.read(documents, &mut report);
    }
    let mut document = Document::default();
    translate(&cluster, &mut document, &mut report);
    for object in &cluster.objects {
        match object.kind {
            "Secret" => secret::tell_rest(object, &mut report),
            "ConfigMap" => controller::tell_rest(object, &mut report),
            _ => {}
        }
    }
    for (lines, documents) in &read {
        documents.iter().for_each(|document| follow(&document.root, &mut report));
        lines.settle(documents, &mut report);
    }
    report.finish(|_| Remark {
        verdict: Verdict::NotPossible,
        text: "the importer does not know what to do with it: please report it".to_owned(),
    });
    lift(&mut document);
    settle(&mut document, &mut report);
    document.introduce("ingress", &report);
    let text = document.print(&report);
    Import { text, report }
}

fn translate(cluster: &Cluster<'_>, document: &mut Document, report: &mut Report) {
    for object in &cluster.objects {
        if !field::tell(object, report) {
            kind::tell(object, report);
        }
    }
    let controller = controller::read(cluster, report);
    controller.settle(report);
    let ingresses = spec::read(cluster, controller.as_one, report);
    let hosts = host::hosts(&ingresses, &controller, report);
    let mut pools = Pools::new(cluster);
    let mut names = Names::default();
    let both = gateway::is_there(cluster);
    if !hosts.is_empty() {
        serve(cluster, &controller, &ingresses, &hosts, both, &mut pools, &mut names, document, report);
    }
    listener::write_relays(&controller, &mut pools, document, report);
    gateway::write(cluster, &mut pools, &mut names, document, report);
    for (key, value, at) in controller.process() {
        document.single("process").set(key, value, Some(at));
    }
    document.pools.append(&mut pools.blocks);
    leave_out_unused(document);
    general(!hosts.is_empty(), both, &controller, report);
}

#[expect(clippy::too_many_arguments, reason = "everything that routes are made with")]
fn serve<'c, 'a>(
    cluster: &Cluster<'a>,
    controller: &Controller,
    ingresses: &[spec::Ingress<'c, 'a>],
    hosts: &[Host],
    both: bool,
    pools: &mut Pools<'c, 'a>,
    names: &mut Names,
    document: &mut Document,
    report: &mut Report,
) {
    let tls = hosts.iter().any(|host| host.certificate.is_some() || host.forced);
    let doors = listener::doors(tls);
    listener::write(hosts, &doors, controller, cluster, document, report);
    let places = Places::new(hosts, ingresses, pools);
    let mut maker = Maker {
        ingresses,
        controller,
        pools,
        places,
        doors: (0, tls.then_some(1)),
        authority: listener::authority(hosts),
        out: Vec::new(),
        report,
    };
    maker.blocked();
    hosts.iter().filter(|host| host.passthrough.is_none()).for_each(|host| maker.host(host));
    let passed: Vec<_> = hosts.iter().filter_map(|host| maker.passthrough(host)).collect();
    let drafts = draft::together(std::mem::take(&mut maker.out));
    document.routes.extend(draft::write(drafts, &doors, both, names));
    listener::write_passthrough(hosts, &passed, &doors, document);
}

/// A text that stands below its name shares the verdict of that.
fn follow(node: &Node, report: &mut Report) {
    for (key, value) in node.pairs() {
        let said = report.remarks(key.at).iter().map(|remark| remark.verdict).max();
        if let (Some(verdict), true) = (said, value.text().is_some() && report.remarks(value.at).is_empty()) {
            let plain = verdict == Verdict::Translated;
            report.note(
                value.at,
                verdict,
                if plain { String::new() } else { format!("as line {}", key.at.line) },
            );
        }
        follow(value, report);
    }
    node.items().iter().for_each(|item| follow(item, report));
}

/// A pool that no route or listener leads to is of a route that is never asked.
fn leave_out_unused(document: &mut Document) {
    let mut named: HashSet<String> = HashSet::new();
    for block in document.routes.iter().chain(&document.listeners) {
        block.table.entries.iter().for_each(|entry| texts(&entry.value, &mut named));
    }
    document.pools.retain(|block| named.contains(&block.name));
}

fn texts(value: &Value, out: &mut HashSet<String>) {
    match value {
        Value::Text(text) => drop(out.insert(text.clone())),
        Value::List(items) => items.iter().for_each(|item| texts(item, out)),
        Value::Lines(items) => items.iter().for_each(|(item, _)| texts(item, out)),
        Value::Inline(pairs) => pairs.iter().for_each(|(_, item)| texts(item, out)),
        Value::Integer(_) | Value::Real(_) | Value::Bool(_) => {}
    }
}

/// Differences of the two products.
fn general(ingresses: bool, gateways: bool, controller: &Controller, report: &mut Report) {
    if !ingresses && !gateways {
        return;
    }
    report.general("an endpoint that fails live traffic 5 times in a row is out for 10 s ([pool.NAME.outlier]); the controller goes by what Kubernetes says is ready.");
    report.general("an endpoint gets at most 1024 requests at once, more wait ([pool.NAME.limits]); the controller has no ceiling.");
    report.general("paths are compared in normal form: //admin and /%61dmin are /admin. What is ambiguous in HTTP's framing is refused.");
    if !ingresses {
        return;
    }
    report.general("what the cluster says anew (pods, certificates, Ingresses) does not come here by itself: names are asked of DNS again and again, files are watched with `watch` in [process].");
    report.general("endpoints are told X-Forwarded-For, -Proto and -Host, X-Real-IP and X-Request-Id; the controller tells them X-Forwarded-Port, -Scheme, X-Scheme and X-Original-Forwarded-For too: request_headers where an application reads them.");
    report.general("hosts without a certificate are served at port 80 alone; the controller serves them at 443 too, with a certificate of its own that no browser takes.");
    report.general("what no rule takes gets 404, as from the controller, and /healthz of no host is nobody's: [health] answers balancers in front.");
    report.general("a redirect to HTTPS keeps a slash at the end of the path; the controller cuts it off unless preserve-trailing-slash is true.");
    report.general("a request is tried again with a body of up to 64KiB and within the retry budget of 20 % ([pool.NAME.retry]); nginx keeps whole bodies in files. Each try goes to another endpoint.");
    report.general("timeouts.response_header is the time to the head of an answer, and timeouts.idle between two pieces of it: proxy-read-timeout is both.");
    report.general("limits count for this node, as they do for each replica of the controller.");
    if controller.forwarded.is_none() {
        report.general("nobody is believed who says whom a request is from, as with the controller: behind another balancer write trusted_proxies.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> Import {
        let around = Surroundings { environment: &|_| None, read: &|_| None, list: &|_| None };
        import(&[("objects.yaml", text)], around)
    }

    /// An Ingress with annotations, and what else stands in the file.
    fn ingress(annotations: &str, rest: &str) -> Import {
        imported(&format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: a\n  annotations: {{{annotations}}}\nspec:\n  \
             ingressClassName: nginx\n  rules:\n    - host: a.example\n      http: {{paths: [{{path: /, pathType: Prefix, backend: \
             {{service: {{name: s, port: {{number: 80}}}}}}}}]}}\n{rest}"
        ))
    }

    #[test]
    fn who_cannot_be_told_apart_is_not_let_in() {
        for annotation in [
            "auth-type: basic",
            "auth-type: digest",
            "auth-url: ftp://x",
            "auth-url: http://$host/",
            "whitelist-source-range: nowhere",
            "denylist-source-range: nowhere",
            "auth-tls-secret: other/x",
            "configuration-snippet: deny all;",
        ] {
            let quoted = annotation.replacen(": ", ": \"", 1);
            let import = ingress(&format!("nginx.ingress.kubernetes.io/{quoted}\""), "");
            let closed = [503, 403].map(|status| format!("respond = {{ status = {status} }}"));
            let shut = closed.iter().any(|closed| import.text.contains(closed));
            let open = import.text.contains("pool = ") && !import.text.contains("maintenance = true");
            assert!(!open && shut != import.text.contains("pool = "), "{annotation}\n{}", import.text);
        }
    }

    #[test]
    fn no_secret_is_told() {
        let import = ingress(
            "nginx.ingress.kubernetes.io/auth-type: basic, nginx.ingress.kubernetes.io/auth-secret: users",
            "---\napiVersion: v1\nkind: Secret\nmetadata: {name: users, annotations: {last: 'HIDDEN'}}\nstringData:\n  auth: |\n    \
             kim:$apr1$HIDDEN$x\n    HIDDEN\n",
        );
        assert!(import.text.contains("users_file"), "{}", import.text);
        assert!(
            !import.text.contains("HIDDEN") && !import.report.to_string().contains("HIDDEN"),
            "{}",
            import.report
        );
    }
}
