//! Looking at one segment when a log is opened: from the last index entry that can be trusted, batch by batch.
//!
//! Decides which bytes are records and where they end; what becomes of the rest is `loader`'s to decide.
//! Nothing is changed here.

use std::ops::Range;
use std::path::PathBuf;

use crate::fs::{FsError, FsErrorKind};
use crate::index::offset_index::OffsetIndexView;
use crate::index::time_index::TimeIndexView;
use crate::log::error::{Damage, LogError};
use crate::log::loader::{LoadHints, Loader, SMALL_FILE_BYTES_MAX};
use crate::log::producer_replay::{SEEN_MAX, SeenBatches};
use crate::model::{FilePosition, LeaderEpoch, Offset, TimestampMs};
use crate::record::batch::Batch;
use crate::record::batch_header::BatchHeader;
use crate::segment::file_name::{FileKind, segment_file};
use crate::segment::indexes::SegmentIndexes;
use crate::segment::scan::{ScanError, Walk};
use crate::segment::view::View;

/// So much of what is cut is looked at, only to say what it was. Up to 16 MiB of space are prepared for each partition, and to
/// look at all of it made the first start after a kill twice as long.
const TAIL_LOOK_MAX: u64 = 256 << 10;
const ZERO_BLOCK: usize = 256;

/// How a scan of one segment ended.
pub(super) struct Scanned {
    pub(super) indexes: SegmentIndexes,
    pub(super) first_timestamp: TimestampMs,
    pub(super) end: u64,
    pub(super) next_offset: Offset,
    /// What stands behind the end, if the file is longer.
    pub(super) tail: Option<Tail>,
    pub(super) bytes_verified: u64,
    /// From where on it must be written once more.
    pub(super) rewrite_from: Option<u64>,
    /// There are records, and an index of them that is missing or cannot be used.
    pub(super) lacks_indexes: bool,
    /// The stored indexes name records that are not there, or may: once others stand in their places, a later opening could take the
    /// entries for theirs.
    pub(super) is_index_ahead: bool,
    /// For the replay of the producers.
    pub(super) seen: Option<SeenBatches>,
}

pub(super) struct Tail {
    pub(super) bytes: u64,
    /// What is wrong; nothing when it is all zeros: prepared space.
    pub(super) cause: Option<String>,
}

