//! One request: what it was, when it began and ended, how it ended.
//! The time of day says when, a clock that nobody sets says how long.
//!
//! Some of its texts are what a client chose to send. Spans stand in a queue, so of each text only the beginning is kept.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::context::SpanContext;

/// What is kept of a text.
pub(super) const TEXT_BYTES_MAX: usize = 256;

/// What is told of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(beginning(text).to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(kept(text))
    }
}

fn beginning(text: &str) -> &str {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    text.get(..end).unwrap_or(text)
}

/// The same without its end, which would take memory.
fn kept(text: String) -> String {
    match beginning(&text) {
        beginning if beginning.len() < text.len() => beginning.to_owned(),
        _ => text,
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A request that is being carried out.
#[derive(Debug)]
pub struct OpenSpan {
    context: SpanContext,
    name: String,
    began: Instant,
    began_at: SystemTime,
    attributes: Vec<(&'static str, Value)>,
}

impl OpenSpan {
    /// Begins now.
    pub(super) fn begin(context: SpanContext, name: String) -> Self {
        Self {
            context,
            name: kept(name),
            began: Instant::now(),
            began_at: SystemTime::now(),
            attributes: Vec::new(),
        }
    }

    /// Adds what is known.
    pub fn tell(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.push((name, value.into()));
    }

    /// Ends now, well or with an error.
    #[must_use]
    pub fn end(self, error: Option<String>) -> Span {
        let nanoseconds = |time: u128| u64::try_from(time).unwrap_or(u64::MAX);
        let began_ns = nanoseconds(
            self.began_at
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_nanos(),
        );
        Span {
            context: self.context,
            name: self.name,
            began_ns,
            ended_ns: began_ns.saturating_add(nanoseconds(self.began.elapsed().as_nanos())),
            attributes: self.attributes,
            error: error.map(kept),
        }
    }
}

/// A request that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its place in a trace.
    pub context: SpanContext,
    /// What it was.
    pub name: String,
    /// When it began, in nanoseconds since 1970.
    pub began_ns: u64,
    /// When it ended.
    pub ended_ns: u64,
    /// What else is known.
    pub attributes: Vec<(&'static str, Value)>,
    /// What went wrong.
    pub error: Option<String>,
}
