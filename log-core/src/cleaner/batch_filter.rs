//! What a cleaning makes of one batch: kept as it is, written anew with fewer records, or dropped. Kafka's rules.
//!
//! | record | stays |
//! |---|---|
//! | behind what the offset map has seen | yes |
//! | of an aborted transaction | no |
//! | without a key | no |
//! | not the last of its key | no |
//! | a tombstone, in a batch whose delete horizon has passed | no |
//! | any other | yes |
//!
//! | batch without any record left | becomes |
//! |---|---|
//! | the last of an active producer | a bare header: it holds the producer's last sequence and epoch |
//! | the last of the segment that is written | a bare header: it says up to which offset the segment reaches |
//! | any other | nothing |
//!
//! A batch that gets its first tombstone through a cleaning, or a marker whose transaction is gone, is stamped with the
//! time from which they may go (KIP-534): the *delete horizon* takes the place of the base timestamp. Offsets, the range
//! of a batch, its producer fields, its leader epoch and its codec never change.

use std::collections::HashMap;

use bytes::Bytes;

use super::offset_map::OffsetMap;
use super::transactions::{CleanedTransactions, ControlBatch};
use crate::model::{ProducerId, TimestampMs};
use crate::producer_state::manager::LastRecord;
use crate::record::batch::Batch;
use crate::record::batch_builder::{AppendError, BatchBuilder, BatchOptions, BatchProducer};
use crate::record::batch_header::{BatchHeader, HEADER_LENGTH, LENGTH_OVERHEAD};
use crate::record::compression::Compression;
use crate::record::control::{ControlRecord, ControlRecordError};
use crate::record::record::{Record, RecordError, RecordHeader};

/// A batch that unpacks to more cannot be cleaned. The broker takes none that unpacks to a quarter of it.
pub(super) const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays byte for byte.
    Keep,
    /// It goes.
    Drop,
    /// These bytes take its place.
    Rewrite(Bytes),
}

/// A batch whose records cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilterError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Control(#[from] ControlRecordError),
    /// What was read cannot be written again, which would be a mistake of ours.
    #[error("its records cannot be written again: {0}")]
    Rewrite(#[from] AppendError),
}

/// What decides over records, for one cleaning.
#[derive(Debug)]
pub(super) struct BatchFilter<'a> {
    pub(super) map: &'a OffsetMap,
    pub(super) last_records: &'a HashMap<ProducerId, LastRecord>,
    pub(super) now: TimestampMs,
    pub(super) delete_retention_ms: i64,
}

/// How many records a filter saw, and left.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordCounts {
    pub(super) read: u64,
    pub(super) kept: u64,
}

impl BatchFilter<'_> {
    /// Decides over the batch, whose checksum is right. `is_last` if it is the last of the segment that is written.
    pub(super) fn judge(
        &self,
        batch: &Batch<'_>,
        transactions: &mut CleanedTransactions,
        is_last: bool,
        scratch: &mut Vec<u8>,
        counts: &mut RecordCounts,
    ) -> Result<Verdict, FilterError> {
        let header = batch.header();
        let is_gone = if header.attributes.is_control() {
            transactions.meet_control(header, control_batch(batch, scratch)?)
        } else {
            transactions.meet_batch(header)
        };
        let is_marker_of_nothing = is_gone && header.attributes.is_control();
        let discards_all = if header.attributes.is_control() {
            is_gone && self.has_passed(header)
        } else {
            is_gone
        };
        counts.read += u64::from(header.record_count);

        let mut kept = Kept::default();
        if !discards_all {
            for record in batch.records(scratch, DECOMPRESSED_BYTES_MAX)? {
                let record = record?;
                kept.note(
                    &record,
                    header.attributes.is_control() || self.keeps(header, &record),
                );
            }
        }
        counts.kept += u64::from(kept.count);
        if kept.count == 0 {
            let stays = is_last || self.is_last_of_producer(header);
            return Ok(match (stays, header.record_count) {
                (false, _) => Verdict::Drop,
                (true, 0) => Verdict::Keep,
                (true, _) => Verdict::Rewrite(bare_header(header)),
            });
        }
        let gets_horizon = header.delete_horizon().is_none() && (kept.has_tombstone || is_marker_of_nothing);
        if kept.count == header.record_count && !gets_horizon {
            return Ok(Verdict::Keep);
        }
        let horizon = if gets_horizon {
            Some(self.now.saturating_plus(self.delete_retention_ms))
        } else {
            header.delete_horizon()
        };
        match rewrite(batch, &kept, horizon, scratch) {
            // Times at both ends of what a number holds: with another base they cannot be written. What is too much does
            // not change what a reader of all records ends with.
            Err(FilterError::Rewrite(AppendError::Timestamp { .. })) => Ok(Verdict::Keep),
            rewritten => rewritten.map(Verdict::Rewrite),
        }
    }

    fn keeps(&self, header: &BatchHeader, record: &Record<'_>) -> bool {
        if self.map.latest().is_none_or(|latest| latest < record.offset) {
            return true;
        }
        let Some(key) = record.key else {
            return false;
        };
        let is_last = self.map.get(key).is_none_or(|last| last <= record.offset);
        is_last && (record.value.is_some() || !self.has_passed(header))
    }

    fn has_passed(&self, header: &BatchHeader) -> bool {
        header.delete_horizon().is_some_and(|horizon| horizon <= self.now)
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let last = self.last_records.get(&header.producer_id);
        header.has_producer_id()
            && last.is_some_and(|last| match last.last_data_offset {
                Some(offset) => header.last_offset() == offset,
                None => header.attributes.is_control() && header.producer_epoch == last.producer_epoch,
            })
    }
}

