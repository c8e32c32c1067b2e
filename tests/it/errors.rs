//! Our own answers: short text, or JSON for who asks for it, with exactly the length that they say.

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;
use crate::harness::{free_port, own_ip};

#[test]
fn an_error_is_text_or_json_by_accept() {
    let proxy = Setup::http(&[free_port(own_ip())]).start();
    let ask =
        |accept: &str| proxy.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{accept}\r\n"));
    for accept in ["", "Accept: */*\r\n", "Accept: text/html, */*;q=0.1\r\n"] {
        let answer = ask(accept);
        assert!(answer.field("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{accept}");
        assert!(!answer.body.is_empty());
    }
    let answer = ask("Accept: application/json\r\n");
    assert!(answer.field("content-type").is_some_and(|kind| kind.contains("json")));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body["status"], 503);
}

#[test]
fn an_error_keeps_the_connection_where_framing_is_sure() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()])
        .routes("[[route]]\nname = \"one\"\npath_prefix = \"/here\"\npool = \"main\"\n")
        .start();
    let mut client = proxy.connect();
    assert_eq!(client.get("/nowhere").status(), 404);
    assert_eq!(client.post("/nowhere", "hello").status(), 404);
    assert_eq!(client.get("/here").text(), "ok");
}

#[test]
fn an_error_to_a_head_has_no_body() {
    let proxy = Setup::http(&[free_port(own_ip())]).start();
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(client.say("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").answer_to("HEAD").status(), 503);
    }
}

#[test]
fn errors_tell_nothing_of_the_inside() {
    let endpoint = free_port(own_ip());
    let proxy = Setup::http(&[endpoint]).start();
    let text = proxy.get("/").text();
    assert!(!text.contains(&endpoint.ip().to_string()) && !text.contains("os error"), "{text}");
}
