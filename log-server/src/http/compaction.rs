//! `POST /v1/topics/{topic}/compact`.
//! All partitions of a compacted topic are compacted now, however small the share of them that is dirty; the answer comes when that is done.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use futures_util::future::join_all;
use serde::{Serialize, Serializer};

use crate::http::parameters::Place;
use crate::http::problem::{Answer, Code, Problem};
use crate::http::services::Services;
use crate::metadata::image::TopicImage;
use crate::partition::cleaner::LogCleaner;
use crate::partition::compaction::{Compacted, Compaction, CompactionError, HeldBack};

/// What became of a partition.
#[derive(Debug, Serialize)]
struct PartitionRow {
    partition: i32,
    /// Nothing where there was nothing to do.
    compacted: Option<CompactedRow>,
    held_back: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

#[derive(Debug, Serialize)]
struct CompactedRow {
    from_offset: i64,
    to_offset: i64,
    records_before: u64,
    records_after: u64,
    bytes_before: u64,
    bytes_after: u64,
}

/// What keeps records as they are.
#[derive(Debug)]
struct Reason(HeldBack);

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self.0 {
            HeldBack::OpenTransaction => "open_transaction",
            HeldBack::MinCompactionLag => "min.compaction.lag.ms",
        })
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct CompactionReport {
    topic: String,
    partitions: Vec<PartitionRow>,
}

/// Compacts all partitions.
pub(crate) async fn compact(
    State(services): State<Arc<Services>>,
    Place(topic): Place<String>,
) -> Answer<Json<CompactionReport>> {
    let topic = services.topic(&topic)?;
    let cleaner = services.cleaner.as_ref().ok_or_else(|| {
        let text = "log.cleaner.enable is false: this broker compacts nothing";
        Problem::new(Code::PolicyViolation, text)
    })?;
    let image = services.controller.image();
    let config = image.layers(&services.config).log_config(&topic.configs);
    if !config.cleanup_policy.compact {
        return Err(CompactionError::NotCompacted.into());
    }
    let mut shutdown = services.shutdown.clone();
    tokio::select! {
        partitions = all(&services, cleaner, &topic) => Ok(Json(CompactionReport {
            topic: topic.name.to_string(),
            partitions,
        })),
        _ = shutdown.requested() => {
            Err(Problem::new(Code::Stopping, "the broker stops, and what was not compacted yet is left as it is"))
        }
    }
}

/// All of them are asked for at once; the cleaner takes one after the other.
async fn all(services: &Services, cleaner: &LogCleaner, topic: &TopicImage) -> Vec<PartitionRow> {
    let asked = (0..topic.partition_count).map(|index| {
        let partition = services.partition(topic, index);
        let compaction = partition.map(|partition| cleaner.compact(&partition));
        async move {
            let outcome = async { Ok(compaction?.await?) };
            row(index, outcome.await)
        }
    });
    join_all(asked).await
}

fn row(partition: i32, outcome: Result<Compaction, Problem>) -> PartitionRow {
    let (compacted, held_back, error) = match outcome {
        Ok(Compaction { compacted, held_back }) => (compacted, held_back, None),
        Err(problem) => (None, None, Some(problem)),
    };
    PartitionRow {
        partition,
        compacted: compacted.map(CompactedRow::from),
        held_back: held_back.map(Reason),
        error,
    }
}

impl From<Compacted> for CompactedRow {
    fn from(done: Compacted) -> Self {
        Self {
            from_offset: done.from.get(),
            to_offset: done.to.get(),
            records_before: done.records_before,
            records_after: done.records_after,
            bytes_before: done.bytes_before,
            bytes_after: done.bytes_after,
        }
    }
}