/// Which records of a batch stay.
#[derive(Debug, Default)]
struct Kept {
    /// One for each record.
    stays: Vec<bool>,
    count: u32,
    has_tombstone: bool,
}

impl Kept {
    fn note(&mut self, record: &Record<'_>, stays: bool) {
        self.stays.push(stays);
        self.count += u32::from(stays);
        self.has_tombstone |= stays && record.value.is_none();
    }
}

/// The batch with the records that stay, and nothing else changed but the horizon. `decompressed` has its records, if
/// they are compressed.
fn rewrite(
    batch: &Batch<'_>,
    kept: &Kept,
    horizon: Option<TimestampMs>,
    decompressed: &[u8],
) -> Result<Bytes, FilterError> {
    let header = batch.header();
    let body = match header.compression() {
        Compression::None => batch.body(),
        _ => decompressed,
    };
    let mut builder = BatchBuilder::with_capacity(options_of(header, horizon), body.len());
    let mut headers: Vec<RecordHeader<'_>> = Vec::new();
    for (record, stays) in batch.records_in(body).zip(&kept.stays) {
        let record = record?;
        if *stays {
            headers.clear();
            headers.extend(record.headers());
            builder.append_at(
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                &headers,
            )?;
        }
    }
    builder.extend_to(header.last_offset())?;
    Ok(builder.build())
}

fn options_of(header: &BatchHeader, delete_horizon: Option<TimestampMs>) -> BatchOptions {
    BatchOptions {
        compression: header.compression(),
        compression_level: None,
        timestamp_type: header.attributes.timestamp_type(),
        producer: BatchProducer {
            id: header.producer_id,
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        },
        transactional: header.attributes.is_transactional(),
        control: header.attributes.is_control(),
        delete_horizon,
        base_offset: header.base_offset,
        leader_epoch: header.leader_epoch,
    }
}

/// The batch without records: its range of offsets and its producer stay, and its largest timestamp, which retention
/// goes by.
fn bare_header(header: &BatchHeader) -> Bytes {
    let bare = BatchHeader {
        batch_length: u32::try_from(HEADER_LENGTH - LENGTH_OVERHEAD).expect("a few bytes"),
        attributes: header
            .attributes
            .with_compression(Compression::None)
            .with_delete_horizon(false),
        base_timestamp: header.max_timestamp,
        record_count: 0,
        ..*header
    };
    let crc = bare.compute_crc(&[]);
    Bytes::copy_from_slice(&BatchHeader { crc, ..bare }.to_bytes())
}

/// What a control batch tells.
pub(super) fn control_batch(batch: &Batch<'_>, scratch: &mut Vec<u8>) -> Result<ControlBatch, FilterError> {
    let Some(record) = batch.records(scratch, DECOMPRESSED_BYTES_MAX)?.next() else {
        return Ok(ControlBatch::Empty);
    };
    Ok(match ControlRecord::parse(&record?)? {
        ControlRecord::EndTransaction(marker) => ControlBatch::Marker(marker.outcome),
        ControlRecord::Other { .. } => ControlBatch::Other,
    })
}
