//! What guards keep, and what of two counts, from texts to routes.

use std::path::Path;

use super::super::Import;
use super::super::report::Verdict;
use super::super::surroundings::Surroundings;
use super::import;

fn translate(text: &str) -> Import {
    let around = Surroundings { environment: &|_| None, read: &|_| None, list: &|_| None };
    let import = import(&[("a.yaml", text)], around);
    if let Err(errors) = crate::config::load_text(&import.text, Path::new("plimsoll.toml"), &|_| None) {
        panic!("{errors}\n{}", import.text);
    }
    import
}

/// An Ingress of a host with one path and annotations.
fn ingress(name: &str, host: &str, path: &str, annotations: &[(&str, &str)]) -> String {
    let annotations: Vec<String> = annotations
        .iter()
        .map(|(key, value)| format!("nginx.ingress.kubernetes.io/{key}: \"{value}\""))
        .collect();
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations: {{{}}}\nspec:\n  ingressClassName: nginx\n  rules:\n  - host: {host}\n    http: {{paths: [{{path: {path}, pathType: Prefix, backend: {{service: {{name: {name}, port: {{number: 80}}}}}}}}]}}\n",
        annotations.join(", ")
    )
}

/// The controller's ConfigMap.
fn controller(data: &[(&str, &str)]) -> String {
    let data: Vec<String> = data.iter().map(|(key, value)| format!("  {key}: \"{value}\"\n")).collect();
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ingress-nginx-controller, namespace: ingress-nginx}}\ndata:\n{}",
        data.concat()
    )
}

/// The route of that name.
fn route<'i>(import: &'i Import, name: &str) -> &'i str {
    let name = format!("name = \"{name}\"");
    let routes = || import.text.split("[[route]]").skip(1);
    let found = routes().find(|route| route.lines().any(|line| line.trim() == name));
    found.unwrap_or_else(|| panic!("no {name} in {}", import.text))
}

fn verdict(import: &Import, line: &str) -> Verdict {
    let found = import.report.verdicts().find(|(at, _)| import.report.source(*at).contains(line));
    found.map(|(_, verdict)| verdict).unwrap_or_else(|| panic!("no {line}"))
}

#[test]
fn a_guard_of_the_server_closes_the_host_for_all_ingresses() {
    let text = ingress("a", "a.example", "/", &[("server-snippet", "deny all;")])
        + &ingress("b", "a.example", "/b", &[])
        + &ingress("c", "c.example", "/", &[]);
    let import = translate(&text);
    for name in ["a", "b"] {
        assert!(route(&import, name).contains("maintenance = true"), "{}", import.text);
    }
    assert!(!route(&import, "c").contains("maintenance"));
    let only = ingress("a", "a.example", "/", &[("configuration-snippet", "deny all;")])
        + &ingress("b", "a.example", "/b", &[]);
    let import = translate(&only);
    assert!(route(&import, "a").contains("maintenance = true"));
    assert!(!route(&import, "b").contains("maintenance"));
}

#[test]
fn a_guard_leaves_redirects_alone_that_nginx_makes_before_it_asks() {
    let of = |snippet: &str| {
        let text = ingress("a", "a.example", "/", &[("server-snippet", snippet)])
            + &ingress("b", "a.example", "/b", &[("permanent-redirect", "https://b.example/")]);
        let import = translate(&text);
        assert!(route(&import, "a").contains("maintenance = true"), "{}", import.text);
        route(&import, "b").contains("maintenance = true")
    };
    assert!(!of("deny all;"));
    assert!(!of("location ~ ^/(a|b)/ { if ($x) { return 403; } deny all; }"));
    assert!(of("if ($http_x) { return 403; }"));
    assert!(of("location /a { deny all; } return 404;"));
}

#[test]
fn nobody_has_a_name_in_a_certificate_that_nobody_asks_for() {
    for word in ["off", "optional_no_ca"] {
        let annotations = [
            ("auth-tls-secret", "default/ca"),
            ("auth-tls-verify-client", word),
            ("auth-tls-match-cn", "CN=a"),
        ];
        let import = translate(&ingress("a", "a.example", "/", &annotations));
        assert!(route(&import, "a").contains("maintenance = true"), "{}", import.text);
    }
}

#[test]
fn what_endpoints_are_told_of_certificates_no_client_says() {
    let text = ingress("a", "a.example", "/", &[("auth-tls-secret", "default/ca")])
        + &ingress("b", "a.example", "/b", &[])
        + &ingress("c", "c.example", "/", &[]);
    let import = translate(&text);
    for name in ["a", "b"] {
        assert!(route(&import, name).contains("ssl-client-subject-dn"), "{}", import.text);
    }
    assert!(!route(&import, "c").contains("ssl-client"));
}

