//! Putting cleaned segments in the place of those they were made from, so that a crash at any moment leaves one or the other.
//!
//! File suffixes and order are Kafka's, so that either broker ends what the other began:
//!
//! | step | files | after a crash here |
//! |---|---|---|
//! | 1 | `.cleaned` are written and synced | they are removed: nothing has happened |
//! | 2 | indexes become `.swap`, synced, then the log becomes `.log.swap`, synced | the same, as long as any `.cleaned` is left |
//! | 3 | the other old segments are removed; the indexes lose their suffix; synced | taken up again here: `.log.swap` stands for all of them |
//! | 4 | `.log.swap` takes the place of the first old segment, synced | done |
//!
//! Several new segments take each step together, because a sync of the directory is the same for one name and for many. A crash on the way
//! finds each of them before or behind its own last rename; what the table says holds for each.
//!
//! Producer snapshots stay: each says what it says about its own offset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::{DirEntry, FileSystem, FsError, FsErrorKind};
use crate::model::{FilePosition, Offset};
use crate::record::batch::Batch;
use crate::segment::file_name::{FileKind, parse_segment_file, segment_file};
use crate::segment::scan::{ScanError, Walk};
use crate::segment::view::View;

/// A file that is being written.
const CLEANED: &str = ".cleaned";
/// A file that is complete and takes its place.
const SWAP: &str = ".swap";
/// What is swapped: the log comes last, because it stands for the others.
const INDEXES: [FileKind; 3] = [
    FileKind::OffsetIndex,
    FileKind::TimeIndex,
    FileKind::TransactionIndex,
];

/// Where a file of a cleaned segment is written.
#[must_use]
pub fn cleaned_file(directory: &Path, base_offset: Offset, kind: FileKind) -> PathBuf {
    with_suffix(directory, base_offset, kind, CLEANED)
}

/// Removes what cleanings wrote and did not swap. Before any swap begins: what is left of another cleaning would say
/// of this one that it had not begun.
///
/// # Errors
/// The file system's.
pub fn discard_cleaned(file_system: &dyn FileSystem, directory: &Path) -> Result<(), FsError> {
    let cleaned = suffixed(&file_system.list(directory)?, CLEANED);
    drop_files(file_system, directory, &cleaned, CLEANED)
}

/// Removes what is there of a cleaned segment that was not completed, as far as that can be. What stays says nothing about those before
/// it, and goes before the next cleaning.
pub(crate) fn discard_cleaned_segment(file_system: &dyn FileSystem, directory: &Path, base_offset: Offset) {
    for kind in INDEXES.into_iter().chain([FileKind::Log]) {
        file_system
            .remove_file(&cleaned_file(directory, base_offset, kind))
            .ok();
    }
}

/// A segment that takes the place of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The base offset of the new segment and of the first old one.
    pub base_offset: Offset,
    /// The base offsets of the other old ones.
    pub others: Vec<Offset>,
}

/// The swap of new segments, whose `.cleaned` files are complete and synced, for old ones.
#[derive(Debug)]
pub struct Swap {
    /// The files.
    pub file_system: Arc<dyn FileSystem>,
    /// The partition's directory.
    pub directory: Arc<Path>,
    /// The new segments.
    pub replacements: Vec<Replacement>,
}

impl Swap {
    /// Steps 2 to 4. Durable when it returns. Blocks.
    ///
    /// # Errors
    /// The file system's. Which files are there is then for [`recover`] to find out.
    pub fn run(&self) -> Result<(), FsError> {
        let (files, directory) = (self.file_system.as_ref(), &*self.directory);
        // Where one is missing, somebody else is at work in this directory: the old segments must stay.
        let becomes_swap = |base, kind| {
            let from = cleaned_file(directory, base, kind);
            files.rename(&from, &with_suffix(directory, base, kind, SWAP))
        };
        for base in self.replacements.iter().map(|new| new.base_offset) {
            becomes_swap(base, FileKind::OffsetIndex)?;
            becomes_swap(base, FileKind::TimeIndex)?;
            // Few segments have aborted transactions.
            if_there(becomes_swap(base, FileKind::TransactionIndex))?;
        }
        files.sync_directory(directory)?;
        for new in &self.replacements {
            becomes_swap(new.base_offset, FileKind::Log)?;
        }
        files.sync_directory(directory)?;
        complete(files, directory, &self.replacements)
    }
}

/// A swap that cannot be completed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The file system failed.
    #[error(transparent)]
    Storage(#[from] FsError),
    /// What should take the place of segments is no segment. Nothing was touched.
    #[error("{file}: {source}", file = file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The first offset it should have.
        base_offset: Offset,
        /// What is wrong.
        source: ScanError,
    },
}

