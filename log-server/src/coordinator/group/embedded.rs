//! What members of the classic protocol tell each other under the protocol type [`CONSUMER`]: subscriptions and assignments.
//!
//! | subscription | since | assignment |
//! |---|---|---|
//! | version, int16 | 0 | version, int16 |
//! | topics, int32 and strings | 0 | topics, int32; each a string, int32 and partitions, int32 |
//! | user data, nullable bytes | 0 | user data, nullable bytes |
//! | owned partitions, as in an assignment | 1 | |
//! | generation, int32 | 2 | |
//! | rack, nullable string | 3 | |
//!
//! It comes from clients: nothing is believed, and memory is taken for what is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

/// The protocol type whose metadata is understood, and the only one that KIP-848 groups have.
pub(super) const CONSUMER: &str = "consumer";

/// Partitions by the names of their topics.
pub(super) type NamedPartitions = Vec<(Arc<str>, Vec<i32>)>;

/// What a member wants, and has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    /// The version it is written in.
    pub(super) version: i16,
    pub(super) topics: Vec<Arc<str>>,
    pub(super) owned: NamedPartitions,
    pub(super) rack_id: Option<Arc<str>>,
}

/// What a leader gave a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EmbeddedAssignment {
    pub(super) partitions: NamedPartitions,
    /// An assignor of the clients' own put something in for itself.
    pub(super) has_user_data: bool,
}

/// Adds a subscription's topics; nothing if they cannot be read. Nothing behind them is looked at: whatever it is, offsets of topics that are
/// read are neither deleted nor expire.
pub(super) fn add_topics(subscription: &[u8], topics: &mut BTreeSet<Arc<str>>) -> Option<()> {
    let mut input = Input(subscription);
    input.version()?;
    // Each topic takes two bytes at least, so a number that lies ends with the bytes.
    for _ in 0..input.count()? {
        let name = input.text()?;
        if !topics.contains(name) {
            topics.insert(name.into());
        }
    }
    Some(())
}

/// Reads a subscription; nothing if it is none.
pub(super) fn read_subscription(bytes: &[u8]) -> Option<Subscription> {
    let mut input = Input(bytes);
    let version = input.version()?;
    let count = input.count()?;
    let topics = (0..count).map(|_| input.string()).collect::<Option<_>>()?;
    input.skip_bytes()?;
    let mut subscription = Subscription {
        version,
        topics,
        ..Subscription::default()
    };
    if 1 <= version {
        subscription.owned = input.partitions()?;
    }
    if 2 <= version {
        input.i32()?;
    }
    if 3 <= version {
        subscription.rack_id = input.rack();
    }
    Some(subscription)
}

/// Reads an assignment; nothing if it is none. No bytes are an assignment without partitions.
pub(super) fn read_assignment(bytes: &[u8]) -> Option<EmbeddedAssignment> {
    if bytes.is_empty() {
        return Some(EmbeddedAssignment::default());
    }
    let mut input = Input(bytes);
    input.version()?;
    Some(EmbeddedAssignment {
        partitions: input.partitions()?,
        has_user_data: input.skip_bytes()? != 0,
    })
}

/// Writes an assignment.
pub(super) fn write_assignment(version: i16, partitions: &NamedPartitions) -> Bytes {
    const NEWEST: i16 = 3;
    let mut output = BytesMut::new();
    output.put_i16(version.clamp(0, NEWEST));
    put_count(&mut output, partitions.len());
    for (topic, partitions) in partitions {
        output.put_i16(i16::try_from(topic.len()).expect("names of topics are short"));
        output.put_slice(topic.as_bytes());
        put_count(&mut output, partitions.len());
        for partition in partitions {
            output.put_i32(*partition);
        }
    }
    // No user data.
    output.put_i32(-1);
    output.freeze()
}

