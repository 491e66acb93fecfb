//! The `stratalog` command; what its subcommands do stands in `cli`.
//! All of it stands in `cli`, so that tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    log_server::cli::main()
}
