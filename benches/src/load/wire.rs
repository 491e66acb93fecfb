//! Requests and answers of the raw load: encoded once by the codec, then patched in place; answers are read where they lie.
//!
//! Only what changes from request to request is known here: length, correlation id, records, offset. Everything else is
//! what the codec wrote for the version that client and broker have in common.

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use log_core::protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use log_core::protocol::messages::{FetchRequestData, ProduceRequestData};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString, Request, flexible_since, write_request_header};

/// Every frame begins with its length.
pub const LENGTH_BYTES: usize = 4;
const CORRELATION_AT: usize = 8;
/// Topics have names in these versions; later ones want ids.
const PRODUCE_VERSIONS: (i16, i16) = (3, 12);
const FETCH_VERSIONS: (i16, i16) = (11, 12);
const CLIENT_ID: &str = "stratalog-bench";

/// A version that both sides and this module know.
///
/// # Errors
/// When there is none.
pub fn version_of(api: ApiKey, broker: Option<(i16, i16)>) -> anyhow::Result<i16> {
    let (low, high) = match api {
        ApiKey::Fetch => FETCH_VERSIONS,
        _ => PRODUCE_VERSIONS,
    };
    let (broker_low, broker_high) = broker.with_context(|| format!("the broker does not serve {api:?}"))?;
    let version = high.min(broker_high);
    ensure!(
        low.max(broker_low) <= version,
        "the broker serves {api:?} in versions {broker_low} to {broker_high}, and this load speaks {low} to {high}"
    );
    Ok(version)
}

fn encode<R: Request>(request: &R, version: i16) -> anyhow::Result<Vec<u8>> {
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&[0; LENGTH_BYTES]);
    write_request_header(
        &mut frame,
        R::API_KEY,
        version,
        0,
        &KafkaString::from_static(CLIENT_ID),
    )?;
    request.write_to(&mut frame, version)?;
    let mut frame = frame.to_vec();
    set_length(&mut frame, 0)?;
    Ok(frame)
}

/// Writes the length of a frame of which `behind` bytes stand elsewhere.
fn set_length(frame: &mut [u8], behind: usize) -> anyhow::Result<()> {
    let length = u32::try_from(frame.len() + behind - LENGTH_BYTES)?;
    put(frame, 0, &length.to_be_bytes());
    Ok(())
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(room) = frame.get_mut(at..at + bytes.len()) {
        room.copy_from_slice(bytes);
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> anyhow::Result<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
        .context("the codec did not write a field")
}

/// A produce request of one batch to one partition.
#[derive(Debug, Clone)]
pub struct ProduceFrame {
    /// Length, header and body up to the length of the records.
    before: Vec<u8>,
    /// What stands behind the records.
    after: Vec<u8>,
    is_flexible: bool,
    /// Where the error code stands in the answer, behind its length.
    error_at: usize,
}

impl ProduceFrame {
    /// The request for a partition.
    ///
    /// # Errors
    /// The codec's.
    pub fn new(topic: &str, partition: i32, acks: i16, version: i16) -> anyhow::Result<Self> {
        const MARK: [u8; 16] = *b"stratalog-marker";
        let request = ProduceRequestData {
            acks,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: KafkaString::from(topic.to_owned()),
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Some(Bytes::from_static(&MARK)),
                    ..PartitionProduceData::default()
                }],
                ..TopicProduceData::default()
            }],
            ..ProduceRequestData::default()
        };
        let frame = encode(&request, version)?;
        let is_flexible = flexible_since(ApiKey::Produce) <= version;
        let mark = find(&frame, &MARK)?;
        let length_bytes = if is_flexible { 1 } else { 4 };
        let name = topic.len();
        // Correlation id; then, each flexible or not: tags, topics, name, partitions; the index.
        let error_at = if is_flexible {
            let name_length = if name + 1 < 0x80 { 1 } else { 2 };
            4 + 1 + 1 + name_length + name + 1 + 4
        } else {
            4 + 4 + 2 + name + 4 + 4
        };
        Ok(Self {
            before: frame.get(..mark - length_bytes).unwrap_or_default().to_vec(),
            after: frame.get(mark + MARK.len()..).unwrap_or_default().to_vec(),
            is_flexible,
            error_at,
        })
    }

    /// Appends what stands in front of a batch of that size.
    ///
    /// # Errors
    /// When the batch is too large for a frame.
    pub fn put_before(
        &mut self,
        output: &mut Vec<u8>,
        correlation: i32,
        batch_bytes: usize,
    ) -> anyhow::Result<()> {
        let at = output.len();
        put(&mut self.before, CORRELATION_AT, &correlation.to_be_bytes());
        output.extend_from_slice(&self.before);
        if self.is_flexible {
            // One more than the length; 0 would be null.
            put_unsigned_varint(output, u32::try_from(batch_bytes + 1)?);
        } else {
            output.extend_from_slice(&u32::try_from(batch_bytes)?.to_be_bytes());
        }
        let frame = output.get_mut(at..).unwrap_or_default();
        set_length(frame, batch_bytes + self.after.len())
    }

    /// What stands behind the batch.
    #[must_use]
    pub fn after(&self) -> &[u8] {
        &self.after
    }

    /// The error code in an answer to this request, the length of the answer cut off.
    ///
    /// # Errors
    /// When the answer is too short to be one.
    pub fn error_code(&self, answer: &[u8]) -> anyhow::Result<i16> {
        let code = answer
            .get(self.error_at..)
            .and_then(|rest| rest.first_chunk::<2>());
        Ok(i16::from_be_bytes(
            *code.context("an answer to Produce is too short")?,
        ))
    }
}

