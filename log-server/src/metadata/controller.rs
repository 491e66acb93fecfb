//! The one writer of the metadata: one thread that takes requests as they come, as many at once as wait.
//!
//! For each group of requests:
//!
//! 1. each item is planned against the state as the items before it leave it;
//! 2. all records are appended and synced together (group commit);
//! 3. the partitions are told: files are made, renamed, settings changed;
//! 4. the new state is published;
//! 5. the requests are answered.
//!
//! So an answer promises that the change is on the disk and in force, and a topic that can be seen has partitions that can be
//! written to. When step 2 fails, nothing has changed. When the files of a topic cannot be made in step 3 (a full disk, mostly), a
//! second record takes the topic back and the request is refused. A crash between 2 and 3 leaves topics without files,
//! or files without a topic; the next start makes the former and removes the latter.

use std::fmt::{self, Debug};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use log_core::config::LogConfig;
use log_core::log::LogError;
use log_core::model::ProducerId;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::error::ControllerError;
use super::image::{MetadataImage, TopicImage};
use super::metadata_log::{MetadataLog, MetadataLogError};
use super::plan::{BrokerScope, Item, MorePartitions, NewTopic, Planner, TopicSelector, plan_producer_ids};
use super::records::MetadataRecord;
use crate::config::alter::Alteration;
use crate::config::keys::BrokerConfig;

/// So many requests may wait for the writer; further ones wait for a place.
const QUEUE_LENGTH: usize = 256;
/// So many requests are made durable together. More would only make the first of them wait.
const GROUP_MAX: usize = 64;

/// What the controller needs of the partitions. All verbs block, and are called by the one writer only.
pub trait PartitionDirectory: Debug + Send + Sync + 'static {
    /// Makes the partitions of `topic`, which is new. Durable, and served, when this returns.
    ///
    /// # Errors
    /// The file system's; none of them is then served.
    fn create(&self, topic: &TopicImage, config: &LogConfig) -> Result<(), LogError>;

    /// Makes the partitions that `topic`, which was there before, does not have yet.
    ///
    /// # Errors
    /// As [`Self::create`], of those that were missing; or they may be in a data directory that is.
    fn extend(&self, topic: &TopicImage, config: &LogConfig) -> Result<(), LogError>;

    /// Removes what [`Self::extend`] made of the partitions of `topic` behind the first `partition_count` before it failed.
    ///
    /// # Errors
    /// As [`Self::delete`].
    fn withdraw(&self, topic: &TopicImage, partition_count: i32) -> Result<(), LogError>;

    /// Ends the partitions of a deleted topic: nobody finds them any more, and their files go.
    ///
    /// # Errors
    /// The file system's. The topic is gone all the same; its files are removed at the next start.
    fn delete(&self, topic: &TopicImage) -> Result<(), LogError>;

    /// Gives the logs of `topic` other settings.
    fn reconfigure(&self, topic: &TopicImage, config: &LogConfig);
}

/// What an item that succeeded did.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Done {
    /// Created, deleted or changed this topic; in its new state, a deleted one in its last.
    Topic(Arc<TopicImage>),
    /// Gave this producer id away.
    ProducerId(ProducerId),
    /// Anything else.
    Nothing,
}

type ItemResult = Result<Done, ControllerError>;

/// What the partitions are told once a record is durable.
#[derive(Debug)]
enum Effect {
    Create(Arc<TopicImage>),
    Extend { topic: Arc<TopicImage>, before: i32 },
    Delete(Arc<TopicImage>),
    Reconfigure(Arc<TopicImage>),
    ReconfigureAll,
}

struct Request {
    items: Vec<Item>,
    validate_only: bool,
    reply: oneshot::Sender<Vec<ItemResult>>,
}

/// Requests about metadata, from any thread, and the state that they lead to.
pub struct Controller {
    image: Arc<ArcSwap<MetadataImage>>,
    config: Arc<BrokerConfig>,
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    writer: Mutex<Option<JoinHandle<Result<(), MetadataLogError>>>>,
    producer_ids: Arc<Mutex<Range<i64>>>,
}

impl fmt::Debug for Controller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Controller").finish_non_exhaustive()
    }
}

