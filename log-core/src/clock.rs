//! The seam for time: log-core never asks the system what time it is.
//! The server's clock is the system's; a [`ManualClock`] stands still until a test moves it.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::model::TimestampMs;

/// Where the time of day comes from.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since 1970-01-01 UTC. May jump both ways, as the system's clock does.
    fn now(&self) -> TimestampMs;
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: TimestampMs) -> Self {
        Self {
            now_ms: AtomicI64::new(now.get()),
        }
    }

    /// Moves the clock on, or back when `milliseconds` is negative.
    pub fn advance(&self, milliseconds: i64) {
        self.now_ms.fetch_add(milliseconds, Ordering::SeqCst);
    }

    /// Sets the clock.
    pub fn set(&self, now: TimestampMs) {
        self.now_ms.store(now.get(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> TimestampMs {
        TimestampMs::new(self.now_ms.load(Ordering::SeqCst))
    }
}
