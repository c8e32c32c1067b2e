//! What a path of the admin API names, and which methods it takes. Names in paths are percent-encoded.

use hyper::Method;

use crate::model::name::{EndpointName, PoolName};

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    /// `/livez`
    Live,
    /// `/readyz`
    Ready,
    /// `/health`
    Health,
    /// `/health/pools/NAME`
    PoolHealth(PoolName),
    /// `/metrics`
    Metrics,
    /// `/v1/status`
    Status,
    /// `/v1/limits`
    Limits,
    /// `/v1/explain`
    Explain,
    /// `/v1/events`
    Events,
    /// `/v1/config`
    Config,
    /// `/v1/plan`
    Plan,
    /// `/v1/sessions`
    Sessions,
    /// `/v1/sessions/ID`
    Session(String),
    /// `/v1/reload`
    Reload,
    /// `/v1/reload/confirm`
    Confirm,
    /// `/v1/pools`
    Pools,
    /// `/v1/pools/NAME`
    Pool(PoolName),
    /// `/v1/pools/NAME/endpoints/ENDPOINT`
    Endpoint(PoolName, EndpointName),
    /// `/v1/pools/NAME/endpoints`
    Endpoints(PoolName),
    /// `/v1/pools/NAME/failover`
    Failover(PoolName),
}

impl Page {
    /// What `path` names; nothing where nothing is.
    pub(super) fn find(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match segments.as_slice() {
            ["livez"] => Self::Live,
            ["readyz"] => Self::Ready,
            ["health"] => Self::Health,
            ["health", "pools", pool] => Self::PoolHealth(pool_name(pool)?),
            ["metrics"] => Self::Metrics,
            ["v1", "status"] => Self::Status,
            ["v1", "limits"] => Self::Limits,
            ["v1", "explain"] => Self::Explain,
            ["v1", "events"] => Self::Events,
            ["v1", "config"] => Self::Config,
            ["v1", "plan"] => Self::Plan,
            ["v1", "sessions"] => Self::Sessions,
            ["v1", "sessions", id] => Self::Session(decode(id)?),
            ["v1", "reload"] => Self::Reload,
            ["v1", "reload", "confirm"] => Self::Confirm,
            ["v1", "pools"] => Self::Pools,
            ["v1", "pools", pool] => Self::Pool(pool_name(pool)?),
            ["v1", "pools", pool, "failover"] => Self::Failover(pool_name(pool)?),
            ["v1", "pools", pool, "endpoints"] => Self::Endpoints(pool_name(pool)?),
            ["v1", "pools", pool, "endpoints", endpoint] => {
                Self::Endpoint(pool_name(pool)?, EndpointName::new(&decode(endpoint)?).ok()?)
            }
            _ => return None,
        })
    }

    /// Whether it is about health, which the open listener tells anybody.
    pub(super) const fn is_health(&self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Health | Self::PoolHealth(_))
    }

    /// The methods that it takes, as `Allow` lists them.
    pub(super) const fn methods(&self) -> &'static str {
        match self {
            Self::Endpoint(..) => "DELETE, PATCH",
            Self::Endpoints(_) => "POST",
            Self::Session(_) => "DELETE",
            Self::Failover(_) | Self::Reload | Self::Confirm | Self::Plan => "POST",
            _ => "GET, HEAD",
        }
    }

    /// Whether it takes this one.
    pub(super) fn takes(&self, method: &Method) -> bool {
        self.methods().split(", ").any(|taken| taken == method.as_str())
    }
}

fn pool_name(segment: &str) -> Option<PoolName> {
    PoolName::new(&decode(segment)?).ok()
}

/// Undoes percent-encoding (RFC 3986 section 2.1); nothing when it is broken or not UTF-8.
pub(super) fn decode(segment: &str) -> Option<String> {
    let mut bytes = segment.bytes();
    let mut decoded = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' { hex(bytes.next()?)? << 4 | hex(bytes.next()?)? } else { byte });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The parameters of a query, as they are written; a value is empty where there is none.
pub(super) fn parameters(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The value of the first parameter of this name in a query; empty where it has none.
pub(super) fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    parameters(query).find_map(|(key, value)| (key == name).then_some(value))
}

/// Whether a parameter stands in a query and does not say `false`.
pub(super) fn flag(query: Option<&str>, name: &str) -> bool {
    parameter(query, name).is_some_and(|value| value != "false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_and_what_is_no_name_is_nowhere() {
        let endpoint = |pool: &str, name: &str| {
            Some(Page::Endpoint(PoolName::new(pool).ok()?, EndpointName::new(name).ok()?))
        };
        assert_eq!(Page::find("/v1/pools/api/endpoints/10.0.0.1:80"), endpoint("api", "10.0.0.1:80"));
        assert_eq!(Page::find("/v1/pools/a%70i/endpoints/%5B%3a%3A1%5d:80"), endpoint("api", "[::1]:80"));
        for path in [
            "",
            "livez",
            "/livez/",
            "/health/pools/",
            "/health/pools/a%2Fb",
            "/v1/pools/a%",
            "/v1/pools/a%4",
            "/v1/pools/a%+1",
            "/v1/pools/%ff",
            "/v1/pools/api/endpoints/",
        ] {
            assert_eq!(Page::find(path), None, "{path}");
        }
    }

    #[test]
    fn flags_stand_or_say_false() {
        assert!(flag(Some("local"), "local") && flag(Some("a=b&force=1"), "force"));
        assert!(
            !flag(Some("force=false"), "force") && !flag(Some("forced"), "force") && !flag(None, "force")
        );
        assert_eq!(parameter(Some("after=17&x"), "after"), Some("17"));
    }
}
