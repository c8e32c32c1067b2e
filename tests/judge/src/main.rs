//! http_desync_guardian as a judge: a request head in hex a line on standard input, its tier and reason a line on
//! standard output.

use std::io::{self, BufRead, Write};

use http_desync_guardian::request_analyzer::HttpRequestData;

fn unhex(line: &str) -> Option<Vec<u8>> {
    (0..line.len()).step_by(2).map(|at| u8::from_str_radix(line.get(at..at + 2)?, 16).ok()).collect()
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let head = unhex(line?.trim()).ok_or_else(|| io::Error::other("no hex"))?;
        let verdict = HttpRequestData::analyze_raw_request(&head);
        writeln!(out, "{:?} {:?}", verdict.tier, verdict.reason)?;
    }
    Ok(())
}
