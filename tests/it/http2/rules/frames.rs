//! Frames: their sizes, types and flags (RFC 9113 section 4), and what each type may hold (section 6).

use super::Expect::{Answered, Away, Lives, Reset};
use super::{
    ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR, PROTOCOL_ERROR, after, begin, case, converse, end, open, play,
    settings,
};
use crate::harness::http2::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PADDED, PING, PREFACE,
    PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
};
use crate::harness::pair::PAIRS;

const PUSH_PROMISE: u8 = 5;
const PRIORITIZED: u8 = 0x20;

#[test]
fn a_connection_begins_with_its_preface_and_settings() {
    for pair in PAIRS.into_iter().filter(|pair| !pair.http2) {
        let (_origin, stand) = super::stand(pair);
        let mut frames = Frames::connect(stand.http2);
        assert_eq!(frames.next().expect("a frame").kind, SETTINGS, "section 3.4: the first is SETTINGS");
        // In the clear, where HTTP/1 is spoken too, it is that which is refused.
        let mut other = crate::harness::client::Client::connect(stand.http2);
        other.say(b"INVALID CONNECTION PREFACE\r\n\r\n");
        let said = other.rest().expect("an end");
        assert!(pair.tls || said.starts_with(b"HTTP/1.1 400 "), "{said:?}");
        // Any other frame in the place of SETTINGS.
        let mut late = crate::harness::client::Client::connect(stand.http2);
        late.say([PREFACE, &frame(PING, 0, 0, &[0; 8])].concat());
        assert!(matches!(Frames { client: late }.outcome(1), super::Outcome::Ended(_)));
    }
}

#[test]
fn frames_of_any_type_have_their_form() {
    let cases = [
        case("4.1: an unknown type", Lives, frame(0x16, 0xff, 0, &[0; 8])),
        case("4.1: an unknown type on a stream", Lives, frame(0xbe, 0, 1, &[0; 8])),
        case("4.1: undefined flags", Lives, frame(PING, 0xfe, 0, &[0; 8])),
        case("4.1: the reserved bit", Lives, frame(PING, 0, 1 << 31, &[0; 8])),
        case("4.1: the reserved bit of a stream", Answered, frame(HEADERS, 5, 1 << 31 | 1, &http2::get("/"))),
        case("4.2: DATA of 2^14 bytes", Answered, [begin(1), end(1, &[b'x'; 16_384])].concat()),
        case(
            "4.2: DATA over the frame size",
            Reset(&[FRAME_SIZE_ERROR]),
            [begin(1), end(1, &[b'x'; 16_385])].concat(),
        ),
        case(
            "4.2: HEADERS over the frame size",
            Away(&[FRAME_SIZE_ERROR]),
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0; 16_385]),
        ),
        case(
            "4.2: SETTINGS over the frame size",
            Away(&[FRAME_SIZE_ERROR, ENHANCE_YOUR_CALM]),
            frame(SETTINGS, 0, 0, &[0; 16_386]),
        ),
        case(
            "5.4.1: an error of the connection ends it",
            Away(&[FRAME_SIZE_ERROR]),
            frame(PING, 0, 0, &[0; 6]),
        ),
        case(
            "5.5: an unknown type between two requests",
            Answered,
            [frame(0xff, 0, 0, b""), open(1, "/")].concat(),
        ),
        case(
            "5.5: an unknown type in the middle of a head",
            Away(&[PROTOCOL_ERROR]),
            [frame(HEADERS, END_STREAM, 1, &http2::get("/")), frame(0xff, 0, 0, &[0; 8])].concat(),
        ),
    ];
    play(&cases);
}

