//! The bytes of groups' records: those that Kafka 4.3's own classes write for each kind and version, round trips, and
//! bytes that are nothing.

use super::*;
use crate::coordinator::record::{FormatProblem, LogRecord as _, RecordPart};
use crate::kafka::test_support::fuzz;

const ID: TopicId = TopicId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
const TIME: i64 = 1_700_000_000_000;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).unwrap().try_into().unwrap())
        .collect();
    let (pairs, rest) = digits.as_chunks();
    assert!(rest.is_empty(), "{text}");
    pairs.iter().map(|[high, low]| high << 4 | low).collect()
}

fn encode(record: &GroupRecord) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    record.encode_key(&mut key).unwrap();
    let has_value = record.encode_value(&mut value).unwrap();
    assert!(has_value || value.is_empty());
    (key, has_value.then_some(value))
}

fn decode(key: &[u8], value: Option<&[u8]>) -> GroupRecord {
    GroupRecord::decode(key, value).unwrap().unwrap()
}

/// These bytes are read as this record, and it is written as them.
fn check(record: &GroupRecord, key: &str, value: &str) {
    check_read(record, key, value);
    assert_eq!(encode(record), (hex(key), Some(hex(value))), "{record:?}");
}

/// These bytes are read as this record.
fn check_read(record: &GroupRecord, key: &str, value: &str) {
    assert_eq!(&decode(&hex(key), Some(&hex(value))), record);
}

fn commit() -> OffsetCommitValue {
    OffsetCommitValue {
        offset: 1000,
        leader_epoch: -1,
        metadata: "m".into(),
        commit_timestamp_ms: TIME,
        expire_timestamp_ms: None,
        topic_id: TopicId::ZERO,
    }
}

fn commit_record(value: Option<OffsetCommitValue>) -> GroupRecord {
    GroupRecord::OffsetCommit {
        group: "g".into(),
        topic: "t".into(),
        partition: 3,
        value,
    }
}

#[test]
fn offsets_are_read_in_all_versions_and_written_as_kafka_4_3_writes_them() {
    const KEY: &str = "000100016700017400000003";
    let plain = commit_record(Some(commit()));
    for version in ["0000", "0002"] {
        let value = format!("{version}00000000000003e800016d0000018bcfe56800");
        check_read(&plain, KEY, &value);
    }
    // A key of before 0.9.
    check_read(
        &plain,
        "000000016700017400000003",
        "000000000000000003e800016d0000018bcfe56800",
    );
    let expiring = OffsetCommitValue {
        expire_timestamp_ms: Some(TIME + 60_000),
        ..commit()
    };
    check(
        &commit_record(Some(expiring)),
        KEY,
        "000100000000000003e800016d0000018bcfe568000000018bcfe65260",
    );
    let epoch = OffsetCommitValue {
        leader_epoch: 2,
        ..commit()
    };
    let record = commit_record(Some(epoch.clone()));
    check_read(&record, KEY, "000300000000000003e80000000200016d0000018bcfe56800");
    check(&record, KEY, "000400000000000003e800000002026d0000018bcfe5680000");
    let with_id = OffsetCommitValue {
        topic_id: ID,
        ..epoch
    };
    check(
        &commit_record(Some(with_id)),
        KEY,
        "000400000000000003e800000002026d0000018bcfe568000100100102030405060708090a0b0c0d0e0f10",
    );
    assert_eq!(encode(&commit_record(None)), (hex(KEY), None));
    assert_eq!(decode(&hex(KEY), None), commit_record(None));
}

#[test]
fn an_expiry_of_minus_one_is_none() {
    let read = decode(
        &hex("000100016700017400000003"),
        Some(&hex("000100000000000003e800016d0000018bcfe56800ffffffffffffffff")),
    );
    assert_eq!(read, commit_record(Some(commit())));
}

fn classic() -> ClassicGroupValue {
    ClassicGroupValue {
        protocol_type: "consumer".into(),
        generation: 7,
        protocol: Some("range".into()),
        leader: Some("m1".into()),
        state_timestamp_ms: TIME,
        members: vec![ClassicMemberValue {
            member_id: "m1".into(),
            instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 45_000,
            subscription: vec![1, 2].into(),
            assignment: vec![3].into(),
        }],
    }
}

