//! `[pool.NAME.sticky]`: how a client keeps coming to the same endpoint.

use std::path::PathBuf;
use std::time::Duration;

use super::diagnostic::Report;
use super::pool::{HashKey, Surroundings};
use super::secrets;
use super::value::Fields;
use crate::model::field::FieldName;
use crate::policy::sticky::fields::{Attributes, SameSite, Secure, default_name};
use crate::policy::sticky::{Failback, WhenDown};

/// How a client keeps coming to the same endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// By what it is known.
    pub by: By,
    /// What becomes of it when its endpoint cannot be used.
    pub when_down: WhenDown,
    /// When it comes home from a backup.
    pub failback: Failback,
    /// Without a request; nothing is no limit of its own.
    pub max_idle: Option<Duration>,
}

/// By what a client is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// By a signed cookie that says where it belongs: nothing is kept here.
    Cookie {
        /// Its name, and what else `Set-Cookie` says.
        attributes: Attributes,
        /// For how long it counts from when it was made; nothing is for as long as the client keeps it.
        max_age: Option<Duration>,
        /// Secrets, one a line; nothing is one of our own.
        key_file: Option<PathBuf>,
    },
    /// By a part of what it sends, which a table here knows.
    Table {
        /// The part: never the path or an SNI.
        key: HashKey,
        /// Entries at most.
        size: usize,
        /// How long one holds without use.
        expire: Duration,
        /// Whether entries come from what endpoints set in that cookie, and from nothing else.
        learn: bool,
    },
}

/// Keys that only have a meaning with a cookie.
const OF_COOKIES: [&str; 6] = ["max_age", "key_file", "path", "domain", "same_site", "secure"];

/// Keys that only have a meaning with a table.
const OF_TABLES: [&str; 3] = ["size", "expire", "learn"];

impl Sticky {
    /// Reads the key `sticky` of a pool; nothing where there is none, or something of it was reported.
    pub(super) fn read(
        pool: &str,
        fields: &Fields,
        around: Surroundings<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let written = fields.table("sticky")?;
        if let (Some(cookie), Some(table)) = (written.own("cookie"), written.own("table")) {
            let message = "`table` cannot stand beside `cookie`: a client is known by one of them";
            report.error_beside(
                table.key_span,
                message,
                ("the other is at", cookie.key_span),
                "keep one of the two",
            );
            return None;
        }
        // What the pool itself says goes before what it has from elsewhere.
        let by_table = written.has("table") && written.own("cookie").is_none();
        let (without, by) = if by_table { (&OF_COOKIES[..], "table") } else { (&OF_TABLES[..], "cookie") };
        for field in without.iter().filter_map(|key| written.own(key)) {
            let message = format!("`{}` has no use: clients are known by a {by}", field.name);
            report.error(field.key_span, message, "remove it");
        }
        let by = if by_table { table(&written, report)? } else { cookie(pool, &written, around, report)? };
        if around.tcp_only && !matches!(by, By::Table { key: HashKey::Source, .. }) {
            // What defaults bring is for the pools that can use it.
            if let Some(own) = fields.own("sticky") {
                let message = "a pool of tcp listeners can only be sticky by source: it sees no requests";
                report.error(own.key_span, message, "write sticky = { table = \"source\" }");
            }
            return None;
        }
        let failback = word(&written, "failback", &Failback::ALL, Failback::word)?;
        let sticky = Self {
            when_down: word(&written, "when_down", &WhenDown::ALL, WhenDown::word)?,
            failback,
            max_idle: written.get("max_idle"),
            by,
        };
        sticky.check_failback(&written, report);
        Some(sticky)
    }

