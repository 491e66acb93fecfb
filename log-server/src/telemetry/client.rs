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

/// The longest name of a client that is kept: any byte of it may stand for each of the instances. Longer than what people write.
const CLIENT_ID_BYTES_MAX: usize = 256;
/// The longest name or release of a library that is kept: `apache-kafka-java` has 17.
const SOFTWARE_BYTES_MAX: usize = 128;

/// A text's beginning, which is all of it where it has not more bytes than that.
pub(super) fn beginning(text: &str, bytes_max: usize) -> &str {
    let (beginning, _) = text.split_at(text.floor_char_boundary(bytes_max));
    beginning
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
    /// As much of what a client says as is kept.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: beginning(name, SOFTWARE_BYTES_MAX).into(),
            version: beginning(version, SOFTWARE_BYTES_MAX).into(),
        }
    }

    /// A client that said nothing is Kafka's `unknown`.
    #[must_use]
    pub fn unknown() -> Self {
        Self::new("unknown", "unknown")
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
    /// The beginning of the name it gave itself, if it did: what patterns see, too.
    name: Option<Arc<str>>,
    /// Its library.
    pub software: ClientSoftware,
    /// Where it comes from.
    pub address: SocketAddr,
    /// Its connection.
    pub connection: ConnectionWatch,
}

impl Client {
    /// A client that came over a connection. Of a long name the beginning is kept.
    #[must_use]
    pub fn new(
        client_id: Option<&str>,
        software: ClientSoftware,
        address: SocketAddr,
        connection: ConnectionWatch,
    ) -> Self {
        Self {
            name: client_id.map(|name| beginning(name, CLIENT_ID_BYTES_MAX).into()),
            software,
            address,
            connection,
        }
    }

    /// The beginning of its name; empty where it has none.
    #[must_use]
    pub fn client_id(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
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

    pub(super) fn get(&self, attribute: ClientAttribute) -> Option<&str> {
        Some(match attribute {
            ClientAttribute::InstanceId => &self.instance_id,
            ClientAttribute::ClientId => self.client.name.as_deref()?,
            ClientAttribute::SoftwareName => &self.client.software.name,
            ClientAttribute::SoftwareVersion => &self.client.software.version,
            ClientAttribute::SourceAddress => &self.address,
            ClientAttribute::SourcePort => &self.port,
        })
    }
}
