//! Request and response heads: found, checked and read in place (RFC 9112 sections 2 to 6).
//!
//! Strict where leniency has been an attack: lines end in CRLF, lengths are digits, one framing field, one host.
//! Nothing is copied; a head is a list of ranges into the buffer that holds it.

use std::mem::MaybeUninit;

use super::fields::{Field, Kind, Span, list_elements, parse_length};
use crate::model::host::split_authority;
use crate::model::method::Method;
use crate::proxy::error::Refusal;

/// Fields that are parsed without allocating. No limit of its own: where one allows more, a head that has more is parsed
/// once again.
pub const FIELDS_AT_HAND: usize = 256;

/// The refusal of a response head that has more fields than it may.
pub const TOO_MANY_FIELDS: &str = "it has too many fields";

/// Limits on one head.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes in all.
    pub head: usize,
    /// Fields.
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Whatever comes until the connection closes; answers only.
    UntilClose,
}

/// Minor version of HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    /// As it stands in a request line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// A request head; ranges are into the bytes that were parsed.
#[derive(Debug)]
pub struct RequestHead {
    /// Bytes of the head.
    pub length: usize,
    /// The method, recognized.
    pub method: Method,
    /// The method as sent.
    pub method_span: Span,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// The whole request target as sent.
    pub target: Span,
    /// Path; empty when an absolute target has none.
    pub path: Span,
    /// Query without its question mark.
    pub query: Option<Span>,
    /// Host and port: from the target if it is absolute, else from `Host`.
    pub authority: Span,
    /// Fields in order.
    pub fields: Vec<Field>,
    /// How the body ends.
    pub framing: Framing,
    /// What `Connection` and the version say of the connection.
    pub persistent: bool,
    /// `Expect: 100-continue` of an HTTP/1.1 request with a body.
    pub expects_continue: bool,
    /// `Upgrade` to something that is passed on.
    pub upgrade: bool,
}

/// A response head; ranges are into the bytes that were parsed.
#[derive(Debug)]
pub struct ResponseHead {
    /// Bytes of the head.
    pub length: usize,
    /// Status.
    pub status: u16,
    /// Reason phrase.
    pub reason: Span,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// Fields in order.
    pub fields: Vec<Field>,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the connection can carry another request after this answer.
    pub persistent: bool,
    /// Whether `Connection` names `upgrade`.
    pub upgrade: bool,
    /// `timeout` of `Keep-Alive`, seconds.
    pub keep_alive: Option<u32>,
}

/// What one pass over the fields found out.
#[derive(Debug, Default)]
struct Findings {
    hosts: usize,
    host: Span,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    nominated: bool,
    expect: Option<Span>,
    upgrade: bool,
    keep_alive_field: Option<Span>,
}

enum FieldFault {
    Malformed(&'static str),
    Coding,
}

/// Checks a start line before the rest has come, so that what is not HTTP is answered at once.
///
/// # Errors
/// [`Refusal`] when it is no HTTP/1 request line.
pub fn check_request_line(line: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
    let mut parts = line.split(|&b| b == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, parts.next()) else {
        return Err(Refusal::Malformed("the request line is not \"METHOD target HTTP/1.1\""));
    };
    if method.is_empty() || !method.iter().all(|&b| crate::model::field::is_token_byte(b)) {
        return Err(Refusal::Malformed("the method is no token"));
    }
    if target.len() > limits.target {
        return Err(Refusal::TargetTooLong);
    }
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Refusal::Version)
        }
        _ => Err(Refusal::Malformed("the request line does not end in an HTTP version")),
    }
}

