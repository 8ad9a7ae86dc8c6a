//! In which order the targets of a route are asked for one request.

use crate::config::snapshot::Route;
use crate::provider::Target;
use smallvec::SmallVec;
use std::sync::Arc;

/// The order of one request: first the targets, by weighted random choice without repetition, then those of weight 0 as
/// they are written, then the fallback as it is written. Targets that are cooling down come after all others, in the
/// same order among themselves, so that a route whose targets are all down still tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Places in the route: its targets, then its fallback.
    order: SmallVec<[u16; 8]>,
}

impl Plan {
    /// Makes the plan. `random` is 64 random bits; `is_cooling` is asked with [`Target::index`].
    pub fn new(route: &Route, random: u64, is_cooling: impl Fn(usize) -> bool) -> Self {
        let mut random = SplitMix(random);
        let mut left: SmallVec<[(u16, u64); 8]> =
            route.targets.iter().zip(0u16..).map(|(target, i)| (i, u64::from(target.weight))).collect();
        let mut order: SmallVec<[u16; 8]> = SmallVec::new();
        loop {
            let total: u64 = left.iter().map(|(_, weight)| weight).sum();
            if total == 0 {
                break;
            }
            let mut ticket = random.below(total);
            let drawn = left.iter().position(|(_, weight)| match ticket.checked_sub(*weight) {
                Some(rest) => {
                    ticket = rest;
                    false
                }
                None => true,
            });
            let Some(drawn) = drawn else { break };
            order.push(left.remove(drawn).0);
        }
        order.extend(left.iter().map(|(i, _)| *i));
        let first_fallback = route.targets.len();
        order.extend((first_fallback..first_fallback + route.fallback.len()).map(|i| i as u16));
        let plan = Self { order };
        let cooling = |place: &u16| plan.at(route, *place).is_some_and(|target| is_cooling(target.index));
        let (last, mut order): (SmallVec<[u16; 8]>, SmallVec<[u16; 8]>) = plan.order.iter().copied().partition(cooling);
        order.extend(last);
        Self { order }
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The target that is asked as number `step`, counted from 0; the route must be the one of [`Plan::new`].
    pub fn target<'r>(&self, route: &'r Route, step: usize) -> Option<&'r Arc<Target>> {
        self.at(route, *self.order.get(step)?)
    }

    fn at<'r>(&self, route: &'r Route, place: u16) -> Option<&'r Arc<Target>> {
        let place = usize::from(place);
        route.targets.get(place).or_else(|| route.fallback.get(place.checked_sub(route.targets.len())?))
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): more numbers out of one random number.
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

    /// A number below `bound`. Its bias is `bound / 2^64`, which is nothing for weights.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
pub(super) mod tests {
    use super::*;
    use crate::config;

    pub fn route(weights: &[u32], fallback: usize) -> Arc<Route> {
        let target = |(i, weight): (usize, &u32)| format!("{{ provider: p, model: t{i}, weight: {weight} }}");
        let targets: Vec<_> = weights.iter().enumerate().map(target).collect();
        let more: Vec<_> = (0..fallback).map(|i| format!("{{ provider: p, model: f{i} }}")).collect();
        let text = format!(
            "providers: {{ p: {{ kind: openai, api_key: k }} }}\nroutes: {{ r: {{ targets: [{}], fallback: [{}] }} }}\n",
            targets.join(", "),
            more.join(", ")
        );
        let loaded = config::parse(&text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}"));
        loaded.snapshot.routes[0].clone()
    }

    fn order(route: &Route, random: u64, cooling: &[usize]) -> Vec<usize> {
        let plan = Plan::new(route, random, |target| cooling.contains(&target));
        (0..plan.len()).map(|step| plan.target(route, step).unwrap().index).collect()
    }

    #[test]
    fn the_first_choice_follows_the_weights() {
        let route = route(&[6, 3, 1, 0], 2);
        let mut first = [0; 6];
        let mut second_after_heavy = [0; 6];
        for random in 0..10_000 {
            let order = order(&route, random, &[]);
            first[order[0]] += 1;
            if order[0] == 0 {
                second_after_heavy[order[1]] += 1;
            }
            assert_eq!(order[3..], [3, 4, 5]);
        }
        // The standard deviations are about 50, 46, 30 and 34.
        for (count, want) in [(first[0], 6000), (first[1], 3000), (first[2], 1000), (second_after_heavy[1], 4500)] {
            assert!(i32::abs(count - want) < 250, "{first:?} {second_after_heavy:?}");
        }
    }

    #[test]
    fn cooling_targets_come_last_and_fallback_before_them() {
        let route = route(&[1, 0], 2);
        assert_eq!(order(&route, 1, &[]), [0, 1, 2, 3]);
        assert_eq!(order(&route, 1, &[0]), [1, 2, 3, 0]);
        assert_eq!(order(&route, 1, &[0, 1, 2]), [3, 0, 1, 2]);
        assert_eq!(order(&route, 1, &[0, 1, 2, 3]), [0, 1, 2, 3]);
    }
}
