//! The commands that need no running process, and what they exit with.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::harness::own_ip;
use crate::harness::proxy::{command, own_directory};

const GOOD: &str = "[listener.web]\nbind = [\"127.0.0.1:8080\"]\nprotocol = \"http\"\n\n\
                    [[route]]\nname = \"api\"\nhost = \"api.example.com\"\npath_prefix = \"/v1/\"\npool = \"api\"\n\n\
                    [[route]]\nname = \"rest\"\nrespond = { status = 404, body = \"no\" }\n\n\
                    [pool.api]\nendpoints = [\"127.0.0.1:9001\", \"127.0.0.1:9002\"]\n";

fn file(text: &str) -> PathBuf {
    let path = own_directory().join("plimsoll.toml");
    fs::write(&path, text).expect("a file");
    path
}

fn run(name: &str, path: &Path, more: &[&str]) -> Output {
    let path = path.display().to_string();
    let mut arguments = vec![name, "--config", &path];
    arguments.extend(more);
    command(&arguments)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_good_file_is_0_and_a_summary() {
    let output = run("check", &file(GOOD), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!output.stdout.is_empty());
}

#[test]
fn a_bad_file_is_2_and_every_error_with_its_place() {
    let bad = GOOD
        .replace("protocol = \"http\"", "protocl = \"http\"")
        .replace("pool = \"api\"", "pool = \"apis\"");
    for name in ["check", "run"] {
        let path = file(&bad);
        let output = run(name, &path, &[]);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in ["plimsoll.toml:3:1", "protocl", "did you mean", "plimsoll.toml:9:8", "apis"] {
            assert!(text.contains(part), "{name}: {part} is not in {text}");
        }
    }
}

#[test]
fn what_is_missing_or_unknown_is_2() {
    assert_eq!(run("check", Path::new("/nonexistent/plimsoll.toml"), &[]).status.code(), Some(2));
    assert_eq!(command(&["chekc"]).status.code(), Some(2));
    assert_eq!(command(&["check", "--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn the_schema_is_json_and_knows_the_sections() {
    let output = command(&["check", "--schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for section in ["process", "admin", "log", "listener", "route", "pool"] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}

#[test]
fn explain_names_the_route_its_rivals_and_the_candidates() {
    let path = file(GOOD);
    let output = run("explain", &path, &["GET", "http://api.example.com/v1/x"]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in ["api", "rest", "127.0.0.1:9001", "127.0.0.1:9002"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let lost = run("explain", &path, &["GET", "http://api.example.com/v2"]);
    let lost = String::from_utf8_lossy(&lost.stdout).into_owned();
    assert!(lost.contains("path") && lost.contains("404"), "{lost}");
    let bad = run("explain", &path, &["GET", "nonsense"]);
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn explain_takes_fields_and_a_source() {
    let routes = "[[route]]\nname = \"canary\"\nheaders = { x-canary = \"1\" }\nsource = [\"10.0.0.0/8\"]\n\
                  respond = { status = 200, body = \"\" }\n\n[[route]]\nname = \"api\"";
    let path = file(&GOOD.replacen("[[route]]\nname = \"api\"", routes, 1));
    let output = run("explain", &path, &["GET", "http://x/", "-H", "X-Canary: 1", "--source", "10.1.2.3"]);
    let taken = String::from_utf8_lossy(&output.stdout).into_owned();
    let other = run("explain", &path, &["GET", "http://x/", "-H", "X-Canary: 1", "--source", "11.1.2.3"]);
    assert!(taken.contains("canary"));
    assert_ne!(taken, String::from_utf8_lossy(&other.stdout));
}

#[test]
fn an_address_in_use_fails_at_start_with_1() {
    let taken = TcpListener::bind((own_ip(), 0)).expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let text_of = GOOD.replace("127.0.0.1:8080", &address);
    let admin = format!("[admin]\nbind = \"{}:9900\"\n", own_ip());
    let output = run("run", &file(&format!("{admin}{text_of}")), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains(&address));
}
