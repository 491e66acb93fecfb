//! Keeping a partition of a coordinator's topic short: what still counts is written again at the log's end, and the log start moves behind
//! what was there before. A cleaner for all compacted topics is another matter; this one never changes a segment.
//!
//! One round, on a thread of its own, beside the commands:
//!
//! 1. The log is read: of each key the last record counts, if it is no tombstone and no record of an aborted transaction. If that is more
//!    than half of the log, the round ends here.
//! 2. Under the host's lock a new segment is begun, at `boundary`. From now on the host notes which keys commands write.
//! 3. What counts below the boundary is written again, in chunks, each under the lock for a moment and waited for before the
//!    next. A key that was written behind the boundary is left out: what stands there is newer.
//! 4. When everything up to the log's end is on the disk, the log start moves to the boundary, durably, and the segments
//!    below are removed.
//!
//! A record of a transaction counts when its marker is there. Transactions that are open at the boundary are waited for before step 3, so
//! that all below it is decided, and written again as if there had been no transaction. A key on which a later transaction
//! has yet to decide is waited for, too: of two records the one behind the other counts, and what is written again must not
//! come to stand behind what is newer.
//!
//! Wherever it stops, the log start is where it was, and replaying gives the same state: what was written again says what the records
//! before it say. From each log start on, a reader finds the last record of every key. Bytes are copied and not understood, so
//! that records of a later version survive, too.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use log_core::model::{Offset, ProducerId, TimestampMs};
use log_core::record::batch_builder::{AppendError, BatchBuilder, BatchOptions};
use log_core::record::batch_header::BatchHeader;
use log_core::record::control::{ControlRecord, TransactionOutcome};
use log_core::record::record::Record;
use log_core::record::validator::{ValidatedBatch, trust_own};

use crate::coordinator::runtime::host::ShardHost;
use crate::coordinator::runtime::load::{LoadError, walk};
use crate::coordinator::runtime::shard::{BatchOwner, Shard};
use crate::partition::error::PartitionError;
use crate::partition::partition::Ack;

/// When a log is tidied up, and in what steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct TidyTuning {
    /// A log below this size is left alone: it is read in a moment.
    pub(super) bytes_min: u64,
    /// So much is written again at a time. Small, because commands wait for it.
    pub(super) chunk_bytes: usize,
}

impl Default for TidyTuning {
    fn default() -> Self {
        Self {
            bytes_min: 8 << 20,
            chunk_bytes: 64 << 10,
        }
    }
}

/// Why a round did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum TidyError {
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] LoadError),
    /// The log refused.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// A chunk is no batch.
    #[error(transparent)]
    Build(#[from] AppendError),
    /// The shard was dropped, or the broker stops.
    #[error("the shard is no longer served")]
    Interrupted,
    /// Transactions did not end.
    #[error("a transaction has been open for too long")]
    TransactionOpen,
}

/// What a round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tidied {
    /// Bytes of the records that count.
    pub(super) live_bytes: u64,
    /// Where the log starts now, if it was worth it.
    pub(super) log_start: Option<Offset>,
}

/// A key's 128 bits of hash, in the place of the key: two keys that share them will not be met before the disk has failed many times.
pub(super) type Digest = (u64, u64);

/// Makes digests, with secrets of its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Digester(RandomState, RandomState);

impl Digester {
    pub(super) fn digest(&self, key: &[u8]) -> Digest {
        (self.0.hash_one(key), self.1.hash_one(key))
    }
}

/// The keys that commands wrote since a round's boundary.
#[derive(Debug)]
pub(super) struct Rewritten {
    digester: Digester,
    keys: HashSet<Digest>,
    /// Those that open transactions wrote.
    undecided: HashMap<ProducerId, HashSet<Digest>>,
    /// How the transactions ended whose markers came since; of each producer the first, which may have begun before.
    ended: HashMap<ProducerId, TransactionOutcome>,
}

impl Rewritten {
    pub(super) fn new(digester: Digester) -> Self {
        Self {
            digester,
            keys: HashSet::new(),
            undecided: HashMap::new(),
            ended: HashMap::new(),
        }
    }

    /// A command wrote a key, perhaps in a producer's transaction.
    pub(super) fn note(&mut self, key: &[u8], producer: Option<ProducerId>) {
        let digest = self.digester.digest(key);
        match producer {
            None => self.keys.insert(digest),
            Some(producer) => self.undecided.entry(producer).or_default().insert(digest),
        };
    }

