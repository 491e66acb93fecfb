//! One connection: a pipeline within one task.
//!
//! ```text
//!   socket ─► FrameReader ─► dispatch ─► row of at most `in_flight_max` answers ─► OutQueue ─► socket
//!             └───────── reading half ────────┘   └─────────── writing half ───────────┘
//! ```
//!
//! Requests are read and carried out in order. What a request changes, it has changed when `dispatch` returns; only its answer
//! may come later ([`Dispatched::Later`]: a Produce that waits for the disk, a Fetch that waits for records), and while it does, the next request is
//! read and carried out. Every other kind runs to its end before the next begins ([`Dispatched::Barrier`]).
//! Answers leave strictly in the order of the requests; those that are ready together leave by one write.
//!
//! What the socket has at once is a *turn*. Records that it brings to one partition are synced once, at its end
//! ([`Dispatched::Unsynced`]), and on this thread if the connection waits for nothing else: then no thread has to be woken between
//! the request and its answer.
//!
//! Back-pressure has one chain: a client that does not read fills the socket, then the row; then nothing more is read from it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::kafka::connection::answer_row::{AnswerRow, Place};
use crate::kafka::connection::turn::{Turn, Unsynced};
use crate::kafka::frame::{Frame, FrameError, FrameLimits, FrameReader};
use crate::kafka::memory::RequestMemory;
use crate::kafka::request_context::ConnectionInfo;
use crate::kafka::response::{OutQueue, Response, ResponseError};
use crate::kafka::wrong_protocol::WrongProtocol;
use crate::metrics::front::{FrontMetrics, Stopwatch, Waited};
use crate::shutdown::ShutdownSignal;

mod answer_row;
pub(crate) mod turn;

/// Answers are gathered for one write up to this many bytes or
const GATHER_BYTES: usize = 256 << 10;
/// this many slices.
const GATHER_SLICES: usize = 64;
/// Produce requests that came together are carried out together, up to this many
const TOGETHER_MAX: usize = 32;
/// of so many bytes.
pub(crate) const TOGETHER_BYTES_MAX: usize = 128 << 10;
/// A client that sends without end leaves the thread to other connections after answers have left so many times: after half a MiB, or
/// 128 requests. What is in memory costs the runtime nothing that it sees, so it would not take the thread away.
const HAND_ONS_MAX: u32 = 4;
/// How long a client that closed its side may still be sent answers to what it asked before.
const HALF_CLOSED: Duration = Duration::from_secs(1);
/// What is read off a client that spoke another protocol, so that closing does not destroy the answer on its way.
const DISCARD_BYTES: usize = 64 << 10;

/// What a connection is held to.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSettings {
    /// Limits of its requests.
    pub(crate) frames: Arc<FrameLimits>,
    /// How many requests may wait for their answers.
    pub(crate) in_flight_max: usize,
    /// A client that takes nothing of its answers for this long is cut off.
    pub(crate) write_timeout: Duration,
    /// How long answers may take to leave once the broker stops.
    pub(crate) drain_timeout: Duration,
    /// Where HTTP is served, for those who ask here.
    pub(crate) http_address: Option<Arc<str>>,
    /// What is counted.
    pub(crate) metrics: Arc<FrontMetrics>,
}

/// Carries out requests. The connection knows nothing about them.
pub(crate) trait Dispatch: Send + Sync + 'static {
    /// Carries out one request: at once, except for what the result says is still to come.
    fn dispatch(&self, connection: &Arc<ConnectionInfo>, frame: Frame) -> Dispatched;

    /// Carries out Produce requests that came together, in their order, as by [`Self::dispatch`]: all of them, or up to one that the next
    /// has to wait for, or that ends the connection, or as many as should be at once. At least one; the others stay where they are.
    fn dispatch_produces(
        &self,
        connection: &Arc<ConnectionInfo>,
        frames: &mut VecDeque<Frame>,
    ) -> Vec<Dispatched> {
        let first = frames.pop_front();
        first
            .map(|frame| self.dispatch(connection, frame))
            .into_iter()
            .collect()
    }
}

/// An answer that is still to come.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// How far a request is when `dispatch` returns.
pub(crate) enum Dispatched {
    /// Done.
    Now(Answer),
    /// Done but for the answer; the next request may begin. Polled only when its turn to be sent has come.
    Later(AnswerFuture),
    /// The same, and the sync that the answer waits for is to begin when the turn ends.
    Unsynced(AnswerFuture, Unsynced),
    /// Under way; the next request must not begin before the end.
    Barrier(AnswerFuture),
    /// Has to wait for something before it is carried out; the next request must not begin before that is known, and then
    /// it goes on as that says.
    Begun(Pin<Box<dyn Future<Output = Dispatched> + Send>>),
}