#[test]
fn data_and_headers_have_their_form() {
    let get = http2::get("/");
    let padded = [&[5][..], &get, &[0; 5]].concat();
    let prioritized = [&[0, 0, 0, 0, 255][..], &get].concat();
    let both = [&[5, 0x80, 0, 0, 0, 7][..], &get, &[0; 5]].concat();
    let on_itself = [&[0, 0, 0, 1, 255][..], &get].concat();
    let whole = END_STREAM | END_HEADERS;
    let cases = [
        case("6.1: DATA in pieces", Answered, [begin(1), frame(DATA, 0, 1, b"a"), end(1, b"b")].concat()),
        case(
            "6.1: DATA with padding",
            Answered,
            [begin(1), frame(DATA, END_STREAM | PADDED, 1, b"\x04data\0\0\0\0")].concat(),
        ),
        case(
            "6.1: DATA that is nothing but padding",
            Answered,
            [begin(1), frame(DATA, 9, 1, &[3, 0, 0, 0])].concat(),
        ),
        case("6.1: DATA on stream 0", Away(&[PROTOCOL_ERROR]), [begin(1), end(0, b"x")].concat()),
        case(
            "6.1: more padding than DATA",
            Away(&[PROTOCOL_ERROR]),
            [begin(1), frame(DATA, END_STREAM | PADDED, 1, b"\x06data\0")].concat(),
        ),
        case(
            "6.1: padding without a length",
            Away(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]),
            [begin(1), frame(DATA, 9, 1, b"")].concat(),
        ),
        case("6.2: HEADERS with padding", Answered, frame(HEADERS, whole | PADDED, 1, &padded)),
        case("6.2: HEADERS with a priority", Answered, frame(HEADERS, whole | PRIORITIZED, 1, &prioritized)),
        case("6.2: HEADERS with both", Answered, frame(HEADERS, whole | PADDED | PRIORITIZED, 1, &both)),
        case("6.2: HEADERS on stream 0", Away(&[PROTOCOL_ERROR]), frame(HEADERS, whole, 0, &get)),
        case(
            "6.2: more padding than HEADERS",
            Away(&[PROTOCOL_ERROR]),
            frame(HEADERS, whole | PADDED, 1, &[255, 1, 2]),
        ),
        case(
            "5.3.1: HEADERS that depend on themselves",
            Reset(&[PROTOCOL_ERROR]),
            frame(HEADERS, whole | PRIORITIZED, 1, &on_itself),
        ),
        case(
            "8.4: PUSH_PROMISE from a client",
            Away(&[PROTOCOL_ERROR]),
            [open(1, "/never"), frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &get].concat())]
                .concat(),
        ),
    ];
    play(&cases);
}

#[test]
fn heads_in_pieces_are_not_broken_into() {
    let get = http2::get("/");
    let first = frame(HEADERS, END_STREAM, 1, &get[..4]);
    let last = frame(CONTINUATION, END_HEADERS, 1, &get[4..]);
    let broken_by = |by: Vec<u8>| [first.clone(), by].concat();
    let behind = frame(CONTINUATION, END_HEADERS, 1, &http2::block(&[("x", "y")]));
    let away = Away(&[PROTOCOL_ERROR]);
    let cases = [
        case("6.10: CONTINUATION", Answered, [first.clone(), last.clone()].concat()),
        case(
            "6.10: many of them, some empty",
            Answered,
            [
                first.clone(),
                frame(CONTINUATION, 0, 1, &get[4..9]),
                frame(CONTINUATION, 0, 1, b""),
                frame(CONTINUATION, END_HEADERS, 1, &get[9..]),
            ]
            .concat(),
        ),
        case("6.2: HEADERS of another stream", away, broken_by(open(3, "/"))),
        case("6.2: PRIORITY", away, broken_by(frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]))),
        case("4.3: PRIORITY of another stream", away, broken_by(frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 9]))),
        case("4.3: PING", away, broken_by(frame(PING, 0, 0, &[0; 8]))),
        case("4.3: SETTINGS", away, broken_by(settings(&[]))),
        case("4.3: the end of a body", away, broken_by(end(1, b"x"))),
        case(
            "6.10: CONTINUATION of another stream",
            away,
            broken_by(frame(CONTINUATION, END_HEADERS, 3, &get[4..])),
        ),
        case(
            "6.10: CONTINUATION of stream 0",
            away,
            broken_by(frame(CONTINUATION, END_HEADERS, 0, &get[4..])),
        ),
        case("6.10: CONTINUATION behind a whole head", away, [open(1, "/never"), behind.clone()].concat()),
        case("6.10: CONTINUATION behind another's end", away, [first, last, behind.clone()].concat()),
        case("6.10: CONTINUATION behind DATA", away, [begin(1), frame(DATA, 0, 1, b"x"), behind].concat()),
    ];
    play(&cases);
}

