//! HAProxy's configuration: one thread; `http-reuse always`, because the default, `safe`, opens a connection to the origin for
//! each new client, which neither nginx nor we do; `splice-auto` where bodies are large.

use super::{Site, Task};
use crate::lines::Front;

/// Pipes that HAProxy may hold for splicing: one each way for every client of a line that measures CPU time, twice.
const PIPES: u64 = 256;

/// The access log goes to standard output, which is a file in memory.
pub(super) fn config(task: &Task<'_>, site: &Site) -> String {
    let mode = if task.line.front == Front::Tcp { "tcp" } else { "http" };
    let splice = if task.line.splice { "option splice-auto" } else { "" };
    let (target, log) = if task.access_log {
        ("log stdout format raw local0", format!("log global\n option {mode}log"))
    } else {
        ("", String::new())
    };
    // Its defaults, but for the version and the cipher that all speak. A HAProxy without TLS knows none of these words.
    let (tls, bind) = match task.line.front {
        Front::Tls => (
            "ssl-default-bind-options ssl-min-ver TLSv1.3\n ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256",
            format!("ssl crt {} alpn h2,http/1.1", task.certificate.both().display()),
        ),
        Front::H2c => ("", "proto h2".to_owned()),
        Front::Http | Front::Toolbox | Front::Tcp | Front::Udp => ("", String::new()),
    };
    let server = if task.line.front == Front::H2c { "proto h2" } else { "" };
    // The same as ours: a rate that nobody reaches, two edits, a cookie.
    let (tools, server) = match task.line.front {
        Front::Toolbox => (
            "stick-table type ip size 100k expire 30s store http_req_rate(1s)\n http-request track-sc0 src\n \
             http-request deny deny_status 429 if { sc_http_req_rate(0) gt 1000000 }\n \
             http-request set-header x-tier web\n http-response set-header x-served-by %s\n \
             cookie SERVED insert indirect nocache",
            "cookie origin",
        ),
        _ => ("", server),
    };
    let reuse = if mode == "http" { "http-reuse always" } else { "" };
    // Each connection and each pipe takes two descriptors.
    let connections = (task.descriptors - 500) / 2 - PIPES;
    format!(
        r"
global
 nbthread 1
 maxconn {connections}
 maxpipes {PIPES}
 {target}
 {tls}
defaults
 timeout connect 2s
 timeout client 60s
 timeout server 60s
 timeout http-keep-alive 60s
 {splice}
listen front
 mode {mode}
 bind {front} {bind}
 maxconn {connections}
 {reuse}
 {log}
 {tools}
 server origin {origin} {server}
",
        front = site.front,
        origin = task.origin()
    )
}
