//! Batches at random: good ones read back as they were made; bad ones never panic, never yield more than they were
//! allowed to, and never pass the validator without being a batch that can be stored and read.
//!
//! Each round has a seed of its own, printed when it fails: `STRATALOG_SEED` starts there. `STRATALOG_FUZZ_SECONDS`
//! goes on for that long instead of a fixed number of rounds.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use log_core::config::TimestampType;
use log_core::model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use log_core::record::batch::{Batch, batches};
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::batch_header::{BatchHeader, HEADER_LENGTH, framed_size, verify_checksum};
use log_core::record::compression::{Codec, Compression, DECOMPRESSED_BYTES_MAX};
use log_core::record::control::ControlRecord;
use log_core::record::record::{RecordHeader, record_size_max};
use log_core::record::validator::{ProduceRules, ValidatedBatch, trust_own, validate_produce};

const FIXTURES: [&[u8]; 10] = [
    include_bytes!("fixtures/none.batch"),
    include_bytes!("fixtures/gzip.batch"),
    include_bytes!("fixtures/snappy.batch"),
    include_bytes!("fixtures/lz4.batch"),
    include_bytes!("fixtures/zstd.batch"),
    include_bytes!("fixtures/transactional.batch"),
    include_bytes!("fixtures/commit.batch"),
    include_bytes!("fixtures/abort.batch"),
    include_bytes!("fixtures/python_none.batch"),
    include_bytes!("fixtures/python_gzip.batch"),
];

/// What records may decompress to: less than some of the batches hold.
const LIMIT: usize = 64 << 10;

/// Names the seed of the round that fails.
struct PrintSeed(u64);

impl Drop for PrintSeed {
    #[expect(
        clippy::print_stderr,
        reason = "the seed belongs to the report of the failure"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with STRATALOG_SEED={}", self.0);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by its environment what to do"
)]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a whole number"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a long run is told in seconds, whatever the rounds cost"
)]
fn for_rounds(count: u64, mut round: impl FnMut(&mut Rng)) {
    let base = setting("STRATALOG_SEED").unwrap_or_else(|| Rng::new().u64(..));
    let seconds = setting("STRATALOG_FUZZ_SECONDS");
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    for index in 0.. {
        match end {
            None if count <= index => return,
            Some(end) if end <= Instant::now() => return,
            _ => {}
        }
        let seed = base.wrapping_add(index);
        let _print_seed = PrintSeed(seed);
        round(&mut Rng::with_seed(seed));
    }
}

/// A record that owns its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plain {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn random_bytes(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(..20) {
        0 => 0,
        1 => rng.usize(..5000),
        _ => rng.usize(..60),
    };
    // Half of them compress.
    let mask = if rng.bool() { 0xff } else { 0x01 };
    (0..length).map(|_| rng.u8(..) & mask).collect()
}

fn random_option(rng: &mut Rng) -> Option<Vec<u8>> {
    (rng.u8(..5) != 0).then(|| random_bytes(rng))
}

fn random_record(rng: &mut Rng) -> Plain {
    let header_count = if rng.u8(..4) == 0 { rng.usize(..5) } else { 0 };
    Plain {
        timestamp: match rng.u8(..10) {
            0 => -1,
            1 => rng.i64(i64::MIN / 2..i64::MAX / 2),
            _ => 1_700_000_000_000 + rng.i64(-100_000..100_000),
        },
        key: random_option(rng),
        value: random_option(rng),
        headers: (0..header_count)
            .map(|_| (random_bytes(rng), random_option(rng)))
            .collect(),
    }
}

fn random_options(rng: &mut Rng) -> BatchOptions {
    BatchOptions {
        compression: rng.choice(Compression::ALL).unwrap(),
        compression_level: rng.bool().then(|| rng.i32(-1..6)),
        producer: if rng.bool() {
            BatchProducer::default()
        } else {
            BatchProducer {
                id: ProducerId::new(rng.i64(0..)),
                epoch: ProducerEpoch::new(rng.i16(0..)),
                base_sequence: Sequence::new(rng.i32(0..)),
            }
        },
        transactional: rng.bool(),
        ..BatchOptions::default()
    }
}

fn build(options: BatchOptions, records: &[Plain]) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for record in records {
        let headers: Vec<RecordHeader<'_>> = record
            .headers
            .iter()
            .map(|(key, value)| RecordHeader {
                key,
                value: value.as_deref(),
            })
            .collect();
        let before = builder.estimated_size();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder
            .append(TimestampMs::new(record.timestamp), key, value, &headers)
            .unwrap();
        assert!(builder.estimated_size() - before <= record_size_max(key, value, &headers));
    }
    builder.build()
}

