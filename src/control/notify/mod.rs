//! Sinks of `[[notify]]`: each follows the journal on a thread beside control and tells a webhook or a program.
//!
//! | file | owns |
//! |---|---|
//! | `queue.rs` | what waits for a sink, and what is dropped |
//! | `webhook.rs` | one POST |
//! | `exec.rs` | one run of a program |
//!
//! A sink never holds anybody up: while it is busy, events wait in its own bounded queue. Retrying is decided here.

mod exec;
mod queue;
pub(super) mod webhook;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::event_json;
use super::journal::{Event, Journal, Kind, Subscription};
use crate::config::notify::{self as config, Notify, Topic};
use crate::telemetry::metrics::{NOTIFICATIONS, Sink as MetricSink};
use exec::Program;
use queue::Queue;
pub use webhook::AddressError;
use webhook::Webhook;

/// The first pause before a webhook is asked again; doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// An event that a webhook has not taken for so long is given up.
const RETRY_FOR: Duration = Duration::from_secs(600);

/// Where events are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A POST of JSON to this URL.
    Webhook(String),
    /// A program with its arguments, the JSON on its standard input; no shell.
    Exec(Vec<String>),
}

/// One sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where events are told.
    pub target: Target,
    /// The kinds that are told.
    pub kinds: Vec<Kind>,
}

impl From<&Notify> for Settings {
    fn from(written: &Notify) -> Self {
        let target = match &written.sink {
            config::Sink::Webhook(webhook) => Target::Webhook(webhook.url().to_owned()),
            config::Sink::Exec(command) => Target::Exec(command.clone()),
        };
        Self { target, kinds: written.events.iter().flat_map(|topic| kinds(*topic)).copied().collect() }
    }
}

/// The kinds that a topic of the configuration covers. An alarm may be about either a pool or ourselves.
const fn kinds(topic: Topic) -> &'static [Kind] {
    match topic {
        Topic::Endpoint => &[Kind::Endpoint],
        Topic::Tier => &[Kind::Tier],
        Topic::Pool => &[Kind::Pool, Kind::Leader, Kind::Alarm],
        Topic::Breaker => &[Kind::Breaker],
        Topic::Reload => &[Kind::Reload],
        Topic::Process => &[Kind::Process, Kind::Alarm],
    }
}

/// Why sinks could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// A webhook's URL cannot be used.
    #[error("the webhook of notify {place} cannot be used: {error}")]
    Address {
        /// Its place in the file, from 1.
        place: usize,
        /// Why.
        error: AddressError,
    },
    /// No program is given.
    #[error("exec of notify {0} names no program")]
    NoProgram(usize),
    /// The thread cannot be started.
    #[error("the thread of notify cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// The sinks at work. Dropping it lets them end after what they are just doing.
#[derive(Debug)]
pub struct Notifier {
    tallies: Vec<Arc<Tally>>,
    stop: watch::Sender<bool>,
    /// Closed when the thread ends.
    ended: mpsc::Receiver<()>,
}

/// What one sink has done.
#[derive(Debug, Default)]
struct Tally {
    name: String,
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Notifier {
    /// Starts a sink for each of `settings`, on a thread of their own; they are told what `journal` notes from `after` on.
    ///
    /// # Errors
    /// [`NotifyError`]; nothing is left running then.
    pub fn start(journal: &Arc<Journal>, after: u64, settings: &[Settings]) -> Result<Self, NotifyError> {
        let mut sinks = Vec::with_capacity(settings.len());
        for (index, settings) in settings.iter().enumerate() {
            sinks.push(Sink::new(index + 1, settings, journal.subscribe(after))?);
        }
        let tallies = sinks.iter().map(|sink| Arc::clone(&sink.tally)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let (alive, ended) = mpsc::sync_channel::<()>(1);
        std::thread::Builder::new().name("notify".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let mut tasks = JoinSet::new();
                for sink in sinks {
                    tasks.spawn(sink.run(stopped.clone()));
                }
                while tasks.join_next().await.is_some() {}
            });
            drop(alive);
        })?;
        Ok(Self { tallies, stop, ended })
    }

    /// Lets every sink tell what is there already, for `limit` at most; whether all were done by then.
    #[must_use]
    pub fn close(&self, limit: Duration) -> bool {
        self.stop.send_replace(true);
        self.ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Disconnected)
    }

    /// Tells `sink` what the sinks have done.
    pub fn collect(&self, sink: &mut dyn MetricSink) {
        for tally in &self.tallies {
            let results = [("sent", &tally.sent), ("failed", &tally.failed), ("dropped", &tally.dropped)];
            for (result, count) in results {
                let labels = [("sink", tally.name.as_str()), ("result", result)];
                sink.counter(&NOTIFICATIONS, &labels, count.load(Ordering::Relaxed));
            }
        }
    }
}

