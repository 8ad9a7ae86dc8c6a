//! What is known of each target while requests run: whether it takes part, how many ask it, how fast it answers.
//!
//! An entry belongs to a provider and an upstream model: all routes that use the two share it, and it survives a reload.
//! A target with a fixed model finds its entry by [`Target::index`](crate::provider::Target::index); a pattern's entry is looked up once per request, by
//! [`Health::resolve`]. Entries are atomics: nothing here waits, and time comes in as an argument.

use super::latency::Latency;
use super::r#match::Found;
use super::models::{Models, PatternModels, Registry};
pub use super::record::MAX_FAILURES;
use super::record::Record;

use super::settings::{Ejection, Route, Routes};
use super::standing::{Cause, Role, Standing};

use crate::provider::ModelName;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longest rest that a provider can ask for: daily quotas ask for hours; a `retry-after` beyond a day is not believed.
pub const MAX_REST: Duration = Duration::from_secs(24 * 3600);
/// The shortest time between two lines of the log about models of one pattern that are out, and between two that are back.
pub const PATTERN_LOG_PAUSE: Duration = Duration::from_secs(10);

/// All targets of a snapshot.
#[derive(Debug, Default)]
pub struct Health {
    /// By `Target::index`.
    targets: Vec<Place>,
    /// By the endpoint's name.
    providers: HashMap<Arc<str>, Arc<Registry>>,
}

#[derive(Debug)]
struct Place {
    /// Its name for [`super::pick`]: the same in every route, process and configuration.
    seed: u64,
    /// The same for one of several replicas.
    replica: u64,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// The entry of a fixed model.
    Model(Arc<Vitals>),
    /// The entries of a pattern's models.
    Pattern(Arc<Models>),
}

/// The entries of a route's patterns for one request, by `Target::index`; none, and nothing allocated, for other routes.
#[derive(Clone, Debug, Default)]
pub struct Resolved(Box<[(usize, Arc<Vitals>)]>);

/// The entry of one model at one provider.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    standing: Standing,
    in_flight: AtomicU32,
    latency: Latency,
    record: Record,
}

impl Health {
    /// The entries of all targets. Those that the previous one had as well stay the same.
    pub fn new(routes: &Routes, previous: Option<(&Routes, &Health)>) -> Self {
        let kept = |provider: &Arc<str>| previous?.1.providers.get(provider).cloned();
        let registry = |provider: &Arc<str>| (provider.clone(), kept(provider).unwrap_or_default());
        let providers: HashMap<_, _> = routes
            .iter()
            .flat_map(|route| route.targets.iter().chain(&route.fallback))
            .map(|target| registry(&target.provider.endpoint_name))
            .collect();
        let patterns = Patterns::of(previous);
        let mut targets: Vec<Option<Place>> = (0..routes.targets).map(|_| None).collect();
        for (one, is_pattern, index) in identities(routes) {
            let Some(slot) = targets.get_mut(index) else { continue };
            let registry = || providers.get(&one.provider).cloned().unwrap_or_default();
            let state = match is_pattern {
                false => State::Model(registry().entry(&one.model)),
                true => State::Pattern(patterns.find(&one).unwrap_or_else(|| Arc::new(Models::new(registry())))),
            };
            *slot = Some(Place { seed: one.seed(&one.pool), replica: one.seed(&one.provider), state });
        }
        let unused = || Place { seed: 0, replica: 0, state: State::Model(Arc::default()) };
        Self { targets: targets.into_iter().map(|place| place.unwrap_or_else(unused)).collect(), providers }
    }

    /// Looks up the entries that a request needs in place of the route's patterns, where `star` is the text under `*`.
    pub fn resolve(&self, route: &Route, star: Option<&str>) -> Resolved {
        if star.is_none() {
            return Resolved::default();
        }
        let found = Found { route: route.index, star };
        let entries = route.targets.iter().chain(&route.fallback).filter_map(|target| match &self.targets.get(target.index)?.state {
            State::Model(_) => None,
            State::Pattern(models) => Some((target.index, models.entry(&found.model(&target.model)))),
        });
        Resolved(entries.collect())
    }

    /// A target's entry; `None` for a pattern that is not among those resolved.
    pub(super) fn vitals<'h>(&'h self, resolved: &'h Resolved, target: usize) -> Option<&'h Arc<Vitals>> {
        match &self.targets.get(target)?.state {
            State::Model(vitals) => Some(vitals),
            State::Pattern(_) => resolved.0.iter().find_map(|(index, vitals)| (*index == target).then_some(vitals)),
        }
    }

