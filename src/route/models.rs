//! Health entries per provider and upstream model, shared by all routes.
//!
//! A target with a fixed model has its entry from the start. The models of a pattern come from clients, so a pattern
//! caches the entries of at most [`MAX_MODELS`].

use super::health::HealthEntry;
use crate::units::nanoseconds;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Maximum number of models cached per pattern; the least recently used one is evicted.
pub const MAX_MODELS: usize = 256;
/// Maximum length of a model name that a pattern caches, in bytes. A longer one gets a temporary entry per request.
pub const MAX_MODEL_NAME: usize = 256;

/// Weak references to the entries of a provider. Targets, patterns and requests own the entries, so that one evicted
/// from a pattern while in use is found again.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<HashMap<Arc<str>, Weak<HealthEntry>>>);

impl Registry {
    /// Returns the model's entry; creates it if it is not in use.
    pub(super) fn entry(&self, model: &Arc<str>) -> Arc<HealthEntry> {
        let mut known = self.0.lock();
        if let Some(entry) = known.get(model).and_then(Weak::upgrade) {
            return entry;
        }
        if known.len() == known.capacity() {
            known.retain(|_, entry| entry.strong_count() > 0);
        }
        let entry = Arc::new(HealthEntry::default());
        known.insert(model.clone(), Arc::downgrade(&entry));
        entry
    }
}

/// The models that were requested through a pattern.
#[derive(Debug)]
pub(super) struct Models {
    provider: Arc<Registry>,
    recent: Mutex<Recent>,
    /// When an ejection and a recovery were last logged.
    logged: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct Recent {
    /// Incremented on each use.
    uses: u64,
    entries: HashMap<Arc<str>, CachedEntry>,
}

#[derive(Debug)]
struct CachedEntry {
    entry: Arc<HealthEntry>,
    /// [`Recent::uses`] when it was last used.
    used: u64,
}

/// Models of a pattern, for `/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatternModels {
    /// Number of cached models.
    pub known: usize,
    /// Unavailable models: name, remaining time, whether ejected; ejected ones first, then by name.
    pub out: Vec<(Arc<str>, Duration, bool)>,
}

impl Models {
    pub(super) fn new(provider: Arc<Registry>) -> Self {
        Self { provider, recent: Mutex::default(), logged: Default::default() }
    }

