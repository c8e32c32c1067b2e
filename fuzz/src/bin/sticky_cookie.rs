//! Sticky cookies: no bytes are a value unless they are one that was sealed, `Cookie` fields lose ours and nothing else, and
//! what is set into answers is one field.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::policy::sticky::Binding;
use plimsoll::policy::sticky::cookie::{Keys, LENGTH};
use plimsoll::policy::sticky::fields::{Stripped, cache_control, cookie_set, strip};

const SECRETS: [&[u8]; 2] = [&[7; 32], &[9; 32]];

fuzz_target!(|data: &[u8]| {
    let keys = Keys::derive(SECRETS, "c", "p");
    // One and the same each time: the fuzzer sees what it is compared with, and would bring back one that was sealed before.
    let binding = Binding { made: 47, seen: 48, away: true, split: false };
    let sealed = keys.seal(47, &binding).expect("there is a key");
    assert!(keys.open(&sealed).is_some_and(|opened| opened.binding == binding && opened.key == 0));

    // Nobody can make one up: only what was sealed opens.
    assert_eq!(keys.open(data).is_some(), data == sealed);
    let mut forged = sealed;
    for (at, byte) in data.iter().enumerate() {
        forged[at % LENGTH] ^= byte;
    }
    assert_eq!(keys.open(&forged).is_some(), forged == sealed);

    let lines: Vec<&[u8]> = data.split(|&b| b == b'\n').collect();
    let pairs = |lines: &[&[u8]]| -> Vec<Vec<u8>> {
        let pairs = lines.iter().flat_map(|line| line.split(|&b| b == b';')).map(<[u8]>::trim_ascii);
        pairs.filter(|pair| !pair.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let is_ours = |name: &[u8]| name == b"c";
    let named = |pair: &Vec<u8>| {
        is_ours(pair.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii())
    };
    let others: Vec<Vec<u8>> = pairs(&lines).into_iter().filter(|pair| !named(pair)).collect();
    match strip(&lines, is_ours) {
        Stripped::Untouched => assert_eq!(pairs(&lines), others),
        Stripped::Empty => assert!(others.is_empty()),
        Stripped::Rest(rest) => assert_eq!(pairs(&[&rest]), others),
    }

    if let Some(value) = cache_control(&lines) {
        assert!(value.starts_with(b"private") && cache_control(&[&value]).is_none());
    }
    if let Some((name, value)) = cookie_set(data) {
        assert!(!name.is_empty() && !value.is_empty() && !name.contains(&b';') && !value.contains(&b';'));
    }
});
