//! Limits counted in this process: one state per configured limit, found by index.
//!
//! All limits of a request are decided together: locked in a fixed order (key, team, route, provider, and by id within
//! each), checked, then charged. So none is charged if one rejects, no request is rejected because of a charge that is
//! rolled back, and lock order is the same for all configurations, which rules out deadlocks. Locks are never locked
//! across an await.
//!
//! States survive a reload by id: scope, name, dimension and period. Changing amount or burst keeps the amount used;
//! changing the period makes a new limit.

use super::budget::{Budget, BudgetExhausted, Spending};
use super::estimate::{Averages, Estimate, RequestSize};
use super::gcra::{Bucket, Rate};
use super::headers::{LimitHeaders, LimitStatus};
use super::permit::{Counted, Permit};
use super::{Admission, Clock, IN_FLIGHT_WAIT, LimitExceeded, LimitSet, Scope, Subject, Used, WallOffset, whole_milliseconds};
use crate::account::Price;
use crate::limit::rule::{Dimension, LimitRule};
use crate::llm::usage::Usage;
use crate::units::nanoseconds;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Identifies a limit across reloads. Its order is the lock order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitId {
    /// The scope.
    pub scope: Scope,
    /// Name of the team, route or provider, or id of the key.
    pub name: Arc<str>,
    /// The [`Dimension`] as a number.
    dimension: u8,
    /// The period; zero for `concurrent`.
    pub per: Duration,
    /// Distinguishes limits of one member that are equal in all other fields.
    ordinal: u32,
}

impl LimitId {
    /// Dimension, period in nanoseconds and ordinal.
    pub(super) fn numbers(&self) -> (u8, u64, u32) {
        (self.dimension, nanoseconds(self.per), self.ordinal)
    }
}

/// The state of one limit.
#[derive(Clone, Copy, Debug)]
enum Meter {
    Requests(Rate, Bucket),
    Tokens(Rate, Bucket),
    Concurrent { limit: u64, in_flight: u64 },
    Usd(Budget, Spending),
}

/// One moment on both clocks, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// Monotonic, for rates.
    monotonic: u64,
    /// Wall clock, for budget periods.
    wall: u64,
}

/// How long a rejected request would have to wait; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    After(Duration),
    Never,
}

impl Meter {
    fn new(rule: &LimitRule) -> Self {
        let period = nanoseconds(rule.per);
        match rule.dimension {
            Dimension::Requests => Self::Requests(Rate::new(rule.amount, period, rule.burst), Bucket::default()),
            Dimension::Tokens => Self::Tokens(Rate::new(rule.amount, period, rule.burst), Bucket::default()),
            Dimension::Concurrent => Self::Concurrent { limit: rule.amount, in_flight: 0 },
            Dimension::Usd => Self::Usd(Budget::new(rule.amount, period, rule.burst), Spending::default()),
        }
    }

    /// Applies a new rule of the same dimension and period.
    fn set_rule(&mut self, rule: &LimitRule, now: Times) {
        match (self, Self::new(rule)) {
            (Self::Requests(rate, bucket), Self::Requests(new, _)) | (Self::Tokens(rate, bucket), Self::Tokens(new, _)) => {
                bucket.drain(rate, now.monotonic);
                *rate = new;
            }
            (Self::Concurrent { limit, .. }, Self::Concurrent { limit: new, .. }) => *limit = new,
            (Self::Usd(budget, spending), Self::Usd(new, _)) => {
                spending.advance(budget, now.wall);
                *budget = new;
            }
            (meter, new) => *meter = new,
        }
    }

    fn dimension(&self) -> Dimension {
        match self {
            Self::Requests(..) => Dimension::Requests,
            Self::Tokens(..) => Dimension::Tokens,
            Self::Concurrent { .. } => Dimension::Concurrent,
            Self::Usd(..) => Dimension::Usd,
        }
    }