fn put_unsigned_varint(output: &mut Vec<u8>, value: u32) {
    let mut rest = value;
    while 0x80 <= rest {
        let low = u8::try_from(rest & 0x7f).unwrap_or_default();
        output.push(low | 0x80);
        rest >>= 7;
    }
    output.push(u8::try_from(rest).unwrap_or_default());
}

/// The correlation id of an answer, its length cut off.
///
/// # Errors
/// When the answer is too short to be one.
pub fn correlation_of(answer: &[u8]) -> anyhow::Result<i32> {
    let id = answer.first_chunk::<4>().context("an answer is too short")?;
    Ok(i32::from_be_bytes(*id))
}

/// A fetch request for some partitions of a topic.
#[derive(Debug, Clone)]
pub struct FetchFrame {
    frame: Vec<u8>,
    /// Where the offsets stand, in the order of the partitions.
    offsets_at: Vec<usize>,
    is_flexible: bool,
}

/// How much one fetch asks for.
#[derive(Debug, Clone, Copy)]
pub struct FetchSize {
    /// The broker answers as soon as it has so much.
    pub bytes_min: i32,
    /// The most it gives.
    pub bytes_max: i32,
    /// How long it waits for the least.
    pub wait_ms: i32,
}

impl FetchFrame {
    /// The request for these partitions.
    ///
    /// # Errors
    /// The codec's.
    pub fn new(topic: &str, partitions: &[i32], size: FetchSize, version: i16) -> anyhow::Result<Self> {
        const MARK: i64 = 0x5354_5241_5441_4c4f;
        let marked = (MARK..).zip(partitions).map(|(mark, partition)| FetchPartition {
            partition: *partition,
            current_leader_epoch: -1,
            fetch_offset: mark,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: size.bytes_max,
            ..FetchPartition::default()
        });
        let request = FetchRequestData {
            replica_id: -1,
            max_wait_ms: size.wait_ms,
            min_bytes: size.bytes_min,
            max_bytes: size.bytes_max,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: KafkaString::from(topic.to_owned()),
                partitions: marked.collect(),
                ..FetchTopic::default()
            }],
            ..FetchRequestData::default()
        };
        let frame = encode(&request, version)?;
        let marks = (MARK..).take(partitions.len());
        Ok(Self {
            offsets_at: marks
                .map(|mark| find(&frame, &mark.to_be_bytes()))
                .collect::<anyhow::Result<_>>()?,
            frame,
            is_flexible: flexible_since(ApiKey::Fetch) <= version,
        })
    }

    /// The whole request from those offsets on, one for each partition in their order.
    pub fn request(&mut self, correlation: i32, offsets: impl IntoIterator<Item = i64>) -> &[u8] {
        put(&mut self.frame, CORRELATION_AT, &correlation.to_be_bytes());
        for (at, offset) in self.offsets_at.iter().zip(offsets) {
            put(&mut self.frame, *at, &offset.to_be_bytes());
        }
        &self.frame
    }

    /// Reads an answer to this request, its length cut off: a row for each partition that it names.
    ///
    /// # Errors
    /// When it is none, or the request was refused.
    pub fn read<'a>(&self, answer: &'a [u8]) -> anyhow::Result<Vec<FetchedRow<'a>>> {
        let mut rest = Rest {
            bytes: answer,
            is_flexible: self.is_flexible,
        };
        rest.skip(4)?;
        rest.tags()?;
        rest.skip(4)?; // throttle time
        let error = rest.i16()?;
        ensure!(error == 0, "Fetch was refused: {:?}", ErrorCode::from(error));
        rest.skip(4)?; // session
        let mut rows = Vec::with_capacity(self.offsets_at.len());
        for _ in 0..rest.length()? {
            rest.string()?;
            for _ in 0..rest.length()? {
                rows.push(rest.fetched_row()?);
            }
            rest.tags()?;
        }
        Ok(rows)
    }
}

