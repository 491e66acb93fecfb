//! Opening a log, after an orderly stop or any other.
//!
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
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::checkpoint::leader_epoch_checkpoint;
use crate::config::LogConfig;
use crate::fs::{FsError, FsErrorKind};
use crate::index::offset_index::OffsetIndexView;
use crate::index::time_index::TimeIndexView;
use crate::leader_epoch::LeaderEpochCache;
use crate::log::error::{Damage, LogError};
use crate::log::flush::FlushState;
use crate::log::log::{Log, LogContext, LogShared, roll_jitter, segment_settings};
use crate::log::offsets::{Place, Positions};
use crate::log::truncate::rewrite_prefix;
use crate::model::{FilePosition, LeaderEpoch, Offset, TimestampMs, TopicId, TopicPartition};
use crate::producer_state::manager::ProducerStateManager;
use crate::producer_state::snapshot::Snapshot;
use crate::record::batch::{Batch, BatchHeader};
use crate::segment::file_name::{FileKind, parse_segment_file, segment_file};
use crate::segment::indexes::SegmentIndexes;
use crate::segment::scan::{ScanError, WINDOW_SCAN, Walk};
use crate::segment::segment::{Segment, SegmentSettings};
use crate::segment::segments::Segments;
use crate::segment::view::View;

/// The name of the file with the leader epochs.
pub const LEADER_EPOCH_FILE: &str = "leader-epoch-checkpoint";
/// Small files of a partition directory are never larger.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 20;
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

/// How a scan of one segment ended.
struct Scanned {
    indexes: SegmentIndexes,
    first_timestamp: TimestampMs,
    end: u64,
    next_offset: Offset,
    /// What stands behind the end, if the file is longer.
    tail: Option<Tail>,
    bytes_verified: u64,
}

struct Tail {
    bytes: u64,
    cause: Option<String>,
}

