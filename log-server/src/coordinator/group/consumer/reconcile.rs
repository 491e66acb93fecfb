//! One member's way to its target.
//!
//! | it has… | then it is | and its epoch |
//! |---|---|---|
//! | partitions that are not in the target, and did not say that it gave them up | `UnrevokedPartitions` | stays |
//! | otherwise: partitions in the target that others still have | `UnreleasedPartitions` | is the target's |
//! | otherwise | `Stable` | is the target's |
//!
//! Partitions of the target that nobody has become its own in the last two cases.
//!
//! So a partition has one owner in each epoch. Kafka before 4.2 raised the epoch by one between two steps of giving up, and a partition could have
//! two (KAFKA-19974).

use std::collections::BTreeMap;

use log_core::model::TopicId;

use crate::coordinator::group::consumer::assignment::OwnedPartitions;
use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::consumer::member::{Current, Member};
use crate::coordinator::group::consumer::regex::Regexes;
use crate::coordinator::group::consumer::subscription::is_subscribed;
use crate::coordinator::group::consumer::target::Target;
use crate::coordinator::group::context::Topics;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::{MemberState, TopicPartitions};

/// What one step of a member depends on.
pub(super) struct Step<'a> {
    pub(super) group: &'a ConsumerGroup,
    pub(super) member_id: &'a str,
    pub(super) member: &'a Member,
    pub(super) target: &'a Target,
    pub(super) topics: &'a dyn Topics,
    pub(super) regexes: &'a Regexes,
    /// What the member says it reads, if it says so.
    pub(super) owned: Option<&'a [TopicPartitions]>,
    /// It gives up what it is no longer subscribed to at once, without waiting for a new target.
    pub(super) subscription_changed: bool,
}

impl Step<'_> {
    /// Where the member stands after this step; nothing if it stays where it is.
    pub(super) fn take(&self) -> Result<Option<Current>, GroupError> {
        let current = &*self.member.current;
        if !self.subscription_changed && current.is_at(self.target.epoch) {
            return Ok(None);
        }
        let next = match current.state {
            MemberState::Stable if current.epoch == self.target.epoch => self.drop_unsubscribed(),
            MemberState::UnrevokedPartitions if self.still_has(&current.revoking) => {
                if self.subscription_changed {
                    self.drop_unsubscribed()
                } else {
                    None
                }
            }
            MemberState::Stable | MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => {
                Some(self.towards_target(current.epoch))
            }
            MemberState::Unknown => {
                if self.owned.is_none_or(|owned| !owned.is_empty()) {
                    return Err(GroupError::FencedMemberEpoch(
                        "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin."
                            .to_owned(),
                    ));
                }
                Some(self.towards_target(self.target.epoch))
            }
        };
        Ok(next.filter(|next| next != current))
    }

    /// Whether the member has any of these, as far as is known.
    fn still_has(&self, partitions: &OwnedPartitions) -> bool {
        self.owned.is_none_or(|owned| partitions.contains_any(owned))
    }

    fn is_subscribed(&self, topic_id: TopicId) -> bool {
        is_subscribed(&self.member.description, self.regexes, self.topics, topic_id)
    }

    fn towards_target(&self, epoch: i32) -> Current {
        let current = &*self.member.current;
        let target = &*self.target.assignment;
        let mut assigned = OwnedPartitions::default();
        let mut revoking = OwnedPartitions::default();
        // A topic that was deleted is still in the target, but nobody is subscribed to it.
        let mut wanted = BTreeMap::new();
        let mut is_wanted = |topic_id: TopicId| {
            *wanted
                .entry(topic_id)
                .or_insert_with(|| self.is_subscribed(topic_id))
        };
        for (topic_id, partition, since) in current.assigned.iter() {
            let keeps = target.contains(topic_id, partition) && is_wanted(topic_id);
            let place = if keeps { &mut assigned } else { &mut revoking };
            place.add(topic_id, partition, since);
        }
        if !revoking.is_empty() && self.still_has(&revoking) {
            return Current {
                epoch,
                previous_epoch: current.epoch,
                state: MemberState::UnrevokedPartitions,
                assigned,
                revoking,
            };
        }
        let mut waits = false;
        for (topic_id, partition) in target.iter() {
            if assigned.since(topic_id, partition).is_some() || !is_wanted(topic_id) {
                continue;
            }
            let owner = self.group.owners.get(&(topic_id, partition));
            // What the member itself was to give up, it may as well keep.
            let is_free = owner.is_none_or(|owner| {
                **owner == *self.member_id && current.revoking.since(topic_id, partition).is_some()
            });
            if is_free {
                assigned.add(topic_id, partition, self.target.epoch);
            } else {
                waits = true;
            }
        }
        Current {
            epoch: self.target.epoch,
            previous_epoch: current.epoch,
            state: if waits {
                MemberState::UnreleasedPartitions
            } else {
                MemberState::Stable
            },
            assigned,
            revoking: OwnedPartitions::default(),
        }
    }

    /// Gives up the topics that are no longer subscribed to, and nothing else.
    fn drop_unsubscribed(&self) -> Option<Current> {
        let current = &*self.member.current;
        let mut assigned = OwnedPartitions::default();
        let mut revoking = current.revoking.clone();
        let topics: Vec<TopicId> = current
            .assigned
            .topic_ids()
            .filter(|id| self.is_subscribed(*id))
            .collect();
        for (topic_id, partition, since) in current.assigned.iter() {
            let keeps = topics.binary_search(&topic_id).is_ok();
            let place = if keeps { &mut assigned } else { &mut revoking };
            place.add(topic_id, partition, since);
        }
        if assigned == current.assigned {
            return None;
        }
        if self.still_has(&revoking) {
            return Some(Current {
                epoch: current.epoch,
                previous_epoch: current.epoch,
                state: MemberState::UnrevokedPartitions,
                assigned,
                revoking,
            });
        }
        Some(Current {
            previous_epoch: current.epoch,
            assigned,
            ..current.clone()
        })
    }
}
