//! All producers of one partition: what changes after a batch was appended. What is checked before stands in `check`.
//!
//! The order of calls, under the log's one writer: [`ProducerStateManager::check`], then the write, then
//! [`ProducerStateManager::update`] with the header as it was written. Replay at the opening of a log only updates: what
//! is in the log was checked. Every batch goes through `update`, also those without a producer id, because
//! [`ProducerStateManager::map_end_offset`] says how far the state has come.
//!
//! The rules are Kafka's. State is in memory; `snapshot` makes it bytes. Reading and writing snapshot files, deciding
//! when, and replaying the log from a snapshot on are tasks of `log`.
//!
//! Invariants: each entry with an open transaction stands in `ongoing` under that offset, and nothing else does.

use std::collections::{BTreeMap, HashMap};

use super::entry::{BatchMetadata, CompletedTransaction, ProducerStateEntry};
use super::snapshot::{self, Snapshot};
use super::verification::{TransactionProof, TransactionalBatch, Verifications};
use crate::model::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use crate::record::batch_header::BatchHeader;
use crate::record::control::{EndTransactionMarker, TransactionOutcome};

/// More producers than this are not remembered for one partition. A client that takes a new producer id for each
/// record would otherwise fill the memory (some 250 bytes each) until the ids expire a day later.
pub const PRODUCERS_MAX: usize = 1 << 17;

/// What to do with a batch that passed the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Append it.
    New,
    /// It is in the log already: answer as the first time, as soon as the log is durable up to `last_offset`.
    Duplicate {
        /// The offset of its first record.
        base_offset: Offset,
        /// The offset of its last record.
        last_offset: Offset,
        /// Its largest timestamp.
        timestamp: TimestampMs,
    },
}

/// Why a batch may not be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerStateError {
    /// The producer was replaced by one of a later epoch. Kafka's `INVALID_PRODUCER_EPOCH`.
    #[error("producer {producer_id}: epoch {found} is older than {current}")]
    InvalidProducerEpoch {
        /// Whose batch it is.
        producer_id: ProducerId,
        /// The epoch of the last batch in the log.
        current: ProducerEpoch,
        /// The epoch of this batch.
        found: ProducerEpoch,
    },
    /// The batch does not follow the last one: something is missing, or it repeats a batch that is too old to be
    /// remembered. Kafka's `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    #[error("producer {producer_id}, epoch {epoch}: sequence {found} does not follow {last}")]
    OutOfOrderSequence {
        /// Whose batch it is.
        producer_id: ProducerId,
        /// The epoch of this batch.
        epoch: ProducerEpoch,
        /// The sequence of the last record in the log, or none where the epoch must begin with 0.
        last: Sequence,
        /// The sequence of this batch's first record.
        found: Sequence,
    },
    /// A batch outside the transaction that its producer has open. Kafka's `INVALID_TXN_STATE`.
    #[error(
        "producer {producer_id} has a transaction open since offset {first_offset}, the batch is outside it"
    )]
    InvalidTransactionState {
        /// Whose batch it is.
        producer_id: ProducerId,
        /// Where the transaction began.
        first_offset: Offset,
    },
    /// A batch of a transaction that is not open on this partition, and that the coordinator was not asked about, or too
    /// long ago. Kafka's `INVALID_TXN_STATE`.
    #[error("producer {producer_id} has no transaction open here that the batch is known to belong to")]
    UnverifiedTransaction {
        /// Whose batch it is.
        producer_id: ProducerId,
    },
    /// The transaction marker comes from a coordinator that was replaced. Kafka's `TRANSACTION_COORDINATOR_FENCED`.
    #[error("producer {producer_id}: coordinator epoch {found} is older than {current}")]
    CoordinatorFenced {
        /// Whose transaction it is.
        producer_id: ProducerId,
        /// The epoch of the last marker in the log.
        current: i32,
        /// The epoch of this marker.
        found: i32,
    },
}

/// The last that a producer did, which a cleaning must leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRecord {
    /// The offset of its last record; `None` when the last that is known of it is a transaction marker.
    pub last_data_offset: Option<Offset>,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
}

/// The producers of one partition.
#[derive(Debug, Clone)]
pub struct ProducerStateManager {
    pub(super) producers: HashMap<ProducerId, ProducerStateEntry>,
    producers_max: usize,
    /// First offset → producer.
    ongoing: BTreeMap<Offset, ProducerId>,
    /// First offset → marker, of transactions whose marker is not below the high watermark yet.
    completed: BTreeMap<Offset, Offset>,
    pub(super) verifications: Verifications,
    map_end_offset: Offset,
}

