//! Spans over OTLP, as a collector gets them: one per request that is recorded with a child per attempt, whose number the
//! endpoint was told; nothing of others; and what a collector that is away costs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use plimsoll::telemetry::prometheus::Page;
use plimsoll::{Handle, Proxy, config};

const DEADLINE: Duration = Duration::from_secs(20);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A message with a head and, by its Content-Length, a body.
struct Message {
    head: Vec<String>,
    body: Vec<u8>,
}

impl Message {
    fn read(from: &mut impl BufRead) -> Option<Self> {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let mut message = Self { head, body: Vec::new() };
        let length = message.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        message.body.resize(length, 0);
        from.read_exact(&mut message.body).ok()?;
        Some(message)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Reads one request of every connection and gives `answer`, or closes where there is none; what came is told.
fn serve(answer: Option<&'static str>) -> (SocketAddr, Receiver<Message>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, receiver) = sync_channel(1000);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Some(message) = Message::read(&mut BufReader::new(&stream)) else { continue };
            if sender.send(message).is_err() {
                return;
            }
            if let Some(answer) = answer {
                (&stream).write_all(answer.as_bytes()).ok();
            }
        }
    });
    (address, receiver)
}

const OK: Option<&str> = Some("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");

/// A proxy whose requests go to these endpoints in order, and where it listens.
fn proxy(endpoints: &[SocketAddr], tracing: &str) -> (Handle, SocketAddr) {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a port");
    let web = probe.local_addr().expect("an address");
    drop(probe);
    let list: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    let text = format!(
        "[process]\nworkers = 1\n[log]\naccess = \"off\"\n[tracing]\n{tracing}\n[listener.web]\nbind = [\"{web}\"]\n\
         [[route]]\nname = \"all\"\npool = \"api\"\n[pool.api]\nbalance = \"first\"\noutlier = \"off\"\nendpoints = [{}]\n",
        list.join(", ")
    );
    let config =
        config::load_text(&text, Path::new("otel.toml"), &|_| None).unwrap_or_else(|e| panic!("{e}"));
    (Proxy::start(&config).expect("it starts"), web)
}

fn ask(web: SocketAddr, path: &str, flags: &str) {
    let mut stream = TcpStream::connect(web).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let parent = format!("traceparent: 00-{TRACE}-b7ad6b7169203331-{flags}");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n{parent}\r\n\r\n")
        .expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

fn counted(handle: &Handle, result: &str) -> u64 {
    let mut page = Page::default();
    handle.collect(&mut page);
    let page = page.finish();
    let start = format!("plimsoll_spans_total{{result=\"{result}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or_default()
}

/// Waits until something is counted, which follows what a collector sees.
fn until_counted(handle: Handle, result: &'static str) {
    let (sender, found) = sync_channel(1);
    thread::spawn(move || {
        while counted(&handle, result) == 0 {
            thread::yield_now();
        }
        sender.send(()).ok();
    });
    found.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("nothing is counted as {result}"));
}

/// A field of a protobuf message.
#[derive(Debug, Clone)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message, by their numbers.
fn fields(mut bytes: &[u8]) -> BTreeMap<u64, Vec<Field<'_>>> {
    let mut found: BTreeMap<u64, Vec<Field<'_>>> = BTreeMap::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().expect("eight"))),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("a length");
                Field::Bytes(take(&mut bytes, length))
            }
            5 => Field::Number(u32::from_le_bytes(take(&mut bytes, 4).try_into().expect("four")).into()),
            other => panic!("wire type {other}"),
        };
        found.entry(tag >> 3).or_default().push(field);
    }
    found
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = take(bytes, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return number;
        }
    }
}

fn messages(bytes: &[u8], field: u64) -> Vec<&[u8]> {
    let all = fields(bytes).remove(&field).unwrap_or_default();
    all.into_iter()
        .map(|field| match field {
            Field::Bytes(bytes) => bytes,
            Field::Number(number) => panic!("{number} is no message"),
        })
        .collect()
}

/// A span as it came.
#[derive(Debug)]
struct Span {
    trace: String,
    span: String,
    parent: String,
    kind: u64,
    start: u64,
    end: u64,
    failed: bool,
    attributes: BTreeMap<String, String>,
}

fn number(bytes: &[u8], field: u64) -> u64 {
    match fields(bytes).remove(&field).unwrap_or_default().first() {
        Some(Field::Number(number)) => *number,
        _ => 0,
    }
}

fn attributes(pairs: &[&[u8]]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    pairs
        .iter()
        .map(|pair| {
            let value = messages(pair, 2)[0];
            let string = fields(value).contains_key(&1).then(|| text(messages(value, 1)[0]));
            (text(messages(pair, 1)[0]), string.unwrap_or_else(|| number(value, 3).to_string()))
        })
        .collect()
}

