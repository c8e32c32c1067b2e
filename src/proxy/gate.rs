//! What stands before a route: networks that may pass, maintenance, scripts of other origins; and the pages that take the
//! place of errors.

use ipnet::IpNet;

use super::edits;
use super::error::Error;
use super::phases::Altered;
use super::request::{Context, Downstream};
use super::respond::{Body, Own};
use crate::model::field::{FieldName, OwnEdits};
use crate::model::method::Method;
use crate::model::request::RequestView;
use crate::policy::cors::{Cors, Grant};
use crate::route::template::Facts;
use crate::runtime::gate::{Gate, Maintenance};
use crate::runtime::page::Page;
use crate::runtime::snapshot::Route;

/// Lets a request pass, or answers it.
///
/// # Errors
/// [`Error::Denied`].
pub fn enter<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    (route, gate): (&'a Route, &'a Gate),
    altered: &mut Altered<'a>,
) -> Result<Option<Own>, Error> {
    let source = down.view().source().to_canonical();
    let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&source));
    if is_in(&gate.deny) || !(gate.allow.is_empty() || is_in(&gate.allow)) {
        return Err(Error::Denied);
    }
    if let Some(maintenance) = gate.maintenance.as_ref().filter(|maintenance| !is_in(&maintenance.allow)) {
        return Ok(Some(out_of_service(context, down.view(), (route, maintenance))));
    }
    if let Some(cors) = &gate.cors {
        if let Some(own) = preflight(cors, down.view()) {
            return Ok(Some(own));
        }
        share(cors, down.view(), &mut altered.edit().response);
    }
    Ok(None)
}

fn out_of_service<V: RequestView>(
    context: &Context<'_>,
    view: &V,
    (route, maintenance): (&Route, &Maintenance),
) -> Own {
    let mut own = Own::fixed(503, "503 Service Unavailable: this is out of service for now\n");
    if let Some(time) = maintenance.retry_after {
        own.fields.push(("Retry-After", time.as_secs().to_string().into_bytes()));
    }
    match &maintenance.page {
        Some(page) => put_page(context, view, (Some(route), page), &mut own),
        None => replace(context, view, Some(route), &mut own),
    }
    own
}

/// The answer to a request that asks whether another one may be sent (the Fetch Standard, "CORS-preflight request").
fn preflight<V: RequestView>(cors: &Cors, view: &V) -> Option<Own> {
    let asked = view.method() == Method::Options && view.field("access-control-request-method").is_some();
    let origin = view.field("origin").filter(|_| asked)?;
    let mut own = Own::with_body(204, Body::default(), b"");
    let mut put = |name, value: &[u8]| own.fields.push((name, value.to_vec()));
    put("Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
    match cors.grant(Some(origin)) {
        // Without a word of it the browser takes it for a no.
        Grant::Nobody => return Some(own),
        Grant::Any => put("Access-Control-Allow-Origin", b"*"),
        Grant::Origin(origin) => put("Access-Control-Allow-Origin", origin),
    }
    if cors.credentials {
        put("Access-Control-Allow-Credentials", b"true");
    }
    if !cors.methods.is_empty() {
        put("Access-Control-Allow-Methods", cors.methods.join(", ").as_bytes());
    }
    match view.field("access-control-request-headers") {
        Some(asked) if cors.allows_any_header() => {
            let names = asked.split(|&b| b == b',').map(<[u8]>::trim_ascii);
            let is_name =
                |name: &[u8]| std::str::from_utf8(name).is_ok_and(|name| FieldName::new(name).is_ok());
            // A star says nothing where credentials come along, so what was asked for is said.
            let names: Vec<&[u8]> = names.filter(|name| is_name(name)).collect();
            put("Access-Control-Allow-Headers", &names.join(&b", "[..]));
        }
        _ if cors.headers.is_empty() => {}
        _ => put("Access-Control-Allow-Headers", cors.headers.join(", ").as_bytes()),
    }
    if let Some(time) = cors.max_age {
        put("Access-Control-Max-Age", time.as_secs().to_string().as_bytes());
    }
    Some(own)
}

/// Says in an answer who may read it, in the place of whatever its endpoint says.
fn share<V: RequestView>(cors: &Cors, view: &V, answer: &mut OwnEdits<'_>) {
    const ORIGIN: &str = "access-control-allow-origin";
    const CREDENTIALS: &str = "access-control-allow-credentials";
    const EXPOSE: &str = "access-control-expose-headers";
    if cors.varies() {
        answer.add("vary", "Origin");
    }
    let grant = cors.grant(view.field("origin"));
    match grant {
        Grant::Any => answer.set(ORIGIN, "*"),
        Grant::Origin(origin) => answer.set(ORIGIN, origin),
        Grant::Nobody => answer.remove(ORIGIN),
    }
    match cors.credentials && grant != Grant::Nobody {
        true => answer.set(CREDENTIALS, "true"),
        false => answer.remove(CREDENTIALS),
    }
    match cors.expose.is_empty() || grant == Grant::Nobody {
        true => answer.remove(EXPOSE),
        false => answer.set(EXPOSE, cors.expose.join(", ")),
    }
}

/// Puts the page of its status in the place of what an error of ours says.
pub fn replace<V: RequestView>(context: &Context<'_>, view: &V, route: Option<&Route>, own: &mut Own) {
    let of_route = route.and_then(|route| route.gate.as_ref()?.pages.find(own.status));
    if let Some(page) = of_route.or_else(|| context.listener.pages.find(own.status)) {
        put_page(context, view, (route, page), own);
    }
}

fn put_page<V: RequestView>(
    context: &Context<'_>,
    view: &V,
    (route, page): (Option<&Route>, &Page),
    own: &mut Own,
) {
    let facts = Facts { status: Some(own.status), ..edits::facts(context, route) };
    own.body = edits::body(page, view, &facts, None);
    own.fields.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
    if !own.body.is_empty() {
        own.fields.push(("Content-Type", page.content_type.as_bytes().to_vec()));
    }
}

/// The page in the place of an endpoint's answer; nothing where that goes on.
pub fn intercept<D: Downstream>(
    context: &Context<'_>,
    down: &D,
    route: &Route,
    answer: &D::Answer,
) -> Option<Own> {
    /// What a client needs to do something about an error.
    const KEPT: [&str; 4] = ["WWW-Authenticate", "Retry-After", "Allow", "Set-Cookie"];
    let gate = route.gate.as_ref().filter(|gate| gate.intercept)?;
    let status = D::status(answer);
    let page = gate.pages.find(status).or_else(|| context.listener.pages.find(status))?;
    let mut own = Own::with_body(status, Body::default(), b"");
    for (name, value) in D::answer_fields(answer) {
        let kept = KEPT.iter().find(|kept| kept.as_bytes().eq_ignore_ascii_case(name));
        own.fields.extend(kept.map(|kept| (*kept, value.to_vec())));
    }
    put_page(context, down.view(), (Some(route), page), &mut own);
    Some(own)
}
