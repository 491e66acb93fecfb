//! How long an open file is, how much of it is handed out as slices, and which ranges are being changed.
//!
//! There is one [`Extent`] per file and process, shared by every handle, map and slice of that file. It is
//! what makes a [`bytes::Bytes`] over a memory map sound: such bytes may never change and never go away.
//!
//! Invariants, all kept under one short lock:
//! - `frozen_end` never goes down, and `frozen_end <= length <=` the file's true length;
//! - no change under way, neither a write nor a cut, starts below `frozen_end`;
//! - two writes under way never overlap, and a cut overlaps nothing.
//!
//! It does no input or output; `os` and `mem` do that between [`Extent::begin`] and [`Change::finish`].

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Why a range cannot be handed out or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The range reaches behind the file's end.
    UnexpectedEnd {
        /// The file's length.
        length: u64,
    },
    /// The range is handed out, or another thread is changing it.
    InUse,
}

/// What is done to a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    /// Its bytes are replaced; the file may grow.
    Write,
    /// Its bytes stay; the file may grow.
    Allocate,
    /// The file's end is moved to this length.
    SetLength(u64),
}

/// The shared state of one file.
#[derive(Debug)]
pub(crate) struct Extent {
    /// Everything below is, or once was, handed out. Written under the lock, read without.
    frozen_end: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    length: u64,
    /// Seldom more than two: the writer and the preparation of space ahead of it.
    changes: Vec<(ChangeKind, Range<u64>)>,
}

impl Extent {
    /// The state of a file of which nothing is handed out yet.
    pub(crate) fn new(length: u64) -> Self {
        Self {
            frozen_end: AtomicU64::new(0),
            state: Mutex::new(State {
                length,
                changes: Vec::new(),
            }),
        }
    }

    /// The file's length; every byte below it may be touched through a map.
    pub(crate) fn length(&self) -> u64 {
        self.state.lock().length
    }

    /// Declares that nothing below `range.end` will be changed or cut off while this extent lives.
    pub(crate) fn freeze(&self, range: &Range<u64>) -> Result<(), Refusal> {
        // Most fetches read what was read before: the invariants hold for it already.
        if range.end <= self.frozen_end.load(Ordering::Acquire) {
            return Ok(());
        }
        let state = self.state.lock();
        if state.length < range.end {
            return Err(Refusal::UnexpectedEnd { length: state.length });
        }
        let is_changing = |(kind, changed): &(ChangeKind, Range<u64>)| {
            *kind != ChangeKind::Allocate && changed.start < range.end
        };
        if state.changes.iter().any(is_changing) {
            return Err(Refusal::InUse);
        }
        self.frozen_end.fetch_max(range.end, Ordering::AcqRel);
        Ok(())
    }

    /// Enters a change of `range` before it is made. For [`ChangeKind::SetLength`] the range is everything
    /// behind the shorter of the two lengths, and `range` is ignored. A file that is to become shorter is so
    /// at once, so that no slice of its tail can be handed out any more.
    pub(crate) fn begin(&self, kind: ChangeKind, range: Range<u64>) -> Result<Change<'_>, Refusal> {
        let mut state = self.state.lock();
        let range = match kind {
            ChangeKind::SetLength(length) => length.min(state.length)..u64::MAX,
            ChangeKind::Write | ChangeKind::Allocate => range,
        };
        let frozen_end = self.frozen_end.load(Ordering::Acquire);
        if kind != ChangeKind::Allocate && range.start < frozen_end {
            return Err(Refusal::InUse);
        }
        if state.changes.iter().any(|other| conflict(other, kind, &range)) {
            return Err(Refusal::InUse);
        }
        if let ChangeKind::SetLength(length) = kind {
            state.length = state.length.min(length);
        }
        state.changes.push((kind, range.clone()));
        Ok(Change {
            extent: self,
            kind,
            range,
            length_after: None,
        })
    }
}

/// Bytes may be reserved while they are written, and different ranges may be written at once.
fn conflict(other: &(ChangeKind, Range<u64>), kind: ChangeKind, range: &Range<u64>) -> bool {
    let overlaps = other.1.start < range.end && range.start < other.1.end;
    overlaps
        && match (other.0, kind) {
            (ChangeKind::SetLength(_), _)
            | (_, ChangeKind::SetLength(_))
            | (ChangeKind::Write, ChangeKind::Write) => true,
            (ChangeKind::Allocate, _) | (_, ChangeKind::Allocate) => false,
        }
}

