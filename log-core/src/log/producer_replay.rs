//! What the producers of a log did, when it is opened: the newest usable snapshot, and the batches behind it.
//!
//! A snapshot is a hint: without one everything that is still there is replayed.

use std::ops::Range;
use std::sync::Arc;

use crate::fs::{FsError, FsErrorKind};
use crate::log::error::LogError;
use crate::log::loader::{Loader, SMALL_FILE_BYTES_MAX};
use crate::log::recovery_scan::damage;
use crate::model::{FilePosition, Offset};
use crate::producer_state::manager::ProducerStateManager;
use crate::producer_state::snapshot::Snapshot;
use crate::segment::file_name::{FileKind, parse_segment_file, segment_file};
use crate::segment::scan::{ScanError, Walk};
use crate::segment::segment::Segment;
use crate::segment::segments::Segments;

impl Loader<'_> {
    /// The producers' state at `end`, from the newest snapshot that can be used and the batches behind it.
    ///
    /// Without a snapshot everything that is still there is replayed, records `below` the log start included:
    /// their producers may send them again. Those may be incomplete.
    pub(crate) fn replay_producers(
        &self,
        below: &[Arc<Segment>],
        segments: &Segments,
        end: Offset,
    ) -> Result<ProducerStateManager, LogError> {
        let first = below.first().unwrap_or(segments.first()).base_offset();
        let snapshot = self.newest_snapshot(segments.active().next_offset(), end)?;
        let mut manager = snapshot.unwrap_or_else(|| ProducerStateManager::new(first));
        let from = manager.map_end_offset();
        for segment in below {
            // From its beginning: it may never have been sealed, and its indexes are not to be relied on.
            match replay_segment(segment, FilePosition::ZERO, from..end, &mut manager) {
                Ok(()) | Err(ScanError::Malformed { .. } | ScanError::Incomplete { .. }) => {}
                Err(ScanError::Storage(error)) if error.kind == FsErrorKind::NotFound => {}
                Err(ScanError::Storage(error)) => return Err(error.into()),
            }
        }
        for segment in segments.from_offset(from) {
            let path = segment_file(&self.directory, segment.base_offset(), FileKind::Log);
            segment
                .place_before(from)
                .and_then(|start| replay_segment(segment, start, from..end, &mut manager))
                .map_err(|error| damage(path, &error, from, end))?;
        }
        Ok(manager)
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

/// Takes the batches of `offsets` into the producers' state, from position `start` on.
fn replay_segment(
    segment: &Segment,
    start: FilePosition,
    offsets: Range<Offset>,
    manager: &mut ProducerStateManager,
) -> Result<(), ScanError> {
    let outside = offsets.end <= segment.base_offset() || segment.next_offset() <= offsets.start;
    if outside || segment.size() == 0 {
        return Ok(());
    }
    let open = segment.open()?;
    let mut walk = Walk::scan(open.view(), start, segment.size());
    while let Some((_, header)) = walk.next_header()? {
        if offsets.start <= header.base_offset && header.last_offset() < offsets.end {
            manager.update(&header);
        }
    }
    Ok(())
}
