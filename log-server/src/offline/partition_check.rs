//! One partition's directory: every batch, whether batches follow on each other, and the files made from them.
//!
//! What must be in order depends on how far the last process is known to have come:
//!
//! | the log | what is found | severity |
//! |---|---|---|
//! | anywhere | a damaged stretch with sound batches behind it, a hole, overlapping offsets | damage |
//! | below the recovery point, or anywhere after an orderly stop | a torn end, an end before the recovery point | damage |
//! | behind it, after any other stop | a torn end: the next start cuts it, it was never acknowledged | note |
//! | the end | zeros: space prepared for more batches | fine |
//!
//! A hole is none where compaction may have made it.

use std::path::{Path, PathBuf};

use log_core::checkpoint::{leader_epoch_checkpoint, partition_metadata};
use log_core::fs::{DirEntry, FileSystem, FsError, FsErrorKind};
use log_core::leader_epoch::LeaderEpochCache;
use log_core::log::failed_sync::FAILED_SYNC_FILE;
use log_core::log::leader_epochs::LEADER_EPOCH_FILE;
use log_core::model::{FilePosition, LeaderEpoch, Offset, TopicId, TopicPartition};
use log_core::record::batch::Batch;
use log_core::record::batch_header::BatchHeader;
use log_core::record::compression::DECOMPRESSED_BYTES_MAX;
use log_core::record::control::ControlRecord;
use log_core::segment::file_name::{FileKind, parse_segment_file, segment_file};

use super::finding::{Finding, Findings, Severity};
use super::index_check::{IndexCheck, SegmentEnd};
use super::segment_walk::{FoundBatch, Piece, SegmentWalk};
use super::snapshot_check::SnapshotCheck;
use super::transaction_check::{AbortMarker, TransactionCheck};

/// The file with the topic's id.
pub const PARTITION_METADATA_FILE: &str = "partition.metadata";
/// Checkpoint files of a partition hold a few lines.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 20;
/// What interrupted operations leave behind; the next start removes them.
const LEFTOVER_SUFFIXES: [&str; 4] = [".tmp", ".deleted", ".cleaned", ".swap"];

/// What is known about a partition before its directory is read.
#[derive(Debug, Clone, Copy)]
pub struct Expectations {
    /// Everything below was on the disk, its indexes with it.
    pub settled_to: Offset,
    /// The recovery point, where one is known.
    pub recovery_point: Option<Offset>,
    /// Where the log starts, if not with its first segment.
    pub log_start: Option<Offset>,
    /// The topic's id, where it is known from elsewhere.
    pub topic_id: Option<TopicId>,
    /// Below it compaction may have taken records, and so whole batches.
    pub compacted_to: Offset,
}

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// Headers and checksums of all batches.
    #[default]
    Batches,
    /// Also every record, decompressed.
    Records,
}

/// What a partition's directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Its `.log` files.
    pub segments: u64,
    /// The bytes of those.
    pub bytes: u64,
    /// Batches whose checksums are right.
    pub batches: u64,
    /// Records in them, by their headers.
    pub records: u64,
    /// Index entries that were compared.
    pub index_entries: u64,
    /// Producer snapshots.
    pub snapshots: u64,
    /// Where the log begins.
    pub start: Option<Offset>,
    /// Where it ends.
    pub end: Option<Offset>,
}

/// Checks one directory.
pub struct PartitionCheck<'a> {
    /// Where the files are.
    pub file_system: &'a dyn FileSystem,
    /// The partition's directory.
    pub directory: &'a Path,
    /// The partition.
    pub partition: &'a TopicPartition,
    /// What is known of it.
    pub expectations: Expectations,
    /// How thoroughly to look.
    pub depth: Depth,
    /// Told how many bytes of `.log` files were read.
    pub progress: &'a mut dyn FnMut(u64),
}

impl std::fmt::Debug for PartitionCheck<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PartitionCheck")
            .field("directory", &self.directory)
            .field("expectations", &self.expectations)
            .finish_non_exhaustive()
    }
}

/// How far the walk over all segments has come.
struct Course {
    /// The offset that must follow; nothing before the first batch and behind damage.
    expected: Option<Offset>,
    /// The offset behind the last sound batch.
    end: Offset,
    epoch: LeaderEpoch,
    epochs: LeaderEpochCache,
    epochs_are_wrong: bool,
    snapshots: SnapshotCheck,
    transactions: TransactionCheck,
    scratch: Vec<u8>,
    tally: Tally,
}

