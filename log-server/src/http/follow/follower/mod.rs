//! A reader of several partitions at once: a [`Cursor`] for each of them, and nothing else.
//! No record waits in memory but those that are being sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log_core::model::{Offset, TopicId};
use tokio::time::{Instant, sleep_until};

use super::event::Form;
use super::filter::Filter;
use super::passage::Passage;
use super::position::Positions;
use crate::http::cursor::{end_for, is_quick, reading};
use crate::http::memory::Held;
use crate::http::problem::{Code, Problem};
use crate::http::record_output::Encodings;
use crate::http::services::ReadingMeans;
use crate::partition::error::PartitionError;
use crate::partition::fetch_waiter::{FetchWaiter, WatchGuard};
use crate::partition::offset_query::blocking;
use crate::partition::partition::{Isolation, Partition};
use crate::partition::registry::PartitionRegistry;

/// Partitions of one follower: each record carries the places in all of them.
pub(super) const PARTITIONS_MAX: usize = 256;
/// What is read of a partition at once.
const READ_BYTES: usize = 256 << 10;
/// So much of the log is looked at before other tasks of the thread get their turn.
const TURN_BYTES: usize = 64 << 10;
/// What is sent at once.
const SEND_BYTES: usize = 64 << 10;
/// The same of batches that are work to unpack: whoever sends little of them unpacks them again for the next piece.
const SEND_BYTES_OF_LARGE: usize = 1 << 20;

/// A partition and where its follower stands in it.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) partition: Arc<Partition>,
    pub(super) index: i32,
    pub(super) next: Offset,
    /// Where it is done.
    pub(super) end: Option<Offset>,
}

/// What a reader wants of each partition.
pub(super) struct Wishes {
    pub(super) form: Form,
    pub(super) isolation: Isolation,
    pub(super) filter: Arc<Filter>,
    pub(super) encodings: Encodings,
    /// So many records.
    pub(super) limit: Option<u64>,
    /// How often something is sent.
    pub(super) heartbeat: Duration,
}

/// Where the partitions of a topic are found that are added while it is followed.
pub(super) struct Growth {
    pub(super) registry: Arc<PartitionRegistry>,
    pub(super) topic: TopicId,
}

/// A reader, and what it has yet to be sent.
pub(super) struct Follower {
    wishes: Wishes,
    means: ReadingMeans,
    cursors: Vec<Cursor>,
    growth: Option<Growth>,
    /// Whose turn it is, so that a busy partition does not keep the others waiting.
    turn: usize,
    /// Records that are yet wanted.
    left: Option<u64>,
    sent_at: Instant,
    /// What was looked at since others had their turn.
    looked_at: usize,
    waiter: Arc<FetchWaiter>,
    watches: Vec<WatchGuard>,
    output: VecDeque<Bytes>,
    is_over: bool,
}

/// More partitions than one follower may have.
pub(super) fn too_many_partitions() -> Problem {
    Problem::invalid(format!(
        "at most {PARTITIONS_MAX} partitions can be followed at once: name some with partitions=0,1,2"
    ))
}

impl Follower {
    /// A follower that first says what `output` has.
    pub(super) fn new(
        cursors: Vec<Cursor>,
        output: Vec<Bytes>,
        growth: Option<Growth>,
        wishes: Wishes,
        means: ReadingMeans,
    ) -> Self {
        let waiter = FetchWaiter::new();
        // First watch, then look: what comes between the two is seen by the look.
        let watches = cursors
            .iter()
            .map(|cursor| cursor.partition.watch(&waiter))
            .collect();
        Self {
            left: wishes.limit,
            wishes,
            means,
            cursors,
            growth,
            turn: 0,
            sent_at: Instant::now(),
            looked_at: 0,
            waiter,
            watches,
            output: output.into(),
            is_over: false,
        }
    }

