//! Lints of retry rules, of pools and of the routes that have their own.

use super::Found;
use super::scene::Scene;
use super::times::one_try;
use crate::config::pool::Pool;
use crate::config::retry::{NonIdempotent, Retry};
use crate::config::route::RouteTimeouts;
use crate::model::units::format_duration;

pub(super) fn look(scene: &Scene<'_>, found: &mut Found) {
    for pool in scene.config.pools.iter().filter(|pool| pool.exclusive.is_none()) {
        let whose = format!("pool {}", pool.name);
        let mut say = |code, keys, what: String| found.pool(code, &pool.name, keys, what);
        without_effect(&whose, &pool.retry, &mut say);
        if scene.serves_http(pool) {
            post(&whose, &pool.retry, &mut say);
            too_late(&whose, pool, (&pool.retry, &RouteTimeouts::default()), &mut say);
        }
    }
    for route in &scene.config.routes {
        let Some(retry) = &route.retry else { continue };
        let whose = format!("route {}", route.rule.name);
        let mut say = |code, keys, what: String| found.route(code, &route.rule.name, keys, what);
        without_effect(&whose, retry, &mut say);
        post(&whose, retry, &mut say);
        if let Some(pool) = scene.pool_of(route) {
            too_late(&whose, pool, (retry, &route.timeouts), &mut say);
        }
    }
}

type Say<'a> = dyn FnMut(&'static str, &'static [&'static str], String) + 'a;

fn without_effect(whose: &str, retry: &Retry, say: &mut Say<'_>) {
    if retry.per_try_timeout.is_some() && !retry.on.timeout {
        let what = format!(
            "{whose}: per_try_timeout does nothing while \"timeout\" is not in retry.on: nothing would follow the try \
             that it ends"
        );
        say("L007", &["retry", "per_try_timeout"], what);
    }
    if retry.hedge.is_some() && retry.attempts < 2 {
        say("L007", &["retry", "hedge"], format!("{whose}: hedge does nothing while retry.attempts is 1"));
    }
}

fn post(whose: &str, retry: &Retry, say: &mut Say<'_>) {
    let again = retry.on.reset || retry.on.timeout || !retry.on.statuses.is_empty();
    if retry.non_idempotent == NonIdempotent::Always && retry.attempts > 1 && again {
        let what = format!("{whose}: a POST is sent again although an endpoint may have acted on it already");
        say("L017", &["retry", "non_idempotent"], what);
    }
}

fn too_late(whose: &str, pool: &Pool, (retry, times): (&Retry, &RouteTimeouts), say: &mut Say<'_>) {
    if !retry.on.timeout || retry.attempts < 2 {
        return;
    }
    let longest = one_try(pool, retry, times);
    if longest >= retry.within {
        let what = format!(
            "{whose}: a try may take {} before it times out, and after retry.within, which is {}, no other starts: nothing is \
             ever tried again after a timeout",
            format_duration(longest),
            format_duration(retry.within)
        );
        say("L016", &["retry", "within"], what);
    }
}
