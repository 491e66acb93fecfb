//! When a turn's records are synced, how often, and by whom.
//!
//! The disks of the script answer whoever waits for them as soon as they are told to sync.

use std::task::Context;

use super::*;
use crate::kafka::connection::turn::{ANSWERED_BYTES_MAX, ANSWERED_MAX, SYNCED_HERE_BYTES_MAX};

#[tokio::test]
async fn what_a_turn_brings_is_synced_once_and_on_its_thread() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    for turn in 0..2 {
        client
            .send(&[(1, UNSYNCED), (2, UNSYNCED), (3, NOW), (4, UNSYNCED)])
            .await;
        for expected in 1..=4 {
            assert_eq!(client.answer().await, Some(expected));
        }
        assert_eq!(script.disks[0].syncs.lock().len(), turn + 1);
    }
    assert_eq!(*script.disks[0].syncs.lock(), [("here", 3), ("here", 3)]);
}

#[tokio::test]
async fn a_turn_for_two_partitions_is_synced_by_others() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    client
        .send(&[
            (1, UNSYNCED),
            (2, UNSYNCED),
            (3, UNSYNCED_ELSEWHERE),
            (4, UNSYNCED),
        ])
        .await;
    for expected in 1..=4 {
        assert_eq!(client.answer().await, Some(expected));
    }
    assert_eq!(
        *script.disks[0].syncs.lock(),
        [("elsewhere", 2), ("elsewhere", 1)]
    );
    assert_eq!(*script.disks[1].syncs.lock(), [("elsewhere", 1)]);
}

#[tokio::test]
async fn a_connection_that_waits_for_something_else_is_not_held_up_by_a_sync() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    client.send(&[(1, LATER), (2, UNSYNCED)]).await;
    script.until_begun(2).await;
    script.release(1);
    for expected in [1, 2] {
        assert_eq!(client.answer().await, Some(expected));
    }
    assert_eq!(*script.disks[0].syncs.lock(), [("elsewhere", 1)]);
}

#[tokio::test]
async fn a_full_queue_and_a_barrier_end_a_turn() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 2);
    client
        .send(&[
            (1, UNSYNCED),
            (2, UNSYNCED),
            (3, UNSYNCED),
            (4, BARRIER),
            (5, UNSYNCED),
        ])
        .await;
    for expected in [1, 2, 3] {
        assert_eq!(client.answer().await, Some(expected));
    }
    script.until_begun(4).await;
    script.release(4);
    for expected in [4, 5] {
        assert_eq!(client.answer().await, Some(expected));
    }
    let answered: usize = script.disks[0].syncs.lock().iter().map(|(_, count)| count).sum();
    assert_eq!(answered, 4);
}

#[tokio::test]
async fn a_connection_that_ends_within_a_turn_leaves_nothing_unsynced() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    client.send(&[(1, UNSYNCED), (2, CLOSE)]).await;
    assert_eq!(client.answer().await, Some(1));
    assert!(matches!(client.end.await.unwrap(), End::Request(_)));
    assert_eq!(*script.disks[0].syncs.lock(), [("elsewhere", 1)]);
}

#[test]
fn a_turn_that_brings_much_is_synced_while_it_is_read() {
    let script = Script::answering(10);
    let mut turn = Turn::default();
    let unsynced = || Unsynced::new(Arc::clone(&script.disks[0]) as _);
    turn.add(unsynced(), SYNCED_HERE_BYTES_MAX, true);
    assert!(script.disks[0].syncs.lock().is_empty());
    turn.add(unsynced(), 1, false);
    assert_eq!(script.disks[0].syncs.lock().len(), 1);
    turn.end();
    assert_eq!(script.disks[0].syncs.lock().len(), 1);
}

#[test]
fn answers_leave_when_many_are_ready_or_much_is_answered() {
    let mut turn = Turn::default();
    for _ in 1..ANSWERED_MAX {
        turn.note_answered(1);
        assert!(!turn.take_answered());
    }
    turn.note_answered(1);
    assert!(turn.take_answered());
    assert!(!turn.take_answered());
    turn.note_answered(ANSWERED_BYTES_MAX);
    assert!(turn.take_answered());
    turn.note_answered(ANSWERED_BYTES_MAX - 1);
    turn.end();
    turn.note_answered(1);
    assert!(!turn.take_answered());
}

/// A socket that takes everything, and notes how many requests were carried out before each write.
struct Witness {
    script: Arc<Script>,
    writes: Vec<usize>,
    answers: Vec<u8>,
}

