//! Commits of those who read, commits that come late, and what administrators do to them.

use std::sync::Arc;

use log_core::model::TopicId;

use super::client::{Client, GROUP};
use super::ledger::{Cause, is_member};
use super::{Content, Late, Model};

use crate::coordinator::group::context::Topics;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::offsets::commit::{CommitPartition, CommitRequest, CommitTopic};
use crate::coordinator::group::offsets::delete::DeleteOffsetsTopic;
use crate::coordinator::group::offsets::fetch::{FetchOffsetsRequest, FetchOffsetsTopic, NamedBy};
use crate::coordinator::group::offsets::topic_ref::TopicRef;

impl Model {
    /// A client's commit of a partition that it reads.
    pub(super) fn commit_request(&mut self, at: u32) -> Option<CommitRequest> {
        let client = &self.clients[&at];
        let reads: Vec<_> = client.reads.iter().copied().collect();
        let (topic_id, partition) = self.dice.choice(reads)?;
        self.next_offset += 1;
        let by_id = client.is_modern() && self.dice.bool();
        let topic = if by_id {
            TopicRef::Id(topic_id)
        } else {
            TopicRef::Name(self.names[&topic_id].into())
        };
        let row = CommitPartition {
            partition,
            offset: self.next_offset,
            leader_epoch: -1,
            metadata: None,
        };
        Some(CommitRequest {
            group: GROUP.into(),
            member_id: Arc::clone(&client.id),
            instance_id: client.instance_id.clone(),
            generation_or_epoch: client.epoch,
            request_version: if client.is_modern() { 10 } else { 8 },
            retention_ms: None,
            topics: vec![CommitTopic {
                topic,
                partitions: vec![row],
            }],
        })
    }

    /// A client commits, now or later.
    pub(super) fn commit(&mut self, at: u32) -> Cause {
        let Some(request) = self.commit_request(at) else {
            return Cause::Nothing;
        };
        let name = self.clients[&at].name();
        if self.dice.u8(..4) == 0 {
            self.late.push(Late {
                client: at,
                name,
                request,
            });
            return Cause::Nothing;
        }
        self.send_commit(at, &name, &request)
    }

    /// A commit that was long on its way arrives.
    pub(super) fn arrive_late(&mut self) -> Cause {
        let Some(at) = self.dice.choice(0..self.late.len()) else {
            return Cause::Nothing;
        };
        let mut late = self.late.swap_remove(at);
        // The log must not see an older number after a newer one, or it could not be told from a commit that went back.
        self.next_offset += 1;
        late.request.topics[0].partitions[0].offset = self.next_offset;
        self.send_commit(late.client, &late.name, &late.request)
    }

    fn send_commit(&mut self, at: u32, name: &Arc<str>, request: &CommitRequest) -> Cause {
        let facts = request.topics[0].topic.resolve(&self.world.topics);
        let CommitPartition {
            partition, offset, ..
        } = request.topics[0].partitions[0];
        let answer = self
            .world
            .run(|shard, context| shard.commit_offsets(context, request));
        let Ok(Ok(())) = answer.map(|mut rows| rows.remove(0).remove(0)) else {
            return Cause::Nothing;
        };
        let facts = facts.unwrap();
        let member = (&request.member_id, request.generation_or_epoch);
        self.check_committer(member, (facts.id, partition), name);
        let topic = facts.name;
        let content = Content::Committed {
            topic: Arc::clone(&topic),
            partition,
            committed: (offset, facts.id),
        };
        self.post(at, content);
        Cause::Commit {
            topic,
            partition,
            offset,
        }
    }

