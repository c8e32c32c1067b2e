//! Where the client of a request belongs, what of that endpoints see, and what the client is told of it. How long a
//! binding holds is `policy::sticky`'s to say; which endpoint of those it means may be used is `runtime::pick`'s.

use std::net::IpAddr;
use std::time::SystemTime;

use super::phases::Altered;
use super::request::{Context, Downstream};
use super::worker::Worker;
use crate::model::request::RequestView;
use crate::policy::sticky::fields::{Stripped, cache_control, cookie_set, strip};
use crate::policy::sticky::{Binding, Standing, WhenDown};
use crate::route::{cookie_values, query_values};
use crate::runtime::endpoint::Endpoint;
use crate::runtime::pick::{Bound, Order};
use crate::runtime::pool::{HashKey, Pool};
use crate::runtime::snapshot::Split;
use crate::runtime::sticky::{By, Jar, Known, Place, is_backup};

/// Cookies of one name that are looked at: a client has one, or two with different paths.
pub const COOKIES_MAX: usize = 4;

/// Where a request's client belongs, or that it is to belong somewhere.
pub struct Affinity<'a> {
    /// The split that the request came by, where it goes by that.
    split: Option<&'a Split>,
    found: Option<Found<'a>>,
    /// Whether it carried what counts for nothing.
    void: bool,
    /// Seconds since 1970.
    now: u32,
}

/// Where a client belongs.
#[derive(Clone, Copy)]
struct Found<'a> {
    /// The pool whose cookie or table says so.
    by: &'a Pool,
    pool: &'a Pool,
    endpoint: &'a Endpoint,
    binding: Binding,
    standing: Standing,
}

/// What one pool knows of a client.
enum Look<'a> {
    Nothing,
    Void,
    Found(Found<'a>),
}

/// The affinity of a request to a sticky pool; nothing where the pool is not. Its cookie does not go on.
pub fn of_pool<'a, V: RequestView>(
    context: &Context<'a>,
    view: &V,
    pool: &'a Pool,
    altered: &mut Altered<'a>,
) -> Option<Box<Affinity<'a>>> {
    let sticky = pool.sticky.as_ref()?;
    let now = seconds();
    let (found, void) = match look(context, view, pool, now) {
        Look::Nothing => (None, false),
        Look::Void => (None, true),
        Look::Found(found) => (Some(found), false),
    };
    if let Some(jar) = sticky.jar() {
        hide(view, altered, |name| name == jar.attributes.name.as_bytes());
    }
    Some(Box::new(Affinity { split: None, found, void, now }))
}

/// The pools that take a request by a split that goes by where clients belong, and its affinity: the pool where it belongs
/// while that has a weight, else one by chance. Of several that claim it, the one where a split has put it last.
pub fn of_split<'a, V: RequestView>(
    context: &Context<'a>,
    view: &V,
    split: &'a Split,
    altered: &mut Altered<'a>,
) -> (&'a [usize], Option<Box<Affinity<'a>>>) {
    let pools = &context.snapshot.pools;
    let now = seconds();
    let mut affinity = Affinity { split: Some(split), found: None, void: false, now };
    let mut chain = None;
    for part in split.weighted() {
        let Some(pool) = part.chain.first().and_then(|&pool| pools.get(pool)) else { continue };
        match look(context, view, pool, now) {
            Look::Nothing => {}
            Look::Void => affinity.void = true,
            Look::Found(found) => {
                let rank = |found: &Found<'_>| (found.binding.split, found.binding.seen);
                if affinity.found.as_ref().is_none_or(|best| rank(best) < rank(&found)) {
                    affinity.found = Some(found);
                    chain = Some(&*part.chain);
                }
            }
        }
    }
    // Of those that name their cookies alike, most cannot read it.
    affinity.void &= affinity.found.is_none();
    let jars = || {
        let all = split.parts.iter().filter_map(|part| pools.get(*part.chain.first()?));
        all.filter_map(|pool| pool.sticky.as_ref()?.jar())
    };
    hide(view, altered, |name| jars().any(|jar| name == jar.attributes.name.as_bytes()));
    let chain = chain.unwrap_or_else(|| split.choose(context.worker.random()));
    (chain, Some(Box::new(affinity)))
}

fn seconds() -> u32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