    fn check(&self, tokens: u64, now: Times) -> Result<(), Wait> {
        let wait = |time| Wait::After(Duration::from_nanos(time));
        match self {
            Self::Requests(rate, bucket) => bucket.check(rate, 1, now.monotonic).map_err(wait),
            Self::Tokens(rate, bucket) => bucket.check(rate, tokens, now.monotonic).map_err(wait),
            Self::Concurrent { limit, in_flight } if in_flight < limit => Ok(()),
            Self::Concurrent { .. } => Err(Wait::After(IN_FLIGHT_WAIT)),
            Self::Usd(budget, spending) => spending.check(budget, now.wall).map_err(|short| match short {
                BudgetExhausted::Spent => Wait::Never,
                BudgetExhausted::Reserved => Wait::After(IN_FLIGHT_WAIT),
            }),
        }
    }

    fn reserve(&mut self, estimate: &Estimate, now: Times) {
        match self {
            Self::Requests(rate, bucket) => bucket.charge(rate, 1, now.monotonic),
            Self::Tokens(_, bucket) => bucket.reserve(estimate.tokens),
            Self::Concurrent { in_flight, .. } => *in_flight = in_flight.saturating_add(1),
            Self::Usd(_, spending) => spending.reserve(estimate.micro_usd),
        }
    }

    /// Releases the reservation of an estimate.
    fn release(&mut self, estimate: &Estimate) {
        match self {
            Self::Tokens(_, bucket) => bucket.release(estimate.tokens),
            Self::Usd(_, spending) => spending.release(estimate.micro_usd),
            Self::Requests(..) | Self::Concurrent { .. } => {}
        }
    }

    fn charge(&mut self, used: &Used, now: Times) {
        match self {
            Self::Tokens(rate, bucket) => bucket.charge(rate, used.tokens, now.monotonic),
            Self::Usd(budget, spending) => spending.charge(budget, used.micro_usd, now.wall),
            Self::Requests(..) | Self::Concurrent { .. } => {}
        }
    }

    fn end_request(&mut self) {
        if let Self::Concurrent { in_flight, .. } = self {
            *in_flight = in_flight.saturating_sub(1);
        }
    }

    fn limit(&self) -> u64 {
        match self {
            Self::Requests(rate, _) | Self::Tokens(rate, _) => rate.burst(),
            Self::Concurrent { limit, .. } => *limit,
            Self::Usd(budget, _) => budget.ceiling(),
        }
    }

    fn status(&self, now: Times) -> LimitStatus {
        let limit = self.limit();
        match self {
            Self::Requests(rate, bucket) | Self::Tokens(rate, bucket) => LimitStatus {
                limit,
                used: bucket.used(rate, now.monotonic),
                reserved: bucket.reserved(),
                remaining: bucket.remaining(rate, now.monotonic),
                reset: Duration::from_nanos(bucket.reset(rate, now.monotonic)),
            },
            Self::Concurrent { limit, in_flight } => LimitStatus {
                limit: *limit,
                used: *in_flight,
                reserved: 0,
                remaining: limit.saturating_sub(*in_flight),
                reset: Duration::ZERO,
            },
            Self::Usd(budget, spending) => LimitStatus {
                limit,
                used: spending.spent(budget, now.wall),
                reserved: spending.reserved(),
                remaining: spending.remaining(budget, now.wall),
                reset: Duration::from_nanos(budget.reset(now.wall)),
            },
        }
    }
}

#[derive(Debug)]
struct Cell {
    id: LimitId,
    meter: Mutex<Meter>,
}

/// Name and rules of each member of a scope, in snapshot order.
pub type Rules<'a> = Vec<(Arc<str>, &'a [LimitRule])>;

/// All limits of one configuration.
#[derive(Debug, Default)]
pub struct Limiter {
    cells: Vec<Arc<Cell>>,
    /// The rule of each cell.
    rules: Vec<LimitRule>,
    /// For each scope, the cells of each member.
    members: [Vec<Range<usize>>; 4],
    /// Offset to the wall clock.
    wall: Arc<WallOffset>,
    averages: Vec<(Arc<str>, Arc<Averages>)>,
}

