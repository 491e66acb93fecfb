//! The `stratalog` command.
//! Which subcommand is meant; what each does stands in `cli`.

use std::process::ExitCode;

use clap::Parser;
use log_server::cli::serve::{self, ServeArgs};

#[derive(Debug, Parser)]
#[command(name = "stratalog", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serves Kafka clients; what `stratalog` does without a command.
    Serve(ServeArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Serve(arguments)) => serve::run(&arguments),
        None => serve::run(&cli.serve),
    }
}
