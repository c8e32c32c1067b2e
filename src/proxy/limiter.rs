//! The limits of a route, asked before anything is done with a request: how many of its kind may be under way, and how fast
//! they may come. The decisions are `policy::rate_limit`'s, what they are made of is `runtime::route_limits`'s.

use std::time::Duration;

use super::error::{Error, Limit, Limited};
use super::phases::Altered;
use super::request::{Context, Downstream};
use crate::runtime::route_limits::{Keys, OnLimit, RateRule, RouteLimits, Tell, Verdict, seconds};

/// Seconds after which a place under a concurrency limit may be free: nobody knows when.
const PLACE_AFTER: u64 = 1;

/// Lets a request pass, perhaps after a while, or says what it is refused for. The places that it takes are its own until
/// it has ended.
pub(super) async fn admit<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    limits: &'a RouteLimits,
    altered: &mut Altered<'a>,
) -> Result<(), Error> {
    let (listener, worker) = (context.listener.name.as_str(), context.worker.id);
    if !limits.concurrency.is_empty() {
        match limits.enter(down.view(), listener, worker) {
            Ok(places) => altered.edit().places = places,
            Err(rule) => {
                let (limit, status, retry_after) = (Limit::Concurrency, rule.status, PLACE_AFTER);
                return Err(Error::Limited(Limited { limit, status, retry_after }));
            }
        }
    }
    if limits.rates.is_empty() {
        return Ok(());
    }
    let keys = limits.keys(down.view(), listener);
    let (rule, retry_after) = match limits.charge(&keys, context.snapshot.clock.now(), worker) {
        Verdict::Pass(delay) => {
            if limits.rates.iter().any(|rule| rule.tell == Tell::All) {
                tell(context, limits, &keys, false, altered);
            }
            if !delay.is_zero() {
                hold(down, delay).await?;
            }
            return Ok(());
        }
        Verdict::Stop { rule, retry_after } => (rule, seconds(retry_after).max(1)),
    };
    stop(context, down, rule).await?;
    tell(context, limits, &keys, true, altered);
    Err(Error::Limited(Limited { limit: Limit::Rate, status: rule.status, retry_after }))
}

/// Takes back what a request was charged that begins again with a newer snapshot, and is charged then.
pub(super) fn take_back<D: Downstream>(context: &Context<'_>, down: &D, limits: &RouteLimits) {
    limits.refund(&limits.keys(down.view(), context.listener.name.as_str()));
}

/// Does what comes before a refusal: counts it, and holds the request where it is to be held.
async fn stop<D: Downstream>(context: &Context<'_>, down: &mut D, rule: &RateRule) -> Result<(), Error> {
    let counters = rule.live.counters.of(context.worker.id);
    match rule.on_limit {
        OnLimit::Reject | OnLimit::Count => counters.rejected.one(),
        OnLimit::Drop => {
            counters.dropped.one();
            return Err(Error::Dropped);
        }
        OnLimit::Tarpit { time, max } => {
            let Some(_held) = rule.live.try_hold(max) else {
                counters.tarpit_full.one();
                counters.rejected.one();
                return Ok(());
            };
            counters.tarpitted.one();
            tokio::select! {
                held = hold(down, time) => held?,
                // Nobody is to wait for whom it was meant to annoy.
                () = context.worker.drain_started() => {}
            }
        }
    }
    Ok(())
}

/// Keeps a request waiting. Boxed, because few have to, and every one would weigh so much more.
async fn hold<D: Downstream>(down: &mut D, time: Duration) -> Result<(), Error> {
    Box::pin(async {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = down.gone() => Err(Error::ClientGone),
        }
    })
    .await
}

/// Puts what is left to the client into the answer's head.
fn tell(context: &Context<'_>, limits: &RouteLimits, keys: &Keys, rejected: bool, altered: &mut Altered<'_>) {
    if let Some([policy, limit]) = limits.told(keys, context.snapshot.clock.now(), rejected) {
        let fields = &mut altered.edit().response;
        fields.set("RateLimit-Policy", policy);
        fields.set("RateLimit", limit);
    }
}
