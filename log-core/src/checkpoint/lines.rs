//! The form that most checkpoint files share: a version, a count, and one entry in each line.
//!
//! ```text
//! 0          version
//! 2          how many entries follow
//! topic 0 7  entries, fields divided by blanks
//! topic 1 9
//! ```
//!
//! An empty file is a checkpoint without entries: Kafka makes the file before it has anything to say.

use std::fmt::{Display, Write as _};
use std::iter::{Enumerate, Peekable};
use std::str::FromStr;

use super::error::{CheckpointError, CheckpointFile};

const VERSION: u32 = 0;

/// The entries of a file as lines, with their line numbers; the count is checked at the end.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    file: CheckpointFile,
    lines: Peekable<Enumerate<std::str::Lines<'a>>>,
}

/// One line that holds an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryLine<'a, const FIELDS: usize> {
    file: CheckpointFile,
    number: usize,
    /// Its fields.
    pub(super) fields: [&'a str; FIELDS],
}

impl<'a> Lines<'a> {
    /// Looks at the file as text.
    pub(super) fn new(file: CheckpointFile, bytes: &'a [u8]) -> Result<Self, CheckpointError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let (sound, damaged) = bytes.split_at_checked(error.valid_up_to()).unwrap_or_default();
            let line = sound.split(|&byte| byte == b'\n').count();
            CheckpointError::new(file, line, "text in UTF-8", &String::from_utf8_lossy(damaged))
        })?;
        Ok(Self {
            file,
            lines: text.lines().enumerate().peekable(),
        })
    }

    /// The next line with its number, from 1.
    pub(super) fn next_line(&mut self) -> Option<(usize, &'a str)> {
        self.lines
            .next()
            .map(|(index, line)| (index.saturating_add(1), line))
    }

    fn next_number(&mut self, line: usize, expected: &'static str) -> Result<u32, CheckpointError> {
        let (number, text) = self
            .next_line()
            .ok_or_else(|| CheckpointError::at_end(self.file, line, expected))?;
        text.parse()
            .map_err(|_| CheckpointError::new(self.file, number, expected, text))
    }

    /// Reads the whole file: `read` gets each entry's fields.
    pub(super) fn read_entries<const FIELDS: usize>(
        mut self,
        expected: &'static str,
        mut read: impl FnMut(EntryLine<'a, FIELDS>) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        if self.lines.peek().is_none() {
            return Ok(());
        }
        let version = self.next_number(1, "version 0")?;
        if version != VERSION {
            return Err(CheckpointError::new(
                self.file,
                1,
                "version 0",
                &version.to_string(),
            ));
        }
        let entry_count = self.next_number(2, "the number of entries")?;
        let mut found_count: u32 = 0;
        while let Some((number, text)) = self.next_line() {
            let mut fields = [""; FIELDS];
            let mut words = text.split_ascii_whitespace();
            let is_filled = fields
                .iter_mut()
                .all(|field| words.next().map(|word| *field = word).is_some());
            if !is_filled || words.next().is_some() {
                return Err(CheckpointError::new(self.file, number, expected, text));
            }
            read(EntryLine {
                file: self.file,
                number,
                fields,
            })?;
            found_count = found_count.saturating_add(1);
        }
        if found_count != entry_count {
            let expected = "as many entries as it says";
            let found = format!("{entry_count} said, {found_count} there");
            return Err(CheckpointError {
                file: self.file,
                line: 2,
                expected,
                found,
            });
        }
        Ok(())
    }
}

impl<const FIELDS: usize> EntryLine<'_, FIELDS> {
    /// Reads a field as a number that is not negative.
    pub(super) fn number<N>(&self, text: &str, expected: &'static str) -> Result<N, CheckpointError>
    where
        N: FromStr + PartialOrd + Default,
    {
        let number = text.parse().ok().filter(|number| N::default() <= *number);
        number.ok_or_else(|| self.refuse(expected, text))
    }

    /// Refuses a field.
    pub(super) fn refuse(&self, expected: &'static str, found: &str) -> CheckpointError {
        CheckpointError::new(self.file, self.number, expected, found)
    }
}

/// Writes a file of these entries.
pub(super) fn write_entries<E: Display>(entries: impl ExactSizeIterator<Item = E>) -> Vec<u8> {
    let mut text = format!("{VERSION}\n{}\n", entries.len());
    for entry in entries {
        writeln!(text, "{entry}").expect("a string takes all text");
    }
    text.into_bytes()
}
