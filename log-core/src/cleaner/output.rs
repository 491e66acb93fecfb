//! The files of a cleaned segment while they are written: the log, its indexes, its aborted transactions.
//!
//! What stays byte for byte is copied in long stretches. Until something differs from the old segment there is nothing
//! to write: a segment in which nothing changes stays where it is.
//!
//! The system is asked to write out as it goes, so that little is left to wait for when the files are synced.

use std::io::IoSlice;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{CleanError, Pace};
use crate::config::LogConfig;
use crate::fs::{File, FileSystem, FsError};
use crate::index::error::PushError;
use crate::index::transaction_index::{AbortedTransaction, TransactionIndex};
use crate::model::{FilePosition, Offset};
use crate::record::batch_header::BatchHeader;
use crate::segment::file_name::{FileKind, segment_file};
use crate::segment::indexes::SegmentIndexes;
use crate::segment::swap::cleaned_file;
use crate::segment::view::View;

/// The system is asked to write out so much at a time: large enough for a disk to do in one go.
const WRITE_OUT_STEP: u64 = 4 << 20;

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) size: u64,
    /// Whether there are aborted transactions in it.
    pub(super) has_aborted: bool,
    /// They must be synced.
    pub(super) files: Vec<Arc<dyn File>>,
}

/// A segment that is being written.
#[derive(Debug)]
pub(super) struct Output<'a> {
    file_system: &'a dyn FileSystem,
    directory: &'a Path,
    base_offset: Offset,
    /// Not made before there is a difference.
    file: Option<Arc<dyn File>>,
    is_different: bool,
    /// How much is in the file or on its way.
    size: u64,
    written: u64,
    /// How much of it the system was asked to write out.
    written_out: u64,
    indexes: SegmentIndexes,
    /// A stretch of the present source that is to be copied.
    run: Range<u64>,
    /// New batches that wait to be written behind `run`'s predecessors.
    waiting: Vec<Bytes>,
    waiting_bytes: u64,
    chunk: u64,
}

impl<'a> Output<'a> {
    /// A segment that begins at `base_offset`; `is_merge` when it takes the place of several.
    pub(super) fn new(
        file_system: &'a dyn FileSystem,
        directory: &'a Path,
        base_offset: Offset,
        config: &LogConfig,
        is_merge: bool,
        chunk: u64,
    ) -> Self {
        Self {
            file_system,
            directory,
            base_offset,
            file: None,
            is_different: is_merge,
            size: 0,
            written: 0,
            written_out: 0,
            indexes: SegmentIndexes::new(base_offset, config.index_bytes_max, config.index_interval_bytes),
            run: 0..0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            chunk: chunk.max(1),
        }
    }

    /// The batch at `position` of `source` stays as it is.
    pub(super) fn keep(
        &mut self,
        source: &View,
        position: FilePosition,
        header: &BatchHeader,
        pace: &mut dyn Pace,
    ) -> Result<(), CleanError> {
        let start = position.get();
        let end = start.saturating_add(length(header.size()));
        if self.run.end != start {
            self.end_run(source, pace)?;
            self.run = start..start;
        }
        self.run.end = end;
        self.note(header);
        if self.is_different && self.chunk <= self.run.end.saturating_sub(self.run.start) {
            self.end_run(source, pace)?;
        }
        Ok(())
    }

    /// A batch of the source is left out.
    pub(super) fn leave_out(&mut self) {
        self.is_different = true;
    }

    /// Another batch takes its place.
    pub(super) fn put(
        &mut self,
        source: &View,
        header: &BatchHeader,
        batch: Bytes,
        pace: &mut dyn Pace,
    ) -> Result<(), CleanError> {
        self.is_different = true;
        self.end_run(source, pace)?;
        self.note(header);
        self.waiting_bytes = self.waiting_bytes.saturating_add(length(batch.len()));
        self.waiting.push(batch);
        self.flush_if_full(pace)
    }

    /// The source ends; the next one has other positions.
    pub(super) fn end_source(&mut self, source: &View, pace: &mut dyn Pace) -> Result<(), CleanError> {
        if self.is_different {
            self.end_run(source, pace)?;
        }
        Ok(())
    }

