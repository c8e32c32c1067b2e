//! What a route changes in requests and answers, as TOML.

use super::{Page, braces, join, quote, quote_key};
use crate::config::route::{Respond, Route};
use crate::model::field::{FieldName, FieldValue};
use crate::route::PathPattern;
use crate::route::edits::Edits;
use crate::route::rewrite::{PathRewrite, QueryRewrite};
use crate::route::template::Template;

pub(super) fn show_respond(page: &mut Page, respond: &Respond) {
    let Respond { status, body, content_type, regex: _ } = respond;
    page.key(
        "respond",
        format_args!(
            "{{ status = {status}, body = {}, content_type = {} }}",
            written(body),
            quote(content_type.as_str())
        ),
    );
}

pub(super) fn show_edits(page: &mut Page, key: &str, edits: &Edits) {
    if edits.is_empty() {
        return;
    }
    let remove = join(edits.fixed.remove.iter().map(|name| quote(name.as_str())));
    let rename = edits.rename.iter().map(|(from, to)| pair(from.as_str(), &quote(to.as_str())));
    let all = |fixed: &[(FieldName, FieldValue)], templates: &[(FieldName, Template)]| {
        // A brace that stands for itself is not to become a variable.
        let fixed = fixed.iter().map(|(name, value)| pair(name.as_str(), &quote(&escaped(value.as_str()))));
        let templates = templates.iter().map(|(name, value)| pair(name.as_str(), &written(value)));
        braces(fixed.chain(templates))
    };
    let (set, add) = (all(&edits.fixed.set, &edits.set), all(&edits.fixed.add, &edits.add));
    let rename = braces(rename);
    page.key(key, format_args!("{{ remove = [{remove}], rename = {rename}, set = {set}, add = {add} }}"));
}

pub(super) fn show_rewrite(page: &mut Page, route: &Route) {
    let Some(rewrite) = &route.rewrite else { return };
    let mut keys = Vec::new();
    // The route's own goes without saying.
    let own = rewrite
        .regex
        .as_ref()
        .filter(|own| !matches!(&route.rule.path, PathPattern::Regex(regex) if regex == *own));
    keys.extend(own.map(|regex| pair("path_regex", &quote(regex.as_str()))));
    match &rewrite.path {
        Some(PathRewrite::Prefix { with, .. }) => keys.push(pair("path_prefix", &quote(with))),
        Some(PathRewrite::Whole(path)) => keys.push(pair("path", &written(path))),
        None => {}
    }
    keys.extend(rewrite.host.as_ref().map(|host| pair("host", &written(host))));
    match &rewrite.query {
        Some(QueryRewrite::Whole(query)) => keys.push(pair("query", &written(query))),
        Some(QueryRewrite::Parameters { remove, set }) => {
            let set = braces(set.iter().map(|(name, value)| pair(name, &written(value))));
            let remove = join(remove.iter().map(|name| quote(name)));
            keys.push(format!("query = {{ set = {set}, remove = [{remove}] }}"));
        }
        None => {}
    }
    page.key("rewrite", braces(keys.into_iter()));
}

fn pair(key: &str, value: &str) -> String {
    format!("{} = {value}", quote_key(key))
}

/// A template as it was written.
fn written(template: &Template) -> String {
    quote(template.as_written())
}

/// A text of which no part is a variable, as a template.
fn escaped(text: &str) -> String {
    if Template::parse(text).is_ok_and(|template| template.as_static() == Some(text)) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut open = 0_usize;
    for c in text.chars() {
        out.push(c);
        // One that closes nothing stands for itself.
        if c == '{' || (c == '}' && open > 0) {
            out.push(c);
            open = if c == '{' { open + 1 } else { open - 1 };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_template_is_shown_as_one_that_says_the_same() {
        for text in ["plain", "{host}", "}{host}", "{\"a\":{}}", "{{host}}", "{a}}b", "{", "{client"] {
            let read = Template::parse(&escaped(text)).expect("a template");
            assert_eq!(read.as_static(), Some(text), "{}", escaped(text));
        }
    }
}
