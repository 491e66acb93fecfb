//! Every parser of a small file, fed with damaged files: it must return, never panic, never take memory that the
//! file does not pay for, and what it accepts must be usable and come out again as it went in.
//!
//! The inputs are sound files, cut, spliced, and changed in bits, bytes and numbers; where a checksum guards the
//! contents it is mostly mended afterwards, so that the parser behind it is reached. Each input is made from one seed.
//! `STRATALOG_SEED` replays one; `STRATALOG_FUZZ_SECONDS` goes on for longer than the few seconds of an ordinary run,
//! and `STRATALOG_FUZZ_TARGET` picks the parsers whose name contains it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use bytes::Bytes;
use log_core::checkpoint::clean_shutdown::CleanShutdown;
use log_core::checkpoint::error::CheckpointFile;
use log_core::checkpoint::{leader_epoch_checkpoint, offset_checkpoint, partition_metadata};
use log_core::envelope::{self, EnvelopeKind};
use log_core::index::offset_index::{OffsetIndex, OffsetIndexView};
use log_core::index::time_index::{TimeIndex, TimeIndexView};
use log_core::index::transaction_index::{AbortedTransaction, TransactionIndex};
use log_core::leader_epoch::{EpochEntry, LeaderEpochCache};
use log_core::model::{
    FilePosition, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId,
    TopicPartition,
};
use log_core::producer_state::manager::ProducerStateManager;
use log_core::producer_state::snapshot::Snapshot;
use log_core::producer_state::verification::TransactionProof;
use log_core::record::batch_attributes::Attributes;
use log_core::record::batch_header::BatchHeader;
use log_core::record::crc32c;

/// How many inputs an ordinary run makes.
const INPUTS: u64 = 40_000;
/// The address space left to the process: a parser that believes a length aborts.
const MEMORY_MAX: u64 = 1 << 30;

/// One parser under test.
struct Target {
    name: &'static str,
    /// A sound file; `random` varies its size.
    sample: fn(&mut fastrand::Rng) -> Vec<u8>,
    /// Mends the checksum.
    mend: fn(&mut [u8]),
    /// Parses and, when that succeeds, uses what it got. Says whether it succeeded.
    parse: fn(&[u8]) -> bool,
}

const TARGETS: [Target; 8] = [
    Target {
        name: "offset index",
        sample: offset_index,
        mend: no_checksum,
        parse: parse_offset_index,
    },
    Target {
        name: "time index",
        sample: time_index,
        mend: no_checksum,
        parse: parse_time_index,
    },
    Target {
        name: "transaction index",
        sample: transaction_index,
        mend: no_checksum,
        parse: parse_transaction_index,
    },
    Target {
        name: "producer snapshot",
        sample: snapshot,
        mend: mend_snapshot,
        parse: parse_snapshot,
    },
    Target {
        name: "offset checkpoint",
        sample: offset_checkpoint,
        mend: no_checksum,
        parse: parse_offset_checkpoint,
    },
    Target {
        name: "epoch checkpoint",
        sample: epoch_checkpoint,
        mend: no_checksum,
        parse: parse_epoch_checkpoint,
    },
    Target {
        name: "small files",
        sample: small_files,
        mend: no_checksum,
        parse: parse_small_files,
    },
    Target {
        name: "envelope",
        sample: sealed,
        mend: mend_envelope,
        parse: parse_envelope,
    },
];

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "seed and length of the run come from the environment"
)]
fn damaged_files_are_refused_or_harmless() {
    let limit = rustix::process::Rlimit {
        current: Some(MEMORY_MAX),
        maximum: Some(MEMORY_MAX),
    };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
    let named_seed = std::env::var("STRATALOG_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().unwrap());
    if let Some(seed) = named_seed {
        run(seed);
        return;
    }
    let seconds = std::env::var("STRATALOG_FUZZ_SECONDS")
        .ok()
        .map(|seconds| seconds.parse::<u64>().unwrap());
    let wanted = std::env::var("STRATALOG_FUZZ_TARGET").unwrap_or_default();
    let started = std::time::Instant::now();
    let first = fastrand::u64(..u64::MAX / 2);
    let mut counts: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for seed in first.. {
        let is_over = match seconds {
            Some(seconds) => seconds <= started.elapsed().as_secs(),
            None => first + INPUTS <= seed,
        };
        if is_over {
            break;
        }
        if !target_of(seed).name.contains(&wanted) {
            continue;
        }
        let outcome = catch_unwind(|| run(seed));
        let (name, is_accepted) = outcome.unwrap_or_else(|_| panic!("replay with STRATALOG_SEED={seed}"));
        counts.entry(name).or_default()[usize::from(is_accepted)] += 1;
    }
    println!("refused and accepted: {counts:?}");
    for target in TARGETS.iter().filter(|target| target.name.contains(&wanted)) {
        let [refused, accepted] = counts[target.name];
        assert!(
            0 < refused && 0 < accepted,
            "{}: {refused} refused, {accepted} accepted",
            target.name
        );
    }
}

fn target_of(seed: u64) -> &'static Target {
    let mut random = fastrand::Rng::with_seed(seed);
    &TARGETS[random.usize(..TARGETS.len())]
}

