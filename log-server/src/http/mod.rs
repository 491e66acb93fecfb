//! The HTTP front: records, topics and groups without a session. `docs/HTTP.md` is the contract.
//!
//! A handler reads its request, calls `partition`, `metadata` or `coordinator`, and writes the answer; rules about logs and groups are
//! theirs.
//!
//! | module | owns |
//! |---|---|
//! | `body` | bodies of requests: size, silence, memory |
//! | `clients` | clients that push their own metrics |
//! | `cluster` | the broker and its data directory |
//! | `compaction` | a topic is compacted now |
//! | `compression` | answers that are sent compressed |
//! | `configs` | settings, shown and changed |
//! | `cors` | pages of other sites that may ask |
//! | `cursor` | a place in a partition from which records are read on |
//! | `encoding` | bodies of requests that come compressed |
//! | `error` | errors become problems |
//! | `fetch` | records from an offset or a time on |
//! | `follow` | records as they come |
//! | `group_offsets` | where a group goes on, set from outside |
//! | `groups` | groups of consumers |
//! | `health` | the answers of `/healthz` and `/readyz` |
//! | `idle_timer` | the clock of a connection that waits for a head |
//! | `leases` | reading as a group without being a member |
//! | `memory` | what bodies take of the memory |
//! | `object` | JSON objects and nothing else |
//! | `openapi` | the description of the API for tools |
//! | `page` | lists a page at a time |
//! | `parameters` | path and query |
//! | `partitions` | the partitions of a topic |
//! | `problem` | problem documents and their codes |
//! | `produce` | records into a topic |
//! | `record_output` | a record as JSON |
//! | `routes` | the table of routes |
//! | `server` | the port and its connections |
//! | `services` | what handlers use |
//! | `sites` | which web pages may ask, under which names |
//! | `slow_client` | clients that take nothing |
//! | `socket` | records both ways over a WebSocket |
//! | `stats` | `/metrics`, and the numbers that the console plots |
//! | `surroundings` | what stands around all routes |
//! | `timing` | how long requests take |
//! | `traces` | requests as spans |
//! | `topic_offsets` | offsets at a time |
//! | `topics` | topics |

pub(crate) mod body;
mod clients;
mod cluster;
mod compaction;
mod compression;
mod configs;
mod cors;
pub(crate) mod cursor;
mod encoding;
mod error;
mod fetch;
mod follow;
mod group_offsets;
mod groups;
pub mod health;
mod idle_timer;
mod leases;
pub(crate) mod memory;
pub(crate) mod object;
mod openapi;
pub(crate) mod page;
pub(crate) mod parameters;
mod partitions;
pub(crate) mod problem;
mod produce;
pub(crate) mod record_output;
mod routes;
mod server;
pub mod services;
mod sites;
mod slow_client;
mod socket;
pub mod stats;
mod surroundings;
mod timing;
mod topic_offsets;
mod topics;
mod traces;

use std::io;
use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;

use crate::console;
use services::Services;
use sites::Sites;

/// Serves until "stop" is said, then finishes what is being answered.
///
/// # Errors
/// The listener has no address. Errors of accepting are waited out.
pub async fn serve(listener: TcpListener, services: Services) -> io::Result<()> {
    let (config, shutdown) = (Arc::clone(&services.config), services.shutdown.clone());
    let front = Arc::clone(&services.sources.front);
    let memory = services.memory.clone();
    let tracer = services.sources.tracer.clone();
    let router = routes::watching(&services.sources)
        .merge(console::routes())
        .merge(routes::api(Arc::new(services)));
    let sites = Sites::new(&config, listener.local_addr()?);
    let mut router = routes::complete(router, &front, sites, memory);
    if let Some(tracer) = tracer {
        router = router.layer(from_fn_with_state(tracer, traces::trace));
    }
    server::serve(listener, router, front, config, shutdown).await
}

#[cfg(test)]
mod tests;
