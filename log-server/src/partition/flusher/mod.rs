//! The threads that bring dirty logs to the disk, and those that tidy up behind them.
//!
//! A fixed number of operating-system threads takes dirty partitions from one queue. A partition stands in it at
//! most once and is synced by one thread at a time ([`FlushTurn`]), so that requests that arrive during a sync share
//! the next one (group commit) and a busy partition goes to the back, behind its neighbours. Chores (zero-filling ahead,
//! storing indexes of rolled segments) have a thread of their own: they may take as long as they
//! like, no acknowledgement waits behind them.
//!
//! Where a connection is alone with its partition, its own thread syncs ([`FlushQueue::sync_here`]): nobody has to be woken, for
//! the sync or for the answer. Where several produce, that would tear their group apart: the first would sync for itself
//! alone, where a flusher that has yet to wake up finds the others' records too (64 connections, 1 KiB each: a fifth less). So a
//! partition that was found busy a moment ago is left to the flushers.
//!
//! The wait is a condition variable. Waking a thread costs some 10 to 50 µs, which is noise beside a sync (80 µs and
//! more), and under load nobody sleeps: a thread that finishes finds the next partition in the queue. Spinning would
//! win those microseconds on an idle machine and steal them from the request threads on a busy one.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::partition::writer::off_runtime;

/// How many requests may sync on their own threads at a time. More would get no more out of a disk than the flushers do,
/// and each holds a thread of the runtime's up.
const SYNCS_HERE_MAX: usize = 2;

/// How many times in a row a partition must be found idle before it counts as somebody's alone.
const LONE_TURNS: u8 = 16;

/// What the flusher needs of a partition.
pub(crate) trait FlushTarget: Send + Sync + 'static {
    /// Its place in the queue.
    fn turn(&self) -> &FlushTurn;

    /// Syncs what was appended before the call and answers those who waited for it.
    fn flush(&self);

    /// A bug of ours ended [`Self::flush`] half-way: nothing may be acknowledged any more.
    fn abandon(&self);
}

/// Work behind the acknowledgements, done once and without any lock held.
pub(crate) type Chore = Box<dyn FnOnce() + Send>;

/// When a chore comes to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// Before all that wait in turn, behind what came as such before: sealing a segment is a few small files and their syncs, and until
    /// the oldest is sealed, nothing behind its beginning counts as on the disk for a recovery.
    Soon,
    /// Behind all of that: zero-filling, of which there may be gigabytes. Whoever appends meanwhile takes space without it.
    InTurn,
}

/// Where a partition stands between its appends and the flusher.
///
/// | state | an append makes it | the flusher makes it |
/// |---|---|---|
/// | idle | queued, and puts it in the queue | |
/// | queued | queued | running |
/// | running | running again | idle |
/// | running again | running again | queued, and puts it in the queue |
///
/// A request that syncs itself takes the place of the flusher, from idle to running at once.
#[derive(Debug, Default)]
pub(crate) struct FlushTurn {
    state: AtomicU8,
    /// How many times it has still to be found idle.
    crowd: AtomicU8,
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const RUNNING_AGAIN: u8 = 3;

impl FlushTurn {
    /// Says that there is something to sync; true when the caller has to put the partition into the queue.
    fn mark(&self) -> bool {
        let before = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
                IDLE => Some(QUEUED),
                RUNNING => Some(RUNNING_AGAIN),
                // A store all the same, so that the flusher's next step comes after our append.
                same => Some(same),
            });
        let was_idle = before == Ok(IDLE);
        if !was_idle {
            self.crowd.store(LONE_TURNS, Ordering::Relaxed);
        }
        was_idle
    }

    fn begin(&self) {
        let before = self.state.swap(RUNNING, Ordering::AcqRel);
        assert_eq!(before, QUEUED, "a partition is synced by one thread at a time");
    }

    /// For one who is not in the queue: true when nobody else is at it, nor was lately.
    fn begin_if_lone(&self) -> bool {
        // Whoever asks at the same time makes the count wrong by one, and then finds it busy.
        let crowd = self.crowd.load(Ordering::Relaxed);
        if 0 < crowd {
            self.crowd.store(crowd - 1, Ordering::Relaxed);
            return false;
        }
        self.state
            .compare_exchange(IDLE, RUNNING, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// True when the partition goes to the back of the queue.
    fn finish(&self) -> bool {
        let before = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
                RUNNING => Some(IDLE),
                RUNNING_AGAIN => Some(QUEUED),
                _ => None,
            });
        before.expect("a sync that ends has begun") == RUNNING_AGAIN
    }
}

