//! What is known of each target while requests run: whether it takes part, how many ask it, how fast it answers.
//!
//! One place per target, made with the configuration and looked up by [`Target::index`]; a target that was there before
//! a reload keeps its own. All of it is atomics: nothing here waits, and time comes in as an argument.

use super::latency::Latency;
use super::retry::Failure;
use super::standing::{Role, Standing};
use crate::config::snapshot::{Ejection, Route, Snapshot};
use crate::dialect::FailureClass;
use crate::provider::{ModelName, Target};
use std::array::from_fn;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Longest rest that a provider can ask for: daily quotas ask for hours; a `retry-after` beyond a day is not believed.
pub const MAX_REST: Duration = Duration::from_secs(24 * 3600);
/// Most failures that an ejection can wait for: so many are remembered for each target.
pub const MAX_FAILURES: usize = 64;

/// All targets of a snapshot.
#[derive(Debug, Default)]
pub struct Health(Vec<Arc<Vitals>>);

/// One target's part.
#[derive(Debug)]
struct Vitals {
    /// Its name for [`super::pick`]: the same in every route, process and configuration.
    seed: u64,
    standing: Standing,
    in_flight: AtomicU32,
    latency: Latency,
    failures: Failures,
}

impl Health {
    /// One place for each target.
    pub fn new(snapshot: &Snapshot, previous: Option<(&Snapshot, &Health)>) -> Self {
        let mut known: HashMap<_, _> = HashMap::new();
        if let Some((old, health)) = previous {
            known.extend(targets(old).filter_map(|(key, index)| Some((key, health.0.get(index)?.clone()))));
        }
        let mut all: Vec<Option<Arc<Vitals>>> = vec![None; snapshot.targets];
        for (key, index) in targets(snapshot) {
            if let Some(slot) = all.get_mut(index) {
                *slot = Some(known.remove(&key).unwrap_or_else(|| Arc::new(Vitals::new(key.seed()))));
            }
        }
        Self(all.into_iter().map(|slot| slot.unwrap_or_else(|| Arc::new(Vitals::new(0)))).collect())
    }

    /// A target rests for `wait`, because its provider said so.
    pub fn rest(&self, target: usize, wait: Duration, now: u64) {
        if let Some(vitals) = self.0.get(target) {
            vitals.standing.rest(wait, now);
        }
    }

    /// Whether a target is to be asked after all others: it rests, or somebody else tries whether it is back.
    pub fn avoided(&self, target: usize, now: u64) -> bool {
        self.0.get(target).is_some_and(|vitals| vitals.standing.avoided(now))
    }

    /// For how long a target still rests, and whether it is ejected; `None` for one that takes part. An ejected target
    /// whose time is over has still to show that it is back.
    pub fn rests(&self, target: usize, now: u64) -> Option<(Duration, bool)> {
        let standing = &self.0.get(target)?.standing;
        let (left, ejected) = (standing.left(now), standing.is_ejected());
        (ejected || !left.is_zero()).then_some((left, ejected))
    }

    /// Whether a target is kept out because it failed too often.
    pub fn is_ejected(&self, target: usize) -> bool {
        self.0.get(target).is_some_and(|vitals| vitals.standing.is_ejected())
    }

    /// Attempts under way at a target.
    pub fn in_flight(&self, target: usize) -> u32 {
        self.0.get(target).map_or(0, |vitals| vitals.in_flight.load(Ordering::Relaxed))
    }

    /// What one more request has to expect of a target; only comparable.
    pub fn load(&self, target: usize, now: u64) -> u64 {
        self.0.get(target).map_or(0, |vitals| vitals.latency.load(vitals.in_flight.load(Ordering::Relaxed), now))
    }

    /// What a target is told apart by, wherever the same provider and model are a target.
    pub(super) fn seed(&self, target: usize) -> u64 {
        self.0.get(target).map_or(0, |vitals| vitals.seed)
    }

    /// Begins an attempt, after `wait`. `None` for a target that rests or is being tried by somebody else; `anyway` for
    /// one that is the last hope.
    pub fn ask(&self, route: &Route, target: &Target, anyway: bool, wait: Duration, now: u64) -> Option<Asking> {
        let vitals = self.0.get(target.index)?.clone();
        let role = match vitals.standing.ask(now) {
            Some(role) => role,
            None if anyway => vitals.standing.ask_anyway(now),
            None => return None,
        };
        vitals.in_flight.fetch_add(1, Ordering::Relaxed);
        let began = now.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        Some(Asking { vitals, role, rules: route.ejection, began })
    }
}

impl Vitals {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            standing: Standing::default(),
            in_flight: AtomicU32::new(0),
            latency: Latency::default(),
            failures: Failures { at: from_fn(|_| AtomicU64::new(0)), next: AtomicUsize::new(0), since: AtomicU64::new(0) },
        }
    }
}

/// When a target failed last: the times of [`MAX_FAILURES`] attempts.
#[derive(Debug)]
struct Failures {
    at: [AtomicU64; MAX_FAILURES],
    next: AtomicUsize,
    /// What is older is forgotten.
    since: AtomicU64,
}

