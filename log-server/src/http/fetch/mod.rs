//! `GET /v1/topics/{topic}/partitions/{partition}/records`: records from an offset or a time on, without a session.
//!
//! | module | owns |
//! |---|---|
//! | `format` | the forms an answer has |
//! | `page` | reading one answer's worth |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::Response;
use serde::Deserialize;
use tokio::time::Instant;

use crate::http::cursor::start_offset;
use crate::http::parameters::{Parameters, Place, Start, Time};
use crate::http::problem::{Answer, Code, Problem};
use crate::http::record_output::{Encoding, Encodings};
use crate::http::services::Services;
use crate::partition::partition::Isolation;

pub(super) mod format;
pub(super) mod page;

use format::Format;
use page::{Limits, Reading};

const WAIT_MS_MAX: u64 = 60_000;

/// The parameters of the route.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FetchParameters {
    offset: Option<Start>,
    time: Option<Time>,
    limit: Option<usize>,
    bytes: Option<usize>,
    wait_ms: Option<u64>,
    format: Option<Format>,
    encoding: Option<Encoding>,
    key_encoding: Option<Encoding>,
    isolation: Option<IsolationParameter>,
}

/// Which records are seen.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IsolationParameter {
    /// Those whose transaction is decided.
    #[default]
    Committed,
    /// All.
    Uncommitted,
}

impl IsolationParameter {
    pub(crate) fn isolation(self) -> Isolation {
        match self {
            Self::Committed => Isolation::Committed,
            Self::Uncommitted => Isolation::Uncommitted,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Uncommitted => "uncommitted",
        }
    }
}

impl FetchParameters {
    /// Where to go on: the same question, from another offset.
    fn next(&self, topic: &str, partition: i32, offset: i64) -> String {
        let name = |encoding: Option<Encoding>| encoding.map(Encoding::name);
        let number = |number: Option<usize>| number.map(|number| number.to_string());
        let (limit, bytes) = (number(self.limit), number(self.bytes));
        let wait_ms = self.wait_ms.map(|wait| wait.to_string());
        crate::http::page::address(
            &format!("/v1/topics/{topic}/partitions/{partition}/records"),
            &[
                ("offset", Some(&offset.to_string())),
                ("limit", limit.as_deref()),
                ("bytes", bytes.as_deref()),
                ("wait_ms", wait_ms.as_deref()),
                ("format", self.format.map(Format::name)),
                ("encoding", name(self.encoding)),
                ("key_encoding", name(self.key_encoding)),
                ("isolation", self.isolation.map(IsolationParameter::name)),
            ],
        )
    }
}

/// Until when a request waits for a record; `None` if it does not.
pub(crate) fn end_of_wait(wait_ms: Option<u64>) -> Result<Option<Instant>, Problem> {
    match wait_ms.unwrap_or(0) {
        0 => Ok(None),
        ms @ 1..=WAIT_MS_MAX => Ok(Some(Instant::now() + Duration::from_millis(ms))),
        _ => Err(Problem::invalid(format!("wait_ms is at most {WAIT_MS_MAX}"))),
    }
}

/// Reads records.
pub(crate) async fn fetch(
    State(services): State<Arc<Services>>,
    Place((topic, index)): Place<(String, i32)>,
    Parameters(parameters): Parameters<FetchParameters>,
    headers: HeaderMap,
) -> Answer<Response> {
    let limits = Limits::new(parameters.limit, parameters.bytes)?;
    let until = end_of_wait(parameters.wait_ms)?;
    let format = match parameters.format {
        Some(format) => format,
        None => Format::accepted(accepted(&headers)?),
    };
    let topic = services.topic(&topic)?;
    let partition = services.partition(&topic, index)?;
    let isolation = parameters.isolation.unwrap_or_default().isolation();
    let offset = start_offset(&partition, parameters.offset, parameters.time, isolation).await?;
    let encodings = Encodings {
        key: parameters.key_encoding.unwrap_or_default(),
        value: parameters.encoding.unwrap_or_default(),
    };
    let reading = Reading {
        services: &services,
        partition: &partition,
        isolation,
        format,
        limits,
        encodings,
    };
    let page = reading.read(offset, until).await?;
    let next = parameters.next(&topic.name, index, page.next_offset.get());
    format.answer(page, &next, &services.memory)
}

/// What the client accepts; of a header that says nothing it is everything.
pub(crate) fn accepted(headers: &HeaderMap) -> Result<&str, Problem> {
    let Some(value) = headers.get(ACCEPT) else {
        return Ok("*/*");
    };
    value
        .to_str()
        .map_err(|_| Problem::new(Code::InvalidRequest, "Accept is not text"))
}
