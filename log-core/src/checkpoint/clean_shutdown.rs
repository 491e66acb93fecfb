//! The marker that the broker stopped in an orderly way (`.kafka_cleanshutdown`).
//!
//! ```text
//! {"version":0,"brokerEpoch":12}
//! ```
//!
//! The file is there or it is not: Kafka skips recovery when it is, whatever it says, and so an empty one, as
//! older Kafkas wrote it, counts too. Whoever trusts it must have synced every log before it was written and
//! must remove it, durably, before the first write after it. To recover although it is there is always safe;
//! that is what to do with one that does not parse.
//!
//! Kafka writes it with a JSON library; we read such an object of numbers, and ignore members that we do not know.

use super::error::{CheckpointError, CheckpointFile};

const FILE: CheckpointFile = CheckpointFile::CleanShutdown;
const VERSION: i64 = 0;
const OBJECT: &str = "a JSON object of numbers in braces";

/// What the marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanShutdown {
    /// The broker's epoch with its controller when it stopped (KIP-966), if it says so; -1 when it had none.
    pub broker_epoch: Option<i64>,
}

impl CleanShutdown {
    /// Reads the contents of a file.
    ///
    /// # Errors
    /// [`CheckpointError`]: not text, not such an object, another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let refuse = |expected, found: &str| CheckpointError::new(FILE, 1, expected, found);
        let text = std::str::from_utf8(bytes)
            .map_err(|_| refuse("text in UTF-8", &String::from_utf8_lossy(bytes)))?
            .trim();
        let mut marker = Self { broker_epoch: None };
        if text.is_empty() {
            return Ok(marker);
        }
        let members = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let members = members.ok_or_else(|| refuse(OBJECT, text))?;
        for member in members.split(',').filter(|_| !members.trim().is_empty()) {
            match parse_member(member).ok_or_else(|| refuse(OBJECT, member))? {
                ("version", Some(VERSION)) => (),
                ("version", _) => return Err(refuse("version 0", member)),
                ("brokerEpoch", epoch) => marker.broker_epoch = epoch,
                _ => (),
            }
        }
        Ok(marker)
    }

    /// The contents of a file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let epoch = self
            .broker_epoch
            .map_or_else(|| "null".to_owned(), |epoch| epoch.to_string());
        format!("{{\"version\":{VERSION},\"brokerEpoch\":{epoch}}}").into_bytes()
    }
}

/// `"name" : number`, where the number may be `null`.
fn parse_member(text: &str) -> Option<(&str, Option<i64>)> {
    let (name, value) = text.split_once(':')?;
    let name = name.trim().strip_prefix('"')?.strip_suffix('"')?;
    match value.trim() {
        "null" => Some((name, None)),
        number => Some((name, Some(number.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let marker = CleanShutdown {
            broker_epoch: Some(-1),
        };
        assert_eq!(marker.to_bytes(), br#"{"version":0,"brokerEpoch":-1}"#);
        for marker in [
            marker,
            CleanShutdown {
                broker_epoch: Some(12),
            },
            CleanShutdown { broker_epoch: None },
        ] {
            assert_eq!(CleanShutdown::parse(&marker.to_bytes()), Ok(marker));
        }
    }

    #[test]
    fn what_kafka_also_reads() {
        for (text, broker_epoch) in [
            ("", None),
            ("{}", None),
            (" { } \n", None),
            ("{\"version\":0}", None),
            (
                "{ \"brokerEpoch\" : 7 ,\n \"other\" : 3, \"version\" : 0 }\n",
                Some(7),
            ),
        ] {
            assert_eq!(
                CleanShutdown::parse(text.as_bytes()),
                Ok(CleanShutdown { broker_epoch }),
                "{text}"
            );
        }
    }

    #[test]
    fn damage_is_named() {
        let check = |text: &[u8], expected, found: &str| {
            let error = CheckpointError {
                file: FILE,
                line: 1,
                expected,
                found: found.to_owned(),
            };
            assert_eq!(
                CleanShutdown::parse(text),
                Err(error),
                "{}",
                String::from_utf8_lossy(text)
            );
        };
        check(b"{", OBJECT, "\"{\"");
        check(b"7", OBJECT, "\"7\"");
        check(b"{,}", OBJECT, "\"\"");
        check(b"{\"version\"}", OBJECT, "\"\\\"version\\\"\"");
        check(
            b"{\"brokerEpoch\":\"x\"}",
            OBJECT,
            "\"\\\"brokerEpoch\\\":\\\"x\\\"\"",
        );
        check(b"{\"version\":1}", "version 0", "\"\\\"version\\\":1\"");
        check(b"{\"version\":null}", "version 0", "\"\\\"version\\\":null\"");
        check(b"\0\0\0\0", OBJECT, "\"\\0\\0\\0\\0\"");
        check(b"\xff", "text in UTF-8", "\"\u{fffd}\"");
    }
}
