//! Fields of heads that an import may edit, and those that are the proxy's own.

/// Fields that frame a message or belong to one connection.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Why such a field cannot be edited.
pub(super) const FRAMES: &str = "it frames the message or belongs to one connection, and is the proxy's";

/// Whether a field can be changed: it has a name, and is neither the Host nor the proxy's own.
#[must_use]
pub(super) fn is_editable(name: &str) -> bool {
    crate::model::field::FieldName::new(name).is_ok() && !name.eq_ignore_ascii_case("host") && !frames(name)
}

/// Whether a field frames a message. Some gateways take an underscore for a hyphen.
pub(super) fn frames(name: &str) -> bool {
    let spelt = name.to_ascii_lowercase().replace('_', "-");
    FRAMING.contains(&spelt.as_str())
}

/// Fields that endpoints are told of the client, always, and in no other way.
pub(super) const TOLD: [&str; 5] =
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "x-request-id"];