fn random_batch(rng: &mut Rng) -> (Bytes, Vec<Plain>) {
    let count = rng.usize(1..30);
    let records: Vec<Plain> = (0..count).map(|_| random_record(rng)).collect();
    (build(random_options(rng), &records), records)
}

fn lenient_rules() -> ProduceRules {
    ProduceRules {
        batch_bytes_max: u64::MAX,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        now: TimestampMs::new(1_700_000_000_000),
        requires_keys: false,
        codec: None,
    }
}

fn random_rules(rng: &mut Rng) -> ProduceRules {
    ProduceRules {
        batch_bytes_max: if rng.bool() { u64::MAX } else { rng.u64(..2000) },
        timestamp_type: rng
            .choice([TimestampType::CreateTime, TimestampType::LogAppendTime])
            .unwrap(),
        timestamp_before_max_ms: if rng.bool() { i64::MAX } else { rng.i64(..) },
        timestamp_after_max_ms: if rng.bool() { i64::MAX } else { rng.i64(..) },
        now: TimestampMs::new(if rng.bool() {
            rng.i64(..)
        } else {
            1_700_000_000_000
        }),
        requires_keys: rng.bool(),
        codec: if rng.bool() { None } else { Some(random_codec(rng)) },
    }
}

fn random_codec(rng: &mut Rng) -> Codec {
    Codec {
        compression: rng.choice(Compression::ALL).unwrap(),
        level: rng.bool().then(|| rng.i32(-5..12)),
    }
}

fn stored(valid: &ValidatedBatch, base_offset: Offset) -> Bytes {
    let header = valid.stamp(base_offset, LeaderEpoch::new(3));
    [&header, valid.body()].concat().into()
}

#[test]
fn random_batches_read_back() {
    for_rounds(500, |rng| {
        let (bytes, expected) = random_batch(rng);
        let base_offset = Offset::new(rng.i64(0..1 << 50));
        let valid = validate_produce(&bytes, &lenient_rules()).unwrap();
        let bytes = stored(&valid, base_offset);

        let batch = Batch::parse(&bytes).unwrap();
        batch.verify_checksum().unwrap();
        let mut scratch = Vec::new();
        let records = batch.records(&mut scratch, 1 << 20).unwrap();
        let mut found = Vec::new();
        for (index, record) in (0..).zip(records) {
            let record = record.unwrap();
            assert_eq!(record.offset, base_offset.plus(index));
            found.push(Plain {
                timestamp: record.timestamp.get(),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers()
                    .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                    .collect(),
            });
        }
        assert_eq!(found, expected);
        let timestamps = expected.iter().map(|record| record.timestamp);
        assert_eq!(valid.max_timestamp().get(), timestamps.max().unwrap().max(-1));
        assert_eq!(
            batch.header().next_offset(),
            base_offset.plus(i64::try_from(found.len()).unwrap())
        );
    });
}

/// One change of the kind that finds mistakes: bits, limits of integers, cuts, repetitions, other bytes.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    const LIMITS: [i64; 10] = [
        0,
        1,
        -1,
        i64::MIN,
        i64::MAX,
        0x7fff_ffff,
        0x8000_0000,
        0x7fff_ffff_ffff_0000,
        0x80,
        0x8000,
    ];
    if bytes.is_empty() {
        bytes.push(rng.u8(..));
        return;
    }
    let at = if rng.bool() {
        rng.usize(..bytes.len().min(HEADER_LENGTH))
    } else {
        rng.usize(..bytes.len())
    };
    match rng.u8(..8) {
        0 | 1 => bytes[at] ^= 1 << rng.u8(..8),
        2 => bytes[at] = rng.u8(..),
        3 => {
            let limit = rng.choice(LIMITS).unwrap().to_be_bytes();
            let width = rng.choice([2, 4, 8]).unwrap().min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&limit[8 - width..]);
        }
        4 => bytes.truncate(at),
        5 => {
            let end = (at + rng.usize(..20)).min(bytes.len());
            bytes.drain(at..end);
        }
        6 => {
            let end = (at + rng.usize(..200)).min(bytes.len());
            let repeated = bytes[at..end].to_vec();
            bytes.splice(at..at, repeated);
        }
        _ => {
            let other: Vec<u8> = (0..rng.usize(..20)).map(|_| rng.u8(..)).collect();
            bytes.splice(at..at, other);
        }
    }
}

