//! A file that only takes space, and is given up when a full disk would keep space from being freed.
//!
//! Deleting records, and a start after a crash, write a few small files before anything can be removed. On a disk that is
//! full to the last block they could not, and the way out would be blocked. So a little is kept back while there is
//! plenty, given up when it is needed, and taken again later.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log_core::fs::{FileSystem, FsError, FsErrorKind, Space};
use log_core::log_manager::LogDirectory;

/// The file's name in the data directory.
const RESERVE_FILE: &str = "space-reserve";
/// Some hundred small files.
const RESERVE_BYTES_MAX: u64 = 1 << 20;

/// The file.
#[derive(Debug)]
pub(crate) struct SpaceReserve {
    file_system: Arc<dyn FileSystem>,
    path: PathBuf,
    /// Whether there is nothing to take any more, as far as we know.
    is_taken: AtomicBool,
}

impl SpaceReserve {
    /// It may be there from an earlier run.
    pub(crate) fn new(directory: &LogDirectory) -> Self {
        Self {
            file_system: Arc::clone(&directory.context().file_system),
            path: directory.data_dir().join(RESERVE_FILE),
            is_taken: AtomicBool::new(false),
        }
    }

    /// Takes the space if it is not taken yet. To be called while there is plenty. Blocks.
    pub(crate) fn take(&self, space: Space) {
        if self.is_taken.load(Ordering::Relaxed) {
            return;
        }
        // A disk as small as that is a test's, and needs all it has.
        let bytes = RESERVE_BYTES_MAX.min(space.total / 256);
        let result = match self.file_system.create(&self.path) {
            Ok(file) => file.allocate(0..bytes),
            Err(error) if error.kind == FsErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => self.is_taken.store(true, Ordering::Relaxed),
            Err(error) => tracing::debug!(%error, "no space is kept back"),
        }
    }

    /// Gives the space up; false when there was none. Blocks.
    pub(crate) fn give_up(&self) -> bool {
        self.is_taken.store(false, Ordering::Relaxed);
        match self.file_system.remove_file(&self.path) {
            Ok(()) => {
                tracing::warn!(path = %self.path.display(), "the disk is full: the space kept back for this is given up");
                true
            }
            Err(error) => {
                if error.kind != FsErrorKind::NotFound {
                    tracing::warn!(%error, "the space kept back stays");
                }
                false
            }
        }
    }

    /// Gives the space up at a start that may need it.
    pub(crate) fn give_up_if_full(&self, space: Result<Space, FsError>) {
        if space.is_ok_and(|space| space.available < RESERVE_BYTES_MAX.min(space.total / 256)) {
            self.give_up();
        }
    }
}
