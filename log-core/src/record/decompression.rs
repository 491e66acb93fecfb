//! Compressed bytes back into what they were: whole, or a piece at a time.
//!
//! [`Compression::decompress`] is for readers that keep the bytes. [`Decompressor`] is for those that look at them
//! once; it holds a codec's own window and no more:
//!
//! | codec | held at a time |
//! |---|---|
//! | gzip | 32 KiB |
//! | snappy | one block: 32 KiB as the Java client writes, all of it as librdkafka writes |
//! | lz4 | one block, 4 MiB at most |
//! | zstd | the window that the frame declares, 128 MiB at most, of which only what comes out is touched |
//!
//! Invariant: what comes out never exceeds the limit; what would is refused while it is being read.

use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;

use super::compression::{Compression, CompressionError, XERIAL_HEADER_LENGTH, XERIAL_MAGIC};

const XERIAL_MAGIC_HEAD: [u8; 4] = [0x82, b'S', b'N', b'A'];
/// The densest element of snappy copies 64 bytes and takes 3, so no honest block declares more than this ratio.
const SNAPPY_RATIO_MAX: usize = 22;

const LZ4_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
/// The bit of an lz4 frame's flags that says that no block refers to the one before it.
const LZ4_INDEPENDENT: u8 = 1 << 5;

impl Compression {
    /// Replaces the contents of `output` with `input`, decompressed.
    ///
    /// # Errors
    /// When `input` is damaged, or more than `limit` bytes would come out. `output` then holds at most `limit` bytes
    /// of no meaning.
    pub fn decompress(
        self,
        input: &[u8],
        output: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), CompressionError> {
        output.clear();
        let outcome = match self {
            Self::None => read_limited(input, output, limit),
            Self::Gzip => read_limited(MultiGzDecoder::new(input), output, limit),
            Self::Snappy => snappy_decompress(input, output, limit),
            Self::Lz4 => lz4_decompress(input, output, limit),
            Self::Zstd => zstd_decoder(input).and_then(|decoder| read_limited(decoder, output, limit)),
        };
        outcome.map_err(|refusal| refusal.of(self, input.len(), limit))
    }
}

/// Why a codec gave up; the caller knows the rest.
enum Refusal {
    Damaged(String),
    TooLarge,
}

impl Refusal {
    fn of(self, codec: Compression, length: usize, limit: usize) -> CompressionError {
        match self {
            Self::Damaged(reason) => CompressionError::Damaged {
                codec,
                length,
                reason,
            },
            Self::TooLarge => CompressionError::TooLarge { codec, length, limit },
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<snap::Error> for Refusal {
    fn from(error: snap::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Reads to the end, and one byte beyond the limit at most.
fn read_limited(reader: impl Read, output: &mut Vec<u8>, limit: usize) -> Result<(), Refusal> {
    let allowed = u64::try_from(limit).expect("memory is addressed by 64 bits at most");
    reader.take(allowed.saturating_add(1)).read_to_end(output)?;
    if limit < output.len() {
        output.truncate(limit);
        return Err(Refusal::TooLarge);
    }
    Ok(())
}

type ZstdDecoder<'a> = zstd::stream::read::Decoder<'static, &'a [u8]>;

fn zstd_decoder(input: &[u8]) -> Result<ZstdDecoder<'_>, Refusal> {
    Ok(zstd::stream::read::Decoder::with_buffer(input)?)
}

/// A slice that remembers whether somebody asked it for more than it has.
struct WatchedSlice<'a> {
    rest: &'a [u8],
    ran_dry: bool,
}

impl Read for WatchedSlice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ran_dry |= self.rest.is_empty() && !buffer.is_empty();
        self.rest.read(buffer)
    }
}

type Lz4Decoder<'a> = FrameDecoder<WatchedSlice<'a>>;

/// A decoder of the frames that Kafka takes: the clients in Java read no blocks that refer to earlier ones, and no
/// older frames.
fn lz4_decoder(input: &[u8]) -> Result<Lz4Decoder<'_>, Refusal> {
    let flags = input.strip_prefix(&LZ4_MAGIC).and_then(<[u8]>::first);
    match flags {
        None => Err(Refusal::Damaged("no frame begins here".to_owned())),
        Some(flags) if flags & LZ4_INDEPENDENT == 0 => Err(Refusal::Damaged(
            "the blocks refer to earlier ones, which Java's clients do not read".to_owned(),
        )),
        Some(_) => Ok(FrameDecoder::new(WatchedSlice {
            rest: input,
            ran_dry: false,
        })),
    }
}

/// The frame decoder takes the end of the input for the end of the frame. A frame that is whole is never read
/// beyond its end mark, so asking for more means that it was cut.
fn lz4_check_end(decoder: &Lz4Decoder<'_>) -> Result<(), Refusal> {
    if decoder.get_ref().ran_dry {
        return Err(Refusal::Damaged("the frame has no end mark".to_owned()));
    }
    Ok(())
}