#[derive(Debug)]
struct Jobs<J> {
    /// Taken first, in the order of their arrival.
    soon: VecDeque<J>,
    in_turn: VecDeque<J>,
    is_stopping: bool,
}

impl<J> Jobs<J> {
    fn next(&mut self) -> Option<J> {
        self.soon.pop_front().or_else(|| self.in_turn.pop_front())
    }

    fn count(&self) -> usize {
        self.soon.len() + self.in_turn.len()
    }
}

/// Jobs for a set of threads that end when the queue is empty and no more shall come.
#[derive(Debug)]
struct JobQueue<J> {
    jobs: Mutex<Jobs<J>>,
    arrival: Condvar,
}

impl<J> JobQueue<J> {
    fn new() -> Self {
        Self {
            jobs: Mutex::new(Jobs {
                soon: VecDeque::new(),
                in_turn: VecDeque::new(),
                is_stopping: false,
            }),
            arrival: Condvar::new(),
        }
    }

    fn push(&self, job: J) {
        self.jobs.lock().in_turn.push_back(job);
        self.arrival.notify_one();
    }

    fn push_soon(&self, job: J) {
        self.jobs.lock().soon.push_back(job);
        self.arrival.notify_one();
    }

    /// The next job; `None` when the queue was stopped and is empty.
    fn take(&self) -> Option<J> {
        let mut jobs = self.jobs.lock();
        loop {
            if let Some(job) = jobs.next() {
                return Some(job);
            }
            if jobs.is_stopping {
                return None;
            }
            self.arrival.wait(&mut jobs);
        }
    }

    #[cfg(test)]
    fn try_take(&self) -> Option<J> {
        self.jobs.lock().next()
    }

    fn stop(&self) {
        self.jobs.lock().is_stopping = true;
        self.arrival.notify_all();
    }

    /// The same, and what waits is left undone.
    fn drop_all(&self) {
        let dropped = {
            let mut jobs = self.jobs.lock();
            jobs.is_stopping = true;
            (std::mem::take(&mut jobs.soon), std::mem::take(&mut jobs.in_turn))
        };
        self.arrival.notify_all();
        // Not under the lock: it may be the last that holds on to a log.
        drop(dropped);
    }
}

struct Queues<T> {
    dirty: JobQueue<Arc<T>>,
    chores: JobQueue<Chore>,
    /// Requests that sync on their own threads at present, and how many may.
    syncs_here: AtomicUsize,
    syncs_here_max: usize,
    #[cfg(test)]
    arrivals: tokio::sync::Notify,
}

impl<T> Queues<T> {
    fn new(syncs_here_max: usize) -> Self {
        Self {
            dirty: JobQueue::new(),
            chores: JobQueue::new(),
            syncs_here: AtomicUsize::new(0),
            syncs_here_max,
            #[cfg(test)]
            arrivals: tokio::sync::Notify::new(),
        }
    }
}

impl<T: FlushTarget> Queues<T> {
    fn sync_until_stopped(&self) {
        while let Some(target) = self.dirty.take() {
            self.sync(target);
        }
    }

    fn sync(&self, target: Arc<T>) {
        target.turn().begin();
        self.run(target);
    }

    /// For whoever has begun the partition's turn.
    fn run(&self, target: Arc<T>) {
        if catch_unwind(AssertUnwindSafe(|| target.flush())).is_err() {
            target.abandon();
        }
        if target.turn().finish() {
            self.dirty.push(target);
            #[cfg(test)]
            self.arrivals.notify_one();
        }
    }

    fn tidy_until_stopped(&self) {
        while let Some(chore) = self.chores.take() {
            if catch_unwind(AssertUnwindSafe(chore)).is_err() {
                tracing::error!(
                    "a chore behind the flusher panicked; the log it belongs to goes on without it"
                );
            }
        }
    }
}

/// A handle to the queues: what a partition holds.
pub(crate) struct FlushQueue<T> {
    queues: Arc<Queues<T>>,
}

impl<T: FlushTarget> FlushQueue<T> {
    /// Says that the partition has something to sync.
    pub(crate) fn mark_dirty(&self, target: &Arc<T>) {
        if target.turn().mark() {
            self.queues.dirty.push(Arc::clone(target));
            #[cfg(test)]
            self.queues.arrivals.notify_one();
        }
    }

