//! A tcp session: pick, dial (the next endpoint when one cannot be reached), relay, account.

use std::future::Future;
use std::rc::Rc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::relay::{self, Ended, Relayed};
use crate::proxy::attempt::{Connection, Tries};
use crate::proxy::connection::Client;
use crate::proxy::error::Error;
use crate::proxy::worker::Worker;
use crate::runtime::endpoint::{Endpoint, Work};
use crate::runtime::listener::{Listener, Protocol};
use crate::runtime::pick::Order;
use crate::runtime::pool::Pool;
use crate::runtime::snapshot::{Overrides, Snapshot};
use crate::telemetry::access_log::{Phases, Record, Termination};

/// Runs one session until it ends.
#[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice, in every idle connection")]
pub fn run(worker: Rc<Worker>, client: Client) -> impl Future<Output = ()> {
    async move {
        let snapshot = worker.snapshot();
        let Some((listener, order, pool)) = target(&snapshot, client.listener) else { return };
        let start = Instant::now();
        // Boxed: what it takes to connect is of no use to a session that lasts.
        let connected = Box::pin(connect(&worker, order, pool, &client)).await;
        let (endpoint, outcome) = match &connected.connection {
            Ok(connection) => {
                let idle = pool.timeouts.tunnel;
                let relayed =
                    relay::run(&client.stream, &connection.stream, idle, &client.timer, &worker.pipes).await;
                (Some(connection.place.endpoint), Ok(relayed))
            }
            Err(error) => {
                // Tells the client at once, where an orderly end would look like an empty answer.
                relay::reset_on_close(&client.stream);
                (None, Err(error))
            }
        };
        account(&worker, &client, listener, pool, endpoint, &connected, outcome, start);
    }
}

/// What connecting came to.
struct Connected<'a> {
    connection: Result<Connection<'a>, Error>,
    attempts: u32,
    phases: Phases,
}

#[expect(clippy::too_many_arguments, reason = "the whole of a session, once")]
fn account(
    worker: &Worker,
    client: &Client,
    listener: &Listener,
    pool: &Pool,
    endpoint: Option<&Endpoint>,
    connected: &Connected<'_>,
    outcome: Result<Relayed, &Error>,
    start: Instant,
) {
    let (forth, back) = outcome.map_or((0, 0), |relayed| (relayed.forth, relayed.back));
    let counters = listener.live.counters.of(worker.id);
    counters.bytes_in.add(forth);
    counters.bytes_out.add(back);
    if let Some(endpoint) = endpoint {
        let counters = endpoint.live.counters.of(worker.id);
        counters.bytes_in.add(forth);
        counters.bytes_out.add(back);
    }
    let termination = match outcome {
        Ok(relayed) => match relayed.ended {
            Ended::Closed => Termination::Done,
            Ended::FirstBroke => Termination::ClientAborted,
            Ended::SecondBroke => Termination::EndpointAborted,
            Ended::Idle => Termination::IdleTimeout,
        },
        Err(error) => error.termination(),
    };
    pool.live.counters.of(worker.id).ended.count(0);
    worker.count_end(&listener.live, 0, termination);
    let total = start.elapsed();
    worker.access_log.borrow_mut().log(&Record {
        at: SystemTime::now() - total,
        client: client.peer,
        peer: client.peer,
        listener: listener.name.as_str(),
        route: None,
        pool: Some(pool.name.as_str()),
        endpoint: endpoint.map(|e| e.name.as_str()),
        attempts: connected.attempts,
        protocol: "TCP",
        method: b"",
        host: b"",
        target: b"",
        status: 0,
        bytes_in: forth,
        bytes_out: back,
        phases: Phases { total, ..connected.phases },
        termination,
        request_id: b"",
    });
}

fn target(snapshot: &Snapshot, listener: usize) -> Option<(&Listener, Order<'_>, &Pool)> {
    let listener = snapshot.listeners.get(listener)?;
    let Protocol::Tcp { pool } = listener.protocol else { return None };
    let pool = snapshot.pools.get(pool)?;
    Some((listener, Order::new(&snapshot.pools, &pool.chain), pool))
}

async fn connect<'a>(worker: &'a Worker, order: Order<'a>, pool: &'a Pool, client: &Client) -> Connected<'a> {
    let mut tries = Tries::new(worker, order, pool, Overrides::default(), Work::Connection);
    let connection = try_all(&mut tries, client).await;
    let phases = Phases { queue: tries.queued, connect: tries.connecting, ..Phases::default() };
    Connected { connection, attempts: tries.attempts, phases }
}

async fn try_all<'a>(tries: &mut Tries<'a>, client: &Client) -> Result<Connection<'a>, Error> {
    let mut last = None;
    loop {
        // A client of a tcp session may end its direction early and still want the answer: it is not watched here.
        let place = match tries.pick(&client.timer, std::future::pending()).await {
            Ok(place) => place,
            Err(error) => return Err(last.unwrap_or(error)),
        };
        place.endpoint.live.counters.of(tries.worker.id).attempts.one();
        match tries.dial(place, &client.timer).await {
            Ok(connection) => {
                tries.attempts += 1;
                return Ok(connection);
            }
            Err(error) => last = Some(error),
        }
    }
}
