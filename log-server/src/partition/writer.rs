//! The writing half of a partition: the log and the answers that wait for it, behind one lock.
//!
//! Who holds the lock may change the log; the answers are taken out under it and sent after it. A task that the log
//! handed out (a flush, a sealing) runs without the lock and is finished under it; meanwhile it counts as a *use* of
//! the log. A log can be *taken*, to be reopened, closed or deleted: that waits for its uses to end, and until a
//! log is put back, `absence` says what a writer is told.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use log_core::log::{Log, PrepareTask};
use log_core::model::TimestampMs;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::partition::ack_queue::AckQueue;
use crate::partition::error::PartitionError;

/// Where the log is.
#[derive(Debug)]
enum Place {
    /// Here, to be used.
    Here(Box<Log>),
    /// Taken out by somebody who puts it back, or another one.
    Lent,
    /// It could not be opened; it may come yet.
    Missing,
    /// Taken out for good.
    Gone,
    /// A panic left it in a state that nobody foresaw: never used again, and not dropped, which would use it.
    Broken(#[expect(dead_code, reason = "held, not used")] Box<Log>),
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Writer {
    place: Place,
    /// What a writer is told while there is no log.
    absence: PartitionError,
    /// Which log it is, counted: a task of a log that was taken out must not be run on its successor.
    generation: u64,
    /// Tasks of the log that run without the lock.
    use_count: usize,
    /// Answers that wait for the disk.
    pub(crate) acks: AckQueue,
    /// Whether a zero-filling runs or waits for its thread: one at a time is enough.
    pub(crate) is_preparing: bool,
    /// When the oldest record came that no flush has begun with, of a log whose flushing is relaxed.
    pub(crate) unflushed_since: Option<TimestampMs>,
    /// Whether the last append found no space: said once in the log, and once when it is over.
    pub(crate) is_out_of_space: bool,
}

impl Writer {
    /// The log, or what is to be said in its absence.
    pub(crate) fn log(&mut self) -> Result<&mut Log, PartitionError> {
        match &mut self.place {
            Place::Here(log) => Ok(log),
            _ => Err(self.absence.clone()),
        }
    }

    /// Which log this is. See [`WriterCell::begin_use`].
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Counts one more task that runs without the lock.
    pub(crate) fn begin_use(&mut self) {
        assert!(
            matches!(self.place, Place::Here(_)),
            "only a log that is here can be used"
        );
        self.use_count += 1;
    }

    /// The zero-filling that the log wants, unless one is on its way.
    pub(crate) fn want_preparation(&mut self) -> Option<PrepareTask> {
        if self.is_preparing {
            return None;
        }
        let task = self.log().ok()?.wants_preparation();
        self.is_preparing = task.is_some();
        task
    }

    /// Takes the log from here, and says where it went.
    fn take_from(&mut self, next: Place) -> Option<Box<Log>> {
        match std::mem::replace(&mut self.place, next) {
            Place::Here(log) => Some(log),
            _ => None,
        }
    }
}

/// The lock around a [`Writer`], and what is needed to wait for it politely.
#[derive(Debug)]
pub(crate) struct WriterCell {
    writer: Mutex<Writer>,
    /// Signalled when the last use has ended.
    unused: Condvar,
    /// How many hold the lock, or wait for it, in order to do something that takes milliseconds. While it is not
    /// zero, a runtime's thread must not wait for the lock without handing its other tasks on.
    slow_count: AtomicUsize,
}

impl WriterCell {
    /// A writer with its log, or without one and what is said instead.
    pub(crate) fn new(log: Result<Log, PartitionError>) -> Self {
        let (place, absence) = match log {
            Ok(log) => (Place::Here(Box::new(log)), PartitionError::ShuttingDown),
            Err(absence) => (Place::Missing, absence),
        };
        Self {
            writer: Mutex::new(Writer {
                place,
                absence,
                generation: 0,
                use_count: 0,
                acks: AckQueue::default(),
                is_preparing: false,
                unflushed_since: None,
                is_out_of_space: false,
            }),
            unused: Condvar::new(),
            slow_count: AtomicUsize::new(0),
        }
    }

    /// For work of microseconds.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock()
    }

    /// The same for one who comes again, and must not hang with somebody who waits for a disk.
    pub(crate) fn lock_if_soon(&self) -> Option<MutexGuard<'_, Writer>> {
        const SOON: Duration = Duration::from_millis(10);
        self.writer.try_lock_for(SOON)
    }

