//! KIP-848 groups by their heartbeats: what a member is told, and what is in the records.

mod migration;
mod support;
pub(in crate::coordinator::group) mod view;

use crate::coordinator::group::consumer::heartbeat::HeartbeatRequest;
use crate::coordinator::group::error::GroupError;

use support::{Broker, topics};

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut broker = Broker::new(&[("t", 3)]);
    let answer = broker.join("g", "a", &["t"]).unwrap();
    assert_eq!((answer.member_epoch, answer.heartbeat_interval_ms), (2, 5_000));
    assert_eq!(topics(&answer), Some(vec![0, 1, 2]));
    assert_eq!(broker.state("g"), "Stable");
    // Nothing new is not repeated.
    let answer = broker.beat("g", "a", 2).unwrap();
    assert_eq!((answer.member_epoch, topics(&answer)), (2, None));
}

#[test]
fn a_second_member_waits_for_what_the_first_gives_up() {
    let mut broker = Broker::new(&[("t", 6)]);
    broker.join("g", "a", &["t"]).unwrap();
    let b = broker.join("g", "b", &["t"]).unwrap();
    assert_eq!((b.member_epoch, topics(&b)), (3, Some(vec![])));
    assert_eq!(broker.state("g"), "Reconciling");
    // The first is told to give up, and stays in its epoch until it did.
    let a = broker.beat("g", "a", 2).unwrap();
    assert_eq!((a.member_epoch, topics(&a)), (2, Some(vec![0, 1, 2])));
    let b = broker.beat("g", "b", 3).unwrap();
    assert_eq!((b.member_epoch, topics(&b)), (3, None));
    let a = broker.own("g", "a", 2, &[0, 1, 2]).unwrap();
    assert_eq!((a.member_epoch, topics(&a)), (3, None));
    let b = broker.beat("g", "b", 3).unwrap();
    assert_eq!((b.member_epoch, topics(&b)), (3, Some(vec![3, 4, 5])));
    assert_eq!(broker.state("g"), "Stable");
    // One leaves: the other gets the rest with its next heartbeat.
    broker.beat("g", "b", -1).unwrap();
    let a = broker.beat("g", "a", 3).unwrap();
    assert_eq!((a.member_epoch, topics(&a)), (4, Some(vec![0, 1, 2, 3, 4, 5])));
}