impl Loader<'_> {
    /// Walks the segment from the last index entry that can be trusted, and verifies what lies behind the recovery point.
    pub(super) fn scan(&self, base: Offset, length: u64, hints: LoadHints) -> Result<Scanned, LogError> {
        let path = segment_file(&self.directory, base, FileKind::Log);
        // Plain reads: what turns out to be a torn tail must not have been handed out by a map.
        let view = View::Plain(self.context.file_system.open_read_only(&path)?);
        let stored = self.stored_indexes(base);
        let (mut indexes, start) = self.trusted_indexes(base, &stored, &view, length, hints.recovery_point);
        let mut walk = Walk::headers(&view, start, length);
        let mut scanned = Progress {
            next_offset: None,
            epoch: LeaderEpoch::NONE,
            bytes_verified: 0,
        };
        let mut seen = None;
        let seen_max = SEEN_MAX.saturating_sub(self.seen.values().map(SeenBatches::kept).sum());
        let mut first_timestamp = TimestampMs::NONE;
        let mut rewrite_from = None;
        let (end, cause) = loop {
            let position = walk.position();
            let step = walk.next_header().and_then(|next| {
                let Some((position, header)) = next else {
                    return Ok(Step::End);
                };
                scanned.judge(base, &header, hints, || Ok(walk.batch_bytes(position, &header)?))
            });
            match step {
                Ok(Step::Good(header)) => {
                    if position == FilePosition::ZERO {
                        first_timestamp = header.max_timestamp;
                    }
                    if hints
                        .rewrite_from
                        .is_some_and(|from| from <= header.last_offset())
                    {
                        rewrite_from.get_or_insert(position.get());
                    }
                    indexes.note(&header, position);
                    let from = if start == FilePosition::ZERO {
                        base
                    } else {
                        header.base_offset
                    };
                    seen.get_or_insert_with(|| SeenBatches::new(from, seen_max))
                        .note(&header);
                }
                Ok(Step::End) => break (length, None),
                Ok(Step::Bad(cause)) => break (position.get(), Some(cause)),
                Err(ScanError::Storage(error)) => return Err(error.into()),
                Err(error) => break (position.get(), Some(error.to_string())),
            }
        };
        if first_timestamp == TimestampMs::NONE && start != FilePosition::ZERO {
            let first = Walk::lookup(&view, FilePosition::ZERO, end).next_header();
            first_timestamp = first
                .ok()
                .flatten()
                .map_or(TimestampMs::NONE, |(_, header)| header.max_timestamp);
        }
        let next_offset = scanned.next_offset.unwrap_or(base);
        let tail = match cause {
            None => None,
            Some(cause) => {
                let bytes = length.saturating_sub(end);
                let prepared = is_zero(&view, end..length)?;
                Some(Tail {
                    bytes,
                    cause: (!prepared).then_some(cause),
                })
            }
        };
        if next_offset < hints.recovery_point && tail.is_some() {
            let cause = tail
                .and_then(|tail| tail.cause)
                .unwrap_or_else(|| "zeros instead of a batch".to_owned());
            return Err(LogError::Damaged(Damage {
                file: path,
                position: FilePosition::new(end),
                offset: next_offset,
                recovery_point: hints.recovery_point,
                cause,
            }));
        }
        let bytes_verified = scanned.bytes_verified;
        Ok(Scanned {
            indexes,
            first_timestamp,
            end,
            next_offset,
            tail,
            bytes_verified,
            rewrite_from,
            lacks_indexes: 0 < length && stored.is_incomplete(),
            is_index_ahead: stored.is_unread || stored.named_to.is_some_and(|named| next_offset <= named),
            seen,
        })
    }

    /// What can be read of them.
    fn stored_indexes(&self, base: Offset) -> StoredIndexes {
        let mut is_unread = false;
        let mut stored = |kind| {
            let path = segment_file(&self.directory, base, kind);
            let bytes = self.context.file_system.read(&path, SMALL_FILE_BYTES_MAX);
            is_unread |= matches!(&bytes, Err(error) if error.kind != FsErrorKind::NotFound);
            bytes.ok()
        };
        let offsets = stored(FileKind::OffsetIndex);
        let times = stored(FileKind::TimeIndex);
        let offsets = offsets.and_then(|bytes| OffsetIndexView::parse(bytes.into(), base).ok());
        let times = times.and_then(|bytes| TimeIndexView::parse(bytes.into(), base).ok());
        let offset = offsets.iter().filter(|view| 0 < view.entry_count());
        let time = times.iter().filter(|view| 0 < view.entry_count());
        let named = offset
            .map(|view| view.last().0)
            .chain(time.map(|view| view.last().1));
        StoredIndexes {
            named_to: named.max(),
            is_unread,
            offsets,
            times,
        }
    }

    /// The stored index entries below the recovery point, if they fit the log, and where to go on behind them.
    fn trusted_indexes(
        &self,
        base: Offset,
        stored: &StoredIndexes,
        view: &View,
        length: u64,
        recovery_point: Offset,
    ) -> (SegmentIndexes, FilePosition) {
        let (bytes_max, interval) = (self.config.index_bytes_max, self.config.index_interval_bytes);
        let fresh = || (SegmentIndexes::new(base, bytes_max, interval), FilePosition::ZERO);
        let (Some(offsets), Some(times)) = (&stored.offsets, &stored.times) else {
            return fresh();
        };
        let (mut offsets, mut times) = (offsets.reopen(bytes_max), times.reopen(bytes_max));
        offsets.truncate_to(recovery_point);
        // Entries for time speak of batches up to the last one that the offsets name, no further.
        let time_count = times.entry_count();
        times.truncate_to(offsets.last().0.plus(1));
        if times.entry_count().saturating_add(1) < time_count {
            // More than the one that ends a segment: it may have been stored later than the other, and thinned differently. What is
            // behind its last entry is noted again, so that the largest time is known.
            offsets.truncate_to(times.last().1.plus(1));
        }
        let (last_offset, position) = offsets.last();
        if offsets.entry_count() == 0 {
            return fresh();
        }
        let header = Walk::lookup(view, position, length).next_header();
        match header {
            Ok(Some((_, header))) if header.last_offset() == last_offset => {
                (SegmentIndexes::resume(offsets, times, interval), position)
            }
            _ => fresh(),
        }
    }
}

/// A segment's index files, as far as they can be read.
struct StoredIndexes {
    offsets: Option<OffsetIndexView>,
    times: Option<TimeIndexView>,
    /// The last offset that either names.
    named_to: Option<Offset>,
    /// There is one that could not be read: nobody knows what it names.
    is_unread: bool,
}

