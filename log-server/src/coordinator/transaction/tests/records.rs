//! The bytes of records: those that Kafka 4.3's own classes write, and bytes that are nothing.

use super::*;
use crate::coordinator::record::{FormatProblem, LogRecord as _};
use crate::kafka::test_support::fuzz;

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

fn decode(value: &str) -> Transaction {
    let key = hex("0000000474782d31");
    let record = TransactionRecord::decode(&key, Some(&hex(value)))
        .unwrap()
        .unwrap();
    assert_eq!(&*record.transactional_id, "tx-1");
    record.value.unwrap()
}

fn check(value: Transaction, golden: &str) {
    assert_eq!(decode(golden), value);
    let record = TransactionRecord {
        transactional_id: "tx-1".into(),
        value: Some(value),
    };
    let (mut key, mut bytes) = (Vec::new(), Vec::new());
    record.encode_key(&mut key).unwrap();
    assert!(record.encode_value(&mut bytes).unwrap());
    assert_eq!(key, hex("0000000474782d31"));
    assert_eq!(bytes, hex(golden));
}

fn empty() -> Transaction {
    Transaction {
        producer: identity(1_000, 0),
        previous_producer_id: ProducerId::new(1_000),
        next_producer_id: ProducerId::NONE,
        last_epoch: ProducerEpoch::NONE,
        timeout_ms: 60_000,
        state: TransactionState::Empty,
        partitions: BTreeSet::new(),
        started: TimestampMs::NONE,
        updated: TimestampMs::new(NOW),
        client_version: 0,
    }
}

/// Kafka puts the partitions of a topic in whatever order; ours stand in order.
fn two_partitions() -> BTreeSet<TopicPartition> {
    [0, 7].map(|index| TopicPartition::new("a", index)).into()
}

#[test]
fn records_are_written_as_kafka_4_3_writes_them() {
    check(
        empty(),
        "000100000000000003e800000000ea6000000000018bcfe56800ffffffffffffffff01000800000000000003e8",
    );
    let ongoing = Transaction {
        state: TransactionState::Ongoing,
        partitions: two_partitions(),
        started: TimestampMs::new(NOW),
        updated: TimestampMs::new(NOW + 1),
        client_version: 2,
        ..empty()
    };
    check(
        ongoing.clone(),
        "000100000000000003e800000000ea6001020261030000000000000007000000018bcfe568010000018bcfe5680002000800000000000003e802020002",
    );
    let prepared = Transaction {
        producer: identity(1_000, i16::MAX),
        next_producer_id: ProducerId::new(2_000),
        state: TransactionState::PrepareCommit,
        updated: TimestampMs::new(NOW + 2),
        ..ongoing
    };
    check(
        prepared.clone(),
        "000100000000000003e87fff0000ea6002020261030000000000000007000000018bcfe568020000018bcfe5680003000800000000000003e8010800000000000007d002020002",
    );
    let complete = Transaction {
        producer: identity(2_000, 0),
        next_producer_id: ProducerId::NONE,
        state: TransactionState::CompleteCommit,
        partitions: BTreeSet::new(),
        updated: TimestampMs::new(NOW + 3),
        ..prepared
    };
    check(
        complete,
        "000100000000000007d000000000ea6004010000018bcfe568030000018bcfe5680002000800000000000003e802020002",
    );
}

/// As Kafka wrote them before `transaction.version` 1, and still writes them for clusters that were not finalized.
#[test]
fn plain_records_are_read() {
    let read = decode("000000000000000003e800000000ea6000ffffffff0000018bcfe56800ffffffffffffffff");
    let expected = Transaction {
        previous_producer_id: ProducerId::NONE,
        ..empty()
    };
    assert_eq!(read, expected);
    let read = decode(
        "000000000000000003e800000000ea60010000000100125f5f636f6e73756d65725f6f66667365747300000001000000030000018bcfe568010000018bcfe56800",
    );
    let expected = Transaction {
        state: TransactionState::Ongoing,
        partitions: BTreeSet::from([TopicPartition::new("__consumer_offsets", 3)]),
        started: TimestampMs::new(NOW),
        updated: TimestampMs::new(NOW + 1),
        ..expected
    };
    assert_eq!(read, expected);
}

#[test]
fn a_tombstone_has_no_value_and_other_kinds_are_passed_over() {
    let key = hex("0000000474782d31");
    let record = TransactionRecord::decode(&key, None).unwrap().unwrap();
    assert_eq!(record.value, None);
    assert!(!record.encode_value(&mut Vec::new()).unwrap());
    assert_eq!(TransactionRecord::decode(&hex("00010000"), None), Ok(None));
}

#[test]
fn what_is_no_record_is_an_error_with_a_place() {
    let key = hex("0000000474782d31");
    let problem = |value: &str| {
        let refused = TransactionRecord::decode(&key, Some(&hex(value))).unwrap_err();
        (refused.at, refused.problem)
    };
    assert_eq!(problem("0002"), (2, FormatProblem::UnknownVersion(2)));
    assert_eq!(problem("ffff"), (2, FormatProblem::UnknownVersion(-1)));
    let head = "000100000000000003e800000000ea60";
    assert_eq!(
        problem(&format!("{head}08")),
        (17, FormatProblem::UnknownState(8))
    );
    assert_eq!(problem(head), (16, FormatProblem::Truncated));
    let whole = "000100000000000003e800000000ea6000000000018bcfe56800ffffffffffffffff00";
    assert_eq!(problem(&format!("{whole}00")), (35, FormatProblem::TrailingBytes));
}

#[test]
fn damaged_records_are_refused_or_read_but_never_panic() {
    let key = hex("0000000474782d31");
    let golden = hex(
        "000100000000000003e87fff0000ea6002020261030000000000000007000000018bcfe568020000018bcfe5680003000800000000000003e8010800000000000007d002020002",
    );
    fuzz(20_000, |rng| {
        let mut bytes = golden.clone();
        for _ in 0..rng.usize(1..4) {
            let place = rng.usize(..bytes.len());
            bytes[place] = rng.u8(..);
        }
        bytes.truncate(rng.usize(..=bytes.len()));
        drop(TransactionRecord::decode(&key, Some(&bytes)));
        drop(TransactionRecord::decode(&bytes, Some(&golden)));
    });
}
