//! The body of a request on its way across the bridge: given on as far as the endpoint takes it, kept for a repeat only
//! where one is possible.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::{ClientHalf, EndpointHalf, Frame};
use crate::proxy::attempt::Connection;
use crate::proxy::error::{Error, Refusal};
use crate::proxy::http1::head::Framing;
use crate::proxy::tcp::splice::TURN;

/// A request body.
#[derive(Debug)]
pub struct Upload {
    /// Taken from the client and not given on yet.
    held: Option<Frame>,
    /// All of it has been taken from the client.
    ended: bool,
    /// It has a body, be it an empty one.
    exists: bool,
    length: Option<u64>,
    replay: Replay,
    moved: u64,
    /// Bytes that have come, and how many may.
    came: (u64, u64),
    /// Trailers that were taken in ahead, behind what is held.
    behind: Option<HeaderMap>,
    /// The client has ended what was taken in ahead.
    all_here: bool,
    /// Bytes that are held although the client has been given leave to send as many more.
    released: usize,
    /// What has gone on, for somebody else.
    copy: Option<Duplicate>,
}

/// A copy of what goes on, as long as it is no larger.
#[derive(Debug)]
struct Duplicate {
    bytes: Vec<u8>,
    max: usize,
}

/// What has been given on of the body, for a repeat.
#[derive(Debug)]
enum Replay {
    /// Kept up to a limit.
    Kept { bytes: Vec<u8>, trailers: Option<HeaderMap>, max: usize },
    /// Not kept.
    Lost,
}

/// How far one attempt has got with the body.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// Bytes of what is kept that it has been given.
    kept: usize,
    /// It has been given all.
    pub ended: bool,
}

impl Upload {
    /// A body that ends in this way.
    #[must_use]
    pub const fn new(framing: Framing) -> Self {
        let length = match framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        let exists = !matches!(framing, Framing::None);
        Self {
            held: None,
            ended: !exists,
            exists,
            length,
            replay: Replay::Lost,
            moved: 0,
            behind: None,
            all_here: false,
            released: 0,
            copy: None,
            came: (0, u64::MAX),
        }
    }

    /// Holds it to a size.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLarge`] when its length says that it is larger; where it says nothing, that is an error of
    /// [`Upload::poll_give`] later.
    pub fn limit(&mut self, max: u64) -> Result<(), Refusal> {
        self.came.1 = max;
        if self.length.is_some_and(|length| length > max) { Err(Refusal::BodyTooLarge) } else { Ok(()) }
    }

    /// A frame that has come, which counts against the size.
    fn counted(&mut self, frame: Frame) -> Result<Frame, Error> {
        if let Frame::Data(data) = &frame {
            self.came.0 = self.came.0.saturating_add(data.len() as u64);
        }
        if self.came.0 > self.came.1 { Err(Error::Refused(Refusal::BodyTooLarge)) } else { Ok(frame) }
    }

    /// Keeps what is given on from now on for a repeat, up to `max` bytes.
    pub fn keep(&mut self, max: usize) {
        if self.exists && self.moved == 0 && self.length.is_none_or(|length| length <= max as u64) {
            self.replay = Replay::Kept { bytes: Vec::new(), trailers: None, max };
        }
    }

