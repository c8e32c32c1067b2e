//! What passes on a connection of HTTP/2, frame by frame (RFC 9113 section 4.1): floods that keep within every rule but
//! make work for nothing are counted here, as h2 does not tell of their frames.

use std::time::Duration;

use tokio::time::Instant;

use crate::runtime::limits::{Flood, Http2Limits};

/// A preface (RFC 9113 section 3.4) comes before the first frame.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// In which time the rates are counted.
const SECOND: Duration = Duration::from_secs(1);

/// A WINDOW_UPDATE by fewer bytes than this is tiny. No setting: who reads at all reads more before he says so.
const TINY: u32 = 256;

/// SETTINGS entries that count as a frame. No setting: there are fewer that mean anything.
const SETTINGS_ENTRIES: u32 = 8;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// END_STREAM of DATA and HEADERS; of PING and SETTINGS it is ACK.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const FRAME_HEAD: usize = 9;

/// Bytes of a GOAWAY that tell which of its own limits h2 found passed: two numbers and the longest name.
const FRONT: usize = 32;

/// A frame: its head, and as much of what is in it as says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    length: u32,
    stream: u32,
    /// The first bytes in it, as many as say anything; zeros where there are fewer.
    front: [u8; FRONT],
}

impl Frame {
    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The number that is all there is in it, or that it begins with.
    const fn number(&self) -> u32 {
        let [a, b, c, d, ..] = self.front;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Bytes of its front.
    fn wanted(&self) -> usize {
        let most = if self.kind == GOAWAY { FRONT } else { 4 };
        most.min(self.length as usize)
    }
}

/// Finds the frames in a stream of bytes.
#[derive(Debug)]
struct Frames {
    /// Bytes to pass over before the next frame head.
    skip: usize,
    head: [u8; FRAME_HEAD],
    have: usize,
    /// A frame whose front is still to come, of which so many bytes are there.
    begun: Option<(Frame, usize)>,
    /// What is passed over is data.
    in_data: bool,
}

impl Frames {
    const fn after(skip: usize) -> Self {
        Self { skip, head: [0; FRAME_HEAD], have: 0, begun: None, in_data: false }
    }

    /// Whether the bytes so far end between two frames, or in data, which may take its time.
    const fn is_settled(&self) -> bool {
        self.have == 0 && (self.skip == 0 || self.in_data) && self.begun.is_none()
    }

    fn each(&mut self, mut bytes: &[u8], mut found: impl FnMut(&Frame)) {
        while !bytes.is_empty() {
            if let Some((frame, have)) = &mut self.begun {
                let wanted = frame.wanted();
                let n = bytes.len().min(wanted - *have);
                frame.front[*have..*have + n].copy_from_slice(&bytes[..n]);
                *have += n;
                bytes = &bytes[n..];
                if *have == wanted {
                    let frame = *frame;
                    self.skip = frame.length as usize - wanted;
                    self.in_data = frame.kind == DATA;
                    self.begun = None;
                    found(&frame);
                }
                continue;
            }
            if self.skip > 0 {
                let n = bytes.len().min(self.skip);
                self.skip -= n;
                bytes = &bytes[n..];
                continue;
            }
            let n = bytes.len().min(FRAME_HEAD - self.have);
            self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
            self.have += n;
            bytes = &bytes[n..];
            if self.have == FRAME_HEAD {
                self.have = 0;
                self.begin(&mut found);
            }
        }
    }

    fn begin(&mut self, found: &mut impl FnMut(&Frame)) {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
        let frame = Frame {
            kind,
            flags,
            length: u32::from_be_bytes([0, l0, l1, l2]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1),
            front: [0; FRONT],
        };
        if frame.length == 0 {
            found(&frame);
        } else {
            self.begun = Some((frame, 0));
        }
    }
}

/// How often something has happened within the present second.
#[derive(Debug, Clone, Copy)]
struct Rate {
    since: Instant,
    count: u32,
}

/// What h2 did of its own accord for a client's requests, which no request of ours tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Requests over the limit of those at once.
    pub streams: u32,
    /// Requests that were none.
    pub malformed: u32,
    /// Heads over their size.
    pub heads: u32,
}

