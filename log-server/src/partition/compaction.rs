//! Compactions that somebody asks for: a partition is cleaned now, however small the share of it is that is dirty.
//!
//! The cleaner's own threads carry them out, so that memory and pace stay what is set for them, and whoever asks waits without a thread.
//! All other rules of the cleaner hold: nothing is cleaned above the last stable offset, behind the recovery point, or before
//! `min.compaction.lag.ms`. Whoever asks means all that is there, so the active segment is not spared:
//!
//! | the active segment | |
//! |---|---|
//! | is empty | stays |
//! | has a record younger than `min.compaction.lag.ms`, or a transaction is open in the partition | stays, as nothing of it may be cleaned |
//! | otherwise | is rolled; the cleaning begins when the flusher has completed it on the disk |
//!
//! Until then the request goes round: nobody else cleans the partition, and no thread waits for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log_core::cleaner::{CleanError, CleanerStats};
use log_core::model::Offset;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::partition::cleaner::{LogCleaner, Turn};
use crate::partition::error::PartitionError;
use crate::partition::partition::{Condition, Partition};

/// Requests that may wait: two topics of the most partitions that one can be made with.
const REQUESTS_MAX: usize = 20_000;

/// How long a rolled segment may take to be completed on the disk: many times what a slow disk needs.
const SEALING_MAX: Duration = Duration::from_secs(30);

/// What a compaction that was asked for came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// What was cleaned; nothing where nothing was dirty.
    pub compacted: Option<Compacted>,
    /// Why records that consumers see were left as they are, if some were.
    pub held_back: Option<HeldBack>,
}

/// The part of a log that was cleaned, and what became of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Everything below had been cleaned before.
    pub from: Offset,
    /// Everything below is clean now.
    pub to: Offset,
    /// Bytes of the segments below `to`, before.
    pub bytes_before: u64,
    /// The same, after.
    pub bytes_after: u64,
    /// Records in these segments, before.
    pub records_before: u64,
    /// The same, after.
    pub records_after: u64,
}

/// What keeps records from being cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBack {
    /// A transaction that is not decided.
    OpenTransaction,
    /// `min.compaction.lag.ms`.
    MinCompactionLag,
}

/// Why a partition was not compacted, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// Its topic is none that is compacted.
    #[error("the topic is not compacted: set its cleanup.policy to compact, or to compact,delete")]
    NotCompacted,
    /// It belongs to the broker.
    #[error("the topic is kept short by the broker itself")]
    KeepsItselfShort,
    /// A thread is at it, for somebody else or by itself.
    #[error("the partition is being compacted already")]
    UnderWay,
    /// Something in it cannot be read.
    #[error(
        "the partition cannot be compacted, nor is that tried again before a restart: {0}; look at it with `stratalog log verify`"
    )]
    Uncleanable(String),
    /// The disk fails, or is full.
    #[error("{0}")]
    Storage(String),
    /// There is no log, or it refuses.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// The topic was changed or deleted, its log was opened anew, or the broker stops.
    #[error("the compaction ended early: the log or its settings have changed, or the broker is stopping")]
    Stopped,
    /// Too many others ask.
    #[error("{} partitions wait for their compaction", REQUESTS_MAX)]
    Crowded,
}

impl From<&CleanError> for CompactionError {
    fn from(error: &CleanError) -> Self {
        match error {
            CleanError::Stopped => Self::Stopped,
            CleanError::Storage(error) => Self::Storage(error.to_string()),
            CleanError::Damaged { .. } => Self::Uncleanable(error.to_string()),
        }
    }
}

type Outcome = Result<Compaction, CompactionError>;

/// A partition that somebody wants compacted.
#[derive(Debug)]
struct Request {
    partition: Arc<Partition>,
    answer: oneshot::Sender<Outcome>,
    sealing: Option<Sealing>,
}

/// A rolled segment on its way to the disk.
#[derive(Debug)]
struct Sealing {
    /// Everything below is to be completed.
    end: Offset,
    /// Nobody waits longer.
    until: Instant,
    /// Else the cleaner itself would find the partition dirty now, and leave nothing to those who asked.
    _turn: Turn,
}

/// Requests, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<VecDeque<Request>>);

impl Requests {
    fn count(&self) -> usize {
        self.0.lock().len()
    }

    fn push(&self, request: Request) {
        let mut waiting = self.0.lock();
        if waiting.len() < REQUESTS_MAX {
            waiting.push_back(request);
        } else {
            drop(waiting);
            request.answer(Err(CompactionError::Crowded));
        }
    }

    /// The oldest that somebody still waits for.
    fn pop(&self) -> Option<Request> {
        let mut waiting = self.0.lock();
        loop {
            let request = waiting.pop_front()?;
            if !request.answer.is_closed() {
                return Some(request);
            }
        }
    }

    /// Whoever waits is told that nothing comes of it.
    pub(super) fn drop_all(&self) {
        let requests = std::mem::take(&mut *self.0.lock());
        drop(requests);
    }
}

impl Request {
    fn answer(self, outcome: Outcome) {
        // Whoever hears of it may ask again at once.
        drop(self.sealing);
        // Nobody waits any more where it cannot be sent.
        drop(self.answer.send(outcome));
    }
}

