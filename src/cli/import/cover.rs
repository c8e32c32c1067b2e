//! Routes that no request is left for, because one before takes all of theirs.

use std::collections::HashMap;

use super::region::{PathTest, Region, within};

/// So many pairs of regions are compared; behind them routes are kept as they are.
const PAIRS_MAX: usize = 1_000_000;

/// For each region, in the order in which they are asked, whether one before takes all of its requests.
#[must_use]
pub(super) fn covered(regions: &[&Region]) -> Vec<bool> {
    let (mut before, mut pairs) = (Before::default(), 0);
    let mut out = Vec::with_capacity(regions.len());
    for (at, region) in regions.iter().copied().enumerate() {
        let takes = |earlier: usize| regions.get(earlier).is_some_and(|earlier| within(region, earlier));
        let left = PAIRS_MAX.saturating_sub(pairs);
        let is_covered = before.candidates(region).take(left).inspect(|_| pairs += 1).any(takes);
        if !is_covered {
            before.add(at, region);
        }
        out.push(is_covered);
    }
    out
}

/// Regions by what they ask for first, so that few of many are compared.
#[derive(Default)]
struct Before<'a> {
    by_host: HashMap<&'a str, Vec<usize>>,
    by_path: HashMap<&'a str, Vec<usize>>,
    others: Vec<usize>,
}

impl<'a> Before<'a> {
    fn add(&mut self, at: usize, region: &'a Region) {
        match (&region.hosts, &region.path) {
            (Some(hosts), _) if hosts.iter().all(|host| !host.starts_with('*')) => {
                for host in hosts {
                    self.by_host.entry(host).or_default().push(at);
                }
            }
            (_, Some(PathTest::Exact(path))) => self.by_path.entry(path).or_default().push(at),
            _ => self.others.push(at),
        }
    }

    /// Those that may take all requests of a region.
    fn candidates(&self, region: &Region) -> impl Iterator<Item = usize> {
        let host = region.hosts.as_ref().and_then(|hosts| hosts.first());
        let of_host = host.and_then(|host| self.by_host.get(host.as_str())).into_iter().flatten();
        let of_path = match &region.path {
            Some(PathTest::Exact(path)) => self.by_path.get(path.as_str()),
            _ => None,
        };
        of_host.chain(of_path.into_iter().flatten()).chain(&self.others).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(host: Option<&str>, path: Option<PathTest>) -> Region {
        Region { hosts: host.map(|host| vec![host.to_owned()]), path, ..Region::default() }
    }

    #[test]
    fn what_a_wider_region_takes_first_is_covered() {
        let exact = |path: &str| Some(PathTest::Exact(path.to_owned()));
        let prefix = |path: &str| Some(PathTest::Prefix(path.to_owned()));
        let all = [
            region(Some("a.test"), None),
            region(Some("a.test"), prefix("/x")),
            region(Some("b.test"), prefix("/x")),
            region(None, prefix("/x")),
            region(Some("c.test"), exact("/x/y")),
            region(None, exact("/z")),
            region(Some("d.test"), exact("/z")),
            region(Some("*.test"), None),
            region(Some("e.test"), None),
            region(None, None),
            region(None, None),
        ];
        let regions: Vec<&Region> = all.iter().collect();
        let want = [false, true, false, false, true, false, true, false, true, false, true];
        assert_eq!(covered(&regions), want);
    }

    /// Ten thousand routes by host and as many by path are compared with few of each other.
    #[test]
    fn many_routes_are_compared_with_few() {
        let mut before = Before::default();
        let hosts: Vec<Region> = (0..10_000).map(|n| region(Some(&format!("h{n}.test")), None)).collect();
        let paths: Vec<Region> =
            (0..10_000).map(|n| region(None, Some(PathTest::Exact(format!("/{n}"))))).collect();
        let mut pairs = 0;
        for (at, region) in hosts.iter().chain(&paths).enumerate() {
            pairs += before.candidates(region).count();
            before.add(at, region);
        }
        assert_eq!(pairs, 0);
    }
}
