//! The broker and the topic that a load is put on: made, described, and removed again.
//! Everything here goes through log-client and happens while no figures are taken.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use log_client::admin::{Admin, ConfigEntry, ConfigResource, Intent, NewTopic};
use log_client::cluster::{Cluster, Lane};
use log_client::config::ClientConfig;
use log_client::offsets::OffsetQuery;
use log_core::model::{ProducerEpoch, ProducerId, TopicPartition};
use log_core::protocol::ApiKey;
use log_core::protocol::messages::InitProducerIdRequestData;

use super::local;
use super::plan::{Plan, acks_name};
use super::result::{BrokerTruth, Durability, DurabilityMode, Process};
use super::wire::version_of;

/// The topic's partitions with one leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Where it is.
    pub address: String,
    /// The version of Produce.
    pub produce_version: i16,
    /// The version of Fetch.
    pub fetch_version: i16,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// A topic to work on.
#[derive(Debug)]
pub struct Target {
    /// A client of its cluster.
    pub admin: Admin,
    /// Its name.
    pub topic: String,
    /// Whether this run made it.
    pub is_own: bool,
    /// Its partitions by leader.
    pub leaders: Vec<Leader>,
    /// How many partitions it has.
    pub partitions: usize,
    /// The directories of its partitions, as far as they are on this machine.
    pub directories: Vec<PathBuf>,
}

/// The settings of a client of this run.
#[must_use]
pub fn client_config(plan: &Plan) -> ClientConfig {
    let mut config = ClientConfig::new(&plan.bootstrap);
    "stratalog-bench".clone_into(&mut config.client_id);
    config.api_timeout = plan.timeout;
    config.request_timeout = config.request_timeout.min(plan.timeout);
    config.connect_timeout = config.connect_timeout.min(plan.timeout);
    config
}

impl Target {
    /// Reaches the broker and finds or makes the topic.
    ///
    /// # Errors
    /// When the broker cannot be reached, or refuses the topic.
    pub async fn open(plan: &Plan) -> anyhow::Result<Self> {
        let cluster = Cluster::new(client_config(plan))?;
        // A client tries again while nobody listens; whoever waits at a terminal wants to know at once.
        cluster.refresh(0).await?;
        let admin = Admin::on(cluster);
        let is_own = plan.topic.is_none();
        let topic = match &plan.topic {
            Some(topic) => topic.clone(),
            None => make_topic(&admin, plan).await?,
        };
        let mut target = Self {
            admin,
            topic,
            is_own,
            leaders: Vec::new(),
            partitions: 0,
            directories: Vec::new(),
        };
        if let Err(error) = target.find_leaders().await {
            target.remove(plan.keep_topic).await.ok();
            return Err(error);
        }
        Ok(target)
    }

    /// Waits until the leader of each partition answers for it, and notes who it is. A topic that was just made stands in the metadata
    /// before its leaders know of it: until they do, Kafka refuses its records with `NOT_LEADER_OR_FOLLOWER`.
    async fn find_leaders(&mut self) -> anyhow::Result<()> {
        let cluster = self.admin.cluster();
        let deadline = cluster.api_deadline();
        let topic = cluster.topic(&self.topic, deadline).await?;
        self.partitions = topic.partitions.len();
        ensure!(0 < self.partitions, "the topic {} has no partitions", self.topic);
        self.ends().await.context("wait for the topic's leaders")?;
        let mut by_broker: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for row in &topic.partitions {
            let partition = TopicPartition::new(self.topic.as_str(), row.partition);
            let (leader, _) = cluster.leader(&partition, deadline).await?;
            by_broker.entry(leader).or_default().push(row.partition);
        }
        for (broker, partitions) in by_broker {
            let connection = cluster.connection(broker, Lane::General).await?;
            let versions = connection.versions();
            self.leaders.push(Leader {
                address: connection.address().to_string(),
                produce_version: version_of(ApiKey::Produce, versions.broker_versions(ApiKey::Produce))?,
                fetch_version: version_of(ApiKey::Fetch, versions.broker_versions(ApiKey::Fetch))?,
                partitions,
            });
        }
        Ok(())
    }

    /// What is known of the broker.
    pub async fn truth(&mut self, plan: &Plan) -> BrokerTruth {
        let address = self
            .leaders
            .first()
            .map(|leader| leader.address.clone())
            .unwrap_or_default();
        let process = local::listener_at(&address);
        let settings = self.settings().await;
        let number = |name: &str| settings.get(name).and_then(|value| value.parse().ok());
        let (flush_messages, flush_ms) = (number("flush.messages"), number("flush.ms"));
        let metadata = self.admin.cluster().metadata();
        let topic = metadata.topic(&self.topic).ok();
        let replication_factor = topic
            .and_then(|topic| topic.partitions.first())
            .map_or(0, |partition| partition.replicas.len());
        let (product, version) = self.product(process.as_ref()).await;
        let mut storage = None;
        if process.is_some() {
            for dir in self.admin.describe_log_dirs().await.unwrap_or_default() {
                storage = storage.or_else(|| local::storage_at(&dir.path));
                let of_topic = dir.replicas.iter().filter(|replica| {
                    let partition: &TopicPartition = &replica.partition;
                    partition.to_string().starts_with(&self.topic)
                });
                self.directories.extend(
                    of_topic.map(|replica| PathBuf::from(&dir.path).join(replica.partition.to_string())),
                );
            }
        }
        BrokerTruth {
            address,
            product,
            version,
            brokers: metadata.brokers.len(),
            durability: Durability {
                mode: durability(flush_messages, plan),
                flush_messages,
                flush_ms,
                acks: acks_name(plan.acks).to_owned(),
                replication_factor,
            },
            topic: self.topic.clone(),
            partitions: self.partitions,
            process,
            storage,
        }
    }