/// What a fetch brought of one partition.
#[derive(Debug, Clone, Copy)]
pub struct FetchedRow<'a> {
    /// Which one.
    pub partition: i32,
    /// Its error, or 0.
    pub error: i16,
    /// Up to where consumers may read; -1 where the answer is an error.
    pub high_watermark: i64,
    /// Whole batches, the last of which may be cut.
    pub records: &'a [u8],
}

/// What is left of an answer.
struct Rest<'a> {
    bytes: &'a [u8],
    is_flexible: bool,
}

impl<'a> Rest<'a> {
    fn fetched_row(&mut self) -> anyhow::Result<FetchedRow<'a>> {
        let partition = i32::from_be_bytes(self.number()?);
        let error = self.i16()?;
        let high_watermark = self.i64()?;
        self.skip(16)?; // last stable offset, log start
        for _ in 0..self.length()? {
            self.skip(16)?; // an aborted transaction
            self.tags()?;
        }
        self.skip(4)?; // preferred replica
        let length = self.length()?;
        let records = self.skip(length)?;
        self.tags()?;
        Ok(FetchedRow {
            partition,
            error,
            high_watermark,
            records,
        })
    }

    fn skip(&mut self, count: usize) -> anyhow::Result<&'a [u8]> {
        let Some((skipped, rest)) = self.bytes.split_at_checked(count) else {
            bail!("an answer to Fetch ends too early");
        };
        self.bytes = rest;
        Ok(skipped)
    }

    fn number<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let bytes = self.skip(N)?;
        Ok(bytes.first_chunk().copied().unwrap_or([0; N]))
    }

    fn i16(&mut self) -> anyhow::Result<i16> {
        Ok(i16::from_be_bytes(self.number()?))
    }

    fn i64(&mut self) -> anyhow::Result<i64> {
        Ok(i64::from_be_bytes(self.number()?))
    }

    /// The length of an array or of bytes; null has none.
    fn length(&mut self) -> anyhow::Result<usize> {
        if self.is_flexible {
            return Ok(self.unsigned_varint()?.saturating_sub(1));
        }
        Ok(usize::try_from(i32::from_be_bytes(self.number()?)).unwrap_or_default())
    }

    fn string(&mut self) -> anyhow::Result<&'a [u8]> {
        let length = if self.is_flexible {
            self.length()?
        } else {
            usize::try_from(self.i16()?).unwrap_or_default()
        };
        self.skip(length)
    }

    fn tags(&mut self) -> anyhow::Result<()> {
        if !self.is_flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let length = self.unsigned_varint()?;
            self.skip(length)?;
        }
        Ok(())
    }

    fn unsigned_varint(&mut self) -> anyhow::Result<usize> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let [byte] = self.number()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("an answer to Fetch has a length without an end")
    }
}

#[cfg(test)]
mod tests {
    use log_core::protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    use log_core::protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
    use log_core::protocol::messages::{FetchResponseData, ProduceResponseData};
    use log_core::protocol::{Message, RequestPrefix, read_body, read_request_header, write_response_header};

