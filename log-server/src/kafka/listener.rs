//! Accepts connections on the Kafka port, within limits, and owns their tasks to the end.
//!
//! A connection above a limit is closed at once with a line in the log: the client sees it and tries elsewhere or later,
//! which is kinder than a connection that nobody answers. An error of `accept` (usually: no file descriptors left) is waited
//! out; the listener never gives up.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::config::keys::BrokerConfig;
use crate::kafka::apis;
use crate::kafka::connection::{self, CloseReason, ConnectionSettings, Dispatch, End};
use crate::kafka::dispatch::Dispatcher;
use crate::kafka::frame::{FrameError, FrameLimits};
use crate::kafka::line_limit::LineLimit;
use crate::kafka::memory::RequestMemory;
use crate::kafka::request_context::{ConnectionInfo, Endpoint};
use crate::kafka::services::Services;
use crate::kafka::traced::Traced;
use crate::metrics::front::{FrontMetrics, Refusal};
use crate::shutdown::ShutdownSignal;
use crate::spans::tracer::Tracer;

/// How long to wait when the system gives no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The settings of the Kafka port, as configuration gives them.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// What clients are told to connect to; `None`: the address through which each came.
    pub advertised: Option<Endpoint>,
    /// Where HTTP is served, to be named to those who speak it here.
    pub http_address: Option<String>,
    /// The largest request that carries records (`socket.request.max.bytes`).
    pub records_frame_bytes_max: usize,
    /// The largest request that carries what only clients understand: members' metadata and assignments.
    pub opaque_frame_bytes_max: usize,
    /// The largest request of any other kind.
    pub structure_frame_bytes_max: usize,
    /// What all requests in flight may take of memory together.
    pub request_memory_bytes: u64,
    /// Connections at the same time (`max.connections`).
    pub connections_max: usize,
    /// Connections at the same time from one address (`max.connections.per.ip`).
    pub connections_per_address_max: usize,
    /// Requests of one connection that may wait for their answers.
    pub in_flight_per_connection_max: usize,
    /// `connections.max.idle.ms`.
    pub idle_timeout: Duration,
    /// A request that has begun must be complete within this time, plus its size at 128 KiB/s.
    pub frame_timeout: Duration,
    /// How long answers may take to leave when the broker stops.
    pub drain_timeout: Duration,
}

impl ListenerSettings {
    /// As the broker's configuration says.
    #[must_use]
    pub fn from_config(
        config: &BrokerConfig,
        advertised: Option<Endpoint>,
        http_address: Option<String>,
    ) -> Self {
        let base = Self::default();
        Self {
            advertised,
            http_address,
            records_frame_bytes_max: config.socket_request_max_bytes,
            opaque_frame_bytes_max: base.opaque_frame_bytes_max.min(config.socket_request_max_bytes),
            structure_frame_bytes_max: base
                .structure_frame_bytes_max
                .min(config.socket_request_max_bytes),
            // -1 is "no limit".
            request_memory_bytes: u64::try_from(config.queued_max_request_bytes).unwrap_or(u64::MAX),
            connections_max: config.max_connections,
            connections_per_address_max: config.max_connections_per_ip,
            in_flight_per_connection_max: config.connection_requests_max,
            idle_timeout: config.connections_max_idle,
            frame_timeout: config.request_receive_timeout,
            ..base
        }
    }
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            advertised: None,
            http_address: None,
            records_frame_bytes_max: 100 << 20,
            // Assignments of 100,000 partitions, ten times over.
            opaque_frame_bytes_max: 8 << 20,
            structure_frame_bytes_max: 1 << 20,
            request_memory_bytes: 256 << 20,
            connections_max: 10_000,
            connections_per_address_max: usize::MAX,
            in_flight_per_connection_max: 128,
            idle_timeout: Duration::from_mins(10),
            frame_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// A bound port, not yet served.
#[derive(Debug)]
pub struct KafkaListener {
    socket: TcpListener,
    settings: ListenerSettings,
    metrics: Arc<FrontMetrics>,
}

impl KafkaListener {
    /// Binds `address`.
    ///
    /// # Errors
    /// As the system gives them: the port is taken, the address is not ours.
    pub async fn bind(address: SocketAddr, settings: ListenerSettings) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self {
            socket,
            settings,
            metrics: Arc::new(apis::metrics()),
        })
    }

    /// What its connections count.
    #[must_use]
    pub fn metrics(&self) -> Arc<FrontMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Where it listens; with the port that the system chose, if it was asked to.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves these services until "stop" is said, then until every connection has ended. A tracer looks at some requests, if there is one.
    pub async fn serve(self, services: Arc<Services>, tracer: Option<Arc<Tracer>>) {
        let shutdown = services.shutdown.clone();
        let dispatcher = Dispatcher::new(services);
        match tracer {
            None => self.serve_with(Arc::new(dispatcher), shutdown).await,
            Some(tracer) => {
                let dispatcher = Traced::new(dispatcher, tracer);
                self.serve_with(Arc::new(dispatcher), shutdown).await;
            }
        }
    }

    /// Serves until "stop" is said, then until every connection has ended.
    pub(crate) async fn serve_with<D: Dispatch>(self, dispatch: Arc<D>, mut shutdown: ShutdownSignal) {
        let metrics = &self.metrics;
        let service = Service::new(&self.settings, dispatch, Arc::clone(metrics), shutdown.clone());
        let service = Arc::new(service);
        let counts = Arc::new(ConnectionCounts::new(&self.settings));
        let mut tasks = JoinSet::new();
        let mut next_id = 0;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = shutdown.requested() => break,
                ended = tasks.join_next(), if !tasks.is_empty() => {
                    report_panic(ended);
                    continue;
                }
                accepted = self.socket.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if service.lines.admit().is_some() {
                        tracing::warn!(%error, "cannot accept a Kafka connection; trying again shortly");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match counts.admit(peer.ip()) {
                Ok(place) => {
                    next_id += 1;
                    metrics.accepted.add(1);
                    let counted = metrics.connections.hold();
                    let service = Arc::clone(&service);
                    tasks.spawn(async move {
                        service.serve(stream, peer, next_id).await;
                        drop((place, counted));
                    });
                }
                Err((refusal, reason)) => {
                    metrics.refused(refusal);
                    service.complain(peer, format_args!("Kafka connection refused: {reason}"));
                }
            }
        }
        drop(self.socket);
        while let Some(ended) = tasks.join_next().await {
            report_panic(Some(ended));
        }
    }
}

