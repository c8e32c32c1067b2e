//! What routes do with requests and answers beside sending them on, as TOML.

use super::{Page, join, quote};
use crate::config::treatment::{BasicAuth, ForwardAuth, Mirror, Treatment};
use crate::model::field::FieldName;
use crate::model::units::{ByteSize, format_duration};
use crate::policy::compression::{MediaType, Rules};

pub(super) fn show(page: &mut Page, treatment: &Treatment) {
    if let Some(auth) = &treatment.basic_auth {
        page.key("basic_auth", basic_auth(auth));
    }
    if let Some(auth) = &treatment.forward_auth {
        page.key("forward_auth", forward_auth(auth));
    }
    if let Some(mirror) = &treatment.mirror {
        page.key("mirror", show_mirror(mirror));
    }
    page.optional("buffer_request", treatment.buffer_request.as_ref());
    page.optional("buffer_response", treatment.buffer_response.as_ref());
    if let Some(rules) = &treatment.compress {
        page.key("compress", compress(rules));
    }
}

fn names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    format!("[{}]", join(names.map(quote)))
}

fn forward_auth(auth: &ForwardAuth) -> String {
    let on_error = if auth.allow_on_error { "allow" } else { "deny" };
    format!(
        "{{ pool = {}, path = {}, request_headers = {}, response_headers = {}, timeout = {}, max_answer = {}, on_error = {} }}",
        quote(auth.pool.as_str()),
        quote(&auth.path),
        names(auth.request_headers.iter().map(FieldName::as_str)),
        names(auth.response_headers.iter().map(FieldName::as_str)),
        quote(&format_duration(auth.timeout)),
        quote(&auth.max_answer.to_string()),
        quote(on_error),
    )
}

fn show_mirror(mirror: &Mirror) -> String {
    format!(
        "{{ pool = {}, share = {}, max_body = {}, timeout = {}, max_in_flight = {} }}",
        quote(mirror.pool.as_str()),
        quote(&format!("{}%", mirror.share)),
        quote(&mirror.max_body.to_string()),
        quote(&format_duration(mirror.timeout)),
        mirror.max_in_flight,
    )
}

fn compress(rules: &Rules) -> String {
    format!(
        "{{ codings = {}, types = {}, min_size = {}, effort = {} }}",
        names(rules.codings.iter().map(|coding| coding.word())),
        names(rules.types.iter().map(MediaType::as_str)),
        quote(&ByteSize(rules.min_size).to_string()),
        quote(rules.effort.word()),
    )
}

fn basic_auth(auth: &BasicAuth) -> String {
    let mut keys = vec![
        format!("realm = {}", quote(auth.realm.as_str())),
        format!("users_file = {}", quote(&auth.users_file.display().to_string())),
    ];
    keys.extend(auth.user_header.iter().map(|name| format!("user_header = {}", quote(name.as_str()))));
    keys.push(format!("keep_authorization = {}", auth.keep_authorization));
    keys.push(format!("remember = {}", quote(&format_duration(auth.remember))));
    keys.push(format!("max_remembered = {}", auth.max_remembered));
    keys.push(format!("max_checks = {}", auth.max_checks));
    format!("{{ {} }}", keys.join(", "))
}
