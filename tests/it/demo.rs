//! `plimsoll demo` is what a newcomer sees first: what its guide promises is true, and it ends cleanly.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::harness::proxy::Proxy;
use crate::harness::until;

#[test]
fn the_guide_tells_the_truth() {
    let mut demo = Proxy::demo();
    let guide = until("the guide", || {
        let text = demo.output().join("\n");
        text.contains("Stop with ctrl-c").then_some(text)
    });
    assert!(
        guide.contains(&format!("http://{}/", demo.web))
            && guide.contains(&format!("http://{}/", demo.admin))
    );
    let who: BTreeSet<String> = (0..3).filter_map(|_| demo.get("/").field("x-origin")).collect();
    assert_eq!(who.into_iter().collect::<Vec<_>>(), ["blue", "green", "red"]);
    assert!(demo.get("/headers").text().contains("x-forwarded-for: 127."));
    for _ in 0..3 {
        assert_eq!(demo.get("/kill/red").status(), 200, "another one answers");
    }
    assert_eq!(demo.get("/status/503").status(), 503);
    assert_eq!(
        (demo.get("/teapot").status(), demo.get("/teapot").text().as_str()),
        (418, "short and stout\n")
    );
    let moved = demo.get("/old/page");
    assert_eq!((moved.status(), moved.field("location").as_deref()), (308, Some("http://a/")));
    let status: serde_json::Value = serde_json::from_str(&demo.admin_get("/v1/status").text()).expect("JSON");
    assert_eq!(status["pools"][0]["endpoints"].as_array().map(Vec::len), Some(3));
    assert!(demo.metric("plimsoll_listener_accepted_total", "web") >= 10.0);
    until("the access log", || demo.output().iter().any(|line| line.contains("/teapot")).then_some(()));
    demo.signal(Signal::TERM);
    assert!(demo.wait().success());
}

#[test]
fn a_request_under_way_is_answered_before_it_ends() {
    let mut demo = Proxy::demo();
    let mut client = demo.connect();
    client.say("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request to be under way", || {
        (demo.metric("plimsoll_endpoint_in_flight", "") > 0.5).then_some(())
    });
    demo.signal(Signal::INT);
    assert_eq!(client.answer().status(), 200);
    assert!(demo.wait().success());
}
