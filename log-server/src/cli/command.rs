//! The tree of commands. Without a subcommand, and for flags that belong to none, it is `serve`.
//! What a command does stands in its own file; here it is found, run to its end, and turned into an exit
//! code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::bench::{self, BenchCommand, LoadArgs};
use super::connection::ConnectionArgs;
use super::consume::{self, ConsumeArgs};
use super::failure::{EXIT_CODES, Failure, Kind, Outcome};
use super::group::GroupCommand;
use super::log::LogCommand;
use super::output::Output;
use super::produce::{self, ProduceArgs};
use super::serve::{self, ServeArgs};
use super::topic::TopicCommand;
use super::txn::TxnCommand;

/// A Kafka-compatible commit log in one binary
///
/// Without a command it serves: `stratalog` is `stratalog serve`.
#[derive(Debug, Parser)]
#[command(name = "stratalog", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker
    Serve(ServeArgs),
    /// Create, list, describe, alter, compact and delete topics
    #[command(arg_required_else_help = true)]
    Topic {
        #[command(flatten)]
        client: ClientArgs,
        #[command(subcommand)]
        command: TopicCommand,
    },
    /// List, describe and delete groups of consumers, and set where they go on
    #[command(arg_required_else_help = true)]
    Group {
        #[command(flatten)]
        client: ClientArgs,
        #[command(subcommand)]
        command: GroupCommand,
    },
    /// List and describe transactions, and end those that hang
    #[command(arg_required_else_help = true)]
    Txn {
        #[command(flatten)]
        client: ClientArgs,
        #[command(subcommand)]
        command: TxnCommand,
    },
    /// Send lines of files or of standard input to a topic
    Produce {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        arguments: Box<ProduceArgs>,
    },
    /// Show the records of topics, alone or as a member of a group
    Consume {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        arguments: Box<ConsumeArgs>,
    },
    /// Put load on a broker of the Kafka protocol, verify what comes back, and tell what it gave
    #[command(arg_required_else_help = true, args_conflicts_with_subcommands = true)]
    Bench {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        arguments: Box<LoadArgs>,
        #[command(subcommand)]
        command: Option<BenchCommand>,
    },
    /// Look into a broker's files, without a broker
    #[command(arg_required_else_help = true)]
    Log {
        /// Answer in JSON
        #[arg(long, global = true)]
        json: bool,
        #[command(subcommand)]
        command: LogCommand,
    },
}

/// What every command has that talks to a broker.
#[derive(Debug, clap::Args)]
struct ClientArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

/// Runs the command of this process's arguments to its end.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = with_command(std::env::args_os().collect());
    let is_json = arguments.iter().any(|argument| argument == "--json");
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let kind = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Kind::Done,
                _ => Kind::Usage,
            };
            if is_json && kind == Kind::Usage {
                Output::new(true).fail(&misused(&error));
            } else {
                // Help and version go to standard output, the rest to standard error; either may be closed.
                error.print().ok();
            }
            return kind.into();
        }
    };
    match cli.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Topic { client, command } => client.run(false, async |connection, output| {
            command.run(connection, output).await
        }),
        Command::Group { client, command } => client.run(false, async |connection, output| {
            command.run(connection, output).await
        }),
        Command::Txn { client, command } => client.run(false, async |connection, output| {
            command.run(connection, output).await
        }),
        Command::Produce { client, arguments } => client.run(arguments.quiet, async |connection, output| {
            produce::run(&arguments, connection, output).await
        }),
        Command::Consume { client, arguments } => client.run(arguments.quiet, async |connection, output| {
            consume::run(&arguments, connection, output).await
        }),
        Command::Bench {
            client,
            command: Some(command),
            ..
        } => {
            let mut output = Output::new(client.json);
            let outcome = command.run(&mut output);
            end(outcome, &mut output)
        }
        Command::Bench {
            client, arguments, ..
        } => client.run(arguments.quiet, async |connection, output| {
            bench::run(&arguments, connection, output).await
        }),
        Command::Log { json, command } => {
            let mut output = Output::new(json);
            let outcome = command.run(&mut output);
            end(outcome, &mut output)
        }
    }
}

