//! The endpoints of a pool in the order in which a request would try them, and why the others are not tried: of a pool at
//! rest, or as it stands now. What is found is what `runtime::pick` says; here it is only asked.

use super::sticky::{self, Belongs};
use super::{EndpointSeen, PoolSeen, admission, order};
use crate::config::pool::{Balance, Endpoint, Pool};
use crate::config::retry::{NonIdempotent, Retry};
use crate::config::route::Route;
use crate::control::collect::{endpoint_status, queue_status};
use crate::model::request::RequestView as _;
use crate::model::units::format_duration;
use crate::policy::admission::class::Class;
use crate::policy::balance::Draw;
use crate::policy::sticky::WhenDown;
use crate::proxy::hash_key;
use crate::runtime;
use crate::runtime::compile::compile_hash_key;
use crate::runtime::condition::Level;
use crate::runtime::endpoint::Work;
use crate::runtime::pick::{Bound, Order, Picked, Seen};
use crate::runtime::pool::{HashKey, Tried};

use super::scene::Scene;

/// Endpoints of a list that are told one by one.
const LISTED: usize = 32;

/// The number that decides what chance decides: the same question gets the same answer.
const RANDOM: u64 = 0;

/// What is known of one pool that may take the request.
pub(super) struct Told {
    pub(super) seen: PoolSeen,
    /// Where the client belongs, if the pool knows that.
    pub(super) belongs: Option<Belongs>,
    /// What would become of a request that came to it now.
    pub(super) outcome: Option<String>,
}

/// A pool that the request may come to; `chain` is what takes its work where that is more than its own.
pub(super) fn explain(
    scene: &Scene<'_>,
    pool: &Pool,
    route: Option<&Route>,
    chain: Option<&[usize]>,
) -> Told {
    let retry = route.and_then(|route| route.retry.as_ref()).unwrap_or(&pool.retry);
    let heading = format!("balance {}, at most {} attempts", pool.balance.word(), retry.attempts);
    let key = hashed(scene, pool, route.is_some());
    let (said, belongs) = sticky::explain(scene.config, pool, scene.live, scene.request);
    let name = pool.name.to_string();
    let mut seen =
        PoolSeen { name, heading, said, hint: hint(scene, pool, key.as_deref()), ..PoolSeen::default() };
    let mut outcome = None;
    match scene
        .live
        .and_then(|live| Some((live, live.snapshot.pools.iter().find(|own| own.name == pool.name)?)))
    {
        None => at_rest(pool, key.as_deref(), &mut seen),
        Some((live, own)) => {
            let work = if route.is_some() { Work::Request } else { Work::Connection };
            let order = Order::new(&live.snapshot.pools, chain.unwrap_or(&own.chain));
            let draw = Draw { random: RANDOM, key: key.as_deref() };
            let strict = pool.sticky.as_ref().is_some_and(|sticky| sticky.when_down == WhenDown::Fail);
            let bound = belongs.as_ref().and_then(|belongs| bound(&live.snapshot.pools, belongs, strict));
            let class = route.map(|route| route.priority_class).unwrap_or_default();
            let look = Look { scene, own, order, work, draw, bound, class };
            outcome = Some(look.tell(&mut seen));
        }
    }
    backups(pool, &mut seen.after);
    admission::explain_pool(pool, route, &mut seen.after);
    if route.is_some() {
        retries(scene, (pool, retry), &mut seen.after);
    }
    Told { seen, belongs, outcome }
}

/// The key of the request, where the pool hashes.
fn hashed(scene: &Scene<'_>, pool: &Pool, is_request: bool) -> Option<Vec<u8>> {
    let key = compile_hash_key(pool)?;
    Some(match is_request {
        true => hash_key::of_request(&key, scene.request),
        false => {
            let name = (key == HashKey::Sni).then(|| scene.server_name());
            hash_key::of_connection(
                &key,
                scene.request.source(),
                name.as_deref().filter(|name| !name.is_empty()),
            )
        }
    })
}

/// What the order that follows depends on.
fn hint(scene: &Scene<'_>, pool: &Pool, key: Option<&[u8]>) -> String {
    if let Some(key) = key {
        let of = format!("{} {:?}", pool.hash_key, String::from_utf8_lossy(key));
        return match scene.live {
            Some(_) => format!("order of tries now, by the hash of {of}:"),
            None => format!("order of tries when all are usable, by the hash of {of}:"),
        };
    }
    let (order, and) = match (pool.balance, scene.live.is_some()) {
        (Balance::RoundRobin, false) => {
            ("order of tries when all are usable", "; each next request starts one further by weight:")
        }
        (Balance::RoundRobin, true) => {
            ("order of tries now", "; each request moves it one further by weight:")
        }
        (Balance::LeastRequests, false) => {
            ("order of tries when all are usable and idle", "; fewest in flight for its weight goes first:")
        }
        (Balance::LeastRequests, true) => {
            ("order of tries now", "; fewest in flight for its weight goes first:")
        }
        (Balance::Random, false) => {
            ("one possible order of tries", "; each pick is the better of two drawn by weight:")
        }
        (Balance::Random, true) => {
            ("one possible order of tries now", "; each pick is the better of two drawn by weight:")
        }
        (Balance::PeakEwma, false) => {
            ("order of tries when all are usable, idle and equally fast", "; the soonest answer goes first:")
        }
        (Balance::PeakEwma, true) => {
            ("one possible order of tries now", "; the soonest answer of two drawn by weight goes first:")
        }
        (_, false) => ("order of tries when all are usable and have room", ":"),
        (_, true) => ("order of tries now", "; the first that has room:"),
    };
    format!("{order}{and}")
}

