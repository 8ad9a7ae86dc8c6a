//! Runtime state of each target: availability, requests in flight, latency.
//!
//! An entry belongs to a provider and an upstream model, is shared by all routes and survives reloads. A target with a
//! fixed model finds its entry by [`Target::index`](crate::provider::Target::index); those of patterns are looked up
//! once per request, by [`Health::resolve`]. Entries are lock-free; time is passed in.

use super::budget::RetryBudget;
use super::latency::Latency;
use super::r#match::RouteMatch;
use super::models::{Models, PatternModels, Registry};
pub use super::record::MAX_FAILURES;
use super::record::Record;

use super::availability::{Availability, Cause, Role};
use super::settings::{Ejection, Route, Routes};

use crate::provider::ModelName;
use crate::units::nanoseconds;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Maximum pause that a provider can request. Daily quotas begin for hours; a longer `retry-after` is capped.
pub const MAX_PAUSE: Duration = Duration::from_secs(24 * 3600);
/// Minimum interval between log lines about ejections of a pattern's models, and about recoveries.
pub const PATTERN_LOG_PAUSE: Duration = Duration::from_secs(10);

/// The targets of a snapshot.
#[derive(Debug, Default)]
pub struct Health {
    /// By `Target::index`.
    targets: Vec<TargetState>,
    /// By name of the endpoint.
    providers: HashMap<Arc<str>, Arc<Registry>>,
    /// By `Route::index`.
    budgets: Vec<Arc<RetryBudget>>,
}

#[derive(Debug)]
struct TargetState {
    /// Seed for [`super::pick`]: the same in every route, process and configuration.
    seed: u64,
    /// Seed among the replicas of a provider.
    replica: u64,
    entries: Entries,
}

#[derive(Clone, Debug)]
enum Entries {
    /// A fixed model.
    Model(Arc<HealthEntry>),
    /// A pattern.
    Pattern(Arc<Models>),
}

/// The entries of a route's patterns for one request, by `Target::index`. Empty and not allocated for other routes.
#[derive(Clone, Debug, Default)]
pub struct Resolved(Box<[(usize, Arc<HealthEntry>)]>);

/// State of one model at one provider.
#[derive(Debug, Default)]
pub(super) struct HealthEntry {
    availability: Availability,
    in_flight: AtomicU32,
    latency: Latency,
    record: Record,
    /// Whether a model has written an answer here. Then the results of other operations do not count: a server may lack
    /// their endpoint, or fail at it alone.
    has_generated: AtomicBool,
}

impl Health {
    /// Creates the entries of all targets; existing ones are reused.
    pub fn new(routes: &Routes, previous: Option<(&Routes, &Health)>) -> Self {
        let kept = |provider: &Arc<str>| previous?.1.providers.get(provider).cloned();
        let registry = |provider: &Arc<str>| (provider.clone(), kept(provider).unwrap_or_default());
        let providers: HashMap<_, _> = routes
            .iter()
            .flat_map(|route| route.targets.iter().chain(&route.fallback))
            .map(|target| registry(&target.provider.endpoint_name))
            .collect();
        let budget = |route: &Arc<Route>| {
            let (old, health) = previous?;
            health.budgets.get(old.iter().find(|known| known.name == route.name)?.index).cloned()
        };
        let budgets = routes.iter().map(|route| budget(route).unwrap_or_default()).collect();
        let patterns = Patterns::of(previous);
        let mut targets: Vec<Option<TargetState>> = (0..routes.targets).map(|_| None).collect();
        for (key, is_pattern, index) in target_keys(routes) {
            let Some(slot) = targets.get_mut(index) else { continue };
            let registry = || providers.get(&key.provider).cloned().unwrap_or_default();
            let entries = match is_pattern {
                false => Entries::Model(registry().entry(&key.model)),
                true => Entries::Pattern(patterns.find(&key).unwrap_or_else(|| Arc::new(Models::new(registry())))),
            };
            *slot = Some(TargetState { seed: key.seed(&key.pool), replica: key.seed(&key.provider), entries });
        }
        let unused = || TargetState { seed: 0, replica: 0, entries: Entries::Model(Arc::default()) };
        Self { targets: targets.into_iter().map(|target| target.unwrap_or_else(unused)).collect(), providers, budgets }
    }

    /// Counts a request that limits have admitted, for the retry budget of its route.
    pub fn admitted(&self, route: &Route, now: u64) {
        if let Some(budget) = self.budget(route) {
            budget.request(now);
        }
    }

    /// The retry budget of a route.
    pub(super) fn budget(&self, route: &Route) -> Option<&RetryBudget> {
        self.budgets.get(route.index).map(|budget| &**budget)
    }

    /// Looks up the entries of a route's patterns. `star` is the text matched by `*`.
    pub fn resolve(&self, route: &Route, star: Option<&str>) -> Resolved {
        if star.is_none() {
            return Resolved::default();
        }
        let found = RouteMatch { route: route.index, star };
        let entries = route.targets.iter().chain(&route.fallback).filter_map(|target| match &self.targets.get(target.index)?.entries {
            Entries::Model(_) => None,
            Entries::Pattern(models) => Some((target.index, models.entry(&found.model(&target.model)))),
        });
        Resolved(entries.collect())
    }

