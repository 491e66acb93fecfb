//! Waiting between attempts: exponential back-off with jitter, bounded by a deadline.
//! Which errors are worth another attempt is `error`'s business.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Result;

/// How long to wait before the next attempt: doubling, bounded, and spread so that clients which failed
/// together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// Never longer than this, jitter aside.
    pub longest: Duration,
}

/// The share of the wait by which it may be longer or shorter.
const JITTER: f64 = 0.2;

/// After so many doublings every back-off has reached any sensible bound.
const DOUBLINGS_MAX: u32 = 20;

impl Backoff {
    /// The wait after `failures` failed attempts, the first of which is 1.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
        let wait = self.first.saturating_mul(1 << doublings).min(self.longest);
        wait.mul_f64(1.0 + JITTER * (2.0 * fastrand::f64() - 1.0))
    }
}

/// Runs `attempt` until it succeeds, fails for good, or `deadline` leaves no time for another try.
///
/// `attempt` is given the number of failures so far and how much time is left.
pub(crate) async fn until<T, F, Fut>(backoff: Backoff, deadline: Instant, mut attempt: F) -> Result<T>
where
    F: FnMut(u32, Duration) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let mut failures = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let error = match attempt(failures, left).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        failures += 1;
        let wait = backoff.after(failures);
        if !error.is_retriable() || deadline <= Instant::now() + wait {
            return Err(error);
        }
        tracing::debug!(%error, failures, ?wait, "trying again");
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use log_core::protocol::{ApiKey, ErrorCode};

    use super::*;
    use crate::error::Error;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(1),
    };

    #[test]
    fn waits_double_up_to_the_bound() {
        for (failures, expected_ms) in [
            (1, 100.0),
            (2, 200.0),
            (4, 800.0),
            (5, 1000.0),
            (u32::MAX, 1000.0),
        ] {
            let wait = BACKOFF.after(failures).as_secs_f64() * 1000.0;
            let bounds = expected_ms * 0.8 - 0.001..=expected_ms * 1.2 + 0.001;
            assert!(bounds.contains(&wait), "after {failures}: {wait} ms");
        }
    }

    /// Runs against an operation that fails `failing` times with `code`; returns the attempts and the outcome.
    async fn run(code: ErrorCode, failing: u32, limit: Duration) -> (u32, Result<()>) {
        let attempts = Cell::new(0);
        let result = until(BACKOFF, Instant::now() + limit, |failures, _left| {
            attempts.set(attempts.get() + 1);
            async move {
                if failures < failing {
                    Err(Error::broker(ApiKey::Metadata, code, "", None))
                } else {
                    Ok(())
                }
            }
        })
        .await;
        (attempts.get(), result)
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_end_with_success_with_a_final_error_or_with_the_deadline() {
        let long = Duration::from_mins(1);
        let (attempts, result) = run(ErrorCode::NotController, 3, long).await;
        assert_eq!((attempts, result.is_ok()), (4, true));

        let (attempts, result) = run(ErrorCode::InvalidConfig, 3, long).await;
        assert_eq!(
            (attempts, result.unwrap_err().code()),
            (1, Some(ErrorCode::InvalidConfig))
        );

        let (attempts, result) = run(ErrorCode::NotController, u32::MAX, Duration::from_millis(450)).await;
        assert_eq!(result.unwrap_err().code(), Some(ErrorCode::NotController));
        assert!((2..=4).contains(&attempts), "{attempts}");
    }
}
