//! One generation of the configuration and the state that requests use with it.
//!
//! A reload makes the next generation and swaps it in; requests keep the one they began with. What must outlive a
//! reload (counters of limits, metrics, the health of targets, what is known of providers, fetched credentials and keys of issuers) is handed from one generation to the next by identity.

use super::connector::addresses::Addresses;
use super::connector::upstream::{Upstream, shared};
use super::drain::Drain;
use super::large;
use crate::auth::jwt::Tokens;
use crate::config::snapshot::Snapshot;
use crate::error::ApiError;
use crate::json::slices::Slices;
use crate::limit::{Clock, Limiter, Store};
use crate::llm::state::{Seal, Sealer};
use crate::provider::{ModelName, Target};
use crate::route::adjusted::AdjustedTargets;
use crate::route::health::Health;
use crate::route::settings::Routes;
use crate::sign::aws;
use crate::sign::signer::{Existing, Proof, Signer};
use crate::system;
use crate::telemetry::failures::Failures;
use crate::telemetry::history::History;
use crate::telemetry::metrics::{Metrics, Names};
use crate::telemetry::spans::export::Tracer;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;

/// See the module.
pub struct Live {
    /// Number of the generation, from 1.
    pub generation: u64,
    /// The configuration.
    pub snapshot: Snapshot,
    /// Limits and what is left of them.
    pub limiter: Arc<Limiter>,
    /// Checks tokens; `None` where keys are all that is accepted.
    pub tokens: Option<Tokens>,
    /// Where limits are counted.
    pub store: Store,
    /// Handles of every series.
    pub metrics: Arc<Metrics>,
    /// Where spans go; `None`: no request is traced.
    pub tracer: Option<Arc<Tracer>>,
    /// The health of targets.
    pub health: Arc<Health>,
    /// Who is being served, whatever the generation.
    pub drain: Arc<Drain>,
    /// What targets have taught, whatever the generation.
    pub adjusted: Arc<AdjustedTargets>,
    /// The last hour of routes, whatever the generation.
    pub history: Arc<History>,
    /// Requests that failed last, whatever the generation.
    pub failures: Arc<Failures>,
    upstreams: Vec<Upstream>,
    /// What `x-tidegate-upstream-model` says of each target, where that is always the same.
    model_labels: Vec<Option<HeaderValue>>,
    signers: Vec<Arc<Signer>>,
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
    /// Says which provider cannot be asked with its settings, or that the limit store cannot be reached where nothing is
    /// admitted without it.
    pub fn new(snapshot: Snapshot, previous: Option<&Live>) -> Result<Self, String> {
        let generation = previous.map_or(1, |p| p.generation + 1);
        let before = previous.map_or(&[][..], |p| &p.signers);
        let mut signers: Vec<Arc<Signer>> = Vec::with_capacity(snapshot.providers.len());
        for provider in &snapshot.providers {
            signers.push(Arc::new(Signer::new(&provider.payer(), Existing { siblings: &signers, previous: before })?));
        }
        let mut upstreams = Vec::new();
        for (provider, signer) in snapshot.providers.iter().zip(&signers) {
            let known = || previous.into_iter().flat_map(|p| &p.upstreams).filter(|before| before.provider.name == provider.name);
            let in_flight = known().next().map(|before| before.in_flight.clone()).unwrap_or_default();
            for replica in provider.endpoints() {
                let before = known().find(|before| before.is_at(replica)).or_else(|| known().next());
                upstreams.push(Upstream::new(replica.clone(), signer, before, in_flight.clone())?);
            }
        }
        let (seals, opens) = &snapshot.seal_keys;
        let sealer = Sealer::new(seals).and_then(|sealer| sealer.opening(opens)).ok_or("the seal keys cannot be used")?;
        let names = || Names::of(&snapshot.tenants, &snapshot.providers, &snapshot.routes, &snapshot.attributes);
        let metrics = |previous| Metrics::new(names(), previous).map(Arc::new).map_err(|e| e.to_string());
        let before = match previous {
            Some(p) => p.metrics.clone(),
            None => metrics(None)?,
        };
        let counter = before.clone();
        let on_store_event = Arc::new(move |event| counter.limit_store(event));
        let client = Store::client(&snapshot.limit_store, previous.map(|p| &p.store), on_store_event)?;
        let tracer =
            snapshot.tracing.as_ref().map(|settings| Tracer::of(settings, previous.and_then(|p| p.tracer.as_ref()), before.spans()));
        let tracer = tracer.transpose()?;
        let clock = previous.map_or_else(Clock::start, |p| p.clock.clone());
        // From here on nothing can refuse the configuration any more: series that are gone go, and limits take their new
        // amounts.
        let metrics = match previous {
            Some(p) => p.history.reload(&p.metrics, || metrics(Some(&p.metrics)))?,
            None => before,
        };
        let limiter = Arc::new(Limiter::new(snapshot.limits(), previous.map(|p| &*p.limiter), &clock));
        let store = Store::new(&snapshot.limit_store, &limiter, client, previous.map(|p| &p.store));
        let names =
            snapshot.routes.iter().flat_map(|route| route.aliases.iter().chain([&route.name]).map(|name| (Arc::clone(name), route.index)));
        Ok(Self {
            generation,
            tokens: Tokens::new(&snapshot.tenants, names, previous.and_then(|p| p.tokens.as_ref())),
            limiter,
            store,
            metrics,
            tracer,
            health: Arc::new(Health::new(&snapshot.routes, previous.map(|p| (&p.snapshot.routes, &*p.health)))),
            drain: previous.map_or_else(Arc::default, |p| p.drain.clone()),
            adjusted: previous.map_or_else(Arc::default, |p| p.adjusted.clone()),
            history: previous.map_or_else(Arc::default, |p| p.history.clone()),
            failures: previous.map_or_else(Arc::default, |p| p.failures.clone()),
            upstreams,
            model_labels: model_labels(&snapshot.routes),
            signers,
            sealer: Arc::new(sealer),
            clock,
            loaded_at: system::unix_time().as_secs(),
            snapshot,
        })
    }