    /// A transaction has ended.
    pub(super) fn note_marker(&mut self, producer: ProducerId, outcome: TransactionOutcome) {
        let decided = self.undecided.remove(&producer).unwrap_or_default();
        if outcome == TransactionOutcome::Commit {
            self.keys.extend(decided);
        }
        self.ended.entry(producer).or_insert(outcome);
    }

    pub(super) fn ended(&self) -> &HashMap<ProducerId, TransactionOutcome> {
        &self.ended
    }
}

/// Records to be written again.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Keys and values, one behind the other.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    digest: Digest,
    timestamp: TimestampMs,
    key_bytes: usize,
    value_bytes: usize,
}

impl Chunk {
    fn push(&mut self, digest: Digest, timestamp: TimestampMs, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.entries.push(Entry {
            digest,
            timestamp,
            key_bytes: key.len(),
            value_bytes: value.len(),
        });
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Whether an open transaction wrote one of the keys that nobody else has written meanwhile.
    pub(super) fn is_undecided(&self, rewritten: &Rewritten) -> bool {
        let open = |digest: &Digest| rewritten.undecided.values().any(|keys| keys.contains(digest));
        let digests = self.entries.iter().map(|entry| &entry.digest);
        let mut left = digests.filter(|digest| !rewritten.keys.contains(digest));
        !rewritten.undecided.is_empty() && left.any(open)
    }

    /// A batch of those that were not written meanwhile, and how many they are; `None` when there are none.
    pub(super) fn batch(&self, rewritten: &Rewritten) -> Result<Option<(ValidatedBatch, u32)>, AppendError> {
        let mut builder = BatchBuilder::with_capacity(BatchOptions::default(), self.bytes.len());
        let mut rest = self.bytes.as_slice();
        for entry in &self.entries {
            let (key, behind) = rest.split_at(entry.key_bytes);
            let (value, behind) = behind.split_at(entry.value_bytes);
            rest = behind;
            if !rewritten.keys.contains(&entry.digest) {
                builder.append(entry.timestamp, Some(key), Some(value), &[])?;
            }
        }
        let count = builder.record_count();
        if count == 0 {
            return Ok(None);
        }
        let batch = trust_own(builder.build()).expect("a batch that was just built is sound");
        Ok(Some((batch, count)))
    }
}

/// Where the last record of each key stands.
#[derive(Debug)]
struct LastRecords {
    digester: Digester,
    /// By key: the offset, and the record's size; 0 of a tombstone.
    places: HashMap<Digest, (Offset, u32)>,
    /// The same of transactions whose markers have not been seen.
    undecided: HashMap<ProducerId, HashMap<Digest, (Offset, u32)>>,
}

impl LastRecords {
    /// Takes note of a record. Control records have nothing to say once what they decided has been written again.
    fn note(&mut self, batch: &BatchHeader, record: &Record<'_>) {
        if batch.attributes.is_control() {
            // One that cannot be read would have ended the load of the shard.
            if let Ok(ControlRecord::EndTransaction(marker)) = ControlRecord::parse(record) {
                self.decide(batch.producer_id, marker.outcome);
            }
            return;
        }
        let digest = self.digester.digest(record.key.unwrap_or_default());
        let size = record
            .value
            .map_or(0, |_| u32::try_from(record.size()).unwrap_or(u32::MAX));
        let place = (record.offset, size);
        match BatchOwner::of(batch).filter(|_| record.value.is_some()) {
            Some(owner) => {
                let places = self.undecided.entry(owner.producer_id).or_default();
                places.insert(digest, place);
            }
            None => drop(self.places.insert(digest, place)),
        }
    }

    /// A transaction has ended: its records count, unless others stand behind them.
    fn decide(&mut self, producer: ProducerId, outcome: TransactionOutcome) {
        let decided = self.undecided.remove(&producer).unwrap_or_default();
        if outcome == TransactionOutcome::Abort {
            return;
        }
        for (digest, place) in decided {
            let last = self.places.entry(digest).or_insert(place);
            *last = place.max(*last);
        }
    }

