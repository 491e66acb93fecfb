//! What a check found: what is wrong, where, and how bad that is.
//! Nothing is decided here: what counts as damage is for each check to say.

use std::fmt;
use std::path::PathBuf;

use log_core::model::{FilePosition, Offset, TopicPartition};
use serde::Serialize;

/// So many findings are kept with their places; the rest is counted. A directory that is damaged
/// through and through must not fill the memory.
const FINDINGS_MAX: usize = 10_000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing that was acknowledged is in danger.
    Note,
    /// A file that is made from the log is wrong: the broker makes it again, or can without it.
    Repairable,
    /// Records, or what says which records there are, cannot be read as they were written.
    Damage,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Note => "note",
            Self::Repairable => "repairable",
            Self::Damage => "damage",
        })
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Whose file it is.
    pub partition: Option<TopicPartition>,
    /// The file or directory.
    pub path: PathBuf,
    /// Where in the file.
    pub position: Option<FilePosition>,
    /// Which records are concerned: the first and the last offset.
    pub offsets: Option<(Offset, Offset)>,
    /// What is wrong.
    pub what: String,
}

impl Finding {
    /// A finding about a file as a whole.
    pub fn new(severity: Severity, path: impl Into<PathBuf>, what: impl fmt::Display) -> Self {
        Self {
            severity,
            partition: None,
            path: path.into(),
            position: None,
            offsets: None,
            what: what.to_string(),
        }
    }

    /// At a place in the file.
    #[must_use]
    pub fn at(mut self, position: FilePosition) -> Self {
        self.position = Some(position);
        self
    }

    /// About these records.
    #[must_use]
    pub fn about(mut self, first: Offset, last: Offset) -> Self {
        self.offsets = Some((first, last));
        self
    }
}

/// All that was found, in the order it was found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    list: Vec<Finding>,
    notes: u64,
    repairable: u64,
    damage: u64,
}

impl Findings {
    /// Takes one more.
    pub fn push(&mut self, finding: Finding) {
        let count = match finding.severity {
            Severity::Note => &mut self.notes,
            Severity::Repairable => &mut self.repairable,
            Severity::Damage => &mut self.damage,
        };
        *count = count.saturating_add(1);
        if self.list.len() < FINDINGS_MAX {
            self.list.push(finding);
        }
    }

    /// Those that are kept.
    #[must_use]
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// How many there were of this kind.
    #[must_use]
    pub fn count(&self, severity: Severity) -> u64 {
        match severity {
            Severity::Note => self.notes,
            Severity::Repairable => self.repairable,
            Severity::Damage => self.damage,
        }
    }

    /// How many were counted, but not kept.
    #[must_use]
    pub fn omitted(&self) -> u64 {
        let all = self
            .notes
            .saturating_add(self.repairable)
            .saturating_add(self.damage);
        all.saturating_sub(u64::try_from(self.list.len()).unwrap_or(u64::MAX))
    }

    /// Whether anything is wrong, notes aside.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage == 0 && self.repairable == 0
    }
}
