//! `/v1/groups/{group}/leases` and `…/{token}/acknowledge`, `extend`, `release`: reading as a group without being a member of it.
//!
//! Nothing of a lease is kept here. It stands in the log of the groups, and the token that a client has finds it there, after any restart.
//!
//! | module | owns |
//! |---|---|
//! | `bells` | who waits hears of leases that end before their time |
//! | `search` | finding records that can be leased |

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use log_core::model::TopicPartition;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::coordinator::group::context::Context;
use crate::coordinator::group::offsets::lease::{Lease, LeaseToken};
use crate::coordinator::group::offsets::leasing::LeaseError;
use crate::coordinator::group::shard::GroupShard;
use crate::http::fetch::end_of_wait;
use crate::http::fetch::format::close;
use crate::http::fetch::page::Limits;
use crate::http::parameters::{Parameters, Place};
use crate::http::problem::{Answer, Problem};
use crate::http::record_output::{Encoding, Encodings};
use crate::http::services::Services;

pub(super) mod bells;
mod search;

use search::{Leased, Search};

const LEASE_MS: i64 = 30_000;
const LEASE_MS_LEAST: i64 = 100;
const LEASE_MS_MOST: i64 = 3_600_000;

/// The parameters of a lease.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaseParameters {
    topics: String,
    limit: Option<usize>,
    bytes: Option<usize>,
    lease_ms: Option<i64>,
    wait_ms: Option<u64>,
    encoding: Option<Encoding>,
    key_encoding: Option<Encoding>,
}

/// The parameter of an extension.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExtendParameters {
    lease_ms: Option<i64>,
}

/// A lease without its records.
#[derive(Debug, Serialize)]
pub(crate) struct LeaseDocument {
    topic: String,
    partition: i32,
    offset: i64,
    next_offset: i64,
    /// For its holder alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    expires: i64,
}

impl LeaseDocument {
    fn new(topic: &str, partition: i32, lease: Lease) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            offset: lease.from,
            next_offset: lease.to,
            token: None,
            expires: lease.expires_ms,
        }
    }
}

/// The leases of a group.
#[derive(Debug, Serialize)]
pub(crate) struct LeaseList {
    leases: Vec<LeaseDocument>,
}

/// Where a group stands when a lease is over.
#[derive(Debug, Serialize)]
pub(crate) struct ProgressDocument {
    topic: String,
    partition: i32,
    committed: i64,
}

/// `POST /v1/groups/{group}/leases`.
pub(crate) async fn take(
    State(services): State<Arc<Services>>,
    Place(group): Place<String>,
    Parameters(asked): Parameters<LeaseParameters>,
) -> Answer<Response> {
    let until = end_of_wait(asked.wait_ms)?;
    let search = Search {
        services: &services,
        group: group.into(),
        topics: topics(&asked.topics)?,
        limits: Limits::new(asked.limit, asked.bytes)?,
        encodings: Encodings {
            key: asked.key_encoding.unwrap_or_default(),
            value: asked.encoding.unwrap_or_default(),
        },
        lease_ms: lease_ms(asked.lease_ms)?,
    };
    let body = match search.run(until).await? {
        Some(leased) => with_records(leased),
        None => nothing(),
    };
    let head = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((head, body).into_response())
}

/// `GET /v1/groups/{group}/leases`.
pub(crate) async fn list(
    State(services): State<Arc<Services>>,
    Place(group): Place<String>,
) -> Answer<Json<LeaseList>> {
    let name = group.clone();
    let found = services
        .groups
        .run(&group, move |shard, context| shard.leases(context, &name))
        .await?;
    let leases = found?
        .into_iter()
        .map(|(topic, partition, lease)| LeaseDocument::new(&topic, partition, lease));
    Ok(Json(LeaseList {
        leases: leases.collect(),
    }))
}

/// `POST /v1/groups/{group}/leases/{token}/acknowledge`.
pub(crate) async fn acknowledge(
    State(services): State<Arc<Services>>,
    Place((group, token)): Place<(String, String)>,
) -> Answer<Json<ProgressDocument>> {
    end_lease(&services, group, &token, GroupShard::acknowledge_lease).await
}

