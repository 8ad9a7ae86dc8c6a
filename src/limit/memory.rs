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

use super::budget::{Budget, Spending};
use super::estimate::{Averages, Estimate, Prospect};
use super::gcra::{Bucket, Rate};
use super::headers::{LimitHeaders, Standing};
use super::{CONCURRENT_WAIT, Kinds, Refusal, Scope, Subject, Used, nanoseconds};
use crate::chat::usage::Usage;
use crate::config::snapshot::{Dimension, LimitRule, Snapshot};
use crate::provider::Price;
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

/// What a limit counts with.
#[derive(Clone, Copy, Debug)]
enum Meter {
    Requests(Rate, Bucket),
    Tokens(Rate, Bucket),
    Concurrent { limit: u64, open: u64 },
    Usd(Budget, Spending),
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
    fn retune(&mut self, rule: &LimitRule, now: u64) {
        match (self, Self::new(rule)) {
            (Self::Requests(rate, bucket), Self::Requests(new, _)) | (Self::Tokens(rate, bucket), Self::Tokens(new, _)) => {
                bucket.drain(rate, now);
                *rate = new;
            }
            (Self::Concurrent { limit, .. }, Self::Concurrent { limit: new, .. }) => *limit = new,
            (Self::Usd(budget, spending), Self::Usd(new, _)) => {
                spending.turn(budget, now);
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

    fn ask(&self, tokens: u64, now: u64) -> Result<(), Wait> {
        let wait = |time| Wait::Time(Duration::from_nanos(time));
        match self {
            Self::Requests(rate, bucket) => bucket.ask(rate, 1, now).map_err(wait),
            Self::Tokens(rate, bucket) => bucket.ask(rate, tokens, now).map_err(wait),
            Self::Concurrent { limit, open } if open < limit => Ok(()),
            Self::Concurrent { .. } => Err(Wait::Time(CONCURRENT_WAIT)),
            Self::Usd(budget, spending) => spending.ask(budget, now).map_err(|_| Wait::Useless),
        }
    }

    fn take(&mut self, estimate: &Estimate, now: u64) {
        match self {
            Self::Requests(rate, bucket) => bucket.charge(rate, 1, now),
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

    fn charge(&mut self, used: &Used, now: u64) {
        match self {
            Self::Tokens(rate, bucket) => bucket.charge(rate, used.tokens, now),
            Self::Usd(budget, spending) => spending.charge(budget, used.micro_usd, now),
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

    fn standing(&self, now: u64) -> Standing {
        let limit = self.limit();
        match self {
            Self::Requests(rate, bucket) | Self::Tokens(rate, bucket) => Standing {
                limit,
                used: bucket.used(rate, now),
                reserved: bucket.reserved(),
                remaining: bucket.remaining(rate, now),
                reset: Duration::from_nanos(bucket.reset(rate, now)),
            },
            Self::Concurrent { limit, open } => {
                Standing { limit: *limit, used: *open, reserved: 0, remaining: limit.saturating_sub(*open), reset: Duration::ZERO }
            }
            Self::Usd(budget, spending) => Standing {
                limit,
                used: spending.spent(budget, now),
                reserved: spending.reserved(),
                remaining: spending.remaining(budget, now),
                reset: Duration::from_nanos(budget.reset(now)),
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
    /// For each scope, the cells of each of its members.
    members: [Vec<Range<usize>>; 4],
    averages: Vec<(Arc<str>, Arc<Averages>)>,
}

impl Limiter {
    /// The limits of a configuration that is about to be used, with the states of the one before it.
    ///
    /// Amounts that the new configuration changes hold at once, also for requests that began under the old one; so call
    /// it only when nothing can refuse the new configuration any more.
    pub fn new(snapshot: &Snapshot, previous: Option<&Self>, now: u64) -> Self {
        Self::with(
            [
                snapshot.keys.iter().map(|key| (Arc::clone(&key.id), key.limits.as_slice())).collect(),
                snapshot.teams.iter().map(|team| (Arc::clone(&team.name), team.limits.as_slice())).collect(),
                snapshot.routes.iter().map(|route| (Arc::clone(&route.name), route.limits.as_slice())).collect(),
                snapshot.providers.iter().map(|provider| (Arc::clone(&provider.name), provider.limits.as_slice())).collect(),
            ],
            previous,
            now,
        )
    }

    /// The same from rules alone: of keys, teams, routes and providers, the order of [`Scope::ALL`].
    pub fn with(rules: [Rules<'_>; 4], previous: Option<&Self>, now: u64) -> Self {
        let mut known: HashMap<&Identity, &Arc<Cell>> =
            previous.iter().flat_map(|limiter| &limiter.cells).map(|cell| (&cell.identity, cell)).collect();
        let mut limiter = Self::default();
        for ((scope, members), ranges) in Scope::ALL.into_iter().zip(&rules).zip(&mut limiter.members) {
            for (name, rules) in members {
                let begin = limiter.cells.len();
                let mut made: Vec<Arc<Cell>> = Vec::with_capacity(rules.len());
                for rule in *rules {
                    let per = if rule.dimension == Dimension::Concurrent { Duration::ZERO } else { rule.per };
                    let mut identity = Identity { scope, name: Arc::clone(name), dimension: rule.dimension as u8, per, ordinal: 0 };
                    while made.iter().any(|cell| cell.identity == identity) {
                        identity.ordinal += 1;
                    }
                    made.push(match known.remove(&identity) {
                        Some(cell) => {
                            cell.meter.lock().retune(rule, now);
                            Arc::clone(cell)
                        }
                        None => Arc::new(Cell { identity, meter: Mutex::new(Meter::new(rule)) }),
                    });
                }
                made.sort_by(|a, b| a.identity.cmp(&b.identity));
                limiter.cells.extend(made);
                ranges.push(begin..limiter.cells.len());
            }
        }
        let [_, _, routes, _] = rules;
        let learned =
            |name: &Arc<str>| previous?.averages.iter().find(|(known, _)| known == name).map(|(_, averages)| Arc::clone(averages));
        limiter.averages = routes.into_iter().map(|(name, _)| (Arc::clone(&name), learned(&name).unwrap_or_default())).collect();
        limiter
    }

    /// The limits of one member of a scope; none where it has none or nobody is meant.
    fn of(&self, scope: Scope, member: Option<usize>) -> &[Arc<Cell>] {
        let range = member.and_then(|index| self.members.get(scope as usize)?.get(index));
        range.and_then(|range| self.cells.get(range.clone())).unwrap_or_default()
    }

    /// Whether key and team would admit one more request, however small. Charges nothing.
    ///
    /// # Errors
    /// The limit that would wait longest.
    pub fn peek(&self, who: &Subject, now: u64) -> Result<(), Refusal> {
        let held = hold([self.of(Scope::Key, who.key), self.of(Scope::Team, who.team), &[]]);
        decide(&held, 1, now)
    }

    /// Charges one request to all limits of its key, team and route, or to none.
    ///
    /// # Errors
    /// The limit that would wait longest.
    pub fn admit(self: &Arc<Self>, who: &Subject, route: usize, estimate: Estimate, now: u64) -> Result<Permit, Refusal> {
        let mut held = hold([self.of(Scope::Key, who.key), self.of(Scope::Team, who.team), self.of(Scope::Route, Some(route))]);
        decide(&held, estimate.tokens, now)?;
        let mut kinds = Kinds::default();
        for (cell, meter) in &mut held {
            meter.take(&estimate, now);
            kinds.insert(cell.identity.scope, meter.dimension());
        }
        let headers = headers(&held, now);
        drop(held);
        Ok(Permit { limiter: Arc::clone(self), who: *who, route, provider: None, estimate, headers, kinds, settled: false })
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
        self.cells.iter().map(move |cell| {
            let meter = *cell.meter.lock();
            (&cell.identity, meter.dimension(), meter.standing(now))
        })
    }
}

/// Limits of a request that are rarely more than this stay on the stack.
type Held<'a> = SmallVec<[(&'a Cell, MutexGuard<'a, Meter>); 8]>;

fn hold(groups: [&[Arc<Cell>]; 3]) -> Held<'_> {
    groups.into_iter().flatten().map(|cell| (cell.as_ref(), cell.meter.lock())).collect()
}

fn decide(held: &Held<'_>, tokens: u64, now: u64) -> Result<(), Refusal> {
    let refused = held.iter().filter_map(|(cell, meter)| Some((meter.ask(tokens, now).err()?, cell, meter)));
    let Some((wait, cell, meter)) = refused.max_by_key(|(wait, ..)| *wait) else { return Ok(()) };
    let retry_after = match wait {
        Wait::Time(time) => Some(Duration::from_millis(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))),
        Wait::Useless => None,
    };
    let Identity { scope, per, .. } = cell.identity;
    Err(Refusal { scope, dimension: meter.dimension(), limit: meter.limit(), per, retry_after, headers: Box::new(headers(held, now)) })
}

fn headers(held: &Held<'_>, now: u64) -> LimitHeaders {
    let mut headers = LimitHeaders::default();
    for (_, meter) in held {
        let slot = match **meter {
            Meter::Requests(..) => &mut headers.requests,
            Meter::Tokens(..) => &mut headers.tokens,
            Meter::Concurrent { .. } | Meter::Usd(..) => continue,
        };
        let standing = meter.standing(now);
        *slot = Some(slot.map_or(standing, |other| other.tighter(standing)));
    }
    headers
}

/// An admitted request. Only [`Limiter::admit`] makes one. Dropping it frees its place, and gives back what was reserved
/// unless [`Permit::settle`] has said what was used.
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub struct Permit {
    limiter: Arc<Limiter>,
    who: Subject,
    route: usize,
    provider: Option<usize>,
    estimate: Estimate,
    headers: LimitHeaders,
    kinds: Kinds,
    settled: bool,
}

impl Permit {
    /// Where the tightest limits stood when this request had been charged.
    pub fn headers(&self) -> &LimitHeaders {
        &self.headers
    }

    /// The kinds of limits that admitted it, for the metrics.
    pub fn kinds(&self) -> Kinds {
        self.kinds
    }

    /// What was reserved.
    pub fn estimate(&self) -> Estimate {
        self.estimate
    }

    /// Charges the limits of the provider of one attempt, all or none; an earlier attempt is left first.
    ///
    /// # Errors
    /// The provider's limit that would wait longest; the permit itself stays good.
    pub fn enter_provider(&mut self, provider: usize, now: u64) -> Result<(), Refusal> {
        self.leave_provider();
        let mut held = hold([self.limiter.of(Scope::Provider, Some(provider)), &[], &[]]);
        decide(&held, self.estimate.tokens, now)?;
        for (cell, meter) in &mut held {
            meter.take(&self.estimate, now);
            self.kinds.insert(cell.identity.scope, meter.dimension());
        }
        drop(held);
        self.provider = Some(provider);
        Ok(())
    }

    /// Gives back what a failed attempt reserved at its provider. The request itself stays counted there, as the
    /// provider counts it too.
    pub fn leave_provider(&mut self) {
        let Some(provider) = self.provider.take() else { return };
        for cell in self.limiter.of(Scope::Provider, Some(provider)) {
            give_back(cell, &self.estimate, self.settled);
        }
    }

    /// Replaces the reservation by what was really used, once; what is more than was reserved is charged to the future.
    pub fn settle(&mut self, used: Used, now: u64) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let provider = self.limiter.of(Scope::Provider, self.provider);
        for cell in self.entered().chain(provider) {
            let mut meter = cell.meter.lock();
            meter.release(&self.estimate);
            meter.charge(&used, now);
        }
    }

    fn entered(&self) -> impl Iterator<Item = &Arc<Cell>> {
        let limiter = &self.limiter;
        let key = limiter.of(Scope::Key, self.who.key);
        key.iter().chain(limiter.of(Scope::Team, self.who.team)).chain(limiter.of(Scope::Route, Some(self.route)))
    }
}

fn give_back(cell: &Cell, estimate: &Estimate, settled: bool) {
    let mut meter = cell.meter.lock();
    if !settled {
        meter.release(estimate);
    }
    meter.leave();
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.leave_provider();
        for cell in self.entered() {
            give_back(cell, &self.estimate, self.settled);
        }
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
