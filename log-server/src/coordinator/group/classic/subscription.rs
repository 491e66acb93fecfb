//! The topics that a member of the protocol type "consumer" subscribed to, out of its metadata.
//!
//! Clients write the metadata and clients read it. The coordinator looks at the topics alone, so that offsets of topics that are
//! read are neither deleted nor expire. Every version of the format begins as version 0 does:
//!
//! | bytes | content |
//! |---|---|
//! | 2 | version |
//! | 4 | number of topics |
//! | 2 + n | each topic's length and name |
//!
//! Bytes that are not this make the topics unknown, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The protocol type whose metadata is understood.
pub(super) const CONSUMER: &str = "consumer";

/// Adds a subscription's topics; `None` if it cannot be read.
pub(super) fn add_topics(metadata: &[u8], topics: &mut BTreeSet<Arc<str>>) -> Option<()> {
    let (version, rest) = take::<2>(metadata)?;
    if i16::from_be_bytes(version) < 0 {
        return None;
    }
    let (count, mut rest) = take::<4>(rest)?;
    // Each topic takes two bytes at least, so a number that lies ends with the bytes.
    for _ in 0..u32::try_from(i32::from_be_bytes(count)).ok()? {
        let (length, after) = take::<2>(rest)?;
        let length = usize::try_from(i16::from_be_bytes(length)).ok()?;
        let (name, after) = after.split_at_checked(length)?;
        let name = std::str::from_utf8(name).ok()?;
        if !topics.contains(name) {
            topics.insert(name.into());
        }
        rest = after;
    }
    Some(())
}

fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    Some((*head, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(metadata: &[u8], expected: Option<&[&str]>) {
        let mut topics = BTreeSet::new();
        let read =
            add_topics(metadata, &mut topics).map(|()| topics.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        assert_eq!(read.as_deref(), expected, "{metadata:?}");
    }

    #[test]
    fn topics_are_read_from_every_version() {
        check(
            b"\0\0\0\0\0\x02\0\x01b\0\x02aa\xff\xff\xff\xff",
            Some(&["aa", "b"]),
        );
        check(
            b"\0\x03\0\0\0\x02\0\x01a\0\x01a\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\xff\xff",
            Some(&["a"]),
        );
        check(b"\0\0\0\0\0\0", Some(&[]));
    }

    #[test]
    fn what_is_no_subscription_is_unknown() {
        check(b"", None);
        check(b"\0", None);
        check(b"\xff\xff\0\0\0\0", None);
        check(b"\0\0\0\0\0", None);
        check(b"\0\0\xff\xff\xff\xff", None);
        check(b"\0\0\x7f\xff\xff\xff\0\0", None);
        check(b"\0\0\0\0\0\x01\0\x05aa", None);
        check(b"\0\0\0\0\0\x01\xff\xffaa", None);
        check(b"\0\0\0\0\0\x01\0\x01\xff", None);
        check(b"a protocol of our own", None);
    }
}
