//! Sessions as a client sees them: requests in, what is read and what is told out.
//! A small client keeps the books that a real one keeps, and checks the answers against them.

use bytes::Bytes;

use super::*;

const TWO_MINUTES: i64 = 120_000;

fn name(topic: &str) -> FetchTopic {
    FetchTopic {
        id: TopicId::ZERO,
        name: Some(topic.into()),
    }
}

fn id(number: u8, name: Option<&str>) -> FetchTopic {
    FetchTopic {
        id: TopicId::from_bytes([number; 16]),
        name: name.map(Arc::from),
    }
}

fn target(topic: FetchTopic, partition: i32, offset: i64) -> FetchTarget {
    FetchTarget {
        topic,
        partition,
        fetch: PartitionFetch {
            offset,
            bytes_max: 1000,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        },
    }
}

fn row(partition: i32, high_watermark: i64, records: &'static str) -> PartitionRow {
    PartitionRow {
        topic: name("a"),
        partition,
        error_code: 0,
        high_watermark,
        last_stable_offset: high_watermark,
        log_start_offset: 0,
        aborted_transactions: None,
        diverging_epoch: None,
        current_leader: None,
        records: Bytes::from_static(records.as_bytes()),
    }
}

fn error_row(partition: i32) -> PartitionRow {
    PartitionRow {
        error_code: 3,
        log_start_offset: -1,
        ..row(partition, -1, "")
    }
}

struct Client<'a> {
    sessions: &'a FetchSessions,
    by_id: bool,
    now_ms: i64,
}

impl<'a> Client<'a> {
    fn new(sessions: &'a FetchSessions) -> Self {
        Self {
            sessions,
            by_id: false,
            now_ms: 0,
        }
    }

    fn open(
        &self,
        (session_id, epoch): (i32, i32),
        targets: Vec<FetchTarget>,
        forgotten: Vec<(FetchTopic, i32)>,
    ) -> (FetchContext, Vec<FetchTarget>) {
        let request = SessionRequest {
            session_id,
            epoch,
            by_id: self.by_id,
            targets,
            forgotten,
        };
        self.sessions.open(request, self.now_ms, |_| None)
    }

    /// A whole request; `answer` makes the row of each partition that is read. The error, the session, partitions told.
    fn fetch(
        &self,
        session: (i32, i32),
        targets: Vec<FetchTarget>,
        forgotten: Vec<(FetchTopic, i32)>,
        answer: impl Fn(&FetchTarget) -> PartitionRow,
    ) -> (ErrorCode, i32, Vec<i32>) {
        let (context, targets) = self.open(session, targets, forgotten);
        let rows = targets.iter().map(|target| PartitionRow {
            topic: target.topic.clone(),
            ..answer(target)
        });
        self.close(&context, session.1, &targets, rows.collect())
    }

    fn close(
        &self,
        context: &FetchContext,
        epoch: i32,
        targets: &[FetchTarget],
        mut rows: Vec<PartitionRow>,
    ) -> (ErrorCode, i32, Vec<i32>) {
        let request = ClosingRequest {
            epoch,
            by_id: self.by_id,
        };
        let (error, id) = self
            .sessions
            .close(context, request, targets, &mut rows, self.now_ms);
        (error, id, rows.iter().map(|row| row.partition).collect())
    }

    /// A session of partitions 0 to `count` − 1 of topic "a", all at high watermark 5.
    fn session_of(&self, count: i32) -> i32 {
        let targets = (0..count)
            .map(|partition| target(name("a"), partition, 0))
            .collect();
        let (error, id, told) =
            self.fetch((0, 0), targets, Vec::new(), |target| row(target.partition, 5, ""));
        assert_eq!(
            (error, told.len()),
            (ErrorCode::None, usize::try_from(count).unwrap())
        );
        id
    }
}

fn sessions(sessions_max: usize) -> FetchSessions {
    FetchSessions::new(SessionLimits {
        sessions_max,
        ..SessionLimits::default()
    })
}

