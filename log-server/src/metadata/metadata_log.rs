//! The metadata log on disk: the partition `__stratalog_metadata-0`, and the snapshots that shorten its replay.
//!
//! What is found at a start, and what is done about it:
//!
//! | found | decision |
//! |---|---|
//! | nothing at all | a new cluster: the log begins with the cluster's id |
//! | partitions of topics, but no metadata log | an error: starting anew would condemn them all as strays |
//! | a directory that is marked as a cluster's, but no metadata log | an error: it is one of a broker's further directories |
//! | the metadata log, but in another than the first directory | an error that says which has to be the first |
//! | a sound snapshot | the state begins with it, the log is replayed from its offset on |
//! | a damaged snapshot | reported; the one before it, or the log's beginning if it still has it |
//! | no sound snapshot, and a log whose beginning is gone | an error that names the files |
//! | a log that ends before the snapshot | an error: records are missing that were on the disk |
//! | a record that is damaged, unknown or contradicts the state | an error that names its offset |
//!
//! An `Ok` of [`MetadataLog::append`] promises that the records are on the disk. After a failure the log is opened anew, back
//! to what surely was, before the next append.

use std::sync::Arc;

use bytes::Bytes;
use log_core::config::{CleanupPolicy, LogConfig};
use log_core::envelope::{EnvelopeError, SealError};
use log_core::fs::FsError;
use log_core::log::{AppendError, Log, LogError, ReadBound, ReadError, ReadRequest};
use log_core::log_manager::{CheckpointEntry, Found, LogDirectory};
use log_core::model::{Offset, TopicId, TopicPartition};
use log_core::record::batch::{Batch, batches};
use log_core::record::batch_builder::{self, BatchBuilder, BatchOptions};
use log_core::record::batch_header::{BatchError, HEADER_LENGTH};
use log_core::record::record::RecordError;
use log_core::record::validator::{ValidatedBatch, trust_own};
use log_core::segment::segment::Patience;
use log_core::segment::space::Preparer;

use super::image::{MetadataImage, ReplayError};
use super::plan::random_id;
use super::records::MetadataRecord;
use super::snapshot::{SnapshotError, Snapshots};
use super::topic_name::METADATA_TOPIC;

/// The id of the metadata log's topic: the one that Kafka reserves for its own.
const METADATA_TOPIC_ID: TopicId = TopicId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
/// Small enough that snapshots free space soon, large enough for any batch of records.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// A batch is closed when it holds so many bytes. One record is far smaller, mostly; the largest possible (all configs of a
/// topic at their longest) makes a batch of its own.
const BATCH_BYTES: usize = 1 << 20;
/// How much is read at a time.
const READ_BYTES: usize = 1 << 20;

/// When the log is tidied up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// A snapshot is due after so many records.
    pub snapshot_records: u64,
    /// A snapshot starts a new segment, so that the old one can go with the next, when the log holds at least so many bytes.
    pub roll_bytes: u64,
}

impl Tuning {
    /// As a broker runs it.
    #[must_use]
    pub const fn new(snapshot_records: u64) -> Self {
        Self {
            snapshot_records,
            roll_bytes: 1 << 20,
        }
    }
}

