//! Where the client of a request belongs: which endpoint its cookie or its entry in a table means, and why none.

use std::time::{Duration, SystemTime};

use super::Live;
use super::request::Imagined;
use crate::config::Config;
use crate::config::pool::Pool;
use crate::config::secrets;
use crate::config::sticky::{By, Sticky};
use crate::control::state_dir::StateDir;
use crate::model::units::format_duration;
use crate::policy::sticky::cookie::{Keys, Opened};
use crate::policy::sticky::{Binding, Lifetime, Standing, WhenDown};
use crate::proxy::sticky::{COOKIES_MAX, client_of};
use crate::route::cookie_values;
use crate::runtime::sticky;

/// Where a client belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Belongs {
    /// The pool whose cookie or table says so.
    pub(super) by: String,
    /// The pool and the endpoint.
    pub(super) at: (String, String),
    /// When a split has put it there, and when it was last told: of several the greatest counts.
    pub(super) rank: (bool, u32),
}

/// What stands for an endpoint: its pool and its name, where it still is there.
type Found = Option<(String, String)>;

/// What a value of the cookie says, and which endpoint it means.
type Open<'a> = dyn Fn(&[u8]) -> Option<(Opened, Found)> + 'a;

/// What a pool's stickiness makes of a request, in lines, and where its client belongs.
pub(super) fn explain(
    config: &Config,
    pool: &Pool,
    live: Option<Live<'_>>,
    request: &Imagined,
) -> (Vec<String>, Option<Belongs>) {
    let Some(sticky) = &pool.sticky else { return (Vec::new(), None) };
    let otherwise = match sticky.when_down {
        WhenDown::Rebalance => "bound to another one when that cannot be used",
        WhenDown::Fail => "refused while that cannot be used",
    };
    let compiled = live.and_then(|live| {
        let own = live.snapshot.pools.iter().find(|own| own.name == pool.name)?;
        Some((live, own, own.sticky.as_deref()?))
    });
    let mut belongs = None;
    let mut lines = Vec::new();
    match &sticky.by {
        By::Table { key, size, .. } => {
            lines.push(format!(
                "sticky by {key}: first the endpoint that a table of {size} clients says, {otherwise}"
            ));
            lines.push(match &compiled {
                Some((live, own, sticky)) => table(*live, own, sticky, request, &mut belongs),
                None => {
                    "the table is the running process's: ask that one (--admin), or see GET /v1/pools/NAME"
                        .to_owned()
                }
            });
        }
        By::Cookie { attributes, max_age, key_file } => {
            let name = &attributes.name;
            lines.push(format!("sticky by cookie {name}: first the endpoint that it means, {otherwise}"));
            let lifetime =
                Lifetime { max_age: *max_age, max_idle: sticky.max_idle, failback: sticky.failback };
            let wanted = Wanted { pool, sticky, name, lifetime };
            if let Some((live, _, sticky)) = &compiled {
                let open = |value: &[u8]| {
                    let (opened, place) = sticky.jar()?.open(value)?;
                    let place = place.and_then(|place| place.of(&live.snapshot.pools));
                    Some((opened, place.map(|(pool, e)| (pool.name.to_string(), e.name.to_string()))))
                };
                lines.extend(wanted.cookies(&open, request, &mut belongs));
                return (lines, belongs);
            }
            let keys = match key_file {
                Some(path) => {
                    secrets::read(path).map_err(|why| format!("{} cannot be used: {why}", path.display()))
                }
                None => own_secret(config),
            };
            match keys {
                Err(why) => lines.push(why),
                Ok(secrets) => {
                    let keys = Keys::derive(secrets.iter().map(Vec::as_slice), name, pool.name.as_str());
                    let open = |value: &[u8]| {
                        let opened = keys.open(value)?;
                        Some((opened, written(config, pool, &keys, &opened)))
                    };
                    lines.extend(wanted.cookies(&open, request, &mut belongs));
                }
            }
        }
    }
    (lines, belongs)
}

/// The endpoint that a cookie means, of those that are written.
fn written(config: &Config, pool: &Pool, keys: &Keys, opened: &Opened) -> Found {
    chain(config, pool).into_iter().find_map(|pool| {
        let is = |name: &str| keys.tag(opened.key, pool.name.as_str(), name) == opened.tag;
        let endpoint = pool.endpoints.iter().find(|endpoint| is(endpoint.name.as_str()))?;
        Some((pool.name.to_string(), endpoint.name.to_string()))
    })
}

