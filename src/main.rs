//! The `plimsoll` binary: hands its arguments to the command line and returns its exit status.

use std::process::ExitCode;

/// Chosen by measurement (2026-11, 8,000 idle connections after a burst on all of them at once): a connection holds
/// under 940 bytes with jemalloc, which gives the burst's memory back by a thread of its own (`.cargo/config.toml`);
/// mimalloc kept 2,800 and glibc more. CPU per small request is the same within noise (12.1 us, 12.1 and 12.8). Programs
/// that embed the library choose their own and leave the feature out.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    plimsoll::cli::main(std::env::args_os())
}
