//! What happens to a partition behind its answers: flushing, failing, reopening, retention, checkpoints, its end.
//!
//! Nothing here runs on a runtime's thread, except the few steps that follow an append. The rules:
//!
//! - An acknowledgement is released by the flush that began after its append, and by nothing else.
//! - When a write or a sync fails, the log is latched: everyone who waits is told, nobody behind it is ever told
//!   otherwise, readers go on below the high watermark, and housekeeping reopens the log from what was synced.
//! - Segments are removed after the log start that lets them go is on the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use log_core::config::LogConfig;
use log_core::fs::FsError;
use log_core::log::{
    FlushDone, FlushTask, LoadReport, Log, LogError, PrepareTask, ReclaimTask, RetentionOutcome, SealTask,
    WriteOutTask,
};
use log_core::log_manager::LogManager;
use log_core::model::Offset;
use log_core::segment::space::Preparer;

use crate::partition::ack_queue::Released;
use crate::partition::error::PartitionError;
use crate::partition::fetch_waiter::WatchList;
use crate::partition::flusher::{FlushTarget, FlushTurn, Haste};
use crate::partition::offset_query::blocking;
use crate::partition::partition::{Condition, Partition, Remedy};
use crate::partition::writer::Writer;

/// What is left to do once the writer's lock is released.
#[derive(Debug, Default)]
#[must_use = "somebody may be waiting for it"]
pub(crate) struct FollowUp {
    /// There is something to sync.
    pub(super) is_dirty: bool,
    /// Readers may see more than before.
    is_visible: bool,
    /// These are told that their records are on the disk.
    durable: Released,
    /// These are told that theirs may never be.
    failed: Option<(Released, PartitionError)>,
    /// Work behind the answers, of the log of this generation.
    prepare: Option<PrepareTask>,
    write_out: Option<WriteOutTask>,
    seals: Vec<SealTask>,
    generation: u64,
}

impl FollowUp {
    /// What an append left, and what a refusal behind it left. Who waits is taken out by the first refusal that latches.
    pub(super) fn and(mut self, refusal: Self) -> Self {
        self.is_visible |= refusal.is_visible;
        self.failed = self.failed.or(refusal.failed);
        self
    }
}

/// Those who waited for a partition that has ended.
struct Leaving {
    released: Released,
    error: PartitionError,
    watchers: Arc<WatchList>,
}

impl Leaving {
    /// Tells them. Without the writer's lock.
    fn fail(self) {
        self.released.fail(&self.error);
        self.watchers.close();
    }
}

/// Ends a use of the log when it is dropped, also by a panic: else nobody could ever take the log.
pub(super) struct UseGuard<'a>(pub(super) &'a Partition);

impl Drop for UseGuard<'_> {
    fn drop(&mut self) {
        let mut writer = self.0.writer.lock();
        self.0.writer.end_use(&mut writer);
    }
}

/// A task that a log handed out, on its way to the thread for such.
#[derive(Debug)]
enum Task {
    Prepare(PrepareTask),
    WriteOut(WriteOutTask),
    Seal(SealTask),
}

impl Partition {
    /// After records entered the log.
    pub(crate) fn after_append(&self, writer: &mut Writer) -> FollowUp {
        if std::mem::take(&mut writer.is_out_of_space) {
            tracing::info!(partition = %self.name(), "there is space again");
        }
        let generation = writer.generation();
        let prepare = writer.want_preparation();
        let Ok(log) = writer.log() else {
            return FollowUp::default();
        };
        let is_durable = log.config().durable;
        // A rolled segment is completed once it is on the disk; also where nobody waits for that.
        let is_due = log.config().flush_messages <= log.records_unflushed() || log.has_rolled();
        let write_out = log.wants_write_out();
        if !is_durable {
            let since = &mut writer.unflushed_since;
            since.get_or_insert_with(|| self.context.clock.now());
        }
        FollowUp {
            is_dirty: is_durable || is_due,
            is_visible: !is_durable,
            prepare,
            write_out,
            generation,
            ..FollowUp::default()
        }
    }

