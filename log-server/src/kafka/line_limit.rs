//! How many lines about misbehaving connections the log takes: a scanner or a misconfigured client that tries again and
//! again must not fill the disk.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many lines
const LINES: u32 = 20;
/// in so long.
const PERIOD: Duration = Duration::from_secs(10);

/// Counts lines.
#[derive(Debug)]
pub(crate) struct LineLimit {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    period_began: Instant,
    written: u32,
    left_out: u64,
}

impl LineLimit {
    /// Nothing written yet. To be made within a runtime.
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                period_began: Instant::now(),
                written: 0,
                left_out: 0,
            }),
        }
    }

    /// Whether a line may be written now; and how many were left out since the last one that was.
    pub(crate) fn admit(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let now = Instant::now();
        if PERIOD <= now.duration_since(state.period_began) {
            (state.period_began, state.written) = (now, 0);
        }
        if LINES <= state.written {
            state.left_out += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_instead_of_written() {
        let limit = LineLimit::new();
        for _ in 0..LINES {
            assert_eq!(limit.admit(), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(limit.admit(), None);
        }
        tokio::time::advance(PERIOD).await;
        assert_eq!(limit.admit(), Some(1000));
        assert_eq!(limit.admit(), Some(0));
    }
}
