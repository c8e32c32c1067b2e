//! Annotations that say which endpoint a client gets: `affinity`, `upstream-hash-by`, `load-balance`.

use super::super::super::document::{Table, Value};
use super::super::super::report::{Place, Report};
use super::super::value::duration;
use super::super::variable::hash_key;
use super::{Read, Set, Word, as_number, as_truth};

/// What they say.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Affinity {
    cookie: Option<Place>,
    /// `affinity-canary-behavior: legacy`.
    pub(in super::super) legacy: bool,
    name: Set<String>,
    path: Set<String>,
    domain: Set<String>,
    same_site: Set<String>,
    secure: Set<bool>,
    max_age: Set<i64>,
    expires: Set<i64>,
    /// What only matters where there is a cookie.
    about_cookie: Vec<Place>,
    hash: Set<String>,
    subset: Vec<Place>,
    balance: Set<String>,
}

pub(super) const TABLE: &[(&str, Read)] = &[
    ("affinity", |s, w, r| match w.value {
        "cookie" => s.affinity.cookie = Some(w.at),
        _ => r.wrong(w.at, "the only affinity is cookie: the controller leaves it out"),
    }),
    ("affinity-mode", |s, w, r| {
        s.affinity.about_cookie.push(w.at);
        match w.value {
            "persistent" => {}
            "balanced" => r.approximated(w.at, "clients stay when endpoints are added, as with persistent"),
            _ => r.wrong(w.at, "it is balanced or persistent: the controller takes the first"),
        }
    }),
    ("affinity-canary-behavior", |s, w, r| match w.value {
        "sticky" => {}
        "legacy" => s.affinity.legacy = true,
        _ => r.wrong(w.at, "it is sticky or legacy: the controller takes the first"),
    }),
    ("session-cookie-name", |s, w, _| s.affinity.name = s.affinity.text(w)),
    ("session-cookie-path", |s, w, _| s.affinity.path = s.affinity.text(w)),
    ("session-cookie-domain", |s, w, _| s.affinity.domain = s.affinity.text(w)),
    ("session-cookie-samesite", |s, w, r| {
        let lower = w.value.to_ascii_lowercase();
        s.affinity.same_site = s.affinity.text(w).map(|(_, at)| (lower.clone(), at));
        if !["none", "lax", "strict"].contains(&lower.as_str()) {
            s.affinity.same_site = None;
            r.wrong(w.at, "it is None, Lax or Strict: the controller leaves it out");
        }
    }),
    ("session-cookie-conditional-samesite-none", |s, w, r| {
        s.affinity.about_cookie.push(w.at);
        if as_truth(w, r) == Some(true) {
            r.approximated(
                w.at,
                "SameSite=None is sent to every browser; those that misread it are of 2019 and before",
            );
        }
    }),
    ("session-cookie-secure", |s, w, r| {
        s.affinity.about_cookie.push(w.at);
        s.affinity.secure = as_truth(w, r).map(|yes| (yes, w.at));
    }),
    ("session-cookie-max-age", |s, w, r| s.affinity.max_age = s.affinity.time(w, r)),
    ("session-cookie-expires", |s, w, r| s.affinity.expires = s.affinity.time(w, r)),
    ("session-cookie-change-on-failure", |s, w, r| {
        s.affinity.about_cookie.push(w.at);
        if as_truth(w, r) == Some(false) {
            r.approximated(w.at, "a client whose endpoint fails is bound to another one: when_down = \"fail\" in sticky lets it fail");
        }
    }),
    ("session-cookie-hash", |_, w, r| {
        r.ignored(w.at, "it is gone from the controller: the cookie's value is signed")
    }),
    ("upstream-hash-by", |s, w, _| s.affinity.hash = Some((w.value.to_owned(), w.at))),
    ("upstream-hash-by-subset", |s, w, r| {
        s.affinity.subset.push(w.at);
        if as_truth(w, r) == Some(true) {
            r.approximated(
                w.at,
                "each key has one endpoint, and no group of them; load_factor bounds what one of them gets",
            );
        }
    }),
    ("upstream-hash-by-subset-size", |s, w, r| {
        s.affinity.subset.push(w.at);
        if as_number(w, r).is_some() {
            r.approximated(w.at, "there are no groups of endpoints that would have a size");
        }
    }),
    ("load-balance", |s, w, r| s.affinity.balance(w, r)),
];

/// The name of the cookie where nothing is said.
const COOKIE: &str = "INGRESSCOOKIE";

impl Affinity {
    fn text(&mut self, word: Word<'_>) -> Set<String> {
        self.about_cookie.push(word.at);
        Some((word.value.to_owned(), word.at))
    }

    fn time(&mut self, word: Word<'_>, report: &mut Report) -> Set<i64> {
        self.about_cookie.push(word.at);
        match word.value.parse::<i64>() {
            Ok(time) if time > 0 => Some((time, word.at)),
            Ok(_) => {
                report.wrong(
                    word.at,
                    "a cookie that ends before it is made is never sent back: it is left out",
                );
                None
            }
            Err(_) => {
                report.wrong(word.at, "it is a number of seconds: the controller leaves it out");
                None
            }
        }
    }

