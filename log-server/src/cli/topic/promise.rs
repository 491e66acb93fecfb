//! What a topic promises to whoever writes with `acks=all`, in one sentence made from its settings.
//!
//! | `flush.messages` | `flush.ms` | promise |
//! |---|---|---|
//! | 1 | any | on the disk |
//! | more | unset | in memory; the system writes it when it likes |
//! | n | unset | in memory; on the disk after n records |
//! | … | t | in memory; on the disk after t at the latest |

use log_client::admin::ConfigEntry;

use crate::cli::units::{Count, Took};

/// Larger numbers of records or milliseconds mean "never".
const NEVER: u64 = i64::MAX.cast_unsigned();

/// The promise, or nothing when the broker does not name the settings.
pub(super) fn promise(configs: &[ConfigEntry]) -> Option<String> {
    let number = |name: &str| -> Option<u64> {
        let entry = configs.iter().find(|entry| entry.name == name)?;
        entry.value.as_deref()?.parse().ok()
    };
    let messages = number("flush.messages")?;
    let milliseconds = number("flush.ms").unwrap_or(NEVER);
    if messages == 1 {
        return Some("acks=all is answered when the record is on the disk".to_owned());
    }
    let mut when = Vec::new();
    if messages < NEVER {
        when.push(format!("after {} records", Count(messages)));
    }
    if milliseconds < NEVER {
        let took = Took(std::time::Duration::from_millis(milliseconds));
        when.push(format!("after {took}"));
    }
    let when = if when.is_empty() {
        "when the system writes it".to_owned()
    } else {
        when.join(" or ")
    };
    Some(format!(
        "acks=all is answered from memory; the record is on the disk {when}"
    ))
}

#[cfg(test)]
mod tests {
    use log_client::admin::{ConfigSource, ConfigType};

    use super::*;

    #[test]
    fn every_row_of_the_table() {
        let check = |messages: Option<&str>, milliseconds: Option<&str>, expected: Option<&str>| {
            let entries: Vec<ConfigEntry> = [("flush.messages", messages), ("flush.ms", milliseconds)]
                .into_iter()
                .filter_map(|(name, value)| {
                    Some(ConfigEntry {
                        name: name.to_owned(),
                        value: Some(value?.to_owned()),
                        source: ConfigSource::Default,
                        kind: ConfigType::Long,
                        is_read_only: false,
                        is_sensitive: false,
                        synonyms: Vec::new(),
                        documentation: None,
                    })
                })
                .collect();
            assert_eq!(promise(&entries).as_deref(), expected);
        };
        let never = Some("9223372036854775807");
        check(
            Some("1"),
            never,
            Some("acks=all is answered when the record is on the disk"),
        );
        check(
            never,
            never,
            Some("acks=all is answered from memory; the record is on the disk when the system writes it"),
        );
        check(
            Some("10000"),
            Some("1000"),
            Some(
                "acks=all is answered from memory; the record is on the disk after 10,000 records or after 1.00 s",
            ),
        );
        check(None, never, None);
        check(Some("x"), never, None);
    }
}
