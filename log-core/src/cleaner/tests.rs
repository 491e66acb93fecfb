//! What a cleaning makes of given batches, one rule at a time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::config::{LogConfig, TimestampType};
use crate::fs::FileSystem;
use crate::fs::mem::MemFileSystem;
use crate::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use crate::index::transaction_index::{AbortedTransaction, TransactionIndex};
use crate::model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use crate::producer_state::manager::LastRecord;
use crate::record::batch::{Batch, batches};
use crate::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use crate::record::batch_header::{BatchHeader, HEADER_LENGTH};
use crate::record::compression::Compression;
use crate::record::control::{EndTransactionMarker, TransactionOutcome};
use crate::record::record::RecordHeader;
use crate::segment::file_name::FileKind;
use crate::segment::segment::{Segment, SegmentSettings, StampedBatch};
use crate::segment::swap::{Replacement, Swap, cleaned_file};

const NOW: TimestampMs = TimestampMs::new(1_000_000);
const RETENTION_MS: i64 = 500;
const P: ProducerId = ProducerId::new(9);

struct Freely;

impl Pace for Freely {
    fn spend(&mut self, _bytes: u64) -> Result<(), Stopped> {
        Ok(())
    }
}

/// Segments in memory, and what the cleaner is told about them.
struct Bench {
    files: MemFileSystem,
    directory: Arc<Path>,
    config: LogConfig,
    segments: Vec<Arc<Segment>>,
    last_records: HashMap<ProducerId, LastRecord>,
    aborted: Vec<AbortedTransaction>,
    now: TimestampMs,
}

/// A record as a test writes and reads it: offset, key, value.
type Kv<'a> = (i64, Option<&'a str>, Option<&'a str>);

impl Bench {
    fn new() -> Self {
        let files = MemFileSystem::new();
        let directory: Arc<Path> = Path::new("/t-0").into();
        files.create_directory(&directory).unwrap();
        Self {
            files,
            directory,
            config: LogConfig {
                delete_retention_ms: RETENTION_MS,
                ..LogConfig::default()
            },
            segments: Vec::new(),
            last_records: HashMap::new(),
            aborted: Vec::new(),
            now: NOW,
        }
    }

    /// A sealed segment with these batches.
    fn segment(&mut self, batches: &[Vec<u8>]) {
        let settings = SegmentSettings {
            directory: Arc::clone(&self.directory),
            file_system: Arc::new(self.files.clone()),
            bytes_max: 1 << 20,
            index_bytes_max: 1 << 16,
            index_interval_bytes: 100,
        };
        let headers: Vec<_> = batches
            .iter()
            .map(|bytes| BatchHeader::parse(bytes).unwrap())
            .collect();
        let segment = Segment::create(settings, headers[0].base_offset).unwrap();
        for (header, bytes) in headers.iter().zip(batches) {
            let (stamp, body) = bytes.split_at(HEADER_LENGTH);
            segment
                .append(&[StampedBatch {
                    header: *header,
                    stamp: stamp.try_into().unwrap(),
                    body,
                }])
                .unwrap();
        }
        segment.seal();
        segment.complete().unwrap();
        self.segments.push(Arc::new(segment));
    }

    fn begin(&self) -> Result<Cleaning, CleanError> {
        self.begin_with(WriteSizes { chunk: 256, swap: 1 })
    }

    fn begin_with(&self, sizes: WriteSizes) -> Result<Cleaning, CleanError> {
        let log = LogToClean {
            file_system: Arc::new(self.files.clone()),
            directory: Arc::clone(&self.directory),
            config: self.config.clone(),
            segments: self.segments.clone(),
            first_dirty: Offset::ZERO,
            last_records: self.last_records.clone(),
            aborted: self.aborted.clone(),
            now: self.now,
            hold: SegmentHold::default(),
        };
        Cleaning::begin(log, OffsetMap::new(1 << 12, 900), sizes, &mut Freely)
    }