fn classic_record(value: ClassicGroupValue) -> GroupRecord {
    GroupRecord::ClassicGroup {
        group: "g".into(),
        value: Some(value),
    }
}

#[test]
fn classic_groups_are_read_in_all_versions_and_written_as_kafka_4_3_writes_them() {
    const KEY: &str = "0002000167";
    let mut group = classic();
    check(
        &classic_record(group.clone()),
        KEY,
        "00030008636f6e73756d657200000007000572616e676500026d310000018bcfe568000000000100026d31000169000163000a2f3132372e302e302e31000493e00000afc80000000201020000000103",
    );
    check_read(
        &classic_record(group.clone()),
        KEY,
        "000409636f6e73756d6572000000070672616e6765036d310000018bcfe5680002036d31026902630b2f3132372e302e302e31000493e00000afc803010202030000",
    );
    group.members[0].instance_id = None;
    check_read(
        &classic_record(group.clone()),
        KEY,
        "00020008636f6e73756d657200000007000572616e676500026d310000018bcfe568000000000100026d31000163000a2f3132372e302e302e31000493e00000afc80000000201020000000103",
    );
    group.state_timestamp_ms = -1;
    check_read(
        &classic_record(group.clone()),
        KEY,
        "00010008636f6e73756d657200000007000572616e676500026d310000000100026d31000163000a2f3132372e302e302e31000493e00000afc80000000201020000000103",
    );
    // A rebalance waits for a member as long as its session, where nothing else is said.
    group.members[0].rebalance_timeout_ms = 45_000;
    check_read(
        &classic_record(group),
        KEY,
        "00000008636f6e73756d657200000007000572616e676500026d310000000100026d31000163000a2f3132372e302e302e310000afc80000000201020000000103",
    );
    let empty = ClassicGroupValue {
        protocol_type: "".into(),
        generation: 0,
        protocol: None,
        leader: None,
        state_timestamp_ms: TIME,
        members: Vec::new(),
    };
    check(
        &classic_record(empty),
        KEY,
        "0003000000000000ffffffff0000018bcfe5680000000000",
    );
}

#[test]
fn kip_848_groups_and_their_targets() {
    let group = |metadata_hash| GroupRecord::ConsumerGroup {
        group: "g".into(),
        value: Some(ConsumerGroupValue {
            epoch: 5,
            metadata_hash,
        }),
    };
    check(&group(0), "0003000167", "00000000000500");
    check(
        &group(0x1122_3344_5566_7788),
        "0003000167",
        "0000000000050100081122334455667788",
    );
    let metadata = GroupRecord::ConsumerPartitionMetadata {
        group: "g".into(),
        exists: true,
    };
    check(&metadata, "0004000167", "00000100");
    let target = |assignment_timestamp_ms| GroupRecord::ConsumerTargetEpoch {
        group: "g".into(),
        value: Some(ConsumerTargetEpochValue {
            assignment_epoch: 5,
            assignment_timestamp_ms,
        }),
    };
    check(&target(0), "0006000167", "00000000000500");
    check(&target(TIME), "0006000167", "0000000000050100080000018bcfe56800");
    let of_member = GroupRecord::ConsumerTargetMember {
        group: "g".into(),
        member: "m1".into(),
        value: Some(vec![TopicPartitions {
            topic_id: ID,
            partitions: vec![0, 2],
        }]),
    };
    check(
        &of_member,
        "000700016700026d31",
        "0000020102030405060708090a0b0c0d0e0f100300000000000000020000",
    );
}

