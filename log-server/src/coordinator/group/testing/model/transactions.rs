//! Commits that count when their transaction is committed, and the ends of transactions.

use std::sync::Arc;

use log_core::model::{ProducerEpoch, ProducerId};
use log_core::record::control::TransactionOutcome;

use super::client::GROUP;
use super::ledger::Cause;
use super::{Content, Model, NOBODY};

use crate::coordinator::group::context::TransactionalProducer;
use crate::coordinator::group::offsets::commit::TransactionalCommitRequest;

const PRODUCERS: [ProducerId; 2] = [ProducerId::new(1), ProducerId::new(2)];

impl Model {
    /// A producer commits for a client what that reads. It may be too old to say for whom.
    pub(super) fn pend(&mut self) -> Cause {
        let Some(at) = self.pick() else {
            return Cause::Nothing;
        };
        // Who is nobody may make a group, of which nothing is left in a tidied log when the transaction is aborted.
        if !self.world.shard.groups.contains_key(GROUP) {
            return Cause::Nothing;
        }
        let Some(mut request) = self.commit_request(at) else {
            return Cause::Nothing;
        };
        let Ok(facts) = request.topics[0].topic.resolve(&self.world.topics) else {
            return Cause::Nothing;
        };
        if request.generation_or_epoch <= 0 || self.dice.u8(..4) == 0 {
            request.member_id = "".into();
            request.instance_id = None;
            request.generation_or_epoch = -1;
        }
        let id = PRODUCERS[self.dice.usize(..PRODUCERS.len())];
        let (member_id, epoch) = (Arc::clone(&request.member_id), request.generation_or_epoch);
        let partition = request.topics[0].partitions[0].partition;
        let request = TransactionalCommitRequest {
            producer: TransactionalProducer {
                id,
                epoch: ProducerEpoch::new(0),
            },
            group: request.group,
            member_id: request.member_id,
            instance_id: request.instance_id,
            generation_or_epoch: request.generation_or_epoch,
            topics: request.topics,
        };
        let answer = self
            .world
            .run(|shard, context| shard.commit_transactional_offsets(context, request));
        let Ok(Ok(())) = answer.map(|mut rows| rows.remove(0).remove(0)) else {
            return Cause::Nothing;
        };
        if !member_id.is_empty() {
            self.check_committer(
                (&member_id, epoch),
                (facts.id, partition),
                &self.clients[&at].name(),
            );
        }
        Cause::Pend {
            producer: id,
            topic: facts.name,
            partition,
        }
    }

    /// A transaction ends. Who commits it hears of that when the disk has it.
    pub(super) fn decide(&mut self) -> Cause {
        let rows = self.world.shard.pending.in_order();
        let Some(producer) = self.dice.choice(rows.iter().map(|(producer, ..)| *producer)) else {
            return Cause::Nothing;
        };
        let outcome = if self.dice.bool() {
            TransactionOutcome::Commit
        } else {
            TransactionOutcome::Abort
        };
        let own = rows.into_iter().filter(|(by, ..)| *by == producer);
        let places: Vec<_> = own
            .map(|(_, (_, topic, partition), ..)| (topic, partition))
            .collect();
        self.world.end_transaction(producer, outcome);
        if outcome == TransactionOutcome::Commit {
            for (topic, partition) in places {
                let stored = self.world.shard.offsets.get(GROUP, &topic, partition);
                let stored = stored.expect("what was committed counts");
                let committed = (stored.offset, stored.topic_id);
                let content = Content::Committed {
                    topic,
                    partition,
                    committed,
                };
                self.post(NOBODY, content);
            }
        }
        Cause::Decide { producer, outcome }
    }
}
