//! Opening a log, after an orderly stop or any other: which files and bytes are the log, and what becomes of the rest.
//!
//! The look at one segment is `recovery_scan`'s, the producers' state `producer_replay`'s, the epochs' `leader_epochs`'s.
//! The recovery point says below which offset everything is on the disk, complete with its indexes. So:
//!
//! | what is found | decision | why |
//! |---|---|---|
//! | cleaned segments that wait to be swapped in | swapped in | everything below the swap was durable first ([`swap`](crate::segment::swap)) |
//! | cleaned segments that were still being written | removed | nothing had changed yet |
//! | a gap between batches or segments, below the recovery point or where compaction has been | kept | the records were synced, and compaction took them |
//! | segment wholly below the log start | removed | a deletion was interrupted; the log start was durable first |
//! | segment that ends before the recovery point | trusted, not opened | it was synced and trimmed before the point moved past its end |
//! | segment that ends at the recovery point | scanned | it may have been the active one when the point was taken |
//! | index missing, damaged, or at odds with the log | made again from the log | it is a hint |
//! | aborted transactions before the snapshot | taken from the index | it was stored before the snapshot |
//! | aborted transactions behind it | found by the replay | the index may tell of markers that did not survive |
//! | index of aborted transactions missing, and a snapshot behind it or the segment trusted | taken for none | a file only where one was aborted; telling a lost one from that would take a look at every record. `log verify` takes it, and calls it damage |
//! | marker or order of batches broken, where a replay looks | [`Damage`] | a transaction would stay open, or end otherwise |
//! | index entry at or behind the recovery point | ignored | it may have reached the disk before its records |
//! | index entry of a record that is not there | both files removed, durably | others will stand in its place, and then the entry would be taken for theirs |
//! | batch behind the recovery point, in order, checksum right | kept, and synced before anybody sees it | it may have been acknowledged |
//! | zeros behind the last good batch | cut quietly | prepared space; of which only the beginning is looked at |
//! | anything else behind the last good batch | cut, reported, and the cut synced | a torn write; never acknowledged, because acknowledging syncs |
//! | records of which a sync failed, if it is this process that knows and acknowledgements waited for the disk | cut | nobody was told that they are on the disk, and they may not be |
//! | records of which a sync failed, otherwise ([`failed_sync`]) | written once more, then synced | the system takes them for clean, and a second sync would do nothing |
//! | names of files, after an unclean stop | synced before records in them are seen or acknowledged | a kill leaves names in the system's memory alone |
//! | an empty file in the middle of the row, within the offsets of the segment before | removed | a roll failed half way, and the log went on |
//! | segments whose offsets overlap otherwise | [`Damage`] | which of the records is the acknowledged one, nobody can tell |
//! | segments behind a cut | removed, newest first, and reported | they follow on records that are not there |
//! | anything but good batches before the recovery point | [`Damage`], nothing is touched | it was on the disk once: losing it silently is not ours to decide |
//! | log ends before the recovery point | [`Damage`] | the same |
//! | log ends before the durable log start | started anew there, with what its producers did last | everything visible had been deleted |
//! | producer snapshot behind the log end | removed | it speaks of records that did not survive |
//! | producer snapshot damaged, or without the last five batches | an older one, and more replay | retries must still be recognised |
//! | leader epochs behind the log end | dropped | the same |
//! | unclean stop where records may have been lost | the leader epoch rises | clients notice (KIP-320) |

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;

use crate::cleaner::SegmentHold;
use crate::config::LogConfig;
use crate::fs::{FsError, FsErrorKind, FsOperation};
use crate::log::error::{Damage, LogError};
use crate::log::failed_sync;
use crate::log::flush::FlushState;
use crate::log::log::{Log, LogContext, LogShared, roll_jitter, segment_settings};
use crate::log::offsets::{Place, Positions};
use crate::log::producer_replay::SeenBatches;
use crate::log::recovery_scan::{Scanned, Tail, damage};
use crate::log::truncate::rewrite_prefix;
use crate::model::{FilePosition, Offset, TimestampMs, TopicId, TopicPartition};
use crate::segment::file_name::{FileKind, parse_segment_file, segment_file};
use crate::segment::indexes::SegmentIndexes;
use crate::segment::scan::Walk;
use crate::segment::segment::{Segment, SegmentSettings};
use crate::segment::segments::Segments;
use crate::segment::space::cut_to;
use crate::segment::swap::{RecoverError, recover};
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
    /// Below it, compaction may have left gaps.
    pub cleaned_to: Offset,
    /// Whether the last process ended in order.
    pub clean: bool,
    /// Records from here on are dropped: the sync that should have brought them to the disk failed, so what
    /// the system shows of them may not be there after a power cut.
    pub cut_to: Option<Offset>,
    /// Records from here on are kept but written once more, for the same reason: a second sync of what the system
    /// takes for clean would bring nothing to the disk.
    pub rewrite_from: Option<Offset>,
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
    /// Cleaned segments that were swapped in.
    pub swaps_completed: usize,
    /// Whether the leader epoch rose.
    pub epoch_raised: bool,
    /// Where the first segment begins, if the log should start before it: segments are missing.
    pub missing_before: Option<Offset>,
}