/// The metadata log cannot be opened, or a change did not reach the disk.
#[derive(Debug, thiserror::Error)]
pub enum MetadataLogError {
    /// Partitions without the log that says whose they are.
    #[error(
        "{data_dir} holds partitions ({example} among them) but no metadata log: it was not written by this broker, or \
         {METADATA_TOPIC}-0 was removed; bring it back from a copy, or start with another directory"
    )]
    Missing {
        /// The data directory.
        data_dir: String,
        /// One of the partitions.
        example: TopicPartition,
    },
    /// A directory of a cluster whose metadata log is not in it.
    #[error(
        "{data_dir} belongs to cluster {cluster_id} and holds no metadata log: it is one of several directories of a broker, and not \
         the first; name all of them, or start with another one"
    )]
    Orphaned {
        /// The data directory.
        data_dir: String,
        /// The cluster.
        cluster_id: String,
    },
    /// The metadata log is not where it should be.
    #[error(
        "the metadata log is {found}, and the first directory is {data_dir}: name the one with the metadata log first"
    )]
    Elsewhere {
        /// The first directory.
        data_dir: String,
        /// Where the log was found.
        found: String,
    },
    /// The log begins behind offset 0, and no sound snapshot holds what came before.
    #[error(
        "the metadata log begins at offset {log_start}, and no snapshot in {data_dir} holds what came before: {reason}"
    )]
    NoSnapshot {
        /// The first offset that the log has.
        log_start: Offset,
        /// The data directory.
        data_dir: String,
        /// What is wrong with those that are there.
        reason: String,
    },
    /// The log ends before the state of a snapshot.
    #[error(
        "the metadata log ends at offset {log_end}, but a snapshot holds the state before offset {snapshot}: records are missing"
    )]
    Shortened {
        /// Where the log ends.
        log_end: Offset,
        /// Where the snapshot was taken.
        snapshot: Offset,
    },
    /// A batch of the log is not sound.
    #[error("the metadata log is damaged at offset {offset}: {source}")]
    Batch {
        /// The first offset that could not be read.
        offset: Offset,
        /// What is wrong.
        source: BatchError,
    },
    /// A record of the log cannot be read.
    #[error("the metadata log is damaged at offset {offset}: {source}")]
    Record {
        /// The first offset of its batch.
        offset: Offset,
        /// What is wrong.
        source: RecordError,
    },
    /// A record without a value.
    #[error("the metadata log is damaged at offset {offset}: the record has no value")]
    Empty {
        /// Its offset.
        offset: Offset,
    },
    /// A record's value is not one that this version reads.
    #[error("the metadata log is damaged at offset {offset}: {source}")]
    Value {
        /// Its offset.
        offset: Offset,
        /// What is wrong.
        source: EnvelopeError,
    },
    /// A record contradicts those before it.
    #[error("the metadata log is damaged at offset {offset}: {source}")]
    Contradiction {
        /// Its offset.
        offset: Offset,
        /// How.
        source: ReplayError,
    },
    /// The log below.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Reading the log.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Appending to the log.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A record that does not go into a batch.
    #[error(transparent)]
    Build(#[from] batch_builder::AppendError),
    /// A record that cannot be encoded.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The file system.
    #[error(transparent)]
    Storage(#[from] FsError),
}

/// The log and its snapshots, with one writer.
#[derive(Debug)]
pub struct MetadataLog {
    directory: Arc<LogDirectory>,
    log: Log,
    snapshots: Snapshots,
    /// Everything below is on the disk and in the state that was published.
    next_offset: Offset,
    /// Where the last sound snapshot was taken.
    last_snapshot: Option<Offset>,
    tuning: Tuning,
    /// An append failed: the log may hold what nobody was promised.
    is_suspect: bool,
}

impl MetadataLog {
    /// Opens the log in the broker's first directory, or begins it there, and replays it. Blocks.
    ///
    /// # Errors
    /// By the table above; nothing is changed then.
    pub fn open(
        directory: Arc<LogDirectory>,
        found: &Found,
        tuning: Tuning,
    ) -> Result<(Self, MetadataImage), MetadataLogError> {
        let partition = partition();
        let snapshots = Snapshots::new(
            Arc::clone(&directory.context().file_system),
            directory.data_dir().to_owned(),
        );
        let offsets = snapshots.list()?;
        let is_there = is_in(&directory, found)?;
        let log = if is_there {
            // Before it is decided that the broker starts: what the log says may be a reason against it.
            let (log, report) = directory.load_ahead(&partition, METADATA_TOPIC_ID, log_config())?;
            for (file, bytes, cause) in &report.torn {
                tracing::warn!(
                    file = %file.display(), bytes, %cause,
                    "a torn end of the metadata log was cut off; it was never acknowledged"
                );
            }
            log
        } else {
            directory.create(&partition, METADATA_TOPIC_ID, log_config())?
        };
        let (mut image, last_snapshot) = restore(&snapshots, &offsets, &log)?;
        let from = last_snapshot.unwrap_or(Offset::ZERO);
        let next_offset = replay(&log, from, &mut image)?;
        let mut opened = Self {
            directory,
            log,
            snapshots,
            next_offset,
            last_snapshot,
            tuning,
            is_suspect: false,
        };
        if image.cluster_id().is_empty() {
            let cluster_id = random_id(&mut fastrand::Rng::new()).to_string();
            let record = MetadataRecord::ClusterCreated { cluster_id };
            opened.append(std::slice::from_ref(&record))?;
            image
                .replay(&record)
                .map_err(|source| MetadataLogError::Contradiction {
                    offset: next_offset,
                    source,
                })?;
        }
        Ok((opened, image))
    }

    /// Appends the records and brings them to the disk. Blocks.
    ///
    /// # Errors
    /// The records are then not in force, and will not be found at the next start; unless the process ends
    /// before another append, when they may be: nobody was told either way.
    pub fn append(&mut self, records: &[MetadataRecord]) -> Result<(), MetadataLogError> {
        self.directory.begin()?;
        self.recover()?;
        let batches = self.batches(records)?;
        self.is_suspect = true;
        for batch in &batches {
            self.log.append_one(batch)?;
        }
        self.log.flush()?;
        self.is_suspect = false;
        self.next_offset = self.log.offsets().log_end;
        Ok(())
    }

    /// Writes a snapshot of `image`, the state after all records, if enough records came since the last one, and
    /// frees what nobody needs any more. Blocks.
    ///
    /// # Errors
    /// The state is safe in the log all the same.
    pub fn snapshot_if_due(&mut self, image: &MetadataImage) -> Result<bool, MetadataLogError> {
        let since = self.next_offset.minus(self.last_snapshot.unwrap_or(Offset::ZERO));
        if u64::try_from(since).is_ok_and(|since| since < self.tuning.snapshot_records) || self.is_suspect {
            return Ok(false);
        }
        self.snapshot(image)?;
        Ok(true)
    }

    /// Work that is better done between requests than in one: space ahead of the writer. Blocks.
    pub fn prepare(&self) {
        if let Some(task) = self.log.wants_preparation()
            && let Err(error) = task.run(Preparer::Writer)
        {
            tracing::warn!(operation = "prepare space for the metadata log", %error, "the next append will ask again");
        }
    }

    /// Ends the log in order, so that the next start neither recovers nor replays much. Blocks.
    ///
    /// # Errors
    /// Everything that was promised is on the disk all the same.
    pub fn close(mut self, image: &MetadataImage) -> Result<(), MetadataLogError> {
        self.recover()?;
        if self.last_snapshot != Some(self.next_offset) {
            self.snapshot(image)?;
        }
        let offset = self.log.close()?;
        Ok(self.directory.write_recovery_points(&[checkpoint(offset)])?)
    }

    fn snapshot(&mut self, image: &MetadataImage) -> Result<(), MetadataLogError> {
        self.directory.begin()?;
        let offset = self.next_offset;
        self.snapshots.write(image, offset)?;
        let before = self.last_snapshot.replace(offset);
        // The one before stays, and the log's records from there on.
        for old in self.snapshots.list()? {
            if old != offset && Some(old) != before {
                self.snapshots.remove(old)?;
            }
        }
        if self.tuning.roll_bytes <= self.log.reader().size_in_bytes() {
            self.log.roll()?;
            self.log.flush()?;
            for task in self.log.take_seal_tasks() {
                let result = task.run();
                self.log.finish_seal(&task, &result);
                result?;
            }
        }
        self.log.checkpoint_state()?.run()?;
        let point = checkpoint(self.log.recovery_point());
        self.directory.write_recovery_points(&[point])?;
        if let Some(before) = before {
            let log_start = self.log.advance_log_start(before)?;
            self.directory.write_log_starts(&[checkpoint(log_start)])?;
            self.log.reclaim(log_start).run()?;
        }
        Ok(())
    }

    /// After a failed append: the log again as far as it was promised.
    fn recover(&mut self) -> Result<(), MetadataLogError> {
        // A snapshot may have latched it, too.
        let is_latched = self.log.latch_reason().is_some();
        if !self.is_suspect && !is_latched {
            return Ok(());
        }
        if is_latched {
            let (log, _) = self.directory.reopen(&self.log)?;
            self.log = log;
        }
        // What was appended before the failure, if anything, was never promised.
        let log_end = self.log.truncate_to(self.next_offset)?;
        if log_end != self.next_offset {
            return Err(MetadataLogError::Shortened {
                log_end,
                snapshot: self.next_offset,
            });
        }
        self.is_suspect = false;
        tracing::info!(next_offset = %log_end, "the metadata log was opened again after a failure");
        Ok(())
    }

    fn batches(&self, records: &[MetadataRecord]) -> Result<Vec<ValidatedBatch>, MetadataLogError> {
        let now = self.directory.context().clock.now();
        let mut batches = Vec::new();
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for record in records {
            builder.append(now, None, Some(&record.encode()?), &[])?;
            if BATCH_BYTES <= builder.estimated_size() {
                let full = std::mem::replace(&mut builder, BatchBuilder::new(BatchOptions::default()));
                batches.push(own_batch(full.build()));
            }
        }
        if !builder.is_empty() {
            batches.push(own_batch(builder.build()));
        }
        Ok(batches)
    }
}

/// The one partition of the metadata log.
#[must_use]
pub fn partition() -> TopicPartition {
    TopicPartition::new(METADATA_TOPIC, 0)
}

/// Whether the log is in the broker's first directory. Where it is not, nothing else may be in any.
fn is_in(directory: &LogDirectory, found: &Found) -> Result<bool, MetadataLogError> {
    let data_dir = || directory.data_dir().display().to_string();
    let there = found
        .partitions
        .iter()
        .find(|found| found.partition == partition());
    if let Some(there) = there {
        return if there.directory.parent() == Some(directory.data_dir()) {
            Ok(true)
        } else {
            Err(MetadataLogError::Elsewhere {
                data_dir: data_dir(),
                found: there.directory.display().to_string(),
            })
        };
    }
    if let Some(other) = found.partitions.first() {
        let holder = other.directory.parent().unwrap_or(directory.data_dir());
        return Err(MetadataLogError::Missing {
            data_dir: holder.display().to_string(),
            example: other.partition.clone(),
        });
    }
    match directory.identity() {
        Some(identity) => Err(MetadataLogError::Orphaned {
            data_dir: data_dir(),
            cluster_id: identity.cluster_id,
        }),
        None => Ok(false),
    }
}

fn own_batch(bytes: Bytes) -> ValidatedBatch {
    trust_own(bytes).expect("a batch that was just built is sound")
}

fn checkpoint(offset: Offset) -> CheckpointEntry {
    CheckpointEntry {
        partition: partition(),
        topic_id: METADATA_TOPIC_ID,
        offset,
    }
}

fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes_max: SEGMENT_BYTES_MAX,
        segment_ms: i64::MAX,
        retention_ms: None,
        retention_bytes: None,
        batch_bytes_max: SEGMENT_BYTES_MAX,
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: false,
        },
        durable: true,
        ..LogConfig::default()
    }
}

