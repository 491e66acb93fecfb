//! The flusher with logs that only count: who syncs them, how often, and what a panic leaves.
//!
//! Tests that need an order put a gate between the beginning and the end of a sync.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::mpsc;

use super::*;
use crate::partition::tests::HANG;
use crate::partition::tests::runtime::runtime;

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
            gate.go_on.lock().recv_timeout(HANG).unwrap();
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
    let (log, begun, go_on) = gated();
    let log = Arc::new(log);
    let flusher = Flusher::start(2).unwrap();
    let queue = flusher.queue();
    let append = || {
        log.appended.fetch_add(1, Ordering::SeqCst);
        queue.mark_dirty(&log);
    };
    append();
    begun.recv_timeout(HANG).unwrap();
    for _ in 0..10 {
        append();
    }
    assert_eq!(log.synced.load(Ordering::SeqCst), 0);
    go_on.send(()).unwrap();
    begun.recv_timeout(HANG).unwrap();
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

fn gated() -> (Counter, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (begun_in, begun) = mpsc::channel();
    let (go_on, go_on_out) = mpsc::channel();
    let log = Counter {
        gate: Some(Gate {
            begun: Mutex::new(begun_in),
            go_on: Mutex::new(go_on_out),
        }),
        ..Counter::default()
    };
    (log, begun, go_on)
}

/// A queue without threads of its own, for requests that sync themselves.
fn queue() -> FlushQueue<Counter> {
    FlushQueue {
        queues: Arc::new(Queues::new(SYNCS_HERE_MAX)),
    }
}

#[test]
fn a_request_that_is_alone_syncs_on_its_own_thread() {
    let queue = queue();
    let log = Arc::new(Counter::default());
    log.appended.store(3, Ordering::SeqCst);
    queue.sync_here(&log);
    assert_eq!(log.synced.load(Ordering::SeqCst), 3);
    assert_eq!(log.turn.state.load(Ordering::SeqCst), IDLE);
    assert!(queue.queues.dirty.try_take().is_none());
}

#[test]
fn a_request_does_not_sync_what_somebody_else_is_at() {
    let queue = queue();
    let log = Arc::new(Counter::default());
    queue.mark_dirty(&log);
    queue.sync_here(&log);
    assert_eq!(log.syncs.load(Ordering::SeqCst), 0, "it stands in the queue");
    let target = queue.queues.dirty.try_take().unwrap();
    target.turn().begin();
    queue.sync_here(&log);
    assert_eq!(log.syncs.load(Ordering::SeqCst), 0, "it runs");
    queue.queues.run(target);
    assert_eq!(log.syncs.load(Ordering::SeqCst), 1);
    assert!(queue.queues.dirty.try_take().is_some(), "it runs again");
}

#[test]
fn a_partition_that_was_busy_lately_is_left_to_the_flushers() {
    let queue = queue();
    let log = Arc::new(Counter::default());
    queue.mark_dirty(&log);
    queue.mark_dirty(&log);
    queue.run_pending();
    for turn in 0..LONE_TURNS {
        assert_eq!(log.syncs.load(Ordering::SeqCst), u64::from(turn) + 1);
        queue.sync_here(&log);
        assert_eq!(log.syncs.load(Ordering::SeqCst), u64::from(turn) + 1, "in line");
        queue.run_pending();
    }
    queue.sync_here(&log);
    assert_eq!(log.syncs.load(Ordering::SeqCst), u64::from(LONE_TURNS) + 2);
    assert!(queue.queues.dirty.try_take().is_none(), "on this thread");
}

#[test]
fn no_more_than_a_few_requests_sync_on_their_own_threads() {
    let queue = queue();
    let log = Arc::new(Counter::default());
    queue.queues.syncs_here.store(SYNCS_HERE_MAX, Ordering::SeqCst);
    queue.sync_here(&log);
    assert_eq!(log.syncs.load(Ordering::SeqCst), 0);
    assert_eq!(queue.queues.syncs_here.load(Ordering::SeqCst), SYNCS_HERE_MAX);
    queue.run_pending();
    assert_eq!(log.syncs.load(Ordering::SeqCst), 1);
}

