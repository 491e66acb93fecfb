//! Being told to stop, by whoever waits at the terminal or by the system.
//! What a command does then is its own affair.

use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Failure, Outcome};

/// Waits for Ctrl-C, or for the signal by which processes are stopped in order.
pub(crate) async fn told_to_stop() -> Outcome {
    let cannot = |error| Failure::new(format!("cannot listen to signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.map_err(cannot),
        _ = terminate.recv() => Ok(()),
    }
}
