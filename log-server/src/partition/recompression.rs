//! How many batches are written anew in their topic's codec at a time.
//!
//! That takes a processor for milliseconds, and memory: both codecs' windows and tables, and the batch that comes out. So no more
//! of it goes on at once than there are processors; more would only hold more memory. Who waits holds what its request has paid for.

use parking_lot::{Condvar, Mutex};

/// The turns.
#[derive(Debug)]
pub(crate) struct RecompressionTurns {
    free: Mutex<usize>,
    given_back: Condvar,
}

/// A turn; given back on drop.
#[derive(Debug)]
#[must_use = "dropping it gives the turn back"]
pub(super) struct RecompressionTurn<'a>(&'a RecompressionTurns);

impl Default for RecompressionTurns {
    fn default() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }
}

impl RecompressionTurns {
    fn new(count: usize) -> Self {
        Self {
            free: Mutex::new(count),
            given_back: Condvar::new(),
        }
    }

    /// Waits for a turn. Whoever has one never waits for another.
    pub(super) fn take(&self) -> RecompressionTurn<'_> {
        let mut free = self.free.lock();
        while *free == 0 {
            self.given_back.wait(&mut free);
        }
        *free -= 1;
        RecompressionTurn(self)
    }
}

impl Drop for RecompressionTurn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Eight threads want to, two may.
    #[test]
    fn no_more_have_a_turn_than_there_are() {
        let turns = RecompressionTurns::new(2);
        let (at_it, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let turn = turns.take();
                        let now = at_it.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        at_it.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.into_inner()));
        assert_eq!(*turns.free.lock(), 2);
    }
}
