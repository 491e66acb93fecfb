//! The metadata log and its writer over the file system in memory: what is promised is kept, at every crash and failure.
//!
//! [`Node`] is a broker's metadata without fronts: it opens a data directory, reconciles the files of partitions as a start does, and
//! runs a controller over it.

mod controller;
mod crash;
mod metadata_log;
mod plan;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log_core::clock::ManualClock;
use log_core::config::LogConfig;
use log_core::fs::mem::MemFileSystem;
use log_core::fs::{FsError, FsErrorKind, FsOperation};
use log_core::log::{LogContext, LogError};
use log_core::log_manager::{Found, LogManager};
use log_core::model::{TimestampMs, TopicId, TopicPartition};
use parking_lot::Mutex;

use super::controller::{Controller, PartitionDirectory};
use super::error::ControllerError;
use super::image::{MetadataImage, TopicImage};
use super::leftovers::remove_leftovers;
use super::metadata_log::{MetadataLog, MetadataLogError, Tuning, partition};
use super::plan::NewTopic;
use crate::config::keys::BrokerConfig;

const DATA_DIR: &str = "/data";
/// Small, so that a few requests meet snapshots, rolls and removals.
const TUNING: Tuning = Tuning {
    snapshot_records: 3,
    roll_bytes: 1,
};

fn open_manager(file_system: &MemFileSystem) -> Result<(Arc<LogManager>, Found), String> {
    let context = LogContext {
        file_system: Arc::new(file_system.clone()),
        clock: Arc::new(ManualClock::new(TimestampMs::new(1_700_000_000_000))),
    };
    let opened = LogManager::open(context, Path::new(DATA_DIR).to_owned());
    let (manager, found) = opened.map_err(|error| error.to_string())?;
    Ok((Arc::new(manager), found))
}

fn open_log(file_system: &MemFileSystem) -> Result<(MetadataLog, MetadataImage), MetadataLogError> {
    let (manager, found) = open_manager(file_system).expect("the data directory opens");
    MetadataLog::open(Arc::clone(manager.first()), &found, TUNING)
}

/// Partitions as directories, made by the real log manager and then left alone.
#[derive(Debug)]
struct Directories {
    manager: Arc<LogManager>,
    served: Mutex<BTreeSet<(TopicId, i32)>>,
    /// What `reconfigure` was told, by topic.
    retention_ms: Mutex<Vec<(String, Option<i64>)>>,
    is_full: AtomicBool,
}

impl Directories {
    fn new(manager: Arc<LogManager>) -> Self {
        Self {
            manager,
            served: Mutex::default(),
            retention_ms: Mutex::default(),
            is_full: AtomicBool::new(false),
        }
    }

    fn served_count(&self, id: TopicId) -> usize {
        self.served
            .lock()
            .iter()
            .filter(|(topic, _)| *topic == id)
            .count()
    }
}

impl PartitionDirectory for Directories {
    fn create(&self, topic: &TopicImage, config: &LogConfig) -> Result<(), LogError> {
        let mut made = Vec::new();
        for index in 0..topic.partition_count {
            if self.served.lock().contains(&(topic.id, index)) {
                continue;
            }
            // The first partition of a topic still finds room: only part of the work can be done.
            if self.is_full.load(Ordering::Relaxed) && 0 < index {
                return Err(LogError::Storage(FsError {
                    operation: FsOperation::Create,
                    path: DATA_DIR.into(),
                    kind: FsErrorKind::NoSpace,
                    source: std::io::Error::other("full"),
                }));
            }
            let name = TopicPartition::new(Arc::clone(&topic.name), index);
            self.manager.create(&name, topic.id, config.clone())?;
            made.push((topic.id, index));
        }
        self.served.lock().extend(made);
        Ok(())
    }

    fn extend(&self, topic: &TopicImage, config: &LogConfig) -> Result<(), LogError> {
        self.create(topic, config)
    }

    fn withdraw(&self, topic: &TopicImage, partition_count: i32) -> Result<(), LogError> {
        self.discard(topic, partition_count)
    }

    fn delete(&self, topic: &TopicImage) -> Result<(), LogError> {
        self.served.lock().retain(|(id, _)| *id != topic.id);
        self.discard(topic, 0)
    }

    fn reconfigure(&self, topic: &TopicImage, config: &LogConfig) {
        self.retention_ms
            .lock()
            .push((topic.name.to_string(), config.retention_ms));
    }
}

impl Directories {
    fn discard(&self, topic: &TopicImage, from: i32) -> Result<(), LogError> {
        for index in from..topic.partition_count {
            let name = TopicPartition::new(Arc::clone(&topic.name), index);
            self.manager.schedule_delete(&name, topic.id)?;
        }
        Ok(())
    }
}

/// A broker's metadata, running.
struct Node {
    controller: Controller,
    directories: Arc<Directories>,
}

impl Node {
    fn start(file_system: &MemFileSystem) -> Result<Self, String> {
        Self::start_with(file_system, BrokerConfig::default())
    }

    fn start_with(file_system: &MemFileSystem, config: BrokerConfig) -> Result<Self, String> {
        let (manager, mut found) = open_manager(file_system)?;
        let (log, image) = MetadataLog::open(Arc::clone(manager.first()), &found, TUNING)
            .map_err(|error| error.to_string())?;
        remove_leftovers(&manager, &mut found, &image).map_err(|error| error.to_string())?;
        for found in &found.partitions {
            let topic = image.topic(&found.partition.topic);
            let is_known = topic.is_some_and(|topic| {
                found.topic_id.is_none_or(|id| id == topic.id)
                    && found.partition.partition < topic.partition_count
            });
            if !is_known && found.partition != partition() {
                return Err(format!("{} belongs to nobody", found.partition));
            }
        }
        let directories = Arc::new(Directories::new(manager));
        let none = image
            .layers(&config)
            .log_config(&crate::config::effective::Overrides::new());
        for topic in image.topics() {
            directories
                .create(topic, &none)
                .map_err(|error| error.to_string())?;
        }
        let controller = Controller::start(log, image, Arc::new(config), Arc::clone(&directories) as _);
        Ok(Self {
            controller: controller.map_err(|error| error.to_string())?,
            directories,
        })
    }

    async fn create(&self, name: &str, partition_count: i32) -> Result<Arc<TopicImage>, ControllerError> {
        let topic = NewTopic {
            partition_count,
            ..NewTopic::named(name)
        };
        self.controller.create_topics(vec![topic], false).await.remove(0)
    }
}
