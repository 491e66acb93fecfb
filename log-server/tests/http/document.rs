//! The examples of docs/HTTP.md, and those of the README that speak HTTP, run by a shell as they stand there, one after the other, against a fresh broker; only the address is another.
//!
//! A block of `sh` is an example; a block of `json` or `text` right behind it is its answer. A block of `websocket` is a conversation: where it
//! is held, what the client says (`>`), and what it hears (`<`), in any order between two words of its own. What differs from run to run (times,
//! sizes, ids) is compared by its type alone. A block of docs/HTTP.md that is none of these is listed, with who runs it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use log_client::group::{AutoOffsetReset, GroupConfig, GroupConsumer, GroupProtocol};
use log_server::broker::Broker;
use log_server::config::keys::BrokerConfig;
use serde_json::Value;

use crate::client::{create_topic, send};
use crate::socket::Socket;
use crate::{config, start};

const ADDRESS: &str = "API=http://localhost:8080/v1";

/// The blocks that are not run here: their kind, how they begin, the file that runs them, and where in it.
const RUN_ELSEWHERE: [(&str, &str, &str, &str); 2] = [
    (
        "js",
        "const heard = []",
        "tests/clients/console.py",
        "runs the example of a page",
    ),
    // A client with metrics of its own, which no request makes.
    (
        "json",
        "{",
        "tests/clients/client_metrics.py",
        "client_instance_id",
    ),
];

/// The group that an example shows at work: a Kafka consumer is a member of it for so long.
const GROUP_AT_WORK: &str = "shipping";

/// Values that no two runs share.
const VOLATILE: [&str; 18] = [
    "available_bytes",
    "bytes_after",
    "bytes_before",
    "cluster_id",
    "epoch",
    "expires",
    "host",
    "id",
    "meaning",
    "member_id",
    "path",
    "port",
    "size_bytes",
    "time_ms",
    "timestamp",
    "token",
    "total_bytes",
    "version",
];

#[derive(Debug)]
struct Example<'a> {
    line: usize,
    /// Of the script's block: `sh` or `websocket`.
    kind: &'a str,
    script: String,
    /// The answer's kind and text.
    answer: Option<(&'a str, String)>,
}

fn examples(page: &str) -> Vec<Example<'_>> {
    blocks(page).0
}

/// The examples of a page, and its other blocks: kind and first line.
fn blocks(page: &str) -> (Vec<Example<'_>>, Vec<(&str, String)>) {
    let mut found: Vec<Example<'_>> = Vec::new();
    let mut others = Vec::new();
    let mut lines = page.lines().enumerate().peekable();
    let mut follows_an_example = false;
    while let Some((number, line)) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            // An answer stands right behind its example.
            follows_an_example = false;
            continue;
        };
        let mut text = String::new();
        for (_, line) in lines.by_ref().take_while(|(_, line)| *line != "```") {
            text.push_str(line);
            text.push('\n');
        }
        match kind {
            "sh" | "websocket" => {
                found.push(Example {
                    line: number + 1,
                    kind,
                    script: text,
                    answer: None,
                });
                follows_an_example = kind == "sh";
            }
            "json" | "text" if follows_an_example => {
                found.last_mut().unwrap().answer = Some((kind, text));
                follows_an_example = false;
            }
            _ => {
                others.push((kind, text.lines().next().unwrap_or_default().to_owned()));
                follows_an_example = false;
            }
        }
    }
    (found, others)
}

fn run(address: SocketAddr, script: &str) -> String {
    let script = format!("set -euo pipefail\nAPI=http://{address}/v1\n{script}");
    let output = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .output()
        .expect("bash runs the examples");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// All JSON documents of a text.
fn documents(text: &str) -> Vec<Value> {
    let stream = serde_json::Deserializer::from_str(text).into_iter();
    stream
        .map(|value| value.unwrap_or_else(|error| panic!("{error}: {text}")))
        .collect()
}

fn same(name: &str, expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            expected.keys().eq(found.keys())
                && expected
                    .iter()
                    .all(|(name, value)| same(name, value, &found[name]))
        }
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len() && expected.iter().zip(found).all(|(a, b)| same(name, a, b))
        }
        _ if VOLATILE.contains(&name) => std::mem::discriminant(expected) == std::mem::discriminant(found),
        _ => expected == found,
    }
}

