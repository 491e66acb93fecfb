//! The answers of a connection in the order of its requests, between the half that reads and the half that writes.
//!
//! Both halves are parts of one task, which polls them in turns until neither has moved on. So nobody registers here to be woken, and
//! nobody is: what one half leaves, the other finds when it is polled next ([`AnswerRow::take_news`]). A channel would wake the task that
//! just runs, and with it a thread of the runtime that finds nothing to do.
//!
//! Invariant: places that are taken and answers that wait are together never more than there are places.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use parking_lot::Mutex;

use super::Queued;

/// The row. It has a limit, which is felt by who reads.
#[derive(Default)]
pub(super) struct AnswerRow {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Queued>,
    /// Places that nobody has taken.
    free: usize,
    /// Something was put in since the last look.
    has_news: bool,
    /// Nothing more will be put in.
    is_closed: bool,
}

/// A place for one answer; it is free again when it is dropped empty.
pub(super) struct Place<'a> {
    row: &'a AnswerRow,
    is_filled: bool,
}

impl AnswerRow {
    /// A row with so many places, one at least.
    pub(super) fn new(places: usize) -> Self {
        Self {
            state: Mutex::new(State {
                free: places.max(1),
                ..State::default()
            }),
        }
    }

    /// A place, as soon as there is one. Only for the task that polls both halves: it is not woken.
    pub(super) async fn place(&self) -> Place<'_> {
        poll_fn(|_| self.try_place().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// A place if there is one now.
    pub(super) fn try_place(&self) -> Option<Place<'_>> {
        let mut state = self.state.lock();
        state.free = state.free.checked_sub(1)?;
        Some(Place {
            row: self,
            is_filled: false,
        })
    }

    /// The next answer; `None` when there will be none. Only for the task that polls both halves: it is not woken.
    pub(super) async fn next(&self) -> Option<Queued> {
        poll_fn(|_| {
            let mut state = self.state.lock();
            let next = state.take();
            if next.is_some() || state.is_closed {
                Poll::Ready(next)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// The next answer if there is one now. Its place is free.
    pub(super) fn try_next(&self) -> Option<Queued> {
        self.state.lock().take()
    }

    /// Lets the half that writes go on before the half that reads does.
    pub(super) async fn hand_on(&self) {
        let mut has_handed_on = false;
        poll_fn(|_| {
            if std::mem::replace(&mut has_handed_on, true) {
                return Poll::Ready(());
            }
            // Whoever polls both comes back for this.
            self.state.lock().has_news = true;
            Poll::Pending
        })
        .await;
    }

    /// Nothing more will be put in.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
    }

    /// Whether something was put in since this was asked.
    pub(super) fn take_news(&self) -> bool {
        std::mem::take(&mut self.state.lock().has_news)
    }
}

impl State {
    /// The next answer leaves its place.
    fn take(&mut self) -> Option<Queued> {
        let next = self.answers.pop_front()?;
        self.free += 1;
        Some(next)
    }
}

impl Place<'_> {
    /// Puts an answer there.
    pub(super) fn fill(mut self, answer: Queued) {
        self.is_filled = true;
        let mut state = self.row.state.lock();
        state.answers.push_back(answer);
        state.has_news = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_filled {
            self.row.state.lock().free += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::kafka::response::Response;

    fn answer(byte: u8) -> Queued {
        Queued::Ready(Response::from_bytes(Bytes::copy_from_slice(&[byte])))
    }

    fn bytes(answer: Option<Queued>) -> Option<Vec<u8>> {
        answer.map(|answer| match answer {
            Queued::Ready(response) => response.to_vec(),
            Queued::Waiting(..) => unreachable!("none was put in"),
        })
    }

    #[test]
    fn answers_come_in_their_order_and_free_their_places() {
        let row = AnswerRow::new(2);
        let (first, second) = (row.try_place().unwrap(), row.try_place().unwrap());
        assert!(row.try_place().is_none());
        assert!(row.place().now_or_never().is_none());
        first.fill(answer(1));
        drop(second);
        row.try_place().unwrap().fill(answer(2));
        assert!(row.try_place().is_none());
        assert_eq!(bytes(row.try_next()), Some(vec![1]));
        row.place().now_or_never().unwrap().fill(answer(3));
        assert_eq!(bytes(row.next().now_or_never().unwrap()), Some(vec![2]));
        row.close();
        assert_eq!(bytes(row.next().now_or_never().unwrap()), Some(vec![3]));
        assert_eq!(bytes(row.next().now_or_never().unwrap()), None);
    }

    #[test]
    fn whoever_polls_both_halves_hears_of_what_was_put_in_once() {
        let row = AnswerRow::new(1);
        assert!(!row.take_news());
        assert!(row.next().now_or_never().is_none());
        row.try_place().unwrap().fill(answer(1));
        assert!(row.take_news());
        assert!(!row.take_news());
        let mut handing_on = Box::pin(row.hand_on());
        assert!((&mut handing_on).now_or_never().is_none());
        assert!(row.take_news());
        assert!(handing_on.now_or_never().is_some());
        assert!(!row.take_news());
    }
}