    /// The entry of a target; `None` for a pattern that is not in `resolved`.
    pub(super) fn entry<'h>(&'h self, resolved: &'h Resolved, target: usize) -> Option<&'h Arc<HealthEntry>> {
        match &self.targets.get(target)?.entries {
            Entries::Model(entry) => Some(entry),
            Entries::Pattern(_) => resolved.0.iter().find_map(|(index, entry)| (*index == target).then_some(entry)),
        }
    }

    /// Remaining time of an unavailable target, and whether it is ejected; `None` if it is available. An ejected target
    /// without remaining time is waiting for a probe. A pattern is available while one of its models is.
    pub fn unavailability(&self, target: usize, now: u64) -> Option<(Duration, bool)> {
        match &self.targets.get(target)?.entries {
            Entries::Model(entry) => entry.unavailability(now),
            Entries::Pattern(models) => models.unavailability(now),
        }
    }

    /// Why a target with a fixed model is ejected; `None` if it is not, and for patterns.
    pub fn cause(&self, target: usize) -> Option<Cause> {
        match &self.targets.get(target)?.entries {
            Entries::Model(entry) => entry.availability.cause(),
            Entries::Pattern(_) => None,
        }
    }

    /// Whether to log an ejection or recovery: always, but for a pattern once per [`PATTERN_LOG_PAUSE`], because
    /// clients choose its models.
    pub fn is_logged(&self, target: usize, is_back: bool, now: u64) -> bool {
        match self.targets.get(target).map(|target| &target.entries) {
            Some(Entries::Pattern(models)) => models.may_log(is_back, PATTERN_LOG_PAUSE, now),
            _ => true,
        }
    }

    /// The models of a pattern; `None` for a target with a fixed model.
    pub fn models(&self, target: usize, now: u64) -> Option<PatternModels> {
        match &self.targets.get(target)?.entries {
            Entries::Model(_) => None,
            Entries::Pattern(models) => Some(models.overview(now)),
        }
    }

    /// Seed of a target.
    pub(super) fn seed(&self, target: usize) -> u64 {
        self.targets.get(target).map_or(0, |target| target.seed)
    }

    /// Seed of a replica.
    pub(super) fn replica_seed(&self, target: usize) -> u64 {
        self.targets.get(target).map_or(0, |target| target.replica)
    }
}

impl HealthEntry {
    /// Makes the target unavailable for `wait`, as the provider requested.
    pub(super) fn pause(&self, wait: Duration, now: u64) {
        self.availability.pause(wait, now);
    }

    /// Whether to try the target last: it is paused or ejected, or a probe is in flight.
    pub(super) fn is_unavailable(&self, now: u64) -> bool {
        self.availability.is_unavailable(now)
    }

    /// See [`Health::unavailability`].
    pub(super) fn unavailability(&self, now: u64) -> Option<(Duration, bool)> {
        let (left, ejected) = (self.availability.remaining(now), self.availability.is_ejected());
        (ejected || !left.is_zero()).then_some((left, ejected))
    }

    /// Whether it is ejected.
    pub(super) fn is_ejected(&self) -> bool {
        self.availability.is_ejected()
    }

    /// Attempts in flight.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Expected cost of one more request, in arbitrary units.
    pub(super) fn load(&self, now: u64) -> u64 {
        self.latency.load(self.in_flight(), now)
    }

    /// Starts an attempt after `wait`. `None` if the target is paused or ejected, or a probe is in flight, unless
    /// `force`, because no other target remains.
    pub(super) fn begin(self: &Arc<Self>, rules: Ejection, force: bool, wait: Duration, now: u64) -> Option<AttemptTracker> {
        let role = match self.availability.begin(now) {
            Some(role) => role,
            None if force => self.availability.begin_forced(now),
            None => return None,
        };
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let began = now.saturating_add(nanoseconds(wait));
        Some(AttemptTracker { entry: self.clone(), role, rules, began, generates: true, measures: true, answered: false })
    }
}

/// An ejection, or its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The reason.
    pub cause: Cause,
    /// Time until the next probe.
    pub rest: Duration,
    /// Whether the target was available before.
    pub is_new: bool,
}

/// An attempt in flight. Dropped without a result, it does not affect the target.
#[derive(Debug)]
pub struct AttemptTracker {
    entry: Arc<HealthEntry>,
    role: Role,
    rules: Ejection,
    began: u64,
    /// Whether a model writes the answer.
    generates: bool,
    /// Whether the time to the first content is that to a first token.
    measures: bool,
    /// Whether the first content arrived.
    answered: bool,
}

impl AttemptTracker {
    /// Makes the target unavailable for `wait`, as the provider requested.
    pub fn pause(&self, wait: Duration, now: u64) {
        self.entry.pause(wait, now);
    }

    /// Call it for an attempt of an operation whose answer no model writes.
    pub fn does_not_generate(&mut self) {
        (self.generates, self.measures) = (false, false);
    }

