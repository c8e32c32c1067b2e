//! Who may use the admin API: by where a request comes from and the token that it carries.

use std::fs;

use crate::harness::client;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, command, own_directory};
use crate::harness::wire::Message;

const FULL: &str = "full-0123456789abcdef";
const READ: &str = "read-0123456789abcdef";

/// A proxy with a file of each sort of tokens.
fn with_tokens(setup: impl Fn(Setup) -> Setup) -> (Origin, Proxy, String) {
    let directory = own_directory();
    fs::write(directory.join("full.token"), format!("{FULL}\n")).expect("a file");
    fs::write(directory.join("read.token"), format!("{READ}\n")).expect("a file");
    let directory = directory.display().to_string();
    let origin = Origin::saying("ok");
    let keys =
        format!("token_file = \"{directory}/full.token\"\nread_token_file = \"{directory}/read.token\"");
    let proxy = setup(Setup::http(&[origin.address()]).admin(&keys)).start();
    (origin, proxy, directory)
}

fn ask(proxy: &Proxy, method: &str, path: &str, token: &str, body: &str) -> Message {
    let field = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let length = body.len();
    client::ask(
        proxy.admin,
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{field}Content-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        ),
    )
}

#[test]
fn an_admin_api_that_others_reach_answers_only_those_with_a_token() {
    let (origin, proxy, directory) = with_tokens(Setup::open_admin);
    let endpoint = format!("/v1/pools/main/endpoints/{}", origin.address());
    let change = |token: &str| ask(&proxy, "PATCH", &endpoint, token, "{\"weight\":7}").status();
    for path in ["/v1/status", "/metrics", "/v1/events", "/v1/explain?url=/"] {
        let refused = ask(&proxy, "GET", path, "", "");
        assert_eq!(refused.status(), 401, "{path}");
        assert_eq!(refused.field("www-authenticate").as_deref(), Some("Bearer realm=\"plimsoll\""));
        assert_eq!(refused.field("content-type").as_deref(), Some("application/problem+json"));
        assert_eq!(ask(&proxy, "GET", path, READ, "").status(), 200, "{path}");
    }
    for path in ["/livez", "/readyz", "/health", "/health/pools/main"] {
        assert_eq!(ask(&proxy, "GET", path, "", "").status(), 200, "{path}");
    }
    assert_eq!((change(""), change("guess-0123456789abcdef"), change(READ)), (401, 401, 403));
    assert_eq!(ask(&proxy, "GET", "/v1/status", "guess-0123456789abcdef", "").status(), 401);
    assert_eq!(change(FULL), 200);
    // The file is read again when it has changed.
    fs::write(format!("{directory}/full.token"), "next-0123456789abcdef").expect("a file");
    assert_eq!((change(FULL), change("next-0123456789abcdef")), (401, 200));
}

#[test]
fn commands_bring_their_token_along() {
    let (origin, proxy, directory) = with_tokens(Setup::open_admin);
    let (admin, endpoint) = (proxy.admin.to_string(), format!("main/{}", origin.address()));
    // The Host is an address, which has to be allowed like any other; the loopback ones are.
    let call = |words: &[&str]| command(&[words, &["--admin", &admin]].concat());
    let refused = call(&["status"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("needs a token"), "{refused:?}");
    let (full, read) = (format!("{directory}/full.token"), format!("{directory}/read.token"));
    assert_eq!(call(&["status", "--token-file", &read]).status.code(), Some(0));
    assert_eq!(call(&["drain", &endpoint, "--force", "--token-file", &read]).status.code(), Some(1));
    assert_eq!(call(&["drain", &endpoint, "--force", "--token-file", &full]).status.code(), Some(0));
    assert_eq!(call(&["status", "--token-file", "/nonexistent.token"]).status.code(), Some(2));
}

#[test]
fn loopback_needs_no_token_for_what_operators_do() {
    let (origin, proxy, _directory) = with_tokens(|setup| setup);
    let endpoint = format!("/v1/pools/main/endpoints/{}", origin.address());
    assert_eq!(ask(&proxy, "GET", "/v1/status", "", "").status(), 200);
    assert_eq!(ask(&proxy, "PATCH", &endpoint, "", "{\"weight\":7}").status(), 200);
    // A wrong one is a mistake that is better noticed.
    assert_eq!(ask(&proxy, "GET", "/v1/status", "guess-0123456789abcdef", "").status(), 401);
}
