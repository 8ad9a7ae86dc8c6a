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
use crate::provider::Target;
use crate::route::settings::{Retry, Route};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// Which targets may be asked after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Any of them.
    Any,
    /// Another one: this one would fail in the same way again.
    Another,
    /// Another one that is not known to take no longer prompts than this one; once.
    Larger,
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
    /// Whether the prompt was too long for a target already.
    too_long: bool,
}

/// A request is not sent to a target whose `context` its estimate exceeds by this factor. An estimate is that wrong at times.
const FAR_ABOVE: u64 = 2;

impl Attempts {
    /// Nothing tried yet. `random` is 64 random bits of their own.
    pub fn new(plan: Plan, random: u64) -> Self {
        Self { plan, random: SplitMix(random), made: 0, asked: 0, last: 0, passed: 0, round: 0, too_long: false }
    }

    /// Passes over the targets whose `context` is far too small for a prompt of about so many tokens, unless there are no
    /// others. Gives those targets.
    pub fn pass_over_small<'r>(&mut self, route: &'r Route, prompt_tokens: u64) -> impl Iterator<Item = &'r Arc<Target>> + use<'r> {
        let is_small = |target: &Target| target.context.is_some_and(|context| prompt_tokens > FAR_ABOVE * u64::from(context));
        let mut small: SmallVec<[(u64, &Arc<Target>); 4]> = self.steps(route).filter(|(_, target)| is_small(target)).collect();
        if small.len() == self.steps(route).count() {
            small.clear();
        }
        small.iter().for_each(|(bit, _)| self.passed |= bit);
        small.into_iter().map(|(_, target)| target)
    }

    /// The targets in their order, each with its bit.
    fn steps<'r>(&self, route: &'r Route) -> impl Iterator<Item = (u64, &'r Arc<Target>)> {
        (0..self.plan.len()).filter_map(move |step| Some((1u64.checked_shl(step as u32)?, self.plan.target(route, step)?)))
    }

    /// Passes over the targets that would find the prompt too long as well, as the last one did: those with its model, unless
    /// they are known to take more.
    fn pass_over_as_small(&mut self, route: &Route) {
        let Some(last) = self.steps(route).find(|(bit, _)| *bit == self.last).map(|(_, target)| target.clone()) else { return };
        let as_small = |target: &Target| match (target.context, last.context) {
            (Some(other), Some(tried)) => other <= tried,
            _ => target.model == last.model,
        };
        self.passed |= self.steps(route).filter(|(_, target)| as_small(target)).fold(0, |all, (bit, _)| all | bit);
    }

    /// How many were begun, those that were passed over left out; what `x-tidegate-attempts` says.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// The first target. Counts as begun.
    pub fn first(&mut self, route: &Route, health: &Health, now: u64) -> Option<Turn> {
        let in_time = self.take(route, health, |_| false, Duration::ZERO, now);
        let waited = in_time.or_else(|| self.take_rested(route, health, Duration::ZERO, now));
        waited.or_else(|| self.take(route, health, |_| true, Duration::ZERO, now))
    }

    /// What comes after the last one failed; `None`: tell the client. The plan is gone through in its order, targets that
    /// rest by now after the others; only when there is no target that was not asked yet, it begins anew, with a wait
    /// before each. It then leaves out targets that rest for longer than the longest backoff, but of those that are ejected
    /// the best one is asked when nobody else is left.
    pub fn next(&mut self, route: &Route, next: Next, health: &Health, now: u64) -> Option<Turn> {
        if self.made >= route.retry.attempts || next == Next::Larger && std::mem::replace(&mut self.too_long, true) {
            return None;
        }
        match next {
            Next::Any => {}
            Next::Another => self.passed |= self.last,
            Next::Larger => {
                self.passed |= self.last;
                self.pass_over_as_small(route);
            }
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
        let in_time = self.take(route, health, |_| false, wait, now);
        let waited = in_time.or_else(|| self.take_rested(route, health, wait, now));
        waited.or_else(|| self.take(route, health, Vitals::is_ejected, wait, now))
    }

    /// Of the targets that rest because their provider has asked for it, the one that is back first, if that is within the
    /// longest backoff. Up to an eighth of the rest is added, so that clients that wait together do not come back together.
    fn take_rested(&mut self, route: &Route, health: &Health, at_least: Duration, now: u64) -> Option<Turn> {
        // A rest is rounded up to a millisecond.
        let longest = route.retry.backoff_max.saturating_add(Duration::from_millis(1));
        let steps = self.steps(route).filter(|(bit, _)| (self.asked | self.passed) & bit == 0);
        let rests = steps.filter_map(|(bit, target)| match self.plan.vitals(health, target)?.rests(now)? {
            (left, false) if left <= longest => Some((left, bit)),
            _ => None,
        });
        let (left, bit) = rests.min()?;
        let wait = left.saturating_add(self.jitter(left / 8)).max(at_least);
        let (target, asking) = self
            .steps(route)
            .find(|(step, _)| *step == bit)
            .and_then(|(_, target)| Some((target.clone(), self.plan.vitals(health, target)?.ask(route.ejection, true, wait, now)?)))?;
        self.began(bit);
        Some(Turn { target, wait, asking })
    }

    fn began(&mut self, bit: u64) {
        self.asked |= bit;
        self.last = bit;
        self.made += 1;
    }

    /// The first target of the plan that was not asked in this round and takes part, or is to be asked `anyway`.
    fn take(&mut self, route: &Route, health: &Health, anyway: impl Fn(&Vitals) -> bool, wait: Duration, now: u64) -> Option<Turn> {
        for step in 0..self.plan.len() {
            let bit = 1u64.checked_shl(step as u32).unwrap_or(0);
            let Some(target) = self.plan.target(route, step).filter(|_| (self.asked | self.passed) & bit == 0) else { continue };
            let Some(vitals) = self.plan.vitals(health, target) else { continue };
            let Some(asking) = vitals.ask(route.ejection, anyway(vitals), wait, now) else { continue };
            let target = target.clone();
            self.began(bit);
            return Some(Turn { target, wait, asking });
        }
        None
    }

    /// Exponential, with the upper half of it at random, so that clients that failed together do not come back together.
    fn wait(&mut self, retry: &Retry) -> Duration {
        let doublings = self.round.saturating_sub(1).min(31);
        let longest = retry.backoff_initial.saturating_mul(1 << doublings).min(retry.backoff_max);
        let half = longest / 2;
        half + self.jitter(half)
    }

    /// A random time of at most `most`.
    fn jitter(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.random.below(nanos.saturating_add(1)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::super::pick::tests::snapshot;
    use super::super::standing::Cause;
    use super::*;
    use crate::config::snapshot::Snapshot;

    fn retry(attempts: u32) -> Retry {
        Retry {
            attempts,
            connect: true,
            timeout: true,
            rate_limited: true,
            server_error: true,
            credential: true,
            not_found: true,
            context_length: true,
            content_filter: true,
            backoff_initial: Duration::from_millis(100),
            backoff_max: Duration::from_millis(300),
        }
    }

    /// Targets asked in turn while everything fails, and the waits in milliseconds. `resting` begin to after the first.
    fn asked(weights: &[u32], fallback: usize, retry: Retry, resting: &[usize]) -> (Vec<usize>, Vec<u128>) {
        let snapshot = snapshot(weights, fallback, "weighted");
        let mut route = Route::clone(&snapshot.routes[0]);
        route.retry = retry;
        let health = Health::new(&snapshot.routes, None);
        let mut attempts = Attempts::new(Plan::new(&route, None, 7, b"", &health, 0), 3);
        let (mut targets, mut waits) = (Vec::new(), Vec::new());
        let mut turn = attempts.first(&route, &health, 0);
        resting.iter().for_each(|target| health.rest(*target, Duration::from_secs(9), 0));
        while let Some(Turn { target, wait, asking }) = turn {
            targets.push(target.index);
            waits.push(wait.as_millis());
            drop(asking);
            turn = attempts.next(&route, Next::Any, &health, 0);
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
        let health = Health::new(&snapshot.routes, None);
        while health.ask(&route, &route.targets[0], false, Duration::ZERO, 0).unwrap().failed(Cause::Failures, 1).is_none() {}
        let mut attempts = Attempts::new(Plan::new(&route, None, 7, b"", &health, 2), 3);
        let mut turn = attempts.first(&route, &health, 2);
        for made in 1..=3 {
            assert_eq!((turn.take().unwrap().target.index, attempts.made()), (0, made));
            turn = attempts.next(&route, Next::Any, &health, 2);
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

    #[test]
    fn a_short_rest_is_waited_for_where_only_resting_targets_are_left() {
        let millis =
            |rests: &[(usize, u64)]| rests.iter().map(|(target, rest)| (*target, Duration::from_millis(*rest))).collect::<Vec<_>>();
        for (weights, fallback, before, after, targets, longest) in [
            // A target alone: its rest counts where it is longer than the backoff.
            (&[1][..], 0, &[][..], &[(0, 280)][..], &[0, 0][..], &[0, 280][..]),
            (&[1], 0, &[], &[(0, 320)], &[0], &[0]),
            // Another target comes first, whatever the rest.
            (&[1], 1, &[], &[(0, 280)], &[0, 1, 1], &[0, 0, 0]),
            // All rest before anyone was asked: the shortest rest is waited for, a long one is not.
            (&[1, 0], 0, &[(0, 250), (1, 240)], &[], &[1, 0, 1], &[240, 250, 0]),
            (&[1], 0, &[(0, 9000)], &[], &[0], &[0]),
        ] {
            let snapshot = snapshot(weights, fallback, "weighted");
            let mut route = Route::clone(&snapshot.routes[0]);
            route.retry = retry(if after.is_empty() { weights.len() as u32 } else { 1 + targets.len() as u32 });
            let health = Health::new(&snapshot.routes, None);
            millis(before).iter().for_each(|(target, rest)| health.rest(*target, *rest, 0));
            let mut attempts = Attempts::new(Plan::new(&route, None, 7, b"", &health, 0), 3);
            let mut turn = attempts.first(&route, &health, 0);
            millis(after).iter().for_each(|(target, rest)| health.rest(*target, *rest, 0));
            for (target, rest) in targets.iter().zip(longest).take(route.retry.attempts as usize) {
                let Some(Turn { target: asked, wait, .. }) = turn.take() else { panic!("{before:?} {after:?}: not {target}") };
                let rest = Duration::from_millis(*rest);
                assert_eq!(asked.index, *target, "{before:?} {after:?}");
                assert!(rest.is_zero() || (rest..=rest + rest / 8).contains(&wait), "{before:?} {after:?}: {wait:?}");
                turn = attempts.next(&route, Next::Any, &health, 0);
            }
            assert!(turn.is_none() || targets.len() > 1, "{before:?} {after:?}");
        }
    }

    /// Targets that are really asked while everything fails and `full` ones cannot be.
    fn passing(weights: &[u32], fallback: usize, attempts: u32, full: &[usize]) -> Vec<usize> {
        let snapshot = snapshot(weights, fallback, "weighted");
        let mut route = Route::clone(&snapshot.routes[0]);
        route.retry = retry(attempts);
        let health = Health::new(&snapshot.routes, None);
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
                attempts.next(&route, Next::Any, &health, 0)
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
        let (route, health) = (&snapshot.routes[0], Health::new(&snapshot.routes, None));
        let ask = |now| health.ask(route, &route.targets[0], false, Duration::ZERO, now);
        while ask(0).unwrap().failed(Cause::Failures, 1).is_none() {}
        let first = |now| {
            // All of them made their plans before anyone began.
            let mut attempts = Attempts::new(Plan::new(route, None, 7, b"", &health, 11_000_000_000), 3);
            attempts.first(route, &health, now).unwrap()
        };
        assert_eq!(first(0).target.index, 1);
        let probe = first(11_000_000_000);
        assert_eq!((probe.target.index, first(11_000_000_000).target.index), (0, 1));
    }

    /// A route with these targets (model and `context`), the last `fallback` of which stand by.
    fn route(targets: &[(&str, Option<u32>)], attempts: u32) -> (Snapshot, Route) {
        let target = |(model, context): &(&str, Option<u32>)| {
            let context = context.map_or(String::new(), |context| format!(", context: {context}"));
            format!("{{ provider: p, model: {model}{context} }}")
        };
        let all: Vec<_> = targets.iter().map(target).collect();
        let text = format!(
            "providers: {{ p: {{ kind: openai, api_key: k }} }}\nroutes: {{ r: {{ targets: [{}], fallback: [{}] }} }}\n",
            all[0],
            all[1..].join(", ")
        );
        let snapshot = crate::config::parse(&text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot;
        let mut route = Route::clone(&snapshot.routes[0]);
        route.retry = retry(attempts);
        (snapshot, route)
    }

    /// Targets asked in turn while each fails so that `nexts` may be asked, the last one repeated.
    fn failing(targets: &[(&str, Option<u32>)], attempts: u32, nexts: &[Next]) -> Vec<usize> {
        let (snapshot, route) = route(targets, attempts);
        let health = Health::new(&snapshot.routes, None);
        let mut attempts = Attempts::new(Plan::new(&route, None, 7, b"", &health, 0), 3);
        let (mut asked, mut turn) = (Vec::new(), attempts.first(&route, &health, 0));
        while let Some(Turn { target, asking, .. }) = turn {
            let next = *nexts.get(asked.len()).or(nexts.last()).unwrap();
            asked.push(target.index);
            drop(asking);
            turn = attempts.next(&route, next, &health, 0);
        }
        asked
    }

    #[test]
    fn a_target_that_would_fail_in_the_same_way_is_not_asked_again() {
        use Next::{Another, Any};
        let (a, b) = (("a", None), ("b", None));
        assert_eq!(failing(&[a], 5, &[Another]), [0]);
        assert_eq!(failing(&[a, b], 5, &[Another]), [0, 1]);
        assert_eq!(failing(&[a, b], 4, &[Another, Any]), [0, 1, 1, 1]);
    }

    #[test]
    fn a_prompt_that_is_too_long_moves_once_to_another_model_that_is_not_known_to_be_as_small() {
        use Next::{Any, Larger};
        let model = |name, context| (name, context);
        for (targets, nexts, asked) in [
            (&[model("a", None), model("a", None), model("b", None)][..], &[Larger][..], &[0, 2][..]),
            (&[model("a", None), model("b", None), model("c", None)], &[Larger], &[0, 1]),
            (&[model("a", None), model("b", None), model("c", None)], &[Larger, Any], &[0, 1, 2, 1]),
            (&[model("a", None), model("b", None), model("c", None)], &[Any, Larger, Any], &[0, 1, 2, 0]),
            (&[model("a", Some(9)), model("b", Some(9)), model("a", Some(10))], &[Larger], &[0, 2]),
            (&[model("a", Some(9)), model("b", Some(8))], &[Larger], &[0]),
            (&[model("a", None)], &[Larger], &[0]),
        ] {
            assert_eq!(failing(targets, 4, nexts), asked, "{targets:?} {nexts:?}");
        }
    }

    #[test]
    fn a_target_whose_context_is_far_too_small_is_passed_over_unless_all_are() {
        for (contexts, tokens, passed, first) in [
            ([Some(100), None, None], 200, &[][..], 0),
            ([Some(100), None, None], 201, &[0][..], 1),
            ([Some(100), Some(150), Some(1000)], 400, &[0, 1], 2),
            ([Some(100), Some(150), Some(200)], 900, &[], 0),
            ([None, None, None], 900, &[], 0),
        ] {
            let (snapshot, route) = route(&["a", "b", "c"].map(|model| (model, contexts[usize::from(model.as_bytes()[0] - b'a')])), 3);
            let health = Health::new(&snapshot.routes, None);
            let mut attempts = Attempts::new(Plan::new(&route, None, 7, b"", &health, 0), 3);
            let small: Vec<_> = attempts.pass_over_small(&route, tokens).map(|target| target.index).collect();
            let turn = attempts.first(&route, &health, 0).unwrap();
            assert_eq!((&small[..], turn.target.index), (passed, first), "{contexts:?} {tokens}");
            assert_eq!(route.smallest_context, contexts.into_iter().flatten().min());
        }
    }
}
