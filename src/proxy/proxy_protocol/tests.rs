//! Headers of both versions, good and bad, whole and cut anywhere, and that what is written is what is read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::read::{Malformed, Progress, read};
use super::write::{of_client, of_ourselves, v1, v2};
use super::*;
use crate::model::proxy_protocol::Version;

const MAX: usize = 4096;

fn read_one(bytes: &[u8]) -> Result<Progress, Malformed> {
    read(bytes, MAX, Transport::Stream)
}

fn addresses(source: &str, destination: &str) -> Option<Addresses> {
    Some(Addresses { source: source.parse().ok()?, destination: destination.parse().ok()? })
}

#[track_caller]
fn reads(bytes: &[u8], want: Option<Addresses>) {
    let whole =
        Progress::Whole { header: Header { addresses: want, facts: Facts::default() }, bytes: bytes.len() };
    assert_eq!(read_one(bytes), Ok(whole), "{}", bytes.escape_ascii());
    let followed = [bytes, b"GET / HTTP/1.1\r\n\r\n"].concat();
    assert_eq!(read_one(&followed), read_one(bytes), "what follows is the client's");
}

/// Version 2 with this command and family and these addresses and extensions.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("short").to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, block].concat()
}

/// The same of TCP over IPv4, from 192.0.2.1:123 to 192.0.2.2:5678.
fn of_tcp4(extensions: &[u8]) -> Vec<u8> {
    let block = [&[192, 0, 2, 1, 192, 0, 2, 2, 0, 123, 0x16, 0x2e], extensions].concat();
    binary(0x21, 0x11, &block)
}

#[test]
fn lines_of_version_1_are_read() {
    reads(b"PROXY TCP4 192.0.2.1 192.0.2.2 123 5678\r\n", addresses("192.0.2.1:123", "192.0.2.2:5678"));
    reads(b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", addresses("0.0.0.0:0", "255.255.255.255:65535"));
    reads(b"PROXY TCP6 2001:Db8::1 ::2 1 2\r\n", addresses("[2001:db8::1]:1", "[::2]:2"));
    for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN 1 2 3 4 5 6\r\n", "PROXY UNKNOWN TCP4 \r\n"] {
        reads(unknown.as_bytes(), None);
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LINE_MAX - 16));
    reads(longest.as_bytes(), None);
}

#[test]
fn lines_that_are_not_exact_are_refused() {
    for (line, want) in [
        ("PROXY TCP4 192.0.2.1 192.0.2.2 123\r\n", Malformed::Line),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 123 5678 9\r\n", Malformed::Line),
        ("PROXY TCP4  192.0.2.1 192.0.2.2 123 5678\r\n", Malformed::Line),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 123 5678 \r\n", Malformed::Line),
        ("PROXY TCP5 192.0.2.1 192.0.2.2 123 5678\r\n", Malformed::Line),
        ("PROXY  TCP4 192.0.2.1 192.0.2.2 123 5678\r\n", Malformed::Line),
        ("PROXY UNKNOWNX\r\n", Malformed::Line),
        ("PROXY \r\n", Malformed::Line),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 123 5678\n", Malformed::Line),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 123 5678\rx", Malformed::Line),
        ("PROXY UNKNOWN\nGET / HTTP/1.1\r\n", Malformed::Line),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 0123 5678\r\n", Malformed::Address),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 +123 5678\r\n", Malformed::Address),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 123 65536\r\n", Malformed::Address),
        ("PROXY TCP4 192.0.2.01 192.0.2.2 123 5678\r\n", Malformed::Address),
        ("PROXY TCP4 ::1 ::1 123 5678\r\n", Malformed::Address),
        ("PROXY TCP6 192.0.2.1 ::1 123 5678\r\n", Malformed::Address),
        ("PROXY TCP6 [::1] ::1 123 5678\r\n", Malformed::Address),
        ("PROXY TCP6 fe80::1%eth0 ::1 123 5678\r\n", Malformed::Address),
        ("proxy TCP4 192.0.2.1 192.0.2.2 123 5678\r\n", Malformed::Absent),
        ("GET / HTTP/1.1\r\n", Malformed::Absent),
    ] {
        assert_eq!(read_one(line.as_bytes()), Err(want), "{line:?}");
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LINE_MAX - 15));
    assert_eq!(read_one(long.as_bytes()), Err(Malformed::Line));
    assert_eq!(read(long.as_bytes(), 40, Transport::Stream), Err(Malformed::TooLong));
}

