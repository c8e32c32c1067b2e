//! Which trace a request belongs to: the one that its sender names, or a new one; and whether it is recorded.
//!
//! # Why the sender's word
//! A trace is worth something when everybody who handles a request says the same of it, so the default believes everybody. The
//! price is that strangers choose numbers and, by the sampled flag, what is recorded; where that is too much, as before the
//! public, only trusted peers are believed and others begin a trace of their own (W3C Trace Context section 7.2).

use crate::model::trace::{Parent, is_state};

/// Whose trace a request goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accept {
    /// Anybody's.
    #[default]
    All,
    /// That of trusted proxies.
    Trusted,
}

/// How traces are begun.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Whose are gone on with.
    pub accept: Accept,
    /// Which share of those that begin here is recorded, from 0 to 1.
    pub sample: f64,
}

/// The trace of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traced {
    /// What its sender has said of it, or what has been made up.
    pub parent: Parent,
    /// Whether it was made up: then nobody has the span that it names.
    pub begun: bool,
    /// Whether the `tracestate` that came goes on.
    pub keeps_state: bool,
}

impl Traced {
    /// As somebody is told who works for the span `span` of ours.
    #[must_use]
    pub const fn within(self, span: u64) -> Self {
        Self { parent: Parent { span, ..self.parent }, ..self }
    }
}

impl Settings {
    /// The trace of a request, given its `traceparent` and `tracestate` fields; of two parents none is right.
    #[must_use]
    pub fn trace<'a>(
        &self,
        trusted: bool,
        mut parents: impl Iterator<Item = &'a [u8]>,
        states: impl Iterator<Item = &'a [u8]>,
        mut random: impl FnMut() -> u64,
    ) -> Traced {
        let believed = trusted || self.accept == Accept::All;
        let given = parents.next().filter(|_| believed && parents.next().is_none()).and_then(Parent::parse);
        if let Some(parent) = given {
            return Traced { parent, begun: false, keeps_state: is_state(states) };
        }
        let trace = u128::from(random()) << 64 | u128::from(random().max(1));
        let flags = if self.samples(trace) { Parent::SAMPLED } else { 0 };
        Traced { parent: Parent { trace, span: random().max(1), flags }, begun: true, keeps_state: false }
    }

    /// Whether a trace that begins here is recorded: by its number, so that everybody with this share says the same of it
    /// (OpenTelemetry's `TraceIdRatioBased`).
    fn samples(&self, trace: u128) -> bool {
        // The share of the numbers of 63 bits; one is all of them.
        let bound = self.sample * 2f64.powi(63);
        ((trace as u64) >> 1) as f64 <= bound && self.sample > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn trace(accept: Accept, sample: f64, trusted: bool, parents: &[&[u8]], states: &[&[u8]]) -> Traced {
        let mut numbers = 0;
        let random = || {
            numbers += 1;
            numbers
        };
        let settings = Settings { accept, sample };
        settings.trace(trusted, parents.iter().copied(), states.iter().copied(), random)
    }

    #[test]
    fn a_trace_goes_on_when_its_sender_is_believed_and_understood_and_else_begins() {
        let goes_on = |traced: Traced| !traced.begun && traced.parent.text() == PARENT;
        assert!(goes_on(trace(Accept::All, 1.0, false, &[PARENT], &[])));
        assert!(goes_on(trace(Accept::Trusted, 0.0, true, &[PARENT], &[])));
        let parents: [&[&[u8]]; 4] = [&[], &[b"junk"], &[PARENT, PARENT], &[b""]];
        for parents in parents {
            let traced = trace(Accept::All, 1.0, true, parents, &[b"a=1"]);
            assert_eq!(&traced.parent.text(), b"00-00000000000000010000000000000002-0000000000000003-01");
            assert!(traced.begun && !traced.keeps_state);
        }
        assert!(trace(Accept::Trusted, 1.0, false, &[PARENT], &[b"a=1"]).begun);
    }

    #[test]
    fn a_state_goes_on_with_its_parent_where_it_keeps_the_rules() {
        let keeps = |states: &[&[u8]]| trace(Accept::All, 1.0, false, &[PARENT], states).keeps_state;
        assert!(keeps(&[b"a=1", b"b=2"]));
        assert!(!keeps(&[b"a=1", b"B=2"]));
    }

    #[test]
    fn the_share_of_new_traces_that_is_recorded_is_as_set_and_that_of_others_their_own() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state ^ (state >> 29)).wrapping_mul(0xff51_afd7_ed55_8ccd)
        };
        for (sample, low, high) in [(0.0, 0, 0), (0.25, 2_300, 2_700), (1.0, 10_000, 10_000)] {
            let settings = Settings { accept: Accept::All, sample };
            let count = (0..10_000)
                .filter(|_| {
                    let none = std::iter::empty::<&[u8]>;
                    settings.trace(false, none(), none(), &mut random).parent.is_sampled()
                })
                .count();
            assert!((low..=high).contains(&count), "{count} of 10,000 at {sample}");
            assert!(trace(Accept::All, sample, false, &[PARENT], &[]).parent.is_sampled());
        }
    }
}
