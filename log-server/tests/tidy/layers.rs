//! Who may use whom: crates, and the modules inside them.
//!
//! Each table stands from the bottom to the top, and a row may only name rows above it, so there is no cycle. A
//! new arrow is a new word in a table, which makes it a decision that a reviewer sees.

use toml::Table;

use crate::files::is_of_tests;
use crate::source::{Reference, code_of, module_of, references, without_tests};
use crate::tree::Tree;

/// A module, or a part of one that the table names apart, and what its code may name besides itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// Its path in the crate.
    pub(crate) unit: &'static str,
    /// Units of the same crate, and `crate::module` of others.
    pub(crate) uses: &'static [&'static str],
}

/// A crate whose modules are layered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers {
    /// Its folder.
    pub(crate) folder: &'static str,
    /// Its modules, the lowest first. The root file is free: it lists them.
    pub(crate) rows: &'static [Row],
}

const fn row(unit: &'static str, uses: &'static [&'static str]) -> Row {
    Row { unit, uses }
}

/// The crates of this repository as code names them.
const CRATES: [&str; 4] = ["log_core", "log_client", "log_server", "log_bench"];

pub(crate) const LOG_CORE: Layers = Layers {
    folder: "log-core",
    rows: &[
        row("model", &[]),
        row("clock", &["model"]),
        // The codecs by name, without the batches that they are for: settings name them too.
        row("record::compression", &[]),
        row("config", &["record::compression"]),
        row("fs", &[]),
        row("envelope", &[]),
        row("partitioner", &[]),
        // The wire's codec; storage does not know it, and it does not know storage.
        row("protocol", &["model"]),
        row("record", &["config", "model", "record::compression"]),
        row("index", &["model"]),
        row("leader_epoch", &["model"]),
        row("checkpoint", &["leader_epoch", "model"]),
        row("producer_state", &["model", "record"]),
        row("segment", &["clock", "fs", "index", "model", "record"]),
        row(
            "cleaner",
            &[
                "config",
                "fs",
                "index",
                "model",
                "producer_state",
                "record",
                "record::compression",
                "segment",
            ],
        ),
        row(
            "log",
            &[
                "checkpoint",
                "cleaner",
                "clock",
                "config",
                "fs",
                "index",
                "leader_epoch",
                "model",
                "producer_state",
                "record",
                "segment",
            ],
        ),
        row("log_manager", &["checkpoint", "config", "fs", "log", "model"]),
    ],
};

pub(crate) const LOG_CLIENT: Layers = Layers {
    folder: "log-client",
    rows: &[
        row("error", &["log_core::model", "log_core::protocol"]),
        row("retry", &["error", "log_core::protocol"]),
        row(
            "config",
            &["error", "retry", "log_core::model", "log_core::record"],
        ),
        row("api_versions", &["error", "log_core::protocol"]),
        row(
            "connection",
            &["api_versions", "config", "error", "log_core::protocol"],
        ),
        row("metadata", &["error", "log_core::model", "log_core::protocol"]),
        row(
            "cluster",
            &[
                "config",
                "connection",
                "error",
                "metadata",
                "retry",
                "log_core::model",
                "log_core::protocol",
            ],
        ),
        row(
            "by_leader",
            &[
                "cluster",
                "error",
                "metadata",
                "log_core::model",
                "log_core::protocol",
            ],
        ),
        row(
            "offsets",
            &[
                "by_leader",
                "cluster",
                "config",
                "error",
                "metadata",
                "log_core::model",
                "log_core::protocol",
            ],
        ),
        // What classic consumers tell each other; not `consumer`, the partition consumer.
        row(
            "consumer_protocol",
            &["by_leader", "log_core::model", "log_core::protocol"],
        ),
        row(
            "coordinator",
            &[
                "by_leader",
                "cluster",
                "connection",
                "error",
                "metadata",
                "retry",
                "log_core::model",
                "log_core::protocol",
            ],
        ),
        row(
            "admin",
            &[
                "by_leader",
                "cluster",
                "config",
                "consumer_protocol",
                "coordinator",
                "error",
                "metadata",
                "offsets",
                "retry",
                "log_core::model",
                "log_core::protocol",
            ],
        ),
        row(
            "producer",
            &[
                "cluster",
                "config",
                "connection",
                "coordinator",
                "error",
                "metadata",
                "retry",
                "log_core::model",
                "log_core::partitioner",
                "log_core::protocol",
                "log_core::record",
            ],
        ),
        row(
            "consumer",
            &[
                "cluster",
                "config",
                "error",
                "metadata",
                "offsets",
                "log_core::model",
                "log_core::protocol",
                "log_core::record",
            ],
        ),
        row(
            "group",
            &[
                "admin",
                "cluster",
                "config",
                "consumer",
                "consumer_protocol",
                "coordinator",
                "error",
                "offsets",
                "log_core::model",
                "log_core::protocol",
            ],
        ),
        row(
            "exactly_once",
            &[
                "config",
                "consumer",
                "coordinator",
                "error",
                "group",
                "producer",
                "log_core::model",
            ],
        ),
    ],
};

pub(crate) const LOG_SERVER: Layers = Layers {
    folder: "log-server",
    rows: &[
        row("shutdown", &[]),
        row("system", &["log_core::clock", "log_core::model"]),
        row("logging", &[]),
        // Whoever counts names it; it names nobody.
        row("metrics", &[]),
        // Requests as spans: the fronts tell it of theirs.
        row("protobuf", &[]),
        row("spans", &["metrics", "protobuf", "shutdown"]),
        row("time", &["log_core::model"]),
        // Patterns of clients and administrators.
        row("pattern", &[]),
        row(
            "config",
            &["logging", "pattern", "log_core::config", "log_core::record"],
        ),
        row(
            "partition",
            &[
                "metrics",
                "log_core::cleaner",
                "log_core::clock",
                "log_core::config",
                "log_core::fs",
                "log_core::index",
                "log_core::log",
                "log_core::log_manager",
                "log_core::model",
                "log_core::producer_state",
                "log_core::record",
                "log_core::segment",
            ],
        ),
        row(
            "metadata",
            &[
                "config",
                "log_core::clock",
                "log_core::config",
                "log_core::envelope",
                "log_core::fs",
                "log_core::log",
                "log_core::log_manager",
                "log_core::model",
                "log_core::record",
                "log_core::segment",
            ],
        ),
        // What clients push of their own metrics; subscriptions to them are metadata.
        row(
            "telemetry",
            &[
                "config",
                "metadata",
                "metrics",
                "protobuf",
                "log_core::clock",
                "log_core::model",
                "log_core::record",
            ],
        ),
        // Joins the two: what the metadata commands, the partitions do.
        row(
            "partition_directory",
            &[
                "config",
                "metadata",
                "partition",
                "log_core::clock",
                "log_core::config",
                "log_core::fs",
                "log_core::log",
                "log_core::log_manager",
                "log_core::model",
            ],
        ),
        // State machines over a log: they know partitions and topics, and no front.
        row(
            "coordinator",
            &[
                "config",
                "metadata",
                "partition",
                "pattern",
                "log_core::clock",
                "log_core::config",
                "log_core::log",
                "log_core::model",
                "log_core::producer_state",
                "log_core::record",
                "log_core::segment",
            ],
        ),
        row("ready_file", &[]),
        row("banner", &["logging"]),
        // Files for browsers; they know the API by its addresses alone.
        row("entity_tag", &[]),
        row("console", &["entity_tag"]),
        row(
            "http",
            &[
                "config",
                "console",
                "coordinator",
                "entity_tag",
                "metadata",
                "metrics",
                "partition",
                "shutdown",
                "spans",
                "telemetry",
                "time",
                "log_core::clock",
                "log_core::config",
                "log_core::index",
                "log_core::log",
                "log_core::model",
                "log_core::partitioner",
                "log_core::producer_state",
                "log_core::record",
            ],
        ),
        row(
            "monitor",
            &[
                "coordinator",
                "http",
                "metrics",
                "partition",
                "shutdown",
                "system",
                "telemetry",
                "log_core::fs",
                "log_core::model",
            ],
        ),
        row(
            "kafka",
            &[
                "config",
                "coordinator",
                "metadata",
                "metrics",
                "partition",
                "shutdown",
                "spans",
                "telemetry",
                "log_core::clock",
                "log_core::model",
                "log_core::producer_state",
                "log_core::protocol",
                "log_core::record",
            ],
        ),
        row(
            "kafka::connection",
            &["kafka", "metrics", "shutdown", "log_core::protocol"],
        ),
        row(
            "kafka::request_guard",
            &["kafka", "kafka::connection", "log_core::protocol"],
        ),
        row(
            "kafka::handlers",
            &[
                "config",
                "coordinator",
                "kafka",
                "kafka::connection",
                "metadata",
                "partition",
                "pattern",
                "telemetry",
                "log_core::log",
                "log_core::model",
                "log_core::producer_state",
                "log_core::protocol",
                "log_core::record",
                "log_core::segment",
            ],
        ),
        row(
            "kafka::dispatch",
            &[
                "kafka",
                "kafka::connection",
                "kafka::handlers",
                "kafka::request_guard",
                "log_core::protocol",
            ],
        ),
        row(
            "kafka::traced",
            &[
                "kafka",
                "kafka::connection",
                "kafka::request_guard",
                "spans",
                "log_core::protocol",
            ],
        ),
        row(
            "kafka::listener",
            &[
                "config",
                "kafka",
                "kafka::connection",
                "kafka::dispatch",
                "kafka::traced",
                "metrics",
                "shutdown",
                "spans",
            ],
        ),
        row("ports", &["config", "http", "kafka", "kafka::listener"]),
        row(
            "data_directories",
            &[
                "metadata",
                "partition",
                "system",
                "log_core::clock",
                "log_core::fs",
                "log_core::log",
                "log_core::log_manager",
            ],
        ),
        // The wiring: it may name everything, and only the command that starts a broker names it.
        row(
            "broker",
            &[
                "banner",
                "config",
                "coordinator",
                "data_directories",
                "http",
                "kafka",
                "metadata",
                "metrics",
                "monitor",
                "partition",
                "partition_directory",
                "ports",
                "ready_file",
                "shutdown",
                "spans",
                "system",
                "log_core::fs",
                "log_core::log_manager",
            ],
        ),
        // What reads a broker's files without the broker has no use for its running parts.
        row("offline", &["metadata", "log_core"]),
        // The client is the command line's alone: a broker asks nobody.
        row(
            "cli",
            &[
                "broker",
                "config",
                "logging",
                "metadata",
                "offline",
                "time",
                "log_bench",
                "log_client",
                "log_core",
            ],
        ),
    ],
};

/// What breaks the table of a crate.
pub(crate) fn check_modules(tree: &Tree, layers: &Layers) -> Vec<String> {
    let mut problems = check_table(layers.rows);
    let src = format!("{}/src/", layers.folder);
    let mut seen: Vec<&str> = Vec::new();
    // Tests may name what they like: a broker of theirs stands above everything.
    for (path, text) in tree.sources().filter(|(path, _)| !is_of_tests(path)) {
        let Some(inside) = path.strip_prefix(&src) else {
            continue;
        };
        let module = module_of(inside);
        if module.is_empty() {
            continue;
        }
        let Some(unit) = unit_of(layers.rows, &module) else {
            problems.push(format!("{path}: the module has no row in the table"));
            continue;
        };
        seen.push(unit.unit);
        for reference in references(&module, without_tests(&code_of(text))) {
            if let Some(problem) = check_reference(layers.rows, unit, &reference) {
                problems.push(format!("{path}:{}: {problem}", reference.line));
            }
        }
    }
    for row in layers.rows {
        if !seen.contains(&row.unit) {
            problems.push(format!(
                "{}: no file belongs to the row {}",
                layers.folder, row.unit
            ));
        }
    }
    problems
}

fn check_table(rows: &[Row]) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let below = rows.get(..index).unwrap_or_default();
        for used in row.uses {
            let is_foreign = CRATES.iter().any(|name| used.split("::").next() == Some(name));
            if !is_foreign && !below.iter().any(|below| below.unit == *used) {
                problems.push(format!(
                    "the row {} names {used}, which does not stand above it",
                    row.unit
                ));
            }
        }
    }
    problems
}

