//! `stratalog group list`.
//! The broker filters by state and type; how many members a group has takes a question about each that may have some.

use std::collections::BTreeMap;

use clap::Args;
use log_client::admin::{Admin, GroupFilter, GroupListing, GroupState, GroupType};
use serde_json::json;

use crate::cli::failure::Outcome;
use crate::cli::output::Output;
use crate::cli::text::shown;

/// Which groups.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only groups whose names contain this
    #[arg(value_name = "TEXT")]
    pattern: Option<String>,
    /// Only groups in one of these states, such as stable or empty; separated by commas, or repeated
    #[arg(long, short, value_name = "STATE", value_delimiter = ',', value_parser = parse_state)]
    state: Vec<GroupState>,
    /// Only groups of one of these types: classic, consumer, share or streams
    #[arg(long = "type", short = 't', value_name = "TYPE", value_delimiter = ',', value_parser = parse_type)]
    kind: Vec<GroupType>,
}

const STATES: [GroupState; 7] = [
    GroupState::Empty,
    GroupState::Assigning,
    GroupState::Reconciling,
    GroupState::PreparingRebalance,
    GroupState::CompletingRebalance,
    GroupState::Stable,
    GroupState::Dead,
];

const TYPES: [GroupType; 4] = [
    GroupType::Classic,
    GroupType::Consumer,
    GroupType::Share,
    GroupType::Streams,
];

fn parse_state(text: &str) -> Result<GroupState, String> {
    let found = STATES
        .iter()
        .find(|state| state.name().eq_ignore_ascii_case(text.trim()));
    let names = || STATES.each_ref().map(GroupState::name).join(", ");
    found
        .cloned()
        .ok_or_else(|| format!("a group is in one of the states {}", names()))
}

fn parse_type(text: &str) -> Result<GroupType, String> {
    let found = TYPES
        .iter()
        .find(|kind| kind.name().eq_ignore_ascii_case(text.trim()));
    let names = || TYPES.each_ref().map(GroupType::name).join(", ");
    found
        .cloned()
        .ok_or_else(|| format!("a group is of one of the types {}", names()))
}

pub(super) async fn run(arguments: &ListArgs, admin: &Admin, output: &mut Output) -> Outcome {
    let filter = GroupFilter {
        states: arguments.state.clone(),
        types: arguments.kind.clone(),
    };
    let mut groups = admin.list_groups(&filter).await?;
    if let Some(pattern) = &arguments.pattern {
        groups.retain(|group| group.group_id.contains(pattern.as_str()));
    }
    let members = members(admin, &groups).await;

    if output.is_json() {
        let row = |group: &GroupListing| {
            json!({
                "group": group.group_id,
                "state": group.state.as_ref().map(GroupState::name),
                "type": group.kind.as_ref().map(GroupType::name),
                "protocol_type": group.protocol_type,
                "members": members.get(&group.group_id),
                "coordinator": group.coordinator,
            })
        };
        let rows: Vec<_> = groups.iter().map(row).collect();
        return output.json(&rows);
    }
    if groups.is_empty() {
        output.remark(if arguments.is_filtered() {
            "There are no such groups."
        } else {
            "There are no groups. `stratalog consume TOPIC --group NAME` makes one."
        });
        return Ok(());
    }
    let mut table = output
        .palette
        .table(&["group", "state", "type", "protocol", "#members"]);
    for group in &groups {
        let said = |text: Option<&str>| shown(text.unwrap_or_default()).into_owned();
        table.add_row([
            shown(&group.group_id).into_owned(),
            said(group.state.as_ref().map(GroupState::name)),
            said(group.kind.as_ref().map(GroupType::name)),
            said(Some(&group.protocol_type)),
            members
                .get(&group.group_id)
                .map_or_else(|| "?".to_owned(), ToString::to_string),
        ]);
    }
    output.table(&table)
}

/// How many members each group has; a group that cannot be described, or is gone by now, is left out.
async fn members(admin: &Admin, groups: &[GroupListing]) -> BTreeMap<String, usize> {
    let has_none = |group: &&GroupListing| matches!(group.state, Some(GroupState::Empty | GroupState::Dead));
    let (empty, others): (Vec<_>, Vec<_>) = groups.iter().partition(has_none);
    let names: Vec<&str> = others.iter().map(|group| group.group_id.as_str()).collect();
    let described = admin.describe_groups(&names).await.into_iter().flatten();
    let counted = described.map(|group| (group.group_id, group.members.len()));
    empty
        .into_iter()
        .map(|group| (group.group_id.clone(), 0))
        .chain(counted)
        .collect()
}

impl ListArgs {
    fn is_filtered(&self) -> bool {
        self.pattern.is_some() || !self.state.is_empty() || !self.kind.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_types_are_read_in_any_case() {
        for (text, expected) in [
            ("stable", Some(GroupState::Stable)),
            ("Empty", Some(GroupState::Empty)),
            ("preparingrebalance", Some(GroupState::PreparingRebalance)),
            (" dead", Some(GroupState::Dead)),
            ("idle", None),
            ("", None),
        ] {
            assert_eq!(parse_state(text).ok(), expected, "{text:?}");
        }
        assert_eq!(parse_type("Consumer"), Ok(GroupType::Consumer));
        let refused = parse_type("modern").unwrap_err();
        assert!(refused.contains("classic, consumer, share, streams"), "{refused}");
    }
}
