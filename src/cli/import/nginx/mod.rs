//! From nginx.conf: read as nginx reads it, translated to what Plimsoll has, with a verdict on every line.
//!
//! The map, in the order of the way: `lexer` makes words, `tree` directives with what they include (`glob`), `catalogue` knows
//! where each may stand (`directives` has them as data) and `notes` what has been said of it. `scope` is what holds at a place. `upstream` and `pools` (with
//! `probe` and `tls`) are where requests go, `listen`, `site` and `listener` (with `certificate`) where they come from.
//! What becomes of a request: `location` finds its location, `walk` follows directives to routes (`condition` reads an `if`, `ask`
//! narrows what is asked, `switch` has tables such as maps, at which `fork` divides a way, `variable` texts, `rewrite` other
//! targets), `content` ends in one, with `destination`, `header`, `guard`, `limit`, `treatment`, `compress` and `page`; `draft` is
//! what is written of it, and `routes` puts all in order. `stream` has what is no http, `verdicts` what is left to be said.

mod ask;
mod catalogue;
mod certificate;
mod compress;
mod condition;
mod content;
mod destination;
mod directives;
mod draft;
mod fork;
mod glob;
mod guard;
mod header;
mod lexer;
mod limit;
mod listen;
mod listener;
mod location;
mod notes;
mod page;
mod pools;
mod probe;
mod rewrite;
mod routes;
mod scope;
mod site;
mod stream;
mod switch;
mod tls;
mod treatment;
mod tree;
mod units;
mod upstream;
mod variable;
mod verdicts;
mod walk;

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use super::Import;
use super::document::{Block, Document, Value, place};
use super::lift::lift;
use super::mend::settle;
use super::region::Door;
use super::report::{Report, Verdict};
use super::surroundings::Surroundings;
use catalogue::{HTTP, SERVER};
use draft::Draft;
use limit::Zones;
use listen::Listen;
use location::Locations;
use notes::Notes;
use pools::Pools;
use scope::{Level, Scope};
use site::{Group, Names};
use tree::{Directive, Source};
use walk::{Ground, Site};

/// Translates the files of a configuration of nginx: the main one first, others as if they stood behind it.
#[must_use]
pub fn import(files: &[(&str, &str)], around: Surroundings<'_>) -> Import {
    let mut report = Report::default();
    let source = tree::read(files, around, &mut report);
    let mut document = Document::default();
    let mut notes = Notes::new(&mut report, source.count, source.crowds.clone());
    translate(&source, &mut document, &mut notes);
    lift(&mut document);
    settle(&mut document, &mut report);
    document.introduce("nginx", &report);
    let text = document.print(&report);
    Import { text, report }
}

fn translate(source: &Source, document: &mut Document, notes: &mut Notes<'_>) {
    let root = Level::new(catalogue::MAIN, &source.root);
    let blocks = root.all("http");
    let streams = root.all("stream");
    for more in blocks.iter().chain(streams).filter(|of| !std::ptr::eq(**of, *blocks.first().unwrap_or(of))) {
        if more.name == "http" || !std::ptr::eq(*more, *streams.first().unwrap_or(more)) {
            notes.wrong(more, "there is another block of that name: nginx rejects the file");
            more.inside()
                .iter()
                .for_each(|inner| notes.all(inner, Verdict::Ignored, "its block is there twice"));
        }
    }
    let loose =
        ["server", "upstream", "map", "geo", "split_clients"].iter().any(|name| root.first(name).is_some());
    let snippet = blocks.is_empty() && loose;
    verdicts::places(&source.root, if snippet { HTTP } else { catalogue::MAIN }, notes);
    if snippet {
        notes.report.general(
            "the file has no http block: it is read as what stands in one, as the files of conf.d do.",
        );
    }
    let list: &[Directive] = match blocks.first() {
        Some(http) => {
            notes.ok(http);
            http.inside()
        }
        None if snippet => &source.root,
        None => &[],
    };
    let mut pools = Pools::default();
    let relayed = streams.first().map(|of| stream::write(of, &mut pools, document, notes));
    let (relayed, keys) = relayed.map_or_else(Default::default, |relayed| (relayed.upstreams, relayed.keys));
    let http = Rc::new(Level::new(HTTP, list));
    write_http(&http, &mut pools, (&relayed, &keys), document, notes);
    resolver(&http, document, notes);
    verdicts::conclude(source, notes);
    general(!http.all("server").is_empty(), &pools, notes.report);
}

