//! The two ports: they are bound before a log is touched, and clients are told where the Kafka port is.
//! What cannot be bound is named with its setting and with what to do.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::config::keys::BrokerConfig;
use crate::http::services::KafkaEndpoint;
use crate::kafka::listener::{KafkaListener, ListenerSettings};
use crate::kafka::request_context::Endpoint;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({key}): {source}; {advice}")]
pub struct ListenError {
    /// The setting that names it.
    pub key: &'static str,
    /// The address.
    pub address: String,
    /// The system's word.
    pub source: io::Error,
    /// What to do.
    pub advice: String,
}

impl ListenError {
    fn new(key: &'static str, address: &str, source: io::Error) -> Self {
        let advice = match source.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "another program listens there, perhaps a broker: stop it, or choose another with --{key}"
                )
            }
            io::ErrorKind::PermissionDenied => format!("choose a port above 1023 with --{key}"),
            io::ErrorKind::AddrNotAvailable => {
                format!("the address is not one of this machine's: choose another with --{key}")
            }
            _ => format!("choose another with --{key}"),
        };
        Self {
            key,
            address: address.to_owned(),
            source,
            advice,
        }
    }
}

/// Binds `http-listen`.
pub(crate) async fn bind_http(config: &BrokerConfig) -> Result<TcpListener, ListenError> {
    const KEY: &str = "http-listen";
    let address = resolve(KEY, &config.http_listen).await?;
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError::new(KEY, &config.http_listen, source))
}

/// Binds `kafka-listen`. Who speaks HTTP there is told of the other port.
pub(crate) async fn bind_kafka(
    config: &BrokerConfig,
    http: SocketAddr,
) -> Result<KafkaListener, ListenError> {
    const KEY: &str = "kafka-listen";
    let address = resolve(KEY, &config.kafka_listen).await?;
    let settings = ListenerSettings::from_config(config, advertised(config), Some(http.to_string()));
    KafkaListener::bind(address, settings)
        .await
        .map_err(|source| ListenError::new(KEY, &config.kafka_listen, source))
}

async fn resolve(key: &'static str, text: &str) -> Result<SocketAddr, ListenError> {
    let mut addresses = tokio::net::lookup_host(text)
        .await
        .map_err(|source| ListenError::new(key, text, source))?;
    addresses
        .next()
        .ok_or_else(|| ListenError::new(key, text, io::ErrorKind::NotFound.into()))
}

/// Where Kafka clients connect, as far as it is the same for all of them.
pub(crate) fn kafka_endpoint(config: &BrokerConfig, listening: SocketAddr) -> KafkaEndpoint {
    let own = advertised(config).or_else(|| {
        let is_everywhere = listening.ip().is_unspecified();
        (!is_everywhere).then(|| Endpoint::reached(listening))
    });
    KafkaEndpoint {
        port: own.as_ref().map_or(listening.port(), |own| own.port),
        host: own.map(|own| own.host.to_string()),
    }
}

/// `kafka-advertise`, which was checked when it was read.
fn advertised(config: &BrokerConfig) -> Option<Endpoint> {
    let (host, port) = config.kafka_advertise.as_deref()?.rsplit_once(':')?;
    Some(Endpoint {
        host: host.trim_start_matches('[').trim_end_matches(']').into(),
        port: port.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(advertised: Option<&str>, listening: &str, expected: (Option<&str>, u16)) {
        let config = BrokerConfig {
            kafka_advertise: advertised.map(str::to_owned),
            ..BrokerConfig::default()
        };
        let endpoint = kafka_endpoint(&config, listening.parse().unwrap());
        assert_eq!(
            (endpoint.host.as_deref(), endpoint.port),
            expected,
            "{advertised:?} {listening}"
        );
    }

    #[test]
    fn clients_are_told_what_is_advertised_or_the_address_itself_but_never_all_addresses() {
        check(
            Some("kafka.example:19092"),
            "0.0.0.0:9092",
            (Some("kafka.example"), 19092),
        );
        check(Some("[fd00::7]:9092"), "[::]:9092", (Some("fd00::7"), 9092));
        check(None, "127.0.0.1:9092", (Some("127.0.0.1"), 9092));
        check(None, "0.0.0.0:9092", (None, 9092));
        check(None, "[::]:9093", (None, 9093));
    }
}