/// Makes length and checksum right again, so that what lies behind them is reached.
fn mend(rng: &mut Rng, bytes: &mut [u8]) {
    if bytes.len() < HEADER_LENGTH {
        return;
    }
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    if rng.bool() {
        bytes[..8].fill(0);
    }
    let crc = log_core::record::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A batch whose records were damaged before they were compressed.
fn damaged_inside(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let batch = Batch::parse(bytes).unwrap();
    let mut body = Vec::new();
    let codec = batch.header().compression();
    codec.decompress(batch.body(), &mut body, 1 << 20).unwrap();
    for _ in 0..rng.usize(1..4) {
        mutate(rng, &mut body);
    }
    let mut damaged = bytes[..HEADER_LENGTH].to_vec();
    codec.compress(Some(1), &body, &mut damaged);
    damaged
}

fn random_input(rng: &mut Rng) -> Vec<u8> {
    let good = if rng.u8(..4) == 0 {
        random_batch(rng).0.to_vec()
    } else {
        rng.choice(FIXTURES).unwrap().to_vec()
    };
    let mut bytes = match rng.u8(..10) {
        0 => random_bytes(rng),
        1 | 2 => damaged_inside(rng, &good),
        3 => [&good[..], &random_batch(rng).0[..]].concat(),
        _ => good,
    };
    for _ in 0..rng.usize(..4) {
        mutate(rng, &mut bytes);
    }
    if rng.u8(..4) != 0 {
        mend(rng, &mut bytes);
    }
    bytes
}

/// Reads everything there is to read.
fn read_all(bytes: &[u8]) {
    assert!(framed_size(bytes).is_ok() || BatchHeader::parse(bytes).is_err());
    let mut walk = batches(bytes);
    let mut scratch = Vec::new();
    for batch in walk.by_ref() {
        let Ok(batch) = batch else { break };
        let header = batch.header();
        assert_eq!(header.to_bytes(), batch.bytes()[..HEADER_LENGTH]);
        assert!(header.base_offset <= header.last_offset() && header.last_offset() < header.next_offset());
        assert_eq!(
            header.compute_crc(batch.body()) == header.crc,
            batch.verify_checksum().is_ok()
        );
        let Ok(records) = batch.records(&mut scratch, LIMIT) else {
            continue;
        };
        let mut count = 0;
        let mut sizes = 0;
        for record in records {
            let Ok(record) = record else { break };
            count += 1;
            sizes += record.size();
            assert!(header.base_offset <= record.offset && record.offset <= header.last_offset());
            let parts = record
                .headers()
                .map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len));
            let payload = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            assert!(parts.sum::<usize>() + payload < record.size());
            if header.attributes.is_control() {
                let readable = ControlRecord::parse(&record).is_ok();
                assert!(!readable || record.key.is_some());
            }
        }
        assert!(count <= header.record_count);
        assert!(sizes <= batch.body().len().max(LIMIT));
    }
    assert!(walk.position() <= bytes.len());
    assert!(scratch.len() <= LIMIT);
}

