//! Problem documents (RFC 9457): what every answer is that is not the one asked for.
//!
//! `CODES` is the table of all codes; `docs/HTTP.md` shows it, and a test compares the two. A code keeps its meaning and its
//! status within `/v1`. Which error of the broker becomes which code is decided in `error.rs`.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// The body's type.
pub(crate) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// What clients are asked to wait when the broker has too much to do.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

macro_rules! codes {
    ($($variant:ident = $name:literal, $status:ident, $title:literal, $meaning:literal;)+) => {
        /// What went wrong, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $(#[doc = $meaning] $variant,)+
        }

        /// All codes, in the order of the document.
        #[cfg(test)]
        pub(crate) const CODES: &[Code] = &[$(Code::$variant),+];

        impl Code {
            /// As clients see it.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The status that goes with it.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// In a few words.
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// In a sentence.
            #[cfg(test)]
            pub(crate) const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

codes! {
    InvalidRequest = "invalid_request", BAD_REQUEST, "The request is not valid",
        "a parameter, header or body that is not what the route takes; `detail` names it";
    InvalidRecord = "invalid_record", BAD_REQUEST, "The record is not valid",
        "a record that is not one, or that the topic does not take; in streams, `line` says which";
    InvalidTimestamp = "invalid_timestamp", BAD_REQUEST, "The timestamp is too far from the broker's time",
        "`message.timestamp.before.max.ms` or `message.timestamp.after.max.ms` of the topic";
    BatchRefused = "batch_refused", BAD_REQUEST, "Another record was refused",
        "the record itself is not at fault, but another one of its batch, which is written whole or not at all, or of an earlier batch of its partition, which is not overtaken";
    InvalidTopic = "invalid_topic", BAD_REQUEST, "No topic may have this name",
        "characters, length, a name of the broker's own, or one that differs from another in dots and underscores alone";
    InvalidPartitions = "invalid_partitions", BAD_REQUEST, "The number of partitions is not possible",
        "fewer than there are, none, or too many";
    InvalidConfig = "invalid_config", BAD_REQUEST, "The setting is not valid",
        "a setting that does not exist, or a value that it does not take";
    PolicyViolation = "policy_violation", FORBIDDEN, "The broker's settings do not allow this",
        "such as deleting topics where `delete.topic.enable` is false";
    InternalTopic = "internal_topic", FORBIDDEN, "The topic is the broker's own",
        "it can be read, and not written to";
    ForeignSite = "foreign_site", FORBIDDEN, "Another site asks",
        "a web page of another site, or a name that is not one of the broker's; see `http-hosts`";
    NotFound = "not_found", NOT_FOUND, "There is nothing at this address",
        "no route has this path";
    UnknownTopic = "unknown_topic", NOT_FOUND, "There is no such topic",
        "nor does asking make it";
    UnknownPartition = "unknown_partition", NOT_FOUND, "The topic has no such partition",
        "partitions are counted from 0";
    UnknownGroup = "unknown_group", NOT_FOUND, "There is no such group",
        "nobody has joined it or committed offsets for it";
    UnknownClient = "unknown_client", NOT_FOUND, "There is no such client",
        "it never asked which metrics it is to push, or not for long";
    NoRecord = "no_record", NOT_FOUND, "There is no record",
        "`format=value` found none in the time it was given";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The route has no such method",
        "`Allow` names those it has";
    TimedOutReading = "request_timeout", REQUEST_TIMEOUT, "The request took too long to arrive",
        "nothing of the body came for `http-read-timeout-ms`, or no whole head within `http-idle-timeout-ms`";
    TopicExists = "topic_exists", CONFLICT, "The topic exists already",
        "nothing was changed";
    GroupNotEmpty = "group_not_empty", CONFLICT, "The group has members",
        "they decide about their offsets themselves; stop them first";
    LeaseLost = "lease_lost", CONFLICT, "The lease does not hold",
        "`committed` is where the group stands, `leased_until` when the lease ends that somebody else has, if any";
    NotCompacted = "not_compacted", CONFLICT, "The topic is not compacted",
        "its `cleanup.policy` has no `compact` in it";
    CompactionUnderWay = "compaction_under_way", CONFLICT, "It is being compacted already",
        "by the broker itself, or for somebody else; ask again when that has ended";
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The body or the record is too large",
        "`http-request-max-bytes`, the topic's `max.message.bytes`, or more than 100,000 records in one body";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body's type is not one that is taken",
        "`detail` names those that are";
    OffsetOutOfRange = "offset_out_of_range", RANGE_NOT_SATISFIABLE, "The offset is out of range",
        "`log_start_offset` and `high_watermark` say what there is";
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The Idempotency-Key was used for another body",
        "take a new key for each body";
    UpgradeRequired = "upgrade_required", UPGRADE_REQUIRED, "The route is a WebSocket",
        "`detail` says what is missing of a `GET` that asks for one";
    Internal = "internal", INTERNAL_SERVER_ERROR, "The broker made a mistake",
        "please report it";
    Storage = "storage", SERVICE_UNAVAILABLE, "The disk failed",
        "the partition is off-line, or refuses writes until its log is reopened; others go on";
    DiskFull = "disk_full", INSUFFICIENT_STORAGE, "The disk is full",
        "nothing was written; it goes on by itself when there is space";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "This cannot be served now",
        "state is still being read; ask again, after `Retry-After`";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Too much is being asked at once",
        "`http-queued-max-request-bytes` or `http-max-connections`, or half a minute's wait for a processor that writes a batch anew \
         (`compression.type`); ask again, after `Retry-After`";
    Stopping = "stopping", SERVICE_UNAVAILABLE, "The broker is stopping",
        "ask again, after `Retry-After`";
    TimedOut = "timed_out", GATEWAY_TIMEOUT, "The disk took too long",
        "the records are in the log, and whether they are on the disk is not known";
}

/// One problem: a code, a sentence, and what else a client may want to know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    more: Map<String, Value>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            more: Map::new(),
        }
    }

    /// A request that is not what the route takes.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, detail)
    }

    /// The problem with one more field.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// As the last answer of a connection to which nobody else writes any more.
    pub(crate) fn last_words(&self) -> String {
        let body = serde_json::to_string(self).expect("a problem is JSON");
        let (status, length) = (self.code.status(), body.len());
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    }

    fn asks_to_wait(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::Overloaded | Code::Stopping)
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Document<'a> {
            #[serde(rename = "type")]
            kind: String,
            title: &'a str,
            status: u16,
            code: &'a str,
            detail: &'a str,
            #[serde(flatten)]
            more: &'a Map<String, Value>,
        }
        let document = Document {
            kind: format!("urn:stratalog:problem:{}", self.code.name()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code.name(),
            detail: &self.detail,
            more: &self.more,
        };
        document.serialize(serializer)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).expect("a problem is JSON");
        let mut response = (self.code.status(), body).into_response();
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        if self.asks_to_wait() {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}

