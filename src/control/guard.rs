//! What a reload would leave of each pool, counted for [`policy::reload_guard`](crate::policy::reload_guard).

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::model::name::{EndpointName, ListenerName, PoolName, RouteName};
use crate::policy::reload_guard::{Left, Moved, Refusal, judge};
use crate::runtime::endpoint::Endpoint;
use crate::runtime::listener::Protocol;
use crate::runtime::pool::Pool;
use crate::runtime::snapshot::{Action, Snapshot};

/// Whether a new endpoint is usable, as far as it is known.
pub(super) type IsWarm<'a> = &'a dyn Fn(&Pool, &PoolName, &EndpointName) -> bool;

/// Everything that speaks against putting `next` in the place of `previous`, where so much is to be left.
pub(super) fn refusals(
    share: f64,
    previous: &Snapshot,
    next: &Snapshot,
    is_warm: IsWarm<'_>,
) -> Vec<Refusal> {
    if share <= 0.0 {
        return Vec::new();
    }
    let usable: HashSet<u32> = previous.pools.iter().flat_map(usable).map(|e| e.live.slot()).collect();
    let books = Books { previous, next, usable, is_warm };
    judge(share, &books.left(), &books.moved())
}

/// Endpoints of a pool that may be picked now. In an exclusive pool that is the leader alone.
fn usable(pool: &Pool) -> impl Iterator<Item = &Endpoint> {
    let level = pool.level();
    pool.endpoints.iter().filter(move |e| level.is_some_and(|level| e.live.condition.allows(level)))
}

struct Books<'a> {
    previous: &'a Snapshot,
    next: &'a Snapshot,
    /// Slots of what is usable now.
    usable: HashSet<u32>,
    is_warm: IsWarm<'a>,
}

impl Books<'_> {
    fn left(&self) -> Vec<Left> {
        let next: HashMap<&PoolName, &Pool> = self.next.pools.iter().map(|pool| (&pool.name, pool)).collect();
        let of = |before: &Pool| {
            let after = next.get(&before.name)?;
            let old: HashSet<u32> = before.endpoints.iter().map(|e| e.live.slot()).collect();
            let (stay, new): (Vec<&Endpoint>, Vec<&Endpoint>) =
                after.endpoints.iter().filter(|e| e.weight > 0).partition(|e| old.contains(&e.live.slot()));
            Some(Left {
                pool: before.name.clone(),
                usable: usable(before).count(),
                stay: stay.iter().filter(|e| self.usable.contains(&e.live.slot())).count(),
                new: new.len(),
                warm: new.iter().filter(|e| (self.is_warm)(after, &after.name, &e.name)).count(),
            })
        };
        self.previous.pools.iter().filter_map(of).collect()
    }

    /// Routes and tcp listeners that stay and lead elsewhere.
    fn moved(&self) -> Vec<Moved> {
        let is: HashMap<Way<'_>, &[usize]> = served(self.next).collect();
        let mut moved = Vec::new();
        for (what, before) in served(self.previous) {
            let Some(after) = is.get(&what) else { continue };
            let (Some(from), Some(to)) = (home(self.previous, before), home(self.next, after)) else {
                continue;
            };
            if from.name == to.name {
                continue;
            }
            let chain = before.iter().filter_map(|&at| self.previous.pools.get(at));
            let then = after.iter().filter_map(|&at| self.next.pools.get(at));
            moved.push(Moved {
                what: what.to_string(),
                from: from.name.clone(),
                usable: chain.map(|pool| usable(pool).count()).sum(),
                to: to.name.clone(),
                warm: then.map(|pool| self.would_be_usable(pool)).sum(),
            });
        }
        moved
    }

    fn would_be_usable(&self, pool: &Pool) -> usize {
        let known: HashSet<u32> =
            self.previous.pools.iter().flat_map(|p| &p.endpoints).map(|e| e.live.slot()).collect();
        let would_be = |e: &&Endpoint| {
            let slot = e.live.slot();
            let usable = if known.contains(&slot) {
                self.usable.contains(&slot)
            } else {
                (self.is_warm)(pool, &pool.name, &e.name)
            };
            e.weight > 0 && usable
        };
        pool.endpoints.iter().filter(would_be).count()
    }
}

fn home<'a>(snapshot: &'a Snapshot, chain: &[usize]) -> Option<&'a Pool> {
    snapshot.pools.get(*chain.first()?)
}

