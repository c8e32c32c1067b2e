//! A property over random pairs of configurations: what is known of clients (what they may still send, what they have
//! under way, where they belong) stays known wherever it means the same in both, whatever else of the file is another.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{Machine, Weights, compile};
use crate::config;
use crate::model::method::Method;
use crate::model::request::RequestView;
use crate::policy::rate_limit::Left;
use crate::policy::sticky::Binding;
use crate::runtime::counters::WorkerId;
use crate::runtime::pool::{HashKey, Pool};
use crate::runtime::route_limits::{RouteLimits, UnderWay};
use crate::runtime::snapshot::Snapshot;
use crate::runtime::sticky::{By, Known};

const MACHINE: Machine = Machine { workers: 1, connections_max: 1000, time: Duration::ZERO, secret: None };
const LISTENER: &str = "web";
const CLIENTS: u8 = 8;
const POOLS: [&str; 3] = ["a", "b", "c"];
const WORKER: WorkerId = WorkerId(0);

/// A rate limit of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rate {
    key: &'static str,
    rate: (u32, &'static str),
    burst: u32,
    size: u32,
}

/// How clients of a pool come back to their endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sticky {
    Cookie,
    Table { key: &'static str, size: u32, expire: &'static str },
}

/// A route and its pool, both by number: limits of a number have one name in all files.
#[derive(Debug, Clone)]
struct Part {
    rate: Option<Rate>,
    concurrency: Option<(&'static str, u32)>,
    sticky: Option<Sticky>,
    endpoints: Vec<u8>,
    path: u8,
}

type File = BTreeMap<usize, Part>;

/// What a client does between two configurations.
#[derive(Debug, Clone)]
enum Does {
    Send { part: usize, times: u8 },
    Begin { part: usize },
    Belong { part: usize, endpoint: usize },
}

/// A client; all that is known of it is its number.
struct Client(u8);

impl Client {
    fn name(&self) -> [u8; 1] {
        [b'a' + self.0]
    }

    fn digest(&self, known: &Known) -> u128 {
        match known.key {
            HashKey::Source => Known::of_source(self.source()),
            _ => known.digest(&self.name()),
        }
    }
}

const NAMES: [[u8; 1]; CLIENTS as usize] = [[b'a'], [b'b'], [b'c'], [b'd'], [b'e'], [b'f'], [b'g'], [b'h']];

impl RequestView for Client {
    fn method(&self) -> Method {
        Method::Get
    }
    fn method_bytes(&self) -> &[u8] {
        b"GET"
    }
    fn scheme(&self) -> &str {
        "http"
    }
    fn authority(&self) -> &[u8] {
        b"example.com"
    }
    fn path(&self) -> &[u8] {
        b"/"
    }
    fn query(&self) -> Option<&[u8]> {
        None
    }
    fn target(&self) -> &[u8] {
        b"/"
    }
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        NAMES.get(usize::from(self.0)).map(|name| (b"x-user".as_slice(), name.as_slice())).into_iter()
    }
    fn source(&self) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, self.0).into()
    }
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["source", "header:x-user"])
}

fn file() -> impl Strategy<Value = File> {
    let rates = vec![(10, "s"), (20, "s"), (7, "m"), (1, "h")];
    let rate = (key(), prop::sample::select(rates), 0u32..9, prop::sample::select(vec![100, 1000]));
    let rate = rate.prop_map(|(key, rate, burst, size)| Rate { key, rate, burst, size });
    let table = (key(), prop::sample::select(vec![3, 100, 5000]), prop::sample::select(vec!["10m", "30m"]));
    let sticky = prop_oneof![
        Just(Sticky::Cookie),
        table.prop_map(|(key, size, expire)| Sticky::Table { key, size, expire }),
    ];
    let endpoints = prop::sample::subsequence(vec![0, 1, 2, 3], 1..=4).prop_shuffle();
    let (rate, sticky) = (prop::option::weighted(0.8, rate), prop::option::weighted(0.8, sticky));
    let concurrency = prop::option::of((key(), 1u32..5));
    let part = (rate, concurrency, sticky, endpoints, any::<u8>()).prop_map(
        |(rate, concurrency, sticky, endpoints, path)| Part { rate, concurrency, sticky, endpoints, path },
    );
    prop::collection::btree_map(0..POOLS.len(), part, 1..=POOLS.len())
}

fn does() -> impl Strategy<Value = (u8, Does)> {
    let part = 0..POOLS.len();
    let does = prop_oneof![
        (part.clone(), 1u8..12).prop_map(|(part, times)| Does::Send { part, times }),
        part.clone().prop_map(|part| Does::Begin { part }),
        (part, 0usize..4).prop_map(|(part, endpoint)| Does::Belong { part, endpoint }),
    ];
    (0..CLIENTS, does)
}