    /// Cleans everything, as later cleanings will find it. Returns the batches.
    fn clean(&mut self) -> Vec<Vec<u8>> {
        let mut cleaning = self.begin().unwrap();
        while let Some(group) = cleaning.next_groups(&mut Freely).unwrap().pop() {
            let (first, last) = (&group.old[0], group.old.last().unwrap());
            let swap = Swap {
                file_system: Arc::new(self.files.clone()),
                directory: Arc::clone(&self.directory),
                replacements: vec![Replacement {
                    base_offset: first.base_offset(),
                    others: group.old[1..].iter().map(|one| one.base_offset()).collect(),
                }],
            };
            swap.run().unwrap();
            let new = Segment::sealed(
                first.settings().clone(),
                first.base_offset(),
                group.size,
                last.next_offset(),
                group.has_aborted,
            );
            let at = self
                .segments
                .iter()
                .position(|one| Arc::ptr_eq(one, first))
                .unwrap();
            self.segments.splice(at..at + group.old.len(), [Arc::new(new)]);
        }
        self.batches()
    }

    fn batches(&self) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for segment in &self.segments {
            let bytes = segment.open().unwrap().view().bytes(0..segment.size()).unwrap();
            for batch in batches(&bytes) {
                let batch = batch.unwrap();
                batch.verify_checksum().unwrap();
                found.push(batch.bytes().to_vec());
            }
        }
        found
    }

    fn aborted_on_disk(&self, base: i64) -> Vec<AbortedTransaction> {
        let path = crate::segment::file_name::segment_file(
            &self.directory,
            Offset::new(base),
            FileKind::TransactionIndex,
        );
        let bytes = self.files.read(&path, 1 << 20).unwrap();
        TransactionIndex::parse(&bytes, Offset::new(base))
            .unwrap()
            .transactions()
            .to_vec()
    }
}

fn options(base: i64) -> BatchOptions {
    BatchOptions {
        base_offset: Offset::new(base),
        leader_epoch: LeaderEpoch::new(3),
        ..BatchOptions::default()
    }
}

fn with_producer(base: i64, sequence: i32) -> BatchOptions {
    BatchOptions {
        producer: BatchProducer {
            id: P,
            epoch: ProducerEpoch::new(2),
            base_sequence: Sequence::new(sequence),
        },
        ..options(base)
    }
}

fn transactional(base: i64, sequence: i32) -> BatchOptions {
    BatchOptions {
        transactional: true,
        ..with_producer(base, sequence)
    }
}

fn batch(options: BatchOptions, records: &[Kv<'_>]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for (offset, key, value) in records {
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        let headers = [RecordHeader::new("h", Some(b"1"))];
        let timestamp = TimestampMs::new(10_000 + offset);
        builder
            .append_at(Offset::new(*offset), timestamp, key, value, &headers)
            .unwrap();
    }
    builder.build().to_vec()
}

