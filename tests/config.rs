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
