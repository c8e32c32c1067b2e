//! Tables of clients: by source, header, cookie or query, bounded, learned, and kept over reloads.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::client::Client;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::sticky::{named, reload, rewrite, three};

fn by(origins: &[Origin], more: &str) -> Proxy {
    Setup::listed(&named(origins, &[0, 1, 2]))
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        // Each request goes to the next, unless something speaks for another.
        .pool(&format!("balance = \"round_robin\"\nsticky = {{ {more} }}"))
        .start()
}

fn who(proxy: &Proxy, source: u32, target: &str, fields: &str) -> String {
    let answer = proxy.ask(format!(
        "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 10.1.2.{source}\r\n{fields}\r\n"
    ));
    assert_eq!(
        (answer.status(), answer.field("set-cookie").filter(|set| set.starts_with("plimsoll"))),
        (200, None)
    );
    answer.text()
}

#[test]
fn a_client_is_known_by_what_it_sends_and_by_nothing_else() {
    let origins = three();
    for table in ["source", "header:x-user", "cookie:user", "query:user"] {
        let proxy = by(&origins, &format!("table = \"{table}\""));
        let of = |user: u32, noise: u32| match table {
            "source" => who(&proxy, user, &format!("/{noise}"), ""),
            "header:x-user" => who(&proxy, noise, "/", &format!("X-User: u{user}\r\n")),
            "cookie:user" => who(&proxy, noise, "/", &format!("Cookie: a={noise}; user=u{user}\r\n")),
            _ => who(&proxy, noise, &format!("/?n={noise}&user=u{user}"), ""),
        };
        let first: Vec<String> = (1..10).map(|user| of(user, 1)).collect();
        let again: Vec<String> = (1..10).rev().map(|user| of(user, 2)).collect();
        assert!(first.iter().eq(again.iter().rev()), "{table}: {first:?} {again:?}");
        assert!(first.iter().any(|name| *name != first[0]), "{table}: {first:?}");
        assert_eq!(proxy.metric("plimsoll_pool_sticky_entries", "main"), 9.0, "{table}");
        assert_eq!(proxy.admin_json("/v1/pools/main")["sticky"]["entries"], 9, "{table}");
    }
}

#[test]
fn who_does_not_have_it_is_balanced() {
    let origins = three();
    let proxy = by(&origins, "table = \"header:x-user\"");
    let names: Vec<String> = (0..6).map(|_| who(&proxy, 1, "/", "")).collect();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    assert_eq!(proxy.metric("plimsoll_pool_sticky_entries", "main"), 0.0);
}

#[test]
fn entries_outlive_reloads_and_so_does_their_order_and_a_smaller_table_is_smaller() {
    let origins = three();
    let proxy = by(&origins, "table = \"source\", size = 100");
    let before: Vec<String> = (1..10).map(|source| who(&proxy, source, "/", "")).collect();
    rewrite(&proxy, &named(&origins, &[0, 1, 2]), &named(&origins, &[2, 1, 0]));
    reload(&proxy);
    let after: Vec<String> = (1..10).map(|source| who(&proxy, source, "/", "")).collect();
    assert_eq!(before, after);
    rewrite(&proxy, "size = 100", "size = 3");
    reload(&proxy);
    assert_eq!(proxy.metric("plimsoll_pool_sticky_entries", "main"), 3.0);
    for source in 7..10 {
        assert_eq!(who(&proxy, source, "/", ""), before[source as usize - 1], "who came last has stayed");
    }
    who(&proxy, 99, "/", "");
    assert_eq!(proxy.metric("plimsoll_pool_sticky_entries", "main"), 3.0);
    assert_eq!(proxy.metric("plimsoll_limit_hits_total", "sticky_size"), 1.0);
}

#[test]
fn entries_outlive_an_upgrade() {
    let origins = three();
    let mut proxy = Setup::listed(&named(&origins, &[0, 1, 2]))
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .pool("balance = \"round_robin\"\nsticky = { table = \"header:x-user\" }")
        .linked()
        .start();
    let of = |proxy: &Proxy, user: u32| who(proxy, 1, "/", &format!("X-User: u{user}\r\n"));
    let before: Vec<String> = (1..10).map(|user| of(&proxy, user)).collect();
    proxy.upgrade();
    let after: Vec<String> = (1..10).rev().map(|user| of(&proxy, user)).collect();
    assert!(before.iter().eq(after.iter().rev()), "{before:?} {after:?}");
}

