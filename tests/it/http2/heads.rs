//! Heads across the bridge: what an endpoint sees of a request, and a client of an answer.

use super::{before, hits};
use crate::harness::http2::{self, Frames, Outcome, Session, request};
use crate::harness::origin::Origin;
use crate::harness::until;

#[test]
fn a_request_arrives_as_it_would_have_over_http_1() {
    let origin = Origin::saying("ok");
    let proxy = before(&origin).start();
    let answer = http2::run(async {
        let mut asked = request("GET", "/path?query=1");
        let headers = asked.headers_mut();
        headers.append("cookie", "a=1".parse().expect("a value"));
        headers.append("cookie", "b=2".parse().expect("a value"));
        headers.append("te", "trailers".parse().expect("a value"));
        headers.append("x-forwarded-for", "203.0.113.9".parse().expect("a value"));
        headers.append("content_length", "5".parse().expect("a value"));
        headers.append("x-custom", "kept".parse().expect("a value"));
        Session::connect(proxy.web).await.ask(asked).await.expect("an answer")
    });
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    let seen = origin.request(0);
    assert_eq!(seen.start_line(), "GET /path?query=1 HTTP/1.1");
    assert_eq!(seen.fields("host"), ["a"]);
    assert_eq!(seen.fields("cookie"), ["a=1; b=2"]);
    assert_eq!(seen.fields("x-forwarded-for").len(), 1);
    assert!(!seen.fields("x-forwarded-for")[0].contains("203.0.113.9"), "an untrusted peer says so");
    assert_eq!(seen.fields("x-forwarded-host"), ["a"]);
    assert_eq!(seen.fields("x-custom"), ["kept"]);
    for gone in ["te", "content_length", "content-length", "transfer-encoding", "connection"] {
        assert_eq!(seen.field(gone), None, "{gone}");
    }
}

#[test]
fn what_is_for_one_connection_alone_does_not_reach_the_client() {
    let origin = Origin::replying(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
          X-Kept: Yes\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nok",
    );
    let proxy = before(&origin).start();
    let answer = http2::run(async { Session::connect(proxy.web).await.get("/").await });
    let names: Vec<&str> = answer.headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["content-length", "x-kept", "set-cookie"]);
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
}

#[test]
fn answers_without_a_body_have_none() {
    let origin = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            match request.path().as_str() {
                "/204" => session.send("HTTP/1.1 204 No Content\r\n\r\n")?,
                "/304" => session.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n")?,
                _ => session.send("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")?,
            }
        }
        Ok(())
    });
    let proxy = before(&origin).start();
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let head = session.ask(request("HEAD", "/")).await.expect("an answer");
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.headers["content-length"], "7");
        for (path, status) in [("/204", 204), ("/304", 304)] {
            let answer = session.get(path).await;
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{path}");
        }
    });
    assert_eq!(origin.accepted(), 1, "each left its connection usable");
}

#[test]
fn interim_answers_come_before_the_answer() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
        session.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        session.ok("late")
    });
    let proxy = before(&origin).start();
    let mut frames = Frames::connect(proxy.web);
    frames.ask(1, &http2::get("/"));
    let hints = frames.until(http2::HEADERS);
    assert_eq!(hints.flags & http2::END_STREAM, 0);
    let head = frames.until(http2::HEADERS);
    assert_eq!(head.payload.first(), Some(&0x88), "the 100, which nobody expected, is left out");
    assert_eq!(frames.until(http2::DATA).payload, b"late");
}

#[test]
fn an_expectation_is_passed_on_and_answered() {
    let origin = Origin::start(|mut session| {
        let Some(mut head) = session.head()? else { return Ok(()) };
        session.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        session.wire.request_body(&mut head)?;
        session.ok(&head.text())
    });
    let proxy = before(&origin).start();
    let mut frames = Frames::connect(proxy.web);
    let mut block = http2::post("/");
    block.extend(http2::block(&[("expect", "100-continue"), ("content-length", "4")]));
    frames.say(http2::frame(http2::HEADERS, http2::END_HEADERS, 1, &block));
    let interim = frames.until(http2::HEADERS);
    assert_eq!(interim.flags & http2::END_STREAM, 0);
    assert_eq!(origin.request(0).field("expect").as_deref(), Some("100-continue"));
    frames.say(http2::frame(http2::DATA, http2::END_STREAM, 1, b"body"));
    assert_eq!(frames.outcome(1), Outcome::Answer(200, b"body".to_vec()));
}

