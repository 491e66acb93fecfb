//! Batches go to their partitions, and their acknowledgements are waited for.
//!
//! The append itself never waits for the disk; all batches of a body are appended before the first of them is waited for, so that they
//! share their syncs.

use log_core::model::{Offset, TimestampMs};
use tokio::time::{Instant, timeout_at};

use crate::http::problem::{Code, Problem};
use crate::http::produce::batches::Sealed;
use crate::partition::error::PartitionError;
use crate::partition::partition::{Ack, Acks};

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Appending {
    pub(super) batch: Sealed,
    pub(super) result: Result<Placed, PartitionError>,
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

/// Appends a batch.
pub(super) fn append(batch: Sealed, acks: Acks) -> Appending {
    let result = batch
        .partition
        .append(&batch.records, acks)
        .map(|appended| Placed {
            base_offset: appended.base_offset,
            log_append_time: appended.log_append_time,
            is_duplicate: appended.is_duplicate,
            ack: appended.ack,
        });
    Appending { batch, result }
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
