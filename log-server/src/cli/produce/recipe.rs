//! What of a line becomes key, value, timestamp and headers of a record.
//!
//! | input | value | key | timestamp |
//! |---|---|---|---|
//! | lines | the line, or what is behind the separator | constant, before the separator, or a column | a column |
//! | JSON | the line, or what a pointer names | constant, or what a pointer names | what a pointer names |
//! | records | as `consume --format ndjson` writes them (`record`) | | |
//!
//! What a pointer names becomes text as it stands, without quotes if it is a JSON string; `null` becomes null. What is
//! not there is an error, because a value that is null deletes, unless `--missing-as-null` says that it is meant.

use std::borrow::Cow;

use clap::{Args, ValueEnum};
use log_core::model::TimestampMs;
use serde_json::Value as Json;

use super::record::from_record;
use crate::cli::escapes::unescape;
use crate::cli::failure::{Failure, Outcome};
use crate::time::TimeFormat;

/// What the input consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum InputKind {
    /// Each line is a record
    #[default]
    Lines,
    /// Each line is a record, and must be JSON
    Json,
    /// Each line is a record as `consume --format ndjson` writes it
    Records,
    /// Each file is a record
    Files,
}

#[derive(Debug, Clone, Default, Args)]
pub(super) struct RecipeArgs {
    /// What the input consists of
    #[arg(
        long,
        short = 'i',
        value_enum,
        default_value_t,
        value_name = "KIND",
        help_heading = "Input"
    )]
    input: InputKind,

    /// The key of every record
    #[arg(long, short = 'k', group = "key_source", help_heading = "Input")]
    key: Option<String>,

    /// What separates key and value in a line, such as ':' or '\t'
    #[arg(
        long,
        short = 'K',
        group = "key_source",
        value_name = "TEXT",
        help_heading = "Input"
    )]
    key_separator: Option<String>,

    /// The column that is the key, from 1; the value is the whole line all the same
    #[arg(long, group = "key_source", value_name = "N", value_parser = column_number, help_heading = "Input")]
    key_column: Option<usize>,

    /// The JSON pointer to the key, such as /client/ip
    #[arg(long, group = "key_source", value_name = "POINTER", value_parser = pointer, help_heading = "Input")]
    key_pointer: Option<String>,

    /// The JSON pointer to the value; without it the value is the whole line
    #[arg(long, value_name = "POINTER", value_parser = pointer, help_heading = "Input")]
    value_pointer: Option<String>,

    /// What a pointer to key or value does not find is null, and no error
    #[arg(long, help_heading = "Input")]
    missing_as_null: bool,

    /// The column that is the time, from 1
    #[arg(long, group = "time_source", value_name = "N", value_parser = column_number, help_heading = "Input")]
    timestamp_column: Option<usize>,

    /// The JSON pointer to the time, such as /time
    #[arg(long, group = "time_source", value_name = "POINTER", value_parser = pointer, help_heading = "Input")]
    timestamp_pointer: Option<String>,

    /// How times are written
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Input"
    )]
    timestamp_format: TimeFormat,

    /// Records whose time is missing or cannot be read get the present time
    #[arg(long, requires = "time_source", help_heading = "Input")]
    timestamp_or_now: bool,

    /// What separates columns; a field may stand in double quotes
    #[arg(long, default_value = ",", value_name = "TEXT", help_heading = "Input")]
    column_separator: String,

    /// Leave out so many lines at the beginning of each file, such as a header
    #[arg(long, default_value_t = 0, value_name = "COUNT", help_heading = "Input")]
    skip_lines: u64,

    /// A value that is this text becomes null, a tombstone on a compacted topic
    #[arg(long, value_name = "TEXT", help_heading = "Input")]
    null: Option<String>,
}

fn pointer(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("a JSON pointer begins with '/', such as /client/ip".to_owned())
    }
}

fn column_number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if 0 < number => Ok(number),
        _ => Err("columns are counted from 1".to_owned()),
    }
}