#[test]
fn without_a_session_everything_is_told_and_nothing_kept() {
    let sessions = sessions(10);
    let client = Client::new(&sessions);
    for _ in 0..2 {
        let targets = vec![target(name("a"), 0, 0), target(name("a"), 1, 0)];
        let told = client.fetch((0, -1), targets, Vec::new(), |target| {
            row(target.partition, 5, "")
        });
        assert_eq!(told, (ErrorCode::None, 0, vec![0, 1]));
    }
    assert_eq!(sessions.size(), (0, 0));
}

#[test]
fn an_incremental_answer_tells_what_changed() {
    let sessions = sessions(10);
    let client = Client::new(&sessions);
    let id = client.session_of(5);
    assert_ne!(id, 0);
    let quiet = |target: &FetchTarget| row(target.partition, 5, "");
    assert_eq!(
        client.fetch((id, 1), vec![], vec![], quiet),
        (ErrorCode::None, id, vec![])
    );

    let busy = |target: &FetchTarget| match target.partition {
        0 => row(0, 5, "records"),
        1 => row(1, 6, ""),
        2 => PartitionRow {
            log_start_offset: 1,
            ..row(2, 5, "")
        },
        3 => error_row(3),
        other => row(other, 5, ""),
    };
    // Partition 0 gave records and goes to the back.
    assert_eq!(
        client.fetch((id, 2), vec![], vec![], busy),
        (ErrorCode::None, id, vec![0, 1, 2, 3])
    );
    // The error again, and the records; the rest was told.
    assert_eq!(
        client.fetch((id, 3), vec![], vec![], busy),
        (ErrorCode::None, id, vec![3, 0])
    );
    // After an error the good state is news.
    let (_, targets) = client.open((id, 4), vec![], vec![]);
    assert_eq!(
        targets.iter().map(|target| target.partition).collect::<Vec<_>>(),
        [1, 2, 3, 4, 0]
    );
    assert_eq!(
        client.fetch((id, 5), vec![], vec![], quiet),
        (ErrorCode::None, id, vec![1, 2, 3])
    );
}

#[test]
fn requests_change_the_session_and_offsets_move_only_then() {
    let sessions = sessions(10);
    let client = Client::new(&sessions);
    let id = client.session_of(2);
    let (_, targets) = client.open(
        (id, 1),
        vec![target(name("a"), 1, 7), target(name("b"), 0, 9)],
        vec![],
    );
    let seen: Vec<_> = targets
        .iter()
        .map(|target| (target.partition, target.fetch.offset))
        .collect();
    assert_eq!(seen, [(0, 0), (1, 7), (0, 9)]);
    let (_, targets) = client.open((id, 2), vec![], vec![(name("a"), 0), (name("nobody"), 0)]);
    let seen: Vec<_> = targets
        .iter()
        .map(|target| (target.partition, target.fetch.offset))
        .collect();
    assert_eq!(seen, [(1, 7), (0, 9)]);
    assert_eq!(sessions.size(), (1, 2));
}

#[test]
fn a_session_without_partitions_ends() {
    let sessions = sessions(10);
    let client = Client::new(&sessions);
    let id = client.session_of(1);
    let quiet = |target: &FetchTarget| row(target.partition, 5, "");
    let told = client.fetch((id, 1), vec![], vec![(name("a"), 0)], quiet);
    assert_eq!(told, (ErrorCode::None, 0, vec![]));
    assert_eq!(
        client.fetch((id, 2), vec![], vec![], quiet),
        (ErrorCode::FetchSessionIdNotFound, 0, vec![])
    );
}

#[test]
fn epochs_and_ids_that_do_not_fit_are_refused() {
    let sessions = sessions(10);
    let mut client = Client::new(&sessions);
    let quiet = |target: &FetchTarget| row(target.partition, 5, "");
    let id = client.session_of(1);
    for (session, expected) in [
        ((id, 2), ErrorCode::InvalidFetchSessionEpoch),
        ((id, -2), ErrorCode::InvalidFetchSessionEpoch),
        ((id.wrapping_add(1), 1), ErrorCode::FetchSessionIdNotFound),
        ((0, 1), ErrorCode::FetchSessionIdNotFound),
    ] {
        assert_eq!(
            client.fetch(session, vec![], vec![], quiet),
            (expected, 0, vec![]),
            "{session:?}"
        );
    }
    client.by_id = true;
    assert_eq!(
        client.fetch((id, 1), vec![], vec![], quiet),
        (ErrorCode::FetchSessionTopicIdError, 0, vec![])
    );
    client.by_id = false;
    assert_eq!(
        client.fetch((id, 1), vec![], vec![], quiet),
        (ErrorCode::None, id, vec![])
    );
}

