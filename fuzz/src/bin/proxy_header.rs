//! PROXY headers: no prefix of one knows more than the whole, what is accepted is written again as it was read, and nothing
//! that follows a header changes it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::proxy::proxy_protocol::read::{Progress, read};
use plimsoll::proxy::proxy_protocol::{Facts, Header, Transport, write};

const MAX: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let whole = read(data, MAX, Transport::Stream);
    for cut in 0..data.len().min(256) {
        let early = read(&data[..cut], MAX, Transport::Stream);
        assert!(early == Ok(Progress::Partial) || early == whole, "{early:?} of {cut} bytes, then {whole:?}");
    }
    let Ok(Progress::Whole { header, bytes }) = whole else { return };
    assert!(bytes <= data.len() && bytes <= MAX);
    assert_eq!(
        read(&data[..bytes], MAX, Transport::Stream),
        Ok(Progress::Whole { header: header.clone(), bytes })
    );
    let Some(addresses) = header.addresses else { return };
    check(&header, |out| write::v2(Some(addresses), &header.facts, Transport::Stream, out));
    let bare = Header { facts: Facts::default(), ..header };
    check(&bare, |out| write::v1(addresses, out));
});

/// What is written of a header is that header, but for mapped addresses, which become what they stand for, and for texts that
/// are longer than we would write.
fn check(header: &Header, write: impl Fn(&mut Vec<u8>)) {
    let mut out = Vec::new();
    write(&mut out);
    let Ok(Progress::Whole { header: again, bytes }) = read(&out, MAX, Transport::Stream) else {
        panic!("not read again: {}", out.escape_ascii());
    };
    assert_eq!(bytes, out.len());
    let (was, is) = (header.addresses.expect("addresses"), again.addresses.expect("addresses"));
    for (was, is) in [(was.source, is.source), (was.destination, is.destination)] {
        assert_eq!((was.ip().to_canonical(), was.port()), (is.ip().to_canonical(), is.port()));
    }
    assert_eq!(again.facts.authority, header.facts.authority);
    assert_eq!(again.facts.unique_id, header.facts.unique_id);
    assert_eq!(
        again.facts.tls.as_ref().map(|tls| tls.secure),
        header.facts.tls.as_ref().map(|tls| tls.secure)
    );
}
