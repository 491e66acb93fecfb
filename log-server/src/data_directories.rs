//! Opening the broker's data directories: those that the settings name, on this system's files.
//! What is wrong with one of them comes with what to do about it.

use std::path::PathBuf;
use std::sync::Arc;

use log_core::clock::Clock;
use log_core::fs::map::MapBudget;
use log_core::fs::os::OsFileSystem;
use log_core::fs::{FsError, FsErrorKind};
use log_core::log::LogContext;
use log_core::log_manager::{Found, LogManager, LogManagerError, OpenError};

use crate::metadata::plan::random_id;
use crate::partition::reserve::SpaceReserve;
use crate::system::SystemClock;

/// A directory that keeps the broker from starting.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the data directory {}: {source}; {advice}", directory.display())]
pub struct DataDirectoryError {
    /// The directory.
    directory: PathBuf,
    /// What is wrong.
    source: Box<LogManagerError>,
    /// What to do.
    advice: String,
}

impl From<OpenError> for DataDirectoryError {
    fn from(OpenError { directory, source }: OpenError) -> Self {
        Self {
            advice: advice(&source),
            directory,
            source: Box::new(source),
        }
    }
}

/// Takes all directories. Blocks.
///
/// # Errors
/// As [`LogManager::open_all`].
pub(crate) fn open(
    paths: &[PathBuf],
    maps: MapBudget,
) -> Result<(Arc<LogManager>, Found), DataDirectoryError> {
    let context = LogContext {
        file_system: Arc::new(OsFileSystem::with_map_budget(maps)),
        clock: Arc::new(SystemClock) as Arc<dyn Clock>,
    };
    let (manager, found) = LogManager::open_all(context, paths)?;
    for absent in manager.absent() {
        tracing::error!(
            directory = %absent.path.display(), reason = %absent.reason,
            "the directory cannot be used: the others serve; mend it and start again"
        );
    }
    for directory in manager.directories() {
        SpaceReserve::new(directory).give_up_if_full(directory.space());
    }
    Ok((Arc::new(manager), found))
}

/// Checks that they are of this cluster, and marks those that are new. Blocks.
///
/// # Errors
/// As [`LogManager::claim`].
pub(crate) fn claim(manager: &LogManager, cluster_id: &str) -> Result<(), DataDirectoryError> {
    let mut random = fastrand::Rng::new();
    manager.claim(cluster_id, || random_id(&mut random).to_string())?;
    Ok(())
}

fn advice(error: &LogManagerError) -> String {
    let text = match error {
        LogManagerError::Storage(FsError {
            kind: FsErrorKind::Locked,
            ..
        }) => "another broker uses it: stop that one, or choose another directory with --data-dir",
        LogManagerError::Storage(FsError {
            kind: FsErrorKind::NoSpace,
            ..
        }) => "free some space on its disk",
        LogManagerError::Storage(_) => {
            "see that this user may read and write it, or choose another with --data-dir"
        }
        LogManagerError::Checkpoint { path, .. } => {
            return format!(
                "bring {} back from a copy; without it all logs are verified from their beginnings, and records that were \
                 deleted by DeleteRecords may be seen again",
                path.display()
            );
        }
        LogManagerError::Identity { .. } => "bring the file back from a copy",
        LogManagerError::Foreign { .. } => {
            "name this broker's directories alone, the one with the metadata log first; a new one must be empty"
        }
        LogManagerError::Unseen { .. } => {
            "a cluster begins with all its directories: mend it, leave it out until later, or name the directory first that has the \
             metadata log"
        }
        LogManagerError::Copied { .. } => "name only one of the two",
        LogManagerError::Twice { .. } => {
            "nothing was changed; look at both with `stratalog log verify`, and move away the one that is not wanted, most likely \
             that in the directory that failed last"
        }
    };
    text.to_owned()
}
