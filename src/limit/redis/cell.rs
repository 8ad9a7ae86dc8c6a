//! What this node knows of one limit that is counted in Redis, and what Redis has not been told yet.
//!
//! Nothing here grows with traffic: what requests leave behind is added up per limit until the link has told Redis.

use super::TAG;
use super::link::LIFE;
use crate::limit::headers::Standing;
use crate::limit::memory::Identity;
use crate::limit::rule::{Dimension, LimitRule};
use crate::limit::{Estimate, Refusal, Used};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

/// How long a refusal is remembered. Within it a flushed or raised limit may still refuse.
pub const REMEMBERED: Duration = Duration::from_secs(1);
/// Most that one request asks for: below the 2^53 up to which Redis' scripts count exactly.
pub const MOST: u64 = 1_000_000_000_000_000;

/// One limit.
#[derive(Debug)]
pub struct Cell {
    /// What makes it the same one on all nodes.
    pub identity: Identity,
    /// Its name in Redis.
    pub key: String,
    local: Mutex<Local>,
}

#[derive(Debug)]
struct Local {
    rule: LimitRule,
    /// The registration of this node for which `change` is meant.
    epoch: u64,
    /// All that this node has reserved, leased and open.
    held: u64,
    /// What Redis must be told of `held`.
    change: i64,
    /// What Redis must be told was used.
    charge: u64,
    /// The part of `held` that is leased and not spent, and when the lease ends.
    credit: u64,
    ends: Option<Instant>,
    /// Whether Redis may know something of this node.
    touched: bool,
    /// Whether it waits in the link's queue.
    queued: bool,
    standing: Standing,
    /// When Redis told it.
    told: Instant,
    refused: Option<Remembered>,
}

#[derive(Debug)]
struct Remembered {
    refusal: Refusal,
    until: Instant,
    ends: Instant,
}

/// What Redis is told of a limit between requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The change of what the node holds, or all of it in a restatement.
    pub held: i64,
    /// What was used.
    pub charge: u64,
}

impl Cell {
    /// A limit that nothing is known of.
    pub fn new(identity: Identity, rule: LimitRule, epoch: u64) -> Self {
        let local = Local {
            rule,
            epoch,
            held: 0,
            change: 0,
            charge: 0,
            credit: 0,
            ends: None,
            touched: false,
            queued: false,
            standing: Standing { limit: limit(&rule), remaining: limit(&rule), ..Standing::default() },
            told: Instant::now(),
            refused: None,
        };
        Self { key: key(&identity), identity, local: Mutex::new(local) }
    }

    /// Counts on under another amount and burst.
    pub fn retune(&self, rule: LimitRule) {
        let mut local = self.local.lock();
        local.refused = None;
        local.standing.limit = limit(&rule);
        local.rule = rule;
    }

    /// The rule that holds now.
    pub fn rule(&self) -> LimitRule {
        self.local.lock().rule
    }

    /// A command is about to be sent that may make Redis hold something for this node.
    pub fn touch(&self) -> LimitRule {
        let mut local = self.local.lock();
        local.touched = true;
        local.rule
    }

    /// Redis has charged a request: it holds `taken` and `leased` for this node now. Whether Redis must be told more.
    pub fn admitted(&self, epoch: u64, taken: u64, leased: u64, ends: Option<Instant>, standing: Standing) -> bool {
        let mut local = self.local.lock();
        let held = taken.saturating_add(leased);
        local.held = local.held.saturating_add(held);
        local.refused = None;
        (local.standing, local.told) = (standing, Instant::now());
        if leased > 0 {
            // What is left of an older lease ends with the new one, which Redis holds as long.
            local.credit = local.credit.saturating_add(leased);
            local.ends = ends;
        }
        if local.epoch == epoch {
            return false;
        }
        // The node has registered anew since, and what it restated then did not have this in it.
        local.change = local.change.saturating_add(signed(held));
        local.enqueue()
    }

    /// Redis has refused a request.
    pub fn refused(&self, refusal: Refusal, wait: Duration, standing: Standing) {
        let now = Instant::now();
        let mut local = self.local.lock();
        (local.standing, local.told) = (standing, now);
        local.refused = Some(Remembered { refusal, until: now + wait.min(REMEMBERED), ends: now + wait });
    }

