//! One partition as the fronts see it: append, read, watch.
//!
//! Any number of connections share it. Appends are validated outside the lock and enter the log in the order in
//! which they are called; nothing here waits for the disk, except an append that has to start a new segment, and
//! that one leaves the runtime's thread first. Reads and looks at offsets never meet the writer's lock.
//!
//! What an answer promises: [`Ack::Now`] that the records are in the log, [`Ack::WhenDurable`], once it resolves, that
//! they are on the disk. A duplicate of an earlier batch waits for that batch's own sync.
//!
//! When the disk fails, the log is latched: writers are refused, whoever waits is told, readers go on, and
//! `upkeep.rs` reopens it. Flushing, retention, checkpoints and the end of a partition live there too.

use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use log_core::clock::Clock;
use log_core::config::LogConfig;
use log_core::index::transaction_index::AbortedTransaction;
use log_core::log::{
    AppendError, AppendOutcome, Log, LogOffsets, LogReader, ReadBound, ReadError, ReadRequest,
};
use log_core::log_manager::LogDirectory;
use log_core::model::{LeaderEpoch, Offset, TimestampMs, TopicId, TopicPartition};
use log_core::record::validator::ValidatedBatch;
use log_core::segment::segment::Patience;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::metrics::logs::{LogMetrics, Traffic};
use crate::partition::checkpoints::Checkpoints;
use crate::partition::error::{DurableResult, PartitionError};
use crate::partition::fetch_waiter::{FetchWaiter, WatchGuard, WatchList};
use crate::partition::flusher::{FlushQueue, FlushTurn};
use crate::partition::gathering::Gathering;
use crate::partition::recompression::RecompressionTurns;
use crate::partition::throttle::Throttle;
use crate::partition::writer::{Writer, WriterCell};

/// What an append is to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Nothing; there will be no answer.
    None,
    /// The append.
    Leader,
    /// The disk, or the append where the topic relaxes flushing.
    All,
    /// The disk, whatever the topic relaxes: the broker's own batches, which something else is written down upon.
    OnDisk,
}

/// Which records a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// All below the high watermark.
    Uncommitted,
    /// Those whose transaction is decided, too.
    Committed,
}

impl Isolation {
    /// Up to where such a reader may read.
    #[must_use]
    pub fn bound(self) -> ReadBound {
        match self {
            Self::Uncommitted => ReadBound::HighWatermark,
            Self::Committed => ReadBound::LastStable,
        }
    }
}

/// What became of an append.
#[derive(Debug)]
pub struct Appended {
    /// The offset of the first record; of a duplicate, the one it got the first time.
    pub base_offset: Offset,
    /// The broker's time, where the topic's records carry that; of a duplicate, the batch's largest timestamp.
    pub log_append_time: Option<TimestampMs>,
    /// The first offset that can be read.
    pub log_start: Offset,
    /// Whether the batch stood there already, because its producer had sent it before.
    pub is_duplicate: bool,
    /// When the producer may be answered.
    pub ack: Ack,
}

/// When a producer may be answered.
#[derive(Debug)]
pub enum Ack {
    /// At once.
    Now,
    /// When this resolves: the records are on the disk then, or the error says why that is unknown.
    WhenDurable(oneshot::Receiver<DurableResult>),
}

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRead {
    /// From where.
    pub offset: Offset,
    /// At most this many bytes.
    pub bytes_max: usize,
    /// Whether the first batch is returned even if it is larger.
    pub at_least_one_batch: bool,
    /// Which records may be seen.
    pub isolation: Isolation,
}

/// Records of one partition, not copied.
#[derive(Debug)]
pub struct PartitionSlice {
    /// Batches as they stand on disk; the last one may be cut off.
    pub records: Bytes,
    /// The offsets at the time of the read.
    pub offsets: LogOffsets,
    /// Aborted transactions among the records, for a reader of committed ones.
    pub aborted: Vec<AbortedTransaction>,
}

/// What may bring back a partition that is off-line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// To load its log again: the disk failed, and what is on it is not known to be damaged.
    Load,
    /// To make its log again: there was none, and a start could not make it.
    Create,
    /// A start, once somebody has looked at it.
    Restart,
}

/// How a partition is.
#[derive(Debug, Clone)]
pub enum Condition {
    /// It serves reads and writes.
    Online(LogReader),
    /// It serves reads; writes are refused until the log is reopened.
    Latched {
        /// What is still read.
        reader: LogReader,
        /// What writers are told.
        error: PartitionError,
    },
    /// Its log could not be loaded or made, and it serves nothing.
    Offline {
        /// What everybody is told.
        error: PartitionError,
        /// What may help.
        remedy: Remedy,
    },
    /// It was deleted, or the broker closed it.
    Closed(PartitionError),
}

