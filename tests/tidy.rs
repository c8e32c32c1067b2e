//! The rules of the house that no compiler checks: floors, homes of outside crates, file heads and names, sizes,
//! and leftovers. Each rule is a function over one file; the tables below are the rules as data.

#[path = "tidy/source.rs"]
mod source;

use std::fmt;
use std::path::Path;

use source::{Named, Source, words};

/// The folders of `src/`, lowest first: a file may name its own floor and the floors below it.
const FLOORS: &[&str] =
    &["model", "telemetry", "policy", "route", "config", "runtime", "proxy", "control", "admin", "cli"];

/// Floors that name only what is listed here although more would be below them.
const NAMES_ONLY: &[(&str, &[&str])] = &[("policy", &["model"]), ("route", &["model"])];

/// Floors that may not name another one although it is below them.
const NEVER_NAMES: &[(&str, &str, &str)] = &[
    ("proxy", "config", "the hot path reads `runtime::Snapshot`, never what the file says"),
    ("proxy", "control", "the hot path reads, it never decides what is true"),
    ("control", "admin", "admin asks control through `control::Handle`"),
];

/// Every outside crate and the places in `src/` that may name it: a file, a folder with its slash, or `""` for all.
const HOMES: &[(&str, &[&str])] = &[
    ("arc-swap", &["runtime/store.rs"]),
    (
        "aws-lc-rs",
        &[
            "runtime/credentials.rs",
            "runtime/tls/",
            "proxy/bridge/websocket.rs",
            "policy/sticky/cookie.rs",
            "runtime/sticky/",
        ],
    ),
    ("base64ct", &["policy/password/"]),
    ("bcrypt", &["policy/password/"]),
    ("brotli", &["proxy/bridge/encoder.rs"]),
    ("bytes", &["proxy/http2/", "proxy/http1/", "proxy/bridge/", "control/", "admin/"]),
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("crc32fast", &["policy/balance/ring.rs"]),
    ("dashmap", &["runtime/"]),
    ("fastrand", &["runtime/", "proxy/", "control/"]),
    ("flate2", &["proxy/bridge/encoder.rs"]),
    ("futures-util", &["proxy/http2/serve.rs"]),
    ("h2", &["proxy/http2/", "control/health/"]),
    ("hickory-resolver", &["control/dns.rs"]),
    ("http", &["proxy/http2/", "proxy/http1/", "proxy/bridge/", "control/", "admin/"]),
    ("http-body-util", &["admin/", "control/", "cli/"]),
    ("httparse", &["proxy/http1/"]),
    ("httpdate", &["proxy/respond.rs"]),
    ("hyper", &["admin/", "control/", "cli/"]),
    ("hyper-util", &["admin/", "control/", "cli/"]),
    ("ipnet", &["model/", "policy/", "config/", "route/", "runtime/", "proxy/", "cli/import/"]),
    ("itoa", &["telemetry/", "proxy/"]),
    ("loom", &["runtime/"]),
    ("tikv-jemallocator", &["main.rs"]),
    ("listenfd", &["control/inherited.rs"]),
    ("md-5", &["policy/password/"]),
    ("memchr", &["model/", "route/", "proxy/"]),
    ("metrics", &["telemetry/"]),
    ("nix", &["proxy/udp/", "proxy/upstream/dial.rs"]),
    ("notify", &["control/watch.rs"]),
    ("opentelemetry", &["control/otlp.rs"]),
    ("opentelemetry-http", &["control/otlp.rs"]),
    ("opentelemetry-otlp", &["control/otlp.rs"]),
    ("opentelemetry_sdk", &["control/otlp.rs"]),
    ("pingora-ketama", &["policy/balance/ring.rs"]),
    ("quinn-udp", &["proxy/udp/"]),
    ("regex", &["route/", "config/", "control/health/", "cli/import/"]),
    (
        "rustix",
        &[
            "proxy/tcp/",
            "proxy/udp/",
            "proxy/listener.rs",
            "proxy/stream.rs",
            "proxy/tls.rs",
            "control/",
            "cli/upgrade.rs",
        ],
    ),
    (
        "rustls",
        &[
            "config/tls.rs",
            "config/tls/",
            "runtime/tls.rs",
            "runtime/tls/",
            "proxy/tls.rs",
            "proxy/upstream/tls.rs",
            "control/tls.rs",
        ],
    ),
    ("saphyr-parser", &["cli/import/tree/"]),
    ("serde", &["admin/", "cli/", "control/upgrade/", "control/state_dir/"]),
    ("serde_json", &["telemetry/", "admin/", "config/", "control/", "cli/"]),
    ("sha-crypt", &["policy/password/"]),
    (
        "socket2",
        &[
            "proxy/listener.rs",
            "proxy/stream.rs",
            "proxy/udp/",
            "proxy/upstream/dial.rs",
            "control/health/",
            "control/inherited.rs",
        ],
    ),
    ("subtle", &["admin/access.rs", "policy/password/"]),
    ("thiserror", &[""]),
    ("tokio", &["config/", "runtime/", "proxy/", "control/", "admin/", "cli/", "main.rs", "lib.rs"]),
    ("tokio-rustls", &["proxy/tls.rs", "proxy/upstream/tls.rs", "control/tls.rs"]),
    ("toml", &["config/", "cli/import/tree/"]),
    ("tracing", &["telemetry/", "config/", "runtime/", "proxy/", "control/", "admin/", "cli/", "lib.rs"]),
    ("tracing-subscriber", &["telemetry/"]),
    ("x509-parser", &["config/tls/"]),
    ("zstd", &["proxy/bridge/encoder.rs"]),
];