/// Names are looked up by whom the source says.
fn resolver(http: &Level<'_>, document: &mut Document, notes: &mut Notes<'_>) {
    let Some(of) = http.first("resolver") else { return };
    let servers: Vec<String> = of
        .words
        .iter()
        .filter(|word| !word.contains('='))
        .filter_map(|word| upstream::address(word, Some(53)).ok())
        .filter(|address| address.parse::<std::net::SocketAddr>().is_ok())
        .collect();
    if servers.is_empty() {
        return notes.skip(of, "names are asked of the servers of /etc/resolv.conf");
    }
    document.single("process").set("resolvers", Value::texts(servers), Some(of.at));
    if of.words.iter().any(|word| word.contains('=')) {
        notes.near(of, "an answer holds for as long as it says, and the last good one stays while nobody answers; valid and ipv6 have no use");
    } else {
        notes.ok(of);
    }
}

type Streams<'a, 't> = (&'a HashMap<String, upstream::Upstream<'t>>, &'a HashMap<usize, Vec<draft::Key>>);

fn write_http<'t>(
    http: &Rc<Level<'t>>,
    pools: &mut Pools<'t>,
    (relayed, keys): Streams<'_, 't>,
    document: &mut Document,
    notes: &mut Notes<'_>,
) {
    let scope = Scope::default().with(Rc::clone(http));
    let mut zones = Zones::default();
    zones.read(http, notes);
    let mut listens: Vec<Vec<Listen<'t>>> = Vec::new();
    let mut names: Vec<Names<'t>> = Vec::new();
    let mut sites: Vec<Site<'t>> = Vec::new();
    for of in http.all("server") {
        let level = Rc::new(Level::new(SERVER, of.inside()));
        zones.read(&level, notes);
        let scope = scope.with(Rc::clone(&level));
        listens.push(addresses(of, &level, &scope, notes));
        let own = Names::read(&level, notes);
        let locations = Locations::read(&level, &scope, notes);
        notes.ok(of);
        sites.push(Site { of, scope, level, names: own.plain(), doors: Vec::new(), locations });
        names.push(own);
    }
    let groups = site::groups(&listens, notes);
    for (at, group) in groups.iter().enumerate() {
        for site in &group.sites {
            if let Some(site) = sites.get_mut(*site) {
                site.doors.push(at);
            }
        }
    }
    let doors: Vec<Door> = groups.iter().map(Group::door).collect();
    let upstreams = upstream::read(http, true, notes);
    let switches = switch::read(http, notes);
    let matches = http.all("match").to_vec();
    let ground = Ground { switches, doors, zones, upstreams, matches, ways: Cell::default() };
    let mut drafts: Vec<Vec<Draft>> = Vec::new();
    let mut told = Vec::new();
    for site in &sites {
        let (own, certificates) = if site.doors.is_empty() {
            (Vec::new(), false)
        } else {
            walk::drafts(site, &ground, pools, notes)
        };
        drafts.push(own);
        told.push(certificates);
    }
    let shares = site::shares(&groups, &names, notes);
    let mut routes = routes::assemble(&drafts, &shares, &sites, &groups, &ground.doors);
    document.pools.extend(pools.write(&mut routes.drafts, &ground, relayed, keys, notes));
    for group in &groups {
        let told = group.sites.iter().any(|site| told.get(*site).copied().unwrap_or(false));
        let mut block = listener::block(group, &sites, told, notes);
        block.comments.extend(about(group, &sites, notes.report));
        document.listeners.push(block);
    }
    document.routes.extend(routes.write(&sites, &ground.doors, !keys.is_empty(), pools, notes.report));
}