impl Condition {
    /// What can be read.
    ///
    /// # Errors
    /// Why nothing can.
    pub fn reader(&self) -> Result<&LogReader, PartitionError> {
        match self {
            Self::Online(reader) | Self::Latched { reader, .. } => Ok(reader),
            Self::Offline { error, .. } | Self::Closed(error) => Err(error.clone()),
        }
    }
}

/// What all partitions of a data directory share.
#[derive(Debug, Clone)]
pub(crate) struct PartitionContext {
    /// The time of day.
    pub(crate) clock: Arc<dyn Clock>,
    /// Where dirty partitions stand in line.
    pub(crate) flush_queue: FlushQueue<Partition>,
    /// The checkpoint files of their data directory.
    pub(crate) checkpoints: Arc<Checkpoints>,
    /// What is counted over all partitions of the broker.
    pub(crate) metrics: Arc<LogMetrics>,
    /// Who may write batches anew, over all partitions of the broker.
    pub(crate) recompression: RecompressionTurns,
}

/// One partition, shared by all who use it.
#[derive(Debug)]
pub struct Partition {
    /// For handing itself to the flusher and to blocking threads.
    this: Weak<Self>,
    name: TopicPartition,
    topic_id: TopicId,
    pub(crate) context: Arc<PartitionContext>,
    pub(crate) config: ArcSwap<LogConfig>,
    /// Changed under the writer's lock, read without it.
    pub(crate) condition: ArcSwap<Condition>,
    pub(crate) writer: WriterCell,
    pub(super) gathering: Gathering,
    pub(crate) turn: FlushTurn,
    pub(crate) watchers: Arc<WatchList>,
    pub(super) traffic: Traffic,
    /// Segments that a time ahead of the clock kept at the last retention.
    pub(super) held_back: AtomicUsize,
    /// The log end at the last checkpoint, or at the orderly stop that the log was loaded behind; -1 when the next one has to store.
    pub(crate) checkpointed_end: AtomicI64,
    /// Log lines about failed reads, and about refused appends.
    read_failures: Throttle,
    pub(crate) write_failures: Throttle,
}

impl Partition {
    /// A partition with its log.
    pub(crate) fn new(context: Arc<PartitionContext>, log: Log) -> Arc<Self> {
        let (name, topic_id) = (log.partition().clone(), log.topic_id());
        let (config, condition) = (log.config().clone(), Condition::Online(log.reader()));
        Self::build(context, name, topic_id, config, condition, Ok(log))
    }

    /// A partition whose log could not be loaded: it is known, and answers with the reason.
    pub(crate) fn offline(
        context: Arc<PartitionContext>,
        name: TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
        reason: &str,
        remedy: Remedy,
    ) -> Arc<Self> {
        let error = PartitionError::Offline {
            reason: reason.into(),
        };
        let condition = Condition::Offline {
            error: error.clone(),
            remedy,
        };
        Self::build(context, name, topic_id, config, condition, Err(error))
    }

