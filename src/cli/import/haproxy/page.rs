//! Pages in the place of errors: `errorfile`, `http-error` and sections `http-errors`.

use std::collections::BTreeMap;

use super::super::document::Value;
use super::super::report::Place;
use super::super::surroundings::Surroundings;
use super::said::{Said, approximated, ignored, not_possible, translated, wrong};
use super::section::Statement;

/// A page, and the line that it comes from.
pub(super) type Pages = BTreeMap<u16, (Value, Place)>;

/// Statuses that HAProxy has pages for (configuration manual, `errorfile`).
const STATUSES: [u16; 18] =
    [200, 400, 401, 403, 404, 405, 407, 408, 410, 413, 425, 429, 500, 501, 502, 503, 504, 414];

fn status(text: &str) -> Option<u16> {
    text.parse().ok().filter(|status| STATUSES.contains(status))
}

/// `errorfile CODE FILE`: a whole answer, of which the body is a page.
pub(super) fn error_file(statement: &Statement, around: Surroundings<'_>, pages: &mut Pages) -> Said {
    let (code, file) = (statement.word(1), statement.word(2));
    match status(code) {
        Some(code) if !file.is_empty() => add(code, file, statement.at, around, pages),
        _ => wrong("HAProxy has no page for this status"),
    }
}

fn add(code: u16, file: &str, at: Place, around: Surroundings<'_>, pages: &mut Pages) -> Said {
    if file == "/dev/null" {
        return approximated("the connection is closed without an answer there; here the short text is sent");
    }
    if code < 400 {
        return ignored("it is no error");
    }
    if let Some(text) = (around.read)(std::path::Path::new(file))
        && !text.starts_with("HTTP/")
    {
        return wrong("the file is no HTTP answer with its head: HAProxy rejects it");
    }
    let page = page_name(file);
    let said = approximated(format!(
        "HAProxy's file is a whole answer, and ours is its body: sed '1,/^\\r*$/d' {file} > {page}"
    ));
    pages.insert(code, (Value::inline([("file", Value::text(page))]), at));
    said
}

/// `503.http` is beside `503.html`.
fn page_name(file: &str) -> String {
    let stem = file.strip_suffix(".http").or_else(|| file.strip_suffix(".html")).unwrap_or(file);
    if file.ends_with(".html") { format!("{stem}.body.html") } else { format!("{stem}.html") }
}

/// `errorfiles NAME [CODE..]`.
pub(super) fn error_files(
    statement: &Statement,
    sections: &BTreeMap<String, Vec<Statement>>,
    around: Surroundings<'_>,
    pages: &mut Pages,
) -> Said {
    let Some(lines) = sections.get(statement.word(1)) else {
        return wrong("there is no section http-errors of that name: HAProxy rejects the file");
    };
    for line in lines {
        let wanted = statement.from(2);
        if wanted.is_empty() || wanted.iter().any(|code| code == line.word(1)) {
            error_file(line, around, pages);
        }
    }
    translated()
}

/// `http-error status CODE [content-type TYPE] file FILE`.
pub(super) fn http_error(statement: &Statement, around: Surroundings<'_>, pages: &mut Pages) -> Said {
    let behind = |name: &str| {
        let at = statement.words.iter().position(|word| word == name)?;
        Some(statement.word(at + 1)).filter(|word| !word.is_empty())
    };
    let Some(code) = behind("status").and_then(status) else {
        return wrong("HAProxy has no page for this status");
    };
    if let Some(file) = behind("errorfile") {
        return add(code, file, statement.at, around, pages);
    }
    let Some(file) = behind("file") else {
        return not_possible("an error page is a file: write the text into one, and name it in error_pages");
    };
    if code < 400 {
        return ignored("it is no error");
    }
    let mut pairs = vec![("file", Value::text(file))];
    if let Some(kind) = behind("content-type") {
        if crate::model::field::FieldValue::new(kind).is_err() {
            return wrong("that is no content type");
        }
        pairs.push(("content_type", Value::text(kind)));
    }
    pages.insert(code, (Value::inline(pairs), statement.at));
    if statement.words.iter().any(|word| word == "hdr") {
        return approximated("a page has no fields of its own: response_headers of the route");
    }
    translated()
}

/// The pages as `error_pages`; statuses of one file are one entry where they are a range.
#[must_use]
pub(super) fn value(pages: &Pages) -> Option<(Value, Place)> {
    let (_, at) = pages.values().next()?;
    Some((Value::inline(pages.iter().map(|(code, (page, _))| (code.to_string(), page.clone()))), *at))
}

#[cfg(test)]
mod tests {
    use super::super::super::report::Verdict;
    use super::*;

    #[test]
    fn an_answer_on_disk_is_a_page_beside_it() {
        let line = |text: &str| Statement {
            at: Place { file: 0, line: 1 },
            words: text.split(' ').map(str::to_owned).collect(),
        };
        let around = Surroundings {
            environment: &|_| None,
            read: &|path| (path == std::path::Path::new("wrong.http")).then(|| "<html>".to_owned()),
            list: &|_| None,
        };
        let mut pages = Pages::new();
        assert_eq!(
            error_file(&line("errorfile 503 /e/503.http"), around, &mut pages).0,
            Verdict::Approximated
        );
        assert_eq!(
            error_file(&line("errorfile 503 wrong.http"), around, &mut pages).0,
            Verdict::WrongInSource
        );
        assert_eq!(error_file(&line("errorfile 999 x"), around, &mut pages).0, Verdict::WrongInSource);
        let page = Value::inline([("file", Value::text("/e/503.html"))]);
        assert_eq!(value(&pages).map(|(value, _)| value), Some(Value::inline([("503", page)])));
    }
}
