//! Budgets: an amount per period, renewed in full when the next period begins. Those of money, and of all that is counted
//! per day or month.
//!
//! A token bucket would admit up to twice the amount within its first period. Periods begin at multiples of their
//! length since the Unix epoch, so that a day is a UTC day on every node; a month is a calendar month in UTC.

use std::time::Duration;

/// A calendar month, where a period is given as a duration. No other period may have this length.
pub const MONTH: Duration = Duration::from_secs(31 * 86_400);
/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);
/// [`MONTH`] in nanoseconds.
const MONTH_NANOS: u64 = 31 * DAY_NANOS;
/// A day in nanoseconds.
const DAY_NANOS: u64 = 86_400_000_000_000;

/// Tolerated difference between the clocks of two threads, in nanoseconds.
const CLOCK_SKEW: u64 = 60_000_000_000;

/// A budget of requests, tokens or micro-dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    amount: u64,
    period: u64,
    ceiling: u64,
}

impl Budget {
    /// `amount` per `period` nanoseconds (0 counts as 1, [`MONTH`] is a calendar month); a request is rejected once
    /// `ceiling` is spent or reserved.
    pub const fn new(amount: u64, period: u64, ceiling: u64) -> Self {
        Self { amount, period: if period == 0 { 1 } else { period }, ceiling }
    }

    /// The burst.
    pub const fn ceiling(&self) -> u64 {
        self.ceiling
    }

    /// Nanoseconds until the next period.
    pub fn reset(&self, now: u64) -> u64 {
        self.end(now).saturating_sub(now)
    }

    /// When the period that `now` is in ends.
    pub fn end(&self, now: u64) -> u64 {
        self.begins(self.number(now) + 1)
    }

    /// The period that `now` is in, counted from the Unix epoch.
    const fn number(&self, now: u64) -> u64 {
        if self.period == MONTH_NANOS { month(now / DAY_NANOS) } else { now / self.period }
    }

    /// Start of a period.
    const fn begins(&self, number: u64) -> u64 {
        if self.period == MONTH_NANOS { first_day(number).saturating_mul(DAY_NANOS) } else { number.saturating_mul(self.period) }
    }
}

/// Days from March 1st of the year 0, where the 400-year cycle begins, to the Unix epoch.
const EPOCH: u64 = 719_468;
/// Days in 400 years.
const ERA: u64 = 146_097;

/// Months from January 1970 to a day given in days since the Unix epoch: Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>).
const fn month(day: u64) -> u64 {
    let day = day + EPOCH;
    let (era, of_era) = (day / ERA, day % ERA);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Counted from March, as the year is.
    let months = (era * 400 + year) * 12 + (5 * of_year + 2) / 153 + 2;
    months - 1970 * 12
}

/// First day of a month, in days since the Unix epoch: `days_from_civil`.
const fn first_day(month: u64) -> u64 {
    let months = month + 1970 * 12 - 2; // counted from March
    let (year, of_year) = (months / 12, months % 12);
    let (era, year) = (year / 400, year % 400);
    era * ERA + year * 365 + year / 4 - year / 100 + (153 * of_year + 2) / 5 - EPOCH
}

/// Why a budget rejects a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetExhausted {
    /// Spent until the next period.
    Spent,
    /// The rest is reserved for requests in flight.
    Reserved,
}

/// Spent and reserved amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spending {
    spent: u64,
    reserved: u64,
    period: u64,
}

impl Spending {
    /// Amount spent as of `now`. Overspending is carried into the following periods.
    pub fn spent(&self, budget: &Budget, now: u64) -> u64 {
        let passed = budget.number(now).saturating_sub(self.period);
        self.spent.saturating_sub(passed.saturating_mul(budget.amount))
    }

    /// Advances to the period of `now`.
    ///
    /// If the clock was set back by more than [`CLOCK_SKEW`], the period is set back too, with the amount spent: otherwise a
    /// budget charged under a clock in the future would stay spent until then.
    pub fn advance(&mut self, budget: &Budget, now: u64) {
        self.spent = self.spent(budget, now);
        let period = budget.number(now);
        if period > self.period || now.saturating_add(CLOCK_SKEW) < budget.begins(self.period) {
            self.period = period;
        }
    }

    /// Fails only when nothing remains. The remainder need not cover the estimate; overspending is carried over.
    ///
    /// # Errors
    /// Whether the budget is spent or reserved.
    pub fn check(&self, budget: &Budget, now: u64) -> Result<(), BudgetExhausted> {
        if self.remaining(budget, now) > 0 {
            Ok(())
        } else if self.spent(budget, now) < budget.ceiling {
            Err(BudgetExhausted::Reserved)
        } else {
            Err(BudgetExhausted::Spent)
        }
    }