#[test]
fn the_answer_to_an_overtaken_request_is_an_error_that_keeps_the_session() {
    let sessions = sessions(10);
    let client = Client::new(&sessions);
    let id = client.session_of(1);
    let (first, targets) = client.open((id, 1), vec![], vec![]);
    let (second, _) = client.open((id, 2), vec![], vec![]);
    let rows = vec![row(0, 9, "records")];
    assert_eq!(
        client.close(&first, 1, &targets, rows),
        (ErrorCode::InvalidFetchSessionEpoch, id, vec![])
    );
    assert_eq!(
        client.close(&second, 2, &[], vec![]),
        (ErrorCode::None, id, vec![])
    );
}

#[test]
fn a_full_request_closes_the_session_it_names() {
    let sessions = sessions(10);
    let client = Client::new(&sessions);
    let quiet = |target: &FetchTarget| row(target.partition, 5, "");
    let id = client.session_of(1);
    let told = client.fetch((id, -1), vec![target(name("a"), 3, 0)], vec![], quiet);
    assert_eq!(told, (ErrorCode::None, 0, vec![3]));
    assert_eq!(sessions.size(), (0, 0));
    let id = client.session_of(1);
    let (error, next, told) = client.fetch((id, 0), vec![target(name("a"), 3, 0)], vec![], quiet);
    assert_eq!((error, told), (ErrorCode::None, vec![3]));
    assert!(next != 0 && next != id);
    assert_eq!(sessions.size(), (1, 1));
}

#[test]
fn epochs_wrap_past_zero() {
    assert_eq!([-1, 0, 1, i32::MAX].map(next_epoch), [-1, 1, 2, 1]);
}

#[test]
fn a_partition_named_twice_counts_as_the_later_says() {
    let sessions = sessions(10);
    let client = Client::new(&sessions);
    let named = vec![
        target(name("a"), 0, 1),
        target(name("b"), 0, 2),
        target(name("a"), 0, 3),
    ];
    for session in [(0, -1), (0, 0)] {
        let (_, targets) = client.open(session, named.clone(), vec![]);
        let offsets: Vec<_> = targets.iter().map(|target| target.fetch.offset).collect();
        assert_eq!(offsets, [3, 2]);
    }
}