    /// Reports a way home that nothing ever leads to, and a time that ends nothing.
    fn check_failback(&self, written: &Fields, report: &mut Report) {
        let of_table = matches!(self.by, By::Table { .. });
        let (has_age, has_idle) = match &self.by {
            By::Cookie { max_age, .. } => (max_age.is_some(), self.max_idle.is_some()),
            By::Table { .. } => (true, true),
        };
        let missing = match self.failback {
            Failback::Idle if !has_idle => "max_idle = \"30m\"",
            Failback::Expiry if !has_age => "max_age = \"48h\"",
            Failback::Stay | Failback::Idle | Failback::Expiry => "",
        };
        if !missing.is_empty() {
            let key = missing.split(' ').next().unwrap_or_default();
            let message = format!("failback = \"{}\" needs `{key}`", self.failback.word());
            report.error(written.span_of("failback"), message, format!("add {missing}"));
        }
        if let Some(field) = written.own("max_idle").filter(|_| of_table && self.failback != Failback::Idle) {
            let message = "`max_idle` of a table is for failback = \"idle\" alone";
            report.error(field.key_span, message, "write expire, or add failback = \"idle\"");
        }
    }
}

fn word<T: Copy>(fields: &Fields, key: &str, all: &[T], word: fn(T) -> &'static str) -> Option<T> {
    all.iter().copied().find(|one| fields.is_word(key, word(*one)))
}

fn table(written: &Fields, report: &mut Report) -> Option<By> {
    let key: HashKey = written.get("table")?;
    let learn: bool = written.get("learn")?;
    if learn && !matches!(key, HashKey::Cookie(_)) {
        let message = "`learn` needs table = \"cookie:NAME\": the cookie that endpoints set";
        report.error(written.span_of("learn"), message, "name their cookie, or remove `learn`");
    }
    Some(By::Table { key, size: written.get("size")?, expire: written.get("expire")?, learn })
}

fn cookie(pool: &str, written: &Fields, around: Surroundings<'_>, report: &mut Report) -> Option<By> {
    let name = written.get::<FieldName>("cookie");
    let name = name.map_or_else(|| default_name(pool), |name| name.as_str().to_owned());
    let path: String = written.get("path")?;
    let domain: Option<String> = written.get("domain");
    let secure = word(written, "secure", &Secure::ALL, Secure::word)?;
    let same_site = word(written, "same_site", &SameSite::ALL, SameSite::word)?;
    if path.contains([';', ',']) {
        let message = "`path` of a cookie cannot contain ';' or ','";
        report.error(written.span_of("path"), message, "percent-encode them, as in \"%3b\"");
    }
    if same_site == SameSite::None && secure == Secure::Never {
        let message = "a cookie with same_site = \"none\" is dropped by browsers unless it is secure";
        report.error(written.span_of("same_site"), message, "remove one of `same_site` and `secure`");
    }
    check_prefix(&name, (&path, domain.as_deref(), secure), written, report);
    let max_age: Option<Duration> = written.get("max_age");
    Some(By::Cookie {
        attributes: Attributes {
            name: name.into(),
            path: path.into(),
            domain: domain.map(Into::into),
            max_age: max_age.map(|age| age.as_secs()),
            secure,
            same_site,
        },
        max_age,
        key_file: around.files.named(written, "key_file", "a file of keys", secrets::check, report),
    })
}

/// Reports a name that makes browsers drop the cookie (RFC 6265bis section 4.1.3).
fn check_prefix(
    name: &str,
    (path, domain, secure): (&str, Option<&str>, Secure),
    written: &Fields,
    report: &mut Report,
) {
    let starts =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let host = starts("__Host-");
    let (wrong, help) = if (host || starts("__Secure-")) && secure == Secure::Never {
        ("is only taken when it is secure", "remove `secure`")
    } else if host && domain.is_some() {
        ("is only taken without a domain", "remove `domain`, or begin the name with __Secure-")
    } else if host && path != "/" {
        ("is only taken with the path /", "remove `path`, or begin the name with __Secure-")
    } else {
        return;
    };
    report.error(written.span_of("cookie"), format!("a cookie of the name `{name}` {wrong}"), help);
}
