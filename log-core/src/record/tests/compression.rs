//! The codecs: what comes back, what is refused, and that nothing exceeds its limit.
//! Against other implementations the codecs are held in `tests/golden_batches.rs`.

use std::io::Write as _;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use crate::record::compression::{Compression, CompressionError, UnknownCompression};
use crate::record::decompression::Decompressor;

const CODECS: [Compression; 4] = [
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn text(length: usize) -> Vec<u8> {
    b"a line that repeats, with a counter: 0123456789\n"
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

fn compressed(codec: Compression, input: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    codec.compress(None, input, &mut output);
    output
}

fn decompressed(codec: Compression, input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut output = vec![7; 3];
    codec.decompress(input, &mut output, limit)?;
    Ok(output)
}

#[test]
fn ids_and_names_read_back() {
    for (id, codec) in (0..).zip(Compression::ALL) {
        assert_eq!(codec.id(), id);
        assert_eq!(Compression::from_id(id), Ok(codec));
        assert_eq!(codec.to_string().parse(), Ok(codec));
    }
    assert_eq!(Compression::from_id(5), Err(UnknownCompression { id: 5 }));
    assert!("GZIP".parse::<Compression>().is_err());
}

#[test]
fn every_codec_gives_back_what_it_took() {
    for codec in Compression::ALL {
        for length in [0, 1, 100, 32 << 10, (32 << 10) + 1, 300_000] {
            let input = text(length);
            let packed = compressed(codec, &input);
            assert_eq!(
                decompressed(codec, &packed, length).unwrap(),
                input,
                "{codec} {length}"
            );
        }
    }
}

#[test]
fn every_level_gives_back_what_it_took() {
    let input = text(10_000);
    for codec in Compression::ALL {
        for level in [i32::MIN, -5, -1, 0, 1, 9, 17, 19, i32::MAX] {
            let mut packed = Vec::new();
            codec.compress(Some(level), &input, &mut packed);
            assert_eq!(
                decompressed(codec, &packed, 10_000).unwrap(),
                input,
                "{codec} {level}"
            );
        }
    }
}

#[test]
fn output_beyond_the_limit_is_refused() {
    let input = vec![0; 1 << 20];
    for codec in Compression::ALL {
        let packed = compressed(codec, &input);
        for limit in [0, 1, (1 << 20) - 1] {
            let mut output = Vec::new();
            let outcome = codec.decompress(&packed, &mut output, limit);
            assert!(
                matches!(outcome, Err(CompressionError::TooLarge { .. })),
                "{codec} {limit}"
            );
            assert!(output.len() <= limit, "{codec} {limit}");
        }
    }
}

#[test]
fn input_that_is_cut_is_refused() {
    let input = text(100_000);
    for codec in CODECS {
        let packed = compressed(codec, &input);
        for length in [1, 7, packed.len() / 2, packed.len() - 1] {
            let outcome = decompressed(codec, &packed[..length], 1 << 20);
            assert!(
                matches!(outcome, Err(CompressionError::Damaged { .. })),
                "{codec} {length}"
            );
        }
    }
}

#[test]
fn an_lz4_frame_without_its_end_mark_is_refused() {
    let packed = compressed(Compression::Lz4, &text(100));
    let outcome = decompressed(Compression::Lz4, &packed[..packed.len() - 4], 1 << 20);
    assert!(
        matches!(outcome, Err(CompressionError::Damaged { .. })),
        "{outcome:?}"
    );
}

/// Kafka refuses such frames, because its clients could not read them.
#[test]
fn lz4_blocks_that_refer_to_earlier_ones_are_refused() {
    let frame = FrameInfo::new()
        .block_mode(BlockMode::Linked)
        .block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(&text(200_000)).unwrap();
    let packed = encoder.finish().unwrap();
    let outcome = decompressed(Compression::Lz4, &packed, 1 << 20);
    assert!(
        matches!(outcome, Err(CompressionError::Damaged { .. })),
        "{outcome:?}"
    );
}

/// Everything a decompressor gives, read in pieces of this size.
fn in_pieces(
    codec: Compression,
    input: &[u8],
    limit: usize,
    piece_length: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut decompressor = Decompressor::new(codec, input, limit)?;
    let mut output = Vec::new();
    let mut piece = vec![0; piece_length];
    loop {
        match decompressor.read(&mut piece)? {
            0 => return Ok(output),
            count => output.extend_from_slice(&piece[..count]),
        }
    }
}

#[test]
fn the_pieces_are_the_whole() {
    let input = text(100_000);
    for codec in Compression::ALL {
        let packed = compressed(codec, &input);
        let longer = [&packed[..], b"left over"].concat();
        let inputs = [
            &[],
            &packed[..1],
            &packed[..packed.len() / 2],
            &packed[..packed.len() - 1],
            &packed[..],
            &longer[..],
        ];
        for packed in inputs {
            for limit in [0, 1, 99_999, 100_000, 1 << 20] {
                let whole = decompressed(codec, packed, limit);
                for piece_length in [1, 1000, 1 << 20] {
                    let pieces = in_pieces(codec, packed, limit, piece_length);
                    assert_eq!(pieces, whole, "{codec}: {} bytes, limit {limit}", packed.len());
                }
            }
        }
    }
}

#[test]
fn raw_snappy_is_read() {
    let input = text(100_000);
    let raw = snap::raw::Encoder::new().compress_vec(&input).unwrap();
    assert_eq!(decompressed(Compression::Snappy, &raw, 100_000).unwrap(), input);
}

#[test]
fn xerial_streams_in_a_row_are_read() {
    let mut packed = compressed(Compression::Snappy, &text(50));
    packed.extend(compressed(Compression::Snappy, &text(50)));
    assert_eq!(
        decompressed(Compression::Snappy, &packed, 100).unwrap(),
        [text(50), text(50)].concat()
    );
}

#[test]
fn a_snappy_block_cannot_declare_more_than_it_holds() {
    // The varint says 32 MiB, and nothing follows.
    let outcome = decompressed(Compression::Snappy, &[0x80, 0x80, 0x80, 0x10], 1 << 30);
    assert!(
        matches!(outcome, Err(CompressionError::Damaged { .. })),
        "{outcome:?}"
    );
    // The ratio in the constant is one that blocks of zeros reach.
    let zeros = vec![0; 1 << 20];
    let raw = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
    assert_eq!(decompressed(Compression::Snappy, &raw, 1 << 20).unwrap(), zeros);
}
