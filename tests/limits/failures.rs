//! What holds while Redis is stopped, slow, flushed or replaced, and that everything comes back by itself.

use crate::support::{Limits, Node, Redis, WHO, until_async};
use std::time::Duration;
use tidegate::limit::{LimitError, Used};
use tokio::time::timeout;

const ONE: &str = "[ { requests: 1, per: 30d } ]";

#[tokio::test]
async fn stopped_then_started_again_under_each_policy() {
    let mut redis = Redis::start();
    let node = |policy: &str| Node::new(&Limits::team(ONE, &redis, &format!("on_store_failure: {policy}, store_timeout: 2s")));
    let (local, allow, deny) = (node("local"), node("allow"), node("deny"));
    assert!(local.admit(1).await.is_ok());
    assert!(local.admit(1).await.is_err() && allow.admit(1).await.is_err() && deny.admit(1).await.is_err(), "all know of it");

    redis.stop();
    assert!(local.admit(1).await.is_ok(), "it has admitted none itself");
    assert!(matches!(local.admit(1).await, Err(LimitError::Exceeded(_))), "now it has");
    assert!(allow.admit(1).await.is_ok() && allow.admit(1).await.is_ok());
    assert_eq!(deny.admit(1).await.err(), Some(LimitError::Store));
    assert!([&local, &allow, &deny].iter().all(|node| node.errors() > 0));

    redis.again();
    until_async("the recovery under deny", async || deny.admit(1).await.is_ok()).await;
    until_async("the recovery under local", async || matches!(local.admit(1).await, Err(LimitError::Exceeded(_)))).await;
    until_async("the recovery under allow", async || matches!(allow.admit(1).await, Err(LimitError::Exceeded(_)))).await;
}

#[tokio::test]
async fn absent_at_the_start() {
    let mut redis = Redis::start();
    redis.stop();
    let limits = |policy: &str| Limits::team(ONE, &redis, &format!("on_store_failure: {policy}"));
    let refused = Node::try_new(&limits("deny")).err().unwrap();
    assert!(refused.contains(&format!("127.0.0.1:{}", redis.port)), "{refused}");
    let (local, allow) = (Node::new(&limits("local")), Node::new(&limits("allow")));
    assert!(local.errors() > 0 && local.admit(1).await.is_ok() && local.admit(1).await.is_err());
    assert!(allow.errors() > 0 && allow.admit(1).await.is_ok() && allow.admit(1).await.is_ok());
    redis.again();
    until_async("the shared count", async || {
        let (a, b) = (local.admit(1).await, allow.admit(1).await);
        matches!((a, b), (Err(LimitError::Exceeded(_)), Err(LimitError::Exceeded(_))))
    })
    .await;
}

#[tokio::test]
async fn a_look_at_a_limit_holds_nothing_of_it() {
    let redis = Redis::start();
    let node = Node::new(&Limits::team("[ { concurrent: 2 } ]", &redis, "on_store_failure: deny, store_timeout: 2s"));
    for _ in 0..5 {
        assert!(node.store.peek(&WHO, true, node.now()).await.is_ok());
    }
    let () = redis.command(&["FLUSHALL"]);
    let mut held = Vec::new();
    until_async("the node's registration, which says what it holds", async || {
        held.extend(node.admit(1).await.ok());
        held.len() == 2
    })
    .await;
}

#[tokio::test]
async fn slow_beyond_the_deadline() {
    let redis = Redis::start();
    let team = "[ { concurrent: 3 }, { tokens: 100, per: 30d } ]";
    let node = Node::new(&Limits::team(team, &redis, "on_store_failure: deny, store_timeout: 50ms"));
    let held = node.admit(10).await.unwrap();
    let () = redis.command(&["CLIENT", "PAUSE", "700", "ALL"]);
    for _ in 0..5 {
        assert_eq!(node.admit(10).await.err(), Some(LimitError::Store));
    }
    // The late ones were decided after all, and nobody holds what they took: two places are free again, two only.
    let mut two = Vec::new();
    until_async("the recovery", async || {
        if let Ok(permit) = node.admit(10).await {
            two.push(permit);
        }
        two.len() == 2
    })
    .await;
    assert!(matches!(node.admit(10).await, Err(LimitError::Exceeded(_))));
    drop((held, two));
    until_async("all places and tokens", async || node.admit(100).await.is_ok()).await;
}

