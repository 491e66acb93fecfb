//! `stratalog txn abort`: ends a transaction in one partition by a marker, for transactions that hang.
//! Without `--execute` it only shows what it would do.
//!
//! | a coordinator means to end it there | `--force` | |
//! |---|---|---|
//! | no: it hangs | | aborted |
//! | yes | no | refused: it ends by itself, and a marker here alone tears it apart |
//! | yes | yes | aborted |

use clap::Args;
use log_client::Error;
use log_client::admin::{Admin, OpenTransaction, TransactionDescription};
use log_core::model::{Offset, TopicPartition};
use log_core::protocol::ErrorCode;
use serde_json::Value;

use super::open;
use crate::cli::age::now;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Output;
use crate::cli::scope::{Scope, in_scope, parse_partition};
use crate::cli::text::shown;
use crate::cli::units::Took;

/// Which transaction.
#[derive(Debug, Args)]
pub(crate) struct AbortArgs {
    /// The partition in which it is open, such as orders-0
    #[arg(value_name = "PARTITION", value_parser = parse_partition)]
    partition: TopicPartition,
    /// Where it begins, as `txn find-hanging` and `txn describe-producers` show it
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    start_offset: i64,
    /// Do it; otherwise it is only shown
    #[arg(long)]
    execute: bool,
    /// Also where a coordinator means to end it
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(arguments: &AbortArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let meant = find(arguments, admin).await?;
    let coordinated = admin.coordinated_transaction(&meant).await?;
    let objection = coordinated.as_ref().map(objection).filter(|_| !arguments.force);
    if arguments.execute {
        if let Some(objection) = objection {
            return Err(Failure::new(objection).advise(
                "wait until it has ended; --force aborts it in this partition alone, whatever becomes of it in others",
            ));
        }
        let aborted = admin.abort_transaction(&meant).await;
        aborted.map_err(|error| refusal(error, &meant))?;
    }
    show(&meant, coordinated.as_ref(), arguments, output)?;
    if arguments.execute {
        return Ok(());
    }
    if let Some(objection) = objection {
        output.warn(format_args!("--execute would be refused now: {objection}"));
    }
    output.remark(
        "Nothing was changed. With --execute readers of committed records go on, and never see its records.",
    );
    Ok(())
}

/// The open transaction that begins there.
async fn find(arguments: &AbortArgs, admin: &Admin) -> Outcome<OpenTransaction> {
    let partition = &arguments.partition;
    // Whoever asks about a partition that does not exist waits for it to appear.
    in_scope(&[Scope::from(partition)], admin).await?;
    let start = Offset::new(arguments.start_offset);
    let open = admin.open_transactions(std::slice::from_ref(partition)).await?;
    let starts: Vec<String> = open.iter().map(|one| one.start.to_string()).collect();
    open.into_iter().find(|one| one.start == start).ok_or_else(|| {
        let failure = Failure::new(format!(
            "no open transaction of {partition} begins at offset {start}"
        ));
        failure.advise(if starts.is_empty() {
            "none is open there; `stratalog txn find-hanging` looks at all partitions".to_owned()
        } else {
            format!("those that are open begin at {}", starts.join(", "))
        })
    })
}

/// Why it is better left alone.
fn objection(known: &TransactionDescription) -> String {
    format!(
        "it belongs to the transactional id {}, which is {}: its coordinator ends it, within {} of its beginning if its producer does not",
        shown(&known.transactional_id),
        shown(known.state.name()),
        Took(known.timeout)
    )
}

fn refusal(error: Error, meant: &OpenTransaction) -> Failure {
    let has_changed = matches!(
        error.code(),
        Some(ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced)
    );
    let failure = Failure::from(error);
    if !has_changed {
        return failure;
    }
    failure.advise(format!(
        "somebody ended it or wrote again meanwhile; `stratalog txn describe-producers {}:{}` shows how it stands",
        meant.partition.topic, meant.partition.partition
    ))
}

fn show(
    meant: &OpenTransaction,
    coordinated: Option<&TransactionDescription>,
    arguments: &AbortArgs,
    output: &mut Output,
) -> Outcome {
    if output.is_json() {
        let mut document = open::document(meant);
        let id = coordinated.map(|known| known.transactional_id.clone());
        document.insert("transactional_id".to_owned(), id.into());
        let state = coordinated.map(|known| known.state.name().to_owned());
        document.insert("state".to_owned(), state.into());
        document.insert("executed".to_owned(), arguments.execute.into());
        return output.json(&Value::Object(document));
    }
    output.table(&open::table(std::slice::from_ref(meant), now(), output.palette))?;
    if arguments.execute {
        output.line("")?;
        output.line(format_args!(
            "Aborted the transaction of producer {} in {}.",
            meant.producer.producer_id, meant.partition
        ))?;
    }
    Ok(())
}
