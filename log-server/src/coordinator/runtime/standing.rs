//! Whether a host has a shard: the state behind its lock, and beside it one word that is read without the lock.
//!
//! Commands hold the lock for microseconds, and now and then for as long as a disk takes, because an append may begin a new segment. So
//! who only asks how the shards are does not wait for it, and a thread of the runtime that waits for longer than commands take
//! hands its other tasks on.
//!
//! Invariant: while nobody has the lock, the word says what the state is.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::coordinator::runtime::error::HostError;
use crate::coordinator::runtime::serving::Serving;
use crate::coordinator::runtime::shard::Shard;
use crate::partition::writer::off_runtime;

/// Longer than commands hold the lock, and nothing that the other tasks of a thread would feel.
const PATIENCE: Duration = Duration::from_micros(200);

/// A shard, or why there is none.
#[derive(Debug)]
pub(super) enum State<S: Shard> {
    /// There is no shard, and this is what commands are told.
    Absent(HostError),
    Serving(Box<Serving<S>>),
    /// For good.
    Stopped,
}

impl<S: Shard> State<S> {
    fn standing(&self) -> Standing {
        match self {
            Self::Serving(_) => Standing::Serving,
            Self::Absent(HostError::LoadInProgress) => Standing::Loading,
            Self::Absent(_) | Self::Stopped => Standing::Absent,
        }
    }
}

/// The same in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It answers.
    Serving,
    /// Its log is being read.
    Loading,
    /// Its log cannot be used, or the host was stopped.
    Absent,
}

impl Standing {
    fn code(self) -> u8 {
        match self {
            Self::Serving => 0,
            Self::Loading => 1,
            Self::Absent => 2,
        }
    }

    fn of_code(code: u8) -> Self {
        match code {
            0 => Self::Serving,
            1 => Self::Loading,
            _ => Self::Absent,
        }
    }
}

/// The lock around a [`State`], and its word.
#[derive(Debug)]
pub(super) struct StateCell<S: Shard> {
    state: Mutex<State<S>>,
    standing: AtomicU8,
}

impl<S: Shard> StateCell<S> {
    /// A shard whose log has yet to be read.
    pub(super) fn loading() -> Self {
        Self {
            state: Mutex::new(State::Absent(HostError::LoadInProgress)),
            standing: AtomicU8::new(Standing::Loading.code()),
        }
    }

    /// How it is, or was a moment ago. Never waits.
    pub(super) fn standing(&self) -> Standing {
        Standing::of_code(self.standing.load(Ordering::Relaxed))
    }

    /// The state, to be looked at and changed.
    pub(super) fn lock(&self) -> StateGuard<'_, S> {
        let state = self.state.try_lock_for(PATIENCE);
        StateGuard {
            state: state.unwrap_or_else(|| off_runtime(|| self.state.lock())),
            standing: &self.standing,
        }
    }
}

/// The lock, held.
#[derive(Debug)]
pub(super) struct StateGuard<'a, S: Shard> {
    state: MutexGuard<'a, State<S>>,
    standing: &'a AtomicU8,
}

impl<S: Shard> Deref for StateGuard<'_, S> {
    type Target = State<S>;

    fn deref(&self) -> &State<S> {
        &self.state
    }
}

impl<S: Shard> DerefMut for StateGuard<'_, S> {
    fn deref_mut(&mut self) -> &mut State<S> {
        &mut self.state
    }
}

impl<S: Shard> Drop for StateGuard<'_, S> {
    /// Runs before the lock is given back.
    fn drop(&mut self) {
        let code = self.state.standing().code();
        // Mostly nothing has changed, and those who read are spared.
        if self.standing.load(Ordering::Relaxed) != code {
            self.standing.store(code, Ordering::Relaxed);
        }
    }
}