fn text(file: &File) -> String {
    let mut text = format!("[listener.{LISTENER}]\nbind = [\"127.0.0.1:8000\"]\n");
    for (&number, part) in file {
        let pool = POOLS[number];
        let path = part.path;
        write!(text, "[[route]]\nname = \"{pool}\"\npath_prefix = \"/{pool}/{path}\"\npool = \"{pool}\"\n")
            .expect("text");
        if let Some(Rate { key, rate: (count, per), burst, size }) = &part.rate {
            let burst = format!("burst = {burst}, size = {size}");
            writeln!(
                text,
                "rate_limit = {{ name = \"{pool}\", key = \"{key}\", rate = \"{count}/{per}\", {burst} }}"
            )
            .expect("text");
        }
        if let Some((key, max)) = part.concurrency {
            writeln!(text, "concurrency_limit = {{ name = \"{pool}\", key = \"{key}\", max = {max} }}")
                .expect("text");
        }
        let endpoints: Vec<String> = part
            .endpoints
            .iter()
            .map(|at| format!("{{ name = \"e{at}\", address = \"10.0.{number}.{at}:80\" }}"))
            .collect();
        writeln!(text, "[pool.{pool}]\nendpoints = [{}]", endpoints.join(", ")).expect("text");
        match &part.sticky {
            None => {}
            Some(Sticky::Cookie) => text.push_str("sticky = { cookie = \"c\" }\n"),
            Some(Sticky::Table { key, size, expire }) => {
                writeln!(text, "sticky = {{ table = \"{key}\", size = {size}, expire = \"{expire}\" }}")
                    .expect("text");
            }
        }
    }
    text
}

fn compiled(file: &File, before: Option<&Snapshot>) -> Snapshot {
    let text = text(file);
    let config = config::load_text(&text, Path::new("generated.toml"), &|_| None)
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    let snapshot = compile(&config, before, &MACHINE, &Weights::default()).expect("no file is named");
    snapshot.settle();
    snapshot
}

fn limits(snapshot: &Snapshot, part: usize) -> Option<&RouteLimits> {
    let route = snapshot.routes.iter().find(|route| route.name.as_str() == POOLS[part])?;
    route.limits.as_deref()
}

fn pool(snapshot: &Snapshot, part: usize) -> Option<&Pool> {
    snapshot.pools.iter().find(|pool| pool.name.as_str() == POOLS[part])
}

/// What clients carry: by pool and client, the value of its cookie.
type Cookies = BTreeMap<(usize, u8), Vec<u8>>;

/// Lets clients come; what they have under way, and their cookies.
fn live(snapshot: &Snapshot, happenings: &[(u8, Does)]) -> (Vec<UnderWay>, Cookies) {
    let (mut under_way, mut cookies) = (Vec::new(), Cookies::new());
    for (number, does) in happenings {
        let (client, now) = (Client(*number), snapshot.clock.now());
        match *does {
            Does::Send { part, times } => {
                let Some(limits) = limits(snapshot, part) else { continue };
                let keys = limits.keys(&client, LISTENER);
                (0..times).for_each(|_| drop(limits.charge(&keys, now, WORKER)));
            }
            Does::Begin { part } => {
                let entered = limits(snapshot, part).map(|limits| limits.enter(&client, LISTENER, WORKER));
                under_way.extend(entered.and_then(Result::ok).into_iter().flatten());
            }
            Does::Belong { part, endpoint } => {
                let Some(pool) = pool(snapshot, part) else { continue };
                let Some(sticky) = &pool.sticky else { continue };
                let endpoint = &pool.endpoints[endpoint % pool.endpoints.len()];
                match &sticky.by {
                    By::Cookie(jar) => {
                        let binding = Binding { made: 1, seen: 1, ..Binding::default() };
                        let set = jar.set_cookie(pool, endpoint, &binding, false).expect("there is a key");
                        let value = set.split(|b| *b == b';').next().expect("a first part");
                        let value = value.splitn(2, |b| *b == b'=').nth(1).expect("a value");
                        cookies.insert((part, client.0), value.to_vec());
                    }
                    By::Table(known) => {
                        known.bind(client.digest(known), (pool, endpoint), false, now);
                    }
                }
            }
        }
    }
    (under_way, cookies)
}

/// Where a client belongs, by what is known of it here or by its cookie: the endpoint's name, while it is there.
fn home(pool: &Pool, number: u8, cookie: Option<&Vec<u8>>, snapshot: &Snapshot) -> Option<String> {
    let place = match &pool.sticky.as_ref()?.by {
        By::Cookie(jar) => jar.open(cookie?)?.1,
        By::Table(known) => known.peek(Client(number).digest(known), snapshot.clock.now())?.1,
    };
    place.and_then(|place| place.of(&snapshot.pools)).map(|(_, endpoint)| endpoint.name.to_string())
}

/// What is known of a client, by part of the file.
#[derive(Debug)]
struct Seen {
    left: Option<Left>,
    under_way: Option<u32>,
    home: Option<String>,
}

fn seen(snapshot: &Snapshot, part: usize, number: u8, cookies: &Cookies) -> Seen {
    let (client, now) = (Client(number), snapshot.clock.now());
    let limits = limits(snapshot, part);
    let left = limits.map(|limits| limits.left(&limits.keys(&client, LISTENER), now));
    let under_way = limits.and_then(|limits| limits.under_way(&client, LISTENER).first().copied().flatten());
    let cookie = cookies.get(&(part, number));
    let home = pool(snapshot, part).and_then(|pool| home(pool, number, cookie, snapshot));
    Seen { left: left.and_then(|left| left.first().copied().flatten()), under_way, home }
}

