//! Whole files: what is refused, where, and what a good one becomes.

use super::read::Read;
use super::snapshot::*;
use super::*;
use crate::provider::{Credential, ModelName, Settings};
use std::time::Duration;

fn env(name: &str) -> Option<String> {
    (name == "KEY").then(|| "sk-from-env".to_owned())
}

fn good(text: &str) -> Loaded {
    parse(text, "t.yaml", &env).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn bad(text: &str) -> Vec<String> {
    let problems = parse(text, "t.yaml", &env).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

const GOOD: &str = r#"listen:
  - address: 127.0.0.1:0
admin: { address: 127.0.0.1:0 }
providers:
  one: { kind: openai, api_key: "sk-not-to-be-printed" }
routes:
  a:
    targets: [ { provider: one, model: m } ]
auth: none
"#;

#[test]
fn a_small_file_takes_the_defaults() {
    let loaded = good(GOOD);
    let snapshot = &loaded.snapshot;
    assert_eq!(snapshot.auth, AuthMode::None);
    assert_eq!((snapshot.server.max_body, snapshot.server.drain_timeout), (32 << 20, Duration::from_secs(60)));
    assert!(snapshot.server.threads > 0);
    let route = &snapshot.routes[0];
    assert_eq!((route.retry.attempts, route.retry.rate_limited, route.retry.backoff_max), (2, true, Duration::from_secs(2)));
    let provider = &snapshot.providers[0];
    assert_eq!((provider.base.host.as_ref(), provider.base.prefix.as_ref()), ("api.openai.com", "/v1"));
    assert_eq!(provider.timeouts.first_token, Duration::from_secs(120));
    assert!(matches!(&provider.credential, Credential::Bearer(key) if key.expose() == "sk-not-to-be-printed"));
    // The anonymous team and key are always there, at the end.
    assert_eq!((snapshot.teams[0].name.as_ref(), snapshot.keys[0].id.as_ref()), ("anonymous", "anonymous"));
    assert!(snapshot.key_digests.is_empty());
    assert_eq!(loaded.files.len(), 0);
}

#[test]
fn limits_may_be_counted_in_a_redis_and_its_password_is_never_shown() {
    let store = &good(GOOD).snapshot.limit_store;
    assert!(store.redis.is_none() && store.lease.is_none());
    assert_eq!((store.on_failure, store.timeout), (StoreFailure::Local, Duration::from_millis(20)));

    let text =
        format!("{GOOD}limits: {{ store: \"rediss://gw:${{KEY}}@h:6380/2\", on_store_failure: deny, store_timeout: 5ms, lease: 100ms }}\n");
    let store = &good(&text).snapshot.limit_store;
    assert_eq!(store.redis.as_ref().unwrap().expose(), "rediss://gw:sk-from-env@h:6380/2");
    assert_eq!((store.on_failure, store.timeout), (StoreFailure::Deny, Duration::from_millis(5)));
    assert_eq!(store.lease, Some(Duration::from_millis(100)));

    for (limits, problem) in [
        ("store: \"redis://:hidden@h:none\"", "10:18: `store` must be `memory`, or a URL like"),
        ("store: \"http://:hidden@h\"", "10:18: `store` must be"),
        ("store: \"redis://:hidden@h/db\"", "10:18: `store` must be"),
        ("store: memory, store_timeout: 0ms", "10:41: `store_timeout`: `0ms` is not a duration from 1ms to 10s"),
        ("store: memory, lease: 11s", "10:33: `lease`: `11s` is not a duration from 10ms to 10s"),
        ("store: memory, on_store_failure: panic", "10:44: `on_store_failure`: `panic` is not one of"),
    ] {
        let problems = bad(&format!("{GOOD}limits: {{ {limits} }}\n"));
        assert!(problems.len() == 1 && problems[0].contains(problem) && !problems[0].contains("hidden"), "{problems:?}");
    }
}

#[test]
fn the_schema_knows_every_key_of_the_limit_store() {
    let schema = file::LimitStore::schema().to_string();
    for key in ["on_store_failure", "store_timeout", "\"lease\"", "\"deny\""] {
        assert!(schema.contains(key), "{key}");
    }
}