/// Puts `serve` in front of flags that stand alone.
fn with_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let first = arguments.get(1).and_then(|argument| argument.to_str());
    let is_own = |flag: &str| ["-h", "--help", "-V", "--version"].contains(&flag);
    let is_served = first.is_none_or(|first| first.starts_with('-') && !is_own(first));
    // A first argument that is not UTF-8 is no flag of anybody's.
    if is_served && (arguments.len() < 2 || first.is_some()) {
        arguments.insert(arguments.len().min(1), "serve".into());
    }
    arguments
}

/// The error of a command line, for programs: without the word in front and the usage behind it.
fn misused(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let (message, _) = text.split_once("\n\n").unwrap_or((&text, ""));
    let message = message.strip_prefix("error: ").unwrap_or(message);
    Failure::usage(message.trim_end()).advise("--help shows what there is")
}

fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches_from(arguments)?)
}

/// The tree, with the exit codes below each help text.
pub(crate) fn command() -> clap::Command {
    let code = |(kind, meaning): (Kind, &str)| format!("\n  {:>3}  {meaning}", kind.code());
    let codes: String = EXIT_CODES.into_iter().map(code).collect();
    Cli::command().after_long_help(format!("Exit codes:{codes}"))
}

impl ClientArgs {
    /// Runs a command that talks to a broker, on a runtime of its own.
    fn run(
        &self,
        is_quiet: bool,
        command: impl AsyncFnOnce(&ConnectionArgs, &mut Output) -> Outcome,
    ) -> ExitCode {
        let mut output = Output::new(self.json).quiet(is_quiet);
        let outcome = on_runtime(async { command(&self.connection, &mut output).await });
        end(outcome, &mut output)
    }
}

/// Writes what is left to be written, says what went wrong, and gives the exit code.
fn end(outcome: Outcome, output: &mut Output) -> ExitCode {
    // What a command wrote before it failed is written all the same.
    let flushed = output.flush();
    match outcome.and(flushed) {
        Ok(()) => Kind::Done.into(),
        Err(failure) => {
            output.fail(&failure);
            failure.kind.into()
        }
    }
}

fn on_runtime(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(command);
    // Whoever still waits, for a line of standard input say, is not waited for.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(arguments: &[&str]) -> Vec<String> {
        let arguments = std::iter::once("stratalog").chain(arguments.iter().copied());
        let completed = with_command(arguments.map(OsString::from).collect());
        completed
            .into_iter()
            .skip(1)
            .map(|argument| argument.into_string().unwrap())
            .collect()
    }

    #[test]
    fn the_tree_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn what_stands_alone_is_for_serve() {
        assert_eq!(completed(&[]), ["serve"]);
        assert_eq!(completed(&["--data-dir", "x"]), ["serve", "--data-dir", "x"]);
        for own in ["-h", "--help", "-V", "--version", "topic", "nonsense"] {
            assert_eq!(completed(&[own]), [own]);
        }
        assert!(
            parse(vec![
                "stratalog".into(),
                "serve".into(),
                "--data-dir".into(),
                "x".into()
            ])
            .is_ok()
        );
    }

    #[test]
    fn nonsense_is_refused_with_what_was_meant() {
        let error = parse(vec!["stratalog".into(), "topics".into()]).unwrap_err();
        assert!(error.to_string().contains("'topic'"), "{error}");
    }

    #[test]
    fn the_connection_may_stand_before_or_behind_the_verb() {
        for arguments in [
            "stratalog topic --bootstrap h:1 list --json",
            "stratalog topic --json -b h:1 list",
        ] {
            let cli = parse(arguments.split(' ').map(OsString::from).collect()).unwrap();
            let Command::Topic { client, .. } = cli.command else {
                panic!("a topic command")
            };
            assert_eq!((client.connection.bootstrap.as_str(), client.json), ("h:1", true));
        }
    }
}