impl Failures {
    /// One more; how many there are within the window.
    fn count(&self, window: Duration, now: u64) -> usize {
        if let Some(slot) = self.at.get(self.next.fetch_add(1, Ordering::Relaxed) % MAX_FAILURES) {
            slot.store(now, Ordering::Relaxed);
        }
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        let from = now.saturating_sub(window).max(self.since.load(Ordering::Relaxed));
        self.at.iter().filter(|at| at.load(Ordering::Relaxed) > from).count()
    }
}

/// What a failure says of its target.
const fn speaks_against(failure: Failure) -> bool {
    match failure {
        Failure::Connect | Failure::Timeout | Failure::Broken => true,
        Failure::Provider(class) => match class {
            FailureClass::Overloaded | FailureClass::Timeout | FailureClass::Server => true,
            // The client's mistake, the operator's, or a limit that says itself when it is over.
            FailureClass::BadRequest | FailureClass::Credential | FailureClass::NotFound | FailureClass::RateLimited => false,
        },
    }
}

/// An attempt under way at a target. Dropping it says that it told nothing.
#[derive(Debug)]
pub struct Asking {
    vitals: Arc<Vitals>,
    role: Role,
    rules: Option<Ejection>,
    began: u64,
}

impl Asking {
    /// The first content is there: the target is fine, whatever comes later.
    pub fn answered(&mut self, now: u64) {
        self.vitals.latency.observe(self.took(now), now);
        if let Role::Probe { early } = self.role {
            self.role = Role::Plain;
            self.vitals.failures.since.store(now, Ordering::Relaxed);
            self.vitals.standing.readmit(early);
        }
    }

