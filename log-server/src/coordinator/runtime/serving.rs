//! A shard that serves: what its commands do to it, to its log, and to those who wait.
//! The host holds the lock around all of it, and decides when a shard begins and ends.

use std::collections::{HashMap, VecDeque};

use log_core::clock::SteadyMs;
use log_core::model::Offset;
use log_core::producer_state::verification::TransactionProof;
use log_core::record::validator::ValidatedBatch;
use tokio::sync::oneshot;

use crate::coordinator::group::context::Ticket;
use crate::coordinator::runtime::batch::BatchEncoder;
use crate::coordinator::runtime::error::HostError;
use crate::coordinator::runtime::host::{ShardHost, Task};
use crate::coordinator::runtime::shard::{Effects, Shard, World};
use crate::coordinator::runtime::tidy::Rewritten;
use crate::coordinator::runtime::topics::ImageTopics;
use crate::partition::error::PartitionError;
use crate::partition::partition::{Ack, Partition};

/// An answer whose command has been carried out.
#[derive(Debug)]
pub(super) struct Pending<R> {
    answer: R,
    ack: Ack,
}

impl<R> Pending<R> {
    /// The answer, when it may leave.
    ///
    /// # Errors
    /// `NotCoordinator` when what the command wrote, or saw, may not be on the disk.
    pub(super) async fn finish(self) -> Result<R, HostError> {
        match self.ack {
            Ack::Now => Ok(self.answer),
            Ack::WhenDurable(receiver) => match receiver.await {
                Ok(Ok(())) => Ok(self.answer),
                // The keeper hears of it too, and drops the shard.
                Ok(Err(_)) | Err(_) => Err(HostError::NotCoordinator),
            },
        }
    }
}

/// Where the answer of a parked request goes.
pub(super) type ReplySender<S> = oneshot::Sender<Result<<S as Shard>::Reply, HostError>>;

/// What has to wait until the disk has the records of its command.
#[derive(Debug)]
pub(super) enum Held<S: Shard> {
    Reply(ReplySender<S>, S::Reply),
    Task(S::Task),
}

/// The shard, and all who wait for it.
#[derive(Debug)]
pub(super) struct Serving<S: Shard> {
    pub(super) shard: S,
    pub(super) incarnation: u64,
    /// Behind the last record that was replayed.
    pub(super) end: Offset,
    pub(super) tickets: HashMap<Ticket, ReplySender<S>>,
    pub(super) next_ticket: u64,
    /// Answers of parked requests and tasks, and up to where the disk must be for them to leave. The ends never fall.
    pub(super) held: VecDeque<(Offset, Held<S>)>,
    pub(super) topics: ImageTopics,
    pub(super) random: fastrand::Rng,
    pub(super) encoder: BatchEncoder,
    /// When the keeper will look at the timers by itself.
    pub(super) keeper_wakes: Option<SteadyMs>,
    /// While the log is tidied up: the keys that were written since.
    pub(super) rewritten: Option<Rewritten>,
}

/// Why a command was not carried out.
pub(super) enum Refusal {
    /// Nothing was written, and the shard goes on.
    Command(HostError),
    /// Nobody knows what was written: the shard has to be read again.
    Log(PartitionError),
}

impl Refusal {
    fn of(error: PartitionError) -> Self {
        match error {
            PartitionError::DiskFull { .. } | PartitionError::Storage { .. } => {
                Self::Command(not_available(&error))
            }
            PartitionError::Producer(refusal) => Self::Command(HostError::Producer(refusal)),
            PartitionError::BatchExceedsSegment { .. } | PartitionError::Invalid(_) => {
                Self::Command(HostError::InvalidRequest(error.to_string()))
            }
            _ => Self::Log(error),
        }
    }
}

/// What commands are told while the log cannot serve.
pub(super) fn not_available(error: &PartitionError) -> HostError {
    HostError::NotAvailable(error.to_string())
}

