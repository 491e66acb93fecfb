//! How a record looks: text by a template, or JSON.
//!
//! Text carries the bytes as they are. JSON cannot: what is not UTF-8 stands there in base64, under a name
//! that says so (`value_base64`); `produce --input records` reads both.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use log_core::model::TopicPartition;
use log_core::record::record::Record;
use serde::Serialize;

use crate::cli::escapes::unescape;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Output;
use crate::time::Rfc3339;

const TEMPLATE_HELP: &str = "\
Text for each record instead of the value and a line feed:
  %t topic   %p partition   %o offset       %T time in ms   %D date and time
  %k key     %v value       %h headers      %K, %V lengths of key and value
  %% a per cent sign; \\t \\n \\r \\0 \\\\ and \\xHH as usual";

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// The value and a line feed, or what the template says
    Text,
    /// One JSON array
    Json,
    /// One JSON object per line; what --json means here
    Ndjson,
}

/// What may stand beside the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Shown {
    Topic,
    Time,
    Timestamp,
    Partition,
    Offset,
    Headers,
    Key,
}

#[derive(Debug, Clone, Default, Args)]
pub(super) struct FormatArgs {
    /// What comes out
    #[arg(
        long = "format",
        short = 'F',
        value_enum,
        value_name = "FORMAT",
        help_heading = "Format"
    )]
    format: Option<OutputFormat>,

    /// Text for each record, such as '%k: %v\n'; --help tells all of it
    #[arg(long, value_name = "TEMPLATE", long_help = TEMPLATE_HELP, conflicts_with = "show", help_heading = "Format")]
    template: Option<String>,

    /// What stands before the value, separated by commas
    #[arg(
        long,
        short = 's',
        value_enum,
        value_delimiter = ',',
        value_name = "PARTS",
        help_heading = "Format"
    )]
    show: Vec<Shown>,

    /// What stands between the parts
    #[arg(long, default_value = "\\t", value_name = "TEXT", help_heading = "Format")]
    separator: String,

    /// What stands for a key or value that is null
    #[arg(long, default_value = "", value_name = "TEXT", help_heading = "Format")]
    null: String,
}

/// Shows records.
#[derive(Debug)]
pub(super) struct Formatter {
    format: OutputFormat,
    template: Vec<Piece>,
    null: Vec<u8>,
    is_first: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Time,
    Key,
    Value,
    Headers,
    KeyLength,
    ValueLength,
}

impl Formatter {
    pub(super) fn new(arguments: &FormatArgs, is_json: bool) -> Outcome<Self> {
        let format = match arguments.format {
            Some(format) => format,
            None if is_json => OutputFormat::Ndjson,
            None => OutputFormat::Text,
        };
        let is_text_asked = arguments.template.is_some() || !arguments.show.is_empty();
        if format != OutputFormat::Text && is_text_asked {
            return Err(Failure::usage("--template and --show are for --format text"));
        }
        let separator = unescape(&arguments.separator)
            .map_err(|error| Failure::usage(format!("--separator: {error}")))?;
        let template = match &arguments.template {
            Some(template) => {
                parse(template).map_err(|error| Failure::usage(format!("--template: {error}")))?
            }
            None => template_of(&arguments.show, &separator),
        };
        Ok(Self {
            format,
            template,
            null: arguments.null.clone().into_bytes(),
            is_first: true,
        })
    }

    pub(super) fn show(
        &mut self,
        partition: &TopicPartition,
        record: &Record<'_>,
        output: &mut Output,
    ) -> Outcome {
        let is_first = std::mem::replace(&mut self.is_first, false);
        match self.format {
            OutputFormat::Text => self.text(partition, record, output),
            OutputFormat::Ndjson => output.json(&document(partition, record)),
            OutputFormat::Json => {
                output.bytes(if is_first { b"[\n" } else { b"," })?;
                output.json(&document(partition, record))
            }
        }
    }

