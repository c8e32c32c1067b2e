//! What of a static configuration is neither an entry point nor about servers: logs, metrics, providers.

use super::super::document::{Document, Value};
use super::super::report::{Place, Report, Verdict};
use super::super::tree::Node;
use super::fields::Fields;
use super::said::whole;
use super::source::Parts;

use Verdict::{Approximated, Ignored, NotPossible, Translated};

/// What is said of an option, and of all below it where its path ends with a dot.
const SAID: &[(&str, Verdict, &str)] = &[
    ("global.checknewversion", Ignored, "nobody is asked for news"),
    ("global.sendanonymoususage", Ignored, "nobody is told"),
    (
        "global.notappendxforwardedfor",
        NotPossible,
        "endpoints get X-Forwarded-For with the client; forwarded = \"off\" in the listener sends no such field",
    ),
    ("api", Translated, ""),
    (
        "api.insecure",
        Approximated,
        "the admin API is at [admin] bind, 127.0.0.1:9900: no listener for everybody is made of it",
    ),
    (
        "api.dashboard",
        Approximated,
        "the admin API tells the state, `plimsoll status` shows it: there are no pages",
    ),
    ("api.debug", Ignored, "it is about Traefik itself"),
    ("api.basepath", Ignored, "it is about Traefik's pages"),
    ("api.disabledashboardad", Ignored, "it is about Traefik's pages"),
    ("api.dashboardname", Ignored, "it is about Traefik's pages"),
    ("metrics.prometheus", Approximated, "metrics are at /metrics of [admin] bind, with names of their own"),
    (
        "metrics.prometheus.",
        Approximated,
        "metrics are at /metrics of [admin] bind, with labels and buckets of their own",
    ),
    (
        "metrics.datadog.",
        NotPossible,
        "metrics are pulled from /metrics of [admin] bind: a collector there can send them on",
    ),
    (
        "metrics.statsd.",
        NotPossible,
        "metrics are pulled from /metrics of [admin] bind: a collector there can send them on",
    ),
    (
        "metrics.influxdb2.",
        NotPossible,
        "metrics are pulled from /metrics of [admin] bind: a collector there can send them on",
    ),
    (
        "metrics.otlp.",
        NotPossible,
        "metrics are pulled from /metrics of [admin] bind: a collector there can send them on",
    ),
    ("metrics.addinternals", Ignored, "there are no routers of the proxy itself"),
    ("ping", Translated, "GET /ping gets OK"),
    ("ping.entrypoint", Translated, ""),
    ("ping.manualrouting", Translated, ""),
    (
        "ping.terminatingstatuscode",
        Approximated,
        "while the process is drained /readyz of [health] says 503; this answer stays as it is",
    ),
    (
        "hostresolver.",
        NotPossible,
        "hosts are compared as they come: name what a CNAME leads to in the routes",
    ),
    (
        "certificatesresolvers.",
        NotPossible,
        "certificates are not asked for here: have an ACME client (lego, certbot) keep the files of the listener's tls.certificates, which are read again when they change (process.watch)",
    ),
    (
        "experimental.plugins.",
        NotPossible,
        "nothing of others runs inside the proxy: forward_auth of a route asks a service",
    ),
    (
        "experimental.localplugins.",
        NotPossible,
        "nothing of others runs inside the proxy: forward_auth of a route asks a service",
    ),
    ("experimental.", Ignored, "it switches something of Traefik's on"),
    ("core.defaultrulesyntax", Translated, ""),
    ("core.stricttlsoptions", Ignored, "TLS options are the listener's, which has one set of them"),
    ("spiffe.", NotPossible, "there is no SPIFFE: write cert, key and ca of the pool's tls"),
    ("ocsp.", NotPossible, "a certificate's OCSP answer is a file beside it; nobody is asked for one"),
    (
        "providers.providersthrottleduration",
        Ignored,
        "a reload is asked for, or follows a change of a file (process.watch)",
    ),
    ("providers.precedence.", Ignored, "there is one configuration"),
    ("providers.file", Translated, ""),
    ("providers.file.filename", Translated, "give this file to the import too"),
    ("providers.file.directory", Translated, "give the files in it to the import too"),
    (
        "providers.file.watch",
        Approximated,
        "process.watch = true reloads when a file changes; else `plimsoll reload` does",
    ),
    ("providers.file.debugloggeneratedtemplate", Ignored, "it is about Traefik's log"),
    ("providers.docker.", NotPossible, OTHERS),
    ("providers.swarm.", NotPossible, OTHERS),
    ("providers.kubernetesingress.", NotPossible, CLUSTER),
    ("providers.kubernetesingressnginx.", NotPossible, CLUSTER),
    ("providers.kubernetescrd.", NotPossible, OTHERS),
    ("providers.kubernetesgateway.", NotPossible, CLUSTER),
    ("providers.knative.", NotPossible, OTHERS),
    ("providers.rest.", NotPossible, OTHERS),
    ("providers.consulcatalog.", NotPossible, OTHERS),
    ("providers.nomad.", NotPossible, OTHERS),
    ("providers.ecs.", NotPossible, OTHERS),
    ("providers.consul.", NotPossible, OTHERS),
    ("providers.etcd.", NotPossible, OTHERS),
    ("providers.zookeeper.", NotPossible, OTHERS),
    ("providers.redis.", NotPossible, OTHERS),
    ("providers.http.", NotPossible, OTHERS),
    ("providers.plugin.", NotPossible, OTHERS),
    ("log.level", Translated, ""),
    ("log.format", Translated, ""),
    ("log.nocolor", Ignored, "colours are for terminals"),
    ("log.filepath", NotPossible, "the log goes to standard error, which the service manager keeps"),
    ("log.maxsize", Ignored, "logrotate and SIGUSR1 do this"),
    ("log.maxage", Ignored, "logrotate and SIGUSR1 do this"),
    ("log.maxbackups", Ignored, "logrotate and SIGUSR1 do this"),
    ("log.compress", Ignored, "logrotate and SIGUSR1 do this"),
    ("log.otlp.", NotPossible, "the log goes to standard error: a collector there can send it on"),
    ("accesslog", Translated, ""),
    ("accesslog.filepath", Translated, ""),
    ("accesslog.format", Approximated, "records have fields of their own, in the form of [log] format"),
    ("accesslog.genericclfformat", Approximated, "records have fields of their own"),
    ("accesslog.timezone", Ignored, "times are of UTC"),
    (
        "accesslog.bufferingsize",
        Ignored,
        "records are written as they come, without anybody waiting for that",
    ),
    ("accesslog.addinternals", Ignored, "there are no routers of the proxy itself"),
    ("accesslog.dualoutput", NotPossible, "records go to one place"),
    ("accesslog.filters.", NotPossible, "every request has its record: filter them where they are read"),
    (
        "accesslog.fields.",
        Approximated,
        "records have fields of their own, and none of requests' own heads but the host",
    ),
    (
        "accesslog.otlp.",
        NotPossible,
        "records go to a file or to standard output: a collector there can send them on",
    ),
    ("tracing", Translated, ""),
    ("tracing.servicename", Translated, ""),
    ("tracing.samplerate", Translated, ""),
    (
        "tracing.otlp.",
        NotPossible,
        "a program built with the feature `otel` exports spans: write otlp of [tracing] there",
    ),
    ("tracing.resourceattributes.", NotPossible, "spans have service.name alone"),
    ("tracing.globalattributes.", NotPossible, "spans have service.name alone"),
    ("tracing.capturedrequestheaders.", NotPossible, "spans do not have fields of heads"),
    ("tracing.capturedresponseheaders.", NotPossible, "spans do not have fields of heads"),
    ("tracing.safequeryparams.", Ignored, "spans have no queries"),
    ("tracing.addinternals", Ignored, "there are no routers of the proxy itself"),
];

