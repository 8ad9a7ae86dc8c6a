//! Limits that count less than they seem to: dollars without prices, leases without a shared store.

use super::{Review, listed, place, targets};
use crate::limit::rule::{Dimension, Limit, RouteSet};
use crate::provider::{ModelName, Target, prices};
use crate::yaml::problem::Problems;
use crate::yaml::tree::Node;

pub(super) fn review(review: &Review<'_>, problems: &mut Problems) {
    let lease = review.file.get("limits").and_then(|limits| limits.get("lease"));
    if let (Some(lease), None) = (lease, &review.snapshot.limit_store.redis) {
        problems.warn(lease.at, "`lease` has no effect: limits are counted in this process; it needs `store: redis://…`");
    }
    let server = review.file.get("server");
    let sealed = server.and_then(|server| server.get("seal_keys")).is_some_and(|keys| !keys.items().is_empty());
    if let (Some(store), false, true) = (review.file.get("limits"), sealed, review.snapshot.limit_store.redis.is_some()) {
        let message = "several nodes share `store`, and `server.seal_keys` is missing: what they seal for clients is sealed with a key that is \
            derived from the names of the providers, which is no secret and changes with them";
        problems.warn(place(store, &["store"]), message);
    }
    let routes = &review.snapshot.routes;
    let may = |set: Option<&RouteSet>, route: usize| set.is_none_or(|set| set.has(route));
    for (provider, (_, node)) in review.snapshot.providers.iter().zip(review.entries("providers")) {
        let own = |target: &&Target| target.provider.index == provider.index;
        usd(&provider.limits, node, |_| routes.iter().flat_map(|route| targets(route)).filter(own).collect(), problems);
    }
    for (route, _, node) in review.routes() {
        usd(&route.limits, node, |_| targets(route).collect(), problems);
    }
    let mut keys = review.snapshot.tenants.keys.iter();
    for (team, (_, node)) in review.snapshot.tenants.teams.iter().zip(review.entries("teams")) {
        let mut client = |limits: &[Limit], node: &Node, key: Option<&RouteSet>| {
            let usable = |route: usize| may(team.routes.as_ref(), route) && may(key, route);
            idle(limits, node, |set| routes.iter().any(|route| set.has(route.index) && usable(route.index)), problems);
            let of = |confined: Option<&RouteSet>| -> Vec<&Target> {
                let counts = |route: usize| usable(route) && may(confined, route);
                routes.iter().filter(|route| counts(route.index)).flat_map(|route| targets(route)).collect()
            };
            usd(limits, node, of, problems);
        };
        client(&team.limits, node, None);
        // In the order in which the configuration adds them.
        let nodes = ["keys", "users"].into_iter().flat_map(|list| node.get(list).map_or(&[][..], Node::items));
        for (node, key) in nodes.zip(&mut keys) {
            client(&key.limits, node, key.routes.as_ref());
        }
    }
}

/// Limits that are confined to routes which their team or key may not use. `applies`: whether it may use one of them.
fn idle(limits: &[Limit], node: &Node, applies: impl Fn(&RouteSet) -> bool, problems: &mut Problems) {
    let written = node.get("limits").map_or(&[][..], Node::items);
    for (limit, node) in limits.iter().zip(written) {
        if limit.routes.as_ref().is_some_and(|routes| !applies(&routes.set)) {
            problems.warn(place(node, &["routes"]), "`routes`: this limit never applies, because none of its routes may be used here");
        }
    }
}

/// The limits in dollars of one scope, whose section is `node`. `covered`: the targets that a limit of these routes covers.
fn usd<'t>(limits: &[Limit], node: &Node, covered: impl Fn(Option<&RouteSet>) -> Vec<&'t Target>, problems: &mut Problems) {
    let written = node.get("limits").map_or(&[][..], Node::items);
    for (limit, node) in limits.iter().zip(written) {
        if limit.rule.dimension != Dimension::Usd {
            continue;
        }
        let covered = covered(limit.routes.as_ref().map(|routes| &routes.set));
        let priced = covered.iter().filter(|target| !target.pricing.is_none()).count();
        // A server of one's own costs nothing per token.
        let costs = |target: &&&Target| target.pricing.is_none() && !target.provider.kind.self_hosted();
        let mut unpriced: Vec<String> = covered.iter().filter(costs).map(|target| shown(target)).collect();
        unpriced.sort();
        unpriced.dedup();
        let mut gaps: Vec<String> = covered.iter().filter(|target| target.pricing.has_gaps()).map(|target| shown(target)).collect();
        gaps.sort();
        gaps.dedup();
        let message = if covered.is_empty() {
            continue;
        } else if priced == 0 {
            let is_listed = covered.iter().any(|target| prices::of(&target.provider.kind.name).is_some());
            let price = match is_listed {
                true => "`price: catalogue`, or `price: { input: …, output: … }` (USD per million tokens),",
                false => "`price: { input: …, output: … }` (USD per million tokens)",
            };
            format!("`usd`: this limit never counts anything, because no target that it covers has a `price`; add {price} to the targets")
        } else if unpriced.is_empty() && gaps.is_empty() {
            continue;
        } else if unpriced.is_empty() {
            format!(
                "`usd`: this limit does not count models that the price catalogue does not have ({}); add \
                 `price: {{ catalogue: \"*\", unlisted: {{ input: …, output: … }} }}`",
                listed(&gaps)
            )
        } else {
            format!("`usd`: this limit does not count requests to {}, which have no `price`", listed(&unpriced))
        };
        problems.warn(place(node, &["usd"]), message);
    }
}

fn shown(target: &Target) -> String {
    let (ModelName::Fixed(model) | ModelName::Pattern(model)) = &target.model;
    format!("`{model}` of `{}`", target.provider.name)
}