    use super::*;

    fn answer<M: Message>(api: ApiKey, version: i16, message: &M) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        write_response_header(&mut bytes, api as i16, version, 4711).unwrap();
        message.write_to(&mut bytes, version).unwrap();
        bytes.to_vec()
    }

    fn body<M: Message>(frame: &[u8]) -> M {
        let length = u32::from_be_bytes(frame[..4].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), frame.len() - 4);
        let mut bytes = Bytes::copy_from_slice(&frame[4..]);
        let prefix = RequestPrefix::peek(&bytes).unwrap();
        assert_eq!(prefix.correlation_id, 4711);
        read_request_header(&mut bytes, prefix).unwrap();
        read_body(bytes, prefix.api_version).unwrap()
    }

    /// What is patched together is what the codec reads, in every version.
    #[test]
    fn produce_in_every_version() {
        for version in PRODUCE_VERSIONS.0..=PRODUCE_VERSIONS.1 {
            for (topic, size) in [("t", 70), ("a-topic", 200), (&*"n".repeat(200), 100_000)] {
                let mut frame = ProduceFrame::new(topic, 3, -1, version).unwrap();
                let batch = vec![7; size];
                let mut bytes = Vec::new();
                frame.put_before(&mut bytes, 4711, size).unwrap();
                bytes.extend_from_slice(&batch);
                bytes.extend_from_slice(frame.after());
                let request: ProduceRequestData = body(&bytes);
                let partition = &request.topic_data[0].partition_data[0];
                assert_eq!((partition.index, request.acks), (3, -1));
                assert_eq!(partition.records.as_deref(), Some(&batch[..]));

                let response = ProduceResponseData {
                    responses: vec![TopicProduceResponse {
                        name: KafkaString::from(topic.to_owned()),
                        partition_responses: vec![PartitionProduceResponse {
                            index: 3,
                            error_code: 17,
                            base_offset: 5,
                            ..PartitionProduceResponse::default()
                        }],
                        ..TopicProduceResponse::default()
                    }],
                    ..ProduceResponseData::default()
                };
                let response = answer(ApiKey::Produce, version, &response);
                assert_eq!(correlation_of(&response).unwrap(), 4711);
                assert_eq!(frame.error_code(&response).unwrap(), 17, "version {version}");
                assert!(frame.error_code(&response[..8]).is_err());
            }
        }
    }

    #[test]
    fn fetch_in_every_version() {
        let size = FetchSize {
            bytes_min: 1,
            bytes_max: 65_536,
            wait_ms: 500,
        };
        for version in FETCH_VERSIONS.0..=FETCH_VERSIONS.1 {
            let mut frame = FetchFrame::new("a-topic", &[3, 5], size, version).unwrap();
            let request: FetchRequestData = body(frame.request(4711, [99, 7]));
            let partitions = &request.topics[0].partitions;
            let asked = partitions
                .iter()
                .map(|asked| (asked.partition, asked.fetch_offset));
            assert!(asked.eq([(3, 99), (5, 7)]));
            for records in [None, Some(Bytes::new()), Some(Bytes::from(vec![1; 300]))] {
                let response = FetchResponseData {
                    responses: vec![FetchableTopicResponse {
                        topic: KafkaString::from_static("a-topic"),
                        partitions: vec![
                            PartitionData {
                                partition_index: 5,
                                error_code: 6,
                                ..PartitionData::default()
                            },
                            PartitionData {
                                partition_index: 3,
                                high_watermark: 1000,
                                records: records.clone(),
                                ..PartitionData::default()
                            },
                        ],
                        ..FetchableTopicResponse::default()
                    }],
                    ..FetchResponseData::default()
                };
                let bytes = answer(ApiKey::Fetch, version, &response);
                let [refused, read] = frame.read(&bytes).unwrap().try_into().unwrap();
                assert_eq!((refused.partition, refused.error), (5, 6), "version {version}");
                assert_eq!((read.partition, read.error, read.high_watermark), (3, 0, 1000));
                assert_eq!(read.records, records.as_deref().unwrap_or_default());
                for cut in 0..bytes.len() - 3 {
                    frame.read(&bytes[..cut]).unwrap_err();
                }
            }
        }
    }
}
