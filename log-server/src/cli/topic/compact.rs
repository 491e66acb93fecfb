//! `stratalog topic compact`: asks the broker to compact a topic now, and shows what that came to.
//! What is done, and what is left as it is, the broker says.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::cli::failure::{Failure, Outcome};
use crate::cli::http_client::{Refusal, post};
use crate::cli::output::Output;
use crate::cli::text::shown;
use crate::cli::units::{Bytes, Count};

/// What to compact.
#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    /// The topic; its cleanup.policy has to have compact in it
    #[arg(value_name = "NAME")]
    name: String,
    /// The address of the broker's HTTP port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    http: String,
}

pub(super) async fn run(arguments: &CompactArgs, patience: Duration, output: &mut Output) -> Outcome {
    let path = format!("/v1/topics/{}/compact", arguments.name);
    let report = match post(&arguments.http, &path, patience).await? {
        Ok(report) => report,
        Err(refusal) => return Err(advised(refusal, &arguments.name)),
    };
    let rows = report.get("partitions").and_then(Value::as_array);
    let rows = rows.ok_or_else(|| Failure::new("the broker's answer has no partitions"))?;
    if output.is_json() {
        output.json(&report)?;
    } else {
        show(rows, output)?;
    }
    let failures = rows.iter().filter_map(|row| {
        let detail = row.pointer("/error/detail")?.as_str()?;
        let text = format!(
            "{}-{}: {}",
            arguments.name,
            number(row, "/partition"),
            shown(detail)
        );
        Some(Failure::new(text))
    });
    output.all_or_last(failures.collect())
}

fn advised(refusal: Refusal, name: &str) -> Failure {
    let advice = match refusal.code.as_str() {
        "not_compacted" => {
            format!("`stratalog topic alter {name} --set cleanup.policy=compact` makes it a compacted one")
        }
        "unknown_topic" => "list the topics to see which exist".to_owned(),
        "policy_violation" => "start the broker with log.cleaner.enable=true".to_owned(),
        _ => return refusal.failure,
    };
    refusal.failure.advise(advice)
}

fn show(rows: &[Value], output: &mut Output) -> Outcome {
    let columns = [
        "#partition",
        "#from",
        "#to",
        "#records",
        "#left",
        "#size",
        "#left",
        "note",
    ];
    let mut table = output.palette.table(&columns);
    for row in rows {
        let cell = |name: &str| number(row, &format!("/compacted/{name}"));
        let size = |name: &str| match unsigned(row, &format!("/compacted/{name}")) {
            Some(bytes) => Bytes(bytes).to_string(),
            None => "-".to_owned(),
        };
        table.add_row([
            number(row, "/partition"),
            cell("from_offset"),
            cell("to_offset"),
            cell("records_before"),
            cell("records_after"),
            size("bytes_before"),
            size("bytes_after"),
            note(row),
        ]);
    }
    output.table(&table)
}

/// What is to be said of a partition besides numbers.
fn note(row: &Value) -> String {
    if row.get("error").is_some() {
        return "failed".to_owned();
    }
    let held_back = row.get("held_back").and_then(Value::as_str);
    let was_clean = row.get("compacted").is_none_or(Value::is_null);
    match (held_back, was_clean) {
        (Some("open_transaction"), _) => "an open transaction holds records back".to_owned(),
        (Some(other), _) => format!("{} holds records back", shown(other)),
        (None, true) => "nothing to compact".to_owned(),
        (None, false) => String::new(),
    }
}

fn unsigned(row: &Value, pointer: &str) -> Option<u64> {
    row.pointer(pointer)?.as_u64()
}

fn number(row: &Value, pointer: &str) -> String {
    unsigned(row, pointer).map_or_else(|| "-".to_owned(), |number| Count(number).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_partition_says_what_is_to_be_known() {
        let check = |row: Value, expected: &str| assert_eq!(note(&row), expected, "{row}");
        let done = json!({"from_offset": 0, "to_offset": 1});
        check(json!({"compacted": done, "held_back": null}), "");
        check(
            json!({"compacted": null, "held_back": null}),
            "nothing to compact",
        );
        check(
            json!({"compacted": done, "held_back": "open_transaction"}),
            "an open transaction holds records back",
        );
        check(
            json!({"compacted": null, "held_back": "min.compaction.lag.ms"}),
            "min.compaction.lag.ms holds records back",
        );
        check(
            json!({"compacted": null, "held_back": null, "error": {}}),
            "failed",
        );
    }
}
