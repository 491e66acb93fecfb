//! Pings: whether a client lives, and whether it keeps up.
//!
//! A ping goes out when the last one is a heartbeat ago, and behind each window of what is sent. A client answers pings as it comes to them, so
//! its pongs say how far it has read; what it has not is bounded, and mostly fits into the buffers between. So there is room for the
//! word with which a client is ended that does not keep up.
//!
//! | | |
//! |---|---|
//! | two pings without a pong, and a window behind them | nothing more of the topic is sent until a pong comes |
//! | a ping without a pong for the client's whole patience | the client is ended |

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Behind so much a ping goes out.
const WINDOW_BYTES: usize = 128 << 10;
/// Pings that may go out before the first of them is answered.
const UNANSWERED_MAX: usize = 2;

/// The pings of one client.
#[derive(Debug)]
pub(super) struct Pulse {
    heartbeat: Duration,
    /// How long a ping may go unanswered.
    patience: Duration,
    /// What was sent since the last ping.
    bytes: usize,
    last_at: Instant,
    /// Pings that were sent; each has its number.
    count: u64,
    /// Those that no pong came for, the oldest first.
    unanswered: VecDeque<(u64, Instant)>,
}

impl Pulse {
    pub(super) fn new(heartbeat: Duration, patience: Duration, now: Instant) -> Self {
        Self {
            heartbeat,
            patience,
            bytes: 0,
            last_at: now,
            count: 0,
            unanswered: VecDeque::new(),
        }
    }

    /// So much was sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Whether the client may be sent more of the topic.
    pub(super) fn is_open(&self) -> bool {
        self.bytes < WINDOW_BYTES
    }

    /// Whether a ping should go out.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let behind_window = WINDOW_BYTES <= self.bytes && self.unanswered.len() < UNANSWERED_MAX;
        let after_silence = self.unanswered.is_empty() && self.last_at + self.heartbeat <= now;
        behind_window || after_silence
    }

    /// The payload of the ping that goes out now.
    pub(super) fn ping(&mut self, now: Instant) -> [u8; 8] {
        self.count += 1;
        self.bytes = 0;
        self.last_at = now;
        self.unanswered.push_back((self.count, now));
        self.count.to_be_bytes()
    }

    /// A pong came: for one ping, and for those before it. What answers none of ours is none of our business.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        let Ok(payload) = payload.try_into() else {
            return;
        };
        let answered = u64::from_be_bytes(payload);
        if answered <= self.count {
            self.unanswered.retain(|(number, _)| answered < *number);
        }
    }

    /// When to look again, if nothing happens before.
    pub(super) fn look_at(&self) -> Instant {
        match self.unanswered.front() {
            Some((_, sent_at)) => *sent_at + self.patience,
            None => self.last_at + self.heartbeat,
        }
    }

    /// Whether the client has used up its patience.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let oldest = self.unanswered.front();
        oldest.is_some_and(|(_, sent_at)| *sent_at + self.patience <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(15);
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_silent_client_is_asked_once_and_ended_if_it_does_not_answer() {
        let began = Instant::now();
        let mut pulse = Pulse::new(HEARTBEAT, PATIENCE, began);
        assert!(!pulse.is_due(began));
        assert_eq!(pulse.look_at(), began + HEARTBEAT);
        let asked = began + HEARTBEAT;
        assert!(pulse.is_due(asked));
        let ping = pulse.ping(asked);
        assert!(!pulse.is_due(asked + 2 * HEARTBEAT));
        assert_eq!(pulse.look_at(), asked + PATIENCE);
        assert!(!pulse.is_overdue(asked) && pulse.is_overdue(asked + PATIENCE));
        // Neither somebody's own pong nor one for a ping that was not sent.
        for stranger in [b"".as_slice(), b"hello", &9_u64.to_be_bytes()] {
            pulse.pong(stranger);
            assert!(pulse.is_overdue(asked + PATIENCE));
        }
        pulse.pong(&ping);
        assert!(!pulse.is_overdue(asked + PATIENCE));
        assert!(pulse.is_due(asked + HEARTBEAT));
    }

    #[test]
    fn what_was_not_read_is_bounded() {
        let now = Instant::now();
        let mut pulse = Pulse::new(HEARTBEAT, PATIENCE, now);
        let (mut sent, mut pings) = (0, Vec::new());
        while pulse.is_open() {
            pulse.sent(1000);
            sent += 1000;
            if pulse.is_due(now) {
                pings.push(pulse.ping(now));
            }
        }
        assert_eq!(pings.len(), UNANSWERED_MAX);
        assert!(sent < (UNANSWERED_MAX + 1) * (WINDOW_BYTES + 1000));
        // One pong is for all pings before it; the window that is full gets its own.
        pulse.pong(&pings[1]);
        assert!(!pulse.is_open() && pulse.is_due(now));
        pulse.ping(now);
        assert!(pulse.is_open());
    }
}
