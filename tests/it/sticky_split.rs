//! `split_by = "sticky"`: a client stays in its canary, and goes where its pool goes.

use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, command, own_directory};
use crate::harness::until;
use crate::sticky::{ask, cookie, reload, rewrite, told, who};

/// Two pools with a share each, and a route that leads to the first alone.
fn split(origins: &[Origin; 2], weights: [u32; 2], more: &str) -> Setup {
    let [a, b] = weights;
    Setup::http(&[origins[0].address()])
        .pool(&format!("sticky = {{}}\n{more}"))
        .text(&format!("[pool.canary]\nendpoints = [\"{}\"]\nsticky = {{}}", origins[1].address()))
        .routes(&format!(
            "[[route]]\nname = \"alone\"\npath = \"/alone\"\npool = \"main\"\n[[route]]\nname = \"split\"\n\
             split = [{{ pool = \"main\", weight = {a} }}, {{ pool = \"canary\", weight = {b} }}]\nsplit_by = \"sticky\"\n"
        ))
}

fn origins() -> [Origin; 2] {
    ["main", "canary"].map(Origin::saying)
}

/// A client of this pool.
fn client_of(proxy: &Proxy, pool: &str) -> String {
    until("a client of the pool", || Some(told(proxy)).filter(|(_, who)| who == pool)).0
}

#[test]
fn a_client_stays_with_the_pool_that_it_came_to() {
    let origins = origins();
    let proxy = split(&origins, [50, 50], "").start();
    for pool in ["main", "canary"] {
        let own = client_of(&proxy, pool);
        for _ in 0..10 {
            assert_eq!(who(&proxy, &own), pool);
        }
    }
    // No pool's cookie goes on, whichever was chosen.
    let both = format!("{}; {}", client_of(&proxy, "main"), client_of(&proxy, "canary"));
    ask(&proxy, &both);
    assert!(origins.iter().flat_map(Origin::seen).all(|seen| seen.field("cookie").is_none()));
}

#[test]
fn a_pool_without_weight_loses_its_clients_each_of_whom_is_told_once() {
    let origins = origins();
    let proxy = split(&origins, [50, 50], "").start();
    let own = client_of(&proxy, "canary");
    rewrite(&proxy, "pool = \"canary\", weight = 50", "pool = \"canary\", weight = 0");
    reload(&proxy);
    let answer = ask(&proxy, &own);
    let fresh = cookie(&answer).expect("it belongs elsewhere now");
    assert_eq!(answer.text(), "main");
    assert_eq!(who(&proxy, &format!("{own}; {fresh}")), "main");
}

#[test]
fn who_has_to_leave_a_dead_pool_stays_where_it_went() {
    let origins = origins();
    let proxy = split(&origins, [50, 50], "").start();
    let own = client_of(&proxy, "canary");
    origins[1].stop();
    let answer = ask(&proxy, &own);
    let fresh = cookie(&answer).expect("it belongs elsewhere now");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "main"));
    let both = format!("{own}; {fresh}");
    for _ in 0..5 {
        assert_eq!(who(&proxy, &both), "main", "the newer one counts");
    }
}

#[test]
fn a_route_to_one_of_the_pools_alone_takes_nobody_out_of_his_canary() {
    let origins = origins();
    let proxy = split(&origins, [50, 50], "").start();
    let own = client_of(&proxy, "canary");
    let alone =
        proxy.ask(format!("GET /alone HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: {own}\r\n\r\n"));
    assert_eq!(alone.text(), "main");
    let other = cookie(&alone).expect("that pool has a cookie of its own");
    assert_eq!(who(&proxy, &format!("{own}; {other}")), "canary");
    assert_eq!(who(&proxy, &format!("{other}; {own}")), "canary");
}

#[test]
fn pools_may_share_the_name_of_their_cookie() {
    let origins = origins();
    let proxy = Setup::http(&[origins[0].address()])
        .pool("sticky = { cookie = \"SRV\" }")
        .text(&format!(
            "[pool.canary]\nendpoints = [\"{}\"]\nsticky = {{ cookie = \"SRV\" }}",
            origins[1].address()
        ))
        .routes("[[route]]\nsplit = [{ pool = \"main\" }, { pool = \"canary\" }]\n")
        .start();
    for pool in ["main", "canary"] {
        let own = client_of(&proxy, pool);
        for _ in 0..6 {
            assert_eq!(who(&proxy, &own), pool, "sticky is what decides where nothing is said");
        }
    }
}

#[test]
fn explain_says_where_a_cookie_leads() {
    let origins = origins();
    let file = own_directory().join("sticky.key");
    std::fs::write(&file, "the key, of which nobody else knows at all").expect("a file of keys");
    let proxy = split(&origins, [50, 50], "")
        .text(&format!("[defaults.pool.sticky]\nkey_file = \"{}\"", file.display()))
        .start();
    let own = client_of(&proxy, "canary");
    let config = proxy.directory.join("plimsoll.toml").display().to_string();
    let explain = |cookie: &str| {
        let field = format!("Cookie: {cookie}");
        let output = command(&["explain", "--config", &config, "GET", "http://a/", "-H", &field]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let known = explain(&own);
    assert!(known.contains("the client belongs to pool canary, which takes it"), "{known}");
    let address = origins[1].address();
    assert!(known.contains(&format!("the request's cookie means canary/{address}: bound ")), "{known}");
    let forged = explain("plimsoll_canary=v1.forged");
    assert!(forged.contains("counts for nothing") && !forged.contains("belongs to pool"), "{forged}");
    assert!(explain("a=b").contains("the request has no such cookie"), "{}", explain("a=b"));
}
