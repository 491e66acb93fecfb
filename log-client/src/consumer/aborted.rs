//! Which batches of a fetch belong to aborted transactions.
//!
//! A response at the level `read_committed` names the aborted transactions that its batches may belong to, each by its
//! producer and the offset of its first record there. A transaction lasts until its producer's next marker, so the batches
//! are gone through in order, and a producer counts as aborting from that offset to its marker of an abort.

use std::collections::BTreeSet;

use log_core::model::{Offset, ProducerId};
use log_core::record::batch::Batch;
use log_core::record::control::{ControlRecord, EndTransactionMarker, TransactionOutcome};

/// What a response says of aborted transactions, and how far its batches were gone through.
#[derive(Debug, Default)]
pub(crate) struct AbortedTransactions {
    /// Those that have not begun yet, the first one last.
    ahead: Vec<(Offset, ProducerId)>,
    open: BTreeSet<ProducerId>,
}

impl AbortedTransactions {
    pub(crate) fn new(transactions: impl Iterator<Item = (Offset, ProducerId)>) -> Self {
        let mut ahead: Vec<_> = transactions.collect();
        ahead.sort_unstable_by(|one, other| other.cmp(one));
        Self {
            ahead,
            open: BTreeSet::new(),
        }
    }

    /// Whether the records of this batch were aborted. Batches are asked about in their order, each once.
    pub(crate) fn contains(&mut self, batch: &Batch<'_>) -> bool {
        let header = batch.header();
        while let Some((first, producer)) = self.ahead.last().copied()
            && first < header.next_offset()
        {
            self.ahead.pop();
            self.open.insert(producer);
        }
        if self.open.is_empty() {
            return false;
        }
        let producer = header.producer_id;
        if header.attributes.is_control() {
            if is_abort(batch) {
                self.open.remove(&producer);
            }
            return false;
        }
        header.attributes.is_transactional() && self.open.contains(&producer)
    }
}

/// Whether a control batch ends a transaction that is aborted. One that cannot be read ends nothing.
fn is_abort(batch: &Batch<'_>) -> bool {
    let mut scratch = Vec::new();
    let Ok(mut records) = batch.records(&mut scratch, CONTROL_BYTES_MAX) else {
        return false;
    };
    let Some(Ok(record)) = records.next() else {
        return false;
    };
    matches!(
        ControlRecord::parse(&record),
        Ok(ControlRecord::EndTransaction(EndTransactionMarker {
            outcome: TransactionOutcome::Abort,
            ..
        }))
    )
}

/// Control batches are not compressed; this is more than one takes.
const CONTROL_BYTES_MAX: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use log_core::model::{ProducerEpoch, Sequence, TimestampMs};
    use log_core::record::batch::batches;
    use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};

    use super::*;

    const NOW: TimestampMs = TimestampMs::new(0);

    /// Two records from `offset` on; no producer is -1.
    fn batch(offset: i64, producer: i64) -> Bytes {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: Offset::new(offset),
            transactional: 0 <= producer,
            producer: BatchProducer {
                id: ProducerId::new(producer),
                epoch: ProducerEpoch::new(0),
                base_sequence: Sequence::new(0),
            },
            ..BatchOptions::default()
        });
        for _ in 0..2 {
            builder.append(NOW, None, Some(b"value"), &[]).unwrap();
        }
        builder.build()
    }

    fn marker(offset: i64, producer: i64, outcome: TransactionOutcome) -> Bytes {
        let marker = EndTransactionMarker {
            outcome,
            coordinator_epoch: 0,
        };
        let mut bytes = marker
            .to_batch(ProducerId::new(producer), ProducerEpoch::new(0), NOW)
            .to_vec();
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        bytes.into()
    }

    /// Which batches are passed over, by their first offsets.
    fn passed_over(log: &[Bytes], aborted: &[(i64, i64)]) -> Vec<i64> {
        let aborted = aborted
            .iter()
            .map(|(producer, first)| (Offset::new(*first), ProducerId::new(*producer)));
        let mut aborted = AbortedTransactions::new(aborted);
        let bytes = log.concat();
        let all = batches(&bytes).map(|batch| batch.unwrap());
        let passed = all.filter(|batch| aborted.contains(batch));
        passed.map(|batch| batch.header().base_offset.get()).collect()
    }

    #[test]
    fn a_transaction_lasts_from_its_first_record_to_its_marker() {
        use TransactionOutcome::{Abort, Commit};
        let log = [
            batch(0, 1),
            batch(2, -1),
            batch(4, 2),
            batch(6, 1),
            marker(8, 1, Abort),
            batch(9, 1),
            marker(11, 2, Commit),
            batch(12, 2),
            marker(14, 1, Commit),
            marker(15, 2, Abort),
            batch(16, 2),
        ];
        assert_eq!(passed_over(&log, &[]), [] as [i64; 0]);
        // In any order; the second one of producer 2 is aborted, the first one not.
        assert_eq!(passed_over(&log, &[(2, 12), (1, 0)]), [0, 6, 12]);
        // The fetch began behind the transaction's first record.
        assert_eq!(passed_over(&log[3..], &[(1, 0), (2, 12)]), [6, 12]);
        // Compaction has taken the record with which it began.
        assert_eq!(passed_over(&log, &[(1, 5)]), [6]);
    }
}
