//! One process's limits: a state for each configured limit, allocated with the configuration, found by index.
//!
//! All limits of a request are decided together. Their states are locked one after the other, always key before team
//! before route before provider and in the order of their identities within each, then asked, then charged: so none is
//! charged when one refuses, no request is refused because of a charge that is about to be rolled back, and no two
//! requests can wait for each other, whatever configuration each of them began with. A lock is held for a few integer
//! operations and never across an await.
//!
//! States outlive a reload by identity: scope, name, dimension and period. A changed amount or burst keeps what has been
//! used, in absolute terms; a changed period is another limit.

use super::budget::{Budget, Short, Spending};
use super::estimate::{Averages, Estimate, Prospect};
use super::gcra::{Bucket, Rate};
use super::headers::{LimitHeaders, Standing};
use super::permit::{Counted, Permit};
use super::{Clock, Granted, IN_FLIGHT_WAIT, Kinds, Refusal, Scope, Subject, Used, WallOffset, nanoseconds, whole_milliseconds};
use crate::account::Price;
use crate::limit::rule::{Dimension, LimitRule};
use crate::llm::usage::Usage;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What makes a limit the same one after a reload. Its order is the order of locking.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Whose it is.
    pub scope: Scope,
    /// Name of the team, route or provider, or id of the key.
    pub name: Arc<str>,
    /// Number of the dimension in [`super::DIMENSIONS`].
    dimension: u8,
    /// The period; zero for `concurrent`.
    pub per: Duration,
    /// Tells apart limits of one scope that are alike in all of the above.
    ordinal: u32,
}

impl Identity {
    /// The dimension's number, the period in nanoseconds and the ordinal; with scope and name they are all of it.
    pub(super) fn numbers(&self) -> (u8, u64, u32) {
        (self.dimension, nanoseconds(self.per), self.ordinal)
    }
}

/// What a limit counts with.
#[derive(Clone, Copy, Debug)]
enum Meter {
    Requests(Rate, Bucket),
    Tokens(Rate, Bucket),
    Concurrent { limit: u64, open: u64 },
    Usd(Budget, Spending),
}

/// One moment on both clocks, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// For what refills or is measured.
    steady: u64,
    /// For the periods of budgets, which begin by the calendar.
    wall: u64,
}

/// How long a limit would have a request wait; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    Time(Duration),
    Useless,
}

impl Meter {
    fn new(rule: &LimitRule) -> Self {
        let period = nanoseconds(rule.per);
        match rule.dimension {
            Dimension::Requests => Self::Requests(Rate::new(rule.amount, period, rule.burst), Bucket::default()),
            Dimension::Tokens => Self::Tokens(Rate::new(rule.amount, period, rule.burst), Bucket::default()),
            Dimension::Concurrent => Self::Concurrent { limit: rule.amount, open: 0 },
            Dimension::Usd => Self::Usd(Budget::new(rule.amount, period, rule.burst), Spending::default()),
        }
    }

