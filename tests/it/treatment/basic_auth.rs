//! Names and passwords: who comes in, what the endpoint hears of it, and what a changed file changes.

use std::fs;

use super::{get, get2, pool};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, command};
use crate::harness::until;

/// "Hello world!" with bcrypt at the lowest cost, "myPassword" as Apache had it.
const USERS: &str = "blow:$2y$04$4WmJq5RjG2lnDYgH/rQFa.XMt09cxrBB.YRRTJcEtb4VfXCSwVmeO\n\
                     apache:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/\n";

const BLOW: &str = "Basic YmxvdzpIZWxsbyB3b3JsZCE=";
const APACHE: &str = "Basic YXBhY2hlOm15UGFzc3dvcmQ=";
const WRONG: &str = "Basic YmxvdzpoZWxsbyB3b3JsZCE=";
const NOBODY: &str = "Basic bm9ib2R5OkhlbGxvIHdvcmxkIQ==";

fn start(origin: &Origin, keys: &str) -> Proxy {
    let folder = crate::harness::proxy::own_directory();
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("users");
    fs::write(&file, USERS).expect("it can be written");
    Setup::http(&[origin.address()])
        .process("workers = 1")
        .listener("h2c = true")
        .routes(&format!(
            "[[route]]\nname = \"all\"\npool = \"main\"\n\
             basic_auth = {{ realm = \"staff\", users_file = \"{}\"{keys} }}\n",
            file.display()
        ))
        .start()
}

fn login(value: &str) -> String {
    format!("Authorization: {value}\r\n")
}

#[test]
fn only_who_has_a_password_comes_in() {
    let origin = Origin::saying("in");
    let proxy = start(&origin, "");
    for refused in [String::new(), login(WRONG), login(NOBODY), login("Bearer abc"), login("Basic !")] {
        let answer = get(&proxy, "/", &refused);
        assert_eq!(answer.status(), 401, "{refused}");
        let challenge = answer.field("www-authenticate");
        assert_eq!(challenge.as_deref(), Some("Basic realm=\"staff\", charset=\"UTF-8\""));
    }
    assert!(origin.seen().is_empty(), "nothing of them goes on");
    for right in [BLOW, APACHE, BLOW] {
        assert_eq!(get(&proxy, "/", &login(right)).text(), "in");
    }
    assert_eq!(get2(&proxy, "/", &[("authorization", BLOW)]).text(), "in");
    assert_eq!(get2(&proxy, "/", &[("authorization", WRONG)]).status, 401);
    proxy.until_metric("plimsoll_route_logins_total", "result=\"right\"", 4.0);
    proxy.until_metric("plimsoll_route_logins_total", "result=\"wrong\"", 3.0);
    proxy.until_metric("plimsoll_route_logins_total", "result=\"absent\"", 3.0);
    assert_eq!(proxy.metric("plimsoll_route_logins_remembered", "route=\"all\""), 2.0);
}

#[test]
fn the_endpoint_hears_the_name_and_not_the_password() {
    let origin = Origin::saying("in");
    let proxy = start(&origin, ", user_header = \"x-user\"");
    let spoofed = format!("{}X-User: root\r\nX_User: root\r\n", login(BLOW));
    assert_eq!(get(&proxy, "/", &spoofed).status(), 200);
    assert_eq!(get2(&proxy, "/", &[("authorization", APACHE), ("x-user", "root")]).status, 200);
    let seen = origin.seen();
    assert_eq!(seen[0].field("x_user"), None, "some gateways would take it for the other");
    assert_eq!((seen[0].fields("x-user"), seen[0].field("authorization")), (vec!["blow".to_owned()], None));
    assert_eq!((seen[1].fields("x-user"), seen[1].field("authorization")), (vec!["apache".to_owned()], None));
    let kept = start(&origin, ", keep_authorization = true");
    assert_eq!(get(&kept, "/", &login(BLOW)).status(), 200);
    assert_eq!(origin.request(2).field("authorization").as_deref(), Some(BLOW));
}

#[test]
fn a_reload_takes_the_file_as_it_is_then() {
    let origin = Origin::saying("in");
    let proxy = start(&origin, "");
    assert_eq!(get(&proxy, "/", &login(BLOW)).status(), 200);
    let text = fs::read_to_string(proxy.directory.join("plimsoll.toml")).expect("its file");
    let file = text.split("users_file = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a path");
    fs::write(file, USERS.replace("blow:", "other:")).expect("it can be written");
    let admin = proxy.admin.to_string();
    let plan =
        command(&["plan", "--admin", &admin, &proxy.directory.join("plimsoll.toml").display().to_string()]);
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(
        plan.contains("route all: changed\n  basic_auth: its users_file says something else now"),
        "{plan}"
    );
    assert!(command(&["reload", "--wait", "--admin", &admin]).status.success());
    until("the user to be gone", || (get(&proxy, "/", &login(BLOW)).status() == 401).then_some(()));
    assert_eq!(get(&proxy, "/", &login(APACHE)).status(), 200);
    // What cannot be used changes nothing, and is told without what stands in it.
    fs::write(file, "blow:secret\n").expect("it can be written");
    let refused = command(&["reload", "--wait", "--admin", &admin]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
    assert!(!refused.status.success() && said.contains("line 1 has no salted hash"), "{said}");
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(get(&proxy, "/", &login(APACHE)).status(), 200);
}

/// The hash takes a good part of a second; the one worker answers others meanwhile.
#[test]
fn a_check_holds_up_nobody_else() {
    let origin = Origin::saying("in");
    let folder = crate::harness::proxy::own_directory();
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("users");
    // Of cost 12; no password that is tried here is its own.
    fs::write(&file, "slow:$2y$12$4WmJq5RjG2lnDYgH/rQFa.XMt09cxrBB.YRRTJcEtb4VfXCSwVmeO\n")
        .expect("it can be written");
    let proxy = Setup::http(&[origin.address()])
        .process("workers = 1")
        .routes(&format!(
            "[[route]]\nname = \"slow\"\npath = \"/slow\"\npool = \"main\"\n\
             basic_auth = {{ users_file = \"{}\" }}\n\
             [[route]]\nname = \"all\"\npool = \"main\"\n",
            file.display()
        ))
        .text(&pool("unused", &origin))
        .start();
    let mut slow = proxy.connect();
    slow.say("GET /slow HTTP/1.1\r\nHost: a\r\nAuthorization: Basic c2xvdzpoZWxsbw==\r\n\r\n");
    let mut others = 0;
    while slow.silent_for(std::time::Duration::from_millis(1)) {
        assert_eq!(proxy.get("/").status(), 200);
        others += 1;
    }
    assert_eq!(slow.answer().status(), 401);
    assert!(others > 3, "only {others} others were answered meanwhile");
}
