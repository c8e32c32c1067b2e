//! What routes do with requests and answers beside sending them on.

mod basic_auth;
mod buffers;
mod compress;
mod forward_auth;
mod mirror;

use crate::harness::client;
use crate::harness::http2::{self, Session, request};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::wire::Message;

/// A proxy of one worker that speaks HTTP/1 and HTTP/2, whose one route to the origin has these keys.
fn with(origin: &Origin, keys: &str, more: &str) -> Proxy {
    Setup::http(&[origin.address()])
        .process("workers = 1")
        .listener("h2c = true")
        .routes(&format!("[[route]]\nname = \"all\"\npool = \"main\"\n{keys}\n"))
        .text(more)
        .start()
}

/// A pool of this name with one endpoint.
fn pool(name: &str, origin: &Origin) -> String {
    format!("[pool.{name}]\nendpoints = [\"{}\"]\n", origin.address())
}

/// A GET with these fields over HTTP/1.
fn get(proxy: &Proxy, path: &str, fields: &str) -> Message {
    client::ask(proxy.web, format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"))
}

/// The same over HTTP/2.
fn get2(proxy: &Proxy, path: &str, fields: &[(&'static str, &str)]) -> http2::Answer {
    http2::run(async {
        let mut request = request("GET", path);
        for (name, value) in fields {
            request.headers_mut().append(*name, value.parse().expect("a value"));
        }
        Session::connect(proxy.web).await.ask(request).await.expect("an answer")
    })
}
