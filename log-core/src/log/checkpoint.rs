//! What makes the next opening short: the indexes so far, the producers' state, and an orderly close.
//!
//! Everything written here is a hint that can be made again from the log; so it may reach the disk before
//! or after the records it speaks of, and nothing waits for it.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fs::{FileSystem, FsError, FsErrorKind};
use crate::log::error::LogError;
use crate::log::log::Log;
use crate::model::Offset;
use crate::segment::file_name::{FileKind, parse_segment_file, segment_file};
use crate::segment::segment::Segment;

/// How many producer snapshots are kept besides those at the segments' beginnings: the newest may turn out
/// to lie behind what survived a crash.
const SNAPSHOTS_KEPT: usize = 2;

/// A checkpoint that was taken and waits to be written.
#[derive(Debug)]
#[must_use = "nothing has been written yet"]
pub struct CheckpointTask {
    file_system: Arc<dyn FileSystem>,
    directory: Arc<Path>,
    active: Arc<Segment>,
    /// Rolled segments that are not completed.
    unsealed: Vec<Arc<Segment>>,
    offset: Offset,
    snapshot: Vec<u8>,
    segment_bases: Vec<Offset>,
    storing: Arc<Mutex<()>>,
}

impl CheckpointTask {
    /// Writes it. Blocks; needs no lock.
    ///
    /// # Errors
    /// The file system's; the former checkpoint is still there.
    pub fn run(&self) -> Result<(), FsError> {
        let _turn = self.storing.lock();
        // First the indexes of aborted transactions: what lies before a snapshot is not replayed any more.
        for segment in &self.unsealed {
            segment.store_aborted()?;
        }
        self.active.store_indexes()?;
        let path = segment_file(&self.directory, self.offset, FileKind::ProducerSnapshot);
        self.file_system.replace(&path, &self.snapshot)?;
        self.remove_old_snapshots()
    }

    fn remove_old_snapshots(&self) -> Result<(), FsError> {
        let mut loose: Vec<Offset> = self
            .file_system
            .list(&self.directory)?
            .iter()
            .filter_map(|entry| parse_segment_file(&entry.name))
            .filter(|(offset, kind)| {
                *kind == FileKind::ProducerSnapshot && !self.segment_bases.contains(offset)
            })
            .map(|(offset, _)| offset)
            .collect();
        loose.sort_unstable();
        let old = loose.len().saturating_sub(SNAPSHOTS_KEPT);
        for offset in loose.into_iter().take(old) {
            let path = segment_file(&self.directory, offset, FileKind::ProducerSnapshot);
            match self.file_system.remove_file(&path) {
                Err(error) if error.kind != FsErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Log {
    /// Whether an orderly stop left all that a checkpoint would store, and nothing has come since. True of a new log, too.
    #[must_use]
    pub fn is_as_closed(&self) -> bool {
        !self.is_touched
    }

    /// Takes a checkpoint of what recovery would otherwise make again from the log.
    ///
    /// # Errors
    /// `Latched`.
    pub fn checkpoint_state(&mut self) -> Result<CheckpointTask, LogError> {
        self.check_latch()?;
        let segments = self.shared.segments();
        Ok(CheckpointTask {
            file_system: Arc::clone(&self.context.file_system),
            directory: Arc::clone(&self.directory),
            active: Arc::clone(segments.active()),
            unsealed: self.flush.unsealed_below(self.offsets().log_end),
            offset: self.offsets().log_end,
            snapshot: self.producers.snapshot(),
            segment_bases: segments.iter().map(|segment| segment.base_offset()).collect(),
            storing: Arc::clone(&self.storing),
        })
    }

    /// Ends the log in order: everything is on the disk, trimmed, with its indexes and the producers' state,
    /// when this returns. Blocks. The log refuses everything afterwards. Nobody may be running a task of it.
    ///
    /// # Errors
    /// The first failure; what was acknowledged is on the disk all the same, and the next opening recovers.
    pub fn close(&mut self) -> Result<Offset, LogError> {
        self.flush()?;
        // A log that nobody wrote to since the last orderly stop is as that left it; with ten thousand of
        // them, storing each again would take longer than a stop may.
        if self.is_touched {
            self.flush.recall_seal_tasks();
            self.seal_all()?;
            self.checkpoint_state()?.run()?;
            let segments = self.shared.segments();
            segments.active().seal();
            segments.active().complete()?;
        }
        let end = self.offsets().log_end;
        let closed = FsError {
            operation: crate::fs::FsOperation::Write,
            path: self.directory.to_path_buf(),
            kind: FsErrorKind::Other,
            source: std::io::Error::other("the log is closed"),
        };
        self.latch("close", &closed);
        Ok(end)
    }
}
