//! What people read about the keys: the flags of `serve` with their help, and the tables in `docs/OPERATIONS.md`.
//! Made from the tables of keys and topic configs, and a test holds the document to them.

use std::fmt::Write as _;

use clap::{Arg, ArgAction};

use super::keys::{KEYS, Key, Section};
use super::topic::TOPIC_KEYS;
use super::value::Kind;

/// Keys that the short help (`-h`) shows too.
const PROMINENT: [&str; 6] = [
    "data-dir",
    "kafka-listen",
    "http-listen",
    "kafka-advertise",
    "ready-file",
    "log-format",
];

/// A flag for each key.
pub fn arguments() -> impl Iterator<Item = Arg> {
    KEYS.iter().map(|key| {
        let default = match key.default {
            Some(default) => format!("[default: {default}] "),
            None => String::new(),
        };
        Arg::new(key.name)
            .long(key.flag.as_str())
            .value_name(placeholder(key.kind))
            .action(action(key.kind))
            // Values such as -1 are no flags.
            .allow_hyphen_values(true)
            .help(key.doc.to_string())
            .long_help(format!("{}\n\n{default}[env: {}]", key.doc, key.variable))
            .help_heading(key.section.title())
            .hide_short_help(!PROMINENT.contains(&key.name))
    })
}

/// A list may also be given by a flag for each element.
const fn action(kind: Kind) -> ArgAction {
    match kind {
        Kind::List => ArgAction::Append,
        _ => ArgAction::Set,
    }
}

const fn placeholder(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "BOOLEAN",
        Kind::String => "TEXT",
        Kind::Short | Kind::Int | Kind::Long | Kind::Double => "NUMBER",
        Kind::List => "LIST",
    }
}

/// The table of the broker's keys, in Markdown.
#[must_use]
pub fn broker_table() -> String {
    let mut text = String::new();
    let sections = [
        Section::Basics,
        Section::Limits,
        Section::Http,
        Section::Topics,
        Section::Groups,
        Section::Transactions,
        Section::Storage,
        Section::TopicDefaults,
    ];
    for section in sections {
        let dynamic = |key: &Key| if key.is_dynamic { "yes" } else { "no" };
        let rows = KEYS.iter().filter(|key| key.section == section).map(|key| {
            let default = key.default.map_or_else(|| "none".to_owned(), code);
            format!(
                "| `{}` | {} | {default} | {} | {} | {} |",
                key.name,
                key.kind,
                key.rule,
                dynamic(key),
                key.doc
            )
        });
        table(
            &mut text,
            section.title(),
            "| key | type | default | values | while it runs | what it does |\n|---|---|---|---|---|---|",
            rows,
        );
    }
    text
}

/// The table of topic configs, in Markdown.
#[must_use]
pub fn topic_table() -> String {
    let mut text = String::new();
    let rows = TOPIC_KEYS.iter().map(|key| {
        let synonyms: Vec<String> = key.synonyms.iter().map(|synonym| code(synonym.name)).collect();
        format!(
            "| `{}` | {} | {} | {} | {} | {} |",
            key.name,
            key.kind,
            code(key.default),
            key.rule,
            synonyms.join(", "),
            key.doc
        )
    });
    table(
        &mut text,
        "Topic configs",
        "| config | type | default | values | broker keys that give the default | what it does |\n|---|---|---|---|---|---|",
        rows,
    );
    text
}

fn code(text: &str) -> String {
    if text.is_empty() {
        "empty".to_owned()
    } else {
        format!("`{text}`")
    }
}

fn table(text: &mut String, title: &str, head: &str, rows: impl Iterator<Item = String>) {
    let rows: Vec<String> = rows.collect();
    writeln!(text, "\n### {title}\n\n{head}\n{}", rows.join("\n")).expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    const BEGIN: &str = "<!-- made from the code: begin -->";
    const END: &str = "<!-- made from the code: end -->";

    /// The documentation equals the code. `STRATALOG_UPDATE=1` writes it anew.
    #[test]
    fn operations_md_lists_every_key() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md");
        let page = fs::read_to_string(&path).unwrap();
        let (before, rest) = page.split_once(BEGIN).expect("the beginning is marked");
        let (_, after) = rest.split_once(END).expect("the end is marked");
        let wanted = format!(
            "{before}{BEGIN}\n{}{}\n{END}{after}",
            broker_table(),
            topic_table()
        );
        if std::env::var_os("STRATALOG_UPDATE").is_some() {
            fs::write(&path, &wanted).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap() == wanted,
            "docs/OPERATIONS.md differs from the table of keys; run this test with STRATALOG_UPDATE=1"
        );
    }

    #[test]
    fn no_cell_breaks_its_table() {
        for line in [broker_table(), topic_table()]
            .concat()
            .lines()
            .filter(|line| line.starts_with('|'))
        {
            assert_eq!(line.matches('|').count(), 7, "{line}");
        }
    }
}
