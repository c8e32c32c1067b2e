//! Tables of sticky pools as the JSON of a handover: which client belongs where.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::sticky::table::Entry;
use crate::runtime::pool::Pool;
use crate::runtime::sticky::By;

/// Clients that are handed over, of all pools together; others are bound anew. With the keys of rate limits they are well
/// under what a handover may be long.
pub(super) const CLIENTS_MAX: usize = 256 * 1024;

/// The clients of one pool, the longest unused first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clients {
    /// By what they are known: others mean nothing to a table by something else.
    by: String,
    all: Vec<Client>,
}

/// The digest of a client, what stands for its endpoint, whether it is away, when it was bound, when it came last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Client(String, u64, bool, u64, u64);

impl Clients {
    /// Those of a pool, at most so many; nothing where it has no table.
    pub(super) fn read(pool: &Pool, most: &mut usize) -> Option<Self> {
        let By::Table(known) = &pool.sticky.as_ref()?.by else { return None };
        let entries = known.table.entries(*most);
        *most -= entries.len();
        let client = |(client, entry): (u128, Entry)| {
            let Entry { endpoint, away, made, used } = entry;
            Client(format!("{client:032x}"), endpoint, away, micros(made), micros(used))
        };
        Some(Self { by: format!("{:?}", known.key), all: entries.into_iter().map(client).collect() })
    }

    /// Gives them to a pool whose table goes by the same.
    pub(super) fn apply(&self, pool: &Pool) {
        let Some(By::Table(known)) = pool.sticky.as_ref().map(|sticky| &sticky.by) else { return };
        if self.by != format!("{:?}", known.key) {
            return;
        }
        for Client(client, endpoint, away, made, used) in &self.all {
            let Ok(client) = u128::from_str_radix(client, 16) else { continue };
            let (made, used) = (Duration::from_micros(*made), Duration::from_micros(*used));
            let entry = Entry { endpoint: *endpoint, away: *away, made, used };
            known.table.put(client, entry, known.size, &known.expiry);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
