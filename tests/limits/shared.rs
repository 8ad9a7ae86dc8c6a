//! What several nodes that count in one Redis promise together.

use crate::support::{Limits, Node, Redis, until_async};
use std::sync::Arc;
use std::time::Duration;
use tidegate::limit::rule::{Dimension, LimitPeriod};
use tidegate::limit::{LimitError, LimitExceeded, Scope, Used};

/// Never late on a busy machine, and nothing is admitted without Redis.
pub const STRICT: &str = "on_store_failure: deny, store_timeout: 10s";

pub fn refusal(denied: Result<tidegate::limit::Permit, LimitError>) -> LimitExceeded {
    match denied {
        Err(LimitError::Exceeded(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_thousand_at_four_nodes_get_exactly_a_hundred() {
    let redis = Redis::start();
    let limits =
        Limits { key: "[ { requests: 5000, per: 30d } ]", ..Limits::team("[ { requests: 100, per: 1h, burst: 100 } ]", &redis, STRICT) };
    let nodes: Vec<_> = (0..4).map(|_| Arc::new(Node::new(&limits))).collect();
    let mut all = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let node = nodes[n % 4].clone();
        all.spawn(async move { node.admit(1).await.is_ok() });
    }
    let admitted = all.join_all().await.into_iter().filter(|ok| *ok).count();
    assert_eq!(admitted, 100);
    let charged =
        redis.command::<Vec<String>>(&["KEYS", "{tidegate}:limit:*"]).iter().map(|key| redis.command::<u64>(&["HGET", key, "l"])).max();
    assert!(charged <= Some(100), "who the team refused was charged to the key: {charged:?}");
    assert!(nodes.iter().all(|node| node.errors() == 0));
}

#[tokio::test]
async fn five_a_minute_count_down_and_tell_the_wait() {
    let redis = Redis::start();
    let (one, two) = {
        let limits = Limits::team("[ { requests: 5, per: 1m } ]", &redis, STRICT);
        (Node::new(&limits), Node::new(&limits))
    };
    let mut remaining = Vec::new();
    for node in [&one, &two, &one, &two, &one] {
        remaining.push(node.admit(10).await.unwrap().headers().requests.as_ref().unwrap().status.remaining);
    }
    assert_eq!(remaining, [4, 3, 2, 1, 0]);
    let refused = refusal(two.admit(10).await);
    assert_eq!(
        (refused.scope, refused.dimension, refused.limit, refused.per),
        (Scope::Team, Dimension::Requests, 5, LimitPeriod::Smooth(Duration::from_secs(60)))
    );
    let wait = refused.retry_after.unwrap();
    assert!(wait <= Duration::from_secs(12) && !wait.is_zero(), "{wait:?}");
    assert!(two.store.peek(&crate::support::WHO, false, two.now()).await.is_err(), "it remembers");
    assert!(one.store.peek(&crate::support::WHO, false, one.now()).await.is_ok(), "it has not been refused yet");
    assert!(one.store.peek(&crate::support::WHO, true, one.now()).await.is_err(), "it asks");
}

#[tokio::test]
async fn tokens_are_settled_for_all_and_longer_answers_are_paid_by_the_future() {
    let redis = Redis::start();
    let limits = Limits::team("[ { tokens: 1000, per: 1h } ]", &redis, STRICT);
    let (one, two) = (Node::new(&limits), Node::new(&limits));
    let mut first = one.admit(900).await.unwrap();
    assert_eq!(refusal(two.admit(200).await).dimension, Dimension::Tokens);
    first.settle(Used { tokens: 100, micro_usd: 0 }, one.now());
    drop(first);
    until_async("the settlement", async || two.admit(800).await.is_ok()).await;
    let mut last = None;
    until_async("the return of what was dropped", async || {
        last = two.admit(850).await.ok();
        last.is_some()
    })
    .await;
    last.unwrap().settle(Used { tokens: 2900, micro_usd: 0 }, two.now());
    let mut wait = Duration::ZERO;
    until_async("the debt", async || {
        wait = one.admit(1).await.map_or_else(|denied| refusal(Err(denied)).retry_after.unwrap(), |_| Duration::ZERO);
        wait > Duration::from_secs(7000)
    })
    .await;
    assert!(wait <= Duration::from_secs(7204), "2001 tokens over at 1000 an hour: {wait:?}");
}

#[tokio::test]
async fn places_are_shared_and_come_back() {
    let redis = Redis::start();
    let provider = "[ { concurrent: 1 }, { requests: 9, per: 30d } ]";
    let limits = Limits { provider, ..Limits::team("[ { concurrent: 2 }, { requests: 99, per: 30d } ]", &redis, STRICT) };
    let (one, two) = (Node::new(&limits), Node::new(&limits));
    let mut a = one.admit(1).await.unwrap();
    let mut b = two.admit(1).await.unwrap();
    assert_eq!(refusal(one.admit(1).await).dimension, Dimension::Concurrent);
    assert_eq!(a.headers().requests.as_ref().unwrap().status.remaining, 98);
    let kinds: Vec<_> = one.store.enter(&mut a, 0, one.now()).await.unwrap().iter().collect();
    assert_eq!(kinds, [(Scope::Provider, Dimension::Requests), (Scope::Provider, Dimension::Concurrent)]);
    assert_eq!(a.headers().requests.as_ref().unwrap().status.remaining, 8, "of the provider's, which are tighter");
    let Err(LimitError::Exceeded(refused)) = two.store.enter(&mut b, 0, two.now()).await else { panic!("the provider has one place") };
    assert_eq!((refused.scope, refused.dimension), (Scope::Provider, Dimension::Concurrent));
    a.leave_provider();
    until_async("the provider's place", async || two.store.enter(&mut b, 0, two.now()).await.is_ok()).await;
    drop((a, b));
    until_async("both places", async || {
        let (a, b) = (one.admit(1).await, two.admit(1).await);
        a.is_ok() && b.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_budget_is_spent_by_all_nodes_and_outlives_them() {
    let redis = Redis::start();
    let limits = Limits::team("[ { usd: 0.001, per: 1d } ]", &redis, STRICT);
    let one = Node::new(&limits);
    let mut permit = one.admit(1500).await.unwrap();
    let refused = refusal(one.admit(10).await);
    assert_eq!((refused.dimension, refused.retry_after), (Dimension::Usd, Some(Duration::from_secs(1))), "reserved, not spent");
    permit.settle(Used { tokens: 5, micro_usd: 1500 }, one.now());
    drop(permit);
    until_async("the settlement", async || one.admit(10).await.is_err_and(|denied| refusal(Err(denied)).retry_after.is_none())).await;
    drop(one);
    let two = Node::new(&limits);
    let refused = refusal(two.admit(10).await);
    assert_eq!((refused.dimension, refused.retry_after), (Dimension::Usd, None));
}

#[tokio::test]
async fn redis_holds_no_names_and_forgets() {
    let redis = Redis::start();
    let limits = Limits { key: "[ { requests: 10, per: 1m } ]", ..Limits::team("[ { tokens: 1000, per: 1m } ]", &redis, STRICT) };
    let node = Node::new(&limits);
    let _permit = node.admit(5).await.unwrap();
    let keys: Vec<String> = redis.command(&["KEYS", "*"]);
    assert_eq!(keys.len(), 3, "{keys:?}");
    for key in keys {
        assert!(key.starts_with("{tidegate}:") && !key.contains("secret"), "{key}");
        let left: i64 = redis.command(&["PTTL", &key]);
        assert!((1..=70_000).contains(&left), "{key}: {left}");
    }
}

#[tokio::test]
async fn a_reload_keeps_the_connection_and_what_is_counted() {
    let redis = Redis::start();
    let old = Node::new(&Limits::team("[ { tokens: 1000, per: 30d }, { concurrent: 1 } ]", &redis, STRICT));
    let mut permit = old.admit(100).await.unwrap();
    let clients: String = redis.command(&["CLIENT", "LIST"]);
    let new = old.reloaded(&Limits::team("[ { concurrent: 2 }, { tokens: 500, per: 30d } ]", &redis, STRICT));
    assert_eq!(redis.command::<String>(&["CLIENT", "LIST"]).lines().count(), clients.lines().count());
    let second = new.admit(1).await.unwrap();
    assert_eq!(second.headers().tokens.as_ref().unwrap().status.remaining, 399);
    assert!(new.admit(1).await.is_err(), "the place of the old configuration is still taken");
    permit.settle(Used { tokens: 450, micro_usd: 0 }, old.now());
    drop((permit, second));
    until_async("the settlement of before", async || {
        new.admit(10).await.is_ok_and(|permit| permit.headers().tokens.as_ref().unwrap().status.remaining == 40)
    })
    .await;
    // Another Redis is another count.
    let other = Redis::start();
    let moved = new.reloaded(&Limits::team("[ { tokens: 500, per: 30d } ]", &other, STRICT));
    assert_eq!(moved.admit(10).await.unwrap().headers().tokens.as_ref().unwrap().status.remaining, 490);
}

#[tokio::test]
async fn a_provider_that_is_passed_over_keeps_nothing() {
    let redis = Redis::start();
    let limits = Limits { provider: "[ { tokens: 100, per: 30d } ]", ..Limits::team("[ { concurrent: 9 } ]", &redis, STRICT) };
    let (one, two) = (Node::new(&limits), Node::new(&limits));
    let mut waiting = one.admit(60).await.unwrap();
    let mut other = two.admit(60).await.unwrap();
    assert!(two.store.enter(&mut other, 0, two.now()).await.is_err(), "the first has the provider's tokens");
    waiting.release_prefetched();
    until_async("what the first gives back", async || two.store.enter(&mut other, 0, two.now()).await.is_ok()).await;
}

#[tokio::test]
async fn a_request_that_ends_without_a_provider_keeps_nothing_of_one() {
    let redis = Redis::start();
    let limits = Limits { provider: "[ { tokens: 100, per: 30d } ]", ..Limits::team("[ { concurrent: 9 } ]", &redis, STRICT) };
    let (one, two) = (Node::new(&limits), Node::new(&limits));
    let mut refused = one.admit(60).await.unwrap();
    refused.settle(Used::default(), one.now());
    drop(refused);
    until_async("what it gives back", async || {
        let mut permit = two.admit(60).await.unwrap();
        two.store.enter(&mut permit, 0, two.now()).await.is_ok()
    })
    .await;
}
