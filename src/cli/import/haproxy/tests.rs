//! Small sources and what has to come of them: the traps of HAProxy's files that people run, and who is let in.

use super::super::Import;
use super::super::report::Verdict;
use super::super::surroundings::Surroundings;
use super::import;

fn imported(text: &str) -> Import {
    let around = Surroundings { environment: &|_| None, read: &|_| None, list: &|_| None };
    import(&[("haproxy.cfg", text)], around)
}

#[test]
fn a_frontend_and_a_backend_may_have_one_name() {
    let import = imported(
        "defaults\n mode http\n timeout client 1s\n timeout server 1s\n timeout connect 1s\nfrontend app\n bind :80\n \
         http-request deny if { path /front }\n default_backend app\nbackend app\n http-request deny if { path /back }\n \
         server a 10.0.0.1:80\n",
    );
    for part in ["[listener.app]", "path = \"/front\"", "path = \"/back\"", "pool = \"app\"", "[pool.app]"] {
        assert!(import.text.contains(part), "{part} is not in\n{}", import.text);
    }
    assert_eq!(import.text.matches("path = \"/front\"").count(), 1, "{}", import.text);
    assert!(!import.report.is_incomplete(), "{}", import.report);
}

#[test]
fn routes_that_nothing_can_reach_are_left_out() {
    let import = imported(
        "defaults\n mode http\nfrontend f\n bind :80\n use_backend a if { src 10.0.0.0/8 }\n use_backend b if { src 10.0.0.0/8 }\n \
         default_backend a\nbackend a\n server a 10.0.0.1:80\nbackend b\n server b 10.0.0.2:80\n",
    );
    assert!(!import.text.contains("pool = \"b\""), "{}", import.text);
}

const HEAD: &str = "defaults\n mode http\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n timeout http-request 1s\n";

/// What a frontend with these rules, in front of a backend of one server, comes to.
fn web(rules: &str) -> Import {
    imported(&format!(
        "{HEAD}frontend web\n bind :80\n{rules}\n default_backend app\nbackend app\n server a 10.0.0.1:80\n"
    ))
}

/// The verdict on a line and all that is said of it.
fn said(import: &Import, line: &str) -> (Option<Verdict>, String) {
    let found = import.report.verdicts().find(|(at, _)| import.report.source(*at) == line);
    let texts = found.map(|(at, _)| {
        import.report.remarks(at).iter().map(|remark| remark.text.clone()).collect::<Vec<_>>()
    });
    (found.map(|(_, verdict)| verdict), texts.unwrap_or_default().join("; "))
}

