//! From directives to routes. nginx goes through the directives of a server, then of the location that it finds, and may go
//! to another one; a route stands alone. So each way through them becomes a route of its own, with all that was asked on the
//! way as its conditions; what was asked in vain is said by routes that are asked before.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::super::region::{Door, PathTest, Region};
use super::super::report::{Place, Verdict};
use super::ask::{Ask, Narrowed, narrow};
use super::catalogue::{self, IF};
use super::condition::{self, Condition};
use super::draft::{Action, Draft, Rewrite};
use super::limit::Zones;
use super::location::{Entry, Goal, Kind, Location, Locations};
use super::notes::Notes;
use super::pools::Pools;
use super::scope::{Level, Scope};
use super::switch::Switch;
use super::tree::Directive;
use super::upstream::Upstream;
use super::variable::{Bound, Facts, pieces, put_in};

/// What all servers share.
pub(super) struct Ground<'t> {
    pub(super) switches: HashMap<String, Switch<'t>>,
    pub(super) doors: Vec<Door>,
    pub(super) zones: Zones<'t>,
    pub(super) upstreams: HashMap<String, Upstream<'t>>,
    pub(super) matches: Vec<&'t Directive>,
    /// How many ways servers have led to so far.
    pub(super) ways: Cell<usize>,
}

/// A server, as far as its requests go.
pub(super) struct Site<'t> {
    pub(super) of: &'t Directive,
    pub(super) scope: Scope<'t>,
    pub(super) level: Rc<Level<'t>>,
    pub(super) names: Vec<String>,
    pub(super) doors: Vec<usize>,
    pub(super) locations: Locations<'t>,
}

/// A server whose directives lead to more ways, or to more routes, than this has not all of them written out.
pub(super) const WAYS_MAX: usize = 20_000;
/// Servers that lead to many ways have so many together.
const ALL_WAYS_MAX: usize = 60_000;
/// A server's own ways up to here are not counted with those of others.
const OWN_WAYS: usize = 512;
/// So many routes count as one way.
const ROUTES_OF_WAY: usize = 5;
const KEPT_OUT: &str = "who is to be kept out cannot be said: see the report";
/// How a question about `$request_uri` differs.
pub(super) const PATH_ALONE: &str =
    "it is asked of the path, in normal form; $request_uri has the query behind it, and is what was sent";
/// Ways are followed into one another so deeply.
pub(super) const DEPTH_MAX: usize = 120;
/// Requests are sent to another location as often as nginx does.
const HOPS_MAX: usize = 10;

pub(super) struct Walker<'w, 't, 'r> {
    pub(super) ground: &'w Ground<'t>,
    pub(super) site: &'w Site<'t>,
    pub(super) pools: &'w mut Pools<'t>,
    pub(super) notes: &'w mut Notes<'r>,
    pub(super) out: Vec<Draft>,
    /// Endpoints are told of clients' certificates.
    pub(super) certificates: bool,
    /// Where locations lead that set the Host, by the directives that say so.
    pub(super) hosted: HashSet<(&'static str, &'t str)>,
    entries: Rc<Vec<Entry>>,
    pub(super) forks: usize,
}

/// A way: which requests take it, and what is known and done on it.
#[derive(Debug, Clone)]
pub(super) struct Way<'t> {
    pub(super) region: Region,
    pub(super) scope: Scope<'t>,
    pub(super) bound: Bound,
    /// Variables that nothing can be said of, and why.
    pub(super) unknown: HashMap<String, String>,
    /// Variables that may have another value than the one that is known here, and why.
    pub(super) doubts: HashMap<String, String>,
    /// The location that it has come to.
    pub(super) at: Option<usize>,
    /// Another path than the one that was asked for, and what it may be.
    pub(super) target: Option<Rewrite>,
    pub(super) samples: Vec<String>,
    /// Names of groups of the route's regular expression.
    pub(super) groups: Option<Vec<String>>,
    pub(super) moved: bool,
    pub(super) stopped: bool,
    pub(super) hops: usize,
    pub(super) depth: usize,
    /// The status of the error whose page this is.
    pub(super) status: Option<u16>,
}

