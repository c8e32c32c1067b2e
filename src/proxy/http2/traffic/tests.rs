//! Floods that keep within every rule are found, however their bytes arrive, and honest use is not.

use super::*;

const LIMITS: Http2Limits = Http2Limits {
    streams: 100,
    stream_window: 65_535,
    connection_window: 65_535,
    send_buffer: 65_536,
    continuations: 2,
    rates: [10; Flood::RATED],
};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What a client's frames come to when they arrive in pieces of each size.
#[track_caller]
fn check(frames: &[Vec<u8>], want: Option<Flood>) {
    let mut bytes = PREFACE.to_vec();
    frames.iter().for_each(|frame| bytes.extend_from_slice(frame));
    for size in [1, 7, 9, 10, bytes.len()] {
        let now = Instant::now();
        let mut traffic = Traffic::new(LIMITS, now);
        bytes.chunks(size).for_each(|piece| traffic.received(piece, now));
        assert_eq!(traffic.flood(), want, "in pieces of {size}");
    }
}

fn times(n: usize, frame: &[u8]) -> Vec<Vec<u8>> {
    vec![frame.to_vec(); n]
}

#[test]
fn each_kind_of_flood_has_its_own_limit() {
    for (frame, flood) in [
        (frame(PING, 0, 0, &[0; 8]), Flood::Pings),
        (frame(SETTINGS, 0, 0, &[]), Flood::Settings),
        (frame(2, 0, 3, &[0, 0, 0, 1, 9]), Flood::Priorities),
        (frame(0x42, 0, 0, b"whatever"), Flood::Priorities),
        (frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), Flood::WindowUpdates),
        (frame(DATA, 0, 1, &[]), Flood::EmptyFrames),
        (frame(DATA, PADDED, 1, &[2, b'x', 0, 0]), Flood::EmptyFrames),
    ] {
        check(&times(10, &frame), None);
        check(&times(11, &frame), Some(flood));
    }
}

#[test]
fn honest_frames_are_not_counted() {
    let mut frames = times(50, &frame(PING, END_STREAM, 0, &[0; 8]));
    frames.extend(times(50, &frame(SETTINGS, END_STREAM, 0, &[])));
    frames.extend(times(50, &frame(WINDOW_UPDATE, 0, 0, &[0, 0, 64, 0])));
    frames.extend(times(50, &frame(DATA, 0, 1, b"x")));
    frames.extend(times(50, &frame(DATA, END_STREAM, 1, &[])));
    frames.extend(times(50, &frame(HEADERS, END_HEADERS, 1, b"\x82")));
    frames.extend(times(50, &frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])));
    check(&frames, None);
}

#[test]
fn one_frame_of_many_settings_counts_as_many() {
    check(&[frame(SETTINGS, 0, 0, &[0; 6 * 79])], None);
    check(&[frame(SETTINGS, 0, 0, &[0; 6 * 80])], Some(Flood::Settings));
}

#[test]
fn a_head_has_only_so_many_continuations() {
    let head = |continuations: usize| {
        let mut frames = vec![frame(HEADERS, 0, 1, b"\x82")];
        frames.extend(times(continuations, &frame(CONTINUATION, 0, 1, &[])));
        frames
    };
    check(&head(2), None);
    check(&head(3), Some(Flood::Continuations));
    let mut two = head(1);
    two.push(frame(CONTINUATION, END_HEADERS, 1, &[]));
    check(&vec![two; 20].concat(), None);
}

#[test]
fn a_rate_is_of_one_second() {
    let start = Instant::now();
    let mut traffic = Traffic::new(LIMITS, start);
    traffic.received(PREFACE, start);
    for second in 0..5 {
        let now = start + SECOND * second;
        traffic.received(&times(10, &frame(PING, 0, 0, &[0; 8])).concat(), now);
        assert_eq!(traffic.flood(), None, "second {second}");
    }
}

#[test]
fn what_has_begun_and_not_ended_is_known_since_when() {
    let start = Instant::now();
    let later = start + SECOND;
    let mut traffic = Traffic::new(LIMITS, start);
    traffic.received(PREFACE, later);
    assert_eq!(traffic.head_since(), Some(start), "SETTINGS belong to it");
    traffic.received(&frame(SETTINGS, 0, 0, &[]), later);
    assert_eq!(traffic.head_since(), None);
    traffic.received(&frame(HEADERS, 0, 1, b"\x82"), start);
    traffic.received(&frame(CONTINUATION, 0, 1, b"\x82"), later);
    assert_eq!(traffic.head_since(), Some(start));
    traffic.received(&frame(CONTINUATION, END_HEADERS, 1, b"\x82"), later);
    assert_eq!(traffic.head_since(), None);
    traffic.received(&frame(DATA, 0, 1, b"halves")[..14], later);
    assert_eq!(traffic.head_since(), None);
    traffic.received(&[b's', 0, 0], later);
    assert_eq!(traffic.head_since(), Some(later));
}

#[test]
fn settings_come_first() {
    let now = Instant::now();
    for (first, wrong) in [
        (frame(SETTINGS, 0, 0, &[]), false),
        (frame(SETTINGS, END_STREAM, 0, &[]), true),
        (frame(PING, 0, 0, &[0; 8]), true),
    ] {
        let mut traffic = Traffic::new(LIMITS, now);
        traffic.received(&[&PREFACE[..], &first].concat(), now);
        assert_eq!(traffic.began_wrong(), wrong, "{first:?}");
        let mut traffic = Traffic::of_endpoint(LIMITS, now);
        traffic.received(&first, now);
        assert_eq!(traffic.began_wrong(), wrong, "{first:?}");
    }
}

#[test]
fn what_h2_refuses_is_told_apart_and_counted_as_faults() {
    let now = Instant::now();
    let mut traffic = Traffic::new(LIMITS, now);
    let reset = |stream, code: u32| frame(RST_STREAM, 0, stream, &code.to_be_bytes());
    traffic.accepted(1);
    traffic.sent(&frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x88"), now);
    traffic.sent(&frame(HEADERS, END_STREAM | END_HEADERS, 3, b"\x88"), now);
    for bytes in [reset(1, 1), reset(3, 1), reset(5, 7), reset(7, 8), reset(9, 0)] {
        traffic.sent(&bytes, now);
    }
    assert_eq!(traffic.take_refused(), Refused { streams: 1, malformed: 1, heads: 1 });
    assert_eq!(traffic.take_refused(), Refused::default());
    for stream in 0..8 {
        traffic.sent(&reset(11 + stream, 5), now);
    }
    assert_eq!(traffic.flood(), Some(Flood::Faults));
}

#[test]
fn limits_of_h2_are_known_by_what_it_says() {
    let now = Instant::now();
    for (name, flood) in [("too_many_internal_resets", Flood::Faults), ("too_many_resets", Flood::Resets)] {
        let mut traffic = Traffic::new(LIMITS, now);
        let goaway = [&[0, 0, 0, 9, 0, 0, 0, 11], name.as_bytes()].concat();
        frame(GOAWAY, 0, 0, &goaway).chunks(5).for_each(|piece| traffic.sent(piece, now));
        assert_eq!(traffic.flood(), Some(flood));
    }
}
