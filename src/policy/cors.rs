//! Which other origins' scripts may read answers, and send what (the Fetch Standard, section 3.3, "CORS protocol").

use std::time::Duration;

/// What a route allows scripts of other origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Who they are.
    pub origins: Origins,
    /// Methods beyond those that need not be asked for.
    pub methods: Vec<String>,
    /// Fields of requests beyond those that need not be asked for; `*` is any.
    pub headers: Vec<String>,
    /// Fields of answers that they may read beyond those that all may.
    pub expose: Vec<String>,
    /// Whether cookies and authorization may come along.
    pub credentials: bool,
    /// How long what is allowed may be remembered.
    pub max_age: Option<Duration>,
}

/// Origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every one.
    Any,
    /// Those that fit one of these.
    Listed(Vec<OriginPattern>),
}

/// An origin, or all hosts below one: `https://app.example`, `https://*.app.example:8443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPattern {
    /// What stands in front of the star, or all of it.
    start: Box<str>,
    /// What stands behind the star, where there is one.
    end: Option<Box<str>>,
}

/// Who may read an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant<'a> {
    /// Everybody.
    Any,
    /// This origin.
    Origin(&'a [u8]),
    /// Nobody: the origin is not allowed, or there is none.
    Nobody,
}

impl OriginPattern {
    /// Reads `scheme://host`, with or without a port, where the first label of the host may be a star; or `null`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if text == "null" {
            return Some(Self { start: text.into(), end: None });
        }
        let (scheme, rest) = text.split_once("://")?;
        let (star, host) = match rest.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, rest),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
            return None;
        }
        if host.is_empty() || host.starts_with('.') || !host.chars().all(fits) {
            return None;
        }
        Some(match star {
            true => Self { start: format!("{scheme}://").into(), end: Some(format!(".{host}").into()) },
            false => Self { start: text.into(), end: None },
        })
    }

    /// Whether an origin, which browsers write in lower case, is this one or below it.
    #[must_use]
    pub fn matches(&self, origin: &[u8]) -> bool {
        let Some(end) = &self.end else { return origin == self.start.as_bytes() };
        let below =
            origin.strip_prefix(self.start.as_bytes()).and_then(|rest| rest.strip_suffix(end.as_bytes()));
        below.is_some_and(|labels| {
            !labels.is_empty()
                && !labels.starts_with(b".")
                && labels.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        })
    }
}

impl std::fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.end {
            Some(end) => write!(f, "{}*{end}", self.start),
            None => f.write_str(&self.start),
        }
    }
}

impl Cors {
    /// Who may read the answer to a request that says this of where it is from.
    #[must_use]
    pub fn grant<'o>(&self, origin: Option<&'o [u8]>) -> Grant<'o> {
        match (&self.origins, origin) {
            (Origins::Any, _) => Grant::Any,
            (Origins::Listed(listed), Some(origin)) if listed.iter().any(|known| known.matches(origin)) => {
                Grant::Origin(origin)
            }
            (Origins::Listed(_), _) => Grant::Nobody,
        }
    }

    /// Whether answers differ by where requests are from, so that caches must tell them apart.
    #[must_use]
    pub const fn varies(&self) -> bool {
        matches!(self.origins, Origins::Listed(_))
    }

    /// Whether any field may be sent; a star does not say so where credentials come along.
    #[must_use]
    pub fn allows_any_header(&self) -> bool {
        self.headers.iter().any(|name| name == "*")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Cors {
        let listed = origins.iter().map(|text| OriginPattern::parse(text).expect("an origin")).collect();
        Cors {
            origins: Origins::Listed(listed),
            methods: Vec::new(),
            headers: Vec::new(),
            expose: Vec::new(),
            credentials: false,
            max_age: None,
        }
    }

    #[test]
    fn an_origin_is_compared_as_a_whole_or_below_its_star() {
        let cors = cors(&["https://App.example", "http://*.dev.example:81", "null"]);
        for (origin, is_in) in [
            ("https://app.example", true),
            ("null", true),
            ("http://a.dev.example:81", true),
            ("http://a.b.dev.example:81", true),
            ("http://dev.example:81", false),
            ("http://.dev.example:81", false),
            ("http://evil.test/.dev.example:81", false),
            ("http://evil.test@a.dev.example:81", false),
            ("http://a.dev.example", false),
            ("https://app.example.evil.test", false),
            ("https://app.example:444", false),
            ("http://app.example", false),
            ("", false),
        ] {
            let want = if is_in { Grant::Origin(origin.as_bytes()) } else { Grant::Nobody };
            assert_eq!(cors.grant(Some(origin.as_bytes())), want, "{origin}");
        }
        assert_eq!(cors.grant(None), Grant::Nobody);
    }

    #[test]
    fn what_is_no_origin_is_no_pattern() {
        for text in
            ["app.example", "https://", "https://a/b", "https://*", "https://a.*", "*.a", "https://u@a", ""]
        {
            assert_eq!(OriginPattern::parse(text), None, "{text}");
        }
        for text in ["https://a", "https://*.a.b:8", "null", "chrome-extension://abc"] {
            assert_eq!(OriginPattern::parse(text).map(|p| p.to_string()).as_deref(), Some(text));
        }
    }
}