    /// After the log refused records.
    pub(crate) fn after_refusal(&self, writer: &mut Writer, error: &PartitionError) -> FollowUp {
        match error {
            PartitionError::Latched { .. } => return self.note_latch(writer),
            PartitionError::DiskFull { reason } if !std::mem::replace(&mut writer.is_out_of_space, true) => {
                tracing::error!(
                    partition = %self.name(), %reason,
                    "no space: producers are refused until there is some; reads go on"
                );
            }
            PartitionError::Storage { reason } if self.write_failures.is_due(self.context.clock.now()) => {
                tracing::error!(partition = %self.name(), %reason, "append refused; the log goes on");
            }
            _ => {}
        }
        FollowUp::default()
    }

    /// Notices that the log is latched, the first time with a line in the log. Whoever waits will not be answered
    /// with success any more: what they wait for may be lost.
    pub(super) fn note_latch(&self, writer: &mut Writer) -> FollowUp {
        let released = writer.acks.take_all();
        let Some(reason) = writer.log().ok().and_then(|log| log.latch_reason().cloned()) else {
            return FollowUp::default();
        };
        let error = PartitionError::from_latch(&reason);
        let condition = self.condition();
        if let Condition::Online(reader) = &*condition {
            tracing::error!(
                partition = %self.name(), operation = reason.operation, cause = %reason.cause,
                "the log refuses writes until it is reopened; reads go on"
            );
            self.condition.store(Arc::new(Condition::Latched {
                reader: reader.clone(),
                error: error.clone(),
            }));
        }
        FollowUp {
            failed: Some((released, error)),
            // Not more, but nobody shall learn of it later than those who were promised something.
            is_visible: true,
            ..FollowUp::default()
        }
    }

    /// Does what was decided under the lock.
    pub(crate) fn follow_up(&self, follow_up: FollowUp) {
        if follow_up.is_dirty {
            self.mark_dirty();
        }
        follow_up.durable.succeed();
        if let Some((released, error)) = follow_up.failed {
            released.fail(&error);
        }
        if follow_up.is_visible {
            self.watchers.wake();
        }
        if let Some(task) = follow_up.prepare {
            self.hand_over(follow_up.generation, Task::Prepare(task));
        }
        if let Some(task) = follow_up.write_out {
            self.hand_over(follow_up.generation, Task::WriteOut(task));
        }
        for task in follow_up.seals {
            self.hand_over(follow_up.generation, Task::Seal(task));
        }
    }

    fn hand_over(&self, generation: u64, task: Task) {
        let partition = self.shared();
        let haste = match &task {
            Task::Seal(_) => Haste::Soon,
            Task::Prepare(_) | Task::WriteOut(_) => Haste::InTurn,
        };
        let chore = move || {
            if partition.writer.begin_use(generation) {
                partition.run_task(task);
            }
        };
        self.context.flush_queue.hand_over(Box::new(chore), haste);
    }

    fn run_task(&self, task: Task) {
        let _ends = UseGuard(self);
        let is_due = || self.write_failures.is_due(self.context.clock.now());
        let put_off = |operation: &str, error: &FsError| {
            if is_due() {
                tracing::warn!(partition = %self.name(), operation, %error, "put off; the log goes on without it");
            }
        };
        match task {
            Task::Prepare(task) => {
                if let Err(error) = task.run(Preparer::Beside(self.context.clock.steady())) {
                    put_off("prepare space", &error);
                }
                self.writer.lock().is_preparing = false;
            }
            Task::WriteOut(task) => {
                if let Err(error) = task.run() {
                    put_off("write out", &error);
                }
            }
            Task::Seal(task) => {
                let result = task.run();
                if let Err(error) = &result {
                    put_off("store the indexes of a segment", error);
                }
                if let Ok(log) = self.writer.lock().log() {
                    log.finish_seal(&task, &result);
                }
            }
        }
    }