    /// Counts on under a new rule of the same dimension and period.
    fn retune(&mut self, rule: &LimitRule, now: Times) {
        match (self, Self::new(rule)) {
            (Self::Requests(rate, bucket), Self::Requests(new, _)) | (Self::Tokens(rate, bucket), Self::Tokens(new, _)) => {
                bucket.drain(rate, now.steady);
                *rate = new;
            }
            (Self::Concurrent { limit, .. }, Self::Concurrent { limit: new, .. }) => *limit = new,
            (Self::Usd(budget, spending), Self::Usd(new, _)) => {
                spending.turn(budget, now.wall);
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

    fn ask(&self, tokens: u64, now: Times) -> Result<(), Wait> {
        let wait = |time| Wait::Time(Duration::from_nanos(time));
        match self {
            Self::Requests(rate, bucket) => bucket.ask(rate, 1, now.steady).map_err(wait),
            Self::Tokens(rate, bucket) => bucket.ask(rate, tokens, now.steady).map_err(wait),
            Self::Concurrent { limit, open } if open < limit => Ok(()),
            Self::Concurrent { .. } => Err(Wait::Time(IN_FLIGHT_WAIT)),
            Self::Usd(budget, spending) => spending.ask(budget, now.wall).map_err(|short| match short {
                Short::Spent => Wait::Useless,
                Short::Reserved => Wait::Time(IN_FLIGHT_WAIT),
            }),
        }
    }

    fn take(&mut self, estimate: &Estimate, now: Times) {
        match self {
            Self::Requests(rate, bucket) => bucket.charge(rate, 1, now.steady),
            Self::Tokens(_, bucket) => bucket.reserve(estimate.tokens),
            Self::Concurrent { open, .. } => *open = open.saturating_add(1),
            Self::Usd(_, spending) => spending.reserve(estimate.micro_usd),
        }
    }

    /// Gives the estimate back. What was asked for stays counted as a request.
    fn release(&mut self, estimate: &Estimate) {
        match self {
            Self::Tokens(_, bucket) => bucket.release(estimate.tokens),
            Self::Usd(_, spending) => spending.release(estimate.micro_usd),
            Self::Requests(..) | Self::Concurrent { .. } => {}
        }
    }

    fn charge(&mut self, used: &Used, now: Times) {
        match self {
            Self::Tokens(rate, bucket) => bucket.charge(rate, used.tokens, now.steady),
            Self::Usd(budget, spending) => spending.charge(budget, used.micro_usd, now.wall),
            Self::Requests(..) | Self::Concurrent { .. } => {}
        }
    }

    fn leave(&mut self) {
        if let Self::Concurrent { open, .. } = self {
            *open = open.saturating_sub(1);
        }
    }

    fn limit(&self) -> u64 {
        match self {
            Self::Requests(rate, _) | Self::Tokens(rate, _) => rate.burst(),
            Self::Concurrent { limit, .. } => *limit,
            Self::Usd(budget, _) => budget.ceiling(),
        }
    }

    fn standing(&self, now: Times) -> Standing {
        let limit = self.limit();
        match self {
            Self::Requests(rate, bucket) | Self::Tokens(rate, bucket) => Standing {
                limit,
                used: bucket.used(rate, now.steady),
                reserved: bucket.reserved(),
                remaining: bucket.remaining(rate, now.steady),
                reset: Duration::from_nanos(bucket.reset(rate, now.steady)),
            },
            Self::Concurrent { limit, open } => {
                Standing { limit: *limit, used: *open, reserved: 0, remaining: limit.saturating_sub(*open), reset: Duration::ZERO }
            }
            Self::Usd(budget, spending) => Standing {
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
    identity: Identity,
    meter: Mutex<Meter>,
}

/// The limits of one kind of scope: the name and rules of each member, in the order of the snapshot.
pub type Rules<'a> = Vec<(Arc<str>, &'a [LimitRule])>;

/// All limits of one configuration.
#[derive(Debug, Default)]
pub struct Limiter {
    cells: Vec<Arc<Cell>>,
    /// The rule of each cell in this configuration.
    rules: Vec<LimitRule>,
    /// For each scope, the cells of each of its members.
    members: [Vec<Range<usize>>; 4],
    /// From the time that is passed in to the wall clock.
    wall: Arc<WallOffset>,
    averages: Vec<(Arc<str>, Arc<Averages>)>,
}

impl Limiter {
    /// The limits of a configuration that is about to be used, with the states of the one before it.
    ///
    /// Amounts that the new configuration changes hold at once, also for requests that began under the old one; so call
    /// it only when nothing can refuse the new configuration any more.
    pub fn new(rules: [Rules<'_>; 4], previous: Option<&Self>, clock: &Clock) -> Self {
        Self { wall: clock.wall(), ..Self::with(rules, previous, clock.now()) }
    }

    /// The same at another time. The rules are those of keys, teams, routes and providers, the order of [`Scope::ALL`].
    pub fn with(rules: [Rules<'_>; 4], previous: Option<&Self>, now: u64) -> Self {
        let mut known: HashMap<&Identity, &Arc<Cell>> =
            previous.iter().flat_map(|limiter| &limiter.cells).map(|cell| (&cell.identity, cell)).collect();
        let mut limiter = Self { wall: previous.map(|p| Arc::clone(&p.wall)).unwrap_or_default(), ..Self::default() };
        let now = limiter.times(now);
        for ((scope, members), ranges) in Scope::ALL.into_iter().zip(&rules).zip(&mut limiter.members) {
            for (name, rules) in members {
                let begin = limiter.cells.len();
                let mut made: Vec<(Arc<Cell>, LimitRule)> = Vec::with_capacity(rules.len());
                for rule in *rules {
                    let per = if rule.dimension == Dimension::Concurrent { Duration::ZERO } else { rule.per };
                    let mut identity = Identity { scope, name: Arc::clone(name), dimension: rule.dimension as u8, per, ordinal: 0 };
                    while made.iter().any(|(cell, _)| cell.identity == identity) {
                        identity.ordinal += 1;
                    }
                    let cell = match known.remove(&identity) {
                        Some(cell) => {
                            cell.meter.lock().retune(rule, now);
                            Arc::clone(cell)
                        }
                        None => Arc::new(Cell { identity, meter: Mutex::new(Meter::new(rule)) }),
                    };
                    made.push((cell, *rule));
                }
                made.sort_by(|(a, _), (b, _)| a.identity.cmp(&b.identity));
                for (cell, rule) in made {
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

    /// Where the limits of one member of a scope are among all; nowhere where it has none or nobody is meant.
    pub(super) fn range(&self, scope: Scope, member: Option<usize>) -> Range<usize> {
        member.and_then(|index| self.members.get(scope as usize)?.get(index)).cloned().unwrap_or_default()
    }

    /// The identity and the rule of every limit, in the order of [`Limiter::range`].
    pub(super) fn rules(&self) -> impl Iterator<Item = (&Identity, &LimitRule)> {
        self.cells.iter().map(|cell| &cell.identity).zip(&self.rules)
    }

    fn times(&self, now: u64) -> Times {
        Times { steady: now, wall: self.wall.at(now) }
    }

    fn of(&self, scope: Scope, member: Option<usize>) -> &[Arc<Cell>] {
        self.cells.get(self.range(scope, member)).unwrap_or_default()
    }

    /// Whether key and team would admit one more request, however small. Charges nothing.
    ///
    /// # Errors
    /// The limit that would wait longest.
    pub fn peek(&self, who: &Subject, now: u64) -> Result<(), Refusal> {
        let now = self.times(now);
        decide(&hold([self.of(Scope::Key, who.key), self.of(Scope::Team, who.team), &[]], now), 1, now)
    }

    /// Charges one request to all limits of its key, team and route, or to none.
    ///
    /// # Errors
    /// The limit that would wait longest.
    pub fn admit(self: &Arc<Self>, who: &Subject, route: usize, estimate: Estimate, now: u64) -> Result<Permit, Refusal> {
        let groups = [self.of(Scope::Key, who.key), self.of(Scope::Team, who.team), self.of(Scope::Route, Some(route))];
        Ok(Permit::new(self, *who, route, estimate, Counted::Here, take(groups, &estimate, self.times(now))?))
    }

    /// Charges one attempt to all limits of a provider, or to none.
    pub(super) fn enter(&self, provider: usize, estimate: &Estimate, now: u64) -> Result<Granted, Refusal> {
        take([self.of(Scope::Provider, Some(provider)), &[], &[]], estimate, self.times(now))
    }

    /// Replaces reservations by what was used.
    pub(super) fn settle(&self, cells: Range<usize>, estimate: &Estimate, used: &Used, now: u64) {
        let now = self.times(now);
        for cell in self.cells.get(cells).unwrap_or_default() {
            let mut meter = cell.meter.lock();
            meter.release(estimate);
            meter.charge(used, now);
        }
    }

    /// Frees places, and gives reservations back that have not been settled.
    pub(super) fn leave(&self, cells: Range<usize>, unsettled: Option<&Estimate>) {
        for cell in self.cells.get(cells).unwrap_or_default() {
            let mut meter = cell.meter.lock();
            if let Some(estimate) = unsettled {
                meter.release(estimate);
            }
            meter.leave();
        }
    }

    /// What a request will probably use.
    pub fn estimate(&self, route: usize, request: &Prospect, price: Option<&Price>) -> Estimate {
        self.averages.get(route).map(|(_, averages)| averages.estimate(request, price)).unwrap_or_default()
    }

    /// The same in tokens of each kind, for the accounts of an answer that broke off before its usage was told.
    pub fn usage(&self, route: usize, request: &Prospect) -> Usage {
        self.averages.get(route).map(|(_, averages)| averages.usage(request)).unwrap_or_default()
    }

    /// Learns from what a provider says was used.
    pub fn learn(&self, route: usize, request: &Prospect, used: &Usage) {
        if let Some((_, averages)) = self.averages.get(route) {
            averages.learn(request, used);
        }
    }

    /// Where every limit stands, in the order of scopes and members.
    pub fn standings(&self, now: u64) -> impl Iterator<Item = (&Identity, Dimension, Standing)> {
        let now = self.times(now);
        self.cells.iter().map(move |cell| {
            let meter = *cell.meter.lock();
            (&cell.identity, meter.dimension(), meter.standing(now))
        })
    }
}

/// Limits of a request that are rarely more than this stay on the stack.
type Held<'a> = SmallVec<[(&'a Cell, MutexGuard<'a, Meter>); 8]>;

/// Locks the limits and brings budgets to their period, also where nothing is charged: a budget that is spent in a false future is
/// charged nothing until then.
fn hold(groups: [&[Arc<Cell>]; 3], now: Times) -> Held<'_> {
    let mut held: Held<'_> = groups.into_iter().flatten().map(|cell| (cell.as_ref(), cell.meter.lock())).collect();
    for (_, meter) in &mut held {
        if let Meter::Usd(budget, spending) = &mut **meter {
            spending.turn(budget, now.wall);
        }
    }
    held
}

fn take(groups: [&[Arc<Cell>]; 3], estimate: &Estimate, now: Times) -> Result<Granted, Refusal> {
    let mut held = hold(groups, now);
    decide(&held, estimate.tokens, now)?;
    let mut kinds = Kinds::default();
    for (cell, meter) in &mut held {
        meter.take(estimate, now);
        kinds.insert(cell.identity.scope, meter.dimension());
    }
    Ok(Granted { headers: headers(&held, now), kinds })
}

fn decide(held: &Held<'_>, tokens: u64, now: Times) -> Result<(), Refusal> {
    let refused = held.iter().filter_map(|(cell, meter)| Some((meter.ask(tokens, now).err()?, cell, meter)));
    let Some((wait, cell, meter)) = refused.max_by_key(|(wait, ..)| *wait) else { return Ok(()) };
    let retry_after = match wait {
        Wait::Time(time) => Some(whole_milliseconds(time)),
        Wait::Useless => None,
    };
    let Identity { scope, per, .. } = cell.identity;
    let renewed = match &**meter {
        Meter::Usd(budget, spending) => Duration::from_nanos(spending.renewed(budget, now.wall)),
        _ => Duration::ZERO,
    };
    let (dimension, limit) = (meter.dimension(), meter.limit());
    Err(Refusal { scope, dimension, limit, per, retry_after, renewed, headers: Box::new(headers(held, now)) })
}

fn headers(held: &Held<'_>, now: Times) -> LimitHeaders {
    let mut headers = LimitHeaders::default();
    for (_, meter) in held {
        headers.add(meter.dimension(), || meter.standing(now));
    }
    headers
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
