//! The rules of one section as steps: in the order in which HAProxy asks them, each with the alternatives of its
//! condition. What is no matter of routes is taken out here: closed networks, failover, what nothing stands for.

use std::collections::HashMap;

use ipnet::IpNet;

use super::super::document::Value;
use super::super::region::PathTest;
use super::super::report::{Place, Report, Verdict};
use super::super::surroundings::Surroundings;
use super::answer::{Reply, status};
use super::clause::{Clauses, Term, asked, list_of, only_short, sources, split};
use super::limit::{self, Counter, Counters};
use super::map;
use super::proxy::{Proxy, Rule, Stage};
use super::route::{CLOSED, refuses};
use super::rule::{Answer, Change, Edit, Effect, PROXY_HEADER, effect, key};
use super::said::{Said, approximated, ignored, not_possible, translated};
use super::seen::of_answer;
use super::shown;
use super::test::Test;

/// A rule whose condition has been read.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Where it stands.
    pub(super) at: Place,
    /// When it is asked.
    pub(super) stage: Stage,
    /// It applies when one of these holds.
    pub(super) terms: Vec<Term>,
    /// What it does.
    pub(super) effect: Effect,
}

/// Those of all sections, by whether they have servers and by name: a frontend and a backend may have one name.
pub(super) type AllSteps = HashMap<(bool, String), Steps>;

/// What the rules of a section come to.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Those that decide about requests.
    pub(super) steps: Vec<Step>,
    /// Changes to every answer.
    pub(super) answers: Vec<(Edit, Place)>,
    /// Networks that may not connect.
    pub(super) deny: Vec<(IpNet, Place)>,
    /// Networks that alone may connect.
    pub(super) allow: Vec<(IpNet, Place)>,
    /// Networks of proxies that are believed.
    pub(super) trusted: Vec<(IpNet, Place)>,
    /// The field in which they name the client.
    pub(super) client_field: Option<(&'static str, Place)>,
    /// They begin with a PROXY header.
    pub(super) proxy_header: Option<Place>,
    /// Connections at once of one source.
    pub(super) per_source: Option<(i64, Place)>,
    /// Backends that take over from others.
    pub(super) failovers: Vec<(String, String, Place)>,
}

/// What rules are read beside.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    /// Every stick-table.
    pub(super) tables: &'a HashMap<String, Counters>,
    /// Every backend.
    pub(super) backends: &'a [&'a str],
    /// What may be looked at.
    pub(super) around: Surroundings<'a>,
}

/// Reads the rules of a section, each of which gets its verdict.
pub(super) fn read(proxy: &Proxy, beside: &Beside<'_>, report: &mut Report) -> Steps {
    let mut rules: Vec<&Rule> = proxy.rules.iter().collect();
    // `monitor fail` is asked before the page that it is about.
    // New connections are asked about before their sessions, and these before what they bring.
    let late = |rule: &&Rule| {
        let word = |at: usize| rule.words.get(at).map_or("", String::as_str);
        let list = ["connection", "session", "content"].iter().position(|list| *list == word(1));
        (rule.stage, word(0) == "monitor-uri", list.filter(|_| rule.stage == Stage::Connection))
    };
    rules.sort_by_key(late);
    let mut reader = Reader {
        proxy,
        tables: beside.tables,
        backends: beside.backends,
        clauses: Clauses::new(&proxy.acls, beside.around),
        report,
        out: Steps::default(),
        monitor: None,
        accepted: HashMap::new(),
    };
    if proxy.http {
        reader.always();
    }
    for rule in rules {
        reader.rule(rule);
    }
    reader.clauses.finish(reader.report);
    reader.out.steps.sort_by_key(|step| step.stage);
    reader.out
}

struct Reader<'a, 'r> {
    proxy: &'a Proxy,
    tables: &'a HashMap<String, Counters>,
    backends: &'a [&'a str],
    clauses: Clauses<'a>,
    report: &'r mut Report,
    out: Steps,
    /// The pool whose health the monitor page tells.
    monitor: Option<String>,
    /// Of each list of `tcp-request`, whom it has accepted before its other rules are asked.
    accepted: HashMap<String, Vec<IpNet>>,
}

impl Reader<'_, '_> {
    /// What a section has every route do, whatever its rules say.
    fn always(&mut self) {
        let mut step = |at, effect| {
            self.out.steps.push(Step { at, stage: Stage::Request, terms: vec![Term::default()], effect });
        };
        for (name, value, at) in &self.proxy.keys {
            let has_codings = |value: &Value| matches!(value, Value::Inline(pairs) if pairs.iter().any(|(name, _)| name == "codings"));
            // Without an algorithm nothing is compressed.
            if *name != "compress" || has_codings(value) {
                step(*at, key(name, value.clone()));
            }
        }
        for (name, value, at) in &self.proxy.fields {
            let change = Change::Set(name.clone(), value.clone());
            step(*at, Effect::Edit(Edit { request: true, own_too: false, change }));
        }
    }

