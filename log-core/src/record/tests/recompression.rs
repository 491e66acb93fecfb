//! Batches in their topic's codec: each codec to each, what stays, and the limit on what comes out.
//! Batches of other implementations are written anew in `tests/golden_batches.rs`, random ones in `tests/fuzz_batch.rs`.

use bytes::Bytes;

use super::batch::time;
use crate::config::TimestampType;
use crate::model::{Offset, ProducerEpoch, ProducerId, Sequence};
use crate::record::batch::Batch;
use crate::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use crate::record::batch_header::{BatchHeader, HEADER_LENGTH};
use crate::record::compression::{Codec, Compression, DECOMPRESSED_BYTES_MAX};
use crate::record::compressor::Compressor;
use crate::record::record::RecordHeader;
use crate::record::validator::{ProduceError, ProduceRules, ValidatedBatch, validate_produce};

const NOW: i64 = 1_000_000;

fn rules(codec: Codec) -> ProduceRules {
    ProduceRules {
        batch_bytes_max: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        now: time(NOW),
        requires_keys: false,
        codec: Some(codec),
    }
}

fn usual(compression: Compression) -> Codec {
    Codec {
        compression,
        level: None,
    }
}

/// A line that repeats, to some length.
fn text(length: usize) -> Vec<u8> {
    b"a line that repeats, with a counter: 0123456789\n"
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

/// Bytes that no codec makes fewer.
fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// A batch with every field that a producer can set, around records of all kinds.
fn batch(compression: Compression, value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        producer: BatchProducer {
            id: ProducerId::new(4242),
            epoch: ProducerEpoch::new(7),
            base_sequence: Sequence::new(i32::MAX - 1),
        },
        transactional: true,
        ..BatchOptions::default()
    });
    let headers = [
        RecordHeader::new("trace", Some(&[1, 2, 3])),
        RecordHeader::new("none", None),
    ];
    builder
        .append(time(NOW + 5), Some(b"key"), Some(value), &headers)
        .unwrap();
    builder.append(time(NOW + 9), None, None, &[]).unwrap();
    builder.append(time(NOW - 5), Some(b""), Some(b""), &[]).unwrap();
    builder.build()
}

/// What would be on the disk.
fn stored(valid: &ValidatedBatch) -> Vec<u8> {
    let bytes = [&valid.header().to_bytes(), valid.body()].concat();
    assert_eq!(bytes.len(), valid.size());
    Batch::parse(&bytes).unwrap().verify_checksum().unwrap();
    bytes
}

/// The records as they are uncompressed.
fn records(bytes: &[u8]) -> Vec<u8> {
    let (batch, mut records) = (Batch::parse(bytes).unwrap(), Vec::new());
    let compression = batch.header().compression();
    compression
        .decompress(batch.body(), &mut records, DECOMPRESSED_BYTES_MAX)
        .unwrap();
    records
}

#[test]
fn every_codec_becomes_every_other_and_nothing_else_changes() {
    for value in [b"small".to_vec(), text(100_000), noise(100_000)] {
        for from in Compression::ALL {
            let bytes = batch(from, &value);
            let arrived = *Batch::parse(&bytes).unwrap().header();
            for to in Compression::ALL {
                let valid = validate_produce(&bytes, &rules(usual(to))).unwrap();
                let stored = stored(&valid);
                assert_eq!(records(&stored), records(&bytes), "{from} to {to}");
                let header = BatchHeader::parse(&stored).unwrap();
                let expected = BatchHeader {
                    attributes: arrived.attributes.with_compression(to),
                    batch_length: header.batch_length,
                    crc: header.crc,
                    ..arrived
                };
                assert_eq!(header, expected, "{from} to {to}");
                assert_eq!(header.size(), stored.len());
            }
        }
    }
}

/// Whatever level the producer chose, it has done the work.
#[test]
fn a_batch_in_the_topic_s_codec_stays_the_producer_s_bytes() {
    for compression in Compression::ALL {
        let bytes = batch(compression, &text(5000));
        let best = Codec {
            compression,
            level: compression.levels().map(|levels| *levels.end()),
        };
        let valid = validate_produce(&bytes, &rules(best)).unwrap();
        assert_eq!(stored(&valid), bytes);
        assert_eq!(
            valid.body().as_ptr(),
            bytes[HEADER_LENGTH..].as_ptr(),
            "shared, not copied"
        );
    }
}

#[test]
fn the_time_of_the_append_goes_together_with_another_codec() {
    for to in Compression::ALL {
        let rules = ProduceRules {
            timestamp_type: TimestampType::LogAppendTime,
            ..rules(usual(to))
        };
        let valid = validate_produce(&batch(Compression::Lz4, &text(500)), &rules).unwrap();
        let stored = stored(&valid);
        let stored = Batch::parse(&stored).unwrap();
        assert_eq!(stored.header().compression(), to);
        assert_eq!(stored.header().max_timestamp, time(NOW));
        let mut scratch = Vec::new();
        let records = stored.records(&mut scratch, DECOMPRESSED_BYTES_MAX).unwrap();
        assert!(
            records
                .map(Result::unwrap)
                .all(|record| record.timestamp == time(NOW))
        );
    }
}

