//! Types of settings, which values they accept, and the one spelling in which a value is kept and shown.
//!
//! The rules are Kafka's: surrounding blanks do not count, integers may carry a plus sign, booleans any case, lists are
//! parted by commas. Two spellings that Java's number parser lets through are refused here, because
//! nobody means them: `NaN` and a trailing `d` or `f`.

use std::fmt;
use std::num::{IntErrorKind, ParseIntError};

/// The largest value of a setting, in bytes; Kafka's limit, because its records carry a 16-bit length.
pub const VALUE_BYTES_MAX: usize = 32_767;

/// The type of a setting, as `DescribeConfigs` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// A 16-bit integer.
    Short,
    /// A 32-bit integer.
    Int,
    /// A 64-bit integer.
    Long,
    /// A floating-point number.
    Double,
    /// Texts, parted by commas.
    List,
}

impl Kind {
    /// The number of the type in a `DescribeConfigs` response.
    #[must_use]
    pub const fn wire_id(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Short => "short",
            Self::Int => "int",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
        })
    }
}

/// Which values of its type a setting accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// All.
    Any,
    /// Numbers from this one on.
    AtLeast(i64),
    /// Numbers from the first to the second, both included.
    Between(i64, i64),
    /// Numbers from the first to the second, or the third, which stands for "none" or "default".
    BetweenOr(i64, i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any of these words; repetitions do not count, the empty list is accepted.
    ListOf(&'static [&'static str]),
    /// `partition:broker` pairs, or `*` for all.
    ReplicaList,
    /// Origins of web pages: scheme and host, with a port if it is not the scheme's own.
    Origins,
    /// `host:port`; port 0 lets the system choose.
    Address,
    /// Where somebody else serves HTTP, with the beginning of a path or without.
    HttpEndpoint,
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::AtLeast(low) => write!(formatter, "{low} or more"),
            Self::Between(low, high) if low == high => write!(formatter, "{low}"),
            Self::Between(low, high) => write!(formatter, "{low} to {high}"),
            Self::BetweenOr(low, i64::MAX, other) => write!(formatter, "{low} or more, or {other}"),
            Self::BetweenOr(low, high, other) => write!(formatter, "{low} to {high}, or {other}"),
            Self::OneOf(words) => formatter.write_str(&words.join(", ")),
            Self::ListOf(words) => write!(formatter, "any of {}", words.join(", ")),
            Self::ReplicaList => formatter.write_str("partition:broker pairs or *"),
            Self::Origins => formatter.write_str("origins such as https://app.example"),
            Self::Address => formatter.write_str("host:port"),
            Self::HttpEndpoint => formatter.write_str("an address such as http://localhost:4318"),
        }
    }
}

/// A value that a setting does not accept. The text says why, behind the name that the caller knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not valid: {reason}")]
pub struct ValueError {
    /// What was given, cut when it is long.
    pub value: String,
    /// What would be accepted.
    pub reason: String,
}

/// Checks `text` against a setting's type and rule, and returns its canonical spelling.
///
/// # Errors
/// When the text is not of that type, not within the rule, or longer than [`VALUE_BYTES_MAX`].
pub fn canonical(kind: Kind, rule: Rule, text: &str) -> Result<String, ValueError> {
    let trimmed = text.trim_matches(|character: char| character <= ' ');
    let refuse = |reason: String| ValueError {
        value: text.chars().take(80).collect(),
        reason,
    };
    if VALUE_BYTES_MAX < text.len() {
        return Err(refuse(format!(
            "it has {} bytes, and {VALUE_BYTES_MAX} is the most a value may have",
            text.len()
        )));
    }
    match kind {
        Kind::Boolean => boolean(trimmed).map(|value| value.to_string()),
        Kind::Short => integer(rule, trimmed, i64::from(i16::MIN), i64::from(i16::MAX)),
        Kind::Int => integer(rule, trimmed, i64::from(i32::MIN), i64::from(i32::MAX)),
        Kind::Long => integer(rule, trimmed, i64::MIN, i64::MAX),
        Kind::Double => double(rule, trimmed),
        Kind::String => word(rule, trimmed),
        Kind::List => list(rule, trimmed),
    }
    .map_err(refuse)
}

fn boolean(text: &str) -> Result<bool, String> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err("expected true or false".to_owned())
    }
}