impl ProducerStateManager {
    /// The state of a log that begins at `start_offset`, before any batch.
    #[must_use]
    pub fn new(start_offset: Offset) -> Self {
        Self {
            producers: HashMap::new(),
            producers_max: PRODUCERS_MAX,
            ongoing: BTreeMap::new(),
            completed: BTreeMap::new(),
            verifications: Verifications::default(),
            map_end_offset: start_offset,
        }
    }

    /// The same with room for fewer producers.
    #[cfg(test)]
    pub(super) fn with_producers_max(self, producers_max: usize) -> Self {
        Self {
            producers_max,
            ..self
        }
    }

    /// The state that a snapshot of this end offset holds. One that is not complete knows only the last batch of each
    /// producer, and would not recognise a retry of those before.
    #[must_use]
    pub fn from_snapshot(snapshot: Snapshot) -> Self {
        let mut manager = Self::new(snapshot.end_offset);
        for (producer_id, entry) in snapshot.producers {
            if let Some(first_offset) = entry.transaction_first_offset {
                manager.ongoing.insert(first_offset, producer_id);
            }
            manager.producers.insert(producer_id, entry);
        }
        manager
    }

    /// The contents of the snapshot file named after [`Self::map_end_offset`].
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut producers: Vec<_> = self.producers.iter().map(|(&id, entry)| (id, entry)).collect();
        producers.sort_unstable_by_key(|(id, _)| *id);
        snapshot::to_bytes(&producers)
    }

    /// Says what a batch needs that wants to be part of a transaction: nothing where its producer has one open here,
    /// otherwise a guard, which counts once the coordinator has been asked.
    ///
    /// # Errors
    /// An older epoch.
    pub fn start_verification(
        &mut self,
        batch: &TransactionalBatch,
        now: TimestampMs,
    ) -> Result<TransactionProof, ProducerStateError> {
        if let Some(entry) = self.producers.get(&batch.producer_id) {
            if batch.producer_epoch < entry.producer_epoch {
                return Err(ProducerStateError::InvalidProducerEpoch {
                    producer_id: batch.producer_id,
                    current: entry.producer_epoch,
                    found: batch.producer_epoch,
                });
            }
            if entry.has_open_transaction(batch.producer_epoch) {
                return Ok(TransactionProof::Ongoing);
            }
        }
        Ok(TransactionProof::Verified(self.verifications.begin(batch, now)))
    }

    /// Takes in a batch that was appended, or is read back, with its final offsets.
    ///
    /// A control batch only raises its producer's epoch here; if it holds a marker, call
    /// [`Self::end_transaction`] instead. (Compaction leaves control batches without one.)
    pub fn update(&mut self, header: &BatchHeader) {
        self.map_end_offset = header.next_offset();
        if !header.has_producer_id() {
            return;
        }
        let entry = self.entry_mut(header.producer_id);
        entry.set_epoch(header.producer_epoch);
        if header.attributes.is_control() {
            return;
        }
        entry.add_batch(BatchMetadata::of(header));
        if header.attributes.is_transactional() {
            if entry.transaction_first_offset.is_none() {
                entry.transaction_first_offset = Some(header.base_offset);
                self.ongoing.insert(header.base_offset, header.producer_id);
            }
            self.verifications.end(header.producer_id);
        }
    }

    /// Takes in a transaction marker that was appended, or is read back. Returns the transaction that it ended, if it
    /// had any record here.
    ///
    /// The caller then writes an aborted one into the transaction index, with [`Self::last_stable_offset`], and
    /// calls [`Self::complete_transaction`]. Until then the transaction counts as open.
    pub fn end_transaction(
        &mut self,
        header: &BatchHeader,
        marker: EndTransactionMarker,
    ) -> Option<CompletedTransaction> {
        self.map_end_offset = header.next_offset();
        if !header.has_producer_id() {
            return None;
        }
        // Whoever was told before it that a batch belongs to the transaction was told too early.
        self.verifications.end(header.producer_id);
        let entry = self.entry_mut(header.producer_id);
        entry.set_epoch(header.producer_epoch);
        entry.coordinator_epoch = marker.coordinator_epoch;
        entry.last_timestamp = header.max_timestamp;
        entry.idle_since = None;
        entry
            .transaction_first_offset
            .take()
            .map(|first_offset| CompletedTransaction {
                producer_id: header.producer_id,
                first_offset,
                last_offset: header.base_offset,
                is_aborted: marker.outcome == TransactionOutcome::Abort,
            })
    }

    /// The last stable offset once `transaction` counts as complete, the high watermark aside.
    #[must_use]
    pub fn last_stable_offset(&self, transaction: &CompletedTransaction) -> Offset {
        let mut others = self
            .ongoing
            .iter()
            .filter(|(_, producer_id)| **producer_id != transaction.producer_id);
        others
            .next()
            .map_or(transaction.last_offset.plus(1), |(&first_offset, _)| first_offset)
    }

    /// The transaction is decided; it stays unstable until the high watermark passes its marker.
    pub fn complete_transaction(&mut self, transaction: &CompletedTransaction) {
        // Another producer stands there only in a log whose offsets are damaged.
        if self.ongoing.get(&transaction.first_offset) == Some(&transaction.producer_id) {
            self.ongoing.remove(&transaction.first_offset);
        }
        self.completed
            .insert(transaction.first_offset, transaction.last_offset);
    }

    /// The first offset that a reader of committed records may not see yet: of a transaction that is open, or whose
    /// marker the high watermark has not passed.
    #[must_use]
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        let completed = self
            .completed
            .first_key_value()
            .map(|(&first_offset, _)| first_offset);
        self.first_undecided_offset().into_iter().chain(completed).min()
    }

    /// The first offset of the oldest open transaction.
    #[must_use]
    pub fn first_undecided_offset(&self) -> Option<Offset> {
        self.ongoing
            .first_key_value()
            .map(|(&first_offset, _)| first_offset)
    }

    /// The open transactions with their producers, by first offset.
    #[cfg(test)]
    pub(super) fn ongoing_transactions(&self) -> impl Iterator<Item = (Offset, ProducerId)> {
        self.ongoing
            .iter()
            .map(|(&first_offset, &producer_id)| (first_offset, producer_id))
    }

    /// The high watermark has come this far: transactions with markers below it are stable.
    pub fn advance_high_watermark(&mut self, high_watermark: Offset) {
        if !self.completed.is_empty() {
            self.completed
                .retain(|_, last_offset| high_watermark <= *last_offset);
        }
    }

    /// Forgets producers that were idle for `expiration_ms` and have no open transaction. Returns how many.
    ///
    /// Idleness is measured by this clock, from the first call that finds a producer without a batch since the
    /// call before. (Kafka compares with the timestamps of batches; a producer that sends years-old events is
    /// forgotten by it between two of its batches.) Call it every few minutes.
    ///
    /// Verifications that led to no batch go as late.
    pub fn expire(&mut self, now: TimestampMs, expiration_ms: i64) -> usize {
        self.verifications.expire(now, expiration_ms);
        let count_before = self.producers.len();
        self.producers.retain(|_, entry| {
            // A clock that was ahead for a while, and was set right, counts from now.
            let idle_since = entry.idle_since.unwrap_or(now).min(now);
            entry.idle_since = Some(idle_since);
            entry.transaction_first_offset.is_some() || now.saturating_since(idle_since) < expiration_ms
        });
        count_before.saturating_sub(self.producers.len())
    }

    /// The offset behind the last batch that was taken in.
    #[must_use]
    pub fn map_end_offset(&self) -> Offset {
        self.map_end_offset
    }

    /// What is known of a producer.
    #[must_use]
    pub fn entry(&self, producer_id: ProducerId) -> Option<&ProducerStateEntry> {
        self.producers.get(&producer_id)
    }

    /// All producers, in no particular order.
    pub fn producers(&self) -> impl Iterator<Item = (ProducerId, &ProducerStateEntry)> {
        self.producers
            .iter()
            .map(|(&producer_id, entry)| (producer_id, entry))
    }

    /// The last that each producer did.
    #[must_use]
    pub fn last_records(&self) -> HashMap<ProducerId, LastRecord> {
        let last_record = |entry: &ProducerStateEntry| LastRecord {
            last_data_offset: entry.last_batch().map(|batch| batch.last_offset),
            producer_epoch: entry.producer_epoch,
        };
        self.producers()
            .map(|(producer_id, entry)| (producer_id, last_record(entry)))
            .collect()
    }

    /// How many producers are known.
    #[must_use]
    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    fn entry_mut(&mut self, producer_id: ProducerId) -> &mut ProducerStateEntry {
        if self.producers_max <= self.producers.len() && !self.producers.contains_key(&producer_id) {
            self.forget_oldest_quarter();
        }
        self.producers.entry(producer_id).or_default()
    }

    /// Makes room: the producers whose last batch lies furthest back lose their state, but for open transactions.
    /// A quarter at a time, so that the search costs little per producer.
    fn forget_oldest_quarter(&mut self) {
        let idle = self
            .producers
            .iter()
            .filter(|(_, entry)| entry.transaction_first_offset.is_none());
        let mut by_age: Vec<_> = idle
            .map(|(&id, entry)| (entry.last_batch().map(|batch| batch.last_offset), id))
            .collect();
        let count = self.producers_max.div_ceil(4).min(by_age.len());
        if let Some(last) = count.checked_sub(1) {
            by_age.select_nth_unstable(last);
        }
        for (_, producer_id) in by_age.into_iter().take(count) {
            self.producers.remove(&producer_id);
        }
    }
}
