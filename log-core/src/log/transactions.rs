//! Transactions in a log: how they begin and end, and which of them were aborted in a range that is read.
//!
//! A transaction is open on a partition from its first batch to its marker. The last stable offset stands at the first
//! batch of the oldest one that is open, or whose marker the high watermark has not passed: readers of committed
//! records never see what is not decided, nor, unless the topic relaxes flushing, a decision that a power cut could take back.

use std::sync::Arc;

use bytes::Bytes;

use crate::fs::FsErrorKind;
use crate::index::transaction_index::{AbortedTransaction, TransactionIndex};
use crate::log::append::{AppendOutcome, Untold};
use crate::log::error::{AppendError, ReadError};
use crate::log::log::Log;
use crate::log::producer_replay::aborted_in;
use crate::log::read::{ReadRequest, corrupt};
use crate::model::Offset;
use crate::producer_state::manager::{ProducerStateError, ProducerStateManager};
use crate::producer_state::verification::{TransactionProof, TransactionalBatch};
use crate::record::batch_header::BatchHeader;
use crate::record::control::{EndTransactionMarker, MarkerBatch};
use crate::segment::aborted::AbortedIndexError;
use crate::segment::segment::{Patience, Segment};
use crate::segment::segments::Segments;

impl Log {
    /// Says what a batch needs that wants to be part of a transaction. Its `Verified` counts after the coordinator was asked.
    ///
    /// # Errors
    /// An older epoch.
    pub fn start_verification(
        &mut self,
        batch: &TransactionalBatch,
    ) -> Result<TransactionProof, ProducerStateError> {
        let now = self.context.clock.now();
        self.producers.start_verification(batch, now)
    }

    /// Appends the marker that ends a transaction here. Of a producer that has none open it is appended all the same.
    ///
    /// # Errors
    /// An older epoch of the producer or the coordinator; otherwise as [`Self::append`].
    pub fn append_marker(&mut self, marker: &MarkerBatch) -> Result<AppendOutcome, AppendError> {
        self.check_latch()?;
        let end = marker.end();
        self.producers
            .check_marker(marker.batch().header(), end.marker, end.version)?;
        self.append_checked(marker.batch(), Untold::Marker(end.marker))
    }
}

/// Takes a marker into the producers' state, live and at a replay alike. Returns the entry for the transaction index if an
/// aborted transaction ended.
pub(super) fn apply_marker(
    producers: &mut ProducerStateManager,
    header: &BatchHeader,
    marker: EndTransactionMarker,
) -> Option<AbortedTransaction> {
    let completed = producers.end_transaction(header, marker)?;
    let last_stable_offset = producers.last_stable_offset(&completed);
    producers.complete_transaction(&completed);
    completed.is_aborted.then_some(AbortedTransaction {
        producer_id: completed.producer_id,
        first_offset: completed.first_offset,
        last_offset: completed.last_offset,
        last_stable_offset,
    })
}

/// The aborted transactions among `records`, which stand in `first` of `segments`, in the order of their markers. The row is
/// the one that the records were read from: compaction takes aborted records and what is known of them away together.
///
/// # Errors
/// [`ReadError::WouldBlock`] when the caller has no patience; damage and media errors by place.
pub(super) fn aborted_among(
    records: &Bytes,
    segments: &Segments,
    first: &Segment,
    request: &ReadRequest,
) -> Result<Vec<AbortedTransaction>, ReadError> {
    let mut aborted = Vec::new();
    let mut marked = segments
        .from_offset(first.base_offset())
        .filter(|segment| segment.has_aborted())
        .peekable();
    if marked.peek().is_none() {
        return Ok(aborted);
    }
    let end = end_of(records, request.offset);
    for segment in marked {
        let Some(index) = index_of(segments, segment, request.patience)? else {
            continue;
        };
        let mut found = index.collect_aborted(request.offset, end);
        aborted.append(&mut found.transactions);
        if found.is_complete {
            break;
        }
    }
    Ok(aborted)
}

/// All aborted transactions that began below `end`, wherever their markers are. Blocks.
///
/// # Errors
/// Damage and media errors by place.
pub(super) fn aborted_below(segments: &Segments, end: Offset) -> Result<Vec<AbortedTransaction>, ReadError> {
    let mut aborted = Vec::new();
    for segment in segments {
        let index = index_of(segments, segment, Patience::MayBlock)?;
        let transactions = index.iter().flat_map(|index| index.transactions());
        aborted.extend(transactions.filter(|one| one.first_offset < end));
    }
    Ok(aborted)
}

/// The index of a segment that has one.
fn index_of(
    segments: &Segments,
    segment: &Segment,
    patience: Patience,
) -> Result<Option<Arc<TransactionIndex>>, ReadError> {
    match segment.aborted(patience) {
        Ok(index) => index.ok_or(ReadError::WouldBlock),
        Err(AbortedIndexError::Storage(error)) if error.kind != FsErrorKind::NotFound => Err(error.into()),
        // An index is a hint: damaged or lost, it is made again.
        Err(_) => remade(segments, segment).map(Some),
    }
}

/// Behind the last batch of `records` that is whole; readers drop one that is cut off.
fn end_of(records: &[u8], start: Offset) -> Offset {
    let mut rest = records;
    let mut end = start;
    while let Ok(header) = BatchHeader::parse(rest)
        && let Some((_, behind)) = rest.split_at_checked(header.size())
    {
        end = header.next_offset();
        rest = behind;
    }
    end
}

/// A segment's index, made again from the log. Blocks.
fn remade(segments: &Segments, segment: &Segment) -> Result<Arc<TransactionIndex>, ReadError> {
    let index = aborted_in(segments, segment).map_err(|error| corrupt(segment, error))?;
    segment.restore_aborted(index.clone());
    Ok(Arc::new(index))
}