#[test]
fn what_no_rule_takes_is_neither_redirected_nor_rewritten() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: a\n  annotations:\n    nginx.ingress.kubernetes.io/permanent-redirect: https://b.example/\n    nginx.ingress.kubernetes.io/force-ssl-redirect: \"true\"\n    nginx.ingress.kubernetes.io/proxy-body-size: 2m\nspec:\n  ingressClassName: nginx\n  defaultBackend: {service: {name: a, port: {number: 80}}}\n";
    let import = translate(text);
    let route = route(&import, "a");
    assert!(route.contains("pool = ") && route.contains("2MiB"), "{}", import.text);
    assert_eq!(verdict(&import, "permanent-redirect"), Verdict::Ignored);
    assert_eq!(verdict(&import, "force-ssl"), Verdict::Ignored);
}

#[test]
fn a_secret_of_another_namespace_closes_the_host() {
    let wrong = [("proxy-ssl-secret", "other/x"), ("auth-tls-secret", "other/ca")];
    let text = ingress("a", "a.example", "/", &wrong) + &ingress("b", "a.example", "/b", &[]);
    let import = translate(&text);
    assert!(route(&import, "b-closed").contains("respond = { status = 403 }"), "{}", import.text);
    assert!(import.report.to_string().contains("answers 403 to all who ask for the host"));
}

#[test]
fn guards_of_the_controller_hold_everywhere() {
    let map = [
        ("block-cidrs", "10.77.0.0/16"),
        ("denylist-source-range", "10.66.0.0/16"),
        ("block-user-agents", "curl/7.1,~*scanner"),
        ("global-auth-url", "http://gate.auth.svc:9000/ask"),
    ];
    let text = controller(&map)
        + &ingress("a", "a.example", "/", &[])
        + &ingress(
            "b",
            "b.example",
            "/",
            &[("denylist-source-range", "10.88.0.0/16"), ("enable-global-auth", "false")],
        );
    let import = translate(&text);
    let (a, b) = (route(&import, "a"), route(&import, "b"));
    assert!(a.contains("deny = [\"10.66.0.0/16\", \"10.77.0.0/16\"]"), "{a}");
    assert!(b.contains("deny = [\"10.88.0.0/16\", \"10.77.0.0/16\"]"), "{b}");
    assert!(a.contains("forward_auth = ") && !b.contains("forward_auth = "));
    let blocked = route(&import, "blocked-user-agent");
    assert!(blocked.contains(r"'(?i:^curl/7\.1$)|(?i:scanner)'"), "{blocked}");
}

#[test]
fn a_guard_of_the_controller_that_cannot_be_read_lets_nobody_in() {
    for (key, value) in [
        ("whitelist-source-range", "10.0.0/8"),
        ("denylist-source-range", "all"),
        ("block-cidrs", "x"),
        ("block-user-agents", "~("),
        ("block-referers", "good,~*["),
        ("global-auth-url", "http://$host/"),
        ("http-snippet", "deny 10.0.0.0/8;"),
        ("location-snippet", "auth_basic x;"),
    ] {
        let import = translate(&(controller(&[(key, value)]) + &ingress("a", "a.example", "/", &[])));
        assert!(route(&import, "a").contains("maintenance = true"), "{key}: {}", import.text);
    }
}

#[test]
fn of_two_the_later_one_counts() {
    let text = ingress("a", "a.example", "/", &[]).replace(
        "annotations: {}",
        "annotations:\n      nginx.ingress.kubernetes.io/whitelist-source-range: 0.0.0.0/0\n      nginx.ingress.kubernetes.io/whitelist-source-range: 10.0.0.0/8",
    );
    let import = translate(&text);
    assert!(route(&import, "a").contains("allow = [\"10.0.0.0/8\"]"), "{}", import.text);
    let text = ingress("a", "a.example", "/old", &[])
        + &ingress("a", "a.example", "/new", &[("whitelist-source-range", "10.0.0.0/8")]);
    let import = translate(&text);
    assert!(!import.text.contains("\"/old\""), "{}", import.text);
    assert!(route(&import, "a").contains("allow = [\"10.0.0.0/8\"]"));
    assert_eq!(verdict(&import, "/old"), Verdict::Ignored);
}

#[test]
fn a_path_may_be_redirected_to_for_good_only() {
    let text = ingress("a", "a.example", "/", &[("permanent-redirect", "/new")])
        + &ingress("b", "b.example", "/", &[("temporal-redirect", "/new")])
        + &ingress("c", "c.example", "/", &[("permanent-redirect", "new")]);
    let import = translate(&text);
    assert!(route(&import, "a").contains("to = \"{scheme}://{host}/new\", status = 301"), "{}", import.text);
    assert!(route(&import, "b").contains("pool = "));
    assert!(route(&import, "c").contains("respond = { status = 503 }"));
}

