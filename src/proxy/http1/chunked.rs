//! The chunked transfer coding (RFC 9112 section 7.1), checked and rewritten in place while data stays where it is.
//!
//! Sizes go on without leading zeros and extensions, trailer fields without those that frame or route. As long as a
//! message needs no change, no byte of it moves; once it does, each byte moves at most once.

use super::fields::{Span, may_trail};
use crate::proxy::error::Refusal;

/// Longest accepted chunk-size line, its extensions included. (RFC 9112 section 7.1.1 asks for a limit.) No setting: what
/// goes over it counts as `chunk_extensions`, which bounds the sum.
pub const SIZE_LINE_MAX: usize = 1024;

/// Limits on one chunked body.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of its trailer section.
    pub trailers: usize,
    /// Fields of its trailer section.
    pub fields: usize,
    /// Bytes of extensions in all its chunks together.
    pub extensions: usize,
}

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Chunked again.
    Chunked,
    /// The data alone, for an HTTP/1.0 client.
    Data,
    /// The data, and apart from it the trailer section, for a client whose protocol frames them itself.
    Frames,
}

/// Where in a chunked body the bytes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    /// The last size line, of so many bytes, is kept in front of the trailer section until all of it is there.
    Trailers(usize),
    Done,
}

/// A chunked body on its way.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    /// Bytes of data in all chunks that have begun, and how many there may be.
    data: (u64, u64),
    extensions: usize,
    output: Output,
    limits: Limits,
    /// Of [`Output::Frames`]: the lines of the trailer section that may go on, and the empty one.
    trailers: Option<Box<[u8]>>,
}

/// What one turn did: the first `produced` bytes go on, the first `consumed` are done with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Bytes at the front that go on.
    pub produced: usize,
    /// Bytes at the front that are not needed any more, those that go on included.
    pub consumed: usize,
}

/// Why a body is no chunked body.
pub type Fault = Refusal;

const BAD_SIZE: Fault = Refusal::Malformed("a chunk size is malformed");
const BAD_DATA_END: Fault = Refusal::Malformed("chunk data is longer than its size");
const BAD_TRAILER: Fault = Refusal::Malformed("the trailer section is malformed");

impl Chunked {
    /// A body from its start.
    #[must_use]
    pub const fn new(output: Output, limits: Limits) -> Self {
        Self { state: State::Size, data: (0, u64::MAX), extensions: 0, output, limits, trailers: None }
    }

    /// Holds the data of all chunks to a size.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLarge`] when those that have begun are larger; one that begins later fails its turn.
    pub const fn limit(&mut self, max: u64) -> Result<(), Fault> {
        self.data.1 = max;
        if self.data.0 > max { Err(Refusal::BodyTooLarge) } else { Ok(()) }
    }

    /// Whether the last byte of the body has been consumed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer section, where it is kept apart and has a line that may go on; once.
    pub fn take_trailers(&mut self) -> Option<Box<[u8]>> {
        self.trailers.take()
    }

    /// Whether [`Chunked::take_trailers`] has something to give.
    #[must_use]
    pub const fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// Bytes of the current chunk's data that have not been consumed yet.
    #[must_use]
    pub const fn data_left(&self) -> u64 {
        match self.state {
            State::Data(left) => left,
            _ => 0,
        }
    }

    /// Notes data of the current chunk that went on by another way than through [`Chunked::turn`].
    pub fn skip_data(&mut self, n: u64) {
        if let State::Data(left) = &mut self.state {
            *left = left.saturating_sub(n);
            if *left == 0 {
                self.state = State::DataEnd;
            }
        }
    }

