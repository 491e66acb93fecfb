//! Batches of spans on their way to the collector: `POST …/v1/traces`, one at a time, over one connection as long as it holds.
//!
//! What cannot be delivered is dropped and counted: a collector that is down must not fill the memory, nor the log (one line when it begins to fail, and one
//! when it goes on).

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::message::encode;
use super::span::Span;
use super::tracer::TracerSettings;
use crate::metrics::spans::SpanMetrics;
use crate::shutdown::ShutdownSignal;

/// Spans of one message.
const BATCH_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the broker's stop may wait for a collector, for all that is under way and left.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// A collector's answer says which spans it refused; nobody reads it.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A batch that did not arrive.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("connect: {0}")]
    Connect(std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("the answer breaks off: {0}")]
    Answer(axum::Error),
    #[error("the collector answers {0}")]
    Refused(hyper::StatusCode),
    #[error("the collector took longer than {0:?}")]
    Slow(Duration),
}

/// The queue's other end.
#[derive(Debug)]
pub(super) struct Exporter {
    settings: TracerSettings,
    authority: String,
    path: String,
    spans: mpsc::Receiver<Span>,
    /// Those that are being sent, or gathered for that.
    batch: Vec<Span>,
    metrics: Arc<SpanMetrics>,
    connection: Option<Connection>,
    is_failing: bool,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Body>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Exporter {
    pub(super) fn new(
        settings: TracerSettings,
        spans: mpsc::Receiver<Span>,
        metrics: Arc<SpanMetrics>,
    ) -> Self {
        // Settings are checked before, so this is one.
        let uri: Uri = settings.endpoint.parse().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        Self {
            authority: format!("{host}:{}", uri.port_u16().unwrap_or(80)),
            path: format!("{}/v1/traces", uri.path().trim_end_matches('/')),
            settings,
            spans,
            batch: Vec::with_capacity(BATCH_MAX),
            metrics,
            connection: None,
            is_failing: false,
        }
    }

    /// Sends until "stop" is said, and then what is left, while there is time.
    pub(super) async fn run(mut self, shutdown: ShutdownSignal) {
        let mut stopping = shutdown.clone();
        let overdue = async {
            stopping.requested().await;
            sleep(LAST_PATIENCE).await;
        };
        let is_overdue = tokio::select! {
            biased;
            () = self.deliver_all(shutdown) => false,
            () = overdue => true,
        };
        if is_overdue {
            self.note_failure(&ExportError::Slow(LAST_PATIENCE));
        }
        self.spans.close();
        self.metrics
            .dropped
            .add(number(self.batch.len() + self.spans.len()));
    }

    async fn deliver_all(&mut self, mut shutdown: ShutdownSignal) {
        loop {
            tokio::select! {
                biased;
                _ = shutdown.requested() => break,
                () = gather(&mut self.spans, &mut self.batch) => {}
            }
            if self.batch.is_empty() {
                // Nobody is left who could send one.
                return;
            }
            self.deliver().await;
        }
        // What is left, for as long as the collector takes it.
        loop {
            while self.batch.len() < BATCH_MAX
                && let Ok(span) = self.spans.try_recv()
            {
                self.batch.push(span);
            }
            if self.batch.is_empty() {
                return;
            }
            self.deliver().await;
            if self.is_failing {
                return;
            }
        }
    }

    /// Sends the batch. Whatever becomes of it, it is empty afterwards.
    async fn deliver(&mut self) {
        let message = encode(&self.batch, &self.settings.resource);
        let sent = match timeout(PATIENCE, self.send(message.into())).await {
            Ok(sent) => sent,
            Err(_) => Err(ExportError::Slow(PATIENCE)),
        };
        let count = number(self.batch.len());
        self.batch.clear();
        match sent {
            Ok(()) => {
                self.metrics.exported.add(count);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(collector = self.authority, "spans arrive again");
                }
            }
            Err(error) => {
                self.connection = None;
                self.metrics.dropped.add(count);
                self.note_failure(&error);
            }
        }
    }

    fn note_failure(&mut self, error: &ExportError) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(collector = self.authority, %error, "spans are dropped until the collector takes them");
        }
    }

    /// One message, and the answer to it. A connection that was used before may be one that the collector gives up at this moment. If it breaks before
    /// an answer comes, the message is sent over a new one; the collector may then have it twice, which it knows by the ids. A new one that breaks costs
    /// the batch.
    async fn send(&mut self, message: Bytes) -> Result<(), ExportError> {
        let used = self.connection.as_mut();
        if let Some(connection) = used.filter(|connection| !connection.sender.is_closed()) {
            match connection
                .post(&self.authority, &self.path, message.clone())
                .await
            {
                Err(ExportError::Http(error)) if !error.is_parse() => {}
                result => return result,
            }
        }
        let connection = self.connection.insert(connect(&self.authority).await?);
        connection.post(&self.authority, &self.path, message).await
    }
}

impl Connection {
    async fn post(&mut self, authority: &str, path: &str, message: Bytes) -> Result<(), ExportError> {
        self.sender.ready().await?;
        let request = Request::post(path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Body::from(message))
            .expect("its parts are what headers take");
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX)
            .await
            .map_err(ExportError::Answer)?;
        if status.is_success() {
            Ok(())
        } else {
            Err(ExportError::Refused(status))
        }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

async fn connect(authority: &str) -> Result<Connection, ExportError> {
    let stream = TcpStream::connect(authority)
        .await
        .map_err(ExportError::Connect)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its error is the one that the next message meets.
    let task = tokio::spawn(async move { drop(connection.await) });
    Ok(Connection { sender, task })
}

/// Waits for a span, and a little longer for others. Nothing comes when nobody is left who could send one.
async fn gather(spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
    let Some(first) = spans.recv().await else {
        return;
    };
    batch.push(first);
    let others = async {
        while batch.len() < BATCH_MAX
            && let Some(span) = spans.recv().await
        {
            batch.push(span);
        }
    };
    // That time is up is how it usually ends.
    drop(timeout(BATCH_WAIT, others).await);
}