/// How the other side has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// Its first frame has not come.
    Awaited,
    /// With SETTINGS.
    Right,
    /// With anything else.
    Wrong,
}

/// What has passed on one connection.
#[derive(Debug)]
pub struct Traffic {
    limits: Http2Limits,
    incoming: Frames,
    outgoing: Frames,
    beginning: Beginning,
    rates: [Rate; Flood::RATED],
    /// Tiny WINDOW_UPDATEs that small answers of ours have earned: one of the stream and one of the connection for each
    /// piece. gRPC clients acknowledge every message so.
    earned: u32,
    /// CONTINUATION frames of the present head.
    continuations: u32,
    /// When the head began that has not ended.
    head_since: Option<Instant>,
    flood: Option<Flood>,
    refused: Refused,
    /// The last stream that h2 has answered itself.
    answered: u32,
    /// The last stream whose request has been accepted.
    accepted: u32,
}

impl Traffic {
    /// Nothing has passed yet.
    #[must_use]
    pub fn new(limits: Http2Limits, now: Instant) -> Self {
        Self {
            limits,
            incoming: Frames::after(PREFACE.len()),
            outgoing: Frames::after(0),
            beginning: Beginning::Awaited,
            rates: [Rate { since: now, count: 0 }; Flood::RATED],
            earned: 0,
            continuations: 0,
            // Its preface, and the SETTINGS that belong to it.
            head_since: Some(now),
            flood: None,
            refused: Refused::default(),
            answered: 0,
            accepted: 0,
        }
    }

    /// Nothing has passed yet on a connection to an endpoint, which has no preface of its own. Only what the endpoint makes
    /// us work for nothing is counted.
    #[must_use]
    pub fn of_endpoint(limits: Http2Limits, now: Instant) -> Self {
        let (incoming, outgoing) = (Frames::after(0), Frames::after(PREFACE.len()));
        Self { incoming, outgoing, accepted: u32::MAX, ..Self::new(limits, now) }
    }

    /// Whether the first frame was another one than SETTINGS (RFC 9113 section 3.4).
    #[must_use]
    pub fn began_wrong(&self) -> bool {
        self.beginning == Beginning::Wrong
    }

    /// What the other side has done too much of.
    #[must_use]
    pub const fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// When the request head, or whatever other frame, began that has not ended yet.
    #[must_use]
    pub const fn head_since(&self) -> Option<Instant> {
        self.head_since
    }

    /// What h2 has refused since this was asked last.
    pub fn take_refused(&mut self) -> Refused {
        std::mem::take(&mut self.refused)
    }

    /// Takes note of bytes from the other side.
    pub fn received(&mut self, bytes: &[u8], now: Instant) {
        let mut incoming = std::mem::replace(&mut self.incoming, Frames::after(0));
        incoming.each(bytes, |frame| self.came(frame, now));
        let waiting = self.beginning == Beginning::Awaited || self.in_head() || !incoming.is_settled();
        self.incoming = incoming;
        match (waiting, self.head_since) {
            (false, _) => self.head_since = None,
            (true, None) => self.head_since = Some(now),
            (true, Some(_)) => {}
        }
    }

    const fn in_head(&self) -> bool {
        self.continuations > 0
    }