    /// The remaining time of a target that rests or is ejected, and whether it is ejected; `None` for one that takes part.
    /// An ejected one without remaining time waits for its probe. A pattern takes part while one of its models does.
    pub fn rests(&self, target: usize, now: u64) -> Option<(Duration, bool)> {
        match &self.targets.get(target)?.state {
            State::Model(vitals) => vitals.rests(now),
            State::Pattern(models) => models.rests(now),
        }
    }

    /// Why a target with a fixed model is out; `None` while it takes part or rests, and for a pattern.
    pub fn cause(&self, target: usize) -> Option<Cause> {
        match &self.targets.get(target)?.state {
            State::Model(vitals) => vitals.standing.cause(),
            State::Pattern(_) => None,
        }
    }

    /// Whether it is logged that a target is out, or back: always, but for a pattern once in [`PATTERN_LOG_PAUSE`], because
    /// clients name its models.
    pub fn is_logged(&self, target: usize, is_back: bool, now: u64) -> bool {
        match self.targets.get(target).map(|place| &place.state) {
            Some(State::Pattern(models)) => models.may_log(is_back, PATTERN_LOG_PAUSE, now),
            _ => true,
        }
    }

    /// The models of a pattern; `None` for a target with a fixed model.
    pub fn models(&self, target: usize, now: u64) -> Option<PatternModels> {
        match &self.targets.get(target)?.state {
            State::Model(_) => None,
            State::Pattern(models) => Some(models.overview(now)),
        }
    }

    /// What a target is told apart by, wherever the same provider and model are a target.
    pub(super) fn seed(&self, target: usize) -> u64 {
        self.targets.get(target).map_or(0, |place| place.seed)
    }

    /// What a replica is told apart by.
    pub(super) fn replica_seed(&self, target: usize) -> u64 {
        self.targets.get(target).map_or(0, |place| place.replica)
    }
}

impl Vitals {
    /// The provider has asked for a pause of `wait`.
    pub(super) fn rest(&self, wait: Duration, now: u64) {
        self.standing.rest(wait, now);
    }

    /// Whether a target is to be asked after all others: it rests, is ejected, or its probe is under way.
    pub(super) fn avoided(&self, now: u64) -> bool {
        self.standing.avoided(now)
    }

    /// As [`Health::rests`].
    pub(super) fn rests(&self, now: u64) -> Option<(Duration, bool)> {
        let (left, ejected) = (self.standing.left(now), self.standing.is_ejected());
        (ejected || !left.is_zero()).then_some((left, ejected))
    }

    /// Whether it is kept out because it failed too often.
    pub(super) fn is_ejected(&self) -> bool {
        self.standing.is_ejected()
    }

    /// Attempts under way.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What one more request has to expect; only comparable.
    pub(super) fn load(&self, now: u64) -> u64 {
        self.latency.load(self.in_flight(), now)
    }

    /// Begins an attempt under a route's rules, after `wait`. `None` for a target that rests or whose probe is under way,
    /// unless it is to be asked `anyway`, because no other target is left.
    pub(super) fn ask(self: &Arc<Self>, rules: Ejection, anyway: bool, wait: Duration, now: u64) -> Option<Asking> {
        let role = match self.standing.ask(now) {
            Some(role) => role,
            None if anyway => self.standing.ask_anyway(now),
            None => return None,
        };
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let began = now.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        Some(Asking { vitals: self.clone(), role, rules, began, answered: false })
    }
}

/// A target is out, from now on or still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Why.
    pub cause: Cause,
    /// For how long, until a request tries whether it is back.
    pub rest: Duration,
    /// Whether it took part until now.
    pub is_new: bool,
}

/// An attempt under way at a target. Dropping it says that it told nothing.
#[derive(Debug)]
pub struct Asking {
    vitals: Arc<Vitals>,
    role: Role,
    rules: Ejection,
    began: u64,
    /// Whether it has been answered.
    answered: bool,
}

impl Asking {
    /// The provider has asked for a pause of `wait`.
    pub fn rest(&self, wait: Duration, now: u64) {
        self.vitals.rest(wait, now);
    }

