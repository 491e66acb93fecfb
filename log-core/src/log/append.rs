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
use crate::model::{LeaderEpoch, Offset, TimestampMs};
use crate::producer_state::manager::Verdict;
use crate::producer_state::verification::TransactionProof;
use crate::record::batch_header::BatchHeader;
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

/// What the next batch is stamped with, and where it goes. Nobody but the writer changes that: it is looked up once for an append.
#[derive(Debug)]
struct Tail {
    active: Arc<Segment>,
    offset: Offset,
    epoch: LeaderEpoch,
}

impl Log {
    fn tail(&self) -> Tail {
        Tail {
            active: Arc::clone(self.shared.segments.read().active()),
            offset: self.shared.positions.read().log_end().offset,
            epoch: self.leader_epoch(),
        }
    }

    /// Appends the batches of clients in their order. Those that follow each other in one segment are written by one call: many small
    /// ones cost hardly more than one large one. An outcome for each; one that is refused does not hold up the others.
    pub fn append(&mut self, batches: &[ValidatedBatch]) -> Vec<Result<AppendOutcome, AppendError>> {
        let mut outcomes = Vec::with_capacity(batches.len());
        let mut rest = batches;
        while let Some(first) = rest.first() {
            let tail = self.tail();
            let length = self.run_length(&tail, rest);
            if 1 < length
                && let Some((run, behind)) = rest.split_at_checked(length)
                && self.reserve(&tail, run).is_ok()
            {
                self.append_run(&tail, run, &mut outcomes);
                rest = behind;
            } else {
                // Where something stands in the way, each hears for itself what.
                outcomes.push(self.append_one(first));
                rest = rest.get(1..).unwrap_or_default();
            }
        }
        outcomes
    }

