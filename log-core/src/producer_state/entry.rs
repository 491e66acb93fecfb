//! One producer on one partition: its epoch, its last five batches, its open transaction.
//!
//! Invariant: the remembered batches are of the producer's present epoch, oldest first. A new epoch begins
//! without any.

use crate::model::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use crate::record::batch_header::BatchHeader;

/// How many batches are remembered. Producers have at most five requests in flight for one broker, so a retry
/// cannot be older.
pub const BATCHES_RETAINED: usize = 5;

const SEQUENCE_COUNT: i64 = 1 << 31;

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMetadata {
    /// The sequence of its last record; [`Sequence::NONE`] when a coordinator wrote it.
    pub last_sequence: Sequence,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// How far its last record lies behind its first, in offsets and in sequences; at most `i32::MAX`.
    pub offset_delta: u32,
    /// Its largest timestamp.
    pub timestamp: TimestampMs,
}

impl BatchMetadata {
    /// What is remembered of a batch whose offsets are final.
    #[must_use]
    pub fn of(header: &BatchHeader) -> Self {
        Self {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        }
    }

    /// The sequence of its first record; they wrap below 0 to 2³¹ − 1.
    #[must_use]
    pub fn first_sequence(&self) -> Sequence {
        if self.last_sequence < Sequence::new(0) {
            return Sequence::NONE;
        }
        let unwrapped = i64::from(self.last_sequence.get()) - i64::from(self.offset_delta);
        i32::try_from(unwrapped.rem_euclid(SEQUENCE_COUNT)).map_or(Sequence::NONE, Sequence::new)
    }

    /// The offset of its first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.last_offset.plus(-i64::from(self.offset_delta))
    }
}

/// What is known of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerStateEntry {
    /// Its epoch; [`ProducerEpoch::NONE`] before its first batch.
    pub producer_epoch: ProducerEpoch,
    /// The epoch of the coordinator that ended its last transaction, or -1.
    pub coordinator_epoch: i32,
    /// The timestamp of its last batch or transaction marker.
    pub last_timestamp: TimestampMs,
    /// Where its open transaction began.
    pub transaction_first_offset: Option<Offset>,
    /// Since when it has been seen idle; see [`super::manager::ProducerStateManager::expire`].
    pub idle_since: Option<TimestampMs>,
    /// Oldest first; what is not filled stands in front.
    batches: [Option<BatchMetadata>; BATCHES_RETAINED],
}

impl ProducerStateEntry {
    /// A producer of which nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            producer_epoch: ProducerEpoch::NONE,
            coordinator_epoch: -1,
            last_timestamp: TimestampMs::NONE,
            transaction_first_offset: None,
            idle_since: None,
            batches: [None; BATCHES_RETAINED],
        }
    }

    /// The remembered batches, oldest first.
    pub fn batches(&self) -> impl Iterator<Item = &BatchMetadata> {
        self.batches.iter().flatten()
    }

    /// The last batch.
    #[must_use]
    pub fn last_batch(&self) -> Option<&BatchMetadata> {
        self.batches.last().and_then(Option::as_ref)
    }

    /// Whether a transaction of this epoch is open.
    #[must_use]
    pub fn has_open_transaction(&self, epoch: ProducerEpoch) -> bool {
        self.transaction_first_offset.is_some() && self.producer_epoch == epoch
    }

    /// The sequence of the last record; [`Sequence::NONE`] when no batch of this epoch is known.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        self.last_batch()
            .map_or(Sequence::NONE, |batch| batch.last_sequence)
    }

    /// The remembered batch that `header` repeats: the same epoch, the same first and last sequence.
    #[must_use]
    pub fn duplicate_of(&self, header: &BatchHeader) -> Option<&BatchMetadata> {
        let sequences = (header.base_sequence, header.last_sequence());
        let is_comparable = header.producer_epoch == self.producer_epoch && sequences.1 != Sequence::NONE;
        let mut batches = self.batches();
        let same = batches.find(|batch| (batch.first_sequence(), batch.last_sequence) == sequences);
        same.filter(|_| is_comparable)
    }

    /// Moves to an epoch, the present one or another, lower ones included: the log is the truth.
    pub fn set_epoch(&mut self, epoch: ProducerEpoch) {
        if epoch != self.producer_epoch {
            self.producer_epoch = epoch;
            self.batches = [None; BATCHES_RETAINED];
        }
    }

    /// Remembers a batch of the present epoch as the last one.
    pub fn add_batch(&mut self, batch: BatchMetadata) {
        self.batches.rotate_left(1);
        if let Some(last) = self.batches.last_mut() {
            *last = Some(batch);
        }
        self.last_timestamp = batch.timestamp;
        self.idle_since = None;
    }

    /// Remembers these batches of the present epoch, oldest first, instead of those it knows.
    pub(super) fn replace_batches(&mut self, batches: &[BatchMetadata]) {
        self.batches = [None; BATCHES_RETAINED];
        for (place, batch) in self.batches.iter_mut().rev().zip(batches.iter().rev()) {
            *place = Some(*batch);
        }
    }
}

impl Default for ProducerStateEntry {
    fn default() -> Self {
        Self::new()
    }
}

/// A transaction whose marker was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompletedTransaction {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// Its first record.
    pub first_offset: Offset,
    /// Its marker.
    pub last_offset: Offset,
    /// Whether its records are as if they had not been written.
    pub is_aborted: bool,
}