fn plain(records: &[Kv<'_>]) -> Vec<u8> {
    batch(options(records[0].0), records)
}

fn marker(base: i64, outcome: TransactionOutcome) -> Vec<u8> {
    let end = EndTransactionMarker {
        outcome,
        coordinator_epoch: 0,
    };
    let bytes = end.to_batch(P, ProducerEpoch::new(2), TimestampMs::new(10_000 + base));
    let mut header = BatchHeader::parse(&bytes).unwrap();
    header.base_offset = Offset::new(base);
    [&header.to_bytes(), &bytes[HEADER_LENGTH..]].concat()
}

/// Offset, key, value and timestamp of all records.
fn records(batches: &[Vec<u8>]) -> Vec<(i64, Option<String>, Option<String>)> {
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    let mut found = Vec::new();
    let mut scratch = Vec::new();
    for bytes in batches {
        let batch = Batch::parse(bytes).unwrap();
        for record in batch.records(&mut scratch, 1 << 20).unwrap() {
            let record = record.unwrap();
            if !batch.header().attributes.is_control() {
                assert_eq!(record.timestamp.get(), 10_000 + record.offset.get());
                assert_eq!(record.header_count(), 1);
                found.push((record.offset.get(), text(record.key), text(record.value)));
            }
        }
    }
    found
}

fn offsets(batches: &[Vec<u8>]) -> Vec<i64> {
    records(batches).into_iter().map(|(offset, ..)| offset).collect()
}

fn header(bytes: &[u8]) -> BatchHeader {
    BatchHeader::parse(bytes).unwrap()
}

#[test]
fn the_last_record_of_each_key_stays_with_its_batch() {
    for codec in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut bench = Bench::new();
        let first = BatchOptions {
            compression: codec,
            ..with_producer(0, 40)
        };
        bench.segment(&[
            batch(
                first,
                &[
                    (0, Some("a"), Some("1")),
                    (1, Some("b"), Some("2")),
                    (2, Some("a"), Some("3")),
                ],
            ),
            plain(&[(3, Some("a"), Some("4")), (4, None, Some("keyless"))]),
        ]);
        bench.segment(&[plain(&[(5, Some("c"), Some("5"))])]);
        let before = header(&bench.batches()[0]);
        let after = bench.clean();
        assert_eq!(offsets(&after), [1, 3, 5], "{codec:?}");
        let kept = header(&after[0]);
        let expected = BatchHeader {
            batch_length: kept.batch_length,
            crc: kept.crc,
            base_timestamp: TimestampMs::new(10_001),
            max_timestamp: TimestampMs::new(10_001),
            record_count: 1,
            ..before
        };
        assert_eq!(kept, expected, "range, producer, epoch and codec stay");
        assert_eq!(after[2], plain(&[(5, Some("c"), Some("5"))]), "byte for byte");
        assert_eq!(bench.segments.len(), 1, "both fit one segment");
        assert_eq!(bench.segments[0].next_offset(), Offset::new(6));
    }
}

#[test]
fn a_tombstone_stays_until_its_horizon() {
    let mut bench = Bench::new();
    bench.segment(&[plain(&[(0, Some("a"), Some("1")), (1, Some("b"), Some("2"))])]);
    bench.segment(&[
        plain(&[(2, Some("a"), None), (3, Some("c"), Some("3"))]),
        plain(&[(4, Some("d"), Some("4"))]),
    ]);
    let first = bench.clean();
    assert_eq!(offsets(&first), [1, 2, 3, 4]);
    assert_eq!(
        header(&first[1]).delete_horizon(),
        Some(NOW.saturating_plus(RETENTION_MS))
    );
    assert_eq!(header(&first[0]).delete_horizon(), None);
    bench.now = NOW.saturating_plus(RETENTION_MS - 1);
    assert_eq!(bench.clean(), first, "not yet, and the horizon does not move");
    bench.now = NOW.saturating_plus(RETENTION_MS);
    let last = bench.clean();
    assert_eq!(offsets(&last), [1, 3, 4]);
    assert_eq!(
        header(&last[1]).delete_horizon(),
        Some(NOW.saturating_plus(RETENTION_MS))
    );
}

#[test]
fn the_end_of_a_segment_and_the_last_of_a_producer_stay_as_headers() {
    let mut bench = Bench::new();
    bench.config.segment_bytes_max = 300;
    bench.segment(&[
        batch(with_producer(0, 7), &[(0, Some("a"), Some("1"))]),
        batch(
            with_producer(1, 8),
            &[(1, Some("a"), Some("2")), (2, Some("a"), Some("3"))],
        ),
        plain(&[(3, Some("a"), Some("4"))]),
    ]);
    bench.segment(&[plain(&[(4, Some("a"), Some(&"5".repeat(200)))])]);
    let last = LastRecord {
        last_data_offset: Some(Offset::new(2)),
        producer_epoch: ProducerEpoch::new(2),
    };
    bench.last_records.insert(P, last);
    let after = bench.clean();
    assert_eq!(offsets(&after), [4]);
    let bare: Vec<_> = after[..2].iter().map(|bytes| header(bytes)).collect();
    assert_eq!(bare[0].last_sequence(), Sequence::new(9));
    assert_eq!((bare[0].base_offset.get(), bare[0].last_offset().get()), (1, 2));
    assert_eq!(bare[0].max_timestamp, TimestampMs::new(10_002));
    assert_eq!(
        (bare[1].base_offset.get(), bare[1].producer_id),
        (3, ProducerId::NONE)
    );
    assert!(
        bare.iter()
            .all(|header| header.record_count == 0 && header.size() == HEADER_LENGTH)
    );
    assert_eq!(bench.clean(), after, "a second cleaning changes nothing");
}

