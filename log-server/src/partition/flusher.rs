//! The threads that bring dirty logs to the disk, and those that tidy up behind them.
//!
//! A fixed number of operating-system threads takes dirty partitions from one queue. A partition stands in it at
//! most once and is synced by one thread at a time ([`FlushTurn`]), so that requests that arrive during a sync share
//! the next one (group commit) and a busy partition goes to the back, behind its neighbours. Chores (zero-filling ahead,
//! storing indexes of rolled segments) have a thread of their own: they may take as long as they
//! like, no acknowledgement waits behind them.
//!
//! The wait is a condition variable. Waking a thread costs some 10 to 50 µs, which is noise beside a sync (80 µs and
//! more), and under load nobody sleeps: a thread that finishes finds the next partition in the queue. Spinning would
//! win those microseconds on an idle machine and steal them from the request threads on a busy one.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

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

/// Where a partition stands between its appends and the flusher.
///
/// | state | an append makes it | the flusher makes it |
/// |---|---|---|
/// | idle | queued, and puts it in the queue | |
/// | queued | queued | running |
/// | running | running again | idle |
/// | running again | running again | queued, and puts it in the queue |
#[derive(Debug, Default)]
pub(crate) struct FlushTurn {
    state: AtomicU8,
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
        before == Ok(IDLE)
    }

    fn begin(&self) {
        let before = self.state.swap(RUNNING, Ordering::AcqRel);
        assert_eq!(before, QUEUED, "a partition is synced by one thread at a time");
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
    waiting: VecDeque<J>,
    is_stopping: bool,
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
                waiting: VecDeque::new(),
                is_stopping: false,
            }),
            arrival: Condvar::new(),
        }
    }

    fn push(&self, job: J) {
        self.jobs.lock().waiting.push_back(job);
        self.arrival.notify_one();
    }

    /// The next job; `None` when the queue was stopped and is empty.
    fn take(&self) -> Option<J> {
        let mut jobs = self.jobs.lock();
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
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
        self.jobs.lock().waiting.pop_front()
    }

    fn stop(&self) {
        self.jobs.lock().is_stopping = true;
        self.arrival.notify_all();
    }
}

struct Queues<T> {
    dirty: JobQueue<Arc<T>>,
    chores: JobQueue<Chore>,
    #[cfg(test)]
    arrivals: tokio::sync::Notify,
}

impl<T: FlushTarget> Queues<T> {
    fn sync_until_stopped(&self) {
        while let Some(target) = self.dirty.take() {
            self.sync(target);
        }
    }

