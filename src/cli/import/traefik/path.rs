//! Middlewares that change the path: as one rewriting of the route.

use super::super::pattern::escape;
use super::super::report::Place;
use super::fields::Fields;
use super::middleware::{Around, expression, known};
use super::regexp::divided;
use super::service::Lost;
use super::treatment::{Target, Treatment, plain};

/// What Traefik tells servers of a path that it has changed.
const REPLACED: &str = "x-replaced-path";
const PREFIX: &str = "x-forwarded-prefix";

pub(super) fn add(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let prefix = fields.text("prefix", around.report).filter(|(prefix, _)| !prefix.is_empty());
    known(fields, around.report)?;
    let Some((prefix, at)) = prefix else { return Err(Lost::Refused("its prefix is empty".to_owned())) };
    around.report.translated(at);
    let prefix = if prefix.starts_with('/') { prefix } else { format!("/{prefix}") };
    in_path(&prefix)?;
    to.prefix(&plain(&prefix), at).map_err(Lost::Unsaid)
}

/// What may stand in a path that is written.
fn in_path(text: &str) -> Result<(), Lost> {
    let fits = text.chars().all(|c| c.is_ascii_graphic() && !"?#".contains(c));
    let dots = text.split('/').any(|part| part == "." || part == "..");
    if fits && !dots {
        Ok(())
    } else {
        Err(Lost::Unsaid(format!("`{text}` cannot stand in a path: percent-encode what no path has")))
    }
}

/// Whether the route's paths all begin with this.
fn is_certain(around: &Around<'_, '_>, start: &str) -> bool {
    around.start.starts_with(start)
}

pub(super) fn strip(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let list = fields.texts("prefixes", around.report);
    if let Some((force, at)) = fields.flag("forceSlash", around.report) {
        if force {
            around.report.translated(at);
        } else {
            around.report.ignored(at, "it is no longer said");
        }
    }
    known(fields, around.report)?;
    let Some((list, at)) = list else { return Ok(()) };
    around.report.translated(at);
    let prefixes: Vec<String> = list.iter().map(|(prefix, _)| prefix.trim().to_owned()).collect();
    list.iter().for_each(|(_, at)| around.report.translated(*at));
    let [first, ..] = prefixes.as_slice() else { return Ok(()) };
    if let Some(prefix) = prefixes.iter().find(|prefix| !super::matcher::is_plain(prefix)) {
        return Err(Lost::Unsaid(format!("`{prefix}` has characters that a URL spells in several ways")));
    }
    // Nothing is cut off where the first one is all of it.
    let certain = is_certain(around, first) || first.is_empty() || first == "/";
    let used: &[String] = if certain { std::slice::from_ref(first) } else { &prefixes };
    let group = match used {
        [one] => escape(one),
        many => format!("(?:{})", many.iter().map(|one| escape(one)).collect::<Vec<_>>().join("|")),
    };
    if certain && !first.is_empty() {
        to.request.set(PREFIX, plain(first), at);
    } else if let Some((_, place)) = list.first() {
        around.report.approximated(
            *place,
            "X-Forwarded-Prefix is sent where all requests of a route have the prefix, and these need not",
        );
        to.request.remove(PREFIX, at);
    }
    if first == "/" && used.len() == 1 {
        return Ok(());
    }
    // The slash at the end of a prefix goes as well, and there is always one at the start.
    let target = Target { regex: Some(format!("^{group}/?(.*)$")), path: "/{1}".to_owned(), certain };
    to.rewrite(target, at).map_err(Lost::Unsaid)
}

pub(super) fn strip_regex(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let list = fields.texts("regex", around.report);
    known(fields, around.report)?;
    let Some((list, at)) = list.filter(|(list, _)| !list.is_empty()) else { return Ok(()) };
    around.report.translated(at);
    let mut all = Vec::new();
    for (regex, at) in &list {
        around.report.translated(*at);
        all.push(expression(regex.trim())?);
    }
    around
        .report
        .approximated(at, "X-Forwarded-Prefix is not sent: it would be another one for each request");
    to.request.remove(PREFIX, at);
    let all = all.join("|");
    let all = if list.len() > 1 || divided(&all) { format!("(?:{all})") } else { all };
    let target = Target {
        regex: Some(format!("^{all}/?(?P<rest>.*)$")),
        path: "/{group:rest}".to_owned(),
        certain: false,
    };
    to.rewrite(target, at).map_err(Lost::Unsaid)
}

