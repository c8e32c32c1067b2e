//! nginx's configuration: one worker, kept connections to the origin, no limit on requests per connection, no answer written
//! to disk.

use super::{Site, Task};
use crate::lines::{Front, Work};

/// Debian's place for nginx's relay of TCP and UDP.
pub(super) const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Connections to the origin that are kept at least.
const KEPT: usize = 64;

pub(super) fn config(task: &Task<'_>, site: &Site) -> String {
    let folder = site.folder.display();
    let (descriptors, connections) = (task.descriptors, task.descriptors - 500);
    let (module, context) = match task.line.front {
        Front::Tcp | Front::Udp => (format!("load_module {STREAM};"), stream(task, site)),
        Front::Http | Front::Toolbox | Front::Tls | Front::H2c => (String::new(), http(task, site)),
    };
    format!(
        r"
{module}
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
{context}
"
    )
}

fn stream(task: &Task<'_>, site: &Site) -> String {
    let (front, origin) = (site.front, task.origin());
    let log = if task.access_log {
        format!(
            "log_format relay '$remote_addr $status $bytes_sent $session_time'; access_log {} relay",
            site.folder.join("access.log").display()
        )
    } else {
        "access_log off".to_owned()
    };
    let listen = if task.line.front == Front::Udp { "udp" } else { "backlog=4096" };
    format!(
        r"
stream {{
 {log};
 upstream origin {{ server {origin}; }}
 server {{
  listen {front} {listen};
  proxy_pass origin;
 }}
}}
"
    )
}

fn http(task: &Task<'_>, site: &Site) -> String {
    let (front, folder, origin) = (site.front, site.folder.display(), task.origin());
    let log = if task.access_log {
        format!("access_log {folder}/access.log combined")
    } else {
        "access_log off".to_owned()
    };
    let (listen, tls) = match task.line.front {
        Front::Tls => ("ssl http2", tls(task)),
        Front::H2c => ("http2", String::new()),
        Front::Http | Front::Toolbox | Front::Tcp | Front::Udp => ("", String::new()),
    };
    let location = if task.line.front == Front::H2c {
        "grpc_pass grpc://origin;"
    } else {
        "proxy_pass http://origin;
   proxy_http_version 1.1;
   proxy_set_header Connection \"\";
   proxy_max_temp_file_size 0;"
    };
    format!(
        r"
http {{
 {log};
 client_body_temp_path {folder}/client;
 proxy_temp_path {folder}/proxy;
 fastcgi_temp_path {folder}/fastcgi;
 uwsgi_temp_path {folder}/uwsgi;
 scgi_temp_path {folder}/scgi;
 keepalive_requests 1000000000;
 keepalive_timeout 60s;
 upstream origin {{
  server {origin};
  keepalive {kept};
  keepalive_requests 1000000000;
 }}
 server {{
  listen {front} {listen} backlog=4096;
  {tls}
  location / {{
   {location}
  }}
 }}
}}
",
        kept = kept(task)
    )
}

/// Its defaults, but for the version and the cipher that all speak.
fn tls(task: &Task<'_>) -> String {
    format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;\n  \
         ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;",
        task.certificate.chain().display(),
        task.certificate.key().display()
    )
}

/// It has a connection to the origin for each request under way, over HTTP/2, too: it keeps all of them.
fn kept(task: &Task<'_>) -> usize {
    match task.line.work {
        Work::Exchanges(clients) => clients.max(KEPT),
        Work::Idle(_) => KEPT,
    }
}
