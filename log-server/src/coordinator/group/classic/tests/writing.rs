//! Records: what a restart brings back, and what is said when nothing could be written.

use super::*;

#[test]
fn a_restart_goes_unnoticed() {
    let mut scene = Scene::new();
    let ids = scene.stable(2);
    let before = format!("{:?}", scene.group());
    scene.world.crash(0);
    assert_eq!(format!("{:?}", scene.group()), before);
    scene.world.advance(SESSION_MS - 1);
    assert_eq!(scene.heartbeat(&ids[0], 2), Ok(()));
    assert_eq!(scene.heartbeat(&ids[1], 2), Ok(()));
    scene.world.advance(SESSION_MS - 1);
    assert_eq!((scene.state(), scene.group().members.len()), ("Stable", 2));
}

#[test]
fn a_generation_that_nobody_assigned_is_gone_after_a_crash() {
    let mut scene = Scene::new();
    let ids = scene.stable(1);
    let joined = scene.join(&joining(&ids[0])).unwrap();
    assert_eq!(joined.generation, 2);
    scene.world.crash(0);
    assert_eq!((scene.state(), scene.group().generation()), ("Stable", 1));
    assert_eq!(scene.heartbeat(&ids[0], 2), Err(GroupError::IllegalGeneration));
    assert_eq!(scene.join(&joining(&ids[0])).unwrap().generation, 2);
}

#[test]
fn a_refused_assignment_is_nobodys() {
    let mut scene = Scene::new();
    let ids = scene.stable(2);
    let leader = scene.send_join(&joining(&ids[0]));
    scene.join(&joining(&ids[1])).unwrap();
    scene.joined(leader).unwrap();
    let follower = scene.send_sync(&ids[1], 3, &[]);
    scene.world.refuse_writes = true;
    let refused = scene.sync(&ids[0], 3, &[(&ids[1], b"all")]);
    assert!(matches!(refused, Err(GroupError::NotAvailable(_))));
    assert!(matches!(scene.synced(follower), Err(GroupError::NotAvailable(_))));
    assert_eq!(scene.state(), "PreparingRebalance");
    scene.world.refuse_writes = false;
    let leader = scene.send_join(&joining(&ids[0]));
    assert_eq!(scene.join(&joining(&ids[1])).unwrap().generation, 4);
    scene.joined(leader).unwrap();
}

#[test]
fn a_refused_replacement_leaves_the_old_member() {
    let mut scene = Scene::new();
    let mut request = joining("");
    request.instance_id = Some("a".into());
    let old = scene.join(&request).unwrap().member_id;
    scene.sync(&old, 1, &[]).unwrap();
    scene.world.refuse_writes = true;
    let ticket = scene.send_join(&request);
    assert!(matches!(
        scene.world.take(ticket),
        Some(Told::Failed(GroupError::NotAvailable(_)))
    ));
    assert_eq!(scene.heartbeat(&old, 1), Ok(()));
    scene.world.refuse_writes = false;
    scene.world.advance(SESSION_MS);
    assert_eq!(scene.state(), "Empty");
}

#[test]
fn a_group_that_was_never_written_leaves_nothing_behind() {
    // By leaving, and by silence.
    for leaves in [true, false] {
        let mut scene = Scene::new();
        let id = scene.join(&joining("")).unwrap().member_id;
        scene.world.refuse_writes = true;
        if leaves {
            scene
                .world
                .run(|shard, context| shard.leave_group(context, GROUP, &[leaving(&id)]))
                .unwrap_err();
        } else {
            scene.world.advance(REBALANCE_MS);
        }
        assert!(scene.world.shard.groups.is_empty());
        assert!(scene.world.shard.next_deadline().is_none());
    }
}

#[test]
fn a_group_that_emptied_without_a_record_tries_again() {
    let mut scene = Scene::new();
    let ids = scene.stable(1);
    scene.world.refuse_writes = true;
    let left = scene
        .world
        .run(|shard, context| shard.leave_group(context, GROUP, &[leaving(&ids[0])]));
    assert!(matches!(left, Err(GroupError::NotAvailable(_))));
    // No record says that it is empty, and so nobody is told that it is.
    assert_eq!(
        (scene.state(), scene.group().generation()),
        ("PreparingRebalance", 1)
    );
    assert_eq!(scene.group().validate_delete(), Err(GroupError::NonEmptyGroup));
    scene.world.advance(10_000);
    assert_eq!(scene.state(), "PreparingRebalance");
    scene.world.refuse_writes = false;
    scene.world.advance(1_000);
    assert_eq!((scene.state(), scene.group().generation()), ("Empty", 2));
    assert!(scene.world.shard.next_deadline().is_none());
    scene.world.crash(0);
    assert_eq!((scene.state(), scene.group().generation()), ("Empty", 2));
}

#[test]
fn a_restart_before_the_end_is_written_brings_the_members_back() {
    let mut scene = Scene::new();
    let ids = scene.stable(1);
    scene.world.refuse_writes = true;
    let left = scene
        .world
        .run(|shard, context| shard.leave_group(context, GROUP, &[leaving(&ids[0])]));
    assert!(matches!(left, Err(GroupError::NotAvailable(_))));
    scene.world.crash(0);
    assert_eq!(scene.state(), "Stable");
    scene.world.refuse_writes = false;
    scene.world.advance(SESSION_MS);
    assert_eq!((scene.state(), scene.group().generation()), ("Empty", 2));
}

fn leaving(id: &Arc<str>) -> LeavingMember {
    LeavingMember {
        member_id: Arc::clone(id),
        instance_id: None,
        reason: String::new(),
    }
}

#[test]
fn subscribed_topics_are_known_or_assumed() {
    let mut scene = Scene::new();
    let ids = scene.stable(1);
    let group = scene.group();
    assert!(group.is_subscribed_to("t") && !group.is_subscribed_to("u"));
    assert_eq!(group.expiration_base_ms(5), Some(5));
    let mut garbage = joining(&ids[0]);
    garbage.protocols = protocols(&[("range", b"\0\0\x7f\xff\xff\xff")]);
    scene.join(&garbage).unwrap();
    assert!(scene.group().is_subscribed_to("u") && scene.group().expiration_base_ms(5).is_none());
    scene.leave(&ids[0]).unwrap();
    let group = scene.group();
    assert!(!group.is_subscribed_to("t") && group.validate_delete().is_ok());
    assert_eq!(group.expiration_base_ms(5), Some(scene.world.now.get()));
}
