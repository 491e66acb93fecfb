//! Limits at the HTTP port: how many connections at once, and how long one may be silent.
//!
//! A connection over the limit waits in the kernel's queue until another ends; one that sends nothing for
//! [`SILENCE_MAX`] is closed, whether it stopped before, within or after a request.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::metrics::counter::Held;
use crate::metrics::http_front::HttpMetrics;

/// Health checks need a handful; the API that comes later will make this a setting.
const CONNECTIONS_MAX: usize = 256;
/// Longer than the interval of most health checks, so that they may keep their connection.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// After a failed accept (no more file descriptors, mostly) others get time to close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Hands out at most [`CONNECTIONS_MAX`] connections at a time.
#[derive(Debug)]
pub(super) struct LimitedListener {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    metrics: Arc<HttpMetrics>,
}

impl LimitedListener {
    pub(super) fn new(listener: TcpListener, metrics: Arc<HttpMetrics>) -> Self {
        Self {
            listener,
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            metrics,
        }
    }
}

impl Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedStream, SocketAddr) {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    self.metrics.accepted.add(1);
                    let place = (permit, self.metrics.connections.hold());
                    return (LimitedStream::new(stream, place, SILENCE_MAX), address);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when nothing comes for too long.
#[derive(Debug)]
pub(super) struct LimitedStream {
    stream: TcpStream,
    silence_max: Duration,
    deadline: Pin<Box<Sleep>>,
    _place: (OwnedSemaphorePermit, Held),
}

impl LimitedStream {
    fn new(stream: TcpStream, place: (OwnedSemaphorePermit, Held), silence_max: Duration) -> Self {
        Self {
            stream,
            silence_max,
            deadline: Box::pin(sleep(silence_max)),
            _place: place,
        }
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            this.deadline.as_mut().reset(Instant::now() + this.silence_max);
            return Poll::Ready(result);
        }
        this.deadline
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::metrics::counter::Level;

    #[tokio::test]
    async fn a_silent_connection_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let permits = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
        let level = Arc::new(Level::default());
        let mut limited = LimitedStream::new(stream, (permit, level.hold()), Duration::from_millis(1));
        let error = limited.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(level.get(), 1);
        drop((limited, client));
        assert_eq!(level.get(), 0);
        assert_eq!(permits.available_permits(), 1);
    }
}