    /// Moves the log start (`DeleteRecords`) and makes it durable; the segments below go in the background. `None` stands
    /// for the high watermark.
    ///
    /// # Errors
    /// The offset lies behind the high watermark, the log start could not be made durable, or there is no log.
    pub async fn delete_records(self: &Arc<Self>, before: Option<Offset>) -> Result<Offset, PartitionError> {
        let partition = Arc::clone(self);
        blocking(move || partition.delete_records_now(before)).await?
    }

    /// The same, on a thread that may wait.
    ///
    /// # Errors
    /// As [`Self::delete_records`].
    pub(crate) fn delete_records_now(&self, before: Option<Offset>) -> Result<Offset, PartitionError> {
        let log_start = {
            let mut writer = self.writer.lock_slow();
            let log = writer.log()?;
            let to = before.unwrap_or(log.offsets().high_watermark);
            let log_start = log
                .advance_log_start(to)
                .map_err(|error| PartitionError::from_log(&error))?;
            self.context
                .checkpoints
                .note(self.name(), self.topic_id(), log_start);
            log_start
        };
        let written = self.context.checkpoints.write();
        self.watchers.wake();
        if let Err(error) = written {
            tracing::error!(
                partition = %self.name(), operation = "delete records", %error, "the log start is not durable"
            );
            return Err(PartitionError::from_file_system(&error));
        }
        self.reclaim(log_start);
        Ok(log_start)
    }

    /// Begins a new segment at the log end, so that what stands below can go without what follows. Blocks.
    ///
    /// # Errors
    /// The log refuses; it goes on with the segment it has.
    pub(crate) fn roll(&self) -> Result<(), PartitionError> {
        let mut writer = self.writer.lock_slow();
        let log = writer.log()?;
        if let Some(reason) = log.latch_reason() {
            return Err(PartitionError::from_latch(reason));
        }
        log.roll()
            .map_err(|error| PartitionError::from_file_system(&error))?;
        drop(writer);
        // The old segment is completed once it is on the disk.
        self.mark_dirty();
        Ok(())
    }

    /// Moves the log start to what retention leaves and notes it in the checkpoints; the caller writes those and then
    /// calls [`Self::reclaim`] with the log start that is returned. Blocks. `None` when there is no log.
    pub(crate) fn apply_retention(&self) -> Option<Offset> {
        let now = self.context.clock.now();
        let mut writer = self.writer.lock_slow();
        let log = writer.log().ok()?;
        let outcome = log.apply_retention(now);
        let held_back = log.held_back_count(now).unwrap_or(0);
        // Whoever moves it notes it under the same lock: what is seen here is in the caller's write.
        let log_start = log.offsets().log_start;
        match outcome {
            Ok(RetentionOutcome::Advanced {
                log_start,
                segment_count,
            }) => {
                self.context
                    .checkpoints
                    .note(self.name(), self.topic_id(), log_start);
                drop(writer);
                tracing::info!(partition = %self.name(), %log_start, segment_count, "retention lets segments go");
                self.watchers.wake();
            }
            Ok(RetentionOutcome::Unchanged) | Err(LogError::Latched(_)) => {}
            Err(error) => {
                tracing::error!(partition = %self.name(), operation = "retention", %error, "put off");
            }
        }
        if self.held_back.swap(held_back, Ordering::Relaxed) == 0 && 0 < held_back {
            tracing::warn!(
                partition = %self.name(), segments = held_back,
                "retention waits: a record has a time ahead of the clock"
            );
        }
        Some(log_start)
    }

    /// How many segments a record with a time ahead of the clock kept at the last retention: its own, and those behind it.
    #[must_use]
    pub fn held_back_segments(&self) -> usize {
        self.held_back.load(Ordering::Relaxed)
    }

