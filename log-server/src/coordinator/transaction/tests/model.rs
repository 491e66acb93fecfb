//! Random schedules of one transactional id: several producers of both versions, lost answers, questions that come again when they were
//! answered, refused writes, markers that come late and in pieces, time, crashes that take what was not synced.
//!
//! Always: all records of a transaction have one outcome, in all partitions; what was answered is so; a producer that was fenced
//! by an answered question writes nothing any more; a question whose answer was heard changes nothing when it comes again. In the end every transaction is complete, and replaying the log gives the live
//! state. `STRATALOG_SEED` replays a run, `STRATALOG_SCHEDULES` says how many.

use std::collections::BTreeMap;

use super::*;
use crate::coordinator::group::testing::schedules::play;
use TransactionOutcome::{Abort, Commit};

const TOPICS: [&str; 3] = ["a", "b", "c"];
const PRODUCERS: usize = 3;

/// A transaction as its producer counts them.
type Number = u64;

/// A producer as the protocol wants it.
#[derive(Debug, Default)]
struct Producer {
    version: i16,
    identity: Option<ProducerIdentity>,
    /// The transaction that it has begun.
    number: Option<Number>,
    /// What it asked for, until that is answered.
    ending: Option<TransactionOutcome>,
    /// An answered question of another producer came later.
    is_fenced: bool,
}

/// What a partition knows of a producer id.
#[derive(Debug, Default)]
struct Entry {
    epoch: i16,
    open: Vec<Number>,
}