    /// Whether the result counts for the target's health.
    pub fn counts(&self) -> bool {
        self.generates || !self.entry.has_generated.load(Ordering::Relaxed)
    }

    /// Call it for an attempt whose answer is no stream of tokens: the time that a whole answer takes says nothing of the time to
    /// a first token.
    pub fn skip_latency(&mut self) {
        self.measures = false;
    }

    /// Records the first content as success, even if the response fails later. Returns why the target was ejected if it
    /// is available again.
    pub fn succeeded(&mut self, now: u64) -> Option<Cause> {
        if self.measures {
            self.entry.latency.observe(self.took(now), now);
        }
        if !self.counts() {
            return None;
        }
        if self.generates {
            self.entry.has_generated.store(true, Ordering::Relaxed);
        }
        if self.rules.failures > 0 {
            self.entry.record.succeeded(self.rules.window, now);
        }
        self.answered = true;
        let Role::Probe { early } = self.role else { return None };
        self.role = Role::Plain;
        self.entry.record.restart(now);
        self.entry.availability.readmit(early)
    }

    /// Records a failure. Returns the ejection that results, if any. A rejected credential and an unknown model eject at once,
    /// other failures by the route's rules.
    pub fn failed(mut self, cause: Cause, now: u64) -> Option<Outage> {
        let (availability, rules) = (&self.entry.availability, self.rules);
        if cause == Cause::Failures {
            if self.measures && !self.answered {
                self.entry.latency.observe_at_least(self.took(now), now);
            }
            if rules.failures == 0 {
                return None;
            }
        }
        let outage = |rest, is_new| Outage { cause, rest, is_new };
        match std::mem::replace(&mut self.role, Role::Plain) {
            Role::Probe { early } => availability.probe_failed(early, cause, &rules, now).map(|rest| outage(rest, false)),
            // An attempt that began before an ejection ended does not count.
            Role::Plain if self.began < self.entry.record.since() => None,
            Role::Plain if cause == Cause::Failures && !self.entry.record.failed(&rules, self.answered, now) => None,
            Role::Plain => availability.eject(cause, &rules, now).map(|rest| outage(rest, true)),
        }
    }

    fn took(&self, now: u64) -> Duration {
        Duration::from_nanos(now.saturating_sub(self.began))
    }
}

impl Drop for AttemptTracker {
    fn drop(&mut self) {
        self.entry.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Role::Probe { .. } = self.role {
            self.entry.availability.probe_inconclusive();
        }
    }
}

/// Identifies a target: its route, provider and model, and its ordinal among duplicates.
#[derive(Clone, PartialEq, Eq, Hash)]
struct TargetKey {
    route: Arc<str>,
    /// Name of the provider, the same for all replicas.
    pool: Arc<str>,
    /// Name of the endpoint.
    provider: Arc<str>,
    model: Arc<str>,
    nth: usize,
}

impl TargetKey {
    /// Independent of the route, so that a conversation reaches the same cache from every route.
    fn seed(&self, provider: &str) -> u64 {
        let parts: [&[u8]; 3] = [provider.as_bytes(), self.model.as_bytes(), &(self.nth as u64).to_le_bytes()];
        parts.iter().fold(0, |seed, part| super::pick::hash(seed, part))
    }
}

/// Key, whether the model is a pattern, and index of each target.
fn target_keys(routes: &Routes) -> impl Iterator<Item = (TargetKey, bool, usize)> {
    let mut seen: HashMap<TargetKey, usize> = HashMap::new();
    let all = routes.iter().flat_map(|r| r.targets.iter().chain(&r.fallback).map(move |t| (&r.name, t)));
    all.map(move |(route, target)| {
        let (ModelName::Fixed(model) | ModelName::Pattern(model)) = &target.model;
        let (pool, provider) = (target.provider.name.clone(), target.provider.endpoint_name.clone());
        let key = TargetKey { route: route.clone(), pool, provider, model: model.clone(), nth: 0 };
        let count = seen.entry(key.clone()).or_default();
        *count += 1;
        (TargetKey { nth: *count, ..key }, matches!(target.model, ModelName::Pattern(_)), target.index)
    })
}

/// The patterns of the previous configuration.
struct Patterns(Vec<(TargetKey, Arc<Models>)>);

impl Patterns {
    fn of(previous: Option<(&Routes, &Health)>) -> Self {
        let models = |health: &Health, index: usize| match &health.targets.get(index)?.entries {
            Entries::Pattern(models) => Some(models.clone()),
            Entries::Model(_) => None,
        };
        let all = previous
            .into_iter()
            .flat_map(|(old, health)| target_keys(old).filter_map(move |(key, _, index)| Some((key, models(health, index)?))));
        Self(all.collect())
    }

    /// The models of the same target; for a new route, those of another route's equal pattern.
    fn find(&self, wanted: &TargetKey) -> Option<Arc<Models>> {
        let same = |(key, _): &&(TargetKey, Arc<Models>)| key.provider == wanted.provider && key.model == wanted.model;
        let exact = self.0.iter().find(|(key, _)| key == wanted);
        exact.or_else(|| self.0.iter().find(same)).map(|(_, models)| models.clone())
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
pub(super) mod tests;
