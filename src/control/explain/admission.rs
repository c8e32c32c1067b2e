//! Who is let in when not all can be, in words: ceilings, the queue, and whose turn it is there.

use super::say;
use crate::config::listener::Listener;
use crate::config::pool::Pool;
use crate::config::route::Route;
use crate::model::units::format_duration;
use crate::policy::admission::class::Class;
use crate::policy::admission::overload::Importance;

/// Adds what an overloaded process does with new work of a listener, where that is not what it does with most.
pub(super) fn explain_listener(listener: &Listener, lines: &mut Vec<String>) {
    let what = match listener.importance {
        Importance::Default => return,
        Importance::Critical => "never turned away",
        Importance::Sheddable => "turned away first",
    };
    say(
        lines,
        format_args!(
            "new work of this listener is {what} when the process is overloaded: class = \"{}\"",
            listener.importance.word()
        ),
    );
}

/// Adds what is not as it is by default.
pub(super) fn explain_pool(pool: &Pool, route: Option<&Route>, lines: &mut Vec<String>) {
    let limits = &pool.limits;
    let class = route.map(|route| route.priority_class).unwrap_or_default();
    if let Some(rising) = limits.rising {
        let (min, max, full) = (rising.min, limits.max_requests, rising.full_load);
        say(
            lines,
            format_args!(
                "ceiling per endpoint: {min} requests, rising to {max} when the pool has {full} under way and waiting"
            ),
        );
    }
    if let Some(adaptive) = &limits.adaptive {
        let (min, max, headroom) = (adaptive.min, limits.max_requests, adaptive.headroom * 100.0);
        say(
            lines,
            format_args!(
                "ceiling per endpoint: between {min} and {max} requests, so that answers take up to {headroom:.0} % longer than \
                 without load"
            ),
        );
    }
    if class != Class::default() || limits.shedding.is_some() {
        let (queue, time) = (limits.queue, format_duration(limits.queue_timeout));
        say(
            lines,
            format_args!("when all are busy: waits in class {}, {queue} at most, up to {time}", class.word()),
        );
    }
    if let Some(shedding) = &limits.shedding {
        let (target, interval) = (format_duration(shedding.target), format_duration(shedding.interval));
        let patience = format_duration(shedding.patience());
        let order = if shedding.newest_first { ", the newest first" } else { "" };
        say(
            lines,
            format_args!(
                "sheds (503): a class whose first in line has waited for over {target} all through {interval} waits up to \
                 {patience} only{order}"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn explained(text: &str, limits: &str) -> Vec<String> {
        let text = format!(
            "[listener.a]\nbind = [\"127.0.0.1:1\"]\nclass = \"sheddable\"\n{text}\n[pool.p]\n\
             endpoints = [\"127.0.0.1:2\"]\n[pool.p.limits]\n{limits}"
        );
        let config = crate::config::load_text(&text, Path::new("t.toml"), &|_| None);
        let config = config.expect("a valid configuration");
        let mut out = Vec::new();
        explain_listener(&config.listeners[0], &mut out);
        explain_pool(&config.pools[0], config.routes.first(), &mut out);
        out
    }

    const SHEDDABLE: &str = "new work of this listener is turned away first when the process is overloaded: class = \
                             \"sheddable\"";

    #[test]
    fn defaults_are_not_worth_a_word() {
        assert_eq!(explained("[[route]]\npool = \"p\"", ""), [SHEDDABLE]);
    }

    #[test]
    fn classes_ceilings_and_shedding_are_told() {
        let route = "[[route]]\npool = \"p\"\npriority_class = \"low\"";
        let limits = "min_requests = 2\nfull_load = 50\nmax_requests = 10\nqueue_target = \"20ms\"\n";
        assert_eq!(
            explained(route, limits),
            [
                SHEDDABLE,
                "ceiling per endpoint: 2 requests, rising to 10 when the pool has 50 under way and waiting",
                "when all are busy: waits in class low, 512 at most, up to 5s",
                "sheds (503): a class whose first in line has waited for over 20ms all through 100ms waits up to 40ms only",
            ]
        );
        let adaptive = explained("[[route]]\npool = \"p\"", "max_requests = 10\nadaptive = { min = 2 }\n");
        let ceiling = "ceiling per endpoint: between 2 and 10 requests, so that answers take up to 25 % longer than without load";
        assert_eq!(adaptive.last().map(String::as_str), Some(ceiling));
    }
}
