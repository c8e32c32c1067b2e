//! `plimsoll explain`: what would become of a request, by a configuration or in the running process. What is said is
//! `control::explain`'s.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::client::{Address, Client, segment};
use super::{ConfigFile, Failure, run};
use crate::config::Config;
use crate::control::explain::{Ask, explain};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Ask the running process in the place of a file, as it stands now: its admin API, ip:port or unix:/path
    #[arg(long, value_name = "ADDRESS", conflicts_with = "path")]
    admin: Option<String>,
    /// A file whose first line is the token for it [default: $PLIMSOLL_TOKEN_FILE]
    #[arg(long, value_name = "FILE", requires = "admin")]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The method, as in GET
    method: String,
    /// The URL, as in https://host/path?query
    url: String,
    /// A header field of the request; may be given more than once
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The address of the client
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    source: IpAddr,
    /// The listener that the request comes to; found by the URL's port where only one fits
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The name that its TLS asks for [default: the URL's host]
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
}

impl ExplainArgs {
    fn ask(&self) -> Ask {
        Ask {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            source: self.source,
            listener: self.listener.clone(),
            server_name: self.sni.clone(),
        }
    }
}

/// The answer as text.
pub(super) fn execute(arguments: &ExplainArgs) -> Result<String, Failure> {
    let Some(address) = &arguments.admin else { return offline(&arguments.config.load()?, arguments) };
    let path = query(&arguments.ask());
    let client = Client::new(Address::find(Some(address))?).with_token(arguments.token_file.as_deref())?;
    run::runtime()?.block_on(async {
        if arguments.json {
            return client.get::<serde_json::Value>(&path).await.map(|answer| format!("{answer:#}\n"));
        }
        client.get_text(&path).await
    })
}

fn offline(config: &Config, arguments: &ExplainArgs) -> Result<String, Failure> {
    let explanation = explain(config, &arguments.ask()).map_err(|wrong| Failure::Input(wrong.to_string()))?;
    Ok(if arguments.json { format!("{:#}\n", explanation.to_json()) } else { explanation.to_string() })
}

