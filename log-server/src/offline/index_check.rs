//! The indexes of one segment, entry by entry, against the batches of its log.
//!
//! | file | an entry is right when |
//! |---|---|
//! | `.index` | a batch begins at its position and ends with its offset |
//! | `.timeindex` | the batch with its offset has its timestamp as the largest, and none before has a larger one |
//! | `.txnindex` | an abort marker of its producer stands at its last offset; the transaction begins, and the last stable offset was, where it says |
//!
//! An abort marker without an entry would let readers of committed records see what was aborted.
//!
//! Entries that point into a damaged stretch of the log cannot be judged, and are passed over.

use std::ops::Range;
use std::path::{Path, PathBuf};

use log_core::fs::{FileSystem, FsError, FsErrorKind};
use log_core::index::offset_index::{self, OffsetIndexView};
use log_core::index::time_index::{self, TimeIndexView};
use log_core::index::transaction_index::{AbortedTransaction, TransactionIndex};
use log_core::model::{FilePosition, Offset, TimestampMs};
use log_core::record::batch_header::BatchHeader;
use log_core::segment::file_name::{FileKind, segment_file};

use super::finding::{Finding, Findings, Severity};
use super::transaction_check::AbortMarker;

/// Larger index files do not exist: positions and offsets in them have 31 bits.
const INDEX_BYTES_MAX: u64 = 1 << 30;
/// So many wrong entries of a file are reported one by one.
const ENTRIES_REPORTED_MAX: u64 = 5;

/// One index file and how far it was compared.
#[derive(Debug)]
struct Entries<T> {
    path: PathBuf,
    entry_size: usize,
    rest: std::iter::Peekable<std::vec::IntoIter<T>>,
    checked: u64,
    wrong: u64,
}

/// The indexes of a segment, compared while its log is walked.
#[derive(Debug)]
pub struct IndexCheck {
    offsets: Option<Entries<(Offset, FilePosition)>>,
    times: Option<Entries<(TimestampMs, Offset)>>,
    aborted: Option<Entries<AbortedTransaction>>,
    max_timestamp: TimestampMs,
    /// Whether every batch so far could be read; behind damage timestamps may have been larger than is known.
    is_max_certain: bool,
    last_time: Option<TimestampMs>,
    /// Abort markers of transactions with records here that have no entry.
    unindexed: Vec<Offset>,
}

/// What is known of the segment when its walk is over.
#[derive(Debug, Clone, Copy)]
pub struct SegmentEnd {
    /// Where the batches end.
    pub position: FilePosition,
    /// The offset behind the last batch.
    pub next_offset: Offset,
    /// Whether everything below this offset must be in order; behind it indexes may be ahead of the log.
    pub settled_to: Offset,
    /// Whether the segment takes no more batches, so that its indexes are complete.
    pub is_sealed: bool,
}

