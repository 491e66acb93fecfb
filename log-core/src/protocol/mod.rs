//! The wire codec's one boundary: the server and the client name Kafka's messages only through here.
//!
//! Behind it stands a generated crate with the message set of Kafka 4.3.0. Nothing below `protocol` is
//! used by storage, and storage is not used here.

pub mod messages;

use bytes::{Bytes, BytesMut};

pub use kacrab_protocol::generated::{ApiKey, ErrorCode};
pub use kacrab_protocol::{KafkaString, KafkaUuid, RawTaggedField};

use crate::model::TopicId;
use messages::{RequestHeaderData, ResponseHeaderData};

/// A message that cannot be read or written, in the codec's words.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not a message of that kind and version.
    #[error(transparent)]
    Malformed(#[from] kacrab_protocol::ProtocolError),
    /// The message ended before its frame did.
    #[error("{0} bytes stand behind the end of the message")]
    TrailingBytes(usize),
}

/// A message that goes over the wire in one of several versions.
pub trait Message: Sized {
    /// Reads one from the front of `buffer`; byte fields are slices of it.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] for anything that is not such a message of that version.
    fn read_from(buffer: &mut Bytes, version: i16) -> Result<Self, CodecError>;

    /// Appends it to `buffer`.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] when a field cannot be expressed in that version.
    fn write_to(&self, buffer: &mut BytesMut, version: i16) -> Result<(), CodecError>;

    /// How many bytes [`Message::write_to`] appends, so that a buffer is allocated once.
    ///
    /// # Errors
    /// As [`Message::write_to`].
    fn encoded_len(&self, version: i16) -> Result<usize, CodecError>;
}

/// A request and the response that answers it.
pub trait Request: Message {
    /// Which API it belongs to.
    const API_KEY: ApiKey;
    /// What answers it.
    type Response: Message;
}

/// Reads a request's body, which must fill the rest of its frame.
///
/// # Errors
/// As [`Message::read_from`]; [`CodecError::TrailingBytes`] when something stands behind it.
pub fn read_body<M: Message>(mut body: Bytes, version: i16) -> Result<M, CodecError> {
    let message = M::read_from(&mut body, version)?;
    if body.is_empty() {
        Ok(message)
    } else {
        Err(CodecError::TrailingBytes(body.len()))
    }
}

/// The first eight bytes of every request: enough to choose the header's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestPrefix {
    /// The API's number; not necessarily one that exists.
    pub api_key: i16,
    /// The version of header and body.
    pub api_version: i16,
    /// Returned with the response.
    pub correlation_id: i32,
}

impl RequestPrefix {
    /// Reads it from the beginning of a frame; `None` when the frame is shorter.
    #[must_use]
    pub fn peek(frame: &[u8]) -> Option<Self> {
        let (key, rest) = frame.split_first_chunk::<2>()?;
        let (version, rest) = rest.split_first_chunk::<2>()?;
        let (correlation, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            api_key: i16::from_be_bytes(*key),
            api_version: i16::from_be_bytes(*version),
            correlation_id: i32::from_be_bytes(*correlation),
        })
    }
}

/// Reads the request header from the front of `frame` and leaves the body in it.
///
/// # Errors
/// [`CodecError::Malformed`] when it is not a request header.
pub fn read_request_header(
    frame: &mut Bytes,
    prefix: RequestPrefix,
) -> Result<RequestHeaderData, CodecError> {
    let version = kacrab_protocol::version::request_header_version(prefix.api_key, prefix.api_version);
    Ok(RequestHeaderData::read(frame, version)?)
}

/// Appends a request header for `api_key` and `api_version`.
///
/// # Errors
/// [`CodecError::Malformed`] when the client id is too long.
pub fn write_request_header(
    buffer: &mut BytesMut,
    api_key: ApiKey,
    api_version: i16,
    correlation_id: i32,
    client_id: &KafkaString,
) -> Result<(), CodecError> {
    let key = api_key as i16;
    let header = RequestHeaderData::default()
        .with_request_api_key(key)
        .with_request_api_version(api_version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(client_id.clone()));
    header.write(
        buffer,
        kacrab_protocol::version::request_header_version(key, api_version),
    )?;
    Ok(())
}

/// Appends the response header that goes with a request of `api_key` and `api_version`.
///
/// # Errors
/// None that this header can cause; the signature follows the codec's.
pub fn write_response_header(
    buffer: &mut BytesMut,
    api_key: i16,
    api_version: i16,
    correlation_id: i32,
) -> Result<(), CodecError> {
    let header = ResponseHeaderData::default().with_correlation_id(correlation_id);
    header.write(
        buffer,
        kacrab_protocol::version::response_header_version(api_key, api_version),
    )?;
    Ok(())
}

/// Reads the response header from the front of `frame` and returns its correlation id.
///
/// # Errors
/// [`CodecError::Malformed`] when it is not a response header.
pub fn read_response_header(frame: &mut Bytes, api_key: ApiKey, api_version: i16) -> Result<i32, CodecError> {
    let version = kacrab_protocol::version::response_header_version(api_key as i16, api_version);
    Ok(ResponseHeaderData::read(frame, version)?.correlation_id)
}

/// The versions of `api_key` that the codec can read and write, lowest and highest.
#[must_use]
pub fn codec_versions(api_key: ApiKey) -> (i16, i16) {
    let info = kacrab_protocol::generated::client_api_info(api_key);
    (info.min_version, info.max_version)
}

/// The lowest version of `api_key` in the flexible encoding (compact lengths, tagged fields; KIP-482).
#[must_use]
pub fn flexible_since(api_key: ApiKey) -> i16 {
    kacrab_protocol::generated::client_api_info(api_key).flexible_versions_start
}

impl From<KafkaUuid> for TopicId {
    fn from(id: KafkaUuid) -> Self {
        let mut bytes = [0; 16];
        let (high, low) = bytes.split_at_mut(8);
        high.copy_from_slice(&id.most_significant_bits().to_be_bytes());
        low.copy_from_slice(&id.least_significant_bits().to_be_bytes());
        Self::from_bytes(bytes)
    }
}

impl From<TopicId> for KafkaUuid {
    fn from(id: TopicId) -> Self {
        let number = u128::from_be_bytes(id.to_bytes());
        let high = u64::try_from(number >> 64).expect("the upper half of 128 bits");
        let low = u64::try_from(number & u128::from(u64::MAX)).expect("the lower half of 128 bits");
        Self::from_parts(high, low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_cross_the_boundary_unchanged() {
        let id = TopicId::from_bytes(*b"0123456789abcdef");
        assert_eq!(TopicId::from(KafkaUuid::from(id)), id);
    }

    #[test]
    fn a_short_frame_has_no_prefix() {
        assert_eq!(RequestPrefix::peek(&[0, 3, 0, 12, 0, 0, 0]), None);
        let prefix = RequestPrefix::peek(&[0, 3, 0, 12, 0, 0, 0, 9]).unwrap();
        assert_eq!(
            (prefix.api_key, prefix.api_version, prefix.correlation_id),
            (3, 12, 9)
        );
    }
}
