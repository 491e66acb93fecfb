//! Every rule a produced batch can break, the order in which they are looked at, and what stamping changes.
//! Each refusal is compared with the error that Kafka's order of checks gives.

use bytes::Bytes;

use super::batch::{batch_of, time};
use super::record::batch_around;
use crate::config::TimestampType;
use crate::model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use crate::record::batch::Batch;
use crate::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use crate::record::batch_header::{BatchError, BatchHeader, HEADER_LENGTH};
use crate::record::compression::{Compression, CompressionError, UnknownCompression};
use crate::record::record::{RecordErrorKind, RecordHeader, RecordToWrite};
use crate::record::validator::{
    FAULTS_MAX, ProduceError, ProduceRules, RecordFault, RecordFaultReason, ValidatedBatch, trust_own,
    validate_produce,
};

const NOW: i64 = 1_000_000;

fn rules() -> ProduceRules {
    ProduceRules {
        batch_bytes_max: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        now: time(NOW),
        requires_keys: false,
        codec: None,
    }
}

/// Rules that take the 1000 ms before now and the 100 ms after.
fn strict_rules() -> ProduceRules {
    ProduceRules {
        timestamp_before_max_ms: 1000,
        timestamp_after_max_ms: 100,
        ..rules()
    }
}

fn good() -> Bytes {
    batch_of(BatchOptions::default(), &["one", "two"])
}

/// Records at these times; a key for every second, the first included.
fn batch_at(compression: Compression, timestamps: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        ..BatchOptions::default()
    });
    for (index, timestamp) in timestamps.iter().enumerate() {
        let key = (index % 2 == 0).then_some(b"key".as_slice());
        builder
            .append(time(*timestamp), key, Some(b"value"), &[])
            .unwrap();
    }
    builder.build()
}

/// The batch with its header changed and the checksum right again.
fn with_header(bytes: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let body = &bytes[HEADER_LENGTH..];
    let mut header = BatchHeader::parse(bytes).unwrap();
    change(&mut header);
    header.crc = header.compute_crc(body);
    [&header.to_bytes(), body].concat().into()
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expectations are written in place")]
fn check(bytes: &Bytes, rules: &ProduceRules, expected: ProduceError) {
    let error = validate_produce(bytes, rules).unwrap_err();
    assert!(!error.to_string().is_empty());
    assert_eq!(error, expected);
}

/// What would be on the disk; it must be a batch with a right checksum.
fn stored(valid: &ValidatedBatch, offset: i64, epoch: i32) -> Vec<u8> {
    let header = valid.stamp(Offset::new(offset), LeaderEpoch::new(epoch));
    let bytes = [&header, valid.body()].concat();
    assert_eq!(bytes.len(), valid.size());
    let batch = Batch::parse(&bytes).unwrap();
    batch.verify_checksum().unwrap();
    assert_eq!(batch.header().base_offset, Offset::new(offset));
    assert_eq!(batch.header().leader_epoch, LeaderEpoch::new(epoch));
    assert_eq!(batch.header().max_timestamp, valid.max_timestamp());
    assert_eq!(
        *batch.header(),
        valid.header_at(Offset::new(offset), LeaderEpoch::new(epoch))
    );
    bytes
}

fn times(bytes: &[u8]) -> Vec<i64> {
    let mut scratch = Vec::new();
    let batch = Batch::parse(bytes).unwrap();
    let records = batch.records(&mut scratch, 1 << 20).unwrap();
    records.map(|record| record.unwrap().timestamp.get()).collect()
}

#[test]
fn a_good_batch_changes_in_offset_and_epoch_alone() {
    for compression in Compression::ALL {
        let bytes = batch_at(compression, &[NOW, NOW + 5, NOW - 5]);
        let valid = validate_produce(&bytes, &strict_rules()).unwrap();
        assert_eq!(valid.max_timestamp(), time(NOW + 5));
        let mut expected = bytes.to_vec();
        expected[..8].copy_from_slice(&123_i64.to_be_bytes());
        expected[12..16].copy_from_slice(&9_i32.to_be_bytes());
        assert_eq!(stored(&valid, 123, 9), expected, "{compression}");
        assert_eq!(valid.body_bytes(), valid.body());
        assert_eq!(
            valid.body_bytes().as_ptr(),
            valid.body().as_ptr(),
            "shared, not copied"
        );
    }
}

#[test]
fn exactly_one_whole_batch_is_taken() {
    let bytes = good();
    check(&Bytes::new(), &rules(), ProduceError::NoBatch);
    for found in 1..bytes.len() {
        let expected = if found < HEADER_LENGTH {
            HEADER_LENGTH
        } else {
            bytes.len()
        };
        check(
            &bytes.slice(..found),
            &rules(),
            ProduceError::Incomplete { expected, found },
        );
    }
    let size = bytes.len();
    let twice: Bytes = [&bytes[..], &bytes[..]].concat().into();
    check(
        &twice,
        &rules(),
        ProduceError::SeveralBatches { size, found: size },
    );
    let more: Bytes = [&bytes[..], b"!"].concat().into();
    check(&more, &rules(), ProduceError::SeveralBatches { size, found: 1 });
}

#[test]
fn damage_is_corruption_whatever_else_it_looks_like() {
    let bytes = good();
    for at in 17..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x81;
        let outcome = validate_produce(&damaged.into(), &rules());
        assert!(
            matches!(outcome, Err(ProduceError::Corrupt(BatchError::Checksum { .. }))),
            "byte {at}: {outcome:?}"
        );
    }
    let mut odd = bytes.to_vec();
    odd[16] = 3;
    check(
        &odd.into(),
        &rules(),
        ProduceError::Corrupt(BatchError::UnknownMagic { found: 3 }),
    );
    let mut short = bytes.to_vec();
    short[8..12].copy_from_slice(&7_i32.to_be_bytes());
    check(
        &short.into(),
        &rules(),
        ProduceError::Corrupt(BatchError::Length { found: 7 }),
    );
}

