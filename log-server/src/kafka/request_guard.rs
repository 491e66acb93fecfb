//! Looks over large requests before the codec does, so that their structure cannot cost more memory than their size justifies.
//!
//! Frames of record batches and of opaque bytes (`FrameClass`) may be large, because those are; the codec makes a struct of every array
//! element and takes memory for as many tags as are announced. A hundred megabytes of empty partitions would become
//! gigabytes. An honest Produce has a batch of 61 bytes or more in each partition and a partition in each topic; an honest
//! `SyncGroup` names a member of some forty characters for each assignment; a `JoinGroup` has a handful of protocols, a `PushTelemetry` one value. So the number of
//! elements is held to the frame's size. The walk allocates nothing and skips the bytes; small frames are not worth it.

use log_core::protocol::ApiKey;

use crate::kafka::connection::CloseReason;

/// Frames up to this size cannot do harm.
const HARMLESS_BYTES: usize = 64 << 10;
/// An element for each so many bytes; an honest request has half as many at most.
const BYTES_PER_ELEMENT: usize = 32;

/// A walk over a body in some version; `None` where the body does not fit the version, or has too many elements.
type Layout = fn(&mut Walk<'_>, i16) -> Option<()>;

/// The first version with compact lengths and tags, and the way through, of each API whose frames may be large.
fn layout(api: ApiKey) -> Option<(i16, Layout)> {
    match api {
        ApiKey::Produce => Some((9, |walk, version| walk.produce(version))),
        ApiKey::JoinGroup => Some((6, |walk, version| walk.join_group(version))),
        ApiKey::SyncGroup => Some((4, |walk, version| walk.sync_group(version))),
        ApiKey::PushTelemetry => Some((0, |walk, _| walk.push_telemetry())),
        _ => None,
    }
}

/// Checks the body of a request. One whose frames are small anyway passes.
pub(crate) fn check(api: ApiKey, body: &[u8], version: i16) -> Result<(), CloseReason> {
    let Some((flexible_since, layout)) = layout(api) else {
        return Ok(());
    };
    if body.len() <= HARMLESS_BYTES {
        return Ok(());
    }
    let mut walk = Walk {
        rest: body,
        is_flexible: flexible_since <= version,
        elements_left: body.len() / BYTES_PER_ELEMENT,
    };
    layout(&mut walk, version).ok_or_else(|| CloseReason::Malformed {
        api_key: api as i16,
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
    fn produce(&mut self, version: i16) -> Option<()> {
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
                self.bytes()?;
                self.tags()?;
            }
            self.tags()?;
        }
        self.tags()
    }

    fn join_group(&mut self, version: i16) -> Option<()> {
        // The group, and how long a session and, since version 1, a rebalance may take.
        self.text()?;
        self.skip(if 1 <= version { 4 + 4 } else { 4 })?;
        self.text()?;
        if 5 <= version {
            // The name of a static member.
            self.text()?;
        }
        // The protocol's type, and the protocols.
        self.text()?;
        self.named_bytes()?;
        if 8 <= version {
            // Why it joins.
            self.text()?;
        }
        self.tags()
    }

    fn sync_group(&mut self, version: i16) -> Option<()> {
        // The group, the generation, the member.
        self.text()?;
        self.skip(4)?;
        self.text()?;
        if 3 <= version {
            // The name of a static member.
            self.text()?;
        }
        if 5 <= version {
            // The protocol's type and name.
            self.text()?;
            self.text()?;
        }
        self.named_bytes()?;
        self.tags()
    }

    fn push_telemetry(&mut self) -> Option<()> {
        // The client instance, its subscription, whether it ends, the compression.
        self.skip(16 + 4 + 1 + 1)?;
        self.bytes()?;
        self.tags()
    }

    /// An array of names with bytes.
    fn named_bytes(&mut self) -> Option<()> {
        for _ in 0..self.elements()? {
            self.text()?;
            self.bytes()?;
            self.tags()?;
        }
        Some(())
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

    fn bytes(&mut self) -> Option<()> {
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
    use log_core::protocol::messages::join_group_request::JoinGroupRequestProtocol;
    use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use log_core::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
    use log_core::protocol::messages::{JoinGroupRequestData, ProduceRequestData, SyncGroupRequestData};
    use log_core::protocol::{KafkaString, Message};

    use super::*;
    use crate::kafka::apis::{APIS, FrameClass};
    use crate::kafka::test_support::fuzz;

    fn encode(request: &impl Message, version: i16) -> Bytes {
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
                check(ApiKey::Produce, &body, version).unwrap();
                assert!(check(ApiKey::Produce, &body[..body.len() - 1], version).is_err() || version < 9);
            }
        }
    }

    #[test]
    fn a_structure_without_substance_is_refused() {
        for version in 3..=13 {
            for (topics, partitions) in [(1, 30_000), (30_000, 0)] {
                let body = encode(&request(topics, partitions, 0), version);
                let error = check(ApiKey::Produce, &body, version).unwrap_err().to_string();
                assert!(error.contains("more array elements"), "{error}");
            }
        }
    }

    fn join(protocols: usize, name: &'static str, metadata_bytes: usize) -> JoinGroupRequestData {
        let protocol = || JoinGroupRequestProtocol {
            name: KafkaString::from_static(name),
            metadata: vec![7; metadata_bytes].into(),
            ..JoinGroupRequestProtocol::default()
        };
        JoinGroupRequestData {
            group_id: KafkaString::from_static("group"),
            protocol_type: KafkaString::from_static("consumer"),
            protocols: std::iter::repeat_with(protocol).take(protocols).collect(),
            ..JoinGroupRequestData::default()
        }
    }

    fn sync(members: usize, name: &'static str, assignment_bytes: usize) -> SyncGroupRequestData {
        let assignment = || SyncGroupRequestAssignment {
            member_id: KafkaString::from_static(name),
            assignment: vec![7; assignment_bytes].into(),
            ..SyncGroupRequestAssignment::default()
        };
        SyncGroupRequestData {
            group_id: KafkaString::from_static("group"),
            member_id: KafkaString::from_static("leader"),
            assignments: std::iter::repeat_with(assignment).take(members).collect(),
            ..SyncGroupRequestData::default()
        }
    }

    #[test]
    fn members_may_say_much_and_be_many_but_not_be_nothing() {
        const MEMBER: &str = "client-7-0f6ad32e-5a0c-4b43-8c1b-5d0f2a4c9e11";
        let told = |api, request: &dyn Fn(i16) -> Bytes, version| {
            let body = request(version);
            assert!(HARMLESS_BYTES < body.len());
            let cut = check(api, &body[..body.len() - 1], version);
            let whole = check(api, &body, version);
            (whole.map_err(|error| error.to_string()), cut.is_err())
        };
        for version in 2..=9 {
            for honest in [join(1, "range", 3 << 20), join(5, "cooperative-sticky", 100_000)] {
                let whole = told(ApiKey::JoinGroup, &|version| encode(&honest, version), version);
                assert_eq!(whole, (Ok(()), true), "version {version}");
            }
            let (hollow, _) = told(
                ApiKey::JoinGroup,
                &|version| encode(&join(40_000, "", 0), version),
                version,
            );
            assert!(hollow.unwrap_err().contains("more array elements"));
        }
        for version in 0..=5 {
            // 100 members of 1,000 partitions each, and 10,000 that get nothing.
            for honest in [sync(100, MEMBER, 8_000), sync(10_000, MEMBER, 0)] {
                let whole = told(ApiKey::SyncGroup, &|version| encode(&honest, version), version);
                assert_eq!(whole, (Ok(()), true), "version {version}");
            }
            let (hollow, _) = told(
                ApiKey::SyncGroup,
                &|version| encode(&sync(40_000, "", 0), version),
                version,
            );
            assert!(hollow.unwrap_err().contains("more array elements"));
        }
    }

    /// Without a way through, a large frame would be decoded at its word.
    #[test]
    fn every_api_whose_frames_may_be_large_is_looked_over() {
        for api in APIS.iter().filter(|api| api.frame_class != FrameClass::Structure) {
            assert!(layout(api.key).is_some(), "{:?}", api.key);
        }
    }

    /// The codec reserves memory for as many tags as are announced, up to the bytes that are left.
    #[test]
    fn announced_tags_must_be_there() {
        let mut body = encode(&request(1, 1, 1 << 20), 9).to_vec();
        body.truncate(body.len() - 1);
        body.extend_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
        assert!(check(ApiKey::Produce, &body, 9).is_err());
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
            let checked = check(ApiKey::Produce, &body, version);
            if let (Ok(_), Err(error)) = (&decoded, &checked) {
                assert!(
                    error.to_string().contains("more array elements"),
                    "version {version}: {error}"
                );
            }
        });
    }
}
