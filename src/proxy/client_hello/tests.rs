//! ClientHellos of every shape, whole and cut anywhere.

use proptest::prelude::*;

use super::*;

const MAX: usize = 16 << 10;

fn vector8(data: &[u8]) -> Vec<u8> {
    [&[u8::try_from(data.len()).expect("short")], data].concat()
}

fn vector16(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).expect("short").to_be_bytes()[..], data].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(data)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &vector16(&[&[0], &vector16(name)[..]].concat()))
}

/// The message with its header.
fn message(extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&vector8(&[9; 32]));
    // GREASE among the suites, as browsers write it.
    body.extend_from_slice(&vector16(&[0x1a, 0x1a, 0x13, 0x01, 0x13, 0x02]));
    body.extend_from_slice(&vector8(&[0]));
    if let Some(extensions) = extensions {
        body.extend_from_slice(&vector16(extensions));
    }
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[1], &length[1..], &body].concat()
}

/// The message in records of these lengths, the last of what is left.
fn records(message: &[u8], lengths: &[usize]) -> Vec<u8> {
    let (mut rest, mut out) = (message, Vec::new());
    let all = lengths.iter().copied().chain(std::iter::repeat(RECORD_MAX));
    for length in all {
        if rest.is_empty() {
            break;
        }
        let (part, next) = rest.split_at(length.clamp(1, RECORD_MAX).min(rest.len()));
        out.extend_from_slice(&[22, 3, 1]);
        out.extend_from_slice(&vector16(part));
        rest = next;
    }
    out
}

fn of_extensions(extensions: &[&[u8]]) -> Result<Progress, Unreadable> {
    read(&records(&message(Some(&extensions.concat())), &[]), MAX)
}

fn named(name: &str) -> Result<Progress, Unreadable> {
    Ok(Progress::Whole(Some(name.into())))
}

const NO_NAME: Result<Progress, Unreadable> = Ok(Progress::Whole(None));

#[test]
fn the_name_is_found_among_other_extensions() {
    let grease = extension(0x0a0a, &[]);
    let encrypted = extension(0xfe0d, &[0; 200]);
    let alpn = extension(16, &vector16(&[&vector8(b"h2")[..], &vector8(b"http/1.1")].concat()));
    assert_eq!(
        of_extensions(&[&grease, &alpn, &server_name(b"A.Example.com"), &encrypted]),
        named("a.example.com")
    );
    assert_eq!(of_extensions(&[&grease, &encrypted]), NO_NAME);
    assert_eq!(of_extensions(&[]), NO_NAME);
    assert_eq!(read(&records(&message(None), &[]), MAX), NO_NAME);
}

#[test]
fn what_is_no_host_name_is_none() {
    for name in
        ["192.0.2.1", "2001:db8::1", "[::1]", "", "a..b", "a.example.", "*.example.com", "a b", "a\0b", "ä"]
    {
        assert_eq!(of_extensions(&[&server_name(name.as_bytes())]), NO_NAME, "{name:?}");
    }
    assert_eq!(of_extensions(&[&server_name(&[b'a'; 254])]), NO_NAME);
    assert_eq!(of_extensions(&[&server_name(b"\xff\xfe")]), NO_NAME);
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let (one, other) = (server_name(b"a.example"), server_name(b"b.example"));
    assert_eq!(of_extensions(&[&one, &other]), Err(Unreadable::Malformed));
    assert_eq!(of_extensions(&[&one, &extension(5, &[]), &extension(5, &[])]), Err(Unreadable::Malformed));
    let two = [&[0], &vector16(b"a.example")[..], &[0], &vector16(b"b.example")].concat();
    assert_eq!(of_extensions(&[&extension(0, &vector16(&two))]), Err(Unreadable::Malformed));
    assert_eq!(of_extensions(&[&extension(0, &vector16(&[]))]), Err(Unreadable::Malformed));
    assert_eq!(of_extensions(&[&extension(0, &[0, 9, 0])]), Err(Unreadable::Malformed));
    // Bytes behind the extensions, and a message of another type.
    let mut longer = message(Some(&one));
    longer.push(0);
    longer[3] += 1;
    assert_eq!(read(&records(&longer, &[]), MAX), Err(Unreadable::Malformed));
    let mut other = message(Some(&one));
    other[0] = 2;
    assert_eq!(read(&records(&other, &[]), MAX), Err(Unreadable::Malformed));
}

