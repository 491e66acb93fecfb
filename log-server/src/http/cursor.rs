//! A place in a partition from which records are read on: what fetching and following share.
//!
//! A cursor passes over what is no record for readers (control batches, aborted transactions, gaps that compaction left) and moves on behind
//! it, so that whoever goes on from its place finds something new. Unpacking is done off the runtime's threads where it is much.

use std::ops::ControlFlow;
use std::sync::Arc;

use log_core::index::transaction_index::AbortedTransaction;
use log_core::model::Offset;
use log_core::record::batch::{Batch, batches};
use log_core::record::compression::{Compression, DECOMPRESSED_BYTES_MAX};
use log_core::record::record::Record;

use crate::http::error::out_of_range;
use crate::http::parameters::{Start, Time};
use crate::http::problem::{Code, Problem};
use crate::partition::offset_query::OffsetQuery;
use crate::partition::partition::{Isolation, Partition, PartitionRead, PartitionSlice};

/// Batches up to this size are looked at where the request runs, if they are not compressed.
const QUICK_BYTES_MAX: usize = 64 << 10;

/// Where reading begins, as an offset of the partition. An offset outside of it is a problem.
pub(crate) async fn start_offset(
    partition: &Arc<Partition>,
    start: Option<Start>,
    time: Option<Time>,
    isolation: Isolation,
) -> Result<Offset, Problem> {
    let condition = partition.condition();
    let offsets = condition.reader()?.offsets();
    let end = end_for(isolation, &offsets);
    let offset = match (start, time) {
        (Some(_), Some(_)) => return Err(Problem::invalid("give offset or time, not both")),
        (None, Some(time)) => {
            let found = partition
                .offset_for(OffsetQuery::Timestamp(time.0), isolation)
                .await?;
            found.map_or(end, |found| found.offset)
        }
        (None | Some(Start::Earliest), None) => offsets.log_start,
        (Some(Start::Latest), None) => end,
        (Some(Start::BeforeEnd(count)), None) => {
            Offset::new(end.get().saturating_sub(count)).max(offsets.log_start)
        }
        // Only what a client names can lie outside; what was looked up is there, though the end may have moved behind it meanwhile.
        (Some(Start::Offset(offset)), None) => {
            let offset = Offset::new(offset);
            if offset < offsets.log_start || offsets.high_watermark < offset {
                return Err(out_of_range(offset.get(), offsets));
            }
            offset
        }
    };
    Ok(offset)
}

/// Where a partition ends for a reader.
pub(crate) fn end_for(isolation: Isolation, offsets: &log_core::log::LogOffsets) -> Offset {
    match isolation {
        Isolation::Uncommitted => offsets.high_watermark,
        Isolation::Committed => offsets.last_stable,
    }
}

/// What is asked of one read.
pub(crate) fn reading(offset: Offset, bytes_max: usize, isolation: Isolation) -> PartitionRead {
    PartitionRead {
        offset,
        bytes_max,
        at_least_one_batch: true,
        isolation,
    }
}

/// Whether a slice is so little work that no other thread need do it.
pub(crate) fn is_quick(slice: &PartitionSlice) -> bool {
    let is_plain = |batch: Result<Batch<'_>, _>| {
        batch.is_ok_and(|batch| batch.header().compression() == Compression::None)
    };
    slice.records.len() <= QUICK_BYTES_MAX && batches(&slice.records).all(is_plain)
}

