//! The state of one limit on this node: its last reported status, and changes not yet reported to Redis. Changes are
//! summed per limit, so memory does not grow with traffic.

use super::TAG;
use super::client::HOLD_TTL;
use crate::hex;
use crate::limit::LimitExceeded;
use crate::limit::headers::LimitStatus;
use crate::limit::memory::LimitId;
use crate::limit::rule::{Dimension, LimitPeriod, LimitRule, RouteNames};
use crate::limit::warn::Warnings;
use crate::system;
use crate::units::nanoseconds;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a rejection is cached. A limit that is flushed or raised may still reject for this time.
pub const REJECTION_TTL: Duration = Duration::from_secs(1);
/// Maximum cost of one request: below 2^53, up to which Lua numbers are exact.
pub const MAX_COST: u64 = 1_000_000_000_000_000;

/// One limit.
#[derive(Debug)]
pub struct Cell {
    /// Identifies the limit on all nodes.
    pub id: LimitId,
    /// Its key in Redis.
    pub key: String,
    warnings: Arc<Warnings>,
    local: Mutex<Local>,
}

#[derive(Debug)]
struct Local {
    rule: LimitRule,
    /// Registration that `change` belongs to.
    epoch: u64,
    /// Amount this node has reserved, leased and in flight.
    held: u64,
    /// Unreported change of `held`.
    change: i64,
    /// Unreported usage.
    charge: u64,
    /// Part of `held` that is leased and not used, and when the lease ends.
    lease_left: u64,
    lease_ends: Option<Instant>,
    /// Whether a call that leases is in flight.
    leasing: bool,
    /// Whether Redis may have a record of this node.
    touched: bool,
    /// Whether it is in the client's queue.
    queued: bool,
    status: LimitStatus,
    /// Time of `status`.
    updated: Instant,
    rejection: Option<CachedRejection>,
}

#[derive(Debug)]
struct CachedRejection {
    exceeded: LimitExceeded,
    until: Instant,
    ends: Instant,
}

/// A report to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Change of the held amount; in a restatement, the whole of it.
    pub held: i64,
    /// Usage to charge.
    pub charge: u64,
}

impl Cell {
    /// A limit without state.
    pub fn new(id: LimitId, rule: LimitRule, warnings: Arc<Warnings>, epoch: u64) -> Self {
        let local = Local {
            rule,
            epoch,
            held: 0,
            change: 0,
            charge: 0,
            lease_left: 0,
            lease_ends: None,
            leasing: false,
            touched: false,
            queued: false,
            status: LimitStatus { limit: rule.limit(), remaining: rule.limit(), ..LimitStatus::default() },
            updated: system::now(),
            rejection: None,
        };
        Self { key: key(&id), id, warnings, local: Mutex::new(local) }
    }

    /// Applies a new amount and burst.
    pub fn set_rule(&self, rule: LimitRule) {
        let mut local = self.local.lock();
        local.rejection = None;
        local.status.limit = rule.limit();
        local.rule = rule;
    }

    /// The current rule.
    pub fn rule(&self) -> LimitRule {
        self.local.lock().rule
    }

    /// Redis has found that its usage is to be warned of.
    pub fn warn(&self) {
        self.warnings.record(&self.id, &self.rule());
    }

    /// Call it before sending a command that may make Redis hold something for this node.
    pub fn touch(&self) -> LimitRule {
        let mut local = self.local.lock();
        local.touched = true;
        local.rule
    }

    /// Records a charge: Redis now holds `reserved` and `leased` for this node. Returns whether to queue a report.
    pub fn record_admission(&self, epoch: u64, reserved: u64, leased: u64, ends: Option<Instant>, status: LimitStatus) -> bool {
        let mut local = self.local.lock();
        let held = reserved.saturating_add(leased);
        local.held = local.held.saturating_add(held);
        local.rejection = None;
        (local.status, local.updated) = (status, system::now());
        if leased > 0 {
            // The remainder of an older lease ends with the new one.
            local.lease_left = local.lease_left.saturating_add(leased);
            local.lease_ends = ends;
        }
        if local.epoch == epoch {
            return false;
        }
        // The node registered again meanwhile, and its restatement did not include this charge.
        local.change = local.change.saturating_add(signed(held));
        local.enqueue()
    }

