//! Frames: a length, and a request or a response behind it.
//!
//! Pure functions of bytes. In which order frames travel, and who waits for which, is the connection's business.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use log_core::protocol::{
    ApiKey, ErrorCode, KafkaString, Message, Request, read_body, read_response_header, write_request_header,
};

use crate::error::{Error, Result};

/// Every frame begins with its length.
const LENGTH_SIZE: usize = 4;

/// What the length of a frame can express.
const FRAME_BYTES_MAX: usize = 0x7fff_ffff;

/// Length and request header, client id aside.
const HEADER_BYTES: usize = 16;

/// Where the correlation id stands in a request frame: behind length, key and version.
const CORRELATION_ID: std::ops::Range<usize> = 8..12;

/// A request as a frame that lacks only its correlation id.
pub(super) fn encode<R: Request>(
    api: ApiKey,
    version: i16,
    client_id: &KafkaString,
    request: &R,
) -> Result<BytesMut> {
    let unwritable = |source| Error::Unwritable {
        api,
        source: Arc::new(source),
    };
    let size = request.encoded_len(version).map_err(unwritable)?;
    let mut frame = BytesMut::with_capacity(size + HEADER_BYTES + client_id.len());
    frame.put_u32(0);
    write_request_header(&mut frame, api, version, 0, client_id).map_err(unwritable)?;
    request.write_to(&mut frame, version).map_err(unwritable)?;
    let length = u32::try_from(frame.len() - LENGTH_SIZE)
        .ok()
        .filter(|length| i32::try_from(*length).is_ok())
        .ok_or(Error::RecordTooLarge {
            size: frame.len(),
            limit: FRAME_BYTES_MAX,
        })?;
    if let Some(place) = frame.get_mut(..LENGTH_SIZE) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(frame)
}

/// Gives a request frame its correlation id.
pub(super) fn stamp(frame: &mut BytesMut, correlation_id: i32) {
    if let Some(place) = frame.get_mut(CORRELATION_ID) {
        place.copy_from_slice(&correlation_id.to_be_bytes());
    }
}

/// Reads header and body of a response frame.
pub(super) fn decode<M: Message>(
    address: &Arc<str>,
    api: ApiKey,
    version: i16,
    mut frame: Bytes,
) -> Result<M> {
    let malformed = |source| Error::Malformed {
        address: Arc::clone(address),
        api,
        source: Arc::new(source),
    };
    read_response_header(&mut frame, api, version).map_err(malformed)?;
    let version = if api == ApiKey::ApiVersions && begins_with_unsupported_version(&frame) {
        // Whatever version was asked for, the refusal comes in the layout of version 0.
        0
    } else {
        version
    };
    read_body(frame, version).map_err(malformed)
}

fn begins_with_unsupported_version(body: &[u8]) -> bool {
    body.first_chunk().copied().map(i16::from_be_bytes) == Some(ErrorCode::UnsupportedVersion.code())
}

/// What stands at the front of the bytes that have come in.
pub(super) enum NextFrame {
    /// The frame behind its length.
    Whole(Bytes),
    /// So many bytes are still to come, as far as one can see.
    Lacks(usize),
}

/// Cuts the first frame off `buffer`; `Err` with the announced size when it cannot be one.
pub(super) fn next_frame(buffer: &mut BytesMut, bytes_max: usize) -> Result<NextFrame, i32> {
    let Some(length) = buffer.first_chunk::<LENGTH_SIZE>() else {
        return Ok(NextFrame::Lacks(LENGTH_SIZE - buffer.len()));
    };
    let announced = i32::from_be_bytes(*length);
    let length = usize::try_from(announced)
        .ok()
        .filter(|length| (LENGTH_SIZE..=bytes_max).contains(length))
        .ok_or(announced)?;
    let whole = LENGTH_SIZE + length;
    if buffer.len() < whole {
        return Ok(NextFrame::Lacks(whole - buffer.len()));
    }
    buffer.advance(LENGTH_SIZE);
    Ok(NextFrame::Whole(buffer.split_to(length).freeze()))
}