/// Reads a complete request head, as [`Scanner`](super::scan::Scanner) has found it at the front of `bytes`. `fields` is an empty list
/// whose memory is used again.
///
/// # Errors
/// [`Refusal`] says what is wrong with it.
pub fn parse_request(bytes: &[u8], limits: &Limits, fields: Vec<Field>) -> Result<RequestHead, Refusal> {
    let mut scratch = [const { MaybeUninit::uninit() }; FIELDS_AT_HAND];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut scratch) {
        Err(httparse::Error::TooManyHeaders) if limits.fields > FIELDS_AT_HAND => {
            let mut scratch = vec![MaybeUninit::uninit(); limits.fields];
            let mut request = httparse::Request::new(&mut []);
            let parsed = request.parse_with_uninit_headers(bytes, &mut scratch);
            read_request(bytes, limits, fields, parsed, &request)
        }
        parsed => read_request(bytes, limits, fields, parsed, &request),
    }
}

/// What the parser made of a request head, checked.
fn read_request(
    bytes: &[u8],
    limits: &Limits,
    fields: Vec<Field>,
    parsed: httparse::Result<usize>,
    request: &httparse::Request<'_, '_>,
) -> Result<RequestHead, Refusal> {
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Refusal::Malformed("the header section is cut short")),
        Err(error) => return Err(refusal_of(error)),
    }
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(Refusal::Malformed("the request line is incomplete"));
    };
    let version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
    if target.len() > limits.target {
        return Err(Refusal::TargetTooLong);
    }
    if request.headers.len() > limits.fields {
        return Err(Refusal::TooManyFields);
    }
    let mut head = RequestHead {
        length: bytes.len(),
        method: Method::from_bytes(method.as_bytes()),
        method_span: Span::of(bytes, method.as_bytes()),
        version,
        target: Span::of(bytes, target.as_bytes()),
        path: Span::default(),
        query: None,
        authority: Span::default(),
        fields,
        framing: Framing::None,
        persistent: false,
        expects_continue: false,
        upgrade: false,
    };
    let findings = read_fields(bytes, request.headers, &mut head.fields).map_err(|fault| match fault {
        FieldFault::Malformed(why) => Refusal::Malformed(why),
        FieldFault::Coding => Refusal::Coding,
    })?;
    settle_host(bytes, &mut head, &findings)?;
    split_target(bytes, target.as_bytes(), &mut head)?;
    settle_request(bytes, &mut head, &findings)?;
    Ok(head)
}

fn refusal_of(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::Version => Refusal::Version,
        httparse::Error::HeaderName => Refusal::Malformed("a field name is no token"),
        httparse::Error::HeaderValue => Refusal::Malformed("a field value has a control character"),
        httparse::Error::NewLine => Refusal::Malformed("a line does not end in CRLF"),
        httparse::Error::Token => Refusal::Malformed("the request line is malformed"),
        httparse::Error::Status => Refusal::Malformed("the status line is malformed"),
    }
}

/// Turns the parser's fields into ranges, and notes what the engine acts on.
fn read_fields(
    bytes: &[u8],
    headers: &[httparse::Header<'_>],
    fields: &mut Vec<Field>,
) -> Result<Findings, FieldFault> {
    let mut found = Findings::default();
    for header in headers {
        let name = header.name.as_bytes();
        let kind = Kind::of(name);
        let value =
            if kind == Kind::ContentLength { without_leading_zeros(header.value) } else { header.value };
        let field = Field { name: Span::of(bytes, name), value: Span::of(bytes, value), kind };
        if kind != Kind::Other {
            note(&field, header.value, &mut found)?;
        }
        fields.push(field);
    }
    if found.chunked && found.length.is_some() {
        return Err(FieldFault::Malformed("both Content-Length and Transfer-Encoding are given"));
    }
    if found.nominated {
        drop_nominated(bytes, fields)?;
    }
    Ok(found)
}

/// `010` goes on as `10`: some would read the first as octal.
fn without_leading_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take(digits.len().saturating_sub(1)).take_while(|&&b| b == b'0').count();
    &digits[zeros..]
}

