//! Acknowledgements that wait for the disk: data in a queue ordered by offset, not a task per waiter.
//!
//! Owned by a partition's writer and changed under its lock only, so that an answer is queued in the same
//! breath as its append: a sync that covers the append finds the answer here. [`AckQueue::take_durable`] takes all
//! that one sync covered; the answers are sent by [`Released`] after the lock is gone.
//!
//! Invariant: ends never fall from front to back. The queue needs no limit of its own: who waits is a request in flight, those
//! are limited at the connection, and entries that nobody waits for any more make room before the queue grows.

use std::collections::VecDeque;

use log_core::model::Offset;
use tokio::sync::oneshot;

use crate::partition::error::{DurableResult, PartitionError};

#[derive(Debug)]
struct WaitingAck {
    /// Exclusive: the answer may leave once everything below is on the disk.
    end: Offset,
    answer: oneshot::Sender<DurableResult>,
}

/// The acknowledgements of one partition that wait for the disk.
#[derive(Debug, Default)]
pub(crate) struct AckQueue {
    waiting: VecDeque<WaitingAck>,
}

impl AckQueue {
    /// Queues an answer that may leave when everything below `end` is on the disk.
    ///
    /// Appends come in order; a duplicate of an earlier batch waits among those.
    pub(crate) fn push(&mut self, end: Offset) -> oneshot::Receiver<DurableResult> {
        let (answer, receiver) = oneshot::channel();
        let ack = WaitingAck { end, answer };
        self.make_room();
        match self.waiting.back() {
            Some(last) if end < last.end => {
                let place = self.waiting.partition_point(|other| other.end <= end);
                self.waiting.insert(place, ack);
            }
            _ => self.waiting.push_back(ack),
        }
        receiver
    }

    /// A producer that was told `REQUEST_TIMED_OUT` sends again, and while the disk hangs nobody takes its entries out.
    fn make_room(&mut self) {
        if self.waiting.len() == self.waiting.capacity() {
            self.waiting.retain(|ack| !ack.answer.is_closed());
            // Not for each entry anew, where all but a few are still waited for.
            self.waiting.reserve(self.waiting.len());
        }
    }

    /// Takes every answer that a disk holding all below `durable` allows.
    pub(crate) fn take_durable(&mut self, durable: Offset) -> Released {
        let count = self.waiting.partition_point(|ack| ack.end <= durable);
        Released(self.waiting.drain(..count).collect())
    }

    /// Takes every answer: the log failed, was deleted or closes.
    pub(crate) fn take_all(&mut self) -> Released {
        Released(self.waiting.drain(..).collect())
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// Answers taken out of the queue, to be sent once the writer's lock is released.
#[derive(Debug, Default)]
#[must_use = "each of these is a request that waits for its answer"]
pub(crate) struct Released(Vec<WaitingAck>);

impl Released {
    /// Tells all of them that their records are on the disk.
    pub(crate) fn succeed(self) {
        self.send(&Ok(()));
    }

    /// Tells all of them why their records may not be on the disk.
    pub(crate) fn fail(self, error: &PartitionError) {
        self.send(&Err(error.clone()));
    }

    fn send(self, result: &DurableResult) {
        for ack in self.0 {
            // A connection that is gone needs no answer.
            drop(ack.answer.send(result.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(value: i64) -> Offset {
        Offset::new(value)
    }

    #[test]
    fn a_sync_releases_what_it_covers_and_no_more() {
        let mut queue = AckQueue::default();
        let mut receivers: Vec<_> = [3, 5, 9].map(|end| queue.push(offset(end))).into();
        queue.take_durable(offset(2)).succeed();
        assert_eq!(queue.len(), 3);
        queue.take_durable(offset(8)).succeed();
        assert_eq!(queue.len(), 1);
        assert_eq!(receivers.remove(0).try_recv().unwrap(), Ok(()));
        assert_eq!(receivers.remove(0).try_recv().unwrap(), Ok(()));
        assert!(receivers.remove(0).try_recv().is_err(), "9 is not on the disk");
    }

    #[test]
    fn a_duplicate_waits_at_the_place_of_its_first_append() {
        let mut queue = AckQueue::default();
        let mut late = queue.push(offset(9));
        let mut duplicate = queue.push(offset(4));
        queue.take_durable(offset(4)).succeed();
        assert_eq!(duplicate.try_recv().unwrap(), Ok(()));
        assert!(late.try_recv().is_err());
    }

    #[test]
    fn a_failure_reaches_everyone() {
        let mut queue = AckQueue::default();
        let receivers = [1, 2, 3].map(|end| queue.push(offset(end)));
        queue.take_all().fail(&PartitionError::Deleted);
        assert_eq!(queue.len(), 0);
        for mut receiver in receivers {
            assert_eq!(receiver.try_recv().unwrap(), Err(PartitionError::Deleted));
        }
    }

    #[test]
    fn who_waits_no_longer_takes_no_room() {
        let mut queue = AckQueue::default();
        let mut receivers: Vec<_> = (0..10).map(|end| queue.push(offset(end))).collect();
        for end in 10..1000 {
            drop(queue.push(offset(end)));
        }
        assert!(queue.len() < 100, "{}", queue.len());
        queue.take_durable(offset(9)).succeed();
        for receiver in &mut receivers {
            assert_eq!(receiver.try_recv().unwrap(), Ok(()));
        }
    }

    #[test]
    fn an_answer_nobody_waits_for_is_dropped() {
        let mut queue = AckQueue::default();
        drop(queue.push(offset(1)));
        let released = queue.take_durable(offset(1));
        released.succeed();
    }
}
