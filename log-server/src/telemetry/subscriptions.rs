//! The subscriptions as they stand, compiled, and what those that select a client want of it together.
//!
//! Compiling takes time and a set of subscriptions may want a long list, so neither is done for each client: what has not changed is not compiled again,
//! and clients that the same subscriptions select share one [`Wanted`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use log_core::record::crc32c;

use super::client::{Attributes, Client, ClientInstanceId};
use crate::config::client_metrics::{ALL_METRICS, INTERVAL_MS_DEFAULT, Subscription};
use crate::metadata::image::SubscriptionConfigs;

/// What subscriptions together want of the clients that they select.
#[derive(Debug)]
pub struct Wanted {
    /// How often.
    pub interval_ms: i32,
    /// Beginnings of names, in order.
    pub metrics: Vec<String>,
    checksum: u32,
}

impl Wanted {
    fn of<'a>(subscriptions: impl Iterator<Item = &'a Subscription>) -> Self {
        let mut metrics = Vec::new();
        let mut interval_ms = INTERVAL_MS_DEFAULT;
        for subscription in subscriptions {
            interval_ms = interval_ms.min(subscription.interval_ms);
            metrics.extend_from_slice(&subscription.metrics);
        }
        if metrics.iter().any(|metric| metric == ALL_METRICS) {
            metrics = vec![ALL_METRICS.to_owned()];
        }
        metrics.sort_unstable();
        metrics.dedup();
        // Over a list as Java writes it; where there are several metrics, Kafka's order is that of a hash table.
        let text = format!("[{}]{interval_ms}", metrics.join(", "));
        Self {
            interval_ms,
            metrics,
            checksum: crc32c(text.as_bytes()),
        }
    }

    /// Changes with what is wanted; computed as in Kafka, for each client another one.
    #[must_use]
    pub fn subscription_id(&self, id: ClientInstanceId) -> i32 {
        (self.checksum ^ id.folded()).cast_signed()
    }
}

/// All subscriptions in one state of the metadata.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    configs: SubscriptionConfigs,
    compiled: BTreeMap<Arc<str>, Arc<Subscription>>,
}

impl Subscriptions {
    pub(super) fn are_of(&self, configs: &SubscriptionConfigs) -> bool {
        Arc::ptr_eq(&self.configs, configs)
    }

    /// Those of another state. Only what has changed is compiled.
    pub(super) fn changed_to(&self, configs: &SubscriptionConfigs) -> Self {
        let compiled = configs.iter().filter_map(|(name, settings)| {
            let is_same = self.configs.get(name) == Some(settings);
            let known = self.compiled.get(name).filter(|_| is_same);
            let subscription = match known {
                Some(known) => Arc::clone(known),
                // Each was read before it was written down.
                None => Arc::new(Subscription::of(settings).ok()?),
            };
            Some((Arc::clone(name), subscription))
        });
        Self {
            configs: Arc::clone(configs),
            compiled: compiled.collect(),
        }
    }

    /// The places of those that select a client.
    fn selecting(&self, client: &Client, id: ClientInstanceId) -> Box<[usize]> {
        let attributes = Attributes::of(client, id);
        let numbered = self.compiled.values().enumerate();
        numbered
            .filter(|(_, subscription)| subscription.selects(|attribute| attributes.get(attribute)))
            .map(|(place, _)| place)
            .collect()
    }

    #[cfg(test)]
    pub(super) fn named(&self, name: &str) -> &Arc<Subscription> {
        &self.compiled[name]
    }

    fn at<'a>(&'a self, places: &'a [usize]) -> impl Iterator<Item = &'a Subscription> {
        let numbered = self.compiled.values().enumerate();
        numbered
            .filter(|(place, _)| places.binary_search(place).is_ok())
            .map(|(_, subscription)| &**subscription)
    }
}

/// What each set of the subscriptions wants, for as long as there is a client that it selects.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    of_places: HashMap<Box<[usize]>, Weak<Wanted>>,
}

impl Wishes {
    /// What is wanted of a client. `subscriptions` are the same ones at each call.
    pub(super) fn of(
        &mut self,
        subscriptions: &Subscriptions,
        client: &Client,
        id: ClientInstanceId,
    ) -> Arc<Wanted> {
        let places = subscriptions.selecting(client, id);
        if let Some(wanted) = self.of_places.get(&places).and_then(Weak::upgrade) {
            return wanted;
        }
        let wanted = Arc::new(Wanted::of(subscriptions.at(&places)));
        self.of_places.insert(places, Arc::downgrade(&wanted));
        wanted
    }

    /// Lets go the sets that select nobody any more.
    pub(super) fn sweep(&mut self) {
        self.of_places.retain(|_, wanted| 0 < wanted.strong_count());
    }

    pub(super) fn len(&self) -> usize {
        self.of_places.len()
    }
}