    /// What stands behind the last record.
    pub(super) fn end(&self, output: &mut Output) -> Outcome {
        match (self.format, self.is_first) {
            (OutputFormat::Json, true) => output.line("[]"),
            (OutputFormat::Json, false) => output.line("]"),
            (OutputFormat::Text | OutputFormat::Ndjson, _) => Ok(()),
        }
    }

    fn text(&self, partition: &TopicPartition, record: &Record<'_>, output: &mut Output) -> Outcome {
        for piece in &self.template {
            match piece {
                Piece::Bytes(bytes) => output.bytes(bytes)?,
                Piece::Topic => output.bytes(partition.topic.as_bytes())?,
                Piece::Partition => output.bytes(partition.partition.to_string().as_bytes())?,
                Piece::Offset => output.bytes(record.offset.to_string().as_bytes())?,
                Piece::Timestamp => output.bytes(record.timestamp.to_string().as_bytes())?,
                Piece::Time => output.bytes(Rfc3339(record.timestamp).to_string().as_bytes())?,
                Piece::Key => output.bytes(record.key.unwrap_or(&self.null))?,
                Piece::Value => output.bytes(record.value.unwrap_or(&self.null))?,
                Piece::Headers => self.headers(record, output)?,
                Piece::KeyLength => output.bytes(length(record.key).as_bytes())?,
                Piece::ValueLength => output.bytes(length(record.value).as_bytes())?,
            }
        }
        Ok(())
    }

    /// `a=1,b=2`.
    fn headers(&self, record: &Record<'_>, output: &mut Output) -> Outcome {
        for (index, header) in record.headers().enumerate() {
            if 0 < index {
                output.bytes(b",")?;
            }
            output.bytes(header.key)?;
            output.bytes(b"=")?;
            output.bytes(header.value.unwrap_or(&self.null))?;
        }
        Ok(())
    }
}

/// The length, or -1 for null.
fn length(part: Option<&[u8]>) -> String {
    part.map_or_else(|| "-1".to_owned(), |part| part.len().to_string())
}

fn template_of(show: &[Shown], separator: &[u8]) -> Vec<Piece> {
    let mut template = Vec::new();
    for shown in show {
        template.push(match shown {
            Shown::Topic => Piece::Topic,
            Shown::Time => Piece::Time,
            Shown::Timestamp => Piece::Timestamp,
            Shown::Partition => Piece::Partition,
            Shown::Offset => Piece::Offset,
            Shown::Headers => Piece::Headers,
            Shown::Key => Piece::Key,
        });
        template.push(Piece::Bytes(separator.to_vec()));
    }
    template.extend([Piece::Value, Piece::Bytes(b"\n".to_vec())]);
    template
}

fn parse(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = template.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            literal.push(character);
            continue;
        }
        let piece = match rest.next() {
            Some('%') => {
                literal.push('%');
                continue;
            }
            Some('t') => Piece::Topic,
            Some('p') => Piece::Partition,
            Some('o') => Piece::Offset,
            Some('T') => Piece::Timestamp,
            Some('D') => Piece::Time,
            Some('k') => Piece::Key,
            Some('v') => Piece::Value,
            Some('h') => Piece::Headers,
            Some('K') => Piece::KeyLength,
            Some('V') => Piece::ValueLength,
            other => {
                let shown = other.map(String::from).unwrap_or_default();
                return Err(format!("unknown sequence %{shown}; a per cent sign is %%"));
            }
        };
        if !literal.is_empty() {
            pieces.push(Piece::Bytes(unescape(&literal)?));
            literal.clear();
        }
        pieces.push(piece);
    }
    if !literal.is_empty() {
        pieces.push(Piece::Bytes(unescape(&literal)?));
    }
    Ok(pieces)
}

/// A record as JSON.
#[derive(Debug, Serialize)]
struct Document<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    #[serde(flatten)]
    pair: Pair<'a>,
    headers: Vec<Pair<'a>>,
}

