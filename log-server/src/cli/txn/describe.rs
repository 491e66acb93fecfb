//! `stratalog txn describe`: what coordinators know of transactional ids.
//! Only asks.

use std::time::Duration;

use clap::Args;
use log_client::admin::{Admin, TransactionDescription};
use log_core::model::{TimestampMs, TopicPartition};
use serde_json::{Value, json};

use crate::cli::age::{age, now};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Output;
use crate::cli::partitions::ranges;
use crate::cli::text::shown;
use crate::cli::units::Took;
use crate::time::Rfc3339;

/// What to describe.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Transactional ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

pub(super) async fn run(arguments: &DescribeArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let ids: Vec<&str> = arguments.ids.iter().map(String::as_str).collect();
    let mut failures = Vec::new();
    let mut found = Vec::new();
    for described in admin.describe_transactions(&ids).await {
        match described {
            Ok(one) => found.push(one),
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    let now = now();
    if output.is_json() {
        let documents: Vec<_> = found.iter().map(|one| document(one, now)).collect();
        output.json(&documents)?;
    } else {
        for (index, one) in found.iter().enumerate() {
            if 0 < index {
                output.line("")?;
            }
            show(one, now, output)?;
        }
    }
    output.all_or_last(failures)
}

fn show(one: &TransactionDescription, now: Duration, output: &mut Output) -> Outcome {
    let palette = output.palette;
    let mut fact = |name: &str, value: &str| {
        let name = palette.faint(format_args!("{name:<12}"));
        output.line(format_args!("  {name} {value}"))
    };
    fact("id", &palette.strong(shown(&one.transactional_id)))?;
    fact("state", &shown(one.state.name()))?;
    fact(
        "producer",
        &format!("{} (epoch {})", one.producer_id, one.producer_epoch),
    )?;
    fact("timeout", &Took(one.timeout).to_string())?;
    if let Some((started, open)) = begun(one, now) {
        fact("began", &format!("{} ({} ago)", Rfc3339(started), Took(open)))?;
    }
    fact("partitions", &shown(&ranges(&one.partitions)))?;
    fact("coordinator", &one.coordinator.to_string())
}

/// When its transaction began, and how long ago.
fn begun(one: &TransactionDescription, now: Duration) -> Option<(TimestampMs, Duration)> {
    let started = one.started?;
    Some((started, age(started, now)?))
}

fn document(one: &TransactionDescription, now: Duration) -> Value {
    let in_ms = |time: Duration| u64::try_from(time.as_millis()).ok();
    let place = |place: &TopicPartition| json!({ "topic": &*place.topic, "partition": place.partition });
    json!({
        "transactional_id": one.transactional_id,
        "state": one.state.name(),
        "producer_id": one.producer_id.get(),
        "producer_epoch": one.producer_epoch.get(),
        "timeout_ms": in_ms(one.timeout),
        "started_ms": one.started.map(TimestampMs::get),
        "duration_ms": begun(one, now).and_then(|(_, open)| in_ms(open)),
        "partitions": one.partitions.iter().map(place).collect::<Vec<_>>(),
        "coordinator": one.coordinator,
    })
}
