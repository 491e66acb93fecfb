//! One record of a batch: how it is laid out, the walk over the records of a batch, and how one is written.
//!
//! | field | encoding |
//! |---|---|
//! | length of what follows | varint |
//! | attributes | one byte, unused |
//! | timestamp, less the batch's base timestamp | varlong |
//! | offset, less the batch's base offset | varint |
//! | key length, or -1 for none; key | varint, bytes |
//! | value length, or -1 for none; value | varint, bytes |
//! | header count; per header the same two: key (never none), value | varint, … |
//!
//! Nothing here allocates while reading: keys, values and headers are slices of the batch.
//!
//! Invariant of a [`Record`] that was read: its headers have been walked once, so walking them again cannot fail.

use std::borrow::Cow;

use super::batch_header::BatchHeader;
use super::compression::CompressionError;
use super::varint::{
    ByteSource, VarintError, put_varint, put_varlong, take_varint, take_varlong, varint_size, varlong_size,
};
use crate::config::TimestampType;
use crate::model::{Offset, TimestampMs};

/// The length, attributes, timestamp and offset of a record take at most this much.
pub const RECORD_OVERHEAD_MAX: usize = 5 + 1 + 10 + 5;

/// What messages call the field in front of a record.
pub(super) const RECORD_LENGTH: &str = "the record's length";

/// A record was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {index} of the batch is refused: {kind}")]
pub struct RecordError {
    /// Which record, counted from 0.
    pub index: u32,
    /// What is wrong with it.
    pub kind: RecordErrorKind,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordErrorKind {
    /// The records do not decompress.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// An integer inside the record is malformed, or the record ends within it.
    #[error("{field}: {error}")]
    Varint {
        /// The field it was read for.
        field: &'static str,
        /// What is wrong with it.
        error: VarintError,
    },
    /// A field claims a length that is negative or exceeds what is left of the record (or batch).
    #[error("{field} claims {found}, and {remaining} bytes are left")]
    Length {
        /// The field.
        field: &'static str,
        /// What it claims.
        found: i32,
        /// How many bytes are left.
        remaining: usize,
    },
    /// The record's fields end before its length says.
    #[error("the record ends {found} bytes before its length says")]
    Surplus {
        /// How many bytes are left.
        found: usize,
    },
    /// The offset lies outside the batch.
    #[error("the offset delta is {found}, {min} to {max} was expected")]
    OffsetDelta {
        /// What was found.
        found: i32,
        /// The smallest that was expected.
        min: u32,
        /// The largest that was expected.
        max: u32,
    },
    /// Base timestamp and delta leave the range of timestamps.
    #[error("the timestamp delta {delta} leaves the range from {base} on")]
    Timestamp {
        /// The base timestamp.
        base: TimestampMs,
        /// The delta.
        delta: i64,
    },
    /// The batch holds more bytes than its records.
    #[error("{found} bytes follow the last record the batch counts")]
    TrailingBytes {
        /// How many.
        found: usize,
    },
}

/// A header of a record. Keys are UTF-8 by convention, which nobody enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordHeader<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value, or none.
    pub value: Option<&'a [u8]>,
}

impl<'a> RecordHeader<'a> {
    /// A header with a textual key.
    #[must_use]
    pub fn new(key: &'a str, value: Option<&'a [u8]>) -> Self {
        Self {
            key: key.as_bytes(),
            value,
        }
    }

    /// The key for people, with what is not UTF-8 replaced.
    #[must_use]
    pub fn key_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.key)
    }
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// When it was made, or appended.
    pub timestamp: TimestampMs,
    /// The key, or none.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    header_count: u32,
    header_bytes: &'a [u8],
    size: usize,
}

impl<'a> Record<'a> {
    /// The headers, in the order they were written.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        Headers {
            remaining: self.header_count,
            rest: self.header_bytes,
        }
    }

    /// How many headers there are.
    #[must_use]
    pub fn header_count(&self) -> u32 {
        self.header_count
    }

    /// The bytes the record takes in its batch, uncompressed.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }
}

/// The walk over the headers of a record.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    remaining: u32,
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<RecordHeader<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        let (key, value) =
            take_header(&mut self.rest).expect("the headers were walked when the record was read");
        Some(RecordHeader { key, value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        (count, Some(count))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// What a record needs of its batch to have an offset and a timestamp.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordContext {
    base_offset: Offset,
    last_offset_delta: u32,
    base_timestamp: TimestampMs,
    append_time: Option<TimestampMs>,
    record_count: u32,
}

impl RecordContext {
    pub(crate) fn of(header: &BatchHeader) -> Self {
        let append_time = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(header.max_timestamp),
        };
        Self {
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            base_timestamp: header.base_timestamp,
            append_time,
            record_count: header.record_count,
        }
    }

    /// How many records the batch says it has.
    pub(crate) fn record_count(&self) -> u32 {
        self.record_count
    }
}

/// The walk over the records of a batch. It ends after the first error; bytes behind the last record are one.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    context: RecordContext,
    rest: &'a [u8],
    index: u32,
    finished: bool,
}

