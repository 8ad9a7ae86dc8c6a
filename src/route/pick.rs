//! Orders the targets of a route for one request.
//!
//! Each target draws a time from an exponential distribution with its weight as rate; sorting by time is a weighted
//! choice without repetition. With the request's random number as seed this is `weighted`. With a hash of the
//! conversation as seed it is `sticky`, weighted rendezvous hashing (Thaler and Ravishankar, 1998): adding or removing
//! a target moves only its own share.

use super::health::{Health, HealthEntry, Resolved};
use crate::provider::Target;
use crate::route::settings::{Balance, Route};
use smallvec::SmallVec;
use std::sync::Arc;

/// The order of targets for one request, best first: weighted targets as balanced, those of weight 0 in configuration
/// order, then the fallback. Replicas of a provider are adjacent. Unavailable targets come last, so that a route
/// without available targets still tries.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Indices into the route's targets followed by its fallback.
    order: SmallVec<[u16; 8]>,
    /// Entries of the route's patterns.
    resolved: Resolved,
}

impl Plan {
    /// Makes the plan. `star` is the text matched by the route's `*`, `random` 64 random bits, `belongs_to` the key for
    /// `sticky`, `now` the time for `health`.
    pub fn new(route: &Route, star: Option<&str>, random: u64, belongs_to: &[u8], health: &Health, now: u64) -> Self {
        let resolved = health.resolve(route, star);
        let start = if route.balance == Balance::Sticky { hash(0, belongs_to) } else { random };
        let time = |target: &Target| SplitMix(start ^ health.seed(target.index)).exponential() / f64::from(target.weight);
        let mut racing: SmallVec<[(f64, u16); 8]> = SmallVec::new();
        let mut standing_by: SmallVec<[u16; 8]> = SmallVec::new();
        for (target, place) in route.targets.iter().zip(0u16..).filter(|(target, _)| target.replicas > 0) {
            if target.weight > 0 { racing.push((time(target), place)) } else { standing_by.push(place) }
        }
        racing.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let first_fallback = route.targets.len();
        let fallback = route.fallback.iter().zip(first_fallback..).filter(|(target, _)| target.replicas > 0);
        standing_by.extend(fallback.map(|(_, place)| place as u16));

        let entry = |place: u16| health.entry(&resolved, at(route, place)?.index);
        let avoided = |place: &u16| entry(*place).is_some_and(|entry| entry.is_unavailable(now));
        let in_flight = |place: u16| entry(place).map_or(0, |entry| entry.in_flight());
        // A target counts by its best replica.
        let replicas = |first: u16| first..first + at(route, first).map_or(1, |target| target.replicas.max(1));
        let out = |first: &u16| replicas(*first).all(|place| avoided(&place));
        let load = |first: u16| match route.balance {
            Balance::Weighted | Balance::Sticky => 0,
            Balance::LeastRequests => replicas(first).map(|place| u64::from(in_flight(place))).min().unwrap_or(0),
            Balance::Latency => replicas(first).filter_map(|place| Some(entry(place)?.load(now))).min().unwrap_or(0),
        };
        let mut order: SmallVec<[u16; 8]> = racing.iter().map(|(_, place)| *place).collect();
        // Power of two choices: the better of the first two available ones, which are a weighted choice.
        let mut two = order.iter_mut().filter(|place| !out(place));
        if let (Some(first), Some(second)) = (two.next(), two.next())
            && load(*second) < load(*first)
        {
            std::mem::swap(first, second);
        }
        // `sticky` fixes the replica too; otherwise the one with the fewest requests in flight is first.
        let each = |first: u16| -> SmallVec<[u16; 8]> {
            let mut all: SmallVec<[u16; 8]> = replicas(first).collect();
            if all.len() > 1 {
                let draw = |place: u16| SplitMix(start ^ health.replica_seed(at(route, place).map_or(0, |target| target.index))).next();
                all.sort_by_cached_key(|place| match route.balance {
                    Balance::Sticky => (0, draw(*place)),
                    _ => (in_flight(*place), draw(*place)),
                });
            }
            all
        };
        let order = order.into_iter().chain(standing_by);
        let order: SmallVec<[u16; 8]> = if route.pooled { order.flat_map(each).collect() } else { order.collect() };
        let (last, mut order): (SmallVec<[u16; 8]>, SmallVec<[u16; 8]>) = order.into_iter().partition(avoided);
        order.extend(last);
        Self { order, resolved }
    }

