//! How traffic is divided where nothing is strict: between tiers that spill, between zones, and over the ramp by which a
//! tier comes back.

use std::time::Duration;

use crate::harness::clock::Moment;
use crate::harness::member::{Member, probes};
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;

/// Four members in the first place and two behind them, all up, before which `process` and `pool` are set; `behind` says
/// what is written of the two.
fn six(process: &str, pool: &str, front: &str, behind: &str) -> (Vec<Member>, Proxy) {
    let members: Vec<Member> = (0..6).map(|_| Member::http()).collect();
    let listed = |(at, member): (usize, &Member)| {
        let more = if at < 4 { front } else { behind };
        format!("{{ address = \"{}\", {more} }}", member.address())
    };
    let listed: Vec<String> = members.iter().enumerate().map(listed).collect();
    let setup =
        Setup::listed(&listed.join(", ")).process(process).pool("balance = \"round_robin\"").pool(pool);
    let proxy = setup.text(&probes("rise = 1")).start();
    for member in &members {
        proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    }
    (members, proxy)
}

fn takes_down(proxy: &Proxy, member: &Member) {
    member.says(503);
    proxy.until_endpoint("main", &member.name(), "usable", false);
}

/// The percentage of 1,000 requests that the last two of six answer.
fn behind(proxy: &Proxy, members: &[Member]) -> f64 {
    let names = [members[4].name(), members[5].name()];
    let mut client = proxy.connect();
    let answers = (0..1_000).map(|_| client.get("/").text());
    answers.filter(|who| names.contains(who)).count() as f64 / 10.0
}

/// What chance does to a percentage of 1,000: five standard deviations.
fn is_about(got: f64, wanted: f64) -> bool {
    let deviation = (wanted * (100.0 - wanted) / 1_000.0).sqrt();
    (got - wanted).abs() <= 5.0 * deviation
}

#[test]
fn a_tier_spills_what_is_above_its_usable_share_times_the_factor() {
    let (members, proxy) =
        six("", "spill = 1.4\nmin_available = 0\nfail_open = false", "tier = 0", "tier = 1");
    // Of four are left: 3, which times 1.4 is all there is to carry; 2, which is 70 %; 1, which is 35 %; and none.
    for (left, percent) in [(4, 0.0), (3, 0.0), (2, 30.0), (1, 65.0), (0, 100.0)] {
        if left < 4 {
            takes_down(&proxy, &members[left]);
        }
        let got = behind(&proxy, &members);
        assert!(is_about(got, percent), "{got} % with {left} left, where {percent} are Envoy's");
    }
}

#[test]
fn without_spill_the_last_of_a_tier_carries_all() {
    let (members, proxy) = six("", "", "tier = 0", "tier = 1");
    for left in [3, 2, 1] {
        takes_down(&proxy, &members[left]);
    }
    assert_eq!(behind(&proxy, &members), 0.0);
}

#[test]
fn the_nodes_zone_is_preferred_and_gives_away_what_it_is_lacking() {
    let (members, proxy) = six("zone = \"a\"", "", "zone = \"a\"", "zone = \"b\"");
    for (left, percent) in [(4, 0.0), (3, 25.0), (2, 50.0), (1, 75.0), (0, 100.0)] {
        if left < 4 {
            takes_down(&proxy, &members[left]);
        }
        let got = behind(&proxy, &members);
        assert!(is_about(got, percent), "{got} % with {left} left, where {percent} are lacking");
    }
    // And the neighbours' work comes here when they are gone.
    members[0].says(200);
    proxy.until_endpoint("main", &members[0].name(), "usable", true);
    takes_down(&proxy, &members[4]);
    takes_down(&proxy, &members[5]);
    assert_eq!(behind(&proxy, &members), 0.0);
}

#[test]
fn a_tier_that_returns_gets_nothing_before_its_time_and_then_more_and_more() {
    let (first, backup) = (Member::http(), Member::http());
    let listed = format!("\"{}\", {{ address = \"{}\", tier = 1 }}", first.address(), backup.address());
    let (after, ramp) = (Duration::from_millis(300), Duration::from_secs(2));
    let setup = Setup::listed(&listed).pool("failback = { after = \"300ms\", ramp = \"2s\" }");
    let proxy = setup.text(&probes("rise = 1")).start();
    for member in [&first, &backup] {
        proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    }
    takes_down(&proxy, &first);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), backup.name());
    first.says(200);
    let well = Moment::now();
    let mut answers: Vec<(Duration, bool)> = Vec::new();
    until("all of it for long", || {
        answers.push((well.elapsed(), client.get("/").text() == first.name()));
        let row = answers.iter().rev().take_while(|(_, home)| *home).count();
        (row >= 100).then_some(())
    });
    let begun = answers.iter().find(|(_, home)| *home).expect("it came home").0;
    let ended = answers.iter().rev().find(|(_, home)| !home).expect("there was a ramp").0;
    assert!(begun >= after, "home after {begun:?}");
    assert!(ended <= begun + ramp + Duration::from_secs(1), "the ramp took {:?}", ended - begun);
    // Halfway it has half: less before, more behind.
    let half = begun + ramp / 2;
    let share = |from: Duration, to: Duration| {
        let part: Vec<bool> =
            answers.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, home)| *home).collect();
        part.iter().filter(|home| **home).count() as f64 / part.len() as f64
    };
    let (early, late) = (share(begun, half), share(half, begun + ramp));
    assert!(early < 0.5 && late > 0.5, "{early} of the first half, {late} of the other");
}
