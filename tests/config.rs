//! Runs the configurations of `tests/config/` and `conf/`: valid ones load and print themselves again, of
//! invalid ones every diagnostic is as written beside them. `UPDATE_EXPECT=1` writes what is printed
//! instead of comparing it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll::config::{self, Config, Diagnostics, lints};

/// The environment that the cases see.
fn environment(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".to_owned()),
        "ZONE" => Some("b".to_owned()),
        "ONCALL_PATH" => Some("/T0/B0/s3cret".to_owned()),
        "NETWORK" => Some("10.0.0.0/8".to_owned()),
        "QUOTED" => Some("a \"b\" \\ ${PORT}".to_owned()),
        _ => None,
    }
}

fn load(path: &Path) -> Result<Config, Diagnostics> {
    let text = fs::read_to_string(path).expect("the case can be read");
    config::load_text(&text, path, &environment)
}

/// The cases of a folder, sorted; folders hold what cases include.
fn cases(folder: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder exists")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    found.sort();
    found
}

#[test]
fn every_valid_configuration_loads() {
    let found = cases("tests/config/valid");
    for path in found.iter().chain(&cases("conf")) {
        if let Err(diagnostics) = load(path) {
            panic!("{} should load:\n{diagnostics}", path.display());
        }
    }
}

#[test]
fn every_valid_configuration_means_what_is_written_beside_it() {
    for path in cases("tests/config/valid") {
        let config = load(&path).expect("it loads");
        expect(&path.with_extension("shown"), &config::show(&config));
    }
}

/// Compares `got` with the file at `path`, or writes it there.
fn expect(path: &Path, got: &str) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, got).expect("the expectation can be written");
        return;
    }
    let want = fs::read_to_string(path).unwrap_or_default();
    assert!(want == got, "{} differs; it should be:\n{got}", path.display());
}

/// What a configuration means, without the hash of its text.
fn meaning(config: &Config) -> String {
    format!("{:?}", Config { hash: 0, origin: Arc::default(), ..config.clone() })
}

#[test]
fn a_configuration_that_is_shown_loads_to_the_same() {
    for path in cases("tests/config/valid").iter().chain(&cases("conf")) {
        let config = load(path).expect("it loads");
        let shown = config::show(&config);
        let again = config::load_text(&shown, Path::new("shown.toml"), &|_| None)
            .unwrap_or_else(|e| panic!("{} shown does not load:\n{e}\n{shown}", path.display()));
        assert_eq!(meaning(&config), meaning(&again), "{}", path.display());
    }
}

#[test]
fn every_invalid_configuration_says_what_to_write() {
    let found = cases("tests/config/invalid");
    for path in &found {
        match load(path) {
            Ok(_) => panic!("{} should not load", path.display()),
            Err(diagnostics) => expect(&path.with_extension("stderr"), &diagnostics.to_string()),
        }
    }
    assert!(found.len() >= 125, "only {} cases", found.len());
}

#[test]
fn the_reference_has_every_key_and_loads() {
    let text = config::reference();
    expect(Path::new("conf/reference.toml"), &text);
    let loaded = config::load_text(&text, Path::new("conf/reference.toml"), &|_| None);
    assert!(loaded.is_ok(), "{}", loaded.err().map(|e| e.to_string()).unwrap_or_default());
}

#[test]
fn the_page_of_lints_has_them_all() {
    expect(Path::new("conf/lints.md"), &lints::page());
}

#[test]
fn what_we_show_has_no_findings() {
    for path in cases("conf").iter().filter(|path| !path.ends_with("reference.toml")) {
        let config = load(path).expect("it loads");
        let found = lints::findings(&config, &lints::Machine::default());
        let found: Vec<String> = found.iter().map(|one| format!("{} {}", one.lint.code, one.what)).collect();
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
    }
}

/// A folder of its own for a test that needs files which cannot be kept as they are.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

#[test]
fn a_file_that_cannot_be_read_is_a_diagnostic() {
    let folder = scratch("unreadable");
    let check = |path: &Path, want: &str| {
        let printed =
            config::load(path).map(|_| ()).map_err(|e| e.to_string()).expect_err("it does not load");
        assert!(printed.contains(want) && printed.contains("help: "), "{printed}");
        printed
    };
    check(&folder.join("none.toml"), "none.toml:1:1: the file cannot be read: No such file");
    check(&folder, ":1:1: the file cannot be read: Is a directory");
    let binary = folder.join("binary.toml");
    fs::write(&binary, b"# fine\nname = \"a\xff\"\n").expect("the file can be written");
    check(&binary, "binary.toml:2:10: the file is not UTF-8 text");
    let endless = check(Path::new("/dev/zero"), "larger than 16 MiB");
    assert!(endless.len() < 1000, "{endless}");
}

