//! The frame reader over a stream that comes in pieces: what it hands out, what it refuses and when it gives up.
//! The pieces and the time are the test's: nothing waits.

use tokio::io::AsyncWriteExt as _;

use log_core::protocol::ApiKey;

use super::*;
use crate::kafka::test_support::{frame, fuzz};

const BUDGET: u64 = 1 << 30;

fn limits() -> FrameLimits {
    FrameLimits {
        records_frame_bytes_max: 4 << 20,
        opaque_frame_bytes_max: 2 << 20,
        structure_frame_bytes_max: 1 << 20,
        idle_timeout: Duration::from_mins(10),
        frame_timeout: Duration::from_secs(30),
        frame_bytes_per_second_min: 128 << 10,
    }
}

fn reader<R: AsyncRead + Unpin>(source: R) -> FrameReader<R> {
    FrameReader::new(source, Arc::new(limits()), RequestMemory::new(BUDGET))
}

/// What comes out of `input`: the frames' bytes, and the error at the end, if it was one.
async fn read_all(input: &[u8]) -> (Vec<Bytes>, Option<FrameError>) {
    let mut frames = Vec::new();
    let mut reader = reader(input);
    loop {
        match reader.next(|| false).await {
            Ok(Some(frame)) => frames.push(frame.bytes),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

fn produce(body_bytes: usize) -> Vec<u8> {
    frame(ApiKey::Produce, 9, 7, |buffer| {
        buffer.resize(buffer.len() + body_bytes, 0xab);
    })
}

fn metadata(body_bytes: usize) -> Vec<u8> {
    frame(ApiKey::Metadata, 12, 8, |buffer| {
        buffer.resize(buffer.len() + body_bytes, 0xcd);
    })
}

#[tokio::test]
async fn frames_of_all_sizes_come_out_as_they_went_in() {
    let sent = [
        metadata(0),
        produce(10),
        produce(OWN_BUFFER_BYTES - 40),
        produce(OWN_BUFFER_BYTES),
        metadata(100_000),
        produce(3 << 20),
        metadata(1),
    ];
    let (frames, error) = read_all(&sent.concat()).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(frames.len(), sent.len());
    for (frame, sent) in frames.iter().zip(&sent) {
        assert!(*frame == sent[4..]);
    }
}

#[tokio::test]
async fn what_is_refused_is_refused_before_it_is_read() {
    let length_only = |length: i32| length.to_be_bytes().to_vec();
    let begin = |key: i16, version: i16, length: i32| {
        [
            &length.to_be_bytes()[..],
            &key.to_be_bytes(),
            &version.to_be_bytes(),
            &[0; 4],
        ]
        .concat()
    };
    for (input, expected) in [
        (length_only(0), "a request of 0 bytes; the limit is 4194304"),
        (length_only(7), "a request of 7 bytes; the limit is 4194304"),
        (length_only(-1), "a request of -1 bytes; the limit is 4194304"),
        (
            length_only(i32::MAX),
            "a request of 2147483647 bytes; the limit is 4194304",
        ),
        (
            begin(0, 9, (4 << 20) + 1),
            "a request of 4194305 bytes; the limit is 4194304",
        ),
        (
            begin(3, 12, (1 << 20) + 1),
            "a request of 1048577 bytes; the limit is 1048576",
        ),
        // An unknown version of ApiVersions is answered, but not at any size.
        (
            begin(18, 99, (1 << 20) + 1),
            "a request of 1048577 bytes; the limit is 1048576",
        ),
        (begin(999, 0, 100), "API key 999 (version 0) is not served"),
        (begin(0, 2, 100), "version 2 of API 0 is not served; 3 to 13 are"),
        (
            b"GET / HTTP/1.1\r\n".to_vec(),
            "an HTTP request on the Kafka port; the HTTP API has a port of its own",
        ),
    ] {
        // Nothing follows: who reads on before deciding reports a truncated request.
        let (frames, error) = read_all(&input).await;
        assert!(frames.is_empty());
        assert_eq!(error.unwrap().to_string(), expected, "{input:?}");
    }
}

#[tokio::test]
async fn other_protocols_are_recognised_at_the_beginning_only() {
    let input = [metadata(0), b"GET / HTTP/1.1\r\n".to_vec()].concat();
    let (frames, error) = read_all(&input).await;
    assert_eq!(frames.len(), 1);
    assert!(matches!(error, Some(FrameError::Length { .. })), "{error:?}");
}

#[tokio::test]
async fn the_end_within_a_frame_is_not_the_end_between_two() {
    let whole = [metadata(5), produce(100_000)].concat();
    for end in [2, 6, 12, 20, 31, 5_000, whole.len() - 1] {
        let (_, error) = read_all(&whole[..end]).await;
        let between = end == metadata(5).len();
        assert_eq!(between, error.is_none(), "{end}: {error:?}");
        assert!(
            between || matches!(error, Some(FrameError::Truncated)),
            "{error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_given_up_unless_it_waits_for_answers() {
    let (_far, near) = tokio::io::duplex(64);
    let mut frames = reader(near);
    let begin = Instant::now();
    let error = frames.next(|| false).await.unwrap_err();
    assert!(matches!(error, FrameError::Idle(_)), "{error}");
    assert_eq!(begin.elapsed().as_secs(), 600);

    let begin = Instant::now();
    let asked = std::cell::Cell::new(0);
    let error = frames
        .next(|| {
            asked.set(asked.get() + 1);
            asked.get() < 3
        })
        .await
        .unwrap_err();
    assert!(matches!(error, FrameError::Idle(_)), "{error}");
    assert_eq!(begin.elapsed().as_secs(), 3 * 600);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_end_is_given_up_although_it_drips() {
    for (whole, sent, seconds) in [
        // Not even the length; the length; the prefix, whose frame then takes 100 bytes' time.
        (produce(100), 3, 30),
        (produce(100), 5, 30),
        (produce(100), 20, 30),
        // 128 KiB take a second more.
        (produce(128 << 10), 1000, 31),
    ] {
        let (mut far, near) = tokio::io::duplex(1 << 20);
        far.write_all(&whole[..sent]).await.unwrap();
        let drip = tokio::spawn(async move {
            // A byte now and then does not buy time; it would complete the frame after hours.
            for byte in &whole[sent..] {
                tokio::time::sleep(Duration::from_secs(29)).await;
                if far.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        });
        let begin = Instant::now();
        let error = reader(near).next(|| true).await.unwrap_err();
        assert!(matches!(error, FrameError::Incomplete(_)), "{error}");
        assert_eq!(begin.elapsed().as_secs(), seconds, "{sent}");
        drip.await.unwrap();
    }
}

#[tokio::test]
async fn a_request_waits_for_memory_before_its_body_is_read() {
    let memory = RequestMemory::new(100_000);
    let held = memory.take(60_000, FrameClass::Records).await;
    let sent = produce(80_000);
    let (mut far, near) = tokio::io::duplex(1 << 10);
    let mut frames = FrameReader::new(near, Arc::new(limits()), memory.clone());
    let writer = tokio::spawn(async move {
        far.write_all(&sent).await.unwrap();
    });
    let mut next = pin!(frames.next(|| false));
    for _ in 0..100 {
        tokio::select! {
            biased;
            _ = &mut next => panic!("read without memory"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert!(!writer.is_finished(), "the client feels the pressure");
    drop(held);
    let frame = next.await.unwrap().unwrap();
    writer.await.unwrap();
    assert!(memory.free_bytes() < 20_000);
    drop(frame);
    assert_eq!(memory.free_bytes(), 100_000);
}

/// The buffer is used again when its frames are gone, kept from them when they are not, and small when nothing happens.
#[tokio::test(start_paused = true)]
async fn the_buffer_follows_the_traffic() {
    let (mut far, near) = tokio::io::duplex(4 << 20);
    let mut frames = reader(near);
    far.write_all(&metadata(20)).await.unwrap();
    frames.next(|| false).await.unwrap().unwrap();
    assert!(frames.buffer.capacity() <= CHUNK_BYTES_MIN);

    let mut kept = Vec::new();
    for number in 0..100_u8 {
        let mut sent = produce(30_000);
        *sent.last_mut().unwrap() = number;
        far.write_all(&sent).await.unwrap();
        kept.push(frames.next(|| false).await.unwrap().unwrap().bytes);
        assert!(frames.buffer.capacity() <= 2 * CHUNK_BYTES_MAX);
    }
    for (number, bytes) in kept.iter().enumerate() {
        assert_eq!(usize::from(*bytes.last().unwrap()), number);
    }
    tokio::select! {
        biased;
        _ = frames.next(|| true) => panic!("nothing was sent"),
        () = tokio::time::sleep(QUIET * 2) => {}
    }
    assert!(frames.buffer.capacity() <= CHUNK_BYTES_MIN);
}

/// Delivers its bytes in pieces of random sizes.
struct Pieces<'a> {
    rest: &'a [u8],
    rng: fastrand::Rng,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rng.u8(..) < 32 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let max = [1, 16, 5_000, 200_000][self.rng.usize(..4)];
        let count = self
            .rng
            .usize(1..=max)
            .min(self.rest.len())
            .min(buffer.remaining());
        let (now, later) = self.rest.split_at(count);
        buffer.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}

/// Whatever comes in whatever pieces: no panic, the frames are those of a ten-line model, and all memory is given back.
#[test]
fn random_streams_are_cut_like_the_model_cuts_them() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    fuzz(2_000, |rng| {
        let mut stream = Vec::new();
        for _ in 0..rng.usize(0..8) {
            let bytes = match rng.u8(..10) {
                0 => produce(rng.usize(..200_000)),
                1..=3 => produce(rng.usize(..3_000)),
                4..=6 => metadata(rng.usize(..300)),
                7 => frame(ApiKey::ApiVersions, rng.i16(..), 1, |_| ()),
                8 => (0..rng.usize(..40)).map(|_| rng.u8(..)).collect(),
                _ => {
                    let mut bytes = metadata(rng.usize(..50));
                    let place = rng.usize(..bytes.len());
                    bytes[place] ^= 1 << rng.u8(..8);
                    bytes
                }
            };
            stream.extend_from_slice(&bytes);
        }
        stream.truncate(stream.len() - rng.usize(..=stream.len().min(20)) * usize::from(rng.u8(..4) == 0));

        let mut expected = Vec::new();
        let mut rest = &stream[..];
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let length = i32::from_be_bytes(*length);
            let Ok(length) = usize::try_from(length) else {
                break;
            };
            let Some(prefix) = behind.get(..length).and_then(RequestPrefix::peek) else {
                break;
            };
            let max = match apis::admit(prefix) {
                Admission::Serve(api) if api.frame_class == FrameClass::Records => 4 << 20,
                Admission::Serve(_) | Admission::NegotiateDown => 1 << 20,
                _ => break,
            };
            if max < length {
                break;
            }
            expected.push(&behind[..length]);
            rest = &behind[length..];
        }

        let memory = RequestMemory::new(BUDGET);
        let source = Pieces {
            rest: &stream,
            rng: rng.fork(),
        };
        runtime.block_on(async {
            let mut reader = FrameReader::new(source, Arc::new(limits()), memory.clone());
            let mut frames = Vec::new();
            while let Ok(Some(frame)) = reader.next(|| false).await {
                assert!(frames.len() < expected.len(), "more frames than there are");
                assert!(frame.bytes == expected[frames.len()]);
                frames.push(frame);
            }
            assert_eq!(frames.len(), expected.len());
        });
        assert_eq!(memory.free_bytes(), usize::try_from(BUDGET).unwrap());
    });
}
