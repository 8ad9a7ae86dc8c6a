//! How many retries a route may send to providers that the request has already asked.
//!
//! A provider that fails gets every request again, and so more requests than when it is well. A budget bounds that: retries at
//! the same provider are at most a share of the route's requests, with a floor for routes of little traffic. Fail-over to
//! another provider is never bounded. (The idea and its figures are those of Finagle's and Linkerd's retry budgets.)

use super::settings::Budget;
use std::array::from_fn;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seconds over which requests and retries are counted.
pub const WINDOW: u64 = 10;
/// One for each second of the window, and the current one.
const SLOTS: usize = WINDOW as usize + 1;
const NANOSECONDS: u64 = 1_000_000_000;
/// Unit of [`Budget::share`].
const MILLION: u64 = 1_000_000;

/// The requests and retries of the last seconds. Lock-free.
#[derive(Debug)]
pub struct RetryBudget {
    /// By second modulo [`SLOTS`]; see [`Slot`].
    slots: [AtomicU64; SLOTS],
}

/// What was counted in one second: in a word, 24 bits of the second, 24 of requests, 16 of retries. Counts do not overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    second: u64,
    requests: u64,
    retries: u64,
}

impl Slot {
    const SECONDS: u64 = 1 << 24;
    const MAX_REQUESTS: u64 = (1 << 24) - 1;
    const MAX_RETRIES: u64 = (1 << 16) - 1;

    const fn of(word: u64) -> Self {
        Self { second: word >> 40, requests: word >> 16 & Self::MAX_REQUESTS, retries: word & Self::MAX_RETRIES }
    }

    fn word(self) -> u64 {
        self.second << 40 | self.requests.min(Self::MAX_REQUESTS) << 16 | self.retries.min(Self::MAX_RETRIES)
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        // Of a second that no clock reads: 0 is one that it does.
        let never = Slot { second: Slot::SECONDS - 1, requests: 0, retries: 0 };
        Self { slots: from_fn(|_| AtomicU64::new(never.word())) }
    }
}

impl RetryBudget {
    /// Counts a request. `now`: nanoseconds.
    pub fn request(&self, now: u64) {
        self.add(now, |slot| Slot { requests: slot.requests + 1, ..slot });
    }

    /// Takes one retry. `false` where the budget is spent.
    pub fn take(&self, budget: Budget, now: u64) -> bool {
        let current = now / NANOSECONDS;
        let recent = |slot: &Slot| current.wrapping_sub(slot.second) % Slot::SECONDS <= WINDOW;
        let slots = self.slots.iter().map(|word| Slot::of(word.load(Ordering::Relaxed))).filter(recent);
        let (requests, retries) = slots.fold((0, 0), |(requests, retries), slot| (requests + slot.requests, retries + slot.retries));
        let most = (requests * u64::from(budget.share) / MILLION).max(u64::from(budget.per_second) * WINDOW);
        let allowed = retries < most;
        if allowed {
            self.add(now, |slot| Slot { retries: slot.retries + 1, ..slot });
        }
        allowed
    }

    /// Returns a retry that was not made after all; one of an earlier second stays taken.
    pub fn give_back(&self, now: u64) {
        self.add(now, |slot| Slot { retries: slot.retries.saturating_sub(1), ..slot });
    }

    fn add(&self, now: u64, count: impl Fn(Slot) -> Slot) {
        let second = now / NANOSECONDS;
        let Some(slot) = self.slots.get((second % SLOTS as u64) as usize) else { return };
        let second = second % Slot::SECONDS;
        let counted = |word| {
            let slot = Some(Slot::of(word)).filter(|slot| slot.second == second);
            Some(count(slot.unwrap_or(Slot { second, requests: 0, retries: 0 })).word())
        };
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { share: 200_000, per_second: 10 };

    fn taken(budget: &RetryBudget, rules: Budget, second: u64) -> usize {
        (0..1000).take_while(|_| budget.take(rules, second * NANOSECONDS)).count()
    }

    fn requests(budget: &RetryBudget, count: u64, second: u64) {
        (0..count).for_each(|nth| budget.request(second * NANOSECONDS + nth));
    }

    #[test]
    fn a_route_of_little_traffic_has_the_floor_and_a_busy_one_its_share() {
        for (count, most) in [(0, 100), (500, 100), (510, 102), (4000, 800)] {
            let budget = RetryBudget::default();
            requests(&budget, count, 5);
            assert_eq!(taken(&budget, BUDGET, 5), most, "{count} requests");
        }
    }

    #[test]
    fn requests_and_retries_count_for_ten_seconds() {
        let budget = RetryBudget::default();
        requests(&budget, 4000, 100);
        assert_eq!(taken(&budget, BUDGET, 105), 800);
        assert_eq!((taken(&budget, BUDGET, 110), taken(&budget, BUDGET, 111)), (0, 0));
        assert_eq!(taken(&budget, BUDGET, 116), 100, "both are forgotten, and the floor is left");
    }

    #[test]
    fn a_retry_that_is_not_made_is_returned() {
        let (budget, one) = (RetryBudget::default(), Budget { share: 0, per_second: 1 });
        assert_eq!(taken(&budget, one, 3), WINDOW as usize);
        budget.give_back(3 * NANOSECONDS);
        assert_eq!(taken(&budget, one, 3), 1);
        budget.give_back(4 * NANOSECONDS);
        assert_eq!(taken(&budget, one, 4), 0, "nothing was taken in that second");
    }

    #[test]
    fn a_budget_of_nothing_allows_nothing() {
        let budget = RetryBudget::default();
        requests(&budget, 4000, 0);
        assert_eq!(taken(&budget, Budget { share: 0, per_second: 0 }, 0), 0);
        assert_eq!(taken(&budget, Budget { share: 1_000_000, per_second: 0 }, 0), 1000);
    }

    #[test]
    fn counts_and_seconds_do_not_overflow() {
        let full = Slot { second: 7, requests: Slot::MAX_REQUESTS, retries: Slot::MAX_RETRIES };
        assert_eq!(Slot::of(Slot { requests: full.requests + 1, retries: full.retries + 1, ..full }.word()), full);
        let budget = RetryBudget::default();
        let late = Slot::SECONDS * 3 + 1; // half a year
        requests(&budget, 4000, late - 2);
        assert_eq!(taken(&budget, BUDGET, late), 800);
    }
}
