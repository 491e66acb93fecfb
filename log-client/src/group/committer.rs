//! The task that commits offsets: one request after the other, in the order in which they were asked for, so
//! that an older offset never comes after a newer one.
//!
//! A commit that is waited for is tried again until its deadline; one that nobody waits for is tried once. What
//! was begun is finished, whether or not the caller still waits.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use log_core::model::TopicPartition;
use log_core::protocol::{ApiKey, ErrorCode};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::link::Link;
use crate::coordinator::{CommittedOffset, Coordinator, may_pass};
use crate::error::{Error, Result};

/// Offsets by partition.
pub(crate) type Offsets = BTreeMap<TopicPartition, CommittedOffset>;

#[derive(Debug)]
struct Job {
    offsets: Offsets,
    /// How long to try; none tries once.
    deadline: Option<Instant>,
    done: oneshot::Sender<Result<()>>,
}

/// The handle of the task; dropping it ends the task.
#[derive(Debug)]
pub(crate) struct Committer {
    jobs: mpsc::UnboundedSender<Job>,
    task: JoinHandle<()>,
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Resolves when a commit is done: every offset is committed, or an error says why one is not. Dropping it does
/// not call the commit back.
#[derive(Debug)]
#[must_use = "whether the offsets were committed is known only to who awaits this"]
pub struct Commit {
    done: oneshot::Receiver<Result<()>>,
}

impl Future for Commit {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = Pin::new(&mut self.done).poll(context);
        done.map(|done| done.unwrap_or(Err(Error::Closed("consumer"))))
    }
}

impl Committer {
    pub(crate) fn start(coordinator: Coordinator, link: Arc<Link>) -> Self {
        let (jobs, receiver) = mpsc::unbounded_channel();
        Self {
            jobs,
            task: tokio::spawn(run(coordinator, link, receiver)),
        }
    }

    /// Commits offsets after all that was given before; without offsets it only waits for that.
    pub(crate) fn commit(&self, offsets: Offsets, deadline: Option<Instant>) -> Commit {
        let (done, receiver) = oneshot::channel();
        // Without the task the receiver says that it is closed.
        drop(self.jobs.send(Job {
            offsets,
            deadline,
            done,
        }));
        Commit { done: receiver }
    }
}

async fn run(coordinator: Coordinator, link: Arc<Link>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    while let Some(job) = jobs.recv().await {
        let result = commit(&coordinator, &link, job.offsets, job.deadline).await;
        if let Err(error) = &result {
            tracing::debug!(group = coordinator.group(), %error, "offsets are not committed");
        }
        // Whoever asked may have stopped waiting.
        job.done.send(result).ok();
    }
}

/// Commits until all is done, an error is final, or the deadline leaves no time for another try.
async fn commit(
    coordinator: &Coordinator,
    link: &Link,
    mut offsets: Offsets,
    deadline: Option<Instant>,
) -> Result<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    let config = coordinator.cluster().config();
    let mut failures = 0;
    loop {
        let Some(identity) = link.identity() else {
            return Err(Error::broker(
                ApiKey::OffsetCommit,
                ErrorCode::UnknownMemberId,
                coordinator.group(),
                Some("the consumer is not a member of the group at the moment"),
            ));
        };
        let timeout = deadline.map_or(config.request_timeout, |deadline| {
            deadline
                .saturating_duration_since(Instant::now())
                .min(config.request_timeout)
        });
        let error = match coordinator.commit_once(&identity, &offsets, timeout).await {
            Ok(rows) => match remaining(&mut offsets, rows) {
                None => return Ok(()),
                Some(error) => error,
            },
            Err(error) => error,
        };
        failures += 1;
        // The coordinator has counted on while the request was on its way: the same offsets, by the new epoch.
        let was_late = error.code() == Some(ErrorCode::StaleMemberEpoch);
        let has_moved = was_late && link.identity().is_some_and(|current| current != identity);
        let wait = if has_moved {
            Duration::ZERO
        } else {
            config.retry_backoff.after(failures)
        };
        let may_pass = was_late || (may_pass(&error) && error.code() != Some(ErrorCode::RebalanceInProgress));
        let has_time = deadline.is_some_and(|deadline| Instant::now() + wait < deadline);
        if !may_pass || !(has_time || has_moved) {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
    }
}

/// Leaves the offsets that are still to be committed, and says why. A reason that does not pass comes first.
fn remaining(offsets: &mut Offsets, rows: Vec<(TopicPartition, Result<()>)>) -> Option<Error> {
    let mut reason: Option<Error> = None;
    for (partition, row) in rows {
        match row {
            Ok(()) => {
                offsets.remove(&partition);
            }
            Err(error) => {
                if reason
                    .as_ref()
                    .is_none_or(|reason| may_pass(reason) && !may_pass(&error))
                {
                    reason = Some(error);
                }
            }
        }
    }
    let unmentioned = offsets.keys().next().map(|partition| {
        Error::broker(
            ApiKey::OffsetCommit,
            ErrorCode::NetworkException,
            partition.to_string(),
            Some("the response does not mention it"),
        )
    });
    reason.or(unmentioned)
}
