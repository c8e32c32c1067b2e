//! From routers to routes. Traefik asks its routers one after the other, the highest priority first; a route stands
//! alone. So each alternative of a rule becomes a route, and what a rule says against some requests is said by routes
//! for these, which are asked before.

use std::collections::HashMap;

use super::super::region::Region;
use super::matcher::{Narrowed, Term};

/// Rules that say something against requests are followed so often on one entry point.
const WAYS_MAX: usize = 512;
/// And so deeply.
const DEPTH_MAX: usize = 32;

/// A route before it has a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    /// The rank of the router and the number of the alternative that it is asked with.
    pub(super) order: (usize, usize),
    pub(super) region: Region,
    /// Whose it is; nothing where no router takes the requests.
    pub(super) router: Option<usize>,
    /// Not all that is asked can be said: nobody is let in.
    pub(super) unsaid: Option<String>,
    /// The router whose rule spares these requests.
    pub(super) spared: Option<usize>,
}

/// One alternative of a router.
#[derive(Debug)]
struct Step<'r> {
    router: usize,
    order: (usize, usize),
    term: &'r Term,
}

/// The drafts of an entry point, for routers by falling priority, each by its number and with its alternatives.
pub(super) fn drafts(routers: &[(usize, Vec<Term>)]) -> Vec<Draft> {
    let mut steps = Vec::new();
    for (at, terms) in routers {
        for (number, term) in terms.iter().enumerate() {
            steps.push(Step { router: *at, order: (*at, number), term });
        }
    }
    let mut walker = Walker { steps, out: Vec::new(), forks: 0 };
    walker.walk(0, &Region::default(), None, 0);
    // Of two routes for the same requests the second is never asked.
    let mut seen = std::collections::HashSet::new();
    walker.out.retain(|draft| seen.insert(format!("{:?}", draft.region)));
    walker.out
}

struct Walker<'r> {
    steps: Vec<Step<'r>>,
    out: Vec<Draft>,
    forks: usize,
}

/// What a term leaves of a region.
struct Taken {
    region: Region,
    spared: Vec<Region>,
    unsaid: Option<String>,
}

impl Walker<'_> {
    /// Writes out what becomes of the requests of a region, from a step on.
    fn walk(&mut self, from: usize, region: &Region, outer: Option<((usize, usize), usize)>, depth: usize) {
        for at in from..self.steps.len() {
            let Some(step) = self.steps.get(at) else { continue };
            let (router, order) = (step.router, step.order);
            let Some(taken) = take(step.term, region) else { continue };
            let place = outer.map_or(order, |(order, _)| order);
            let all = taken.region == *region && taken.spared.is_empty();
            let mut unsaid = taken.unsaid;
            for spared in taken.spared {
                self.forks += 1;
                if self.forks > WAYS_MAX || depth >= DEPTH_MAX {
                    unsaid =
                        Some(format!("the rules up to here lead to more than {WAYS_MAX} different ways"));
                    break;
                }
                self.walk(at + 1, &spared, Some((place, router)), depth + 1);
            }
            self.out.push(Draft {
                order: place,
                region: taken.region,
                router: Some(router),
                unsaid,
                spared: outer.map(|(_, router)| router),
            });
            if all {
                return;
            }
        }
        if let Some((order, router)) = outer {
            self.out.push(Draft {
                order,
                region: region.clone(),
                router: None,
                unsaid: None,
                spared: Some(router),
            });
        }
    }
}

fn take(term: &Term, region: &Region) -> Option<Taken> {
    let (mut narrow, mut unsaid): (Option<Region>, _) = (None, None);
    for test in &term.all {
        match narrow.as_ref().unwrap_or(region).asked(test) {
            Narrowed::To(narrower) => narrow = Some(narrower),
            Narrowed::Empty => return None,
            Narrowed::Impossible(why) => unsaid = Some(why),
        }
    }
    let region = narrow.unwrap_or_else(|| region.clone());
    let mut spared = Vec::new();
    for test in &term.none {
        match region.asked(test) {
            Narrowed::To(narrow) if narrow == region => return None,
            Narrowed::To(narrow) => spared.push(narrow),
            Narrowed::Empty => {}
            Narrowed::Impossible(why) => unsaid = Some(why),
        }
    }
    Some(Taken { region, spared, unsaid })
}

/// Drafts of all entry points as one list, those that are alike once. Each with the entry points that it is of.
pub(super) fn join<T: PartialEq + Clone>(all: Vec<Vec<(Draft, T)>>) -> Vec<(Draft, T, Vec<usize>)> {
    /// What one entry point has for an alternative of a router.
    type Group<T> = Vec<(Draft, T)>;
    /// The same of several, with the entry points.
    type Shared<T> = Vec<(Group<T>, Vec<usize>)>;
    let mut groups: HashMap<(usize, usize), Shared<T>> = HashMap::new();
    for (door, drafts) in all.into_iter().enumerate() {
        let mut of: HashMap<(usize, usize), Group<T>> = HashMap::new();
        for (draft, work) in drafts {
            of.entry(draft.order).or_default().push((draft, work));
        }
        for (order, group) in of {
            let known = groups.entry(order).or_default();
            match known.iter_mut().find(|(other, _)| *other == group) {
                Some((_, doors)) => doors.push(door),
                None => known.push((group, vec![door])),
            }
        }
    }
    let mut orders: Vec<(usize, usize)> = groups.keys().copied().collect();
    orders.sort_unstable();
    let mut out = Vec::new();
    for order in orders {
        for (group, doors) in groups.remove(&order).unwrap_or_default() {
            out.extend(group.into_iter().map(|(draft, work)| (draft, work, doors.clone())));
        }
    }
    out
}
