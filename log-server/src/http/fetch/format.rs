//! The forms of an answer with records: JSON, NDJSON, one record's value, Kafka's batches.
//! What JSON says in fields beside the records, the others say in headers.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::{HeaderName, HeaderValue};
use axum::response::IntoResponse;
use log_core::model::TopicPartition;
use serde::Deserialize;
use serde_json::{Value, json};

use super::page::{Page, PageBody};
use crate::http::memory::BodyMemory;
use crate::http::problem::{Answer, Code, Problem};

/// The media type of record batches.
const BATCHES: &str = "application/vnd.stratalog.batches";

/// How records are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// A document with a list.
    Json,
    /// A record a line.
    Ndjson,
    /// The value of the first record.
    Value,
    /// Batches as they stand on disk.
    Batches,
}

impl Format {
    /// The first form that a client accepts; JSON if it does not say.
    pub(super) fn accepted(accept: &str) -> Self {
        let mut types = accept.split(',').filter_map(|part| part.split(';').next());
        let form = |kind: &str| match kind.trim().to_ascii_lowercase().as_str() {
            "application/json" | "*/*" | "application/*" => Some(Self::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Self::Ndjson),
            "application/octet-stream" => Some(Self::Value),
            BATCHES => Some(Self::Batches),
            _ => None,
        };
        types.find_map(form).unwrap_or(Self::Json)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Value => "value",
            Self::Batches => "batches",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Value => "application/octet-stream",
            Self::Batches => BATCHES,
        }
    }

    /// What stands before the records.
    pub(super) fn opening(self, partition: &TopicPartition) -> Vec<u8> {
        if self != Self::Json {
            return Vec::new();
        }
        let TopicPartition { topic, partition } = partition;
        let mut opening = json!({"topic": &**topic, "partition": partition})
            .to_string()
            .into_bytes();
        opening.pop();
        opening.extend_from_slice(b",\"records\":[");
        opening
    }

    /// The answer with a page of records.
    pub(super) fn answer(self, page: Page, next: &str, memory: &BodyMemory) -> Answer {
        let offsets = page.offsets;
        if self == Self::Value && page.first.is_none() {
            let text = format!("there is no record at or behind offset {}", page.next_offset);
            return Err(Problem::new(Code::NoRecord, text)
                .with("log_start_offset", offsets.log_start.get())
                .with("high_watermark", offsets.high_watermark.get()));
        }
        let body = match page.body {
            PageBody::Stored(batches) => batches,
            PageBody::Made(mut body) => {
                if self == Self::Json {
                    let fields = json!({
                        "next_offset": page.next_offset.get(),
                        "next": next,
                        "log_start_offset": offsets.log_start.get(),
                        "last_stable_offset": offsets.last_stable.get(),
                        "high_watermark": offsets.high_watermark.get(),
                    });
                    close(&mut body, &fields);
                }
                memory.pay_for(body)?
            }
        };
        let mut response = ([(CONTENT_TYPE, self.media_type())], Body::from(body)).into_response();
        if self != Self::Json {
            let mut add = |name: &'static str, value: i64| {
                let name = HeaderName::from_static(name);
                response.headers_mut().insert(name, HeaderValue::from(value));
            };
            add("x-next-offset", page.next_offset.get());
            add("x-log-start-offset", offsets.log_start.get());
            add("x-last-stable-offset", offsets.last_stable.get());
            add("x-high-watermark", offsets.high_watermark.get());
            if let Some((offset, timestamp)) = page.first.filter(|_| self == Self::Value) {
                add("x-offset", offset.get());
                add("x-timestamp", timestamp.get());
            }
        }
        if let Ok(link) = HeaderValue::try_from(format!("<{next}>; rel=\"next\"")) {
            response.headers_mut().insert(LINK, link);
        }
        Ok(response)
    }
}

/// Ends a page in JSON with the fields that stand behind its records.
pub(crate) fn close(body: &mut Vec<u8>, fields: &Value) {
    let tail = fields.to_string();
    body.extend_from_slice(b"],");
    body.extend_from_slice(tail.strip_prefix('{').unwrap_or(&tail).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_is_known_counts() {
        for (accept, expected) in [
            ("*/*", Format::Json),
            ("text/html, application/x-ndjson;q=0.9", Format::Ndjson),
            ("application/octet-stream", Format::Value),
            ("application/vnd.stratalog.batches", Format::Batches),
            ("text/html", Format::Json),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept}");
        }
    }
}
