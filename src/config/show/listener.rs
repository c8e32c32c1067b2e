//! The TLS of a listener as a file says it: what its certificates ask of clients stands with each of them.

use std::path::Path;

use super::{Page, braces, join, quote};
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