#[derive(Debug)]
enum Delivery {
    Webhook(Webhook),
    Exec(Program),
}

#[derive(Debug)]
struct Sink {
    delivery: Delivery,
    kinds: Vec<Kind>,
    events: Subscription,
    tally: Arc<Tally>,
}

impl Sink {
    fn new(place: usize, settings: &Settings, events: Subscription) -> Result<Self, NotifyError> {
        let (word, delivery) = match &settings.target {
            Target::Webhook(url) => {
                let webhook = Webhook::parse(url).map_err(|error| NotifyError::Address { place, error })?;
                ("webhook", Delivery::Webhook(webhook))
            }
            Target::Exec(command) => {
                let program = Program::new(command).ok_or(NotifyError::NoProgram(place))?;
                ("exec", Delivery::Exec(program))
            }
        };
        let tally = Arc::new(Tally { name: format!("{word}-{place}"), ..Tally::default() });
        Ok(Self { delivery, kinds: settings.kinds.clone(), events, tally })
    }

    /// Tells events, one at a time and in order, until `stopped` and nothing waits.
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut queue = Queue::new(self.kinds.clone());
        loop {
            while let Some(news) = self.events.ready() {
                queue.take(news);
            }
            self.tally.dropped.store(queue.dropped(), Ordering::Relaxed);
            let Some(event) = queue.next() else {
                tokio::select! {
                    biased;
                    news = self.events.next() => queue.take(news),
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                }
                continue;
            };
            let body = message(&event, queue.dropped()).to_string();
            let mut telling = std::pin::pin!(self.delivery.tell(body, event.id));
            let told = loop {
                tokio::select! {
                    told = &mut telling => break told,
                    news = self.events.next() => queue.take(news),
                }
            };
            let count = if told { &self.tally.sent } else { &self.tally.failed };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Delivery {
    /// Whether the event was taken.
    async fn tell(&self, body: String, id: u64) -> bool {
        match self {
            Self::Webhook(webhook) => tell_until_taken(webhook, &body, id).await,
            // A program that failed may have paged somebody before it did: it is not run twice.
            Self::Exec(program) => match program.run(&body).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(%program, id, %error, "a program of notify failed");
                    false
                }
            },
        }
    }
}

/// Asks again, with growing pauses, until the webhook takes the event or [`RETRY_FOR`] is over.
async fn tell_until_taken(webhook: &Webhook, body: &str, id: u64) -> bool {
    let deadline = Instant::now() + RETRY_FOR;
    let mut pause = PAUSE_FIRST;
    let retries = async {
        loop {
            match webhook.post(body).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%webhook, id, %error, again_in = ?pause, "a webhook did not take an event")
                }
            }
            // Many proxies see the same fault; they should not all come back at once.
            sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    };
    let taken = timeout(deadline.saturating_duration_since(Instant::now()), retries).await.is_ok();
    if !taken {
        tracing::error!(%webhook, id, "an event was given up: the webhook did not take it");
    }
    taken
}