impl Limiter {
    /// The limits of a new configuration, with the states of the previous one. Changed amounts apply at once, also to
    /// requests admitted earlier: call it only when the new configuration can no longer be rejected.
    pub fn new(rules: [Rules<'_>; 4], previous: Option<&Self>, clock: &Clock) -> Self {
        Self { wall: clock.wall(), ..Self::with(rules, previous, clock.now()) }
    }

    /// [`Limiter::new`] at a given time. `rules` are in the order of [`Scope::ALL`].
    pub fn with(rules: [Rules<'_>; 4], previous: Option<&Self>, now: u64) -> Self {
        let mut previous_cells: HashMap<&LimitId, &Arc<Cell>> =
            previous.iter().flat_map(|limiter| &limiter.cells).map(|cell| (&cell.id, cell)).collect();
        let mut limiter = Self { wall: previous.map(|p| Arc::clone(&p.wall)).unwrap_or_default(), ..Self::default() };
        let now = limiter.times(now);
        for ((scope, members), ranges) in Scope::ALL.iter().copied().zip(&rules).zip(&mut limiter.members) {
            for (name, rules) in members {
                let begin = limiter.cells.len();
                let mut cells: Vec<(Arc<Cell>, LimitRule)> = Vec::with_capacity(rules.len());
                for rule in *rules {
                    let per = if rule.dimension == Dimension::Concurrent { Duration::ZERO } else { rule.per };
                    let mut id = LimitId { scope, name: Arc::clone(name), dimension: rule.dimension as u8, per, ordinal: 0 };
                    while cells.iter().any(|(cell, _)| cell.id == id) {
                        id.ordinal += 1;
                    }
                    let cell = match previous_cells.remove(&id) {
                        Some(cell) => {
                            cell.meter.lock().set_rule(rule, now);
                            Arc::clone(cell)
                        }
                        None => Arc::new(Cell { id, meter: Mutex::new(Meter::new(rule)) }),
                    };
                    cells.push((cell, *rule));
                }
                cells.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
                for (cell, rule) in cells {
                    limiter.cells.push(cell);
                    limiter.rules.push(rule);
                }
                ranges.push(begin..limiter.cells.len());
            }
        }
        let [_, _, routes, _] = rules;
        let learned =
            |name: &Arc<str>| previous?.averages.iter().find(|(known, _)| known == name).map(|(_, averages)| Arc::clone(averages));
        limiter.averages = routes.into_iter().map(|(name, _)| (Arc::clone(&name), learned(&name).unwrap_or_default())).collect();
        limiter
    }

    /// The cells of one member; empty if it has none.
    pub(super) fn range(&self, scope: Scope, member: Option<usize>) -> Range<usize> {
        member.and_then(|index| self.members.get(scope as usize)?.get(index)).cloned().unwrap_or_default()
    }

    /// Id and rule of every limit, in the order of [`Limiter::range`].
    pub(super) fn rules(&self) -> impl Iterator<Item = (&LimitId, &LimitRule)> {
        self.cells.iter().map(|cell| &cell.id).zip(&self.rules)
    }

    fn times(&self, now: u64) -> Times {
        Times { monotonic: now, wall: self.wall.at(now) }
    }

    fn of(&self, scope: Scope, member: Option<usize>) -> &[Arc<Cell>] {
        self.cells.get(self.range(scope, member)).unwrap_or_default()
    }

    /// Whether key and team would admit one more request of minimal size. Charges nothing.
    ///
    /// # Errors
    /// The limit with the longest wait.
    pub fn peek(&self, subject: &Subject, now: u64) -> Result<(), LimitExceeded> {
        let now = self.times(now);
        check_all(&lock([self.of(Scope::Key, subject.key), self.of(Scope::Team, subject.team), &[]], now), 1, now)
    }

    /// Charges one request to all limits of its key, team and route, or to none.
    ///
    /// # Errors
    /// The limit with the longest wait.
    pub fn admit(self: &Arc<Self>, subject: &Subject, route: usize, estimate: Estimate, now: u64) -> Result<Permit, LimitExceeded> {
        let groups = [self.of(Scope::Key, subject.key), self.of(Scope::Team, subject.team), self.of(Scope::Route, Some(route))];
        Ok(Permit::new(self, *subject, route, estimate, Counted::Local, charge_all(groups, &estimate, self.times(now))?))
    }

    /// Charges one attempt to all limits of a provider, or to none.
    pub(super) fn enter(&self, provider: usize, estimate: &Estimate, now: u64) -> Result<Admission, LimitExceeded> {
        charge_all([self.of(Scope::Provider, Some(provider)), &[], &[]], estimate, self.times(now))
    }

    /// Replaces reservations by actual usage.
    pub(super) fn settle(&self, cells: Range<usize>, estimate: &Estimate, used: &Used, now: u64) {
        let now = self.times(now);
        for cell in self.cells.get(cells).unwrap_or_default() {
            let mut meter = cell.meter.lock();
            meter.release(estimate);
            meter.charge(used, now);
        }
    }

    /// Releases in-flight slots, and reservations that are not settled.
    pub(super) fn release(&self, cells: Range<usize>, unsettled: Option<&Estimate>) {
        for cell in self.cells.get(cells).unwrap_or_default() {
            let mut meter = cell.meter.lock();
            if let Some(estimate) = unsettled {
                meter.release(estimate);
            }
            meter.end_request();
        }
    }

    /// Estimated usage of a request.
    pub fn estimate(&self, route: usize, request: &RequestSize, price: Option<&Price>) -> Estimate {
        self.averages.get(route).map(|(_, averages)| averages.estimate(request, price)).unwrap_or_default()
    }

    /// The estimate by kind of token, for responses that ended before the provider reported usage.
    pub fn usage(&self, route: usize, request: &RequestSize) -> Usage {
        self.averages.get(route).map(|(_, averages)| averages.usage(request)).unwrap_or_default()
    }

    /// Updates the averages of a route with usage that a provider reported.
    pub fn learn(&self, route: usize, request: &RequestSize, used: &Usage) {
        if let Some((_, averages)) = self.averages.get(route) {
            averages.learn(request, used);
        }
    }

    /// State of every limit, in the order of scopes and members.
    pub fn statuses(&self, now: u64) -> impl Iterator<Item = (&LimitId, Dimension, LimitStatus)> {
        let now = self.times(now);
        self.cells.iter().map(move |cell| {
            let meter = *cell.meter.lock();
            (&cell.id, meter.dimension(), meter.status(now))
        })
    }
}

/// Locked limits of a request, on the stack up to eight.
type Locked<'a> = SmallVec<[(&'a Cell, MutexGuard<'a, Meter>); 8]>;

/// Locks the limits and advances budgets to the current period, even if nothing will be charged.
fn lock(groups: [&[Arc<Cell>]; 3], now: Times) -> Locked<'_> {
    let mut locked: Locked<'_> = groups.into_iter().flatten().map(|cell| (cell.as_ref(), cell.meter.lock())).collect();
    for (_, meter) in &mut locked {
        if let Meter::Usd(budget, spending) = &mut **meter {
            spending.advance(budget, now.wall);
        }
    }
    locked
}

fn charge_all(groups: [&[Arc<Cell>]; 3], estimate: &Estimate, now: Times) -> Result<Admission, LimitExceeded> {
    let mut locked = lock(groups, now);
    check_all(&locked, estimate.tokens, now)?;
    let mut kinds = LimitSet::default();
    for (cell, meter) in &mut locked {
        meter.reserve(estimate, now);
        kinds.insert(cell.id.scope, meter.dimension());
    }
    Ok(Admission { headers: headers(&locked, now), kinds })
}

fn check_all(locked: &Locked<'_>, tokens: u64, now: Times) -> Result<(), LimitExceeded> {
    let exceeded = locked.iter().filter_map(|(cell, meter)| Some((meter.check(tokens, now).err()?, cell, meter)));
    let Some((wait, cell, meter)) = exceeded.max_by_key(|(wait, ..)| *wait) else { return Ok(()) };
    let retry_after = match wait {
        Wait::After(time) => Some(whole_milliseconds(time)),
        Wait::Never => None,
    };
    let LimitId { scope, per, .. } = cell.id;
    let renews_in = match &**meter {
        Meter::Usd(budget, spending) => Duration::from_nanos(spending.renews_in(budget, now.wall)),
        _ => Duration::ZERO,
    };
    let (dimension, limit) = (meter.dimension(), meter.limit());
    Err(LimitExceeded { scope, dimension, limit, per, retry_after, renews_in, headers: Box::new(headers(locked, now)) })
}

fn headers(locked: &Locked<'_>, now: Times) -> LimitHeaders {
    let mut headers = LimitHeaders::default();
    for (_, meter) in locked {
        headers.add(meter.dimension(), || meter.status(now));
    }
    headers
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
