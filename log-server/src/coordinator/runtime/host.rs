//! One partition of `__consumer_offsets` with the shard of groups that it holds.
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
use log_core::model::{Offset, TimestampMs};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::coordinator::group::classic::reply::Reply;
use crate::coordinator::group::context::{Context, Ticket};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::settings::GroupSettings;
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::runtime::batch::BatchEncoder;
use crate::coordinator::runtime::load::Loaded;
use crate::coordinator::runtime::tidy::{Chunk, Rewritten, TidyError, TidyTuning};
use crate::coordinator::runtime::topics::ImageTopics;
use crate::metadata::controller::Controller;
use crate::partition::error::PartitionError;
use crate::partition::fetch_waiter::FetchWaiter;
use crate::partition::partition::{Ack, Condition, Partition};
use crate::partition::registry::PartitionRegistry;

/// After a timer's records were refused, so long until the next timer is looked at.
const REFUSED_MS: i64 = 1000;

/// What all hosts share.
#[derive(Debug)]
pub(super) struct HostContext {
    pub(super) controller: Arc<Controller>,
    pub(super) partitions: Arc<PartitionRegistry>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: GroupSettings,
    pub(super) tidying: TidyTuning,
}

/// Where an answer of type [`Reply`] goes.
type ReplySender = oneshot::Sender<Result<Reply, GroupError>>;

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
    pub(super) async fn finish(self) -> Result<R, GroupError> {
        match self.ack {
            Ack::Now => Ok(self.answer),
            Ack::WhenDurable(receiver) => match receiver.await {
                Ok(Ok(())) => Ok(self.answer),
                // The keeper hears of it too, and drops the shard.
                Ok(Err(_)) | Err(_) => Err(GroupError::NotCoordinator),
            },
        }
    }
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
pub(super) struct ShardHost {
    context: Arc<HostContext>,
    partition: Arc<Partition>,
    /// Wakes the keeper: the partition rings it, and so do commands.
    bell: Arc<FetchWaiter>,
    /// The size of the log at which it is worth looking whether it can be made shorter.
    tidy_at: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// There is no shard, and this is what commands are told.
    Absent(GroupError),
    Serving(Box<Serving>),
    /// For good.
    Stopped,
}

#[derive(Debug)]
struct Serving {
    shard: GroupShard,
    /// Behind the last record that was replayed.
    end: Offset,
    tickets: HashMap<Ticket, ReplySender>,
    next_ticket: u64,
    /// Answers of parked requests, and up to where the disk must be for them to leave. The ends never fall.
    replies: VecDeque<(Offset, ReplySender, Reply)>,
    topics: ImageTopics,
    random: fastrand::Rng,
    encoder: BatchEncoder,
    /// When the keeper will look at the timers by itself.
    keeper_wakes: Option<SteadyMs>,
    /// While the log is tidied up: the keys that were written since.
    rewritten: Option<Rewritten>,
}

impl ShardHost {
    /// A host whose shard has yet to be loaded.
    pub(super) fn new(context: Arc<HostContext>, partition: Arc<Partition>) -> Arc<Self> {
        Arc::new(Self {
            tidy_at: AtomicU64::new(context.tidying.bytes_min),
            context,
            partition,
            bell: FetchWaiter::new(),
            state: Mutex::new(State::Absent(GroupError::LoadInProgress)),
        })
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

    /// What commands are told, if there is no shard.
    pub(super) fn absence(&self) -> Option<GroupError> {
        match &*self.state.lock() {
            State::Serving(_) => None,
            State::Absent(error) => Some(error.clone()),
            State::Stopped => Some(GroupError::NotCoordinator),
        }
    }

    /// Carries a command out.
    ///
    /// # Errors
    /// There is no shard, or the log refuses the records.
    pub(super) fn begin<R>(
        &self,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>) -> R,
    ) -> Result<Pending<R>, GroupError> {
        self.with_serving(|serving, host| serving.carry_out(host, command))
    }

