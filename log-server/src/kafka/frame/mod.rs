//! Reads requests off a connection: length, first eight bytes, decision, memory, body.
//!
//! Every limit is checked before memory is taken: the first frame's bytes may be another protocol's; a length must be
//! sensible; the API and version decide how large the frame may be; the budget of all connections must have room. Only then is
//! the body read. A frame that has begun must end within a time that grows with its size.
//!
//! Small frames are slices of the connection's buffer, which is used again once nobody holds them. A frame above
//! [`OWN_BUFFER_BYTES`] is read straight into a buffer of its size, which goes when the frame goes. The buffer begins small and
//! follows the traffic, so that ten thousand idle connections do not keep ten thousand large ones.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use log_core::protocol::RequestPrefix;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, Sleep};

use crate::kafka::apis::{self, Admission, FrameClass};
use crate::kafka::memory::{MemoryPermit, RequestMemory};
use crate::kafka::wrong_protocol::{SIGNATURE_BYTES, WrongProtocol};

/// The length in front of each frame.
const LENGTH_BYTES: usize = 4;
/// API key, version and correlation id, which every request begins with.
const PREFIX_BYTES: usize = 8;
/// What a quiet connection keeps for its next request.
const CHUNK_BYTES_MIN: usize = 4 << 10;
/// The largest buffer shared by frames: stays within the second-level cache.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Frames above this get a buffer of their own.
const OWN_BUFFER_BYTES: usize = 64 << 10;
/// A connection that says nothing for this long gives its buffer back.
const QUIET: Duration = Duration::from_secs(10);
/// "For ever", in a size that can be added to any time of day.
const WAIT_MAX: Duration = Duration::from_hours(365 * 24);

/// What a connection's requests are held to.
#[derive(Debug, Clone)]
pub(crate) struct FrameLimits {
    /// The largest request that carries records (`socket.request.max.bytes`).
    pub(crate) records_frame_bytes_max: usize,
    /// The largest request that carries what only clients understand.
    pub(crate) opaque_frame_bytes_max: usize,
    /// The largest request of any other kind.
    pub(crate) structure_frame_bytes_max: usize,
    /// A connection without a request for this long is closed (`connections.max.idle.ms`).
    pub(crate) idle_timeout: Duration,
    /// A frame that has begun must end within this time, and
    pub(crate) frame_timeout: Duration,
    /// so much longer as its size takes at this rate.
    pub(crate) frame_bytes_per_second_min: u64,
}

impl FrameLimits {
    fn frame_time(&self, length: usize) -> Duration {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let transfer_ms = length.saturating_mul(1000) / self.frame_bytes_per_second_min.max(1);
        self.frame_timeout
            .saturating_add(Duration::from_millis(transfer_ms))
    }
}

/// One request as it came, without its length.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Its first eight bytes, read.
    pub(crate) prefix: RequestPrefix,
    /// What to do with it; never a refusal, those end the connection before the frame is read.
    pub(crate) admission: Admission,
    /// All of it, header included.
    pub(crate) bytes: Bytes,
    /// What it has paid for.
    pub(crate) memory: MemoryPermit,
}

impl Frame {
    /// What came over the wire, the length in front included.
    pub(crate) fn wire_bytes(&self) -> u64 {
        u64::try_from(LENGTH_BYTES + self.bytes.len()).unwrap_or(u64::MAX)
    }
}

/// Why no further request can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The client went away in the middle.
    #[error("the client closed the connection within a request")]
    Truncated,
    /// Nothing came for too long.
    #[error("idle for {0:?}")]
    Idle(Duration),
    /// A request began and did not end.
    #[error("a request was not complete after {0:?}")]
    Incomplete(Duration),
    /// It never was a Kafka client.
    #[error("{}", .0.explanation())]
    WrongProtocol(WrongProtocol),
    /// No request is that short or that long.
    #[error("a request of {length} bytes; the limit is {limit}")]
    Length {
        /// What the client announced.
        length: i32,
        /// What a request of this kind may have.
        limit: usize,
    },
    /// Not an API of this broker.
    #[error("API key {} (version {}) is not served", .0.api_key, .0.api_version)]
    UnknownApi(RequestPrefix),
    /// Not a version this broker serves.
    #[error("version {} of API {} is not served; {min} to {max} are", .prefix.api_version, .prefix.api_key)]
    UnsupportedVersion {
        /// What came.
        prefix: RequestPrefix,
        /// The lowest that is served.
        min: i16,
        /// The highest that is served.
        max: i16,
    },
    /// The connection broke.
    #[error("read from the socket: {0}")]
    Io(#[from] io::Error),
}