/// Where the admin API answers a question.
fn query(ask: &Ask) -> String {
    let Ask { method, url, headers, source, listener, server_name } = ask;
    let source = source.to_string();
    let mut pairs = vec![("method", method), ("url", url), ("source", &source)];
    pairs.extend(headers.iter().map(|header| ("header", header)));
    pairs.extend(listener.iter().map(|name| ("listener", name)));
    pairs.extend(server_name.iter().map(|name| ("sni", name)));
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", segment(value))).collect();
    format!("/v1/explain?{}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    const CONFIG: &str = r#"
        [listener.web]
        bind = ["127.0.0.1:8080"]
        deny = ["192.0.2.0/24"]
        [listener.other]
        bind = ["127.0.0.1:8081"]
        trusted_proxies = ["10.0.0.0/8"]
        [listener.db]
        bind = ["127.0.0.1:5432"]
        protocol = "tcp"
        pool = "api"
        [listener.secure]
        bind = ["127.0.0.1:5433"]
        protocol = "tcp"
        [[route]]
        name = "databases"
        listeners = ["secure"]
        sni = "*.db.example"
        pool = "new"
        [[route]]
        name = "canary"
        host = "a.example"
        path_prefix = "/v1/"
        headers = { x-canary = "1" }
        split = [{ pool = "api", weight = 3 }, { pool = "new", weight = 1 }]
        [[route]]
        name = "api"
        host = "a.example"
        path_prefix = "/v1/"
        pool = "api"
        retry = { attempts = 2 }
        [[route]]
        name = "elsewhere"
        listeners = ["other"]
        pool = "new"
        [[route]]
        name = "gone"
        path = "/gone"
        redirect = { to = "https://{host}/", status = 308 }
        [pool.api]
        balance = "round_robin"
        endpoints = [
          { address = "10.0.0.9:80", tier = 1 },
          { name = "a", address = "10.0.0.1:80" },
          { name = "b", address = "10.0.0.2:80", weight = 2 },
          { name = "c", address = "10.0.0.3:80", weight = 0 },
        ]
        [pool.new]
        endpoints = ["10.0.1.1:80"]
    "#;

    fn check(words: &[&str]) -> String {
        let config = match crate::config::load_text(CONFIG, Path::new("test.toml"), &|_| None) {
            Ok(config) => config,
            Err(errors) => return errors.to_string(),
        };
        let words = ["plimsoll", "explain"].iter().chain(words);
        match Cli::try_parse_from(words).map(|cli| cli.command) {
            Ok(Command::Explain(arguments)) => {
                offline(&config, &arguments).unwrap_or_else(|failure| failure.to_string())
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_taken_route_is_explained_down_to_its_endpoints() {
        assert_eq!(
            check(&["GET", "http://a.example:8080/v1/x"]),
            "request: GET http://a.example:8080/v1/x from 127.0.0.1\n\
             listener: web\n\n\
             routes in the order in which they are asked: 3\n  \
               1. canary: lost, header x-canary: wants \"1\", is absent\n  \
               2. api: taken\n  \
               3. gone: lost, path: wants \"/gone\", is \"/v1/x\"\n\n\
             action: pool api\n\n\
             pool api: balance round_robin, at most 2 attempts\n  \
               order of tries when all are usable; each next request starts one further by weight:\n  \
               1. b at 10.0.0.2:80, tier 0, weight 2\n  \
               2. a at 10.0.0.1:80, tier 0, weight 1\n  \
               3. 10.0.0.9:80, tier 1, weight 1\n  \
               never: c at 10.0.0.3:80, tier 0, weight 0\n  \
               a tier is used only while no endpoint of an earlier one is usable\n  \
               the next one is tried on connect, reset within 10s: GET may be sent twice\n"
        );
    }

    #[test]
    fn splits_redirects_and_misses_say_what_happens() {
        let split = check(&["GET", "http://a.example:8080/v1/x", "-H", "X-Canary: 1"]);
        assert!(split.contains("75.0 % to pool api\n  25.0 % to pool new\n"), "{split}");
        assert!(split.contains("2. api: not asked"), "{split}");
        assert!(split.contains("\npool new: balance least_requests"), "{split}");
        let redirect = check(&["GET", "http://b:8080/gone"]);
        assert!(redirect.ends_with("action: redirect 308 to https://{host}/\n"), "{redirect}");
        let miss = check(&["GET", "http://b:8080/"]);
        assert!(miss.ends_with("no route takes the request: the answer is 404\n"), "{miss}");
    }

    #[test]
    fn the_listener_is_named_or_found_by_port() {
        assert!(check(&["GET", "http://b:8081/"]).contains("listener: other\n"));
        assert!(check(&["GET", "http://b/", "--listener", "other"]).contains("elsewhere: taken"));
        assert!(check(&["GET", "http://b/"]).ends_with("--listener: web, other, db, secure"));
        assert!(check(&["GET", "/", "--listener", "db"]).contains("every connection goes to pool api"));
    }

    #[test]
    fn tls_clients_of_a_tcp_listener_go_by_name() {
        let text = |host: &str| check(&["GET", &format!("https://{host}/"), "--listener", "secure"]);
        let taken = text("X.db.example:5432");
        assert!(taken.contains("routes by sni, the closest name first: 1\n"), "{taken}");
        assert!(taken.contains("  databases: taken, sni: wants *.db.example\n\npool new: "), "{taken}");
        let other = text("db.example");
        assert!(other.contains("  databases: lost, sni: wants *.db.example\n"), "{other}");
        assert!(other.ends_with("no route takes \"db.example\": the connection is reset\n"), "{other}");
    }

    #[test]
    fn whom_a_trusted_peer_names_is_explained_as_the_client() {
        let text = |source: &str, list: &str| {
            let header = format!("X-Forwarded-For: {list}");
            check(&["GET", "http://b:8081/", "--source", source, "-H", &header])
        };
        let named = text("10.0.0.1", "192.0.2.9, 192.0.2.7, 10.0.0.2");
        let why = "\nclient: 192.0.2.7, whom x-forwarded-for names; the peer 10.0.0.1 is trusted to say so\n";
        assert!(named.contains(why), "{named}");
        let unnamed = text("10.0.0.1", "junk");
        assert!(unnamed.contains("client: 10.0.0.1, the trusted peer itself"), "{unnamed}");
        let exhausted = text("10.0.0.1", "10.0.0.2");
        assert!(exhausted.contains("client: 10.0.0.2, the last in x-forwarded-for"), "{exhausted}");
        assert!(!text("192.0.2.1", "192.0.2.9").contains("client: "));
    }

    #[test]
    fn a_client_that_may_not_connect_is_told_so() {
        let text = check(&["GET", "http://b:8080/", "--source", "192.0.2.7"]);
        assert!(
            text.contains("note: a connection from 192.0.2.7 is closed at once: deny has 192.0.2.0/24"),
            "{text}"
        );
    }
}