/// Who would be tried if all were well and idle.
fn at_rest(pool: &Pool, key: Option<&[u8]>, seen: &mut PoolSeen) {
    seen.order = order::order(pool, key).into_iter().map(written).collect();
    let never = pool.endpoints.iter().filter(|endpoint| endpoint.weight.get() == 0);
    seen.out = never.map(written).collect();
}

fn written(endpoint: &Endpoint) -> EndpointSeen {
    EndpointSeen {
        pool: None,
        name: endpoint.name.to_string(),
        address: endpoint.address.to_string(),
        tier: endpoint.tier,
        weight: endpoint.weight.get(),
        now: None,
    }
}

fn backups(pool: &Pool, lines: &mut Vec<String>) {
    let first = pool.endpoints.iter().map(|endpoint| endpoint.tier).min();
    if pool.endpoints.iter().any(|endpoint| Some(endpoint.tier) != first) {
        lines.push("a tier is used only while no endpoint of an earlier one is usable".to_owned());
    }
}

/// What would have to hold for another try.
fn retries(scene: &Scene<'_>, (pool, retry): (&Pool, &Retry), lines: &mut Vec<String>) {
    if retry.attempts < 2 {
        return;
    }
    let request = scene.request;
    let method = String::from_utf8_lossy(request.method_bytes()).into_owned();
    let twice = match retry.non_idempotent {
        _ if request.method().is_idempotent() => format!("{method} may be sent twice"),
        NonIdempotent::Always => format!("{method} may be sent twice, since non_idempotent says so"),
        NonIdempotent::WithIdempotencyKey if request.field("idempotency-key").is_some() => {
            format!("{method} may be sent twice, by its Idempotency-Key")
        }
        _ => format!("{method} is not sent twice: only where nothing of it was sent"),
    };
    let on = &retry.on;
    let mut causes: Vec<String> = [(on.connect, "connect"), (on.reset, "reset"), (on.timeout, "timeout")]
        .into_iter()
        .filter(|(listed, _)| *listed)
        .map(|(_, word)| word.to_owned())
        .collect();
    causes.extend(on.statuses.iter().map(|(low, high)| match low == high {
        true => low.to_string(),
        false => format!("{low}-{high}"),
    }));
    let within = format_duration(retry.within);
    let live = scene.live.and_then(|live| live.snapshot.pools.iter().find(|own| own.name == pool.name));
    let budget = match live.and_then(runtime::pool::Pool::retries_seen) {
        Some(0) => "; its budget is spent, so that only failed connects are tried again now".to_owned(),
        Some(left) => format!("; its budget has {left} left"),
        None => String::new(),
    };
    lines.push(format!("the next one is tried on {} within {within}: {twice}{budget}", causes.join(", "),));
}

/// The endpoint of the snapshot where a client belongs.
fn bound<'a>(pools: &'a [runtime::pool::Pool], belongs: &Belongs, strict: bool) -> Option<Bound<'a>> {
    let (pool, endpoint) = &belongs.at;
    let pool = pools.iter().find(|own| own.name.as_str() == pool)?;
    let endpoint = pool.endpoints.iter().find(|own| own.name.as_str() == endpoint)?;
    Some(Bound { pool, endpoint, strict })
}

/// A look at a pool as it stands.
struct Look<'l, 'a> {
    scene: &'l Scene<'a>,
    own: &'a runtime::pool::Pool,
    order: Order<'a>,
    work: Work,
    draw: Draw<'l>,
    bound: Option<Bound<'a>>,
    class: Class,
}

