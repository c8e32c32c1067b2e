//! Tunnels and tcp sessions from outside: listed with what they hold, ended one by one, and let go in time.

use std::io;
use std::net::SocketAddr;

use crate::harness::client::Client;
use crate::harness::clock::Moment;
use crate::harness::embedded::Embedded;
use crate::harness::origin::{Origin, Session};
use crate::harness::proxy::Setup;
use crate::harness::{free_port, own_ip, until};

/// Says back whatever comes.
fn echo(mut session: Session) -> io::Result<()> {
    while session.wire.fill()? > 0 {
        let said = std::mem::take(&mut session.wire.received);
        session.send(said)?;
    }
    Ok(())
}

fn listens(bind: SocketAddr) -> String {
    format!("[listener.db]\nbind = [\"{bind}\"]\nprotocol = \"tcp\"\npool = \"db\"\n")
}

fn leads(to: SocketAddr, drain: &str) -> String {
    format!("[pool.db]\nendpoints = [\"{to}\"]\ndrain_timeout = \"{drain}\"\n")
}

fn relays(bind: SocketAddr, to: SocketAddr, drain: &str) -> String {
    listens(bind) + &leads(to, drain)
}

fn says(bind: SocketAddr) -> String {
    format!("[listener.web]\nbind = [\"{bind}\"]\n[[route]]\nrespond = {{ status = 200, body = \"x\" }}\n")
}

fn greeted(at: SocketAddr) -> Client {
    let mut client = Client::connect(at);
    client.say("hello");
    assert_eq!(client.take(5).expect("an echo"), b"hello");
    client
}

#[test]
fn a_session_is_listed_and_can_be_ended() {
    let origin = Origin::start(echo);
    let proxy = Setup::tcp(&[origin.address()]).start();
    let (mut ends, mut stays) = (greeted(proxy.web), greeted(proxy.web));
    let listed = proxy.admin_json(&format!("/v1/sessions?endpoint=main/{}", origin.address()));
    let sessions = listed["sessions"].as_array().expect("a list").clone();
    assert_eq!(sessions.len(), 2, "{listed}");
    for session in &sessions {
        assert_eq!((&session["pool"], &session["listener"]), (&"main".into(), &"web".into()), "{session}");
        assert_eq!(session["endpoint"], origin.address().to_string());
        assert_eq!(session["generation"], 1);
    }
    let none = proxy.admin_json("/v1/sessions?endpoint=nobody");
    assert_eq!(none["sessions"].as_array().map(Vec::len), Some(0));
    let client = ends.local_address().to_string();
    let own = sessions.iter().find(|session| session["client"] == client.as_str()).expect("it is listed");
    let path = format!("/v1/sessions/{}", own["id"].as_str().expect("an id"));
    assert_eq!(proxy.admin_change("DELETE", &path, "").status(), 200);
    ends.expect_end();
    assert_eq!(proxy.admin_change("DELETE", &path, "").status(), 404);
    assert_eq!(proxy.admin_change("DELETE", "/v1/sessions/nonsense", "").status(), 404);
    stays.say("again");
    assert_eq!(stays.take(5).expect("an echo"), b"again");
    assert_eq!(proxy.records(1)[0]["end"], "ended");
}

#[test]
fn what_holds_an_old_snapshot_is_counted_until_it_ends() {
    let db = free_port(own_ip());
    let (origin, other) = (Origin::start(echo), Origin::start(echo));
    let proxy = Embedded::start(&relays(db, origin.address(), "10m"));
    let mut session = greeted(db);
    assert_eq!(proxy.status().held.sessions, 0);
    proxy.reload(&relays(db, other.address(), "10m"));
    let status = proxy.status();
    assert_eq!((status.held.sessions, status.held.generations, status.held.oldest), (1, 1, Some(1)));
    assert_eq!(status.leaving[0].endpoint.as_str(), origin.address().to_string());
    let listed = now_sessions(&proxy, &origin.address().to_string());
    assert_eq!(listed, [("db".to_owned(), 1)]);
    session.say("hello");
    assert_eq!(session.take(5).expect("an echo"), b"hello", "it stays where it is");
    drop(session);
    until("nothing to be held", || (proxy.status().held.sessions == 0).then_some(()));
    assert!(proxy.status().leaving.is_empty());
}

/// Listener and generation of the sessions of an endpoint.
fn now_sessions(proxy: &Embedded, endpoint: &str) -> Vec<(String, u64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let listed = runtime.block_on(proxy.sessions(Some(endpoint)));
    listed.sessions.into_iter().map(|session| (session.listener, session.generation)).collect()
}

#[test]
fn sessions_on_a_removed_endpoint_have_until_the_pools_drain_timeout() {
    let db = free_port(own_ip());
    let (origin, other) = (Origin::start(echo), Origin::start(echo));
    let proxy = Embedded::start(&relays(db, origin.address(), "700ms"));
    let mut session = greeted(db);
    proxy.reload(&relays(db, other.address(), "700ms"));
    session.say("hello");
    assert_eq!(session.take(5).expect("an echo"), b"hello");
    session.expect_end();
    assert_eq!(other.accepted(), 1, "asked once, before it was published");
}

#[test]
fn sessions_of_a_removed_listener_have_that_time_too_unless_it_comes_back() {
    let (db, web) = (free_port(own_ip()), free_port(own_ip()));
    let origin = Origin::start(echo);
    let without = leads(origin.address(), "700ms") + &says(web);
    let with = listens(db) + &without;
    let proxy = Embedded::start(&with);
    let mut stays = greeted(db);
    proxy.reload(&without);
    proxy.reload(&with);
    let mut newer = greeted(db);
    let back = Moment::now();
    while back.elapsed().as_millis() < 1500 {
        stays.say("hello");
        assert_eq!(stays.take(5).expect("an echo"), b"hello");
    }
    proxy.reload(&without);
    newer.say("hello");
    assert_eq!(newer.take(5).expect("an echo"), b"hello");
    stays.expect_end();
    newer.expect_end();
}
