//! Messages in Protocol Buffers' wire format: fields are read one at a time, without copying, and written one after the other.
//!
//! Structures made from the schema would become fifty times as large as what an ill-meaning client sends (a metric of two bytes is a struct of
//! a hundred); a walk takes nothing, and OpenTelemetry's metrics need no more than this of the format:
//!
//! | type | holds | read as |
//! |---|---|---|
//! | 0 | a varint | [`Value::Varint`] |
//! | 1 | eight bytes | [`Value::Fixed64`] |
//! | 2 | a length and so many bytes: text, bytes, a message | [`Value::Bytes`] |
//! | 3, 4 | groups, which the schema does not have | refused |
//! | 5 | four bytes | [`Value::Fixed32`] |

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no message of Protocol Buffers")]
pub(crate) struct Malformed;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

impl<'a> Value<'a> {
    /// A message, or text.
    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    pub(crate) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn fixed64(self) -> Result<[u8; 8], Malformed> {
        match self {
            Self::Fixed64(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }
}

/// The fields of a message, in the order in which they stand: number and value.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 0b111 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.array()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(self.array()?),
            _ => return None,
        };
        // There is no field 0.
        Some((key >> 3, value)).filter(|(number, _)| 0 < *number)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    /// Behind what is malformed comes nothing.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read().ok_or(Malformed);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// A message under way.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    message: Vec<u8>,
}

impl Writer {
    /// Bytes, or text.
    pub(crate) fn bytes(&mut self, number: u64, bytes: &[u8]) {
        self.put(number << 3 | 2);
        self.put(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.message.extend_from_slice(bytes);
    }

    /// A number, which is short when it is small.
    pub(crate) fn varint(&mut self, number: u64, value: u64) {
        self.put(number << 3);
        self.put(value);
    }

    /// A number of eight bytes.
    pub(crate) fn fixed64(&mut self, number: u64, value: u64) {
        self.put(number << 3 | 1);
        self.message.extend_from_slice(&value.to_le_bytes());
    }

    /// A message within this one.
    pub(crate) fn message(&mut self, number: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(number, &inner.message);
    }

    /// The bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.message
    }

    fn put(&mut self, mut value: u64) {
        while 0x7f < value {
            let [low, ..] = value.to_le_bytes();
            self.message.push(low | 0x80);
            value >>= 7;
        }
        let [low, ..] = value.to_le_bytes();
        self.message.push(low);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_type_are_read() {
        let message = [
            0x08, 0x96, 0x01, // 1: varint 150
            0x12, 0x02, b'h', b'i', // 2: bytes
            0x19, 1, 2, 3, 4, 5, 6, 7, 8, // 3: fixed64
            0x25, 1, 2, 3, 4, // 4: fixed32
            0x80, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0x01, // 16: the largest varint
        ];
        let fields: Vec<_> = Fields::of(&message).map(Result::unwrap).collect();
        assert_eq!(
            fields,
            [
                (1, Value::Varint(150)),
                (2, Value::Bytes(b"hi")),
                (3, Value::Fixed64([1, 2, 3, 4, 5, 6, 7, 8])),
                (4, Value::Fixed32([1, 2, 3, 4])),
                (16, Value::Varint(u64::MAX)),
            ]
        );
    }

    #[test]
    fn what_is_cut_or_no_message_ends_the_walk() {
        for (message, good) in [
            (&[0x08][..], 0),
            (&[0x08, 0x80], 0),
            (&[0x12, 0x03, b'h', b'i'], 0),
            (&[0x19, 1, 2, 3], 0),
            (&[0x0b], 0),
            (&[0x0c], 0),
            (&[0x00, 0x00], 0),
            // A length beyond all memory.
            (
                &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                0,
            ),
            // A varint of eleven bytes.
            (
                &[
                    0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01,
                ],
                0,
            ),
            (&[0x08, 0x01, 0x0b, 0x08, 0x01], 1),
        ] {
            let fields: Vec<_> = Fields::of(message).collect();
            assert_eq!(fields.len(), good + 1, "{message:x?}");
            assert_eq!(fields.last(), Some(&Err(Malformed)), "{message:x?}");
        }
    }
}