#[test]
fn old_formats_are_named() {
    for found in [0, 1] {
        let mut bytes = good().to_vec();
        bytes[16] = found;
        check(&bytes.into(), &rules(), ProduceError::OldMagic { found });
    }
}

#[test]
fn the_size_limit_is_inclusive() {
    let bytes = good();
    let size = bytes.len();
    let max = u64::try_from(size).unwrap();
    let limited = |batch_bytes_max| ProduceRules {
        batch_bytes_max,
        ..rules()
    };
    assert!(validate_produce(&bytes, &limited(max)).is_ok());
    check(
        &bytes,
        &limited(max - 1),
        ProduceError::TooLarge { size, max: max - 1 },
    );
}

#[test]
fn the_header_is_checked_behind_the_checksum() {
    let offset = with_header(&good(), |header| header.base_offset = Offset::new(1));
    check(&offset, &rules(), ProduceError::BaseOffset { found: 1 });

    let negative = with_header(&good(), |header| header.last_offset_delta = u32::MAX);
    let expected = BatchError::LastOffsetDelta { found: -1 };
    check(&negative, &rules(), ProduceError::Header(expected));

    let fewer = with_header(&good(), |header| header.record_count = 1);
    let expected = ProduceError::RecordCount {
        records: 1,
        offsets: 2,
    };
    check(&fewer, &rules(), expected);

    let more = with_header(&good(), |header| header.record_count = 3);
    let expected = BatchError::RecordCount { found: 3, offsets: 2 };
    check(&more, &rules(), ProduceError::Header(expected));

    let control = with_header(&good(), |header| {
        header.attributes = header.attributes.with_control(true);
    });
    check(&control, &rules(), ProduceError::Control);
}

#[test]
fn a_batch_without_records_is_refused() {
    let bytes = batch_around(0, &[]);
    let expected = ProduceError::RecordCount {
        records: 0,
        offsets: 1,
    };
    check(&bytes, &rules(), expected);
}

#[test]
fn an_unknown_codec_is_named() {
    for id in 5..8 {
        let mut bytes = good().to_vec();
        bytes[22] = id;
        let crc = super::super::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let expected = ProduceError::Compression(UnknownCompression { id });
        check(&bytes.into(), &rules(), expected);
    }
}

