//! Limits counted in this process: one state per configured limit, found by index.
//!
//! All limits of a request are decided together: locked in a fixed order (key, team, route, provider, and by id within
//! each), checked, then charged. So none is charged if one rejects, no request is rejected because of a charge that is
//! rolled back, and lock order is the same for all configurations, which rules out deadlocks. Locks are never locked
//! across an await.
//!
//! A member's limits that are confined to routes stand behind its others, and are looked at only where there are any.
//!
//! States survive a reload by id: scope, name, routes, dimension and period. Changing amount or burst keeps the amount used;
//! changing the period or the routes makes a new limit.

use super::budget::{Budget, BudgetExhausted, Spending};
use super::estimate::{Averages, Estimate, RequestSize};
use super::gcra::{Bucket, Rate};
use super::headers::{LimitHeaders, LimitStatus};
use super::permit::{Charge, Counted, Permit};
use super::warn::{Crossing, QUIET_CONCURRENT, Warnings};
use super::{Admission, Clock, IN_FLIGHT_WAIT, LimitExceeded, LimitSet, Scope, Subject, Used, WallOffset, whole_milliseconds};
use crate::account::Price;
use crate::limit::rule::{Dimension, Limit, LimitPeriod, LimitRule, RouteNames};
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
    /// The routes that it is confined to; `None`, which is ordered before all others, for all.
    pub routes: Option<RouteNames>,
    /// The counted quantity.
    pub dimension: Dimension,
    /// The period.
    pub per: LimitPeriod,
    /// Distinguishes limits of one member that are equal in all other fields.
    pub(super) ordinal: u32,
}

/// The state of one limit.
#[derive(Clone, Copy, Debug)]
struct Meter {
    dimension: Dimension,
    count: Count,
    /// The used amount to warn of; 0 for none.
    mark: u64,
    crossing: Crossing,
}

/// What a limit has counted, by the way in which it is renewed.
#[derive(Clone, Copy, Debug)]
enum Count {
    Smooth(Rate, Bucket),
    InFlight { limit: u64, in_flight: u64 },
    Window(Budget, Spending),
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

impl Count {
    fn new(rule: &LimitRule) -> Self {
        let LimitRule { amount, burst, .. } = *rule;
        match rule.per {
            LimitPeriod::None => Self::InFlight { limit: amount, in_flight: 0 },
            LimitPeriod::Smooth(period) => Self::Smooth(Rate::new(amount, nanoseconds(period), burst), Bucket::default()),
            LimitPeriod::Window(period) => Self::Window(Budget::new(amount, nanoseconds(period), burst), Spending::default()),
        }
    }
}

impl Meter {
    fn new(rule: &LimitRule) -> Self {
        let mark = rule.mark().unwrap_or_default();
        Self { dimension: rule.dimension, count: Count::new(rule), mark, crossing: Crossing::default() }
    }

    /// Applies a new rule of the same dimension and period.
    fn set_rule(&mut self, rule: &LimitRule, now: Times) {
        self.mark = rule.mark().unwrap_or_default();
        match (&mut self.count, Count::new(rule)) {
            (Count::Smooth(rate, bucket), Count::Smooth(new, _)) => {
                bucket.drain(rate, now.monotonic);
                *rate = new;
            }
            (Count::InFlight { limit, .. }, Count::InFlight { limit: new, .. }) => *limit = new,
            (Count::Window(budget, spending), Count::Window(new, _)) => {
                spending.advance(budget, now.wall);
                *budget = new;
            }
            (count, new) => *count = new,
        }
    }

    /// Advances a window to the current one, even if nothing will be charged.
    fn advance(&mut self, now: Times) {
        if let Count::Window(budget, spending) = &mut self.count {
            spending.advance(budget, now.wall);
        }
    }

    fn check(&self, tokens: u64, now: Times) -> Result<(), Wait> {
        let nanos = Duration::from_nanos;
        match &self.count {
            Count::Smooth(rate, bucket) => {
                let cost = if self.dimension == Dimension::Requests { 1 } else { tokens };
                bucket.check(rate, cost, now.monotonic).map_err(|time| Wait::After(nanos(time)))
            }
            Count::InFlight { limit, in_flight } if in_flight < limit => Ok(()),
            Count::InFlight { .. } => Err(Wait::After(IN_FLIGHT_WAIT)),
            Count::Window(budget, spending) => spending.check(budget, now.wall).map_err(|short| match short {
                BudgetExhausted::Spent if self.dimension == Dimension::Usd => Wait::Never,
                BudgetExhausted::Spent => Wait::After(nanos(spending.renews_in(budget, now.wall))),
                BudgetExhausted::Reserved => Wait::After(IN_FLIGHT_WAIT),
            }),
        }
    }