    pub(in super::super) fn balance(&mut self, word: Word<'_>, report: &mut Report) {
        match word.value {
            "round_robin" | "ewma" => self.balance = Some((word.value.to_owned(), word.at)),
            "least_conn" | "ip_hash" => {
                report.wrong(word.at, "it is gone since 0.25: the controller drops the whole Ingress. Here it is round_robin; least_requests and ring_hash are what Plimsoll has of it");
            }
            _ => report.wrong(word.at, format!("it is round_robin or ewma: {}", word.otherwise())),
        }
    }

    pub(super) fn settle(&self, report: &mut Report) {
        if self.cookie.is_none() {
            super::alone(&self.about_cookie, "affinity is not cookie: no cookie is set", report);
        }
        if let (Some(_), Some((_, at))) = (self.cookie, &self.hash) {
            report.wrong(*at, "affinity is there too, and the controller goes by it: this does nothing");
        } else if self.hash.is_none() {
            super::alone(&self.subset, "nothing is hashed", report);
        }
        let other = self.cookie.is_some() || self.hash.is_some();
        if let Some((_, at)) = &self.balance
            && other
        {
            let by = if self.cookie.is_some() { "affinity" } else { "upstream-hash-by" };
            report.ignored(*at, format!("the controller goes by {by}"));
        }
        if let (Some((_, at)), Some(_)) = (self.expires, self.max_age) {
            report.ignored(at, "browsers go by Max-Age where both are there");
        }
    }

    /// Whether clients stay.
    pub(in super::super) const fn sticks(&self) -> bool {
        self.cookie.is_some()
    }

    /// `balance` of a pool; the first Ingress that names a Service has the word, `all` where it has none.
    pub(in super::super) fn write_balance(&self, all: &Self, table: &mut Table, report: &mut Report) {
        if let Some((hash, at)) = self.hash.as_ref().filter(|_| self.cookie.is_none()) {
            let key = hash_key(hash).unwrap_or_else(|| {
                report.not_possible(*at, format!("`{hash}` is nothing that hash_key goes by (source, header:NAME, cookie:NAME, query:NAME, path, sni): the source is taken"));
                "source".to_owned()
            });
            let how = match key.as_str() {
                "path" => {
                    "the path is hashed without its query, by another function: clients come to other endpoints than now, and stay there"
                }
                _ => "the hash function is another: clients come to other endpoints than now, and stay there",
            };
            report.approximated(*at, how);
            table.set("balance", Value::text("ring_hash"), Some(*at));
            if key != "source" {
                table.set("hash_key", Value::text(key), Some(*at));
            }
            return;
        }
        let said = self.balance.as_ref().or(all.balance.as_ref());
        let ewma = said.is_some_and(|(word, _)| word == "ewma") && self.cookie.is_none();
        let word = if ewma { "peak_ewma" } else { "round_robin" };
        table.set("balance", Value::text(word), said.map(|(_, at)| *at).filter(|_| self.cookie.is_none()));
    }

    /// `sticky` of a pool, whose routes have these paths.
    pub(in super::super) fn write_sticky(&self, paths: &[String], table: &mut Table, report: &mut Report) {
        let Some(at) = self.cookie else { return };
        report.approximated(at, "its value is signed and names no endpoint: clients with a cookie of the controller's are balanced anew, once. Who fails is bound anew, as with session-cookie-change-on-failure");
        let name = self.name.as_ref();
        table.set(
            "sticky.cookie",
            Value::text(name.map_or(COOKIE, |(name, _)| name)),
            name.map(|(_, at)| *at).or(Some(at)),
        );
        let age = self.max_age.or(self.expires);
        if let Some((age, from)) = age {
            let seconds = u64::try_from(age).unwrap_or(0);
            table.set("sticky.max_age", duration(std::time::Duration::from_secs(seconds)), Some(from));
        }
        match (&self.path, paths) {
            (Some((path, from)), _) => table.set("sticky.path", Value::text(path), Some(*from)),
            (None, [one]) if one != "/" && !one.is_empty() => {
                table.set("sticky.path", Value::text(one), Some(at))
            }
            (None, [_]) => {}
            (None, _) => {
                report.approximated(at, "there is one cookie for all paths of the service, not one for each")
            }
        }
        if let Some((domain, from)) = &self.domain {
            table.set("sticky.domain", Value::text(domain.trim_start_matches('.')), Some(*from));
        }
        if let Some((site, from)) = self.same_site.as_ref().filter(|(site, _)| site != "lax") {
            table.set("sticky.same_site", Value::text(site), Some(*from));
        }
        match self.secure {
            Some((true, from)) => table.set("sticky.secure", Value::text("always"), Some(from)),
            Some((false, from)) => report.approximated(from, "over TLS the cookie is Secure all the same"),
            None => {}
        }
    }
}
