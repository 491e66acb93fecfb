//! A response on its way out: a list of byte slices that leave by one vectored write.
//!
//! Most responses are a single slice. A Fetch response is a header, slices of segments, and what stands between and behind
//! them (`fetch_response`), so that record bytes are never copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf as _, Bytes, BytesMut};
use log_core::protocol::{CodecError, Message, RequestPrefix, write_response_header};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// The length in front of each frame.
pub(crate) const LENGTH_BYTES: usize = 4;
/// Most responses fit; larger ones grow.
const USUAL_BYTES: usize = 256;
/// How many slices one vectored write takes.
const SLICES_MAX: usize = 64;

/// Why a response could not be made. Always a mistake of ours; the connection ends.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// A field that the version cannot express.
    #[error("encode the response: {0}")]
    Codec(#[from] CodecError),
    /// More than a frame's length can say.
    #[error("a response of {0} bytes")]
    TooLarge(usize),
}

/// One response, length included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    first: Bytes,
    rest: Vec<Bytes>,
}

impl Response {
    /// Bytes that are sent as they are.
    pub(crate) fn from_bytes(bytes: Bytes) -> Self {
        Self {
            first: bytes,
            rest: Vec::new(),
        }
    }

    /// Encodes `body` as the answer to the request that began with `prefix`, in that request's version.
    pub(crate) fn encode<M: Message>(prefix: RequestPrefix, body: &M) -> Result<Self, ResponseError> {
        Self::encode_as(prefix, prefix.api_version, body)
    }

    /// Encodes `body` in another version than the request's: for version negotiation.
    pub(crate) fn encode_as<M: Message>(
        prefix: RequestPrefix,
        api_version: i16,
        body: &M,
    ) -> Result<Self, ResponseError> {
        let mut buffer = begin(prefix, api_version, USUAL_BYTES)?;
        body.write_to(&mut buffer, api_version)?;
        Self::finish(buffer, Vec::new())
    }

    /// Puts `inserts` into `buffer`, each at its place (ascending), and writes the length in front.
    pub(crate) fn finish(mut buffer: BytesMut, inserts: Vec<(usize, Bytes)>) -> Result<Self, ResponseError> {
        let inserted: usize = inserts.iter().map(|(_, bytes)| bytes.len()).sum();
        let total = buffer.len() + inserted;
        let length = i32::try_from(total - LENGTH_BYTES).map_err(|_| ResponseError::TooLarge(total))?;
        buffer
            .first_chunk_mut::<LENGTH_BYTES>()
            .expect("a response begins with its length")
            .copy_from_slice(&length.to_be_bytes());
        let mut written = buffer.freeze();
        let Some((first_place, _)) = inserts.first() else {
            return Ok(Self::from_bytes(written));
        };
        let mut cut = *first_place;
        let first = written.split_to(cut);
        let mut rest = Vec::with_capacity(2 * inserts.len());
        for (place, bytes) in inserts {
            if cut < place {
                rest.push(written.split_to(place - cut));
                cut = place;
            }
            rest.push(bytes);
        }
        if !written.is_empty() {
            rest.push(written);
        }
        Ok(Self { first, rest })
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    /// Its first slice: all of it, but for answers with records.
    pub(crate) fn first_slice(&self) -> &Bytes {
        &self.first
    }

    /// Its slices: for tests.
    #[cfg(test)]
    pub(crate) fn slices(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// All of it in one piece: for tests.
    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut all = self.first.to_vec();
        self.rest.iter().for_each(|bytes| all.extend_from_slice(bytes));
        all
    }
}

/// A buffer with room for the length and the response header in it.
pub(crate) fn begin(
    prefix: RequestPrefix,
    api_version: i16,
    capacity: usize,
) -> Result<BytesMut, ResponseError> {
    let mut buffer = BytesMut::with_capacity(capacity);
    buffer.extend_from_slice(&[0; LENGTH_BYTES]);
    write_response_header(&mut buffer, prefix.api_key, api_version, prefix.correlation_id)?;
    Ok(buffer)
}

/// Responses that wait for the socket, in order.
#[derive(Debug, Default)]
pub(crate) struct OutQueue {
    slices: VecDeque<Bytes>,
    bytes: usize,
}

impl OutQueue {
    /// Puts a response behind the others.
    pub(crate) fn push(&mut self, response: Response) {
        self.bytes += response.len();
        self.slices.push_back(response.first);
        self.slices.extend(response.rest);
    }

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many slices wait.
    pub(crate) fn slices(&self) -> usize {
        self.slices.len()
    }

    /// Hands as much as one vectored write takes to `socket` and forgets it.
    pub(crate) async fn write_some<W: AsyncWrite + Unpin>(&mut self, socket: &mut W) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (place, bytes) in slices.iter_mut().zip(&self.slices) {
            *place = IoSlice::new(bytes);
            count += 1;
        }
        let written = socket
            .write_vectored(slices.get(..count).expect("as many as were set"))
            .await?;
        if written == 0 && 0 < self.bytes {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.forget(written);
        Ok(())
    }

    fn forget(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(front) = self.slices.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.slices.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserts_stand_at_their_places() {
        let insert = |place: usize, text: &'static str| (place, Bytes::from_static(text.as_bytes()));
        for (inserts, expected) in [
            (vec![], "abcdef"),
            (vec![insert(4, "xy")], "xyabcdef"),
            (
                vec![insert(6, "xy"), insert(6, "z"), insert(10, "!")],
                "abxyzcdef!",
            ),
        ] {
            let response = Response::finish(BytesMut::from(&b"\0\0\0\0abcdef"[..]), inserts).unwrap();
            let all = response.to_vec();
            assert_eq!(all.len(), response.len());
            let (length, body) = all.split_first_chunk::<4>().unwrap();
            assert_eq!(u32::from_be_bytes(*length) as usize, body.len());
            assert_eq!(std::str::from_utf8(body).unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_socket_that_takes_little_gets_all_in_order() {
        let mut queue = OutQueue::default();
        let mut expected = Vec::new();
        for number in 0..200_u8 {
            let bytes = vec![number; usize::from(number % 7)];
            expected.extend_from_slice(&bytes);
            queue.push(Response::from_bytes(bytes.into()));
        }
        let (mut near, mut far) = tokio::io::duplex(5);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut far, &mut all)
                .await
                .unwrap();
            all
        });
        while 0 < queue.bytes() {
            queue.write_some(&mut near).await.unwrap();
        }
        drop(near);
        assert_eq!(reader.await.unwrap(), expected);
    }
}
