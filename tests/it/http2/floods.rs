//! Attacks that keep within every rule but make work for nothing: each ends its own connection by a limit with a name, and
//! nobody else's.

use super::{before, hits};
use crate::harness::http2::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Outcome, PADDED, PING, PRIORITY,
    SETTINGS, WINDOW_UPDATE,
};
use crate::harness::origin::Origin;
use crate::harness::proxy::Proxy;
use crate::harness::until;

const ENHANCE_YOUR_CALM: u32 = 11;

fn stand() -> (Origin, Proxy) {
    let origin = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            if request.path() == "/never" {
                session.wire.at_end();
                return Ok(());
            }
            session.ok("ok")?;
        }
        Ok(())
    });
    // Fewer faults than requests at once, so that it is not a refusal that ends the connection.
    let proxy = before(&origin).listener("limits = { http2 = { faults = 20 } }").start();
    (origin, proxy)
}

/// Sends what `attack` makes of every number until it is cut off, and looks at what that came to.
#[track_caller]
fn check(limit: &str, count: u32, attack: impl Fn(u32) -> Vec<u8>) {
    let (_origin, proxy) = stand();
    // Somebody else, on the same worker.
    let mut other = Frames::connect(proxy.web);
    let mut frames = Frames::connect(proxy.web);
    for from in (0..count).step_by(100) {
        let part: Vec<u8> = (from..from + 100).flat_map(&attack).collect();
        if !frames.try_say(part) {
            break;
        }
    }
    assert_eq!(frames.sent_away(), ENHANCE_YOUR_CALM, "{limit}");
    super::counted(&proxy, limit, 1.0);
    assert_eq!(other.ask(1, &http2::get("/")).outcome(1), Outcome::Answer(200, b"ok".to_vec()));
}

fn open(stream: u32, path: &str) -> Vec<u8> {
    http2::frame(HEADERS, END_STREAM | END_HEADERS, stream, &http2::get(path))
}

#[test]
fn rapid_reset() {
    check("http2_resets", 10_000, |i| [open(2 * i + 1, "/never"), http2::reset(2 * i + 1, 8)].concat());
}

#[test]
fn rapid_reset_reaches_few_endpoints() {
    let (origin, proxy) = stand();
    let mut frames = Frames::connect(proxy.web);
    for i in 0..10_000 {
        if !frames.try_say([open(2 * i + 1, "/never"), http2::reset(2 * i + 1, 8)].concat()) {
            break;
        }
    }
    assert_eq!(frames.sent_away(), ENHANCE_YOUR_CALM);
    assert!(origin.accepted() <= 600, "{}", origin.accepted());
}

/// Waits for the reset of each stream before the next one, so that there is never more than one.
#[track_caller]
fn check_faults(attack: impl Fn(u32) -> Vec<u8>) {
    let (_origin, proxy) = stand();
    let mut frames = Frames::connect(proxy.web);
    for stream in (1..200).step_by(2) {
        frames.try_say([open(stream, "/never"), attack(stream)].concat());
        match frames.outcome(stream) {
            Outcome::Reset(_) => {}
            Outcome::Ended(code) => {
                assert_eq!(code, Some(ENHANCE_YOUR_CALM));
                super::counted(&proxy, "http2_faults", 1.0);
                return;
            }
            other @ Outcome::Answer(..) => panic!("{other:?}"),
        }
    }
    panic!("it goes on for ever");
}

#[test]
fn resets_that_the_server_is_made_to_send() {
    // A window wider than there can be is an error of its stream (RFC 9113 section 6.9.1).
    check_faults(|stream| http2::frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]));
}

#[test]
fn mistakes_that_end_the_connection_at_once() {
    for mistake in [http2::frame(DATA, 0, 1, b"x"), http2::frame(WINDOW_UPDATE, 0, 1, &[0; 4])] {
        let (origin, proxy) = stand();
        let mut frames = Frames::connect(proxy.web);
        frames.say([open(1, "/never"), mistake].concat());
        assert!(matches!(frames.outcome(1), Outcome::Ended(Some(1 | 5))), "PROTOCOL_ERROR or STREAM_CLOSED");
        until("the endpoint's connection to close", || (origin.open() == 0).then_some(()));
    }
}

#[test]
fn requests_that_are_none() {
    check("http2_faults", 10_000, |i| {
        let block =
            http2::block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("connection", "x")]);
        http2::frame(HEADERS, END_STREAM | END_HEADERS, 2 * i + 1, &block)
    });
}

