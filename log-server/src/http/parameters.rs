//! What stands in the address of a request: path and query, read into types, refused with a problem that names what is wrong.
//!
//! Structures of parameters deny what they do not know (`deny_unknown_fields`): a typing error must not be taken for a wish.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use log_core::model::TimestampMs;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::http::problem::{Code, Problem};
use crate::time::TimeFormat;

/// The parameters behind `?`.
#[derive(Debug, Clone)]
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        match query {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => {
                let text = rejection.body_text();
                let reason = text.strip_prefix("Failed to deserialize query string: ");
                Err(Problem::invalid(format!(
                    "parameters: {}",
                    reason.unwrap_or(&text)
                )))
            }
        }
    }
}

/// Around routes that have none.
pub(crate) async fn refuse_parameters(request: Request, next: Next) -> Response {
    match request.uri().query() {
        None | Some("") => next.run(request).await,
        Some(given) => {
            let text = format!(
                "parameters: this route has none, and {:?} is given",
                shortened(given)
            );
            Problem::invalid(text).into_response()
        }
    }
}

/// The names in the path.
#[derive(Debug, Clone)]
pub(crate) struct Place<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Place<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        match path {
            Ok(Path(place)) => Ok(Self(place)),
            Err(rejection) => Err(Problem::new(Code::NotFound, rejection.body_text())),
        }
    }
}

/// A point in time: a number of milliseconds, or a date and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) TimestampMs);

impl Time {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.parse::<i64>() {
            Ok(ms) if 0 <= ms => Ok(Self(TimestampMs::new(ms))),
            _ => TimeFormat::Rfc3339.parse(text).map(Self).map_err(|_| {
                format!(
                    "{:?} is not a time: milliseconds since 1970, or such as 2026-01-31T12:00:00Z",
                    shortened(text)
                )
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(i64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(ms) if ms < 0 => Err(D::Error::custom("a time is not negative")),
            Either::Number(ms) => Ok(Self(TimestampMs::new(ms))),
            Either::Text(text) => Self::parse(&text).map_err(D::Error::custom),
        }
    }
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the first record.
    Earliest,
    /// Behind the last.
    Latest,
    /// At an offset.
    Offset(i64),
    /// So many offsets before the end.
    BeforeEnd(i64),
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong =
            || D::Error::custom("offset is a number, earliest, latest, or such as -10: ten before the end");
        match text.as_str() {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            number => match number.parse::<i64>().map_err(|_| wrong())? {
                offset @ 0.. => Ok(Self::Offset(offset)),
                before => Ok(Self::BeforeEnd(before.saturating_neg())),
            },
        }
    }
}

/// A text for a message: a few dozen characters of it.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_or_dates() {
        assert_eq!(Time::parse("5").unwrap().0.get(), 5);
        assert_eq!(
            Time::parse("2026-01-31T12:00:00Z").unwrap().0.get(),
            1_769_860_800_000
        );
        assert!(Time::parse("-5").is_err());
        assert!(Time::parse("yesterday").unwrap_err().contains("yesterday"));
        let time: Time = serde_json::from_str("\"1970-01-01\"").unwrap();
        assert_eq!(time.0.get(), 0);
    }

    #[test]
    fn reading_starts_at_an_end_an_offset_or_before_the_end() {
        let start = |text: &str| serde_json::from_value::<Start>(text.into());
        assert_eq!(start("earliest").unwrap(), Start::Earliest);
        assert_eq!(start("12").unwrap(), Start::Offset(12));
        assert_eq!(start("-3").unwrap(), Start::BeforeEnd(3));
        assert!(start("first").is_err());
    }
}
