//! From ordered rules to routes. HAProxy walks its rules and the first final one that applies decides; a route stands
//! alone. So each way through the rules of a frontend and of the backend behind it becomes a route of its own, with
//! all that was asked on the way as its conditions; what was asked in vain is said by routes that are asked before.

use std::collections::HashMap;

use super::super::document::Value;
use super::super::region::{Door, Region};
use super::super::report::{Place, Report};
use super::answer::Reply;
use super::clause::Term;
use super::edit::Target;
use super::limit::Limit;
use super::proxy::{Proxy, Stage};
use super::rule::{Answer, Change, Edit, Effect};
use super::said::{Said, not_possible, wrong};
use super::step::{AllSteps, Step, Steps};
use super::test::{Narrowed, Test};

/// A route before it has a name.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// The line that decides.
    pub(super) at: Option<Place>,
    /// Its conditions.
    pub(super) region: Region,
    /// Changes to heads, in their order.
    pub(super) edits: Vec<(Edit, Place)>,
    /// Rules that would apply but for a condition against these requests.
    pub(super) spared: Vec<Place>,
    /// What happens.
    pub(super) action: Action,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Answer(Answer),
    Pool(String),
    /// The backend has no servers.
    Nobody,
}

/// A frontend whose rules lead to more ways than this has not all of them written out.
const WAYS_MAX: usize = 512;
/// Rules are followed into one another so deeply.
const DEPTH_MAX: usize = 200;

/// Every section and its steps, by name.
pub(super) struct Sections<'a> {
    pub(super) proxies: &'a HashMap<&'a str, &'a Proxy>,
    pub(super) steps: &'a AllSteps,
}

impl<'a> Sections<'a> {
    /// The steps of a section: of one with servers, or of a frontend.
    pub(super) fn steps(&self, back: bool, name: &str) -> Option<&'a Steps> {
        self.steps.get(&(back, name.to_owned()))
    }
}

/// The routes of a frontend, most wanted first.
pub(super) fn drafts(
    front: &Proxy,
    doors: &[Door],
    sections: &Sections<'_>,
    report: &mut Report,
) -> Vec<Draft> {
    let mut walker = Walker { sections, doors, front, problems: Vec::new(), out: Vec::new(), forks: 0 };
    let steps = walker.steps_of(front.back, &front.name, true);
    walker.walk(&steps, Way::default(), &End::Frontend);
    // Of two routes for the same requests the second is never asked.
    let mut seen = std::collections::HashSet::new();
    walker.out.retain(|draft| seen.insert(format!("{:?}", draft.region)));
    for (at, said) in walker.problems {
        said.about("", at, report);
    }
    walker.out
}

/// What is behind the last rule.
enum End<'a> {
    /// `default_backend`.
    Frontend,
    /// The servers of this backend, reached by the rule at that line.
    Backend(&'a str, Option<Place>),
}

/// A way through the rules: which requests take it, and what has been done to them.
#[derive(Debug, Clone, Default)]
struct Way {
    region: Region,
    edits: Vec<(Edit, Place)>,
    /// Rules that it is spared by.
    spared: Vec<Place>,
    depth: usize,
}

impl Way {
    fn to(&self, region: Region) -> Self {
        Self { region, edits: self.edits.clone(), spared: self.spared.clone(), depth: self.depth + 1 }
    }
}

/// What a term leaves of a way.
enum Taken {
    /// Requests that it takes, and those that it would take but for a condition against them.
    Some(Region, Vec<(Region, Test)>),
    None,
}

struct Walker<'a> {
    sections: &'a Sections<'a>,
    doors: &'a [Door],
    front: &'a Proxy,
    /// What is to be said of lines, taken back with the ways that it is about.
    problems: Vec<(Place, Said)>,
    out: Vec<Draft>,
    /// How often a way has been split where that multiplies what follows.
    forks: usize,
}

impl<'a> Walker<'a> {
    /// The steps of a section, each alternative of a condition as one of its own.
    fn steps_of(&self, back: bool, name: &str, front: bool) -> Vec<Step> {
        let Some(of) = self.sections.steps(back, name) else { return Vec::new() };
        let asked = |step: &&Step| {
            let of_front = matches!(step.stage, Stage::Switch | Stage::Monitor | Stage::Connection);
            front || !of_front
        };
        let alone = |step: &Step| {
            let one = |term: &Term| Step { terms: vec![term.clone()], ..step.clone() };
            step.terms.iter().map(one).collect::<Vec<_>>()
        };
        of.steps.iter().filter(asked).flat_map(alone).collect()
    }

