//! HAProxy's agent: a program beside the endpoint that answers each connection with one line of words.
//!
//! It advises only. Words of a kind that it leaves out change nothing, and an agent that cannot be asked says nothing.

use super::Asked;
use super::outcome::{Reading, shown};
use super::wire::{Close, Notes, connect};
use crate::model::address::Address;

/// Bytes of the line.
pub const LINE_MAX: usize = 1024;

/// Heaviest absolute weight (HAProxy's).
const WEIGHT_MAX: u32 = 256;

/// What an agent said. Of several words of one kind the last one counts; nothing means "leave it as it is".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    /// `up`, or `down`, `fail`, `stopped`.
    pub operational: Option<Operational>,
    /// `ready`, `drain` or `maint`.
    pub admin: Option<Admin>,
    /// `NN%` or `weight:NN`.
    pub weight: Option<AgentWeight>,
    /// `maxconn:NN`.
    pub connections_max: Option<u32>,
    /// What stands behind `#`.
    pub text: Option<String>,
}

/// Whether the agent wants traffic for its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operational {
    /// `up`.
    Up,
    /// `down`: out of service, as a failed check.
    Down,
    /// `fail`: the same, of the endpoint's own accord.
    Fail,
    /// `stopped`: the same, somebody stopped it.
    Stopped,
}

/// The administrative state that the agent asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    /// `ready`.
    Ready,
    /// `drain`.
    Drain,
    /// `maint`.
    Maintenance,
}

/// A share of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentWeight {
    /// Percent of the configured weight.
    Percent(u32),
    /// In place of the configured weight, 0 to 256.
    Absolute(u32),
}

pub(super) async fn ask(send: Option<&[u8]>, address: Address, notes: &Notes) -> Asked<Reading> {
    let mut wire = connect(address, Close::Reset, notes).await?;
    if let Some(bytes) = send {
        wire.send(bytes).await?;
    }
    wire.answer(LINE_MAX, read).await
}

/// What a line means; nothing while its end is missing.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Reading> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let line = bytes.get(..end)?;
    let words = parse(line);
    let what = format!("agent: {}", shown(line));
    let mut reading = match words.operational {
        Some(Operational::Up) => Reading::good(what),
        Some(Operational::Down | Operational::Fail | Operational::Stopped) => Reading::no(what),
        None => Reading::void(what),
    };
    reading.agent = Some(Box::new(words));
    Some(reading)
}

/// The words of a line, separated by blanks and commas, in any case; unknown ones are skipped.
#[must_use]
pub fn parse(line: &[u8]) -> Words {
    let mut words = Words::default();
    let mut rest = line;
    loop {
        let start = rest.iter().position(|byte| !is_gap(*byte)).unwrap_or(rest.len());
        rest = rest.get(start..).unwrap_or_default();
        if let Some(text) = rest.strip_prefix(b"#") {
            words.text = Some(shown(text.trim_ascii()));
            return words;
        }
        if rest.is_empty() {
            return words;
        }
        let end = rest.iter().position(|byte| is_gap(*byte)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        take(&mut words, &word.to_ascii_lowercase());
        rest = after;
    }
}

const fn is_gap(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b',')
}

fn take(words: &mut Words, word: &[u8]) {
    match word {
        b"up" => words.operational = Some(Operational::Up),
        b"down" => words.operational = Some(Operational::Down),
        b"fail" => words.operational = Some(Operational::Fail),
        b"stopped" => words.operational = Some(Operational::Stopped),
        b"ready" => words.admin = Some(Admin::Ready),
        b"drain" => words.admin = Some(Admin::Drain),
        b"maint" => words.admin = Some(Admin::Maintenance),
        _ => {
            if let Some(number) = word.strip_prefix(b"maxconn:") {
                words.connections_max = number_of(number).or(words.connections_max);
            } else {
                words.weight = weight(word).or(words.weight);
            }
        }
    }
}

fn weight(word: &[u8]) -> Option<AgentWeight> {
    let named = word.strip_prefix(b"weight:");
    match named.unwrap_or(word).strip_suffix(b"%") {
        Some(percent) => number_of(percent).map(AgentWeight::Percent),
        None => number_of(named?).filter(|weight| *weight <= WEIGHT_MAX).map(AgentWeight::Absolute),
    }
}

fn number_of(digits: &[u8]) -> Option<u32> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::health::Verdict;

    #[test]
    fn words_are_read_in_any_case_and_order_and_the_last_of_a_kind_counts() {
        let words = parse(b"UP, ready\t75% maxconn:30 down drain weight:50 # going  away ");
        let want = Words {
            operational: Some(Operational::Down),
            admin: Some(Admin::Drain),
            weight: Some(AgentWeight::Absolute(50)),
            connections_max: Some(30),
            text: Some("going  away".to_owned()),
        };
        assert_eq!(words, want);
        assert_eq!(parse(b"weight:20%").weight, Some(AgentWeight::Percent(20)));
    }

    #[test]
    fn what_is_no_word_is_skipped() {
        for line in
            [&b""[..], b"hello", b"-5%", b"%", b"weight:257", b"maxconn:", b"99999999999%", b"\xff\xfe"]
        {
            assert_eq!(parse(line), Words::default(), "{line:?}");
        }
        assert_eq!(parse(b"50% weight:x").weight, Some(AgentWeight::Percent(50)));
    }

    #[test]
    fn only_up_and_down_are_verdicts_and_only_on_a_complete_line() {
        let verdict = |bytes: &[u8]| read(bytes).map(|reading| reading.verdict);
        assert_eq!(verdict(b"up 100%\n"), Some(Verdict::Good));
        assert_eq!(verdict(b"stopped # by hand\r\n"), Some(Verdict::SaysNo));
        assert_eq!(verdict(b"drain\n"), Some(Verdict::Void));
        assert_eq!(verdict(b"up"), None);
    }
}
