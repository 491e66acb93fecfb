//! Appends of several tasks that come together, and enter the log by one call.
//!
//! A task hands its batch in and lets the other tasks of its thread have their turn, of which many may bring a batch, too. Who comes back
//! first appends all that was handed in; the others find their answers. So many small appends take one lock, one write and one turn of the flusher,
//! and an append that is alone takes one turn of its thread's tasks more.
//!
//! Only for batches of some kilobytes: all that one call appends, it copies under the lock.
//!
//! A batch whose task goes away before it was appended is not appended.

use std::sync::Arc;

use bytes::Bytes;
use log_core::record::validator::ValidatedBatch;
use parking_lot::Mutex;

use crate::partition::error::PartitionError;
use crate::partition::partition::{Ack, Acks, Appended, Partition};

/// So many enter the log by one call: the writer's lock is one for microseconds.
const TOGETHER_MAX: usize = 32;

/// What was handed in to a partition.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    waiting: Mutex<Waiting>,
    /// Held by the task that appends.
    turn: tokio::sync::Mutex<()>,
}

/// Batches that nobody appends yet, and where their answers go.
#[derive(Debug, Default)]
struct Waiting {
    batches: Vec<ValidatedBatch>,
    answers: Vec<(Acks, Arc<Answer>)>,
}

/// What became of a batch, until its task takes it.
type Answer = Mutex<Option<Result<Appended, PartitionError>>>;

/// A batch that was handed in. Dropped, it is taken back if that can be.
#[derive(Debug)]
struct HandedIn<'a> {
    gathering: &'a Gathering,
    answer: Arc<Answer>,
}

impl Gathering {
    fn hand_in(&self, batch: ValidatedBatch, acks: Acks) -> HandedIn<'_> {
        let answer = Arc::<Answer>::default();
        let mut waiting = self.waiting.lock();
        waiting.batches.push(batch);
        waiting.answers.push((acks, Arc::clone(&answer)));
        drop(waiting);
        HandedIn {
            gathering: self,
            answer,
        }
    }
}

impl HandedIn<'_> {
    fn take(&self) -> Option<Result<Appended, PartitionError>> {
        self.answer.lock().take()
    }
}

impl Drop for HandedIn<'_> {
    fn drop(&mut self) {
        // Nobody else has the answer of a batch that was appended.
        if Arc::strong_count(&self.answer) == 1 {
            return;
        }
        let mut waiting = self.gathering.waiting.lock();
        let is_mine = |(_, answer): &(Acks, Arc<Answer>)| Arc::ptr_eq(answer, &self.answer);
        if let Some(place) = waiting.answers.iter().position(is_mine) {
            waiting.answers.remove(place);
            waiting.batches.remove(place);
        }
    }
}

impl Partition {
    /// Appends a producer's batch together with those that other tasks bring at this time. Else as [`Self::append_produced`].
    ///
    /// # Errors
    /// As [`Self::append_produced`].
    pub async fn append_together(&self, records: &Bytes, acks: Acks) -> Result<Appended, PartitionError> {
        let mut recompression = None;
        let batch = self.validated(records, &mut recompression).await?;
        let handed_in = self.gathering.hand_in(batch, acks);
        tokio::task::yield_now().await;
        if let Some(answer) = handed_in.take() {
            return answer;
        }
        // Somebody on another thread may be at it, and has the answer when the turn is over.
        let _turn = self.gathering.turn.lock().await;
        if let Some(answer) = handed_in.take() {
            return answer;
        }
        self.append_gathered();
        // Without an answer, who took the batch broke down over it.
        handed_in.take().unwrap_or(Err(PartitionError::ShuttingDown))
    }

    /// Appends all that was handed in.
    fn append_gathered(&self) {
        let Waiting { batches, answers } = std::mem::take(&mut *self.gathering.waiting.lock());
        let mut batches = batches.as_slice();
        let alike = answers.chunk_by(|(one, _), (other, _)| one == other);
        for alike in alike.flat_map(|alike| alike.chunks(TOGETHER_MAX)) {
            let mut leaves_sync = false;
            let Some(((acks, _), (these, behind))) = alike.first().zip(batches.split_at_checked(alike.len()))
            else {
                break;
            };
            batches = behind;
            for (result, (_, answer)) in self.append_unsynced(these, *acks).into_iter().zip(alike) {
                leaves_sync |= matches!(&result, Ok(appended) if matches!(appended.ack, Ack::WhenDurable(_)));
                *answer.lock() = Some(result);
            }
            if leaves_sync {
                self.mark_dirty();
            }
        }
    }
}
