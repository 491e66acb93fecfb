//! Records become batches, one or more for each partition, in the order in which they came.
//!
//! A record's bytes are copied once, into its batch. Where a record goes is decided as Kafka's clients do: by its own word, by the hash of
//! its key, or, without either, to one partition for as long as these batches are gathered.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use log_core::model::{ProducerEpoch, ProducerId, Sequence, TimestampMs};
use log_core::partitioner::partition_for_key;
use log_core::record::batch_builder::{AppendError, BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::record::{RecordHeader, record_size_max};

use crate::http::problem::{Code, Problem};
use crate::http::services::Services;
use crate::metadata::image::TopicImage;
use crate::partition::partition::Partition;

/// A batch is closed at this size, or at the topic's `max.message.bytes` if that is smaller.
const BATCH_BYTES: usize = 1 << 20;

/// Where a record found its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    /// Which batch, in the order in which they were begun.
    pub(super) batch: usize,
    /// Which record of it.
    pub(super) index: u32,
    /// The partition.
    pub(super) partition: i32,
    /// The record's time.
    pub(super) timestamp: TimestampMs,
}

/// What a record is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) partition: Option<i32>,
    pub(super) timestamp: Option<TimestampMs>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [RecordHeader<'a>],
}

/// A batch that takes no more.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) partition: Arc<Partition>,
    /// The partition's number.
    pub(super) index: i32,
    pub(super) records: Bytes,
    pub(super) record_count: u32,
}

impl Sealed {
    pub(super) fn record_count(&self) -> usize {
        usize::try_from(self.record_count).unwrap_or(usize::MAX)
    }
}

/// Batches in the making.
#[derive(Debug)]
pub(super) struct Batches {
    services: Arc<Services>,
    topic: Arc<TopicImage>,
    now: TimestampMs,
    /// Where records without key and partition go.
    sticky: i32,
    producer: ProducerId,
    open: HashMap<i32, Open>,
    /// In the order in which they were begun; those that are open have a gap here.
    sealed: Vec<Option<Sealed>>,
    bytes: usize,
}

#[derive(Debug)]
struct Open {
    partition: Arc<Partition>,
    draft: Draft,
    place: usize,
    limit: usize,
    batch_count: usize,
    record_count: i32,
}

/// A batch that takes records yet.
#[derive(Debug)]
struct Draft {
    builder: BatchBuilder,
    /// What it has at most. The true size depends on the records' times, which the broker may have given: a body that comes again must be cut
    /// where it was cut before, or its sequences would not be the same.
    bytes_max: usize,
}

impl Draft {
    fn new(builder: BatchBuilder) -> Self {
        Self {
            bytes_max: builder.estimated_size(),
            builder,
        }
    }

    fn has_room(&self, size: usize, limit: usize) -> bool {
        self.builder.is_empty() || self.bytes_max.saturating_add(size) <= limit
    }

    fn append(
        &mut self,
        timestamp: TimestampMs,
        record: &Parts<'_>,
        size: usize,
    ) -> Result<u32, AppendError> {
        let (key, value, headers) = (record.key, record.value, record.headers);
        let index = self.builder.append(timestamp, key, value, headers)?;
        self.bytes_max += size;
        Ok(index)
    }
}

impl Batches {
    /// No batches yet, for records of a topic.
    pub(super) fn new(services: &Arc<Services>, topic: &Arc<TopicImage>) -> Self {
        Self {
            services: Arc::clone(services),
            topic: Arc::clone(topic),
            now: services.clock.now(),
            sticky: fastrand::i32(0..topic.partition_count.max(1)),
            producer: ProducerId::NONE,
            open: HashMap::new(),
            sealed: Vec::new(),
            bytes: 0,
        }
    }

    /// The same, as a producer writes them whose sequences begin with 0; `sticky` instead of chance.
    pub(super) fn of_producer(
        services: &Arc<Services>,
        topic: &Arc<TopicImage>,
        producer: ProducerId,
        sticky: i32,
    ) -> Self {
        Self {
            sticky,
            producer,
            ..Self::new(services, topic)
        }
    }

    /// The bytes that were gathered.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing was gathered.
    pub(super) fn is_empty(&self) -> bool {
        self.sealed.is_empty()
    }

    /// The largest number of batches that one partition got.
    pub(super) fn batches_of_a_partition(&self) -> usize {
        self.open.values().map(|open| open.batch_count).max().unwrap_or(0)
    }

    /// Takes a record in.
    pub(super) fn add(&mut self, record: Parts<'_>) -> Result<Seat, Problem> {
        let index = self.place_of(&record)?;
        let timestamp = record.timestamp.unwrap_or(self.now);
        let size = record_size_max(record.key, record.value, record.headers);
        let open = self.open_batch(index, size)?;
        let index_in_batch = open.draft.append(timestamp, &record, size).map_err(refusal)?;
        open.record_count += 1;
        let batch = open.place;
        self.bytes += size;
        Ok(Seat {
            batch,
            index: index_in_batch,
            partition: index,
            timestamp,
        })
    }