impl Dispatched {
    /// Whether it ends the connection here and now.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Now(Answer::Close(_)))
    }
}

/// How a request ends.
#[derive(Debug)]
pub(crate) enum Answer {
    /// With a response.
    Respond(Response),
    /// Without one, as the client wanted (`acks=0`).
    Silence,
    /// With the end of the connection.
    Close(CloseReason),
}

impl Answer {
    /// A response, or the end of the connection if it cannot be encoded.
    pub(crate) fn from_response(response: Result<Response, ResponseError>) -> Self {
        match response {
            Ok(response) => Self::Respond(response),
            Err(error) => Self::Close(CloseReason::Response(error)),
        }
    }
}

/// Why a request ends its connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloseReason {
    /// Its bytes are not what its API and version say.
    #[error("malformed request (API key {api_key}, version {api_version}): {reason}")]
    Malformed {
        /// Which API.
        api_key: i16,
        /// Which version.
        api_version: i16,
        /// What is wrong.
        reason: String,
    },
    /// A client that wants no answers can be told of an error in no other way.
    #[error("produce with acks=0 failed: {0}")]
    UnacknowledgedProduceFailed(String),
    /// Our own mistake.
    #[error(transparent)]
    Response(#[from] ResponseError),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The client closed it.
    #[error("closed by the client")]
    ByClient,
    /// The broker stops.
    #[error("the broker is stopping")]
    Shutdown,
    /// What came could not be read as a request.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A request ended it.
    #[error(transparent)]
    Request(#[from] CloseReason),
    /// The client does not take its answers.
    #[error("the client took nothing of its responses for {0:?}")]
    SlowReader(Duration),
    /// It broke while writing.
    #[error("write to the socket: {0}")]
    Write(io::Error),
}

enum Queued {
    Ready(Response),
    Waiting(AnswerFuture, Stopwatch),
}

/// Serves a connection to its end.
pub(crate) async fn run<R, W, D>(
    reader: R,
    mut writer: W,
    dispatch: &D,
    connection: Arc<ConnectionInfo>,
    settings: &ConnectionSettings,
    memory: RequestMemory,
    shutdown: ShutdownSignal,
) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    D: Dispatch,
{
    let mut frames = FrameReader::new(reader, Arc::clone(&settings.frames), memory);
    let in_flight = AtomicUsize::new(0);
    let answers = AnswerRow::new(settings.in_flight_max);
    let end = {
        let mut stopping = shutdown.clone();
        let reading = Reading {
            frames: &mut frames,
            dispatch,
            connection: &connection,
            in_flight: &in_flight,
            metrics: &settings.metrics,
            shutdown,
        };
        // For a reading half that waits for something else than requests: a place in a row that nobody empties, a barrier.
        let overdue = async {
            stopping.requested().await;
            sleep(settings.drain_timeout).await;
        };
        let mut writing = pin!(write_answers(&mut writer, &answers, &in_flight, settings));
        let mut reading = pin!(reading.run(&answers));
        // Writing first: what is ready leaves before more is taken in.
        let mut both = poll_fn(|context| {
            loop {
                if let Poll::Ready(end) = writing.as_mut().poll(context) {
                    return Poll::Ready((Half::Writing, end));
                }
                if let Poll::Ready(end) = reading.as_mut().poll(context) {
                    return Poll::Ready((Half::Reading, end));
                }
                // Answers that the reading half has left leave at once, from this thread.
                if !answers.take_news() {
                    return Poll::Pending;
                }
            }
        });
        tokio::select! {
            biased;
            (half, end) = &mut both => {
                if half == Half::Reading {
                    answers.close();
                    let patience = match end {
                        End::Shutdown => settings.drain_timeout,
                        _ => HALF_CLOSED.min(settings.drain_timeout),
                    };
                    // Whether all of it left in time or not, the connection ends for the reason it had.
                    drop(timeout(patience, writing).await);
                }
                end
            }
            () = overdue => End::Shutdown,
        }
    };
    if let End::Frame(FrameError::WrongProtocol(protocol)) = end {
        answer_stranger(&mut frames, &mut writer, protocol, settings).await;
    }
    // The other side may be gone already, and then this fails.
    drop(timeout(HALF_CLOSED, writer.shutdown()).await);
    end
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Reading,
    Writing,
}

/// A request that has come: where its answer goes, and what else is to be known of it.
struct UnderWay<'a> {
    place: Place<'a>,
    bytes: usize,
    stopwatch: Stopwatch,
}

