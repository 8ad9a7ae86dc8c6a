//! A bound on how often a line is logged that every request or connection could cause.

use parking_lot::Mutex;
use std::fmt;
use std::time::{Duration, Instant};

/// One line is logged in this time.
const EVERY: Duration = Duration::from_secs(1);

/// When a line was last logged, and how many were suppressed since.
#[derive(Default)]
pub struct Throttle(Mutex<(Option<Instant>, u64)>);

/// How many lines were suppressed before one that is logged; shown as the end of that line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suppressed(u64);

impl Throttle {
    /// Nothing has been logged yet.
    pub const fn new() -> Self {
        Self(Mutex::new((None, 0)))
    }

    /// Whether a line may be logged `now`; `None` where it is suppressed.
    pub fn admit(&self, now: Instant) -> Option<Suppressed> {
        let (logged, suppressed) = &mut *self.0.lock();
        if logged.is_some_and(|at| now.saturating_duration_since(at) < EVERY) {
            *suppressed += 1;
            return None;
        }
        *logged = Some(now);
        Some(Suppressed(std::mem::take(suppressed)))
    }
}

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 { write!(f, " ({} more not logged)", self.0) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_is_logged_and_says_how_many_were_not() {
        let (throttle, began) = (Throttle::new(), Instant::now());
        let lines: Vec<_> = [0, 1, 999, 1000, 1500, 2000, 5000]
            .map(|ms| throttle.admit(began + Duration::from_millis(ms)).map(|suppressed| suppressed.to_string()))
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(lines, ["", " (2 more not logged)", " (1 more not logged)", ""]);
    }
}