#[test]
fn kip_848_members() {
    const KEY: &str = "000500016700026d31";
    let member = ConsumerMemberValue {
        instance_id: None,
        rack_id: Some("r".into()),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        subscribed_topics: vec!["t".into(), "u".into()],
        subscribed_regex: None,
        rebalance_timeout_ms: 300_000,
        server_assignor: Some("uniform".into()),
        classic: None,
    };
    let record = |value: ConsumerMemberValue| GroupRecord::ConsumerMember {
        group: "g".into(),
        member: "m1".into(),
        value: Some(value),
    };
    check(
        &record(member.clone()),
        KEY,
        "000000027202630b2f3132372e302e302e31030274027500000493e008756e69666f726d00",
    );
    let of_classic = ConsumerMemberValue {
        instance_id: Some("i".into()),
        rack_id: None,
        subscribed_regex: Some("t.*".into()),
        server_assignor: None,
        classic: Some(ClassicMemberMetadata {
            session_timeout_ms: 45_000,
            protocols: vec![("range".into(), vec![1, 2].into())],
        }),
        ..member
    };
    check(
        &record(of_classic),
        KEY,
        "000002690002630b2f3132372e302e302e31030274027504742e2a000493e000010011010000afc8020672616e67650301020000",
    );
    let regex = GroupRecord::ConsumerRegex {
        group: "g".into(),
        regex: "t.*".into(),
        value: Some(ConsumerRegexValue {
            topics: vec!["t".into(), "tu".into()],
            version: 12,
            timestamp_ms: TIME,
        }),
    };
    check(
        &regex,
        "00100001670003742e2a",
        "0000030274037475000000000000000c0000018bcfe5680000",
    );
}

#[test]
fn what_kip_848_members_have() {
    const KEY: &str = "000800016700026d31";
    let owned = |partitions: &[i32], assignment_epochs: &[i32]| {
        vec![AssignedPartitions {
            topic_id: ID,
            partitions: partitions.to_vec(),
            assignment_epochs: assignment_epochs.to_vec(),
        }]
    };
    let record = |assigned, pending_revocation| GroupRecord::ConsumerCurrentMember {
        group: "g".into(),
        member: "m1".into(),
        value: Some(ConsumerCurrentMemberValue {
            member_epoch: 5,
            previous_member_epoch: 4,
            state: MemberState::UnrevokedPartitions,
            assigned,
            pending_revocation,
        }),
    };
    check(
        &record(owned(&[0, 2], &[]), owned(&[4], &[3])),
        KEY,
        "0000000000050000000401020102030405060708090a0b0c0d0e0f1003000000000000000200020102030405060708090a0b0c0d0e0f100200000004010005020000000300",
    );
    // The list of epochs may be null as well.
    check_read(
        &record(owned(&[0], &[]), Vec::new()),
        KEY,
        "0000000000050000000401020102030405060708090a0b0c0d0e0f10020000000001000100\
         0100",
    );
}

#[test]
fn kinds_of_others_are_left_alone() {
    assert_eq!(GroupRecord::decode(&hex("000a00016700026d31"), None), Ok(None));
    assert_eq!(
        GroupRecord::decode(&hex("7fff00"), Some(&hex("ffffffff"))),
        Ok(None)
    );
}

#[test]
fn fields_of_a_newer_kafka_are_passed_over() {
    // Behind tag 0 a tag 300 of three bytes.
    let record = decode(
        &hex("0003000167"),
        Some(&hex("00000000000502000811223344556677 88ac0203010203"
            .replace(' ', "")
            .as_str())),
    );
    let value = Some(ConsumerGroupValue {
        epoch: 5,
        metadata_hash: 0x1122_3344_5566_7788,
    });
    let group = "g".into();
    assert_eq!(record, GroupRecord::ConsumerGroup { group, value });
}