/// Each trap by the line that it is in, and a part of the reason.
#[test]
fn traps_are_told_with_their_reasons() {
    let sticky = "backend b\n stick-table type ip size 200k expire 30m\n stick on src\n server a 10.0.0.1:80 check\n server b 10.0.0.2:80 check backup\n";
    let tracks = "backend b\n stick-table type ip size 200k expire 30m\n http-request track-sc0 src\n server a 10.0.0.1:80\n";
    let counts = "backend b\n stick-table type ip size 1m expire 1m store conn_rate(10s)\n http-request track-sc0 src\n http-request deny if { sc1_conn_rate gt 3 }\n server a 10.0.0.1:80\n";
    let never = " acl fail sc1_conn_fail gt 3\n acl gone sc1_marked_remove lt 1\n http-request silent-drop if fail gone";
    let traps: [(&str, String, &str, &str); 9] = [
        ("authorities have no keys", " bind :443 ssl crt /etc/ssl/certs/".to_owned(), "bind :443 ssl crt /etc/ssl/certs/", "authorities has no keys"),
        ("all clients of a network are taken for probes", " acl is-health-check src 10.0.0.0/8\n use_backend health if is-health-check\nbackend health\n server h 10.0.0.9:80".to_owned(), "use_backend health if is-health-check", "every client of 10.0.0.0/8 goes to health"),
        ("clients stay on the backup", sticky.to_owned(), "stick on src", "stay there while they come, although a primary is back"),
        ("one source for everybody", sticky.to_owned(), "stick on src", "behind a CDN or NAT many clients have one source"),
        ("a table that counts nothing", tracks.to_owned(), "http-request track-sc0 src", "has no `store`, so nothing is counted"),
        ("a counter that nothing tracks", counts.to_owned(), "http-request deny if { sc1_conn_rate gt 3 }", "no rule of this section tracks sc1"),
        ("a fetch that is not there", never.to_owned(), "acl fail sc1_conn_fail gt 3", "there is no fetch `sc1_conn_fail`"),
        ("another one", never.to_owned(), "acl gone sc1_marked_remove lt 1", "they tell of the client, never of a server: `observe` does"),
        ("a rule of these", never.to_owned(), "http-request silent-drop if fail gone", "cannot be asked"),
    ];
    for (name, rules, line, reason) in traps {
        let import = if rules.starts_with("backend") {
            imported(&format!("{HEAD}frontend web\n bind :80\n default_backend b\n{rules}"))
        } else {
            web(&rules)
        };
        let (verdict, texts) = said(&import, line);
        assert_eq!(verdict, Some(Verdict::WrongInSource), "{name}: {texts}");
        assert!(texts.contains(reason), "{name}: {texts}");
    }
    let slow = HEAD.replace(" timeout http-request 1s\n", "");
    let import = imported(&format!(
        "{slow}frontend web\n bind :80\n default_backend b\nbackend b\n retries 2\n server a 10.0.0.1:80\n"
    ));
    assert!(said(&import, "timeout client 1s").1.contains("slowloris"));
    assert!(said(&import, "retries 2").1.contains("HAProxy waits and asks the same server again"));
}

#[test]
fn nobody_gets_past_a_refusal_that_cannot_be_said() {
    for (rules, part) in [
        (
            " http-request deny if { path_beg /admin } { lua.known 1 }",
            "path_regex = \"^/admin\"\nrespond = { status = 403 }",
        ),
        (" http-request deny unless { src -f nowhere.lst }", "name = \"deny\"\nrespond = { status = 403 }"),
        (
            " http-request auth if { path_beg /admin } { lua.known 1 }",
            "path_regex = \"^/admin\"\nrespond = { status = 401 }",
        ),
        (
            " http-request deny if { path_beg /a } { path_reg b$ }",
            "path_regex = \"^/a\"\nrespond = { status = 403 }",
        ),
    ] {
        let import = web(rules);
        let (verdict, texts) = said(&import, rules.trim());
        assert_eq!(verdict, Some(Verdict::NotPossible), "{texts}");
        assert!(texts.contains("Until then all that it might refuse is refused"), "{rules}: {texts}");
        assert!(import.text.contains(part), "{rules}:\n{}", import.text);
    }
    // What a client did before is a limit, not a right.
    let counted = web(" http-request deny if { sc_http_err_rate(0) gt 3 }");
    assert!(counted.report.is_incomplete() && !counted.text.contains("respond"), "{}", counted.text);
}

#[test]
fn whom_a_rule_accepts_no_later_one_refuses() {
    let listed = web(" tcp-request connection accept if { src 10.0.0.0/8 }\n tcp-request connection reject");
    assert!(
        listed.text.contains("allow = [\"10.0.0.0/8\"]") && !listed.text.contains("respond"),
        "{}",
        listed.text
    );
    let all = web(" tcp-request content accept if HTTP\n tcp-request content reject");
    assert!(!all.text.contains("respond") && !all.text.contains("deny"), "{}", all.text);
    let relayed = imported(
        "defaults\n timeout connect 1s\n timeout client 1s\n timeout server 1s\nlisten l\n bind :90\n tcp-request connection reject\n \
         server a 10.0.0.1:80\n",
    );
    assert!(relayed.text.contains("deny = [\"0.0.0.0/0\", \"::/0\"]"), "{}", relayed.text);
}