    /// Removes the segments below a log start that is on the disk. Blocks.
    pub(crate) fn reclaim(&self, durable_log_start: Offset) {
        let has_several = (self.condition().reader()).is_ok_and(|reader| 1 < reader.segment_count());
        if !has_several {
            return;
        }
        let Some(task) = self.begin_reclaim(durable_log_start) else {
            return;
        };
        let _ends = UseGuard(self);
        match task.run() {
            Ok(bytes) => tracing::info!(partition = %self.name(), bytes, "segments removed"),
            Err(error) => {
                tracing::warn!(partition = %self.name(), operation = "remove segments", %error, "left for the next start");
            }
        }
    }

    /// Takes the segments out of the log. The task removes files by their names, so it counts as a use of the log: until
    /// it has run, the topic cannot be deleted and made anew in the same place.
    pub(super) fn begin_reclaim(&self, durable_log_start: Offset) -> Option<ReclaimTask> {
        let mut writer = self.writer.lock_slow();
        let task = writer.log().ok()?.reclaim(durable_log_start);
        if task.is_empty() {
            return None;
        }
        writer.begin_use();
        Some(task)
    }

    /// Changes the topic's settings.
    pub(crate) fn set_config(&self, config: &LogConfig) {
        let mut writer = self.writer.lock_slow();
        self.config.store(Arc::new(config.clone()));
        let follow_up = match writer.log() {
            Ok(log) => {
                log.set_config(config.clone());
                // Where flushing was relaxed just now, those who wait were promised the disk; where it was not before, the
                // disk has to catch up.
                FollowUp {
                    is_dirty: true,
                    is_visible: true,
                    ..FollowUp::default()
                }
            }
            // A log that is being reopened learns it when it is back.
            Err(_) => FollowUp::default(),
        };
        drop(writer);
        self.follow_up(follow_up);
    }

    /// Forgets producers that were silent for too long.
    pub(crate) fn expire_producers(&self) {
        let now = self.context.clock.now();
        if let Ok(log) = self.writer.lock_slow().log() {
            log.expire_producers(now);
        }
    }

    /// Puts the partition in line for a flush when its topic's `flush.ms` is over, as far as that can be seen now.
    pub(crate) fn flush_if_old(&self) {
        let flush_ms = self.config.load().flush_ms;
        let since = (self.writer.lock_if_soon()).and_then(|writer| writer.unflushed_since);
        if since.is_some_and(|since| flush_ms <= self.context.clock.now().saturating_since(since)) {
            self.mark_dirty();
        }
    }

    /// Gives up maps and descriptors that nobody used since the last call.
    pub(crate) fn release_idle(&self) {
        if let Ok(reader) = self.condition().reader() {
            reader.release_idle();
        }
    }

    /// Opens a latched log again, back to what was surely on the disk, or tries again to load or make one that could not be.
    /// Blocks; readers of a latched log go on meanwhile. `None` when there is nothing to mend.
    pub(crate) fn mend(&self, manager: &LogManager) -> Option<Result<LoadReport, LogError>> {
        let (lent, remedy) = match &*self.condition() {
            Condition::Latched { error, .. } => (Some(self.writer.lend(error.clone())?), Remedy::Load),
            Condition::Offline { remedy, .. } if *remedy != Remedy::Restart => {
                (self.writer.reserve().then_some(None)?, *remedy)
            }
            Condition::Online(_) | Condition::Offline { .. } | Condition::Closed(_) => return None,
        };
        let config = (*self.config()).clone();
        let result = match &lent {
            Some(latched) => manager.reopen(latched),
            None if remedy == Remedy::Create => {
                // Nowhere else: what the start began is there.
                let made = self.log_directory().create(self.name(), self.topic_id(), config);
                made.map(|log| (log, LoadReport::default()))
            }
            None => manager.load(self.name(), self.topic_id(), config),
        };
        let (log, outcome) = match result {
            Ok((fresh, report)) => (Some(Box::new(fresh)), Ok(report)),
            Err(error) => (lent, Err(error)),
        };
        let mut guard = self.writer.put_back(log);
        if outcome.is_ok()
            && let Ok(log) = guard.log()
        {
            // The topic's settings may have changed while it was away.
            log.set_config((*self.config()).clone());
            self.condition.store(Arc::new(Condition::Online(log.reader())));
        }
        drop(guard);
        self.watchers.wake();
        Some(outcome)
    }