/// The row with the longest path that holds the module.
fn unit_of<'a>(rows: &'a [Row], module: &[String]) -> Option<&'a Row> {
    let path = module.join("::");
    let holds = |row: &&Row| path == row.unit || path.starts_with(&format!("{}::", row.unit));
    rows.iter().filter(holds).max_by_key(|row| row.unit.len())
}

fn check_reference(rows: &[Row], unit: &Row, reference: &Reference) -> Option<String> {
    let (head, rest) = reference.path.split_first()?;
    let used = if head == "crate" {
        if rest.is_empty() {
            return None;
        }
        match unit_of(rows, rest) {
            Some(row) => row.unit.to_owned(),
            None => return Some(format!("crate::{} is not a module of the table", rest.join("::"))),
        }
    } else if CRATES.contains(&head.as_str()) {
        format!("{head}::{}", rest.first()?)
    } else {
        return None;
    };
    let is_allowed =
        used == unit.unit || unit.uses.contains(&used.as_str()) || unit.uses.contains(&head.as_str());
    (!is_allowed).then(|| format!("{} may not use {used}", unit.unit))
}

/// Which packages of this repository a package may depend on.
const DIRECTION: [(&str, &[&str]); 4] = [
    ("log-core", &[]),
    ("log-client", &["log-core"]),
    // The command line has the load harness; the harness has log-server for its micro benchmarks alone, as a dev-dependency.
    ("log-server", &["log-bench", "log-client", "log-core"]),
    ("benches", &["log-client", "log-core", "log-server"]),
];

