//! Which topics there are, by name and by id.
//!
//! Making one prepares the space of all its partitions before the answer leaves.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use log_core::model::TopicId;
use tokio::sync::Notify;

use super::Settings;
use super::partition::Partition;

/// A topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Vec<u8>,
    pub(crate) id: TopicId,
    pub(crate) partitions: Vec<Arc<Partition>>,
    /// Connections that remember it look here.
    pub(crate) is_deleted: AtomicBool,
}

/// All topics, by name and by id.
#[derive(Debug)]
pub(crate) struct Topics {
    settings: Settings,
    directory: PathBuf,
    names: RwLock<HashMap<Vec<u8>, Arc<Topic>>>,
    ids: RwLock<HashMap<[u8; 16], Arc<Topic>>>,
    made: AtomicU64,
    pub(crate) grown: Arc<Notify>,
}

impl Topics {
    pub(crate) fn new(settings: Settings) -> io::Result<Self> {
        let directory = settings.directory.join(format!("null-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        Ok(Self {
            settings,
            directory,
            names: RwLock::default(),
            ids: RwLock::default(),
            made: AtomicU64::new(0),
            grown: Arc::default(),
        })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.values().cloned().collect()
    }

    pub(crate) fn named(&self, name: &[u8]) -> Option<Arc<Topic>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(name).cloned()
    }

    /// By its name, or by its id where `version` of the request is one that names topics so.
    pub(crate) fn find(&self, key: &[u8], is_id: bool) -> Option<Arc<Topic>> {
        if !is_id {
            return self.named(key);
        }
        let ids = self.ids.read().unwrap_or_else(PoisonError::into_inner);
        ids.get(key).cloned()
    }

    /// Makes a topic and prepares its space, or gives the one of that name.
    pub(crate) fn create(
        &self,
        name: &[u8],
        partitions: usize,
        segment_bytes: Option<u64>,
    ) -> io::Result<Arc<Topic>> {
        if let Some(topic) = self.named(name) {
            return Ok(topic);
        }
        let number = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        let segment_bytes = segment_bytes.unwrap_or(self.settings.segment_bytes);
        let open = |index| {
            let path = self.directory.join(format!("{number}-{index}"));
            Partition::open(path, segment_bytes, &self.settings, &self.grown)
        };
        let mut id = [0; 16];
        if let Some(place) = id.last_chunk_mut() {
            *place = number.to_be_bytes();
        }
        let topic = Arc::new(Topic {
            name: name.to_vec(),
            id: TopicId::from_bytes(id),
            partitions: (0..partitions).map(open).collect::<io::Result<_>>()?,
            is_deleted: AtomicBool::new(false),
        });
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        names.insert(topic.name.clone(), Arc::clone(&topic));
        let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
        ids.insert(id, Arc::clone(&topic));
        Ok(topic)
    }

    pub(crate) fn delete(&self, topic: &Topic) {
        topic.is_deleted.store(true, Ordering::Release);
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        names.remove(&topic.name);
        let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
        ids.remove(&topic.id.to_bytes());
    }

    /// Removes the directory with all that is in it.
    pub(crate) fn remove(&self) {
        std::fs::remove_dir_all(&self.directory).ok();
    }
}
