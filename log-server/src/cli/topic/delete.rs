//! `stratalog topic delete`. Asks before it does: records that are gone do not come back.
//! Where nobody can be asked, it takes a flag.

use std::io::{self, IsTerminal};

use clap::Args;
use log_client::admin::Admin;
use log_core::protocol::ErrorCode;
use serde_json::json;

use super::create::all_or_first;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Output;
use crate::cli::units::counted;

/// What to delete.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Do not mind topics that do not exist
    #[arg(long)]
    if_exists: bool,
}

pub(super) async fn run(arguments: &DeleteArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let names: Vec<&str> = arguments.names.iter().map(String::as_str).collect();
    if !arguments.yes {
        confirm(admin, &names, output).await?;
    }
    let results = admin.delete_topics(&names).await?;
    let mut failures = Vec::new();
    let mut rows = Vec::new();
    for (name, result) in names.iter().zip(results) {
        let deleted = match result {
            Ok(()) => true,
            Err(error) if arguments.if_exists && error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                false
            }
            Err(error) => {
                failures.push(Failure::from(error));
                continue;
            }
        };
        if output.is_json() {
            rows.push(json!({ "name": name, "deleted": deleted }));
        } else if deleted {
            output.line(format_args!("Deleted topic {name}."))?;
        } else {
            output.line(format_args!("Topic {name} does not exist."))?;
        }
    }
    if output.is_json() {
        output.json(&rows)?;
    }
    all_or_first(output, failures)
}

/// Asks on the terminal. Without one nobody can answer, and nothing is deleted.
async fn confirm(admin: &Admin, names: &[&str], output: &Output) -> Outcome {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "deleting topics needs a yes, and standard input is no terminal to ask at",
        )
        .advise("add --yes if the topics and all their records are to go"));
    }
    let mut partitions: u64 = 0;
    for topic in admin.describe_topics(names).await? {
        let count = topic.map_or(0, |topic| topic.partitions.len());
        partitions = partitions.saturating_add(u64::try_from(count).unwrap_or_default());
    }
    let what = match names {
        [name] => format!("topic {name}"),
        _ => format!("topics {}", names.join(", ")),
    };
    let partitions = counted(partitions, "partition");
    output.ask(format_args!(
        "Delete {what} with all records of {partitions}? [y/N] "
    ));
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::new(format!("cannot read the answer: {error}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was deleted")),
    }
}
