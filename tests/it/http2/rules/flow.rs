//! Flow control (RFC 9113 sections 5.2, 6.5.2, 6.9): windows that are too wide, too narrow, changed under way.

use super::Expect::{Away, Lives, Reset};
use super::{FLOW_CONTROL_ERROR, PROTOCOL_ERROR, begin, case, converse, open, play, settings};
use crate::harness::http2::{self, DATA, Frames, HEADERS, SETTINGS, WINDOW_UPDATE, frame};

const WIDEST: u32 = (1 << 31) - 1;
const INITIAL_WINDOW_SIZE: u16 = 4;

fn update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

#[test]
fn windows_have_their_bounds() {
    let cases = [
        case("6.9: by nothing, of the connection", Away(&[PROTOCOL_ERROR]), update(0, 0)),
        case("6.9: by nothing, of a stream", Reset(&[PROTOCOL_ERROR]), [begin(1), update(1, 0)].concat()),
        case(
            "6.9.1: too wide, of the connection",
            Away(&[FLOW_CONTROL_ERROR]),
            [update(0, WIDEST), update(0, WIDEST)].concat(),
        ),
        case(
            "6.9.1: too wide, of a stream",
            Reset(&[FLOW_CONTROL_ERROR]),
            [open(1, "/never"), update(1, WIDEST), update(1, WIDEST)].concat(),
        ),
        case(
            "6.9.1: as wide as can be",
            Lives,
            [update(0, WIDEST - 65_535), open(1, "/never"), update(1, WIDEST - 65_535)].concat(),
        ),
        case(
            "6.5.2: INITIAL_WINDOW_SIZE over its most",
            Away(&[FLOW_CONTROL_ERROR]),
            settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]),
        ),
        case(
            "6.9.2: a setting that makes a window too wide",
            Away(&[FLOW_CONTROL_ERROR]),
            [open(1, "/never"), update(1, WIDEST - 65_535), settings(&[(INITIAL_WINDOW_SIZE, WIDEST)])]
                .concat(),
        ),
        case("6.9: the reserved bit", Lives, frame(WINDOW_UPDATE, 0, 0, &[0x80, 0, 1, 0])),
    ];
    play(&cases);
}

/// The next DATA, once the head has gone by.
fn data(frames: &mut Frames) -> Vec<u8> {
    frames.until(DATA).payload
}

/// That nothing comes before the answer to a PING.
fn is_quiet(frames: &mut Frames) -> bool {
    // As many turns as it might take the answer to come.
    (0..5u8).all(|i| {
        frames.say(frame(http2::PING, 0, 0, &[i; 8]));
        loop {
            match frames.next() {
                Some(frame) if frame.kind == http2::PING => break true,
                Some(frame) if frame.kind == DATA => break false,
                Some(_) => {}
                None => break false,
            }
        }
    })
}

#[test]
fn no_more_is_sent_than_a_window_allows() {
    converse(|mut frames, _| {
        // Section 6.5.3: of two values in one frame the last one holds.
        frames.say(settings(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]));
        frames.ask(1, &http2::get("/ten"));
        assert_eq!(frames.until(HEADERS).stream, 1);
        assert_eq!(data(&mut frames), b"0", "section 6.9.1");
        assert!(is_quiet(&mut frames));
        frames.say(update(1, 2));
        assert_eq!(data(&mut frames), b"12");
        frames.say(settings(&[(INITIAL_WINDOW_SIZE, 4)]));
        assert_eq!(data(&mut frames), b"345", "section 6.9.2: three wider than it was");
        // Two narrower: a window below zero.
        frames.say(settings(&[(INITIAL_WINDOW_SIZE, 2)])).say(update(1, 2));
        frames.until(SETTINGS);
        assert!(is_quiet(&mut frames));
        frames.say(update(1, 1));
        assert_eq!(data(&mut frames), b"6");
        frames.say(update(1, 100));
        assert_eq!(data(&mut frames), b"789");
    });
}

#[test]
fn a_window_of_nothing_can_be_opened_by_a_setting() {
    converse(|mut frames, _| {
        frames.say(settings(&[(INITIAL_WINDOW_SIZE, 0)]));
        frames.ask(1, &http2::get("/ten"));
        frames.until(HEADERS);
        assert!(is_quiet(&mut frames));
        frames.say(settings(&[(INITIAL_WINDOW_SIZE, 1)]));
        assert_eq!(data(&mut frames), b"0", "section 6.9.2");
    });
}

#[test]
fn no_frame_is_larger_than_the_client_takes() {
    converse(|mut frames, _| {
        frames.say(settings(&[(INITIAL_WINDOW_SIZE, 1 << 20), (5, 16_384)]));
        frames.ask(1, &http2::get("/"));
        loop {
            let frame = frames.next().expect("a frame");
            assert!(frame.payload.len() <= 16_384);
            if frame.kind == DATA {
                break;
            }
        }
    });
}
