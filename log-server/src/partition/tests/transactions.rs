//! Transactions on a partition: who may begin and end one, what committed readers see, and what survives.

use log_core::fs::mem::crash::CrashMode;
use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
use log_core::model::TransactionVersion;
use log_core::producer_state::manager::ProducerStateError;
use log_core::producer_state::verification::{TransactionProof, TransactionalBatch};
use log_core::record::control::{EndTransactionMarker, TransactionEnd, TransactionOutcome};
use log_core::record::validator::trust_own;
use tokio::time::Instant;

use super::*;
use crate::partition::fetch_waiter::FetchWaiter;
use crate::partition::transactions::ActiveProducer;

pub(super) fn producer(id: i64, epoch: i16, base_sequence: i32) -> BatchProducer {
    BatchProducer {
        id: ProducerId::new(id),
        epoch: ProducerEpoch::new(epoch),
        base_sequence: Sequence::new(base_sequence),
    }
}

fn transactional(value: &str, producer: BatchProducer) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer,
        transactional: true,
        ..BatchOptions::default()
    });
    builder
        .append(NOW, Some(b"key"), Some(value.as_bytes()), &[])
        .unwrap();
    builder.build()
}

fn verify(partition: &Partition, producer: BatchProducer) -> Result<TransactionProof, PartitionError> {
    partition.start_verification(&TransactionalBatch {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: producer.base_sequence,
        version: TransactionVersion::V1,
    })
}

/// Appends a record to a producer's transaction, as if the coordinator had said yes.
pub(super) fn write(partition: &Partition, value: &str, producer: BatchProducer) -> Appended {
    let proof = verify(partition, producer).unwrap();
    partition
        .append_in_transaction(&transactional(value, producer), Acks::All, &proof, Instant::now())
        .now_or_never()
        .unwrap()
        .unwrap()
}

pub(super) fn end(id: i64, epoch: i16, outcome: TransactionOutcome) -> TransactionEnd {
    TransactionEnd {
        producer_id: ProducerId::new(id),
        producer_epoch: ProducerEpoch::new(epoch),
        version: TransactionVersion::V1,
        marker: EndTransactionMarker {
            outcome,
            coordinator_epoch: 3,
        },
    }
}

pub(super) const COMMIT: TransactionOutcome = TransactionOutcome::Commit;
const ABORT: TransactionOutcome = TransactionOutcome::Abort;

/// Up to where committed readers read, and the first offsets of the aborted transactions they are told.
fn committed(partition: &Partition) -> (i64, Vec<i64>) {
    let read = PartitionRead {
        offset: Offset::ZERO,
        bytes_max: 1 << 20,
        at_least_one_batch: true,
        isolation: Isolation::Committed,
    };
    let slice = partition.read(&read, Patience::MayBlock).unwrap();
    let last = batches(&slice.records).last();
    let end = last.map_or(0, |batch| batch.unwrap().header().next_offset().get());
    let aborted = slice.aborted.iter().map(|one| one.first_offset.get());
    (end, aborted.collect())
}

#[test]
fn a_decision_is_seen_when_its_marker_is_on_the_disk() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    append(&partition, &["plain"], Acks::All);
    write(&partition, "a", producer(7, 0, 0));
    write(&partition, "b", producer(8, 0, 0));
    storage.work();
    assert_eq!(committed(&partition), (1, vec![]));

    let mut first = partition.append_marker(end(7, 0, ABORT)).unwrap();
    assert_eq!(answer(&mut first.ack), None, "nothing was synced");
    assert_eq!(committed(&partition), (1, vec![]));
    storage.work();
    assert_eq!(answer(&mut first.ack), Some(Ok(())));
    assert_eq!(committed(&partition), (2, vec![1]), "the other one is open");

    partition.append_marker(end(8, 0, COMMIT)).unwrap();
    storage.work();
    assert_eq!(committed(&partition), (5, vec![1]));
    let offsets = partition.offsets();
    assert_eq!(offsets.last_stable, offsets.log_end);
    // Readers of everything are not told.
    let read = PartitionRead {
        offset: Offset::ZERO,
        bytes_max: 1 << 20,
        at_least_one_batch: true,
        isolation: Isolation::Uncommitted,
    };
    assert_eq!(partition.read(&read, Patience::MayBlock).unwrap().aborted, []);
}

#[test]
fn who_waits_for_committed_records_is_woken_by_the_marker() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    write(&partition, "a", producer(7, 0, 0));
    storage.work();
    let waiter = FetchWaiter::new();
    let _guard = partition.watch(&waiter);
    let is_woken = || {
        let mut future = std::pin::pin!(waiter.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        future.as_mut().poll(&mut context).is_ready()
    };
    assert!(!is_woken());
    partition.append_marker(end(7, 0, COMMIT)).unwrap();
    storage.work();
    assert!(is_woken());
    assert_eq!(committed(&partition).0, 2);
}