    fn walk(&mut self, steps: &[Step], mut way: Way, end: &End<'_>) {
        if way.depth > DEPTH_MAX {
            return self.give_up(steps.first().map(|step| step.at));
        }
        let mut rest = steps;
        while let [step, behind @ ..] = rest {
            rest = behind;
            let Some(term) = step.terms.first() else { continue };
            let Taken::Some(taken, spared) = self.take(step, term, &way.region) else { continue };
            let all = taken == way.region && spared.is_empty();
            if let (Effect::Edit(edit), true) = (&step.effect, all) {
                way.edits.push((edit.clone(), step.at));
                continue;
            }
            // Whatever else splits the ways is written out once more for each part.
            let fork = matches!(step.effect, Effect::Edit(_) | Effect::Allow) || !spared.is_empty();
            if fork && !behind.is_empty() {
                self.forks += 1;
                if self.forks > WAYS_MAX {
                    return self.give_up(Some(step.at));
                }
            }
            for (spared, test) in spared {
                self.spare(step, behind, &way, spared, &test, end);
            }
            let inner = way.to(taken);
            match &step.effect {
                Effect::Edit(edit) => {
                    let mut inner = inner;
                    inner.edits.push((edit.clone(), step.at));
                    self.walk(behind, inner, end);
                }
                Effect::Allow => {
                    let at =
                        behind.iter().position(|step| step.stage > Stage::Request).unwrap_or(behind.len());
                    self.walk(behind.get(at..).unwrap_or_default(), inner, end);
                }
                Effect::Answer(answer) => self.push(Some(step.at), inner, Action::Answer(answer.clone())),
                Effect::Go(backend) => self.go(backend, Some(step.at), inner),
                Effect::Rest => self.end(end, inner),
                Effect::Auth(_) | Effect::Trust(_) | Effect::Nothing => continue,
            }
            if all {
                return;
            }
        }
        self.end(end, way);
    }

    fn end(&mut self, end: &End<'_>, way: Way) {
        match end {
            End::Frontend => match &self.front.default_backend {
                Some((backend, at)) => self.go(backend, Some(*at), way),
                // A `listen` is its own backend.
                None if self.front.back => self.backend(&self.front.name, None, way),
                None => self.push(None, way, Action::Nobody),
            },
            End::Backend(name, at) => self.arrive(name, *at, way),
        }
    }

    /// Writes out what becomes of requests that a step spares: those that it would take but for `test`, or, where the
    /// conditions of the two cannot be said together, all that `test` is about, which it takes none of either.
    fn spare(&mut self, step: &Step, behind: &[Step], way: &Way, spared: Region, test: &Test, end: &End<'_>) {
        let (routes, problems) = (self.out.len(), self.problems.len());
        let mut narrow = way.to(spared);
        narrow.spared.push(step.at);
        self.walk(behind, narrow, end);
        if self.problems.len() == problems {
            return;
        }
        if let Narrowed::To(wide) = way.region.and(test, self.doors) {
            let (kept, said) = (self.out.split_off(routes), self.problems.split_off(problems));
            let mut wide = way.to(wide);
            wide.spared.push(step.at);
            self.walk(behind, wide, end);
            if self.problems.len() > problems {
                self.out.truncate(routes);
                self.problems.truncate(problems);
                self.out.extend(kept);
                self.problems.extend(said);
            }
        }
    }

    fn take(&mut self, step: &Step, term: &Term, region: &Region) -> Taken {
        let mut taken = region.clone();
        for test in &term.all {
            match taken.and(test, self.doors) {
                Narrowed::To(narrow) => taken = narrow,
                Narrowed::Empty => return Taken::None,
                Narrowed::Impossible(why) => {
                    self.problems.push((step.at, not_possible(why)));
                    return Taken::None;
                }
            }
        }
        let mut spared = Vec::new();
        for test in &term.none {
            match taken.and(test, self.doors) {
                Narrowed::To(narrow) if narrow == taken => return Taken::None,
                Narrowed::To(narrow) => spared.push((narrow, test.clone())),
                Narrowed::Empty => {}
                Narrowed::Impossible(why) => {
                    self.problems.push((step.at, not_possible(why)));
                    return Taken::None;
                }
            }
        }
        Taken::Some(taken, spared)
    }

    fn go(&mut self, name: &str, at: Option<Place>, way: Way) {
        match self.sections.proxies.get(name) {
            Some(proxy) if proxy.back => self.backend(name, at, way),
            _ => {
                if let Some(at) = at {
                    self.problems
                        .push((at, wrong(format!("there is no backend {name}: HAProxy rejects the file"))));
                }
                self.push(at, way, Action::Nobody);
            }
        }
    }

    fn backend(&mut self, name: &str, at: Option<Place>, mut way: Way) {
        if let Some(of) = self.sections.steps(true, name) {
            way.edits.extend(of.answers.iter().cloned());
        }
        let own = self.front.back && self.front.name == name;
        // The rules of a `listen` have been walked as those of a frontend.
        let steps = if own { Vec::new() } else { self.steps_of(true, name, false) };
        self.walk(&steps, way, &End::Backend(name, at));
    }

    fn arrive(&mut self, name: &str, at: Option<Place>, way: Way) {
        let proxy = self.sections.proxies.get(name);
        let somebody = proxy.is_some_and(|proxy| !proxy.servers.is_empty() && !proxy.disabled);
        let action = if somebody { Action::Pool(name.to_owned()) } else { Action::Nobody };
        self.push(at, way, action);
    }

