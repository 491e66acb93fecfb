//! Partition directories that are on their way out, or set aside: how they get other names.
//!
//! Those names end in ways that no partition's directory does, and carry the topic's id: a topic of the same name may come again. It may
//! even be there already, so a deletion looks whose the directory is:
//!
//! | this process opened or made it for | its `partition.metadata` says | a deletion |
//! |---|---|---|
//! | the topic that is deleted | anything | renames it |
//! | another life of that name | anything | leaves it alone |
//! | nobody | another topic's id | leaves it alone |
//! | nobody | the topic's id, or nothing that can be read | renames it |

use std::path::PathBuf;

use super::found::{FoundPartition, topic_id_in};
use super::log_directory::LogDirectory;
use crate::fs::{FsError, FsErrorKind, FsOperation};
use crate::log::LogError;
use crate::model::{TopicId, TopicPartition};

/// A partition directory on its way out.
const DELETE_SUFFIX: &str = "-delete";
/// A partition directory that belongs to no known topic.
const STRAY_SUFFIX: &str = "-stray";
/// The longest name that common file systems take, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// What a deletion came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The topic's own directory, or none: nothing of that name is the topic's any more.
    Done,
    /// The directory of another life of that name, which stays.
    TooLate,
}

impl LogDirectory {
    /// Gives the directory of a deleted topic's partition another name, durably. Its files go with [`Self::remove_deleted`]. In a
    /// directory that was given up it stays as it is.
    ///
    /// # Errors
    /// The file system's.
    pub fn schedule_delete(
        &self,
        partition: &TopicPartition,
        topic_id: TopicId,
    ) -> Result<Deletion, LogError> {
        if self.is_of_another_life(partition, topic_id) {
            return Ok(Deletion::TooLate);
        }
        self.checkpoints.lock().end_life(partition, topic_id);
        if self.is_online() {
            self.rename_away(partition, topic_id, DELETE_SUFFIX)?;
        }
        Ok(Deletion::Done)
    }

    /// By the table above.
    fn is_of_another_life(&self, partition: &TopicPartition, topic_id: TopicId) -> bool {
        let life = self.checkpoints.lock().lives.get(partition).copied();
        let found = match life {
            Some(life) => Some(life),
            None if self.is_online() => {
                let read = topic_id_in(&self.context, &self.directory(partition));
                // A file that cannot be read must not keep a topic from being deleted.
                read.unwrap_or_default()
            }
            None => None,
        };
        found.is_some_and(|found| found != topic_id)
    }

    /// Sets aside a directory whose topic nobody knows, durably.
    ///
    /// # Errors
    /// The file system's.
    pub fn set_aside_stray(&self, found: &FoundPartition) -> Result<(), LogError> {
        self.rename_away(
            &found.partition,
            found.topic_id.unwrap_or(TopicId::ZERO),
            STRAY_SUFFIX,
        )
    }

    /// Removes the directories of deleted partitions and returns how many there were. Blocks.
    ///
    /// # Errors
    /// The file system's; what is left is removed next time.
    pub fn remove_deleted(&self) -> Result<usize, FsError> {
        self.noted(self.remove_renamed())
    }

    fn remove_renamed(&self) -> Result<usize, FsError> {
        let mut count: usize = 0;
        for entry in self.context.file_system.list(&self.data_dir)? {
            if entry.is_directory && entry.name.ends_with(DELETE_SUFFIX) {
                self.context
                    .file_system
                    .remove_directory(&self.data_dir.join(&entry.name))?;
                count = count.saturating_add(1);
            }
        }
        Ok(count)
    }

    /// One that is gone already is `Ok`.
    fn rename_away(&self, partition: &TopicPartition, id: TopicId, suffix: &str) -> Result<(), LogError> {
        let from = self.directory(partition);
        let to = self.noted(self.free_name(partition, id, suffix))?;
        match self.noted(self.context.file_system.rename(&from, &to)) {
            Ok(()) => {}
            Err(error) if error.kind == FsErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        Ok(self.noted(self.context.file_system.sync_directory(&self.data_dir))?)
    }

    /// A name aside that nothing has. The same partition may go more than once, and directories that say no id share the one for none.
    fn free_name(&self, partition: &TopicPartition, id: TopicId, suffix: &str) -> Result<PathBuf, FsError> {
        for name in names_aside(partition, id, suffix) {
            let path = self.data_dir.join(name);
            if !self.context.file_system.exists(&path)? {
                return Ok(path);
            }
        }
        let text = "all names for it are taken: remove what was set aside before".to_owned();
        Err(FsError::refused(
            FsOperation::Rename,
            &self.data_dir,
            FsErrorKind::AlreadyExists,
            text,
        ))
    }
}

/// The names for a directory that is on its way out or set aside, in the order to try them: the second and later ones have a
/// number.
fn names_aside(partition: &TopicPartition, id: TopicId, suffix: &str) -> impl Iterator<Item = String> {
    let first = std::iter::once(String::new());
    let numbered = (2..=u32::MAX).map(|number| format!(".{number}"));
    first
        .chain(numbered)
        .map(move |number| name_aside(partition, &format!(".{id}{number}{suffix}")))
}

/// Of a topic with a long name it has the beginning alone, as in Kafka: the id tells them apart, and a name that is too long could not
/// be given.
fn name_aside(partition: &TopicPartition, ending: &str) -> String {
    let rest = format!("-{}{ending}", partition.partition);
    let room = NAME_BYTES_MAX.saturating_sub(rest.len());
    let (topic, _) = partition
        .topic
        .split_at(partition.topic.floor_char_boundary(room));
    format!("{topic}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_topic_can_be_set_aside() {
        let id = TopicId::from_bytes([0xfb, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
        let names = |topic: &str, partition| {
            let partition = TopicPartition::new(topic, partition);
            names_aside(&partition, id, "-delete").take(2).collect::<Vec<_>>()
        };
        let name = |topic: &str, partition| names(topic, partition).remove(0);
        let expected = [
            "orders-3.-_8BAgMEBQYHCAkKCwwNDg-delete",
            "orders-3.-_8BAgMEBQYHCAkKCwwNDg.2-delete",
        ];
        assert_eq!(names("orders", 3), expected);
        let longest = "x".repeat(249);
        assert_eq!(name(&longest, 0).len(), NAME_BYTES_MAX);
        assert!(name(&longest, i32::MAX).ends_with("-2147483647.-_8BAgMEBQYHCAkKCwwNDg-delete"));
        assert!(name(&"ü".repeat(125), 0).len() < NAME_BYTES_MAX + 1);
    }
}
