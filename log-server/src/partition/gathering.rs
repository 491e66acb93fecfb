//! Appends of several tasks that come together, and enter the log by one call.
//!
//! A task hands its batch in and lets the other tasks of its thread have their turn, of which many may bring a batch, too. Who comes back
//! first appends all that was handed in; the others find their answers, or wait for them where that happens on another thread. So many small
//! appends take one lock, one write and one turn of the flusher, and an append that is alone takes one turn of its thread's tasks more.
//!
//! Only for batches of some kilobytes: all that one call appends, it copies under the lock.
//!
//! A batch whose task goes away before it was appended is not appended.
//!
//! Invariant: while batches wait, their tasks have yet to come back, or somebody is appending and looks again when that is done.

use std::sync::Arc;

use bytes::Bytes;
use log_core::record::validator::ValidatedBatch;
use parking_lot::Mutex;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::Instant;

use crate::partition::error::PartitionError;
use crate::partition::partition::{Ack, Acks, Appended, Partition};

/// So many enter the log by one call: the writer's lock is one for microseconds.
const TOGETHER_MAX: usize = 32;

/// What was handed in to a partition and nobody appends yet.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: Vec<ValidatedBatch>,
    /// One for each batch.
    places: Vec<Place>,
    /// Somebody appends what was handed in before.
    is_appending: bool,
}

/// Where the answer to a batch goes.
#[derive(Debug)]
struct Place {
    acks: Acks,
    answer: oneshot::Sender<Answer>,
}

/// What became of a batch.
type Answer = Result<Appended, PartitionError>;

/// A batch that was handed in. Dropped, it is taken back if that can be.
#[derive(Debug)]
struct HandedIn<'a> {
    gathering: &'a Gathering,
    answer: oneshot::Receiver<Answer>,
    is_answered: bool,
}

/// The right to append what was handed in: there is one.
#[derive(Debug)]
struct Appending {
    partition: Arc<Partition>,
    is_over: bool,
}

impl Gathering {
    fn hand_in(&self, batch: ValidatedBatch, acks: Acks) -> HandedIn<'_> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.batches.push(batch);
        waiting.places.push(Place { acks, answer: sender });
        drop(waiting);
        HandedIn {
            gathering: self,
            answer,
            is_answered: false,
        }
    }

    /// The right to append, unless somebody has it.
    fn begin(&self) -> bool {
        !std::mem::replace(&mut self.waiting.lock().is_appending, true)
    }

    /// Whether all that was handed in is being appended.
    #[cfg(test)]
    pub(super) fn is_taken(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.is_appending && waiting.batches.is_empty()
    }

    /// As if who took it had broken down over it.
    #[cfg(test)]
    pub(super) fn lose(&self) {
        drop(self.take());
    }

    /// The right to append, for one who breaks down with it: dropped, as by a panic.
    #[cfg(test)]
    pub(super) fn begin_in_vain(partition: &Arc<Partition>) -> impl Sized + use<> {
        assert!(partition.gathering.begin(), "nobody appends");
        Appending {
            partition: Arc::clone(partition),
            is_over: false,
        }
    }

    fn take(&self) -> (Vec<ValidatedBatch>, Vec<Place>) {
        let mut waiting = self.waiting.lock();
        (
            std::mem::take(&mut waiting.batches),
            std::mem::take(&mut waiting.places),
        )
    }

    /// Gives the right back if nothing waits; says whether it did.
    fn end(&self) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.is_appending = !waiting.batches.is_empty();
        !waiting.is_appending
    }
}

impl HandedIn<'_> {
    /// Without an answer that could still come, who took the batch broke down over it.
    fn take(&mut self) -> Option<Answer> {
        let answer = match self.answer.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Closed) => Some(Err(PartitionError::ShuttingDown)),
            Err(TryRecvError::Empty) => None,
        };
        self.is_answered = answer.is_some();
        answer
    }

    async fn wait(mut self) -> Answer {
        let answer = (&mut self.answer).await;
        self.is_answered = true;
        answer.unwrap_or(Err(PartitionError::ShuttingDown))
    }
}

impl Drop for HandedIn<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        self.answer.close();
        let mut waiting = self.gathering.waiting.lock();
        let is_left = |place: &Place| place.answer.is_closed();
        if let Some(index) = waiting.places.iter().position(is_left) {
            waiting.places.remove(index);
            waiting.batches.remove(index);
        }
    }
}

impl Appending {
    /// Appends what waits; whether nothing was handed in meanwhile, and the right is given back.
    fn append(&mut self) -> bool {
        let gathering = &self.partition.gathering;
        let (batches, places) = gathering.take();
        self.partition.append_gathered(&batches, places);
        self.is_over = gathering.end();
        self.is_over
    }

    /// Appends until nothing waits. A task of its own: who handed in a batch is to be gone with its answer.
    async fn append_rest(mut self) {
        while !self.append() {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Appending {
    fn drop(&mut self) {
        if !self.is_over {
            // A panic over a batch, or the end of the runtime. The next one has the right again.
            let left = std::mem::take(&mut *self.partition.gathering.waiting.lock());
            // Not under the lock: who waits hears of it by the end of the senders, and is woken by that.
            drop(left);
        }
    }
}

impl Partition {
    /// Appends a producer's batch together with those that other tasks bring at this time. Else as [`Self::append_produced`].
    ///
    /// # Errors
    /// As [`Self::append_produced`].
    pub async fn append_together(
        &self,
        records: &Bytes,
        acks: Acks,
        until: Instant,
    ) -> Result<Appended, PartitionError> {
        let mut recompression = None;
        let batch = self.validated(records, &mut recompression, until).await?;
        let mut handed_in = self.gathering.hand_in(batch, acks);
        tokio::task::yield_now().await;
        if let Some(answer) = handed_in.take() {
            return answer;
        }
        if self.gathering.begin() {
            let mut appending = Appending {
                partition: self.shared(),
                is_over: false,
            };
            if !appending.append() {
                // Nobody owns this task, and nobody need await its end: it goes on only while requests wait for it, and whoever awaits the
                // end of their connections awaits it with them. Behind the log's end it gets that for an answer; with the runtime it is
                // dropped, and answers by that. What panics there is said by the runtime.
                drop(tokio::spawn(appending.append_rest()));
            }
        }
        handed_in.wait().await
    }

    fn append_gathered(&self, mut batches: &[ValidatedBatch], places: Vec<Place>) {
        let mut results = Vec::with_capacity(places.len());
        let alike = places.chunk_by(|one, other| one.acks == other.acks);
        for alike in alike.flat_map(|alike| alike.chunks(TOGETHER_MAX)) {
            let Some((first, (these, behind))) = alike.first().zip(batches.split_at_checked(alike.len()))
            else {
                break;
            };
            batches = behind;
            let appended = self.append_unsynced(these, first.acks);
            let waits = |appended: &Appended| matches!(appended.ack, Ack::WhenDurable(_));
            if appended.iter().flatten().any(waits) {
                self.mark_dirty();
            }
            results.extend(appended);
        }
        for (result, place) in results.into_iter().zip(places) {
            // Of a task that is gone, the batch is in the log all the same.
            drop(place.answer.send(result));
        }
    }
}
