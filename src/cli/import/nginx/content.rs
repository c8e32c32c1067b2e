//! What a location does with its requests, once it is known which ones they are.

use std::rc::Rc;

use super::ask::{Ask, Narrowed, narrow};
use super::catalogue::{self, EXCEPT, IF};
use super::draft::{Action, Draft, Rewrite};
use super::scope::{Level, Scope};
use super::tree::Directive;
use super::variable::is_plain;
use super::walk::{Walker, Way};

/// Directives that answer in the place of files.
const HANDLERS: [&str; 11] = [
    "proxy_pass",
    "grpc_pass",
    "stub_status",
    "api",
    "status",
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "memcached_pass",
    "empty_gif",
    "try_files",
];

/// Directives whose values may differ by the request.
const TEXTS: [&str; 8] = [
    "proxy_pass",
    "grpc_pass",
    "proxy_set_header",
    "grpc_set_header",
    "add_header",
    "proxy_ssl_name",
    "auth_basic",
    "limit_rate",
];

impl<'t> Walker<'_, 't, '_> {
    /// The directive that answers, of a location or of an `if` in it.
    fn handler(scope: &Scope<'t>) -> Option<&'t Directive> {
        for level in scope.inner() {
            if let Some(found) = HANDLERS.iter().find_map(|name| level.first(name)) {
                return Some(found);
            }
            if level.kind & (IF | EXCEPT) == 0 {
                return None;
            }
        }
        None
    }

    /// Ends a way in its location.
    pub(super) fn content(&mut self, way: Way<'t>) {
        let Some(location) = self.location(&way) else { return };
        if let Some(except) = location.level.first("limit_except").filter(|_| !Self::excepted(&way)) {
            return self.except(except, way);
        }
        let texts: Vec<&'t Directive> = TEXTS.iter().flat_map(|name| way.scope.all(name)).collect();
        for of in texts {
            let own = ["proxy_pass", "grpc_pass"].contains(&of.name.as_str());
            if own && Self::handler(&way.scope).is_none_or(|handler| handler.id != of.id) {
                continue;
            }
            if super::header::is_own(of) {
                continue;
            }
            let words = of.words.iter().map(String::as_str);
            if let Some(variable) = words.into_iter().find_map(|text| self.open(text, &way, false)) {
                return self.fork(&variable, way, of, &mut Self::content);
            }
            if own
                && of.word(0).trim_start_matches("${").trim_start_matches('$').starts_with("scheme")
                && !way.bound.contains_key("scheme")
            {
                return self.by_scheme(way);
            }
        }
        if let Some((variable, of)) = self.limit_variable(&way) {
            return self.fork(&variable, way, of, &mut Self::content);
        }
        if self.either(&way) {
            return self.satisfied(way);
        }
        self.conclude(way);
    }

    fn excepted(way: &Way<'t>) -> bool {
        way.bound.contains_key("\u{0}except")
            || way.scope.inner().next().is_some_and(|level| level.kind & EXCEPT != 0)
    }

    /// `limit_except`: other methods have rules of their own.
    fn except(&mut self, of: &'t Directive, way: Way<'t>) {
        self.notes.ok(of);
        let mut methods: Vec<String> = of.words.clone();
        if methods.iter().any(|method| method == "GET") && !methods.iter().any(|method| method == "HEAD") {
            methods.push("HEAD".to_owned());
        }
        match narrow(&way.region, &Ask::Methods(methods), &self.ground.doors) {
            Narrowed::To(region) => {
                let all = region == way.region;
                self.content(way.to(region).know("\u{0}except", String::new()));
                if all {
                    return;
                }
            }
            Narrowed::Empty => {}
            Narrowed::Impossible(why) => return self.notes.cannot(of, why),
        }
        let scope = way.scope.with(Rc::new(Level::new(EXCEPT, of.inside())));
        self.content(Way { scope, ..way });
    }

    fn by_scheme(&mut self, way: Way<'t>) {
        if let Narrowed::To(region) = narrow(&way.region, &Ask::Tls(true), &self.ground.doors) {
            let all = region == way.region;
            self.content(way.to(region).know("scheme", "https".to_owned()));
            if all {
                return;
            }
        }
        self.content(way.know("scheme", "http".to_owned()));
    }

    /// Clients that come from certain networks need no password.
    fn satisfied(&mut self, way: Way<'t>) {
        let Some(of) = way.scope.find("satisfy") else { return };
        let rules = self.access(&way.scope);
        self.notes.ok(of);
        if rules.open.is_empty() || !rules.closed || !rules.deny.is_empty() {
            if rules.closed {
                // Nobody is let in for an address: all need the password.
                return self.conclude(way.know("\u{0}satisfied", "auth".to_owned()));
            }
            self.notes.cannot(
                of,
                "which networks need no password is said by `allow` lines and `deny all`: here all need one",
            );
            return self.conclude(way.know("\u{0}satisfied", "auth".to_owned()));
        }
        if let Narrowed::To(region) = narrow(&way.region, &Ask::Source(rules.open), &self.ground.doors) {
            self.conclude(way.to(region).know("\u{0}satisfied", "address".to_owned()));
        }
        self.conclude(way.know("\u{0}satisfied", "auth".to_owned()));
    }

    /// Writes the route of a way.
    fn conclude(&mut self, way: Way<'t>) {
        let at = self.location(&way).map_or(self.site.of.at, |location| location.of.at);
        match Self::handler(&way.scope) {
            Some(of) if of.name == "proxy_pass" || of.name == "grpc_pass" => self.proxied(of, &way),
            Some(of) if of.name == "try_files" => self.tried(of, way),
            Some(of) if ["stub_status", "api", "status"].contains(&of.name.as_str()) => {
                self.notes.near(
                    of,
                    "the admin API has it (/metrics, /v1/status), on an address of its own; here it is 404",
                );
                self.not_found(of, &way, "the admin API has what was here");
            }
            Some(of) => {
                let remedy = match catalogue::find(&of.name) {
                    Some((_, catalogue::Fate::Cannot(remedy))) => remedy,
                    _ => catalogue::NO_FILES,
                };
                self.notes.cannot(of, remedy);
                self.not_found(
                    of,
                    &way,
                    "nginx answers in another way than by HTTP endpoints: see the report",
                );
            }
            None => {
                let files =
                    ["alias", "root", "autoindex", "index"].iter().find_map(|name| way.scope.find(name));
                match (files, self.location(&way)) {
                    (Some(files), _) => self.notes.cannot(files, catalogue::NO_FILES),
                    (None, Some(location)) if self.refuses_all(&way) => self.notes.ok(location.of),
                    (None, Some(location)) => self.notes.cannot(location.of, catalogue::NO_FILES),
                    (None, None) => {}
                }
                if self.refuses_all(&way) {
                    let action = Action::Respond { status: 403, body: String::new(), kind: None };
                    let mut draft = Draft::new(at, way.region.clone(), action);
                    self.answer_fields(&way, &mut draft, true);
                    self.pages(&way, &mut draft, false);
                    return self.out.push(draft);
                }
                let of = self.location(&way).map_or(self.site.of, |location| location.of);
                self.not_found(of, &way, "files are not served here");
            }
        }
    }

    fn not_found(&mut self, of: &'t Directive, way: &Way<'t>, why: &str) {
        let action = Action::Respond { status: 404, body: String::new(), kind: None };
        let mut draft = Draft::new(of.at, way.region.clone(), action);
        draft.why = Some(why.to_owned());
        self.guards(way, &mut draft);
        self.out.push(draft);
    }

    /// `try_files`: what is left when there is no file.
    fn tried(&mut self, of: &'t Directive, way: Way<'t>) {
        let last = of.words.last().map_or("", String::as_str);
        let found = if last.starts_with('@') { self.site.locations.named(last) } else { None };
        let hops = way.hops + 1;
        if let Some(at) = found {
            self.notes.cannot(of, format!("files are not looked for, so that all requests go to {last}: a web server that has them can be another pool"));
            return self.enter(at, Way { hops, ..way });
        }
        if last.starts_with('@') {
            self.notes.wrong(of, "there is no such location");
        } else if last.starts_with('/') && hops < 10 {
            let path = last.split('?').next().unwrap_or(last);
            let to = self.site.locations.find(path).filter(|at| Some(*at) != way.at && is_plain(path));
            let asks = |at: &usize| {
                let location = self.site.locations.all.get(*at);
                location.is_some_and(|location| location.level.first("proxy_pass").is_some())
            };
            if let Some(at) = to.filter(asks) {
                self.notes.cannot(of, format!("files are not looked for, so that all requests go to {path}: a web server that has them can be another pool"));
                let target = Rewrite { path: Some(path.to_owned()), at: Some(of.at), ..Rewrite::default() };
                return self
                    .enter(at, Way { hops, target: Some(target), samples: vec![path.to_owned()], ..way });
            }
        }
        self.notes.cannot(of, catalogue::NO_FILES);
        self.not_found(of, &way, "files are not served here");
    }
}
