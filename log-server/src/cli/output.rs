//! What the commands say. Nothing else writes to standard output or standard error.
//!
//! Results go to standard output, everything about the work (notes, warnings, errors, summaries) to standard error,
//! so that a pipe carries results alone. Colours and tables follow the stream they go to: `NO_COLOR` and
//! whatever is not a terminal gets plain text. With `--json` all of it is JSON, one document a line.
//!
//! What others chose (names, messages of a broker) is escaped where it comes in (`text::shown()`); here control characters that got
//! through all the same are taken away, so that nobody's client id writes to somebody's terminal.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StderrLock, Stdout, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table};
use owo_colors::{OwoColorize, Stream, Style};
use serde::Serialize;
use serde_json::json;

use super::failure::{Failure, Kind, Outcome};
use super::text::is_unsafe;

/// Large enough that a record costs no system call.
const STDOUT_BUFFER_BYTES: usize = 1 << 16;

/// Whether people or programs read the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    People,
    Programs,
}

/// Where results and remarks go.
#[derive(Debug)]
pub(crate) struct Output {
    results: BufWriter<Stdout>,
    audience: Audience,
    /// How results are painted.
    pub(crate) palette: Palette,
    /// How remarks are painted.
    pub(crate) remarks: Palette,
    /// Whether remarks that are no warnings are left out.
    is_quiet: bool,
}

impl Output {
    pub(crate) fn new(is_json: bool) -> Self {
        Self {
            results: BufWriter::with_capacity(STDOUT_BUFFER_BYTES, io::stdout()),
            audience: if is_json {
                Audience::Programs
            } else {
                Audience::People
            },
            palette: Palette::of(Stream::Stdout),
            remarks: Palette::of(Stream::Stderr),
            is_quiet: false,
        }
    }

    /// How wide the terminal is, if standard output is one.
    #[expect(clippy::unused_self, reason = "it is this output's terminal")]
    pub(crate) fn width(&self) -> Option<u16> {
        Table::new().width()
    }

    /// With `--quiet`, only warnings and errors are remarked.
    pub(crate) fn quiet(mut self, is_quiet: bool) -> Self {
        self.is_quiet = is_quiet;
        self
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    pub(crate) fn is_json(&self) -> bool {
        self.audience == Audience::Programs
    }

    /// A result for people, with its line feed.
    pub(crate) fn line(&mut self, text: impl Display) -> Outcome {
        let text = text.to_string();
        Ok(writeln!(self.results, "{}", self.palette.harmless(&text))?)
    }

    /// A table for people; nothing when it has no rows.
    pub(crate) fn table(&mut self, table: &Table) -> Outcome {
        if table.is_empty() {
            return Ok(());
        }
        self.line(table.trim_fmt())
    }

    /// A result for programs: one document on one line.
    pub(crate) fn json(&mut self, document: &impl Serialize) -> Outcome {
        serde_json::to_writer(&mut self.results, document).map_err(io::Error::from)?;
        Ok(self.results.write_all(b"\n")?)
    }

    /// The bytes of a result as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Outcome {
        Ok(self.results.write_all(bytes)?)
    }

    /// Hands what was written so far to whoever reads it.
    pub(crate) fn flush(&mut self) -> Outcome {
        Ok(self.results.flush()?)
    }

    /// A remark about the work.
    pub(crate) fn remark(&self, text: impl Display) {
        if self.is_quiet {
            return;
        }
        if self.is_json() {
            remark(&json!({ "note": text.to_string() }));
        } else {
            remark(&self.remarks.harmless(&text.to_string()));
        }
    }

    /// A remark that `--quiet` does not leave out.
    pub(crate) fn warn(&self, text: impl Display) {
        if self.is_json() {
            remark(&json!({ "warning": text.to_string() }));
        } else {
            let text = format!("{} {text}", self.remarks.warning("warning:"));
            remark(&self.remarks.harmless(&text));
        }
    }

    /// A question at the terminal; the answer is typed behind it.
    #[expect(clippy::unused_self, reason = "whoever speaks to people has the output")]
    pub(crate) fn ask(&self, text: impl Display) {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{text}").ok();
        stderr.flush().ok();
    }

    /// `Ok` without failures; otherwise tells of all, the last one through the result.
    pub(crate) fn all_or_last(&self, mut failures: Vec<Failure>) -> Outcome {
        let Some(last) = failures.pop() else {
            return Ok(());
        };
        for failure in &failures {
            self.fail(failure);
        }
        debug_assert_ne!(last.kind, Kind::Done, "a failure is one");
        Err(last)
    }

    /// The last word about a failure, for either audience.
    pub(crate) fn fail(&self, failure: &Failure) {
        let Some(message) = &failure.message else { return };
        if self.is_json() {
            let error = json!({ "error": message, "hint": failure.advice, "exit_code": failure.kind.code() });
            remark(&error);
            return;
        }
        let mut text = format!("{} {message}", self.remarks.bad("error:"));
        if let Some(advice) = &failure.advice {
            text = format!("{text}\n{} {advice}", self.remarks.faint("hint:"));
        }
        remark(&self.remarks.harmless(&text));
    }
}

