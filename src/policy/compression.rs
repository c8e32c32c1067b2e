//! Whether an answer is compressed on its way to the client, and how: what the client takes (RFC 9110 section 12.5.3), and
//! what may be transformed at all (RFC 9111 section 5.2.2.6, RFC 9110 sections 8.8.3 and 14).

/// A content coding (RFC 9110 section 8.4.1, RFC 7932, RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `zstd`
    Zstd,
    /// `br`
    Brotli,
    /// `gzip`
    Gzip,
}

impl Coding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Its name in fields and in configurations.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    fn is_named(self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.word().as_bytes())
            // RFC 9110 section 8.4.1.3.
            || (self == Self::Gzip && name.eq_ignore_ascii_case(b"x-gzip"))
    }
}

/// How much time smaller answers are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// Little.
    Low,
    /// Some.
    #[default]
    Medium,
    /// Much.
    High,
}

impl Effort {
    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A media type, in which one star may stand for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType(Box<str>);

impl MediaType {
    /// Takes `type/subtype`; nothing where it is none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let (kind, subtype) = text.split_once('/')?;
        let is_token = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-*".contains(&b))
        };
        let stars = text.bytes().filter(|&b| b == b'*').count();
        (is_token(kind) && is_token(subtype) && stars <= 1).then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// It as written, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a `Content-Type` is of it.
    #[must_use]
    pub fn matches(&self, content_type: &[u8]) -> bool {
        let media = content_type.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        match self.0.split_once('*') {
            None => media.eq_ignore_ascii_case(self.0.as_bytes()),
            Some((start, end)) => {
                media.len() >= start.len() + end.len()
                    && media[..start.len()].eq_ignore_ascii_case(start.as_bytes())
                    && media[media.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
            }
        }
    }
}

/// What a route compresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The codings; of those that a client wants most the first.
    pub codings: Vec<Coding>,
    /// The types of answers.
    pub types: Vec<MediaType>,
    /// Bytes that an answer has at least, where it says how many.
    pub min_size: u64,
    /// How much time it is worth.
    pub effort: Effort,
}

/// What counts of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// Its status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// `Content-Length`.
    pub length: Option<u64>,
    /// Whether it has a `Content-Encoding`.
    pub is_encoded: bool,
    /// Whether it is a part of something (`Content-Range`).
    pub is_part: bool,
    /// Whether it, or its request, says `no-transform`.
    pub is_fixed: bool,
}

/// What is done with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it is.
    Untouched,
    /// It goes on as it is, and for another client it would not.
    Varies,
    /// It is encoded.
    Encoded(Coding),
}

impl Rules {
    /// What is done with an answer for a client that takes `coding`.
    #[must_use]
    pub fn verdict(&self, answer: &Facts<'_>, coding: Option<Coding>) -> Verdict {
        if answer.is_encoded
            || answer.is_part
            || answer.is_fixed
            || matches!(answer.status, 0..=199 | 204..=206)
        {
            return Verdict::Untouched;
        }
        let fits = |content_type: &[u8]| self.types.iter().any(|media| media.matches(content_type));
        match (answer.content_type, answer.status) {
            // Of what the client has it says how to find it, not what it is (RFC 9110 section 15.4.5).
            (None, 304) => return Verdict::Varies,
            (Some(content_type), status) if fits(content_type) => {
                if status == 304 {
                    return Verdict::Varies;
                }
            }
            _ => return Verdict::Untouched,
        }
        if answer.length.is_some_and(|length| length < self.min_size) {
            return Verdict::Untouched;
        }
        coding.map_or(Verdict::Varies, Verdict::Encoded)
    }

    /// The coding that a client with these fields of `Accept-Encoding` wants most; nothing where it wants none of them, or
    /// wants none more.
    #[must_use]
    pub fn choose<'v>(&self, fields: impl Iterator<Item = &'v [u8]>) -> Option<Coding> {
        let mut wanted: [Option<u16>; Coding::ALL.len()] = [None; Coding::ALL.len()];
        let (mut identity, mut any) = (None, None);
        for element in fields.flat_map(|value| value.split(|&b| b == b',')) {
            let mut parts = element.split(|&b| b == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            // What has a weight that is none is not wanted.
            let weight = parts.find_map(weight).map_or(Some(1000), |weight| weight).unwrap_or(0);
            if name == b"*" {
                any = Some(weight);
            } else if name.eq_ignore_ascii_case(b"identity") {
                identity = Some(weight);
            } else if let Some(at) = Coding::ALL.iter().position(|coding| coding.is_named(name)) {
                wanted[at] = Some(weight);
            }
        }
        let weight_of = |coding: &Coding| {
            let at = Coding::ALL.iter().position(|other| other == coding)?;
            wanted[at].or(any).filter(|weight| *weight > 0)
        };
        let best = self.codings.iter().filter_map(|coding| Some((weight_of(coding)?, *coding)));
        let best = best.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        // Whoever asks for a coding at all takes it rather than none, unless it says otherwise.
        identity.is_none_or(|identity| best.0 >= identity).then_some(best.1)
    }
}

