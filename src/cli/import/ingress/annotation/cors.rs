//! Annotations about what scripts of other origins may do.

use super::super::super::document::{Table, Value};
use super::super::super::report::{Place, Report};
use super::super::value::{duration, list};
use super::{Read, Set, Word, as_list, as_truth};

/// What they say.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Cors {
    enabled: Set<bool>,
    origins: Set<Vec<String>>,
    methods: Set<Vec<String>>,
    headers: Set<Vec<String>>,
    expose: Set<Vec<String>>,
    credentials: Set<bool>,
    max_age: Set<u32>,
}

pub(super) const TABLE: &[(&str, Read)] = &[
    ("enable-cors", |s, w, r| s.cors.enabled = as_truth(w, r).map(|yes| (yes, w.at))),
    ("cors-allow-origin", |s, w, _| s.cors.origins = as_list(w)),
    ("cors-allow-methods", |s, w, r| s.cors.methods = words(w, r)),
    ("cors-allow-headers", |s, w, r| s.cors.headers = words(w, r)),
    ("cors-expose-headers", |s, w, r| s.cors.expose = words(w, r)),
    ("cors-allow-credentials", |s, w, r| s.cors.credentials = as_truth(w, r).map(|yes| (yes, w.at))),
    ("cors-max-age", |s, w, r| s.cors.max_age = super::as_number(w, r)),
];

/// What the controller lets scripts do where nothing is said.
const METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";
const MAX_AGE: u32 = 1_728_000;

fn words(word: Word<'_>, report: &mut Report) -> Set<Vec<String>> {
    let (names, at) = as_list(word)?;
    if names.is_empty()
        || !names.iter().all(|name| crate::model::field::FieldName::new(&name.to_ascii_lowercase()).is_ok())
    {
        report.wrong(at, "these are no names with commas between them: the controller takes the default");
        return None;
    }
    Some((names, at))
}

impl Cors {
    pub(super) fn settle(&self, report: &mut Report) {
        if matches!(self.enabled, Some((true, _))) {
            return;
        }
        let lists = [&self.origins, &self.methods, &self.headers, &self.expose];
        let places = lists.into_iter().flatten().map(|(_, at)| *at);
        let rest = [self.credentials.map(|(_, at)| at), self.max_age.map(|(_, at)| at)];
        let places: Vec<Place> = places.chain(rest.into_iter().flatten()).collect();
        super::alone(&places, "enable-cors is not true: the controller adds nothing", report);
    }

    /// `cors` of a route.
    pub(in super::super) fn write(&self, table: &mut Table, report: &mut Report) {
        let Some((true, at)) = self.enabled else { return };
        let origins = self.origins(report);
        let Some(origins) = origins else { return };
        let any = origins == ["*"];
        let credentials = self.credentials.is_none_or(|(yes, _)| yes);
        if any && credentials {
            report.approximated(
                self.credentials.map_or(at, |(_, at)| at),
                "every origin may, and credentials come along: browsers refuse that of the controller, so here they are left out",
            );
        }
        let of = |set: &Set<Vec<String>>, default: &str| {
            set.as_ref().map_or_else(|| list(default), |(names, _)| names.clone())
        };
        let mut methods = of(&self.methods, METHODS);
        methods.iter_mut().for_each(|method| method.make_ascii_uppercase());
        let mut headers = of(&self.headers, HEADERS);
        headers.iter_mut().for_each(|name| name.make_ascii_lowercase());
        let pairs = [
            ("origins", Value::texts(origins)),
            ("methods", Value::texts(methods)),
            ("headers", Value::texts(headers)),
        ];
        let mut pairs: Vec<(&str, Value)> = pairs.into();
        if let Some((expose, _)) = &self.expose {
            pairs.push(("expose", Value::texts(expose.iter().map(|name| name.to_ascii_lowercase()))));
        }
        if credentials && !any {
            pairs.push(("credentials", Value::Bool(true)));
        }
        let age = self.max_age.map_or(MAX_AGE, |(age, _)| age);
        if age > 0 {
            pairs.push(("max_age", duration(std::time::Duration::from_secs(age.into()))));
        }
        // Many keys: one a line.
        for (key, value) in pairs {
            table.set(&format!("cors.{key}"), value, self.place_of(key).or(Some(at)));
        }
    }

    fn place_of(&self, key: &str) -> Option<Place> {
        let list = |set: &Set<Vec<String>>| set.as_ref().map(|(_, at)| *at);
        match key {
            "origins" => list(&self.origins),
            "methods" => list(&self.methods),
            "headers" => list(&self.headers),
            "expose" => list(&self.expose),
            "credentials" => self.credentials.map(|(_, at)| at),
            _ => self.max_age.map(|(_, at)| at),
        }
    }

    fn origins(&self, report: &mut Report) -> Option<Vec<String>> {
        let Some((origins, at)) = &self.origins else { return Some(vec!["*".to_owned()]) };
        if origins.iter().any(|origin| origin == "*") {
            return Some(vec!["*".to_owned()]);
        }
        let (good, bad): (Vec<String>, Vec<String>) =
            origins.iter().cloned().partition(|origin| is_origin(origin));
        for origin in bad {
            report.wrong(
                *at,
                format!("{origin} is no origin (https://app.example): the controller leaves it out"),
            );
        }
        if good.iter().any(|origin| origin.contains("://*.")) {
            report.approximated(*at, "the star is one label of a name there, and any number of them here");
        }
        (!good.is_empty()).then_some(good)
    }
}

/// An origin as both take it: a scheme, a host that may begin with `*.`, a port.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return text == "null" };
    let host = rest.split(':').next().unwrap_or(rest);
    let name = host.strip_prefix("*.").unwrap_or(host);
    !scheme.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_lowercase())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && rest.split_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok())
}
