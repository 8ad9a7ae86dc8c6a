//! Soft limits: a warning when the used share of a limit reaches its mark, once per crossing.
//!
//! Within a window, the first usage that is at the mark or above it warns. A limit without windows warns when its usage
//! goes from below the mark to it, and then not again for a period (a minute for `concurrent`): at a steady load near the mark
//! every request would cross it. Reservations and leases are not usage. With a shared store, the store decides, so that a crossing is told by one
//! node, the one that reports the usage with which it happens.

use super::memory::LimitId;
use super::rule::{Dimension, LimitPeriod, LimitRule};
use crate::account;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long a limit on `concurrent` does not warn again, in nanoseconds.
pub const QUIET_CONCURRENT: u64 = 60_000_000_000;

/// When a limit warns again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossing {
    /// The end of the window, or of the quiet time, of the last warning.
    until: u64,
}

impl Crossing {
    /// Whether the usage of a window that ends at `end` is to be warned of, once.
    pub fn in_window(&mut self, used: u64, mark: u64, end: u64) -> bool {
        let warns = used >= mark && self.until != end;
        if warns {
            self.until = end;
        }
        warns
    }

    /// Whether a rise of the usage is to be warned of. `now` and `quiet` are nanoseconds; a clock that was set back does not
    /// prolong the quiet.
    pub fn upwards(&mut self, (before, after): (u64, u64), mark: u64, now: u64, quiet: u64) -> bool {
        let is_quiet = now < self.until && self.until - now <= quiet;
        let warns = before < mark && after >= mark && !is_quiet;
        if warns {
            self.until = now.saturating_add(quiet);
        }
        warns
    }
}

/// How often a limit has warned; survives reloads with the limit.
#[derive(Debug, Default)]
pub struct Warnings(AtomicU64);

impl Warnings {
    /// Counts and logs a warning. Call it without holding a lock.
    pub fn record(&self, id: &LimitId, rule: &LimitRule) {
        self.0.fetch_add(1, Ordering::Relaxed);
        let LimitId { scope, name, dimension, .. } = id;
        let (percent, routes) = (rule.warn.unwrap_or_default(), super::on_routes(id.routes.as_ref()));
        let limit = match dimension {
            Dimension::Usd => account::usd(rule.limit()) + " USD",
            _ => rule.limit().to_string(),
        };
        let per = if rule.per == LimitPeriod::None { String::new() } else { format!(" per {}", rule.per) };
        log::warn!("the {} `{name}` has used {percent}% of its limit on {}{routes} ({limit}{per})", scope.name(), dimension.name());
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_warns_once_and_the_next_one_again() {
        let mut crossing = Crossing::default();
        let warns: Vec<_> = [(79, 100), (80, 100), (81, 100), (0, 200), (95, 200), (96, 200), (90, 300), (90, 100)]
            .into_iter()
            .map(|(used, end)| crossing.in_window(used, 80, end))
            .collect();
        assert_eq!(warns, [false, true, false, false, true, false, true, true], "the last one: the clock was set back");
    }

    #[test]
    fn a_limit_that_refills_warns_when_it_is_crossed_from_below_and_then_keeps_quiet() {
        let mut crossing = Crossing::default();
        let mut warns = |before, after, now| crossing.upwards((before, after), 80, now, 60);
        assert!(!warns(70, 79, 1000) && warns(79, 80, 1000), "at the mark");
        assert!(!warns(80, 90, 1001), "above it already");
        assert!(!warns(79, 80, 1059), "around it, again and again");
        assert!(warns(79, 95, 1060));
        assert!(!warns(90, 99, 5000), "it never was below");
        assert!(warns(10, 80, 5000) && !warns(10, 80, 5030) && warns(10, 80, 100), "a clock that was set back");
    }
}