    fn came(&mut self, frame: &Frame, now: Instant) {
        if self.beginning == Beginning::Awaited {
            let right = frame.kind == SETTINGS && !frame.has(END_STREAM);
            self.beginning = if right { Beginning::Right } else { Beginning::Wrong };
        }
        match frame.kind {
            DATA => {
                let padding = if frame.has(PADDED) { 1 + u32::from(frame.front[0]) } else { 0 };
                let data = frame.length.saturating_sub(padding);
                if (data == 0 && !frame.has(END_STREAM)) || padding > data.max(1) {
                    self.count(Flood::EmptyFrames, 1, now);
                }
            }
            HEADERS => self.continuations = u32::from(!frame.has(END_HEADERS)),
            CONTINUATION => {
                if self.continuations > self.limits.continuations {
                    self.note(Flood::Continuations);
                }
                self.continuations = if frame.has(END_HEADERS) { 0 } else { self.continuations + 1 };
            }
            // An answer to one of ours is no work.
            PING | SETTINGS if frame.has(END_STREAM) => {}
            PING => self.count(Flood::Pings, 1, now),
            SETTINGS => self.count(Flood::Settings, 1 + frame.length / (6 * SETTINGS_ENTRIES), now),
            WINDOW_UPDATE => {
                if frame.number() < TINY {
                    match self.earned.checked_sub(1) {
                        Some(left) => self.earned = left,
                        None => self.count(Flood::WindowUpdates, 1, now),
                    }
                }
            }
            // Those that cancel a request before its answer are counted as such.
            RST_STREAM | GOAWAY | PUSH_PROMISE => {}
            _ => self.count(Flood::Priorities, 1, now),
        }
    }

    /// Takes note of bytes to the other side.
    pub fn sent(&mut self, bytes: &[u8], now: Instant) {
        let mut outgoing = std::mem::replace(&mut self.outgoing, Frames::after(0));
        outgoing.each(bytes, |frame| self.went(frame, now));
        self.outgoing = outgoing;
    }

    fn went(&mut self, frame: &Frame, now: Instant) {
        const PROTOCOL_ERROR: u32 = 1;
        const FLOW_CONTROL_ERROR: u32 = 3;
        const STREAM_CLOSED: u32 = 5;
        const FRAME_SIZE_ERROR: u32 = 6;
        const REFUSED_STREAM: u32 = 7;
        match frame.kind {
            DATA if frame.length > 0 => self.earned = self.earned.saturating_add(2),
            // An answer to a request that nobody has been given: h2 says 431 to a head over its own limit.
            HEADERS if frame.has(END_STREAM) && frame.stream > self.accepted => {
                self.answered = frame.stream;
                self.refused.heads += 1;
            }
            GOAWAY => {
                let limits = [
                    (&b"too_many_resets"[..], Flood::Resets),
                    (b"too_many_internal_resets", Flood::Faults),
                    (b"too_many_data_frames", Flood::EmptyFrames),
                    (b"too_many_continuations", Flood::Continuations),
                ];
                if let Some((_, flood)) =
                    limits.into_iter().find(|(name, _)| frame.front[8..].starts_with(name))
                {
                    self.note(flood);
                }
                // A head that unpacks to far more than its limit.
                self.refused.heads += u32::from(frame.front[8..].starts_with(b"header_list_way_too_larg"));
            }
            RST_STREAM => {
                match frame.number() {
                    // It has been counted with its answer.
                    PROTOCOL_ERROR if self.answered == frame.stream => {}
                    PROTOCOL_ERROR => self.refused.malformed += 1,
                    REFUSED_STREAM => self.refused.streams += 1,
                    FLOW_CONTROL_ERROR | STREAM_CLOSED | FRAME_SIZE_ERROR => {}
                    _ => return,
                }
                self.count(Flood::Faults, 1, now);
            }
            _ => {}
        }
    }

    /// The request of this stream has been accepted.
    pub const fn accepted(&mut self, stream: u32) {
        self.accepted = stream;
    }

    /// A request was cancelled before its answer.
    pub fn cancelled(&mut self, now: Instant) {
        self.count(Flood::Resets, 1, now);
    }

    fn count(&mut self, flood: Flood, n: u32, now: Instant) {
        let place = flood as usize;
        let (Some(rate), Some(&limit)) = (self.rates.get_mut(place), self.limits.rates.get(place)) else {
            return;
        };
        if now.saturating_duration_since(rate.since) >= SECOND {
            *rate = Rate { since: now, count: 0 };
        }
        rate.count = rate.count.saturating_add(n);
        if rate.count > limit {
            self.note(flood);
        }
    }

    /// Notes what h2 itself or a count has found to be too much; the first stands.
    const fn note(&mut self, flood: Flood) {
        if self.flood.is_none() {
            self.flood = Some(flood);
        }
    }
}

#[cfg(test)]
#[path = "traffic/tests.rs"]
mod tests;
