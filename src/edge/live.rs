//! One generation of the configuration and the state that requests use with it.
//!
//! A reload makes the next generation and swaps it in; requests keep the one they began with. What must outlive a
//! reload (counters of limits, metrics, cool-downs) is handed from one generation to the next by identity.

use super::upstream::Upstream;
use crate::config::snapshot::Snapshot;
use crate::limit::{Clock, Limiter};
use crate::provider::Target;
use crate::route::health::Cooldowns;
use crate::sign::seal::{Seal, Sealer};
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

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
    sealer: Arc<Sealer>,
    /// All generations read the same clock.
    clock: Arc<Clock>,
    /// Seconds since the epoch.
    pub loaded_at: u64,
}

impl Live {
    /// The generation after `previous`, or the first one.
    ///
    /// # Errors
    /// Says which file of a provider's TLS settings cannot be used.
    pub fn new(snapshot: Snapshot, previous: Option<&Live>) -> Result<Self, String> {
        let generation = previous.map_or(1, |p| p.generation + 1);
        let upstreams = snapshot.providers.iter().map(|p| Upstream::new(p.clone(), generation)).collect::<Result<_, _>>()?;
        let sealer = Sealer::new(&snapshot.seal_key).ok_or("the seal key cannot be used")?;
        let clock = previous.map_or_else(Clock::start, |p| p.clock.clone());
        Ok(Self {
            generation,
            limiter: Arc::new(Limiter::new(&snapshot, previous.map(|p| &*p.limiter), clock.now())),
            metrics: Arc::new(Metrics::new(&snapshot, previous.map(|p| &*p.metrics))),
            cooldowns: Arc::new(Cooldowns::new(&snapshot, previous.map(|p| (&p.snapshot, &*p.cooldowns)))),
            upstreams,
            sealer: Arc::new(sealer),
            clock,
            loaded_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            snapshot,
        })
    }

    /// Nanoseconds that never step back; the clock of limits and cool-downs.
    pub fn now(&self) -> u64 {
        self.clock.now()
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
    pub fn seal(&self, team: &Arc<str>) -> Seal {
        Seal::new(self.sealer.clone(), team.clone())
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