    /// Whether to log an ejection or recovery now, at most one of each kind per `pause`.
    pub(super) fn may_log(&self, is_back: bool, pause: Duration, now: u64) -> bool {
        let later = |last: u64| (last == 0 || now >= last.saturating_add(nanoseconds(pause))).then_some(now);
        let [out, back] = &self.logged;
        let logged = if is_back { back } else { out };
        logged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).is_ok()
    }

    /// Returns the model's entry and marks it as the most recently used.
    pub(super) fn entry(&self, model: &str) -> Arc<HealthEntry> {
        if model.len() > MAX_MODEL_NAME {
            return Arc::default();
        }
        let mut recent = self.recent.lock();
        recent.uses += 1;
        let used = recent.uses;
        if let Some(cached) = recent.entries.get_mut(model) {
            cached.used = used;
            return cached.entry.clone();
        }
        if recent.entries.len() >= MAX_MODELS {
            let oldest = recent.entries.iter().min_by_key(|(_, cached)| cached.used).map(|(name, _)| name.clone());
            oldest.and_then(|name| recent.entries.remove(&name));
        }
        let name: Arc<str> = model.into();
        let entry = self.provider.entry(&name);
        recent.entries.insert(name, CachedEntry { entry: entry.clone(), used });
        entry
    }

    /// Availability of the pattern as a whole. `None` unless all cached models are unavailable; then the shortest
    /// remaining time, and whether all are ejected.
    pub(super) fn unavailability(&self, now: u64) -> Option<(Duration, bool)> {
        let recent = self.recent.lock();
        let mut all = recent.entries.values().map(|cached| cached.entry.unavailability(now));
        let first = all.next()??;
        all.try_fold(first, |(left, ejected), one| one.map(|(l, e)| (left.min(l), ejected && e)))
    }

    /// The models for `/status`.
    pub(super) fn overview(&self, now: u64) -> PatternModels {
        let recent = self.recent.lock();
        let unavailability = |(name, cached): (&Arc<str>, &CachedEntry)| {
            cached.entry.unavailability(now).map(|(left, ejected)| (name.clone(), left, ejected))
        };
        let mut out: Vec<_> = recent.entries.iter().filter_map(unavailability).collect();
        let known = recent.entries.len();
        drop(recent);
        out.sort_by(|(a, _, a_ejected), (b, _, b_ejected)| b_ejected.cmp(a_ejected).then_with(|| a.cmp(b)));
        PatternModels { known, out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn pause(entry: &HealthEntry, seconds: u64) {
        entry.pause(Duration::from_secs(seconds), SECOND);
    }

    #[test]
    fn the_least_recently_used_model_is_evicted() {
        let models = Models::new(Arc::default());
        let name = |i: usize| format!("m{i}");
        (0..MAX_MODELS).for_each(|i| pause(&models.entry(&name(i)), 9));
        models.entry("m0");
        models.entry("new");
        assert_eq!(models.entry("m0").unavailability(SECOND), Some((Duration::from_secs(9), false)));
        assert_eq!(models.entry("m1").unavailability(SECOND), None, "it was evicted and begins anew");
        (MAX_MODELS..3 * MAX_MODELS).for_each(|i| pause(&models.entry(&name(i)), 9));
        let overview = models.overview(SECOND);
        assert_eq!((overview.known, overview.out.len()), (MAX_MODELS, MAX_MODELS));
        let registry = models.provider.0.lock();
        assert!(registry.len() <= 2 * MAX_MODELS, "{}", registry.len());
    }

    #[test]
    fn an_entry_in_use_survives_its_eviction() {
        let models = Models::new(Arc::default());
        let used = models.entry("used");
        (0..2 * MAX_MODELS).for_each(|i| drop(models.entry(&format!("m{i}"))));
        assert!(Arc::ptr_eq(&used, &models.entry("used")));
    }

    #[test]
    fn patterns_of_one_provider_share_the_entry_of_a_model() {
        let provider: Arc<Registry> = Arc::default();
        let (one, other) = (Models::new(provider.clone()), Models::new(provider.clone()));
        assert!(Arc::ptr_eq(&one.entry("m"), &other.entry("m")));
        assert!(Arc::ptr_eq(&one.entry("m"), &provider.entry(&"m".into())));
        assert!(!Arc::ptr_eq(&one.entry("m"), &Models::new(Arc::default()).entry("m")));
    }

    #[test]
    fn a_name_of_any_length_costs_no_memory() {
        let models = Models::new(Arc::default());
        let long = "m".repeat(MAX_MODEL_NAME + 1);
        pause(&models.entry(&long), 9);
        assert_eq!(models.entry(&long).unavailability(SECOND), None);
        assert_eq!(models.overview(SECOND).known, 0);
    }

    #[test]
    fn a_pattern_is_out_only_with_all_its_models() {
        let models = Models::new(Arc::default());
        assert_eq!(models.unavailability(SECOND), None);
        pause(&models.entry("b"), 9);
        pause(&models.entry("a"), 5);
        assert_eq!(models.unavailability(SECOND), Some((Duration::from_secs(5), false)));
        let third = models.entry("c");
        assert_eq!(models.unavailability(SECOND), None);
        pause(&third, 7);
        let seconds = |name: &str, seconds| (name.into(), Duration::from_secs(seconds), false);
        assert_eq!(models.overview(SECOND), PatternModels { known: 3, out: vec![seconds("a", 5), seconds("b", 9), seconds("c", 7)] });
    }
}
