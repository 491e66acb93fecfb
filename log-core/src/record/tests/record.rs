//! One record and the walk over a batch's records: sizes, every refusal, decompression limits, control records.
//! A refusal is tried by writing the fields of one record by hand.

use bytes::Bytes;

use super::batch::{batch_of, time};
use crate::model::{Offset, TimestampMs};
use crate::record::batch::Batch;
use crate::record::batch_builder::{BatchBuilder, BatchOptions};
use crate::record::batch_header::BatchHeader;
use crate::record::compression::{Compression, CompressionError};
use crate::record::control::{ControlRecord, ControlRecordError};
use crate::record::record::{RecordError, RecordErrorKind, RecordHeader, RecordToWrite, record_size_max};
use crate::record::varint::{VarintError, put_varint};

/// A batch whose header counts `count` records with as many offsets, around a body of any bytes.
pub(super) fn batch_around(count: u32, body: &[u8]) -> Bytes {
    let template = batch_of(BatchOptions::default(), &["x"]);
    let mut header = BatchHeader {
        batch_length: u32::try_from(49 + body.len()).unwrap(),
        last_offset_delta: count.saturating_sub(1),
        record_count: count,
        ..BatchHeader::parse(&template).unwrap()
    };
    header.crc = header.compute_crc(body);
    [&header.to_bytes(), body].concat().into()
}

/// A body of one record: its length, then `fields`.
fn sized(fields: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_varint(&mut body, i32::try_from(fields.len()).unwrap());
    body.extend_from_slice(fields);
    body
}

#[track_caller]
fn check(count: u32, body: &[u8], index: u32, kind: RecordErrorKind) {
    let bytes = batch_around(count, body);
    let batch = Batch::parse(&bytes).unwrap();
    let mut scratch = Vec::new();
    let mut walk = batch.records(&mut scratch, 0).unwrap();
    let error = walk.find_map(Result::err).expect("an error");
    assert!(!error.to_string().is_empty());
    assert_eq!(error, RecordError { index, kind });
    assert!(walk.next().is_none(), "the walk ends with its first error");
}

// Attributes, timestamp delta, offset delta, no key, no value, no headers.
const GOOD: [u8; 6] = [0, 0, 0, 1, 1, 0];

#[test]
fn every_malformed_record_is_refused() {
    let length = |field, found, remaining| RecordErrorKind::Length {
        field,
        found,
        remaining,
    };
    let cut = |field| RecordErrorKind::Varint {
        field,
        error: VarintError::Truncated,
    };
    check(1, &[], 0, cut("the record's length"));
    check(1, &[1], 0, length("the record's length", -1, 0));
    check(1, &[20, 0], 0, length("the record's length", 10, 1));
    check(1, &[0], 0, cut("the record's attributes"));
    check(1, &sized(&GOOD[..1]), 0, cut("the timestamp delta"));
    check(1, &sized(&GOOD[..2]), 0, cut("the offset delta"));
    check(1, &sized(&GOOD[..3]), 0, cut("the key's length"));
    check(1, &sized(&GOOD[..4]), 0, cut("the value's length"));
    check(1, &sized(&GOOD[..5]), 0, cut("the header count"));
    check(
        1,
        &sized(&[0, 0, 0, 4, b'k']),
        0,
        length("the key's length", 2, 1),
    );
    check(1, &sized(&[0, 0, 0, 1, 4]), 0, length("the value's length", 2, 0));
    check(
        1,
        &sized(&[0, 0, 0, 1, 1, 1]),
        0,
        length("the header count", -1, 0),
    );
    check(
        1,
        &sized(&[0, 0, 0, 1, 1, 4, 0]),
        0,
        length("the header count", 2, 1),
    );
    check(
        1,
        &sized(&[0, 0, 0, 1, 1, 2, 1, 0]),
        0,
        length("a header key's length", -1, 1),
    );
    check(
        1,
        &sized(&[0, 0, 0, 1, 1, 2, 0]),
        0,
        cut("a header value's length"),
    );
    check(
        1,
        &sized(&[0, 0, 0, 1, 1, 0, 9, 9]),
        0,
        RecordErrorKind::Surplus { found: 2 },
    );
    for found in [-1, 1] {
        let delta = if found < 0 { 1 } else { 2 };
        let kind = RecordErrorKind::OffsetDelta {
            found,
            min: 0,
            max: 0,
        };
        check(1, &sized(&[0, 0, delta, 1, 1, 0]), 0, kind);
    }
    let mut far = vec![0];
    crate::record::varint::put_varlong(&mut far, i64::MAX);
    far.extend_from_slice(&GOOD[2..]);
    let kind = RecordErrorKind::Timestamp {
        base: time(100),
        delta: i64::MAX,
    };
    check(1, &sized(&far), 0, kind);
}

#[test]
fn the_count_and_the_bytes_must_agree() {
    let two = [sized(&GOOD), sized(&GOOD)].concat();
    let missing = RecordErrorKind::Varint {
        field: "the record's length",
        error: VarintError::Truncated,
    };
    check(3, &two, 2, missing);
    check(1, &two, 1, RecordErrorKind::TrailingBytes { found: 7 });
    check(0, &two, 0, RecordErrorKind::TrailingBytes { found: 14 });
}

