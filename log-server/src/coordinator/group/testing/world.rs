//! A shard as the runtime drives it: commands, their records in a log, answers that wait for the disk, refused writes, crashes.
//!
//! A test says what happens and when; nothing happens by itself. [`World::advance`] is time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use log_core::clock::SteadyMs;
use log_core::model::{Offset, ProducerId, TimestampMs, TopicId};
use log_core::record::control::TransactionOutcome;

use crate::coordinator::group::classic::reply::Reply;
use crate::coordinator::group::context::{Context, GroupOverrides, LogRange, Ticket, TopicFacts, Topics};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::settings::GroupSettings;
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::testing::state;
use crate::coordinator::record::LogRecord as _;

/// The time of day when a test begins.
const BEGINNING: TimestampMs = TimestampMs::new(1_700_000_000_000);

/// Topics that a test makes and changes.
#[derive(Debug, Default)]
pub(crate) struct FakeTopics {
    version: u64,
    by_name: BTreeMap<Arc<str>, TopicFacts>,
    ranges: BTreeMap<(Arc<str>, i32), LogRange>,
    overrides: GroupOverrides,
}

impl FakeTopics {
    /// Makes a topic, gives it more partitions, or deletes it (0 partitions). A topic made again has another id.
    pub(crate) fn set(&mut self, name: &str, partition_count: i32) {
        self.version += 1;
        if partition_count == 0 {
            self.by_name.remove(name);
            return;
        }
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.version.to_be_bytes());
        let facts = self.by_name.entry(name.into()).or_insert_with(|| TopicFacts {
            name: name.into(),
            id: TopicId::from_bytes(id),
            partition_count,
        });
        facts.partition_count = partition_count;
    }

    /// Says where a partition's records begin and end.
    pub(crate) fn set_range(&mut self, name: &str, partition: i32, start: i64, end: i64) {
        let range = LogRange {
            start: Offset::new(start),
            end: Offset::new(end),
        };
        self.ranges.insert((name.into(), partition), range);
    }

    /// Says what groups set themselves.
    pub(crate) fn set_overrides(&mut self, overrides: GroupOverrides) {
        self.version += 1;
        self.overrides = overrides;
    }
}

impl Topics for FakeTopics {
    fn version(&self) -> u64 {
        self.version
    }

    fn by_name(&self, name: &str) -> Option<TopicFacts> {
        self.by_name.get(name).cloned()
    }

    fn by_id(&self, id: TopicId) -> Option<TopicFacts> {
        self.by_name.values().find(|facts| facts.id == id).cloned()
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.by_name.keys().cloned().collect()
    }

    fn log_range(&self, topic: &str, partition: i32) -> Option<LogRange> {
        self.ranges.get(&(topic.into(), partition)).copied()
    }

    fn group_overrides(&self, _group: &str) -> GroupOverrides {
        self.overrides
    }
}

/// What somebody who waited was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// By the group.
    Reply(Reply),
    /// By the runtime: the command failed, or the shard is gone.
    Failed(GroupError),
}

/// What an entry of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    Plain,
    InTransaction(ProducerId),
    Marker(ProducerId, TransactionOutcome),
}

/// A round of tidying under way: what counts is written again behind a boundary, then all before it goes.
#[derive(Debug)]
struct Tidying {
    /// In batches, from the log's very beginning.
    boundary: usize,
    left: VecDeque<GroupRecord>,
    /// What commands wrote since is newer.
    rewritten: HashSet<Vec<u8>>,
}

/// A shard and all that is around it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) shard: GroupShard,
    pub(crate) settings: GroupSettings,
    pub(crate) topics: FakeTopics,
    /// The time of day; a test may set it.
    pub(crate) now: TimestampMs,
    pub(crate) steady: SteadyMs,
    /// Each command's records, in order, and batches of a tidying among them; a marker of a transaction has none.
    pub(crate) log: Vec<Vec<GroupRecord>>,
    /// What each entry of the log is.
    stamps: Vec<Stamp>,
    /// So many batches were before them, and have been tidied away.
    gone: usize,
    tidying: Option<Tidying>,
    /// What commands wrote, from the very beginning, and where each batch ends.
    history: Vec<(usize, Stamp, Vec<GroupRecord>)>,
    /// What the history makes, and how much of it is in there.
    shadow: GroupShard,
    shadow_length: usize,
    /// This much of the log survives a crash in any case.
    synced: usize,
    /// Whether every command is synced at once.
    pub(crate) sync_at_once: bool,
    /// The next commands with records are refused, as by a full disk.
    pub(crate) refuse_writes: bool,
    random: fastrand::Rng,
    last_ticket: u64,
    /// Who waits: everyone is told once.
    waiting: BTreeMap<Ticket, Option<Told>>,
    /// Answers that wait for the log to be synced up to the number.
    held: Vec<(usize, Ticket, Told)>,
    /// Answers of commands to those who waited, in order, since somebody looked.
    pub(crate) said: Vec<(Ticket, Reply)>,
    /// So many commands were refused by the log.
    pub(crate) refusals: u64,
    /// The same for records.
    written: Vec<Vec<GroupRecord>>,
}