/// What a synchronous and deterministic crate has no use for.
const NOT_IN_LOG_CORE: [&str; 8] = [
    "axum",
    "fastrand",
    "futures-util",
    "serde",
    "socket2",
    "tokio",
    "tracing",
    "tracing-subscriber",
];

/// What breaks the direction of the packages.
pub(crate) fn check_packages(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let members = parse(tree, "Cargo.toml", &mut problems);
    let members = members
        .get("workspace")
        .and_then(|workspace| workspace.get("members")?.as_array());
    for member in members.into_iter().flatten().filter_map(|member| member.as_str()) {
        let manifest = format!("{member}/Cargo.toml");
        let Some((_, allowed)) = DIRECTION.iter().find(|(name, _)| *name == member) else {
            problems.push(format!("{manifest}: the package has no row in the table"));
            continue;
        };
        let table = parse(tree, &manifest, &mut problems);
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = table.get(kind).and_then(|table| table.as_table());
            for name in names.into_iter().flat_map(Table::keys) {
                if name.starts_with("log-") && !allowed.contains(&name.as_str()) {
                    problems.push(format!("{manifest}: {member} may not depend on {name}"));
                }
                let is_stranger = NOT_IN_LOG_CORE.contains(&name.as_str());
                if member == "log-core" && kind != "dev-dependencies" && is_stranger {
                    problems.push(format!(
                        "{manifest}: {name} has no place in a synchronous, deterministic crate"
                    ));
                }
            }
        }
    }
    problems
}

