//! From ordered rules to routes. HAProxy walks its rules and the first final one that applies decides; a route stands
//! alone. So each way through the rules of a frontend and of the backend behind it becomes a route of its own, with
//! all that was asked on the way as its conditions; what was asked in vain is said by routes that are asked before.

use std::collections::{HashMap, HashSet};

use super::super::cover::covered;
use super::super::document::Value;
use super::super::region::{Door, PathTest, Region};
use super::super::report::{Place, Report, Verdict};
use super::answer::Reply;
use super::clause::Term;
use super::edit::Target;
use super::limit::Limit;
use super::proxy::{Proxy, Stage};
use super::rule::{Answer, Change, Edit, Effect};
use super::said::{Said, not_possible, wrong};
use super::seen::{Known, Lost, Seen};
use super::shown;
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
/// What ways through rules may cost: a rule that is asked is 1. Files of 1 MB that say as much as they can stay below it.
const WORK_MAX: usize = 4_000_000;
/// What a change that is carried along costs, a problem, and a route.
const EDIT_WORK: usize = 10;
const PROBLEM_WORK: usize = 50;
const ROUTE_WORK: usize = 100;
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
    let mut walker =
        Walker { sections, doors, front, problems: Vec::new(), out: Vec::new(), forks: 0, work: 0 };
    let steps = walker.steps_of(front.back, &front.name, true);
    walker.walk(&steps, Way::default(), &End::Frontend);
    let covered = covered(&walker.out.iter().map(|draft| &draft.region).collect::<Vec<_>>());
    let all: Vec<(Draft, bool)> = walker.out.into_iter().zip(covered).collect();
    let asked: HashSet<Option<Place>> =
        all.iter().filter(|(_, covered)| !covered).map(|(draft, _)| draft.at).collect();
    for at in all.iter().filter(|(draft, _)| !asked.contains(&draft.at)).filter_map(|(draft, _)| draft.at) {
        let what = "no route is made of it: rules before it take all of its requests";
        report.note(at, Verdict::Translated, what);
    }
    for (at, said) in walker.problems {
        said.about("", at, report);
    }
    all.into_iter().filter(|(_, covered)| !covered).map(|(draft, _)| draft).collect()
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
    /// What is known of the last change of the path.
    known: Known,
    /// Rules that it is spared by.
    spared: Vec<Place>,
    depth: usize,
}

impl Way {
    fn seen(&self) -> Seen<'_> {
        Seen { edits: &self.edits, known: self.known }
    }

    /// The regular expression of a path that changes only where it matches, when the Host or the query changes too:
    /// a route changes them together.
    fn tangled(&self) -> Option<String> {
        let regex = self.edits.iter().find_map(|(edit, _)| by_regex(edit))?;
        let more = self.edits.iter().any(|(edit, _)| match &edit.change {
            Change::Target(target) => target.regex.is_none() && target.query.is_some(),
            Change::Set(name, _) => edit.request && name == "host",
            _ => false,
        });
        (more && self.known != Known::Matches).then(|| regex.to_owned())
    }

    /// Does one thing more to the request. A path that is put together of what the path was is one change with that.
    fn edit(&mut self, edit: &Edit, at: Place) {
        if let Change::Target(Target { path: Some(_), regex, .. }) = &edit.change {
            self.known = Known::Nothing;
            for (earlier, _) in &mut self.edits {
                if let (Change::Target(target), None) = (&mut earlier.change, regex)
                    && target.regex.is_none()
                {
                    target.path = None;
                }
            }
        }
        self.edits.push((edit.clone(), at));
    }
}

/// What a term leaves of a way.
enum Taken {
    Some(Box<Part>),
    None,
    /// It depends on whether this matches the path.
    Perhaps(String),
}