struct Model {
    world: World,
    random: fastrand::Rng,
    producers: Vec<Producer>,
    partitions: BTreeMap<&'static str, BTreeMap<i64, Entry>>,
    /// So many records of the log are on the disk.
    durable: usize,
    /// Markers that may be written: their decision is on the disk.
    running: Vec<DecidedTransaction>,
    numbers: Number,
    outcomes: BTreeMap<Number, TransactionOutcome>,
    promised: BTreeMap<Number, TransactionOutcome>,
    /// Who asked for the next epoch and heard the answer.
    heard: Vec<ProducerIdentity>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let producer = |place: usize| Producer {
            version: if place == 0 { 0 } else { 2 },
            ..Producer::default()
        };
        Self {
            world: World::new(),
            random,
            producers: (0..PRODUCERS).map(producer).collect(),
            partitions: BTreeMap::new(),
            durable: 0,
            running: Vec::new(),
            numbers: 0,
            outcomes: BTreeMap::new(),
            promised: BTreeMap::new(),
            heard: Vec::new(),
        }
    }

    fn step(&mut self) {
        let place = self.random.usize(..PRODUCERS);
        match self.random.u8(..21) {
            0 | 1 => self.begin_producer(place),
            2..=8 => self.append(place),
            9..=12 => self.end(place),
            13..=15 => self.write_marker(),
            16 => self.sync(),
            17 => self.pass(),
            18 => self.crash(),
            19 => self.ask_again(),
            _ => self.world.refuses = true,
        }
    }

    /// What was written is on the disk; or it is not, and the answer does not leave.
    fn is_answered(&mut self) -> bool {
        if self.random.u8(..8) == 0 {
            return false;
        }
        self.sync();
        // It may be lost on the way, too.
        self.random.u8(..8) != 0
    }

    fn sync(&mut self) {
        self.durable = self.world.log.len();
        self.running.append(&mut self.world.decided);
    }

    fn crash(&mut self) {
        self.world.log.truncate(self.durable);
        self.running.clear();
        self.world.refuses = false;
        self.world.reload();
        self.sync();
    }

    fn pass(&mut self) {
        self.world.elapsed += self.random.i64(0..2 * i64::from(TIMEOUT_MS));
        while let Some(due) = self.world.shard.next_deadline()
            && due <= SteadyMs::new(self.world.elapsed)
        {
            self.world.try_run(TransactionShard::tick);
        }
    }

    fn begin_producer(&mut self, place: usize) {
        let producer = &self.producers[place];
        let goes_on = producer.identity.filter(|_| self.random.bool());
        let had = producer.number.is_some();
        self.world.refuses = false;
        let Ok(identity) = self.world.init_as(goes_on) else {
            if self.is_answered() && goes_on.is_some() {
                self.producers[place].identity = None;
            }
            return;
        };
        assert!(!had || self.world.state() == TransactionState::Empty);
        if !self.is_answered() {
            return;
        }
        self.heard.extend(goes_on);
        let version = self.producers[place].version;
        for other in &mut self.producers {
            other.is_fenced = true;
        }
        self.producers[place] = Producer {
            version,
            identity: Some(identity),
            ..Producer::default()
        };
        // Epochs never go back.
        if identity.epoch.get() < i16::MAX - 3 && self.random.u8(..6) == 0 {
            self.producers[place].identity = Some(self.world.set_epoch(i16::MAX - self.random.i16(1..4)));
            self.sync();
        }
    }

    /// A copy of a question comes late: whoever asked knows the answer.
    fn ask_again(&mut self) {
        let Some(late) = self.random.choice(&self.heard).copied() else {
            return;
        };
        let seen = |world: &World| {
            let transaction = world.transaction();
            (
                transaction.state,
                transaction.producer,
                transaction.partitions.clone(),
            )
        };
        let before = seen(&self.world);
        self.world.refuses = false;
        drop(self.world.init_as(Some(late)));
        assert_eq!(seen(&self.world), before, "a late copy of {late:?}");
    }

    fn append(&mut self, place: usize) {
        let topic = TOPICS[self.random.usize(..TOPICS.len())];
        let Producer {
            version,
            identity: Some(identity),
            ending: None,
            is_fenced,
            number,
        } = self.producers[place]
        else {
            return;
        };
        let number = number.unwrap_or_else(|| {
            self.numbers += 1;
            self.numbers
        });
        let entries = self.partitions.entry(topic).or_default();
        let entry = entries.entry(identity.id.get()).or_default();
        if identity.epoch.get() < entry.epoch {
            return;
        }
        let is_open = entry.epoch == identity.epoch.get() && !entry.open.is_empty();
        if !is_open {
            let request = asked(identity, &[topic]);
            let added = self
                .world
                .try_run(|shard, context| shard.add_partitions(context, &request, version));
            match added {
                Some(Ok(())) => {}
                Some(Err(TransactionError::ConcurrentTransactions)) | None => return,
                Some(Err(_)) => {
                    let producer = &mut self.producers[place];
                    if self.random.bool() {
                        // Whether it is fenced the end of the transaction shows.
                        producer.number = Some(number);
                        producer.ending = Some(Abort);
                    } else {
                        producer.identity = None;
                    }
                    return;
                }
            }
            self.producers[place].number = Some(number);
            if !self.is_answered() {
                return;
            }
            if version == 0 {
                let verified = self.world.shard.verify_partitions(&request);
                if !verified.is_ok_and(|rows| rows.iter().all(|(_, row)| row.is_ok())) {
                    return;
                }
            }
        }
        assert!(!is_fenced, "a producer wrote that was fenced");
        let entry = self.partitions.get_mut(topic).unwrap();
        let entry = entry.get_mut(&identity.id.get()).unwrap();
        entry.epoch = identity.epoch.get();
        entry.open.push(number);
    }

    fn end(&mut self, place: usize) {
        let Producer {
            version,
            identity: Some(identity),
            ending,
            number: Some(number),
            ..
        } = self.producers[place]
        else {
            return;
        };
        let outcome = ending.unwrap_or(if self.random.bool() { Commit } else { Abort });
        self.producers[place].ending = Some(outcome);
        self.world.refuses = false;
        let answer = self.world.end(identity, outcome, version);
        if !self.is_answered() {
            return;
        }
        let producer = &mut self.producers[place];
        match answer {
            Ok(next) => {
                let before = self.promised.insert(number, outcome);
                assert!(before.is_none_or(|before| before == outcome));
                producer.identity = Some(next);
                producer.number = None;
                producer.ending = None;
            }
            Err(TransactionError::ConcurrentTransactions) => {}
            Err(_) => {
                producer.identity = None;
                producer.number = None;
                producer.ending = None;
            }
        }
    }

    /// Writes one marker, or completes a transaction that has all of them.
    fn write_marker(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let place = self.random.usize(..self.running.len());
        let decided = &mut self.running[place];
        let Some(partition) = decided.partitions.pop_first() else {
            let done = self.running.swap_remove(place);
            let completed = self
                .world
                .try_run(|shard, context| shard.complete_transaction(context, &done));
            if completed.is_none() {
                self.running.push(done);
            }
            return;
        };
        let (producer, outcome) = (decided.producer, decided.outcome);
        let topic = TOPICS
            .into_iter()
            .find(|topic| *partition.topic == **topic)
            .unwrap();
        let entries = self.partitions.entry(topic).or_default();
        let entry = entries.entry(producer.id.get()).or_default();
        assert!(entry.epoch <= producer.epoch.get(), "a marker is never late");
        entry.epoch = producer.epoch.get();
        for number in entry.open.drain(..) {
            let before = self.outcomes.insert(number, outcome);
            assert!(
                before.is_none_or(|before| before == outcome),
                "{number} has two outcomes"
            );
        }
    }

    fn settle(&mut self) {
        self.world.refuses = false;
        self.world.pass(2 * i64::from(TIMEOUT_MS));
        self.sync();
        while !self.running.is_empty() {
            self.write_marker();
            self.sync();
        }
        let open = self.partitions.values().flat_map(BTreeMap::values);
        assert!(
            open.into_iter().all(|entry| entry.open.is_empty()),
            "a transaction is left open"
        );
        for (number, promised) in &self.promised {
            let found = self.outcomes.get(number);
            assert!(
                found.is_none_or(|found| found == promised),
                "{number}: {promised:?}, {found:?}"
            );
        }
        let live = self.world.shard.transactions.clone();
        self.world.reload();
        let masked = live.into_iter().map(|(id, one)| (id, without_last_epoch(one)));
        assert_eq!(self.world.shard.transactions, masked.collect());
        assert!(self.world.decided.is_empty());
    }
}

#[test]
fn random_schedules() {
    play(400, |seed| {
        let mut model = Model::new(seed);
        for _ in 0..200 {
            model.step();
        }
        model.settle();
    });
}
