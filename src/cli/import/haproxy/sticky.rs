//! `cookie`, `stick-table` and `stick`: clients that keep coming to their endpoint, as `sticky` of a pool.

use super::super::document::{Table, Value};
use super::super::report::{Report, Verdict};
use super::pool::duration;
use super::proxy::Proxy;
use super::said::{Said, approximated, not_possible, translated, wrong};
use super::units::time;

/// Writes `sticky` of the pool, and what is to be said of the lines that it comes from.
pub(super) fn write(proxy: &Proxy, table: &mut Table, report: &mut Report) {
    let by_cookie = cookie(proxy, table, report);
    for stick in &proxy.sticks {
        let said = if by_cookie {
            not_possible("the pool is sticky by its cookie: a table beside it has no counterpart")
        } else {
            from_table(proxy, stick.from(1), table)
        };
        let translated = said.0 == Verdict::Translated || said.0 == Verdict::Approximated;
        said.about("", stick.at, report);
        if translated && table.get("sticky.table") == Some(&Value::text("source")) {
            traps(proxy, stick.at, report);
        }
    }
    if let Some((words, at)) = &proxy.stick_table {
        if table.get("sticky.table").is_some() {
            report.note(*at, Verdict::Translated, "it is the table of [pool.NAME.sticky]");
        }
        if words.iter().any(|word| word == "peers") {
            report.approximated(
                *at,
                "entries are not shared with other nodes; a reload and an upgrade keep them",
            );
        }
    }
}

/// What the seeds of many configurations do not say of a table of sources.
fn traps(proxy: &Proxy, at: super::super::report::Place, report: &mut Report) {
    if proxy.servers.iter().any(|server| server.options.backup) {
        report.wrong(
            at,
            "clients that had to go to a backup stay there while they come, although a primary is back: failback = \"idle\" in sticky brings them home",
        );
    }
    report.note(
        at,
        Verdict::Translated,
        "behind a CDN or NAT many clients have one source: a cookie tells them apart",
    );
}

fn cookie(proxy: &Proxy, table: &mut Table, report: &mut Report) -> bool {
    let Some((words, at)) = &proxy.cookie else { return false };
    let (at, has) = (*at, |word: &str| words.iter().any(|own| own == word));
    if !proxy.http {
        report.wrong(at, "a tcp backend sees no cookies: HAProxy warns and ignores it");
        return false;
    }
    if proxy.servers.iter().all(|server| server.options.cookie.is_none()) && !has("dynamic") {
        report.wrong(at, "no server has a `cookie`, so nobody is kept with one");
        return false;
    }
    let own = has("rewrite") || has("prefix");
    if let Some(name) = words.first().filter(|_| !own) {
        table.set("sticky.cookie", Value::text(name), Some(at));
    }
    let mut said = if own {
        approximated("the application keeps its cookie as it is: clients get one of the pool's beside it")
    } else {
        approximated(
            "its value is signed and names no server: clients with a cookie of HAProxy's are balanced anew, once. It has HttpOnly and SameSite=Lax, and an answer that sets it is Cache-Control: private",
        )
    };
    if has("preserve") || has("postonly") {
        said = not_possible(
            "endpoints neither set nor take away the cookie, and it is set on the first answer, whatever was asked",
        );
    }
    said.about("", at, report);
    let mut pairs = words.iter().zip(words.iter().skip(1));
    for (key, value) in pairs.by_ref() {
        match (key.as_str(), time(value)) {
            ("maxlife", Some(time)) => table.set("sticky.max_age", duration(time), Some(at)),
            ("maxidle", Some(time)) => table.set("sticky.max_idle", duration(time), Some(at)),
            ("domain", _) => table.set("sticky.domain", Value::text(value.trim_start_matches('.')), Some(at)),
            ("attr", _) => {
                let site = value.to_ascii_lowercase();
                if let Some(site @ ("strict" | "none")) = site.strip_prefix("samesite=") {
                    table.set("sticky.same_site", Value::text(site), Some(at));
                }
            }
            _ => {}
        }
    }
    if has("secure") {
        table.set("sticky.secure", Value::text("always"), Some(at));
    }
    if !table.has_below("sticky") {
        table.set("sticky", Value::Inline(Vec::new()), Some(at));
    }
    true
}

/// `stick on|match|store-request|store-response EXPRESSION [table NAME] [if ..]`.
fn from_table(proxy: &Proxy, words: &[String], table: &mut Table) -> Said {
    let [kind, fetch, rest @ ..] = words else { return wrong("it does not say what to stick on") };
    if rest.iter().any(|word| word == "if" || word == "unless") {
        return not_possible(
            "a pool is sticky for all of its requests, or for none: give these a pool of their own",
        );
    }
    let Some((words, at)) = &proxy.stick_table else {
        return not_possible("the table is another section's: a pool has its own; write `sticky` in it");
    };
    let Some(key) = key(fetch, proxy.http) else {
        return not_possible(format!(
            "`{fetch}` is nothing that a table goes by: source, header:NAME, cookie:NAME, query:NAME"
        ));
    };
    let learnt = kind == "store-response";
    match table.get("sticky.table") {
        Some(Value::Text(other)) if *other != key => {
            return not_possible("a pool is sticky by one key: the first one is taken");
        }
        _ => {}
    }
    table.set("sticky.table", Value::text(&key), Some(*at));
    if learnt && key.starts_with("cookie:") {
        table.set("sticky.learn", Value::Bool(true), Some(*at));
    }
    let behind = |name: &str| {
        let place = words.iter().position(|word| word == name)?;
        words.get(place + 1)
    };
    if let Some(size) = behind("size").and_then(|text| super::limit::size(text)) {
        table.set("sticky.size", Value::Integer(size.min(10_000_000)), Some(*at));
    }
    if let Some(expire) = behind("expire").and_then(|text| time(text)) {
        table.set("sticky.expire", duration(expire), Some(*at));
    }
    translated()
}

fn key(fetch: &str, http: bool) -> Option<String> {
    let name = |start: &str| {
        fetch.strip_prefix(start)?.strip_suffix(')').map(|name| name.split(',').next().unwrap_or(name))
    };
    if fetch == "src" {
        return Some("source".to_owned());
    }
    let named = [
        ("req.cook(", "cookie"),
        ("cook(", "cookie"),
        ("res.cook(", "cookie"),
        ("scook(", "cookie"),
        ("req.hdr(", "header"),
        ("hdr(", "header"),
        ("url_param(", "query"),
        ("urlp(", "query"),
    ];
    let (start, part) = named.into_iter().find(|(start, _)| http && fetch.starts_with(start))?;
    let name = name(start)?;
    Some(if part == "header" {
        format!("header:{}", name.to_ascii_lowercase())
    } else {
        format!("{part}:{name}")
    })
}