impl<'t> Way<'t> {
    pub(super) fn to(&self, region: Region) -> Self {
        Self { region, depth: self.depth + 1, ..self.clone() }
    }

    pub(super) fn know(mut self, variable: &str, value: String) -> Self {
        self.bound.insert(variable.to_owned(), value);
        self
    }
}

/// Why what a text comes to is not certain, where it is not.
pub(super) fn doubt(text: &str, way: &Way<'_>) -> Option<String> {
    if way.doubts.is_empty() {
        return None;
    }
    pieces(text).iter().find_map(|piece| match piece {
        super::variable::Piece::Variable(name) => way.doubts.get(name).cloned(),
        super::variable::Piece::Text(_) => None,
    })
}

/// The routes of a server, most wanted first.
pub(super) fn drafts<'t>(
    site: &Site<'t>,
    ground: &Ground<'t>,
    pools: &mut Pools<'t>,
    notes: &mut Notes<'_>,
) -> (Vec<Draft>, bool) {
    let entries = Rc::new(site.locations.entries(notes));
    let hosted = super::header::hosted(&site.locations);
    let mut walker = Walker {
        ground,
        site,
        pools,
        notes,
        out: Vec::new(),
        certificates: false,
        hosted,
        entries,
        forks: 0,
    };
    let all = site.doors.len() == ground.doors.len();
    let region = Region { doors: (!all).then(|| site.doors.clone()), ..Region::default() };
    let way = Way {
        region,
        scope: site.scope.clone(),
        bound: Bound::new(),
        unknown: HashMap::new(),
        doubts: HashMap::new(),
        at: None,
        target: None,
        samples: Vec::new(),
        groups: None,
        moved: false,
        stopped: false,
        hops: 0,
        depth: 0,
        status: None,
    };
    walker.run(vec![site.level.list], way);
    let own = walker.forks.max(walker.out.len() / ROUTES_OF_WAY);
    if own > OWN_WAYS {
        ground.ways.set(ground.ways.get() + own);
    }
    // Of two routes for the same requests the second is never asked.
    let mut seen = HashSet::new();
    walker.out.retain(|draft| seen.insert(format!("{:?}", draft.region)));
    (walker.out, walker.certificates)
}

impl<'w, 't, 'r> Walker<'w, 't, 'r> {
    /// The location of a way.
    pub(super) fn location(&self, way: &Way<'t>) -> Option<&'w Location<'t>> {
        self.site.locations.all.get(way.at?)
    }

    /// What is known where texts of a way are put together.
    pub(super) fn facts(&self, way: &Way<'t>) -> Facts {
        let served = way.region.doors.clone().unwrap_or_else(|| (0..self.ground.doors.len()).collect());
        let mut ports: Vec<u16> = served
            .iter()
            .filter_map(|at| self.ground.doors.get(*at))
            .flat_map(|door| door.ports.clone())
            .collect();
        ports.dedup();
        let port = match ports.as_slice() {
            [one] => Some(*one),
            _ => None,
        };
        let server_name = self.site.names.first().cloned().unwrap_or_default();
        Facts { server_name, port, proxy_host: None, groups: way.groups.clone() }
    }

    /// Follows directives; of several lists the last one first.
    pub(super) fn run(&mut self, mut todo: Vec<&'t [Directive]>, mut way: Way<'t>) {
        if way.depth > DEPTH_MAX {
            return self.give_up(&way);
        }
        while let Some(list) = todo.pop() {
            let [one, rest @ ..] = list else { continue };
            todo.push(rest);
            if !["set", "break", "return", "rewrite", "if"].contains(&one.name.as_str()) {
                continue;
            }
            if let Some(variable) = self.unknown_in(one, &way) {
                todo.push(std::slice::from_ref(one));
                return self.fork(&variable, way, one, &mut |walker, way| walker.run(todo.clone(), way));
            }
            match one.name.as_str() {
                "set" => self.set(one, &mut way),
                "break" => {
                    self.notes.ok(one);
                    way.stopped = true;
                    todo.clear();
                }
                "return" => return self.returned(one, &way),
                "rewrite" => match self.rewrite(one, &mut todo, way) {
                    Some(on) => way = on,
                    None => return,
                },
                _ => match self.condition(one, &mut todo, way) {
                    Some(on) => way = on,
                    None => return,
                },
            }
        }
        self.end(way);
    }

