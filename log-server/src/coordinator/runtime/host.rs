//! One partition of a coordinator's topic with the shard that it holds.
//!
//! A command runs under the host's lock: it decides, its records are appended and replayed, and the lock is given back before anybody
//! waits for the disk. The answer leaves when the partition says that the records are durable; a command without records
//! waits for those before it, because it may have seen what they did. Many commands wait for one sync, each for itself.
//!
//! The state in memory is ahead of the disk by what is not synced yet. When a sync fails, or the log was cut, that state is
//! dropped and read again: what it knew and the disk does not is gone, and everyone who waited was told.
//!
//! Invariant: a shard that serves has replayed exactly the records below `end`, and `end` is the log end. Each append says so
//! ([`Partition::append_own_at`]), so that no record ever follows one that the shard did not see.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use log_core::clock::{Clock, SteadyMs};
use log_core::model::{Offset, ProducerId};
use log_core::producer_state::verification::TransactionProof;
use log_core::record::control::{TransactionEnd, TransactionOutcome};
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};

use crate::coordinator::group::context::Ticket;
use crate::coordinator::runtime::batch::BatchEncoder;
use crate::coordinator::runtime::error::HostError;
use crate::coordinator::runtime::load::Loaded;
use crate::coordinator::runtime::markers::MarkerError;
use crate::coordinator::runtime::serving::{Pending, Refusal, Serving, not_available};
use crate::coordinator::runtime::shard::Shard;
use crate::coordinator::runtime::standing::{Standing, State, StateCell};
use crate::coordinator::runtime::tidy::{Chunk, Rewritten, TidyError, TidyTuning};
use crate::coordinator::runtime::topics::ImageTopics;
use crate::metadata::controller::Controller;
use crate::partition::error::PartitionError;
use crate::partition::fetch_waiter::FetchWaiter;
use crate::partition::partition::{Ack, Condition, Partition};
use crate::partition::registry::PartitionRegistry;
use crate::partition::writer::off_runtime;

/// After a timer's records were refused, so long until the next timer is looked at.
const REFUSED_MS: i64 = 1000;

/// What all hosts of a coordinator share.
#[derive(Debug)]
pub(super) struct HostContext<S: Shard> {
    pub(super) controller: Arc<Controller>,
    pub(super) partitions: Arc<PartitionRegistry>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: S::Settings,
    pub(super) tidying: TidyTuning,
    /// Where tasks go that commands asked for.
    pub(super) tasks: mpsc::UnboundedSender<Task<S>>,
}

/// What a shard wants to be done outside of it. Its records are on the disk.
#[derive(Debug)]
pub(super) struct Task<S: Shard> {
    /// The shard's partition.
    pub(super) partition: i32,
    /// Which of the shards that this partition had since the start wants it; later ones ask themselves.
    pub(super) incarnation: u64,
    pub(super) what: S::Task,
}

/// What a keeper has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The log can be read.
    Load,
    /// Nothing before this time, or before the bell.
    Wait(Option<SteadyMs>),
    /// Something was done; there may be more.
    Again,
    /// It is over.
    End,
}

/// One partition and its shard.
#[derive(Debug)]
pub(super) struct ShardHost<S: Shard> {
    context: Arc<HostContext<S>>,
    partition: Arc<Partition>,
    /// Wakes the keeper: the partition rings it, and so do commands.
    bell: Arc<FetchWaiter>,
    /// The size of the log at which it is worth looking whether it can be made shorter.
    tidy_at: AtomicU64,
    /// How many shards it had.
    incarnations: AtomicU64,
    /// Held for reading by who does something for a task of the shard, and for writing where the next one begins to serve.
    task_gate: RwLock<()>,
    state: StateCell<S>,
}

impl<S: Shard> ShardHost<S> {
    /// A host whose shard has yet to be loaded.
    pub(super) fn new(context: Arc<HostContext<S>>, partition: Arc<Partition>) -> Arc<Self> {
        Arc::new(Self {
            tidy_at: AtomicU64::new(context.tidying.bytes_min),
            incarnations: AtomicU64::new(0),
            context,
            partition,
            bell: FetchWaiter::new(),
            task_gate: RwLock::default(),
            state: StateCell::loading(),
        })
    }

    /// What it shares with the others.
    pub(super) fn context(&self) -> &HostContext<S> {
        &self.context
    }

    /// Its partition.
    pub(super) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// What wakes its keeper.
    pub(super) fn bell(&self) -> &Arc<FetchWaiter> {
        &self.bell
    }

