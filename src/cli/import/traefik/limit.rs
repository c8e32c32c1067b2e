//! Middlewares about how much and how often: limits, retries, breakers, compression.

use super::super::document::{Table, Value};
use super::super::report::{Place, Report, Verdict};
use super::auth::{self, Strategy, Who};
use super::fields::Fields;
use super::middleware::{Around, known};
use super::said::{duration, plain_name, size};
use super::service::Lost;
use super::treatment::{Answer, Treatment};
use crate::model::field::FieldName;

/// `sourceCriterion`: the key that requests are counted by.
fn key(criterion: Option<Fields<'_>>, default: &str, around: &mut Around<'_, '_>) -> Result<String, Lost> {
    let Some(mut fields) = criterion else { return own(default, around) };
    let at = fields.at;
    let strategy = fields.table("ipStrategy", around.report);
    let header = fields.text("requestHeaderName", around.report).filter(|(name, _)| !name.is_empty());
    let host = fields.flag("requestHost", around.report);
    let strategy = strategy.map(|below| auth::source(below, around)).transpose()?;
    known(fields, around.report)?;
    around.report.translated(at);
    for place in [header.as_ref().map(|h| h.1), host.map(|h| h.1)].into_iter().flatten() {
        around.report.translated(place);
    }
    let host = host.is_some_and(|(yes, _)| yes);
    match (strategy, header, host) {
        (None, None, false) => own(default, around),
        (Some(strategy), None, false) => by_source(strategy, at, around),
        (None, Some((name, at)), false) => {
            if FieldName::new(&name).is_err() {
                return Err(Lost::Unsaid(format!("`{name}` is no name of a field")));
            }
            around.report.approximated(
                at,
                "requests without this field are not limited; Traefik counts them together",
            );
            Ok(format!("header:{}", name.to_ascii_lowercase()))
        }
        (None, None, true) => Ok("host".to_owned()),
        _ => Err(Lost::Refused("it names several sources".to_owned())),
    }
}

fn own(default: &str, around: &mut Around<'_, '_>) -> Result<String, Lost> {
    if default == "source" {
        let at = around.at;
        return by_source(Strategy::Peer, at, around);
    }
    Ok(default.to_owned())
}

fn by_source(strategy: Strategy, at: Place, around: &mut Around<'_, '_>) -> Result<String, Lost> {
    match auth::who(strategy, at, around) {
        Who::Client => Ok("source".to_owned()),
        // All are counted as one.
        Who::Nobody => Ok("global".to_owned()),
        Who::Unsaid(why) => Err(Lost::Unsaid(why)),
    }
}

/// The name of a limit: Traefik counts for each router and middleware.
fn name(around: &Around<'_, '_>) -> Value {
    Value::text(plain_name(&format!("{}-{}", around.router, around.middleware)))
}

pub(super) fn rate(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let at = fields.at;
    let average = fields.number("average", around.report);
    let period = fields.time("period", around.report);
    let burst = fields.number("burst", around.report);
    let criterion = fields.table("sourceCriterion", around.report);
    let redis = "counts are this node's: of several nodes each lets its share through";
    fields.each(Verdict::NotPossible, &["redis"], redis, around.report);
    for place in [average.map(|a| a.1), period.map(|p| p.1), burst.map(|b| b.1)].into_iter().flatten() {
        around.report.translated(place);
    }
    let (average, of_average) = average.unwrap_or((0, at));
    if average <= 0 {
        around.report.wrong(of_average, "an average of 0 is no limit at all");
        if let Some(mut criterion) = criterion {
            let text = "nothing is counted";
            around.report.ignored(criterion.at, text);
            criterion.each_rest(Verdict::Ignored, text, around.report);
        }
        return known(fields, around.report);
    }
    let key = key(criterion, "source", around)?;
    known(fields, around.report)?;
    let period = match period {
        Some((time, _)) if time < 0 => return Err(Lost::Refused("its period is negative".to_owned())),
        Some((time, _)) if time > 0 => time,
        _ => 1000,
    };
    let Some((rate, exact)) = per(average, period) else {
        return Err(Lost::Unsaid("a rate is at least one in an hour".to_owned()));
    };
    if !exact {
        around.report.approximated(of_average, format!("the rate is {rate}"));
    }
    let burst = burst.map_or(1, |(burst, _)| burst).clamp(1, 1_000_000);
    let mut pairs = vec![("name", name(around))];
    if key != "source" {
        pairs.push(("key", Value::text(key)));
    }
    pairs.push(("rate", Value::text(rate)));
    if burst > 1 {
        pairs.push(("burst", Value::Integer(burst - 1)));
    }
    to.limits.push(("rate_limit", Value::inline(pairs), at));
    Ok(())
}

