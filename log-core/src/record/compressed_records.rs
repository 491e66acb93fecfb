//! The walk over compressed records that looks at each and keeps none: what a broker checks of a producer's batch.
//!
//! The decompressed bytes pass through a window. A record that lies in it as a whole is read there; one that reaches
//! beyond is read field by field, its key and value skipped as they come. So memory is that of the window and the
//! codec, whatever the batch and its records hold.
//!
//! The errors are those of the walk over the same records uncompressed. Damage of the codec's is told with the
//! record at which it showed.

use super::compression::{Compression, CompressionError};
use super::decompression::Decompressor;
use super::record::{
    RECORD_LENGTH, RecordBytes, RecordContext, RecordError, RecordErrorKind, RecordFacts, in_field,
    read_fields,
};
use super::varint::{ByteSource, take_varint};

/// Large enough that few records reach beyond it, small enough for a processor's first cache.
const WINDOW_LENGTH: usize = 32 << 10;

/// The walk. It ends after the first error; bytes behind the last record are one.
pub(super) struct CompressedRecords<'a> {
    context: RecordContext,
    window: Window<'a>,
    index: u32,
    finished: bool,
}

impl<'a> CompressedRecords<'a> {
    /// Begins with the records in `body`, of which at most `limit` bytes may come out.
    ///
    /// # Errors
    /// When its first bytes say that it is nothing the codec reads.
    pub(super) fn new(
        context: RecordContext,
        codec: Compression,
        body: &'a [u8],
        limit: usize,
    ) -> Result<Self, CompressionError> {
        Ok(Self {
            context,
            window: Window::new(Decompressor::new(codec, body, limit)?),
            index: 0,
            finished: false,
        })
    }

    /// How many bytes have come out so far: at the end, all of them.
    pub(super) fn length(&self) -> usize {
        self.window.decompressor.length()
    }

    fn advance(&mut self) -> Result<Option<RecordFacts>, RecordErrorKind> {
        if self.index < self.context.record_count() {
            let outcome = self.take_facts();
            // Where bytes are missing because the codec gave up, that is the reason to tell.
            return match self.window.failure.take() {
                Some(failure) => Err(failure.into()),
                None => outcome.map(Some),
            };
        }
        let found = self.window.skip_all();
        match (self.window.failure.take(), found) {
            (Some(failure), _) => Err(failure.into()),
            (None, 0) => Ok(None),
            (None, found) => Err(RecordErrorKind::TrailingBytes { found }),
        }
    }

    fn take_facts(&mut self) -> Result<RecordFacts, RecordErrorKind> {
        let window = &mut self.window;
        let found = take_varint(window).map_err(in_field(RECORD_LENGTH))?;
        let Ok(length) = usize::try_from(found) else {
            return Err(RecordErrorKind::Length {
                field: RECORD_LENGTH,
                found,
                remaining: window.skip_all(),
            });
        };
        if let Some(record) = window.unread().get(..length) {
            let facts = read_fields(record, &self.context).map(|fields| RecordFacts::of(&fields));
            window.consume(length);
            return facts;
        }
        let mut left = length;
        let record = PassingRecord {
            window: &mut *window,
            left: &mut left,
        };
        let outcome = read_fields(record, &self.context).map(|fields| RecordFacts::of(&fields));
        let skipped = window.skip(left);
        if skipped < left {
            // The record is cut, which the walk over bytes in memory notices first.
            return Err(RecordErrorKind::Length {
                field: RECORD_LENGTH,
                found,
                remaining: length.saturating_sub(left).saturating_add(skipped),
            });
        }
        outcome
    }
}

impl Iterator for CompressedRecords<'_> {
    type Item = Result<RecordFacts, RecordError>;

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
}

/// The decompressed bytes that were read last.
struct Window<'a> {
    decompressor: Decompressor<'a>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    is_at_end: bool,
    /// Why the bytes ended early.
    failure: Option<CompressionError>,
}

impl<'a> Window<'a> {
    fn new(decompressor: Decompressor<'a>) -> Self {
        Self {
            decompressor,
            buffer: vec![0; WINDOW_LENGTH],
            start: 0,
            end: 0,
            is_at_end: false,
            failure: None,
        }
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// Makes sure that something is unread, and says whether there is anything left.
    fn refill(&mut self) -> bool {
        if self.start < self.end {
            return true;
        }
        if self.is_at_end {
            return false;
        }
        self.start = 0;
        self.end = self
            .decompressor
            .read(&mut self.buffer)
            .unwrap_or_else(|failure| {
                self.failure = Some(failure);
                0
            });
        self.is_at_end = self.end == 0;
        !self.is_at_end
    }

    /// Skips so many bytes, or as many as there are, and says how many.
    fn skip(&mut self, count: usize) -> usize {
        let mut left = count;
        while 0 < left && self.refill() {
            let step = left.min(self.unread().len());
            self.consume(step);
            left -= step;
        }
        count - left
    }

    fn skip_all(&mut self) -> usize {
        self.skip(usize::MAX)
    }
}

impl ByteSource for Window<'_> {
    #[inline]
    fn take_byte(&mut self) -> Option<u8> {
        if !self.refill() {
            return None;
        }
        let byte = self.unread().first().copied();
        self.consume(1);
        byte
    }
}

/// A record that passes through the window.
struct PassingRecord<'w, 'a> {
    window: &'w mut Window<'a>,
    /// How many of its bytes have not passed yet.
    left: &'w mut usize,
}

impl ByteSource for PassingRecord<'_, '_> {
    fn take_byte(&mut self) -> Option<u8> {
        let left = self.left.checked_sub(1)?;
        let byte = self.window.take_byte()?;
        *self.left = left;
        Some(byte)
    }
}

impl RecordBytes for PassingRecord<'_, '_> {
    type Stretch = ();

    fn left(&self) -> usize {
        *self.left
    }

    fn take_stretch(&mut self, length: usize) -> Option<()> {
        let left = self.left.checked_sub(length)?;
        let skipped = self.window.skip(length);
        *self.left -= skipped;
        (*self.left == left).then_some(())
    }

    fn rest(&self) {}
}
