//! What all listeners or all pools of a document say alike is said once, in `[defaults.listener]` and `[defaults.pool]`.

use super::document::{Block, Document, Entry, Table};

/// Keys that each listener or pool must have for itself, or that read better where they are.
const OWN: [&str; 9] =
    ["bind", "protocol", "pool", "tls", "endpoints", "endpoints_file", "like", "preset", "failover"];

/// Moves what all listeners, and all pools, have alike into the defaults.
pub(super) fn lift(document: &mut Document) {
    for (name, blocks) in [("listener", &mut document.listeners), ("pool", &mut document.pools)] {
        let table = lift_out_of(blocks);
        if !table.entries.is_empty() {
            document.defaults.push(Block { name: name.to_owned(), comments: Vec::new(), table });
        }
    }
}

fn lift_out_of(blocks: &mut [Block]) -> Table {
    let mut defaults = Table::default();
    if let [first, rest @ ..] = &*blocks
        && !rest.is_empty()
    {
        for entry in &first.table.entries {
            if let Some(alike) = alike(entry, rest) {
                defaults.entries.push(alike);
            }
        }
    }
    for block in &mut *blocks {
        block.table.entries.retain(|own| defaults.get(&own.path).is_none());
    }
    defaults
}

/// The entry as all have it; nothing when one of the others differs.
fn alike(entry: &Entry, others: &[Block]) -> Option<Entry> {
    let root = entry.path.split('.').next().unwrap_or(&entry.path);
    if OWN.contains(&root) {
        return None;
    }
    let mut from = entry.from;
    for other in others {
        let same = other.table.entries.iter().find(|e| e.path == entry.path && e.value == entry.value)?;
        from = from.filter(|_| same.from == from);
    }
    Some(Entry { from, ..entry.clone() })
}

#[cfg(test)]
mod tests {
    use super::super::document::Value;
    use super::*;

    #[test]
    fn what_all_pools_say_is_said_once() {
        let pool = |name: &str, connect: &str, idle: &str| {
            let mut table = Table::default();
            table.set("endpoints", Value::texts(["10.0.0.1:80"]), None);
            table.set("timeouts.connect", Value::text(connect), None);
            table.set("timeouts.idle", Value::text(idle), None);
            Block { name: name.to_owned(), comments: Vec::new(), table }
        };
        let pools = vec![pool("a", "1s", "5s"), pool("b", "1s", "6s")];
        let mut document = Document { pools, ..Document::default() };
        lift(&mut document);
        let paths = |table: &Table| table.entries.iter().map(|e| e.path.clone()).collect::<Vec<_>>();
        assert_eq!(
            document.defaults.iter().map(|d| paths(&d.table)).collect::<Vec<_>>(),
            [["timeouts.connect"]]
        );
        assert_eq!(paths(&document.pools[1].table), ["endpoints", "timeouts.idle"]);
    }

    #[test]
    fn a_pool_alone_keeps_what_it_says() {
        let mut table = Table::default();
        table.set("balance", Value::text("first"), None);
        let pools = vec![Block { name: "a".to_owned(), comments: Vec::new(), table }];
        let mut document = Document { pools, ..Document::default() };
        lift(&mut document);
        assert!(document.defaults.is_empty() && document.pools[0].table.get("balance").is_some());
    }
}