fn look<'a, V: RequestView>(context: &Context<'a>, view: &V, pool: &'a Pool, now: u32) -> Look<'a> {
    match pool.sticky.as_ref().map(|sticky| &sticky.by) {
        None => Look::Nothing,
        Some(By::Cookie(jar)) => by_cookie(&context.snapshot.pools, view, (pool, jar), now),
        Some(By::Table(known)) => {
            let Some(client) = client_of(known, view) else { return Look::Nothing };
            let at = pool.live.clock.now();
            let Some((entry, place)) = known.find(client, at) else { return Look::Nothing };
            let ago = at.saturating_sub(entry.made).as_secs();
            let made = now.saturating_sub(u32::try_from(ago).unwrap_or(u32::MAX));
            let binding = Binding { made, seen: made, away: entry.away, split: false };
            found(&context.snapshot.pools, pool, place, binding, Standing::Good)
        }
    }
}

fn by_cookie<'a, V: RequestView>(
    pools: &'a [Pool],
    view: &V,
    (pool, jar): (&'a Pool, &'a Jar),
    now: u32,
) -> Look<'a> {
    let mut void = false;
    for value in cookie_values(view, &jar.attributes.name).take(COOKIES_MAX) {
        void = true;
        let Some((opened, place)) = jar.open(value) else { continue };
        let standing = jar.lifetime.judge(&opened.binding, opened.key == 0, now);
        if standing != Standing::Over
            && let good @ Look::Found(_) = found(pools, pool, place, opened.binding, standing)
        {
            return good;
        }
    }
    if void { Look::Void } else { Look::Nothing }
}

fn found<'a>(
    pools: &'a [Pool],
    by: &'a Pool,
    place: Option<Place>,
    binding: Binding,
    standing: Standing,
) -> Look<'a> {
    let Some((pool, endpoint)) = place.and_then(|place| place.of(pools)) else { return Look::Void };
    Look::Found(Found { by, pool, endpoint, binding, standing })
}

/// What a table knows a client by; nothing where it does not have that.
#[must_use]
pub fn client_of<V: RequestView>(known: &Known, view: &V) -> Option<u128> {
    let value = match &known.key {
        HashKey::Source => return Some(Known::of_source(view.source())),
        HashKey::Header(name) => view.field(name.as_str()),
        HashKey::Cookie(name) => cookie_values(view, name).next(),
        HashKey::Query(name) => query_values(view.query(), name).next(),
        HashKey::Path | HashKey::Sni => None,
    };
    value.filter(|value| !value.is_empty()).map(|value| known.digest(value))
}

/// Takes cookies of these names out of what goes on.
fn hide<V: RequestView>(view: &V, altered: &mut Altered<'_>, is_ours: impl Fn(&[u8]) -> bool) {
    let lines = view.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"cookie"));
    let lines: Vec<&[u8]> = lines.map(|(_, line)| line).collect();
    match strip(&lines, is_ours) {
        Stripped::Untouched => {}
        Stripped::Empty => altered.edit().request.remove("cookie"),
        Stripped::Rest(rest) => altered.edit().request.set("cookie", rest),
    }
}

