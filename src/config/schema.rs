//! The tables of keys as a JSON Schema, for editors and for checks outside of us.

use serde_json::{Map, Value, json};

use super::form::Form;
use super::key::{Given, Key, Kind, Section};
use super::tables::ROOT;
use super::tree::{Node, Tree, parse_value};

/// The JSON Schema (draft 2020-12) of a configuration, as it is after TOML has become JSON.
///
/// It knows types, words, ranges of numbers and the shape of quantities. What only the program can tell
/// (names that exist, ranges of quantities, addresses) it leaves to `plimsoll check`. Keys that are not
/// supported yet are not in it.
#[must_use]
pub fn schema() -> Value {
    let mut schema = section(&ROOT, false);
    if let Value::Object(map) = &mut schema {
        map.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        map.insert("title".to_owned(), json!("Plimsoll configuration"));
    }
    schema
}

fn section(section: &'static Section, base: bool) -> Value {
    let keys = || section.keys.iter().filter(|key| !(base && key.own));
    let properties: Map<String, Value> = keys().map(|key| (key.name.to_owned(), property(key))).collect();
    let mut schema = json!({
        "type": "object",
        "description": section.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    // What one pool does not write may come from the one that it is like; and listeners may be in a file
    // that is included.
    let elsewhere = section.key("like").is_some() || section.key("include").is_some();
    let required: Vec<&str> =
        keys().filter(|k| matches!(k.given, Given::Required(_)) && k.or.is_none()).map(|k| k.name).collect();
    if let (Value::Object(map), false, false) = (&mut schema, elsewhere, required.is_empty()) {
        map.insert("required".to_owned(), json!(required));
    }
    schema
}

fn property(key: &'static Key) -> Value {
    let mut schema = kind(&key.kind);
    if let Value::Object(map) = &mut schema {
        map.insert("description".to_owned(), json!(key.doc));
        match key.given {
            Given::Default(text) => {
                if let Some(value) = parse_value(text).and_then(|node| to_json(&node)) {
                    map.insert("default".to_owned(), value);
                }
            }
            Given::Required(text) | Given::Optional(text) => {
                if let Some(value) = parse_value(text).and_then(|node| to_json(&node)) {
                    map.insert("examples".to_owned(), json!([value]));
                }
            }
        }
    }
    schema
}

/// A quantity is digits and a unit, or comes from the environment.
fn quantity(units: &str) -> Value {
    json!({ "type": "string", "pattern": format!("^ *[0-9]+ *({units}) *$|\\$\\{{") })
}

fn kind(of: &'static Kind) -> Value {
    match of {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Real { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Amount { min } => json!({ "anyOf": [
            { "type": "integer", "minimum": min },
            { "type": "string", "pattern": "^ *[0-9]{1,3} *% *$|\\$\\{" },
        ] }),
        Kind::Percent => json!({ "type": "string", "pattern": "^ *[0-9]{1,3} *% *$|\\$\\{" }),
        Kind::OneOf(numbers) => json!({ "type": "integer", "enum": numbers }),
        Kind::Duration { .. } => quantity("ms|s|m|h|d"),
        Kind::Size { .. } => quantity("B|KiB|MiB|GiB|KB|MB|GB"),
        Kind::Choice(words) => {
            let words: Vec<&str> = words.iter().map(|word| word.name).collect();
            json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": "\\$\\{" }] })
        }
        Kind::Text(form) => text(*form),
        Kind::Pattern => json!({ "anyOf": [{ "type": "string" }, {
            "type": "object",
            "properties": { "regex": { "type": "string" } },
            "required": ["regex"],
            "additionalProperties": false,
        }] }),
        Kind::Or(word, inner) => json!({ "anyOf": [{ "const": word }, kind(inner)] }),
        Kind::List { of, min: 0 } => json!({ "type": "array", "items": kind(of) }),
        Kind::List { of, min } => json!({ "type": "array", "items": kind(of), "minItems": min }),
        Kind::OneOrList(of) => {
            json!({ "anyOf": [kind(of), { "type": "array", "items": kind(of), "minItems": 1 }] })
        }
        Kind::Map { of, .. } => json!({ "type": "object", "additionalProperties": kind(of) }),
        Kind::Table(inner) => section(inner, false),
        Kind::Short(inner, _) => json!({ "anyOf": [{ "type": "string" }, section(inner, false)] }),
        Kind::Switch(inner) => json!({ "anyOf": [{ "type": "boolean" }, section(inner, false)] }),
        Kind::Base(inner) => section(inner, true),
    }
}

fn text(form: Form) -> Value {
    match form {
        Form::Any | Form::Body | Form::QueryTemplate => json!({ "type": "string" }),
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

fn to_json(node: &Node) -> Option<Value> {
    match &node.tree {
        Tree::Text(text) => Some(json!(text)),
        Tree::Integer(number) => number.map(|number| json!(number)),
        Tree::Bool(value) => Some(json!(value)),
        Tree::List(nodes) => nodes.iter().map(to_json).collect::<Option<Vec<_>>>().map(Value::Array),
        Tree::Table(table) => {
            let entry = |entry: &super::tree::Entry| Some((entry.key.clone(), to_json(&entry.node)?));
            table.entries.iter().map(entry).collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        Tree::Float(text) => text.parse::<f64>().ok().map(|number| json!(number)),
        Tree::Datetime | Tree::Broken => None,
    }
}