/// The only thread of a runtime syncs, and its other tasks run meanwhile: one of them ends the sync.
#[test]
fn a_sync_on_a_runtimes_thread_holds_up_no_other_task() {
    let runtime = runtime(1);
    let (log, begun, go_on) = gated();
    let (queue, log) = (queue(), Arc::new(log));
    let syncing = {
        let log = Arc::clone(&log);
        runtime.spawn(async move { queue.sync_here(&log) })
    };
    begun.recv_timeout(HANG).expect("the sync begins");
    let other = runtime.spawn(async move { go_on.send(()).unwrap() });
    runtime.in_time("another task runs", other);
    runtime.in_time("the sync ends", syncing);
    assert_eq!(log.syncs.load(Ordering::SeqCst), 1);
}

#[test]
fn a_panic_while_a_request_syncs_abandons_the_log_and_spares_the_request() {
    let queue = queue();
    let log = Arc::new(Counter {
        panics: true,
        ..Counter::default()
    });
    queue.sync_here(&log);
    assert!(log.was_abandoned.load(Ordering::SeqCst));
    assert_eq!(queue.queues.syncs_here.load(Ordering::SeqCst), 0);
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
fn a_chore_that_panics_takes_none_with_it() {
    let flusher = Flusher::<Counter>::start(1).unwrap();
    let (done_in, done) = mpsc::channel();
    flusher
        .queue()
        .hand_over(Box::new(|| panic!("on purpose")), Haste::InTurn);
    flusher
        .queue()
        .hand_over(Box::new(move || done_in.send(()).unwrap()), Haste::InTurn);
    done.recv_timeout(HANG).unwrap();
    flusher.stop();
}

#[test]
fn the_end_waits_for_the_chore_under_way_and_for_no_other() {
    let flusher = Flusher::<Counter>::start(1).unwrap();
    let (begun_in, begun) = mpsc::channel();
    let (go_on, go_on_out) = mpsc::channel::<()>();
    let done = Arc::new(AtomicUsize::new(0));
    let count = |done: Arc<AtomicUsize>| {
        done.fetch_add(1, Ordering::SeqCst);
    };
    let under_way = Arc::clone(&done);
    let first = move || {
        begun_in.send(()).unwrap();
        go_on_out.recv().unwrap();
        count(under_way);
    };
    flusher.queue().hand_over(Box::new(first), Haste::InTurn);
    begun.recv_timeout(HANG).unwrap();
    for _ in 0..100 {
        let waiting = Arc::clone(&done);
        flusher
            .queue()
            .hand_over(Box::new(move || count(waiting)), Haste::InTurn);
    }
    let queues = Arc::clone(&flusher.queue.queues);
    let stopping = std::thread::spawn(move || flusher.stop());
    while !queues.chores.jobs.lock().is_stopping {
        std::thread::yield_now();
    }
    go_on.send(()).unwrap();
    stopping.join().unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 1);
    assert_eq!(Arc::strong_count(&done), 1, "those that are left undone are gone");
}

#[test]
fn what_is_to_be_done_soon_comes_before_what_waits_and_the_oldest_first() {
    let queue = queue();
    let order = Arc::new(Mutex::new(Vec::new()));
    for (name, haste) in [
        ("first", Haste::InTurn),
        ("second", Haste::InTurn),
        ("oldest", Haste::Soon),
        ("newest", Haste::Soon),
    ] {
        let order = Arc::clone(&order);
        queue.hand_over(Box::new(move || order.lock().push(name)), haste);
    }
    queue.run_pending();
    assert_eq!(*order.lock(), ["oldest", "newest", "first", "second"]);
}
