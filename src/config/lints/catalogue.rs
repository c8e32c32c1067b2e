//! Every lint as data: its code, its name, why it matters and what to do. `allow_codes`, the listing of the command line and
//! the page in `conf/` all come from here.

use std::fmt::Write as _;

/// One thing that is looked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Lint {
    /// Its code, which never means anything else.
    pub code: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Why it matters, in one sentence.
    pub reason: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

const fn lint(code: &'static str, name: &'static str, reason: &'static str, remedy: &'static str) -> Lint {
    Lint { code, name, reason, remedy }
}

/// All of them, in the order of their codes.
pub static LINTS: [Lint; 34] = [
    lint(
        "L001",
        "late-detection",
        "Probes notice a dead endpoint later than `[check] objective` says.",
        "shorten interval, fast_interval or timeout, or lower fall",
    ),
    lint(
        "L002",
        "unprobed",
        "There is an objective, and nothing bounds how long a dead endpoint of this pool goes unnoticed.",
        "add [pool.NAME.health]",
    ),
    lint(
        "L003",
        "answer-outlasts-clients",
        "One attempt may take longer than clients wait (`[check] client_timeout`), so endpoints work for nobody.",
        "shorten limits.queue_timeout or timeouts.response_header",
    ),
    lint(
        "L004",
        "unverified-tls",
        "Traffic or probes do not verify whom they talk to: whoever is on the way can answer in the endpoint's place.",
        "remove verify, and name the authority with ca = \"internal-ca.pem\"",
    ),
    lint(
        "L005",
        "admin-in-the-clear",
        "The admin API has no TLS, so that its tokens cross the network in the clear.",
        "bind it to 127.0.0.1 or a unix socket, and reach it through ssh or a proxy with TLS",
    ),
    lint(
        "L006",
        "rendezvous-over-many",
        "Rendezvous hashing asks every endpoint for every request.",
        "take maglev or ring_hash, which cost the same however many endpoints there are",
    ),
    lint(
        "L007",
        "retry-without-effect",
        "A retry rule does nothing as it stands beside the others.",
        "remove it, or add what it needs",
    ),
    lint(
        "L008",
        "certificate-expires",
        "A certificate of a listener has expired, is not valid yet, or expires within 21 days.",
        "renew it",
    ),
    lint(
        "L009",
        "probe-asks-too-little",
        "A TCP probe only asks the kernel whether a port is open, which it is while the server behind it hangs.",
        "ask what the server speaks: check = \"http\", \"tls\", \"postgres\", \"mysql\", \"redis\" or a preset",
    ),
    lint(
        "L010",
        "proxy-header-of-nobody",
        "A listener waits for PROXY headers and believes nobody who could send them.",
        "add trusted_proxies = [\"10.0.0.0/8\"], or remove accept_proxy_protocol",
    ),
    lint(
        "L011",
        "probe-takes-redirects",
        "A probe takes a redirect for a good answer, which is what a server gives that sends everybody to a log-in or to \
         another host.",
        "probe a path that answers for itself, and expect_status = [\"200-299\"]",
    ),
    lint(
        "L012",
        "probe-beside-traffic",
        "Probes ask another port than the one that serves, and nothing watches the one that serves.",
        "leave `outlier` on, or probe the port that serves",
    ),
    lint(
        "L013",
        "role-without-demotion",
        "A probe asks who is the primary, and connections stay on an endpoint that has stopped being it: writes then fail.",
        "add exclusive = true, or on_demotion = { close_after = \"0s\" } to its health",
    ),
    lint(
        "L014",
        "keep-alive-outlives-endpoint",
        "Idle connections are kept longer than common servers keep theirs (Node 5 s, Apache 5 s, nginx 75 s), and a request \
         sent as one closes is lost unless it may be repeated.",
        "set timeouts.keep_alive of the pool below what the endpoints keep",
    ),
    lint(
        "L015",
        "retries-outlast-clients",
        "With all its retries a request may take longer than clients wait (`[check] client_timeout`): the last tries are \
         for nobody.",
        "shorten retry.within, retry.per_try_timeout or retry.attempts",
    ),
    lint(
        "L016",
        "retry-comes-too-late",
        "A try that times out is to be tried again, and by then no new try may start.",
        "set retry.per_try_timeout well below retry.within",
    ),
    lint(
        "L017",
        "post-is-retried",
        "Requests that are not safe to repeat, such as POST, are sent again although an endpoint may have acted on them: \
         orders and payments happen twice.",
        "write non_idempotent = \"with_idempotency_key\", or false",
    ),
    lint(
        "L018",
        "burst-above-room",
        "A rate limit lets more requests in at once than the pool and its queue have places for; the rest gets 503 and not 429.",
        "lower burst (or delay), or raise limits.queue of the pool",
    ),
    lint(
        "L019",
        "source-is-a-proxy",
        "Something goes by the client's address where every client has the address of the proxy before us.",
        "name the proxy's networks in trusted_proxies, with accept_proxy_protocol = true where it sends PROXY headers",
    ),
    lint(
        "L020",
        "sticky-without-return",
        "Clients that had to go to a backup stay there for as long as they keep coming, whatever has recovered.",
        "add failback = \"idle\" with max_idle, or failback = \"expiry\", to sticky",
    ),
    lint(
        "L021",
        "redirect-loop",
        "A route redirects clients to where it, or one that redirects back, takes them again: browsers give up.",
        "let the target be taken by another route, or give the one that redirects a condition that the target does not meet",
    ),
    lint(
        "L022",
        "route-never-matches",
        "No request can take a route: others take all of them before it, or its conditions exclude each other.",
        "remove it, or make its conditions narrower or its priority higher than those of the route before it",
    ),
    lint(
        "L023",
        "pool-unused",
        "Nothing sends traffic to a pool.",
        "name it in a route, a listener or a failover, or remove it",
    ),
    lint(
        "L024",
        "weight-of-nothing",
        "All endpoints of a tier have weight 0, so that it never serves, also when it is the only one left.",
        "give at least one of them a weight",
    ),
    lint(
        "L025",
        "zones-cannot-carry",
        "What a pool is expected to carry (`load`) is more than its endpoints can, as a whole or once a zone is gone.",
        "add endpoints to the smaller zones until any one may fail",
    ),
    lint(
        "L026",
        "everybody-is-trusted",
        "Every peer is believed who the client is, so that anybody can take any address: allow, deny, rate limits and logs \
         mean nothing.",
        "name the networks of the proxies before us in trusted_proxies",
    ),
    lint(
        "L027",
        "spoofable-limit-key",
        "A limit goes by a header in which clients can write what they like: each request then has a limit of its own.",
        "write key = \"source\", which is the client's address once trusted_proxies names the proxies before us",
    ),
    lint(
        "L028",
        "passwords-in-the-clear",
        "Names and passwords cross the network in the clear.",
        "give the listener TLS, or take the route off it",
    ),
    lint(
        "L029",
        "auth-fails-open",
        "Everybody is let in while the service that says who may does not answer.",
        "remove on_error = \"allow\"",
    ),
    lint(
        "L030",
        "cleartext-to-tls-port",
        "Requests go in the clear to a port on which TLS is spoken.",
        "add tls = {} to the pool, or another port",
    ),
    lint(
        "L031",
        "too-few-descriptors",
        "Listeners may accept more connections than the process may have descriptors for.",
        "raise LimitNOFILE of the unit (or ulimit -n), or lower max_connections",
    ),
    lint(
        "L032",
        "too-little-memory",
        "Busy connections up to all ceilings need more memory than there is, and then the process is killed.",
        "lower max_connections, or leave overload of [process] on",
    ),
    lint(
        "L033",
        "nothing-may-go",
        "min_available is so high that no endpoint can ever be drained, put into maintenance or ejected by judgement.",
        "lower min_available below the number of endpoints",
    ),
    lint(
        "L034",
        "redirect-loses-the-method",
        "A redirect with 301 or 302 turns a POST into a GET without its body.",
        "write status = 308, or 307 where it is not for ever",
    ),
];

/// The lint of a code.
#[must_use]
pub fn lint_of(code: &str) -> Option<&'static Lint> {
    LINTS.iter().find(|lint| lint.code == code)
}

/// All of them as a page of Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# What `plimsoll check` finds\n\n\
         A finding is a warning: the file is valid and may all the same not be what was meant. `allow_codes = [\"L004\"]` in \
         `[check]` silences one, `plimsoll check --strict` makes any of them a failure, and a reload logs those that are new. \
         This page is what `plimsoll check --list-codes` prints.\n\n\
         | code | name | why | remedy |\n|---|---|---|---|\n",
    );
    for Lint { code, name, reason, remedy } in &LINTS {
        // Writing to a string cannot fail.
        let _infallible = writeln!(page, "| {code} | {name} | {reason} | {remedy} |");
    }
    page
}