/// The spans of the next batch, the first of each request before its attempts; and what they say of their service.
fn batch(collector: &Receiver<Message>) -> (Vec<Span>, BTreeMap<String, String>) {
    let message = collector.recv_timeout(DEADLINE).expect("a batch");
    assert_eq!(message.head[0], "POST /v1/traces HTTP/1.1");
    assert_eq!(message.field("content-type"), Some("application/x-protobuf"));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let id = |span: &[u8], field: u64| messages(span, field).first().map(|id| hex(id)).unwrap_or_default();
    let resource = messages(&message.body, 1)[0];
    let service = attributes(&messages(messages(resource, 1)[0], 1));
    let spans = messages(resource, 2).into_iter().flat_map(|scope| messages(scope, 2));
    let read = |span: &[u8]| Span {
        trace: id(span, 1),
        span: id(span, 2),
        parent: id(span, 4),
        kind: number(span, 6),
        start: number(span, 7),
        end: number(span, 8),
        failed: messages(span, 15).first().is_some_and(|status| number(status, 3) == 2),
        attributes: attributes(&messages(span, 9)),
    };
    (spans.map(read).collect(), service)
}

#[test]
fn a_request_is_a_span_with_a_child_per_attempt_that_the_endpoint_was_told() {
    let (collector, batches) = serve(Some("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let (breaks, first) = serve(None);
    let (works, second) = serve(OK);
    let tracing = format!("otlp = \"http://{collector}\"\nservice = \"edge\"");
    let (handle, web) = proxy(&[breaks, works], &tracing);
    ask(web, "/a?secret=1", "01");
    let (spans, service) = batch(&batches);
    assert_eq!(service.get("service.name").map(String::as_str), Some("edge"));
    let [request, failed, answered] = spans.try_into().expect("three spans");
    assert_eq!([&request.trace, &failed.trace, &answered.trace], [TRACE; 3]);
    assert_eq!(request.parent, "b7ad6b7169203331");
    assert_eq!((request.kind, failed.kind, answered.kind), (2, 3, 3));
    assert_eq!((&failed.parent, &answered.parent), (&request.span, &request.span));
    assert_eq!((request.failed, failed.failed, answered.failed), (false, true, false));
    for (attempt, endpoint) in [(&failed, first), (&answered, second)] {
        let told = endpoint.recv_timeout(DEADLINE).expect("a request");
        assert_eq!(told.field("traceparent"), Some(&*format!("00-{TRACE}-{}-01", attempt.span)));
        assert!(request.start <= attempt.start && attempt.start <= attempt.end, "{request:?} {attempt:?}");
    }
    let said = |span: &Span, key: &str| span.attributes.get(key).cloned().unwrap_or_default();
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/a"),
        ("server.address", "a:80"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
        ("plimsoll.route", "all"),
        ("plimsoll.pool", "api"),
        ("plimsoll.end", "done"),
    ] {
        assert_eq!(said(&request, key), value, "{key}");
    }
    assert_eq!(said(&failed, "plimsoll.endpoint"), breaks.to_string());
    assert_eq!(
        (said(&failed, "error.type"), said(&failed, "http.response.status_code")),
        ("endpoint_aborted".into(), String::new())
    );
    assert_eq!(said(&answered, "http.response.status_code"), "200");
    until_counted(handle, "exported");
}

#[test]
fn what_is_not_recorded_is_not_exported_and_its_parent_stays() {
    let (collector, batches) = serve(Some("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let (endpoint, requests) = serve(OK);
    let (_handle, web) = proxy(&[endpoint], &format!("otlp = \"http://{collector}\""));
    ask(web, "/unrecorded", "00");
    let told = requests.recv_timeout(DEADLINE).expect("a request");
    assert_eq!(told.field("traceparent"), Some(&*format!("00-{TRACE}-b7ad6b7169203331-00")));
    ask(web, "/recorded", "01");
    let (spans, _) = batch(&batches);
    assert_eq!(spans.len(), 2);
    assert!(spans.iter().all(|span| span.attributes.get("url.path").is_none_or(|path| path == "/recorded")));
}

#[test]
fn a_collector_that_is_away_costs_requests_nothing_and_is_counted() {
    let (endpoint, _requests) = serve(OK);
    // It takes connections and answers none.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = mute.local_addr().expect("an address");
    let (handle, web) = proxy(&[endpoint], &format!("otlp = \"http://{address}\"\nqueue = 1"));
    for _ in 0..300 {
        ask(web, "/", "01");
    }
    // A batch that waits, the one in the queue, and all others.
    assert!(counted(&handle, "dropped") > 0);
    drop(mute);

    let (handle, web) = proxy(&[endpoint], "otlp = \"http://127.0.0.1:9\"");
    ask(web, "/", "01");
    until_counted(handle, "failed");
}
