//! What a group consumer wants to read: topics by name, or all whose names match an expression.
//!
//! An expression matches whole names. Consumer groups send it to the coordinator, which speaks the same
//! dialect (RE2, without look-around and back-references); members of classic groups look for themselves.

use std::collections::BTreeSet;

use regex::Regex;

use crate::error::{Error, Result};

/// What is to be read.
#[derive(Debug, Clone)]
pub(crate) enum Subscription {
    Topics(BTreeSet<String>),
    Pattern(Pattern),
}

/// An expression for the names of topics.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    whole_name: Regex,
}

impl Subscription {
    pub(crate) fn topics(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let names: BTreeSet<String> = names.into_iter().map(Into::into).collect();
        if names.is_empty() {
            return Err(Error::config("a subscription names at least one topic"));
        }
        if names.iter().any(String::is_empty) {
            return Err(Error::config("a topic's name is not empty"));
        }
        Ok(Self::Topics(names))
    }

    pub(crate) fn pattern(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::config("the expression for topics is empty"));
        }
        let whole_name = Regex::new(&format!("^(?:{text})$"))
            .map_err(|error| Error::config(format!("the expression for topics: {error}")))?;
        Ok(Self::Pattern(Pattern {
            text: text.to_owned(),
            whole_name,
        }))
    }
}

impl Pattern {
    /// The expression as it was given.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the topic is wanted.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.whole_name.is_match(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_whole_names() {
        let Subscription::Pattern(pattern) = Subscription::pattern("orders|pay.*").unwrap() else {
            panic!()
        };
        for (topic, is_wanted) in [
            ("orders", true),
            ("orders-2", false),
            ("my-orders", false),
            ("payments", true),
            ("repay", false),
        ] {
            assert_eq!(pattern.matches(topic), is_wanted, "{topic}");
        }
        assert_eq!(pattern.text(), "orders|pay.*");
    }

    #[test]
    fn what_names_nothing_is_refused() {
        assert!(Subscription::pattern("").is_err());
        assert!(Subscription::pattern("a(").is_err());
        assert!(Subscription::pattern("(?=look)").is_err());
        assert!(Subscription::topics(Vec::<String>::new()).is_err());
        assert!(Subscription::topics(["a", ""]).is_err());
    }
}
