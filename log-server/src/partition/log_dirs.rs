//! The broker's directories as clients are shown them: what is in each, and what is wrong with it.
//! Both fronts answer from this; the space is asked of the disk each time.

use std::path::PathBuf;
use std::sync::Arc;

use log_core::fs::Space;
use log_core::log_manager::LogDirectory;

use crate::partition::offset_query::blocking;
use crate::partition::partition::Partition;
use crate::partition::registry::PartitionRegistry;

/// One of the directories.
#[derive(Debug)]
pub struct LogDir {
    /// Where it is, as the setting says it.
    pub path: PathBuf,
    /// Why it serves nothing, if it does not.
    pub failure: Option<Arc<str>>,
    /// The space of its disk, or why that is not known.
    pub space: Result<Space, String>,
    /// The partitions that live in it.
    pub partitions: Vec<Arc<Partition>>,
}

impl PartitionRegistry {
    /// All directories: those that were opened, in the order of the setting, and those that could not be.
    pub async fn log_dirs(&self) -> Vec<LogDir> {
        let mut log_dirs = Vec::new();
        for directory in self.manager.directories() {
            let failure = directory.failure();
            let space = match &failure {
                None => space_of(Arc::clone(directory)).await,
                Some(reason) => Err(reason.to_string()),
            };
            log_dirs.push(LogDir {
                path: directory.data_dir().to_owned(),
                failure,
                space,
                partitions: self.partitions_in(directory),
            });
        }
        let absent = self.manager.absent().iter().map(|absent| LogDir {
            path: absent.path.clone(),
            failure: Some(Arc::clone(&absent.reason)),
            space: Err(absent.reason.to_string()),
            partitions: Vec::new(),
        });
        log_dirs.extend(absent);
        log_dirs
    }

    fn partitions_in(&self, directory: &Arc<LogDirectory>) -> Vec<Arc<Partition>> {
        let lives_here = |partition: &Arc<Partition>| {
            let home = self.manager.home(partition.name());
            home.is_some_and(|home| Arc::ptr_eq(home, directory))
        };
        let mut partitions = self.all();
        partitions.retain(lives_here);
        partitions
    }
}

async fn space_of(directory: Arc<LogDirectory>) -> Result<Space, String> {
    match blocking(move || directory.space()).await {
        Ok(Ok(space)) => Ok(space),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
