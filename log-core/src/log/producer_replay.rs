//! What the producers of a log did, when it is opened: the newest usable snapshot, and the batches behind it.
//!
//! A snapshot is a hint: without one everything that is still there is replayed. The replay also gives the transactions that were
//! aborted behind the snapshot; those before it stand in the indexes that were stored before it.

use std::ops::Range;
use std::sync::Arc;

use crate::fs::{FsError, FsErrorKind};
use crate::index::transaction_index::{AbortedTransaction, TransactionIndex};
use crate::log::error::LogError;
use crate::log::loader::{Loader, SMALL_FILE_BYTES_MAX};
use crate::log::recovery_scan::damage;
use crate::log::transactions::apply_marker;
use crate::model::{FilePosition, Offset};
use crate::producer_state::manager::ProducerStateManager;
use crate::producer_state::snapshot::Snapshot;
use crate::record::batch_header::{BatchHeader, verify_checksum};
use crate::record::control::EndTransactionMarker;
use crate::segment::aborted::read_before;
use crate::segment::file_name::{FileKind, parse_segment_file, segment_file};
use crate::segment::scan::{ScanError, Walk};
use crate::segment::segment::Segment;
use crate::segment::segments::Segments;

/// So many batches of producers are kept from the scans of a log: 1.5 MB.
pub(super) const SEEN_MAX: usize = 16 << 10;

/// The batches that a scan of a segment came by, as far as a replay wants them: it need not walk over them once more.
#[derive(Debug)]
pub(crate) struct SeenBatches {
    /// Everything from here to the end of the segment was looked at.
    from: Offset,
    /// Those that have a producer.
    of_producers: Vec<BatchHeader>,
    /// How many of them may be kept.
    kept_max: usize,
    /// The last one, whoever has sent it.
    last: Option<BatchHeader>,
    /// Whether they were too many, or one may hold a marker, of which the header does not tell all.
    is_incomplete: bool,
}

impl SeenBatches {
    /// For a scan of everything from an offset on, of which no more than `kept_max` are kept.
    pub(super) fn new(from: Offset, kept_max: usize) -> Self {
        Self {
            from,
            of_producers: Vec::new(),
            kept_max,
            last: None,
            is_incomplete: false,
        }
    }

    /// Notes the batch that follows.
    pub(super) fn note(&mut self, header: &BatchHeader) {
        self.last = Some(*header);
        let is_one_more = header.has_producer_id();
        self.is_incomplete |=
            header.attributes.is_control() || is_one_more && self.kept_max <= self.of_producers.len();
        if self.is_incomplete {
            self.of_producers = Vec::new();
        } else if is_one_more {
            self.of_producers.push(*header);
        }
    }

    /// How many are kept.
    pub(super) fn kept(&self) -> usize {
        self.of_producers.len()
    }

    /// Those behind `from`, if all of them are known.
    fn behind(&self, from: Offset) -> Option<impl Iterator<Item = &BatchHeader>> {
        let known = !self.is_incomplete && self.from <= from;
        let last = self.last.iter().filter(|last| !last.has_producer_id());
        let all = self.of_producers.iter().chain(last);
        known.then(|| all.filter(move |header| from <= header.base_offset))
    }
}

/// What a replay gave.
pub(crate) struct Replayed {
    /// The producers' state at its end.
    pub(crate) producers: ProducerStateManager,
    /// The transactions that were aborted by markers behind `from`.
    aborted: Vec<AbortedTransaction>,
    /// Where it began: at its end, if a snapshot there spared it everything.
    pub(crate) from: Offset,
}

