//! Fetch sessions (KIP-227): the broker remembers what a client fetches, so that requests and responses name only what changed.
//!
//! | session id | epoch | the request | the answer |
//! |---|---|---|---|
//! | 0 | −1 | full; no session wanted (also all versions below 7) | everything, id 0 |
//! | 0 | 0 | full; a session wanted | everything, the new id, or 0 when there is no room |
//! | n | −1 | full; closes session n | everything, id 0 |
//! | n | 0 | full; closes session n and wants another | everything, the new id or 0 |
//! | n | its next | changes only | what changed, id n |
//! | n | another | | `INVALID_FETCH_SESSION_EPOCH` |
//! | unknown | above 0 | | `FETCH_SESSION_ID_NOT_FOUND` |
//!
//! The broker never moves the offsets of a session; the client names each partition again whose offset moved. A session left
//! without partitions ends. A partition stays in the order in which the client named it, but one that gave records goes to
//! the back, so that all get their turn under a byte limit.
//!
//! Room is limited twice: in sessions, and in partitions over all sessions. Some clients open a session with every request and never
//! use it (id 0, epoch 0); so a session that was not used for two minutes gives way to any, and one older than that to one
//! with more partitions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use log_core::model::TopicId;
use log_core::protocol::ErrorCode;
use parking_lot::Mutex;

use crate::kafka::fetch_response::{FetchTopic, PartitionRow};
use crate::metadata::topic_name;

/// "No session".
const NO_SESSION: i32 = 0;
/// Asks for a new session.
const INITIAL_EPOCH: i32 = 0;
/// Ends the session, or wants none.
const FINAL_EPOCH: i32 = -1;

/// A session's epoch counts 1, 2, … and from 2³¹ − 1 back to 1.
fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        ..0 => FINAL_EPOCH,
        i32::MAX => 1,
        _ => epoch + 1,
    }
}

/// What a fetch asks of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionFetch {
    /// From where.
    pub(crate) offset: i64,
    /// At most so many bytes, but one batch at least if it is the first of the response.
    pub(crate) bytes_max: i32,
    /// The leader epoch the client believes in, or −1.
    pub(crate) current_leader_epoch: i32,
    /// The epoch of the last record the client has, or −1.
    pub(crate) last_fetched_epoch: i32,
}

/// One partition of a fetch.
#[derive(Debug, Clone)]
pub(crate) struct FetchTarget {
    /// The topic.
    pub(crate) topic: FetchTopic,
    /// The partition.
    pub(crate) partition: i32,
    /// What is asked of it.
    pub(crate) fetch: PartitionFetch,
}

/// What makes a partition the same as one named before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum PartitionKey {
    ById(TopicId, i32),
    ByName(Arc<str>, i32),
}

impl PartitionKey {
    fn new(topic: &FetchTopic, partition: i32) -> Self {
        match &topic.name {
            Some(name) if topic.id == TopicId::ZERO => Self::ByName(Arc::clone(name), partition),
            _ => Self::ById(topic.id, partition),
        }
    }
}

/// The part of a request that is about sessions.
#[derive(Debug)]
pub(crate) struct SessionRequest {
    /// From the request.
    pub(crate) session_id: i32,
    /// From the request.
    pub(crate) epoch: i32,
    /// Whether the version names topics by id.
    pub(crate) by_id: bool,
    /// The partitions it names, in order. One named twice counts as the later says.
    pub(crate) targets: Vec<FetchTarget>,
    /// The partitions it drops from the session.
    pub(crate) forgotten: Vec<(FetchTopic, i32)>,
}

/// How a request is served: which partitions it reads, and what of them it answers.
#[derive(Debug)]
pub(crate) enum FetchContext {
    /// The session is not what the client thinks; nothing is read.
    Refused(ErrorCode),
    /// All partitions of the request, all in the answer.
    Sessionless,
    /// The same, and a session is made of them with the answer.
    Full,
    /// All partitions of the session, what changed in the answer.
    Incremental(Arc<Mutex<FetchSession>>),
}

