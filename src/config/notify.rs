//! `[[notify]]`: where events are sent beside the log.

use std::fmt;

use super::diagnostic::Report;
use super::value::Fields;

/// A sink of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Where they go.
    pub sink: Sink,
    /// Changes of what; at least one.
    pub events: Vec<Topic>,
}

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// By POST to a URL.
    Webhook(Webhook),
    /// To a program with its arguments; at least the program, by its absolute path.
    Exec(Vec<String>),
}

/// What an event is a change of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// An endpoint.
    Endpoint,
    /// A tier of a pool.
    Tier,
    /// A pool: usable or not, failed over, led by another.
    Pool,
    /// A breaker.
    Breaker,
    /// The configuration.
    Reload,
    /// This process: lag, drain, the end.
    Process,
}

/// The URL of a webhook. Whoever knows all of it can post there, so only [`Webhook::url`] tells it: `Debug` and
/// `Display` stop behind the host.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    url: String,
    /// Bytes of scheme and authority, from which on the rest is secret.
    origin: usize,
}

/// Names, addresses and ports; what they make is for whoever connects to tell.
fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._:[]".contains(c)
}

/// Stands for what is not to be seen.
const HIDDEN: &str = "/hidden";

impl Webhook {
    /// Reads an `http` or `https` URL; the error says what is wrong, without quoting it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let scheme = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme));
        let rest = scheme
            .and_then(|scheme| text.get(scheme.len()..))
            .ok_or("it starts with neither https:// nor http://")?;
        if text.chars().any(|c| !c.is_ascii_graphic()) || text.contains('#') {
            return Err("it has characters that a URL cannot have");
        }
        let host = rest.split(['/', '?']).next().unwrap_or("");
        if host.contains('@') {
            return Err("a name and a password before the host are not sent");
        }
        if host.is_empty() || host.starts_with(':') || !host.chars().all(is_host_char) {
            return Err("it has no host");
        }
        Ok(Self { url: text.to_owned(), origin: text.len() - rest.len() + host.len() })
    }

    /// All of it, for the one who posts there.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (origin, rest) = self.url.split_at(self.origin);
        write!(f, "{origin}{}", if rest.len() > 1 { HIDDEN } else { rest })
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Notify {
    /// Reads a table `[[notify]]`.
    pub(super) fn read(fields: &Fields, report: &mut Report) -> Option<Self> {
        let events = fields.plain_list::<&'static str>("events");
        let events = Topic::ALL.into_iter().filter(|topic| events.contains(&topic.word())).collect();
        match (fields.written("webhook"), fields.written("exec")) {
            (Some(_), None) => Some(Self { sink: Sink::Webhook(fields.get("webhook")?), events }),
            (None, Some(_)) => Some(Self { sink: Sink::Exec(program(fields, "exec", report)?), events }),
            (Some(first), Some(second)) => {
                let message = "`exec` cannot stand beside `webhook`";
                let help = "keep one of the two; a second [[notify]] can have the other";
                report.error_beside(second.key_span, message, ("the other is at", first.key_span), help);
                None
            }
            (None, None) => {
                let help = "add webhook = \"https://hooks.internal/lb\" or exec = [\"/usr/local/bin/page\"]";
                report.error(fields.span, "this [[notify]] says nothing of where events go", help);
                None
            }
        }
    }
}

/// A program and its arguments; reports one that is no absolute path, since there is no shell to find it.
pub(super) fn program(fields: &Fields, name: &str, report: &mut Report) -> Option<Vec<String>> {
    let words = fields.list::<String>(name);
    let (program, span) = words.first()?;
    if !program.starts_with('/') {
        let message = format!("`{name}` starts with {program:?}, which is no absolute path");
        report.error(*span, message, "write the whole path of the program, such as \"/usr/local/bin/page\"");
        return None;
    }
    Some(words.into_iter().map(|(word, _)| word).collect())
}

impl Topic {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Endpoint, Self::Tier, Self::Pool, Self::Breaker, Self::Reload, Self::Process];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Tier => "tier",
            Self::Pool => "pool",
            Self::Breaker => "breaker",
            Self::Reload => "reload",
            Self::Process => "process",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_of_a_webhook_ends_with_its_host() {
        for (url, shown) in [
            ("https://hooks.internal/T0/s3cret", "https://hooks.internal/hidden"),
            ("http://10.0.0.1:8080?token=s3cret", "http://10.0.0.1:8080/hidden"),
            ("https://[fd00::1]/", "https://[fd00::1]/"),
            ("https://hooks.internal", "https://hooks.internal"),
        ] {
            let webhook = Webhook::parse(url);
            assert_eq!(webhook.as_ref().map(Webhook::to_string).as_deref(), Ok(shown));
            assert_eq!(webhook.as_ref().map(Webhook::url), Ok(url));
            assert!(!format!("{webhook:?}").contains("s3cret"), "{webhook:?}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_quoted() {
        for url in [
            "",
            "hooks.internal",
            "ftp://a/",
            "https://",
            "https://:80/",
            "https://a/ b",
            "https://u:p@a/",
            "https://a/#b",
        ] {
            assert!(Webhook::parse(url).is_err(), "{url}");
        }
    }
}