#[test]
fn aborted_records_go_first_and_their_marker_after_them() {
    let mut bench = Bench::new();
    let aborted = AbortedTransaction {
        producer_id: P,
        first_offset: Offset::ZERO,
        last_offset: Offset::new(3),
        last_stable_offset: Offset::new(4),
    };
    bench.aborted.push(aborted);
    bench.segment(&[
        batch(transactional(0, 0), &[(0, Some("a"), Some("aborted"))]),
        batch(options(1), &[(1, Some("b"), Some("old"))]),
        batch(transactional(2, 1), &[(2, Some("b"), Some("aborted"))]),
        marker(3, TransactionOutcome::Abort),
        batch(transactional(4, 2), &[(4, Some("c"), Some("committed"))]),
        marker(5, TransactionOutcome::Commit),
        plain(&[(6, Some("z"), Some("end"))]),
    ]);
    let first = bench.clean();
    assert_eq!(
        offsets(&first),
        [1, 4, 6],
        "an aborted record hides no earlier one"
    );
    let bases = |batches: &[Vec<u8>]| -> Vec<i64> {
        batches
            .iter()
            .map(|bytes| header(bytes).base_offset.get())
            .collect()
    };
    assert_eq!(
        bases(&first),
        [1, 3, 4, 5, 6],
        "markers stay while readers may need them"
    );
    assert_eq!(bench.aborted_on_disk(0), [aborted]);
    let second = bench.clean();
    assert_eq!(
        header(&second[1]).delete_horizon(),
        Some(NOW.saturating_plus(RETENTION_MS))
    );
    assert_eq!(
        header(&second[3]).delete_horizon(),
        None,
        "the committed transaction still has records"
    );
    assert_eq!(bench.aborted_on_disk(0), []);
    bench.aborted.clear();
    bench.now = NOW.saturating_plus(RETENTION_MS);
    assert_eq!(bases(&bench.clean()), [1, 4, 5, 6]);
}

#[test]
fn damage_is_not_written_anew() {
    let mut bench = Bench::new();
    let mut damaged = plain(&[(0, Some("a"), Some("value")), (1, Some("a"), Some("other"))]);
    let last = damaged.len() - 3;
    damaged[last] ^= 1;
    bench.segment(&[damaged, plain(&[(2, Some("a"), Some("2"))])]);
    let error = bench.begin().unwrap_err().to_string();
    assert!(
        error.contains("00000000000000000000.log") && error.contains("checksum"),
        "{error}"
    );
    assert!(
        !bench
            .files
            .exists(&cleaned_file(&bench.directory, Offset::ZERO, FileKind::Log))
            .unwrap()
    );
}

#[test]
fn append_times_stay() {
    let mut bench = Bench::new();
    let log_append = BatchOptions {
        timestamp_type: TimestampType::LogAppendTime,
        ..options(0)
    };
    bench.segment(&[
        batch(
            log_append,
            &[(0, Some("a"), Some("1")), (1, Some("b"), Some("2"))],
        ),
        plain(&[(2, Some("b"), Some("3"))]),
    ]);
    let before = header(&bench.batches()[0]);
    let after = header(&bench.clean()[0]);
    assert_eq!(after.max_timestamp, before.max_timestamp);
    assert_eq!((after.record_count, after.attributes), (1, before.attributes));
}

