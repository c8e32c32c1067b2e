//! What a route changes in requests and answers: edits of heads, and rewriting of the target.

use super::diagnostic::Report;
use super::route::only_one;
use super::source::Span;
use super::value::Fields;
use crate::model::field::{FieldName, FieldValue};
use crate::model::host::split_authority;
use crate::route::edits::Edits;
use crate::route::rewrite::{PathRewrite, QueryRewrite, Rewrite};
use crate::route::template::Template;
use crate::route::{PathPattern, Pattern};

/// Reads a table of the keys `remove`, `rename`, `set` and `add`.
pub(super) fn read_edits(fields: Option<Fields>, report: &mut Report) -> Edits {
    let Some(fields) = fields else { return Edits::default() };
    let rename: Vec<(FieldName, FieldName, Span)> = fields.map("rename");
    let set: Vec<(FieldName, Template, Span)> = fields.map("set");
    let remove: Vec<(FieldName, Span)> = fields.list("remove");
    for (from, to, span) in &rename {
        let taken =
            |name: &FieldName, key: &'static str| format!("`{}` is in `{key}` as well", name.as_str());
        let clash = [from, to].into_iter().find_map(|name| {
            let removed = remove.iter().any(|(other, _)| other == name).then(|| taken(name, "remove"));
            removed.or_else(|| set.iter().any(|(other, ..)| other == name).then(|| taken(name, "set")))
        });
        let chained = rename.iter().any(|(_, other, _)| other == from);
        let clash = clash.or_else(|| {
            chained.then(|| format!("`{}` is what a field is renamed to as well", from.as_str()))
        });
        if let Some(message) = clash {
            report.error(*span, message, "keep one of the two");
        }
    }
    let mut edits = Edits::default();
    edits.fixed.remove = remove.into_iter().map(|(name, _)| name).collect();
    edits.rename = rename.into_iter().map(|(from, to, _)| (from, to)).collect();
    for (name, template, _) in set {
        match fixed(&template) {
            Some(value) => edits.fixed.set.push((name, value)),
            None => edits.set.push((name, template)),
        }
    }
    for (name, template, _) in fields.map::<FieldName, Template>("add") {
        match fixed(&template) {
            Some(value) => edits.fixed.add.push((name, value)),
            None => edits.add.push((name, template)),
        }
    }
    edits
}

fn fixed(template: &Template) -> Option<FieldValue> {
    FieldValue::new(template.as_static()?).ok()
}

/// Reads `rewrite`, and the `Host` that `request_headers` set, which is a part of the target too.
pub(super) fn read_rewrite(
    fields: &Fields,
    path: Option<&PathPattern>,
    report: &mut Report,
) -> Option<Rewrite> {
    let host = set_host(fields, report);
    let Some(rewrite) = fields.table("rewrite") else {
        return host.map(|(host, _)| Rewrite { host: Some(host), ..Rewrite::default() });
    };
    if rewrite.written.is_empty() || (rewrite.written.len() == 1 && rewrite.has("path_regex")) {
        let help =
            "write { path_prefix = \"/\" }, { path = \"/\" }, { host = \"...\" } or { query = \"...\" }";
        report.error(fields.span_of("rewrite"), "`rewrite` is empty", help);
        return None;
    }
    if let Some((_, span)) = &host {
        let beside = rewrite.written("host").or_else(|| rewrite.written("path_regex"));
        if let Some(field) = beside {
            let message = format!("`{}` cannot stand beside a Host that is set", field.name);
            let help = "write the host once, as rewrite.host";
            report.error_beside(field.key_span, message, ("the other is at", *span), help);
        }
    }
    let own: Option<Pattern> = rewrite.get("path_regex");
    let regex = own.clone().or_else(|| match path {
        Some(PathPattern::Regex(regex)) => Some(regex.clone()),
        _ => None,
    });
    let read = Reading { rewrite: &rewrite, regex: regex.as_ref(), report };
    let mut read = read.all(fields)?;
    if let (None, Some((host, _))) = (&read.host, host) {
        read.host = Some(host);
    }
    // The route's own is only asked again for its groups.
    read.regex = own.or_else(|| regex.filter(|_| read.has_groups()));
    Some(read)
}