#[test]
fn rules_see_what_rules_before_them_have_left() {
    let moved =
        web(" http-request replace-path ^/cloud/(.*)$ /\\1\n http-request deny if { path_beg /data/ }");
    for part in
        ["path_regex = \"^/cloud/data/\"", "path_regex = \"^/data/\"", "path_regex = \"^/cloud/(.*)$\"\npool"]
    {
        assert!(moved.text.contains(part), "{part} is not in\n{}", moved.text);
    }
    let told = web(" http-request del-header X-Debug\n http-request deny if { hdr(x-debug) 1 }");
    assert!(!told.text.contains("respond"), "{}", told.text);
    let sent = web(" http-request set-path /a%[path]\n redirect scheme https if { path_beg /a/old }");
    for part in ["path_regex = \"^/old\"", "to = \"https://{host}/a{uri}\""] {
        assert!(sent.text.contains(part), "{part} is not in\n{}", sent.text);
    }
}

#[test]
fn rules_see_fields_that_every_endpoint_is_told_as_rules_before_them_set_them() {
    let told = imported(&format!(
        "{HEAD}frontend web\n bind :80\n bind :443 ssl crt /a.pem\n http-request del-header X-Forwarded-Proto\n \
         http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}\n \
         redirect scheme https unless {{ hdr(X-Forwarded-Proto) https }}\n default_backend app\nbackend app\n \
         server a 10.0.0.1:80\n"
    ));
    assert!(!told.text.contains("x-forwarded-proto"), "{}", told.text);
    assert!(told.text.contains("listeners = [\"web-tls\"]\npool = \"app\""), "{}", told.text);
    let scheme = web(
        " http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n http-request deny if { hdr(x-forwarded-proto) https }",
    );
    assert!(!scheme.text.contains("respond"), "{}", scheme.text);
    // What cannot be said is no longer what the client says.
    let forged =
        web(" http-request set-header X-Role %[lua.role]\n http-request deny unless { hdr(x-role) admin }");
    assert!(forged.text.contains("name = \"deny\"\nrespond = { status = 403 }"), "{}", forged.text);
    let perhaps = web(
        " http-request set-header X-Bad 1 if { lua.bad 1 }\n http-request deny if { hdr(x-bad) 1 }\n use_backend app if { path /a }",
    );
    assert!(perhaps.text.contains("name = \"deny\"\nrespond = { status = 403 }"), "{}", perhaps.text);
}

#[test]
fn what_haproxy_keeps_of_a_request_no_rule_changes() {
    let kept = web(
        " http-request set-path /a%[path]\n http-request set-header X-Original %[capture.req.uri]\n http-request set-header X-Now %[url]\n \
         http-response set-header X-Was %HU",
    );
    for part in ["x-original = \"{uri}\"", "x-now = \"/a{uri}\"", "x-was = \"{uri}\""] {
        assert!(kept.text.contains(part), "{part} is not in\n{}", kept.text);
    }
}

#[test]
fn what_a_condition_cannot_ask_is_not_asked_in_another_way() {
    for condition in [
        "{ hdr(x-real-ip) -m ip 10.0.0.0/8 }",
        "{ hdr(x-size) -m int gt 100 }",
        "{ hdr(x-a),field(1,:) a }",
        "{ method -m reg ^P }",
        "{ ssl_fc_sni -m found }",
    ] {
        let rule = format!("http-request deny if {condition}");
        let import = web(&format!(" {rule}"));
        let (verdict, texts) = said(&import, &rule);
        assert_eq!(verdict, Some(Verdict::NotPossible), "{rule}: {texts}");
        assert!(import.text.contains("name = \"deny\"\nrespond = { status = 403 }"), "{}", import.text);
    }
    let allowed = web(" http-request allow if { lua.ok 1 }\n http-request deny");
    assert_eq!(said(&allowed, "http-request allow if { lua.ok 1 }").0, Some(Verdict::NotPossible));
    let unread = web(" http-request deny deny_status 600 if { path /a }");
    assert!(unread.text.contains("path = \"/a\"\nrespond = { status = 403 }"), "{}", unread.text);
}

