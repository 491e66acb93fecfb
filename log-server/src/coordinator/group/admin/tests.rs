//! Groups as those see and delete them who manage them.
//! Classic groups come from their records; what members do is tested with their protocol.

use std::sync::Arc;

use super::describe::DescribedGroup;
use super::list::GroupFilter;
use crate::coordinator::group::classic::join::JoinRequest;
use crate::coordinator::group::classic::member::Protocols;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::{
    ClassicGroupValue, ClassicMemberValue, ConsumerGroupValue, GroupRecord, OffsetCommitValue,
};
use crate::coordinator::group::testing::world::World;

/// "busy" has a member, "idle" lost its last one, "simple" only commits, "modern" is of KIP-848.
fn world() -> World {
    let mut world = World::new(1);
    world.topics.set("t", 2);
    let classic = |group: &str, members: Vec<ClassicMemberValue>| GroupRecord::ClassicGroup {
        group: group.into(),
        value: Some(ClassicGroupValue {
            protocol_type: "consumer".into(),
            generation: 1,
            protocol: (!members.is_empty()).then(|| "range".into()),
            leader: members.first().map(|member| Arc::clone(&member.member_id)),
            state_timestamp_ms: 0,
            members,
        }),
    };
    let member = ClassicMemberValue {
        member_id: "m".into(),
        instance_id: Some("i".into()),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 60_000,
        subscription: vec![1].into(),
        assignment: vec![2].into(),
    };
    let commits =
        [("simple", 0), ("simple", 1), ("idle", 0)].map(|(group, partition)| GroupRecord::OffsetCommit {
            group: group.into(),
            topic: "t".into(),
            partition,
            value: Some(OffsetCommitValue {
                offset: 1,
                leader_epoch: -1,
                metadata: "".into(),
                commit_timestamp_ms: 0,
                expire_timestamp_ms: None,
                topic_id: log_core::model::TopicId::ZERO,
            }),
        });
    let modern = GroupRecord::ConsumerGroup {
        group: "modern".into(),
        value: Some(ConsumerGroupValue {
            epoch: 1,
            metadata_hash: 0,
        }),
    };
    world
        .run(|_, context| {
            context
                .records
                .extend([classic("busy", vec![member]), classic("idle", Vec::new()), modern]);
            context.records.extend(commits);
        })
        .unwrap();
    world
}

fn listed(world: &World, states: &[&str], kinds: &[&str]) -> String {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let filter = GroupFilter {
        states: owned(states),
        kinds: owned(kinds),
    };
    let groups = world.shard.list_groups(&filter);
    let texts = groups.iter().map(|each| {
        format!(
            "{}:{}:{}:{}",
            each.group, each.protocol_type, each.state, each.kind
        )
    });
    texts.collect::<Vec<_>>().join(" ")
}

#[test]
fn groups_are_listed_by_state_and_kind() {
    let world = world();
    assert_eq!(
        listed(&world, &[], &[]),
        "busy:consumer:Stable:classic idle:consumer:Empty:classic modern:consumer:Empty:consumer simple::Empty:classic"
    );
    assert_eq!(
        listed(&world, &["stable", "no"], &[]),
        "busy:consumer:Stable:classic"
    );
    assert_eq!(
        listed(&world, &[], &["Consumer"]),
        "modern:consumer:Empty:consumer"
    );
    assert_eq!(listed(&world, &["Stable"], &["consumer"]), "");
    assert_eq!(listed(&world, &[""], &[]), "");
}

#[test]
fn members_of_a_group_that_rebalances_are_described_with_what_they_had() {
    let mut world = world();
    let newcomer = JoinRequest {
        group: "busy".into(),
        member_id: "".into(),
        instance_id: None,
        client_id: "n".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: Protocols::new(vec![("range".into(), vec![3].into())]),
        reason: String::new(),
        id_required: false,
        may_skip_assignment: true,
    };
    world.run_parked(|shard, context, ticket| shard.join_group(context, &newcomer, ticket));
    let busy = world.shard.describe_classic_group("busy").unwrap();
    assert_eq!((busy.state, &*busy.protocol), ("PreparingRebalance", ""));
    let members = busy.members.iter();
    let described: Vec<_> = members
        .map(|member| {
            (
                &*member.client_id,
                member.metadata.len(),
                member.assignment.as_ref(),
            )
        })
        .collect();
    assert_eq!(described, [("c", 0, [2].as_slice()), ("n", 0, &[])]);
}

#[test]
fn a_classic_group_is_described_with_its_members() {
    let world = world();
    let busy = world.shard.describe_classic_group("busy").unwrap();
    assert_eq!(
        (busy.state, &*busy.protocol_type, &*busy.protocol),
        ("Stable", "consumer", "range")
    );
    let member = &busy.members[0];
    assert_eq!(
        (&*member.member_id, member.instance_id.as_deref()),
        ("m", Some("i"))
    );
    assert_eq!(
        (member.metadata.as_ref(), member.assignment.as_ref()),
        ([1].as_slice(), [2].as_slice())
    );
    let simple = DescribedGroup {
        state: "Empty",
        protocol_type: "".into(),
        protocol: "".into(),
        members: Vec::new(),
    };
    assert_eq!(world.shard.describe_classic_group("simple"), Ok(simple));
    for (group, text) in [
        ("no", "Group no not found."),
        ("modern", "Group modern is not a classic group."),
    ] {
        let error = GroupError::GroupIdNotFound(text.to_owned());
        assert_eq!(world.shard.describe_classic_group(group), Err(error));
    }
}

#[test]
fn a_group_without_members_is_deleted_with_its_offsets() {
    let mut world = world();
    let delete = |world: &mut World, group: &str| {
        world
            .run(|shard, context| shard.delete_group(context, &group.into()))
            .unwrap()
    };
    assert_eq!(delete(&mut world, "busy"), Err(GroupError::NonEmptyGroup));
    for group in ["simple", "idle", "modern"] {
        assert_eq!(delete(&mut world, group), Ok(()), "{group}");
        let text = format!("Group {group} not found.");
        assert_eq!(delete(&mut world, group), Err(GroupError::GroupIdNotFound(text)));
    }
    for shard in [&world.shard, &world.replayed()] {
        assert_eq!(shard.list_groups(&GroupFilter::default()).len(), 1);
        assert_eq!(shard.offsets.count(), 0);
    }
}