    fn end(&mut self, way: Way<'t>) {
        match way.at {
            None => self.locate(way),
            Some(_) if way.moved && !way.stopped => {
                let hops = way.hops + 1;
                let scope = self.site.scope.clone();
                self.locate(Way { hops, scope, ..way });
            }
            Some(_) => self.content(way),
        }
    }

    fn set(&mut self, one: &'t Directive, way: &mut Way<'t>) {
        let Some(name) = one.word(0).strip_prefix('$').filter(|_| one.words.len() == 2) else {
            return self.notes.wrong(one, "it names a variable and a value: nginx rejects it");
        };
        let value = put_in(one.word(1), &way.bound);
        match doubt(one.word(1), way) {
            Some(why) => drop(way.doubts.insert(name.to_owned(), why)),
            None => drop(way.doubts.remove(name)),
        }
        if pieces(&value)
            .iter()
            .any(|piece| matches!(piece, super::variable::Piece::Variable(own) if own == name))
        {
            // Its own last value was none.
            let empty: Bound = [(name.to_owned(), String::new())].into_iter().collect();
            way.bound.insert(name.to_owned(), put_in(&value, &empty));
        } else {
            way.bound.insert(name.to_owned(), value);
        }
        self.notes.ok(one);
    }

    /// A variable of a directive whose value has to be known first.
    fn unknown_in(&self, one: &'t Directive, way: &Way<'t>) -> Option<String> {
        let texts: Vec<&str> = match one.name.as_str() {
            "set" => vec![one.word(1)],
            "return" => one.words.iter().map(String::as_str).collect(),
            "rewrite" => vec![one.word(1)],
            "if" => {
                let words = condition::words(one);
                return words.iter().find_map(|word| self.open(word, way, true));
            }
            _ => Vec::new(),
        };
        texts.into_iter().find_map(|text| self.open(text, way, false))
    }

