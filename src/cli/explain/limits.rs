//! The limits that a request meets at its route: what it counts as, and what becomes of one that is one too many.

use super::line;
use crate::cli::request::Imagined;
use crate::config::listener::Listener;
use crate::config::rate_limit::{OnLimit, RateLimit};
use crate::config::route::Route;
use crate::model::units::format_duration;
use crate::runtime::route_limits::describe;

pub(super) fn explain_limits(route: &Route, listener: &Listener, request: &Imagined, text: &mut String) {
    if route.limits.is_empty() {
        return;
    }
    line(text, format_args!("\nlimits, all of which must let it pass:"));
    for limit in &route.limits.concurrency {
        match describe(&limit.key, request, listener.name.as_str()) {
            Some(key) => line(
                text,
                format_args!(
                    "  {}: at most {} under way, counted by {key}; beyond, the answer is {}",
                    limit.name, limit.max, limit.status
                ),
            ),
            None => line(text, format_args!("  {}: not counted, it has no {}", limit.name, limit.key)),
        }
    }
    for limit in &route.limits.rates {
        match describe(&limit.key, request, listener.name.as_str()) {
            Some(key) => line(
                text,
                format_args!("  {}: {}, counted by {key}; {}", limit.name, pace(limit), beyond(limit)),
            ),
            None => line(text, format_args!("  {}: not counted, it has no {}", limit.name, limit.key)),
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

    fn check(limits: &str, headers: &[&str], source: IpAddr) -> String {
        let text = format!(
            "[listener.web]\nbind = [\"127.0.0.1:80\"]\n[[route]]\nname = \"all\"\nrespond = {{ status = 204 }}\n{limits}\n"
        );
        let config = match crate::config::load_text(&text, Path::new("test.toml"), &|_| None) {
            Ok(config) => config,
            Err(errors) => return errors.to_string(),
        };
        let headers: Vec<String> = headers.iter().map(|&header| header.to_owned()).collect();
        let Ok(request) = Imagined::new("GET", "http://a/x", &headers, source) else { return String::new() };
        let mut text = String::new();
        explain_limits(&config.routes[0], &config.listeners[0], &request, &mut text);
        text
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
            "\nlimits, all of which must let it pass:\n  \
             all-at-once: at most 7 under way, counted by everything; beyond, the answer is 429\n  \
             all: 100/s and 20 ahead, counted by source 2001:db8:1::/56; beyond, the answer is 429\n  \
             all-2: 10/m and 5 ahead, those after 2 held until they are due, counted by header:x-key \"k\" + path \"/x\"; beyond, the answer is 503 after 10s\n  \
             all-3: not counted, it has no cookie:sid\n"
        );
        assert_eq!(check("", &[], source), "");
    }
}
