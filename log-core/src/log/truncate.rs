//! Cutting off the end of a log.
//!
//! Readers may still hold slices of what is cut, and a file must not shrink under a map; so the segment that
//! is cut in the middle is written anew, and the old file goes on living under the slices until they are gone.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use crate::fs::{FileSystem, FsError, FsErrorKind, FsOperation};
use crate::log::error::LogError;
use crate::log::flush::FlushState;
use crate::log::leader_epochs::store_epochs;
use crate::log::loader::Loader;
use crate::log::log::Log;
use crate::log::offsets::Place;
use crate::model::Offset;
use crate::segment::file_name::{FileKind, segment_file};
use crate::segment::segment::{Patience, Segment};
use crate::segment::segments::Segments;

/// How much is copied at a time.
pub(super) const COPY_CHUNK: usize = 1 << 20;

impl Log {
    /// Drops every batch that holds `offset` or lies behind it, and returns the new log end: `offset`, or
    /// the beginning of the batch that held it. Durable when it returns. Blocks.
    ///
    /// # Errors
    /// `OffsetOutOfRange` outside of log start and log end, or in a batch that begins before the log start
    /// (the log would have to start earlier again), or what stands there cannot be read, and nothing was cut. Every failure
    /// of the cut itself latches the log.
    ///
    /// # Panics
    /// While cleaned segments are swapped in.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<Offset, LogError> {
        self.check_latch()?;
        assert!(
            !self.is_swapping,
            "truncate while cleaned segments are swapped in"
        );
        let offsets = self.offsets();
        if offset < offsets.log_start || offsets.log_end < offset {
            let (low, high) = (offsets.log_start, offsets.log_end);
            return Err(LogError::OffsetOutOfRange { offset, low, high });
        }
        self.flush()?;
        self.seal_all()?;
        if offset == offsets.log_end {
            return Ok(offset);
        }
        let place = self.place_to_cut(offset)?;
        match self.cut(place) {
            Ok(()) => Ok(place.offset),
            Err(error) => Err(self.latch("truncate", &error).into()),
        }
    }

    /// The beginning of the batch that holds `offset`.
    fn place_to_cut(&self, offset: Offset) -> Result<Place, LogError> {
        let segments = self.shared.segments();
        let last = segments
            .iter()
            .rfind(|segment| segment.base_offset() <= offset)
            .expect("the log start lies in a segment, and the offset not before it");
        let place = last
            .find(offset, last.size(), Patience::MayBlock)
            .map_err(|error| {
                let path = segment_file(&self.directory, last.base_offset(), FileKind::Log);
                crate::log::recovery_scan::damage(
                    path,
                    &error,
                    last.base_offset(),
                    self.flush.flushed().offset,
                )
            })?;
        let (position, end) = match place.flatten() {
            Some(place) => (place.position.get(), place.header.base_offset),
            None => (last.size(), last.next_offset()),
        };

        let (low, high) = (self.offsets().log_start, self.offsets().log_end);
        if end < low {
            return Err(LogError::OffsetOutOfRange { offset, low, high });
        }
        Ok(Place {
            offset: end,
            segment: last.base_offset(),
            position,
        })
    }

    /// From its first step on, memory and disk may disagree.
    fn cut(&mut self, place: Place) -> Result<(), LogError> {
        let segments = self.shared.segments();
        let (mut kept, dropped): (Vec<_>, Vec<_>) = segments
            .iter()
            .cloned()
            .partition(|segment| segment.base_offset() < place.segment);
        let [last, dropped @ ..] = dropped.as_slice() else {
            unreachable!("the place was found in a segment");
        };

        // What is about to be removed must not be missed, should it fail half way and the log be opened again.
        self.flush = FlushState::new(place);
        // Newest first: a crash in between leaves a shorter log, never one with a hole.
        for segment in dropped.iter().rev() {
            remove_files(self, segment)?;
        }
        // The indexes name positions behind the new end; they are made again.
        let loader = Loader::new(&self.context, &self.directory, &self.config);
        loader.remove_indexes(last.base_offset())?;
        let path = segment_file(&self.directory, last.base_offset(), FileKind::Log);
        rewrite_prefix(self.context.file_system.as_ref(), &path, place.position)?;

        let active = Arc::new(loader.resume_at(place.segment, place.position, place.offset)?);
        kept.push(Arc::clone(&active));
        let segments = Segments::new(kept);
        self.producers = loader.replay_to_end_of(&active, &[], &segments)?.producers;
        {
            // What was cut may have been seen: what follows is of another epoch.
            let next = self.leader_epoch().next();
            let mut epochs = self.shared.epochs.write();
            epochs.truncate_from_end(place.offset);
            epochs.assign(next, place.offset);
            store_epochs(&self.context, &self.directory, &epochs)?;
        }
        *self.shared.segments.write() = segments;
        let first_unstable = self.producers.first_unstable_offset();
        self.shared.positions.write().cut(place, first_unstable);
        self.is_touched = true;
        Ok(())
    }
}

fn remove_files(log: &Log, segment: &Segment) -> Result<(), FsError> {
    let file_system = &log.context.file_system;
    for path in segment.paths() {
        if file_system.exists(&path)? {
            file_system.remove_file(&path)?;
        }
    }
    file_system.sync_directory(&log.directory)
}

/// Puts a file with the first `length` bytes of this one in its place, durably. Maps of the former file go
/// on showing what they showed.
pub(crate) fn rewrite_prefix(file_system: &dyn FileSystem, path: &Path, length: u64) -> Result<(), FsError> {
    let aside = path.with_extension("log.tmp");
    if file_system.exists(&aside)? {
        file_system.remove_file(&aside)?;
    }
    let source = file_system.open_read_only(path)?;
    let target = file_system.create(&aside)?;
    let mut buffer = vec![0; COPY_CHUNK];
    let mut position = 0;
    while position < length {
        let left = usize::try_from(length.saturating_sub(position)).unwrap_or(COPY_CHUNK);
        let (chunk, _) = buffer.split_at_mut(left.min(COPY_CHUNK));
        let count = source.read_at(position, chunk)?;
        if count == 0 {
            return Err(ends_early(path, position, length));
        }
        let (read, _) = chunk.split_at(count);
        target.write_at(position, &[IoSlice::new(read)])?;
        position = position.saturating_add(u64::try_from(count).expect("usize fits u64"));
    }
    target.sync_data()?;
    file_system.rename(&aside, path)?;
    file_system.sync_directory(path.parent().unwrap_or(path))
}

fn ends_early(path: &Path, position: u64, length: u64) -> FsError {
    FsError {
        operation: FsOperation::Read,
        path: path.to_path_buf(),
        kind: FsErrorKind::UnexpectedEnd,
        source: std::io::Error::other(format!("ends at {position}, before {length}")),
    }
}