impl<'a> Look<'_, 'a> {
    /// Tells who would be tried, and what would become of the request.
    fn tell(&self, seen: &mut PoolSeen) -> String {
        self.stands(&mut seen.said);
        let mut tried = Tried::default();
        let mut first = None;
        let mut rest = true;
        if let Some(bound) = self.bound {
            let picked = self.order.look_bound(bound, self.work);
            seen.said.push(self.kept(bound, &picked));
            rest = !bound.strict;
            match picked {
                Picked::Place((pool, endpoint), level) => {
                    first = Some(self.goes((pool, endpoint), level));
                    seen.order.push(self.endpoint((pool, endpoint)));
                    tried.add(endpoint);
                }
                Picked::Busy(pool, _) => first = Some(self.waits(pool)),
                Picked::Nothing if bound.strict => {
                    first =
                        Some("answered with 503: the client goes nowhere but where it belongs".to_owned());
                }
                Picked::Nothing => {}
            }
        }
        while rest && seen.order.len() < LISTED {
            match self.order.look(&tried, self.work, self.draw) {
                Picked::Place((pool, endpoint), level) => {
                    first.get_or_insert_with(|| self.goes((pool, endpoint), level));
                    seen.order.push(self.endpoint((pool, endpoint)));
                    tried.add(endpoint);
                }
                Picked::Busy(pool, _) => {
                    let waits = self.waits(pool);
                    if !seen.order.is_empty() {
                        seen.after.push(format!("after those: {waits}"));
                    }
                    first.get_or_insert(waits);
                    break;
                }
                Picked::Nothing => break,
            }
        }
        self.others(&tried, seen);
        first.unwrap_or_else(|| match self.work {
            Work::Request => "answered with 503: nothing is usable".to_owned(),
            Work::Connection => "closed: nothing is usable".to_owned(),
        })
    }

    /// How the pool stands as a whole.
    fn stands(&self, lines: &mut Vec<String>) {
        let Some(live) = self.scene.live else { return };
        let board = live.handle.0.board.pool(&self.own.name);
        if let Some(reason) = self.own.live.condition.reason() {
            lines.push(format!("the pool takes nothing now: {}", reason.word()));
        }
        match (board.serving_tier, &board.failover) {
            (_, Some(other)) => lines.push(format!("its traffic goes to pool {other} now")),
            (Some(tier), None) if tier > 0 => lines.push(format!("tier {tier} serves now")),
            _ => {}
        }
        if board.fails_open {
            lines.push("nothing is usable, and endpoints are tried all the same now".to_owned());
        }
        let queue = queue_status(self.own);
        if !queue.is_empty() {
            let waiting =
                Class::ALL.map(|class| format!("{} {}", queue.waiting[class.index()], class.word()));
            lines.push(format!(
                "its queue has {} of {} now: {}",
                queue.len(),
                self.own.queue_capacity,
                waiting.join(", ")
            ));
        }
        for class in &queue.stands {
            lines.push(format!("its queue sheds class {} now", class.word()));
        }
    }

    /// What becomes of a client at the endpoint where it belongs.
    fn kept(&self, Bound { endpoint, strict, .. }: Bound<'_>, picked: &Picked<'_, Seen<'_>>) -> String {
        let leaves = endpoint.live.condition.is_leaving();
        match picked {
            Picked::Place(..) if leaves => {
                let time = format_duration(self.own.drain_timeout);
                format!("that one takes nobody else any more, and its clients for up to {time}")
            }
            Picked::Place(..) => "that one takes it".to_owned(),
            Picked::Busy(..) => "that one has no room: the request waits for it".to_owned(),
            Picked::Nothing => {
                let why = endpoint.live.condition.reason().map_or("its pool takes nothing", |why| why.word());
                let then = if strict { "the request is refused" } else { "another one is taken" };
                format!("that one cannot be used now ({why}): {then}")
            }
        }
    }

    fn goes(&self, (pool, endpoint): Seen<'_>, level: Level) -> String {
        let how = match level {
            Level::Proven => "",
            Level::Unproven => ", which no probe has answered for yet",
            Level::Open => ", although nothing is known to be well",
        };
        format!("goes to {}/{}{how}", pool.name, endpoint.name)
    }

    /// What becomes of a request that finds no room.
    fn waits(&self, pool: &runtime::pool::Pool) -> String {
        if self.work == Work::Connection {
            return "closed: all are busy".to_owned();
        }
        let (waiting, most) =
            (pool.live.queue.state().waiting.iter().sum::<usize>(), pool.queue_capacity as usize);
        if waiting >= most {
            return format!("answered with 503: all are busy, and the queue of pool {} is full", pool.name);
        }
        format!(
            "waits in the queue of pool {} in class {}, where {waiting} of {most} wait, up to {}",
            pool.name,
            self.class.word(),
            format_duration(pool.queue_timeout)
        )
    }

    fn endpoint(&self, (pool, endpoint): Seen<'_>) -> EndpointSeen {
        let board = self.scene.live.map(|live| &live.handle.0.board);
        EndpointSeen {
            pool: (!std::ptr::eq(pool, self.own)).then(|| pool.name.to_string()),
            name: endpoint.name.to_string(),
            address: endpoint.address.to_string(),
            tier: endpoint.tier,
            weight: endpoint.weight,
            now: board.map(|board| endpoint_status(board, pool, endpoint)),
        }
    }

    /// Those of the pool itself that would not be tried.
    fn others(&self, tried: &Tried, seen: &mut PoolSeen) {
        let mut others = self.own.endpoints.iter().filter(|endpoint| !tried.contains(endpoint));
        seen.out = others.by_ref().take(LISTED).map(|endpoint| self.endpoint((self.own, endpoint))).collect();
        let more = others.count();
        if more > 0 {
            seen.after.push(format!("and {more} more"));
        }
    }
}
