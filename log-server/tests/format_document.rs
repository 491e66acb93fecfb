//! `docs/FORMAT.md` says what the code does: its examples are the bytes that the code writes, and its field tables
//! fit them.
//!
//! An example is a block of lines, each a field in hexadecimal and its name; a field table stands above it. The names
//! must agree row by row, the sizes must be those of the bytes, and the bytes those of the code.

#![expect(clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use log_client::admin::{Admin, Intent, NewTopic};
use log_client::config::{ClientConfig, ProducerConfig};
use log_client::producer::{Producer, ProducerRecord};
use log_core::checkpoint::clean_shutdown::CleanShutdown;
use log_core::checkpoint::error::CheckpointFile;
use log_core::checkpoint::{leader_epoch_checkpoint, offset_checkpoint, partition_metadata};
use log_core::envelope;
use log_core::index::offset_index::{self, OffsetIndex};
use log_core::index::time_index::{self, TimeIndex};
use log_core::index::transaction_index::{self, AbortedTransaction};
use log_core::leader_epoch::EpochEntry;
use log_core::log::failed_sync::FAILED_SYNC_FILE;
use log_core::model::{
    FilePosition, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId,
    TopicPartition,
};
use log_core::producer_state::manager::ProducerStateManager;
use log_core::producer_state::snapshot::Snapshot;
use log_core::record::batch::Batch;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions, BatchProducer};
use log_core::record::batch_header::HEADER_LENGTH;
use log_core::record::control::{EndTransactionMarker, TransactionOutcome};
use log_core::record::record::RecordHeader;
use log_core::record::validator::trust_own;
use log_core::segment::file_name::FileKind;
use log_server::broker::Broker;
use log_server::config::keys::BrokerConfig;
use log_server::metadata::records::MetadataRecord;
use log_server::shutdown::Shutdown;

const FORMAT: &str = include_str!("../../docs/FORMAT.md");
const TIME: TimestampMs = TimestampMs::new(1_700_000_000_000);

/// One line of an example.
#[derive(Debug, Clone)]
struct Field {
    bytes: Vec<u8>,
    name: String,
}

/// One row of a field table: where the field begins and how long it is, where that is fixed.
#[derive(Debug, Clone)]
struct Row {
    at: Option<usize>,
    size: Option<usize>,
    name: String,
}

/// The block that opens with three backticks, the kind and the name.
fn block(kind: &str, name: &str) -> &'static str {
    let (_, rest) = FORMAT
        .split_once(&format!("\n```{kind} {name}\n"))
        .unwrap_or_else(|| panic!("FORMAT.md has no block {kind} {name}"));
    rest.split_once("```").expect("a block ends").0
}

fn example(name: &str) -> Vec<Field> {
    let line = |line: &str| {
        let (hex, name) = line.split_once("  ").unwrap_or((line, ""));
        let bytes = hex
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{byte} in {line}")));
        Field {
            bytes: bytes.collect(),
            name: name.trim().to_owned(),
        }
    };
    block("hex", name).lines().map(line).collect()
}

fn bytes_of(fields: &[Field]) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|field| field.bytes.iter().copied())
        .collect()
}

/// The table behind `<!-- table: name -->`; its columns are at, bytes, field, and what else there is.
fn table(name: &str) -> Vec<Row> {
    let (_, rest) = FORMAT
        .split_once(&format!("<!-- table: {name} -->"))
        .unwrap_or_else(|| panic!("FORMAT.md has no table {name}"));
    let rows = rest
        .trim_start()
        .lines()
        .take_while(|line| line.starts_with('|'))
        .skip(2);
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        Row {
            at: cells.get(1).and_then(|cell| cell.parse().ok()),
            size: cells.get(2).and_then(|cell| cell.parse().ok()),
            name: (*cells.get(3).expect("a table has three columns")).to_owned(),
        }
    })
    .collect()
}