/// Names that say nothing about what is inside; also banned as the last part of a name (`conn_util.rs`).
const BANNED_NAMES: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "types", "manager", "imp", "misc", "main"];

/// Lines of the longest function: a screen.
const MAX_FUNCTION_LINES: usize = 70;

/// Lines of the longest file, its tests not counted.
const MAX_FILE_LINES: usize = 600;

/// Starts of paths that exist on one machine only; a name must follow.
const MACHINE_PATHS: &[&str] = &["/home/", "/root/", "/Users/", concat!("/wo", "rk/"), "C:\\"];

/// Folders that hold nothing written by us.
const SKIPPED_FOLDERS: &[&str] = &["target", "node_modules", "corpus", "artifacts"];

/// Files other than Rust that are read for leftovers.
const TEXT_EXTENSIONS: &[&str] =
    &["conf", "js", "json", "md", "mjs", "py", "sh", "service", "toml", "yaml", "yml"];

/// One broken rule.
#[derive(Debug)]
struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.message)
    }
}

type Rule = fn(&Source) -> Vec<(usize, String)>;

/// The rules that look at one file each, by the name that a finding carries.
const RULES: &[(&str, Rule)] = &[
    ("floors", floors),
    ("homes", homes),
    ("file head", file_head),
    ("file name", file_name),
    ("function size", function_size),
    ("file size", file_size),
    ("leftover", leftovers),
    ("ignored test", ignored_tests),
    ("machine path", machine_paths),
];

fn check(path: &str, text: &str) -> Vec<Finding> {
    let source = Source::new(path, text);
    let mut findings = Vec::new();
    for (rule, run) in RULES {
        let found = run(&source);
        findings.extend(found.into_iter().map(|(line, message)| Finding {
            path: path.to_owned(),
            line,
            rule,
            message,
        }));
    }
    findings
}

/// The floor of a file, from its path: `src/proxy/tcp/relay.rs` is on `proxy`.
fn floor_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix("src/")?.split('/').next()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    (name != "lib" && name != "main").then_some(name)
}

