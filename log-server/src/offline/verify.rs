//! A data directory as a whole: its lock, its checkpoints, what the metadata log says should be there, and every
//! partition that is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log_core::checkpoint::clean_shutdown::CleanShutdown;
use log_core::checkpoint::error::CheckpointFile;
use log_core::checkpoint::offset_checkpoint::{self, OffsetCheckpoint};
use log_core::checkpoint::partition_metadata;
use log_core::fs::{DirectoryLock, FileSystem, FsError, FsErrorKind};
use log_core::log_manager::{Identity, LogManagerError};
use log_core::model::{Offset, TopicId, TopicPartition};
use log_core::segment::file_name::{FileKind, parse_segment_file};

use super::finding::{Finding, Findings, Severity};
use super::known_topics::known_topics;
use super::partition_check::{Depth, Expectations, PARTITION_METADATA_FILE, PartitionCheck, Tally};
use crate::metadata::image::MetadataImage;
use crate::metadata::metadata_log;

/// The file whose lock holds the directory.
const LOCK_FILE: &str = ".lock";
/// How far compaction has come, in a directory of Kafka's.
const CLEANER_FILE: &str = "cleaner-offset-checkpoint";
/// Checkpoint files hold one short line a partition.
const CHECKPOINT_BYTES_MAX: u64 = 256 << 20;
/// Directories that are on their way out, or were set aside.
const ASIDE: [(&str, &str); 3] = [
    ("-delete", "a deleted partition that the next start removes"),
    (
        "-stray",
        "a partition that was set aside because no topic was known for it",
    ),
    ("-future", "a partition that Kafka was moving here"),
];

/// Why a directory cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A broker uses it.
    #[error("another process holds the data directory {}, a running broker most likely", .0.display())]
    InUse(PathBuf),
    /// There is no such directory, or nothing of a broker's in it.
    #[error("{} is no data directory: {why}", path.display())]
    NoDataDirectory {
        /// The path.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// The file system's.
    #[error(transparent)]
    Storage(#[from] FsError),
}

/// What to do about a broker that uses the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhileInUse {
    /// Refuse: what is read changes underneath.
    Refuse,
    /// Read all the same; the ends of logs may look torn.
    Read,
}

/// How the last process that used the directory ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastStop {
    /// In order.
    Clean,
    /// Any other way: the next start recovers.
    Unclean,
    /// It has not ended.
    Running,
}

/// A data directory, held against brokers as long as this lives.
#[derive(Debug)]
pub struct DataDirectory {
    file_system: Arc<dyn FileSystem>,
    path: PathBuf,
    last_stop: LastStop,
    partitions: Vec<TopicPartition>,
    /// The bytes of all `.log` files.
    log_bytes: u64,
    _lock: Option<Box<dyn DirectoryLock>>,
}

/// What verifying found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What is wrong.
    pub findings: Findings,
    /// What each partition holds.
    pub partitions: Vec<(TopicPartition, Tally)>,
    /// Whether a metadata log told what should be there.
    pub has_metadata: bool,
}

