//! Runs the configurations of `tests/config/` and `conf/`: valid ones load and print themselves again, of invalid ones
//! every diagnostic is as written beside them. `UPDATE_EXPECT=1` writes what is printed instead of comparing it.

use std::fs;
use std::path::{Path, PathBuf};

use plimsoll::config::{self, Config, Diagnostics};

/// The environment that the cases see.
fn environment(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".to_owned()),
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
    format!("{:?}", Config { hash: 0, ..config.clone() })
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
    assert!(found.len() >= 45, "only {} cases", found.len());
}

#[test]
fn the_reference_has_every_key_and_loads() {
    let text = config::reference();
    expect(Path::new("conf/reference.toml"), &text);
    let loaded = config::load_text(&text, Path::new("conf/reference.toml"), &|_| None);
    assert!(loaded.is_ok(), "{}", loaded.err().map(|e| e.to_string()).unwrap_or_default());
}