    fn push(&mut self, at: Option<Place>, mut way: Way, action: Action) {
        if let Some(of) = self.sections.steps(false, &self.front.name)
            && !self.front.back
        {
            way.edits.extend(of.answers.iter().cloned());
        }
        if !matches!(action, Action::Pool(_)) {
            let open =
                !matches!(&action, Action::Answer(Answer::Respond(Reply { status, .. })) if *status >= 400);
            way.edits.retain(|(edit, _)| edit.own_too || open && guards(edit));
        }
        self.one_target(&way.edits);
        self.out.push(Draft { at, region: way.region, edits: way.edits, spared: way.spared, action });
    }

    /// A route rewrites its target once.
    fn one_target(&mut self, edits: &[(Edit, Place)]) {
        let rewrites = |(edit, _): &&(Edit, Place)| matches!(&edit.change, Change::Target(target) if target.path.is_some());
        let mut paths = edits.iter().filter(rewrites);
        let first = paths.next();
        let more = paths.map(|(_, at)| *at).next();
        let host = edits
            .iter()
            .any(|(edit, _)| edit.request && matches!(&edit.change, Change::Set(name, _) if name == "host"));
        let by_regex = first
            .filter(|(edit, _)| matches!(&edit.change, Change::Target(target) if target.regex.is_some()));
        if let Some(at) = more {
            let remedy = "a route rewrites its path once, here as the last rule says: make one regular expression of them";
            self.problems.push((at, not_possible(remedy)));
        } else if let (true, Some((_, at))) = (host, by_regex) {
            let remedy = "the Host is set only where the path is rewritten: give the other requests a route of their own";
            self.problems.push((*at, not_possible(remedy)));
        }
    }

    fn give_up(&mut self, at: Option<Place>) {
        if let Some(at) = at {
            let remedy = format!(
                "the conditions up to here lead to more than {WAYS_MAX} different ways: from here on routes have to be written by hand"
            );
            self.problems.push((at, not_possible(remedy)));
        }
    }
}

/// What holds for answers of the proxy's own too: who may come, and how often.
fn guards(edit: &Edit) -> bool {
    matches!(&edit.change, Change::Limit(_) | Change::Key("basic_auth", _))
}

/// The edits as `request_headers`, `response_headers` and `rewrite` have them.
#[derive(Debug, Default)]
pub(super) struct Edits {
    pub(super) request: Fields,
    pub(super) answer: Fields,
    pub(super) target: Option<(Target, Place)>,
    pub(super) limits: Vec<(Limit, Place)>,
    pub(super) keys: Vec<(&'static str, Value, Place)>,
}

/// The edits of one head.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) remove: Vec<String>,
    pub(super) set: Vec<(String, String)>,
    pub(super) add: Vec<(String, String)>,
    pub(super) at: Option<Place>,
}

impl Edits {
    /// What is left to do at the end of a way: a later change of a field goes over an earlier one.
    #[must_use]
    pub(super) fn of(edits: &[(Edit, Place)]) -> Self {
        let mut out = Self::default();
        for (edit, at) in edits {
            let fields = if edit.request { &mut out.request } else { &mut out.answer };
            match &edit.change {
                Change::Target(target) => {
                    out.target = Some((over(out.target.take(), target), *at));
                    continue;
                }
                Change::Key(name, value) => {
                    out.keys.retain(|(other, ..)| other != name);
                    out.keys.push((name, value.clone(), *at));
                    continue;
                }
                Change::Limit(limit) => {
                    if out.limits.iter().any(|(other, _)| other == limit) {
                        continue;
                    }
                    out.limits.push((limit.clone(), *at));
                    continue;
                }
                Change::Remove(name) => {
                    fields.forget(name);
                    fields.remove.push(name.clone());
                }
                Change::Set(name, value) => {
                    fields.forget(name);
                    fields.set.push((name.clone(), value.clone()));
                }
                Change::Add(name, value) if fields.add.iter().any(|(other, _)| other == name) => {
                    // One value of a name can be added: both together are a list.
                    if let Some((_, own)) = fields.add.iter_mut().find(|(other, _)| other == name) {
                        own.push_str(", ");
                        own.push_str(value);
                    }
                }
                Change::Add(name, value) => fields.add.push((name.clone(), value.clone())),
            }
            fields.at = fields.at.or(Some(*at));
        }
        out
    }
}

/// A later rewriting over an earlier one.
fn over(before: Option<(Target, Place)>, later: &Target) -> Target {
    let before = before.map(|(target, _)| target).unwrap_or_default();
    let path = later.path.clone();
    Target {
        regex: if path.is_some() { later.regex.clone() } else { before.regex },
        path: path.or(before.path),
        query: later.query.clone().or(before.query),
    }
}

impl Fields {
    fn forget(&mut self, name: &str) {
        self.remove.retain(|other| other != name);
        self.set.retain(|(other, _)| other != name);
        self.add.retain(|(other, _)| other != name);
    }
}
