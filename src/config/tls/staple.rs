//! An OCSP answer (RFC 6960) as far as stapling it needs: whether it is one, for which certificate, and until when it
//! counts. Its signature is for clients to verify.

use std::time::{Duration, SystemTime};

/// What of an OCSP answer matters to whoever staples it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staple {
    /// The serial numbers of the certificates that it is about, as they are encoded.
    pub serials: Vec<Vec<u8>>,
    /// From when on clients refuse it, where it says so.
    pub next_update: Option<SystemTime>,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const TIME: u8 = 0x18;
const TAGGED_0: u8 = 0xa0;

/// Answers about single certificates that are looked at; a staple is about one.
const ANSWERS_MAX: usize = 16;

impl Staple {
    /// Reads an OCSP answer in DER.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn of(der: &[u8]) -> Result<Self, String> {
        let wrong = || "it is no OCSP answer in DER".to_owned();
        let answer = &mut Der(der).take(SEQUENCE).ok_or_else(wrong)?;
        match answer.take(ENUMERATED).ok_or_else(wrong)?.0 {
            [0] => {}
            status => return Err(format!("it is a refusal of the OCSP server, with status {status:?}")),
        }
        Self::of_basic(answer).ok_or_else(wrong)
    }

    fn of_basic(answer: &mut Der<'_>) -> Option<Self> {
        let mut bytes = answer.take(TAGGED_0)?.take(SEQUENCE)?;
        bytes.any()?;
        let mut data = bytes.take(OCTETS)?.take(SEQUENCE)?.take(SEQUENCE)?;
        data.take(TAGGED_0);
        data.any()?;
        data.take(TIME)?;
        let mut answers = data.take(SEQUENCE)?;
        let mut staple = Self { serials: Vec::new(), next_update: None };
        while let Some(mut one) = answers.take(SEQUENCE) {
            if staple.serials.len() == ANSWERS_MAX {
                return None;
            }
            let mut id = one.take(SEQUENCE)?;
            for _ in 0..3 {
                id.any()?;
            }
            staple.serials.push(id.take(INTEGER)?.0.to_vec());
            one.any()?;
            one.take(TIME)?;
            if let Some(next) = one.take(TAGGED_0).and_then(|mut next| next.take(TIME)) {
                let next = time(next.0)?;
                staple.next_update = Some(staple.next_update.map_or(next, |known| known.min(next)));
            }
        }
        (!staple.serials.is_empty()).then_some(staple)
    }
}

/// What is left to read of a value.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value, if it has this tag.
    fn take(&mut self, tag: u8) -> Option<Self> {
        if self.0.first() != Some(&tag) {
            return None;
        }
        self.any()
    }

    /// The next value.
    fn any(&mut self) -> Option<Self> {
        let (_tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Self(value))
    }
}

/// `YYYYMMDDHHMMSSZ`, the one form that RFC 6960 allows.
fn time(text: &[u8]) -> Option<SystemTime> {
    let digits = std::str::from_utf8(text.strip_suffix(b"Z")?).ok().filter(|digits| digits.len() == 14)?;
    let part = |from: usize, to: usize| digits.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, with years that begin in March.
    let (shifted, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let value = parts.concat();
        let length = u8::try_from(value.len()).expect("a short value");
        let head = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
        [head, value].concat()
    }

    fn answer(next: &[u8]) -> Vec<u8> {
        let id =
            der(SEQUENCE, &[&der(SEQUENCE, &[]), &der(OCTETS, &[b"n"]), &der(OCTETS, &[b"k"]), &[2, 1, 7]]);
        let this = der(TIME, &[b"20261101000000Z"]);
        let next = der(TAGGED_0, &[&der(TIME, &[next])]);
        let one = der(SEQUENCE, &[&id, &[0x80, 0], &this, &next]);
        let data = der(SEQUENCE, &[&der(0xa2, &[b"key"]), &this, &der(SEQUENCE, &[&one])]);
        let basic = der(SEQUENCE, &[&data]);
        let bytes = der(SEQUENCE, &[&[6, 1, 42], &der(OCTETS, &[&basic])]);
        der(SEQUENCE, &[&[ENUMERATED, 1, 0], &der(TAGGED_0, &[&bytes])])
    }

    #[test]
    fn an_answer_tells_for_whom_it_is_and_until_when() {
        let staple = Staple::of(&answer(b"20261121120000Z")).expect("an answer");
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400);
        assert_eq!(staple, Staple { serials: vec![vec![7]], next_update: Some(noon) });
    }

    #[test]
    fn what_is_no_answer_is_said_and_never_panics() {
        let good = answer(b"20261121120000Z");
        assert!(Staple::of(&[0x30, 3, ENUMERATED, 1, 6]).is_err_and(|what| what.contains("status [6]")));
        assert!(Staple::of(b"-----BEGIN").is_err());
        assert!(Staple::of(&answer(b"20261321120000Z")).is_err());
        for length in 0..good.len() {
            assert!(Staple::of(&good[..length]).is_err(), "{length}");
        }
    }
}
