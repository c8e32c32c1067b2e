//! Remarks that several kinds of elements have.

use super::super::document::Value;
use super::super::report::{Place, Report, Verdict};
use super::super::tree::Node;
use crate::model::units::format_duration;

/// The longest time that Plimsoll takes, in milliseconds.
const FOR_EVER: i64 = 30 * 24 * 60 * 60 * 1000;

/// A time as Plimsoll writes it, within what it takes.
pub(super) fn duration(millis: i64) -> Value {
    let millis = u64::try_from(millis.clamp(1, FOR_EVER)).unwrap_or(1);
    Value::text(format_duration(std::time::Duration::from_millis(millis)))
}

/// A number of bytes as Plimsoll writes it.
#[must_use]
pub(super) fn size(bytes: i64) -> String {
    crate::model::units::ByteSize(u64::try_from(bytes).unwrap_or(0)).to_string()
}

/// Says the same of a line and of all below it, there with fewer words.
pub(super) fn whole(at: Place, node: &Node, verdict: Verdict, text: &str, report: &mut Report) {
    report.note(at, verdict, text);
    let below = match verdict {
        Verdict::Translated => String::new(),
        _ if text.starts_with("as line ") => text.to_owned(),
        _ => format!("as line {}", at.line),
    };
    node.each_place(&mut |place, _| {
        if place != at {
            report.note(place, verdict, below.clone());
        }
    });
}

/// Says of the lines of a list that nearly the same is done, as its first line says.
pub(super) fn items(at: Place, list: &[(String, Place)], report: &mut Report) {
    for (_, place) in list.iter().filter(|(_, place)| *place != at) {
        report.approximated(*place, format!("as line {}", at.line));
    }
}

/// Says of an element that it is not there in Traefik, and of its lines that they do nothing.
pub(super) fn refused(at: Place, node: &Node, why: &str, report: &mut Report) {
    report.wrong(at, why);
    each_silent(node, Verdict::Ignored, "what it belongs to is not there in Traefik", report);
}

/// Says something of those lines that nothing has been said about.
pub(super) fn each_silent(node: &Node, verdict: Verdict, text: &str, report: &mut Report) {
    node.each_place(&mut |at, _| {
        if report.remarks(at).is_empty() {
            report.note(at, verdict, text);
        }
    });
}

/// A name as files and pools have it.
#[must_use]
pub(super) fn plain_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.:".contains(c) { c } else { '_' };
    let out: String = name.chars().take(100).map(plain).collect();
    if out.is_empty() { "unnamed".to_owned() } else { out }
}
