//! What a route changes by templates: target, fields and answers of one request, once what they are made of is known.

use std::net::IpAddr;

use super::error::{Error, Refusal};
use super::phases::Altered;
use super::request::Context;
use super::respond::{Body, Own};
use crate::model::field::{FieldName, OwnEdits};
use crate::model::method::Method;
use crate::model::request::RequestView;
use crate::route::Pattern;
use crate::route::edits::Edits;
use crate::route::path::normalize;
use crate::route::rewrite::RewriteError;
use crate::route::template::{Escape, Facts, Template, TlsFacts};
use crate::runtime::page::{Page, PageText};
use crate::runtime::snapshot::{Action, Respond, Route};

/// What templates can know of a request.
#[must_use]
pub fn facts<'a>(context: &Context<'a>, route: Option<&'a Route>) -> Facts<'a> {
    Facts {
        client_port: (!context.trusted).then(|| context.client.source().port()),
        peer: context.peer.ip(),
        request_id: context.request_id,
        listener: context.listener.name.as_str(),
        route: route.map_or("", |route| route.name.as_str()),
        tls: context.tls.map(|tls| TlsFacts {
            version: tls.version,
            cipher: tls.cipher,
            server_name: tls.server_name.as_deref(),
        }),
        pool: None,
        endpoint: None,
        status: None,
        imagined: false,
    }
}

/// Changes a request on its way to the pool of this name.
///
/// # Errors
/// [`Error::Refused`] when what it puts in makes no target.
pub fn of_request<'a, V: RequestView>(
    context: &Context<'a>,
    view: &V,
    (route, pool): (&'a Route, &'a str),
    altered: &mut Altered<'a>,
) -> Result<(), Error> {
    if route.rewrite.is_none() && route.request_edits.is_fixed() {
        return Ok(());
    }
    let facts = Facts { pool: Some(pool), ..facts(context, Some(route)) };
    // What the phases before have changed is what the edits see: a name that was vouched for is not the client's to say.
    let known = altered.edit().request.clone();
    let view = &Seen { view, known: &known };
    if let Some(rewrite) = &route.rewrite {
        let rewritten = rewrite.apply(view, &facts).map_err(|error| {
            Error::Refused(Refusal::Malformed(match error {
                RewriteError::Dots => "it puts dots into a path that is rewritten",
                RewriteError::Host => "it puts into a host what no host has",
            }))
        })?;
        let altered = altered.edit();
        if rewritten.target.is_some() {
            altered.target = rewritten.target;
        }
        if rewritten.authority.is_some() {
            altered.authority = rewritten.authority;
        }
    }
    let edits = &route.request_edits;
    if !edits.is_fixed() {
        let own = &mut altered.edit().request;
        // A field that goes no further under its own name does not under another (RFC 9110 section 7.6.1).
        for (from, to) in edits.rename.iter().filter(|(from, _)| !is_for_this_hop(view, from)) {
            own.remove(from.as_str());
            // What was vouched for under that name stays alone there.
            let is_told = known.takes_away(to.as_str().as_bytes());
            for (_, value) in view.fields().filter(|(name, _)| !is_told && from.matches(name)) {
                own.add(to.as_str(), value);
            }
        }
        for (name, value) in &edits.set {
            match value.value(view, &facts) {
                Some(value) => own.set(name.as_str(), value),
                None => own.remove(name.as_str()),
            }
        }
        for (name, value) in &edits.add {
            value.value(view, &facts).into_iter().for_each(|value| own.add(name.as_str(), value));
        }
    }
    Ok(())
}

/// A request with the fields that the phases before have given it, in the place of those that they have taken away.
struct Seen<'v, 'k, V> {
    view: &'v V,
    known: &'v OwnEdits<'k>,
}

impl<V: RequestView> RequestView for Seen<'_, '_, V> {
    fn method(&self) -> Method {
        self.view.method()
    }

    fn method_bytes(&self) -> &[u8] {
        self.view.method_bytes()
    }