    /// Works on what has arrived: `bytes` starts where the last turn's `consumed` ended.
    ///
    /// # Errors
    /// [`Fault`] when it is no chunked body or a limit is passed; what was produced before stays correct.
    pub fn turn(&mut self, bytes: &mut [u8]) -> Result<Turn, Fault> {
        let mut turn = Turn::default();
        loop {
            let before = turn;
            let state = self.state;
            match state {
                State::Size => self.size(bytes, &mut turn)?,
                State::Data(left) => self.data(bytes, &mut turn, left),
                State::DataEnd => self.data_end(bytes, &mut turn)?,
                State::Trailers(line) => self.trailers(bytes, &mut turn, line)?,
                State::Done => return Ok(turn),
            }
            if turn == before && self.state == state {
                return Ok(turn);
            }
        }
    }

    fn size(&mut self, bytes: &mut [u8], turn: &mut Turn) -> Result<(), Fault> {
        let rest = &bytes[turn.consumed..];
        let Some(line) = complete_line(rest)? else {
            // A first byte that cannot start a size is refused without waiting for the rest of the line.
            // One byte over the limit may be the CR of a line that is just as long as lines may be.
            return match rest.first() {
                Some(first) if !first.is_ascii_hexdigit() => Err(BAD_SIZE),
                Some(_) if rest.len() > SIZE_LINE_MAX + 1 => Err(Refusal::ExtensionsTooLarge),
                _ => Ok(()),
            };
        };
        let length = line.len() + 2;
        let (size, digits) = parse_size(line)?;
        self.extensions += line.len() - digits;
        if line.len() > SIZE_LINE_MAX || self.extensions > self.limits.extensions {
            return Err(Refusal::ExtensionsTooLarge);
        }
        let zeros = line[..digits].iter().take(digits - 1).take_while(|&&b| b == b'0').count();
        if size == 0 {
            self.state = State::Trailers(length);
            return Ok(());
        }
        self.data.0 = self.data.0.saturating_add(size);
        if self.data.0 > self.data.1 {
            return Err(Refusal::BodyTooLarge);
        }
        let from = turn.consumed;
        turn.consumed += length;
        if self.output == Output::Chunked {
            emit(bytes, turn, from + zeros, digits - zeros);
            // The line's own CRLF lies behind any extension.
            emit(bytes, turn, from + length - 2, 2);
        }
        self.state = State::Data(size);
        Ok(())
    }

    fn data(&mut self, bytes: &mut [u8], turn: &mut Turn, left: u64) {
        let here = bytes.len() - turn.consumed;
        let n = usize::try_from(left).map_or(here, |left| left.min(here));
        let from = turn.consumed;
        turn.consumed += n;
        emit(bytes, turn, from, n);
        let left = left - n as u64;
        self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
    }

    fn data_end(&mut self, bytes: &mut [u8], turn: &mut Turn) -> Result<(), Fault> {
        let from = turn.consumed;
        match &bytes[from..] {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => return Ok(()),
            _ => return Err(BAD_DATA_END),
        }
        turn.consumed += 2;
        if self.output == Output::Chunked {
            emit(bytes, turn, from, 2);
        }
        self.state = State::Size;
        Ok(())
    }

    /// Trailers go on only when all of them are there.
    fn trailers(&mut self, bytes: &mut [u8], turn: &mut Turn, line: usize) -> Result<(), Fault> {
        let from = turn.consumed + line;
        let Some(length) = section_length(&bytes[from..])? else {
            return if bytes.len() - from > self.limits.trailers {
                Err(Refusal::HeadTooLarge)
            } else {
                Ok(())
            };
        };
        let kept = self.kept_trailers(&bytes[from..from + length])?;
        turn.consumed += line + length;
        self.state = State::Done;
        match self.output {
            Output::Data => return Ok(()),
            Output::Frames if kept.is_empty() => return Ok(()),
            Output::Frames => {
                let mut lines: Vec<u8> = Vec::with_capacity(length);
                kept.iter().for_each(|line| lines.extend_from_slice(&bytes[from + line.0..][..line.1]));
                lines.extend_from_slice(b"\r\n");
                self.trailers = Some(lines.into());
                return Ok(());
            }
            Output::Chunked => {}
        }
        // The last size line, which lies in front of the section, makes room for its canonical form.
        put(bytes, turn, b"0\r\n");
        for line in kept {
            emit(bytes, turn, from + line.0, line.1);
        }
        emit(bytes, turn, from + length - 2, 2);
        Ok(())
    }

