//! From a command's records to the one batch that holds them.
//! It is made under the host's lock, so buffers are kept and the first guess at its size is the last one's.

use log_core::model::{Sequence, TimestampMs};
use log_core::record::batch_builder::{AppendError, BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::validator::{ValidatedBatch, trust_own};

use crate::coordinator::record::{LogRecord, RecordFormatError};
use crate::coordinator::runtime::shard::BatchOwner;

/// What a batch is given room for at first, at most: the next one is probably as large as the last.
const CAPACITY_MAX: usize = 64 << 10;

/// Records that no batch can hold.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    /// A text in one of them is too long.
    #[error(transparent)]
    Record(#[from] RecordFormatError),
    /// They exceed what a batch takes.
    #[error(transparent)]
    Batch(#[from] AppendError),
}

/// Makes batches, and keeps its buffers between them.
#[derive(Debug, Default)]
pub(super) struct BatchEncoder {
    key: Vec<u8>,
    value: Vec<u8>,
    capacity: usize,
}

impl BatchEncoder {
    /// Shows the keys of records that were encoded before.
    pub(super) fn keys(&mut self, records: &[impl LogRecord], mut see: impl FnMut(&[u8])) {
        for record in records {
            self.key.clear();
            record.encode_key(&mut self.key).expect("it was encoded before");
            see(&self.key);
        }
    }

    /// The records as one batch, which is part of its owner's transaction if it has one.
    ///
    /// # Errors
    /// [`EncodeError`].
    ///
    /// # Panics
    /// Never: a batch that was just built is sound.
    pub(super) fn encode(
        &mut self,
        records: &[impl LogRecord],
        owner: Option<BatchOwner>,
        now: TimestampMs,
    ) -> Result<ValidatedBatch, EncodeError> {
        let mut builder = BatchBuilder::with_capacity(options(owner), self.capacity);
        for record in records {
            self.key.clear();
            self.value.clear();
            record.encode_key(&mut self.key)?;
            let has_value = record.encode_value(&mut self.value)?;
            let value = has_value.then_some(self.value.as_slice());
            builder.append(now, Some(&self.key), value, &[])?;
        }
        self.capacity = builder.estimated_size().min(CAPACITY_MAX);
        Ok(trust_own(builder.build()).expect("a batch that was just built is sound"))
    }
}

/// Kafka's coordinators write transactional batches with sequence 0, and no broker looks at it.
fn options(owner: Option<BatchOwner>) -> BatchOptions {
    let Some(owner) = owner else {
        return BatchOptions::default();
    };
    BatchOptions {
        producer: BatchProducer {
            id: owner.producer_id,
            epoch: owner.producer_epoch,
            base_sequence: Sequence::new(0),
        },
        transactional: true,
        ..BatchOptions::default()
    }
}
