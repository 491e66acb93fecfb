//! Records that come one by one, as the messages of a socket, each with an id of the client's choice.
//!
//! Each message is a request of its own: it is appended when it comes, whatever became of those before it. Answers leave in the order of the
//! messages, each when its record may be acknowledged.
//!
//! | message | answer |
//! |---|---|
//! | `{"id": …, "record": {…}}` | `{"id": …, "partition": …, "offset": …, "timestamp": …}` |
//! | the same, and its record is refused | `{"id": …, "error": {…}}`, with a problem |
//! | anything else | the same; the id is null if none was found |

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::http::memory::Held;
use crate::http::object::Object;
use crate::http::problem::{Code, Problem};
use crate::http::produce::append::{Placed, acknowledged, append_each};
use crate::http::produce::batches::{Batches, Seat};
use crate::http::produce::list::{QUICK_BYTES_MAX, Row, add, lost, written};
use crate::http::produce::record_input::RecordInput;
use crate::http::produce::{AcksParameter, Terms, check_writable};
use crate::http::services::Services;
use crate::metadata::image::TopicImage;
use crate::partition::writer::off_runtime;

/// Messages that have no answer yet. A client that sends more of them is read no further, and feels it as TCP's pressure.
const WAITING_MAX: usize = 256;
/// An id is kept until the answer, so it has a limit: a UUID with a name before it.
const ID_BYTES_MAX: usize = 128;
/// A message may have so much before its batch pays for its memory.
const FREE_BYTES: usize = 64 << 10;

/// A message with a record.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    #[serde(default, rename = "id")]
    _id: IgnoredAny,
    #[serde(borrow)]
    record: Object<RecordInput<'a>>,
    #[serde(default)]
    acks: AcksParameter,
    timeout_ms: Option<u64>,
}

/// A number or a text, as it was sent.
type Id = Option<Box<RawValue>>;

/// The messages of one client, and those of them that wait for the disk.
pub(in crate::http) struct Messages {
    services: Arc<Services>,
    topic: Arc<TopicImage>,
    waiting: VecDeque<Waiting>,
}

/// A message without an answer.
struct Waiting {
    id: Id,
    result: Result<Appended, Problem>,
}

/// A record on its way into the log.
struct Draft {
    batches: Batches,
    seat: Seat,
    terms: Terms,
    _held: Held,
}

/// A record in the log.
struct Appended {
    seat: Seat,
    placed: Placed,
    until: Instant,
}

impl Messages {
    /// Messages for a topic; none came yet.
    pub(in crate::http) fn new(services: &Arc<Services>, topic: &Arc<TopicImage>) -> Self {
        Self {
            services: Arc::clone(services),
            topic: Arc::clone(topic),
            waiting: VecDeque::new(),
        }
    }

    /// Whether all messages are answered.
    pub(in crate::http) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether no more is to be read until some are answered.
    pub(in crate::http) fn is_full(&self) -> bool {
        WAITING_MAX <= self.waiting.len()
    }

    /// Takes a message, and appends its record.
    pub(in crate::http) async fn take(&mut self, text: &str) {
        let read = || match id_of(text) {
            Ok(id) => (id, self.read(text)),
            Err(problem) => (None, Err(problem)),
        };
        let (id, draft) = if text.len() <= QUICK_BYTES_MAX {
            read()
        } else {
            off_runtime(read)
        };
        let result = match draft {
            Ok(draft) => draft.append().await,
            Err(problem) => Err(problem),
        };
        self.waiting.push_back(Waiting { id, result });
    }

    /// The answer to the oldest message that has none, with a line break behind it. A call that is given up loses nothing.
    pub(in crate::http) async fn answer(&mut self) -> Bytes {
        let Some(oldest) = self.waiting.front_mut() else {
            return pending().await;
        };
        let row = oldest.row().await;
        let id = self.waiting.pop_front().and_then(|oldest| oldest.id);
        Bytes::from(line(id.as_deref(), &row))
    }

    fn read(&self, text: &str) -> Result<Draft, Problem> {
        let message: Result<Object<Message<'_>>, _> = serde_json::from_str(text);
        let Object(message) =
            message.map_err(|error| Problem::new(Code::InvalidRecord, error.to_string()))?;
        let terms = Terms::new(message.acks, message.timeout_ms)?;
        let topic = self.topic_now()?;
        let mut held = Held::default();
        if FREE_BYTES < text.len() {
            self.services.memory.grow(&mut held, text.len())?;
        }
        let mut batches = Batches::new(&self.services, &topic);
        let Object(record) = &message.record;
        let seat = add(&mut batches, record)?;
        Ok(Draft {
            batches,
            seat,
            terms,
            _held: held,
        })
    }

    /// The topic as it is now: with more partitions perhaps, or gone.
    fn topic_now(&self) -> Result<Arc<TopicImage>, Problem> {
        check_writable(&self.topic)?;
        let topic = self.services.topic(&self.topic.name)?;
        if topic.id != self.topic.id {
            let text = format!("{} was deleted, and made anew: connect again", topic.name);
            return Err(Problem::new(Code::UnknownTopic, text));
        }
        Ok(topic)
    }
}

