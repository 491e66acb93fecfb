//! The space behind the end of the active segment: allocated before it is written.
//!
//! Writing into blocks that exist cannot fail for want of space, and a sync of blocks that hold zeros
//! already needs no conversion in the file system's journal, which halves its cost. So the writer
//! allocates in steps, and a background task fills the next step with zeros before the writer arrives. Steps begin small
//! and double, so that ten thousand quiet partitions take little and a busy one is never waited for.
//!
//! Invariant: everything below `prepared_end` may be written without further ado, and nothing but the
//! writer ever writes there. The background task writes only behind it, under the lock.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::fs::{File, FsError};

/// The first step: what a partition that receives one record takes.
const STEP_FIRST: u64 = 16 << 10;
/// The largest step: about ten milliseconds of a producer at full speed.
const STEP_MAX: u64 = 16 << 20;
/// How much is zero-filled at a time, so that a writer that arrives meanwhile waits for no more than that.
const FILL_CHUNK: u64 = 1 << 20;
/// File systems allocate in blocks of this size.
const BLOCK: u64 = 4 << 10;

/// The allocated space of one active segment.
#[derive(Debug)]
pub struct TailSpace {
    prepared_end: AtomicU64,
    /// No allocation goes beyond it.
    capacity: u64,
    /// The size of the next step.
    step: Mutex<u64>,
}

impl TailSpace {
    /// The space of a file of `length` bytes that will never be longer than `capacity`.
    #[must_use]
    pub fn new(length: u64, capacity: u64) -> Self {
        Self {
            prepared_end: AtomicU64::new(length),
            capacity,
            step: Mutex::new(STEP_FIRST),
        }
    }

    /// Up to where the file may be written without allocating.
    #[must_use]
    pub fn prepared_end(&self) -> u64 {
        self.prepared_end.load(Ordering::Acquire)
    }

    /// For the writer: makes sure that blocks exist up to `end`.
    ///
    /// # Errors
    /// `NoSpace` and others of the file system; nothing has been written then.
    pub fn reserve(&self, file: &dyn File, end: u64) -> Result<(), FsError> {
        if end <= self.prepared_end() {
            return Ok(());
        }
        let mut step = self.step.lock();
        let start = self.prepared_end();
        if end <= start {
            return Ok(());
        }
        let wanted = end
            .saturating_add(*step)
            .next_multiple_of(BLOCK)
            .min(self.capacity)
            .max(end);
        let reached = match file.allocate(start..wanted) {
            Ok(()) => wanted,
            // A nearly full disk may still have room for what must be written now.
            Err(_) if end < wanted => {
                file.allocate(start..end)?;
                end
            }
            Err(error) => return Err(error),
        };
        *step = step.saturating_mul(2).min(STEP_MAX);
        self.prepared_end.store(reached, Ordering::Release);
        Ok(())
    }

    /// Whether it is time to prepare more: less than half a step is left behind `written_end`. A step is never
    /// prepared that is larger than what was written before.
    #[must_use]
    pub fn is_short(&self, written_end: u64) -> bool {
        let Some(step) = self.step.try_lock() else {
            return false; // somebody is at it
        };
        let prepared = self.prepared_end();
        let is_busy = STEP_FIRST < *step && *step <= written_end;
        let is_nearly_used = prepared.saturating_sub(written_end) < *step / 2;
        is_busy && is_nearly_used && prepared < self.capacity
    }

    /// For the background: fills the next step with zeros and syncs it, chunk by chunk.
    ///
    /// `sync` must be another open file description of the same file: the system reports a write-back error
    /// once to each, and the one that acknowledgements rest on must not lose its report to us.
    ///
    /// # Errors
    /// The file system's. What was prepared before stays usable; a writer in need will meet the error itself.
    pub fn prepare(&self, file: &dyn File, sync: &dyn File) -> Result<(), FsError> {
        let mut left = {
            let mut step = self.step.lock();
            let now = *step;
            *step = step.saturating_mul(2).min(STEP_MAX);
            now
        };
        while 0 < left {
            {
                let _writer_waits = self.step.lock();
                let start = self.prepared_end();
                let chunk = FILL_CHUNK.min(left).min(self.capacity.saturating_sub(start));
                if chunk == 0 {
                    return Ok(());
                }
                let end = start.saturating_add(chunk);
                file.allocate(start..end)?;
                file.zero_fill(start..end)?;
                self.prepared_end.store(end, Ordering::Release);
                left = left.saturating_sub(chunk);
            }
            sync.sync_data()?;
        }
        Ok(())
    }
}

/// Cuts off what was prepared behind the records. The next sync brings the new length to the disk even where the file has it already:
/// the sync of an earlier cut may have failed, and then the system takes the length for synced. So it changes at any rate.
///
/// # Errors
/// The file system's.
pub(crate) fn cut_to(file: &dyn File, length: u64) -> Result<(), FsError> {
    if file.length()? <= length {
        file.set_length(length.saturating_add(1))?;
    }
    file.set_length(length)
}