    /// Records a rejection.
    pub fn record_rejection(&self, exceeded: LimitExceeded, wait: Duration, status: LimitStatus) {
        let now = system::now();
        let mut local = self.local.lock();
        (local.status, local.updated) = (status, now);
        local.rejection = Some(CachedRejection { exceeded, until: now + wait.min(REJECTION_TTL), ends: now + wait });
    }

    /// The cached rejection. Only limits on requests cache it: their wait never gets shorter.
    pub fn cached_rejection(&self) -> Option<LimitExceeded> {
        let local = self.local.lock();
        let known = local.rejection.as_ref()?;
        let now = system::now();
        if now >= known.until {
            return None;
        }
        let left = crate::limit::whole_milliseconds(known.ends.saturating_duration_since(now));
        let renews_in = if known.exceeded.renews_in.is_zero() { Duration::ZERO } else { left };
        Some(LimitExceeded { retry_after: Some(left), renews_in, ..known.exceeded.clone() })
    }

    /// Units that a call may lease, so that this node has `lease` of them; 0 while another call leases.
    /// [`Cell::end_leasing`] ends it.
    pub fn begin_leasing(&self, lease: u64) -> u64 {
        let mut local = self.local.lock();
        let more = if local.leasing { 0 } else { lease.saturating_sub(local.lease_left) };
        local.leasing |= more > 0;
        more
    }

    /// The call that leases has ended.
    pub fn end_leasing(&self) {
        self.local.lock().leasing = false;
    }

    /// Uses leased units if they cover `cost`. [`Cell::unspend`] reverts it.
    pub fn spend(&self, cost: u64, now: Instant) -> bool {
        let mut local = self.local.lock();
        let enough = local.lease_left >= cost && local.lease_ends.is_some_and(|ends| now < ends);
        if enough {
            local.lease_left -= cost;
            local.status.remaining = local.status.remaining.saturating_sub(cost);
        }
        enough
    }

    /// Returns units used for a request that another limit rejected.
    pub fn unspend(&self, cost: u64) {
        let mut local = self.local.lock();
        local.lease_left = local.lease_left.saturating_add(cost);
        local.status.remaining = local.status.remaining.saturating_add(cost);
    }

    /// Releases the units of an expired lease. Returns whether to queue a report.
    pub fn end_lease(&self, now: Instant) -> bool {
        let mut local = self.local.lock();
        if local.lease_left == 0 || local.lease_ends.is_some_and(|ends| now < ends) {
            return false;
        }
        let lease_left = std::mem::take(&mut local.lease_left);
        local.release_held(lease_left);
        local.enqueue()
    }

    /// Replaces a held amount by actual usage. Returns whether to queue a report.
    pub fn settle(&self, held: u64, used: u64) -> bool {
        let mut local = self.local.lock();
        local.release_held(held);
        local.charge = local.charge.saturating_add(used);
        local.enqueue()
    }

    /// Takes the unreported changes. [`Cell::requeue`] puts them back.
    pub fn report(&self) -> Report {
        let mut local = self.local.lock();
        local.queued = false;
        Report { held: std::mem::take(&mut local.change), charge: std::mem::take(&mut local.charge) }
    }

    /// Puts back usage that Redis did not confirm; released amounts are covered by the next restatement. Returns
    /// whether to queue a report.
    pub fn requeue(&self, charge: u64) -> bool {
        let mut local = self.local.lock();
        local.charge = local.charge.saturating_add(charge);
        local.enqueue()
    }

    /// The report for a new registration; `None` if there is nothing to restate.
    pub fn restate(&self, epoch: u64) -> Option<Report> {
        let mut local = self.local.lock();
        local.epoch = epoch;
        local.change = 0;
        let holds = local.held > 0;
        let known = std::mem::replace(&mut local.touched, holds);
        let report = Report { held: signed(local.held), charge: std::mem::take(&mut local.charge) };
        (known || report.held > 0 || report.charge > 0).then_some(report)
    }

    /// Whether holdings must be renewed. If so, the limit counts as queued.
    pub fn renew(&self) -> bool {
        let mut local = self.local.lock();
        local.held > 0 && !std::mem::replace(&mut local.queued, true)
    }

    /// State as Redis last reported it.
    pub fn status(&self) -> LimitStatus {
        self.local.lock().status
    }

