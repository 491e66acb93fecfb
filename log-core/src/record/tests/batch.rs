//! Every refusal of a header, the walk over batches, and what the builder takes and refuses.
//! A refusal is tried by changing one field of a sound batch.

use bytes::Bytes;

use crate::config::TimestampType;
use crate::model::{Offset, Sequence, TimestampMs};
use crate::record::batch::{Batch, batches};
use crate::record::batch_attributes::Attributes;
use crate::record::batch_builder::{AppendError, BatchBuilder, BatchOptions};
use crate::record::batch_header::{BatchError, BatchHeader, framed_size};
use crate::record::compression::{Compression, UnknownCompression};

pub(super) fn time(milliseconds: i64) -> TimestampMs {
    TimestampMs::new(milliseconds)
}

/// A batch of `values`, at times 100, 101, …, without keys.
pub(super) fn batch_of(options: BatchOptions, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for (timestamp, value) in (100..).zip(values) {
        builder
            .append(time(timestamp), None, Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.build()
}

/// A good batch with bytes replaced at a place, its checksum left as it was.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = batch_of(BatchOptions::default(), &["one", "two"]).to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    batch
}

#[track_caller]
fn check(bytes: &[u8], expected: BatchError) {
    assert_eq!(Batch::parse(bytes).unwrap_err(), expected);
    assert!(!expected.to_string().is_empty());
}

#[test]
fn every_field_is_checked() {
    check(
        &patched(8, &48_i32.to_be_bytes()),
        BatchError::Length { found: 48 },
    );
    check(&patched(8, &0_i32.to_be_bytes()), BatchError::Length { found: 0 });
    check(
        &patched(8, &(-1_i32).to_be_bytes()),
        BatchError::Length { found: -1 },
    );
    check(&patched(16, &[0]), BatchError::OldMagic { found: 0 });
    check(&patched(16, &[1]), BatchError::OldMagic { found: 1 });
    check(&patched(16, &[3]), BatchError::UnknownMagic { found: 3 });
    check(
        &patched(0, &(-1_i64).to_be_bytes()),
        BatchError::BaseOffset { found: -1 },
    );
    check(
        &patched(0, &i64::MAX.to_be_bytes()),
        BatchError::BaseOffset { found: i64::MAX },
    );
    check(
        &patched(23, &(-1_i32).to_be_bytes()),
        BatchError::LastOffsetDelta { found: -1 },
    );
    for found in [-1, 3, i32::MAX] {
        let expected = BatchError::RecordCount { found, offsets: 2 };
        check(&patched(57, &found.to_be_bytes()), expected);
    }
    for id in 5..8 {
        let expected = BatchError::Compression(UnknownCompression { id });
        check(&patched(21, &i16::from(id).to_be_bytes()), expected);
    }
}

#[test]
fn an_old_format_is_named_even_if_it_is_shorter_than_our_header() {
    let mut bytes = patched(16, &[1]);
    bytes[8..12].copy_from_slice(&20_i32.to_be_bytes());
    check(&bytes[..32], BatchError::OldMagic { found: 1 });
}

#[test]
fn every_cut_is_incomplete() {
    let batch = batch_of(BatchOptions::default(), &["one", "two"]);
    for found in 0..batch.len() {
        let expected = if found < 61 { 61 } else { batch.len() };
        check(&batch[..found], BatchError::Incomplete { expected, found });
    }
    assert_eq!(framed_size(&batch[..61]), Ok(batch.len()));
    assert!(BatchHeader::parse(&batch[..61]).is_ok());
}

#[test]
fn the_largest_offsets_do_not_overflow() {
    let base_offset = i64::MAX - (1 << 31);
    let mut bytes = patched(0, &base_offset.to_be_bytes());
    bytes[23..27].copy_from_slice(&i32::MAX.to_be_bytes());
    bytes[53..57].copy_from_slice(&i32::MAX.to_be_bytes());
    let header = BatchHeader::parse(&bytes).unwrap();
    assert_eq!(header.next_offset(), Offset::new(i64::MAX));
    assert_eq!(header.last_sequence(), Sequence::new(i32::MAX - 1));
}

#[test]
fn any_changed_bit_behind_the_checksum_is_noticed() {
    let batch = batch_of(BatchOptions::default(), &["one", "two"]);
    Batch::parse(&batch).unwrap().verify_checksum().unwrap();
    for at in 17..batch.len() {
        let mut damaged = batch.to_vec();
        damaged[at] ^= 0x10;
        let outcome = super::super::batch_header::verify_checksum(&damaged);
        assert!(matches!(outcome, Err(BatchError::Checksum { .. })), "byte {at}");
    }
}

#[test]
fn the_unguarded_fields_are_offset_length_epoch_and_magic() {
    let batch = batch_of(BatchOptions::default(), &["one"]);
    for at in 0..17 {
        let mut changed = batch.to_vec();
        changed[at] ^= 0x10;
        assert_eq!(
            super::super::batch_header::verify_checksum(&changed),
            Ok(()),
            "byte {at}"
        );
    }
}

#[test]
fn attributes_are_kept_bit_by_bit() {
    let bits = Attributes::from_bits(i16::MIN);
    let all = bits
        .with_compression(Compression::Zstd)
        .with_timestamp_type(TimestampType::LogAppendTime)
        .with_transactional(true)
        .with_control(true)
        .with_delete_horizon(true);
    assert_eq!(all.bits(), i16::MIN | 0b111_1100);
    assert_eq!(all.compression(), Ok(Compression::Zstd));
    assert_eq!(all.timestamp_type(), TimestampType::LogAppendTime);
    assert!(all.is_transactional() && all.is_control() && all.has_delete_horizon());
    let none = all
        .with_compression(Compression::None)
        .with_timestamp_type(TimestampType::CreateTime)
        .with_transactional(false)
        .with_control(false)
        .with_delete_horizon(false);
    assert_eq!(none, bits);
}

#[test]
fn the_walk_stops_at_an_incomplete_batch_and_after_damage() {
    let one = batch_of(BatchOptions::default(), &["one"]);
    let two = batch_of(BatchOptions::default(), &["two", "three"]);
    let mut bytes = [&one[..], &two[..]].concat();
    for end in 0..=bytes.len() {
        let mut walk = batches(&bytes[..end]);
        let count = walk.by_ref().map(Result::unwrap).count();
        let whole = usize::from(one.len() <= end) + usize::from(bytes.len() <= end);
        assert_eq!(count, whole, "cut at {end}");
        assert_eq!(walk.position(), [0, one.len(), bytes.len()][whole]);
    }

    bytes[one.len() + 16] = 9;
    let mut walk = batches(&bytes);
    assert!(walk.next().unwrap().is_ok());
    assert_eq!(
        walk.next().unwrap().unwrap_err(),
        BatchError::UnknownMagic { found: 9 }
    );
    assert_eq!(walk.position(), one.len());
    assert!(walk.next().is_none());
}

#[test]
fn zeros_are_no_batch() {
    check(&[0; 4096], BatchError::Length { found: 0 });
}

#[test]
fn compaction_keeps_offsets_gaps_and_the_range() {
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: Offset::new(1000),
        delete_horizon: Some(time(77)),
        ..BatchOptions::default()
    });
    for offset in [1002, 1007] {
        builder
            .append_at(Offset::new(offset), time(offset), Some(b"k"), None, &[])
            .unwrap();
    }
    let refused = builder.append_at(Offset::new(1007), time(0), None, None, &[]);
    let expected = AppendError::Offset {
        found: Offset::new(1007),
        base_offset: Offset::new(1000),
        next_offset: Offset::new(1008),
    };
    assert_eq!(refused, Err(expected));
    builder.extend_to(Offset::new(1007)).unwrap();
    builder.extend_to(Offset::new(1009)).unwrap();
    assert!(builder.extend_to(Offset::new(1008)).is_err());

    let bytes = builder.build();
    let batch = Batch::parse(&bytes).unwrap();
    assert_eq!(batch.header().base_offset, Offset::new(1000));
    assert_eq!(batch.header().last_offset(), Offset::new(1009));
    assert_eq!(batch.header().record_count, 2);
    assert_eq!(batch.header().delete_horizon(), Some(time(77)));
    let mut scratch = Vec::new();
    let found: Vec<(i64, i64)> = batch
        .records(&mut scratch, 0)
        .unwrap()
        .map(Result::unwrap)
        .map(|record| (record.offset.get(), record.timestamp.get()))
        .collect();
    assert_eq!(found, [(1002, 1002), (1007, 1007)]);
}

