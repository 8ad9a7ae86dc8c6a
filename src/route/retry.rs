//! What happens after a failed attempt.
//!
//! ```text
//!            failure that the route retries,        another target: at once
//! attempt --------------------------------> next ---------------------------> attempt
//!    |          attempts left               ^ |     the same again: after a wait
//!    |                                      | |
//!    +--- any other failure, none left -----|-+-> give up
//!                                           |
//! target that cannot be asked --- skip -----+  takes no attempt, and is not come back to
//! ```
//!
//! Only an attempt of which the client has seen nothing may be followed by another; the edge asks only then.

use super::health::{Asking, Health, Vitals};
use super::pick::{Plan, SplitMix};
use crate::config::snapshot::{Retry, Route};
use crate::dialect::FailureClass;
use crate::provider::Target;
use std::sync::Arc;
use std::time::Duration;

/// How an attempt failed before the client saw anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made: name, TCP, TLS.
    Connect,
    /// A deadline of ours passed.
    Timeout,
    /// The answer broke off or could not be read.
    Broken,
    /// The provider answered that it will not, or failed.
    Provider(FailureClass),
}

impl Failure {
    /// Whether the route tries again after it. Never for what another try cannot change: a bad request, an unknown
    /// model, a credential that is the operator's to put right.
    pub const fn is_retried(self, retry: &Retry) -> bool {
        match self {
            Self::Connect => retry.connect,
            Self::Timeout => retry.timeout,
            Self::Broken => retry.server_error,
            Self::Provider(class) => match class {
                FailureClass::RateLimited => retry.rate_limited,
                // The provider's own 408 and 504 are of the 5xx kind: its word, not our deadline.
                FailureClass::Timeout | FailureClass::Overloaded | FailureClass::Server => retry.server_error,
                FailureClass::BadRequest | FailureClass::Credential | FailureClass::NotFound => false,
            },
        }
    }
}

/// A target whose turn it is.
pub struct Turn {
    /// Who is asked.
    pub target: Arc<Target>,
    /// After this wait; zero for a target that has not been asked yet.
    pub wait: Duration,
    /// What the target's health learns of it.
    pub asking: Asking,
}

/// The attempts of one request: its plan and how far it has come.
#[derive(Clone, Debug)]
pub struct Attempts {
    plan: Plan,
    random: SplitMix,
    /// Tries that were begun.
    made: u32,
    /// Steps of the plan that were begun in this round, one bit each; a route has at most 64 targets.
    asked: u64,
    /// The last one of them.
    last: u64,
    /// Steps that were passed over.
    passed: u64,
    /// How often the plan has been gone through.
    round: u32,
}

impl Attempts {
    /// Nothing tried yet. `random` is 64 random bits of their own.
    pub fn new(plan: Plan, random: u64) -> Self {
        Self { plan, random: SplitMix(random), made: 0, asked: 0, last: 0, passed: 0, round: 0 }
    }

    /// How many were begun, those that were passed over left out; what `x-tidegate-attempts` says.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// The first target. Counts as begun.
    pub fn first(&mut self, route: &Route, health: &Health, now: u64) -> Option<Turn> {
        self.take(route, health, |_| false, Duration::ZERO, now).or_else(|| self.take(route, health, |_| true, Duration::ZERO, now))
    }

    /// What comes after the last one failed; `None`: tell the client. The plan is gone through in its order, targets that
    /// rest by now after the others; only when there is no target that was not asked yet, it begins anew, with a wait
    /// before each. It then leaves out targets that rest, but of those that are ejected the best one is asked when nobody
    /// else is left.
    pub fn next(&mut self, route: &Route, failure: Failure, health: &Health, now: u64) -> Option<Turn> {
        if self.made >= route.retry.attempts || !failure.is_retried(&route.retry) {
            return None;
        }
        self.go_on(route, health, now)
    }

    /// What comes instead of the last one, which cannot be asked: that is no failure of a try, so it counts as none and
    /// asks for no reason to go on.
    pub fn skip(&mut self, route: &Route, health: &Health, now: u64) -> Option<Turn> {
        self.made = self.made.saturating_sub(1);
        self.passed |= self.last;
        self.go_on(route, health, now)
    }

    fn go_on(&mut self, route: &Route, health: &Health, now: u64) -> Option<Turn> {
        let in_this_round = if self.round == 0 { self.first(route, health, now) } else { self.again(route, health, now) };
        in_this_round.or_else(|| {
            self.round += 1;
            self.asked = 0;
            self.again(route, health, now)
        })
    }

