//! Imports of whole configurations: `import/PRODUCT/NAME/` has a source, and beside it what is made of it and the report.
//! `UPDATE_EXPECT=1 cargo test --test import` writes these anew; what then differs is to be read.

use std::fs;
use std::path::{Path, PathBuf};

use plimsoll::cli::import::Import;
use plimsoll::cli::import::haproxy;
use plimsoll::cli::import::ingress;
use plimsoll::cli::import::nginx;
use plimsoll::cli::import::report::Verdict;
use plimsoll::cli::import::surroundings::Surroundings;
use plimsoll::cli::import::traefik;
use plimsoll::config::{self, lints};

/// A product whose configurations are imported.
struct Product {
    /// Its folder.
    name: &'static str,
    import: fn(&[(&str, &str)], Surroundings<'_>) -> Import,
    /// Whether a file beside a case is one that the importer is given, and not one that it finds.
    given: fn(&str) -> bool,
}

const PRODUCTS: &[Product] = &[
    Product { name: "haproxy", import: haproxy::import, given: |name| name == "haproxy.cfg" },
    Product { name: "ingress", import: ingress::import, given: |name| name.ends_with(".yaml") },
    Product { name: "nginx", import: nginx::import, given: |name| name == "nginx.conf" },
    Product {
        name: "traefik",
        import: traefik::import,
        given: |name| [".yml", ".yaml", ".toml"].iter().any(|end| name.ends_with(end)),
    },
];

/// A folder with a source, and beside it what is made of it.
struct Case {
    product: &'static Product,
    folder: PathBuf,
    /// The names and texts that the importer is given.
    files: Vec<(String, String)>,
}

fn cases() -> Vec<Case> {
    PRODUCTS.iter().flat_map(of_product).collect()
}

fn of_product(product: &'static Product) -> Vec<Case> {
    let all = fs::read_dir(Path::new("tests/import").join(product.name)).expect("the folder can be read");
    let mut folders: Vec<PathBuf> =
        all.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(folders.len() >= 30, "{} has {} cases", product.name, folders.len());
    folders.into_iter().map(|folder| Case { product, files: given(product, &folder), folder }).collect()
}

fn given(product: &Product, folder: &Path) -> Vec<(String, String)> {
    let names = fs::read_dir(folder).expect("the folder can be read");
    let names = names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter(|name| name != "plimsoll.toml" && (product.given)(name)).collect();
    names.sort();
    assert!(!names.is_empty(), "{} has no source", folder.display());
    let read = |name: String| {
        let text = fs::read_to_string(folder.join(&name)).expect("a source can be read");
        (name, text)
    };
    names.into_iter().map(read).collect()
}

impl Case {
    /// What is made of it. It may look at the files beside it, and at no environment but what `environment` says.
    fn import(&self) -> Import {
        let folder = &self.folder;
        let variables = fs::read_to_string(folder.join("environment")).unwrap_or_default();
        let environment = |name: &str| {
            let pairs = variables.lines().filter_map(|line| line.split_once('='));
            pairs.filter(|(own, _)| *own == name).map(|(_, value)| value.to_owned()).next_back()
        };
        // Absolute names lead nowhere: a case is the same on every machine.
        let around = Surroundings {
            environment: &environment,
            read: &|path| path.is_relative().then(|| fs::read_to_string(folder.join(path)).ok())?,
            list: &|path| {
                let entries = path.is_relative().then(|| fs::read_dir(folder.join(path)).ok())??;
                let mut files: Vec<PathBuf> =
                    entries.filter_map(|e| Some(path.join(e.ok()?.file_name()))).collect();
                files.sort();
                Some(files)
            },
        };
        let files: Vec<(&str, &str)> =
            self.files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        (self.product.import)(&files, around)
    }
}

fn expect(path: &Path, have: &str, wrong: &mut Vec<String>) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, have).expect("it can be written");
    }
    let want = fs::read_to_string(path).unwrap_or_default();
    if want != have {
        let line = want.lines().zip(have.lines()).position(|(want, have)| want != have);
        let line = line.unwrap_or_else(|| want.lines().count().min(have.lines().count()));
        wrong.push(format!(
            "{}:{}: {:?} is now {:?}",
            path.display(),
            line + 1,
            want.lines().nth(line).unwrap_or(""),
            have.lines().nth(line).unwrap_or("")
        ));
    }
}

#[test]
fn sources_become_what_stands_beside_them() {
    let mut wrong = Vec::new();
    for case in cases() {
        let (folder, import) = (&case.folder, case.import());
        expect(&folder.join("plimsoll.toml"), &import.text, &mut wrong);
        expect(&folder.join("report.txt"), &import.report.to_string(), &mut wrong);
        if let Err(errors) = config::load_text(&import.text, Path::new("plimsoll.toml"), &|_| None) {
            wrong.push(format!("{} does not load:\n{errors}", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What an import has in common with its source is as `findings.txt` beside it says, and nothing comes with importing.
#[test]
fn what_is_found_in_an_import_is_known() {
    let mut wrong = Vec::new();
    for case in cases() {
        let (folder, import) = (&case.folder, case.import());
        let Ok(config) = config::load_text(&import.text, Path::new("plimsoll.toml"), &|_| None) else {
            continue;
        };
        let found = lints::findings(&config, &lints::Machine::default());
        let lines = found.iter().map(|one| format!("{} {}: {}\n", one.lint.code, one.lint.name, one.what));
        let (path, lines) = (folder.join("findings.txt"), lines.collect::<String>());
        if !lines.is_empty() || path.exists() {
            expect(&path, &lines, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_line_that_says_something_has_a_verdict() {
    for case in cases() {
        let (folder, import) = (&case.folder, case.import());
        for (file, (name, text)) in case.files.iter().enumerate() {
            let says = |(_, line): &(usize, &str)| !line.trim().is_empty() && !line.trim().starts_with('#');
            let lines: Vec<usize> = text.lines().enumerate().filter(says).map(|(at, _)| at + 1).collect();
            let told = import.report.verdicts().filter(|(at, _)| at.file == file);
            let told: Vec<usize> = told.map(|(at, _)| at.line).collect();
            assert_eq!(told, lines, "{}/{name}", folder.display());
        }
        for (at, verdict) in import.report.verdicts() {
            let explained = import.report.remarks(at).iter().any(|remark| !remark.text.is_empty());
            assert!(
                explained || verdict == Verdict::Translated,
                "{}:{} says no why",
                folder.display(),
                at.line
            );
        }
    }
}
