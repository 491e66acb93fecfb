//! The task that keeps the consumer a member of its group, whatever the caller is doing.
//!
//! Chooses the protocol: that of consumer groups (KIP-848, `modern`) where the coordinator serves it and the
//! settings do not ask for the old one, else the classic one (`classic`). Both run until the member leaves, is
//! expelled for good, or the handle is gone. However the task ends, the handle hears of it.

use std::sync::Arc;
use std::time::Duration;

use log_core::protocol::{ApiKey, ErrorCode};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::classic::Classic;
use super::config::{GroupConfig, GroupProtocol};
use super::link::{Command, Link};
use super::modern::Modern;
use super::subscription::Subscription;
use crate::cluster::Lane;
use crate::coordinator::Coordinator;
use crate::error::{Error, Result};

/// What both protocols work with.
pub(crate) struct Membership {
    pub(super) config: Arc<GroupConfig>,
    pub(super) coordinator: Coordinator,
    pub(super) link: Arc<Link>,
    /// By which `link` knows it from those before and after it.
    number: u64,
    commands: mpsc::UnboundedReceiver<Command>,
    /// The member's id, which it keeps while this task lives.
    pub(super) member_id: String,
}

impl Drop for Membership {
    /// A panic ends the task as well as a runtime that shuts down does; a handle that still polls must not wait for it.
    fn drop(&mut self) {
        // First, so that whoever hears of the end finds that it has come.
        self.commands.close();
        self.link.ended(self.number, Some(Error::MembershipEnded));
    }
}

/// Why a protocol stopped.
#[derive(Debug)]
pub(super) enum End {
    /// The member has left, or there is no way to tell the coordinator.
    Left(Option<oneshot::Sender<()>>),
    /// The coordinator does not serve this protocol after all.
    Unserved(Subscription),
    /// Something else is wanted by now.
    Superseded(Subscription),
    /// It cannot be a member, and the handle knows it ([`Membership::failed`]).
    Failed,
    /// Nobody is left who reads.
    Abandoned,
}

impl Membership {
    /// Starts the task; it becomes a member when it is told what for.
    pub(crate) fn start(
        config: &Arc<GroupConfig>,
        coordinator: &Coordinator,
        link: &Arc<Link>,
    ) -> (mpsc::UnboundedSender<Command>, JoinHandle<()>) {
        let (sender, commands) = mpsc::unbounded_channel();
        let membership = Self {
            config: Arc::clone(config),
            coordinator: coordinator.clone(),
            link: Arc::clone(link),
            number: link.succeed(),
            commands,
            member_id: String::new(),
        };
        (sender, tokio::spawn(membership.run()))
    }

    /// Runs until the handle is gone.
    async fn run(mut self) {
        let mut may_be_modern = self.config.group_protocol == GroupProtocol::Consumer;
        let mut wanted = None;
        loop {
            let subscription = match wanted.take() {
                Some(subscription) => subscription,
                None => match self.wanted().await {
                    Some(subscription) => subscription,
                    None => return,
                },
            };
            self.link.begun();
            let end = if may_be_modern {
                self.modern(subscription).await
            } else {
                self.member_id.clear();
                Classic::new(&mut self, subscription).run().await
            };
            match end {
                End::Left(told) => {
                    self.link.set_identity(None);
                    // Whoever waited for it may have stopped.
                    told.map(|told| told.send(()).ok());
                }
                End::Unserved(subscription) => {
                    tracing::info!(
                        group = self.coordinator.group(),
                        "the broker does not serve the consumer protocol; the classic one is used"
                    );
                    may_be_modern = false;
                    wanted = Some(subscription);
                    self.link.ended(self.number, None);
                }
                End::Superseded(subscription) => wanted = Some(subscription),
                End::Failed => {}
                End::Abandoned => return,
            }
        }
    }

    /// Waits until there is something to be a member for.
    async fn wanted(&mut self) -> Option<Subscription> {
        loop {
            match self.commands.recv().await? {
                Command::Subscribe(subscription) => return Some(subscription),
                // Nothing to be left, and nothing to be told.
                Command::Leave(told) => drop(told.send(())),
                Command::Settled { .. } => {}
            }
        }
    }

    async fn modern(&mut self, subscription: Subscription) -> End {
        let serves = match self.serves_modern().await {
            Ok(serves) => serves,
            Err(end) => return end,
        };
        if serves {
            Modern::new(self, subscription).run().await
        } else {
            End::Unserved(subscription)
        }
    }

    /// Asks the coordinator whether it serves consumer groups, until it answers.
    async fn serves_modern(&mut self) -> Result<bool, End> {
        let mut failures = 0;
        loop {
            let coordinator = self.coordinator.clone();
            let connection = async move { coordinator.connection(Lane::Group).await };
            let error = match self.unless_left(connection).await? {
                Ok(connection) => {
                    let version = connection.versions().common(ApiKey::ConsumerGroupHeartbeat);
                    return Ok(version.is_some());
                }
                Err(error) => error,
            };
            if !error.is_retriable() {
                return Err(self.failed(error));
            }
            self.coordinator.note(&error);
            tracing::debug!(group = self.coordinator.group(), %error, "no coordinator yet");
            failures += 1;
            let wait = self.coordinator.cluster().config().retry_backoff.after(failures);
            self.unless_left(tokio::time::sleep(wait)).await?;
        }
    }

    /// Waits for something before the member is one; ends when it is not to become one.
    async fn unless_left<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                command = self.commands.recv() => match command {
                    None => return Err(End::Abandoned),
                    Some(Command::Leave(told)) => return Err(End::Left(Some(told))),
                    Some(Command::Subscribe(subscription)) => return Err(End::Superseded(subscription)),
                    Some(Command::Settled { .. }) => {}
                },
            }
        }
    }

    /// It cannot be a member any more; the handle is told at once.
    pub(super) fn failed(&self, error: Error) -> End {
        tracing::warn!(group = self.coordinator.group(), %error, "not a member any more");
        self.link.ended(self.number, Some(error));
        End::Failed
    }

    /// The next command; none when the handle is gone.
    pub(super) async fn command(&mut self) -> Option<Command> {
        self.commands.recv().await
    }

    /// When the caller will have been away for too long.
    pub(super) fn missed_at(&self) -> Option<Instant> {
        self.link.missed_at(self.config.max_poll_interval)
    }

    pub(super) fn backoff(&self, failures: u32) -> Duration {
        self.coordinator.cluster().config().retry_backoff.after(failures)
    }

    /// How long leaving may take: the group does without the member soon in any case.
    pub(super) fn leave_deadline() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }
}

/// What an error means to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Try again in a moment.
    Again,
    /// The coordinator does not know the member, or takes it for somebody who was replaced: join anew.
    Expelled,
    /// The coordinator does not serve this.
    Unserved,
    /// It is no use.
    Final,
}

/// What an answer of the coordinator means, to members of both kinds.
pub(super) fn judge(error: &Error) -> Verdict {
    match error {
        Error::UnsupportedApi { .. } => Verdict::Unserved,
        _ => match error.code() {
            Some(ErrorCode::UnsupportedVersion) => Verdict::Unserved,
            Some(
                ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration,
            ) => Verdict::Expelled,
            Some(ErrorCode::UnreleasedInstanceId) => Verdict::Final,
            _ if error.is_retriable() => Verdict::Again,
            _ => Verdict::Final,
        },
    }
}
