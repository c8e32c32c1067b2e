//! HPACK (RFC 7541): every form that a field may have, and what is none.

use super::Expect::{Answered, Away, Lives};
use super::{COMPRESSION_ERROR, PROTOCOL_ERROR, case, converse, play};
use crate::harness::http2::{self, END_HEADERS, END_STREAM, HEADERS, Outcome, frame};

/// `custom-key` and `custom-value` in Huffman's code (RFC 7541 appendix C.4.3).
const KEY: &[u8] = b"\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f";
const VALUE: &[u8] = b"\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";

/// A request whose last field is this.
fn with(field: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &[&http2::get("/"), field].concat())
}

/// A request that begins with this.
fn behind(update: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &[update, &http2::get("/")].concat())
}

#[test]
fn every_form_of_a_field_is_read() {
    let plain = b"\x0acustom-key\x0ccustom-value";
    let huffman = [KEY, VALUE].concat();
    let forms: [(&str, &[u8], &[u8], &str); 8] = [
        ("6.2.1: kept, a new name", b"\x40", plain, "custom-key"),
        ("6.2.1: kept, in Huffman's code", b"\x40", &huffman, "custom-key"),
        ("6.2.1: kept, an indexed name", b"\x7a", b"\x0ccustom-value", "user-agent"),
        ("6.2.2: not kept, a new name", b"\x00", plain, "custom-key"),
        ("6.2.2: not kept, in Huffman's code", b"\x00", &huffman, "custom-key"),
        ("6.2.2: not kept, an indexed name", b"\x0f\x2b", VALUE, "user-agent"),
        ("6.2.3: never kept, a new name", b"\x10", plain, "custom-key"),
        ("6.2.3: never kept, an indexed name", b"\x1f\x2b", VALUE, "user-agent"),
    ];
    for (form, first, rest, name) in forms {
        converse(|mut frames, origin| {
            frames.say(with(&[first, rest].concat()));
            assert_eq!(frames.outcome(1), Outcome::Answer(200, b"ok".to_vec()), "{form}");
            assert_eq!(origin.request(0).field(name).as_deref(), Some("custom-value"), "{form}");
        });
    }
}

#[test]
fn what_is_kept_can_be_referred_to_until_it_is_dropped() {
    converse(|mut frames, origin| {
        frames.say(with(b"\x40\x0acustom-key\x0ccustom-value"));
        assert_eq!(frames.outcome(1), Outcome::Answer(200, b"ok".to_vec()));
        // All of a request by index: GET, http, / and what was kept last; the authority in full (section 6.1).
        frames.ask(3, b"\x82\x86\x84\x41\x01a\xbf");
        assert_eq!(frames.outcome(3), Outcome::Answer(200, b"ok".to_vec()));
        assert_eq!(origin.request(1).field("custom-key").as_deref(), Some("custom-value"));
        // A table of nothing has nothing left (section 4.3).
        frames.ask(5, &[&b"\x20"[..], &http2::get("/"), b"\xbe"].concat());
        assert!(matches!(frames.outcome(5), Outcome::Ended(Some(PROTOCOL_ERROR | COMPRESSION_ERROR))));
    });
}

#[test]
fn what_cannot_be_read_ends_the_connection() {
    let away = Away(&[COMPRESSION_ERROR]);
    let long = [&b"\x00\x7f\x80"[..], &[0x80; 10], b"\x01"].concat();
    let cases = [
        case("2.3.3: an index of nothing", away, with(b"\xc6")),
        case("2.3.3: a name's index of nothing", away, with(b"\x7f\x07\x05value")),
        case("2.3.3: an index far beyond", away, with(b"\xff\xff\xff\xff\x07")),
        case("4.2: a change of the table's size behind a field", away, with(b"\x21")),
        case("5.1: a number without an end", away, with(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
        case("5.1: a length that no number holds", away, with(&long)),
        case("5.2: a text longer than the head", away, with(b"\x00\x05x")),
        case("5.2: Huffman's code with a whole byte of padding", away, with(b"\x00\x01x\x82\xf3\xff\xff")),
        case("5.2: Huffman's code with the end of all texts", away, with(b"\x00\x01x\x84\xff\xff\xff\xff")),
        case("5.2: Huffman's code padded with zeros", away, with(b"\x00\x01x\x81\x18")),
        case("6.1: index 0", away, with(b"\x80")),
        case("6.2: a field without its value", away, with(b"\x40\x01x")),
        case("6.3: a table larger than we allow", away, behind(b"\x3f\xe2\x1f")),
        case("6.3: a table of 4 GiB", away, behind(b"\x3f\xe0\xff\xff\xff\x0f")),
        case("4.3: a head that breaks off", away, frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x40")),
        case("6.3: a table of nothing", Answered, behind(b"\x20")),
        case("6.3: as large as we allow", Answered, behind(b"\x3f\xe1\x1f")),
        case("6.3: two changes in front", Answered, behind(b"\x20\x3f\xe1\x1f")),
        case("6.5.2: our own table may be of nothing", Lives, super::settings(&[(1, 0)])),
    ];
    play(&cases);
}
