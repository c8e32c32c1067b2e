//! HTTP probes: what is sent, and which answers are good, a "no", or none.

use plimsoll::control::health::probe::Check;
use plimsoll::control::health::probe::expect::Expect;
use plimsoll::control::health::probe::http::{BODY_MAX, Http, RequestHead};
use plimsoll::control::health::probe::outcome::Outcome;
use plimsoll::policy::health::Verdict;

use crate::ask;
use crate::origin::{Origin, Step, nobody};

const HEAD_END: &[u8] = b"\r\n\r\n";

fn get() -> Http {
    Http::new(RequestHead::new("GET", "/health?deep=1", None, &[]).expect("a request"))
}

async fn answered(check: Http, answer: &[u8]) -> Outcome {
    let origin = Origin::answer(HEAD_END, answer).await;
    ask(Check::Http(Box::new(check)), origin.address).await
}

#[tokio::test]
async fn a_request_names_the_address_and_asks_to_close() {
    let mut origin = Origin::answer(HEAD_END, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let outcome = ask(Check::Http(Box::new(get())), origin.address).await;
    assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
    let heard = origin.heard().await;
    let text = String::from_utf8(heard.bytes).expect("text").to_ascii_lowercase();
    assert!(text.starts_with("get /health?deep=1 http/1.1\r\n"), "{text}");
    assert!(text.contains(&format!("\r\nhost: {}\r\n", origin.address)), "{text}");
    assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn the_operator_decides_method_host_and_fields() {
    let mut origin = Origin::answer(HEAD_END, b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let fields: [(&str, &[u8]); 2] = [("x-probe", b"1"), ("user-agent", b"mine")];
    let check = Http::new(RequestHead::new("OPTIONS", "/", Some("api.test"), &fields).expect("a request"));
    let outcome = ask(Check::Http(Box::new(check)), origin.address).await;
    assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
    let text = String::from_utf8(origin.heard().await.bytes).expect("text").to_ascii_lowercase();
    assert!(text.starts_with("options / http/1.1\r\n"), "{text}");
    for field in ["\r\nhost: api.test\r\n", "\r\nx-probe: 1\r\n", "\r\nuser-agent: mine\r\n"] {
        assert!(text.contains(field), "{text}");
    }
}

#[tokio::test]
async fn another_status_is_a_no_with_the_answer_as_evidence() {
    let answer = b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nfull";
    let outcome = answered(get(), answer).await;
    assert_eq!(outcome.verdict, Verdict::SaysNo);
    assert_eq!(outcome.evidence.what, "status 503");
    assert!(answer.starts_with(&outcome.evidence.bytes) && !outcome.evidence.bytes.is_empty());
    let phases = outcome.evidence.phases;
    assert!(phases.connect <= phases.first_byte && phases.first_byte <= Some(phases.total));
    assert!(phases.connect.is_some() && phases.tls.is_none());
}

#[tokio::test]
async fn evidence_is_bounded() {
    let answer = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'x'; 4096]].concat();
    assert_eq!(answered(get(), &answer).await.evidence.bytes, answer[..256]);
}

#[tokio::test]
async fn listed_statuses_are_good_and_no_others() {
    let check = || Http { expect_status: vec![(200, 200), (301, 399)], ..get() };
    for (status, verdict) in
        [(200, Verdict::Good), (204, Verdict::SaysNo), (302, Verdict::Good), (400, Verdict::SaysNo)]
    {
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(answered(check(), answer.as_bytes()).await.verdict, verdict, "{status}");
    }
}

#[tokio::test]
async fn an_interim_answer_is_not_the_answer() {
    let answer = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(answered(get(), answer).await.verdict, Verdict::Good);
}

#[tokio::test]
async fn an_upgrade_is_good_where_101_is_expected() {
    let answer = b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x00";
    let mut origin = Origin::answer(HEAD_END, answer).await;
    let fields: [(&str, &[u8]); 1] = [("upgrade", b"websocket")];
    let check = Http {
        expect_status: vec![(101, 101)],
        ..Http::new(RequestHead::new("GET", "/", None, &fields).expect("a request"))
    };
    let outcome = ask(Check::Http(Box::new(check)), origin.address).await;
    assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
    let text = String::from_utf8(origin.heard().await.bytes).expect("text").to_ascii_lowercase();
    assert!(text.contains("\r\nconnection: upgrade\r\n"), "{text}");
}

#[tokio::test]
async fn the_body_is_searched_whatever_its_framing() {
    let check =
        || Http { expect_body: Some(Expect::regex("ready: (yes|true)").expect("a pattern")), ..get() };
    for (answer, verdict) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nready: yes"[..], Verdict::Good),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nready\r\n6\r\n: true\r\n0\r\n\r\n",
            Verdict::Good,
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nready: yes", Verdict::Good),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nready: no", Verdict::SaysNo),
        (b"HTTP/1.1 503 X\r\ncontent-length: 10\r\n\r\nready: yes", Verdict::SaysNo),
        // Cut short: what is missing might have been the pattern.
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nready", Verdict::CannotBeAsked),
    ] {
        let outcome = answered(check(), answer).await;
        assert_eq!(outcome.verdict, verdict, "{} for {}", outcome.evidence, answer.escape_ascii());
    }
}

