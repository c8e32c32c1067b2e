//! Makes one probe and prints what it came to: `probe http 127.0.0.1:8080 --path /health`.
//!
//! The exit status is 0 when the answer is good, 1 when it is not, 2 when the call is wrong. `tests/clients/probes.py`
//! asks real servers with it.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use plimsoll::control::health::probe::exec::Exec;
use plimsoll::control::health::probe::expect::Expect;
use plimsoll::control::health::probe::http::{Http, RequestHead};
use plimsoll::control::health::probe::{Check, Probe, run};
use plimsoll::control::tls::TlsClient;
use plimsoll::policy::health::Verdict;
use plimsoll::runtime::tls::client::{Certificate, Settings};

#[derive(Debug, Parser)]
struct Call {
    /// http, tcp, tls, grpc, postgres, mysql, redis, agent or exec
    check: String,
    address: SocketAddr,
    #[arg(long, default_value = "2500")]
    timeout_ms: u64,
    #[arg(long, default_value = "/")]
    path: String,
    #[arg(long)]
    host: Option<String>,
    /// A number in the JSON answer
    #[arg(long)]
    rank: Option<String>,
    #[arg(long, default_value = "")]
    service: String,
    #[arg(long)]
    user: Option<String>,
    /// Only a Redis that is a primary will do
    #[arg(long)]
    primary: bool,
    #[arg(long)]
    send: Option<String>,
    #[arg(long)]
    expect: Option<String>,
    /// Over TLS; implied by the other options of TLS
    #[arg(long)]
    tls: bool,
    #[arg(long)]
    ca: Option<PathBuf>,
    #[arg(long)]
    server_name: Option<String>,
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// Program and arguments of exec
    #[arg(last = true)]
    command: Vec<String>,
}

impl Call {
    fn tls(&self) -> Result<Option<Arc<TlsClient>>, Box<dyn Error>> {
        let wanted = self.tls || self.ca.is_some() || self.server_name.is_some() || self.cert.is_some();
        if !wanted && self.check != "tls" {
            return Ok(None);
        }
        let pair = self.cert.clone().zip(self.key.clone());
        let settings = Settings {
            ca: self.ca.clone(),
            certificate: pair.map(|(chain, key)| Certificate { chain, key }),
            ..Settings::default()
        };
        Ok(Some(Arc::new(TlsClient::new(settings, self.server_name.as_deref())?)))
    }

    fn check(&self) -> Result<Check, Box<dyn Error>> {
        let tls = self.tls()?;
        let send = self.send.clone().map(String::into_bytes);
        let user = self.user.clone();
        Ok(match self.check.as_str() {
            "http" => {
                let request = RequestHead::new("GET", &self.path, self.host.as_deref(), &[])?;
                Check::Http(Box::new(Http { rank: self.rank.clone(), tls, ..Http::new(request) }))
            }
            "tcp" => {
                let expect = self.expect.as_deref().map(Expect::regex).transpose()?;
                Check::Tcp { send, expect, tls }
            }
            "tls" => Check::Tls(tls.ok_or("tls needs a client")?),
            "grpc" => Check::Grpc { service: self.service.clone(), host: self.host.clone(), tls },
            "postgres" => Check::Postgres { user: user.unwrap_or_else(|| "plimsoll".to_owned()), tls },
            "mysql" => Check::Mysql { user, tls },
            "redis" => Check::Redis { primary: self.primary, tls },
            "agent" => Check::Agent { port: self.address.port(), send },
            "exec" => Check::Exec(Exec {
                command: self.command.clone(),
                pool: "example".to_owned(),
                endpoint: self.address.to_string(),
            }),
            other => return Err(format!("there is no check {other}").into()),
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let call = Call::parse();
    let check = match call.check() {
        Ok(check) => check,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(2));
        }
    };
    let timeout = Duration::from_millis(call.timeout_ms);
    let outcome =
        run(&Probe { check, address: call.address.into(), host: None, source: None, header: None, timeout })
            .await;
    let verdict = match outcome.verdict {
        Verdict::Good => "good",
        Verdict::SaysNo => "says no",
        Verdict::CannotBeAsked => "cannot be asked",
        Verdict::Void => "void",
    };
    let mut out = io::stdout().lock();
    write!(out, "{verdict}: {}", outcome.evidence)?;
    if let Some(rank) = outcome.rank {
        write!(out, " rank {rank}")?;
    }
    if outcome.evidence.own_address_gone {
        write!(out, " (no address of ours left)")?;
    }
    writeln!(out)?;
    Ok(if outcome.verdict == Verdict::Good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
