//! Money: a budget per period that comes back whole when the next period begins.
//!
//! Requests and tokens refill smoothly, but a smooth bucket lets up to twice its amount through in its first period,
//! which is not what anyone means by "100 USD a day". Periods begin at whole multiples of their length since the Unix
//! epoch, so that a day is a UTC day and all nodes agree; or with the months of the calendar, in UTC.

use std::time::Duration;

/// Stands for a calendar month where a limit's period is a duration; no other period is that long.
pub const MONTH: Duration = Duration::from_secs(31 * 86_400);
/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);
/// [`MONTH`] in nanoseconds.
const MONTH_NANOS: u64 = 31 * DAY_NANOS;
/// A day in nanoseconds.
const DAY_NANOS: u64 = 86_400_000_000_000;

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
    /// `amount` micro-dollars per `period` nanoseconds (0 counts as 1, [`MONTH`] is a calendar month), of which at most
    /// `ceiling` may be open at once.
    pub const fn new(amount: u64, period: u64, ceiling: u64) -> Self {
        Self { amount, period: if period == 0 { 1 } else { period }, ceiling }
    }

    /// The most that may be spent before the period ends.
    pub const fn ceiling(&self) -> u64 {
        self.ceiling
    }

    /// Nanoseconds until the next period begins.
    pub fn reset(&self, now: u64) -> u64 {
        self.begins(self.number(now) + 1).saturating_sub(now)
    }

    /// The number of the period that a time belongs to, counted from the Unix epoch.
    const fn number(&self, now: u64) -> u64 {
        if self.period == MONTH_NANOS { month(now / DAY_NANOS) } else { now / self.period }
    }

    /// When a period begins.
    const fn begins(&self, number: u64) -> u64 {
        if self.period == MONTH_NANOS { first_day(number).saturating_mul(DAY_NANOS) } else { number.saturating_mul(self.period) }
    }
}

/// Days from March 1st of the year 0, from which the calendar of 400 years repeats, to the Unix epoch.
const EPOCH: u64 = 719_468;
/// Days in 400 years.
const ERA: u64 = 146_097;

/// Months since January 1970 on a day since the Unix epoch, by Hinnant's `civil_from_days`
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

/// The first day of a month since January 1970, in days since the Unix epoch: `days_from_civil`.
const fn first_day(month: u64) -> u64 {
    let months = month + 1970 * 12 - 2; // counted from March
    let (year, of_year) = (months / 12, months % 12);
    let (era, year) = (year / 400, year % 400);
    era * ERA + year * 365 + year / 4 - year / 100 + (153 * of_year + 2) / 5 - EPOCH
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
        let passed = budget.number(now).saturating_sub(self.period);
        self.spent.saturating_sub(passed.saturating_mul(budget.amount))
    }

    /// Brings the books to the period of `now`.
    ///
    /// A clock that was set back takes the books along, with all that is spent in them, or a budget that had seen a false
    /// future would stay spent until then. A time that is late by less than [`LATE`] is that of another thread.
    pub fn turn(&mut self, budget: &Budget, now: u64) {
        self.spent = self.spent(budget, now);
        let period = budget.number(now);
        if period > self.period || now.saturating_add(LATE) < budget.begins(self.period) {
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

    /// Nanoseconds until the period begins in which something is left again; of a budget with something left, until the next.
    pub fn renewed(&self, budget: &Budget, now: u64) -> u64 {
        let owed = self.spent(budget, now).saturating_sub(budget.ceiling);
        let periods = (owed / budget.amount.max(1)).saturating_add(1);
        budget.begins(budget.number(now).saturating_add(periods)).saturating_sub(now)
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
        assert_eq!((spending.ask(&budget, noon + 4 * DAY), spending.ask(&budget, noon + 5 * DAY)), (Err(Short::Spent), Ok(())));
    }

    #[test]
    fn a_spent_budget_knows_when_something_is_left_again() {
        let budget = Budget::new(100, DAY, 100);
        let mut spending = Spending::default();
        assert_eq!(spending.renewed(&budget, 5), DAY - 5);
        for (charge, days) in [(100, 1), (99, 1), (1, 2), (100, 3)] {
            spending.charge(&budget, charge, 5);
            assert_eq!(spending.renewed(&budget, 5), days * DAY - 5, "{}", spending.spent(&budget, 5));
            assert_eq!(spending.ask(&budget, days * DAY), Ok(()));
            assert!(days == 1 || spending.ask(&budget, days * DAY - 1).is_err());
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