#[test]
fn a_batch_without_records_is_a_bare_header() {
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: Offset::new(5),
        compression: Compression::Gzip,
        ..BatchOptions::default()
    });
    builder.extend_to(Offset::new(8)).unwrap();
    let bytes = builder.build();
    assert_eq!(bytes.len(), 61);
    let batch = Batch::parse(&bytes).unwrap();
    batch.verify_checksum().unwrap();
    assert_eq!(batch.header().last_offset(), Offset::new(8));
    assert_eq!(batch.records(&mut Vec::new(), 0).unwrap().count(), 0);
}

#[test]
fn the_builder_refuses_what_does_not_fit_and_stays_as_it_was() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(time(i64::MAX), None, Some(b"first"), &[]).unwrap();
    let size = builder.estimated_size();
    let far = builder.append(time(-2), None, None, &[]);
    assert!(matches!(far, Err(AppendError::Timestamp { .. })), "{far:?}");
    let ahead = builder.append_at(Offset::new(1 << 40), time(0), None, None, &[]);
    assert!(matches!(ahead, Err(AppendError::Offset { .. })), "{ahead:?}");
    assert_eq!(builder.estimated_size(), size);
    assert_eq!(builder.append(time(0), None, Some(b"second"), &[]), Ok(1));
    let bytes = builder.build();
    let mut scratch = Vec::new();
    let batch = Batch::parse(&bytes).unwrap();
    let times: Vec<i64> = batch
        .records(&mut scratch, 0)
        .unwrap()
        .map(|record| record.unwrap().timestamp.get())
        .collect();
    assert_eq!(times, [i64::MAX, 0]);
    assert_eq!(batch.header().max_timestamp, time(i64::MAX));
}

#[test]
fn the_estimate_is_exact_without_compression() {
    let mut builder = BatchBuilder::with_capacity(BatchOptions::default(), 1000);
    assert_eq!(builder.estimated_size(), 61);
    assert!(builder.is_empty());
    for i in 0..200 {
        let value = vec![0; i];
        builder.append(time(0), Some(b"k"), Some(&value), &[]).unwrap();
    }
    assert_eq!(builder.record_count(), 200);
    let estimate = builder.estimated_size();
    assert_eq!(builder.build().len(), estimate);
}
