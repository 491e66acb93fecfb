//! Numbers that many threads change and few read: a counter that only grows, and a level that goes up and down.
//!
//! Each is a row of cells, one cache line apart, and a thread always uses the same one. Adding is then one instruction on
//! a line that the core has already; reading adds the cells up, which may miss what is added meanwhile and never loses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// More would not fit what they are for: tens of threads at most are busy at once.
const STRIPES_MAX: usize = 64;

/// How many cells a number has: twice the cores, because threads that wait for disks count, too.
pub(super) fn stripe_count() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (2 * cores).next_power_of_two().min(STRIPES_MAX)
}

/// Which cell of `count` this thread uses.
pub(super) fn stripe(count: usize) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // A thread that is ending may have lost its number; any cell will do.
    MINE.try_with(|mine| mine % count.max(1)).unwrap_or_default()
}

/// A number on cache lines of its own: two of 64 bytes, because the hardware fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

#[derive(Debug)]
struct Cells(Box<[Cell]>);

impl Cells {
    fn new() -> Self {
        Self((0..stripe_count()).map(|_| Cell::default()).collect())
    }

    fn mine(&self) -> &AtomicU64 {
        let cell = self.0.get(stripe(self.0.len()));
        &cell.expect("a stripe is within the row").0
    }

    /// The sum, modulo 2^64: a level goes down in another cell than it went up in.
    fn sum(&self) -> u64 {
        let cells = self.0.iter().map(|cell| cell.0.load(Ordering::Relaxed));
        cells.fold(0, u64::wrapping_add)
    }
}

/// A number that only grows.
#[derive(Debug)]
pub struct Counter(Cells);

impl Default for Counter {
    fn default() -> Self {
        Self(Cells::new())
    }
}

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.mine().fetch_add(amount, Ordering::Relaxed);
    }

    /// How much was added so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.sum()
    }
}

/// How many of something there are now.
#[derive(Debug)]
pub struct Level(Cells);

impl Default for Level {
    fn default() -> Self {
        Self(Cells::new())
    }
}

impl Level {
    /// Counts one more until the guard is dropped.
    pub fn hold(self: &Arc<Self>) -> Held {
        self.0.mine().fetch_add(1, Ordering::Relaxed);
        Held(Arc::clone(self))
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self) -> u64 {
        // Cells are read one after the other, so one that came and went meanwhile may be seen to go alone.
        self.0.sum().cast_signed().max(0).cast_unsigned()
    }
}

/// One of what a [`Level`] counts.
#[derive(Debug)]
#[must_use = "it is counted as long as this lives"]
pub struct Held(Arc<Level>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.mine().fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_threads_add_is_lost() {
        let (counter, level) = (Counter::default(), Arc::new(Level::default()));
        let kept = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..10_000 {
                            counter.add(3);
                            drop(level.hold());
                        }
                        level.hold()
                    })
                })
                .collect();
            let kept = threads.into_iter().map(|thread| thread.join().unwrap());
            kept.collect::<Vec<_>>()
        });
        assert_eq!(counter.get(), 8 * 10_000 * 3);
        assert_eq!(level.get(), 8);
        drop(kept);
        assert_eq!(level.get(), 0);
    }

    #[test]
    fn cells_do_not_share_lines() {
        assert_eq!(size_of::<Cell>(), 128);
        assert!(stripe_count().is_power_of_two());
        assert!(stripe(4) < 4);
    }
}
