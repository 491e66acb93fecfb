//! When a group has to be looked at without anybody asking. Nothing here survives a restart: loading sets the timers anew.
//!
//! One deadline for each key; setting it again moves it. Deadlines are on the steady clock: whoever sets the time of day neither
//! ends sessions nor makes them last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use log_core::clock::SteadyMs;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKind {
    /// A classic member's session ends, or its first heartbeat was to come.
    ClassicSession,
    /// A member that was given an id did not join with it.
    ClassicPendingJoin,
    /// A classic group's join phase ends.
    ClassicJoin,
    /// Members that joined did not fetch their assignment.
    ClassicPendingSync,
    /// A classic group was of the other protocol until now: it rebalances.
    ClassicDowngraded,
    /// A KIP-848 member's session ends.
    ConsumerSession,
    /// A KIP-848 member did not give up in time what was revoked.
    ConsumerRebalance,
    /// A classic member of a KIP-848 group did not join or sync in time.
    ConsumerClassicJoin,
    /// The same for its sync.
    ConsumerClassicSync,
    /// Offsets that nobody needs any longer are looked for, in the whole shard.
    OffsetExpiry,
    /// Offsets of topics that were deleted are looked for, in the whole shard.
    DeletedTopics,
}

/// Whose timer, and for what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey {
    /// The group; empty for the whole shard.
    pub group: Arc<str>,
    /// The member; empty for the whole group.
    pub member: Arc<str>,
    /// For what.
    pub kind: TimerKind,
}

/// All timers of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timers {
    deadlines: HashMap<TimerKey, SteadyMs>,
    order: BTreeSet<(SteadyMs, TimerKey)>,
    pending_joins: Arrivals,
}

/// Keys in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Arrivals {
    by_number: BTreeMap<u64, TimerKey>,
    numbers: HashMap<TimerKey, u64>,
    last: u64,
}

impl Arrivals {
    fn add(&mut self, key: TimerKey) {
        self.last += 1;
        self.numbers.insert(key.clone(), self.last);
        self.by_number.insert(self.last, key);
    }

    fn remove(&mut self, key: &TimerKey) {
        if let Some(number) = self.numbers.remove(key) {
            self.by_number.remove(&number);
        }
    }

    fn pop_first(&mut self) -> Option<TimerKey> {
        let (_, key) = self.by_number.pop_first()?;
        self.numbers.remove(&key);
        Some(key)
    }
}

impl Timers {
    /// Sets or moves a deadline.
    pub fn set(&mut self, key: TimerKey, deadline: SteadyMs) {
        if let Some(before) = self.deadlines.insert(key.clone(), deadline) {
            self.order.remove(&(before, key.clone()));
        } else if key.kind == TimerKind::ClassicPendingJoin {
            self.pending_joins.add(key.clone());
        }
        self.order.insert((deadline, key));
    }

    /// Takes a deadline back; there need not be one.
    pub fn cancel(&mut self, key: &TimerKey) {
        if let Some(before) = self.deadlines.remove(key) {
            self.order.remove(&(before, key.clone()));
            self.pending_joins.remove(key);
        }
    }

    /// The deadline of a key.
    #[must_use]
    pub fn deadline(&self, key: &TimerKey) -> Option<SteadyMs> {
        self.deadlines.get(key).copied()
    }

    /// The first deadline of all.
    #[must_use]
    pub fn next(&self) -> Option<SteadyMs> {
        self.order.first().map(|(deadline, _)| *deadline)
    }

    /// Takes the first of those that are due at `now`.
    pub fn pop_due(&mut self, now: SteadyMs) -> Option<TimerKey> {
        let (deadline, _) = self.order.first()?;
        if now < *deadline {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.deadlines.remove(&key);
        self.pending_joins.remove(&key);
        Some(key)
    }

    /// How many ids are out whose owners have not joined with them, over all groups: each has a deadline.
    #[must_use]
    pub fn pending_joins(&self) -> usize {
        self.pending_joins.by_number.len()
    }

    /// The id that has been out for longest is due now, and does not count as out any longer.
    pub fn end_oldest_pending_join(&mut self, now: SteadyMs) {
        if let Some(oldest) = self.pending_joins.pop_first() {
            self.set(oldest, now);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.deadlines.clear();
        self.order.clear();
        self.pending_joins = Arrivals::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(group: &str) -> TimerKey {
        TimerKey {
            group: group.into(),
            member: "".into(),
            kind: TimerKind::ClassicJoin,
        }
    }

    #[test]
    fn a_deadline_that_was_moved_is_due_once() {
        let mut timers = Timers::default();
        timers.set(key("a"), SteadyMs::new(10));
        timers.set(key("b"), SteadyMs::new(15));
        timers.set(key("a"), SteadyMs::new(20));
        assert_eq!(timers.next(), Some(SteadyMs::new(15)));
        assert_eq!(timers.pop_due(SteadyMs::new(14)), None);
        assert_eq!(timers.pop_due(SteadyMs::new(30)), Some(key("b")));
        assert_eq!(timers.pop_due(SteadyMs::new(30)), Some(key("a")));
        assert_eq!(timers.pop_due(SteadyMs::new(30)), None);
    }

    #[test]
    fn a_cancelled_deadline_is_never_due() {
        let mut timers = Timers::default();
        timers.set(key("a"), SteadyMs::new(10));
        timers.cancel(&key("a"));
        timers.cancel(&key("a"));
        assert_eq!((timers.next(), timers.deadline(&key("a"))), (None, None));
        assert_eq!(timers.pop_due(SteadyMs::new(30)), None);
    }

    #[test]
    fn the_oldest_id_makes_room_whatever_its_deadline() {
        let pending = |member: &str| TimerKey {
            member: member.into(),
            kind: TimerKind::ClassicPendingJoin,
            ..key("g")
        };
        let mut timers = Timers::default();
        timers.set(pending("patient"), SteadyMs::new(1_800));
        timers.set(pending("gone"), SteadyMs::new(45));
        timers.set(pending("new"), SteadyMs::new(45));
        timers.cancel(&pending("gone"));
        timers.end_oldest_pending_join(SteadyMs::new(7));
        assert_eq!(timers.pending_joins(), 1);
        assert_eq!(timers.pop_due(SteadyMs::new(7)), Some(pending("patient")));
        assert_eq!(timers.pop_due(SteadyMs::new(7)), None);
        timers.end_oldest_pending_join(SteadyMs::new(8));
        timers.end_oldest_pending_join(SteadyMs::new(8));
        assert_eq!(timers.pop_due(SteadyMs::new(8)), Some(pending("new")));
        assert_eq!((timers.pending_joins(), timers.next()), (0, None));
    }
}
