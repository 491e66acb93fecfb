//! `POST /v1/topics/{topic}/records`: records into a topic.
//!
//! | module | owns |
//! |---|---|
//! | `append` | batches to their partitions, and the wait for the disk |
//! | `batches` | from records to batches |
//! | `idempotency` | a body that may come twice |
//! | `list` | one or many records in a JSON body, and a raw body as one |
//! | `messages` | records that come one by one, as the messages of a socket |
//! | `record_input` | a record as JSON |
//! | `stream` | NDJSON of any length |

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use serde::Deserialize;
use tokio::time::Instant;

use crate::http::body::{media_type, read_whole};
use crate::http::parameters::{Parameters, Place, Time};
use crate::http::problem::{Answer, Code, Problem};
use crate::http::services::Services;
use crate::metadata::image::TopicImage;
use crate::metadata::topic_name;
use crate::partition::partition::Acks;

mod append;
mod batches;
mod idempotency;
mod list;
mod messages;
mod record_input;
mod stream;

use idempotency::IdempotencyKey;
pub(super) use messages::Messages;
pub(super) use record_input::from_base64;

const TIMEOUT_MS: u64 = 30_000;
const TIMEOUT_MS_MAX: u64 = 300_000;

/// The parameters of the route.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProduceParameters {
    #[serde(default)]
    acks: AcksParameter,
    timeout_ms: Option<u64>,
    #[serde(default)]
    raw: bool,
    #[serde(default)]
    on_error: OnError,
    key: Option<String>,
    key_base64: Option<String>,
    partition: Option<i32>,
    timestamp: Option<Time>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AcksParameter {
    #[default]
    All,
    Leader,
    None,
}

/// What a stream does about a line that is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnError {
    /// Nothing behind it is written.
    #[default]
    Stop,
    /// It is told, and left out.
    Skip,
}

/// What a request wants to wait for.
#[derive(Debug, Clone, Copy)]
struct Terms {
    acks: Acks,
    timeout: Duration,
}

impl Terms {
    fn new(acks: AcksParameter, timeout_ms: Option<u64>) -> Result<Self, Problem> {
        let timeout_ms = timeout_ms.unwrap_or(TIMEOUT_MS);
        if TIMEOUT_MS_MAX < timeout_ms {
            return Err(Problem::invalid(format!(
                "timeout_ms is at most {TIMEOUT_MS_MAX}"
            )));
        }
        Ok(Self {
            acks: match acks {
                AcksParameter::All => Acks::All,
                AcksParameter::Leader => Acks::Leader,
                AcksParameter::None => Acks::None,
            },
            timeout: Duration::from_millis(timeout_ms),
        })
    }

    fn until(self) -> Instant {
        Instant::now() + self.timeout
    }
}

impl ProduceParameters {
    fn is_about_a_raw_record(&self) -> bool {
        self.key.is_some()
            || self.key_base64.is_some()
            || self.partition.is_some()
            || self.timestamp.is_some()
    }
}

/// Writes what the body has.
pub(crate) async fn produce(
    State(services): State<Arc<Services>>,
    Place(topic): Place<String>,
    Parameters(parameters): Parameters<ProduceParameters>,
    request: Request,
) -> Answer {
    let (Parts { headers, .. }, body) = request.into_parts();
    let terms = Terms::new(parameters.acks, parameters.timeout_ms)?;
    let topic = services.topic(&topic)?;
    check_writable(&topic)?;
    let key = IdempotencyKey::from_headers(&headers)?;
    let kind = if parameters.raw {
        Cow::Borrowed("application/octet-stream")
    } else {
        media_type(&headers)
    };
    let is_raw = matches!(&*kind, "application/octet-stream" | "text/plain");
    if !is_raw && parameters.is_about_a_raw_record() {
        let text =
            "key, partition and timestamp stand in the records themselves, unless the body is one raw record";
        return Err(Problem::invalid(text));
    }
    let target = list::Target {
        services: Arc::clone(&services),
        topic,
        terms,
        key,
    };
    match &*kind {
        "application/json" => {
            let body = read_whole(&services, &headers, body).await?;
            target.write_json(body).await
        }
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
            // It takes kilobytes, which the future of every other body would have room for, too.
            Box::pin(stream::write(target, parameters.on_error, &headers, body)).await
        }
        _ if is_raw => {
            let body = read_whole(&services, &headers, body).await?;
            target.write_raw(&parameters, body).await
        }
        other => Err(Problem::new(Code::UnsupportedMediaType, unsupported(other))),
    }
}

/// Refuses the broker's own topics.
fn check_writable(topic: &TopicImage) -> Result<(), Problem> {
    if topic_name::is_internal(&topic.name) {
        let text = format!("{} is the broker's own topic", topic.name);
        return Err(Problem::new(Code::InternalTopic, text));
    }
    Ok(())
}

fn unsupported(kind: &str) -> String {
    let found = if kind.is_empty() {
        "the request has no Content-Type".to_owned()
    } else {
        format!(
            "Content-Type {} is not one of them",
            crate::http::parameters::shortened(kind)
        )
    };
    format!(
        "records come as application/json, as application/x-ndjson, or one of them as application/octet-stream or text/plain, \
         with raw=true as any type; {found}"
    )
}

/// The answer to a request that wants none.
fn nothing_to_wait_for() -> axum::response::Response {
    StatusCode::ACCEPTED.into_response()
}