/// Each row against the field of the example at its place, and the places against the sizes.
fn check_table(name: &str, fields: &[Field], fixed_length: usize) {
    let rows = table(name);
    assert_eq!(
        rows.len(),
        fields.len(),
        "{name}: a row for each line of the example"
    );
    let mut at = 0;
    for (row, field) in rows.iter().zip(fields) {
        assert!(
            field.name.starts_with(&row.name),
            "{name}: the table says {}, the example {}",
            row.name,
            field.name
        );
        assert!(
            row.at.is_none_or(|found| found == at),
            "{name}: {} begins at {at}",
            row.name
        );
        if let Some(size) = row.size {
            assert_eq!(field.bytes.len(), size, "{name}: {}", row.name);
            at += size;
        }
    }
    assert_eq!(at, fixed_length, "{name}: the fields of fixed length");
}

fn check_bytes(name: &str, found: &[u8]) -> Vec<Field> {
    let fields = example(name);
    let hex = |bytes: &[u8]| -> Vec<String> { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    assert_eq!(
        hex(&bytes_of(&fields)).join(" "),
        hex(found).join(" "),
        "the example {name} (left) is not what the code writes"
    );
    fields
}

fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer: BatchProducer {
            id: ProducerId::new(4242),
            epoch: ProducerEpoch::new(7),
            base_sequence: Sequence::new(0),
        },
        ..BatchOptions::default()
    });
    let header = RecordHeader::new("h", Some(b"1"));
    builder
        .append(TIME, Some(b"key"), Some(b"v1"), &[])
        .expect("it fits");
    let later = TIME.saturating_plus(5);
    builder
        .append(later, None, Some(b"v2"), &[header])
        .expect("it fits");
    let batch = trust_own(builder.build()).expect("it is sound");
    let stamp = batch.stamp(Offset::new(1000), LeaderEpoch::new(2));
    [&stamp[..], batch.body()].concat()
}

#[test]
fn a_record_batch() {
    let bytes = batch();
    let fields = check_bytes("batch", &bytes);
    let (header, records) = fields.split_at(13);
    check_table("batch header", header, HEADER_LENGTH);
    check_table("record", &records[..8], 1);
    let parsed = Batch::parse(&bytes).expect("it is a batch");
    parsed.verify_checksum().expect("its checksum is right");
    assert_eq!(parsed.header().record_count, 2);
}

#[test]
fn a_control_record() {
    let marker = EndTransactionMarker {
        outcome: TransactionOutcome::Commit,
        coordinator_epoch: 12,
    };
    let bytes = marker.to_batch(ProducerId::new(1), ProducerEpoch::new(0), TIME);
    let batch = Batch::parse(&bytes).expect("it is a batch");
    let mut scratch = Vec::new();
    let mut records = batch.records(&mut scratch, 0).expect("it is not compressed");
    let record = records.next().expect("it has a record").expect("it is sound");
    let key_and_value = [record.key.unwrap_or_default(), record.value.unwrap_or_default()].concat();
    let fields = check_bytes("control record", &key_and_value);
    check_table("control record", &fields, 10);
}

#[test]
fn an_offset_index() {
    let mut index = OffsetIndex::new(Offset::new(1000), 1 << 20);
    for (offset, position) in [(1009, 4096), (1300, 0x0001_2345)] {
        index
            .try_push(Offset::new(offset), FilePosition::new(position))
            .expect("it fits");
    }
    let fields = check_bytes("offset index", index.bytes());
    check_table("offset index", &fields[..2], offset_index::ENTRY_SIZE);
}

#[test]
fn a_time_index() {
    let mut index = TimeIndex::new(Offset::new(1000), 1 << 20);
    for (time, offset) in [(TIME, 1009), (TIME.saturating_plus(1), 1300)] {
        index.try_push(time, Offset::new(offset)).expect("it fits");
    }
    let fields = check_bytes("time index", index.bytes());
    check_table("time index", &fields[..2], time_index::ENTRY_SIZE);
}

#[test]
fn a_transaction_index() {
    let aborted = AbortedTransaction {
        producer_id: ProducerId::new(0x0102),
        first_offset: Offset::new(0x60),
        last_offset: Offset::new(0x70),
        last_stable_offset: Offset::new(0x71),
    };
    let fields = check_bytes("transaction index", &aborted.to_bytes());
    check_table("transaction index", &fields, transaction_index::ENTRY_SIZE);
}

