//! All client instances: questions and pushes are decided here, last values kept and shown.
//!
//! Everything is bounded: instances by their number, those that came longest ago going first, as in Kafka; values by their bytes, of one client and of all.
//! What comes packed is unpacked a few at a time, to four times of what may come; who would wait behind too many is told to come again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use log_core::clock::{Clock, SteadyMs};
use log_core::model::TimestampMs;
use log_core::record::compression::Compression;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::client::{Client, ClientInstanceId};
use super::error::TelemetryError;
use super::instance::{Instance, Push};
use super::report::Report;
use super::series::Series;
use super::subscriptions::{Subscriptions, Wanted, Wishes};
use crate::metadata::image::SubscriptionConfigs;
use crate::metadata::plan::random_id;
use crate::metrics::telemetry::TelemetryMetrics;

/// Instances at once; Kafka's number.
const INSTANCES_MAX: usize = 16_384;
/// What the values of all clients may take together.
const SERIES_BYTES_MAX: usize = 64 << 20;
/// How many times of what may come it may become.
const UNPACKED_RATIO: usize = 4;
/// Pushes that are unpacked and read at a time.
const READERS: usize = 2;
/// Pushes that are being read or wait for it. Each holds what came: a megabyte, unless the setting says more.
pub(super) const PUSHES_MAX: usize = 34;
/// How often those are looked for that nobody heard of.
const SWEEP_INTERVAL_MS: i64 = 10_000;

/// A client instance as it is shown.
#[derive(Debug, Clone)]
pub struct ClientView {
    /// Its id.
    pub id: ClientInstanceId,
    /// Who it is.
    pub client: Client,
    /// Whether it said that it ends.
    pub is_terminating: bool,
    /// What is wanted of it.
    pub wanted: Arc<Wanted>,
    /// When its last values came.
    pub pushed_at: Option<TimestampMs>,
    /// Those values.
    pub series: Arc<Series>,
}

/// What clients measure, for those who look after them.
#[derive(Debug)]
pub struct ClientMetricsManager {
    clock: Arc<dyn Clock>,
    bytes_max: usize,
    state: Mutex<State>,
    /// Held while changed subscriptions are compiled, so that one request does it for all that come meanwhile.
    compiling: Mutex<()>,
    places: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    metrics: Arc<TelemetryMetrics>,
}

/// A question or push is decided under one lock; packed metrics are read outside of it.
#[derive(Debug, Default)]
struct State {
    subscriptions: Arc<Subscriptions>,
    subscriptions_version: u64,
    wishes: Wishes,
    instances: HashMap<ClientInstanceId, Instance>,
    /// By last use.
    order: BTreeMap<u64, ClientInstanceId>,
    uses: u64,
    series_bytes: usize,
    swept: SteadyMs,
}

impl ClientMetricsManager {
    /// Knows nobody yet. A push may have `bytes_max` bytes as it comes (`telemetry.max.bytes`).
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, bytes_max: usize) -> Self {
        Self {
            clock,
            bytes_max,
            state: Mutex::default(),
            compiling: Mutex::default(),
            places: Arc::new(Semaphore::new(PUSHES_MAX)),
            readers: Arc::new(Semaphore::new(READERS)),
            metrics: Arc::default(),
        }
    }

    /// How many bytes a push may have.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<TelemetryMetrics> {
        &self.metrics
    }

    /// A client asks what is wanted of it. Without an id it gets one.
    ///
    /// # Errors
    /// It came too early.
    pub fn ask(
        &self,
        configs: &SubscriptionConfigs,
        client: Client,
        id: ClientInstanceId,
    ) -> Result<(ClientInstanceId, Arc<Wanted>), TelemetryError> {
        self.follow(configs);
        let now = self.clock.steady();
        let mut state = self.state.lock();
        let id = if id == ClientInstanceId::NONE {
            state.new_id()
        } else {
            id
        };
        let instance = state.instance(client, id, now);
        let wanted = Arc::clone(&instance.wanted);
        let asked = instance.ask(now);
        drop(state);
        asked
            .map(|()| (id, wanted))
            .inspect_err(|error| self.count(error))
    }

    /// A client pushes its metrics.
    ///
    /// # Errors
    /// Why they are refused.
    pub async fn push(
        self: Arc<Self>,
        configs: &SubscriptionConfigs,
        client: Client,
        id: ClientInstanceId,
        push: Push,
        pushed: bytes::Bytes,
    ) -> Result<(), TelemetryError> {
        let outcome = match self.admit(configs, client, id, push) {
            Ok(compression) if !pushed.is_empty() => self.read(compression, pushed).await.map(Some),
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        let report = outcome.inspect_err(|error| self.count(error))?;
        self.metrics.pushes.add(1);
        if let Some(report) = report {
            self.state.lock().note(id, report, self.clock.now());
        }
        Ok(())
    }

    fn admit(
        &self,
        configs: &SubscriptionConfigs,
        client: Client,
        id: ClientInstanceId,
        push: Push,
    ) -> Result<Compression, TelemetryError> {
        if id.is_reserved() {
            return Err(TelemetryError::Invalid("no client has this instance id"));
        }
        self.follow(configs);
        let now = self.clock.steady();
        let mut state = self.state.lock();
        let instance = state.instance(client, id, now);
        instance.push(&push, self.bytes_max, now)?;
        drop(state);
        let compression = u8::try_from(push.compression).ok();
        compression
            .and_then(|id| Compression::from_id(id).ok())
            .ok_or(TelemetryError::UnsupportedCompression(push.compression))
    }

    /// On a thread that nobody else waits for: a megabyte may become four.
    async fn read(&self, compression: Compression, pushed: bytes::Bytes) -> Result<Report, TelemetryError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| TelemetryError::Busy)?;
        let turn = Arc::clone(&self.readers).acquire_owned().await;
        let turn = turn.expect("the semaphore is never closed");
        let bytes_max = self.bytes_max.saturating_mul(UNPACKED_RATIO);
        let reading = move || {
            // Held by the thread: the client may go away before it ends.
            let _held = (place, turn);
            Report::unpack(compression, &pushed, bytes_max)
        };
        match tokio::task::spawn_blocking(reading).await {
            Ok(report) => report,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(TelemetryError::Unreadable("the broker is stopping".to_owned())),
        }
    }

    /// Reads the subscriptions if they are other ones. Nobody else waits for the patterns to be compiled but who needs them, too.
    fn follow(&self, configs: &SubscriptionConfigs) {
        if self.state.lock().subscriptions.are_of(configs) {
            return;
        }
        let _one_at_a_time = self.compiling.lock();
        let before = Arc::clone(&self.state.lock().subscriptions);
        if !before.are_of(configs) {
            let subscriptions = Arc::new(before.changed_to(configs));
            self.state.lock().change_to(subscriptions);
        }
    }

    /// Nothing is read until it is dropped.
    #[cfg(test)]
    pub(super) async fn hold_readers(&self) -> tokio::sync::OwnedSemaphorePermit {
        let readers = Arc::clone(&self.readers);
        readers
            .acquire_many_owned(u32::try_from(READERS).unwrap())
            .await
            .unwrap()
    }

    fn count(&self, error: &TelemetryError) {
        self.metrics.refused(error.reason());
    }

    /// All clients that came lately, in no order.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientView> {
        let now = self.clock.steady();
        let mut state = self.state.lock();
        state.sweep(now);
        state
            .instances
            .iter()
            .map(|(id, instance)| view(*id, instance))
            .collect()
    }

    /// One of them.
    #[must_use]
    pub fn client(&self, id: ClientInstanceId) -> Option<ClientView> {
        let now = self.clock.steady();
        let mut state = self.state.lock();
        state.sweep(now);
        state.instances.get(&id).map(|instance| view(id, instance))
    }

    /// How many there are.
    #[must_use]
    pub fn client_count(&self) -> usize {
        let now = self.clock.steady();
        let mut state = self.state.lock();
        state.sweep(now);
        state.instances.len()
    }
}

