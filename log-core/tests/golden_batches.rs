//! Batches that other implementations wrote, read record by record; and the same records written by us, which must
//! give the same bytes where no codec has a say. `fixtures/README.md` says who wrote what.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use bytes::Bytes;
use log_core::config::TimestampType;
use log_core::model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use log_core::record::batch::{Batch, batches};
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::batch_header::BatchHeader;
use log_core::record::compression::{Codec, Compression};
use log_core::record::control::{ControlRecord, EndTransactionMarker, TransactionOutcome};
use log_core::record::record::{Record, RecordHeader};
use log_core::record::validator::{ProduceRules, validate_produce};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/", $name, ".batch")).as_slice()
    };
}

const TIME: i64 = 1_700_000_000_000;

/// A record that owns its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plain {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Plain {
    fn new(offset: i64, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        Self {
            offset,
            timestamp,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: Vec::new(),
        }
    }

    fn of(record: &Record<'_>) -> Self {
        let headers = record.headers();
        Self {
            headers: headers
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect(),
            ..Self::new(
                record.offset.get(),
                record.timestamp.get(),
                record.key,
                record.value,
            )
        }
    }

    fn append_to(&self, builder: &mut BatchBuilder) {
        let headers: Vec<RecordHeader<'_>> = self
            .headers
            .iter()
            .map(|(key, value)| RecordHeader {
                key,
                value: value.as_deref(),
            })
            .collect();
        let timestamp = TimestampMs::new(self.timestamp);
        builder
            .append(timestamp, self.key.as_deref(), self.value.as_deref(), &headers)
            .unwrap();
    }
}

fn cycle(length: usize) -> Vec<u8> {
    b"stratalog ".iter().copied().cycle().take(length).collect()
}

/// The records of `BatchFixtures.java`.
fn records() -> Vec<Plain> {
    let mut records = vec![
        Plain::new(0, TIME, Some(b"key-0"), Some(b"value-0")),
        Plain {
            headers: vec![
                (b"trace".to_vec(), Some(vec![1, 2, 3])),
                (b"none".to_vec(), None),
                ("größe".into(), Some(Vec::new())),
            ],
            ..Plain::new(1, TIME + 5, None, Some(b"no key"))
        },
        Plain::new(2, TIME - 10, Some(b"tombstone"), None),
    ];
    for i in 3_u8..10 {
        let key = format!("key-{i}");
        let value = cycle(usize::from(i) * usize::from(i));
        let time = TIME + 1000 * i64::from(i);
        records.push(Plain::new(i.into(), time, Some(key.as_bytes()), Some(&value)));
    }
    records.push(Plain::new(10, TIME + 7, Some(b""), Some(&cycle(200))));
    records
}

fn large_records() -> Vec<Plain> {
    let mut records = records();
    records.push(Plain::new(11, TIME, Some(b"large"), Some(&cycle(70_000))));
    records
}

fn read(bytes: &[u8]) -> (BatchHeader, Vec<Plain>) {
    let batch = Batch::parse(bytes).unwrap();
    assert_eq!(batch.bytes().len(), bytes.len(), "the fixture is one batch");
    batch.verify_checksum().unwrap();
    let mut scratch = Vec::new();
    let records = batch.records(&mut scratch, 1 << 20).unwrap();
    let records = records.map(|record| Plain::of(&record.unwrap())).collect();
    (*batch.header(), records)
}

fn rules() -> ProduceRules {
    ProduceRules {
        batch_bytes_max: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        now: TimestampMs::new(TIME),
        requires_keys: false,
        codec: None,
    }
}

/// Reads a producer's batch, puts it through the validator, and writes and reads the same records.
fn check_produced(bytes: &'static [u8], compression: Compression, expected: &[Plain]) {
    let (header, found) = read(bytes);
    assert_eq!(found, expected, "{compression}");
    assert_eq!(header.attributes.compression(), Ok(compression));
    assert_eq!(header.base_offset, Offset::ZERO);
    assert_eq!(header.producer_id, ProducerId::NONE);
    assert_eq!(header.last_sequence(), Sequence::NONE);
    assert_eq!(header.last_offset().get(), expected.last().unwrap().offset);
    assert_eq!(
        header.max_timestamp.get(),
        expected.iter().map(|r| r.timestamp).max().unwrap()
    );

    let valid = validate_produce(&Bytes::from_static(bytes), &rules()).unwrap();
    assert_eq!(
        [&valid.stamp(Offset::ZERO, header.leader_epoch), valid.body()].concat(),
        bytes,
        "{compression}: nothing but offset and epoch changes"
    );

    for other in Compression::ALL {
        let rules = ProduceRules {
            codec: Some(Codec {
                compression: other,
                level: None,
            }),
            ..rules()
        };
        let valid = validate_produce(&Bytes::from_static(bytes), &rules).unwrap();
        let stored = [&valid.stamp(Offset::ZERO, header.leader_epoch), valid.body()].concat();
        let (found, records) = read(&stored);
        assert_eq!(records, expected, "{compression} to {other}");
        assert_eq!(found.attributes.compression(), Ok(other));
        assert_eq!(found.max_timestamp, header.max_timestamp);
    }

    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        ..BatchOptions::default()
    });
    for record in expected {
        record.append_to(&mut builder);
    }
    let built = builder.build();
    assert_eq!(read(&built).1, expected, "{compression}");
    if compression == Compression::None {
        assert_eq!(built, bytes);
    }
}