/// A segment's files as they are listed.
#[derive(Debug, Clone, Copy)]
struct Listed {
    /// Of the log file.
    length: u64,
    /// Whether there is an index of aborted transactions.
    has_aborted: bool,
}

/// Opens logs; has what they are made with.
pub(crate) struct Loader<'a> {
    pub(super) context: &'a LogContext,
    pub(super) directory: Arc<Path>,
    settings: SegmentSettings,
    pub(super) config: &'a LogConfig,
    /// By base offset, of the segments that were scanned.
    pub(super) seen: BTreeMap<Offset, SeenBatches>,
}

/// The segments of a log, opened.
struct Opened {
    segments: Vec<Arc<Segment>>,
    /// The bases of those that hold records behind the recovery point, or were cut.
    recovered: Vec<Offset>,
    /// The bases of those that were just brought to the disk, up to their last record and no further.
    settled: BTreeSet<Offset>,
    /// Whether an index was made again from the log that an orderly stop stores.
    lacks_indexes: bool,
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
    let mut loader = Loader::new(context, &Arc::from(directory), &config);
    let mut report = LoadReport {
        swaps_completed: loader.end_swaps(hints.recovery_point)?,
        ..LoadReport::default()
    };
    let mut found = loader.tidy()?;
    let mut below = loader.take_below(&mut found, hints.log_start);
    let marked = failed_sync::read(context.file_system.as_ref(), directory)?;
    let rewrite_from = hints.rewrite_from.into_iter().chain(marked).min();
    let hints = LoadHints {
        rewrite_from,
        ..hints
    };
    let Opened {
        mut segments,
        recovered,
        settled,
        lacks_indexes,
    } = loader.open_segments(found, hints, &mut report)?;
    if marked.is_some() {
        failed_sync::clear(context.file_system.as_ref(), directory)?;
    }

    let end_offset = segments
        .last()
        .map_or(hints.log_start, |segment| segment.next_offset());
    let first_offset = segments
        .first()
        .map_or(hints.log_start, |segment| segment.base_offset());
    if segments.is_empty() || end_offset < hints.log_start {
        // What its producers did last is kept, and then it goes with the others below the log start.
        below.append(&mut segments);
        segments = vec![Arc::new(Segment::create(
            loader.settings.clone(),
            hints.log_start,
        )?)];
        context.file_system.sync_directory(directory)?;
    }
    let log_start = hints.log_start.max(first_offset);
    report.missing_before = (hints.log_start < first_offset).then_some(first_offset);
    let segments = Segments::new(segments);
    let active = segments.active();
    let end = Place {
        offset: active.next_offset(),
        segment: active.base_offset(),
        position: active.size(),
    };

    let mut lacks_hints = lacks_indexes;
    let mut unsealed = Vec::new();
    for segment in segments
        .iter()
        .filter(|one| recovered.contains(&one.base_offset()))
    {
        if segment.base_offset() != active.base_offset() {
            let replayed = loader.replay_to_end_of(segment, &below, &segments)?;
            lacks_hints |= replayed.from < segment.next_offset();
            segment.seal();
            if settled.contains(&segment.base_offset()) {
                segment.note_trimmed();
            }
            unsealed.push((Arc::clone(segment), replayed.producers.snapshot()));
        }
    }
    let replayed = loader.replay_to_end_of(active, &below, &segments)?;
    lacks_hints |= replayed.from < end.offset;
    loader.reclaim(&below, &segments)?;
    report.segments_reclaimed = below.len();
    let may_have_lost = !config.durable || !recovered.is_empty() || hints.cut_to.is_some();
    let (epochs, are_stored) = loader.load_epochs(
        &segments,
        log_start,
        end.offset,
        hints.clean,
        may_have_lost,
        &mut report,
    )?;

