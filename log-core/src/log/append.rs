//! Appending: check the producer, roll if need be, stamp, write, publish.
//!
//! `Ok` promises that the records stand in the file as the system sees it and in no other order than they
//! were given; that they are on the disk is [`super::flush`]'s to promise.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::TimestampType;
use crate::fs::FsError;
use crate::log::error::AppendError;
use crate::log::log::{Log, segment_settings};
use crate::log::offsets::Place;
use crate::log::transactions;
use crate::model::{Offset, TimestampMs};
use crate::producer_state::manager::Verdict;
use crate::producer_state::verification::TransactionProof;
use crate::record::batch::BatchHeader;
use crate::record::control::EndTransactionMarker;
use crate::record::validator::ValidatedBatch;
use crate::segment::segment::{Segment, SegmentAppendError, StampedBatch};

/// Who made a batch: it decides what of it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A client.
    Client,
    /// A coordinator; where it writes in a producer's name, such batches have no sequence.
    Coordinator,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// It has been appended.
    Appended {
        /// Its first offset.
        base_offset: Offset,
        /// Its last offset.
        last_offset: Offset,
        /// The time of the append, where the topic's records carry that.
        log_append_time: Option<TimestampMs>,
    },
    /// An idempotent producer sent it again; it stands in the log already.
    Duplicate {
        /// Its first offset.
        base_offset: Offset,
        /// Its last offset.
        last_offset: Offset,
        /// Its largest timestamp, whatever clock that came from: so Kafka answers.
        log_append_time: Option<TimestampMs>,
    },
}

impl AppendOutcome {
    /// The offset behind the batch: when everything below it is on the disk, so is the batch.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        let (Self::Appended { last_offset, .. } | Self::Duplicate { last_offset, .. }) = self;
        last_offset.plus(1)
    }
}

impl Log {
    /// Appends the batches in their order. A failure leaves those before it appended.
    ///
    /// # Errors
    /// [`AppendError`]. A failed write latches the log; a lack of space does not, because space is
    /// allocated before anything is written.
    pub fn append(&mut self, batches: &[ValidatedBatch]) -> Result<Vec<AppendOutcome>, AppendError> {
        batches.iter().map(|batch| self.append_one(batch)).collect()
    }

