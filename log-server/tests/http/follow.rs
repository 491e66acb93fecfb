//! A follower gets what comes, all of it and once, goes on where it was when it comes back, and is told when something is missing or over.

use std::net::SocketAddr;

use log_client::admin::Admin;
use log_client::config::ClientConfig;
use log_core::model::{Offset, TopicPartition};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::client::{create_topic, get, head, post};
use crate::{config, start};

/// The lines of a stream of events, as they come.
struct Events {
    reader: BufReader<TcpStream>,
}

#[derive(Debug, Default)]
struct Event {
    kind: String,
    id: String,
    data: Value,
}

impl Events {
    async fn open(address: SocketAddr, path: &str, last_id: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let headers: Vec<_> = last_id.map(|id| ("last-event-id", id)).into_iter().collect();
        let request = format!("{}\r\n", head("GET", path, &headers));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).await.unwrap();
        }
        Self { reader }
    }

    /// The next event; of a heartbeat, the id without data. Lengths of chunks, which are lines of their own, are passed over.
    async fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        let mut is_begun = false;
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).await.unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut event.id),
                Some(("event", kind)) => kind.clone_into(&mut event.kind),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                _ if line == "\n" && is_begun => return Some(event),
                _ => continue,
            }
            is_begun = true;
        }
    }
}

/// The next event that is not a heartbeat, which may come in between on a busy machine.
async fn next_event(events: &mut Events) -> Event {
    loop {
        let event = events.next().await.unwrap();
        if event.data != Value::Null {
            return event;
        }
    }
}

async fn write(address: SocketAddr, number: i64, partition: i32) {
    let record =
        json!({"key": (number % 3).to_string(), "value": {"number": number}, "partition": partition});
    let written = post(address, "/v1/topics/t/records", &record).await;
    assert_eq!(written.status, 200, "{written:?}");
}

fn number(event: &Event) -> i64 {
    let value: Value = serde_json::from_str(event.data["value"].as_str().unwrap()).unwrap();
    value["number"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_goes_on_behind_the_last_event() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 3).await;
    let (mut seen, mut last_id) = (Vec::new(), None::<String>);
    for round in 0..5 {
        let mut events =
            Events::open(address, "/v1/topics/t/follow?offset=earliest", last_id.as_deref()).await;
        // Two of a round are written under the reader's eyes, and one while nobody reads.
        for step in 0..2 {
            let number = round * 3 + step;
            write(address, number, i32::try_from(number % 3).unwrap()).await;
        }
        while seen.len() < usize::try_from(round * 3 + 2).unwrap() {
            let event = events.next().await.unwrap();
            seen.push(number(&event));
            last_id = Some(event.id);
        }
        drop(events);
        write(
            address,
            round * 3 + 2,
            i32::try_from((round * 3 + 2) % 3).unwrap(),
        )
        .await;
    }
    let mut events = Events::open(address, "/v1/topics/t/follow?until=end", last_id.as_deref()).await;
    let last = events.next().await.unwrap();
    seen.push(number(&last));
    let end = events.next().await.unwrap();
    assert_eq!((end.kind.as_str(), &end.data["reason"]), ("end", &json!("until")));
    assert!(events.next().await.is_none());
    seen.sort_unstable();
    assert_eq!(seen, (0..15).collect::<Vec<_>>());
    assert_eq!(last.id, "0:5,1:5,2:5");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_limits_and_lines() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 2).await;
    for number in 0..12 {
        write(address, number, i32::try_from(number % 2).unwrap()).await;
    }
    let count = async |parameters: &str, expected: usize| {
        let path = format!("/v1/topics/t/follow?until=end&format=ndjson&offset=earliest&{parameters}");
        let lines = get(address, &path).await.lines();
        assert_eq!(lines.len(), expected + 1, "{parameters}: {lines:?}");
        lines
    };
    count("", 12).await;
    count("partitions=1", 6).await;
    count("key=2", 4).await;
    count("key_base64=Mg==&partitions=0", 2).await;
    let one = count("pointer=/number&equals=7&encoding=json", 1).await;
    assert_eq!(one[0]["value_json"], json!({"number": 7}));
    let some = count("limit=5", 5).await;
    assert_eq!(some[5], json!({"end": {"reason": "limit"}}));
    for (path, status, code) in [
        ("offset=3", 400, "invalid_request"),
        ("offset=99&partitions=0", 416, "offset_out_of_range"),
        ("partitions=2", 404, "unknown_partition"),
        ("pointer=/a", 400, "invalid_request"),
        ("heartbeat_ms=1", 400, "invalid_request"),
        ("limit=0", 400, "invalid_request"),
    ] {
        get(address, &format!("/v1/topics/t/follow?{path}"))
            .await
            .problem(status, code);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_and_the_end_of_the_broker_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    for number in 0..10 {
        write(address, number, 0).await;
    }
    let admin = Admin::new(ClientConfig::new(&broker.kafka_address().to_string())).unwrap();
    let before = vec![(TopicPartition::new("t", 0), Some(Offset::new(6)))];
    admin.delete_records(before).await[0].1.as_ref().unwrap();
    let mut events = Events::open(address, "/v1/topics/t/follow?heartbeat_ms=1000", Some("0:2")).await;
    let gap = events.next().await.unwrap();
    assert_eq!(
        (gap.kind.as_str(), gap.data),
        ("gap", json!({"partition": 0, "from": 2, "to": 6}))
    );
    for expected in 6..10 {
        assert_eq!(number(&next_event(&mut events).await), expected);
    }
    let heartbeat = events.next().await.unwrap();
    assert_eq!((heartbeat.id.as_str(), heartbeat.data), ("0:10", Value::Null));
    let (end, ()) = tokio::join!(
        async {
            loop {
                let event = events.next().await.unwrap();
                if event.kind == "end" {
                    return event;
                }
            }
        },
        broker.stop()
    );
    assert_eq!(end.data["reason"], "stopping");
    assert!(events.next().await.is_none());
}

/// Partitions that were added while nobody read begin at their first record; a log that ends before the reader's place is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_to_another_topic_misses_nothing_in_silence() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "t", 1).await;
    write(address, 0, 0).await;
    let grown = post(address, "/v1/topics/t/partitions", &json!({"count": 3})).await;
    assert_eq!(grown.status, 200, "{grown:?}");
    write(address, 1, 1).await;
    write(address, 2, 2).await;
    let path = "/v1/topics/t/follow";
    let mut events = Events::open(address, path, Some("0:1")).await;
    let mut seen = [
        number(&next_event(&mut events).await),
        number(&next_event(&mut events).await),
    ];
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
    // Partitions that are named are those that are wanted: of them a new one is read as asked.
    let path = "/v1/topics/t/follow?partitions=0,1&offset=latest&until=end";
    let mut events = Events::open(address, path, Some("0:1")).await;
    assert_eq!(next_event(&mut events).await.kind, "end");

    let mut events = Events::open(address, "/v1/topics/t/follow", Some("0:1000,1:1,2:1")).await;
    let gap = next_event(&mut events).await;
    assert_eq!(
        (gap.kind.as_str(), gap.data),
        ("gap", json!({"partition": 0, "from": 1000, "to": 1}))
    );
    write(address, 5, 0).await;
    let event = next_event(&mut events).await;
    assert_eq!((number(&event), event.id.as_str()), (5, "0:2,1:1,2:1"));
    broker.stop().await;
}
