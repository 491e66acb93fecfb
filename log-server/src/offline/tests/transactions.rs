//! Indexes of aborted transactions against the log: sound ones, every damaged byte of them, and what is missing in them.

use log_core::index::transaction_index::ENTRY_SIZE;
use log_core::log::AppendOrigin;
use log_core::model::TransactionVersion;
use log_core::producer_state::verification::TransactionalBatch;
use log_core::record::control::{EndTransactionMarker, TransactionEnd, TransactionOutcome};

use super::*;

/// Several segments of transactions of three producers, one beside the other, every third of them aborted; closed in order.
fn with_transactions() -> MemFileSystem {
    let files = MemFileSystem::new();
    let clock = ManualClock::new(TimestampMs::new(1_000_000));
    let context = LogContext {
        file_system: Arc::new(files.clone()),
        clock: Arc::new(clock),
    };
    let (manager, _) = LogDirectory::open(context, PathBuf::from(DATA_DIR)).unwrap();
    let config = LogConfig {
        segment_bytes_max: 1200,
        ..LogConfig::default()
    };
    let mut log = manager.create(&partition(), TOPIC_ID, config.clone()).unwrap();
    for round in 0..12 {
        let id = ProducerId::new(i64::from(round % 3));
        let epoch = ProducerEpoch::new(0);
        // Of three producers, one ends while the others are under way.
        let ends = ProducerId::new(i64::from((round + 1) % 3));
        let sequence = Sequence::new(round / 3);
        let batch = TransactionalBatch {
            producer_id: id,
            producer_epoch: epoch,
            base_sequence: sequence,
            version: TransactionVersion::V1,
        };
        let mut builder = BatchBuilder::new(BatchOptions {
            producer: BatchProducer {
                id,
                epoch,
                base_sequence: sequence,
            },
            transactional: true,
            ..BatchOptions::default()
        });
        builder
            .append(TimestampMs::new(1_000_000), None, Some(&[7; 100]), &[])
            .unwrap();
        let proof = log.start_verification(&batch).unwrap();
        let batch = trust_own(builder.build()).unwrap();
        log.append_proved(&batch, AppendOrigin::Client, &proof).unwrap();
        let outcome = if round % 2 == 0 {
            TransactionOutcome::Abort
        } else {
            TransactionOutcome::Commit
        };
        let end = TransactionEnd {
            producer_id: ends,
            producer_epoch: epoch,
            version: TransactionVersion::V1,
            marker: EndTransactionMarker {
                outcome,
                coordinator_epoch: 0,
            },
        };
        let marker = end.to_batch(TimestampMs::new(1_000_000), config.timestamp_type);
        log.append_marker(&marker).unwrap();
        log.flush().unwrap();
        log.seal_all().unwrap();
    }
    let offset = log.close().unwrap();
    let entry = CheckpointEntry {
        partition: partition(),
        topic_id: TOPIC_ID,
        offset,
    };
    manager.write_recovery_points(&[entry]).unwrap();
    manager.mark_clean().unwrap();
    files
}

#[test]
fn an_index_of_aborted_transactions_is_compared_with_the_log() {
    let files = with_transactions();
    let report = verify(&files);
    assert!(report.findings.list().is_empty(), "{}", told(&report));
    let indexes = names(&files, ".txnindex");
    assert!(2 <= indexes.len(), "{indexes:?}");
    let last_segment = names(&files, ".log").into_iter().max().unwrap();
    for name in indexes {
        let path = in_partition(&name);
        let sound = read(&files, &path);
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x01;
            let report = with(&files, &path, &damaged);
            assert!(!report.findings.is_sound(), "{name}, byte {at} is not missed");
        }
        let is_active = name.replace(".txnindex", ".log") == last_segment;
        if !is_active {
            let shortened = &sound[..sound.len() - ENTRY_SIZE];
            let report = with(&files, &path, shortened);
            let worst = report
                .findings
                .list()
                .iter()
                .map(|finding| finding.severity)
                .max();
            assert_eq!(worst, Some(Severity::Damage), "{}", told(&report));
            // The broker would take it for a segment in which nothing was aborted.
            files.remove_file(&path).unwrap();
            let report = verify(&files);
            assert!(
                !report.findings.is_sound(),
                "{name} is missing: {}",
                told(&report)
            );
            files.replace(&path, &sound).unwrap();
        }
    }
}