    async fn settings(&self) -> BTreeMap<String, String> {
        let resource = ConfigResource::Topic(self.topic.clone());
        let Ok(Ok(rows)) = self
            .admin
            .describe_configs(&[resource])
            .await
            .map(|mut rows| rows.swap_remove(0))
        else {
            return BTreeMap::new();
        };
        let pair = |row: ConfigEntry| Some((row.name, row.value?));
        rows.into_iter().filter_map(pair).collect()
    }

    /// Which product it is: by settings that only one has, else by its process.
    async fn product(&self, process: Option<&Process>) -> (String, Option<String>) {
        let broker = self.admin.cluster().metadata().brokers.keys().next().copied();
        let resource = ConfigResource::Broker(broker.unwrap_or_default());
        let rows = match self.admin.describe_configs(&[resource]).await {
            Ok(mut rows) => rows.swap_remove(0).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let has = |name: &str| rows.iter().any(|row| row.name == name);
        let is_null_broker = self.admin.cluster().metadata().cluster_id.as_deref() == Some("null-broker");
        let name = process.map_or("", |process| process.name.as_str());
        let product = if has("kafka-listen") || has("data-dir") {
            "Stratalog"
        } else if is_null_broker {
            "null broker"
        } else if has("log.message.format.version") || has("zookeeper.connect") || has("process.roles") {
            "Kafka"
        } else if name == "stratalog" {
            "Stratalog"
        } else {
            "unknown"
        };
        let version = process.and_then(|process| local::version_of(process.pid));
        (product.to_owned(), version)
    }

    /// The ends of all partitions, by number. Leaders that do not know of a partition yet are asked again, until the time is over.
    ///
    /// # Errors
    /// When a leader does not answer.
    pub async fn ends(&self) -> anyhow::Result<BTreeMap<i32, i64>> {
        self.offsets(OffsetQuery::Latest).await
    }

    /// The beginnings of all partitions, by number.
    ///
    /// # Errors
    /// When a leader does not answer.
    pub async fn beginnings(&self) -> anyhow::Result<BTreeMap<i32, i64>> {
        self.offsets(OffsetQuery::Earliest).await
    }

    async fn offsets(&self, query: OffsetQuery) -> anyhow::Result<BTreeMap<i32, i64>> {
        let queries = (0..i32::try_from(self.partitions)?)
            .map(|partition| (TopicPartition::new(self.topic.as_str(), partition), query))
            .collect();
        let mut offsets = BTreeMap::new();
        for (partition, listed) in self.admin.list_offsets(queries).await {
            let listed = listed.with_context(|| format!("the offsets of {partition}"))?;
            offsets.insert(
                partition.partition,
                listed.offset.map_or(0, log_core::model::Offset::get),
            );
        }
        Ok(offsets)
    }

    /// A new producer id.
    ///
    /// # Errors
    /// What the broker says.
    pub async fn producer_id(&self) -> anyhow::Result<(ProducerId, ProducerEpoch)> {
        let request = InitProducerIdRequestData {
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequestData::default()
        };
        let response = self.admin.cluster().call_any(&request).await?;
        ensure!(
            response.error_code == 0,
            "the broker gives no producer id: error {}",
            response.error_code
        );
        Ok((
            ProducerId::new(response.producer_id),
            ProducerEpoch::new(response.producer_epoch),
        ))
    }

    /// Removes the topic, if this run made it and it is not to stay.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn remove(&self, keep: bool) -> anyhow::Result<()> {
        if !self.is_own || keep {
            return Ok(());
        }
        for outcome in self.admin.delete_topics(&[&self.topic]).await? {
            outcome?;
        }
        Ok(())
    }
}

/// What an acknowledgement promises, as far as `flush.messages` and the producer's wish tell.
fn durability(flush_messages: Option<i64>, plan: &Plan) -> DurabilityMode {
    match flush_messages {
        None => DurabilityMode::Unknown,
        Some(1) if plan.acks != log_client::config::Acks::None => DurabilityMode::Synced,
        Some(_) => DurabilityMode::PageCache,
    }
}

async fn make_topic(admin: &Admin, plan: &Plan) -> anyhow::Result<String> {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let name = format!(
        "stratalog-bench-{}-{}",
        since_1970.as_millis(),
        std::process::id()
    );
    let mut topic = NewTopic::new(&name).with_partitions(plan.partitions);
    topic.replication_factor = plan.replication_factor;
    for (key, value) in &plan.topic_configs {
        topic = topic.with_config(key, value);
    }
    match admin.create_topics(&[topic], Intent::Apply).await?.pop() {
        Some(outcome) => outcome.with_context(|| format!("create topic {name}"))?,
        None => bail!("the broker did not answer for topic {name}"),
    };
    Ok(name)
}