impl PartitionCheck<'_> {
    /// Reads everything.
    ///
    /// # Errors
    /// The file system's; what was found until then is in `findings`.
    pub fn run(mut self, findings: &mut Findings) -> Result<Tally, FsError> {
        let mut own = Findings::default();
        let result = self.check(&mut own);
        for finding in own.list() {
            findings.push(Finding {
                partition: Some(self.partition.clone()),
                ..finding.clone()
            });
        }
        result
    }

    fn check(&mut self, findings: &mut Findings) -> Result<Tally, FsError> {
        let entries = self.file_system.list(self.directory)?;
        self.note_leftovers(&entries, findings);
        self.check_metadata(&entries, findings)?;
        let of_kind = |wanted: FileKind| {
            let names = entries.iter().filter_map(|entry| parse_segment_file(&entry.name));
            let mut offsets: Vec<Offset> = names
                .filter(|(_, kind)| *kind == wanted)
                .map(|(offset, _)| offset)
                .collect();
            offsets.sort_unstable();
            offsets
        };
        let segments = of_kind(FileKind::Log);
        for kind in [
            FileKind::OffsetIndex,
            FileKind::TimeIndex,
            FileKind::TransactionIndex,
        ] {
            for base in of_kind(kind).into_iter().filter(|base| !segments.contains(base)) {
                let path = segment_file(self.directory, base, kind);
                findings.push(Finding::new(
                    Severity::Note,
                    path,
                    "it belongs to no segment; the next start removes it",
                ));
            }
        }
        let mut snapshots = SnapshotCheck::open(
            self.file_system,
            self.directory,
            of_kind(FileKind::ProducerSnapshot),
            findings,
        )?;
        let first = segments.first().copied();
        snapshots.begin_at(first.unwrap_or(Offset::ZERO));
        let mut course = Course {
            expected: None,
            end: first.unwrap_or(Offset::ZERO),
            epoch: LeaderEpoch::NONE,
            epochs: self.read_epochs(findings)?,
            epochs_are_wrong: false,
            tally: Tally {
                snapshots: snapshots.count(),
                start: first,
                ..Tally::default()
            },
            snapshots,
            transactions: TransactionCheck::default(),
            scratch: Vec::new(),
        };
        self.check_start(first, findings);
        for (index, base) in segments.iter().enumerate() {
            let next = segments.get(index.saturating_add(1)).copied();
            self.check_segment(*base, next, &mut course, findings)?;
        }
        Ok(self.finish(course, findings))
    }

    /// The end of the log as a whole.
    fn finish(&self, course: Course, findings: &mut Findings) -> Tally {
        let Expectations {
            recovery_point,
            log_start,
            settled_to,
            ..
        } = self.expectations;
        let mut tally = course.tally;
        tally.end = tally.start.map(|_| course.end);
        if let Some(recovery_point) = recovery_point.filter(|point| course.end < *point)
            && log_start.is_none_or(|start| start < recovery_point)
        {
            let what = format!(
                "the log ends before offset {}, but everything below {recovery_point} was on the disk: records are missing",
                course.end
            );
            let finding = Finding::new(Severity::Damage, self.directory, what);
            findings.push(finding.about(course.end, recovery_point.plus(-1)));
        }
        if let Some(last) = course
            .epochs
            .latest()
            .filter(|last| course.end < last.start_offset)
        {
            let severity = if course.end < settled_to {
                Severity::Repairable
            } else {
                Severity::Note
            };
            let path = self.directory.join(LEADER_EPOCH_FILE);
            let what = format!(
                "epoch {} begins at offset {}, behind the log's end {}",
                last.epoch, last.start_offset, course.end
            );
            findings.push(Finding::new(severity, path, what));
        }
        course.snapshots.finish(course.end, settled_to, findings);
        tally
    }

    fn note_leftovers(&self, entries: &[DirEntry], findings: &mut Findings) {
        for entry in entries {
            let is_leftover = LEFTOVER_SUFFIXES
                .iter()
                .any(|suffix| entry.name.ends_with(suffix));
            let is_known = parse_segment_file(&entry.name).is_some()
                || [LEADER_EPOCH_FILE, PARTITION_METADATA_FILE].contains(&entry.name.as_str());
            if entry.name == FAILED_SYNC_FILE {
                let path = self.directory.join(&entry.name);
                let what =
                    "a sync failed before the last stop; the next start writes the end of the log once more";
                findings.push(Finding::new(Severity::Note, path, what));
            } else if is_leftover {
                let path = self.directory.join(&entry.name);
                findings.push(Finding::new(
                    Severity::Note,
                    path,
                    "an interrupted operation left it; the next start removes it",
                ));
            } else if !is_known {
                let path = self.directory.join(&entry.name);
                findings.push(Finding::new(Severity::Note, path, "not a file of the broker's"));
            }
        }
    }

    /// The topic's id, here and elsewhere.
    fn check_metadata(&self, entries: &[DirEntry], findings: &mut Findings) -> Result<(), FsError> {
        let path = self.directory.join(PARTITION_METADATA_FILE);
        let bytes = match self.file_system.read(&path, SMALL_FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind == FsErrorKind::NotFound => {
                // A partition that was about to be made has neither this nor segments.
                let is_begun = entries
                    .iter()
                    .any(|entry| parse_segment_file(&entry.name).is_some());
                if is_begun {
                    let what =
                        "missing: which topic the records belong to is only known from the directory's name";
                    findings.push(Finding::new(Severity::Repairable, path, what));
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match (partition_metadata::parse(&bytes), self.expectations.topic_id) {
            (Err(error), _) => findings.push(Finding::new(Severity::Damage, path, error)),
            (Ok(found), Some(expected)) if found != expected => {
                let what = format!("topic id {found}, but the topic of this name has {expected}");
                findings.push(Finding::new(Severity::Damage, path, what));
            }
            (Ok(_), _) => {}
        }
        Ok(())
    }

    fn read_epochs(&self, findings: &mut Findings) -> Result<LeaderEpochCache, FsError> {
        let path = self.directory.join(LEADER_EPOCH_FILE);
        match self.file_system.read(&path, SMALL_FILE_BYTES_MAX) {
            Ok(bytes) => match leader_epoch_checkpoint::parse(&bytes) {
                Ok(entries) => Ok(LeaderEpochCache::from_entries(entries)),
                Err(error) => {
                    findings.push(Finding::new(Severity::Repairable, path, error));
                    Ok(LeaderEpochCache::new())
                }
            },
            Err(error) if error.kind == FsErrorKind::NotFound => Ok(LeaderEpochCache::new()),
            Err(error) => Err(error),
        }
    }

    fn check_start(&self, first: Option<Offset>, findings: &mut Findings) {
        let Some(first) = first else {
            if self
                .expectations
                .recovery_point
                .is_some_and(|point| Offset::ZERO < point)
            {
                // Told of by the recovery point in `finish`.
                return;
            }
            findings.push(Finding::new(Severity::Note, self.directory, "no segment yet"));
            return;
        };
        if let Some(log_start) = self.expectations.log_start.filter(|start| *start < first) {
            let what = format!(
                "the log starts at offset {log_start}, but its first segment begins at {first}: records are missing"
            );
            let finding = Finding::new(Severity::Damage, self.directory, what);
            findings.push(finding.about(log_start, first.plus(-1)));
        }
    }

    fn check_segment(
        &mut self,
        base: Offset,
        next_base: Option<Offset>,
        course: &mut Course,
        findings: &mut Findings,
    ) -> Result<(), FsError> {
        let path = segment_file(self.directory, base, FileKind::Log);
        self.check_follows(base, &path, course, findings);
        let mut indexes = IndexCheck::open(self.file_system, self.directory, base, findings)?;
        let mut walk = SegmentWalk::open(self.file_system, &path)?;
        course.tally.segments = course.tally.segments.saturating_add(1);
        course.tally.bytes = course.tally.bytes.saturating_add(walk.length());
        course.expected = Some(course.expected.unwrap_or(base).max(base));
        let mut end = FilePosition::ZERO;
        let mut reported_to = 0;
        let mut passed: Option<(std::ops::Range<u64>, String)> = None;
        while let Some(piece) = walk.next_piece()? {
            let is_at_end = walk.position() == walk.length() && next_base.is_none();
            match piece {
                Piece::Batch(found) => {
                    if let Some((range, cause)) = passed.take() {
                        Self::passed(&path, &range, &cause, found.header.base_offset, course, findings);
                        indexes.damage(&range, Some(found.header.base_offset));
                    }
                    end = FilePosition::new(walk.position());
                    self.check_batch(&path, &found, is_at_end, &mut indexes, course, findings);
                }
                Piece::Damage { range, cause } => passed = Some((range, cause.to_string())),
                Piece::Tail { range, cause } => {
                    let is_torn = cause.is_some();
                    if let Some(cause) = cause {
                        let cause = cause.to_string();
                        self.torn(&path, &range, &cause, next_base, course, findings);
                    }
                    if is_torn {
                        indexes.damage(&range, None);
                    }
                }
            }
            (self.progress)(walk.position().saturating_sub(reported_to));
            reported_to = walk.position();
        }
        let segment_end = SegmentEnd {
            position: end,
            next_offset: course.end,
            settled_to: self.expectations.settled_to,
            is_sealed: next_base.is_some(),
        };
        let entries = indexes.finish(self.directory, base, segment_end, findings);
        course.tally.index_entries = course.tally.index_entries.saturating_add(entries);
        Ok(())
    }

    /// Whether the segment begins where the one before ends.
    fn check_follows(&self, base: Offset, path: &Path, course: &mut Course, findings: &mut Findings) {
        let Some(expected) = course.expected else { return };
        if base < expected {
            let what = format!("the segment begins before offset {expected}, where the one before ends");
            findings.push(Finding::new(Severity::Damage, path, what).about(base, expected.plus(-1)));
        } else if expected < base && !self.may_be_compacted(expected) {
            let what = "no segment holds these offsets";
            findings.push(Finding::new(Severity::Damage, path, what).about(expected, base.plus(-1)));
        }
        if expected < base {
            course.snapshots.skip_to(base);
        }
    }

    fn may_be_compacted(&self, offset: Offset) -> bool {
        offset < self.expectations.compacted_to
    }

    fn check_batch(
        &self,
        path: &Path,
        found: &FoundBatch,
        is_at_end: bool,
        indexes: &mut IndexCheck,
        course: &mut Course,
        findings: &mut Findings,
    ) {
        let (header, position) = (&found.header, found.position);
        let (first, last) = (header.base_offset, header.last_offset());
        let damage = |what: &dyn std::fmt::Display| {
            Finding::new(Severity::Damage, path, what)
                .at(position)
                .about(first, last)
        };
        if let Err(error) = &found.checksum {
            let is_torn = is_at_end && self.expectations.settled_to <= first;
            let mut finding = damage(error);
            if is_torn {
                finding.severity = Severity::Note;
                finding.what = format!("{error}; a torn write, which the next start cuts");
                findings.push(finding);
                return;
            }
            findings.push(finding);
        }
        self.check_order(header, course, &damage, findings);
        self.check_epoch(header, course, &damage, findings);
        if found.checksum.is_ok() {
            let aborts = match self.check_records(found, course) {
                Ok(aborts) => aborts,
                Err(what) => {
                    findings.push(damage(&what));
                    None
                }
            };
            indexes.batch(position, header, aborts.as_ref(), findings);
            course.snapshots.batch(header, findings);
            course.tally.batches = course.tally.batches.saturating_add(1);
            let records = u64::from(header.record_count);
            course.tally.records = course.tally.records.saturating_add(records);
        } else {
            let size = u64::try_from(found.bytes.len()).unwrap_or(u64::MAX);
            let range = position.get()..position.plus(size).get();
            course.transactions.lose();
            indexes.damage(&range, Some(header.next_offset()));
            course.snapshots.skip_to(header.next_offset());
        }
        course.expected = Some(header.next_offset());
        course.end = course.end.max(header.next_offset());
    }

    fn check_order(
        &self,
        header: &BatchHeader,
        course: &mut Course,
        damage: &dyn Fn(&dyn std::fmt::Display) -> Finding,
        findings: &mut Findings,
    ) {
        let (Some(expected), first) = (course.expected, header.base_offset) else {
            return;
        };
        if first < expected {
            findings.push(damage(&format_args!("offset {expected} must follow")));
        } else if expected < first {
            if !self.may_be_compacted(expected) {
                let what = "no batch holds these offsets; the next one stands here";
                findings.push(damage(&what).about(expected, first.plus(-1)));
            }
            course.snapshots.skip_to(first);
        }
    }

    fn check_epoch(
        &self,
        header: &BatchHeader,
        course: &mut Course,
        damage: &dyn Fn(&dyn std::fmt::Display) -> Finding,
        findings: &mut Findings,
    ) {
        let found = header.leader_epoch;
        if found < course.epoch {
            let before = course.epoch;
            findings.push(damage(&format_args!(
                "leader epoch {found} behind epoch {before}"
            )));
        }
        course.epoch = course.epoch.max(found);
        let listed = course.epochs.epoch_at(header.base_offset);
        if let Some(listed) = listed.filter(|listed| *listed != found)
            && !course.epochs_are_wrong
        {
            course.epochs_are_wrong = true;
            let path = self.directory.join(LEADER_EPOCH_FILE);
            let what = format!("it says epoch {listed}, the batch there has {found}");
            let finding = Finding::new(Severity::Repairable, path, what);
            findings.push(finding.about(header.base_offset, header.last_offset()));
        }
    }

    /// Walks over the records where that was asked for, and over control records always; returns the marker of a
    /// transaction that was aborted.
    fn check_records(&self, found: &FoundBatch, course: &mut Course) -> Result<Option<AbortMarker>, String> {
        let header = &found.header;
        course.transactions.batch(header);
        if self.depth == Depth::Batches && !header.attributes.is_control() {
            return Ok(None);
        }
        let batch = Batch::parse(&found.bytes).map_err(|error| error.to_string())?;
        let records = batch
            .records(&mut course.scratch, DECOMPRESSED_BYTES_MAX)
            .map_err(|error| error.to_string())?;
        let mut aborts = None;
        for record in records {
            let record = record.map_err(|error| error.to_string())?;
            if header.attributes.is_control() {
                let control = ControlRecord::parse(&record).map_err(|error| error.to_string())?;
                if let ControlRecord::EndTransaction(marker) = control {
                    let transactions = &mut course.transactions;
                    aborts = transactions.marker(header.producer_id, record.offset, marker.outcome);
                }
            }
        }
        Ok(aborts)
    }

    /// A damaged stretch with a sound batch behind it.
    fn passed(
        path: &Path,
        range: &std::ops::Range<u64>,
        cause: &str,
        next: Offset,
        course: &mut Course,
        findings: &mut Findings,
    ) {
        let bytes = range.end.saturating_sub(range.start);
        let what = format!("{bytes} bytes are no batch: {cause}");
        let mut finding = Finding::new(Severity::Damage, path, what).at(FilePosition::new(range.start));
        if let Some(expected) = course.expected.filter(|expected| *expected < next) {
            finding = finding.about(expected, next.plus(-1));
        }
        findings.push(finding);
        course.snapshots.skip_to(next);
        course.transactions.lose();
        course.expected = None;
    }

    /// Bytes behind the last batch of a segment that are not zeros.
    fn torn(
        &self,
        path: &Path,
        range: &std::ops::Range<u64>,
        cause: &str,
        next_base: Option<Offset>,
        course: &mut Course,
        findings: &mut Findings,
    ) {
        let is_torn = next_base.is_none() && self.expectations.settled_to <= course.end;
        let bytes = range.end.saturating_sub(range.start);
        let what = format!("{bytes} bytes behind the last batch are none: {cause}");
        let (severity, what) = if is_torn {
            let what = format!("{what}; a torn write, which the next start cuts");
            (Severity::Note, what)
        } else {
            (Severity::Damage, what)
        };
        let mut finding = Finding::new(severity, path, what).at(FilePosition::new(range.start));
        if let Some(next) = next_base.filter(|next| course.end < *next) {
            finding = finding.about(course.end, next.plus(-1));
            course.snapshots.skip_to(next);
        }
        if next_base.is_some() {
            // The hole is told of; the next segment need not follow.
            course.expected = None;
        }
        findings.push(finding);
    }
}

/// The path below `root`, to be shown.
#[must_use]
pub fn below(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}