#[test]
fn a_file_is_loaded_with_the_environment_of_the_process() {
    let folder = scratch("environment");
    let path = folder.join("plimsoll.toml");
    // A variable that every test process of cargo has.
    let text = r#"
        [listener.web]
        bind = ["127.0.0.1:80"]
        [[route]]
        respond = { status = 200, body = "${CARGO_PKG_NAME}" }
    "#;
    fs::write(&path, text).expect("the file can be written");
    let config = config::load(&path).unwrap_or_else(|e| panic!("{e}"));
    assert!(config::show(&config).contains("body = \"plimsoll\""));
}

#[test]
fn certificates_and_keys_are_looked_into_where_the_configuration_is_a_file() {
    let folder = scratch("certificates");
    let pair =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate can be made");
    fs::write(folder.join("ca.crt"), pair.cert.pem()).expect("the file can be written");
    fs::write(folder.join("client.key"), pair.signing_key.serialize_pem()).expect("the file can be written");
    fs::write(folder.join("empty.crt"), "nothing").expect("the file can be written");
    let path = folder.join("plimsoll.toml");
    let tls = |ca: &str, key: &str| {
        let text = format!(
            "[listener.web]\nbind = [\"127.0.0.1:80\"]\n[pool.api]\nendpoints = [\"10.0.0.1:80\"]\n\
             [pool.api.health]\ntls = {{ ca = \"{ca}\", cert = \"ca.crt\", key = \"{key}\" }}\n"
        );
        fs::write(&path, &text).expect("the file can be written");
        assert!(config::load_text(&text, Path::new("a.toml"), &|_| None).is_ok(), "no file is looked into");
        config::load(&path).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(tls("ca.crt", "client.key"), Ok(()), "relative to the file");
    let missing = tls("none.crt", "client.key").expect_err("it is not there");
    assert!(
        missing.contains("plimsoll.toml:6:14: `ca` cannot be") && missing.contains("No such file"),
        "{missing}"
    );
    let empty = tls("empty.crt", "ca.crt").expect_err("neither is what it should be");
    assert!(empty.contains("it has no certificate") && empty.contains("it has no private key"), "{empty}");
}

#[test]
fn certificates_of_a_listener_are_held_against_their_keys_names_staples_and_rules() {
    let folder = scratch("listener-certificates");
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("the file can be written");
    let pair = |file: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let pair = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
        write(&format!("{file}.crt"), &pair.cert.pem());
        write(&format!("{file}.key"), &pair.signing_key.serialize_pem());
    };
    pair("a", &["a.test", "b.test"]);
    pair("b", &["b.test"]);
    pair("nobody", &[]);
    write("short.key", "too short\n");
    write("staple", "no OCSP answer");
    let path = folder.join("plimsoll.toml");
    let tls = |certificates: &str, more: &str| {
        let text = format!(
            "[listener.web]\nbind = [\"127.0.0.1:80\"]\ntls = {{ certificates = [{certificates}]{more} }}\n"
        );
        fs::write(&path, text).expect("the file can be written");
        config::load(&path).map(|_| ()).map_err(|e| e.to_string())
    };
    let (a, b) = (r#"{ cert = "a.crt", key = "a.key" }"#, r#"{ cert = "b.crt", key = "b.key" }"#);
    let guarded = r#"{ cert = "b.crt", key = "b.key", client_ca = "a.crt" }"#;
    assert_eq!(tls(&format!("{a}, {b}"), ""), Ok(()));
    let cases = [
        (r#"{ cert = "none.crt", key = "a.key" }"#, "", "plimsoll.toml:3:34: `cert` cannot be "),
        (r#"{ cert = "a.crt", key = "b.key" }"#, "", "b.key is not the key of "),
        (r#"{ cert = "a.crt", key = "short.key" }"#, "", "it has no private key"),
        (r#"{ cert = "nobody.crt", key = "nobody.key" }"#, "", "nobody.crt names nobody"),
        (r#"{ cert = "a.crt", key = "a.key", ocsp = "staple" }"#, "", "it is no OCSP answer in DER"),
        (a, r#", ticket_keys = "short.key""#, "the key of line 1 has less than 32 bytes"),
        (a, r#", client_ca = "a.key""#, "it has no certificate"),
    ];
    for (certificates, more, want) in cases {
        let printed = tls(certificates, more).expect_err("it does not load");
        assert!(printed.contains(want) && printed.contains("help: "), "{want} is not in:\n{printed}");
    }
    let both = tls(&format!("{a}, {guarded}"), "").expect_err("it does not load");
    assert!(both.contains("two certificates for b.test ask clients for different ones"), "{both}");
    assert_eq!(tls(&format!("{a}, {guarded}"), r#", client_ca = "a.crt""#), Ok(()));
}

#[test]
fn the_url_of_a_webhook_is_not_shown() {
    let config = load(Path::new("conf/two-regions.toml")).expect("it loads");
    assert!(!config::show(&config).contains("s3cret") && !format!("{config:?}").contains("s3cret"));
    let sinks: Vec<_> = config.notify.iter().map(|notify| &notify.sink).collect();
    let [config::notify::Sink::Webhook(webhook)] = sinks.as_slice() else {
        panic!("one webhook, not {sinks:?}")
    };
    assert_eq!(webhook.url(), "https://hooks.internal/T0/B0/s3cret");
}

#[test]
fn the_hash_tells_texts_apart() {
    let hash = |text: &str| config::load_text(text, Path::new("a.toml"), &|_| None).map(|c| c.hash).ok();
    let text = "[listener.web]\nbind = [\"127.0.0.1:80\"]\n";
    assert_eq!(hash(text), hash(text));
    assert_ne!(hash(text), hash(&format!("{text}# other\n")));
}

/// Walks the schema with the path to each section as the start and the end of an inline table.
fn walk_schema(schema: &serde_json::Value, open: &str, close: &str, visit: &mut dyn FnMut(&str, &str, &str)) {
    if let Some(choices) = schema["anyOf"].as_array() {
        choices.iter().for_each(|choice| walk_schema(choice, open, close, visit));
    }
    if schema["items"].is_object() {
        walk_schema(&schema["items"], &format!("{open}["), &format!("]{close}"), visit);
    }
    if schema["additionalProperties"].is_object() {
        walk_schema(
            &schema["additionalProperties"],
            &format!("{open}{{ x = "),
            &format!(" }}{close}"),
            visit,
        );
    }
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        visit(open, close, key);
        walk_schema(below, &format!("{open}{{ {key} = "), &format!(" }}{close}"), visit);
    }
    if schema["additionalProperties"] == false {
        visit(open, close, "");
    }
}

#[test]
fn the_schema_has_the_keys_that_are_read() {
    let mut keys = 0;
    let mut check = |open: &str, close: &str, key: &str| {
        // A date is never right, so that every key that is known complains about it by name; one that is
        // none is unknown.
        let (name, value) = if key.is_empty() { ("zzzzzzzz", "1") } else { (key, "1979-05-27") };
        let inline = format!("{open}{{ {name} = {value} }}{close}");
        // The outermost table is the file itself.
        let text = inline.strip_prefix("{ ").and_then(|t| t.strip_suffix(" }")).unwrap_or(&inline);
        let printed = config::load_text(text, Path::new("a.toml"), &|_| None).err().map(|e| e.to_string());
        let printed = printed.unwrap_or_default();
        let known = !printed.contains("unknown key")
            && !printed.contains("no section")
            && !printed.contains("not supported");
        let of_regex = key == "regex" || printed.contains("{ regex = ");
        assert!(of_regex || known != key.is_empty(), "{text}\n{printed}");
        assert!(
            of_regex || key.is_empty() || printed.contains(&format!("`{key}` must be")),
            "{text}\n{printed}"
        );
        keys += usize::from(!key.is_empty());
    };
    let schema = config::schema();
    walk_schema(&schema, "", "", &mut check);
    assert!(keys > 100, "only {keys} keys");
}

/// Pieces of which wrong configurations are made.
const PIECES: [&str; 40] = [
    "[",
    "]",
    "[[",
    "]]",
    "\n",
    "\n",
    " = ",
    "\"",
    "\"\"\"",
    "'",
    "{",
    "}",
    ",",
    ".",
    "#",
    "${",
    "}",
    "listener",
    "web",
    "pool",
    "route",
    "defaults",
    "bind",
    "endpoints",
    "like",
    "retry",
    "split",
    "\"10.0.0.1:80\"",
    "1",
    "-1e9",
    "\"5s\"",
    "ü",
    "\u{0}",
    "\r",
    "\t",
    "name",
    "path_regex",
    "\"(a\"",
    "off",
    "include",
];

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", picks in proptest::collection::vec(0..PIECES.len(), 0..60)) {
        let name = Path::new("/nonexistent/fuzz.toml");
        let made: String = picks.iter().filter_map(|&i| PIECES.get(i).copied()).collect();
        for text in [text.as_str(), made.as_str()] {
            if let Err(diagnostics) = config::load_text(text, name, &|_| None) {
                assert!(!diagnostics.to_string().is_empty() && diagnostics.count() > 0);
            }
        }
    }

    #[test]
    fn no_change_to_a_valid_text_makes_it_panic(at in 0usize..3000, length in 0usize..40, piece in 0..PIECES.len()) {
        let text = include_str!("../conf/web.toml");
        let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        let (start, end) = (boundary(at), boundary(at + length));
        let piece = PIECES.get(piece).copied().unwrap_or("");
        let changed = format!("{}{piece}{}", text.get(..start).unwrap_or(""), text.get(end..).unwrap_or(""));
        if let Ok(config) = config::load_text(&changed, Path::new("/nonexistent/fuzz.toml"), &|_| None) {
            let again = config::load_text(&config::show(&config), Path::new("a.toml"), &|_| None);
            proptest::prop_assert_eq!(again.map(|again| meaning(&again)).ok(), Some(meaning(&config)));
        }
    }
}
