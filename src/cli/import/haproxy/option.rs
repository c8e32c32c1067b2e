//! `option NAME`: what each one comes to.

use super::check;
use super::proxy::Reading;
use super::said::{approximated, ignored, not_possible, translated, wrong};
use super::section::Statement;

/// What an option comes to.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// It matters to others, who ask whether it is on.
    Kept,
    /// It is always so here.
    Always(&'static str),
    Approximated(&'static str),
    Ignored(&'static str),
    NotPossible(&'static str),
}

use Outcome::{Always, Approximated, Ignored, Kept, NotPossible};

const RECORDS: &str = "the access log has one record for each request or connection ([log] access)";
const KEEPALIVE: &str = "keepalive probes are always sent: timeouts.tcp_keepalive";
const SPLICED: &str = "large bodies between plain sockets are spliced";
const IDLE: &str = "connections to endpoints are kept and shared, those of clients too";

const OPTIONS: [(&str, Outcome); 54] = [
    ("allbackups", Kept),
    ("redispatch", Kept),
    ("httplog", Ignored(RECORDS)),
    ("tcplog", Ignored(RECORDS)),
    ("httpslog", Ignored(RECORDS)),
    ("clf", Ignored(RECORDS)),
    ("dontlognull", Ignored("a connection without a request has no record")),
    ("dontlog-normal", Approximated("all requests have a record, or none ([log] access = \"off\")")),
    ("log-separate-errors", Ignored("records tell the status and how each request ended")),
    (
        "log-health-checks",
        Always("every change of an endpoint is an event with its evidence, in the log and /v1/events"),
    ),
    ("logasap", Ignored("a record is written when its request has ended")),
    ("forwardfor", Kept),
    ("forwarded", Kept),
    ("originalto", NotPossible("endpoints are not told which of our addresses a client came to")),
    ("http-server-close", Approximated(IDLE)),
    ("httpclose", Approximated(IDLE)),
    ("forceclose", Approximated(IDLE)),
    ("http-keep-alive", Always(IDLE)),
    ("http-tunnel", Approximated("every request is looked at, not the first alone")),
    ("http-pretend-keepalive", Ignored("endpoints are asked to keep connections anyway")),
    ("prefer-last-server", Ignored("each request is balanced; a sticky pool keeps a client's")),
    ("http-no-delay", Ignored("nothing is held back")),
    ("http-ignore-probes", Ignored("a connection without a request has no record")),
    ("http-buffer-request", Kept),
    ("http-use-proxy-header", Ignored("Proxy-Connection belongs to one connection, and goes no further")),
    ("http-use-htx", Ignored("HAProxy has nothing else any more")),
    ("http-drop-request-trailers", NotPossible("trailers go on")),
    ("http-drop-response-trailers", NotPossible("trailers go on")),
    ("http-restrict-req-hdr-names", Ignored("names that no field can have are refused")),
    ("accept-invalid-http-request", NotPossible("what breaks HTTP's framing is refused: mend the client")),
    (
        "accept-unsafe-violations-in-http-request",
        NotPossible("what breaks HTTP's framing is refused: mend the client"),
    ),
    ("accept-invalid-http-response", NotPossible("what breaks HTTP's framing is refused: mend the endpoint")),
    (
        "accept-unsafe-violations-in-http-response",
        NotPossible("what breaks HTTP's framing is refused: mend the endpoint"),
    ),
    ("h1-case-adjust-bogus-client", Ignored("names of fields keep the case in which they came over HTTP/1")),
    ("h1-case-adjust-bogus-server", Ignored("names of fields keep the case in which they came over HTTP/1")),
    ("disable-h2-upgrade", Ignored("HTTP/2 in the clear is off unless h2c is on")),
    ("abortonclose", Always("a request whose client has gone leaves the queue and its endpoint")),
    ("persist", NotPossible("an endpoint that is down gets nothing: a sticky client goes to another one")),
    (
        "nolinger",
        Approximated(
            "connections end in order; what is read after the last answer is bounded by limits.linger",
        ),
    ),
    ("tcpka", Always(KEEPALIVE)),
    ("clitcpka", Always(KEEPALIVE)),
    ("srvtcpka", Always(KEEPALIVE)),
    ("splice-auto", Always(SPLICED)),
    ("splice-request", Always(SPLICED)),
    ("splice-response", Always(SPLICED)),
    ("tcp-smart-accept", Ignored("the kernel's own way is taken")),
    ("tcp-smart-connect", Ignored("the kernel's own way is taken")),
    ("independent-streams", Approximated("a byte in either direction keeps a connection")),
    ("socket-stats", Ignored("metrics are by listener and pool")),
    ("contstats", Ignored("metrics count as it happens")),
    ("checkcache", NotPossible("answers that set cookies are passed on, cacheable or not")),
    ("idle-close-on-response", Ignored("idle connections get the answer that ends them")),
    ("transparent", NotPossible("clients' own destinations are not kept: endpoints are written")),
    ("http_proxy", NotPossible("requests go to endpoints that are written, not to where they ask")),
];

/// `option NAME ...`.
pub(super) fn option(reading: &mut Reading<'_, '_>, statement: &Statement) {
    let (at, name) = (statement.at, statement.word(1));
    if reading.proxy.back
        && let Some(said) = check::option(reading, statement)
    {
        return reading.say(said, at);
    }
    const CHECKS: [&str; 10] = [
        "httpchk",
        "tcp-check",
        "ssl-hello-chk",
        "pgsql-check",
        "mysql-check",
        "redis-check",
        "external-check",
        "smtpchk",
        "ldap-check",
        "spop-check",
    ];
    let Some((_, outcome)) = OPTIONS.iter().find(|(known, _)| *known == name) else {
        if !CHECKS.contains(&name) {
            reading.report.wrong(at, format!("there is no `option {name}`"));
        } else if !reading.inherited {
            reading.report.wrong(at, "checks are for backends: HAProxy warns and ignores it here");
        }
        return;
    };
    let said = match outcome {
        Kept => {
            reading.proxy.options.insert(name.to_owned(), at);
            match name {
                "redispatch" => translated(),
                "allbackups" if !reading.proxy.back => return,
                "forwardfor" => {
                    let (said, field) = forwarded_for(statement);
                    if let Some(name) = field.filter(|_| reading.proxy.http) {
                        reading.proxy.fields.push((name, "{client}".to_owned(), at));
                    }
                    said
                }
                "forwarded" => approximated(
                    "`forwarded` of the listener: a Forwarded field is made beside X-Forwarded-For, with by, for, host and proto as RFC 7239 has them",
                ),
                "http-buffer-request" => {
                    let size = super::super::document::Value::text("16KiB");
                    reading.proxy.keys.push(("buffer_request", size, at));
                    approximated(
                        "so much of a body is taken in first (tune.bufsize), whatever `timeout http-request` says",
                    )
                }
                _ => translated(),
            }
        }
        Always(how) => {
            super::said::Said(super::super::report::Verdict::Translated, format!("always so: {how}"))
        }
        Approximated(how) => approximated(*how),
        Ignored(why) => ignored(*why),
        NotPossible(remedy) => not_possible(*remedy),
    };
    reading.say(said, at);
}

/// `option forwardfor [except NETWORK] [header NAME] [if-none]`.
fn forwarded_for(statement: &Statement) -> (super::said::Said, Option<String>) {
    let has = |word: &str| statement.words.iter().position(|own| own == word);
    let field = has("header").map(|at| statement.word(at + 1).to_ascii_lowercase());
    let field = field.filter(|name| !["x-forwarded-for", "x-real-ip"].contains(&name.as_str()));
    if field.as_deref().is_some_and(|name| !super::super::field::is_editable(name)) {
        return (wrong("that is no field that a request can be given"), None);
    }
    let said = match (has("header"), has("except"), has("if-none")) {
        _ if field.is_some() => approximated(
            "the field has the client's address; X-Forwarded-For and X-Real-IP are sent too, and a list that the client sent is not kept",
        ),
        (_, Some(_), _) | (_, _, Some(_)) => approximated(
            "X-Forwarded-For is always sent; what a client itself says there is left out unless its network is in trusted_proxies of the listener",
        ),
        _ if statement.words.len() > 2 && has("header").is_none() => {
            wrong("HAProxy does not know these words")
        }
        _ => approximated(
            "X-Forwarded-For is always sent; HAProxy keeps what the client said beside it, here it is left out unless the client is in trusted_proxies",
        ),
    };
    (said, field)
}
