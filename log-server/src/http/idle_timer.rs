//! The clock of a connection that waits for the head of a request.
//!
//! hyper begins a new wait behind each answer and gives it up when the next head is there. As a sleep of the runtime's, each would enter the
//! wheel that all threads share, and leave it a moment later, for every request. Here a connection has one sleep for all its waits: it stays in the
//! wheel, and is put off when it ends too early for the wait of that time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant as StdInstant};

use hyper::rt::Timer;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

/// Gives the waits of one connection, one at a time.
#[derive(Debug, Default)]
pub(super) struct IdleTimer {
    alarm: Alarm,
}

/// The sleep, from the first wait on.
type Alarm = Arc<Mutex<Option<Pin<Box<Sleep>>>>>;

/// A wait.
#[derive(Debug)]
struct Wait {
    alarm: Alarm,
    until: Instant,
}

impl Timer for IdleTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, until: StdInstant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Wait {
            alarm: Arc::clone(&self.alarm),
            until: until.into(),
        })
    }

    fn now(&self) -> StdInstant {
        Instant::now().into_std()
    }
}

impl hyper::rt::Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut alarm = self.alarm.lock();
        let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(self.until)));
        if self.until < alarm.deadline() {
            alarm.as_mut().reset(self.until);
        }
        loop {
            ready!(alarm.as_mut().poll(context));
            if self.until <= alarm.deadline() {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(self.until);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_mins(1);

    /// Whether a wait ends within so long.
    async fn ends_within(wait: &mut Pin<Box<dyn hyper::rt::Sleep>>, time: Duration) -> bool {
        timeout(time, wait).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_own_time() {
        let timer = IdleTimer::default();
        let mut first = timer.sleep(LIMIT);
        assert!(!ends_within(&mut first, LIMIT / 2).await);
        drop(first);
        // The alarm of the first wait rings in the middle of the second, and is put off.
        let mut second = timer.sleep(LIMIT);
        assert!(!ends_within(&mut second, Duration::from_secs(59)).await);
        assert!(ends_within(&mut second, Duration::from_secs(2)).await);
        drop(second);
        // It rang long ago when the third begins.
        advance(2 * LIMIT).await;
        let mut third = timer.sleep(LIMIT);
        assert!(!ends_within(&mut third, LIMIT / 2).await);
        drop(third);
        let mut shorter = timer.sleep(LIMIT / 10);
        assert!(ends_within(&mut shorter, LIMIT / 5).await);
    }
}