/// Holds a conversation as it stands.
async fn converse(address: SocketAddr, script: &str) {
    let (path, lines) = script.split_once('\n').unwrap();
    let mut socket = Socket::open(address, path.strip_prefix("GET ").unwrap()).await;
    let mut lines = lines.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(said) = line.strip_prefix("> ") {
            socket.say(said).await;
            continue;
        }
        let mut expected = vec![line];
        while let Some(line) = lines.next_if(|line| line.starts_with("< ")) {
            expected.push(line);
        }
        let mut expected: Vec<Value> = expected
            .iter()
            .flat_map(|line| documents(line.strip_prefix("< ").unwrap()))
            .collect();
        while !expected.is_empty() {
            let heard = socket.hear().await;
            let place = expected.iter().position(|expected| same("", expected, &heard));
            expected.remove(place.unwrap_or_else(|| panic!("{heard} is none of {expected:?}")));
        }
    }
    socket.close().await;
}

/// Lines with what differs from run to run taken out.
fn lasting(text: &str) -> Vec<String> {
    let line = |line: &str| match line.split_once("\"timestamp\":") {
        Some((before, behind)) => {
            let rest = behind.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}\"timestamp\":0{rest}")
        }
        None => line.to_owned(),
    };
    text.lines().map(line).collect()
}

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/HTTP.md")).unwrap()
}

/// A member of [`GROUP_AT_WORK`] that has what it reads.
async fn join(broker: &Broker) -> GroupConsumer {
    let mut settings = GroupConfig::new(&broker.kafka_address().to_string(), GROUP_AT_WORK);
    settings.group_protocol = GroupProtocol::Consumer;
    settings.auto_offset_reset = AutoOffsetReset::Earliest;
    "rdkafka".clone_into(&mut settings.consumer.client.client_id);
    let mut consumer = GroupConsumer::new(settings).unwrap();
    consumer.subscribe(["orders"]).unwrap();
    consumer.next().await.unwrap();
    consumer
}

/// The page goes on as if it had never been there.
async fn leave(broker: &Broker, member: GroupConsumer) {
    member.close().await.unwrap();
    let path = format!("/v1/groups/{GROUP_AT_WORK}");
    assert_eq!(
        send(broker.http_address(), "DELETE", &path, &[], b"")
            .await
            .status,
        204
    );
}

