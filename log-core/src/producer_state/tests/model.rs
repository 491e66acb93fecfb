//! Verdicts against a model that remembers every batch.
//! The batches are random, retries and mistakes among them; a run that disagrees prints its seed.

use super::*;

/// Everything that one producer wrote, of which a model can say what Kafka would.
#[derive(Debug, Default)]
struct History {
    batches: Vec<BatchHeader>,
    is_in_transaction: bool,
}

impl History {
    /// What should become of a batch, in the words of the protocol's errors.
    fn expect(&self, header: &BatchHeader) -> &'static str {
        let Some(last) = self.batches.last() else {
            return "new";
        };
        let (epoch, sequence) = (header.producer_epoch, header.base_sequence.get());
        let of_epoch = |past: &&BatchHeader| past.producer_epoch == last.producer_epoch;
        let recent: Vec<_> = self.batches.iter().rev().take_while(of_epoch).take(5).collect();
        let is_repeated = |past: &&BatchHeader| {
            past.base_sequence == header.base_sequence && past.record_count == header.record_count
        };
        if epoch == last.producer_epoch && recent.iter().any(is_repeated) {
            return "duplicate";
        }
        let follows = i64::from(last.base_sequence.get()) + i64::from(last.record_count);
        let next = if epoch == last.producer_epoch {
            follows % (1 << 31)
        } else {
            0
        };
        match () {
            () if epoch < last.producer_epoch => "fenced",
            () if i64::from(sequence) != next => "out of order",
            () if self.is_in_transaction && !header.attributes.is_transactional() => {
                "outside the transaction"
            }
            () => "new",
        }
    }
}

fn verdict_name(verdict: Result<Verdict, ProducerStateError>) -> &'static str {
    match verdict {
        Ok(Verdict::New) => "new",
        Ok(Verdict::Duplicate { .. }) => "duplicate",
        Err(ProducerStateError::InvalidProducerEpoch { .. }) => "fenced",
        Err(ProducerStateError::OutOfOrderSequence { .. }) => "out of order",
        Err(ProducerStateError::InvalidTransactionState { .. }) => "outside the transaction",
        Err(ProducerStateError::CoordinatorFenced { .. }) => "coordinator fenced",
        Err(ProducerStateError::UnverifiedTransaction { .. }) => "unverified",
    }
}

/// Random batches of a few producers, retries and mistakes among them, with a snapshot and reload now and then.
#[test]
fn verdicts_agree_with_a_model_that_remembers_everything() {
    let mut counts = BTreeMap::new();
    for seed in seeds(200) {
        let run = std::panic::catch_unwind(|| run_against_model(seed));
        for (name, count) in run.unwrap_or_else(|_| panic!("replay with STRATALOG_SEED={seed}")) {
            *counts.entry(name).or_insert(0) += count;
        }
    }
    for name in [
        "new",
        "duplicate",
        "fenced",
        "out of order",
        "outside the transaction",
    ] {
        assert!(counts.contains_key(name), "no run met: {name}");
    }
}

/// New seeds each time, or the one that the environment names.
#[expect(
    clippy::disallowed_methods,
    reason = "a failing seed is replayed through the environment"
)]
fn seeds(count: u64) -> std::ops::Range<u64> {
    if let Ok(seed) = std::env::var("STRATALOG_SEED") {
        let seed = seed.parse().expect("STRATALOG_SEED is a number");
        seed..seed + 1
    } else {
        let first = fastrand::u64(..u64::MAX / 2);
        first..first + count
    }
}

fn run_against_model(seed: u64) -> BTreeMap<&'static str, u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut state = ProducerStateManager::new(Offset::ZERO);
    let mut histories: BTreeMap<i64, History> = BTreeMap::new();
    let mut end_offset = 0;
    let mut counts = BTreeMap::new();
    for _ in 0..400 {
        let producer_id = random.i64(0..4);
        let history = histories.entry(producer_id).or_default();
        let header = random_batch(&mut random, producer_id, history, end_offset);
        let expected = history.expect(&header);
        let found = check(&state, &header);
        assert_eq!(verdict_name(found), expected, "{header:?} after {history:?}");
        *counts.entry(expected).or_default() += 1;
        if let Ok(Verdict::Duplicate {
            base_offset,
            last_offset,
            ..
        }) = found
        {
            let original = history
                .batches
                .iter()
                .find(|past| past.base_offset == base_offset);
            let original = original.expect("the batch that the verdict names");
            assert_eq!(
                (original.base_sequence, original.last_offset()),
                (header.base_sequence, last_offset)
            );
        }
        if found == NEW {
            state.update(&header);
            end_offset += i64::from(header.record_count);
            history.is_in_transaction |= header.attributes.is_transactional();
            history.batches.push(header);
        }
        if history.is_in_transaction && random.u8(0..4) == 0 {
            let epoch = history
                .batches
                .last()
                .expect("in a transaction")
                .producer_epoch
                .get();
            let completed = state.end_transaction(&control(producer_id, epoch, end_offset), COMMIT);
            state.complete_transaction(&completed.expect("a transaction is open"));
            history.is_in_transaction = false;
            end_offset += 1;
        }
        assert_eq!(state.map_end_offset(), Offset::new(end_offset));
        if random.u8(0..20) == 0 {
            let snapshot = Snapshot::parse(&state.snapshot(), Offset::new(end_offset)).unwrap();
            let loaded = ProducerStateManager::from_snapshot(snapshot);
            assert_same(&loaded, &state);
            state = loaded;
        }
    }
    counts
}

/// Mostly what should come next, sometimes a retry, sometimes nonsense.
fn random_batch(
    random: &mut fastrand::Rng,
    producer_id: i64,
    history: &History,
    base_offset: i64,
) -> BatchHeader {
    let count = random.u32(1..4);
    let Some(last) = history.batches.last() else {
        let start = *random.choice([0, 5, i32::MAX - 3].iter()).unwrap();
        return batch(producer_id, random.i16(0..3), start, base_offset, count);
    };
    let epoch = last.producer_epoch.get();
    let next = last.last_sequence().plus(1).get();
    let header = match random.u8(0..10) {
        0 | 1 => {
            let back = random.usize(1..=7.min(history.batches.len()));
            let repeated = history.batches[history.batches.len() - back];
            BatchHeader {
                base_offset: Offset::new(base_offset),
                ..repeated
            }
        }
        2 => batch(producer_id, epoch + random.i16(-1..=1), 0, base_offset, count),
        3 => batch(producer_id, epoch, random.i32(0..=20), base_offset, count),
        _ => batch(producer_id, epoch, next, base_offset, count),
    };
    if random.u8(0..3) == 0 {
        transactional(header)
    } else {
        header
    }
}
