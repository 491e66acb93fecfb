//! Batches go to their partitions, and their acknowledgements are waited for.
//!
//! The append itself never waits for the disk; all batches of a body are appended before the first of them is waited for, so that they
//! share their syncs. It may wait for a turn at writing a batch anew, and who goes away then has left only those before it. There is one
//! limit for all turns that a body waits for, or a window of a stream: a limit for each would be most of an hour for a hundred partitions.

use std::collections::HashMap;
use std::time::Duration;

use log_core::model::{Offset, TimestampMs};
use tokio::time::{Instant, timeout_at};

use crate::http::error::{held_back, record_problems};
use crate::http::problem::{Code, Problem};
use crate::http::produce::batches::Sealed;
use crate::partition::error::PartitionError;
use crate::partition::partition::{Ack, Acks, Appended};

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Appending {
    pub(super) batch: Sealed,
    /// Where it is, or why each of its records was refused.
    pub(super) result: Result<Placed, Vec<Problem>>,
}

/// A batch that is in the log.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) base_offset: Offset,
    pub(super) log_append_time: Option<TimestampMs>,
    /// It stood there already: the same producer had written the same sequences.
    pub(super) is_duplicate: bool,
    pub(super) ack: Ack,
}

impl From<Appended> for Placed {
    fn from(appended: Appended) -> Self {
        Self {
            base_offset: appended.base_offset,
            log_append_time: appended.log_append_time,
            is_duplicate: appended.is_duplicate,
            ack: appended.ack,
        }
    }
}

/// Batches up to this size enter the log together with those of other requests.
const TOGETHER_BYTES_MAX: usize = 16 << 10;

/// How long a body, or a window of a stream, waits for turns at writing batches anew. Whoever stands in line there has a processor's work
/// before him, and no disk's.
const TURN_WAIT_MAX: Duration = Duration::from_secs(30);

/// Appends the batches of a body. A single small one goes together with those of other requests; others as [`append_in_order`] has it.
pub(super) async fn append_body(mut batches: Vec<Option<Sealed>>, acks: Acks) -> Vec<Option<Appending>> {
    let is_small = |batch: &mut Sealed| batch.records.len() <= TOGETHER_BYTES_MAX;
    let [batch] = batches.as_mut_slice() else {
        return append_in_order(batches, acks).await;
    };
    let Some(batch) = batch.take_if(is_small) else {
        return append_in_order(batches, acks).await;
    };
    let until = Instant::now() + TURN_WAIT_MAX;
    let appended = (batch.partition)
        .append_together(&batch.records, acks, until)
        .await;
    let result = appended
        .map(Placed::from)
        .map_err(|error| record_problems(&error, batch.record_count));
    vec![Some(Appending { batch, result })]
}

/// Appends each batch, whatever becomes of the others. A gap stays one.
pub(super) async fn append_each(batches: Vec<Option<Sealed>>, acks: Acks) -> Vec<Option<Appending>> {
    let until = Instant::now() + TURN_WAIT_MAX;
    let mut appending = Vec::with_capacity(batches.len());
    for batch in batches {
        let Some(batch) = batch else {
            appending.push(None);
            continue;
        };
        let result = append(&batch, acks, until).await;
        let result = result.map_err(|error| record_problems(&error, batch.record_count));
        appending.push(Some(Appending { batch, result }));
    }
    appending
}

/// Appends batches so that none overtakes one that was refused: after a refusal its partition gets no more of them. The sequences of a body
/// with an `Idempotency-Key` would have a gap otherwise, and the same body sent again would look like another one.
pub(super) async fn append_in_order(batches: Vec<Option<Sealed>>, acks: Acks) -> Vec<Option<Appending>> {
    let mut refused: HashMap<i32, Problem> = HashMap::new();
    let until = Instant::now() + TURN_WAIT_MAX;
    let mut appending = Vec::with_capacity(batches.len());
    for batch in batches {
        let Some(batch) = batch else {
            appending.push(None);
            continue;
        };
        let result = match refused.get(&batch.index) {
            Some(problem) => Err(vec![problem.clone(); batch.record_count()]),
            None => append(&batch, acks, until).await.map_err(|error| {
                refused.insert(batch.index, held_back(&error));
                record_problems(&error, batch.record_count)
            }),
        };
        appending.push(Some(Appending { batch, result }));
    }
    appending
}

