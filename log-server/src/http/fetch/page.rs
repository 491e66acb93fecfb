//! One answer's worth of records: read, unpacked, written as the answer wants them, and waited for if there is none.
//!
//! The byte limit counts the answer, not the log: a small batch may unpack to much. An answer whose making takes long is made on a thread for
//! such work, and only so many at once. What was made pays for its memory until it is sent; batches that stand in the log as they are take none.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use log_core::log::LogOffsets;
use log_core::model::{Offset, TimestampMs};
use log_core::record::batch::batches;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::format::Format;
use crate::http::cursor::{end_for, is_hidden, is_quick, reading, walk};
use crate::http::problem::{Code, Problem};
use crate::http::record_output::{Encodings, write_record};
use crate::http::services::Services;
use crate::partition::fetch_waiter::FetchWaiter;
use crate::partition::offset_query::blocking;
use crate::partition::partition::{Isolation, Partition, PartitionSlice};

const RECORDS: usize = 1000;
const RECORDS_MAX: usize = 100_000;
const BYTES: usize = 1 << 20;
const BYTES_MAX: usize = 16 << 20;

/// How much an answer has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    records: usize,
    bytes: usize,
}

/// A question for records.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) services: &'a Services,
    pub(crate) partition: &'a Arc<Partition>,
    pub(crate) isolation: Isolation,
    pub(crate) format: Format,
    pub(crate) limits: Limits,
    pub(crate) encodings: Encodings,
}

/// Records as the answer has them.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) body: PageBody,
    /// Offset and time of the first record.
    pub(crate) first: Option<(Offset, TimestampMs)>,
    pub(crate) next_offset: Offset,
    pub(crate) offsets: LogOffsets,
}

/// The bytes of a page.
#[derive(Debug)]
pub(crate) enum PageBody {
    /// Made for it. JSON lacks its end, which says where to go on.
    Made(Vec<u8>),
    /// As they stand in the log.
    Stored(Bytes),
}

impl Limits {
    /// What a request asks for, checked.
    pub(crate) fn new(records: Option<usize>, bytes: Option<usize>) -> Result<Self, Problem> {
        let limits = Self {
            records: records.unwrap_or(RECORDS),
            bytes: bytes.unwrap_or(BYTES),
        };
        if !(1..=RECORDS_MAX).contains(&limits.records) {
            return Err(Problem::invalid(format!("limit is 1 to {RECORDS_MAX}")));
        }
        if !(1..=BYTES_MAX).contains(&limits.bytes) {
            return Err(Problem::invalid(format!("bytes is 1 to {BYTES_MAX}")));
        }
        Ok(limits)
    }
}

impl PageBody {
    fn len(&self) -> usize {
        match self {
            Self::Made(bytes) => bytes.len(),
            Self::Stored(bytes) => bytes.len(),
        }
    }

    /// What a page takes of the memory that was made for it.
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::Made(bytes) => bytes.capacity(),
            Self::Stored(_) => 0,
        }
    }
}

impl Reading<'_> {
    /// Reads from `offset` on; with `until` set, waits as long for the first record.
    pub(crate) async fn read(&self, offset: Offset, until: Option<Instant>) -> Result<Page, Problem> {
        let page = self.read_or_wait(offset, until).await?;
        self.count(&page);
        Ok(page)
    }

    /// Counts a page that is sent.
    pub(crate) fn count(&self, page: &Page) {
        if let Some((first, _)) = page.first {
            let records = page.next_offset.minus(first).max(0).cast_unsigned();
            self.partition.count_sent_records(records, page.body.len());
        }
    }

    async fn read_or_wait(&self, offset: Offset, until: Option<Instant>) -> Result<Page, Problem> {
        let mut page = self.look(offset).await?;
        let Some(until) = until else {
            return Ok(page);
        };
        let _counted = self.services.partitions.metrics().waiting_fetches.hold();
        let waiter = FetchWaiter::new();
        // First watch, then look: what comes between the two is seen by the look.
        let _watch = self.partition.watch(&waiter);
        let mut shutdown = self.services.shutdown.clone();
        while page.first.is_none() {
            let end = end_for(self.isolation, &self.partition.offsets());
            if page.next_offset < end || self.partition.condition().reader().is_err() {
                page = self.look(page.next_offset).await?;
                continue;
            }
            tokio::select! {
                biased;
                () = waiter.notified() => {}
                () = sleep_until(until) => break,
                _ = shutdown.requested() => break,
            }
        }
        Ok(page)
    }

    /// Reads what is there, on past what is no record. Counts nothing.
    pub(crate) async fn look(&self, mut offset: Offset) -> Result<Page, Problem> {
        loop {
            let read = reading(offset, self.limits.bytes, self.isolation);
            let slice = self.partition.read_patiently(read).await?;
            let end = end_for(self.isolation, &slice.offsets);
            let page = self.page(slice, offset).await?;
            let is_stuck = page.next_offset == offset;
            if page.first.is_some() || end <= page.next_offset || is_stuck {
                return Ok(page);
            }
            offset = page.next_offset;
            // Much may have to be passed over before there is a record.
            yield_now().await;
        }
    }

    async fn page(&self, slice: PartitionSlice, from: Offset) -> Result<Page, Problem> {
        if self.format == Format::Batches {
            return whole_batches(&slice, from);
        }
        let making = Making {
            opening: self.format.opening(self.partition.name()),
            format: self.format,
            limits: self.limits,
            encodings: self.encodings,
        };
        if is_quick(&slice) {
            return making.make(&slice, from);
        }
        let turn = Arc::clone(&self.services.decoders).acquire_owned().await;
        let turn = turn.map_err(|_| Problem::new(Code::Stopping, "the broker is stopping"))?;
        blocking(move || {
            let page = making.make(&slice, from);
            drop(turn);
            page
        })
        .await?
    }
}

