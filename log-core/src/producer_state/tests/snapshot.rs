//! Snapshots byte by byte: ours, Kafka's, damaged ones.
//! Golden bytes pin the file; a snapshot that Kafka wrote is read as Kafka reads it.

use super::*;
use crate::model::FilePosition;
use crate::producer_state::snapshot::SnapshotError;
use crate::record::crc32c;

/// Two producers: one in a transaction with two batches, one that only ended a transaction.
fn state() -> ProducerStateManager {
    let mut state = manager(&[
        transactional(batch(0x0102, 3, i32::MAX, 0x10, 2)),
        transactional(batch(0x0102, 3, 1, 0x12, 3)),
    ]);
    assert_eq!(state.end_transaction(&control(5, 1, 0x15), COMMIT), None);
    state
}

#[rustfmt::skip]
const GOLDEN_CONTENTS: [u8; 4 + 2 * 46 + 6 + 9 + 48 + 9] = [
    0, 0, 0, 2, // producers
    0, 0, 0, 0, 0, 0, 0, 5, // producer id
    0, 1, // epoch
    0xff, 0xff, 0xff, 0xff, // no sequence
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // no offset
    0, 0, 0, 0, // offset delta
    0, 0, 0, 0, 0, 0, 0, 0xd2, // timestamp of the marker
    0, 0, 0, 3, // coordinator epoch
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // no transaction
    0, 0, 0, 0, 0, 0, 1, 2, // producer id
    0, 3, // epoch
    0, 0, 0, 3, // last sequence
    0, 0, 0, 0, 0, 0, 0, 0x14, // last offset
    0, 0, 0, 2, // offset delta
    0, 0, 0, 0, 0, 0, 0, 0xb4, // timestamp
    0xff, 0xff, 0xff, 0xff, // no coordinator epoch
    0, 0, 0, 0, 0, 0, 0, 0x10, // transaction's first offset
    b'S', b'L', b'p', b's', 0, 1, // trailer
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, // not idle, no batches
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, // not idle, two batches
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xa0,
    0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0xb4,
];
const TRAILER_AT: usize = 4 + 2 * 46;

fn file_of(contents: &[u8]) -> Vec<u8> {
    [&[0, 1], &crc32c(contents).to_be_bytes()[..], contents].concat()
}

fn parse(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    Snapshot::parse(bytes, Offset::new(0x16))
}

#[test]
fn golden_bytes() {
    let golden = file_of(&GOLDEN_CONTENTS);
    assert_eq!(golden[..6], [0, 1, 0x5b, 0x87, 0x86, 0x43]);
    assert_eq!(state().snapshot(), golden);
    let empty = ProducerStateManager::new(Offset::ZERO).snapshot();
    assert_eq!(empty, file_of(&[0, 0, 0, 0, b'S', b'L', b'p', b's', 0, 1]));
    assert!(Snapshot::parse(&empty, Offset::ZERO).unwrap().is_complete);
}

/// Written by Kafka 4.3.0: `ProducerStateManager.writeSnapshot` with three producers.
#[rustfmt::skip]
const KAFKAS: [u8; 6 + 4 + 3 * 46] = [
    0x00, 0x01, 0x8e, 0x6f, 0x50, 0xa8, 0x00, 0x00, 0x00, 0x03,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07, 0x00, 0x02, 0x00, 0x00, 0x00, 0x29, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x64, 0x00, 0x00, 0x00, 0x09, 0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00, 0x00, 0x00,
    0x00, 0x05, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x67, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x01, 0xff, 0xff,
    0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x65,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x09, 0x00, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x02, 0x00, 0x00,
    0x00, 0x03, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
];

#[test]
fn a_file_that_kafka_wrote() {
    let snapshot = Snapshot::parse(&KAFKAS, Offset::new(104)).unwrap();
    assert!(!snapshot.is_complete);
    let entry = |epoch, coordinator_epoch, timestamp: i64, first_offset: Option<i64>| {
        let mut entry = ProducerStateEntry::new();
        entry.set_epoch(ProducerEpoch::new(epoch));
        entry.coordinator_epoch = coordinator_epoch;
        entry.last_timestamp = TimestampMs::new(1_700_000_000_000 + timestamp);
        entry.transaction_first_offset = first_offset.map(Offset::new);
        entry
    };
    let with_batch = |mut entry: ProducerStateEntry, last_sequence, last_offset, offset_delta| {
        entry.add_batch(BatchMetadata {
            last_sequence: Sequence::new(last_sequence),
            last_offset: Offset::new(last_offset),
            offset_delta,
            timestamp: entry.last_timestamp,
        });
        entry
    };
    let expected = [
        (ProducerId::new(7), with_batch(entry(2, 5, 0, None), 41, 100, 9)),
        // This batch wrapped: its sequences are 2³¹−2, 2³¹−1 and 0.
        (
            ProducerId::new(8),
            with_batch(entry(0, -1, 1, Some(101)), 0, 103, 2),
        ),
        (ProducerId::new(9), entry(1, 3, 2, None)),
    ];
    assert_eq!(snapshot.producers, expected);
    let loaded = ProducerStateManager::from_snapshot(snapshot);
    assert_eq!(loaded.snapshot()[6..6 + 4 + 3 * 46], KAFKAS[6..]);
    let retry = transactional(batch(8, 0, i32::MAX - 1, 0, 3));
    assert!(matches!(check(&loaded, &retry), Ok(Verdict::Duplicate { .. })));
}