fn note(field: &Field, value: &[u8], found: &mut Findings) -> Result<(), FieldFault> {
    match field.kind {
        Kind::Host => {
            found.hosts += 1;
            found.host = field.value;
        }
        Kind::ContentLength => {
            let length = parse_length(value).ok_or(FieldFault::Malformed("Content-Length is no number"))?;
            if found.length.replace(length).is_some() {
                return Err(FieldFault::Malformed("Content-Length is given twice"));
            }
        }
        Kind::TransferEncoding => {
            if found.chunked {
                return Err(FieldFault::Malformed("Transfer-Encoding is given twice"));
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(FieldFault::Coding);
            }
            found.chunked = true;
        }
        Kind::Connection => {
            for option in list_elements(value) {
                match () {
                    () if option.eq_ignore_ascii_case(b"close") => found.close = true,
                    () if option.eq_ignore_ascii_case(b"keep-alive") => found.keep_alive = true,
                    () if option.eq_ignore_ascii_case(b"upgrade") => found.upgrade_option = true,
                    () => found.nominated = true,
                }
            }
        }
        // Several lines of one of these mean the list of all (RFC 9110 section 5.3); the first that is not the one
        // value understood decides.
        Kind::Expect if found.expect.is_none() || !value.eq_ignore_ascii_case(b"100-continue") => {
            found.expect = Some(field.value);
        }
        Kind::Upgrade => found.upgrade = true,
        Kind::KeepAlive => found.keep_alive_field = Some(field.value),
        _ => {}
    }
    Ok(())
}

/// Marks what `Connection` names as going no further (RFC 9110 section 7.6.1).
fn drop_nominated(bytes: &[u8], fields: &mut [Field]) -> Result<(), FieldFault> {
    let connections: Vec<Span> =
        fields.iter().filter(|f| f.kind == Kind::Connection).map(|f| f.value).collect();
    for option in connections.iter().flat_map(|span| list_elements(span.get(bytes))) {
        for field in fields.iter_mut().filter(|f| f.name.get(bytes).eq_ignore_ascii_case(option)) {
            match field.kind {
                // No honest sender calls these hop-by-hop; taking them away would change what the message is.
                Kind::Host
                | Kind::ContentLength
                | Kind::TransferEncoding
                | Kind::XForwardedFor
                | Kind::XForwardedProto
                | Kind::XForwardedHost
                | Kind::Forwarded
                | Kind::XRealIp
                | Kind::CfConnectingIp
                | Kind::ClientClaim => {
                    return Err(FieldFault::Malformed("Connection names a field that others rely on"));
                }
                // The engine acts on these itself.
                Kind::Connection | Kind::Upgrade | Kind::KeepAlive => {}
                _ => field.kind = Kind::HopByHop,
            }
        }
    }
    Ok(())
}

fn settle_host(bytes: &[u8], head: &mut RequestHead, found: &Findings) -> Result<(), Refusal> {
    if found.hosts > 1 {
        return Err(Refusal::Malformed("Host is given twice"));
    }
    if found.hosts == 0 && head.version == Version::Http11 {
        return Err(Refusal::Malformed("Host is missing"));
    }
    if split_authority(found.host.get(bytes)).is_none() {
        return Err(Refusal::Malformed("Host is not valid"));
    }
    head.authority = found.host;
    Ok(())
}

/// Reads the four forms of a request target (RFC 9112 section 3.2).
fn split_target(bytes: &[u8], target: &[u8], head: &mut RequestHead) -> Result<(), Refusal> {
    if head.method == Method::Connect {
        return Err(Refusal::Connect);
    }
    if !target.iter().all(|&b| (0x21..=0x7e).contains(&b) && b != b'#') {
        return Err(Refusal::Malformed("the request target has a character that must be percent-encoded"));
    }
    if target == b"*" {
        if head.method != Method::Options {
            return Err(Refusal::Malformed("only OPTIONS can be about the server as a whole"));
        }
        head.path = head.target;
        return Ok(());
    }
    let origin = if target.first() == Some(&b'/') { target } else { split_absolute(bytes, target, head)? };
    let (path, query) = match memchr::memchr(b'?', origin) {
        Some(mark) => (&origin[..mark], Some(Span::of(bytes, &origin[mark + 1..]))),
        None => (origin, None),
    };
    head.path = Span::of(bytes, path);
    head.query = query;
    Ok(())
}

