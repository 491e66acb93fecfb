//! Watches a broker until its cleaner has come to the end: how long that took, and what the process had meanwhile.
//! The end is what the cleaner's own checkpoint says.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use log_bench::brokers::{Broker, Memory};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// No cleaning here takes so long.
const PATIENCE: Duration = Duration::from_hours(1);

/// What a cleaning took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cleaned {
    pub(crate) took: Duration,
    /// Of the whole process.
    pub(crate) cpu_s: f64,
    /// What the process held before.
    pub(crate) before: Memory,
    /// The most that was seen of each.
    pub(crate) peak: Memory,
}

/// Returns when the checkpoint of the cleaner says that the topic is clean up to `end`. `release` lets the cleaner at it.
pub(crate) async fn cleaned_to(
    broker: &mut Broker,
    checkpoint: &Path,
    topic: &str,
    end: u64,
    release: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Cleaned> {
    let (before, cpu_before) = (broker.memory()?, broker.cpu_seconds()?);
    let mut peak = before;
    let begun = Instant::now();
    release.await?;
    while clean_up_to(checkpoint, topic)? < end {
        broker.check_alive()?;
        let now = broker.memory()?;
        peak.anonymous = peak.anonymous.max(now.anonymous);
        peak.total = peak.total.max(now.total);
        ensure!(
            begun.elapsed() < PATIENCE,
            "nothing was cleaned within {PATIENCE:?}"
        );
        tokio::time::sleep(LOOK).await;
    }
    Ok(Cleaned {
        took: begun.elapsed(),
        cpu_s: broker.cpu_seconds()? - cpu_before,
        before,
        peak,
    })
}

/// Up to where partition 0 of a topic is clean; 0 when the file says nothing about it. Both brokers write Kafka's format: version, number of
/// entries, and a line `topic partition offset` for each.
fn clean_up_to(checkpoint: &Path, topic: &str) -> anyhow::Result<u64> {
    let Ok(text) = std::fs::read_to_string(checkpoint) else {
        return Ok(0);
    };
    let entry = format!("{topic} 0 ");
    let offset = text.lines().find_map(|line| line.strip_prefix(&entry));
    let offset = offset.map(|offset| offset.trim().parse()).transpose();
    Ok(offset
        .with_context(|| format!("read {}", checkpoint.display()))?
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_of_the_topic_counts() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cleaner-offset-checkpoint");
        assert_eq!(clean_up_to(&file, "cleaned").unwrap(), 0);
        std::fs::write(&file, "0\n3\nother 0 9\ncleaned 1 7\ncleaned 0 42\n").unwrap();
        assert_eq!(clean_up_to(&file, "cleaned").unwrap(), 42);
        std::fs::write(&file, "0\n1\ncleaned 0 many\n").unwrap();
        clean_up_to(&file, "cleaned").unwrap_err();
    }
}
