//! `stratalog bench` against a broker of ours: every workload ends well on a little data, what it tells adds up, and its topic is gone.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use log_bench::proxy::{Answer, Proxy};
use log_core::protocol::messages::FetchRequestData;
use log_core::record::batch::batches;
use serde_json::Value;

use crate::command_line::{ends_with, run};
use crate::server::Place;

/// Every batch begins with the offset of its first record.
const BASE_OFFSET_BYTES: usize = 8;

/// Runs a load with `--json` and gives its result.
fn bench(at: &str, arguments: &str) -> Value {
    let output = run(at, &format!("bench {arguments} --json"), b"");
    serde_json::from_str(&ends_with(0, &output)).unwrap()
}

/// What every result with verification has.
fn check(result: &Value, records: u64) {
    let verification = &result["verification"];
    assert_eq!(verification["passed"], true, "{verification}");
    assert_eq!(verification["acknowledged"], records, "{verification}");
    assert_eq!(
        (&result["schema_version"], &result["broker"]["product"]),
        (&1.into(), &"Stratalog".into())
    );
    assert_eq!(result["broker"]["durability"]["mode"], "synced");
    assert!(
        result["broker"]["process"]["pid"].is_u64(),
        "{}",
        result["broker"]
    );
    assert!(result["broker"]["storage"]["filesystem"].is_string());
    assert!(result["machine"]["kernel"].is_string(), "{}", result["machine"]);
    assert!(result["cost"]["broker_cpu_s"].is_number(), "{}", result["cost"]);
    assert!(0 < result["cost"]["broker_rss_max_bytes"].as_u64().unwrap());
    assert_eq!(result["broker"]["version"], result["program_version"]);
    assert!(result["command"].as_array().unwrap().contains(&"bench".into()));
    assert_eq!(result["warnings"], Value::Array(Vec::new()));
}

/// A server whose members of groups hear of a rebalance soon.
fn with_swift_groups(directory: &std::path::Path) -> Place {
    Place::new(directory)
        .with("group.consumer.min.heartbeat.interval.ms", "20")
        .with("group.consumer.heartbeat.interval.ms", "20")
}

#[test]
fn groups_follow_the_load_and_lose_nothing_while_members_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let server = with_swift_groups(directory.path()).start();
    let at = server.kafka().to_owned();
    for (members, protocol) in [
        ("--members 3", "consumer"),
        ("--members 3 --classic --heartbeat-interval 20ms", "classic"),
    ] {
        let load = "groups -n 600 -r 2000 -p 5 --groups 2 --commit-interval 5ms --rebalance-every 50ms";
        let result = bench(&at, &format!("{load} {members}"));
        check(&result, 600);
        let groups = &result["groups"];
        assert_eq!(
            (&groups["groups"], &groups["members"], &groups["protocol"]),
            (&2.into(), &6.into(), &protocol.into())
        );
        // Each group is a pass over all records.
        assert_eq!(
            (&result["end_to_end"]["count"], &result["verification"]["checked"]),
            (&1200.into(), &1200.into())
        );
        // Each group had one member replaced at least, and each replacing is two rebalances.
        assert!(4 <= groups["rebalances"].as_u64().unwrap(), "{groups}");
        assert_eq!(groups["rebalance_latency"]["count"], groups["rebalances"]);
        assert!(0 < groups["commits"].as_u64().unwrap(), "{groups}");
    }
    // A topic that was there before is followed from its end, and more members than partitions are no harm.
    ends_with(0, &run(&at, "topic create mine -p 1", b""));
    bench(&at, "produce -n 100 --topic mine");
    let result = bench(&at, "groups -n 50 -r 1000 --topic mine --groups 1 --members 2");
    check(&result, 50);
    assert_eq!(result["verification"]["checked"], 50);
    let table = ends_with(0, &run(&at, "bench groups -n 50 --topic mine", b""));
    assert!(table.contains("4 members in all (consumer)"), "{table}");
    ends_with(2, &run(&at, "bench produce -n 10 --classic", b""));
    let left = ends_with(0, &run(&at, "group list --json", b""));
    assert_eq!(left.trim(), "[]", "a run removes its groups");
    assert!(server.stop().success());
}

/// The batches of one record each that a fetch brings, with their offsets, as they are told to consumers.
fn change_batches(answer: &mut Answer, mut change: impl FnMut(i64, &[u8]) -> Bytes) -> anyhow::Result<()> {
    answer.change::<FetchRequestData>(|fetched| {
        let rows = fetched
            .responses
            .iter_mut()
            .flat_map(|topic| &mut topic.partitions);
        for records in rows.filter_map(|row| row.records.as_mut()) {
            let whole = batches(records).filter_map(Result::ok);
            let changed: Vec<Bytes> = whole
                .map(|batch| change(batch.header().base_offset.get(), batch.bytes()))
                .collect();
            *records = Bytes::from(changed.concat());
        }
    })
}

