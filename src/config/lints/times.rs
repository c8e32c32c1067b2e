//! Lints of times: what clients wait for, what endpoints keep, and times that cannot hold beside each other.

use std::time::Duration;

use super::scene::Scene;
use super::{Found, seconds};
use crate::config::pool::Pool;
use crate::config::retry::Retry;
use crate::config::route::RouteTimeouts;
use crate::model::units::format_duration;

/// What nginx keeps an idle connection for, the longest of the servers that keep them briefly.
const KEPT_LONGEST: Duration = Duration::from_secs(75);

pub(super) fn look(scene: &Scene<'_>, found: &mut Found) {
    let patience = scene.config.check.client_timeout;
    for pool in &scene.config.pools {
        if scene.serves_tcp_alone(pool) {
            continue;
        }
        let Some(patience) = patience else { continue };
        let try_longest = pool.timeouts.connect + pool.timeouts.response_header;
        let worst = pool.limits.queue_timeout + try_longest;
        if worst > patience {
            let what = format!(
                "pool {}: one attempt may take up to {} (queue_timeout, connect and response_header), longer than clients \
                 wait, which is {}",
                pool.name,
                seconds(worst),
                format_duration(patience)
            );
            found.pool("L003", &pool.name, &["timeouts", "response_header"], what);
        } else if let worst = with_retries(pool, &pool.retry, &RouteTimeouts::default())
            && worst > patience
        {
            let what = format!(
                "pool {}: with its {} attempts a request may take up to {}, longer than clients wait, which is {}",
                pool.name,
                pool.retry.attempts,
                seconds(worst),
                format_duration(patience)
            );
            found.pool("L015", &pool.name, &["retry", "attempts"], what);
        }
    }
    for pool in scene.config.pools.iter().filter(|pool| scene.serves_http(pool)) {
        keep_alive(pool, found);
    }
}

fn keep_alive(pool: &Pool, found: &mut Found) {
    if pool.timeouts.keep_alive >= KEPT_LONGEST {
        let what = format!(
            "pool {}: idle connections are kept for {}, longer than most servers keep theirs unless they announce it",
            pool.name,
            format_duration(pool.timeouts.keep_alive)
        );
        found.pool("L014", &pool.name, &["timeouts", "keep_alive"], what);
    }
}

/// How long one try may take, to the head of its answer.
pub(super) fn one_try(pool: &Pool, retry: &Retry, route: &RouteTimeouts) -> Duration {
    let connect = route.connect.unwrap_or(pool.timeouts.connect);
    let head = route.response_header.unwrap_or(pool.timeouts.response_header);
    retry.per_try_timeout.map_or(connect + head, |limit| limit.min(connect + head))
}

/// How long a request may take to the head of its answer when each try fails as late as it can.
fn with_retries(pool: &Pool, retry: &Retry, route: &RouteTimeouts) -> Duration {
    let longest = one_try(pool, retry, route);
    // What is not tried again ends the request. A connection may be reset at any time, a timeout has its own.
    let (failing, at_any_time) = match (retry.on.timeout, retry.on.reset, retry.on.connect) {
        (_, true, _) => (longest, true),
        (true, _, _) => (longest, false),
        (_, _, true) => (route.connect.unwrap_or(pool.timeouts.connect), true),
        _ => return pool.limits.queue_timeout + longest,
    };
    let failed = failing.saturating_mul(retry.attempts.saturating_sub(1));
    // No try starts once `within` is over.
    let before_last = match (failed < retry.within, at_any_time) {
        (true, _) => failed,
        (false, true) => retry.within,
        (false, false) => {
            failing * u32::try_from(retry.within.as_millis() / failing.as_millis().max(1)).unwrap_or(0)
        }
    };
    pool.limits.queue_timeout + before_last + longest
}
