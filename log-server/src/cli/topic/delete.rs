//! `stratalog topic delete`. Asks before it does: records that are gone do not come back.
//! Where nobody can be asked, it takes a flag.

use clap::Args;
use log_client::admin::Admin;
use log_core::protocol::ErrorCode;
use serde_json::json;

use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Output;
use crate::cli::question;
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
    output.all_or_last(failures)
}

/// Asks whether all that is to go.
async fn confirm(admin: &Admin, names: &[&str], output: &Output) -> Outcome {
    question::can_be_asked(
        "deleting topics",
        "add --yes if the topics and all their records are to go",
    )?;
    let mut partitions: u64 = 0;
    for topic in admin.describe_topics(names).await? {
        let count = topic.map_or(0, |topic| topic.partitions.len());
        partitions = partitions.saturating_add(u64::try_from(count).unwrap_or_default());
    }
    let what = question::named("topic", names);
    let partitions = counted(partitions, "partition");
    question::ask(
        format_args!("Delete {what} with all records of {partitions}?"),
        "nothing was deleted",
        output,
    )
}
