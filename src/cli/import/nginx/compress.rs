//! `gzip` and `brotli`.

use super::super::document::Value;
use super::draft::Draft;
use super::notes::Notes;
use super::scope::Scope;
use super::units::{bytes, size};

/// What needs nothing here, and why.
const OTHERS: [(&str, &str); 7] = [
    ("gzip_vary", "Vary is always said"),
    ("gzip_proxied", "who comes through other proxies gets compressed answers too, as Accept-Encoding asks"),
    ("gzip_disable", "browsers that say that they take gzip do"),
    ("gzip_http_version", "clients of HTTP/1.0 that say that they take gzip do"),
    ("gzip_buffers", "memory for it is bounded"),
    ("brotli_window", "memory for it is bounded"),
    ("brotli_buffers", "memory for it is bounded"),
];
/// Writes `compress` of a route.
pub(super) fn write(scope: &Scope<'_>, draft: &mut Draft, notes: &mut Notes<'_>) {
    let mut codings = Vec::new();
    let mut at = None;
    for (name, coding) in [("brotli", "br"), ("gzip", "gzip")] {
        let Some(of) = scope.find(name) else { continue };
        if of.word(0) == "on" {
            codings.push(coding);
            at = at.or(Some(of.at));
        }
        notes.ok(of);
    }
    let Some(first) = codings.first().copied() else { return };
    let start = if first == "br" { "brotli" } else { "gzip" };
    let mut pairs = vec![("codings", Value::texts(codings))];
    let mut types = vec!["text/html".to_owned()];
    if let Some(of) = scope.find(&format!("{start}_types")) {
        let fits =
            |kind: &&String| *kind != "text/html" && kind.contains('/') && !kind.contains(['*', ' ', '"']);
        types.extend(of.words.iter().filter(fits).cloned());
        if of.words.iter().any(|kind| kind == "*") {
            types = vec!["*/*".to_owned()];
        }
        notes.ok(of);
    }
    pairs.push(("types", Value::texts(types)));
    let least = scope.find(&format!("{start}_min_length"));
    if let Some(of) = least {
        notes.ok(of);
    }
    let least = least.and_then(|of| size(of.word(0))).unwrap_or(20);
    pairs.push(("min_size", Value::text(bytes(least, 0, 1 << 30))));
    pairs.push(("effort", Value::text(effort(scope, start, notes))));
    for name in [
        "gzip_types",
        "gzip_min_length",
        "gzip_comp_level",
        "brotli_types",
        "brotli_min_length",
        "brotli_comp_level",
    ] {
        if let Some(of) = scope.find(name).filter(|of| !notes.is_told(of)) {
            notes.near(of, format!("types, size and effort are one for all codings: those of {start}"));
        }
    }
    for (name, why) in OTHERS {
        if let Some(of) = scope.find(name) {
            notes.skip(of, why);
        }
    }
    draft.keys.push(("compress".to_owned(), Value::inline(pairs), at));
}

/// How hard it tries, of nginx's levels from 1 to 9 or 11.
fn effort(scope: &Scope<'_>, start: &str, notes: &mut Notes<'_>) -> &'static str {
    let Some(of) = scope.find(&format!("{start}_comp_level")) else { return "low" };
    notes.near(of, "the effort is low, medium or high");
    match of.word(0).parse().unwrap_or(1_u8) {
        0..=3 => "low",
        4..=6 => "medium",
        7.. => "high",
    }
}