    /// Appends one batch of a client. It may belong to a transaction that is open.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_one(&mut self, batch: &ValidatedBatch) -> Result<AppendOutcome, AppendError> {
        self.append_proved(batch, AppendOrigin::Client, &TransactionProof::Ongoing)
    }

    /// Appends one batch, which may begin a transaction if `proof` says that it belongs to one.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_proved(
        &mut self,
        batch: &ValidatedBatch,
        origin: AppendOrigin,
        proof: &TransactionProof,
    ) -> Result<AppendOutcome, AppendError> {
        self.check_latch()?;
        let verdict = match origin {
            AppendOrigin::Client => self.producers.check(batch.header(), proof)?,
            AppendOrigin::Coordinator => {
                self.producers.check_unsequenced(batch.header(), proof)?;
                Verdict::New
            }
        };
        if let Verdict::Duplicate {
            base_offset,
            last_offset,
            timestamp,
        } = verdict
        {
            return Ok(AppendOutcome::Duplicate {
                base_offset,
                last_offset,
                log_append_time: Some(timestamp),
            });
        }
        self.append_checked(batch, None)
    }

    /// Appends a batch that passed the checks; `marker` is what it says, if it ends a transaction.
    pub(super) fn append_checked(
        &mut self,
        batch: &ValidatedBatch,
        marker: Option<EndTransactionMarker>,
    ) -> Result<AppendOutcome, AppendError> {
        let base_offset = self.shared.positions().log_end().offset;
        let header = stamped(batch, base_offset, self)?;
        self.roll_if_needed(&header)?;
        let stamped = StampedBatch {
            header,
            stamp: batch.stamp(base_offset, header.leader_epoch),
            body: batch.body(),
        };
        self.write(&stamped, marker)?;
        let last_offset = header.last_offset();
        let is_brokers_time = batch.header().attributes.timestamp_type() == TimestampType::LogAppendTime;
        let log_append_time = is_brokers_time.then(|| batch.max_timestamp());
        Ok(AppendOutcome::Appended {
            base_offset,
            last_offset,
            log_append_time,
        })
    }

    /// Whether appending this batch now will start a new segment, which makes files and takes longer.
    #[must_use]
    pub fn append_will_roll(&self, batch: &ValidatedBatch) -> bool {
        let base_offset = self.shared.positions().log_end().offset;
        stamped(batch, base_offset, self).is_ok_and(|header| self.is_due_to_roll(&header))
    }

    /// Ends the active segment and starts a new one at the log end. Does nothing when the active one is empty.
    ///
    /// # Errors
    /// The file system's; the log goes on with the segment it has.
    pub fn roll(&mut self) -> Result<(), FsError> {
        let segments = self.shared.segments();
        let active = segments.active();
        if active.size() == 0 {
            return Ok(());
        }
        self.is_touched = true;
        let end = active.next_offset();
        let settings = segment_settings(&self.context, &self.directory, &self.config);
        let next = Arc::new(Segment::create(settings, end)?);
        active.seal();
        self.flush
            .note_roll(Arc::clone(active), self.producers.snapshot());
        *self.shared.segments.write() = segments.with(next);
        self.segment_created = self.context.clock.now();
        Ok(())
    }

    fn roll_if_needed(&mut self, header: &BatchHeader) -> Result<(), AppendError> {
        let batch_bytes = u64::try_from(header.size()).expect("usize fits u64");
        if self.config.segment_bytes_max < batch_bytes {
            let segment_bytes_max = self.config.segment_bytes_max;
            return Err(AppendError::BatchExceedsSegment {
                batch_bytes,
                segment_bytes_max,
            });
        }
        if self.is_due_to_roll(header) {
            self.roll()?;
        }
        Ok(())
    }

    /// | the active segment | rolls |
    /// |---|---|
    /// | would become larger than `segment.bytes`, by the setting it was made with or today's | yes |
    /// | has indexes that cannot name another batch | yes |
    /// | is empty | no |
    /// | begins with a record that is `segment.ms` (less the jitter) older than the new one | yes |
    /// | carries no timestamps and was made that long ago | yes |
    fn is_due_to_roll(&self, header: &BatchHeader) -> bool {
        let batch_bytes = u64::try_from(header.size()).expect("usize fits u64");
        let segments = self.shared.segments();
        let active = segments.active();
        let size = active.size();
        let bytes_max = self.config.segment_bytes_max.min(active.settings().bytes_max);
        if bytes_max < size.saturating_add(batch_bytes) || active.indexes_are_full(header.last_offset()) {
            return 0 < size;
        }
        if size == 0 {
            return false;
        }
        let first = active.first_timestamp();
        let age = if first == TimestampMs::NONE || header.max_timestamp == TimestampMs::NONE {
            self.context.clock.now().saturating_since(self.segment_created)
        } else {
            header.max_timestamp.saturating_since(first)
        };
        self.config.segment_ms.saturating_sub(self.roll_jitter_ms) < age
    }

    fn write(
        &mut self,
        batch: &StampedBatch<'_>,
        marker: Option<EndTransactionMarker>,
    ) -> Result<(), AppendError> {
        // Space may be taken even if nothing is written.
        self.is_touched = true;
        let segments = self.shared.segments();
        let active = segments.active();
        let open = match active.append(std::slice::from_ref(batch)) {
            Ok(open) => open,
            Err(SegmentAppendError::NotWritten(error)) => return Err(AppendError::Storage(error)),
            Err(SegmentAppendError::Unknown(error)) => return Err(self.latch("append", &error).into()),
        };
        self.flush
            .note_write(active.base_offset(), open, i64::from(batch.header.record_count));
        let end = Place {
            offset: batch.header.next_offset(),
            segment: active.base_offset(),
            position: active.size(),
        };
        // Before anybody sees the batch: it may open a transaction, or end one.
        match marker {
            None => self.producers.update(&batch.header),
            Some(marker) => {
                if let Some(aborted) = transactions::apply_marker(&mut self.producers, &batch.header, marker)
                {
                    active.note_aborted(aborted);
                    self.shared.has_aborted.store(true, Ordering::Release);
                }
            }
        }
        self.shared.positions.write().extend(end);
        if !self.config.durable {
            self.expose(end);
        }
        Ok(())
    }
}

/// The header as it will stand on disk.
fn stamped(batch: &ValidatedBatch, base_offset: Offset, log: &Log) -> Result<BatchHeader, AppendError> {
    // The log end behind the last record must be an offset too.
    let count = i64::from(batch.header().last_offset_delta).saturating_add(1);
    if base_offset.get().checked_add(count).is_none() {
        return Err(AppendError::OffsetsExhausted(base_offset));
    }
    Ok(batch.header_at(base_offset, log.leader_epoch()))
}
