//! Plimsoll's configuration: everything stays at its default but what the work asks for.

use super::{Site, Task};
use crate::lines::Front;

pub(super) fn config(task: &Task<'_>, site: &Site) -> String {
    let Site { front, admin, folder } = site;
    let access =
        if task.access_log { folder.join("access.log").display().to_string() } else { "off".to_owned() };
    let route = "[[route]]\npool = \"origin\"\n";
    let (protocol, listener, route) = match task.line.front {
        Front::Http => ("http", String::new(), route),
        Front::Tcp => ("tcp", "pool = \"origin\"".to_owned(), ""),
        Front::Udp => ("udp", "pool = \"origin\"".to_owned(), ""),
        Front::H2c => ("http", "h2c = true".to_owned(), route),
        Front::Tls => ("http", tls(task), route),
    };
    let pool = if task.line.front == Front::H2c { "protocol = \"http2\"" } else { "" };
    format!(
        r#"
[process]
workers = 1
[admin]
bind = "{admin}"
[log]
access = "{access}"
[listener.front]
bind = ["{front}"]
protocol = "{protocol}"
{listener}
{route}
[pool.origin]
endpoints = ["{origin}"]
{pool}
"#,
        origin = task.origin()
    )
}

/// The default, as the others are told to have it, but for the version that all speak.
fn tls(task: &Task<'_>) -> String {
    format!(
        "[listener.front.tls]\ncertificates = [{{ cert = \"{}\", key = \"{}\" }}]\nalpn = [\"h2\", \"http/1.1\"]\n\
         min_version = \"1.3\"\n",
        task.certificate.chain().display(),
        task.certificate.key().display()
    )
}