/// A batch that passes can be stored, read back to its last record, and trusted.
fn validate(bytes: &Bytes, rules: &ProduceRules) {
    let valid = match validate_produce(bytes, rules) {
        Ok(valid) => valid,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let stored = stored(&valid, Offset::new(1 << 40));
    verify_checksum(&stored).unwrap();
    let header = *Batch::parse(&stored).unwrap().header();
    assert_eq!(header.record_count, header.last_offset_delta + 1);
    assert_eq!(header.attributes.timestamp_type(), rules.timestamp_type);
    assert!(u64::try_from(valid.size()).unwrap() <= rules.batch_bytes_max);
    if let Some(codec) = rules.codec {
        assert_eq!(header.compression(), codec.compression);
    }
    assert!(!header.attributes.is_control());
    let mut scratch = Vec::new();
    let batch = Batch::parse(&stored).unwrap();
    let records: Vec<_> = batch
        .records(&mut scratch, DECOMPRESSED_BYTES_MAX)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(records.iter().map(|record| record.offset).eq(offsets(&header)));
    let max_timestamp = match rules.timestamp_type {
        // Times before "none" are taken and do not count, as Kafka has it.
        TimestampType::CreateTime => {
            let newest = records.iter().map(|record| record.timestamp).max();
            newest.unwrap().max(TimestampMs::NONE)
        }
        TimestampType::LogAppendTime => rules.now,
    };
    assert_eq!(header.max_timestamp, max_timestamp);
    trust_own(stored).unwrap();
}

fn offsets(header: &BatchHeader) -> impl Iterator<Item = Offset> {
    let base_offset = header.base_offset;
    (0..i64::from(header.record_count)).map(move |delta| base_offset.plus(delta))
}

#[test]
fn nothing_panics_and_nothing_bad_passes() {
    for_rounds(10_000, |rng| {
        let bytes = Bytes::from(random_input(rng));
        read_all(&bytes);
        validate(&bytes, &lenient_rules());
        validate(&bytes, &random_rules(rng));
    });
}

/// The same body with another codec, length and checksum right.
fn recompressed(bytes: &[u8], codec: Compression, body: &[u8]) -> Bytes {
    let mut packed = Vec::new();
    codec.compress(Some(1), body, &mut packed);
    let mut header = BatchHeader::parse(bytes).unwrap();
    header.base_offset = Offset::ZERO;
    header.attributes = header.attributes.with_compression(codec);
    header.batch_length = u32::try_from(packed.len() + HEADER_LENGTH - 12).unwrap();
    header.crc = header.compute_crc(&packed);
    [&header.to_bytes()[..], &packed].concat().into()
}

/// Records of compressed batches pass by through a small window, uncompressed ones are read where they lie: both must
/// see the same.
#[test]
fn the_answer_is_the_same_compressed_or_not() {
    for_rounds(3000, |rng| {
        let (_, mut records) = random_batch(rng);
        // Records larger than the window, and such as lie across its end.
        if rng.u8(..4) == 0 {
            let length = rng.choice([1000, 32 << 10, 100_000]).unwrap() + rng.usize(..100);
            records
                .iter_mut()
                .take(3)
                .for_each(|record| record.value = Some(vec![rng.u8(..); length]));
        }
        let plain = build(BatchOptions::default(), &records);
        let mut body = Batch::parse(&plain).unwrap().body().to_vec();
        for _ in 0..rng.usize(..3) {
            mutate(rng, &mut body);
        }
        let rules = ProduceRules {
            batch_bytes_max: u64::MAX,
            codec: None,
            ..random_rules(rng)
        };
        let plain = recompressed(&plain, Compression::None, &body);
        let expected = validate_produce(&plain, &rules).map(|valid| valid.max_timestamp());
        for codec in Compression::ALL {
            let found = validate_produce(&recompressed(&plain, codec, &body), &rules);
            assert_eq!(found.map(|valid| valid.max_timestamp()), expected, "{codec}");
        }
    });
}

/// Through codecs at random: the records are the same bytes, and the header says the same of them.
#[test]
fn batches_in_another_codec_are_the_same_batches() {
    for_rounds(500, |rng| {
        let (mut bytes, _) = random_batch(rng);
        let uncompressed = |bytes: &Bytes| {
            let (batch, mut records) = (Batch::parse(bytes).unwrap(), Vec::new());
            let codec = batch.header().compression();
            codec
                .decompress(batch.body(), &mut records, DECOMPRESSED_BYTES_MAX)
                .unwrap();
            records
        };
        let (before, records) = (BatchHeader::parse(&bytes).unwrap(), uncompressed(&bytes));
        for _ in 0..3 {
            let codec = random_codec(rng);
            let rules = ProduceRules {
                codec: Some(codec),
                ..lenient_rules()
            };
            let valid = validate_produce(&bytes, &rules).unwrap();
            bytes = stored(&valid, Offset::ZERO);
            verify_checksum(&bytes).unwrap();
            assert_eq!(uncompressed(&bytes), records);
            let header = BatchHeader::parse(&bytes).unwrap();
            let expected = BatchHeader {
                attributes: before.attributes.with_compression(codec.compression),
                leader_epoch: header.leader_epoch,
                batch_length: header.batch_length,
                crc: header.crc,
                ..before
            };
            assert_eq!(header, expected);
        }
    });
}

#[test]
fn codecs_stay_within_the_limit_whatever_they_are_fed() {
    for_rounds(10_000, |rng| {
        let codec = rng.choice(Compression::ALL).unwrap();
        let mut input = Vec::new();
        match rng.u8(..4) {
            0 => input = random_bytes(rng),
            1 => codec.compress(None, &vec![rng.u8(..); rng.usize(..4 * LIMIT)], &mut input),
            2 => codec.compress(Some(1), &random_bytes(rng).repeat(rng.usize(..40)), &mut input),
            _ => input.extend_from_slice(&rng.choice(FIXTURES).unwrap()[HEADER_LENGTH..]),
        }
        for _ in 0..rng.usize(..4) {
            mutate(rng, &mut input);
        }
        let limit = rng.usize(..LIMIT);
        let mut output = Vec::new();
        let outcome = codec.decompress(&input, &mut output, limit);
        assert!(output.len() <= limit);
        assert!(
            output.capacity() <= 2 * limit + 64,
            "{codec}: {}",
            output.capacity()
        );
        if let Err(error) = outcome {
            assert!(!error.to_string().is_empty());
        }
    });
}
