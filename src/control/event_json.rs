//! What an event looks like as JSON: the same in the admin API, to webhooks and to programs.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::journal::{Event, Evidence};
use crate::telemetry::timestamp::Clock;

/// An event as a JSON object. Times are RFC 3339, lengths of time are milliseconds; an answer's bytes are shown as text,
/// what is no UTF-8 in it replaced.
#[must_use]
pub fn event(event: &Event) -> Value {
    let change = &event.change;
    json!({
        "id": event.id,
        "at": time(event.at),
        "kind": change.kind.word(),
        "pool": change.pool.as_ref().map(|pool| pool.as_str()),
        "endpoint": change.endpoint.as_ref().map(|endpoint| endpoint.as_str()),
        "from": change.from,
        "to": change.to,
        "because": change.because,
        "evidence": change.evidence.iter().map(evidence).collect::<Vec<_>>(),
        "suppressed_until": change.suppressed_until.map(time),
    })
}

fn evidence(line: &Evidence) -> Value {
    let phases: Vec<_> = line
        .phases
        .iter()
        .map(|(phase, took)| json!({ "phase": phase, "ms": milliseconds(*took) }))
        .collect();
    json!({
        "at": time(line.at),
        "result": line.result,
        "text": line.text,
        "took_ms": milliseconds(line.took),
        "phases": phases,
        "answer": String::from_utf8_lossy(&line.answer),
    })
}

/// A time as RFC 3339 in UTC.
#[must_use]
pub fn time(at: SystemTime) -> String {
    let mut text = Vec::new();
    Clock::default().write(at, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// A length of time in milliseconds, to the microsecond.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of anything that is timed here stay far below 2^53"
)]
pub fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::journal::{Change, Kind};
    use crate::model::name::{EndpointName, NameError, PoolName};

    #[test]
    fn an_event_shows_all_that_is_known() -> Result<(), NameError> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        let line = Evidence {
            at,
            result: "cannot be asked".into(),
            text: "timed out".to_owned(),
            took: Duration::from_micros(2_500_250),
            phases: vec![("connect", Duration::from_millis(2))],
            answer: b"HTTP\xff".to_vec(),
        };
        let change = Change::new(Kind::Endpoint, "down", "3 probes failed")
            .endpoint(&PoolName::new("api")?, &EndpointName::new("a:80")?)
            .from("up")
            .evidence([line])
            .suppressed_until(at);
        let shown = event(&Event { id: 7, at, change });
        let expected = json!({
            "id": 7, "at": "1970-01-01T00:00:01.500Z", "kind": "endpoint", "pool": "api", "endpoint": "a:80",
            "from": "up", "to": "down", "because": "3 probes failed",
            "evidence": [{
                "at": "1970-01-01T00:00:01.500Z", "result": "cannot be asked", "text": "timed out",
                "took_ms": 2500.25, "phases": [{"phase": "connect", "ms": 2.0}], "answer": "HTTP\u{fffd}",
            }],
            "suppressed_until": "1970-01-01T00:00:01.500Z",
        });
        assert_eq!(shown, expected);
        Ok(())
    }
}
