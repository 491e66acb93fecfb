//! Who a client instance is: the id that the broker gave it, the library it is, where it comes from, and whether the connection that brought it
//! is still there.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Weak};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::client_metrics::ClientAttribute;

/// One life of a client. It keeps the id when it goes to another broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientInstanceId([u8; 16]);

impl ClientInstanceId {
    /// What a client says that has none yet.
    pub const NONE: Self = Self([0; 16]);
    /// Kafka keeps 0 and 1 for itself.
    const ONE: Self = Self(1_u128.to_be_bytes());

    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Whether no client has it.
    #[must_use]
    pub fn is_reserved(self) -> bool {
        self == Self::NONE || self == Self::ONE
    }

    /// All of it in 32 bits, as Java's hash of a UUID has it: a part of a subscription's id.
    #[must_use]
    pub fn folded(self) -> u32 {
        let (words, _) = self.0.as_chunks::<4>();
        words
            .iter()
            .fold(0, |folded, word| folded ^ u32::from_be_bytes(*word))
    }
}

impl fmt::Display for ClientInstanceId {
    /// URL-safe base64 without padding, as Kafka prints it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// The text is no client instance's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not 22 characters of URL-safe base64")]
pub struct NotAnId;

impl FromStr for ClientInstanceId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAnId)?;
        bytes.try_into().map(Self).map_err(|_| NotAnId)
    }
}

/// What a client says of its library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSoftware {
    /// Such as `apache-kafka-java`.
    pub name: Arc<str>,
    /// Its release.
    pub version: Arc<str>,
}

impl ClientSoftware {
    /// A client that said nothing is Kafka's `unknown`.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            name: Arc::from("unknown"),
            version: Arc::from("unknown"),
        }
    }
}

/// Lives as long as a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionLife(Arc<()>);

impl ConnectionLife {
    /// Tells later whether it still lives.
    #[must_use]
    pub fn watch(&self) -> ConnectionWatch {
        ConnectionWatch(Arc::downgrade(&self.0))
    }
}

/// Tells whether a connection is still there.
#[derive(Debug, Clone)]
pub struct ConnectionWatch(Weak<()>);

impl ConnectionWatch {
    /// Whether it is.
    #[must_use]
    pub fn is_open(&self) -> bool {
        0 < self.0.strong_count()
    }
}

/// A client, as its connection shows it.
#[derive(Debug, Clone)]
pub struct Client {
    /// The name it gave itself.
    pub client_id: Arc<str>,
    /// Its library.
    pub software: ClientSoftware,
    /// Where it comes from.
    pub address: SocketAddr,
    /// Its connection.
    pub connection: ConnectionWatch,
}

/// A client's attributes as text, for the patterns of subscriptions.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    client: &'a Client,
    instance_id: String,
    address: String,
    port: String,
}

impl<'a> Attributes<'a> {
    pub(super) fn of(client: &'a Client, id: ClientInstanceId) -> Self {
        Self {
            client,
            instance_id: id.to_string(),
            address: client.address.ip().to_canonical().to_string(),
            port: client.address.port().to_string(),
        }
    }

    pub(super) fn get(&self, attribute: ClientAttribute) -> &str {
        match attribute {
            ClientAttribute::InstanceId => &self.instance_id,
            ClientAttribute::ClientId => &self.client.client_id,
            ClientAttribute::SoftwareName => &self.client.software.name,
            ClientAttribute::SoftwareVersion => &self.client.software.version,
            ClientAttribute::SourceAddress => &self.address,
            ClientAttribute::SourcePort => &self.port,
        }
    }
}
