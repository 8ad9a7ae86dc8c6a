//! Selects the target of each attempt.
//!
//! ```text
//!            failure that the route retries,        another target: at once
//! attempt --------------------------------> next ---------------------------> attempt
//!    |          attempts left               ^ |     the same again: after a wait
//!    |                                      | |
//!    +--- any other failure, none left -----|-+-> give up
//!                                           |
//! unusable target ------------- skip -----+  counts as no attempt and is not tried again
//! ```
//!
//! A retry at a provider that the request has already asked takes one of the route's [budget](super::budget). Once that is spent,
//! only other providers are asked.
//!
//! The caller retries only while nothing of the response has been sent to the client.

use super::health::{AttemptTracker, Health, HealthEntry};
use super::pick::{Plan, SplitMix};
use crate::provider::Target;
use crate::route::settings::{Retry, Route};
use crate::units::nanoseconds;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// Which targets may be tried after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Any of them.
    Any,
    /// Any other: this one would fail again.
    Another,
    /// Once, another whose context is larger or unknown.
    Larger,
}

/// The next attempt.
pub struct NextAttempt {
    /// Its target.
    pub target: Arc<Target>,
    /// Delay before it; zero for the first attempt at a target, unless the target is paused.
    pub wait: Duration,
    /// Reports its result to the target's health.
    pub tracker: AttemptTracker,
}

/// The attempts of one request: its plan and progress.
#[derive(Clone)]
pub struct Attempts {
    plan: Plan,
    random: SplitMix,
    /// Attempts started.
    made: u32,
    /// Bit set of the steps of the plan that were tried in this round; a route has at most 64 targets.
    tried: u64,
    /// Bit of the last step.
    last: u64,
    /// Bit set of the steps whose attempts have failed.
    asked: u64,
    /// Bit set of skipped steps.
    skipped: u64,
    /// Number of completed rounds of the plan.
    round: u32,
    /// Whether the prompt was too long for a target.
    too_long: bool,
    /// Whether the last step has taken a retry of the budget.
    paid: bool,
    /// The target that the retry budget has kept from being asked; until that is reported.
    over_budget: Option<Arc<Target>>,
}

/// A target is skipped if the estimated prompt exceeds its `context` by this factor, the margin of error of an estimate.
const FAR_ABOVE: u64 = 2;

impl Attempts {
    /// No attempt started. `random` seeds the jitter.
    pub fn new(plan: Plan, random: u64) -> Self {
        Self {
            plan,
            random: SplitMix(random),
            made: 0,
            tried: 0,
            last: 0,
            asked: 0,
            skipped: 0,
            round: 0,
            too_long: false,
            paid: false,
            over_budget: None,
        }
    }

