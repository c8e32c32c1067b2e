//! A haproxy.cfg of any kind: it is translated without a panic, every line gets a verdict, and what is written loads.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use plimsoll::cli::import::haproxy::{Surroundings, import};
use plimsoll::config::load_text;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let around = Surroundings {
        environment: &|name| (name.len() % 2 == 0).then(|| "10.0.0.1".to_owned()),
        read: &|_| None,
        list: &|_| None,
    };
    let import = import(&[("haproxy.cfg", &text)], around);
    let says = text.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#')).count();
    assert_eq!(import.report.verdicts().count(), says, "a line has no verdict");
    // A source without a listener is no configuration: all else has to load.
    if import.text.contains("[listener.") {
        let loaded = load_text(&import.text, Path::new("plimsoll.toml"), &|_| None);
        if let Err(errors) = loaded {
            panic!("what is written does not load:\n{errors}\n{}", import.text);
        }
    }
});