    /// Number of targets.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Target number `step`, from 0. `route` must be that of [`Plan::new`].
    pub fn target<'r>(&self, route: &'r Route, step: usize) -> Option<&'r Arc<Target>> {
        at(route, *self.order.get(step)?)
    }

    /// The entry of a target.
    pub(super) fn entry<'h>(&'h self, health: &'h Health, target: &Target) -> Option<&'h Arc<HealthEntry>> {
        health.entry(&self.resolved, target.index)
    }
}

fn at(route: &Route, place: u16) -> Option<&Arc<Target>> {
    let place = usize::from(place);
    route.targets.get(place).or_else(|| route.fallback.get(place.checked_sub(route.targets.len())?))
}

/// SplitMix64 (Steele, Lea and Flood, 2014): derives a sequence from one random number.
#[derive(Clone, Copy, Debug)]
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A positive sample of the exponential distribution with rate 1.
    fn exponential(&mut self) -> f64 {
        // The upper 53 bits fit a float; adding a half avoids the logarithm of 0.
        -(((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64).ln()
    }

    /// A number below `bound`, with a bias of `bound / 2^64`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// FNV-1a with a final mix. Stable across nodes and versions, because it selects provider caches.
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    SplitMix(bytes.iter().fold(seed ^ 0xcbf2_9ce4_8422_2325, fnv)).next()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config;
    use crate::config::snapshot::Snapshot;
    use std::time::Duration;

    /// A configuration with one route, whose targets are t0, t1 … and then f0, f1 …
    pub fn snapshot(weights: &[u32], fallback: usize, balance: &str) -> Snapshot {
        let target = |(i, weight): (usize, &u32)| format!("{{ provider: p, model: t{i}, weight: {weight} }}");
        let targets: Vec<_> = weights.iter().enumerate().map(target).collect();
        let more: Vec<_> = (0..fallback).map(|i| format!("{{ provider: p, model: f{i} }}")).collect();
        let text = format!(
            "providers: {{ p: {{ kind: openai, api_key: k }} }}\nroutes: {{ r: {{ balance: {balance}, targets: [{}], fallback: [{}] }} }}\n",
            targets.join(", "),
            more.join(", ")
        );
        config::parse(&text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot
    }

    const NOW: u64 = 1_000_000_000;

    fn order(snapshot: &Snapshot, health: &Health, random: u64, belongs_to: &str) -> Vec<usize> {
        let route = &snapshot.routes[0];
        let plan = Plan::new(route, None, random, belongs_to.as_bytes(), health, NOW);
        (0..plan.len()).map(|step| plan.target(route, step).unwrap().index).collect()
    }

    /// How often each target comes first.
    fn shares(snapshot: &Snapshot, health: &Health) -> Vec<i32> {
        let mut first = vec![0; snapshot.routes.targets];
        for random in 0..10_000 {
            first[order(snapshot, health, SplitMix(random).next(), &format!("conversation {random}"))[0]] += 1;
        }
        first
    }

    fn near(counts: &[i32], want: &[i32]) -> bool {
        // The standard deviations are about 50 at the most.
        counts.len() == want.len() && counts.iter().zip(want).all(|(count, want)| i32::abs(count - want) < 250)
    }

    #[test]
    fn the_first_choice_follows_the_weights() {
        let s = snapshot(&[6, 3, 1, 0], 2, "weighted");
        let health = Health::new(&s.routes, None);
        let counts = shares(&s, &health);
        assert!(near(&counts, &[6000, 3000, 1000, 0, 0, 0]), "{counts:?}");
        let mut second_after_heavy = [0; 6];
        for random in 0..10_000 {
            let order = order(&s, &health, random, "");
            second_after_heavy[order[1]] += i32::from(order[0] == 0);
            assert_eq!(order[3..], [3, 4, 5]);
        }
        assert!(near(&second_after_heavy, &[0, 4500, 1500, 0, 0, 0]), "{second_after_heavy:?}");
    }

    #[test]
    fn the_same_target_twice_has_two_shares() {
        let text = "providers: { p: { kind: openai, api_key: k } }\nroutes: { r: { targets: [ { provider: p, model: m }, { provider: p, model: m, weight: 3 } ] } }";
        let s = config::parse(text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot;
        let counts = shares(&s, &Health::new(&s.routes, None));
        assert!(near(&counts, &[2500, 7500]), "{counts:?}");
    }

    #[test]
    fn resting_targets_come_last_and_fallback_before_them() {
        let s = snapshot(&[1, 0], 2, "weighted");
        for (resting, want) in [(&[][..], [0, 1, 2, 3]), (&[0], [1, 2, 3, 0]), (&[0, 1, 2], [3, 0, 1, 2]), (&[0, 1, 2, 3], [0, 1, 2, 3])] {
            let health = Health::new(&s.routes, None);
            resting.iter().for_each(|target| health.pause(*target, Duration::from_secs(9), NOW));
            assert_eq!(order(&s, &health, 1, ""), want);
        }
    }

    #[test]
    fn a_conversation_stays_and_a_target_that_goes_moves_its_share_only() {
        let (four, three) = (snapshot(&[1, 2, 3, 4], 0, "sticky"), snapshot(&[1, 2, 3], 0, "sticky"));
        let (health, fewer) = (Health::new(&four.routes, None), Health::new(&three.routes, None));
        let counts = shares(&four, &health);
        assert!(near(&counts, &[1000, 2000, 3000, 4000]), "{counts:?}");
        let resting = Health::new(&four.routes, None);
        resting.pause(3, Duration::from_secs(9), NOW);
        let mut moved = [0; 3];
        for conversation in 0..5000 {
            let name = format!("conversation {conversation}");
            let before = order(&four, &health, conversation, &name);
            assert_eq!(before, order(&four, &health, conversation + 1, &name));
            let after = order(&three, &fewer, conversation, &name);
            assert_eq!(after, before.iter().copied().filter(|target| *target != 3).collect::<Vec<_>>());
            // One that rests moves as one that is gone.
            assert_eq!(order(&four, &resting, conversation, &name)[..3], after);
            if before[0] == 3 {
                moved[after[0]] += 3;
            }
        }
        // They spread by weight over those that stay: a sixth, a third and a half of 2000, times 3.
        assert!(near(&moved, &[1000, 2000, 3000]), "{moved:?}");
    }

    #[test]
    fn two_choices_by_weight_the_one_with_fewer_in_flight() {
        let s = snapshot(&[1, 1, 1], 0, "least_requests");
        let health = Health::new(&s.routes, None);
        assert!(near(&shares(&s, &health), &[3333, 3333, 3333]));
        let route = &s.routes[0];
        let ask = |target: usize| health.begin(route, &route.targets[target], false, Duration::ZERO, NOW).unwrap();
        let busiest = [ask(0), ask(0)];
        let busy = ask(1);
        // Target 0 would have to be drawn against itself; target 1 is first only where it is drawn with target 0.
        let counts = shares(&s, &health);
        assert!(near(&counts, &[0, 3333, 6667]), "{counts:?}");
        drop((busiest, busy));
        assert!(near(&shares(&s, &health), &[3333, 3333, 3333]));
    }

    #[test]
    fn two_choices_by_weight_the_one_that_answers_sooner() {
        let s = snapshot(&[1, 1, 1], 0, "latency");
        let health = Health::new(&s.routes, None);
        let route = &s.routes[0];
        for (target, millis) in [(0, 50), (1, 100), (2, 900)] {
            let began = NOW - millis * 1_000_000;
            health.begin(route, &route.targets[target], false, Duration::ZERO, began).unwrap().succeeded(NOW);
        }
        let counts = shares(&s, &health);
        assert!(near(&counts, &[6667, 3333, 0]), "{counts:?}");
        // Two under way make the fastest one the second.
        let _busy = [(); 2].map(|()| health.begin(route, &route.targets[0], false, Duration::ZERO, NOW));
        let counts = shares(&s, &health);
        assert!(near(&counts, &[3333, 6667, 0]), "{counts:?}");
    }

    const POOL: &str = "providers: { p: { kind: vllm, base_urls: [\"http://a/v1\", \"http://b:8000/v1\", \"http://c/v1\"] }, q: { kind: openai, api_key: k } }
routes: { r: { balance: B, targets: [ { provider: p, model: m, weight: 3 }, { provider: q, model: m } ], fallback: [ { provider: p, model: n } ] } }
";

    fn pool(balance: &str) -> Snapshot {
        config::parse(&POOL.replace('B', balance), "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot
    }

    #[test]
    fn replicas_share_the_weight_of_their_target_and_the_one_with_the_fewest_in_flight_is_first() {
        for balance in ["weighted", "least_requests", "latency"] {
            let s = pool(balance);
            let health = Health::new(&s.routes, None);
            let route = &s.routes[0];
            let names: Vec<_> =
                route.targets.iter().chain(&route.fallback).map(|target| (&*target.provider.endpoint_name, target.index)).collect();
            assert_eq!(names[..4], [("p@http://a/v1", 0), ("p@http://b:8000/v1", 1), ("p@http://c/v1", 2), ("q", 3)]);
            assert_eq!((names.len(), s.routes.targets, route.retry.attempts), (7, 7, 4));
            let counts = shares(&s, &health);
            assert!(near(&counts, &[2500, 2500, 2500, 2500, 0, 0, 0]), "{balance}: {counts:?}");
            let ask = |target: usize| health.begin(route, &route.targets[target], false, Duration::ZERO, NOW).unwrap();
            let _busy = [ask(0), ask(0), ask(1)];
            for random in 0..200 {
                let order = order(&s, &health, random, "");
                let (pool, last): (Vec<usize>, Vec<usize>) = order.iter().copied().partition(|target| *target < 3);
                assert_eq!(pool, [2, 1, 0], "{balance}: {order:?}");
                assert!(last[0] == 3 && last[1..].iter().all(|target| *target > 3), "{balance}: {order:?}");
            }
        }
    }

    #[test]
    fn a_replica_that_is_out_gives_its_share_to_the_others_and_a_conversation_stays_at_its_own() {
        let s = pool("weighted");
        let health = Health::new(&s.routes, None);
        health.pause(0, Duration::from_secs(9), NOW);
        let counts = shares(&s, &health);
        assert!(near(&counts, &[0, 3750, 3750, 2500, 0, 0, 0]), "{counts:?}");
        let s = pool("sticky");
        let (all, fewer) = (Health::new(&s.routes, None), Health::new(&s.routes, None));
        fewer.pause(1, Duration::from_secs(9), NOW);
        let counts = shares(&s, &all);
        assert!(near(&counts, &[2500, 2500, 2500, 2500, 0, 0, 0]), "{counts:?}");
        let _busy = all.begin(&s.routes[0], &s.routes[0].targets[0], false, Duration::ZERO, NOW);
        for conversation in 0..1000 {
            let name = format!("conversation {conversation}");
            let first = order(&s, &all, conversation, &name);
            assert_eq!(first, order(&s, &all, conversation + 1, &name));
            let without: Vec<_> = first.iter().copied().filter(|target| *target != 1).collect();
            assert_eq!(order(&s, &fewer, conversation, &name)[..6], without);
        }
    }

    #[test]
    fn all_nodes_hash_alike() {
        // Fixed for good: a change would move every conversation away from its cache.
        assert_eq!(hash(0, b"conversation"), 0x5d3d_1f50_a059_b3d1);
    }
}
