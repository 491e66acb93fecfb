//! Administration: topics, their settings, records and offsets, groups, transactions, and what the cluster is made of.
//!
//! Every operation tries again while an error is one that passes, until `api_timeout` is over. Operations
//! on several things return one result for each. A change whose answer was lost is sent again, and then may
//! find that it was made: `TOPIC_ALREADY_EXISTS` after a lost connection can mean success.

mod configs;
mod describe;
mod group_offsets;
mod groups;
mod producers;
mod records;
mod topics;
mod transactions;

pub use configs::{ConfigChange, ConfigEntry, ConfigResource, ConfigSource, ConfigSynonym, ConfigType};
pub use describe::{ClusterDescription, LogDir, LogDirReplica};
pub use groups::{GroupDescription, GroupFilter, GroupListing, GroupState, GroupType, MemberDescription};
pub use producers::{OpenTransaction, ProducerDescription};
pub use topics::{CreatedTopic, Intent, NewTopic, TopicListing};
pub use transactions::{TransactionDescription, TransactionFilter, TransactionListing, TransactionState};

use std::collections::HashMap;
use std::time::Duration;

use log_core::protocol::{ErrorCode, KafkaString, Request};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::config::ClientConfig;
use crate::coordinator::Coordinator;
use crate::error::{self, Error, Result};
use crate::retry;

/// Administers a cluster.
#[derive(Debug, Clone)]
pub struct Admin {
    cluster: Cluster,
}

impl Admin {
    /// An admin client; nothing is sent until it is asked for something.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn new(config: ClientConfig) -> Result<Self> {
        Ok(Self::on(Cluster::new(config)?))
    }

    /// An admin client that shares the connections of `cluster`.
    #[must_use]
    pub fn on(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// The cluster it works on.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn deadline(&self) -> Instant {
        self.cluster.api_deadline()
    }

    /// Sends what `request` makes of the time that is left to any broker, and lets `read` judge the answer.
    async fn ask<R, T>(
        &self,
        request: impl Fn(Duration) -> R,
        read: impl Fn(R::Response) -> Result<T>,
    ) -> Result<T>
    where
        R: Request,
    {
        let backoff = self.cluster.config().retry_backoff;
        retry::until(backoff, self.deadline(), |_, left| {
            let request = request(left);
            let read = &read;
            async move { read(self.cluster.call_any(&request).await?) }
        })
        .await
    }

    /// As [`Admin::ask`], but sent to the controller.
    async fn tell<R, T>(
        &self,
        request: impl Fn(Duration) -> R,
        read: impl Fn(R::Response) -> Result<T>,
    ) -> Result<T>
    where
        R: Request,
    {
        let backoff = self.cluster.config().retry_backoff;
        retry::until(backoff, self.deadline(), |failures, left| {
            let request = request(left);
            let read = &read;
            async move {
                if failures > 0 {
                    self.cluster.refresh(self.cluster.metadata().generation).await?;
                }
                let controller = self.cluster.controller().await?;
                read(self.cluster.call(controller, &request).await?)
            }
        })
        .await
    }

    /// Asks a coordinator about the one thing it was found for. `row` takes what it says of it out of the answer, with code and
    /// message.
    async fn ask_about<R: Request + Clone, T>(
        &self,
        coordinator: &Coordinator,
        request: R,
        row: impl Fn(R::Response) -> Option<(i16, Option<KafkaString>, T)>,
    ) -> Result<T> {
        let subject = coordinator.name();
        coordinator
            .ask(
                self.deadline(),
                |connection| Ok((request.clone(), connection.version(R::API_KEY)?)),
                |response| {
                    let (code, message, row) = row(response).ok_or_else(|| {
                        let text = "the response does not mention it";
                        Error::broker(R::API_KEY, ErrorCode::NetworkException, subject, Some(text))
                    })?;
                    let message = message.as_ref().map(KafkaString::as_str);
                    error::check(R::API_KEY, code, subject, message)?;
                    Ok(row)
                },
            )
            .await
    }
}

/// What a request says about how long the broker may take.
fn timeout_ms(left: Duration) -> i32 {
    // The broker gives up before this client does, so that its answer still arrives.
    let share = left.min(Duration::from_mins(1)).mul_f32(0.8);
    i32::try_from(share.as_millis()).unwrap_or(i32::MAX)
}

/// The results in the order of `names`. Sent to the wrong broker, they all fail alike: then that is the
/// error of the whole attempt, so that it is made again.
fn in_order<T: Clone>(
    names: impl Iterator<Item = impl AsRef<str>>,
    rows: &HashMap<String, Result<T>>,
) -> Result<Vec<Result<T>>> {
    let mut ordered = Vec::with_capacity(rows.len());
    for name in names {
        let name = name.as_ref();
        let Some(row) = rows.get(name) else {
            return Err(Error::config(format!(
                "the broker answered nothing about {name:?}"
            )));
        };
        if let Err(error) = row
            && error.code() == Some(ErrorCode::NotController)
        {
            return Err(error.clone());
        }
        ordered.push(row.clone());
    }
    Ok(ordered)
}