impl LogCleaner {
    /// Wants a partition compacted now. The answer comes when that is done, which may take minutes; dropping it takes the request
    /// back, unless it is being carried out.
    ///
    /// # Errors
    /// [`CompactionError`].
    pub fn compact(&self, partition: &Arc<Partition>) -> impl Future<Output = Outcome> + use<> {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            partition: Arc::clone(partition),
            answer,
            sealing: None,
        };
        match self.objection(partition) {
            Some(error) => request.answer(Err(error)),
            None => self.requests.push(request),
        }
        async move { answered.await.unwrap_or(Err(CompactionError::Stopped)) }
    }

    /// Why a partition will not be compacted, whoever asks.
    fn objection(&self, partition: &Partition) -> Option<CompactionError> {
        if self.is_stopping() {
            return Some(CompactionError::Stopped);
        }
        if !partition.config().cleanup_policy.compact {
            return Some(CompactionError::NotCompacted);
        }
        if self.is_exempt(partition) {
            return Some(CompactionError::KeepsItselfShort);
        }
        self.why_uncleanable(partition).map(CompactionError::Uncleanable)
    }

    /// Carries out what was asked for, one partition after the other. Those whose logs wait for the disk are left for the next call.
    /// Blocks.
    pub(super) fn clean_requested(&self) {
        for _ in 0..self.requests.count() {
            if self.is_stopping() {
                return;
            }
            let Some(mut request) = self.requests.pop() else {
                return;
            };
            match self.carry_out(&mut request) {
                Some(outcome) => request.answer(outcome),
                None => self.requests.push(request),
            }
        }
    }

    /// Nothing while a rolled segment is not completed on the disk.
    fn carry_out(&self, request: &mut Request) -> Option<Outcome> {
        let partition = &request.partition;
        if let Some(error) = self.objection(partition) {
            return Some(Err(error));
        }
        let sealing = match request.sealing.take() {
            Some(sealing) => sealing,
            None => match self.begin(partition) {
                Ok(sealing) => sealing,
                Err(error) => return Some(Err(error)),
            },
        };
        // A log that is away or latched says so when it is to be cleaned.
        let is_online = matches!(&*partition.condition(), Condition::Online(_));
        let is_sealed = || {
            partition
                .recovery_point()
                .is_none_or(|point| sealing.end <= point)
        };
        if !is_online || is_sealed() {
            return Some(self.clean_out(partition, sealing.end));
        }
        if sealing.until < Instant::now() {
            let text = "the disk does not take what is to be compacted; try again later";
            return Some(Err(CompactionError::Storage(text.to_owned())));
        }
        request.sealing = Some(sealing);
        None
    }

    /// Takes the partition, and seals what is in it.
    fn begin(&self, partition: &Arc<Partition>) -> Result<Sealing, CompactionError> {
        let turn = self.take(partition).ok_or(CompactionError::UnderWay)?;
        Ok(Sealing {
            end: partition.seal_for_cleaning()?,
            until: Instant::now() + SEALING_MAX,
            _turn: turn,
        })
    }

    /// Cleans up to `end` as often as that takes: the offset map may hold only a part of the keys at a time.
    fn clean_out(&self, partition: &Arc<Partition>, end: Offset) -> Outcome {
        let mut compacted: Option<Compacted> = None;
        let mut before = None;
        loop {
            let dirt = match partition.dirt(self.cleaned_to(partition)) {
                Some(Ok(dirt)) => dirt,
                Some(Err(error)) => return Err(self.failed(partition, error, Duration::ZERO)),
                None => return Err(partition.why_not_cleaned()),
            };
            let stands_still = before.replace(dirt.first_dirty) == Some(dirt.first_dirty);
            // What is appended meanwhile is for others to ask for.
            if dirt.cleanable_bytes == 0 || end <= dirt.first_dirty || stands_still {
                return Ok(Compaction {
                    compacted,
                    held_back: partition.held_back(&dirt),
                });
            }
            let began = Instant::now();
            let stats = match self.clean(partition, &dirt) {
                Ok(stats) => stats,
                Err(error) => return Err(self.failed(partition, error, began.elapsed())),
            };
            self.note(partition, Ok(stats), began.elapsed());
            let to = self.cleaned_to(partition).unwrap_or(dirt.first_dirty);
            compacted = Some(Compacted::of(&stats, compacted, dirt.first_dirty, to));
        }
    }

    fn failed(&self, partition: &Arc<Partition>, error: CleanError, took: Duration) -> CompactionError {
        let answer = CompactionError::from(&error);
        self.note(partition, Err(error), took);
        answer
    }
}

impl Compacted {
    /// After one more cleaning, which read again what the ones before it had left.
    fn of(stats: &CleanerStats, before: Option<Self>, from: Offset, to: Offset) -> Self {
        let before = before.unwrap_or(Self {
            from,
            to,
            bytes_before: 0,
            bytes_after: 0,
            records_before: 0,
            records_after: 0,
        });
        let and_new = |before: u64, left: u64, read: u64| before.saturating_add(read.saturating_sub(left));
        Self {
            from: before.from,
            to,
            bytes_before: and_new(before.bytes_before, before.bytes_after, stats.bytes_read),
            bytes_after: stats.bytes_written,
            records_before: and_new(before.records_before, before.records_after, stats.records_read),
            records_after: stats.records_kept,
        }
    }
}