    /// The clock that deadlines are on.
    pub(super) fn steady(&self) -> SteadyMs {
        self.context.clock.steady()
    }

    /// How its shard is, or was a moment ago. Never waits.
    pub(super) fn standing(&self) -> Standing {
        self.state.standing()
    }

    /// What commands are told, if there is no shard.
    pub(super) fn absence(&self) -> Option<HostError> {
        match &*self.state.lock() {
            State::Serving(_) => None,
            State::Absent(error) => Some(error.clone()),
            State::Stopped => Some(HostError::NotCoordinator),
        }
    }

    /// Carries a command out.
    ///
    /// # Errors
    /// There is no shard, or the log refuses the records.
    pub(super) fn begin<R>(
        &self,
        command: impl FnOnce(&mut S, &mut S::Context<'_>) -> R,
    ) -> Result<Pending<R>, HostError> {
        self.with_serving(|serving, host| serving.carry_out(host, command))
    }

    /// The same for a command whose records belong to a producer's transaction, which is under way as `proof` says.
    ///
    /// # Errors
    /// As [`Self::begin`]; the transaction has ended meanwhile.
    pub(super) fn begin_in_transaction<R>(
        &self,
        proof: &TransactionProof,
        command: impl FnOnce(&mut S, &mut S::Context<'_>) -> R,
    ) -> Result<Pending<R>, HostError> {
        self.with_serving(|serving, host| serving.carry_out_proved(host, proof, command))
    }

    /// Carries out a command that follows from a task of a shard, if it is still that shard; `None` if it is not.
    ///
    /// # Errors
    /// The log refuses the records.
    pub(super) fn begin_for<R>(
        &self,
        incarnation: u64,
        command: impl FnOnce(&mut S, &mut S::Context<'_>) -> R,
    ) -> Result<Option<Pending<R>>, HostError> {
        if !self.is_serving(incarnation) {
            return Ok(None);
        }
        self.with_serving(|serving, host| {
            if serving.incarnation != incarnation {
                return Ok(None);
            }
            serving.carry_out(host, command).map(Some)
        })
    }

    /// Ends a producer's transaction in this partition: writes its marker, and the shard sees it. The answer says when it is on the disk.
    ///
    /// # Errors
    /// There is no shard, or the log refuses.
    pub(super) fn append_marker(&self, end: TransactionEnd) -> Result<Ack, MarkerError> {
        let mut state = self.state.lock();
        let serving = match &mut *state {
            State::Serving(serving) => serving,
            State::Absent(error) => return Err(MarkerError::NotServed(error.to_string())),
            State::Stopped => return Err(MarkerError::NotServed(HostError::NotCoordinator.to_string())),
        };
        match self.partition.append_marker_at(end, serving.end) {
            Ok(appended) => {
                serving.end = serving.end.plus(1);
                serving.shard.replay_marker(end.producer_id, end.marker.outcome);
                if let Some(rewritten) = &mut serving.rewritten {
                    rewritten.note_marker(end.producer_id, end.marker.outcome);
                }
                Ok(appended.ack)
            }
            Err(error) => {
                if let PartitionError::LogEndMoved { .. } | PartitionError::Latched { .. } = &error {
                    self.lose(&mut state, &error);
                }
                Err(error.into())
            }
        }
    }

    /// Does something for a task, if its shard is still the one that serves. The next one does not begin to before it is done; commands
    /// of this one go on meanwhile, for the work may take as long as the disk of another partition.
    pub(super) fn while_serving<R>(&self, incarnation: u64, work: impl FnOnce() -> R) -> Option<R> {
        let _gate = self.task_gate.read();
        self.is_serving(incarnation).then(work)
    }

    fn is_serving(&self, incarnation: u64) -> bool {
        matches!(&*self.state.lock(), State::Serving(serving) if serving.incarnation == incarnation)
    }

    /// Carries out a command whose answer comes through the receiver.
    ///
    /// # Errors
    /// There is no shard, or the log refuses the records.
    pub(super) fn begin_parked(
        &self,
        command: impl FnOnce(&mut S, &mut S::Context<'_>, Ticket),
    ) -> Result<oneshot::Receiver<Result<S::Reply, HostError>>, HostError> {
        self.with_serving(|serving, host| {
            let ticket = Ticket(serving.next_ticket);
            serving.next_ticket += 1;
            let (sender, receiver) = oneshot::channel();
            serving.tickets.insert(ticket, sender);
            let done = serving.carry_out(host, |shard, context| command(shard, context, ticket));
            if let Err(refusal) = done {
                serving.tickets.remove(&ticket);
                return Err(refusal);
            }
            Ok(receiver)
        })
    }

    fn with_serving<R>(
        &self,
        work: impl FnOnce(&mut Serving<S>, &Self) -> Result<R, Refusal>,
    ) -> Result<R, HostError> {
        let mut state = self.state.lock();
        let serving = match &mut *state {
            State::Serving(serving) => serving,
            State::Absent(error) => return Err(error.clone()),
            State::Stopped => return Err(HostError::NotCoordinator),
        };
        match work(serving, self) {
            Ok(done) => {
                if serving.wants_keeper_earlier() {
                    self.bell.wake();
                }
                Ok(done)
            }
            Err(Refusal::Command(error)) => Err(error),
            Err(Refusal::Log(error)) => {
                self.lose(&mut state, &error);
                Err(not_available(&error))
            }
        }
    }

    /// Looks at the partition, releases what the disk has, and does the first thing that is due.
    pub(super) fn turn(&self) -> Turn {
        let mut state = self.state.lock();
        let condition = self.partition.condition();
        let serving = match &mut *state {
            State::Stopped => return Turn::End,
            State::Absent(_) => {
                return match &*condition {
                    Condition::Online(reader) => {
                        let offsets = reader.offsets();
                        // What stands behind the high watermark may still be cut.
                        if offsets.high_watermark == offsets.log_end {
                            Turn::Load
                        } else {
                            Turn::Wait(None)
                        }
                    }
                    Condition::Offline { error, .. } => {
                        *state = State::Absent(HostError::Unreadable(error.to_string()));
                        Turn::Wait(None)
                    }
                    Condition::Latched { error, .. } | Condition::Closed(error) => {
                        *state = State::Absent(not_available(error));
                        Turn::Wait(None)
                    }
                };
            }
            State::Serving(serving) => serving,
        };
        let offsets = match &*condition {
            Condition::Online(reader) => reader.offsets(),
            Condition::Latched { error, .. }
            | Condition::Offline { error, .. }
            | Condition::Closed(error) => {
                self.lose(&mut state, error);
                return Turn::Wait(None);
            }
        };
        if offsets.log_end != serving.end {
            let error = PartitionError::LogEndMoved {
                expected: serving.end,
                found: offsets.log_end,
            };
            self.lose(&mut state, &error);
            return Turn::Again;
        }
        serving.release(offsets.high_watermark, self);
        let now = self.steady();
        let is_due = serving.shard.next_deadline().is_some_and(|due| due <= now);
        if !is_due {
            serving.keeper_wakes = serving.shard.next_deadline();
            return Turn::Wait(serving.keeper_wakes);
        }
        match serving.carry_out(self, |shard, context| shard.tick(context)) {
            Ok(_) => Turn::Again,
            // The partition has logged it. What was due may be due again, as its command decided; not at once, though, for the
            // disk is probably full.
            Err(Refusal::Command(_)) => {
                serving.keeper_wakes = Some(now.saturating_plus(REFUSED_MS));
                Turn::Wait(serving.keeper_wakes)
            }
            Err(Refusal::Log(error)) => {
                self.lose(&mut state, &error);
                Turn::Wait(None)
            }
        }
    }

    /// Says what commands are told while the log is read, or why it cannot be.
    pub(super) fn set_absent(&self, error: HostError) {
        let mut state = self.state.lock();
        if let State::Absent(told) = &mut *state {
            *told = error;
        }
    }

    /// Begins to serve with what was read. False when the log has moved on, or the host has stopped.
    pub(super) fn serve(&self, loaded: Loaded<S>) -> bool {
        let _gate = off_runtime(|| self.task_gate.write());
        let mut state = self.state.lock();
        let is_current =
            matches!(&*state, State::Absent(_)) && self.partition.offsets().log_end == loaded.end;
        if !is_current {
            return false;
        }
        let mut serving = Box::new(Serving {
            shard: loaded.shard,
            incarnation: self.incarnations.fetch_add(1, Ordering::Relaxed),
            end: loaded.end,
            tickets: HashMap::new(),
            next_ticket: 0,
            held: VecDeque::new(),
            topics: ImageTopics {
                image: self.context.controller.image(),
                partitions: Arc::clone(&self.context.partitions),
            },
            random: fastrand::Rng::new(),
            encoder: BatchEncoder::default(),
            keeper_wakes: None,
            rewritten: None,
        });
        let begun = serving.carry_out(self, |shard, context| shard.loaded(context));
        *state = State::Serving(serving);
        if let Err(Refusal::Log(error)) = begun {
            self.lose(&mut state, &error);
        }
        true
    }

    /// Ends the service: who waits is told, nobody else is served.
    pub(super) fn stop(&self) {
        let before = std::mem::replace(&mut *self.state.lock(), State::Stopped);
        if let State::Serving(serving) = before {
            serving.dismiss();
        }
        self.bell.wake();
    }

    /// Whether the log has grown so large that tidying it up may be worth it.
    pub(super) fn is_tidying_due(&self) -> bool {
        self.tidy_at.load(Ordering::Relaxed) <= self.partition.size_in_bytes()
            && self.standing() == Standing::Serving
    }

    /// Says at which size to look again.
    pub(super) fn set_tidy_at(&self, bytes: u64) {
        self.tidy_at
            .store(bytes.max(self.context.tidying.bytes_min), Ordering::Relaxed);
    }

    /// How the log is tidied up.
    pub(super) fn tidying(&self) -> TidyTuning {
        self.context.tidying
    }

    /// Begins a new segment, from which on the keys that commands write are noted, and answers where it begins. Blocks.
    ///
    /// # Errors
    /// There is no shard, or the log refuses.
    pub(super) fn begin_tidying(&self, rewritten: Rewritten) -> Result<Offset, TidyError> {
        let mut state = self.state.lock();
        let State::Serving(serving) = &mut *state else {
            return Err(TidyError::Interrupted);
        };
        self.partition.roll()?;
        serving.rewritten = Some(rewritten);
        Ok(serving.end)
    }

    /// How transactions ended since the boundary.
    ///
    /// # Errors
    /// The shard was dropped meanwhile.
    pub(super) fn ended_since_boundary(&self) -> Result<HashMap<ProducerId, TransactionOutcome>, TidyError> {
        match &*self.state.lock() {
            State::Serving(serving) => {
                let rewritten = serving.rewritten.as_ref().ok_or(TidyError::Interrupted)?;
                Ok(rewritten.ended().clone())
            }
            _ => Err(TidyError::Interrupted),
        }
    }

    /// Writes those records again whose keys no command has written since the boundary. `None`, and nothing is written, while a transaction
    /// has yet to decide on one of them: behind its record in the log, the old one would count as the newer.
    ///
    /// # Errors
    /// The shard was dropped meanwhile, or the log refuses.
    pub(super) fn restate(&self, chunk: &Chunk) -> Result<Option<Ack>, TidyError> {
        let mut state = self.state.lock();
        let State::Serving(serving) = &mut *state else {
            return Err(TidyError::Interrupted);
        };
        let rewritten = serving.rewritten.as_ref().ok_or(TidyError::Interrupted)?;
        if chunk.is_undecided(rewritten) {
            return Ok(None);
        }
        let Some((batch, count)) = chunk.batch(rewritten)? else {
            return Ok(Some(Ack::Now));
        };
        let appended = self.partition.append_own_at(&batch, serving.end)?;
        serving.end = serving.end.plus(i64::from(count));
        Ok(Some(appended.ack))
    }

    /// Says when all that was written is on the disk.
    ///
    /// # Errors
    /// There is no shard, or another than at the beginning of the round, or the log failed.
    pub(super) fn ack_of_all(&self) -> Result<Ack, TidyError> {
        match &*self.state.lock() {
            // A shard that was read again meanwhile notes nothing: what the round passed over may not have reached the disk.
            State::Serving(serving) if serving.rewritten.is_some() => {
                Ok(self.partition.when_durable(serving.end)?)
            }
            _ => Err(TidyError::Interrupted),
        }
    }

    /// Ends the noting of keys.
    pub(super) fn end_tidying(&self) {
        if let State::Serving(serving) = &mut *self.state.lock() {
            serving.rewritten = None;
        }
    }

    /// Drops a shard that may know more than the disk.
    fn lose(&self, state: &mut State<S>, error: &PartitionError) {
        let absent = State::Absent(not_available(error));
        if let State::Serving(serving) = std::mem::replace(state, absent) {
            tracing::warn!(
                partition = %self.partition.name(), %error, holds = S::NOUN,
                "what this partition holds is read from the log again"
            );
            serving.dismiss();
        }
        self.bell.wake();
    }
}
