//! Rate limit for log lines that any request or connection can trigger.

use parking_lot::Mutex;
use std::fmt;
use std::time::{Duration, Instant};

/// Minimum interval between lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// Time of the last line, and the number suppressed since.
#[derive(Default)]
pub struct Throttle(Mutex<(Option<Instant>, u64)>);

/// Number of lines suppressed before this one. Displayed as a suffix of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suppressed(u64);

impl Throttle {
    /// No line logged yet.
    pub const fn new() -> Self {
        Self(Mutex::new((None, 0)))
    }

    /// Whether to log a line now; `None` if suppressed.
    pub fn admit(&self, now: Instant) -> Option<Suppressed> {
        let (logged, suppressed) = &mut *self.0.lock();
        if logged.is_some_and(|at| now.saturating_duration_since(at) < INTERVAL) {
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
