//! How a command ends when it does not end well: what is said, what to do next, and the exit code.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed |
//! | 2 | the command line or the configuration is wrong |
//! | 3 | no broker could be reached |
//! | 4 | data is damaged |
//! | 130 | interrupted |
//!
//! A reader that closes the pipe has seen enough: that is no failure, and the command ends quietly with 0.

use std::io;
use std::process::ExitCode;

use log_client::Error;

use super::text::shown;

/// Each code once, with its meaning, as `--help` and the documentation show them.
pub(crate) const EXIT_CODES: [(Kind, &str); 6] = [
    (Kind::Done, "done; also when the reader of the output closed it"),
    (Kind::Failed, "failed: the message says why and what to do"),
    (Kind::Usage, "the command line or the configuration is wrong"),
    (Kind::Unreachable, "no broker could be reached at the address"),
    (Kind::Damaged, "data is damaged: the report says where"),
    (
        Kind::Interrupted,
        "interrupted by Ctrl-C before the work was done",
    ),
];

/// Which of the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Done,
    Failed,
    Usage,
    Unreachable,
    Damaged,
    Interrupted,
}

impl Kind {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Damaged => 4,
            // 128 + SIGINT, as shells count.
            Self::Interrupted => 130,
        }
    }
}

impl From<Kind> for ExitCode {
    fn from(kind: Kind) -> Self {
        Self::from(kind.code())
    }
}

/// A command that did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// Nothing where everything was said already.
    pub(crate) message: Option<String>,
    /// What to do next.
    pub(crate) advice: Option<String>,
}

/// The result of a command or a step of it.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            message: Some(message.into()),
            advice: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Usage,
            ..Self::new(message)
        }
    }

    /// Everything was said already; only the code is missing.
    pub(crate) const fn silent(kind: Kind) -> Self {
        Self {
            kind,
            message: None,
            advice: None,
        }
    }

    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The failure with what was being done in front: `create topic a: …`.
    pub(crate) fn during(mut self, step: impl std::fmt::Display) -> Self {
        self.message = self.message.map(|message| format!("{step}: {message}"));
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::InvalidConfig(_) => Kind::Usage,
            error if error.is_unreachable() => Kind::Unreachable,
            _ => Kind::Failed,
        };
        let advice = match &error {
            Error::NoBroker { .. } | Error::Connect { .. } => Some(
                "is a broker running there? `stratalog serve` starts one; --bootstrap HOST:PORT names another"
                    .to_owned(),
            ),
            other => advice(other),
        };
        let message = match &error {
            // Of one address, that it was the only one goes without saying.
            Error::NoBroker { tried, last } if !tried.contains(',') => last.to_string(),
            other => other.to_string(),
        };
        Self {
            kind,
            // A broker's own words may be among it.
            message: Some(shown(&message).into_owned()),
            advice,
        }
    }
}

/// What to do next, in the words of the command line where the client's own are those of a program.
fn advice(error: &Error) -> Option<String> {
    let own = match error {
        Error::DeliveryTimedOut { last: Some(last), .. } => return advice(last),
        Error::DeliveryTimedOut { last: None, .. } | Error::BufferFull { .. } => {
            "the broker does not keep up; allow it more time with --timeout"
        }
        Error::RecordTooLarge { .. } => {
            "allow more with --max-record-bytes, and with the topic's max.message.bytes"
        }
        Error::NoCommittedOffset { .. } => "say where to begin with --offset earliest or --offset latest",
        Error::OffsetOutOfRange { .. } | Error::LogTruncated { .. } => {
            "begin with --offset earliest or --offset latest"
        }
        Error::MembershipEnded => "run the command again: it joins the group anew",
        other => return other.advice().map(as_hint),
    };
    Some(own.to_owned())
}

impl From<io::Error> for Failure {
    /// Of writing to standard output; failures of other files are given their names where they happen.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(Kind::Done);
        }
        Self::new(format!("cannot write to standard output: {error}"))
    }
}

/// A sentence as it stands behind "hint:".
fn as_hint(sentence: &str) -> String {
    let trimmed = sentence.trim_end_matches('.');
    let mut characters = trimmed.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_documentation() {
        let codes: Vec<u8> = EXIT_CODES.iter().map(|(kind, _)| kind.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 130]);
    }

    #[test]
    fn an_unreachable_broker_is_told_from_one_that_refuses() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = Error::Connect {
            address: "127.0.0.1:1".into(),
            source: refused.into(),
        };
        let failure = Failure::from(error);
        assert_eq!(failure.kind, Kind::Unreachable);
        assert!(failure.advice.unwrap().contains("--bootstrap"));
        let failure = Failure::from(Error::Closed("producer"));
        assert_eq!(failure.kind, Kind::Failed);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure, Failure::silent(Kind::Done));
        let failure = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(failure.kind, Kind::Failed);
    }

    #[test]
    fn hints_begin_small() {
        assert_eq!(as_hint("List the topics."), "list the topics");
        assert_eq!(as_hint(""), "");
    }
}
