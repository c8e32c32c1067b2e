//! The command line: words in, text and exit status out. What belongs to a process and not to a library happens here
//! alone: signals, the log, the panic hook.
//!
//! The map: `run` (the proxy as a process), `check`, `explain`, `live`
//! (commands of a running process, with `client`, `reload`, `preview` and `status`), `import` (another product's configuration as ours), `demo` (with `origin`), `completions`.

mod admin_site;
mod check;
mod client;
pub mod completions;
mod demo;
mod explain;
pub mod import;
mod live;
mod origin;
mod preview;
mod reload;
mod run;
mod status;
mod upgrade;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{self, Config, lints};
use crate::control::Mode;
use crate::control::lints::machine;
use crate::control::upgrade::handover::VERSION;
use crate::model::units::parse_duration;

/// Where the configuration is looked for when none is named.
const DEFAULT_CONFIG: &str = "/etc/plimsoll/plimsoll.toml";

/// An L4/L7 load balancer and health proxy.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy until it is told to stop
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Where the last good configuration is looked for when the file is broken [default: what the file still says, systemd's
        /// StateDirectory or /var/lib/plimsoll]
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
        /// Probe, tell events and answer the admin API, but bind no listener
        #[arg(long)]
        observe: bool,
    },
    /// Say whether a configuration is valid: a summary, or every error
    Check(CheckArgs),
    /// Say which route, pool and endpoints a request would get, and why
    Explain(explain::ExplainArgs),
    /// Say what a reload of a file would change in the live process (status 1: it would be refused)
    Plan(preview::PlanArgs),
    /// Keep the configuration that `reload --confirm` has put on trial
    Confirm(preview::ConfirmArgs),
    #[command(flatten)]
    Live(live::Live),
    /// Print the version of the handover that this program understands
    #[command(hide = true)]
    HandoverVersion,
    /// Translate the configuration of another product, with a report on every line (status 1: not all of it is possible)
    Import(import::ImportArgs),
    /// Run the proxy in front of three embedded origins, to try it out
    Demo(demo::Places),
    /// Print what a shell needs to complete these words (packages bring it along)
    Completions(completions::CompletionsArgs),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration
    #[arg(long = "config", value_name = "FILE", default_value = DEFAULT_CONFIG)]
    path: PathBuf,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, Failure> {
        config::load(&self.path).map_err(|diagnostics| Failure::Input(diagnostics.to_string()))
    }
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Print the JSON Schema of configurations and read none
    #[arg(long, conflicts_with_all = ["show", "path"])]
    schema: bool,
    /// Print everything that is looked for, with its code, reason and remedy, and read no configuration
    #[arg(long, conflicts_with_all = ["schema", "show", "path"])]
    list_codes: bool,
    /// Fail (status 1) where anything is found that `[check] allow_codes` does not have
    #[arg(long, conflicts_with_all = ["schema", "show", "list_codes"])]
    strict: bool,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text", conflicts_with_all = ["schema", "show", "list_codes"])]
    format: Format,
    /// Print the configuration with everything that it does not say filled in
    #[arg(long)]
    show: bool,
    /// Fail (status 1) where noticing a dead endpoint may take longer than this, as in 30s
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with_all = ["schema", "show"])]
    rto: Option<Duration>,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Why a command did not do what it was asked; its text is for a person.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The input or the call is wrong: status 2.
    #[error("{0}")]
    Input(String),
    /// It failed while running: status 1.
    #[error("{0}")]
    Running(String),
}

/// What the command line takes, for those who make manual pages of it.
#[must_use]
pub fn definition() -> clap::Command {
    <Cli as CommandFactory>::command()
}

/// Runs the command that `arguments` name, the program's own name first. Status 0: done; 1: it failed while running; 2: the
/// input or the call is wrong. Results go to standard output, everything else to standard error.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with status 0. With nowhere to print there is nothing to do.
            let _printed = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match execute(cli.command, &mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _printed = writeln!(io::stderr(), "{}", failure.to_string().trim_end());
            ExitCode::from(match failure {
                Failure::Input(_) => 2,
                Failure::Running(_) => 1,
            })
        }
    }
}

fn execute(command: Command, out: &mut impl Write) -> Result<(), Failure> {
    let text = match command {
        Command::Run { config, state_dir, observe } => {
            let mode = if observe { Mode::Observe } else { Mode::Serve };
            return run::run(&config.path, mode, state_dir.as_deref());
        }
        Command::Demo(places) => return demo::demo(places, out),
        Command::Import(arguments) => return import::import(&arguments, out),
        Command::Plan(arguments) => return preview::plan(&arguments, out),
        Command::Confirm(arguments) => return preview::confirm(&arguments, out),
        Command::Completions(arguments) => completions::script(arguments.shell),
        Command::HandoverVersion => format!("{VERSION}\n"),
        Command::Check(arguments) => return check_config(&arguments, out),
        Command::Live(command) => live::execute(&command)?,
        Command::Explain(arguments) => explain::execute(&arguments)?,
    };
    print(out, &text)
}