/// A whole number of a type from `low` to `high`. What is none is answered with the setting's rule: the type's range
/// would promise more.
fn integer(rule: Rule, text: &str, low: i64, high: i64) -> Result<String, String> {
    let range = || format!("expected a whole number from {low} to {high}");
    match text.parse::<i64>() {
        Ok(value) if low <= value && value <= high => within(rule, value),
        Err(error) if is_no_number(&error) && rule != Rule::Any => {
            Err(format!("expected a whole number: {rule}"))
        }
        _ => Err(range()),
    }
}

fn is_no_number(error: &ParseIntError) -> bool {
    !matches!(
        error.kind(),
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow
    )
}

fn within(rule: Rule, value: i64) -> Result<String, String> {
    let fits = match rule {
        Rule::AtLeast(low) => low <= value,
        Rule::Between(low, high) => low <= value && value <= high,
        Rule::BetweenOr(low, high, other) => value == other || low <= value && value <= high,
        _ => true,
    };
    if fits {
        Ok(value.to_string())
    } else {
        Err(format!("expected {rule}"))
    }
}

fn double(rule: Rule, text: &str) -> Result<String, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if !value.is_finite() {
        return Err("expected a finite number".to_owned());
    }
    // The bounds of fractional settings are small whole numbers, which an f64 holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "bounds are small whole numbers")]
    let fits = match rule {
        Rule::AtLeast(low) => low as f64 <= value,
        Rule::Between(low, high) => low as f64 <= value && value <= high as f64,
        _ => true,
    };
    if fits {
        Ok(spelled(value))
    } else {
        Err(format!("expected {rule}"))
    }
}

