//! Bringing appended records to the disk: begin under the writer's lock, run without it, finish under it.
//!
//! The target is taken when the flush begins, so nothing that was appended later is ever promised by it.
//! A roll leaves the old segment in the list of what must be synced until a flush has done so, and a new
//! segment's name is made durable together with the first records in it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fs::{FileSystem, FsError};
use crate::log::error::LogError;
use crate::log::failed_sync;
use crate::log::log::Log;
use crate::log::offsets::{LogOffsets, Place};
use crate::model::Offset;
use crate::segment::file_name::{FileKind, segment_file};
use crate::segment::segment::{OpenSegment, Segment};
use crate::segment::space::Preparer;

/// The system is asked to write out relaxed logs in stretches of this size: large enough for a disk to do in one go, small
/// enough that its queue stays short.
const WRITE_OUT_STEP: u64 = 4 << 20;

/// What has not reached the disk yet.
#[derive(Debug)]
pub(crate) struct FlushState {
    /// Everything below is on the disk.
    flushed: Place,
    /// Segments with unsynced bytes, by base offset, with the handles that wrote them.
    dirty: Vec<(Offset, Arc<OpenSegment>)>,
    /// Whether a new segment's name is not durable yet.
    directory_dirty: bool,
    /// Whether a flush is between begin and finish.
    running: bool,
    /// Rolled segments that are not completed on the disk.
    unsealed: Vec<Unsealed>,
    /// Records appended since the last flush began.
    records_unflushed: i64,
    /// Up to where the system was asked to write out what nobody waits for: a segment and a position in it.
    written_out: (Offset, u64),
}

impl FlushState {
    /// Everything up to `flushed` is on the disk.
    pub(crate) fn new(flushed: Place) -> Self {
        Self {
            flushed,
            dirty: Vec::new(),
            directory_dirty: false,
            running: false,
            unsealed: Vec::new(),
            records_unflushed: 0,
            written_out: (flushed.segment, flushed.position),
        }
    }

    /// The next flush brings the names of files to the disk, whatever else it does.
    pub(crate) fn distrust_names(&mut self) {
        self.directory_dirty = true;
    }

    pub(crate) fn flushed(&self) -> Place {
        self.flushed
    }

    pub(crate) fn note_write(&mut self, segment: Offset, open: Arc<OpenSegment>, records: i64) {
        self.records_unflushed = self.records_unflushed.saturating_add(records);
        if !self
            .dirty
            .iter()
            .any(|(base, handle)| *base == segment && Arc::ptr_eq(handle, &open))
        {
            self.dirty.push((segment, open));
        }
    }

    pub(crate) fn note_roll(&mut self, rolled: Arc<Segment>, snapshot: Vec<u8>) {
        self.directory_dirty = true;
        self.unsealed.push(Unsealed {
            segment: rolled,
            snapshot: snapshot.into(),
            is_handed_out: false,
        });
    }

    /// The oldest segment that is rolled but not completed on disk.
    pub(crate) fn oldest_unsealed(&self) -> Option<Offset> {
        self.unsealed.iter().map(|one| one.segment.base_offset()).min()
    }

    /// The rolled segments below `end` that are not completed. Their indexes of aborted transactions are to be stored before a
    /// snapshot of the producers at `end` is: what lies before that is not replayed any more.
    pub(crate) fn unsealed_below(&self, end: Offset) -> Vec<Arc<Segment>> {
        let segments = self.unsealed.iter().map(|one| &one.segment);
        segments
            .filter(|segment| segment.base_offset() < end)
            .cloned()
            .collect()
    }

    /// Tasks that were handed out and never came back are to be done again. For one who knows that none of them
    /// runs any more.
    pub(crate) fn recall_seal_tasks(&mut self) {
        for one in &mut self.unsealed {
            one.is_handed_out = false;
        }
    }
}

/// A rolled segment whose indexes are not stored yet.
#[derive(Debug)]
struct Unsealed {
    segment: Arc<Segment>,
    /// The producers' state at its end.
    snapshot: Arc<[u8]>,
    /// Whether somebody has the task to complete it.
    is_handed_out: bool,
}

/// A flush that has begun. [`FlushTask::run`] blocks and needs no lock.
#[derive(Debug)]
#[must_use = "a flush that has begun must be run and finished"]
pub struct FlushTask {
    target: Place,
    handles: Vec<Arc<OpenSegment>>,
    file_system: Arc<dyn FileSystem>,
    directory: Arc<Path>,
    /// Whether names have to be synced too.
    is_directory_dirty: bool,
    /// Everything below was on the disk when it began.
    flushed: Offset,
}

