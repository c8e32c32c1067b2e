//! `plimsoll demo`: the real proxy with a small configuration in front of embedded origins, and what to try with it.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use clap::Args;

use super::{Failure, origin, print, run};
use crate::config::{self, Config};
use crate::control::Launch;

/// Where the demo can be reached.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Places {
    /// Where the proxy listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the admin API listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900")]
    admin: SocketAddr,
}

/// Runs the demo until a signal ends it.
pub(super) fn demo(places: Places, out: &mut impl Write) -> Result<(), Failure> {
    let places = Places { listen: free("--listen", places.listen)?, admin: free("--admin", places.admin)? };
    let origins =
        origin::start().map_err(|error| Failure::Running(format!("the origins cannot start: {error}")))?;
    let text = config_text(places, origins);
    let config = config(&text)?;
    run::with_log(&config.log, || {
        run::proxy(&config, Launch::default(), || print(out, &guide(places, &text)))
    })
}

/// The proxy shares its port with other sockets of the same user where these allow it, which would split the demo's
/// requests with whatever has the port; so the port is asked for alone first. Port 0 becomes one that is free.
fn free(flag: &str, address: SocketAddr) -> Result<SocketAddr, Failure> {
    let port = address.port();
    TcpListener::bind(address).and_then(|listener| listener.local_addr()).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("; see who has it with: ss -ltnp 'sport = :{port}', or choose another with {flag}")
            }
            _ => String::new(),
        };
        Failure::Running(format!("the demo needs {address}: {error}{remedy}"))
    })
}

fn config(text: &str) -> Result<Config, Failure> {
    config::load_text(text, Path::new("demo.toml"), &|_| None)
        .map_err(|errors| Failure::Running(errors.to_string()))
}

fn config_text(Places { listen, admin }: Places, origins: [SocketAddr; 3]) -> String {
    let endpoints: String = origin::NAMES
        .iter()
        .zip(origins)
        .map(|(name, address)| format!("  {{ name = \"{name}\", address = \"{address}\" }},\n"))
        .collect();
    format!(
        r#"[admin]
bind = "{admin}"

[log]
access = "stdout"

[listener.web]
bind = ["{listen}"]

[[route]]
name = "old"
path_prefix = "/old"
redirect = {{ to = "http://{{host}}/", status = 308 }}

[[route]]
name = "teapot"
path = "/teapot"
respond = {{ status = 418, body = "short and stout\n" }}

[[route]]
name = "everything"
pool = "origins"

[pool.origins]
balance = "round_robin"
endpoints = [
{endpoints}]
"#
    )
}

fn guide(Places { listen, admin }: Places, config: &str) -> String {
    format!(
        "Plimsoll runs with this configuration:\n\n{config}\n\
         Try, in another terminal:\n\n  \
           for i in 1 2 3 4 5 6; do curl -s http://{listen}/; done    # the three in turn\n  \
           curl -s http://{listen}/headers                  # what an origin gets to see\n  \
           for i in 1 2 3; do curl -s http://{listen}/kill/red; done    # red hangs up without an answer; another one answers\n  \
           curl -si http://{listen}/status/503              # an origin's own error passes\n  \
           curl -s -w '%{{time_total}} s\\n' http://{listen}/slow  # two seconds; meanwhile stop with ctrl-c: it still gets its answer\n  \
           curl -si http://{listen}/teapot                  # answered by a route\n  \
           curl -si http://{listen}/old/page                # redirected by a route\n  \
           curl -s http://{admin}/v1/status                 # what the proxy knows\n  \
           curl -s http://{admin}/metrics                   # for Prometheus\n  \
           curl -s http://{admin}/readyz\n\n\
         Below is the access log. Stop with ctrl-c; a second one does not wait for requests in flight.\n\n"
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn the_demos_configuration_is_valid() {
        let [listen, admin, origins @ ..] =
            [1, 2, 3, 4, 5].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let places = Places { listen, admin };
        let text = config_text(places, origins);
        let config = config(&text).map(|config| (config.routes.len(), config.pools[0].endpoints.len()));
        assert!(matches!(config, Ok((3, 3))), "{config:?}");
        assert!(guide(places, &text).contains(&text));
    }

    #[test]
    fn a_taken_port_is_named_with_a_way_to_find_who_has_it() -> io::Result<()> {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = taken.local_addr()?;
        let failure = free("--listen", address).map_err(|failure| failure.to_string());
        assert!(
            failure
                .as_ref()
                .is_err_and(|text| text.contains(&format!("sport = :{}", address.port()))
                    && text.contains("--listen")),
            "{failure:?}"
        );
        drop(taken);
        assert!(free("--listen", address).is_ok_and(|free| free == address));
        Ok(())
    }

    async fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn each_origin_answers_in_its_own_way() -> io::Result<()> {
        let [red, green, _] = origin::start()?;
        assert!(ask(red, "/").await?.ends_with("\r\n\r\nred here, my request number 1\n"));
        assert!(ask(red, "/").await?.ends_with("red here, my request number 2\n"));
        assert!(ask(green, "/").await?.contains("x-origin: green\r\n"));
        assert!(ask(green, "/status/503").await?.starts_with("HTTP/1.1 503 "));
        assert!(ask(green, "/status/99").await?.starts_with("HTTP/1.1 400 "));
        assert!(ask(green, "/headers").await?.contains("\n  host: a\n"));
        assert_eq!(ask(red, "/kill/red").await?, "");
        assert!(ask(green, "/kill/red").await?.starts_with("HTTP/1.1 200 "));
        Ok(())
    }
}
