//! Limits of some routes, windows of the calendar and soft limits, counted by several nodes in one Redis.

use crate::shared::{STRICT, refusal};
use crate::support::{Limits, Node, Redis, until_async};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidegate::limit::Used;
use tidegate::limit::rule::{Dimension, LimitPeriod};

fn nodes(redis: &Redis, team: &str) -> (Node, Node) {
    let limits = Limits::team(team, redis, STRICT);
    (Node::new(&limits), Node::new(&limits))
}

#[tokio::test]
async fn a_limit_of_some_routes_counts_them_and_no_others_on_all_nodes() {
    let redis = Redis::start();
    let (one, two) = nodes(&redis, "[ { requests: 2, per: 30d, routes: [slow] }, { requests: 7, per: 30d } ]");
    let on_slow = one.admit_on(1, 1).await.unwrap();
    assert_eq!(on_slow.headers().requests.as_ref().unwrap().status.remaining, 1, "the tighter one is told");
    assert!(two.admit_on(1, 1).await.is_ok());
    let refused = refusal(one.admit_on(1, 1).await);
    assert_eq!(refused.routes.unwrap().iter().collect::<Vec<_>>(), ["slow"]);
    assert_eq!(refused.limit, 2);
    let who = &crate::support::WHO;
    assert!(one.store.peek(who, true, one.now()).await.is_ok(), "the route is not known yet");
    for left in (0..5).rev() {
        let permit = two.admit_on(0, 1).await.unwrap();
        assert_eq!(permit.headers().requests.as_ref().unwrap().status.remaining, left);
    }
    assert_eq!(refusal(two.admit_on(0, 1).await).routes, None);
    assert!(two.store.peek(who, true, two.now()).await.is_err());
}

#[tokio::test]
async fn tokens_of_some_routes_are_settled_into_their_limit() {
    let redis = Redis::start();
    let (one, two) = nodes(&redis, "[ { tokens: 1000, per: day, routes: [\"s*\"] } ]");
    let mut permit = one.admit_on(1, 900).await.unwrap();
    one.admit_on(0, 900).await.unwrap().settle(Used { tokens: 900, micro_usd: 0 }, one.now());
    permit.settle(Used { tokens: 400, micro_usd: 0 }, one.now());
    drop(permit);
    until_async("the settlement", async || {
        two.admit_on(1, 0).await.is_ok_and(|permit| permit.headers().tokens.as_ref().unwrap().status.remaining == 600)
    })
    .await;
}

#[tokio::test]
async fn a_window_is_spent_by_all_nodes_until_the_day_ends() {
    let redis = Redis::start();
    let (one, two) = nodes(&redis, "[ { requests: 3, per: day }, { requests: 100, per: 1d } ]");
    for node in [&one, &two, &one] {
        drop(node.admit(1).await.unwrap());
    }
    let left = || 86_400 - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 86_400;
    let before = left();
    let refused = refusal(two.admit(1).await);
    let after = left();
    assert_eq!((refused.dimension, refused.per), (Dimension::Requests, LimitPeriod::Window(Duration::from_secs(86_400))));
    let wait = refused.retry_after.unwrap().as_secs_f64();
    assert_eq!(refused.retry_after, refused.renews_in.as_millis().try_into().ok().map(Duration::from_millis).max(refused.retry_after));
    if after <= before {
        assert!(wait <= before as f64 + 1.0 && wait >= after as f64 - 1.0, "{wait} of {before} to {after}");
    }
    let tightest = refused.headers.requests.unwrap();
    assert!(tightest.status.limit == 3 && tightest.status.remaining == 0, "{tightest:?}");
    assert!(two.store.peek(&crate::support::WHO, false, two.now()).await.is_err(), "it remembers");
}

#[tokio::test]
async fn the_rest_of_a_window_that_is_only_reserved_is_waited_for() {
    let redis = Redis::start();
    let (one, two) = nodes(&redis, "[ { tokens: 100, per: month } ]");
    let mut permit = one.admit(300).await.unwrap();
    let refused = refusal(two.admit(1).await);
    assert_eq!((refused.retry_after, refused.renews_in), (Some(Duration::from_secs(1)), Duration::ZERO));
    permit.settle(Used { tokens: 150, micro_usd: 0 }, one.now());
    drop(permit);
    until_async("the settlement", async || two.admit(1).await.is_err_and(|denied| !refusal(Err(denied)).renews_in.is_zero())).await;
}

#[tokio::test]
async fn a_soft_limit_warns_on_one_node_once() {
    let redis = Redis::start();
    let (one, two) =
        nodes(&redis, "[ { requests: 20, per: day, warn: 25% }, { tokens: 1000, per: 30d, warn: 80% }, { concurrent: 4, warn: 100% } ]");
    let both = || one.warnings() + two.warnings();
    for (node, warnings) in [(&one, 0), (&two, 0), (&one, 0), (&two, 0), (&two, 1), (&one, 1), (&one, 1)] {
        drop(node.admit(1).await.unwrap());
        assert_eq!(both(), warnings);
    }
    assert_eq!(two.warnings(), 1, "the node with the fifth");
    let mut permit = one.admit(100).await.unwrap();
    permit.settle(Used { tokens: 850, micro_usd: 0 }, one.now());
    until_async("the warning of tokens", async || both() == 2).await;
    drop(permit);
    let mut open = Vec::new();
    until_async("places", async || {
        match two.admit(1).await {
            Ok(permit) => open.push(permit),
            Err(_) => return false,
        }
        both() == 3
    })
    .await;
    assert!(open.len() <= 4);
    assert_eq!(both(), 3);
}

#[tokio::test]
async fn requests_from_leases_are_warned_of_when_they_are_reported() {
    let redis = Redis::start();
    let lease = "on_store_failure: deny, store_timeout: 10s, lease: 10s";
    let node = Node::new(&Limits::team("[ { requests: 7200, per: 1h, burst: 360, warn: 50% } ]", &redis, lease));
    for _ in 0..300 {
        drop(node.admit(1).await.unwrap()); // twenty are leased at once
    }
    until_async("the warning", async || node.warnings() == 1).await;
}

#[tokio::test]
async fn a_node_that_registers_again_does_not_count_twice_for_a_warning() {
    let redis = Redis::start();
    let node = Node::new(&Limits::team("[ { concurrent: 10, warn: 60% } ]", &redis, STRICT));
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(node.admit(1).await.unwrap());
    }
    let names: Vec<String> = redis.command(&["KEYS", "{tidegate}:node:*"]);
    let () = redis.command(&["DEL", &names[0]]);
    open.push(node.admit(1).await.unwrap());
    assert_eq!(node.warnings(), 0, "five of ten are in flight");
    open.push(node.admit(1).await.unwrap());
    assert_eq!(node.warnings(), 1);
}