/// A flush that reached the disk.
#[derive(Debug)]
#[must_use = "only finishing a flush lets anybody see what it brought to the disk"]
pub struct FlushDone {
    target: Place,
}

impl FlushTask {
    /// Syncs the data, older segments first, then the names. A failure is marked in the log's directory, if the disk
    /// still takes that.
    ///
    /// # Errors
    /// The first failure; it must be given to [`Log::finish_flush`] all the same.
    pub fn run(self) -> Result<FlushDone, FsError> {
        let synced = self.sync();
        if synced.is_err() {
            // The first failure is the one to tell.
            failed_sync::mark(self.file_system.as_ref(), &self.directory, self.flushed).ok();
        }
        synced.map(|()| FlushDone { target: self.target })
    }

    fn sync(&self) -> Result<(), FsError> {
        for open in &self.handles {
            open.sync()?;
        }
        if self.is_directory_dirty {
            self.file_system.sync_directory(&self.directory)?;
        }
        Ok(())
    }
}

/// Completing a rolled segment: its indexes and the producers' state at its end are stored, its tail is cut.
#[derive(Debug)]
#[must_use = "until it has run, a recovery must scan the segment again"]
pub struct SealTask {
    segment: Arc<Segment>,
    /// Itself and those before it that still wait for theirs.
    unsealed: Vec<Arc<Segment>>,
    snapshot: Arc<[u8]>,
    storing: Arc<Mutex<()>>,
}

impl SealTask {
    /// Blocks; needs no lock. Give the result to [`Log::finish_seal`].
    ///
    /// # Errors
    /// The file system's.
    pub fn run(&self) -> Result<(), FsError> {
        let _turn = self.storing.lock();
        // What lies before a snapshot is not replayed any more.
        for segment in &self.unsealed {
            segment.store_aborted()?;
        }
        let settings = self.segment.settings();
        let path = segment_file(
            &settings.directory,
            self.segment.next_offset(),
            FileKind::ProducerSnapshot,
        );
        settings.file_system.replace(&path, &self.snapshot)?;
        self.segment.complete()
    }
}

/// Zero-filling ahead of the writer.
#[derive(Debug)]
pub struct PrepareTask {
    segment: Arc<Segment>,
}

impl PrepareTask {
    /// Blocks; needs no lock. How soon it is needed again decides how much is filled next time.
    ///
    /// # Errors
    /// The file system's; the writer will meet it itself if it persists.
    pub fn run(&self, preparer: Preparer) -> Result<(), FsError> {
        self.segment.prepare_space(preparer)
    }
}

/// Asking the system to write out what was appended, before it has so much that it stalls everybody.
#[derive(Debug)]
pub struct WriteOutTask {
    segment: Arc<Segment>,
    range: Range<u64>,
}

impl WriteOutTask {
    /// The bytes of the segment's file.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// May block while the disk is busy; needs no lock. Promises nothing.
    ///
    /// # Errors
    /// The file system's; the next flush will meet it.
    pub fn run(&self) -> Result<(), FsError> {
        self.segment.start_writeback(self.range())
    }
}

impl Log {
    /// Begins to flush everything appended so far; `None` when nothing is unflushed, a flush is running, or
    /// the log is latched.
    pub fn begin_flush(&mut self) -> Option<FlushTask> {
        let target = self.shared.positions().log_end();
        let nothing = target.offset <= self.flush.flushed.offset && !self.flush.directory_dirty;
        if self.latch.is_some() || self.flush.running || nothing {
            return None;
        }
        self.flush.running = true;
        self.flush.records_unflushed = 0;
        let is_directory_dirty = std::mem::take(&mut self.flush.directory_dirty);
        let handles = std::mem::take(&mut self.flush.dirty)
            .into_iter()
            .map(|(_, open)| open)
            .collect();
        Some(FlushTask {
            target,
            handles,
            file_system: Arc::clone(&self.context.file_system),
            directory: Arc::clone(&self.directory),
            is_directory_dirty,
            flushed: self.flush.flushed.offset,
        })
    }

    /// Ends a flush: the high watermark rises to its target, or the log is latched.
    ///
    /// # Errors
    /// `Latched` when the flush failed; nothing behind the last good flush may ever be acknowledged.
    ///
    /// # Panics
    /// When no flush is running.
    pub fn finish_flush(&mut self, result: Result<FlushDone, FsError>) -> Result<LogOffsets, LogError> {
        assert!(self.flush.running, "finish a flush that did not begin");
        self.flush.running = false;
        match result {
            Ok(done) => {
                self.flush.flushed = done.target;
                if self.latch.is_none() {
                    self.expose(done.target);
                }
                Ok(self.offsets())
            }
            Err(error) => Err(self.latch("flush", &error).into()),
        }
    }

