//! The one word that goes to everybody: stop.
//!
//! [`Shutdown`] is said once, by a signal or by a part that cannot go on; [`ShutdownSignal`]s hear it, now or later. What a
//! part does then is its own affair; the order of stopping is `broker.rs`'s. A second signal from outside does
//! not wait for any of it, unless it comes with the first: `timeout`, among others, signals a process and then its group.

use std::fmt;
use std::io;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

/// The exit code of a process that a second signal ended: 128 + SIGINT, as shells count.
const EXIT_CODE_INTERRUPTED: i32 = 130;
/// Signals within so long of the first are the first one again; nobody loses patience as quickly.
const ONE_SIGNAL: Duration = Duration::from_secs(1);

/// Says "stop".
#[derive(Debug, Clone)]
pub struct Shutdown {
    sender: Arc<watch::Sender<Option<StopReason>>>,
}

/// Hears "stop".
#[derive(Debug, Clone)]
pub struct ShutdownSignal {
    receiver: watch::Receiver<Option<StopReason>>,
}

/// Why the broker stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// SIGTERM or SIGINT, by name.
    Signal(&'static str),
    /// A part of the broker cannot go on.
    Failure(String),
    /// The program that embeds the broker asked.
    Asked,
}

impl fmt::Display for StopReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(name) => write!(formatter, "{name} received"),
            Self::Failure(what) => formatter.write_str(what),
            Self::Asked => formatter.write_str("asked to stop"),
        }
    }
}

impl Shutdown {
    /// Nobody has said anything yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sender: Arc::new(watch::Sender::new(None)),
        }
    }

    /// An ear for it.
    #[must_use]
    pub fn signal(&self) -> ShutdownSignal {
        ShutdownSignal {
            receiver: self.sender.subscribe(),
        }
    }

    /// Says it. Only the first reason counts.
    pub fn request(&self, reason: StopReason) {
        self.sender.send_if_modified(|said| {
            let is_first = said.is_none();
            if is_first {
                *said = Some(reason);
            }
            is_first
        });
    }

    /// Turns SIGTERM and SIGINT into a request, and a second one of them into the end of the process.
    /// To be called on a runtime.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen_for_signals(&self) -> io::Result<tokio::task::JoinHandle<()>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        Ok(tokio::spawn(async move {
            let mut first = None;
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                let is_stopping = shutdown.sender.borrow().is_some();
                if is_stopping && first.is_none_or(is_another) {
                    exit_now(name);
                }
                first.get_or_insert_with(Instant::now);
                shutdown.request(StopReason::Signal(name));
            }
        }))
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl ShutdownSignal {
    /// Returns when "stop" was said, at once if it was said before.
    ///
    /// # Panics
    /// Never: a broker that vanished without a word counts as having asked.
    pub async fn requested(&mut self) -> StopReason {
        match self.receiver.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().expect("waited for a reason"),
            Err(_) => StopReason::Asked,
        }
    }

    /// Whether "stop" was said.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.receiver.borrow().is_some()
    }
}

/// Whether a signal that came now is another one than the first, which came at `first`.
fn is_another(first: Instant) -> bool {
    ONE_SIGNAL <= first.elapsed()
}

#[expect(
    clippy::exit,
    reason = "a second signal asks for exactly this; the next start recovers the logs"
)]
fn exit_now(name: &str) -> ! {
    tracing::warn!("{name} again: leaving at once; the next start recovers the logs");
    process::exit(EXIT_CODE_INTERRUPTED);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_hears_the_first_reason() {
        let shutdown = Shutdown::new();
        let (mut early, clone) = (shutdown.signal(), shutdown.clone());
        assert!(!early.is_requested());
        let waiting = tokio::spawn(async move { early.requested().await });
        clone.request(StopReason::Failure("the disk is gone".to_owned()));
        clone.request(StopReason::Asked);
        assert_eq!(
            waiting.await.unwrap(),
            StopReason::Failure("the disk is gone".to_owned())
        );
        let mut late = shutdown.signal();
        assert!(late.is_requested());
        assert_eq!(late.requested().await.to_string(), "the disk is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_to_the_process_and_its_group_is_one_signal() {
        let first = Instant::now();
        assert!(!is_another(first));
        tokio::time::advance(Duration::from_millis(999)).await;
        assert!(!is_another(first));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(is_another(first));
    }

    #[tokio::test]
    async fn a_broker_that_is_dropped_counts_as_asking() {
        let mut signal = Shutdown::new().signal();
        assert_eq!(signal.requested().await, StopReason::Asked);
    }
}