fn report_panic(ended: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = ended {
        tracing::error!(%error, "a Kafka connection ended by a mistake of ours");
    }
}

/// What the connections share.
struct Service<D> {
    dispatch: Arc<D>,
    settings: ConnectionSettings,
    memory: RequestMemory,
    advertised: Option<Endpoint>,
    shutdown: ShutdownSignal,
    lines: LineLimit,
}

impl<D: Dispatch> Service<D> {
    fn new(
        settings: &ListenerSettings,
        dispatch: Arc<D>,
        metrics: Arc<FrontMetrics>,
        shutdown: ShutdownSignal,
    ) -> Self {
        let frames = FrameLimits {
            records_frame_bytes_max: settings.records_frame_bytes_max,
            opaque_frame_bytes_max: settings.opaque_frame_bytes_max,
            structure_frame_bytes_max: settings.structure_frame_bytes_max,
            idle_timeout: settings.idle_timeout,
            frame_timeout: settings.frame_timeout,
            frame_bytes_per_second_min: 128 << 10,
        };
        Self {
            dispatch,
            settings: ConnectionSettings {
                frames: Arc::new(frames),
                in_flight_max: settings.in_flight_per_connection_max,
                write_timeout: settings.idle_timeout,
                drain_timeout: settings.drain_timeout,
                http_address: settings.http_address.as_deref().map(Arc::from),
                metrics,
            },
            memory: RequestMemory::new(settings.request_memory_bytes),
            advertised: settings.advertised.clone(),
            shutdown,
            lines: LineLimit::new(),
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, id: u64) {
        let local = match prepare(&stream) {
            Ok(local) => local,
            Err(error) => {
                tracing::debug!(%peer, %error, "the connection was gone before it began");
                return;
            }
        };
        let advertised = self
            .advertised
            .clone()
            .unwrap_or_else(|| Endpoint::reached(local));
        let connection = Arc::new(ConnectionInfo::new(id, peer, advertised));
        let (reader, writer) = stream.into_split();
        let end = connection::run(
            reader,
            writer,
            &*self.dispatch,
            connection,
            &self.settings,
            self.memory.clone(),
            self.shutdown.clone(),
        )
        .await;
        if let Some(refusal) = refusal(&end) {
            self.settings.metrics.refused(refusal);
        }
        self.log_end(peer, &end);
    }

    /// What clients do every day is told in a whisper, what an operator should look at aloud.
    fn log_end(&self, peer: SocketAddr, end: &End) {
        match end {
            End::ByClient | End::Shutdown | End::Write(_) => {
                tracing::debug!(%peer, "Kafka connection ended: {end}");
            }
            End::Frame(FrameError::Io(_) | FrameError::Truncated | FrameError::Idle(_)) => {
                tracing::debug!(%peer, "Kafka connection ended: {end}");
            }
            End::Request(CloseReason::Response(_)) => {
                tracing::error!(%peer, "Kafka connection closed: {end}");
            }
            End::Frame(_) | End::Request(_) | End::SlowReader(_) => {
                self.complain(peer, format_args!("Kafka connection closed: {end}"));
            }
        }
    }

    /// A line about a client, unless there were too many.
    fn complain(&self, peer: SocketAddr, line: fmt::Arguments<'_>) {
        match self.lines.admit() {
            Some(0) => tracing::warn!(%peer, "{line}"),
            Some(left_out) => tracing::warn!(%peer, left_out, "{line}; lines like it were left out before"),
            None => {}
        }
    }
}

/// Whether the broker ended a connection because of what its client did.
fn refusal(end: &End) -> Option<Refusal> {
    match end {
        End::Frame(error) => match error {
            FrameError::Incomplete(_) => Some(Refusal::Incomplete),
            FrameError::WrongProtocol(_) => Some(Refusal::WrongProtocol),
            FrameError::Length { .. } => Some(Refusal::Length),
            FrameError::UnknownApi(_) => Some(Refusal::UnknownApi),
            FrameError::UnsupportedVersion { .. } => Some(Refusal::UnsupportedVersion),
            FrameError::Truncated | FrameError::Idle(_) | FrameError::Io(_) => None,
        },
        End::Request(CloseReason::Malformed { .. }) => Some(Refusal::Malformed),
        End::Request(CloseReason::UnacknowledgedProduceFailed(_)) => Some(Refusal::Unacknowledged),
        End::SlowReader(_) => Some(Refusal::SlowReader),
        End::Request(CloseReason::Response(_)) | End::ByClient | End::Shutdown | End::Write(_) => None,
    }
}

fn prepare(stream: &TcpStream) -> io::Result<SocketAddr> {
    // Responses leave when they are complete; nothing is gained by waiting for more.
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_keepalive(true)?;
    stream.local_addr()
}

/// Counts connections, in all and by address.
#[derive(Debug)]
struct ConnectionCounts {
    max: usize,
    per_address_max: usize,
    by_address: Mutex<ByAddress>,
}

#[derive(Debug, Default)]
struct ByAddress {
    total: usize,
    counts: HashMap<IpAddr, usize>,
}

/// One counted connection; dropping it takes it off.
#[derive(Debug)]
struct Place {
    counts: Arc<ConnectionCounts>,
    address: IpAddr,
}

impl ConnectionCounts {
    fn new(settings: &ListenerSettings) -> Self {
        Self {
            max: settings.connections_max,
            per_address_max: settings.connections_per_address_max,
            by_address: Mutex::default(),
        }
    }

    fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, (Refusal, String)> {
        let mut open = self.by_address.lock();
        if self.max <= open.total {
            let reason = format!("{} connections are open (max.connections)", open.total);
            return Err((Refusal::TooManyConnections, reason));
        }
        let count = open.counts.get(&address).copied().unwrap_or(0);
        if self.per_address_max <= count {
            let reason = format!("{count} connections from {address} are open (max.connections.per.ip)");
            return Err((Refusal::TooManyFromAddress, reason));
        }
        open.total += 1;
        open.counts.insert(address, count + 1);
        Ok(Place {
            counts: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.counts.by_address.lock();
        open.total -= 1;
        if let Some(count) = open.counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_in_all_and_by_address() {
        let config = BrokerConfig {
            max_connections: 3,
            max_connections_per_ip: 2,
            ..BrokerConfig::default()
        };
        let settings = ListenerSettings::from_config(&config, None, None);
        let counts = Arc::new(ConnectionCounts::new(&settings));
        let [here, there] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(IpAddr::from);
        let first = counts.admit(here).unwrap();
        let _second = counts.admit(here).unwrap();
        assert!(
            counts
                .admit(here)
                .unwrap_err()
                .1
                .contains("max.connections.per.ip")
        );
        let third = counts.admit(there).unwrap();
        assert!(counts.admit(there).unwrap_err().1.contains("(max.connections)"));
        drop(first);
        let _fourth = counts.admit(here).unwrap();
        drop(third);
        assert!(!counts.by_address.lock().counts.contains_key(&there));
    }
}