#[test]
fn fields_of_answers_are_those_that_the_controller_allows() {
    let fields = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: fields}\ndata:\n  X-Own: yes\n";
    let of = |map: &str| {
        translate(
            &(map.to_owned()
                + fields
                + &ingress("a", "a.example", "/", &[("custom-headers", "default/fields")])),
        )
    };
    assert!(route(&of(""), "a").contains("x-own"));
    assert!(route(&of(&controller(&[("global-allowed-response-headers", "X-Own")])), "a").contains("x-own"));
    let closed = of(&controller(&[("use-gzip", "true")]));
    assert!(route(&closed, "a-closed").contains("respond = { status = 503 }"), "{}", closed.text);
}

#[test]
fn a_certificate_may_be_for_hosts_that_it_does_not_name() {
    let of = |tls: &str| {
        translate(&ingress("a", "a.example", "/", &[]).replace("  rules:", &format!("  tls:\n{tls}  rules:")))
    };
    let import = of("  - secretName: any\n");
    assert!(import.text.contains("secrets/default.any.crt"), "{}", import.text);
    assert!(import.report.to_string().contains("a.example is not among its hosts"));
    let import = of("  - {hosts: [b.example], secretName: other}\n");
    assert!(import.text.contains("secrets/default.other.crt"), "{}", import.text);
    let import = of("  - {hosts: [a.example], secretName: own}\n  - secretName: any\n");
    assert!(import.text.contains("default.own.crt") && !import.text.contains("default.any.crt"));
    assert_eq!(verdict(&import, "secretName: any"), Verdict::Ignored);
}

#[test]
fn what_is_said_of_requests_does_nothing_where_tls_goes_through() {
    let import = translate(
        &ingress("a", "a.example", "/", &[("ssl-passthrough", "true"), ("proxy-body-size", "1m")])
            .replace("{nginx", "{\n    nginx")
            .replace(", nginx", ",\n    nginx"),
    );
    assert_eq!(verdict(&import, "proxy-body-size"), Verdict::Ignored);
}

#[test]
fn marks_between_documents_say_nothing() {
    let text = "a: |\n  b\n---\na: [\n---\n".to_owned() + &ingress("a", "a.example", "/", &[]);
    let import = translate(&text);
    let marks = import.report.verdicts().filter(|(at, _)| import.report.source(*at) == "---");
    assert!(marks.map(|(_, verdict)| verdict).all(|verdict| verdict == Verdict::Translated));
}

#[test]
fn what_differs_of_mirrors_and_times_is_told() {
    let text = ingress(
        "a",
        "a.example",
        "/",
        &[
            ("mirror-target", "http://copy.svc$request_uri"),
            ("mirror-request-body", "off"),
            ("proxy-read-timeout", "5"),
            ("proxy-next-upstream", "invalid_header"),
        ],
    );
    let report = translate(&text).report.to_string();
    for told in ["no copy is made", "copies have the Host", "that of proxy-send-timeout", "invalid_header is"]
    {
        assert!(report.contains(told), "{told}: {report}");
    }
}

/// A Gateway with these listeners, and routes that belong to it.
fn gateway(listeners: &str, rest: &str) -> Import {
    translate(&format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec:\n  gatewayClassName: x\n  listeners:\n{listeners}{rest}"
    ))
}

/// An HTTPRoute with a rule.
fn http_route(name: &str, section: &str, rule: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: [{{name: g, sectionName: {section}}}]\n  rules: [{rule}]\n"
    )
}

#[test]
fn who_asks_for_certificates_of_another_authority_lets_nobody_in() {
    let listener = |name: &str, ca: &str| {
        format!(
            "  - {{name: {name}, port: 443, protocol: HTTPS, hostname: {name}.example, tls: {{certificateRefs: [{{name: c}}], frontendValidation: {{caCertificateRefs: [{ca}]}}}}}}\n"
        )
    };
    let rule = "{backendRefs: [{name: s, port: 80}]}";
    let routes = http_route("a", "a", rule) + &http_route("b", "b", rule) + &http_route("c", "c", rule);
    let listeners = listener("a", "{kind: ConfigMap, name: one}")
        + &listener("b", "{kind: ConfigMap, name: two}")
        + &listener("c", "");
    let import = gateway(&listeners, &routes);
    assert!(!route(&import, "a").contains("maintenance"), "{}", import.text);
    assert!(route(&import, "b").contains("maintenance = true"), "{}", import.text);
    assert!(!import.text.contains("\"c.example\""), "{}", import.text);
}

