//! The listeners of a snapshot by their place: the number under which sockets and connections know their listener.
//!
//! A place stays a listener's own from snapshot to snapshot. One that is removed leaves its place empty, and another one
//! takes it only when no socket, connection or piece of work knows it any more.

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use super::listener::{Listener, ListenerLive, Protocol};
use crate::model::name::ListenerName;

/// Listeners, each at its place.
#[derive(Debug, Default)]
pub struct Listeners(Vec<Place>);

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few, and every request reads one")]
enum Place {
    Taken(Listener),
    Left(Left),
}

/// A listener that has been removed.
#[derive(Debug, Clone)]
struct Left {
    name: ListenerName,
    protocol: Discriminant<Protocol>,
    // Whoever knows the place holds this too: alone, it says that nobody does.
    live: Arc<ListenerLive>,
}

impl Listeners {
    /// Puts the listeners of a configuration where those of `previous` were that they go on with: the one of the same name
    /// and protocol, else, for one that is only called otherwise now, one that shares an address. The others take places
    /// that nobody knows any more, or new ones.
    #[must_use]
    pub fn arrange(previous: Option<&Self>, listeners: Vec<Listener>) -> Self {
        let none = Self::default();
        let previous = previous.unwrap_or(&none);
        let mut places: Vec<Option<Listener>> = previous.0.iter().map(|_| None).collect();
        let mut rest = Vec::new();
        for listener in listeners {
            match previous.0.iter().position(|place| place.is_of(&listener)) {
                Some(at) => places[at] = Some(listener),
                None => rest.push(listener),
            }
        }
        for mut listener in rest {
            let at = match previous.renamed(&listener, &places) {
                Some((at, live)) => {
                    listener.live = live;
                    at
                }
                None => previous.free(&places).unwrap_or(places.len()),
            };
            if at == places.len() {
                places.push(None);
            }
            places[at] = Some(listener);
        }
        let former = previous.0.iter().map(Some).chain(std::iter::repeat(None));
        Self(
            places
                .into_iter()
                .zip(former)
                .filter_map(|(now, former)| now.map(Place::Taken).or_else(|| former.map(Place::left)))
                .collect(),
        )
    }

    /// Live state of the listener of this name, also where it has been removed.
    #[must_use]
    pub fn live_of(&self, name: &ListenerName) -> Option<&Arc<ListenerLive>> {
        let named = |place: &&Place| place.name() == name;
        let taken = self.0.iter().filter(|place| matches!(place, Place::Taken(_))).find(named);
        taken.or_else(|| self.0.iter().find(named)).map(Place::live)
    }

    /// The listener at a place; nothing where it has been removed.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&Listener> {
        match self.0.get(place)? {
            Place::Taken(listener) => Some(listener),
            Place::Left(_) => None,
        }
    }

    /// The name of the listener that is or was at a place.
    #[must_use]
    pub fn name(&self, place: usize) -> Option<&ListenerName> {
        self.0.get(place).map(Place::name)
    }

    /// Listeners with their places.
    pub fn places(&self) -> impl Iterator<Item = (usize, &Listener)> {
        (0..self.0.len()).filter_map(|place| Some((place, self.get(place)?)))
    }

    /// Listeners in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.places().map(|(_, listener)| listener)
    }

    /// How many places there are, empty ones too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no place.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of the same protocol that shares an address and whose own name is gone, for a listener that is new by its name.
    fn renamed(&self, listener: &Listener, taken: &[Option<Listener>]) -> Option<(usize, Arc<ListenerLive>)> {
        self.places().find_map(|(at, before)| {
            let free = taken.get(at).is_some_and(Option::is_none);
            let shares = before.bind.iter().any(|address| listener.bind.contains(address));
            let same = free
                && shares
                && discriminant(&before.protocol) == discriminant(&listener.protocol)
                && before.name != listener.name;
            same.then(|| (at, Arc::clone(&before.live)))
        })
    }

    /// An empty place that nobody knows any more.
    fn free(&self, taken: &[Option<Listener>]) -> Option<usize> {
        self.0.iter().zip(taken).position(|(place, taken)| match place {
            Place::Left(left) => taken.is_none() && Arc::strong_count(&left.live) == 1,
            Place::Taken(_) => false,
        })
    }
}

impl Place {
    fn is_of(&self, listener: &Listener) -> bool {
        let protocol = match self {
            Self::Taken(before) => discriminant(&before.protocol),
            Self::Left(left) => left.protocol,
        };
        *self.name() == listener.name && protocol == discriminant(&listener.protocol)
    }

    fn name(&self) -> &ListenerName {
        match self {
            Self::Taken(listener) => &listener.name,
            Self::Left(left) => &left.name,
        }
    }

    fn live(&self) -> &Arc<ListenerLive> {
        match self {
            Self::Taken(listener) => &listener.live,
            Self::Left(left) => &left.live,
        }
    }

    fn left(&self) -> Self {
        Self::Left(match self {
            Self::Left(left) => left.clone(),
            Self::Taken(listener) => Left {
                name: listener.name.clone(),
                protocol: discriminant(&listener.protocol),
                live: Arc::clone(&listener.live),
            },
        })
    }
}

impl<'a> IntoIterator for &'a Listeners {
    type Item = &'a Listener;
    type IntoIter = Box<dyn Iterator<Item = &'a Listener> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}
