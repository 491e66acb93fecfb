//! What stands in a data directory when it is opened: partitions, by the names of their directories, with the topic ids in them.
//! Which of them belong to a topic, whoever knows the topics decides.

use std::path::{Path, PathBuf};

use crate::checkpoint::partition_metadata;
use crate::fs::{FsError, FsErrorKind};
use crate::log::LogContext;
use crate::model::{TopicId, TopicPartition};

/// The topic's id, in each partition's directory.
pub(super) const PARTITION_METADATA_FILE: &str = "partition.metadata";
/// The file is two short lines.
const PARTITION_METADATA_BYTES_MAX: u64 = 64 << 10;

/// A partition's directory as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPartition {
    /// By the directory's name.
    pub partition: TopicPartition,
    /// By the file in it; `None` when that is missing or damaged.
    pub topic_id: Option<TopicId>,
    /// Where it is.
    pub directory: PathBuf,
}

/// What data directories held when they were opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whether the last process ended in order.
    pub clean: bool,
    /// The partitions, by directory and name.
    pub partitions: Vec<FoundPartition>,
}

pub(super) fn find_partitions(context: &LogContext, data_dir: &Path) -> Result<Vec<FoundPartition>, FsError> {
    let mut found = Vec::new();
    for entry in context.file_system.list(data_dir)? {
        let Ok(partition) = entry.name.parse::<TopicPartition>() else {
            continue;
        };
        if entry.is_directory {
            let directory = data_dir.join(&entry.name);
            let topic_id = topic_id_in(context, &directory)?;
            found.push(FoundPartition {
                partition,
                topic_id,
                directory,
            });
        }
    }
    Ok(found)
}

pub(super) fn topic_id_in(context: &LogContext, directory: &Path) -> Result<Option<TopicId>, FsError> {
    let path = directory.join(PARTITION_METADATA_FILE);
    match context.file_system.read(&path, PARTITION_METADATA_BYTES_MAX) {
        Ok(bytes) => Ok(partition_metadata::parse(&bytes).ok()),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