/// How lines become records.
#[derive(Debug, Default)]
pub(super) struct Recipe {
    kind: InputKind,
    key: Option<Vec<u8>>,
    key_separator: Option<Vec<u8>>,
    key_column: Option<usize>,
    key_pointer: Option<String>,
    value_pointer: Option<String>,
    missing_as_null: bool,
    timestamp_column: Option<usize>,
    timestamp_pointer: Option<String>,
    timestamp_format: TimeFormat,
    timestamp_or_now: bool,
    column_separator: Vec<u8>,
    skip_lines: u64,
    null: Option<Vec<u8>>,
}

/// Name and value.
pub(super) type Header = (Vec<u8>, Option<Vec<u8>>);

/// A record in the making.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Draft<'a> {
    pub(super) key: Option<Cow<'a, [u8]>>,
    pub(super) value: Option<Cow<'a, [u8]>>,
    pub(super) timestamp: Option<TimestampMs>,
    pub(super) partition: Option<i32>,
    pub(super) headers: Vec<Header>,
}

impl Recipe {
    pub(super) fn new(arguments: &RecipeArgs) -> Outcome<Self> {
        let escaped = |flag: &str, text: &str| {
            let bytes = unescape(text).map_err(|error| Failure::usage(format!("{flag}: {error}")))?;
            if bytes.is_empty() {
                return Err(Failure::usage(format!("{flag} must not be empty")));
            }
            Ok(bytes)
        };
        let points = arguments.key_pointer.is_some()
            || arguments.value_pointer.is_some()
            || arguments.timestamp_pointer.is_some();
        let splits = arguments.key_separator.is_some()
            || arguments.key_column.is_some()
            || arguments.timestamp_column.is_some();
        let kind = match arguments.input {
            InputKind::Lines if points => InputKind::Json,
            kind => kind,
        };
        if points && splits {
            return Err(Failure::usage(
                "pointers are for JSON, separators and columns for text",
            ));
        }
        if (points && kind != InputKind::Json) || (splits && kind != InputKind::Lines) {
            return Err(Failure::usage(
                "this input does not take pointers, separators or columns",
            ));
        }
        if arguments.missing_as_null && arguments.key_pointer.is_none() && arguments.value_pointer.is_none() {
            return Err(Failure::usage(
                "--missing-as-null is for --key-pointer and --value-pointer",
            ));
        }
        Ok(Self {
            kind,
            key: arguments.key.as_ref().map(|key| key.clone().into_bytes()),
            key_separator: arguments
                .key_separator
                .as_deref()
                .map(|text| escaped("--key-separator", text))
                .transpose()?,
            key_column: arguments.key_column,
            key_pointer: arguments.key_pointer.clone(),
            value_pointer: arguments.value_pointer.clone(),
            missing_as_null: arguments.missing_as_null,
            timestamp_column: arguments.timestamp_column,
            timestamp_pointer: arguments.timestamp_pointer.clone(),
            timestamp_format: arguments.timestamp_format,
            timestamp_or_now: arguments.timestamp_or_now,
            column_separator: escaped("--column-separator", &arguments.column_separator)?,
            skip_lines: arguments.skip_lines,
            null: arguments.null.as_ref().map(|text| text.clone().into_bytes()),
        })
    }

    pub(super) fn takes_whole_files(&self) -> bool {
        self.kind == InputKind::Files
    }

    pub(super) fn skipped_lines(&self) -> u64 {
        self.skip_lines
    }

    /// The record that a line becomes; none for blank lines of JSON.
    pub(super) fn draft<'a>(&'a self, line: &'a [u8]) -> Outcome<Option<Draft<'a>>> {
        let mut draft = match self.kind {
            InputKind::Lines | InputKind::Files => self.read_text(line)?,
            InputKind::Json | InputKind::Records if line.trim_ascii().is_empty() => return Ok(None),
            InputKind::Json => self.read_json(line)?,
            InputKind::Records => from_record(&json_of(line)?)?,
        };
        if draft.key.is_none() {
            draft.key = self.key.as_deref().map(Cow::Borrowed);
        }
        if self.null.is_some() && self.null.as_deref() == draft.value.as_deref() {
            draft.value = None;
        }
        Ok(Some(draft))
    }

