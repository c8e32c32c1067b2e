//! W3C Trace Context: what goes on to endpoints of every protocol, what is made where there is none, and what records say.

use crate::harness::between::lower;
use crate::harness::client::get;
use crate::harness::embedded::Embedded;
use crate::harness::http2::{Frames, Outcome, block};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::wire::Message;
use crate::harness::{free_port, own_ip};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What an endpoint and the record say of requests with these fields, for each pair of protocols.
fn seen(text: &str, fields: &[(&str, &str)], check: impl Fn(&Message, &serde_json::Value, &str)) {
    for (http2_in, http2_out) in [(false, false), (false, true), (true, false), (true, true)] {
        let origin = Origin::saying("ok");
        let endpoint = if http2_out { lower(origin.address()) } else { origin.address() };
        let protocol = if http2_out { "protocol = \"http2\"" } else { "" };
        let proxy = Setup::http(&[endpoint]).listener("h2c = true").pool(protocol).text(text).start();
        ask(&proxy, http2_in, fields);
        let case = format!("{text} {fields:?}, in {http2_in}, out {http2_out}");
        check(&origin.request(0), &proxy.records(1)[0], &case);
    }
}

fn ask(proxy: &Proxy, http2: bool, fields: &[(&str, &str)]) {
    if http2 {
        let mut head = vec![(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
        head.extend(fields);
        let outcome = Frames::connect(proxy.web).ask(1, &block(&head)).outcome(1);
        assert!(matches!(outcome, Outcome::Answer(200, _)));
    } else {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        proxy.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n"));
    }
}

/// The parts of the one `traceparent` that an endpoint was told.
fn parent(request: &Message) -> [String; 4] {
    let fields = request.fields("traceparent");
    assert_eq!(fields.len(), 1, "{fields:?}");
    let parts: Vec<String> = fields[0].split('-').map(str::to_owned).collect();
    let parts: [String; 4] = parts.try_into().expect("four parts");
    assert_eq!(parts.each_ref().map(String::len), [2, 32, 16, 2]);
    parts
}

#[test]
fn a_trace_that_came_goes_on_and_is_in_the_record() {
    let fields = [("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2, c@d=3")];
    seen("[tracing]", &fields, |request, record, case| {
        assert_eq!(request.fields("traceparent"), [PARENT], "{case}");
        assert_eq!(request.fields("tracestate").join(","), "a=1,b=2, c@d=3", "{case}");
        assert_eq!(record["trace_id"], TRACE, "{case}");
    });
    // A later version is spoken to in ours.
    let fields = [("traceparent", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-09-more")];
    seen("[tracing]", &fields, |request, _, case| {
        assert_eq!(request.fields("traceparent"), [PARENT], "{case}");
    });
}

#[test]
fn a_trace_that_is_missing_or_breaks_the_rules_is_made_anew() {
    let zero = PARENT.replace("b7ad6b7169203331", "0000000000000000");
    let cases: [&[(&str, &str)]; 5] = [
        &[],
        &[("tracestate", "a=1")],
        &[("traceparent", &PARENT.to_uppercase()), ("tracestate", "a=1")],
        &[("traceparent", &zero), ("tracestate", "a=1")],
        &[("traceparent", PARENT), ("traceparent", PARENT), ("tracestate", "a=1")],
    ];
    for fields in cases {
        seen("[tracing]", fields, |request, record, case| {
            let [version, trace, span, flags] = parent(request);
            assert_eq!((version.as_str(), flags.as_str()), ("00", "01"), "{case}");
            assert!(trace != TRACE && trace != "0".repeat(32) && span != "0".repeat(16), "{case}");
            assert_eq!(request.fields("tracestate"), [""; 0], "{case}");
            assert_eq!(record["trace_id"], trace.as_str(), "{case}");
        });
    }
}

#[test]
fn a_state_that_breaks_the_rules_goes_no_further() {
    let fields = [("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "B=2")];
    seen("[tracing]", &fields, |request, _, case| {
        assert_eq!(request.fields("traceparent"), [PARENT], "{case}");
        assert_eq!(request.fields("tracestate"), [""; 0], "{case}");
    });
}

#[test]
fn every_attempt_of_a_request_is_of_its_trace_and_another_request_is_not() {
    let silent = Origin::start(|mut session| session.request().map(drop));
    let spare = Origin::saying("ok");
    let proxy = Setup::http(&[silent.address(), spare.address()])
        .pool("balance = \"first\"\noutlier = \"off\"")
        .text("[tracing]\nsample = 0.0")
        .start();
    for place in 0..2 {
        proxy.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let told = parent(&spare.request(place));
        assert_eq!(told, parent(&silent.request(place)));
        assert_eq!(told[3], "00", "none is sampled");
    }
    assert_ne!(parent(&spare.request(0))[1], parent(&spare.request(1))[1]);
}

#[test]
fn only_trusted_peers_go_on_with_their_traces_where_that_is_asked() {
    let text = "[tracing]\naccept = \"trusted\"";
    seen(text, &[("traceparent", PARENT)], |request, _, case| {
        assert_ne!(parent(request)[1], TRACE, "{case}");
    });
    let origin = Origin::saying("ok");
    let proxy =
        Setup::http(&[origin.address()]).listener("trusted_proxies = [\"127.0.0.0/8\"]").text(text).start();
    ask(&proxy, false, &[("traceparent", PARENT)]);
    assert_eq!(parent(&origin.request(0))[1], TRACE);
}

#[test]
fn without_tracing_its_fields_are_like_any_other() {
    for text in ["", "[tracing]\npropagate = \"off\""] {
        seen(text, &[("traceparent", "junk"), ("tracestate", "B=2")], |request, record, case| {
            assert_eq!(request.fields("traceparent"), ["junk"], "{case}");
            assert_eq!(request.fields("tracestate"), ["B=2"], "{case}");
            assert!(record.get("trace_id").is_none(), "{case}");
        });
        seen(text, &[], |request, _, case| {
            assert_eq!(request.fields("traceparent"), [""; 0], "{case}");
        });
    }
}

#[test]
fn a_reload_begins_and_ends_it() {
    let (origin, web) = (Origin::saying("ok"), free_port(own_ip()));
    let text = |tracing: &str| {
        format!(
            "{tracing}\n[listener.web]\nbind = [\"{web}\"]\n[[route]]\nname = \"all\"\npool = \"main\"\n\
             [pool.main]\nendpoints = [\"{}\"]\n",
            origin.address()
        )
    };
    let proxy = Embedded::start(&text(""));
    for (place, (tracing, parents)) in
        [("", 0), ("[tracing]", 1), ("[tracing]\npropagate = \"off\"", 0)].into_iter().enumerate()
    {
        proxy.reload(&text(tracing));
        assert_eq!(get(web, "/").status(), 200);
        assert_eq!(origin.request(place).fields("traceparent").len(), parents, "{tracing}");
    }
}
