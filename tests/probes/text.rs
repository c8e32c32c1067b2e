//! Probes of protocols whose answers are read as bytes: tcp, redis, postgres, mysql, agent.

use plimsoll::control::health::probe::Check;
use plimsoll::control::health::probe::agent::{Admin, AgentWeight, Operational};
use plimsoll::control::health::probe::expect::Expect;
use plimsoll::control::health::probe::outcome::Outcome;
use plimsoll::policy::health::Verdict;

use crate::ask;
use crate::origin::{Heard, Origin, Step, nobody};

async fn asked(check: Check, script: &[Step]) -> (Outcome, Heard) {
    let mut origin = Origin::play(script).await;
    let outcome = ask(check, origin.address).await;
    let heard = origin.heard().await;
    (outcome, heard)
}

fn tcp(send: Option<&[u8]>, expect: Option<Expect>) -> Check {
    Check::Tcp { send: send.map(<[u8]>::to_vec), expect, tls: None }
}

fn write(bytes: &[u8]) -> Step {
    Step::Write(bytes.to_vec())
}

#[tokio::test]
async fn a_tcp_probe_is_good_once_connected_and_ends_with_a_reset() {
    let (outcome, heard) = asked(tcp(None, None), &[Step::Hold]).await;
    assert_eq!(outcome.verdict, Verdict::Good);
    assert_eq!(heard, Heard { bytes: Vec::new(), reset: true });
    let outcome = ask(tcp(None, None), nobody().await).await;
    assert_eq!(outcome.verdict, Verdict::CannotBeAsked);
}

#[tokio::test]
async fn a_tcp_probe_sends_and_expects() {
    let expect = || Some(Expect::regex("^220 .*ready").expect("a pattern"));
    // In two parts: the first alone decides nothing.
    let script = [Step::Read(6), write(b"220 mail "), write(b"ready\r\n"), Step::Hold];
    let (outcome, heard) = asked(tcp(Some(b"EHLO\r\n"), expect()), &script).await;
    assert_eq!((outcome.verdict, heard.bytes), (Verdict::Good, b"EHLO\r\n".to_vec()), "{}", outcome.evidence);
    let (outcome, _) = asked(tcp(None, expect()), &[write(b"550 go away\r\n")]).await;
    assert_eq!(outcome.verdict, Verdict::SaysNo);
    assert_eq!(outcome.evidence.bytes, b"550 go away\r\n");
    let (outcome, _) = asked(tcp(None, expect()), &[]).await;
    assert_eq!(outcome.verdict, Verdict::CannotBeAsked);
    let (outcome, _) = asked(tcp(None, expect()), &[write(&[b'x'; 64 * 1024])]).await;
    assert_eq!(outcome.verdict, Verdict::SaysNo);
}

