//! Bodies of requests: how large, how slow, and how much memory all of them together.
//!
//! A body pays for its memory as it comes, so that a client which announces much and sends little costs little. Who cannot pay is
//! told to come again instead of waiting: half-read bodies that wait for each other would wait for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::http::problem::{Code, Problem};
use crate::http::services::Services;

/// What a whole body costs besides itself: the batches that are made of it.
const EXPANSION: usize = 2;

/// What bodies may take together.
#[derive(Debug, Clone)]
pub(crate) struct BodyMemory {
    free: Arc<Semaphore>,
}

/// What one request has paid; given back on drop.
#[derive(Debug, Default)]
pub(crate) struct Held {
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl BodyMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Raises what a request holds to `bytes`, if there is so much.
    pub(crate) fn grow(&self, held: &mut Held, bytes: usize) -> Result<(), Problem> {
        let Some(more) = bytes.checked_sub(held.bytes).filter(|more| *more != 0) else {
            return Ok(());
        };
        let taken = u32::try_from(more)
            .ok()
            .and_then(|more| Arc::clone(&self.free).try_acquire_many_owned(more).ok());
        let Some(taken) = taken else {
            let text = "bodies of other requests fill the memory for them; try again";
            return Err(Problem::new(Code::Overloaded, text));
        };
        match &mut held.permit {
            Some(permit) => permit.merge(taken),
            None => held.permit = Some(taken),
        }
        held.bytes = bytes;
        Ok(())
    }

    /// How much is free now.
    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.free.available_permits()
    }
}

/// The pieces of a body, as they come.
#[derive(Debug)]
pub(crate) struct BodyReader {
    stream: BodyDataStream,
    silence_max: Duration,
}

impl BodyReader {
    pub(crate) fn new(services: &Services, body: Body) -> Self {
        Self {
            stream: body.into_data_stream(),
            silence_max: services.config.http_read_timeout,
        }
    }

    /// The next piece, or `None` at the end. A call that is given up loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        match timeout(self.silence_max, self.stream.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(piece))) => Ok(Some(piece)),
            Ok(Some(Err(error))) => Err(Problem::invalid(format!("the body ended early: {error}"))),
            Err(_) => {
                let text = format!("nothing came for {} ms", self.silence_max.as_millis());
                Err(Problem::new(Code::TimedOutReading, text))
            }
        }
    }
}

/// A whole body, with what it has paid.
#[derive(Debug)]
pub(crate) struct WholeBody {
    pub(crate) bytes: Vec<u8>,
    _held: Held,
}

/// Reads a body to its end, unless it is larger than any may be.
pub(crate) async fn read_whole(
    services: &Services,
    headers: &HeaderMap,
    body: Body,
) -> Result<WholeBody, Problem> {
    let limit = services.config.http_request_max_bytes;
    let too_large = || {
        let text = format!(
            "a body has at most {limit} bytes (http-request-max-bytes); NDJSON may have any number of lines"
        );
        Problem::new(Code::TooLarge, text)
    };
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| limit < length)) {
        return Err(too_large());
    }
    let mut held = Held::default();
    let mut bytes = Vec::new();
    let mut reader = BodyReader::new(services, body);
    while let Some(piece) = reader.next().await? {
        if limit - bytes.len() < piece.len() {
            return Err(too_large());
        }
        services
            .memory
            .grow(&mut held, EXPANSION * (bytes.len() + piece.len()))?;
        bytes.extend_from_slice(&piece);
    }
    Ok(WholeBody { bytes, _held: held })
}

/// What a body says it is: the media type without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(axum::http::header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// A body that is a JSON document of a known shape.
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
    let body = read_whole(services, headers, body).await?;
    serde_json::from_slice(&body.bytes).map_err(|error| Problem::invalid(format!("body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_paid_for_and_given_back() {
        let memory = BodyMemory::new(100);
        let (mut first, mut second) = (Held::default(), Held::default());
        memory.grow(&mut first, 60).unwrap();
        memory.grow(&mut first, 50).unwrap();
        assert_eq!(memory.free_bytes(), 40);
        assert_eq!(memory.grow(&mut second, 41).unwrap_err().code(), Code::Overloaded);
        memory.grow(&mut first, 100).unwrap();
        drop(first);
        memory.grow(&mut second, 41).unwrap();
        assert_eq!(memory.free_bytes(), 59);
    }

    #[test]
    fn types_are_told_without_their_parameters() {
        let mut headers = HeaderMap::new();
        assert_eq!(media_type(&headers), "");
        headers.insert("content-type", "Application/JSON; charset=utf-8".parse().unwrap());
        assert_eq!(media_type(&headers), "application/json");
    }
}
