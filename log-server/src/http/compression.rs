//! Answers that are sent compressed, to clients that accept gzip or zstd.
//!
//! Only text whose length is known, and which is long enough to gain by it: streams would have to be flushed record by record, and would
//! keep an encoder for as long as they last. An encoder pays for its memory as bodies do; where there is none, the answer is sent as it is.
//! A client that says nothing of encodings, as most programs, never meets any of this.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, Request};
use axum::response::Response;
use futures_util::future::Either;
use futures_util::{StreamExt, TryFutureExt};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tower_http::CompressionLevel;
use tower_http::compression::Compression;
use tower_http::compression::predicate::Predicate;

use crate::http::memory::{BodyMemory, Held};

/// Below it the head is as long as what is saved.
const BYTES_LEAST: u64 = 1024;
/// What an encoder takes at the fastest level, of zstd, which takes more.
const ENCODER_BYTES: usize = 1 << 20;

/// On an answer that has paid for an encoder.
#[derive(Debug, Clone, Copy)]
struct HasPaid;

/// What [`pay`] has marked is compressed.
#[derive(Debug, Clone, Copy)]
struct IfPaid;

impl Predicate for IfPaid {
    fn should_compress<B: HttpBody>(&self, response: &Response<B>) -> bool {
        response.extensions().get::<HasPaid>().is_some()
    }
}

/// The routes, as they are, and with an encoder behind them. The encoder wraps each answer that passes it, whether or not there is anything to do.
#[derive(Clone)]
pub(super) struct Compressing {
    plain: TowerToHyperService<Router>,
    packed: TowerToHyperService<Compression<Router, IfPaid>>,
}

impl Compressing {
    pub(super) fn new(routes: Router) -> Self {
        let packed = Compression::new(routes.clone())
            .quality(CompressionLevel::Fastest)
            .compress_when(IfPaid);
        Self {
            plain: TowerToHyperService::new(routes),
            packed: TowerToHyperService::new(packed),
        }
    }

    /// Answers a request, in the way that the client accepts.
    pub(super) fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        if request.headers().contains_key(ACCEPT_ENCODING) {
            let answer = self.packed.call(request);
            Either::Left(answer.map_ok(|response| response.map(Body::new)))
        } else {
            Either::Right(self.plain.call(request))
        }
    }
}

/// Pays for the encoder of an answer that is to be compressed, of a client that accepts it. Nothing is paid while the answer is waited for.
pub(super) fn pay(memory: &BodyMemory, response: Response) -> Response {
    let mut held = Held::default();
    if !is_worth_it(&response) || memory.grow(&mut held, ENCODER_BYTES).is_err() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.extensions.insert(HasPaid);
    // The encoder keeps the body until its own last byte is out.
    let body = body.into_data_stream().map(move |piece| {
        let _paid = &held;
        piece
    });
    Response::from_parts(parts, Body::from_stream(body))
}

/// Whether a client takes an encoding that the encoder has. Which of several it likes best is the encoder's to find out.
pub(super) fn accepts_ours(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let mut parts = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    parts.any(|part| {
        let (name, weight) = part.split_once(';').unwrap_or((part, ""));
        let is_ours = |ours: &&str| name.trim().eq_ignore_ascii_case(ours);
        let weight = weight.trim().trim_start_matches(['q', 'Q', '=']);
        ["gzip", "x-gzip", "zstd", "*"].iter().any(is_ours) && weight.parse() != Ok(0.0_f32)
    })
}

fn is_worth_it(response: &Response) -> bool {
    let length = response.body().size_hint().exact();
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    BYTES_LEAST <= length.unwrap_or(0) && kind.is_some_and(is_text)
}

fn is_text(kind: &str) -> bool {
    kind.starts_with("text/") || kind.contains("json") || kind.contains("svg")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn an_encoder_is_paid_for_where_one_may_be_used() {
        for (value, expected) in [
            ("gzip", true),
            ("br, ZSTD;q=0.5", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("*", true),
            ("", false),
            ("identity", false),
            ("br, deflate", false),
            ("gzip;q=0, zstd; q=0.000", false),
            ("gzip;q=0, zstd", true),
        ] {
            let mut headers = HeaderMap::new();
            assert!(!accepts_ours(&headers));
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(accepts_ours(&headers), expected, "{value}");
        }
    }
}
