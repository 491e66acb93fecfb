//! The Kafka front: one port, one task per connection, one file per API.
//!
//! | module | owns |
//! |---|---|
//! | `listener`, `line_limit` | the port, connection limits, the connections' tasks, lines about them |
//! | `connection` | one connection's pipeline: requests in order, answers in order |
//! | `frame` | cutting the stream into requests, limits before memory |
//! | `memory` | the memory of all requests in flight |
//! | `wrong_protocol` | what else arrives on the port |
//! | `apis` | the table of versions |
//! | `dispatch` | from a frame to its handler |
//! | `handlers` | one file per API |
//! | `request_context`, `services` | what a handler knows about a request, and what it uses |
//! | `error_map` | errors become codes, here and nowhere else |
//! | `admission` | what is asked of the transaction coordinator before a batch is appended |
//! | `topic_view`, `config_resource`, `alteration` | what several handlers share |
//! | `request_guard` | the structure of large requests against their size |
//! | `fetch_session` | what clients fetch again and again |
//! | `response`, `fetch_response` | responses as slices; Fetch without copying records |

pub(crate) mod admission;
pub(crate) mod alteration;
pub(crate) mod apis;
pub(crate) mod config_resource;
pub(crate) mod connection;
pub(crate) mod dispatch;
pub(crate) mod error_map;
pub mod fetch_response;
pub(crate) mod fetch_session;
pub(crate) mod frame;
pub(crate) mod handlers;
pub(crate) mod line_limit;
pub mod listener;
pub(crate) mod memory;
pub mod request_context;
pub(crate) mod request_guard;
pub(crate) mod response;
pub mod services;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
pub(crate) mod topic_view;
pub(crate) mod traced;
pub(crate) mod wrong_protocol;