/// One client's session.
#[derive(Debug)]
pub(crate) struct FetchSession {
    id: i32,
    by_id: bool,
    /// The epoch that the next request must have.
    epoch: i32,
    order: BTreeMap<u64, CachedPartition>,
    places: HashMap<PartitionKey, u64>,
    next_place: u64,
}

#[derive(Debug)]
struct CachedPartition {
    target: FetchTarget,
    /// As the client was told; −1 before, and after an error, so that the next good answer is told again.
    high_watermark: i64,
    log_start_offset: i64,
}

impl FetchSession {
    fn new(id: i32, by_id: bool) -> Self {
        Self {
            id,
            by_id,
            epoch: next_epoch(INITIAL_EPOCH),
            order: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
        }
    }

    fn len(&self) -> usize {
        self.order.len()
    }

    fn put_last(&mut self, key: PartitionKey, partition: CachedPartition) {
        let place = self.next_place;
        self.next_place += 1;
        self.order.insert(place, partition);
        self.places.insert(key, place);
    }

    fn update(&mut self, targets: Vec<FetchTarget>, forgotten: &[(FetchTopic, i32)]) {
        for target in targets {
            let key = PartitionKey::new(&target.topic, target.partition);
            if let Some(cached) = self.places.get(&key).and_then(|place| self.order.get_mut(place)) {
                cached.target.fetch = target.fetch;
            } else {
                self.put_last(
                    key,
                    CachedPartition {
                        target,
                        high_watermark: -1,
                        log_start_offset: -1,
                    },
                );
            }
        }
        for (topic, partition) in forgotten {
            if let Some(place) = self.places.remove(&PartitionKey::new(topic, *partition)) {
                self.order.remove(&place);
            }
        }
    }

    /// Decides whether a row is told, and remembers that it was.
    fn must_tell(&mut self, row: &PartitionRow) -> bool {
        let key = PartitionKey::new(&row.topic, row.partition);
        let Some(place) = self.places.get(&key).copied() else {
            // Forgotten by a later request of the same client: an answer does no harm.
            return true;
        };
        let cached = self.order.get_mut(&place).expect("a key's place is taken");
        let is_error = row.error_code != 0;
        let must_tell = !row.records.is_empty()
            || is_error
            || row.diverging_epoch.is_some()
            || cached.high_watermark != row.high_watermark
            || cached.log_start_offset != row.log_start_offset;
        cached.high_watermark = if is_error { -1 } else { row.high_watermark };
        cached.log_start_offset = row.log_start_offset;
        if !row.records.is_empty() {
            let cached = self.order.remove(&place).expect("it was there a moment ago");
            self.put_last(key, cached);
        }
        must_tell
    }
}

/// The limits of the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionLimits {
    /// `max.incremental.fetch.session.cache.slots`.
    pub(crate) sessions_max: usize,
    /// Over all sessions together.
    pub(crate) partitions_max: usize,
    /// From when on a session that is not used gives way.
    pub(crate) eviction_ms: i64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            sessions_max: 1000,
            // About 200 bytes each.
            partitions_max: 500_000,
            eviction_ms: 120_000,
        }
    }
}

/// All sessions of the broker.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    limits: SessionLimits,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    entries: HashMap<i32, Entry>,
    /// Last use and id: the first is the one unused for longest.
    by_last_use: BTreeSet<(i64, i32)>,
    /// Size and id of those old enough to give way to one of the same size or larger.
    evictable: BTreeSet<(usize, i32)>,
    partition_count: usize,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Mutex<FetchSession>>,
    created_ms: i64,
    used_ms: i64,
    size: usize,
}