impl Loader<'_> {
    /// Replays up to the end of a segment that is appended to or not sealed yet, and makes its index of aborted transactions
    /// again.
    pub(crate) fn replay_to_end_of(
        &self,
        segment: &Segment,
        below: &[Arc<Segment>],
        segments: &Segments,
    ) -> Result<Replayed, LogError> {
        let (base, end) = (segment.base_offset(), segment.next_offset());
        let mut replayed = self.replay_producers(below, segments, end, end)?;
        let stored = if replayed.from <= base {
            Some(TransactionIndex::new(base))
        } else {
            read_before(segment, replayed.from)?
        };
        let mut index = if let Some(index) = stored {
            index
        } else {
            // Damaged: all of it is made again.
            replayed = self.replay_producers(below, segments, end, base)?;
            TransactionIndex::new(base)
        };
        let behind = replayed.aborted.iter().filter(|one| base <= one.last_offset);
        for transaction in behind {
            index
                .append(*transaction)
                .expect("markers are replayed in order, behind those that were stored");
        }
        segment.restore_aborted(index);
        Ok(replayed)
    }

    /// The producers' state at `end`, from the newest snapshot at or before `snapshot_max` that can be used and the batches
    /// behind it.
    ///
    /// Without a snapshot everything that is still there is replayed, records `below` the log start included:
    /// their producers may send them again. Those may be incomplete.
    pub(crate) fn replay_producers(
        &self,
        below: &[Arc<Segment>],
        segments: &Segments,
        end: Offset,
        snapshot_max: Offset,
    ) -> Result<Replayed, LogError> {
        let first = below.first().unwrap_or(segments.first()).base_offset();
        let snapshot = self.newest_snapshot(segments.active().next_offset(), snapshot_max)?;
        let producers = snapshot.unwrap_or_else(|| ProducerStateManager::new(first));
        let mut replayed = Replayed {
            from: producers.map_end_offset(),
            producers,
            aborted: Vec::new(),
        };
        let from = replayed.from;
        for segment in below {
            // From its beginning: it may never have been sealed, and its indexes are not to be relied on.
            match replay_segment(segment, FilePosition::ZERO, from..end, &mut replayed) {
                Err(ScanError::Storage(error)) if error.kind != FsErrorKind::NotFound => {
                    return Err(error.into());
                }
                Ok(()) | Err(_) => {}
            }
        }
        for segment in segments.from_offset(from) {
            let base = segment.base_offset();
            if let Some(seen) = self.seen.get(&base).filter(|_| segment.next_offset() <= end)
                && let Some(batches) = seen.behind(from.max(base))
            {
                batches.for_each(|header| replayed.take(header, None));
                continue;
            }
            let path = segment_file(&self.directory, base, FileKind::Log);
            segment
                .place_before(from)
                .and_then(|start| replay_segment(segment, start, from..end, &mut replayed))
                .map_err(|error| damage(path, &error, from, end))?;
        }
        Ok(replayed)
    }

    /// The newest usable snapshot at or before `end`. Those behind the log's end are removed.
    fn newest_snapshot(&self, log_end: Offset, end: Offset) -> Result<Option<ProducerStateManager>, FsError> {
        let file_system = &self.context.file_system;
        let mut offsets: Vec<Offset> = file_system
            .list(&self.directory)?
            .iter()
            .filter_map(|entry| parse_segment_file(&entry.name))
            .filter(|(_, kind)| *kind == FileKind::ProducerSnapshot)
            .map(|(offset, _)| offset)
            .collect();
        offsets.sort_unstable();
        let (kept, stale): (Vec<Offset>, Vec<Offset>) =
            offsets.iter().partition(|offset| **offset <= log_end);
        for offset in &stale {
            file_system.remove_file(&segment_file(
                &self.directory,
                *offset,
                FileKind::ProducerSnapshot,
            ))?;
        }
        if !stale.is_empty() {
            // Should one come back after a power cut, it would speak of other records than the log then holds.
            file_system.sync_directory(&self.directory)?;
        }
        for offset in kept.into_iter().rev().filter(|offset| *offset <= end) {
            let path = segment_file(&self.directory, offset, FileKind::ProducerSnapshot);
            let bytes = match file_system.read(&path, SMALL_FILE_BYTES_MAX) {
                Ok(bytes) => bytes,
                Err(error) if error.kind == FsErrorKind::OutOfResources => return Err(error),
                // A hint that cannot be read is none.
                Err(_) => continue,
            };
            if let Ok(snapshot) = Snapshot::parse(&bytes, offset)
                && snapshot.is_complete
            {
                return Ok(Some(ProducerStateManager::from_snapshot(snapshot)));
            }
        }
        Ok(None)
    }
}

/// The transactions whose abort markers stand in a segment, found in the log: for a reader whose index is of no use. Blocks.
///
/// # Errors
/// Anything that is not a batch below the published size is damage.
pub(super) fn aborted_in(segments: &Segments, segment: &Segment) -> Result<TransactionIndex, ScanError> {
    let (base, end) = (segment.base_offset(), segment.next_offset());
    let settings = segment.settings();
    let path = segment_file(&settings.directory, base, FileKind::ProducerSnapshot);
    let stored = settings.file_system.read(&path, SMALL_FILE_BYTES_MAX).ok();
    let snapshot = stored.and_then(|bytes| Snapshot::parse(&bytes, base).ok());
    let producers = snapshot.map_or_else(
        || ProducerStateManager::new(segments.first().base_offset()),
        ProducerStateManager::from_snapshot,
    );
    let mut replayed = Replayed {
        from: producers.map_end_offset(),
        producers,
        aborted: Vec::new(),
    };
    let from = replayed.from;
    for one in segments.from_offset(from) {
        replay_segment(one, FilePosition::ZERO, from..end, &mut replayed)?;
    }
    let mut index = TransactionIndex::new(base);
    for transaction in replayed.aborted.iter().filter(|one| base <= one.last_offset) {
        index.append(*transaction).expect("markers are replayed in order");
    }
    Ok(index)
}

