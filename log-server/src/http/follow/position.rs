//! Places in the partitions of a topic as text: `0:17,3:4`, the next offset of each. It is the `id` of an event, and comes back as
//! `Last-Event-ID`, or as the parameter `position` of those who cannot set headers, such as a browser's sockets.

use std::fmt;

use axum::http::HeaderMap;
use log_core::model::Offset;

use crate::http::problem::{Code, Problem};

/// The header with which a reader comes back.
const LAST_EVENT_ID: &str = "last-event-id";

/// The next offset of each partition, in the order of the partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Positions(Vec<(i32, Offset)>);

impl Positions {
    /// The positions that a reader comes back with; none if it comes for the first time. The header counts more: a browser that connects
    /// again sends it to the address that it had at first.
    pub(super) fn of_request(headers: &HeaderMap, parameter: Option<&str>) -> Result<Self, Problem> {
        let header = headers
            .get(LAST_EVENT_ID)
            .map(|value| value.to_str().unwrap_or("?"));
        let text = header.or(parameter).unwrap_or_default();
        Self::parse(text).ok_or_else(|| {
            let text = crate::http::parameters::shortened(text);
            Problem::invalid(format!(
                "Last-Event-ID or position {text:?} is none of this route's: such as 0:17,3:4"
            ))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let place = |text: &str| {
            let (partition, next) = text.split_once(':')?;
            let (partition, next) = (partition.parse().ok()?, next.parse::<i64>().ok()?);
            (0 <= partition && 0 <= next).then(|| (partition, Offset::new(next)))
        };
        let mut places: Vec<_> = text.split(',').map(place).collect::<Option<_>>()?;
        places.sort_unstable();
        let is_told_once = places.is_sorted_by(|(a, _), (b, _)| a < b);
        is_told_once.then_some(Self(places))
    }

    /// Whether nobody comes back.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next offset of a partition.
    pub(super) fn get(&self, partition: i32) -> Option<Offset> {
        let place = self
            .0
            .binary_search_by_key(&partition, |(partition, _)| *partition)
            .ok()?;
        self.0.get(place).map(|(_, next)| *next)
    }

    /// Moves on in a partition that it has.
    pub(super) fn set(&mut self, partition: i32, next: Offset) {
        let place = self
            .0
            .binary_search_by_key(&partition, |(partition, _)| *partition);
        if let Some(entry) = place.ok().and_then(|place| self.0.get_mut(place)) {
            entry.1 = next;
        }
    }
}

impl FromIterator<(i32, Offset)> for Positions {
    fn from_iter<I: IntoIterator<Item = (i32, Offset)>>(places: I) -> Self {
        let mut places: Vec<_> = places.into_iter().collect();
        places.sort_unstable();
        Self(places)
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (partition, next)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(formatter, "{comma}{partition}:{next}")?;
        }
        Ok(())
    }
}

/// The partitions that a reader asks for, each once and in order; all when it does not say.
pub(super) fn partitions(asked: Option<&str>, count: i32) -> Result<Vec<i32>, Problem> {
    let Some(asked) = asked else {
        return Ok((0..count).collect());
    };
    let numbers: Result<Vec<i32>, _> = asked.split(',').map(str::parse).collect();
    let mut numbers = numbers.map_err(|_| Problem::invalid("partitions are numbers, parted by commas"))?;
    numbers.sort_unstable();
    numbers.dedup();
    match numbers.iter().find(|number| !(0..count).contains(*number)) {
        Some(unknown) => {
            let text = format!("there is no partition {unknown}: the topic has {count}, counted from 0");
            Err(Problem::new(Code::UnknownPartition, text))
        }
        None => Ok(numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_out_and_come_back() {
        let mut positions: Positions = [(3, Offset::new(4)), (0, Offset::new(17))].into_iter().collect();
        assert_eq!(positions.to_string(), "0:17,3:4");
        assert_eq!(Positions::parse("3:4,0:17"), Some(positions.clone()));
        positions.set(3, Offset::new(9));
        positions.set(1, Offset::new(1));
        assert_eq!(positions.to_string(), "0:17,3:9");
        assert_eq!(
            (positions.get(0), positions.get(1)),
            (Some(Offset::new(17)), None)
        );
        assert_eq!(Positions::parse(""), Some(Positions::default()));
        for text in [
            "0",
            "0:",
            "0:x",
            "0:-1",
            "-1:0",
            "0:1,0:2",
            "0:1,",
            "0:99999999999999999999",
        ] {
            assert_eq!(Positions::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_header_counts_more_than_the_parameter() {
        let next = |header: Option<&'static str>, parameter| {
            let value = header.map(|value| (LAST_EVENT_ID.parse().unwrap(), value.parse().unwrap()));
            let headers: HeaderMap = value.into_iter().collect();
            let positions = Positions::of_request(&headers, parameter);
            positions.map(|positions| positions.get(0).map(Offset::get))
        };
        assert_eq!(next(None, None), Ok(None));
        assert_eq!(next(None, Some("0:5")), Ok(Some(5)));
        assert_eq!(next(Some("0:7"), Some("0:5")), Ok(Some(7)));
        assert!(next(None, Some("x")).is_err() && next(Some("x"), Some("0:5")).is_err());
    }

    #[test]
    fn partitions_are_named_once() {
        assert_eq!(partitions(None, 3).unwrap(), [0, 1, 2]);
        assert_eq!(partitions(Some("2,0,2"), 3).unwrap(), [0, 2]);
        assert!(partitions(Some("3"), 3).is_err() && partitions(Some("-1"), 3).is_err());
        assert!(partitions(Some(""), 3).is_err() && partitions(Some("a"), 3).is_err());
    }
}
