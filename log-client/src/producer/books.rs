//! What the producer has taken on: the memory of its records, and which batches `flush` waits for.
//!
//! Memory is counted per record and given back per batch. Batches are counted by generation: each `flush`
//! begins a new one, and waits until the older ones are empty.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::error::{Error, Result};
use crate::producer::transactions::Transactions;

/// The producer's accounts; shared by all that hold records.
#[derive(Debug)]
pub(crate) struct Books {
    memory_bytes: usize,
    memory: Semaphore,
    batches: Mutex<Batches>,
    /// What hears of records that fail, with a transactional producer.
    transactions: Option<Arc<Transactions>>,
    /// How many wait for batches to leave before their time.
    hurried: AtomicUsize,
    /// Tells the sender that there may be something to send.
    pub(crate) wake: Notify,
}

#[derive(Debug, Default)]
struct Batches {
    generation: u64,
    /// Open batches of each generation that has some, oldest first.
    open: VecDeque<(u64, usize)>,
    /// Whoever waits for this and all older generations.
    flushes: Vec<(u64, oneshot::Sender<()>)>,
}

impl Books {
    pub(crate) fn new(memory_bytes: usize, transactions: Option<Arc<Transactions>>) -> Self {
        Self {
            memory_bytes,
            transactions,
            memory: Semaphore::new(memory_bytes.min(Semaphore::MAX_PERMITS)),
            batches: Mutex::default(),
            hurried: AtomicUsize::new(0),
            wake: Notify::new(),
        }
    }

    /// A record has failed.
    pub(crate) fn failed(&self, error: &Error) {
        if let Some(transactions) = &self.transactions {
            transactions.record_failed(error);
        }
    }

    /// Takes memory for a record, waiting up to `max_block` for others to give theirs back.
    pub(crate) async fn reserve(&self, bytes: usize, max_block: Duration) -> Result<Reservation<'_>> {
        let permits = u32::try_from(bytes).ok().filter(|_| bytes <= self.memory_bytes);
        let permits = permits.ok_or(Error::RecordTooLarge {
            size: bytes,
            limit: self.memory_bytes,
        })?;
        if let Ok(permit) = self.memory.try_acquire_many(permits) {
            permit.forget();
            return Ok(Reservation { books: self, bytes });
        }
        let _hurry = self.hurry();
        match tokio::time::timeout(max_block, self.memory.acquire_many(permits)).await {
            Ok(Ok(permit)) => {
                permit.forget();
                Ok(Reservation { books: self, bytes })
            }
            Ok(Err(_)) => Err(Error::Closed("producer")),
            Err(_) => Err(Error::BufferFull {
                memory: self.memory_bytes,
                after: max_block,
            }),
        }
    }

    /// Makes whoever waits for memory fail: nothing is appended any more.
    pub(crate) fn close(&self) {
        self.memory.close();
    }

    /// Makes batches leave without lingering as long as the guard lives.
    pub(crate) fn hurry(&self) -> Hurry<'_> {
        self.hurried.fetch_add(1, Ordering::SeqCst);
        self.wake.notify_one();
        Hurry(self)
    }

    pub(crate) fn is_hurried(&self) -> bool {
        0 < self.hurried.load(Ordering::SeqCst)
    }

    /// One more batch of the current generation, which is returned.
    pub(crate) fn opened(&self) -> u64 {
        let mut batches = self.batches.lock();
        let current = batches.generation;
        match batches.open.back_mut() {
            Some((generation, count)) if *generation == current => *count += 1,
            _ => batches.open.push_back((current, 1)),
        }
        current
    }

    /// One more batch of a generation that has one already.
    pub(crate) fn opened_in(&self, generation: u64) {
        let mut batches = self.batches.lock();
        if let Some((_, count)) = batches.open.iter_mut().find(|(open, _)| *open == generation) {
            *count += 1;
        }
    }

    /// One batch less; its memory is free again.
    pub(crate) fn closed(&self, generation: u64, reserved: usize) {
        self.memory.add_permits(reserved);
        let mut batches = self.batches.lock();
        if let Some((_, count)) = batches.open.iter_mut().find(|(open, _)| *open == generation) {
            *count -= 1;
        }
        while batches.open.front().is_some_and(|(_, count)| *count == 0) {
            batches.open.pop_front();
        }
        if !batches.flushes.is_empty() {
            batches.tell_flushes();
        }
    }

    /// Waits until every batch that is open now is done, well or badly.
    pub(crate) async fn flush(&self) {
        let (done, all_done) = oneshot::channel();
        {
            let mut batches = self.batches.lock();
            let waits_for = batches.generation;
            batches.generation += 1;
            batches.flushes.push((waits_for, done));
            batches.tell_flushes();
        }
        let _hurry = self.hurry();
        // It is never dropped untold: these books outlive this call.
        all_done.await.ok();
    }
}

impl Batches {
    fn tell_flushes(&mut self) {
        let oldest = self.open.front().map(|(generation, _)| *generation);
        let is_done = |waits_for: u64| oldest.is_none_or(|oldest| waits_for < oldest);
        for (_, done) in self
            .flushes
            .extract_if(.., |(waits_for, done)| is_done(*waits_for) || done.is_closed())
        {
            // Whoever waited may have stopped.
            done.send(()).ok();
        }
    }
}

/// Memory that no batch has yet; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    books: &'a Books,
    bytes: usize,
}

impl Reservation<'_> {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The batch that took it gives it back by [`Books::closed`].
    pub(crate) fn hand_over(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.books.memory.add_permits(self.bytes);
    }
}

/// Keeps batches from lingering.
#[derive(Debug)]
pub(crate) struct Hurry<'a>(&'a Books);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.hurried.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn flush_waits_for_older_batches_only() {
        let books = Books::new(10, None);
        assert!(books.flush().now_or_never().is_some(), "nothing is open");
        let first = books.opened();
        let mut flush = Box::pin(books.flush());
        assert!(flush.as_mut().now_or_never().is_none());
        assert!(books.is_hurried());
        let second = books.opened();
        assert_ne!(first, second);
        books.closed(first, 0);
        assert!(flush.as_mut().now_or_never().is_some());
        drop(flush);
        assert!(!books.is_hurried());
        assert!(books.flush().now_or_never().is_none(), "the second is open");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_waited_for_and_given_back() {
        let books = Arc::new(Books::new(100, None));
        let soon = Duration::from_secs(1);
        books.reserve(60, soon).await.unwrap().hand_over();
        drop(books.reserve(40, soon).await.unwrap());
        assert!(matches!(
            books.reserve(101, soon).await,
            Err(Error::RecordTooLarge { limit: 100, .. })
        ));
        assert!(matches!(
            books.reserve(50, soon).await,
            Err(Error::BufferFull { .. })
        ));

        let generation = books.opened();
        let waiting = {
            let books = Arc::clone(&books);
            tokio::spawn(async move { books.reserve(50, soon).await.map(|memory| memory.bytes()) })
        };
        tokio::task::yield_now().await;
        assert!(books.is_hurried());
        books.closed(generation, 60);
        assert_eq!(waiting.await.unwrap().unwrap(), 50);
        assert!(!books.is_hurried());
    }
}
