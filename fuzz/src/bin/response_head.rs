//! Response heads: whatever is accepted goes on as a head that announces the body that follows, once.
//!
//! The first byte of an input says what was asked: bit 0 HEAD, bit 1 an HTTP/1.0 client, bit 2 its connection closes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::model::field::HeadEdits;
use plimsoll::proxy::buffer::Buffer;
use plimsoll::proxy::http1::encode::{ResponseEdits, put_response};
use plimsoll::proxy::http1::fields::{Field, Kind, list_elements};
use plimsoll::proxy::http1::head::{FIELDS_AT_HAND, Framing, Limits, ResponseHead, Version, parse_response};
use plimsoll::proxy::http1::scan::{Scan, Scanner};

const LIMITS: Limits = Limits { head: 64 * 1024, fields: 128, target: 0 };
const OUTPUT: Limits = Limits { head: 128 * 1024, fields: FIELDS_AT_HAND, target: 0 };

struct Asked {
    to_head: bool,
    client: Version,
    close: bool,
}

fuzz_target!(|data: &[u8]| {
    let Some((&asked, data)) = data.split_first() else { return };
    let asked = Asked {
        to_head: asked & 1 != 0,
        client: if asked & 2 != 0 { Version::Http10 } else { Version::Http11 },
        close: asked & 4 != 0,
    };
    let Scan::Complete(length) = Scanner::default().scan(data) else { return };
    let head = &data[..length];
    let Ok(parsed) = parse_response(head, &LIMITS, asked.to_head, Vec::new()) else { return };
    check_parsed(head, &parsed, asked.to_head);
    check_put(head, &parsed, &asked);
});

fn clean(bytes: &[u8]) -> bool {
    !bytes.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

fn check_parsed(head: &[u8], parsed: &ResponseHead, to_head: bool) {
    assert!(head.starts_with(b"HTTP/1."), "a head opens with its status line");
    assert_eq!(parsed.length, head.len());
    assert!((100..=999).contains(&parsed.status));
    assert_eq!(parsed.reason.get(head).len(), parsed.reason.len());
    assert!(clean(parsed.reason.get(head)));
    for field in &parsed.fields {
        let (name, value) = (field.name.get(head), field.value.get(head));
        assert!(!name.is_empty() && clean(name) && clean(value));
        assert_eq!((name.len(), value.len()), (field.name.len(), field.value.len()));
    }
    let bodiless = to_head || parsed.status < 200 || matches!(parsed.status, 204 | 304);
    assert_eq!(parsed.framing, if bodiless { Framing::None } else { framing(head, &parsed.fields) });
    assert!(!(parsed.persistent && parsed.framing == Framing::UntilClose));
}

/// Asks the fields themselves, not what the parser noted of them.
fn framing(head: &[u8], fields: &[Field]) -> Framing {
    let of = |name: &str| -> Vec<&[u8]> {
        let named = fields.iter().filter(|f| f.name.get(head).eq_ignore_ascii_case(name.as_bytes()));
        named.map(|f| f.value.get(head)).collect()
    };
    match (&of("content-length")[..], &of("transfer-encoding")[..]) {
        ([], []) => Framing::UntilClose,
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        ([length], []) => {
            match std::str::from_utf8(length).expect("digits").parse().expect("a number that fits") {
                0 => Framing::None,
                length => Framing::Length(length),
            }
        }
        more => panic!("more than one framing: {more:?}"),
    }
}

fn check_put(head: &[u8], parsed: &ResponseHead, asked: &Asked) {
    // As the exchange decides: an HTTP/1.0 client gets the data alone, and the end of the connection as its end.
    let framing = match parsed.framing {
        Framing::Chunked if asked.client == Version::Http10 => Framing::UntilClose,
        framing => framing,
    };
    let close = asked.close || framing == Framing::UntilClose;
    let edits = ResponseEdits { head: HeadEdits::NONE, client: asked.client, close, framing };
    let mut out = Buffer::default();
    put_response(&mut out, head, parsed, &edits);
    let out = out.bytes();
    assert_eq!(Scanner::default().scan(out), Scan::Complete(out.len()), "one head and nothing else");
    let again = parse_response(out, &OUTPUT, asked.to_head, Vec::new()).expect("what goes on is accepted");
    check_parsed(out, &again, asked.to_head);
    assert_eq!((again.status, again.framing), (parsed.status, framing));
    assert_eq!(again.reason.get(out), parsed.reason.get(head));
    if again.status >= 200 {
        assert_eq!(again.persistent, !close);
    }
    for field in &again.fields {
        assert!(!matches!(field.kind, Kind::HopByHop | Kind::LookAlike | Kind::KeepAlive), "{field:?}");
    }
    assert!(again.fields.iter().filter(|f| f.kind == Kind::Connection).count() <= 1);
    for list in parsed.fields.iter().filter(|f| f.kind == Kind::Connection) {
        for option in list_elements(list.value.get(head)) {
            let named = |f: &&Field| f.name.get(out).eq_ignore_ascii_case(option);
            let gone = again
                .fields
                .iter()
                .find(named)
                .is_none_or(|f| matches!(f.kind, Kind::Connection | Kind::Upgrade));
            assert!(gone, "Connection names a field that went on");
        }
    }
}
