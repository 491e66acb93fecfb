//! One cleaning of one log: first the last offset of each key in its dirty part, then all its segments anew.
//!
//! Works on a view of the log, without any lock and without changing it: what comes out are `.cleaned` files, which the
//! log swaps in. Each batch's checksum is verified when it is read, in both passes: damage must not be written anew with
//! a checksum that fits.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::batch_filter::{
    BatchFilter, DECOMPRESSED_BYTES_MAX, FilterError, RecordCounts, Verdict, control_batch,
};
use super::group::groups;
use super::hold::SegmentHold;
use super::offset_map::OffsetMap;
use super::output::{Output, Written};
use super::transactions::CleanedTransactions;
use super::{CleanError, Pace};
use crate::config::LogConfig;
use crate::fs::{File, FileSystem};
use crate::index::transaction_index::AbortedTransaction;
use crate::model::{FilePosition, Offset, ProducerId, TimestampMs};
use crate::producer_state::manager::LastRecord;
use crate::record::batch::Batch;
use crate::record::batch_header::BatchHeader;
use crate::segment::file_name::{FileKind, segment_file};
use crate::segment::scan::{ScanError, Walk};
use crate::segment::segment::Segment;
use crate::segment::swap::{discard_cleaned, discard_cleaned_segment};

/// A log as a cleaning sees it.
#[derive(Debug, Clone)]
pub struct LogToClean {
    /// The files.
    pub file_system: Arc<dyn FileSystem>,
    /// The partition's directory.
    pub directory: Arc<Path>,
    /// The topic's settings.
    pub config: LogConfig,
    /// The segments that can be cleaned, oldest first, from the first one of the log on.
    pub segments: Vec<Arc<Segment>>,
    /// Everything below was cleaned before.
    pub first_dirty: Offset,
    /// The last that active producers did.
    pub last_records: HashMap<ProducerId, LastRecord>,
    /// The aborted transactions that began below the end of these segments.
    pub aborted: Vec<AbortedTransaction>,
    /// The time of the cleaning.
    pub now: TimestampMs,
    /// Keeps the segments in the log.
    pub hold: SegmentHold,
}

/// What a cleaning read and wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanerStats {
    /// Bytes that were read for the offset map.
    pub map_bytes_read: u64,
    /// Keys in the offset map.
    pub keys: u64,
    /// Memory of the offset map in bytes.
    pub map_bytes: u64,
    /// Bytes of the old segments.
    pub bytes_read: u64,
    /// Bytes of the segments that take their place, or stay.
    pub bytes_written: u64,
    /// Records in the old segments.
    pub records_read: u64,
    /// Records that stay.
    pub records_kept: u64,
    /// Segments before.
    pub segments_before: usize,
    /// Segments after.
    pub segments_after: usize,
}

/// How much a cleaning writes before something happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteSizes {
    /// So much is copied and written at a time.
    pub chunk: u64,
    /// When new segments of so many bytes wait for it, they are brought to the disk, and swapped in together.
    pub swap: u64,
}

/// New segments that wait to be brought to the disk are open, with up to four files each.
const SEGMENTS_PER_SWAP_MAX: usize = 64;

/// A segment that is ready to take the place of others.
#[derive(Debug)]
pub struct CleanedGroup {
    /// Those that it was made from.
    pub old: Vec<Arc<Segment>>,
    /// Its size in bytes.
    pub size: u64,
    /// Whether there are aborted transactions in it.
    pub has_aborted: bool,
}

/// A cleaning under way.
#[derive(Debug)]
pub struct Cleaning {
    log: LogToClean,
    map: OffsetMap,
    end: Offset,
    transactions: CleanedTransactions,
    groups: std::vec::IntoIter<Vec<Arc<Segment>>>,
    stats: CleanerStats,
    scratch: Vec<u8>,
    sizes: WriteSizes,
    /// What befell the group behind those that were returned last.
    failure: Option<CleanError>,
}

impl Cleaning {
    /// Fills `map`, which must be empty, with the dirty part of the log, or as much of it as fits. Blocks.
    ///
    /// # Errors
    /// [`CleanError`].
    pub fn begin(
        mut log: LogToClean,
        mut map: OffsetMap,
        sizes: WriteSizes,
        pace: &mut dyn Pace,
    ) -> Result<Self, CleanError> {
        discard_cleaned(log.file_system.as_ref(), &log.directory)?;
        let mut stats = CleanerStats::default();
        let mut scratch = Vec::new();
        fill_map(&log, &mut map, &mut scratch, &mut stats, pace)?;
        let end = map.latest().map_or(log.first_dirty, |latest| latest.plus(1));
        stats.keys = map.entry_count();
        stats.map_bytes = map.size_in_bytes();
        let reached = log.segments.iter().filter(|segment| segment.base_offset() < end);
        let groups = groups(&reached.cloned().collect::<Vec<_>>(), &log.config);
        // From here on each group holds its own: the space of what was swapped out is free before the cleaning ends.
        log.segments = Vec::new();
        Ok(Self {
            transactions: CleanedTransactions::new(&log.aborted, Offset::ZERO),
            log,
            map,
            end,
            groups: groups.into_iter(),
            stats,
            scratch,
            sizes,
            failure: None,
        })
    }