/// What a server listens on.
fn addresses<'t>(
    of: &'t Directive,
    level: &Level<'t>,
    scope: &Scope<'t>,
    notes: &mut Notes<'_>,
) -> Vec<Listen<'t>> {
    let mut out: Vec<Listen<'t>> =
        level.all("listen").iter().flat_map(|listen| listen::read(listen, true, notes)).collect();
    if level.all("listen").is_empty() {
        notes.how(of, "without a listen nginx listens on port 80");
        let none = listen::read(of, true, notes);
        out.extend(none);
    }
    for name in ["ssl", "http2"] {
        if let Some(switch) = scope.find(name) {
            notes.ok(switch);
            for listen in out.iter_mut().filter(|_| switch.word(0) == "on") {
                if name == "ssl" {
                    listen.ssl = true;
                } else {
                    listen.http2 = true;
                }
            }
        }
    }
    out
}

/// The comment above a listener.
fn about(group: &Group<'_>, sites: &[Site<'_>], report: &Report) -> Option<String> {
    let lines = group.sites.iter().filter_map(|site| sites.get(*site)).map(|site| place(site.of.at, report));
    let lines: Vec<String> = lines.take(8).collect();
    let more = if group.sites.len() > lines.len() {
        format!(" and {} more", group.sites.len() - lines.len())
    } else {
        String::new()
    };
    let word = if group.sites.len() == 1 { "server" } else { "servers" };
    (!lines.is_empty()).then(|| format!("{word} ({}{more})", lines.join(", ")))
}

/// Differences of the two products.
fn general(http: bool, pools: &Pools<'_>, report: &mut Report) {
    if http {
        report.general("endpoints are told X-Forwarded-For, -Proto and -Host, X-Real-IP and X-Request-Id; nginx tells them what is written. Where nginx would say Host: $proxy_host, that is set; else Host goes on as it came, with a port where clients name one.");
        report.general("HTTP/1.1 is spoken with endpoints, and connections are kept; nginx speaks 1.0 and closes them unless told. Upgrades such as WebSocket go through without a line for them.");
        report.general("paths are compared in normal form: //admin and /%61dmin are /admin, and other escapes stay escapes where nginx decodes them. They go on as they came. What is ambiguous in HTTP's framing is refused.");
        report.general("our own answers have short texts as their bodies, and 503 a Retry-After, not nginx's pages with its Server. nginx puts its own Server in the place of the endpoints', which goes on here; rejections by rate have Retry-After and RateLimit.");
        report.general("the status is 503 where no endpoint can be reached; nginx says 502, or 504 where one does not accept in time.");
        report.general("requests and answers stream; nginx takes in a request's body, and as much of an answer as it has room for, before it goes on (buffer_request, buffer_response). Location of an endpoint's answer goes on as it is (proxy_redirect).");
        report.general("a certificate is chosen by the names that it has, in nginx by server_name.");
        report.general("X-Accel fields of an endpoint's answer go on to the client and do nothing; nginx takes them away, and X-Accel-Redirect leads to an internal location. Fields of a request whose names have an underscore go on; nginx drops them unless underscores_in_headers is on.");
    }
    if !pools.is_empty() {
        report.general("an endpoint that fails live traffic as max_fails and fail_timeout say is out for all workers, and never the last one that is usable; nginx counts for each worker, without a zone. Retries draw on a budget of 20 % of the requests.");
        report.general("turns are taken by all workers together, and begin anew with a process: which endpoint a request meets is not the one that it meets now.");
        report.general("an endpoint gets at most 1024 requests at once, more wait ([pool.NAME.limits]); nginx has no ceiling unless max_conns is written.");
    }
}