fn everybody(snapshot: &Snapshot, file: &File, cookies: &Cookies) -> BTreeMap<(usize, u8), Seen> {
    let all = file.keys().flat_map(|&part| (0..CLIENTS).map(move |number| (part, number)));
    all.map(|(part, number)| ((part, number), seen(snapshot, part, number, cookies))).collect()
}

fn check(first: &File, second: &File, happenings: &[(u8, Does)]) -> Result<(), TestCaseError> {
    let before = compiled(first, None);
    let (under_way, cookies) = live(&before, happenings);
    let known = everybody(&before, first, &cookies);
    let after = compiled(second, Some(&before));
    let still_known = everybody(&after, second, &cookies);
    for (&number, part) in second {
        let Some(was) = first.get(&number) else { continue };
        check_live(&before, &after, number, (was, part))?;
        for client in 0..CLIENTS {
            let (old, new) = (&known[&(number, client)], &still_known[&(number, client)]);
            check_rate((was, old), (part, new))?;
            if was.concurrency.map(|(key, _)| key) == part.concurrency.map(|(key, _)| key) {
                prop_assert_eq!(old.under_way, new.under_way);
            }
            check_home((was, old), (part, new))?;
        }
    }
    drop(under_way);
    for live in before.limits.concurrency.iter().chain(&after.limits.concurrency) {
        prop_assert_eq!(live.keys(), 0, "what ends after the reload is counted down where it was counted up");
    }
    Ok(())
}

fn check_live(
    before: &Snapshot,
    after: &Snapshot,
    number: usize,
    parts: (&Part, &Part),
) -> Result<(), TestCaseError> {
    let (Some(old), Some(new)) = (limits(before, number), limits(after, number)) else { return Ok(()) };
    let ((Some(was), Some(is)), (Some(old), Some(new))) =
        ((&parts.0.rate, &parts.1.rate), (old.rates.first(), new.rates.first()))
    else {
        return Ok(());
    };
    prop_assert!(Arc::ptr_eq(&old.live.counters, &new.live.counters), "a limit's counters go with its name");
    if (was.key, was.rate, was.size) == (is.key, is.rate, is.size) {
        prop_assert!(
            Arc::ptr_eq(&old.live, &new.live),
            "whoever came by the old one is counted in the new one"
        );
    }
    Ok(())
}

/// A key that must wait still waits as long; where the table is made anew, no longer than the new limit makes anybody.
fn check_rate((was, old): (&Part, &Seen), (is, new): (&Part, &Seen)) -> Result<(), TestCaseError> {
    let (Some(was), Some(is)) = (&was.rate, &is.rate) else { return Ok(()) };
    let (Some(old), Some(new)) = (old.left, new.left) else {
        return Err(TestCaseError::fail("every client has a key"));
    };
    if was.key != is.key {
        prop_assert_eq!(new.full_in, Duration::ZERO, "of another kind of key nothing is known");
    } else if (was.rate, was.size) == (is.rate, is.size) {
        prop_assert_eq!(old.full_in, new.full_in, "it is the same table");
    } else {
        let period = match is.rate.1 {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            _ => Duration::from_secs(3600),
        };
        let expected = old.full_in.min(period * (is.burst + 1) / is.rate.0);
        let off = expected.abs_diff(new.full_in);
        prop_assert!(off <= Duration::from_micros(10), "{:?} has become {:?}", expected, new.full_in);
    }
    Ok(())
}

fn check_home((was, old): (&Part, &Seen), (is, new): (&Part, &Seen)) -> Result<(), TestCaseError> {
    let Some(home) = &old.home else { return Ok(()) };
    let is_there = is.endpoints.iter().any(|at| format!("e{at}") == *home);
    let stays = match (&was.sticky, &is.sticky) {
        (Some(Sticky::Cookie), Some(Sticky::Cookie)) => true,
        // A table that was made small may have forgotten it.
        (Some(Sticky::Table { key, .. }), Some(Sticky::Table { key: other, size, .. })) => {
            key == other && *size >= u32::from(CLIENTS)
        }
        _ => return Ok(()),
    };
    if !is_there {
        prop_assert_eq!(&new.home, &None, "its endpoint has gone");
    } else if stays {
        prop_assert_eq!(&new.home, &old.home);
    }
    Ok(())
}

/// Runs a case while the clock stands still: nothing is due meanwhile.
fn timeless(case: impl FnOnce() -> Result<(), TestCaseError>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|e| TestCaseError::fail(e.to_string()))?.block_on(async { case() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_known_of_clients_stays_known(
        first in file(),
        second in file(),
        happenings in prop::collection::vec(does(), 0..60),
    ) {
        timeless(|| check(&first, &second, &happenings))?;
    }

    #[test]
    fn the_same_file_again_forgets_no_client(first in file(), happenings in prop::collection::vec(does(), 0..60)) {
        timeless(|| check(&first, &first, &happenings))?;
    }
}
