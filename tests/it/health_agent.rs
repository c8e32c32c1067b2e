//! What an agent beside an endpoint says of it (HAProxy's agent-check words).

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;
use crate::harness::{own_ip, until};

#[test]
fn the_ceiling_that_an_agent_asks_for_holds_until_it_asks_for_another() {
    let ip = own_ip();
    let words = Arc::new(Mutex::new("up maxconn:1\n"));
    let said = Arc::clone(&words);
    let agent = Origin::start_at(ip, 0, move |mut session| {
        let line = *said.lock().unwrap_or_else(PoisonError::into_inner);
        session.send(line)
    });
    let (release, held) = mpsc::sync_channel::<()>(4);
    let held = Mutex::new(held);
    let origin = Origin::start_at(ip, 0, move |mut session| {
        while session.request()?.is_some() {
            held.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
            session.ok("ok")?;
        }
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()])
        .text(&format!(
            "[pool.main.limits]\nmax_requests = 2\n[pool.main.health]\ncheck = \"agent\"\nport = {}\n\
             interval = \"50ms\"",
            agent.address().port()
        ))
        .start();
    let name = origin.address().to_string();
    proxy.event(&name, "ceiling 1");
    let mut clients: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let queued = |count: f64| {
        until("the queue", || {
            let now = proxy.metric("plimsoll_pool_queue_length", "pool=\"main\"");
            ((now - count).abs() < 0.5).then_some(())
        });
    };
    queued(3.0);
    // More than is written: those who wait have their places at once.
    *words.lock().unwrap_or_else(PoisonError::into_inner) = "maxconn:3\n";
    proxy.event(&name, "ceiling 3");
    queued(1.0);
    assert_eq!(proxy.endpoint("main", &name)["in_flight"], 3);
    for _ in 0..4 {
        release.send(()).expect("the origin waits");
    }
    for client in &mut clients {
        assert_eq!(client.answer().text(), "ok");
    }
}