#[test]
fn headers_of_version_2_are_read() {
    reads(&of_tcp4(&[]), addresses("192.0.2.1:123", "192.0.2.2:5678"));
    // An extension that means nothing here, and one that means nothing at all.
    reads(&of_tcp4(b"\xeb\0\x06custom\x04\0\x03\0\0\0"), addresses("192.0.2.1:123", "192.0.2.2:5678"));
    reads(&binary(0x20, 0x11, &[1; 12]), None);
    reads(&binary(0x20, 0xff, b"anything"), None);
    reads(&binary(0x21, 0x00, b"anything"), None);
    reads(&binary(0x21, 0x31, &[b'/'; 216]), None);
    reads(&binary(0x21, 0x12, &[1; 12]), None);
    let datagram = read(&binary(0x21, 0x12, &[1; 12]), MAX, Transport::Datagram);
    let want = addresses("1.1.1.1:257", "1.1.1.1:257");
    assert!(matches!(datagram, Ok(Progress::Whole { header, .. }) if header.addresses == want));
}

#[test]
fn headers_of_version_2_that_break_the_rules_are_refused() {
    for (bytes, want) in [
        (binary(0x11, 0x11, &[1; 12]), Malformed::Unknown),
        (binary(0x22, 0x11, &[1; 12]), Malformed::Unknown),
        (binary(0x21, 0x13, &[1; 12]), Malformed::Unknown),
        (binary(0x21, 0x41, &[1; 12]), Malformed::Unknown),
        (binary(0x21, 0x10, &[1; 12]), Malformed::Unknown),
        (binary(0x21, 0x11, &[1; 11]), Malformed::Address),
        (binary(0x21, 0x21, &[1; 35]), Malformed::Address),
        (binary(0x21, 0x31, &[1; 215]), Malformed::Address),
        (of_tcp4(b"\x02\0\x0a12345"), Malformed::Extension),
        (of_tcp4(b"\x04\0"), Malformed::Extension),
        (of_tcp4(b"\x20\0\x04\x01\0\0\0"), Malformed::Extension),
        (of_tcp4(b"\x20\0\x08\x01\0\0\0\0\x21\0\x05"), Malformed::Extension),
        (of_tcp4(&[&[2, 1, 0][..], &[b'a'; 256]].concat()), Malformed::Extension),
        (of_tcp4(&[&[5, 0, 129][..], &[b'a'; 129]].concat()), Malformed::Extension),
        (of_tcp4(b"\x03\0\x03\0\0\0"), Malformed::Extension),
        (of_tcp4(b"\x03\0\x04\xde\xad\xbe\xef"), Malformed::Checksum),
        (binary(0x21, 0x00, &[0; MAX - FIXED + 1]), Malformed::TooLong),
    ] {
        assert_eq!(read_one(&bytes), Err(want), "{}", bytes.escape_ascii());
    }
    // The length is known before the rest has come.
    assert_eq!(read_one(&binary(0x21, 0x11, &[0; MAX])[..FIXED]), Err(Malformed::TooLong));
}

#[test]
fn the_checksum_covers_the_whole_header() {
    let good = of_tcp4(b"\x03\0\x04\x1c+Hl");
    reads(&good, addresses("192.0.2.1:123", "192.0.2.2:5678"));
    for at in (FIXED..good.len()).filter(|at| !(28..31).contains(at)) {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert_eq!(read_one(&changed), Err(Malformed::Checksum), "byte {at}");
    }
}

