//! Reading a partition of a coordinator's topic into a shard.
//!
//! A record of a kind that this version does not know is passed over, as in Kafka, with one line in the log. A batch or record that is damaged
//! ends the load: guessing would take committed offsets back in silence. What the shard holds is refused, with the
//! partition and the offset in the log; all others serve.

use std::sync::Arc;

use log_core::model::Offset;
use log_core::record::batch::{Batch, batches};
use log_core::record::batch_header::{BatchError, BatchHeader};
use log_core::record::control::{ControlRecord, ControlRecordError};
use log_core::record::record::{Record, RecordError};
use log_core::segment::segment::Patience;

use crate::coordinator::record::{LogRecord, RecordFormatError};
use crate::coordinator::runtime::shard::{BatchOwner, Shard};
use crate::partition::error::PartitionError;
use crate::partition::partition::{Isolation, Partition, PartitionRead};

/// How much is read at a time.
const READ_BYTES: usize = 1 << 20;
/// What a batch may decompress to. We write none that is compressed; one that was copied from a Kafka may be.
pub(super) const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Why a shard could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The log could not be read; it may be later.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// A batch is damaged.
    #[error("the batch at offset {offset} is damaged: {source}")]
    Batch {
        /// Its first offset, or the first that could not be read.
        offset: Offset,
        /// What is wrong.
        source: BatchError,
    },
    /// The records of a batch cannot be read.
    #[error("the batch at offset {offset} has a damaged record: {source}")]
    Record {
        /// The batch's first offset.
        offset: Offset,
        /// What is wrong.
        source: RecordError,
    },
    /// A control record is damaged.
    #[error("the control record at offset {offset} is damaged: {source}")]
    Control {
        /// Its offset.
        offset: Offset,
        /// What is wrong.
        source: ControlRecordError,
    },
    /// Whoever looked at the records has seen enough. Never seen outside.
    #[error("the walk was ended")]
    Ended,
    /// A record is not what its key says.
    #[error("the record at offset {offset} cannot be read: {source}")]
    Format {
        /// Its offset.
        offset: Offset,
        /// What is wrong.
        source: RecordFormatError,
    },
}

impl LoadError {
    /// Where in the partition the damage is.
    pub(super) fn offset(&self) -> Option<Offset> {
        match self {
            Self::Batch { offset, .. }
            | Self::Record { offset, .. }
            | Self::Control { offset, .. }
            | Self::Format { offset, .. } => Some(*offset),
            Self::Partition(_) | Self::Ended => None,
        }
    }

    /// Whether a second try may help.
    pub(super) fn can_mend(&self) -> bool {
        matches!(self, Self::Partition(_))
    }
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Loaded<S> {
    pub(super) shard: S,
    /// Where the next record will stand.
    pub(super) end: Offset,
    pub(super) records: u64,
    /// Records of kinds that this version does not know.
    pub(super) unknown: u64,
}

/// Reads everything that is on the disk. Blocks.
pub(super) fn load<S: Shard>(partition: &Arc<Partition>) -> Result<Loaded<S>, LoadError> {
    let offsets = partition.condition().reader()?.offsets();
    let end = offsets.high_watermark;
    let mut loaded: Loaded<S> = Loaded {
        end,
        ..Loaded::default()
    };
    walk(partition, offsets.log_start, end, |batch, record| {
        if batch.attributes.is_control() {
            let offset = record.offset;
            let damaged = |source| LoadError::Control { offset, source };
            if let ControlRecord::EndTransaction(marker) = ControlRecord::parse(record).map_err(damaged)? {
                loaded.shard.replay_marker(batch.producer_id, marker.outcome);
            }
            return Ok(());
        }
        let format = |source| LoadError::Format {
            offset: record.offset,
            source,
        };
        let key = record.key.unwrap_or_default();
        loaded.records += 1;
        match S::Record::decode(key, record.value).map_err(format)? {
            Some(record) => loaded.shard.replay(&record, BatchOwner::of(batch)),
            None => loaded.unknown += 1,
        }
        Ok(())
    })?;
    Ok(loaded)
}

/// Calls `visit` with every record from `start` to `end`, the latter exclusive, and with its batch's header. Blocks.
pub(super) fn walk(
    partition: &Partition,
    start: Offset,
    end: Offset,
    mut visit: impl FnMut(&BatchHeader, &Record<'_>) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let mut scratch = Vec::new();
    let mut next = start;
    while next < end {
        let read = PartitionRead {
            offset: next,
            bytes_max: READ_BYTES,
            at_least_one_batch: true,
            isolation: Isolation::Uncommitted,
        };
        let slice = partition.read(&read, Patience::MayBlock)?;
        let before = next;
        for batch in batches(&slice.records) {
            let batch = batch.map_err(|source| LoadError::Batch { offset: next, source })?;
            if end <= batch.header().base_offset {
                return Ok(());
            }
            visit_batch(&batch, start..end, &mut scratch, &mut visit)?;
            next = batch.header().next_offset();
        }
        if next == before {
            // A reader gives at least one whole batch below the high watermark.
            let source = BatchError::Incomplete {
                expected: log_core::record::batch_header::HEADER_LENGTH,
                found: slice.records.len(),
            };
            return Err(LoadError::Batch { offset: next, source });
        }
    }
    Ok(())
}

fn visit_batch(
    batch: &Batch<'_>,
    range: std::ops::Range<Offset>,
    scratch: &mut Vec<u8>,
    visit: &mut impl FnMut(&BatchHeader, &Record<'_>) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let offset = batch.header().base_offset;
    batch
        .verify_checksum()
        .map_err(|source| LoadError::Batch { offset, source })?;
    let damaged = |source| LoadError::Record { offset, source };
    for record in batch.records(scratch, DECOMPRESSED_BYTES_MAX).map_err(damaged)? {
        let record = record.map_err(damaged)?;
        if range.contains(&record.offset) {
            visit(batch.header(), &record)?;
        }
    }
    Ok(())
}
