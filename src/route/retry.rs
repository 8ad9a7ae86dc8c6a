//! What happens after a failed attempt.
//!
//! ```text
//!            failure that the route retries,        another target: at once
//! attempt --------------------------------> next ---------------------------> attempt
//!    |          attempts left                 |     the same again: after a wait
//!    |                                        |
//!    +--- any other failure, none left --> give up
//! ```
//!
//! Only an attempt of which the client has seen nothing may be followed by another; the edge asks only then.

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

/// What to do next.
#[derive(Clone)]
pub enum Next<'r> {
    /// Ask this target, after this wait (zero for a target that has not been asked yet).
    Ask(&'r Arc<Target>, Duration),
    /// Tell the client.
    GiveUp,
}

/// The attempts of one request: its plan and how far it has come.
#[derive(Clone, Debug)]
pub struct Attempts {
    plan: Plan,
    random: SplitMix,
    /// Tries that were begun.
    made: u32,
    /// Step of the plan that was begun last.
    step: usize,
}

impl Attempts {
    /// Nothing tried yet. `random` is 64 random bits of their own.
    pub fn new(plan: Plan, random: u64) -> Self {
        Self { plan, random: SplitMix(random), made: 0, step: 0 }
    }

    /// How many were begun; what `x-tidegate-attempts` says.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// The first target. Counts as begun.
    pub fn first<'r>(&mut self, route: &'r Route) -> Option<&'r Arc<Target>> {
        let target = self.plan.target(route, 0)?;
        self.made = 1;
        Some(target)
    }

    /// What comes after the last one failed. The plan is gone through in its order; only when it has no target that was
    /// not asked yet, it begins anew, leaving out targets that have begun to cool down, and with a wait before each.
    pub fn next<'r>(&mut self, route: &'r Route, failure: Failure, is_cooling: impl Fn(usize) -> bool) -> Next<'r> {
        if self.made >= route.retry.attempts || self.plan.is_empty() || !failure.is_retried(&route.retry) {
            return Next::GiveUp;
        }
        for step in self.step + 1..=self.step + self.plan.len() {
            let round = step / self.plan.len();
            let Some(target) = self.plan.target(route, step % self.plan.len()) else { break };
            if round > 0 && is_cooling(target.index) {
                continue;
            }
            self.step = step;
            self.made += 1;
            let wait = if round == 0 { Duration::ZERO } else { self.wait(&route.retry, round) };
            return Next::Ask(target, wait);
        }
        Next::GiveUp
    }

    /// Exponential, with the upper half of it at random, so that clients that failed together do not come back together.
    fn wait(&mut self, retry: &Retry, round: usize) -> Duration {
        let doublings = u32::try_from(round.saturating_sub(1)).unwrap_or(u32::MAX).min(31);
        let longest = retry.backoff_initial.saturating_mul(1 << doublings).min(retry.backoff_max);
        let half = longest / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX - 1);
        half + Duration::from_nanos(self.random.below(nanos + 1))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::super::pick::tests::route;
    use super::*;

    const FAILED: Failure = Failure::Provider(FailureClass::Server);

    fn with(weights: &[u32], fallback: usize, retry: Retry) -> Route {
        let mut route = Arc::into_inner(route(weights, fallback)).unwrap();
        route.retry = retry;
        route
    }

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

    /// Targets asked in turn while everything fails, and the waits in milliseconds.
    fn asked(route: &Route, cooling: &[usize]) -> (Vec<usize>, Vec<u128>) {
        let plan = Plan::new(route, 7, |_| false);
        let mut attempts = Attempts::new(plan, 3);
        let mut targets = vec![attempts.first(route).unwrap().index];
        let mut waits = vec![0];
        while let Next::Ask(target, wait) = attempts.next(route, FAILED, |target| cooling.contains(&target)) {
            targets.push(target.index);
            waits.push(wait.as_millis());
        }
        assert_eq!(attempts.made() as usize, targets.len());
        (targets, waits)
    }

    #[test]
    fn every_other_target_comes_before_the_same_one() {
        assert_eq!(asked(&with(&[1, 0], 1, retry(3)), &[]), (vec![0, 1, 2], vec![0, 0, 0]));
        let (targets, waits) = asked(&with(&[1], 1, retry(3)), &[]);
        assert_eq!((targets, waits[1]), (vec![0, 1, 0], 0));
        assert!(waits[2] >= 50);
        assert_eq!(asked(&with(&[1], 3, retry(2)), &[]).0, [0, 1]);
        assert_eq!(asked(&with(&[1], 0, retry(1)), &[]).0, [0]);
    }

    #[test]
    fn a_target_alone_is_asked_again_after_growing_waits() {
        let (targets, waits) = asked(&with(&[1], 0, retry(5)), &[]);
        assert_eq!(targets, [0; 5]);
        for (wait, longest) in waits.iter().zip([0, 100, 200, 300, 300]) {
            assert!(*wait >= longest / 2 && *wait <= longest, "{waits:?}");
        }
    }

    #[test]
    fn a_target_that_began_to_cool_down_is_not_asked_again() {
        assert_eq!(asked(&with(&[1], 0, retry(5)), &[0]).0, [0]);
        assert_eq!(asked(&with(&[1], 1, retry(4)), &[0]).0, [0, 1, 1, 1]);
        // One that has not been asked is the only hope left.
        assert_eq!(asked(&with(&[1], 1, retry(4)), &[0, 1]).0, [0, 1]);
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