    /// Everything below is clean once all groups are swapped in.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> CleanerStats {
        self.stats
    }

    /// Writes the next segments that differ from those they are made from, and brings them to the disk; none when there is
    /// no more. They must be swapped in, or given up with the whole cleaning, before the next call. Blocks.
    ///
    /// Several at once, because on a busy disk each sync waits for what others write, and one sync serves many files.
    ///
    /// # Errors
    /// [`CleanError`]; what was written is removed. Where segments before it were written whole, they come first, and the next call
    /// tells the error.
    pub fn next_groups(&mut self, pace: &mut dyn Pace) -> Result<Vec<CleanedGroup>, CleanError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let (mut cleaned, mut files) = (Vec::new(), Vec::new());
        let written = self.write_groups(&mut cleaned, &mut files, pace);
        let failure = match written {
            Err(failure) if cleaned.is_empty() || matches!(failure, CleanError::Stopped) => Err(failure),
            written => Ok(written.err()),
        };
        failure
            .and_then(|failure| {
                self.failure = failure;
                // The last one first: until it is there, the others are on the disk as well, and have little to wait for.
                for file in files.iter().rev() {
                    file.sync_data()?;
                }
                Ok(cleaned)
            })
            .inspect_err(|_| {
                // The first failure is the one to tell; what stays is removed before the next cleaning.
                discard_cleaned(self.log.file_system.as_ref(), &self.log.directory).ok();
            })
    }

    /// Writes segments, and adds their files to those that must be synced. Of a group that fails nothing stays.
    fn write_groups(
        &mut self,
        cleaned: &mut Vec<CleanedGroup>,
        files: &mut Vec<Arc<dyn File>>,
        pace: &mut dyn Pace,
    ) -> Result<(), CleanError> {
        let mut bytes = 0_u64;
        while let Some(group) = self.groups.next() {
            let written = self.clean_group(&group, pace).inspect_err(|_| {
                if let Some(first) = group.first() {
                    discard_cleaned_segment(
                        self.log.file_system.as_ref(),
                        &self.log.directory,
                        first.base_offset(),
                    );
                }
            })?;
            let size = match &written {
                Some(written) => written.size,
                None => group.iter().map(|segment| segment.size()).sum(),
            };
            self.stats.segments_before = self.stats.segments_before.saturating_add(group.len());
            self.stats.segments_after = self.stats.segments_after.saturating_add(1);
            self.stats.bytes_written = self.stats.bytes_written.saturating_add(size);
            let Some(written) = written else { continue };
            bytes = bytes.saturating_add(size);
            files.extend(written.files);
            cleaned.push(CleanedGroup {
                old: group,
                size,
                has_aborted: written.has_aborted,
            });
            if self.sizes.swap <= bytes || SEGMENTS_PER_SWAP_MAX <= cleaned.len() {
                break;
            }
        }
        Ok(())
    }

    /// Ends a cleaning whose last groups are not swapped in.
    pub fn give_up(self) {
        // What stays is removed before the next cleaning.
        discard_cleaned(self.log.file_system.as_ref(), &self.log.directory).ok();
    }

    /// The new segment, or `None` when the old one can stay.
    fn clean_group(
        &mut self,
        group: &[Arc<Segment>],
        pace: &mut dyn Pace,
    ) -> Result<Option<Written>, CleanError> {
        let Some(first) = group.first() else {
            return Ok(None);
        };
        let log = &self.log;
        let filter = BatchFilter {
            map: &self.map,
            last_records: &log.last_records,
            now: log.now,
            delete_retention_ms: log.config.delete_retention_ms,
        };
        let (files, directory) = (log.file_system.as_ref(), &*log.directory);
        let mut output = Output::new(
            files,
            directory,
            first.base_offset(),
            &log.config,
            1 < group.len(),
            self.sizes.chunk,
        );
        let last_base = group
            .iter()
            .rfind(|segment| 0 < segment.size())
            .map(|last| last.base_offset());
        let mut counts = RecordCounts::default();
        for segment in group {
            let is_last = Some(segment.base_offset()) == last_base;
            let open = segment.open()?;
            let mut walk = Walk::scan(open.view(), FilePosition::ZERO, segment.size());
            while let Some((position, header)) =
                walk.next_header().map_err(|error| scan_error(segment, error))?
            {
                let bytes = walk.batch_bytes(position, &header)?;
                pace.spend(u64::try_from(bytes.len()).expect("usize fits u64"))?;
                let batch = verified(segment, position, &bytes)?;
                let is_last = is_last && walk.position().get() == segment.size();
                let verdict = filter
                    .judge(
                        &batch,
                        &mut self.transactions,
                        is_last,
                        &mut self.scratch,
                        &mut counts,
                    )
                    .map_err(|error| filter_error(segment, &header, &error))?;
                match verdict {
                    Verdict::Keep => output.keep(open.view(), position, &header, pace)?,
                    Verdict::Drop => output.leave_out(),
                    Verdict::Rewrite(batch) => {
                        let header = BatchHeader::parse(&batch).expect("a batch that was just built");
                        output.put(open.view(), &header, batch, pace)?;
                    }
                }
            }
            output.end_source(open.view(), pace)?;
            self.stats.bytes_read = self.stats.bytes_read.saturating_add(segment.size());
        }
        self.stats.records_read = self.stats.records_read.saturating_add(counts.read);
        self.stats.records_kept = self.stats.records_kept.saturating_add(counts.kept);
        let index = segment_file(directory, first.base_offset(), FileKind::TransactionIndex);
        output.finish(&self.transactions.take_kept(), files.exists(&index)?, pace)
    }
}

