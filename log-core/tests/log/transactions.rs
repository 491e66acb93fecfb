//! Transactions beside a model of them: what a reader of committed records sees, and up to where.
//!
//! The model is the list of what producers wrote within transactions and of the markers, by offset. From that list alone it says
//! which transactions were aborted, and where the last stable offset must be. The reader drops records as Kafka's consumer
//! does, by the list of aborted transactions that came with them.

use std::collections::{BTreeMap, BTreeSet};

use log_core::index::transaction_index::AbortedTransaction;
use log_core::log::{AppendOrigin, ReadBound, ReadRequest};
use log_core::model::{Offset, ProducerEpoch, ProducerId, Sequence, TransactionVersion};
use log_core::producer_state::verification::{TransactionProof, TransactionalBatch};
use log_core::record::batch::{Batch, batches};
use log_core::record::control::{EndTransactionMarker, TransactionEnd, TransactionOutcome};
use log_core::segment::segment::Patience;

use crate::support::{ModelRecord, World};

/// What stands at an offset.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A batch of a transaction.
    Data {
        producer: ProducerId,
        epoch: i16,
        last_sequence: i32,
        last_offset: i64,
    },
    Marker {
        producer: ProducerId,
        epoch: i16,
        is_abort: bool,
    },
}

impl Event {
    fn producer(self) -> ProducerId {
        match self {
            Self::Data { producer, .. } | Self::Marker { producer, .. } => producer,
        }
    }
}

/// A transaction that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended {
    producer: ProducerId,
    first: i64,
    marker: i64,
    is_abort: bool,
}

/// Everything of transactions, by offset.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    events: BTreeMap<i64, Event>,
}

/// Every other producer follows version 2 of the protocol.
fn version(producer: ProducerId) -> TransactionVersion {
    if producer.get() % 2 == 0 {
        TransactionVersion::V1
    } else {
        TransactionVersion::V2
    }
}

impl Transactions {
    pub(crate) fn cut(&mut self, end: i64) {
        self.events.split_off(&end);
    }

    /// What a producer's next batch says of itself.
    pub(crate) fn next_batch(&self, producer: ProducerId) -> TransactionalBatch {
        let (epoch, sequence) = self.next(producer);
        TransactionalBatch {
            producer_id: producer,
            producer_epoch: ProducerEpoch::new(epoch),
            base_sequence: Sequence::new(sequence),
            version: version(producer),
        }
    }

    /// That batch, of `count` records, stands at `base`.
    pub(crate) fn note_batch(&mut self, base: i64, batch: &TransactionalBatch, count: usize) {
        let event = Event::Data {
            producer: batch.producer_id,
            epoch: batch.producer_epoch.get(),
            last_sequence: batch.base_sequence.get() + count as i32 - 1,
            last_offset: base + count as i64 - 1,
        };
        self.events.insert(base, event);
    }

    /// The marker that ends a producer's transaction, or one more where it has none open.
    pub(crate) fn next_marker(&self, producer: ProducerId, is_abort: bool) -> TransactionEnd {
        let (epoch, _) = self.next(producer);
        let epoch = match version(producer) {
            TransactionVersion::V2 if self.is_open(producer) => epoch + 1,
            _ => epoch,
        };
        let outcome = if is_abort {
            TransactionOutcome::Abort
        } else {
            TransactionOutcome::Commit
        };
        TransactionEnd {
            producer_id: producer,
            producer_epoch: ProducerEpoch::new(epoch),
            version: version(producer),
            marker: EndTransactionMarker {
                outcome,
                coordinator_epoch: 0,
            },
        }
    }

    /// That marker stands at `base`.
    pub(crate) fn note_marker(&mut self, base: i64, end: &TransactionEnd) {
        let event = Event::Marker {
            producer: end.producer_id,
            epoch: end.producer_epoch.get(),
            is_abort: end.marker.outcome == TransactionOutcome::Abort,
        };
        self.events.insert(base, event);
    }

    pub(crate) fn is_open(&self, producer: ProducerId) -> bool {
        self.replay().0.contains_key(&producer)
    }

    /// Behind the last batch or marker.
    pub(crate) fn end(&self) -> i64 {
        self.events
            .last_key_value()
            .map_or(0, |(offset, event)| match event {
                Event::Data { last_offset, .. } => last_offset + 1,
                Event::Marker { .. } => offset + 1,
            })
    }