    /// Ends the partition for everybody: who waits is told `error`, and so is everyone who comes later. Returns the log,
    /// which nobody else uses any more. Blocks.
    pub(crate) fn end(&self, error: PartitionError) -> Option<Box<Log>> {
        let (mut writer, log) = self.writer.retire(error.clone());
        let leaving = self.close_for_all(&mut writer, error);
        drop(writer);
        leaving.fail();
        log
    }

    /// The partition's data directory failed: it serves nothing until a start finds the directory whole again. Waits for nobody: where
    /// somebody is at the log, nothing happens, and it has to be called again.
    pub(crate) fn leave_directory(&self, reason: &str) {
        match &*self.condition() {
            Condition::Offline {
                remedy: Remedy::Restart,
                ..
            }
            | Condition::Closed(_) => return,
            Condition::Online(_) | Condition::Latched { .. } | Condition::Offline { .. } => {}
        }
        let error = PartitionError::Offline {
            reason: format!("its data directory failed: {reason}").into(),
        };
        // One that was closed or deleted meanwhile stays so.
        let Some((mut writer, log)) = self.writer.leave(error.clone()) else {
            return;
        };
        self.condition.store(Arc::new(Condition::Offline {
            error: error.clone(),
            remedy: Remedy::Restart,
        }));
        let released = writer.acks.take_all();
        drop(writer);
        drop(log);
        released.fail(&error);
        self.watchers.wake();
    }

    fn close_for_all(&self, writer: &mut Writer, error: PartitionError) -> Leaving {
        self.condition.store(Arc::new(Condition::Closed(error.clone())));
        let released = writer.acks.take_all();
        Leaving {
            released,
            error,
            watchers: Arc::clone(&self.watchers),
        }
    }

    /// Ends the partition for everybody because of a mistake of ours: nobody knows what its log has become.
    pub(super) fn set_aside(&self, reason: &str) {
        tracing::error!(partition = %self.name(), "{reason}");
        let error = PartitionError::Offline {
            reason: reason.into(),
        };
        let mut writer = self.writer.set_aside(error.clone());
        let leaving = self.close_for_all(&mut writer, error);
        drop(writer);
        leaving.fail();
    }

    pub(super) fn begin_flush(&self) -> Option<FlushTask> {
        let mut writer = self.writer.lock();
        let task = writer.log().ok()?.begin_flush()?;
        writer.begin_use();
        writer.unflushed_since = None;
        Some(task)
    }

    pub(super) fn finish_flush(&self, result: Result<FlushDone, FsError>) {
        let mut writer = self.writer.lock();
        let finished = writer.log().ok().map(|log| {
            let outcome = log.finish_flush(result);
            let seals = log.take_seal_tasks();
            outcome.map(|_| (seals, log.flushed()))
        });
        let follow_up = match finished {
            Some(Ok((seals, flushed))) => FollowUp {
                durable: writer.acks.take_durable(flushed),
                is_visible: true,
                prepare: writer.want_preparation(),
                seals,
                generation: writer.generation(),
                ..FollowUp::default()
            },
            Some(Err(_)) => self.note_latch(&mut writer),
            // It was set aside meanwhile, or left with its directory.
            None => FollowUp::default(),
        };
        self.writer.end_use(&mut writer);
        drop(writer);
        self.follow_up(follow_up);
    }
}

impl FlushTarget for Partition {
    fn turn(&self) -> &FlushTurn {
        &self.turn
    }

    fn flush(&self) {
        if let Some(task) = self.begin_flush() {
            let metrics = &self.context.metrics;
            let began = Instant::now();
            let result = task.run();
            metrics.syncs.record(began.elapsed());
            if result.is_err() {
                metrics.failed_syncs.add(1);
            }
            self.finish_flush(result);
        }
    }

    fn abandon(&self) {
        self.set_aside("a flush panicked; restart the broker to recover the log from what is on the disk");
    }
}