    /// Flushes on this thread. Blocks.
    ///
    /// # Errors
    /// As [`Self::finish_flush`].
    pub fn flush(&mut self) -> Result<LogOffsets, LogError> {
        self.check_latch()?;
        match self.begin_flush() {
            Some(task) => {
                let result = task.run();
                self.finish_flush(result)
            }
            None => Ok(self.offsets()),
        }
    }

    /// Everything below is on the disk.
    #[must_use]
    pub fn flushed(&self) -> Offset {
        self.flush.flushed.offset
    }

    /// How many records were appended since the last flush began; `flush.messages` is counted by it.
    #[must_use]
    pub fn records_unflushed(&self) -> i64 {
        self.flush.records_unflushed
    }

    /// From where a recovery after a crash has to look: everything before is on the disk, complete with the
    /// indexes of its segments.
    #[must_use]
    pub fn recovery_point(&self) -> Offset {
        let flushed = self.flush.flushed.offset;
        self.flush
            .oldest_unsealed()
            .map_or(flushed, |unsealed| unsealed.min(flushed))
    }

    /// The work that rolls have left: run each task without the lock and give its result to [`Self::finish_seal`].
    pub fn take_seal_tasks(&mut self) -> Vec<SealTask> {
        let flushed = self.flush.flushed.offset;
        let unsealed = self.flush.unsealed_below(flushed);
        let ready = self
            .flush
            .unsealed
            .iter_mut()
            .filter(|one| !one.is_handed_out && one.segment.next_offset() <= flushed);
        ready
            .map(|one| {
                one.is_handed_out = true;
                SealTask {
                    segment: Arc::clone(&one.segment),
                    unsealed: unsealed.clone(),
                    snapshot: Arc::clone(&one.snapshot),
                    storing: Arc::clone(&self.storing),
                }
            })
            .collect()
    }

    /// Notes how sealing went; a failed one comes back with the next [`Self::take_seal_tasks`].
    pub fn finish_seal(&mut self, task: &SealTask, result: &Result<(), FsError>) {
        let is_it = |one: &Unsealed| Arc::ptr_eq(&one.segment, &task.segment);
        if result.is_ok() {
            self.flush.unsealed.retain(|one| !is_it(one));
        } else if let Some(one) = self.flush.unsealed.iter_mut().find(|one| is_it(one)) {
            one.is_handed_out = false;
        }
    }

    /// Completes every rolled segment on this thread. Blocks.
    ///
    /// # Errors
    /// The first failure; the rest waits for the next time.
    pub fn seal_all(&mut self) -> Result<(), FsError> {
        let mut outcome = Ok(());
        for task in self.take_seal_tasks() {
            let result = task.run();
            self.finish_seal(&task, &result);
            outcome = outcome.and(result);
        }
        outcome
    }

    /// Whether a rolled segment waits for a flush, and can be completed after it.
    #[must_use]
    pub fn has_rolled(&self) -> bool {
        self.flush.unsealed.iter().any(|one| !one.is_handed_out)
    }

    /// What the system should begin to write out, where flushing is relaxed and nobody waits for it: each
    /// stretch once, as soon as it is complete. A flush writes out all of a rolled segment.
    pub fn wants_write_out(&mut self) -> Option<WriteOutTask> {
        if self.config.durable || self.latch.is_some() {
            return None;
        }
        let segments = self.shared.segments();
        let active = segments.active();
        let start = match self.flush.written_out {
            (segment, position) if segment == active.base_offset() => position,
            _ => 0,
        };
        let end = active.size() / WRITE_OUT_STEP * WRITE_OUT_STEP;
        if end <= start {
            return None;
        }
        self.flush.written_out = (active.base_offset(), end);
        Some(WriteOutTask {
            segment: Arc::clone(active),
            range: start..end,
        })
    }

    /// Work to do in the background before the writer needs it, if any.
    #[must_use]
    pub fn wants_preparation(&self) -> Option<PrepareTask> {
        let segments = self.shared.segments();
        let active = segments.active();
        let wanted = self.config.durable && self.latch.is_none() && active.is_short_of_space();
        wanted.then(|| PrepareTask {
            segment: Arc::clone(active),
        })
    }
}
