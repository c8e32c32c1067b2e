//! A tcp session: pick, dial (the next endpoint when one cannot be reached), relay, account.

use std::rc::Rc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::relay::{self, Ended, Relayed};
use crate::proxy::attempt::{Connection, Tries};
use crate::proxy::buffer::Buffer;
use crate::proxy::connection::Client;
use crate::proxy::error::Error;
use crate::proxy::worker::Worker;
use crate::runtime::endpoint::Work;
use crate::runtime::listener::{Listener, Protocol};
use crate::runtime::pool::Pool;
use crate::runtime::snapshot::Snapshot;
use crate::telemetry::access_log::{Phases, Record, Termination};

/// Runs one session until it ends.
pub async fn run(worker: Rc<Worker>, client: Client) {
    let snapshot = worker.snapshot();
    let Some((listener, pool)) = target(&snapshot, client.listener) else { return };
    let (at, start) = (SystemTime::now(), Instant::now());
    let mut tries = Tries::new(&worker, pool, pool.timeouts, Work::Connection);
    let connected = connect(&mut tries, &client).await;
    let mut record = Record {
        at,
        client: client.peer,
        peer: client.peer,
        listener: listener.name.as_str(),
        route: None,
        pool: Some(pool.name.as_str()),
        endpoint: None,
        attempts: tries.attempts,
        protocol: "TCP",
        method: b"",
        host: b"",
        target: b"",
        status: 0,
        bytes_in: 0,
        bytes_out: 0,
        phases: Phases { queue: tries.queued, connect: tries.connecting, ..Phases::default() },
        termination: Termination::Done,
        request_id: b"",
    };
    match connected {
        Ok(connection) => {
            let relayed = relay(&worker, &client, pool, &connection).await;
            let endpoint = connection.place.endpoint;
            let counters = endpoint.live.counters.of(worker.id);
            counters.bytes_in.add(relayed.forth);
            counters.bytes_out.add(relayed.back);
            record.endpoint = Some(endpoint.name.as_str());
            record.bytes_in = relayed.forth;
            record.bytes_out = relayed.back;
            record.termination = match relayed.ended {
                Ended::Closed => Termination::Done,
                Ended::FirstBroke => Termination::ClientAborted,
                Ended::SecondBroke => Termination::EndpointAborted,
                Ended::Idle => Termination::IdleTimeout,
            };
        }
        Err(error) => {
            pool.live.counters.of(worker.id).unanswered.one();
            record.termination = error.termination();
            // Tells the client at once, where an orderly end would look like an empty answer.
            relay::reset_on_close(&client.stream);
        }
    }
    let counters = listener.live.counters.of(worker.id);
    counters.bytes_in.add(record.bytes_in);
    counters.bytes_out.add(record.bytes_out);
    record.phases.total = start.elapsed();
    worker.access_log.borrow_mut().log(&record);
}

fn target(snapshot: &Snapshot, listener: usize) -> Option<(&Listener, &Pool)> {
    let listener = snapshot.listeners.get(listener)?;
    let Protocol::Tcp { pool } = listener.protocol else { return None };
    Some((listener, snapshot.pools.get(pool)?))
}

async fn connect<'a>(tries: &mut Tries<'a>, client: &Client) -> Result<Connection<'a>, Error> {
    let mut last = None;
    loop {
        // A client of a tcp session may end its direction early and still want the answer: it is not watched here.
        let place = match tries.pick(&client.timer, std::future::pending()).await {
            Ok(place) => place,
            Err(error) => return Err(last.unwrap_or(error)),
        };
        let counters = &place.endpoint.live.counters;
        counters.of(tries.worker.id).attempts.one();
        match tries.dial(place, &client.timer).await {
            Ok(connection) => {
                tries.attempts += 1;
                return Ok(connection);
            }
            Err(error) => last = Some(error),
        }
    }
}

async fn relay(worker: &Worker, client: &Client, pool: &Pool, connection: &Connection<'_>) -> Relayed {
    let buffers = (Buffer::default(), Buffer::default());
    relay::run(
        &client.stream,
        &connection.stream,
        buffers,
        pool.timeouts.tunnel,
        &client.timer,
        &worker.pipes,
    )
    .await
}
