//! Batches go to their partitions, and their acknowledgements are waited for.
//!
//! The append itself never waits for the disk; all batches of a body are appended before the first of them is waited for, so that they
//! share their syncs. It may wait for a turn at writing a batch anew, and who goes away then has left only those before it.

use std::collections::HashMap;

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

/// Appends the batches of a body. A single small one goes together with those of other requests; others as [`append_in_order`] has it.
pub(super) async fn append_body(mut batches: Vec<Option<Sealed>>, acks: Acks) -> Vec<Option<Appending>> {
    let is_small = |batch: &mut Sealed| batch.records.len() <= TOGETHER_BYTES_MAX;
    let [batch] = batches.as_mut_slice() else {
        return append_in_order(batches, acks).await;
    };
    let Some(batch) = batch.take_if(is_small) else {
        return append_in_order(batches, acks).await;
    };
    let appended = batch.partition.append_together(&batch.records, acks).await;
    let result = appended
        .map(Placed::from)
        .map_err(|error| record_problems(&error, batch.record_count));
    vec![Some(Appending { batch, result })]
}

/// Appends each batch, whatever becomes of the others. A gap stays one.
pub(super) async fn append_each(batches: Vec<Option<Sealed>>, acks: Acks) -> Vec<Option<Appending>> {
    let mut appending = Vec::with_capacity(batches.len());
    for batch in batches {
        let Some(batch) = batch else {
            appending.push(None);
            continue;
        };
        let result = append(&batch, acks).await;
        let result = result.map_err(|error| record_problems(&error, batch.record_count));
        appending.push(Some(Appending { batch, result }));
    }
    appending
}

/// Appends batches so that none overtakes one that was refused: after a refusal its partition gets no more of them. The sequences of a body
/// with an `Idempotency-Key` would have a gap otherwise, and the same body sent again would look like another one.
pub(super) async fn append_in_order(batches: Vec<Option<Sealed>>, acks: Acks) -> Vec<Option<Appending>> {
    let mut refused: HashMap<i32, Problem> = HashMap::new();
    let mut appending = Vec::with_capacity(batches.len());
    for batch in batches {
        let Some(batch) = batch else {
            appending.push(None);
            continue;
        };
        let result = match refused.get(&batch.index) {
            Some(problem) => Err(vec![problem.clone(); batch.record_count()]),
            None => append(&batch, acks).await.map_err(|error| {
                refused.insert(batch.index, held_back(&error));
                record_problems(&error, batch.record_count)
            }),
        };
        appending.push(Some(Appending { batch, result }));
    }
    appending
}

async fn append(batch: &Sealed, acks: Acks) -> Result<Placed, PartitionError> {
    let appended = batch.partition.append_produced(&batch.records, acks).await?;
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