    fn again(&mut self, route: &Route, health: &Health, now: u64) -> Option<Turn> {
        let wait = self.wait(&route.retry);
        self.take(route, health, |_| false, wait, now).or_else(|| self.take(route, health, Vitals::is_ejected, wait, now))
    }

    /// The first target of the plan that was not asked in this round and takes part, or is to be asked `anyway`.
    fn take(&mut self, route: &Route, health: &Health, anyway: impl Fn(&Vitals) -> bool, wait: Duration, now: u64) -> Option<Turn> {
        for step in 0..self.plan.len() {
            let bit = 1u64.checked_shl(step as u32).unwrap_or(0);
            let Some(target) = self.plan.target(route, step).filter(|_| (self.asked | self.passed) & bit == 0) else { continue };
            let Some(vitals) = self.plan.vitals(health, target) else { continue };
            let Some(asking) = vitals.ask(route.ejection, anyway(vitals), wait, now) else { continue };
            self.asked |= bit;
            self.last = bit;
            self.made += 1;
            return Some(Turn { target: target.clone(), wait, asking });
        }
        None
    }

    /// Exponential, with the upper half of it at random, so that clients that failed together do not come back together.
    fn wait(&mut self, retry: &Retry) -> Duration {
        let doublings = self.round.saturating_sub(1).min(31);
        let longest = retry.backoff_initial.saturating_mul(1 << doublings).min(retry.backoff_max);
        let half = longest / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX - 1);
        half + Duration::from_nanos(self.random.below(nanos + 1))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::super::pick::tests::snapshot;
    use super::*;

    const FAILED: Failure = Failure::Provider(FailureClass::Server);

    fn retry(attempts: u32) -> Retry {
        Retry {
            attempts,
            connect: true,
            timeout: true,
            rate_limited: true,
            server_error: true,
            backoff_initial: Duration::from_millis(100),
            backoff_max: Duration::from_millis(300),
        }
    }

    /// Targets asked in turn while everything fails, and the waits in milliseconds. `resting` begin to after the first.
    fn asked(weights: &[u32], fallback: usize, retry: Retry, resting: &[usize]) -> (Vec<usize>, Vec<u128>) {
        let snapshot = snapshot(weights, fallback, "weighted");
        let mut route = Route::clone(&snapshot.routes[0]);
        route.retry = retry;
        let health = Health::new(&snapshot, None);
        let mut attempts = Attempts::new(Plan::new(&route, None, 7, b"", &health, 0), 3);
        let (mut targets, mut waits) = (Vec::new(), Vec::new());
        let mut turn = attempts.first(&route, &health, 0);
        resting.iter().for_each(|target| health.rest(*target, Duration::from_secs(9), 0));
        while let Some(Turn { target, wait, asking }) = turn {
            targets.push(target.index);
            waits.push(wait.as_millis());
            drop(asking);
            turn = attempts.next(&route, FAILED, &health, 0);
        }
        assert_eq!(attempts.made() as usize, targets.len());
        (targets, waits)
    }

    #[test]
    fn every_other_target_comes_before_the_same_one() {
        assert_eq!(asked(&[1, 0], 1, retry(3), &[]), (vec![0, 1, 2], vec![0, 0, 0]));
        let (targets, waits) = asked(&[1], 1, retry(3), &[]);
        assert_eq!((targets, waits[1]), (vec![0, 1, 0], 0));
        assert!(waits[2] >= 50);
        assert_eq!(asked(&[1], 3, retry(2), &[]).0, [0, 1]);
        assert_eq!(asked(&[1], 0, retry(1), &[]).0, [0]);
    }

    #[test]
    fn a_target_alone_is_asked_again_after_growing_waits() {
        let (targets, waits) = asked(&[1], 0, retry(5), &[]);
        assert_eq!(targets, [0; 5]);
        for (wait, longest) in waits.iter().zip([0, 100, 200, 300, 300]) {
            assert!(*wait >= longest / 2 && *wait <= longest, "{waits:?}");
        }
    }

    #[test]
    fn a_target_alone_is_asked_again_also_when_it_is_ejected() {
        let snapshot = snapshot(&[1], 0, "weighted");
        let mut route = Route::clone(&snapshot.routes[0]);
        route.retry = retry(3);
        let health = Health::new(&snapshot, None);
        while health.ask(&route, &route.targets[0], false, Duration::ZERO, 0).unwrap().failed(FAILED, 1).is_none() {}
        let mut attempts = Attempts::new(Plan::new(&route, None, 7, b"", &health, 2), 3);
        let mut turn = attempts.first(&route, &health, 2);
        for made in 1..=3 {
            assert_eq!((turn.take().unwrap().target.index, attempts.made()), (0, made));
            turn = attempts.next(&route, FAILED, &health, 2);
        }
        assert!(turn.is_none() && health.is_ejected(0));
    }

