//! Copies of requests for another pool, whose answers nobody gets. Each goes in a task of its own, so many at once; the
//! client's own request neither waits for it nor hears of it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::bridge::subrequest::{Subrequest, Way};
use super::phases::Altered;
use super::presentation::{Presentation, Presents};
use super::request::{Context, Downstream};
use super::tls::Secured;
use super::worker::Worker;
use crate::runtime::counters::WorkerId;
use crate::runtime::listener::ListenerLive;
use crate::runtime::snapshot::Route;
use crate::runtime::store::Current;
use crate::runtime::treatment::{Copies, Mirror, Treatment, TreatmentLive};

/// A copy that is sent once the body of the request has come, and its place.
pub(super) struct Later<'a>(&'a Arc<Mirror>, UnderWay);

/// Begins to copy a request, where it is to be: at once where it has no body.
pub(super) fn begin<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    (route, treatment): (&'a Route, &'a Treatment),
    altered: &Altered<'_>,
) -> Option<Later<'a>> {
    let mirror = treatment.mirror.as_ref()?;
    if !mirror.takes(context.worker.random()) || down.wants_tunnel() {
        return None;
    }
    let counters = &treatment.live.counters.of(context.worker.id).copies;
    // A body that is being copied is held: it counts from here on.
    if counters.under_way.get() >= mirror.max_in_flight {
        counters.dropped.one();
        return None;
    }
    let place = UnderWay::begin(&treatment.live, context.worker.id);
    if !down.has_body() {
        send(context, down, (route, treatment, mirror, place), altered, None);
        return None;
    }
    if !down.copy_body(mirror.max_body) {
        counters.too_large.one();
        return None;
    }
    Some(Later(mirror, place))
}

impl Later<'_> {
    /// Sends it, if all of the body has gone on.
    pub(super) fn send<D: Downstream>(
        self,
        context: &Context<'_>,
        down: &mut D,
        (route, treatment): (&Route, &Treatment),
        altered: &Altered<'_>,
    ) {
        match down.copied_body() {
            Some(body) => send(context, down, (route, treatment, self.0, self.1), altered, Some(body)),
            None => treatment.live.counters.of(context.worker.id).copies.too_large.one(),
        }
    }
}

fn send<D: Downstream>(
    context: &Context<'_>,
    down: &D,
    (route, treatment, mirror, way): (&Route, &Treatment, &Arc<Mirror>, UnderWay),
    altered: &Altered<'_>,
    body: Option<Vec<u8>>,
) {
    let (worker, counters) = (context.worker, treatment.live.counters.of(context.worker.id));
    let snapshot = worker.snapshot();
    let edits = altered.request(&route.request_edits.fixed);
    let subrequest = Subrequest::again(down.view(), edits, altered, body.as_ref().map(Vec::len));
    // A request that began before a reload has pools that the snapshot may not have.
    let is_current = std::ptr::eq(&raw const **snapshot, context.snapshot);
    let (Some(subrequest), true) = (subrequest, is_current) else {
        return counters.copies.dropped.one();
    };
    let sends_proxy = snapshot.pools.get(mirror.pool).is_some_and(|pool| pool.send_proxy.is_some());
    let copy = Copy {
        way,
        worker: Rc::clone(worker),
        snapshot,
        listener: Arc::clone(&context.listener.live),
        mirror: Arc::clone(mirror),
        subrequest,
        body: body.unwrap_or_default(),
        peer: context.peer,
        client: Somebody {
            source: context.client.source(),
            presentation: if sends_proxy { context.client.presentation() } else { Presentation::default() },
        },
        trusted: context.trusted,
        tls: context.tls.cloned(),
        request_id: context.request_id.to_vec(),
        version: context.version,
    };
    worker.spawn(Box::pin(copy.run()));
}

/// Whom a copy is from: the client may have left when it is sent.
struct Somebody {
    source: SocketAddr,
    presentation: Presentation,
}

impl Presents for Somebody {
    fn source(&self) -> SocketAddr {
        self.source
    }

    fn presentation(&self) -> Presentation {
        self.presentation.clone()
    }
}

/// One copy.
struct Copy {
    way: UnderWay,
    worker: Rc<Worker>,
    snapshot: Current,
    listener: Arc<ListenerLive>,
    mirror: Arc<Mirror>,
    subrequest: Subrequest,
    body: Vec<u8>,
    peer: SocketAddr,
    client: Somebody,
    trusted: bool,
    tls: Option<Secured>,
    request_id: Vec<u8>,
    version: &'static str,
}

impl Copy {
    async fn run(self) {
        let snapshot = &**self.snapshot;
        let Some(listener) = snapshot.listeners.iter().find(|known| Arc::ptr_eq(&known.live, &self.listener))
        else {
            return;
        };
        let timer = self.worker.timers.timer();
        let context = Context {
            worker: &self.worker,
            snapshot,
            listener,
            timer: &timer,
            peer: self.peer,
            client: &self.client,
            trusted: self.trusted,
            tls: self.tls.as_ref(),
            request_id: &self.request_id,
            start: Instant::now(),
            head: Duration::ZERO,
            version: self.version,
        };
        let mirror = &self.mirror;
        let way = Way { route: &mirror.route, pool: mirror.pool, within: mirror.timeout, keep: None };
        match self.subrequest.send(&context, &way, self.body.into()).await {
            Ok(answer) if answer.is_whole() => self.way.counters().answered.one(),
            Ok(_) | Err(_) => self.way.counters().failed.one(),
        }
    }
}

/// A copy's place among those under way; given back when dropped.
struct UnderWay {
    live: Arc<TreatmentLive>,
    worker: WorkerId,
}

impl UnderWay {
    fn begin(live: &Arc<TreatmentLive>, worker: WorkerId) -> Self {
        let place = Self { live: Arc::clone(live), worker };
        place.counters().under_way.add(1);
        place
    }

    fn counters(&self) -> &Copies {
        &self.live.counters.of(self.worker).copies
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.counters().under_way.sub(1);
    }
}
