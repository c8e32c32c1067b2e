//! A request body on its way from the client: checked as it arrives, kept for a repeat only where one is possible.

use super::chunked::{Chunked, Limits, Output};
use super::head::Framing;
use crate::proxy::buffer::Buffer;
use crate::proxy::error::Refusal;

/// A request body.
///
/// Bytes at the front of the input are *staged* once they have been checked; staged bytes are sent, then taken away.
#[derive(Debug)]
pub struct Upload {
    coding: Coding,
    staged: usize,
    /// Bytes at the front of the input that go away once all that is staged has been sent.
    consumed: usize,
    replay: Replay,
    moved: u64,
    /// Bytes that it may have.
    max: u64,
}

#[derive(Debug)]
enum Coding {
    Length(u64),
    Chunked(Chunked),
}

/// What has been sent of the body, for a repeat.
#[derive(Debug)]
enum Replay {
    /// Kept up to a limit.
    Kept { bytes: Vec<u8>, max: usize },
    /// Not kept.
    Lost,
}

impl Upload {
    /// A body with this framing.
    #[must_use]
    pub fn new(framing: Framing, limits: Limits) -> Self {
        let coding = match framing {
            Framing::None | Framing::UntilClose => Coding::Length(0),
            Framing::Length(length) => Coding::Length(length),
            Framing::Chunked => Coding::Chunked(Chunked::new(Output::Chunked, limits)),
        };
        Self { coding, staged: 0, consumed: 0, replay: Replay::Lost, moved: 0, max: u64::MAX }
    }

    /// What another has read of it: so many bytes, and whether all.
    #[must_use]
    pub const fn elsewhere(moved: u64, done: bool) -> Self {
        // What is left is of no known length; whoever asks only asks whether there is any.
        let coding = Coding::Length(if done { 0 } else { u64::MAX });
        Self { coding, staged: 0, consumed: 0, replay: Replay::Lost, moved, max: u64::MAX }
    }

    /// All that has come of it, as it came but for what was left out of its coding, and what is behind it: what is
    /// kept, what is staged, what has not been looked at.
    pub fn unstaged(&mut self, input: &mut Buffer) -> Buffer {
        let mut all = Buffer::default();
        all.put(self.sent_before());
        all.put(&input.bytes()[..self.staged]);
        all.put(input.bytes().get(self.staged.max(self.consumed)..).unwrap_or_default());
        *input = Buffer::default();
        all
    }

    /// Holds it to a size.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLarge`] when it is known to be larger; what becomes so later is refused by [`Upload::stage`].
    pub fn limit(&mut self, max: u64) -> Result<(), Refusal> {
        self.max = max;
        match &mut self.coding {
            Coding::Length(left) if self.moved + self.staged as u64 + *left > max => {
                Err(Refusal::BodyTooLarge)
            }
            Coding::Length(_) => Ok(()),
            Coding::Chunked(chunked) => chunked.limit(max),
        }
    }

    /// The size that it is held to.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// Keeps what is sent from now on for a repeat, up to `max` bytes.
    pub fn keep(&mut self, max: usize) {
        let fits = match self.coding {
            Coding::Length(length) => length <= max as u64,
            Coding::Chunked(_) => true,
        };
        if fits && self.moved == 0 {
            self.replay = Replay::Kept { bytes: Vec::new(), max };
        }
    }

