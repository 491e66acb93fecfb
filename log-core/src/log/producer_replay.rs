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
use crate::record::batch::{BatchHeader, verify_checksum};
use crate::record::control::EndTransactionMarker;
use crate::segment::aborted::read_before;
use crate::segment::file_name::{FileKind, parse_segment_file, segment_file};
use crate::segment::scan::{ScanError, Walk};
use crate::segment::segment::Segment;
use crate::segment::segments::Segments;

/// What a replay gave.
pub(crate) struct Replayed {
    /// The producers' state at its end.
    pub(crate) producers: ProducerStateManager,
    /// The transactions that were aborted by markers behind `from`.
    aborted: Vec<AbortedTransaction>,
    /// Where it began.
    from: Offset,
}

impl Loader<'_> {
    /// Replays up to the end of a segment that is appended to or not sealed yet, and makes its index of aborted transactions
    /// again.
    pub(crate) fn replay_to_end_of(
        &self,
        segment: &Segment,
        below: &[Arc<Segment>],
        segments: &Segments,
    ) -> Result<ProducerStateManager, LogError> {
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
        Ok(replayed.producers)
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
            let path = segment_file(&self.directory, segment.base_offset(), FileKind::Log);
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
    let mut walk = Walk::scan(open.view(), start, segment.size());
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
