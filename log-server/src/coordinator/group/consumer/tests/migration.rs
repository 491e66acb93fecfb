//! Groups that change their protocol while they work, and members of both in one group.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::support::{Broker, topics};
use crate::coordinator::group::classic::heartbeat::HeartbeatRequest;
use crate::coordinator::group::classic::join::JoinRequest;
use crate::coordinator::group::classic::leave::LeavingMember;
use crate::coordinator::group::classic::member::Protocols;
use crate::coordinator::group::classic::reply::{JoinRefused, Joined, Reply};
use crate::coordinator::group::classic::sync::SyncRequest;
use crate::coordinator::group::context::Ticket;
use crate::coordinator::group::embedded::{read_assignment, write_assignment};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::offsets::commit::{CommitPartition, CommitRequest, CommitTopic};
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::coordinator::group::settings::MigrationPolicy;

/// A subscription to `t` of version 1, with what the member has of it.
pub(super) fn subscription(owned: &[i32]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_slice(b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff");
    let list = write_assignment(0, &vec![("t".into(), owned.to_vec())]);
    bytes.put_slice(&list[2..list.len() - 4]);
    bytes.freeze()
}

impl Broker {
    fn classic_joining(member: &str, owned: &[i32]) -> JoinRequest {
        JoinRequest {
            group: "g".into(),
            member_id: member.into(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: Protocols::new(vec![("range".into(), subscription(owned))]),
            reason: String::new(),
            id_required: false,
            may_skip_assignment: true,
        }
    }

    pub(super) fn classic_join(&mut self, member: &str, owned: &[i32]) -> Result<Joined, JoinRefused> {
        let request = Self::classic_joining(member, owned);
        let replies = self.parked(|shard, context| shard.join_group(context, &request, Ticket(1)));
        match replies.into_iter().find(|(ticket, _)| *ticket == Ticket(1)) {
            Some((_, Reply::Join(answer))) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn classic_sync(
        &mut self,
        member: &str,
        generation: i32,
        assignments: &[(&str, &[i32])],
    ) -> Result<Vec<i32>, GroupError> {
        let assignments = assignments.iter().map(|(member, partitions)| {
            let assignment = write_assignment(1, &vec![("t".into(), partitions.to_vec())]);
            (Arc::from(*member), assignment)
        });
        let request = SyncRequest {
            group: "g".into(),
            member_id: member.into(),
            instance_id: None,
            generation,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignments: assignments.collect::<BTreeMap<_, _>>(),
        };
        let replies = self.parked(|shard, context| shard.sync_group(context, &request, Ticket(2)));
        match replies.into_iter().find(|(ticket, _)| *ticket == Ticket(2)) {
            Some((_, Reply::Sync(answer))) => answer.map(|synced| {
                let read = read_assignment(&synced.assignment).unwrap().partitions;
                read.into_iter().flat_map(|(_, partitions)| partitions).collect()
            }),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn classic_beat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        let request = HeartbeatRequest {
            group: "g".into(),
            member_id: member.into(),
            instance_id: None,
            generation,
        };
        self.run(|shard, context| shard.heartbeat(context, &request))
    }

    fn classic_leave(&mut self, member: &str) -> Vec<Result<(), GroupError>> {
        let leaving = [LeavingMember {
            member_id: member.into(),
            instance_id: None,
            reason: String::new(),
        }];
        self.run(|shard, context| shard.leave_group(context, "g", &leaving))
            .unwrap()
    }

    /// A stable classic group of one member that reads both partitions.
    fn with_classic_member() -> (Self, Arc<str>) {
        let mut broker = Self::new(&[("t", 2)]);
        let joined = broker.classic_join("", &[]).unwrap();
        let id = Arc::clone(&joined.member_id);
        assert_eq!(broker.classic_sync(&id, 1, &[(&id, &[0, 1])]), Ok(vec![0, 1]));
        (broker, id)
    }
}

#[test]
fn a_classic_group_goes_over_member_by_member_and_back() {
    let (mut broker, old) = Broker::with_classic_member();
    let new = broker.join("g", "new", &["t"]).unwrap();
    assert_eq!((new.member_epoch, topics(&new)), (2, Some(vec![])));
    assert_eq!(broker.state("g"), "Reconciling");
    // The classic member is told to join again, gives one partition up, joins again and goes on with the other.
    assert_eq!(broker.classic_beat(&old, 1), Err(GroupError::RebalanceInProgress));
    let joined = broker.classic_join(&old, &[0, 1]).unwrap();
    assert_eq!(
        (joined.generation, &*joined.leader, joined.members.len()),
        (1, "", 0)
    );
    assert_eq!(broker.classic_sync(&old, 1, &[]), Ok(vec![0]));
    assert_eq!(broker.classic_beat(&old, 1), Err(GroupError::RebalanceInProgress));
    let joined = broker.classic_join(&old, &[0]).unwrap();
    assert_eq!(joined.generation, 2);
    assert_eq!(broker.classic_sync(&old, 2, &[]), Ok(vec![0]));
    assert_eq!(broker.classic_beat(&old, 2), Ok(()));
    let new = broker.beat("g", "new", 2).unwrap();
    assert_eq!(topics(&new), Some(vec![1]));
    assert_eq!(broker.state("g"), "Stable");
    assert_eq!(
        broker.classic_beat("new", 2).unwrap_err().to_string(),
        "Member new does not use the classic protocol."
    );
    // The new member goes: the group is a classic one again, and rebalances.
    broker.beat("g", "new", -1).unwrap();
    broker.advance(0);
    assert_eq!(broker.state("g"), "classic");
    let Group::Classic(group) = &broker.shard.groups["g"] else {
        panic!()
    };
    assert_eq!(
        (group.state_name(), group.generation()),
        ("PreparingRebalance", 2)
    );
    assert_eq!(broker.classic_beat(&old, 2), Err(GroupError::RebalanceInProgress));
    let joined = broker.classic_join(&old, &[0]).unwrap();
    assert_eq!((joined.generation, &joined.leader), (3, &old));
    assert_eq!(broker.classic_sync(&old, 3, &[(&old, &[0, 1])]), Ok(vec![0, 1]));
}

#[test]
fn a_group_that_just_went_back_assigns_anew_also_after_a_crash() {
    let (mut broker, old) = Broker::with_classic_member();
    broker.join("g", "new", &["t"]).unwrap();
    assert_eq!(broker.classic_beat(&old, 1), Err(GroupError::RebalanceInProgress));
    broker.classic_join(&old, &[0, 1]).unwrap();
    assert_eq!(broker.classic_sync(&old, 1, &[]), Ok(vec![0]));
    broker.classic_join(&old, &[0]).unwrap();
    broker.classic_sync(&old, 2, &[]).unwrap();
    // The broker dies before the group has rebalanced: nobody reads what the new member had.
    broker.beat("g", "new", -1).unwrap();
    broker.restart();
    assert_eq!(broker.classic_beat(&old, 2), Err(GroupError::RebalanceInProgress));
    let joined = broker.classic_join(&old, &[0]).unwrap();
    assert_eq!((joined.generation, &joined.leader), (3, &old));
    broker.classic_sync(&old, 3, &[(&old, &[0, 1])]).unwrap();
    broker.restart();
    assert_eq!(broker.classic_beat(&old, 3), Ok(()));
}

/// It may be somebody else's still: the members have yet to be asked what they have.
#[test]
fn a_group_that_just_went_back_gives_nobody_its_target() {
    let (mut broker, old) = Broker::with_classic_member();
    broker.join("g", "new", &["t"]).unwrap();
    broker.classic_join(&old, &[0, 1]).unwrap();
    broker.beat("g", "new", -1).unwrap();
    let Group::Classic(group) = &broker.shard.groups["g"] else {
        panic!()
    };
    assert_eq!((group.state_name(), group.generation()), ("Stable", 2));
    assert_eq!(
        broker.classic_sync(&old, 2, &[]),
        Err(GroupError::RebalanceInProgress)
    );
}

#[test]
fn a_refused_upgrade_leaves_those_who_wait_alone() {
    let (mut broker, leader) = Broker::with_classic_member();
    // A second member waits for the first to join again.
    let waits = Ticket(7);
    let request = Broker::classic_joining("", &[]);
    let told = broker.parked(|shard, context| shard.join_group(context, &request, waits));
    assert_eq!(told, []);
    let deadlines = broker.shard.timers.clone();
    let mut refused = Broker::joining("g", "new", &[]);
    refused.subscribed_topics = None;
    refused.subscribed_regex = Some("(".into());
    let mut answer = None;
    let told = broker.parked(|shard, context| answer = Some(shard.consumer_heartbeat(context, &refused)));
    assert!(
        matches!(answer, Some(Err(GroupError::InvalidRegularExpression(_)))),
        "{answer:?}"
    );
    assert_eq!(told, []);
    assert_eq!(broker.shard.timers, deadlines);
    // It is answered as if nothing had been.
    let request = Broker::classic_joining(&leader, &[0, 1]);
    let told = broker.parked(|shard, context| shard.join_group(context, &request, Ticket(8)));
    let told: Vec<Ticket> = told.into_iter().map(|(ticket, _)| ticket).collect();
    assert!(told.contains(&waits), "{told:?}");
}

#[test]
fn who_was_told_of_an_upgrade_that_was_not_written_has_a_session() {
    let (mut broker, leader) = Broker::with_classic_member();
    let mut request = Broker::classic_joining("", &[]);
    request.instance_id = Some("i".into());
    broker.parked(|shard, context| shard.join_group(context, &request, Ticket(7)));
    broker.classic_join(&leader, &[0, 1]).unwrap();
    let id = broker.shard.groups.values().find_map(|group| match group {
        Group::Classic(group) => group
            .members()
            .map(|(id, _)| Arc::clone(id))
            .find(|id| *id != leader),
        Group::Consumer(_) => None,
    });
    let id = id.unwrap();
    broker
        .classic_sync(&leader, 2, &[(&leader, &[0]), (&id, &[1])])
        .unwrap();
    // The static member joins again and waits, longer than its session lasts.
    let mut again = Broker::classic_joining(&id, &[1]);
    (again.instance_id, again.protocols) = (
        Some("i".into()),
        Protocols::new(vec![("range".into(), subscription(&[0, 1]))]),
    );
    let told = broker.parked(|shard, context| shard.join_group(context, &again, Ticket(9)));
    assert_eq!(told, []);
    for _ in 0..2 {
        broker.advance(25_000);
        assert_eq!(
            broker.classic_beat(&leader, 2),
            Err(GroupError::RebalanceInProgress)
        );
    }
    broker.refuse_writes = true;
    broker.join("g", "new", &["t"]).unwrap();
    broker.refuse_writes = false;
    assert_eq!(broker.state("g"), "classic");
    // Nobody is heard of again, and so all go.
    for _ in 0..20 {
        broker.advance(25_000);
    }
    let Group::Classic(group) = &broker.shard.groups["g"] else {
        panic!()
    };
    assert_eq!((group.state_name(), group.members().count()), ("Empty", 0));
}

#[test]
fn a_classic_member_may_come_and_go() {
    let mut broker = Broker::new(&[("t", 2)]);
    broker.join("g", "new", &["t"]).unwrap();
    let joined = broker.classic_join("", &[]).unwrap();
    assert_eq!(
        (joined.generation, joined.protocol.as_deref()),
        (3, Some("range"))
    );
    let id = joined.member_id;
    assert_eq!(broker.classic_sync(&id, 3, &[]), Ok(vec![]));
    assert_eq!(
        broker.classic_sync(&id, 2, &[]),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(broker.classic_beat(&id, 3), Ok(()));
    broker.beat("g", "new", 2).unwrap();
    broker.own("g", "new", 2, &[0]).unwrap();
    assert_eq!(broker.classic_beat(&id, 3), Err(GroupError::RebalanceInProgress));
    broker.classic_join(&id, &[]).unwrap();
    assert_eq!(broker.classic_sync(&id, 3, &[]), Ok(vec![1]));
    assert_eq!(broker.classic_leave(&id), [Ok(())]);
    assert!(matches!(
        broker.classic_leave(&id)[0],
        Err(GroupError::UnknownMemberId(_))
    ));
    let new = broker.beat("g", "new", 3).unwrap();
    assert_eq!((new.member_epoch, topics(&new)), (4, Some(vec![0, 1])));
}

#[test]
fn a_classic_member_is_not_told_to_join_while_the_next_assignment_waits() {
    let mut broker = Broker::new(&[("t", 2)]);
    broker.settings.consumer_assignment_interval_ms = 5_000;
    broker.join("g", "new", &["t"]).unwrap();
    let joined = broker.classic_join("", &[]).unwrap();
    let id = joined.member_id;
    assert_eq!(joined.generation, 2);
    assert_eq!(broker.classic_sync(&id, 2, &[]), Ok(vec![]));
    broker.advance(4_999);
    assert_eq!(broker.classic_beat(&id, 2), Ok(()));
    broker.advance(1);
    assert_eq!(broker.classic_beat(&id, 2), Err(GroupError::RebalanceInProgress));
    assert_eq!(broker.classic_join(&id, &[]).unwrap().generation, 3);
    assert_eq!(broker.classic_beat(&id, 3), Ok(()));
}

#[test]
fn a_classic_member_that_does_not_join_again_in_time_is_removed() {
    let (mut broker, old) = Broker::with_classic_member();
    broker.join("g", "new", &["t"]).unwrap();
    for _ in 0..3 {
        assert_eq!(broker.classic_beat(&old, 1), Err(GroupError::RebalanceInProgress));
        broker.beat("g", "new", 2).unwrap();
        broker.advance(20_000);
    }
    assert!(matches!(
        broker.classic_beat(&old, 1),
        Err(GroupError::UnknownMemberId(_))
    ));
    let new = broker.beat("g", "new", 2).unwrap();
    assert_eq!((new.member_epoch, topics(&new)), (3, Some(vec![0, 1])));
}

#[test]
fn groups_that_cannot_go_over_say_why() {
    let (mut broker, _) = Broker::with_classic_member();
    broker.settings.consumer_migration_policy = MigrationPolicy::Downgrade;
    assert_eq!(
        broker.join("g", "new", &["t"]).unwrap_err().to_string(),
        "Cannot upgrade classic group g to consumer group because online upgrade is disabled."
    );
    broker.settings.consumer_migration_policy = MigrationPolicy::Upgrade;
    broker.join("g", "new", &["t"]).unwrap();
    broker.beat("g", "new", -1).unwrap();
    // It does not go back, either.
    assert_eq!(broker.state("g"), "Assigning");
}

#[test]
fn an_empty_group_becomes_one_of_the_other_protocol() {
    let mut broker = Broker::new(&[("t", 1)]);
    broker.join("g", "a", &["t"]).unwrap();
    broker.beat("g", "a", -1).unwrap();
    broker.refuse_writes = true;
    drop(broker.classic_join("", &[]));
    broker.refuse_writes = false;
    assert_eq!(broker.state("g"), "Empty");
    let joined = broker.classic_join("", &[]).unwrap();
    assert_eq!((broker.state("g"), joined.generation), ("classic", 1));
    let id = joined.member_id;
    broker.classic_sync(&id, 1, &[(&id, &[0])]).unwrap();
    broker.classic_leave(&id);
    let a = broker.join("g", "a", &["t"]).unwrap();
    assert_eq!((a.member_epoch, topics(&a)), (2, Some(vec![0])));
}

#[test]
fn offsets_keep_a_group_when_it_changes_its_protocol() {
    let mut broker = Broker::new(&[("t", 1)]);
    broker.join("g", "a", &["t"]).unwrap();
    broker.beat("g", "a", -1).unwrap();
    let commit = CommitRequest {
        group: "g".into(),
        member_id: "".into(),
        instance_id: None,
        generation_or_epoch: -1,
        request_version: 9,
        retention_ms: None,
        topics: vec![CommitTopic {
            topic: TopicRef::Name("t".into()),
            partitions: vec![CommitPartition {
                partition: 0,
                offset: 5,
                leader_epoch: -1,
                metadata: None,
            }],
        }],
    };
    let answer = broker.run(|shard, context| shard.commit_offsets(context, &commit));
    assert!(answer.iter().flatten().all(Result::is_ok), "{answer:?}");
    let has_offset = |broker: &Broker| broker.shard.offsets.get("g", "t", 0).is_some();

    // A member of long ago does not end the group.
    let refused = broker.classic_join("old", &[]).unwrap_err();
    assert_eq!(refused.error, GroupError::UnknownMemberId("old".to_owned()));
    assert_eq!(broker.state("g"), "Empty");
    // One that leaves before it was given anything leaves the group behind, as a start finds it.
    let joined = broker.classic_join("", &[]).unwrap();
    broker.classic_leave(&joined.member_id);
    assert_eq!((broker.state("g"), has_offset(&broker)), ("classic", true));
    broker.restart();
    assert_eq!((broker.state("g"), has_offset(&broker)), ("classic", true));
}

#[test]
fn a_group_without_a_generation_goes_over_in_an_epoch_that_is_not_a_newcomers() {
    let mut broker = Broker::new(&[]);
    broker.settings.initial_rebalance_delay = std::time::Duration::from_secs(3);
    let request = Broker::classic_joining("", &[]);
    let replies = broker.parked(|shard, context| shard.join_group(context, &request, Ticket(1)));
    assert!(replies.is_empty());
    let joined = broker.join("g", "m", &[]).unwrap();
    assert_eq!(joined.member_epoch, 2);
    assert_eq!(broker.beat("g", "m", 2).unwrap().member_epoch, 2);
}

#[test]
fn what_a_leader_gave_out_and_nobody_wants_is_taken_back_when_the_group_goes_over() {
    let mut broker = Broker::new(&[("t", 1)]);
    let mut to_another = subscription(&[]).to_vec();
    to_another[8] = b'u';
    let mut request = Broker::classic_joining("", &[]);
    request.protocols = Protocols::new(vec![("range".into(), to_another.into())]);
    let replies = broker.parked(|shard, context| shard.join_group(context, &request, Ticket(1)));
    let Some((_, Reply::Join(Ok(joined)))) = replies.first() else {
        panic!("{replies:?}");
    };
    let old = &*joined.member_id;
    assert_eq!(broker.classic_sync(old, 1, &[(old, &[0])]), Ok(vec![0]));
    // It has no topic, either, by which the topics of the group would be others.
    assert_eq!(broker.join("g", "new", &[]).unwrap().member_epoch, 2);
    assert_eq!(broker.classic_beat(old, 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_group_whose_last_member_leaves_before_it_assigns_anew_stays_empty() {
    let (mut broker, old) = Broker::with_classic_member();
    broker.settings.initial_rebalance_delay = std::time::Duration::from_secs(3);
    broker.join("g", "new", &["t"]).unwrap();
    broker.beat("g", "new", -1).unwrap();
    broker.classic_leave(&old);
    let written = broker.log.len();
    let state = |broker: &Broker| broker.shard.groups["g"].state_name();
    assert_eq!(state(&broker), "Empty");
    broker.advance(0);
    assert_eq!((state(&broker), broker.log.len()), ("Empty", written));
}
