//! The sections about the process itself: `[process]`, `[admin]`, `[health]`, `[log]` and `[check]`.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::admission;
use super::diagnostic::Report;
use super::source::Sources;
use super::tls::Files;
use super::value::Fields;
use crate::policy::admission::overload;

/// `[process]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Data-plane threads; nothing means one per CPU.
    pub workers: Option<usize>,
    /// `/readyz` says no for so long before listeners stop accepting.
    pub drain_delay: Duration,
    /// What live work gets at shutdown.
    pub drain_timeout: Duration,
    /// What live work gets in the old process after an upgrade.
    pub upgrade_drain_timeout: Duration,
    /// What a new process gets to be ready to take over.
    pub upgrade_timeout: Duration,
    /// What new endpoints get to be found usable before they are published.
    pub warm_timeout: Duration,
    /// Where this node stands; empty is nowhere.
    pub zone: String,
    /// Whether a change of a file of the configuration, a certificate or a key is a reload.
    pub watch: bool,
    /// DNS servers that names are asked of; empty is those of the system.
    pub resolvers: Vec<SocketAddr>,
    /// A reload that leaves a pool under this share of its usable endpoints is refused; 0 is off.
    pub reload_guard: f64,
    /// When something is given up before the process fails; nothing is never.
    pub overload: Option<overload::Settings>,
    /// Where the last good configuration, overrides and generated keys are kept; nothing keeps none.
    pub state_dir: Option<PathBuf>,
}

/// `[health]`: the open health listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthApi {
    /// Its addresses; none where the section is absent.
    pub bind: Vec<SocketAddr>,
    /// What each of them takes.
    pub limits: ApiLimits,
}

/// Limits of the admin API or of the open health listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApiLimits {
    /// Connections at once.
    pub connections: usize,
    /// Streams of events at once; the open health listener has none.
    pub streams: usize,
    /// A whole request head, from when it can be sent.
    pub request_header: Duration,
}

/// `[check]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckRules {
    /// Noticing a dead endpoint later than this is a finding.
    pub objective: Option<Duration>,
    /// How long clients wait for an answer.
    pub client_timeout: Option<Duration>,
    /// Findings that are not reported.
    pub allow_codes: Vec<String>,
}

/// Where the admin API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminBind {
    /// A loopback address (or any other, with a token).
    Tcp(SocketAddr),
    /// A unix socket, mode 0600.
    Unix(PathBuf),
}

impl fmt::Display for AdminBind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Where it listens.
    pub bind: AdminBind,
    /// Host values accepted beside the loopback names, lower case; others get 421.
    pub allowed_hosts: Vec<String>,
    /// What it takes.
    pub limits: ApiLimits,
    /// A file of tokens that allow everything; there is one where the address is not loopback.
    pub token_file: Option<PathBuf>,
    /// A file of tokens that allow to look.
    pub read_token_file: Option<PathBuf>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// A human must act.
    Error,
    /// Unexpected, work went on.
    Warn,
    /// State changed.
    Info,
    /// Detail for us.
    Debug,
    /// Everything.
    Trace,
}

/// Text or JSON, for the log and the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of key=value text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, reopened on SIGUSR1.
    File(PathBuf),
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// The least level that is written.
    pub level: LogLevel,
    /// Text or JSON.
    pub format: LogFormat,
    /// Where access-log records go.
    pub access: AccessLog,
}

