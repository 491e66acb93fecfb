//! The `stratalog` command; what its subcommands do stands in `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    log_server::cli::main()
}
