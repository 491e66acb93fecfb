//! The forms in which Kafka's own records write numbers, strings and lists, read and written.
//!
//! Plain forms have lengths of two bytes (strings) or four (bytes, lists), −1 for null. Flexible forms (KIP-482) have one
//! unsigned varint, 0 for null and the length plus one otherwise, and end with tagged fields.
//! Whatever stands in a file, reading neither panics nor takes more memory than the file's bytes justify.

use std::sync::Arc;

use bytes::Bytes;
use log_core::model::TopicId;

use crate::coordinator::record::{FormatProblem, RecordFormatError, RecordPart};

/// How lengths are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::coordinator) enum Form {
    /// Two or four bytes.
    Plain,
    /// An unsigned varint, and tagged fields at the end.
    Flexible,
}

type Result<T> = std::result::Result<T, RecordFormatError>;

/// Reads a key or a value from its front.
#[derive(Debug, Clone, Copy)]
pub(in crate::coordinator) struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
    part: RecordPart,
    form: Form,
}

impl<'a> Reader<'a> {
    pub(in crate::coordinator) fn new(bytes: &'a [u8], part: RecordPart) -> Self {
        Self {
            rest: bytes,
            length: bytes.len(),
            part,
            form: Form::Plain,
        }
    }

    /// The version in front of a value, and a reader of the fields behind it; versions from `flexible_since` on are flexible.
    pub(in crate::coordinator) fn version(mut self, flexible_since: i16) -> Result<(i16, Self)> {
        let version = self.i16()?;
        if flexible_since <= version {
            self.form = Form::Flexible;
        }
        Ok((version, self))
    }

    /// The fields of a value of which there is only version 0, a flexible one.
    pub(in crate::coordinator) fn only_version_0(self) -> Result<Self> {
        match self.version(0)? {
            (0, fields) => Ok(fields),
            (other, fields) => Err(fields.refuse(FormatProblem::UnknownVersion(other))),
        }
    }

    pub(in crate::coordinator) fn refuse(&self, problem: FormatProblem) -> RecordFormatError {
        RecordFormatError {
            part: self.part,
            at: self.length - self.rest.len(),
            problem,
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.refuse(FormatProblem::Truncated));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.refuse(FormatProblem::Truncated));
        };
        self.rest = rest;
        Ok(*taken)
    }

    pub(in crate::coordinator) fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub(in crate::coordinator) fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(in crate::coordinator) fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(in crate::coordinator) fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(in crate::coordinator) fn topic_id(&mut self) -> Result<TopicId> {
        Ok(TopicId::from_bytes(self.array()?))
    }

    fn unsigned_varint(&mut self) -> Result<u32> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            let part = u32::from(byte & 0x7f);
            if shift == 28 && 0x0f < part {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.refuse(FormatProblem::BadLength))
    }

    /// The length of a string, of bytes or of a list; `None` for null.
    fn length(&mut self, plain: impl FnOnce(&mut Self) -> Result<i32>) -> Result<Option<usize>> {
        let length = match self.form {
            Form::Flexible => i64::from(self.unsigned_varint()?) - 1,
            Form::Plain => i64::from(plain(self)?),
        };
        if length == -1 {
            return Ok(None);
        }
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) => Err(self.refuse(FormatProblem::BadLength)),
        }
    }

    pub(in crate::coordinator) fn nullable_string(&mut self) -> Result<Option<Arc<str>>> {
        let Some(length) = self.length(|reader| reader.i16().map(i32::from))? else {
            return Ok(None);
        };
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(Some(text.into())),
            Err(_) => Err(self.refuse(FormatProblem::NotUtf8)),
        }
    }

    pub(in crate::coordinator) fn string(&mut self) -> Result<Arc<str>> {
        self.nullable_string()?
            .ok_or_else(|| self.refuse(FormatProblem::Null))
    }

    pub(in crate::coordinator) fn bytes(&mut self) -> Result<Bytes> {
        let length = self.length(Self::i32)?;
        let length = length.ok_or_else(|| self.refuse(FormatProblem::Null))?;
        Ok(Bytes::copy_from_slice(self.take(length)?))
    }

    /// A list whose elements take at least `element_bytes_min` bytes each.
    pub(in crate::coordinator) fn list<T>(
        &mut self,
        element_bytes_min: usize,
        element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.nullable_list(element_bytes_min, element)?
            .ok_or_else(|| self.refuse(FormatProblem::Null))
    }

    pub(in crate::coordinator) fn nullable_list<T>(
        &mut self,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(count) = self.length(Self::i32)? else {
            return Ok(None);
        };
        if self.rest.len() / element_bytes_min < count {
            return Err(self.refuse(FormatProblem::Truncated));
        }
        (0..count).map(|_| element(self)).collect::<Result<_>>().map(Some)
    }

    /// The tagged fields at the end of a flexible structure. `known` reads those it knows and leaves the others.
    pub(in crate::coordinator) fn tagged(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<()>,
    ) -> Result<()> {
        if self.form == Form::Plain {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()?;
            let size = usize::try_from(size).map_err(|_| self.refuse(FormatProblem::BadLength))?;
            let before = self.length - self.rest.len();
            let mut field = Self {
                rest: self.take(size)?,
                length: before + size,
                ..*self
            };
            known(tag, &mut field)?;
        }
        Ok(())
    }

    /// Tagged fields of which none is known.
    pub(in crate::coordinator) fn no_tagged(&mut self) -> Result<()> {
        self.tagged(|_, _| Ok(()))
    }

    /// Nothing may stand behind the last field.
    pub(in crate::coordinator) fn end(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.refuse(FormatProblem::TrailingBytes))
        }
    }
}

