//! The options of one table, read as Traefik reads them: names in any case, values as texts, and none that it does not
//! know.

use super::super::report::{Place, Report, Verdict};
use super::super::tree::{Content, Key, Node};

/// A value with the line that sets it.
pub(super) type Set<T> = Option<(T, Place)>;

/// A table whose options are taken one after the other.
#[derive(Debug)]
pub(super) struct Fields<'n> {
    /// The line that opens it.
    pub(super) at: Place,
    pairs: &'n [(Key, Node)],
    taken: Vec<bool>,
    /// Whether something in it makes Traefik refuse the whole file.
    pub(super) broken: bool,
}

impl<'n> Fields<'n> {
    /// The options of a value that should be a table; of one that is none there are no options.
    pub(super) fn of(at: Place, node: &'n Node, report: &mut Report) -> Self {
        let pairs = node.pairs();
        let mut broken = false;
        let plain = matches!(node.content, Content::Scalar { .. } | Content::List(_));
        // In place of a table that may be empty, true stands for it.
        if plain && node.as_bool() != Some(true) {
            report.wrong(at, format!("a table belongs here, not {}: Traefik refuses the file", node.kind()));
            node.tell(Verdict::Ignored, "it stands where a table belongs", report);
            broken = true;
        }
        Self { at, pairs, taken: vec![false; pairs.len()], broken }
    }

    /// An option with its line.
    pub(super) fn take(&mut self, name: &str) -> Option<(Place, &'n Node)> {
        let found = self.pairs.iter().position(|(key, _)| key.text.eq_ignore_ascii_case(name))?;
        if let Some(taken) = self.taken.get_mut(found) {
            *taken = true;
        }
        self.pairs.get(found).map(|(key, value)| (key.at, value))
    }

    fn refuse(&mut self, at: Place, node: &Node, wanted: &str, report: &mut Report) {
        report.wrong(at, format!("this is {wanted}: Traefik refuses the file"));
        if node.text().is_none() {
            node.tell(Verdict::Ignored, "it stands in the place of a value", report);
        }
        self.broken = true;
    }

    /// A text; nothing where it is empty.
    pub(super) fn text(&mut self, name: &str, report: &mut Report) -> Set<String> {
        let (at, node) = self.take(name)?;
        match &node.content {
            Content::Scalar { text, .. } => Some((text.clone(), at)),
            Content::Null => {
                report.ignored(at, "nothing is written here");
                None
            }
            _ => {
                self.refuse(at, node, "a text", report);
                None
            }
        }
    }

    /// A yes or no.
    pub(super) fn flag(&mut self, name: &str, report: &mut Report) -> Set<bool> {
        let (text, at) = self.text(name, report)?;
        // As Go's strconv.ParseBool has it.
        match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some((true, at)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some((false, at)),
            _ => {
                report.wrong(at, "this is true or false: Traefik refuses the file");
                self.broken = true;
                None
            }
        }
    }

    /// A whole number.
    pub(super) fn number(&mut self, name: &str, report: &mut Report) -> Set<i64> {
        let (text, at) = self.text(name, report)?;
        match text.replace('_', "").parse() {
            Ok(number) => Some((number, at)),
            Err(_) => {
                report.wrong(at, "this is a whole number: Traefik refuses the file");
                self.broken = true;
                None
            }
        }
    }

    /// A time in milliseconds; without a unit it is seconds.
    pub(super) fn time(&mut self, name: &str, report: &mut Report) -> Set<i64> {
        let (text, at) = self.text(name, report)?;
        match time(&text) {
            Some(time) => Some((time, at)),
            None => {
                report.wrong(at, "this is a time, such as 10s: Traefik refuses the file");
                self.broken = true;
                None
            }
        }
    }

    /// A list of texts, also as one text with commas. The line is that of the option.
    pub(super) fn texts(&mut self, name: &str, report: &mut Report) -> Option<(Vec<(String, Place)>, Place)> {
        let (at, node) = self.take(name)?;
        let parts = match &node.content {
            Content::Scalar { text, .. } => {
                text.split(',').map(|part| (part.trim().to_owned(), at)).collect()
            }
            Content::Null => Vec::new(),
            Content::List(items) if items.iter().all(|item| item.text().is_some()) => {
                items.iter().filter_map(|item| Some((item.text()?.to_owned(), item.at))).collect()
            }
            _ => {
                self.refuse(at, node, "a list of texts", report);
                return None;
            }
        };
        if parts.is_empty() {
            report.ignored(at, "nothing is in it");
        }
        Some((parts, at))
    }