#[test]
fn a_record_that_a_group_never_gets_or_gets_twice_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let server = with_swift_groups(directory.path()).start();
    let read_through = |proxy: &Proxy| {
        let load = "groups -n 50 -r 1000 -p 1 --groups 1 --members 1 --batch-records 1";
        let output = run(&proxy.address(), &format!("bench {load} --json"), b"");
        let result: Value = serde_json::from_str(&ends_with(4, &output)).unwrap();
        let found = result["verification"].clone();
        ["lost", "duplicated", "reordered", "corrupt"].map(|what| found[what].as_u64().unwrap())
    };

    let never = Proxy::start(server.kafka(), |answer| {
        change_batches(answer, |offset, batch| match offset {
            0 => Bytes::new(),
            _ => Bytes::copy_from_slice(batch),
        })
    });
    assert_eq!(read_through(&never.unwrap()), [1, 0, 0, 0]);

    let first: Arc<Mutex<Bytes>> = Arc::default();
    let twice = Proxy::start(server.kafka(), move |answer| {
        change_batches(answer, |offset, batch| {
            let mut first = first.lock().unwrap();
            if offset == 0 {
                *first = Bytes::copy_from_slice(batch);
            }
            if offset != 1 {
                return Bytes::copy_from_slice(batch);
            }
            // No checksum covers the offset.
            let mut again = first.to_vec();
            again[..BASE_OFFSET_BYTES].copy_from_slice(&offset.to_be_bytes());
            Bytes::from(again)
        })
    });
    assert_eq!(read_through(&twice.unwrap()), [1, 1, 0, 0]);
    assert!(server.stop().success());
}

#[test]
fn loads_end_with_a_result_that_adds_up() {
    let directory = tempfile::tempdir().unwrap();
    let server = Place::new(directory.path()).start();
    let at = server.kafka().to_owned();

    let closed = bench(&at, "produce -n 3000 --batch 4k -p 3 -c 2 --seed 7");
    check(&closed, 3000);
    assert_eq!(
        (&closed["produced"]["records"], &closed["verification"]["checked"]),
        (&3000.into(), &3000.into())
    );
    assert_eq!(
        (&closed["seed"], &closed["produced"]["latency"]["of"]),
        (&7.into(), &"request".into())
    );

    let mixed_up = "-s real:300 --keys skewed:100 --compression lz4 --entropy 0.3 --idempotent --linger 5ms";
    let open = bench(&at, &format!("end-to-end -n 1000 -r 4000 --fan-out 2 {mixed_up}"));
    check(&open, 1000);
    assert_eq!(
        (&open["end_to_end"]["count"], &open["verification"]["checked"]),
        (&2000.into(), &2000.into())
    );
    assert_eq!(open["produced"]["latency"]["count"], 1000);

    let fetch = bench(
        &at,
        "fetch --prefill 1m -d 200ms --warm-up 0 -p 2 --fetch 64k --cold",
    );
    check(&fetch, 1024);
    assert!(
        1024 <= fetch["fetched"]["records"].as_u64().unwrap(),
        "{}",
        fetch["fetched"]
    );

    let mixed = bench(&at, "mixed --prefill 1m -n 500 -r 2000 -p 2");
    // Those who follow the end see what is new; old records are looked at one by one.
    check(&mixed, 500);
    let idle = bench(&at, "connections -n 200 --idle-connections 20 -r 2000");
    check(&idle, 200);
    let unanswered = bench(&at, "partitions -n 200 -p 20 --acks 0 --batch-records 1");
    assert_eq!(unanswered["verification"]["lost"], 0);
    let knee = bench(
        &at,
        "produce --find-knee -d 100ms --warm-up 0 -r 200 --knee-p99 1ms -c 1",
    );
    let steps = knee["knee"]["steps"].as_array().unwrap();
    let rate = |step: &Value| step["target_records_per_s"].as_f64();
    assert_eq!(rate(&steps[0]), Some(200.0));
    let held = steps.iter().filter(|step| step["held"] == true);
    let best = held.filter_map(rate).reduce(f64::max);
    assert_eq!(knee["knee"]["records_per_s"].as_f64(), best, "{}", knee["knee"]);
    // All steps' records are read back.
    let verification = &knee["verification"];
    assert_eq!(verification["passed"], true, "{verification}");
    assert_eq!(
        verification["checked"], verification["acknowledged"],
        "{verification}"
    );

    let soak = bench(&at, "soak -n 300 -r 2000");
    check(&soak, 300);
    assert_eq!(
        (&soak["workload"], &soak["end_to_end"]["count"]),
        (&"soak".into(), &300.into())
    );
    let moments = soak["timeline"].as_array().unwrap();
    let memory = |moment: &Value| moment["broker_anonymous_bytes"].as_u64();
    assert!(
        moments.iter().filter_map(memory).any(|bytes| 0 < bytes),
        "{moments:?}"
    );

    let left = ends_with(0, &run(&at, "topic list --json", b""));
    assert_eq!(left.trim(), "[]", "a run removes its topic");
    ends_with(0, &run(&at, "topic create mine -p 1", b""));
    let given = bench(&at, "produce -n 10 --topic mine --no-verify -q");
    assert_eq!(
        (&given["verification"], &given["broker"]["topic"]),
        (&Value::Null, &"mine".into())
    );
    let table = ends_with(0, &run(&at, "bench end-to-end -n 100 --topic mine", b""));
    for word in ["end to end", "synced", "0 lost", "p99.99"] {
        assert!(table.to_lowercase().contains(word), "{word}: {table}");
    }
    let nowhere = directory.path().join("none/report.html");
    let unwritten = format!("bench produce -n 100 --topic mine --report {}", nowhere.display());
    let table = ends_with(1, &run(&at, &unwritten, b""));
    assert!(
        table.contains("0 lost"),
        "the result is shown all the same: {table}"
    );
    let left = ends_with(0, &run(&at, "topic list --json", b""));
    assert!(left.contains("mine"), "a topic that was given stays: {left}");
    ends_with(
        1,
        &run(&at, "bench produce -n 10 --topic nobodys --timeout 1s", b""),
    );
    ends_with(2, &run(&at, "bench produce --rate -1", b""));
    assert!(server.stop().success());
    ends_with(3, &run(&at, "bench produce -n 10", b""));
}
