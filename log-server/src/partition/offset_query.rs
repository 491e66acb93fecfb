//! Questions for an offset (`ListOffsets`), and the answer with the epoch that Kafka's clients want beside it.
//!
//! The ends of a log are known without looking; what needs the disk is looked up on a blocking thread.

use std::sync::Arc;

use log_core::log::{LogReader, OffsetAndTimestamp, ReadError};
use log_core::model::{LeaderEpoch, Offset, TimestampMs};
use tokio::sync::Semaphore;

use crate::partition::error::PartitionError;
use crate::partition::partition::{Isolation, Partition};

/// What to look for. The values of Kafka's `ListOffsets` stand beside each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuery {
    /// -1: behind the last record that the reader may see.
    Latest,
    /// -2: the first record there is.
    Earliest,
    /// -3: the earliest of the records with the largest timestamp.
    MaxTimestamp,
    /// -4: the first record on this machine; without tiered storage the same as [`Self::Earliest`].
    EarliestLocal,
    /// -5: the last record in tiered storage; without it there is none.
    LatestTiered,
    /// 0 and up: the first record, in the order of offsets, that is this young or younger.
    Timestamp(TimestampMs),
}

impl Partition {
    /// Answers a query; `None` when there is no such record.
    ///
    /// # Errors
    /// The disk failed, or there is no log.
    pub async fn offset_for(
        self: &Arc<Self>,
        query: OffsetQuery,
        isolation: Isolation,
    ) -> Result<Option<OffsetAndTimestamp>, PartitionError> {
        let condition = self.condition();
        let reader = self.readable(&condition)?;
        let bound = isolation.bound();
        let offsets = reader.offsets();
        let at = |offset: Offset, leader_epoch: LeaderEpoch| {
            Ok(Some(OffsetAndTimestamp {
                offset,
                timestamp: TimestampMs::NONE,
                leader_epoch,
            }))
        };
        match query {
            OffsetQuery::Latest if isolation == Isolation::Committed => {
                at(offsets.last_stable, reader.latest_epoch())
            }
            OffsetQuery::Latest => at(offsets.high_watermark, reader.latest_epoch()),
            OffsetQuery::Earliest | OffsetQuery::EarliestLocal => {
                at(offsets.log_start, reader.epoch_at(offsets.log_start))
            }
            OffsetQuery::LatestTiered => Ok(None),
            OffsetQuery::MaxTimestamp => {
                self.look_up("look up the largest timestamp", reader, move |reader| {
                    reader.offset_of_max_timestamp(bound)
                })
                .await
            }
            OffsetQuery::Timestamp(target) => {
                self.look_up("look up a timestamp", reader, move |reader| {
                    reader.offset_for_timestamp(target, bound)
                })
                .await
            }
        }
    }

    async fn look_up(
        self: &Arc<Self>,
        operation: &'static str,
        reader: &LogReader,
        look: impl FnOnce(&LogReader) -> Result<Option<OffsetAndTimestamp>, ReadError> + Send + 'static,
    ) -> Result<Option<OffsetAndTimestamp>, PartitionError> {
        let reader = reader.clone();
        let result = blocking(move || look(&reader)).await?;
        result.map_err(|error| self.read_failed(operation, &error))
    }
}

/// The runtime's threads for work that waits for a disk: cold reads, look-ups by time, deletions. More would not make a disk faster.
pub(crate) const BLOCKING_THREADS_MAX: usize = 128;
/// How much of such work goes on at a time; the rest waits for its turn. Some threads are left: from the same ones comes the one that
/// takes a connection thread's other tasks over when that has to wait (`off_runtime`), and while none comes, nobody is served.
pub(crate) const BLOCKING_MAX: usize = BLOCKING_THREADS_MAX - 32;

static BLOCKING: Semaphore = Semaphore::const_new(BLOCKING_MAX);

/// Does work that waits for the disk on a thread for such.
///
/// # Errors
/// `ShuttingDown` when the runtime ends first.
pub(crate) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, PartitionError> {
    let turn = BLOCKING.acquire().await.expect("the semaphore is never closed");
    let work = move || {
        // Held by the thread: whoever asked may go away before the work ends.
        let _turn = turn;
        work()
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(PartitionError::ShuttingDown),
    }
}