/// Completes the swaps that a crash interrupted, and returns how many; drops those that had not really begun. Blocks.
///
/// Of several that were on their way together, those below the lowest `.cleaned` have begun, the others not, even where they have their
/// `.log.swap`: were a later one completed and an earlier one not, a key whose tombstone went with the later one would come back.
///
/// # Errors
/// See [`RecoverError`].
pub fn recover(file_system: &dyn FileSystem, directory: &Path) -> Result<usize, RecoverError> {
    let entries = file_system.list(directory)?;
    let (cleaned, swaps) = (suffixed(&entries, CLEANED), suffixed(&entries, SWAP));
    if cleaned.is_empty() && swaps.is_empty() {
        return Ok(0);
    }
    let first_cleaned = cleaned.keys().next().copied();
    let is_ready = |base: &Offset, kinds: &Vec<FileKind>| {
        kinds.contains(&FileKind::Log) && first_cleaned.is_none_or(|first| *base < first)
    };
    let (ready, unready): (BTreeMap<_, _>, BTreeMap<_, _>) =
        swaps.into_iter().partition(|(base, kinds)| is_ready(base, kinds));
    // Looked at before anything is removed that might be needed instead.
    let ends = ready
        .keys()
        .map(|base| Ok((*base, verified_end(file_system, directory, *base)?)))
        .collect::<Result<Vec<_>, RecoverError>>()?;
    drop_files(file_system, directory, &unready, SWAP)?;
    drop_files(file_system, directory, &cleaned, CLEANED)?;
    let replacement = |(base_offset, end): &(Offset, Offset)| {
        let in_range = |offset: &Offset| base_offset < offset && offset < end;
        let names = entries.iter().filter_map(|entry| parse_segment_file(&entry.name));
        let of_segments = names.filter(|(_, kind)| *kind != FileKind::ProducerSnapshot);
        let mut others: Vec<Offset> = of_segments.map(|(other, _)| other).filter(in_range).collect();
        others.dedup();
        Replacement {
            base_offset: *base_offset,
            others,
        }
    };
    let replacements: Vec<Replacement> = ends.iter().map(replacement).collect();
    if !replacements.is_empty() {
        complete(file_system, directory, &replacements)?;
    }
    Ok(replacements.len())
}

/// Steps 3 and 4.
fn complete(
    file_system: &dyn FileSystem,
    directory: &Path,
    replacements: &[Replacement],
) -> Result<(), FsError> {
    let takes_its_place = |base, kind| {
        let from = with_suffix(directory, base, kind, SWAP);
        file_system.rename(&from, &segment_file(directory, base, kind))
    };
    for new in replacements {
        for other in &new.others {
            for kind in INDEXES.into_iter().chain([FileKind::Log]) {
                if_there(file_system.remove_file(&segment_file(directory, *other, kind)))?;
            }
        }
        // Before a crash, some may have been renamed already.
        INDEXES
            .into_iter()
            .try_for_each(|kind| if_there(takes_its_place(new.base_offset, kind)))?;
    }
    file_system.sync_directory(directory)?;
    for new in replacements {
        takes_its_place(new.base_offset, FileKind::Log)?;
    }
    file_system.sync_directory(directory)
}

/// Where the segment that waits to be swapped in ends, once each of its batches was found to be whole.
fn verified_end(
    file_system: &dyn FileSystem,
    directory: &Path,
    base_offset: Offset,
) -> Result<Offset, RecoverError> {
    let file = with_suffix(directory, base_offset, FileKind::Log, SWAP);
    let opened = file_system.open_read_only(&file)?;
    let length = opened.length()?;
    let view = View::new(&opened, length)?;
    let damaged = |source| match source {
        ScanError::Storage(error) => RecoverError::Storage(error),
        source => RecoverError::Damaged {
            file: file.clone(),
            base_offset,
            source,
        },
    };
    let mut walk = Walk::scan(&view, FilePosition::ZERO, length);
    let mut end = base_offset;
    while let Some((position, header)) = walk.next_header().map_err(&damaged)? {
        let bytes = walk.batch_bytes(position, &header)?;
        Batch::parse(&bytes)
            .and_then(|batch| batch.verify_checksum())
            .map_err(|source| damaged(ScanError::Malformed { position, source }))?;
        end = header.next_offset();
    }
    Ok(end)
}

/// The files with this suffix, by base offset.
fn suffixed(entries: &[DirEntry], suffix: &str) -> BTreeMap<Offset, Vec<FileKind>> {
    let mut found: BTreeMap<Offset, Vec<FileKind>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.is_directory) {
        let name = entry.name.strip_suffix(suffix).and_then(parse_segment_file);
        if let Some((base, kind)) = name {
            found.entry(base).or_default().push(kind);
        }
    }
    found
}

/// Removes files with a suffix, the logs first: without its log, a swap is none.
fn drop_files(
    file_system: &dyn FileSystem,
    directory: &Path,
    files: &BTreeMap<Offset, Vec<FileKind>>,
    suffix: &str,
) -> Result<(), FsError> {
    if files.is_empty() {
        return Ok(());
    }
    let is_log = |kind: &FileKind| *kind == FileKind::Log;
    for logs in [true, false] {
        for (base, kinds) in files {
            for kind in kinds.iter().filter(|kind| is_log(kind) == logs) {
                if_there(file_system.remove_file(&with_suffix(directory, *base, *kind, suffix)))?;
            }
        }
        file_system.sync_directory(directory)?;
    }
    Ok(())
}

fn with_suffix(directory: &Path, base_offset: Offset, kind: FileKind, suffix: &str) -> PathBuf {
    let mut name = segment_file(directory, base_offset, kind).into_os_string();
    name.push(suffix);
    name.into()
}

/// What was done to a file that need not be there.
fn if_there(result: Result<(), FsError>) -> Result<(), FsError> {
    match result {
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(()),
        result => result,
    }
}
