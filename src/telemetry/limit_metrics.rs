//! What limits, key files and the keys of issuers record in [`Metrics`].

use super::Metrics;
use crate::auth::jwt::source::KeyStatus;
use crate::limit::rule::Dimension;
use crate::limit::{LimitExceeded, LimitSet, LimitStatus, Scope, StoreEvent};
use crate::telemetry::labels::Decision;

impl Metrics {
    /// Sets the number of problems of key files.
    pub fn key_problems(&self, count: usize) {
        self.families.key_problems.series(&[]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Replaces the exported states of the keys of issuers. `now` is in nanoseconds since the epoch. Call it for each scrape.
    pub fn jwks(&self, all: &[KeyStatus], now: u64) {
        self.families.jwks_failures.replace(|failures| {
            self.families.jwks_age.replace(|age| {
                for keys in all {
                    failures.series(&[&keys.issuer]).inc_by(keys.failures);
                    if let Some(at) = keys.fetched {
                        age.series(&[&keys.issuer]).set(now.saturating_sub(at) as f64 / 1e9);
                    }
                }
            });
        });
    }

    /// Records limits that admitted a request or an attempt.
    pub fn limits_admitted(&self, kinds: LimitSet) {
        kinds.iter().for_each(|(scope, dimension)| self.limit_decision(scope, dimension, Decision::Admitted));
    }

    /// Records a limit that rejected a request or an attempt.
    pub fn limit_refused(&self, exceeded: &LimitExceeded) {
        self.limit_decision(exceeded.scope, exceeded.dimension, Decision::Refused);
    }

    fn limit_decision(&self, scope: Scope, dimension: Dimension, decision: Decision) {
        let number = (scope as usize * Dimension::ALL.len() + dimension as usize) * Decision::ALL.len() + decision as usize;
        if let Some(counter) = self.decisions.get(number) {
            counter.inc();
        }
    }

    /// Records a call of the limit store, or its failure.
    pub fn limit_store(&self, event: StoreEvent) {
        match event {
            StoreEvent::Call => self.store_calls.inc(),
            StoreEvent::Error => self.store_errors.inc(),
        }
    }

    /// Replaces the exported limit states, and the number of their warnings where they warn. Call it for each scrape.
    pub fn limits_used<'a>(&self, limits: impl Iterator<Item = (Scope, &'a str, Dimension, LimitStatus, Option<u64>)>) {
        self.families.limit_used.replace(|used| {
            self.families.limit_warnings.replace(|warned| {
                for (scope, name, dimension, status, warnings) in limits {
                    let labels = [scope.name(), name, dimension.name()];
                    let share = if status.limit == 0 { 1.0 } else { status.used as f64 / status.limit as f64 };
                    let gauge = used.series(&labels);
                    gauge.set(gauge.get().max(share));
                    warnings.into_iter().for_each(|count| warned.series(&labels).inc_by(count));
                }
            });
        });
    }
}
