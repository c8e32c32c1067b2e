//! `traceparent` and `tracestate`: what is read is written and read again, and whatever comes, the trace of a request is one
//! that the next can read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::model::trace::{Parent, is_state};
use plimsoll::policy::traces::{Accept, Settings};

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|&byte| byte == b'\n');
    let parent = lines.next().unwrap_or_default();
    let states: Vec<&[u8]> = lines.collect();
    let read = Parent::parse(parent);
    if let Some(read) = read {
        assert_eq!(Parent::parse(&read.text()), Some(read));
        if parent.starts_with(b"00") {
            assert_eq!(&read.text()[..53], &parent[..53]);
        }
    }
    if is_state(states.iter().copied()) {
        // Joined they are the same (section 3.3).
        assert!(is_state([&states.join(&b","[..])[..]].into_iter()));
        let lone = |line: &&[u8]| is_state(std::iter::once(*line));
        assert!(states.iter().all(lone));
    }
    for accept in [Accept::All, Accept::Trusted] {
        let settings = Settings { accept, sample: 0.5 };
        let traced = settings
            .trace(false, [parent].into_iter(), states.iter().copied(), || u64::from_le_bytes([7; 8]));
        assert_eq!(Parent::parse(&traced.parent.text()), Some(traced.parent));
        assert_eq!(traced.begun, accept == Accept::Trusted || read.is_none());
    }
});