#[test]
fn pings() {
    check("http2_pings", 100_000, |_| http2::frame(PING, 0, 0, &[0; 8]));
}

#[test]
fn settings() {
    check("http2_settings", 10_000, |_| http2::frame(SETTINGS, 0, 0, &[]));
}

#[test]
fn settings_with_many_entries() {
    let entries = [0, 0x99, 0, 0, 0, 1].repeat(2700);
    check("http2_settings", 1, |i| if i == 0 { http2::frame(SETTINGS, 0, 0, &entries) } else { Vec::new() });
}

#[test]
fn priorities() {
    check("http2_priorities", 100_000, |i| http2::frame(PRIORITY, 0, 2 * i + 1, &[0, 0, 0, 0, 9]));
}

#[test]
fn unknown_frames() {
    check("http2_priorities", 100_000, |_| http2::frame(0x77, 0, 0, b"?"));
}

#[test]
fn window_updates() {
    check("http2_window_updates", 100_000, |_| http2::frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
}

#[test]
fn empty_data() {
    check("http2_empty_frames", 10_000, |i| match i {
        0 => http2::frame(HEADERS, END_HEADERS, 1, &http2::post("/never")),
        _ => http2::frame(DATA, 0, 1, &[]),
    });
}

#[test]
fn padding() {
    let padded = [&[255, b'x'][..], &[0; 255]].concat();
    check("http2_empty_frames", 10_000, |i| match i {
        0 => http2::frame(HEADERS, END_HEADERS, 1, &http2::post("/never")),
        _ => http2::frame(DATA, PADDED, 1, &padded),
    });
}

#[test]
fn continuations() {
    check("http2_continuations", 10_000, |i| match i {
        0 => http2::frame(HEADERS, END_STREAM, 1, &http2::get("/")),
        _ => http2::frame(CONTINUATION, 0, 1, &[]),
    });
}

#[test]
fn a_head_that_unpacks_to_much_is_not_held() {
    let (origin, proxy) = stand();
    // One field in the dynamic table, then as many references to it as there is room for (RFC 7541 section 6.1).
    let mut block = http2::get("/");
    block.extend([0x40, 1, b'x']);
    block.push(0x7f);
    block.extend([0x81, 0x1e]);
    block.extend([b'y'; 3968]);
    block.extend([0xbe].repeat(12_000));
    let mut frames = Frames::connect(proxy.web);
    let outcome = frames.ask(1, &block).outcome(1);
    assert_eq!(outcome, Outcome::Ended(Some(ENHANCE_YOUR_CALM)));
    until("it to be counted", || (hits(&proxy, "head") == 1.0).then_some(()));
    assert!(origin.seen().is_empty());
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn requests_over_the_limit_are_refused_and_reach_nobody() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        // Until the client gives up.
        session.wire.at_end();
        Ok(())
    });
    let proxy = before(&origin).start();
    let mut frames = Frames::connect(proxy.web);
    let all: Vec<u8> = (0..150).flat_map(|i| open(2 * i + 1, "/never")).collect();
    frames.say(all);
    let reset = frames.until(http2::RST_STREAM);
    assert_eq!((reset.stream, reset.payload.as_slice()), (201, &[0, 0, 0, 7][..]), "REFUSED_STREAM");
    for _ in 1..50 {
        assert_eq!(frames.until(http2::RST_STREAM).payload, [0, 0, 0, 7]);
    }
    until("the refusals to be counted", || (hits(&proxy, "http2_streams") == 50.0).then_some(()));
    assert!(origin.seen().len() <= 100);
}

#[test]
fn more_data_than_the_window_allows_ends_the_stream() {
    let (_origin, proxy) = stand();
    let mut frames = Frames::connect(proxy.web);
    frames.say(http2::frame(HEADERS, END_HEADERS, 1, &http2::post("/never")));
    for _ in 0..200 {
        if !frames.try_say(http2::frame(DATA, 0, 1, &[0; 16_384])) {
            break;
        }
    }
    // FLOW_CONTROL_ERROR (RFC 9113 section 5.2), of the stream or of the connection; or the endpoint has taken it all.
    let outcome = frames.outcome(1);
    assert!(
        matches!(outcome, Outcome::Reset(3) | Outcome::Ended(Some(3)) | Outcome::Answer(..)),
        "{outcome:?}"
    );
}
