//! Fetches that wait for records: one [`FetchWaiter`] stands on the `WatchList` of each partition it asked for.
//!
//! No wake-up is lost as long as the order is kept: the reader first watches, then looks at the offsets, then
//! waits; the writer first publishes the offsets, then wakes. Either the reader sees the new offsets or the
//! writer sees the reader; the two fences make that so although neither takes the other's lock.
//!
//! A wake-up says "look again", not "there is something": a waiter may wake for nothing, never sleep past something.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// One waiting fetch, woken by any of the partitions it watches.
#[derive(Debug, Default)]
pub struct FetchWaiter {
    notify: Notify,
}

impl FetchWaiter {
    /// A waiter that watches nothing yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Returns after a wake-up; at once when there was one since the last return. For one task at a time.
    pub async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Makes [`Self::notified`] return: now, or the next time it is called.
    pub fn wake(&self) {
        self.notify.notify_one();
    }
}

/// The waiters of one partition.
#[derive(Debug, Default)]
pub(crate) struct WatchList {
    /// How many stand in `slots`, readable without the lock: the usual append finds nobody.
    count: AtomicUsize,
    slots: Mutex<Slots>,
}

/// Waiters by number; a number that is given back is used again, so that leaving costs the same for any count.
#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Option<Arc<FetchWaiter>>>,
    free: Vec<usize>,
    /// Deleted or shutting down: nobody shall wait here any more.
    is_closed: bool,
}

impl WatchList {
    /// Puts the waiter on the list until the guard is dropped. On a closed list it is woken at once.
    pub(crate) fn watch(self: &Arc<Self>, waiter: &Arc<FetchWaiter>) -> WatchGuard {
        let mut slots = self.slots.lock();
        let entry = Some(Arc::clone(waiter));
        let slot = if let Some(slot) = slots.free.pop() {
            *slots.entries.get_mut(slot).expect("a free slot was used before") = entry;
            slot
        } else {
            slots.entries.push(entry);
            slots.entries.len() - 1
        };
        self.count.fetch_add(1, Ordering::Relaxed);
        if slots.is_closed {
            waiter.wake();
        }
        drop(slots);
        // Pairs with the fence in `wake`: the caller's next look at the offsets comes after the count.
        fence(Ordering::SeqCst);
        WatchGuard {
            list: Arc::clone(self),
            slot,
        }
    }

    /// Wakes everyone on the list. To be called after what they wait for was published.
    pub(crate) fn wake(&self) {
        // Pairs with the fence in `watch`: the count is read after the offsets were published.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        for waiter in self.slots.lock().entries.iter().flatten() {
            waiter.wake();
        }
    }

    /// Wakes everyone, and everyone who comes later: the partition answers without waiting from now on.
    pub(crate) fn close(&self) {
        self.slots.lock().is_closed = true;
        self.wake();
    }

    /// How many stand on the list.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn leave(&self, slot: usize) {
        let mut slots = self.slots.lock();
        let entry = slots.entries.get_mut(slot).expect("a guard's slot exists");
        assert!(entry.take().is_some(), "a guard leaves once");
        let left = self.count.fetch_sub(1, Ordering::Relaxed) - 1;
        if left == 0 {
            // A crowd that came once must not make every later wake-up walk its empty slots.
            slots.entries.clear();
            slots.free.clear();
        } else {
            slots.free.push(slot);
        }
    }
}

/// Keeps a waiter on a partition's list; dropping it takes the waiter off.
#[derive(Debug)]
#[must_use = "dropping the guard ends the watch"]
pub struct WatchGuard {
    list: Arc<WatchList>,
    slot: usize,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.list.leave(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Longer than any healthy run; a lost wake-up would wait for ever.
    const HANG: Duration = Duration::from_secs(30);

    fn is_woken(waiter: &FetchWaiter) -> bool {
        let mut future = std::pin::pin!(waiter.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        future.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn a_wake_up_before_the_wait_is_kept_and_counts_once() {
        let list = Arc::new(WatchList::default());
        let waiter = FetchWaiter::new();
        let _guard = list.watch(&waiter);
        assert!(!is_woken(&waiter));
        list.wake();
        list.wake();
        assert!(is_woken(&waiter));
        assert!(!is_woken(&waiter));
    }

    #[test]
    fn one_waiter_on_many_partitions_is_woken_by_each() {
        let lists: Vec<_> = (0..10).map(|_| Arc::new(WatchList::default())).collect();
        let waiter = FetchWaiter::new();
        let guards: Vec<_> = lists.iter().map(|list| list.watch(&waiter)).collect();
        for list in &lists {
            list.wake();
            assert!(is_woken(&waiter));
        }
        drop(guards);
        for list in &lists {
            list.wake();
            assert!(!is_woken(&waiter));
            assert_eq!(list.len(), 0);
        }
    }

    #[test]
    fn slots_are_used_again() {
        let list = Arc::new(WatchList::default());
        let (first, second, third) = (FetchWaiter::new(), FetchWaiter::new(), FetchWaiter::new());
        let guard = list.watch(&first);
        let _second = list.watch(&second);
        drop(guard);
        let _third = list.watch(&third);
        assert_eq!(list.slots.lock().entries.len(), 2);
        list.wake();
        assert!(!is_woken(&first));
        assert!(is_woken(&second));
        assert!(is_woken(&third));
    }

    #[test]
    fn a_closed_list_lets_nobody_wait() {
        let list = Arc::new(WatchList::default());
        let (early, late) = (FetchWaiter::new(), FetchWaiter::new());
        let _early = list.watch(&early);
        list.close();
        assert!(is_woken(&early));
        let _late = list.watch(&late);
        assert!(is_woken(&late));
    }

    /// Readers watch, look and wait, while writers publish and wake, as fetch and append do. A lost wake-up leaves a
    /// reader waiting for a value that is there.
    #[test]
    fn no_wake_up_is_lost_between_threads() {
        const LAST: u64 = 20_000;
        const READERS: usize = 4;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        let lists: Arc<Vec<_>> = Arc::new((0..2).map(|_| Arc::new(WatchList::default())).collect());
        let published: Arc<Vec<_>> = Arc::new((0..2).map(|_| AtomicU64::new(0)).collect());
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let (lists, published) = (Arc::clone(&lists), Arc::clone(&published));
                runtime.spawn(async move {
                    let sum = || published.iter().map(|p| p.load(Ordering::Acquire)).sum::<u64>();
                    let mut seen = 0;
                    while seen < 2 * LAST {
                        let waiter = FetchWaiter::new();
                        let _guards: Vec<_> = lists.iter().map(|list| list.watch(&waiter)).collect();
                        while sum() == seen {
                            timeout(HANG, waiter.notified())
                                .await
                                .expect("a wake-up was lost");
                        }
                        seen = sum();
                    }
                })
            })
            .collect();
        std::thread::scope(|scope| {
            for (list, value) in lists.iter().zip(published.iter()) {
                scope.spawn(move || {
                    for next in 1..=LAST {
                        value.store(next, Ordering::Release);
                        list.wake();
                        if next % 64 == 0 {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        for reader in readers {
            runtime.block_on(reader).unwrap();
        }
    }
}