    /// Time until a spent window is renewed; zero for others.
    fn renews_in(&self, now: Times) -> Duration {
        match &self.count {
            Count::Window(budget, spending) if spending.check(budget, now.wall) == Err(BudgetExhausted::Spent) => {
                Duration::from_nanos(spending.renews_in(budget, now.wall))
            }
            _ => Duration::ZERO,
        }
    }

    /// Charges a request, and reserves what is only estimated of it. Returns whether to warn.
    fn reserve(&mut self, estimate: &Estimate, now: Times) -> bool {
        let Some(amount) = estimate.of(self.dimension) else { return self.add(1, now) };
        match &mut self.count {
            Count::Smooth(_, bucket) => bucket.reserve(amount),
            Count::Window(_, spending) => spending.reserve(amount),
            Count::InFlight { .. } => {}
        }
        false
    }

    /// Releases the reservation of an estimate.
    fn release(&mut self, estimate: &Estimate) {
        let Some(reserved) = estimate.of(self.dimension) else { return };
        match &mut self.count {
            Count::Smooth(_, bucket) => bucket.release(reserved),
            Count::Window(_, spending) => spending.release(reserved),
            Count::InFlight { .. } => {}
        }
    }

    /// Charges actual usage. Returns whether to warn.
    fn charge(&mut self, used: &Used, now: Times) -> bool {
        used.of(self.dimension).is_some_and(|amount| self.add(amount, now))
    }

    /// Adds to what is used. Returns whether to warn.
    fn add(&mut self, amount: u64, now: Times) -> bool {
        if self.mark == 0 {
            self.add_to_count(amount, now);
            return false;
        }
        let before = self.used(now);
        self.add_to_count(amount, now);
        let after = self.used(now);
        match &self.count {
            Count::Window(budget, _) => self.crossing.in_window(after, self.mark, budget.end(now.wall)),
            Count::Smooth(rate, _) => self.crossing.upwards((before, after), self.mark, now.monotonic, rate.period()),
            Count::InFlight { .. } => self.crossing.upwards((before, after), self.mark, now.monotonic, QUIET_CONCURRENT),
        }
    }

    fn add_to_count(&mut self, amount: u64, now: Times) {
        match &mut self.count {
            Count::Smooth(rate, bucket) => bucket.charge(rate, amount, now.monotonic),
            Count::InFlight { in_flight, .. } => *in_flight = in_flight.saturating_add(amount),
            Count::Window(budget, spending) => spending.charge(budget, amount, now.wall),
        }
    }

    fn end_request(&mut self) {
        if let Count::InFlight { in_flight, .. } = &mut self.count {
            *in_flight = in_flight.saturating_sub(1);
        }
    }

    /// Used amount, without reservations.
    fn used(&self, now: Times) -> u64 {
        match &self.count {
            Count::Smooth(rate, bucket) => bucket.used(rate, now.monotonic),
            Count::InFlight { in_flight, .. } => *in_flight,
            Count::Window(budget, spending) => spending.spent(budget, now.wall),
        }
    }

    fn limit(&self) -> u64 {
        match &self.count {
            Count::Smooth(rate, _) => rate.burst(),
            Count::InFlight { limit, .. } => *limit,
            Count::Window(budget, _) => budget.ceiling(),
        }
    }

    fn status(&self, now: Times) -> LimitStatus {
        let (reserved, remaining, reset) = match &self.count {
            Count::Smooth(rate, bucket) => (bucket.reserved(), bucket.remaining(rate, now.monotonic), bucket.reset(rate, now.monotonic)),
            Count::InFlight { limit, in_flight } => (0, limit.saturating_sub(*in_flight), 0),
            Count::Window(budget, spending) => (spending.reserved(), spending.remaining(budget, now.wall), budget.reset(now.wall)),
        };
        LimitStatus { limit: self.limit(), used: self.used(now), reserved, remaining, reset: Duration::from_nanos(reset) }
    }
}

#[derive(Debug)]
struct Cell {
    id: LimitId,
    meter: Mutex<Meter>,
    warnings: Arc<Warnings>,
}

/// Name and rules of each member of a scope, in snapshot order.
pub type Rules<'a> = Vec<(Arc<str>, &'a [Limit])>;