    /// All batches, in the order in which they were begun; one that got no record after all is a gap.
    pub(super) fn finish(mut self) -> Vec<Option<Sealed>> {
        for (index, open) in self.open.drain() {
            seal(&mut self.sealed, open.partition, index, open.draft, open.place);
        }
        self.sealed
    }

    fn place_of(&self, record: &Parts<'_>) -> Result<i32, Problem> {
        let count = self.topic.partition_count;
        match (record.partition, record.key) {
            (Some(partition), _) if (0..count).contains(&partition) => Ok(partition),
            (Some(partition), _) => {
                let text = format!(
                    "{} has no partition {partition}: it has {count}, counted from 0",
                    self.topic.name
                );
                Err(Problem::new(Code::UnknownPartition, text))
            }
            (None, Some(key)) => {
                let count = usize::try_from(count).unwrap_or(1).max(1);
                Ok(i32::try_from(partition_for_key(key, count)).unwrap_or(0))
            }
            (None, None) => Ok(self.sticky),
        }
    }

    /// A batch of the partition that has room for so many bytes.
    fn open_batch(&mut self, index: i32, size: usize) -> Result<&mut Open, Problem> {
        let options = |record_count: i32| BatchOptions {
            producer: if self.producer == ProducerId::NONE {
                BatchProducer::default()
            } else {
                BatchProducer {
                    id: self.producer,
                    epoch: ProducerEpoch::new(0),
                    base_sequence: Sequence::new(record_count),
                }
            },
            ..BatchOptions::default()
        };
        match self.open.entry(index) {
            std::collections::hash_map::Entry::Occupied(entry) => {
                let open = entry.into_mut();
                if !open.draft.has_room(size, open.limit) {
                    let next = Draft::new(BatchBuilder::with_capacity(options(open.record_count), size));
                    let full = std::mem::replace(&mut open.draft, next);
                    seal(
                        &mut self.sealed,
                        Arc::clone(&open.partition),
                        index,
                        full,
                        open.place,
                    );
                    open.place = self.sealed.len();
                    open.batch_count += 1;
                    self.sealed.push(None);
                }
                Ok(open)
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                let partition = self.services.partition(&self.topic, index)?;
                let limit = usize::try_from(partition.config().batch_bytes_max).unwrap_or(usize::MAX);
                let place = self.sealed.len();
                self.sealed.push(None);
                Ok(entry.insert(Open {
                    partition,
                    draft: Draft::new(BatchBuilder::with_capacity(options(0), size)),
                    place,
                    limit: limit.min(BATCH_BYTES),
                    batch_count: 1,
                    record_count: 0,
                }))
            }
        }
    }
}

fn seal(
    sealed: &mut [Option<Sealed>],
    partition: Arc<Partition>,
    index: i32,
    Draft { builder, .. }: Draft,
    place: usize,
) {
    let record_count = builder.record_count();
    // An open batch whose first record was refused has nothing to write.
    if let Some(gap) = sealed.get_mut(place).filter(|_| record_count != 0) {
        *gap = Some(Sealed {
            partition,
            index,
            records: builder.build(),
            record_count,
        });
    }
}

fn refusal(error: AppendError) -> Problem {
    let code = match error {
        AppendError::TooLarge { .. } => Code::TooLarge,
        AppendError::Timestamp { .. } => Code::InvalidTimestamp,
        AppendError::Offset { .. } => Code::Internal,
    };
    Problem::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records whose times the broker gives stand between two that have one. With another time of the broker the batch has another size.
    fn cut(now: i64, limit: usize) -> (u32, usize) {
        let mut draft = Draft::new(BatchBuilder::new(BatchOptions::default()));
        let record = |number: i64| Parts {
            partition: None,
            timestamp: (number % 2 == 0).then(|| TimestampMs::new(1)),
            key: None,
            value: Some(b"value"),
            headers: &[],
        };
        for number in 0.. {
            let record = record(number);
            let size = record_size_max(record.key, record.value, record.headers);
            if !draft.has_room(size, limit) {
                break;
            }
            let timestamp = record.timestamp.unwrap_or(TimestampMs::new(now));
            draft.append(timestamp, &record, size).unwrap();
        }
        (draft.builder.record_count(), draft.builder.estimated_size())
    }

    #[test]
    fn a_body_is_cut_at_the_same_records_whatever_the_time() {
        let (early, late) = (cut(2, 1000), cut(1_769_860_800_000, 1000));
        assert_eq!(early.0, late.0);
        assert!(early.1 < late.1 && late.1 <= 1000, "{early:?} {late:?}");
    }
}