#[test]
fn a_producer_snapshot() {
    let mut state = ProducerStateManager::new(Offset::ZERO);
    let batch = batch();
    let first = *Batch::parse(&batch).expect("it is a batch").header();
    let mut second = first;
    second.base_offset = first.next_offset();
    second.base_sequence = Sequence::new(2);
    second.max_timestamp = TIME.saturating_plus(6);
    state.update(&first);
    state.update(&second);
    let bytes = state.snapshot();
    let fields = check_bytes("producer snapshot", &bytes);
    check_table("producer snapshot", &fields[..3], 10);
    check_table("producer snapshot: a producer", &fields[3..11], 46);
    check_table("producer snapshot: trailer", &fields[11..13], 6);
    check_table("producer snapshot: a producer's batches", &fields[13..15], 9);
    check_table("producer snapshot: a batch", &fields[15..19], 24);
    let read = Snapshot::parse(&bytes, Offset::new(1004)).expect("it is sound");
    assert!(read.is_complete);
}

fn topic_created() -> MetadataRecord {
    MetadataRecord::TopicCreated {
        name: "t".to_owned(),
        topic_id: *b"0123456789abcdef",
        partition_count: 3,
        configs: BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]),
    }
}

#[test]
fn a_metadata_record() {
    let bytes = topic_created().encode().expect("it fits");
    let fields = check_bytes("metadata record", &bytes);
    check_table("envelope", &fields[..4], envelope::HEADER_LENGTH);
}

/// The variants, their numbers and their fields, as the code numbers them.
#[test]
fn the_metadata_records() {
    let topic_id = [0; 16];
    let configs = BTreeMap::new();
    let all = [
        MetadataRecord::ClusterCreated {
            cluster_id: String::new(),
        },
        topic_created(),
        MetadataRecord::TopicDeleted { topic_id },
        MetadataRecord::PartitionsAdded {
            topic_id,
            partition_count: 1,
        },
        MetadataRecord::PartitionsWithdrawn {
            topic_id,
            partition_count: 1,
        },
        MetadataRecord::TopicConfigSet {
            topic_id,
            configs: configs.clone(),
        },
        MetadataRecord::BrokerConfigSet {
            node_id: None,
            configs: configs.clone(),
        },
        MetadataRecord::ProducerIdBlock { next_producer_id: 0 },
        MetadataRecord::GroupConfigSet {
            group: String::new(),
            configs: configs.clone(),
        },
        MetadataRecord::SubscriptionConfigSet {
            subscription: String::new(),
            configs,
        },
    ];
    let rows = table("metadata records");
    assert_eq!(rows.len(), all.len());
    for (row, record) in rows.iter().zip(&all) {
        let bytes = record.encode().expect("it fits");
        let number = &bytes[envelope::HEADER_LENGTH..envelope::HEADER_LENGTH + 4];
        assert_eq!(
            row.at.map(u32::try_from),
            Some(Ok(u32::from_le_bytes(number.try_into().expect("four bytes"))))
        );
        let debug = format!("{record:?}");
        let name = debug.split([' ', '{']).next().expect("it has a name");
        assert!(row.name.contains(&format!("`{name}`")), "{row:?} is not {name}");
        let fields: Vec<&str> = debug
            .split([' ', '{', ','])
            .filter_map(|word| word.strip_suffix(':'))
            .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            .collect();
        let line = FORMAT
            .lines()
            .find(|line| line.contains(&row.name))
            .expect("the row is there");
        for field in fields {
            assert!(
                line.contains(&field.replace('_', " ")),
                "{line} does not name {field}"
            );
        }
    }
}

