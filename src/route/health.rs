//! Targets that rest because their provider said when to come back.

use crate::config::snapshot::Snapshot;
use crate::provider::{ModelName, Target};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longest rest; a provider's `retry-after` beyond it is not believed.
pub const MAX_REST: Duration = Duration::from_secs(300);

/// Until when each target rests, in nanoseconds of the injected clock.
#[derive(Debug, Default)]
pub struct Cooldowns(Vec<Arc<AtomicU64>>);

impl Cooldowns {
    /// One for each target; a target that was there before a reload goes on resting.
    pub fn new(snapshot: &Snapshot, previous: Option<(&Snapshot, &Cooldowns)>) -> Self {
        let mut known: HashMap<_, _> = HashMap::new();
        if let Some((old, cooldowns)) = previous {
            known.extend(targets(old).filter_map(|(key, index)| Some((key, cooldowns.0.get(index)?.clone()))));
        }
        let mut all: Vec<Arc<AtomicU64>> = (0..snapshot.targets).map(|_| Arc::default()).collect();
        for (key, index) in targets(snapshot) {
            if let (Some(slot), Some(kept)) = (all.get_mut(index), known.remove(&key)) {
                *slot = kept;
            }
        }
        Self(all)
    }

    /// A target rests for `wait` from `now`.
    pub fn rest(&self, target: usize, wait: Duration, now: u64) {
        if let Some(until) = self.0.get(target) {
            let wait = u64::try_from(wait.min(MAX_REST).as_nanos()).unwrap_or(u64::MAX);
            until.fetch_max(now.saturating_add(wait), Ordering::Relaxed);
        }
    }

    /// Whether a target rests at `now`.
    pub fn resting(&self, target: usize, now: u64) -> bool {
        self.left(target, now).is_some()
    }

    /// For how long a target still rests at `now`, if it does.
    pub fn left(&self, target: usize, now: u64) -> Option<Duration> {
        let until = self.0.get(target)?.load(Ordering::Relaxed);
        until.checked_sub(now).filter(|left| *left > 0).map(Duration::from_nanos)
    }
}

/// What makes a target the same one in another configuration: route, provider, model.
type Identity = (Arc<str>, Arc<str>, Arc<str>);

fn targets(snapshot: &Snapshot) -> impl Iterator<Item = (Identity, usize)> {
    let identity = |route: &Arc<str>, t: &Target| {
        let (ModelName::Fixed(model) | ModelName::Pattern(model)) = &t.model;
        ((route.clone(), t.provider.name.clone(), model.clone()), t.index)
    };
    snapshot.routes.iter().flat_map(move |r| r.targets.iter().chain(&r.fallback).map(move |t| identity(&r.name, t)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_rests_until_its_time_and_a_shorter_wish_does_not_wake_it() {
        let c = Cooldowns(vec![Arc::default()]);
        assert!(!c.resting(0, 0));
        c.rest(0, Duration::from_nanos(50), 100);
        c.rest(0, Duration::from_nanos(10), 100);
        assert!(c.resting(0, 149));
        assert!(!c.resting(0, 150));
        c.rest(0, Duration::from_secs(86_400), 0);
        assert!(!c.resting(0, 300_000_000_000));
    }
}
