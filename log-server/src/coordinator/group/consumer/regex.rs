//! Subscriptions by pattern: which topics a pattern matches.
//!
//! A pattern matches whole names, and takes time linear in them, whatever it is (Kafka's are RE2's, too). It is resolved when the
//! first member brings it, and again when topics came or went; what it matched is in a record, so that all members mean the same.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::context::Context;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::{ConsumerMemberValue, ConsumerRegexValue, GroupRecord};
use crate::pattern::{PatternError, WholeNamePattern};

/// So many compiled patterns are kept, for all groups together: most groups have none, and one that does has one or two.
const KEPT_MAX: usize = 64;

/// The patterns that were compiled last, for all patterns are matched again with each change of the topics. What is here follows from the pattern alone, so that no command's outcome depends on it.
static KEPT: Mutex<KeptPatterns> = Mutex::new(KeptPatterns(VecDeque::new()));

/// Patterns and what they were compiled to, the newest first.
#[derive(Debug)]
struct KeptPatterns(VecDeque<(Arc<str>, Arc<TopicPattern>)>);

impl KeptPatterns {
    fn find(&self, pattern: &Arc<str>) -> Option<Arc<TopicPattern>> {
        let found = self.0.iter().find(|(of, _)| of == pattern);
        found.map(|(_, compiled)| Arc::clone(compiled))
    }

    fn keep(&mut self, pattern: &Arc<str>, compiled: &Arc<TopicPattern>) {
        // Another thread may have been as fast.
        if self.find(pattern).is_none() {
            self.0.truncate(KEPT_MAX - 1);
            self.0.push_front((Arc::clone(pattern), Arc::clone(compiled)));
        }
    }
}

/// The patterns of a group and what they matched.
pub(super) type Regexes = BTreeMap<Arc<str>, Arc<ConsumerRegexValue>>;

/// A pattern for names of topics.
#[derive(Debug)]
pub(super) struct TopicPattern(WholeNamePattern);

impl TopicPattern {
    /// Compiles a pattern.
    pub(super) fn new(pattern: &str) -> Result<Self, GroupError> {
        #[cfg(test)]
        tests::COMPILED.set(tests::COMPILED.get() + 1);
        WholeNamePattern::new(pattern)
            .map(Self)
            .map_err(|reason| refuse(pattern, &reason))
    }

    /// The same, if it was not compiled a short while ago.
    fn kept(pattern: &Arc<str>) -> Result<Arc<Self>, GroupError> {
        let found = KEPT.lock().find(pattern);
        if let Some(compiled) = found {
            return Ok(compiled);
        }
        let compiled = Arc::new(Self::new(pattern)?);
        KEPT.lock().keep(pattern, &compiled);
        Ok(compiled)
    }

    /// The topics it matches, in order.
    fn matches(&self, names: &[Arc<str>]) -> Vec<Arc<str>> {
        let mut matched: Vec<_> = names
            .iter()
            .filter(|name| self.0.matches(name))
            .cloned()
            .collect();
        matched.sort_unstable();
        matched
    }
}

fn refuse(pattern: &str, reason: &PatternError) -> GroupError {
    GroupError::InvalidRegularExpression(match reason {
        PatternError::TooLong => "SubscribedTopicRegex is too long.".to_owned(),
        PatternError::Syntax(reason) => {
            format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {reason}.")
        }
    })
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
            let value = resolve_one(regex, &context.topics.names(), context)?;
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
    if regexes.is_empty() {
        return false;
    }
    let mut changed = false;
    let names = context.topics.names();
    for (regex, value) in regexes.iter_mut() {
        // It was accepted once. If it is not any longer, it keeps what it had.
        let Ok(now) = resolve_one(regex, &names, context) else {
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

fn resolve_one(
    regex: &Arc<str>,
    names: &[Arc<str>],
    context: &Context<'_>,
) -> Result<ConsumerRegexValue, GroupError> {
    Ok(ConsumerRegexValue {
        topics: TopicPattern::kept(regex)?.matches(names),
        version: i64::try_from(context.topics.version()).unwrap_or(i64::MAX),
        timestamp_ms: context.now.get(),
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
pub(super) mod tests {
    use super::*;

    thread_local! {
        /// How many patterns this thread has compiled.
        pub(in super::super) static COMPILED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

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
    fn the_patterns_of_long_ago_are_forgotten() {
        let mut kept = KeptPatterns(VecDeque::new());
        let any = Arc::new(TopicPattern::new("a").unwrap());
        let pattern = |number: usize| Arc::<str>::from(number.to_string());
        for number in 0..=KEPT_MAX {
            kept.keep(&pattern(number), &any);
            kept.keep(&pattern(number), &any);
        }
        assert_eq!(kept.0.len(), KEPT_MAX);
        assert!(kept.find(&pattern(0)).is_none());
        assert!((1..=KEPT_MAX).all(|number| kept.find(&pattern(number)).is_some()));
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
