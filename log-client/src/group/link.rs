//! What the consumer's handle and its membership's task know of each other.
//!
//! The task keeps the member in the group while the caller works on records; the handle carries out what the
//! group decides when the caller polls. So the task leaves orders here, and the handle its presence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log_core::model::{TopicId, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::subscription::Subscription;
use crate::coordinator::CommitIdentity;
use crate::error::Error;

/// Partitions, each with the id of its topic where the group names it by that.
pub(crate) type Partitions = BTreeMap<TopicPartition, TopicId>;

/// What the handle is to do, and then to say that it has done (`Command::Settled`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Give up what is not in it, then read all that is.
    Read(Partitions),
    /// Give up everything, because the group begins anew; what is to be read comes later.
    Release,
    /// Everything is lost already.
    Lose,
}

/// What the handle wants of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Subscribe(Subscription),
    /// An order was carried out.
    Settled {
        serial: u64,
        /// What is read now.
        owned: Partitions,
        /// Whether anything was given up.
        gave_up: bool,
    },
    /// Leave the group; told when that is done, as far as it can be.
    Leave(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
    /// Whether the handle should look at `state`.
    has_news: AtomicBool,
    /// Wakes the handle to look.
    pub(crate) changed: Notify,
}

#[derive(Debug)]
struct State {
    order: Option<(u64, Order)>,
    serial: u64,
    error: Option<Error>,
    identity: Option<CommitIdentity>,
    /// Since when the caller has been away from `poll`; none while it is there.
    away_since: Option<Instant>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                order: None,
                serial: 0,
                error: None,
                identity: None,
                away_since: Some(Instant::now()),
            }),
            has_news: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// Leaves an order; one that was not begun is replaced by it. Returns its number.
    pub(crate) fn order(&self, order: Order) -> u64 {
        let serial = {
            let mut state = self.state.lock();
            state.serial += 1;
            state.order = Some((state.serial, order));
            state.serial
        };
        self.tell();
        serial
    }

    /// Lets the handle fail until it subscribes anew.
    pub(crate) fn fail(&self, error: Error) {
        let mut state = self.state.lock();
        state.error = Some(error);
        state.identity = None;
        drop(state);
        self.tell();
    }

    fn tell(&self) {
        self.has_news.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// Whether there may be something to do; cheap.
    pub(crate) fn has_news(&self) -> bool {
        self.has_news.load(Ordering::SeqCst)
    }

    /// The error that the membership ended with, and the next order. With `is_busy` only an order is taken that
    /// ends all others.
    pub(crate) fn take_news(&self, is_busy: bool) -> (Option<Error>, Option<(u64, Order)>) {
        let mut state = self.state.lock();
        let may_take = !is_busy || matches!(state.order, Some((_, Order::Lose)));
        let order = if may_take { state.order.take() } else { None };
        let error = state.error.clone();
        self.has_news
            .store(error.is_some() || state.order.is_some(), Ordering::SeqCst);
        (error, order)
    }

    /// Forgets what an earlier subscription ended with.
    pub(crate) fn begin(&self) {
        self.state.lock().error = None;
    }

    /// Forgets an order of a membership that is over.
    pub(crate) fn end(&self) {
        self.state.lock().order = None;
    }

    /// As whom the member speaks; none while it is not in the group.
    pub(crate) fn identity(&self) -> Option<CommitIdentity> {
        self.state.lock().identity.clone()
    }

    pub(crate) fn set_identity(&self, identity: Option<CommitIdentity>) {
        self.state.lock().identity = identity;
    }

    /// Counts the caller as present as long as the guard lives.
    pub(crate) fn present(self: &Arc<Self>) -> Present {
        self.state.lock().away_since = None;
        Present(Arc::clone(self))
    }

    /// When the caller will have been away for too long; none while it is there.
    pub(crate) fn missed_at(&self, max_poll_interval: Duration) -> Option<Instant> {
        let away_since = self.state.lock().away_since;
        away_since.map(|since| since + max_poll_interval)
    }
}

/// The caller is polling.
#[derive(Debug)]
pub(crate) struct Present(Arc<Link>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.state.lock().away_since = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_one_order_is_carried_out_only_a_loss_is_taken() {
        let link = Link::new();
        let first = link.order(Order::Read(Partitions::new()));
        let second = link.order(Order::Read(Partitions::new()));
        assert!(first < second && link.has_news());
        assert_eq!(link.take_news(true).1, None);
        assert!(link.has_news(), "it is still there");
        assert_eq!(link.take_news(false).1.map(|(serial, _)| serial), Some(second));
        assert!(!link.has_news());
        link.order(Order::Read(Partitions::new()));
        let loss = link.order(Order::Lose);
        assert_eq!(link.take_news(true).1, Some((loss, Order::Lose)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_missed_after_its_last_poll() {
        let link = Arc::new(Link::new());
        let limit = Duration::from_secs(10);
        let present = link.present();
        assert_eq!(link.missed_at(limit), None);
        tokio::time::advance(limit).await;
        drop(present);
        assert_eq!(link.missed_at(limit), Some(Instant::now() + limit));
    }

    #[test]
    fn an_error_stays_until_the_next_subscription() {
        let link = Link::new();
        link.fail(Error::Closed("group"));
        assert!(link.take_news(false).0.is_some() && link.has_news());
        assert!(link.take_news(false).0.is_some());
        link.begin();
        assert!(link.take_news(false).0.is_none());
    }
}