fn run(seed: u64) -> (&'static str, bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let target = &TARGETS[random.usize(..TARGETS.len())];
    let mut bytes = (target.sample)(&mut random);
    for _ in 0..random.usize(..4) {
        let other = (target.sample)(&mut random);
        damage(&mut random, &mut bytes, &other);
    }
    if random.u8(..4) != 0 {
        (target.mend)(&mut bytes);
    }
    (target.name, (target.parse)(&bytes))
}

/// One change of the kinds that files suffer, and of those that parsers do.
fn damage(random: &mut fastrand::Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let length = bytes.len();
    let at = random.usize(..=length);
    match random.u8(..8) {
        0 => bytes.truncate(at),
        1 => bytes.resize(length + random.usize(..100), 0),
        2 if at < length => bytes[at] ^= 1 << random.u8(..8),
        3 if at < length => bytes[at] = random.u8(..),
        4 => {
            let numbers: [i64; 8] = [
                0,
                1,
                -1,
                i64::MAX,
                i64::MIN,
                i64::from(i32::MAX),
                i64::from(i32::MIN),
                1 << 40,
            ];
            let number = numbers[random.usize(..numbers.len())].to_be_bytes();
            let width = [1, 2, 4, 8][random.usize(..4)];
            let end = length.min(at + width);
            bytes.splice(at..end, number[8 - width..].iter().copied());
        }
        5 => {
            let from = random.usize(..=other.len());
            bytes.splice(at.., other[from..].iter().copied());
        }
        6 => {
            let words: [&[u8]; 8] = [
                b"\n",
                b" ",
                b"-1",
                b"0",
                b"99999999999999999999",
                b"\xff",
                b":",
                b"9223372036854775807",
            ];
            let word = words[random.usize(..words.len())];
            bytes.splice(at..at, word.iter().copied());
        }
        _ => {
            let end = at + random.usize(..=(length - at).min(50));
            let repeated = bytes[at..end].to_vec();
            bytes.splice(at..at, repeated);
        }
    }
}

fn no_checksum(_: &mut [u8]) {}

const BASE: Offset = Offset::new(1000);

fn offset_index(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut index = OffsetIndex::new(BASE, 1 << 20);
    let (mut offset, mut position) = (BASE, FilePosition::ZERO);
    for _ in 0..random.usize(..40) {
        offset = offset.plus(random.i64(1..1_000_000));
        position = position.plus(random.u64(1..1_000_000));
        index.try_push(offset, position).unwrap();
    }
    index.bytes().to_vec()
}

fn parse_offset_index(bytes: &[u8]) -> bool {
    let Ok(view) = OffsetIndexView::parse(Bytes::copy_from_slice(bytes), BASE) else {
        return false;
    };
    assert!(
        bytes.starts_with(view.bytes()),
        "the entries are those of the file"
    );
    let entries: Vec<_> = view.iter().collect();
    for (slot, &(offset, position)) in entries.iter().enumerate() {
        assert_eq!(view.lookup(offset), (offset, position));
        let before = slot
            .checked_sub(1)
            .map_or((BASE, FilePosition::ZERO), |slot| entries[slot]);
        assert_eq!(view.lookup(offset.plus(-1)), before);
        assert!(before.0 < offset || slot == 0);
    }
    assert_eq!(
        view.last(),
        entries.last().copied().unwrap_or((BASE, FilePosition::ZERO))
    );
    let mut reopened = view.reopen(u64::MAX);
    reopened.truncate_to(view.last().0);
    assert!(reopened.entry_count() <= view.entry_count());
    let pushed = reopened.try_push(view.last().0, view.last().1.plus(1));
    assert_eq!(pushed.is_ok(), view.last().1.get() < i32::MAX as u64);
    true
}

fn time_index(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut index = TimeIndex::new(BASE, 1 << 20);
    let (mut timestamp, mut offset) = (0, BASE);
    for _ in 0..random.usize(..40) {
        timestamp += random.i64(1..1_000_000);
        offset = offset.plus(random.i64(0..1_000_000));
        index.try_push(TimestampMs::new(timestamp), offset).unwrap();
    }
    index.bytes().to_vec()
}