impl StoredIndexes {
    fn is_incomplete(&self) -> bool {
        self.is_unread || self.offsets.is_none() || self.times.is_none()
    }
}

/// What a scan has seen so far of one segment.
struct Progress {
    next_offset: Option<Offset>,
    epoch: LeaderEpoch,
    bytes_verified: u64,
}

enum Step {
    Good(BatchHeader),
    Bad(String),
    End,
}

impl Progress {
    /// Whether the batch is what must follow. Behind the recovery point that is checked to the last byte:
    /// space that was used before could hold batches that look good and are not ours.
    fn judge(
        &mut self,
        base: Offset,
        header: &BatchHeader,
        hints: LoadHints,
        bytes: impl FnOnce() -> Result<bytes::Bytes, ScanError>,
    ) -> Result<Step, ScanError> {
        let expected = self.next_offset.unwrap_or(base);
        let found = header.base_offset;
        if hints.cut_to.is_some_and(|cut_to| cut_to <= found) {
            return Ok(Step::Bad("never synced: the sync failed".to_owned()));
        }
        // Compaction leaves gaps, but only among records that were synced. The recovery point was raised first; where that
        // is lost, it is known how far compaction has come.
        let strict_from = hints.recovery_point.max(hints.cleaned_to);
        let in_order = expected <= found && (found < strict_from || found == expected.max(strict_from));
        if !in_order {
            return Ok(Step::Bad(format!(
                "a batch with base offset {found} where {expected} must follow"
            )));
        }
        if header.leader_epoch < self.epoch {
            let (found, known) = (header.leader_epoch, self.epoch);
            return Ok(Step::Bad(format!(
                "a batch of leader epoch {found} behind one of {known}"
            )));
        }
        if hints.recovery_point <= header.last_offset() {
            let bytes = bytes()?;
            let verified = Batch::parse(&bytes).and_then(|batch| batch.verify_checksum());
            if let Err(error) = verified {
                return Ok(Step::Bad(error.to_string()));
            }
            let count = u64::try_from(bytes.len()).expect("usize fits u64");
            self.bytes_verified = self.bytes_verified.saturating_add(count);
        }
        self.epoch = header.leader_epoch;
        self.next_offset = Some(header.next_offset());
        Ok(Step::Good(*header))
    }
}

/// A walk's error as damage of the file it walked.
pub(crate) fn damage(file: PathBuf, error: &ScanError, offset: Offset, recovery_point: Offset) -> LogError {
    let position = match error {
        ScanError::Malformed { position, .. }
        | ScanError::Incomplete { position, .. }
        | ScanError::Misplaced { position, .. } => *position,
        ScanError::Storage(_) => FilePosition::ZERO,
    };
    LogError::Damaged(Damage {
        file,
        position,
        offset,
        recovery_point,
        cause: error.to_string(),
    })
}

/// Whether what stands behind the last good batch looks like prepared space, which a torn write does not begin like.
fn is_zero(view: &View, range: Range<u64>) -> Result<bool, FsError> {
    let end = range.start.saturating_add(TAIL_LOOK_MAX).min(range.end);
    let bytes = view.bytes(range.start..end)?;
    // By blocks, which the compiler makes few instructions of.
    Ok(bytes
        .chunks(ZERO_BLOCK)
        .all(|block| block.iter().fold(0, |all, byte| all | byte) == 0))
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::path::Path;

    use super::*;
    use crate::fs::FileSystem;
    use crate::fs::mem::MemFileSystem;

    #[test]
    fn prepared_space_is_told_by_its_beginning() {
        let length = 4 * TAIL_LOOK_MAX;
        let start = 77;
        for (at, is_prepared) in [
            (None, true),
            (Some(start - 1), true),
            (Some(start), false),
            (Some(start + TAIL_LOOK_MAX - 1), false),
            (Some(start + TAIL_LOOK_MAX), true),
        ] {
            let file = MemFileSystem::new().create(Path::new("/log")).unwrap();
            file.zero_fill(0..length).unwrap();
            if let Some(at) = at {
                file.write_at(at, &[IoSlice::new(&[1])]).unwrap();
            }
            let view = View::Plain(file);
            assert_eq!(is_zero(&view, start..length).unwrap(), is_prepared, "{at:?}");
        }
        let file = MemFileSystem::new().create(Path::new("/log")).unwrap();
        assert!(is_zero(&View::Plain(file), 0..0).unwrap());
    }
}
