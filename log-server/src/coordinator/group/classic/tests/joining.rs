//! Joins and syncs: who waits, who is told what, and what ends the waiting.

use super::*;
use crate::coordinator::group::record::codec::NAME_BYTES_MAX;
use crate::coordinator::record::LogRecord as _;

#[test]
fn the_first_member_is_answered_at_once() {
    let mut scene = Scene::new();
    let mut request = joining("");
    request.id_required = true;
    let refused = scene.join(&request).unwrap_err();
    assert_eq!(refused.error, GroupError::MemberIdRequired);
    assert!(refused.member_id.starts_with("client-") && refused.member_id.len() == 7 + 36);
    request.member_id = Arc::clone(&refused.member_id);
    let joined = scene.join(&request).unwrap();
    assert_eq!(
        (joined.generation, joined.protocol.as_deref()),
        (1, Some("range"))
    );
    assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
    assert_eq!(scene.state(), "CompletingRebalance");
    assert_eq!(scene.heartbeat(&joined.member_id, 1), Ok(()));
    let commit_as = |scene: &Scene, kind| {
        let committer = committer(&joined.member_id, None, kind);
        scene.group().validate_offset_commit(&committer)
    };
    let commit = |scene: &Scene| commit_as(scene, PLAIN);
    assert_eq!(commit(&scene), Err(GroupError::RebalanceInProgress));
    // A transaction's commit counts when it ends; until then the group's state is its own business.
    assert_eq!(commit_as(&scene, CommitKind::Transactional), Ok(()));
    assert_eq!(
        scene
            .sync(&joined.member_id, 1, &[(&joined.member_id, b"all")])
            .unwrap(),
        "all"
    );
    assert_eq!((scene.state(), commit(&scene)), ("Stable", Ok(())));
    // Whoever did not get the answer asks again.
    assert_eq!(scene.sync(&joined.member_id, 1, &[]).unwrap(), "all");
}

#[test]
fn only_the_leader_sees_the_others() {
    let mut scene = Scene::new();
    let first = scene.stable(1).remove(0);
    let newcomer = scene.send_join(&joining(""));
    assert_eq!(scene.state(), "PreparingRebalance");
    assert_eq!(scene.heartbeat(&first, 1), Err(GroupError::RebalanceInProgress));
    let leader = scene.join(&joining(&first)).unwrap();
    let follower = scene.joined(newcomer).unwrap();
    assert_eq!((leader.generation, follower.generation), (2, 2));
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    assert_eq!(follower.leader, first);
    let waits = scene.send_sync(&follower.member_id, 2, &[]);
    assert_eq!(scene.world.waiting_count(), 1);
    assert_eq!(
        scene.sync(&first, 2, &[(&follower.member_id, b"half")]).unwrap(),
        ""
    );
    assert_eq!(scene.synced(waits).unwrap(), "half");
}

#[test]
fn a_member_that_rejoins_unchanged_is_told_the_generation() {
    let mut scene = Scene::new();
    let ids = scene.stable(2);
    let again = scene.join(&joining(&ids[1])).unwrap();
    assert_eq!(
        (again.generation, again.members.len(), scene.state()),
        (2, 0, "Stable")
    );
    // The leader's asking is reason enough, and so are other protocols.
    let leader = scene.send_join(&joining(&ids[0]));
    assert_eq!(scene.state(), "PreparingRebalance");
    let follower = scene.join(&joining(&ids[1])).unwrap();
    assert_eq!(
        (scene.joined(leader).unwrap().generation, follower.generation),
        (3, 3)
    );
    let mut changed = joining(&ids[1]);
    changed.protocols = protocols(&[("range", b"other")]);
    scene.send_join(&changed);
    assert_eq!(scene.state(), "PreparingRebalance");
}

#[test]
fn a_member_that_asks_twice_is_answered_twice() {
    let mut scene = Scene::new();
    let ids = scene.stable(2);
    let leader = scene.send_join(&joining(&ids[0]));
    let again = scene.send_join(&joining(&ids[0]));
    assert_eq!(scene.join_error(leader), GroupError::RebalanceInProgress);
    scene.join(&joining(&ids[1])).unwrap();
    scene.joined(again).unwrap();
    let sync = scene.send_sync(&ids[1], 3, &[]);
    let again = scene.send_sync(&ids[1], 3, &[]);
    assert_eq!(scene.synced(sync), Err(GroupError::RebalanceInProgress));
    scene.sync(&ids[0], 3, &[]).unwrap();
    assert_eq!(scene.synced(again).unwrap(), "");
}

