//! Where a head ends in what has arrived so far, and whether it can become one at all. What it says is `head`'s.

/// Looks for the end of a head, byte by byte only once however it arrives.
#[derive(Debug, Default, Clone, Copy)]
pub struct Scanner {
    scanned: usize,
    /// Length of the start line, once it is complete.
    start_line: Option<usize>,
}

/// What a [`Scanner`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// More bytes are needed.
    Partial,
    /// The start line is there, for the first time; more bytes are needed after it.
    StartLine(usize),
    /// The head has so many bytes, its empty line included.
    Complete(usize),
    /// A line ends in LF alone.
    BareLf,
}

impl Scanner {
    /// Goes on where it stopped; `bytes` is all that has arrived so far.
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
        let first_time = self.start_line.is_none();
        while let Some(at) = memchr::memchr(b'\n', bytes.get(self.scanned..).unwrap_or_default()) {
            let lf = self.scanned + at;
            self.scanned = lf + 1;
            if lf == 0 || bytes[lf - 1] != b'\r' {
                return Scan::BareLf;
            }
            if self.start_line.is_none() {
                self.start_line = Some(lf + 1);
            }
            if lf >= 3 && bytes[lf - 2] == b'\n' {
                return Scan::Complete(lf + 1);
            }
        }
        self.scanned = bytes.len();
        match self.start_line {
            Some(length) if first_time => Scan::StartLine(length),
            _ => Scan::Partial,
        }
    }
}

/// The empty lines before a request, which are skipped (RFC 9112 section 2.2): how many bytes.
#[must_use]
pub fn leading_empty_lines(bytes: &[u8]) -> usize {
    bytes.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2
}

/// Whether bytes that hold no complete line yet can still become a request line.
#[must_use]
pub fn may_become_request(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .take(32)
        .take_while(|&&b| b != b' ')
        .all(|&b| crate::model::field::is_token_byte(b) || b == b'\r')
}