#[test]
fn other_protocols_are_told_from_the_first_byte() {
    for text in ["GET / HTTP/1.1\r\n", "\0\0\0\u{8}\u{4}", "SSH-2.0-x\r\n", "\u{16}\u{2}"] {
        assert_eq!(read(text.as_bytes(), MAX), Err(Unreadable::NotTls), "{text:?}");
    }
    // SSL 2: two bytes of length, the high bit set.
    assert_eq!(read(&[0x80, 0x2e, 1, 3, 1], MAX), Err(Unreadable::NotTls));
    assert_eq!(read(&[], MAX), Ok(Progress::Partial));
    // Once it has begun to be TLS, anything else breaks its rules.
    let hello = records(&message(Some(&server_name(b"a.example"))), &[10]);
    let mut alert = hello;
    alert[15] = 21;
    assert_eq!(read(&alert, MAX), Err(Unreadable::Malformed));
    assert_eq!(read(&[22, 3, 1, 0, 0], MAX), Err(Unreadable::Malformed), "an empty record");
    assert_eq!(read(&[22, 3, 1, 0x40, 1], MAX), Err(Unreadable::Malformed), "a record too long");
}

#[test]
fn the_limit_holds_for_what_is_announced_and_for_what_arrives() {
    let hello = records(&message(Some(&server_name(b"a.example"))), &[]);
    assert_eq!(read(&hello, hello.len()), named("a.example"));
    assert_eq!(read(&hello[..100], 100), Err(Unreadable::TooLong));
    assert_eq!(read(&[22, 3, 1, 0x10, 0, 1, 0, 0x50, 0], MAX), Err(Unreadable::TooLong));
    assert_eq!(read(&[22, 3, 1, 0x10, 0, 1, 0xff, 0xff, 0xff], MAX), Err(Unreadable::TooLong));
}

proptest! {
    #[test]
    fn any_fragmentation_gives_the_same_answer(
        name in "[a-z0-9-]{1,20}(\\.[a-z0-9-]{1,10}){0,3}",
        padding in 0usize..3000,
        lengths in prop::collection::vec(1usize..400, 0..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let extensions = [extension(21, &vec![0; padding]), server_name(name.as_bytes())].concat();
        let message = message(Some(&extensions));
        let whole = read(&records(&message, &[]), MAX);
        let fragmented = records(&message, &lengths);
        prop_assert_eq!(read(&fragmented, MAX), whole);
        // What has not arrived yet changes nothing but that it is waited for.
        let cut = cut.index(fragmented.len());
        prop_assert_eq!(read(&fragmented[..cut], MAX), Ok(Progress::Partial));
        let followed = [&fragmented[..], &[20, 3, 3, 0, 1, 1]].concat();
        prop_assert_eq!(read(&followed, MAX), read(&fragmented, MAX));
    }

    #[test]
    fn no_bytes_panic_and_no_prefix_of_them_knows_more(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        as_record in any::<bool>(),
    ) {
        let bytes = if as_record { records(&bytes, &[100]) } else { bytes };
        let whole = read(&bytes, MAX);
        for cut in 0..bytes.len() {
            let early = read(&bytes[..cut], MAX);
            prop_assert!(early == Ok(Progress::Partial) || early == whole, "{:?} then {:?}", early, whole);
        }
    }
}

#[test]
fn what_comes_behind_a_message_that_is_too_long_does_not_change_the_reason() {
    // Found by the fuzz target: a record with the front of a message of 229,377 bytes, then no record at all.
    let found = b"\x16\x03\0\0\x07\x01\x03\x80\x01\x32\xfc\x03\x72";
    for cut in 9..=found.len() {
        assert_eq!(read(&found[..cut], MAX), Err(Unreadable::TooLong), "{cut} bytes");
    }
}