    /// Appends one batch of a client. It may belong to a transaction that is open.
    ///
    /// # Errors
    /// [`AppendError`]. A failed write latches the log; a lack of space does not, because space is
    /// allocated before anything is written.
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
        match duplicate(verdict) {
            Some(duplicate) => Ok(duplicate),
            None => self.append_checked(batch, Untold::Batches),
        }
    }

    /// Appends a batch that passed the checks.
    pub(super) fn append_checked(
        &mut self,
        batch: &ValidatedBatch,
        untold: Untold,
    ) -> Result<AppendOutcome, AppendError> {
        let tail = self.tail();
        let header = stamped(batch, tail.offset, tail.epoch)?;
        let active = self.roll_if_needed(tail.active, &header)?;
        let outcome = appended(batch, &header);
        self.write(&active, &[with_stamp(batch, header)], untold)?;
        Ok(outcome)
    }

    /// How many of the batches, from the first on, go into the active segment as it is. 1 stands for "not several".
    fn run_length(&self, tail: &Tail, batches: &[ValidatedBatch]) -> usize {
        // The first batch of a segment decides when it is to roll.
        let is_empty = tail.active.size() == 0;
        if self.latch.is_some() || is_empty || batches.len() < 2 {
            return 1;
        }
        self.fitting(tail, batches)
    }

    /// How many of the batches, from the first on, can be appended without a roll.
    fn fitting(&self, tail: &Tail, batches: &[ValidatedBatch]) -> usize {
        let mut offset = tail.offset;
        let mut bytes = 0;
        for (count, batch) in batches.iter().enumerate() {
            let Ok(header) = stamped(batch, offset, tail.epoch) else {
                continue; // it will be refused in its turn
            };
            if self.is_due_to_roll(&tail.active, &header, bytes) {
                return count;
            }
            offset = header.next_offset();
            bytes += u64::try_from(header.size()).expect("usize fits u64");
        }
        batches.len()
    }

    fn reserve(&mut self, tail: &Tail, run: &[ValidatedBatch]) -> Result<(), FsError> {
        self.is_touched = true;
        let bytes: usize = run.iter().map(|batch| batch.header().size()).sum();
        let bytes = u64::try_from(bytes).expect("usize fits u64");
        tail.active.reserve(bytes)
    }

    /// Appends batches for which there is space in the active segment.
    fn append_run(
        &mut self,
        tail: &Tail,
        run: &[ValidatedBatch],
        outcomes: &mut Vec<Result<AppendOutcome, AppendError>>,
    ) {
        let first_outcome = outcomes.len();
        let mut offset = tail.offset;
        let mut batches = Vec::with_capacity(run.len());
        for batch in run {
            let outcome = self.check_in_run(batch, offset, tail.epoch);
            outcomes.push(outcome.map(|(outcome, new)| {
                if let Some(new) = new {
                    offset = new.header.next_offset();
                    batches.push(new);
                }
                outcome
            }));
        }
        if batches.is_empty() {
            return;
        }
        if self.write(&tail.active, &batches, Untold::Nothing).is_err() {
            // A duplicate may be one of a batch that was to be written here.
            for outcome in outcomes.iter_mut().skip(first_outcome) {
                if let (Ok(_), Err(reason)) = (&outcome, self.check_latch()) {
                    *outcome = Err(reason.into());
                }
            }
        }
    }

    /// What becomes of a batch of a run. The producers are told at once, so that the run's next batch can follow this one; should
    /// the write fail, the log is latched, and they are read from it again.
    fn check_in_run<'a>(
        &mut self,
        batch: &'a ValidatedBatch,
        offset: Offset,
        epoch: LeaderEpoch,
    ) -> Result<(AppendOutcome, Option<StampedBatch<'a>>), AppendError> {
        let verdict = self.producers.check(batch.header(), &TransactionProof::Ongoing)?;
        if let Some(duplicate) = duplicate(verdict) {
            return Ok((duplicate, None));
        }
        let header = stamped(batch, offset, epoch)?;
        self.producers.update(&header);
        Ok((appended(batch, &header), Some(with_stamp(batch, header))))
    }

    /// Whether appending these batches now will start a new segment, which makes files and takes longer.
    #[must_use]
    pub fn append_will_roll(&self, batches: &[ValidatedBatch]) -> bool {
        self.fitting(&self.tail(), batches) < batches.len()
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

    /// The segment that the batch goes into: `active`, or a new one.
    fn roll_if_needed(
        &mut self,
        active: Arc<Segment>,
        header: &BatchHeader,
    ) -> Result<Arc<Segment>, AppendError> {
        let batch_bytes = u64::try_from(header.size()).expect("usize fits u64");
        if self.config.segment_bytes_max < batch_bytes {
            let segment_bytes_max = self.config.segment_bytes_max;
            return Err(AppendError::BatchExceedsSegment {
                batch_bytes,
                segment_bytes_max,
            });
        }
        if !self.is_due_to_roll(&active, header, 0) {
            return Ok(active);
        }
        self.roll()?;
        Ok(Arc::clone(self.shared.segments.read().active()))
    }

    /// Whether the batch would not go into the active segment, of which `bytes_before` more will have been written by then.
    ///
    /// | the active segment | rolls |
    /// |---|---|
    /// | would become larger than `segment.bytes`, by the setting it was made with or today's | yes |
    /// | has indexes that cannot name another batch | yes |
    /// | is empty | no |
    /// | begins with a record that is `segment.ms` (less the jitter) older than the new one | yes |
    /// | carries no timestamps and was made that long ago | yes |
    fn is_due_to_roll(&self, active: &Segment, header: &BatchHeader, bytes_before: u64) -> bool {
        let batch_bytes = u64::try_from(header.size()).expect("usize fits u64");
        let size = active.size().saturating_add(bytes_before);
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
        active: &Segment,
        batches: &[StampedBatch<'_>],
        untold: Untold,
    ) -> Result<(), AppendError> {
        // Space may be taken even if nothing is written.
        self.is_touched = true;
        let open = match active.append(batches) {
            Ok(open) => open,
            Err(SegmentAppendError::NotWritten(error)) if untold != Untold::Nothing => {
                return Err(AppendError::Storage(error));
            }
            Err(SegmentAppendError::NotWritten(error) | SegmentAppendError::Unknown(error)) => {
                return Err(self.latch("append", &error).into());
            }
        };
        let records = batches.iter().map(|batch| i64::from(batch.header.record_count));
        self.flush.note_write(active.base_offset(), open, records.sum());
        let end = Place {
            offset: active.next_offset(),
            segment: active.base_offset(),
            position: active.size(),
        };
        // Before anybody sees the batches: they may open a transaction, or end one.
        match untold {
            Untold::Nothing => {}
            Untold::Batches => {
                for batch in batches {
                    self.producers.update(&batch.header);
                }
            }
            Untold::Marker(marker) => {
                let header = &batches.first().expect("a marker is a batch").header;
                if let Some(aborted) = transactions::apply_marker(&mut self.producers, header, marker) {
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

/// What the state of producers has not been told yet of batches that are to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untold {
    /// What they hold: the write may be refused, and the log goes on.
    Batches,
    /// That one ends a transaction in this way.
    Marker(EndTransactionMarker),
    /// Nothing: it knows them already. If they cannot be written now, the log must not go on.
    Nothing,
}

fn duplicate(verdict: Verdict) -> Option<AppendOutcome> {
    match verdict {
        Verdict::New => None,
        Verdict::Duplicate {
            base_offset,
            last_offset,
            timestamp,
        } => Some(AppendOutcome::Duplicate {
            base_offset,
            last_offset,
            log_append_time: Some(timestamp),
        }),
    }
}

fn appended(batch: &ValidatedBatch, header: &BatchHeader) -> AppendOutcome {
    let is_brokers_time = batch.header().attributes.timestamp_type() == TimestampType::LogAppendTime;
    AppendOutcome::Appended {
        base_offset: header.base_offset,
        last_offset: header.last_offset(),
        log_append_time: is_brokers_time.then(|| batch.max_timestamp()),
    }
}

fn with_stamp(batch: &ValidatedBatch, header: BatchHeader) -> StampedBatch<'_> {
    StampedBatch {
        header,
        stamp: batch.stamp(header.base_offset, header.leader_epoch),
        body: batch.body(),
    }
}

/// The header as it will stand on disk.
fn stamped(
    batch: &ValidatedBatch,
    base_offset: Offset,
    epoch: LeaderEpoch,
) -> Result<BatchHeader, AppendError> {
    // The log end behind the last record must be an offset too.
    let count = i64::from(batch.header().last_offset_delta).saturating_add(1);
    if base_offset.get().checked_add(count).is_none() {
        return Err(AppendError::OffsetsExhausted(base_offset));
    }
    Ok(batch.header_at(base_offset, epoch))
}