#[test]
fn an_idempotent_producer_needs_a_sequence() {
    let producer = |base_sequence| BatchOptions {
        producer: BatchProducer {
            id: ProducerId::new(7),
            epoch: ProducerEpoch::new(0),
            base_sequence,
        },
        ..BatchOptions::default()
    };
    let found = Sequence::NONE;
    let expected = ProduceError::Sequence {
        producer_id: ProducerId::new(7),
        found,
    };
    check(&batch_of(producer(found), &["one"]), &rules(), expected);
    let numbered = batch_of(producer(Sequence::new(0)), &["one"]);
    assert!(validate_produce(&numbered, &rules()).is_ok());
}

#[test]
fn offsets_inside_the_batch_count_from_zero() {
    // Two records, both with offset delta 0.
    let record = [12, 0, 0, 0, 1, 1, 0];
    let bytes = batch_around(2, &[record, record].concat());
    let error = validate_produce(&bytes, &rules()).unwrap_err();
    let ProduceError::Record(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.index, 1);
    let kind = RecordErrorKind::OffsetDelta {
        found: 0,
        min: 1,
        max: 1,
    };
    assert_eq!(error.kind, kind);
}

#[test]
fn malformed_records_are_refused_where_they_are_looked_at() {
    let garbage = batch_around(1, b"garbage");
    let outcome = validate_produce(&garbage, &rules());
    assert!(matches!(outcome, Err(ProduceError::Record(_))), "{outcome:?}");

    for compression in Compression::ALL {
        // Bytes that the codec never wrote, and bytes that it wrote of what are no records.
        let claimed = with_codec(&garbage, compression);
        let mut body = Vec::new();
        compression.compress(None, b"garbage", &mut body);
        let packed = with_codec(&batch_around(1, &body), compression);
        for bytes in [claimed, packed] {
            let outcome = validate_produce(&bytes, &rules());
            assert!(
                matches!(outcome, Err(ProduceError::Record(_))),
                "{compression}: {outcome:?}"
            );
        }
    }
}

fn with_codec(bytes: &Bytes, compression: Compression) -> Bytes {
    with_header(bytes, |header| {
        header.attributes = header.attributes.with_compression(compression);
    })
}

/// Records as they reach beyond the window, end with it, and are cut in each of their parts.
#[test]
fn compressed_records_are_refused_as_uncompressed_ones() {
    let long = vec![b'v'; 70_000];
    let headers = [RecordHeader::new("header", Some(&long))];
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(time(NOW), Some(b"k"), Some(&long), &[]).unwrap();
    builder.append(time(NOW), Some(&long), None, &headers).unwrap();
    let bytes = builder.build();
    let body = &bytes[HEADER_LENGTH..];
    let mut bodies: Vec<Vec<u8>> = (0..40)
        .chain((0..body.len()).step_by(997))
        .map(|length| body[..length].to_vec())
        .collect();
    bodies.push([body, b"more"].concat());
    // A length, a header count and a key's length that say something else.
    for at in 0..8 {
        for value in [0, 1, 0x7f] {
            let mut changed = body.to_vec();
            changed[at] = value;
            bodies.push(changed);
        }
    }
    for body in bodies {
        let answer = |compression: Compression| {
            let mut packed = Vec::new();
            compression.compress(None, &body, &mut packed);
            validate_produce(&with_codec(&batch_around(2, &packed), compression), &rules())
                .map(|valid| valid.max_timestamp())
        };
        let expected = answer(Compression::None);
        for compression in Compression::ALL {
            assert_eq!(
                answer(compression),
                expected,
                "{compression}, {} bytes",
                body.len()
            );
        }
    }
}

#[test]
fn damage_behind_the_last_record_is_noticed() {
    for compression in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let bytes = batch_at(compression, &[NOW]);
        let cut = bytes.slice(HEADER_LENGTH..bytes.len() - 1);
        let outcome = validate_produce(&with_codec(&batch_around(1, &cut), compression), &rules());
        let Err(ProduceError::Record(error)) = outcome else {
            panic!("{compression}: {outcome:?}");
        };
        let is_damage = matches!(
            error.kind,
            RecordErrorKind::Compression(CompressionError::Damaged { .. })
        );
        assert!(is_damage, "{compression}: {error}");
    }
}