/// The floor that a path of ours names, when it starts at the root of the crate (also by way of `super`).
fn floor_named(source: &Source, named: &Named) -> Option<String> {
    let inner = source.path.strip_prefix("src/")?;
    let supers = named.segments.iter().take_while(|segment| *segment == "super").count();
    let inside_tests_module = source.is_test(named.at) && !inner.ends_with("/tests.rs");
    let depth =
        inner.split('/').count() - usize::from(inner.ends_with("/mod.rs")) + usize::from(inside_tests_module);
    let from_root = named.segments[0] == "crate" || (supers > 0 && supers == depth);
    named.segments.get(supers.max(1)).filter(|_| from_root).cloned()
}

fn floors(source: &Source) -> Vec<(usize, String)> {
    let Some(own) = floor_of(&source.path) else { return Vec::new() };
    let Some(own_height) = height(own) else {
        return vec![(1, format!("`{own}` is not a floor; they are {}", FLOORS.join(", ")))];
    };
    let mut found = Vec::new();
    for named in source.named() {
        let Some(other) = floor_named(source, &named).filter(|other| other != own) else { continue };
        let broken = match height(&other) {
            None => Some(format!("`{own}` names `crate::{other}`, which is not a floor; use its full path")),
            Some(other_height) if other_height > own_height => Some(format!(
                "`{own}` (floor {own_height}) names `{other}` (floor {other_height}): imports go down only"
            )),
            Some(_) if source.is_test(named.at) => None,
            Some(_) if named.reexport => Some(format!(
                "`pub use` of `{other}` in `{own}`: one name has one path, only lib.rs offers more"
            )),
            Some(_) => may_not_name(own, &other),
        };
        found.extend(broken.map(|message| (source.line(named.at), message)));
    }
    found
}

fn height(floor: &str) -> Option<usize> {
    FLOORS.iter().position(|name| *name == floor)
}

/// Why a floor may not name a lower one. Test code may: a dev-dependency makes no cycle.
fn may_not_name(own: &str, other: &str) -> Option<String> {
    if let Some((_, only)) = NAMES_ONLY.iter().find(|(floor, _)| *floor == own)
        && !only.contains(&other)
    {
        return Some(format!("`{own}` names `{other}`: it is pure and names only {}", only.join(", ")));
    }
    let (_, _, why) = NEVER_NAMES.iter().find(|(floor, never, _)| *floor == own && *never == other)?;
    Some(format!("`{own}` names `{other}`: {why}"))
}

fn homes(source: &Source) -> Vec<(usize, String)> {
    let Some(inner) = source.path.strip_prefix("src/").filter(|_| source.is_rust()) else {
        return Vec::new();
    };
    let named = source.named();
    let mut found = Vec::new();
    for (outside, homes) in HOMES {
        let name = outside.replace('-', "_");
        if homes.iter().any(|home| inner.starts_with(home)) || is_our_own_name(source, &named, &name) {
            continue;
        }
        let strays = named.iter().filter(|named| named.segments[0] == name && !source.is_test(named.at));
        found.extend(strays.map(|stray| {
            (source.line(stray.at), format!("`{outside}` is used away from its home: {}", homes.join(", ")))
        }));
    }
    found
}

/// A module of ours may bear a crate's name (`telemetry::metrics`): then the file declares or imports it.
fn is_our_own_name(source: &Source, named: &[Named], name: &str) -> bool {
    let imported = named.iter().any(|named| {
        named.imported
            && named.segments.len() > 1
            && named.segments.last().is_some_and(|last| last == name)
            && ["crate", "super", "self"].contains(&named.segments[0].as_str())
    });
    let mut before = "";
    imported
        || words(&source.code).any(|(_, word)| {
            let declared = before == "mod" && word == name;
            before = word;
            declared
        })
}

