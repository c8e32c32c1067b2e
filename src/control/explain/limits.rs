//! The limits that a request meets at its route: what it counts as, what becomes of one that is one too many, and whether
//! this would be one.

use std::time::Duration;

use super::LimitSeen;
use super::request::Imagined;
use crate::config::rate_limit::{OnLimit, RateLimit};
use crate::config::route::Route;
use crate::model::limit_key::LimitKey;
use crate::model::units::format_duration;
use crate::policy::rate_limit::{Decision, Left};
use crate::runtime::route_limits::{RouteLimits, describe, seconds};

/// Every limit of a route, those of how many are under way first, as they are asked; `live` is how they stand, and the
/// time.
pub(super) fn explain(
    route: &Route,
    listener: &str,
    request: &Imagined,
    live: Option<(&RouteLimits, Duration)>,
) -> Vec<LimitSeen> {
    let under_way = live.map(|(limits, _)| limits.under_way(request, listener)).unwrap_or_default();
    let left =
        live.map(|(limits, now)| limits.look(&limits.keys(request, listener), now)).unwrap_or_default();
    let counted = |key: &LimitKey, text: &dyn Fn(String) -> String| match describe(key, request, listener) {
        Some(counted) => text(counted),
        None => format!("not counted, it has no {key}"),
    };
    let mut seen = Vec::new();
    for (place, limit) in route.limits.concurrency.iter().enumerate() {
        let text = counted(&limit.key, &|key| {
            let (max, status) = (limit.max, limit.status);
            format!("at most {max} under way, counted by {key}; beyond, the answer is {status}")
        });
        let now = under_way.get(place).copied().flatten();
        let stops = now.filter(|count| *count >= limit.max);
        seen.push(LimitSeen {
            name: limit.name.to_string(),
            text,
            now: now.map(|count| format!("{count} under way")),
            stops: stops.map(|_| format!("answered with {}", limit.status)),
        });
    }
    for (place, limit) in route.limits.rates.iter().enumerate() {
        let text =
            counted(&limit.key, &|key| format!("{}, counted by {key}; {}", pace(limit), beyond(limit)));
        let now = left.get(place).copied().flatten();
        seen.push(LimitSeen {
            name: limit.name.to_string(),
            text,
            now: now.map(|(decision, left)| standing(limit, decision, left)),
            stops: now.and_then(|(decision, _)| stops(limit, decision)),
        });
    }
    seen
}

/// How a limit stands for requests like this one.
fn standing(limit: &RateLimit, decision: Decision, left: Left) -> String {
    match decision {
        Decision::Pass { delay, .. } if delay.is_zero() => {
            format!("it passes, of {} that would", left.requests)
        }
        Decision::Pass { delay, .. } => format!(
            "it is held for {}, and is one of {} that would pass",
            format_duration(delay.max(Duration::from_millis(1))),
            left.requests
        ),
        Decision::Reject { retry_after } if limit.on_limit == OnLimit::Count => {
            format!("it is one too many for another {} s, and passes all the same", seconds(retry_after))
        }
        Decision::Reject { retry_after } => {
            format!("it is one too many: the next one passes in {} s", seconds(retry_after))
        }
    }
}

/// What a limit answers a request with that it stops.
fn stops(limit: &RateLimit, decision: Decision) -> Option<String> {
    match (decision, &limit.on_limit) {
        (Decision::Pass { .. }, _) | (_, OnLimit::Count) => None,
        (_, OnLimit::Reject) => Some(format!("answered with {}", limit.status)),
        (_, OnLimit::Drop) => Some("closed without an answer".to_owned()),
        (_, OnLimit::Tarpit { time, .. }) => {
            Some(format!("answered with {} after {}", limit.status, format_duration(*time)))
        }
    }
}

fn pace(limit: &RateLimit) -> String {
    let held = match limit.delay {
        Some(0) => ", each held until it is due".to_owned(),
        Some(free) => format!(", those after {free} held until they are due"),
        None => String::new(),
    };
    format!("{} and {} ahead{held}", limit.rate, limit.burst)
}

fn beyond(limit: &RateLimit) -> String {
    match limit.on_limit {
        OnLimit::Reject => format!("beyond, the answer is {}", limit.status),
        OnLimit::Drop => "beyond, there is no answer".to_owned(),
        OnLimit::Tarpit { time, .. } => {
            format!("beyond, the answer is {} after {}", limit.status, format_duration(time))
        }
        OnLimit::Count => "beyond, it passes all the same and is counted".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use super::*;

    fn check(limits: &str, headers: &[&str], source: IpAddr) -> Vec<String> {
        let text = format!(
            "[listener.web]\nbind = [\"127.0.0.1:80\"]\n[[route]]\nname = \"all\"\nrespond = {{ status = 204 }}\n{limits}\n"
        );
        let config = match crate::config::load_text(&text, Path::new("test.toml"), &|_| None) {
            Ok(config) => config,
            Err(errors) => return vec![errors.to_string()],
        };
        let headers: Vec<String> = headers.iter().map(|&header| header.to_owned()).collect();
        let Ok(request) = Imagined::new("GET", "http://a/x", &headers, source) else { return Vec::new() };
        let seen = explain(&config.routes[0], "web", &request, None);
        seen.into_iter().map(|limit| format!("{}: {}", limit.name, limit.text)).collect()
    }

    #[test]
    fn every_limit_says_what_a_request_counts_as() {
        let limits = "rate_limit = [{ rate = \"100/s\", burst = 20, prefix_v6 = 56 }, \
             { key = [\"header:x-key\", \"path\"], rate = \"10/m\", burst = 5, delay = 2, on_limit = \"tarpit\", status = 503 }, \
             { key = \"cookie:sid\", rate = \"1/s\", on_limit = \"drop\" }]\n\
             concurrency_limit = { key = \"global\", max = 7, name = \"all-at-once\" }";
        let source = "2001:db8:1:2::3".parse().expect("an address");
        assert_eq!(
            check(limits, &["X-Key: k"], source),
            [
                "all-at-once: at most 7 under way, counted by everything; beyond, the answer is 429",
                "all: 100/s and 20 ahead, counted by source 2001:db8:1::/56; beyond, the answer is 429",
                "all-2: 10/m and 5 ahead, those after 2 held until they are due, counted by header:x-key \"k\" + path \"/x\"; \
                 beyond, the answer is 503 after 10s",
                "all-3: not counted, it has no cookie:sid",
            ]
        );
        assert!(check("", &[], source).is_empty());
    }
}
