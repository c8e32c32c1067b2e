//! What is written in a listener or a pool, over its preset, the pool that it is like, and the defaults.

use std::collections::HashMap;

use super::diagnostic::Report;
use super::names::Names;
use super::preset;
use super::source::Span;
use super::value::{Field, Fields, Item, Value};

/// A named section over its bases.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) fields: Fields,
}

/// Every listener over the defaults.
pub(super) fn listeners(root: &Fields, base: &Fields) -> Vec<Named> {
    let listeners = named(root, "listener").into_iter();
    listeners.map(|listener| Named { fields: listener.fields.over(base), ..listener }).collect()
}

/// The names of all of one sort; none may be there twice.
pub(super) fn define(sort: &'static str, all: &[Named], report: &mut Report) -> Names {
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

/// Every pool over its preset, over the one it is like, over the base.
pub(super) fn pools(root: &Fields, base: &Fields, report: &mut Report) -> Vec<Named> {
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
            lower.written.retain(|field| !["like", "preset"].contains(&field.name));
            lower = over_preset(&pool.fields).over(&lower);
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

/// What is written in a pool over what its preset stands for.
fn over_preset(written: &Fields) -> Fields {
    let named = written.get::<&'static str>("preset");
    match named.and_then(|name| preset::fields(name, written.span_of("preset"))) {
        Some(preset) => written.clone().over(&preset),
        None => written.clone(),
    }
}

/// Stands for the endpoints that a wrong `like` might have brought, so that they are not reported missing
/// as well.
fn inherited_unknown(span: Span) -> Field {
    let item = Item { value: Value::Invalid, span };
    Field { name: "endpoints", key_span: span, item, inherited: true }
}