fn lz4_decompress(input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<(), Refusal> {
    let mut decoder = lz4_decoder(input)?;
    read_limited(&mut decoder, output, limit)?;
    lz4_check_end(&decoder)
}

fn snappy_decompress(input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<(), Refusal> {
    for block in SnappyBlocks::of(input) {
        snappy_block_decompress(block?, output, limit)?;
    }
    Ok(())
}

/// Appends one raw block to `output`, which is to hold at most `limit` bytes.
fn snappy_block_decompress(block: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<(), Refusal> {
    let declared = snap::raw::decompress_len(block)?;
    if block.len().saturating_mul(SNAPPY_RATIO_MAX) < declared {
        return Err(Refusal::Damaged(format!(
            "a block of {} bytes declares {declared}, more than any block can hold",
            block.len()
        )));
    }
    let start = output.len();
    if limit.saturating_sub(start) < declared {
        return Err(Refusal::TooLarge);
    }
    output.resize(start + declared, 0);
    let space = output.get_mut(start..).expect("just resized");
    let written = snap::raw::Decoder::new().decompress(block, space)?;
    output.truncate(start + written);
    Ok(())
}

/// The raw blocks of snappy data: those of the xerial framing, or all of it as one.
struct SnappyBlocks<'a> {
    rest: &'a [u8],
    is_framed: bool,
    is_done: bool,
}

impl<'a> SnappyBlocks<'a> {
    fn of(input: &'a [u8]) -> Self {
        Self {
            rest: input,
            is_framed: input.starts_with(&XERIAL_MAGIC),
            is_done: false,
        }
    }

    fn next_framed(&mut self) -> Result<Option<&'a [u8]>, Refusal> {
        // Streams may be strung together, each with its header; no block is as long as the magic read as a length.
        while self.rest.starts_with(&XERIAL_MAGIC_HEAD) {
            let behind = self.rest.get(XERIAL_HEADER_LENGTH..);
            self.rest = behind.ok_or_else(|| cut("the header"))?;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let length = self.rest.split_first_chunk::<4>();
        let (length, behind) = length.ok_or_else(|| cut("a block's length"))?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut("a block"))?;
        let (block, behind) = behind.split_at_checked(length).ok_or_else(|| cut("a block"))?;
        self.rest = behind;
        Ok(Some(block))
    }
}

impl<'a> Iterator for SnappyBlocks<'a> {
    type Item = Result<&'a [u8], Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        if !self.is_framed {
            self.is_done = true;
            return Some(Ok(self.rest));
        }
        let next = self.next_framed().transpose();
        self.is_done = !matches!(next, Some(Ok(_)));
        next
    }
}

fn cut(place: &str) -> Refusal {
    Refusal::Damaged(format!("the input ends within {place}"))
}

/// Snappy's blocks, one at a time.
struct SnappyReader<'a> {
    blocks: SnappyBlocks<'a>,
    block: Vec<u8>,
    /// How much of the block was read.
    read: usize,
}

impl SnappyReader<'_> {
    /// At most `left` bytes may still come out.
    fn read(&mut self, buffer: &mut [u8], left: usize) -> Result<usize, Refusal> {
        while self.read == self.block.len() {
            let Some(block) = self.blocks.next() else {
                return Ok(0);
            };
            self.block.clear();
            self.read = 0;
            snappy_block_decompress(block?, &mut self.block, left)?;
        }
        let mut unread = self.block.get(self.read..).unwrap_or_default();
        let count = unread.read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

enum Decoder<'a> {
    None(&'a [u8]),
    Gzip(Box<MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyReader<'a>),
    Lz4(Box<Lz4Decoder<'a>>),
    Zstd(ZstdDecoder<'a>),
}

impl<'a> Decoder<'a> {
    fn new(codec: Compression, input: &'a [u8]) -> Result<Self, Refusal> {
        Ok(match codec {
            Compression::None => Self::None(input),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Snappy => Self::Snappy(SnappyReader {
                blocks: SnappyBlocks::of(input),
                block: Vec::new(),
                read: 0,
            }),
            Compression::Lz4 => Self::Lz4(Box::new(lz4_decoder(input)?)),
            Compression::Zstd => Self::Zstd(zstd_decoder(input)?),
        })
    }

    fn read(&mut self, buffer: &mut [u8], left: usize) -> Result<usize, Refusal> {
        Ok(match self {
            Self::None(rest) => rest.read(buffer)?,
            Self::Gzip(decoder) => decoder.read(buffer)?,
            Self::Snappy(reader) => reader.read(buffer, left)?,
            Self::Zstd(decoder) => decoder.read(buffer)?,
            Self::Lz4(decoder) => {
                let count = decoder.read(buffer)?;
                if count == 0 {
                    lz4_check_end(decoder)?;
                }
                count
            }
        })
    }
}

/// Compressed bytes as they come out, a piece at a time.
pub(super) struct Decompressor<'a> {
    codec: Compression,
    /// How many compressed bytes there are.
    compressed_length: usize,
    limit: usize,
    /// How many may still come out.
    left: usize,
    decoder: Decoder<'a>,
}

impl<'a> Decompressor<'a> {
    /// Begins with `input`, of which at most `limit` bytes may come.
    ///
    /// # Errors
    /// When its first bytes say that it is nothing the codec reads.
    pub(super) fn new(codec: Compression, input: &'a [u8], limit: usize) -> Result<Self, CompressionError> {
        let length = input.len();
        let decoder = Decoder::new(codec, input).map_err(|refusal| refusal.of(codec, length, limit))?;
        Ok(Self {
            codec,
            compressed_length: length,
            limit,
            left: limit,
            decoder,
        })
    }

    /// How many bytes have come out so far.
    pub(super) fn length(&self) -> usize {
        self.limit - self.left
    }

    /// Puts the next bytes into `buffer` and says how many there are; none at the end, after which it is not asked again.
    ///
    /// # Errors
    /// When the input is damaged, or the limit exceeded.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, CompressionError> {
        // One byte more than may come, to see whether it does.
        let room = buffer.len().min(self.left.saturating_add(1));
        let outcome = match buffer.get_mut(..room) {
            Some(room) => self.decoder.read(room, self.left),
            None => Ok(0),
        };
        let count = outcome.and_then(|count| match self.left.checked_sub(count) {
            Some(left) => {
                self.left = left;
                Ok(count)
            }
            None => Err(Refusal::TooLarge),
        });
        count.map_err(|refusal| refusal.of(self.codec, self.compressed_length, self.limit))
    }
}
