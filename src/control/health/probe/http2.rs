//! What probes over HTTP/2 have in common: one request on a connection of its own.

use std::future::Future;
use std::pin::pin;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{Request, Response};

use super::Asked;
use super::outcome::Reading;
use super::wire::Wire;

/// Bytes of an answer's fields, decoded.
const FIELDS_MAX: u32 = 64 * 1024;

/// Makes one request, with `message` as its body where there is one, and reads the answer, of which no more than
/// `window` bytes come. The connection lasts until `read` is done.
pub(super) async fn converse<T, F: Future<Output = Asked<T>>>(
    wire: Wire,
    window: usize,
    request: Request<()>,
    message: Option<Vec<u8>>,
    read: impl FnOnce(Response<RecvStream>) -> F,
) -> Asked<T> {
    let (sender, connection) = h2::client::Builder::new()
        .enable_push(false)
        .max_header_list_size(FIELDS_MAX)
        .initial_window_size(u32::try_from(window).unwrap_or(u32::MAX >> 1))
        .handshake::<_, Bytes>(wire)
        .await
        .map_err(|error| broken(&error))?;
    let mut answered = pin!(async {
        let mut sender: SendRequest<Bytes> = sender.ready().await.map_err(|error| broken(&error))?;
        let (answer, mut body) =
            sender.send_request(request, message.is_none()).map_err(|error| broken(&error))?;
        if let Some(message) = message {
            body.send_data(message.into(), true).map_err(|error| broken(&error))?;
        }
        let answer = answer.await.map_err(|error| broken(&error))?;
        // Kept until the answer is read: h2 ends the connection when nobody can send any more.
        let read = read(answer).await;
        drop(sender);
        read
    });
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        read = &mut answered => read,
        // What ended the connection is in the answer's error too.
        _ = &mut connection => answered.await,
    }
}

/// A fault on the way. A stream that the server resets is an answer of sorts, but none about health.
pub(super) fn broken(error: &h2::Error) -> Reading {
    match error.get_io() {
        Some(fault) => Reading::fault("before a complete answer", fault),
        None => Reading::broken(format!("broken HTTP/2: {error}")),
    }
}