#[test]
fn topics_known_by_id_get_their_names_when_they_have_one() {
    let sessions = sessions(10);
    let mut client = Client::new(&sessions);
    client.by_id = true;
    let quiet = |target: &FetchTarget| row(target.partition, 5, "");
    let named = vec![target(id(1, Some("a")), 0, 0), target(id(2, None), 0, 0)];
    let (_, session, _) = client.fetch((0, 0), named, vec![], quiet);
    let resolved = |epoch, name_of: &dyn Fn(TopicId) -> Option<Arc<str>>| {
        let request = SessionRequest {
            session_id: session,
            epoch,
            by_id: true,
            targets: vec![],
            forgotten: vec![],
        };
        let (_, targets) = sessions.open(request, 0, name_of);
        targets
            .into_iter()
            .map(|target| target.topic.name.map(|name| name.to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(resolved(1, &|_| None), [Some("a".to_owned()), None]);
    assert_eq!(
        resolved(2, &|_| Some("late".into())),
        [Some("a".to_owned()), Some("late".to_owned())]
    );
    // A name stays, although nobody has it any more.
    assert_eq!(
        resolved(3, &|_| None),
        [Some("a".to_owned()), Some("late".to_owned())]
    );
}

#[test]
fn room_is_made_by_those_unused_and_those_smaller() {
    let sessions = sessions(2);
    let mut client = Client::new(&sessions);
    let quiet = |target: &FetchTarget| row(target.partition, 5, "");
    let small = client.session_of(1);
    let large = client.session_of(3);
    // Both are young.
    assert_eq!(client.session_of(9), 0);
    // Both are old, and in use.
    client.now_ms = TWO_MINUTES + 1;
    for session in [small, large] {
        assert_eq!(
            client.fetch((session, 1), vec![], vec![], quiet).0,
            ErrorCode::None
        );
    }
    // The same size is not reason enough.
    assert_eq!(client.session_of(1), 0);
    let larger = client.session_of(2);
    assert_ne!(larger, 0);
    assert_eq!(
        client.fetch((small, 2), vec![], vec![], quiet).0,
        ErrorCode::FetchSessionIdNotFound
    );
    assert_eq!(client.fetch((large, 2), vec![], vec![], quiet).0, ErrorCode::None);
    // `large` is used a minute on, `larger` is not.
    client.now_ms += TWO_MINUTES - 1;
    assert_eq!(client.fetch((large, 3), vec![], vec![], quiet).0, ErrorCode::None);
    client.now_ms += 2;
    assert_ne!(client.session_of(1), 0);
    assert_eq!(
        client.fetch((larger, 1), vec![], vec![], quiet).0,
        ErrorCode::FetchSessionIdNotFound
    );
    assert_eq!(sessions.size(), (2, 4));
}

#[test]
fn partitions_are_limited_over_all_sessions() {
    let sessions = FetchSessions::new(SessionLimits {
        partitions_max: 10,
        ..SessionLimits::default()
    });
    let client = Client::new(&sessions);
    let quiet = |target: &FetchTarget| row(target.partition, 5, "");
    let id = client.session_of(6);
    assert_eq!(client.session_of(5), 0);
    let more = |count: i32| {
        (100..100 + count)
            .map(|partition| target(name("a"), partition, 0))
            .collect::<Vec<_>>()
    };
    assert_eq!(client.fetch((id, 1), more(4), vec![], quiet).0, ErrorCode::None);
    assert_eq!(sessions.size(), (1, 10));
    assert_eq!(
        client.fetch((id, 2), more(1), vec![], quiet).0,
        ErrorCode::FetchSessionIdNotFound
    );
    assert_eq!(sessions.size(), (0, 0));
}

#[test]
fn sessions_that_nobody_uses_give_their_partitions_up() {
    let sessions = FetchSessions::new(SessionLimits {
        partitions_max: 10,
        ..SessionLimits::default()
    });
    let mut client = Client::new(&sessions);
    let quiet = |target: &FetchTarget| row(target.partition, 5, "");
    let [_, _, used] = [4, 4, 2].map(|count| client.session_of(count));
    assert_eq!(client.session_of(1), 0);
    client.now_ms = TWO_MINUTES;
    assert_eq!(client.fetch((used, 1), vec![], vec![], quiet).0, ErrorCode::None);
    client.now_ms += 1;
    assert_eq!(client.session_of(9), 0);
    assert_ne!(client.session_of(8), 0);
    assert_eq!(sessions.size(), (2, 10));
    assert_eq!(client.fetch((used, 2), vec![], vec![], quiet).0, ErrorCode::None);
}

/// A version that has 16 bits for a name's length cannot tell what a later one could ask for.
#[test]
fn names_that_no_topic_can_have_are_not_remembered() {
    let sessions = sessions(2);
    let client = Client::new(&sessions);
    let quiet = |target: &FetchTarget| row(target.partition, 5, "");
    let (longest, too_long) = ("n".repeat(249), "n".repeat(250));
    let asked = |topic: &str| vec![target(name(topic), 0, 0)];
    let (error, id, told) = client.fetch((0, 0), asked(&too_long), vec![], quiet);
    assert_eq!((error, id, told), (ErrorCode::None, 0, vec![0]));
    let (error, id, _) = client.fetch((0, 0), asked(&longest), vec![], quiet);
    assert_eq!((error, id != 0), (ErrorCode::None, true));
    let (error, ..) = client.fetch((id, 1), asked(&too_long), vec![], quiet);
    assert_eq!(error, ErrorCode::FetchSessionIdNotFound);
    assert_eq!(sessions.size(), (0, 0));
}