    /// Where the trailer lines lie that may go on, as (start, length) within the section.
    fn kept_trailers(&self, section: &[u8]) -> Result<Vec<(usize, usize)>, Fault> {
        if section.len() == 2 {
            return Ok(Vec::new());
        }
        if section.len() > self.limits.trailers {
            return Err(Refusal::HeadTooLarge);
        }
        // Trailers are rare: no space is at hand for them. No section has more fields than lines.
        let lines = memchr::memchr_iter(b'\n', section).count();
        let mut scratch = vec![httparse::EMPTY_HEADER; lines.min(self.limits.fields)];
        let fields = match httparse::parse_headers(section, &mut scratch) {
            Ok(httparse::Status::Complete((_, fields))) => fields,
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyFields),
            Ok(httparse::Status::Partial) | Err(_) => return Err(BAD_TRAILER),
        };
        let mut kept = Vec::with_capacity(fields.len());
        for field in fields.iter().filter(|f| may_trail(f.name.as_bytes())) {
            let start = (field.name.as_ptr() as usize).wrapping_sub(section.as_ptr() as usize);
            let end = memchr::memchr(b'\n', &section[start..]).map_or(section.len(), |lf| start + lf + 1);
            debug_assert_eq!(Span::of(section, field.name.as_bytes()).len(), field.name.len());
            kept.push((start, end - start));
        }
        Ok(kept)
    }
}

/// The first line of `bytes` without its CRLF, if it is complete.
fn complete_line(bytes: &[u8]) -> Result<Option<&[u8]>, Fault> {
    let searched = &bytes[..bytes.len().min(SIZE_LINE_MAX + 2)];
    let Some(lf) = memchr::memchr(b'\n', searched) else { return Ok(None) };
    match bytes[..lf].split_last() {
        Some((b'\r', line)) if !line.contains(&b'\r') => Ok(Some(line)),
        _ => Err(BAD_SIZE),
    }
}

/// The size, and how many digits it has; what follows must look like extensions.
fn parse_size(line: &[u8]) -> Result<(u64, usize), Fault> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits == 0 || digits > 16 {
        return Err(BAD_SIZE);
    }
    let size = line[..digits].iter().fold(0u64, |n, &d| (n << 4) | u64::from(hex_value(d)));
    if i64::try_from(size).is_err() {
        return Err(BAD_SIZE);
    }
    match &line[digits..] {
        [] => Ok((size, digits)),
        [b';', extension @ ..] => {
            let clean = extension.iter().all(|&b| (b >= 0x20 && b != 0x7f) || b == b'\t');
            let quotes = extension.iter().filter(|&&b| b == b'"').count();
            if clean && quotes % 2 == 0 { Ok((size, digits)) } else { Err(BAD_SIZE) }
        }
        _ => Err(BAD_SIZE),
    }
}

const fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// Bytes of a trailer section, its empty line included, if it is complete.
fn section_length(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let mut at = 0;
    while let Some(lf) = memchr::memchr(b'\n', &bytes[at..]) {
        let end = at + lf;
        if end == 0 || bytes[end - 1] != b'\r' {
            return Err(BAD_TRAILER);
        }
        if lf == 1 {
            return Ok(Some(end + 1));
        }
        at = end + 1;
    }
    Ok(None)
}

/// Lets `length` bytes from `from` go on. They move only if something in front of them was left out.
fn emit(bytes: &mut [u8], turn: &mut Turn, from: usize, length: usize) {
    if turn.produced != from {
        bytes.copy_within(from..from + length, turn.produced);
    }
    turn.produced += length;
}

fn put(bytes: &mut [u8], turn: &mut Turn, text: &[u8]) {
    bytes[turn.produced..turn.produced + text.len()].copy_from_slice(text);
    turn.produced += text.len();
}

#[cfg(test)]
#[path = "chunked/tests.rs"]
mod tests;
