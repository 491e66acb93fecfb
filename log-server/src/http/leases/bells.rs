//! Rung when a lease ends before its time, or an offset is reset, so that those who wait for records of its group look again.
//!
//! A ring says "look again", as a partition's wake-ups do. So groups may share a bell, and there need not be one for each.

use std::sync::Arc;

use crate::partition::fetch_waiter::{FetchWaiter, WatchGuard, WatchList};

const BELLS: usize = 64;

/// The bells of all groups.
#[derive(Debug)]
pub(crate) struct LeaseBells {
    bells: [Arc<WatchList>; BELLS],
}

impl Default for LeaseBells {
    fn default() -> Self {
        Self {
            bells: std::array::from_fn(|_| Arc::default()),
        }
    }
}

impl LeaseBells {
    /// Lets the waiter hear of the group until the guard is dropped.
    pub(super) fn watch(&self, group: &str, waiter: &Arc<FetchWaiter>) -> WatchGuard {
        self.of(group).watch(waiter)
    }

    /// A lease of the group has ended, or the group stands elsewhere.
    pub(crate) fn ring(&self, group: &str) {
        self.of(group).wake();
    }

    fn of(&self, group: &str) -> &Arc<WatchList> {
        let number = usize::try_from(crc32fast::hash(group.as_bytes())).unwrap_or_default();
        self.bells
            .get(number % BELLS)
            .expect("a remainder is below its divisor")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_group_hears_its_bell() {
        let bells = LeaseBells::default();
        let waiter = FetchWaiter::new();
        let guard = bells.watch("g", &waiter);
        bells.ring("g");
        let mut heard = std::pin::pin!(waiter.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(heard.as_mut().poll(&mut context).is_ready());
        drop(guard);
        assert_eq!(bells.of("g").len(), 0);
    }
}