#[test]
fn a_late_batch_begins_no_transaction() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    let late = producer(7, 0, 0);
    let unverified =
        PartitionError::Producer(ProducerStateError::UnverifiedTransaction { producer_id: late.id });
    let append = |proof: &TransactionProof| {
        partition
            .append_in_transaction(&transactional("late", late), Acks::All, proof, Instant::now())
            .now_or_never()
            .unwrap()
            .map(|appended| appended.base_offset)
    };
    assert_eq!(append(&TransactionProof::Ongoing), Err(unverified.clone()));
    let refused = partition.append(&transactional("late", late), Acks::All);
    assert_eq!(refused.unwrap_err(), unverified);

    let proof = verify(&partition, late).unwrap();
    // Meanwhile the coordinator gave up on it.
    partition.append_marker(end(7, 0, ABORT)).unwrap();
    assert_eq!(append(&proof), Err(unverified));
    assert_eq!(partition.offsets().log_end, Offset::new(1));

    let proof = verify(&partition, late).unwrap();
    assert_eq!(append(&proof), Ok(Offset::new(1)));
    assert_eq!(verify(&partition, late), Ok(TransactionProof::Ongoing));
}

#[test]
fn markers_of_those_who_were_replaced_are_refused() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    write(&partition, "a", producer(7, 2, 0));
    let older = partition.append_marker(end(7, 1, COMMIT)).unwrap_err();
    assert!(
        matches!(
            older,
            PartitionError::Producer(ProducerStateError::InvalidProducerEpoch { .. })
        ),
        "{older}"
    );
    partition.append_marker(end(7, 2, COMMIT)).unwrap();
    let mut zombie = end(7, 2, ABORT);
    zombie.marker.coordinator_epoch = 2;
    let fenced = partition.append_marker(zombie).unwrap_err();
    assert!(
        matches!(
            fenced,
            PartitionError::Producer(ProducerStateError::CoordinatorFenced { .. })
        ),
        "{fenced}"
    );
    // Written again, as after a crash of the coordinator.
    partition.append_marker(end(7, 2, COMMIT)).unwrap();
    assert_eq!(committed(&partition), (0, vec![]), "nothing is synced");
}

#[test]
fn what_a_coordinator_writes_names_the_log_end_it_was_decided_for() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    let unsequenced = producer(7, 0, -1);
    let batch = trust_own(transactional("offset", unsequenced)).unwrap();
    let proof = verify(&partition, unsequenced).unwrap();
    let moved = |expected| PartitionError::LogEndMoved {
        expected: Offset::new(expected),
        found: partition.offsets().log_end,
    };
    let append = |end| partition.append_own_in_transaction_at(&batch, &proof, Offset::new(end));
    assert_eq!(append(1).unwrap_err(), moved(1));
    append(0).unwrap();
    // Of the same sequence, and no duplicate: it has none.
    append(1).unwrap();
    let marker = end(7, 0, COMMIT);
    assert_eq!(
        partition.append_marker_at(marker, Offset::new(1)).unwrap_err(),
        moved(1)
    );
    partition.append_marker_at(marker, Offset::new(2)).unwrap();
    assert!(append(3).is_err(), "the transaction is over");
    storage.work();
    assert_eq!(committed(&partition), (3, vec![]));
}

#[test]
fn open_transactions_and_aborted_ones_survive_a_kill_and_a_power_cut() {
    for mode in [CrashMode::All, CrashMode::SyncedOnly] {
        for checkpoint_after in [0, 3, 5] {
            let files = MemFileSystem::new();
            let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
            let step = |count| {
                storage.work();
                if count == checkpoint_after {
                    partition.checkpoint();
                }
            };
            write(&partition, "a", producer(7, 0, 0));
            step(1);
            write(&partition, "b", producer(8, 0, 0));
            step(2);
            partition.append_marker(end(7, 0, ABORT)).unwrap();
            step(3);
            write(&partition, "c", producer(7, 0, 1));
            step(4);
            partition.append_marker(end(8, 0, ABORT)).unwrap();
            step(5);
            // Not synced: gone after a power cut.
            partition.append_marker(end(7, 0, COMMIT)).unwrap();

            let image = files.crash(mode);
            let (storage, partition) = Storage::with_partition(&image, LogConfig::default());
            let story = format!("{mode:?}, checkpoint after {checkpoint_after}");
            let producers = partition.active_producers().unwrap();
            let open = producers.iter().find(|one| one.producer_id == ProducerId::new(7));
            let first_offset = open.and_then(|one| one.transaction_first_offset);
            if mode == CrashMode::All {
                assert_eq!(first_offset, None, "{story}");
                assert_eq!(committed(&partition), (6, vec![0, 1]), "{story}");
            } else {
                assert_eq!(first_offset, Some(Offset::new(3)), "{story}");
                assert_eq!(committed(&partition), (3, vec![0, 1]), "{story}");
                // It goes on where it was, without a new proof.
                assert_eq!(
                    verify(&partition, producer(7, 0, 2)),
                    Ok(TransactionProof::Ongoing),
                    "{story}"
                );
                partition.append_marker(end(7, 0, COMMIT)).unwrap();
                storage.work();
                assert_eq!(committed(&partition), (6, vec![0, 1]), "{story}");
            }
        }
    }
}