impl FetchSessions {
    /// An empty cache.
    pub(crate) fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            cache: Mutex::default(),
        }
    }

    /// Takes up a request: how it is served, and the partitions to read. `now_ms` is of a clock that does not jump.
    ///
    /// `name_of` is asked for the names of topics that a session knows by an id only: they may exist by now. A name that is known stays,
    /// also when the topic goes; that is how a topic that was created anew is told from one that is unknown.
    pub(crate) fn open(
        &self,
        request: SessionRequest,
        now_ms: i64,
        name_of: impl Fn(TopicId) -> Option<Arc<str>>,
    ) -> (FetchContext, Vec<FetchTarget>) {
        let is_worth_keeping = request.targets.iter().all(has_possible_name);
        if request.epoch == INITIAL_EPOCH || request.epoch == FINAL_EPOCH {
            if request.session_id != NO_SESSION {
                self.cache.lock().remove(request.session_id);
            }
            let context = match request.epoch {
                INITIAL_EPOCH if is_worth_keeping => FetchContext::Full,
                _ => FetchContext::Sessionless,
            };
            return (context, without_repetition(request.targets));
        }
        if !is_worth_keeping {
            // The client falls back to full requests.
            self.cache.lock().remove(request.session_id);
            return (
                FetchContext::Refused(ErrorCode::FetchSessionIdNotFound),
                Vec::new(),
            );
        }
        match self.resume(request, now_ms, name_of) {
            Ok(opened) => opened,
            Err(error) => (FetchContext::Refused(error), Vec::new()),
        }
    }

    fn resume(
        &self,
        request: SessionRequest,
        now_ms: i64,
        name_of: impl Fn(TopicId) -> Option<Arc<str>>,
    ) -> Result<(FetchContext, Vec<FetchTarget>), ErrorCode> {
        let mut cache = self.cache.lock();
        let entry = cache
            .entries
            .get(&request.session_id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let shared = Arc::clone(&entry.session);
        let mut session = shared.lock();
        if session.epoch != request.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != request.by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let could_become = cache.partition_count + request.targets.len();
        if self.limits.partitions_max < could_become {
            // The client falls back to full requests, which need no room.
            cache.remove(request.session_id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        let named = match request.forgotten.as_slice() {
            [] => Vec::new(),
            _ => request.targets.clone(),
        };
        session.update(request.targets, &request.forgotten);
        if session.len() == 0 {
            cache.remove(request.session_id);
            return Ok((FetchContext::Sessionless, named));
        }
        cache.touch(session.id, session.len(), now_ms, self.limits.eviction_ms);
        session.epoch = next_epoch(session.epoch);
        let targets = session.order.values_mut().map(|cached| {
            let topic = &mut cached.target.topic;
            topic.name = topic.name.take().or_else(|| name_of(topic.id));
            cached.target.clone()
        });
        let targets = targets.collect();
        drop(session);
        Ok((FetchContext::Incremental(shared), targets))
    }

    /// Ends a request: drops the rows that need not be told, and gives the response's error and session id.
    ///
    /// Each row answers the target at the same place.
    pub(crate) fn close(
        &self,
        context: &FetchContext,
        request: ClosingRequest,
        targets: &[FetchTarget],
        rows: &mut Vec<PartitionRow>,
        now_ms: i64,
    ) -> (ErrorCode, i32) {
        match context {
            FetchContext::Refused(error) => (*error, NO_SESSION),
            FetchContext::Sessionless => (ErrorCode::None, NO_SESSION),
            FetchContext::Full => {
                let mut cache = self.cache.lock();
                let id = cache.create(&self.limits, request.by_id, targets.iter().zip(rows), now_ms);
                (ErrorCode::None, id)
            }
            FetchContext::Incremental(session) => {
                let mut session = session.lock();
                if session.epoch != next_epoch(request.epoch) {
                    // The client sent the next request before it had this answer, or sent this one twice.
                    rows.clear();
                    return (ErrorCode::InvalidFetchSessionEpoch, session.id);
                }
                rows.retain(|row| session.must_tell(row));
                (ErrorCode::None, session.id)
            }
        }
    }

    /// How many sessions there are, and how many partitions in them.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        let cache = self.cache.lock();
        (cache.entries.len(), cache.partition_count)
    }
}

/// What [`FetchSessions::close`] needs of the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClosingRequest {
    /// From the request.
    pub(crate) epoch: i32,
    /// Whether the version names topics by id.
    pub(crate) by_id: bool,
}