fn parse(tree: &Tree, path: &str, problems: &mut Vec<String>) -> Table {
    let text = tree.text(path).unwrap_or_default();
    text.parse().unwrap_or_else(|error| {
        problems.push(format!("{path}: {error}"));
        Table::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Layers = Layers {
        folder: "a",
        rows: &[
            row("low", &[]),
            row("high", &["low", "log_core::fs"]),
            row("high::inner", &["high", "log_client"]),
        ],
    };

    fn check(file: &str, code: &str, expected: &[&str]) {
        let planted = Tree::planted(&[
            ("a/src/lib.rs", "use crate::anything::at::all;"),
            ("a/src/low.rs", ""),
            ("a/src/high/mod.rs", ""),
            ("a/src/high/inner.rs", ""),
            (file, code),
        ]);
        // The planted file takes the place of an empty one of the same name.
        assert_eq!(check_modules(&planted, &SMALL), expected, "{file}: {code}");
    }

    #[test]
    fn arrows_downwards_pass() {
        check(
            "a/src/high/mod.rs",
            "use crate::low::X;\nuse log_core::fs::Y;\nuse super::low;",
            &[],
        );
        check(
            "a/src/high/inner.rs",
            "use super::X; use log_client::admin::Y; // crate::low",
            &[],
        );
        check("a/src/low.rs", "use std::fmt; mod a { use super::*; }", &[]);
        check(
            "a/src/low.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests { use crate::high; }",
            &[],
        );
        check("a/src/low/tests.rs", "use crate::high;", &[]);
    }

    #[test]
    fn arrows_upwards_and_sideways_are_found() {
        check(
            "a/src/low.rs",
            "\nuse crate::high::X;",
            &["a/src/low.rs:2: low may not use high"],
        );
        check(
            "a/src/low.rs",
            "fn f() { super::high::g() }",
            &["a/src/low.rs:1: low may not use high"],
        );
        check(
            "a/src/high/mod.rs",
            "use log_core::log::X;",
            &["a/src/high/mod.rs:1: high may not use log_core::log"],
        );
        check(
            "a/src/high/inner.rs",
            "use crate::low;",
            &["a/src/high/inner.rs:1: high::inner may not use low"],
        );
        check(
            "a/src/high/mod.rs",
            "use crate::{other::X, low};",
            &["a/src/high/mod.rs:1: crate::other::X is not a module of the table"],
        );
    }

    #[test]
    fn a_module_without_a_row_and_a_row_without_a_module_are_found() {
        check(
            "a/src/new.rs",
            "",
            &["a/src/new.rs: the module has no row in the table"],
        );
        let planted = Tree::planted(&[("a/src/low.rs", ""), ("a/src/high/mod.rs", "")]);
        assert_eq!(
            check_modules(&planted, &SMALL),
            ["a: no file belongs to the row high::inner"]
        );
    }

    #[test]
    fn a_table_with_an_arrow_upwards_is_found() {
        const ROUND: [Row; 2] = [row("low", &["high"]), row("high", &["low"])];
        assert_eq!(
            check_table(&ROUND),
            ["the row low names high, which does not stand above it"]
        );
    }

    #[test]
    fn packages_point_one_way() {
        let planted = |core: &str, client: &str| {
            let members = "[workspace]\nmembers = [\"log-core\", \"log-client\"]";
            check_packages(&Tree::planted(&[
                ("Cargo.toml", members),
                ("log-core/Cargo.toml", core),
                ("log-client/Cargo.toml", client),
            ]))
        };
        let sound = "[dependencies]\nlog-core.workspace = true\ntokio.workspace = true";
        assert_eq!(
            planted("[dev-dependencies]\nfastrand.workspace = true", sound),
            [""; 0]
        );
        assert_eq!(
            planted("[dev-dependencies]\nlog-client.workspace = true", sound),
            ["log-core/Cargo.toml: log-core may not depend on log-client"]
        );
        assert_eq!(
            planted("[dependencies]\ntokio.workspace = true", sound),
            ["log-core/Cargo.toml: tokio has no place in a synchronous, deterministic crate"]
        );
        assert_eq!(
            planted(
                "",
                "[build-dependencies]\nlog-server = { path = \"../log-server\" }"
            ),
            ["log-client/Cargo.toml: log-client may not depend on log-server"]
        );
        let stranger = Tree::planted(&[("Cargo.toml", "[workspace]\nmembers = [\"new\"]")]);
        assert_eq!(
            check_packages(&stranger),
            ["new/Cargo.toml: the package has no row in the table"]
        );
    }
}
