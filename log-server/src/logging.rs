//! Where log lines go and how they look: to standard error, for people or as one JSON object a line.
//!
//! Set once per process. Standard output stays free for what commands print.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    #[default]
    Human,
    /// One JSON object a line, fields at the top level.
    Json,
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error(
        "{filter:?} is not a log filter ({reason}); write a level (error, warn, info, debug, trace) or \
         directives like info,log_server::kafka=debug"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What the parser says.
        reason: String,
    },
    /// Another part of the process set up its own log.
    #[error("the log is already set up")]
    AlreadySet,
}

/// Sends every `tracing` event that passes `filter` to standard error.
///
/// # Errors
/// A filter that cannot be read, or a second call.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LoggingError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(filter)?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let result = match format {
        LogFormat::Human => builder.with_target(false).try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
    };
    result.map_err(|_| LoggingError::AlreadySet)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| LoggingError::Filter {
            filter: filter.to_owned(),
            reason: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_filters_and_nonsense_is_named() {
        for filter in ["info", "warn,log_server::kafka=debug", "log_core=trace"] {
            assert!(parse_filter(filter).is_ok(), "{filter}");
        }
        let error = parse_filter("log_server=loud").unwrap_err().to_string();
        assert!(error.contains("log_server=loud"), "{error}");
    }
}