#[test]
fn the_java_producers_batches_are_read() {
    check_produced(fixture!("none"), Compression::None, &records());
    check_produced(fixture!("gzip"), Compression::Gzip, &large_records());
    check_produced(fixture!("snappy"), Compression::Snappy, &large_records());
    check_produced(fixture!("lz4"), Compression::Lz4, &large_records());
    check_produced(fixture!("zstd"), Compression::Zstd, &large_records());
}

#[test]
fn the_python_producers_batches_are_read() {
    let expected: Vec<Plain> = (0..3)
        .map(|i| Plain {
            headers: vec![(b"h".to_vec(), Some(b"1".to_vec()))],
            ..Plain::new(
                i,
                TIME + i,
                Some(format!("key-{i}").as_bytes()),
                Some(&b"value ".repeat(20)),
            )
        })
        .collect();
    for name in [fixture!("python_none"), fixture!("python_gzip")] {
        assert_eq!(read(name).1, expected);
    }
}

#[test]
fn librdkafkas_batches_are_read() {
    let headers = vec![(b"h".to_vec(), Some(b"1".to_vec())), (b"none".to_vec(), None)];
    let value = b"value ".repeat(20);
    let mut expected = vec![
        Plain::new(0, TIME, None, Some(&value)),
        Plain::new(1, TIME + 1, Some(b"key-1"), Some(&value)),
        Plain::new(2, TIME + 2, Some(b"key-2"), None),
    ];
    for record in &mut expected {
        record.headers.clone_from(&headers);
    }
    expected.push(Plain::new(3, TIME + 3, Some(b"large"), Some(&cycle(70_000))));
    check_produced(fixture!("librdkafka_gzip"), Compression::Gzip, &expected);
    check_produced(fixture!("librdkafka_snappy"), Compression::Snappy, &expected);
    check_produced(fixture!("librdkafka_lz4"), Compression::Lz4, &expected);
    check_produced(fixture!("librdkafka_zstd"), Compression::Zstd, &expected);
}

#[test]
fn a_transactional_batch_is_read_and_written() {
    let bytes = fixture!("transactional");
    let (header, found) = read(bytes);
    let base_offset = 5_000_000_000;
    let append_time = TIME + 99;
    let mut expected = records();
    for record in &mut expected {
        record.offset += base_offset;
        record.timestamp = append_time;
    }
    assert_eq!(found, expected);
    assert!(header.attributes.is_transactional() && !header.attributes.is_control());
    assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(header.leader_epoch, LeaderEpoch::new(3));
    assert_eq!(header.last_offset(), Offset::new(base_offset + 10));
    assert_eq!(header.next_offset(), Offset::new(base_offset + 11));
    assert_eq!(header.producer_id, ProducerId::new(4242));
    assert_eq!(header.producer_epoch, ProducerEpoch::new(7));
    assert_eq!(header.base_sequence, Sequence::new(i32::MAX - 1));
    assert_eq!(header.last_sequence(), Sequence::new(8), "the sequences wrap");
    assert_eq!(header.to_bytes(), bytes[..61]);
    assert_eq!(header.compute_crc(&bytes[61..]), header.crc);
}

#[test]
fn markers_are_read_and_written() {
    for (bytes, outcome, offset, time, epoch, coordinator_epoch) in [
        (fixture!("commit"), TransactionOutcome::Commit, 77, TIME, 7, 12),
        (fixture!("abort"), TransactionOutcome::Abort, 78, TIME + 1, 8, 13),
    ] {
        let marker = EndTransactionMarker {
            outcome,
            coordinator_epoch,
        };
        let batch = Batch::parse(bytes).unwrap();
        assert!(batch.header().attributes.is_control());
        let mut scratch = Vec::new();
        let record = batch.records(&mut scratch, 0).unwrap().next().unwrap().unwrap();
        assert_eq!(record.offset, Offset::new(offset));
        assert_eq!(
            ControlRecord::parse(&record),
            Ok(ControlRecord::EndTransaction(marker))
        );

        let built = marker.to_batch(
            ProducerId::new(4242),
            ProducerEpoch::new(epoch),
            TimestampMs::new(time),
        );
        let valid = log_core::record::validator::trust_own(built).unwrap();
        let stamped = valid.stamp(Offset::new(offset), LeaderEpoch::new(5));
        assert_eq!([&stamped, valid.body()].concat(), bytes);
    }
}

#[test]
fn batches_in_a_row_are_walked() {
    let all = [
        fixture!("none"),
        fixture!("zstd"),
        fixture!("transactional"),
        fixture!("commit"),
    ];
    let bytes = all.concat();
    let found: Vec<&[u8]> = batches(&bytes).map(|batch| batch.unwrap().bytes()).collect();
    assert_eq!(found, all);
}

#[test]
fn an_idempotent_batch_of_ours_says_so() {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer: BatchProducer {
            id: ProducerId::new(1),
            epoch: ProducerEpoch::new(2),
            base_sequence: Sequence::new(3),
        },
        ..BatchOptions::default()
    });
    records()[0].append_to(&mut builder);
    records()[1].append_to(&mut builder);
    let (header, _) = read(&builder.build());
    assert_eq!(header.producer_id, ProducerId::new(1));
    assert_eq!(header.producer_epoch, ProducerEpoch::new(2));
    assert_eq!(header.base_sequence, Sequence::new(3));
    assert_eq!(header.last_sequence(), Sequence::new(4));
}
