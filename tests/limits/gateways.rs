//! Whole gateways, in processes of their own, in front of the embedded simulator.

use crate::support::{Limits, Process, Redis, until};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

const STRICT: &str = "on_store_failure: deny, store_timeout: 10s";

/// How many of so many requests to each gateway, from so many clients each, were answered 200; all others must be 429.
fn flood(gateways: &[Process], clients: usize, requests: usize) -> usize {
    let admitted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for gateway in gateways {
            for _ in 0..clients {
                scope.spawn(|| {
                    for _ in 0..requests {
                        match gateway.ask("r") {
                            (200, _) => admitted.fetch_add(1, Ordering::Relaxed),
                            (429, _) => 0,
                            other => panic!("{other:?}"),
                        };
                    }
                });
            }
        }
    });
    admitted.load(Ordering::Relaxed)
}

#[test]
fn four_processes_admit_exactly_a_hundred_of_a_thousand() {
    let (redis, simulator) = (Redis::start(), Process::simulator());
    let limits = Limits::team("[ { requests: 100, per: 1h, burst: 100 } ]", &redis, STRICT);
    let gateways: Vec<_> = (0..4).map(|_| Process::gateway(&limits, simulator.port)).collect();
    assert_eq!(flood(&gateways, 5, 50), 100);
}

#[test]
fn the_headers_and_the_429_tell_what_all_nodes_have_used() {
    let (redis, simulator) = (Redis::start(), Process::simulator());
    let limits = Limits::team("[ { requests: 2, per: 1m } ]", &redis, STRICT);
    let (one, two) = (Process::gateway(&limits, simulator.port), Process::gateway(&limits, simulator.port));
    let (status, answer) = one.ask("r");
    assert!(status == 200 && answer.contains("x-ratelimit-remaining-requests: 1"), "{answer}");
    let (status, answer) = two.ask("r");
    assert!(status == 200 && answer.contains("x-ratelimit-remaining-requests: 0"), "{answer}");
    let (status, answer) = one.ask("r");
    assert!(status == 429 && answer.contains("retry-after: ") && answer.contains("retry-after-ms: "), "{answer}");
}

#[test]
fn without_redis_nobody_gets_a_5xx_unless_it_was_asked_for() {
    let (mut redis, simulator) = (Redis::start(), Process::simulator());
    let gateway = |policy: &str| {
        let limits = Limits::team("[ { requests: 1000000, per: 1h } ]", &redis, &format!("on_store_failure: {policy}, store_timeout: 200ms"));
        Process::gateway(&limits, simulator.port)
    };
    let (local, allow, deny) = (gateway("local"), gateway("allow"), gateway("deny"));
    let troubles = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for gateway in [&local, &allow] {
            scope.spawn(|| {
                while troubles.load(Ordering::Relaxed) < 4 {
                    let (status, answer) = gateway.ask("r");
                    assert_eq!(status, 200, "{answer}");
                }
            });
        }
        let () = redis.command(&["FLUSHALL"]);
        assert_eq!(deny.ask("r").0, 200);
        troubles.fetch_add(1, Ordering::Relaxed);
        let () = redis.command(&["CLIENT", "PAUSE", "600", "ALL"]);
        let (status, answer) = deny.ask("r");
        assert!(status == 503 && answer.contains("overloaded_error"), "{answer}");
        troubles.fetch_add(1, Ordering::Relaxed);
        until("the end of the pause", || deny.ask("r").0 == 200);
        redis.stop();
        assert_eq!(deny.ask("r").0, 503);
        troubles.fetch_add(1, Ordering::Relaxed);
        redis.again();
        until("the recovery", || deny.ask("r").0 == 200);
        troubles.fetch_add(1, Ordering::Relaxed);
    });
    assert!([&local, &allow, &deny].iter().all(|gateway| gateway.store_errors() > 0));
}

#[test]
fn an_absent_store_at_the_start_is_exit_code_3_under_deny() {
    let mut redis = Redis::start();
    redis.stop();
    let (mut process, _) = Process::unready(&Limits::team("[]", &redis, STRICT), 1);
    assert_eq!(process.exit_code(), Some(3));
    let simulator = Process::simulator();
    let local = Process::gateway(&Limits::team("[ { requests: 1, per: 1h } ]", &redis, "on_store_failure: local"), simulator.port);
    assert_eq!((local.ask("r").0, local.ask("r").0), (200, 429));
    assert!(local.store_errors() > 0);
}

#[test]
fn the_places_of_a_killed_process_come_back() {
    let (redis, simulator) = (Redis::start(), Process::simulator());
    let limits = Limits::team("[ { concurrent: 1 } ]", &redis, STRICT);
    let (mut one, two) = (Process::gateway(&limits, simulator.port), Process::gateway(&limits, simulator.port));
    let mut stream = one.send("slow");
    stream.read_exact(&mut [0; 64]).unwrap();
    assert_eq!(two.ask("r").0, 429);
    one.kill();
    until("the end of what a dead node holds", || two.ask("r").0 == 200);
}

#[test]
fn a_cancelled_stream_settles_what_was_streamed() {
    let (redis, simulator) = (Redis::start(), Process::simulator());
    let limits = Limits::team("[ { concurrent: 1 }, { tokens: 100000, per: 30d } ]", &redis, STRICT);
    let gateway = Process::gateway(&limits, simulator.port);
    let mut stream = gateway.send("slow");
    stream.read_exact(&mut [0; 2000]).unwrap();
    drop(stream);
    let mut remaining = 0u64;
    until("the place of the cancelled stream", || {
        let (status, answer) = gateway.ask("r");
        let told = answer.lines().find_map(|line| line.strip_prefix("x-ratelimit-remaining-tokens: "));
        remaining = told.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
        status == 200
    });
    // The reservation of the request that is told of is still in it.
    assert!((90_000..99_999).contains(&remaining), "{remaining}");
}