    /// It has failed. Gives for how long the target is ejected, where it is so from now on.
    pub fn failed(mut self, failure: Failure, now: u64) -> Option<Duration> {
        if !speaks_against(failure) {
            return None;
        }
        let standing = &self.vitals.standing;
        self.vitals.latency.observe_at_least(self.took(now), now);
        let rules = self.rules?;
        match std::mem::replace(&mut self.role, Role::Plain) {
            Role::Probe { early } => standing.probe_failed(early, &rules, now),
            // What began before an ejection was over says nothing of what is now.
            Role::Plain if self.began < self.vitals.failures.since.load(Ordering::Relaxed) => None,
            Role::Plain if self.vitals.failures.count(rules.window, now) < rules.failures as usize => None,
            Role::Plain => standing.eject(&rules, now),
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

/// What makes a target the same one in another configuration: its route, provider and model, and which one of several
/// it is where a route has the same twice.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    route: Arc<str>,
    provider: Arc<str>,
    model: Arc<str>,
    nth: usize,
}

impl Identity {
    /// Without the route: a conversation finds its cache from all of them.
    fn seed(&self) -> u64 {
        let parts: [&[u8]; 3] = [self.provider.as_bytes(), self.model.as_bytes(), &(self.nth as u64).to_le_bytes()];
        parts.iter().fold(0, |seed, part| super::pick::hash(seed, part))
    }
}

fn targets(snapshot: &Snapshot) -> impl Iterator<Item = (Identity, usize)> {
    let mut seen: HashMap<Identity, usize> = HashMap::new();
    let all = snapshot.routes.iter().flat_map(|r| r.targets.iter().chain(&r.fallback).map(move |t| (&r.name, t)));
    all.map(move |(route, target)| {
        let (ModelName::Fixed(model) | ModelName::Pattern(model)) = &target.model;
        let one = Identity { route: route.clone(), provider: target.provider.name.clone(), model: model.clone(), nth: 0 };
        let count = seen.entry(one.clone()).or_default();
        *count += 1;
        (Identity { nth: *count, ..one }, target.index)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
pub(super) mod tests {
    use super::super::pick::tests::snapshot;
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const SERVER: Failure = Failure::Provider(FailureClass::Server);

    fn health(weights: &[u32]) -> (Snapshot, Health) {
        let snapshot = snapshot(weights, 0, "weighted");
        let health = Health::new(&snapshot, None);
        (snapshot, health)
    }

    /// An attempt at the first target, made whatever is known of it.
    fn ask(snapshot: &Snapshot, health: &Health, now: u64) -> Option<Asking> {
        let route = &snapshot.routes[0];
        health.ask(route, &route.targets[0], false, Duration::ZERO, now)
    }

    fn fail(snapshot: &Snapshot, health: &Health, failure: Failure, now: u64) -> Option<Duration> {
        ask(snapshot, health, now).unwrap().failed(failure, now)
    }

    #[test]
    fn so_many_failures_within_the_window_eject() {
        let (s, h) = health(&[1, 1]);
        for second in [1, 2, 3, 4] {
            assert_eq!(fail(&s, &h, SERVER, second * SECOND), None);
        }
        // The first two are out of the window by now.
        for at_last in [false, false, true] {
            assert_eq!(h.rests(0, 32 * SECOND), None);
            assert_eq!(fail(&s, &h, Failure::Connect, 32 * SECOND).is_some(), at_last);
        }
        assert_eq!(h.rests(0, 33 * SECOND), Some((Duration::from_secs(9), true)));
        assert!(ask(&s, &h, 42 * SECOND - 1).is_none());
        assert_eq!((h.rests(1, 33 * SECOND), h.in_flight(0)), (None, 0));
    }

    #[test]
    fn what_is_not_the_targets_fault_never_ejects() {
        use FailureClass::{BadRequest, Credential, NotFound, RateLimited};
        let (s, h) = health(&[1, 1]);
        for class in [BadRequest, Credential, NotFound, RateLimited] {
            for _ in 0..20 {
                assert_eq!(fail(&s, &h, Failure::Provider(class), SECOND), None);
            }
        }
        for _ in 0..4 {
            fail(&s, &h, Failure::Timeout, SECOND);
        }
        assert!(fail(&s, &h, Failure::Broken, SECOND).is_some());
    }

    #[test]
    fn a_target_alone_is_ejected_too_and_asked_all_the_same() {
        let (s, h) = health(&[1]);
        ejected(&s, &h);
        assert!(h.is_ejected(0) && ask(&s, &h, 2 * SECOND).is_none());
        let anyway = || h.ask(&s.routes[0], &s.routes[0].targets[0], true, Duration::ZERO, 2 * SECOND).unwrap();
        assert_eq!(anyway().failed(SERVER, 2 * SECOND), None);
        anyway().answered(2 * SECOND);
        assert_eq!(h.rests(0, 2 * SECOND), None);
    }

    fn ejected(s: &Snapshot, h: &Health) {
        while fail(s, h, SERVER, SECOND).is_none() {}
    }

    #[test]
    fn one_probe_decides_and_what_began_before_it_does_not() {
        let (s, h) = health(&[1, 1]);
        let old: Vec<_> = (0..10).map(|_| ask(&s, &h, SECOND).unwrap()).collect();
        ejected(&s, &h);
        let mut probe = ask(&s, &h, 11 * SECOND).unwrap();
        assert!(ask(&s, &h, 11 * SECOND).is_none() && h.avoided(0, 11 * SECOND));
        assert_eq!(h.rests(0, 11 * SECOND), Some((Duration::ZERO, true)));
        probe.answered(12 * SECOND);
        assert_eq!(h.rests(0, 12 * SECOND), None);
        for one in old {
            assert_eq!(one.failed(SERVER, 12 * SECOND), None);
        }
        // From now on it is a target like any other, and the probe's later failure one of five.
        assert_eq!(probe.failed(Failure::Broken, 13 * SECOND), None);
        assert!((0..5).any(|_| fail(&s, &h, SERVER, 13 * SECOND).is_some()));
        assert_eq!(h.rests(0, 13 * SECOND), Some((Duration::from_secs(10), true)));
    }

    #[test]
    fn a_probe_that_tells_nothing_makes_room_for_another() {
        let (s, h) = health(&[1, 1]);
        ejected(&s, &h);
        drop(ask(&s, &h, 11 * SECOND).unwrap());
        assert_eq!(fail(&s, &h, Failure::Provider(FailureClass::BadRequest), 11 * SECOND), None);
        assert_eq!(fail(&s, &h, SERVER, 11 * SECOND), Some(Duration::from_secs(20)));
    }

    #[test]
    fn of_many_threads_one_makes_the_probe() {
        let (s, h) = health(&[1, 1]);
        ejected(&s, &h);
        let start = std::sync::Barrier::new(8);
        for round in 1..50u64 {
            let now = (round * 400 + 11) * SECOND;
            let asking: Vec<_> = std::thread::scope(|scope| {
                let one = || {
                    start.wait();
                    ask(&s, &h, now)
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(asking.len(), 1);
            asking.into_iter().for_each(|one| assert!(one.failed(SERVER, now).is_some()));
        }
        assert_eq!(h.in_flight(0), 0);
    }

    #[test]
    fn a_reload_keeps_what_is_known_of_a_target_by_its_name() {
        let (s, h) = health(&[1, 1, 1]);
        ejected(&s, &h);
        let route = &s.routes[0];
        let under_way = h.ask(route, &route.targets[2], false, Duration::ZERO, SECOND);
        h.rest(1, Duration::from_secs(7), SECOND);
        let text = "providers: { p: { kind: openai, api_key: k }, q: { kind: openai, api_key: k } }
routes: { new: { targets: [ { provider: p, model: t0 } ] }, r: { targets: [ { provider: p, model: t1 }, { provider: q, model: t0 }, { provider: p, model: t0 }, { provider: p, model: t0 }, { provider: p, model: t2 } ] } }";
        let next = crate::config::parse(text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot;
        let now = Health::new(&next, Some((&s, &h)));
        let rests: Vec<_> = (0..6).map(|target| now.rests(target, SECOND)).collect();
        let (ejected, resting) = (Some((Duration::from_secs(10), true)), Some((Duration::from_secs(7), false)));
        assert_eq!(rests, [None, resting, None, ejected, None, None]);
        assert_eq!(now.in_flight(5), 1);
        drop(under_way);
        assert_eq!(now.in_flight(5), 0);
        assert!(now.seed(0) == now.seed(3) && now.seed(3) != now.seed(4) && now.seed(2) != now.seed(3));
    }
}