#[tokio::test]
async fn redis_is_alive_or_says_why_not() {
    let redis = |primary| Check::Redis { primary, tls: None };
    let ping = |answer: &[u8]| [Step::Read(14), write(answer)];
    let (outcome, heard) = asked(redis(false), &ping(b"+PONG\r\n")).await;
    assert_eq!((outcome.verdict, heard.bytes), (Verdict::Good, b"*1\r\n$4\r\nPING\r\n".to_vec()));
    let (outcome, _) = asked(redis(false), &ping(b"-LOADING dataset\r\n")).await;
    assert_eq!((outcome.verdict, &*outcome.evidence.what), (Verdict::SaysNo, "LOADING dataset"));
    let (outcome, heard) = asked(redis(true), &ping(b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")).await;
    assert_eq!((outcome.verdict, heard.bytes), (Verdict::Good, b"*1\r\n$4\r\nROLE\r\n".to_vec()));
    let (outcome, _) = asked(redis(true), &ping(b"*5\r\n$5\r\nslave\r\n")).await;
    assert_eq!((outcome.verdict, &*outcome.evidence.what), (Verdict::SaysNo, "role slave"));
    for garbage in [&b""[..], b"+PO", b"\x00\xff\r\n", &[b'x'; 8192]] {
        let (outcome, _) = asked(redis(false), &ping(garbage)).await;
        assert_eq!(outcome.verdict, Verdict::CannotBeAsked, "{}", outcome.evidence);
    }
}

#[tokio::test]
async fn postgres_answers_a_start_up_and_is_left_politely() {
    let postgres = || Check::Postgres { user: "ha".to_owned(), tls: None };
    let startup = b"\0\0\0\x11\0\x03\0\0user\0ha\0\0";
    let answered = |answer: &[u8]| [Step::Read(17), write(answer)];
    let (outcome, heard) = asked(postgres(), &answered(b"R\0\0\0\x0c\0\0\0\x05salt")).await;
    assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
    assert_eq!(heard, Heard { bytes: startup.to_vec(), reset: false });
    // A server that trusts us goes on at once, and is told goodbye.
    let (outcome, heard) = asked(postgres(), &answered(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")).await;
    assert_eq!(outcome.verdict, Verdict::Good);
    assert_eq!(heard, Heard { bytes: [&startup[..], b"X\0\0\0\x04"].concat(), reset: false });
    let error = b"E\0\0\0\x37SFATAL\0VFATAL\0C57P03\0Mthe database is starting up\0\0";
    let (outcome, _) = asked(postgres(), &answered(error)).await;
    assert_eq!(outcome.verdict, Verdict::SaysNo);
    assert_eq!(outcome.evidence.what, "error 57P03: the database is starting up");
    for garbage in [&b""[..], b"R\0\0\0", b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let (outcome, _) = asked(postgres(), &answered(garbage)).await;
        assert_eq!(outcome.verdict, Verdict::CannotBeAsked, "{}", outcome.evidence);
    }
}

#[tokio::test]
async fn mysql_greets_lets_in_or_says_why_not() {
    let mysql = |user: Option<&str>| Check::Mysql { user: user.map(ToOwned::to_owned), tls: None };
    let mut greeting =
        b"\x2a\0\0\0\x0a10.11.6\0\x05\0\0\0scramble\0\xfe\xf7\x21\x02\x00\xff\x81\x15".to_vec();
    greeting.resize(46, 0);
    let (outcome, heard) = asked(mysql(None), &[write(&greeting)]).await;
    assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
    assert_eq!(heard, Heard { bytes: Vec::new(), reset: false });
    // 4 bytes of frame and 58 of login, then COM_QUIT once it is in.
    let login = |answer: &[u8]| [write(&greeting), Step::Read(62), write(answer)];
    let (outcome, heard) = asked(mysql(Some("ha")), &login(b"\x07\0\0\x02\0\0\0\x02\0\0\0")).await;
    assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
    assert_eq!(heard.bytes.get(62..), Some(&b"\x01\0\0\0\x01"[..]));
    let (outcome, heard) = asked(mysql(Some("ha")), &login(b"\x06\0\0\x02\xfeother")).await;
    assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
    assert_eq!(heard.bytes.get(62..), Some(&b"\0\0\0\x03\x01\0\0\0\x01"[..]));
    let (outcome, _) = asked(mysql(Some("ha")), &login(b"\x0f\0\0\x02\xff\x15\x04#28000Denied")).await;
    assert_eq!((outcome.verdict, &*outcome.evidence.what), (Verdict::SaysNo, "error 1045: Denied"));
    let (outcome, _) = asked(mysql(None), &[write(b"\x0a\0\0\0\xff\x10\x04blocked")]).await;
    assert_eq!((outcome.verdict, &*outcome.evidence.what), (Verdict::SaysNo, "error 1040: blocked"));
    for garbage in [&b""[..], b"\x0a\0\0", b"SSH-2.0-OpenSSH_9.2\r\n"] {
        let (outcome, _) = asked(mysql(None), &[write(garbage)]).await;
        assert_eq!(outcome.verdict, Verdict::CannotBeAsked, "{}", outcome.evidence);
    }
}

#[tokio::test]
async fn an_agent_says_words_and_its_silence_says_nothing() {
    let agent = |port| Check::Agent { port, send: Some(b"s1\n".to_vec()) };
    let listening = |answer: &[u8]| [Step::Read(3), write(answer)];
    for (answer, verdict) in [
        (&b"up ready 75%\n"[..], Verdict::Good),
        (b"down # disk full\r\n", Verdict::SaysNo),
        (b"50%\n", Verdict::Void),
        (b"down", Verdict::Void),
        (&[b'x'; 4096], Verdict::Void),
    ] {
        let origin = Origin::play(listening(answer)).await;
        // The endpoint itself is elsewhere: only the agent's port is asked.
        let endpoint = nobody().await;
        let outcome = ask(agent(origin.address.port()), endpoint).await;
        assert_eq!(outcome.verdict, verdict, "{}", outcome.evidence);
    }
    let origin = Origin::play(listening(b"down drain weight:10 maxconn:7 # bye\n")).await;
    let outcome = ask(agent(origin.address.port()), origin.address).await;
    let words = outcome.agent.expect("words");
    assert_eq!((words.operational, words.admin), (Some(Operational::Down), Some(Admin::Drain)));
    assert_eq!((words.weight, words.connections_max), (Some(AgentWeight::Absolute(10)), Some(7)));
    let outcome = ask(agent(nobody().await.port()), origin.address).await;
    assert_eq!((outcome.verdict, outcome.agent), (Verdict::Void, None));
}
