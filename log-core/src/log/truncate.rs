//! Cutting off the end of a log.
//!
//! Readers may still hold slices of what is cut, and a file must not shrink under a map; so the segment that
//! is cut in the middle is written anew, and the old file goes on living under the slices until they are gone.

use std::io::IoSlice;
use std::sync::Arc;

use crate::fs::FsError;
use crate::log::error::LogError;
use crate::log::flush::FlushState;
use crate::log::loader::{Loader, store_epochs};
use crate::log::log::Log;
use crate::log::offsets::Place;
use crate::model::Offset;
use crate::segment::file_name::{FileKind, segment_file};
use crate::segment::segment::{Patience, Segment};
use crate::segment::segments::Segments;

/// How much is copied at a time.
const COPY_CHUNK: u64 = 1 << 20;

impl Log {
    /// Drops every batch that holds `offset` or lies behind it, and returns the new log end: `offset`, or
    /// the beginning of the batch that held it. Durable when it returns. Blocks.
    ///
    /// # Errors
    /// `OffsetOutOfRange` outside of log start and log end. A file system error latches the log.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<Offset, LogError> {
        self.check_latch()?;
        let offsets = self.offsets();
        if offset < offsets.log_start || offsets.log_end < offset {
            let (low, high) = (offsets.log_start, offsets.log_end);
            return Err(LogError::OffsetOutOfRange { offset, low, high });
        }
        if offset == offsets.log_end {
            return Ok(offset);
        }
        self.flush()?;
        match self.cut(offset) {
            Ok(end) => Ok(end),
            Err(LogError::Storage(error)) => Err(self.latch("truncate", &error).into()),
            Err(error) => Err(error),
        }
    }

    fn cut(&mut self, offset: Offset) -> Result<Offset, LogError> {
        let segments = self.shared.segments();
        let (mut kept, dropped): (Vec<_>, Vec<_>) = segments
            .iter()
            .cloned()
            .partition(|segment| segment.base_offset() <= offset);
        let last = kept
            .pop()
            .expect("the log start lies in a segment, and the offset not before it");
        let place = last
            .find(offset, last.size(), Patience::MayBlock)
            .map_err(|error| {
                let path = segment_file(&self.directory, last.base_offset(), FileKind::Log);
                crate::log::loader::damage(path, &error, last.base_offset(), self.flush.flushed().offset)
            })?;
        let (position, end) = match place.flatten() {
            Some(place) => (place.position.get(), place.header.base_offset),
            None => (last.size(), last.next_offset()),
        };

        // Newest first: a crash in between leaves a shorter log, never one with a hole.
        for segment in dropped.iter().rev() {
            remove_files(self, segment)?;
        }
        rewrite_prefix(self, &last, position)?;
        self.context.file_system.sync_directory(&self.directory)?;

        let loader = Loader::new(&self.context, &self.directory, &self.config);
        let active = Arc::new(loader.resume_at(last.base_offset(), position, end)?);
        kept.push(Arc::clone(&active));
        let segments = Segments::new(kept);
        self.producers = loader.replay_producers(&segments, self.offsets().log_start, end)?;
        self.shared.epochs.write().truncate_from_end(end);
        store_epochs(&self.context, &self.directory, &self.shared.epochs.read())?;
        *self.shared.segments.write() = segments;
        let place = Place {
            offset: end,
            segment: active.base_offset(),
            position,
        };
        self.shared.positions.write().cut(place);
        self.flush = FlushState::new(place);
        Ok(end)
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

/// Puts a file with the first `length` bytes of the segment in its place, synced.
fn rewrite_prefix(log: &Log, segment: &Segment, length: u64) -> Result<(), FsError> {
    let path = segment_file(&log.directory, segment.base_offset(), FileKind::Log);
    let aside = path.with_extension("log.tmp");
    let file_system = &log.context.file_system;
    if file_system.exists(&aside)? {
        file_system.remove_file(&aside)?;
    }
    let file = file_system.create(&aside)?;
    let mut position = 0;
    while position < length {
        let end = position.saturating_add(COPY_CHUNK).min(length);
        let chunk = segment.slice(position..end, Patience::MayBlock)?;
        let chunk = chunk.expect("a patient read gives the bytes");
        file.write_at(position, &[IoSlice::new(&chunk)])?;
        position = end;
    }
    file.sync_data()?;
    file_system.rename(&aside, &path)?;
    // The indexes name positions behind the new end; they are made again.
    for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
        let index = segment_file(&log.directory, segment.base_offset(), kind);
        if file_system.exists(&index)? {
            file_system.remove_file(&index)?;
        }
    }
    Ok(())
}