/// Key and value of a record or header, each as text, or as base64 of what is none.
#[derive(Debug, Serialize)]
struct Pair<'a> {
    #[serde(skip_serializing_if = "is_encoded")]
    key: Part<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "is_encoded")]
    value: Part<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Null,
    Text(&'a str),
    Encoded,
}

fn is_encoded(part: &Part<'_>) -> bool {
    matches!(part, Part::Encoded)
}

fn part(bytes: Option<&[u8]>) -> (Part<'_>, Option<String>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (Part::Null, None),
        Some((_, Ok(text))) => (Part::Text(text), None),
        Some((bytes, Err(_))) => (Part::Encoded, Some(STANDARD.encode(bytes))),
    }
}

fn pair<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Pair<'a> {
    let (key, key_base64) = part(key);
    let (value, value_base64) = part(value);
    Pair {
        key,
        key_base64,
        value,
        value_base64,
    }
}

fn document<'a>(partition: &'a TopicPartition, record: &Record<'a>) -> Document<'a> {
    let headers = record
        .headers()
        .map(|header| pair(Some(header.key), header.value));
    Document {
        topic: &partition.topic,
        partition: partition.partition,
        offset: record.offset.get(),
        timestamp: record.timestamp.get(),
        pair: pair(record.key, record.value),
        headers: headers.collect(),
    }
}

#[cfg(test)]
mod tests {
    use log_core::model::TimestampMs;
    use log_core::record::batch::Batch;
    use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
    use log_core::record::record::RecordHeader;

    use super::*;

    /// The JSON of one record.
    fn json(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[RecordHeader<'_>]) -> String {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(TimestampMs::new(5), key, value, headers).unwrap();
        let bytes = builder.build();
        let mut scratch = Vec::new();
        let batch = Batch::parse(&bytes).unwrap();
        let record = batch.records(&mut scratch, 0).unwrap().next().unwrap().unwrap();
        serde_json::to_string(&document(&TopicPartition::new("t", 2), &record)).unwrap()
    }

    #[test]
    fn json_tells_text_null_and_bytes_apart() {
        assert_eq!(
            json(None, Some(b"a \"quote\""), &[]),
            r#"{"topic":"t","partition":2,"offset":0,"timestamp":5,"key":null,"value":"a \"quote\"","headers":[]}"#
        );
        let headers = [
            RecordHeader::new("h", Some(&[0xff])),
            RecordHeader::new("n", None),
        ];
        assert_eq!(
            json(Some(&[0xff, 0]), None, &headers),
            concat!(
                r#"{"topic":"t","partition":2,"offset":0,"timestamp":5,"key_base64":"/wA=","value":null,"#,
                r#""headers":[{"key":"h","value_base64":"/w=="},{"key":"n","value":null}]}"#
            )
        );
    }

    #[test]
    fn templates_are_cut_into_pieces() {
        let bytes = |text: &str| Piece::Bytes(text.as_bytes().to_vec());
        assert_eq!(
            parse(r"%k\t%v 100%%\n").unwrap(),
            [Piece::Key, bytes("\t"), Piece::Value, bytes(" 100%\n")]
        );
        assert_eq!(parse("").unwrap(), []);
        for wrong in ["%", "%q", r"\q"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_stand_before_the_value() {
        let bytes = |text: &str| Piece::Bytes(text.as_bytes().to_vec());
        assert_eq!(template_of(&[], b"\t"), [Piece::Value, bytes("\n")]);
        assert_eq!(
            template_of(&[Shown::Offset, Shown::Key], b"|"),
            [
                Piece::Offset,
                bytes("|"),
                Piece::Key,
                bytes("|"),
                Piece::Value,
                bytes("\n")
            ]
        );
    }

    #[test]
    fn templates_are_for_text() {
        let arguments = FormatArgs {
            template: Some("%v".to_owned()),
            separator: "\\t".to_owned(),
            ..FormatArgs::default()
        };
        assert!(Formatter::new(&arguments, false).is_ok());
        assert!(Formatter::new(&arguments, true).is_err());
    }
}
