//! The offsets that starts stand for: asked of the leaders, where a start is not an offset already.
//! What a log lacks is answered by its other end: a time after its last record means its end.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log_core::model::{Offset, TimestampMs, TopicPartition};

use crate::cluster::Cluster;
use crate::config::{IsolationLevel, StartAt};
use crate::error::Result;
use crate::offsets::{ListedOffset, OffsetQuery, list_offsets};

/// The place so long before now.
pub(crate) fn back(duration: Duration) -> StartAt {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = now.saturating_sub(duration).as_millis();
    StartAt::Timestamp(TimestampMs::new(i64::try_from(then).unwrap_or(i64::MAX)))
}

/// Turns starts into offsets.
pub(super) async fn resolve(
    cluster: &Cluster,
    isolation: IsolationLevel,
    wanted: Vec<(TopicPartition, StartAt, u64)>,
) -> Vec<(TopicPartition, u64, Result<Offset>)> {
    let first = wanted
        .iter()
        .map(|(partition, start, _)| (partition.clone(), query(*start)))
        .collect();
    let found = list_offsets(cluster, first, isolation, cluster.api_deadline()).await;
    // What was asked for may not exist, or need a second look: then the other end of the log decides.
    let second = wanted
        .iter()
        .filter_map(|(partition, start, _)| match start {
            StartAt::Timestamp(_) => Some((partition.clone(), OffsetQuery::Latest)),
            StartAt::BeforeEnd(_) => Some((partition.clone(), OffsetQuery::Earliest)),
            _ => None,
        })
        .collect();
    let others = list_offsets(cluster, second, isolation, cluster.api_deadline()).await;
    let mut others: BTreeMap<_, _> = others.into_iter().collect();
    let mut resolved = Vec::with_capacity(wanted.len());
    for ((partition, start, since), (_, answer)) in wanted.into_iter().zip(found) {
        let other = others.remove(&partition);
        resolved.push((partition, since, begin(start, answer, other)));
    }
    resolved
}

fn query(start: StartAt) -> OffsetQuery {
    match start {
        StartAt::Earliest | StartAt::Offset(_) => OffsetQuery::Earliest,
        StartAt::Latest | StartAt::BeforeEnd(_) => OffsetQuery::Latest,
        StartAt::Timestamp(timestamp) => OffsetQuery::Timestamp(timestamp),
    }
}

fn begin(
    start: StartAt,
    answer: Result<ListedOffset>,
    other: Option<Result<ListedOffset>>,
) -> Result<Offset> {
    let of = |listed: ListedOffset| listed.offset.unwrap_or(Offset::ZERO);
    let answer = answer?;
    match (start, other) {
        (StartAt::Timestamp(_), Some(end)) => match answer.offset {
            Some(offset) => Ok(offset),
            None => Ok(of(end?)),
        },
        (StartAt::BeforeEnd(count), Some(first)) => {
            let back = i64::try_from(count).unwrap_or(i64::MAX);
            let offset = of(answer).get().saturating_sub(back);
            Ok(Offset::new(offset.max(0)).max(of(first?)))
        }
        _ => Ok(of(answer)),
    }
}