#[test]
fn an_entry_that_is_not_used_for_long_enough_is_gone() {
    let origins = three();
    let proxy = by(&origins, "table = \"source\", expire = \"300ms\"");
    who(&proxy, 1, "/", "");
    proxy.until_metric("plimsoll_pool_sticky_entries", "main", 0.0);
}

#[test]
fn a_client_whose_endpoint_is_dead_is_bound_anew() {
    let origins = three();
    let proxy = by(&origins, "table = \"source\"");
    let first = who(&proxy, 1, "/", "");
    origins.iter().zip(crate::sticky::NAMES).filter(|(_, name)| *name == first).for_each(|(o, _)| o.stop());
    let second = who(&proxy, 1, "/", "");
    assert_ne!(first, second);
    for _ in 0..5 {
        assert_eq!(who(&proxy, 1, "/", ""), second);
    }
}

/// An origin that gives clients a session of its own on `/login` and takes it back on `/logout`.
fn with_sessions(name: &'static str) -> Origin {
    let sessions = AtomicUsize::new(0);
    Origin::start(move |mut session| {
        while let Some(request) = session.request()? {
            let number = sessions.fetch_add(1, Ordering::Relaxed);
            let set = match request.path().as_str() {
                "/login" => {
                    format!("Set-Cookie: other=1\r\nSet-Cookie: SID={name}-{number}; Path=/\r\n")
                }
                "/logout" => "Set-Cookie: SID=x; Max-Age=0\r\n".to_owned(),
                _ => String::new(),
            };
            session.send(format!("HTTP/1.1 200 OK\r\n{set}Content-Length: 2\r\n\r\n{name}"))?;
        }
        Ok(())
    })
}

#[test]
fn what_endpoints_set_is_learned_and_what_clients_make_up_is_not() {
    let origins: Vec<Origin> = crate::sticky::NAMES.into_iter().map(with_sessions).collect();
    let proxy = by(&origins, "table = \"cookie:SID\", learn = true");
    let mut sessions = Vec::new();
    for _ in 0..6 {
        let answer = proxy.ask("GET /login HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let sid = answer.fields("set-cookie")[1].split(';').next().expect("a pair").to_owned();
        sessions.push((sid, answer.text()));
    }
    for (sid, name) in sessions.iter().chain(sessions.iter().rev()) {
        assert_eq!(who(&proxy, 1, "/", &format!("Cookie: a=1; {sid}\r\n")), *name);
    }
    assert_eq!(
        origins.iter().flat_map(Origin::seen).filter(|seen| seen.field("cookie").is_some()).count(),
        12,
        "it is theirs"
    );
    assert_eq!(proxy.metric("plimsoll_pool_sticky_entries", "main"), 6.0);
    for made_up in 0..6 {
        who(&proxy, 1, "/logout", &format!("Cookie: SID=made-up-{made_up}\r\n"));
    }
    assert_eq!(proxy.metric("plimsoll_pool_sticky_entries", "main"), 6.0);
}

#[test]
fn sessions_of_a_source_go_to_one_endpoint() {
    let origins: Vec<Origin> = crate::sticky::NAMES
        .into_iter()
        .map(|name| Origin::start(move |mut session| session.send(name)))
        .collect();
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let proxy =
        Setup::tcp(&addresses).pool("balance = \"round_robin\"\nsticky = { table = \"source\" }").start();
    let greeter = |source: u8| {
        let mut client = Client::connect_from(Ipv4Addr::new(127, 9, 8, source), proxy.web);
        String::from_utf8_lossy(&client.rest().expect("a name")).into_owned()
    };
    let first: Vec<String> = (1..10).map(greeter).collect();
    let again: Vec<String> = (1..10).rev().map(greeter).collect();
    assert!(first.iter().eq(again.iter().rev()), "{first:?} {again:?}");
    assert!(first.iter().any(|name| *name != first[0]), "{first:?}");
}