/// The newest sound snapshot that the log can go on from, or the empty state if the log still has its beginning.
fn restore(
    snapshots: &Snapshots,
    offsets: &[Offset],
    log: &Log,
) -> Result<(MetadataImage, Option<Offset>), MetadataLogError> {
    let range = log.offsets();
    let mut problems: Vec<String> = Vec::new();
    for offset in offsets {
        match snapshots.read(*offset) {
            Ok((_, offset)) if range.log_end < offset => {
                return Err(MetadataLogError::Shortened {
                    log_end: range.log_end,
                    snapshot: offset,
                });
            }
            Ok((image, offset)) if range.log_start <= offset => return Ok((image, Some(offset))),
            Ok((_, offset)) => problems.push(format!("the one of offset {offset} is too old")),
            Err(error) => {
                tracing::error!(%error, "a metadata snapshot cannot be used; the one before it is");
                problems.push(error.to_string());
            }
        }
    }
    if range.log_start == Offset::ZERO {
        return Ok((MetadataImage::default(), None));
    }
    if problems.is_empty() {
        problems.push("there is none".to_owned());
    }
    Err(MetadataLogError::NoSnapshot {
        log_start: range.log_start,
        data_dir: snapshots.directory().display().to_string(),
        reason: problems.join("; "),
    })
}

