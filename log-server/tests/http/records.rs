//! What is written one way is read every other way, to the byte: lines of a table in through NDJSON, out by offset, by time, as Kafka's batches
//! and by a Kafka client; and a Kafka client's records out through HTTP and in again.

use std::fmt::Write as _;
use std::net::SocketAddr;

use log_client::config::{ConsumerConfig, ProducerConfig, StartAt};
use log_client::consumer::Consumer;
use log_client::producer::{Producer, ProducerRecord, RecordHeader, partition_for_key};
use log_core::model::TimestampMs;
use log_core::record::batch::batches;
use log_core::record::compression::Compression;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Response, create_topic, get, head, post, send};
use crate::{config, start};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// Rows as an earthquake service lists them: numbers with odd fractions, places with commas, quotes and accents, and times.
fn table(rows: usize) -> Vec<(i64, String)> {
    let mut random = fastrand::Rng::with_seed(7);
    let row = |number: usize| {
        let time = 1_451_606_400_000 + i64::try_from(number).unwrap() * 61_234;
        let place = [
            "Nāʻālehu, Hawaii",
            "58 km \"SSW\" of Sóller",
            "off the coast\tof Jan Mayen",
            "100km E\\W",
        ];
        let line = format!(
            "us{number:08},{time},{:.4},{:.4},{:.2},\"{}\"",
            random.f64() * 180.0 - 90.0,
            random.f64() * 360.0 - 180.0,
            random.f64() * 9.0,
            place[number % place.len()]
        );
        (time, line)
    };
    (0..rows).map(row).collect()
}

fn as_ndjson(table: &[(i64, String)], partitions: i32) -> Vec<u8> {
    let mut body = String::new();
    for (number, (time, line)) in table.iter().enumerate() {
        let partition = i32::try_from(number).unwrap() % partitions;
        let record = json!({
            "key": format!("us{number:08}"),
            "value": line,
            "timestamp": time,
            "partition": partition,
            "headers": [{"name": "row", "value": number.to_string()}],
        });
        writeln!(body, "{record}").unwrap();
    }
    body.into_bytes()
}

/// Sends a body in pieces that cut lines anywhere, without saying how long it is.
async fn stream(address: SocketAddr, path: &str, body: &[u8]) -> Response {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head = head("POST", path, &[NDJSON, ("transfer-encoding", "chunked")]);
    connection
        .write_all(format!("{head}\r\n").as_bytes())
        .await
        .unwrap();
    let (mut reader, mut writer) = connection.split();
    let sending = async {
        for piece in body.chunks(4099) {
            writer
                .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
                .await
                .unwrap();
            writer.write_all(piece).await.unwrap();
            writer.write_all(b"\r\n").await.unwrap();
        }
        writer.write_all(b"0\r\n\r\n").await.unwrap();
    };
    let mut answer = Vec::new();
    let ((), read) = tokio::join!(sending, reader.read_to_end(&mut answer));
    read.unwrap();
    Response::parse(&answer)
}

/// All records of a partition, a page at a time by the links between pages.
async fn read_all(address: SocketAddr, first: &str) -> Vec<Value> {
    let (mut records, mut path) = (Vec::new(), first.to_owned());
    loop {
        let page = get(address, &path).await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        let found = page["records"].as_array().unwrap();
        if found.is_empty() {
            return records;
        }
        records.extend(found.iter().cloned());
        page["next"].as_str().unwrap().clone_into(&mut path);
    }
}