    /// The epoch and sequence of a producer's next batch.
    fn next(&self, producer: ProducerId) -> (i16, i32) {
        let mut next = (0, 0);
        for event in self.events.values().filter(|event| event.producer() == producer) {
            next = match *event {
                Event::Data {
                    epoch, last_sequence, ..
                } => (epoch, last_sequence + 1),
                Event::Marker { epoch, .. } if next.0 == epoch => next,
                Event::Marker { epoch, .. } => (epoch, 0),
            };
        }
        next
    }

    /// What is open, by producer, and what has ended.
    fn replay(&self) -> (BTreeMap<ProducerId, i64>, Vec<Ended>) {
        let mut open = BTreeMap::new();
        let mut ended = Vec::new();
        for (&offset, event) in &self.events {
            match *event {
                Event::Data { producer, .. } => {
                    open.entry(producer).or_insert(offset);
                }
                Event::Marker {
                    producer, is_abort, ..
                } => {
                    if let Some(first) = open.remove(&producer) {
                        ended.push(Ended {
                            producer,
                            first,
                            marker: offset,
                            is_abort,
                        });
                    }
                }
            }
        }
        (open, ended)
    }

    /// Where the last stable offset must be.
    pub(crate) fn last_stable(&self, log_start: i64, high_watermark: i64) -> i64 {
        let (open, ended) = self.replay();
        let undecided = ended
            .iter()
            .filter(|one| high_watermark <= one.marker)
            .map(|one| one.first);
        let unstable = open.into_values().chain(undecided).min();
        unstable
            .unwrap_or(high_watermark)
            .min(high_watermark)
            .max(log_start)
    }

    /// The offsets whose records an aborted transaction wrote, and those of markers.
    pub(crate) fn dropped(&self) -> BTreeSet<i64> {
        let (_, ended) = self.replay();
        let mut dropped = BTreeSet::new();
        for (&offset, event) in &self.events {
            match *event {
                Event::Marker { .. } => {
                    dropped.insert(offset);
                }
                Event::Data {
                    producer,
                    last_offset,
                    ..
                } => {
                    let is_aborted = ended.iter().any(|one| {
                        one.is_abort && one.producer == producer && (one.first..one.marker).contains(&offset)
                    });
                    if is_aborted {
                        dropped.extend(offset..=last_offset);
                    }
                }
            }
        }
        dropped
    }
}

