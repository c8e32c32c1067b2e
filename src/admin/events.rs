//! `/v1/events`: what has changed, as a list, or as a stream of server-sent events that can be resumed.
//!
//! The format is the HTML standard's, section 9.2: a stream names each event by its number, and whoever comes back says the
//! last one in `Last-Event-ID`. Events that left the journal in between are told as an event named `missed`.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HeaderMap, HeaderName};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::answer::{self, Answer, Frames, Refusal};
use crate::control::event_json;
use crate::control::journal::{Journal, News, Subscription};

/// Frames that wait for the connection; more wait in the journal.
const FRAMES_MAX: usize = 8;

/// A stream without an event shows by a comment that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A reader that takes nothing for so long loses its stream.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What a new stream says first: how soon to come back when it breaks, in milliseconds.
const PREFACE: &[u8] = b"retry: 1000\n\n";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Whether a stream is asked for.
pub(super) fn wants_stream(fields: &HeaderMap) -> bool {
    let values = fields.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .filter_map(|kind| kind.split(';').next())
        .any(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// The number that is asked from: where a stream broke off, else `after` of the query, else 0.
pub(super) fn seen(fields: &HeaderMap, after: Option<&str>) -> Result<u64, Refusal> {
    let resumed = fields.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let Some(text) = resumed.or(after) else { return Ok(0) };
    text.parse()
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "after is the number of an event, such as 17"))
}

/// The events after a number, as an array.
pub(super) fn list(journal: &Journal, after: u64) -> Answer {
    let events: Vec<Value> =
        journal.after(after).events.iter().map(|event| event_json::event(event)).collect();
    answer::json(StatusCode::OK, &events)
}

/// The events after a number and those to come, until the reader leaves or `stopped` closes.
pub(super) fn stream(
    journal: &Arc<Journal>,
    after: u64,
    places: &Arc<Semaphore>,
    stopped: watch::Receiver<()>,
) -> Result<Answer, Refusal> {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        let detail = "there are as many streams of events already as admin.limits allows";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let (frames, body) = mpsc::channel(FRAMES_MAX);
    tokio::spawn(feed(journal.subscribe(after), frames, stopped, place));
    Ok(answer::stream("text/event-stream", Frames(body)))
}

/// Writes frames until there is nobody to write for.
async fn feed(
    mut events: Subscription,
    frames: mpsc::Sender<Bytes>,
    mut stopped: watch::Receiver<()>,
    _place: OwnedSemaphorePermit,
) {
    let mut frame = Bytes::from_static(PREFACE);
    loop {
        match timeout(STALL_TIMEOUT, frames.send(frame)).await {
            Ok(Ok(())) => {}
            // The reader has gone, or sleeps.
            Ok(Err(_)) | Err(_) => return,
        }
        frame = tokio::select! {
            news = events.next() => text(&news).into(),
            () = sleep(HEARTBEAT) => Bytes::from_static(b":\n\n"),
            () = frames.closed() => return,
            // Nothing is ever sent: it closes when the server stops.
            _ = stopped.changed() => return,
        };
    }
}

fn text(news: &News) -> String {
    match news {
        News::Event(event) => format!("id: {}\ndata: {}\n\n", event.id, event_json::event(event)),
        News::Missed { count, until } => {
            format!("id: {until}\nevent: missed\ndata: {{\"missed\":{count}}}\n\n")
        }
    }
}
