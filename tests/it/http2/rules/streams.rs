//! The states of streams (RFC 9113 section 5.1) and their numbers (section 5.1.1).

use super::Expect::{Answered, Away, Lives, Reset};
use super::{PROTOCOL_ERROR, STREAM_CLOSED, after, begin, case, end, open, play};
use crate::harness::http2::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PRIORITY, WINDOW_UPDATE, frame,
};

fn continuation(stream: u32) -> Vec<u8> {
    frame(CONTINUATION, END_HEADERS, stream, &http2::block(&[("x", "y")]))
}

fn update(stream: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &[0, 0, 1, 0])
}

fn priority(stream: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 255])
}

#[test]
fn an_idle_stream_takes_nothing_but_its_beginning() {
    let away = Away(&[PROTOCOL_ERROR]);
    let cases = [
        case("5.1: idle, DATA", Away(&[PROTOCOL_ERROR, STREAM_CLOSED]), end(1, b"x")),
        case("5.1: idle, RST_STREAM", away, http2::reset(1, 8)),
        case("5.1: idle, WINDOW_UPDATE", away, update(1)),
        case("5.1: idle, CONTINUATION", away, continuation(1)),
        case("5.1: idle, PRIORITY", Lives, priority(1)),
        case(
            "5.1: idle above those that are, RST_STREAM",
            away,
            [open(1, "/never"), http2::reset(3, 8)].concat(),
        ),
        case("5.1: idle above those that are, DATA", away, [open(1, "/never"), end(3, b"x")].concat()),
    ];
    play(&cases);
}

#[test]
fn a_request_that_has_ended_takes_no_more() {
    let closed = Reset(&[STREAM_CLOSED]);
    let cases = [
        case("5.1: half closed, DATA", closed, [open(1, "/never"), end(1, b"x")].concat()),
        case("5.1: half closed, HEADERS", closed, [open(1, "/never"), open(1, "/")].concat()),
        case(
            "5.1: half closed, CONTINUATION",
            Away(&[PROTOCOL_ERROR, STREAM_CLOSED]),
            [open(1, "/never"), continuation(1)].concat(),
        ),
        case("5.1: half closed, WINDOW_UPDATE", Lives, [open(1, "/never"), update(1)].concat()),
        case("5.1: half closed, PRIORITY", Lives, [open(1, "/never"), priority(1)].concat()),
        case("5.1: half closed, RST_STREAM", Lives, [open(1, "/never"), http2::reset(1, 8)].concat()),
        case("6.1: half closed by DATA, DATA", closed, [begin(1), end(1, b"x"), end(1, b"y")].concat()),
    ];
    play(&cases);
}

#[test]
fn a_closed_stream_stays_closed() {
    let closed = Reset(&[STREAM_CLOSED]);
    let gone = |more: Vec<u8>| [open(1, "/never"), http2::reset(1, 8), more].concat();
    let cases = [
        case("5.1: closed by RST_STREAM, DATA", Reset(&[STREAM_CLOSED]), gone(end(1, b"x"))),
        case("5.1: closed by RST_STREAM, HEADERS", Reset(&[STREAM_CLOSED]), gone(open(1, "/"))),
        case(
            "5.1: closed by RST_STREAM, CONTINUATION",
            Away(&[PROTOCOL_ERROR, STREAM_CLOSED]),
            gone(continuation(1)),
        ),
        case("5.1: closed by RST_STREAM, WINDOW_UPDATE", Lives, gone(update(1))),
        case("5.1: closed by RST_STREAM, PRIORITY", Lives, gone(priority(1))),
        case("5.1: closed by RST_STREAM, RST_STREAM", Lives, gone(http2::reset(1, 8))),
        after("5.1: closed, DATA", closed, end(1, b"x")),
        after("5.1: closed, HEADERS", closed, open(1, "/")),
        after("5.1: closed, CONTINUATION", Away(&[PROTOCOL_ERROR, STREAM_CLOSED]), continuation(1)),
        after("5.1: closed, PRIORITY", Lives, priority(1)),
        after("5.1: closed, WINDOW_UPDATE", Lives, update(1)),
        after("5.1: closed, RST_STREAM", Lives, http2::reset(1, 8)),
    ];
    play(&cases);
}

#[test]
fn streams_of_clients_have_odd_numbers_that_grow() {
    let cases = [
        case("5.1.1: an even number", Away(&[PROTOCOL_ERROR]), open(2, "/")),
        case("5.1.1: not the next", Answered, [open(1, "/"), open(9, "/")].concat()),
        case(
            "5.1.1: a smaller number",
            Away(&[PROTOCOL_ERROR, STREAM_CLOSED]),
            [open(5, "/never"), open(3, "/never")].concat(),
        ),
        case(
            "8.1: trailers that do not end the stream",
            Reset(&[PROTOCOL_ERROR]),
            [begin(1), frame(DATA, 0, 1, b"x"), frame(HEADERS, END_HEADERS, 1, &http2::block(&[("x", "y")]))]
                .concat(),
        ),
        case(
            "8.1: trailers",
            Answered,
            [
                begin(1),
                frame(DATA, 0, 1, b"x"),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &http2::block(&[("x", "y")])),
            ]
            .concat(),
        ),
    ];
    play(&cases);
}
