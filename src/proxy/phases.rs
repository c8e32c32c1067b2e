//! What happens to a request between its route and its action, and what that changes in its head and in its answer's.
//!
//! Each phase is a file of its own; here is their order.

use super::auth;
use super::error::Error;
use super::gate;
use super::limiter;
use super::request::{Context, Downstream};
use super::respond::Own;
use crate::model::field::{FieldEdits, HeadEdits, OwnEdits};
use crate::runtime::route_limits::UnderWay;
use crate::runtime::snapshot::Route;

/// What the phases of one request change in heads, beside its route's edits, which are the same for all. Almost always
/// nothing, and then it holds nothing.
#[derive(Debug, Default)]
pub struct Altered<'a>(Option<Box<Alterations<'a>>>);

/// What is changed for one request alone.
#[derive(Debug, Default)]
pub struct Alterations<'a> {
    /// Fields of the request on its way to an endpoint.
    pub request: OwnEdits<'a>,
    /// Fields of the answer on its way to the client, whoever gives it.
    pub response: OwnEdits<'a>,
    /// Path and query in the place of the request's own.
    pub target: Option<Vec<u8>>,
    /// Host and port in the place of the request's own.
    pub authority: Option<Vec<u8>>,
    /// Its places under concurrency limits; nobody else has them until it has ended.
    pub places: Vec<UnderWay>,
}

impl<'a> Altered<'a> {
    /// Nothing is changed.
    pub const NONE: &'static Altered<'static> = &Altered(None);

    /// What is changed, to change more.
    pub fn edit(&mut self) -> &mut Alterations<'a> {
        self.0.get_or_insert_default()
    }

    /// All edits of the request's head, with those of its route.
    #[must_use]
    pub fn request<'s>(&'s self, route: &'s FieldEdits) -> HeadEdits<'s> {
        HeadEdits { route, own: self.0.as_ref().map_or(OwnEdits::NONE, |altered| &altered.request) }
    }

    /// All edits of the answer's head, with those of its route.
    #[must_use]
    pub fn response<'s>(&'s self, route: &'s FieldEdits) -> HeadEdits<'s> {
        HeadEdits { route, own: self.0.as_ref().map_or(OwnEdits::NONE, |altered| &altered.response) }
    }

    /// Path and query in the place of the request's own.
    #[must_use]
    pub fn target(&self) -> Option<&[u8]> {
        self.0.as_ref()?.target.as_deref()
    }

    /// Host and port in the place of the request's own.
    #[must_use]
    pub fn authority(&self) -> Option<&[u8]> {
        self.0.as_ref()?.authority.as_deref()
    }
}

/// Everything that may answer or refuse a request before its route's action does.
///
/// # Errors
/// What the request is refused for.
pub async fn before<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    route: &'a Route,
    altered: &mut Altered<'a>,
) -> Result<Option<Own>, Error> {
    if let Some(gate) = &route.gate
        && let Some(own) = gate::enter(context, down, (route, gate), altered)?
    {
        return Ok(Some(own));
    }
    if let Some(limits) = &route.limits {
        Box::pin(limiter::admit(context, down, limits, altered)).await?;
    }
    if let Some(treatment) = &route.treatment
        && let Some(own) = Box::pin(auth::admit(context, down, treatment, altered)).await?
    {
        return Ok(Some(own));
    }
    if let Some(max) = route.gate.as_ref().and_then(|gate| gate.max_body) {
        down.limit_body(max)?;
    }
    Ok(None)
}