async fn append(batch: &Sealed, acks: Acks, until: Instant) -> Result<Placed, PartitionError> {
    let appended = (batch.partition)
        .append_produced(&batch.records, acks, until)
        .await?;
    Ok(Placed::from(appended))
}

/// Returns when an acknowledgement may leave. A wait that is given up can be taken up again.
pub(super) async fn acknowledged(ack: &mut Ack, until: Instant) -> Result<(), Problem> {
    let Ack::WhenDurable(durable) = ack else {
        return Ok(());
    };
    match timeout_at(until, durable).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(error.into()),
        // The partition went without a word.
        Ok(Err(_)) => Err(PartitionError::ShuttingDown.into()),
        Err(_) => Err(Problem::new(Code::TimedOut, "the disk took too long")),
    }
}

#[cfg(test)]
mod tests {
    use std::iter::from_fn;
    use std::path::PathBuf;
    use std::sync::Arc;

    use log_core::clock::ManualClock;
    use log_core::config::LogConfig;
    use log_core::fs::mem::MemFileSystem;
    use log_core::log::LogContext;
    use log_core::log_manager::LogManager;
    use log_core::model::TopicId;
    use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
    use log_core::record::compression::{Codec, Compression};

    use super::*;
    use crate::partition::flusher::FlushQueue;
    use crate::partition::registry::{PartitionRegistry, TopicSpec};

    const PARTITIONS: i32 = 3;

    /// A topic whose batches are written anew.
    fn registry() -> Arc<PartitionRegistry> {
        let context = LogContext {
            file_system: Arc::new(MemFileSystem::new()),
            clock: Arc::new(ManualClock::new(TimestampMs::new(0))),
        };
        let (manager, _) = LogManager::open_all(context, &[PathBuf::from("/data")]).unwrap();
        let registry = PartitionRegistry::new(Arc::new(manager), FlushQueue::without_threads(), 1);
        let topic = TopicSpec {
            name: "packed".into(),
            id: TopicId::from_bytes([1; 16]),
            partition_count: PARTITIONS,
            config: LogConfig {
                codec: Some(Codec {
                    compression: Compression::Lz4,
                    level: None,
                }),
                ..LogConfig::default()
            },
        };
        registry.create(&topic).unwrap();
        registry
    }

    /// One for each partition.
    fn batches(registry: &PartitionRegistry) -> Vec<Option<Sealed>> {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder
            .append(TimestampMs::new(0), None, Some(b"value"), &[])
            .unwrap();
        let records = builder.build();
        let sealed = |index| {
            Some(Sealed {
                partition: registry.get("packed", index).unwrap(),
                index,
                records: records.clone(),
                record_count: 1,
            })
        };
        (0..PARTITIONS).map(sealed).collect()
    }

    /// Each batch waited for half a minute.
    #[tokio::test(start_paused = true)]
    async fn the_batches_of_a_body_wait_for_their_turns_together() {
        let registry = registry();
        let partition = registry.get("packed", 0).unwrap();
        let turns: Vec<_> = from_fn(|| partition.context.recompression.try_take()).collect();
        let mut one = batches(&registry);
        one.truncate(1);
        for way in ["each", "in order", "a body of several", "a body of one"] {
            let began = Instant::now();
            let appended = match way {
                "each" => append_each(batches(&registry), Acks::Leader).await,
                "in order" => append_in_order(batches(&registry), Acks::Leader).await,
                "a body of several" => append_body(batches(&registry), Acks::Leader).await,
                _ => append_body(std::mem::take(&mut one), Acks::Leader).await,
            };
            assert_eq!(began.elapsed().as_secs(), TURN_WAIT_MAX.as_secs(), "{way}");
            for batch in appended {
                let problems = batch.unwrap().result.unwrap_err();
                assert_eq!(problems[0].code(), Code::Overloaded, "{way}");
            }
        }
        drop(turns);
        assert_eq!(partition.offsets().log_end, Offset::ZERO);
    }
}