#[test]
fn answers_of_our_own_have_their_status_and_text() {
    let origin = Origin::saying("ok");
    let routes = "[[route]]\nname = \"fixed\"\npath = \"/fixed\"\nrespond = { status = 418, body = \"short\" }\n\
                  response_headers = { set = { x-set = \"1\" } }\n\
                  [[route]]\nname = \"moved\"\npath = \"/moved\"\nredirect = { to = \"https://{host}{uri}\", status = 308 }\n";
    let proxy = before(&origin).routes(routes).start();
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let fixed = session.get("/fixed").await;
        assert_eq!((fixed.status, fixed.text().as_str()), (418, "short"));
        assert_eq!(fixed.headers["x-set"], "1");
        let moved = session.get("/moved?x=y").await;
        assert_eq!(
            (moved.status, &moved.headers["location"]),
            (308, &"https://a/moved?x=y".parse().expect("a value"))
        );
        assert_eq!(session.get("/other").await.status, 404);
    });
    assert!(origin.seen().is_empty());
}

#[test]
fn heads_over_a_limit_are_refused_with_its_status_and_counted() {
    let origin = Origin::saying("ok");
    let limits = "limits = { head = \"2KiB\", fields = 10, target = \"100B\" }";
    let proxy = before(&origin).listener(limits).start();
    let long = "x".repeat(3000);
    let ask = |path: &str, fields: &[(&str, &str)]| {
        let mut block = http2::get(path);
        block.extend(http2::block(fields));
        Frames::connect(proxy.web).ask(1, &block).outcome(1)
    };
    let status = |outcome| match outcome {
        Outcome::Answer(status, _) => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status(ask("/", &[("x", &long)])), 431);
    assert_eq!(status(ask("/", &[("x", "y"); 11])), 431);
    assert_eq!(status(ask(&format!("/{}", &long[..200]), &[])), 414);
    // More than h2 decodes at all.
    let ask_much = ask("/", &[("x", &long), ("y", &long)]);
    assert_eq!(status(ask_much), 431);
    // What h2 answers by itself is counted when it has gone out.
    let counts = || (hits(&proxy, "head"), hits(&proxy, "fields"), hits(&proxy, "target"));
    until("all four to be counted", || (counts() == (2.0, 1.0, 1.0)).then_some(()));
    assert!(origin.seen().is_empty());
}

#[test]
fn both_versions_are_spoken_on_one_port() {
    let origin = Origin::saying("ok");
    let proxy = before(&origin).start();
    assert_eq!(proxy.get("/").text(), "ok");
    assert_eq!(
        Frames::connect(proxy.web).ask(1, &http2::get("/")).outcome(1),
        Outcome::Answer(200, b"ok".to_vec())
    );
    // The preface may come in pieces, and so may the head of a request that begins alike.
    let mut pieces = proxy.connect();
    for piece in ["P", "RI * H", "TTP/2.0\r\n\r\nSM\r\n", "\r\n"] {
        pieces.say(piece);
        assert!(pieces.silent_for(std::time::Duration::from_millis(20)) || piece == "\r\n");
    }
    assert_eq!(pieces.take(4).expect("SETTINGS")[3], http2::SETTINGS);
    let mut post = proxy.connect();
    post.say("P");
    assert!(post.silent_for(std::time::Duration::from_millis(20)));
    assert_eq!(post.say("OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").answer().status(), 200);
}

#[test]
fn without_h2c_a_preface_is_no_request() {
    let origin = Origin::saying("ok");
    let proxy = crate::harness::proxy::Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    assert_eq!(client.say(http2::PREFACE).answer().status(), 505);
}

#[test]
fn a_request_leaves_one_record() {
    let origin = Origin::saying("hello");
    let proxy = before(&origin).start();
    let answer = http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        session.post(request("POST", "/logged"), b"12345".to_vec()).await.expect("an answer")
    });
    assert_eq!(answer.status, 200);
    let record = &proxy.records(1)[0];
    for (key, value) in [("protocol", "HTTP/2"), ("method", "POST"), ("target", "/logged"), ("end", "done")] {
        assert_eq!(record[key], value, "{record}");
    }
    assert_eq!(
        (&record["bytes_in"], &record["bytes_out"], &record["status"]),
        (&5.into(), &5.into(), &200.into())
    );
}
