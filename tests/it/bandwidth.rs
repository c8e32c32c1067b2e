//! Bandwidth limits of a listener: what one connection brings and what it is sent, whatever it speaks.

use std::time::Duration;

use crate::harness::clock::Moment;
use crate::harness::http2::{self, Session, request};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::tls::Authority;

const RATE: usize = 256 * 1024;
const BODY: usize = RATE;

/// What a second's worth takes at least: a quarter of it may come at once.
const LEAST: Duration = Duration::from_millis(700);

const LIMITS: &str = "[listener.web.limits]\nbandwidth_in = \"256KiB/s\"\nbandwidth_out = \"256KiB/s\"";

/// Says how much it was given, and gives `BODY` to whoever gives nothing.
fn origin() -> Origin {
    Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            let body =
                if request.body.is_empty() { "x".repeat(BODY) } else { format!("{}", request.body.len()) };
            session.ok(&body)?;
        }
        Ok(())
    })
}

fn limited() -> (Origin, Proxy) {
    let origin = origin();
    let proxy = Setup::http(&[origin.address()]).text(LIMITS).listener("h2c = true").start();
    (origin, proxy)
}

fn took(what: impl FnOnce()) -> Duration {
    let start = Moment::now();
    what();
    start.elapsed()
}

fn limit_hits(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metric("plimsoll_limit_hits_total", limit)
}

#[test]
fn an_answer_is_sent_no_faster() {
    let (_origin, proxy) = limited();
    let mut client = proxy.connect();
    let time = took(|| assert_eq!(client.get("/").body.len(), BODY));
    assert!((LEAST..Duration::from_secs(5)).contains(&time), "{time:?}");
    assert!(limit_hits(&proxy, "bandwidth_out") >= 1.0);
    let other = took(|| assert_eq!(proxy.connect().post("/", "a").text(), "1"));
    assert!(other < LEAST, "another connection has a limit of its own: {other:?}");
}

#[test]
fn a_body_is_taken_no_faster() {
    let (_origin, proxy) = limited();
    let body = "x".repeat(BODY);
    let time = took(|| assert_eq!(proxy.connect().post("/", &body).text(), BODY.to_string()));
    assert!((LEAST..Duration::from_secs(5)).contains(&time), "{time:?}");
    assert!(limit_hits(&proxy, "bandwidth_in") >= 1.0);
    assert_eq!(limit_hits(&proxy, "bandwidth_out"), 0.0);
}

#[test]
fn streams_of_one_connection_share_its_limits() {
    let (_origin, proxy) = limited();
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let start = Moment::now();
        let (one, other) = (session.clone(), session.clone());
        let half = |mut session: Session| async move { session.get("/").await.body.len() };
        assert_eq!(tokio::join!(half(one), half(other)), (BODY, BODY));
        assert!(start.elapsed() >= LEAST + Duration::from_secs(1), "{:?}", start.elapsed());
        let start = Moment::now();
        let answer = session.post(request("POST", "/"), vec![b'x'; BODY]).await.expect("an answer");
        assert_eq!(answer.text(), BODY.to_string());
        assert!(start.elapsed() >= LEAST, "{:?}", start.elapsed());
    });
}

#[test]
fn bytes_under_tls_are_paced_too() {
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let origin = origin();
    let tls = format!("tls = {{ certificates = [{}] }}", authority.listed("a", ""));
    let proxy = Setup::http(&[origin.address()]).listener(&tls).text(LIMITS).start();
    let client = authority.trusting().build();
    let time = took(|| {
        let answer = client.get(proxy.web, "a.test", "a.test").expect("an answer");
        assert!(answer.len() > BODY);
    });
    assert!((LEAST..Duration::from_secs(5)).contains(&time), "{time:?}");
}

#[test]
fn a_tcp_session_is_not_spliced_past_its_limits() {
    let origin = Origin::start(|mut session| {
        session.send("x".repeat(2 * BODY))?;
        while session.head()?.is_some() {}
        Ok(())
    });
    let proxy = Setup::tcp(&[origin.address()]).text(LIMITS).start();
    let mut client = proxy.connect();
    let time = took(|| assert_eq!(client.take(2 * BODY).expect("all of it").len(), 2 * BODY));
    assert!((LEAST + Duration::from_secs(1)..Duration::from_secs(8)).contains(&time), "{time:?}");
}
