//! Brokers that take turns, and where their figures go.
//! Both brokers are asked by the same requests, so that what differs is the broker.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use log_bench::brokers::{Broker, Kind, Programs};
use log_bench::comparison::{Better, Comparison, Quantity};
use log_bench::rounds::{Rounds, in_turn};
use log_client::admin::{Admin, Intent, NewTopic};
use log_client::config::ClientConfig;

use crate::Options;

/// Numbers the data directories.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A broker, and how it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) kind: Kind,
    /// What is special about it.
    pub(crate) name: &'static str,
    pub(crate) settings: &'static [(&'static str, &'static str)],
}

/// Our server as it is.
pub(crate) const OURS: Side = Side {
    kind: Kind::Stratalog,
    name: "",
    settings: &[],
};

/// What one side showed.
#[derive(Debug)]
pub(crate) struct Figure {
    side: Side,
    what: String,
    unit: &'static str,
    better: Better,
    value: f64,
}

pub(crate) struct Session<'a> {
    pub(crate) options: &'a Options,
    pub(crate) programs: &'a Programs,
    pub(crate) rounds: Rounds<Comparison>,
    /// The figures of the round that is under way.
    pub(crate) round: Vec<Figure>,
}

impl Session<'_> {
    /// Notes a figure.
    pub(crate) fn add(&mut self, side: Side, what: &str, unit: &'static str, better: Better, value: f64) {
        let line = format!("{} {}: {what}: {value:.3} {unit}", side.kind.name(), side.name);
        self.rounds.say(&line);
        self.round.push(Figure {
            side,
            what: what.to_owned(),
            unit,
            better,
            value,
        });
    }

    /// Ends the round that is under way, and begins the next one of this load, if there is one.
    ///
    /// # Errors
    /// The file of all figures cannot be written.
    pub(crate) fn begin_round(&mut self, load: &str) -> anyhow::Result<Option<usize>> {
        let figures = std::mem::take(&mut self.round);
        if self.rounds.counts() {
            self.compare_sides(&figures);
        }
        self.rounds.begin(load)
    }

    /// Ours is compared with each other side.
    fn compare_sides(&mut self, figures: &[Figure]) {
        let comparison = &mut self.rounds.figures;
        let others: Vec<&Figure> = figures
            .iter()
            .filter(|figure| figure.side.kind == Kind::Kafka)
            .collect();
        for ours in figures
            .iter()
            .filter(|figure| figure.side.kind == Kind::Stratalog)
        {
            let quantity = |name: &str| Quantity {
                load: format!("{}{name}", ours.what),
                unit: ours.unit.into(),
                better: ours.better,
            };
            let same = |other: &&&Figure| other.what == ours.what && other.unit == ours.unit;
            let mut is_alone = true;
            for other in others.iter().filter(same) {
                let quantity = quantity(&format!("; Kafka {}", other.side.name));
                comparison.add(Kind::Stratalog, quantity.clone(), ours.value);
                comparison.add(Kind::Kafka, quantity, other.value);
                is_alone = false;
            }
            if is_alone {
                comparison.add(Kind::Stratalog, quantity(""), ours.value);
            }
        }
    }

    /// The sides that are wanted, those of a round in its order.
    pub(crate) fn in_turn(&self, sides: &[Side], round: usize) -> Vec<Side> {
        let mut sides = sides.to_vec();
        sides.retain(|side| side.kind == Kind::Stratalog || !self.options.ours_only);
        in_turn(&sides, round).copied().collect()
    }

    /// Starts a broker on an empty directory, and returns when it listens.
    pub(crate) async fn start(&self, side: Side, settings: &[(&str, &str)]) -> anyhow::Result<Running> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let data = self
            .options
            .setup
            .directory
            .join(format!("groups-{}-{number}", side.kind.name()));
        let settings: Vec<_> = side.settings.iter().chain(settings).copied().collect();
        let broker = Broker::start_fresh(side.kind, self.programs, &data, &settings).await?;
        Ok(Running { side, broker, data })
    }
}

/// A broker that runs, and its directory, which goes with it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) side: Side,
    pub(crate) broker: Broker,
    data: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.broker.stop().ok();
        std::fs::remove_dir_all(&self.data).ok();
    }
}

/// Makes a topic.
pub(crate) async fn make_topic(address: &str, name: &str, partitions: i32) -> anyhow::Result<()> {
    let admin = Admin::new(ClientConfig::new(address))?;
    let topic = NewTopic::new(name).with_partitions(partitions);
    for made in admin.create_topics(&[topic], Intent::Apply).await? {
        made.with_context(|| format!("create {name}"))?;
    }
    Ok(())
}

/// The middle one.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> anyhow::Result<f64> {
    let spread = log_bench::report::Spread::of(values).context("something was measured")?;
    Ok(spread.median)
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub(crate) fn number(count: usize) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}
