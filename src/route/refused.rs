//! Request fields that targets have rejected: omitted from requests to them for an hour.
//!
//! The state belongs to a provider and an upstream model, is shared by all routes and survives reloads.

use crate::llm::field::{Field, Fields};
use crate::units::nanoseconds;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long a field is omitted before it is sent again.
pub const MEMORY: Duration = Duration::from_secs(3600);
/// Maximum number of entries; the oldest one is evicted.
pub const MAX_MEMBERS: usize = 256;

/// A field that a target has rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The upstream model.
    pub model: Box<str>,
    /// The field.
    pub field: Field,
    /// Expiry, in nanoseconds of the gateway's clock.
    pub until: u64,
}

/// See the module.
#[derive(Default)]
pub struct RefusedMembers {
    /// Number of entries, including expired ones. Usually 0, which makes the lookup one load.
    count: AtomicUsize,
    list: ArcSwap<Vec<Refused>>,
}

impl RefusedMembers {
    /// The fields that this target has rejected.
    pub fn of(&self, provider: &str, model: &str, now: u64) -> Fields {
        let mut fields = Fields::default();
        if self.count.load(Ordering::Relaxed) == 0 {
            return fields;
        }
        for one in self.list.load().iter().filter(|one| one.until > now && *one.provider == *provider && *one.model == *model) {
            fields.insert(one.field);
        }
        fields
    }

    /// Records that a target has rejected a field.
    pub fn insert(&self, provider: &Arc<str>, model: &str, field: Field, now: u64) {
        let until = now.saturating_add(nanoseconds(MEMORY));
        let fresh = Refused { provider: provider.clone(), model: model.into(), field, until };
        self.list.rcu(|list| {
            let same = |one: &&Refused| one.provider == fresh.provider && one.model == fresh.model && one.field == fresh.field;
            let mut kept: Vec<Refused> = list.iter().filter(|one| one.until > now && !same(one)).cloned().collect();
            if kept.len() >= MAX_MEMBERS {
                kept.remove(0);
            }
            kept.push(fresh.clone());
            kept
        });
        self.count.store(self.list.load().len(), Ordering::Relaxed);
    }

    /// All entries that have not expired.
    pub fn list(&self, now: u64) -> Vec<Refused> {
        self.list.load().iter().filter(|one| one.until > now).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_left_out_at_its_target_for_an_hour() {
        let (refused, hour) = (RefusedMembers::default(), nanoseconds(MEMORY));
        let provider: Arc<str> = "p".into();
        refused.insert(&provider, "m", Field::StreamOptions, 5);
        refused.insert(&provider, "m", Field::Seed, 9);
        refused.insert(&provider, "m", Field::Seed, 10);
        let has = |model: &str, field: Field, now: u64| refused.of("p", model, now).contains(field);
        assert!(has("m", Field::StreamOptions, 5 + hour - 1) && !has("m", Field::StreamOptions, 5 + hour));
        assert!(has("m", Field::Seed, 9 + hour) && !has("m", Field::User, 10) && !has("n", Field::Seed, 10));
        assert!(refused.of("q", "m", 10).is_empty());
        assert_eq!((refused.list(11).len(), refused.list(10 + hour).len()), (2, 0));
    }

    #[test]
    fn the_list_is_bounded() {
        let refused = RefusedMembers::default();
        for number in 0..2 * MAX_MEMBERS {
            refused.insert(&"p".into(), &number.to_string(), Field::Seed, 1);
        }
        assert_eq!(refused.list(1).len(), MAX_MEMBERS);
        assert!(refused.of("p", "0", 1).is_empty() && !refused.of("p", "511", 1).is_empty());
    }
}
