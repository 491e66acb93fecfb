//! What the requests about settings name: a kind as a number, and a name that means something different for each.
//! What its settings are, and who may change them, is not decided here.

use crate::metadata::error::ControllerError;
use crate::metadata::plan::BrokerScope;

/// Topics.
pub(crate) const TOPIC: i8 = 2;
/// Brokers.
pub(crate) const BROKER: i8 = 4;
/// The verbosity of a broker's loggers.
pub(crate) const BROKER_LOGGER: i8 = 8;
/// What clients report of themselves.
pub(crate) const CLIENT_METRICS: i8 = 16;
/// Groups.
pub(crate) const GROUP: i8 = 32;

/// Something that has settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigResource {
    /// A topic by name.
    Topic(String),
    /// This broker, or all brokers.
    Broker(BrokerScope),
    /// A group by name.
    Group(String),
    /// A subscription to clients' metrics by name.
    Subscription(String),
    /// A kind that Kafka has and this broker has no settings of.
    Nothing,
}

impl ConfigResource {
    /// Reads kind and name. Another broker than this one is refused, as is an unknown kind.
    pub(crate) fn new(kind: i8, name: &str, node_id: i32) -> Result<Self, ControllerError> {
        match kind {
            TOPIC => Ok(Self::Topic(name.to_owned())),
            BROKER if name.is_empty() => Ok(Self::Broker(BrokerScope::Cluster)),
            BROKER | BROKER_LOGGER => match name.parse() {
                Ok(id) if id == node_id && kind == BROKER => Ok(Self::Broker(BrokerScope::Node(id))),
                Ok(id) if id == node_id => Ok(Self::Nothing),
                Ok(other) => Err(ControllerError::InvalidRequest(format!(
                    "there is no broker {other}; this is broker {node_id}"
                ))),
                Err(_) => Err(ControllerError::InvalidRequest(format!(
                    "a broker is named by its number, which {name:?} is not"
                ))),
            },
            CLIENT_METRICS | GROUP if name.is_empty() => Err(ControllerError::InvalidRequest(
                "the name must not be empty".to_owned(),
            )),
            CLIENT_METRICS => Ok(Self::Subscription(name.to_owned())),
            GROUP => Ok(Self::Group(name.to_owned())),
            other => Err(ControllerError::InvalidRequest(format!(
                "there are no resources of kind {other}"
            ))),
        }
    }
}
