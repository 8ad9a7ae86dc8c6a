//! Money: a budget per period that comes back whole when the next period begins.
//!
//! Requests and tokens refill smoothly, but a smooth bucket lets up to twice its amount through in its first period,
//! which is not what anyone means by "100 USD a day". Periods begin at whole multiples of their length since the Unix
//! epoch, so that a day is a UTC day and all nodes agree.

/// Nanoseconds by which the times of two threads may be in the wrong order.
const LATE: u64 = 60_000_000_000;

/// A budget in micro-dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    amount: u64,
    period: u64,
    ceiling: u64,
}

impl Budget {
    /// `amount` micro-dollars per `period` nanoseconds (0 counts as 1), of which at most `ceiling` may be open at once.
    pub const fn new(amount: u64, period: u64, ceiling: u64) -> Self {
        Self { amount, period: if period == 0 { 1 } else { period }, ceiling }
    }

    /// The most that may be spent before the period ends.
    pub const fn ceiling(&self) -> u64 {
        self.ceiling
    }

    /// Nanoseconds until the next period begins.
    pub const fn reset(&self, now: u64) -> u64 {
        self.period - now % self.period
    }
}

/// Why a budget refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// It is spent until its next period.
    Spent,
    /// What is not spent is set aside for requests in flight, which may use less.
    Reserved,
}

/// What of a budget is spent and what is reserved, in micro-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spending {
    spent: u64,
    reserved: u64,
    period: u64,
}

impl Spending {
    /// What this period owes at `now`: overspending is carried into the periods that follow.
    pub fn spent(&self, budget: &Budget, now: u64) -> u64 {
        let passed = (now / budget.period).saturating_sub(self.period);
        self.spent.saturating_sub(passed.saturating_mul(budget.amount))
    }

    /// Brings the books to the period of `now`.
    ///
    /// A clock that was set back takes the books along, with all that is spent in them, or a budget that had seen a false
    /// future would stay spent until then. A time that is late by less than [`LATE`] is that of another thread.
    pub fn turn(&mut self, budget: &Budget, now: u64) {
        self.spent = self.spent(budget, now);
        let period = now / budget.period;
        if period > self.period || now.saturating_add(LATE) < self.period.saturating_mul(budget.period) {
            self.period = period;
        }
    }

    /// Whether anything is left. What is left need not cover the estimate: a budget is refused when it is spent, and an
    /// overspent one owes the rest to the next period.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn ask(&self, budget: &Budget, now: u64) -> Result<(), Short> {
        if self.remaining(budget, now) > 0 {
            Ok(())
        } else if self.spent(budget, now) < budget.ceiling {
            Err(Short::Reserved)
        } else {
            Err(Short::Spent)
        }
    }

    /// Sets an estimate aside.
    pub fn reserve(&mut self, cost: u64) {
        self.reserved = self.reserved.saturating_add(cost);
    }

    /// Gives an estimate back.
    pub fn release(&mut self, cost: u64) {
        self.reserved = self.reserved.saturating_sub(cost);
    }

    /// Books what an answer really cost.
    pub fn charge(&mut self, budget: &Budget, cost: u64, now: u64) {
        self.turn(budget, now);
        self.spent = self.spent.saturating_add(cost);
    }

    /// What is set aside.
    pub const fn reserved(&self) -> u64 {
        self.reserved
    }

    /// What may still be spent in this period.
    pub fn remaining(&self, budget: &Budget, now: u64) -> u64 {
        budget.ceiling.saturating_sub(self.spent(budget, now)).saturating_sub(self.reserved)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000_000_000;

    #[test]
    fn a_spent_budget_is_refused_until_the_day_ends() {
        let budget = Budget::new(100, DAY, 100);
        let mut spending = Spending::default();
        let now = 20_000 * DAY + 5;
        spending.reserve(40);
        assert_eq!(spending.remaining(&budget, now), 60);
        spending.release(40);
        spending.charge(&budget, 99, now);
        assert_eq!(spending.ask(&budget, now), Ok(()));
        spending.charge(&budget, 1, now);
        assert_eq!((spending.ask(&budget, now), budget.reset(now)), (Err(Short::Spent), DAY - 5));
        assert_eq!(spending.ask(&budget, now + DAY), Ok(()));
        assert_eq!(spending.remaining(&budget, now + DAY), 100);
    }

    #[test]
    fn overspending_is_owed_to_the_days_that_follow() {
        let budget = Budget::new(100, DAY, 100);
        let mut spending = Spending::default();
        spending.charge(&budget, 250, 0);
        assert_eq!(spending.remaining(&budget, DAY), 0);
        assert_eq!(spending.remaining(&budget, 2 * DAY), 50);
        assert_eq!(spending.remaining(&budget, 3 * DAY), 100);
    }

    #[test]
    fn what_is_reserved_is_not_to_be_had_and_not_spent() {
        let budget = Budget::new(100, DAY, 100);
        let mut spending = Spending::default();
        spending.reserve(300);
        assert_eq!(spending.ask(&budget, 0), Err(Short::Reserved));
        spending.charge(&budget, 99, 0);
        assert_eq!(spending.ask(&budget, 0), Err(Short::Reserved));
        spending.charge(&budget, 1, 0);
        assert_eq!(spending.ask(&budget, 0), Err(Short::Spent));
        spending.release(300);
        assert_eq!(spending.ask(&budget, DAY), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_takes_the_books_along() {
        let budget = Budget::new(100, DAY, 100);
        let mut spending = Spending::default();
        spending.charge(&budget, 100, 30_000 * DAY + 5); // a false future
        spending.charge(&budget, 0, 20_000 * DAY + 5);
        assert_eq!(spending.ask(&budget, 20_000 * DAY + 5), Err(Short::Spent), "what was spent stays spent");
        assert_eq!(spending.ask(&budget, 20_001 * DAY), Ok(()), "until the next day");
        spending.charge(&budget, 100, 20_001 * DAY);
        spending.charge(&budget, 1, 20_001 * DAY - 5); // another thread's time, of just before midnight
        assert_eq!(spending.spent(&budget, 20_001 * DAY), 101);
    }
}
