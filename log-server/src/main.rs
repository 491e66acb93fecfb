//! The `stratalog` command; what its subcommands do stands in `cli`.
//! All of it stands in `cli`, so that tests can reach it.

use std::process::ExitCode;

/// Why this one stands in `Cargo.toml`. Tests and benches use the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    log_server::cli::main()
}
