//! `POST /v1/groups/{group}/offsets`: where a group goes on reading, set from outside; or what setting it would do.
//!
//! The plan is made first, for each partition by itself, and is all that a dry run does. A group with members is refused either way: they would
//! go on from where they are, and commit over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use log_core::log::LogOffsets;
use log_core::model::Offset;
use serde::{Deserialize, Serialize};

use crate::coordinator::group::offsets::commit::{CommitPartition, CommitRequest, CommitTopic};
use crate::coordinator::group::offsets::fetch::{FetchOffsetsRequest, NamedBy};
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::http::body::read_json;
use crate::http::groups::view;
use crate::http::object::Object;
use crate::http::parameters::{Place, Time};
use crate::http::problem::{Answer, Code, Problem};
use crate::http::services::Services;
use crate::partition::offset_query::OffsetQuery;
use crate::partition::partition::Isolation;

/// The version of `OffsetCommit` whose errors are the clearest.
const COMMIT_VERSION: i16 = 9;
/// What an `OffsetCommit` says of somebody who is no member.
const NO_GENERATION: i32 = -1;
const NO_EPOCH: i32 = -1;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    to: Target,
    topics: Option<Vec<Object<WantedTopic>>>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedTopic {
    topic: String,
    partitions: Option<Vec<i32>>,
}

/// Where to go.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    Earliest,
    Latest,
    Offset(i64),
    Time(Time),
    Shift(i64),
}

#[derive(Debug, Serialize)]
pub(crate) struct ResetDocument {
    group: String,
    dry_run: bool,
    partitions: Vec<ResetRow>,
}

#[derive(Debug, Serialize)]
struct ResetRow {
    topic: String,
    partition: i32,
    before: Option<i64>,
    after: Option<i64>,
    error: Option<Problem>,
}

/// Carries out a reset, or plans one.
pub(crate) async fn reset(
    State(services): State<Arc<Services>>,
    Place(group): Place<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ResetDocument>> {
    let wanted: Wanted = read_json(&services, &headers, body).await?;
    refuse_if_in_use(&services, &group).await?;
    let committed = committed(&services, &group).await?;
    let mut rows = Vec::new();
    for (topic, partition) in places(&services, wanted.topics, &committed)? {
        let before = committed.get(&(topic.clone(), partition)).copied();
        let planned = target(&services, &topic, partition, wanted.to, before).await;
        let (after, error) = match planned {
            Ok(offset) => (Some(offset), None),
            Err(problem) => (None, Some(problem)),
        };
        rows.push(ResetRow {
            topic,
            partition,
            before,
            after,
            error,
        });
    }
    if !wanted.dry_run {
        commit(&services, &group, &mut rows).await?;
        services.lease_bells.ring(&group);
    }
    Ok(Json(ResetDocument {
        group,
        dry_run: wanted.dry_run,
        partitions: rows,
    }))
}

async fn refuse_if_in_use(services: &Services, group: &str) -> Result<(), Problem> {
    match view(services, group).await {
        Ok(view) if !view.members.is_empty() => {
            let text = format!("{group} has {} members", view.members.len());
            Err(Problem::new(Code::GroupNotEmpty, text))
        }
        Ok(_) => Ok(()),
        Err(problem) if problem.code() == Code::UnknownGroup => Ok(()),
        Err(problem) => Err(problem),
    }
}

async fn committed(services: &Services, group: &str) -> Result<BTreeMap<(String, i32), i64>, Problem> {
    let everything = FetchOffsetsRequest {
        group: group.into(),
        member_id: None,
        member_epoch: NO_EPOCH,
        topics: None,
        require_stable: false,
    };
    let topics = services.groups.fetch_offsets(everything, NamedBy::Name).await?;
    let rows = topics.into_iter().flat_map(|topic| {
        let name = topic.name.to_string();
        topic.partitions.into_iter().filter_map(move |row| {
            let offset = row.committed.ok()??.offset;
            Some(((name.clone(), row.partition), offset))
        })
    });
    Ok(rows.collect())
}

/// The partitions that are meant, each once.
fn places(
    services: &Services,
    topics: Option<Vec<Object<WantedTopic>>>,
    committed: &BTreeMap<(String, i32), i64>,
) -> Result<BTreeSet<(String, i32)>, Problem> {
    let Some(topics) = topics else {
        return Ok(committed.keys().cloned().collect());
    };
    // However often a body names them: there are no more places than the broker has partitions.
    let mut places = BTreeSet::new();
    for Object(wanted) in topics {
        let topic = services.topic(&wanted.topic)?;
        let partitions = wanted
            .partitions
            .unwrap_or_else(|| (0..topic.partition_count).collect());
        for partition in partitions {
            services.partition(&topic, partition)?;
            places.insert((wanted.topic.clone(), partition));
        }
    }
    Ok(places)
}

/// The offset that a partition's row gets: within its log.
async fn target(
    services: &Services,
    topic: &str,
    partition: i32,
    to: Target,
    before: Option<i64>,
) -> Result<i64, Problem> {
    let partition = services.partition(&*services.topic(topic)?, partition)?;
    let LogOffsets {
        log_start,
        high_watermark,
        ..
    } = partition.condition().reader()?.offsets();
    let offset = match to {
        Target::Earliest => log_start,
        Target::Latest => high_watermark,
        Target::Offset(offset) => Offset::new(offset),
        Target::Time(time) => {
            let query = OffsetQuery::Timestamp(time.0);
            let found = partition.offset_for(query, Isolation::Uncommitted).await?;
            found.map_or(high_watermark, |found| found.offset)
        }
        Target::Shift(by) => match before {
            Some(before) => Offset::new(before.saturating_add(by)),
            None => {
                return Err(Problem::invalid(
                    "the group has committed nothing here that could be shifted",
                ));
            }
        },
    };
    Ok(offset.clamp(log_start, high_watermark).get())
}

async fn commit(services: &Services, group: &str, rows: &mut [ResetRow]) -> Result<(), Problem> {
    let wanted = || rows.iter().filter(|row| row.after.is_some());
    let topics = wanted().map(|row| CommitTopic {
        topic: TopicRef::Name(row.topic.as_str().into()),
        partitions: vec![CommitPartition {
            partition: row.partition,
            offset: row.after.unwrap_or_default(),
            leader_epoch: NO_EPOCH,
            metadata: None,
        }],
    });
    let request = CommitRequest {
        group: group.into(),
        member_id: "".into(),
        instance_id: None,
        generation_or_epoch: NO_GENERATION,
        request_version: COMMIT_VERSION,
        retention_ms: None,
        topics: topics.collect(),
    };
    let answers = services
        .groups
        .run(group, move |shard, context| {
            shard.commit_offsets(context, &request)
        })
        .await?;
    let wanted = rows.iter_mut().filter(|row| row.after.is_some());
    for (row, answer) in wanted.zip(answers.into_iter().flatten()) {
        if let Err(error) = answer {
            row.after = None;
            row.error = Some(error.into());
        }
    }
    Ok(())
}