    fn scheme(&self) -> &str {
        self.view.scheme()
    }

    fn authority(&self) -> &[u8] {
        self.view.authority()
    }

    fn path(&self) -> &[u8] {
        self.view.path()
    }

    fn query(&self) -> Option<&[u8]> {
        self.view.query()
    }

    fn target(&self) -> &[u8] {
        self.view.target()
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let came = self.view.fields().filter(|(name, _)| !self.known.takes_away(name));
        came.chain(self.known.put())
    }

    fn source(&self) -> IpAddr {
        self.view.source()
    }
}

/// Whether `Connection` names a field.
fn is_for_this_hop<V: RequestView>(view: &V, field: &FieldName) -> bool {
    let lines = view.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"));
    lines.flat_map(|(_, line)| line.split(|&b| b == b',')).any(|name| field.matches(name.trim_ascii()))
}

/// Changes an answer on its way to the client; `fields` are what it has come with.
pub fn of_answer<'a, 'f, V: RequestView, F: Iterator<Item = (&'f [u8], &'f [u8])>>(
    edits: &'a Edits,
    (view, facts): (&V, &Facts<'_>),
    fields: impl Fn() -> F,
    altered: &mut Altered<'a>,
) {
    if edits.is_fixed() {
        return;
    }
    let own = &mut altered.edit().response;
    for (from, to) in &edits.rename {
        own.remove(from.as_str());
        for (_, value) in fields().filter(|(name, _)| from.matches(name)) {
            own.add(to.as_str(), value);
        }
    }
    for (name, value) in &edits.set {
        match value.value(view, facts) {
            Some(value) => own.set(name.as_str(), value),
            None => own.remove(name.as_str()),
        }
    }
    for (name, value) in &edits.add {
        value.value(view, facts).into_iter().for_each(|value| own.add(name.as_str(), value));
    }
}

/// The answer of a route that gives one itself; nothing where it sends requests on, or answers by something else.
#[must_use]
pub fn answer<V: RequestView>(context: &Context<'_>, view: &V, route: &Route) -> Option<Own> {
    match &route.action {
        Action::Respond(Respond { status, page, regex }) => {
            let facts = Facts { status: Some(*status), ..facts(context, Some(route)) };
            let body = body(page, view, &facts, regex.as_ref());
            Some(Own::with_body(*status, body, page.content_type.as_bytes()))
        }
        Action::Redirect { to, regex, status } => {
            let facts = facts(context, Some(route));
            let to = render(to, view, &facts, regex.as_ref(), Escape::Url);
            Some(Own::redirect(*status, on_this_host(to)))
        }
        Action::Health(_) | Action::Pool(_) | Action::Split(_) => None,
    }
}

/// A target that begins with a slash names no other host (RFC 3986 section 4.2), nor do browsers take it for one, which read
/// backslashes as slashes: of several in front, which a path may begin with, one stays.
fn on_this_host(mut to: Vec<u8>) -> Vec<u8> {
    if to.first() == Some(&b'/') {
        let more = to.iter().skip(1).take_while(|byte| matches!(byte, b'/' | b'\\')).count();
        to.drain(1..=more);
    }
    to
}

/// The body of a page for one request.
pub fn body<V: RequestView>(page: &Page, view: &V, facts: &Facts<'_>, regex: Option<&Pattern>) -> Body {
    match &page.text {
        PageText::Fixed(bytes) => Body::Kept(bytes.clone()),
        PageText::Template(template, escape) => Body::Made(render(template, view, facts, regex, *escape)),
    }
}

fn render<V: RequestView>(
    template: &Template,
    view: &V,
    facts: &Facts<'_>,
    regex: Option<&Pattern>,
    escape: Escape,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let normal = regex.map(|_| normalize(view.path()));
    let groups = regex.zip(normal.as_deref()).and_then(|(regex, path)| regex.captures(path));
    template.render(view, facts, groups.as_ref(), escape, &mut out);
    out
}