#[test]
fn keys_are_required_compressed_or_not() {
    let keyed = ProduceRules {
        requires_keys: true,
        ..rules()
    };
    for compression in Compression::ALL {
        let fault = |index| RecordFault {
            index,
            reason: RecordFaultReason::KeyMissing,
        };
        let expected = ProduceError::InvalidRecords {
            count: 2,
            faults: vec![fault(1), fault(3)],
        };
        assert_eq!(expected.record_faults().len(), 2);
        check(&batch_at(compression, &[1, 2, 3, 4]), &keyed, expected);
        assert!(validate_produce(&batch_at(compression, &[1]), &keyed).is_ok());
    }
}

#[test]
fn timestamps_are_held_within_both_bounds_compressed_or_not() {
    let rules = strict_rules();
    for compression in Compression::ALL {
        let within = batch_at(compression, &[NOW - 1000, NOW + 100, -1]);
        let valid = validate_produce(&within, &rules).unwrap();
        assert_eq!(valid.max_timestamp(), time(NOW + 100));

        let fault = |index, found| RecordFault {
            index,
            reason: RecordFaultReason::TimestampOutOfRange {
                found: time(found),
                earliest: time(NOW - 1000),
                latest: time(NOW + 100),
            },
        };
        let late = batch_at(compression, &[NOW, NOW + 101, NOW]);
        let expected = ProduceError::InvalidTimestamps {
            count: 1,
            faults: vec![fault(1, NOW + 101)],
        };
        check(&late, &rules, expected);
        let early = batch_at(compression, &[NOW - 1001, NOW, NOW - 5000]);
        let expected = ProduceError::InvalidTimestamps {
            count: 2,
            faults: vec![fault(0, NOW - 1001), fault(2, NOW - 5000)],
        };
        check(&early, &rules, expected);
    }
}

#[test]
fn the_bounds_do_not_overflow() {
    let timestamps = [i64::MIN, -2, 0, NOW, i64::MAX];
    for timestamp in timestamps {
        let bytes = batch_at(Compression::None, &[timestamp]);
        for now in timestamps {
            let unlimited = ProduceRules {
                now: time(now),
                ..rules()
            };
            assert!(
                validate_produce(&bytes, &unlimited).is_ok(),
                "{timestamp} at {now}"
            );
            let strict = ProduceRules {
                now: time(now),
                ..strict_rules()
            };
            let allowed = validate_produce(&bytes, &strict).is_ok();
            let behind = i128::from(now) - i128::from(timestamp);
            assert_eq!(allowed, (-100..=1000).contains(&behind), "{timestamp} at {now}");
        }
    }
}

#[test]
fn keys_and_timestamps_at_fault_are_a_timestamp_error() {
    let rules = ProduceRules {
        requires_keys: true,
        ..strict_rules()
    };
    let bytes = batch_at(Compression::None, &[0, NOW]);
    let error = validate_produce(&bytes, &rules).unwrap_err();
    let ProduceError::InvalidTimestamps { count: 2, faults } = error else {
        panic!("{error:?}");
    };
    assert!(faults[0].reason.is_timestamp());
    assert_eq!(faults[1].reason, RecordFaultReason::KeyMissing);
    assert!(!faults[1].to_string().is_empty());
}

#[test]
fn many_faults_are_counted_and_the_first_are_named() {
    let keyed = ProduceRules {
        requires_keys: true,
        ..rules()
    };
    let bytes = batch_of(BatchOptions::default(), &vec!["x"; 3000]);
    let error = validate_produce(&bytes, &keyed).unwrap_err();
    assert_eq!(error.record_faults().len(), FAULTS_MAX);
    assert!(matches!(error, ProduceError::InvalidRecords { count: 3000, .. }));
}

#[test]
fn the_time_of_append_is_stamped() {
    let rules = ProduceRules {
        timestamp_type: TimestampType::LogAppendTime,
        ..strict_rules()
    };
    for compression in Compression::ALL {
        // Times that create time would not allow.
        let bytes = batch_at(compression, &[5, i64::MAX - 5, 7]);
        let valid = validate_produce(&bytes, &rules).unwrap();
        assert_eq!(valid.max_timestamp(), time(NOW));
        let stored = stored(&valid, 50, 0);
        assert_eq!(times(&stored), [NOW; 3], "{compression}");
        let header = BatchHeader::parse(&stored).unwrap();
        assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    }
}