impl Draft {
    async fn append(self) -> Result<Appended, Problem> {
        let appending = append_each(self.batches.finish(), self.terms.acks).await;
        let result = appending.into_iter().next().flatten().ok_or_else(lost)?.result;
        let placed = result.map_err(|problems| problems.into_iter().next().unwrap_or_else(lost))?;
        Ok(Appended {
            seat: self.seat,
            placed,
            until: self.terms.until(),
        })
    }
}

impl Waiting {
    /// What became of the record, when that is known.
    async fn row(&mut self) -> Row {
        let outcome = match &mut self.result {
            Ok(Appended { seat, placed, until }) => {
                let timestamp = placed.log_append_time.unwrap_or(seat.timestamp);
                let acknowledged = acknowledged(&mut placed.ack, *until).await;
                acknowledged.map(|()| written(seat, placed.base_offset, timestamp))
            }
            Err(problem) => Err(problem.clone()),
        };
        outcome.unwrap_or_else(|problem| Row::Refused {
            error: Box::new(problem),
        })
    }
}

/// The id that a message has. What is not JSON has none; why it is refused is found when it is read as a whole.
fn id_of(text: &str) -> Result<Id, Problem> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let named: Result<Object<Named<'_>>, _> = serde_json::from_str(text);
    let Some(id) = named.ok().and_then(|Object(named)| named.id) else {
        return Ok(None);
    };
    let is_plain = id
        .get()
        .starts_with(|first: char| matches!(first, '"' | '-') || first.is_ascii_digit());
    if !is_plain || ID_BYTES_MAX < id.get().len() {
        let text = format!("id is a number or a text, of at most {ID_BYTES_MAX} bytes");
        return Err(Problem::invalid(text));
    }
    Ok(Some(id.to_owned()))
}

fn line(id: Option<&RawValue>, row: &Row) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        id: Option<&'a RawValue>,
        #[serde(flatten)]
        row: &'a Row,
    }
    let mut line = serde_json::to_vec(&Line { id, row }).expect("an answer is JSON");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn id(text: &str) -> Result<Option<String>, Code> {
        let id = id_of(text).map_err(|problem| problem.code())?;
        Ok(id.map(|id| id.get().to_owned()))
    }

    #[test]
    fn an_id_comes_back_as_it_was_sent() {
        assert_eq!(id(r#"{"id": 7, "record": {}}"#), Ok(Some("7".to_owned())));
        assert_eq!(id(r#"{"record": {}, "id": 1.50}"#), Ok(Some("1.50".to_owned())));
        assert_eq!(id(r#"{"id": "a\nb"}"#), Ok(Some(r#""a\nb""#.to_owned())));
        // Those that cannot be answered by it.
        for text in ["{}", "{\"id\": null}", "[7]", "{\"id\": 7", "7", ""] {
            assert_eq!(id(text), Ok(None), "{text}");
        }
        let long = format!("{{\"id\": \"{}\"}}", "x".repeat(ID_BYTES_MAX));
        for text in ["{\"id\": {}}", "{\"id\": [1]}", "{\"id\": true}", long.as_str()] {
            assert_eq!(id(text), Err(Code::InvalidRequest), "{text}");
        }
    }

    #[test]
    fn answers_are_lines_with_the_id_before_them() {
        let id = RawValue::from_string("\"a\"".to_owned()).unwrap();
        let written = Row::Written {
            partition: 1,
            offset: 2,
            timestamp: 3,
        };
        assert_eq!(
            line(Some(&id), &written),
            b"{\"id\":\"a\",\"partition\":1,\"offset\":2,\"timestamp\":3}\n"
        );
        let error = Box::new(Problem::new(Code::DiskFull, "it is"));
        let refused: Value = serde_json::from_slice(&line(None, &Row::Refused { error })).unwrap();
        assert_eq!(
            (&refused["id"], &refused["error"]["code"]),
            (&Value::Null, &json!("disk_full"))
        );
    }

    #[test]
    fn a_message_has_a_record_and_nothing_unknown() {
        let is_one = |text: &str| serde_json::from_str::<Object<Message<'_>>>(text).is_ok();
        for text in [
            r#"{"record": {}}"#,
            r#"{"id": 1, "record": {"key": "a", "value": {"b": 1}}, "acks": "leader", "timeout_ms": 5}"#,
        ] {
            assert!(is_one(text), "{text}");
        }
        for text in [
            "{}",
            "[1, {}]",
            r#"{"record": []}"#,
            r#"{"record": {"vlaue": 1}}"#,
            r#"{"record": {}, "ack": "all"}"#,
            r#"{"record": {}, "acks": "some"}"#,
            r#"{"record": {}} {}"#,
        ] {
            assert!(!is_one(text), "{text}");
        }
    }
}