/// The host that `request_headers = { set = { host = ".." } }` asks for.
fn set_host(fields: &Fields, report: &mut Report) -> Option<(Template, Span)> {
    let set: Vec<(FieldName, Template, Span)> = fields.table("request_headers")?.map("set");
    let (_, host, span) = set.into_iter().find(|(name, ..)| name.matches(b"host"))?;
    let is_host = |text: &str| split_authority(text.as_bytes()).is_some_and(|(host, _)| !host.is_empty());
    if host.as_static().is_some_and(|text| !is_host(text)) {
        report.error(
            span,
            "`host` must be a host, with or without a port",
            "write for example \"app.internal\"",
        );
    }
    Some((host, span))
}

struct Reading<'f, 'r> {
    rewrite: &'f Fields,
    regex: Option<&'f Pattern>,
    report: &'r mut Report,
}

impl Reading<'_, '_> {
    fn all(mut self, route: &Fields) -> Option<Rewrite> {
        let path = match only_one(self.rewrite, &["path_prefix", "path"], self.report) {
            None => None,
            Some(field) if field.name == "path" => Some(PathRewrite::Whole(self.template("path")?)),
            Some(field) => {
                let matched: Option<String> = route.get("path_prefix");
                if !route.has("path_prefix") {
                    let help =
                        "add path_prefix = \"/...\" to the route, or write rewrite = { path = \"/...\" }";
                    let message = "`rewrite.path_prefix` needs a route with `path_prefix`";
                    self.report.error(field.key_span, message, help);
                }
                let with: String = self.rewrite.get("path_prefix")?;
                let matched = matched?.trim_end_matches('/').into();
                Some(PathRewrite::Prefix { matched, with: with.into() })
            }
        };
        let host = match self.rewrite.has("host") {
            true => Some(self.template("host")?),
            false => None,
        };
        let query = match self.rewrite.table("query") {
            Some(query) => Some(self.query(&query)?),
            None => None,
        };
        Some(Rewrite { regex: None, path, host, query })
    }

    fn query(&mut self, query: &Fields) -> Option<QueryRewrite> {
        if let Some(field) = query.written.iter().find(|field| field.name != "all")
            && let Some(all) = query.written("all")
        {
            let message = format!("`{}` cannot stand beside `all`", field.name);
            self.report.error_beside(
                field.key_span,
                message,
                ("the other is at", all.key_span),
                "keep one of the two",
            );
        }
        if let Some(all) = query.get::<Template>("all") {
            return Some(QueryRewrite::Whole(self.with_groups(all, query.span_of("all"))?));
        }
        let mut set = Vec::new();
        for (name, template, span) in query.map::<String, Template>("set") {
            set.push((name.into(), self.with_groups(template, span)?));
        }
        let remove = query.plain_list::<String>("remove").into_iter().map(String::into).collect();
        Some(QueryRewrite::Parameters { remove, set })
    }

    fn template(&mut self, key: &str) -> Option<Template> {
        let template = self.rewrite.get(key)?;
        self.with_groups(template, self.rewrite.span_of(key))
    }

    fn with_groups(&mut self, template: Template, span: Span) -> Option<Template> {
        with_groups(template, self.regex, span, self.report)
    }
}

/// Finds the groups that a template puts in.
pub(super) fn with_groups(
    template: Template,
    regex: Option<&Pattern>,
    span: Span,
    report: &mut Report,
) -> Option<Template> {
    match template.with_groups_of(regex.map(|regex| &**regex)) {
        Ok(template) => Some(template),
        Err(error) => {
            let help = "write a group of path_regex: {1} is the first, {group:NAME} one with a name";
            report.error(span, error.to_string(), help);
            None
        }
    }
}