impl<'a> RecordIter<'a> {
    pub(crate) fn new(context: RecordContext, body: &'a [u8]) -> Self {
        Self {
            context,
            rest: body,
            index: 0,
            finished: false,
        }
    }

    fn advance(&mut self) -> Result<Option<Record<'a>>, RecordErrorKind> {
        if self.index < self.context.record_count {
            return take_record(&mut self.rest, &self.context).map(Some);
        }
        if self.rest.is_empty() {
            Ok(None)
        } else {
            Err(RecordErrorKind::TrailingBytes {
                found: self.rest.len(),
            })
        }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let index = self.index;
        let outcome = self.advance();
        self.index += 1;
        self.finished = !matches!(outcome, Ok(Some(_)));
        outcome.map_err(|kind| RecordError { index, kind }).transpose()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.context.record_count).ok())
    }
}

impl std::iter::FusedIterator for RecordIter<'_> {}

/// The bytes of one record, while its fields are taken off their front.
pub(super) trait RecordBytes: ByteSource {
    /// A stretch of them: a slice, or nothing where they only pass by.
    type Stretch;

    /// How many are left.
    fn left(&self) -> usize;

    /// Takes the next `length` bytes; `None` when fewer are left.
    fn take_stretch(&mut self, length: usize) -> Option<Self::Stretch>;

    /// What is left, without taking it.
    fn rest(&self) -> Self::Stretch;
}

impl<'a> RecordBytes for &'a [u8] {
    type Stretch = &'a [u8];

    #[inline]
    fn left(&self) -> usize {
        self.len()
    }

    #[inline]
    fn take_stretch(&mut self, length: usize) -> Option<&'a [u8]> {
        let (stretch, behind) = self.split_at_checked(length)?;
        *self = behind;
        Some(stretch)
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self
    }
}

/// The fields of one record, with its batch's numbers added.
pub(super) struct Fields<S> {
    offset: Offset,
    timestamp: TimestampMs,
    key: Option<S>,
    value: Option<S>,
    header_count: u32,
    headers: S,
}

/// What a broker asks of a producer's record, which it does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordFacts {
    /// Its place in the partition, if the batch stood at its base offset.
    pub(super) offset: Offset,
    /// When it was made, or appended.
    pub(super) timestamp: TimestampMs,
    /// Whether it has a key.
    pub(super) has_key: bool,
}

impl RecordFacts {
    /// Of a record whose fields were read.
    #[inline]
    pub(super) fn of<S>(fields: &Fields<S>) -> Self {
        Self {
            offset: fields.offset,
            timestamp: fields.timestamp,
            has_key: fields.key.is_some(),
        }
    }
}

impl From<Record<'_>> for RecordFacts {
    #[inline]
    fn from(record: Record<'_>) -> Self {
        Self {
            offset: record.offset,
            timestamp: record.timestamp,
            has_key: record.key.is_some(),
        }
    }
}

fn take_record<'a>(input: &mut &'a [u8], context: &RecordContext) -> Result<Record<'a>, RecordErrorKind> {
    let before = input.len();
    let rest = take_required(input, RECORD_LENGTH)?;
    let fields = read_fields(rest, context)?;
    Ok(Record {
        offset: fields.offset,
        timestamp: fields.timestamp,
        key: fields.key,
        value: fields.value,
        header_count: fields.header_count,
        header_bytes: fields.headers,
        size: before - input.len(),
    })
}

/// Reads what stands behind the record's length, which `rest` is no more and no less than.
#[inline]
pub(super) fn read_fields<S: RecordBytes>(
    mut rest: S,
    context: &RecordContext,
) -> Result<Fields<S::Stretch>, RecordErrorKind> {
    // The attributes of a record mean nothing yet.
    rest.take_byte().ok_or(RecordErrorKind::Varint {
        field: "the record's attributes",
        error: VarintError::Truncated,
    })?;
    let timestamp_delta = take_varlong(&mut rest).map_err(in_field("the timestamp delta"))?;
    let offset_delta = take_varint(&mut rest).map_err(in_field("the offset delta"))?;
    let key = take_sized(&mut rest, "the key's length")?;
    let value = take_sized(&mut rest, "the value's length")?;
    let header_count = take_header_count(&mut rest)?;
    let headers = rest.rest();
    for _ in 0..header_count {
        take_header(&mut rest)?;
    }
    if rest.left() != 0 {
        return Err(RecordErrorKind::Surplus { found: rest.left() });
    }
    Ok(Fields {
        offset: absolute_offset(context, offset_delta)?,
        timestamp: absolute_timestamp(context, timestamp_delta)?,
        key,
        value,
        header_count,
        headers,
    })
}

fn absolute_offset(context: &RecordContext, delta: i32) -> Result<Offset, RecordErrorKind> {
    let within = 0 <= delta && delta.unsigned_abs() <= context.last_offset_delta;
    if within {
        Ok(context.base_offset.plus(i64::from(delta)))
    } else {
        Err(RecordErrorKind::OffsetDelta {
            found: delta,
            min: 0,
            max: context.last_offset_delta,
        })
    }
}

