//! Chunked bodies against a decoder that takes a whole message and trusts it: the same data in every splitting, and what
//! goes on is in its final form.
//!
//! The first byte of an input is the length of the pieces that it arrives in, besides one by one and all at once.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::proxy::http1::chunked::{Chunked, Limits, Output};

const LIMITS: Limits = Limits { trailers: 4096, fields: 16, extensions: 16 << 10 };

/// What went on, how much of the input was needed, and whether its end was seen.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    out: Vec<u8>,
    consumed: usize,
    done: bool,
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece, wire)) = data.split_first() else { return };
    let whole = [Output::Chunked, Output::Data].map(|output| run(wire, output, wire.len()));
    for (output, whole) in [Output::Chunked, Output::Data].into_iter().zip(&whole) {
        for piece in [1, usize::from(piece).max(2)] {
            assert_eq!(run(wire, output, piece), *whole, "in pieces of {piece} as {output:?}");
        }
    }
    let [Some(chunked), Some(data)] = whole else { return };
    assert_eq!((chunked.consumed, chunked.done), (data.consumed, data.done));
    if !data.done {
        return;
    }
    assert_eq!(decode(&wire[..data.consumed]), data.out);
    assert_eq!(decode(&chunked.out), data.out);
    let again = run(&chunked.out, Output::Chunked, chunked.out.len());
    let unchanged = Outcome { consumed: chunked.out.len(), ..chunked };
    assert_eq!(again, Some(unchanged), "what goes on is accepted and left as it is");
});

/// Nothing when it is refused.
fn run(wire: &[u8], output: Output, piece: usize) -> Option<Outcome> {
    let mut body = Chunked::new(output, LIMITS);
    let (mut held, mut outcome) = (Vec::new(), Outcome { out: Vec::new(), consumed: 0, done: false });
    for part in wire.chunks(piece.max(1)) {
        held.extend_from_slice(part);
        let turn = body.turn(&mut held).ok()?;
        assert!(turn.produced <= turn.consumed && turn.consumed <= held.len());
        outcome.out.extend_from_slice(&held[..turn.produced]);
        outcome.consumed += turn.consumed;
        held.drain(..turn.consumed);
        if body.is_done() {
            outcome.done = true;
            break;
        }
    }
    Some(outcome)
}

fn decode(mut wire: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let end = wire.windows(2).position(|w| w == b"\r\n").expect("a size line");
        let line = String::from_utf8_lossy(&wire[..end]);
        let size = usize::from_str_radix(line.split(';').next().expect("a size"), 16).expect("a number");
        if size == 0 {
            return data;
        }
        let (chunk, rest) = wire[end + 2..].split_at(size);
        data.extend_from_slice(chunk);
        wire = rest.strip_prefix(b"\r\n").expect("chunk data ends in CRLF");
    }
}