fn file_head(source: &Source) -> Vec<(usize, String)> {
    if !source.is_rust() {
        return Vec::new();
    }
    let lines = source.text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<&str> = lines.map(str::trim).take_while(|line| !line.is_empty()).collect();
    match paragraph.last() {
        None => {
            vec![(1, "a file opens with a `//!` sentence: what it owns, what it leaves to others".to_owned())]
        }
        Some(last) if !last.ends_with(['.', ':']) => {
            vec![(paragraph.len(), "the opening `//!` paragraph is not a sentence: it has no end".to_owned())]
        }
        Some(_) => Vec::new(),
    }
}

fn file_name(source: &Source) -> Vec<(usize, String)> {
    // The one name that Cargo asks for.
    let path = source.path.strip_suffix("/main.rs").unwrap_or(&source.path);
    let mut names = path.split('/').map(|part| part.split('.').next().unwrap_or(part));
    let banned = names.find(|name| {
        name.rsplit('_').next().is_some_and(|last| BANNED_NAMES.contains(&last)) && source.is_rust()
    });
    banned
        .map(|name| (1, format!("`{name}` says nothing about what is inside; name the thing that it owns")))
        .into_iter()
        .collect()
}

fn function_size(source: &Source) -> Vec<(usize, String)> {
    if !source.is_rust() {
        return Vec::new();
    }
    let long = source.functions().into_iter().filter(|function| function.lines > MAX_FUNCTION_LINES);
    long.map(|function| {
        let message = format!(
            "`{}` has {} lines, a screen is {MAX_FUNCTION_LINES}; give its parts names",
            function.name, function.lines
        );
        (function.line, message)
    })
    .collect()
}

fn file_size(source: &Source) -> Vec<(usize, String)> {
    let lines = source.lines_before_tests();
    if !source.is_rust() || lines <= MAX_FILE_LINES {
        return Vec::new();
    }
    vec![(lines, format!("{lines} lines before the tests, at most {MAX_FILE_LINES}; split by what is owned"))]
}

fn leftovers(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, word) in words(&source.comments) {
        let owned = source.comments[at + word.len()..]
            .strip_prefix('(')
            .is_some_and(|owner| owner.starts_with(|first: char| first.is_alphanumeric()));
        if ["TODO", "FIXME", "XXX"].contains(&word) && !owned {
            found.push((
                source.line(at),
                format!("`{word}` without an owner: finish it, or write `{word}(name)`"),
            ));
        }
    }
    found
}

fn ignored_tests(source: &Source) -> Vec<(usize, String)> {
    if !source.is_rust() {
        return Vec::new();
    }
    let attributes = source.code.match_indices("#[ignore");
    attributes
        .map(|(at, _)| {
            (source.line(at), "a test that never runs proves nothing; fix or delete it".to_owned())
        })
        .collect()
}

fn machine_paths(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for start in MACHINE_PATHS {
        for (at, _) in source.text.match_indices(start) {
            let before = source.text[..at].chars().next_back();
            let goes_on = source.text[at + start.len()..].starts_with(|next: char| next.is_alphanumeric());
            if goes_on && !before.is_some_and(|before| before.is_alphanumeric() || "_-./".contains(before)) {
                found.push((source.line(at), format!("`{start}..` exists on one machine only")));
            }
        }
    }
    found
}

/// Dependencies of a manifest that have no home yet, with their lines.
fn homeless(manifest: &str) -> Vec<(usize, String)> {
    let mut in_dependencies = false;
    let mut found = Vec::new();
    for (index, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]") && !line.contains("dev-");
        } else if in_dependencies && line.starts_with(|first: char| first.is_alphanumeric()) {
            let name = line.split(['=', '.', ' ']).next().unwrap_or(line);
            if !HOMES.iter().any(|(outside, _)| *outside == name) {
                found.push((index + 1, format!("`{name}` has no home: add it to HOMES in tests/tidy.rs")));
            }
        }
    }
    found
}

