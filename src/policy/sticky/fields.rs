//! What a sticky cookie does to the fields around it: `Set-Cookie` that hands it out (RFC 6265 section 4.1), `Cookie`
//! without it, and `Cache-Control` that keeps it out of shared caches (RFC 9111 section 7.3).

use crate::model::field::is_token_byte;

/// Whether a cookie is for TLS only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Secure {
    /// Where the client came by TLS.
    #[default]
    Auto,
    /// Always, such as where somebody before us ends TLS.
    Always,
    /// Never.
    Never,
}

impl Secure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Always, Self::Never];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

/// On which requests from other sites a cookie is sent (RFC 6265bis section 4.1.2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SameSite {
    /// On those that lead the user here.
    #[default]
    Lax,
    /// On none.
    Strict,
    /// On all.
    None,
}

impl SameSite {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lax, Self::Strict, Self::None];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lax => "lax",
            Self::Strict => "strict",
            Self::None => "none",
        }
    }

    const fn attribute(self) -> &'static str {
        match self {
            Self::Lax => "Lax",
            Self::Strict => "Strict",
            Self::None => "None",
        }
    }
}

/// Where, how long and by which ways a client sends a cookie back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Its name, a token.
    pub name: Box<str>,
    /// Below which path.
    pub path: Box<str>,
    /// To which domain and those below it; nothing is the host alone.
    pub domain: Option<Box<str>>,
    /// For how many seconds; nothing is until the client ends its session.
    pub max_age: Option<u64>,
    /// For TLS only.
    pub secure: Secure,
    /// From other sites.
    pub same_site: SameSite,
}

impl Attributes {
    /// `Set-Cookie` with a value. `tls` says that the client came by TLS.
    #[must_use]
    pub fn set_cookie(&self, value: &[u8], tls: bool) -> Vec<u8> {
        let mut field = Vec::with_capacity(self.name.len() + value.len() + 96);
        for part in [self.name.as_bytes(), b"=", value, b"; Path=", self.path.as_bytes()] {
            field.extend_from_slice(part);
        }
        if let Some(domain) = &self.domain {
            field.extend_from_slice(b"; Domain=");
            field.extend_from_slice(domain.as_bytes());
        }
        if let Some(seconds) = self.max_age {
            field.extend_from_slice(b"; Max-Age=");
            field.extend_from_slice(seconds.to_string().as_bytes());
        }
        field.extend_from_slice(b"; HttpOnly; SameSite=");
        field.extend_from_slice(self.same_site.attribute().as_bytes());
        if self.secure == Secure::Always || (self.secure == Secure::Auto && tls) {
            field.extend_from_slice(b"; Secure");
        }
        field
    }
}

/// What is left of the `Cookie` fields of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stripped {
    /// All of them: none of the cookies was ours.
    Untouched,
    /// None.
    Empty,
    /// This one in the place of all.
    Rest(Vec<u8>),
}

/// The `Cookie` fields of a request without the cookies of these names. What else stands in them stays as it is, byte for
/// byte, but that several lines become one.
pub fn strip(lines: &[&[u8]], is_ours: impl Fn(&[u8]) -> bool) -> Stripped {
    let name = |pair: &[u8]| {
        let end = pair.iter().position(|&b| b == b'=').unwrap_or(pair.len());
        is_ours(pair[..end].trim_ascii())
    };
    let pairs = || lines.iter().flat_map(|line| line.split(|&b| b == b';'));
    if !pairs().any(name) {
        return Stripped::Untouched;
    }
    let mut rest = Vec::new();
    for pair in pairs().filter(|pair| !name(pair)).map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
        if !rest.is_empty() {
            rest.extend_from_slice(b"; ");
        }
        rest.extend_from_slice(pair);
    }
    if rest.is_empty() { Stripped::Empty } else { Stripped::Rest(rest) }
}

/// What `Cache-Control` of an answer must be that hands out a cookie: no shared cache may give it to others. Nothing where
/// it is right as it is.
#[must_use]
pub fn cache_control(lines: &[&[u8]]) -> Option<Vec<u8>> {
    let directives =
        || lines.iter().flat_map(|line| Directives(line)).filter(|directive| !directive.is_empty());
    let is = |directive: &[u8], name: &[u8]| directive.eq_ignore_ascii_case(name);
    if directives().any(|directive| is(directive, b"private") || is(directive, b"no-store")) {
        return None;
    }
    let mut value = b"private".to_vec();
    for directive in directives() {
        let name = directive.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii();
        // What speaks to shared caches alone has no meaning any more, or the opposite one.
        if [&b"public"[..], b"private", b"s-maxage", b"proxy-revalidate"].iter().any(|other| is(name, other))
        {
            continue;
        }
        value.extend_from_slice(b", ");
        value.extend_from_slice(directive);
    }
    Some(value)
}

/// The parts of a list between commas, of which those inside quotes are none (RFC 9110 section 5.6.1).
struct Directives<'a>(&'a [u8]);

impl<'a> Iterator for Directives<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = self.0.iter().position(|&b| {
            let ends = b == b',' && !quoted;
            if escaped {
                escaped = false;
            } else if quoted && b == b'\\' {
                escaped = true;
            } else if b == b'"' {
                quoted = !quoted;
            }
            ends
        });
        let (part, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest.get(1..).unwrap_or_default();
        Some(part.trim_ascii())
    }
}