/// Puts the keys of the dirty part into the map, until it is full.
fn fill_map(
    log: &LogToClean,
    map: &mut OffsetMap,
    scratch: &mut Vec<u8>,
    stats: &mut CleanerStats,
    pace: &mut dyn Pace,
) -> Result<(), CleanError> {
    let mut transactions = CleanedTransactions::new(&log.aborted, log.first_dirty);
    for segment in log
        .segments
        .iter()
        .filter(|segment| log.first_dirty < segment.next_offset())
    {
        let start = segment
            .place_before(log.first_dirty)
            .map_err(|error| scan_error(segment, error))?;
        let open = segment.open()?;
        let mut walk = Walk::scan(open.view(), start, segment.size());
        while let Some((position, header)) = walk.next_header().map_err(|error| scan_error(segment, error))? {
            let bytes = walk.batch_bytes(position, &header)?;
            let count = u64::try_from(bytes.len()).expect("usize fits u64");
            stats.map_bytes_read = stats.map_bytes_read.saturating_add(count);
            pace.spend(count)?;
            let batch = verified(segment, position, &bytes)?;
            let broken = |error: FilterError| filter_error(segment, &header, &error);
            if header.attributes.is_control() {
                let marker = control_batch(&batch, scratch).map_err(broken)?;
                transactions.meet_control(&header, marker);
            } else if !transactions.meet_batch(&header) {
                let records = batch.records(scratch, DECOMPRESSED_BYTES_MAX);
                for record in records.map_err(|error| broken(error.into()))? {
                    let record = record.map_err(|error| broken(error.into()))?;
                    if let Some(key) = record.key
                        && log.first_dirty <= record.offset
                        && map.put(key, record.offset).is_err()
                    {
                        return Ok(());
                    }
                }
            }
            if log.first_dirty <= header.last_offset() {
                map.note_seen(header.last_offset());
            }
        }
        // Behind the last batch there may be a gap.
        map.note_seen(segment.next_offset().plus(-1));
    }
    Ok(())
}

fn verified<'a>(segment: &Segment, position: FilePosition, bytes: &'a [u8]) -> Result<Batch<'a>, CleanError> {
    Batch::parse(bytes)
        .and_then(|batch| batch.verify_checksum().map(|()| batch))
        .map_err(|source| scan_error(segment, ScanError::Malformed { position, source }))
}

/// A failed walk over a segment.
pub(crate) fn scan_error(segment: &Segment, error: ScanError) -> CleanError {
    match error {
        ScanError::Storage(error) => CleanError::Storage(error),
        error => CleanError::Damaged {
            file: segment.paths().next().unwrap_or_default(),
            cause: error.to_string(),
        },
    }
}

fn filter_error(segment: &Segment, header: &BatchHeader, error: &FilterError) -> CleanError {
    CleanError::Damaged {
        file: segment.paths().next().unwrap_or_default(),
        cause: format!("the batch at offset {}: {error}", header.base_offset),
    }
}
