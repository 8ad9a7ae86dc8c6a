//! Limits: one dimension each, an amount, a period and a burst.

use super::Builder;
use crate::config::file::Limit;
use crate::config::types::{Count, MAX_COUNT, Money, Per, Period};
use crate::limit::budget::{DAY, MONTH};
use crate::limit::rule::{Dimension, LimitRule};
use crate::yaml::problem::Position;
use crate::yaml::value::At;
use std::time::Duration;

/// A day of the calendar, in UTC: that of `1d`.
/// Millionths in one.
const MILLION: u64 = 1_000_000;

impl Builder<'_> {
    pub(super) fn limits(&mut self, limits: Vec<Limit>) -> Vec<LimitRule> {
        limits.into_iter().filter_map(|limit| self.limit(limit)).collect()
    }

    fn limit(&mut self, limit: Limit) -> Option<LimitRule> {
        let count = |dimension, amount: &Option<At<Count>>| amount.as_ref().map(|amount| (dimension, amount.value.0, amount.at));
        let usd = limit.usd.as_ref().map(|At { at, value: Money(micro) }| (Dimension::Usd, *micro, *at));
        let mut given = [
            count(Dimension::Requests, &limit.requests),
            count(Dimension::Tokens, &limit.tokens),
            count(Dimension::Concurrent, &limit.concurrent),
            usd,
        ]
        .into_iter()
        .flatten();
        let Some((dimension, amount, at)) = given.next() else {
            if limit.sound {
                self.add(limit.at, "a limit needs one of `requests`, `tokens`, `concurrent` and `usd`");
            }
            return None;
        };
        if given.next().is_some() {
            self.add(limit.at, "a limit has one dimension; write one limit each for `requests`, `tokens`, `concurrent` and `usd`");
            return None;
        }
        if amount == 0 {
            self.add(at, "`usd`: a limit of zero lets nothing through; take the routes away or disable the key instead");
        }
        let concurrent = dimension == Dimension::Concurrent;
        if concurrent {
            for (key, at) in [("per", limit.per.as_ref().map(|x| x.at)), ("burst", limit.burst.as_ref().map(|x| x.at))] {
                if let Some(at) = at {
                    self.add(at, format!("`{key}` has no meaning for `concurrent`, which has no period"));
                }
            }
        } else if limit.per.is_none() && limit.sound {
            self.add(limit.at, "`per` is missing: the limit's period, like 1m or 1d");
        }
        let burst_at = limit.burst.as_ref().map(|burst| burst.at);
        let burst = match limit.burst {
            Some(burst) if !concurrent => self.burst(dimension, burst)?,
            _ => amount,
        };
        Some(LimitRule { dimension, amount, per: limit.per.map_or(Duration::ZERO, |per| self.period(dimension, per, burst_at)), burst })
    }

    /// A period of the calendar is one of budgets: what refills smoothly has none.
    fn period(&mut self, dimension: Dimension, per: At<Period>, burst: Option<Position>) -> Duration {
        let Period(value) = per.value;
        if let Per::Time(time) = value {
            return time;
        }
        if dimension != Dimension::Usd {
            self.add(per.at, "`per: day` and `per: month` are for `usd`; write 1d or 30d");
        }
        if let Some(at) = burst.filter(|_| dimension == Dimension::Usd) {
            self.add(at, "`burst` has no meaning for `per: day` and `per: month`; leave it out");
        }
        if value == Per::Day { DAY } else { MONTH }
    }

    fn burst(&mut self, dimension: Dimension, burst: At<Money>) -> Option<u64> {
        let Money(millionths) = burst.value;
        let whole = millionths % MILLION == 0 && millionths / MILLION <= MAX_COUNT;
        if millionths == 0 || (dimension != Dimension::Usd && !whole) {
            let what = if dimension == Dimension::Usd { "an amount" } else { "a whole number" };
            self.add(burst.at, format!("`burst` must be {what} above zero"));
            return None;
        }
        Some(if dimension == Dimension::Usd { millionths } else { millionths / MILLION })
    }
}
