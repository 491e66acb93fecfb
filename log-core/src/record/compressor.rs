//! Bytes into compressed ones: whole, or a piece at a time.
//!
//! [`Compression::compress`] is for those who have them all. [`Compressor`] takes them as they come; it holds what a codec
//! needs and no more:
//!
//! | codec | held at a time |
//! |---|---|
//! | gzip | its window of 32 KiB and tables, some 300 KiB |
//! | snappy | one block of 32 KiB |
//! | lz4 | one block of 64 KiB |
//! | zstd | a window of [`ZSTD_WINDOW_MAX`] at most, and tables: 1 MiB at the usual level, 16 times the window at the highest |
//!
//! The bytes go to memory, so a codec that fails is a mistake of ours.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::compression::{Codec, Compression, XERIAL_MAGIC, XERIAL_VERSIONS};

const XERIAL_BLOCK_LENGTH: usize = 32 << 10;

/// As at zstd's usual level. Higher ones would take up to 64 times as much, for records that are hardly ever longer.
const ZSTD_WINDOW_MAX: usize = 1 << ZSTD_WINDOW_LOG_MAX;
const ZSTD_WINDOW_LOG_MAX: u32 = 21;

const IN_MEMORY: &str = "memory takes what is written";

impl Compression {
    /// Appends `input`, compressed, to `output`. A level outside the codec's range is held within it; `None` is the usual level.
    ///
    /// # Panics
    /// When a codec fails on bytes in memory, which is a mistake of ours.
    pub fn compress(self, level: Option<i32>, input: &[u8], output: &mut Vec<u8>) {
        if self == Self::Zstd {
            // In one call, which needs no copy of the input.
            let packed = zstd::bulk::compress(input, zstd_level(level)).expect("bytes in memory compress");
            output.extend_from_slice(&packed);
            return;
        }
        let codec = Codec {
            compression: self,
            level,
        };
        let mut compressor = Compressor::new(codec, input.len(), output);
        compressor.take(input);
        compressor.finish();
    }
}

/// Compresses what it takes into `W`, which is memory.
pub(super) enum Compressor<W: Write> {
    None(W),
    Gzip(GzEncoder<W>),
    Snappy(Box<SnappyWriter<W>>),
    Lz4(Box<FrameEncoder<W>>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// Begins. It is going to take `length` bytes, no more and no less.
    pub(super) fn new(codec: Codec, length: usize, output: W) -> Self {
        match codec.compression {
            Compression::None => Self::None(output),
            Compression::Gzip => Self::Gzip(GzEncoder::new(output, gzip_level(codec.level))),
            Compression::Snappy => Self::Snappy(Box::new(SnappyWriter::new(output))),
            Compression::Lz4 => {
                // Consumers in Java read independent blocks only.
                let frame = FrameInfo::new()
                    .block_mode(BlockMode::Independent)
                    .block_size(BlockSize::Max64KB);
                Self::Lz4(Box::new(FrameEncoder::with_frame_info(frame, output)))
            }
            Compression::Zstd => {
                let encoder = zstd_encoder(zstd_level(codec.level), length, output);
                Self::Zstd(encoder.expect("a level within the codec's range"))
            }
        }
    }

    /// Takes the next bytes.
    pub(super) fn take(&mut self, input: &[u8]) {
        let written = match self {
            Self::None(output) => output.write_all(input),
            Self::Gzip(encoder) => encoder.write_all(input),
            Self::Snappy(writer) => writer.write_all(input),
            Self::Lz4(encoder) => encoder.write_all(input),
            Self::Zstd(encoder) => encoder.write_all(input),
        };
        written.expect(IN_MEMORY);
    }

    /// Writes what is left, and gives the output back.
    pub(super) fn finish(self) -> W {
        match self {
            Self::None(output) => output,
            Self::Gzip(encoder) => encoder.finish().expect(IN_MEMORY),
            Self::Snappy(writer) => writer.finish().expect(IN_MEMORY),
            Self::Lz4(encoder) => encoder.finish().expect(IN_MEMORY),
            Self::Zstd(encoder) => encoder.finish().expect("as many bytes came as were announced"),
        }
    }
}

fn gzip_level(level: Option<i32>) -> flate2::Compression {
    match level {
        None | Some(-1) => flate2::Compression::default(),
        Some(level) => flate2::Compression::new(level.clamp(1, 9).unsigned_abs()),
    }
}

fn zstd_level(level: Option<i32>) -> i32 {
    level.unwrap_or(3).clamp(-131_072, 22)
}

fn zstd_encoder<W: Write>(
    level: i32,
    length: usize,
    output: W,
) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let mut encoder = zstd::stream::write::Encoder::new(output, level)?;
    // Tables fit what is to come, so that little takes little time.
    encoder.set_pledged_src_size(u64::try_from(length).ok())?;
    if ZSTD_WINDOW_MAX < length {
        encoder.window_log(ZSTD_WINDOW_LOG_MAX)?;
    }
    Ok(encoder)
}

/// Snappy's blocks in the xerial framing.
pub(super) struct SnappyWriter<W> {
    output: W,
    encoder: snap::raw::Encoder,
    /// The beginning of the next block.
    block: Vec<u8>,
    has_header: bool,
}

impl<W: Write> SnappyWriter<W> {
    fn new(output: W) -> Self {
        Self {
            output,
            encoder: snap::raw::Encoder::new(),
            block: Vec::new(),
            has_header: false,
        }
    }

    fn write_all(&mut self, mut input: &[u8]) -> io::Result<()> {
        if !self.block.is_empty() {
            let missing = XERIAL_BLOCK_LENGTH - self.block.len();
            let (head, rest) = input.split_at(missing.min(input.len()));
            self.block.extend_from_slice(head);
            input = rest;
            if self.block.len() < XERIAL_BLOCK_LENGTH {
                return Ok(());
            }
            self.write_begun()?;
        }
        let blocks = input.chunks_exact(XERIAL_BLOCK_LENGTH);
        let rest = blocks.remainder();
        for block in blocks {
            self.write_block(block)?;
        }
        self.block.extend_from_slice(rest);
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        self.write_header()?;
        if !self.block.is_empty() {
            self.write_begun()?;
        }
        Ok(self.output)
    }

    fn write_begun(&mut self) -> io::Result<()> {
        let mut block = std::mem::take(&mut self.block);
        self.write_block(&block)?;
        block.clear();
        self.block = block;
        Ok(())
    }

    fn write_block(&mut self, block: &[u8]) -> io::Result<()> {
        self.write_header()?;
        let packed = self
            .encoder
            .compress_vec(block)
            .expect("a block of 32 KiB compresses");
        let length = u32::try_from(packed.len()).expect("a compressed block of 32 KiB is small");
        self.output.write_all(&length.to_be_bytes())?;
        self.output.write_all(&packed)
    }

    fn write_header(&mut self) -> io::Result<()> {
        if self.has_header {
            return Ok(());
        }
        self.has_header = true;
        self.output.write_all(&XERIAL_MAGIC)?;
        self.output.write_all(&XERIAL_VERSIONS)
    }
}