fn view(id: ClientInstanceId, instance: &Instance) -> ClientView {
    ClientView {
        id,
        client: instance.client.clone(),
        is_terminating: instance.is_terminating,
        wanted: Arc::clone(&instance.wanted),
        pushed_at: instance.pushed_at,
        series: Arc::clone(&instance.series),
    }
}

impl State {
    /// An id that nobody has. Not one that begins with a dash, which command lines would take for a flag.
    fn new_id(&self) -> ClientInstanceId {
        loop {
            let id = ClientInstanceId::from_bytes(random_id(&mut fastrand::Rng::new()).to_bytes());
            if !self.instances.contains_key(&id) && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    /// The instance of that id as it stands for this client now, which is then the last one used.
    fn instance(&mut self, client: Client, id: ClientInstanceId, now: SteadyMs) -> &mut Instance {
        self.sweep(now);
        let version = self.subscriptions_version;
        let before = self.remove(id);
        let mut instance = match before {
            Some(instance) if instance.holds(version, now) => instance,
            before => {
                let wanted = self.wishes.of(&self.subscriptions, &client, id);
                let instance = Instance::new(client, id, wanted, version, now);
                match before {
                    Some(before) => instance.in_the_place_of(before),
                    None => instance,
                }
            }
        };
        self.uses += 1;
        instance.used = self.uses;
        instance.last_seen = now;
        self.series_bytes += instance.series.bytes();
        self.order.insert(self.uses, id);
        self.instances.insert(id, instance);
        while INSTANCES_MAX < self.instances.len() {
            self.remove_oldest();
        }
        if INSTANCES_MAX < self.wishes.len() {
            self.wishes.sweep();
        }
        self.instances
            .get_mut(&id)
            .expect("the last one used is the last to go")
    }

    /// Each client is told anew what is wanted of it when it comes.
    fn change_to(&mut self, subscriptions: Arc<Subscriptions>) {
        self.subscriptions = subscriptions;
        self.subscriptions_version += 1;
        self.wishes = Wishes::default();
    }

    /// Takes the values of a push. The client may have been forgotten meanwhile.
    fn note(&mut self, id: ClientInstanceId, report: Report, at: TimestampMs) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let before = instance.series.bytes();
        Arc::make_mut(&mut instance.series).take(report);
        instance.pushed_at = Some(at);
        self.series_bytes = (self.series_bytes + instance.series.bytes()).saturating_sub(before);
        while SERIES_BYTES_MAX < self.series_bytes && self.remove_oldest() {}
    }

    fn remove_oldest(&mut self) -> bool {
        let oldest = self.order.first_key_value().map(|(_, id)| *id);
        oldest.is_some_and(|id| self.remove(id).is_some())
    }

    fn remove(&mut self, id: ClientInstanceId) -> Option<Instance> {
        let instance = self.instances.remove(&id)?;
        self.order.remove(&instance.used);
        self.series_bytes = self.series_bytes.saturating_sub(instance.series.bytes());
        Some(instance)
    }

    /// Lets go those who did not come any more.
    fn sweep(&mut self, now: SteadyMs) {
        if now.saturating_since(self.swept) < SWEEP_INTERVAL_MS {
            return;
        }
        self.swept = now;
        let forgotten: Vec<_> = self
            .instances
            .iter()
            .filter(|(_, instance)| instance.is_forgotten(now))
            .map(|(id, _)| *id)
            .collect();
        for id in forgotten {
            self.remove(id);
        }
        self.wishes.sweep();
    }
}