#[test]
fn the_other_types_have_their_form() {
    let size = Away(&[FRAME_SIZE_ERROR]);
    let away = Away(&[PROTOCOL_ERROR]);
    let cases = [
        case("6.3: PRIORITY", Answered, [frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 255]), open(1, "/")].concat()),
        case("6.3: exclusive", Answered, [frame(PRIORITY, 0, 1, &[0x80, 0, 0, 3, 0]), open(1, "/")].concat()),
        case(
            "6.3: of an idle stream, then a lower one",
            Answered,
            [frame(PRIORITY, 0, 5, &[0, 0, 0, 0, 9]), open(1, "/")].concat(),
        ),
        case("6.3: PRIORITY of stream 0", away, frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 9])),
        case(
            "6.3: PRIORITY of 4 bytes",
            Reset(&[FRAME_SIZE_ERROR]),
            [begin(1), frame(PRIORITY, 0, 1, &[0; 4])].concat(),
        ),
        case(
            "5.3.1: PRIORITY that depends on itself",
            Reset(&[PROTOCOL_ERROR]),
            [begin(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 9])].concat(),
        ),
        case("6.4: RST_STREAM", Lives, [open(1, "/never"), http2::reset(1, 8)].concat()),
        case("6.4: RST_STREAM of stream 0", away, http2::reset(0, 8)),
        case(
            "6.4: RST_STREAM of 3 bytes",
            size,
            [open(1, "/never"), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
        ),
        case("6.5: SETTINGS", Lives, settings(&[(3, 100), (6, 1 << 20)])),
        case("6.5: ACK with something in it", size, frame(SETTINGS, 1, 0, &[0; 6])),
        case("6.5: SETTINGS on a stream", away, frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 100])),
        case("6.5: half an entry", size, frame(SETTINGS, 0, 0, &[0, 3, 0])),
        case("6.5.2: ENABLE_PUSH of 2", away, settings(&[(2, 2)])),
        case("6.5.2: MAX_FRAME_SIZE below its least", away, settings(&[(5, 16_383)])),
        case("6.5.2: MAX_FRAME_SIZE above its most", away, settings(&[(5, 1 << 24)])),
        case("6.5.2: an unknown setting", Lives, settings(&[(0xff, 1)])),
        case("6.5.2: a table of 4 GiB", Lives, settings(&[(1, u32::MAX)])),
        case("6.7: PING on a stream", away, frame(PING, 0, 1, &[0; 8])),
        case("6.7: PING of 7 bytes", size, frame(PING, 0, 0, &[0; 7])),
        case("6.8: GOAWAY on a stream", away, frame(GOAWAY, 0, 1, &[0; 8])),
        case("6.9: WINDOW_UPDATE of 3 bytes", size, frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])),
        case(
            "7: RST_STREAM with an unknown code",
            Lives,
            [open(1, "/never"), http2::reset(1, 0xff)].concat(),
        ),
        after(
            "7: GOAWAY with an unknown code",
            Away(&[0]),
            frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]),
        ),
    ];
    play(&cases);
}

#[test]
fn pings_and_settings_are_acknowledged_once() {
    converse(|mut frames, _| {
        frames.say(frame(PING, 1, 0, b"not ours"));
        frames.say(settings(&[(3, 5)])).say(frame(PING, 0, 0, b"12345678"));
        let mut acknowledged = 0;
        let pong = loop {
            let frame = frames.next().expect("a frame");
            match (frame.kind, frame.flags) {
                (SETTINGS, 1) => acknowledged += 1,
                (PING, 1) => break frame,
                _ => {}
            }
        };
        assert_eq!(pong.payload, b"12345678", "section 6.7: nothing answers an ACK");
        assert_eq!(acknowledged, 2, "section 6.5.3: those that the connection began with, and these");
    });
}
