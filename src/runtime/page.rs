//! The body of an answer of our own: as it stands in the configuration, or with variables put in for each request.

use std::sync::Arc;

use crate::route::template::{Escape, Template};

/// A body and what it is.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its text.
    pub text: PageText,
    /// Its `Content-Type`.
    pub content_type: Box<str>,
}

/// The text of a page.
#[derive(Debug, Clone)]
pub enum PageText {
    /// The same for every request.
    Fixed(Arc<[u8]>),
    /// With variables, which are made harmless for what it is.
    Template(Template, Escape),
}

impl Page {
    /// A page with variables.
    #[must_use]
    pub fn new(template: &Template, content_type: &str) -> Self {
        let text = match template.as_static() {
            Some(text) => PageText::Fixed(text.as_bytes().into()),
            None => PageText::Template(template.clone(), escape_of(content_type)),
        };
        Self { text, content_type: content_type.into() }
    }

    /// A page that has none.
    #[must_use]
    pub fn fixed(bytes: &[u8], content_type: &str) -> Self {
        Self { text: PageText::Fixed(bytes.into()), content_type: content_type.into() }
    }
}

/// What becomes of what is put into a body of this type.
fn escape_of(content_type: &str) -> Escape {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" => Escape::Json,
        "text/plain" => Escape::Plain,
        kind if kind.ends_with("+json") => Escape::Json,
        // What a browser may take for HTML, and what it is not known for.
        _ => Escape::Html,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_escaped_for_what_the_page_is() {
        for (kind, want) in [
            ("text/plain; charset=utf-8", Escape::Plain),
            ("application/json", Escape::Json),
            ("application/problem+JSON", Escape::Json),
            ("text/html", Escape::Html),
            ("image/svg+xml", Escape::Html),
        ] {
            assert_eq!(escape_of(kind), want, "{kind}");
        }
    }
}