fn parse_time_index(bytes: &[u8]) -> bool {
    let Ok(view) = TimeIndexView::parse(Bytes::copy_from_slice(bytes), BASE) else {
        return false;
    };
    assert!(
        bytes.starts_with(view.bytes()),
        "the entries are those of the file"
    );
    let entries: Vec<_> = view.iter().collect();
    for (slot, &(timestamp, offset)) in entries.iter().enumerate() {
        assert_eq!(view.lookup(timestamp), (timestamp, offset));
        let before = slot
            .checked_sub(1)
            .map_or((TimestampMs::NONE, BASE), |slot| entries[slot]);
        assert_eq!(view.lookup(TimestampMs::new(timestamp.get() - 1)), before);
        assert!(before.1 <= offset);
    }
    let mut reopened = view.reopen(u64::MAX);
    reopened.truncate_to(view.last().1);
    reopened
        .push_final(TimestampMs::new(i64::MAX), view.last().1)
        .unwrap();
    true
}

fn transaction_index(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut index = TransactionIndex::new(BASE);
    let mut last_offset = BASE;
    for _ in 0..random.usize(..10) {
        last_offset = last_offset.plus(random.i64(1..100));
        let transaction = AbortedTransaction {
            producer_id: ProducerId::new(random.i64(..).saturating_abs()),
            first_offset: last_offset.plus(random.i64(-900..0)),
            last_offset,
            last_stable_offset: last_offset.plus(random.i64(-100..2)),
        };
        index.append(transaction).unwrap();
    }
    index.to_bytes()
}

fn parse_transaction_index(bytes: &[u8]) -> bool {
    let Ok(mut index) = TransactionIndex::parse(bytes, BASE) else {
        return false;
    };
    assert_eq!(index.to_bytes(), bytes);
    for transaction in index.transactions() {
        let end = Offset::new(transaction.last_offset.get().saturating_add(1));
        let found = index.collect_aborted(transaction.last_offset, end);
        let is_found = found.transactions.contains(transaction);
        assert!(is_found || found.is_complete || end <= transaction.first_offset);
    }
    let count = index.transactions().len();
    if let Some(last) = index.transactions().last().copied() {
        index.truncate_to(last.last_offset);
        assert_eq!(index.transactions().len(), count - 1);
    }
    true
}

fn header(random: &mut fastrand::Rng, base_offset: i64) -> BatchHeader {
    let count = random.u32(1..5);
    BatchHeader {
        base_offset: Offset::new(base_offset),
        batch_length: 49,
        leader_epoch: LeaderEpoch::FIRST,
        crc: 0,
        attributes: Attributes::default().with_transactional(random.bool()),
        last_offset_delta: count - 1,
        base_timestamp: TimestampMs::new(0),
        max_timestamp: TimestampMs::new(random.i64(0..1_000_000)),
        producer_id: ProducerId::new(random.i64(-1..5)),
        producer_epoch: ProducerEpoch::new(random.i16(0..2)),
        base_sequence: Sequence::new(random.i32(-1..i32::MAX)),
        record_count: count,
    }
}

const SNAPSHOT_END: Offset = Offset::new(10_000);

fn snapshot(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut manager = ProducerStateManager::new(BASE);
    for _ in 0..random.usize(..30) {
        let header = header(random, manager.map_end_offset().get());
        manager.update(&header);
    }
    manager.snapshot()
}

fn mend_snapshot(bytes: &mut [u8]) {
    if let Some((head, contents)) = bytes.split_at_mut_checked(6) {
        head[2..].copy_from_slice(&crc32c(contents).to_be_bytes());
    }
}

fn parse_snapshot(bytes: &[u8]) -> bool {
    let Ok(snapshot) = Snapshot::parse(bytes, SNAPSHOT_END) else {
        return false;
    };
    let is_complete = snapshot.is_complete;
    let mut manager = ProducerStateManager::from_snapshot(snapshot.clone());
    let mut again = Snapshot::parse(&manager.snapshot(), SNAPSHOT_END).unwrap();
    let mut sorted = snapshot;
    sorted.producers.sort_by_key(|(producer_id, _)| *producer_id);
    again.is_complete = is_complete;
    assert_eq!(again, sorted);
    let mut random = fastrand::Rng::with_seed(u64::from(crc32c(bytes)));
    for base_offset in (0..20_000).step_by(1000) {
        let header = header(&mut random, base_offset);
        manager.check(&header, &TransactionProof::Ongoing).ok();
        manager.update(&header);
    }
    assert!(manager.first_unstable_offset() <= manager.first_undecided_offset());
    manager.expire(TimestampMs::new(i64::MAX), 1);
    true
}