#[tokio::test]
async fn only_the_start_of_a_body_is_read() {
    let check = || Http { expect_body: Some(Expect::Text(b"needle".to_vec())), ..get() };
    let answer = |hay: usize| {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.resize(answer.len() + hay, b'x');
        answer.extend_from_slice(b"needle");
        answer
    };
    assert_eq!(answered(check(), &answer(BODY_MAX - 6)).await.verdict, Verdict::Good);
    assert_eq!(answered(check(), &answer(BODY_MAX - 5)).await.verdict, Verdict::SaysNo);
}

#[tokio::test]
async fn the_rank_comes_with_a_good_answer() {
    let check = || Http { rank: Some("timeline".to_owned()), ..get() };
    let body = r#"{"state": "running", "role": "primary", "timeline": 42}"#;
    let answer = |status| format!("HTTP/1.0 {status} X\r\n\r\n{body}").into_bytes();
    assert_eq!(answered(check(), &answer(200)).await.rank, Some(42));
    assert_eq!(answered(check(), &answer(503)).await.rank, None);
}

#[tokio::test]
async fn what_is_not_http_cannot_be_asked() {
    let head = [&b"HTTP/1.1 200 OK\r\nx: "[..], &[b'x'; 80 * 1024]].concat();
    for answer in
        [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"", b"HTTP/1.1 200 OK\r\nx", b"HTTP/9.9 200\r\n\r\n", &head]
    {
        let outcome = answered(get(), answer).await;
        assert_eq!(outcome.verdict, Verdict::CannotBeAsked, "{}", outcome.evidence);
    }
}

#[tokio::test]
async fn nobody_there_and_a_reset_cannot_be_asked() {
    let outcome = ask(Check::Http(Box::new(get())), nobody().await).await;
    assert_eq!(outcome.verdict, Verdict::CannotBeAsked);
    assert_eq!(outcome.evidence.what, "connection refused while connecting");
    assert!(!outcome.evidence.own_address_gone && outcome.evidence.phases.connect.is_none());
    let origin = Origin::play([Step::Until(HEAD_END), Step::Reset]).await;
    let outcome = ask(Check::Http(Box::new(get())), origin.address).await;
    assert_eq!(outcome.verdict, Verdict::CannotBeAsked);
    assert_eq!(outcome.evidence.what, "connection reset before a complete answer");
}

#[tokio::test]
async fn a_server_is_heard_out_before_the_connection_ends() {
    let body = vec![b'x'; 40_000];
    for head in ["HTTP/1.1 200 OK\r\ncontent-length: 40000\r\n\r\n", "HTTP/1.0 503 Busy\r\n\r\n"] {
        let script = [Step::Until(HEAD_END), Step::Write(head.into()), Step::Write(body.clone())];
        let mut origin = Origin::play(script).await;
        let outcome = ask(Check::Http(Box::new(get())), origin.address).await;
        assert_eq!(outcome.verdict == Verdict::Good, head.contains("200"), "{}", outcome.evidence);
        assert!(!origin.heard().await.reset, "{head}");
    }
}

#[tokio::test]
async fn a_server_that_never_ends_its_answer_is_not_waited_for() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let mut origin = Origin::play([Step::Until(HEAD_END), Step::Write(head), Step::Hold]).await;
    let asked = ask(Check::Http(Box::new(get())), origin.address);
    let outcome = tokio::time::timeout(crate::AMPLE / 2, asked).await.expect("an outcome");
    assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
    assert!(origin.heard().await.reset);
}