impl IndexCheck {
    /// Reads the index files of a segment. Files that are missing are reported when the walk is over.
    ///
    /// # Errors
    /// The file system's, but for missing files.
    pub fn open(
        file_system: &dyn FileSystem,
        directory: &Path,
        base: Offset,
        findings: &mut Findings,
    ) -> Result<Self, FsError> {
        let read = |kind: FileKind| -> Result<Option<(PathBuf, Vec<u8>)>, FsError> {
            let path = segment_file(directory, base, kind);
            match file_system.read(&path, INDEX_BYTES_MAX) {
                Ok(bytes) => Ok(Some((path, bytes))),
                Err(error) if error.kind == FsErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        };
        let (offsets, times, aborted) = (
            read(FileKind::OffsetIndex)?,
            read(FileKind::TimeIndex)?,
            read(FileKind::TransactionIndex)?,
        );
        let mut refuse = |path: &Path, error: &dyn std::fmt::Display| {
            findings.push(Finding::new(Severity::Repairable, path, error));
        };
        let mut last_time = None;
        Ok(Self {
            offsets: offsets.map(|(path, bytes)| match OffsetIndexView::parse(bytes.into(), base) {
                Ok(view) => Entries::new(path, offset_index::ENTRY_SIZE, view.iter().collect()),
                Err(error) => {
                    refuse(&path, &error);
                    Entries::new(path, offset_index::ENTRY_SIZE, Vec::new())
                }
            }),
            times: times.map(|(path, bytes)| match TimeIndexView::parse(bytes.into(), base) {
                Ok(view) => {
                    last_time = Some(view.last().0);
                    Entries::new(path, time_index::ENTRY_SIZE, view.iter().collect())
                }
                Err(error) => {
                    refuse(&path, &error);
                    Entries::new(path, time_index::ENTRY_SIZE, Vec::new())
                }
            }),
            aborted: aborted.map(|(path, bytes)| {
                let size = log_core::index::transaction_index::ENTRY_SIZE;
                match TransactionIndex::parse(&bytes, base) {
                    Ok(index) => Entries::new(path, size, index.transactions().to_vec()),
                    Err(error) => {
                        refuse(&path, &error);
                        Entries::new(path, size, Vec::new())
                    }
                }
            }),
            max_timestamp: TimestampMs::NONE,
            is_max_certain: true,
            last_time,
            unindexed: Vec::new(),
        })
    }

    /// Compares the entries up to this batch. `aborts` is the abort marker in it.
    pub fn batch(
        &mut self,
        position: FilePosition,
        header: &BatchHeader,
        aborts: Option<&AbortMarker>,
        findings: &mut Findings,
    ) {
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        if let Some(offsets) = &mut self.offsets {
            while let Some((offset, at)) = offsets.next_if(|(_, at)| *at <= position) {
                if at < position {
                    offsets.wrong(findings, offset, || format!("no batch begins at {at}"));
                } else if offset != header.last_offset() {
                    let last = header.last_offset();
                    offsets.wrong(findings, offset, || {
                        format!("the batch at {at} ends with offset {last}")
                    });
                }
            }
        }
        if let Some(times) = &mut self.times {
            let (max, last) = (self.max_timestamp, header.last_offset());
            while let Some((timestamp, offset)) = times.next_if(|(_, offset)| *offset <= last) {
                if offset < header.base_offset {
                    times.wrong(findings, offset, || "no batch has this offset".to_owned());
                } else if timestamp < max || (self.is_max_certain && max < timestamp) {
                    times.wrong(findings, offset, || {
                        format!("the largest timestamp up to there is {max}, the entry says {timestamp}")
                    });
                }
            }
        }
        let mut indexed = false;
        if let Some(aborted) = &mut self.aborted {
            let last = header.last_offset();
            while let Some(transaction) = aborted.next_if(|transaction| transaction.last_offset <= last) {
                let offset = transaction.last_offset;
                let marker = aborts.filter(|marker| {
                    (marker.offset, marker.producer_id) == (offset, transaction.producer_id)
                });
                indexed |= marker.is_some();
                match marker.map(|marker| contradiction(&transaction, marker)) {
                    None => aborted.wrong(findings, offset, || {
                        "no abort marker of its producer stands there".to_owned()
                    }),
                    Some(Some(what)) => aborted.wrong(findings, offset, || what),
                    Some(None) => {}
                }
            }
        }
        if let Some(marker) = aborts.filter(|marker| marker.first_offset.is_some() && !indexed) {
            self.unindexed.push(marker.offset);
        }
    }

    /// Passes over the entries that point into a stretch of damage, up to the batch that begins behind it.
    pub fn damage(&mut self, range: &Range<u64>, next_base: Option<Offset>) {
        if let Some(offsets) = &mut self.offsets {
            while offsets.next_if(|(_, at)| at.get() < range.end).is_some() {}
        }
        let is_before = |offset: Offset| next_base.is_none_or(|base| offset < base);
        if let Some(times) = &mut self.times {
            while times.next_if(|(_, offset)| is_before(*offset)).is_some() {}
        }
        self.is_max_certain = false;
        if let Some(aborted) = &mut self.aborted {
            while aborted
                .next_if(|transaction| is_before(transaction.last_offset))
                .is_some()
            {}
        }
    }

    /// Judges what is left when the segment's last batch was compared, and returns how many entries were.
    pub fn finish(mut self, directory: &Path, base: Offset, end: SegmentEnd, findings: &mut Findings) -> u64 {
        let is_settled = |offset: Offset| offset < end.settled_to;
        if let Some(offsets) = &mut self.offsets {
            while let Some((offset, at)) = offsets.next_if(|_| true) {
                if is_settled(offset) {
                    offsets.wrong(findings, offset, || format!("no batch begins at {at}"));
                }
            }
        }
        if let Some(times) = &mut self.times {
            while let Some((_, offset)) = times.next_if(|_| true) {
                if is_settled(offset) {
                    times.wrong(findings, offset, || "the log ends before this offset".to_owned());
                }
            }
        }
        if let Some(aborted) = &mut self.aborted {
            while let Some(transaction) = aborted.next_if(|_| true) {
                let offset = transaction.last_offset;
                if is_settled(offset) {
                    aborted.wrong(findings, offset, || "the log ends before this offset".to_owned());
                }
            }
        }
        if end.is_sealed && end.next_offset <= end.settled_to && base < end.next_offset {
            self.is_complete(directory, base, findings);
        }
        let checked = [
            self.offsets.as_ref().map(Entries::close),
            self.times.as_ref().map(Entries::close),
            self.aborted.as_ref().map(Entries::close),
        ];
        let mut count: u64 = 0;
        for (entries, more) in checked.into_iter().flatten() {
            count = count.saturating_add(entries);
            if let Some(finding) = more {
                findings.push(finding);
            }
        }
        count
    }

    /// A segment that takes no more batches has both indexes, and the last time in them is its largest.
    fn is_complete(&self, directory: &Path, base: Offset, findings: &mut Findings) {
        for (kind, is_there) in [
            (FileKind::OffsetIndex, self.offsets.is_some()),
            (FileKind::TimeIndex, self.times.is_some()),
        ] {
            if !is_there {
                let path = segment_file(directory, base, kind);
                findings.push(Finding::new(Severity::Repairable, path, "the index is missing"));
            }
        }
        if let Some(first) = self.unindexed.first() {
            let path = segment_file(directory, base, FileKind::TransactionIndex);
            let what = format!(
                "{} aborted transactions have no entry, the first of them ends at offset {first}",
                self.unindexed.len()
            );
            findings.push(Finding::new(Severity::Damage, path, what));
        }
        if let (Some(times), Some(last)) = (&self.times, self.last_time)
            && last < self.max_timestamp
        {
            let what = format!(
                "the last entry's timestamp is {last}, the segment's largest is {}",
                self.max_timestamp
            );
            findings.push(Finding::new(Severity::Repairable, &times.path, what));
        }
    }
}

/// What an entry says otherwise than the log. Where something is missing of that, the entry may know of more.
fn contradiction(entry: &AbortedTransaction, marker: &AbortMarker) -> Option<String> {
    let first = marker.first_offset.unwrap_or(entry.first_offset);
    let is_exact = marker.is_exact && marker.first_offset.is_some();
    if first < entry.first_offset || (is_exact && entry.first_offset != first) {
        let found = entry.first_offset;
        return Some(format!(
            "the transaction begins at offset {first}, the entry says {found}"
        ));
    }
    let stable = marker.last_stable_offset;
    if stable < entry.last_stable_offset || (is_exact && entry.last_stable_offset != stable) {
        let found = entry.last_stable_offset;
        return Some(format!(
            "the last stable offset was {stable}, the entry says {found}"
        ));
    }
    None
}

impl<T> Entries<T> {
    fn new(path: PathBuf, entry_size: usize, entries: Vec<T>) -> Self {
        Self {
            path,
            entry_size,
            rest: entries.into_iter().peekable(),
            checked: 0,
            wrong: 0,
        }
    }

