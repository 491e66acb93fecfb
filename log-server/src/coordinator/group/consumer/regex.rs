//! Subscriptions by pattern: which topics a pattern matches.
//!
//! A pattern matches whole names, and takes time linear in them, whatever it is (Kafka's are RE2's, too). It is resolved when the
//! first member brings it, and again when topics came or went; what it matched is in a record, so that all members mean the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::context::{Context, Topics};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::{ConsumerMemberValue, ConsumerRegexValue, GroupRecord};

/// How long a pattern may be: longer than anything a person writes, and short enough to be compiled in no time.
const PATTERN_BYTES_MAX: usize = 4_096;
/// How much memory a pattern may take when it is compiled. Repetitions of repetitions are what makes one large.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// The patterns of a group and what they matched.
pub(super) type Regexes = BTreeMap<Arc<str>, Arc<ConsumerRegexValue>>;

/// A pattern for whole names.
#[derive(Debug)]
pub(super) struct TopicPattern(Regex);

impl TopicPattern {
    /// Compiles a pattern.
    pub(super) fn new(pattern: &str) -> Result<Self, GroupError> {
        let refuse = |reason: &dyn std::fmt::Display| {
            GroupError::InvalidRegularExpression(format!(
                "SubscribedTopicRegex `{pattern}` is not a valid regular expression: {reason}."
            ))
        };
        if PATTERN_BYTES_MAX < pattern.len() {
            return Err(GroupError::InvalidRegularExpression(format!(
                "SubscribedTopicRegex is longer than {PATTERN_BYTES_MAX} bytes."
            )));
        }
        let compile = |pattern: &str| {
            RegexBuilder::new(pattern)
                .size_limit(COMPILED_BYTES_MAX)
                .dfa_size_limit(COMPILED_BYTES_MAX)
                .build()
        };
        // On its own first: `a)(b` is none, though it would be one in parentheses.
        compile(pattern).map_err(|error| refuse(&last_line(&error.to_string())))?;
        // The line break ends a comment that a pattern in the `x` style may end with.
        let whole =
            compile(&format!(r"\A(?:{pattern})\z")).or_else(|_| compile(&format!("\\A(?:{pattern}\n)\\z")));
        whole
            .map(Self)
            .map_err(|error| refuse(&last_line(&error.to_string())))
    }

    /// The topics it matches, in order.
    fn matches(&self, names: &[Arc<str>]) -> Vec<Arc<str>> {
        let mut matched: Vec<_> = names
            .iter()
            .filter(|name| self.0.is_match(name))
            .cloned()
            .collect();
        matched.sort_unstable();
        matched
    }
}

/// The library draws a picture of where it failed; the reason stands below it.
fn last_line(error: &str) -> String {
    let line = error.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// What became of the patterns of a group.
pub(super) struct Resolved {
    pub(super) regexes: Regexes,
    /// Whether the topics of any pattern are not what they were, or a member reads others by its new pattern.
    pub(super) changed: bool,
}

/// Resolves the patterns as they will be with this member, where that is called for: those that nobody resolved, and all of them when
/// topics have changed or the last time is long ago. Adds the records of what changed.
pub(super) fn resolve(
    group: &ConsumerGroup,
    context: &mut Context<'_>,
    member_id: &str,
    before: &ConsumerMemberValue,
    after: &ConsumerMemberValue,
) -> Result<Resolved, GroupError> {
    let mut regexes = group.regexes.clone();
    let mut changed = false;
    if before.subscribed_regex != after.subscribed_regex {
        changed = matched(&regexes, before) != matched(&regexes, after);
        if let Some(regex) = &before.subscribed_regex {
            let others = group.members.iter().filter(|(id, _)| ***id != *member_id);
            let mut wishes = others.map(|(_, member)| &member.description.subscribed_regex);
            if !wishes.any(|wish| wish.as_ref() == Some(regex)) && regexes.remove(regex).is_some() {
                context.records.push(record(group, regex, None));
            }
        }
        if let Some(regex) = &after.subscribed_regex
            && !regexes.contains_key(regex)
        {
            let value = resolve_one(regex, context.topics, context.now.get())?;
            changed |= !value.topics.is_empty();
            context.records.push(record(group, regex, Some(&value)));
            regexes.insert(Arc::clone(regex), Arc::new(value));
        }
    }
    changed |= refresh(group, context, &mut regexes);
    Ok(Resolved { regexes, changed })
}

/// Resolves all patterns again if the topics are others than at the last look.
fn refresh(group: &ConsumerGroup, context: &mut Context<'_>, regexes: &mut Regexes) -> bool {
    if group.seen.topics_version == Some(context.topics.version()) {
        return false;
    }
    let mut changed = false;
    for (regex, value) in regexes.iter_mut() {
        // It was accepted once. If it is not any longer, it keeps what it had.
        let Ok(now) = resolve_one(regex, context.topics, context.now.get()) else {
            continue;
        };
        if now.topics != value.topics {
            context.records.push(record(group, regex, Some(&now)));
            *value = Arc::new(now);
            changed = true;
        }
    }
    changed
}

fn resolve_one(regex: &str, topics: &dyn Topics, now_ms: i64) -> Result<ConsumerRegexValue, GroupError> {
    Ok(ConsumerRegexValue {
        topics: TopicPattern::new(regex)?.matches(&topics.names()),
        version: i64::try_from(topics.version()).unwrap_or(i64::MAX),
        timestamp_ms: now_ms,
    })
}

fn matched<'a>(regexes: &'a Regexes, member: &ConsumerMemberValue) -> &'a [Arc<str>] {
    let value = member
        .subscribed_regex
        .as_ref()
        .and_then(|regex| regexes.get(regex));
    value.map_or(&[], |value| value.topics.as_slice())
}

fn record(group: &ConsumerGroup, regex: &Arc<str>, value: Option<&ConsumerRegexValue>) -> GroupRecord {
    GroupRecord::ConsumerRegex {
        group: Arc::clone(&group.id),
        regex: Arc::clone(regex),
        value: value.cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let compiled = TopicPattern::new(pattern).unwrap();
        for (names, expected) in [(matching, true), (others, false)] {
            for name in names {
                let name = [Arc::from(*name)];
                assert_eq!(
                    !compiled.matches(&name).is_empty(),
                    expected,
                    "{pattern} {name:?}"
                );
            }
        }
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        check("log", &["log"], &["logs", "my-log", "log\n"]);
        check("log.*", &["log", "logs"], &["my-log"]);
        check("a|ab", &["a", "ab"], &["abc", "b"]);
        check("(?i)A", &["a", "A"], &["aa"]);
        check("(?x) a # of one letter", &["a"], &["a # of one letter"]);
        check("^a$", &["a"], &["ab"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in [
            "a)(b",
            "[",
            "*",
            "(?=a)b",
            &"a".repeat(5_000),
            "(?:(?:a{1000}){1000}){1000}",
        ] {
            let refused = TopicPattern::new(pattern).unwrap_err();
            assert!(
                matches!(refused, GroupError::InvalidRegularExpression(_)),
                "{refused}"
            );
        }
    }
}