    fn read_text<'a>(&'a self, line: &'a [u8]) -> Outcome<Draft<'a>> {
        let mut draft = Draft {
            value: Some(Cow::Borrowed(line)),
            ..Draft::default()
        };
        if let Some(separator) = &self.key_separator {
            let (key, value) = split_once(line, separator).ok_or_else(|| {
                Failure::new(format!(
                    "no {:?} between key and value",
                    String::from_utf8_lossy(separator)
                ))
            })?;
            draft.key = Some(Cow::Borrowed(key));
            draft.value = Some(Cow::Borrowed(value));
        }
        if let Some(number) = self.key_column {
            let missing = || Failure::new(format!("no column {number} for the key"));
            draft.key = Some(column(line, &self.column_separator, number).ok_or_else(missing)?);
        }
        if let Some(number) = self.timestamp_column {
            let found = column(line, &self.column_separator, number);
            let text = found.as_deref().map(String::from_utf8_lossy);
            draft.timestamp = self.time(text.as_deref(), || format!("column {number}"))?;
        }
        Ok(draft)
    }

    fn read_json<'a>(&self, line: &'a [u8]) -> Outcome<Draft<'a>> {
        let document = json_of(line)?;
        let value = match &self.value_pointer {
            Some(pointer) => self.part(&document, pointer, "value")?.map(Cow::Owned),
            None => Some(Cow::Borrowed(line)),
        };
        let key = match &self.key_pointer {
            Some(pointer) => self.part(&document, pointer, "key")?.map(Cow::Owned),
            None => None,
        };
        let timestamp = match &self.timestamp_pointer {
            Some(pointer) => {
                let found = document.pointer(pointer).and_then(text_of);
                let text = found.as_deref().map(String::from_utf8_lossy);
                self.time(text.as_deref(), || pointer.clone())?
            }
            None => None,
        };
        Ok(Draft {
            key,
            value,
            timestamp,
            ..Draft::default()
        })
    }

    /// The key or value that a pointer names.
    fn part(&self, document: &Json, pointer: &str, part: &str) -> Outcome<Option<Vec<u8>>> {
        match document.pointer(pointer) {
            Some(found) => Ok(text_of(found)),
            None if self.missing_as_null => Ok(None),
            None => Err(Failure::new(format!("no {part} at {pointer}"))
                .advise("with --missing-as-null it is null, --keep-going leaves such records out")),
        }
    }

    /// The time in `text`, which stood at `place`.
    fn time(&self, text: Option<&str>, place: impl Fn() -> String) -> Outcome<Option<TimestampMs>> {
        let failure = match text.map(|text| self.timestamp_format.parse(text)) {
            Some(Ok(timestamp)) => return Ok(Some(timestamp)),
            Some(Err(error)) => Failure::new(format!("{}: {error}", place())),
            None => Failure::new(format!("no time at {}", place())),
        };
        if self.timestamp_or_now {
            return Ok(None);
        }
        Err(failure.advise(
            "with --timestamp-or-now such records get the present time; --skip-lines leaves out a header",
        ))
    }
}

fn json_of(line: &[u8]) -> Outcome<Json> {
    serde_json::from_slice(line).map_err(|error| Failure::new(format!("not JSON: {error}")))
}

/// A JSON value as the bytes of a key or value.
pub(super) fn text_of(value: &Json) -> Option<Vec<u8>> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone().into_bytes()),
        other => Some(other.to_string().into_bytes()),
    }
}

fn split_once<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line
        .windows(separator.len())
        .position(|window| window == separator)?;
    let (before, rest) = line.split_at_checked(at)?;
    Some((before, rest.split_at_checked(separator.len())?.1))
}

