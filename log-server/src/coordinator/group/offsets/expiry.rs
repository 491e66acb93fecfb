//! Committed offsets that nobody needs any longer, and groups that have nothing left.
//!
//! | the offset | is forgotten |
//! |---|---|
//! | its topic was deleted, and none has the name | at once, whoever is in the group, also while a transaction has yet to decide on it |
//! | a transaction has yet to decide on another one for the partition | never |
//! | its topic was deleted, and another has the name | at once, whoever is in the group |
//! | the group has members | never (Kafka forgets those of topics that no member reads) |
//! | its client gave it an expiry | then |
//! | its records are there: it lies within a log that is not empty | never (Kafka forgets it after `offsets.retention.minutes`) |
//! | otherwise | `offsets.retention.minutes` after the group became empty, or after the commit where that is not known |
//!
//! A group without members, offsets and open transactions goes with its last offset, or when it is next looked at.
//! The shard is looked through in steps, so that no command waits for long. What the log refuses to forget is looked for again, later and later.

use std::ops::Bound;
use std::sync::Arc;

use log_core::model::{Offset, TopicId};

use crate::coordinator::group::context::Context;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::offsets::delete::tombstone;
use crate::coordinator::group::offsets::store::CommittedOffset;
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::timers::{TimerKey, TimerKind};

/// So many offsets are looked at in one step,
const STEP_OFFSETS_MAX: usize = 10_000;
/// and about so many records written,
const STEP_RECORDS_MAX: usize = 1_000;
/// and after this pause comes the next.
const STEP_PAUSE_MS: i64 = 100;
/// What the log refused to forget is looked for again after so long,
const RETRY_MS: i64 = 1_000;
/// and later and later, up to this: the disk is probably full.
const RETRY_MAX_MS: i64 = 60_000;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::coordinator::group) enum Sweep {
    /// Whatever may be forgotten.
    Expired,
    /// Offsets of deleted topics alone.
    OfDeletedTopics,
}

impl Sweep {
    fn timer(self) -> TimerKey {
        TimerKey {
            group: "".into(),
            member: "".into(),
            kind: match self {
                Self::Expired => TimerKind::OffsetExpiry,
                Self::OfDeletedTopics => TimerKind::DeletedTopics,
            },
        }
    }
}

/// How far the sweeps are: the groups that the next steps begin with.
#[derive(Debug)]
pub(in crate::coordinator::group) struct Sweeps {
    expired: Option<Arc<str>>,
    of_deleted_topics: Option<Arc<str>>,
    /// How long it takes until what the log refuses next is looked for again.
    retry_ms: i64,
}

impl Default for Sweeps {
    fn default() -> Self {
        Self {
            expired: None,
            of_deleted_topics: None,
            retry_ms: RETRY_MS,
        }
    }
}

impl Sweeps {
    fn place(&mut self, sweep: Sweep) -> &mut Option<Arc<str>> {
        match sweep {
            Sweep::Expired => &mut self.expired,
            Sweep::OfDeletedTopics => &mut self.of_deleted_topics,
        }
    }
}

impl GroupShard {
    /// Topics were deleted: their offsets go. The first step is part of this command, so that whoever deletes a topic and then asks
    /// for the offsets of a group of usual size finds none of it.
    pub fn topics_deleted(&mut self, context: &mut Context<'_>) {
        self.sweeps.of_deleted_topics = None;
        self.sweeps.retry_ms = RETRY_MS;
        self.timers.cancel(&Sweep::OfDeletedTopics.timer());
        self.sweep_offsets(Sweep::OfDeletedTopics, context);
    }

    /// The log has been replayed. Topics may have been deleted while nobody looked.
    pub(in crate::coordinator::group) fn offsets_loaded(&mut self, context: &mut Context<'_>) {
        if 0 < self.offsets.count() || !self.pending.is_empty() {
            // Loading itself writes nothing.
            self.timers.set(Sweep::OfDeletedTopics.timer(), context.steady);
        }
        let interval = context.settings.offsets_retention_check_interval_ms;
        let next = context.steady.saturating_plus(interval);
        self.timers.set(Sweep::Expired.timer(), next);
    }

