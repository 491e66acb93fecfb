//! One connection: a pipeline within one task.
//!
//! ```text
//!   socket ─► FrameReader ─► dispatch ─► queue of at most `in_flight_max` answers ─► OutQueue ─► socket
//!             └───────── reading half ─────────┘   └──────────── writing half ────────────┘
//! ```
//!
//! Requests are read and carried out in order. What a request changes, it has changed when `dispatch` returns; only its answer
//! may come later ([`Dispatched::Later`]: a Produce that waits for the disk, a Fetch that waits for records), and while it does, the next request is
//! read and carried out. Every other kind runs to its end before the next begins ([`Dispatched::Barrier`]).
//! Answers leave strictly in the order of the requests; those that are ready together leave by one write.
//!
//! Back-pressure has one chain: a client that does not read fills the socket, then the queue; then nothing more is read from it.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::kafka::frame::{Frame, FrameError, FrameLimits, FrameReader};
use crate::kafka::memory::RequestMemory;
use crate::kafka::request_context::ConnectionInfo;
use crate::kafka::response::{OutQueue, Response, ResponseError};
use crate::kafka::wrong_protocol::WrongProtocol;
use crate::metrics::front::{FrontMetrics, Stopwatch, Waited};
use crate::shutdown::ShutdownSignal;

/// Answers are gathered for one write up to this many bytes or
const GATHER_BYTES: usize = 256 << 10;
/// this many slices.
const GATHER_SLICES: usize = 64;
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
}

/// An answer that is still to come.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// How far a request is when `dispatch` returns.
pub(crate) enum Dispatched {
    /// Done.
    Now(Answer),
    /// Done but for the answer; the next request may begin. Polled only when its turn to be sent has come.
    Later(AnswerFuture),
    /// Under way; the next request must not begin before the end.
    Barrier(AnswerFuture),
    /// Has to wait for something before it is carried out; the next request must not begin before that is known, and then
    /// it goes on as that says.
    Begun(Pin<Box<dyn Future<Output = Dispatched> + Send>>),
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
    let (queue, answers) = mpsc::channel(settings.in_flight_max.max(1));
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
        // For a reading half that waits for something else than requests: a place in a queue that nobody empties, a barrier.
        let overdue = async {
            stopping.requested().await;
            sleep(settings.drain_timeout).await;
        };
        let mut writing = pin!(write_answers(&mut writer, answers, &in_flight, settings));
        // Writing first: what is ready leaves before more is taken in.
        tokio::select! {
            biased;
            end = &mut writing => end,
            end = reading.run(queue) => {
                let patience = match end {
                    End::Shutdown => settings.drain_timeout,
                    _ => HALF_CLOSED.min(settings.drain_timeout),
                };
                // Whether all of it left in time or not, the connection ends for the reason it had.
                drop(timeout(patience, writing).await);
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

struct Reading<'a, R, D> {
    frames: &'a mut FrameReader<R>,
    dispatch: &'a D,
    connection: &'a Arc<ConnectionInfo>,
    in_flight: &'a AtomicUsize,
    metrics: &'a FrontMetrics,
    shutdown: ShutdownSignal,
}

impl<R: AsyncRead + Unpin, D: Dispatch> Reading<'_, R, D> {
    async fn run(mut self, queue: mpsc::Sender<Queued>) -> End {
        loop {
            // First the place for the answer, then the request: a full queue is felt at the socket.
            let Ok(place) = queue.reserve().await else {
                return End::ByClient;
            };
            let frame = match self.next_frame().await {
                Ok(frame) => frame,
                Err(end) => return end,
            };
            self.metrics.received_bytes.add(frame.wire_bytes());
            let stopwatch = Stopwatch::start(frame.prefix.api_key);
            let mut dispatched = self.dispatch.dispatch(self.connection, frame);
            while let Dispatched::Begun(future) = dispatched {
                dispatched = future.await;
            }
            let answer = match dispatched {
                Dispatched::Now(answer) => answer,
                Dispatched::Barrier(future) => future.await,
                Dispatched::Begun(_) => unreachable!("was waited for above"),
                Dispatched::Later(future) => {
                    self.in_flight.fetch_add(1, Ordering::Relaxed);
                    place.send(Queued::Waiting(future, stopwatch));
                    continue;
                }
            };
            self.metrics.answered(stopwatch, Waited::No);
            match answer {
                Answer::Respond(response) => {
                    self.in_flight.fetch_add(1, Ordering::Relaxed);
                    place.send(Queued::Ready(response));
                }
                Answer::Silence => {}
                Answer::Close(reason) => return End::Request(reason),
            }
        }
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
    mut answers: mpsc::Receiver<Queued>,
    in_flight: &AtomicUsize,
    settings: &ConnectionSettings,
) -> End {
    let (write_timeout, metrics) = (settings.write_timeout, &*settings.metrics);
    let mut out = OutQueue::default();
    let mut waiting: Option<(AnswerFuture, Stopwatch)> = None;
    loop {
        let next = match waiting.take() {
            Some((future, stopwatch)) => Queued::Waiting(future, stopwatch),
            None => match answers.recv().await {
                Some(next) => next,
                None => return End::ByClient,
            },
        };
        let first = match next {
            Queued::Ready(response) => Answer::Respond(response),
            Queued::Waiting(future, stopwatch) => {
                let answer = future.await;
                metrics.answered(stopwatch, Waited::Yes);
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
            let next = match answers.try_recv() {
                Ok(Queued::Ready(response)) => Answer::Respond(response),
                Ok(Queued::Waiting(mut future, stopwatch)) => {
                    let Some(answer) = (&mut future).now_or_never() else {
                        waiting = Some((future, stopwatch));
                        break;
                    };
                    metrics.answered(stopwatch, Waited::Yes);
                    answer
                }
                Err(_) => break,
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