impl Stamp {
    fn replay(self, shard: &mut GroupShard, records: &[GroupRecord]) {
        match self {
            Self::Plain => records.iter().for_each(|record| shard.replay(record)),
            Self::InTransaction(producer) => records
                .iter()
                .for_each(|record| shard.replay_in_transaction(producer, record)),
            Self::Marker(producer, outcome) => shard.replay_marker(producer, outcome),
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            shard: GroupShard::default(),
            settings: GroupSettings::default(),
            topics: FakeTopics::default(),
            now: BEGINNING,
            steady: SteadyMs::default(),
            log: Vec::new(),
            stamps: Vec::new(),
            gone: 0,
            tidying: None,
            history: Vec::new(),
            shadow: GroupShard::default(),
            shadow_length: 0,
            synced: 0,
            sync_at_once: true,
            refuse_writes: false,
            random: fastrand::Rng::with_seed(seed),
            last_ticket: 0,
            waiting: BTreeMap::new(),
            held: Vec::new(),
            said: Vec::new(),
            refusals: 0,
            written: Vec::new(),
        }
    }

    /// What was written since somebody looked.
    pub(crate) fn news(&mut self) -> Vec<Vec<GroupRecord>> {
        std::mem::take(&mut self.written)
    }

    /// Whether somebody set the time of day.
    pub(crate) fn clock_was_set(&self) -> bool {
        self.now != BEGINNING.saturating_plus(self.steady.saturating_since(SteadyMs::default()))
    }

    /// Where the log ends, in batches.
    pub(crate) fn end(&self) -> usize {
        self.gone + self.log.len()
    }

    /// Up to where the disk has the log.
    pub(crate) fn synced(&self) -> usize {
        self.synced
    }