impl AsyncWrite for Witness {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let begun = this.script.begun().len();
        // A write that goes to one slice after the other is one.
        if this.writes.last() != Some(&begun) {
            this.writes.push(begun);
        }
        this.answers.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Serves these requests, which are all there when the connection begins, to a client that says no more. What was carried out before each
/// write, and the answers.
async fn serve_at_once(
    script: &Arc<Script>,
    requests: &[u8],
    in_flight_max: usize,
) -> (Vec<usize>, Vec<i32>) {
    let mut witness = Witness {
        script: Arc::clone(script),
        writes: Vec::new(),
        answers: Vec::new(),
    };
    let end = run(
        requests,
        &mut witness,
        script,
        info(),
        &settings(in_flight_max),
        RequestMemory::new(1 << 30),
        Shutdown::new().signal(),
    )
    .await;
    assert!(matches!(end, End::ByClient), "{end}");
    let (mut rest, mut answers) = (&witness.answers[..], Vec::new());
    while let Some(answer) = read_answer(&mut rest).await {
        answers.push(answer);
    }
    (witness.writes, answers)
}

/// More requests than answers are held back for are there at once.
#[tokio::test]
async fn answers_of_a_long_turn_leave_before_it_ends_and_in_order() {
    let script = Script::answering(10);
    let count = i32::try_from(2 * ANSWERED_MAX + 5).unwrap();
    let requests: Vec<u8> = (1..=count).flat_map(|id| request(id, NOW)).collect();
    let (writes, answers) = serve_at_once(&script, &requests, 3 * ANSWERED_MAX).await;
    assert_eq!(writes, [ANSWERED_MAX, 2 * ANSWERED_MAX, 2 * ANSWERED_MAX + 5]);
    assert!(answers.into_iter().eq(1..=count));
}

/// What is left of those that came together would have been too much at once.
#[tokio::test]
async fn answers_leave_before_what_was_left_of_those_that_came_together() {
    let script = Arc::new(Script {
        together_max: Some(2),
        ..Script::default()
    });
    let requests: Vec<u8> = (1..=5).flat_map(|id| produce(id, NOW)).collect();
    let (writes, answers) = serve_at_once(&script, &requests, 16).await;
    assert_eq!(*script.together.lock(), [5, 3, 1]);
    assert_eq!(writes, [2, 4, 5]);
    assert_eq!(answers, [1, 2, 3, 4, 5]);
}

fn produce(correlation_id: i32, how: u8) -> Vec<u8> {
    frame(ApiKey::Produce, 9, correlation_id, |buffer| buffer.put_u8(how))
}

#[tokio::test]
async fn produce_requests_that_came_together_are_carried_out_together() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    let mut bytes = [produce(1, UNSYNCED), produce(2, NOW), produce(3, LATER)].concat();
    bytes.extend(request(4, NOW));
    bytes.extend([produce(5, UNSYNCED), produce(6, SILENCE), produce(7, NOW)].concat());
    // The last one is not complete yet.
    let rest = bytes.split_off(bytes.len() - 3);
    let socket = client.write.as_mut().unwrap();
    socket.write_all(&bytes).await.unwrap();
    script.until_begun(6).await;
    socket.write_all(&rest).await.unwrap();
    script.until_begun(7).await;
    script.release(3);
    for expected in [1, 2, 3, 4, 5, 7] {
        assert_eq!(client.answer().await, Some(expected));
    }
    assert_eq!(*script.begun(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(*script.together.lock(), [3, 2]);
}

#[tokio::test]
async fn no_more_come_together_than_there_are_places_for_answers() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 2);
    let bytes: Vec<u8> = (1..=5).flat_map(|id| produce(id, NOW)).collect();
    client.write.as_mut().unwrap().write_all(&bytes).await.unwrap();
    for expected in 1..=5 {
        assert_eq!(client.answer().await, Some(expected));
    }
    assert!(script.together.lock().iter().all(|count| *count <= 2));
}

#[tokio::test]
async fn one_of_several_that_ends_the_connection_ends_it() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    let bytes = [produce(1, NOW), produce(2, CLOSE), produce(3, NOW)].concat();
    client.write.as_mut().unwrap().write_all(&bytes).await.unwrap();
    assert_eq!(client.answer().await, Some(1));
    assert_eq!(client.answer().await, None);
    assert!(matches!(client.end.await.unwrap(), End::Request(_)));
}

#[tokio::test]
async fn what_stands_behind_the_end_of_a_connection_is_synced_all_the_same() {
    let script = Script::answering(10);
    let mut client = Client::connect(&script, 16);
    let bytes = [produce(1, CLOSE), produce(2, UNSYNCED)].concat();
    client.write.as_mut().unwrap().write_all(&bytes).await.unwrap();
    assert!(matches!(client.end.await.unwrap(), End::Request(_)));
    assert_eq!(*script.begun(), [1, 2], "they came together");
    assert_eq!(*script.disks[0].syncs.lock(), [("elsewhere", 1)]);
}
