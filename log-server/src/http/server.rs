//! The port: connections, their limits, and their orderly end.
//!
//! | who | what happens |
//! |---|---|
//! | one connection more than `http-max-connections` | is told 503 and closed, and counted; what it sends is thrown away for a moment |
//! | a connection without a whole request head for `http-idle-timeout-ms` | is closed; told 408 before, if some of a head came |
//! | a client that takes nothing of its answer for `http-write-timeout-ms` | is closed |
//! | a client whose request was answered before it was read to its end | gets the answer: what it still sends is thrown away for a moment |
//!
//! A connection that becomes a socket (`socket`) stays in its task, and so within all of these limits, until it ends.
//! At a stop, connections that wait for a request end at once, the others after their answer; streams and sockets hear of it by themselves.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use log_core::model::TimestampMs;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::compression::Compressing;
use super::idle_timer::IdleTimer;
use super::slow_client::PatientStream;
use super::socket::Handover;
use crate::config::keys::BrokerConfig;
use crate::http::problem::{Code, Problem};
use crate::metrics::counter::Held;
use crate::metrics::http_front::HttpMetrics;
use crate::partition::throttle::Throttle;
use crate::shutdown::ShutdownSignal;

/// What a connection buffers of what it reads, heads included. Bodies go through it in pieces.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// After a failed accept (no more file descriptors, mostly) others get time to close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long, and how much, a client may go on sending what nobody wants, so that it reads its answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 8 << 20;
/// So many of those who are refused may still be sending. The others are reset, and may not hear why.
const REFUSED_MAX: usize = 64;
/// Told without looking at the request, so it is written by hand.
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\
    retry-after: 1\r\ncontent-length: 160\r\n\r\n\
    {\"type\":\"urn:stratalog:problem:overloaded\",\"title\":\"Too much is being asked at once\",\"status\":503,\
    \"code\":\"overloaded\",\"detail\":\"http-max-connections are open\"}\n";

/// Serves until "stop" is said, then finishes what is being answered.
///
/// # Errors
/// Never in practice: errors of accepting are waited out.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    metrics: Arc<HttpMetrics>,
    config: Arc<BrokerConfig>,
    mut shutdown: ShutdownSignal,
) -> io::Result<()> {
    let router = Compressing::new(router);
    let permits = Arc::new(Semaphore::new(config.http_max_connections));
    let mut connections = JoinSet::new();
    let mut refused = Refused::new(&config);
    loop {
        tokio::select! {
            biased;
            _ = shutdown.requested() => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            Some(ended) = refused.tasks.join_next() => log_panic(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match Arc::clone(&permits).try_acquire_owned() {
                    Ok(permit) => {
                        metrics.accepted.add(1);
                        let connection = Connection {
                            routes: router.clone(),
                            config: Arc::clone(&config),
                            shutdown: shutdown.clone(),
                            _place: (permit, metrics.connections.hold()),
                        };
                        connections.spawn(connection.serve(stream));
                    }
                    Err(_) => refused.turn_away(stream, peer, &metrics),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log_panic(ended);
    }
    Ok(())
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an HTTP connection panicked");
    }
}

/// Connections that find no place.
struct Refused {
    connections_max: usize,
    /// Those that still send. Nobody waits for them at a stop.
    tasks: JoinSet<()>,
    /// For the line in the log, which a flood would write a thousand times.
    throttle: Throttle,
    began: Instant,
}

impl Refused {
    fn new(config: &BrokerConfig) -> Self {
        Self {
            connections_max: config.http_max_connections,
            tasks: JoinSet::new(),
            throttle: Throttle::default(),
            began: Instant::now(),
        }
    }

    /// Says that there is no place, as far as that can be said without waiting.
    fn turn_away(&mut self, stream: TcpStream, peer: SocketAddr, metrics: &HttpMetrics) {
        metrics.refused.add(1);
        let since = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        if self.throttle.is_due(TimestampMs::new(since)) {
            tracing::warn!(
                %peer, refused = metrics.refused.get(),
                "HTTP connection refused: {} connections are open (http-max-connections)", self.connections_max
            );
        }
        // A client that does not hear it sees the connection closed.
        drop(stream.try_write(BUSY.as_bytes()));
        if self.tasks.len() < REFUSED_MAX {
            self.tasks.spawn(linger(stream));
        }
    }
}

/// One connection.
struct Connection {
    routes: Compressing,
    config: Arc<BrokerConfig>,
    shutdown: ShutdownSignal,
    _place: (OwnedSemaphorePermit, Held),
}

impl Connection {
    async fn serve(mut self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "an HTTP connection ended early");
            return;
        }
        let stream = PatientStream::new(stream, self.config.http_write_timeout);
        let (routes, handover) = (self.routes, Handover::default());
        let place = handover.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            if request.extensions().get::<OnUpgrade>().is_some() {
                request.extensions_mut().insert(place.clone());
            }
            routes.answer(request)
        });
        let mut connection = http1::Builder::new()
            .timer(IdleTimer::default())
            .header_read_timeout(self.config.http_idle_timeout)
            .max_buf_size(READ_BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut is_stopping = false;
        let result = loop {
            tokio::select! {
                biased;
                result = poll_fn(|context| connection.poll_without_shutdown(context)) => break result,
                _ = self.shutdown.requested(), if !is_stopping => {
                    is_stopping = true;
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
            }
        };
        let http1::Parts { io, read_buf, .. } = connection.into_parts();
        let stream = io.into_inner();
        if let Err(error) = result {
            tracing::debug!(%error, "an HTTP connection ended early");
            // Who said nothing has nothing to hear, and who takes nothing cannot.
            if error.is_timeout() && !read_buf.is_empty() && !stream.is_held_up() {
                give_up_on_head(stream).await;
            }
            return;
        }
        linger(match handover.take() {
            // Most connections never become one, and have no room for it.
            Some(session) => Box::pin(session.run(stream, read_buf)).await,
            None => stream,
        })
        .await;
    }
}

/// Ends a connection on which a request began and did not come.
async fn give_up_on_head(mut stream: PatientStream) {
    let text = "the head of a request took longer than http-idle-timeout-ms";
    let answer = Problem::new(Code::TimedOutReading, text).last_words();
    if stream.write_all(answer.as_bytes()).await.is_ok() {
        linger(stream).await;
    }
}

/// Ends a connection so that the last answer arrives: one that is closed with bytes unread is reset, and takes the answer with it.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let throw_away = async {
        let mut buffer = [0; 4096];
        let mut left = LINGER_BYTES;
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            match left.checked_sub(count) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whoever goes on sending for longer is cut off.
    drop(timeout(LINGER, throw_away).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let (head, body) = BUSY.split_once("\r\n\r\n").unwrap();
        let announced = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(announced, Some(&*body.len().to_string()));
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