#[test]
fn what_is_no_record_is_an_error_with_a_place() {
    use FormatProblem::{BadLength, NotUtf8, Null, TrailingBytes, Truncated, UnknownVersion};
    use RecordPart::{Key, Value};
    for (key, value, part, at, problem) in [
        ("00", None, Key, 0, Truncated),
        ("0002000267", None, Key, 4, Truncated),
        ("0002ffff", None, Key, 4, Null),
        ("0002fffe", None, Key, 4, BadLength),
        ("00020001ff", None, Key, 5, NotUtf8),
        ("000200016700", None, Key, 5, TrailingBytes),
        ("0002000167", Some("0005"), Value, 2, UnknownVersion(5)),
        ("0002000167", Some("ffff"), Value, 2, UnknownVersion(-1)),
        ("0003000167", Some("0001"), Value, 2, UnknownVersion(1)),
        ("0003000167", Some("00000000000500ff"), Value, 7, TrailingBytes),
        // A field that is longer than its tag says it is, or shorter.
        ("0003000167", Some("000000000005010002ffff"), Value, 9, Truncated),
        (
            "0003000167",
            Some("000000000005010009112233445566778899"),
            Value,
            17,
            TrailingBytes,
        ),
        // Two thousand million members in no bytes.
        (
            "0002000167",
            Some("0003000000000000ffffffff0000018bcfe568007fffffff"),
            Value,
            24,
            Truncated,
        ),
        ("000700016700026d31", Some("0000ffffffff0f"), Value, 7, Truncated),
        ("000700016700026d31", Some("0000ffffffff1f"), Value, 7, BadLength),
    ] {
        let value = value.map(hex);
        let error = GroupRecord::decode(&hex(key), value.as_deref()).unwrap_err();
        assert_eq!(
            (error.part, error.at, error.problem),
            (part, at, problem),
            "{key} {value:x?}"
        );
    }
}

#[test]
fn what_cannot_be_said_is_refused_and_not_cut() {
    let long: Arc<str> = "g".repeat(32_768).into();
    let record = GroupRecord::ClassicGroup {
        group: Arc::clone(&long),
        value: Some(ClassicGroupValue {
            protocol_type: long,
            ..classic()
        }),
    };
    let error = record.encode_key(&mut Vec::new()).unwrap_err();
    assert_eq!(
        (error.part, error.problem),
        (RecordPart::Key, FormatProblem::TooLong)
    );
    let error = record.encode_value(&mut Vec::new()).unwrap_err();
    assert_eq!(
        (error.part, error.problem),
        (RecordPart::Value, FormatProblem::TooLong)
    );
}

fn text(rng: &mut fastrand::Rng) -> Arc<str> {
    let length = if rng.u8(..) == 0 {
        rng.usize(..5_000)
    } else {
        rng.usize(..20)
    };
    (0..length).map(|_| rng.char(..)).collect::<String>().into()
}

fn maybe<T>(rng: &mut fastrand::Rng, make: impl FnOnce(&mut fastrand::Rng) -> T) -> Option<T> {
    rng.bool().then(|| make(rng))
}

fn list<T>(rng: &mut fastrand::Rng, mut make: impl FnMut(&mut fastrand::Rng) -> T) -> Vec<T> {
    (0..rng.usize(..5)).map(|_| make(rng)).collect()
}

fn some_bytes(rng: &mut fastrand::Rng) -> Bytes {
    list(rng, |rng| rng.u8(..)).into()
}

fn topic_id(rng: &mut fastrand::Rng) -> TopicId {
    TopicId::from_bytes(std::array::from_fn(|_| rng.u8(..)))
}