/// What a handler answers.
pub(crate) type Answer<T = Response> = Result<T, Problem>;

#[cfg(test)]
mod tests {
    use super::*;

    /// The documentation equals the code. `STRATALOG_UPDATE=1` writes it anew.
    #[test]
    fn the_page_shows_all_codes() {
        const BEGIN: &str = "<!-- begin: problems -->\n";
        const END: &str = "<!-- end: problems -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/HTTP.md");
        let page = std::fs::read_to_string(path).unwrap();
        let row = |code: &Code| {
            let status = code.status().as_u16();
            format!("| `{}` | {status} | {} |\n", code.name(), code.meaning())
        };
        let rows: String = CODES.iter().map(row).collect();
        let table = format!("\n| code | status | meaning |\n|---|---|---|\n{rows}\n");
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let expected = format!("{before}{BEGIN}{table}{END}{after}");
        if std::env::var_os("STRATALOG_UPDATE").is_some() {
            std::fs::write(path, expected).unwrap();
            return;
        }
        assert!(
            page == expected,
            "docs/HTTP.md differs from the codes; run this test with STRATALOG_UPDATE=1"
        );
    }

    #[test]
    fn a_problem_has_its_fields_and_more() {
        let problem = Problem::new(Code::OffsetOutOfRange, "99").with("log_start_offset", 3);
        let document = serde_json::to_value(&problem).unwrap();
        assert_eq!(document["status"], 416);
        assert_eq!(document["type"], "urn:stratalog:problem:offset_out_of_range");
        assert_eq!(document["log_start_offset"], 3);
    }
}