    /// Completes the files. `None` when nothing differs from the source. A segment that `had_aborted` transactions has a
    /// file for them that must be replaced, if only by an empty one.
    pub(super) fn finish(
        mut self,
        aborted: &[AbortedTransaction],
        had_aborted: bool,
        pace: &mut dyn Pace,
    ) -> Result<Option<Written>, CleanError> {
        if !self.is_different {
            return Ok(None);
        }
        self.flush(pace)?;
        self.write_out()?;
        self.indexes.finish();
        let mut files = vec![self.file()?];
        for (kind, contents) in self.indexes.encode() {
            files.push(self.write_small(kind, &contents)?);
        }
        if had_aborted || !aborted.is_empty() {
            let mut index = TransactionIndex::new(self.base_offset);
            for transaction in aborted {
                index.append(*transaction).map_err(|error| self.damaged(&error))?;
            }
            files.push(self.write_small(FileKind::TransactionIndex, &index.to_bytes())?);
        }
        Ok(Some(Written {
            size: self.size,
            has_aborted: !aborted.is_empty(),
            files,
        }))
    }

    fn note(&mut self, header: &BatchHeader) {
        self.indexes.note(header, FilePosition::new(self.size));
        self.size = self.size.saturating_add(length(header.size()));
    }

    /// Puts the stretch that is to be copied in line, a chunk at a time.
    fn end_run(&mut self, source: &View, pace: &mut dyn Pace) -> Result<(), CleanError> {
        while self.run.start < self.run.end {
            let end = self.run.start.saturating_add(self.chunk).min(self.run.end);
            let chunk = self.run.start..end;
            source.populate(chunk.clone())?;
            self.waiting_bytes = self.waiting_bytes.saturating_add(end.saturating_sub(chunk.start));
            self.waiting.push(source.bytes(chunk)?);
            self.run.start = end;
            self.flush_if_full(pace)?;
        }
        Ok(())
    }

    fn flush_if_full(&mut self, pace: &mut dyn Pace) -> Result<(), CleanError> {
        if self.chunk <= self.waiting_bytes {
            self.flush(pace)
        } else {
            Ok(())
        }
    }

    fn flush(&mut self, pace: &mut dyn Pace) -> Result<(), CleanError> {
        let file = self.file()?;
        let parts: Vec<IoSlice<'_>> = self.waiting.iter().map(|part| IoSlice::new(part)).collect();
        if !parts.is_empty() {
            file.write_at(self.written, &parts)?;
        }
        self.written = self.written.saturating_add(self.waiting_bytes);
        pace.spend(self.waiting_bytes)?;
        self.waiting.clear();
        self.waiting_bytes = 0;
        if WRITE_OUT_STEP <= self.written.saturating_sub(self.written_out) {
            self.write_out()?;
        }
        Ok(())
    }

    fn write_out(&mut self) -> Result<(), FsError> {
        // Advice: a sync at the end tells what is wrong, where it can be had at all.
        self.file()?.start_writeback(self.written_out..self.written).ok();
        self.written_out = self.written;
        Ok(())
    }

    /// Markers come in the order of their offsets. What does not was wrong in an old index; were it left out, readers would
    /// take aborted records for committed ones.
    fn damaged(&self, error: &PushError) -> CleanError {
        CleanError::Damaged {
            file: segment_file(self.directory, self.base_offset, FileKind::TransactionIndex),
            cause: error.to_string(),
        }
    }

    fn file(&mut self) -> Result<Arc<dyn File>, FsError> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let path = cleaned_file(self.directory, self.base_offset, FileKind::Log);
        let file = self.file_system.create(&path)?;
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn write_small(&self, kind: FileKind, contents: &[u8]) -> Result<Arc<dyn File>, FsError> {
        let file = self
            .file_system
            .create(&cleaned_file(self.directory, self.base_offset, kind))?;
        file.write_at(0, &[IoSlice::new(contents)])?;
        file.start_writeback(0..length(contents.len())).ok();
        Ok(file)
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("usize fits u64")
}