struct Reading<'a, R, D> {
    frames: &'a mut FrameReader<R>,
    dispatch: &'a D,
    connection: &'a Arc<ConnectionInfo>,
    in_flight: &'a AtomicUsize,
    metrics: &'a FrontMetrics,
    shutdown: ShutdownSignal,
}

impl<R: AsyncRead + Unpin, D: Dispatch> Reading<'_, R, D> {
    async fn run(mut self, answers: &AnswerRow) -> End {
        let mut turn = Turn::default();
        let mut hand_ons = 0;
        loop {
            let (place, frame) = match self.next_in_turn(answers, &mut turn).await {
                Ok(next) => next,
                Err(end) => return end,
            };
            let request = self.note(place, &frame, Stopwatch::start(frame.prefix.api_key));
            if frame.admission.is_produce() && self.frames.has_produce() {
                let (mut requests, mut frames) = self.gather(answers, request, frame);
                while !frames.is_empty() {
                    let all_dispatched = self.dispatch.dispatch_produces(self.connection, &mut frames);
                    let now = Instant::now();
                    for dispatched in all_dispatched {
                        let request = requests.pop_front().expect("one for each frame");
                        if let Some(end) = self.answer(dispatched, now, request, &mut turn).await {
                            return end;
                        }
                    }
                    if !frames.is_empty() {
                        // All at once would have been much.
                        answers.hand_on().await;
                    }
                }
            } else {
                let dispatched = self.dispatch.dispatch(self.connection, frame);
                if let Some(end) = self.answer(dispatched, Instant::now(), request, &mut turn).await {
                    return end;
                }
            }
            if turn.take_answered() {
                answers.hand_on().await;
                hand_ons += 1;
                if HAND_ONS_MAX <= hand_ons {
                    hand_ons = 0;
                    yield_now().await;
                }
            }
        }
    }

    /// A request has come.
    fn note<'r>(&self, place: Place<'r>, frame: &Frame, stopwatch: Stopwatch) -> UnderWay<'r> {
        self.metrics.received_bytes.add(frame.wire_bytes());
        UnderWay {
            place,
            bytes: frame.bytes.len(),
            stopwatch,
        }
    }

    /// This Produce request and those behind it that are here already, each with a place for its answer.
    fn gather<'r>(
        &mut self,
        answers: &'r AnswerRow,
        request: UnderWay<'r>,
        frame: Frame,
    ) -> (VecDeque<UnderWay<'r>>, VecDeque<Frame>) {
        let (mut bytes, stopwatch) = (frame.bytes.len(), request.stopwatch);
        let (mut requests, mut frames) = (VecDeque::from([request]), VecDeque::from([frame]));
        while frames.len() < TOGETHER_MAX && bytes < TOGETHER_BYTES_MAX && self.frames.has_produce() {
            let Some(place) = answers.try_place() else {
                break;
            };
            // Where memory has to be waited for, those that have theirs go first. Whatever else is the matter, the next call
            // meets it again.
            let Some(Ok(Some(frame))) = self.frames.next(|| true).now_or_never() else {
                break;
            };
            bytes = bytes.saturating_add(frame.bytes.len());
            requests.push_back(self.note(place, &frame, stopwatch));
            frames.push_back(frame);
        }
        (requests, frames)
    }

    /// Puts the answer in its place, at once (`now`) or when it comes. What ends the connection comes back.
    async fn answer(
        &mut self,
        mut dispatched: Dispatched,
        mut now: Instant,
        request: UnderWay<'_>,
        turn: &mut Turn,
    ) -> Option<End> {
        let UnderWay {
            place,
            bytes,
            stopwatch,
        } = request;
        while let Dispatched::Begun(future) = dispatched {
            *turn = Turn::default();
            dispatched = future.await;
            now = Instant::now();
        }
        let answer = match dispatched {
            Dispatched::Now(answer) => answer,
            Dispatched::Begun(_) => unreachable!("was waited for above"),
            Dispatched::Barrier(future) => {
                *turn = Turn::default();
                let answer = future.await;
                now = Instant::now();
                answer
            }
            Dispatched::Later(future) => {
                self.in_flight.fetch_add(1, Ordering::Relaxed);
                place.fill(Queued::Waiting(future, stopwatch));
                return None;
            }
            Dispatched::Unsynced(future, unsynced) => {
                let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
                place.fill(Queued::Waiting(future, stopwatch));
                turn.add(unsynced, bytes, before == 0);
                return None;
            }
        };
        self.metrics.answered(stopwatch, now, Waited::No);
        turn.note_answered(bytes);
        match answer {
            Answer::Respond(response) => {
                self.in_flight.fetch_add(1, Ordering::Relaxed);
                place.fill(Queued::Ready(response));
            }
            Answer::Silence => {}
            Answer::Close(reason) => return Some(End::Request(reason)),
        }
        None
    }

    /// The place for an answer first, then its request: a full row is felt at the socket. Where either has to be waited
    /// for, the turn ends.
    async fn next_in_turn<'r>(
        &mut self,
        answers: &'r AnswerRow,
        turn: &mut Turn,
    ) -> Result<(Place<'r>, Frame), End> {
        let mut next = pin!(async {
            let place = answers.place().await;
            Ok((place, self.next_frame().await?))
        });
        poll_fn(|context| {
            let next = next.as_mut().poll(context);
            if next.is_pending() {
                turn.end();
            }
            next
        })
        .await
    }

    async fn next_frame(&mut self) -> Result<Frame, End> {
        // Seen here too, because a client that never pauses never lets the select below look.
        if self.shutdown.is_requested() {
            return Err(End::Shutdown);
        }
        let in_flight = self.in_flight;
        let is_busy = || 0 < in_flight.load(Ordering::Relaxed);
        tokio::select! {
            biased;
            frame = self.frames.next(is_busy) => frame?.ok_or(End::ByClient),
            _ = self.shutdown.requested() => Err(End::Shutdown),
        }
    }
}

