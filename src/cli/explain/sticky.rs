//! Where the client of an imagined request belongs: which endpoint its cookie means, and why it means none.

use std::time::{Duration, SystemTime};

use crate::cli::request::Imagined;
use crate::config::Config;
use crate::config::pool::Pool;
use crate::config::secrets;
use crate::config::sticky::{By, Sticky};
use crate::control::state_dir::StateDir;
use crate::model::name::PoolName;
use crate::model::units::format_duration;
use crate::policy::sticky::cookie::Keys;
use crate::policy::sticky::fields::Attributes;
use crate::policy::sticky::{Binding, Lifetime, Standing, WhenDown};
use crate::route::cookie_values;

/// Where a client belongs.
pub(super) struct Belongs {
    pub(super) pool: PoolName,
    /// When a split has put it there, and when it was last told: of several the greatest counts.
    pub(super) rank: (bool, u32),
}

/// What a pool's stickiness makes of a request, in lines, and where its client belongs.
pub(super) fn explain(config: &Config, pool: &Pool, request: &Imagined) -> (Vec<String>, Option<Belongs>) {
    let Some(sticky) = &pool.sticky else { return (Vec::new(), None) };
    let otherwise = match sticky.when_down {
        WhenDown::Rebalance => "bound to another one when that cannot be used",
        WhenDown::Fail => "refused while that cannot be used",
    };
    match &sticky.by {
        By::Table { key, size, .. } => {
            let what = format!(
                "sticky by {key}: first the endpoint that a table of {size} clients says, {otherwise}"
            );
            (
                vec![
                    what,
                    "the table is the running process's: GET /v1/pools/NAME says how full it is".to_owned(),
                ],
                None,
            )
        }
        By::Cookie { attributes, max_age, key_file } => {
            let name = &attributes.name;
            let what = format!("sticky by cookie {name}: first the endpoint that it means, {otherwise}");
            let keys = match key_file {
                Some(path) => {
                    secrets::read(path).map_err(|why| format!("{} cannot be used: {why}", path.display()))
                }
                None => own_secret(config),
            };
            let lifetime =
                Lifetime { max_age: *max_age, max_idle: sticky.max_idle, failback: sticky.failback };
            let mut belongs = None;
            let said = match keys {
                Err(why) => vec![why],
                Ok(secrets) => {
                    let secrets = secrets.iter().map(Vec::as_slice);
                    let keys = Keys::derive(secrets, name, pool.name.as_str());
                    cookies(config, (pool, sticky), (attributes, lifetime, &keys), request, &mut belongs)
                }
            };
            (std::iter::once(what).chain(said).collect(), belongs)
        }
    }
}

/// The secret that is kept where there is no file of keys.
fn own_secret(config: &Config) -> Result<Vec<Vec<u8>>, String> {
    const ASK: &str = "what it means only the running process knows: its key is its own";
    let path = config.process.state_dir.as_ref().ok_or(ASK)?;
    let kept = StateDir::at(path).kept_secret();
    kept.map(|secret| vec![secret.bytes().to_vec()])
        .ok_or_else(|| format!("{ASK}, and {} has none", path.display()))
}

fn cookies(
    config: &Config,
    (pool, sticky): (&Pool, &Sticky),
    (attributes, lifetime, keys): (&Attributes, Lifetime, &Keys),
    request: &Imagined,
    belongs: &mut Option<Belongs>,
) -> Vec<String> {
    let mut said = Vec::new();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    for value in cookie_values(request, &attributes.name) {
        let Some(opened) = keys.open(value) else {
            said.push(
                "the request's cookie counts for nothing: no key here has signed it for this pool".to_owned(),
            );
            continue;
        };
        let Binding { made, seen, away, split } = opened.binding;
        let ago = |then: u32| format_duration(Duration::from_secs(u64::from(now.saturating_sub(then))));
        let standing = lifetime.judge(&opened.binding, opened.key == 0, now);
        let place = chain(config, pool).into_iter().find_map(|pool| {
            let is = |name: &str| keys.tag(opened.key, pool.name.as_str(), name) == opened.tag;
            pool.endpoints.iter().find(|e| is(e.name.as_str())).map(|e| (pool, e.name.as_str()))
        });
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
        said.push(format!("the request's cookie means {}/{endpoint}: {since}{away}{worth}", at.name));
        if standing != Standing::Over && belongs.is_none() {
            *belongs = Some(Belongs { pool: pool.name.clone(), rank: (split, seen) });
        }
    }
    if said.is_empty() {
        let life = sticky.failback.word();
        said.push(format!(
            "the request has no such cookie: its client is told one with the answer (failback: {life})"
        ));
    }
    said
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