    /// Whether there is one, be it empty.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.exists
    }

    /// Copies what goes on from now on, up to `max` bytes; whether it may be no more than that.
    pub fn copy(&mut self, max: usize) -> bool {
        let fits = self.length.is_none_or(|length| length <= max as u64);
        if fits && self.moved == 0 {
            self.copy = Some(Duplicate { bytes: Vec::new(), max });
        }
        self.copy.is_some()
    }

    /// The copy of all of it; nothing where it was too large, or did not all go on.
    pub fn take_copy(&mut self) -> Option<Vec<u8>> {
        self.copy.take().filter(|_| self.ended).map(|copy| copy.bytes)
    }

    /// Whether something was taken in ahead already, and whether that is all: what was is not to be lost.
    #[must_use]
    pub const fn taken_in(&self) -> Option<bool> {
        if self.held.is_some() || self.all_here { Some(self.all_here) } else { None }
    }

    /// Takes in what comes before anybody is given it, up to `most` bytes; ready with whether that is all of it.
    ///
    /// # Errors
    /// Those of [`ClientHalf::poll_frame`].
    pub fn poll_fill<C: ClientHalf>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        (most, here): (usize, &mut BytesMut),
    ) -> Poll<Result<bool, Error>> {
        while !self.all_here && here.len() < most {
            let Some(frame) = ready!(client.poll_frame(cx)) else {
                self.all_here = true;
                continue;
            };
            match self.counted(frame?)? {
                Frame::Data(data) => {
                    client.release(data.len());
                    here.extend_from_slice(&data);
                    self.all_here = client.is_ended();
                }
                Frame::Trailers(trailers) => {
                    self.behind = Some(trailers);
                    self.all_here = true;
                }
            }
        }
        Poll::Ready(Ok(self.all_here))
    }

    /// Notes what was taken in ahead; its length, where that is all of it and nothing stands behind it.
    pub fn filled(&mut self, here: BytesMut) -> Option<u64> {
        let length = here.len();
        self.released = length;
        if length > 0 {
            self.held = Some(Frame::Data(here.freeze()));
        }
        let is_all = self.all_here && self.behind.is_none();
        is_all.then(|| *self.length.insert(length as u64))
    }

    /// Whether all that has been given on can be given again.
    #[must_use]
    pub const fn is_replayable(&self) -> bool {
        !self.exists || self.is_kept() || (self.moved == 0 && !self.ended)
    }

    /// Whether there is nothing of it, or it will be kept for a repeat.
    #[must_use]
    pub const fn will_repeat(&self) -> bool {
        !self.exists || self.is_kept()
    }

    const fn is_kept(&self) -> bool {
        matches!(self.replay, Replay::Kept { .. })
    }

    /// Bytes that have gone on.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether all of it has come and nothing of it waits here.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.ended && self.held.is_none()
    }

    /// Whether as much of it has gone on as its length says, though the client has not ended it yet.
    #[must_use]
    pub fn lacks_only_its_end(&self) -> bool {
        !self.ended && self.length == Some(self.moved)
    }

    /// Whether something has come that no attempt has been given.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Where an attempt begins.
    #[must_use]
    pub const fn begin(&self) -> Given {
        Given { kept: 0, ended: !self.exists }
    }

    /// A tunnel has been granted: what comes from now on goes through it, and nothing of it is kept.
    pub fn open(&mut self) {
        self.replay = Replay::Lost;
        self.exists = true;
        self.ended = false;
        self.came.1 = u64::MAX;
    }

    /// Gives an attempt what there is for it; ready once it has been given all.
    ///
    /// # Errors
    /// Those of [`ClientHalf::poll_frame`] and [`EndpointHalf::poll_room`], and [`Refusal::BodyTooLarge`].
    pub fn poll_give<C: ClientHalf, E: EndpointHalf>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        (endpoint, on): (&mut E, &Connection<'_>),
        given: &mut Given,
    ) -> Poll<Result<(), Error>> {
        let mut budget = TURN;
        while !given.ended {
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Replay::Kept { bytes, .. } = &self.replay
                && let Some(again @ [_, ..]) = bytes.get(given.kept..)
            {
                let n = ready!(endpoint.poll_room(cx, on, again.len()))?.min(again.len());
                endpoint.send(Frame::Data(Bytes::copy_from_slice(&again[..n])), false);
                given.kept += n;
                budget = budget.saturating_sub(n);
                continue;
            }
            if self.held.is_none() && !self.ended {
                match self.behind.take() {
                    Some(trailers) => self.held = Some(Frame::Trailers(trailers)),
                    None if self.all_here => self.ended = true,
                    None => match ready!(client.poll_frame(cx)) {
                        Some(frame) => self.held = Some(self.counted(frame?)?),
                        None => self.ended = true,
                    },
                }
            }
            match self.held.take() {
                Some(Frame::Data(data)) => {
                    let polled = self.poll_data(cx, client, (endpoint, on), data, given);
                    budget = budget.saturating_sub(ready!(polled)?);
                }
                Some(Frame::Trailers(trailers)) => {
                    if let Replay::Kept { trailers: kept, .. } = &mut self.replay {
                        *kept = Some(trailers.clone());
                    }
                    self.end(endpoint, Frame::Trailers(trailers), given);
                }
                None => self.end(endpoint, self.last(), given),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_data<C: ClientHalf, E: EndpointHalf>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        (endpoint, on): (&mut E, &Connection<'_>),
        mut data: Bytes,
        given: &mut Given,
    ) -> Poll<Result<usize, Error>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = match endpoint.poll_room(cx, on, data.len()) {
            Poll::Ready(Ok(room)) => room,
            other => {
                self.held = Some(Frame::Data(data));
                return other;
            }
        };
        let n = room.min(data.len());
        let now = data.split_to(n);
        if !data.is_empty() {
            self.held = Some(Frame::Data(data));
        }
        self.note(&now, given);
        let released = n.min(self.released);
        self.released -= released;
        if n > released {
            client.release(n - released);
        }
        let none_behind = self.behind.is_none() && (self.all_here || client.is_ended());
        if self.held.is_none() && none_behind {
            self.end(endpoint, Frame::Data(now), given);
        } else {
            endpoint.send(Frame::Data(now), false);
        }
        Poll::Ready(Ok(n))
    }

    /// The end of a body that has been kept, or has no more than an end left.
    fn last(&self) -> Frame {
        match &self.replay {
            Replay::Kept { trailers: Some(trailers), .. } => Frame::Trailers(trailers.clone()),
            _ => Frame::Data(Bytes::new()),
        }
    }

    fn end<E: EndpointHalf>(&mut self, endpoint: &mut E, frame: Frame, given: &mut Given) {
        self.ended = true;
        given.ended = true;
        endpoint.send(frame, true);
    }

    fn note(&mut self, data: &[u8], given: &mut Given) {
        self.moved += data.len() as u64;
        if let Some(copy) = &mut self.copy {
            copy.bytes.extend_from_slice(data);
        }
        self.copy.take_if(|copy| copy.bytes.len() > copy.max);
        if let Replay::Kept { bytes, max, .. } = &mut self.replay {
            if bytes.len() + data.len() <= *max {
                bytes.extend_from_slice(data);
                given.kept = bytes.len();
            } else {
                self.replay = Replay::Lost;
            }
        }
    }
}
