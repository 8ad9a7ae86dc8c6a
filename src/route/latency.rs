//! Time to first token of a target, as a peak-sensitive moving average. Time is passed in.
//!
//! Peak EWMA: a slower observation replaces the average at once, a faster one lowers it gradually. The average decays
//! while a target is not used, so that a slow one is tried again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time after which the weight of an observation has decayed to 1/e, in milliseconds. Long enough to distinguish
/// targets on a route with one request every few seconds.
const DECAY: f64 = 30_000.0;
/// Latency assumed for a target with requests in flight and no observation, in microseconds.
const UNKNOWN: u32 = 3_600_000_000;

/// Average in microseconds and time of the last observation in milliseconds, 32 bits each in one atomic word. The time
/// wraps after 49 days.
#[derive(Debug, Default)]
pub struct Latency(AtomicU64);

impl Latency {
    /// Records a first token after `took`; `now` is in nanoseconds.
    pub fn observe(&self, took: Duration, now: u64) {
        let took = micros(took);
        self.change(now, |faded, weight| {
            let average = f64::from(faded) + f64::from(took) * (1.0 - weight);
            took.max(average as u32)
        });
    }

    /// Records a failure after `took`, a lower bound of the latency.
    pub fn observe_at_least(&self, took: Duration, now: u64) {
        let took = micros(took);
        if took > self.average(now) {
            self.change(now, |faded, _| faded.max(took));
        }
    }

    /// Expected cost of one more request with `in_flight` others; 0 if unknown.
    pub fn load(&self, in_flight: u32, now: u64) -> u64 {
        let average = match self.average(now) {
            0 if in_flight > 0 => UNKNOWN,
            average => average,
        };
        u64::from(average) * (u64::from(in_flight) + 1)
    }

    fn average(&self, now: u64) -> u32 {
        faded(self.0.load(Ordering::Relaxed), stamp(now)).0
    }

    fn change(&self, now: u64, next: impl Fn(u32, f64) -> u32) {
        let stamp = stamp(now);
        let word = |word| {
            let (faded, weight) = faded(word, stamp);
            Some(u64::from(next(faded, weight)) | u64::from(stamp) << 32)
        };
        let _always = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, word);
    }
}

fn micros(took: Duration) -> u32 {
    u32::try_from(took.as_micros()).unwrap_or(u32::MAX).clamp(1, UNKNOWN)
}

fn stamp(now: u64) -> u32 {
    (now / 1_000_000) as u32
}

/// The decayed average at a time, and its weight.
fn faded(word: u64, stamp: u32) -> (u32, f64) {
    let (average, last) = (word as u32, (word >> 32) as u32);
    let passed = stamp.wrapping_sub(last);
    // Threads may report slightly out of order.
    let passed = if passed > u32::MAX / 2 { 0 } else { passed };
    let weight = (-f64::from(passed) / DECAY).exp();
    ((f64::from(average) * weight) as u32, weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const FAST: Duration = Duration::from_millis(100);
    const SLOW: Duration = Duration::from_secs(2);

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let l = Latency::default();
        l.observe(FAST, 1000 * SECOND);
        assert_eq!(l.load(0, 1000 * SECOND), 100_000);
        l.observe(SLOW, 1001 * SECOND);
        assert_eq!(l.load(0, 1001 * SECOND), 2_000_000);
        l.observe(FAST, 1002 * SECOND);
        let soon = l.load(0, 1002 * SECOND);
        assert!((1_800_000..2_000_000).contains(&soon), "{soon}");
        for second in 1003..1200 {
            l.observe(FAST, second * SECOND);
        }
        let later = l.load(0, 1199 * SECOND);
        assert!((100_000..110_000).contains(&later), "{later}");
    }

    #[test]
    fn requests_under_way_multiply_the_cost_and_the_unknown_is_tried_once() {
        let l = Latency::default();
        assert_eq!(l.load(0, SECOND), 0);
        assert!(l.load(1, SECOND) > 1_000_000_000);
        l.observe(FAST, SECOND);
        assert_eq!(l.load(4, SECOND), 500_000);
    }

    #[test]
    fn a_slow_target_that_nobody_asks_becomes_worth_a_try() {
        let (fast, slow) = (Latency::default(), Latency::default());
        slow.observe(SLOW, 0);
        let first_try = (0..600u64).find(|second| {
            fast.observe(FAST, second * SECOND);
            slow.load(0, second * SECOND) < fast.load(0, second * SECOND)
        });
        assert!(first_try.is_some_and(|second| second > 60), "{first_try:?}");
    }

    #[test]
    fn a_failure_can_only_make_it_worse() {
        let l = Latency::default();
        l.observe(FAST, SECOND);
        l.observe_at_least(Duration::from_millis(1), SECOND);
        assert_eq!(l.load(0, SECOND), 100_000);
        l.observe_at_least(SLOW, SECOND);
        assert_eq!(l.load(0, SECOND), 2_000_000);
    }

    #[test]
    fn the_clock_may_wrap_and_threads_may_be_late() {
        let wrap = u64::from(u32::MAX) * 1_000_000;
        let l = Latency::default();
        l.observe(FAST, wrap - SECOND);
        assert!(l.load(0, wrap + SECOND) > 90_000);
        assert_eq!(l.load(0, wrap - 2 * SECOND), 100_000);
    }
}
