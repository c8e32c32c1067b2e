//! `headers`: fields that are set and removed, CORS, and what browsers are told for safety.

use super::super::document::Value;
use super::super::field::{FRAMES, TOLD};
use super::super::report::{Place, Report, Verdict};
use super::fields::Fields;
use super::middleware::{Around, known};
use super::said::duration;
use super::service::Lost;
use super::treatment::{Treatment, plain};
use crate::model::field::is_framing;
use crate::model::field::{FieldName, FieldValue};

pub(super) fn read(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let at = fields.at;
    cors(&mut fields, around, to);
    request(&mut fields, around, to);
    answer(&mut fields, around, to);
    let lost = safety(&mut fields, around, to);
    let old = ["sslRedirect", "sslTemporaryRedirect", "sslHost", "sslForceHost", "featurePolicy"];
    let text = "Traefik 3 does nothing with it: redirect by redirectScheme";
    fields.each(Verdict::WrongInSource, &old, text, around.report);
    known(fields, around.report)?;
    around.report.translated(at);
    lost.map_or(Ok(()), Err)
}

/// Why a field cannot be named; nothing when it can.
fn unnamed(name: &str, report: &mut Report, at: Place) -> bool {
    if is_framing(name) {
        report.ignored(at, FRAMES);
        return true;
    }
    if FieldName::new(name).is_err() {
        report.wrong(at, format!("`{name}` is no name of a field"));
        return true;
    }
    false
}

fn request(fields: &mut Fields<'_>, around: &mut Around<'_, '_>, to: &mut Treatment) {
    let report = &mut *around.report;
    let Some((list, at)) = fields.pairs("customRequestHeaders", report) else { return };
    report.translated(at);
    for (key, value) in list {
        let (name, at) = (key.text.to_ascii_lowercase(), key.at);
        if name == "host" {
            let is_host =
                !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && !"/?#@".contains(c));
            if is_host {
                to.host = Some((plain(&value), at));
                report.translated(at);
            } else {
                report.wrong(at, "that is no host");
            }
        } else if unnamed(&name, report, at) {
        } else if TOLD.contains(&name.as_str()) {
            let text = "it is always sent, as the connection has it or a trusted proxy said, and has no other value: forwarded = \"off\" in the listener sends no X-Forwarded field";
            report.not_possible(at, text);
        } else if value.is_empty() {
            to.request.remove(&name, at);
            report.translated(at);
        } else if FieldValue::new(&value).is_err() {
            report.wrong(at, "the value of a field has no line breaks and the like");
        } else {
            to.request.set(&name, plain(&value), at);
            report.translated(at);
        }
    }
}

fn answer(fields: &mut Fields<'_>, around: &mut Around<'_, '_>, to: &mut Treatment) {
    let report = &mut *around.report;
    let Some((list, at)) = fields.pairs("customResponseHeaders", report) else { return };
    report.translated(at);
    for (key, value) in list {
        let (name, at) = (key.text.to_ascii_lowercase(), key.at);
        if unnamed(&name, report, at) {
        } else if name == "host" {
            report.wrong(at, "an answer has no Host");
        } else if value.is_empty() {
            to.answer.remove_unless_said(&name, at);
            report.translated(at);
        } else if FieldValue::new(&value).is_err() {
            report.wrong(at, "the value of a field has no line breaks and the like");
        } else {
            to.answer.set_unless_said(&name, plain(&value), at);
            report.translated(at);
        }
    }
}

/// A list whose every line is translated.
fn list(fields: &mut Fields<'_>, name: &str, report: &mut Report) -> Vec<String> {
    let Some((list, at)) = fields.texts(name, report) else { return Vec::new() };
    report.translated(at);
    list.iter().for_each(|(_, at)| report.translated(*at));
    list.into_iter().map(|(text, _)| text).filter(|text| !text.is_empty()).collect()
}

fn cors(fields: &mut Fields<'_>, around: &mut Around<'_, '_>, to: &mut Treatment) {
    let report = &mut *around.report;
    let at = fields.at;
    let origins = list(fields, "accessControlAllowOriginList", report);
    let patterns = fields.texts("accessControlAllowOriginListRegex", report);
    let methods = list(fields, "accessControlAllowMethods", report);
    let allowed = list(fields, "accessControlAllowHeaders", report);
    let expose = list(fields, "accessControlExposeHeaders", report);
    let credentials = fields.flag("accessControlAllowCredentials", report);
    let age = fields.number("accessControlMaxAge", report);
    let vary = fields.flag("addVaryHeader", report);
    for place in [credentials.map(|c| c.1), age.map(|a| a.1), vary.map(|v| v.1)].into_iter().flatten() {
        report.translated(place);
    }
    if let Some((list, at)) = patterns {
        let text =
            "origins are written out: each in accessControlAllowOriginList, of which no pattern is made";
        report.not_possible(at, text);
        list.iter().for_each(|(_, at)| report.not_possible(*at, text));
    }
    let credentials = credentials.is_some_and(|(yes, _)| yes);
    if origins.is_empty() {
        if !(methods.is_empty() && allowed.is_empty() && expose.is_empty()) || credentials {
            report.approximated(
                at,
                "without an origin that is allowed nothing is said to scripts of other origins",
            );
        }
        return;
    }
    if credentials && origins.iter().any(|origin| origin == "*") {
        report.not_possible(
            at,
            "with credentials every origin would be let in: write the origins out in `cors` of the routes",
        );
        return;
    }
    report.approximated(at, "a preflight gets 204, not 200; of an origin that is not allowed it is told nothing, else of methods and fields that are allowed");
    let mut pairs = vec![("origins", Value::texts(origins))];
    let methods: Vec<String> = methods.into_iter().map(|method| method.to_uppercase()).collect();
    let star = |list: &[String]| list.iter().any(|one| one == "*");
    if star(&methods) {
        pairs.push(("methods", Value::texts(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])));
    } else if !methods.is_empty() {
        pairs.push(("methods", Value::texts(methods)));
    }
    let lower =
        |list: Vec<String>| list.into_iter().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>();
    if star(&allowed) {
        pairs.push(("headers", Value::texts(["*"])));
    } else if !allowed.is_empty() {
        pairs.push(("headers", Value::texts(lower(allowed))));
    }
    if !expose.is_empty() && !star(&expose) {
        pairs.push(("expose", Value::texts(lower(expose))));
    }
    if credentials {
        pairs.push(("credentials", Value::Bool(true)));
    }
    if let Some((seconds, _)) = age.filter(|(seconds, _)| *seconds > 0) {
        pairs.push(("max_age", duration(seconds.saturating_mul(1000))));
    }
    to.first("cors", Value::inline(pairs), at);
}

