//! A turn: the requests that the socket has at once, and what they leave to be synced.
//!
//! Records that a turn brings to one partition share one sync, which begins when the turn ends. The connection's own thread does
//! it if the connection waits for nothing else: then nobody has to be woken between the request and its answer.
//!
//! Invariant: whatever way a turn ends, what it appended is synced by somebody ([`Unsynced`]).

use std::fmt;
use std::sync::Arc;

/// A turn that brings more is synced by others, while this connection goes on reading.
pub(super) const SYNCED_HERE_BYTES_MAX: usize = 256 << 10;
/// Answers that are ready leave when they are to so many requests,
pub(super) const ANSWERED_MAX: usize = 32;
/// or to requests of so many bytes, so that the client prepares the next ones while this side works off what is there.
pub(super) const ANSWERED_BYTES_MAX: usize = 128 << 10;

/// What can be brought to the disk.
pub(crate) trait SyncTarget: Send + Sync {
    /// On this thread, if that is possible; the connection has nothing else to do.
    fn sync_here(&self);

    /// By others.
    fn hand_over(&self);
}

/// A sync that an answer waits for and that has not been asked for yet. Who drops it leaves it to others.
pub(crate) struct Unsynced(Option<Arc<dyn SyncTarget>>);

impl Unsynced {
    /// Records were appended there.
    pub(crate) fn new(target: Arc<dyn SyncTarget>) -> Self {
        Self(Some(target))
    }

    fn sync_here(mut self) {
        if let Some(target) = self.0.take() {
            target.sync_here();
        }
    }

    /// Takes in one that the same sync covers; another one comes back.
    fn cover(&self, mut other: Self) -> Option<Self> {
        let is_covered = match (&self.0, &other.0) {
            (Some(mine), Some(others)) => std::ptr::addr_eq(Arc::as_ptr(mine), Arc::as_ptr(others)),
            _ => false,
        };
        if is_covered {
            other.0 = None;
        }
        (!is_covered).then_some(other)
    }
}

impl Drop for Unsynced {
    fn drop(&mut self) {
        // The records are in the log, whatever became of the connection.
        if let Some(target) = self.0.take() {
            target.hand_over();
        }
    }
}

impl fmt::Debug for Unsynced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Unsynced").finish_non_exhaustive()
    }
}

/// What the requests of a turn have left to be synced.
#[derive(Debug, Default)]
pub(super) struct Turn {
    unsynced: Option<Unsynced>,
    bytes: usize,
    /// Whether something speaks against holding this thread up.
    is_for_others: bool,
    /// Requests that were answered at once, and their bytes, since answers were last let go.
    answered: usize,
    answered_bytes: usize,
}

impl Turn {
    /// One more request; `is_first` says that no earlier one of the connection waits for its answer.
    pub(super) fn add(&mut self, unsynced: Unsynced, bytes: usize, is_first: bool) {
        self.bytes = self.bytes.saturating_add(bytes);
        match &self.unsynced {
            None => {
                self.is_for_others |= !is_first;
                self.unsynced = Some(unsynced);
            }
            Some(before) => {
                if let Some(elsewhere) = before.cover(unsynced) {
                    self.is_for_others = true;
                    self.unsynced = Some(elsewhere);
                }
            }
        }
        if SYNCED_HERE_BYTES_MAX < self.bytes {
            // The disk need not wait for the rest of it.
            self.unsynced = None;
        }
    }

    /// A request was answered at once.
    pub(super) fn note_answered(&mut self, bytes: usize) {
        self.answered += 1;
        self.answered_bytes = self.answered_bytes.saturating_add(bytes);
    }

    /// Whether so much is answered that the answers should leave before more is read. If so, counts anew.
    pub(super) fn take_answered(&mut self) -> bool {
        let is_much = ANSWERED_MAX <= self.answered || ANSWERED_BYTES_MAX <= self.answered_bytes;
        if is_much {
            (self.answered, self.answered_bytes) = (0, 0);
        }
        is_much
    }

    /// Nothing more is there for now.
    pub(super) fn end(&mut self) {
        let Self {
            unsynced,
            is_for_others,
            ..
        } = std::mem::take(self);
        if let Some(unsynced) = unsynced
            && !is_for_others
        {
            unsynced.sync_here();
        }
    }
}
