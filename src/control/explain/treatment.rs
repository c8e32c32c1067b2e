//! What a route would do with a request and its answer beside sending them on, in words.

use super::say;
use crate::config::treatment::{BasicAuth, ForwardAuth, Treatment, read_text};
use crate::model::field::FieldName;
use crate::model::request::RequestView;
use crate::model::units::{ByteSize, format_duration};
use crate::policy::compression::{MediaType, Rules};
use crate::policy::password::{Login, Users};

/// Tells it, in the order in which it happens; a password is compared only where `tries`.
pub(super) fn explain<V: RequestView>(
    treatment: &Treatment,
    (request, tries): (&V, bool),
    lines: &mut Vec<String>,
) {
    if let Some(auth) = &treatment.basic_auth {
        basic_auth(auth, (request, tries), lines);
    }
    if let Some(auth) = &treatment.forward_auth {
        forward_auth(auth, lines);
    }
    if let Some(mirror) = &treatment.mirror {
        say(
            lines,
            format_args!(
                "mirror: {} % of requests are copied to pool {}, bodies up to {}",
                mirror.share, mirror.pool, mirror.max_body
            ),
        );
    }
    if let Some(most) = treatment.buffer_request {
        say(
            lines,
            format_args!(
                "buffer_request: up to {most} of the body are taken in before an endpoint is picked"
            ),
        );
    }
    if let Some(most) = treatment.buffer_response {
        say(
            lines,
            format_args!(
                "buffer_response: the answer is taken off its endpoint up to {most} ahead of the client"
            ),
        );
    }
    if let Some(rules) = &treatment.compress {
        compress(rules, request, lines);
    }
}

fn compress<V: RequestView>(rules: &Rules, request: &V, lines: &mut Vec<String>) {
    let taken = request.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"accept-encoding"));
    let coding = rules.choose(taken.map(|(_, value)| value));
    let types: Vec<&str> = rules.types.iter().map(MediaType::as_str).collect();
    match coding {
        Some(coding) => say(
            lines,
            format_args!(
                "compress: {} for an answer of {} from {} on, unless it is encoded, a part, or says no-transform",
                coding.word(),
                types.join(", "),
                ByteSize(rules.min_size),
            ),
        ),
        None => say(lines, format_args!("compress: the request's Accept-Encoding wants none of the codings")),
    }
}

fn basic_auth<V: RequestView>(auth: &BasicAuth, (request, tries): (&V, bool), lines: &mut Vec<String>) {
    let file = auth.users_file.display();
    let says = |lines: &mut Vec<String>, what: std::fmt::Arguments<'_>| {
        say(lines, format_args!("basic_auth by {file}: {what}"));
    };
    let Some(login) = request.field("authorization").and_then(Login::parse) else {
        return says(lines, format_args!("the request has no login, so that the answer is 401"));
    };
    if !tries {
        // Whoever may ask here is not to find passwords out by that.
        return says(lines, format_args!("asking does not try the password of {:?}", login.name));
    }
    let users =
        read_text(&auth.users_file).and_then(|all| Users::parse(&all).map_err(|fault| fault.to_string()));
    let users = match users {
        Ok(users) => users,
        Err(why) => return says(lines, format_args!("the file cannot be used: {why}")),
    };
    let (stored, exists) = users.find(&login.name);
    match (exists, exists && stored.fits(&login.password)) {
        (_, true) => says(lines, format_args!("the login of {:?} is right", login.name)),
        (true, false) => {
            says(lines, format_args!("the password of {:?} is wrong, so that the answer is 401", login.name));
        }
        (false, false) => {
            says(lines, format_args!("there is no user {:?}, so that the answer is 401", login.name));
        }
    }
}

fn forward_auth(auth: &ForwardAuth, lines: &mut Vec<String>) {
    let taken: Vec<&str> = auth.response_headers.iter().map(FieldName::as_str).collect();
    let taken = if taken.is_empty() { String::new() } else { format!(" with its {}", taken.join(", ")) };
    let without = if auth.allow_on_error { "lets it pass" } else { "is 503" };
    say(
        lines,
        format_args!(
            "forward_auth: pool {} is asked for {}; with 2xx the request goes on{taken}, other answers below 500 go to the \
             client, and none within {} {without}",
            auth.pool,
            auth.path,
            format_duration(auth.timeout),
        ),
    );
}

/// Whether a request has no login where one is wanted.
pub(super) fn lacks_login<V: RequestView>(treatment: &Treatment, request: &V) -> bool {
    treatment.basic_auth.is_some() && request.field("authorization").and_then(Login::parse).is_none()
}