    /// The refusal that still holds, without asking Redis. Only limits on requests remember: nothing that others do
    /// makes them free earlier than was told.
    pub fn remembered(&self) -> Option<Refusal> {
        let local = self.local.lock();
        let known = local.refused.as_ref()?;
        let now = Instant::now();
        if now >= known.until {
            return None;
        }
        let left = crate::limit::whole_milliseconds(known.ends.saturating_duration_since(now));
        Some(Refusal { retry_after: Some(left), ..known.refusal.clone() })
    }

    /// Spends what is leased, if that is enough; [`Cell::unspend`] takes it back.
    pub fn spend(&self, cost: u64, now: Instant) -> bool {
        let mut local = self.local.lock();
        let enough = local.credit >= cost && local.ends.is_some_and(|ends| now < ends);
        if enough {
            local.credit -= cost;
            local.standing.remaining = local.standing.remaining.saturating_sub(cost);
        }
        enough
    }

    /// Puts back what was spent for a request that another limit did not admit.
    pub fn unspend(&self, cost: u64) {
        let mut local = self.local.lock();
        local.credit = local.credit.saturating_add(cost);
        local.standing.remaining = local.standing.remaining.saturating_add(cost);
    }

    /// A lease that has ended is given back. Whether Redis must be told.
    pub fn end_lease(&self, now: Instant) -> bool {
        let mut local = self.local.lock();
        if local.credit == 0 || local.ends.is_some_and(|ends| now < ends) {
            return false;
        }
        let credit = std::mem::take(&mut local.credit);
        local.let_go(credit);
        local.enqueue()
    }

    /// Replaces `held` by what was used. Whether Redis must be told.
    pub fn settle(&self, held: u64, used: u64) -> bool {
        let mut local = self.local.lock();
        local.let_go(held);
        local.charge = local.charge.saturating_add(used);
        local.enqueue()
    }

    /// What was used and reserved, as the dimension counts it; nothing for those that are not settled.
    pub fn amounts(&self, estimate: &Estimate, used: &Used) -> Option<(u64, u64)> {
        match self.rule().dimension {
            Dimension::Tokens => Some((estimate.tokens.min(MOST), used.tokens)),
            Dimension::Usd => Some((estimate.micro_usd.min(MOST), used.micro_usd)),
            Dimension::Requests | Dimension::Concurrent => None,
        }
    }

    /// What is to be told; it counts as told unless [`Cell::untold`] says otherwise.
    pub fn report(&self) -> Report {
        let mut local = self.local.lock();
        local.queued = false;
        Report { held: std::mem::take(&mut local.change), charge: std::mem::take(&mut local.charge) }
    }

    /// Redis has not heard of this use. Nor of what was let go, but that is restated when the node registers anew.
    /// Whether it must be told again.
    pub fn untold(&self, charge: u64) -> bool {
        let mut local = self.local.lock();
        local.charge = local.charge.saturating_add(charge);
        local.enqueue()
    }

    /// The node registers anew: all that it holds, where Redis may know or must know something.
    pub fn restate(&self, epoch: u64) -> Option<Report> {
        let mut local = self.local.lock();
        local.epoch = epoch;
        local.change = 0;
        let holds = local.held > 0;
        let known = std::mem::replace(&mut local.touched, holds);
        let report = Report { held: signed(local.held), charge: std::mem::take(&mut local.charge) };
        (known || report.held > 0 || report.charge > 0).then_some(report)
    }

    /// Whether what the node holds must be renewed; if so it is put up for the next report.
    pub fn renew(&self) -> bool {
        let mut local = self.local.lock();
        local.held > 0 && !std::mem::replace(&mut local.queued, true)
    }

    /// Where it stood when Redis last told this node.
    pub fn standing(&self) -> Standing {
        self.local.lock().standing
    }

