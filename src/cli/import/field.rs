//! Fields of heads that an import may edit, and those that are the proxy's own.

use crate::model::field::{FieldName, is_framing};

/// Why a field that frames a message cannot be edited.
pub(super) const FRAMES: &str = "it frames the message or belongs to one connection, and is the proxy's";

/// Whether a field can be changed: it has a name, and is neither the Host nor the proxy's own.
#[must_use]
pub(super) fn is_editable(name: &str) -> bool {
    FieldName::new(name).is_ok() && !name.eq_ignore_ascii_case("host") && !is_framing(name)
}

/// Fields that endpoints are told of the client, always, and in no other way.
pub(super) const TOLD: [&str; 5] =
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "x-request-id"];
