//! The seam for time: log-core never asks the system what time it is.
//! The server's clock is the system's; a [`ManualClock`] stands still until a test moves it.
//!
//! There are two kinds of time. What is written down is a time of day, which an administrator or NTP may set. How long somebody has been
//! silent is measured on a steady clock, which nobody can.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::model::TimestampMs;

/// A moment on a clock that never jumps. It means nothing by itself, nor in another process: two of them make a duration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SteadyMs(i64);

impl SteadyMs {
    /// So many milliseconds after the clock's beginning.
    #[must_use]
    pub fn new(milliseconds: i64) -> Self {
        Self(milliseconds)
    }

    /// A later moment, or the last one there is.
    #[must_use]
    pub fn saturating_plus(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds from `earlier` to this; negative if it is later.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Where time comes from.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since 1970-01-01 UTC. May jump both ways, as the system's clock does.
    fn now(&self) -> TimestampMs;

    /// For timeouts: passes at the same pace whatever happens to the time of day.
    fn steady(&self) -> SteadyMs;
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicI64,
    steady_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: TimestampMs) -> Self {
        Self {
            now_ms: AtomicI64::new(now.get()),
            steady_ms: AtomicI64::new(0),
        }
    }

    /// Lets time pass: both kinds of it. With a negative number the time of day goes back, and no other.
    pub fn advance(&self, milliseconds: i64) {
        self.now_ms.fetch_add(milliseconds, Ordering::SeqCst);
        self.steady_ms.fetch_add(milliseconds.max(0), Ordering::SeqCst);
    }

    /// Sets the time of day, as somebody may; no time passes.
    pub fn set(&self, now: TimestampMs) {
        self.now_ms.store(now.get(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> TimestampMs {
        TimestampMs::new(self.now_ms.load(Ordering::SeqCst))
    }

    fn steady(&self) -> SteadyMs {
        SteadyMs::new(self.steady_ms.load(Ordering::SeqCst))
    }
}
