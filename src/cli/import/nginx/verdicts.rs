//! Verdicts of directives that nothing has been said of, and of lines on which none begins.

use std::collections::HashMap;

use super::super::report::{Place, Remark, Verdict};
use super::catalogue::{
    self, Contexts, EVENTS, EXCEPT, Fate, HTTP, IF, LOCATION, MAIN, SERVER, SERVER_IF, STREAM, STREAM_SERVER,
    STREAM_UPSTREAM, UPSTREAM,
};
use super::notes::Notes;
use super::tree::{Directive, Source};

/// Blocks that have lines of their own kinds inside.
const TABLES: [&str; 7] = ["map", "geo", "split_clients", "types", "match", "charset_map", "otel_exporter"];

/// Tells directives that stand where nginx does not take them, and those that it does not know.
pub(super) fn places(list: &[Directive], context: Contexts, notes: &mut Notes<'_>) {
    for of in list {
        let Some((contexts, fate)) = catalogue::find(&of.name) else {
            notes.cannot(of, "no module of nginx's own has this directive: a slip, or another's module, which the importer does not know");
            of.inside()
                .iter()
                .for_each(|inner| notes.all(inner, Verdict::Ignored, "the block around it is not known"));
            continue;
        };
        if contexts & context == 0 {
            let what = "it cannot stand here: nginx rejects the file";
            match fate {
                Fate::Read
                    if ["limit_req_zone", "limit_conn_zone"].contains(&of.name.as_str())
                        && context == SERVER =>
                {
                    notes.wrong(of, "it stands in http alone: nginx rejects it in a server. It is read as if it stood there");
                }
                _ => {
                    notes.wrong(of, what);
                    if !TABLES.contains(&of.name.as_str()) {
                        of.inside().iter().for_each(|inner| {
                            notes.all(inner, Verdict::Ignored, "its block cannot stand here")
                        });
                        continue;
                    }
                }
            }
        }
        match fate {
            Fate::Skip(why) => {
                notes.skip(of, why);
                if of.name == "events" {
                    places(of.inside(), EVENTS, notes);
                }
                of.inside().iter().for_each(|inner| notes.all(inner, Verdict::Ignored, why));
            }
            Fate::Cannot(_) if of.words.len() == 1 && of.word(0) == "off" => notes.skip(of, "it is off"),
            Fate::Cannot(remedy) => {
                notes.cannot(of, remedy);
                of.inside().iter().for_each(|inner| {
                    notes.all(inner, Verdict::Ignored, "the block around it is not carried over")
                });
            }
            Fate::Read if of.block.is_some() && !TABLES.contains(&of.name.as_str()) => {
                places(of.inside(), inner(&of.name, context), notes);
            }
            Fate::Read => {}
        }
    }
}

/// What stands in a block.
fn inner(name: &str, context: Contexts) -> Contexts {
    match (name, context) {
        ("http", _) => HTTP,
        ("events", _) => EVENTS,
        ("stream", _) => STREAM,
        ("server", STREAM) => STREAM_SERVER,
        ("server", _) => SERVER,
        ("upstream", STREAM) => STREAM_UPSTREAM,
        ("upstream", _) => UPSTREAM,
        ("location", _) => LOCATION,
        ("if", SERVER) => SERVER_IF,
        ("if", _) => IF,
        ("limit_except", _) => EXCEPT,
        _ => MAIN,
    }
}

/// Gives every directive a verdict that has none, and every line.
pub(super) fn conclude(source: &Source, notes: &mut Notes<'_>) {
    rest(&source.root, notes);
    let mut worst: HashMap<Place, Verdict> = HashMap::new();
    for (at, verdict) in notes.report.verdicts() {
        worst.insert(at, verdict);
    }
    let owners = source.owners();
    notes.report.finish(|at| {
        let Some((owner, _)) = owners.get(&at) else {
            let text = "the importer does not know what to do with it: please report it".to_owned();
            return Remark { verdict: Verdict::NotPossible, text };
        };
        match worst.get(owner) {
            Some(Verdict::Translated | Verdict::Approximated) => {
                Remark { verdict: Verdict::Translated, text: String::new() }
            }
            _ => Remark { verdict: Verdict::Ignored, text: format!("it belongs to line {}", owner.line) },
        }
    });
}

fn rest(list: &[Directive], notes: &mut Notes<'_>) {
    for of in list {
        if !notes.is_told(of) && of.name == "include" {
            // What was included has been told with the file.
            notes.ok(of);
        }
        if !notes.is_told(of) {
            notes.skip(of, "nothing that is carried over makes use of it");
        }
        rest(of.inside(), notes);
    }
}
