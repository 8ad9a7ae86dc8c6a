//! Leases: decisions without a round trip, and how far they may overshoot.

use crate::support::{Limits, Node, Redis, until_async};
use std::sync::Arc;
use std::time::Instant;
use tidegate::limit::Used;

const LEASE: &str = "on_store_failure: deny, store_timeout: 10s, lease: 1s";

fn commands(redis: &Redis) -> u64 {
    let info: String = redis.command(&["INFO", "commandstats"]);
    let line = info.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
    line.split(['=', ',']).nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn most_requests_ask_nobody_and_none_is_admitted_twice() {
    let redis = Redis::start();
    // 20 a second: a lease is 20.
    let limits = Limits::team("[ { requests: 72000, per: 1h, burst: 1000 } ]", &redis, LEASE);
    let nodes: Vec<_> = (0..4).map(|_| Arc::new(Node::new(&limits))).collect();
    let began = Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for node in nodes {
        all.spawn(async move {
            let mut admitted = 0u64;
            for _ in 0..600 {
                admitted += u64::from(node.admit(1).await.is_ok());
            }
            admitted
        });
    }
    let admitted: u64 = all.join_all().await.into_iter().sum();
    let refilled = 20 * (began.elapsed().as_secs() + 1);
    assert!(admitted <= 1000 + refilled, "{admitted} of 1000 and {refilled}");
    assert!(admitted >= 1000 - 4 * 20, "{admitted}: more than a lease lies idle at each node");
}

#[tokio::test]
async fn a_lease_saves_round_trips() {
    let redis = Redis::start();
    let node = Node::new(&Limits::team("[ { requests: 3600000, per: 1h } ]", &redis, LEASE));
    let before = commands(&redis);
    let mut permits = Vec::new();
    for _ in 0..500 {
        permits.push(node.admit(1).await.unwrap()); // a thousand are leased at once
    }
    let asked = commands(&redis) - before;
    assert!(asked < 300, "{asked} calls for 500 requests");
}

#[tokio::test]
async fn what_is_not_spent_is_given_back() {
    let redis = Redis::start();
    // 1000 a second: the first request leases all that is left of the burst.
    let limits = Limits::team("[ { tokens: 30000, per: 30s, burst: 100 } ]", &redis, LEASE);
    let (one, two) = (Node::new(&limits), Node::new(&limits));
    let mut permit = one.admit(10).await.unwrap();
    permit.settle(Used { tokens: 1, micro_usd: 0 }, one.now());
    until_async("the end of the lease", async || two.admit(90).await.is_ok()).await;
}

#[tokio::test]
async fn slow_limits_lease_nothing_and_stay_exact() {
    let redis = Redis::start();
    let limits = Limits::team("[ { requests: 100, per: 1h } ]", &redis, LEASE);
    let nodes: Vec<_> = (0..4).map(|_| Arc::new(Node::new(&limits))).collect();
    let mut admitted = 0;
    for n in 0..400 {
        admitted += usize::from(nodes[n % 4].admit(1).await.is_ok());
    }
    assert_eq!(admitted, 100);
}

#[tokio::test]
async fn nodes_that_never_tell_overshoot_by_their_leases_at_most() {
    let redis = Redis::start();
    // 1 a second and a lease of 2s: two a node.
    let lease = "on_store_failure: deny, store_timeout: 10s, lease: 2s";
    let limits = Limits::team("[ { requests: 3600, per: 1h, burst: 40 } ]", &redis, lease);
    let began = Instant::now();
    let mut admitted = 0;
    for _ in 0..4 {
        let node = Node::new(&limits);
        for _ in 0..3 {
            admitted += u64::from(node.admit(1).await.is_ok());
        }
        // Its link is cut before it can tell: what it holds is forgotten, as it is after the life of a node's holdings.
        let names: Vec<String> = redis.command(&["KEYS", "{tidegate}:limit:*"]);
        let fields: Vec<String> = redis.command(&["HKEYS", &names[0]]);
        fields.iter().filter(|field| field.starts_with('n')).for_each(|field| redis.command(&["HDEL", &names[0], field]));
    }
    let last = Node::new(&limits);
    while last.admit(1).await.is_ok() {
        admitted += 1;
    }
    let refilled = began.elapsed().as_secs() + 1;
    assert!(admitted <= 40 + refilled + 5 * 2, "{admitted} of 40, {refilled} refilled and two for each of five nodes");
}

#[tokio::test]
async fn what_no_request_can_spend_is_not_leased() {
    let redis = Redis::start();
    // 20 a second: a lease is 20, and every request asks because of the places.
    let limits = Limits::team("[ { requests: 72000, per: 1h, burst: 100 }, { concurrent: 9 } ]", &redis, LEASE);
    let node = Node::new(&limits);
    for n in 0..100 {
        assert!(node.admit(1).await.is_ok(), "{n}");
    }
}

#[tokio::test]
async fn requests_at_the_same_time_have_one_lease_together() {
    let redis = Redis::start();
    let limits =
        Limits { provider: "[ { requests: 72000, per: 1h, burst: 100 } ]", ..Limits::team("[ { concurrent: 99 } ]", &redis, LEASE) };
    let team = Limits::team("[ { requests: 72000, per: 1h, burst: 100 } ]", &redis, LEASE);
    for limits in [limits, team] {
        let node = Arc::new(Node::new(&limits));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..80 {
            let node = node.clone();
            all.spawn(async move {
                let mut permit = node.admit(1).await?;
                node.store.enter(&mut permit, 0, node.now()).await.map(drop)
            });
        }
        let failed: Vec<_> = all.join_all().await.into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{} of 80: {:?}", failed.len(), failed[0]);
    }
}