#[test]
fn a_metadata_snapshot() {
    let records = [
        MetadataRecord::ClusterCreated {
            cluster_id: "c".to_owned(),
        },
        MetadataRecord::ProducerIdBlock { next_producer_id: 5 },
        MetadataRecord::BrokerConfigSet {
            node_id: None,
            configs: BTreeMap::new(),
        },
    ];
    let fields = example("metadata snapshot");
    check_table("envelope", &fields[..4], envelope::HEADER_LENGTH);
    check_table("metadata snapshot", &fields[4..7], 16);
    let bytes = bytes_of(&fields);
    let (header, payload) = bytes.split_at(envelope::HEADER_LENGTH);
    assert_eq!(&header[..6], b"SLms\x01\0");
    let mut expected = 7_i64.to_le_bytes().to_vec();
    expected.extend_from_slice(&3_u64.to_le_bytes());
    for record in &records {
        let record = record.encode().expect("it fits");
        expected.extend_from_slice(&record[envelope::HEADER_LENGTH..]);
    }
    assert_eq!(payload, expected);
    let length = u32::try_from(payload.len()).expect("it is short");
    assert_eq!(header[6..10], length.to_le_bytes());
    let checksum = crc32fast::hash(&[&header[..10], payload].concat());
    assert_eq!(header[10..], checksum.to_le_bytes(), "{checksum:#010x}");
}

#[test]
fn the_text_files() {
    let orders = |partition| TopicPartition::new("orders", partition);
    let offsets = BTreeMap::from([(orders(0), Offset::new(41)), (orders(10), Offset::new(7))]);
    let epochs = [(0, 0), (2, 1000)].map(|(epoch, start)| EpochEntry {
        epoch: LeaderEpoch::new(epoch),
        start_offset: Offset::new(start),
    });
    let id = TopicId::from_bytes([0xfb, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    let marker = CleanShutdown {
        broker_epoch: Some(-1),
    };
    for (file, contents) in [
        (
            CheckpointFile::RecoveryPoint,
            offset_checkpoint::to_bytes(&offsets),
        ),
        (
            CheckpointFile::LeaderEpoch,
            leader_epoch_checkpoint::to_bytes(&epochs),
        ),
        (
            CheckpointFile::PartitionMetadata,
            partition_metadata::to_bytes(id),
        ),
        (CheckpointFile::CleanShutdown, marker.to_bytes()),
    ] {
        let contents = String::from_utf8(contents).expect("it is text");
        assert_eq!(
            block("text", file.name()).trim_end(),
            contents.trim_end(),
            "{file}"
        );
    }
}

#[test]
fn every_kind_of_file_is_named() {
    let suffixes = FileKind::ALL.map(FileKind::suffix);
    let checkpoints = [
        CheckpointFile::RecoveryPoint,
        CheckpointFile::LogStartOffset,
        CheckpointFile::HighWatermark,
        CheckpointFile::LeaderEpoch,
        CheckpointFile::PartitionMetadata,
        CheckpointFile::CleanShutdown,
    ]
    .map(CheckpointFile::name);
    for name in
        suffixes
            .iter()
            .chain(&checkpoints)
            .chain(&[".lock", "-delete", "-stray", ".tmp", FAILED_SYNC_FILE])
    {
        assert!(
            FORMAT.contains(&format!("{name}`")),
            "FORMAT.md does not name {name}"
        );
    }
}

/// The names in the first column of the table behind a heading, with `<…>` for what differs.
fn names_under(heading: &str) -> Vec<&'static str> {
    let (_, rest) = FORMAT.split_once(heading).expect("the heading is there");
    let rows = rest.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| row.split('`').nth(1).expect("a row begins with a name"))
        .collect()
}

/// Whether a name is of the form; `<…>` and `*` stand for anything but nothing.
fn is_of_form(name: &str, form: &str) -> bool {
    let parts: Vec<&str> = form
        .split(['<', '*'])
        .map(|part| part.split_once('>').map_or(part, |(_, fixed)| fixed))
        .collect();
    let (first, rest) = parts.split_first().expect("a split has a first part");
    let Some(mut left) = name.strip_prefix(first) else {
        return false;
    };
    for (index, part) in rest.iter().enumerate() {
        let at = if index + 1 == rest.len() {
            left.len()
                .checked_sub(part.len())
                .filter(|_| left.ends_with(part))
        } else {
            left.find(part)
        };
        match at {
            Some(at) if 0 < at => left = left.split_at(at + part.len()).1,
            _ => return false,
        }
    }
    left.is_empty()
}