#[test]
fn a_marker_whose_sync_failed_decides_nothing() {
    let files = MemFileSystem::new();
    let (storage, partition) = Storage::with_partition(&files, LogConfig::default());
    write(&partition, "a", producer(7, 0, 0));
    storage.work();
    let mut marker = partition.append_marker(end(7, 0, ABORT)).unwrap();
    files.set_faults(FaultPlan::new().fail_once(FaultTarget::Sync, 1, FaultKind::Io));
    storage.work();
    assert!(is_latched(&mut marker.ack));
    files.set_faults(FaultPlan::new());
    partition.mend(&storage.manager).unwrap().unwrap();
    assert_eq!(partition.offsets().log_end, Offset::new(1));
    assert_eq!(committed(&partition), (0, vec![]));
    partition.append_marker(end(7, 0, COMMIT)).unwrap();
    storage.work();
    assert_eq!(committed(&partition), (2, vec![]));
}

/// The coordinator writes "complete" when it has the answers. Should a power cut take the marker after that, nobody would ever
/// write it again: the transaction would stay open, or become part of the producer's next one.
#[test]
fn a_marker_waits_for_the_disk_where_records_do_not() {
    for outcome in [COMMIT, ABORT] {
        let files = MemFileSystem::new();
        let (storage, partition) = Storage::with_partition(&files, relaxed());
        let record = write(&partition, "a", producer(7, 0, 0));
        assert!(matches!(record.ack, Ack::Now));
        let mut marker = partition.append_marker(end(7, 0, outcome)).unwrap();
        assert_eq!(partition.offsets().last_stable, Offset::new(2), "seen at once");
        assert_eq!(answer(&mut marker.ack), None, "nothing was synced");
        storage.work();
        assert_eq!(answer(&mut marker.ack), Some(Ok(())));

        let image = files.crash(CrashMode::SyncedOnly);
        let (_storage, partition) = Storage::with_partition(&image, relaxed());
        let producers = partition.active_producers().unwrap();
        let open: Vec<_> = producers.iter().map(|one| one.transaction_first_offset).collect();
        assert_eq!(open, [None], "{outcome:?}");
        let aborted = if outcome == ABORT { vec![0] } else { vec![] };
        assert_eq!(committed(&partition), (2, aborted));
    }
}

#[test]
fn producers_are_told_with_their_transactions() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    write(&partition, "a", producer(8, 1, 0));
    partition.append(&idempotent(&["b", "c"], 0), Acks::All).unwrap();
    write(&partition, "d", producer(5, 0, 0));
    partition.append_marker(end(5, 0, COMMIT)).unwrap();
    let row = |id: i64, epoch, last_sequence, coordinator_epoch, first: Option<i64>| ActiveProducer {
        producer_id: ProducerId::new(id),
        producer_epoch: ProducerEpoch::new(epoch),
        last_sequence: Sequence::new(last_sequence),
        last_timestamp: NOW,
        coordinator_epoch,
        transaction_first_offset: first.map(Offset::new),
    };
    assert_eq!(
        partition.active_producers().unwrap(),
        [
            row(5, 0, 0, 3, None),
            row(7, 0, 1, -1, None),
            row(8, 1, 0, -1, Some(0))
        ]
    );
}

#[tokio::test]
async fn records_of_an_open_transaction_can_be_deleted() {
    let (storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    write(&partition, "a", producer(7, 0, 0));
    append(&partition, &["b"], Acks::All);
    storage.work();
    partition.delete_records_now(None).unwrap();
    let offsets = partition.offsets();
    // As in Kafka: it holds nobody up below the log start, and what it writes from now on does.
    assert_eq!(
        (offsets.log_start, offsets.last_stable),
        (Offset::new(2), Offset::new(2))
    );
    append(&partition, &["c"], Acks::All);
    storage.work();
    assert_eq!(partition.offsets().last_stable, Offset::new(2));
    partition.append_marker(end(7, 0, ABORT)).unwrap();
    storage.work();
    assert_eq!(partition.offsets().last_stable, Offset::new(4));
}