/// The event, and how many a sink did not tell since it was started.
fn message(event: &Event, dropped: u64) -> Value {
    let mut message = event_json::event(event);
    message["dropped"] = json!(dropped);
    message
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;
    use crate::control::journal::Change;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A server that answers POSTs with these statuses in turn, then with 200, and hands out every body.
    fn server(statuses: &'static [u16]) -> io::Result<(SocketAddr, mpsc::Receiver<Value>)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (bodies, seen) = mpsc::sync_channel(64);
        std::thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { return };
                let mut text = Vec::new();
                let mut chunk = [0; 4096];
                let body = loop {
                    let Ok(count @ 1..) = stream.read(&mut chunk) else { break Value::Null };
                    text.extend_from_slice(&chunk[..count]);
                    let head = text.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
                    if let Some(Ok(body)) = head.map(|at| serde_json::from_slice(&text[at..])) {
                        break body;
                    }
                };
                let status = statuses.get(index).copied().unwrap_or(200);
                let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).is_err() || bodies.send(body).is_err() {
                    return;
                }
            }
        });
        Ok((address, seen))
    }

    fn webhook(address: SocketAddr, kinds: &[Kind]) -> Settings {
        Settings { target: Target::Webhook(format!("http://{address}/lb?key=1")), kinds: kinds.to_vec() }
    }

    /// The sinks' counts, as `sink result value`.
    #[derive(Default)]
    struct Counts(Vec<String>);

    impl MetricSink for Counts {
        fn counter(
            &mut self,
            _: &'static crate::telemetry::metrics::Metric,
            labels: &[(&str, &str)],
            value: u64,
        ) {
            let words: Vec<_> = labels.iter().map(|(_, value)| *value).collect();
            self.0.push(format!("{} {value}", words.join(" ")));
        }
        fn gauge(&mut self, _: &'static crate::telemetry::metrics::Metric, _: &[(&str, &str)], _: f64) {}
        fn histogram(
            &mut self,
            _: &'static crate::telemetry::metrics::Metric,
            _: &[(&str, &str)],
            _: &[f64],
            _: &[u64],
            _: f64,
        ) {
        }
    }

    type Failure = Box<dyn std::error::Error>;

    #[test]
    fn a_webhook_is_asked_until_it_takes_an_event_and_order_is_kept() -> Result<(), Failure> {
        let (address, seen) = server(&[500, 404])?;
        let journal = Arc::new(Journal::default());
        let notifier = Notifier::start(&journal, 0, &[webhook(address, &[Kind::Pool])])?;
        for number in 1..=3 {
            journal.append(Change::new(Kind::Pool, format!("state {number}"), "a test"));
            journal.append(Change::new(Kind::Tier, "1", "not for this sink"));
        }
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(seen.recv_timeout(DEADLINE)?["id"].as_u64());
        }
        assert_eq!(told, [Some(1), Some(1), Some(1), Some(3), Some(5)]);
        assert!(notifier.close(DEADLINE));
        let mut counts = Counts::default();
        notifier.collect(&mut counts);
        assert_eq!(counts.0, ["webhook-1 sent 3", "webhook-1 failed 0", "webhook-1 dropped 0"]);
        Ok(())
    }

    #[test]
    fn a_sink_that_is_closed_first_tells_what_has_happened() -> Result<(), Failure> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("told");
        let command = ["tee", "-a", &file.to_string_lossy()].map(str::to_owned).to_vec();
        let journal = Arc::new(Journal::default());
        let settings = Settings { target: Target::Exec(command), kinds: Kind::ALL.to_vec() };
        let notifier = Notifier::start(&journal, 0, &[settings])?;
        for number in 1..=3 {
            journal.append(Change::new(Kind::Alarm, format!("state {number}"), "a test"));
        }
        assert!(notifier.close(DEADLINE));
        let text = std::fs::read_to_string(&file)?;
        let told: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
        let told: Vec<_> = told?.iter().map(|event| event["to"].clone()).collect();
        assert_eq!(told, ["state 1", "state 2", "state 3"]);
        Ok(())
    }

    /// The next POST, whole, and the connection that waits for its answer.
    fn post(listener: &TcpListener) -> Result<(TcpStream, String), Failure> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut text = Vec::new();
        // The events of these tests hold no object.
        while !text.ends_with(b"}") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            text.extend_from_slice(&byte);
        }
        Ok((stream, String::from_utf8(text)?))
    }

    #[test]
    fn a_storm_while_a_webhook_hangs_is_dropped_and_owned_up_to() -> Result<(), Failure> {
        let silent = TcpListener::bind("127.0.0.1:0")?;
        let journal = Arc::new(Journal::default());
        let notifier = Notifier::start(&journal, 0, &[webhook(silent.local_addr()?, &[Kind::Alarm])])?;
        journal.append(Change::new(Kind::Alarm, "first", "a test"));
        let (mut stream, first) = post(&silent)?;
        assert!(first.contains("\"dropped\":0,"), "{first}");
        for number in 0..queue::WAITING_SAME_MAX + 5 {
            journal.append(Change::new(Kind::Alarm, format!("state {number}"), "a test"));
        }
        stream.write_all(b"HTTP/1.1 204 x\r\n\r\n")?;
        let (_stream, text) = post(&silent)?;
        assert!(text.starts_with("POST /lb?key=1 HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("\"dropped\":5,") && text.contains("\"to\":\"state 5\""), "{text}");
        drop(notifier);
        Ok(())
    }

    #[test]
    fn what_cannot_be_a_sink_is_refused_by_its_place() {
        let journal = Arc::new(Journal::default());
        let good = Settings { target: Target::Exec(vec!["true".to_owned()]), kinds: Vec::new() };
        for (target, says) in [
            (Target::Exec(Vec::new()), "exec of notify 2 names no program"),
            (Target::Webhook("ftp://a/".to_owned()), "the webhook of notify 2 cannot be used: only http"),
            (Target::Webhook("http://u:p@a/".to_owned()), "user name"),
            (Target::Webhook("/path".to_owned()), "no host"),
        ] {
            let settings = [good.clone(), Settings { target, kinds: Vec::new() }];
            let error = Notifier::start(&journal, 0, &settings).map(drop).map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.contains(says)), "{error:?}");
        }
    }
}