/// `POST /v1/groups/{group}/leases/{token}/release`.
pub(crate) async fn release(
    State(services): State<Arc<Services>>,
    Place((group, token)): Place<(String, String)>,
) -> Answer<Json<ProgressDocument>> {
    end_lease(&services, group, &token, GroupShard::release_lease).await
}

/// `POST /v1/groups/{group}/leases/{token}/extend`.
pub(crate) async fn extend(
    State(services): State<Arc<Services>>,
    Place((group, token)): Place<(String, String)>,
    Parameters(asked): Parameters<ExtendParameters>,
) -> Answer<Json<LeaseDocument>> {
    let (token, lease_ms) = (read_token(&token)?, lease_ms(asked.lease_ms)?);
    let (group, shown): (Arc<str>, _) = (group.into(), token.clone());
    let name = Arc::clone(&group);
    let extended = services
        .groups
        .run(&group, move |shard, context| {
            shard.extend_lease(context, &name, &shown, lease_ms)
        })
        .await?;
    Ok(Json(LeaseDocument {
        token: Some(token.to_string()),
        ..LeaseDocument::new(&token.topic, token.partition, extended?)
    }))
}

/// Runs one of the commands that end a lease before its time.
async fn end_lease(
    services: &Services,
    group: String,
    token: &str,
    command: fn(&mut GroupShard, &mut Context<'_>, &Arc<str>, &LeaseToken) -> Result<i64, LeaseError>,
) -> Answer<Json<ProgressDocument>> {
    let token = read_token(token)?;
    let (group, shown): (Arc<str>, _) = (group.into(), token.clone());
    let name = Arc::clone(&group);
    let ended = services
        .groups
        .run(&group, move |shard, context| {
            command(shard, context, &name, &shown)
        })
        .await?;
    let committed = ended?;
    services.lease_bells.ring(&group);
    Ok(Json(ProgressDocument {
        topic: token.topic.to_string(),
        partition: token.partition,
        committed,
    }))
}

fn topics(names: &str) -> Result<Vec<&str>, Problem> {
    let mut topics: Vec<&str> = names.split(',').collect();
    topics.sort_unstable();
    topics.dedup();
    if topics.contains(&"") {
        return Err(Problem::invalid(
            "topics are names, such as topics=orders,payments",
        ));
    }
    Ok(topics)
}

fn lease_ms(asked: Option<i64>) -> Result<i64, Problem> {
    match asked.unwrap_or(LEASE_MS) {
        lease_ms @ LEASE_MS_LEAST..=LEASE_MS_MOST => Ok(lease_ms),
        _ => Err(Problem::invalid(format!(
            "lease_ms is {LEASE_MS_LEAST} to {LEASE_MS_MOST}"
        ))),
    }
}

fn read_token(text: &str) -> Result<LeaseToken, Problem> {
    text.parse::<LeaseToken>()
        .map_err(|error| Problem::invalid(format!("the address has no token: {error}")))
}

fn with_records(leased: Leased) -> Body {
    let Leased {
        partition,
        lease,
        mut body,
        held,
    } = leased;
    let TopicPartition { topic, partition } = partition.name();
    let token = LeaseToken {
        topic: Arc::clone(topic),
        partition: *partition,
        id: lease.id,
    };
    let fields = json!({
        "offset": lease.from,
        "next_offset": lease.to,
        "token": token.to_string(),
        "expires": lease.expires_ms,
    });
    close(&mut body, &fields);
    Body::from(held.with(body))
}

/// The fields of a lease are there, so that who reads them need not ask whether they are.
fn nothing() -> Body {
    let document = json!({
        "topic": null,
        "partition": null,
        "records": [],
        "offset": null,
        "next_offset": null,
        "token": null,
        "expires": null,
    });
    Body::from(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_named_once_and_by_name() {
        assert_eq!(topics("b,a,b").unwrap(), ["a", "b"]);
        assert!(topics("").is_err() && topics("a,").is_err());
    }

    #[test]
    fn leases_last_neither_an_instant_nor_for_ever() {
        assert_eq!(lease_ms(None).unwrap(), 30_000);
        assert_eq!(lease_ms(Some(100)).unwrap(), 100);
        for wrong in [-1, 0, 99, 3_600_001, i64::MAX] {
            assert!(lease_ms(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
