//! What the running process says would become of a request: by the level of its limits, by where clients belong and by how
//! endpoints stand now; and that asking changes none of it.

use serde_json::Value;

use crate::harness::client;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, command};
use crate::sticky::{named, three, told};

/// What the process says of a request for this target, with more parameters.
fn explained(proxy: &Proxy, target: &str, more: &str) -> Value {
    let answer = proxy.admin_get(&format!("/v1/explain?url={target}{more}"));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn outcome(proxy: &Proxy, more: &str) -> String {
    explained(proxy, "/", more)["outcome"].as_str().expect("a text").to_owned()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect()
}

fn change(proxy: &Proxy, endpoint: &str, to: &str) {
    let path = format!("/v1/pools/main/endpoints/{endpoint}");
    assert_eq!(proxy.admin_change("PATCH", &path, to).status(), 200);
}

fn get(proxy: &Proxy, fields: &str) -> (u16, String) {
    let answer = proxy.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"));
    (answer.status(), answer.text())
}

const LIMITED: &str = "[[route]]\nname = \"all\"\npool = \"main\"\n\
     rate_limit = { name = \"slow\", key = \"header:x-user\", rate = \"1/h\", burst = 1 }\n\
     [[route]]\nname = \"gone\"\npath = \"/gone\"\nmaintenance = {}\nrespond = { status = 204 }\n";

#[test]
fn asking_changes_nothing() {
    let origins = three();
    let proxy = Setup::listed(&named(&origins, &[0, 1, 2]))
        .routes(LIMITED)
        .pool("balance = \"round_robin\"\nsticky = { table = \"cookie:user\", size = 2 }")
        .start();
    let by = |user: &str| format!("X-User: {user}\r\nCookie: user={user}\r\n");
    let asked = |user: &str| format!("&header=X-User:{user}&header=Cookie:user%3D{user}");
    let (_, first) = get(&proxy, &by("a"));
    let (_, second) = get(&proxy, &by("b"));
    let before = (proxy.admin_json("/v1/pools/main"), proxy.admin_json("/v1/limits"));
    let next = explained(&proxy, "/", &asked("new"));
    for _ in 0..20 {
        // Whoever belongs somewhere is told where, and is not the last that came by that.
        let again = explained(&proxy, "/", &asked("a"));
        assert_eq!(again["outcome"], format!("goes to main/{first}"), "{again}");
        assert_eq!(explained(&proxy, "/", &asked("b"))["outcome"], format!("goes to main/{second}"));
        assert_eq!(
            explained(&proxy, "/", &asked("new"))["outcome"],
            next["outcome"],
            "its turn stays its turn"
        );
    }
    assert_eq!((proxy.admin_json("/v1/pools/main"), proxy.admin_json("/v1/limits")), before);
    let (status, third) = get(&proxy, &by("new"));
    assert_eq!(
        (status, format!("goes to main/{third}")),
        (200, next["outcome"].as_str().unwrap_or("").to_owned())
    );
    assert!(![&first, &second].contains(&&third), "no turn was skipped");
    // The table has room for two: the one that came first has given way, however often it was asked about.
    let a = explained(&proxy, "/", &asked("a"))["pools"][0]["said"].to_string();
    assert!(a.contains("the table does not know its client"), "{a}");
    let b = explained(&proxy, "/", &asked("b"))["pools"][0]["said"].to_string();
    assert!(b.contains(&format!("the table means main/{second}")), "{b}");
    assert_eq!(get(&proxy, &by("b")).0, 200, "one is left of its two");
    assert_eq!(get(&proxy, &by("b")).0, 429);
}

#[test]
fn limits_are_told_as_they_stand() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).routes(LIMITED).start();
    let limit = || explained(&proxy, "/", "&header=X-User:u")["limits"][0].clone();
    let full = limit();
    assert_eq!(
        (&full["name"], &full["now"]),
        (&"slow".into(), &"it passes, of 2 that would".into()),
        "{full}"
    );
    assert_eq!(get(&proxy, "X-User: u\r\n").0, 200);
    assert_eq!(limit()["now"], "it passes, of 1 that would");
    assert_eq!(get(&proxy, "X-User: u\r\n").0, 200);
    let spent = limit();
    assert!(spent["now"].as_str().is_some_and(|now| now.starts_with("it is one too many")), "{spent}");
    assert_eq!(spent["stops"], "answered with 429");
    assert_eq!(outcome(&proxy, "&header=X-User:u"), "answered with 429 by limit slow");
    assert!(outcome(&proxy, "&header=X-User:other").starts_with("goes to main/"));
    assert_eq!(explained(&proxy, "/", "")["limits"][0]["text"], "not counted, it has no header:x-user");
    let gone = explained(&proxy, "/gone", "");
    assert_eq!(
        (&gone["route"], &gone["outcome"]),
        (&"gone".into(), &"out of service: answered with 503".into())
    );
}

