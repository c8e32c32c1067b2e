//! Where a listener binds and where an endpoint lives, by address or by name.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Where an endpoint is said to be: an address, or a name that stands for some.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// An IP address with a port.
    Ip(SocketAddr),
    /// A unix socket.
    Unix(UnixPath),
    /// A host name with a port: every address of the name (A and AAAA) is an endpoint.
    Host {
        /// The name.
        name: DnsName,
        /// The port.
        port: u16,
    },
    /// A service name: every address of every target of its SRV records (RFC 2782) is an endpoint.
    Service(DnsName),
}

/// Where a socket is: on the network, or in the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address with a port.
    Ip(SocketAddr),
    /// The path of a unix socket.
    Unix(UnixPath),
}

/// The path of a unix socket: a word, so that an address is copied whatever it is. Each path is kept for good, once, which are
/// as many as operators ever write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixPath(&'static str);

/// Every path that there was.
static PATHS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Bytes of the path of a unix socket: what `sun_path` has room for, without its last NUL (unix(7)).
pub const UNIX_PATH_MAX: usize = 107;

/// What a client of a unix socket is known by, which has no address: wherever one is needed, such as in records, it is
/// this. As no packet comes from it (RFC 1122 section 3.2.1.3), rules can name it too.
pub const UNIX_CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What endpoints are told in place of the address of a client that has none (RFC 7239 section 6.2).
pub const UNKNOWN_CLIENT: &str = "unknown";

impl UnixPath {
    /// Takes `text` as the absolute path of a socket.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        if text.len() > UNIX_PATH_MAX || !text.starts_with('/') || text.ends_with('/') || text.contains('\0')
        {
            return None;
        }
        let mut paths = PATHS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = paths.get(text) {
            return Some(Self(known));
        }
        let path: &'static str = Box::leak(text.into());
        paths.insert(path);
        Some(Self(path))
    }

    /// The path as text.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        self.0
    }

    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &'static Path {
        Path::new(self.0)
    }
}

impl fmt::Display for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:{}", self.as_str())
    }
}

impl fmt::Debug for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Address {
    /// Reads `"ip:port"`, `"[v6]:port"` or `"unix:/path"`.
    ///
    /// # Errors
    /// As [`parse_socket`], and [`AddressError::Path`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix("unix:") {
            Some(path) => UnixPath::new(path).map(Self::Unix).ok_or(AddressError::Path),
            None => parse_socket(text).map(Self::Ip),
        }
    }

    /// The address on the network, where it is one.
    #[must_use]
    pub const fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// What an authority names: the address, or this machine.
    #[must_use]
    pub fn host(&self) -> String {
        self.ip().map_or_else(|| "localhost".to_owned(), |address| address.to_string())
    }
}

impl From<UnixPath> for Address {
    fn from(path: UnixPath) -> Self {
        Self::Unix(path)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{path}"),
        }
    }
}

/// What connections to endpoints come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// What the system chooses.
    #[default]
    System,
    /// This address of this node.
    Own(IpAddr),
    /// The client's own address (IP_TRANSPARENT in ip(7)); what is for no client is as by the system.
    Client,
}

impl Source {
    /// The address that is written.
    #[must_use]
    pub const fn own(self) -> Option<IpAddr> {
        match self {
            Self::Own(address) => Some(address),
            Self::System | Self::Client => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => Ok(()),
            Self::Own(address) => write!(f, "{address}"),
            Self::Client => f.write_str("client"),
        }
    }
}

/// A name that DNS is asked for, in lower case; with a last dot only where it was written with one, which keeps search
/// domains away from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(Arc<str>);

/// Longest name that DNS has (RFC 1035 section 2.3.4), as text without its last dot.
pub const DNS_NAME_MAX: usize = 253;

/// Longest label of a name (RFC 1035 section 2.3.4).
const DNS_LABEL_MAX: usize = 63;

impl DnsName {
    /// Takes `text` as a name: labels of letters, digits, `-` and `_`; nothing that looks like an IP address.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            (1..=DNS_LABEL_MAX).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A last label of digits alone is an IPv4 address or a mistake in one (RFC 3696 section 2).
        let last_is_number =
            bare.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        (bare.len() <= DNS_NAME_MAX && !last_is_number && bare.split('.').all(label))
            .then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no endpoint address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No port, or a port that is no number between 1 and 65535.
    #[error("an address needs a port between 1 and 65535, as in \"10.0.0.1:8080\" or \"[::1]:8080\"")]
    Port,
    /// Neither an IP address nor a name.
    #[error("it is neither \"ip:port\" nor \"[v6]:port\"")]
    Malformed,
    /// A host name where only an IP address will do.
    #[error("it is a host name, and an IP address is needed")]
    Name,
    /// `srv:` without a service name.
    #[error("it has no service name behind \"srv:\"")]
    Service,
    /// A `unix:` path where only an IP address will do.
    #[error("it is a unix socket, and an IP address is needed")]
    Unix,
    /// `unix:` without the path of a file, or with one that is too long for a socket.
    #[error(
        "a unix socket needs an absolute path of at most {UNIX_PATH_MAX} bytes, as in \"unix:/run/app.sock\""
    )]
    Path,
}

