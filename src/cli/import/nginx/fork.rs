//! Where a way divides: a way for each value that a variable can have.

use super::ask::{Ask, Narrowed, narrow};
use super::draft::{Action, Draft};
use super::pools::Pools;
use super::switch::{Case, Values, referers};
use super::tree::Directive;
use super::variable::{pieces, put_in};
use super::walk::{DEPTH_MAX, Walker, Way, doubt};

/// What goes on with each way that a fork leads to.
type Next<'n, 'w, 't, 'r> = &'n mut dyn FnMut(&mut Walker<'w, 't, 'r>, Way<'t>);

impl<'w, 't, 'r> Walker<'w, 't, 'r> {
    /// The first variable of a text whose value depends on the request and is not known yet. What can be `asked` about
    /// need not be known.
    pub(super) fn open(&self, text: &str, way: &Way<'t>, asked: bool) -> Option<String> {
        let mut text = put_in(text, &way.bound);
        for _ in 0..16 {
            let found = pieces(&text).into_iter().find_map(|piece| match piece {
                super::variable::Piece::Variable(name) if self.is_open(&name, way, asked) => Some(name),
                _ => None,
            })?;
            let source = self.ground.switches.get(&found).map(|switch| put_in(switch.source(), &way.bound));
            // What a table is looked up with comes first.
            let inner = source.as_ref().is_some_and(|source| {
                pieces(source).iter().any(|piece| {
                    matches!(piece, super::variable::Piece::Variable(name) if *name != found && self.is_open(name, way, true))
                })
            });
            match source {
                Some(source) if inner => text = source,
                _ => return Some(found),
            }
        }
        None
    }

    fn is_open(&self, name: &str, way: &Way<'t>, asked: bool) -> bool {
        if way.bound.contains_key(name) || way.unknown.contains_key(name) {
            return false;
        }
        match name {
            "invalid_referer" => way.scope.find("valid_referers").is_some(),
            "https" => !asked,
            "server_port" => !asked && self.facts(way).port.is_none(),
            _ => self.ground.switches.contains_key(name),
        }
    }

    /// Goes on with each value that a variable can have.
    pub(super) fn fork(
        &mut self,
        variable: &str,
        way: Way<'t>,
        of: &'t Directive,
        next: Next<'_, 'w, 't, 'r>,
    ) {
        let values = match variable {
            "invalid_referer" => match way.scope.find("valid_referers") {
                Some(of) => referers(of, &self.site.names, self.notes),
                None => Values::One(String::new()),
            },
            "https" => {
                let case = Case { ask: Ask::Tls(true), value: "on".to_owned(), of, groups: None };
                Values::Cases(vec![case], String::new())
            }
            "server_port" => self.ports(of),
            _ => match self.ground.switches.get(variable) {
                Some(switch) => switch.values(&way.bound, &self.ground.doors, self.notes),
                None => Values::One(String::new()),
            },
        };
        let mut way = way;
        let source = self.ground.switches.get(variable).and_then(|switch| doubt(switch.source(), &way));
        if let Some(why) = source {
            way.doubts.insert(variable.to_owned(), why);
        }
        match values {
            Values::One(value) => {
                let value = put_in(&value, &way.bound);
                let way = Way { depth: way.depth + 1, ..way };
                self.go_on(way.know(variable, value), next);
            }
            Values::Unknown(why) => {
                let mut way = Way { depth: way.depth + 1, ..way };
                way.unknown.insert(variable.to_owned(), why);
                self.go_on(way, next);
            }
            Values::Cases(cases, default) => self.cases(variable, way, cases, &default, next),
            Values::Parts(parts, by_client) => self.parts(variable, &way, parts, by_client, next),
        }
    }

    fn go_on(&mut self, way: Way<'t>, next: Next<'_, 'w, 't, 'r>) {
        if way.depth > DEPTH_MAX || self.is_too_much() {
            return self.give_up(&way);
        }
        next(self, way);
    }

