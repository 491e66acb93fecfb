//! Looks over a Produce request before the codec does, so that its structure cannot cost more memory than its size justifies.
//!
//! A Produce frame may be large, because records are; the codec makes a struct of every array element and takes memory for as many
//! tags as are announced. A hundred megabytes of empty partitions would become gigabytes. An honest request has a
//! batch of 61 bytes or more in each partition and a partition in each topic, so the number of elements is held to the
//! frame's size. The walk allocates nothing and skips the records; small frames are not worth it.

use crate::kafka::connection::CloseReason;

/// Frames up to this size cannot do harm.
const HARMLESS_BYTES: usize = 64 << 10;
/// An element for each so many bytes; an honest request has half as many at most.
const BYTES_PER_ELEMENT: usize = 32;

/// Checks the body of a Produce request.
pub(crate) fn check(body: &[u8], version: i16) -> Result<(), CloseReason> {
    if body.len() <= HARMLESS_BYTES {
        return Ok(());
    }
    let mut walk = Walk {
        rest: body,
        is_flexible: 9 <= version,
        elements_left: body.len() / BYTES_PER_ELEMENT,
    };
    walk.request(version).ok_or_else(|| CloseReason::Malformed {
        api_key: 0,
        api_version: version,
        reason: match walk.elements_left {
            0 => format!("more array elements than {} bytes justify", body.len()),
            _ => "its structure does not fit its size".to_owned(),
        },
    })
}

struct Walk<'a> {
    rest: &'a [u8],
    is_flexible: bool,
    elements_left: usize,
}

impl Walk<'_> {
    fn request(&mut self, version: i16) -> Option<()> {
        // The transactional id, acks and timeout.
        self.text()?;
        self.skip(2 + 4)?;
        for _ in 0..self.elements()? {
            match version {
                13.. => self.skip(16)?,
                _ => self.text()?,
            }
            for _ in 0..self.elements()? {
                self.skip(4)?;
                self.records()?;
                self.tags()?;
            }
            self.tags()?;
        }
        self.tags()
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.rest = self.rest.get(count..)?;
        Some(())
    }

    fn text(&mut self) -> Option<()> {
        let length = if self.is_flexible {
            self.varint()?.saturating_sub(1)
        } else {
            let (length, rest) = self.rest.split_first_chunk::<2>()?;
            self.rest = rest;
            u32::try_from(i16::from_be_bytes(*length)).unwrap_or(0)
        };
        self.skip(usize::try_from(length).ok()?)
    }

    fn records(&mut self) -> Option<()> {
        let length = self.length()?;
        self.skip(length)
    }

    /// The length of an array, paid for.
    fn elements(&mut self) -> Option<usize> {
        let count = self.length()?;
        self.pay(count)?;
        Some(count)
    }

    fn tags(&mut self) -> Option<()> {
        if !self.is_flexible {
            return Some(());
        }
        let count = usize::try_from(self.varint()?).ok()?;
        self.pay(count)?;
        for _ in 0..count {
            self.varint()?;
            let size = self.varint()?;
            self.skip(usize::try_from(size).ok()?)?;
        }
        Some(())
    }

    fn pay(&mut self, count: usize) -> Option<()> {
        let left = self.elements_left.checked_sub(count);
        self.elements_left = left.unwrap_or(0);
        left.map(|_| ())
    }

    /// Of an array or of bytes; null counts as empty.
    fn length(&mut self) -> Option<usize> {
        if self.is_flexible {
            usize::try_from(self.varint()?.saturating_sub(1)).ok()
        } else {
            let (length, rest) = self.rest.split_first_chunk::<4>()?;
            self.rest = rest;
            Some(usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0))
        }
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use log_core::protocol::messages::ProduceRequestData;
    use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use log_core::protocol::{KafkaString, Message as _};

    use super::*;
    use crate::kafka::test_support::fuzz;

    fn encode(request: &ProduceRequestData, version: i16) -> Bytes {
        let mut buffer = BytesMut::new();
        request.write_to(&mut buffer, version).unwrap();
        buffer.freeze()
    }

    fn request(topics: usize, partitions: usize, record_bytes: usize) -> ProduceRequestData {
        let partition = |index| PartitionProduceData {
            index,
            records: Some(vec![0; record_bytes].into()),
            ..PartitionProduceData::default()
        };
        let topic = |_| TopicProduceData {
            name: KafkaString::from_static("t"),
            partition_data: (0..i32::try_from(partitions).unwrap()).map(partition).collect(),
            ..TopicProduceData::default()
        };
        ProduceRequestData {
            transactional_id: Some(KafkaString::from_static("id")),
            topic_data: (0..topics).map(topic).collect(),
            ..ProduceRequestData::default()
        }
    }

    #[test]
    fn honest_requests_pass_in_every_version() {
        for version in 3..=13 {
            for (topics, partitions, record_bytes) in [(1, 1, 2 << 20), (100, 10, 70), (3000, 1, 68)] {
                let body = encode(&request(topics, partitions, record_bytes), version);
                assert!(HARMLESS_BYTES < body.len());
                check(&body, version).unwrap();
                assert!(check(&body[..body.len() - 1], version).is_err() || version < 9);
            }
        }
    }

    #[test]
    fn a_structure_without_substance_is_refused() {
        for version in 3..=13 {
            for (topics, partitions) in [(1, 30_000), (30_000, 0)] {
                let body = encode(&request(topics, partitions, 0), version);
                let error = check(&body, version).unwrap_err().to_string();
                assert!(error.contains("more array elements"), "{error}");
            }
        }
    }

    /// The codec reserves memory for as many tags as are announced, up to the bytes that are left.
    #[test]
    fn announced_tags_must_be_there() {
        let mut body = encode(&request(1, 1, 1 << 20), 9).to_vec();
        body.truncate(body.len() - 1);
        body.extend_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
        assert!(check(&body, 9).is_err());
    }

    /// What the codec reads and is not excessive, the guard lets pass; it never panics.
    #[test]
    fn the_guard_agrees_with_the_codec() {
        fuzz(300, |rng| {
            let version = rng.i16(3..=13);
            let shape = request(rng.usize(1..5), rng.usize(1..5), rng.usize(20_000..30_000));
            let mut body = encode(&shape, version).to_vec();
            for _ in 0..rng.usize(..3) {
                let place = rng.usize(..body.len().min(200));
                body[place] = rng.u8(..);
            }
            let decoded = ProduceRequestData::read_from(&mut Bytes::from(body.clone()), version);
            let checked = check(&body, version);
            if let (Ok(_), Err(error)) = (&decoded, &checked) {
                assert!(
                    error.to_string().contains("more array elements"),
                    "version {version}: {error}"
                );
            }
        });
    }
}
