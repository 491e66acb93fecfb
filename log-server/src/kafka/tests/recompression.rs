//! Produce to topics that name a codec: batches that become large, and those whose turn has not come.

use std::collections::VecDeque;
use std::iter::from_fn;

use log_core::protocol::ApiKey;
use log_core::protocol::messages::MetadataRequestData;
use log_core::record::compression::Compression;

use super::*;
use crate::kafka::connection::{Dispatch as _, Dispatched};
use crate::partition::recompression::RecompressionTurn;

impl Broker {
    async fn with_uncompressed_topic(partition_count: i32) -> Self {
        let broker = Self::start();
        let config = [("compression.type", "uncompressed")];
        broker.create_topic("a", partition_count, &config).await;
        broker
    }

    /// All turns at writing batches anew.
    fn take_turns(&self) -> Vec<RecompressionTurn> {
        let partition = self.services.partition("a", 0).unwrap();
        from_fn(|| partition.context.recompression.try_take()).collect()
    }

    fn log_end(&self, partition: i32) -> i64 {
        let partition = self.services.partition("a", partition).unwrap();
        partition.offsets().log_end.get()
    }
}

/// A request whose batch is written anew.
fn compressed(partition: i32, value: &str) -> ProduceRequestData {
    let zstd = BatchOptions {
        compression: Compression::Zstd,
        ..BatchOptions::default()
    };
    produce_request("a", partition, Some(batch_with(&[value], zstd)))
}

/// One whose batch stays as it is.
fn plain(partition: i32) -> ProduceRequestData {
    produce_request("a", partition, Some(batch(&["x"])))
}

/// Requests in the order of their ids, from 0 on.
fn bytes_of(requests: &[ProduceRequestData]) -> Vec<u8> {
    let frames = (0..).zip(requests).flat_map(|(id, request)| {
        frame(ApiKey::Produce, 9, id, |buffer| {
            request.write_to(buffer, 9).unwrap();
        })
    });
    frames.collect()
}

async fn offsets(client: &mut Client, id: i32) -> Vec<i64> {
    let response = client.receive::<ProduceRequestData>(9, id).await;
    let topics = response.responses.iter();
    let rows = topics.flat_map(|topic| &topic.partition_responses);
    rows.map(|row| {
        assert_eq!(row.error_code, 0, "{row:?}");
        row.base_offset
    })
    .collect()
}

/// What came small and together becomes large, and is appended in as many calls as that takes.
#[tokio::test]
async fn requests_that_come_together_are_written_anew_each_for_itself() {
    let broker = Broker::with_uncompressed_topic(1).await;
    let values: Vec<String> = (0..12)
        .map(|number| format!("{number} ").repeat(30_000))
        .collect();
    let requests: Vec<_> = values.iter().map(|value| compressed(0, value)).collect();
    let mut client = broker.connect();
    client.send_bytes(&bytes_of(&requests)).await;
    for id in 0..12 {
        assert_eq!(offsets(&mut client, id).await, [i64::from(id)]);
    }
    let partition = broker.services.partition("a", 0).unwrap();
    let length: usize = values.iter().map(String::len).sum();
    assert!(length < usize::try_from(partition.size_in_bytes()).unwrap());
}

/// Whatever partitions they go to: what a call makes of them is small.
#[tokio::test]
async fn requests_that_become_large_are_not_all_carried_out_together() {
    let broker = Broker::with_uncompressed_topic(2).await;
    let dispatcher = Dispatcher::new(Arc::clone(&broker.services));
    let memory = RequestMemory::new(1 << 20);
    let value = "x".repeat(50 << 10);
    let frames = (0..12).map(|number| {
        let request = compressed(number % 2, &value);
        frame_of(&bytes_of(&[request]), &memory)
    });
    let mut frames: VecDeque<_> = frames.collect();
    for left in [9, 6, 3, 0] {
        let under_way = dispatcher.dispatch_produces(&info(), &mut frames);
        assert_eq!((under_way.len(), frames.len()), (3, left));
        assert!(!broker.take_turns().is_empty(), "the turn is given back");
    }
}

#[tokio::test]
async fn who_waits_for_a_turn_is_waited_for_by_those_behind() {
    let broker = Broker::with_uncompressed_topic(2).await;
    let mut several = compressed(0, "3");
    several.topic_data.extend(compressed(1, "3").topic_data);
    let turns = broker.take_turns();
    let mut client = broker.connect();
    let requests = [plain(0), compressed(0, "1"), plain(0), several];
    client.send_bytes(&bytes_of(&requests)).await;
    client.next_id = 3;
    let last = client.send(9, &MetadataRequestData::default()).await;
    assert_eq!(offsets(&mut client, 0).await, [0]);
    assert!(client.is_quiet().await);
    assert_eq!((broker.log_end(0), broker.log_end(1)), (1, 0));
    drop(turns);
    for (id, expected) in [(1, &[1][..]), (2, &[2]), (3, &[3, 0])] {
        assert_eq!(offsets(&mut client, id).await, expected);
    }
    client.receive::<MetadataRequestData>(9, last).await;
}

