//! Whole gateways, in processes of their own, in front of the embedded simulator.

use crate::dir::Dir;
use crate::support::{Limits, Process, Redis, free_port, until};
use serde_json::Value;
use std::io::Read;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

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
    let began = Instant::now();
    let admitted = flood(&gateways, 5, 50);
    let refilled = began.elapsed().as_secs() as usize / 36;
    assert!((100..=100 + refilled).contains(&admitted), "{admitted}; {refilled} refilled meanwhile");
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
    assert!(answer.contains("x-ratelimit-limit-requests: 2") && answer.contains("x-ratelimit-remaining-requests: 0"), "{answer}");
}

#[test]
fn without_redis_nobody_gets_a_5xx_unless_it_was_asked_for() {
    let (mut redis, simulator) = (Redis::start(), Process::simulator());
    let gateway = |policy: &str| {
        let limits =
            Limits::team("[ { requests: 1000000, per: 1h } ]", &redis, &format!("on_store_failure: {policy}, store_timeout: 200ms"));
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
    for gateway in [&local, &allow, &deny] {
        let (errors, calls) = (gateway.store_errors() as f64, gateway.metric("tidegate_limit_store_calls_total"));
        assert!(errors > 0.0 && errors <= calls, "{errors} of {calls}");
    }
}

/// `counted_by` of `/limits`, and what is used of its only limit.
fn counted(gateway: &Process) -> (String, u64) {
    let page = gateway.admin_page("/limits");
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    let limits: Value = serde_json::from_str(body).unwrap();
    (limits["counted_by"].as_str().unwrap().to_owned(), limits["limits"][0]["used"].as_u64().unwrap())
}

#[test]
fn what_a_node_counts_during_an_outage_is_shown_with_its_cause() {
    let (mut redis, simulator) = (Redis::start(), Process::simulator());
    let gateway = |policy: &str| {
        Process::gateway(&Limits::team("[ { requests: 10, per: 30d } ]", &redis, &format!("on_store_failure: {policy}")), simulator.port)
    };
    let (local, allow) = (gateway("local"), gateway("allow"));
    for gateway in [&local, &local, &allow] {
        until("a shared count", || gateway.ask("r").0 == 200 && counted(gateway).0 == "store");
    }
    let before = counted(&allow);
    redis.stop();
    until("an answer without the store", || local.ask("r").0 == 200 && counted(&local).0 == "node");
    let used = counted(&local).1;
    assert_eq!((local.ask("r").0, counted(&local)), (200, ("node".to_owned(), used + 1)), "what this node has admitted since");
    let ratio = local.metric("tidegate_limit_used_ratio{dimension=\"requests\"");
    assert!((ratio - (used + 1) as f64 / 10.0).abs() < 1e-9, "{ratio}");
    until("an answer without the store", || allow.ask("r").0 == 200 && counted(&allow).0 == "none");
    assert_eq!(counted(&allow).1, before.1, "what the store told last");
    let warnings = |gateway: &Process, policy: &str| {
        let end = format!("applying on_store_failure={policy}");
        gateway.output().lines().filter(|line| line.contains("limit store") && line.contains(&end)).map(str::to_owned).collect::<Vec<_>>()
    };
    until("the cause", || warnings(&local, "local").iter().any(|line| line.contains("refused")));
    for _ in 0..30 {
        assert_eq!(allow.ask("r").0, 200);
    }
    // One for the connection that broke, one for those that cannot be made; those without either are not told apart.
    let told = warnings(&allow, "allow");
    assert!((1..=3).contains(&told.len()) && !told.iter().any(|line| line.contains("not connected")), "{told:#?}");
    redis.again();
    until("the recovery", || local.ask("r").0 != 0 && counted(&local).0 == "store");
}

#[test]
fn an_absent_store_at_the_start_is_exit_code_3_under_deny() {
    let mut redis = Redis::start();
    redis.stop();
    let mut process = Process::unready(&Limits::team("[]", &redis, STRICT), 1, &[]);
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

#[test]
fn over_tls_with_the_rights_of_the_example() {
    let directory = Dir::new();
    let path = |name: &str| directory.join(name).display().to_string();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &path("key.pem"), "-out", &path("cert.pem")])
        .output()
        .unwrap();
    assert!(made.status.success());
    let example = include_str!("../../deploy/redis.conf");
    let mut rights: Vec<_> = example.lines().filter(|line| line.starts_with("user ")).map(str::to_owned).collect();
    assert_eq!(rights.len(), 2);
    rights.push(format!("tls-cert-file {}\ntls-key-file {}\ntls-auth-clients no", path("cert.pem"), path("key.pem")));
    let port = free_port();
    rights.push(format!("port 0\ntls-port {port}\nsave \"\""));
    let configuration = directory.write("redis.conf", &rights.join("\n"));
    let mut server = Command::new("redis-server").arg(configuration).stdout(Stdio::null()).spawn().unwrap();
    until("the start of redis-server", || {
        assert!(server.try_wait().unwrap().is_none(), "redis-server refuses the example");
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });

    let simulator = Process::simulator();
    let url = format!("rediss://tidegate:${{REDIS_PASSWORD}}@localhost:{port}");
    let store = format!("{{ store: \"{url}\", on_store_failure: deny, store_timeout: 5s }}");
    let limits =
        Limits { team: "[ { requests: 1, per: 1h }, { tokens: 9000, per: 1h } ]", key: "[ { concurrent: 9 } ]", provider: "[]", store };
    let environment = [("REDIS_PASSWORD", "replace-this-password"), ("SSL_CERT_FILE", &path("cert.pem"))];
    let node = || Process::gateway_with(&limits, simulator.port, &environment);
    let (one, two) = (node(), node());
    assert_eq!((one.ask("r").0, two.ask("r").0, one.ask("r").0), (200, 429, 429));
    let (page, errors) = (one.admin_page("/limits"), one.store_errors() + two.store_errors());
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(page.contains(r#""dimension":"requests","per_ms":3600000,"limit":1,"used":1"#), "{page}");
    assert_eq!(errors, 0);
}

#[test]
fn a_store_that_is_away_at_a_reload_is_used_once_it_is_there() {
    let (mut redis, simulator) = (Redis::start(), Process::simulator());
    redis.stop();
    let none = Limits { store: "{ store: memory }".to_owned(), ..Limits::team("[]", &redis, STRICT) };
    let gateway = Process::gateway(&none, simulator.port);
    gateway.reconfigure(&Limits::team("[ { requests: 2, per: 1h } ]", &redis, STRICT), simulator.port);
    let rejected = || gateway.metric("tidegate_config_reloads_total{result=\"rejected\"}");
    until("the rejection", || rejected() >= 1.0);
    assert_eq!(gateway.ask("r").0, 200);
    redis.again();
    until("the shared limit", || gateway.ask("r").1.contains("x-ratelimit-limit-requests: 2"));
    assert_eq!(rejected(), 1.0, "the same problem is reported once");
}
