//! From a command's records to the one batch that holds them.
//! It is made under the host's lock, so buffers are kept and the first guess at its size is the last one's.

use log_core::model::TimestampMs;
use log_core::record::batch_builder::{AppendError, BatchBuilder, BatchOptions};
use log_core::record::validator::{ValidatedBatch, trust_own};

use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::record::codec::RecordFormatError;

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
    pub(super) fn keys(&mut self, records: &[GroupRecord], mut see: impl FnMut(&[u8])) {
        for record in records {
            self.key.clear();
            record.encode_key(&mut self.key).expect("it was encoded before");
            see(&self.key);
        }
    }

    /// The records as one batch.
    ///
    /// # Errors
    /// [`EncodeError`].
    ///
    /// # Panics
    /// Never: a batch that was just built is sound.
    pub(super) fn encode(
        &mut self,
        records: &[GroupRecord],
        now: TimestampMs,
    ) -> Result<ValidatedBatch, EncodeError> {
        let mut builder = BatchBuilder::with_capacity(BatchOptions::default(), self.capacity);
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
