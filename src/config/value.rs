//! Values that have the type their key asks for, and the fields of a section with their layers and defaults.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::diagnostic::Report;
use super::form::Form;
use super::key::{Given, Kind, Section};
use super::notify::Webhook;
use super::pool::HashKey;
use super::process::{AccessLog, AdminBind};
use super::retry::FailureCause;
use super::source::Span;
use super::walk;
use crate::model::address::{Address, EndpointAddress};
use crate::model::field::{FieldName, FieldValue};
use crate::model::host::HostPattern;
use crate::model::limit_key::LimitPart;
use crate::model::units::{Amount, Bandwidth, ByteSize, Rate};
use crate::route::template::Template;
use crate::route::{Pattern, ValuePattern};

/// A value of the right type.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Bool(bool),
    Integer(i64),
    Real(f64),
    Amount(Amount),
    Rate(Rate),
    HashKey(HashKey),
    LimitPart(LimitPart),
    Bandwidth(Bandwidth),
    Statuses(u16, u16),
    Ip(IpAddr),
    Webhook(Webhook),
    Duration(Duration),
    Size(ByteSize),
    Word(&'static str),
    Text(String),
    Socket(SocketAddr),
    Address(Address),
    AdminBind(AdminBind),
    Endpoint(EndpointAddress),
    Network(IpNet),
    Host(HostPattern),
    Regex(Pattern),
    Field(FieldName),
    FieldValue(FieldValue),
    Template(Template),
    Pattern(ValuePattern),
    Cause(FailureCause),
    AccessLog(AccessLog),
    List(Vec<Item>),
    Map(Vec<(Item, Item)>),
    Table(Fields),
    /// Written, wrong and reported: nothing more is to be said of it.
    Invalid,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) value: Value,
    pub(super) span: Span,
}

/// The written keys of a section.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) section: &'static Section,
    /// Where a missing key is missing: the name of the table.
    pub(super) span: Span,
    pub(super) written: Vec<Field>,
}

/// One written key.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) key_span: Span,
    pub(super) item: Item,
    /// Written in a layer below: a preset, another pool, or the defaults.
    pub(super) inherited: bool,
}

/// What a [`Value`] can be taken as.
pub(super) trait FromValue: Sized {
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($variant:ident => $type:ty),* $(,)?) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                if let Value::$variant(inner) = value { Some(inner.clone()) } else { None }
            }
        }
    )*};
}

from_value! {
    Bool => bool,
    Real => f64,
    Amount => Amount,
    Rate => Rate,
    HashKey => HashKey,
    LimitPart => LimitPart,
    Bandwidth => Bandwidth,
    Ip => IpAddr,
    Webhook => Webhook,
    Duration => Duration,
    Size => ByteSize,
    Word => &'static str,
    Text => String,
    Socket => SocketAddr,
    Address => Address,
    AdminBind => AdminBind,
    Endpoint => EndpointAddress,
    Network => IpNet,
    Host => HostPattern,
    Regex => Pattern,
    Field => FieldName,
    FieldValue => FieldValue,
    Template => Template,
    Pattern => ValuePattern,
    Cause => FailureCause,
    AccessLog => AccessLog,
    Table => Fields,
}

impl FromValue for (u16, u16) {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Statuses(first, last) = value { Some((*first, *last)) } else { None }
    }
}

macro_rules! from_integer {
    ($($type:ty),*) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                if let Value::Integer(number) = value { Self::try_from(*number).ok() } else { None }
            }
        }
    )*};
}

from_integer!(u8, u16, u32, usize, i32);

impl Fields {
    /// Fields of a section of which nothing is written.
    pub(super) const fn empty(section: &'static Section, span: Span) -> Self {
        Self { section, span, written: Vec::new() }
    }

    /// What was written for a key.
    pub(super) fn written(&self, name: &str) -> Option<&Field> {
        self.written.iter().find(|field| field.name == name)
    }

