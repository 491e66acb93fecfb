//! The Kafka front: one port, one task per connection, one file per API.
//!
//! | module | owns |
//! |---|---|
//! | `listener` | the port, connection limits, the connections' tasks |
//! | `connection` | one connection's pipeline: requests in order, answers in order |
//! | `frame` | cutting the stream into requests, limits before memory |
//! | `memory` | the memory of all requests in flight |
//! | `wrong_protocol` | what else arrives on the port |
//! | `apis` | the table of versions |
//! | `request_context` | what a handler knows about a request |
//! | `fetch_session` | what clients fetch again and again |
//! | `response`, `fetch_response` | responses as slices; Fetch without copying records |

#![cfg_attr(
    not(test),
    expect(dead_code, reason = "the dispatcher that uses these comes next")
)]

pub(crate) mod apis;
pub(crate) mod connection;
pub(crate) mod fetch_response;
pub(crate) mod fetch_session;
pub(crate) mod frame;
pub mod listener;
pub(crate) mod memory;
pub mod request_context;
pub(crate) mod response;
#[cfg(test)]
pub(crate) mod test_support;
pub(crate) mod wrong_protocol;