    fn live_bytes(&self) -> u64 {
        self.places.values().map(|(_, size)| u64::from(*size)).sum()
    }
}

/// Does one round. Blocks.
pub(super) fn tidy<S: Shard>(host: &Arc<ShardHost<S>>, tuning: TidyTuning) -> Result<Tidied, TidyError> {
    let partition = host.partition();
    let offsets = partition.condition().reader()?.offsets();
    let (start, measured) = (offsets.log_start, offsets.high_watermark);
    let digester = Digester::default();
    let mut last = LastRecords {
        digester: digester.clone(),
        places: HashMap::new(),
        undecided: HashMap::new(),
    };
    walk(partition, start, measured, |batch, record| {
        last.note(batch, record);
        Ok(())
    })?;
    let live_bytes = last.live_bytes();
    if partition.size_in_bytes() < live_bytes.saturating_mul(2) {
        return Ok(Tidied {
            live_bytes,
            log_start: None,
        });
    }

    let boundary = host.begin_tidying(Rewritten::new(digester))?;
    wait(partition.when_durable(boundary)?)?;
    walk(partition, measured, boundary, |batch, record| {
        last.note(batch, record);
        Ok(())
    })?;
    decide_all(host, &mut last)?;
    restate(host, start, boundary, &last, tuning.chunk_bytes)?;
    // What commands wrote in the place of records that were left out must be on the disk, too.
    wait(host.ack_of_all()?)?;
    let log_start = partition.delete_records_now(Some(boundary))?;
    Ok(Tidied {
        live_bytes,
        log_start: Some(log_start),
    })
}

/// Waits for the end of the transactions that were open at the boundary.
fn decide_all<S: Shard>(host: &ShardHost<S>, last: &mut LastRecords) -> Result<(), TidyError> {
    let mut patience = PATIENCE;
    while !last.undecided.is_empty() {
        for (producer, outcome) in host.ended_since_boundary()? {
            last.decide(producer, outcome);
        }
        if !last.undecided.is_empty() {
            patience.wait()?;
        }
    }
    Ok(())
}

/// How often something is looked at again that open transactions stand in the way of.
#[derive(Debug, Clone, Copy)]
struct Patience(u32);

/// About a minute. Where transactions stay open for longer, the round is put off.
const PATIENCE: Patience = Patience(3_000);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Patience {
    /// Lets a moment pass. This thread has nothing else to do.
    fn wait(&mut self) -> Result<(), TidyError> {
        self.0 = self.0.checked_sub(1).ok_or(TidyError::TransactionOpen)?;
        std::thread::sleep(LOOK_AGAIN);
        Ok(())
    }
}

/// Step 3.
fn restate<S: Shard>(
    host: &ShardHost<S>,
    start: Offset,
    boundary: Offset,
    last: &LastRecords,
    chunk_bytes: usize,
) -> Result<(), TidyError> {
    let mut chunk = Chunk::default();
    let mut outcome = Ok(());
    let walked = walk(host.partition(), start, boundary, |batch, record| {
        if batch.attributes.is_control() {
            return Ok(());
        }
        let key = record.key.unwrap_or_default();
        let digest = last.digester.digest(key);
        let counts = (last.places.get(&digest)).is_some_and(|(offset, _)| *offset == record.offset);
        let Some(value) = record.value.filter(|_| counts) else {
            return Ok(());
        };
        chunk.push(digest, record.timestamp, key, value);
        if chunk.bytes.len() < chunk_bytes {
            return Ok(());
        }
        outcome = write_again(host, &mut chunk);
        // Any error ends the walk; the one that counts is in `outcome`.
        outcome.is_ok().then_some(()).ok_or(LoadError::Ended)
    });
    outcome?;
    walked?;
    write_again(host, &mut chunk)
}

fn write_again<S: Shard>(host: &ShardHost<S>, chunk: &mut Chunk) -> Result<(), TidyError> {
    let mut patience = PATIENCE;
    let ack = loop {
        if let Some(ack) = host.restate(chunk)? {
            break ack;
        }
        patience.wait()?;
    };
    chunk.clear();
    wait(ack)
}

/// Waits for the disk.
fn wait(ack: Ack) -> Result<(), TidyError> {
    match ack {
        Ack::Now => Ok(()),
        Ack::WhenDurable(receiver) => match receiver.blocking_recv() {
            Ok(durable) => Ok(durable?),
            Err(_) => Err(TidyError::Interrupted),
        },
    }
}