#[test]
fn protocols_are_chosen_by_vote() {
    let mut scene = Scene::new();
    let both = |id: &str, first, second| {
        let mut request = joining(id);
        request.protocols = protocols(&[(first, b"1"), (second, b"2")]);
        request
    };
    let first = scene.join(&both("", "range", "sticky")).unwrap();
    assert_eq!(first.protocol.as_deref(), Some("range"));
    let second = scene.send_join(&both("", "sticky", "range"));
    let third = scene.send_join(&both("", "sticky", "other"));
    let joined = scene.join(&both(&first.member_id, "range", "sticky")).unwrap();
    assert_eq!(joined.protocol.as_deref(), Some("sticky"));
    let metadata: Vec<_> = joined
        .members
        .iter()
        .map(|member| member.metadata.clone())
        .collect();
    assert!(metadata.contains(&Bytes::from_static(b"2")) && metadata.contains(&Bytes::from_static(b"1")));
    scene.joined(second).unwrap();
    scene.joined(third).unwrap();
    assert_eq!(
        scene.join(&both("", "range", "other")).unwrap_err().error,
        GroupError::InconsistentGroupProtocol
    );
    let mut connect = both("", "sticky", "range");
    connect.protocol_type = "connect".into();
    assert_eq!(
        scene.join(&connect).unwrap_err().error,
        GroupError::InconsistentGroupProtocol
    );
}

#[test]
fn a_new_group_waits_for_its_delay_when_there_is_one() {
    let mut scene = Scene::new();
    scene.world.settings.initial_rebalance_delay = std::time::Duration::from_secs(3);
    let first = scene.send_join(&joining(""));
    scene.world.advance(2_000);
    let second = scene.send_join(&joining(""));
    // One more came, so three more seconds.
    scene.world.advance(3_999);
    assert_eq!(scene.world.waiting_count(), 2);
    scene.world.advance(1);
    assert_eq!(scene.joined(first).unwrap().generation, 1);
    assert_eq!(scene.joined(second).unwrap().generation, 1);
}

#[test]
fn the_delay_ends_with_the_rebalance_timeout() {
    let mut scene = Scene::new();
    scene.world.settings.initial_rebalance_delay = std::time::Duration::from_secs(3);
    let joins: Vec<Ticket> = (0..10)
        .map(|_| {
            let mut request = joining("");
            request.rebalance_timeout_ms = 7_000;
            let ticket = scene.send_join(&request);
            scene.world.advance(1_000);
            ticket
        })
        .collect();
    let generations: Vec<i32> = joins[..7]
        .iter()
        .map(|ticket| scene.joined(*ticket).unwrap().generation)
        .collect();
    assert_eq!(generations, [1; 7]);
}

#[test]
fn members_that_do_not_rejoin_are_gone() {
    let mut scene = Scene::new();
    let ids = scene.stable(3);
    scene.send_join(&joining(""));
    let rejoining = scene.send_join(&joining(&ids[1]));
    // Their heartbeats keep them in the group until the rebalance has waited long enough.
    for _ in 0..12 {
        assert_eq!(scene.heartbeat(&ids[0], 3), Err(GroupError::RebalanceInProgress));
        scene.heartbeat(&ids[2], 3).unwrap_err();
        scene.world.advance(REBALANCE_MS / 12);
    }
    let joined = scene.joined(rejoining);
    assert_eq!(scene.group().members.len(), 2, "{joined:?}");
    assert_eq!(
        scene.heartbeat(&ids[0], 4),
        Err(GroupError::UnknownMemberId(ids[0].as_ref().to_owned()))
    );
}

#[test]
fn sizes_and_times_have_limits() {
    let mut scene = Scene::new();
    let mut request = joining("");
    request.session_timeout_ms = 5_999;
    assert!(matches!(
        scene.join(&request).unwrap_err().error,
        GroupError::InvalidSessionTimeout { .. }
    ));
    request.session_timeout_ms = 1_800_001;
    assert!(matches!(
        scene.join(&request).unwrap_err().error,
        GroupError::InvalidSessionTimeout { .. }
    ));
    request.group = "".into();
    assert_eq!(
        scene.join(&request).unwrap_err().error,
        GroupError::InvalidGroupId
    );
    assert!(scene.world.shard.groups.is_empty());
    scene.world.settings.size_max = 2;
    scene.stable(2);
    let refused = scene.join(&joining("")).unwrap_err();
    assert_eq!(
        (refused.error, &*refused.member_id),
        (GroupError::GroupMaxSizeReached(2), "")
    );
    assert_eq!(scene.state(), "Stable");
}