    /// Whether a key was written, rightly or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.written(name).is_some()
    }

    /// What was written for a key right here, and not in a layer below.
    pub(super) fn own(&self, name: &str) -> Option<&Field> {
        self.written(name).filter(|field| !field.inherited)
    }

    /// Where a key's value stands, or else its section.
    pub(super) fn span_of(&self, name: &str) -> Span {
        self.written(name).map_or(self.span, |field| field.item.span)
    }

    /// The value of a key: what was written, or else its default; nothing when it is neither, or invalid.
    pub(super) fn get<T: FromValue>(&self, name: &str) -> Option<T> {
        debug_assert!(self.section.key(name).is_some(), "no key {name}");
        self.value(name).and_then(T::from_value)
    }

    /// The valid members of a key that holds a list, each with its place.
    pub(super) fn list<T: FromValue>(&self, name: &str) -> Vec<(T, Span)> {
        debug_assert!(self.section.key(name).is_some(), "no key {name}");
        match self.value(name) {
            Some(Value::List(items)) => {
                items.iter().filter_map(|item| Some((T::from_value(&item.value)?, item.span))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// As [`Fields::list`], without the places.
    pub(super) fn plain_list<T: FromValue>(&self, name: &str) -> Vec<T> {
        self.list(name).into_iter().map(|(value, _)| value).collect()
    }

    /// The valid entries of a key that holds a map, each with the place of its key.
    pub(super) fn map<K: FromValue, V: FromValue>(&self, name: &str) -> Vec<(K, V, Span)> {
        debug_assert!(self.section.key(name).is_some(), "no key {name}");
        let Some(Value::Map(entries)) = self.value(name) else { return Vec::new() };
        let read = |(key, item): &(Item, Item)| {
            Some((K::from_value(&key.value)?, V::from_value(&item.value)?, key.span))
        };
        entries.iter().filter_map(read).collect()
    }

    /// The section below a key: what was written of it, all else its defaults.
    pub(super) fn table(&self, name: &str) -> Option<Self> {
        debug_assert!(self.section.key(name).is_some(), "no key {name}");
        match self.value(name) {
            Some(Value::Table(fields)) => Some(fields.clone()),
            _ => None,
        }
    }

    /// Whether a key has this word.
    pub(super) fn is_word(&self, name: &str, word: &str) -> bool {
        matches!(self.value(name), Some(Value::Word(found)) if *found == word)
    }

    /// Puts these fields over a base: what is written here wins, table by table and key by key.
    pub(super) fn over(mut self, base: &Self) -> Self {
        for below in &base.written {
            match self.written.iter_mut().find(|field| field.name == below.name) {
                None => self.written.push(below.as_inherited()),
                Some(field) => {
                    if let (Value::Table(upper), Value::Table(lower)) =
                        (&mut field.item.value, &below.item.value)
                    {
                        let whole =
                            std::mem::replace(upper, Self::empty(lower.section, lower.span)).over(lower);
                        *upper = whole;
                    }
                }
            }
        }
        self
    }

    /// Reports the keys that must be written and are not; `place` says where, as in "[pool.api]".
    pub(super) fn require(&self, place: &str, report: &mut Report) {
        for key in self.section.keys {
            let there = self.has(key.name) || key.or.is_some_and(|other| self.has(other));
            if let (Given::Required(example), false) = (key.given, there) {
                let message = format!("{place} has no `{}`", key.name);
                report.error(self.span, message, format!("add {} = {example}", key.name));
            }
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        match self.written(name) {
            Some(Field { item: Item { value: Value::Invalid, .. }, .. }) | None => {
                self.section.defaults().written(name).map(|field| &field.item.value)
            }
            Some(field) => Some(&field.item.value),
        }
    }
}

impl Field {
    /// The same, as a layer above sees it.
    fn as_inherited(&self) -> Self {
        let mut field = Self { inherited: true, ..self.clone() };
        if let Value::Table(fields) = &mut field.item.value {
            fields.written = fields.written.iter().map(Self::as_inherited).collect();
        }
        field
    }
}

impl Fields {
    /// Moves everything to one place, where the text itself stands nowhere that could be shown.
    pub(super) fn place_at(&mut self, span: Span) {
        self.span = span;
        for field in &mut self.written {
            (field.key_span, field.item.span) = (span, span);
            field.item.value.place_at(span);
        }
    }
}

impl Value {
    fn place_at(&mut self, span: Span) {
        match self {
            Self::Table(fields) => fields.place_at(span),
            Self::List(items) => items.iter_mut().for_each(|item| {
                item.span = span;
                item.value.place_at(span);
            }),
            Self::Map(entries) => entries.iter_mut().for_each(|(key, item)| {
                (key.span, item.span) = (span, span);
                item.value.place_at(span);
            }),
            _ => {}
        }
    }
}

impl Section {
    /// The defaults of the section's keys, as if they had been written.
    pub(super) fn defaults(&'static self) -> &'static Fields {
        self.defaults.get_or_init(|| {
            let mut fields = Fields::empty(self, Span::default());
            for key in self.keys {
                if let Given::Default(text) = key.given {
                    let item = walk::read_text(text, key);
                    debug_assert!(item.is_some(), "the default of `{}` is invalid: {text}", key.name);
                    let field =
                        |item| Field { name: key.name, key_span: Span::default(), item, inherited: true };
                    fields.written.extend(item.map(field));
                }
            }
            fields
        })
    }
}

/// Whether the keys of a map are names of fields, which differ by more than case.
pub(super) const fn keys_ignore_case(kind: &Kind) -> bool {
    matches!(kind, Kind::Map { key: Form::Field | Form::EditedField | Form::SetField | Form::ProbeField, .. })
}