/// Each row has a turn of its own, and what stands before the one that waits is appended once.
#[tokio::test]
async fn a_request_for_several_partitions_waits_in_the_middle() {
    let broker = Broker::with_uncompressed_topic(2).await;
    let mut request = plain(0);
    request.topic_data.extend(compressed(1, "x").topic_data);
    let turns = broker.take_turns();
    let mut client = broker.connect();
    let id = client.send(9, &request).await;
    assert!(client.is_quiet().await);
    assert_eq!((broker.log_end(0), broker.log_end(1)), (1, 0));
    drop(turns);
    assert_eq!(offsets(&mut client, id).await, [0, 0]);
    assert_eq!((broker.log_end(0), broker.log_end(1)), (1, 1));
}

/// It waited for ever, and what stood behind it too.
#[tokio::test]
async fn a_turn_that_does_not_come_in_the_requests_time_is_told_and_nothing_appended() {
    let broker = Broker::with_uncompressed_topic(2).await;
    let turns = broker.take_turns();
    let mut several = compressed(0, "a");
    several.topic_data.extend(compressed(1, "b").topic_data);
    let mut client = broker.connect();
    // Not before: the controller is a thread of its own, which a clock that runs ahead does not wait for.
    tokio::time::pause();
    // The first says 5 ms, which counts as a second.
    let limits = [(5, 1), (3000, 3)];
    for (request, (timeout_ms, seconds)) in [compressed(0, "a"), several].into_iter().zip(limits) {
        let request = ProduceRequestData {
            timeout_ms,
            ..request
        };
        let begin = tokio::time::Instant::now();
        let id = client.send(9, &request).await;
        let response = client.receive::<ProduceRequestData>(9, id).await;
        // One limit for all that the request has.
        assert_eq!(begin.elapsed().as_secs(), seconds);
        let rows = response.responses.iter();
        for row in rows.flat_map(|topic| &topic.partition_responses) {
            assert_eq!(code(row.error_code), ErrorCode::RequestTimedOut);
            assert_eq!(row.base_offset, -1);
            let text = row.error_message.as_ref().unwrap().as_str();
            assert!(text.contains("was not appended"), "{text}");
        }
    }
    assert_eq!((broker.log_end(0), broker.log_end(1)), (0, 0));
    tokio::time::resume();
    drop(turns);
    let again = client.send(9, &compressed(0, "a")).await;
    assert_eq!(offsets(&mut client, again).await, [0]);
}

/// What the wait for a turn took, the disk does not get besides.
#[tokio::test]
async fn the_waits_for_a_turn_and_for_the_disk_share_a_limit() {
    let broker = Broker::with_uncompressed_topic(1).await;
    broker.hold_syncs();
    let turns = broker.take_turns();
    let mut client = broker.connect();
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let request = ProduceRequestData {
        timeout_ms: 3000,
        ..compressed(0, "a")
    };
    let id = client.send(9, &request).await;
    let give_back = async {
        tokio::time::sleep_until(begin + Duration::from_secs(2)).await;
        drop(turns);
    };
    let (response, ()) = tokio::join!(client.receive::<ProduceRequestData>(9, id), give_back);
    let row = &response.responses[0].partition_responses[0];
    assert_eq!(code(row.error_code), ErrorCode::RequestTimedOut);
    assert_eq!((broker.log_end(0), begin.elapsed().as_secs()), (1, 3));
}

#[tokio::test]
async fn a_request_that_waits_for_its_turn_keeps_its_memory() {
    const MEMORY: usize = 1 << 20;
    let broker = Broker::with_uncompressed_topic(1).await;
    let dispatcher = Dispatcher::new(Arc::clone(&broker.services));
    let memory = RequestMemory::new(u64::try_from(MEMORY).unwrap());
    let [first, second, third] =
        [plain(0), compressed(0, "x"), plain(0)].map(|request| frame_of(&bytes_of(&[request]), &memory));
    let held = second.bytes.len() + third.bytes.len();
    let mut frames = VecDeque::from([first, second, third]);
    let turns = broker.take_turns();
    let under_way = dispatcher.dispatch_produces(&info(), &mut frames);
    assert!(matches!(
        under_way.as_slice(),
        [Dispatched::Unsynced(..), Dispatched::Begun(_)]
    ));
    assert_eq!((frames.len(), memory.free_bytes()), (1, MEMORY - held));
    drop((under_way, frames));
    assert_eq!(memory.free_bytes(), MEMORY);
    drop(turns);
    assert!(
        !broker.take_turns().is_empty(),
        "a turn that nobody wants any more is free"
    );
}