    fn build(
        context: Arc<PartitionContext>,
        name: TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
        condition: Condition,
        log: Result<Log, PartitionError>,
    ) -> Arc<Self> {
        // The first checkpoint after a start would store again what the stop stored: six syncs for each of ten thousand partitions.
        let stored = log.as_ref().ok().filter(|log| log.is_as_closed());
        let checkpointed_end = stored.map_or(-1, |log| log.offsets().log_end.get());
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            name,
            topic_id,
            context,
            config: ArcSwap::from_pointee(config),
            condition: ArcSwap::from_pointee(condition),
            writer: WriterCell::new(log),
            gathering: Gathering::default(),
            turn: FlushTurn::default(),
            watchers: Arc::default(),
            traffic: Traffic::default(),
            held_back: AtomicUsize::new(0),
            checkpointed_end: AtomicI64::new(checkpointed_end),
            read_failures: Throttle::default(),
            write_failures: Throttle::default(),
        })
    }

    /// Topic and index.
    #[must_use]
    pub fn name(&self) -> &TopicPartition {
        &self.name
    }

    /// The life of the topic it belongs to.
    #[must_use]
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// The directory that it lives in; of a partition that was not found, the first.
    #[must_use]
    pub fn log_directory(&self) -> &Arc<LogDirectory> {
        self.context.checkpoints.directory()
    }

    /// The topic's settings as the log uses them.
    #[must_use]
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.load_full()
    }

    /// How it is.
    #[must_use]
    pub fn condition(&self) -> Arc<Condition> {
        self.condition.load_full()
    }

    /// Why it refuses writes, if it does.
    #[must_use]
    pub fn latch(&self) -> Option<String> {
        match &**self.condition.load() {
            Condition::Online(_) => None,
            Condition::Latched { error, .. }
            | Condition::Offline { error, .. }
            | Condition::Closed(error) => Some(error.to_string()),
        }
    }

    /// The four offsets; all zero while there is no log.
    #[must_use]
    pub fn offsets(&self) -> LogOffsets {
        let condition = self.condition.load();
        condition
            .reader()
            .map_or(LogOffsets::at(Offset::ZERO), LogReader::offsets)
    }

    /// The epoch that appended batches carry.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        let condition = self.condition.load();
        condition
            .reader()
            .map_or(LeaderEpoch::FIRST, LogReader::latest_epoch)
    }

    /// The bytes of all segments.
    #[must_use]
    pub fn size_in_bytes(&self) -> u64 {
        self.condition.load().reader().map_or(0, LogReader::size_in_bytes)
    }

    /// Where an epoch ended, as `OffsetForLeaderEpoch` asks it.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let condition = self.condition.load();
        let nothing = (LeaderEpoch::NONE, Offset::new(-1));
        condition
            .reader()
            .map_or(nothing, |reader| reader.end_offset_for_epoch(epoch))
    }

    /// Checks a producer's batch outside the lock and appends it; never waits for the disk, unless a new segment starts. Where the batch
    /// is to be written anew, waits for a turn at that, up to `until`.
    ///
    /// # Errors
    /// The batch or the producer's state is wrong, its turn did not come, or the log refuses.
    pub async fn append_produced(
        &self,
        records: &Bytes,
        acks: Acks,
        until: Instant,
    ) -> Result<Appended, PartitionError> {
        let mut turn = None;
        let batch = self.validated(records, &mut turn, until).await?;
        self.append_with(&batch, acks, None, |log| log.append_one(&batch))
    }

    /// Appends a batch that the broker built itself, to be answered when it is on the disk.
    ///
    /// # Errors
    /// The log refuses.
    pub fn append_own(&self, batch: &ValidatedBatch) -> Result<Appended, PartitionError> {
        self.append_with(batch, Acks::OnDisk, None, |log| log.append_one(batch))
    }

    /// The same, but only if the log ends at `end`: whoever decided on the batch by what stands below has seen all of it.
    ///
    /// # Errors
    /// [`PartitionError::LogEndMoved`], and nothing was written; or the log refuses.
    pub fn append_own_at(&self, batch: &ValidatedBatch, end: Offset) -> Result<Appended, PartitionError> {
        self.append_with(batch, Acks::OnDisk, Some(end), |log| log.append_one(batch))
    }

    /// Says when everything below `end` is on the disk.
    ///
    /// # Errors
    /// That is not known: the log failed.
    pub fn when_durable(&self, end: Offset) -> Result<Ack, PartitionError> {
        // Where the disk has it already, which is the rule, nobody's lock is needed.
        if let Condition::Online(reader) = &**self.condition.load()
            && end <= reader.offsets().high_watermark
        {
            return Ok(Ack::Now);
        }
        self.writer.with_runtime(|_| false, |writer| ack_at(writer, end))
    }

    /// Appends `batch` in the way that `append` says, if the log ends at `end`, and queues the answer in the same breath.
    pub(super) fn append_with(
        &self,
        batch: &ValidatedBatch,
        acks: Acks,
        end: Option<Offset>,
        append: impl FnOnce(&mut Log) -> Result<AppendOutcome, AppendError>,
    ) -> Result<Appended, PartitionError> {
        let (result, follow_up) = self.writer.with_runtime(
            |writer| will_roll(writer, std::slice::from_ref(batch)),
            |writer| {
                let result = check_end(writer, end).and_then(|()| append_locked(writer, acks, append));
                let follow_up = match &result {
                    Ok(appended) => {
                        if !appended.is_duplicate {
                            self.count_received(batch);
                        }
                        let mut follow_up = self.after_append(writer);
                        follow_up.is_dirty |= matches!(appended.ack, Ack::WhenDurable(_));
                        follow_up
                    }
                    Err(error) => {
                        self.count_refused_append(error);
                        self.after_refusal(writer, error)
                    }
                };
                (result, follow_up)
            },
        );
        self.follow_up(follow_up);
        result
    }

    /// Reads without waiting for any writer, and with [`Patience::MustNotBlock`] without waiting for the disk.
    ///
    /// # Errors
    /// [`PartitionError::WouldBlock`] when only the disk has the records: ask again on a blocking thread with
    /// [`Patience::MayBlock`]. Otherwise the offset is not there, the disk failed, or there is no log.
    pub fn read(&self, read: &PartitionRead, patience: Patience) -> Result<PartitionSlice, PartitionError> {
        let condition = self.condition.load();
        let request = ReadRequest {
            offset: read.offset,
            bytes_max: read.bytes_max,
            at_least_one_batch: read.at_least_one_batch,
            bound: read.isolation.bound(),
            patience,
        };
        let slice = self
            .readable(&condition)?
            .read(request)
            .map_err(|error| self.read_failed("read", &error))?;
        Ok(PartitionSlice {
            records: slice.records,
            offsets: slice.offsets,
            aborted: slice.aborted,
        })
    }

    /// Whether it can be read at all.
    ///
    /// # Errors
    /// There is no log; that counts as a read that was refused.
    pub fn check_readable(&self) -> Result<(), PartitionError> {
        self.readable(&self.condition.load()).map(drop)
    }

    /// What can be read, for one who is refused otherwise.
    pub(super) fn readable<'a>(&self, condition: &'a Condition) -> Result<&'a LogReader, PartitionError> {
        let reader = condition.reader();
        reader.inspect_err(|error| self.count_refused_read(error))
    }

    /// Wakes the waiter when the high watermark moves, or the log start, or the partition ends, until the guard is
    /// dropped. Look at the offsets only after this call, and nothing is missed.
    pub fn watch(&self, waiter: &Arc<FetchWaiter>) -> WatchGuard {
        self.watchers.watch(waiter)
    }

    /// What a reader is told of a failure, which is logged here, but not for each of a thousand tries.
    pub(crate) fn read_failed(&self, operation: &'static str, error: &ReadError) -> PartitionError {
        let answer = PartitionError::from_read(error);
        self.count_refused_read(&answer);
        if matches!(answer, PartitionError::Storage { .. })
            && self.read_failures.is_due(self.context.clock.now())
        {
            tracing::error!(partition = %self.name, operation, %error, "cannot read; other partitions go on");
        }
        answer
    }

    /// This partition, to be handed on.
    pub(crate) fn shared(&self) -> Arc<Self> {
        self.this.upgrade().expect("whoever calls holds it")
    }
}