/// The thousandths of a parameter `q=`; nothing inside where it is malformed (RFC 9110 section 12.4.2).
fn weight(parameter: &[u8]) -> Option<Option<u16>> {
    let (name, value) = parameter.split_at(parameter.iter().position(|&b| b == b'=')?);
    if !name.trim_ascii().eq_ignore_ascii_case(b"q") {
        return None;
    }
    let value = value[1..].trim_ascii();
    let (whole, fraction) = match value {
        [whole] | [whole, b'.'] => (*whole, &[][..]),
        [whole, b'.', fraction @ ..] => (*whole, fraction),
        _ => return Some(None),
    };
    if !matches!(whole, b'0' | b'1') || fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return Some(None);
    }
    let thousandths = (0..3).fold(u16::from(whole - b'0'), |sum, at| {
        sum * 10 + fraction.get(at).map_or(0, |digit| u16::from(digit - b'0'))
    });
    Some((thousandths <= 1000).then_some(thousandths))
}

/// A validator that is true of an encoded answer too: a strong one promises the same bytes (RFC 9110 section 8.8.1). Nothing
/// where it can stay.
#[must_use]
pub fn weakened(etag: &[u8]) -> Option<Vec<u8>> {
    etag.starts_with(b"\"").then(|| [b"W/", etag].concat())
}

/// Whether one of several directives of `Cache-Control` forbids what is done here.
#[must_use]
pub fn forbids(cache_control: &[u8]) -> bool {
    cache_control.split(|&b| b == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            codings: vec![Coding::Zstd, Coding::Brotli, Coding::Gzip],
            types: ["text/*", "application/json", "application/*+json"]
                .map(|text| MediaType::new(text).expect("a media type"))
                .into(),
            min_size: 1000,
            effort: Effort::Medium,
        }
    }

    #[test]
    fn the_client_says_what_it_takes() {
        use Coding::{Brotli, Gzip, Zstd};
        for (accept, want) in [
            ("gzip, deflate, br, zstd", Some(Zstd)),
            ("gzip, deflate, br", Some(Brotli)),
            ("gzip;q=1.0, br;q=0.5", Some(Gzip)),
            ("X-GZIP", Some(Gzip)),
            ("GZip ; Q = 0.001", Some(Gzip)),
            ("*", Some(Zstd)),
            ("*;q=0.5, zstd;q=0", Some(Brotli)),
            ("gzip;q=0", None),
            ("*;q=0", None),
            ("identity", None),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
            ("identity;q=0, gzip;q=0.1", Some(Gzip)),
            ("deflate, compress", None),
            ("gzip;q=2", None),
            ("gzip;q=1.001", None),
            ("gzip;q=0.1234", None),
            ("gzip;q=", None),
            ("gzip;level=1;q=0.5", Some(Gzip)),
            ("", None),
            (",;,=", None),
        ] {
            assert_eq!(rules().choose(std::iter::once(accept.as_bytes())), want, "{accept}");
        }
        let fields = ["br;q=0.3", "gzip;q=0.4"].map(str::as_bytes);
        assert_eq!(rules().choose(fields.into_iter()), Some(Gzip), "several fields are one list");
        assert_eq!(rules().choose(std::iter::empty()), None);
    }

    #[test]
    fn only_what_may_be_and_is_worth_it_is_encoded() {
        let page = Facts {
            status: 200,
            content_type: Some(b"Text/HTML; charset=utf-8"),
            length: Some(1000),
            ..Facts::default()
        };
        let verdict = |facts: Facts<'_>| rules().verdict(&facts, Some(Coding::Gzip));
        assert_eq!(verdict(page), Verdict::Encoded(Coding::Gzip));
        assert_eq!(verdict(Facts { length: None, ..page }), Verdict::Encoded(Coding::Gzip));
        assert_eq!(verdict(Facts { status: 404, ..page }), Verdict::Encoded(Coding::Gzip));
        assert_eq!(
            verdict(Facts { content_type: Some(b"application/ld+json"), ..page }),
            Verdict::Encoded(Coding::Gzip)
        );
        assert_eq!(rules().verdict(&page, None), Verdict::Varies);
        assert_eq!(verdict(Facts { status: 304, length: None, ..page }), Verdict::Varies);
        assert_eq!(verdict(Facts { status: 304, content_type: None, length: None, ..page }), Verdict::Varies);
        for untouched in [
            Facts { length: Some(999), ..page },
            Facts { is_encoded: true, ..page },
            Facts { is_part: true, status: 206, ..page },
            Facts { is_part: true, status: 416, ..page },
            Facts { is_fixed: true, ..page },
            Facts { status: 204, ..page },
            Facts { content_type: None, ..page },
            Facts { content_type: Some(b"image/png"), ..page },
            Facts { content_type: Some(b"application/grpc"), ..page },
            Facts { content_type: Some(b"application/jsonx"), ..page },
        ] {
            assert_eq!(verdict(untouched), Verdict::Untouched, "{untouched:?}");
        }
    }

    #[test]
    fn a_strong_validator_becomes_a_weak_one() {
        assert_eq!(weakened(b"\"abc\""), Some(b"W/\"abc\"".to_vec()));
        assert_eq!(weakened(b"W/\"abc\""), None);
        assert!(forbids(b"max-age=1, No-Transform") && !forbids(b"no-transform-at-all, private"));
    }

    #[test]
    fn a_media_type_has_one_star_at_most() {
        for wrong in ["text", "/html", "text/", "*/*", "te xt/a", "text/a;q=1"] {
            assert_eq!(MediaType::new(wrong), None, "{wrong}");
        }
        let any = MediaType::new("application/*+json").expect("a media type");
        assert!(any.matches(b"application/problem+JSON ;x") && !any.matches(b"application/json"));
        assert!(!any.matches(b"application/+jso"));
    }
}
