//! NDJSON: a record a line, any number of lines, answered while they come.
//!
//! Lines gather in a window. A window is appended when it is full, or when nothing that was appended before still waits for the disk: so a slow
//! stream is written line by line, and a fast one in large batches. At most [`WINDOWS_MAX`] windows wait; beyond that no more of the body is read,
//! and the pressure reaches the client as TCP's. The answer is made by whoever reads it: a client that reads nothing of it is read no further
//! once its own buffers are full.
//!
//! | line of the answer | says |
//! |---|---|
//! | `{"acknowledged": n}` | the first n lines are done with: written and waited for, or refused and told |
//! | `{"line": n, "error": {…}}` | that line was refused |
//! | `{"done": …}` | the end: whether all of the body was read, and what became of it |

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use futures_util::stream;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::http::body::BodyReader;
use crate::http::memory::Held;
use crate::http::object::Object;
use crate::http::problem::{Answer, Code, Problem};
use crate::http::produce::OnError;
use crate::http::produce::append::{Appending, acknowledged, append_each, append_in_order};
use crate::http::produce::batches::{Batches, Seat};
use crate::http::produce::list::{QUICK_BYTES_MAX, Target, add};
use crate::http::produce::record_input::RecordInput;
use crate::partition::writer::off_runtime;
use crate::shutdown::ShutdownSignal;

/// A window is appended at this size at the latest.
const WINDOW_BYTES: usize = 1 << 20;
/// A window or a line may have so much before it pays for its memory.
const FREE_BYTES: usize = 64 << 10;
/// Windows that wait for the disk.
const WINDOWS_MAX: usize = 4;
/// So much of the body is looked at before other tasks of the thread get their turn: some 200 µs.
const TURN_BYTES: usize = 64 << 10;
/// Lines of the answer that wait to be taken; a body of nothing but mistakes is read no faster than they are.
const OUTPUT_MAX: usize = 64;
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Writes the lines of a body.
pub(super) async fn write(target: Target, on_error: OnError, headers: &HeaderMap, body: Body) -> Answer {
    if target.key.is_some() {
        let text = "a stream needs no Idempotency-Key: its answer says how many lines need not come again";
        return Err(Problem::invalid(text));
    }
    let reader = BodyReader::new(&target.services, headers, body)?;
    let mut lines = Lines::new(target, on_error, reader);
    // Until something was appended, a refusal can still be the answer's status.
    while !lines.has_appended && lines.ended.is_none() && lines.output.is_empty() {
        lines.step().await;
    }
    if let Some(Ended::Stopped(problem)) = &lines.ended
        && !lines.has_appended
    {
        return Err(problem.clone());
    }
    let output = stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await?;
        Some((Ok::<_, std::convert::Infallible>(line), lines))
    });
    Ok(ndjson(Body::from_stream(output)))
}

