//! What a start makes of the partitions: those that the metadata knows, against the directories that are there.
//!
//! What is found on the disk at start, against what the metadata says:
//!
//! | the directory | decision |
//! |---|---|
//! | is there, with the topic's id or without any | loaded; recovered if the last stop was not in order |
//! | is there without any id, and one of the broker's data directories is missing | left as it is, and off-line: the topic's own may be in the missing one, and this an earlier topic's |
//! | is there and cannot be loaded | the partition is off-line, with the reason; the others serve |
//! | is missing | made anew: the broker stopped between the topic's record and its files, or somebody removed it; tried again where that fails |
//! | is missing, and so is one of the broker's data directories | the partition is off-line: it may be in that one |
//! | carries another topic's id | set aside under another name, and made anew, unless another data directory has the right one |
//! | belongs to no topic | set aside under another name |
//!
//! What is made, then or later, never takes over what is there: a directory of another id, or with files and without any, is set aside
//! first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log_core::log::{LoadReport, Log, LogError};
use log_core::log_manager::{Found, FoundPartition};
use log_core::model::TopicPartition;

use crate::partition::partition::{Condition, Partition, Remedy};
use crate::partition::registry::{PartitionRegistry, TopicSpec, in_parallel, topic_of};

/// What loading found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadSummary {
    /// Partitions that serve.
    pub online: usize,
    /// Partitions that could not be loaded.
    pub offline: usize,
    /// Directories set aside.
    pub strays: usize,
    /// Bytes whose checksums were verified because the last stop was not in order.
    pub bytes_verified: u64,
}

/// Where a partition was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Found,
    Nowhere,
    /// In none of those that serve; maybe in one that is missing.
    Lost,
}

impl PartitionRegistry {
    /// Makes the files say what the metadata says, and serves what can be served. `owned` are partitions that are
    /// neither in `topics` nor strays. Blocks.
    ///
    /// # Panics
    /// On a negative number of partitions.
    pub fn load(&self, topics: &[TopicSpec], found: &Found, owned: &[TopicPartition]) -> LoadSummary {
        let _change = self.change.lock();
        let mut summary = LoadSummary::default();
        let mut directories: BTreeMap<&TopicPartition, Vec<&FoundPartition>> = BTreeMap::new();
        for found in &found.partitions {
            directories.entry(&found.partition).or_default().push(found);
        }
        for partition in owned {
            directories.remove(partition);
        }
        let missing = self.manager.missing();
        let mut lost: usize = 0;
        let mut jobs = Vec::new();
        for topic in topics {
            for index in 0..topic.partition_count {
                let name = TopicPartition::new(Arc::clone(&topic.name), index);
                let mut candidates = directories.remove(&name).unwrap_or_default();
                // Where several directories have one, that with the topic's own id comes before one without any.
                candidates.sort_by_key(|found| found.topic_id != Some(topic.id));
                let mut place = if missing.is_empty() {
                    Place::Nowhere
                } else {
                    Place::Lost
                };
                for found in candidates {
                    if found.topic_id.is_none() && place == Place::Lost {
                        continue;
                    }
                    let is_ours = found.topic_id.is_none_or(|id| id == topic.id);
                    if is_ours && place != Place::Found {
                        self.manager.adopt(found);
                        place = Place::Found;
                    } else {
                        summary.strays += self.set_aside(found);
                    }
                }
                lost += usize::from(place == Place::Lost);
                jobs.push((topic, name, place));
            }
        }
        for stray in directories.into_values().flatten() {
            summary.strays += self.set_aside(stray);
        }
        self.tell_missing(&missing, lost);

        let opened = in_parallel(self.thread_count, &jobs, |(topic, name, place)| {
            if *place == Place::Nowhere && !found.partitions.is_empty() {
                tracing::warn!(partition = %name, "the directory is missing; the partition starts empty");
            }
            match place {
                Place::Lost => (self.lost_partition(topic, name, &missing), 0),
                Place::Found | Place::Nowhere => self.open_partition(topic, name, *place == Place::Found),
            }
        });
        let mut opened = opened.into_iter();
        let mut table = (**self.table.load()).clone();
        for topic in topics {
            let count = usize::try_from(topic.partition_count).expect("a topic has partitions");
            let mut partitions = Vec::with_capacity(count);
            for (partition, bytes_verified) in opened.by_ref().take(count) {
                match &*partition.condition() {
                    Condition::Offline { .. } | Condition::Closed(_) => summary.offline += 1,
                    Condition::Online(_) | Condition::Latched { .. } => summary.online += 1,
                }
                summary.bytes_verified += bytes_verified;
                partitions.push(partition);
            }
            table.put(&topic_of(topic, partitions));
        }
        self.table.store(Arc::new(table));
        if !found.clean
            && let Err(error) = self.write_recovery_points()
        {
            tracing::warn!(operation = "write recovery points", %error, "a start after another kill verifies all of that again");
        }
        summary
    }

    /// Says what is missing, or forgets it where nothing could be in it.
    fn tell_missing(&self, missing: &[PathBuf], lost: usize) {
        for path in missing {
            tracing::error!(
                directory = %path.display(), reason = %self.why_missing(path), partitions_not_found = lost,
                "a directory of this broker is missing; what is not found may be in it and is off-line"
            );
        }
        if lost != 0 {
            return;
        }
        match self.manager.forget_unnamed() {
            Ok(forgotten) => {
                for path in forgotten {
                    tracing::info!(directory = %path.display(), "no partition is missing: the directory is forgotten");
                }
            }
            Err(error) => {
                tracing::warn!(operation = "forget a directory", %error, "tried again at the next start");
            }
        }
    }