    /// The next piece of the stream. A call that is given up loses nothing but time.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.output.pop_front() {
                self.sent_at = Instant::now();
                return Some(piece);
            }
            if self.is_over {
                return None;
            }
            if self.means.shutdown.is_requested() {
                self.end("stopping");
            } else if let Err(problem) = self.step().await {
                self.output.push_back(self.wishes.form.problem(&problem));
                self.is_over = true;
            }
        }
    }

    /// Reads a little, or waits for something to read.
    async fn step(&mut self) -> Result<(), Problem> {
        self.meet_new_partitions()?;
        let heartbeat = self.sent_at + self.wishes.heartbeat;
        // Also while there is something to read: a filter may find nothing in it for long.
        if heartbeat <= Instant::now() {
            self.output
                .push_back(self.wishes.form.heartbeat(&self.positions()));
            return Ok(());
        }
        if let Some(place) = self.readable() {
            return self.read(place).await;
        }
        if self.cursors.iter().all(Cursor::is_done) {
            self.end("until");
            return Ok(());
        }
        self.looked_at = 0;
        tokio::select! {
            biased;
            () = self.waiter.notified() => {}
            _ = self.means.shutdown.requested() => {}
            () = sleep_until(heartbeat) => {}
        }
        Ok(())
    }

    /// Takes in partitions that the topic was given meanwhile, from their first record on. What was followed is woken when they are made.
    fn meet_new_partitions(&mut self) -> Result<(), Problem> {
        let Some(Growth { registry, topic }) = &self.growth else {
            return Ok(());
        };
        while let Some((index, partition)) = i32::try_from(self.cursors.len())
            .ok()
            .and_then(|index| Some((index, registry.get_by_id(*topic, index)?)))
        {
            if self.cursors.len() == PARTITIONS_MAX {
                return Err(too_many_partitions());
            }
            self.watches.push(partition.watch(&self.waiter));
            self.cursors.push(Cursor {
                next: partition.offsets().log_start,
                partition,
                index,
                end: None,
            });
        }
        Ok(())
    }

    fn end(&mut self, reason: &str) {
        self.output.push_back(self.wishes.form.end(reason));
        self.is_over = true;
    }

    fn positions(&self) -> Positions {
        self.cursors
            .iter()
            .map(|cursor| (cursor.index, cursor.next))
            .collect()
    }

    /// A cursor that has something to read or to tell, the next in turn first.
    fn readable(&mut self) -> Option<usize> {
        let count = self.cursors.len();
        let place = (0..count).map(|step| (self.turn + step) % count).find(|place| {
            let cursor = self.cursors.get(*place);
            cursor.is_some_and(|cursor| cursor.has_news(self.wishes.isolation))
        })?;
        self.turn = place + 1;
        Some(place)
    }

    /// Reads on in one partition, and puts what is wanted of it into the output.
    async fn read(&mut self, place: usize) -> Result<(), Problem> {
        let Some(cursor) = self.cursors.get(place) else {
            return Ok(());
        };
        let (index, from, end) = (cursor.index, cursor.next, cursor.end);
        let read = reading(from, READ_BYTES, self.wishes.isolation);
        let slice = match cursor.partition.read_patiently(read).await {
            Ok(slice) => slice,
            Err(PartitionError::OffsetOutOfRange { log_start, .. }) if from < log_start => {
                self.output
                    .push_back(self.wishes.form.gap(index, from, log_start));
                self.moved(place, log_start);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.looked_at += slice.records.len();
        let mut passage = Passage {
            form: self.wishes.form,
            filter: Arc::clone(&self.wishes.filter),
            encodings: self.wishes.encodings,
            positions: self.positions(),
            index,
            end,
            records_max: self.left.unwrap_or(u64::MAX),
            bytes_max: SEND_BYTES,
        };
        let mut held = Held::default();
        let passed = if is_quick(&slice) {
            passage.make(&slice, from)?
        } else {
            if self.means.memory.grow(&mut held, SEND_BYTES_OF_LARGE).is_ok() {
                passage.bytes_max = SEND_BYTES_OF_LARGE;
            }
            let turn = Arc::clone(&self.means.decoders).acquire_owned().await;
            let turn = turn.map_err(|_| Problem::new(Code::Stopping, "the broker is stopping"))?;
            blocking(move || {
                let passed = passage.make(&slice, from);
                drop(turn);
                passed
            })
            .await??
        };
        if let Some(cursor) = self.cursors.get(place) {
            cursor
                .partition
                .count_sent_records(passed.records, passed.bytes.len());
        }
        self.moved(place, passed.next);
        if !passed.bytes.is_empty() {
            self.output.push_back(held.with(passed.bytes));
        }
        if let Some(left) = &mut self.left {
            *left -= passed.records;
            if *left == 0 {
                self.end("limit");
            }
        }
        // Readers that are far behind must not hold the thread; those that are not have their record sent first.
        if TURN_BYTES <= self.looked_at {
            self.looked_at = 0;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn moved(&mut self, place: usize, next: Offset) {
        if let Some(cursor) = self.cursors.get_mut(place) {
            cursor.next = next;
        }
    }
}

impl Cursor {
    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| end <= self.next)
    }

    fn has_news(&self, isolation: Isolation) -> bool {
        if self.is_done() {
            return false;
        }
        let condition = self.partition.condition();
        let Ok(reader) = condition.reader() else {
            // Why not is for the reader to hear.
            return true;
        };
        let offsets = reader.offsets();
        self.next < offsets.log_start || self.next < end_for(isolation, &offsets)
    }
}

#[cfg(test)]
mod tests;