impl Controller {
    /// Starts the writer over a log that was opened, whose state is `image`, and whose partitions `directory` already has.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        log: MetadataLog,
        image: MetadataImage,
        config: Arc<BrokerConfig>,
        directory: Arc<dyn PartitionDirectory>,
    ) -> io::Result<Self> {
        let image = Arc::new(ArcSwap::from_pointee(image));
        let producer_ids = Arc::new(Mutex::new(0..0));
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
        let writer = Writer {
            log,
            published: Arc::clone(&image),
            config: Arc::clone(&config),
            directory,
            producer_ids: Arc::clone(&producer_ids),
            random: fastrand::Rng::new(),
        };
        let thread = std::thread::Builder::new()
            .name("metadata".to_owned())
            .spawn(move || writer.run(receiver))?;
        Ok(Self {
            image,
            config,
            queue: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(thread)),
            producer_ids,
        })
    }

    /// The state as it was last published.
    #[must_use]
    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    /// What the broker was started with.
    #[must_use]
    pub fn config(&self) -> &Arc<BrokerConfig> {
        &self.config
    }

    /// Creates topics, each by itself. With `validate_only` nothing is created, and the answers say what would be.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Vec<Result<Arc<TopicImage>, ControllerError>> {
        let items = topics.into_iter().map(Item::CreateTopic).collect();
        topics_of(self.submit(items, validate_only).await)
    }

    /// Deletes topics, each by itself, and answers with what they were.
    pub async fn delete_topics(
        &self,
        topics: Vec<TopicSelector>,
    ) -> Vec<Result<Arc<TopicImage>, ControllerError>> {
        let items = topics.into_iter().map(Item::DeleteTopic).collect();
        topics_of(self.submit(items, false).await)
    }

    /// Adds partitions to topics, to each by itself.
    pub async fn create_partitions(
        &self,
        topics: Vec<MorePartitions>,
        validate_only: bool,
    ) -> Vec<Result<Arc<TopicImage>, ControllerError>> {
        let items = topics.into_iter().map(Item::AddPartitions).collect();
        topics_of(self.submit(items, validate_only).await)
    }

    /// Changes what topics set themselves, each by itself.
    pub async fn alter_topic_configs(
        &self,
        changes: Vec<(String, Alteration)>,
        validate_only: bool,
    ) -> Vec<Result<(), ControllerError>> {
        let items = changes.into_iter();
        let items = items.map(|(topic, alteration)| Item::AlterTopic(topic, alteration));
        self.alter(items.collect(), validate_only).await
    }

    /// Changes settings of this broker, or of all, while they run.
    pub async fn alter_broker_configs(
        &self,
        changes: Vec<(BrokerScope, Alteration)>,
        validate_only: bool,
    ) -> Vec<Result<(), ControllerError>> {
        let items = changes.into_iter();
        let items = items.map(|(scope, alteration)| Item::AlterBroker(scope, alteration));
        self.alter(items.collect(), validate_only).await
    }

    /// Changes what groups set themselves, each by itself. The groups need not exist.
    pub async fn alter_group_configs(
        &self,
        changes: Vec<(String, Alteration)>,
        validate_only: bool,
    ) -> Vec<Result<(), ControllerError>> {
        let items = changes.into_iter();
        let items = items.map(|(group, alteration)| Item::AlterGroup(group, alteration));
        self.alter(items.collect(), validate_only).await
    }

    /// Changes subscriptions to clients' metrics, each by itself. One that says nothing any more is gone.
    pub async fn alter_subscriptions(
        &self,
        changes: Vec<(String, Alteration)>,
        validate_only: bool,
    ) -> Vec<Result<(), ControllerError>> {
        let items = changes.into_iter();
        let items = items.map(|(name, alteration)| Item::AlterSubscription(name, alteration));
        self.alter(items.collect(), validate_only).await
    }

    async fn alter(&self, items: Vec<Item>, validate_only: bool) -> Vec<Result<(), ControllerError>> {
        let results = self.submit(items, validate_only).await;
        results.into_iter().map(|result| result.map(drop)).collect()
    }

    /// A producer id that nobody has and nobody had, not even before a crash: the block it comes from was
    /// noted as used before the first of it is handed out.
    ///
    /// # Errors
    /// The disk, or the end of all ids.
    pub async fn allocate_producer_id(&self) -> Result<ProducerId, ControllerError> {
        if let Some(id) = self.producer_ids.lock().next() {
            return Ok(ProducerId::new(id));
        }
        match self.submit(vec![Item::ProducerId], false).await.pop() {
            Some(Ok(Done::ProducerId(id))) => Ok(id),
            Some(Err(error)) => Err(error),
            _ => Err(ControllerError::ShuttingDown),
        }
    }

    /// Ends the writer: what waits is carried out, the log is closed in order. Blocks.
    ///
    /// # Errors
    /// The log could not be closed in order; the next start recovers it, and nothing that was answered is lost.
    pub fn close(&self) -> Result<(), MetadataLogError> {
        self.queue.lock().take();
        let Some(thread) = self.writer.lock().take() else {
            return Ok(());
        };
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    async fn submit(&self, items: Vec<Item>, validate_only: bool) -> Vec<ItemResult> {
        let count = items.len();
        let stopped = || (0..count).map(|_| Err(ControllerError::ShuttingDown)).collect();
        let Some(queue) = self.queue.lock().clone() else {
            return stopped();
        };
        let (reply, answer) = oneshot::channel();
        let request = Request {
            items,
            validate_only,
            reply,
        };
        if queue.send(request).await.is_err() {
            return stopped();
        }
        // Given back before the wait, so that a closing writer does not wait for us to ask again.
        drop(queue);
        answer.await.unwrap_or_else(|_| stopped())
    }
}

