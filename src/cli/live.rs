//! The commands of a live process, over its admin API: what an operator changes of endpoints and pools. How they look
//! is `status`'s.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Address, Client, segment};
use super::reload::{self, ReloadArgs};
use super::upgrade::{self, UpgradeArgs};
use super::{Failure, run, status};
use crate::control::change::AdminState;
use crate::model::name::{EndpointName, NameError, PoolName};
use crate::model::units::parse_duration;

/// How often a drain is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How long a drain is waited for when nobody says.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A process that takes longer to say that it is well is not: whoever asks has a limit of its own above this one.
const CHECK_TIMEOUT: Duration = Duration::from_millis(1500);

#[derive(Debug, Subcommand)]
pub(super) enum Live {
    /// Show the pools and endpoints of the live process
    Status {
        /// Only ask whether it is well, and fail (status 1) when not: live (it runs), local (it can proxy) or ready (its
        /// required pools are usable too)
        #[arg(long, value_name = "WHAT")]
        check: Option<Check>,
        #[command(flatten)]
        admin: AdminAddress,
    },
    /// Have the live process read its configuration again
    Reload(ReloadArgs),
    /// Replace the live process by the program that stands now where it was started from
    Upgrade(UpgradeArgs),
    /// Send an endpoint, or all of a zone, no new work and let what is in flight finish
    Drain(DrainArgs),
    /// Let an endpoint, or all of a zone, take work again
    Ready {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        admin: AdminAddress,
    },
    /// Take an endpoint out at once: its tcp sessions and tunnels are cut
    Maintain {
        /// The endpoint
        #[arg(value_name = "POOL/ENDPOINT")]
        endpoint: Endpoint,
        /// Also where fewer than min_available would be left
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        admin: AdminAddress,
    },
    /// Send the traffic of a pool to one of its failover pools, or home again
    Failover {
        /// The pool
        #[arg(value_parser = PoolName::new)]
        pool: PoolName,
        /// One of its failover pools, or home
        #[arg(long, value_name = "POOL|home", value_parser = PoolName::new)]
        to: PoolName,
        #[command(flatten)]
        admin: AdminAddress,
    },
}

/// What a health command of a container, or of a floating address, asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Check {
    Live,
    Local,
    Ready,
}

#[derive(Debug, Args)]
pub(super) struct AdminAddress {
    /// The admin API of the process, ip:port or unix:/path [default: $PLIMSOLL_ADMIN or 127.0.0.1:9900]
    #[arg(long = "admin", value_name = "ADDRESS")]
    address: Option<String>,
    /// A file whose first line is the token for it [default: $PLIMSOLL_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Of which endpoints a command speaks.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// The endpoint
    #[arg(value_name = "POOL/ENDPOINT")]
    endpoint: Option<Endpoint>,
    /// All endpoints that stand in this zone, of every pool
    #[arg(long)]
    zone: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    which: Which,
    /// Wait until nothing is in flight
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this, as in 30s, and fail (status 1) then [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "wait")]
    timeout: Option<Duration>,
    /// Also where fewer than min_available would be left
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    admin: AdminAddress,
}

/// An endpoint as it is named in a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pool: PoolName,
    name: EndpointName,
}

/// Why a word names no endpoint.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndpointError {
    #[error("write POOL/ENDPOINT")]
    NoPool,
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (pool, name) = text.split_once('/').ok_or(EndpointError::NoPool)?;
        Ok(Self { pool: PoolName::new(pool)?, name: EndpointName::new(name)? })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.pool, self.name)
    }
}

/// What these commands read of an endpoint.
#[derive(Debug, Deserialize)]
struct EndpointSeen {
    name: String,
    admin_state: String,
    in_flight: u64,
}

/// What they read of pools to find a zone.
#[derive(Debug, Deserialize)]
struct ZonedPool {
    name: String,
    endpoints: Vec<ZonedEndpoint>,
}

#[derive(Debug, Deserialize)]
struct ZonedEndpoint {
    name: String,
    zone: String,
}

/// What these commands read of a pool.
#[derive(Debug, Deserialize)]
struct PoolSeen {
    failover: Option<String>,
    endpoints: Vec<EndpointSeen>,
}

/// Carries out a command; the text is for standard output.
pub(super) fn execute(command: &Live) -> Result<String, Failure> {
    run::runtime()?.block_on(async {
        match command {
            Live::Status { check: Some(check), admin } => well(&admin.client()?, *check).await,
            Live::Status { check: None, admin } => status::status(&admin.client()?).await,
            Live::Reload(arguments) => reload::reload(arguments).await,
            Live::Upgrade(arguments) => upgrade::upgrade(arguments).await,
            Live::Drain(arguments) => drain(arguments).await,
            Live::Ready { which, admin } => {
                let client = admin.client()?;
                let (told, failed) = change_all(&client, which, AdminState::Ready, false).await?;
                finish(told, &failed)
            }
            Live::Maintain { endpoint, force, admin } => {
                change(&admin.client()?, endpoint, AdminState::Maintenance, *force).await
            }
            Live::Failover { pool, to, admin } => fail_over(&admin.client()?, pool, to).await,
        }
    })
}

impl AdminAddress {
    pub(super) fn client(&self) -> Result<Client, Failure> {
        Client::new(Address::find(self.address.as_deref())?).with_token(self.token_file.as_deref())
    }
}