    /// Nanoseconds until the next period in which something remains.
    pub fn renews_in(&self, budget: &Budget, now: u64) -> u64 {
        let owed = self.spent(budget, now).saturating_sub(budget.ceiling);
        let periods = (owed / budget.amount.max(1)).saturating_add(1);
        budget.begins(budget.number(now).saturating_add(periods)).saturating_sub(now)
    }

    /// Reserves an estimated cost.
    pub fn reserve(&mut self, cost: u64) {
        self.reserved = self.reserved.saturating_add(cost);
    }

    /// Releases a reservation.
    pub fn release(&mut self, cost: u64) {
        self.reserved = self.reserved.saturating_sub(cost);
    }

    /// Charges an actual cost.
    pub fn charge(&mut self, budget: &Budget, cost: u64, now: u64) {
        self.advance(budget, now);
        self.spent = self.spent.saturating_add(cost);
    }

    /// The reserved amount.
    pub const fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Amount that remains in this period.
    pub fn remaining(&self, budget: &Budget, now: u64) -> u64 {
        budget.ceiling.saturating_sub(self.spent(budget, now)).saturating_sub(self.reserved)
    }
}

#[cfg(test)]
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
        assert_eq!(spending.check(&budget, now), Ok(()));
        spending.charge(&budget, 1, now);
        assert_eq!((spending.check(&budget, now), budget.reset(now)), (Err(BudgetExhausted::Spent), DAY - 5));
        assert_eq!(spending.check(&budget, now + DAY), Ok(()));
        assert_eq!(spending.remaining(&budget, now + DAY), 100);
    }

    #[test]
    fn a_month_is_that_of_the_calendar_in_utc() {
        let budget = Budget::new(100, MONTH_NANOS, 100);
        let (mut first, mut number) = (0, 0);
        for day in 0..200 * 366 {
            let date = jiff::Timestamp::from_second(day * 86_400).unwrap().to_zoned(jiff::tz::TimeZone::UTC).date();
            if day > 0 && date.day() == 1 {
                (first, number) = (day, number + 1);
            }
            assert_eq!(budget.number(day as u64 * DAY + DAY - 1), number, "{date}");
            assert_eq!(budget.begins(number), first as u64 * DAY, "{date}");
        }
        let noon = 20_783 * DAY + DAY / 2; // 2026-11-26
        assert_eq!(budget.reset(noon), 4 * DAY + DAY / 2);
        let mut spending = Spending::default();
        spending.charge(&budget, 100, noon);
        assert_eq!(
            (spending.check(&budget, noon + 4 * DAY), spending.check(&budget, noon + 5 * DAY)),
            (Err(BudgetExhausted::Spent), Ok(()))
        );
    }

    #[test]
    fn a_spent_budget_knows_when_something_is_left_again() {
        let budget = Budget::new(100, DAY, 100);
        let mut spending = Spending::default();
        assert_eq!(spending.renews_in(&budget, 5), DAY - 5);
        for (charge, days) in [(100, 1), (99, 1), (1, 2), (100, 3)] {
            spending.charge(&budget, charge, 5);
            assert_eq!(spending.renews_in(&budget, 5), days * DAY - 5, "{}", spending.spent(&budget, 5));
            assert_eq!(spending.check(&budget, days * DAY), Ok(()));
            assert!(days == 1 || spending.check(&budget, days * DAY - 1).is_err());
        }
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
        assert_eq!(spending.check(&budget, 0), Err(BudgetExhausted::Reserved));
        spending.charge(&budget, 99, 0);
        assert_eq!(spending.check(&budget, 0), Err(BudgetExhausted::Reserved));
        spending.charge(&budget, 1, 0);
        assert_eq!(spending.check(&budget, 0), Err(BudgetExhausted::Spent));
        spending.release(300);
        assert_eq!(spending.check(&budget, DAY), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_takes_the_books_along() {
        let budget = Budget::new(100, DAY, 100);
        let mut spending = Spending::default();
        spending.charge(&budget, 100, 30_000 * DAY + 5); // a false future
        spending.charge(&budget, 0, 20_000 * DAY + 5);
        assert_eq!(spending.check(&budget, 20_000 * DAY + 5), Err(BudgetExhausted::Spent), "what was spent stays spent");
        assert_eq!(spending.check(&budget, 20_001 * DAY), Ok(()), "until the next day");
        spending.charge(&budget, 100, 20_001 * DAY);
        spending.charge(&budget, 1, 20_001 * DAY - 5); // another thread's time, of just before midnight
        assert_eq!(spending.spent(&budget, 20_001 * DAY), 101);
    }
}
