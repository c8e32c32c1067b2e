//! Another service is asked about a request before it goes on, as nginx's `auth_request` and Traefik's `forwardAuth` do: a
//! 2xx lets it in, what refuses it is what the client gets.

use super::forget;
use crate::model::request::RequestView as _;
use crate::proxy::bridge::subrequest::{Answer, Subrequest, Way, target_of};
use crate::proxy::error::Error;
use crate::proxy::phases::Altered;
use crate::proxy::request::{Context, Downstream};
use crate::proxy::respond::Own;
use crate::runtime::treatment::{Asked, ForwardAuth};

/// Tries beyond the first take time too, but no more than as much again.
const TRIES: u32 = 2;

/// The answer to a request that is not let in.
pub(super) async fn admit<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    auth: &'a ForwardAuth,
    counters: &Asked,
    altered: &mut Altered<'a>,
) -> Result<Option<Own>, Error> {
    let view = down.view();
    let Some(mut about) = Subrequest::about(view, &auth.target, &auth.request_headers) else {
        return Ok(unknown(auth, counters, altered));
    };
    about.tell("X-Forwarded-Method", view.method_bytes());
    about.tell("X-Forwarded-Uri", &target_of(view));
    let way = Way {
        route: &auth.route,
        pool: auth.pool,
        within: auth.timeout.saturating_mul(TRIES),
        keep: Some(auth.max_answer),
    };
    // Boxed: only routes with it are to weigh that much.
    let asked = Box::pin(about.send(context, &way, Default::default()));
    let answer = tokio::select! {
        biased;
        answer = asked => answer,
        () = down.gone() => return Err(Error::ClientGone),
    };
    match answer {
        Ok(answer) if (200..300).contains(&answer.status()) => {
            counters.passed.one();
            take_over(&answer, auth, altered);
            Ok(None)
        }
        Ok(answer) if answer.status() < 500 => {
            counters.refused.one();
            Ok(Some(passed_on(answer)))
        }
        // Nothing has been done with the request: it begins again.
        Err(Error::Outdated) => Err(Error::Outdated),
        Ok(_) | Err(_) => Ok(unknown(auth, counters, altered)),
    }
}

/// The fields that the service has for the endpoint. What the client sends under these names never goes on.
fn take_over<'a>(answer: &Answer, auth: &'a ForwardAuth, altered: &mut Altered<'a>) {
    for told in &auth.response_headers {
        forget(told, altered);
        let name = told.name.as_str();
        let (mut values, request) = (answer.values(name), &mut altered.edit().request);
        if let Some(first) = values.next() {
            request.set(name, first);
        }
        values.for_each(|value| request.add(name, value));
    }
}

/// The service's answer as the client gets it.
fn passed_on(answer: Answer) -> Own {
    // What tells of a body is left out with it.
    let goes_on = |name: &str| answer.is_whole() || !name.starts_with("content-");
    let fields = answer.fields().filter(|(name, _)| goes_on(name));
    let fields = fields.map(|(name, value)| (name.into(), value.to_vec())).collect();
    Own::passed_on(answer.status(), fields, answer.into_body())
}

/// Nobody can say whether the request may pass.
fn unknown<'a>(auth: &'a ForwardAuth, counters: &Asked, altered: &mut Altered<'a>) -> Option<Own> {
    counters.failed.one();
    if !auth.allow_on_error {
        return Some(Own::busy("whether this request may pass cannot be found out now"));
    }
    // Nobody has vouched for what the client says under these names.
    auth.response_headers.iter().for_each(|told| forget(told, altered));
    None
}