#[test]
fn a_cookie_is_told_with_how_its_endpoint_stands() {
    let origins = three();
    let proxy = Setup::listed(&named(&origins, &[0, 1, 2])).pool("sticky = {}").start();
    let (cookie, own) = told(&proxy);
    let asked = format!("&header=Cookie:{}", cookie.replace('=', "%3D"));
    let seen = |proxy: &Proxy| explained(proxy, "/", &asked)["pools"][0].clone();
    let at_home = seen(&proxy);
    assert!(at_home["said"].to_string().contains(&format!("cookie means main/{own}: bound")), "{at_home}");
    assert_eq!(names(&at_home["order"])[0], own);
    assert_eq!(at_home["order"][0]["now"]["usable"], true);
    change(&proxy, &own, "{\"admin_state\": \"drain\"}");
    let drained = seen(&proxy);
    assert!(drained["said"].to_string().contains("takes nobody else any more"), "{drained}");
    assert_eq!(outcome(&proxy, &asked), format!("goes to main/{own}"));
    assert!(!outcome(&proxy, "").ends_with(&own), "others go elsewhere");
    change(&proxy, &own, "{\"admin_state\": \"maintenance\"}");
    let out = seen(&proxy);
    assert!(
        out["said"].to_string().contains("cannot be used now (maintenance): another one is taken"),
        "{out}"
    );
    assert_eq!(
        (names(&out["out"]), &out["out"][0]["now"]["reason"]),
        (vec![own.as_str()], &"maintenance".into())
    );
    assert_ne!(outcome(&proxy, &asked), format!("goes to main/{own}"));
    let forged = format!("{}AAAA", &asked[..asked.len() - 4]);
    assert!(explained(&proxy, "/", &forged)["pools"][0]["said"].to_string().contains("counts for nothing"));
}

#[test]
fn a_hash_and_a_split_by_source_are_told_as_they_turn_out() {
    let (origins, other) = (three(), Origin::saying("new"));
    let proxy = Setup::listed(&named(&origins, &[0, 1, 2]))
        .routes("[[route]]\nname = \"all\"\nsplit = [{ pool = \"main\", weight = 1 }, { pool = \"new\", weight = 1 }]\nsplit_by = \"source\"\n")
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .pool("balance = \"maglev\"\nhash_key = \"header:x-user\"")
        .text(&format!("[pool.new]\nendpoints = [\"{}\"]", other.address()))
        .start();
    let mut both = [false, false];
    for client in 1..20 {
        let said =
            outcome(&proxy, &format!("&header=X-User:{client}&header=X-Forwarded-For:10.0.0.{client}"));
        let (_, who) = get(&proxy, &format!("X-User: {client}\r\nX-Forwarded-For: 10.0.0.{client}\r\n"));
        let is_new = said == format!("goes to new/{}", other.address());
        assert!(is_new || said == format!("goes to main/{who}"), "{said}, and it went to {who}");
        both[usize::from(is_new)] = true;
    }
    assert_eq!(both, [true, true]);
    assert_eq!((other.seen().len() + origins.iter().map(|origin| origin.seen().len()).sum::<usize>()), 19);
}

#[test]
fn a_retry_is_told_with_whoever_comes_next_and_a_pool_without_anybody_too() {
    let origins = three();
    let proxy = Setup::listed(&named(&origins, &[0, 1, 2])).pool("balance = \"first\"").start();
    let pool = |method: &str| explained(&proxy, "/", &format!("&method={method}"))["pools"][0].clone();
    let all = pool("GET");
    assert_eq!(names(&all["order"]), ["s1", "s2", "s3"]);
    assert!(all["after"].to_string().contains("GET may be sent twice; its budget has "), "{all}");
    assert!(pool("POST")["after"].to_string().contains("POST is not sent twice"));
    for name in ["s1", "s2", "s3"] {
        change(&proxy, &format!("{name}?force"), "{\"admin_state\": \"maintenance\"}");
    }
    assert_eq!(outcome(&proxy, ""), "answered with 503: nothing is usable");
}

#[test]
fn the_command_shows_what_the_process_says_and_says_no_where_that_does() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).routes(LIMITED).start();
    let admin = proxy.admin.to_string();
    let run = |words: &[&str]| {
        let output = command(&[&["explain", "--admin", &admin], words].concat());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, text, _) = run(&["GET", "/", "-H", "X-User: u"]);
    assert_eq!(status, Some(0), "{text}");
    for part in [
        "state: as it stands now, generation 1\n",
        "\n  1. gone: lost, path: wants \"/gone\", is \"/\"\n  2. all: taken\n",
        "    now: it passes, of 2 that would\n",
        "; usable, 0 ",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(text.ends_with(&format!("\nnow: goes to main/{}\n", origin.address())), "{text}");
    let (status, json, _) = run(&["GET", "/gone", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((status, &json["outcome"]), (Some(0), &"out of service: answered with 503".into()));
    let (status, _, errors) = run(&["GET", "/", "--listener", "none"]);
    assert_eq!((status, errors.contains("there is no listener \"none\"")), (Some(2), true), "{errors}");
    let posted = client::ask(
        proxy.admin,
        "POST /v1/explain?url=/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(posted.status(), 405);
    for wrong in ["", "?url=/&url=/", "?url=/&unknown=1", "?url=ftp://a/", "?url=/&source=here"] {
        assert_eq!(proxy.admin_get(&format!("/v1/explain{wrong}")).status(), 400, "{wrong}");
    }
}
