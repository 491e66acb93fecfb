//! One answer's worth of records: read, unpacked, written as the answer wants them, and waited for if there is none.
//!
//! The byte limit counts the answer, not the log: a small batch may unpack to much. An answer whose making takes long is made on a thread for
//! such work, and only so many at once.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use log_core::log::LogOffsets;
use log_core::model::{Offset, TimestampMs};
use log_core::record::batch::batches;
use tokio::time::{Instant, sleep_until};

use super::format::Format;
use crate::http::cursor::{end_for, is_quick, reading, walk};
use crate::http::problem::{Code, Problem};
use crate::http::record_output::{Encodings, write_record};
use crate::http::services::Services;
use crate::partition::fetch_waiter::FetchWaiter;
use crate::partition::offset_query::blocking;
use crate::partition::partition::{Isolation, Partition, PartitionSlice};

/// How much an answer has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// A question for records.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) services: &'a Services,
    pub(super) partition: &'a Arc<Partition>,
    pub(super) isolation: Isolation,
    pub(super) format: Format,
    pub(super) limits: Limits,
    pub(super) encodings: Encodings,
}

/// Records as the answer has them.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) body: Bytes,
    /// Offset and time of the first record.
    pub(super) first: Option<(Offset, TimestampMs)>,
    pub(super) next_offset: Offset,
    pub(super) offsets: LogOffsets,
}

impl Reading<'_> {
    /// Reads from `offset` on; with `until` set, waits as long for the first record.
    pub(super) async fn read(&self, offset: Offset, until: Option<Instant>) -> Result<Page, Problem> {
        let page = self.read_or_wait(offset, until).await?;
        if let Some((first, _)) = page.first {
            let records = page.next_offset.minus(first).max(0).cast_unsigned();
            self.partition.count_sent_records(records, page.body.len());
        }
        Ok(page)
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

    /// Reads what is there, on past what is no record.
    async fn look(&self, mut offset: Offset) -> Result<Page, Problem> {
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
        }
    }

    async fn page(&self, slice: PartitionSlice, from: Offset) -> Result<Page, Problem> {
        let (format, limits, encodings) = (self.format, self.limits, self.encodings);
        if format == Format::Batches {
            return whole_batches(&slice, from);
        }
        if is_quick(&slice) {
            return make(&slice, from, format, limits, encodings);
        }
        let turn = Arc::clone(&self.services.decoders).acquire_owned().await;
        let turn = turn.map_err(|_| Problem::new(Code::Stopping, "the broker is stopping"))?;
        blocking(move || {
            let page = make(&slice, from, format, limits, encodings);
            drop(turn);
            page
        })
        .await?
    }
}

/// Batches as they are; the last one is cut off if it is not whole.
fn whole_batches(slice: &PartitionSlice, from: Offset) -> Result<Page, Problem> {
    let mut walk = batches(&slice.records);
    let (mut next, mut first) = (from, None);
    for batch in walk.by_ref() {
        let batch = batch.map_err(|error| Problem::new(Code::Storage, error.to_string()))?;
        let header = batch.header();
        first = first.or(Some((header.base_offset, header.max_timestamp)));
        next = header.next_offset();
    }
    let length = walk.position();
    Ok(Page {
        body: slice.records.slice(..length),
        first,
        next_offset: next,
        offsets: slice.offsets,
    })
}

fn make(
    slice: &PartitionSlice,
    from: Offset,
    format: Format,
    limits: Limits,
    encodings: Encodings,
) -> Result<Page, Problem> {
    let (mut body, mut first, mut left) = (Vec::new(), None, limits.records);
    let next_offset = walk(slice, from, |record| {
        first = first.or(Some((record.offset, record.timestamp)));
        match format {
            Format::Value => {
                body.extend_from_slice(record.value.unwrap_or_default());
                return ControlFlow::Break(());
            }
            Format::Ndjson | Format::Batches => {
                write_record(&mut body, record, None, encodings);
                body.push(b'\n');
            }
            Format::Json => {
                if !body.is_empty() {
                    body.push(b',');
                }
                write_record(&mut body, record, None, encodings);
            }
        }
        left -= 1;
        if left == 0 || limits.bytes <= body.len() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(Page {
        body: Bytes::from(body),
        first,
        next_offset,
        offsets: slice.offsets,
    })
}
