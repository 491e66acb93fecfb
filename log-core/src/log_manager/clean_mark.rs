//! The mark of an orderly stop, `.kafka_cleanshutdown`: the logs of a data directory are as they were closed.
//!
//! It holds until the first of them is opened or made, and has to be gone, durably, before that. A start that is refused before
//! leaves it: the next one has nothing to recover.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::checkpoint::clean_shutdown::CleanShutdown;
use crate::fs::{FileSystem, FsError, FsErrorKind};

const FILE: &str = ".kafka_cleanshutdown";
/// One short line.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The mark that a start found, or did not find.
#[derive(Debug)]
pub(super) struct CleanMark {
    data_dir: PathBuf,
    is_promise: bool,
    /// Whether the file may still be there.
    is_there: Mutex<bool>,
}

impl CleanMark {
    /// Looks for it. One that does not parse is no promise; to recover is always safe.
    pub(super) fn read(file_system: &dyn FileSystem, data_dir: &Path) -> Result<Self, FsError> {
        let found = match file_system.read(&data_dir.join(FILE), FILE_BYTES_MAX) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind == FsErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            data_dir: data_dir.to_path_buf(),
            is_promise: (found.as_ref()).is_some_and(|bytes| CleanShutdown::parse(bytes).is_ok()),
            is_there: Mutex::new(found.is_some()),
        })
    }

    /// Whether the last process ended in order.
    pub(super) fn is_promise(&self) -> bool {
        self.is_promise
    }

    /// Whether it still has to be removed.
    pub(super) fn is_there(&self) -> bool {
        *self.is_there.lock()
    }

    /// Removes it, durably. Blocks; those who come meanwhile wait.
    pub(super) fn remove(&self, file_system: &dyn FileSystem) -> Result<(), FsError> {
        let mut is_there = self.is_there.lock();
        if !*is_there {
            return Ok(());
        }
        match file_system.remove_file(&self.data_dir.join(FILE)) {
            // An earlier call removed it, and could not sync that.
            Err(error) if error.kind == FsErrorKind::NotFound => {}
            result => result?,
        }
        file_system.sync_directory(&self.data_dir)?;
        *is_there = false;
        Ok(())
    }

    /// The file's name and contents, for a stop that was in order.
    pub(super) fn file() -> (&'static str, Vec<u8>) {
        let contents = CleanShutdown {
            broker_epoch: Some(-1),
        };
        (FILE, contents.to_bytes())
    }
}