#[test]
fn a_strange_filter_of_a_backend_is_not_skipped() {
    let rule = "{backendRefs: [{name: s, port: 80, filters: [{type: ExtensionRef, extensionRef: {group: x, kind: Guard, name: y}}]}]}";
    let import = gateway("  - {name: a, port: 80, protocol: HTTP}\n", &http_route("a", "a", rule));
    assert!(route(&import, "a").contains("respond = { status = 500 }"), "{}", import.text);
}

#[test]
fn which_labels_a_namespace_has_is_not_guessed() {
    let listener = "  - {name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {x: y}}}}}\n";
    let import = gateway(listener, &http_route("a", "a", "{backendRefs: [{name: s, port: 80}]}"));
    assert_eq!(verdict(&import, "parentRefs"), Verdict::NotPossible);
    assert!(!import.text.contains("[[route]]"), "{}", import.text);
}

#[test]
fn a_redirect_ends_with_a_question_mark_only_where_there_is_a_query() {
    let rule = "{filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /b}}}]}";
    let import = gateway("  - {name: a, port: 80, protocol: HTTP}\n", &http_route("a", "a", rule));
    assert!(route(&import, "a").contains("{hostname}/b{?query}"), "{}", import.text);
}

#[test]
fn a_class_that_no_file_knows_is_told() {
    let of = |class: &str, annotations: &[(&str, &str)]| {
        let own = ingress("a", "a.example", "/", annotations);
        let own = own.replace("Name: nginx", &format!("Name: {class}"));
        translate(&(own + &ingress("b", "b.example", "/", &[])))
    };
    let import = of("public", &[]);
    assert!(!import.text.contains("\"a.example\""), "{}", import.text);
    assert_eq!(verdict(&import, "name: a"), Verdict::NotPossible);
    assert!(of("public", &[("limit-rps", "1")]).text.contains("\"a.example\""));
    let import = of("traefik", &[("limit-rps", "1")]);
    assert_eq!(verdict(&import, "name: a"), Verdict::Ignored);
}

#[test]
fn groups_have_numbers_or_names() {
    let of = |path: &str| {
        let text = ingress("a", "a.example", path, &[("rewrite-target", "/x/$2")])
            .replace("Prefix", "ImplementationSpecific");
        route(&translate(&text), "a").to_owned()
    };
    assert!(of("'/a/(?<one>b+)/(c)'").contains("\"/x/{2}\""));
    assert!(of("'/a/(?:b+)/([(]c)'").contains("\"/x/\""));
}

#[test]
fn what_cannot_be_read_of_a_path_closes_all_that_it_could_take() {
    for (path, taken) in [("'/ab?(?=c)'", "^/a'"), ("'/ab(?=c)'", "^/ab'"), ("'/ab(?=c)|/d'", "^/'")] {
        let text = ingress("a", "a.example", path, &[("use-regex", "true")])
            .replace("Prefix", "ImplementationSpecific");
        let import = translate(&text);
        let closed = route(&import, "a-closed");
        assert!(closed.replace('"', "'").contains(taken) && closed.contains("503"), "{}", import.text);
    }
}

#[test]
fn nobody_is_believed_of_whom_it_cannot_be_said() {
    for (key, value) in [("proxy-real-ip-cidr", "10.0.0/8"), ("forwarded-for-header", "X-Own-Client")] {
        let map = controller(&[("use-forwarded-headers", "true"), (key, value)]);
        let import = translate(&(map + &ingress("a", "a.example", "/", &[])));
        assert!(import.text.contains("trusted_proxies = []"), "{}", import.text);
    }
}

#[test]
fn snippets_guard_by_what_they_do() {
    let of = |snippet: &str| {
        let import = translate(&ingress("a", "a.example", "/", &[("configuration-snippet", snippet)]));
        route(&import, "a").contains("maintenance = true")
    };
    for guard in ["deny\tall;", "if ($x) {return 444;}", "auth_jwt x;", "return 503;", "internal;"] {
        assert!(of(guard), "{guard}");
    }
    for open in [
        "limit_rate 5k;",
        "# deny all;",
        "return 301 https://b.example/;",
        "more_set_headers 'X-Allow: yes';",
    ] {
        assert!(!of(open), "{open}");
    }
}

#[test]
fn a_name_with_a_dot_at_its_end_is_no_field() {
    let text = ingress("a", "a.example", "/", &[("limit-rps", "1")]).replace("annotations:", "annotations.:");
    assert_eq!(verdict(&translate(&text), "annotations.:"), Verdict::WrongInSource);
}

#[test]
fn lines_of_a_lost_text_that_say_nothing_have_no_verdict() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: |\n    b\n\n    # c\ndata: {a: b}\n---\n".to_owned()
        + &ingress("a", "a.example", "/", &[]);
    let import = translate(&text);
    let silent = |line: &str| line.is_empty() || line.starts_with('#');
    assert!(!import.report.verdicts().any(|(at, _)| silent(import.report.source(at))), "{}", import.report);
}