/// Batches as they are, without those of aborted transactions unless those are wanted; the last one is left out if it is not whole.
fn whole_batches(slice: &PartitionSlice, from: Offset) -> Result<Page, Problem> {
    let mut walk = batches(&slice.records);
    let (mut next, mut first) = (from, None);
    let (mut begin, mut runs) = (0, Vec::new());
    loop {
        let place = walk.position();
        let Some(batch) = walk.next() else {
            runs.push(slice.records.slice(begin..place));
            break;
        };
        let batch = batch.map_err(|error| Problem::new(Code::Storage, error.to_string()))?;
        let header = batch.header();
        next = header.next_offset();
        // Readers of batches know markers, which say where they stand, and have no list of what was aborted.
        if is_hidden(&batch, slice) && !header.attributes.is_control() {
            runs.push(slice.records.slice(begin..place));
            begin = walk.position();
            continue;
        }
        first = first.or(Some((header.base_offset, header.max_timestamp)));
    }
    runs.retain(|run| !run.is_empty());
    let body = match runs.pop() {
        Some(run) if runs.is_empty() => PageBody::Stored(run),
        last => PageBody::Made(runs.into_iter().chain(last).collect::<Vec<_>>().concat()),
    };
    Ok(Page {
        body,
        first,
        next_offset: next,
        offsets: slice.offsets,
    })
}

/// How a page is made of records.
struct Making {
    opening: Vec<u8>,
    format: Format,
    limits: Limits,
    encodings: Encodings,
}

impl Making {
    fn make(self, slice: &PartitionSlice, from: Offset) -> Result<Page, Problem> {
        let (mut body, mut first, mut left) = (self.opening, None, self.limits.records);
        let next_offset = walk(slice, from, |record| {
            let is_first = first.is_none();
            first = first.or(Some((record.offset, record.timestamp)));
            match self.format {
                Format::Value => {
                    body.extend_from_slice(record.value.unwrap_or_default());
                    return ControlFlow::Break(());
                }
                Format::Ndjson | Format::Batches => {
                    write_record(&mut body, record, None, self.encodings);
                    body.push(b'\n');
                }
                Format::Json => {
                    if !is_first {
                        body.push(b',');
                    }
                    write_record(&mut body, record, None, self.encodings);
                }
            }
            left -= 1;
            if left == 0 || self.limits.bytes <= body.len() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(Page {
            body: PageBody::Made(body),
            first,
            next_offset,
            offsets: slice.offsets,
        })
    }
}

#[cfg(test)]
mod tests {
    use log_core::index::transaction_index::AbortedTransaction;
    use log_core::model::{ProducerEpoch, ProducerId, Sequence};
    use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
    use log_core::record::control::{EndTransactionMarker, TransactionOutcome};

    use super::*;

    fn batch(base_offset: i64, producer: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: Offset::new(base_offset),
            transactional: true,
            producer: BatchProducer {
                id: ProducerId::new(producer),
                epoch: ProducerEpoch::new(0),
                base_sequence: Sequence::new(0),
            },
            ..BatchOptions::default()
        });
        builder
            .append(TimestampMs::new(1), None, Some(b"x"), &[])
            .unwrap();
        builder.build().to_vec()
    }

    fn marker(offset: i64, producer: i64) -> Vec<u8> {
        let marker = EndTransactionMarker {
            outcome: TransactionOutcome::Abort,
            coordinator_epoch: 0,
        };
        let (id, epoch) = (ProducerId::new(producer), ProducerEpoch::new(0));
        let mut bytes = marker.to_batch(id, epoch, TimestampMs::new(1)).to_vec();
        bytes.get_mut(..8).unwrap().copy_from_slice(&offset.to_be_bytes());
        bytes
    }

    /// The base offsets of the batches that are given, the first offset, and where to go on.
    fn given(stored: &[Vec<u8>], aborted: &[(i64, i64, i64)]) -> (Vec<i64>, Option<i64>, i64) {
        let slice = PartitionSlice {
            records: Bytes::from(stored.concat()),
            offsets: LogOffsets::at(Offset::new(100)),
            aborted: aborted
                .iter()
                .map(|(producer, first, last)| AbortedTransaction {
                    producer_id: ProducerId::new(*producer),
                    first_offset: Offset::new(*first),
                    last_offset: Offset::new(*last),
                    last_stable_offset: Offset::new(*first),
                })
                .collect(),
        };
        let page = whole_batches(&slice, Offset::ZERO).unwrap();
        let bytes = match page.body {
            PageBody::Made(bytes) => bytes,
            PageBody::Stored(bytes) => bytes.to_vec(),
        };
        let found = batches(&bytes).map(|batch| batch.unwrap().header().base_offset.get());
        (
            found.collect(),
            page.first.map(|(offset, _)| offset.get()),
            page.next_offset.get(),
        )
    }

    #[test]
    fn aborted_batches_are_left_out_and_markers_stay() {
        let stored = [batch(0, 7), batch(1, 8), batch(2, 7), marker(3, 7), batch(4, 8)];
        assert_eq!(given(&stored, &[]), (vec![0, 1, 2, 3, 4], Some(0), 5));
        assert_eq!(given(&stored, &[(7, 0, 3)]), (vec![1, 3, 4], Some(1), 5));
        assert_eq!(given(&stored, &[(7, 0, 3), (8, 1, 9)]), (vec![3], Some(3), 5));
        assert_eq!(given(&stored[..1], &[(7, 0, 3)]), (vec![], None, 1));
        let mut torn = stored.clone();
        torn[4].pop();
        assert_eq!(given(&torn, &[(7, 0, 3)]), (vec![1, 3], Some(1), 4));
    }
}