impl Cache {
    /// Makes a session of what a full request asked and was told; its id, or 0 when there is no room.
    fn create<'a>(
        &mut self,
        limits: &SessionLimits,
        by_id: bool,
        told: impl ExactSizeIterator<Item = (&'a FetchTarget, &'a mut PartitionRow)>,
        now_ms: i64,
    ) -> i32 {
        let size = told.len();
        if !self.make_partition_room(limits, size, now_ms) || !self.make_room(limits, size, now_ms) {
            return NO_SESSION;
        }
        let id = self.unused_id();
        let mut session = FetchSession::new(id, by_id);
        for (target, row) in told {
            let key = PartitionKey::new(&target.topic, target.partition);
            session.put_last(
                key,
                CachedPartition {
                    target: target.clone(),
                    high_watermark: row.high_watermark,
                    log_start_offset: row.log_start_offset,
                },
            );
        }
        self.entries.insert(
            id,
            Entry {
                session: Arc::new(Mutex::new(session)),
                created_ms: now_ms,
                used_ms: now_ms,
                size: 0,
            },
        );
        self.touch(id, size, now_ms, limits.eviction_ms);
        id
    }

    fn unused_id(&self) -> i32 {
        loop {
            let id = fastrand::i32(1..);
            if !self.entries.contains_key(&id) {
                return id;
            }
        }
    }

    /// Room for `size` partitions, by those sessions alone that are not used any more.
    fn make_partition_room(&mut self, limits: &SessionLimits, size: usize, now_ms: i64) -> bool {
        while limits.partitions_max < self.partition_count + size {
            match self.by_last_use.first().copied() {
                Some((used_ms, stalest)) if limits.eviction_ms < now_ms - used_ms => self.remove(stalest),
                _ => return false,
            }
        }
        true
    }

    fn make_room(&mut self, limits: &SessionLimits, size: usize, now_ms: i64) -> bool {
        if self.entries.len() < limits.sessions_max {
            return true;
        }
        let Some((used_ms, stalest)) = self.by_last_use.first().copied() else {
            return false;
        };
        if limits.eviction_ms < now_ms - used_ms {
            self.remove(stalest);
            return true;
        }
        match self.evictable.first().copied() {
            Some((smallest, id)) if smallest < size => {
                self.remove(id);
                true
            }
            _ => false,
        }
    }

    fn touch(&mut self, id: i32, size: usize, now_ms: i64, eviction_ms: i64) {
        let entry = self
            .entries
            .get_mut(&id)
            .expect("only sessions in the cache are touched");
        self.by_last_use.remove(&(entry.used_ms, id));
        self.evictable.remove(&(entry.size, id));
        self.partition_count = self.partition_count - entry.size + size;
        entry.used_ms = now_ms;
        entry.size = size;
        self.by_last_use.insert((now_ms, id));
        if eviction_ms < now_ms - entry.created_ms {
            self.evictable.insert((size, id));
        }
    }

    fn remove(&mut self, id: i32) {
        if let Some(entry) = self.entries.remove(&id) {
            self.by_last_use.remove(&(entry.used_ms, id));
            self.evictable.remove(&(entry.size, id));
            self.partition_count -= entry.size;
        }
    }
}

/// Whether a topic can have the name. Longer ones are answered and not remembered: a thousand sessions full of them would be a
/// gigabyte.
fn has_possible_name(target: &FetchTarget) -> bool {
    let name = target.topic.name.as_ref();
    name.is_none_or(|name| name.len() <= topic_name::LENGTH_MAX)
}

/// Each partition once: at the place where it was named first, as it was named last.
fn without_repetition(targets: Vec<FetchTarget>) -> Vec<FetchTarget> {
    if targets.len() < 2 {
        return targets;
    }
    let mut places = HashMap::with_capacity(targets.len());
    let mut once: Vec<FetchTarget> = Vec::with_capacity(targets.len());
    for target in targets {
        let place = *places
            .entry(PartitionKey::new(&target.topic, target.partition))
            .or_insert(once.len());
        match once.get_mut(place) {
            Some(named_before) => *named_before = target,
            None => once.push(target),
        }
    }
    once
}

#[cfg(test)]
mod tests;