    fn rule(&mut self, rule: &Rule) {
        let at = rule.at;
        let (words, condition) = split(&rule.words);
        if let Some(expanded) = map::expand(words, self.backends, self.clauses.around) {
            return self.several(rule, condition, expanded);
        }
        if let Some(side) = self.other_side(words) {
            return self.report.wrong(at, format!("it is for {side}: HAProxy rejects the file"));
        }
        let (mut effect, said) = effect(rule, words, self.clauses.around);
        if effect == Effect::Nothing {
            effect = shown::of(words, &said).unwrap_or(effect);
        }
        let nothing = effect == Effect::Nothing;
        let tracks = words.iter().any(|word| word.starts_with("track-sc"));
        if let Some((table, _)) = limit::counts_nothing(words, self.proxy, self.tables).filter(|_| tracks) {
            return self
                .report
                .wrong(at, format!("the stick-table of {table} has no `store`, so nothing is counted"));
        }
        let possible = said.0 != Verdict::NotPossible && said.0 != Verdict::WrongInSource;
        if nothing && (!possible || condition.is_none()) {
            if !possible && let Some(condition) = condition {
                // The ACLs that it asks are not without a use, but nothing asks them.
                let _terms = self.clauses.terms(Some(condition), at, &mut Report::default());
            }
            return said.about("", at, self.report);
        }
        let tcp = rule.stage == Stage::Connection;
        let mut terms = match self.clauses.terms(condition, at, self.report) {
            Ok(terms) => terms,
            Err(_) if nothing || effect == Effect::Allow && tcp && !self.refuses_behind(rule) => {
                return said.about("", at, self.report);
            }
            Err(of_condition) => return self.unsaid(rule, condition, effect, of_condition),
        };
        if nothing {
            return said.about("", at, self.report);
        }
        if self.clauses.partial && refuses(&effect) {
            let why = "a route looks at the path without the query: ask for paths (path_sub and the like) or for parameters (urlp)";
            return self.unsaid(rule, condition, effect, not_possible(why));
        }
        if rule.stage == Stage::Connection
            && let Some(said) = self.accepted(rule, &mut terms, &effect)
        {
            return said.about("", at, self.report);
        }
        if terms.iter().any(|term| asked(&term.all).is_some()) {
            return self.limits(rule, words, terms, &effect);
        }
        if rule.stage == Stage::Monitor {
            terms = self.monitor_terms(rule, terms);
        }
        match (effect, &self.monitor) {
            (Effect::Auth(realm), _) => self.auth(rule, terms, &realm, said),
            (Effect::Trust(field), _) => self.trust(at, &terms, field, said),
            (Effect::Answer(_), _) if terms.iter().any(|term| list_of(term).is_some()) => {
                let how = approximated("who has no password of the list gets 401, and is asked for one");
                self.auth(rule, terms, "restricted", how);
            }
            (_, Some(pool)) if rule.words.first().is_some_and(|word| word == "monitor-uri") => {
                let effect = Effect::Answer(Answer::Health(pool.clone()));
                self.place(Step { at, stage: rule.stage, terms, effect }, said);
            }
            _ if terms.is_empty() => said.about("", at, self.report),
            (effect, _) => self.place(Step { at, stage: rule.stage, terms, effect }, said),
        }
    }

    /// A rule whose condition cannot be said. What might be refused is, until somebody has said it; nothing else is done.
    fn unsaid(&mut self, rule: &Rule, condition: Option<(bool, &[String])>, effect: Effect, why: Said) {
        let effect = match effect {
            Effect::Auth(_) => status(401),
            other => other,
        };
        if let Some(effect) = shown::instead(&effect) {
            let terms = vec![Term::default()];
            self.out.steps.push(Step { at: rule.at, stage: rule.stage, terms, effect });
            return why.about("", rule.at, self.report);
        }
        let wide = refuses(&effect).then(|| self.clauses.at_least(condition, rule.at)).flatten();
        let Some(terms) = wide else { return why.about("", rule.at, self.report) };
        Said(why.0, format!("{}. {CLOSED}", why.1)).about("", rule.at, self.report);
        // A limit in it would be another rule.
        if !terms.iter().any(|term| asked(&term.all).is_some()) {
            self.place(Step { at: rule.at, stage: rule.stage, terms, effect }, translated());
        }
    }

