//! What waits for a sink while it is busy, and what is dropped when too much does.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::control::journal::{Event, Kind, News};

/// Events that wait at most; then the oldest is dropped.
pub(super) const WAITING_MAX: usize = 256;

/// Events about one thing that wait at most; then the oldest of them is dropped, because the newer ones say what became of it.
pub(super) const WAITING_SAME_MAX: usize = 8;

/// Events for one sink.
#[derive(Debug)]
pub(super) struct Queue {
    kinds: Vec<Kind>,
    waiting: VecDeque<Arc<Event>>,
    dropped: u64,
}

impl Queue {
    /// An empty queue that takes these kinds only.
    pub(super) const fn new(kinds: Vec<Kind>) -> Self {
        Self { kinds, waiting: VecDeque::new(), dropped: 0 }
    }

    /// Takes what comes out of the journal.
    pub(super) fn take(&mut self, news: News) {
        let event = match news {
            // They might have been of other kinds: better one too many is owned up to than one too few.
            News::Missed { count, .. } => {
                self.dropped += count;
                return;
            }
            News::Event(event) => event,
        };
        if !self.kinds.contains(&event.change.kind) {
            return;
        }
        let same = |other: &&Arc<Event>| about(other) == about(&event);
        if self.waiting.iter().filter(same).count() >= WAITING_SAME_MAX {
            let oldest = self.waiting.iter().position(|other| about(other) == about(&event));
            self.drop_at(oldest);
        } else if self.waiting.len() >= WAITING_MAX {
            self.drop_at(Some(0));
        }
        self.waiting.push_back(event);
    }

    fn drop_at(&mut self, place: Option<usize>) {
        if place.and_then(|place| self.waiting.remove(place)).is_some() {
            self.dropped += 1;
        }
    }

    /// The event that waits for longest.
    pub(super) fn next(&mut self) -> Option<Arc<Event>> {
        self.waiting.pop_front()
    }

    /// Events that were dropped since the start.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// What an event is about; a storm is many events about the same.
fn about(event: &Event) -> (Kind, Option<&str>, Option<&str>) {
    let change = &event.change;
    (
        change.kind,
        change.pool.as_ref().map(|pool| pool.as_str()),
        change.endpoint.as_ref().map(|endpoint| endpoint.as_str()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::journal::{Change, Journal};
    use crate::model::name::{EndpointName, NameError, PoolName};

    fn take(queue: &mut Queue, journal: &Journal, endpoint: &str) -> Result<(), NameError> {
        let change = Change::new(Kind::Endpoint, "down", "")
            .endpoint(&PoolName::new("p")?, &EndpointName::new(endpoint)?);
        queue.take(News::Event(journal.append(change)));
        Ok(())
    }

    fn ids(mut queue: Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.next()).map(|event| event.id).collect()
    }

    #[test]
    fn a_storm_of_one_endpoint_leaves_room_for_the_others() -> Result<(), NameError> {
        let (mut queue, journal) = (Queue::new(vec![Kind::Endpoint]), Journal::default());
        take(&mut queue, &journal, "quiet")?;
        for _ in 0..WAITING_MAX {
            take(&mut queue, &journal, "flapping")?;
        }
        assert_eq!(queue.dropped(), (WAITING_MAX - WAITING_SAME_MAX) as u64);
        let ids = ids(queue);
        assert_eq!((ids[0], ids.len()), (1, 1 + WAITING_SAME_MAX));
        assert_eq!(ids.last(), Some(&(1 + WAITING_MAX as u64)), "the newest state is told");
        Ok(())
    }

    #[test]
    fn the_bound_holds_and_the_oldest_goes_first() -> Result<(), NameError> {
        let (mut queue, journal) = (Queue::new(vec![Kind::Endpoint]), Journal::default());
        for number in 0..WAITING_MAX + 3 {
            take(&mut queue, &journal, &number.to_string())?;
        }
        assert_eq!(queue.dropped(), 3);
        let ids = ids(queue);
        assert_eq!((ids[0], ids.len()), (4, WAITING_MAX));
        Ok(())
    }

    #[test]
    fn other_kinds_are_not_taken_and_a_gap_counts_as_dropped() -> Result<(), NameError> {
        let (mut queue, journal) = (Queue::new(vec![Kind::Alarm]), Journal::default());
        take(&mut queue, &journal, "a")?;
        assert_eq!((queue.next(), queue.dropped()), (None, 0));
        queue.take(News::Missed { count: 5, until: 6 });
        assert_eq!(queue.dropped(), 5);
        Ok(())
    }
}