impl Process {
    /// Reads the section `[process]`, whose paths are relative to the file that they stand in.
    pub(super) fn read(fields: &Fields, sources: &Sources) -> Option<Self> {
        let state_dir = fields.get::<String>("state_dir")?;
        let beside = sources.directory(fields.span_of("state_dir").file);
        let workers = if fields.is_word("workers", "auto") { None } else { Some(fields.get("workers")?) };
        Some(Self {
            workers,
            drain_delay: fields.get("drain_delay")?,
            drain_timeout: fields.get("drain_timeout")?,
            upgrade_drain_timeout: fields.get("upgrade_drain_timeout")?,
            upgrade_timeout: fields.get("upgrade_timeout")?,
            warm_timeout: fields.get("warm_timeout")?,
            zone: fields.get("zone")?,
            watch: fields.get("watch")?,
            resolvers: fields.plain_list("resolvers"),
            reload_guard: fields.get("reload_guard")?,
            overload: admission::overload(fields),
            state_dir: (!state_dir.is_empty()).then(|| beside.join(state_dir)),
        })
    }
}

impl HealthApi {
    /// Reads the section `[health]`, which may be absent.
    pub(super) fn read(fields: Option<&Fields>, report: &mut Report) -> Self {
        let Some(fields) = fields else { return Self::default() };
        fields.require("[health]", report);
        Self { bind: fields.plain_list("bind"), limits: ApiLimits::read(fields).unwrap_or_default() }
    }
}

impl ApiLimits {
    /// Reads the keys `limits` and `timeouts` of either section, of which only one knows streams.
    fn read(fields: &Fields) -> Option<Self> {
        let limits = fields.table("limits")?;
        let streams = if limits.section.key("streams").is_some() { limits.get("streams")? } else { 0 };
        let request_header = fields.table("timeouts")?.get("request_header")?;
        Some(Self { connections: limits.get("connections")?, streams, request_header })
    }
}

impl CheckRules {
    /// Reads the section `[check]`.
    pub(super) fn read(fields: &Fields) -> Self {
        Self {
            objective: fields.get("objective"),
            client_timeout: fields.get("client_timeout"),
            allow_codes: fields
                .plain_list::<&'static str>("allow_codes")
                .into_iter()
                .map(str::to_owned)
                .collect(),
        }
    }
}

impl Admin {
    /// Reads the section `[admin]`, whose paths are relative to the file that they stand in.
    pub(super) fn read(fields: &Fields, files: Files<'_>, report: &mut Report) -> Option<Self> {
        let mut file = |name| files.named(fields, name, "a file of tokens", tokens, report);
        let (token_file, read_token_file) = (file("token_file"), file("read_token_file"));
        let bind: AdminBind = fields.get("bind")?;
        let has_token = fields.has("token_file");
        if let AdminBind::Tcp(address) = bind
            && !address.ip().to_canonical().is_loopback()
            && !has_token
        {
            let message = "any but a loopback address needs `token_file`";
            let help = format!("add token_file = \"admin.token\", or write \"127.0.0.1:{}\"", address.port());
            report.error(fields.span_of("bind"), message, help);
        }
        if let Some(field) = fields.written("read_token_file").filter(|_| !has_token) {
            let message = "`read_token_file` has no use without `token_file`: nobody needs a token then";
            report.error(field.key_span, message, "add token_file = \"admin.token\", or remove it");
        }
        let allowed_hosts = fields.plain_list("allowed_hosts");
        let limits = ApiLimits::read(fields)?;
        Some(Self { bind, allowed_hosts, limits, token_file, read_token_file })
    }
}

fn tokens(path: &Path) -> Result<(), String> {
    super::tokens::read(path).map(drop)
}

impl Log {
    /// Reads the section `[log]`, whose paths are relative to the file that they stand in.
    pub(super) fn read(fields: &Fields, sources: &Sources) -> Option<Self> {
        let level = LogLevel::ALL.into_iter().find(|level| fields.is_word("level", level.word()))?;
        let format = LogFormat::ALL.into_iter().find(|format| fields.is_word("format", format.word()))?;
        let access = match fields.get("access")? {
            AccessLog::File(path) => {
                AccessLog::File(sources.directory(fields.span_of("access").file).join(path))
            }
            other => other,
        };
        Some(Self { level, format, access })
    }
}

impl LogLevel {
    const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl LogFormat {
    const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
