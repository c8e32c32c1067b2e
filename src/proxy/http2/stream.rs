//! One stream of a client's connection: one request, checked, handled, answered.

use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::SendResponse;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::client::ClientSide;
use super::wire::Gate;
use crate::proxy::bridge::exchange::Bridge;
use crate::proxy::bridge::request::Request;
use crate::proxy::bridge::upload::Upload;
use crate::proxy::bridge::{ClientHalf, Frame};
use crate::proxy::connection::Client;
use crate::proxy::error::Error;
use crate::proxy::forwarded;
use crate::proxy::http1::fields::Kind;
use crate::proxy::http1::head::Limits;
use crate::proxy::request::{self, Context, Fate};
use crate::runtime::listener::Listener;

/// Handles the request that has come on a stream.
pub async fn run(
    client: &Client,
    gate: &Gate,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let start = Instant::now();
    let Some(snapshot) = client.snapshot() else { return };
    let Some(listener) = client.listener(&snapshot) else { return };
    let worker = &*client.worker;
    let (mut parts, body) = request.into_parts();
    let (ended, protocol) = (body.is_end_stream(), parts.extensions.remove::<Protocol>());
    let scheme = if client.stream.tls().is_some() { "https" } else { "http" };
    let mut request = Request::new(parts, scheme, client.source().ip().to_canonical());
    let limits = Limits { head: listener.head_max, fields: listener.fields_max, target: listener.target_max };
    let settled = request.settle(&limits, ended, protocol.as_ref().map(Protocol::as_str));
    let trusted = listener.believes(client.source().ip());
    if trusted {
        request.source = source(client, listener, &request);
    }
    let given = request.parts.headers.get("x-request-id").filter(|_| trusted);
    let id = request::request_id(worker, given.map(|value| value.as_bytes()));
    let timer = worker.timers.timer();
    let context = Context {
        worker,
        snapshot: &snapshot,
        listener,
        timer: &timer,
        peer: client.peer,
        client,
        trusted,
        tls: client.secured(),
        request_id: &id,
        start,
        head: Duration::ZERO,
        version: "HTTP/2",
    };
    let mut half = ClientSide::new(gate, body, respond);
    // Reset together with its head, perhaps: then nobody else hears of it.
    let gone = poll_fn(|cx| Poll::Ready(half.poll_gone(cx).is_ready())).await;
    let mut bridge = Bridge::new(worker, Some(client), listener, &timer, request, half);
    let mut fate = Fate::Ended;
    match settled {
        _ if gone => request::abandoned(&context, &bridge),
        Err(refusal) => request::refuse(&context, &mut bridge, refusal).await,
        Ok(()) => {
            bridge.upload = Upload::new(bridge.request.framing);
            fate = request::handle(&context, &mut bridge).await;
            while fate == Fate::Outdated {
                // Where the listener has been removed, the request ends with what it began with.
                let Some(snapshot) = client.snapshot() else { break };
                // Whether the listener trusts this peer was decided when the head came.
                let Some(listener) = client.listener(&snapshot) else { break };
                let context = Context { snapshot: &snapshot, listener, ..context };
                fate = request::handle(&context, &mut bridge).await;
            }
        }
    }
    end(&mut bridge, gate, fate).await;
}

/// Ends the stream of a request that has been handled, so that the client takes nothing for a whole answer that is none.
async fn end(bridge: &mut Bridge<'_, ClientSide<'_>>, gate: &Gate, fate: Fate) {
    if bridge.started && bridge.upload.lacks_only_its_end() {
        hear_its_end(bridge, bridge.listener.limits.linger).await;
    }
    if bridge.half.has_gone() && !bridge.started {
        gate.cancelled();
    } else if !bridge.started {
        bridge.half.abort(if fate == Fate::Dropped { &Error::Dropped } else { &Error::Reset });
    }
}

/// Waits for the end of a body of which everything else has come. A stream that is given up before is reset: though
/// RFC 9113 section 8.1 has clients keep their answer then, some take it for a failure.
async fn hear_its_end(bridge: &mut Bridge<'_, ClientSide<'_>>, linger: Duration) {
    bridge.timer.set(Instant::now() + linger);
    let ended = poll_fn(|cx| match bridge.half.poll_frame(cx) {
        Poll::Ready(Some(Ok(Frame::Data(data)))) if data.is_empty() && !bridge.half.is_ended() => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        polled => polled.map(drop),
    });
    bridge.timer.within(ended).await.ok();
}

/// The client's address as a trusted peer tells it.
fn source(client: &Client, listener: &Listener, request: &Request) -> std::net::IpAddr {
    let fields: Vec<(Kind, &[u8])> = request.kinds().collect();
    forwarded::client_of(listener, client.source().ip(), fields.into_iter())
}
