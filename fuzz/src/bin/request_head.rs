//! Request heads: one verdict however they arrive, and whatever is accepted goes on as a head that says the same, once.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use plimsoll::model::field::FieldEdits;
use plimsoll::model::forwarded::Family;
use plimsoll::model::method::Method;
use plimsoll::proxy::buffer::Buffer;
use plimsoll::proxy::http1::encode::{RequestEdits, Told, put_request};
use plimsoll::proxy::http1::fields::{Field, Kind, Span, list_elements};
use plimsoll::proxy::http1::head::{
    FIELDS_AT_HAND, Framing, Limits, RequestHead, check_request_line, parse_request,
};
use plimsoll::proxy::http1::scan::{Scan, Scanner, leading_empty_lines, may_become_request};
use plimsoll::proxy::phases::Altered;

const LIMITS: Limits = Limits { head: 64 * 1024, fields: 128, target: 8 * 1024 };

/// For what was put out: our own fields and a filled-in path come on top.
const OUTPUT: Limits = Limits { head: 128 * 1024, fields: FIELDS_AT_HAND, target: 8 * 1024 + 1 };

/// Fields that the proxy writes itself, so that `Connection` cannot take them away.
const OWN: [&[u8]; 8] = [
    b"connection",
    b"host",
    b"upgrade",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"x-request-id",
];

fuzz_target!(|data: &[u8]| {
    let data = &data[leading_empty_lines(data)..];
    let verdict = Scanner::default().scan(data);
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(scan_in_pieces(data, piece), settled(verdict), "in pieces of {piece}");
    }
    let Scan::Complete(length) = verdict else { return };
    let head = &data[..length];
    assert!(head.ends_with(b"\r\n\r\n"));
    let line = memchr_lf(head);
    let first = check_request_line(&head[..line], &LIMITS);
    let parsed = parse_request(head, &LIMITS, Vec::new());
    let Ok(parsed) = parsed.and_then(|parsed| first.map(|()| parsed)) else { return };
    for end in 0..line {
        assert!(may_become_request(&head[..end]), "what is a request was refused on the way");
    }
    check_parsed(head, &parsed);
    // What TRACE sends is never passed on, so it is not put out either.
    if parsed.method != Method::Trace {
        check_put(head, &parsed, false);
        check_put(head, &parsed, true);
    }
});

fn memchr_lf(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| b == b'\n').map_or(bytes.len(), |at| at + 1)
}

fn settled(scan: Scan) -> Scan {
    if matches!(scan, Scan::StartLine(_)) { Scan::Partial } else { scan }
}

fn scan_in_pieces(bytes: &[u8], piece: usize) -> Scan {
    let mut scanner = Scanner::default();
    let mut last = Scan::Partial;
    let mut lines = 0;
    for end in (0..bytes.len()).step_by(piece).skip(1).chain([bytes.len()]) {
        last = scanner.scan(&bytes[..end]);
        match last {
            Scan::StartLine(length) => {
                lines += 1;
                assert_eq!(length, memchr_lf(bytes));
            }
            Scan::Partial => {}
            Scan::Complete(_) | Scan::BareLf => break,
        }
    }
    assert!(lines <= 1, "a start line is announced once");
    settled(last)
}