#[test]
fn who_waits_for_partitions_asks_again_soon() {
    let mut broker = Broker::new(&[("t", 2)]);
    broker.join("g", "a", &["t"]).unwrap();
    let b = broker.join("g", "b", &["t"]).unwrap();
    assert_eq!((topics(&b), b.heartbeat_interval_ms), (Some(vec![]), 500));
    // Who is to give up asks again by itself when it did.
    assert_eq!(broker.beat("g", "a", 2).unwrap().heartbeat_interval_ms, 5_000);
    assert_eq!(broker.beat("g", "b", 3).unwrap().heartbeat_interval_ms, 500);
    assert_eq!(
        broker.own("g", "a", 2, &[0]).unwrap().heartbeat_interval_ms,
        5_000
    );
    let b = broker.beat("g", "b", 3).unwrap();
    assert_eq!((topics(&b), b.heartbeat_interval_ms), (Some(vec![1]), 5_000));
    // A group with a shorter interval keeps it.
    let mut broker = Broker::new(&[("t", 2)]);
    broker.settings.consumer_heartbeat_interval_ms = 100;
    broker.join("g", "a", &["t"]).unwrap();
    assert_eq!(broker.join("g", "b", &["t"]).unwrap().heartbeat_interval_ms, 100);
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_epoch_before() {
    let mut broker = Broker::new(&[("t", 4)]);
    broker.join("g", "a", &["t"]).unwrap();
    broker.join("g", "b", &["t"]).unwrap();
    broker.beat("g", "a", 2).unwrap();
    broker.own("g", "a", 2, &[0, 1]).unwrap();
    // The answer with epoch 2 was lost: what it has is its own, so it may go on.
    let a = broker.own("g", "a", 2, &[0, 1]).unwrap();
    assert_eq!(a.member_epoch, 3);
    let fenced = broker.own("g", "a", 2, &[0, 1, 2]).unwrap_err();
    assert!(matches!(fenced, GroupError::FencedMemberEpoch(_)), "{fenced}");
    let fenced = broker.beat("g", "a", 2).unwrap_err();
    assert!(matches!(fenced, GroupError::FencedMemberEpoch(_)), "{fenced}");
    let fenced = broker.beat("g", "a", 4).unwrap_err();
    assert!(
        fenced.to_string().contains("greater member epoch (4)"),
        "{fenced}"
    );
}

#[test]
fn a_member_that_is_silent_is_removed() {
    let mut broker = Broker::new(&[("t", 2)]);
    broker.join("g", "a", &["t"]).unwrap();
    broker.advance(20_000);
    broker.join("g", "b", &["t"]).unwrap();
    broker.advance(26_000);
    assert!(matches!(
        broker.beat("g", "a", 2),
        Err(GroupError::UnknownMemberId(_))
    ));
    let b = broker.beat("g", "b", 3).unwrap();
    assert_eq!((b.member_epoch, topics(&b)), (4, Some(vec![0, 1])));
}

#[test]
fn who_sets_the_clock_neither_ends_a_session_nor_keeps_one() {
    let mut broker = Broker::new(&[("t", 2)]);
    broker.join("g", "a", &["t"]).unwrap();
    broker.clock_step = 1_000_000_000;
    broker.advance(44_999);
    assert_eq!(broker.beat("g", "a", 2).unwrap().member_epoch, 2);
    broker.clock_step = -1_000_000_000;
    broker.advance(45_000);
    assert!(matches!(
        broker.beat("g", "a", 2),
        Err(GroupError::UnknownMemberId(_))
    ));
}

#[test]
fn a_member_that_gives_nothing_up_in_time_is_removed() {
    let mut broker = Broker::new(&[("t", 2)]);
    broker.join("g", "a", &["t"]).unwrap();
    broker.join("g", "b", &["t"]).unwrap();
    broker.beat("g", "a", 2).unwrap();
    broker.advance(29_999);
    broker.beat("g", "a", 2).unwrap();
    assert_eq!(broker.beat("g", "b", 3).unwrap().member_epoch, 3);
    broker.advance(1);
    assert!(matches!(
        broker.beat("g", "a", 2),
        Err(GroupError::UnknownMemberId(_))
    ));
    let b = broker.beat("g", "b", 3).unwrap();
    assert_eq!((b.member_epoch, topics(&b)), (4, Some(vec![0, 1])));
}

#[test]
fn a_topic_that_comes_or_grows_is_assigned_with_the_next_heartbeat() {
    let mut broker = Broker::new(&[]);
    let a = broker.join("g", "a", &["t"]).unwrap();
    assert_eq!((a.member_epoch, topics(&a)), (2, Some(vec![])));
    broker.topics.set("t", 2);
    let a = broker.beat("g", "a", 2).unwrap();
    assert_eq!((a.member_epoch, topics(&a)), (3, Some(vec![0, 1])));
    broker.topics.set("t", 3);
    let a = broker.beat("g", "a", 3).unwrap();
    assert_eq!((a.member_epoch, topics(&a)), (4, Some(vec![0, 1, 2])));
    broker.topics.set("other", 3);
    assert_eq!(broker.beat("g", "a", 4).unwrap().member_epoch, 4);
    // Gone: it has to be given up like anything else.
    broker.topics.remove("t");
    let a = broker.beat("g", "a", 4).unwrap();
    assert_eq!((a.member_epoch, topics(&a)), (4, Some(vec![])));
    let a = broker.own("g", "a", 4, &[]).unwrap();
    assert_eq!(a.member_epoch, 5);
}

#[test]
fn a_static_member_comes_back_to_its_partitions() {
    let mut broker = Broker::new(&[("t", 4)]);
    broker.join_static("g", "a", "one", &["t"]).unwrap();
    broker.join("g", "b", &["t"]).unwrap();
    let taken = broker.join_static("g", "c", "one", &["t"]).unwrap_err();
    assert!(matches!(taken, GroupError::UnreleasedInstanceId(_)), "{taken}");
    broker.leave_static("g", "a", "one", -2).unwrap();
    let c = broker.join_static("g", "c", "one", &["t"]).unwrap();
    // Its predecessor had all four, and had not given up two of them.
    assert_eq!(topics(&c), Some(vec![0, 1]));
    let fenced = broker.leave_static("g", "a", "one", -1).unwrap_err();
    assert!(matches!(fenced, GroupError::FencedStaticMember(_)), "{fenced}");
    broker.leave_static("g", "c", "one", -1).unwrap();
    assert!(matches!(
        broker.leave_static("g", "c", "one", -1),
        Err(GroupError::UnknownMemberId(_))
    ));
}

#[test]
fn a_static_member_that_is_away_has_its_whole_session_to_come_back() {
    for restarts in [false, true] {
        let mut broker = Broker::new(&[("t", 4)]);
        broker.join_static("g", "a", "one", &["t"]).unwrap();
        broker.join("g", "b", &["t"]).unwrap();
        // It has 30 s to give two of them up, and goes instead.
        broker.leave_static("g", "a", "one", 2).unwrap();
        broker.leave_static("g", "a", "one", -2).unwrap();
        if restarts {
            broker.restart();
        }
        broker.advance(44_999);
        let c = broker.join_static("g", "c", "one", &["t"]).unwrap();
        assert_eq!((c.member_epoch, topics(&c)), (3, Some(vec![0, 1])), "{restarts}");
    }
}

#[test]
fn a_group_of_nobody_is_not_found_unless_one_joins() {
    let mut broker = Broker::new(&[]);
    assert!(matches!(
        broker.beat("g", "a", 2),
        Err(GroupError::GroupIdNotFound(_))
    ));
    assert!(matches!(
        broker.beat("g", "a", -1),
        Err(GroupError::GroupIdNotFound(_))
    ));
    broker.join("g", "a", &["t"]).unwrap();
    broker.beat("g", "a", -1).unwrap();
    assert_eq!(broker.state("g"), "Empty");
    assert!(matches!(
        broker.beat("g", "a", 2),
        Err(GroupError::UnknownMemberId(_))
    ));
}

type Change = fn(&mut HeartbeatRequest);

#[test]
fn requests_that_contradict_themselves_are_refused() {
    let mut broker = Broker::new(&[("t", 1)]);
    let sound = Broker::joining("g", "a", &["t"]);
    let cases: [(Change, &str); 8] = [
        (|r| r.member_id = " ".into(), "MemberId can't be empty."),
        (|r| r.group_id = "".into(), "GroupId can't be empty."),
        (|r| r.instance_id = Some("".into()), "InstanceId can't be empty."),
        (|r| r.rack_id = Some("".into()), "RackId can't be empty."),
        (
            |r| r.rebalance_timeout_ms = None,
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (
            |r| r.owned = None,
            "TopicPartitions must be empty when (re-)joining.",
        ),
        (|r| r.member_epoch = -2, "InstanceId can't be null."),
        (|r| r.member_epoch = -3, "MemberEpoch is invalid."),
    ];
    for (change, text) in cases {
        let mut request = sound.clone();
        change(&mut request);
        assert_eq!(
            broker.send(&request),
            Err(GroupError::InvalidRequest(text.to_owned()))
        );
    }
    let mut request = sound;
    request.server_assignor = Some("sticky".into());
    assert_eq!(
        broker.send(&request).unwrap_err().to_string(),
        "ServerAssignor sticky is not supported. Supported assignors: uniform, range."
    );
}

#[test]
fn a_full_group_admits_nobody_else() {
    let mut broker = Broker::new(&[("t", 1)]);
    broker.settings.consumer_size_max = 1;
    broker.join("g", "a", &["t"]).unwrap();
    assert_eq!(
        broker.join("g", "b", &["t"]),
        Err(GroupError::GroupMaxSizeReached(1))
    );
    broker.beat("g", "a", 2).unwrap();
}

#[test]
fn assignments_may_be_spaced_out() {
    let mut broker = Broker::new(&[("t", 2)]);
    broker.settings.consumer_assignment_interval_ms = 1_000;
    broker.join("g", "a", &["t"]).unwrap();
    let b = broker.join("g", "b", &["t"]).unwrap();
    // The epoch before, and nothing.
    assert_eq!((b.member_epoch, topics(&b)), (2, Some(vec![])));
    assert_eq!(broker.state("g"), "Assigning");
    broker.advance(1_000);
    let b = broker.beat("g", "b", 2).unwrap();
    assert_eq!((b.member_epoch, topics(&b)), (3, None));
}

#[test]
fn a_refused_write_leaves_no_trace() {
    let mut broker = Broker::new(&[("t", 2)]);
    broker.join("g", "a", &["t"]).unwrap();
    broker.refuse_writes = true;
    broker.join("g", "b", &["t"]).unwrap();
    broker.beat("g", "a", -1).unwrap();
    broker.refuse_writes = false;
    assert_eq!(broker.beat("g", "a", 2).unwrap().member_epoch, 2);
    // Its session still ends.
    broker.advance(45_000);
    assert!(matches!(
        broker.beat("g", "a", 2),
        Err(GroupError::UnknownMemberId(_))
    ));
}

#[test]
fn a_static_member_that_did_not_hear_its_answer_joins_again() {
    let mut broker = Broker::new(&[("t", 2)]);
    broker.join_static("g", "a", "one", &["t"]).unwrap();
    let again = broker.join_static("g", "a", "one", &["t"]).unwrap();
    assert_eq!((again.member_epoch, topics(&again)), (2, Some(vec![0, 1])));
    // Another process with its name is another matter.
    let taken = broker.join_static("g", "b", "one", &["t"]).unwrap_err();
    assert!(matches!(taken, GroupError::UnreleasedInstanceId(_)), "{taken}");
    // One that went for a while, and comes back as itself.
    broker.leave_static("g", "a", "one", -2).unwrap();
    let back = broker.join_static("g", "a", "one", &["t"]).unwrap();
    assert_eq!((back.member_epoch, topics(&back)), (2, Some(vec![0, 1])));
}

#[test]
fn a_name_that_no_record_can_hold_is_refused() {
    let mut broker = Broker::new(&[("t", 2)]);
    let long: std::sync::Arc<str> = "ä".repeat(16_384).into();
    let mut with_instance = Broker::joining("g", "a", &["t"]);
    with_instance.instance_id = Some(std::sync::Arc::clone(&long));
    let mut with_rack = Broker::joining("g", "a", &["t"]);
    with_rack.rack_id = Some(std::sync::Arc::clone(&long));
    let with_topic = Broker::joining("g", "a", &[&long]);
    let with_member = Broker::joining("g", &long, &["t"]);
    let with_group = Broker::joining(&long, "a", &["t"]);
    for request in [with_instance, with_rack, with_topic, with_member, with_group] {
        let refused = broker.send(&request).unwrap_err();
        assert!(
            refused.to_string().ends_with("is longer than 32767 bytes"),
            "{refused}"
        );
    }
    assert!(broker.log.is_empty());
}

#[test]
fn a_pattern_is_resolved_when_it_comes_and_when_topics_come() {
    let mut broker = Broker::new(&[("a1", 1), ("a2", 1), ("b", 1)]);
    let mut request = Broker::joining("g", "m", &[]);
    request.subscribed_topics = None;
    request.subscribed_regex = Some("a.*".into());
    let answer = broker.send(&request).unwrap();
    assert_eq!((answer.member_epoch, topics(&answer)), (2, Some(vec![0, 0])));
    broker.topics.set("c", 1);
    assert_eq!(broker.beat("g", "m", 2).unwrap().member_epoch, 2);
    broker.topics.set("a3", 2);
    let answer = broker.beat("g", "m", 2).unwrap();
    assert_eq!(
        (answer.member_epoch, topics(&answer)),
        (3, Some(vec![0, 0, 0, 1]))
    );
    // Another pattern: what it does not match is given up first.
    let mut request = Broker::beating("g", "m", 3);
    request.subscribed_regex = Some("a1|b".into());
    let answer = broker.send(&request).unwrap();
    assert_eq!((answer.member_epoch, topics(&answer)), (3, Some(vec![0])));
    assert_eq!(broker.regexes("g"), ["a1|b: a1 b"]);
    let mut request = Broker::beating("g", "m", 3);
    request.subscribed_regex = Some("(".into());
    let refused = broker.send(&request).unwrap_err();
    assert!(
        matches!(refused, GroupError::InvalidRegularExpression(_)),
        "{refused}"
    );
    broker.beat("g", "m", -1).unwrap();
    assert!(broker.regexes("g").is_empty());
}

#[test]
fn a_pattern_is_compiled_once_however_often_topics_come() {
    let mut broker = Broker::new(&[("a0", 1)]);
    for member in ["m", "n", "o"] {
        let mut request = Broker::joining("g", member, &[]);
        request.subscribed_topics = None;
        request.subscribed_regex = Some(format!("compiled-once-{member}|a.*").into());
        broker.send(&request).unwrap();
    }
    let compiled = super::regex::tests::COMPILED.get();
    let mut epoch = 2;
    for number in 1..20 {
        broker.topics.set(&format!("a{number}"), 1);
        epoch = broker.beat("g", "m", epoch).unwrap().member_epoch;
    }
    assert!(
        broker
            .regexes("g")
            .iter()
            .all(|line| line.ends_with("a19 a2 a3 a4 a5 a6 a7 a8 a9")),
        "{:?}",
        broker.regexes("g")
    );
    assert_eq!(super::regex::tests::COMPILED.get(), compiled);
}

#[test]
fn commits_of_the_epoch_before_are_for_partitions_held_since_then() {
    let mut broker = Broker::new(&[("t", 2)]);
    broker.join("g", "a", &["t"]).unwrap();
    broker.join("g", "b", &["t"]).unwrap();
    broker.beat("g", "a", 2).unwrap();
    assert_eq!(broker.commit("g", "a", 2, 9, &[0, 1]), Ok(()));
    broker.own("g", "a", 2, &[0]).unwrap();
    broker.beat("g", "b", 3).unwrap();
    assert_eq!(broker.commit("g", "a", 3, 9, &[0]), Ok(()));
    assert_eq!(broker.commit("g", "a", 2, 9, &[0]), Ok(()));
    for (member, epoch, partition) in [("a", 2, 1), ("a", 3, 1), ("a", 4, 0), ("b", 2, 1)] {
        let stale = broker.commit("g", member, epoch, 9, &[partition]).unwrap_err();
        assert!(matches!(stale, GroupError::StaleMemberEpoch(_)), "{stale}");
    }
    assert!(matches!(
        broker.commit("g", "a", 3, 8, &[0]),
        Err(GroupError::UnsupportedVersion(_))
    ));
    assert!(matches!(
        broker.commit("g", "c", 3, 9, &[0]),
        Err(GroupError::UnknownMemberId(_))
    ));
    assert!(matches!(
        broker.commit("g", "", -1, 9, &[0]),
        Err(GroupError::UnknownMemberId(_))
    ));
    broker.beat("g", "a", -1).unwrap();
    broker.beat("g", "b", -1).unwrap();
    assert_eq!(broker.commit("g", "", -1, 9, &[0]), Ok(()));
}

#[test]
fn a_commit_that_comes_late_does_not_throw_the_next_owner_back() {
    let mut broker = Broker::new(&[("t", 3)]);
    broker.join("g", "a", &["t"]).unwrap();
    broker.join("g", "b", &["t"]).unwrap();
    let a = broker.beat("g", "a", 2).unwrap();
    assert_eq!((a.member_epoch, topics(&a)), (2, Some(vec![0, 1])));
    // Before it has given up the one, there is another to be given up.
    broker.join("g", "c", &["t"]).unwrap();
    let a = broker.own("g", "a", 2, &[0, 1]).unwrap();
    assert_eq!((a.member_epoch, topics(&a)), (2, Some(vec![0])));
    // The one is nobody's yet.
    assert_eq!(broker.commit("g", "a", 2, 9, &[2]), Ok(()));
    let b = broker.beat("g", "b", 3).unwrap();
    assert_eq!((b.member_epoch, topics(&b)), (4, Some(vec![2])));
    assert_eq!(broker.commit("g", "b", 4, 9, &[2]), Ok(()));
    assert_eq!(broker.commit("g", "a", 2, 9, &[0, 1]), Ok(()));
    let stale = broker.commit("g", "a", 2, 9, &[0, 2]).unwrap_err();
    assert!(matches!(stale, GroupError::StaleMemberEpoch(_)), "{stale}");
}

#[test]
fn a_group_is_deleted_when_it_is_empty() {
    let mut broker = Broker::new(&[("t", 2)]);
    broker.join("g", "a", &["t"]).unwrap();
    assert_eq!(broker.delete("g"), Err(GroupError::NonEmptyGroup));
    broker.beat("g", "a", -1).unwrap();
    assert_eq!(broker.delete("g"), Ok(()));
    assert!(broker.shard.groups.is_empty());
}