    /// Whether all that has been sent can be sent again.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        self.moved == 0 || matches!(self.replay, Replay::Kept { .. })
    }

    /// Whether there is nothing of it, or it will be kept for a repeat.
    #[must_use]
    pub fn will_repeat(&self) -> bool {
        matches!(self.replay, Replay::Kept { .. }) || (self.moved == 0 && self.is_done())
    }

    /// Bytes that can go from socket to socket unseen: of a body of known length that is not kept.
    #[must_use]
    pub fn splicable(&self) -> u64 {
        match (&self.coding, &self.replay) {
            (Coding::Length(left), Replay::Lost) if self.staged == 0 => *left,
            _ => 0,
        }
    }

    /// Notes bytes that went from socket to socket.
    pub fn spliced(&mut self, n: u64) {
        if let Coding::Length(left) = &mut self.coding {
            *left = left.saturating_sub(n);
        }
        self.moved += n;
    }

    /// What has been sent already, to be sent again first.
    #[must_use]
    pub fn sent_before(&self) -> &[u8] {
        match &self.replay {
            Replay::Kept { bytes, .. } => bytes,
            Replay::Lost => &[],
        }
    }

    /// Bytes of the body that have gone on.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether all of it has been sent.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.staged == 0 && self.is_complete()
    }

    /// Whether all of it has arrived.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        match &self.coding {
            Coding::Length(left) => *left == 0,
            Coding::Chunked(chunked) => chunked.is_done(),
        }
    }

    /// Checks what has arrived. Does nothing while something staged waits to be sent.
    ///
    /// # Errors
    /// [`Refusal`] when the body is malformed.
    pub fn stage(&mut self, input: &mut Buffer) -> Result<(), Refusal> {
        if self.staged > 0 || input.is_empty() {
            return Ok(());
        }
        match &mut self.coding {
            Coding::Length(left) => {
                let n = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= n as u64;
                self.staged = n;
                self.consumed = n;
            }
            Coding::Chunked(chunked) => {
                let turn = chunked.turn(input.bytes_mut())?;
                self.staged = turn.produced;
                self.consumed = turn.consumed;
                self.drop_consumed(input);
            }
        }
        Ok(())
    }

    /// What can be sent now.
    #[must_use]
    pub fn staged<'a>(&self, input: &'a Buffer) -> &'a [u8] {
        &input.bytes()[..self.staged]
    }

    /// Notes that the first `n` staged bytes have been sent, or put where they will be.
    pub fn sent(&mut self, input: &mut Buffer, n: usize) {
        self.moved += n as u64;
        if let Replay::Kept { bytes, max } = &mut self.replay {
            if bytes.len() + n <= *max {
                bytes.extend_from_slice(&input.bytes()[..n]);
            } else {
                self.replay = Replay::Lost;
            }
        }
        input.consume(n);
        self.staged -= n;
        self.consumed -= n;
        self.drop_consumed(input);
    }

    fn drop_consumed(&mut self, input: &mut Buffer) {
        if self.staged == 0 {
            input.consume(self.consumed);
            self.consumed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { trailers: 1024, fields: 8, extensions: 1024 };

    fn input(text: &str) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.put(text.as_bytes());
        buffer
    }

    #[test]
    fn a_body_of_known_length_leaves_the_next_request_alone() {
        let mut upload = Upload::new(Framing::Length(5), LIMITS);
        let mut bytes = input("helloGET /");
        upload.stage(&mut bytes).expect("it is valid");
        assert_eq!(upload.staged(&bytes), b"hello");
        upload.sent(&mut bytes, 2);
        assert!(!upload.is_done());
        upload.sent(&mut bytes, 3);
        assert!(upload.is_done());
        assert_eq!(bytes.bytes(), b"GET /");
    }

    #[test]
    fn a_chunked_body_is_staged_as_it_goes_on() {
        let mut upload = Upload::new(Framing::Chunked, LIMITS);
        let mut bytes = input("05;x=y\r\nhello\r\n0\r\n\r\nGET /");
        upload.stage(&mut bytes).expect("it is valid");
        assert_eq!(upload.staged(&bytes), b"5\r\nhello\r\n0\r\n\r\n");
        let n = upload.staged(&bytes).len();
        upload.sent(&mut bytes, n);
        assert!(upload.is_done());
        assert_eq!(bytes.bytes(), b"GET /");
    }

    #[test]
    fn a_body_is_held_to_its_size_by_what_it_says_and_by_what_comes() {
        let limited = |framing, text: &str, max| {
            let mut upload = Upload::new(framing, LIMITS);
            let mut bytes = input(text);
            upload.stage(&mut bytes)?;
            upload.limit(max)?;
            let n = upload.staged(&bytes).len();
            upload.sent(&mut bytes, n);
            let mut more = input("5\r\nworld\r\n");
            upload.stage(&mut more)
        };
        assert_eq!(limited(Framing::Length(5), "hel", 5), Ok(()));
        assert_eq!(limited(Framing::Length(5), "hel", 4), Err(Refusal::BodyTooLarge));
        assert_eq!(limited(Framing::Chunked, "5\r\nhello\r\n", 10), Ok(()));
        assert_eq!(limited(Framing::Chunked, "5\r\nhello\r\n", 9), Err(Refusal::BodyTooLarge));
        assert_eq!(limited(Framing::Chunked, "5\r\nhello\r\n", 4), Err(Refusal::BodyTooLarge));
    }

    #[test]
    fn what_was_kept_can_be_sent_again_until_it_is_too_large() {
        let mut upload = Upload::new(Framing::Chunked, LIMITS);
        upload.keep(16);
        let mut bytes = input("5\r\nhello\r\n");
        upload.stage(&mut bytes).expect("it is valid");
        upload.sent(&mut bytes, 10);
        assert_eq!(upload.sent_before(), b"5\r\nhello\r\n");
        assert!(upload.is_replayable());
        let mut bytes = input("5\r\nworld\r\n");
        upload.stage(&mut bytes).expect("it is valid");
        upload.sent(&mut bytes, 10);
        assert!(!upload.is_replayable());
    }
}
