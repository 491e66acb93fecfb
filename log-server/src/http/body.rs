//! Bodies of requests: how large, and how slow.
//!
//! A body pays for its memory as it comes, so that a client which announces much and sends little costs little.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::http::encoding::{Encoding, Unpacking};
use crate::http::memory::Held;
use crate::http::object::Object;
use crate::http::problem::{Code, Problem};
use crate::http::services::Services;

/// What a whole body costs besides itself: the batches that are made of it.
const EXPANSION: usize = 2;
/// A document that says what is to be done and has no records. One that names all partitions of a broker has a tenth of it.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// The pieces of a body, as they come, and as they were before they were compressed.
pub(crate) struct BodyReader {
    source: Source,
    silence_max: Duration,
}

enum Source {
    Plain(BodyDataStream),
    Packed(Unpacking),
}

impl BodyReader {
    pub(crate) fn new(services: &Services, headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        let stream = body.into_data_stream();
        let source = match Encoding::of(headers)? {
            None => Source::Plain(stream),
            Some(encoding) => Source::Packed(Unpacking::new(encoding, stream, &services.memory)?),
        };
        Ok(Self {
            source,
            silence_max: services.config.http_read_timeout,
        })
    }

    /// The next piece, or `None` at the end. A call that is given up loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let mut piece = pin!(self.source.next());
        let waited = match without_waiting(piece.as_mut()).await {
            Some(piece) => Ok(piece),
            None => timeout(self.silence_max, piece).await,
        };
        if let Ok(piece) = waited {
            return piece.transpose();
        }
        let text = format!("nothing came for {} ms", self.silence_max.as_millis());
        Err(Problem::new(Code::TimedOutReading, text))
    }
}

impl Source {
    async fn next(&mut self) -> Option<Result<Bytes, Problem>> {
        match self {
            // Where all that was announced is here, nobody waits to hear that nothing follows.
            Self::Plain(stream) if stream.is_end_stream() => None,
            Self::Plain(stream) => {
                let piece = stream.next().await?;
                Some(piece.map_err(|error| Problem::invalid(format!("the body ended early: {error}"))))
            }
            Self::Packed(unpacking) => unpacking.next().await,
        }
    }
}

/// What a future gives without that anybody is waited for. A connection hands over what it has of a body when it was asked for it, and its task
/// had another turn; most bodies are there then, and need no clock.
async fn without_waiting<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut had_a_turn = false;
    let within_a_turn = poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if had_a_turn => Poll::Ready(None),
        Poll::Pending => {
            had_a_turn = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    });
    within_a_turn.await
}

/// A whole body, with what it has paid.
#[derive(Debug)]
pub(crate) struct WholeBody {
    pub(crate) bytes: Bytes,
    pub(crate) held: Held,
}

/// Reads a body of records to its end, unless it is larger than any may be.
pub(crate) async fn read_whole(
    services: &Services,
    headers: &HeaderMap,
    body: Body,
) -> Result<WholeBody, Problem> {
    let limit = Limit {
        bytes: services.config.http_request_max_bytes,
        advice: "http-request-max-bytes; NDJSON may have any number of lines",
    };
    read_up_to(limit, services, headers, body).await
}

/// How large a body may be, and what to say to one that is larger.
#[derive(Debug, Clone, Copy)]
struct Limit {
    bytes: usize,
    advice: &'static str,
}

async fn read_up_to(
    limit: Limit,
    services: &Services,
    headers: &HeaderMap,
    body: Body,
) -> Result<WholeBody, Problem> {
    let Limit { bytes: limit, advice } = limit;
    let too_large = || {
        let text = format!("a body has at most {limit} bytes here ({advice})");
        Problem::new(Code::TooLarge, text)
    };
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| limit < length)) {
        return Err(too_large());
    }
    let mut held = Held::default();
    let mut bytes = Joined::default();
    let mut reader = BodyReader::new(services, headers, body)?;
    while let Some(piece) = reader.next().await? {
        if limit - bytes.len() < piece.len() {
            return Err(too_large());
        }
        services
            .memory
            .grow(&mut held, EXPANSION * (bytes.len() + piece.len()))?;
        bytes.push(piece);
    }
    Ok(WholeBody {
        bytes: bytes.whole(),
        held,
    })
}

/// Pieces that become one. A body that came in one piece, as small ones do, is not copied.
#[derive(Debug, Default)]
struct Joined {
    first: Bytes,
    all: BytesMut,
}

impl Joined {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        self.all.extend_from_slice(&std::mem::take(&mut self.first));
        self.all.extend_from_slice(&piece);
    }

    fn whole(self) -> Bytes {
        if self.all.is_empty() {
            self.first
        } else {
            self.all.freeze()
        }
    }
}

/// What a body says it is: the media type without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> Cow<'_, str> {
    let value = headers.get(axum::http::header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(essence.to_ascii_lowercase());
    }
    Cow::Borrowed(essence)
}

/// A body that is a JSON object of a known shape.
pub(crate) async fn read_json<T: serde::de::DeserializeOwned>(
    services: &Services,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    let kind = media_type(headers);
    if kind != "application/json" {
        let text = "this route takes application/json: say so in Content-Type";
        return Err(Problem::new(Code::UnsupportedMediaType, text));
    }
    let limit = Limit {
        bytes: DOCUMENT_BYTES_MAX.min(services.config.http_request_max_bytes),
        advice: "it has no records",
    };
    let body = read_up_to(limit, services, headers, body).await?;
    let document = serde_json::from_slice(&body.bytes);
    document
        .map(|Object(document)| document)
        .map_err(|error| Problem::invalid(format!("body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_without_their_parameters() {
        let mut headers = HeaderMap::new();
        assert_eq!(media_type(&headers), "");
        headers.insert("content-type", "Application/JSON; charset=utf-8".parse().unwrap());
        assert_eq!(media_type(&headers), "application/json");
        headers.insert("content-type", "text/plain ;charset=utf-8".parse().unwrap());
        assert_eq!(media_type(&headers), "text/plain");
    }

    #[test]
    fn pieces_become_one() {
        for pieces in [
            &[] as &[&'static [u8]],
            &[b"ab"],
            &[b"", b"ab"],
            &[b"a", b"", b"b", b"c"],
        ] {
            let mut joined = Joined::default();
            for piece in pieces {
                joined.push(Bytes::from_static(piece));
            }
            assert_eq!(joined.len(), pieces.concat().len());
            assert_eq!(joined.whole(), pieces.concat());
        }
    }

    /// A body that comes at the second look, or later.
    #[tokio::test]
    async fn what_is_there_after_a_turn_is_not_waited_for() {
        for (late, expected) in [(0, Some(7)), (1, Some(7)), (2, None)] {
            let mut looks = 0;
            let mut body = pin!(poll_fn(|_| {
                looks += 1;
                if late < looks {
                    Poll::Ready(7)
                } else {
                    Poll::Pending
                }
            }));
            assert_eq!(without_waiting(body.as_mut()).await, expected, "{late}");
        }
    }
}