fn ndjson(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Why no more is read.
#[derive(Debug)]
enum Ended {
    /// The body ended.
    Complete,
    /// Something stands in the way.
    Stopped(Problem),
}

/// A window that was appended and waits for the disk.
struct Waiting {
    /// A batch that got no record is a gap.
    batches: VecDeque<Option<Appending>>,
    /// Line numbers and places of the records, for those that are refused after all.
    seats: Vec<(u64, Seat)>,
    /// The lines up to here are done with when this is.
    lines: u64,
    until: Instant,
    place: usize,
}

/// A body on its way into a topic.
struct Lines {
    target: Target,
    on_error: OnError,
    reader: BodyReader,
    shutdown: ShutdownSignal,
    /// What was read and not looked at.
    piece: Bytes,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    held: Held,
    held_partial: Held,
    window: Batches,
    seats: Vec<(u64, Seat)>,
    waiting: VecDeque<Waiting>,
    output: VecDeque<Bytes>,
    line_count: u64,
    acknowledged: u64,
    told: u64,
    told_at: Instant,
    written: u64,
    failed: u64,
    has_appended: bool,
    /// A batch was refused, and nothing may overtake it; the client hears of it when those before it are done with.
    awaits_refusal: bool,
    ended: Option<Ended>,
    is_over: bool,
}

impl Lines {
    fn new(target: Target, on_error: OnError, reader: BodyReader) -> Self {
        let window = Batches::new(&target.services, &target.topic);
        Self {
            reader,
            shutdown: target.services.shutdown.clone(),
            target,
            on_error,
            piece: Bytes::new(),
            partial: Vec::new(),
            held: Held::default(),
            held_partial: Held::default(),
            window,
            seats: Vec::new(),
            waiting: VecDeque::new(),
            output: VecDeque::new(),
            line_count: 0,
            acknowledged: 0,
            told: 0,
            told_at: Instant::now(),
            written: 0,
            failed: 0,
            has_appended: false,
            awaits_refusal: false,
            ended: None,
            is_over: false,
        }
    }

    /// The next line of the answer.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.output.pop_front() {
                return Some(line);
            }
            if self.is_over {
                return None;
            }
            if self.has_news() && PROGRESS_EVERY <= self.told_at.elapsed() {
                self.told = self.acknowledged;
                self.told_at = Instant::now();
                self.say(&json!({"acknowledged": self.acknowledged}));
                continue;
            }
            if self.ended.is_some() && self.waiting.is_empty() && self.window.is_empty() {
                self.say_the_end();
                continue;
            }
            self.step().await;
        }
    }

    /// Whether there is progress that the client has not heard of.
    fn has_news(&self) -> bool {
        self.told < self.acknowledged
    }

    /// Whether lines are taken in yet.
    fn takes_lines(&self) -> bool {
        self.ended.is_none() && !self.awaits_refusal
    }

    /// Reads a little, appends, or waits for what comes first: the disk, the client, or the end.
    async fn step(&mut self) {
        if !self.piece.is_empty() && !self.awaits_refusal {
            self.look_at_the_piece().await;
            tokio::task::yield_now().await;
            return;
        }
        if !self.window.is_empty() && self.waiting.is_empty() {
            self.append_window().await;
        }
        if self.waiting.is_empty() && self.ended.is_some() {
            return;
        }
        let may_read = self.takes_lines() && self.waiting.len() < WINDOWS_MAX;
        let told_at = self.told_at;
        let has_news = self.has_news();
        tokio::select! {
            biased;
            result = durable(&mut self.waiting), if !self.waiting.is_empty() => self.done_with(result),
            _ = self.shutdown.requested(), if self.ended.is_none() => {
                self.ended = Some(Ended::Stopped(Problem::new(Code::Stopping, "the broker is stopping")));
            }
            piece = self.reader.next(), if may_read => match piece {
                Ok(Some(piece)) => self.piece = piece,
                Ok(None) => self.finish_reading().await,
                Err(problem) => self.ended = Some(Ended::Stopped(problem)),
            },
            // A client that says nothing more is told what became of what it said.
            () = sleep_until(told_at + PROGRESS_EVERY), if has_news => {}
        }
    }

    /// Takes lines out of what was read, as many as a turn allows.
    async fn look_at_the_piece(&mut self) {
        let mut turn = TURN_BYTES;
        while self.takes_lines() && 0 < turn && self.output.len() < OUTPUT_MAX {
            let Some(end) = memchr::memchr(b'\n', &self.piece) else {
                let rest = std::mem::take(&mut self.piece);
                self.keep_partial(&rest);
                return;
            };
            let line = self.piece.split_to(end);
            self.piece.advance(1);
            turn = turn.saturating_sub(line.len() + 1);
            if self.partial.is_empty() {
                self.line(&line).await;
            } else if self.keep_partial(&line) {
                let whole = std::mem::take(&mut self.partial);
                self.line(&whole).await;
                self.held_partial = Held::default();
            }
        }
        if self.ended.is_some() {
            self.piece = Bytes::new();
        }
    }

    fn keep_partial(&mut self, bytes: &[u8]) -> bool {
        let length = self.partial.len() + bytes.len();
        let limit = self.target.services.config.http_request_max_bytes;
        if limit < length {
            let text = format!(
                "line {}: a line has at most {limit} bytes (http-request-max-bytes)",
                self.line_count + 1
            );
            self.ended = Some(Ended::Stopped(Problem::new(Code::TooLarge, text)));
            return false;
        }
        if FREE_BYTES < length
            && let Err(problem) = self.target.services.memory.grow(&mut self.held_partial, length)
        {
            self.ended = Some(Ended::Stopped(problem));
            return false;
        }
        self.partial.extend_from_slice(bytes);
        true
    }

    /// Takes a line in. Empty ones count and have no record.
    async fn line(&mut self, line: &[u8]) {
        self.line_count += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let mut take = || {
            let record: Result<Object<RecordInput<'_>>, _> = serde_json::from_slice(line);
            let Object(record) =
                record.map_err(|error| Problem::new(Code::InvalidRecord, error.to_string()))?;
            add(&mut self.window, &record)
        };
        let added = if line.len() <= QUICK_BYTES_MAX {
            take()
        } else {
            off_runtime(take)
        };
        match added {
            Ok(seat) => self.seats.push((self.line_count, seat)),
            Err(problem) => self.refused(self.line_count, problem),
        }
        let size = self.window.bytes();
        let services = &self.target.services;
        let is_full = WINDOW_BYTES <= size
            || (FREE_BYTES < size && services.memory.grow(&mut self.held, size).is_err());
        if is_full {
            self.append_window().await;
        }
    }

    fn refused(&mut self, line: u64, problem: Problem) {
        self.failed += 1;
        let problem = problem.with("line", line);
        self.say(&json!({"line": line, "error": problem}));
        if self.on_error == OnError::Stop && self.ended.is_none() {
            self.ended = Some(Ended::Stopped(problem));
            self.awaits_refusal = false;
        }
    }

    async fn finish_reading(&mut self) {
        if !self.partial.is_empty() {
            let whole = std::mem::take(&mut self.partial);
            self.line(&whole).await;
        }
        if self.ended.is_none() {
            self.ended = Some(Ended::Complete);
        }
    }

    async fn append_window(&mut self) {
        let services = &self.target.services;
        let window = std::mem::replace(&mut self.window, Batches::new(services, &self.target.topic));
        let held = std::mem::take(&mut self.held);
        let acks = self.target.terms.acks;
        let mut batches = match self.on_error {
            OnError::Stop => append_in_order(window.finish(), acks).await,
            OnError::Skip => append_each(window.finish(), acks).await,
        };
        for appending in batches.iter_mut().flatten() {
            // They are in the log; while the disk is waited for they need no memory.
            appending.batch.records = Bytes::new();
            self.awaits_refusal |= self.on_error == OnError::Stop && appending.result.is_err();
        }
        drop(held);
        self.has_appended = true;
        self.waiting.push_back(Waiting {
            batches: batches.into(),
            seats: std::mem::take(&mut self.seats),
            lines: self.line_count,
            until: self.target.terms.until(),
            place: 0,
        });
    }

    /// One batch of the oldest window is on the disk, or is known not to be.
    fn done_with(&mut self, result: Result<u32, Vec<Problem>>) {
        let Some(window) = self.waiting.front_mut() else {
            return;
        };
        let place = window.place;
        window.place += 1;
        window.batches.pop_front();
        let (is_done, lines) = (window.batches.is_empty(), window.lines);
        match result {
            Ok(count) => self.written += u64::from(count),
            Err(problems) => {
                let refused: Vec<(u64, Problem)> = window
                    .seats
                    .iter()
                    .filter(|(_, seat)| seat.batch == place)
                    .map(|(line, seat)| {
                        let index = usize::try_from(seat.index).unwrap_or(usize::MAX);
                        let problem = problems.get(index).or(problems.first()).cloned();
                        (
                            *line,
                            problem.unwrap_or_else(|| Problem::new(Code::Internal, "the reason was lost")),
                        )
                    })
                    .collect();
                for (line, problem) in refused {
                    self.refused(line, problem);
                }
            }
        }
        if is_done {
            self.waiting.pop_front();
            self.acknowledged = lines;
        }
    }

    fn say(&mut self, line: &serde_json::Value) {
        let mut text = line.to_string();
        text.push('\n');
        self.output.push_back(Bytes::from(text));
    }

    fn say_the_end(&mut self) {
        self.is_over = true;
        let is_done = matches!(self.ended, Some(Ended::Complete));
        let mut end = json!({
            "done": is_done,
            "lines": self.line_count,
            "records": self.written,
            "failed": self.failed,
        });
        if let Some(Ended::Stopped(problem)) = &self.ended
            && let (Some(end), Ok(problem)) = (end.as_object_mut(), serde_json::to_value(problem))
        {
            end.insert("error".to_owned(), problem);
        }
        self.say(&end);
    }
}

/// Waits for the first batch of the oldest window; gives the number of its records. Given up, it loses nothing.
async fn durable(waiting: &mut VecDeque<Waiting>) -> Result<u32, Vec<Problem>> {
    let Some(window) = waiting.front_mut() else {
        return std::future::pending().await;
    };
    let until = window.until;
    let Some(Some(first)) = window.batches.front_mut() else {
        return Ok(0);
    };
    let count = first.batch.record_count;
    match &mut first.result {
        Err(problems) => Err(std::mem::take(problems)),
        Ok(placed) => {
            let outcome = acknowledged(&mut placed.ack, until).await;
            outcome.map(|()| count).map_err(|problem| vec![problem])
        }
    }
}
