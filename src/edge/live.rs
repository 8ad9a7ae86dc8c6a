//! One generation of the configuration and the state that requests use with it.
//!
//! A reload makes the next generation and swaps it in; requests keep the one they began with. What must outlive a
//! reload (counters of limits, metrics, cool-downs) is handed from one generation to the next by identity.

use super::upstream::Upstream;
use crate::config::snapshot::Snapshot;
use crate::limit::Limiter;
use crate::provider::Target;
use crate::route::health::Cooldowns;
use crate::sign::seal::{Seal, Sealer};
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use std::time::Instant;

/// See the module.
pub struct Live {
    /// Number of the generation, from 1.
    pub generation: u64,
    /// The configuration.
    pub snapshot: Snapshot,
    /// Limits and what is left of them.
    pub limiter: Arc<Limiter>,
    /// Handles of every series.
    pub metrics: Arc<Metrics>,
    /// Targets that rest.
    pub cooldowns: Arc<Cooldowns>,
    upstreams: Vec<Upstream>,
    sealer: Sealer,
    /// All generations count time from the same instant.
    epoch: Instant,
}

impl Live {
    /// The generation after `previous`, or the first one.
    ///
    /// # Errors
    /// Says which file of a provider's TLS settings cannot be used.
    pub fn new(snapshot: Snapshot, previous: Option<&Live>) -> Result<Self, String> {
        let generation = previous.map_or(1, |p| p.generation + 1);
        let upstreams = snapshot.providers.iter().map(|p| Upstream::new(p.clone(), generation)).collect::<Result<_, _>>()?;
        Ok(Self {
            generation,
            limiter: Arc::new(Limiter::new(&snapshot, previous.map(|p| &*p.limiter))),
            metrics: Arc::new(Metrics::new(&snapshot, previous.map(|p| &*p.metrics))),
            cooldowns: Arc::new(Cooldowns::new(&snapshot, previous.map(|p| (&p.snapshot, &*p.cooldowns)))),
            upstreams,
            sealer: Sealer::new(&snapshot.seal_key),
            epoch: previous.map_or_else(Instant::now, |p| p.epoch),
            snapshot,
        })
    }

    /// Nanoseconds since the process began to serve; the clock of limits and cool-downs.
    pub fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The connections of a target's provider.
    #[allow(clippy::indexing_slicing, reason = "made from the same snapshot: one for each provider, in its order")]
    pub fn upstream(&self, target: &Target) -> &Upstream {
        &self.upstreams[target.provider.index]
    }

    /// Providers that are found by name.
    pub fn named_upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.upstreams.iter().filter(|u| u.is_named())
    }

    /// Binds sealed ids to a team.
    pub fn seal<'a>(&'a self, team: &'a str) -> Seal<'a> {
        Seal { sealer: &self.sealer, context: team.as_bytes() }
    }
}

/// Counts a request as in flight, and as an open stream, for as long as it lives.
pub struct Presence {
    metrics: Arc<Metrics>,
    route: usize,
    stream: bool,
}

impl Presence {
    /// A request of a route has come in.
    pub fn new(metrics: Arc<Metrics>, route: usize, stream: bool) -> Self {
        metrics.arrived(route, stream);
        Self { metrics, route, stream }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.metrics.left(self.route, self.stream);
    }
}
