//! Where a listener binds and where an endpoint lives.

use std::fmt;
use std::net::SocketAddr;

/// The address of an endpoint that traffic can be sent to.
///
/// Names (DNS, SRV) and unix sockets join as variants when they are supported; nothing outside matches on a bare `SocketAddr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// An IP address with a port.
    Ip(SocketAddr),
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
    /// A host name where only IP addresses are understood so far.
    #[error("host names are not supported yet")]
    Name,
    /// A `unix:` path where only IP addresses are understood so far.
    #[error("unix sockets are not supported here yet")]
    Unix,
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
        return Err(if is_name(text) || text.parse::<std::net::IpAddr>().is_ok() {
            AddressError::Port
        } else {
            AddressError::Malformed
        });
    };
    if !port.parse::<u16>().is_ok_and(|p| p != 0) {
        return Err(AddressError::Port);
    }
    Err(if is_name(host) || host.starts_with("srv:") { AddressError::Name } else { AddressError::Malformed })
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().any(|b| b.is_ascii_alphabetic())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_')
}

impl EndpointAddress {
    /// Reads the address of an endpoint.
    ///
    /// # Errors
    /// As [`parse_socket`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        parse_socket(text).map(Self::Ip)
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_address_says_what_is_wrong() {
        assert!(EndpointAddress::parse("10.0.0.1:80").is_ok());
        assert!(EndpointAddress::parse("[::1]:80").is_ok());
        for (text, error) in [
            ("10.0.0.1", AddressError::Port),
            ("10.0.0.1:0", AddressError::Port),
            ("10.0.0.1:http", AddressError::Port),
            ("app.internal:80", AddressError::Name),
            ("unix:/run/x", AddressError::Unix),
            ("::1:80:x y:80", AddressError::Malformed),
        ] {
            assert_eq!(EndpointAddress::parse(text), Err(error), "{text}");
        }
    }
}
