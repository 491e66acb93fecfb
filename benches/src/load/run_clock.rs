//! The time of a run: nanoseconds since its start, from a clock that only goes forward.
//! Records carry the same time counted from 1970, so that a reader finds out how old they are.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment that never comes.
pub const NEVER: u64 = u64::MAX;

/// The clock of one run. Copies agree.
#[derive(Debug, Clone, Copy)]
pub struct RunClock {
    base: Instant,
    epoch_ns: u64,
}

impl RunClock {
    /// A clock whose run begins now.
    #[must_use]
    pub fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            base: Instant::now(),
            epoch_ns: nanoseconds(since_1970),
        }
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        nanoseconds(self.base.elapsed())
    }

    /// Such a moment, counted from 1970.
    #[must_use]
    pub fn since_1970(&self, moment: u64) -> u64 {
        self.epoch_ns.saturating_add(moment)
    }

    /// A moment counted from 1970, on this clock; one before the start is the start.
    #[must_use]
    pub fn from_1970(&self, since_1970: u64) -> u64 {
        since_1970.saturating_sub(self.epoch_ns)
    }
}

/// A duration as this clock counts.
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