/// Whether the process is well; why not is the failure's text.
async fn well(client: &Client, check: Check) -> Result<String, Failure> {
    let path = match check {
        Check::Live => "/livez",
        Check::Local => "/readyz?local",
        Check::Ready => "/readyz",
    };
    let late = |_elapsed| Failure::Running(format!("no answer within {CHECK_TIMEOUT:?}"));
    timeout(CHECK_TIMEOUT, client.get::<serde_json::Value>(path)).await.map_err(late)??;
    Ok(match check {
        Check::Live => "live\n",
        Check::Local | Check::Ready => "ready\n",
    }
    .to_owned())
}

async fn change(
    client: &Client,
    endpoint: &Endpoint,
    state: AdminState,
    force: bool,
) -> Result<String, Failure> {
    let path = format!(
        "{}/endpoints/{}{}",
        path_of(&endpoint.pool),
        segment(endpoint.name.as_str()),
        if force { "?force" } else { "" }
    );
    let order = json!({ "admin_state": state.word() });
    let seen: EndpointSeen = client.send(Method::PATCH, &path, &order).await?;
    Ok(format!("{endpoint}: {}, {} in flight\n", seen.admin_state, seen.in_flight))
}

async fn drain(arguments: &DrainArgs) -> Result<String, Failure> {
    let client = arguments.admin.client()?;
    let (which, force) = (&arguments.which, arguments.force);
    let (told, mut failed) = change_all(&client, which, AdminState::Drain, force).await?;
    if !arguments.wait {
        return finish(told, &failed);
    }
    let limit = arguments.timeout.unwrap_or(DRAIN_TIMEOUT);
    let start = Instant::now();
    let mut lines = Vec::new();
    for (endpoint, _) in told {
        // One limit for all of them: those that come later have what is left of it.
        match drained(&client, &endpoint, start, limit).await {
            Ok(line) => lines.push((endpoint, line)),
            Err(failure) => failed.push(failure),
        }
    }
    finish(lines, &failed)
}

/// Changes each endpoint; what was told of those that it worked for, and why it did not for the others. That a zone is
/// unknown, or a single endpoint cannot be changed, is a failure of the whole.
async fn change_all(
    client: &Client,
    which: &Which,
    state: AdminState,
    force: bool,
) -> Result<(Vec<(Endpoint, String)>, Vec<Failure>), Failure> {
    if let Some(endpoint) = &which.endpoint {
        let told = change(client, endpoint, state, force).await?;
        return Ok((vec![(endpoint.clone(), told)], Vec::new()));
    }
    let zone = which.zone.as_deref().unwrap_or_default();
    let endpoints = in_zone(client, zone).await?;
    if endpoints.is_empty() {
        return Err(Failure::Input(format!("no endpoint stands in zone \"{zone}\"")));
    }
    let (mut told, mut failed) = (Vec::new(), Vec::new());
    for endpoint in endpoints {
        match change(client, &endpoint, state, force).await {
            Ok(line) => told.push((endpoint, line)),
            Err(failure) => failed.push(failure),
        }
    }
    Ok((told, failed))
}

/// Every endpoint of a zone.
async fn in_zone(client: &Client, zone: &str) -> Result<Vec<Endpoint>, Failure> {
    let pools: Vec<ZonedPool> = client.get("/v1/pools").await?;
    let mut found = Vec::new();
    for pool in pools {
        for seen in pool.endpoints.into_iter().filter(|seen| seen.zone == zone) {
            let endpoint = format!("{}/{}", pool.name, seen.name).parse();
            found.push(endpoint.map_err(|error: EndpointError| Failure::Running(error.to_string()))?);
        }
    }
    Ok(found)
}

/// What there is to print; what failed ends the command with its status, and says what remains.
fn finish(told: Vec<(Endpoint, String)>, failed: &[Failure]) -> Result<String, Failure> {
    let mut text: String = told.into_iter().map(|(_, line)| line).collect();
    if failed.is_empty() {
        return Ok(text);
    }
    let lines: Vec<String> = failed.iter().map(ToString::to_string).collect();
    text.push_str(&lines.join("\n"));
    Err(Failure::Running(text))
}

/// Waits until nothing is in flight.
async fn drained(
    client: &Client,
    endpoint: &Endpoint,
    start: Instant,
    limit: Duration,
) -> Result<String, Failure> {
    loop {
        let pool: PoolSeen = client.get(&path_of(&endpoint.pool)).await?;
        let seen = pool.endpoints.iter().find(|seen| seen.name == endpoint.name.as_str());
        let Some(seen) = seen else {
            return Err(Failure::Running(format!("{endpoint} is not there any more")));
        };
        if seen.admin_state != AdminState::Drain.word() {
            let message = format!("{endpoint} is {} now: somebody else has changed it", seen.admin_state);
            return Err(Failure::Running(message));
        }
        if seen.in_flight == 0 {
            return Ok(format!("{endpoint}: drained\n"));
        }
        if start.elapsed() >= limit {
            let message = format!("{endpoint} still has {} in flight after {limit:?}", seen.in_flight);
            return Err(Failure::Running(message));
        }
        sleep(LOOK.min(limit)).await;
    }
}

async fn fail_over(client: &Client, pool: &PoolName, to: &PoolName) -> Result<String, Failure> {
    let path = format!("{}/failover", path_of(pool));
    let seen: PoolSeen = client.send(Method::POST, &path, &json!({ "to": to.as_str() })).await?;
    let serving =
        seen.failover.map_or_else(|| "its own endpoints".to_owned(), |other| format!("\"{other}\""));
    Ok(format!("pool \"{pool}\" is sent to {to}; its traffic goes to {serving} now\n"))
}

fn path_of(pool: &PoolName) -> String {
    format!("/v1/pools/{}", segment(pool.as_str()))
}