async fn write_answers<W: AsyncWrite + Unpin>(
    socket: &mut W,
    answers: &AnswerRow,
    in_flight: &AtomicUsize,
    settings: &ConnectionSettings,
) -> End {
    let (write_timeout, metrics) = (settings.write_timeout, &*settings.metrics);
    let mut out = OutQueue::default();
    let mut waiting: Option<(AnswerFuture, Stopwatch)> = None;
    loop {
        let next = match waiting.take() {
            Some((future, stopwatch)) => Queued::Waiting(future, stopwatch),
            None => match answers.next().await {
                Some(next) => next,
                None => return End::ByClient,
            },
        };
        let first = match next {
            Queued::Ready(response) => Answer::Respond(response),
            Queued::Waiting(future, stopwatch) => {
                let answer = future.await;
                metrics.answered(stopwatch, Instant::now(), Waited::Yes);
                answer
            }
        };
        let mut count = 1;
        let mut close = push(&mut out, first).err();
        while close.is_none()
            && waiting.is_none()
            && out.bytes() < GATHER_BYTES
            && out.slices() < GATHER_SLICES
        {
            let next = match answers.try_next() {
                Some(Queued::Ready(response)) => Answer::Respond(response),
                Some(Queued::Waiting(mut future, stopwatch)) => {
                    let Some(answer) = (&mut future).now_or_never() else {
                        waiting = Some((future, stopwatch));
                        break;
                    };
                    metrics.answered(stopwatch, Instant::now(), Waited::Yes);
                    answer
                }
                None => break,
            };
            count += 1;
            close = push(&mut out, next).err();
        }
        metrics
            .sent_bytes
            .add(u64::try_from(out.bytes()).unwrap_or(u64::MAX));
        while 0 < out.bytes() {
            match timeout(write_timeout, out.write_some(socket)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return End::Write(error),
                Err(_) => return End::SlowReader(write_timeout),
            }
        }
        in_flight.fetch_sub(count, Ordering::Relaxed);
        // Behind the answers to what was asked before it.
        if let Some(reason) = close {
            return End::Request(reason);
        }
    }
}

fn push(out: &mut OutQueue, answer: Answer) -> Result<(), CloseReason> {
    match answer {
        Answer::Respond(response) => out.push(response),
        Answer::Silence => {}
        Answer::Close(reason) => return Err(reason),
    }
    Ok(())
}

async fn answer_stranger<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    frames: &mut FrameReader<R>,
    writer: &mut W,
    protocol: WrongProtocol,
    settings: &ConnectionSettings,
) {
    let Some(answer) = protocol.answer(settings.http_address.as_deref()) else {
        return;
    };
    let goodbye = async {
        writer.write_all(&answer).await?;
        writer.shutdown().await?;
        frames.discard(DISCARD_BYTES).await
    };
    // A courtesy: if it fails, the connection ends all the same.
    drop(timeout(HALF_CLOSED, goodbye).await);
}

#[cfg(test)]
mod tests;