    /// Skips the targets whose `context` is far too small for a prompt of about `prompt_tokens`, unless that is all of them.
    /// Returns the skipped targets.
    pub fn pass_over_small<'r>(&mut self, route: &'r Route, prompt_tokens: u64) -> SmallVec<[&'r Arc<Target>; 4]> {
        let is_small = |target: &Target| target.context.is_some_and(|context| prompt_tokens > FAR_ABOVE * u64::from(context));
        let all_are = self.steps(route).all(|(_, target)| is_small(target));
        self.pass_over(route, |target| !all_are && is_small(target))
    }

    /// Skips the targets that cannot serve the request. Returns them.
    pub fn pass_over<'r>(&mut self, route: &'r Route, cannot: impl Fn(&Target) -> bool) -> SmallVec<[&'r Arc<Target>; 4]> {
        let skipped: SmallVec<[(u64, &Arc<Target>); 4]> = self.steps(route).filter(|(_, target)| cannot(target)).collect();
        skipped.iter().for_each(|(bit, _)| self.skipped |= bit);
        skipped.into_iter().map(|(_, target)| target).collect()
    }

    /// The targets in order, each with its bit.
    fn steps<'r>(&self, route: &'r Route) -> impl Iterator<Item = (u64, &'r Arc<Target>)> {
        (0..self.plan.len()).filter_map(move |step| Some((1u64.checked_shl(step as u32)?, self.plan.target(route, step)?)))
    }

    /// Those that were neither tried in this round nor skipped.
    fn left<'r>(&self, route: &'r Route) -> impl Iterator<Item = (u64, &'r Arc<Target>)> {
        self.steps(route).filter(|(bit, _)| (self.tried | self.skipped) & bit == 0)
    }

    /// Skips the targets for which the prompt is too long as well: those whose `context` is not larger than that of the last
    /// one, or, if either is unknown, that have the same model.
    fn skip_as_small(&mut self, route: &Route) {
        let Some(last) = self.steps(route).find(|(bit, _)| *bit == self.last).map(|(_, target)| target.clone()) else { return };
        let as_small = |target: &Target| match (target.context, last.context) {
            (Some(other), Some(tried)) => other <= tried,
            _ => target.model == last.model,
        };
        self.skipped |= self.steps(route).filter(|(_, target)| as_small(target)).fold(0, |all, (bit, _)| all | bit);
    }

    /// Number of attempts started, without skipped ones; sent as `x-tidegate-attempts`.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// The first attempt. Counts as started.
    pub fn first(&mut self, route: &Route, health: &Health, now: u64) -> Option<NextAttempt> {
        let available = self.take(route, health, |_| false, Duration::ZERO, now);
        let paused = available.or_else(|| self.take_after_pause(route, health, Duration::ZERO, now));
        paused.or_else(|| self.take(route, health, |_| true, Duration::ZERO, now))
    }

    /// The attempt after a failed one; `None` to give up. Targets are tried in the order of the plan, unavailable ones last.
    /// When all were tried, further rounds follow, with a delay before each attempt. These leave out targets that are paused
    /// for longer than the maximum backoff; the first ejected one is tried if no other is left.
    pub fn next(&mut self, route: &Route, next: Next, health: &Health, now: u64) -> Option<NextAttempt> {
        self.asked |= self.last;
        if self.made >= route.retry.attempts || next == Next::Larger && std::mem::replace(&mut self.too_long, true) {
            return None;
        }
        match next {
            Next::Any => {}
            Next::Another => self.skipped |= self.last,
            Next::Larger => {
                self.skipped |= self.last;
                self.skip_as_small(route);
            }
        }
        self.advance(route, health, now)
    }

    /// The attempt in place of the last one, whose target cannot be used. That one is not counted.
    pub fn skip(&mut self, route: &Route, health: &Health, now: u64) -> Option<NextAttempt> {
        self.cancel(route, health, now);
        self.skipped |= self.last;
        self.advance(route, health, now)
    }

    /// The last attempt is not made. It is not counted, neither here nor in the retry budget.
    pub fn cancel(&mut self, route: &Route, health: &Health, now: u64) {
        self.made = self.made.saturating_sub(1);
        if let (true, Some(budget)) = (std::mem::take(&mut self.paid), health.budget(route)) {
            budget.give_back(now);
        }
    }

    fn advance(&mut self, route: &Route, health: &Health, now: u64) -> Option<NextAttempt> {
        let next = self.pick(route, health, now)?;
        let asked = |target: &Target| target.provider.index == next.target.provider.index;
        let is_repeated = self.steps(route).any(|(bit, target)| self.asked & bit != 0 && asked(target));
        let budget = health.budget(route).filter(|_| is_repeated);
        self.paid = budget.is_some_and(|budget| budget.take(route.retry.budget, now));
        if budget.is_none() || self.paid {
            return Some(next);
        }
        self.made = self.made.saturating_sub(1);
        self.over_budget = Some(next.target);
        let providers: SmallVec<[usize; 8]> =
            self.steps(route).filter(|(bit, _)| self.asked & bit != 0).map(|(_, target)| target.provider.index).collect();
        self.pass_over(route, |target| providers.contains(&target.provider.index));
        self.pick(route, health, now)
    }

    /// The target that the retry budget has kept from being asked since the last call.
    pub fn take_over_budget(&mut self) -> Option<Arc<Target>> {
        self.over_budget.take()
    }

    fn pick(&mut self, route: &Route, health: &Health, now: u64) -> Option<NextAttempt> {
        let in_this_round = if self.round == 0 { self.first(route, health, now) } else { self.retry_round(route, health, now) };
        in_this_round.or_else(|| {
            self.round += 1;
            self.tried = 0;
            self.retry_round(route, health, now)
        })
    }

    fn retry_round(&mut self, route: &Route, health: &Health, now: u64) -> Option<NextAttempt> {
        let wait = self.wait(&route.retry);
        let available = self.take(route, health, |_| false, wait, now);
        let paused = available.or_else(|| self.take_after_pause(route, health, wait, now));
        paused.or_else(|| self.take(route, health, HealthEntry::is_ejected, wait, now))
    }

    /// Of the targets paused at their provider's request, the one whose pause ends first, if that is within the maximum
    /// backoff. Jitter of up to an eighth of the pause is added.
    fn take_after_pause(&mut self, route: &Route, health: &Health, at_least: Duration, now: u64) -> Option<NextAttempt> {
        // Pauses are rounded up to a millisecond.
        let longest = route.retry.backoff_max.saturating_add(Duration::from_millis(1));
        let pauses = self.left(route).filter_map(|(bit, target)| match self.plan.entry(health, target)?.unavailability(now)? {
            (left, false) if left <= longest => Some((left, bit, target)),
            _ => None,
        });
        let (left, bit, target) = pauses.min_by_key(|(left, ..)| *left)?;
        let wait = left.saturating_add(self.jitter(left / 8)).max(at_least);
        let tracker = self.plan.entry(health, target)?.begin(route.ejection, true, wait, now)?;
        self.start(bit);
        Some(NextAttempt { target: target.clone(), wait, tracker })
    }

    fn start(&mut self, bit: u64) {
        self.tried |= bit;
        self.last = bit;
        self.made += 1;
    }

    /// The first target of the plan that was not tried in this round and is available, or for which `force` is true.
    fn take(&mut self, route: &Route, health: &Health, force: fn(&HealthEntry) -> bool, wait: Duration, now: u64) -> Option<NextAttempt> {
        let (bit, target, tracker) = self.left(route).find_map(|(bit, target)| {
            let entry = self.plan.entry(health, target)?;
            let tracker = entry.begin(route.ejection, force(entry), wait, now)?;
            Some((bit, target.clone(), tracker))
        })?;
        self.start(bit);
        Some(NextAttempt { target, wait, tracker })
    }

    /// Exponential backoff; its upper half is jitter.
    fn wait(&mut self, retry: &Retry) -> Duration {
        let doublings = self.round.saturating_sub(1).min(31);
        let longest = retry.backoff_initial.saturating_mul(1 << doublings).min(retry.backoff_max);
        let half = longest / 2;
        half + self.jitter(half)
    }

    /// A random time up to `most`.
    fn jitter(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.random.below(nanoseconds(most).saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::availability::Cause;
    use super::super::budget::WINDOW;
    use super::super::pick::tests::snapshot;
    use super::*;
    use crate::config::snapshot::Snapshot;
    use crate::route::settings::Budget;

    fn retry(attempts: u32) -> Retry {
        Retry {
            budget: Budget { share: 200_000, per_second: 10 },
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
        resting.iter().for_each(|target| health.pause(*target, Duration::from_secs(9), 0));
        while let Some(NextAttempt { target, wait, tracker }) = turn {
            targets.push(target.index);
            waits.push(wait.as_millis());
            drop(tracker);
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
    fn once_the_budget_is_spent_only_other_providers_are_asked() {
        let text = "providers: { p: { kind: openai, api_key: k }, q: { kind: openai, api_key: k } }\n\
            routes: { r: { targets: [{ provider: p, model: a }], fallback: [{ provider: p, model: b }, { provider: q, model: c }] } }\n";
        let snapshot = crate::config::parse(text, "t", &|_| None).unwrap().snapshot;
        let health = Health::new(&snapshot.routes, None);
        let mut route = Route::clone(&snapshot.routes[0]);
        route.retry = Retry { budget: Budget { share: 0, per_second: 1 }, ..retry(9) };
        let mut asked = |attempts: u32| {
            route.retry.attempts = attempts;
            let mut attempts = Attempts::new(Plan::new(&route, None, 7, b"", &health, 0), 3);
            let mut turn = attempts.first(&route, &health, 0);
            let mut asked = Vec::new();
            while let Some(NextAttempt { target, tracker, .. }) = turn {
                asked.push(target.index);
                drop(tracker);
                turn = attempts.next(&route, Next::Any, &health, 0);
            }
            assert_eq!(attempts.made() as usize, asked.len());
            (asked, attempts.take_over_budget().map(|target| target.index))
        };
        // Of five retries, one is at another provider.
        for _ in 0..WINDOW / 4 {
            assert_eq!(asked(6), (vec![0, 1, 2, 0, 1, 2], None));
        }
        assert_eq!(asked(6), (vec![0, 1, 2, 0], Some(1)));
        assert_eq!(asked(6).0, [0, 2]);
        assert_eq!(asked(2), (vec![0, 2], Some(1)), "the attempt that was not made takes none of the route's");
    }

    #[test]
    fn a_target_alone_is_asked_again_also_when_it_is_ejected() {
        let snapshot = snapshot(&[1], 0, "weighted");
        let mut route = Route::clone(&snapshot.routes[0]);
        route.retry = retry(3);
        let health = Health::new(&snapshot.routes, None);
        while health.begin(&route, &route.targets[0], false, Duration::ZERO, 0).unwrap().failed(Cause::Failures, 1).is_none() {}
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
            millis(before).iter().for_each(|(target, rest)| health.pause(*target, *rest, 0));
            let mut attempts = Attempts::new(Plan::new(&route, None, 7, b"", &health, 0), 3);
            let mut turn = attempts.first(&route, &health, 0);
            millis(after).iter().for_each(|(target, rest)| health.pause(*target, *rest, 0));
            for (target, rest) in targets.iter().zip(longest).take(route.retry.attempts as usize) {
                let Some(NextAttempt { target: asked, wait, .. }) = turn.take() else { panic!("{before:?} {after:?}: not {target}") };
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
        while let Some(NextAttempt { target, .. }) = turn {
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
        let ask = |now| health.begin(route, &route.targets[0], false, Duration::ZERO, now);
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
        while let Some(NextAttempt { target, tracker, .. }) = turn {
            let next = *nexts.get(asked.len()).or(nexts.last()).unwrap();
            asked.push(target.index);
            drop(tracker);
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
            let small: Vec<_> = attempts.pass_over_small(&route, tokens).into_iter().map(|target| target.index).collect();
            let turn = attempts.first(&route, &health, 0).unwrap();
            assert_eq!((&small[..], turn.target.index), (passed, first), "{contexts:?} {tokens}");
            assert_eq!(route.smallest_context, contexts.into_iter().flatten().min());
        }
    }
}
