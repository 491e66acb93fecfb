//! That the runtime's threads, which serve everybody, are never held up by one partition or by the disk.

use std::ops::Deref;

use log_core::model::TransactionVersion;
use log_core::producer_state::verification::TransactionalBatch;
use parking_lot::RwLock;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::*;
use crate::partition::offset_query::{BLOCKING_MAX, blocking};
use crate::partition::writer::off_runtime;

/// A runtime whose threads may come to hang: a test that fails for that ends without them.
pub(in crate::partition) struct TestRuntime(Option<Runtime>);

impl TestRuntime {
    pub(super) fn new(threads: usize, blocking_threads: usize) -> Self {
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(threads)
            .max_blocking_threads(blocking_threads)
            .enable_time();
        Self(Some(builder.build().unwrap()))
    }

    /// What a task gives; where it does not end, the test fails and says `what` did not happen.
    pub(in crate::partition) fn in_time<T: Send + 'static>(&self, what: &str, task: JoinHandle<T>) -> T {
        let (here, there) = mpsc::channel();
        // The thread that waits is none of the runtime's, for they may hang.
        let handle = self.handle().clone();
        std::thread::spawn(move || here.send(handle.block_on(task)).ok());
        there.recv_timeout(HANG).expect(what).unwrap()
    }
}

impl Deref for TestRuntime {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for TestRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A runtime whose one thread must not be held up.
pub(in crate::partition) fn runtime(blocking_threads: usize) -> TestRuntime {
    TestRuntime::new(1, blocking_threads)
}

/// Returns when the runtime's thread, or the one that took over from it, gets to a task.
pub(super) fn wait_for_a_task(runtime: &TestRuntime) {
    let task = runtime.spawn(async {});
    runtime.in_time("somebody serves", task);
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
        runtime.in_time("who waited goes on", task);
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
    let handed_on = runtime.in_time("the slow task ends", slow);
    drop(hung);
    for read in reads {
        runtime.in_time("the disk answers", read).unwrap();
    }
    handed_on.expect("another thread served meanwhile");
}
