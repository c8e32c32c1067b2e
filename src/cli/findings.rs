//! What `plimsoll check` finds in a configuration that is valid and may all the same not be what was meant. Each finding has
//! a code, by which `allow_codes` of `[check]` keeps it from being reported; `config` lists them.

use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::config::listener::{Listener, Protocol};
use crate::config::pool::{Balance, Pool};
use crate::config::process::AdminBind;
use crate::control::certificates::SOON;
use crate::model::units::format_duration;
use crate::policy::balance::rendezvous::ADVISED_MAX;
use crate::policy::health::bounds::Bounds;

/// What an answer or a refusal is taken to need; one that needs longer is noticed so much later.
pub(super) const ANSWER: Duration = Duration::from_millis(100);

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Its code in the list of `allow_codes`.
    pub(super) code: &'static str,
    /// What it is, for a person.
    pub(super) what: String,
}

/// All that is found and not allowed, in the order of the codes.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let rules = &config.check;
    let late = rules.objective.map(|limit| late(config, limit)).unwrap_or_default();
    let (unprobed, late): (Vec<_>, Vec<_>) = late.into_iter().partition(|(probed, _)| !probed);
    let all = [
        ("L001", late.into_iter().map(|(_, what)| what).collect()),
        ("L002", unprobed.into_iter().map(|(_, what)| what).collect()),
        ("L003", rules.client_timeout.map(|limit| too_slow(config, limit)).unwrap_or_default()),
        ("L004", unverified(config)),
        ("L005", in_the_clear(config)),
        ("L006", too_many(config)),
        ("L007", without_effect(config)),
        ("L008", expiring(config, SystemTime::now())),
        ("L010", unbelieved(config)),
    ];
    let wanted = |(code, _): &(&'static str, Vec<String>)| !rules.allow_codes.iter().any(|one| one == code);
    let each =
        |(code, all): (&'static str, Vec<String>)| all.into_iter().map(move |what| Finding { code, what });
    all.into_iter().filter(wanted).flat_map(each).collect()
}

/// The pools that at worst need longer than `limit` until a dead endpoint is noticed, one a line.
pub(super) fn too_late(config: &Config, limit: Duration) -> Vec<String> {
    late(config, limit).into_iter().map(|(_, what)| what).collect()
}

/// The same, each with whether it has probes.
fn late(config: &Config, limit: Duration) -> Vec<(bool, String)> {
    let late = |pool: &Pool| {
        let name = &pool.name;
        let Some(health) = &pool.health else {
            let what =
                format!("pool {name} has no probes: nothing bounds how long a dead endpoint goes unnoticed");
            return Some((false, what));
        };
        let bounds = Bounds::new(&health.settings, ANSWER);
        let worst = bounds.refused.max(bounds.silent);
        let (worst, limit) = ((worst > limit).then(|| seconds(worst))?, format_duration(limit));
        Some((true, format!("pool {name} needs up to {worst} to notice a dead endpoint, more than {limit}")))
    };
    config.pools.iter().filter_map(late).collect()
}

/// The pools of requests that may still wait for an answer when clients, who wait for `limit`, have left, one a line.
fn too_slow(config: &Config, limit: Duration) -> Vec<String> {
    let is_tcp = |pool: &Pool| {
        let of = |listener: &Listener| matches!(&listener.protocol, Protocol::Tcp { pool: Some(own) } | Protocol::Udp { pool: own } if *own == pool.name);
        config.listeners.iter().any(of) || config.sni_routes.iter().any(|route| route.pool == pool.name)
    };
    let slow = |pool: &Pool| {
        let times = &pool.timeouts;
        let worst = pool.limits.queue_timeout + times.connect + times.response_header;
        (worst > limit).then(|| {
            format!(
                "pool {}: one attempt may take up to {} (queue_timeout, connect and response_header), longer than clients \
                 wait, which is {}",
                pool.name,
                seconds(worst),
                format_duration(limit)
            )
        })
    };
    config.pools.iter().filter(|pool| !is_tcp(pool)).filter_map(slow).collect()
}

/// The pools with more endpoints than their policy should ask for every pick, one a line.
fn too_many(config: &Config) -> Vec<String> {
    let many = |pool: &Pool| {
        let count = pool.endpoints.len();
        (pool.balance == Balance::Rendezvous && count > ADVISED_MAX).then(|| {
            format!(
                "pool {}: rendezvous asks all of its {count} endpoints for every request; above {ADVISED_MAX} take maglev or \
                 ring_hash, which cost the same however many there are",
                pool.name
            )
        })
    };
    config.pools.iter().filter_map(many).collect()
}

/// The pools whose traffic or probes believe anybody, with the reason that is written.
fn unverified(config: &Config) -> Vec<String> {
    let unverified = |pool: &Pool| {
        let traffic = pool.tls.as_ref().and_then(|tls| tls.client.verify_off.as_ref());
        let traffic = traffic.map(|why| format!("pool {}: its endpoints are not verified: {why}", pool.name));
        let probes = pool.health.as_ref().and_then(|health| health.check.tls()?.verify_off.as_ref());
        let probes =
            probes.map(|why| format!("pool {}: its probes do not verify whom they ask: {why}", pool.name));
        [traffic, probes].into_iter().flatten()
    };
    config.pools.iter().flat_map(unverified).collect()
}

/// An admin API whose tokens others on the way can read.
fn in_the_clear(config: &Config) -> Vec<String> {
    match &config.admin.bind {
        AdminBind::Tcp(address) if !address.ip().to_canonical().is_loopback() => {
            vec![format!("the admin API at {address} has no TLS: its tokens cross the network in the clear")]
        }
        AdminBind::Tcp(_) | AdminBind::Unix(_) => Vec::new(),
    }
}

/// The listeners that take a PROXY header of nobody, one a line.
fn unbelieved(config: &Config) -> Vec<String> {
    let nobody = |one: &&Listener| one.accept_proxy_protocol && one.identity.trusted.is_empty();
    let listeners = config.listeners.iter().filter(nobody);
    let what = |one: &Listener| {
        format!(
            "listener {}: accept_proxy_protocol does nothing while trusted_proxies is empty: no peer's header is taken",
            one.name
        )
    };
    listeners.map(what).collect()
}

/// Seconds with one digit behind the point, rounded up.
pub(super) fn seconds(time: Duration) -> String {
    let tenths = time.as_millis().div_ceil(100);
    format!("{}.{} s", tenths / 10, tenths % 10)
}

/// Certificates of listeners that have expired, are not valid yet, or expire soon, one a line.
fn expiring(config: &Config, now: SystemTime) -> Vec<String> {
    let mut findings = Vec::new();
    for listener in &config.listeners {
        for certificate in listener.tls.iter().flat_map(|tls| &tls.certificates) {
            let path = &certificate.identity.cert;
            // What cannot be read is an error, and said as one.
            let Some(facts) = certificate.facts() else { continue };
            let what = match (facts.expires.duration_since(now), now.duration_since(facts.begins)) {
                (_, Err(_)) => "is not valid yet".to_owned(),
                (Err(_), _) => "has expired".to_owned(),
                (Ok(left), _) if left <= SOON => format!("expires in {} days", left.as_secs() / (24 * 3600)),
                _ => continue,
            };
            findings.push(format!("listener {}: {} {what}", listener.name, path.display()));
        }
    }
    findings
}

/// Retry rules that do nothing as they stand beside others, one a line.
fn without_effect(config: &Config) -> Vec<String> {
    let pools = config.pools.iter().filter(|pool| pool.exclusive.is_none());
    let pools = pools.map(|pool| (format!("pool {}", pool.name), &pool.retry));
    let routes = config.routes.iter();
    let routes =
        routes.filter_map(|route| Some((format!("route {}", route.rule.name), route.retry.as_ref()?)));
    let mut findings = Vec::new();
    for (whose, retry) in pools.chain(routes) {
        if retry.per_try_timeout.is_some() && !retry.on.timeout {
            findings.push(format!(
                "{whose}: per_try_timeout does nothing while \"timeout\" is not in retry.on: nothing would follow the try \
                 that it ends"
            ));
        }
        if retry.hedge.is_some() && retry.attempts < 2 {
            findings.push(format!("{whose}: hedge does nothing while retry.attempts is 1"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of_pool(keys: &str) -> Option<Config> {
        let text = format!(
            "[listener.l]\nbind = [\"127.0.0.1:1\"]\n[check]\nobjective = \"10s\"\n\
             [pool.p]\nendpoints = [\"10.0.0.1:80\"]\n{keys}\n"
        );
        crate::config::load_text(&text, Path::new("test.toml"), &|_| None).ok()
    }

    fn codes(config: &Config) -> Vec<&'static str> {
        findings(config).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn the_time_to_notice_is_held_to_a_limit() {
        let config = of_pool("health = {}").expect("it loads");
        assert!(too_late(&config, Duration::from_secs(11)).is_empty());
        assert_eq!(too_late(&config, Duration::from_millis(10_850)).len(), 1);
        let unprobed = of_pool("").expect("it loads");
        let late = too_late(&unprobed, Duration::from_secs(3600));
        assert!(late.first().is_some_and(|line| line.contains("has no probes")), "{late:?}");
    }

    #[test]
    fn the_examples_keep_the_objectives_that_they_name() {
        for text in [include_str!("../../conf/kube-apiserver.toml"), include_str!("../../conf/patroni.toml")]
        {
            let config = crate::config::load_text(text, Path::new("a.toml"), &|_| Some("a".to_owned()));
            let config = config.unwrap_or_else(|errors| panic!("{errors}"));
            assert!(config.check.objective.is_some());
            assert_eq!(findings(&config), []);
        }
    }

    #[test]
    fn a_pool_whose_answers_outlast_its_clients_is_a_finding() {
        let count = |keys: &str| {
            let mut config = of_pool(keys).expect("it loads");
            config.check.client_timeout = Some(Duration::from_secs(30));
            codes(&config).into_iter().filter(|code| *code == "L003").count()
        };
        assert_eq!(count(""), 1, "the defaults are 5 s, 2 s and 60 s");
        assert_eq!(count("timeouts = { response_header = \"23s\" }"), 0);
        assert_eq!(count("timeouts = { response_header = \"23001ms\" }"), 1);
        assert_eq!(count("[listener.t]\nbind = [\"127.0.0.1:2\"]\nprotocol = \"tcp\"\npool = \"p\""), 0);
    }

    #[test]
    fn rendezvous_over_too_many_endpoints_is_a_finding() {
        let count = |balance: &str, count: usize| {
            let endpoints: Vec<String> =
                (0..count).map(|i| format!("\"10.0.{}.{}:80\"", i / 256, i % 256)).collect();
            let text = format!(
                "[listener.l]\nbind = [\"127.0.0.1:1\"]\n[pool.p]\nbalance = \"{balance}\"\nendpoints = [{}]\n",
                endpoints.join(", ")
            );
            let config =
                crate::config::load_text(&text, Path::new("test.toml"), &|_| None).expect("it loads");
            codes(&config).into_iter().filter(|code| *code == "L006").count()
        };
        assert_eq!(count("rendezvous", 256), 0);
        assert_eq!(count("rendezvous", 257), 1);
        assert_eq!(count("maglev", 257), 0);
    }

    #[test]
    fn every_finding_has_a_code_and_is_silent_where_that_is_allowed() {
        let everything = "health = { check = \"tls\", tls = { verify = { off = \"old\" } } }\n\
                          [pool.q]\nendpoints = [\"10.0.0.1:80\"]\n[admin]\nbind = \"10.0.0.1:1\"\ntoken_file = \"t\"";
        let mut config = of_pool(everything).expect("it loads");
        config.check.client_timeout = Some(Duration::from_secs(30));
        assert_eq!(codes(&config), ["L001", "L002", "L003", "L003", "L004", "L005"]);
        config.check.allow_codes = ["L003", "L005", "L001"].map(str::to_owned).to_vec();
        assert_eq!(codes(&config), ["L002", "L004"]);
    }

    #[test]
    fn retry_rules_that_do_nothing_are_findings() {
        let count = |keys: &str| {
            let config = of_pool(&format!("[pool.p.retry]\n{keys}")).expect("it loads");
            codes(&config).into_iter().filter(|code| *code == "L007").count()
        };
        assert_eq!(count("per_try_timeout = \"1s\"\non = [\"connect\", \"502\"]"), 1);
        assert_eq!(count("per_try_timeout = \"1s\"\non = [\"timeout\"]"), 0);
        assert_eq!(count("per_try_timeout = \"1s\""), 0, "it brings \"timeout\" along");
        assert_eq!(count("attempts = 1\nhedge = {}"), 1);
        assert_eq!(count("hedge = {}"), 0);
    }
}
