//! Groups of consumers.
//! They are listed, described and deleted, and it is told how far each is behind.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::coordinator::group::admin::list::{GroupFilter, ListedGroup};
use crate::coordinator::group::admin::view::{GroupMember, GroupView};
use crate::http::page::{Page, address, limit, matches};
use crate::http::parameters::{Parameters, Place};
use crate::http::problem::{Answer, Problem};
use crate::http::services::Services;

/// The parameters of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParameters {
    #[serde(default)]
    search: String,
    #[serde(default)]
    state: String,
    #[serde(default, rename = "type")]
    kind: String,
    limit: Option<usize>,
    #[serde(default)]
    after: String,
}

#[derive(Debug, Serialize)]
struct GroupRow {
    group: String,
    state: &'static str,
    #[serde(rename = "type")]
    kind: String,
    protocol_type: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct GroupList {
    groups: Vec<GroupRow>,
    total: usize,
    next: Option<String>,
    /// Some groups are missing: their part of the log is being read.
    incomplete: bool,
}

/// `GET /v1/groups`.
pub(crate) async fn list(
    State(services): State<Arc<Services>>,
    Parameters(asked): Parameters<ListParameters>,
) -> Answer<Json<GroupList>> {
    let limit = limit(asked.limit)?;
    let names = |text: &str| {
        if text.is_empty() {
            Vec::new()
        } else {
            vec![text.to_owned()]
        }
    };
    let filter = GroupFilter {
        states: names(&asked.state),
        kinds: names(&asked.kind),
    };
    let shards = services
        .groups
        .run_all(move |shard, _| shard.list_groups(&filter))
        .await;
    let incomplete = shards.iter().any(Result::is_err);
    let mut found: Vec<ListedGroup> = shards.into_iter().flatten().flatten().collect();
    found.retain(|row| matches(&row.group, &asked.search));
    found.sort_unstable_by(|a, b| a.group.cmp(&b.group));
    let page = Page::cut(found.into_iter(), limit, |row| {
        asked.after.is_empty() || *asked.after < *row.group
    });
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let last = page.rows.last().filter(|_| page.has_more);
    let next = last.map(|last| {
        address(
            "/v1/groups",
            &[
                ("search", some(&asked.search).as_deref()),
                ("state", some(&asked.state).as_deref()),
                ("type", some(&asked.kind).as_deref()),
                ("limit", Some(&limit.to_string())),
                ("after", Some(&last.group)),
            ],
        )
    });
    let rows = page.rows.into_iter().map(|row| GroupRow {
        group: row.group.to_string(),
        state: row.state,
        kind: row.kind.to_ascii_lowercase(),
        protocol_type: row.protocol_type,
    });
    Ok(Json(GroupList {
        groups: rows.collect(),
        total: page.total,
        next,
        incomplete,
    }))
}

#[derive(Debug, Serialize)]
pub(crate) struct GroupDocument {
    group: String,
    #[serde(rename = "type")]
    kind: &'static str,
    state: &'static str,
    protocol_type: String,
    assignor: String,
    epoch: Option<i32>,
    members: Vec<MemberRow>,
}

#[derive(Debug, Serialize)]
struct MemberRow {
    member_id: String,
    instance_id: Option<String>,
    client_id: String,
    client_host: String,
    epoch: Option<i32>,
    assigned: Vec<AssignedTopic>,
}

#[derive(Debug, Serialize)]
struct AssignedTopic {
    topic: String,
    partitions: Vec<i32>,
}

impl From<GroupMember> for MemberRow {
    fn from(member: GroupMember) -> Self {
        let assigned = member
            .assigned
            .into_iter()
            .map(|(topic, partitions)| AssignedTopic {
                topic: topic.to_string(),
                partitions,
            });
        Self {
            member_id: member.member_id.to_string(),
            instance_id: member.instance_id.map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
            client_host: member.client_host.to_string(),
            epoch: member.epoch,
            assigned: assigned.collect(),
        }
    }
}

/// A group with its members.
pub(super) async fn view(services: &Services, group: &str) -> Result<GroupView, Problem> {
    let name = group.to_owned();
    let viewed = services
        .groups
        .run(group, move |shard, context| shard.view_group(context, &name))
        .await?;
    Ok(viewed?)
}

/// `GET /v1/groups/{group}`.
pub(crate) async fn describe(
    State(services): State<Arc<Services>>,
    Place(group): Place<String>,
) -> Answer<Json<GroupDocument>> {
    let view = view(&services, &group).await?;
    Ok(Json(GroupDocument {
        group,
        kind: view.kind,
        state: view.state,
        protocol_type: view.protocol_type.to_string(),
        assignor: view.assignor,
        epoch: view.epoch,
        members: view.members.into_iter().map(MemberRow::from).collect(),
    }))
}

/// `DELETE /v1/groups/{group}`.
pub(crate) async fn remove(
    State(services): State<Arc<Services>>,
    Place(group): Place<String>,
) -> Answer<StatusCode> {
    let name: Arc<str> = group.as_str().into();
    let deleted = services
        .groups
        .run(&group, move |shard, context| shard.delete_group(context, &name))
        .await?;
    deleted?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Serialize)]
pub(crate) struct LagDocument {
    group: String,
    records: i64,
    time_ms: Option<i64>,
    partitions: Vec<LagRow>,
}

#[derive(Debug, Serialize)]
struct LagRow {
    topic: String,
    partition: i32,
    committed: i64,
    log_start_offset: Option<i64>,
    log_end_offset: Option<i64>,
    records: Option<i64>,
    time_ms: Option<i64>,
}

/// `GET /v1/groups/{group}/lag`.
pub(crate) async fn lag(
    State(services): State<Arc<Services>>,
    Place(group): Place<String>,
) -> Answer<Json<LagDocument>> {
    let rows = services.groups.lag(&group).await?;
    let partitions: Vec<LagRow> = rows
        .into_iter()
        .map(|row| LagRow {
            topic: row.topic.to_string(),
            partition: row.partition,
            committed: row.committed,
            log_start_offset: row.range.map(|range| range.start.get()),
            log_end_offset: row.range.map(|range| range.end.get()),
            records: row.records,
            time_ms: row.time_ms,
        })
        .collect();
    Ok(Json(LagDocument {
        group,
        records: partitions.iter().filter_map(|row| row.records).sum(),
        time_ms: partitions.iter().filter_map(|row| row.time_ms).max(),
        partitions,
    }))
}
