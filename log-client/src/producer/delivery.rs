//! What becomes of a record: the future that `send` returns, and its counterpart in the producer.
//!
//! All records of a batch share one [`Ticket`], so that a record costs no allocation. The batch owns a
//! [`Claim`] on it, which is settled once with the batch's result. A claim that is dropped unsettled says
//! that the producer was closed: no delivery waits for ever.
//!
//! Settling also gives the batch's memory back and lets `flush` see that it is done.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use log_core::model::{Offset, TimestampMs, TopicPartition};
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::producer::books::Books;

/// Where a record was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset; none with `acks=0`, and when the broker only knows that it has the record already.
    pub offset: Option<Offset>,
    /// The record's timestamp: its own, or the broker's for topics with log append time.
    pub timestamp: TimestampMs,
}

/// The result of a batch or a part of it.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Appended {
        base_offset: Option<Offset>,
        log_append_time: Option<TimestampMs>,
    },
    Failed(Error),
    /// The broker names the records that it minds; the rest of the batch is refused with them.
    Refused {
        records: Arc<[(u32, Error)]>,
    },
}

/// What the records of one batch have in common.
#[derive(Debug)]
pub(crate) struct Ticket {
    partition: TopicPartition,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By first record; one, unless the batch was split.
    outcomes: Vec<(u32, Outcome)>,
    /// Claims that are not settled.
    open: u32,
    wakers: Vec<Waker>,
}

impl Ticket {
    /// A ticket with the claim on it.
    pub(crate) fn issue(partition: TopicPartition, books: Arc<Books>) -> Claim {
        let ticket = Arc::new(Self {
            partition,
            state: Mutex::new(State {
                open: 1,
                ..State::default()
            }),
        });
        Claim {
            generation: books.opened(),
            books,
            ticket,
            first: 0,
            reserved: 0,
        }
    }
}

/// The duty to say what became of a batch.
#[derive(Debug)]
pub(crate) struct Claim {
    ticket: Arc<Ticket>,
    books: Arc<Books>,
    generation: u64,
    first: u32,
    reserved: usize,
}

impl Claim {
    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.ticket.partition
    }

    /// One more record of the batch, for which so much memory was reserved.
    pub(crate) fn record(&mut self, index: u32, timestamp: TimestampMs, reserved: usize) -> Delivery {
        self.reserved += reserved;
        Delivery {
            ticket: Arc::clone(&self.ticket),
            index,
            timestamp,
            waker: None,
        }
    }

    /// A claim of its own for the records from `count` on.
    pub(crate) fn split_off(&mut self, count: u32) -> Self {
        self.ticket.state.lock().open += 1;
        self.books.opened_in(self.generation);
        Self {
            ticket: Arc::clone(&self.ticket),
            books: Arc::clone(&self.books),
            generation: self.generation,
            first: self.first + count,
            reserved: 0,
        }
    }

    /// Says what became of the batch.
    pub(crate) fn settle(self, outcome: Outcome) {
        self.tell(outcome);
        // The rest, which `drop` would do for an unsettled claim, is done there with nothing left to tell.
    }

    fn tell(&self, outcome: Outcome) {
        let wakers = {
            let mut state = self.ticket.state.lock();
            if state.outcomes.iter().any(|(first, _)| *first == self.first) {
                return;
            }
            match &outcome {
                Outcome::Appended { .. } => {}
                Outcome::Failed(error) => self.books.failed(error),
                Outcome::Refused { records } => {
                    if let Some((_, error)) = records.first() {
                        self.books.failed(error);
                    }
                }
            }
            state.outcomes.push((self.first, outcome));
            state.open -= 1;
            if state.open > 0 {
                return;
            }
            state.outcomes.sort_unstable_by_key(|(first, _)| *first);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.tell(Outcome::Failed(Error::Closed("producer")));
        self.books.closed(self.generation, self.reserved);
    }
}

/// Resolves when the record is acknowledged or has failed for good. Dropping it changes nothing about the
/// record.
#[derive(Debug)]
#[must_use = "whether the record was delivered is known only to who awaits this"]
pub struct Delivery {
    ticket: Arc<Ticket>,
    index: u32,
    timestamp: TimestampMs,
    /// The place of this future's waker in the ticket.
    waker: Option<usize>,
}