#[test]
fn an_id_that_nobody_redeems_is_forgotten() {
    let mut scene = Scene::new();
    let mut request = joining("");
    request.id_required = true;
    let id = scene.join(&request).unwrap_err().member_id;
    scene.world.advance(SESSION_MS - 1);
    assert!(scene.group().pending_joins.contains(&id));
    scene.world.advance(1);
    assert!(scene.world.shard.groups.is_empty());
    request.member_id = id;
    assert!(matches!(
        scene.join(&request).unwrap_err().error,
        GroupError::UnknownMemberId(_)
    ));
}

#[test]
fn names_of_any_length_are_written_or_refused() {
    let mut scene = Scene::new();
    let mut request = joining("");
    request.client_id = format!("{}x", "ä".repeat(NAME_BYTES_MAX / 2)).into();
    let id = scene.join(&request).unwrap().member_id;
    assert!(id.starts_with('ä') && id.len() <= NAME_BYTES_MAX, "{}", id.len());
    scene.sync(&id, 1, &[(&id, b"all")]).unwrap();
    for record in scene.world.log.iter().flatten() {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        record.encode_key(&mut key).unwrap();
        record.encode_value(&mut value).unwrap();
    }
    let long: Arc<str> = "x".repeat(NAME_BYTES_MAX + 1).into();
    let changes: [fn(&mut JoinRequest, Arc<str>); 5] = [
        |request, long| request.group = long,
        |request, long| request.member_id = long,
        |request, long| request.instance_id = Some(long),
        |request, long| request.protocol_type = long,
        |request, long| request.protocols = Protocols::new(vec![(long, Bytes::new())]),
    ];
    for change in changes {
        let mut request = joining("");
        change(&mut request, Arc::clone(&long));
        let refused = scene.join(&request).unwrap_err().error;
        assert!(matches!(refused, GroupError::InvalidRequest(_)), "{refused}");
    }
}

/// Asks for an id that is to be redeemed.
fn get_id(scene: &mut Scene, request: &JoinRequest) -> Arc<str> {
    let refused = scene.join(request).unwrap_err();
    assert_eq!(refused.error, GroupError::MemberIdRequired);
    refused.member_id
}

#[test]
fn ids_that_nobody_redeems_are_few_and_expire() {
    let mut scene = Scene::new();
    let mut request = joining("");
    request.id_required = true;
    let (first, second) = (get_id(&mut scene, &request), get_id(&mut scene, &request));
    for _ in 0..9_999 {
        get_id(&mut scene, &request);
    }
    assert_eq!(scene.world.shard.timers.pending_joins(), 10_000);
    scene.world.advance(0);
    // The first made room for the last.
    let again = |member_id| JoinRequest {
        member_id,
        ..request.clone()
    };
    let refused = scene.join(&again(first)).unwrap_err().error;
    assert!(matches!(refused, GroupError::UnknownMemberId(_)), "{refused}");
    // Who has an id joins with it; the others are forgotten.
    let ticket = scene.send_join(&again(second));
    scene.world.advance(SESSION_MS);
    assert_eq!(scene.joined(ticket).unwrap().generation, 1);
    assert_eq!(scene.world.shard.timers.pending_joins(), 0);
}

#[test]
fn who_takes_ids_without_end_keeps_nobody_out_of_another_group() {
    let mut scene = Scene::new();
    let mut greedy = JoinRequest {
        id_required: true,
        session_timeout_ms: 1_800_000,
        ..joining("")
    };
    for number in 0..10_000 {
        greedy.group = format!("group {number}").into();
        get_id(&mut scene, &greedy);
    }
    let modest = JoinRequest {
        id_required: true,
        ..joining("")
    };
    let id = get_id(&mut scene, &modest);
    // Its deadline is the first of all, and it is the newest.
    for _ in 0..9_999 {
        get_id(&mut scene, &greedy);
        scene.world.advance(0);
    }
    assert_eq!(scene.world.shard.timers.pending_joins(), 10_000);
    assert_eq!(scene.world.shard.groups.len(), 2);
    let ticket = scene.send_join(&JoinRequest {
        member_id: id,
        ..modest
    });
    scene.world.advance(0);
    assert_eq!(scene.joined(ticket).unwrap().generation, 1);
    scene.world.advance(1_800_000);
    assert!(!scene.world.shard.groups.contains_key(&greedy.group));
}