fn absolute_timestamp(context: &RecordContext, delta: i64) -> Result<TimestampMs, RecordErrorKind> {
    if let Some(append_time) = context.append_time {
        return Ok(append_time);
    }
    let base = context.base_timestamp;
    let timestamp = base.get().checked_add(delta);
    timestamp
        .map(TimestampMs::new)
        .ok_or(RecordErrorKind::Timestamp { base, delta })
}

fn take_header_count(input: &mut impl RecordBytes) -> Result<u32, RecordErrorKind> {
    const FIELD: &str = "the header count";
    let found = take_varint(input).map_err(in_field(FIELD))?;
    // Each header takes two bytes at least, so a count beyond what is left is refused before it is walked.
    let plausible = usize::try_from(found).is_ok_and(|count| count <= input.left());
    match u32::try_from(found) {
        Ok(count) if plausible => Ok(count),
        _ => Err(RecordErrorKind::Length {
            field: FIELD,
            found,
            remaining: input.left(),
        }),
    }
}

/// Takes the key and the value of a record's header.
fn take_header<S: RecordBytes>(input: &mut S) -> Result<(S::Stretch, Option<S::Stretch>), RecordErrorKind> {
    let key = take_required(input, "a header key's length")?;
    let value = take_sized(input, "a header value's length")?;
    Ok((key, value))
}

/// Takes a length and that many bytes; a negative length is "none", as Kafka reads it.
#[inline]
fn take_sized<S: RecordBytes>(
    input: &mut S,
    field: &'static str,
) -> Result<Option<S::Stretch>, RecordErrorKind> {
    let found = take_varint(input).map_err(in_field(field))?;
    if found < 0 {
        return Ok(None);
    }
    take_stretch(input, field, found).map(Some)
}

/// Takes a length and that many bytes, where there is no "none".
#[inline]
fn take_required<S: RecordBytes>(input: &mut S, field: &'static str) -> Result<S::Stretch, RecordErrorKind> {
    let found = take_varint(input).map_err(in_field(field))?;
    take_stretch(input, field, found)
}

#[inline]
fn take_stretch<S: RecordBytes>(
    input: &mut S,
    field: &'static str,
    found: i32,
) -> Result<S::Stretch, RecordErrorKind> {
    let length = usize::try_from(found).ok();
    length
        .and_then(|length| input.take_stretch(length))
        .ok_or_else(|| RecordErrorKind::Length {
            field,
            found,
            remaining: input.left(),
        })
}

pub(super) fn in_field(field: &'static str) -> impl FnOnce(VarintError) -> RecordErrorKind {
    move |error| RecordErrorKind::Varint { field, error }
}

/// A record as it is to be written, relative to its batch.
#[derive(Debug, Clone, Copy)]
pub struct RecordToWrite<'a> {
    /// The offset, less the batch's base offset.
    pub offset_delta: i32,
    /// The timestamp, less the batch's base timestamp.
    pub timestamp_delta: i64,
    /// The key, or none.
    pub key: Option<&'a [u8]>,
    /// The value, or none.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [RecordHeader<'a>],
}

impl RecordToWrite<'_> {
    /// The bytes [`RecordToWrite::write`] appends, or none if the record is larger than the format allows.
    #[must_use]
    pub fn size(&self) -> Option<usize> {
        let body = self.body_size();
        let length = i32::try_from(body).ok()?;
        Some(varint_size(length) + body)
    }

    /// Appends the record to `output`.
    ///
    /// # Panics
    /// When the record is larger than the format allows; [`RecordToWrite::size`] tells.
    pub fn write(&self, output: &mut Vec<u8>) {
        put_varint(output, length_field(self.body_size()));
        output.push(0);
        put_varlong(output, self.timestamp_delta);
        put_varint(output, self.offset_delta);
        put_sized(output, self.key);
        put_sized(output, self.value);
        put_varint(output, length_field(self.headers.len()));
        for header in self.headers {
            put_sized(output, Some(header.key));
            put_sized(output, header.value);
        }
    }

    fn body_size(&self) -> usize {
        1 + varlong_size(self.timestamp_delta)
            + varint_size(self.offset_delta)
            + payload_size(self.key, self.value, self.headers)
    }
}

/// What a record takes in a batch at most, whatever its offset and timestamp: what a client counts while it gathers.
#[must_use]
pub fn record_size_max(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[RecordHeader<'_>]) -> usize {
    RECORD_OVERHEAD_MAX + payload_size(key, value, headers)
}

fn payload_size(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[RecordHeader<'_>]) -> usize {
    let header_sizes = headers
        .iter()
        .map(|header| sized_size(Some(header.key)) + sized_size(header.value));
    sized_size(key) + sized_size(value) + length_size(headers.len()) + header_sizes.sum::<usize>()
}

fn sized_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| length_size(bytes.len()) + bytes.len())
}

fn length_size(length: usize) -> usize {
    varint_size(i32::try_from(length).unwrap_or(i32::MAX))
}

fn put_sized(output: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(output, -1),
        Some(bytes) => {
            put_varint(output, length_field(bytes.len()));
            output.extend_from_slice(bytes);
        }
    }
}

fn length_field(length: usize) -> i32 {
    i32::try_from(length).expect("the record's size was checked before it is written")
}
