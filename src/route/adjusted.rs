//! How requests to targets are written otherwise for an hour, because the targets have refused such requests.
//!
//! The state belongs to a provider and an upstream model, is shared by all routes and survives reloads.

use crate::llm::adjustments::{Adjustment, Adjustments};
use crate::units::nanoseconds;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long a change lasts before the request is sent again as it would be without it.
pub const MEMORY: Duration = Duration::from_secs(3600);
/// Maximum number of entries; the oldest one is evicted.
pub const MAX_ENTRIES: usize = 256;

/// A change that a target has made necessary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjusted {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The upstream model.
    pub model: Box<str>,
    /// The change.
    pub adjustment: Adjustment,
    /// Expiry, in nanoseconds of the gateway's clock.
    pub until: u64,
}

/// See the module.
#[derive(Default)]
pub struct AdjustedTargets {
    /// Number of entries, including expired ones. Usually 0, which makes the lookup one load.
    count: AtomicUsize,
    list: ArcSwap<Vec<Adjusted>>,
}

impl AdjustedTargets {
    /// The changes of requests to this target.
    pub fn of(&self, provider: &str, model: &str, now: u64) -> Adjustments {
        let mut adjustments = Adjustments::default();
        if self.count.load(Ordering::Relaxed) == 0 {
            return adjustments;
        }
        for one in self.list.load().iter().filter(|one| one.until > now && *one.provider == *provider && *one.model == *model) {
            adjustments.insert(one.adjustment);
        }
        adjustments
    }

    /// Records a change of requests to a target.
    pub fn insert(&self, provider: &Arc<str>, model: &str, adjustment: Adjustment, now: u64) {
        let until = now.saturating_add(nanoseconds(MEMORY));
        let fresh = Adjusted { provider: provider.clone(), model: model.into(), adjustment, until };
        self.list.rcu(|list| {
            let replaced = |one: &&Adjusted| {
                one.provider == fresh.provider && one.model == fresh.model && one.adjustment.is_replaced_by(fresh.adjustment)
            };
            let mut kept: Vec<Adjusted> = list.iter().filter(|one| one.until > now && !replaced(one)).cloned().collect();
            if kept.len() >= MAX_ENTRIES {
                kept.remove(0);
            }
            kept.push(fresh.clone());
            kept
        });
        self.count.store(self.list.load().len(), Ordering::Relaxed);
    }

    /// All entries that have not expired.
    pub fn list(&self, now: u64) -> Vec<Adjusted> {
        self.list.load().iter().filter(|one| one.until > now).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::field::Field;

    const SEED: Adjustment = Adjustment::Without(Field::Seed);

    #[test]
    fn a_change_lasts_an_hour_at_its_target() {
        let (adjusted, hour) = (AdjustedTargets::default(), nanoseconds(MEMORY));
        let provider: Arc<str> = "p".into();
        adjusted.insert(&provider, "m", Adjustment::Without(Field::StreamOptions), 5);
        adjusted.insert(&provider, "m", SEED, 9);
        adjusted.insert(&provider, "m", SEED, 10);
        let has = |model: &str, field: Field, now: u64| adjusted.of("p", model, now).without.contains(field);
        assert!(has("m", Field::StreamOptions, 5 + hour - 1) && !has("m", Field::StreamOptions, 5 + hour));
        assert!(has("m", Field::Seed, 9 + hour) && !has("m", Field::User, 10) && !has("n", Field::Seed, 10));
        assert!(adjusted.of("q", "m", 10).is_empty());
        assert_eq!((adjusted.list(11).len(), adjusted.list(10 + hour).len()), (2, 0));
    }

    #[test]
    fn a_limit_takes_the_place_of_an_earlier_one() {
        let adjusted = AdjustedTargets::default();
        for limit in [8192, 4096] {
            adjusted.insert(&"p".into(), "m", Adjustment::MaxTokens(limit), 1);
        }
        assert_eq!((adjusted.of("p", "m", 1).max_tokens, adjusted.list(1).len()), (Some(4096), 1));
    }

    #[test]
    fn the_list_is_bounded() {
        let adjusted = AdjustedTargets::default();
        for number in 0..2 * MAX_ENTRIES {
            adjusted.insert(&"p".into(), &number.to_string(), SEED, 1);
        }
        assert_eq!(adjusted.list(1).len(), MAX_ENTRIES);
        assert!(adjusted.of("p", "0", 1).is_empty() && !adjusted.of("p", "511", 1).is_empty());
    }
}
