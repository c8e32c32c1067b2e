//! `proxy_pass` and `grpc_pass`: the pool that a location sends requests to, and the path that endpoints are asked for.

use std::net::IpAddr;

use super::super::document::Value;
use super::super::pattern::escape;
use super::super::region::PathTest;
use super::ask::{Ask, Narrowed, narrow};
use super::catalogue::LOCATION;
use super::draft::{Action, Draft, Key, Rewrite};
use super::location::Kind;
use super::pools::Origin;
use super::rewrite::tidy;
use super::scope::Scope;
use super::tree::Directive;
use super::upstream::{Upstream, address};
use super::variable::{Where, is_plain, pieces, put_in, render};
use super::walk::{Walker, Way};

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

impl<'t> Walker<'_, 't, '_> {
    /// `proxy_pass` and `grpc_pass`.
    pub(super) fn proxied(&mut self, of: &'t Directive, way: &Way<'t>) {
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
            self.notes.wrong(of, "there is no resolver, so nginx never finds a name that a variable is a part of, and answers every request with 502: so does the import. Write `resolver`, or the name without a variable");
            let action = Action::Respond { status: 502, body: String::new(), kind: None };
            let mut draft = Draft::new(of.at, way.region.clone(), action);
            draft.why = Some("nginx answers 502, as it finds no name without a resolver".to_owned());
            return self.out.push(draft);
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
        self.retries(&way.scope, grpc, upstream, &mut draft);
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
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
        if self.ground.upstreams.contains_key(bare) {
            return Err(format!("upstream {bare} may not have a port: nginx rejects it"));
        }
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

    /// TLS to endpoints, the address that connections come from, and what is spoken.
    fn connection(&mut self, scope: &Scope<'t>, to: &Destination, grpc: bool) -> Vec<Key> {
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
        let (scheme, rest) = own.word(0).split_once("://").unwrap_or_else(|| ("http", own.word(0)));
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
pub(super) fn is_address(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    address.starts_with("unix:")
        || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}
