//! Who leaves, who is thrown out, and static members that come back.

use super::*;

fn is_unknown(result: &Result<(), GroupError>) -> bool {
    matches!(result, Err(GroupError::UnknownMemberId(_)))
}

fn static_join(instance_id: &str) -> JoinRequest {
    JoinRequest {
        instance_id: Some(instance_id.into()),
        ..joining("")
    }
}

#[test]
fn the_last_one_to_leave_leaves_an_empty_group() {
    let mut scene = Scene::new();
    let ids = scene.stable(2);
    assert_eq!(scene.leave(&ids[0]), Ok(()));
    assert_eq!(scene.state(), "PreparingRebalance");
    assert!(is_unknown(&scene.leave(&ids[0])));
    assert_eq!(scene.leave(&ids[1]), Ok(()));
    assert_eq!((scene.state(), scene.group().generation()), ("Empty", 3));
    assert_eq!(scene.world.replayed().groups.len(), 1);
    assert!(scene.world.shard.next_deadline().is_none());
    let joined = scene.join(&joining("")).unwrap();
    assert_eq!(joined.generation, 4);
}

#[test]
fn a_silent_member_is_gone_after_its_session() {
    let mut scene = Scene::new();
    let ids = scene.stable(2);
    scene.world.advance(SESSION_MS - 1);
    assert_eq!(scene.heartbeat(&ids[0], 2), Ok(()));
    scene.world.advance(1);
    assert_eq!(
        (scene.state(), scene.group().members.len()),
        ("PreparingRebalance", 1)
    );
    let joined = scene.join(&joining(&ids[0])).unwrap();
    assert_eq!((joined.generation, joined.members.len()), (3, 1));
}

#[test]
fn who_sets_the_clock_neither_ends_a_session_nor_keeps_one() {
    let mut scene = Scene::new();
    let ids = scene.stable(2);
    scene.world.now = scene.world.now.saturating_plus(1_000_000_000);
    scene.world.advance(SESSION_MS - 1);
    assert_eq!(scene.heartbeat(&ids[0], 2), Ok(()));
    scene.world.now = scene.world.now.saturating_plus(-2_000_000_000);
    scene.world.advance(1);
    assert_eq!(
        (scene.state(), scene.group().members.len()),
        ("PreparingRebalance", 1)
    );
}

#[test]
fn members_that_do_not_sync_are_gone() {
    let mut scene = Scene::new();
    let ids = scene.stable(2);
    let follower = scene.send_join(&joining(&ids[0]));
    scene.join(&joining(&ids[1])).unwrap();
    scene.joined(follower).unwrap();
    let waits = scene.send_sync(&ids[1], 3, &[]);
    for _ in 0..10 {
        scene.heartbeat(&ids[0], 3).unwrap();
        scene.world.advance(REBALANCE_MS / 10);
    }
    assert_eq!(scene.synced(waits), Err(GroupError::RebalanceInProgress));
    assert_eq!(
        (scene.state(), scene.group().members.len()),
        ("PreparingRebalance", 1)
    );
}

#[test]
fn a_session_begins_anew_when_the_waiting_ends() {
    let mut scene = Scene::new();
    let ids = scene.stable(2);
    let leader = scene.send_join(&joining(&ids[0]));
    scene.join(&joining(&ids[1])).unwrap();
    scene.joined(leader).unwrap();
    let waits = scene.send_sync(&ids[1], 3, &[]);
    for _ in 0..4 {
        scene.world.advance(SESSION_MS / 2);
        scene.heartbeat(&ids[0], 3).unwrap();
    }
    scene.sync(&ids[0], 3, &[]).unwrap();
    scene.synced(waits).unwrap();
    scene.world.advance(SESSION_MS - 1);
    scene.heartbeat(&ids[0], 3).unwrap();
    scene.world.advance(1);
    assert_eq!(
        (scene.state(), scene.group().members.len()),
        ("PreparingRebalance", 1)
    );
}

#[test]
fn a_member_that_leaves_while_it_waits_is_answered() {
    let mut scene = Scene::new();
    let ids = scene.stable(3);
    let waits = scene.send_join(&joining(&ids[0]));
    scene.leave(&ids[0]).unwrap();
    let refused = scene.joined(waits).unwrap_err();
    assert!(matches!(refused.error, GroupError::UnknownMemberId(_)) && refused.member_id.is_empty());
    let leader = scene.send_join(&joining(&ids[1]));
    scene.join(&joining(&ids[2])).unwrap();
    let leader = scene.joined(leader).unwrap().leader;
    let follower = if leader == ids[1] { &ids[2] } else { &ids[1] };
    let waits = scene.send_sync(follower, 4, &[]);
    scene.leave(follower).unwrap();
    assert!(matches!(scene.synced(waits), Err(GroupError::UnknownMemberId(_))));
}

