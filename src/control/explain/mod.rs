//! Which listener, route, limits and endpoint a request would meet, and why: as a configuration says, or as the process
//! stands that runs it. Nothing of asking changes anything: no limit is charged, no turn taken, no entry noted as used.
//!
//! | file | owns |
//! |---|---|
//! | `request.rs` | the request that is asked about |
//! | `scene.rs` | the walk: from the listener to the pools |
//! | `limits.rs` | limits, and whether they would stop it now |
//! | `effects.rs` | what stands before a route, and what it changes |
//! | `sticky.rs` | where the client belongs |
//! | `pools.rs` | endpoints: who would be asked, and who after that |
//! | `order.rs` | the same of a pool at rest |
//! | `admission.rs`, `treatment.rs` | queues and ceilings; everything beside sending it on |
//! | `text.rs`, `json.rs` | how it is shown |

mod admission;
mod effects;
mod json;
mod limits;
mod order;
mod pools;
mod request;
mod scene;
mod sticky;
mod text;
mod treatment;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Handle;
use super::status::EndpointStatus;
use crate::config::Config;
use crate::policy::admission::overload::Stage;
use crate::runtime::snapshot::Snapshot;

/// How often the configuration and the snapshot of a process are looked at that are replaced just now.
const LOOKS: u32 = 200;

/// How long is waited between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A request that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Its method.
    pub method: String,
    /// `http://host/path`, `https://host/path` or `/path`.
    pub url: String,
    /// Its fields, as `name: value`.
    pub headers: Vec<String>,
    /// Where its connection is from.
    pub source: IpAddr,
    /// The listener that it comes to; nothing is the one that the URL's port tells.
    pub listener: Option<String>,
    /// The name that its TLS asks for; nothing is the URL's host.
    pub server_name: Option<String>,
}

/// Why a question has no answer: it is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(String);

/// What would become of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Explanation {
    /// The request on one line.
    pub request: String,
    /// The listener.
    pub listener: String,
    /// The snapshot that was looked at; nothing where only a configuration was.
    pub generation: Option<u64>,
    /// Whom the listener takes for the client, where that is not its peer.
    pub client: Option<String>,
    /// What happens before any route is asked.
    pub notes: Vec<String>,
    /// Routes in the order in which they are asked.
    pub routes: Routes,
    /// The route that takes the request.
    pub route: Option<String>,
    /// The limits of the route.
    pub limits: Vec<LimitSeen>,
    /// What the route makes of the request and of its answer.
    pub effects: Vec<String>,
    /// What the route does.
    pub action: Option<String>,
    /// How a split chooses.
    pub split: Vec<String>,
    /// The pools that may take it.
    pub pools: Vec<PoolSeen>,
    /// What is done beside that.
    pub beside: Vec<String>,
    /// What would become of it now; nothing where only a configuration was looked at.
    pub outcome: Option<String>,
}

/// The routes of a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// What they are asked by; empty where nothing is asked.
    pub heading: String,
    /// Whether their order matters.
    pub ordered: bool,
    /// Each of them.
    pub all: Vec<RouteSeen>,
    /// What follows where none of them is asked or takes it.
    pub otherwise: Option<String>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSeen {
    /// Its name.
    pub name: String,
    /// `taken`, `lost` or `not asked`.
    pub verdict: &'static str,
    /// Why.
    pub why: Option<String>,
}

/// A limit of the route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSeen {
    /// Its name.
    pub name: String,
    /// What it allows, what the request counts as, and what becomes of one too many.
    pub text: String,
    /// How it stands.
    pub now: Option<String>,
    /// What it would answer now, where it would not let the request pass.
    pub stops: Option<String>,
}

/// A pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolSeen {
    /// Its name.
    pub name: String,
    /// How it balances, and how many attempts there are.
    pub heading: String,
    /// Where the client belongs, and how the pool stands.
    pub said: Vec<String>,
    /// What the order depends on.
    pub hint: String,
    /// Endpoints in the order in which they would be tried.
    pub order: Vec<EndpointSeen>,
    /// Those that would not be tried.
    pub out: Vec<EndpointSeen>,
    /// What else there is to its order, its queue and its retries.
    pub after: Vec<String>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSeen {
    /// The pool, where it is another one than that which was asked.
    pub pool: Option<String>,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// Its tier.
    pub tier: u8,
    /// Its weight.
    pub weight: u16,
    /// How it stands.
    pub now: Option<EndpointStatus>,
}

/// What a configuration says of a request.
///
/// # Errors
/// [`Wrong`].
pub fn explain(config: &Config, ask: &Ask) -> Result<Explanation, Wrong> {
    scene::explain(config, None, ask)
}

/// A process as it stands.
#[derive(Clone, Copy)]
struct Live<'a> {
    handle: &'a Handle,
    snapshot: &'a Snapshot,
    stage: Stage,
    draining: bool,
}

impl Handle {
    /// What would become of a request that came now.
    ///
    /// # Errors
    /// [`Wrong`].
    pub async fn explain(&self, ask: Ask) -> Result<Explanation, Wrong> {
        for _ in 0..LOOKS {
            let (handle, ask) = (self.clone(), ask.clone());
            // Of many routes each is asked: others are answered meanwhile.
            let looking = tokio::task::spawn_blocking(move || handle.look(&ask));
            match looking.await {
                Ok(Some(told)) => return told,
                Ok(None) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(error) => return Err(Wrong(error.to_string())),
            }
        }
        Err(Wrong("the configuration is being replaced just now; ask again".to_owned()))
    }

    /// The same; nothing while what runs is being replaced.
    fn look(&self, ask: &Ask) -> Option<Result<Explanation, Wrong>> {
        let (running, snapshot) = (self.running(), self.0.store.load());
        if running.generation != snapshot.generation {
            return None;
        }
        let draining = self.0.draining.load(Ordering::Relaxed);
        let stage = self.0.fleet.pressure.stage();
        let live = Live { handle: self, snapshot: &snapshot, stage, draining };
        Some(scene::explain(&running.config, Some(live), ask))
    }
}

fn say(lines: &mut Vec<String>, arguments: fmt::Arguments<'_>) {
    lines.push(arguments.to_string());
}