/// What was written before a failure takes its place all the same, and of what failed nothing stays.
#[test]
fn a_failure_is_told_behind_the_segments_before_it() {
    let mut bench = Bench::new();
    for (at, key) in [(0, "a"), (2, "b")] {
        bench.segment(&[
            plain(&[(at, Some(key), Some("1"))]),
            plain(&[(at + 1, Some(key), Some("2"))]),
        ]);
    }
    bench.config.segment_bytes_max = bench.segments[0].size();
    let second = "/t-0/00000000000000000002.index";
    let fault = FaultPlan::new().fail_once(FaultTarget::Create, 1, FaultKind::Io);
    bench.files.set_faults(fault.only_in(second));
    let sizes = WriteSizes {
        chunk: 256,
        swap: 1 << 20,
    };
    let mut cleaning = bench.begin_with(sizes).unwrap();
    let cleaned = cleaning.next_groups(&mut Freely).unwrap();
    let bases: Vec<_> = cleaned.iter().map(|group| group.old[0].base_offset()).collect();
    assert_eq!(bases, [Offset::ZERO]);
    let entries = bench.files.list(&bench.directory).unwrap();
    let mut cleaned = entries.iter().filter(|entry| entry.name.ends_with(".cleaned"));
    assert!(cleaned.all(|entry| entry.name.starts_with("00000000000000000000.")));
    assert!(matches!(
        cleaning.next_groups(&mut Freely),
        Err(CleanError::Storage(_))
    ));
}

#[test]
fn a_segment_in_which_nothing_changes_is_left_alone() {
    let mut bench = Bench::new();
    bench.segment(&[
        plain(&[(0, Some("a"), Some("1"))]),
        plain(&[(1, Some("b"), Some("2"))]),
    ]);
    let mut cleaning = bench.begin().unwrap();
    assert!(cleaning.next_groups(&mut Freely).unwrap().is_empty());
    assert_eq!(
        (cleaning.stats().records_read, cleaning.stats().records_kept),
        (2, 2)
    );
    let names: Vec<_> = bench
        .files
        .list(&bench.directory)
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert!(names.iter().all(|name| !name.contains("cleaned")), "{names:?}");
}

/// The header that says where a segment ends keeps its time for retention; look-ups by time want records.
#[test]
fn an_emptied_batch_has_no_time_in_the_index() {
    let mut bench = Bench::new();
    bench.config.segment_bytes_max = 200;
    bench.segment(&[
        plain(&[(0, Some("b"), Some("1"))]),
        plain(&[(1, Some("a"), Some("2"))]),
    ]);
    bench.segment(&[plain(&[(2, Some("a"), Some(&"3".repeat(200)))])]);
    let after = bench.clean();
    assert_eq!(header(&after[1]).record_count, 0);
    assert_eq!(header(&after[1]).max_timestamp, TimestampMs::new(10_001));
    let largest = bench.segments[0].max_timestamp().unwrap();
    assert_eq!(largest, (TimestampMs::new(10_000), Offset::ZERO));
}

/// An entry that the new index refused was left out, and readers would have taken aborted records for committed ones.
#[test]
fn aborted_transactions_that_are_out_of_order_are_damage() {
    let mut bench = Bench::new();
    let aborted = |first: i64, last: i64| AbortedTransaction {
        producer_id: P,
        first_offset: Offset::new(first),
        last_offset: Offset::new(last),
        last_stable_offset: Offset::new(last),
    };
    // Of a damaged index: the first marker stands at 1.
    bench.aborted = vec![aborted(0, 9), aborted(2, 3)];
    bench.segment(&[
        batch(transactional(0, 0), &[(0, Some("a"), Some("aborted"))]),
        marker(1, TransactionOutcome::Abort),
        batch(transactional(2, 1), &[(2, Some("b"), Some("aborted"))]),
        marker(3, TransactionOutcome::Abort),
    ]);
    let error = bench.begin().unwrap().next_groups(&mut Freely).unwrap_err();
    assert!(
        matches!(&error, CleanError::Damaged { file, .. } if file.ends_with("00000000000000000000.txnindex")),
        "{error}"
    );
}