#[test]
fn redirects_lead_where_haproxy_leads() {
    for (rule, to) in [
        ("redirect prefix https://b.test/", "https://b.test/{uri}"),
        ("redirect prefix /", "{uri}"),
        ("redirect prefix / drop-query append-slash", "{path}/"),
        ("redirect prefix https://b.test append-slash", "https://b.test{uri}/"),
        ("redirect scheme https drop-query", "https://{host}{path}"),
        ("redirect location /new keep-query", "/new{?query}"),
        ("redirect location /new", "/new"),
    ] {
        let import = web(&format!(" {rule} if {{ path /old }}"));
        assert!(import.text.contains(&format!("to = \"{to}\"")), "{rule}:\n{}", import.text);
    }
}

#[test]
fn a_table_that_nothing_counts_in_limits_nobody() {
    let table = "backend t\n stick-table type ip size 1k expire 1m store http_req_rate(10s)";
    let rule = "http-request deny if { src_http_req_rate(t) gt 5 }";
    let import = web(&format!(" {rule}\n default_backend app\n{table}"));
    assert_eq!(said(&import, rule).0, Some(Verdict::WrongInSource));
    let import = web(&format!(" http-request track-sc0 src table t\n {rule}\n default_backend app\n{table}"));
    assert!(import.text.contains("rate_limit = { name = \"t\""), "{}", import.text);
}

#[test]
fn a_refusal_that_asks_for_a_query_refuses_whatever_might_have_it() {
    for rule in [
        "http-request deny if { path_beg /x } { url_sub -i select }",
        "http-request deny if { path_beg /x } { url_beg /x?a }",
    ] {
        let import = web(&format!(" {rule}"));
        assert_eq!(said(&import, rule).0, Some(Verdict::NotPossible));
        assert!(import.text.contains("path_regex = \"^/x\"\nrespond = { status = 403 }"), "{}", import.text);
    }
    let led = web(" use_backend app if { url_sub a }");
    assert_eq!(said(&led, "use_backend app if { url_sub a }").0, Some(Verdict::Approximated));
}

#[test]
fn a_listener_lets_nobody_in_whom_haproxy_does_not() {
    let import = web(" bind :90 interface eth1\n bind :443 ssl crt a.pem verify required");
    assert!(import.text.contains("\"127.0.0.1:90\""), "{}", import.text);
    assert!(import.text.contains("client_ca = \"CLIENTS.pem\""), "{}", import.text);
}

/// What the servers and checks of a backend come to.
fn backend(lines: &str) -> Import {
    imported(&format!("{HEAD}frontend web\n bind :80\n default_backend app\nbackend app\n{lines}\n"))
}

#[test]
fn probes_need_no_host_of_a_request() {
    let import = backend(" server a 10.0.0.1:443 ssl verify none sni req.hdr(host) check");
    for part in ["server_name = \"{host}\"", "tls = { server_name = \"10.0.0.1\", verify = "] {
        assert!(import.text.contains(part), "{part} is not in\n{}", import.text);
    }
    let named = backend(" server a 10.0.0.1:443 ssl verify none sni req.hdr(host) check check-sni a.test");
    assert!(named.text.contains("server_name = \"a.test\""), "{}", named.text);
}

#[test]
fn a_check_is_its_first_connection() {
    let import = backend(
        " option tcp-check\n tcp-check connect port 81\n tcp-check send A\n tcp-check connect port 82 ssl\n tcp-check send B\n server a 10.0.0.1:80 check",
    );
    assert!(import.text.contains("send = \"A\"") && import.text.contains("port = 81"), "{}", import.text);
    assert_eq!(said(&import, "tcp-check send B").0, Some(Verdict::NotPossible));
    let statuses = backend(" option httpchk\n http-check expect ! rstatus ^5\n server a 10.0.0.1:80 check");
    assert!(statuses.text.contains("expect_status = [\"100-499\"]"), "{}", statuses.text);
}
