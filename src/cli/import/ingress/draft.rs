//! Routes before they have names and priorities, and how they are written.

use std::collections::HashMap;

use super::super::document::{Block, Table, Value};
use super::super::order::priorities;
use super::super::region::{Door, Region};
use super::super::report::Place;

/// A route.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// What it would be called.
    pub(super) name: String,
    /// What stands above it.
    pub(super) comment: Option<String>,
    /// The line of its conditions.
    pub(super) at: Option<Place>,
    pub(super) region: Region,
    /// All that is no condition.
    pub(super) table: Table,
}

/// Names that are taken.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<String, usize>);

/// Names are no longer than this, with room for a number.
const LENGTH_MAX: usize = 100;

impl Names {
    /// A name that no other has.
    pub(super) fn unique(&mut self, wanted: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
        let wanted = wanted.replace("*.", "any.");
        let mut wanted: String = wanted.chars().map(plain).take(LENGTH_MAX).collect();
        if !wanted.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            wanted.insert(0, 'x');
        }
        let count = self.0.entry(wanted.clone()).or_insert(0);
        *count += 1;
        if *count == 1 {
            return wanted;
        }
        let mut number = *count;
        loop {
            let name = format!("{wanted}-{number}");
            if !self.0.contains_key(&name) {
                self.0.insert(name.clone(), 1);
                if let Some(count) = self.0.get_mut(&wanted) {
                    *count = number;
                }
                return name;
            }
            number += 1;
        }
    }
}

/// Writes routes, most wanted first. `all` names listeners also where a route serves all of `doors`.
pub(super) fn write(drafts: Vec<Draft>, doors: &[Door], all: bool, names: &mut Names) -> Vec<Block> {
    let regions: Vec<&Region> = drafts.iter().map(|draft| &draft.region).collect();
    let priorities = priorities(&regions);
    let mut blocks = Vec::with_capacity(drafts.len());
    for (draft, priority) in drafts.into_iter().zip(priorities) {
        let mut table = Table::default();
        table.set("name", Value::text(names.unique(&draft.name)), None);
        if priority != 0 {
            table.set("priority", Value::Integer(priority), None);
        }
        let first = table.entries.len();
        draft.region.write(doors, all, &mut table);
        for entry in table.entries.iter_mut().skip(first) {
            entry.from = entry.from.or(draft.at);
        }
        table.entries.extend(draft.table.entries);
        blocks.push(Block { name: String::new(), comments: draft.comment.into_iter().collect(), table });
    }
    blocks
}

/// Hosts of which every path is sent to HTTPS have one route for that, behind those of the last of them.
#[must_use]
pub(super) fn together(drafts: Vec<Draft>) -> Vec<Draft> {
    let whole = |draft: &Draft| {
        let Region { hosts: Some(hosts), path: None, methods: None, values, source: None, .. } =
            &draft.region
        else {
            return false;
        };
        let plain = hosts.iter().all(|host| !host.starts_with('*'));
        plain && values.is_empty() && draft.comment.is_none() && draft.table.get("redirect").is_some()
    };
    let Some(last) = drafts.iter().rposition(whole) else { return drafts };
    let mut out: Vec<Draft> = Vec::with_capacity(drafts.len());
    let mut all: Vec<Draft> = Vec::new();
    for (at, draft) in drafts.into_iter().enumerate() {
        if whole(&draft) {
            let same =
                |known: &&mut Draft| known.region.doors == draft.region.doors && known.table == draft.table;
            match all.iter_mut().find(same) {
                Some(known) => {
                    known.region.hosts.get_or_insert_default().extend(draft.region.hosts.unwrap_or_default());
                    (known.at, known.name) = (None, "to-https".to_owned());
                }
                None => all.push(draft),
            }
        } else {
            out.push(draft);
        }
        if at == last {
            out.append(&mut all);
        }
    }
    out
}

/// `respond` with a status and nothing else.
#[must_use]
pub(super) fn respond(status: i64, at: Option<Place>) -> Table {
    let mut table = Table::default();
    table.set("respond", Value::inline([("status", Value::Integer(status))]), at);
    table
}

/// `redirect`.
#[must_use]
pub(super) fn redirect(to: &str, status: i64, at: Option<Place>) -> Table {
    let mut table = Table::default();
    let pairs = [("to", Value::text(to)), ("status", Value::Integer(status))];
    table.set("redirect", Value::inline(pairs), at);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_valid() {
        let mut names = Names::default();
        let all: Vec<String> =
            ["a", "a", "a-2", "a", "*.b", ""].iter().map(|name| names.unique(name)).collect();
        assert_eq!(all, ["a", "a-2", "a-2-2", "a-3", "any.b", "x"]);
    }
}
