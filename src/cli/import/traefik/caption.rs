//! What routes are called, and what stands above them.

use std::collections::HashMap;

use super::super::document::place;
use super::super::region::Door;
use super::super::report::Report;
use super::route::Draft;
use super::router::Router;
use super::said::plain_name;
use super::treatment::Answer;
use super::web::Ready;

/// What stands above a route.
pub(super) fn comments(draft: &Draft, routers: &[Router], report: &Report) -> Vec<String> {
    let rule = |at: usize| {
        let router = routers.get(at)?;
        Some(format!("{} ({}): {}", router.name, place(router.rule_at, report), router.text))
    };
    let mut out = Vec::new();
    if let Some(at) = draft.spared.filter(|spared| draft.router != Some(*spared)) {
        out.extend(rule(at).map(|rule| format!("Spared by {rule}")));
    }
    match draft.router {
        Some(at) => out.extend(rule(at).map(|rule| format!("Router {rule}"))),
        None => out.push("No router takes them.".to_owned()),
    }
    out
}

/// A name for each route that no other has: the last one of a router has its own.
pub(super) fn names(
    joined: &[(Draft, Ready, Vec<usize>)],
    doors: &[Door],
    routers: &[Router],
) -> Vec<String> {
    let mut taken: std::collections::HashSet<String> = std::collections::HashSet::new();
    let mut next: HashMap<String, usize> = HashMap::new();
    let mut out: Vec<String> = Vec::with_capacity(joined.len());
    for (draft, ready, of) in joined.iter().rev() {
        let router = draft.router.and_then(|at| routers.get(at));
        let mut name = router.map_or_else(|| "nobody".to_owned(), |router| plain_name(&router.name));
        if ready.target.is_none()
            && matches!(ready.treatment.end, Some(Answer::Redirect { .. }))
            && taken.contains(&name)
        {
            name.push_str("-redirect");
        }
        if taken.contains(&name)
            && let [door] = of.as_slice()
            && let Some(door) = doors.get(*door)
            && doors.len() > 1
        {
            name = format!("{name}-{}", door.listener);
        }
        let name = unique(name.chars().take(100).collect(), &taken, &mut next);
        taken.insert(name.clone());
        out.push(name);
    }
    out.reverse();
    out
}

fn unique(
    name: String,
    taken: &std::collections::HashSet<String>,
    next: &mut HashMap<String, usize>,
) -> String {
    if !taken.contains(&name) {
        return name;
    }
    let number = next.entry(name.clone()).or_insert(1);
    loop {
        *number += 1;
        let numbered = format!("{name}-{number}");
        if !taken.contains(&numbered) {
            return numbered;
        }
    }
}