/// Every file of ours below `folder`, in a fixed order.
fn files_below(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) -> std::io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if !SKIPPED_FOLDERS.contains(&name.as_str()) && (!name.starts_with('.') || name == ".ci") {
                files_below(root, &path, files)?;
            }
        } else if is_ours(&path) {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            files.push((relative, std::fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

fn is_ours(path: &Path) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some(extension) => extension == "rs" || TEXT_EXTENSIONS.contains(&extension),
        None => path.file_name().is_some_and(|name| name == "run" || name == "Dockerfile"),
    }
}

#[test]
fn the_repository_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    files_below(root, root, &mut files).expect("the repository can be read");
    assert!(files.iter().any(|(path, _)| path == "src/lib.rs"), "the walk missed src/lib.rs");

    let mut findings: Vec<Finding> = files.iter().flat_map(|(path, text)| check(path, text)).collect();
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml can be read");
    findings.extend(homeless(&manifest).into_iter().map(|(line, message)| Finding {
        path: "Cargo.toml".to_owned(),
        line,
        rule: "homes",
        message,
    }));
    let report: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(report.is_empty(), "{} broken rules:\n{}", report.len(), report.join("\n"));
}

/// Runs all rules over a small file with a good head and compares what they say about it.
fn expect(path: &str, body: &str, expected: &[&str]) {
    let findings = check(path, &format!("//! Owns the case at hand.\n{body}\n"));
    let report: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert_eq!(report.len(), expected.len(), "{path}: {body}\nsays {report:#?}");
    for (said, expected) in report.iter().zip(expected) {
        assert!(said.contains(expected), "{path}: {body}\nsays {said}\nnot {expected}");
    }
}

#[test]
fn an_import_may_go_down_and_not_up() {
    expect("src/proxy/worker.rs", "use crate::runtime::Snapshot;", &[]);
    expect(
        "src/runtime/mod.rs",
        "use crate::proxy::Worker;",
        &["src/runtime/mod.rs:2: [floors] `runtime` (floor 5)"],
    );
    expect("src/model/name.rs", "fn f() -> u8 { crate::cli::run() }", &["names `cli` (floor 9)"]);
    expect(
        "src/config/mod.rs",
        "use crate::{model::name::PoolName, control::{self, dns}};",
        &["`control`", "`control`"],
    );
    expect("src/config/pool.rs", "use super::super::admin::views;", &["names `admin`"]);
    expect("src/config/pool.rs", "use super::route::Route;", &[]);
    expect(
        "src/route/mod.rs",
        "#[cfg(test)]\nmod tests { use crate::proxy::X; use super::super::proxy::X; }",
        &["`proxy`", "`proxy`"],
    );
    expect("src/model/mod.rs", "use crate::Config;", &["not a floor"]);
    expect("src/metrics/mod.rs", "", &["`metrics` is not a floor"]);
    expect("src/lib.rs", "pub use crate::control::Handle;", &[]);
}

#[test]
fn some_floors_may_not_be_named_even_below() {
    expect("src/proxy/mod.rs", "use crate::config::Config;", &["`proxy` names `config`: the hot path"]);
    expect("src/proxy/mod.rs", "#[cfg(test)]\nmod tests { use crate::config::Config; }", &[]);
    expect("src/control/mod.rs", "use crate::admin::Server;", &["imports go down only"]);
    expect("src/policy/retry.rs", "use crate::telemetry::Metric;", &["names only model"]);
    expect("src/route/find.rs", "use crate::policy::retry;", &["names only model"]);
    expect("src/runtime/mod.rs", "pub(crate) use crate::model::name::PoolName;", &["one name has one path"]);
    expect("src/runtime/mod.rs", "pub use self::store::Store; pub use crate::runtime::events::Event;", &[]);
}

