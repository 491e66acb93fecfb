//! How often a Produce and a Fetch ask for memory, from the frame to the response: per request, never per record or per byte. And what
//! a log keeps of it: per segment, never per record.
//!
//! The bounds are what was measured when this was written, and a few for what an append does now and then (more space, an index
//! entry). A change that raises one should have a reason; one that lowers it should lower the number here.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use log_core::log_manager::LogDirectory;
use log_core::model::TopicPartition;
use log_core::protocol::ApiKey;
use log_core::record::batch_builder::BatchOptions;
use log_core::record::validator::{ProduceRules, validate_produce};

use super::*;
use crate::kafka::connection::{Answer, Dispatch as _, Dispatched};

/// The system's allocator, counting on each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
    /// What was asked for here and is not given back, less what others asked for and was given back here.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(
    unsafe_code,
    reason = "the trait asks for it; every call goes to the system's allocator unchanged"
)]
// SAFETY: as `System`, to which everything is handed on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        BYTES.with(|bytes| bytes.set(bytes.get() + layout.size()));
        LIVE.with(|live| live.set(live.get() + layout.size().cast_signed()));
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.with(|live| live.set(live.get() - layout.size().cast_signed()));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Dispatches a request, syncs, and takes the answer: how often and how much memory was asked for, without the sync.
async fn measure(broker: &Broker, request: &[u8]) -> (usize, usize, Vec<u8>) {
    let dispatcher = Dispatcher::new(Arc::clone(&broker.services));
    let frame = frame_of(request, &RequestMemory::new(1 << 30));
    let connection = info();
    let here = || (COUNT.with(Cell::get), BYTES.with(Cell::get));
    let before = here();
    let mut under_way = dispatcher.dispatch(&connection, frame);
    let after = here();
    if let Dispatched::Unsynced(future, unsynced) = under_way {
        drop(unsynced);
        under_way = Dispatched::Later(future);
    }
    broker.sync();
    let resumed = here();
    let answer = match under_way {
        Dispatched::Now(answer) => answer,
        Dispatched::Later(future) | Dispatched::Barrier(future) => future.await,
        Dispatched::Begun(_) => panic!("a plain request waits for nobody"),
        Dispatched::Unsynced(..) => unreachable!("handed over"),
    };
    let end = here();
    let Answer::Respond(response) = answer else {
        panic!("{answer:?}")
    };
    let count = (after.0 - before.0) + (end.0 - resumed.0);
    let bytes = (after.1 - before.1) + (end.1 - resumed.1);
    (count, bytes, response.to_vec())
}

fn produce_frame(topic: &str, values: &[&str]) -> Vec<u8> {
    let records = batch_with(values, BatchOptions::default());
    frame(ApiKey::Produce, 9, 1, |buffer| {
        produce_request(topic, 0, Some(records))
            .write_to(buffer, 9)
            .unwrap();
    })
}

#[tokio::test]
async fn produce_asks_for_memory_per_request_only() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start_in(directory.path());
    broker.create_topic("a", 1, &[]).await;
    broker.hold_syncs();
    let value = "x".repeat(1000);
    // The first append makes what all later ones use.
    measure(&broker, &produce_frame("a", &[&value])).await;
    for records in [1, 10, 500] {
        let values = vec![value.as_str(); records];
        let (count, bytes, _) = measure(&broker, &produce_frame("a", &values)).await;
        println!("produce of {records} records: {count} times, {bytes} bytes");
        assert!(count <= 12 + 4, "{count}");
        // Far from the size of the records, which are not copied.
        assert!(bytes < 3_000, "{bytes}");
    }
}

#[tokio::test]
async fn fetch_asks_for_memory_per_request_only() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start_in(directory.path());
    broker.create_topic("a", 1, &[]).await;
    let value = "x".repeat(1000);
    for _ in 0..100 {
        broker.append("a", 0, &[value.as_str(); 10]).await;
    }
    let request = |bytes_max: i32| {
        let mut request = super::fetch::request(12, "a", &[(0, 0)]);
        request.max_bytes = bytes_max;
        frame(ApiKey::Fetch, 12, 1, |buffer| {
            request.write_to(buffer, 12).unwrap();
        })
    };
    for bytes_max in [1, 10_000, 1_000_000] {
        // A system that is short of memory may have taken the pages away; then the first read brings them back, in another way.
        let (mut count, mut bytes, mut response) = measure(&broker, &request(bytes_max)).await;
        for _ in 0..3 {
            if 13 < count {
                (count, bytes, response) = measure(&broker, &request(bytes_max)).await;
            }
        }
        println!("fetch of {} bytes: {count} times, {bytes} bytes", response.len());
        assert!(count <= 13, "{count}");
        assert!(bytes < 2_000, "{bytes}");
    }
}

/// A broker's memory must not grow with its records. What it keeps of a sealed segment is where that begins and ends: neither its
/// indexes nor what it was written with.
#[test]
fn a_sealed_segment_keeps_little_memory_however_many_records_it_has() {
    const SEGMENTS: usize = 64;
    const BATCHES: usize = 200;
    let directory = tempfile::tempdir().unwrap();
    let context = LogContext {
        file_system: Arc::new(OsFileSystem::new()),
        clock: Arc::new(ManualClock::new(NOW)),
    };
    let (manager, _) = LogDirectory::open(context, directory.path().join("data")).unwrap();
    let config = LogConfig {
        index_interval_bytes: 1,
        ..LogConfig::default()
    };
    let rules = ProduceRules {
        batch_bytes_max: u64::MAX,
        timestamp_type: config.timestamp_type,
        timestamp_before_max_ms: config.timestamp_before_max_ms,
        timestamp_after_max_ms: config.timestamp_after_max_ms,
        now: NOW,
        requires_keys: false,
        codec: None,
    };
    let batch = validate_produce(&batch_with(&["x"], BatchOptions::default()), &rules).unwrap();
    let partition = TopicPartition::new("a", 0);
    let mut log = manager
        .create(&partition, TopicId::from_bytes(*b"0123456789abcdef"), config)
        .unwrap();
    let mut fill = |segments: usize| {
        for _ in 0..segments {
            for _ in 0..BATCHES {
                log.append_one(&batch).unwrap();
            }
            log.roll().unwrap();
            log.flush().unwrap();
            log.seal_all().unwrap();
        }
        LIVE.with(Cell::get)
    };
    let before = fill(SEGMENTS);
    let grown = fill(SEGMENTS) - before;
    let each = grown / SEGMENTS.cast_signed();
    println!("{each} bytes for a sealed segment");
    // The indexes of one take eight bytes a batch here.
    assert!(each < 1024, "{each}");
}