    /// Where it stands `now` as far as this node knows: a rate has refilled since Redis last told it, and the period of a
    /// budget may be over. Of places, only this node's own are known once [`LIFE`] has passed.
    pub fn standing_at(&self, now: Instant) -> Standing {
        let local = self.local.lock();
        let Standing { limit, used, reset, .. } = local.standing;
        let passed = now.saturating_duration_since(local.told);
        let left = reset.saturating_sub(passed);
        let used = match local.rule.dimension {
            Dimension::Concurrent if passed > LIFE => local.held,
            Dimension::Concurrent => used,
            Dimension::Usd if left.is_zero() => 0,
            Dimension::Usd => used,
            Dimension::Requests | Dimension::Tokens => {
                let rest = (u128::from(used) * left.as_nanos()).div_ceil(reset.as_nanos().max(1));
                u64::try_from(rest).unwrap_or(used)
            }
        };
        Standing { limit, used, reserved: 0, remaining: limit.saturating_sub(used), reset: left }
    }
}

impl Local {
    fn let_go(&mut self, held: u64) {
        self.held = self.held.saturating_sub(held);
        self.change = self.change.saturating_sub(signed(held));
    }

    /// Whether it must be put into the queue: not when there is nothing to tell, nor when it is there already.
    fn enqueue(&mut self) -> bool {
        (self.change != 0 || self.charge != 0) && !std::mem::replace(&mut self.queued, true)
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// How much of it there is at once.
pub fn limit(rule: &LimitRule) -> u64 {
    if rule.dimension == Dimension::Concurrent { rule.amount } else { rule.burst }
}

/// The name in Redis: a digest, so that neither a key nor a team can be read there.
fn key(identity: &Identity) -> String {
    let (dimension, period, ordinal) = identity.numbers();
    let mut all = Sha256::new_with_prefix(b"tidegate limit 1");
    all.update([identity.scope as u8, dimension]);
    all.update(period.to_be_bytes());
    all.update(ordinal.to_be_bytes());
    all.update(identity.name.as_bytes());
    let digest = all.finalize();
    let mut key = format!("{TAG}:limit:");
    for byte in digest.iter().take(16) {
        use std::fmt::Write as _;
        let _infallible = write!(key, "{byte:02x}");
    }
    key
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::limit::memory::{Limiter, Rules};

    fn cell(dimension: Dimension) -> Cell {
        let rules = [LimitRule { dimension, amount: 100, per: Duration::from_secs(60), burst: 100 }];
        let none = || -> Rules<'_> { Vec::new() };
        let limiter = Limiter::with([vec![("a-key".into(), &rules)], none(), none(), none()], None, 0);
        let (identity, rule) = limiter.rules().next().unwrap();
        Cell::new(identity.clone(), *rule, 1)
    }

    fn admitted(cell: &Cell, epoch: u64, taken: u64) -> bool {
        cell.admitted(epoch, taken, 0, None, Standing::default())
    }

    #[test]
    fn what_requests_leave_behind_is_added_up_and_told_once() {
        let cell = cell(Dimension::Tokens);
        assert!(!admitted(&cell, 1, 10) && !admitted(&cell, 1, 10));
        assert!(cell.settle(10, 7));
        assert!(!cell.settle(10, 5), "it waits in the queue already");
        assert_eq!(cell.report(), Report { held: -20, charge: 12 });
        assert_eq!(cell.report(), Report { held: 0, charge: 0 });
        assert!(cell.untold(12), "a use that was not confirmed is told again");
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
        cell.admitted(1, 10, 20, Some(ends), Standing::default());
        assert!(cell.spend(15, now) && !cell.spend(6, now) && !cell.spend(1, ends));
        assert!(!cell.end_lease(now) && cell.end_lease(ends));
        assert_eq!(cell.report(), Report { held: -5, charge: 0 }, "what was spent stays reserved");
        assert!(!cell.spend(1, now));
    }

    #[test]
    fn what_redis_told_long_ago_has_refilled_since() {
        let told = Standing { limit: 100, used: 80, remaining: 20, reset: Duration::from_secs(40), reserved: 0 };
        let used = |dimension, seconds| {
            let cell = cell(dimension);
            cell.admitted(1, 3, 0, None, told);
            let later = cell.local.lock().told + Duration::from_secs(seconds);
            let standing = cell.standing_at(later);
            assert_eq!(standing.used + standing.remaining, 100);
            standing.used
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
}
