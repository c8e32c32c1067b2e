//! What a location does with its requests, once it is known which ones they are.

use std::net::IpAddr;
use std::rc::Rc;

use super::super::document::Value;
use super::super::pattern::escape;
use super::super::region::PathTest;
use super::ask::{Ask, Narrowed, narrow};
use super::catalogue::{self, EXCEPT, IF, LOCATION};
use super::draft::{Action, Draft, Rewrite};
use super::location::Kind;
use super::pools::Origin;
use super::rewrite::tidy;
use super::scope::{Level, Scope};
use super::tree::Directive;
use super::units::{duration, time};
use super::upstream::{Upstream, address, body_size};
use super::variable::{Where, is_plain, pieces, put_in, render};
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

/// Where an endpoint is found, as `proxy_pass` says it.
struct Destination {
    origin: Origin,
    /// With TLS.
    tls: bool,
    /// `$proxy_host`.
    host: String,
    /// What stands behind the address.
    uri: Option<String>,
}

impl<'t> Walker<'_, 't, '_, '_> {
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

    /// `proxy_pass` and `grpc_pass`.
    fn proxied(&mut self, of: &'t Directive, way: &Way<'t>) {
        let grpc = of.name == "grpc_pass";
        let destination = match self.destination(of, way) {
            Ok(destination) => destination,
            Err(why) => {
                self.notes.cannot(of, why);
                return self.close(of.at, way, "where it goes cannot be said: see the report");
            }
        };
        let upstream = match &destination.origin {
            Origin::Upstream(name) => self.ground.upstreams.get(name),
            Origin::Address(_) => None,
        };
        if upstream.is_some_and(|upstream| upstream.peers.is_empty()) {
            return self.close(of.at, way, "the upstream has no servers");
        }
        if let Origin::Address(address) = &destination.origin
            && !is_plain(of.word(0))
            && !is_address(address)
            && way.scope.find("resolver").is_none()
        {
            self.notes.wrong(of, "there is no resolver, so nginx never finds a name that a variable is a part of, and answers 502; here it is looked up");
        }
        let settings = self.connection(&way.scope, &destination, grpc);
        let pool = self.pools.of(destination.origin.clone(), settings, true, of);
        let mut draft = Draft::new(of.at, way.region.clone(), Action::Pool(pool));
        self.target(of, &destination, way, &mut draft);
        self.notes.ok(of);
        self.kept(&way.scope, upstream);
        self.request_fields(of, way, &destination.host, grpc, &mut draft);
        self.answer_fields(way, &mut draft, false);
        self.hidden_fields(&way.scope, grpc, &mut draft);
        self.times(&way.scope, grpc, &mut draft);
        self.retries(&way.scope, grpc, upstream, pool, &mut draft);
        self.guards(way, &mut draft);
        self.limits(way, &mut draft);
        self.pages(way, &mut draft, true);
        self.treatment(&way.scope, &mut draft);
        if let Some(check) = way.scope.inner().next().and_then(|level| level.first("health_check")) {
            let path = self
                .location(way)
                .filter(|location| location.kind.has_prefix())
                .map_or("/", |location| location.path.as_str());
            self.notes.ok(check);
            self.pools.check(pool, check, way.scope.clone(), path);
        }
        self.host_of_part(&mut draft);
        draft.settle();
        self.out.push(draft);
    }

    /// Idle connections are kept by HTTP/1.1 alone.
    fn kept(&mut self, scope: &Scope<'t>, upstream: Option<&Upstream<'t>>) {
        let Some(of) = upstream.and_then(|upstream| upstream.level.first("keepalive")) else { return };
        let version = scope.find("proxy_http_version").map_or("1.0", |of| of.word(0));
        if version == "1.0" && scope.find("grpc_pass").is_none() {
            self.notes.wrong(of, "a location that leads here has no proxy_http_version 1.1, with which nginx before 1.29.7 keeps no connection; here they are kept");
        }
    }

    /// Where a path is rewritten only for some, the others would not get the Host that is set.
    fn host_of_part(&mut self, draft: &mut Draft) {
        let Some(Rewrite { regex: Some(regex), .. }) = &draft.rewrite else { return };
        let sets = draft.request.set.iter().any(|(name, _)| name == "host");
        if !sets || super::rewrite::implied(draft.region.path.as_ref(), regex) {
            return;
        }
        if let Narrowed::To(region) =
            narrow(&draft.region, &Ask::Path(PathTest::Regex(regex.clone())), &self.ground.doors)
        {
            let mut first = draft.clone();
            first.region = region;
            self.out.push(first);
            draft.rewrite = None;
        }
    }

    fn destination(&self, of: &'t Directive, way: &Way<'t>) -> Result<Destination, String> {
        let text = put_in(of.word(0), &way.bound);
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if of.name == "grpc_pass" => ("grpc", text.as_str()),
            None => return Err("it begins with http:// or https://: nginx rejects it".to_owned()),
        };
        let tls = match scheme {
            "http" | "grpc" => false,
            "https" | "grpcs" => true,
            _ => return Err("the scheme is http, https, grpc or grpcs".to_owned()),
        };
        if let Some(path) = rest.strip_prefix("unix:") {
            let (path, uri) = path.split_once(':').map_or((path, None), |(path, uri)| (path, Some(uri)));
            let address = address(&format!("unix:{path}"), None)?;
            let uri = uri.filter(|uri| !uri.is_empty()).map(str::to_owned);
            return Ok(Destination {
                origin: Origin::Address(address),
                tls,
                host: "localhost".to_owned(),
                uri,
            });
        }
        let end = rest
            .find(['/', '?'])
            .or_else(|| rest.find("${request_uri}"))
            .or_else(|| rest.find("${uri}"))
            .unwrap_or(rest.len());
        let (host, uri) = rest.split_at(end);
        if let Some(super::variable::Piece::Variable(name)) =
            pieces(host).into_iter().find(|piece| matches!(piece, super::variable::Piece::Variable(_)))
        {
            let why = way.unknown.get(&name).map_or_else(String::new, |why| format!(" ({why})"));
            return Err(format!(
                "a request goes to a pool that is known before: ${name} is not{why}. Write a route for each value that it may have"
            ));
        }
        let uri = Some(uri.to_owned()).filter(|uri| !uri.is_empty());
        if self.ground.upstreams.contains_key(host) {
            return Ok(Destination {
                origin: Origin::Upstream(host.to_owned()),
                tls,
                host: host.to_owned(),
                uri,
            });
        }
        let port = if tls { 443 } else { 80 };
        let full = address(host, Some(port))?;
        Ok(Destination { origin: Origin::Address(full), tls, host: host.to_owned(), uri })
    }

    /// The path that endpoints are asked for.
    fn target(&mut self, of: &'t Directive, to: &Destination, way: &Way<'t>, draft: &mut Draft) {
        let variables = !is_plain(of.word(0));
        let Some(uri) = &to.uri else {
            draft.rewrite.clone_from(&way.target);
            return;
        };
        let location = self.location(way);
        if variables {
            return self.whole(of, uri, way, draft);
        }
        if let Some(target) = &way.target {
            // A path that a rewrite has made goes on as it is.
            draft.rewrite = Some(target.clone());
            return;
        }
        let in_if = way.scope.inner().next().is_some_and(|level| level.kind & LOCATION == 0);
        let Some(location) = location.filter(|location| location.kind.has_prefix() && !in_if) else {
            self.notes.wrong(of, "it cannot have a path in a location of a regular expression or a name, or in an if: nginx rejects it");
            return;
        };
        let (path, args) =
            uri.split_once('?').map_or((uri.as_str(), None), |(path, args)| (path, Some(args)));
        if args.is_some() {
            self.notes.cannot(of, "a query in proxy_pass goes between path and rest: write rewrite.path and rewrite.query of the route");
        }
        let replaced = Rewrite { at: Some(of.at), ..Rewrite::default() };
        let path = render(path, Where::Path, &super::variable::Facts::default()).unwrap_or_default();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let slashed = location.path.ends_with('/');
        if !slashed && path.ends_with('/') && location.kind != Kind::Exact {
            let start = &location.path;
            self.notes.wrong(of, format!("{start}/x becomes {path}/x, and {start}x comes in too, as {path}x: a slash is missing at the end of {start}"));
        }
        let rest = |exact: &str| exact.strip_prefix(location.path.as_str()).map(str::to_owned);
        draft.rewrite = match (&draft.region.path, location.kind) {
            (_, Kind::Exact) => Some(Rewrite { path: Some(path), ..replaced }),
            (None, _) if location.path == "/" && path == "/" => None,
            (None, _) if location.path == "/" && path.ends_with('/') => {
                Some(Rewrite { path: Some(format!("{}{{path}}", path.trim_end_matches('/'))), ..replaced })
            }
            (Some(PathTest::Exact(exact)), _) if rest(exact).is_some() => {
                let rest =
                    render(&rest(exact).unwrap_or_default(), Where::Path, &super::variable::Facts::default());
                Some(Rewrite { path: Some(format!("{path}{}", rest.unwrap_or_default())), ..replaced })
            }
            (Some(PathTest::Prefix(prefix)), _)
                if slashed && path.ends_with('/') && *prefix == location.path.trim_end_matches('/') =>
            {
                let path = if path == "/" { path } else { path.trim_end_matches('/').to_owned() };
                Some(Rewrite { prefix: Some(path), ..replaced })
            }
            _ => Some(Rewrite {
                regex: Some(format!("^{}(.*)$", escape(&location.path))),
                path: Some(format!("{path}{{1}}")),
                ..replaced
            }),
        };
    }

    /// With a variable in it a path is the whole one.
    fn whole(&mut self, of: &'t Directive, uri: &str, way: &Way<'t>, draft: &mut Draft) {
        let uri = tidy(uri);
        if uri == "${request_uri}" {
            return;
        }
        let (path, args) =
            uri.split_once('?').map_or((uri.as_str(), None), |(path, args)| (path, Some(args)));
        let facts = self.facts(way);
        let query = match args {
            Some("${args}" | "${query_string}") => Ok(None),
            Some(args) => render(args, Where::Query, &facts).map(Some),
            None => Ok(Some(String::new())),
        };
        let own = ["${uri}", "${document_uri}"].contains(&path);
        let path = if own { Ok(None) } else { render(path, Where::Path, &facts).map(Some) };
        match (path, query) {
            (Ok(path), Ok(query)) => {
                draft.rewrite = Some(Rewrite { path, query, at: Some(of.at), ..Rewrite::default() });
            }
            (Err(why), _) | (_, Err(why)) => {
                self.notes.cannot(of, format!("{why}: write rewrite of the route"));
                draft.action = Action::Respond { status: 503, body: String::new(), kind: None };
                draft.why =
                    Some("which path endpoints are asked for cannot be said: see the report".to_owned());
            }
        }
    }

    /// `proxy_*_timeout`: connecting, to the head, and while bytes move.
    fn times(&mut self, scope: &Scope<'t>, grpc: bool, draft: &mut Draft) {
        let start = if grpc { "grpc" } else { "proxy" };
        let mut read = |name: &str| {
            let of = scope.find(&format!("{start}_{name}_timeout"));
            match of.map(|of| (of, time(of.word(0)))) {
                Some((of, Some(time))) => {
                    self.notes.ok(of);
                    (time, Some(of.at))
                }
                Some((of, None)) => {
                    self.notes.wrong(of, "it has a time: nginx rejects it");
                    (std::time::Duration::from_secs(60), None)
                }
                None => (std::time::Duration::from_secs(60), None),
            }
        };
        let (connect, answer, send) = (read("connect"), read("read"), read("send"));
        let longest = if send.0 > answer.0 { send } else { answer };
        let of = |name: &str, (time, at): (std::time::Duration, Option<super::super::report::Place>)| {
            (format!("timeouts.{name}"), duration(time), at)
        };
        draft.shared.extend([
            of("connect", connect),
            of("response_header", answer),
            of("idle", longest),
            of("tunnel", longest),
        ]);
    }

    /// `proxy_next_upstream` with its bounds.
    fn retries(
        &mut self,
        scope: &Scope<'t>,
        grpc: bool,
        upstream: Option<&Upstream<'t>>,
        pool: usize,
        draft: &mut Draft,
    ) {
        let start = if grpc { "grpc_next_upstream" } else { "proxy_next_upstream" };
        let of = scope.find(start);
        let words: Vec<&str> = match of {
            Some(of) => of.words.iter().map(String::as_str).collect(),
            None => vec!["error", "timeout"],
        };
        let (mut on, mut statuses) = (Vec::new(), Vec::new());
        let (mut any, mut off) = (false, false);
        for word in words {
            match word {
                "error" => on.extend(["connect", "reset"].map(str::to_owned)),
                "timeout" => on.push("timeout".to_owned()),
                "invalid_header" | "updating" | "denied" => {}
                "non_idempotent" => any = true,
                "off" => off = true,
                "http_500" | "http_502" | "http_503" | "http_504" | "http_403" | "http_404" | "http_429" => {
                    statuses.push(word.trim_start_matches("http_").to_owned());
                }
                _ => {
                    if let Some(of) = of {
                        self.notes.wrong(of, format!("{word}: nginx knows no such case and rejects it"));
                    }
                }
            }
        }
        if let Some(of) = of {
            if !off && on.is_empty() {
                self.notes.wrong(of, "what is written takes the place of the default: error and timeout are missing, so a server that is gone is not passed over");
            }
            let count: Vec<&String> =
                statuses.iter().filter(|status| ["403", "404"].contains(&status.as_str())).collect();
            if !count.is_empty() {
                self.notes.how(of, "403 and 404 are no failures of an endpoint, here as in nginx");
            }
            self.notes.ok(of);
        }
        self.pools.count(pool, &statuses);
        on.extend(statuses);
        let known = upstream.map_or(1, |upstream| upstream.peers.len());
        let named =
            upstream.is_some_and(|upstream| upstream.peers.iter().any(|peer| !is_address(&peer.address)));
        let mut most = if named { known.max(3) } else { known };
        if let Some(tries) = scope.find(&format!("{start}_tries")) {
            match tries.word(0).parse::<usize>() {
                Ok(0) => self.notes.ok(tries),
                Ok(number) => {
                    most = most.min(number);
                    self.notes.ok(tries);
                }
                Err(_) => self.notes.wrong(tries, "it has a number: nginx rejects it"),
            }
        }
        let within = scope.find(&format!("{start}_timeout"));
        let time = within.and_then(|of| time(of.word(0))).filter(|time| !time.is_zero());
        if let Some(within) = within {
            self.notes.ok(within);
        }
        let at = of.map(|of| of.at);
        if off || on.is_empty() || most < 2 {
            let off = if off || on.is_empty() {
                Value::text("off")
            } else {
                Value::inline([("attempts", Value::Integer(1))])
            };
            draft.shared.push(("retry".to_owned(), off, at));
            return;
        }
        let mut pairs = vec![
            ("attempts", Value::Integer(i64::try_from(most).unwrap_or(100).min(100))),
            ("on", Value::texts(on)),
            ("within", duration(time.unwrap_or(std::time::Duration::from_secs(3600)))),
        ];
        if any {
            pairs.push(("non_idempotent", Value::Bool(true)));
        }
        draft.shared.push(("retry".to_owned(), Value::inline(pairs), at));
    }

    /// TLS to endpoints, the address that connections come from, and what is spoken.
    fn connection(&mut self, scope: &Scope<'t>, to: &Destination, grpc: bool) -> Vec<super::draft::Key> {
        let start = if grpc { "grpc" } else { "proxy" };
        let mut out = Vec::new();
        if grpc {
            out.push(("protocol".to_owned(), Value::text("http2"), None));
        }
        if let Some(of) = scope.find(&format!("{start}_bind")).filter(|of| of.word(0) != "off") {
            out.extend(super::tls::source(of, self.notes));
        }
        if to.tls {
            out.extend(super::tls::to_endpoints(scope, start, &to.host, self.notes));
        }
        out
    }

    /// The body's size, buffers, compression and mirror.
    fn treatment(&mut self, scope: &Scope<'t>, draft: &mut Draft) {
        let size = scope.find("client_max_body_size");
        let value = match size.map(|of| (of, body_size(of.word(0)))) {
            Some((of, Some(value))) => {
                self.notes.ok(of);
                value.map(|value| (value, Some(of.at)))
            }
            Some((of, None)) => {
                self.notes.wrong(of, "it has a size: nginx rejects it");
                Some((Value::text("1MiB"), None))
            }
            None => Some((Value::text("1MiB"), None)),
        };
        if let Some((value, at)) = value {
            draft.keys.push(("max_body".to_owned(), value, at));
        }
        if let Some(of) = scope.find("proxy_pass_request_body") {
            if of.word(0) == "off" {
                self.notes.cannot(of, "a request goes on with its body");
            } else {
                self.notes.ok(of);
            }
        }
        if let Some(of) = scope.find("proxy_request_buffering") {
            if of.word(0) == "on" {
                self.notes.near(
                    of,
                    "up to 1 MiB is taken in before an endpoint is asked, the rest of a larger body streams",
                );
                draft.keys.push(("buffer_request".to_owned(), Value::text("1MiB"), Some(of.at)));
            } else {
                self.notes.ok(of);
            }
        }
        if let Some(of) = scope.find("proxy_buffering") {
            if of.word(0) == "on" {
                self.notes.near(
                    of,
                    "up to 1 MiB of an answer is taken ahead of the client; nginx writes more to files",
                );
                draft.keys.push(("buffer_response".to_owned(), Value::text("1MiB"), Some(of.at)));
            } else {
                self.notes.ok(of);
            }
        }
        if let Some(of) = scope.find("proxy_redirect") {
            match of.word(0) {
                "off" => self.notes.ok(of),
                "default" => self.notes.near(of, "Location of an endpoint goes on as it is: endpoints should say the path or the name that clients know"),
                _ => self.notes.cannot(of, "Location of an endpoint goes on as it is: let the endpoint say https and the name that clients know (X-Forwarded-Proto and -Host tell it)"),
            }
        }
        super::compress::write(scope, draft, self.notes);
        self.mirrored(scope, draft);
    }

    fn mirrored(&mut self, scope: &Scope<'t>, draft: &mut Draft) {
        let all = scope.all("mirror");
        let Some(of) = all.first().filter(|of| of.word(0) != "off") else { return };
        for more in all.iter().skip(1) {
            self.notes.cannot(more, "a route has one mirror");
        }
        if let Some(body) = scope.find("mirror_request_body") {
            self.notes.ok(body);
        }
        match self.asked(of.word(0)) {
            Ok((pool, path)) => {
                let name = self.pools.name(pool);
                draft.keys.push((
                    "mirror".to_owned(),
                    Value::inline([("pool", Value::text(name))]),
                    Some(of.at),
                ));
                if path.is_some_and(|path| path != "{uri}") {
                    self.notes.near(of, "the copy is of the request as it goes to the endpoint, path and fields alike; one with a body above 64 KiB is left out");
                } else {
                    self.notes.near(of, "a copy with a body above 64 KiB is left out (mirror.max_body)");
                }
            }
            Err(why) => self.notes.cannot(of, why),
        }
    }

    /// The pool and the path that a location asks, which other locations use for questions.
    pub(super) fn asked(&mut self, path: &str) -> Result<(usize, Option<String>), String> {
        let way_to = self.site.locations.find(path).and_then(|at| self.site.locations.all.get(at));
        let Some(location) = way_to else { return Err("no location takes that path".to_owned()) };
        let Some(of) = location.level.first("proxy_pass") else {
            return Err("the location of that path does not ask an endpoint".to_owned());
        };
        let scope = location.scope.clone();
        let text = of.word(0).replace("$request_uri", "").replace("${request_uri}", "");
        let own = Directive { words: vec![text], block: None, ..of.clone() };
        if !is_plain(own.word(0)) {
            return Err("which endpoint it asks depends on the request".to_owned());
        }
        let (scheme, rest) = own.word(0).split_once("://").unwrap_or(("http", own.word(0)));
        let end = rest.find('/').unwrap_or(rest.len());
        let (host, uri) = rest.split_at(end);
        let tls = scheme == "https";
        let origin = if self.ground.upstreams.contains_key(host) {
            Origin::Upstream(host.to_owned())
        } else {
            Origin::Address(address(host, Some(if tls { 443 } else { 80 }))?)
        };
        let destination = Destination { origin: origin.clone(), tls, host: host.to_owned(), uri: None };
        let settings = self.connection(&scope, &destination, false);
        self.notes.ok(of);
        self.notes.ok(location.of);
        if let Some(internal) = location.level.first("internal") {
            self.notes.ok(internal);
        }
        for name in ["proxy_pass_request_body", "proxy_set_header"] {
            for one in location.level.all(name) {
                let framed = one.word(0).eq_ignore_ascii_case("content-length")
                    || one.word(0).eq_ignore_ascii_case("host");
                if name == "proxy_pass_request_body" || framed {
                    self.notes.ok(one);
                } else if !self.notes.is_told(one) {
                    self.notes.near(one, "the question has X-Forwarded-Method, -Uri, -Host, -Proto and -For, and the fields of the request");
                }
            }
        }
        let pool = self.pools.of(origin, settings, true, of);
        Ok((pool, Some(uri.to_owned()).filter(|uri| !uri.is_empty())))
    }
}

/// Whether it is an IP address or a socket, and no name.
fn is_address(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    address.starts_with("unix:")
        || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}
