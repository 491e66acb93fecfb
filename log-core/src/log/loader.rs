//! Opening a log, after an orderly stop or any other: which files and bytes are the log, and what becomes of the rest.
//!
//! The look at one segment is `recovery_scan`'s, the producers' state `producer_replay`'s, the epochs' `leader_epochs`'s.
//! The recovery point says below which offset everything is on the disk, complete with its indexes. So:
//!
//! | what is found | decision | why |
//! |---|---|---|
//! | segment wholly below the log start | removed | a deletion was interrupted; the log start was durable first |
//! | segment that ends before the recovery point | trusted, not opened | it was synced and trimmed before the point moved past its end |
//! | segment that ends at the recovery point | scanned | it may have been the active one when the point was taken |
//! | index missing, damaged, or at odds with the log | made again from the log | it is a hint |
//! | index entry at or behind the recovery point | ignored | it may have reached the disk before its records |
//! | batch behind the recovery point, in order, checksum right | kept, and synced before anybody sees it | it may have been acknowledged |
//! | zeros behind the last good batch | cut quietly | prepared space |
//! | anything else behind the last good batch | cut, reported, and the cut synced | a torn write; never acknowledged, because acknowledging syncs |
//! | names of files, after an unclean stop | synced before records in them are seen or acknowledged | a kill leaves names in the system's memory alone |
//! | segments behind a cut | removed, newest first, and reported | they follow on records that are not there |
//! | anything but good batches before the recovery point | [`Damage`], nothing is touched | it was on the disk once: losing it silently is not ours to decide |
//! | log ends before the recovery point | [`Damage`] | the same |
//! | log ends before the durable log start | started anew there | everything visible had been deleted |
//! | producer snapshot behind the log end | removed | it speaks of records that did not survive |
//! | producer snapshot damaged, or without the last five batches | an older one, and more replay | retries must still be recognised |
//! | leader epochs behind the log end | dropped | the same |
//! | unclean stop where records may have been lost | the leader epoch rises | clients notice (KIP-320) |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::config::LogConfig;
use crate::fs::{FsError, FsErrorKind};
use crate::log::error::{Damage, LogError};
use crate::log::flush::FlushState;
use crate::log::log::{Log, LogContext, LogShared, roll_jitter, segment_settings};
use crate::log::offsets::{Place, Positions};
use crate::log::recovery_scan::{Scanned, Tail, damage};
use crate::log::truncate::rewrite_prefix;
use crate::model::{FilePosition, Offset, TimestampMs, TopicId, TopicPartition};
use crate::segment::file_name::{FileKind, parse_segment_file, segment_file};
use crate::segment::indexes::SegmentIndexes;
use crate::segment::scan::Walk;
use crate::segment::segment::{Segment, SegmentSettings};
use crate::segment::segments::Segments;
use crate::segment::view::View;

/// Small files of a partition directory are never larger.
pub(super) const SMALL_FILE_BYTES_MAX: u64 = 64 << 20;
/// Suffixes of files that an interrupted operation leaves behind.
const LEFTOVER_SUFFIXES: [&str; 4] = [".tmp", ".deleted", ".cleaned", ".swap"];

/// What the data directory knows about a log before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadHints {
    /// Everything below was on the disk.
    pub recovery_point: Offset,
    /// Where the log starts, if not with its first segment.
    pub log_start: Offset,
    /// Whether the last process ended in order.
    pub clean: bool,
    /// Records from here on are dropped: the sync that should have brought them to the disk failed, so what
    /// the system shows of them may not be there after a power cut.
    pub cut_to: Option<Offset>,
}

/// What opening a log found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Bytes behind the recovery point whose checksums were verified.
    pub bytes_verified: u64,
    /// Bytes that were cut off and were not prepared space, by file, with the reason.
    pub torn: Vec<(PathBuf, u64, String)>,
    /// Segments removed behind a cut.
    pub segments_removed: usize,
    /// Segments removed because they lie below the log start.
    pub segments_reclaimed: usize,
    /// Whether the leader epoch rose.
    pub epoch_raised: bool,
}

/// Opens logs; has what they are made with.
pub(crate) struct Loader<'a> {
    pub(super) context: &'a LogContext,
    pub(super) directory: Arc<Path>,
    settings: SegmentSettings,
    pub(super) config: &'a LogConfig,
}

