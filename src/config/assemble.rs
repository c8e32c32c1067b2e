//! From typed fields to a whole [`Config`]: layers, names, and what holds between sections.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use super::Config;
use super::diagnostic::{Diagnostics, Report};
use super::include::Loader;
use super::listener::{Listener, Protocol};
use super::names::Names;
use super::pool::Pool;
use super::process::{Admin, AdminBind, Log, Process};
use super::route::{Action, Route, Surroundings};
use super::source::{Sources, Span};
use super::tables::ROOT;
use super::tree::{Environment, Table};
use super::value::{Field, Fields, Item, Value};
use super::walk::read_root;

/// Reads a configuration that `read` brings in.
pub(super) fn load(
    read: &dyn Fn(&mut Loader<'_>) -> Table,
    environment: Environment<'_>,
) -> Result<Config, Diagnostics> {
    let mut sources = Sources::default();
    let mut report = Report::default();
    let table = read(&mut Loader::new(&mut sources, &mut report, environment));
    // What is missing may be in the part that could not be read: saying more would mislead.
    let config = if report.incomplete { None } else { assemble(&table, &sources, &mut report) };
    match config {
        Some(config) if report.is_empty() => Ok(config),
        _ => {
            if report.is_empty() {
                let help = "please report this with the file: it is a mistake of the program";
                report.error(Span::default(), "the configuration could not be understood", help);
            }
            Err(report.finish(&sources))
        }
    }
}

/// A named section over its bases.
struct Named {
    name: String,
    span: Span,
    fields: Fields,
}

fn assemble(table: &Table, sources: &Sources, report: &mut Report) -> Option<Config> {
    let root = read_root(table, &ROOT, report);
    let defaults = root.table("defaults")?;
    let pool_base = defaults.table("pool")?;
    let pools = pool_layers(&root, &pool_base, report);
    let listeners = listener_layers(&root, &defaults.table("listener")?);

    let pool_names = define("pool", &pools, report);
    let listener_names = define("listener", &listeners, report);
    let process = Process::read(&root.table("process")?);
    let admin = Admin::read(&root.table("admin")?);
    let log = Log::read(&root.table("log")?, sources);
    let read_listeners = read_listeners(&root, &listeners, &pool_names, report);
    check_bind(&listeners, &root, admin.as_ref(), report);

    let http = listeners.iter().filter(|listener| listener.fields.is_word("protocol", "http"));
    let layers = pools.iter().map(|pool| (pool.name.clone(), pool.fields.clone())).collect();
    let around = Surroundings {
        pools: &pool_names,
        layers: &layers,
        base: &pool_base,
        listeners: &listener_names,
        http: &http.map(|listener| listener.name.clone()).collect(),
    };
    let routes = read_routes(&root, &around, report);
    let tcp_only = tcp_only(read_listeners.as_deref().unwrap_or(&[]), routes.as_deref().unwrap_or(&[]));
    let read = |pool: &Named| Pool::read(&pool.name, &pool.fields, tcp_only.contains(&pool.name), report);
    // Every pool is read before the first that failed ends it: all errors at once.
    let read_pools: Vec<Option<Pool>> = pools.iter().map(read).collect();
    Some(Config {
        process: process?,
        admin: admin?,
        log: log?,
        listeners: read_listeners?,
        routes: routes?,
        pools: read_pools.into_iter().collect::<Option<_>>()?,
        hash: sources.hash(),
    })
}

fn define(sort: &'static str, all: &[Named], report: &mut Report) -> Names {
    let mut names = Names::new(sort);
    for named in all {
        names.define(&named.name, named.span, report);
    }
    names
}

fn named(root: &Fields, key: &str) -> Vec<Named> {
    let entries = root.map::<String, Fields>(key).into_iter();
    entries.map(|(name, fields, span)| Named { name, span, fields }).collect()
}

fn listener_layers(root: &Fields, base: &Fields) -> Vec<Named> {
    let listeners = named(root, "listener").into_iter();
    listeners.map(|listener| Named { fields: listener.fields.over(base), ..listener }).collect()
}

/// Every pool over the one it is like, over the base.
fn pool_layers(root: &Fields, base: &Fields, report: &mut Report) -> Vec<Named> {
    let written = named(root, "pool");
    let index: HashMap<&str, usize> =
        written.iter().enumerate().map(|(i, pool)| (pool.name.as_str(), i)).collect();
    let names = define("pool", &written, &mut Report::default());
    let mut done: Vec<Option<Fields>> = vec![None; written.len()];
    for start in 0..written.len() {
        // Follow `like` to a pool that is done, or to one that is like none, then come back.
        let mut chain = vec![start];
        let mut lower = base.clone();
        while let Some(pool) = chain.last().and_then(|&last| written.get(last)) {
            if let Some(fields) = chain.last().and_then(|&last| done.get(last)?.as_ref()) {
                lower = fields.clone();
                chain.pop();
                break;
            }
            let Some(like) = pool.fields.get::<String>("like") else { break };
            let span = pool.fields.span_of("like");
            let Some(&next) = names.check(&like, span, report).then(|| index.get(like.as_str())).flatten()
            else {
                lower.written.push(inherited_unknown(span));
                break;
            };
            if chain.contains(&next) {
                let message =
                    format!("the pool `{}` is like itself, by way of `like = \"{like}\"`", pool.name);
                report.error(span, message, "remove one `like` of the circle");
                lower.written.push(inherited_unknown(span));
                break;
            }
            chain.push(next);
        }
        for at in chain.into_iter().rev() {
            let Some(pool) = written.get(at) else { continue };
            lower.written.retain(|field| field.name != "like");
            lower = pool.fields.clone().over(&lower);
            if let Some(slot) = done.get_mut(at) {
                *slot = Some(lower.clone());
            }
        }
    }
    let layered = written.into_iter().zip(done);
    layered
        .map(|(pool, fields)| Named { fields: fields.unwrap_or_else(|| pool.fields.clone()), ..pool })
        .collect()
}

/// Stands for the endpoints that a wrong `like` might have brought, so that they are not reported missing
/// as well.
fn inherited_unknown(span: Span) -> Field {
    Field { name: "endpoints", key_span: span, item: Item { value: Value::Invalid, span } }
}

fn read_listeners(root: &Fields, all: &[Named], pools: &Names, report: &mut Report) -> Option<Vec<Listener>> {
    let written = root.written("listener");
    if all.is_empty()
        && written.is_none_or(|field| matches!(&field.item.value, Value::Map(m) if m.is_empty()))
    {
        let help = "add [listener.web] with bind = [\"127.0.0.1:8080\"]";
        report.error(root.span_of("listener"), "there is no listener, so nothing would be served", help);
        return None;
    }
    let read = |one: &Named| Listener::read(&one.name, &one.fields, pools, report);
    all.iter().map(read).collect::<Vec<_>>().into_iter().collect()
}

/// Reports an address that two listeners, or a listener and the admin API, would bind.
fn check_bind(listeners: &[Named], root: &Fields, admin: Option<&Admin>, report: &mut Report) {
    let mut bound: HashMap<SocketAddr, (String, Span)> = HashMap::new();
    if let Some(Admin { bind: AdminBind::Tcp(address), .. }) = admin {
        let span =
            root.table("admin").filter(|fields| fields.has("bind")).map(|fields| fields.span_of("bind"));
        bound.insert(*address, ("the admin API".to_owned(), span.unwrap_or_default()));
    }
    for listener in listeners {
        for (address, span) in listener.fields.list::<SocketAddr>("bind") {
            let owner = format!("listener `{}`", listener.name);
            let Some((other, first)) = bound.get(&address) else {
                bound.insert(address, (owner, span));
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

fn read_routes(root: &Fields, around: &Surroundings<'_>, report: &mut Report) -> Option<Vec<Route>> {
    let mut names = Names::new("route");
    let mut routes = Vec::new();
    let written = root.list::<Fields>("route");
    for (index, (fields, span)) in written.iter().enumerate() {
        let number = index + 1;
        let route = Route::read(fields, number, around, report);
        let name = fields.get::<String>("name").unwrap_or_else(|| format!("route-{number}"));
        names.define(&name, fields.written("name").map_or(*span, |field| field.item.span), report);
        routes.push(route);
    }
    routes.into_iter().collect()
}

/// The pools that tcp listeners name and no route does.
fn tcp_only(listeners: &[Listener], routes: &[Route]) -> HashSet<String> {
    let mut pools: HashSet<String> = HashSet::new();
    for listener in listeners {
        if let Protocol::Tcp { pool } = &listener.protocol {
            pools.insert(pool.to_string());
        }
    }
    for route in routes {
        match &route.action {
            Action::Pool(pool) => {
                pools.remove(pool.as_str());
            }
            Action::Split { parts, .. } => parts.iter().for_each(|(pool, _)| {
                pools.remove(pool.as_str());
            }),
            Action::Redirect { .. } | Action::Respond { .. } => {}
        }
    }
    pools
}