pub(super) fn replace(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let path = fields.text("path", around.report);
    known(fields, around.report)?;
    let Some((path, at)) = path else { return Ok(()) };
    around.report.translated(at);
    in_path(&path)?;
    if !path.starts_with('/') {
        return Err(Lost::Unsaid("a path begins with a slash".to_owned()));
    }
    to.request.set(REPLACED, "{path}".to_owned(), at);
    // Whatever the path was.
    to.target = Some((Target { regex: None, path: plain(&path), certain: true }, at));
    Ok(())
}

pub(super) fn replace_regex(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let (regex, replacement) =
        (fields.text("regex", around.report), fields.text("replacement", around.report));
    known(fields, around.report)?;
    let Some((regex, at)) = regex else { return Ok(()) };
    let (replacement, of_replacement) = replacement.unwrap_or((String::new(), at));
    let regex = expression(regex.trim())?;
    around.report.translated(at);
    around.report.translated(of_replacement);
    let anchored = regex.starts_with('^') && !divided(&regex);
    let to_end =
        regex.ends_with('$') && !regex.ends_with("\\$") || regex.ends_with(".*)") || regex.ends_with(".*");
    let (regex, path) = if anchored && to_end {
        let path = expand(&replacement, 0, &regex);
        (regex, path)
    } else if anchored {
        let path = format!("{}{{group:rest_of_it}}", expand(&replacement, 0, &regex));
        (format!("{regex}(?P<rest_of_it>.*)$"), path)
    } else {
        around.report.approximated(
            at,
            "where the expression matches several times, only the first of them is replaced",
        );
        let whole = format!("^(?P<before_it>.*?)(?:{regex})(?P<rest_of_it>.*)$");
        let path = format!("{{group:before_it}}{}{{group:rest_of_it}}", expand(&replacement, 1, &regex));
        (whole, path)
    };
    told(&regex, at, around, to);
    if path.is_empty() {
        return Err(Lost::Unsaid("a path is not empty".to_owned()));
    }
    let certain = is_certain_regex(around, &regex);
    to.rewrite(Target { regex: Some(regex), path, certain }, at).map_err(Lost::Unsaid)
}

/// Whether an expression matches whatever begins as the route's paths do.
fn is_certain_regex(around: &Around<'_, '_>, regex: &str) -> bool {
    let tails = ["(.*)$", "(.*)", "(?P<rest_of_it>.*)$"];
    let literal =
        tails.iter().find_map(|tail| regex.strip_suffix(tail)).and_then(|start| start.strip_prefix('^'));
    literal.is_some_and(|literal| {
        let text: String = literal.replace('\\', "");
        escape(&text) == literal && around.start.starts_with(&text)
    })
}

fn told(regex: &str, at: Place, around: &mut Around<'_, '_>, to: &mut Treatment) {
    if is_certain_regex(around, regex) {
        to.request.set(REPLACED, "{path}".to_owned(), at);
    } else {
        around.report.approximated(
            at,
            "X-Replaced-Path is sent where all requests of a route have another path, and these need not",
        );
        to.request.remove(REPLACED, at);
    }
}

/// `$1` and `${name}` as variables. Groups are counted from `shift` on.
pub(super) fn expand(text: &str, shift: usize, regex: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        out.push_str(&plain(before));
        if let Some(after) = behind.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let braced = behind.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        let word =
            |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, after) = match braced {
            Some((name, after)) => (name, after),
            None => behind.split_at(word(behind)),
        };
        if name.is_empty() || word(name) < name.len() {
            // Go leaves what is no name as it is.
            out.push('$');
            rest = behind;
            continue;
        }
        let there = match name.parse::<usize>() {
            Ok(number) => (number <= groups(regex)).then(|| format!("{{{}}}", number + shift)),
            Err(_) => regex.contains(&format!("?P<{name}>")).then(|| format!("{{group:{name}}}")),
        };
        // What is no group is empty.
        out.push_str(&there.unwrap_or_default());
        rest = after;
    }
    out.push_str(&plain(rest));
    out
}

/// How many groups an expression has.
pub(super) fn groups(regex: &str) -> usize {
    regex::bytes::Regex::new(regex).map_or(0, |regex| regex.captures_len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_become_variables() {
        for (text, want) in [
            ("/$1/x", "/{1}/x"),
            ("/${1}x{a}", "/{1}x{{a}}"),
            ("/$1x", "/"),
            ("/${b}$$", "/{group:b}$"),
            ("/$9", "/"),
            ("/$", "/$"),
            ("/${", "/${{"),
        ] {
            assert_eq!(expand(text, 0, "^/(.)(?P<b>.*)$"), want, "{text}");
        }
        assert_eq!(expand("/$1", 1, "(a)"), "/{2}");
    }
}
