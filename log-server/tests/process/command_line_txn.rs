//! The commands for transactions against a broker of ours: what they show, what they refuse, and that readers of committed records go on
//! behind a transaction that was aborted.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use log_client::config::{ConsumerConfig, IsolationLevel, StartAt, TransactionalConfig};
use log_client::consumer::Consumer;
use log_client::offsets::OffsetQuery;
use log_client::producer::{ProducerRecord, TransactionalProducer};
use log_core::model::{Offset, TopicPartition};
use serde_json::{Value, json};

use crate::command_line::{ends_with, run};
use crate::server::Place;

const ID: &str = "transfers";

fn json(output: &Output) -> Value {
    serde_json::from_str(&ends_with(0, output)).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Does what clients do, and leaves nothing of them behind.
fn with_clients<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

/// Makes the topic `accounts` and leaves a transaction open in its one partition.
fn leave_open(at: &str) {
    ends_with(0, &run(at, "topic create accounts -p 1", b""));
    with_clients(async {
        let mut config = TransactionalConfig::new(at, ID);
        // Nobody ends it while the test runs, however slow the machine is.
        config.transaction_timeout = Duration::from_mins(15);
        let producer = TransactionalProducer::new(config).unwrap();
        producer.init_transactions().await.unwrap();
        producer.begin_transaction().unwrap();
        let record = ProducerRecord::new("accounts", b"left open");
        producer.send(&record).await.unwrap().await.unwrap();
    });
}

/// What readers of committed records see, up to where they stop now.
fn committed(at: &str) -> Vec<String> {
    let mut config = ConsumerConfig::new(at);
    config.isolation = IsolationLevel::ReadCommitted;
    config.fetch_wait_max = Duration::from_millis(50);
    let partition = TopicPartition::new("accounts", 0);
    with_clients(async {
        let mut consumer = Consumer::new(config).unwrap();
        let ends = consumer.list_offsets(vec![(partition.clone(), OffsetQuery::Latest)]);
        let (_, end) = ends.await.remove(0);
        let end = end.unwrap().offset.unwrap();
        consumer.assign(partition.clone(), StartAt::Earliest);
        let mut values = Vec::new();
        while Offset::ZERO < end
            && consumer
                .position(&partition)
                .is_none_or(|position| position < end)
        {
            for records in consumer.poll().await.unwrap() {
                let records = records.into_records().unwrap();
                let texts = records
                    .iter()
                    .map(|record| record.value.clone().unwrap().to_vec());
                values.extend(texts.map(|text| String::from_utf8(text).unwrap()));
            }
        }
        values
    })
}

#[test]
fn an_open_transaction_is_shown_and_left_to_its_coordinator() {
    let directory = tempfile::tempdir().unwrap();
    let server = Place::new(directory.path()).start();
    let at = server.kafka();
    assert_eq!(json(&run(at, "txn list --json", b"")), json!([]));
    leave_open(at);

    let listed = json(&run(at, "txn list --json", b""));
    assert_eq!(
        (&listed[0]["transactional_id"], &listed[0]["state"]),
        (&ID.into(), &"Ongoing".into())
    );
    let producer = listed[0]["producer_id"].as_i64().unwrap();
    for (filters, is_listed) in [
        ("--state ongoing", true),
        ("--state empty,completecommit", false),
        (&*format!("--producer-id {producer}"), true),
        (&*format!("--producer-id {}", producer + 1), false),
        ("--older-than 1h", false),
        ("trans", true),
        ("other", false),
    ] {
        let listed = json(&run(at, &format!("txn list --json {filters}"), b""));
        assert_eq!(listed != json!([]), is_listed, "{filters}: {listed}");
    }
    ends_with(2, &run(at, "txn list --state open", b""));

    let described = run(at, &format!("txn describe nobody {ID} --json"), b"");
    let documents: Value = serde_json::from_str(&ends_with(1, &described)).unwrap();
    assert_eq!(
        (&documents[0]["state"], &documents[0]["partitions"]),
        (
            &"Ongoing".into(),
            &json!([{ "topic": "accounts", "partition": 0 }])
        )
    );
    assert!(
        errors(&described).contains("TransactionalIdNotFound"),
        "{}",
        errors(&described)
    );
    let text = ends_with(0, &run(at, &format!("txn describe {ID}"), b""));
    assert!(text.contains("accounts 0") && text.contains(" ago)"), "{text}");
    let producers = json(&run(at, "txn describe-producers accounts --open --json", b""));
    assert_eq!(
        (&producers[0]["producer_id"], &producers[0]["start_offset"]),
        (&producer.into(), &0.into())
    );
    assert_eq!(
        json(&run(at, "txn find-hanging --older-than 0s --json", b"")),
        json!([])
    );

    let abort = "txn abort accounts-0 --start-offset 0";
    let planned = run(at, abort, b"");
    assert!(ends_with(0, &planned).contains("accounts-0"));
    assert!(
        errors(&planned).contains("would be refused"),
        "{}",
        errors(&planned)
    );
    let refused = run(at, &format!("{abort} --execute"), b"");
    ends_with(1, &refused);
    assert!(
        errors(&refused).contains(ID) && errors(&refused).contains("--force"),
        "{}",
        errors(&refused)
    );
    for (code, arguments) in [
        (1, "txn abort accounts-0 --start-offset 1"),
        (1, "txn abort accounts-9 --start-offset 0"),
        (1, "txn abort nowhere-0 --start-offset 0"),
        (2, "txn abort accounts --start-offset 0"),
        (2, "txn abort accounts-0"),
    ] {
        ends_with(code, &run(at, arguments, b""));
    }
    assert_eq!(committed(at), [""; 0]);

    let done = json(&run(at, &format!("{abort} --execute --force --json"), b""));
    assert_eq!(
        (&done["executed"], &done["transactional_id"], &done["producer_id"]),
        (&true.into(), &ID.into(), &producer.into())
    );
    ends_with(0, &run(at, "produce accounts -q", b"behind it\n"));
    assert_eq!(committed(at), ["behind it"]);
}

/// What `consume` shows with these further arguments.
fn consumed(at: &str, arguments: &str) -> Vec<String> {
    let command = format!("consume accounts --json {arguments}");
    let shown = ends_with(0, &run(at, command.trim_end(), b""));
    let records = shown
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .map(|record| record["value"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn consume_shows_all_records_or_those_that_count() {
    const COMMITTED: &str = "--isolation-level read_committed";
    let directory = tempfile::tempdir().unwrap();
    let server = Place::new(directory.path()).start();
    let at = server.kafka();
    leave_open(at);
    ends_with(0, &run(at, "produce accounts -q", b"behind it\n"));
    // As Kafka's console consumer: all of them, unless something else is said.
    for level in ["", "--isolation-level read_uncommitted"] {
        assert_eq!(consumed(at, level), ["left open", "behind it"], "{level}");
    }
    assert_eq!(consumed(at, COMMITTED), [""; 0], "it ends before what is open");

    let abort = "txn abort accounts-0 --start-offset 0 --execute --force";
    ends_with(0, &run(at, abort, b""));
    assert_eq!(consumed(at, ""), ["left open", "behind it"]);
    assert_eq!(consumed(at, COMMITTED), ["behind it"]);
    assert_eq!(
        consumed(at, &format!("{COMMITTED} -o -1")),
        [""; 0],
        "the marker is the last"
    );
    // A member of a group, and what it was not shown counts as read.
    assert_eq!(consumed(at, &format!("{COMMITTED} -g g -n 1")), ["behind it"]);
    let refused = run(at, "consume accounts --isolation-level serializable", b"");
    ends_with(2, &refused);
    assert!(
        errors(&refused).contains("read_committed"),
        "{}",
        errors(&refused)
    );
}

/// Removes the logs of all transactional ids, as a failed disk might.
fn lose_coordinators(data: &Path) {
    for entry in std::fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("__transaction_state-") {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
}

#[test]
fn a_transaction_that_no_coordinator_knows_is_found_and_aborted() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    let server = place.start();
    leave_open(server.kafka());
    assert!(server.stop().success(), "{}", place.log_tail());
    lose_coordinators(&directory.path().join("data"));
    let server = place.start();
    let at = server.kafka();
    ends_with(0, &run(at, "produce accounts -q", b"behind it\n"));
    assert_eq!(committed(at), [""; 0], "it is held up by what nobody ends");

    let found = run(at, "txn find-hanging --older-than 0s", b"");
    assert!(ends_with(0, &found).contains("accounts-0"));
    assert!(
        errors(&found).contains("`stratalog txn abort accounts-0 --start-offset 0`"),
        "{}",
        errors(&found)
    );
    let hanging = "txn find-hanging --older-than 0s --topic accounts:0 --json";
    let found = json(&run(at, hanging, b""));
    assert_eq!(
        (&found[0]["topic"], &found[0]["start_offset"]),
        (&"accounts".into(), &0.into())
    );
    assert_eq!(
        json(&run(at, "txn find-hanging --json", b"")),
        json!([]),
        "not for 15 minutes"
    );

    let abort = "txn abort accounts-0 --start-offset 0 --json";
    let planned = json(&run(at, abort, b""));
    assert_eq!(
        (&planned["executed"], &planned["transactional_id"]),
        (&false.into(), &Value::Null)
    );
    assert_eq!(committed(at), [""; 0], "a plan changes nothing");
    let done = json(&run(at, &format!("{abort} --execute"), b""));
    assert_eq!(done["executed"], true);
    assert_eq!(committed(at), ["behind it"]);
    assert_eq!(json(&run(at, hanging, b"")), json!([]));
    ends_with(1, &run(at, &format!("{abort} --execute"), b""));
}