/// Takes scheme and authority off an absolute target; the rest is what an origin-form target would be. The
/// authority of the target rules (RFC 9112 section 3.2.2); a `Host` that says otherwise is refused.
fn split_absolute<'a>(bytes: &[u8], target: &'a [u8], head: &mut RequestHead) -> Result<&'a [u8], Refusal> {
    let lower = target.get(..8).map(<[u8]>::to_ascii_lowercase).unwrap_or_default();
    let (rest, default_port) = if lower.starts_with(b"http://") {
        (&target[7..], 80)
    } else if lower.starts_with(b"https://") {
        (&target[8..], 443)
    } else {
        return Err(Refusal::Malformed("the request target is neither a path nor an http URL"));
    };
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(end);
    let named = split_authority(authority).filter(|(host, _)| !host.is_empty());
    let Some((host, port)) = named else {
        return Err(Refusal::Malformed("the host of the request target is not valid"));
    };
    let own = split_authority(head.authority.get(bytes)).unwrap_or_default();
    if !own.0.is_empty()
        && (!own.0.eq_ignore_ascii_case(host)
            || own.1.unwrap_or(default_port) != port.unwrap_or(default_port))
    {
        return Err(Refusal::Malformed("Host and request target name different hosts"));
    }
    // The default port adds nothing; without it the value is what the endpoint would see from an ordinary request.
    let value = if port.is_none_or(|p| p == default_port) { host } else { authority };
    head.authority = Span::of(bytes, value);
    Ok(origin)
}

fn settle_request(bytes: &[u8], head: &mut RequestHead, found: &Findings) -> Result<(), Refusal> {
    let http11 = head.version == Version::Http11;
    head.persistent = !found.close && (http11 || found.keep_alive);
    head.framing = match (found.chunked, found.length) {
        (true, _) if !http11 => return Err(Refusal::Malformed("HTTP/1.0 has no Transfer-Encoding")),
        (true, _) => Framing::Chunked,
        (false, Some(0) | None) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
    };
    if let Some(expect) = found.expect
        && http11
    {
        if !expect.get(bytes).eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::Expectation);
        }
        // Where Connection names it, it ends here (RFC 9110 section 7.6.1): the endpoint never hears of it, and nobody is
        // to wait for its 100.
        head.expects_continue =
            head.framing != Framing::None && head.fields.iter().any(|f| f.kind == Kind::Expect);
    }
    if found.upgrade && found.upgrade_option && http11 && head.framing == Framing::None {
        let offered = |wanted: fn(&[u8]) -> bool| {
            let lists = head.fields.iter().filter(|f| f.kind == Kind::Upgrade).map(|f| f.value.get(bytes));
            lists.flat_map(list_elements).any(wanted)
        };
        if offered(|protocol| protocol.eq_ignore_ascii_case(b"websocket")) {
            check_websocket(bytes, head)?;
        }
        head.upgrade = offered(|protocol| !is_h2c(protocol));
    }
    Ok(())
}

/// A WebSocket handshake without its key is none (RFC 6455 section 4.2.1); a key that `Connection` takes away is none
/// to the endpoint.
fn check_websocket(bytes: &[u8], head: &RequestHead) -> Result<(), Refusal> {
    let is_key =
        |f: &Field| f.kind == Kind::Other && f.name.get(bytes).eq_ignore_ascii_case(b"sec-websocket-key");
    let has_key = head.fields.iter().any(is_key);
    if head.method != Method::Get || !has_key {
        return Err(Refusal::Malformed("a WebSocket handshake is a GET with Sec-WebSocket-Key"));
    }
    Ok(())
}

/// HTTP/2 by upgrade would bypass everything that this proxy does to requests; it is never passed on.
#[must_use]
pub fn is_h2c(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"h2c") || protocol.get(..2).is_some_and(|p| p.eq_ignore_ascii_case(b"h2"))
}

