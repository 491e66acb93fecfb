//! Which names a topic may have: Kafka's rules, and the names that are the broker's own.
//! Whether a topic of that name exists is not asked here.

/// The longest name. A partition's directory is named after its topic, and with the suffixes that a deleted one gets,
/// the name must stay within the 255 bytes of most file systems.
pub const LENGTH_MAX: usize = 249;

/// The topic of the metadata log. Nobody else may have it, and clients do not see it.
pub const METADATA_TOPIC: &str = "__stratalog_metadata";

/// Topics that belong to the broker, as Kafka names them: clients may read them, and not write to them.
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];
/// Names that cannot be created: the metadata log, and what a Kafka node calls its own.
const RESERVED: [&str; 2] = [METADATA_TOPIC, "__cluster_metadata"];

/// A name that a topic may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// No name at all.
    #[error("a topic's name must not be empty")]
    Empty,
    /// `.` or `..`, which are directories.
    #[error("a topic's name must not be . or ..")]
    Dots,
    /// Longer than [`LENGTH_MAX`].
    #[error("a topic's name must not be longer than {LENGTH_MAX} characters")]
    TooLong,
    /// A character that is not allowed.
    #[error("a topic's name consists of ASCII letters, digits, dots, underscores and dashes")]
    Character,
    /// A name of the broker's own.
    #[error("this name is reserved for the broker's own log")]
    Reserved,
}

/// Checks the name of a topic that is to be created.
///
/// # Errors
/// Why it may not have that name.
pub fn validate(name: &str) -> Result<(), TopicNameError> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() {
        Err(TopicNameError::Empty)
    } else if name == "." || name == ".." {
        Err(TopicNameError::Dots)
    } else if LENGTH_MAX < name.len() {
        Err(TopicNameError::TooLong)
    } else if !name.bytes().all(is_legal) {
        Err(TopicNameError::Character)
    } else if RESERVED.contains(&name) {
        Err(TopicNameError::Reserved)
    } else {
        Ok(())
    }
}

/// Whether the topic belongs to the broker.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name) || name == METADATA_TOPIC
}

/// The name with dots as underscores. Two topics with the same one would share the names of their metrics in
/// tools that know no dots, so Kafka refuses the second.
#[must_use]
pub fn folded(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafka_s_rules() {
        for name in [
            "a",
            "-a",
            "_",
            "__x",
            "a.b_c-D9",
            "...",
            "__consumer_offsets",
            &"a".repeat(249),
        ] {
            assert_eq!(validate(name), Ok(()), "{name}");
        }
        for (name, expected) in [
            ("", TopicNameError::Empty),
            (".", TopicNameError::Dots),
            ("..", TopicNameError::Dots),
            (&"a".repeat(250), TopicNameError::TooLong),
            ("a b", TopicNameError::Character),
            ("a/b", TopicNameError::Character),
            ("a\0", TopicNameError::Character),
            ("é", TopicNameError::Character),
            ("__stratalog_metadata", TopicNameError::Reserved),
            ("__cluster_metadata", TopicNameError::Reserved),
        ] {
            assert_eq!(validate(name), Err(expected), "{name}");
        }
    }

    #[test]
    fn the_broker_s_own_topics_are_known() {
        assert!(is_internal("__consumer_offsets") && is_internal(METADATA_TOPIC));
        assert!(!is_internal("__consumer_offset"));
        assert_eq!(folded("a.b_c"), folded("a_b.c"));
    }
}
