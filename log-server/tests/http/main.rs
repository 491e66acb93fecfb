//! The HTTP API over real sockets, on a broker in this process and on a real directory.
//!
//! | module | proves |
//! |---|---|
//! | [`client`] | speaks HTTP by hand, so that nothing is repaired on the way |
//! | [`compaction`] | a compacted topic is compacted when somebody asks, and others are not |
//! | [`document`] | the examples of docs/HTTP.md are true |
//! | [`encodings`] | bodies come and go compressed, allowed sites may ask, known documents are not sent again |
//! | [`follow`] | followers miss nothing and get nothing twice |
//! | [`groups`] | groups are shown, reset and deleted |
//! | [`hostile`] | what is not a request is refused clearly, and costs little |
//! | [`idempotency`] | a body with a key is written once, across restarts too |
//! | [`leases`] | workers compete for the records of a group, across restarts and with Kafka consumers |
//! | [`malformed`] | broken heads, tricks with paths and lengths, and bodies that are not what they say lead nowhere |
//! | [`records`] | what is written one way is read every other way, to the byte |
//! | [`sites`] | a page of another site can neither write nor read |
//! | [`socket`] | records go both ways over a WebSocket, within limits |
//! | [`streams`] | NDJSON is answered while it comes |

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod client;
mod compaction;
mod document;
mod encodings;
mod follow;
mod groups;
mod hostile;
mod idempotency;
mod leases;
mod malformed;
mod records;
mod sites;
mod socket;
mod streams;

use std::path::Path;
use std::time::Instant;

use log_server::broker::Broker;
use log_server::config::keys::BrokerConfig;
use log_server::shutdown::Shutdown;

/// The settings of a broker below a directory, on ports that the system chooses.
fn config(directory: &Path) -> BrokerConfig {
    BrokerConfig {
        data_dirs: vec![directory.join("data")],
        kafka_listen: "127.0.0.1:0".to_owned(),
        http_listen: "127.0.0.1:0".to_owned(),
        ..BrokerConfig::default()
    }
}

async fn start(config: BrokerConfig) -> Broker {
    Broker::start(config, Shutdown::new(), Instant::now())
        .await
        .unwrap()
}