fn random_record(rng: &mut fastrand::Rng) -> GroupRecord {
    let (group, member) = (text(rng), text(rng));
    match rng.u8(..9) {
        0 => GroupRecord::OffsetCommit {
            group,
            topic: text(rng),
            partition: rng.i32(..),
            value: maybe(rng, |rng| {
                let expire_timestamp_ms = maybe(rng, |rng| rng.i64(0..));
                let has_room = expire_timestamp_ms.is_none();
                OffsetCommitValue {
                    offset: rng.i64(..),
                    leader_epoch: if has_room { rng.i32(..) } else { -1 },
                    metadata: text(rng),
                    commit_timestamp_ms: rng.i64(..),
                    expire_timestamp_ms,
                    topic_id: if has_room { topic_id(rng) } else { TopicId::ZERO },
                }
            }),
        },
        1 => GroupRecord::ClassicGroup {
            group,
            value: maybe(rng, |rng| ClassicGroupValue {
                protocol_type: text(rng),
                generation: rng.i32(..),
                protocol: maybe(rng, text),
                leader: maybe(rng, text),
                state_timestamp_ms: rng.i64(..),
                members: list(rng, |rng| ClassicMemberValue {
                    member_id: text(rng),
                    instance_id: maybe(rng, text),
                    client_id: text(rng),
                    client_host: text(rng),
                    rebalance_timeout_ms: rng.i32(0..),
                    session_timeout_ms: rng.i32(..),
                    subscription: some_bytes(rng),
                    assignment: some_bytes(rng),
                }),
            }),
        },
        2 => GroupRecord::ConsumerGroup {
            group,
            value: maybe(rng, |rng| ConsumerGroupValue {
                epoch: rng.i32(..),
                metadata_hash: rng.i64(..),
            }),
        },
        3 => GroupRecord::ConsumerPartitionMetadata {
            group,
            exists: rng.bool(),
        },
        4 => GroupRecord::ConsumerMember {
            group,
            member,
            value: maybe(rng, |rng| ConsumerMemberValue {
                instance_id: maybe(rng, text),
                rack_id: maybe(rng, text),
                client_id: text(rng),
                client_host: text(rng),
                subscribed_topics: list(rng, text),
                subscribed_regex: maybe(rng, text),
                rebalance_timeout_ms: rng.i32(..),
                server_assignor: maybe(rng, text),
                classic: maybe(rng, |rng| ClassicMemberMetadata {
                    session_timeout_ms: rng.i32(..),
                    protocols: list(rng, |rng| (text(rng), some_bytes(rng))),
                }),
            }),
        },
        5 => GroupRecord::ConsumerTargetEpoch {
            group,
            value: maybe(rng, |rng| ConsumerTargetEpochValue {
                assignment_epoch: rng.i32(..),
                assignment_timestamp_ms: rng.i64(..),
            }),
        },
        6 => GroupRecord::ConsumerTargetMember {
            group,
            member,
            value: maybe(rng, |rng| {
                list(rng, |rng| TopicPartitions {
                    topic_id: topic_id(rng),
                    partitions: list(rng, |rng| rng.i32(..)),
                })
            }),
        },
        7 => GroupRecord::ConsumerCurrentMember {
            group,
            member,
            value: maybe(rng, |rng| ConsumerCurrentMemberValue {
                member_epoch: rng.i32(..),
                previous_member_epoch: rng.i32(..),
                state: [
                    MemberState::Stable,
                    MemberState::UnreleasedPartitions,
                    MemberState::Unknown,
                ][rng.usize(..3)],
                assigned: list(rng, owned),
                pending_revocation: list(rng, owned),
            }),
        },
        _ => GroupRecord::ConsumerRegex {
            group,
            regex: member,
            value: maybe(rng, |rng| ConsumerRegexValue {
                topics: list(rng, text),
                version: rng.i64(..),
                timestamp_ms: rng.i64(..),
            }),
        },
    }
}

fn owned(rng: &mut fastrand::Rng) -> AssignedPartitions {
    AssignedPartitions {
        topic_id: topic_id(rng),
        partitions: list(rng, |rng| rng.i32(..)),
        assignment_epochs: list(rng, |rng| rng.i32(..)),
    }
}

#[test]
fn every_record_is_read_as_it_was_written() {
    fuzz(2_000, |rng| {
        let record = random_record(rng);
        let (key, value) = encode(&record);
        assert_eq!(decode(&key, value.as_deref()), record);
    });
}

#[test]
fn damaged_records_are_refused_or_read_but_never_panic() {
    fuzz(5_000, |rng| {
        let (mut key, value) = encode(&random_record(rng));
        let mut value = value.unwrap_or_default();
        for bytes in [&mut key, &mut value] {
            if rng.bool() {
                bytes.truncate(rng.usize(..=bytes.len()));
            }
            for _ in 0..rng.usize(..4) {
                if let Some(byte) = rng.choice(bytes.iter_mut()) {
                    *byte = [0, 1, 0x7f, 0x80, 0xff, rng.u8(..)][rng.usize(..6)];
                }
            }
        }
        // What is read again is what was read.
        if let Ok(Some(record)) = GroupRecord::decode(&key, Some(&value)) {
            let (key, value) = encode(&record);
            assert_eq!(decode(&key, value.as_deref()), record);
        }
    });
}
