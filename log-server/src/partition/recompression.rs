//! How many batches are written anew in their topic's codec at a time.
//!
//! That takes a processor for milliseconds, and memory that no request has paid for: both codecs' windows and tables, and the batch that
//! comes out, which may be as large as `max.message.bytes` however small it came. So there are no more turns than processors, and a turn
//! is given back when what came out of it is in the log. What was written anew and is not in a log yet is that much for each turn, and where
//! requests that came together share a turn, a little more (`TOGETHER_BYTES_MAX`).
//!
//! A turn is waited for by a task, never by a thread: the threads that would wait are those that serve everybody. Who waits holds what its
//! request has paid for, and holds up what stands behind it, so the wait has an end.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

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

    /// Waits for a turn; nothing when it has not come by `until`. Whoever has one must not wait for another.
    pub(super) async fn take(&self, until: Instant) -> Option<RecompressionTurn> {
        let permit = timeout_at(until, Arc::clone(&self.free).acquire_owned()).await;
        Some(RecompressionTurn {
            _permit: permit.ok()?.expect("the semaphore is never closed"),
        })
    }

    /// A turn if one is free now and nobody waits for it.
    pub(crate) fn try_take(&self) -> Option<RecompressionTurn> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(RecompressionTurn { _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_turn_that_is_given_back_is_theirs_who_waited_first() {
        let until = Instant::now() + LONG;
        let turns = RecompressionTurns::new(2);
        let (first, second) = (turns.try_take().unwrap(), turns.try_take().unwrap());
        assert!(turns.try_take().is_none());
        let (mut third, mut fourth) = (Box::pin(turns.take(until)), Box::pin(turns.take(until)));
        assert!((&mut third).now_or_never().is_none());
        assert!((&mut fourth).now_or_never().is_none());
        drop(first);
        assert!(turns.try_take().is_none());
        assert!((&mut fourth).now_or_never().is_none());
        let third = third.now_or_never().flatten().unwrap();
        drop(second);
        let fourth = fourth.now_or_never().flatten().unwrap();
        drop((third, fourth));
        assert!(turns.try_take().is_some());
    }

    /// Who gave up is passed over.
    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_is_not_waited_for_any_longer() {
        let turns = RecompressionTurns::new(1);
        let only = turns.try_take().unwrap();
        let until = Instant::now() + LONG;
        let patient = turns.take(until + LONG);
        let (gave_up, patient) = tokio::join!(turns.take(until), async {
            tokio::time::sleep_until(until + Duration::from_millis(1)).await;
            drop(only);
            patient.await
        });
        assert!(gave_up.is_none());
        assert!(patient.is_some());
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
