//! Dynamic files are templates of Go before they are YAML or TOML. What asks for the environment is put in; all other
//! actions would have to be run, and are not.

use std::collections::HashSet;

use super::super::report::{Place, Report};
use super::super::surroundings::Surroundings;

/// The text with variables of the environment put in, line by line. `unknown` gets the lines that other actions make.
pub(super) fn fill(
    text: &str,
    file: usize,
    around: Surroundings<'_>,
    unknown: &mut HashSet<Place>,
    report: &mut Report,
) -> String {
    let mut out = String::with_capacity(text.len());
    // Within so many loops and conditions.
    let mut depth = 0_usize;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let at = Place { file, line: number + 1 };
        // What a template makes of comments is of no matter.
        if !line.contains("{{") || line.trim_start().starts_with('#') {
            if depth > 0 {
                unknown.insert(at);
            }
            out.push_str(line);
            continue;
        }
        if let Some(action) = alone(line) {
            match action.split_whitespace().next() {
                Some("range" | "if" | "with" | "define" | "block") => depth += 1,
                Some("end") => depth = depth.saturating_sub(1),
                _ => {}
            }
            unknown.insert(at);
            report.not_possible(at, RUN);
            out.push('\n');
            continue;
        }
        let left = put_in(line, at, around, &mut out, report);
        if left || depth > 0 {
            unknown.insert(at);
        }
        if left {
            report.not_possible(at, RUN);
        }
    }
    out
}

const RUN: &str = "files are templates to Traefik, and this action is not run here: import what it comes to (what Traefik made of it is at its /api/rawdata)";

/// The action that is all of a line.
fn alone(line: &str) -> Option<&str> {
    let inside = line.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    (!inside.contains("{{")).then(|| inside.trim_matches('-').trim())
}

/// Puts variables of the environment in. Returns whether other actions are left.
fn put_in(line: &str, at: Place, around: Surroundings<'_>, out: &mut String, report: &mut Report) -> bool {
    let mut left = false;
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((action, after)) = behind.split_once("}}") else {
            out.push_str("{{");
            rest = behind;
            left = true;
            continue;
        };
        let name = action.trim_matches('-').trim().strip_prefix("env").map(str::trim);
        let name = name.and_then(|name| {
            let quoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
            quoted.or_else(|| name.strip_prefix('`').and_then(|name| name.strip_suffix('`')))
        });
        match name {
            Some(name) => {
                let value = (around.environment)(name);
                if value.is_none() {
                    report.approximated(at, format!("the environment has no {name}: it is empty here"));
                } else {
                    report.approximated(at, format!("{name} is put in as it is now: write \"${{{name}}}\" for what it is at each start"));
                }
                let value = value.unwrap_or_default();
                out.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
            }
            None => {
                out.push_str("{{");
                out.push_str(action);
                out.push_str("}}");
                left = true;
            }
        }
        rest = after;
    }
    out.push_str(rest);
    left
}
