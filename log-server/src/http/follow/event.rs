//! What a follower is sent: server-sent events, lines of JSON, or messages of a socket.
//!
//! | | event | line | message |
//! |---|---|---|---|
//! | a record | `id` and `data` | the record | `{"position": …, "record": …}` |
//! | nothing for a while | `id` alone, which sets where a browser goes on and is told to nobody | an empty line | `{"position": …}` |
//! | records that are gone | `event: gap` | `{"gap": …}` | `{"gap": …}` |
//! | something that stands in the way | `event: problem` | `{"problem": …}` | `{"problem": …}` |
//! | the end | `event: end` | `{"end": …}` | `{"end": …}` |
//!
//! Records are JSON without line breaks, so each is one line of `data`. Messages are a line each, too: who sends them cuts them apart there.

use std::io::Write as _;

use bytes::Bytes;
use log_core::model::Offset;
use serde::Deserialize;
use serde_json::{Value, json};

use super::position::Positions;
use crate::http::problem::Problem;

/// The form of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    /// Server-sent events.
    Sse,
    /// A JSON document a line.
    Ndjson,
    /// The messages of a socket, which is a route of its own.
    #[serde(skip_deserializing)]
    Message,
}

impl Form {
    /// What a client accepts; events if it does not say.
    pub(super) fn accepted(accept: &str) -> Self {
        let lines = ["application/x-ndjson", "application/ndjson", "application/jsonl"];
        let mut types = accept.split(',').filter_map(|part| part.split(';').next());
        let wants_lines = types.any(|kind| lines.contains(&kind.trim().to_ascii_lowercase().as_str()));
        if wants_lines { Self::Ndjson } else { Self::Sse }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Ndjson => "application/x-ndjson",
            Self::Message => "application/json",
        }
    }

    /// A record, which `document` writes, with where its reader goes on behind it.
    pub(super) fn write_record(
        self,
        output: &mut Vec<u8>,
        positions: &Positions,
        document: impl FnOnce(&mut Vec<u8>),
    ) {
        match self {
            Self::Sse => {
                write!(output, "id: {positions}\ndata: ").expect("memory takes it");
                document(output);
                output.extend_from_slice(b"\n\n");
            }
            Self::Ndjson => {
                document(output);
                output.push(b'\n');
            }
            Self::Message => {
                write!(output, "{{\"position\":\"{positions}\",\"record\":").expect("memory takes it");
                document(output);
                output.extend_from_slice(b"}\n");
            }
        }
    }

    pub(super) fn heartbeat(self, positions: &Positions) -> Bytes {
        Bytes::from(match self {
            Self::Sse => format!("id: {positions}\n\n"),
            Self::Ndjson => "\n".to_owned(),
            Self::Message => format!("{{\"position\":\"{positions}\"}}\n"),
        })
    }

    pub(super) fn gap(self, partition: i32, from: Offset, to: Offset) -> Bytes {
        let gap = json!({"partition": partition, "from": from.get(), "to": to.get()});
        self.told("gap", &gap)
    }

    pub(super) fn problem(self, problem: &Problem) -> Bytes {
        self.told("problem", &serde_json::to_value(problem).unwrap_or_default())
    }

    pub(super) fn end(self, reason: &str) -> Bytes {
        self.told("end", &json!({"reason": reason}))
    }

    fn told(self, name: &str, document: &Value) -> Bytes {
        Bytes::from(match self {
            Self::Sse => format!("event: {name}\ndata: {document}\n\n"),
            Self::Ndjson | Self::Message => format!("{{\"{name}\":{document}}}\n"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_say_the_same() {
        let positions: Positions = [(0, Offset::new(5)), (2, Offset::new(7))].into_iter().collect();
        let record = |form: Form| {
            let mut output = Vec::new();
            form.write_record(&mut output, &positions, |output| output.extend_from_slice(b"{}"));
            String::from_utf8(output).unwrap()
        };
        assert_eq!(record(Form::Sse), "id: 0:5,2:7\ndata: {}\n\n");
        assert_eq!(record(Form::Ndjson), "{}\n");
        let message = "{\"position\":\"0:5,2:7\",\"record\":{}}\n";
        assert_eq!(record(Form::Message), message);
        assert_eq!(Form::Sse.heartbeat(&positions), "id: 0:5,2:7\n\n");
        assert_eq!(Form::Ndjson.heartbeat(&positions), "\n");
        assert_eq!(
            Form::Message.heartbeat(&positions),
            "{\"position\":\"0:5,2:7\"}\n"
        );
        let gap = |form: Form| form.gap(1, Offset::new(2), Offset::new(3));
        assert_eq!(
            gap(Form::Sse),
            "event: gap\ndata: {\"from\":2,\"partition\":1,\"to\":3}\n\n"
        );
        assert_eq!(
            gap(Form::Ndjson),
            "{\"gap\":{\"from\":2,\"partition\":1,\"to\":3}}\n"
        );
        assert_eq!(gap(Form::Message), gap(Form::Ndjson));
        assert!(serde_json::from_value::<Form>("message".into()).is_err());
        assert_eq!(Form::accepted("text/event-stream"), Form::Sse);
        assert_eq!(Form::accepted("a/b, application/x-ndjson"), Form::Ndjson);
    }
}