/// Reads `"ip:port"` or `"[v6]:port"`.
///
/// # Errors
/// [`AddressError`] says what is missing; names and unix sockets are told apart from nonsense.
pub fn parse_socket(text: &str) -> Result<SocketAddr, AddressError> {
    if text.starts_with("unix:") {
        return Err(AddressError::Unix);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(AddressError::Port) } else { Ok(address) };
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(if is_name(text) || text.parse::<IpAddr>().is_ok() {
            AddressError::Port
        } else {
            AddressError::Malformed
        });
    };
    if !port.parse::<u16>().is_ok_and(|p| p != 0) {
        return Err(AddressError::Port);
    }
    Err(if is_name(host) { AddressError::Name } else { AddressError::Malformed })
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().any(|b| b.is_ascii_alphabetic())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_')
}

impl EndpointAddress {
    /// Reads the address of an endpoint: `"ip:port"`, `"[v6]:port"`, `"host:port"` or `"srv:name"`.
    ///
    /// # Errors
    /// As [`parse_socket`], but names are welcome.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(service) = text.strip_prefix("srv:") {
            return DnsName::new(service).map(Self::Service).ok_or(AddressError::Service);
        }
        let by_name = || {
            let (host, port) = text.rsplit_once(':')?;
            Some(Self::Host { name: DnsName::new(host)?, port: port.parse().ok()? })
        };
        match Address::parse(text) {
            Err(AddressError::Name) => by_name().ok_or(AddressError::Malformed),
            Ok(Address::Ip(address)) => Ok(Self::Ip(address)),
            Ok(Address::Unix(path)) => Ok(Self::Unix(path)),
            Err(error) => Err(error),
        }
    }

    /// The address itself, where it is one.
    #[must_use]
    pub const fn socket(&self) -> Option<Address> {
        match self {
            Self::Ip(address) => Some(Address::Ip(*address)),
            Self::Unix(path) => Some(Address::Unix(*path)),
            Self::Host { .. } | Self::Service(_) => None,
        }
    }

    /// What an endpoint is called that has no name: its address; of a path, names have no slash.
    #[must_use]
    pub fn default_name(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix:{}", path.as_str().trim_start_matches('/').replace('/', ".")),
            other => other.to_string(),
        }
    }

    /// What the endpoints that a name stands for are called by; empty for an address.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Ip(_) | Self::Unix(_) => "",
            Self::Host { name, .. } | Self::Service(name) => name.as_str(),
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{path}"),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Service(name) => write!(f, "srv:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_address_says_what_is_wrong() {
        for (text, error) in [
            ("10.0.0.1", AddressError::Port),
            ("10.0.0.1:0", AddressError::Port),
            ("10.0.0.1:http", AddressError::Port),
            ("app.internal", AddressError::Port),
            ("app.internal:0", AddressError::Port),
            ("app..internal:80", AddressError::Malformed),
            ("10.0.0.a.300:80", AddressError::Malformed),
            ("srv:", AddressError::Service),
            ("srv:_http._tcp.app:80", AddressError::Service),
            ("unix:run/x", AddressError::Path),
            ("unix:/run/", AddressError::Path),
            ("::1:80:x y:80", AddressError::Malformed),
        ] {
            assert_eq!(EndpointAddress::parse(text), Err(error), "{text}");
        }
        assert_eq!(parse_socket("app.internal:80"), Err(AddressError::Name));
        assert_eq!(parse_socket("unix:/run/x"), Err(AddressError::Unix));
        let longest = format!("unix:/{}", "x".repeat(UNIX_PATH_MAX - 1));
        assert_eq!(Address::parse(&longest).map(|address| address.to_string()), Ok(longest.clone()));
        assert_eq!(Address::parse(&format!("{longest}x")), Err(AddressError::Path));
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in [
            "10.0.0.1:80",
            "[::1]:80",
            "app-c.internal:8080",
            "localhost:1",
            "app.internal.:80",
            "srv:_http._tcp.app.internal",
            "unix:/run/app.sock",
        ] {
            assert_eq!(EndpointAddress::parse(text).map(|a| a.to_string()), Ok(text.to_owned()));
        }
        let upper = EndpointAddress::parse("App.Internal:80");
        assert_eq!(upper, EndpointAddress::parse("app.internal:80"), "names differ by more than case");
    }
}
