//! `stratalog txn list`.
//! The broker filters by state, producer and age, this command by name.

use std::time::Duration;

use clap::Args;
use log_client::admin::{Admin, TransactionFilter, TransactionListing, TransactionState};
use log_core::model::ProducerId;
use serde_json::json;

use crate::cli::age::parse_age;
use crate::cli::failure::Outcome;
use crate::cli::output::Output;
use crate::cli::text::shown;

/// Which transactional ids.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only transactional ids that contain this
    #[arg(value_name = "TEXT")]
    pattern: Option<String>,
    /// Only those in one of these states, such as ongoing or preparecommit; separated by commas, or repeated
    #[arg(long, short, value_name = "STATE", value_delimiter = ',', value_parser = parse_state)]
    state: Vec<TransactionState>,
    /// Only those of these producer ids; separated by commas, or repeated
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = clap::value_parser!(i64).range(0..))]
    producer_id: Vec<i64>,
    /// Only those whose transaction began longer ago than this, such as 90s, 2h or 7d
    #[arg(long, visible_alias = "duration-filter", value_name = "DURATION", value_parser = parse_age)]
    older_than: Option<Duration>,
}

const STATES: [TransactionState; 8] = [
    TransactionState::Empty,
    TransactionState::Ongoing,
    TransactionState::PrepareCommit,
    TransactionState::PrepareAbort,
    TransactionState::CompleteCommit,
    TransactionState::CompleteAbort,
    TransactionState::PrepareEpochFence,
    TransactionState::Dead,
];

fn parse_state(text: &str) -> Result<TransactionState, String> {
    let found = STATES
        .iter()
        .find(|state| state.name().eq_ignore_ascii_case(text.trim()));
    let names = || STATES.each_ref().map(TransactionState::name).join(", ");
    found
        .cloned()
        .ok_or_else(|| format!("a transactional id is in one of the states {}", names()))
}

pub(super) async fn run(arguments: &ListArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let filter = TransactionFilter {
        states: arguments.state.clone(),
        producer_ids: arguments
            .producer_id
            .iter()
            .copied()
            .map(ProducerId::new)
            .collect(),
        older_than: arguments.older_than,
    };
    let mut listed = admin.list_transactions(&filter).await?;
    if let Some(pattern) = &arguments.pattern {
        listed.retain(|one| one.transactional_id.contains(pattern.as_str()));
    }
    if output.is_json() {
        let row = |one: &TransactionListing| {
            json!({
                "transactional_id": one.transactional_id,
                "state": one.state.name(),
                "producer_id": one.producer_id.get(),
                "coordinator": one.coordinator,
            })
        };
        let rows: Vec<_> = listed.iter().map(row).collect();
        return output.json(&rows);
    }
    if listed.is_empty() {
        output.remark(if arguments.is_filtered() {
            "There are no such transactional ids."
        } else {
            "There are no transactional ids. A producer with a transactional.id makes one."
        });
        return Ok(());
    }
    let mut table = output
        .palette
        .table(&["transactional id", "state", "#producer id", "#coordinator"]);
    for one in &listed {
        table.add_row([
            shown(&one.transactional_id).into_owned(),
            shown(one.state.name()).into_owned(),
            one.producer_id.to_string(),
            one.coordinator.to_string(),
        ]);
    }
    output.table(&table)
}

impl ListArgs {
    fn is_filtered(&self) -> bool {
        self.pattern.is_some()
            || !self.state.is_empty()
            || !self.producer_id.is_empty()
            || self.older_than.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_in_any_case() {
        for (text, expected) in [
            ("ongoing", Some(TransactionState::Ongoing)),
            (" PrepareCommit", Some(TransactionState::PrepareCommit)),
            ("PREPAREEPOCHFENCE", Some(TransactionState::PrepareEpochFence)),
            ("open", None),
            ("", None),
        ] {
            assert_eq!(parse_state(text).ok(), expected, "{text:?}");
        }
        let refused = parse_state("open").unwrap_err();
        assert!(refused.contains("Empty, Ongoing, PrepareCommit"), "{refused}");
    }
}
