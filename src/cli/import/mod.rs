//! `plimsoll import`: the configuration of another product as ours, with an honest report on every line of it.
//!
//! The map: `report` has the verdicts, `document` the configuration that is written and how it is printed, `region` the
//! conditions of a route (`pattern` their regular expressions), `order` which is asked first, `cover` which are never asked,
//! `lift` says once what all say, `mend` takes out what would not load, `field` has the fields that may be edited, `surroundings`
//! is what may be looked at, `tree` reads YAML and TOML; none of them knows a product. Each product has a folder:
//! `haproxy`, `ingress`, `nginx`, `traefik`.

mod cover;
pub mod document;
mod field;
pub mod haproxy;
pub mod ingress;
mod lift;
mod mend;
pub mod nginx;
mod order;
mod pattern;
mod region;
pub mod report;
pub mod surroundings;
pub mod traefik;
mod tree;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Failure, print};
use crate::config;
use report::Report;
use surroundings::Surroundings;

/// What an import comes to.
#[derive(Debug)]
pub struct Import {
    /// The configuration.
    pub text: String,
    /// A verdict on every line of the source.
    pub report: Report,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    product: Product,
}

#[derive(Debug, Subcommand)]
enum Product {
    /// Of HAProxy: haproxy.cfg, or several files in the order in which HAProxy reads them
    Haproxy(Files),
    /// Of Kubernetes: Ingresses with the annotations of ingress-nginx, and Gateway API, as `kubectl get -o yaml` lists them
    Ingress(Files),
    /// Of nginx: nginx.conf, whose includes are read beside it
    Nginx(Files),
    /// Of Traefik: static and dynamic files together, in YAML or TOML, in any order
    Traefik(Files),
}

/// What translates the files of a product: names and texts, in the order in which they were given.
type Importer = fn(&[(&str, &str)], Surroundings<'_>) -> Import;

impl Product {
    const fn parts(&self) -> (Importer, &Files) {
        match self {
            Self::Haproxy(files) => (haproxy::import, files),
            Self::Ingress(files) => (ingress::import, files),
            Self::Nginx(files) => (nginx::import, files),
            Self::Traefik(files) => (traefik::import, files),
        }
    }
}

#[derive(Debug, Args)]
struct Files {
    /// The configuration of the other product
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the configuration is written [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where the report is written [default: standard error]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// More of a file that a source names is not read.
const FILE_MAX: u64 = 16 << 20;
/// More files of a folder that a source names are not looked at.
const FILES_MAX: usize = 10_000;

/// Imports; status 1 when something of the source is not possible, 2 when it cannot be read.
pub(super) fn import(arguments: &ImportArgs, out: &mut impl Write) -> Result<(), Failure> {
    let (importer, files) = arguments.product.parts();
    let mut texts = Vec::new();
    for path in &files.files {
        let bytes =
            fs::read(path).map_err(|e| Failure::Input(format!("{} cannot be read: {e}", path.display())))?;
        let name =
            path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        texts.push((name, String::from_utf8_lossy(&bytes).into_owned()));
    }
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let folder = files.files.first().and_then(|path| path.parent()).unwrap_or_else(|| Path::new(""));
    let around = Surroundings {
        environment: &|name| std::env::var(name).ok(),
        read: &|path| read_beside(folder, path),
        list: &|path| list_beside(folder, path),
    };
    let import = importer(&texts, around);
    finish(&import, files, out)
}

/// Writes what came of it. What does not load would be our own mistake, and is told as that.
fn finish(import: &Import, files: &Files, out: &mut impl Write) -> Result<(), Failure> {
    let write = |path: &Path, text: &str| {
        fs::write(path, text)
            .map_err(|e| Failure::Running(format!("{} cannot be written: {e}", path.display())))
    };
    match &files.output {
        Some(path) => write(path, &import.text)?,
        None => print(out, &import.text)?,
    }
    let report = import.report.to_string();
    match &files.report {
        Some(path) => write(path, &report)?,
        None => {
            // With nowhere to print there is nothing to do.
            let _printed = io::stderr().write_all(report.as_bytes());
        }
    }
    if !import.text.contains("\n[listener.") {
        let what = "the source has nothing that listens, so what was written is no whole configuration";
        return Err(Failure::Running(what.to_owned()));
    }
    if let Err(errors) = config::load_text(&import.text, Path::new("plimsoll.toml"), &|_| None) {
        let what = format!("what was written does not load, which is a mistake of the importer:\n{errors}");
        return Err(Failure::Running(what));
    }
    if import.report.is_incomplete() {
        let what = "not all of it is possible: see the lines above, and what each says to do";
        return Err(Failure::Running(what.to_owned()));
    }
    Ok(())
}

/// A file that the source names: beside the source, or where the name says.
fn read_beside(folder: &Path, path: &Path) -> Option<String> {
    let path = folder.join(path);
    let known = fs::metadata(&path).ok()?;
    if !known.is_file() || known.len() > FILE_MAX {
        return None;
    }
    fs::read(&path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The files of a folder that the source names, with the names that the source would give them.
fn list_beside(folder: &Path, path: &Path) -> Option<Vec<PathBuf>> {
    let entries = fs::read_dir(folder.join(path)).ok()?;
    let files = entries.take(FILES_MAX).filter_map(|entry| {
        let entry = entry.ok()?;
        entry.file_type().ok()?.is_file().then(|| path.join(entry.file_name()))
    });
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    Some(files)
}