impl<S: Shard> Serving<S> {
    /// Runs a command, writes and replays its records, and sees to the answers of others.
    pub(super) fn carry_out<R>(
        &mut self,
        host: &ShardHost<S>,
        command: impl FnOnce(&mut S, &mut S::Context<'_>) -> R,
    ) -> Result<Pending<R>, Refusal> {
        self.carry_out_proved(host, &TransactionProof::Ongoing, command)
    }

    /// The same for a command whose records may belong to a transaction, which is under way as `proof` says.
    pub(super) fn carry_out_proved<R>(
        &mut self,
        host: &ShardHost<S>,
        proof: &TransactionProof,
        command: impl FnOnce(&mut S, &mut S::Context<'_>) -> R,
    ) -> Result<Pending<R>, Refusal> {
        self.topics.image = host.context().controller.image();
        let now = host.context().clock.now();
        let random = &mut self.random;
        let mut random_id = move || random.u128(..).to_be_bytes();
        let world = World {
            now,
            steady: host.steady(),
            topics: &self.topics,
            random_id: &mut random_id,
        };
        let mut context = S::context(world, &host.context().settings);
        let answer = command(&mut self.shard, &mut context);
        let effects = S::take_effects(&mut context);

        let written = if effects.records.is_empty() {
            host.partition().when_durable(self.end).map_err(Refusal::Log)
        } else {
            let batch = self.encoder.encode(&effects.records, effects.owner, now);
            batch
                .map_err(|error| Refusal::Command(HostError::InvalidRequest(error.to_string())))
                .and_then(|batch| append(host.partition(), &batch, &effects, proof, self.end))
        };
        let ack = match written {
            Ok(ack) => ack,
            Err(Refusal::Log(error)) => return Err(Refusal::Log(error)),
            Err(Refusal::Command(error)) => {
                // What the command said to others is not so. Who is not told anything else is told to try again.
                self.shard.write_refused(&effects.records, &mut context);
                let instead = S::take_effects(&mut context);
                drop(context);
                self.hold(instead.replies, instead.tasks, &Ack::Now, host);
                for (ticket, _) in effects.replies {
                    if let Some(sender) = self.tickets.remove(&ticket) {
                        drop(sender.send(Err(error.clone())));
                    }
                }
                return Err(Refusal::Command(error));
            }
        };
        drop(context);
        let Effects {
            records,
            owner,
            replies,
            tasks,
        } = effects;
        for record in &records {
            self.shard.replay(record, owner);
            self.end = self.end.plus(1);
        }
        if let Some(rewritten) = &mut self.rewritten {
            let producer = owner.map(|owner| owner.producer_id);
            self.encoder.keys(&records, |key| rewritten.note(key, producer));
        }
        self.hold(replies, tasks, &ack, host);
        Ok(Pending { answer, ack })
    }

    /// Sends answers to those who wait and begins tasks, or keeps both until the disk has what they come from.
    fn hold(
        &mut self,
        replies: Vec<(Ticket, S::Reply)>,
        tasks: Vec<S::Task>,
        ack: &Ack,
        host: &ShardHost<S>,
    ) {
        let tickets = &mut self.tickets;
        // Whose connection is gone may still be answered; nobody hears it.
        let replies = replies.into_iter().filter_map(|(ticket, reply)| {
            let sender = tickets.remove(&ticket)?;
            Some(Held::Reply(sender, reply))
        });
        for held in replies.chain(tasks.into_iter().map(Held::Task)) {
            match ack {
                Ack::Now => held.release(host, self.incarnation),
                Ack::WhenDurable(_) => self.held.push_back((self.end, held)),
            }
        }
    }

    pub(super) fn release(&mut self, durable: Offset, host: &ShardHost<S>) {
        while let Some((end, _)) = self.held.front()
            && *end <= durable
        {
            if let Some((_, held)) = self.held.pop_front() {
                held.release(host, self.incarnation);
            }
        }
    }

    /// Tells everyone who waits that there is nothing to wait for. Tasks are dropped: the next shard asks for them again.
    pub(super) fn dismiss(self) {
        let parked = self.tickets.into_values();
        let answered = self.held.into_iter().filter_map(|(_, held)| match held {
            Held::Reply(sender, _) => Some(sender),
            Held::Task(_) => None,
        });
        for sender in parked.chain(answered) {
            drop(sender.send(Err(HostError::NotCoordinator)));
        }
    }

    pub(super) fn wants_keeper_earlier(&self) -> bool {
        match (self.shard.next_deadline(), self.keeper_wakes) {
            (Some(deadline), Some(wakes)) => deadline < wakes,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

impl<S: Shard> Held<S> {
    fn release(self, host: &ShardHost<S>, incarnation: u64) {
        match self {
            Self::Reply(sender, reply) => drop(sender.send(Ok(reply))),
            // Nobody listens any more when the broker stops.
            Self::Task(task) => drop(host.context().tasks.send(Task {
                partition: host.partition().name().partition,
                incarnation,
                what: task,
            })),
        }
    }
}

fn append<S: Shard>(
    partition: &Partition,
    batch: &ValidatedBatch,
    effects: &Effects<S>,
    proof: &TransactionProof,
    end: Offset,
) -> Result<Ack, Refusal> {
    let appended = match effects.owner {
        None => partition.append_own_at(batch, end),
        Some(_) => partition.append_own_in_transaction_at(batch, proof, end),
    };
    appended.map(|appended| appended.ack).map_err(Refusal::of)
}