    /// The log refused what a command wrote. Was it to forget offsets, their topics may be gone, and nobody says so again.
    pub(in crate::coordinator::group) fn offsets_write_refused(
        &mut self,
        records: &[GroupRecord],
        context: &Context<'_>,
    ) {
        let is_tombstone =
            |record: &GroupRecord| matches!(record, GroupRecord::OffsetCommit { value: None, .. });
        if !records.iter().any(is_tombstone) {
            return;
        }
        // The step is over for those who count; the next one begins in front of it.
        self.sweeps.of_deleted_topics = None;
        let deadline = context.steady.saturating_plus(self.sweeps.retry_ms);
        self.timers.set(Sweep::OfDeletedTopics.timer(), deadline);
        self.sweeps.retry_ms = self.sweeps.retry_ms.saturating_mul(2).min(RETRY_MAX_MS);
    }

    /// One step.
    pub(in crate::coordinator::group) fn sweep_offsets(&mut self, sweep: Sweep, context: &mut Context<'_>) {
        let begin = self.sweeps.place(sweep).take();
        let begin = begin.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let mut looked_at = 0;
        let mut next = None;
        for (name, group) in self.groups.range::<str, _>((begin, Bound::Unbounded)) {
            if STEP_OFFSETS_MAX <= looked_at || STEP_RECORDS_MAX <= context.records.len() {
                next = Some(Arc::clone(name));
                break;
            }
            let mut kept = 0;
            for (topic, partition, committed) in self.offsets.of_group(name) {
                looked_at += 1;
                let is_over = is_gone(context, topic, committed.topic_id)
                    || (sweep == Sweep::Expired && is_expired(context, group, topic, partition, committed));
                // Its tombstone would take along what is pending, which may be for the topic that has the name now.
                let may_go = is_over
                    && (context.topics.by_name(topic).is_none()
                        || !self.pending.contains(name, topic, partition));
                if may_go {
                    context.records.push(tombstone(name, topic, partition));
                } else {
                    kept += 1;
                }
                if STEP_RECORDS_MAX <= context.records.len() {
                    // What is left of the group is looked at again, when these are gone.
                    next = Some(Arc::clone(name));
                    break;
                }
            }
            if next.is_some() {
                break;
            }
            for (topic, partition) in self.pending.of_group(name) {
                looked_at += 1;
                kept += 1;
                if is_gone(context, topic, TopicId::ZERO)
                    && self.offsets.get(name, topic, partition).is_none()
                {
                    context.records.push(tombstone(name, topic, partition));
                }
            }
            if kept == 0 && sweep == Sweep::Expired && group.is_empty() {
                group.delete_records(name, &mut context.records);
            }
        }
        let interval = context.settings.offsets_retention_check_interval_ms;
        let pause = match (&next, sweep) {
            (Some(_), _) => Some(STEP_PAUSE_MS),
            (None, Sweep::Expired) => Some(interval),
            (None, Sweep::OfDeletedTopics) => None,
        };
        if let Some(pause) = pause {
            let deadline = context.steady.saturating_plus(pause);
            self.timers.set(sweep.timer(), deadline);
        }
        *self.sweeps.place(sweep) = next;
    }
}

/// Whether the topic that was committed for is no more. A commit without an id is one of whichever topic has the name.
fn is_gone(context: &Context<'_>, topic: &str, topic_id: TopicId) -> bool {
    let facts = context.topics.by_name(topic);
    facts.is_none_or(|facts| topic_id != TopicId::ZERO && topic_id != facts.id)
}

fn is_expired(
    context: &Context<'_>,
    group: &Group,
    topic: &str,
    partition: i32,
    committed: CommittedOffset<'_>,
) -> bool {
    if !group.is_empty() {
        return false;
    }
    let Some(base) = group.expiration_base_ms(committed.commit_timestamp_ms) else {
        return false;
    };
    let now = context.now.get();
    if let Some(expiry) = committed.expire_timestamp_ms {
        return expiry <= now;
    }
    context.settings.offsets_retention_ms <= now.saturating_sub(base)
        && !has_records(context, topic, partition, Offset::new(committed.offset))
}

/// Whether a reader could go on where it was, or nobody knows.
fn has_records(context: &Context<'_>, topic: &str, partition: i32, committed: Offset) -> bool {
    let range = context.topics.log_range(topic, partition);
    range.is_none_or(|range| range.start < range.end && range.start <= committed && committed <= range.end)
}
