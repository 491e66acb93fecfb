//! What a handler knows about a request besides its body: the connection, the version, who asks.
//! It is read off the connection once, and never changes while a request is carried out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use log_core::protocol::{KafkaString, RequestPrefix};
use parking_lot::Mutex;

use crate::telemetry::client::{Client, ClientSoftware, ConnectionLife};

/// The address that clients are told to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address without brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// The address through which a client came: what it reached once it reaches again.
    #[must_use]
    pub fn reached(local: SocketAddr) -> Self {
        let address = match local.ip() {
            IpAddr::V6(address) => address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
            address @ IpAddr::V4(_) => address,
        };
        Self {
            host: address.to_string().into(),
            port: local.port(),
        }
    }
}

/// What stays the same for all requests of a connection, unless the client says who it is once more.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    /// Distinguishes connections in the log.
    pub(crate) id: u64,
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// Where this client is told to find the broker.
    pub(crate) advertised: Endpoint,
    /// What the client said of its library, by `ApiVersions`.
    software: Mutex<Option<ClientSoftware>>,
    /// Ends with the connection.
    life: ConnectionLife,
}

impl ConnectionInfo {
    /// A connection that has just begun.
    pub(crate) fn new(id: u64, peer: SocketAddr, advertised: Endpoint) -> Self {
        Self {
            id,
            peer,
            advertised,
            software: Mutex::default(),
            life: ConnectionLife::default(),
        }
    }

    /// The client says what its library is. What it says last counts, as in Kafka.
    pub(crate) fn set_software(&self, software: ClientSoftware) {
        *self.software.lock() = Some(software);
    }
}

/// One request's surroundings.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    /// The connection it came over.
    pub(crate) connection: Arc<ConnectionInfo>,
    /// Its API, version and correlation id.
    pub(crate) prefix: RequestPrefix,
    /// The name the client gave itself, for logs; nothing depends on it. A slice of the frame, so it is not kept beyond the request.
    pub(crate) client_id: Option<KafkaString>,
}

impl RequestContext {
    /// The request's version.
    pub(crate) fn version(&self) -> i16 {
        self.prefix.api_version
    }

    /// The client's address as Kafka writes it into groups: `/127.0.0.1`.
    pub(crate) fn client_host(&self) -> String {
        let address = match self.connection.peer.ip() {
            IpAddr::V6(address) => address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
            address @ IpAddr::V4(_) => address,
        };
        format!("/{address}")
    }

    /// The client, for those who keep it in mind.
    pub(crate) fn client(&self) -> Client {
        let software = self.connection.software.lock().clone();
        Client::new(
            self.client_id.as_ref().map(KafkaString::as_str),
            software.unwrap_or_else(ClientSoftware::unknown),
            self.connection.peer,
            self.connection.life.watch(),
        )
    }

    /// The client's name for log lines.
    pub(crate) fn client_id(&self) -> &str {
        self.client_id.as_ref().map_or("", KafkaString::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_a_client_reached_is_the_one_it_is_told() {
        for (local, host, port) in [
            ("127.0.0.1:9092", "127.0.0.1", 9092),
            ("[::ffff:10.0.0.7]:19092", "10.0.0.7", 19092),
            ("[fd00::1]:9092", "fd00::1", 9092),
        ] {
            let endpoint = Endpoint::reached(local.parse().unwrap());
            assert_eq!((&*endpoint.host, endpoint.port), (host, port));
        }
    }
}
