//! Text with variables in it: compiled once, rendered for each request without looking up a name.
//!
//! `variable` has what can be put in, `escape` what becomes of its bytes where they go: nothing that a client sends can end
//! a field, a URL's part or a string of JSON or HTML that it is put into.

mod escape;
mod variable;

use std::net::IpAddr;

use regex::bytes::Captures;

use crate::model::request::RequestView;
use crate::route::path::normalize;

pub use escape::Escape;
pub use variable::{Class, Variable};

/// Text with variables, as it is written: `{client}` and `{header:x-tenant}` are variables, `{{name}}` is the text `{name}`,
/// and a brace that begins no name, or stands behind a dollar sign, is text.
#[derive(Debug, Clone)]
pub struct Template {
    text: Box<str>,
    pieces: Box<[Piece]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Variable(Variable),
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A name that no variable has.
    #[error("there is no variable {{{0}}}")]
    Unknown(String),
    /// A variable that needs to know which one: a header, a cookie, a query parameter, a group.
    #[error("{{{0}:NAME}} needs a name")]
    NoName(String),
    /// A variable that has no name behind it.
    #[error("{{{0}}} takes no name behind a colon")]
    NameToo(String),
}

/// Why a template does not fit the regular expression whose groups it puts in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// There is no regular expression.
    #[error("{0} is a group of a regular expression, and there is none")]
    NoRegex(String),
    /// It has no such group.
    #[error("the regular expression has no group {0}")]
    NoGroup(String),
}

/// What is known of a request beside its head. What is not there is put in as nothing.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The port of the client, where its connection is ours or a PROXY header has said it.
    pub client_port: Option<u16>,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The value of `X-Request-Id`.
    pub request_id: &'a [u8],
    /// The listener.
    pub listener: &'a str,
    /// The route.
    pub route: &'a str,
    /// TLS of the client's connection.
    pub tls: Option<TlsFacts<'a>>,
    /// The pool that it went to.
    pub pool: Option<&'a str>,
    /// The endpoint that answered.
    pub endpoint: Option<&'a str>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// Whether the request is only imagined: what cannot be known of it is shown as the variable itself.
    pub imagined: bool,
}

/// What TLS came to.
#[derive(Debug, Clone, Copy)]
pub struct TlsFacts<'a> {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'a str,
    /// The cipher suite.
    pub cipher: &'a str,
    /// The name that the client asked for.
    pub server_name: Option<&'a str>,
}

impl Template {
    /// Compiles a text.
    ///
    /// # Errors
    /// [`TemplateError`] of the first variable that is none.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        // Braces that stand for themselves and wait for their other one.
        let mut open = 0_usize;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            rest = if let Some(behind) = from.strip_prefix("{{") {
                open += 1;
                plain.push('{');
                behind
            } else if let Some(behind) = from.strip_prefix("}}").filter(|_| open > 0) {
                open -= 1;
                plain.push('}');
                behind
            } else if let Some((name, behind)) = variable::name_of(from).filter(|_| !before.ends_with('$')) {
                let variable = Variable::parse(name)?;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
                }
                pieces.push(Piece::Variable(variable));
                behind
            } else {
                let (brace, behind) = from.split_at(1);
                plain.push_str(brace);
                behind
            };
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Self { text: text.into(), pieces: pieces.into() })
    }

    /// A text without variables, whatever stands in it.
    #[must_use]
    pub fn plain(text: &str) -> Self {
        let pieces: &[Piece] = if text.is_empty() { &[] } else { &[Piece::Text(text.into())] };
        Self { text: text.into(), pieces: pieces.into() }
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_written(&self) -> &str {
        &self.text
    }

    /// The text, where there is no variable in it.
    #[must_use]
    pub fn as_static(&self) -> Option<&str> {
        match &*self.pieces {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Its parts that are text, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(&**text),
            Piece::Variable(_) => None,
        })
    }

    /// What is put in, in order.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Variable(variable) => Some(variable),
        })
    }

    /// The text that it begins with; nothing where it begins with a variable.
    #[must_use]
    pub fn start(&self) -> Option<&str> {
        match self.pieces.first() {
            Some(Piece::Variable(_)) => None,
            Some(Piece::Text(text)) => Some(text),
            None => Some(""),
        }
    }

    /// Whether groups of a regular expression are put in.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        self.variables().any(|variable| matches!(variable, Variable::Group(_) | Variable::NamedGroup(_)))
    }

    /// Finds the groups that are put in by name, and makes sure that all are there.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn with_groups_of(mut self, regex: Option<&regex::bytes::Regex>) -> Result<Self, GroupError> {
        for piece in &mut self.pieces {
            let Piece::Variable(variable) = piece else { continue };
            if !matches!(variable, Variable::Group(_) | Variable::NamedGroup(_)) {
                continue;
            }
            let Some(regex) = regex else { return Err(GroupError::NoRegex(variable.to_string())) };
            let found = match variable {
                Variable::NamedGroup(name) => regex.capture_names().position(|known| known == Some(&**name)),
                Variable::Group(number) => Some(*number).filter(|number| *number < regex.captures_len()),
                _ => None,
            };
            *variable = Variable::Group(found.ok_or_else(|| GroupError::NoGroup(variable.to_string()))?);
        }
        Ok(self)
    }

    /// Puts the variables in and appends the text to `out`, each made harmless for where it goes.
    pub fn render<V: RequestView>(
        &self,
        request: &V,
        facts: &Facts<'_>,
        groups: Option<&Captures<'_>>,
        escape: Escape,
        out: &mut Vec<u8>,
    ) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                // What routes have compared, so that no dots lead out of what it is put behind.
                Piece::Variable(Variable::Path) if escape == Escape::Path => {
                    out.extend_from_slice(&normalize(request.path()));
                }
                Piece::Variable(variable) => {
                    let class = variable.class();
                    variable.write(request, facts, groups, &mut |bytes| escape.put(class, bytes, out));
                }
            }
        }
    }

    /// The value of a field; nothing when all that is put in is empty and there is no text.
    #[must_use]
    pub fn value<V: RequestView>(&self, request: &V, facts: &Facts<'_>) -> Option<Vec<u8>> {
        let mut value = Vec::with_capacity(64);
        self.render(request, facts, None, Escape::Field, &mut value);
        let trimmed = value.trim_ascii();
        if trimmed.len() != value.len() {
            value = trimmed.to_vec();
        }
        (!value.is_empty()).then_some(value)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.pieces == other.pieces
    }
}

impl Eq for Template {}

#[cfg(test)]
pub(super) mod tests;
