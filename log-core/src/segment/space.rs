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
const STEP_LASTS_MS: u64 = 2_000;
/// While the writer is far away, so much is zero-filled and synced at a time as it writes in these milliseconds: acknowledgements wait for
/// the disk behind that, but where there are many of them, many more syncs would cost them more.
const FILL_LASTS_MS: u64 = 20;
/// The least at a time.
const FILL_MIN: u64 = 128 << 10;
/// The most at a time, which is taken when the writer is close, or does it itself. One that arrives meanwhile waits for no more than that.
const FILL_MAX: u64 = 1 << 20;
/// So much without haste, and the thread turns to others who may need it more.
const CALM_MOST: u64 = 4 << 20;
/// File systems allocate in blocks of this size.
const BLOCK: u64 = 4 << 10;

/// Who prepares space.
#[derive(Debug, Clone, Copy)]
pub enum Preparer {
    /// A thread beside the writer, at this moment.
    Beside(SteadyMs),
    /// The writer's own thread, between two appends: nothing is synced meanwhile that others wait for.
    Writer,
}

/// How the space grows.
#[derive(Debug)]
struct Growth {
    /// The size of the next step.
    step: u64,
    /// When the last one was prepared beside the writer, and how far that was then.
    before: Option<(SteadyMs, u64)>,
}

impl Growth {
    fn double(&mut self) {
        self.step = self.step.saturating_mul(2).min(STEP_MAX);
    }

