//! One connection to one broker: requests out, responses in, matched by their order.
//!
//! A broker answers in request order, so what is on its way stands in a queue whose front the next
//! response must answer. Requests are written straight to the socket by whoever sends them; only what the
//! socket does not take at once is left to the writer task. A request that is not answered in time closes
//! the connection, because everything behind it is late too.
//!
//! Invariants: an entry enters the queue before its bytes reach the socket, under the writer's lock, so
//! that the queue has the order of the wire. After `close` nothing enters, and every entry has been told.
//! Finding brokers and trying again is the business of `cluster`; how requests become bytes is `frame`'s.

mod frame;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use frame::{NextFrame, decode, encode, next_frame};
use log_core::protocol::messages::{ApiVersionsRequestData, ApiVersionsResponseData};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString, Message, Request};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;

use crate::api_versions::{ApiVersions, client_versions};
use crate::config::ClientConfig;
use crate::error::{self, Error, Result};

/// How much room a read finds at least: a turn of the socket, not a request.
const READ_BYTES_MIN: usize = 64 << 10;

/// The first version of `ApiVersions` to be tried; the broker names its own range if it is too new.
const API_VERSIONS_FIRST: i16 = 4;

/// A connection to one broker. Clones share it; the last one closes it.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close(&Error::Closed("connection"));
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Shared {
    address: Arc<str>,
    client_id: KafkaString,
    request_timeout: Duration,
    response_bytes_max: usize,
    versions: OnceLock<ApiVersions>,
    stream: TcpStream,
    writer: Mutex<Writer>,
    backlog_grew: Notify,
    waiting: Mutex<Waiting>,
    closing: Notify,
    permits: Arc<Semaphore>,
}

/// What has been sent but not taken by the socket.
#[derive(Default)]
struct Writer {
    next_correlation_id: i32,
    backlog: VecDeque<Outgoing>,
}

struct Outgoing {
    frame: Bytes,
    /// Told when the socket has all of it; for requests that are not answered.
    written: Option<oneshot::Sender<()>>,
}

impl Outgoing {
    fn tell(self) {
        if let Some(written) = self.written {
            // Whoever sent it may have stopped waiting.
            written.send(()).ok();
        }
    }
}

/// What has been sent but not answered, in order.
#[derive(Default)]
struct Waiting {
    requests: VecDeque<WaitingRequest>,
    closed: Option<Error>,
}

struct WaitingRequest {
    correlation_id: i32,
    answer: oneshot::Sender<Result<Bytes>>,
    _permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("address", &self.inner.shared.address)
            .field("is_open", &self.is_open())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to `address` (`host:port`) and asks the broker which versions it serves.
    ///
    /// # Errors
    /// [`Error::Connect`] when nothing answers there, and whatever the exchange of versions can end in.
    pub async fn open(address: &str, config: &ClientConfig) -> Result<Self> {
        let address: Arc<str> = address.into();
        let failed = |source: io::Error| Error::Connect {
            address: Arc::clone(&address),
            source: Arc::new(source),
        };
        let stream = tokio::time::timeout(config.connect_timeout, TcpStream::connect(&*address))
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
            .map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;

        let shared = Arc::new(Shared {
            address,
            client_id: KafkaString::from(config.client_id.clone()),
            request_timeout: config.request_timeout,
            response_bytes_max: config.response_bytes_max,
            versions: OnceLock::new(),
            stream,
            writer: Mutex::default(),
            backlog_grew: Notify::new(),
            waiting: Mutex::default(),
            closing: Notify::new(),
            permits: Arc::new(Semaphore::new(config.in_flight_max)),
        });
        let reader = tokio::spawn(until_closed(Arc::clone(&shared), read_responses));
        let writer = tokio::spawn(until_closed(Arc::clone(&shared), write_backlog));
        let connection = Self {
            inner: Arc::new(Inner {
                shared,
                tasks: [reader.abort_handle(), writer.abort_handle()],
            }),
        };
        let versions = connection.exchange_versions().await?;
        connection.inner.shared.versions.get_or_init(|| versions);
        Ok(connection)
    }

