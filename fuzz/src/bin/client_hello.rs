//! ClientHellos: no prefix of one knows more than the whole, and into how many records it is cut makes no difference.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::proxy::client_hello::{Progress, read};

const MAX: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let whole = read(data, MAX);
    for cut in 0..data.len().min(256) {
        let early = read(&data[..cut], MAX);
        assert!(early == Ok(Progress::Partial) || early == whole, "{early:?} of {cut} bytes, then {whole:?}");
    }
    if let Ok(Progress::Whole(Some(name))) = &whole {
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)),
            "{name}"
        );
    }
    // The same bytes as a message, in one record and in many.
    let Some((&size, message)) = data.split_first() else { return };
    if message.is_empty() || message.len() > 4096 {
        return;
    }
    let in_records = |size: usize| -> Vec<u8> {
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).expect("short").to_be_bytes();
            [&[22, 3, 1][..], &length, part].concat()
        };
        message.chunks(size).flat_map(record).collect()
    };
    assert_eq!(read(&in_records(usize::from(size).max(1)), MAX), read(&in_records(message.len()), MAX));
});
