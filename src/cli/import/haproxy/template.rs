//! Texts with samples in them, HAProxy's log-format, as far as Plimsoll can put such things together.

/// The text, when nothing is put into it: `%%` is a percent sign.
#[must_use]
pub(super) fn literal(text: &str) -> Option<String> {
    let rest = text.replace("%%", "\u{0}");
    (!rest.contains('%')).then(|| rest.replace('\u{0}', "%"))
}

/// Samples that a redirect can have, with their placeholders.
const PLACES: [(&str, &str); 13] = [
    ("%[hdr(host)]", "{host}"),
    ("%[req.hdr(host)]", "{host}"),
    ("%[req.hdr(Host)]", "{host}"),
    ("%[hdr(Host)]", "{host}"),
    ("%[req.hdr(host),lower]", "{host}"),
    ("%[ssl_fc_sni]", "{host}"),
    ("%[capture.req.uri]", "{uri}"),
    ("%[pathq]", "{uri}"),
    ("%[url]", "{uri}"),
    ("%[path]", "{path}"),
    ("%[query]", "{query}"),
    ("%HU", "{uri}"),
    ("%HP", "{path}"),
];

/// Where a redirect leads.
#[must_use]
pub(super) fn location(text: &str) -> Option<String> {
    if text.contains(['{', '}']) {
        return None;
    }
    let mut out = text.to_owned();
    for (sample, place) in PLACES {
        out = out.replace(sample, place);
    }
    // Percent-encoded characters are written `%%20` there.
    literal(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_placeholders_or_nothing() {
        assert_eq!(
            location("https://%[hdr(host)]%[capture.req.uri]").as_deref(),
            Some("https://{host}{uri}")
        );
        assert_eq!(location("https://a.test/x%%20y").as_deref(), Some("https://a.test/x%20y"));
        assert_eq!(location("https://%[req.hdr(host),regsub(a,b)]/"), None);
        assert_eq!(literal("max-age=1").as_deref(), Some("max-age=1"));
        assert_eq!(literal("%[src]"), None);
    }
}
