//! The command reference in `docs/OPERATIONS.md`, made from the tree of commands, and the test that holds the page to it.
//! What a command is and does is said once, at its arguments.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, Command};
use log_client::Error;
use log_core::model::TopicPartition;

use super::command;
use super::failure::{EXIT_CODES, Failure};

const BEGIN: &str = "<!-- commands, made from the code: begin -->";
const END: &str = "<!-- commands, made from the code: end -->";

/// Exit codes, and every command with its arguments and flags.
fn reference() -> String {
    let mut text = String::from("\n### Exit codes\n\n| code | meaning |\n|---|---|\n");
    for (kind, meaning) in EXIT_CODES {
        writeln!(text, "| {} | {meaning} |", kind.code()).unwrap();
    }
    let mut tree = command::command();
    tree.build();
    for command in tree
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
    {
        describe(&mut text, command);
    }
    text
}

fn describe(text: &mut String, command: &Command) {
    let verbs: Vec<&Command> = command
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help")
        .collect();
    for verb in &verbs {
        describe(text, verb);
    }
    // A command with verbs does nothing of its own, unless it has arguments that no verb takes.
    if !verbs.is_empty() && !command.is_args_conflicts_with_subcommands_set() {
        return;
    }
    let name = command.get_bin_name().unwrap();
    let about = command.get_about().unwrap();
    write!(text, "\n### `{name}`\n\n{about}.").unwrap();
    if command.get_name() == "serve" {
        text.push_str(" Its flags are the keys above, and `--config PATH`.\n");
        return;
    }
    text.push_str("\n\n| argument | default | what it does |\n|---|---|---|\n");
    for argument in command.get_arguments() {
        if ["help", "version"].contains(&argument.get_id().as_str()) {
            continue;
        }
        let default: Vec<_> = argument
            .get_default_values()
            .iter()
            .filter(|_| !matches!(argument.get_action(), ArgAction::SetTrue))
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.replace('|', "\\|").replace('\n', " ");
        let variable = argument
            .get_env()
            .map(|name| format!(" (environment: `{}`)", name.to_string_lossy()));
        writeln!(
            text,
            "| `{}` | {} | {help}{} |",
            spelling(argument),
            default.join(" "),
            variable.unwrap_or_default()
        )
        .unwrap();
    }
}

/// `-p, --partitions NUMBER`, or `NAME` for an argument by place.
fn spelling(argument: &Arg) -> String {
    let value = argument
        .get_value_names()
        .filter(|_| matches!(argument.get_action(), ArgAction::Set | ArgAction::Append))
        .and_then(|names| names.first())
        .map(ToString::to_string);
    let flags: Vec<String> = argument
        .get_short()
        .map(|short| format!("-{short}"))
        .into_iter()
        .chain(argument.get_long().map(|long| format!("--{long}")))
        .collect();
    let value = value.unwrap_or_default();
    [flags.join(", "), value].join(" ").trim().to_owned()
}

/// The documentation equals the code. `STRATALOG_UPDATE=1` writes it anew.
#[test]
fn operations_md_lists_every_command_and_flag() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the beginning is marked");
    let (_, after) = rest.split_once(END).expect("the end is marked");
    let wanted = format!("{before}{BEGIN}\n{}\n{END}{after}", reference());
    if std::env::var_os("STRATALOG_UPDATE").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == wanted,
        "docs/OPERATIONS.md differs from the tree of commands; run this test with STRATALOG_UPDATE=1"
    );
}

/// The flags of a command and of those below it, with their other names.
fn flags(command: &Command, found: &mut BTreeSet<String>) {
    for argument in command.get_arguments() {
        let others = argument.get_all_aliases().unwrap_or_default();
        found.extend(argument.get_long().into_iter().chain(others).map(str::to_owned));
    }
    for verb in command.get_subcommands() {
        flags(verb, found);
    }
}

/// The words of a text that look like flags.
fn flags_named(text: &str) -> impl Iterator<Item = &str> {
    let is_of_a_name = |character: char| character.is_ascii_lowercase() || character == '-';
    text.split("--").skip(1).filter_map(move |behind| {
        let end = behind.find(|character| !is_of_a_name(character));
        let name = behind.get(..end.unwrap_or(behind.len()))?;
        (1 < name.len()).then_some(name)
    })
}

/// The sources below a folder, without their tests.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.file_name() != Some("reference.rs".as_ref()) {
            let text = fs::read_to_string(&path).unwrap();
            let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            found.push((path, shipped.to_owned()));
        }
    }
}

/// A hint is worth nothing when what it names is not there.
#[test]
fn every_flag_that_a_message_names_exists() {
    let mut tree = command::command();
    tree.build();
    let mut known = BTreeSet::new();
    flags(&tree, &mut known);
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut read = Vec::new();
    sources(&package.join("src/cli"), &mut read);
    sources(&package.join("../log-client/src"), &mut read);
    let mut seen = 0;
    for (path, text) in &read {
        for flag in flags_named(text) {
            assert!(
                known.contains(flag),
                "{}: --{flag} does not exist",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(30 < seen, "{seen} flags were found: the sources are elsewhere");
}

/// What a library advises is in the words of a program: settings, and calls.
#[test]
fn hints_are_in_the_words_of_the_command_line() {
    let late = Error::DeliveryTimedOut {
        partition: TopicPartition::new("t", 0),
        after: Duration::from_secs(1),
        last: Some(Box::new(Error::RecordTooLarge { size: 2, limit: 1 })),
    };
    let hint = Failure::from(late).advice.unwrap();
    assert!(
        hint.contains("--max-record-bytes") && !hint.contains('_'),
        "{hint}"
    );
}

#[test]
fn every_flag_says_what_it_does() {
    for line in reference().lines().filter(|line| line.starts_with("| `")) {
        assert!(!line.ends_with("|  |"), "{line}");
    }
}
