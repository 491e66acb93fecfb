//! How many batches are written anew in their topic's codec at a time.
//!
//! That takes a processor for milliseconds, and memory that no request has paid for: both codecs' windows and tables, and the batch that
//! comes out, which may be as large as `max.message.bytes` however small it came. So there are no more turns than processors, and a turn
//! is given back when what came out of it is in the log. What was written anew and is not in a log yet is that much for each turn, and where
//! requests that came together share a turn, a little more (`TOGETHER_BYTES_MAX`).
//!
//! A turn is waited for by a task, never by a thread: the threads that would wait are those that serve everybody. Who waits holds what its
//! request has paid for.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::partition::offset_query::{BLOCKING_MAX, BLOCKING_THREADS_MAX};

/// Whoever has a turn holds a thread up, and another one takes its tasks over. Of those that are left for that, half are for others.
const TURNS_MAX: usize = (BLOCKING_THREADS_MAX - BLOCKING_MAX) / 2;

/// The turns. They come in the order in which they were asked for.
#[derive(Debug, Clone)]
pub(crate) struct RecompressionTurns {
    free: Arc<Semaphore>,
}

/// A turn; given back on drop, which is to come after the append.
#[derive(Debug)]
#[must_use = "dropping it gives the turn back"]
pub(crate) struct RecompressionTurn {
    _permit: OwnedSemaphorePermit,
}

impl Default for RecompressionTurns {
    fn default() -> Self {
        Self::new(available_parallelism().map_or(1, NonZero::get).min(TURNS_MAX))
    }
}

impl RecompressionTurns {
    fn new(count: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
        }
    }

    /// Waits for a turn. Whoever has one must not wait for another.
    pub(super) async fn take(&self) -> RecompressionTurn {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        RecompressionTurn {
            _permit: permit.expect("the semaphore is never closed"),
        }
    }

    /// A turn if one is free now and nobody waits for it.
    pub(crate) fn try_take(&self) -> Option<RecompressionTurn> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(RecompressionTurn { _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_turn_that_is_given_back_is_theirs_who_waited_first() {
        let turns = RecompressionTurns::new(2);
        let (first, second) = (turns.try_take().unwrap(), turns.try_take().unwrap());
        assert!(turns.try_take().is_none());
        let (mut third, mut fourth) = (Box::pin(turns.take()), Box::pin(turns.take()));
        assert!((&mut third).now_or_never().is_none());
        assert!((&mut fourth).now_or_never().is_none());
        drop(first);
        assert!(turns.try_take().is_none());
        assert!((&mut fourth).now_or_never().is_none());
        let third = third.now_or_never().unwrap();
        drop(second);
        let fourth = fourth.now_or_never().unwrap();
        drop((third, fourth));
        assert!(turns.try_take().is_some());
    }

    #[test]
    fn there_are_turns_and_threads_are_left_for_others() {
        let count = RecompressionTurns::default().free.available_permits();
        assert!(
            (1..BLOCKING_THREADS_MAX - BLOCKING_MAX).contains(&count),
            "{count}"
        );
    }
}