    /// Asks for the broker's versions: first as this client would like to, then in the broker's words.
    async fn exchange_versions(&self) -> Result<ApiVersions> {
        let mut version = API_VERSIONS_FIRST;
        loop {
            let request = ApiVersionsRequestData {
                client_software_name: KafkaString::from_static("stratalog"),
                client_software_version: KafkaString::from_static(env!("CARGO_PKG_VERSION")),
                ..ApiVersionsRequestData::default()
            };
            let pending = self.start(&request, version).await?;
            let response: ApiVersionsResponseData = self.within(self.request_timeout(), pending).await?;
            let too_new = ErrorCode::from(response.error_code) == ErrorCode::UnsupportedVersion;
            let versions = ApiVersions::from_response(&response);
            if !too_new {
                error::check(ApiKey::ApiVersions, response.error_code, "", None)?;
                return Ok(versions);
            }
            // A broker that does not say what it speaks speaks version 0.
            let next = versions.common(ApiKey::ApiVersions).unwrap_or(0);
            if version <= next {
                return Err(self.unsupported(ApiKey::ApiVersions, &versions));
            }
            version = next;
        }
    }

    /// The address it was opened to.
    #[must_use]
    pub fn address(&self) -> &Arc<str> {
        &self.inner.shared.address
    }

    /// What the broker serves.
    #[must_use]
    pub fn versions(&self) -> &ApiVersions {
        self.inner.shared.versions.get_or_init(ApiVersions::default)
    }

    /// Whether requests can be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inner.shared.waiting.lock().closed.is_none()
    }

    /// How long a request may take when its caller does not say.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.inner.shared.request_timeout
    }

    /// The version to use of an API.
    ///
    /// # Errors
    /// [`Error::UnsupportedApi`] when both sides have none in common.
    pub fn version(&self, api: ApiKey) -> Result<i16> {
        let versions = self.versions();
        versions
            .common(api)
            .ok_or_else(|| self.unsupported(api, versions))
    }

    /// The version to use of an API for a request that needs at least `lowest`.
    ///
    /// # Errors
    /// [`Error::UnsupportedApi`] when both sides have none in common from there.
    pub fn version_from(&self, api: ApiKey, lowest: i16) -> Result<i16> {
        let version = self.version(api)?;
        if version < lowest {
            return Err(self.unsupported(api, self.versions()));
        }
        Ok(version)
    }

    fn unsupported(&self, api: ApiKey, versions: &ApiVersions) -> Error {
        Error::UnsupportedApi {
            address: Arc::clone(self.address()),
            api,
            client: client_versions(api),
            broker: versions.broker_versions(api),
        }
    }

    /// Sends a request in the newest common version and waits for its answer.
    ///
    /// # Errors
    /// Of the connection or the codec; an error code within the response is the caller's to read.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response> {
        let version = self.version(R::API_KEY)?;
        self.call_version(request, version, self.request_timeout()).await
    }

    /// Sends a request in `version` and waits at most `timeout` for its answer.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn call_version<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<R::Response> {
        let exchange = async { self.start(request, version).await?.answer().await };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(self.time_out(R::API_KEY, timeout)),
        }
    }

    /// Sends a request, waiting only for its turn; the answer is awaited with [`Connection::within`].
    ///
    /// # Errors
    /// [`Error::Disconnected`] and its like, and [`Error::Unwritable`].
    pub async fn start<R: Request>(&self, request: &R, version: i16) -> Result<PendingResponse<R::Response>> {
        let shared = &self.inner.shared;
        let permit = shared.permit().await?;
        let mut frame = encode(R::API_KEY, version, &shared.client_id, request)?;
        let (answer, receiver) = oneshot::channel();

        let mut writer = shared.writer.lock();
        let correlation_id = writer.stamp(&mut frame);
        {
            let mut waiting = shared.waiting.lock();
            if let Some(error) = &waiting.closed {
                return Err(error.clone());
            }
            waiting.requests.push_back(WaitingRequest {
                correlation_id,
                answer,
                _permit: permit,
            });
        }
        let outgoing = Outgoing {
            frame: frame.freeze(),
            written: None,
        };
        let written = shared.write(&mut writer, outgoing);
        drop(writer);
        if let Err(error) = written {
            shared.close(&error);
        }
        Ok(PendingResponse {
            address: Arc::clone(&shared.address),
            api: R::API_KEY,
            version,
            receiver,
            message: PhantomData,
        })
    }

    /// Sends a request that the broker does not answer (a produce request with `acks=0`), and returns once
    /// the socket has it.
    ///
    /// # Errors
    /// As [`Connection::start`].
    pub async fn send_unanswered<R: Request>(&self, request: &R, version: i16) -> Result<()> {
        let shared = &self.inner.shared;
        let _permit = shared.permit().await?;
        let mut frame = encode(R::API_KEY, version, &shared.client_id, request)?;
        let (written, all_written) = oneshot::channel();
        let result = {
            let mut writer = shared.writer.lock();
            if let Some(error) = &shared.waiting.lock().closed {
                return Err(error.clone());
            }
            writer.stamp(&mut frame);
            let outgoing = Outgoing {
                frame: frame.freeze(),
                written: Some(written),
            };
            shared.write(&mut writer, outgoing)
        };
        if let Err(error) = result {
            shared.close(&error);
        }
        all_written.await.map_err(|_| shared.reason())
    }

    /// Waits for an answer; one that does not come within `timeout` closes the connection.
    ///
    /// # Errors
    /// [`Error::RequestTimedOut`], or what happened to the connection, or what the codec says.
    pub async fn within<M: Message>(&self, timeout: Duration, pending: PendingResponse<M>) -> Result<M> {
        let api = pending.api;
        match tokio::time::timeout(timeout, pending.answer()).await {
            Ok(result) => result,
            Err(_) => Err(self.time_out(api, timeout)),
        }
    }

    fn time_out(&self, api: ApiKey, after: Duration) -> Error {
        let error = Error::RequestTimedOut {
            address: Arc::clone(self.address()),
            api,
            after,
        };
        self.inner.shared.close(&error);
        error
    }

    /// Closes it; whatever waits for an answer is told so.
    pub fn close(&self) {
        self.inner.shared.close(&Error::Closed("connection"));
    }
}