    fn why_missing(&self, path: &Path) -> Arc<str> {
        let failure = self.manager.failure_at(path);
        failure.unwrap_or_else(|| "no data directory of the setting is this one".into())
    }

    /// A partition that may be in a directory that is not there.
    fn lost_partition(
        &self,
        topic: &TopicSpec,
        name: &TopicPartition,
        missing: &[PathBuf],
    ) -> Arc<Partition> {
        let place = |path: &PathBuf| format!("{} ({})", path.display(), self.why_missing(path));
        let places: Vec<_> = missing.iter().map(place).collect();
        let reason = format!(
            "it is in no directory that serves, and may be in {}: bring that back and start again, or delete the topic",
            places.join(" or in ")
        );
        let (context, config) = (self.context_of(name), topic.config.clone());
        Partition::offline(context, name.clone(), topic.id, config, &reason, Remedy::Restart)
    }

    fn open_partition(
        &self,
        topic: &TopicSpec,
        name: &TopicPartition,
        exists: bool,
    ) -> (Arc<Partition>, u64) {
        let opened = self.open_log(name, topic, exists);
        // After that, for one that is made anew is given a home by it.
        let context = self.context_of(name);
        match opened {
            Ok((mut log, report)) => {
                log_report(name, &report);
                seal_recovered(name, &mut log);
                (Partition::new(context, log), report.bytes_verified)
            }
            Err(error) => {
                let directory = context.checkpoints.directory().data_dir().join(name.to_string());
                let remedy = match error {
                    LogError::Storage(_) if exists => Remedy::Load,
                    LogError::Storage(_) => Remedy::Create,
                    _ => Remedy::Restart,
                };
                let advice = if remedy == Remedy::Restart {
                    let directory = directory.display();
                    format!(
                        "look at it with `stratalog log verify {directory}`, restore it from a copy or delete the topic"
                    )
                } else {
                    "it is tried again as long as the broker runs".to_owned()
                };
                tracing::error!(partition = %name, operation = "load", %error, "off-line, the others serve; {advice}");
                let reason = format!("{error}; {advice}");
                let config = topic.config.clone();
                (
                    Partition::offline(context, name.clone(), topic.id, config, &reason, remedy),
                    0,
                )
            }
        }
    }

    fn open_log(
        &self,
        name: &TopicPartition,
        topic: &TopicSpec,
        exists: bool,
    ) -> Result<(Log, LoadReport), LogError> {
        if exists {
            self.manager.load(name, topic.id, topic.config.clone())
        } else {
            Ok((self.create_log(name, topic)?, LoadReport::default()))
        }
    }

    pub(super) fn create_log(&self, name: &TopicPartition, topic: &TopicSpec) -> Result<Log, LogError> {
        let (directory, topic_id) = match self.manager.create(name, topic.id, topic.config.clone()) {
            // A deletion that could not rename it.
            Err(LogError::ForeignDirectory { directory, found, .. }) => (directory, Some(found)),
            // An earlier topic's: a start that missed another data directory left it as it was.
            Err(LogError::NamelessDirectory { directory }) => (directory, None),
            result => return result,
        };
        self.set_aside(&FoundPartition {
            partition: name.clone(),
            topic_id,
            directory,
        });
        self.manager.create(name, topic.id, topic.config.clone())
    }

    fn set_aside(&self, found: &FoundPartition) -> usize {
        let directory = found.directory.display();
        match self.manager.set_aside_stray(found) {
            Ok(()) => {
                tracing::warn!(partition = %found.partition, %directory, "no such topic is known: set aside as a stray");
                1
            }
            Err(error) => {
                tracing::error!(partition = %found.partition, %directory, %error, "a stray directory stays");
                0
            }
        }
    }
}

/// Completes the segments that a kill left half way. Else the recovery point would stay at the first of them until somebody appends, and
/// the start after another kill would verify again what this one has verified. The rest of a recovery takes far longer.
fn seal_recovered(partition: &TopicPartition, log: &mut Log) {
    if log.is_as_closed() {
        return;
    }
    if let Err(error) = log.seal_all() {
        tracing::warn!(%partition, operation = "complete recovered segments", %error, "tried again behind the next flush");
    }
}

pub(crate) fn log_report(partition: &TopicPartition, report: &LoadReport) {
    for (file, bytes, cause) in &report.torn {
        tracing::warn!(%partition, file = %file.display(), bytes, %cause, "a torn end was cut off; it was never acknowledged");
    }
    if 0 < report.swaps_completed {
        tracing::info!(%partition, segments = report.swaps_completed, "compacted segments were put in their places");
    }
    if let Some(first) = report.missing_before {
        tracing::warn!(
            %partition, log_start = %first,
            "the first segments are missing; they were removed by hand, or by retention on a full disk before a crash"
        );
    }
    if 0 < report.segments_removed {
        tracing::warn!(%partition, segments = report.segments_removed, "segments behind a torn end were removed");
    }
}