impl Drop for Controller {
    /// Who forgot to close it waits here for the writer's end.
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(operation = "close the metadata log", %error, "the next start recovers it");
        }
    }
}

fn topics_of(results: Vec<ItemResult>) -> Vec<Result<Arc<TopicImage>, ControllerError>> {
    results
        .into_iter()
        .map(|result| match result? {
            Done::Topic(topic) => Ok(topic),
            Done::ProducerId(_) | Done::Nothing => Err(ControllerError::ShuttingDown),
        })
        .collect()
}

/// The thread's side.
#[derive(Debug)]
struct Writer {
    log: MetadataLog,
    published: Arc<ArcSwap<MetadataImage>>,
    config: Arc<BrokerConfig>,
    directory: Arc<dyn PartitionDirectory>,
    /// Ids that are noted as used and free to be given away, by whoever comes first.
    producer_ids: Arc<Mutex<Range<i64>>>,
    random: fastrand::Rng,
}

/// A group of requests on its way.
struct Group {
    image: MetadataImage,
    records: Vec<MetadataRecord>,
    /// By request and item.
    results: Vec<Vec<ItemResult>>,
    /// Which items have a record, in the records' order.
    owners: Vec<(usize, usize)>,
    effects: Vec<(Effect, (usize, usize))>,
    /// Which items want a producer id.
    id_owners: Vec<(usize, usize)>,
    /// Ids for the first of them.
    ids: Vec<i64>,
    /// Ids for the others, once the records are durable; or why there are none.
    new_ids: Result<Range<i64>, ControllerError>,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Request>) -> Result<(), MetadataLogError> {
        while let Some(first) = queue.blocking_recv() {
            let mut requests = vec![first];
            while requests.len() < GROUP_MAX
                && let Ok(next) = queue.try_recv()
            {
                requests.push(next);
            }
            let results = self.process(&requests);
            for (request, results) in requests.into_iter().zip(results) {
                // Who has gone away does not hear it; the change stands all the same.
                drop(request.reply.send(results));
            }
            let image = self.published.load_full();
            if let Err(error) = self.log.snapshot_if_due(&image) {
                tracing::warn!(operation = "metadata snapshot", %error, "the log has everything; tried again later");
            }
            self.log.prepare();
        }
        let image = self.published.load_full();
        self.log.close(&image)
    }

    fn process(&mut self, requests: &[Request]) -> Vec<Vec<ItemResult>> {
        let mut group = self.plan(requests);
        self.plan_producer_ids(&mut group);
        let durable = if group.records.is_empty() {
            Ok(())
        } else {
            self.log.append(&group.records).map_err(|error| {
                tracing::error!(operation = "append to the metadata log", %error, "the requests are refused");
                ControllerError::Storage(Arc::from(error.to_string()))
            })
        };
        self.give_producer_ids(&mut group, &durable);
        match durable {
            Ok(()) if group.records.is_empty() => {}
            Ok(()) => {
                self.apply(&mut group);
                self.published.store(Arc::new(group.image));
            }
            Err(error) => {
                for owner in std::mem::take(&mut group.owners) {
                    set(&mut group.results, owner, Err(error.clone()));
                }
            }
        }
        group.results
    }

    /// Step 1.
    fn plan(&mut self, requests: &[Request]) -> Group {
        let mut group = Group {
            image: (**self.published.load()).clone(),
            records: Vec::new(),
            results: Vec::with_capacity(requests.len()),
            owners: Vec::new(),
            effects: Vec::new(),
            id_owners: Vec::new(),
            ids: Vec::new(),
            new_ids: Ok(0..0),
        };
        for (request_index, request) in requests.iter().enumerate() {
            // What is only validated is tried on a copy.
            let mut trial = request.validate_only.then(|| group.image.clone());
            let mut planner = Planner::new(&self.config, &mut self.random, &request.items);
            let mut results = Vec::with_capacity(request.items.len());
            for (item_index, item) in request.items.iter().enumerate() {
                let owner = (request_index, item_index);
                if *item == Item::ProducerId {
                    group.id_owners.push(owner);
                }
                let image = trial.as_mut().unwrap_or(&mut group.image);
                let record = planner.plan(image, item);
                results.push(record.map(|record| {
                    let Some(record) = record else {
                        return Done::Nothing;
                    };
                    let (done, effect) = carry_out(image, &record);
                    if !request.validate_only {
                        group.effects.extend(effect.map(|effect| (effect, owner)));
                        group.owners.push(owner);
                        group.records.push(record);
                    }
                    done
                }));
            }
            group.results.push(results);
        }
        group
    }

    /// Takes free producer ids for those who wait, and plans further blocks if there are too few.
    fn plan_producer_ids(&self, group: &mut Group) {
        let wanted = group.id_owners.len();
        group.ids = self.producer_ids.lock().by_ref().take(wanted).collect();
        let missing = wanted.saturating_sub(group.ids.len());
        if missing == 0 {
            return;
        }
        match plan_producer_ids(&group.image, missing) {
            Ok((ids, record)) => {
                carry_out(&mut group.image, &record);
                group.records.push(record);
                group.new_ids = Ok(ids);
            }
            Err(error) => group.new_ids = Err(error),
        }
    }

    /// Gives an id to each who waits; from a new block only if that was noted durably.
    fn give_producer_ids(&self, group: &mut Group, durable: &Result<(), ControllerError>) {
        let new_ids = std::mem::replace(&mut group.new_ids, Ok(0..0));
        let mut new_ids = durable.clone().and(new_ids);
        let mut ids = std::mem::take(&mut group.ids).into_iter();
        for owner in std::mem::take(&mut group.id_owners) {
            let id = match (ids.next(), &mut new_ids) {
                (Some(id), _) => Ok(id),
                (None, Ok(new_ids)) => Ok(new_ids.next().expect("as many were planned as are wanted")),
                (None, Err(error)) => Err(error.clone()),
            };
            let done = id.map(|id| Done::ProducerId(ProducerId::new(id)));
            set(&mut group.results, owner, done);
        }
        if let Ok(rest) = new_ids
            && !rest.is_empty()
        {
            // New blocks are planned only when no free id is left, and nobody else brings any.
            *self.producer_ids.lock() = rest;
        }
    }

    /// Step 3. What could not be made is taken back.
    fn apply(&mut self, group: &mut Group) {
        let mut failed = Vec::new();
        for (effect, owner) in std::mem::take(&mut group.effects) {
            if let Err(error) = self.tell(&effect, &group.image) {
                tracing::error!(operation = "make partitions", %error, "the request is refused");
                let error = ControllerError::Storage(Arc::from(error.to_string()));
                set(&mut group.results, owner, Err(error));
                failed.push(effect);
            }
        }
        // The last first, so that each finds the state that it was made from.
        for effect in failed.iter().rev() {
            self.take_back(group, effect);
        }
    }

    /// Tells the partitions of one change. Only making files can fail in a way that matters.
    fn tell(&self, effect: &Effect, image: &MetadataImage) -> Result<(), LogError> {
        let layers = image.layers(&self.config);
        match effect {
            Effect::Create(topic) => {
                self.directory.create(topic, &layers.log_config(&topic.configs))?;
            }
            Effect::Extend { topic, .. } => {
                self.directory.extend(topic, &layers.log_config(&topic.configs))?;
            }
            Effect::Delete(topic) => tell_left(topic, self.directory.delete(topic)),
            Effect::Reconfigure(topic) => {
                self.directory
                    .reconfigure(topic, &layers.log_config(&topic.configs));
            }
            Effect::ReconfigureAll => {
                for topic in image.topics() {
                    self.directory
                        .reconfigure(topic, &layers.log_config(&topic.configs));
                }
            }
        }
        Ok(())
    }

    fn take_back(&mut self, group: &mut Group, effect: &Effect) {
        let (made, record) = match effect {
            Effect::Create(topic) => {
                let topic_id = topic.id.to_bytes();
                (topic, MetadataRecord::TopicDeleted { topic_id })
            }
            Effect::Extend { topic, before } => {
                let topic_id = topic.id.to_bytes();
                let partition_count = *before;
                let record = MetadataRecord::PartitionsWithdrawn {
                    topic_id,
                    partition_count,
                };
                (topic, record)
            }
            Effect::Delete(_) | Effect::Reconfigure(_) | Effect::ReconfigureAll => return,
        };
        // A later item of the group may have deleted the topic, or made all its partitions after all.
        let is_as_made = |topic: &Arc<TopicImage>| topic.partition_count == made.partition_count;
        if !group.image.topic_by_id(made.id).is_some_and(is_as_made) {
            return;
        }
        if let Err(error) = self.log.append(std::slice::from_ref(&record)) {
            tracing::error!(
                topic = %made.name, operation = "take back what could not be made", %error,
                "it stays without its partitions until the next start makes them"
            );
            return;
        }
        group.image.replay(&record).expect("it undoes what was just done");
        let removed = match effect {
            Effect::Extend { before, .. } => self.directory.withdraw(made, *before),
            _ => self.directory.delete(made),
        };
        tell_left(made, removed);
    }
}

