//! `plimsoll completions`: the script by which a shell completes our words. What packages put beside the binary comes from
//! the same place, by way of `examples/manual.rs`.

use clap::{Args, ValueEnum};
use clap_complete::aot;

/// The name that is completed.
const NAME: &str = "plimsoll";

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell; as in `plimsoll completions bash >/etc/bash_completion.d/plimsoll`
    #[arg(value_enum)]
    pub(super) shell: Shell,
}

/// A shell whose script is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// Of bash-completion, which looks for the command's name.
    Bash,
    /// A file `_plimsoll` of `fpath`.
    Zsh,
    /// A file `plimsoll.fish`.
    Fish,
}

/// The script of one shell.
#[must_use]
pub fn script(shell: Shell) -> String {
    let mut command = super::definition();
    let mut text = Vec::new();
    match shell {
        Shell::Bash => aot::generate(aot::Bash, &mut command, NAME, &mut text),
        Shell::Zsh => aot::generate(aot::Zsh, &mut command, NAME, &mut text),
        Shell::Fish => aot::generate(aot::Fish, &mut command, NAME, &mut text),
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_knows_every_command_that_is_not_hidden() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = script(shell);
            let definition = crate::cli::definition();
            for command in definition.get_subcommands().filter(|command| !command.is_hide_set()) {
                assert!(text.contains(command.get_name()), "{shell:?} does not know {}", command.get_name());
            }
            assert!(text.contains("observe"), "{shell:?} knows no options");
        }
    }
}