    /// State extrapolated to `now`: rates have refilled, a window may have ended. For `concurrent`, only this
    /// node's own requests are known after [`HOLD_TTL`].
    pub fn status_at(&self, now: Instant) -> LimitStatus {
        let local = self.local.lock();
        let LimitStatus { limit, used, reset, .. } = local.status;
        let passed = now.saturating_duration_since(local.updated);
        let left = reset.saturating_sub(passed);
        let used = match local.rule.per {
            LimitPeriod::None if passed > HOLD_TTL => local.held,
            LimitPeriod::None => used,
            LimitPeriod::Window(_) if left.is_zero() => 0,
            LimitPeriod::Window(_) => used,
            LimitPeriod::Smooth(_) => {
                let rest = (u128::from(used) * left.as_nanos()).div_ceil(reset.as_nanos().max(1));
                u64::try_from(rest).unwrap_or(used)
            }
        };
        LimitStatus { limit, used, reserved: 0, remaining: limit.saturating_sub(used), reset: left }
    }
}

impl Local {
    fn release_held(&mut self, held: u64) {
        self.held = self.held.saturating_sub(held);
        self.change = self.change.saturating_sub(signed(held));
    }

    /// Whether to queue it: there are changes, and it is not queued yet.
    fn enqueue(&mut self) -> bool {
        (self.change != 0 || self.charge != 0) && !std::mem::replace(&mut self.queued, true)
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// The key in Redis: a digest, so that key ids and team names are not readable there.
fn key(id: &LimitId) -> String {
    let LimitId { scope, name, routes, dimension, per, ordinal } = id;
    let mut all = Sha256::new_with_prefix(b"tidegate limit 1");
    all.update([*scope as u8, *dimension as u8]);
    all.update(nanoseconds(per.length()).to_be_bytes());
    all.update(ordinal.to_be_bytes());
    all.update(name.as_bytes());
    // No name has a control character. What a limit has always had comes first, so that nodes of an older version agree.
    if matches!(per, LimitPeriod::Window(_)) && *dimension != Dimension::Usd {
        all.update(b"\0window");
    }
    for route in routes.iter().flat_map(RouteNames::iter) {
        all.update(b"\0");
        all.update(route.as_bytes());
    }
    format!("{TAG}:limit:{}", hex::encode(all.finalize().iter().take(16)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::memory::{Limiter, Rules};
    use crate::limit::rule::{Limit, LimitedRoutes, RouteSet};

    fn cell(dimension: Dimension) -> Cell {
        let minute = Duration::from_secs(60);
        let per = match dimension {
            Dimension::Concurrent => LimitPeriod::None,
            Dimension::Usd => LimitPeriod::Window(minute),
            Dimension::Requests | Dimension::Tokens => LimitPeriod::Smooth(minute),
        };
        cell_of(dimension, per, None)
    }

    fn cell_of(dimension: Dimension, per: LimitPeriod, routes: Option<&[&str]>) -> Cell {
        let names = |routes: &[&str]| RouteNames::new(routes.iter().map(|name| (*name).into()).collect());
        let routes = routes.map(|routes| LimitedRoutes { names: names(routes), set: RouteSet(vec![true]) });
        let rules = [Limit { rule: LimitRule { dimension, amount: 100, per, burst: 100, warn: None }, routes }];
        let none = || -> Rules<'_> { Vec::new() };
        let limiter = Limiter::with([vec![("a-key".into(), &rules)], none(), none(), none()], None, 0);
        let (id, rule, warnings) = limiter.rules().next().unwrap();
        Cell::new(id.clone(), *rule, warnings.clone(), 1)
    }

    fn admitted(cell: &Cell, epoch: u64, reserved: u64) -> bool {
        cell.record_admission(epoch, reserved, 0, None, LimitStatus::default())
    }

    #[test]
    fn what_requests_leave_behind_is_added_up_and_told_once() {
        let cell = cell(Dimension::Tokens);
        assert!(!admitted(&cell, 1, 10) && !admitted(&cell, 1, 10));
        assert!(cell.settle(10, 7));
        assert!(!cell.settle(10, 5), "it waits in the queue already");
        assert_eq!(cell.report(), Report { held: -20, charge: 12 });
        assert_eq!(cell.report(), Report { held: 0, charge: 0 });
        assert!(cell.requeue(12), "a use that was not confirmed is told again");
        assert_eq!(cell.report(), Report { held: 0, charge: 12 });
    }

    #[test]
    fn a_new_registration_restates_what_is_held_and_nothing_else() {
        let cell = cell(Dimension::Tokens);
        assert_eq!(cell.restate(2), None, "Redis never heard of it");
        cell.touch();
        assert_eq!(cell.restate(3), Some(Report { held: 0, charge: 0 }), "something may be left there");
        admitted(&cell, 3, 30);
        cell.settle(10, 4);
        assert_eq!(cell.restate(4), Some(Report { held: 20, charge: 4 }));
        assert_eq!(cell.report(), Report { held: 0, charge: 0 });
        assert!(admitted(&cell, 3, 5), "an answer of before: the restatement did not have it");
        assert_eq!(cell.report().held, 5);
    }

    #[test]
    fn a_lease_is_spent_until_it_ends_and_the_rest_is_given_back() {
        let cell = cell(Dimension::Tokens);
        let now = Instant::now();
        let ends = now + Duration::from_secs(60);
        cell.record_admission(1, 10, 20, Some(ends), LimitStatus::default());
        assert!(cell.spend(15, now) && !cell.spend(6, now) && !cell.spend(1, ends));
        assert!(!cell.end_lease(now) && cell.end_lease(ends));
        assert_eq!(cell.report(), Report { held: -5, charge: 0 }, "what was spent stays reserved");
        assert!(!cell.spend(1, now));
    }

    #[test]
    fn one_call_at_a_time_leases_what_is_missing_of_one_lease() {
        let cell = cell(Dimension::Tokens);
        let ends = Some(Instant::now() + Duration::from_secs(60));
        assert_eq!((cell.begin_leasing(20), cell.begin_leasing(20)), (20, 0));
        cell.record_admission(1, 0, 20, ends, LimitStatus::default());
        cell.end_leasing();
        assert_eq!(cell.begin_leasing(20), 0, "there is a whole one");
        assert!(cell.spend(15, Instant::now()));
        assert_eq!((cell.begin_leasing(20), cell.begin_leasing(20)), (15, 0));
    }

    #[test]
    fn what_redis_told_long_ago_has_refilled_since() {
        let told = LimitStatus { limit: 100, used: 80, remaining: 20, reset: Duration::from_secs(40), reserved: 0 };
        let used = |dimension, seconds| {
            let cell = cell(dimension);
            cell.record_admission(1, 3, 0, None, told);
            let later = cell.local.lock().updated + Duration::from_secs(seconds);
            let status = cell.status_at(later);
            assert_eq!(status.used + status.remaining, 100);
            status.used
        };
        assert_eq!([0, 10, 40, 50].map(|seconds| used(Dimension::Tokens, seconds)), [80, 60, 0, 0]);
        assert_eq!([0, 39, 40].map(|seconds| used(Dimension::Usd, seconds)), [80, 80, 0]);
        assert_eq!([0, 15, 16].map(|seconds| used(Dimension::Concurrent, seconds)), [80, 80, 3], "its own places");
    }

    #[test]
    fn names_in_redis_are_digests() {
        let (one, two) = (cell(Dimension::Tokens), cell(Dimension::Requests));
        assert!(one.key != two.key && one.key.starts_with("{tidegate}:limit:") && !one.key.contains("a-key"));
        assert_eq!(one.key, cell(Dimension::Tokens).key, "the same on every node");
    }

    #[test]
    fn limits_that_differ_have_names_that_differ_and_old_ones_keep_theirs() {
        let day = Duration::from_secs(86_400);
        let (smooth, window) = (LimitPeriod::Smooth(day), LimitPeriod::Window(day));
        let all = [
            cell_of(Dimension::Tokens, smooth, None),
            cell_of(Dimension::Tokens, window, None),
            cell_of(Dimension::Tokens, smooth, Some(&["a", "b"])),
            cell_of(Dimension::Tokens, smooth, Some(&["ab"])),
            cell_of(Dimension::Tokens, window, Some(&["a"])),
            cell_of(Dimension::Usd, window, None),
        ];
        let names: std::collections::HashSet<_> = all.iter().map(|cell| &cell.key).collect();
        assert_eq!(names.len(), all.len());
        assert_eq!(cell_of(Dimension::Tokens, smooth, Some(&["b", "a", "b"])).key, all[2].key, "in any order");
        let version_1 = ["{tidegate}:limit:37e277966aabc287bf1f3d3876d99891", "{tidegate}:limit:f5c138e21236477467e78fc77269b54d"];
        assert_eq!([&*all[0].key, &*all[5].key], version_1);
    }
}