/// An answer that is on its way.
pub struct PendingResponse<M> {
    address: Arc<str>,
    api: ApiKey,
    version: i16,
    receiver: oneshot::Receiver<Result<Bytes>>,
    message: PhantomData<fn() -> M>,
}

impl<M> fmt::Debug for PendingResponse<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PendingResponse")
            .field("api", &self.api)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl<M: Message> PendingResponse<M> {
    async fn answer(self) -> Result<M> {
        let frame = self.receiver.await.unwrap_or(Err(Error::Closed("connection")))?;
        decode(&self.address, self.api, self.version, frame)
    }
}

impl Writer {
    /// Gives the frame the next correlation id.
    fn stamp(&mut self, frame: &mut BytesMut) -> i32 {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        frame::stamp(frame, correlation_id);
        correlation_id
    }
}

impl Shared {
    /// Waits until one more request may be on its way.
    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        match Arc::clone(&self.permits).acquire_owned().await {
            Ok(permit) => Ok(permit),
            Err(_) => Err(self.reason()),
        }
    }

    fn reason(&self) -> Error {
        let closed = self.waiting.lock().closed.clone();
        closed.unwrap_or(Error::Closed("connection"))
    }

    fn lost(&self, reason: impl Into<Arc<str>>) -> Error {
        Error::Disconnected {
            address: Arc::clone(&self.address),
            reason: reason.into(),
        }
    }

    /// Gives the frame to the socket, or as much as it takes, and the rest to the writer task.
    fn write(&self, writer: &mut Writer, mut outgoing: Outgoing) -> Result<()> {
        while writer.backlog.is_empty() {
            match self.stream.try_write(&outgoing.frame) {
                Ok(count) if count < outgoing.frame.len() => outgoing.frame.advance(count),
                Ok(_) => {
                    outgoing.tell();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(self.lost(error.to_string())),
            }
        }
        writer.backlog.push_back(outgoing);
        self.backlog_grew.notify_one();
        Ok(())
    }

    /// Takes the request that the next response must answer.
    fn take_front(&self, correlation_id: i32) -> Result<WaitingRequest> {
        let front = self.waiting.lock().requests.pop_front();
        match front {
            Some(request) if request.correlation_id == correlation_id => Ok(request),
            Some(request) => {
                let text = format!(
                    "it answered request {correlation_id}, but {} was next",
                    request.correlation_id
                );
                let error = self.lost(text);
                drop(request.answer.send(Err(error.clone())));
                Err(error)
            }
            None => Err(self.lost("it answered a request that was not sent")),
        }
    }

    /// Tells everything that waits, once; later calls change nothing.
    fn close(&self, error: &Error) {
        let requests = {
            let mut waiting = self.waiting.lock();
            if waiting.closed.is_some() {
                return;
            }
            waiting.closed = Some(error.clone());
            std::mem::take(&mut waiting.requests)
        };
        self.permits.close();
        self.closing.notify_waiters();
        // Dropping what is left tells those who wait for it to be written.
        self.writer.lock().backlog.clear();
        for request in requests {
            // Whoever asked may have stopped waiting.
            drop(request.answer.send(Err(error.clone())));
        }
    }
}