fn offset_checkpoint(random: &mut fastrand::Rng) -> Vec<u8> {
    let entry = |slot: usize| {
        let topic = ["a", "b-1", "c.d_e", "__consumer_offsets"][slot % 4];
        let partition = i32::try_from(slot).unwrap();
        (
            TopicPartition::new(topic, partition),
            Offset::new(i64::from(partition) * 12_345_678_901),
        )
    };
    offset_checkpoint::to_bytes(&(0..random.usize(..8)).map(entry).collect())
}

fn parse_offset_checkpoint(bytes: &[u8]) -> bool {
    let file = CheckpointFile::LogStartOffset;
    let Ok(offsets) = offset_checkpoint::parse(file, bytes) else {
        return false;
    };
    assert_eq!(
        offset_checkpoint::parse(file, &offset_checkpoint::to_bytes(&offsets)),
        Ok(offsets)
    );
    true
}

fn epoch_checkpoint(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut cache = LeaderEpochCache::new();
    for _ in 0..random.usize(..8) {
        cache.assign(
            LeaderEpoch::new(random.i32(0..100)),
            Offset::new(random.i64(0..100)),
        );
    }
    leader_epoch_checkpoint::to_bytes(cache.entries())
}

fn parse_epoch_checkpoint(bytes: &[u8]) -> bool {
    let Ok(entries) = leader_epoch_checkpoint::parse(bytes) else {
        return false;
    };
    assert_eq!(
        leader_epoch_checkpoint::parse(&leader_epoch_checkpoint::to_bytes(&entries)),
        Ok(entries.clone())
    );
    let mut cache = LeaderEpochCache::from_entries(entries.iter().copied());
    assert_eq!(cache.entries(), entries);
    for EpochEntry { epoch, start_offset } in entries {
        assert_eq!(cache.epoch_at(start_offset), Some(epoch));
        assert_ne!(
            cache.end_offset_for(epoch, Offset::new(i64::MAX)),
            LeaderEpochCache::UNDEFINED
        );
    }
    cache.truncate_from_start(Offset::new(50));
    cache.truncate_from_end(Offset::new(70));
    true
}

fn small_files(random: &mut fastrand::Rng) -> Vec<u8> {
    if random.bool() {
        partition_metadata::to_bytes(TopicId::from_bytes(random.u128(1..).to_be_bytes()))
    } else {
        CleanShutdown {
            broker_epoch: random.bool().then(|| random.i64(..)),
        }
        .to_bytes()
    }
}

fn parse_small_files(bytes: &[u8]) -> bool {
    let id = partition_metadata::parse(bytes);
    if let Ok(id) = id {
        assert_eq!(
            partition_metadata::parse(&partition_metadata::to_bytes(id)),
            Ok(id)
        );
    }
    let marker = CleanShutdown::parse(bytes);
    if let Ok(marker) = &marker {
        assert_eq!(CleanShutdown::parse(&marker.to_bytes()).as_ref(), Ok(marker));
    }
    id.is_ok() || marker.is_ok()
}

const KIND: EnvelopeKind = EnvelopeKind {
    name: "fuzzed state",
    magic: *b"SLfz",
    version_min: 1,
    version: 1,
};

/// Nested sequences, text, and numbers: what the payloads of our files are made of.
type Payload = Vec<(String, Vec<Option<i64>>, Vec<(u16, bool)>)>;

fn sealed(random: &mut fastrand::Rng) -> Vec<u8> {
    let payload: Payload = (0..random.usize(..5))
        .map(|slot| {
            let numbers = (0..slot).map(|_| random.bool().then(|| random.i64(..))).collect();
            let pairs = (0..random.usize(..5))
                .map(|_| (random.u16(..), random.bool()))
                .collect();
            ("name".repeat(slot), numbers, pairs)
        })
        .collect();
    envelope::seal(&KIND, &payload).unwrap()
}

fn mend_envelope(bytes: &mut [u8]) {
    let Some((head, payload)) = bytes.split_at_mut_checked(envelope::HEADER_LENGTH) else {
        return;
    };
    head[6..10].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[..10]);
    hasher.update(payload);
    head[10..].copy_from_slice(&hasher.finalize().to_le_bytes());
}

fn parse_envelope(bytes: &[u8]) -> bool {
    let Ok(opened) = envelope::open(&KIND, bytes) else {
        return false;
    };
    let Ok(payload) = opened.decode::<Payload>() else {
        return false;
    };
    assert_eq!(envelope::seal(&KIND, &payload).unwrap(), bytes);
    true
}
