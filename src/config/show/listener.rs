//! The TLS of a listener as a file says it: what its certificates ask of clients stands with each of them. And what
//! its connections of HTTP/2 may do.

use std::path::Path;

use super::{Page, braces, join, quote};
use crate::config::listener::Http2Limits;
use crate::config::tls::served::{Certificate, ListenerTls};

pub(super) fn show_tls(page: &mut Page, tls: Option<&ListenerTls>) {
    let Some(tls) = tls else { return page.text("tls", "off") };
    let certificates = join(tls.certificates.iter().map(certificate));
    let alpn = join(tls.alpn.iter().map(|protocol| quote(protocol)));
    let keys = [
        ("certificates", Some(format!("[{certificates}]"))),
        ("min_version", Some(quote(tls.min_version.word()))),
        ("alpn", Some(format!("[{alpn}]"))),
        ("client_headers", Some(tls.client_headers.to_string())),
        ("ticket_keys", tls.ticket_keys.as_deref().map(path)),
    ];
    page.key("tls", braces(written(keys)));
}

fn certificate(certificate: &Certificate) -> String {
    let client = certificate.client.as_ref();
    let word = client.map(|client| quote(if client.required { "require" } else { "request" }));
    let keys = [
        ("cert", Some(path(&certificate.identity.cert))),
        ("key", Some(path(&certificate.identity.key))),
        ("ocsp", certificate.ocsp.as_deref().map(path)),
        ("client_ca", client.map(|client| path(&client.ca))),
        ("client_auth", word),
    ];
    braces(written(keys))
}

fn written<const N: usize>(keys: [(&str, Option<String>); N]) -> impl Iterator<Item = String> {
    keys.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}", value?)))
}

fn path(path: &Path) -> String {
    quote(&path.display().to_string())
}

pub(super) fn show_http2(page: &mut Page, limits: &Http2Limits) {
    let number = |key: &str, value: u32| format!("{key} = {value}");
    let keys = [
        number("streams", limits.streams),
        format!("stream_window = {}", quote(&limits.stream_window.to_string())),
        format!("connection_window = {}", quote(&limits.connection_window.to_string())),
        format!("send_buffer = {}", quote(&limits.send_buffer.to_string())),
        number("continuations", limits.continuations),
        number("resets", limits.resets),
        number("faults", limits.faults),
        number("pings", limits.pings),
        number("settings", limits.settings),
        number("priorities", limits.priorities),
        number("window_updates", limits.window_updates),
        number("empty_frames", limits.empty_frames),
    ];
    page.key("http2", braces(keys.into_iter()));
}
