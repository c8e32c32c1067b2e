//! Tests of the chunked coding: every split of every message, and what must be refused.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 4096;
const LIMITS: Limits = Limits { trailers: LIMIT, fields: 16, extensions: 16 << 10 };

/// Feeds `wire` in pieces and returns what goes on and how much was consumed.
fn run(wire: &[u8], output: Output, piece: usize) -> Result<(Vec<u8>, usize, bool), Fault> {
    let mut body = Chunked::new(output, LIMITS);
    let (mut held, mut out, mut consumed) = (Vec::new(), Vec::new(), 0);
    for part in wire.chunks(piece.max(1)) {
        held.extend_from_slice(part);
        let turn = body.turn(&mut held)?;
        out.extend_from_slice(&held[..turn.produced]);
        held.drain(..turn.consumed);
        consumed += turn.consumed;
        if body.is_done() {
            break;
        }
    }
    Ok((out, consumed, body.is_done()))
}

#[track_caller]
fn check(wire: &str, chunked: &str, data: &str) {
    for piece in 1..=wire.len() {
        let got = run(wire.as_bytes(), Output::Chunked, piece).expect("it is valid");
        assert_eq!(
            (String::from_utf8_lossy(&got.0).as_ref(), got.1, got.2),
            (chunked, wire.len(), true),
            "in {piece}s"
        );
        let got = run(wire.as_bytes(), Output::Data, piece).expect("it is valid");
        assert_eq!(String::from_utf8_lossy(&got.0), data, "in {piece}s");
    }
}

#[test]
fn what_is_canonical_goes_on_unchanged() {
    check(
        "5\r\nhello\r\nB\r\n hello worl\r\n0\r\n\r\n",
        "5\r\nhello\r\nB\r\n hello worl\r\n0\r\n\r\n",
        "hello hello worl",
    );
}

#[test]
fn zeros_and_extensions_are_left_out() {
    check("0005;a=b;c=\"d;\"\r\nhello\r\n000;x\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello");
}

#[test]
fn trailers_go_on_but_for_those_that_frame_or_route() {
    check(
        "1\r\nx\r\n0\r\nX-Sum: 7\r\nContent-Length: 50\r\nHost: evil\r\nX-B:c\r\n\r\n",
        "1\r\nx\r\n0\r\nX-Sum: 7\r\nX-B:c\r\n\r\n",
        "x",
    );
}

#[test]
fn what_follows_the_body_is_left_alone() {
    let wire = b"1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
    let (out, consumed, done) = run(wire, Output::Chunked, wire.len()).expect("it is valid");
    assert_eq!((out.as_slice(), consumed, done), (&b"1\r\nx\r\n0\r\n\r\n"[..], 11, true));
}

#[test]
fn what_is_not_chunked_is_refused() {
    for wire in [
        "5\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5these\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "10000000000000005\r\nhello\r\n",
        "ffffffffffffffff\r\nhello\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\r;ABCD\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n",
        "5;a\rb\r\nhello\r\n",
        "5;a=\"b\r\nhello\r\n",
        "\r\n",
        "0\r\nX-A : b\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\nX: y\n\r\n",
    ] {
        assert!(run(wire.as_bytes(), Output::Chunked, wire.len()).is_err(), "{wire:?}");
    }
}

#[test]
fn the_longest_size_line_passes_however_it_arrives() {
    let line = format!("1;{}", "x".repeat(SIZE_LINE_MAX - 2));
    check(&format!("{line}\r\na\r\n0\r\n\r\n"), "1\r\na\r\n0\r\n\r\n", "a");
}

#[test]
fn long_lines_and_sections_are_refused() {
    let line = format!("5;{}\r\nhello\r\n", "x".repeat(SIZE_LINE_MAX));
    assert!(run(line.as_bytes(), Output::Chunked, 100).is_err());
    let endless = format!("5;{}", "x".repeat(2 * SIZE_LINE_MAX));
    assert!(run(endless.as_bytes(), Output::Chunked, 100).is_err());
    let padded = format!("1;{}\r\nx\r\n", "x".repeat(900)).repeat(20);
    assert!(run(padded.as_bytes(), Output::Chunked, 4096).is_err());
    let trailers = format!("0\r\nX: {}", "x".repeat(2 * LIMIT));
    assert_eq!(run(trailers.as_bytes(), Output::Chunked, 512), Err(Refusal::HeadTooLarge));
    let fields = format!("0\r\n{}\r\n", "X: y\r\n".repeat(17));
    assert_eq!(run(fields.as_bytes(), Output::Chunked, 512), Err(Refusal::TooManyFields));
}

proptest! {
    /// Data comes out as it went in, whatever the chunks and however they arrive; a second pass changes nothing.
    #[test]
    fn data_survives_any_chunking_and_any_splitting(
        chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), "(;[a-z]{0,5}(=[a-z]{1,3})?)?", 0usize..3), 0..8),
        piece in 1usize..64,
    ) {
        let mut wire = Vec::new();
        let mut data = Vec::new();
        for (bytes, extension, zeros) in &chunks {
            wire.extend_from_slice(format!("{}{:x}{extension}\r\n", "0".repeat(*zeros), bytes.len()).as_bytes());
            wire.extend_from_slice(bytes);
            wire.extend_from_slice(b"\r\n");
            data.extend_from_slice(bytes);
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        let (plain, _, done) = run(&wire, Output::Data, piece).expect("it is valid");
        prop_assert!(done);
        prop_assert_eq!(&plain, &data);
        let (rewritten, _, _) = run(&wire, Output::Chunked, piece).expect("it is valid");
        let (again, _, _) = run(&rewritten, Output::Chunked, piece).expect("it is valid");
        prop_assert_eq!(rewritten, again);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..50) {
        drop(run(&bytes, Output::Chunked, piece));
        drop(run(&bytes, Output::Data, piece));
    }
}
