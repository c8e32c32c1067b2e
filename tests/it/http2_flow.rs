//! Flow control from end to end over HTTP/2 on both sides, and the places on connections that requests share: who stands
//! still holds little, who waits gets its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::sync::Barrier;
use tokio::task::spawn_local;

use crate::harness::between::http2_origin;
use crate::harness::clock::pause;
use crate::harness::frames::{DATA, FrameOrigin};
use crate::harness::http2::{self, Frames, Session, give, request};
use crate::harness::proxy::Setup;

/// What one that stands still may hold.
const MOST: usize = 256 << 10;

fn before(endpoint: std::net::SocketAddr) -> Setup {
    Setup::http(&[endpoint]).process("workers = 1").listener("h2c = true").pool("protocol = \"http2\"")
}

/// The number, once it has not grown for a while.
fn settled(number: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    loop {
        pause(Duration::from_millis(200));
        let now = number.load(Ordering::SeqCst);
        if now > 0 && now == last {
            return now;
        }
        last = now;
    }
}

#[test]
fn a_reader_that_stands_still_holds_no_more_than_a_window() {
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    let origin = http2_origin(move |_, mut respond| {
        let count = Arc::clone(&count);
        async move {
            let mut send = respond.send_response(Response::new(()), false).ok()?;
            loop {
                give(&mut send, Bytes::from_static(&[b'x'; 4096]), false).await.ok()?;
                count.fetch_add(4096, Ordering::SeqCst);
            }
        }
    });
    let proxy = before(origin).start();
    // INITIAL_WINDOW_SIZE = 0: nothing of it may go on.
    let mut frames = Frames::connect_with(proxy.web, &[(4, 0)]);
    frames.ask(1, &http2::get("/"));
    let one = settled(&given);
    assert!(one <= MOST, "{one} bytes for one stream");
    // A client that reads goes by them all, on the same connection to the endpoint.
    for i in 1..20 {
        frames.ask(2 * i + 1, &http2::get("/"));
    }
    let all = settled(&given);
    assert!(all <= 20 * MOST, "{all} bytes for twenty");
    assert!(all > one, "each has its own");
}

#[test]
fn an_endpoint_that_stands_still_holds_its_client_back() {
    // INITIAL_WINDOW_SIZE = 0: it takes nothing of any body.
    let origin = FrameOrigin::start(&[0, 4, 0, 0, 0, 0], |mut session| {
        loop {
            assert_ne!(session.next()?.kind, DATA);
        }
    });
    let proxy = before(origin.address).start();
    let given = Arc::new(AtomicUsize::new(0));
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let (_response, mut send) = session.open(request("POST", "/"), false).await;
        let count = Arc::clone(&given);
        let giving = async move {
            while give(&mut send, Bytes::from_static(&[b'x'; 4096]), false).await.is_ok() {
                count.fetch_add(4096, Ordering::SeqCst);
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(1), giving).await.is_err(), "it waits for ever");
    });
    let given = given.load(Ordering::SeqCst);
    assert!((1..=MOST).contains(&given), "{given} bytes");
}

#[test]
fn ceilings_of_connections_and_of_requests_on_them_hold() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, peak) = (Arc::clone(&now), Arc::clone(&most));
    let origin = http2_origin(move |_, mut respond| {
        let (running, peak) = (Arc::clone(&running), Arc::clone(&peak));
        async move {
            peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            respond.send_response(Response::new(()), true).ok().map(drop)
        }
    });
    let proxy = before(origin).pool("limits = { http2_connections = 2, http2_streams = 3 }").start();
    http2::run(async {
        let session = Session::connect(proxy.web).await;
        let asked: Vec<_> = (0..40)
            .map(|i| {
                let mut session = session.clone();
                spawn_local(async move { session.get(&format!("/{i}")).await.status })
            })
            .collect();
        for answer in asked {
            assert_eq!(answer.await.expect("it does not panic"), 200);
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 6, "two connections of three");
    assert!(proxy.metric("plimsoll_limit_hits_total", "limit=\"http2_connections\"") > 0.0);
}

#[test]
fn two_bodies_on_one_connection_have_a_fair_share() {
    const WHOLE: usize = 4 << 20;
    let (both, taken) = (Arc::new(Barrier::new(2)), Arc::new([(); 2].map(|()| AtomicUsize::new(0))));
    let (meeting, counts) = (Arc::clone(&both), Arc::clone(&taken));
    let behind = Arc::new(AtomicUsize::new(0));
    let other = Arc::clone(&behind);
    let origin = http2_origin(move |request, mut respond| {
        let (meeting, counts, other) = (Arc::clone(&meeting), Arc::clone(&counts), Arc::clone(&other));
        async move {
            let own = usize::from(request.uri().path() == "/1");
            let mut body = request.into_body();
            meeting.wait().await;
            while let Some(data) = body.data().await {
                let data = data.ok()?;
                counts[own].fetch_add(data.len(), Ordering::SeqCst);
                body.flow_control().release_capacity(data.len()).ok()?;
            }
            // How far the other one is when the first has come to its end.
            let at = counts[1 - own].load(Ordering::SeqCst);
            other.compare_exchange(0, at, Ordering::SeqCst, Ordering::SeqCst).ok();
            respond.send_response(Response::new(()), true).ok().map(drop)
        }
    });
    let proxy = before(origin).pool("limits = { http2_connections = 1 }").start();
    http2::run(async {
        let posts = ["/0", "/1"].map(|path| {
            let to = proxy.web;
            spawn_local(async move {
                let mut session = Session::connect(to).await;
                session.post(request("POST", path), vec![b'x'; WHOLE]).await.expect("an answer").status
            })
        });
        for post in posts {
            assert_eq!(post.await.expect("it does not panic"), 200);
        }
    });
    let behind = behind.load(Ordering::SeqCst);
    assert!(behind >= WHOLE / 4, "when one was done, the other had {behind} of {WHOLE}");
}