    fn ports(&self, of: &'t Directive) -> Values<'t> {
        let mut ports: Vec<u16> =
            self.ground.doors.iter().flat_map(|door| door.ports.iter().copied()).collect();
        ports.sort_unstable();
        ports.dedup();
        let last = ports.pop().map(|port| port.to_string()).unwrap_or_default();
        let case =
            |port: u16| Case { ask: Ask::Ports(vec![port]), value: port.to_string(), of, groups: None };
        Values::Cases(ports.into_iter().map(case).collect(), last)
    }

    fn cases(
        &mut self,
        variable: &str,
        way: Way<'t>,
        cases: Vec<Case<'t>>,
        default: &str,
        next: Next<'_, 'w, 't, 'r>,
    ) {
        let mut lost = None;
        for case in cases {
            let value = put_in(&case.value, &way.bound);
            match narrow(&way.region, &case.ask, &self.ground.doors) {
                Narrowed::Empty => {}
                Narrowed::To(region) => {
                    self.forks += 1;
                    let always = region == way.region;
                    let mut inner = way.to(region).know(variable, value);
                    if let Some(groups) = &case.groups {
                        inner.groups = Some(groups.clone());
                    }
                    self.go_on(inner, next);
                    if always {
                        return;
                    }
                }
                Narrowed::Impossible(why) => {
                    self.notes.cannot(case.of, format!("its value {value:?} is left out: {why}"));
                    lost.get_or_insert(why);
                }
            }
        }
        let depth = way.depth + 1;
        let default = put_in(default, &way.bound);
        let mut way = Way { depth, ..way };
        if let Some(why) = lost {
            way.doubts.insert(variable.to_owned(), why);
        }
        self.go_on(way.know(variable, default), next);
    }

    /// Ways that differ by chance become one route with a split.
    fn parts(
        &mut self,
        variable: &str,
        way: &Way<'t>,
        parts: Vec<(i64, String, &'t Directive)>,
        by_client: bool,
        next: Next<'_, 'w, 't, 'r>,
    ) {
        let kept = std::mem::take(&mut self.out);
        let mut all: Vec<(i64, Vec<Draft>, &'t Directive)> = Vec::new();
        for (weight, value, of) in parts {
            self.forks += 1;
            let value = put_in(&value, &way.bound);
            self.go_on(way.to(way.region.clone()).know(variable, value), next);
            all.push((weight, std::mem::take(&mut self.out), of));
        }
        self.out = kept;
        let Some((_, first, _)) = all.first() else { return };
        let by = if by_client { "source" } else { "random" };
        let merged: Option<Vec<Draft>> = (0..first.len())
            .map(|at| {
                let of: Vec<(i64, &Draft)> =
                    all.iter().filter_map(|(weight, drafts, _)| Some((*weight, drafts.get(at)?))).collect();
                merge(&of, all.len(), by, self.pools)
            })
            .collect();
        match merged.filter(|_| all.iter().all(|(_, drafts, _)| drafts.len() == first.len())) {
            Some(drafts) => self.out.extend(drafts),
            None => {
                for (_, _, of) in &all {
                    self.notes.cannot(of, "the parts of a split differ by their pools alone: what else they differ by is as the largest has it");
                }
                let largest = all.into_iter().max_by_key(|(weight, ..)| *weight);
                self.out.extend(largest.into_iter().flat_map(|(_, drafts, _)| drafts));
            }
        }
    }
}

/// One route of several that differ by their pools.
fn merge(of: &[(i64, &Draft)], count: usize, by: &'static str, pools: &Pools<'_>) -> Option<Draft> {
    let (_, first) = of.first().filter(|_| of.len() == count)?;
    let mut out = (*first).clone();
    let mut parts: Vec<(usize, i64)> = Vec::new();
    for (weight, draft) in of {
        let Action::Pool(pool) = draft.action else {
            return of.iter().all(|(_, other)| other == first).then(|| (*first).clone());
        };
        match parts.iter_mut().find(|(own, _)| *own == pool) {
            Some((_, own)) => *own += weight,
            None => parts.push((pool, *weight)),
        }
        if draft.region != first.region || draft.rewrite != first.rewrite || draft.keys != first.keys {
            return None;
        }
    }
    let head =
        |draft: &Draft, request: bool| if request { draft.request.clone() } else { draft.answer.clone() };
    for request in [true, false] {
        let fields = if request { &mut out.request } else { &mut out.answer };
        for list in [&mut fields.set, &mut fields.add] {
            for (at, pair) in list.iter_mut().enumerate() {
                let is_set = |draft: &Draft| {
                    let own = head(draft, request);
                    let lists = [own.set, own.add];
                    lists.into_iter().find_map(|list| {
                        list.get(at).filter(|(name, _)| *name == pair.0).map(|(_, value)| value.clone())
                    })
                };
                let values: Vec<Option<String>> = of.iter().map(|(_, draft)| is_set(draft)).collect();
                if values.iter().all(|value| value.as_ref() == Some(&pair.1)) {
                    continue;
                }
                let named = of.iter().zip(&values).all(|((_, draft), value)| {
                    let name = draft.pools().first().map(|pool| pools.name(*pool));
                    name.is_some() && name == *value
                });
                if !named {
                    return None;
                }
                "{pool}".clone_into(&mut pair.1);
            }
        }
    }
    out.action = match parts.as_slice() {
        [(pool, _)] => Action::Pool(*pool),
        _ => Action::Split(parts, by),
    };
    Some(out)
}
