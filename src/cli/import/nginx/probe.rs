//! `health_check` and `match`, which NGINX Plus has, as probes of a pool.

use super::super::document::{Table, Value};
use super::catalogue::MATCH;
use super::notes::Notes;
use super::scope::{Level, Scope};
use super::tree::Directive;
use super::units::{duration, time};
use super::upstream::Upstream;
use super::walk::Ground;

/// Options of `health_check` that need nothing here, and why.
const NEEDLESS: [(&str, &str); 4] = [
    ("mandatory", "an endpoint is used once its first probe is good"),
    ("persistent", "what is known of endpoints outlives reloads and upgrades"),
    ("keepalive_time", "each probe has a connection of its own"),
    ("udp", ""),
];

/// Writes the probes of a pool.
pub(super) fn write(
    checks: &[(&Directive, Scope<'_>, String)],
    upstream: Option<&Upstream<'_>>,
    ground: &Ground<'_>,
    table: &mut Table,
    notes: &mut Notes<'_>,
) {
    let Some((of, scope, location)) = checks.first() else { return };
    for (other, ..) in checks.iter().skip(1) {
        notes.cannot(other, "a pool has one kind of probe: that of the first health_check");
    }
    if let Some(upstream) = upstream.filter(|upstream| upstream.level.first("zone").is_none()) {
        notes.wrong(of, format!("upstream {} has no zone, which health_check needs: NGINX Plus rejects the file, and nginx without Plus has no health_check", upstream.name));
    }
    let option = |name: &str| of.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let has = |name: &str| of.words.iter().any(|word| word == name);
    let at = Some(of.at);
    let tcp = location.is_empty();
    let kind = match option("type") {
        Some("grpc") => "grpc",
        _ if has("udp") => "udp",
        _ if tcp => "tcp",
        _ => "http",
    };
    table.set("health.check", Value::text(kind), at);
    if kind == "http" {
        let uri = option("uri").unwrap_or("/");
        if option("uri").is_none() && !location.is_empty() && location != "/" {
            notes.wrong(of, format!("probes ask for / and not for {location}: uri={location} is missing"));
        }
        table.set("health.path", Value::text(uri), at);
        table.set("health.expect_status", Value::texts(["200-399"]), at);
    }
    if let Some(service) = option("grpc_service").filter(|_| kind == "grpc") {
        table.set("health.service", Value::text(service), at);
    }
    if let Some(port) = option("port").and_then(|port| port.parse::<i64>().ok()) {
        table.set("health.port", Value::Integer(port), at);
    }
    let interval = option("interval").map_or(Some(std::time::Duration::from_secs(5)), time);
    match interval {
        Some(interval) => table.set("health.interval", duration(interval), at),
        None => notes.wrong(of, "interval has a time: it is rejected"),
    }
    for (name, key) in [("passes", "health.rise"), ("fails", "health.fall")] {
        let number = option(name)
            .map_or(Some(1), |text| text.parse::<i64>().ok().filter(|number| (1..=1000).contains(number)));
        match number {
            Some(number) => table.set(key, Value::Integer(number), at),
            None => notes.wrong(of, format!("{name} has a number: it is rejected")),
        }
    }
    for (_, why) in
        NEEDLESS.iter().filter(|(name, why)| !why.is_empty() && (has(name) || option(name).is_some()))
    {
        notes.how(of, *why);
    }
    if let Some(jitter) = option("jitter") {
        notes.near(of, format!("jitter={jitter}: intervals here vary by a tenth (jitter = 0.1)"));
    }
    times(scope, table, notes);
    if let Some(name) = option("match") {
        expected(name, ground, of, kind, table, notes);
    }
    notes.how(of, "after the first bad probe the next comes 500 ms later (fast_interval)");
}

/// The limits of the location, which are those of its probes.
fn times(scope: &Scope<'_>, table: &mut Table, notes: &mut Notes<'_>) {
    let read = scope.find("health_check_timeout").or_else(|| scope.find("proxy_read_timeout"));
    if let Some(of) = read
        && let Some(time) = time(of.word(0))
    {
        notes.ok(of);
        table.set("health.timeout", duration(time), Some(of.at));
    }
}

/// A `match` block: what a good answer is.
fn expected(
    name: &str,
    ground: &Ground<'_>,
    of: &Directive,
    kind: &str,
    table: &mut Table,
    notes: &mut Notes<'_>,
) {
    let Some(block) = ground.matches.iter().find(|block| block.word(0) == name) else {
        return notes.wrong(of, format!("there is no match {name}: it is rejected"));
    };
    notes.ok(block);
    let level = Level::new(MATCH, block.inside());
    for one in level.list {
        match (one.name.as_str(), one.words.as_slice()) {
            ("status", [sign, ..]) if sign == "!" => {
                let wrong: Vec<(u16, u16)> = one.from(1).iter().filter_map(|text| range(text)).collect();
                let good = others(wrong);
                if good.is_empty() {
                    notes.cannot(
                        one,
                        "no status is left that is good: write expect_status of the pool's health",
                    );
                } else {
                    notes.ok(one);
                    table.set("health.expect_status", Value::texts(good), Some(one.at));
                }
            }
            ("status", statuses) if kind == "http" && statuses.iter().all(|text| range(text).is_some()) => {
                notes.ok(one);
                table.set("health.expect_status", Value::texts(statuses.to_vec()), Some(one.at));
            }
            ("body", [sign, regex]) if sign == "~" && kind == "http" => {
                notes.ok(one);
                table.set("health.expect_body", Value::text(regex), Some(one.at));
            }
            ("send", [text]) if kind != "http" => {
                notes.ok(one);
                table.set("health.send", Value::text(unescaped(text)), Some(one.at));
            }
            ("expect", [sign, regex]) if sign == "~" && kind != "http" => {
                notes.ok(one);
                table.set("health.expect", Value::inline([("regex", Value::text(regex))]), Some(one.at));
            }
            ("expect", [text]) if kind != "http" => {
                notes.ok(one);
                table.set("health.expect", Value::text(unescaped(text)), Some(one.at));
            }
            ("header", _) => notes.cannot(
                one,
                "a probe looks at the status and the body of an answer (expect_status, expect_body)",
            ),
            _ => notes.cannot(
                one,
                "a probe looks at the status and the body of an answer, or at the first bytes (expect)",
            ),
        }
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (100 <= first && first <= last && last <= 599).then_some((first, last))
}

/// The statuses that are in none of these ranges.
fn others(mut ranges: Vec<(u16, u16)>) -> Vec<String> {
    ranges.sort_unstable();
    let (mut out, mut next) = (Vec::new(), 100);
    for (first, last) in ranges.into_iter().chain([(600, 600)]) {
        if next < first {
            let end = first - 1;
            out.push(if next == end { next.to_string() } else { format!("{next}-{end}") });
        }
        next = next.max(last + 1);
    }
    out
}

/// `\xNN` and `\n` as nginx reads them in `send` and `expect`.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("\\x") {
        out.push_str(before);
        let code = behind.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) => {
                out.push(char::from(byte));
                rest = behind.get(2..).unwrap_or("");
            }
            None => {
                out.push_str("\\x");
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_are_not_others_are_the_rest() {
        assert_eq!(others(vec![(500, 599)]), ["100-499"]);
        assert_eq!(others(vec![(200, 200), (202, 599)]), ["100-199", "201"]);
        assert_eq!(unescaped("a\\x0d\\x0a\\xzz"), "a\r\n\\xzz");
    }
}
