//! Topics that name a codec: batches of another one are written anew before they are appended, whoever waits meanwhile.

use std::iter::from_fn;

use log_core::config::TimestampType;
use log_core::fs::mem::crash::CrashMode;
use log_core::record::compression::{Codec, Compression};
use log_core::record::validator::ProduceError;

use super::runtime::{runtime, wait_for_a_task};
use super::*;

fn in_codec(compression: Compression) -> LogConfig {
    LogConfig {
        codec: Some(Codec {
            compression,
            level: None,
        }),
        ..LogConfig::default()
    }
}

fn produced(compression: Compression, base_sequence: i32, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        producer: BatchProducer {
            id: ProducerId::new(7),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(base_sequence),
        },
        ..BatchOptions::default()
    });
    for value in values {
        builder
            .append(NOW, Some(b"key"), Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.build()
}

/// The codecs of all batches in the log.
fn stored(partition: &Partition) -> Vec<Compression> {
    let read = PartitionRead {
        offset: Offset::ZERO,
        bytes_max: 1 << 20,
        at_least_one_batch: true,
        isolation: Isolation::Uncommitted,
    };
    let slice = partition.read(&read, Patience::MayBlock).unwrap();
    let headers = batches(&slice.records).map(|batch| batch.unwrap().header().compression());
    headers.collect()
}

#[test]
fn batches_of_every_codec_are_stored_in_the_topic_s() {
    for compression in Compression::ALL {
        let config = LogConfig {
            codec: in_codec(compression).codec,
            ..relaxed()
        };
        let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), config);
        for (sequence, from) in (0..).zip(Compression::ALL) {
            partition
                .append(&produced(from, sequence, &[from.name()]), Acks::Leader)
                .unwrap();
        }
        assert_eq!(stored(&partition), [compression; 5]);
        assert_eq!(storage.registry.metrics().recompressed_batches.get(), 4);
        assert_eq!(
            consume(&partition, 0),
            Compression::ALL.map(|from| from.name().to_owned())
        );
    }
}

#[test]
fn a_change_of_the_setting_counts_for_what_comes_after_it() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), relaxed());
    let append = |sequence| {
        partition
            .append(&produced(Compression::Lz4, sequence, &["x"]), Acks::Leader)
            .unwrap();
    };
    let reconfigure = |config| storage.registry.reconfigure(partition.topic_id(), &config);
    append(0);
    reconfigure(LogConfig {
        codec: in_codec(Compression::Zstd).codec,
        ..relaxed()
    });
    append(1);
    reconfigure(relaxed());
    append(2);
    assert_eq!(
        stored(&partition),
        [Compression::Lz4, Compression::Zstd, Compression::Lz4]
    );
}

/// Also across a restart, and when the producer sends it in another codec than before.
#[test]
fn a_batch_that_comes_again_is_recognized() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, in_codec(Compression::Gzip));
    for sequence in [0, 2] {
        let appended = partition
            .append(&produced(Compression::Snappy, sequence, &["x", "y"]), Acks::All)
            .unwrap();
        assert!(!appended.is_duplicate);
    }
    storage.work();
    let again = |partition: &Partition, compression| {
        let appended = partition
            .append(&produced(compression, 2, &["x", "y"]), Acks::All)
            .unwrap();
        assert!(appended.is_duplicate, "{compression}");
        assert_eq!(appended.base_offset, Offset::new(2));
    };
    again(&partition, Compression::Snappy);
    again(&partition, Compression::Gzip);
    let image = files.crash(CrashMode::SyncedOnly);
    let (_storage, partition) = Storage::with_partition(&image, in_codec(Compression::Gzip));
    again(&partition, Compression::Snappy);
    assert_eq!(partition.offsets().log_end, Offset::new(4));
}

#[test]
fn what_becomes_too_large_is_refused_and_the_log_stays_as_it_was() {
    let config = LogConfig {
        batch_bytes_max: 2000,
        ..in_codec(Compression::None)
    };
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), config);
    let large = "x".repeat(5000);
    let error = partition
        .append(&produced(Compression::Zstd, 0, &[&large]), Acks::Leader)
        .unwrap_err();
    let PartitionError::Invalid(refusal) = error else {
        panic!("{error:?}");
    };
    assert!(
        matches!(
            *refusal,
            ProduceError::TooLarge {
                size: 5000..,
                max: 2000
            }
        ),
        "{refusal}"
    );
    partition
        .append(&produced(Compression::Zstd, 0, &["small"]), Acks::Leader)
        .unwrap();
    assert_eq!(partition.offsets().log_end, Offset::new(1));
}

/// More of them wait than there are threads. A batch has the time at which its turn came.
#[test]
fn who_waits_for_a_turn_holds_no_thread_up() {
    let config = LogConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..in_codec(Compression::Lz4)
    };
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), config);
    let turns = partition.context.recompression.clone();
    let runtime = runtime(1);
    let taken: Vec<_> = from_fn(|| turns.try_take()).collect();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let waiting = Arc::clone(&partition);
            runtime.spawn(async move {
                let appended = waiting
                    .append_produced(&batch(&["x"]), Acks::Leader, turns_until())
                    .await;
                appended.map(|done| done.log_append_time)
            })
        })
        .collect();
    wait_for_a_task(&runtime);
    assert_eq!(partition.offsets().log_end, Offset::ZERO);
    storage.clock.advance(5000);
    drop(taken);
    for task in tasks {
        let time = runtime.in_time("its turn comes", task).unwrap();
        assert_eq!(time, Some(NOW.saturating_plus(5000)));
    }
}

/// Only those that are written anew take one.
#[test]
fn batches_that_are_appended_together_share_a_turn() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), in_codec(Compression::Lz4));
    let validate = |compression, turn: &mut _| {
        let valid = partition.try_validated(&produced(compression, 0, &["x"]), turn);
        valid.map(Result::unwrap)
    };
    let (mut turn, mut others) = (None, None);
    validate(Compression::Lz4, &mut turn).unwrap();
    assert!(turn.is_none());
    validate(Compression::Zstd, &mut turn).unwrap();
    let turns = &partition.context.recompression;
    let taken: Vec<_> = from_fn(|| turns.try_take()).collect();
    validate(Compression::Gzip, &mut turn).expect("there is its turn yet");
    assert!(validate(Compression::Gzip, &mut others).is_none());
    validate(Compression::Lz4, &mut others).unwrap();
    drop((turn, taken));
    validate(Compression::Gzip, &mut others).unwrap();
    assert!(others.is_some());
}
