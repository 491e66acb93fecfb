//! Patterns that clients send for names of topics and transactional ids, and administrators for clients.
//!
//! A pattern matches whole names, and takes time linear in them, whatever it is: Kafka's are RE2's, too.

use regex::{Regex, RegexBuilder};

/// How long a pattern may be: longer than anything a person writes, and short enough to be compiled in no time.
const PATTERN_BYTES_MAX: usize = 4_096;
/// How much memory a pattern may take when it is compiled. Repetitions of repetitions are what makes one large.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A pattern for whole names.
#[derive(Debug)]
pub struct WholeNamePattern(Regex);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is too long.
    #[error("it is longer than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    /// It cannot be compiled.
    #[error("{0}")]
    Syntax(String),
}

impl WholeNamePattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        if PATTERN_BYTES_MAX < pattern.len() {
            return Err(PatternError::TooLong);
        }
        let compile = |pattern: &str| {
            RegexBuilder::new(pattern)
                .size_limit(COMPILED_BYTES_MAX)
                .dfa_size_limit(COMPILED_BYTES_MAX)
                .build()
        };
        let refuse = |error: regex::Error| PatternError::Syntax(last_line(&error.to_string()));
        // On its own first: `a)(b` is none, though it would be one in parentheses.
        compile(pattern).map_err(refuse)?;
        // The line break ends a comment that a pattern in the `x` style may end with.
        let whole =
            compile(&format!(r"\A(?:{pattern})\z")).or_else(|_| compile(&format!("\\A(?:{pattern}\n)\\z")));
        whole.map(Self).map_err(refuse)
    }

    /// Whether it matches a name from its beginning to its end.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

/// The library draws a picture of where it failed; the reason stands below it.
fn last_line(error: &str) -> String {
    let line = error.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}