#[tokio::test]
async fn flushed_while_requests_are_in_flight() {
    let redis = Redis::start();
    let limits = Limits::team("[ { concurrent: 3 }, { tokens: 1000, per: 30d } ]", &redis, "on_store_failure: deny, store_timeout: 10s");
    let (node, other) = (Node::new(&limits), Node::new(&limits));
    let mut held = vec![node.admit(10).await.unwrap(), node.admit(10).await.unwrap()];
    let () = redis.command(&["FLUSHALL"]);
    held.push(node.admit(10).await.unwrap());
    assert!(matches!(node.admit(10).await, Err(LimitError::Exceeded(_))), "what is held has been restated");
    assert!(matches!(other.admit(10).await, Err(LimitError::Exceeded(_))));
    held[0].settle(Used { tokens: 500, micro_usd: 0 }, node.now());
    drop(held);
    until_async("the places", async || other.admit(480).await.is_ok()).await;
    assert!(other.admit(510).await.is_err(), "what was used after the flush is charged");
    assert_eq!((node.errors(), other.errors()), (0, 0));
}

#[tokio::test]
async fn scripts_may_be_flushed_too() {
    let redis = Redis::start();
    let node = Node::new(&Limits::team("[ { tokens: 100, per: 30d } ]", &redis, "on_store_failure: deny, store_timeout: 10s"));
    let mut permit = node.admit(50).await.unwrap();
    let () = redis.command(&["SCRIPT", "FLUSH"]);
    drop(node.admit(10).await.unwrap());
    let () = redis.command(&["SCRIPT", "FLUSH"]);
    permit.settle(Used { tokens: 80, micro_usd: 0 }, node.now());
    drop(permit);
    until_async("the settlement", async || {
        node.admit(20).await.is_ok_and(|permit| permit.headers().tokens.as_ref().unwrap().status.remaining == 0)
    })
    .await;
}

#[tokio::test]
async fn what_is_used_during_an_outage_is_charged_when_it_is_over() {
    let mut redis = Redis::start();
    let node = Node::new(&Limits::team("[ { usd: 0.0001, per: 30d } ]", &redis, "on_store_failure: deny, store_timeout: 2s"));
    let mut permit = node.admit(1).await.unwrap();
    redis.stop();
    permit.settle(Used { tokens: 1, micro_usd: 100 }, node.now());
    drop(permit);
    tokio::time::sleep(Duration::from_millis(200)).await;
    redis.again();
    until_async("the charge", async || matches!(node.admit(1).await, Err(LimitError::Exceeded(_)))).await;
}

#[tokio::test]
async fn a_client_that_leaves_during_a_round_trip_holds_nothing() {
    let redis = Redis::start();
    let team = Limits::team("[ { concurrent: 2 }, { tokens: 100, per: 30d } ]", &redis, "on_store_failure: deny, store_timeout: 10s");
    let node = Node::new(&Limits { provider: "[ { concurrent: 1 } ]", ..team });
    let mut permit = node.admit(1).await.unwrap();
    permit.release_prefetched();
    let () = redis.command(&["CLIENT", "PAUSE", "500", "ALL"]);
    let short = Duration::from_millis(50);
    assert!(timeout(short, node.admit(90)).await.is_err());
    assert!(timeout(short, node.store.enter(&mut permit, 0, node.now())).await.is_err());
    until_async("all that they took", async || match node.admit(90).await {
        Ok(mut second) => node.store.enter(&mut second, 0, node.now()).await.is_ok(),
        Err(_) => false,
    })
    .await;
    assert_eq!(node.errors(), 0);
}