/// As in Kafka: what comes may not be larger than the topic takes, and what is stored may not.
#[test]
fn the_limit_holds_before_and_after() {
    let (packed, plain) = (
        batch(Compression::Zstd, &text(200_000)),
        batch(Compression::None, &text(200_000)),
    );
    let limited = |max, to| ProduceRules {
        batch_bytes_max: max,
        ..rules(usual(to))
    };
    let size = plain.len();
    let max = u64::try_from(size).unwrap();
    assert!(validate_produce(&packed, &limited(max, Compression::None)).is_ok());
    for max in [max - 1, 100_000, u64::try_from(packed.len()).unwrap()] {
        let error = validate_produce(&packed, &limited(max, Compression::None)).unwrap_err();
        assert_eq!(error, ProduceError::TooLarge { size, max });
    }
    let error = validate_produce(&plain, &limited(max - 1, Compression::Zstd)).unwrap_err();
    assert_eq!(error, ProduceError::TooLarge { size, max: max - 1 });

    // Some batches grow by being compressed.
    let noisy = batch(Compression::None, &noise(50_000));
    let max = u64::try_from(noisy.len()).unwrap();
    for to in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let grown = validate_produce(&noisy, &limited(2 * max, to)).unwrap();
        assert!(noisy.len() < grown.size(), "{to}");
        let error = validate_produce(&noisy, &limited(max, to)).unwrap_err();
        assert_eq!(
            error,
            ProduceError::TooLarge {
                size: grown.size(),
                max
            },
            "{to}"
        );
    }
}

/// Little that becomes much is counted to its end, and not kept.
#[test]
fn a_batch_that_unpacks_to_more_than_a_batch_is_refused_with_its_size() {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: Compression::Zstd,
        ..BatchOptions::default()
    });
    builder
        .append(time(NOW), None, Some(&vec![0; 20 << 20]), &[])
        .unwrap();
    let plain_size = builder.estimated_size();
    let error = validate_produce(&builder.build(), &rules(usual(Compression::None))).unwrap_err();
    let max = 1 << 20;
    assert_eq!(
        error,
        ProduceError::TooLarge {
            size: plain_size,
            max
        }
    );
}

/// What is wrong with a record is told before what its batch would become.
#[test]
fn records_are_checked_before_the_batch_is_written_anew() {
    let rules = ProduceRules {
        requires_keys: true,
        batch_bytes_max: 1000,
        ..rules(usual(Compression::None))
    };
    let error = validate_produce(&batch(Compression::Gzip, &text(10_000)), &rules).unwrap_err();
    assert!(
        matches!(error, ProduceError::InvalidRecords { count: 1, .. }),
        "{error}"
    );
}

#[test]
fn a_level_is_how_hard_the_codec_tries() {
    let mut value = text(30_000);
    // Each line differs from the last one in a few places.
    for (index, place) in (0..value.len()).step_by(37).enumerate() {
        value[place] = u8::try_from(index * index % 251).unwrap();
    }
    let bytes = batch(Compression::None, &value);
    let size = |compression, level| {
        let codec = Codec {
            compression,
            level: Some(level),
        };
        let valid = validate_produce(&bytes, &rules(codec)).unwrap();
        assert_eq!(records(&stored(&valid)), records(&bytes), "{compression} {level}");
        valid.size()
    };
    assert!(size(Compression::Gzip, 9) < size(Compression::Gzip, 1));
    assert!(size(Compression::Zstd, 19) < size(Compression::Zstd, -50));
    for level in [-131_072, -1, 0, 1, 22] {
        size(Compression::Zstd, level);
    }
    for level in [-1, 1, 9] {
        size(Compression::Gzip, level);
    }
}

/// More than zstd's largest window, in pieces.
#[test]
fn what_is_longer_than_a_window_comes_back_whole() {
    let value = [text(2 << 20), noise(300_000), text(300_000)].concat();
    let bytes = batch(Compression::None, &value);
    for (compression, level) in [
        (Compression::Zstd, Some(9)),
        (Compression::Lz4, None),
        (Compression::Snappy, None),
    ] {
        let rules = ProduceRules {
            batch_bytes_max: 16 << 20,
            ..rules(Codec { compression, level })
        };
        let valid = validate_produce(&bytes, &rules).unwrap();
        assert_eq!(records(&stored(&valid)), records(&bytes), "{compression}");
    }
}

#[test]
fn a_codec_does_not_mind_in_which_pieces_it_gets_its_bytes() {
    let input = [text(100_000), noise(40_000)].concat();
    for compression in Compression::ALL {
        for piece in [1, 1000, 32 << 10, (32 << 10) + 1, 64 << 10, input.len()] {
            let mut compressor = Compressor::new(usual(compression), input.len(), Vec::new());
            input.chunks(piece).for_each(|piece| compressor.take(piece));
            let (packed, mut output) = (compressor.finish(), Vec::new());
            compression.decompress(&packed, &mut output, input.len()).unwrap();
            assert_eq!(output, input, "{compression} in pieces of {piece}");
            if compression == Compression::Snappy {
                let mut whole = Vec::new();
                compression.compress(None, &input, &mut whole);
                assert_eq!(packed, whole, "blocks of 32 KiB, whatever the pieces");
            }
        }
    }
}

/// The offset that the log gives is stamped on what was written anew as on any other.
#[test]
fn a_batch_that_was_written_anew_is_stamped_like_any_other() {
    let valid = validate_produce(&batch(Compression::None, b"x"), &rules(usual(Compression::Gzip))).unwrap();
    let header = valid.stamp(Offset::new(123), crate::model::LeaderEpoch::new(9));
    let bytes = [&header, valid.body()].concat();
    let batch = Batch::parse(&bytes).unwrap();
    batch.verify_checksum().unwrap();
    assert_eq!(batch.header().last_offset(), Offset::new(125));
}
