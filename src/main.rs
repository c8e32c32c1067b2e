//! The `plimsoll` binary: hands its arguments to the command line and returns its exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    plimsoll::cli::main(std::env::args_os())
}