    /// Runs a command that is answered at once.
    pub(crate) fn run<R>(
        &mut self,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>) -> R,
    ) -> Result<R, GroupError> {
        let (result, refused) = self.carry_out(None, command);
        refused.map_or(Ok(result), Err)
    }

    /// Runs a command whose answer may come later, for the ticket that is returned.
    pub(crate) fn run_parked(
        &mut self,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>, Ticket),
    ) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.waiting.insert(ticket, None);
        self.carry_out(Some(ticket), |shard, context| command(shard, context, ticket));
        ticket
    }

    fn carry_out<R>(
        &mut self,
        own: Option<Ticket>,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>) -> R,
    ) -> (R, Option<GroupError>) {
        let random = &mut self.random;
        let mut random_id = || random.u128(..).to_be_bytes();
        let mut context = Context::new(
            self.now,
            self.steady,
            &self.settings,
            &self.topics,
            &mut random_id,
        );
        let result = command(&mut self.shard, &mut context);
        let records = std::mem::take(&mut context.records);
        let mut refused = None;
        let mut written = None;
        // Whom the command answered, or was to answer, if nothing could be written.
        let mut taken_back: Vec<Ticket> = Vec::new();
        if !records.is_empty() {
            if self.refuse_writes {
                taken_back.extend(context.replies.drain(..).map(|(ticket, _)| ticket));
                taken_back.extend(own.filter(|own| !taken_back.contains(own)));
                self.shard.write_refused(&records, &mut context);
                assert!(context.records.is_empty(), "what is taken back writes nothing");
                self.refusals += 1;
                refused = Some(GroupError::NotAvailable("the disk is full".to_owned()));
            } else {
                let producer = context.transaction.map(|transaction| transaction.id);
                let stamp = producer.map_or(Stamp::Plain, Stamp::InTransaction);
                stamp.replay(&mut self.shard, &records);
                written = Some((stamp, records));
            }
        }
        let replies = context.replies;
        if let Some((stamp, records)) = written {
            self.append(stamp, records);
        }
        self.said.extend(replies.iter().cloned());
        let answered = replies
            .into_iter()
            .map(|(ticket, reply)| (ticket, Told::Reply(reply)));
        let failed = taken_back
            .into_iter()
            .zip(refused.clone().map(Told::Failed).into_iter().cycle());
        let end = self.end();
        self.held
            .extend(answered.chain(failed).map(|(ticket, told)| (end, ticket, told)));
        // An answer waits for what was written before it, and for nothing else.
        if self.sync_at_once || self.is_synced() {
            self.sync();
        }
        (result, refused)
    }

    /// The marker of a producer's transaction is written.
    pub(crate) fn end_transaction(&mut self, producer: ProducerId, outcome: TransactionOutcome) {
        let stamp = Stamp::Marker(producer, outcome);
        stamp.replay(&mut self.shard, &[]);
        self.append(stamp, Vec::new());
        if self.sync_at_once {
            self.sync();
        }
    }

    fn append(&mut self, stamp: Stamp, records: Vec<GroupRecord>) {
        let newer = match stamp {
            Stamp::Plain => records.iter().map(key).collect(),
            Stamp::Marker(producer, TransactionOutcome::Commit) => self.undecided(producer),
            Stamp::InTransaction(_) | Stamp::Marker(..) => Vec::new(),
        };
        if let Some(tidying) = &mut self.tidying {
            tidying.rewritten.extend(newer);
        }
        self.log.push(records.clone());
        self.stamps.push(stamp);
        self.written.push(records.clone());
        self.history.push((self.end(), stamp, records));
    }

    /// The keys that a producer's open transaction has written.
    fn undecided(&self, producer: ProducerId) -> Vec<Vec<u8>> {
        let entries = self.log.iter().zip(&self.stamps).rev();
        entries
            .take_while(|(_, stamp)| !matches!(stamp, Stamp::Marker(by, _) if *by == producer))
            .filter(|(_, stamp)| **stamp == Stamp::InTransaction(producer))
            .flat_map(|(records, _)| records.iter().map(key))
            .collect()
    }

    /// How the transaction of each entry of the log ended; entries without one count at once.
    fn outcomes(&self) -> Vec<Option<TransactionOutcome>> {
        let mut next: HashMap<ProducerId, TransactionOutcome> = HashMap::new();
        let mut outcomes: Vec<_> = self
            .stamps
            .iter()
            .rev()
            .map(|stamp| match stamp {
                Stamp::Plain => Some(TransactionOutcome::Commit),
                Stamp::InTransaction(producer) => next.get(producer).copied(),
                Stamp::Marker(producer, outcome) => {
                    next.insert(*producer, *outcome);
                    Some(*outcome)
                }
            })
            .collect();
        outcomes.reverse();
        outcomes
    }

    /// The disk has all of the log; answers that waited for it leave.
    pub(crate) fn sync(&mut self) {
        self.synced = self.end();
        for (_, ticket, told) in std::mem::take(&mut self.held) {
            let answer = self
                .waiting
                .get_mut(&ticket)
                .expect("only tickets that were given out are answered");
            assert_eq!(*answer, None, "{ticket:?} is answered twice, with {told:?}");
            *answer = Some(told);
        }
    }

    /// Whether the disk has all of the log.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced == self.end()
    }

    /// Lets time pass, and does all that is due on the way.
    pub(crate) fn advance(&mut self, by_ms: i64) {
        let end = self.steady.saturating_plus(by_ms);
        let mut ticks = 0;
        while let Some(due) = self.shard.next_deadline().filter(|due| *due <= end) {
            self.pass_to(due.max(self.steady));
            while self.carry_out(None, GroupShard::tick).0 {
                ticks += 1;
                assert!(ticks < 100_000, "the same is due again and again");
            }
        }
        self.pass_to(end);
    }

    fn pass_to(&mut self, moment: SteadyMs) {
        self.now = self.now.saturating_plus(moment.saturating_since(self.steady));
        self.steady = moment;
    }

    /// The broker dies, or the disk does not take what was written, and the log is read again: of what was not synced, the first `kept`
    /// commands were written.
    pub(crate) fn crash(&mut self, kept: usize) {
        self.held.clear();
        self.tidying = None;
        self.log
            .truncate(self.synced.saturating_add(kept).max(self.synced) - self.gone);
        self.stamps.truncate(self.log.len());
        self.synced = self.end();
        let end = self.end();
        self.history.retain(|(at, ..)| *at <= end);
        if self.history.len() < self.shadow_length {
            (self.shadow, self.shadow_length) = (GroupShard::default(), 0);
        }
        for told in self.waiting.values_mut() {
            told.get_or_insert(Told::Failed(GroupError::NotCoordinator));
        }
        self.shard = self.replayed();
        self.replay_shadow();
        let difference = state::difference(&self.shard, &self.shadow);
        assert_eq!(difference, None, "a log that was tidied up makes another state");
        let ((), refused) = self.carry_out(None, GroupShard::loaded);
        assert_eq!(refused, None, "loading writes nothing");
    }

    /// What the log makes, and nothing else.
    pub(crate) fn replayed(&self) -> GroupShard {
        let mut shard = GroupShard::default();
        for (records, stamp) in self.log.iter().zip(&self.stamps) {
            stamp.replay(&mut shard, &from_disk(records));
        }
        shard
    }

    /// What is not as the records of commands say it is.
    pub(crate) fn difference(&mut self) -> Option<String> {
        self.replay_shadow();
        state::live_difference(&self.shard, &self.shadow)
    }

    /// All that commands ever wrote makes the shadow: it is replayed as they write.
    fn replay_shadow(&mut self) {
        for (_, stamp, records) in self.history.iter().skip(self.shadow_length) {
            stamp.replay(&mut self.shadow, &from_disk(records));
        }
        self.shadow_length = self.history.len();
    }

    /// One step of a tidying: it begins, some of what counts is written again, or it ends, and what was before it is gone. It waits for
    /// transactions.
    pub(crate) fn tidy(&mut self, count: usize) {
        let outcomes: Option<Vec<_>> = self.outcomes().into_iter().collect();
        let Some(outcomes) = outcomes else { return };
        let Some(tidying) = &mut self.tidying else {
            let entries = self.log.iter().zip(&outcomes);
            let decided = entries.filter(|(_, outcome)| **outcome == TransactionOutcome::Commit);
            let records: Vec<_> = decided.flat_map(|(records, _)| records).collect();
            let mut last: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
            for (at, record) in records.iter().enumerate() {
                last.insert(key(record), at);
            }
            let records = records.into_iter().enumerate();
            let counts = |at: usize, record: &GroupRecord| {
                last.get(&key(record)) == Some(&at) && !is_tombstone(record)
            };
            self.tidying = Some(Tidying {
                boundary: self.end(),
                left: records
                    .filter(|(at, record)| counts(*at, record))
                    .map(|(_, record)| record.clone())
                    .collect(),
                rewritten: HashSet::new(),
            });
            return;
        };
        if tidying.left.is_empty() {
            self.log.drain(..tidying.boundary - self.gone);
            self.stamps.drain(..tidying.boundary - self.gone);
            self.gone = tidying.boundary;
            self.tidying = None;
            return self.sync();
        }
        let chunk = tidying.left.drain(..count.min(tidying.left.len()));
        let again: Vec<GroupRecord> = chunk
            .filter(|record| !tidying.rewritten.contains(&key(record)))
            .collect();
        self.log.push(again);
        self.stamps.push(Stamp::Plain);
    }

    /// What somebody was told, if he was. He does not wait any longer then.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<Told> {
        let told = self.waiting.get_mut(&ticket)?.take()?;
        self.waiting.remove(&ticket);
        Some(told)
    }

    /// How many still wait.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.values().filter(|told| told.is_none()).count()
    }
}

fn key(record: &GroupRecord) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode_key(&mut bytes).unwrap();
    bytes
}

fn is_tombstone(record: &GroupRecord) -> bool {
    !record.encode_value(&mut Vec::new()).unwrap()
}

/// The records as the disk gives them back.
fn from_disk(records: &[GroupRecord]) -> Vec<GroupRecord> {
    let read = |record: &GroupRecord| {
        let mut bytes = Vec::new();
        let has_value = record.encode_value(&mut bytes).unwrap();
        GroupRecord::decode(&key(record), has_value.then_some(&bytes))
            .unwrap()
            .unwrap()
    };
    records.iter().map(read).collect()
}