    fn sync(&self, target: Arc<T>) {
        target.turn().begin();
        if catch_unwind(AssertUnwindSafe(|| target.flush())).is_err() {
            target.abandon();
        }
        if target.turn().finish() {
            self.dirty.push(target);
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

    /// Hands over work that nobody waits for.
    pub(crate) fn hand_over(&self, chore: Chore) {
        self.queues.chores.push(chore);
        #[cfg(test)]
        self.queues.arrivals.notify_one();
    }
}

#[cfg(test)]
impl<T: FlushTarget> FlushQueue<T> {
    /// A queue that nobody serves but [`Self::run_pending`]: for tests that decide when something is synced.
    pub(crate) fn without_threads() -> Self {
        Self {
            queues: Arc::new(Queues {
                dirty: JobQueue::new(),
                chores: JobQueue::new(),
                arrivals: tokio::sync::Notify::new(),
            }),
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
            .field("dirty", &self.queues.dirty.jobs.lock().waiting.len())
            .field("chores", &self.queues.chores.jobs.lock().waiting.len())
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
        let queues = Arc::new(Queues {
            dirty: JobQueue::new(),
            chores: JobQueue::new(),
            #[cfg(test)]
            arrivals: tokio::sync::Notify::new(),
        });
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

    /// Syncs what stands in the queue, finishes the chores, ends the threads. Blocks.
    pub(crate) fn stop(self) {
        let Queues { dirty, chores, .. } = self.queue.queues.as_ref();
        dirty.stop();
        join(self.flushers);
        // Not before: the last syncs hand chores over.
        chores.stop();
        join(self.tidiers);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    use std::sync::mpsc;

    use super::*;

    /// A log that only counts: `appended` moves on, a sync takes what it saw at its beginning.
    #[derive(Default)]
    struct Counter {
        turn: FlushTurn,
        appended: AtomicU64,
        synced: AtomicU64,
        running: AtomicUsize,
        syncs: AtomicU64,
        was_abandoned: AtomicBool,
        panics: bool,
        gate: Option<Gate>,
    }

    /// Lets a test stand between the beginning and the end of a sync.
    struct Gate {
        begun: Mutex<mpsc::Sender<()>>,
        go_on: Mutex<mpsc::Receiver<()>>,
    }

    impl FlushTarget for Counter {
        fn turn(&self) -> &FlushTurn {
            &self.turn
        }

        fn flush(&self) {
            assert!(!self.panics, "on purpose");
            assert_eq!(
                self.running.fetch_add(1, Ordering::SeqCst),
                0,
                "two threads at once"
            );
            let target = self.appended.load(Ordering::SeqCst);
            if let Some(gate) = &self.gate {
                gate.begun.lock().send(()).unwrap();
                gate.go_on.lock().recv().unwrap();
            }
            std::thread::yield_now();
            self.synced.store(target, Ordering::SeqCst);
            self.syncs.fetch_add(1, Ordering::SeqCst);
            self.running.fetch_sub(1, Ordering::SeqCst);
        }

        fn abandon(&self) {
            self.was_abandoned.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_is_marked_is_synced_by_one_thread_at_a_time() {
        const APPENDS: u64 = 5_000;
        let flusher = Flusher::start(3).unwrap();
        let logs: Vec<Arc<Counter>> = (0..4).map(|_| Arc::default()).collect();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let queue = flusher.queue();
                let logs = &logs;
                scope.spawn(move || {
                    for _ in 0..APPENDS {
                        for log in logs {
                            log.appended.fetch_add(1, Ordering::SeqCst);
                            queue.mark_dirty(log);
                        }
                    }
                });
            }
        });
        flusher.stop();
        for log in &logs {
            assert_eq!(log.synced.load(Ordering::SeqCst), 2 * APPENDS);
            assert_eq!(log.turn.state.load(Ordering::SeqCst), IDLE);
            assert!(log.syncs.load(Ordering::SeqCst) <= 2 * APPENDS);
        }
    }

    #[test]
    fn appends_during_a_sync_share_the_next_one() {
        let (begun_in, begun) = mpsc::channel();
        let (go_on, go_on_out) = mpsc::channel();
        let log = Arc::new(Counter {
            gate: Some(Gate {
                begun: Mutex::new(begun_in),
                go_on: Mutex::new(go_on_out),
            }),
            ..Counter::default()
        });
        let flusher = Flusher::start(2).unwrap();
        let queue = flusher.queue();
        let append = || {
            log.appended.fetch_add(1, Ordering::SeqCst);
            queue.mark_dirty(&log);
        };
        append();
        begun.recv().unwrap();
        for _ in 0..10 {
            append();
        }
        assert_eq!(log.synced.load(Ordering::SeqCst), 0);
        go_on.send(()).unwrap();
        begun.recv().unwrap();
        assert_eq!(
            log.synced.load(Ordering::SeqCst),
            1,
            "only what was there when it began"
        );
        go_on.send(()).unwrap();
        flusher.stop();
        assert_eq!(log.synced.load(Ordering::SeqCst), 11);
        assert_eq!(log.syncs.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_panic_abandons_its_log_and_spares_the_others() {
        let flusher = Flusher::start(1).unwrap();
        let broken = Arc::new(Counter {
            panics: true,
            ..Counter::default()
        });
        let sound = Arc::new(Counter::default());
        sound.appended.store(1, Ordering::SeqCst);
        flusher.queue().mark_dirty(&broken);
        flusher.queue().mark_dirty(&sound);
        flusher.stop();
        assert!(broken.was_abandoned.load(Ordering::SeqCst));
        assert_eq!(sound.synced.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn chores_are_finished_before_the_end() {
        let flusher = Flusher::<Counter>::start(1).unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        flusher.queue().hand_over(Box::new(|| panic!("on purpose")));
        for _ in 0..100 {
            let done = Arc::clone(&done);
            flusher.queue().hand_over(Box::new(move || {
                done.fetch_add(1, Ordering::SeqCst);
            }));
        }
        flusher.stop();
        assert_eq!(done.load(Ordering::SeqCst), 100);
    }

    /// Hands a chore over at the end of its sync, as a partition does that has rolled.
    struct Roller {
        turn: FlushTurn,
        gate: Gate,
        queue: Mutex<Option<FlushQueue<Self>>>,
        chores_done: Arc<AtomicUsize>,
    }

    impl FlushTarget for Roller {
        fn turn(&self) -> &FlushTurn {
            &self.turn
        }

        fn flush(&self) {
            self.gate.begun.lock().send(()).unwrap();
            self.gate.go_on.lock().recv().unwrap();
            let done = Arc::clone(&self.chores_done);
            let queue = self.queue.lock().take().unwrap();
            queue.hand_over(Box::new(move || {
                done.fetch_add(1, Ordering::SeqCst);
            }));
        }

        fn abandon(&self) {
            unreachable!("it does not panic");
        }
    }

    #[test]
    fn what_the_last_sync_hands_over_is_done_before_the_end() {
        for _ in 0..200 {
            let (begun_in, begun) = mpsc::channel();
            let (go_on, go_on_out) = mpsc::channel();
            let flusher = Flusher::start(1).unwrap();
            let roller = Arc::new(Roller {
                turn: FlushTurn::default(),
                gate: Gate {
                    begun: Mutex::new(begun_in),
                    go_on: Mutex::new(go_on_out),
                },
                queue: Mutex::new(Some(flusher.queue())),
                chores_done: Arc::default(),
            });
            flusher.queue().mark_dirty(&roller);
            begun.recv().unwrap();
            let queues = Arc::clone(&flusher.queue.queues);
            let stopping = std::thread::spawn(move || flusher.stop());
            while !queues.dirty.jobs.lock().is_stopping {
                std::thread::yield_now();
            }
            go_on.send(()).unwrap();
            stopping.join().unwrap();
            assert_eq!(roller.chores_done.load(Ordering::SeqCst), 1);
        }
    }
}
