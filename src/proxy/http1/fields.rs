//! Header fields as byte ranges of the head they stand in, each recognized once.

/// A range of bytes in the buffer that holds a head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The range of `part` within `whole`; `part` must be a slice of `whole`.
    #[inline]
    #[must_use]
    pub fn of(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        debug_assert!(part.is_empty() || start + part.len() <= whole.len());
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    /// The bytes; empty when the range is not in `whole`, which a caller's mistake would make it.
    #[inline]
    #[must_use]
    pub fn get(self, whole: &[u8]) -> &[u8] {
        whole.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Number of bytes.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.end == self.start
    }
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name as written.
    pub name: Span,
    /// Its value without surrounding white space.
    pub value: Span,
    /// What it is to us.
    pub kind: Kind,
}

/// Fields that the engine itself acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any other: goes on as it came.
    Other,
    /// Named in `Connection`, or one that never goes further (RFC 9110 section 7.6.1).
    HopByHop,
    /// A look-alike with underscores of a field that we set or act on; some gateways (CGI, WSGI) take it for the
    /// real one, so it never goes further.
    LookAlike,
    /// `Connection`
    Connection,
    /// `Content-Length`
    ContentLength,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Host`
    Host,
    /// `Expect`
    Expect,
    /// `Upgrade`
    Upgrade,
    /// `Max-Forwards`
    MaxForwards,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `X-Forwarded-Proto`
    XForwardedProto,
    /// `X-Forwarded-Host`
    XForwardedHost,
    /// `Forwarded`
    Forwarded,
    /// `X-Real-IP`
    XRealIp,
    /// `CF-Connecting-IP`
    CfConnectingIp,
    /// Another field in which proxies say of a client what we do not: `X-Forwarded-Port`, `True-Client-IP` and their kin.
    ClientClaim,
    /// `X-Client-Cert-Subject` or `X-Client-Cert-SHA256`
    ClientCertificate,
    /// `X-Request-Id`
    XRequestId,
    /// `traceparent`
    TraceParent,
    /// `tracestate`
    TraceState,
    /// `Accept`
    Accept,
    /// `Keep-Alive`
    KeepAlive,
}

impl Kind {
    /// Recognizes a field name, whatever its case.
    #[inline]
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        // The length alone rules out nearly everything.
        let candidates: &[(&[u8], Self)] = match name.len() {
            2 => &[(b"te", Self::HopByHop)],
            4 => &[(b"host", Self::Host)],
            6 => &[(b"accept", Self::Accept), (b"expect", Self::Expect)],
            7 => &[(b"upgrade", Self::Upgrade)],
            9 => &[(b"forwarded", Self::Forwarded), (b"x-real-ip", Self::XRealIp)],
            10 => &[
                (b"connection", Self::Connection),
                (b"keep-alive", Self::KeepAlive),
                (b"tracestate", Self::TraceState),
            ],
            11 => &[(b"x-client-ip", Self::ClientClaim), (b"traceparent", Self::TraceParent)],
            12 => &[(b"x-request-id", Self::XRequestId), (b"max-forwards", Self::MaxForwards)],
            14 => &[
                (b"content-length", Self::ContentLength),
                (b"http2-settings", Self::HopByHop),
                (b"true-client-ip", Self::ClientClaim),
            ],
            15 => &[(b"x-forwarded-for", Self::XForwardedFor)],
            16 => &[
                (b"x-forwarded-host", Self::XForwardedHost),
                (b"cf-connecting-ip", Self::CfConnectingIp),
                (b"proxy-connection", Self::HopByHop),
                (b"fastly-client-ip", Self::ClientClaim),
            ],
            17 => &[
                (b"x-forwarded-proto", Self::XForwardedProto),
                (b"transfer-encoding", Self::TransferEncoding),
            ],
            18 => &[(b"proxy-authenticate", Self::HopByHop)],
            19 => &[(b"proxy-authorization", Self::HopByHop), (b"x-cluster-client-ip", Self::ClientClaim)],
            20 => &[(b"x-client-cert-sha256", Self::ClientCertificate)],
            21 => &[(b"x-client-cert-subject", Self::ClientCertificate)],
            _ => &[],
        };
        match candidates.iter().find(|(known, _)| same_but_for_underscores(name, known)) {
            None => Self::of_family(name),
            Some((known, kind)) if name.eq_ignore_ascii_case(known) => *kind,
            Some(_) => Self::LookAlike,
        }
    }

    /// Every `X-Forwarded-` field that has no kind of its own.
    #[inline]
    fn of_family(name: &[u8]) -> Self {
        const FAMILY: &[u8] = b"x-forwarded-";
        match name.split_at_checked(FAMILY.len()) {
            Some((family @ [b'x' | b'X', ..], _)) if same_but_for_underscores(family, FAMILY) => {
                if family.eq_ignore_ascii_case(FAMILY) { Self::ClientClaim } else { Self::LookAlike }
            }
            _ => Self::Other,
        }
    }
}

#[inline]
fn same_but_for_underscores(name: &[u8], known: &[u8]) -> bool {
    name.iter().zip(known).all(|(&n, &k)| n.to_ascii_lowercase() == k || (n == b'_' && k == b'-'))
}

/// The elements of a comma-separated list, without surrounding white space; empty ones are skipped (RFC 9110
/// section 5.6.1.2).
pub fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|e| !e.is_empty())
}

/// A `Content-Length` value: digits only, no sign, no list (RFC 9110 section 8.6). Nothing when it is anything else
/// or larger than a file can be.
#[must_use]
pub fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length = value.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    i64::try_from(length).is_ok().then_some(length)
}

/// Fields that frame, route, authenticate or control a request mean nothing good in a trailer (RFC 9110 section
/// 6.5.1).
#[must_use]
pub fn may_trail(name: &[u8]) -> bool {
    const NEVER: [&str; 10] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "range",
        "set-cookie",
        "www-authenticate",
        "age",
    ];
    matches!(Kind::of(name), Kind::Other) && !NEVER.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognized_whatever_their_case() {
        assert_eq!(Kind::of(b"HOST"), Kind::Host);
        assert_eq!(Kind::of(b"transfer-Encoding"), Kind::TransferEncoding);
        assert_eq!(Kind::of(b"X-Custom"), Kind::Other);
        assert_eq!(Kind::of(b"Content_Length"), Kind::LookAlike);
        assert_eq!(Kind::of(b"x_forwarded-for"), Kind::LookAlike);
        assert_eq!(Kind::of(b"X-Forwarded-Port"), Kind::ClientClaim);
        assert_eq!(Kind::of(b"x-forwarded-access-token"), Kind::ClientClaim);
        assert_eq!(Kind::of(b"x-forwarded_port"), Kind::LookAlike);
        assert_eq!(Kind::of(b"X_Forwarded_Port"), Kind::LookAlike);
        assert_eq!(Kind::of(b"True-Client-IP"), Kind::ClientClaim);
        assert_eq!(Kind::of(b"True_Client_IP"), Kind::LookAlike);
        assert_eq!(Kind::of(b"x-forwarded"), Kind::Other);
    }

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        assert_eq!(parse_length(b"010"), Some(10));
        for wrong in ["", "+5", "-1", "5x", "5, 5", "0x5", "18446744073709551621", "9999999999999999999"] {
            assert_eq!(parse_length(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