#[test]
fn the_unused_attributes_of_a_record_mean_nothing() {
    let bytes = batch_around(1, &sized(&[0xff, 0, 0, 1, 1, 0]));
    let mut scratch = Vec::new();
    let batch = Batch::parse(&bytes).unwrap();
    let records: Vec<_> = batch.records(&mut scratch, 0).unwrap().collect();
    let record = records[0].clone().unwrap();
    assert_eq!((record.key, record.value, record.size()), (None, None, 7));
}

#[test]
fn headers_are_borrowed_and_can_be_walked_again() {
    let headers = [
        RecordHeader::new("a", Some(b"1")),
        RecordHeader::new("b", None),
        RecordHeader {
            key: b"\xff",
            value: Some(b""),
        },
    ];
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(time(0), None, None, &headers).unwrap();
    let bytes = builder.build();
    let mut scratch = Vec::new();
    let batch = Batch::parse(&bytes).unwrap();
    let record = batch.records(&mut scratch, 0).unwrap().next().unwrap().unwrap();
    for _ in 0..2 {
        assert_eq!(record.headers().collect::<Vec<_>>(), headers);
    }
    assert_eq!(record.header_count(), 3);
    assert_eq!(record.headers().len(), 3);
    assert_eq!(headers[2].key_text(), "\u{fffd}");
}

#[test]
fn sizes_are_those_of_the_bytes() {
    let long = vec![7; 70_000];
    let headers = [RecordHeader::new("header", Some(&long))];
    for (offset_delta, timestamp_delta) in [(0, 0), (1 << 20, -1), (i32::MAX, i64::MIN)] {
        for value in [None, Some([].as_slice()), Some(&long[..63]), Some(&long)] {
            for headers in [[].as_slice(), &headers] {
                let record = RecordToWrite {
                    offset_delta,
                    timestamp_delta,
                    key: Some(b"key"),
                    value,
                    headers,
                };
                let mut output = Vec::new();
                record.write(&mut output);
                assert_eq!(record.size(), Some(output.len()));
                assert!(output.len() <= record_size_max(record.key, value, headers));
            }
        }
    }
}

#[test]
fn records_decompress_into_the_scratch_within_the_limit() {
    for compression in Compression::ALL {
        let options = BatchOptions {
            compression,
            base_offset: Offset::new(40),
            ..BatchOptions::default()
        };
        let bytes = batch_of(options, &["one", "two", "three"]);
        let batch = Batch::parse(&bytes).unwrap();
        let mut scratch = b"left over".to_vec();
        let found: Vec<(i64, TimestampMs, String)> = batch
            .records(&mut scratch, 1000)
            .unwrap()
            .map(Result::unwrap)
            .map(|record| {
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                (record.offset.get(), record.timestamp, value)
            })
            .collect();
        let expected = [
            (40, time(100), "one".to_owned()),
            (41, time(101), "two".to_owned()),
            (42, time(102), "three".to_owned()),
        ];
        assert_eq!(found, expected, "{compression}");

        let outcome = batch.records(&mut scratch, 5).map(Iterator::count);
        if compression == Compression::None {
            assert_eq!(outcome, Ok(3), "nothing is decompressed");
        } else {
            let kind = outcome.unwrap_err().kind;
            let too_large = CompressionError::TooLarge {
                codec: compression,
                length: batch.body().len(),
                limit: 5,
            };
            assert_eq!(kind, RecordErrorKind::Compression(too_large));
        }
    }
}

#[track_caller]
fn check_control(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    expected: Result<ControlRecord, ControlRecordError>,
) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(time(0), key, value, &[]).unwrap();
    let bytes = builder.build();
    let mut scratch = Vec::new();
    let batch = Batch::parse(&bytes).unwrap();
    let record = batch.records(&mut scratch, 0).unwrap().next().unwrap().unwrap();
    assert_eq!(ControlRecord::parse(&record), expected);
}

#[test]
fn malformed_control_records_are_refused() {
    let too_short = |part, found, expected| {
        Err(ControlRecordError::TooShort {
            part,
            found,
            expected,
        })
    };
    check_control(None, None, too_short("key", 0, 4));
    check_control(Some(&[0, 0, 0]), None, too_short("key", 3, 4));
    check_control(Some(&[0, 0, 0, 1]), None, too_short("value", 0, 6));
    check_control(Some(&[0, 0, 0, 1]), Some(&[0; 5]), too_short("value", 5, 6));
    let negative = |part| Err(ControlRecordError::Version { part, found: -1 });
    check_control(Some(&[255, 255, 0, 1]), None, negative("key"));
    check_control(
        Some(&[0, 0, 0, 0]),
        Some(&[255, 255, 0, 0, 0, 1]),
        negative("value"),
    );
}

#[test]
fn later_versions_and_other_types_of_control_records_are_read() {
    check_control(Some(&[0, 0, 0, 2]), None, Ok(ControlRecord::Other { kind: 2 }));
    check_control(
        Some(&[0, 0, 255, 255]),
        None,
        Ok(ControlRecord::Other { kind: -1 }),
    );
    let marker = crate::record::control::EndTransactionMarker {
        outcome: crate::record::control::TransactionOutcome::Commit,
        coordinator_epoch: 7,
    };
    check_control(
        Some(&[0, 9, 0, 1, 5]),
        Some(&[0, 9, 0, 0, 0, 7, 1, 2]),
        Ok(ControlRecord::EndTransaction(marker)),
    );
}