const OTHERS: &str = "what this provider finds is not in files: import what Traefik made of it (its /api/rawdata), or write pools with DNS names or endpoints_file";
const CLUSTER: &str = "`plimsoll import ingress` reads what the cluster says";

/// Parts that are read elsewhere.
const ELSEWHERE: [&str; 3] = ["entrypoints", "serverstransport", "tcpserverstransport"];

/// Gives all options of static configurations their verdicts, and writes what stands for them.
pub(super) fn read(parts: &Parts<'_>, document: &mut Document, report: &mut Report) {
    for (name, at, node) in &parts.statics {
        if ELSEWHERE.contains(&name.as_str()) {
            if node.is_empty() {
                report.ignored(*at, "nothing is in it");
            }
            continue;
        }
        judge(name, *at, node, report);
    }
    log(parts, document, report);
    tracing(parts, document, report);
}

fn judge(path: &str, at: Place, node: &Node, report: &mut Report) {
    let all = format!("{path}.");
    let exact = SAID.iter().find(|(known, ..)| *known == path);
    let deep = SAID.iter().find(|(known, ..)| *known == all);
    let below = SAID.iter().any(|(known, ..)| known.len() > all.len() && known.starts_with(&all));
    if let Some((_, verdict, text)) = exact
        && deep.is_none()
    {
        report.note(at, *verdict, *text);
    }
    match (deep, exact) {
        (Some((_, verdict, text)), _) if !below => {
            whole(at, node, *verdict, text, report);
        }
        (None, Some((_, verdict, text))) if !below => whole(at, node, *verdict, text, report),
        (deep, exact) if below => {
            let plain = node.text().is_some() || !node.items().is_empty();
            if plain && node.as_bool().is_none() {
                report.wrong(at, "a table belongs here: Traefik does not start");
                node.tell(Ignored, "it stands where a table belongs", report);
            }
            if node.pairs().is_empty() && exact.is_none() {
                report.ignored(at, "nothing is in it");
            }
            for (key, value) in node.pairs() {
                let path = format!("{path}.{}", key.text.to_ascii_lowercase());
                let known = SAID.iter().any(|(known, ..)| {
                    known
                        .strip_prefix(path.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                });
                match deep {
                    Some((_, verdict, text)) if !known => {
                        whole(key.at, value, *verdict, text, report);
                    }
                    _ => judge(&path, key.at, value, report),
                }
            }
        }
        _ => {
            let name = path.rsplit('.').next().unwrap_or(path);
            report.wrong(at, format!("Traefik knows no option `{name}` here, and does not start"));
            super::said::each_silent(
                node,
                Ignored,
                "it is below an option that Traefik does not know",
                report,
            );
        }
    }
}

fn log(parts: &Parts<'_>, document: &mut Document, report: &mut Report) {
    let mut silent = Report::default();
    if let Some((at, node)) = parts.statics("log") {
        let mut fields = Fields::of(at, node, &mut silent);
        if let Some((level, at)) = fields.text("level", &mut silent) {
            let word = match level.to_ascii_lowercase().as_str() {
                word @ ("trace" | "debug" | "info" | "warn" | "error") => word.to_owned(),
                "fatal" | "panic" => "error".to_owned(),
                _ => {
                    report.wrong(at, "there is no such level");
                    String::new()
                }
            };
            if !word.is_empty() {
                document.single("log").set("level", Value::text(word), Some(at));
            }
        }
        if let Some((format, at)) = fields.text("format", &mut silent)
            && format.eq_ignore_ascii_case("json")
        {
            document.single("log").set("format", Value::text("json"), Some(at));
        }
    }
    match parts.statics("accesslog") {
        Some((_, node)) if node.as_bool() == Some(false) => off(document),
        Some((at, node)) => {
            let mut fields = Fields::of(at, node, &mut silent);
            if let Some((path, at)) =
                fields.text("filePath", &mut silent).filter(|(path, _)| !path.is_empty())
            {
                document.single("log").set("access", Value::text(path), Some(at));
            }
            if let Some((format, at)) = fields.text("format", &mut silent)
                && format.eq_ignore_ascii_case("json")
                && document.single("log").get("format").is_none()
            {
                document.single("log").set("format", Value::text("json"), Some(at));
            }
        }
        None if !parts.statics.is_empty() => off(document),
        None => {}
    }
}

fn off(document: &mut Document) {
    document.single("log").set("access", Value::text("off"), None);
}

fn tracing(parts: &Parts<'_>, document: &mut Document, report: &mut Report) {
    let mut silent = Report::default();
    let Some((at, node)) = parts.statics("tracing") else { return };
    let mut fields = Fields::of(at, node, &mut silent);
    document.single("tracing").set("propagate", Value::text("w3c"), Some(at));
    if let Some((text, at)) = fields.text("sampleRate", &mut silent) {
        match text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share)) {
            Some(share) => document.single("tracing").set("sample", Value::Real(share), Some(at)),
            None => report.wrong(at, "this is a share from 0 to 1"),
        }
    }
    if let Some((name, at)) = fields.text("serviceName", &mut silent).filter(|(name, _)| !name.is_empty()) {
        document.single("tracing").set("service", Value::text(name), Some(at));
    }
}

/// Where pings are answered: the entry point, and whether routers do that by hand.
pub(super) fn ping(parts: &Parts<'_>) -> Option<(Place, Option<String>, bool)> {
    let mut silent = Report::default();
    let (at, node) = parts.statics("ping")?;
    if node.as_bool() == Some(false) {
        return None;
    }
    let mut fields = Fields::of(at, node, &mut silent);
    let entry = fields.text("entryPoint", &mut silent).map(|(name, _)| name);
    let manual = fields.flag("manualRouting", &mut silent).is_some_and(|(yes, _)| yes);
    Some((at, entry, manual))
}

/// Whether rules are of version 2 unless a router says otherwise.
pub(super) fn old_rules(parts: &Parts<'_>) -> bool {
    let of = parts.statics("core").map(|(_, node)| node.pairs()).unwrap_or_default();
    of.iter().any(|(key, value)| {
        key.text.eq_ignore_ascii_case("defaultRuleSyntax")
            && value.text().is_some_and(|text| text.eq_ignore_ascii_case("v2"))
    })
}
