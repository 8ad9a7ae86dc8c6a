//! A Redis that can be reached and refuses to decide: permissions, types, memory. It shows in the log, in the access lines and in
//! `/status`.

use crate::support::{Limits, Process, Redis, until};
use serde_json::Value;

/// Lines of the log that hold all of these parts.
fn lines(gateway: &Process, parts: &[&str]) -> Vec<String> {
    gateway.output().lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
}

fn store(gateway: &Process) -> Value {
    let page = gateway.admin_page("/status");
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    serde_json::from_str::<Value>(body).unwrap()["limit_store"].clone()
}

/// Asks until the log has a warning of this error, and checks what else shows.
fn loud(gateway: &Process, code: &str, status: u16) {
    until(&format!("a warning of {code}"), || {
        assert_eq!(gateway.ask("r").0, status, "{code}");
        !lines(gateway, &["\"level\":\"warn\"", code, "applying on_store_failure"]).is_empty()
    });
    let store = store(gateway);
    assert_eq!(store["failing"], true, "{store}");
    assert!(store["last_failure"]["message"].as_str().unwrap().contains(code) && store["last_failure"]["time"].is_string(), "{store}");
    until("an access line", || {
        let want = format!("\"status\":{status}");
        !lines(gateway, &["\"log\":\"access\"", &want, "\"reason\":\"limit_store_failed\""]).is_empty()
    });
}

fn recovered(gateway: &Process) {
    until("the recovery", || gateway.ask("r").0 == 200 && store(gateway)["failing"] == false);
    assert_eq!(store(gateway)["connected"], true);
}

#[test]
fn missing_permissions_wrong_types_and_a_full_memory_are_loud_and_pass() {
    let (redis, simulator) = (Redis::start(), Process::simulator());
    let user = |rights: &[&str]| {
        let _ok: String =
            redis.command(&[&["ACL", "SETUSER", "gateway", "reset", "on", ">secret-of-redis", "~{tidegate}:*"], rights].concat());
    };
    user(&["+@all"]);
    for (policy, status) in [("deny", 503), ("local", 200), ("allow", 200)] {
        let url = redis.url().replace("redis://", "redis://gateway:secret-of-redis@");
        let limits = Limits {
            store: format!("{{ store: \"{url}\", on_store_failure: {policy}, store_timeout: 2s }}"),
            ..Limits::team("[ { tokens: 100000, per: 30d } ]", &redis, "")
        };
        let gateway = Process::gateway(&limits, simulator.port);
        recovered(&gateway);
        assert_eq!(
            (store(&gateway)["on_store_failure"].as_str(), store(&gateway)["address"].as_str()),
            (Some(policy), Some(&*format!("127.0.0.1:{}", redis.port)))
        );

        user(&["+@all", "-evalsha", "-eval"]);
        loud(&gateway, "NOPERM", status);
        for _ in 0..30 {
            gateway.ask("r");
        }
        assert!(lines(&gateway, &["limit store", "failed"]).len() < 10, "at a bounded rate");
        user(&["+@all"]);
        recovered(&gateway);

        let keys: Vec<String> = redis.command(&["KEYS", "{tidegate}:limit:*"]);
        for key in &keys {
            let _ok: String = redis.command(&["SET", key, "no hash"]);
        }
        loud(&gateway, "WRONGTYPE", status);
        for key in &keys {
            let _one: u64 = redis.command(&["DEL", key]);
        }
        recovered(&gateway);

        let _ok: String = redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
        loud(&gateway, "OOM", status);
        let _ok: String = redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
        recovered(&gateway);

        let all = gateway.output() + &gateway.admin_page("/status") + &gateway.admin_page("/metrics");
        assert!(!all.contains("secret-of-redis"), "a password is shown");
    }
}

#[test]
fn a_store_that_does_not_answer_in_time_is_loud_too() {
    let (redis, simulator) = (Redis::start(), Process::simulator());
    let gateway = Process::gateway(
        &Limits::team("[ { tokens: 100000, per: 30d } ]", &redis, "on_store_failure: local, store_timeout: 20ms"),
        simulator.port,
    );
    recovered(&gateway);
    let () = redis.command(&["CLIENT", "PAUSE", "3000", "ALL"]);
    until("a warning", || {
        assert_eq!(gateway.ask("r").0, 200);
        !lines(&gateway, &["\"level\":\"warn\"", "no answer within 20ms"]).is_empty()
    });
    recovered(&gateway);
}
