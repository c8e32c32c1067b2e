//! nginx.conf: whatever stands in it, every line gets a verdict, and what is written loads.

#![no_main]

use std::collections::BTreeSet;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use plimsoll::cli::import::nginx;
use plimsoll::cli::import::surroundings::Surroundings;
use plimsoll::config::load_text;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let around = Surroundings { environment: &|_| None, read: &|_| None, list: &|_| None };
    let import = nginx::import(&[("nginx.conf", text)], around);
    if import.text.contains("\n[listener.")
        && let Err(errors) = load_text(&import.text, Path::new("/nonexistent/fuzz.toml"), &|_| None)
    {
        panic!("what is written does not load:\n{errors}\n{}", import.text);
    }
    let told: BTreeSet<usize> = import.report.verdicts().map(|(at, _)| at.line).collect();
    for (at, line) in text.lines().enumerate() {
        let says = !line.trim().is_empty() && !line.trim().starts_with('#');
        assert!(!says || told.contains(&(at + 1)), "line {} has no verdict: {line}", at + 1);
    }
});