impl Delivery {
    /// Where the record goes.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.ticket.partition
    }

    fn metadata(&self, first: u32, outcome: &Outcome) -> Result<RecordMetadata> {
        match outcome {
            Outcome::Appended {
                base_offset,
                log_append_time,
            } => Ok(RecordMetadata {
                partition: self.ticket.partition.clone(),
                offset: base_offset.map(|base| base.plus(i64::from(self.index - first))),
                timestamp: log_append_time.unwrap_or(self.timestamp),
            }),
            Outcome::Failed(error) => Err(error.clone()),
            Outcome::Refused { records } => {
                let own = records.iter().find(|(index, _)| first + index == self.index);
                Err(match (own, records.first()) {
                    (Some((_, error)), _) => error.clone(),
                    (None, first) => Error::InvalidNeighbour {
                        first: first
                            .map_or_else(String::new, |(_, error)| error.to_string())
                            .into(),
                    },
                })
            }
        }
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ticket = Arc::clone(&self.ticket);
        let mut state = ticket.state.lock();
        if state.open == 0 {
            let found = state
                .outcomes
                .iter()
                .rfind(|(first, _)| *first <= self.index)
                .expect("the first outcome is that of record 0");
            return Poll::Ready(self.metadata(found.0, &found.1));
        }
        if let Some(waker) = self.waker.and_then(|place| state.wakers.get_mut(place)) {
            waker.clone_from(context.waker());
        } else {
            self.waker = Some(state.wakers.len());
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use log_core::protocol::{ApiKey, ErrorCode};

    use super::*;

    fn batch(records: u32) -> (Claim, Vec<Delivery>) {
        let mut claim = Ticket::issue(TopicPartition::new("t", 3), Arc::new(Books::new(1000, None)));
        let deliveries = (0..records)
            .map(|index| claim.record(index, TimestampMs::new(i64::from(index)), 1))
            .collect();
        (claim, deliveries)
    }

    fn appended(base_offset: i64) -> Outcome {
        Outcome::Appended {
            base_offset: Some(Offset::new(base_offset)),
            log_append_time: None,
        }
    }

    fn offsets(deliveries: Vec<Delivery>) -> Vec<Option<i64>> {
        let now = |delivery: Delivery| delivery.now_or_never().expect("settled").unwrap();
        deliveries
            .into_iter()
            .map(|delivery| now(delivery).offset.map(Offset::get))
            .collect()
    }

    #[test]
    fn each_record_gets_its_own_offset() {
        let (claim, deliveries) = batch(3);
        claim.settle(appended(100));
        assert_eq!(offsets(deliveries), [Some(100), Some(101), Some(102)]);
    }

    #[test]
    fn a_split_batch_is_settled_when_all_its_parts_are() {
        let (mut claim, mut deliveries) = batch(5);
        let mut second = claim.split_off(2);
        let third = second.split_off(2);
        claim.settle(appended(100));
        third.settle(appended(300));
        assert!((&mut deliveries[0]).now_or_never().is_none());
        second.settle(appended(200));
        assert_eq!(
            offsets(deliveries),
            [Some(100), Some(101), Some(200), Some(201), Some(300)]
        );
    }

    #[test]
    fn records_that_are_refused_are_told_apart_from_their_neighbours() {
        let (claim, deliveries) = batch(2);
        let error = Error::broker(ApiKey::Produce, ErrorCode::InvalidRecord, "t-3", Some("no key"));
        claim.settle(Outcome::Refused {
            records: Arc::new([(1, error)]),
        });
        let mut errors = deliveries
            .into_iter()
            .map(|delivery| delivery.now_or_never().unwrap().unwrap_err());
        assert!(matches!(errors.next(), Some(Error::InvalidNeighbour { first }) if first.contains("no key")));
        assert_eq!(errors.next().unwrap().code(), Some(ErrorCode::InvalidRecord));
    }

    #[tokio::test]
    async fn a_batch_that_is_lost_wakes_whoever_waits() {
        let (claim, mut deliveries) = batch(2);
        let waiting = tokio::spawn(deliveries.remove(0));
        tokio::task::yield_now().await;
        drop(claim);
        assert!(matches!(waiting.await.unwrap(), Err(Error::Closed("producer"))));
        assert!(deliveries.remove(0).await.is_err());
    }
}