/// Reads a complete response head. `head_request` and an upgrade asked for decide what its body can be.
///
/// # Errors
/// A text that says what is wrong with it; the endpoint is to blame.
pub fn parse_response(
    bytes: &[u8],
    limits: &Limits,
    to_head: bool,
    fields: Vec<Field>,
) -> Result<ResponseHead, &'static str> {
    // The parser would skip empty lines, which only requests may have in front (RFC 9112 section 2.2): here they are what
    // an earlier answer left behind.
    if !bytes.starts_with(b"HTTP/") {
        return Err("it does not open with a status line");
    }
    let parser = httparse::ParserConfig::default();
    let mut scratch = [const { MaybeUninit::uninit() }; FIELDS_AT_HAND];
    let mut response = httparse::Response::new(&mut []);
    match parser.parse_response_with_uninit_headers(&mut response, bytes, &mut scratch) {
        Err(httparse::Error::TooManyHeaders) if limits.fields > FIELDS_AT_HAND => {
            let mut scratch = vec![MaybeUninit::uninit(); limits.fields];
            let mut response = httparse::Response::new(&mut []);
            let parsed = parser.parse_response_with_uninit_headers(&mut response, bytes, &mut scratch);
            read_response(bytes, limits, to_head, fields, parsed, &response)
        }
        parsed => read_response(bytes, limits, to_head, fields, parsed, &response),
    }
}

/// What the parser made of a response head, checked.
fn read_response(
    bytes: &[u8],
    limits: &Limits,
    to_head: bool,
    fields: Vec<Field>,
    parsed: httparse::Result<usize>,
    response: &httparse::Response<'_, '_>,
) -> Result<ResponseHead, &'static str> {
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err("the header section is cut short"),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY_FIELDS),
        Err(_) => return Err("the header section is malformed"),
    }
    if response.headers.len() > limits.fields {
        return Err(TOO_MANY_FIELDS);
    }
    let version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let mut fields = fields;
    let found = read_fields(bytes, response.headers, &mut fields).map_err(|fault| match fault {
        FieldFault::Malformed(why) => why,
        FieldFault::Coding => "a transfer coding other than chunked",
    })?;
    let status = response.code.unwrap_or_default();
    if !(100..=999).contains(&status) {
        return Err("the status is no three-digit number");
    }
    let framing = response_framing(status, version, to_head, &found)?;
    Ok(ResponseHead {
        length: bytes.len(),
        status,
        reason: Span::of(bytes, response.reason.unwrap_or_default().as_bytes()),
        version,
        fields,
        framing,
        persistent: !found.close
            && (version == Version::Http11 || found.keep_alive)
            && framing != Framing::UntilClose,
        upgrade: found.upgrade_option && found.upgrade,
        keep_alive: found.keep_alive_field.and_then(|span| keep_alive_timeout(span.get(bytes))),
    })
}

/// The length of a response body (RFC 9112 section 6.3).
fn response_framing(
    status: u16,
    version: Version,
    to_head: bool,
    found: &Findings,
) -> Result<Framing, &'static str> {
    if found.chunked && version == Version::Http10 {
        return Err("HTTP/1.0 has no Transfer-Encoding");
    }
    if to_head || (100..200).contains(&status) || status == 204 || status == 304 {
        return Ok(Framing::None);
    }
    Ok(match (found.chunked, found.length) {
        (true, _) => Framing::Chunked,
        (false, Some(0)) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    })
}

/// `timeout=N` of a `Keep-Alive` field (RFC 2068 section 19.7.1; what endpoints announce today).
fn keep_alive_timeout(value: &[u8]) -> Option<u32> {
    list_elements(value)
        .filter_map(|parameter| parameter.strip_prefix(b"timeout="))
        .find_map(|seconds| std::str::from_utf8(seconds).ok()?.parse().ok())
}

#[cfg(test)]
#[path = "head/tests.rs"]
mod tests;