#[test]
fn an_outside_crate_stays_at_home() {
    expect(
        "src/proxy/worker.rs",
        "use arc_swap::ArcSwap;",
        &["[homes] `arc-swap` is used away from its home: runtime/store.rs"],
    );
    expect("src/runtime/store.rs", "use arc_swap::ArcSwap;", &[]);
    expect("src/policy/retry.rs", "fn f(now: tokio::time::Instant) {}", &["`tokio`"]);
    expect("src/route/find.rs", "fn f() { ::tracing::info!(\"x\"); }", &["`tracing`"]);
    expect("src/admin/mod.rs", "use {socket2, std::io};", &["`socket2`"]);
    expect("src/config/mod.rs", "#[cfg(test)]\nmod tests { use hyper::Request; }", &[]);
    expect("src/admin/mod.rs", "use crate::telemetry::metrics;\nfn f() { metrics::gather() }", &[]);
    expect(
        "src/admin/mod.rs",
        "fn f() { metrics::counter!(\"x\"); self.socket2.x(); crate::admin::regex::f() }",
        &["`metrics`"],
    );
    let manifest = "[dependencies]\nclap = \"4\"\nleft-pad = \"1\"\n[dev-dependencies]\nproptest = \"1\"\n";
    let found = homeless(manifest);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0 == 3 && found[0].1.contains("`left-pad` has no home"), "{found:?}");
}

#[test]
fn a_file_says_what_it_owns() {
    let says = |text: &str| check("src/model/x.rs", text).iter().map(Finding::to_string).collect::<Vec<_>>();
    assert!(says("use std::io;\n//! Late.\n")[0].contains("src/model/x.rs:1: [file head] a file opens"));
    assert!(says("//! names\n")[0].contains("not a sentence"));
    assert!(
        says("//! Names of things,\n//! each parsed once.\n//!\n//! More follows\nuse std::io;\n").is_empty()
    );
}

#[test]
fn a_name_that_says_nothing_is_refused() {
    for path in [
        "src/proxy/util.rs",
        "src/cli/common/mod.rs",
        "tests/common/mod.rs",
        "src/proxy/http_main.rs",
        "src/model/imp.rs",
    ] {
        expect(path, "", &["[file name]"]);
    }
    expect("benches/end_to_end/main.rs", "", &[]);
    expect("src/main.rs", "", &[]);
}

#[test]
fn a_function_fits_a_screen() {
    let lines = |count: usize| "    x();\n".repeat(count);
    expect("src/cli/run.rs", &format!("fn fits() {{\n{}}}", lines(68)), &[]);
    expect(
        "src/cli/run.rs",
        &format!("\nfn grows(a: [u8; 4]) -> u8\n{{\n{}}}", lines(68)),
        &[":3: [function size] `grows` has 71 lines"],
    );
    let braces =
        "fn f<'a>(x: &'a str) { let y = ('{', b'\\'', \"}}{\", r#\"\"{\"#); /* { /* */ { */ } // }\n";
    expect(
        "src/cli/run.rs",
        &format!("{braces}{}", "type F = fn(u8);\ntrait T { fn g(&self); }\n".repeat(40)),
        &[],
    );
}

#[test]
fn a_file_has_its_limit() {
    let lines = "const A: u8 = 1;\n".repeat(MAX_FILE_LINES - 1);
    expect("src/cli/run.rs", &format!("{lines}#[cfg(test)]\nmod tests {{\n{lines}}}"), &[]);
    expect("src/cli/run.rs", &format!("{lines}const B: u8 = 1;"), &["[file size] 601 lines"]);
}

#[test]
fn nothing_is_left_over() {
    expect(
        "src/cli/run.rs",
        "// TODO: later\n/* FIXME */\n// TODO(ada): with a plan",
        &[":2: [leftover]", ":3: [leftover]"],
    );
    expect("src/cli/run.rs", "const WORD: &str = \"TODO\";", &[]);
    expect("tests/run.rs", "#[ignore = \"slow\"]\nfn f() {}", &[":2: [ignored test]"]);
    expect(
        "tests/run.rs",
        concat!("const A: &str = \"/ho", "me/ada/x\";"),
        &[":2: [machine path] `/home/..`"],
    );
    expect("tests/run.rs", "const A: &str = \"http://x/home/a\"; // the /root/ of all", &[]);
}
