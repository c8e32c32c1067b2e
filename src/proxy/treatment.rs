//! A request whose route does more with it than send it on: copies, buffers and compression around the way of any other.

use std::sync::Arc;

use super::bridge::transform::Transform;
use super::error::Error;
use super::forward::forward;
use super::mirror;
use super::phases::Altered;
use super::request::{Context, Downstream, Trace};
use super::sticky::Affinity;
use crate::runtime::pick::Order;
use crate::runtime::pool::Pool;
use crate::runtime::snapshot::Route;
use crate::runtime::treatment::Treatment;

/// As [`forward`], with everything that the treatment asks for.
pub(super) async fn forward_treated<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    (route, treatment): (&'a Route, &'a Treatment),
    to: (Order<'a>, &'a Pool, Option<Box<Affinity<'a>>>),
    (altered, trace): (&mut Altered<'a>, &mut Trace<'a>),
) -> Result<(), Error> {
    let counters = treatment.live.counters.of(context.worker.id);
    if treatment.compress.is_some() || treatment.buffer_response.is_some() {
        down.transform(Transform {
            compress: treatment.compress.clone(),
            ahead: treatment.buffer_response,
            live: Arc::clone(&treatment.live),
        });
    }
    let copy = mirror::begin(context, down, (route, treatment), altered);
    if let Some(most) = treatment.buffer_request.filter(|_| down.has_body() && !down.wants_tunnel()) {
        let whole = down.buffer_body(most).await?;
        let buffers = &counters.buffers;
        if whole { buffers.request_whole.one() } else { buffers.request_exceeded.one() }
    }
    let forwarded = forward(context, down, route, to, (&mut *altered, trace)).await;
    if let Some(copy) = copy {
        copy.send(context, down, (route, treatment), altered);
    }
    forwarded
}