#[test]
fn several_leave_at_once_by_their_static_ids() {
    let mut scene = Scene::new();
    let first = scene.join(&static_join("a")).unwrap().member_id;
    let leaving: Vec<LeavingMember> = [
        ("", Some("a")),
        ("", Some("b")),
        (&*first, Some("a")),
        ("x", None),
    ]
    .into_iter()
    .map(|(id, instance_id)| LeavingMember {
        member_id: id.into(),
        instance_id: instance_id.map(Into::into),
        reason: "test".to_owned(),
    })
    .collect();
    let left = scene
        .world
        .run(|shard, context| shard.leave_group(context, GROUP, &leaving))
        .unwrap()
        .unwrap();
    assert_eq!(left[0], Ok(()));
    assert!(left[1..].iter().all(is_unknown), "{left:?}");
    assert_eq!(scene.state(), "Empty");
    let elsewhere = scene
        .world
        .run(|shard, context| shard.leave_group(context, "other", &leaving))
        .unwrap()
        .unwrap();
    assert!(elsewhere.iter().all(is_unknown));
}

#[test]
fn a_static_member_that_comes_back_goes_on() {
    let mut scene = Scene::new();
    let old = scene.join(&static_join("a")).unwrap().member_id;
    scene.sync(&old, 1, &[(&old, b"all")]).unwrap();
    let back = scene.join(&static_join("a")).unwrap();
    assert!(back.skip_assignment && back.members.len() == 1 && back.members[0].member_id == back.member_id);
    assert_eq!((back.generation, &back.leader), (1, &back.member_id));
    assert_ne!(back.member_id, old);
    assert_eq!(scene.sync(&back.member_id, 1, &[]).unwrap(), "all");
    let fenced = scene
        .group()
        .validate_offset_commit(&committer(&old, Some("a"), PLAIN));
    assert_eq!(fenced, Err(GroupError::FencedInstanceId));
    assert!(is_unknown(&scene.heartbeat(&old, 1)));
    // A client that does not know how to skip is told that somebody else leads.
    let older = scene
        .join(&JoinRequest {
            may_skip_assignment: false,
            ..static_join("a")
        })
        .unwrap();
    assert_eq!((older.leader, older.skip_assignment), (back.member_id, false));
    scene.world.crash(0);
    assert_eq!(scene.heartbeat(&older.member_id, 1), Ok(()));
    // Another choice of protocols is a rebalance.
    let mut changed = static_join("a");
    changed.protocols = protocols(&[("other", b"")]);
    assert_eq!(
        scene.join(&changed).unwrap_err().error,
        GroupError::InconsistentGroupProtocol
    );
    changed.protocols = protocols(&[("other", b""), ("range", b"")]);
    assert_eq!(scene.join(&changed).unwrap().generation, 2);
}

#[test]
fn a_static_member_is_fenced_by_the_next_wherever_it_waits() {
    let mut scene = Scene::new();
    let first = scene.stable(1).remove(0);
    let waits = scene.send_join(&static_join("a"));
    let next = scene.send_join(&static_join("a"));
    assert_eq!(scene.join_error(waits), GroupError::FencedInstanceId);
    scene.join(&joining(&first)).unwrap();
    let member = scene.joined(next).unwrap().member_id;
    let waits = scene.send_sync(&member, 2, &[]);
    let next = scene.send_join(&static_join("a"));
    assert_eq!(scene.synced(waits), Err(GroupError::FencedInstanceId));
    assert_eq!(scene.state(), "PreparingRebalance");
    scene.join(&joining(&first)).unwrap();
    assert_eq!(scene.joined(next).unwrap().generation, 3);
}

#[test]
fn static_members_that_are_silent_are_waited_for() {
    let mut scene = Scene::new();
    let mut slow = static_join("a");
    (slow.rebalance_timeout_ms, slow.session_timeout_ms) = (0, 600_000);
    let id = scene.join(&slow).unwrap().member_id;
    scene.sync(&id, 1, &[]).unwrap();
    let mut other = joining("");
    other.rebalance_timeout_ms = 1_000;
    let ticket = scene.send_join(&other);
    scene.world.advance(1_000);
    let joined = scene.joined(ticket).unwrap();
    assert_eq!((joined.generation, scene.group().members.len()), (2, 2));
    scene.leave(&joined.member_id).unwrap();
    assert_eq!(scene.state(), "PreparingRebalance");
    // Nobody is there to go on with, and the group does not spin meanwhile.
    scene.world.advance(599_000);
    assert_eq!(
        (scene.state(), scene.group().members.len()),
        ("PreparingRebalance", 1)
    );
    scene.world.advance(1_000);
    assert_eq!((scene.state(), scene.group().members.len()), ("Empty", 0));
}

#[test]
fn a_session_of_no_length_that_ends_while_its_member_waits_is_looked_at_now_and_then() {
    let mut scene = Scene::new();
    scene.world.settings.session_timeout_min_ms = 0;
    let leader = scene.stable(1).remove(0);
    let mut brief = joining("");
    brief.session_timeout_ms = 0;
    let newcomer = scene.send_join(&brief);
    scene.join(&joining(&leader)).unwrap();
    let id = scene.joined(newcomer).unwrap().member_id;
    let generation = scene.group().generation();
    let sync = scene.send_sync(&id, generation, &[]);
    scene.world.advance(5_000);
    scene.sync(&leader, generation, &[(&*id, b"its")]).unwrap();
    assert_eq!(scene.synced(sync).unwrap(), b"its".as_slice());
}
