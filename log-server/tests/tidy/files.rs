//! Rules about single files: how they begin, how long they are, what they are called, what they may name, and
//! what lies at the top of the repository.

use crate::source::{code_of, module_of, references, without_tests};
use crate::tree::Tree;

/// A file that says less does not say what it owns and what it leaves to others.
const COMMENT_LINES_MIN: usize = 2;
/// What a file of tests proves can be said in one.
const COMMENT_LINES_MIN_OF_TESTS: usize = 1;

/// What breaks "every source opens with a comment that says what it owns".
pub(crate) fn check_comments(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.sources() {
        let comment = text.lines().take_while(|line| line.starts_with("//!"));
        let count = comment.filter(|line| 3 < line.trim_end().len()).count();
        let least = if is_of_tests(path) {
            COMMENT_LINES_MIN_OF_TESTS
        } else {
            COMMENT_LINES_MIN
        };
        if count < least {
            problems.push(format!(
                "{path}: opens with {count} lines of //! comment, at least {least}"
            ));
        }
    }
    problems
}

/// A source is not longer, tests aside.
const LINES_MAX: usize = 600;

/// Sources that are longer, and why.
const LONG_FILES: [(&str, &str); 0] = [];

/// What breaks the limit of a source's length. A file of tests has none.
pub(crate) fn check_lengths(tree: &Tree, long_files: &[(&str, &str)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.sources().filter(|(path, _)| !is_of_tests(path)) {
        let count = without_tests(text).lines().count();
        let is_listed = long_files.iter().any(|(long, _)| *long == path);
        if LINES_MAX < count && !is_listed {
            problems.push(format!(
                "{path}: {count} lines without tests, at most {LINES_MAX}"
            ));
        }
        if count <= LINES_MAX && is_listed {
            problems.push(format!(
                "{path}: not longer than {LINES_MAX} lines any more, take it off the list"
            ));
        }
    }
    for (path, _) in long_files {
        if !tree.has(path) {
            problems.push(format!("{path}: is on the list of long files and does not exist"));
        }
    }
    problems
}

/// The list above, for the repository.
pub(crate) fn long_files() -> &'static [(&'static str, &'static str)] {
    &LONG_FILES
}

/// Whether all of the file is compiled for tests alone.
pub(crate) fn is_of_tests(path: &str) -> bool {
    path.contains("/tests/")
        || path.contains("/testing/")
        || ["/tests.rs", "/test_support.rs"]
            .iter()
            .any(|name| path.ends_with(name))
}

/// Names that say that nobody knew what the file is about.
const EMPTY_NAMES: [&str; 10] = [
    "util", "utils", "utility", "helper", "helpers", "common", "misc", "shared", "stuff", "tools",
];

/// What breaks "a file is named after what it owns".
pub(crate) fn check_names(tree: &Tree) -> Vec<String> {
    let is_empty_name = |part: &str| {
        let stem = part.split_once('.').map_or(part, |(stem, _)| stem);
        EMPTY_NAMES.contains(&stem.to_lowercase().as_str())
    };
    tree.files()
        .filter(|(path, _)| path.split('/').any(is_empty_name))
        .map(|(path, _)| format!("{path}: the name does not say what it owns"))
        .collect()
}

/// What only these files may name, in code that ships: path, where it is looked for, the files that may, why.
const CONFINED: [(&str, &str, &[&str], &str); 8] = [
    (
        "std::fs",
        "log-core/src/",
        &["log-core/src/fs/os.rs"],
        "disk comes in through `FileSystem`",
    ),
    ("std::net", "log-core/src/", &[], "log-core has no sockets"),
    (
        "std::thread",
        "log-core/src/",
        &[],
        "log-core has no threads of its own",
    ),
    (
        "std::env",
        "log-core/src/",
        &[],
        "configuration comes in as values",
    ),
    (
        "std::time::SystemTime",
        "log-core/src/",
        &[],
        "time comes in through `Clock`",
    ),
    (
        "std::time::Instant",
        "log-core/src/",
        &[],
        "time comes in through `Clock`",
    ),
    (
        "kacrab_protocol",
        "log-",
        &[
            "log-core/src/protocol/mod.rs",
            "log-core/src/protocol/messages.rs",
        ],
        "the wire's codec stands behind one module",
    ),
    (
        "memmap2",
        "log-",
        &["log-core/src/fs/map.rs"],
        "maps stand behind one module",
    ),
];

/// The one shipped file with `unsafe` code, and those that measure and test.
const UNSAFE_FILES: [&str; 3] = [
    "log-core/src/fs/map.rs",
    // Measures what we do not do: copying into a map.
    "benches/benches/append.rs",
    // An allocator that counts; the trait is unsafe.
    "log-server/src/kafka/tests/allocations.rs",
];

/// What breaks "some things stand in one place".
pub(crate) fn check_confinement(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.sources() {
        let code = code_of(text);
        let words = |line: &str| {
            line.split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == "unsafe")
        };
        if !UNSAFE_FILES.contains(&path)
            && let Some(index) = code.lines().position(words)
        {
            problems.push(format!(
                "{path}:{}: `unsafe` stands in {} alone",
                index + 1,
                UNSAFE_FILES[0]
            ));
        }
        if is_of_tests(path) {
            continue;
        }
        let inside = path.split_once("/src/").map_or(path, |(_, inside)| inside);
        for reference in references(&module_of(inside), without_tests(&code)) {
            for (confined, place, allowed, reason) in &CONFINED {
                if path.starts_with(place) && !allowed.contains(&path) && reference.is_below(confined) {
                    problems.push(format!("{path}:{}: {confined}: {reason}", reference.line));
                }
            }
        }
    }
    problems
}

