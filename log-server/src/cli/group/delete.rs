//! `stratalog group delete`. Asks before it does: without its offsets a group begins anew.
//! A group with members is not deleted; who they are is said.

use clap::Args;
use log_client::Error;
use log_client::admin::Admin;
use log_core::protocol::ErrorCode;
use serde_json::json;

use super::member;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Output;
use crate::cli::question;

/// What to delete.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Names of the groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Do not mind groups that do not exist
    #[arg(long)]
    if_exists: bool,
}

pub(super) async fn run(arguments: &DeleteArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let names: Vec<&str> = arguments.groups.iter().map(String::as_str).collect();
    if !arguments.yes {
        question::can_be_asked(
            "deleting groups",
            "add --yes if the groups and their committed offsets are to go",
        )?;
        let what = question::named("group", &names);
        let question = format!("Delete {what} with all committed offsets?");
        question::ask(question, "nothing was deleted", output)?;
    }
    let results = admin.delete_groups(&names).await;
    let mut failures = Vec::new();
    let mut rows = Vec::new();
    for (name, result) in names.iter().zip(results) {
        let deleted = match result {
            Ok(()) => true,
            Err(error) if arguments.if_exists && error.code() == Some(ErrorCode::GroupIdNotFound) => false,
            Err(error) => {
                failures.push(refusal(name, error, admin).await);
                continue;
            }
        };
        if output.is_json() {
            rows.push(json!({ "group": name, "deleted": deleted }));
        } else if deleted {
            output.line(format_args!("Deleted group {name}."))?;
        } else {
            output.line(format_args!("Group {name} does not exist."))?;
        }
    }
    if output.is_json() {
        output.json(&rows)?;
    }
    output.all_or_last(failures)
}

/// Why it was not deleted, with who is in it.
async fn refusal(name: &str, error: Error, admin: &Admin) -> Failure {
    if error.code() == Some(ErrorCode::NonEmptyGroup)
        && let Some(Ok(group)) = admin.describe_groups(&[name]).await.pop()
        && member::is_active(&group)
    {
        return member::active(&group, "the deletion");
    }
    Failure::from(error)
}