/// The n-th column, from 1. A field that begins with a double quote ends with the next single one.
fn column<'a>(line: &'a [u8], separator: &[u8], number: usize) -> Option<Cow<'a, [u8]>> {
    let mut rest = Some(line);
    for _ in 1..number {
        rest = next_column(rest?, separator).1;
    }
    Some(next_column(rest?, separator).0)
}

/// The first column, and what is behind it.
fn next_column<'a>(line: &'a [u8], separator: &[u8]) -> (Cow<'a, [u8]>, Option<&'a [u8]>) {
    if let Some((field, behind)) = quoted(line) {
        if behind.is_empty() {
            return (Cow::Owned(field), None);
        }
        if let Some(rest) = behind.strip_prefix(separator) {
            return (Cow::Owned(field), Some(rest));
        }
        // Something stands behind the closing quote: then the quotes belong to the text.
    }
    match split_once(line, separator) {
        Some((field, rest)) => (Cow::Borrowed(field), Some(rest)),
        None => (Cow::Borrowed(line), None),
    }
}

/// The text within the quotes at the beginning, and what is behind them.
fn quoted(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = line.strip_prefix(b"\"")?;
    let mut field = Vec::new();
    loop {
        let at = rest.iter().position(|byte| *byte == b'"')?;
        let (part, behind) = rest.split_at_checked(at)?;
        field.extend_from_slice(part);
        rest = behind.strip_prefix(b"\"")?;
        match rest.strip_prefix(b"\"") {
            Some(more) => {
                field.push(b'"');
                rest = more;
            }
            None => return Some((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(change: impl FnOnce(&mut RecipeArgs)) -> Recipe {
        let mut arguments = RecipeArgs {
            column_separator: ",".to_owned(),
            ..RecipeArgs::default()
        };
        change(&mut arguments);
        Recipe::new(&arguments).unwrap()
    }

    /// Key, value and timestamp of the record that a line becomes.
    fn made(recipe: &Recipe, line: &str) -> (Option<String>, Option<String>, Option<i64>) {
        let draft = recipe.draft(line.as_bytes()).unwrap().unwrap();
        let text =
            |bytes: Option<Cow<'_, [u8]>>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (
            text(draft.key),
            text(draft.value),
            draft.timestamp.map(TimestampMs::get),
        )
    }

    #[expect(clippy::unnecessary_wraps, reason = "the fields it fills are optional")]
    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_line_is_a_value() {
        assert_eq!(made(&recipe(|_| ()), "a,b"), (None, some("a,b"), None));
        let keyed = recipe(|arguments| arguments.key = some("k"));
        assert_eq!(made(&keyed, ""), (some("k"), some(""), None));
    }

    #[test]
    fn a_separator_splits_key_and_value() {
        let tab = recipe(|arguments| arguments.key_separator = some("\\t"));
        assert_eq!(made(&tab, "k\tv\tw"), (some("k"), some("v\tw"), None));
        assert_eq!(made(&tab, "\t"), (some(""), some(""), None));
        assert!(tab.draft(b"no separator").is_err());
        let long = recipe(|arguments| arguments.key_separator = some("::"));
        assert_eq!(made(&long, "a:b::c"), (some("a:b"), some("c"), None));
    }

    #[test]
    fn columns_are_read_and_the_line_stays_whole() {
        let access = recipe(|arguments| {
            arguments.key_column = Some(1);
            arguments.column_separator = " ".to_owned();
        });
        let line = r#"83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1""#;
        assert_eq!(made(&access, line), (some("83.149.9.216"), some(line), None));

        let quakes = recipe(|arguments| arguments.timestamp_column = Some(1));
        let line = "2016/01/01 00:30:04.91,18.0772,-67.1027";
        assert_eq!(made(&quakes, line), (None, some(line), Some(1_451_608_204_910)));
        assert!(quakes.draft(b"DateTime,Latitude").is_err());
        let lenient = recipe(|arguments| {
            arguments.timestamp_column = Some(9);
            arguments.timestamp_or_now = true;
        });
        assert_eq!(made(&lenient, "x"), (None, some("x"), None));
    }

    #[test]
    fn fields_may_stand_in_quotes() {
        for (line, number, expected) in [
            ("a,b,c", 2, Some("b")),
            ("a,b,c", 4, None),
            ("a,,c", 2, Some("")),
            (r#""a,b",c"#, 1, Some("a,b")),
            (r#""a,b",c"#, 2, Some("c")),
            (r#""say ""hi""",c"#, 1, Some(r#"say "hi""#)),
            (r#""open,c"#, 1, Some(r#""open"#)),
            (r#""a"b,c"#, 1, Some(r#""a"b"#)),
            ("", 1, Some("")),
        ] {
            let found = column(line.as_bytes(), b",", number);
            let found = found.as_deref().map(String::from_utf8_lossy);
            assert_eq!(found.as_deref(), expected, "{line} column {number}");
        }
    }

    #[test]
    fn pointers_reach_into_json() {
        let line = r#"{"client":{"ip":"1.2.3.4"},"n":7,"time":"2026-01-31T12:00:00Z","none":null}"#;
        let by_ip = recipe(|arguments| {
            arguments.key_pointer = some("/client/ip");
            arguments.timestamp_pointer = some("/time");
        });
        assert_eq!(
            made(&by_ip, line),
            (some("1.2.3.4"), some(line), Some(1_769_860_800_000))
        );
        let part = recipe(|arguments| {
            arguments.key_pointer = some("/n");
            arguments.value_pointer = some("/client");
        });
        assert_eq!(made(&part, line), (some("7"), some(r#"{"ip":"1.2.3.4"}"#), None));
        let nothing = recipe(|arguments| {
            arguments.key_pointer = some("/none");
            arguments.value_pointer = some("/none");
        });
        assert_eq!(made(&nothing, line), (None, None, None));
        assert!(by_ip.draft(b"{").is_err());
        assert!(by_ip.draft(br#"{"client":1}"#).is_err(), "the time is missing");
        assert_eq!(by_ip.draft(b"  ").unwrap(), None);
    }

    #[test]
    fn what_a_pointer_does_not_find_is_null_only_where_that_is_meant() {
        for is_key in [false, true] {
            let missing = |missing_as_null: bool| {
                recipe(|arguments| {
                    let pointer = some("/missing");
                    if is_key {
                        arguments.key_pointer = pointer;
                    } else {
                        arguments.value_pointer = pointer;
                    }
                    arguments.missing_as_null = missing_as_null;
                })
            };
            let failure = missing(false).draft(b"{\"a\":1}").unwrap_err();
            assert!(failure.message.unwrap().contains("/missing"));
            let (key, value, _) = made(&missing(true), "{\"a\":1}");
            assert_eq!((key.is_none(), value.is_none()), (true, !is_key));
        }
    }

    #[test]
    fn a_text_can_stand_for_null() {
        let tombstones = recipe(|arguments| {
            arguments.key_separator = some(":");
            arguments.null = some("NULL");
        });
        assert_eq!(made(&tombstones, "k:NULL"), (some("k"), None, None));
        assert_eq!(made(&tombstones, "k:NULL "), (some("k"), some("NULL "), None));
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |change: fn(&mut RecipeArgs)| {
            let mut arguments = RecipeArgs {
                column_separator: ",".to_owned(),
                ..RecipeArgs::default()
            };
            change(&mut arguments);
            Recipe::new(&arguments).is_err()
        };
        assert!(refused(|arguments| {
            arguments.key_pointer = some("/a");
            arguments.timestamp_column = Some(1);
        }));
        assert!(refused(|arguments| {
            arguments.input = InputKind::Records;
            arguments.key_pointer = some("/a");
        }));
        assert!(refused(|arguments| {
            arguments.input = InputKind::Files;
            arguments.key_separator = some(":");
        }));
        assert!(refused(|arguments| arguments.key_separator = some("")));
    }
}