/// The part of a way that a step takes.
struct Part {
    region: Region,
    /// What it would take but for a condition against them.
    spared: Vec<(Region, Test)>,
    /// What it does to them.
    effect: Effect,
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
    /// What has been done, see `WORK_MAX`.
    work: usize,
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
            let Some(term) = step.terms.first() else {
                rest = behind;
                continue;
            };
            self.work += 1 + term.all.len() + term.none.len();
            if self.work > WORK_MAX {
                return self.give_up(Some(step.at));
            }
            let part = match self.take(step, term, &way) {
                Taken::Some(part) => *part,
                Taken::None => {
                    rest = behind;
                    continue;
                }
                Taken::Perhaps(regex) => {
                    let at = step.at;
                    if self.fork(at) || self.part(&regex, &mut way, |own, way| own.walk(rest, way, end)) {
                        return;
                    }
                    continue;
                }
            };
            let Part { region: taken, spared, effect } = part;
            rest = behind;
            let all = taken == way.region && spared.is_empty();
            if let (Effect::Edit(edit), true) = (&effect, all) {
                way.edit(edit, step.at);
                continue;
            }
            // Whatever else splits the ways is written out once more for each part.
            let fork = matches!(effect, Effect::Edit(_) | Effect::Allow) || !spared.is_empty();
            if fork && !behind.is_empty() && self.fork(step.at) {
                return;
            }
            for (spared, test) in spared {
                self.spare(step, behind, &way, spared, &test, end);
            }
            let inner = self.to(&way, taken);
            match &effect {
                Effect::Edit(edit) => {
                    let mut inner = inner;
                    inner.edit(edit, step.at);
                    self.walk(behind, inner, end);
                }
                Effect::Allow => {
                    let at = behind.iter().position(|later| later.stage > step.stage);
                    self.walk(behind.get(at.unwrap_or(behind.len())..).unwrap_or_default(), inner, end);
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

    /// The way of a part of the requests of one.
    fn to(&mut self, way: &Way, region: Region) -> Way {
        self.work += EDIT_WORK * (way.edits.len() + way.spared.len());
        Way { region, depth: way.depth + 1, ..way.clone() }
    }

    /// Counts one more way; says whether they are too many.
    fn fork(&mut self, at: Place) -> bool {
        self.forks += 1;
        let too_many = self.forks > WAYS_MAX;
        if too_many {
            self.give_up(Some(at));
        }
        too_many
    }

    /// Does `then` to requests whose path has changed, apart from the others, which are left. Says whether none are.
    fn part(&mut self, regex: &str, way: &mut Way, then: impl FnOnce(&mut Self, Way)) -> bool {
        match way.region.and(&Test::Path(PathTest::Regex(regex.to_owned())), self.doors) {
            Narrowed::To(narrow) => {
                let all = narrow == way.region;
                let narrow = Way { known: Known::Matches, ..self.to(way, narrow) };
                then(self, narrow);
                if all {
                    return true;
                }
            }
            Narrowed::Empty => {}
            Narrowed::Impossible(_) => {
                way.known = Known::Never;
                return false;
            }
        }
        way.edits.retain(|(edit, _)| by_regex(edit).is_none());
        false
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
        let mut narrow = self.to(way, spared);
        narrow.spared.push(step.at);
        self.walk(behind, narrow, end);
        if self.problems.len() == problems {
            return;
        }
        if let Ok(Narrowed::To(wide)) = self.narrow(&way.region, test, way) {
            let (kept, said) = (self.out.split_off(routes), self.problems.split_off(problems));
            let mut wide = self.to(way, wide);
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

    fn take(&mut self, step: &Step, term: &Term, way: &Way) -> Taken {
        // What is to be refused is refused where only a part of the condition can be said.
        let refuses = refuses(&step.effect);
        let mut taken = way.region.clone();
        for test in &term.all {
            match self.narrow(&taken, test, way) {
                Ok(Narrowed::To(narrow)) => taken = narrow,
                Ok(Narrowed::Empty) => return Taken::None,
                Ok(Narrowed::Impossible(why)) | Err(Lost::Hidden(why)) => {
                    self.unsaid(step, why, refuses);
                    if !refuses {
                        return hidden(step, way);
                    }
                }
                Err(Lost::Perhaps(regex)) => return Taken::Perhaps(regex),
            }
        }
        let mut spared = Vec::new();
        for test in &term.none {
            match self.narrow(&taken, test, way) {
                Ok(Narrowed::To(narrow)) if narrow == taken => return Taken::None,
                Ok(Narrowed::To(narrow)) => spared.push((narrow, test.clone())),
                Ok(Narrowed::Empty) => {}
                Ok(Narrowed::Impossible(why)) | Err(Lost::Hidden(why)) => {
                    self.unsaid(step, why, refuses);
                    if !refuses {
                        return hidden(step, way);
                    }
                }
                Err(Lost::Perhaps(regex)) => return Taken::Perhaps(regex),
            }
        }
        match way.seen().effect(&step.effect) {
            Ok(effect) => Taken::Some(Box::new(Part { region: taken, spared, effect })),
            Err(Lost::Perhaps(regex)) => Taken::Perhaps(regex),
            Err(Lost::Hidden(why)) => {
                self.unsaid(step, why, false);
                hidden(step, way)
            }
        }
    }

    /// The part of a region to whose requests, as the way has left them, the answer is yes.
    fn narrow(&self, region: &Region, test: &Test, way: &Way) -> Result<Narrowed, Lost> {
        Ok(region.and(&way.seen().question(test)?, self.doors))
    }

    fn unsaid(&mut self, step: &Step, why: &str, refuses: bool) {
        self.work += PROBLEM_WORK;
        let what = if refuses { format!("{why}. {CLOSED}") } else { why.to_owned() };
        self.problems.push((step.at, not_possible(what)));
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

    fn arrive(&mut self, name: &str, at: Option<Place>, mut way: Way) {
        let proxy = self.sections.proxies.get(name);
        let somebody = proxy.is_some_and(|proxy| !proxy.servers.is_empty() && !proxy.disabled);
        let action = if somebody { Action::Pool(name.to_owned()) } else { Action::Nobody };
        if let (Action::Pool(_), Some(regex)) = (&action, way.tangled())
            && self.part(&regex, &mut way, |own, way| own.push(at, way, action.clone()))
        {
            return;
        }
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
        self.one_target(&way);
        self.work += ROUTE_WORK;
        self.out.push(Draft { at, region: way.region, edits: way.edits, spared: way.spared, action });
    }

    /// A route rewrites its target once.
    fn one_target(&mut self, way: &Way) {
        let rewrites = |(edit, _): &&(Edit, Place)| matches!(&edit.change, Change::Target(target) if target.path.is_some());
        if let Some((_, at)) = way.edits.iter().filter(rewrites).nth(1) {
            let remedy = "a route rewrites its path once, here as the last rule says: make one regular expression of them";
            self.problems.push((*at, not_possible(remedy)));
        } else if way.tangled().is_some()
            && let Some((_, at)) = way.edits.iter().find(|(edit, _)| by_regex(edit).is_some())
        {
            let remedy = "the Host and the query are set only where the path is rewritten: give the other requests a route of their own";
            self.problems.push((*at, not_possible(remedy)));
        }
    }

    fn give_up(&mut self, at: Option<Place>) {
        if let Some(at) = at {
            let remedy = "the rules up to here lead to more different ways than are written out: from here on routes have to be written by hand";
            self.problems.push((at, not_possible(remedy)));
        }
    }
}

/// Of a step that cannot be said it is not known to which requests it does what it does.
fn hidden(step: &Step, way: &Way) -> Taken {
    shown::instead(&step.effect).map_or(Taken::None, |effect| {
        Taken::Some(Box::new(Part { region: way.region.clone(), spared: Vec::new(), effect }))
    })
}

/// The regular expression where a path changes only if it matches.
fn by_regex(edit: &Edit) -> Option<&str> {
    match &edit.change {
        Change::Target(target) => target.regex.as_deref(),
        _ => None,
    }
}

/// Said where a refusal takes more requests than it should.
pub(super) const CLOSED: &str = "Until then all that it might refuse is refused";

/// Whether nobody is to get past this who might be meant.
pub(super) fn refuses(effect: &Effect) -> bool {
    match effect {
        Effect::Answer(Answer::Respond(Reply { status, .. })) => *status >= 400,
        Effect::Edit(Edit { change: Change::Key("basic_auth", _), .. }) => true,
        _ => false,
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
        let mut known: HashSet<(bool, &str)> = HashSet::new();
        for (edit, at) in edits {
            let again = match &edit.change {
                Change::Set(name, _) | Change::Add(name, _) | Change::Remove(name) => {
                    !known.insert((edit.request, name))
                }
                _ => false,
            };
            let fields = if edit.request { &mut out.request } else { &mut out.answer };
            match &edit.change {
                Change::Shown(_) => continue,
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
                    fields.forget(name, again);
                    fields.remove.push(name.clone());
                }
                Change::Set(name, value) => {
                    fields.forget(name, again);
                    fields.set.push((name.clone(), value.clone()));
                }
                Change::Add(name, value) if again && fields.add.iter().any(|(other, _)| other == name) => {
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
    /// Forgets what was to be done to a field that something is to be done to `again`.
    fn forget(&mut self, name: &str, again: bool) {
        if !again {
            return;
        }
        self.remove.retain(|other| other != name);
        self.set.retain(|(other, _)| other != name);
        self.add.retain(|(other, _)| other != name);
    }
}