    /// The same for a connection that has nothing else to do than wait for it: if it is alone with the partition, that is synced
    /// before this returns, on this thread.
    pub(crate) fn sync_here(&self, target: &Arc<T>) {
        let others = self.queues.syncs_here.fetch_add(1, Ordering::Relaxed);
        if others < self.queues.syncs_here_max && target.turn().begin_if_lone() {
            off_runtime(|| self.queues.run(Arc::clone(target)));
        } else {
            self.mark_dirty(target);
        }
        self.queues.syncs_here.fetch_sub(1, Ordering::Relaxed);
    }

    /// Hands over work that nobody waits for.
    pub(crate) fn hand_over(&self, chore: Chore, haste: Haste) {
        match haste {
            Haste::Soon => self.queues.chores.push_soon(chore),
            Haste::InTurn => self.queues.chores.push(chore),
        }
        #[cfg(test)]
        self.queues.arrivals.notify_one();
    }
}

#[cfg(test)]
impl<T: FlushTarget> FlushQueue<T> {
    /// A queue that nobody serves but [`Self::run_pending`]: for tests that decide when something is synced.
    pub(crate) fn without_threads() -> Self {
        Self {
            queues: Arc::new(Queues::new(0)),
        }
    }

    /// Returns when something was put into a queue since the last return.
    pub(crate) async fn arrival(&self) {
        self.queues.arrivals.notified().await;
    }

    /// Does on this thread what stands in the queues, and what that brings.
    pub(crate) fn run_pending(&self) {
        loop {
            let (dirty, chore) = (self.queues.dirty.try_take(), self.queues.chores.try_take());
            if dirty.is_none() && chore.is_none() {
                return;
            }
            if let Some(target) = dirty {
                self.queues.sync(target);
            }
            if let Some(chore) = chore {
                chore();
            }
        }
    }
}

impl<T> Clone for FlushQueue<T> {
    fn clone(&self) -> Self {
        Self {
            queues: Arc::clone(&self.queues),
        }
    }
}

impl<T> fmt::Debug for FlushQueue<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FlushQueue")
            .field("dirty", &self.queues.dirty.jobs.lock().count())
            .field("chores", &self.queues.chores.jobs.lock().count())
            .finish()
    }
}

/// The threads behind the queues. Dropping it leaves them running; [`Flusher::stop`] ends them.
#[derive(Debug)]
pub(crate) struct Flusher<T> {
    queue: FlushQueue<T>,
    flushers: Vec<JoinHandle<()>>,
    tidiers: Vec<JoinHandle<()>>,
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a flusher thread panicked");
        }
    }
}

impl<T: FlushTarget> Flusher<T> {
    /// Starts `thread_count` threads that sync, and one for chores.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(crate) fn start(thread_count: usize) -> io::Result<Self> {
        let queues = Arc::new(Queues::new(SYNCS_HERE_MAX));
        let mut flusher = Self {
            queue: FlushQueue {
                queues: Arc::clone(&queues),
            },
            flushers: Vec::new(),
            tidiers: Vec::new(),
        };
        for index in 0..thread_count.max(1) {
            let queues = Arc::clone(&queues);
            let thread = std::thread::Builder::new().name(format!("flusher-{index}"));
            flusher
                .flushers
                .push(thread.spawn(move || queues.sync_until_stopped())?);
        }
        let thread = std::thread::Builder::new().name("flusher-chores".to_owned());
        flusher
            .tidiers
            .push(thread.spawn(move || queues.tidy_until_stopped())?);
        Ok(flusher)
    }

    /// What partitions put themselves into.
    pub(crate) fn queue(&self) -> FlushQueue<T> {
        self.queue.clone()
    }

    /// Syncs what stands in the queue, finishes the chore under way, ends the threads. Blocks.
    ///
    /// Chores that wait are left undone: space that nobody will fill, and what closing the logs sees to. After a load on a thousand
    /// partitions they would take longer than a stop may.
    pub(crate) fn stop(self) {
        let Queues { dirty, chores, .. } = self.queue.queues.as_ref();
        dirty.stop();
        join(self.flushers);
        // Not before: the last syncs hand chores over.
        chores.drop_all();
        join(self.tidiers);
    }
}

#[cfg(test)]
mod tests;