/// Gives each record from `from` on to `take`, until it has enough; gives the offset to go on from.
pub(crate) fn walk(
    slice: &PartitionSlice,
    from: Offset,
    mut take: impl FnMut(&Record<'_>) -> ControlFlow<()>,
) -> Result<Offset, Problem> {
    let mut next = from;
    let mut scratch = Vec::new();
    for batch in batches(&slice.records) {
        let batch = batch.map_err(|error| damaged(&error))?;
        let end = batch.header().next_offset();
        if end <= from {
            continue;
        }
        if !is_hidden(&batch, slice) {
            let records = batch.records(&mut scratch, DECOMPRESSED_BYTES_MAX);
            for record in records.map_err(|error| damaged(&error))? {
                let record = record.map_err(|error| damaged(&error))?;
                if record.offset < next {
                    continue;
                }
                if take(&record).is_break() {
                    return Ok(record.offset.plus(1));
                }
            }
        }
        next = end;
    }
    Ok(next)
}

fn damaged(error: &impl ToString) -> Problem {
    Problem::new(
        Code::Storage,
        format!("a batch cannot be read: {}", error.to_string()),
    )
}

/// Whether readers do not see a batch: it is a marker, or belongs to a transaction that was aborted.
pub(crate) fn is_hidden(batch: &Batch<'_>, slice: &PartitionSlice) -> bool {
    let header = batch.header();
    if header.attributes.is_control() {
        return true;
    }
    let covers = |transaction: &AbortedTransaction| {
        transaction.producer_id == header.producer_id
            && (transaction.first_offset..=transaction.last_offset).contains(&header.base_offset)
    };
    header.attributes.is_transactional() && slice.aborted.iter().any(covers)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use log_core::log::LogOffsets;
    use log_core::model::{ProducerEpoch, ProducerId, Sequence, TimestampMs};
    use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
    use log_core::record::control::{EndTransactionMarker, TransactionOutcome};

    use super::*;

    fn batch(base_offset: i64, producer: i64, values: &[&str]) -> Vec<u8> {
        let options = BatchOptions {
            base_offset: Offset::new(base_offset),
            transactional: 0 <= producer,
            compression: Compression::Zstd,
            producer: BatchProducer {
                id: ProducerId::new(producer),
                epoch: ProducerEpoch::new(0),
                base_sequence: Sequence::new(0),
            },
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        for value in values {
            builder
                .append(TimestampMs::new(1), None, Some(value.as_bytes()), &[])
                .unwrap();
        }
        builder.build().to_vec()
    }

    fn seen(bytes: Vec<u8>, aborted: &[(i64, i64, i64)], from: i64, limit: usize) -> (Vec<String>, i64) {
        let slice = PartitionSlice {
            records: Bytes::from(bytes),
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
        let mut values = Vec::new();
        let next = walk(&slice, Offset::new(from), |record| {
            values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            if values.len() == limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        (values, next.unwrap().get())
    }

    #[test]
    fn a_walk_begins_inside_of_a_batch_and_ends_inside_of_another() {
        let bytes = [batch(0, -1, &["a", "b", "c"]), batch(3, -1, &["d", "e"])].concat();
        assert_eq!(
            seen(bytes.clone(), &[], 1, 3),
            (vec!["b".into(), "c".into(), "d".into()], 4)
        );
        assert_eq!(seen(bytes.clone(), &[], 4, 9), (vec!["e".into()], 5));
        let cut = bytes.len() - 1;
        assert_eq!(seen(bytes[..cut].to_vec(), &[], 2, 9), (vec!["c".into()], 3));
    }

    #[test]
    fn markers_and_what_was_aborted_are_passed_over() {
        let marker = |offset: i64, producer: i64, outcome: TransactionOutcome| {
            let marker = EndTransactionMarker {
                outcome,
                coordinator_epoch: 0,
            };
            let batch = marker.to_batch(
                ProducerId::new(producer),
                ProducerEpoch::new(0),
                TimestampMs::new(1),
            );
            let mut bytes = batch.to_vec();
            bytes.get_mut(..8).unwrap().copy_from_slice(&offset.to_be_bytes());
            bytes
        };
        let bytes = [
            batch(0, 7, &["aborted"]),
            batch(1, 8, &["committed"]),
            marker(2, 7, TransactionOutcome::Abort),
            batch(3, 7, &["of the next transaction"]),
            marker(4, 8, TransactionOutcome::Commit),
        ]
        .concat();
        let (values, next) = seen(bytes, &[(7, 0, 2)], 0, 9);
        assert_eq!(values, ["committed", "of the next transaction"]);
        assert_eq!(next, 5);
    }
}