#[test]
fn a_snapshot_of_ours_gives_back_the_whole_state() {
    let mut state = state();
    assert_eq!(state.expire(TimestampMs::new(5000), 1), 0);
    let snapshot = parse(&state.snapshot()).unwrap();
    assert!(snapshot.is_complete);
    let loaded = ProducerStateManager::from_snapshot(snapshot);
    assert_same(&loaded, &state);
    assert_eq!(
        check(&loaded, &transactional(batch(0x0102, 3, i32::MAX, 0, 2))),
        Ok(duplicate(0x10, 0x11))
    );
    assert_eq!(loaded.first_unstable_offset(), Some(Offset::new(0x10)));
}

#[test]
fn a_snapshot_of_kafkas_has_the_last_batches_only() {
    let kafkas = file_of(&GOLDEN_CONTENTS[..TRAILER_AT]);
    let snapshot = parse(&kafkas).unwrap();
    assert!(!snapshot.is_complete);
    let loaded = ProducerStateManager::from_snapshot(snapshot);
    let (earlier, last) = (
        transactional(batch(0x0102, 3, i32::MAX, 0x10, 2)),
        transactional(batch(0x0102, 3, 1, 0x12, 3)),
    );
    assert_eq!(check(&loaded, &last), Ok(duplicate(0x12, 0x14)));
    assert!(check(&loaded, &earlier).is_err());
}

#[test]
fn every_damaged_byte_and_every_cut_is_refused() {
    let golden = file_of(&GOLDEN_CONTENTS);
    for at in 0..golden.len() {
        assert!(parse(&golden[..at]).is_err(), "cut at {at}");
        let mut bytes = golden.clone();
        bytes[at] ^= 0x20;
        assert!(parse(&bytes).is_err(), "byte {at}");
    }
}

#[test]
fn contents_that_pass_the_checksum_are_still_checked() {
    let check = |at: usize, bytes: &[u8], expected: SnapshotError| {
        let mut contents = GOLDEN_CONTENTS.to_vec();
        contents.splice(at..at + bytes.len(), bytes.iter().copied());
        assert_eq!(parse(&file_of(&contents)), Err(expected), "{at}");
    };
    let field = |position, field, expected, found| SnapshotError::Field {
        position: FilePosition::new(position),
        field,
        expected,
        found,
    };
    check(
        0,
        &[0x7f, 0xff, 0xff, 0xff],
        SnapshotError::Count {
            count: i32::MAX,
            room: 3,
        },
    );
    check(0, &[0xff; 4], SnapshotError::Count { count: -1, room: 3 });
    check(
        4,
        &[0x80],
        field(10, "producer id", "new and not negative", i64::MIN + 5),
    );
    check(
        4 + 46 + 6,
        &[0, 5],
        field(56, "producer id", "new and not negative", 5),
    );
    check(
        4 + 8,
        &[0x80, 0],
        field(18, "epoch", "at least -1", i64::from(i16::MIN)),
    );
    check(
        4 + 46 + 14 + 7,
        &[0x16],
        field(70, "last offset", "before the end offset", 0x16),
    );
    check(
        4 + 46 + 22 + 3,
        &[0x15],
        field(78, "offset delta", "0 to the last offset", 0x15),
    );
    check(
        4 + 46 + 38 + 7,
        &[0x16],
        field(
            94,
            "transaction's first offset",
            "new and before the end offset",
            0x16,
        ),
    );
    let magic = SnapshotError::Trailer {
        position: FilePosition::new(102),
        found: *b"SLpt",
    };
    check(TRAILER_AT + 3, b"t", magic);
    let version = SnapshotError::Version {
        field: "trailer version",
        expected: 1,
        found: 2,
    };
    check(TRAILER_AT + 5, &[2], version);
    check(
        TRAILER_AT + 14,
        &[1],
        field(116, "batch count", "0 to 5, 0 without a last batch", 1),
    );
    check(
        TRAILER_AT + 23,
        &[6],
        field(125, "batch count", "0 to 5, 0 without a last batch", 6),
    );
    check(
        TRAILER_AT + 24 + 11,
        &[0x15],
        field(150, "batch", "one behind the batch before it", 0x14),
    );
    check(
        TRAILER_AT + 24 + 24 + 11,
        &[0x13],
        field(174, "the batch before it", "the producer's last", 0x13),
    );
    let longer = [&GOLDEN_CONTENTS[..], &[0]].concat();
    let left_over = SnapshotError::LeftOver {
        position: FilePosition::new(174),
        count: 1,
    };
    assert_eq!(parse(&file_of(&longer)), Err(left_over));
    let cut = file_of(&GOLDEN_CONTENTS[..GOLDEN_CONTENTS.len() - 1]);
    let truncated = SnapshotError::Truncated {
        position: FilePosition::new(166),
        field: "timestamp",
    };
    assert_eq!(parse(&cut), Err(truncated));
    // A file whose name says that it ends earlier.
    let early = Snapshot::parse(&file_of(&GOLDEN_CONTENTS), Offset::new(0x14));
    assert_eq!(
        early,
        Err(field(70, "last offset", "before the end offset", 0x14))
    );
}