/// So many in so many milliseconds as a rate, and whether it is exactly that.
fn per(count: i64, millis: i64) -> Option<(String, bool)> {
    for (unit, length) in [("s", 1_000_i64), ("m", 60_000), ("h", 3_600_000)] {
        let all = i128::from(count) * i128::from(length);
        if all % i128::from(millis) == 0 && all >= i128::from(millis) {
            let number = all / i128::from(millis);
            return u32::try_from(number).ok().map(|number| (format!("{number}/{unit}"), true));
        }
    }
    let number = i128::from(count) * 3_600_000 / i128::from(millis);
    u32::try_from(number).ok().filter(|number| *number > 0).map(|number| (format!("{number}/h"), false))
}

pub(super) fn in_flight(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let at = fields.at;
    let amount = fields.number("amount", around.report);
    let criterion = fields.table("sourceCriterion", around.report);
    let key = key(criterion, "host", around)?;
    known(fields, around.report)?;
    let (amount, of_amount) = amount.unwrap_or((0, at));
    around.report.translated(of_amount);
    if amount <= 0 {
        around.report.wrong(of_amount, "an amount of 0 lets nobody in");
        to.end = Some(Answer::Respond { status: 429, body: String::new(), at: Some(of_amount) });
        return Ok(());
    }
    let mut pairs = vec![("name", name(around))];
    if key != "source" {
        pairs.push(("key", Value::text(key)));
    }
    pairs.push(("max", Value::Integer(amount.min(1_000_000))));
    to.limits.push(("concurrency_limit", Value::inline(pairs), at));
    Ok(())
}

pub(super) fn retry(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let at = fields.at;
    let report = &mut *around.report;
    let attempts = fields.number("attempts", report);
    let status = fields.texts("status", report);
    let no_network = fields.flag("disableRetryOnNetworkError", report);
    let all_methods = fields.flag("retryNonIdempotentMethod", report);
    let body = fields.number("maxRequestBodyBytes", report);
    let timeout = fields.time("timeout", report);
    fields.each(
        Verdict::Approximated,
        &["initialInterval"],
        "another endpoint is tried at once: there is nothing to wait for",
        report,
    );
    known(fields, report)?;
    let (attempts, of_attempts) = attempts.unwrap_or((0, at));
    if attempts <= 0 {
        return Err(Lost::Refused(format!("attempts is {attempts}")));
    }
    report
        .approximated(of_attempts, "each try goes to another endpoint, within the pool's budget of retries");
    let mut on: Vec<String> = Vec::new();
    if no_network.is_some_and(|(yes, _)| yes) {
        if status.as_ref().is_none_or(|(list, _)| list.is_empty()) {
            return Err(Lost::Refused("it tries nothing again".to_owned()));
        }
    } else {
        // Only what no server has seen anything of.
        on.push("connect".to_owned());
    }
    for place in [no_network.map(|n| n.1), all_methods.map(|m| m.1), body.map(|b| b.1), timeout.map(|t| t.1)]
    {
        place.into_iter().for_each(|place| report.translated(place));
    }
    if let Some((list, at)) = status {
        report.translated(at);
        for (range, at) in list {
            report.translated(at);
            on.push(range);
        }
    }
    let mut pairs = vec![("attempts", Value::Integer(attempts.clamp(1, 100))), ("on", Value::texts(on))];
    if let Some((time, _)) = timeout.filter(|(time, _)| *time > 0) {
        pairs.push(("within", duration(time)));
    }
    if all_methods.is_some_and(|(yes, _)| yes) {
        pairs.push(("non_idempotent", Value::Bool(true)));
    }
    if let Some((bytes, _)) = body.filter(|(bytes, _)| *bytes > 0) {
        pairs.push(("max_body", Value::text(size(bytes.min(16 << 20)))));
    }
    to.key("retry", Value::inline(pairs), at);
    Ok(())
}

pub(super) fn breaker(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let at = fields.at;
    let report = &mut *around.report;
    let expression = fields.text("expression", report);
    let fallback = fields.time("fallbackDuration", report);
    let check = fields.time("checkPeriod", report);
    let recovery = fields.time("recoveryDuration", report);
    let code = fields.number("responseCode", report);
    known(fields, report)?;
    let Some((expression, of_expression)) = expression else {
        return Err(Lost::Refused("it has no expression".to_owned()));
    };
    for place in [fallback.map(|f| f.1)].into_iter().flatten() {
        report.translated(place);
    }
    for place in [check.map(|c| c.1), recovery.map(|r| r.1)].into_iter().flatten() {
        report.approximated(
            place,
            "the share is judged with each answer, and trials one by one close the breaker again",
        );
    }
    match code {
        Some((503, place)) => report.translated(place),
        Some((_, place)) => report.approximated(place, "while it is open requests get 503"),
        None => {}
    }
    let found = super::breaker::read(&expression).map_err(Lost::Refused)?;
    let mut table = Table::default();
    table.set("breaker.scope", Value::text("pool"), Some(at));
    match found {
        Some(found) => {
            if found.several {
                report.approximated(
                    of_expression,
                    "one share is judged, the lowest of all, of all that count as failures",
                );
            } else {
                report.translated(of_expression);
            }
            if found.lost {
                report.not_possible(of_expression, "times are not judged by a breaker: latency in outlier of the pool ejects endpoints that are slow");
            }
            table.set("breaker.failure_ratio", Value::Real(found.ratio), Some(of_expression));
            table.set("breaker.window", Value::text("10s"), Some(of_expression));
            table.set("breaker.count", Value::texts(found.count), Some(of_expression));
        }
        None => {
            report.not_possible(of_expression, "breakers go by the share of failures: latency in outlier of the pool ejects endpoints that are slow");
            return Ok(());
        }
    }
    table.set(
        "breaker.open_time",
        duration(fallback.map_or(10_000, |(time, _)| time)),
        fallback.map(|f| f.1).or(Some(at)),
    );
    report.approximated(at, "the breaker is the pool's, for all routes that lead there");
    to.breaker = Some((table, at));
    Ok(())
}