/// A block that is neither an example nor the answer behind one would be a promise that nobody keeps.
#[test]
fn every_block_of_the_page_is_run() {
    let page = page();
    let (_, others) = blocks(&page);
    let others: Vec<_> = others
        .iter()
        .map(|(kind, begins)| (*kind, begins.as_str()))
        .collect();
    let listed: Vec<_> = RUN_ELSEWHERE
        .iter()
        .map(|(kind, begins, ..)| (*kind, *begins))
        .collect();
    assert_eq!(others, listed);
    for (_, _, file, place) in RUN_ELSEWHERE {
        let text = std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(text.contains(place), "{file} has no {place:?}");
    }
    for line in page.lines().filter(|line| line.contains("```")) {
        assert!(line.starts_with("```"), "a block within a line is none: {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_page_are_true() {
    let page = page();
    let directory = tempfile::tempdir().unwrap();
    let broker = start(BrokerConfig {
        http_listen: "localhost:0".to_owned(),
        ..config(directory.path())
    })
    .await;
    let examples = examples(&page);
    assert_eq!(examples[0].script.trim(), ADDRESS);
    assert!(15 < examples.len(), "the page has lost its examples");
    for example in &examples[1..] {
        if example.kind == "websocket" {
            converse(broker.http_address(), &example.script).await;
            continue;
        }
        let (address, script) = (broker.http_address(), example.script.clone());
        let member = if script.contains(&format!("/groups/{GROUP_AT_WORK}")) {
            Some(join(&broker).await)
        } else {
            None
        };
        let found = tokio::task::spawn_blocking(move || run(address, &script))
            .await
            .unwrap();
        if let Some(member) = member {
            leave(&broker, member).await;
        }
        let place = format!("docs/HTTP.md:{}\n{}\n{found}", example.line, example.script);
        match &example.answer {
            None => assert!(!found.contains("urn:stratalog:problem"), "{place}"),
            Some(("json", expected)) => {
                let (expected, found) = (documents(expected), documents(&found));
                assert!(same("", &expected.clone().into(), &found.into()), "{place}");
            }
            Some((_, expected)) => assert_eq!(lasting(expected), lasting(&found), "{place}"),
        }
    }
    broker.stop().await;
}

/// A line that follows has no end: it must say something, and is ended then.
fn run_follower(address: SocketAddr, line: &str, write: &str) {
    let script = format!("API=http://{address}/v1\nexec {line}");
    let mut follower = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash runs the examples");
    let output = BufReader::new(follower.stdout.take().unwrap());
    let said = std::thread::spawn(move || output.lines().any(|line| line.unwrap().starts_with("data: ")));
    // It follows from the moment on at which the broker heard of it.
    while !said.is_finished() {
        run(address, write);
    }
    assert!(said.join().unwrap(), "{line} said nothing");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_of_the_readme_do_what_they_say() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let broker = start(config(directory.path())).await;
    let address = broker.http_address();
    create_topic(address, "greetings", 1).await;
    let events = directory.path().join("events.ndjson");
    std::fs::write(&events, "{\"value\": 1}\n{\"value\": 2}\n").unwrap();
    let examples = examples(&page);
    let script = &examples
        .iter()
        .find(|example| example.script.starts_with("API="))
        .unwrap()
        .script;
    assert!(script.starts_with("API=http://127.0.0.1:8080/v1\n"));
    let lines: Vec<String> = script.lines().skip(1).map(str::to_owned).collect();
    assert_eq!(lines.len(), 5, "the README has other lines now");
    let at_home = format!("cd {}", directory.path().display());
    let answers = tokio::task::spawn_blocking(move || {
        let mut answers = Vec::new();
        for line in &lines {
            if line.starts_with("curl -N ") {
                run_follower(address, line, lines.first().unwrap());
            } else {
                answers.push(run(address, &format!("{at_home}\n{line}")));
            }
        }
        answers
    })
    .await
    .unwrap();
    let documents: Vec<Value> = answers.iter().flat_map(|answer| documents(answer)).collect();
    assert_eq!(documents[0]["records"][0]["partition"], 0);
    assert_eq!(
        documents[1]["records"][0]["value_json"],
        serde_json::json!({"hello": "world"})
    );
    assert_eq!(documents[2]["records"][0]["key"], "ada");
    assert_eq!(
        (&documents[3]["done"], &documents[3]["records"]),
        (&Value::from(true), &Value::from(2))
    );
    broker.stop().await;
}

#[test]
fn an_answer_is_compared_by_what_lasts() {
    let check = |expected: &str, found: &str| same("", &documents(expected).into(), &documents(found).into());
    assert!(check(r#"{"id": "a", "n": [1]}"#, r#"{"n": [1], "id": "b"}"#));
    assert!(!check(r#"{"id": "a"}"#, r#"{"id": 1}"#));
    assert!(!check(r#"{"n": 1}"#, r#"{"n": 2}"#));
    assert!(!check(r#"{"n": 1}"#, r#"{"n": 1, "m": 1}"#));
    assert!(!check("{} {}", "{}"));
    assert_eq!(lasting("x\"timestamp\":12,\n"), ["x\"timestamp\":0,"]);
    let (found, others) = blocks("```sh\na\n```\n```json\n1\n```\n\n```sh\nb\n```\ntext\n```json\n2\n```\n");
    assert_eq!(found.len(), 2);
    assert_eq!(others, [("json", "2".to_owned())]);
    assert_eq!(found[0].answer, Some(("json", "1\n".to_owned())));
    assert_eq!(found[1].answer, None);
}