fn is_row(record: &Value, number: usize, expected: &(i64, String)) {
    assert_eq!(record["value"], *expected.1, "row {number}");
    assert_eq!(record["timestamp"], expected.0, "row {number}");
    assert_eq!(record["key"], format!("us{number:08}"));
    assert_eq!(
        record["headers"],
        json!([{"name": "row", "value": number.to_string()}])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_goes_in_as_a_stream_and_comes_out_every_way() {
    const ROWS: usize = 6_000;
    const PARTITIONS: i32 = 3;
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "quakes", PARTITIONS).await;
    let table = table(ROWS);

    let answer = stream(
        address,
        "/v1/topics/quakes/records",
        &as_ndjson(&table, PARTITIONS),
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let end = answer.lines().pop().unwrap();
    assert_eq!(
        end,
        json!({"done": true, "lines": ROWS, "records": ROWS, "failed": 0})
    );

    let partitions = usize::try_from(PARTITIONS).unwrap();
    let rows_of = |partition: usize| table.iter().enumerate().skip(partition).step_by(partitions);
    for partition in 0..partitions {
        let records = format!("/v1/topics/quakes/partitions/{partition}/records");
        // By offset, in pages.
        let by_offset = read_all(address, &format!("{records}?offset=0&limit=333")).await;
        assert_eq!(by_offset.len(), ROWS / partitions);
        for (record, (number, row)) in by_offset.iter().zip(rows_of(partition)) {
            is_row(record, number, row);
        }
        // By time: from the middle row's time on, as lines.
        let (number, middle) = rows_of(partition).nth(1000).unwrap();
        let by_time = get(address, &format!("{records}?time={}&format=ndjson", middle.0)).await;
        assert_eq!(by_time.header("x-next-offset"), Some("2000"));
        let lines = by_time.lines();
        assert_eq!((lines.len(), &lines[0]["offset"]), (1000, &json!(1000)));
        is_row(&lines[0], number, middle);
        // As Kafka's batches.
        let raw = get(
            address,
            &format!("{records}?offset=0&format=batches&bytes=16777216"),
        )
        .await;
        let mut values = Vec::new();
        let mut scratch = Vec::new();
        for batch in batches(&raw.body) {
            let batch = batch.unwrap();
            batch.verify_checksum().unwrap();
            for record in batch.records(&mut scratch, 64 << 20).unwrap() {
                values.push(record.unwrap().value.unwrap().to_vec());
            }
        }
        let expected: Vec<_> = rows_of(partition)
            .map(|(_, row)| row.1.clone().into_bytes())
            .collect();
        assert!(values == expected, "partition {partition}");
        // One record's value.
        let value = get(address, &format!("{records}?offset=-1&format=value")).await;
        assert_eq!(value.text(), rows_of(partition).next_back().unwrap().1.1);
    }
    // By a Kafka client.
    let mut consumer = Consumer::new(ConsumerConfig::new(&broker.kafka_address().to_string())).unwrap();
    consumer.assign_topic("quakes", StartAt::Earliest).await.unwrap();
    let mut seen = vec![0; partitions];
    while seen.iter().sum::<usize>() < ROWS {
        for polled in consumer.poll().await.unwrap() {
            let partition = usize::try_from(polled.partition().partition).unwrap();
            for record in polled.into_records().unwrap() {
                let (number, row) = rows_of(partition).nth(seen[partition]).unwrap();
                assert_eq!(record.value.unwrap(), row.1.as_bytes());
                assert_eq!(record.key.unwrap(), format!("us{number:08}").as_bytes());
                assert_eq!(record.timestamp, TimestampMs::new(row.0));
                seen[partition] += 1;
            }
        }
    }
    broker.stop().await;
}

/// Bytes of all kinds from a Kafka client, in every codec: read over HTTP, written back as they were read, and the same again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_kafka_client_wrote_is_read_and_can_be_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "first", 1).await;
    create_topic(address, "second", 1).await;
    let values: [Option<&[u8]>; 6] = [
        Some(b"text"),
        Some(&[0, 159, 146, 150, 255]),
        Some(b"{\"json\" : [1.50, null],\n \"lines\": 2}"),
        Some("\u{0} \u{7f} \u{2028} \" \\ \u{10ffff}".as_bytes()),
        Some(b""),
        None,
    ];
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let producer = Producer::new(ProducerConfig {
            compression,
            ..ProducerConfig::new(&broker.kafka_address().to_string())
        })
        .unwrap();
        for value in values {
            let headers = [
                RecordHeader::new("h", value),
                RecordHeader::new("h", Some(b"\xff")),
            ];
            let mut record = ProducerRecord::new("first", b"")
                .with_key(b"\xfe")
                .with_headers(&headers);
            record.value = value;
            drop(producer.send(&record).await.unwrap());
        }
        producer.flush().await;
        producer.close().await;
    }
    for (topic, next) in [("first", Some("second")), ("second", None)] {
        for encoding in ["auto", "json", "base64"] {
            let path = format!("/v1/topics/{topic}/partitions/0/records?encoding={encoding}");
            let records = read_all(address, &path).await;
            assert_eq!(records.len() % (5 * values.len()), 0);
            if let Some(next) = next {
                let written = post(
                    address,
                    &format!("/v1/topics/{next}/records"),
                    &json!({"records": records}),
                )
                .await;
                assert_eq!(written.status, 200, "{written:?}");
            }
        }
        let raw = get(
            address,
            &format!("/v1/topics/{topic}/partitions/0/records?format=batches"),
        )
        .await;
        let mut scratch = Vec::new();
        let mut count = 0;
        for batch in batches(&raw.body) {
            for record in batch.unwrap().records(&mut scratch, 1 << 20).unwrap() {
                let record = record.unwrap();
                let value = values[count % values.len()];
                assert_eq!((record.key, record.value), (Some(b"\xfe".as_slice()), value));
                let headers: Vec<_> = record.headers().map(|header| header.value).collect();
                assert_eq!(headers, [value, Some(b"\xff".as_slice())]);
                count += 1;
            }
        }
        assert_eq!(count, values.len() * if next.is_some() { 5 } else { 15 });
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_live_where_kafka_clients_put_them_and_refusals_are_told_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "keys", 6).await;
    let keys: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
    let records: Vec<_> = keys.iter().map(|key| json!({"key": key, "value": 1})).collect();
    let answer = post(address, "/v1/topics/keys/records", &json!({"records": records}))
        .await
        .json();
    for (key, row) in keys.iter().zip(answer["records"].as_array().unwrap()) {
        assert_eq!(row["partition"], partition_for_key(key.as_bytes(), 6), "{key}");
    }

    let mixed =
        json!({"records": [{"value": "good", "partition": 5}, {"partition": 6}, {"value_base64": "?"}]});
    let answer = post(address, "/v1/topics/keys/records", &mixed).await;
    assert_eq!(answer.status, 207);
    let rows = &answer.json()["records"];
    assert_eq!(rows[0]["partition"], 5);
    assert_eq!(rows[1]["error"]["code"], "unknown_partition");
    assert_eq!(rows[2]["error"]["code"], "invalid_record");

    // The name of a list may be written in every way that JSON has, and a record that is alone may hold the word.
    let json = [("content-type", "application/json")];
    for (body, count) in [
        (r#"{"\u0072ecords": [{"value": 1}, {"value": 2}]}"#, 2),
        (r#"{"records": [{"value": 1}, {"value": 2}]}"#, 2),
        (r#"{"value": {"records": []}}"#, 1),
        (r#"{"value": "\u0072"}"#, 1),
    ] {
        let answer = send(address, "POST", "/v1/topics/keys/records", &json, body.as_bytes()).await;
        assert_eq!(
            answer.json()["records"].as_array().unwrap().len(),
            count,
            "{body}"
        );
    }

    // A compacted topic wants keys; a batch is refused whole.
    let compacted = json!({"name": "compacted", "configs": {"cleanup.policy": "compact"}});
    assert_eq!(post(address, "/v1/topics", &compacted).await.status, 201);
    let body = json!({"records": [{"key": "k", "value": 1}, {"value": 2}]});
    let answer = post(address, "/v1/topics/compacted/records", &body).await;
    answer.problem(400, "batch_refused");
    let lines = b"{\"key\": \"k\"}\n\n{\"value\": 2}\n{\"key\"\n{\"key\": \"l\"}";
    let path = "/v1/topics/keys/records?on_error=skip";
    let answer = send(address, "POST", path, &[NDJSON], lines).await.lines();
    assert_eq!(answer[0]["line"], 4);
    assert_eq!(answer[0]["error"]["code"], "invalid_record");
    assert_eq!(
        answer[1],
        json!({"done": true, "lines": 5, "records": 3, "failed": 1})
    );
    // The mistake is found before anything was written: then nothing is.
    let answer = send(address, "POST", "/v1/topics/keys/records", &[NDJSON], lines).await;
    assert_eq!(answer.json()["line"], 4);
    answer.problem(400, "invalid_record");
    broker.stop().await;
}

/// Whatever way a batch comes, it is stored in the topic's codec, and reads the same; sent again with its key it is recognized.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_names_a_codec_has_no_batch_of_another() {
    const ROWS: usize = 500;
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    let table = table(ROWS);
    let records: Vec<_> = table.iter().map(|(_, line)| json!({"value": line})).collect();
    let body = json!({"records": records}).to_string();
    let headers = [("content-type", "application/json"), ("idempotency-key", "rows")];
    for compression in Compression::ALL {
        let topic = format!("in-{compression}");
        let setting = match compression {
            Compression::None => "uncompressed",
            codec => codec.name(),
        };
        let asked = json!({"name": topic, "partitions": 1, "configs": {"compression.type": setting}});
        assert_eq!(post(address, "/v1/topics", &asked).await.status, 201);
        let path = format!("/v1/topics/{topic}/records");
        let first = send(address, "POST", &path, &headers, body.as_bytes()).await;
        let again = send(address, "POST", &path, &headers, body.as_bytes()).await;
        assert_eq!(
            (first.status, again.status, again.json()),
            (200, 200, first.json())
        );
        for from in Compression::ALL {
            let producer = Producer::new(ProducerConfig {
                compression: from,
                ..ProducerConfig::new(&broker.kafka_address().to_string())
            });
            let producer = producer.unwrap();
            let record = ProducerRecord::new(&topic, table[0].1.as_bytes());
            producer.send(&record).await.unwrap().await.unwrap();
        }

        let partition = format!("/v1/topics/{topic}/partitions/0/records");
        let raw = get(
            address,
            &format!("{partition}?offset=0&format=batches&limit=10000"),
        )
        .await;
        let headers = batches(&raw.body).map(|batch| *batch.unwrap().header());
        let codecs: Vec<_> = headers.map(|header| header.compression()).collect();
        assert!(
            6 <= codecs.len() && codecs.iter().all(|codec| *codec == compression),
            "{codecs:?}"
        );
        let read = read_all(address, &format!("{partition}?offset=0&limit=1000")).await;
        let values: Vec<_> = read
            .iter()
            .map(|record| record["value"].as_str().unwrap())
            .collect();
        let expected = table.iter().chain([&table[0]; 5]).map(|(_, line)| line.as_str());
        assert!(values.into_iter().eq(expected), "{compression}");
    }
    broker.stop().await;
}

/// A reader that waits gets the record with the append, not with its time limit, which no test would outlive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_ends_with_the_record() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "waiting", 1).await;
    for round in 0..20 {
        let path = format!("/v1/topics/waiting/partitions/0/records?offset={round}&wait_ms=60000");
        let value = json!({"value": round.to_string()});
        let write = post(address, "/v1/topics/waiting/records", &value);
        let (page, written) = tokio::join!(get(address, &path), write);
        assert_eq!(written.status, 200);
        assert_eq!(page.json()["records"][0]["value"], round.to_string());
    }
    broker.stop().await;
}