/// Cuts what comes over a connection into requests.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    source: R,
    buffer: BytesMut,
    /// How much to ask for at once; doubles when a read fills it, halves when reads stay small.
    chunk_bytes: usize,
    timer: Timer,
    limits: Arc<FrameLimits>,
    memory: RequestMemory,
    is_first: bool,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader over `source`. To be made within a runtime.
    pub(crate) fn new(source: R, limits: Arc<FrameLimits>, memory: RequestMemory) -> Self {
        let timer = Timer::new(limits.idle_timeout);
        Self {
            source,
            buffer: BytesMut::new(),
            chunk_bytes: CHUNK_BYTES_MIN,
            timer,
            limits,
            memory,
            is_first: true,
        }
    }

    /// The next request; `None` when the client closed the connection between two.
    ///
    /// Idle time counts from the call; it does not end the connection while `is_busy` says that earlier requests are still
    /// being answered.
    pub(crate) async fn next(&mut self, is_busy: impl Fn() -> bool) -> Result<Option<Frame>, FrameError> {
        if !self.wait_for_beginning(is_busy).await? {
            return Ok(None);
        }
        self.timer.limit(self.limits.frame_timeout);
        self.fill(LENGTH_BYTES).await?;
        let length = self.check_signature()?;
        self.fill(LENGTH_BYTES + PREFIX_BYTES).await?;
        let prefix = self.buffer.get(LENGTH_BYTES..).and_then(RequestPrefix::peek);
        let prefix = prefix.expect("the buffer holds the prefix");
        let (admission, class) = admit(prefix)?;
        let length = self.check_length(length, class)?;
        self.timer.limit(self.limits.frame_time(length));
        let memory = match self.memory.try_take(length, class) {
            Some(memory) => memory,
            None => self.memory.take(length, class).await,
        };
        let bytes = self.read_body(length).await?;
        self.is_first = false;
        Ok(Some(Frame {
            prefix,
            admission,
            bytes,
            memory,
        }))
    }

    /// Whether all of a Produce request is here already, so that [`Self::next`] gives it unless memory is short.
    pub(crate) fn has_produce(&self) -> bool {
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH_BYTES>() else {
            return false;
        };
        let is_complete =
            usize::try_from(i32::from_be_bytes(*length)).is_ok_and(|length| length <= rest.len());
        is_complete && RequestPrefix::peek(rest).is_some_and(|prefix| apis::admit(prefix).is_produce())
    }

    /// Reads up to `count` bytes and forgets them, or to the end of the stream.
    pub(crate) async fn discard(&mut self, count: usize) -> io::Result<()> {
        let mut rest = (&mut self.source).take(u64::try_from(count).unwrap_or(u64::MAX));
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        Ok(())
    }

    /// Waits for the first byte of a request; false when the connection ended instead.
    async fn wait_for_beginning(&mut self, is_busy: impl Fn() -> bool) -> Result<bool, FrameError> {
        let quiet = QUIET.min(self.limits.idle_timeout);
        let mut waits = [quiet, self.limits.idle_timeout.saturating_sub(quiet)].into_iter();
        self.timer.limit(waits.next().unwrap_or(quiet));
        while self.buffer.is_empty() {
            match self.read_some(1).await {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(FrameError::Incomplete(_)) => {
                    self.buffer = BytesMut::new();
                    self.chunk_bytes = CHUNK_BYTES_MIN;
                    match waits.next() {
                        Some(rest) => self.timer.limit(rest),
                        None if is_busy() => self.timer.limit(self.limits.idle_timeout),
                        None => return Err(FrameError::Idle(self.limits.idle_timeout)),
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Ok(true)
    }

    /// Reads until the buffer holds `count` bytes.
    async fn fill(&mut self, count: usize) -> Result<(), FrameError> {
        while self.buffer.len() < count {
            if self.read_some(count - self.buffer.len()).await? == 0 {
                return Err(FrameError::Truncated);
            }
        }
        Ok(())
    }

    fn check_signature(&self) -> Result<i32, FrameError> {
        let first: [u8; SIGNATURE_BYTES] = *self.buffer.first_chunk().expect("the buffer holds the length");
        if self.is_first
            && let Some(protocol) = WrongProtocol::recognise(first)
        {
            return Err(FrameError::WrongProtocol(protocol));
        }
        let length = i32::from_be_bytes(first);
        // Checked here against the widest limit, so that the prefix of nonsense is not waited for.
        self.check_length(length, FrameClass::Records)?;
        Ok(length)
    }

    fn check_length(&self, length: i32, class: FrameClass) -> Result<usize, FrameError> {
        let limit = match class {
            FrameClass::Records => self.limits.records_frame_bytes_max,
            FrameClass::Opaque => self.limits.opaque_frame_bytes_max,
            FrameClass::Structure => self.limits.structure_frame_bytes_max,
        };
        match usize::try_from(length) {
            Ok(bytes) if PREFIX_BYTES <= bytes && bytes <= limit => Ok(bytes),
            _ => Err(FrameError::Length { length, limit }),
        }
    }

    async fn read_body(&mut self, length: usize) -> Result<Bytes, FrameError> {
        if length <= OWN_BUFFER_BYTES {
            self.fill(LENGTH_BYTES + length).await?;
            self.buffer.advance(LENGTH_BYTES);
            return Ok(self.buffer.split_to(length).freeze());
        }
        // The next one is likely as large: what comes with its beginning is copied, so that should be little.
        self.chunk_bytes = CHUNK_BYTES_MIN;
        self.buffer.advance(LENGTH_BYTES);
        let here = self.buffer.len().min(length);
        let mut body = BytesMut::with_capacity(length);
        body.extend_from_slice(&self.buffer.split_to(here));
        while body.len() < length {
            let missing = length - body.len();
            let read = read_timed(&mut self.source, &mut self.timer, &mut body, missing);
            if read.await? == 0 {
                return Err(FrameError::Truncated);
            }
        }
        Ok(body.freeze())
    }

    /// One read into the buffer, which has room for `missing` bytes at least. The number of bytes, 0 at the end of the stream.
    async fn read_some(&mut self, missing: usize) -> Result<usize, FrameError> {
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < missing.max(self.chunk_bytes / 4) {
            self.buffer.reserve(missing.max(self.chunk_bytes));
        }
        let room = (self.buffer.capacity() - self.buffer.len()).min(missing.max(self.chunk_bytes));
        let read = read_timed(&mut self.source, &mut self.timer, &mut self.buffer, room).await?;
        if read == room {
            self.chunk_bytes = (self.chunk_bytes * 2).min(CHUNK_BYTES_MAX);
        } else if read < self.chunk_bytes / 4 {
            self.chunk_bytes = (self.chunk_bytes / 2).max(CHUNK_BYTES_MIN);
        }
        Ok(read)
    }
}

fn admit(prefix: RequestPrefix) -> Result<(Admission, FrameClass), FrameError> {
    let admission = apis::admit(prefix);
    match admission {
        Admission::Serve(api) => Ok((admission, api.frame_class)),
        Admission::NegotiateDown => Ok((admission, FrameClass::Structure)),
        Admission::UnknownApi => Err(FrameError::UnknownApi(prefix)),
        Admission::UnsupportedVersion(api) => Err(FrameError::UnsupportedVersion {
            prefix,
            min: api.served_min,
            max: api.served_max,
        }),
    }
}

/// Reads at most `room` bytes to the end of `buffer`, into memory that need not be cleared first, unless the timer is quicker.
async fn read_timed<R: AsyncRead + Unpin>(
    source: &mut R,
    timer: &mut Timer,
    buffer: &mut BytesMut,
    room: usize,
) -> Result<usize, FrameError> {
    let mut room = buffer.limit(room);
    let mut read = pin!(source.read_buf(&mut room));
    poll_fn(|context| match read.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result.map_err(FrameError::Io)),
        Poll::Pending => {
            let waited = ready!(timer.poll_expired(context));
            Poll::Ready(Err(FrameError::Incomplete(waited)))
        }
    })
    .await
}

/// One timer for all waits of a connection.
///
/// A limit counts from the first time something waits under it, so what is there at once never asks for the time; and the
/// runtime's timer is set again only when it would ring too late, or rang too early.
#[derive(Debug)]
struct Timer {
    sleep: Pin<Box<Sleep>>,
    wait: Duration,
    until: Option<Instant>,
}

impl Timer {
    fn new(wait: Duration) -> Self {
        Self {
            sleep: Box::pin(tokio::time::sleep(wait)),
            wait,
            until: None,
        }
    }

    /// Begins a new limit.
    fn limit(&mut self, wait: Duration) {
        self.wait = wait;
        self.until = None;
    }

    /// Ready with the time waited once the limit has passed.
    fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<Duration> {
        let until = *self
            .until
            .get_or_insert_with(|| Instant::now() + self.wait.min(WAIT_MAX));
        if until < self.sleep.deadline() {
            self.sleep.as_mut().reset(until);
        }
        loop {
            ready!(self.sleep.as_mut().poll(context));
            if until <= self.sleep.deadline() {
                return Poll::Ready(self.wait);
            }
            self.sleep.as_mut().reset(until);
        }
    }
}

#[cfg(test)]
mod tests;