/// Opens the log in `directory`, which must exist, or starts it there.
///
/// # Errors
/// [`LogError::Damaged`] and the file system's. Nothing is changed on damage.
pub fn load(
    context: &LogContext,
    directory: &Path,
    partition: &TopicPartition,
    topic_id: TopicId,
    config: LogConfig,
    hints: LoadHints,
) -> Result<(Log, LoadReport), LogError> {
    let loader = Loader::new(context, &Arc::from(directory), &config);
    let mut report = LoadReport::default();
    let mut found = loader.tidy()?;
    let below = loader.take_below(&mut found, hints.log_start);
    let (mut segments, recovered) = loader.open_segments(&found, hints, &mut report)?;

    let end_offset = segments
        .last()
        .map_or(hints.log_start, |segment| segment.next_offset());
    let first_offset = segments
        .first()
        .map_or(hints.log_start, |segment| segment.base_offset());
    if segments.is_empty() || end_offset < hints.log_start {
        loader.remove_segments(&segments)?;
        segments = vec![Arc::new(Segment::create(
            loader.settings.clone(),
            hints.log_start,
        )?)];
        context.file_system.sync_directory(directory)?;
    }
    let log_start = hints.log_start.max(first_offset);
    let segments = Segments::new(segments);
    let active = segments.active();
    let end = Place {
        offset: active.next_offset(),
        segment: active.base_offset(),
        position: active.size(),
    };

    let mut unsealed = Vec::new();
    for segment in segments
        .iter()
        .filter(|one| recovered.contains(&one.base_offset()))
    {
        if segment.base_offset() != active.base_offset() {
            let state = loader.replay_producers(&below, &segments, segment.next_offset())?;
            segment.seal();
            unsealed.push((Arc::clone(segment), state.snapshot()));
        }
    }
    let producers = loader.replay_producers(&below, &segments, end.offset)?;
    loader.reclaim(&below, &segments)?;
    report.segments_reclaimed = below.len();
    let may_have_lost = !config.durable || !recovered.is_empty() || hints.cut_to.is_some();
    let epochs = loader.load_epochs(
        &segments,
        log_start,
        end.offset,
        hints.clean,
        may_have_lost,
        &mut report,
    )?;

    // After a kill the names of new segments may be in the system's memory alone.
    if !hints.clean && !recovered.is_empty() {
        context.file_system.sync_directory(directory)?;
    }
    let mut flush = FlushState::new(end);
    if !hints.clean {
        flush.distrust_names();
    }
    for (segment, snapshot) in unsealed {
        flush.note_roll(segment, snapshot);
    }
    let shared = LogShared {
        partition: partition.clone(),
        segments: RwLock::new(segments),
        positions: RwLock::new(Positions::new(log_start.min(end.offset), end)),
        epochs: RwLock::new(epochs),
    };
    let directory = Arc::clone(&loader.directory);
    let log = Log {
        shared: Arc::new(shared),
        context: context.clone(),
        directory,
        topic_id,
        producers,
        flush,
        latch: None,
        segment_created: context.clock.now(),
        roll_jitter_ms: roll_jitter(partition, &config),
        is_touched: !hints.clean,
        config,
    };
    log.expose(end);
    Ok((log, report))
}

impl<'a> Loader<'a> {
    pub(crate) fn new(context: &'a LogContext, directory: &Arc<Path>, config: &'a LogConfig) -> Self {
        let settings = segment_settings(context, directory, config);
        Self {
            context,
            directory: Arc::clone(directory),
            settings,
            config,
        }
    }

    /// Removes what interrupted operations left, and lists the segments with their file sizes.
    fn tidy(&self) -> Result<BTreeMap<Offset, u64>, FsError> {
        let file_system = &self.context.file_system;
        let entries = file_system.list(&self.directory)?;
        let mut segments = BTreeMap::new();
        for entry in &entries {
            if let Some((base, FileKind::Log)) = parse_segment_file(&entry.name) {
                segments.insert(base, entry.length);
            }
        }
        for entry in &entries {
            let orphan = match parse_segment_file(&entry.name) {
                None => LEFTOVER_SUFFIXES
                    .iter()
                    .any(|suffix| entry.name.ends_with(suffix)),
                Some((_, FileKind::Log | FileKind::ProducerSnapshot)) => false,
                Some((base, _)) => !segments.contains_key(&base),
            };
            if orphan && !entry.is_directory {
                file_system.remove_file(&self.directory.join(&entry.name))?;
            }
        }
        Ok(segments)
    }

    /// Takes out the segments wholly below the log start, which an interrupted deletion left.
    fn take_below(&self, found: &mut BTreeMap<Offset, u64>, log_start: Offset) -> Vec<Arc<Segment>> {
        let bases: Vec<Offset> = found.keys().copied().collect();
        let mut below = Vec::new();
        for (base, next) in bases.iter().zip(bases.iter().skip(1)) {
            if *next <= log_start {
                let length = found.remove(base).unwrap_or_default();
                below.push(Arc::new(Segment::sealed(
                    self.settings.clone(),
                    *base,
                    length,
                    *next,
                )));
            }
        }
        below
    }

    /// Ends the interrupted deletion. What the producers did in those segments is stored first, as it stood
    /// where the kept ones begin.
    fn reclaim(&self, below: &[Arc<Segment>], kept: &Segments) -> Result<(), LogError> {
        if below.is_empty() {
            return Ok(());
        }
        let start = kept.first().base_offset();
        let producers = self.replay_producers(below, kept, start)?;
        let path = segment_file(&self.directory, start, FileKind::ProducerSnapshot);
        self.context.file_system.replace(&path, &producers.snapshot())?;
        for segment in below {
            self.remove_files(segment.base_offset())?;
        }
        Ok(())
    }