/// Writes to standard error, where a failure to write can be told to nobody.
fn remark(text: &dyn Display) {
    let write = |mut stderr: StderrLock<'_>| writeln!(stderr, "{text}");
    write(io::stderr().lock()).ok();
}

/// The colours of one stream, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Palette {
    is_coloured: bool,
}

impl Palette {
    /// No colours.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { is_coloured: false };

    /// Colours if the stream shows them: a terminal, and neither `NO_COLOR` nor `TERM=dumb`.
    fn of(stream: Stream) -> Self {
        // The library decides, word by word; one word tells for all.
        let painted = "x".if_supports_color(stream, |text| text.bold()).to_string();
        Self {
            is_coloured: painted != "x",
        }
    }

    fn paint(self, text: impl Display, style: Style) -> String {
        if self.is_coloured {
            text.style(style).to_string()
        } else {
            text.to_string()
        }
    }

    /// The text without control characters, but for line feeds, tabs and the colours of this palette.
    fn harmless(self, text: &str) -> Cow<'_, str> {
        let is_plain = |character: char| !is_unsafe(character) || matches!(character, '\n' | '\t');
        if text.chars().all(is_plain) {
            return Cow::Borrowed(text);
        }
        let mut harmless = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let (taken, behind) = match colour(rest).filter(|_| self.is_coloured) {
                Some(end) => rest.split_at(end),
                None => rest.split_at(character.len_utf8()),
            };
            if taken.len() > character.len_utf8() || is_plain(character) {
                harmless.push_str(taken);
            } else {
                harmless.extend(character.escape_default());
            }
            rest = behind;
        }
        Cow::Owned(harmless)
    }

    /// What stands out.
    pub(crate) fn strong(self, text: impl Display) -> String {
        self.paint(text, Style::new().bold())
    }

    /// What may be overlooked.
    pub(crate) fn faint(self, text: impl Display) -> String {
        self.paint(text, Style::new().dimmed())
    }

    pub(crate) fn good(self, text: impl Display) -> String {
        self.paint(text, Style::new().green())
    }

    pub(crate) fn warning(self, text: impl Display) -> String {
        self.paint(text, Style::new().yellow().bold())
    }

    pub(crate) fn bad(self, text: impl Display) -> String {
        self.paint(text, Style::new().red().bold())
    }

    /// An empty table with these columns; those whose names begin with `#` hold numbers. Rows fold into
    /// the width of a terminal, and are as long as they are in a pipe.
    pub(crate) fn table(self, columns: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        let heading = |name: &&str| {
            let cell = Cell::new(name.trim_start_matches('#').to_uppercase());
            if self.is_coloured {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        };
        table.set_header(columns.iter().map(heading));
        for (name, column) in columns.iter().zip(table.column_iter_mut()) {
            column.set_padding((0, 2));
            if name.starts_with('#') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

/// Where the sequence ends that sets a colour, if the text begins with one.
fn colour(text: &str) -> Option<usize> {
    let codes = text.strip_prefix("\u{1b}[")?;
    let end = codes.find(|character: char| !character.is_ascii_digit() && character != ';')?;
    codes.get(end..)?.starts_with('m').then_some(2 + end + 1)
}

/// Whether somebody watches standard error.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_there_or_not() {
        assert_eq!(Palette::PLAIN.bad("x"), "x");
        let coloured = Palette { is_coloured: true };
        assert_eq!(coloured.good("x"), "\u{1b}[32mx\u{1b}[0m");
    }

    #[test]
    fn only_colours_of_ours_get_through() {
        let coloured = Palette { is_coloured: true };
        let painted = coloured.table(&["a"]).add_row([coloured.bad("x")]).trim_fmt();
        assert_eq!(coloured.harmless(&painted), painted);
        for (text, expected) in [
            ("a\n\tb", "a\n\tb"),
            ("a\u{1b}[2Jb\u{7}", "a\\u{1b}[2Jb\\u{7}"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{1b}", "\\u{1b}"),
            ("\u{1b}[31", "\\u{1b}[31"),
        ] {
            assert_eq!(Palette::PLAIN.harmless(text), expected);
            assert_eq!(coloured.harmless(text), expected);
        }
        assert_eq!(Palette::PLAIN.harmless("\u{1b}[31mx"), "\\u{1b}[31mx");
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let mut table = Palette::PLAIN.table(&["name", "#partitions"]);
        table.add_row(["a", "6"]);
        table.add_row(["long name", "12"]);
        assert_eq!(
            table.trim_fmt(),
            "NAME       PARTITIONS\na                   6\nlong name          12"
        );
    }
}