impl World {
    /// Appends a batch to a producer's transaction, which begins with it if it has none open.
    pub(crate) fn append_in_transaction(&mut self, producer: ProducerId, count: usize) -> Result<(), String> {
        let wanted = self.transactions.next_batch(producer);
        let is_open = self.transactions.is_open(producer);
        let (records, batch) = self.build_of_transaction(count, &wanted);
        let base = self.end();
        self.deed(format!("append {count} at {base} in a transaction: {wanted:?}"));
        let story = self.story();
        let proof = match self.log().start_verification(&wanted) {
            Ok(proof) => proof,
            Err(error) => panic!("{error}\n{story}"),
        };
        assert_eq!(proof == TransactionProof::Ongoing, is_open, "{story}");
        if !is_open && self.log().latch_reason().is_none() {
            let refused = self.log().append_one(&batch);
            assert!(refused.is_err(), "began a transaction without a proof\n{story}");
        }
        for (index, record) in records.iter().enumerate() {
            self.records.insert(base + index as i64, record.clone());
        }
        let end = base + count as i64;
        self.boundaries.push(end);
        self.transactions.note_batch(base, &wanted, count);
        self.log()
            .append_proved(&batch, AppendOrigin::Client, &proof)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    /// Writes the marker that ends a producer's transaction, or one more where it has none open.
    pub(crate) fn end_transaction(&mut self, producer: ProducerId, is_abort: bool) -> Result<(), String> {
        let end = self.transactions.next_marker(producer, is_abort);
        let base = self.end();
        self.deed(format!("at {base}: {end:?}"));
        let now = log_core::clock::Clock::now(self.clock.as_ref());
        let record = ModelRecord {
            timestamp: now.get(),
            value: vec![0; 6],
        };
        self.records.insert(base, record);
        self.boundaries.push(base + 1);
        self.transactions.note_marker(base, &end);
        let marker = end.to_batch(now, self.config.timestamp_type);
        self.log()
            .append_marker(&marker)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    /// Reads all committed records from an offset on, in pieces, and compares them with the model.
    pub(crate) fn check_committed(&mut self, from: i64, bytes_max: usize) {
        let story = self.story();
        let reader = self.log().reader();
        let offsets = reader.offsets();
        let last_stable = offsets.last_stable.get();
        let expected_stable = self
            .transactions
            .last_stable(offsets.log_start.get(), offsets.high_watermark.get());
        assert_eq!(
            last_stable, expected_stable,
            "last stable offset of {offsets:?}\n{story}"
        );
        let mut found = BTreeSet::new();
        let mut next = from.max(self.log_start);
        let start = next;
        while next < last_stable {
            let slice = reader
                .read(ReadRequest {
                    offset: Offset::new(next),
                    bytes_max,
                    at_least_one_batch: true,
                    bound: ReadBound::LastStable,
                    patience: Patience::MayBlock,
                })
                .unwrap_or_else(|error| panic!("read at {next}: {error}\n{story}"));
            let end = for_each_committed(&slice.records, &slice.aborted, |batch| {
                let offsets = batch.header().base_offset.get()..=batch.header().last_offset().get();
                found.extend(offsets.filter(|offset| next <= *offset));
            });
            let end = end.map_or(next, Offset::get);
            assert!(
                next < end && end <= last_stable,
                "{next}..{end} of {last_stable}\n{story}"
            );
            next = end;
        }
        let dropped = self.transactions.dropped();
        let expected: BTreeSet<i64> = self
            .records
            .range(start..last_stable.max(start))
            .map(|(offset, _)| *offset)
            .filter(|offset| !dropped.contains(offset))
            .collect();
        assert_eq!(
            found, expected,
            "committed records from {start} to {last_stable}\n{story}"
        );
    }
}

/// Reads as Kafka's consumer does: aborted transactions begin at their first offsets and end with their markers.
/// Calls `take` with each batch that is left, and returns where the last batch ends.
pub(crate) fn for_each_committed(
    records: &[u8],
    aborted: &[AbortedTransaction],
    mut take: impl FnMut(&Batch<'_>),
) -> Option<Offset> {
    let mut waiting: BTreeSet<(Offset, ProducerId)> = aborted
        .iter()
        .map(|one| (one.first_offset, one.producer_id))
        .collect();
    let mut active = BTreeSet::new();
    let mut end = None;
    for batch in batches(records) {
        let Ok(batch) = batch else { break };
        let header = *batch.header();
        while let Some(first) = waiting.first().copied()
            && first.0 <= header.last_offset()
        {
            waiting.remove(&first);
            active.insert(first.1);
        }
        end = Some(header.next_offset());
        if header.attributes.is_control() {
            let marker = EndTransactionMarker::in_batch(batch.bytes());
            if marker.is_some_and(|marker| marker.outcome == TransactionOutcome::Abort) {
                active.remove(&header.producer_id);
            }
            continue;
        }
        if header.attributes.is_transactional() && active.contains(&header.producer_id) {
            continue;
        }
        take(&batch);
    }
    end
}

/// An index that was damaged or lost behind the recovery's back is made again from the log when it is needed.
#[test]
fn a_lost_index_of_aborted_transactions_is_made_again() {
    use log_core::fs::FileSystem as _;
    use std::path::Path;

    for damage in [None, Some(b"no index".as_slice()), Some(&[0; 33])] {
        let mut world = World::new(crate::support::small_config());
        let (first, second) = (ProducerId::new(10), ProducerId::new(12));
        world.append_in_transaction(second, 2).unwrap();
        for round in 0..40 {
            world.append_in_transaction(first, 3).unwrap();
            world.end_transaction(first, round % 2 == 0).unwrap();
        }
        world.end_transaction(second, true).unwrap();
        world.flush().unwrap();
        world.seal().unwrap();
        world.restart().unwrap();
        let directory = Path::new("/data/events-3");
        let indexes: Vec<_> = world
            .files
            .list(directory)
            .unwrap()
            .into_iter()
            .filter(|entry| entry.name.ends_with(".txnindex"))
            .collect();
        assert!(2 < indexes.len(), "{indexes:?}");
        for entry in &indexes {
            let path = directory.join(&entry.name);
            match damage {
                // The log knows of it since it was opened.
                None => world.files.remove_file(&path).unwrap(),
                Some(bytes) => world.files.replace(&path, bytes).unwrap(),
            }
        }
        world.check_committed(0, 1000);
        world.check_committed(60, 200);
    }
}

/// An orderly stop took a log that nobody wrote to for stored, and each start made the index again.
#[test]
fn a_damaged_index_of_aborted_transactions_is_stored_by_the_next_orderly_stop() {
    use log_core::fs::FileSystem as _;

    let mut world = World::new(crate::support::small_config());
    let producer = ProducerId::new(10);
    world.append_in_transaction(producer, 2).unwrap();
    world.end_transaction(producer, true).unwrap();
    world.restart().unwrap();
    let path = std::path::Path::new("/data/events-3/00000000000000000000.txnindex");
    let stored = world.files.read(path, 1000).unwrap();
    world.files.replace(path, b"no index").unwrap();
    world.restart().unwrap();
    world.restart().unwrap();
    assert_eq!(world.files.read(path, 1000).unwrap(), stored);
}

/// A log in which nothing was aborted has no index of it, however it was opened, and asks no disk for one.
#[test]
fn a_log_without_aborted_transactions_has_no_index_of_them() {
    use log_core::fs::FileSystem as _;

    let mut world = World::new(crate::support::small_config());
    let producer = ProducerId::new(10);
    for _ in 0..40 {
        world.append_in_transaction(producer, 3).unwrap();
        world.end_transaction(producer, false).unwrap();
    }
    world.flush().unwrap();
    world.seal().unwrap();
    world.checkpoint().unwrap();
    let image = world.files.crash(log_core::fs::mem::crash::CrashMode::SyncedOnly);
    world.recover_on(image);
    world.restart().unwrap();
    world.check_committed(0, 300);
    let entries = world.files.list(std::path::Path::new("/data/events-3")).unwrap();
    assert!(
        entries.iter().all(|entry| !entry.name.ends_with(".txnindex")),
        "{entries:?}"
    );
}

/// A checkpoint stored a snapshot of the producers behind a segment that was rolled and waited for its sealing: after a crash
/// nothing told of the transactions that were aborted in it.
#[test]
fn a_checkpoint_behind_a_roll_loses_no_aborted_transaction() {
    for seals_late in [false, true] {
        let mut world = World::new(crate::support::small_config());
        let producer = ProducerId::new(10);
        world.append_in_transaction(producer, 3).unwrap();
        world.end_transaction(producer, true).unwrap();
        world.flush().unwrap();
        world.log().roll().unwrap();
        world.append_in_transaction(producer, 3).unwrap();
        world.flush().unwrap();
        if seals_late {
            // The second of two segments is completed before the first.
            let first = world.log().take_seal_tasks();
            world.log().roll().unwrap();
            world.append_in_transaction(producer, 3).unwrap();
            world.flush().unwrap();
            for task in world.log().take_seal_tasks() {
                task.run().unwrap();
            }
            drop(first);
        } else {
            world.checkpoint().unwrap();
        }
        let image = world.files.crash(log_core::fs::mem::crash::CrashMode::SyncedOnly);
        world.recover_on(image);
    }
}

/// Below the recovery point nobody had verified a marker: a rotten one left its transaction open or ended it otherwise, and one of
/// a lower offset took the whole broker down at every start.
#[test]
fn a_rotten_marker_below_the_recovery_point_is_damage() {
    use std::path::{Path, PathBuf};

    use log_core::fs::FileSystem as _;
    use log_core::fs::mem::crash::CrashMode;
    use log_core::log::LogError;
    use log_core::log_manager::LogDirectory;

    use crate::support::{TOPIC_ID, context, partition, small_config};

    let mut world = World::new(small_config());
    let producer = ProducerId::new(10);
    for _ in 0..3 {
        world.append_in_transaction(producer, 1).unwrap();
        world.end_transaction(producer, true).unwrap();
    }
    world.flush().unwrap();
    world.log().roll().unwrap();
    world.append_in_transaction(producer, 1).unwrap();
    world.flush().unwrap();
    world.seal().unwrap();
    world.checkpoint().unwrap();
    let directory = Path::new("/data/events-3");
    let segment = directory.join("00000000000000000000.log");
    let sound = world.files.read(&segment, 1 << 20).unwrap();
    let sizes: Vec<usize> = batches(&sound)
        .map(|batch| batch.unwrap().header().size())
        .collect();
    let marker: usize = sizes[..3].iter().sum();
    // No checksum guards the leader epoch, and no transaction depends on it.
    let leader_epoch = 12..16;
    for at in (0..sizes[3]).filter(|at| !leader_epoch.contains(at)) {
        let image = world.files.crash(CrashMode::All);
        for entry in image.list(directory).unwrap() {
            // Snapshots are hints, and without them all is replayed.
            if entry.name.ends_with(".snapshot") {
                image.remove_file(&directory.join(&entry.name)).unwrap();
            }
        }
        let mut rotten = sound.clone();
        rotten[marker + at] ^= 1;
        image.replace(&segment, &rotten).unwrap();
        let (manager, _) = LogDirectory::open(context(&image, &world.clock), PathBuf::from("/data")).unwrap();
        let outcome = manager.load(&partition(), TOPIC_ID, small_config());
        assert!(
            matches!(outcome, Err(LogError::Damaged(_))),
            "byte {at} of the marker: {outcome:?}"
        );
    }
}