fn clean(bytes: &[u8]) -> bool {
    !bytes.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

fn check_field(head: &[u8], field: &Field) {
    let (name, value) = (field.name.get(head), field.value.get(head));
    assert!(!name.is_empty() && name.len() == field.name.len(), "a name is in the head");
    assert_eq!(value.len(), field.value.len(), "a value is in the head");
    assert!(clean(name) && clean(value));
    assert_eq!(value, value.trim_ascii());
}

fn check_parsed(head: &[u8], parsed: &RequestHead) {
    assert_eq!(parsed.length, head.len());
    let spans = [parsed.method_span, parsed.target, parsed.path, parsed.authority];
    for span in spans.into_iter().chain(parsed.query) {
        assert_eq!(span.get(head).len(), span.len(), "a range is in the head");
        assert!(clean(span.get(head)));
    }
    parsed.fields.iter().for_each(|field| check_field(head, field));
    check_framing(head, &parsed.fields, parsed.framing);
}

/// Asks the fields themselves, not what the parser noted of them.
fn check_framing(head: &[u8], fields: &[Field], framing: Framing) {
    let of = |name: &str| -> Vec<&[u8]> {
        let named = fields.iter().filter(|f| f.name.get(head).eq_ignore_ascii_case(name.as_bytes()));
        named.map(|f| f.value.get(head)).collect()
    };
    let (lengths, codings) = (of("content-length"), of("transfer-encoding"));
    let want = match (&lengths[..], &codings[..]) {
        ([], []) => Framing::None,
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        ([length], []) => {
            match std::str::from_utf8(length).expect("digits").parse().expect("a number that fits") {
                0 => Framing::None,
                length => Framing::Length(length),
            }
        }
        _ => panic!("more than one framing: {lengths:?} {codings:?}"),
    };
    assert_eq!(framing, want);
}

fn check_put(head: &[u8], parsed: &RequestHead, trusted: bool) {
    // Every family is written by somebody.
    let family = Family::ALL[head.len() % Family::ALL.len()];
    let edits = RequestEdits {
        route: FieldEdits::NONE,
        altered: Altered::NONE,
        peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
        trusted,
        family,
        scheme: "http",
        told: Told::Nothing,
        request_id: b"f00d",
        trace: None,
        deadline: None,
    };
    let mut out = Buffer::default();
    put_request(&mut out, head, parsed, &edits);
    let out = out.bytes();
    assert_eq!(Scanner::default().scan(out), Scan::Complete(out.len()), "one head and nothing else");
    check_request_line(&out[..memchr_lf(out)], &OUTPUT).expect("a request line");
    let again = parse_request(out, &OUTPUT, Vec::new()).expect("what goes on is accepted");
    check_parsed(out, &again);

    assert_eq!(again.method_span.get(out), parsed.method_span.get(head));
    assert_eq!(again.authority.get(out), parsed.authority.get(head));
    assert_eq!(again.query.map(|q| q.get(out)), parsed.query.map(|q| q.get(head)));
    let path = parsed.path.get(head);
    assert!(again.path.get(out) == path || (path.is_empty() && matches!(again.path.get(out), b"/" | b"*")));
    assert_eq!(again.framing, parsed.framing);
    assert_eq!(again.upgrade, parsed.upgrade);
    assert!(again.persistent);

    let named = |field: &Field, name: &[u8]| field.name.get(out).eq_ignore_ascii_case(name);
    let count = |name: &[u8]| again.fields.iter().filter(|f| named(f, name)).count();
    for field in &again.fields {
        assert!(!matches!(field.kind, Kind::HopByHop | Kind::LookAlike | Kind::KeepAlive), "{field:?}");
    }
    let upgrades = usize::from(parsed.upgrade);
    assert_eq!((count(b"connection"), count(b"upgrade"), count(b"host")), (upgrades, upgrades, 1));
    let (x, standard) = (usize::from(family.has_x()), usize::from(family.has_standard()));
    assert_eq!(count(b"x-request-id"), 1);
    if family.has_x() || !trusted {
        assert_eq!((count(b"x-forwarded-for"), count(b"x-real-ip")), (x, x));
    }
    if !trusted {
        let told = (count(b"x-forwarded-proto"), count(b"forwarded"), count(b"cf-connecting-ip"));
        assert_eq!(told, (x, standard, 0));
        assert_eq!(count(b"x-forwarded-host"), x * usize::from(!parsed.authority.is_empty()));
    }
    for option in connection_options(head, &parsed.fields) {
        let own = OWN.iter().any(|name| option.eq_ignore_ascii_case(name));
        assert!(own || count(option) == 0, "Connection names a field that went on");
    }
}

fn connection_options<'a>(head: &'a [u8], fields: &[Field]) -> Vec<&'a [u8]> {
    let lists: Vec<Span> = fields.iter().filter(|f| f.kind == Kind::Connection).map(|f| f.value).collect();
    lists.into_iter().flat_map(|span| list_elements(span.get(head))).collect()
}
