//! The space behind the end of the active segment: allocated before it is written.
//!
//! Writing into blocks that exist cannot fail for want of space, and a sync of blocks that hold zeros
//! already needs no conversion in the file system's journal, which halves its cost. So the writer
//! allocates in steps, and a background task fills the next step with zeros before the writer arrives. Steps begin small
//! and double until one lasts for seconds, so that ten thousand quiet partitions take little, a thousand busy ones no more than
//! they write in a few seconds, and a very busy one is never waited for.
//!
//! Invariant: everything below `prepared_end` may be written without further ado, and nothing but the
//! writer ever writes there. The background task writes only behind it, under the lock.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::clock::SteadyMs;
use crate::fs::{File, FsError};

/// The first step: what a partition that receives one record takes.
const STEP_FIRST: u64 = 16 << 10;
/// The largest step: about ten milliseconds of a producer at full speed.
const STEP_MAX: u64 = 16 << 20;
/// A step that lasts a writer for longer is large enough, in milliseconds: what is prepared and never used costs writes, page cache,
/// and time at a start after a kill, which cuts it off.
const STEP_LASTS_MS: i64 = 2_000;
/// How much is zero-filled and synced at a time while the writer is far away: acknowledgements wait for the disk behind it.
const FILL_CALM: u64 = 128 << 10;
/// The same when the writer is close. One that arrives meanwhile waits for no more than that.
const FILL_HURRIED: u64 = 1 << 20;
/// File systems allocate in blocks of this size.
const BLOCK: u64 = 4 << 10;

/// How the space grows.
#[derive(Debug)]
struct Growth {
    /// The size of the next step.
    step: u64,
    /// When the background prepared the last one.
    prepared_at: Option<SteadyMs>,
}

impl Growth {
    fn double(&mut self) {
        self.step = self.step.saturating_mul(2).min(STEP_MAX);
    }

    /// The size of the step that the background prepares now. The one after it is larger if the last did not last.
    fn next_step(&mut self, moment: SteadyMs) -> u64 {
        let step = self.step;
        let is_used_up = |before| moment.saturating_since(before) < STEP_LASTS_MS;
        if self.prepared_at.replace(moment).is_none_or(is_used_up) {
            self.double();
        }
        step
    }
}

/// The allocated space of one active segment.
#[derive(Debug)]
pub struct TailSpace {
    prepared_end: AtomicU64,
    /// No allocation goes beyond it.
    capacity: u64,
    growth: Mutex<Growth>,
}

impl TailSpace {
    /// The space of a file of `length` bytes that will never be longer than `capacity`.
    #[must_use]
    pub fn new(length: u64, capacity: u64) -> Self {
        Self {
            prepared_end: AtomicU64::new(length),
            capacity,
            growth: Mutex::new(Growth {
                step: STEP_FIRST,
                prepared_at: None,
            }),
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
        let mut growth = self.growth.lock();
        let start = self.prepared_end();
        if end <= start {
            return Ok(());
        }
        let wanted = end
            .saturating_add(growth.step)
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
        growth.double();
        self.prepared_end.store(reached, Ordering::Release);
        Ok(())
    }

    /// Whether it is time to prepare more: less than half a step is left behind `written_end`. A step is never
    /// prepared that is larger than what was written before.
    #[must_use]
    pub fn is_short(&self, written_end: u64) -> bool {
        let Some(growth) = self.growth.try_lock() else {
            return false; // somebody is at it
        };
        let prepared = self.prepared_end();
        let is_busy = STEP_FIRST < growth.step && growth.step <= written_end;
        let is_nearly_used = prepared.saturating_sub(written_end) < growth.step / 2;
        is_busy && is_nearly_used && prepared < self.capacity
    }

    /// For the background: fills the next step with zeros and syncs it, chunk by chunk: small ones as long as at least a quarter of the
    /// step lies between the writer, whose end `written_end` tells, and the end of what is prepared.
    ///
    /// `sync` must be another open file description of the same file: the system reports a write-back error
    /// once to each, and the one that acknowledgements rest on must not lose its report to us.
    ///
    /// # Errors
    /// The file system's. What was prepared before stays usable; a writer in need will meet the error itself.
    pub fn prepare(
        &self,
        file: &dyn File,
        sync: &dyn File,
        now: SteadyMs,
        written_end: impl Fn() -> u64,
    ) -> Result<(), FsError> {
        let step = self.growth.lock().next_step(now);
        let mut left = step;
        while 0 < left {
            {
                let _writer_waits = self.growth.lock();
                let start = self.prepared_end();
                let is_calm = step / 4 <= start.saturating_sub(written_end());
                let size = if is_calm { FILL_CALM } else { FILL_HURRIED };
                let chunk = size.min(left).min(self.capacity.saturating_sub(start));
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::FileSystem as _;
    use crate::fs::mem::MemFileSystem;

    /// Writes as much as is prepared, again and again, `pause_ms` apart, and returns the steps that were prepared.
    fn steps(pause_ms: i64, count: usize) -> Vec<u64> {
        let files = MemFileSystem::new();
        let file = files.create(Path::new("/0.log")).unwrap();
        let space = TailSpace::new(0, u64::MAX);
        let mut now = SteadyMs::new(0);
        space.reserve(file.as_ref(), 100_000).unwrap();
        (0..count)
            .map(|_| {
                let written = space.prepared_end();
                assert!(space.is_short(written));
                space
                    .prepare(file.as_ref(), file.as_ref(), now, || written)
                    .unwrap();
                now = now.saturating_plus(pause_ms);
                space.prepared_end() - written
            })
            .collect()
    }

    #[test]
    fn steps_grow_until_one_lasts() {
        let quick = steps(10, 12);
        assert_eq!(quick.first(), Some(&(2 * STEP_FIRST)));
        assert_eq!(quick.last(), Some(&STEP_MAX));
        // A writer who needs two seconds for each has steps that are large enough.
        let slow = steps(STEP_LASTS_MS, 12);
        assert_eq!(slow.last(), Some(&(4 * STEP_FIRST)));
    }

    #[test]
    fn a_step_is_filled_by_small_chunks_while_the_writer_is_far_away() {
        let syncs = |distance: u64| {
            let files = MemFileSystem::new();
            let file = files.create(Path::new("/0.log")).unwrap();
            let space = TailSpace::new(64 << 20, u64::MAX);
            space.growth.lock().step = 4 << 20;
            let before = files.counters().file_syncs;
            space
                .prepare(file.as_ref(), file.as_ref(), SteadyMs::new(0), || {
                    space.prepared_end() - distance
                })
                .unwrap();
            files.counters().file_syncs - before
        };
        assert_eq!(syncs(1 << 20), 32);
        assert_eq!(syncs(1 << 19), 4);
    }
}
