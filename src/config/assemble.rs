//! From typed fields to a whole [`Config`]: layers, names, and what holds between sections.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::Config;
use super::diagnostic::{Diagnostics, Report};
use super::include::Loader;
use super::layers::{self, Named, define};
use super::listener::{self, Listener, Protocol};
use super::names::Names;
use super::notify::Notify;
use super::origin::Origin;
use super::pool::{self, Pool};
use super::process::{Admin, AdminBind, CheckRules, HealthApi, Log, Process};
use super::rate_limit;
use super::route::{Action, Route, Surroundings};
use super::sni::{self, SniRoute};
use super::source::{Sources, Span};
use super::tables::ROOT;
use super::tls::{Files, Look};
use super::traces::Tracing;
use super::tree::{Environment, Table};
use super::value::{Fields, Value};
use super::walk::read_root;
use crate::model::address::{Address, UnixPath};

/// Reads a configuration that `read` brings in; `look` into the files that it names.
pub(super) fn load(
    read: &dyn Fn(&mut Loader<'_>) -> Table,
    environment: Environment<'_>,
    look: Look<'_>,
) -> Result<Config, Diagnostics> {
    load_from(None, read, environment, look)
}

/// Makes a configuration again from what it was made from.
pub(super) fn recall(kept: &Origin, copies: &BTreeMap<PathBuf, PathBuf>) -> Result<Config, Diagnostics> {
    let path = kept.path();
    let text = kept.text(path).unwrap_or_default();
    let environment = |name: &str| kept.environment.get(name).cloned();
    load_from(Some(kept), &|loader| loader.text(path, text.to_owned()), &environment, Look::OrCopies(copies))
}

fn load_from(
    kept: Option<&Origin>,
    read: &dyn Fn(&mut Loader<'_>) -> Table,
    environment: Environment<'_>,
    look: Look<'_>,
) -> Result<Config, Diagnostics> {
    let mut sources = Sources::default();
    let mut report = Report::default();
    let used = RefCell::<BTreeMap<String, String>>::default();
    let noting = |name: &str| {
        let value = environment(name)?;
        used.borrow_mut().insert(name.to_owned(), value.clone());
        Some(value)
    };
    let mut loader = Loader::new(&mut sources, &mut report, &noting, kept);
    let table = read(&mut loader);
    let patterns = std::mem::take(&mut loader.patterns);
    // What is missing may be in the part that could not be read: saying more would mislead.
    let config = if report.incomplete {
        None
    } else {
        assemble(&table, Files { sources: &sources, look }, &mut report)
    };
    match config {
        Some(config) if report.is_empty() => {
            let (texts, named) = sources.into_parts();
            Ok(Config {
                origin: Arc::new(Origin { texts, environment: used.take(), named, patterns }),
                ..config
            })
        }
        _ => {
            if report.is_empty() {
                let help = "please report this with the file: it is a mistake of the program";
                report.error(Span::default(), "the configuration could not be understood", help);
            }
            Err(report.finish(&sources))
        }
    }
}

fn assemble(table: &Table, files: Files<'_>, report: &mut Report) -> Option<Config> {
    let root = read_root(table, &ROOT, report);
    let defaults = root.table("defaults")?;
    let pool_base = defaults.table("pool")?;
    let pools = layers::pools(&root, &pool_base, report);
    let listeners = layers::listeners(&root, &defaults.table("listener")?);

    let pool_names = define("pool", &pools, report);
    let listener_names = define("listener", &listeners, report);
    let process = Process::read(&root.table("process")?, files.sources);
    let admin = Admin::read(&root.table("admin")?, files, report);
    let log = Log::read(&root.table("log")?, files.sources);
    let tracing = root.table("tracing").map(|tracing| Tracing::read(&tracing, report));
    let health = HealthApi::read(root.table("health").as_ref(), report);
    let notify = read_notify(&root, report);
    let mut targets = sni::Targets::new(&listener_names, &listeners);
    let by_sni = targets.served(&root);
    let around = listener::Surroundings { pools: &pool_names, files, by_sni: &by_sni };
    let read_listeners = read_listeners(&root, &listeners, around, report);
    check_bind(&listeners, &root, admin.as_ref(), report);

    let http = listeners.iter().filter(|listener| listener.fields.is_word("protocol", "http"));
    let layers = pools.iter().map(|pool| (pool.name.clone(), pool.fields.clone())).collect();
    let around = Surroundings {
        pools: &pool_names,
        layers: &layers,
        base: &pool_base,
        listeners: &listener_names,
        http: &http.map(|listener| listener.name.clone()).collect(),
        files,
    };
    let (routes, sni_routes) = read_routes(&root, &around, &mut targets, report);
    let some_routes = (routes.as_deref().unwrap_or(&[]), sni_routes.as_deref().unwrap_or(&[]));
    let tcp_only = tcp_only(read_listeners.as_deref().unwrap_or(&[]), some_routes);
    check_headers(&listeners, &pools, report);
    let read = |pool: &Named| {
        let tcp_only = tcp_only.contains(&pool.name);
        let around = pool::Surroundings { tcp_only, pools: &pool_names, files };
        Pool::read(&pool.name, &pool.fields, around, report)
    };
    // Every pool is read before the first that failed ends it: all errors at once.
    let read_pools: Vec<Option<Pool>> = pools.iter().map(read).collect();
    Some(Config {
        process: process?,
        admin: admin?,
        health,
        log: log?,
        tracing: match tracing {
            None => None,
            Some(tracing) => Some(tracing?),
        },
        check: CheckRules::read(&root.table("check")?),
        notify: notify?,
        listeners: read_listeners?,
        routes: routes?,
        sni_routes: sni_routes?,
        pools: read_pools.into_iter().collect::<Option<_>>()?,
        hash: files.sources.hash(),
        origin: Arc::default(),
    })
}

fn read_listeners(
    root: &Fields,
    all: &[Named],
    around: listener::Surroundings<'_>,
    report: &mut Report,
) -> Option<Vec<Listener>> {
    let written = root.written("listener");
    if all.is_empty()
        && written.is_none_or(|field| matches!(&field.item.value, Value::Map(m) if m.is_empty()))
    {
        let help = "add [listener.web] with bind = [\"127.0.0.1:8080\"]";
        report.error(root.span_of("listener"), "there is no listener, so nothing would be served", help);
        return None;
    }
    let read = |one: &Named| Listener::read(&one.name, &one.fields, around, report);
    all.iter().map(read).collect::<Vec<_>>().into_iter().collect()
}

fn read_notify(root: &Fields, report: &mut Report) -> Option<Vec<Notify>> {
    let written = root.list::<Fields>("notify").into_iter();
    written.map(|(fields, _)| Notify::read(&fields, report)).collect::<Vec<_>>().into_iter().collect()
}

/// Reports an address that two listeners, or one of them and the admin or the health API, would bind.
fn check_bind(listeners: &[Named], root: &Fields, admin: Option<&Admin>, report: &mut Report) {
    // Connections and datagrams are not in each other's way.
    let mut bound: HashMap<(bool, Address), (String, Span)> = HashMap::new();
    let admin_address = admin.and_then(|admin| match &admin.bind {
        AdminBind::Tcp(address) => Some(Address::Ip(*address)),
        AdminBind::Unix(path) => UnixPath::new(path.to_str()?).map(Address::Unix),
    });
    if let Some(address) = admin_address {
        let span =
            root.table("admin").filter(|fields| fields.has("bind")).map(|fields| fields.span_of("bind"));
        bound.insert((false, address), ("the admin API".to_owned(), span.unwrap_or_default()));
    }
    let health = root.table("health");
    let health = health.iter().map(|fields| {
        let bind = fields.list::<SocketAddr>("bind").into_iter();
        let bind: Vec<_> = bind.map(|(address, span)| (Address::Ip(address), span)).collect();
        ("the health API".to_owned(), false, bind)
    });
    let named = listeners.iter().map(|one| {
        let is_udp = one.fields.is_word("protocol", "udp");
        (format!("listener `{}`", one.name), is_udp, one.fields.list::<Address>("bind"))
    });
    for (owner, is_udp, bind) in health.chain(named) {
        for (address, span) in bind {
            let Some((other, first)) = bound.get(&(is_udp, address)) else {
                bound.insert((is_udp, address), (owner.clone(), span));
                continue;
            };
            let message = format!("{address} is bound already, by {other}");
            let help = "give one of them another address or port";
            if *first == Span::default() {
                report.error(span, message, "write another port, or an [admin] section with another bind");
            } else {
                report.error_beside(span, message, ("it is first at", *first), help);
            }
        }
    }
}

/// Both kinds of routes, which have one order and one set of names.
/// Reports a header that datagrams cannot have, and what their sessions make no use of.
fn check_headers(listeners: &[Named], pools: &[Named], report: &mut Report) {
    let mut reported = HashSet::new();
    for listener in listeners.iter().filter(|listener| listener.fields.is_word("protocol", "udp")) {
        let pool = listener.fields.get::<String>("pool");
        let Some(pool) = pools.iter().find(|named| Some(&named.name) == pool.as_ref()) else { continue };
        if let Some(field) = pool.fields.own("sticky").filter(|_| pool.fields.table("sticky").is_some()) {
            let message =
                format!("`sticky` has no use: the udp listener `{}` has sessions of its own", listener.name);
            report.error(
                field.key_span,
                message,
                "remove it, or write hash_key = \"source\" with balance = \"maglev\"",
            );
        }
        if pool.fields.is_word("send_proxy", "v1") && reported.insert(&pool.name) {
            let message = format!(
                "the udp listener `{}` cannot send PROXY v1, which is for connections",
                listener.name
            );
            report.error(pool.fields.span_of("send_proxy"), message, "write send_proxy = \"v2\"");
        }
    }
}

fn read_routes(
    root: &Fields,
    around: &Surroundings<'_>,
    targets: &mut sni::Targets<'_>,
    report: &mut Report,
) -> (Option<Vec<Route>>, Option<Vec<SniRoute>>) {
    let mut names = Names::new("route");
    let mut limits = rate_limit::Shared::default();
    let (mut routes, mut by_sni) = (Vec::new(), Vec::new());
    let written = root.list::<Fields>("route");
    for (index, (fields, span)) in written.iter().enumerate() {
        let number = index + 1;
        let name = fields.get::<String>("name").unwrap_or_else(|| format!("route-{number}"));
        if fields.has("sni") {
            by_sni.push(SniRoute::read(fields, &name, around.pools, targets, report));
        } else {
            let route = Route::read(fields, &name, around, report);
            if let Some(route) = &route {
                limits.check(&route.limits, fields, report);
            }
            routes.push(route);
        }
        names.define(&name, fields.written("name").map_or(*span, |field| field.item.span), report);
    }
    (routes.into_iter().collect(), by_sni.into_iter().collect())
}

/// The pools that tcp and udp listeners and routes by `sni` name and no other route does.
fn tcp_only(listeners: &[Listener], (routes, by_sni): (&[Route], &[SniRoute])) -> HashSet<String> {
    let mut pools: HashSet<String> = by_sni.iter().map(|route| route.pool.to_string()).collect();
    for listener in listeners {
        if let Protocol::Tcp { pool: Some(pool) } | Protocol::Udp { pool } = &listener.protocol {
            pools.insert(pool.to_string());
        }
    }
    for route in routes {
        pools.retain(|name| route.treatment.pools().all(|pool| pool.as_str() != name));
        match &route.action {
            Action::Pool(pool) => {
                pools.remove(pool.as_str());
            }
            Action::Split { parts, .. } => parts.iter().for_each(|(pool, _)| {
                pools.remove(pool.as_str());
            }),
            Action::Redirect { .. } | Action::Respond(_) | Action::Health(_) => {}
        }
    }
    pools
}
