//! A batch as it travels: sealed bytes, and what is known of their fate.
//!
//! How a batch is numbered anew, cut in two or given up. When that is to be done, `in_order` says.

use bytes::Bytes;
use log_core::model::{Offset, Sequence};
use log_core::record::batch::Batch as BatchView;
use log_core::record::batch_builder::{BatchBuilder, BatchProducer, UNCOMPRESSED_BYTES_MAX};
use log_core::record::batch_header::HEADER_LENGTH;
use log_core::record::record::RecordHeader;
use tokio::time::Instant;

use super::Policy;
use crate::error::{Error, Result};
use crate::producer::delivery::{Claim, Outcome};

/// A batch as it travels.
#[derive(Debug)]
pub(crate) struct SealedBatch {
    pub records: Bytes,
    pub record_count: u32,
    pub(super) claim: Claim,
    pub(super) created: Instant,
    /// Counts records from the partition's first: the order that retries keep.
    pub(super) ordinal: u64,
    pub(super) base_sequence: Sequence,
    /// Whether an attempt ended without saying that it was not appended.
    pub(super) may_be_appended: bool,
    pub(super) last_error: Option<Error>,
}

impl SealedBatch {
    /// Fails it, because its time is over.
    pub(super) fn expire(self, policy: &Policy) {
        let error = Error::DeliveryTimedOut {
            partition: self.claim.partition().clone(),
            after: policy.delivery_timeout,
            last: self.last_error.map(Box::new),
        };
        self.claim.settle(Outcome::Failed(error));
    }

    /// Fails it: it may have been appended, and nothing will tell any more.
    pub(super) fn fail_as_unknown(self, error: Error) {
        let error = Error::OutcomeUnknown {
            partition: self.claim.partition().clone(),
            last: Box::new(error),
        };
        self.claim.settle(Outcome::Failed(error));
    }

    /// Gives it another producer, checksum included; its records are not touched. It is in no log under that number.
    pub(super) fn renumber(&mut self, producer: BatchProducer) {
        let view = BatchView::parse(&self.records).expect("the producer built this batch");
        let mut header = *view.header();
        header.producer_id = producer.id;
        header.producer_epoch = producer.epoch;
        header.base_sequence = producer.base_sequence;
        header.crc = header.compute_crc(view.body());
        let mut bytes = Vec::with_capacity(self.records.len());
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(view.body());
        assert!(
            HEADER_LENGTH <= bytes.len() && bytes.len() == self.records.len(),
            "only the header changed"
        );
        self.records = Bytes::from(bytes);
        self.base_sequence = producer.base_sequence;
        self.may_be_appended = false;
    }

    /// The first and the second half of its records.
    pub(super) fn halves(&self, policy: &Policy) -> Result<(BatchBuilder, BatchBuilder)> {
        let damaged = |what: String| Error::CorruptBatch {
            partition: self.claim.partition().clone(),
            offset: Offset::ZERO,
            what: what.into(),
        };
        let view = BatchView::parse(&self.records).map_err(|error| damaged(error.to_string()))?;
        let mut decompressed = Vec::new();
        let records = view
            .records(&mut decompressed, UNCOMPRESSED_BYTES_MAX)
            .map_err(|error| damaged(error.to_string()))?;
        let mut halves = (
            BatchBuilder::new(policy.options),
            BatchBuilder::new(policy.options),
        );
        for (index, record) in (0..).zip(records) {
            let record = record.map_err(|error| damaged(error.to_string()))?;
            let headers: Vec<RecordHeader<'_>> = record.headers().collect();
            let half = if index < self.record_count / 2 {
                &mut halves.0
            } else {
                &mut halves.1
            };
            half.append(record.timestamp, record.key, record.value, &headers)
                .map_err(|error| damaged(error.to_string()))?;
        }
        Ok(halves)
    }
}