    /// The sections that a rule belongs into, where this is none of them.
    fn other_side(&self, words: &[String]) -> Option<&'static str> {
        let word = |at: usize| words.get(at).map_or("", String::as_str);
        match (word(1), word(2)) {
            ("set-timeout", "server" | "tunnel") if !self.proxy.back => Some("sections with servers"),
            ("set-timeout", "client") if !self.proxy.front => Some("sections with clients"),
            _ => None,
        }
    }

    /// Notes whom a rule of `tcp-request` accepts, and spares them the others; says what is to be said where that is all.
    fn accepted(&mut self, rule: &Rule, terms: &mut [Term], effect: &Effect) -> Option<Said> {
        let list = rule.words.get(1)?;
        if *effect == Effect::Allow {
            let networks = match sources(terms) {
                _ if terms.contains(&Term::default()) => everybody(),
                Some(networks) => networks,
                None if self.proxy.http || !self.refuses_behind(rule) => return None,
                None => {
                    return Some(not_possible(
                        "a tcp listener is told by networks whom it takes: allow and deny of the listener",
                    ));
                }
            };
            self.accepted.entry(list.clone()).or_default().extend(networks);
            return Some(translated());
        }
        let accepted = self.accepted.get(list)?;
        if everybody().iter().all(|network| accepted.contains(network)) {
            return Some(ignored("a rule before it accepts everybody"));
        }
        if refuses(effect) && *terms == [Term::default()] {
            self.out.allow.extend(accepted.iter().map(|network| (*network, rule.at)));
            return Some(translated());
        }
        terms.iter_mut().for_each(|term| term.none.push(Test::Source(accepted.clone())));
        None
    }

    /// Whether a later rule of the same list of `tcp-request` turns clients away.
    fn refuses_behind(&self, rule: &Rule) -> bool {
        let behind = self.proxy.rules.iter().filter(|other| {
            other.at > rule.at
                && other.words.first() == rule.words.first()
                && other.words.get(1) == rule.words.get(1)
        });
        let turns =
            |word: Option<&String>| word.is_some_and(|word| word == "reject" || word == "silent-drop");
        behind.into_iter().any(|other| turns(other.words.get(2)))
    }

    /// A rule that is several, each with a condition more.
    fn several(
        &mut self,
        rule: &Rule,
        condition: Option<(bool, &[String])>,
        expanded: Result<map::Expanded, Said>,
    ) {
        let at = rule.at;
        let terms = self.clauses.terms(condition, at, self.report);
        let ((rules, said), terms) = match (expanded, terms) {
            (Ok(expanded), Ok(terms)) => (expanded, terms),
            (Err(said), _) | (_, Err(said)) => return said.about("", at, self.report),
        };
        let switch = rule.stage == Stage::Switch;
        let is_exhaustive = rules.last().is_some_and(|(_, term)| *term == Term::default());
        for (words, more) in rules {
            let (mut effect, own) = effect(rule, &words, self.clauses.around);
            if let Effect::Go(name) = &effect
                && !self.backends.contains(&name.as_str())
            {
                effect = Effect::Rest;
            }
            if !matches!(effect, Effect::Go(_) | Effect::Rest | Effect::Answer(_) | Effect::Edit(_)) {
                return own.about("", at, self.report);
            }
            let both = |term: &Term| Term {
                all: term.all.iter().chain(&more.all).cloned().collect(),
                none: term.none.clone(),
            };
            let stage = if rule.stage == Stage::Response { Stage::Redirect } else { rule.stage };
            self.out.steps.push(Step { at, stage, terms: terms.iter().map(both).collect(), effect });
        }
        // A name that is none of a backend ends the search for one: HAProxy asks no further rule.
        if switch && !is_exhaustive {
            self.out.steps.push(Step { at, stage: rule.stage, terms, effect: Effect::Rest });
        }
        said.about("", at, self.report);
    }

    /// `auth unless { http_auth(LIST) }`: the users of the list, where the rest of the condition holds.
    fn auth(&mut self, rule: &Rule, terms: Vec<Term>, realm: &str, said: Said) {
        for mut term in terms {
            let Some((list, group)) = list_of(&term) else {
                self.report.approximated(rule.at, "it asks no list of users, so that nobody gets past it");
                let effect = status(401);
                self.out.steps.push(Step { at: rule.at, stage: Stage::Request, terms: vec![term], effect });
                continue;
            };
            let lists = term.none.iter().filter(|test| matches!(test, Test::Auth(..))).count();
            if lists > 1 {
                let remedy = format!(
                    "a route asks for the users of one file, here those of {list}: put all of them into it"
                );
                self.report.not_possible(rule.at, remedy);
            }
            term.none.retain(|test| !matches!(test, Test::Auth(..)));
            let file = super::users::file(&list, group.as_deref());
            let value = Value::inline([("realm", Value::text(realm)), ("users_file", Value::text(file))]);
            let effect = key("basic_auth", value);
            self.out.steps.push(Step { at: rule.at, stage: Stage::Request, terms: vec![term], effect });
        }
        said.about("", rule.at, self.report);
    }

    /// Whom proxies before this one name, where they are told apart by their networks.
    fn trust(&mut self, at: Place, terms: &[Term], field: &'static str, said: Said) {
        let from_all = terms == [Term::default()];
        let all: Vec<IpNet> = match sources(terms) {
            _ if from_all => everybody(),
            Some(networks) => networks,
            None => {
                let how =
                    "who is believed is told by networks: trusted_proxies and client_address of the listener";
                return self.lose_client(at, how);
            }
        };
        if self.out.client_field.is_some_and(|(other, _)| field != PROXY_HEADER && other != field) {
            return self.lose_client(at, "one field names the client: client_address of the listener");
        }
        self.out.trusted.extend(all.into_iter().map(|network| (network, at)));
        match field {
            PROXY_HEADER => self.out.proxy_header = Some(at),
            field => self.out.client_field = Some((field, at)),
        }
        if from_all && field != PROXY_HEADER {
            self.report.wrong(
                at,
                "every client can say there who it is: name the networks of your proxies in trusted_proxies",
            );
        }
        said.about("", at, self.report);
    }

    /// Says why it is not known who clients are behind this rule.
    fn lose_client(&mut self, at: Place, why: &str) {
        if self.proxy.http {
            let (terms, effect) = (vec![Term::default()], shown::of_client());
            self.out.steps.push(Step { at, stage: Stage::Request, terms, effect });
        }
        self.report.not_possible(at, why);
    }

    /// A refusal of what comes too fast: a limit of the routes that the rest of the condition leaves.
    fn limits(&mut self, rule: &Rule, words: &[String], terms: Vec<Term>, effect: &Effect) {
        let at = rule.at;
        let action = words.iter().find_map(|word| match word.as_str() {
            "deny" | "reject" => Some("reject"),
            "tarpit" => Some("tarpit"),
            "silent-drop" => Some("drop"),
            _ => None,
        });
        let (Some(action), Effect::Answer(Answer::Respond(Reply { status, .. }))) = (action, effect) else {
            return self
                .report
                .not_possible(at, "requests that come too fast are refused: deny, tarpit or silent-drop");
        };
        let status = if (400..=599).contains(status) { *status } else { 429 };
        for mut term in terms {
            let Some(asked) = asked(&term.all).cloned() else {
                self.out.steps.push(Step {
                    at,
                    stage: rule.stage,
                    terms: vec![term],
                    effect: effect.clone(),
                });
                continue;
            };
            term.all.retain(|test| !matches!(test, Test::Faster(_)));
            if !self.proxy.http && (asked.what != Counter::Open || term != Term::default()) {
                self.report.not_possible(
                    at,
                    "a tcp listener has a ceiling on connections of one source: max_connections_per_source",
                );
                continue;
            }
            let part = term != Term::default();
            match limit::limit(&asked, self.proxy, self.tables, (action, status)) {
                Ok(limit) => {
                    for line in limit::lines(&asked, self.proxy, self.tables) {
                        self.report.note(
                            line,
                            Verdict::Translated,
                            format!("it is the {} of line {}", limit.key(), at.line),
                        );
                    }
                    if rule.stage == Stage::Connection
                        && asked.what == Counter::Open
                        && (term == Term::default() && limit.key == "source")
                    {
                        self.out.per_source = Some((limit.requests, at));
                        self.report.translated(at);
                        continue;
                    }
                    let change = Change::Limit(limit);
                    let effect = Effect::Edit(Edit { request: true, own_too: false, change });
                    // A client of a frontend is counted before rules of other stages are asked.
                    let stage = if rule.stage == Stage::Connection { Stage::Request } else { rule.stage };
                    self.out.steps.push(Step { at, stage, terms: vec![term], effect });
                    self.report.approximated(at, asked.what.difference());
                    if part {
                        let how = "only what the rest of the condition leaves is counted; HAProxy counts all that it tracks";
                        self.report.approximated(at, how);
                    }
                }
                Err(why) => why.about("", at, self.report),
            }
        }
    }

    /// The page of `monitor-uri`; and `monitor fail`, which a pool's health may stand for.
    fn monitor_terms(&mut self, rule: &Rule, terms: Vec<Term>) -> Vec<Term> {
        let own = |rule: &&Rule| rule.words.first().is_some_and(|word| word == "monitor-uri");
        let Some(uri) = self.proxy.rules.iter().find(own).and_then(|rule| rule.words.get(1)) else {
            self.report.ignored(rule.at, "there is no monitor-uri");
            return Vec::new();
        };
        if let [Term { all, none }] = terms.as_slice()
            && let ([Test::Short(pool, fewer)], []) = (all.as_slice(), none.as_slice())
        {
            if *fewer > 1 {
                self.report.approximated(rule.at, "it fails when no endpoint is usable, not sooner");
            }
            self.monitor = Some(pool.clone());
            return Vec::new();
        }
        let path = Test::Path(PathTest::Exact(uri.clone()));
        let with = |mut term: Term| {
            term.all.insert(0, path.clone());
            term
        };
        terms.into_iter().map(with).collect()
    }

    /// Puts a step where it belongs.
    fn place(&mut self, mut step: Step, said: Said) {
        let at = step.at;
        if let (Stage::Response, Effect::Edit(edit)) = (step.stage, &mut step.effect) {
            of_answer(edit);
        }
        let said = match (&step.stage, &step.effect) {
            (Stage::Response, Effect::Edit(edit)) => {
                if step.terms == [Term::default()] {
                    self.out.answers.push((edit.clone(), at));
                } else {
                    // What it asks is known of the request, so its route knows it.
                    self.out.steps.push(Step { stage: Stage::Redirect, ..step });
                }
                said
            }
            (Stage::Connection, Effect::Answer(_)) if self.close(&step) => said,
            (Stage::Connection, Effect::Answer(_)) if !self.proxy.http => {
                self.out.deny.extend(everybody().into_iter().map(|network| (network, at)));
                if step.terms == [Term::default()] {
                    said
                } else {
                    let how =
                        "a connection is refused by its client's network: allow and deny of the listener";
                    not_possible(format!("{how}. {CLOSED}"))
                }
            }
            (Stage::Connection, Effect::Answer(_)) => {
                self.out.steps.push(step);
                if said.0 == Verdict::Translated {
                    approximated("it is answered with 403; HAProxy closes the connection")
                } else {
                    said
                }
            }
            (Stage::Switch, Effect::Go(backend)) => match only_short(&step.terms) {
                Some((pool, fewer)) => {
                    self.out.failovers.push((pool.to_owned(), backend.clone(), at));
                    if fewer > 1 {
                        approximated("failover waits until no endpoint is usable; `spill` takes over sooner")
                    } else {
                        said
                    }
                }
                None => {
                    self.trap(&step, backend);
                    self.out.steps.push(step);
                    said
                }
            },
            _ => {
                self.out.steps.push(step);
                said
            }
        };
        said.about("", at, self.report);
    }

    /// `reject if { src .. }` and `reject unless { src .. }`; says whether it was one.
    fn close(&mut self, step: &Step) -> bool {
        let mut denied = Vec::new();
        for term in &step.terms {
            match (term.all.as_slice(), term.none.as_slice()) {
                ([Test::Source(list)], []) => denied.extend(list.iter().map(|network| (*network, step.at))),
                ([], [Test::Source(list)]) if step.terms.len() == 1 && self.out.allow.is_empty() => {
                    self.out.allow = list.iter().map(|network| (*network, step.at)).collect();
                    return true;
                }
                _ => return false,
            }
        }
        self.out.deny.extend(denied);
        true
    }

    /// A whole network that is taken for a prober.
    fn trap(&mut self, step: &Step, backend: &str) {
        let words = ["health", "check", "probe", "monitor"];
        let named = |text: &str| words.iter().any(|word| text.to_ascii_lowercase().contains(word));
        let line = self.report.source(step.at).to_owned();
        for term in &step.terms {
            if let ([Test::Source(networks)], []) = (term.all.as_slice(), term.none.as_slice())
                && named(&line)
                && networks.iter().any(|network| network.prefix_len() < network.max_prefix_len())
            {
                let all: Vec<String> = networks.iter().map(ToString::to_string).collect();
                let what = format!(
                    "every client of {} goes to {backend}, not only what asks for health: add the path that probes ask for",
                    all.join(", ")
                );
                self.report.wrong(step.at, what);
            }
        }
    }
}

/// Every client.
fn everybody() -> Vec<IpNet> {
    ["0.0.0.0/0", "::/0"].iter().filter_map(|text| text.parse().ok()).collect()
}
