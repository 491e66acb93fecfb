//! Variable-length integers as they stand inside records: zig-zag, seven bits a byte, low bits first.
//!
//! Encodings longer than needed are read, as Kafka reads them; values beyond the type are refused,
//! where Kafka drops the surplus bits.

/// A varint takes at most this many bytes.
pub const VARINT_LENGTH_MAX: usize = 5;
/// A varlong takes at most this many bytes.
pub const VARLONG_LENGTH_MAX: usize = 10;

/// The bytes do not begin with a variable-length integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    /// The input ends within the integer.
    #[error("the input ends within a variable-length integer")]
    Truncated,
    /// The integer does not fit its type.
    #[error("a variable-length integer exceeds {bits} bits")]
    TooLong {
        /// The width of the type that was to be read.
        bits: u32,
    },
}

/// What integers are read from: bytes in memory, or bytes as they come out of a codec.
pub trait ByteSource {
    /// Takes the next byte; `None` when there is none.
    fn take_byte(&mut self) -> Option<u8>;
}

impl ByteSource for &[u8] {
    #[inline]
    fn take_byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.split_first()?;
        *self = rest;
        Some(first)
    }
}

/// Takes a 32-bit integer off the front of `input`.
///
/// # Errors
/// [`VarintError`], with `input` left anywhere within the integer.
#[inline]
pub fn take_varint(input: &mut impl ByteSource) -> Result<i32, VarintError> {
    let raw = take_unsigned(input, VARINT_LENGTH_MAX, 32)?;
    let raw = u32::try_from(raw).map_err(|_| VarintError::TooLong { bits: 32 })?;
    Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Takes a 64-bit integer off the front of `input`.
///
/// # Errors
/// [`VarintError`], with `input` left anywhere within the integer.
#[inline]
pub fn take_varlong(input: &mut impl ByteSource) -> Result<i64, VarintError> {
    let raw = take_unsigned(input, VARLONG_LENGTH_MAX, 64)?;
    Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

#[inline]
fn take_unsigned(input: &mut impl ByteSource, length_max: usize, bits: u32) -> Result<u64, VarintError> {
    let first = input.take_byte().ok_or(VarintError::Truncated)?;
    // Nearly every integer of a record is one byte long.
    if first < 0x80 {
        return Ok(u64::from(first));
    }
    take_unsigned_rest(input, first, length_max, bits)
}

fn take_unsigned_rest(
    input: &mut impl ByteSource,
    first: u8,
    length_max: usize,
    bits: u32,
) -> Result<u64, VarintError> {
    let mut value = u64::from(first & 0x7f);
    let mut shift = 7;
    for _ in 1..length_max {
        let byte = input.take_byte().ok_or(VarintError::Truncated)?;
        let part = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if part.leading_zeros() < shift {
            return Err(VarintError::TooLong { bits });
        }
        value |= part << shift;
        if byte < 0x80 {
            return Ok(value);
        }
        shift += 7;
    }
    Err(VarintError::TooLong { bits })
}

/// Appends a 32-bit integer to `output`.
#[inline]
pub fn put_varint(output: &mut Vec<u8>, value: i32) {
    put_unsigned(output, u64::from(zigzag_32(value)));
}

/// Appends a 64-bit integer to `output`.
#[inline]
pub fn put_varlong(output: &mut Vec<u8>, value: i64) {
    put_unsigned(output, zigzag_64(value));
}

fn put_unsigned(output: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        output.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    output.push(low_byte(value));
}

/// The number of bytes [`put_varint`] appends.
#[must_use]
pub fn varint_size(value: i32) -> usize {
    unsigned_size(u64::from(zigzag_32(value)))
}

/// The number of bytes [`put_varlong`] appends.
#[must_use]
pub fn varlong_size(value: i64) -> usize {
    unsigned_size(zigzag_64(value))
}

fn unsigned_size(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).expect("at most ten bytes")
}

const fn zigzag_32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

const fn zigzag_64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_32(value: i32, expected: &[u8]) {
        let mut output = Vec::new();
        put_varint(&mut output, value);
        assert_eq!(output, expected, "{value}");
        assert_eq!(varint_size(value), expected.len(), "{value}");
        let mut input = expected;
        assert_eq!(take_varint(&mut input), Ok(value));
        assert!(input.is_empty());
    }

    fn check_64(value: i64, expected: &[u8]) {
        let mut output = Vec::new();
        put_varlong(&mut output, value);
        assert_eq!(output, expected, "{value}");
        assert_eq!(varlong_size(value), expected.len(), "{value}");
        let mut input = expected;
        assert_eq!(take_varlong(&mut input), Ok(value));
        assert!(input.is_empty());
    }

    #[test]
    fn integers_stand_as_protocol_buffers_writes_them() {
        check_32(0, &[0]);
        check_32(-1, &[1]);
        check_32(1, &[2]);
        check_32(63, &[0x7e]);
        check_32(-64, &[0x7f]);
        check_32(64, &[0x80, 1]);
        check_32(8191, &[0xfe, 0x7f]);
        check_32(-8193, &[0x81, 0x80, 1]);
        check_32(i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]);
        check_32(i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
        check_64(0, &[0]);
        check_64(-1, &[1]);
        check_64(1 << 33, &[0x80, 0x80, 0x80, 0x80, 0x40]);
        check_64(i64::MAX, &[0xfe, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
        check_64(i64::MIN, &[0xff, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    }

    #[test]
    fn every_length_reads_back() {
        for shift in 0..64 {
            for value in [
                1_i64 << shift,
                (1_i64 << shift).wrapping_sub(1),
                !(1_i64 << shift),
            ] {
                let mut output = Vec::new();
                put_varlong(&mut output, value);
                assert_eq!(output.len(), varlong_size(value));
                assert_eq!(take_varlong(&mut output.as_slice()), Ok(value));
            }
        }
    }

    #[test]
    fn malformed_integers_are_refused() {
        let too_long = |bits| Err(VarintError::TooLong { bits });
        assert_eq!(take_varint(&mut [].as_slice()), Err(VarintError::Truncated));
        assert_eq!(take_varint(&mut [0x80].as_slice()), Err(VarintError::Truncated));
        assert_eq!(take_varint(&mut [0x80; 5].as_slice()), too_long(32));
        assert_eq!(
            take_varint(&mut [0xff, 0xff, 0xff, 0xff, 0x1f].as_slice()),
            too_long(32)
        );
        assert_eq!(take_varlong(&mut [0x80; 10].as_slice()).map(|_| 0), too_long(64));
        let beyond = [0xff, 255, 255, 255, 255, 255, 255, 255, 255, 2];
        assert_eq!(take_varlong(&mut beyond.as_slice()).map(|_| 0), too_long(64));
        // Longer than needed, and read all the same.
        assert_eq!(take_varint(&mut [0x80, 0x80, 0].as_slice()), Ok(0));
    }
}