    /// Nanoseconds that never step back; the clock of limits and health.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Lets budgets follow the wall clock; see [`Clock::follow_wall_clock`].
    pub fn follow_wall_clock(&self) {
        self.clock.follow_wall_clock();
    }

    /// The connections of a target's provider.
    #[allow(clippy::indexing_slicing, reason = "made from the same snapshot: one for each endpoint, in its order")]
    pub fn upstream(&self, target: &Target) -> &Upstream {
        &self.upstreams[target.provider.endpoint]
    }

    /// Proves to a target's provider who pays for these bytes.
    ///
    /// # Errors
    /// 502 where there are no credentials to sign with.
    #[allow(clippy::indexing_slicing, reason = "made from the same snapshot: one for each provider, in its order")]
    pub async fn sign(&self, target: &Target, path: &str, headers: &[(HeaderName, HeaderValue)], body: &Slices) -> Result<Proof, ApiError> {
        let hash = async {
            let body = body.clone();
            large::run(body.len(), move || aws::hash(body.iter())).await
        };
        self.signers[target.provider.index].sign(path, headers, hash).await
    }

    /// Whether the requests to a target's provider carry a proof of their own.
    pub fn signs(&self, target: &Target) -> bool {
        self.signers.get(target.provider.index).is_some_and(|s| s.expires())
    }

    /// Signers whose credentials are fetched and expire, one for each source of credentials.
    pub fn expiring_signers(&self) -> impl Iterator<Item = &Arc<Signer>> {
        self.signers.iter().filter(|s| s.renews())
    }

    /// `x-tidegate-upstream-model` for a target and the model there; `None` where a header cannot carry it.
    pub fn model_label(&self, target: &Target, model: &str) -> Option<HeaderValue> {
        match self.model_labels.get(target.index) {
            Some(Some(label)) => Some(label.clone()),
            _ => HeaderValue::from_str(model).ok(),
        }
    }

    /// Addresses that are looked up.
    pub fn named_addresses(&self) -> impl Iterator<Item = &Arc<Addresses>> {
        self.upstreams.iter().map(Upstream::addresses).filter(|a| a.is_named())
    }

    /// Seals for a team what this provider wants back.
    pub fn seal(&self, team: &Arc<str>, provider: &Arc<str>) -> Seal {
        Seal::new(self.sealer.clone(), team.clone(), provider.clone())
    }
}

fn model_labels(routes: &Routes) -> Vec<Option<HeaderValue>> {
    let mut labels = vec![None; routes.targets];
    for target in routes.iter().flat_map(|r| r.targets.iter().chain(&r.fallback)) {
        if let (Some(slot), ModelName::Fixed(model)) = (labels.get_mut(target.index), &target.model) {
            *slot = shared(model.as_bytes()).ok();
        }
    }
    labels
}
