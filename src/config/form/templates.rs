//! Texts with variables: which may be put in where, and what the text around them may hold.

use super::{Fault, Form};
use crate::config::suggest::nearest;
use crate::config::value::Value;
use crate::model::field::FieldValue;
use crate::route::template::{Template, TemplateError, Variable};

/// Reads a text with variables of this form.
pub(super) fn read(form: Form, text: &str) -> Result<Value, Fault> {
    let template = Template::parse(text).map_err(|error| explain(&error))?;
    if let Some((variable, why)) = template.variables().find_map(|v| Some((v, unknown_in(form, v)?))) {
        return Err(Fault::new(format!("{{{variable}}} {why}"), "take it out"));
    }
    match form {
        Form::Body => {}
        Form::RequestValue | Form::ResponseValue => {
            if template.texts().any(|text| FieldValue::new(text).is_err()) {
                let what = "a field value cannot contain control characters";
                return Err(Fault::new(what, "remove line breaks and other control characters"));
            }
        }
        Form::Location => url(&template, text, "write for example \"https://{host}{uri}\"", &[])?,
        Form::PathTemplate => path(&template, text)?,
        Form::HostTemplate => {
            url(&template, text, "write for example \"app.internal:8080\"", &['/', '?', '#', '@'])?;
        }
        _ => url(&template, " ", "", &['#'])?,
    }
    Ok(Value::Template(template))
}

/// Reads the name of a query parameter.
pub(super) fn parameter(text: &str) -> Result<Value, Fault> {
    let fits = |c: char| c.is_ascii_graphic() && !"&=#%+".contains(c);
    match text.chars().find(|&c| !fits(c)) {
        _ if text.is_empty() => Err(Fault::new("it is empty", "write the name of a parameter")),
        Some(c) => {
            Err(Fault::new(format!("it cannot contain {c:?}"), "write the name as it is when it is decoded"))
        }
        None => Ok(Value::Text(text.to_owned())),
    }
}

fn explain(error: &TemplateError) -> Fault {
    let help = match error {
        TemplateError::Unknown(name) => {
            let kind = name.split(':').next().unwrap_or_default();
            match nearest(kind, Variable::names()) {
                Some(near) => {
                    format!("did you mean {{{near}}}? The text {{{name}}} is written {{{{{name}}}}}")
                }
                None => {
                    let names: Vec<String> = Variable::names().map(|name| format!("{{{name}}}")).collect();
                    format!(
                        "possible are {}; the text {{{name}}} is written {{{{{name}}}}}",
                        names.join(", ")
                    )
                }
            }
        }
        TemplateError::NoName(kind) => format!("write for example {{{kind}:id}}"),
        TemplateError::NameToo(name) => format!("write {{{name}}}"),
    };
    Fault::new(error, help)
}

/// Why a variable has no value where a text of this form is put together.
fn unknown_in(form: Form, variable: &Variable) -> Option<&'static str> {
    let is_value = matches!(form, Form::RequestValue | Form::ResponseValue);
    match variable {
        Variable::Endpoint | Variable::Status if form != Form::ResponseValue => {
            Some("is known only once an endpoint has answered: in response_headers")
        }
        Variable::Pool if !is_value => {
            Some("is known only of requests on their way to a pool: in request_headers and response_headers")
        }
        Variable::Group(_) | Variable::NamedGroup(_) if is_value => {
            Some("is a group of a regular expression, which only rewrite, redirect and respond put in")
        }
        Variable::Query | Variable::MarkedQuery | Variable::Uri
            if matches!(form, Form::PathTemplate | Form::HostTemplate) =>
        {
            Some("has a query in it, which no path and no host has")
        }
        Variable::MarkedQuery if form == Form::QueryTemplate => {
            Some("begins with the question mark that stands before a query, not in it")
        }
        _ => None,
    }
}

/// What a part of a URL may hold beside its variables; `written` is the whole of it, which is not to be empty.
fn url(template: &Template, written: &str, help: &str, never: &[char]) -> Result<(), Fault> {
    if written.is_empty() {
        return Err(Fault::new("it is empty", help));
    }
    for c in template.texts().flat_map(str::chars) {
        if matches!(c, '{' | '}') {
            return Err(Fault::new(
                "a brace stands alone",
                "write a variable such as {host}; percent-encode other braces",
            ));
        }
        if !c.is_ascii_graphic() || never.contains(&c) {
            return Err(Fault::new(format!("it cannot contain {c:?}"), "percent-encode it"));
        }
    }
    Ok(())
}

fn path(template: &Template, written: &str) -> Result<(), Fault> {
    if template.start().is_some_and(|start| !start.starts_with('/')) {
        return Err(Fault::new("a path starts with '/'", format!("write {:?}", format!("/{written}"))));
    }
    if template.texts().any(|text| text.contains(['?', '#'])) {
        return Err(Fault::new("a path has no query or fragment", "write the query as rewrite.query"));
    }
    url(template, written, "write for example \"/\"", &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_template_is_told_with_a_remedy() {
        for (form, text, what, help) in [
            (Form::RequestValue, "{cleint}", "no variable {cleint}", "did you mean {client}?"),
            (Form::RequestValue, "{endpoint}", "{endpoint} is known only once", "take it out"),
            (Form::RequestValue, "a\nb", "control characters", "remove line breaks"),
            (Form::ResponseValue, "{1}", "{1} is a group", "take it out"),
            (Form::Location, "https://{host}{pool}", "{pool} is known only of requests", "take it out"),
            (Form::Location, "https://a/{", "a brace stands alone", "percent-encode"),
            (Form::Location, "https://a/ b", "cannot contain ' '", "percent-encode"),
            (Form::Location, "", "it is empty", "https://{host}{uri}"),
            (Form::Body, "{header}", "{header:NAME} needs a name", "write for example {header:id}"),
            (Form::Body, "{colour}", "no variable {colour}", "{{colour}}"),
            (Form::PathTemplate, "x/{path}", "a path starts with '/'", "write \"/x/{path}\""),
            (Form::PathTemplate, "/x?{query}", "{query} has a query in it", "take it out"),
            (Form::PathTemplate, "/x{?query}", "{?query} has a query in it", "take it out"),
            (Form::QueryTemplate, "a=b{?query}", "{?query} begins with the question mark", "take it out"),
            (Form::PathTemplate, "/x?a=b", "no query or fragment", "rewrite.query"),
            (Form::HostTemplate, "http://{host}", "cannot contain '/'", "percent-encode"),
            (Form::QueryTemplate, "a=#", "cannot contain '#'", "percent-encode"),
        ] {
            let fault = read(form, text).err();
            let fault = fault.unwrap_or_else(|| panic!("{text} is taken for a template"));
            assert!(fault.what.contains(what) && fault.write.contains(help), "{text}: {fault:?}");
        }
    }

    #[test]
    fn what_is_right_is_taken() {
        for (form, text) in [
            (Form::Location, "https://{hostname}/x{uri}"),
            (Form::Location, "/u/{1}/{group:id}"),
            (Form::Location, "https://{host}/x{?query}"),
            (Form::Body, "{\"a\":{\"b\":\"{client}\"}}\n"),
            (Form::ResponseValue, "{endpoint} {status} {pool}"),
            (Form::PathTemplate, "{path}/x"),
            (Form::QueryTemplate, ""),
            (Form::HostTemplate, "{header:x-tenant}.internal:81"),
        ] {
            assert!(read(form, text).is_ok(), "{text}");
        }
    }
}