/// Replays everything from `from` on, and returns the log's end.
fn replay(log: &Log, from: Offset, image: &mut MetadataImage) -> Result<Offset, MetadataLogError> {
    let reader = log.reader();
    let log_end = reader.offsets().log_end;
    let mut next = from;
    let mut scratch = Vec::new();
    while next < log_end {
        let slice = reader.read(ReadRequest {
            offset: next,
            bytes_max: READ_BYTES,
            at_least_one_batch: true,
            bound: ReadBound::LogEnd,
            patience: Patience::MayBlock,
        })?;
        let before = next;
        for batch in batches(&slice.records) {
            let batch = batch.map_err(|source| MetadataLogError::Batch { offset: next, source })?;
            replay_batch(&batch, next, &mut scratch, image)?;
            next = batch.header().next_offset();
        }
        if next == before {
            // The reader gives at least one whole batch below the log end.
            let source = BatchError::Incomplete {
                expected: HEADER_LENGTH,
                found: slice.records.len(),
            };
            return Err(MetadataLogError::Batch { offset: next, source });
        }
    }
    Ok(log_end)
}

fn replay_batch(
    batch: &Batch<'_>,
    from: Offset,
    scratch: &mut Vec<u8>,
    image: &mut MetadataImage,
) -> Result<(), MetadataLogError> {
    let base = batch.header().base_offset;
    batch
        .verify_checksum()
        .map_err(|source| MetadataLogError::Batch { offset: base, source })?;
    let bad_record = |source| MetadataLogError::Record { offset: base, source };
    for record in batch.records(scratch, READ_BYTES).map_err(bad_record)? {
        let record = record.map_err(bad_record)?;
        let offset = record.offset;
        if offset < from {
            continue;
        }
        let value = record.value.ok_or(MetadataLogError::Empty { offset })?;
        let record =
            MetadataRecord::decode(value).map_err(|source| MetadataLogError::Value { offset, source })?;
        image
            .replay(&record)
            .map_err(|source| MetadataLogError::Contradiction { offset, source })?;
    }
    Ok(())
}