fn check_config(arguments: &CheckArgs, out: &mut impl Write) -> Result<(), Failure> {
    if arguments.schema {
        return print(out, &format!("{:#}\n", config::schema()));
    }
    if arguments.list_codes {
        return print(out, &lints::page());
    }
    let path = &arguments.config.path;
    let config = match config::load(path) {
        Ok(config) => config,
        Err(errors) if arguments.format == Format::Json => {
            print(out, &format!("{:#}\n", check::json_of_errors(path, &errors)))?;
            return Err(Failure::Input(format!(
                "{} is not valid: {} errors",
                path.display(),
                errors.count()
            )));
        }
        Err(errors) => return Err(Failure::Input(errors.to_string())),
    };
    let late = arguments.rto.map(|rto| lints::too_late(&config, rto)).unwrap_or_default();
    if !late.is_empty() {
        return Err(Failure::Running(late.join("\n")));
    }
    if arguments.show {
        return print(out, &config::show(&config));
    }
    let findings = lints::findings(&config, &machine());
    let text = match arguments.format {
        Format::Text => format!("{} is valid\n\n{}", path.display(), check::summary(&config, &findings)),
        Format::Json => format!("{:#}\n", check::json(path, &config, &findings)),
    };
    print(out, &text)?;
    match findings.len() {
        0 => Ok(()),
        _ if !arguments.strict => Ok(()),
        1 => Err(Failure::Running("there is a finding, and --strict wants none".to_owned())),
        count => Err(Failure::Running(format!("there are {count} findings, and --strict wants none"))),
    }
}

/// A reader that has gone (`plimsoll check --show | head`) is no failure.
fn print(out: &mut impl Write, text: &str) -> Result<(), Failure> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Running(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn call(line: &str) -> Result<String, u8> {
        let words = std::iter::once("plimsoll").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|_| 2)?;
        let mut out = Vec::new();
        match execute(cli.command, &mut out) {
            Ok(()) => Ok(String::from_utf8_lossy(&out).into_owned()),
            Err(Failure::Input(_)) => Err(2),
            Err(Failure::Running(_)) => Err(1),
        }
    }

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn wrong_calls_and_wrong_input_have_status_2() {
        for line in [
            "",
            "nonsense",
            "run --nonsense",
            "plan",
            "plan /nonexistent.toml",
            "confirm now",
            "drain",
            "drain pool",
            "drain pool/",
            "drain p/a:80 --timeout 5s",
            "ready p/a:80 --admin nowhere",
            "maintain p/a:80 --for-ever",
            "failover pool",
            "failover pool --to a/b",
            "status --admin 9900",
            "check --config /nonexistent.toml",
            "run --config /nonexistent.toml",
            "check --schema --show",
            "explain --config conf/minimal.toml GET",
            "explain --config conf/minimal.toml GET http://a/ --source nowhere",
            "explain --config conf/minimal.toml GET http://a/ --listener nothing",
            "explain --config conf/minimal.toml GET http://u@a/",
            "explain --config conf/minimal.toml G@T http://a/",
            "explain --config conf/minimal.toml GET http://a/ -H nocolon",
            "explain --config conf/minimal.toml --admin 127.0.0.1:1 GET http://a/",
            "explain --token-file /nonexistent GET http://a/",
            "explain --admin nowhere GET http://a/",
        ] {
            assert_eq!(call(line), Err(2), "{line}");
        }
    }

    #[test]
    fn check_sums_up_shows_and_describes() {
        let summary = call("check --config conf/minimal.toml").unwrap_or_default();
        assert!(summary.starts_with("conf/minimal.toml is valid\n"), "{summary}");
        let schema = call("check --schema").unwrap_or_default();
        assert!(serde_json::from_str::<serde_json::Value>(&schema).is_ok_and(|s| s.is_object()), "{schema}");
        let shown = call("check --show --config conf/minimal.toml").unwrap_or_default();
        let read = config::load_text(&shown, Path::new("shown.toml"), &|_| None);
        assert!(read.is_ok_and(|config| config.pools.len() == 1), "{shown}");
    }

    #[test]
    fn the_demo_stands_where_the_readme_says() {
        let cli = Cli::try_parse_from(["plimsoll", "demo"]).map(|cli| format!("{:?}", cli.command));
        assert!(
            cli.as_ref()
                .is_ok_and(|c| c.contains("listen: 127.0.0.1:8080") && c.contains("admin: 127.0.0.1:9900")),
            "{cli:?}"
        );
    }

    #[test]
    fn check_fails_above_the_time_to_recover() {
        assert!(call("check --config conf/patroni.toml --rto 30s").is_ok());
        assert_eq!(call("check --config conf/patroni.toml --rto 2s"), Err(1));
        assert_eq!(
            call("check --config conf/minimal.toml --rto 30s"),
            Err(1),
            "nothing bounds it without probes"
        );
        assert_eq!(call("check --config conf/patroni.toml --rto soon"), Err(2));
    }

    #[test]
    fn a_gone_reader_is_no_failure() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(print(&mut Gone, "text").is_ok());
    }
}