impl<'a> Affinity<'a> {
    /// The endpoint that is to be tried first, if the client belongs to one of these pools.
    #[must_use]
    pub fn bound(&self) -> Option<Bound<'a>> {
        let Found { by, pool, endpoint, .. } = self.found?;
        let strict = by.sticky.as_ref().is_some_and(|sticky| sticky.when_down == WhenDown::Fail);
        Some(Bound { pool, endpoint, strict })
    }

    /// Binds the client to the endpoint that has answered, unless it is bound there: tells it so with the answer, or notes
    /// it in the table.
    pub fn settle<D: Downstream>(
        &self,
        context: &Context<'a>,
        order: &Order<'a>,
        (pool, endpoint): (&'a Pool, &'a Endpoint),
        (view, answer): (&D::View, &D::Answer),
        altered: &mut Altered<'a>,
    ) {
        let Some(home) = order.home() else { return };
        let found = self.found.as_ref();
        let kept = found.is_some_and(|found| std::ptr::eq(found.endpoint, endpoint));
        let by = self.whose(order, home, pool);
        let counters = &by.live.counters.of(context.worker.id).sticky;
        match (found, kept, self.void) {
            (Some(_), true, _) => counters.kept.one(),
            (Some(_), false, _) => counters.moved.one(),
            (None, _, true) => counters.void.one(),
            (None, _, false) => counters.new.one(),
        }
        let Some(sticky) = &by.sticky else { return };
        // In a split the pool where a client had to go to is its home from then on, until it comes home.
        let stays_away = found.is_some_and(|found| {
            found.binding.away && self.split.is_some() && std::ptr::eq(found.pool, pool)
        });
        let away = stays_away || is_backup(pool, endpoint) || !std::ptr::eq(home, pool);
        match &sticky.by {
            By::Cookie(jar) => {
                let told = found.filter(|found| kept && std::ptr::eq(found.by, by));
                if told.is_some_and(|found| found.standing == Standing::Good) {
                    return;
                }
                let split = self.split.is_some() || found.is_some_and(|found| found.binding.split);
                let made = told.map_or(self.now, |found| found.binding.made);
                let away = told.map_or(away, |found| found.binding.away);
                // Of two in one second the later one counts too.
                let after = found.filter(|_| told.is_none()).map_or(0, |found| found.binding.seen + 1);
                let binding = Binding { made, seen: self.now.max(made).max(after), away, split };
                let Some(cookie) = jar.set_cookie(pool, endpoint, &binding, context.tls.is_some()) else {
                    return;
                };
                counters.cookies.one();
                let lines =
                    D::answer_fields(answer).filter(|(n, _)| n.eq_ignore_ascii_case(b"cache-control"));
                let lines: Vec<&[u8]> = lines.map(|(_, line)| line).collect();
                let edits = &mut altered.edit().response;
                if let Some(value) = cache_control(&lines) {
                    edits.set("cache-control", value);
                }
                edits.add("set-cookie", cookie);
            }
            By::Table(known) => {
                let now = pool.live.clock.now();
                let mut evicted = 0;
                if !kept && (found.is_some() || !known.learn) {
                    let client = client_of(known, view);
                    evicted += client.map_or(0, |client| known.bind(client, (pool, endpoint), away, now));
                }
                if known.learn {
                    let learned = learned::<D>(known, answer);
                    evicted += learned.map_or(0, |client| known.bind(client, (pool, endpoint), away, now));
                }
                counters.evicted.add(evicted as u64);
            }
        }
    }

    /// The pool whose cookie or table is to say that a client belongs to an endpoint of `pool`: in a split the pool itself,
    /// where that is one of its parts and sticky, else the one that was asked.
    fn whose(&self, order: &Order<'a>, home: &'a Pool, pool: &'a Pool) -> &'a Pool {
        let is_part = |split: &Split| {
            let mut parts = split.weighted().filter_map(|part| order.pools().get(*part.chain.first()?));
            parts.any(|part| std::ptr::eq(part, pool))
        };
        if pool.sticky.is_some() && self.split.is_some_and(is_part) { pool } else { home }
    }
}

/// The client that an endpoint has given a name of its own.
fn learned<D: Downstream>(known: &Known, answer: &D::Answer) -> Option<u128> {
    let HashKey::Cookie(wanted) = &known.key else { return None };
    let set = D::answer_fields(answer).filter(|(name, _)| name.eq_ignore_ascii_case(b"set-cookie"));
    let mut set = set.filter_map(|(_, value)| cookie_set(value));
    set.find(|(name, _)| *name == wanted.as_bytes()).map(|(_, value)| known.digest(value))
}

/// Where the client of a tcp session belongs.
#[must_use]
pub fn of_source<'a>(pools: &'a [Pool], pool: &'a Pool, source: IpAddr) -> Option<Bound<'a>> {
    let sticky = pool.sticky.as_ref()?;
    let By::Table(known) = &sticky.by else { return None };
    let (_, place) = known.find(Known::of_source(source), pool.live.clock.now())?;
    let (pool, endpoint) = place?.of(pools)?;
    Some(Bound { pool, endpoint, strict: sticky.when_down == WhenDown::Fail })
}

/// Binds the client of a tcp session to the endpoint that it is connected to, unless it belongs there.
pub fn settle_source(
    worker: &Worker,
    asked: &Pool,
    bound: Option<Bound<'_>>,
    source: IpAddr,
    (pool, endpoint): (&Pool, &Endpoint),
) {
    let Some(By::Table(known)) = asked.sticky.as_ref().map(|sticky| &sticky.by) else { return };
    let counters = &asked.live.counters.of(worker.id).sticky;
    match bound {
        Some(bound) if std::ptr::eq(bound.endpoint, endpoint) => return counters.kept.one(),
        Some(_) => counters.moved.one(),
        None => counters.new.one(),
    }
    let away = is_backup(pool, endpoint) || !std::ptr::eq(asked, pool);
    let now = asked.live.clock.now();
    let evicted = known.bind(Known::of_source(source), (pool, endpoint), away, now);
    counters.evicted.add(evicted as u64);
}
