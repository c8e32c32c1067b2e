//! What a route would do with a request and its answer beside sending them on, for `explain`.

use super::line;
use crate::config::treatment::{BasicAuth, ForwardAuth, Treatment, read_text};
use crate::model::field::FieldName;
use crate::model::request::RequestView;
use crate::model::units::{ByteSize, format_duration};
use crate::policy::compression::{MediaType, Rules};
use crate::policy::password::{Login, Users};

/// Tells it, in the order in which it happens.
pub(super) fn explain<V: RequestView>(treatment: &Treatment, request: &V, text: &mut String) {
    if treatment.is_none() {
        return;
    }
    line(text, format_args!("\nbeside that:"));
    if let Some(auth) = &treatment.basic_auth {
        basic_auth(auth, request, text);
    }
    if let Some(auth) = &treatment.forward_auth {
        forward_auth(auth, text);
    }
    if let Some(mirror) = &treatment.mirror {
        line(
            text,
            format_args!(
                "  mirror: {} % of requests are copied to pool {}, bodies up to {}",
                mirror.share, mirror.pool, mirror.max_body
            ),
        );
    }
    if let Some(most) = treatment.buffer_request {
        line(
            text,
            format_args!(
                "  buffer_request: up to {most} of the body are taken in before an endpoint is picked"
            ),
        );
    }
    if let Some(most) = treatment.buffer_response {
        line(
            text,
            format_args!(
                "  buffer_response: the answer is taken off its endpoint up to {most} ahead of the client"
            ),
        );
    }
    if let Some(rules) = &treatment.compress {
        compress(rules, request, text);
    }
}

fn compress<V: RequestView>(rules: &Rules, request: &V, text: &mut String) {
    let taken = request.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"accept-encoding"));
    let coding = rules.choose(taken.map(|(_, value)| value));
    let types: Vec<&str> = rules.types.iter().map(MediaType::as_str).collect();
    match coding {
        Some(coding) => line(
            text,
            format_args!(
                "  compress: {} for an answer of {} from {} on, unless it is encoded, a part, or says no-transform",
                coding.word(),
                types.join(", "),
                ByteSize(rules.min_size),
            ),
        ),
        None => {
            line(text, format_args!("  compress: the request's Accept-Encoding wants none of the codings"))
        }
    }
}

fn basic_auth<V: RequestView>(auth: &BasicAuth, request: &V, text: &mut String) {
    let file = auth.users_file.display();
    let says = |text: &mut String, what: std::fmt::Arguments<'_>| {
        line(text, format_args!("  basic_auth by {file}: {what}"));
    };
    let Some(login) = request.field("authorization").and_then(Login::parse) else {
        return says(text, format_args!("the request has no login, so that the answer is 401"));
    };
    let users =
        read_text(&auth.users_file).and_then(|all| Users::parse(&all).map_err(|fault| fault.to_string()));
    let users = match users {
        Ok(users) => users,
        Err(why) => return says(text, format_args!("the file cannot be used: {why}")),
    };
    let (stored, exists) = users.find(&login.name);
    match (exists, exists && stored.fits(&login.password)) {
        (_, true) => says(text, format_args!("the login of {:?} is right", login.name)),
        (true, false) => {
            says(text, format_args!("the password of {:?} is wrong, so that the answer is 401", login.name));
        }
        (false, false) => {
            says(text, format_args!("there is no user {:?}, so that the answer is 401", login.name));
        }
    }
}

fn forward_auth(auth: &ForwardAuth, text: &mut String) {
    let taken: Vec<&str> = auth.response_headers.iter().map(FieldName::as_str).collect();
    let taken = if taken.is_empty() { String::new() } else { format!(" with its {}", taken.join(", ")) };
    let without = if auth.allow_on_error { "lets it pass" } else { "is 503" };
    line(
        text,
        format_args!(
            "  forward_auth: pool {} is asked for {}; with 2xx the request goes on{taken}, other answers below 500 go to the \
             client, and none within {} {without}",
            auth.pool,
            auth.path,
            format_duration(auth.timeout),
        ),
    );
}
