//! `stratalog txn find-hanging`: transactions that hold up readers of committed records, and that nobody will end.
//! Only asks; `txn abort` ends one.

use std::time::Duration;

use clap::Args;
use log_client::admin::Admin;
use log_core::model::TopicPartition;

use super::open;
use crate::cli::age::{before, now, parse_age};
use crate::cli::failure::Outcome;
use crate::cli::output::Output;
use crate::cli::scope::{Scope, in_scope};
use crate::cli::units::Took;

/// Where to look.
#[derive(Debug, Args)]
pub(crate) struct FindHangingArgs {
    /// A topic, or some of its partitions as in orders:0,1,2; may be repeated. Without it, all topics
    #[arg(long, short, value_name = "TOPIC")]
    topic: Vec<Scope>,
    /// Only those whose producer has been silent for longer than this, such as 90s, 2h or 7d. No transaction may last longer than the
    /// broker's transaction.max.timeout.ms
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = parse_age)]
    older_than: Duration,
}

pub(super) async fn run(arguments: &FindHangingArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let partitions = if arguments.topic.is_empty() {
        all(admin).await?
    } else {
        in_scope(&arguments.topic, admin).await?.into_iter().collect()
    };
    let now = now();
    let silent_since = before(now, arguments.older_than);
    let hanging = admin.hanging_transactions(&partitions, silent_since).await?;
    if output.is_json() {
        let rows: Vec<_> = hanging.iter().map(open::document).collect();
        return output.json(&rows);
    }
    let Some(first) = hanging.first() else {
        let least = Took(arguments.older_than);
        output.remark(format_args!(
            "No transaction hangs whose producer has been silent for {least}."
        ));
        return Ok(());
    };
    output.table(&open::table(&hanging, now, output.palette))?;
    output.remark(format_args!(
        "`stratalog txn abort {} --start-offset {}` shows what ending the first would do.",
        first.partition, first.start
    ));
    Ok(())
}

/// All partitions of all topics, the brokers' own too: transactions write committed offsets.
async fn all(admin: &Admin) -> Outcome<Vec<TopicPartition>> {
    let mut all = Vec::new();
    for topic in admin.list_topics().await? {
        let count = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
        all.extend((0..count).map(|number| TopicPartition::new(&*topic.name, number)));
    }
    Ok(all)
}