    /// The step that is prepared now, and how much of it at a time without haste. The step after it is larger if, at the pace since the
    /// last, this one does not last.
    fn next_step(&mut self, preparer: Preparer, written_end: u64) -> (u64, u64) {
        let step = self.step;
        let Preparer::Beside(moment) = preparer else {
            self.double();
            return (step, FILL_MAX);
        };
        let Some((then, start)) = self.before.replace((moment, written_end)) else {
            return (step, FILL_MIN);
        };
        let elapsed_ms = u64::try_from(moment.saturating_since(then)).unwrap_or(0);
        let written = written_end.saturating_sub(start);
        if step.saturating_mul(elapsed_ms) < STEP_LASTS_MS.saturating_mul(written) {
            self.double();
        }
        let fill = written.saturating_mul(FILL_LASTS_MS).checked_div(elapsed_ms);
        let fill = fill.unwrap_or(FILL_MAX).clamp(FILL_MIN, FILL_MAX);
        (step, fill.next_multiple_of(BLOCK))
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
                before: None,
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
    /// prepared that is larger than twice what was written before.
    #[must_use]
    pub fn is_short(&self, written_end: u64) -> bool {
        let Some(growth) = self.growth.try_lock() else {
            return false; // somebody is at it
        };
        let prepared = self.prepared_end();
        let is_busy = STEP_FIRST < growth.step && growth.step / 2 <= written_end;
        let is_nearly_used = prepared.saturating_sub(written_end) < growth.step / 2;
        is_busy && is_nearly_used && prepared < self.capacity
    }

    /// Fills the next step with zeros and syncs it, chunk by chunk: small ones beside a writer that is slow, as long as at least a
    /// quarter of the step lies between its end, which `written_end` tells, and the end of what is prepared.
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
        preparer: Preparer,
        written_end: impl Fn() -> u64,
    ) -> Result<(), FsError> {
        let (step, calm_chunk) = self.growth.lock().next_step(preparer, written_end());
        let mut left = step;
        let mut calm_left = CALM_MOST.min(step);
        while 0 < left {
            {
                let _writer_waits = self.growth.lock();
                let start = self.prepared_end();
                let is_far = step / 4 <= start.saturating_sub(written_end());
                let is_calm = is_far && matches!(preparer, Preparer::Beside(_));
                let size = if is_calm { calm_chunk } else { FILL_MAX };
                let chunk = size.min(left).min(self.capacity.saturating_sub(start));
                if is_calm {
                    calm_left = calm_left.saturating_sub(chunk);
                }
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
            if calm_left == 0 {
                return Ok(());
            }
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
    use std::sync::Arc;

    use super::*;
    use crate::fs::FileSystem as _;
    use crate::fs::mem::MemFileSystem;

    fn file_and_space(written: u64) -> (Arc<dyn File>, MemFileSystem, TailSpace) {
        let files = MemFileSystem::new();
        let file = files.create(Path::new("/0.log")).unwrap();
        (file, files, TailSpace::new(written, u64::MAX))
    }

    /// What is ahead of a writer of `rate` bytes in each of `ticks` milliseconds: most of it in the second half of the time, and
    /// how often the writer came to the end of it there.
    fn ahead(rate: u64, ticks: u64) -> (u64, usize) {
        let (file, _files, space) = file_and_space(0);
        let (mut most, mut waits) = (0, 0);
        for tick in 1..=ticks {
            let written = tick * rate;
            let is_later = ticks / 2 < tick;
            waits += usize::from(is_later && space.prepared_end() < written);
            space.reserve(file.as_ref(), written).unwrap();
            if space.is_short(written) {
                let moment = SteadyMs::new(i64::try_from(tick).unwrap());
                space
                    .prepare(file.as_ref(), file.as_ref(), Preparer::Beside(moment), || written)
                    .unwrap();
            }
            if is_later {
                most = most.max(space.prepared_end() - written);
            }
        }
        (most, waits)
    }

    #[test]
    fn space_ahead_is_what_is_written_in_seconds() {
        for (rate, ticks) in [(1, 200_000), (20, 100_000), (270, 60_000), (1_000, 60_000)] {
            let (most, waits) = ahead(rate, ticks);
            assert_eq!(waits, 0, "{rate} bytes a millisecond");
            let seconds = most / rate / 1_000;
            assert!(
                seconds < 8 || most <= 4 * STEP_FIRST,
                "{rate}: {most} bytes, {seconds} s"
            );
        }
        // Who writes 100 MB/s has the largest steps, and never waits for one.
        let (most, waits) = ahead(100_000, 2_000);
        assert_eq!(waits, 0);
        assert!(STEP_MAX / 2 < most && most < 2 * STEP_MAX, "{most} bytes");
    }

    #[test]
    fn a_step_is_filled_by_chunks_of_the_writers_pace_while_it_is_far_away() {
        // Half a second after the last time, when so much had not been written yet.
        let syncs_at = |step: u64, distance: u64, preparer, written: Option<u64>| {
            let (file, files, space) = file_and_space(64 << 20);
            space.growth.lock().step = step;
            space.growth.lock().before =
                written.map(|written| (SteadyMs::new(-500), (64 << 20) - distance - written));
            let before = files.counters().file_syncs;
            let written_end = || space.prepared_end() - distance;
            space
                .prepare(file.as_ref(), file.as_ref(), preparer, written_end)
                .unwrap();
            (
                files.counters().file_syncs - before,
                space.prepared_end() - (64 << 20),
            )
        };
        let syncs = |step, distance, preparer| syncs_at(step, distance, preparer, None);
        let beside = Preparer::Beside(SteadyMs::new(0));
        assert_eq!(syncs(4 << 20, 1 << 20, beside), (32, 4 << 20));
        assert_eq!(syncs(4 << 20, 1 << 19, beside), (4, 4 << 20));
        assert_eq!(syncs(4 << 20, 1 << 20, Preparer::Writer), (4, 4 << 20));
        // Larger ones beside one that writes 10 and 100 MB/s.
        assert_eq!(syncs_at(4 << 20, 1 << 20, beside, Some(5_000_000)), (21, 4 << 20));
        assert_eq!(syncs_at(4 << 20, 1 << 20, beside, Some(50_000_000)), (4, 4 << 20));
        // Others come to their turn before a large one is through.
        assert_eq!(syncs(STEP_MAX, 8 << 20, beside), (32, CALM_MOST));
        assert_eq!(syncs(STEP_MAX, 1 << 20, beside), (16, STEP_MAX));
    }
}
