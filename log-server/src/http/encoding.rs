//! Bodies of requests that come compressed: `Content-Encoding: gzip` or `zstd`.
//!
//! tower-http has a layer for this, which grants a zstd frame whatever memory it asks for, 128 MiB for twenty bytes; so the decoders that it
//! stands on are used here directly.
//!
//! | what would cost much | limit |
//! |---|---|
//! | a zstd frame that looks far back | 8 MiB, which RFC 9659 sets for HTTP, and the request pays for them |
//! | a few bytes that become many (a bomb) | beyond 1 MiB a body becomes at most 250 times what was sent; besides, it has the limits of every body |

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::BodyDataStream;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::http::memory::{BodyMemory, Held};
use crate::http::parameters::shortened;
use crate::http::problem::{Code, Problem};

/// How far back a zstd frame may look, as a power of two.
const WINDOW_LOG_MAX: u32 = 23;
/// What is unpacked at once.
const PIECE_BYTES: usize = 64 << 10;
/// What a body may become however small it is.
const BYTES_ALWAYS: usize = 1 << 20;
/// So many times what was sent. Lines of JSON become ten or twenty times smaller by compression, not hundreds.
const RATIO_MAX: usize = 250;

/// How a body was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Zstd,
}

impl Encoding {
    /// What a request says of its body; nothing if it is as it is.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let name = value.to_str().unwrap_or("?").trim().to_ascii_lowercase();
        match name.as_str() {
            _ if values.next().is_some() => {}
            "identity" => return Ok(None),
            "gzip" | "x-gzip" => return Ok(Some(Self::Gzip)),
            "zstd" => return Ok(Some(Self::Zstd)),
            _ => {}
        }
        let text = format!(
            "Content-Encoding {} is not gzip, zstd or identity",
            shortened(&name)
        );
        Err(Problem::new(Code::UnsupportedMediaType, text))
    }

    /// What unpacking takes besides what comes out.
    fn memory_bytes(self) -> usize {
        match self {
            Self::Gzip => 0,
            Self::Zstd => 1 << WINDOW_LOG_MAX,
        }
    }
}

/// A body that is unpacked as it comes.
pub(crate) struct Unpacking {
    pieces: ReaderStream<Pin<Box<dyn AsyncRead + Send>>>,
    received: Arc<AtomicUsize>,
    given: usize,
    _held: Held,
}

impl Unpacking {
    pub(crate) fn new(
        encoding: Encoding,
        body: BodyDataStream,
        memory: &BodyMemory,
    ) -> Result<Self, Problem> {
        let mut held = Held::default();
        memory.grow(&mut held, encoding.memory_bytes())?;
        let received = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&received);
        let packed = StreamReader::new(body.map(move |piece| {
            let piece = piece.map_err(io::Error::other)?;
            counter.fetch_add(piece.len(), Ordering::Relaxed);
            Ok::<_, io::Error>(piece)
        }));
        let reader: Pin<Box<dyn AsyncRead + Send>> = match encoding {
            Encoding::Gzip => {
                let mut decoder = GzipDecoder::new(packed);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            Encoding::Zstd => {
                let window = [DParameter::window_log_max(WINDOW_LOG_MAX)];
                let mut decoder = ZstdDecoder::with_params(packed, &window);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
        };
        Ok(Self {
            pieces: ReaderStream::with_capacity(reader, PIECE_BYTES),
            received,
            given: 0,
            _held: held,
        })
    }

    /// The next piece, or `None` at the end. A call that is given up loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Problem>> {
        // Much may come out of little, and never wait for the socket.
        tokio::task::yield_now().await;
        let piece = self.pieces.next().await?;
        Some(self.checked(piece))
    }

    fn checked(&mut self, piece: io::Result<Bytes>) -> Result<Bytes, Problem> {
        let piece =
            piece.map_err(|error| Problem::invalid(format!("the body cannot be unpacked: {error}")))?;
        self.given = self.given.saturating_add(piece.len());
        let received = self.received.load(Ordering::Relaxed);
        if received.saturating_mul(RATIO_MAX).max(BYTES_ALWAYS) < self.given {
            let text = format!("a body becomes at most {RATIO_MAX} times what was sent; send it as it is");
            return Err(Problem::new(Code::TooLarge, text));
        }
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
    use async_compression::zstd::CParameter;
    use axum::body::Body;
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn packed(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        match encoding {
            Encoding::Gzip => GzipEncoder::new(bytes).read_to_end(&mut output).await,
            Encoding::Zstd => ZstdEncoder::new(bytes).read_to_end(&mut output).await,
        }
        .unwrap();
        output
    }

    async fn unpacked(encoding: Encoding, bytes: Vec<u8>) -> Result<Vec<u8>, Problem> {
        let memory = BodyMemory::new(8 << 20);
        let mut unpacking = Unpacking::new(encoding, Body::from(bytes).into_data_stream(), &memory)?;
        let mut output = Vec::new();
        while let Some(piece) = unpacking.next().await {
            output.extend_from_slice(&piece?);
        }
        Ok(output)
    }

    #[tokio::test]
    async fn what_was_packed_comes_out_again() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let whole = packed(encoding, &text).await;
            assert_eq!(unpacked(encoding, whole.clone()).await.unwrap(), text);
            let twice = [whole.clone(), whole.clone()].concat();
            assert_eq!(unpacked(encoding, twice).await.unwrap().len(), 2 * text.len());
            let mut torn = whole.clone();
            torn.truncate(whole.len() / 2);
            for wrong in [torn, b"this is neither of them".to_vec()] {
                let problem = unpacked(encoding, wrong).await.unwrap_err();
                assert_eq!(problem.code(), Code::InvalidRequest);
            }
        }
    }

    #[tokio::test]
    async fn bombs_are_refused() {
        let zeros = vec![0; 4 << 20];
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let problem = unpacked(encoding, packed(encoding, &zeros).await)
                .await
                .unwrap_err();
            assert_eq!(problem.code(), Code::TooLarge);
            let small = packed(encoding, &zeros[..1 << 20]).await;
            assert_eq!(unpacked(encoding, small).await.unwrap().len(), 1 << 20);
        }
        // A frame that asks for 128 MiB to look back into.
        let mut greedy = Vec::new();
        let window = [CParameter::window_log(27)];
        ZstdEncoder::with_quality_and_params(b"small".as_slice(), async_compression::Level::Default, &window)
            .read_to_end(&mut greedy)
            .await
            .unwrap();
        let problem = unpacked(Encoding::Zstd, greedy).await.unwrap_err();
        assert_eq!(problem.code(), Code::InvalidRequest);
        let poor = BodyMemory::new(1 << 20);
        let body = Body::empty().into_data_stream();
        let problem = Unpacking::new(Encoding::Zstd, body, &poor).err().unwrap();
        assert_eq!(problem.code(), Code::Overloaded);
    }

    #[test]
    fn other_encodings_are_refused() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, axum::http::HeaderValue::from_static(value));
            }
            Encoding::of(&headers).map_err(|problem| problem.code())
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["Identity"]), Ok(None));
        assert_eq!(of(&["GZIP"]), Ok(Some(Encoding::Gzip)));
        assert_eq!(of(&["zstd"]), Ok(Some(Encoding::Zstd)));
        for values in [["br"].as_slice(), &["gzip, zstd"], &["gzip", "zstd"], &[""]] {
            assert_eq!(of(values), Err(Code::UnsupportedMediaType), "{values:?}");
        }
    }
}