    /// For work that takes milliseconds or waits for the disk, on a thread that may wait.
    pub(crate) fn lock_slow(&self) -> SlowGuard<'_> {
        // Counted before the lock is asked for, so that a runtime's thread that comes later knows.
        let count = SlowCount::new(&self.slow_count);
        SlowGuard {
            writer: self.writer.lock(),
            _count: count,
        }
    }

    /// Does quick work under the lock, from a runtime's thread. `is_slow` looks first: if the work would take long after
    /// all, or somebody else is at slow work, the runtime's other tasks are handed on before.
    pub(crate) fn with_runtime<R>(
        &self,
        is_slow: impl FnOnce(&mut Writer) -> bool,
        work: impl FnOnce(&mut Writer) -> R,
    ) -> R {
        let free = match self.slow_count.load(Ordering::Relaxed) {
            0 => Some(self.writer.lock()),
            _ => self.writer.try_lock(),
        };
        if let Some(mut writer) = free
            && !is_slow(&mut writer)
        {
            return work(&mut writer);
        }
        off_runtime(|| work(&mut self.lock_slow()))
    }

    /// Takes the log out as soon as nobody uses it, to be [put back](Self::put_back). `absence` is what writers are told
    /// until then. `None` when there is no log.
    pub(crate) fn lend(&self, absence: PartitionError) -> Option<Box<Log>> {
        let mut guard = self.lock_unused();
        if !matches!(guard.place, Place::Here(_)) {
            return None;
        }
        guard.absence = absence;
        guard.take_from(Place::Lent)
    }

    /// Reserves the place of a log that is missing, to be filled with [`Self::put_back`]; false when it is not missing.
    pub(crate) fn reserve(&self) -> bool {
        let mut guard = self.lock_unused();
        let is_missing = matches!(guard.place, Place::Missing);
        if is_missing {
            guard.place = Place::Lent;
        }
        is_missing
    }

    /// Takes the log out for good, as soon as nobody uses it and it is not lent.
    pub(crate) fn retire(&self, absence: PartitionError) -> (SlowGuard<'_>, Option<Box<Log>>) {
        let mut guard = self.lock_unused();
        guard.absence = absence;
        let log = match guard.place {
            Place::Broken(_) => None,
            _ => guard.take_from(Place::Gone),
        };
        (guard, log)
    }

    /// Takes the log out for good without waiting for anybody: on a disk that failed, a use of it may hang. What the uses bring then
    /// finds no log. `None` where somebody is at it, or it was taken out before.
    pub(crate) fn leave(
        &self,
        absence: PartitionError,
    ) -> Option<(MutexGuard<'_, Writer>, Option<Box<Log>>)> {
        let mut writer = self.writer.try_lock()?;
        if matches!(writer.place, Place::Lent | Place::Gone | Place::Broken(_)) {
            return None;
        }
        writer.absence = absence;
        // Tasks that wait for their thread must not start any more.
        writer.generation += 1;
        // Nor must whoever ends the partition later wait for those that hang.
        writer.use_count = 0;
        self.unused.notify_all();
        let log = writer.take_from(Place::Gone);
        Some((writer, log))
    }

    fn lock_unused(&self) -> SlowGuard<'_> {
        let mut guard = self.lock_slow();
        // Tasks that wait for their thread must not start any more.
        guard.generation += 1;
        while 0 < guard.use_count || matches!(guard.place, Place::Lent) {
            self.unused.wait(&mut guard.writer);
        }
        guard
    }

    /// Puts a lent log back, or the one that takes its place, or nothing where it is still missing.
    pub(crate) fn put_back(&self, log: Option<Box<Log>>) -> SlowGuard<'_> {
        let mut guard = self.lock_slow();
        assert!(matches!(guard.place, Place::Lent), "only a lent log is put back");
        guard.place = log.map_or(Place::Missing, Place::Here);
        guard.is_preparing = false;
        guard.unflushed_since = None;
        self.unused.notify_all();
        guard
    }

    /// Starts a task that a log of this generation handed out; false when that log is gone and the task with it.
    pub(crate) fn begin_use(&self, generation: u64) -> bool {
        let mut writer = self.writer.lock();
        let is_there = writer.generation == generation && matches!(writer.place, Place::Here(_));
        if is_there {
            writer.begin_use();
        }
        is_there
    }

    /// Sets a log aside that must not be used again. Whoever waits for its uses to end waits no longer.
    pub(crate) fn set_aside(&self, absence: PartitionError) -> MutexGuard<'_, Writer> {
        let mut writer = self.writer.lock();
        writer.place = match writer.take_from(Place::Gone) {
            Some(log) => Place::Broken(log),
            None => Place::Gone,
        };
        writer.absence = absence;
        writer.generation += 1;
        writer.use_count = 0;
        self.unused.notify_all();
        writer
    }

    /// Ends a use, after what the task brought was told to the log.
    pub(crate) fn end_use(&self, writer: &mut Writer) {
        // Zero already when the log was set aside meanwhile.
        writer.use_count = writer.use_count.saturating_sub(1);
        if writer.use_count == 0 {
            self.unused.notify_all();
        }
    }
}

/// Counts one who is slow, for as long as it lives.
#[derive(Debug)]
struct SlowCount<'a>(&'a AtomicUsize);

impl<'a> SlowCount<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for SlowCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The lock, held by somebody who may take long.
#[derive(Debug)]
pub(crate) struct SlowGuard<'a> {
    writer: MutexGuard<'a, Writer>,
    _count: SlowCount<'a>,
}

impl Deref for SlowGuard<'_> {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl DerefMut for SlowGuard<'_> {
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

/// Does work that may wait for the disk: where a runtime's thread would be held up, its other tasks move to another one.
pub(crate) fn off_runtime<R>(work: impl FnOnce() -> R) -> R {
    let on_runtime =
        Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if on_runtime {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}