/// What stands above a block that is not made of a line of its own.
fn comment_block(comment: String, table: super::document::Table) -> Block {
    Block { name: String::new(), comments: vec![comment], table }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(server: &str) -> Import {
        let around = Surroundings { environment: &|_| None, read: &|_| None, list: &|_| None };
        let text =
            format!("http {{ upstream u {{ server 10.0.0.1:80; }}\nserver {{ listen 80;\n{server}\n}} }}\n");
        import(&[("nginx.conf", &text)], around)
    }

    fn has(server: &str, parts: &[&str]) -> Import {
        let import = imported(server);
        for part in parts {
            assert!(import.text.contains(part), "{part} is not in\n{}\n{}", import.text, import.report);
        }
        import
    }

    fn verdict(import: &Import, line: usize) -> Option<Verdict> {
        import.report.verdicts().find(|(at, _)| at.line == line).map(|(_, verdict)| verdict)
    }

    #[test]
    fn what_keeps_clients_out_and_cannot_be_said_keeps_all_out() {
        let import =
            has("location / {\nif ($args ~ evil) { return 403; }\nproxy_pass http://u; }", &["status = 503"]);
        assert!(!import.text.contains("pool = "), "{}", import.text);
        assert_eq!(verdict(&import, 4), Some(Verdict::NotPossible));
        has("location / { auth_basic x; proxy_pass http://u; }", &["status = 503"]);
        has("location / { deny all; proxy_pass http://u; }", &["status = 403"]);
        has("location /x/ { auth_request /nowhere; proxy_pass http://u; }", &["status = 503"]);
    }

    #[test]
    fn who_is_kept_out_by_what_cannot_be_said_is_kept_out() {
        for server in [
            // A variable that is set on a condition that cannot be said.
            "set $bad 0; if ($args ~ evil) { set $bad 1; } if ($bad) { return 403; } location / { proxy_pass http://u; }",
            // Modules and code that ask who comes.
            "location / { auth_jwt staff; proxy_pass http://u; }",
            "auth_ldap staff; location / { proxy_pass http://u; }",
            "location / { access_by_lua_block { ngx.exit(403) } proxy_pass http://u; }",
            // Locations whose expression cannot be read.
            "location ~ ^/app/ { location ~ (a|b)$ { auth_basic x; auth_basic_user_file f; proxy_pass http://u; } proxy_pass http://u; }",
        ] {
            let import = has(server, &["status = 503"]);
            assert!(!import.text.contains("pool = "), "{server}\n{}", import.text);
            assert!(import.report.is_incomplete(), "{server}");
        }
        let beside = "location /app/ { location ~ (a|b)$ { auth_basic x; auth_basic_user_file f; proxy_pass http://u; } proxy_pass http://u; }";
        has(beside, &["path_prefix = \"/app\"\nrespond = { status = 503 }"]);
        let twice = "location ~ ^/(.)\\1 { auth_basic x; auth_basic_user_file f; proxy_pass http://u; } location / { proxy_pass http://u; }";
        has(twice, &["path_regex = \"^/\"\nrespond = { status = 503 }"]);
        let ahead = "location ~ ^/(?!open) { auth_basic x; auth_basic_user_file f; proxy_pass http://u; } location / { proxy_pass http://u; }";
        has(
            ahead,
            &["path_regex = \"^/\"\npool = \"u\"\nrequest_headers = { set = { host = \"u\" } }\nbasic_auth"],
        );
    }

    #[test]
    fn a_table_whose_lines_cannot_be_said_keeps_out_whom_it_may_keep_out() {
        let around = Surroundings { environment: &|_| None, read: &|_| None, list: &|_| None };
        for (server, table) in [
            ("if ($no) { return 403; }", "map $ssl_client_i_dn $no { default 0; ~evil 1; }"),
            ("set $x $no; if ($x) { return 403; }", "map $http_a $no { default 0; ~(?=a) 1; }"),
            (
                "limit_req zone=z;",
                "map $ssl_client_i_dn $no { ~evil $remote_addr; } limit_req_zone $no zone=z:1m rate=1r/s;",
            ),
        ] {
            let text = format!(
                "http {{ {table} server {{ listen 80; location / {{ {server} proxy_pass http://10.0.0.1; }} }} }}"
            );
            let import = import(&[("nginx.conf", &text)], around);
            assert!(
                !import.text.contains("pool = ") && import.report.is_incomplete(),
                "{text}\n{}",
                import.text
            );
        }
    }

    #[test]
    fn what_clients_claim_of_themselves_does_not_go_on() {
        has(
            "location / { proxy_set_header X-DN $ssl_client_s_dn; proxy_pass http://u; }",
            &["remove = [\"x-dn\"]"],
        );
        has(
            "location / { auth_request /a; auth_request_set $u $upstream_http_x_auth; proxy_set_header X-User $u; proxy_pass http://u; } \
             location = /a { internal; proxy_pass http://u; }",
            &["remove = [\"x-user\"]", "forward_auth"],
        );
        has(
            "location / { auth_basic x; auth_basic_user_file f; proxy_set_header X-User $remote_user; proxy_pass http://u; }",
            &["user_header = \"x-user\""],
        );
    }

    #[test]
    fn a_page_that_another_location_returns_is_the_answer_of_an_error_of_our_own() {
        let closed = "error_page 503 @closed; location / { return 503; } \
                      location @closed { default_type text/html; add_header Retry-After 60 always; return 200 \"<b>closed</b>\"; }";
        let page = "respond = { status = 503, body = \"<b>closed</b>\", content_type = \"text/html\" }";
        let import = has(closed, &[page, "retry-after = \"60\""]);
        assert!(!import.report.is_incomplete(), "{}", import.report);
        has(
            "error_page 403 =404 /no; location / { return 403; } location = /no { return 404 no; }",
            &[
                "path = \"/no\"\nrespond = { status = 404, body = \"no\"",
                "name = \"not-found\"\nrespond = { status = 404, body = \"no\"",
            ],
        );
    }

    #[test]
    fn statuses_count_as_the_location_says_that_takes_the_rest() {
        let other = has(
            "location = /h { proxy_next_upstream error http_500; proxy_pass http://u; } location / { proxy_pass http://u; }",
            &["[pool.u"],
        );
        assert!(!other.text.contains("count = "), "{}", other.text);
        let rest = has(
            "location /h { proxy_pass http://u; }\nlocation / { proxy_next_upstream error http_500; proxy_pass http://u; }",
            &["count = [\"connect\", \"reset\", \"timeout\", \"500\"]"],
        );
        assert_eq!(verdict(&rest, 4), Some(Verdict::Approximated), "{}", rest.report);
    }

    #[test]
    fn a_rewrite_to_another_location_is_told_on_its_own_line() {
        let server = "location ~ ^/old/ {\nrewrite ^/old/(.*)$ /new/$1 last; }\nlocation /new/ { proxy_pass http://u; }";
        let import =
            has(server, &["rewrite = { path_regex = \"^/old/(.*)$\", path = \"/new/{1}\"", "pool = \"u\""]);
        assert_eq!(verdict(&import, 4), Some(Verdict::Translated), "{}", import.report);
        assert!(!import.report.is_incomplete(), "{}", import.report);
    }

    #[test]
    fn numbers_of_limits_are_those_of_the_source() {
        let server = "limit_req_zone $binary_remote_addr zone=api:10m rate=100r/s;\n\
                      location / { limit_req zone=api burst=20 nodelay; proxy_pass http://u; }";
        let limit =
            "key = \"source\", prefix_v6 = 128, rate = \"100/s\", burst = 20, status = 503, size = 81920";
        let import = has(server, &[limit]);
        assert_eq!(verdict(&import, 3), Some(Verdict::WrongInSource));
    }

    #[test]
    fn settings_of_a_listener_that_differ_are_told_on_their_lines() {
        let server = "server_name a; location / { proxy_pass http://u; } }\n\
                      server { listen 80; server_name b;\nclient_header_timeout 5s;\nlocation / { proxy_pass http://u; keepalive_timeout 3s; }";
        let import = imported(server);
        assert_eq!(verdict(&import, 5), Some(Verdict::NotPossible), "{}", import.report);
        assert_eq!(verdict(&import, 6), Some(Verdict::NotPossible), "{}", import.report);
    }

    #[test]
    fn a_server_without_a_location_for_all_leaves_nothing_to_another() {
        let server = "server_name a.test; location / { proxy_pass http://u; } }\n\
                      server { listen 80; server_name b.test; location /only { proxy_pass http://u; }";
        has(server, &["host = \"b.test\"\nrespond = { status = 404 }"]);
    }
}