/// A change under way; leaves the list when it is dropped.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    extent: &'a Extent,
    kind: ChangeKind,
    range: Range<u64>,
    length_after: Option<u64>,
}

impl Change<'_> {
    /// Ends the change. After a failure a part may have been done, so `length_now` asks the system for the
    /// file's length; when it cannot tell, the known length stays, which is never too long.
    pub(crate) fn finish<E>(
        mut self,
        outcome: Result<(), E>,
        length_now: impl FnOnce() -> Option<u64>,
    ) -> Result<(), E> {
        self.length_after = match (&outcome, self.kind) {
            (Ok(()), ChangeKind::SetLength(length)) => Some(length),
            (Ok(()), ChangeKind::Write | ChangeKind::Allocate) => Some(self.range.end),
            (Err(_), _) => length_now(),
        };
        outcome
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut state = self.extent.state.lock();
        if let Some(index) =
            (state.changes.iter()).position(|(kind, range)| *kind == self.kind && *range == self.range)
        {
            state.changes.swap_remove(index);
        }
        let is_cut_under_way =
            (state.changes.iter()).any(|(kind, _)| matches!(kind, ChangeKind::SetLength(_)));
        // A change that did not conflict with the cut lies below it and makes nothing longer.
        if let Some(length) = self.length_after
            && !is_cut_under_way
        {
            state.length = match self.kind {
                ChangeKind::SetLength(_) => length,
                ChangeKind::Write | ChangeKind::Allocate => state.length.max(length),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(extent: &Extent, range: Range<u64>) -> Result<(), Refusal> {
        extent
            .begin(ChangeKind::Write, range)?
            .finish(Ok::<(), Refusal>(()), || None)
    }

    #[test]
    fn what_is_handed_out_is_neither_changed_nor_cut() {
        let extent = Extent::new(100);
        extent.freeze(&(10..50)).unwrap();
        assert_eq!(write(&extent, 49..60), Err(Refusal::InUse));
        assert_eq!(write(&extent, 0..5), Err(Refusal::InUse));
        assert_eq!(write(&extent, 50..120), Ok(()));
        assert_eq!(extent.length(), 120);
        assert!(extent.begin(ChangeKind::SetLength(49), 0..0).is_err());
        (extent.begin(ChangeKind::SetLength(50), 0..0).unwrap())
            .finish(Ok::<(), ()>(()), || None)
            .unwrap();
        assert_eq!(extent.length(), 50);
        assert_eq!(
            extent.freeze(&(50..51)),
            Err(Refusal::UnexpectedEnd { length: 50 })
        );
    }

    #[test]
    fn what_is_being_changed_is_not_handed_out() {
        let extent = Extent::new(100);
        let change = extent.begin(ChangeKind::Write, 50..60).unwrap();
        assert_eq!(extent.freeze(&(0..51)), Err(Refusal::InUse));
        assert_eq!(extent.freeze(&(60..70)), Err(Refusal::InUse));
        assert_eq!(extent.freeze(&(0..50)), Ok(()));
        assert_eq!(write(&extent, 59..61), Err(Refusal::InUse));
        assert_eq!(write(&extent, 60..61), Ok(()));
        drop(change);
        assert_eq!(extent.freeze(&(0..70)), Ok(()));
    }

    #[test]
    fn a_tail_that_is_being_cut_is_gone_at_once() {
        let extent = Extent::new(100);
        let cut = extent.begin(ChangeKind::SetLength(40), 0..0).unwrap();
        assert!(matches!(
            extent.freeze(&(0..41)),
            Err(Refusal::UnexpectedEnd { length: 40 })
        ));
        // A failure elsewhere must not bring the old length back while the cut is under way.
        (extent.begin(ChangeKind::Write, 0..10).unwrap())
            .finish(Err(()), || Some(100))
            .unwrap_err();
        assert_eq!(extent.length(), 40);
        cut.finish(Err(()), || Some(100)).unwrap_err();
        assert_eq!(extent.length(), 100);
    }

    #[test]
    fn space_is_reserved_under_a_write() {
        let extent = Extent::new(0);
        let write = extent.begin(ChangeKind::Write, 0..10).unwrap();
        (extent.begin(ChangeKind::Allocate, 0..100).unwrap())
            .finish(Ok::<(), ()>(()), || None)
            .unwrap();
        write.finish(Ok::<(), ()>(()), || None).unwrap();
        assert_eq!(extent.length(), 100);
    }
}
