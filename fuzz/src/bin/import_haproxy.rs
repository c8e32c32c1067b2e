//! haproxy.cfg: every text gets a report with a verdict on each line that says something, and what is made of it loads.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use plimsoll::cli::import::haproxy;
use plimsoll::cli::import::surroundings::Surroundings;
use plimsoll::config::load_text;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let around = Surroundings {
        environment: &|name| (name == "SET").then(|| "x".to_owned()),
        read: &|path| {
            let lists = path.extension().is_some_and(|end| end == "map" || end == "lst");
            lists.then(|| "# a list\na.test app\n10.0.0.0/8 b\n".to_owned())
        },
        list: &|_| None,
    };
    let import = haproxy::import(&[("haproxy.cfg", text)], around);
    let says = |(_, line): &(usize, &str)| !line.trim().is_empty() && !line.trim().starts_with('#');
    let lines: Vec<usize> = text.lines().enumerate().filter(says).map(|(at, _)| at + 1).collect();
    let told: Vec<usize> = import.report.verdicts().map(|(at, _)| at.line).collect();
    assert_eq!(told, lines, "a line goes without a verdict");
    // A source in which nothing listens is no whole configuration.
    if import.text.contains("\n[listener.") {
        let loaded = load_text(&import.text, Path::new("/nonexistent/fuzz.toml"), &|_| None);
        loaded.unwrap_or_else(|errors| panic!("what is written does not load:\n{errors}\n{}", import.text));
    }
});
