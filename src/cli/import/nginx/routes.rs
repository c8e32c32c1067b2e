//! Routes of all servers, put in the order in which nginx would ask, with names and priorities.

use std::collections::HashMap;

use super::super::document::{Block, Table, Value, place};
use super::super::order::priorities;
use super::super::region::{Door, Region};
use super::super::report::Report;
use super::draft::{Action, Draft};
use super::pools::Pools;
use super::site::{Group, Share};
use super::walk::Site;

/// Routes in the order in which they are asked.
pub(super) struct Routes {
    pub(super) drafts: Vec<Draft>,
    /// The server of each.
    sites: Vec<usize>,
}

/// Gives each share of the requests the routes of its server.
pub(super) fn assemble(
    drafts: &[Vec<Draft>],
    shares: &[Share],
    sites: &[Site<'_>],
    groups: &[Group<'_>],
    doors: &[Door],
) -> Routes {
    let mut out = Routes { drafts: Vec::new(), sites: Vec::new() };
    for share in shares {
        for draft in drafts.get(share.site).into_iter().flatten() {
            let Some(region) = share.of(&draft.region, doors) else { continue };
            if needless(draft, share, sites, groups) {
                continue;
            }
            out.drafts.push(Draft { region, ..draft.clone() });
            out.sites.push(share.site);
        }
    }
    out
}

/// A 404 for all else where nothing stands behind it that could take the request.
fn needless(draft: &Draft, share: &Share, sites: &[Site<'_>], groups: &[Group<'_>]) -> bool {
    let plain = draft.keys.is_empty()
        && draft.region.path.is_none()
        && sites.get(share.site).is_some_and(|site| site.of.at == draft.at)
        && matches!(&draft.action, Action::Respond { status: 404, body, .. } if body.is_empty());
    let alone = share.is_default
        || groups
            .iter()
            .filter(|group| group.sites.contains(&share.site))
            .all(|group| group.default == share.site);
    plain && alone
}

impl Routes {
    /// The routes as they are written.
    pub(super) fn write(
        &self,
        sites: &[Site<'_>],
        doors: &[Door],
        named: bool,
        pools: &Pools<'_>,
        report: &Report,
    ) -> Vec<Block> {
        let many = sites.len() > 1;
        let mut taken: HashMap<String, usize> = HashMap::new();
        let mut names: Vec<String> = Vec::new();
        // The last one is what the others are exceptions of: it has the plain name.
        for (draft, site) in self.drafts.iter().zip(&self.sites).rev() {
            let word = draft.word(|at| pools.name(at));
            let server = sites.get(*site).filter(|_| many).map(|site| server_word(site));
            names.push(free(
                &server.map_or_else(|| word.clone(), |server| format!("{server}-{word}")),
                &mut taken,
            ));
        }
        names.reverse();
        let regions: Vec<&Region> = self.drafts.iter().map(|draft| &draft.region).collect();
        let mut out = Vec::new();
        for ((draft, priority), name) in self.drafts.iter().zip(priorities(&regions)).zip(names) {
            let mut table = Table::default();
            table.set("name", Value::text(name), None);
            if priority != 0 {
                table.set("priority", Value::Integer(priority), None);
            }
            draft.region.write(doors, named, &mut table);
            draft.write(|at| pools.name(at), &mut table);
            let mut block = super::comment_block(
                format!("{}: {}", place(draft.at, report), report.source(draft.at)),
                table,
            );
            block.comments.extend(draft.why.clone());
            out.push(block);
        }
        out
    }
}

/// What a server is called in names of its routes.
fn server_word(site: &Site<'_>) -> String {
    let name = site.names.first().cloned().unwrap_or_else(|| "default".to_owned());
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .take(60)
        .collect()
}

/// A name that no other route has.
fn free(wanted: &str, taken: &mut HashMap<String, usize>) -> String {
    let wanted: String = wanted.chars().take(110).collect();
    if !taken.contains_key(&wanted) {
        taken.insert(wanted.clone(), 1);
        return wanted;
    }
    loop {
        let count = taken.entry(wanted.clone()).or_insert(1);
        *count += 1;
        let name = format!("{wanted}-{count}");
        if !taken.contains_key(&name) {
            taken.insert(name.clone(), 1);
            return name;
        }
    }
}