    // After a kill the names of new segments may be in the system's memory alone. To store the epochs synced them, too.
    if !hints.clean && !recovered.is_empty() && !are_stored {
        context.file_system.sync_directory(directory)?;
    }
    let mut flush = FlushState::new(end);
    if !hints.clean {
        flush.distrust_names();
    }
    for (segment, snapshot) in unsealed {
        flush.note_roll(segment, snapshot);
    }
    let has_aborted = segments.iter().any(|segment| segment.has_aborted());
    let shared = LogShared {
        partition: partition.clone(),
        segments: RwLock::new(segments),
        positions: RwLock::new(Positions::new(log_start.min(end.offset), end)),
        epochs: RwLock::new(epochs),
        has_aborted: AtomicBool::new(has_aborted),
    };
    let directory = Arc::clone(&loader.directory);
    let mut log = Log {
        shared: Arc::new(shared),
        context: context.clone(),
        directory,
        topic_id,
        producers: replayed.producers,
        flush,
        storing: Arc::default(),
        latch: None,
        segment_created: context.clock.now(),
        roll_jitter_ms: roll_jitter(partition, &config),
        is_swapping: false,
        hold: SegmentHold::default(),
        is_touched: !hints.clean || lacks_hints,
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
            seen: BTreeMap::new(),
        }
    }

    /// Ends the swaps of cleaned segments that were interrupted, and returns how many.
    fn end_swaps(&self, recovery_point: Offset) -> Result<usize, LogError> {
        match recover(self.context.file_system.as_ref(), &self.directory) {
            Ok(count) => Ok(count),
            Err(RecoverError::Storage(error)) => Err(error.into()),
            Err(RecoverError::Damaged {
                file,
                base_offset,
                source,
            }) => Err(damage(file, &source, base_offset, recovery_point)),
        }
    }

    /// Removes what interrupted operations left, and lists the segments.
    fn tidy(&self) -> Result<BTreeMap<Offset, Listed>, FsError> {
        let file_system = &self.context.file_system;
        let entries = file_system.list(&self.directory)?;
        let mut segments = BTreeMap::new();
        for entry in &entries {
            if let Some((base, FileKind::Log)) = parse_segment_file(&entry.name) {
                let listed = Listed {
                    length: entry.length,
                    has_aborted: false,
                };
                segments.insert(base, listed);
            }
        }
        for entry in &entries {
            if let Some((base, FileKind::TransactionIndex)) = parse_segment_file(&entry.name)
                && let Some(listed) = segments.get_mut(&base)
            {
                listed.has_aborted = true;
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
    fn take_below(&self, found: &mut BTreeMap<Offset, Listed>, log_start: Offset) -> Vec<Arc<Segment>> {
        let bases: Vec<Offset> = found.keys().copied().collect();
        let mut below = Vec::new();
        for (base, next) in bases.iter().zip(bases.iter().skip(1)) {
            if *next <= log_start
                && let Some(Listed { length, has_aborted }) = found.remove(base)
            {
                below.push(self.sealed(*base, length, *next, has_aborted));
            }
        }
        below
    }

    fn sealed(&self, base: Offset, length: u64, next: Offset, has_aborted: bool) -> Arc<Segment> {
        let settings = self.settings.clone();
        Arc::new(Segment::sealed(settings, base, length, next, has_aborted))
    }

    /// Ends the interrupted deletion. What the producers did in those segments is stored first, as it stood
    /// where the kept ones begin.
    fn reclaim(&self, below: &[Arc<Segment>], kept: &Segments) -> Result<(), LogError> {
        if below.is_empty() {
            return Ok(());
        }
        let start = kept.first().base_offset();
        let replayed = self.replay_producers(below, kept, start, start)?;
        let path = segment_file(&self.directory, start, FileKind::ProducerSnapshot);
        let snapshot = replayed.producers.snapshot();
        self.context.file_system.replace(&path, &snapshot)?;
        for segment in below {
            self.remove_files(segment.base_offset())?;
        }
        Ok(())
    }

    /// Opens every segment as the table above says.
    fn open_segments(
        &mut self,
        mut found: BTreeMap<Offset, Listed>,
        hints: LoadHints,
        report: &mut LoadReport,
    ) -> Result<Opened, LogError> {
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        let mut recovered = Vec::new();
        let mut settled = BTreeSet::new();
        let mut lacks_indexes = false;
        while let Some((base, Listed { length, has_aborted })) = found.pop_first() {
            let next = found
                .first_key_value()
                .map(|(next, listed)| (*next, listed.length));
            if let Some((next, next_length)) = next.filter(|(next, _)| *next < hints.recovery_point)
                && 0 < length.min(next_length)
            {
                segments.push(self.sealed(base, length, next, has_aborted));
                continue;
            }
            let scanned = self.scan(base, length, hints)?;
            lacks_indexes |= scanned.lacks_indexes;
            self.remove_half_made(&mut found, base, scanned.next_offset, hints.recovery_point)?;
            let next_base = found.first_key_value().map(|(next, _)| *next);
            let gap_end = next_base.filter(|next| scanned.next_offset < *next);
            let ends_early = gap_end.is_some_and(|next| hints.cleaned_to < next);
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
                while let Some((behind, _)) = found.pop_last() {
                    self.remove_files(behind)?;
                    report.segments_removed = report.segments_removed.saturating_add(1);
                }
                self.context.file_system.sync_directory(&self.directory)?;
            }
            let is_unsynced = !hints.clean && hints.recovery_point < scanned.next_offset;
            if was_cut || is_unsynced || scanned.rewrite_from.is_some() {
                self.settle(base, &scanned).inspect_err(|error| {
                    if error.operation == FsOperation::Sync {
                        // Who tries again must not take a second sync for a good one.
                        let (files, synced_to) = (self.context.file_system.as_ref(), hints.recovery_point);
                        failed_sync::mark(files, &self.directory, synced_to).ok();
                    }
                })?;
                settled.insert(base);
            }
            if scanned.is_index_ahead {
                self.remove_indexes(base)?;
            }
            let settings = self.settings.clone();
            let Scanned {
                indexes,
                first_timestamp,
                end,
                next_offset,
                seen,
                ..
            } = scanned;
            self.seen.extend(seen.map(|seen| (base, seen)));
            segments.push(Arc::new(Segment::resume(
                settings,
                base,
                end,
                next_offset,
                indexes,
                first_timestamp,
                has_aborted,
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
        Ok(Opened {
            segments,
            recovered,
            settled,
            lacks_indexes,
        })
    }

    /// A roll that failed half way leaves an empty file where the log then ended, and the log goes on in the segment
    /// before.
    fn remove_half_made(
        &self,
        found: &mut BTreeMap<Offset, Listed>,
        base: Offset,
        end: Offset,
        recovery_point: Offset,
    ) -> Result<(), LogError> {
        while let Some(next) = found.first_entry().filter(|next| *next.key() < end) {
            let path = segment_file(&self.directory, *next.key(), FileKind::Log);
            if next.get().length != 0 {
                return Err(LogError::Damaged(Damage {
                    file: path,
                    position: FilePosition::ZERO,
                    offset: *next.key(),
                    recovery_point,
                    cause: format!("the segment before it, of base offset {base}, holds records up to {end}"),
                }));
            }
            next.remove();
            self.context.file_system.remove_file(&path)?;
        }
        Ok(())
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

    /// Cuts off what is not good, writes again what a failed sync left in memory, and syncs.
    fn settle(&self, base: Offset, scanned: &Scanned) -> Result<(), FsError> {
        let path = segment_file(&self.directory, base, FileKind::Log);
        let file = self.context.file_system.open(&path)?;
        let write_again = || match scanned.rewrite_from {
            Some(from) => failed_sync::write_again(file.as_ref(), from..scanned.end),
            None => Ok(()),
        };
        match cut_to(file.as_ref(), scanned.end).and_then(|()| write_again()) {
            // Readers of a log that is opened again may hold slices of what is cut or written.
            Err(error) if error.kind == FsErrorKind::InUse => {
                rewrite_prefix(self.context.file_system.as_ref(), &path, scanned.end)
            }
            result => result.and_then(|()| file.sync_data()),
        }
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
        let view = View::new(&file, size)?;
        let mut indexes = SegmentIndexes::new(
            base,
            self.config.index_bytes_max,
            self.config.index_interval_bytes,
        );
        let mut first_timestamp = TimestampMs::NONE;
        let mut walk = Walk::headers(&view, FilePosition::ZERO, size);
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
            true,
        ))
    }

    /// Removes the stored indexes of a segment, durably. Those in memory are made again.
    pub(super) fn remove_indexes(&self, base: Offset) -> Result<(), FsError> {
        let file_system = &self.context.file_system;
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
            let path = segment_file(&self.directory, base, kind);
            if file_system.exists(&path)? {
                file_system.remove_file(&path)?;
            }
        }
        file_system.sync_directory(&self.directory)
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