/// Two topics of two partitions with records and a roll, one of them deleted, over two starts.
async fn fill(data_dirs: &[PathBuf]) {
    for round in 0..2 {
        let config = BrokerConfig {
            data_dirs: data_dirs.to_vec(),
            kafka_listen: "127.0.0.1:0".to_owned(),
            http_listen: "127.0.0.1:0".to_owned(),
            ..BrokerConfig::default()
        };
        let broker = Broker::start(config, Shutdown::new(), Instant::now())
            .await
            .expect("the broker starts");
        let address = broker.kafka_address().to_string();
        let admin = Admin::new(ClientConfig::new(&address)).expect("the settings are sound");
        let topics = ["kept", "gone"].map(|name| {
            let topic = NewTopic::new(format!("{name}-{round}"));
            topic.with_partitions(2).with_config("segment.bytes", "1048576")
        });
        admin
            .create_topics(&topics, Intent::Apply)
            .await
            .expect("topics are made");
        let producer = Producer::new(ProducerConfig::new(&address)).expect("the settings are sound");
        let value = vec![7; 300_000];
        for _ in 0..4 {
            let record = ProducerRecord::new(&topics[0].name, &value).with_partition(0);
            let delivery = producer.send(&record).await.expect("the record is taken");
            delivery.await.expect("the record is acknowledged");
        }
        producer.close().await;
        let deleted = admin
            .delete_topics(&[&topics[1].name])
            .await
            .expect("it is answered");
        deleted
            .into_iter()
            .next()
            .expect("one topic")
            .expect("it is deleted");
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_of_a_data_directory_is_named() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let data_dirs = ["first", "second"].map(|name| directory.path().join(name));
    fill(&data_dirs).await;
    let of_directory = names_under("\n## The data directory");
    let of_partition = names_under("\n## A partition");
    let mut met: Vec<&str> = Vec::new();
    let mut look = |folder: &Path, forms: &[&'static str]| {
        for entry in std::fs::read_dir(folder).expect("it can be listed") {
            let name = entry.expect("it can be listed").file_name();
            let name = name.to_str().expect("it is text");
            // The most specific form counts: that of a partition would take nearly any.
            let form = forms
                .iter()
                .filter(|form| is_of_form(name, form))
                .max_by_key(|form| form.len());
            met.push(form.unwrap_or_else(|| panic!("FORMAT.md does not name {name}")));
        }
    };
    for data_dir in &data_dirs {
        look(data_dir, &of_directory);
    }
    for partition in ["kept-0-0", "kept-1-1", "__stratalog_metadata-0"] {
        let mut places = data_dirs.iter().map(|data_dir| data_dir.join(partition));
        let place = places.find(|place| place.exists());
        look(&place.expect("it is in one of the directories"), &of_partition);
    }
    for form in of_directory.iter().chain(&of_partition) {
        let is_rare = [
            "-delete",
            "-stray",
            ".tmp",
            ".txnindex",
            ".cleaned",
            ".swap",
            "cleaner-offset-checkpoint",
            "-reserve",
            FAILED_SYNC_FILE,
        ]
        .iter()
        .any(|end| form.ends_with(end));
        assert!(
            is_rare || met.contains(form),
            "no file of the form {form} was met"
        );
    }
}

#[test]
fn forms_of_names() {
    for (name, form, is_match) in [
        (".lock", ".lock", true),
        (".lock2", ".lock", false),
        ("orders-eu-0", "<topic>-<partition>", true),
        ("orders", "<topic>-<partition>", false),
        ("-0", "<topic>-<partition>", false),
        ("00000000000000001000.log", "<base offset>.log", true),
        ("00000000000000001000.log.tmp", "<base offset>.log", false),
        ("x.tmp", "*.tmp", true),
    ] {
        assert_eq!(is_of_form(name, form), is_match, "{name} {form}");
    }
}

/// The checks above compare with `Bytes` of the code; that they can fail is shown on a table that does not fit.
#[test]
#[should_panic(expected = "offset index: position")]
fn a_size_that_is_wrong_is_found() {
    let mut fields = example("offset index");
    fields.truncate(2);
    fields[1].bytes = Bytes::from_static(&[0; 8]).to_vec();
    check_table("offset index", &fields, offset_index::ENTRY_SIZE);
}

#[test]
#[should_panic(expected = "is not what the code writes")]
fn an_example_that_is_wrong_is_found() {
    check_bytes("offset index", &[0; 16]);
}