/// Runs one of the two tasks until it fails or the connection is closed for another reason.
async fn until_closed<F, Fut>(shared: Arc<Shared>, task: F)
where
    F: FnOnce(Arc<Shared>) -> Fut,
    Fut: Future<Output = Error>,
{
    let mut closing = std::pin::pin!(shared.closing.notified());
    closing.as_mut().enable();
    if shared.waiting.lock().closed.is_some() {
        return;
    }
    tokio::select! {
        () = closing => {}
        error = task(Arc::clone(&shared)) => shared.close(&error),
    }
}

/// Writes what the socket did not take at once.
async fn write_backlog(shared: Arc<Shared>) -> Error {
    loop {
        shared.backlog_grew.notified().await;
        while let Some(frame) = front_of(&shared.writer) {
            if let Err(error) = shared.stream.writable().await {
                return shared.lost(error.to_string());
            }
            let mut writer = shared.writer.lock();
            match shared.stream.try_write(&frame) {
                Ok(count) if count < frame.len() => {
                    if let Some(front) = writer.backlog.front_mut() {
                        front.frame.advance(count);
                    }
                }
                Ok(_) => {
                    if let Some(front) = writer.backlog.pop_front() {
                        front.tell();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return shared.lost(error.to_string()),
            }
        }
    }
}

fn front_of(writer: &Mutex<Writer>) -> Option<Bytes> {
    writer.lock().backlog.front().map(|front| front.frame.clone())
}

/// Cuts the incoming bytes into frames and hands each to the request it answers.
async fn read_responses(shared: Arc<Shared>) -> Error {
    let mut buffer = BytesMut::new();
    loop {
        match next_frame(&mut buffer, shared.response_bytes_max) {
            Ok(NextFrame::Whole(frame)) => {
                let Some(prefix) = frame.first_chunk().copied() else {
                    return shared.lost("a response is too short to be one");
                };
                match shared.take_front(i32::from_be_bytes(prefix)) {
                    // Whoever asked may have stopped waiting.
                    Ok(request) => drop(request.answer.send(Ok(frame))),
                    Err(error) => return error,
                }
                continue;
            }
            Ok(NextFrame::Lacks(bytes)) => buffer.reserve(bytes.max(READ_BYTES_MIN)),
            Err(size) => {
                return shared.lost(format!(
                    "it announced a response of {size} bytes, and the limit is {}; does it speak another protocol?",
                    shared.response_bytes_max
                ));
            }
        }
        if let Err(error) = shared.stream.readable().await {
            return shared.lost(error.to_string());
        }
        match shared.stream.try_read_buf(&mut buffer) {
            Ok(0) => return shared.lost("it was closed by the other side"),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return shared.lost(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