    /// `if`: what it is about goes another way.
    fn condition(
        &mut self,
        one: &'t Directive,
        todo: &mut Vec<&'t [Directive]>,
        way: Way<'t>,
    ) -> Option<Way<'t>> {
        if let Some(why) = one.words.iter().find_map(|word| doubt(word, &way)) {
            return self.unsayable(one, &why, way);
        }
        let (ask, negated) = match condition::read(one, &way, &self.ground.doors, &self.facts(&way)) {
            Condition::Wrong(what) => {
                self.notes.wrong(one, what);
                return Some(way);
            }
            Condition::Cannot(why) => return self.unsayable(one, &why, way),
            Condition::Wider(ask, why) => {
                if !super::location::refuses(&Level::new(IF, one.inside())) {
                    return self.unsayable(one, &why, way);
                }
                self.notes.cannot(one, format!("{why}: without what looks ahead or behind it refuses more"));
                (ask, false)
            }
            Condition::File(exists) => {
                let what = "whether a file is there is not asked: [[route]] maintenance, or an endpoint, does what it is for";
                self.notes.cannot(one, format!("{what}; here it never is"));
                if exists {
                    self.lost(one);
                    return Some(way);
                }
                (Ask::Always, false)
            }
            Condition::Ask(ask, negated) => (ask, negated),
        };
        let narrowed = match narrow(&way.region, &ask, &self.ground.doors) {
            Narrowed::Impossible(why) => return self.unsayable(one, &why, way),
            Narrowed::Empty => None,
            Narrowed::To(region) => Some(region),
        };
        if one.words.iter().any(|word| word.contains("$request_uri")) {
            self.notes.near(one, PATH_ALONE);
        }
        self.notes.ok(one);
        let all = narrowed.as_ref().is_some_and(|region| *region == way.region);
        let into = |way: Way<'t>| Self::inside(one, way);
        let Some(region) = narrowed.filter(|_| !all) else {
            if all == negated {
                return Some(way);
            }
            todo.push(one.inside());
            return Some(into(way));
        };
        self.forks += 1;
        if self.is_too_much() {
            self.give_up(&way);
            return None;
        }
        let narrow = way.to(region);
        let mut body = todo.clone();
        body.push(one.inside());
        if negated {
            self.run(todo.clone(), narrow);
            *todo = body;
            return Some(into(way));
        }
        self.run(body, into(narrow));
        Some(way)
    }

    /// What holds inside an `if` of a location.
    fn inside(one: &'t Directive, way: Way<'t>) -> Way<'t> {
        if way.at.is_none() {
            return way;
        }
        let scope = way.scope.without(IF).with(Rc::new(Level::new(IF, one.inside())));
        Way { scope, ..way }
    }

    /// A condition that no route can say. What would keep clients out keeps all of them out, also where that is asked of a
    /// variable that is set on this condition.
    fn unsayable(&mut self, one: &'t Directive, why: &str, mut way: Way<'t>) -> Option<Way<'t>> {
        if super::location::refuses(&Level::new(IF, one.inside())) {
            self.notes.cannot(one, format!("{why}. As it keeps clients out, nobody is let in here"));
            self.lost(one);
            self.close(one.at, &way, KEPT_OUT);
            return None;
        }
        self.notes.cannot(one, format!("{why}. Here it never holds"));
        self.lost(one);
        for set in one.inside().iter().filter(|inner| inner.name == "set") {
            if let Some(name) = set.word(0).strip_prefix('$') {
                way.doubts.insert(name.to_owned(), format!("${name} depends on {}", self.line(one)));
            }
        }
        Some(way)
    }

    /// A line as remarks on others name it.
    fn line(&self, of: &Directive) -> String {
        format!("line {}, which is not carried over", of.at.line)
    }

    fn lost(&mut self, one: &'t Directive) {
        for inner in one.inside() {
            self.notes.all(inner, Verdict::Ignored, "its condition is not carried over");
        }
    }

    /// Nobody is let in.
    pub(super) fn close(&mut self, at: Place, way: &Way<'t>, why: &str) {
        let action = Action::Respond { status: 503, body: String::new(), kind: None };
        let mut draft = Draft::new(at, way.region.clone(), action);
        draft.why = Some(why.to_owned());
        self.out.push(draft);
    }

    /// Whether more ways are not followed.
    pub(super) fn is_too_much(&self) -> bool {
        let own = self.forks.max(self.out.len() / ROUTES_OF_WAY);
        own > WAYS_MAX || own > OWN_WAYS && self.ground.ways.get() + own > ALL_WAYS_MAX
    }

    pub(super) fn give_up(&mut self, way: &Way<'t>) {
        let remedy = format!(
            "its directives, with those of other servers, lead to more than {WAYS_MAX} different ways: write the routes by hand; here nobody is let in"
        );
        let of = self.location(way).map_or(self.site.of, |location| location.of);
        self.notes.cannot(of, remedy);
        self.close(of.at, way, "too many different ways: see the report");
    }

    /// Finds the locations of a way.
    fn locate(&mut self, way: Way<'t>) {
        if way.hops > HOPS_MAX {
            self.notes.wrong(self.site.of, "its rewrites send requests round in circles: nginx answers 500");
            return self.close(self.site.of.at, &way, "nginx answers 500: a circle of rewrites");
        }
        if way.target.is_some() {
            return self.relocate(way);
        }
        for entry in Rc::clone(&self.entries).iter() {
            if self.is_too_much() {
                return self.give_up(&way);
            }
            let region = match &entry.path {
                None => Narrowed::To(way.region.clone()),
                Some(path) => narrow(&way.region, &Ask::Path(path.clone()), &self.ground.doors),
            };
            let region = match region {
                Narrowed::To(region) => region,
                Narrowed::Empty => continue,
                Narrowed::Impossible(why) => {
                    if let Goal::At(at) | Goal::Slash(at) = entry.to
                        && let Some(location) = self.site.locations.all.get(at)
                    {
                        self.notes.cannot(
                            location.of,
                            format!(
                                "not for requests that an earlier condition on the path has taken: {why}"
                            ),
                        );
                        if super::location::keeps_out(&location.level) {
                            // Another location would let in whom this one keeps out.
                            return self.close(location.of.at, &way, KEPT_OUT);
                        }
                    }
                    if let Goal::Shut(at) = entry.to {
                        return self.close(at, &way, KEPT_OUT);
                    }
                    continue;
                }
            };
            let mut inner = way.to(region);
            if let (Some(PathTest::Regex(_)), Goal::At(at)) = (&entry.path, entry.to)
                && let Some(location) = self.site.locations.all.get(at).filter(|one| one.kind == Kind::Regex)
            {
                inner.groups = Some(location.groups.clone());
            }
            match entry.to {
                Goal::At(at) => self.enter(at, inner),
                Goal::Slash(at) => self.slash(at, &inner),
                Goal::Nowhere => self.nowhere(&inner),
                Goal::Shut(at) => self.close(at, &inner, KEPT_OUT),
            }
        }
        if !self.entries.iter().any(|entry| entry.path.is_none()) {
            self.nowhere(&way);
        }
    }

    /// Finds the location of a path that a rewrite has made.
    fn relocate(&mut self, way: Way<'t>) {
        let found: Vec<Option<usize>> =
            way.samples.iter().map(|path| self.site.locations.find(path)).collect();
        match found.first().copied().filter(|first| found.iter().all(|other| other == first)) {
            Some(Some(at)) => self.enter(at, Way { groups: None, ..way }),
            Some(None) => self.nowhere(&way),
            None => {
                let at = way.target.as_ref().and_then(|target| target.at).unwrap_or(self.site.of.at);
                self.notes.report.not_possible(at, "which location takes the path that comes of it depends on the request: write a route for each");
                self.close(at, &way, "where a rewrite leads depends on the request: see the report");
            }
        }
    }

    /// Goes on in a location.
    pub(super) fn enter(&mut self, at: usize, way: Way<'t>) {
        let Some(location) = self.site.locations.all.get(at) else { return };
        if location.shut {
            return self.close(location.of.at, &way, KEPT_OUT);
        }
        if let Some(internal) = location.level.first("internal") {
            self.notes.ok(internal);
            if way.hops == 0 && way.target.is_none() {
                self.notes.ok(location.of);
                if self.paged(internal, 404, &way) {
                    return;
                }
                let action = Action::Respond { status: 404, body: String::new(), kind: None };
                let mut draft = Draft::new(internal.at, way.region, action);
                draft.why = Some("clients cannot ask for it".to_owned());
                return self.out.push(draft);
            }
        }
        self.notes.ok(location.of);
        let scope = location.scope.clone();
        let way = Way { at: Some(at), scope, moved: false, stopped: false, depth: way.depth + 1, ..way };
        self.run(vec![location.level.list], way);
    }

    /// The path without its last slash is sent to the one with it.
    fn slash(&mut self, at: usize, way: &Way<'t>) {
        let Some(location) = self.site.locations.all.get(at) else { return };
        let to = "{scheme}://{host}{path}/{?query}".to_owned();
        let mut draft = Draft::new(location.of.at, way.region.clone(), Action::Redirect { to, status: 301 });
        draft.why = Some("nginx sends who leaves the slash out to the path with it".to_owned());
        self.out.push(draft);
    }

    /// No location: nginx would look for a file.
    fn nowhere(&mut self, way: &Way<'t>) {
        let action = Action::Respond { status: 404, body: String::new(), kind: None };
        let mut draft = Draft::new(self.site.of.at, way.region.clone(), action);
        draft.why = Some("no location takes the others: nginx would look for files".to_owned());
        let root = way.scope.find("root");
        if let Some(root) = root {
            self.notes.cannot(root, catalogue::NO_FILES);
        }
        self.out.push(draft);
    }
}