    /// The first content is there: the target is fine, whatever comes later. Gives why it was out, where it is back with this.
    pub fn answered(&mut self, now: u64) -> Option<Cause> {
        self.vitals.latency.observe(self.took(now), now);
        if self.rules.failures > 0 {
            self.vitals.record.succeeded(self.rules.window, now);
        }
        self.answered = true;
        let Role::Probe { early } = self.role else { return None };
        self.role = Role::Plain;
        self.vitals.record.restart(now);
        self.vitals.standing.readmit(early)
    }

    /// It has failed. Gives for how long the target is out, where that has changed. A refused credential and an unknown model
    /// put it out at once; other failures when there are too many of them.
    pub fn failed(mut self, cause: Cause, now: u64) -> Option<Outage> {
        let (standing, rules) = (&self.vitals.standing, self.rules);
        if cause == Cause::Failures {
            self.vitals.latency.observe_at_least(self.took(now), now);
            if rules.failures == 0 {
                return None;
            }
        }
        let outage = |rest, is_new| Outage { cause, rest, is_new };
        match std::mem::replace(&mut self.role, Role::Plain) {
            Role::Probe { early } => standing.probe_failed(early, cause, &rules, now).map(|rest| outage(rest, false)),
            // What began before an ejection was over says nothing of what is now.
            Role::Plain if self.began < self.vitals.record.since() => None,
            Role::Plain if cause == Cause::Failures && !self.vitals.record.failed(&rules, self.answered, now) => None,
            Role::Plain => standing.eject(cause, &rules, now).map(|rest| outage(rest, true)),
        }
    }

    fn took(&self, now: u64) -> Duration {
        Duration::from_nanos(now.saturating_sub(self.began))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.vitals.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Role::Probe { .. } = self.role {
            self.vitals.standing.probe_told_nothing();
        }
    }
}

/// A target of a route: its provider and model, and which one of several it is where the route has the same twice.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    route: Arc<str>,
    /// The provider's name, the same for all its replicas.
    pool: Arc<str>,
    /// The endpoint's name.
    provider: Arc<str>,
    model: Arc<str>,
    nth: usize,
}

impl Identity {
    /// Without the route: a conversation finds its cache from all of them.
    fn seed(&self, provider: &str) -> u64 {
        let parts: [&[u8]; 3] = [provider.as_bytes(), self.model.as_bytes(), &(self.nth as u64).to_le_bytes()];
        parts.iter().fold(0, |seed, part| super::pick::hash(seed, part))
    }
}

/// Each target: its identity, whether its model is a pattern, its index.
fn identities(routes: &Routes) -> impl Iterator<Item = (Identity, bool, usize)> {
    let mut seen: HashMap<Identity, usize> = HashMap::new();
    let all = routes.iter().flat_map(|r| r.targets.iter().chain(&r.fallback).map(move |t| (&r.name, t)));
    all.map(move |(route, target)| {
        let (ModelName::Fixed(model) | ModelName::Pattern(model)) = &target.model;
        let (pool, provider) = (target.provider.name.clone(), target.provider.endpoint_name.clone());
        let one = Identity { route: route.clone(), pool, provider, model: model.clone(), nth: 0 };
        let count = seen.entry(one.clone()).or_default();
        *count += 1;
        (Identity { nth: *count, ..one }, matches!(target.model, ModelName::Pattern(_)), target.index)
    })
}

/// The patterns of the previous configuration.
struct Patterns(Vec<(Identity, Arc<Models>)>);

impl Patterns {
    fn of(previous: Option<(&Routes, &Health)>) -> Self {
        let models = |health: &Health, index: usize| match &health.targets.get(index)?.state {
            State::Pattern(models) => Some(models.clone()),
            State::Model(_) => None,
        };
        let all = previous
            .into_iter()
            .flat_map(|(old, health)| identities(old).filter_map(move |(one, _, index)| Some((one, models(health, index)?))));
        Self(all.collect())
    }

    /// The same target's models; those of another route's pattern with the same provider and model where the route is new.
    fn find(&self, wanted: &Identity) -> Option<Arc<Models>> {
        let same = |(one, _): &&(Identity, Arc<Models>)| one.provider == wanted.provider && one.model == wanted.model;
        let exact = self.0.iter().find(|(one, _)| one == wanted);
        exact.or_else(|| self.0.iter().find(same)).map(|(_, models)| models.clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
#[path = "health_tests.rs"]
pub(super) mod tests;