#[test]
fn producers_may_not_claim_the_time_of_append() {
    for compression in Compression::ALL {
        let options = BatchOptions {
            compression,
            timestamp_type: TimestampType::LogAppendTime,
            ..BatchOptions::default()
        };
        let bytes = batch_of(options, &["one"]);
        let topic = ProduceRules {
            timestamp_type: TimestampType::LogAppendTime,
            ..rules()
        };
        let expected = ProduceError::InvalidTimestamps {
            count: 1,
            faults: vec![RecordFault {
                index: 0,
                reason: RecordFaultReason::AppendTimeClaimed,
            }],
        };
        check(&bytes, &topic, expected);

        // Where the topic keeps the producer's time, the claim is dropped, and the records' own times count.
        let lying = with_header(&bytes, |header| header.max_timestamp = time(NOW));
        let valid = validate_produce(&lying, &rules()).unwrap();
        assert_eq!(valid.max_timestamp(), time(100));
        let stored = stored(&valid, 0, 0);
        assert_eq!(times(&stored), [100]);
        let header = BatchHeader::parse(&stored).unwrap();
        assert_eq!(header.attributes.timestamp_type(), TimestampType::CreateTime);
        let outcome = validate_produce(&lying, &strict_rules());
        assert!(
            matches!(outcome, Err(ProduceError::InvalidTimestamps { .. })),
            "{outcome:?}"
        );
    }
}

/// Found by fuzzing: the claim hid that the records' own times overflow, and nobody could read what was stored.
#[test]
fn a_claimed_time_of_append_does_not_hide_impossible_times() {
    let bytes = batch_at(Compression::None, &[0, 5]);
    let lying = with_header(&bytes, |header| {
        header.attributes = header
            .attributes
            .with_timestamp_type(TimestampType::LogAppendTime);
        header.base_timestamp = time(i64::MAX);
    });
    let outcome = validate_produce(&lying, &rules());
    assert!(matches!(outcome, Err(ProduceError::Record(_))), "{outcome:?}");
}

#[test]
fn a_wrong_largest_timestamp_is_corrected() {
    for compression in Compression::ALL {
        let bytes = batch_at(compression, &[500, 700, 600]);
        for wrong in [TimestampMs::NONE, time(0), time(650), time(9_999)] {
            let lying = with_header(&bytes, |header| header.max_timestamp = wrong);
            let valid = validate_produce(&lying, &rules()).unwrap();
            assert_eq!(valid.max_timestamp(), time(700), "{compression}");
            assert_eq!(times(&stored(&valid, 0, -1)), [500, 700, 600]);
        }
    }
}

#[test]
fn a_bomb_is_refused() {
    // One record that is as long as it says, but longer than anybody should unpack.
    let value = vec![0; 65 << 20];
    let record = RecordToWrite {
        offset_delta: 0,
        timestamp_delta: 0,
        key: None,
        value: Some(&value),
        headers: &[],
    };
    let mut records = Vec::new();
    record.write(&mut records);
    let mut body = Vec::new();
    Compression::Zstd.compress(None, &records, &mut body);
    let bytes = with_codec(&batch_around(1, &body), Compression::Zstd);
    assert!(bytes.len() < 1 << 20);
    let outcome = validate_produce(&bytes, &rules());
    assert!(
        matches!(
            outcome,
            Err(ProduceError::DecompressedTooLarge(
                CompressionError::TooLarge { .. }
            ))
        ),
        "{outcome:?}"
    );
}

#[test]
fn our_own_batches_are_trusted_for_what_a_producer_may_not_do() {
    let own = batch_of(
        BatchOptions {
            control: true,
            base_offset: Offset::new(9),
            ..BatchOptions::default()
        },
        &["one"],
    );
    let valid = trust_own(own.clone()).unwrap();
    assert_eq!(stored(&valid, 9, -1), own);
    let mut damaged = own.to_vec();
    damaged[70] ^= 1;
    assert!(matches!(
        trust_own(damaged.into()),
        Err(BatchError::Checksum { .. })
    ));
}
