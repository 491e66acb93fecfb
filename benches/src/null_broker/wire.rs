//! Reading a request where it lies, and writing an answer, without the codec's allocations.
//!
//! Lengths and ends of structures differ between the older versions and the flexible ones (KIP-482); both are known here.

use std::io;

/// What is left of a frame.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a mut [u8],
    is_flexible: bool,
}

/// The frame is not what its version says.
pub(crate) fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a malformed request")
}

/// What an answer needs of a request's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(frame: &'a mut [u8]) -> Self {
        Self {
            rest: frame,
            is_flexible: false,
        }
    }

    /// The header; a version from `flexible_since` on is read as a flexible one from here.
    pub(crate) fn head(&mut self, flexible_since: i16) -> io::Result<Head> {
        self.i16()?; // API
        let head = Head {
            version: self.i16()?,
            correlation_id: self.i32()?,
        };
        // The client id has the old form in every version.
        let client_id_length = usize::try_from(self.i16()?).unwrap_or(0);
        self.take(client_id_length)?;
        self.is_flexible = flexible_since <= head.version;
        self.end_of_structure()?;
        Ok(head)
    }

    pub(crate) fn take(&mut self, length: usize) -> io::Result<&'a mut [u8]> {
        let rest = std::mem::take(&mut self.rest);
        let (taken, rest) = rest.split_at_mut_checked(length).ok_or_else(malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        Ok(*self.take(N)?.first_chunk().ok_or_else(malformed)?)
    }

    pub(crate) fn i8(&mut self) -> io::Result<i8> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub(crate) fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> io::Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn varint(&mut self) -> io::Result<usize> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed())
    }

    /// The length of an array or of bytes; that of null is 0.
    pub(crate) fn length(&mut self) -> io::Result<usize> {
        if self.is_flexible {
            return Ok(self.varint()?.saturating_sub(1));
        }
        Ok(usize::try_from(self.i32()?).unwrap_or(0))
    }

    /// A string; null is empty.
    pub(crate) fn string(&mut self) -> io::Result<&'a mut [u8]> {
        let length = if self.is_flexible {
            self.varint()?.saturating_sub(1)
        } else {
            usize::try_from(self.i16()?).unwrap_or(0)
        };
        self.take(length)
    }

    /// Passes over tagged fields, where the version has them.
    pub(crate) fn end_of_structure(&mut self) -> io::Result<()> {
        if self.is_flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let length = self.varint()?;
                self.take(length)?;
            }
        }
        Ok(())
    }
}

/// An answer that is being written; its length stands in front at the end.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    begins_at: usize,
    is_flexible: bool,
}

impl<'a> Writer<'a> {
    /// Begins an answer behind whatever stands in `out`.
    pub(crate) fn new(out: &'a mut Vec<u8>, head: Head, flexible_since: i16) -> Self {
        let begins_at = out.len();
        let mut writer = Self {
            out,
            begins_at,
            is_flexible: flexible_since <= head.version,
        };
        writer.i32(0);
        writer.i32(head.correlation_id);
        writer.end_of_structure();
        writer
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes(&value.to_be_bytes());
    }

    fn varint(&mut self, mut value: usize) {
        while 0x80 <= value {
            let low = u8::try_from(value & 0x7f).unwrap_or(0);
            self.out.push(low | 0x80);
            value >>= 7;
        }
        self.out.push(u8::try_from(value).unwrap_or(0));
    }

    /// The length of an array or of bytes.
    pub(crate) fn length(&mut self, length: usize) {
        if self.is_flexible {
            self.varint(length + 1);
        } else {
            self.i32(i32::try_from(length).unwrap_or(i32::MAX));
        }
    }

    pub(crate) fn null_array(&mut self) {
        if self.is_flexible {
            self.varint(0);
        } else {
            self.i32(-1);
        }
    }

    pub(crate) fn string(&mut self, text: &[u8]) {
        if self.is_flexible {
            self.varint(text.len() + 1);
        } else {
            self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        }
        self.bytes(text);
    }

    pub(crate) fn null_string(&mut self) {
        if self.is_flexible {
            self.varint(0);
        } else {
            self.i16(-1);
        }
    }

    pub(crate) fn end_of_structure(&mut self) {
        if self.is_flexible {
            self.varint(0);
        }
    }

    /// How much stands in the buffer, this answer's beginning and earlier answers included.
    pub(crate) fn position(&self) -> usize {
        self.out.len()
    }

    /// Ends the answer, of which `elsewhere` bytes are not in the buffer.
    pub(crate) fn finish(self, elsewhere: usize) {
        let length = self.out.len() - self.begins_at - 4 + elsewhere;
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = self.out.get_mut(self.begins_at..self.begins_at + 4) {
            place.copy_from_slice(&length);
        }
    }

    /// Takes the answer back.
    pub(crate) fn cancel(self) {
        self.out.truncate(self.begins_at);
    }
}
