//! That the runtime's threads, which serve everybody, are never held up by one partition or by the disk.

use std::sync::mpsc;
use std::time::Duration;

use log_core::model::TransactionVersion;
use log_core::producer_state::verification::TransactionalBatch;
use parking_lot::RwLock;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::partition::offset_query::{BLOCKING_MAX, blocking};
use crate::partition::writer::off_runtime;

/// Longer than any healthy run.
const HANG: Duration = Duration::from_secs(30);

/// A runtime whose one thread must not be held up.
pub(super) fn runtime(blocking_threads: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(blocking_threads)
        .build()
        .unwrap()
}

/// Returns when the runtime's thread, or the one that took over from it, gets to a task.
pub(super) fn wait_for_a_task(runtime: &Runtime) {
    let (here, there) = mpsc::channel();
    runtime.spawn(async move { here.send(()).ok() });
    there.recv_timeout(HANG).expect("somebody serves");
}

#[test]
fn who_waits_for_a_slow_writer_hands_the_threads_tasks_on() {
    let (_storage, partition) = Storage::with_partition(&MemFileSystem::new(), LogConfig::default());
    append(&partition, &["unsynced"], Acks::All);
    let runtime = runtime(2);
    let works: [fn(&Partition); 3] = [
        |partition| drop(append(partition, &["x"], Acks::Leader)),
        |partition| {
            let batch = TransactionalBatch {
                producer_id: ProducerId::new(7),
                producer_epoch: ProducerEpoch::new(0),
                base_sequence: Sequence::new(0),
                version: TransactionVersion::V2,
            };
            partition.start_verification(&batch).unwrap();
        },
        |partition| drop(partition.when_durable(Offset::new(1)).unwrap()),
    ];
    for work in works {
        let slow = partition.writer.lock_slow();
        let waiting = Arc::clone(&partition);
        let task = runtime.spawn(async move { work(&waiting) });
        wait_for_a_task(&runtime);
        drop(slow);
        runtime.block_on(task).unwrap();
    }
}

/// The thread that takes over comes from where those come that wait for the disk: there were none left.
#[test]
fn work_that_waits_for_the_disk_leaves_threads_for_who_must_hand_on() {
    let runtime = runtime(BLOCKING_MAX + 1);
    let disk = Arc::new(RwLock::new(()));
    let hung = disk.write();
    let reads: Vec<_> = (0..=BLOCKING_MAX)
        .map(|_| {
            let disk = Arc::clone(&disk);
            runtime.spawn(blocking(move || drop(disk.read())))
        })
        .collect();
    let (go_on, gone_on) = mpsc::channel();
    let slow = runtime.spawn(async move { off_runtime(|| gone_on.recv_timeout(HANG)) });
    runtime.spawn(async move { go_on.send(()).ok() });
    let handed_on = runtime.block_on(slow).unwrap();
    drop(hung);
    for read in reads {
        runtime.block_on(read).unwrap().unwrap();
    }
    handed_on.expect("another thread served meanwhile");
}