/// Opens logs; has what they are made with.
pub(crate) struct Loader<'a> {
    context: &'a LogContext,
    directory: Arc<Path>,
    settings: SegmentSettings,
    config: &'a LogConfig,
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

    /// Walks the segment from the last index entry that can be trusted, and verifies what lies behind the recovery point.
    fn scan(&self, base: Offset, length: u64, hints: LoadHints) -> Result<Scanned, LogError> {
        let path = segment_file(&self.directory, base, FileKind::Log);
        // Plain reads: what turns out to be a torn tail must not have been handed out by a map.
        let view = View::Plain(self.context.file_system.open_read_only(&path)?);
        let (mut indexes, start) = self.trusted_indexes(base, &view, length, hints.recovery_point);
        let mut walk = Walk::scan(&view, start, length);
        let mut scanned = Progress {
            next_offset: None,
            epoch: LeaderEpoch::NONE,
            bytes_verified: 0,
        };
        let mut first_timestamp = TimestampMs::NONE;
        let (end, cause) = loop {
            let position = walk.position();
            let step = walk.next_header().and_then(|next| {
                let Some((position, header)) = next else {
                    return Ok(Step::End);
                };
                scanned.judge(base, &header, hints, || Ok(walk.batch_bytes(position, &header)?))
            });
            match step {
                Ok(Step::Good(header)) => {
                    if position == FilePosition::ZERO {
                        first_timestamp = header.max_timestamp;
                    }
                    indexes.note(&header, position);
                }
                Ok(Step::End) => break (length, None),
                Ok(Step::Bad(cause)) => break (position.get(), Some(cause)),
                Err(ScanError::Storage(error)) => return Err(error.into()),
                Err(error) => break (position.get(), Some(error.to_string())),
            }
        };
        if first_timestamp == TimestampMs::NONE && start != FilePosition::ZERO {
            let first = Walk::scan(&view, FilePosition::ZERO, end).next_header();
            first_timestamp = first
                .ok()
                .flatten()
                .map_or(TimestampMs::NONE, |(_, header)| header.max_timestamp);
        }
        let next_offset = scanned.next_offset.unwrap_or(base);
        let tail = match cause {
            None => None,
            Some(cause) => {
                let bytes = length.saturating_sub(end);
                let prepared = is_zero(&view, end..length)?;
                Some(Tail {
                    bytes,
                    cause: (!prepared).then_some(cause),
                })
            }
        };
        if next_offset < hints.recovery_point && tail.is_some() {
            let cause = tail
                .and_then(|tail| tail.cause)
                .unwrap_or_else(|| "zeros instead of a batch".to_owned());
            return Err(LogError::Damaged(Damage {
                file: path,
                position: FilePosition::new(end),
                offset: next_offset,
                recovery_point: hints.recovery_point,
                cause,
            }));
        }
        let bytes_verified = scanned.bytes_verified;
        Ok(Scanned {
            indexes,
            first_timestamp,
            end,
            next_offset,
            tail,
            bytes_verified,
        })
    }

    /// The stored index entries below the recovery point, if they fit the log, and where to go on behind them.
    fn trusted_indexes(
        &self,
        base: Offset,
        view: &View,
        length: u64,
        recovery_point: Offset,
    ) -> (SegmentIndexes, FilePosition) {
        let (bytes_max, interval) = (self.config.index_bytes_max, self.config.index_interval_bytes);
        let fresh = || (SegmentIndexes::new(base, bytes_max, interval), FilePosition::ZERO);
        let stored = |kind| {
            let path = segment_file(&self.directory, base, kind);
            self.context.file_system.read(&path, SMALL_FILE_BYTES_MAX).ok()
        };
        let (Some(offsets), Some(times)) = (stored(FileKind::OffsetIndex), stored(FileKind::TimeIndex))
        else {
            return fresh();
        };
        let offsets = OffsetIndexView::parse(offsets.into(), base).map(|view| view.reopen(bytes_max));
        let times = TimeIndexView::parse(times.into(), base).map(|view| view.reopen(bytes_max));
        let (Ok(mut offsets), Ok(mut times)) = (offsets, times) else {
            return fresh();
        };
        offsets.truncate_to(recovery_point);
        let (last_offset, position) = offsets.last();
        if offsets.entry_count() == 0 {
            return fresh();
        }
        // Entries for time speak of batches up to the last one that the offsets name, no further.
        times.truncate_to(last_offset.plus(1));
        let header = Walk::scan(view, position, length).next_header();
        match header {
            Ok(Some((_, header))) if header.last_offset() == last_offset => {
                (SegmentIndexes::resume(offsets, times, interval), position)
            }
            _ => fresh(),
        }
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

    /// The producers' state at `end`, from the newest snapshot that can be used and the batches behind it.
    ///
    /// Without a snapshot everything that is still there is replayed, records `below` the log start included:
    /// their producers may send them again. Those may be incomplete.
    pub(crate) fn replay_producers(
        &self,
        below: &[Arc<Segment>],
        segments: &Segments,
        end: Offset,
    ) -> Result<ProducerStateManager, LogError> {
        let first = below.first().unwrap_or(segments.first()).base_offset();
        let snapshot = self.newest_snapshot(segments.active().next_offset(), end)?;
        let mut manager = snapshot.unwrap_or_else(|| ProducerStateManager::new(first));
        let from = manager.map_end_offset();
        for segment in below {
            // From its beginning: it may never have been sealed, and its indexes are not to be relied on.
            match replay_segment(segment, FilePosition::ZERO, from..end, &mut manager) {
                Ok(()) | Err(ScanError::Malformed { .. } | ScanError::Incomplete { .. }) => {}
                Err(ScanError::Storage(error)) if error.kind == FsErrorKind::NotFound => {}
                Err(ScanError::Storage(error)) => return Err(error.into()),
            }
        }
        for segment in segments.from_offset(from) {
            let path = segment_file(&self.directory, segment.base_offset(), FileKind::Log);
            segment
                .place_before(from)
                .and_then(|start| replay_segment(segment, start, from..end, &mut manager))
                .map_err(|error| damage(path, &error, from, end))?;
        }
        Ok(manager)
    }

    /// The newest usable snapshot at or before `end`. Those behind the log's end are removed.
    fn newest_snapshot(&self, log_end: Offset, end: Offset) -> Result<Option<ProducerStateManager>, FsError> {
        let file_system = &self.context.file_system;
        let mut offsets: Vec<Offset> = file_system
            .list(&self.directory)?
            .iter()
            .filter_map(|entry| parse_segment_file(&entry.name))
            .filter(|(_, kind)| *kind == FileKind::ProducerSnapshot)
            .map(|(offset, _)| offset)
            .collect();
        offsets.sort_unstable();
        let (kept, stale): (Vec<Offset>, Vec<Offset>) =
            offsets.iter().partition(|offset| **offset <= log_end);
        for offset in &stale {
            file_system.remove_file(&segment_file(
                &self.directory,
                *offset,
                FileKind::ProducerSnapshot,
            ))?;
        }
        if !stale.is_empty() {
            // Should one come back after a power cut, it would speak of other records than the log then holds.
            file_system.sync_directory(&self.directory)?;
        }
        for offset in kept.into_iter().rev().filter(|offset| *offset <= end) {
            let path = segment_file(&self.directory, offset, FileKind::ProducerSnapshot);
            let bytes = file_system.read(&path, SMALL_FILE_BYTES_MAX)?;
            if let Ok(snapshot) = Snapshot::parse(&bytes, offset)
                && snapshot.is_complete
            {
                return Ok(Some(ProducerStateManager::from_snapshot(snapshot)));
            }
        }
        Ok(None)
    }

    /// The leader epochs, made to agree with the log; raised after an unclean stop that may have lost records.
    fn load_epochs(
        &self,
        segments: &Segments,
        log_start: Offset,
        end: Offset,
        clean: bool,
        may_have_lost: bool,
        report: &mut LoadReport,
    ) -> Result<LeaderEpochCache, LogError> {
        let path = self.directory.join(LEADER_EPOCH_FILE);
        let stored = match self.context.file_system.read(&path, SMALL_FILE_BYTES_MAX) {
            Ok(bytes) => leader_epoch_checkpoint::parse(&bytes).ok(),
            Err(error) if error.kind == FsErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let is_new = stored.is_none();
        let mut epochs = LeaderEpochCache::from_entries(stored.unwrap_or_default());
        if is_new {
            self.epochs_from_batches(segments, &mut epochs)?;
        }
        let mut changed = is_new;
        // An epoch that anybody may have seen is never used for other records.
        let seen = epochs.latest().map(|entry| entry.epoch);
        // The epoch that begins at the log end has no records yet, and stays.
        changed |= epochs.truncate_from_end(end.plus(1));
        changed |= epochs.truncate_from_start(log_start);
        let latest = epochs.latest().map(|entry| entry.epoch);
        match seen {
            None => changed |= epochs.assign(LeaderEpoch::FIRST, end),
            Some(seen) if latest != Some(seen) || (!clean && may_have_lost) => {
                report.epoch_raised = epochs.assign(seen.next(), end);
                changed |= report.epoch_raised;
            }
            Some(_) => {}
        }
        if changed {
            store_epochs(self.context, &self.directory, &epochs)?;
        }
        Ok(epochs)
    }

    fn epochs_from_batches(
        &self,
        segments: &Segments,
        epochs: &mut LeaderEpochCache,
    ) -> Result<(), LogError> {
        for segment in segments.iter().filter(|segment| 0 < segment.size()) {
            let path = segment_file(&self.directory, segment.base_offset(), FileKind::Log);
            let open = segment.open()?;
            let mut walk = Walk::scan(open.view(), FilePosition::ZERO, segment.size());
            let broken =
                |error: ScanError| damage(path.clone(), &error, segment.base_offset(), segment.next_offset());
            while let Some((_, header)) = walk.next_header().map_err(broken)? {
                epochs.assign_if_later(header.leader_epoch, header.base_offset);
            }
        }
        Ok(())
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

/// Takes the batches of `offsets` into the producers' state, from position `start` on.
fn replay_segment(
    segment: &Segment,
    start: FilePosition,
    offsets: Range<Offset>,
    manager: &mut ProducerStateManager,
) -> Result<(), ScanError> {
    let outside = offsets.end <= segment.base_offset() || segment.next_offset() <= offsets.start;
    if outside || segment.size() == 0 {
        return Ok(());
    }
    let open = segment.open()?;
    let mut walk = Walk::scan(open.view(), start, segment.size());
    while let Some((_, header)) = walk.next_header()? {
        if offsets.start <= header.base_offset && header.last_offset() < offsets.end {
            manager.update(&header);
        }
    }
    Ok(())
}

/// What a scan has seen so far of one segment.
struct Progress {
    next_offset: Option<Offset>,
    epoch: LeaderEpoch,
    bytes_verified: u64,
}

enum Step {
    Good(BatchHeader),
    Bad(String),
    End,
}

impl Progress {
    /// Whether the batch is what must follow. Behind the recovery point that is checked to the last byte:
    /// space that was used before could hold batches that look good and are not ours.
    fn judge(
        &mut self,
        base: Offset,
        header: &BatchHeader,
        hints: LoadHints,
        bytes: impl FnOnce() -> Result<bytes::Bytes, ScanError>,
    ) -> Result<Step, ScanError> {
        let expected = self.next_offset.unwrap_or(base);
        let found = header.base_offset;
        if hints.cut_to.is_some_and(|cut_to| cut_to <= found) {
            return Ok(Step::Bad("never synced: the sync failed".to_owned()));
        }
        // Compaction leaves gaps, but only among records that were synced.
        let in_order = expected <= found
            && (found < hints.recovery_point || found == expected.max(hints.recovery_point));
        if !in_order {
            return Ok(Step::Bad(format!(
                "a batch with base offset {found} where {expected} must follow"
            )));
        }
        if header.leader_epoch < self.epoch {
            let (found, known) = (header.leader_epoch, self.epoch);
            return Ok(Step::Bad(format!(
                "a batch of leader epoch {found} behind one of {known}"
            )));
        }
        if hints.recovery_point <= header.last_offset() {
            let bytes = bytes()?;
            let verified = Batch::parse(&bytes).and_then(|batch| batch.verify_checksum());
            if let Err(error) = verified {
                return Ok(Step::Bad(error.to_string()));
            }
            let count = u64::try_from(bytes.len()).expect("usize fits u64");
            self.bytes_verified = self.bytes_verified.saturating_add(count);
        }
        self.epoch = header.leader_epoch;
        self.next_offset = Some(header.next_offset());
        Ok(Step::Good(*header))
    }
}

/// Writes the leader epochs. Durable when it returns.
pub(crate) fn store_epochs(
    context: &LogContext,
    directory: &Path,
    epochs: &LeaderEpochCache,
) -> Result<(), FsError> {
    let bytes = leader_epoch_checkpoint::to_bytes(epochs.entries());
    context
        .file_system
        .replace(&directory.join(LEADER_EPOCH_FILE), &bytes)
}

/// A walk's error as damage of the file it walked.
pub(crate) fn damage(file: PathBuf, error: &ScanError, offset: Offset, recovery_point: Offset) -> LogError {
    let position = match error {
        ScanError::Malformed { position, .. } | ScanError::Incomplete { position, .. } => *position,
        ScanError::Storage(_) => FilePosition::ZERO,
    };
    LogError::Damaged(Damage {
        file,
        position,
        offset,
        recovery_point,
        cause: error.to_string(),
    })
}

fn is_zero(view: &View, range: Range<u64>) -> Result<bool, FsError> {
    let mut position = range.start;
    while position < range.end {
        let end = position.saturating_add(WINDOW_SCAN).min(range.end);
        if view.bytes(position..end)?.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        position = end;
    }
    Ok(true)
}
