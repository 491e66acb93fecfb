//! What was acknowledged, and the comparison with what is read.
//!
//! Every record says in its value which producer sent it and as its how-many-th of that partition, so that a lost,
//! doubled or misplaced record shows by itself. Where each record lies is remembered: no offset may ever be seen with
//! two contents.

use fastrand::Rng;
use log_client::connection::Connection;
use log_core::record::batch::batches;
use parking_lot::Mutex;

use crate::wire;

/// A record that retention took before it was ever read.
const NEVER_READ: i64 = -1;

/// Larger than any batch here decompresses to.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// A batch that the server took, and where it said it put it.
pub(super) struct Acknowledged {
    pub(super) base_offset: i64,
    pub(super) producer: u32,
    pub(super) first: u64,
    pub(super) count: u32,
    /// Whether an earlier connection sent it, so that it may have been in the log already.
    pub(super) again: bool,
}

/// All partitions.
pub(super) struct Ledger {
    pub(super) logs: Vec<Log>,
}

impl Ledger {
    pub(super) fn new(logs: impl Iterator<Item = Log>) -> Self {
        Self { logs: logs.collect() }
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.logs
            .iter()
            .map(|log| log.state.lock().acknowledged_count)
            .sum()
    }

    pub(super) fn batches(&self) -> u64 {
        self.logs.iter().map(|log| log.state.lock().batch_count).sum()
    }

    /// How far retention and deletion by request have come.
    pub(super) fn deleted(&self) -> i64 {
        self.logs.iter().map(|log| log.state.lock().start).sum()
    }

    pub(super) fn recognised(&self) -> u64 {
        self.logs.iter().map(|log| log.state.lock().recognised).sum()
    }

    /// The next check begins at the front; what is known of each record's place stays.
    pub(super) fn forget_what_was_read(&self) {
        for log in &self.logs {
            let mut state = log.state.lock();
            state.read_until = 0;
            state.next.clear();
        }
    }
}

/// One partition.
pub(super) struct Log {
    pub(super) topic: &'static str,
    pub(super) partition: i32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Not compared yet.
    acknowledged: Vec<Acknowledged>,
    acknowledged_count: u64,
    batch_count: u64,
    /// Records that were in the log already when they were acknowledged.
    recognised: u64,
    /// One past the last acknowledged offset.
    acknowledged_end: i64,
    /// Records before this were deleted by a request that was answered.
    deleted_before: i64,
    /// Where the log began when it was last read.
    start: i64,
    /// Everything before this was read and compared.
    read_until: i64,
    /// By producer: the number that its next record must have, once one was read.
    next: Vec<Option<u64>>,
    /// By producer and number: the offset at which the record was read.
    places: Vec<Vec<i64>>,
}

impl Log {
    pub(super) fn new(topic: &'static str, partition: i32) -> Self {
        Self {
            topic,
            partition,
            state: Mutex::default(),
        }
    }

    pub(super) fn acknowledge(&self, batch: Acknowledged) {
        let mut state = self.state.lock();
        let end = batch.base_offset + i64::from(batch.count);
        state.acknowledged_end = state.acknowledged_end.max(end);
        state.acknowledged_count += u64::from(batch.count);
        state.batch_count += 1;
        if batch.again && state.place(batch.producer, batch.first) == batch.base_offset {
            state.recognised += u64::from(batch.count);
        }
        state.acknowledged.push(batch);
    }

    pub(super) fn acknowledged_end(&self) -> i64 {
        self.state.lock().acknowledged_end
    }

    pub(super) fn deleted_before(&self, offset: i64) {
        let mut state = self.state.lock();
        state.deleted_before = state.deleted_before.max(offset);
    }

    /// Reads what is new and compares it with what was acknowledged.
    pub(super) async fn check(&self, connection: &Connection, round: u32) {
        let place = format!("round {round}, {}-{}", self.topic, self.partition);
        let start = wire::list_offset(connection, self.topic, self.partition, wire::EARLIEST).await;
        let end = wire::list_offset(connection, self.topic, self.partition, wire::LATEST).await;
        let from = {
            let mut state = self.state.lock();
            state.start = start;
            assert!(
                state.acknowledged_end <= end,
                "{place}: the log ends at {end}, acknowledged was up to {}",
                state.acknowledged_end
            );
            assert!(
                state.deleted_before <= start,
                "{place}: records from {start} on are back, deleted were those before {}",
                state.deleted_before
            );
            match self.topic {
                "steady" => assert_eq!(start, 0, "{place}: the front is gone"),
                "trimmed" => assert!(
                    start <= state.acknowledged_end,
                    "{place}: starts at {start}, beyond what anyone asked to delete"
                ),
                _ => {}
            }
            if state.read_until < start {
                // What lies between was deleted unread, so the producers' numbers go on from an unknown one.
                state.read_until = start;
                state.next.clear();
            }
            state.read_until
        };
        self.read(connection, &place, from, end).await;
        self.compare(&place, start);
    }