/// Writes a key or a value to the end of a buffer.
#[derive(Debug)]
pub(in crate::coordinator) struct Writer<'a> {
    output: &'a mut Vec<u8>,
    begin: usize,
    part: RecordPart,
    form: Form,
}

impl<'a> Writer<'a> {
    /// A key of a kind.
    pub(in crate::coordinator) fn key(output: &'a mut Vec<u8>, kind: i16) -> Self {
        Self::new(output, RecordPart::Key, kind, Form::Plain)
    }

    /// A value of a version.
    pub(in crate::coordinator) fn value(output: &'a mut Vec<u8>, version: i16, form: Form) -> Self {
        Self::new(output, RecordPart::Value, version, form)
    }

    fn new(output: &'a mut Vec<u8>, part: RecordPart, number: i16, form: Form) -> Self {
        let begin = output.len();
        let mut writer = Self {
            output,
            begin,
            part,
            form,
        };
        writer.i16(number);
        writer
    }

    pub(in crate::coordinator) fn i8(&mut self, value: i8) {
        self.output.extend_from_slice(&value.to_be_bytes());
    }

    pub(in crate::coordinator) fn i16(&mut self, value: i16) {
        self.output.extend_from_slice(&value.to_be_bytes());
    }

    pub(in crate::coordinator) fn i32(&mut self, value: i32) {
        self.output.extend_from_slice(&value.to_be_bytes());
    }

    pub(in crate::coordinator) fn i64(&mut self, value: i64) {
        self.output.extend_from_slice(&value.to_be_bytes());
    }

    pub(in crate::coordinator) fn topic_id(&mut self, value: TopicId) {
        self.output.extend_from_slice(&value.to_bytes());
    }

    fn unsigned_varint(&mut self, mut value: u32) {
        loop {
            let [low, ..] = (value & 0x7f).to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.output.push(low);
                return;
            }
            self.output.push(low | 0x80);
        }
    }

    fn too_long(&self) -> RecordFormatError {
        RecordFormatError {
            part: self.part,
            at: self.output.len() - self.begin,
            problem: FormatProblem::TooLong,
        }
    }

    fn flexible_length(&mut self, length: usize) -> Result<()> {
        let written = u32::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(1));
        self.unsigned_varint(written.ok_or_else(|| self.too_long())?);
        Ok(())
    }

    pub(in crate::coordinator) fn string(&mut self, text: &str) -> Result<()> {
        match self.form {
            Form::Flexible => self.flexible_length(text.len())?,
            Form::Plain => {
                let length = i16::try_from(text.len()).map_err(|_| self.too_long())?;
                self.i16(length);
            }
        }
        self.output.extend_from_slice(text.as_bytes());
        Ok(())
    }

    pub(in crate::coordinator) fn nullable_string(&mut self, text: Option<&str>) -> Result<()> {
        match (text, self.form) {
            (Some(text), _) => self.string(text)?,
            (None, Form::Flexible) => self.output.push(0),
            (None, Form::Plain) => self.i16(-1),
        }
        Ok(())
    }

    pub(in crate::coordinator) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.list_length(bytes.len())?;
        self.output.extend_from_slice(bytes);
        Ok(())
    }

    fn list_length(&mut self, length: usize) -> Result<()> {
        match self.form {
            Form::Flexible => self.flexible_length(length),
            Form::Plain => {
                let length = i32::try_from(length).map_err(|_| self.too_long())?;
                self.i32(length);
                Ok(())
            }
        }
    }

    pub(in crate::coordinator) fn list<T>(
        &mut self,
        elements: &[T],
        mut element: impl FnMut(&mut Self, &T) -> Result<()>,
    ) -> Result<()> {
        self.list_length(elements.len())?;
        elements.iter().try_for_each(|each| element(self, each))
    }

    /// A list of numbers of four bytes each.
    pub(in crate::coordinator) fn numbers(&mut self, numbers: &[i32]) -> Result<()> {
        self.list_length(numbers.len())?;
        for number in numbers {
            self.i32(*number);
        }
        Ok(())
    }

    /// No tagged fields.
    pub(in crate::coordinator) fn no_tagged(&mut self) {
        if self.form == Form::Flexible {
            self.output.push(0);
        }
    }

    /// The tagged fields: one, with the tag 0, as records of groups have it.
    pub(in crate::coordinator) fn tagged(
        &mut self,
        field: impl FnOnce(&mut Writer<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut content = Vec::new();
        field(&mut Writer {
            output: &mut content,
            begin: 0,
            part: self.part,
            form: self.form,
        })?;
        self.tags(&[(0, content)])
    }

    /// Tagged fields, each with its bytes.
    pub(in crate::coordinator) fn tags(&mut self, fields: &[(u32, Vec<u8>)]) -> Result<()> {
        let count = u32::try_from(fields.len()).map_err(|_| self.too_long())?;
        self.unsigned_varint(count);
        for (tag, content) in fields {
            self.unsigned_varint(*tag);
            let size = u32::try_from(content.len()).map_err(|_| self.too_long())?;
            self.unsigned_varint(size);
            self.output.extend_from_slice(content);
        }
        Ok(())
    }

    /// A list that is null.
    pub(in crate::coordinator) fn null_list(&mut self) {
        match self.form {
            Form::Flexible => self.output.push(0),
            Form::Plain => self.i32(-1),
        }
    }
}