    fn next_if(&mut self, condition: impl FnOnce(&T) -> bool) -> Option<T> {
        let entry = self.rest.next_if(condition)?;
        self.checked = self.checked.saturating_add(1);
        Some(entry)
    }

    /// Reports the entry that was taken last.
    fn wrong(&mut self, findings: &mut Findings, offset: Offset, what: impl FnOnce() -> String) {
        self.wrong = self.wrong.saturating_add(1);
        if self.wrong <= ENTRIES_REPORTED_MAX {
            let slot = self.checked.saturating_sub(1);
            let size = u64::try_from(self.entry_size).unwrap_or(u64::MAX);
            let what = format!("the entry of offset {offset} is wrong: {}", what());
            let finding = Finding::new(Severity::Repairable, &self.path, what);
            findings.push(finding.at(FilePosition::new(slot.saturating_mul(size))));
        }
    }

    /// How many entries there were, and a finding about those that were not reported one by one.
    fn close(&self) -> (u64, Option<Finding>) {
        let more = self.wrong.saturating_sub(ENTRIES_REPORTED_MAX);
        let finding = (0 < more).then(|| {
            let what = format!("{more} more of its {} entries are wrong", self.checked);
            Finding::new(Severity::Repairable, &self.path, what)
        });
        (self.checked, finding)
    }
}
