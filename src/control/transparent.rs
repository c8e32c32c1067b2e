//! Whether this process may connect from the addresses of clients, asked before anything is changed for a pool that wants it.

use std::io;

use crate::config::Config;
use crate::model::address::Source;
use crate::model::name::PoolName;
use crate::proxy::upstream::dial::may_show_clients;

/// The system does not let this process connect from addresses that are not its own.
#[derive(Debug, thiserror::Error)]
#[error(
    "pool \"{pool}\" has source_address = \"client\", which needs the capability CAP_NET_ADMIN \
     (AmbientCapabilities=CAP_NET_ADMIN in a unit of systemd): {error}"
)]
pub struct NotTransparent {
    pool: PoolName,
    error: io::Error,
}

/// Asks the system where a pool of the configuration wants it.
///
/// # Errors
/// [`NotTransparent`] about the first such pool.
pub(super) fn check(config: &Config) -> Result<(), NotTransparent> {
    let Some(pool) = config.pools.iter().find(|pool| pool.source == Source::Client) else { return Ok(()) };
    may_show_clients().map_err(|error| NotTransparent { pool: pool.name.clone(), error })
}