    /// A commit is taken from a member alone, and not for what somebody else reads by now.
    pub(super) fn check_committer(
        &self,
        (id, epoch): (&Arc<str>, i32),
        place: (TopicId, i32),
        name: &Arc<str>,
    ) {
        assert!(self.has_member(id), "{id} commits, and is no member");
        match &self.world.shard.groups[GROUP] {
            Group::Classic(group) => {
                assert_eq!(group.generation(), epoch, "{id} commits in another generation");
            }
            Group::Consumer(group) => {
                let known = group.all_members()[id].current.epoch;
                assert!(epoch <= known, "{id} commits in an epoch that has yet to come");
            }
        }
        let others = |client: &&Client| client.name() != *name && is_member(&self.world.shard, client);
        for other in self.clients.values().filter(others) {
            assert!(
                !other.reads.contains(&place),
                "{id} commits {place:?}, which {} reads",
                other.id
            );
        }
    }

    /// Offsets are deleted; those of topics that somebody reads are not.
    pub(super) fn delete_offsets(&mut self) -> Cause {
        let name = super::TOPICS[self.dice.usize(..super::TOPICS.len())];
        let partition = self.dice.i32(0..3);
        let is_read = match self.world.shard.groups.get(GROUP) {
            Some(group) => group.is_subscribed_to(name),
            None => false,
        };
        let topics = [DeleteOffsetsTopic {
            topic: name.into(),
            partitions: vec![partition],
        }];
        let before = self.world.end();
        let deleted = self
            .world
            .run(|shard, context| shard.delete_offsets(context, &GROUP.into(), &topics));
        drop(deleted);
        if before == self.world.end() {
            return Cause::Nothing;
        }
        assert!(!is_read, "offsets of {name} are deleted, which is read");
        Cause::DeleteOffsets
    }

    /// The group is deleted, if nobody is in it.
    pub(super) fn delete_group(&mut self) -> Cause {
        let was_empty = self.world.shard.groups.get(GROUP).is_some_and(Group::is_empty);
        let deleted = self
            .world
            .run(|shard, context| shard.delete_group(context, &GROUP.into()));
        if !matches!(deleted, Ok(Ok(()))) {
            return Cause::Nothing;
        }
        assert!(was_empty, "a group with members was deleted");
        assert!(!self.world.shard.groups.contains_key(GROUP));
        Cause::DeleteGroup
    }

    /// A client asks how far the group has read.
    pub(super) fn fetch(&mut self) {
        let Some(at) = self.pick() else { return };
        let client = &self.clients[&at];
        let name = super::TOPICS[self.dice.usize(..super::TOPICS.len())];
        let request = FetchOffsetsRequest {
            group: GROUP.into(),
            member_id: client.is_modern().then(|| Arc::clone(&client.id)),
            member_epoch: if client.is_modern() { client.epoch } else { -1 },
            topics: Some(vec![FetchOffsetsTopic {
                topic: TopicRef::Name(name.into()),
                partitions: vec![0, 1],
            }]),
            require_stable: true,
        };
        let answer = self
            .world
            .run(|shard, context| shard.fetch_offsets(context, &request, NamedBy::Name));
        let Ok(Ok(topics)) = answer else { return };
        if let (Some(Group::Consumer(group)), Some(id)) =
            (self.world.shard.groups.get(GROUP), &request.member_id)
        {
            let member = group.all_members().get(id).expect("only a member fetches");
            assert_eq!(
                member.current.epoch, request.member_epoch,
                "{id} fetches in another epoch"
            );
        }
        let topic_id = self.world.topics.by_name(name).map(|facts| facts.id);
        for row in &topics[0].partitions {
            let mut pending = self.world.shard.pending.of_group(GROUP);
            if pending.any(|place| place == (&name.into(), row.partition)) {
                assert_eq!(row.committed, Err(GroupError::UnstableOffsetCommit));
                continue;
            }
            let stored = self.world.shard.offsets.get(GROUP, name, row.partition);
            let stored = stored.filter(|stored| topic_id.is_none_or(|topic_id| stored.topic_id == topic_id));
            let fetched = row
                .committed
                .as_ref()
                .unwrap()
                .as_ref()
                .map(|committed| committed.offset);
            assert_eq!(fetched, stored.map(|stored| stored.offset));
        }
    }
}
