//! `produce` against a broker of ours: what it refuses, what it tells, and how it ends when somebody ends it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::command_line::{ends_with, run};
use crate::server::Place;

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_failure_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let server = Place::new(directory.path()).start();
    let at = server.kafka();
    ends_with(
        0,
        &run(at, "topic create small -p 1 -c max.message.bytes=200", b""),
    );
    // The first is refused by the broker, and while that is not known yet the second one ends the command.
    let input = format!("{{\"long\":\"{}\"}}\n{{\n", "x".repeat(300));
    let failed = run(at, "produce small --input json --linger 1s", input.as_bytes());
    ends_with(1, &failed);
    let told = errors(&failed);
    assert_eq!(told.matches("error:").count(), 2, "{told}");
    assert!(
        told.contains("input:1: ") && told.contains("input:2: not JSON"),
        "{told}"
    );
    assert!(told.contains("2 records failed"), "{told}");
}

#[test]
fn what_is_not_there_is_no_tombstone() {
    let directory = tempfile::tempdir().unwrap();
    let server = Place::new(directory.path()).start();
    let at = server.kafka();
    let input = b"{\"value\":\"a\"}\n{\"Value\":\"b\"}\n";
    let refused = run(at, "produce t --value-pointer /value", input);
    ends_with(1, &refused);
    assert!(
        errors(&refused).contains("input:2: no value at /value"),
        "{}",
        errors(&refused)
    );
    let meant = run(at, "produce t --value-pointer /value --missing-as-null", input);
    ends_with(0, &meant);
    let consumed = ends_with(0, &run(at, "consume t --null (null)", b""));
    assert_eq!(consumed, "a\na\n(null)\n");
}

#[test]
fn records_go_through_consume_and_produce_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let server = Place::new(directory.path()).start();
    let at = server.kafka();
    for topic in ["one", "two"] {
        ends_with(0, &run(at, &format!("topic create {topic} -p 3"), b""));
    }
    let input = concat!(
        r#"{"value":null,"key":"k","partition":2,"timestamp":-1,"headers":[{"key":"h","value":null}]}"#,
        "\n",
        r#"{"value_base64":"/wA=","key":null,"partition":0,"timestamp":5,"headers":[]}"#,
        "\n",
    );
    ends_with(0, &run(at, "produce one --input records", input.as_bytes()));
    let once = ends_with(0, &run(at, "consume one --json", b""));
    ends_with(0, &run(at, "produce two --input records", once.as_bytes()));
    let twice = ends_with(0, &run(at, "consume two --json", b""));
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text
            .replace("\"two\"", "\"one\"")
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&once), sorted(&twice));
    assert!(
        once.contains("\"timestamp\":-1") && once.contains("\"partition\":2"),
        "{once}"
    );
}

#[test]
fn ctrl_c_delivers_what_was_read_and_says_how_far_it_came() {
    let directory = tempfile::tempdir().unwrap();
    let server = Place::new(directory.path()).start();
    let at = server.kafka();
    ends_with(0, &run(at, "topic create typed -p 1", b""));
    let spawn = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_stratalog"))
            .args(arguments)
            .env("STRATALOG_BOOTSTRAP", at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut producing = spawn(&["produce", "typed", "--json"]);
    let mut typed = producing.stdin.take().unwrap();
    typed.write_all(b"one\ntwo\nhalf a li").unwrap();
    // It waits for the rest of the line when both others are there.
    let mut following = spawn(&["consume", "typed", "--follow", "--from-beginning", "--count", "2"]);
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    assert!(following.wait().unwrap().success());

    let id = i32::try_from(producing.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(producing.wait().unwrap().code(), Some(130));
    let (mut results, mut told) = (String::new(), String::new());
    producing.stdout.unwrap().read_to_string(&mut results).unwrap();
    producing.stderr.unwrap().read_to_string(&mut told).unwrap();
    let results: Value = serde_json::from_str(&results).unwrap();
    assert_eq!((&results["records"], &results["failed"]), (&2.into(), &0.into()));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["error"], "interrupted behind standard input:2");
    drop(typed);
}

#[test]
fn errors_are_json_for_programs() {
    for (code, arguments) in [
        (2, "produce --json"),
        (2, "topic list --json --nonsense"),
        (2, "consume t --json --template %v"),
        (3, "topic list --json"),
    ] {
        let output = run("127.0.0.1:1", arguments, b"");
        ends_with(code, &output);
        let document: Value = serde_json::from_str(&errors(&output)).unwrap();
        assert_eq!(document["exit_code"], code, "{document}");
        assert!(document["error"].is_string(), "{document}");
    }
}
