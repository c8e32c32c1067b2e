//! Which route is asked before which: most products go by the order of their lines or by rules of their own, Plimsoll by
//! how close a route is. Where that would be another order for some request, a route gets a priority; else it needs none.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::region::{PathTest, Region, overlap};

/// So many pairs of hosts are compared.
const WORK_MAX: usize = 20_000_000;

/// The priority of each route, 0 where none is needed.
#[must_use]
pub(super) fn priorities(regions: &[&Region]) -> Vec<i64> {
    let mut of = vec![0_i64; regions.len()];
    let index = Index::new(regions);
    // Of all that stand behind: the highest priority, and where the first would be asked.
    let (mut highest, mut soonest): (i64, Option<Rank>) = (0, None);
    let mut work = 0;
    for (at, region) in regions.iter().enumerate().rev() {
        let (mut own, last) = (0, worst(region));
        let most = highest + i64::from(soonest.is_some_and(|soonest| last > soonest));
        for later in index.after(at, region) {
            // Nothing behind can ask for more.
            if own >= most {
                break;
            }
            let (Some(other), Some(priority)) = (regions.get(later), of.get(later)) else { continue };
            work += 1 + hosts(region) * hosts(other);
            // To go before all that stand behind is never wrong.
            if work > WORK_MAX {
                own = most;
                break;
            }
            if overlap(region, other) {
                let before = last <= best(other);
                own = own.max(priority + i64::from(!before));
            }
        }
        let first = best(region);
        (highest, soonest) = (highest.max(own), Some(soonest.map_or(first, |soonest| soonest.min(first))));
        if let Some(place) = of.get_mut(at) {
            *place = own;
        }
    }
    of
}

fn hosts(region: &Region) -> usize {
    region.hosts.as_ref().map_or(0, Vec::len)
}

/// Routes that can have requests in common, found without comparing all with all where hosts tell them apart.
struct Index<'a> {
    /// By each host, written as it is.
    by_host: HashMap<&'a str, Vec<usize>>,
    /// Hosts below a name, by what follows the star that would take them.
    below: HashMap<&'a str, Vec<usize>>,
    /// Routes for any host.
    loose: Vec<usize>,
    count: usize,
}

impl<'a> Index<'a> {
    fn new(regions: &[&'a Region]) -> Self {
        let mut index =
            Self { by_host: HashMap::new(), below: HashMap::new(), loose: Vec::new(), count: regions.len() };
        for (at, region) in regions.iter().enumerate() {
            let Some(hosts) = &region.hosts else {
                index.loose.push(at);
                continue;
            };
            for host in hosts {
                index.by_host.entry(host).or_default().push(at);
                for parent in parents(host) {
                    index.below.entry(parent).or_default().push(at);
                }
            }
        }
        index
    }

    fn after<'s>(&'s self, at: usize, region: &'s Region) -> Box<dyn Iterator<Item = usize> + 's> {
        let Some(hosts) = &region.hosts else { return Box::new(at + 1..self.count) };
        let behind = move |list: &'s Vec<usize>| {
            list.get(list.partition_point(|other| *other <= at)..).unwrap_or_default().iter().copied()
        };
        let same = hosts.iter().filter_map(|host| self.by_host.get(host.as_str())).flat_map(behind);
        let inner = hosts.iter().filter_map(|host| self.below.get(host.strip_prefix('*')?)).flat_map(behind);
        let stars = hosts.iter().flat_map(|host| parents(host).map(|parent| format!("*{parent}")));
        let outer = stars.filter_map(|star| self.by_host.get(star.as_str())).flat_map(behind);
        Box::new(same.chain(inner).chain(outer).chain(behind(&self.loose)))
    }
}

/// What a host is below of, each with the dot in front.
fn parents(host: &str) -> impl Iterator<Item = &str> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    name.match_indices('.').filter_map(move |(at, _)| name.get(at..))
}

/// Where Plimsoll asks a route: smaller is sooner.
type Rank = ((u8, Reverse<usize>), (u8, Reverse<usize>), Reverse<usize>);

fn rank(region: &Region, host: Option<&String>) -> Rank {
    let of_host = match host {
        Some(host) => match host.strip_prefix('*') {
            Some(suffix) => (1, Reverse(suffix.len())),
            None => (0, Reverse(0)),
        },
        None => (2, Reverse(0)),
    };
    let of_path = match &region.path {
        Some(PathTest::Exact(_)) => (0, Reverse(0)),
        Some(PathTest::Prefix(prefix)) => (1, Reverse(prefix.len())),
        Some(PathTest::Start(_) | PathTest::Regex(_)) => (2, Reverse(0)),
        None => (3, Reverse(0)),
    };
    (of_host, of_path, Reverse(region.conditions()))
}

fn ranks(region: &Region) -> impl Iterator<Item = Rank> {
    let hosts = region.hosts.iter().flatten().map(|host| rank(region, Some(host)));
    hosts.chain(region.hosts.is_none().then(|| rank(region, None)))
}

fn best(region: &Region) -> Rank {
    ranks(region).min().unwrap_or_else(|| rank(region, None))
}

fn worst(region: &Region) -> Rank {
    ranks(region).max().unwrap_or_else(|| rank(region, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(host: Option<&str>, path: Option<PathTest>) -> Region {
        Region { hosts: host.map(|host| vec![host.to_owned()]), path, ..Region::default() }
    }

    fn of<const N: usize>(regions: &[Region; N]) -> Vec<i64> {
        priorities(&regions.each_ref())
    }

    #[test]
    fn hosts_below_a_star_are_compared_with_it() {
        let exact = || Some(PathTest::Exact("/".to_owned()));
        let wide = || region(Some("*.b"), None);
        assert_eq!(of(&[wide(), region(Some("a.b"), exact())]), [1, 0]);
        assert_eq!(of(&[wide(), region(Some("*.a.b"), exact())]), [1, 0]);
        assert_eq!(of(&[region(Some("*.a.b"), None), wide()]), [0, 0]);
        assert_eq!(of(&[wide(), region(Some("a.c"), exact()), region(Some("b"), None)]), [0, 0, 0]);
    }

    #[test]
    fn a_priority_is_given_only_where_the_order_would_be_another() {
        let prefix = |path: &str| Some(PathTest::Prefix(path.to_owned()));
        let regex = || Some(PathTest::Regex("^/a".to_owned()));
        assert_eq!(of(&[region(Some("a"), None), region(Some("b"), None), region(None, None)]), [0, 0, 0]);
        assert_eq!(of(&[region(None, regex()), region(None, prefix("/b")), region(None, None)]), [1, 0, 0]);
        assert_eq!(of(&[region(None, None), region(Some("b"), None)]), [1, 0]);
        assert_eq!(
            of(&[
                region(None, regex()),
                region(None, None),
                region(Some("b"), None),
                region(Some("b"), prefix("/a"))
            ]),
            [2, 2, 1, 0]
        );
    }
}
