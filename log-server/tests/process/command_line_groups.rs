//! The commands for groups against a broker of ours: what they print, what they refuse, and what members share.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command_line::{ends_with, run};
use crate::server::{Place, Server};

const PARTITIONS: usize = 4;

/// How long a group may take to settle on a busy machine.
const SETTLED_MAX: Duration = Duration::from_mins(2);

fn json(output: &Output) -> Value {
    serde_json::from_str(&ends_with(0, output)).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server with a topic of so many partitions and ten records in each.
fn server(directory: &Path) -> Server {
    let server = Place::new(directory).start();
    let create = format!("topic create orders -p {PARTITIONS}");
    ends_with(0, &run(server.kafka(), &create, b""));
    for partition in 0..PARTITIONS {
        let lines: Vec<String> = (0..10).map(|line| format!("{partition}:{line}\n")).collect();
        let lines = lines.concat();
        let produce = format!("produce orders -q --partition {partition}");
        ends_with(0, &run(server.kafka(), &produce, lines.as_bytes()));
    }
    server
}

/// The committed offsets by partition, as `group describe` tells them.
fn committed(at: &str, group: &str) -> Vec<i64> {
    let described = json(&run(at, &format!("group describe {group} --json"), b""));
    let partitions = described[0]["partitions"].as_array().unwrap();
    let mut offsets = vec![0; PARTITIONS];
    for row in partitions {
        let partition = usize::try_from(row["partition"].as_u64().unwrap()).unwrap();
        offsets[partition] = row["committed_offset"].as_i64().unwrap_or_default();
    }
    offsets
}

/// A `consume --group` that runs until it is told to stop.
struct Member {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Member {
    fn start(at: &str, arguments: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stratalog"))
            .args(arguments.split(' '))
            .env("STRATALOG_BOOTSTRAP", at)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Presses Ctrl-C.
    fn interrupt(mut self) -> ExitStatus {
        let id = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Already ended where it was interrupted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_group_is_shown_set_back_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(directory.path());
    let at = server.kafka();

    let refused = run(at, "group describe nobody", b"");
    ends_with(1, &refused);
    assert!(errors(&refused).contains("hint:"), "{}", errors(&refused));
    let shown = ends_with(0, &run(at, "consume orders --group g --count 13", b""));
    assert_eq!(shown.lines().count(), 13);
    let listed = json(&run(at, "group list --json --state empty", b""));
    assert_eq!(
        (&listed[0]["group"], &listed[0]["members"]),
        (&"g".into(), &0.into())
    );
    assert_eq!(
        json(&run(at, "group list --json --state stable", b"")),
        Value::Array(Vec::new())
    );
    assert_eq!(
        committed(at, "g").iter().sum::<i64>(),
        13,
        "no more is committed than was shown"
    );

    let before = committed(at, "g");
    let planned = run(at, "group reset-offsets g --topic orders --to-latest", b"");
    assert!(ends_with(0, &planned).contains("NEW"), "the plan is a table");
    assert!(errors(&planned).contains("--execute"), "{}", errors(&planned));
    assert_eq!(committed(at, "g"), before, "a plan changes nothing");

    let plan = run(
        at,
        "group reset-offsets g --topic orders:0,2 --to-offset 99 --export",
        b"",
    );
    assert_eq!(ends_with(0, &plan), "orders,0,10\norders,2,10\n");
    let execute = "group reset-offsets g --from-file - --execute --json";
    let done = json(&run(
        at,
        execute,
        b"orders,0,3\norders,1,0\norders,2,10\norders,3,10\n",
    ));
    assert_eq!(done["executed"], true);
    assert_eq!(committed(at, "g"), [3, 0, 10, 10]);
    ends_with(
        0,
        &run(
            at,
            "group reset-offsets g --all-topics --shift-by -2 --execute",
            b"",
        ),
    );
    assert_eq!(committed(at, "g"), [1, 0, 8, 8]);
    let described = json(&run(at, "group describe g --json", b""));
    assert_eq!(described[0]["lag"], 23);
    assert!(described[0]["partitions"][0]["lag_ms"].as_i64().is_some());
    let text = ends_with(0, &run(at, "group describe g", b""));
    assert!(text.contains("23 records in 4 of 4 partitions"), "{text}");
    ends_with(
        1,
        &run(at, "group reset-offsets g --topic orders:9 --to-latest", b""),
    );
    ends_with(2, &run(at, "group reset-offsets g --topic orders", b""));

    let mut member = Member::start(at, "consume orders --group g --no-commit");
    member.line();
    for arguments in [
        "group reset-offsets g --topic orders --to-latest --execute",
        "group delete g --yes",
    ] {
        let refused = run(at, arguments, b"");
        ends_with(1, &refused);
        assert!(
            errors(&refused).contains("stratalog-cli at 127.0.0.1"),
            "{}",
            errors(&refused)
        );
    }
    assert_eq!(member.interrupt().code(), Some(0));
    assert_eq!(committed(at, "g"), [1, 0, 8, 8], "nothing was committed");
    ends_with(2, &run(at, "group delete g", b""));
    ends_with(0, &run(at, "group delete g --yes", b""));
    ends_with(1, &run(at, "group delete g --yes", b""));
    ends_with(0, &run(at, "group delete g --yes --if-exists", b""));
    assert_eq!(json(&run(at, "group list --json", b"")), Value::Array(Vec::new()));
}

/// Waits until each of two members reads half of the topic.
fn wait_until_shared(at: &str, group: &str, protocol: &str) {
    let began = Instant::now();
    loop {
        let described = json(&run(at, &format!("group describe {group} --json"), b""));
        let members = described[0]["members"].as_array().unwrap();
        let shares: Vec<_> = members
            .iter()
            .map(|member| member["assignment"]["orders"].as_array().map_or(0, Vec::len))
            .collect();
        if described[0]["state"] == "Stable" && shares == [PARTITIONS / 2; 2] {
            assert_eq!(described[0]["type"], protocol);
            return;
        }
        assert!(began.elapsed() < SETTLED_MAX, "{described}");
    }
}

#[test]
fn members_of_a_group_share_a_topic() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(directory.path());
    let at = server.kafka();
    for protocol in ["consumer", "classic"] {
        let group = format!("of-{protocol}");
        // Each partition goes on from an offset that is known, whoever reads it and when.
        let latest = format!("group reset-offsets {group} --topic orders --to-latest --execute");
        ends_with(0, &run(at, &latest, b""));
        let consume = format!("consume orders --group {group} --protocol {protocol}");
        let mut one = Member::start(at, &consume);
        let mut other = Member::start(at, &consume);
        wait_until_shared(at, &group, protocol);
        for partition in 0..PARTITIONS {
            let produce = format!("produce orders -q --partition {partition}");
            ends_with(0, &run(at, &produce, format!("{partition}\n").as_bytes()));
        }
        let of = |member: &mut Member| -> BTreeSet<String> {
            (0..PARTITIONS / 2).map(|_| member.line()).collect()
        };
        let (first, second) = (of(&mut one), of(&mut other));
        assert!(first.is_disjoint(&second), "{first:?} {second:?}");
        let all: BTreeSet<_> = first.union(&second).cloned().collect();
        let expected: BTreeSet<_> = (0..PARTITIONS).map(|partition| partition.to_string()).collect();
        assert_eq!(all, expected);
        assert!(one.interrupt().success() && other.interrupt().success());
        let described = json(&run(at, &format!("group describe {group} --json"), b""));
        assert_eq!(
            (&described[0]["state"], &described[0]["lag"]),
            (&"Empty".into(), &0.into()),
            "what was shown is committed, and the members have left"
        );
    }
}