impl DataDirectory {
    /// Opens a data directory, or that of a single partition within one.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn open(
        file_system: Arc<dyn FileSystem>,
        path: &Path,
        while_in_use: WhileInUse,
    ) -> Result<Self, VerifyError> {
        let no_directory = |why: &str| VerifyError::NoDataDirectory {
            path: path.to_owned(),
            why: why.to_owned(),
        };
        let entries = match file_system.list(path) {
            Ok(entries) => entries,
            Err(error) if error.kind == FsErrorKind::NotFound => {
                return Err(no_directory("it does not exist"));
            }
            Err(error) => return Err(error.into()),
        };
        let has_segments = entries.iter().any(|entry| is_segment(&entry.name));
        let only: Option<TopicPartition> = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok())
            .filter(|_| has_segments);
        if let (Some(partition), Some(data_dir)) = (only, path.parent()) {
            let data_dir = if data_dir.as_os_str().is_empty() {
                Path::new(".")
            } else {
                data_dir
            };
            return Self::with(file_system, data_dir, vec![partition], while_in_use);
        }
        let mut partitions: Vec<TopicPartition> = entries
            .iter()
            .filter(|entry| entry.is_directory)
            .filter_map(|entry| entry.name.parse().ok())
            .collect();
        partitions.sort_unstable();
        let is_known = |name: &str| {
            let checkpoint = [CheckpointFile::RecoveryPoint, CheckpointFile::LogStartOffset];
            name == LOCK_FILE || checkpoint.iter().any(|file| file.name() == name)
        };
        if partitions.is_empty() && !entries.iter().any(|entry| is_known(&entry.name)) {
            return Err(no_directory("nothing of a broker's is in it"));
        }
        Self::with(file_system, path, partitions, while_in_use)
    }

    fn with(
        file_system: Arc<dyn FileSystem>,
        path: &Path,
        partitions: Vec<TopicPartition>,
        while_in_use: WhileInUse,
    ) -> Result<Self, VerifyError> {
        let clean_marker = path.join(CheckpointFile::CleanShutdown.name());
        let mut last_stop = if file_system.exists(&clean_marker)? {
            LastStop::Clean
        } else {
            LastStop::Unclean
        };
        // Without the file nobody holds the lock, and taking it would make the file.
        let lock = if file_system.exists(&path.join(LOCK_FILE))? {
            match file_system.lock_directory(path) {
                Ok(lock) => Some(lock),
                Err(error) if error.kind == FsErrorKind::Locked => {
                    if while_in_use == WhileInUse::Refuse {
                        return Err(VerifyError::InUse(path.to_owned()));
                    }
                    last_stop = LastStop::Running;
                    None
                }
                // A copy may be on a disk that cannot be written to; then no broker uses it either.
                Err(_) => None,
            }
        } else {
            None
        };
        let mut log_bytes: u64 = 0;
        for partition in &partitions {
            for entry in file_system.list(&path.join(partition.to_string()))? {
                if is_segment(&entry.name) {
                    log_bytes = log_bytes.saturating_add(entry.length);
                }
            }
        }
        Ok(Self {
            file_system,
            path: path.to_owned(),
            last_stop,
            partitions,
            log_bytes,
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the last process ended.
    #[must_use]
    pub fn last_stop(&self) -> LastStop {
        self.last_stop
    }

    /// The bytes of all `.log` files, for a progress bar.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// The partitions that are there.
    #[must_use]
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Checks everything. `progress` is told which partition is read, and how many more bytes of it were.
    ///
    /// # Errors
    /// The file system's: what cannot be read at all.
    pub fn verify(
        &self,
        depth: Depth,
        mut progress: impl FnMut(&TopicPartition, u64),
    ) -> Result<Report, VerifyError> {
        let mut report = Report::default();
        let findings = &mut report.findings;
        let recovery_points = self.checkpoint(CheckpointFile::RecoveryPoint, None, findings)?;
        let log_starts = self.checkpoint(CheckpointFile::LogStartOffset, None, findings)?;
        self.checkpoint(CheckpointFile::HighWatermark, None, findings)?;
        let cleaned = self.checkpoint(CheckpointFile::RecoveryPoint, Some(CLEANER_FILE), findings)?;
        self.check_marker(findings)?;
        let image = known_topics(&self.file_system, &self.path, findings)?;
        report.has_metadata = image.is_some();
        let identity = self.identity(findings)?;
        self.check_presence(image.as_ref(), identity.as_ref(), findings)?;

        // Our broker writes down where a log starts before it removes a segment; Kafka does so afterwards, if at all.
        let metadata_log = self.path.join(metadata_log::partition().to_string());
        let is_ours = identity.is_some() || self.file_system.exists(&metadata_log)?;
        let start_unless_said = is_ours.then_some(Offset::ZERO);
        let mut ids: BTreeMap<Arc<str>, TopicId> = BTreeMap::new();
        for partition in &self.partitions {
            let directory = self.path.join(partition.to_string());
            let topic = image.as_ref().and_then(|image| image.topic(&partition.topic));
            let own = self.topic_id(&directory);
            let topic_id = topic.map(|topic| topic.id).or_else(|| {
                // Without a metadata log all partitions of a topic must at least agree.
                own.map(|own| *ids.entry(Arc::clone(&partition.topic)).or_insert(own))
            });
            let recovery_point = recovery_points.get(partition).copied();
            let settled_to = match self.last_stop {
                LastStop::Clean => Offset::new(i64::MAX),
                LastStop::Unclean | LastStop::Running => recovery_point.unwrap_or(Offset::ZERO),
            };
            let is_compacted = topic.is_some_and(|topic| {
                let policy = topic.configs.get("cleanup.policy");
                policy.is_some_and(|policy| policy.contains("compact"))
            });
            let compacted_to = if is_compacted {
                Offset::new(i64::MAX)
            } else {
                cleaned.get(partition).copied().unwrap_or(Offset::ZERO)
            };
            let check = PartitionCheck {
                file_system: self.file_system.as_ref(),
                directory: &directory,
                partition,
                expectations: Expectations {
                    settled_to,
                    recovery_point,
                    log_start: log_starts.get(partition).copied().or(start_unless_said),
                    topic_id,
                    compacted_to,
                },
                depth,
                progress: &mut |bytes| progress(partition, bytes),
            };
            match check.run(&mut report.findings) {
                Ok(tally) => report.partitions.push((partition.clone(), tally)),
                // The disk fails in one place; the others are still worth knowing about.
                Err(error) => {
                    let mut finding = Finding::new(Severity::Damage, error.path.clone(), &error);
                    finding.partition = Some(partition.clone());
                    report.findings.push(finding);
                    report.partitions.push((partition.clone(), Tally::default()));
                }
            }
        }
        Ok(report)
    }

    fn topic_id(&self, directory: &Path) -> Option<TopicId> {
        let path = directory.join(PARTITION_METADATA_FILE);
        let bytes = self.file_system.read(&path, CHECKPOINT_BYTES_MAX).ok()?;
        partition_metadata::parse(&bytes).ok()
    }

    /// One of the files with an offset for each partition; nothing in it when it is not there.
    fn checkpoint(
        &self,
        kind: CheckpointFile,
        name: Option<&str>,
        findings: &mut Findings,
    ) -> Result<OffsetCheckpoint, FsError> {
        let path = self.path.join(name.unwrap_or(kind.name()));
        match self.file_system.read(&path, CHECKPOINT_BYTES_MAX) {
            Ok(bytes) => Ok(offset_checkpoint::parse(kind, &bytes).unwrap_or_else(|error| {
                findings.push(Finding::new(Severity::Damage, path, error));
                OffsetCheckpoint::new()
            })),
            Err(error) if error.kind == FsErrorKind::NotFound => Ok(OffsetCheckpoint::new()),
            Err(error) => Err(error),
        }
    }

    fn check_marker(&self, findings: &mut Findings) -> Result<(), FsError> {
        let path = self.path.join(CheckpointFile::CleanShutdown.name());
        match self.file_system.read(&path, CHECKPOINT_BYTES_MAX) {
            Ok(bytes) => {
                if let Err(error) = CleanShutdown::parse(&bytes) {
                    findings.push(Finding::new(Severity::Repairable, path, error));
                }
                Ok(())
            }
            Err(error) if error.kind == FsErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Which of a broker's several directories it is, if it is one.
    fn identity(&self, findings: &mut Findings) -> Result<Option<Identity>, FsError> {
        match Identity::read(self.file_system.as_ref(), &self.path) {
            Ok(identity) => Ok(identity),
            Err(LogManagerError::Storage(error)) => Err(error),
            Err(error) => {
                findings.push(Finding::new(Severity::Damage, &self.path, error));
                Ok(None)
            }
        }
    }

    /// Directories that should be there and are not, and the other way round. Of a broker with several data directories, what is not here
    /// may be in one of the others.
    fn check_presence(
        &self,
        image: Option<&MetadataImage>,
        identity: Option<&Identity>,
        findings: &mut Findings,
    ) -> Result<(), FsError> {
        let mut others = identity
            .iter()
            .flat_map(|identity| identity.others.values())
            .peekable();
        let is_only = others.peek().is_none();
        let mut elsewhere: usize = 0;
        for entry in self.file_system.list(&self.path)? {
            let aside = ASIDE.iter().find(|(suffix, _)| entry.name.ends_with(suffix));
            if let (Some((_, what)), true) = (aside, entry.is_directory) {
                findings.push(Finding::new(Severity::Note, self.path.join(&entry.name), what));
            }
        }
        let Some(image) = image else { return Ok(()) };
        let there: BTreeSet<TopicPartition> = self
            .file_system
            .list(&self.path)?
            .iter()
            .filter(|entry| entry.is_directory)
            .filter_map(|entry| entry.name.parse().ok())
            .collect();
        for topic in image.topics() {
            for partition in 0..topic.partition_count {
                let partition = TopicPartition::new(Arc::clone(&topic.name), partition);
                if there.contains(&partition) {
                    continue;
                }
                elsewhere += 1;
                if is_only {
                    let path = self.path.join(partition.to_string());
                    let what = format!("missing: topic {} has this partition", topic.name);
                    findings.push(Finding {
                        partition: Some(partition),
                        ..Finding::new(Severity::Damage, path, what)
                    });
                }
            }
        }
        if !is_only && 0 < elsewhere {
            let others: Vec<_> = others.map(|path| path.display().to_string()).collect();
            let what = format!(
                "{elsewhere} partitions are not here and should be in another directory of the broker; verify {} too",
                others.join(", ")
            );
            findings.push(Finding::new(Severity::Note, &self.path, what));
        }
        for partition in there {
            let is_known = image
                .topic(&partition.topic)
                .is_some_and(|topic| partition.partition < topic.partition_count);
            if !is_known && partition != metadata_log::partition() {
                let path = self.path.join(partition.to_string());
                let what = "no topic has this partition; the next start removes it or sets it aside";
                findings.push(Finding::new(Severity::Note, path, what));
            }
        }
        Ok(())
    }
}

fn is_segment(name: &str) -> bool {
    matches!(parse_segment_file(name), Some((_, FileKind::Log)))
}
