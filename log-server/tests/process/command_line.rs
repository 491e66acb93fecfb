//! The commands against a broker of ours and against its files: what they print, and how they end.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::server::Place;

/// Runs `stratalog` with these arguments, separated by blanks, and this standard input.
pub(crate) fn run(bootstrap: &str, arguments: &str, input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_stratalog"))
        .args(arguments.split(' '))
        .env("STRATALOG_BOOTSTRAP", bootstrap)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone already.
    child.stdin.take().unwrap().write_all(input).ok();
    child.wait_with_output().unwrap()
}

/// Its standard output, when it ended with this code.
pub(crate) fn ends_with(code: i32, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}\n{errors}");
    text
}

fn first_log(partition: &Path) -> PathBuf {
    partition.join("00000000000000000000.log")
}

#[test]
fn topics_records_and_files_through_the_commands() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    let server = place.start();
    let at = server.kafka().to_owned();

    ends_with(0, &run(&at, "topic create lines -p 1", b""));
    ends_with(1, &run(&at, "topic create lines", b""));
    ends_with(0, &run(&at, "topic create lines --if-not-exists", b""));
    let input = b"one\n\ntwo \xff\r\nlast, without a line feed";
    ends_with(0, &run(&at, "produce lines", input));
    let listed = ends_with(0, &run(&at, "topic list --long --json", b""));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["records"]),
        (&"lines".into(), &4.into())
    );
    let consumed = run(&at, "consume lines --from-beginning", b"");
    ends_with(0, &consumed);
    assert_eq!(consumed.stdout, [&input[..], b"\n"].concat());
    let described = ends_with(0, &run(&at, "topic describe lines", b""));
    assert!(described.contains("the record is on the disk"), "{described}");
    ends_with(2, &run(&at, "topic delete lines", b""));

    let data = directory.path().join("data");
    let verify = format!("log verify {}", data.display());
    ends_with(1, &run(&at, &verify, b""));
    assert!(server.stop().success());
    let report = ends_with(0, &run(&at, &format!("{verify} --json --records"), b""));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&report["sound"], &report["last_stop"]),
        (&true.into(), &"clean".into())
    );
    let dump = format!("log dump {} --records --json", data.join("lines-0").display());
    let dumped = ends_with(0, &run(&at, &dump, b""));
    assert!(dumped.contains("\"value_base64\":\"dHdvIP8N\""), "{dumped}");
    ends_with(3, &run(&at, "topic list", b""));

    let log = first_log(&data.join("lines-0"));
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let report = ends_with(4, &run(&at, &verify, b""));
    assert!(
        report.contains("lines-0/00000000000000000000.log at 0"),
        "{report}"
    );
    ends_with(4, &run(&at, &dump, b""));
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let server = Place::new(directory.path()).start();
    let lines = "a line that is repeated\n".repeat(100_000);
    ends_with(0, &run(server.kafka(), "produce many -q", lines.as_bytes()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_stratalog"))
        .args(["consume", "many", "-q", "-b", server.kafka()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_compacted_topic_is_compacted_now() {
    let directory = tempfile::tempdir().unwrap();
    let server = Place::new(directory.path()).start();
    let at = server.kafka();
    let compact = |topic: &str| {
        run(
            at,
            &format!("topic compact {topic} --http {}", server.http()),
            b"",
        )
    };
    ends_with(0, &run(at, "topic create prices -p 1", b""));
    let refused = compact("prices");
    ends_with(1, &refused);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        errors.contains("topic alter prices --set cleanup.policy=compact"),
        "{errors}"
    );
    ends_with(
        0,
        &run(at, "topic alter prices --set cleanup.policy=compact", b""),
    );
    let lines = b"tea=1\ntea=2\ntea=3\n";
    ends_with(0, &run(at, "produce prices -q --key-separator =", lines));
    let done = compact("prices --json");
    let report: Value = serde_json::from_str(&ends_with(0, &done)).unwrap();
    let compacted = &report["partitions"][0]["compacted"];
    assert_eq!(
        (&compacted["to_offset"], &compacted["records_after"]),
        (&3.into(), &1.into())
    );
    let text = ends_with(0, &compact("prices"));
    assert!(text.contains("nothing to compact"), "{text}");
    let left = run(at, "consume prices --from-beginning", b"");
    assert_eq!(ends_with(0, &left), "3\n");
    ends_with(1, &compact("nothing"));
    // Somebody is there, and speaks another language; nobody is there.
    ends_with(
        1,
        &run(at, &format!("topic compact prices --http {at} --timeout 5s"), b""),
    );
    drop(server);
}