/// As Java spells it: with an exponent from ten millions on, and below a thousandth.
fn spelled(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

fn word(rule: Rule, text: &str) -> Result<String, String> {
    let fits = match rule {
        Rule::OneOf(words) => words.contains(&text),
        Rule::Address => is_address(text),
        Rule::HttpEndpoint => is_http_endpoint(text),
        _ => true,
    };
    if fits {
        Ok(text.to_owned())
    } else if let Rule::OneOf(_) = rule {
        Err(format!("expected one of {rule}"))
    } else {
        Err(format!("expected {rule}"))
    }
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty() && !host.contains([':', '/', ' ', '[', ']']);
    (bracketed || plain) && port.parse::<u16>().is_ok() && !port.starts_with('+')
}

/// Without TLS, which nothing here has.
fn is_http_endpoint(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://") else {
        return false;
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?#@\"<>\\^`{|}".contains(&byte);
    let address = if authority.contains(':') && !authority.ends_with(']') {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    is_address(&address) && authority.bytes().chain(path.bytes()).all(is_plain)
}

fn list(rule: Rule, text: &str) -> Result<String, String> {
    let parts = split_list(text);
    match rule {
        Rule::ListOf(words) => {
            let mut distinct: Vec<&str> = Vec::with_capacity(parts.len());
            for part in parts {
                if part.is_empty() {
                    return Err("an element is empty".to_owned());
                }
                if !words.contains(&part) {
                    return Err(format!("{part:?} is none of {}", words.join(", ")));
                }
                if !distinct.contains(&part) {
                    distinct.push(part);
                }
            }
            Ok(distinct.join(","))
        }
        Rule::ReplicaList if text != "*" && !parts.iter().all(|part| is_replica(part)) => {
            Err("expected partition:broker,partition:broker,… or *".to_owned())
        }
        Rule::Origins => match parts.iter().find(|part| !is_origin(part)) {
            Some(part) => Err(format!("{part:?} is no origin such as https://app.example")),
            None => Ok(parts.join(",")),
        },
        _ => Ok(parts.join(",")),
    }
}

/// The elements of a list as it is written in a setting; the empty text is the empty list.
#[must_use]
pub fn split_list(text: &str) -> Vec<&str> {
    if text.trim().is_empty() {
        Vec::new()
    } else {
        text.split(',').map(str::trim).collect()
    }
}

/// As browsers spell it: in lower case, and nothing behind the host and port.
fn is_origin(text: &str) -> bool {
    let host = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    host.is_some_and(|host| {
        let is_fit =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]".contains(&byte);
        !host.is_empty() && host.bytes().all(is_fit)
    })
}

fn is_replica(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.is_empty()
        || text
            .split_once(':')
            .is_some_and(|(partition, broker)| digits(partition) && digits(broker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_one_spelling() {
        let policies = Rule::ListOf(&["compact", "delete"]);
        for (kind, rule, text, expected) in [
            (Kind::Boolean, Rule::Any, " TRUE ", "true"),
            (Kind::Int, Rule::Any, "+7", "7"),
            (Kind::Long, Rule::AtLeast(-1), " -1 ", "-1"),
            (Kind::Double, Rule::Between(0, 1), "1", "1.0"),
            (Kind::Double, Rule::Between(0, 1), "1e-1", "0.1"),
            (Kind::Double, Rule::Between(0, 1), "0.0005", "5.0E-4"),
            (Kind::Double, Rule::AtLeast(1), "12345678", "1.2345678E7"),
            (Kind::Double, Rule::AtLeast(1), "9999999", "9999999.0"),
            (Kind::List, policies, "compact , delete,compact", "compact,delete"),
            (Kind::List, policies, " ", ""),
            (Kind::List, Rule::ReplicaList, "0:1, 1:1", "0:1,1:1"),
            (
                Kind::List,
                Rule::Origins,
                "https://a.example, http://localhost:3000",
                "https://a.example,http://localhost:3000",
            ),
            (Kind::String, Rule::OneOf(&["a", "b"]), " b ", "b"),
            (Kind::String, Rule::Address, "[::1]:9092", "[::1]:9092"),
            (Kind::String, Rule::Address, "localhost:0", "localhost:0"),
            (
                Kind::String,
                Rule::HttpEndpoint,
                "http://[::1]:4318",
                "http://[::1]:4318",
            ),
            (
                Kind::String,
                Rule::HttpEndpoint,
                "http://tempo/a/b/",
                "http://tempo/a/b/",
            ),
        ] {
            assert_eq!(canonical(kind, rule, text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_refused_says_what_would_do() {
        for (kind, rule, text, reason) in [
            (Kind::Boolean, Rule::Any, "yes", "true or false"),
            (Kind::Int, Rule::Any, "2147483648", "2147483647"),
            (Kind::Int, Rule::AtLeast(4), "3", "4 or more"),
            (Kind::Int, Rule::BetweenOr(1, 9, -1), "0", "1 to 9, or -1"),
            (
                Kind::Long,
                Rule::Any,
                "1.0",
                "whole number from -9223372036854775808",
            ),
            (Kind::Long, Rule::AtLeast(-1), "7d", "whole number: -1 or more"),
            (
                Kind::Long,
                Rule::AtLeast(-1),
                "9223372036854775808",
                "to 9223372036854775807",
            ),
            (Kind::Double, Rule::Between(0, 1), "1.5", "0 to 1"),
            (Kind::Double, Rule::Any, "NaN", "finite"),
            (Kind::String, Rule::OneOf(&["a", "b"]), "c", "one of a, b"),
            (Kind::List, Rule::ListOf(&["a"]), "a,,a", "empty"),
            (Kind::List, Rule::ListOf(&["a"]), "x", "\"x\""),
            (Kind::List, Rule::ReplicaList, "0-1", "partition:broker"),
            (Kind::String, Rule::Address, "localhost", "host:port"),
            (Kind::String, Rule::Address, "::1:9092", "host:port"),
            (
                Kind::String,
                Rule::HttpEndpoint,
                "https://tempo",
                "http://localhost:4318",
            ),
            (
                Kind::String,
                Rule::HttpEndpoint,
                "http://",
                "http://localhost:4318",
            ),
            (
                Kind::String,
                Rule::HttpEndpoint,
                "http://a:b",
                "http://localhost:4318",
            ),
            (
                Kind::String,
                Rule::HttpEndpoint,
                "http://a/b c",
                "http://localhost:4318",
            ),
            (
                Kind::String,
                Rule::HttpEndpoint,
                "http://me@a:1",
                "http://localhost:4318",
            ),
            (Kind::String, Rule::Address, "a:+1", "host:port"),
        ] {
            let error = canonical(kind, rule, text).unwrap_err();
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        let error = canonical(Kind::String, Rule::Any, &long).unwrap_err();
        assert!(error.reason.contains("32768"), "{error}");
        assert!(canonical(Kind::String, Rule::Any, &"x".repeat(VALUE_BYTES_MAX)).is_ok());
    }
}
