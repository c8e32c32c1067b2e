//! What sticky pools say of their clients.

use crate::control::status::StickyStatus;
use crate::runtime::counters::Counter;
use crate::runtime::pool::{HashKey, Pool, StickyCounters};
use crate::runtime::sticky::By;
use crate::telemetry::metrics::{self as m, Sink};

/// A label's value and the counter behind it.
type Named = (&'static str, fn(&StickyCounters) -> &Counter);

/// What became of clients.
const RESULTS: [Named; 4] =
    [("new", |c| &c.new), ("kept", |c| &c.kept), ("moved", |c| &c.moved), ("void", |c| &c.void)];

/// How a pool keeps its clients; nothing where it does not.
pub(super) fn status(pool: &Pool) -> Option<StickyStatus> {
    let sticky = pool.sticky.as_ref()?;
    let sum = |counter: fn(&StickyCounters) -> &Counter| -> u64 {
        pool.live.counters.iter().map(|c| counter(&c.sticky).get()).sum()
    };
    let (by, table) = match &sticky.by {
        By::Cookie(jar) => (format!("cookie {}", jar.attributes.name), None),
        By::Table(known) => {
            let by = match &known.key {
                HashKey::Header(name) => format!("table of header {}", name.as_str()),
                HashKey::Cookie(name) if known.learn => format!("table of learned cookie {name}"),
                HashKey::Cookie(name) => format!("table of cookie {name}"),
                HashKey::Query(name) => format!("table of query {name}"),
                HashKey::Source | HashKey::Path | HashKey::Sni => "table of source".to_owned(),
            };
            let entries = known.table.count(&known.expiry, pool.live.clock.now());
            (by, Some((entries as u64, known.size as u64)))
        }
    };
    Some(StickyStatus {
        by,
        when_down: sticky.when_down.word(),
        table,
        clients: RESULTS.map(|(word, counter)| (word, sum(counter))),
        cookies: sum(|c| &c.cookies),
        evicted: sum(|c| &c.evicted),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay far below 2^53")]
pub(super) fn collect(sink: &mut dyn Sink, pool: &Pool) {
    let Some(status) = status(pool) else { return };
    let name = pool.name.as_str();
    for (result, clients) in status.clients {
        sink.counter(&m::POOL_STICKY, &[("pool", name), ("result", result)], clients);
    }
    match status.table {
        Some((entries, _)) => sink.gauge(&m::POOL_STICKY_ENTRIES, &[("pool", name)], entries as f64),
        None => sink.counter(&m::POOL_STICKY_COOKIES, &[("pool", name)], status.cookies),
    }
}