fn tell_left(topic: &TopicImage, removed: Result<(), LogError>) {
    if let Err(error) = removed {
        tracing::error!(topic = %topic.name, operation = "delete", %error, "files are left until the next start");
    }
}

/// Replays a record that was just planned, and says what it did and what the partitions must be told.
fn carry_out(image: &mut MetadataImage, record: &MetadataRecord) -> (Done, Option<Effect>) {
    let find = |image: &MetadataImage| record.topic_id().and_then(|id| image.topic_by_id(id).cloned());
    let before = find(image);
    image
        .replay(record)
        .expect("what was planned fits the state it was planned for");
    let after = find(image);
    match (record, before, after) {
        (MetadataRecord::TopicCreated { .. }, _, Some(topic)) => {
            (Done::Topic(Arc::clone(&topic)), Some(Effect::Create(topic)))
        }
        (MetadataRecord::TopicDeleted { .. }, Some(topic), _) => {
            (Done::Topic(Arc::clone(&topic)), Some(Effect::Delete(topic)))
        }
        (MetadataRecord::PartitionsAdded { .. }, Some(before), Some(topic)) => {
            let before = before.partition_count;
            (
                Done::Topic(Arc::clone(&topic)),
                Some(Effect::Extend { topic, before }),
            )
        }
        (MetadataRecord::TopicConfigSet { .. }, _, Some(topic)) => {
            (Done::Nothing, Some(Effect::Reconfigure(topic)))
        }
        (MetadataRecord::BrokerConfigSet { .. }, ..) => (Done::Nothing, Some(Effect::ReconfigureAll)),
        _ => (Done::Nothing, None),
    }
}

fn set(results: &mut [Vec<ItemResult>], (request, item): (usize, usize), result: ItemResult) {
    let slot = results.get_mut(request).and_then(|items| items.get_mut(item));
    *slot.expect("owners name items of the group") = result;
}
