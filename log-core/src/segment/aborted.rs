//! The index of aborted transactions of one segment (`.txnindex`), where it is at present.
//!
//! Most segments have none, and are told at once, without a look at the disk. While a segment is active its index lives
//! in memory; it is stored before every snapshot of the producers that lies in the segment or at its end, because what a
//! recovery does not replay it must find here. A sealed segment's is read back on demand.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;

use crate::fs::{FsError, FsErrorKind};
use crate::index::error::IndexError;
use crate::index::transaction_index::{AbortedTransaction, TransactionIndex};
use crate::model::Offset;
use crate::segment::file_name::{FileKind, segment_file};
use crate::segment::segment::{Patience, Segment};

/// More transactions than fit this many bytes are never aborted in one segment: two million of them.
const TRANSACTION_INDEX_BYTES_MAX: u64 = 64 << 20;

/// Where the index is.
#[derive(Debug)]
pub(super) enum AbortedIndex {
    /// Nowhere: no transaction was aborted here, and there is no file.
    None,
    /// In memory, and not in the file as it is.
    Changed(Arc<TransactionIndex>),
    /// In the file, and in memory since it was asked for.
    Stored(Option<Arc<TransactionIndex>>),
}

/// The index of a segment could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AbortedIndexError {
    /// The file system failed.
    #[error(transparent)]
    Storage(#[from] FsError),
    /// The file is damaged.
    #[error(transparent)]
    Damaged(#[from] IndexError),
}

impl Segment {
    /// Notes a transaction whose abort marker was just appended.
    ///
    /// # Panics
    /// When its marker does not lie behind that of the one before, or the segment is complete.
    pub fn note_aborted(&self, transaction: AbortedTransaction) {
        let mut slot = self.aborted.write();
        let mut index = match std::mem::replace(&mut *slot, AbortedIndex::None) {
            AbortedIndex::None => Arc::new(TransactionIndex::new(self.base_offset)),
            AbortedIndex::Changed(index) | AbortedIndex::Stored(Some(index)) => index,
            AbortedIndex::Stored(None) => unreachable!("an active segment has its index in memory"),
        };
        Arc::make_mut(&mut index)
            .append(transaction)
            .expect("markers are appended in order");
        *slot = AbortedIndex::Changed(index);
    }

    /// Takes an index that was made again in the place of what is there.
    pub fn restore_aborted(&self, index: TransactionIndex) {
        let mut slot = self.aborted.write();
        let is_needless = index.transactions().is_empty() && matches!(*slot, AbortedIndex::None);
        if !is_needless {
            *slot = AbortedIndex::Changed(Arc::new(index));
        }
    }

    /// The transactions whose abort markers are here: `None` when there are none. The outer `None`: the disk has to be
    /// asked, and the caller must not wait for it.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub fn aborted(
        &self,
        patience: Patience,
    ) -> Result<Option<Option<Arc<TransactionIndex>>>, AbortedIndexError> {
        match &*self.aborted.read() {
            AbortedIndex::None => return Ok(Some(None)),
            AbortedIndex::Changed(index) | AbortedIndex::Stored(Some(index)) => {
                return Ok(Some(Some(Arc::clone(index))));
            }
            AbortedIndex::Stored(None) => {}
        }
        if patience == Patience::MustNotBlock {
            return Ok(None);
        }
        self.touched.store(true, Ordering::Relaxed);
        let index = Arc::new(self.read_aborted()?);
        let index = match &mut *self.aborted.write() {
            // Whoever was first may have read another file than is there now (see [`Segment::pin`]).
            AbortedIndex::Stored(slot) => Arc::clone(slot.get_or_insert(index)),
            AbortedIndex::None | AbortedIndex::Changed(_) => index,
        };
        Ok(Some(Some(index)))
    }

    /// Whether a transaction was aborted here, as far as is known without a look at the disk.
    #[must_use]
    pub fn has_aborted(&self) -> bool {
        match &*self.aborted.read() {
            AbortedIndex::None => false,
            AbortedIndex::Changed(index) => !index.transactions().is_empty(),
            AbortedIndex::Stored(_) => true,
        }
    }

    /// What the file holds.
    fn read_aborted(&self) -> Result<TransactionIndex, AbortedIndexError> {
        let path = segment_file(
            &self.settings.directory,
            self.base_offset,
            FileKind::TransactionIndex,
        );
        let bytes = self
            .settings
            .file_system
            .read(&path, TRANSACTION_INDEX_BYTES_MAX)?;
        Ok(TransactionIndex::parse(&bytes, self.base_offset)?)
    }

    /// Brings the index to the disk, if it changed. Blocks.
    ///
    /// # Errors
    /// The file system's; the index stays in memory.
    pub fn store_aborted(&self) -> Result<(), FsError> {
        let index = match &*self.aborted.read() {
            AbortedIndex::Changed(index) => Arc::clone(index),
            AbortedIndex::None | AbortedIndex::Stored(_) => return Ok(()),
        };
        let path = segment_file(
            &self.settings.directory,
            self.base_offset,
            FileKind::TransactionIndex,
        );
        let file_system = self.settings.file_system.as_ref();
        if index.transactions().is_empty() {
            // Kafka has no file where there is nothing to say, either.
            match file_system.remove_file(&path) {
                Err(error) if error.kind != FsErrorKind::NotFound => return Err(error),
                _ => {}
            }
        } else {
            file_system.replace(&path, &index.to_bytes())?;
        }
        let mut slot = self.aborted.write();
        // Unless another was noted meanwhile.
        if matches!(&*slot, AbortedIndex::Changed(changed) if Arc::ptr_eq(changed, &index)) {
            *slot = if index.transactions().is_empty() {
                AbortedIndex::None
            } else {
                AbortedIndex::Stored(Some(index))
            };
        }
        Ok(())
    }

    /// Gives the index up if it can be read again. For a segment that is complete.
    pub(super) fn release_aborted(&self) {
        if let AbortedIndex::Stored(slot) = &mut *self.aborted.write() {
            *slot = None;
        }
    }
}

/// Whether a segment has an index in a file.
pub(super) fn of_file(exists: bool) -> RwLock<AbortedIndex> {
    RwLock::new(if exists {
        AbortedIndex::Stored(None)
    } else {
        AbortedIndex::None
    })
}

/// The stored index of a segment that is being recovered, cut to what lies before `end`; `None` when it is damaged.
///
/// # Errors
/// The file system's.
pub fn read_before(segment: &Segment, end: Offset) -> Result<Option<TransactionIndex>, FsError> {
    match segment.read_aborted() {
        Ok(mut index) => {
            index.truncate_to(end);
            Ok(Some(index))
        }
        Err(AbortedIndexError::Damaged(_)) => Ok(None),
        Err(AbortedIndexError::Storage(error)) => match error.kind {
            FsErrorKind::NotFound => Ok(Some(TransactionIndex::new(segment.base_offset()))),
            FsErrorKind::OutOfResources => Err(error),
            _ => Ok(None),
        },
    }
}