    async fn read(&self, connection: &Connection, place: &str, from: i64, end: i64) {
        let mut offset = from;
        while offset < end {
            let fetched = wire::fetch(connection, self.topic, self.partition, offset)
                .await
                .unwrap();
            let fetched = match fetched {
                Ok(fetched) => fetched,
                Err(code) => panic!("{place}: fetch from {offset} ended in {code:?}"),
            };
            assert!(
                end <= fetched.high_watermark,
                "{place}: the high watermark went back"
            );
            if offset < fetched.log_start {
                // Retention was faster.
                offset = fetched.log_start;
                self.state.lock().next.clear();
                continue;
            }
            let before = offset;
            let mut state = self.state.lock();
            for batch in batches(&fetched.records) {
                let batch = batch.unwrap_or_else(|error| panic!("{place}: {error} after offset {offset}"));
                batch
                    .verify_checksum()
                    .unwrap_or_else(|error| panic!("{place}: {error} at offset {offset}"));
                let mut decompressed = Vec::new();
                for record in batch.records(&mut decompressed, BATCH_BYTES_MAX).unwrap() {
                    let record =
                        record.unwrap_or_else(|error| panic!("{place}: {error} after offset {offset}"));
                    if record.offset.get() < offset {
                        continue;
                    }
                    assert_eq!(record.offset.get(), offset, "{place}: an offset is missing");
                    state.see(place, offset, record.value.expect("every record has a value"));
                    offset += 1;
                }
            }
            assert!(
                before < offset,
                "{place}: nothing at offset {offset} though the log ends at {end}"
            );
            state.read_until = offset;
        }
    }

    /// Every acknowledged record must have been read where the answer said.
    fn compare(&self, place: &str, start: i64) {
        let mut state = self.state.lock();
        for batch in std::mem::take(&mut state.acknowledged) {
            for delta in 0..u64::from(batch.count) {
                let number = batch.first + delta;
                let offset = batch.base_offset + i64::try_from(delta).unwrap();
                let read = state.place(batch.producer, number);
                assert!(
                    read == offset || (read == NEVER_READ && offset < start),
                    "{place}: record {number} of producer {} was acknowledged at offset {offset} and {}",
                    batch.producer,
                    if read == NEVER_READ {
                        "is lost".to_owned()
                    } else {
                        format!("was read at {read}")
                    }
                );
            }
        }
    }
}

impl State {
    /// Where a record was read.
    fn place(&self, producer: u32, number: u64) -> i64 {
        let places = self.places.get(usize::try_from(producer).unwrap());
        let place = places.and_then(|places| places.get(usize::try_from(number).unwrap()));
        place.copied().unwrap_or(NEVER_READ)
    }

    /// A record was read at `offset`.
    fn see(&mut self, place: &str, offset: i64, value: &[u8]) {
        let (producer, number) =
            identity(value).unwrap_or_else(|| panic!("{place}: offset {offset} has other bytes"));
        let index = usize::try_from(producer).unwrap();
        if self.next.len() <= index {
            self.next.resize(index + 1, None);
        }
        if self.places.len() <= index {
            self.places.resize(index + 1, Vec::new());
        }
        if let Some(next) = self.next[index] {
            assert_eq!(
                number, next,
                "{place}: at offset {offset} producer {producer} goes on with another record than its next"
            );
        }
        self.next[index] = Some(number + 1);
        let places = &mut self.places[index];
        let number = usize::try_from(number).unwrap();
        if places.len() <= number {
            places.resize(number + 1, NEVER_READ);
        }
        assert!(
            places[number] == NEVER_READ || places[number] == offset,
            "{place}: record {number} of producer {producer} was at offset {} and is now at {offset}",
            places[number]
        );
        places[number] = offset;
    }
}

/// A record's value: who sent it, as its how-many-th, and bytes that follow from these.
pub(super) fn content(producer: u32, number: u64, padding: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(12 + padding);
    value.extend_from_slice(&producer.to_be_bytes());
    value.extend_from_slice(&number.to_be_bytes());
    let mut rng = Rng::with_seed(number << 8 | u64::from(producer));
    // Letters of a small alphabet, so that the codecs have something to do.
    value.extend((0..padding).map(|_| rng.u8(b'a'..=b'h')));
    value
}

/// Producer and number of a value, if all of it is what [`content`] made.
fn identity(value: &[u8]) -> Option<(u32, u64)> {
    let (producer, rest) = value.split_first_chunk::<4>()?;
    let (number, padding) = rest.split_first_chunk::<8>()?;
    let (producer, number) = (u32::from_be_bytes(*producer), u64::from_be_bytes(*number));
    (content(producer, number, padding.len()) == value).then_some((producer, number))
}