    /// Opens every segment as the table above says. Also returns the bases of those that hold records
    /// behind the recovery point, or were cut.
    fn open_segments(
        &self,
        found: &BTreeMap<Offset, u64>,
        hints: LoadHints,
        report: &mut LoadReport,
    ) -> Result<(Vec<Arc<Segment>>, Vec<Offset>), LogError> {
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        let mut recovered = Vec::new();
        let mut rest = found.iter().peekable();
        while let Some((&base, &length)) = rest.next() {
            let next_base = rest.peek().map(|(next, _)| **next);
            if let Some(next) = next_base.filter(|next| *next < hints.recovery_point) {
                segments.push(Arc::new(Segment::sealed(
                    self.settings.clone(),
                    base,
                    length,
                    next,
                )));
                continue;
            }
            let scanned = self.scan(base, length, hints)?;
            let ends_early = next_base.is_some_and(|next| scanned.next_offset < next);
            report.bytes_verified = report.bytes_verified.saturating_add(scanned.bytes_verified);
            let was_cut = scanned.tail.is_some();
            if ends_early && scanned.next_offset < hints.recovery_point {
                return Err(self.missing(scanned.next_offset, hints.recovery_point));
            }
            if was_cut || hints.recovery_point < scanned.next_offset || next_base.is_some() {
                recovered.push(base);
            }
            if let Some(Tail {
                bytes,
                cause: Some(cause),
            }) = &scanned.tail
            {
                let path = segment_file(&self.directory, base, FileKind::Log);
                report.torn.push((path, *bytes, cause.clone()));
            }
            if ends_early {
                // Newest first: a crash in between leaves a shorter log, never one with a hole.
                for (&behind, _) in found.range(base.plus(1)..).rev() {
                    self.remove_files(behind)?;
                    report.segments_removed = report.segments_removed.saturating_add(1);
                }
                self.context.file_system.sync_directory(&self.directory)?;
            }
            if was_cut || (!hints.clean && hints.recovery_point < scanned.next_offset) {
                self.cut_and_sync(base, &scanned)?;
            }
            let settings = self.settings.clone();
            let Scanned {
                indexes,
                first_timestamp,
                end,
                next_offset,
                ..
            } = scanned;
            segments.push(Arc::new(Segment::resume(
                settings,
                base,
                end,
                next_offset,
                indexes,
                first_timestamp,
            )));
            if ends_early {
                break;
            }
        }
        let end = segments
            .last()
            .map_or(hints.log_start, |segment| segment.next_offset());
        if end < hints.recovery_point.max(hints.log_start) && hints.log_start < hints.recovery_point {
            return Err(self.missing(end, hints.recovery_point));
        }
        Ok((segments, recovered))
    }

    fn missing(&self, end: Offset, recovery_point: Offset) -> LogError {
        LogError::Damaged(Damage {
            file: self.directory.to_path_buf(),
            position: FilePosition::ZERO,
            offset: end,
            recovery_point,
            cause: format!("the log ends at offset {end}: files are missing or too short"),
        })
    }

    fn cut_and_sync(&self, base: Offset, scanned: &Scanned) -> Result<(), FsError> {
        let path = segment_file(&self.directory, base, FileKind::Log);
        let file = self.context.file_system.open(&path)?;
        if scanned.tail.is_some() {
            match file.set_length(scanned.end) {
                // Readers of a log that is opened again may hold slices of what is cut.
                Err(error) if error.kind == FsErrorKind::InUse => {
                    return rewrite_prefix(self.context.file_system.as_ref(), &path, scanned.end);
                }
                result => result?,
            }
        }
        file.sync_data()
    }

    /// A segment whose first `size` bytes are good, to be appended to.
    pub(crate) fn resume_at(
        &self,
        base: Offset,
        size: u64,
        next_offset: Offset,
    ) -> Result<Segment, LogError> {
        let path = segment_file(&self.directory, base, FileKind::Log);
        let file = self.context.file_system.open_read_only(&path)?;
        let view = View::new(&file, size, &self.context.maps)?;
        let mut indexes = SegmentIndexes::new(
            base,
            self.config.index_bytes_max,
            self.config.index_interval_bytes,
        );
        let mut first_timestamp = TimestampMs::NONE;
        let mut walk = Walk::scan(&view, FilePosition::ZERO, size);
        while let Some((position, header)) = walk
            .next_header()
            .map_err(|error| damage(path.clone(), &error, base, next_offset))?
        {
            if position == FilePosition::ZERO {
                first_timestamp = header.max_timestamp;
            }
            indexes.note(&header, position);
        }
        Ok(Segment::resume(
            self.settings.clone(),
            base,
            size,
            next_offset,
            indexes,
            first_timestamp,
        ))
    }

    fn remove_segments(&self, segments: &[Arc<Segment>]) -> Result<(), FsError> {
        segments
            .iter()
            .rev()
            .try_for_each(|segment| self.remove_files(segment.base_offset()))
    }

    fn remove_files(&self, base: Offset) -> Result<(), FsError> {
        for kind in FileKind::ALL {
            let path = segment_file(&self.directory, base, kind);
            if self.context.file_system.exists(&path)? {
                self.context.file_system.remove_file(&path)?;
            }
        }
        Ok(())
    }
}
