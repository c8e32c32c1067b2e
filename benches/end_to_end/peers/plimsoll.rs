//! Plimsoll's configuration: everything stays at its default but what the work asks for.

use super::{Site, Task};
use crate::lines::Front;

/// Everything that a request of the line `toolbox` meets, with a rate that nobody reaches.
const TOOLS: &str = "rate_limit = { key = \"source\", rate = \"1000000/s\", burst = 100000 }\n\
                     request_headers = { set = { x-tier = \"web\" } }\n\
                     response_headers = { set = { x-served-by = \"{endpoint}\" } }\n";

/// `bare` leaves out what the line asks for beside forwarding.
pub(super) fn config(task: &Task<'_>, site: &Site, bare: bool) -> String {
    let Site { front, admin, folder } = site;
    let access =
        if task.access_log { folder.join("access.log").display().to_string() } else { "off".to_owned() };
    let route = "[[route]]\npool = \"origin\"\n";
    let (protocol, listener, route) = match task.line.front {
        Front::Http | Front::Toolbox => ("http", String::new(), route),
        Front::Tcp => ("tcp", "pool = \"origin\"".to_owned(), ""),
        Front::Udp => ("udp", "pool = \"origin\"".to_owned(), ""),
        Front::H2c => ("http", "h2c = true".to_owned(), route),
        Front::Tls => ("http", tls(task), route),
    };
    let tools = task.line.front == Front::Toolbox && !bare;
    let pool = match task.line.front {
        Front::H2c => "protocol = \"http2\"",
        _ if tools => "[pool.origin.sticky]\ncookie = \"SERVED\"",
        _ => "",
    };
    let tools = if tools { TOOLS } else { "" };
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
{route}{tools}
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