    #[test]
    fn a_target_that_began_to_rest_is_not_asked_again() {
        assert_eq!(asked(&[1], 0, retry(5), &[0]).0, [0]);
        assert_eq!(asked(&[1], 1, retry(4), &[0]).0, [0, 1, 1, 1]);
        // One that has not been asked is the only hope left.
        assert_eq!(asked(&[1], 1, retry(4), &[0, 1]).0, [0, 1]);
        assert_eq!(asked(&[1, 0], 1, retry(4), &[1]).0, [0, 2, 1, 0]);
    }

    /// Targets that are really asked while everything fails and `full` ones cannot be.
    fn passing(weights: &[u32], fallback: usize, attempts: u32, full: &[usize]) -> Vec<usize> {
        let snapshot = snapshot(weights, fallback, "weighted");
        let mut route = Route::clone(&snapshot.routes[0]);
        route.retry = retry(attempts);
        let health = Health::new(&snapshot, None);
        let mut attempts = Attempts::new(Plan::new(&route, None, 7, b"", &health, 0), 3);
        let (mut asked, mut turns) = (Vec::new(), 0);
        let mut turn = attempts.first(&route, &health, 0);
        while let Some(Turn { target, .. }) = turn {
            turns += 1;
            assert!(turns < 50, "it goes on for ever");
            turn = if full.contains(&target.index) {
                attempts.skip(&route, &health, 0)
            } else {
                asked.push(target.index);
                attempts.next(&route, FAILED, &health, 0)
            };
        }
        assert_eq!(attempts.made() as usize, asked.len());
        asked
    }

    #[test]
    fn a_target_that_cannot_be_asked_takes_no_try_and_is_not_come_back_to() {
        assert_eq!(passing(&[1], 1, 1, &[0]), [1]);
        assert_eq!(passing(&[1, 0], 1, 2, &[1]), [0, 2]);
        assert_eq!(passing(&[1], 1, 3, &[1]), [0, 0, 0]);
        assert_eq!(passing(&[1], 2, 4, &[0]), [1, 2, 1, 2]);
        assert!(passing(&[1, 0], 1, 9, &[0, 1, 2]).is_empty());
        assert!(passing(&[1], 0, 9, &[0]).is_empty());
    }

    #[test]
    fn a_probe_is_one_requests_turn_and_the_others_go_elsewhere() {
        let snapshot = snapshot(&[1, 0], 0, "weighted");
        let (route, health) = (&snapshot.routes[0], Health::new(&snapshot, None));
        let ask = |now| health.ask(route, &route.targets[0], false, Duration::ZERO, now);
        while ask(0).unwrap().failed(FAILED, 1).is_none() {}
        let first = |now| {
            // All of them made their plans before anyone began.
            let mut attempts = Attempts::new(Plan::new(route, None, 7, b"", &health, 11_000_000_000), 3);
            attempts.first(route, &health, now).unwrap()
        };
        assert_eq!(first(0).target.index, 1);
        let probe = first(11_000_000_000);
        assert_eq!((probe.target.index, first(11_000_000_000).target.index), (0, 1));
    }

    #[test]
    fn only_what_another_try_can_change_is_retried() {
        use FailureClass::{BadRequest, Credential, NotFound, Overloaded, RateLimited, Server, Timeout};
        let on = |connect, timeout, rate_limited, server_error| Retry { connect, timeout, rate_limited, server_error, ..retry(2) };
        for (failure, its_own) in [
            (Failure::Connect, on(true, false, false, false)),
            (Failure::Timeout, on(false, true, false, false)),
            (Failure::Provider(RateLimited), on(false, false, true, false)),
            (Failure::Broken, on(false, false, false, true)),
            (Failure::Provider(Timeout), on(false, false, false, true)),
            (Failure::Provider(Overloaded), on(false, false, false, true)),
            (Failure::Provider(Server), on(false, false, false, true)),
        ] {
            assert!(failure.is_retried(&its_own), "{failure:?}");
            let others = on(!its_own.connect, !its_own.timeout, !its_own.rate_limited, !its_own.server_error);
            assert!(!failure.is_retried(&others), "{failure:?}");
        }
        for class in [BadRequest, Credential, NotFound] {
            assert!(!Failure::Provider(class).is_retried(&retry(2)));
        }
    }
}