/// What lies at the top of the repository.
const TOP: [&str; 15] = [
    ".ci",
    ".clippy.toml",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "deny.toml",
    "docs",
    "log-client",
    "log-core",
    "log-server",
    "rust-toolchain.toml",
    "rustfmt.toml",
];

/// What lies at the top and should not.
pub(crate) fn check_top(tree: &Tree) -> Vec<String> {
    let mut tops: Vec<&str> = tree
        .files()
        .map(|(path, _)| path.split('/').next().unwrap_or(path))
        .collect();
    tops.dedup();
    tops.into_iter()
        .filter(|top| !TOP.contains(top))
        .map(|top| format!("{top}: is not on the list of what lies at the top"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_comments_are_found() {
        let planted = Tree::planted(&[
            (
                "a/long.rs",
                "//! What it owns.\n//! What it leaves to others.\nfn f() {}",
            ),
            ("a/short.rs", "//! What it owns.\n//!\n//\nfn f() {}"),
            ("a/none.rs", "fn f() {}\n//! Too late.\n//! Too late."),
            ("a/none.txt", ""),
            ("a/tests/short.rs", "//! What it proves."),
            ("a/tests.rs", "fn f() {}"),
        ]);
        assert_eq!(
            check_comments(&planted),
            [
                "a/none.rs: opens with 0 lines of //! comment, at least 2",
                "a/short.rs: opens with 1 lines of //! comment, at least 2",
                "a/tests.rs: opens with 0 lines of //! comment, at least 1"
            ]
        );
    }

    #[test]
    fn long_files_are_found_unless_they_are_listed() {
        let long = "x\n".repeat(LINES_MAX + 1);
        let mostly_tests = format!("x\n#[cfg(test)]\nmod tests {{\n{long}}}");
        let planted = Tree::planted(&[
            ("a/src/long.rs", &long),
            ("a/src/listed.rs", &long),
            ("a/src/mostly_tests.rs", &mostly_tests),
            ("a/src/tests.rs", &long),
            ("a/tests/b.rs", &long),
            ("a/src/was_long.rs", "x"),
        ]);
        let listed = [
            ("a/src/listed.rs", ""),
            ("a/src/was_long.rs", ""),
            ("a/src/gone.rs", ""),
        ];
        assert_eq!(
            check_lengths(&planted, &listed),
            [
                "a/src/long.rs: 601 lines without tests, at most 600",
                "a/src/was_long.rs: not longer than 600 lines any more, take it off the list",
                "a/src/gone.rs: is on the list of long files and does not exist"
            ]
        );
    }

    #[test]
    fn empty_names_are_found() {
        let planted = Tree::planted(&[
            ("a/src/utils.rs", ""),
            ("a/helpers/mod.rs", ""),
            ("b/toolbox.py", ""),
            ("c/common_prefix.rs", ""),
        ]);
        assert_eq!(
            check_names(&planted),
            [
                "a/helpers/mod.rs: the name does not say what it owns",
                "a/src/utils.rs: the name does not say what it owns"
            ]
        );
    }

    #[test]
    fn what_is_confined_is_found_elsewhere() {
        let check = |path: &str, code: &str, expected: &[&str]| {
            assert_eq!(
                check_confinement(&Tree::planted(&[(path, code)])),
                expected,
                "{path}: {code}"
            );
        };
        check(
            "log-core/src/log/log.rs",
            "// std::fs\nuse std::{fmt, fs};",
            &["log-core/src/log/log.rs:2: std::fs: disk comes in through `FileSystem`"],
        );
        check("log-core/src/fs/os.rs", "use std::fs::File;", &[]);
        check("log-core/src/fs/tests.rs", "use std::fs::File;", &[]);
        check(
            "log-core/src/log/log.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }",
            &[],
        );
        check("log-server/src/system.rs", "use std::fs;", &[]);
        check(
            "log-server/src/kafka/apis.rs",
            "use kacrab_protocol::X;",
            &["log-server/src/kafka/apis.rs:1: kacrab_protocol: the wire's codec stands behind one module"],
        );
        check(
            "log-core/src/clock.rs",
            "fn now() { std::time::SystemTime::now(); }",
            &["log-core/src/clock.rs:1: std::time::SystemTime: time comes in through `Clock`"],
        );
        check(
            "log-server/src/system.rs",
            "#![expect(unsafe_code)]\n// unsafe\nfn f() { unsafe { g() } }",
            &["log-server/src/system.rs:3: `unsafe` stands in log-core/src/fs/map.rs alone"],
        );
        check("log-core/src/fs/map.rs", "unsafe {}", &[]);
    }

    #[test]
    fn strangers_at_the_top_are_found() {
        let planted = Tree::planted(&[
            ("README.md", ""),
            ("docs/a.md", ""),
            ("notes.md", ""),
            ("tmp/a/b", ""),
        ]);
        assert_eq!(
            check_top(&planted),
            [
                "notes.md: is not on the list of what lies at the top",
                "tmp: is not on the list of what lies at the top"
            ]
        );
    }
}
