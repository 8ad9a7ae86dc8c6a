//! Failure rate of a target over a sliding window, in fixed memory.
//!
//! The times of the last failures are stored individually. Attempts are counted by snapshots of the counters, taken every
//! sixteenth of a window, which is the resolution of the rate.

use crate::route::settings::Ejection;
use crate::units::nanoseconds;
use std::array::from_fn;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Number of failures stored per target, and the maximum of `ejection.failures`.
pub const MAX_FAILURES: usize = 64;
/// Snapshots stored: two windows.
const SNAPSHOTS: usize = 32;
/// Snapshots per window.
const SNAPSHOTS_PER_WINDOW: u64 = 16;
/// Unit of `share`.
const MILLION: u128 = 1_000_000;

/// See the module. Times are nanoseconds.
#[derive(Debug)]
pub(super) struct Record {
    failed_at: [AtomicU64; MAX_FAILURES],
    next: AtomicUsize,
    /// Earlier failures do not count.
    since: AtomicU64,
    consecutive: AtomicU32,
    attempts: AtomicU64,
    failures: AtomicU64,
    snapshots: [Snapshot; SNAPSHOTS],
    next_snapshot: AtomicUsize,
    snapshot_at: AtomicU64,
}

/// The counters at a point in time.
#[derive(Debug, Default)]
struct Snapshot {
    at: AtomicU64,
    attempts: AtomicU64,
    failures: AtomicU64,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            failed_at: from_fn(|_| AtomicU64::new(0)),
            next: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            consecutive: AtomicU32::new(0),
            attempts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            snapshots: from_fn(|_| Snapshot::default()),
            next_snapshot: AtomicUsize::new(0),
            snapshot_at: AtomicU64::new(0),
        }
    }
}

impl Record {
    /// Start of the current period; earlier failures do not count.
    pub(super) fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Starts a new period at `now`.
    pub(super) fn restart(&self, now: u64) {
        self.since.store(now, Ordering::Relaxed);
        self.consecutive.store(0, Ordering::Relaxed);
        self.snapshot(now);
    }

    /// Records a success.
    pub(super) fn succeeded(&self, window: Duration, now: u64) {
        self.snapshot_if_due(window, now);
        self.attempts.fetch_add(1, Ordering::Relaxed);
        if self.consecutive.load(Ordering::Relaxed) != 0 {
            self.consecutive.store(0, Ordering::Relaxed);
        }
    }

    /// Records a failure, of an attempt already recorded as a success if `counted`. Returns whether to eject: there are
    /// `failures` within the window, and they are consecutive or at least `share` of its attempts.
    pub(super) fn failed(&self, rules: &Ejection, counted: bool, now: u64) -> bool {
        self.snapshot_if_due(rules.window, now);
        self.attempts.fetch_add(u64::from(!counted), Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        let consecutive = self.consecutive.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if let Some(slot) = self.failed_at.get(self.next.fetch_add(1, Ordering::Relaxed) % MAX_FAILURES) {
            slot.store(now, Ordering::Relaxed);
        }
        let from = now.saturating_sub(nanoseconds(rules.window)).max(self.since());
        let within = self.failed_at.iter().filter(|at| at.load(Ordering::Relaxed) > from).count();
        within >= rules.failures as usize && (consecutive >= rules.failures || self.is_share(rules.share, from))
    }

    /// Whether failures are at least `share` millionths of the attempts since `from`.
    fn is_share(&self, share: u32, from: u64) -> bool {
        let snapshots = self.snapshots.iter().filter(|snapshot| snapshot.at.load(Ordering::Relaxed) >= from.max(1));
        let Some(first) = snapshots.min_by_key(|snapshot| snapshot.at.load(Ordering::Relaxed)) else { return false };
        let attempts = self.attempts.load(Ordering::Relaxed).saturating_sub(first.attempts.load(Ordering::Relaxed));
        let failures = self.failures.load(Ordering::Relaxed).saturating_sub(first.failures.load(Ordering::Relaxed));
        u128::from(failures) * MILLION >= u128::from(share) * u128::from(attempts)
    }

    fn snapshot_if_due(&self, window: Duration, now: u64) {
        let last = self.snapshot_at.load(Ordering::Relaxed);
        let is_due = last == 0 || now.saturating_sub(last) >= nanoseconds(window) / SNAPSHOTS_PER_WINDOW;
        if is_due && self.snapshot_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.store_snapshot(now);
        }
    }

