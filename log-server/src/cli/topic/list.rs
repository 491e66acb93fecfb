//! `stratalog topic list`.
//! Only asks; what topics hold is asked for on demand, because it takes every partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use log_client::admin::{Admin, TopicListing};
use log_client::offsets::OffsetQuery;
use log_core::model::TopicPartition;
use serde_json::json;

use crate::cli::failure::Outcome;
use crate::cli::output::Output;
use crate::cli::units::{Bytes, Count};

/// Which topics, and how much of them.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only topics whose names contain this
    #[arg(value_name = "TEXT")]
    pattern: Option<String>,
    /// Also topics of the broker's own workings
    #[arg(long)]
    internal: bool,
    /// Also how many records and bytes they hold, which asks every partition
    #[arg(long, short)]
    long: bool,
}

/// What the topics hold.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holdings {
    /// Offsets from the start to the end: records, but for those that compaction took and markers.
    pub(super) records: u64,
    /// The bytes of their segments.
    pub(super) bytes: u64,
}

pub(super) async fn run(arguments: &ListArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let wanted = |topic: &TopicListing| {
        let matches = arguments
            .pattern
            .as_ref()
            .is_none_or(|pattern| topic.name.contains(pattern.as_str()));
        matches && (arguments.internal || !topic.is_internal)
    };
    let mut topics = admin.list_topics().await?;
    topics.retain(wanted);
    let holdings = if arguments.long {
        Some(holdings(admin, &topics).await?)
    } else {
        None
    };

    if output.is_json() {
        let rows: Vec<_> = topics.iter().map(|topic| row(topic, holdings.as_ref())).collect();
        return output.json(&rows);
    }
    if topics.is_empty() {
        output.remark(match arguments.pattern {
            None => "There are no topics. `stratalog topic create NAME` creates one.",
            Some(_) => "No topic has such a name.",
        });
        return Ok(());
    }
    let columns: &[&str] = match holdings {
        None => &["name", "#partitions", "id"],
        Some(_) => &["name", "#partitions", "#records", "#size", "id"],
    };
    let mut table = output.palette.table(columns);
    for topic in &topics {
        let mut cells = vec![topic.name.to_string(), topic.partitions.to_string()];
        if let Some(holdings) = &holdings {
            let held = holdings.get(&topic.name).copied().unwrap_or_default();
            cells.push(Count(held.records).to_string());
            cells.push(Bytes(held.bytes).to_string());
        }
        cells.push(topic.id.to_string());
        table.add_row(cells);
    }
    output.table(&table)
}

fn row(topic: &TopicListing, holdings: Option<&BTreeMap<Arc<str>, Holdings>>) -> serde_json::Value {
    let mut row = json!({
        "name": &*topic.name,
        "id": topic.id.to_string(),
        "partitions": topic.partitions,
        "replication_factor": topic.replication_factor,
        "internal": topic.is_internal,
    });
    if let (Some(holdings), Some(row)) = (holdings, row.as_object_mut()) {
        let held = holdings.get(&topic.name).copied().unwrap_or_default();
        row.insert("records".to_owned(), json!(held.records));
        row.insert("bytes".to_owned(), json!(held.bytes));
    }
    row
}

/// What each topic holds. A partition that does not answer fails the command: a sum without it would lie.
async fn holdings(admin: &Admin, topics: &[TopicListing]) -> Outcome<BTreeMap<Arc<str>, Holdings>> {
    let mut sums: BTreeMap<Arc<str>, Holdings> = BTreeMap::new();
    let partitions = topics.iter().flat_map(|topic| {
        let count = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
        (0..count).map(|partition| TopicPartition::new(Arc::clone(&topic.name), partition))
    });
    for (partition, (start, end)) in offsets(admin, partitions.collect()).await? {
        let records = u64::try_from(end.saturating_sub(start)).unwrap_or_default();
        let sum = sums.entry(partition.topic).or_default();
        sum.records = sum.records.saturating_add(records);
    }
    for replica in admin
        .describe_log_dirs()
        .await?
        .into_iter()
        .flat_map(|directory| directory.replicas)
    {
        if let Some(sum) = sums.get_mut(&replica.partition.topic) {
            sum.bytes = sum.bytes.saturating_add(replica.bytes);
        }
    }
    Ok(sums)
}

/// Where each partition starts and ends, in the order given.
pub(super) async fn offsets(
    admin: &Admin,
    partitions: Vec<TopicPartition>,
) -> Outcome<Vec<(TopicPartition, (i64, i64))>> {
    let ask = async |query| {
        let queries = partitions
            .iter()
            .map(|partition| (partition.clone(), query))
            .collect();
        let mut offsets = Vec::new();
        for (_, answer) in admin.list_offsets(queries).await {
            offsets.push(answer?.offset.map_or(0, log_core::model::Offset::get));
        }
        Outcome::Ok(offsets)
    };
    let starts = ask(OffsetQuery::Earliest).await?;
    let ends = ask(OffsetQuery::Latest).await?;
    let offsets = starts.into_iter().zip(ends);
    Ok(partitions.into_iter().zip(offsets).collect())
}