/// All limits of one configuration.
#[derive(Debug, Default)]
pub struct Limiter {
    cells: Vec<Arc<Cell>>,
    /// What is configured for each cell.
    limits: Vec<Limit>,
    /// For each scope, the cells of each member.
    members: [Vec<Member>; 4],
    /// Offset to the wall clock.
    wall: Arc<WallOffset>,
    averages: Vec<(Arc<str>, Arc<Averages>)>,
}

/// The cells of a member: those for all routes from `begin`, those for some from `confined`, up to `end`.
#[derive(Clone, Copy, Debug)]
struct Member {
    begin: usize,
    confined: usize,
    end: usize,
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
        for ((scope, members), places) in Scope::ALL.iter().copied().zip(&rules).zip(&mut limiter.members) {
            for (name, limits) in members {
                let begin = limiter.cells.len();
                let mut cells: Vec<(Arc<Cell>, &Limit)> = Vec::with_capacity(limits.len());
                for limit in *limits {
                    let (rule, routes) = (limit.rule, limit.routes.as_ref().map(|routes| routes.names.clone()));
                    let mut id = LimitId { scope, name: Arc::clone(name), routes, dimension: rule.dimension, per: rule.per, ordinal: 0 };
                    while cells.iter().any(|(cell, _)| cell.id == id) {
                        id.ordinal += 1;
                    }
                    let cell = match previous_cells.remove(&id) {
                        Some(cell) => {
                            cell.meter.lock().set_rule(&rule, now);
                            Arc::clone(cell)
                        }
                        None => Arc::new(Cell { id, meter: Mutex::new(Meter::new(&rule)), warnings: Arc::default() }),
                    };
                    cells.push((cell, limit));
                }
                cells.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
                let confined = begin + cells.iter().filter(|(_, limit)| limit.routes.is_none()).count();
                places.push(Member { begin, confined, end: begin + cells.len() });
                for (cell, limit) in cells {
                    limiter.cells.push(cell);
                    limiter.limits.push(limit.clone());
                }
            }
        }
        let [_, _, routes, _] = rules;
        let learned =
            |name: &Arc<str>| previous?.averages.iter().find(|(known, _)| known == name).map(|(_, averages)| Arc::clone(averages));
        limiter.averages = routes.into_iter().map(|(name, _)| (Arc::clone(&name), learned(&name).unwrap_or_default())).collect();
        limiter
    }

    fn member(&self, scope: Scope, index: Option<usize>) -> Option<&Member> {
        self.members.get(scope as usize)?.get(index?)
    }

    /// Visits the cells of a request by index, in lock order: those of its key, its team and its route. Where the route is not
    /// known yet, those that apply whatever it is.
    pub(super) fn each_own(&self, subject: &Subject, route: Option<usize>, mut visit: impl FnMut(usize)) {
        for (scope, index) in [(Scope::Key, subject.key), (Scope::Team, subject.team), (Scope::Route, route)] {
            let Some(member) = self.member(scope, index) else { continue };
            (member.begin..member.confined).for_each(&mut visit);
            for cell in member.confined..member.end {
                let routes = self.limits.get(cell).and_then(|limit| limit.routes.as_ref());
                if routes.zip(route).is_some_and(|(routes, route)| routes.set.has(route)) {
                    visit(cell);
                }
            }
        }
    }

    /// The cells of a provider; empty if it has none.
    pub(super) fn of_provider(&self, provider: usize) -> Range<usize> {
        self.member(Scope::Provider, Some(provider)).map_or(0..0, |member| member.begin..member.end)
    }

    /// Id, rule and warnings of every limit, by index.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&LimitId, &LimitRule, &Arc<Warnings>)> {
        self.cells.iter().zip(&self.limits).map(|(cell, limit)| (&cell.id, &limit.rule, &cell.warnings))
    }

    fn times(&self, now: u64) -> Times {
        Times { monotonic: now, wall: self.wall.at(now) }
    }

    /// Locks a cell and appends it to `locked`.
    fn lock<'a>(&'a self, locked: &mut Locked<'a>, index: usize, now: Times) {
        if let Some(cell) = self.cells.get(index) {
            let mut meter = cell.meter.lock();
            meter.advance(now);
            locked.push((index, cell, meter));
        }
    }

    fn lock_own(&self, subject: &Subject, route: Option<usize>, now: Times) -> Locked<'_> {
        let mut locked = Locked::new();
        self.each_own(subject, route, |index| self.lock(&mut locked, index, now));
        locked
    }

    /// Whether key and team would admit one more request of minimal size, whatever its route. Charges nothing.
    ///
    /// # Errors
    /// The limit with the longest wait.
    pub fn peek(&self, subject: &Subject, now: u64) -> Result<(), LimitExceeded> {
        let now = self.times(now);
        check_all(&self.lock_own(subject, None, now), 1, now)
    }

    /// Charges one request to all limits of its key, team and route, or to none.
    ///
    /// # Errors
    /// The limit with the longest wait.
    pub fn admit(self: &Arc<Self>, subject: &Subject, route: usize, estimate: Estimate, now: u64) -> Result<Permit, LimitExceeded> {
        let now = self.times(now);
        let admission = self.charge_all(self.lock_own(subject, Some(route), now), &estimate, now)?;
        Ok(Permit::new(self, Charge { subject: *subject, route, estimate }, Counted::Local, admission))
    }

    /// Charges one attempt to all limits of a provider, or to none.
    pub(super) fn enter(&self, provider: usize, estimate: &Estimate, now: u64) -> Result<Admission, LimitExceeded> {
        let now = self.times(now);
        let mut locked = Locked::new();
        self.of_provider(provider).for_each(|index| self.lock(&mut locked, index, now));
        self.charge_all(locked, estimate, now)
    }

    /// Charges all of these limits, or none.
    fn charge_all(&self, mut locked: Locked<'_>, estimate: &Estimate, now: Times) -> Result<Admission, LimitExceeded> {
        check_all(&locked, estimate.tokens, now)?;
        let (mut kinds, mut warned) = (LimitSet::default(), Vec::new());
        for (index, cell, meter) in &mut locked {
            if meter.reserve(estimate, now) {
                warned.push(*index);
            }
            kinds.insert(cell.id.scope, cell.id.dimension);
        }
        let admission = Admission { headers: headers(&locked, now), kinds };
        drop(locked);
        warned.into_iter().for_each(|index| self.warn(index));
        Ok(admission)
    }

    fn warn(&self, index: usize) {
        if let (Some(cell), Some(limit)) = (self.cells.get(index), self.limits.get(index)) {
            cell.warnings.record(&cell.id, &limit.rule);
        }
    }

    /// Replaces a reservation by actual usage.
    pub(super) fn settle(&self, index: usize, estimate: &Estimate, used: &Used, now: u64) {
        let Some(cell) = self.cells.get(index) else { return };
        let mut meter = cell.meter.lock();
        meter.release(estimate);
        let warns = meter.charge(used, self.times(now));
        drop(meter);
        if warns {
            self.warn(index);
        }
    }

    /// Releases an in-flight slot, and a reservation that is not settled.
    pub(super) fn release(&self, index: usize, unsettled: Option<&Estimate>) {
        let Some(cell) = self.cells.get(index) else { return };
        let mut meter = cell.meter.lock();
        if let Some(estimate) = unsettled {
            meter.release(estimate);
        }
        meter.end_request();
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
    pub fn statuses(&self, now: u64) -> impl Iterator<Item = (&LimitId, LimitStatus)> {
        let now = self.times(now);
        self.cells.iter().map(move |cell| {
            let meter = *cell.meter.lock();
            (&cell.id, meter.status(now))
        })
    }

    /// The share in percent at which a limit warns and how often it has, in the order of [`Limiter::statuses`]; `None` for
    /// those that do not.
    pub fn warnings(&self) -> impl Iterator<Item = Option<(u8, u64)>> {
        self.rules().map(|(_, rule, warnings)| rule.warn.map(|percent| (percent, warnings.count())))
    }
}

/// Locked limits of a request, on the stack up to eight.
type Locked<'a> = SmallVec<[(usize, &'a Cell, MutexGuard<'a, Meter>); 8]>;

fn check_all(locked: &Locked<'_>, tokens: u64, now: Times) -> Result<(), LimitExceeded> {
    let exceeded = locked.iter().filter_map(|(_, cell, meter)| Some((meter.check(tokens, now).err()?, cell, meter)));
    let Some((wait, cell, meter)) = exceeded.max_by_key(|(wait, ..)| *wait) else { return Ok(()) };
    let retry_after = match wait {
        Wait::After(time) => Some(whole_milliseconds(time)),
        Wait::Never => None,
    };
    Err(LimitExceeded::new(&cell.id, meter.limit(), (retry_after, meter.renews_in(now)), headers(locked, now)))
}

fn headers(locked: &Locked<'_>, now: Times) -> LimitHeaders {
    let mut headers = LimitHeaders::default();
    for (_, cell, meter) in locked {
        headers.add(&cell.id, || meter.status(now));
    }
    headers
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