    /// A table of texts with free names.
    pub(super) fn pairs(&mut self, name: &str, report: &mut Report) -> Option<(Vec<(Key, String)>, Place)> {
        let (at, node) = self.take(name)?;
        let mut out = Vec::new();
        for (key, value) in node.pairs() {
            match &value.content {
                Content::Scalar { text, .. } => out.push((key.clone(), text.clone())),
                Content::Null => out.push((key.clone(), String::new())),
                _ => self.refuse(key.at, value, "a text", report),
            }
        }
        if !matches!(node.content, Content::Map(_) | Content::Null) {
            self.refuse(at, node, "a table of texts", report);
        }
        Some((out, at))
    }

    /// A table below.
    pub(super) fn table(&mut self, name: &str, report: &mut Report) -> Option<Self> {
        let (at, node) = self.take(name)?;
        let below = Self::of(at, node, report);
        self.broken |= below.broken;
        Some(below)
    }

    /// A list of tables.
    pub(super) fn tables(&mut self, name: &str, report: &mut Report) -> Vec<Self> {
        let Some((at, node)) = self.take(name) else { return Vec::new() };
        if !matches!(node.content, Content::List(_) | Content::Null) {
            self.refuse(at, node, "a list of tables", report);
        }
        if node.items().is_empty() && report.remarks(at).is_empty() {
            report.ignored(at, "nothing is in it");
        }
        let all: Vec<Self> = node.items().iter().map(|item| Self::of(item.at, item, report)).collect();
        self.broken |= all.iter().any(|one| one.broken);
        all
    }

    /// Says the same of options that only need a word.
    pub(super) fn each(&mut self, verdict: Verdict, names: &[&str], text: &str, report: &mut Report) {
        for name in names {
            if let Some((at, node)) = self.take(name) {
                super::said::whole(at, node, verdict, text, report);
            }
        }
    }

    /// Says the same of all options that have not been taken.
    pub(super) fn each_rest(&mut self, verdict: Verdict, text: &str, report: &mut Report) {
        for ((key, value), taken) in self.pairs.iter().zip(&mut self.taken) {
            if !*taken {
                *taken = true;
                super::said::whole(key.at, value, verdict, text, report);
            }
        }
    }

    /// What has not been taken is unknown to Traefik. Returns whether Traefik takes the table.
    pub(super) fn finish(mut self, report: &mut Report) -> bool {
        if self.pairs.is_empty() && report.remarks(self.at).is_empty() {
            report.ignored(self.at, "nothing is in it");
        }
        for ((key, value), taken) in self.pairs.iter().zip(&self.taken) {
            if !taken {
                report.wrong(
                    key.at,
                    format!("Traefik knows no option `{}` here, and refuses the whole file", key.text),
                );
                super::said::each_silent(
                    value,
                    Verdict::Ignored,
                    "it is below an option that Traefik does not know",
                    report,
                );
                self.broken = true;
            }
        }
        !self.broken
    }
}

/// Milliseconds of a time as Go writes it, or of a number of seconds.
#[must_use]
pub(super) fn time(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(1000);
    }
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut all = 0.0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..end)?.parse().ok()?;
        let behind = rest.get(end..)?;
        let units =
            [("ns", 1e-6), ("us", 1e-3), ("µs", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3600e3)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| behind.starts_with(unit))?;
        all += number * factor;
        rest = behind.get(unit.len()..)?;
    }
    let millis = (all * sign).clamp(-9e15, 9e15);
    // What is written is some time, however short.
    #[expect(clippy::cast_possible_truncation, reason = "it is within bounds")]
    let whole = if millis < 0.0 { millis.floor() as i64 } else { millis.ceil() as i64 };
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_go_or_seconds() {
        for (text, want) in [
            ("10", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("500us", Some(1)),
            ("-1ms", Some(-1)),
            ("0s", Some(0)),
            ("soon", None),
            ("10 s", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text), want, "{text}");
        }
    }
}