/// The secret that is kept where there is no file of keys.
fn own_secret(config: &Config) -> Result<Vec<Vec<u8>>, String> {
    const ASK: &str = "what it means only the running process knows: its key is its own";
    let path = config.process.state_dir.as_ref().ok_or(ASK)?;
    let kept = StateDir::at(path).kept_secret();
    kept.map(|secret| vec![secret.bytes().to_vec()])
        .ok_or_else(|| format!("{ASK}, and {} has none", path.display()))
}

/// Seconds since 1970.
fn seconds() -> u32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

/// What the table of a pool says of a client, which is not noted as a use of it.
fn table(
    live: Live<'_>,
    own: &crate::runtime::pool::Pool,
    sticky: &sticky::Sticky,
    request: &Imagined,
    belongs: &mut Option<Belongs>,
) -> String {
    let sticky::By::Table(known) = &sticky.by else { return String::new() };
    let Some(client) = client_of(known, request) else {
        return "the request has nothing that its client would be known by".to_owned();
    };
    let now = own.live.clock.now();
    let Some((entry, place)) = known.peek(client, now) else {
        return "the table does not know its client".to_owned();
    };
    let ago = |then: Duration| format_duration(Duration::from_secs(now.saturating_sub(then).as_secs()));
    let away = if entry.away { ", away from home" } else { "" };
    let since = format!("bound {} ago, came last {} ago{away}", ago(entry.made), ago(entry.used));
    let Some((pool, endpoint)) = place.and_then(|place| place.of(&live.snapshot.pools)) else {
        return format!("the table means an endpoint that is gone: {since}");
    };
    let made = now.saturating_sub(entry.made).as_secs();
    let rank = (false, seconds().saturating_sub(u32::try_from(made).unwrap_or(u32::MAX)));
    let at = (pool.name.to_string(), endpoint.name.to_string());
    let said = format!("the table means {}/{}: {since}", at.0, at.1);
    *belongs = Some(Belongs { by: own.name.to_string(), at, rank });
    said
}

/// The cookie that is wanted of a request.
struct Wanted<'a> {
    pool: &'a Pool,
    sticky: &'a Sticky,
    name: &'a str,
    lifetime: Lifetime,
}

impl Wanted<'_> {
    fn cookies(&self, open: &Open<'_>, request: &Imagined, belongs: &mut Option<Belongs>) -> Vec<String> {
        let mut said = Vec::new();
        let now = seconds();
        for value in cookie_values(request, self.name).take(COOKIES_MAX) {
            let Some((opened, place)) = open(value) else {
                said.push(
                    "the request's cookie counts for nothing: no key here has signed it for this pool"
                        .to_owned(),
                );
                continue;
            };
            let Binding { made, seen, away, split } = opened.binding;
            let ago = |then: u32| format_duration(Duration::from_secs(u64::from(now.saturating_sub(then))));
            let standing = self.lifetime.judge(&opened.binding, opened.key == 0, now);
            let since = format!("bound {} ago, told {} ago by key {}", ago(made), ago(seen), opened.key + 1);
            let away = if away { ", away from home" } else { "" };
            let Some((at, endpoint)) = place else {
                said.push(format!(
                    "the request's cookie means an endpoint that is not written here: {since}{away}"
                ));
                continue;
            };
            let worth = match standing {
                Standing::Good => "",
                Standing::Renew => "; the client is told anew",
                Standing::Over => "; its time is over, so that it counts for nothing",
            };
            said.push(format!("the request's cookie means {at}/{endpoint}: {since}{away}{worth}"));
            if standing != Standing::Over && belongs.is_none() {
                let by = self.pool.name.to_string();
                *belongs = Some(Belongs { by, at: (at, endpoint), rank: (split, seen) });
            }
        }
        if said.is_empty() {
            let life = self.sticky.failback.word();
            said.push(format!(
                "the request has no such cookie: its client is told one with the answer (failback: {life})"
            ));
        }
        said
    }
}

/// A pool and those that it fails over to, each once.
fn chain<'c>(config: &'c Config, pool: &'c Pool) -> Vec<&'c Pool> {
    let mut chain = vec![pool];
    let mut next = 0;
    while let Some(at) = chain.get(next).copied() {
        for name in &at.failover_pools {
            let further = config.pools.iter().find(|other| other.name == *name);
            chain.extend(further.filter(|further| !chain.iter().any(|known| known.name == further.name)));
        }
        next += 1;
    }
    chain
}