    fn snapshot(&self, now: u64) {
        self.snapshot_at.store(now, Ordering::Relaxed);
        self.store_snapshot(now);
    }

    fn store_snapshot(&self, now: u64) {
        if let Some(snapshot) = self.snapshots.get(self.next_snapshot.fetch_add(1, Ordering::Relaxed) % SNAPSHOTS) {
            snapshot.attempts.store(self.attempts.load(Ordering::Relaxed), Ordering::Relaxed);
            snapshot.failures.store(self.failures.load(Ordering::Relaxed), Ordering::Relaxed);
            snapshot.at.store(now, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;
    const START: u64 = 1_000_000 * MILLI;

    fn rules(failures: u32, share: f64) -> Ejection {
        let seconds = Duration::from_secs;
        Ejection { failures, share: (share * 1e6) as u32, window: seconds(30), initial: seconds(5), max: seconds(30) }
    }

    /// Attempts every so many milliseconds, `x` for one that fails; the number of the one with which there are too many.
    fn too_many(rules: &Ejection, every: u64, attempts: impl Iterator<Item = bool>) -> Option<usize> {
        let record = Record::default();
        let mut now = START;
        for (number, failed) in attempts.enumerate() {
            now += every * MILLI;
            if !failed {
                record.succeeded(rules.window, now);
            } else if record.failed(rules, false, now) {
                return Some(number);
            }
        }
        None
    }

    fn pattern(text: &str, times: usize) -> impl Iterator<Item = bool> {
        text.repeat(times).into_bytes().into_iter().map(|b| b == b'x')
    }

    #[test]
    fn failures_eject_by_their_share_or_in_a_row() {
        let good = |n| ".".repeat(n);
        for (what, every, text, times, ejected) in [
            ("five in a row", 10, "xxxxx".to_owned(), 1, Some(4)),
            ("five in a row among thousands", 10, good(2000) + "xxxxx", 1, Some(2004)),
            ("every second one", 1000, "x.".to_owned(), 9, Some(8)),
            ("every third one", 10, "x..".to_owned(), 3000, None),
            ("five of 301", 100, good(60) + "x", 5, None),
            ("two in a thousand at a hundred a second", 10, good(499) + "x", 40, None),
            ("four in a row now and then", 100, good(60) + "xxxx", 20, None),
            ("too far apart", 8000, "x".to_owned(), 100, None),
            ("most of a busy window", 10, good(1500) + &"xx.".repeat(3000), 1, Some(1500 + 2250)),
        ] {
            let found = too_many(&rules(5, 0.5), every, pattern(&text, times));
            // A snapshot is a sixteenth of the window: of 3000 attempts that is 188.
            let near = found.zip(ejected).is_some_and(|(found, want)| found.abs_diff(want) <= if want > 3000 { 188 } else { 0 });
            assert!(found == ejected || near, "{what}: {found:?}");
        }
        assert_eq!(too_many(&rules(5, 0.3), 10, pattern("x..", 3000)), Some(12));
        assert_eq!(too_many(&rules(5, 0.0), 10, pattern("x.........", 3000)), Some(40), "a share of nothing is any");
        assert_eq!(too_many(&rules(2, 1.0), 10, pattern("x.", 3000)), None);
    }

    #[test]
    fn what_was_before_a_restart_or_an_idle_time_does_not_count() {
        let (rules, record) = (rules(3, 0.5), Record::default());
        (0..1000).for_each(|_| record.succeeded(rules.window, START));
        let later = START + 3_600_000 * MILLI;
        let fails = |now| record.failed(&rules, false, now);
        assert!(!fails(later) && !fails(later + MILLI));
        record.succeeded(rules.window, later + 2 * MILLI);
        assert!(fails(later + 3 * MILLI), "three of four within the window");
        record.restart(later + 4 * MILLI);
        assert!(!fails(later + 5 * MILLI) && !fails(later + 6 * MILLI));
        (0..9).for_each(|_| record.succeeded(rules.window, later + 7 * MILLI));
        assert!(!fails(later + 8 * MILLI), "three of twelve");
    }

    #[test]
    fn an_answer_that_broke_off_is_one_attempt() {
        let (rules, record) = (rules(5, 1.0), Record::default());
        let breaks = |second: u64| {
            let now = START + second * 1000 * MILLI;
            record.succeeded(rules.window, now);
            record.failed(&rules, true, now)
        };
        assert_eq!([1, 2, 3, 4, 5].map(breaks), [false, false, false, false, true]);
    }
}
