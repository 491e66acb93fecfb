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

/// An order that was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub serial: u64,
    pub order: Order,
    /// Since then the group waits for what is to be given up.
    pub at: Instant,
}

/// What has happened since the handle looked.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Whether everything is lost, because the membership has ended that gave it.
    pub has_ended: bool,
    /// What the membership ended with; told again until there is a new one.
    pub error: Option<Error>,
    pub given: Option<Given>,
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
    /// The number of the membership that the handle talks to.
    membership: u64,
    order: Option<Given>,
    serial: u64,
    /// Whether a membership has ended whose partitions the handle may still read.
    has_ended: bool,
    /// What it ended with.
    error: Option<Error>,
    identity: Option<CommitIdentity>,
    /// Since when the caller has been away from `poll`; none while it is there.
    away_since: Option<Instant>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                membership: 0,
                order: None,
                serial: 0,
                has_ended: false,
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
            state.order = Some(Given {
                serial: state.serial,
                order,
                at: Instant::now(),
            });
            state.serial
        };
        self.tell();
        serial
    }

    /// The handle begins to talk to a new membership, and knows what there is to know of the one before. Returns the new
    /// one's number.
    pub(crate) fn succeed(&self) -> u64 {
        let mut state = self.state.lock();
        state.membership += 1;
        state.has_ended = false;
        state.error = None;
        state.order = None;
        state.identity = None;
        state.membership
    }

    /// A membership has ended. The handle gives everything up, and with an error it fails until there is a new
    /// membership. If there is one already, the handle has nothing left of the one that ended.
    pub(crate) fn ended(&self, membership: u64, error: Option<Error>) {
        let mut state = self.state.lock();
        if state.membership != membership {
            return;
        }
        state.has_ended = true;
        state.error = error;
        state.order = None;
        state.identity = None;
        drop(state);
        self.tell();
    }

    /// A membership begins: what an earlier one ended with need not be told any more.
    pub(crate) fn begun(&self) {
        self.state.lock().error = None;
    }

    fn tell(&self) {
        self.has_news.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// Whether there may be something to do; cheap.
    pub(crate) fn has_news(&self) -> bool {
        self.has_news.load(Ordering::SeqCst)
    }

    /// What has happened. While the handle `is_busy` with an order, only one is taken that ends all others.
    pub(crate) fn take_news(&self, is_busy: bool) -> News {
        let mut state = self.state.lock();
        let has_ended = std::mem::take(&mut state.has_ended);
        let ends_all = |given: &Given| given.order == Order::Lose;
        let may_take = has_ended || !is_busy || state.order.as_ref().is_some_and(ends_all);
        let given = if may_take { state.order.take() } else { None };
        let error = state.error.clone();
        self.has_news
            .store(error.is_some() || state.order.is_some(), Ordering::SeqCst);
        News {
            has_ended,
            error,
            given,
        }
    }

    /// Whether a membership has ended by itself, with partitions that the handle may still read. What it ended with is
    /// forgotten.
    pub(crate) fn take_end(&self) -> bool {
        let mut state = self.state.lock();
        state.error = None;
        std::mem::take(&mut state.has_ended)
    }

    /// Forgets an order of a membership that was left.
    pub(crate) fn left(&self) {
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
        let taken = |is_busy| {
            link.take_news(is_busy)
                .given
                .map(|given| (given.serial, given.order))
        };
        assert_eq!(taken(true), None);
        assert!(link.has_news(), "it is still there");
        assert_eq!(taken(false).map(|(serial, _)| serial), Some(second));
        assert!(!link.has_news());
        link.order(Order::Read(Partitions::new()));
        let loss = link.order(Order::Lose);
        assert_eq!(taken(true), Some((loss, Order::Lose)));
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
    fn an_error_stays_until_there_is_a_new_membership_and_the_loss_is_told_once() {
        let link = Link::new();
        link.order(Order::Read(Partitions::new()));
        link.ended(0, Some(Error::Closed("group")));
        let news = link.take_news(true);
        assert!(news.has_ended && news.error.is_some() && link.has_news());
        assert_eq!(news.given, None, "nobody waits for it");
        let news = link.take_news(false);
        assert!(!news.has_ended && news.error.is_some());
        assert!(!link.take_end());
        assert!(link.take_news(false).error.is_none());

        // The handle has subscribed anew before it could look.
        link.ended(0, Some(Error::Closed("group")));
        link.begun();
        let first = link.order(Order::Read(Partitions::new()));
        let news = link.take_news(true);
        assert!(news.has_ended && news.error.is_none());
        assert_eq!(news.given.map(|given| given.serial), Some(first));
        link.ended(0, None);
        assert!(link.take_end(), "the handle is told, whichever way it looks");
    }
    #[test]
    fn the_end_of_an_earlier_membership_does_not_touch_its_successor() {
        let link = Link::new();
        let first = link.succeed();
        link.ended(first, Some(Error::Closed("group")));
        let second = link.succeed();
        assert!(link.take_news(false).error.is_none(), "the handle begins anew");
        let order = link.order(Order::Read(Partitions::new()));
        link.ended(first, Some(Error::MembershipEnded));
        let news = link.take_news(false);
        assert!(!news.has_ended && news.error.is_none());
        assert_eq!(news.given.map(|given| given.serial), Some(order));
        link.ended(second, Some(Error::MembershipEnded));
        assert!(link.take_news(false).has_ended);
    }
}
