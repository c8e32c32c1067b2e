//! What targets share: the importers of several files at once are held to the same.

use std::path::Path;

use plimsoll::cli::import::Import;
use plimsoll::cli::import::report::Verdict;
use plimsoll::cli::import::surroundings::Surroundings;
use plimsoll::config::load_text;

/// Hands an importer the files of an input, each behind a line `=== NAME`; what stands before the first is `first`. Each of
/// their lines gets a verdict, with a reason unless it is translated, and what is written loads where it listens.
///
/// # Panics
/// Where that is not so: a finding.
pub fn import(
    data: &[u8],
    first: &str,
    importer: impl FnOnce(&[(&str, &str)], Surroundings<'_>) -> Import,
) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut files: Vec<(&str, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("=== ") {
            Some(name) => files.push((name.trim(), String::new())),
            None => {
                if files.is_empty() {
                    files.push((first, String::new()));
                }
                files.last_mut().expect("there is one").1.push_str(line);
            }
        }
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let around = Surroundings { environment: &|_| None, read: &|_| None, list: &|_| None };
    let import = importer(&files, around);
    if import.text.contains("\n[listener.") {
        let loaded = load_text(&import.text, Path::new("/nonexistent/fuzz.toml"), &|_| None);
        assert!(loaded.is_ok(), "what is written does not load:\n{}\n{}", import.text, loaded.unwrap_err());
    }
    for (number, (_, text)) in files.iter().enumerate() {
        let says = |line: &str| !line.trim().is_empty() && !line.trim().starts_with('#');
        let lines = text.lines().enumerate().filter(|(_, line)| says(line)).map(|(at, _)| at + 1);
        let told = import.report.verdicts().filter(|(at, _)| at.file == number).map(|(at, _)| at.line);
        assert!(lines.eq(told), "not every line has a verdict:\n{}", import.report);
    }
    for (at, verdict) in import.report.verdicts() {
        let explained = import.report.remarks(at).iter().any(|remark| !remark.text.is_empty());
        assert!(explained || verdict == Verdict::Translated, "line {} says no why", at.line);
    }
}