/// What leads to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way<'a> {
    Route(&'a RouteName),
    Listener(&'a ListenerName),
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(name) => write!(out, "route \"{name}\""),
            Self::Listener(name) => write!(out, "listener \"{name}\""),
        }
    }
}

/// What leads to pools, with all of them in their order.
fn served(snapshot: &Snapshot) -> impl Iterator<Item = (Way<'_>, &[usize])> {
    let chain = |pool: usize| snapshot.pools.get(pool).map_or(&[][..], |pool| &*pool.chain);
    let routes = snapshot.routes.iter().filter_map(move |route| {
        let chain = match &route.action {
            Action::Pool(pool) => chain(*pool),
            Action::Split(split) => &*split.parts.first()?.chain,
            Action::Health(_) | Action::Redirect { .. } | Action::Respond(_) => return None,
        };
        Some((Way::Route(&route.name), chain))
    });
    let listeners = snapshot.listeners.iter().filter_map(move |listener| match &listener.protocol {
        Protocol::Tcp { pool: Some(pool), .. } | Protocol::Udp { pool, .. } => {
            Some((Way::Listener(&listener.name), chain(*pool)))
        }
        Protocol::Tcp { pool: None, .. } | Protocol::Http { .. } => None,
    });
    routes.chain(listeners)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::runtime::compile::{Machine, Weights, compile};
    use crate::runtime::condition::Impediment;

    const MACHINE: Machine =
        Machine { workers: 1, connections_max: 100, time: std::time::Duration::ZERO, secret: None };

    fn snapshot(text: &str, previous: Option<&Snapshot>) -> Snapshot {
        let text = format!("[listener.web]\nbind = [\"127.0.0.1:1\"]\n{text}");
        let config = config::load_text(&text, Path::new("test.toml"), &|_| None);
        compile(&config.expect("a valid configuration"), previous, &MACHINE, &Weights::default())
            .expect("no file is named")
    }

    fn refused(before: &Snapshot, after: &str, warm: bool) -> Vec<String> {
        let next = snapshot(after, Some(before));
        let all = refusals(0.5, before, &next, &|_, _, _| warm);
        all.iter().map(ToString::to_string).collect()
    }

    const FOUR: &str =
        "[pool.a]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\", \"10.0.0.3:80\", \"10.0.0.4:80\"]\n";

    #[test]
    fn what_is_down_counts_neither_before_nor_after() {
        let before = snapshot(FOUR, None);
        for endpoint in &before.pools[0].endpoints[..2] {
            endpoint.live.condition.set(Impediment::Down, true);
        }
        let dead = "[pool.a]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\n";
        let text = refused(&before, dead, true).join("\n");
        assert!(
            text.starts_with("pool \"a\" would have 0 usable endpoints where 2 are usable now: 0 stay"),
            "{text}"
        );
        assert!(
            refused(&before, "[pool.a]\nendpoints = [\"10.0.0.3:80\"]\n", true).is_empty(),
            "half of two is left"
        );
    }

    #[test]
    fn new_ones_count_as_their_warm_up_has_it_and_weight_0_does_not() {
        let before = snapshot(FOUR, None);
        let other = "[pool.a]\nendpoints = [\"10.0.1.1:80\", \"10.0.1.2:80\"]\n";
        assert!(refused(&before, other, true).is_empty());
        assert_eq!(refused(&before, other, false).len(), 1);
        let weightless = FOUR.replace(
            "\"10.0.0.1:80\", \"10.0.0.2:80\", \"10.0.0.3:80\"",
            "{ address = \"10.0.0.1:80\", weight = 0 }",
        );
        assert_eq!(refused(&before, &weightless, true).len(), 1);
    }

    #[test]
    fn a_pool_may_be_taken_away_but_not_what_is_behind_a_route() {
        let route = |pool: &str| format!("[[route]]\nname = \"all\"\npool = \"{pool}\"\n");
        let before = snapshot(&format!("{}{FOUR}", route("a")), None);
        let green = format!("{}[pool.b]\nendpoints = [\"10.0.1.1:80\"]\n", route("b"));
        assert!(refused(&before, &green, true).is_empty(), "the pool was taken away by name");
        let text = refused(&before, &green, false).join("\n");
        assert!(
            text.starts_with(
                "route \"all\" would go from pool \"a\", where 4 endpoints are usable, to pool \"b\""
            ),
            "{text}"
        );
        let over = format!("{green}failover = [\"a\"]\n{FOUR}");
        assert!(refused(&before, &over, false).is_empty(), "its failover pool serves");
    }
}
