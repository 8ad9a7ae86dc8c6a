//! Limits: one dimension each, an amount, a period and a burst.

use super::{Builder, ByName};
use crate::config::file;
use crate::config::types::{Count, MAX_COUNT, Per, Period};
use crate::limit::budget::{DAY, MONTH};
use crate::limit::rule::{Dimension, Limit, LimitPeriod, LimitRule, LimitedRoutes};
use crate::route::settings::Route;
use crate::yaml::money::Money;
use crate::yaml::problem::Position;
use crate::yaml::value::At;
use std::sync::Arc;

/// Millionths in one.
const MILLION: u64 = 1_000_000;

impl Builder<'_> {
    /// The limits of a team or a key, each with the routes that it is confined to.
    pub(super) fn client_limits(&mut self, limits: Vec<file::Limit>, routes: &ByName<Arc<Route>>) -> Vec<Limit> {
        let limit = |mut limit: file::Limit| {
            let named = limit.routes.take();
            let confined = named.map(|named| self.limited_routes(named, routes));
            Some(Limit { rule: self.limit(limit)?, routes: confined })
        };
        limits.into_iter().filter_map(limit).collect()
    }

    /// The limits of a route or a provider, which apply to all of its requests.
    pub(super) fn limits(&mut self, limits: Vec<file::Limit>) -> Vec<Limit> {
        for at in limits.iter().filter_map(|limit| super::written(&limit.written, "routes")) {
            self.add(at, "`routes` is for limits of a team or a key; a limit of a route or a provider applies to all of its requests");
        }
        limits.into_iter().filter_map(|limit| Some(Limit { rule: self.limit(limit)?, routes: None })).collect()
    }

    fn limited_routes(&mut self, named: At<Vec<At<String>>>, routes: &ByName<Arc<Route>>) -> LimitedRoutes {
        if named.value.is_empty() {
            self.add(named.at, "`routes`: a limit without a route limits nothing; name one, or leave `routes` out to limit all");
        }
        let (set, names) = self.route_names(named.value, routes);
        LimitedRoutes { names, set }
    }

    fn limit(&mut self, limit: file::Limit) -> Option<LimitRule> {
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
        let per = match limit.per {
            Some(per) if !concurrent => self.period(dimension, per.value, burst_at),
            _ => LimitPeriod::None,
        };
        let burst = match limit.burst {
            Some(burst) if !concurrent => self.burst(dimension, burst)?,
            _ => amount,
        };
        Some(LimitRule { dimension, amount, per, burst, warn: limit.warn.map(|percent| percent.0) })
    }

    /// A day and a month are windows of the calendar, and so is every period of money. `burst` is where it was written.
    fn period(&mut self, dimension: Dimension, Period(per): Period, burst: Option<Position>) -> LimitPeriod {
        let window = match per {
            Per::Time(time) if dimension == Dimension::Usd => return LimitPeriod::Window(time),
            Per::Time(time) => return LimitPeriod::Smooth(time),
            Per::Day => DAY,
            Per::Month => MONTH,
        };
        if let Some(at) = burst {
            self.add(at, "`burst` has no meaning for `per: day` and `per: month`; leave it out");
        }
        LimitPeriod::Window(window)
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
