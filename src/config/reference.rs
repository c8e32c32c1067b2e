//! The tables of keys as a page of reference: a configuration with every key, its default and what it means.

use super::key::{Given, Key, Kind, Section};
use super::tables::{ROOT, ROUTE};

/// Columns of a comment.
const WIDTH: usize = 110;

/// A configuration that has every supported key once: with its default where it has one, as a comment with
/// an example where it is optional. It loads as it is.
#[must_use]
pub fn reference() -> String {
    let mut page = String::new();
    comment(
        &mut page,
        "",
        "Every key of a configuration with its default; what is commented out has none, and shows an example.",
    );
    comment(&mut page, "", ROOT.doc);
    for key in ROOT.keys.iter() {
        match &key.kind {
            Kind::Table(section) => block(&mut page, key.name, section, hidden(key)),
            Kind::Map { of: Kind::Table(section), .. } => {
                // The names that the examples of other keys use.
                let name = if key.name == "listener" { "web" } else { "api" };
                block(&mut page, &format!("{}.{name}", key.name), section, false);
            }
            Kind::List { of: Kind::Table(section), .. } => {
                heading(&mut page, section.doc, &format!("[[{}]]", key.name), hidden(key));
                keys(&mut page, section, hidden(key));
            }
            _ => {
                page.push('\n');
                line(&mut page, key, hidden(key));
            }
        }
    }
    page
}

/// A section with its keys, and below it those sections of it that have only defaults.
fn block(page: &mut String, path: &str, section: &'static Section, hide: bool) {
    let below = || section.keys.iter().filter(|key| is_block(key));
    if section.keys.iter().any(|key| !is_block(key)) {
        heading(page, section.doc, &format!("[{path}]"), hide);
        keys(page, section, hide);
    } else {
        page.push('\n');
        comment(page, "", section.doc);
    }
    for key in below() {
        let path = format!("{path}.{}", key.name);
        match &key.kind {
            Kind::Base(shared) => {
                page.push('\n');
                comment(page, "", key.doc);
                page.push_str(&format!("[{path}]\n"));
                let own: Vec<_> = shared.keys.iter().filter(|key| key.own).map(|key| key.name).collect();
                comment(page, "", &format!("Any key of [{}.NAME] but {}.", key.name, own.join(", ")));
            }
            kind => {
                if let Some(section) = kind.section() {
                    block(page, &path, section, hide || hidden(key));
                }
            }
        }
    }
}

fn is_block(key: &Key) -> bool {
    match key.kind {
        Kind::Base(_) => true,
        Kind::Table(_) | Kind::Or(..) => key.kind.is_table() && key.example() == "{}",
        _ => false,
    }
}

/// Whether it is shown as a comment, since without it something else holds.
fn hidden(key: &Key) -> bool {
    matches!(key.given, Given::Optional(_))
}

fn keys(page: &mut String, section: &'static Section, hide: bool) {
    for key in section.keys.iter().filter(|key| !is_block(key)) {
        // A route needs one of its actions to load.
        let live = std::ptr::eq(section, &ROUTE) && key.name == "pool";
        line(page, key, hide || (hidden(key) && !live));
    }
}

fn heading(page: &mut String, doc: &str, header: &str, hide: bool) {
    page.push('\n');
    comment(page, "", doc);
    page.push_str(&format!("{}{header}\n", if hide { "# " } else { "" }));
}

/// A key with what it means, and what the tables in its value may hold.
fn line(page: &mut String, key: &'static Key, hide: bool) {
    comment(page, "", key.doc);
    if let Some(section) = key.kind.section() {
        for inner in section.keys.iter() {
            let value = match inner.given {
                Given::Default(text) => format!("{} = {text}", inner.name),
                _ => inner.name.to_owned(),
            };
            comment(page, "  ", &format!("{value}: {}", inner.doc));
        }
    }
    page.push_str(&format!("{}{} = {}\n", if hide { "# " } else { "" }, key.name, key.example()));
}

/// Text as comment lines of at most [`WIDTH`] columns.
fn comment(page: &mut String, indent: &str, text: &str) {
    let mut row = format!("# {indent}");
    let start = row.len();
    for word in text.split_whitespace() {
        if row.len() > start && row.len() + 1 + word.len() > WIDTH {
            page.push_str(&row);
            page.push('\n');
            row = format!("# {indent}{indent}");
        } else if row.len() > start {
            row.push(' ');
        }
        row.push_str(word);
    }
    page.push_str(&row);
    page.push('\n');
}
