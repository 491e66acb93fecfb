//! Log lines that each of a thousand requests would write, written once in a while.
//! The first one is written, and then at most one in ten seconds.

use std::sync::atomic::{AtomicI64, Ordering};

use log_core::model::TimestampMs;

/// How long a line stays unsaid after it was said.
const REPEAT_AFTER_MS: i64 = 10_000;

/// Says whether it is time to say something again.
#[derive(Debug)]
pub(crate) struct Throttle {
    said_at: AtomicI64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            said_at: AtomicI64::new(i64::MIN),
        }
    }
}

impl Throttle {
    /// True at the first call and then once in ten seconds. A clock that jumps back starts anew.
    pub(crate) fn is_due(&self, now: TimestampMs) -> bool {
        let (now, before) = (now.get(), self.said_at.load(Ordering::Relaxed));
        let is_due = now < before || before.saturating_add(REPEAT_AFTER_MS) <= now;
        is_due
            && self
                .said_at
                .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_at_first_then_rarely_and_after_the_clock_jumped_back() {
        let throttle = Throttle::default();
        let due = |ms| throttle.is_due(TimestampMs::new(ms));
        assert!(due(5));
        assert!(!due(5));
        assert!(!due(10_004));
        assert!(due(10_005));
        assert!(due(7));
        assert!(!due(8));
    }
}
