//! What deleted topics left in the data directory, because a crash came between their record and the removal of their files.
//! Looked for at a start, before partitions are opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::log::LogError;
use log_core::log_manager::{Found, LogManager};

use super::image::MetadataImage;

/// Removes directories that a crash left behind between the record of a topic's deletion and the renaming of its
/// files; the others stay in `found`. Blocks.
///
/// # Errors
/// The file system's, of the last one that could not be removed; the next start tries again.
pub fn remove_leftovers(
    manager: &LogManager,
    found: &mut Found,
    image: &MetadataImage,
) -> Result<usize, LogError> {
    let mut per_topic: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    let mut outcome = Ok(());
    // Whatever happens to one of them, the others that were found must stay found: who is not is made anew.
    found.partitions.retain(|one| {
        let Some(id) = one.topic_id.filter(|id| image.was_deleted(*id)) else {
            return true;
        };
        match manager.delete_found(one, id) {
            Ok(()) => *per_topic.entry(Arc::clone(&one.partition.topic)).or_default() += 1,
            Err(error) => outcome = Err(error),
        }
        false
    });
    let count = per_topic.values().sum();
    for (topic, partitions) in per_topic {
        tracing::info!(%topic, partitions, "files of a deleted topic are removed");
    }
    outcome.map(|()| count)
}