impl Replayed {
    fn take(&mut self, header: &BatchHeader, marker: Option<EndTransactionMarker>) {
        let Some(marker) = marker else {
            return self.producers.update(header);
        };
        self.aborted
            .extend(apply_marker(&mut self.producers, header, marker));
        // What is read back is on the disk.
        self.producers.advance_high_watermark(header.next_offset());
    }
}

/// Takes the batches of `offsets` into the producers' state, from position `start` on.
///
/// Below the recovery point nobody has looked at them since they were written. What a broken one would do here stays, so markers are
/// verified, and so is the order of the batches, which no checksum guards.
fn replay_segment(
    segment: &Segment,
    start: FilePosition,
    offsets: Range<Offset>,
    replayed: &mut Replayed,
) -> Result<(), ScanError> {
    let outside = offsets.end <= segment.base_offset() || segment.next_offset() <= offsets.start;
    if outside || segment.size() == 0 {
        return Ok(());
    }
    let open = segment.open()?;
    let mut walk = Walk::headers(open.view(), start, segment.size());
    let mut follows = segment.base_offset();
    while let Some((position, header)) = walk.next_header()? {
        if header.base_offset < follows || segment.next_offset() < header.next_offset() {
            return Err(ScanError::Misplaced {
                position,
                found: header.base_offset,
                from: follows,
                to: segment.next_offset(),
            });
        }
        follows = header.next_offset();
        if header.base_offset < offsets.start || offsets.end <= header.last_offset() {
            continue;
        }
        let marker = if header.attributes.is_control() {
            let bytes = walk.batch_bytes(position, &header)?;
            verify_checksum(&bytes).map_err(|source| ScanError::Malformed { position, source })?;
            EndTransactionMarker::in_batch(&bytes)
        } else {
            None
        };
        replayed.take(&header, marker);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProducerEpoch, ProducerId, Sequence, TimestampMs};
    use crate::record::batch::Batch;
    use crate::record::batch_builder::{BatchBuilder, BatchOptions};

    fn header(base_offset: i64, producer_id: ProducerId) -> BatchHeader {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder
            .append(TimestampMs::new(1), None, Some(b"v"), &[])
            .unwrap();
        let header = *Batch::parse(&builder.build()).unwrap().header();
        BatchHeader {
            base_offset: Offset::new(base_offset),
            producer_id,
            producer_epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(0),
            ..header
        }
    }

    fn seen(headers: &[BatchHeader]) -> SeenBatches {
        let mut seen = SeenBatches::new(Offset::new(3), SEEN_MAX);
        for header in headers {
            seen.note(header);
        }
        seen
    }

    fn behind(seen: &SeenBatches, from: i64) -> Option<Vec<i64>> {
        let batches = seen.behind(Offset::new(from))?;
        Some(batches.map(|header| header.base_offset.get()).collect())
    }

    #[test]
    fn a_scan_tells_of_the_batches_of_producers_and_of_the_last() {
        let (one, nobody) = (ProducerId::new(7), ProducerId::NONE);
        let mut headers = vec![
            header(3, nobody),
            header(4, one),
            header(5, nobody),
            header(6, one),
        ];
        assert_eq!(behind(&seen(&headers), 3), Some(vec![4, 6]));
        headers.push(header(7, nobody));
        assert_eq!(behind(&seen(&headers), 3), Some(vec![4, 6, 7]));
        assert_eq!(behind(&seen(&headers), 5), Some(vec![6, 7]));
        assert_eq!(behind(&seen(&headers), 8), Some(vec![]));
        assert_eq!(behind(&seen(&headers), 2), None, "it began behind that");

        let mut marker = header(8, nobody);
        marker.attributes = marker.attributes.with_control(true);
        headers.push(marker);
        headers.push(header(9, one));
        assert_eq!(
            behind(&seen(&headers), 3),
            None,
            "its header does not tell which way it ends"
        );

        let many: Vec<_> = (3..).take(SEEN_MAX + 1).map(|at| header(at, one)).collect();
        assert_eq!(behind(&seen(&many), 3), None);
        let fit = many.get(..SEEN_MAX).unwrap();
        assert_eq!(behind(&seen(fit), 3).map(|all| all.len()), Some(SEEN_MAX));
    }
}