pub(super) fn will_roll(writer: &mut Writer, batches: &[ValidatedBatch]) -> bool {
    writer.log().is_ok_and(|log| log.append_will_roll(batches))
}

/// Whether the log ends where an append says.
fn check_end(writer: &mut Writer, expected: Option<Offset>) -> Result<(), PartitionError> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let log = writer.log()?;
    if let Some(reason) = log.latch_reason() {
        return Err(PartitionError::from_latch(reason));
    }
    let found = log.offsets().log_end;
    if found == expected {
        Ok(())
    } else {
        Err(PartitionError::LogEndMoved { expected, found })
    }
}

/// When everything below `end` is on the disk.
fn ack_at(writer: &mut Writer, end: Offset) -> Result<Ack, PartitionError> {
    let log = writer.log()?;
    if let Some(reason) = log.latch_reason() {
        return Err(PartitionError::from_latch(reason));
    }
    let offsets = log.offsets();
    if offsets.log_end < end {
        return Err(PartitionError::LogEndMoved {
            expected: end,
            found: offsets.log_end,
        });
    }
    Ok(if end <= offsets.high_watermark {
        Ack::Now
    } else {
        Ack::WhenDurable(writer.acks.push(end))
    })
}

/// Appends under the lock, and queues the answer in the same breath.
fn append_locked(
    writer: &mut Writer,
    acks: Acks,
    append: impl FnOnce(&mut Log) -> Result<AppendOutcome, AppendError>,
) -> Result<Appended, PartitionError> {
    let log = writer.log()?;
    let outcome = append(log).map_err(PartitionError::from_append)?;
    let terms = AnswerTerms::of(log, acks);
    Ok(answer_of(outcome, &terms, writer))
}

/// What the answers of one append go by, as the log stood behind it.
#[derive(Debug)]
pub(super) struct AnswerTerms {
    /// Whether they wait for the disk.
    waits: bool,
    /// What the disk has. The high watermark would not do: relaxed logs show what the disk has not.
    flushed: Offset,
    log_start: Offset,
}

impl AnswerTerms {
    pub(super) fn of(log: &Log, acks: Acks) -> Self {
        Self {
            waits: match acks {
                Acks::None | Acks::Leader => false,
                Acks::All => log.config().durable,
                Acks::OnDisk => true,
            },
            flushed: log.flushed(),
            log_start: log.offsets().log_start,
        }
    }
}

/// What the producer is told, and when.
pub(super) fn answer_of(outcome: AppendOutcome, terms: &AnswerTerms, writer: &mut Writer) -> Appended {
    let end = outcome.end_offset();
    let ack = if terms.waits && terms.flushed < end {
        Ack::WhenDurable(writer.acks.push(end))
    } else {
        Ack::Now
    };
    let is_duplicate = matches!(outcome, AppendOutcome::Duplicate { .. });
    let (AppendOutcome::Appended {
        base_offset,
        log_append_time,
        ..
    }
    | AppendOutcome::Duplicate {
        base_offset,
        log_append_time,
        ..
    }) = outcome;
    Appended {
        base_offset,
        log_append_time,
        log_start: terms.log_start,
        is_duplicate,
        ack,
    }
}
