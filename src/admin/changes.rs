//! Requests that change something: the body read within bounds, what it says held against what may be said, the answer of
//! control as a status.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::body::{Body, Bytes};
use serde::Deserialize;
use tokio::time::timeout;

use super::answer::Refusal;
use crate::control::change::{Addition, AdminState, ChangeError, EndpointChange, FailoverTarget};
use crate::model::address::EndpointAddress;
use crate::model::name::{EndpointName, LABEL_MAX, PoolName};
use crate::model::units::Weight;

/// Bytes of a body.
const BODY_MAX: usize = 4 * 1024;
/// A whole body, from the end of its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// `PATCH /v1/pools/NAME/endpoints/ENDPOINT`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointPatch {
    admin_state: Option<String>,
    weight: Option<u16>,
}

/// `POST /v1/pools/NAME/endpoints`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewEndpoint {
    address: String,
    name: Option<String>,
    weight: Option<u16>,
    #[serde(default)]
    tier: u8,
    #[serde(default)]
    zone: String,
}

/// Bytes of a zone's name.
const ZONE_MAX: usize = 128;

/// `POST /v1/pools/NAME/failover`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailoverOrder {
    to: String,
}

/// The whole body of a request that changes one thing.
pub(super) async fn read<B>(body: B) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    read_up_to(body, BODY_MAX).await
}

/// The whole body of a request, of so many bytes at most.
pub(super) async fn read_up_to<B>(body: B, most: usize) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {most} bytes here")))
        }
        Ok(Err(_)) => Err(bad("the body broke off")),
        Err(_elapsed) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

/// What a PATCH of an endpoint asks for.
pub(super) fn endpoint(
    pool: PoolName,
    endpoint: EndpointName,
    force: bool,
    body: &[u8],
) -> Result<EndpointChange, Refusal> {
    let EndpointPatch { admin_state, weight } = parse(body)?;
    let state = admin_state.map(|word| admin_state_of(&word)).transpose()?;
    let weight = weight.map(weight_of).transpose()?;
    if state.is_none() && weight.is_none() {
        return Err(bad("nothing is to change: give admin_state, weight or both"));
    }
    Ok(EndpointChange { pool, endpoint, state, weight, force })
}

/// The endpoint that a POST adds.
pub(super) fn addition(pool: PoolName, body: &[u8]) -> Result<Addition, Refusal> {
    let NewEndpoint { address, name, weight, tier, zone } = parse(body)?;
    let address = EndpointAddress::parse(&address)
        .map_err(|error| bad(format!("address cannot be \"{address}\": {error}")))?;
    let name = name.unwrap_or_else(|| address.to_string());
    let name =
        EndpointName::new(&name).map_err(|error| bad(format!("name cannot be \"{name}\": {error}")))?;
    if address.socket().is_none() && name.as_str().len() > LABEL_MAX {
        return Err(bad(format!("the name of endpoints by DNS has at most {LABEL_MAX} bytes")));
    }
    if zone.len() > ZONE_MAX {
        return Err(bad(format!("zone has at most {ZONE_MAX} bytes")));
    }
    let weight = weight_of(weight.unwrap_or(1))?;
    Ok(Addition { pool, name, address, weight, tier, zone })
}

/// Where a POST of a failover sends the pool's traffic.
pub(super) fn failover(body: &[u8]) -> Result<FailoverTarget, Refusal> {
    let FailoverOrder { to } = parse(body)?;
    if to == "home" {
        return Ok(FailoverTarget::Home);
    }
    let pool = PoolName::new(&to).map_err(|error| bad(format!("to is no name of a pool: {error}")))?;
    Ok(FailoverTarget::Pool(pool))
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| bad(format!("the body is not what this path takes: {error}")))
}

fn admin_state_of(word: &str) -> Result<AdminState, Refusal> {
    let state = AdminState::ALL.into_iter().find(|state| state.word() == word);
    state.ok_or_else(|| bad("admin_state is ready, drain or maintenance"))
}

fn weight_of(weight: u16) -> Result<Weight, Refusal> {
    Weight::new(weight).ok_or_else(|| bad(format!("weight is a number from 0 to {}", Weight::MAX)))
}

fn bad(detail: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, detail)
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        let status = match &error {
            ChangeError::NoPool(_) | ChangeError::NoEndpoint(..) => StatusCode::NOT_FOUND,
            // What the body names is wrong, not what the path names.
            ChangeError::NoTarget(..) => StatusCode::BAD_REQUEST,
            ChangeError::Guarded(_) | ChangeError::Impossible(_) => StatusCode::CONFLICT,
            ChangeError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::NameError;

    #[test]
    fn a_patch_says_what_changes_and_what_stays() -> Result<(), NameError> {
        let (pool, name) = (PoolName::new("api")?, EndpointName::new("a:80")?);
        let read = |body: &str| endpoint(pool.clone(), name.clone(), false, body.as_bytes());
        for (body, state, weight) in [
            (r#"{"admin_state":"drain"}"#, Some(AdminState::Drain), None),
            (r#"{"weight":0}"#, None, Weight::new(0)),
            (r#"{"admin_state":"ready","weight":1000}"#, Some(AdminState::Ready), Weight::new(1000)),
        ] {
            let change = read(body).expect("a change");
            assert_eq!((change.state, change.weight), (state, weight), "{body}");
        }
        for body in [
            "",
            "[]",
            "{}",
            r#"{"admin_state":null}"#,
            r#"{"admin_state":"Ready"}"#,
            r#"{"weight":1001}"#,
            r#"{"weight":-1}"#,
            r#"{"weight":"5"}"#,
            r#"{"admin_state":"ready","tier":1}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
        Ok(())
    }

    #[test]
    fn an_endpoint_is_added_with_what_is_said_and_defaults() -> Result<(), NameError> {
        let pool = PoolName::new("api")?;
        let read = |body: &str| addition(pool.clone(), body.as_bytes());
        let plain = read(r#"{"address":"10.0.0.1:80"}"#).expect("an endpoint");
        assert_eq!((plain.name.as_str(), plain.weight.get(), plain.tier), ("10.0.0.1:80", 1, 0));
        let all = r#"{"address":"app.internal:80","name":"c","weight":5,"tier":2,"zone":"b"}"#;
        let all = read(all).expect("an endpoint");
        assert_eq!((all.name.as_str(), all.weight.get(), all.tier, all.zone.as_str()), ("c", 5, 2, "b"));
        for body in [
            "{}",
            r#"{"address":"10.0.0.1"}"#,
            r#"{"address":"10.0.0.1:80","name":"a/b"}"#,
            r#"{"address":"10.0.0.1:80","weight":1001}"#,
            r#"{"address":"10.0.0.1:80","tier":256}"#,
            r#"{"address":"10.0.0.1:80","max":1}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
        Ok(())
    }

    #[test]
    fn a_failover_names_a_pool_or_home() {
        assert_eq!(failover(br#"{"to":"home"}"#).ok(), Some(FailoverTarget::Home));
        assert_eq!(failover(br#"{"to":"dr"}"#).ok(), PoolName::new("dr").ok().map(FailoverTarget::Pool));
        assert!(failover(br#"{"to":""}"#).is_err());
        assert!(failover(br#"{}"#).is_err());
    }
}
