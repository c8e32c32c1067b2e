//! A TLS handshake, to its real end: with TLS 1.3 a server that refuses our certificate says so only after the handshake
//! is done for us, so its close is awaited too.

use std::time::Duration;

use tokio::time::timeout;

use super::Asked;
use super::outcome::Reading;
use super::wire::{Notes, connect_over};
use crate::control::tls::{TlsClient, is_tls_fault};
use crate::model::address::Address;

pub(super) async fn ask(tls: &TlsClient, address: Address, limit: Duration, notes: &Notes) -> Asked<Reading> {
    let mut wire = connect_over(Some(tls), &[], address, notes).await?;
    // Half of what is left, so that the wait itself never makes a timeout of a good handshake.
    let wait = limit.saturating_sub(notes.elapsed()) / 2;
    match timeout(wait, wire.finish()).await {
        Ok(Err(error)) if is_tls_fault(&error) => Err(Reading::fault("after the TLS handshake", &error)),
        // A server that takes its time to close, or closes roughly, has made the handshake all the same.
        _ => Ok(Reading::good("TLS handshake done")),
    }
}