    /// Carries out a command whose answer comes through the receiver.
    ///
    /// # Errors
    /// There is no shard, or the log refuses the records.
    pub(super) fn begin_parked(
        &self,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>, Ticket),
    ) -> Result<oneshot::Receiver<Result<Reply, GroupError>>, GroupError> {
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
        work: impl FnOnce(&mut Serving, &Self) -> Result<R, Refusal>,
    ) -> Result<R, GroupError> {
        let mut state = self.state.lock();
        let serving = match &mut *state {
            State::Serving(serving) => serving,
            State::Absent(error) => return Err(error.clone()),
            State::Stopped => return Err(GroupError::NotCoordinator),
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
                        *state = State::Absent(GroupError::Unreadable(error.to_string()));
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
        serving.release(offsets.high_watermark);
        let now = self.steady();
        let is_due = serving.shard.next_deadline().is_some_and(|due| due <= now);
        if !is_due {
            serving.keeper_wakes = serving.shard.next_deadline();
            return Turn::Wait(serving.keeper_wakes);
        }
        match serving.carry_out(self, GroupShard::tick) {
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
    pub(super) fn set_absent(&self, error: GroupError) {
        let mut state = self.state.lock();
        if let State::Absent(told) = &mut *state {
            *told = error;
        }
    }

    /// Begins to serve with what was read. False when the log has moved on, or the host has stopped.
    pub(super) fn serve(&self, loaded: Loaded) -> bool {
        let mut state = self.state.lock();
        let is_current =
            matches!(&*state, State::Absent(_)) && self.partition.offsets().log_end == loaded.end;
        if !is_current {
            return false;
        }
        let mut serving = Box::new(Serving {
            shard: loaded.shard,
            end: loaded.end,
            tickets: HashMap::new(),
            next_ticket: 0,
            replies: VecDeque::new(),
            topics: ImageTopics {
                image: self.context.controller.image(),
                partitions: Arc::clone(&self.context.partitions),
            },
            random: fastrand::Rng::new(),
            encoder: BatchEncoder::default(),
            keeper_wakes: None,
            rewritten: None,
        });
        let begun = serving.carry_out(self, GroupShard::loaded);
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
            && matches!(&*self.state.lock(), State::Serving(_))
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

    /// Writes those records again whose keys no command has written since the boundary.
    ///
    /// # Errors
    /// The shard was dropped meanwhile, or the log refuses.
    pub(super) fn restate(&self, chunk: &Chunk) -> Result<Ack, TidyError> {
        let mut state = self.state.lock();
        let State::Serving(serving) = &mut *state else {
            return Err(TidyError::Interrupted);
        };
        let rewritten = serving.rewritten.as_ref().ok_or(TidyError::Interrupted)?;
        let Some((batch, count)) = chunk.batch(rewritten)? else {
            return Ok(Ack::Now);
        };
        let appended = self.partition.append_own_at(&batch, serving.end)?;
        serving.end = serving.end.plus(i64::from(count));
        Ok(appended.ack)
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
    fn lose(&self, state: &mut State, error: &PartitionError) {
        let absent = State::Absent(not_available(error));
        if let State::Serving(serving) = std::mem::replace(state, absent) {
            tracing::warn!(
                partition = %self.partition.name(), %error,
                "the groups of this partition are read from the log again; their members join anew"
            );
            serving.dismiss();
        }
        self.bell.wake();
    }
}

/// Why a command was not carried out.
enum Refusal {
    /// Nothing was written, and the shard goes on.
    Command(GroupError),
    /// Nobody knows what was written: the shard has to be read again.
    Log(PartitionError),
}

impl Refusal {
    fn of(error: PartitionError) -> Self {
        match error {
            PartitionError::DiskFull { .. } | PartitionError::Storage { .. } => {
                Self::Command(not_available(&error))
            }
            PartitionError::BatchExceedsSegment { .. } | PartitionError::Invalid(_) => {
                Self::Command(GroupError::InvalidRequest(error.to_string()))
            }
            _ => Self::Log(error),
        }
    }
}

fn not_available(error: &PartitionError) -> GroupError {
    GroupError::NotAvailable(error.to_string())
}

impl Serving {
    /// Runs a command, writes and replays its records, and sees to the answers of others.
    fn carry_out<R>(
        &mut self,
        host: &ShardHost,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>) -> R,
    ) -> Result<Pending<R>, Refusal> {
        self.topics.image = host.context.controller.image();
        let now = host.context.clock.now();
        let random = &mut self.random;
        let mut random_id = move || random.u128(..).to_be_bytes();
        let mut context = Context::new(
            now,
            host.steady(),
            &host.context.settings,
            &self.topics,
            &mut random_id,
        );
        let answer = command(&mut self.shard, &mut context);

        let written = match context.records.as_slice() {
            [] => host.partition.when_durable(self.end).map_err(Refusal::Log),
            records => write(&mut self.encoder, &host.partition, records, self.end, now),
        };
        let ack = match written {
            Ok(ack) => ack,
            Err(Refusal::Log(error)) => return Err(Refusal::Log(error)),
            Err(Refusal::Command(error)) => {
                // What the command said to others is not so. Who is not told anything else is told to try again.
                let taken_back = std::mem::take(&mut context.replies);
                let records = std::mem::take(&mut context.records);
                self.shard.write_refused(&records, &mut context);
                let replies = context.replies;
                self.answer(replies, &Ack::Now);
                for (ticket, _) in taken_back {
                    if let Some(sender) = self.tickets.remove(&ticket) {
                        drop(sender.send(Err(error.clone())));
                    }
                }
                return Err(Refusal::Command(error));
            }
        };
        let Context { records, replies, .. } = context;
        for record in &records {
            self.shard.replay(record);
            self.end = self.end.plus(1);
        }
        if let Some(rewritten) = &mut self.rewritten {
            self.encoder.keys(&records, |key| rewritten.note(key));
        }
        self.answer(replies, &ack);
        Ok(Pending { answer, ack })
    }

    /// Sends answers to those who wait, or keeps them until the disk has what they tell of.
    fn answer(&mut self, replies: Vec<(Ticket, Reply)>, ack: &Ack) {
        for (ticket, reply) in replies {
            // Whose connection is gone may still be answered; nobody hears it.
            let Some(sender) = self.tickets.remove(&ticket) else {
                continue;
            };
            match ack {
                Ack::Now => drop(sender.send(Ok(reply))),
                Ack::WhenDurable(_) => self.replies.push_back((self.end, sender, reply)),
            }
        }
    }

    fn release(&mut self, durable: Offset) {
        while let Some((end, ..)) = self.replies.front()
            && *end <= durable
        {
            if let Some((_, sender, reply)) = self.replies.pop_front() {
                drop(sender.send(Ok(reply)));
            }
        }
    }

    /// Tells everyone who waits that there is nothing to wait for.
    fn dismiss(self: Box<Self>) {
        let parked = self.tickets.into_values();
        let answered = self.replies.into_iter().map(|(_, sender, _)| sender);
        for sender in parked.chain(answered) {
            drop(sender.send(Err(GroupError::NotCoordinator)));
        }
    }

    fn wants_keeper_earlier(&self) -> bool {
        match (self.shard.next_deadline(), self.keeper_wakes) {
            (Some(deadline), Some(wakes)) => deadline < wakes,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

fn write(
    encoder: &mut BatchEncoder,
    partition: &Partition,
    records: &[GroupRecord],
    end: Offset,
    now: TimestampMs,
) -> Result<Ack, Refusal> {
    let batch = encoder
        .encode(records, now)
        .map_err(|error| Refusal::Command(GroupError::InvalidRequest(error.to_string())))?;
    match partition.append_own_at(&batch, end) {
        Ok(appended) => Ok(appended.ack),
        Err(error) => Err(Refusal::of(error)),
    }
}