/// Options that set one field to a fixed value.
const FIXED: [(&str, &str, &str); 3] = [
    ("frameDeny", "x-frame-options", "DENY"),
    ("contentTypeNosniff", "x-content-type-options", "nosniff"),
    ("browserXssFilter", "x-xss-protection", "1; mode=block"),
];

/// Options that are the value of a field.
const VALUES: [(&str, &str); 7] = [
    ("customFrameOptionsValue", "x-frame-options"),
    ("customBrowserXSSValue", "x-xss-protection"),
    ("contentSecurityPolicy", "content-security-policy"),
    ("contentSecurityPolicyReportOnly", "content-security-policy-report-only"),
    ("publicKey", "public-key-pins"),
    ("referrerPolicy", "referrer-policy"),
    ("permissionsPolicy", "permissions-policy"),
];

/// What browsers are told. Returns what cannot be said, where that would let somebody in.
fn safety(fields: &mut Fields<'_>, around: &mut Around<'_, '_>, to: &mut Treatment) -> Option<Lost> {
    let report = &mut *around.report;
    let development = fields.flag("isDevelopment", report);
    if let Some((_, at)) = development {
        report.translated(at);
    }
    let development = development.is_some_and(|(yes, _)| yes);
    for (option, name, value) in FIXED {
        if let Some((yes, at)) = fields.flag(option, report) {
            report.translated(at);
            if yes {
                to.answer.set_unless_said(name, value.to_owned(), at);
            }
        }
    }
    for (option, name) in VALUES {
        if let Some((value, at)) = fields.text(option, report).filter(|(value, _)| !value.is_empty()) {
            if FieldValue::new(&value).is_err() {
                report.wrong(at, "the value of a field has no line breaks and the like");
            } else {
                report.translated(at);
                to.answer.set_unless_said(name, plain(&value), at);
            }
        }
    }
    hsts(fields, development, around, to);
    let report = &mut *around.report;
    let text =
        "the host is the request's, or what a trusted proxy says in X-Forwarded-Host is no matter to routes";
    if let Some((list, at)) = fields.texts("hostsProxyHeaders", report) {
        report.ignored(at, text);
        list.iter().for_each(|(_, at)| report.ignored(*at, text));
    }
    if let Some((list, at)) = fields.pairs("sslProxyHeaders", report) {
        let text = "it matters to options that Traefik 3 no longer has";
        report.ignored(at, text);
        list.iter().for_each(|(key, _)| report.ignored(key.at, text));
    }
    let hosts = list(fields, "allowedHosts", report);
    if hosts.is_empty() || development {
        return None;
    }
    let all = around.hosts.as_ref().is_some_and(|own| {
        own.iter().all(|host| hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)))
    });
    (!all).then(|| Lost::Unsaid("which hosts are allowed is the rule's to say here (Host)".to_owned()))
}

fn hsts(fields: &mut Fields<'_>, development: bool, around: &mut Around<'_, '_>, to: &mut Treatment) {
    let report = &mut *around.report;
    let seconds = fields.number("stsSeconds", report);
    let (below, preload) = (fields.flag("stsIncludeSubdomains", report), fields.flag("stsPreload", report));
    let forced = fields.flag("forceSTSHeader", report);
    for place in [seconds.map(|s| s.1), below.map(|b| b.1), preload.map(|p| p.1), forced.map(|f| f.1)] {
        place.into_iter().for_each(|place| report.translated(place));
    }
    let is = |flag: Option<(bool, Place)>| flag.is_some_and(|(yes, _)| yes);
    let Some((seconds, at)) = seconds.filter(|(seconds, _)| *seconds > 0 && !development) else { return };
    if !around.door.tls && !is(forced) {
        return;
    }
    let mut value = format!("max-age={seconds}");
    if is(below) {
        value.push_str("; includeSubDomains");
    }
    if is(preload) {
        value.push_str("; preload");
    }
    to.answer.set_unless_said("strict-transport-security", value, at);
}
