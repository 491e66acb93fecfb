//! What the members of a group are subscribed to, by name and by pattern, and what of it exists.
//! Topics that do not exist count for nothing until they do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::consumer::assignor::{GroupSpec, MemberSpec, TopicSpec};
use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::consumer::member::Member;
use crate::coordinator::group::consumer::regex::Regexes;
use crate::coordinator::group::consumer::target::NOTHING;
use crate::coordinator::group::context::Topics;
use crate::coordinator::group::record::ConsumerMemberValue;

/// What a member is subscribed to: by name, by pattern.
type Wish<'a> = (&'a [Arc<str>], Option<&'a str>);

/// The members of a group as they will be when this command's records are replayed.
#[derive(Debug)]
pub(super) struct Outlook<'a> {
    pub(super) group: &'a ConsumerGroup,
    /// In the order of their ids.
    members: Vec<(&'a str, &'a ConsumerMemberValue)>,
    regexes: &'a Regexes,
}

impl<'a> Outlook<'a> {
    /// The group with a member that is new or has changed.
    pub(super) fn with(
        group: &'a ConsumerGroup,
        regexes: &'a Regexes,
        member_id: &'a str,
        member: &'a Member,
    ) -> Self {
        let mut outlook = Self::of(group, regexes, |id| id != member_id);
        let place = outlook.members.partition_point(|(id, _)| *id < member_id);
        outlook.members.insert(place, (member_id, &member.description));
        outlook
    }

    /// The group without some members.
    pub(super) fn without(group: &'a ConsumerGroup, regexes: &'a Regexes, gone: &BTreeSet<Arc<str>>) -> Self {
        Self::of(group, regexes, |id| !gone.contains(id))
    }

    fn of(group: &'a ConsumerGroup, regexes: &'a Regexes, stays: impl Fn(&str) -> bool) -> Self {
        let members = group.members.iter().filter(|(id, _)| stays(id));
        Self {
            group,
            members: members
                .map(|(id, member)| (&**id, &*member.description))
                .collect(),
            regexes,
        }
    }

    /// A hash of all topics that are read and exist; it changes when one of them comes, goes, grows or is another.
    pub(super) fn metadata_hash(&self, topics: &dyn Topics) -> i64 {
        let mut names = BTreeSet::new();
        for (_, member) in &self.members {
            names.extend(
                member
                    .subscribed_topics
                    .iter()
                    .chain(matched(self.regexes, member)),
            );
        }
        // FNV-1a: it must stay the same from one version of this program to the next.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut mix = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        let mut any = false;
        for topic in names.into_iter().filter_map(|name| topics.by_name(name)) {
            mix(&topic.id.to_bytes());
            mix(&topic.partition_count.to_be_bytes());
            any = true;
        }
        if any { hash.cast_signed() } else { 0 }
    }

    /// What an assignor has to know.
    pub(super) fn spec(&self, topics: &dyn Topics) -> GroupSpec<'_> {
        let mut specs = Vec::new();
        let mut places: HashMap<&str, Option<usize>> = HashMap::new();
        // Most members say the same, and are looked up once.
        let mut known: BTreeMap<Wish<'_>, Arc<[usize]>> = BTreeMap::new();
        let mut members = Vec::with_capacity(self.members.len());
        for (member_id, member) in &self.members {
            let key = (
                member.subscribed_topics.as_slice(),
                member.subscribed_regex.as_deref(),
            );
            let subscribed = known.entry(key).or_insert_with(|| {
                let names = member
                    .subscribed_topics
                    .iter()
                    .chain(matched(self.regexes, member));
                let found = names.filter_map(|name| {
                    *places.entry(name).or_insert_with(|| {
                        let topic = topics.by_name(name)?;
                        specs.push(TopicSpec {
                            id: topic.id,
                            partition_count: topic.partition_count,
                        });
                        Some(specs.len() - 1)
                    })
                });
                let found: BTreeSet<usize> = found.collect();
                found.into_iter().collect()
            });
            members.push(MemberSpec {
                member_id,
                instance_id: member.instance_id.as_deref(),
                topics: Arc::clone(subscribed),
                target: self
                    .group
                    .targets
                    .get(*member_id)
                    .map_or(&*NOTHING, |target| target),
            });
        }
        GroupSpec {
            topics: specs,
            members,
        }
    }

    /// The assignor that most members want, among those that say so; the first of the settings if nobody does or several are
    /// wanted alike.
    pub(super) fn preferred_assignor<'s>(&self, assignors: &'s [String]) -> Option<&'s str> {
        let votes = |name: &str| {
            let members = self.members.iter();
            members
                .filter(|(_, member)| member.server_assignor.as_deref() == Some(name))
                .count()
        };
        let counted = assignors.iter().rev().map(|name| (votes(name), name.as_str()));
        counted.max_by_key(|(votes, _)| *votes).map(|(_, name)| name)
    }
}

fn matched<'a>(regexes: &'a Regexes, member: &ConsumerMemberValue) -> impl Iterator<Item = &'a Arc<str>> {
    let value = member
        .subscribed_regex
        .as_ref()
        .and_then(|regex| regexes.get(regex));
    value.into_iter().flat_map(|value| value.topics.iter())
}

/// Whether a member is subscribed to a topic that exists, by name or by a pattern that was resolved.
pub(super) fn is_subscribed(
    member: &ConsumerMemberValue,
    regexes: &Regexes,
    topics: &dyn Topics,
    topic_id: TopicId,
) -> bool {
    let Some(topic) = topics.by_id(topic_id) else {
        return false;
    };
    let mut names = member.subscribed_topics.iter().chain(matched(regexes, member));
    names.any(|name| *name == topic.name)
}
