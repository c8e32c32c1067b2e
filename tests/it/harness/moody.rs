//! An origin whose mood a test changes while it runs: it answers with a status, breaks, or lets requests hang.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::origin::Origin;
use super::until;

/// Closes without a byte.
const BREAKS: u16 = 0;
/// Answers nothing until the mood changes.
const HANGS: u16 = 1;

/// A running origin. Every request comes on a connection of its own, so that an origin which breaks is never taken for
/// one that closed an idle connection.
#[derive(Debug)]
pub(crate) struct Moody {
    origin: Origin,
    mood: Arc<AtomicU16>,
}

impl Deref for Moody {
    type Target = Origin;

    fn deref(&self) -> &Origin {
        &self.origin
    }
}

impl Moody {
    /// Answers 200 with this text, until told otherwise.
    pub(crate) fn saying(text: &'static str) -> Self {
        let mood = Arc::new(AtomicU16::new(200));
        let shared = Arc::clone(&mood);
        let origin = Origin::start(move |mut session| {
            if session.request()?.is_none() {
                return Ok(());
            }
            let mood = until("the origin's mood to change", || {
                let mood = shared.load(Ordering::SeqCst);
                (mood != HANGS).then_some(mood)
            });
            if mood == BREAKS {
                return Ok(());
            }
            let length = text.len();
            session.send(format!(
                "HTTP/1.1 {mood} Mood\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{text}"
            ))
        });
        Self { origin, mood }
    }

    /// From now on, and for those that hang, the answer has this status.
    pub(crate) fn answers(&self, status: u16) {
        self.mood.store(status, Ordering::SeqCst);
    }

    /// From now on it closes without a byte.
    pub(crate) fn breaks(&self) {
        self.answers(BREAKS);
    }

    /// From now on requests hang.
    pub(crate) fn hangs(&self) {
        self.answers(HANGS);
    }

    /// How many requests have come.
    pub(crate) fn asked(&self) -> usize {
        self.origin.seen().len()
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        if self.mood.load(Ordering::SeqCst) == HANGS {
            self.breaks();
        }
    }
}