#[test]
fn what_is_known_of_tls_comes_through() {
    let tls = TlsFacts {
        version: (*b"TLSv1.3").into(),
        cipher: (*b"TLS_AES_128_GCM_SHA256").into(),
        common_name: (*b"client").into(),
        secure: true,
        certificate: true,
        certificate_in_session: true,
        verified: true,
    };
    let facts = Facts {
        alpn: (*b"h2").into(),
        authority: (*b"a.example").into(),
        tls: Some(tls),
        ..Facts::default()
    };
    let addresses = addresses("192.0.2.1:1", "192.0.2.2:2").expect("two addresses");
    let bytes = of_client(Version::V2, Some(addresses), &facts);
    let tail = b"\x01\0\x02h2\x02\0\x09a.example\x20\0\x31\x07\0\0\0\0\
        \x21\0\x07TLSv1.3\x22\0\x06client\x23\0\x16TLS_AES_128_GCM_SHA256";
    assert!(bytes.ends_with(tail), "{}", bytes.escape_ascii());
    let header = Header { addresses: Some(addresses), facts };
    assert_eq!(read_one(&bytes), Ok(Progress::Whole { header, bytes: bytes.len() }));
}

#[test]
fn our_own_connections_say_that_they_are_nobody_elses() {
    for version in Version::ALL {
        reads(of_ourselves(version), None);
    }
}

#[test]
fn a_client_without_addresses_is_not_our_own_connection() {
    let facts = Facts { authority: (*b"a.example").into(), ..Facts::default() };
    assert_eq!(of_client(Version::V1, None, &facts), b"PROXY UNKNOWN\r\n");
    let bytes = of_client(Version::V2, None, &facts);
    assert_eq!(bytes, *b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\x0c\x02\0\x09a.example");
    let header = Header { addresses: None, facts };
    assert_eq!(read_one(&bytes), Ok(Progress::Whole { header, bytes: bytes.len() }));
}

#[test]
fn two_families_become_one() {
    let mixed = addresses("[2001:db8::1]:1", "192.0.2.2:2").expect("two addresses");
    let mut line = Vec::new();
    v1(mixed, &mut line);
    assert_eq!(line, b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 1 2\r\n");
    let mapped = addresses("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2").expect("two addresses");
    line.clear();
    v1(mapped, &mut line);
    assert_eq!(line, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
}

prop_compose! {
    fn any_addresses()(
        v4 in any::<bool>(), source in any::<u128>(), destination in any::<u128>(), ports in any::<[u16; 2]>(),
    ) -> Addresses {
        let ip = |bits: u128| match v4 {
            true => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            false => IpAddr::V6(Ipv6Addr::from_bits(bits | 1 << 127)),
        };
        Addresses {
            source: SocketAddr::new(ip(source), ports[0]),
            destination: SocketAddr::new(ip(destination), ports[1]),
        }
    }
}

prop_compose! {
    fn any_facts()(
        texts in prop::array::uniform6(prop::collection::vec(any::<u8>(), 0..100)),
        flags in prop::option::of(any::<[bool; 4]>()),
    ) -> Facts {
        let [alpn, authority, unique_id, version, cipher, common_name] = texts.map(Vec::into_boxed_slice);
        let tls = flags.map(|[secure, certificate, certificate_in_session, verified]| TlsFacts {
            version, cipher, common_name, secure, certificate, certificate_in_session,
            verified: verified && (certificate || certificate_in_session),
        });
        Facts { alpn, authority, unique_id, tls }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(addresses in any_addresses(), facts in any_facts(), cut in any::<prop::sample::Index>()) {
        let (mut line, mut binary) = (Vec::new(), Vec::new());
        v1(addresses, &mut line);
        v2(Some(addresses), &facts, Transport::Stream, &mut binary);
        prop_assert!(line.len() <= LINE_MAX);
        for (bytes, facts) in [(line, Facts::default()), (binary, facts)] {
            let header = Header { addresses: Some(addresses), facts };
            prop_assert_eq!(read_one(&bytes), Ok(Progress::Whole { header, bytes: bytes.len() }));
            prop_assert_eq!(read_one(&bytes[..cut.index(bytes.len())]), Ok(Progress::Partial));
        }
    }

    #[test]
    fn no_bytes_panic_and_no_prefix_of_them_knows_more(
        start in prop::sample::select(vec![&b""[..], b"PROXY TCP4 ", b"PROXY UNKNOWN", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20"]),
        rest in prop::collection::vec(any::<u8>(), 0..150),
    ) {
        let bytes = [start, &rest].concat();
        let whole = read_one(&bytes);
        for cut in 0..bytes.len() {
            let early = read_one(&bytes[..cut]);
            prop_assert!(early == Ok(Progress::Partial) || early == whole, "{:?} then {:?}", early, whole);
        }
    }
}