/// The name and the value of the cookie that a `Set-Cookie` field sets (RFC 6265 section 5.2); nothing where it sets none
/// or takes one back.
#[must_use]
pub fn cookie_set(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = field.split(|&b| b == b';');
    let pair = parts.next()?;
    let equals = pair.iter().position(|&b| b == b'=')?;
    let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
    let taken_back = parts.any(|attribute| {
        let attribute = attribute.trim_ascii();
        let max_age = attribute.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"max-age="));
        let seconds = attribute.get(8..).unwrap_or_default().trim_ascii();
        max_age && (seconds.starts_with(b"-") || (!seconds.is_empty() && seconds.iter().all(|&b| b == b'0')))
    });
    (!name.is_empty() && !value.is_empty() && !taken_back).then_some((name, value))
}

/// A cookie's name for a pool: what of the pool's name cannot stand in a cookie's becomes a line.
#[must_use]
pub fn default_name(pool: &str) -> String {
    let byte = |b: u8| if is_token_byte(b) { char::from(b) } else { '_' };
    format!("plimsoll_{}", pool.bytes().map(byte).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes() -> Attributes {
        Attributes {
            name: "plimsoll_api".into(),
            path: "/".into(),
            domain: None,
            max_age: None,
            secure: Secure::Auto,
            same_site: SameSite::Lax,
        }
    }

    #[test]
    fn a_cookie_is_set_with_its_attributes() {
        let text = |attributes: &Attributes, tls| String::from_utf8(attributes.set_cookie(b"V", tls));
        assert_eq!(
            text(&attributes(), false),
            Ok("plimsoll_api=V; Path=/; HttpOnly; SameSite=Lax".to_owned())
        );
        assert_eq!(
            text(&attributes(), true),
            Ok("plimsoll_api=V; Path=/; HttpOnly; SameSite=Lax; Secure".to_owned())
        );
        let full = Attributes {
            path: "/app".into(),
            domain: Some("example.com".into()),
            max_age: Some(172_800),
            secure: Secure::Always,
            same_site: SameSite::None,
            ..attributes()
        };
        assert_eq!(
            text(&full, false),
            Ok("plimsoll_api=V; Path=/app; Domain=example.com; Max-Age=172800; HttpOnly; SameSite=None; Secure"
                .to_owned())
        );
        assert!(
            !attributes().set_cookie(b"V", false).windows(6).any(|part| part == b"Secure"),
            "only on TLS"
        );
    }

    #[test]
    fn ours_is_taken_out_and_the_rest_stays_as_it_is() {
        let check = |lines: &[&str], want: Option<&str>| {
            let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let want = match want {
                None => Stripped::Untouched,
                Some("") => Stripped::Empty,
                Some(rest) => Stripped::Rest(rest.into()),
            };
            assert_eq!(strip(&lines, |name| name == b"ours"), want, "{lines:?}");
        };
        check(&[], None);
        check(&["a=1; b=2"], None);
        check(&["ours2=1; xours=2; Ours=3"], None);
        check(&["ours=1"], Some(""));
        check(&["ours=1;", " ; "], Some(""));
        check(&["a=1; ours=x; b=\"2 ;3\""], Some("a=1; b=\"2; 3\""));
        check(&["a=1;b==2", "ours=1; ours=2", "c"], Some("a=1; b==2; c"));
        // What a lenient endpoint would take for ours.
        check(&["ours ; a=1; ours =2"], Some("a=1"));
    }

    #[test]
    fn an_answer_with_a_cookie_is_for_its_client_alone() {
        let of = |lines: &[&str]| {
            let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            cache_control(&lines).map(|value| String::from_utf8_lossy(&value).into_owned())
        };
        assert_eq!(of(&[]).as_deref(), Some("private"));
        assert_eq!(of(&["public, max-age=60"]).as_deref(), Some("private, max-age=60"));
        assert_eq!(of(&["max-age=60", "s-maxage = 9"]).as_deref(), Some("private, max-age=60"));
        assert_eq!(of(&["private=\"x, y\", no-cache"]).as_deref(), Some("private, no-cache"));
        assert_eq!(of(&["ext=\"a, \\\", private\""]).as_deref(), Some("private, ext=\"a, \\\", private\""));
        for good in ["private", "max-age=60, Private", "no-store"] {
            assert_eq!(of(&[good]), None, "{good}");
        }
    }

    #[test]
    fn what_an_origin_sets_is_read_and_what_it_takes_back_is_not() {
        let of = |field: &'static str| cookie_set(field.as_bytes());
        let pair = |name: &'static str, value: &'static str| Some((name.as_bytes(), value.as_bytes()));
        assert_eq!(of("SID=abc; Path=/; Max-Age=60"), pair("SID", "abc"));
        assert_eq!(of(" SID = a=b ;HttpOnly"), pair("SID", "a=b"));
        for none in ["SID", "=x", "SID=", "SID=x; max-age=0", "SID=x; Max-Age=-1", "", ";"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(of("SID=x; max-age="), pair("SID", "x"));
    }

    #[test]
    fn every_pool_has_a_name_that_a_cookie_can_have() {
        assert_eq!(default_name("api"), "plimsoll_api");
        assert_eq!(default_name("a:b@[c].d"), "plimsoll_a_b__c_.d");
    }
}
