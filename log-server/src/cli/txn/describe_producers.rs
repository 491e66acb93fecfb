//! `stratalog txn describe-producers`: what partitions know of those who write to them.
//! Only asks.

use clap::Args;
use log_client::admin::{Admin, ProducerDescription};
use log_core::model::{Offset, TopicPartition};
use serde_json::{Value, json};

use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Output;
use crate::cli::scope::{Scope, in_scope};
use crate::time::Rfc3339;

/// Of which partitions.
#[derive(Debug, Args)]
pub(crate) struct DescribeProducersArgs {
    /// Topics, or some of their partitions as in orders:0,1,2
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<Scope>,
    /// Only producers that have a transaction open
    #[arg(long)]
    open: bool,
}

pub(super) async fn run(arguments: &DescribeProducersArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let partitions = in_scope(&arguments.topics, admin).await?;
    let mut failures = Vec::new();
    let mut found = Vec::new();
    for (partition, producers) in admin.describe_producers(partitions.into_iter().collect()).await {
        match producers {
            Ok(producers) => found.extend(
                producers
                    .into_iter()
                    .filter(|producer| !arguments.open || producer.transaction_start.is_some())
                    .map(|producer| (partition.clone(), producer)),
            ),
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    show(&found, output)?;
    output.all_or_last(failures)
}

fn show(found: &[(TopicPartition, ProducerDescription)], output: &mut Output) -> Outcome {
    if output.is_json() {
        let rows = found.iter();
        let rows: Vec<_> = rows
            .map(|(partition, producer)| document(partition, producer))
            .collect();
        return output.json(&rows);
    }
    if found.is_empty() {
        output.remark("No producer of this kind has written there lately.");
        return Ok(());
    }
    let mut table = output.palette.table(&[
        "partition",
        "#producer id",
        "#epoch",
        "#last sequence",
        "last written",
        "#coordinator epoch",
        "#open from",
    ]);
    let known = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    for (partition, producer) in found {
        table.add_row([
            partition.to_string(),
            producer.producer_id.to_string(),
            producer.producer_epoch.to_string(),
            producer.last_sequence.to_string(),
            Rfc3339(producer.last_timestamp).to_string(),
            known(producer.coordinator_epoch.map(|epoch| epoch.to_string())),
            known(producer.transaction_start.map(|start| start.to_string())),
        ]);
    }
    output.table(&table)
}

fn document(partition: &TopicPartition, producer: &ProducerDescription) -> Value {
    json!({
        "topic": &*partition.topic,
        "partition": partition.partition,
        "producer_id": producer.producer_id.get(),
        "producer_epoch": producer.producer_epoch.get(),
        "last_sequence": producer.last_sequence.get(),
        "last_timestamp_ms": producer.last_timestamp.get(),
        "coordinator_epoch": producer.coordinator_epoch,
        "start_offset": producer.transaction_start.map(Offset::get),
    })
}