pub(super) fn compress(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let at = fields.at;
    let report = &mut *around.report;
    let encodings = fields.texts("encodings", report);
    let included = fields.texts("includedContentTypes", report);
    let excluded = fields.texts("excludedContentTypes", report);
    let least = fields.number("minResponseBodyBytes", report);
    fields.each(
        Verdict::Approximated,
        &["defaultEncoding"],
        "clients that do not say what they take get answers as they are",
        report,
    );
    known(fields, report)?;
    let mut pairs = Vec::new();
    if let Some((list, at)) = encodings {
        report.translated(at);
        let mut codings = Vec::new();
        for (coding, at) in list {
            if ["zstd", "br", "gzip"].contains(&coding.as_str()) {
                report.translated(at);
                codings.push(coding);
            } else {
                return Err(Lost::Refused(format!("there is no encoding {coding}")));
            }
        }
        if !codings.is_empty() {
            pairs.push(("codings", Value::texts(codings)));
        }
    }
    if let Some((list, at)) = included {
        report.translated(at);
        list.iter().for_each(|(_, at)| report.translated(*at));
        let types: Vec<String> = list.into_iter().map(|(one, _)| one).collect();
        if !types.is_empty() {
            pairs.push(("types", Value::texts(types)));
        }
    } else {
        report.approximated(at, "types that are worth it are compressed, as `types` of compress lists them: Traefik compresses all");
    }
    if let Some((list, at)) = excluded {
        let how = "types that are compressed are a list: leave this one out of `types`, where it is in it";
        report.approximated(at, how);
        super::said::items(at, &list, report);
    }
    if let Some((bytes, at)) = least {
        report.translated(at);
        pairs.push(("min_size", Value::text(size(bytes.clamp(1, 1 << 20)))));
    }
    to.key("compress", Value::inline(pairs), at);
    Ok(())
}

pub(super) fn buffering(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let at = fields.at;
    let report = &mut *around.report;
    let most = fields.number("maxRequestBodyBytes", report);
    let memory = fields.number("memRequestBodyBytes", report);
    let answers = fields.number("memResponseBodyBytes", report);
    let remedy = "answers have no largest size here";
    fields.each(Verdict::NotPossible, &["maxResponseBodyBytes"], remedy, report);
    let remedy = "write `retry` in the route, with the causes and statuses that are tried again";
    fields.each(Verdict::NotPossible, &["retryExpression"], remedy, report);
    let off = fields.flag("disableRequestBuffer", report);
    let off_answers = fields.flag("disableResponseBuffer", report);
    known(fields, report)?;
    for place in [off.map(|o| o.1), off_answers.map(|o| o.1)].into_iter().flatten() {
        report.translated(place);
    }
    if let Some((bytes, at)) = most {
        report.translated(at);
        if bytes > 0 {
            to.body(bytes, at);
        }
    }
    let ahead = "what is taken in ahead is held in memory, and the rest of a larger body streams";
    for (key, bytes, off) in [("buffer_request", memory, off), ("buffer_response", answers, off_answers)] {
        if off.is_some_and(|(yes, _)| yes) {
            if let Some((_, at)) = bytes {
                report.ignored(at, "nothing is buffered");
            }
            continue;
        }
        // Traefik's default.
        let (bytes, place) = bytes.unwrap_or((1 << 20, at));
        report.approximated(place, ahead);
        to.key(key, Value::text(size(bytes.clamp(1024, 1 << 20))), place);
    }
    Ok(())
}

/// Says what a breaker of a pool is about where other routes lead there too.
pub(super) fn shared(at: Place, pool: &str, report: &mut Report) {
    report.approximated(at, format!("routes without it lead to {pool} as well, and it holds for them too"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_said_in_the_smallest_unit_that_fits() {
        let of = |count, millis| per(count, millis);
        assert_eq!(of(100, 1000), Some(("100/s".to_owned(), true)));
        assert_eq!(of(6000, 60_000), Some(("100/s".to_owned(), true)));
        assert_eq!(of(10, 60_000), Some(("10/m".to_owned(), true)));
        assert_eq!(of(1, 7_200_000), None);
        assert_eq!(of(7, 11_000), Some(("2290/h".to_owned(), false)));
    }
}