fn put_count(output: &mut BytesMut, count: usize) {
    output.put_i32(i32::try_from(count).expect("a member has no more partitions than there are"));
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn version(&mut self) -> Option<i16> {
        self.take()
            .map(i16::from_be_bytes)
            .filter(|version| 0 <= *version)
    }

    fn count(&mut self) -> Option<u32> {
        u32::try_from(self.i32()?).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(i16::from_be_bytes(self.take()?)).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn string(&mut self) -> Option<Arc<str>> {
        self.text().map(Arc::from)
    }

    /// A rack is mentioned by nobody who reads the rest, so one that is none counts as not given.
    fn rack(&mut self) -> Option<Arc<str>> {
        self.string().filter(|rack| !rack.is_empty())
    }

    /// Skips nullable bytes, and answers how many there were.
    fn skip_bytes(&mut self) -> Option<usize> {
        let length = self.i32()?;
        let Ok(length) = usize::try_from(length) else {
            return (length == -1).then_some(0);
        };
        self.0 = self.0.split_at_checked(length)?.1;
        Some(length)
    }

    fn partitions(&mut self) -> Option<NamedPartitions> {
        let count = self.count()?;
        (0..count)
            .map(|_| {
                let topic = self.string()?;
                let count = self.count()?;
                let partitions = (0..count).map(|_| self.i32()).collect::<Option<_>>()?;
                Some((topic, partitions))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_topics(subscription: &[u8], expected: Option<&[&str]>) {
        let mut topics = BTreeSet::new();
        let read = add_topics(subscription, &mut topics)
            .map(|()| topics.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        assert_eq!(read.as_deref(), expected, "{subscription:?}");
    }

    #[test]
    fn topics_are_read_from_every_version() {
        check_topics(
            b"\0\0\0\0\0\x02\0\x01b\0\x02aa\xff\xff\xff\xff",
            Some(&["aa", "b"]),
        );
        check_topics(
            b"\0\x03\0\0\0\x02\0\x01a\0\x01a\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\xff\xff",
            Some(&["a"]),
        );
        check_topics(b"\0\0\0\0\0\0", Some(&[]));
    }

    #[test]
    fn topics_of_what_is_no_subscription_are_unknown() {
        for bytes in [
            b"".as_slice(),
            b"\0",
            b"\xff\xff\0\0\0\0",
            b"\0\0\0\0\0",
            b"\0\0\xff\xff\xff\xff",
            b"\0\0\x7f\xff\xff\xff\0\0",
            b"\0\0\0\0\0\x01\0\x05aa",
            b"\0\0\0\0\0\x01\xff\xffaa",
            b"\0\0\0\0\0\x01\0\x01\xff",
            b"a protocol of our own",
        ] {
            check_topics(bytes, None);
        }
    }

    #[test]
    fn subscriptions_of_all_versions_are_read() {
        let plain = b"\0\0\0\0\0\x02\0\x01b\0\x01a\xff\xff\xff\xff";
        let read = read_subscription(plain).unwrap();
        assert_eq!(read.topics, ["b".into(), "a".into()]);
        let newest = b"\0\x03\0\0\0\x01\0\x01a\0\0\0\x01x\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\x04\0\0\0\x05\0\0\0\x07\0\x02r1";
        let read = read_subscription(newest).unwrap();
        assert_eq!(read.owned, [("a".into(), vec![4, 5])]);
        assert_eq!((read.version, read.rack_id), (3, Some("r1".into())));
        // Without the rack it is one still.
        for cut in 0..newest.len() - 4 {
            assert_eq!(read_subscription(&newest[..cut]), None, "{cut}");
        }
        assert_eq!(read_subscription(b"\xff\xff\0\0\0\0\xff\xff\xff\xff"), None);
        assert_eq!(read_subscription(b"\0\0\x7f\xff\xff\xff\0\0"), None);
    }

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        let partitions = vec![("a".into(), vec![0, 3]), ("b".into(), vec![1])];
        let bytes = write_assignment(9, &partitions);
        assert_eq!(&bytes[..2], &[0, 3]);
        let read = read_assignment(&bytes).unwrap();
        assert_eq!((read.partitions, read.has_user_data), (partitions, false));
        assert_eq!(read_assignment(b""), Some(EmbeddedAssignment::default()));
        assert!(read_assignment(b"\0\0\0\0\0\0\0\0\0\x01u").unwrap().has_user_data);
        assert_eq!(read_assignment(b"\0\0"), None);
    }
}
