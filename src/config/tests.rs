//! Whole files: what is refused, where, and what a good one becomes.

use super::snapshot::*;
use super::*;
use crate::auth::tenants::AuthMode;
use crate::dialect::openai::quirks::{Guided, ReasoningField, Returned};
use crate::dialect::sagemaker::Format;
use crate::dialect::shared::claude::StructuredOutput;
use crate::dir::Dir;
use crate::files::fingerprint;
use crate::limit::rule::{Dimension, LimitPeriod, RouteSet, StoreFailure};
use crate::provider::protocol::Protocol;
use crate::provider::{HttpVersion, ModelName};
use crate::route::settings::{Balance, Ejection};
use crate::sign::credential::{AwsSecrets, Credential};
use crate::telemetry::log::LogFormat;
use std::time::Duration;

mod endpoints;
mod fixtures;
mod limits;
mod listeners;
mod prices;
mod routing;
mod secrets;

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
    assert!(matches!(snapshot.tenants.mode, AuthMode::None));
    assert_eq!((snapshot.server.max_body, snapshot.server.drain_timeout), (32 << 20, Duration::from_secs(60)));
    let server = &snapshot.server;
    assert_eq!([server.client_idle_timeout, server.drain_delay, server.upgrade_timeout].map(|d| d.as_secs()), [75, 0, 30]);
    assert!(snapshot.server.threads > 0);
    let route = &snapshot.routes[0];
    assert_eq!((route.retry.attempts, route.retry.rate_limited, route.retry.backoff_max), (1, true, Duration::from_secs(2)));
    let provider = &snapshot.providers[0];
    assert_eq!((provider.base.host.as_ref(), provider.base.prefix.as_ref()), ("api.openai.com", "/v1"));
    assert_eq!(provider.timeouts.first_token, Duration::from_secs(120));
    assert!(matches!(&provider.credential, Credential::Bearer(key) if key.expose() == "sk-not-to-be-printed"));
    // The anonymous team and key are always there, at the end.
    assert_eq!((snapshot.tenants.teams[0].name.as_ref(), snapshot.tenants.keys[0].id.as_ref()), ("anonymous", "anonymous"));
    assert!(snapshot.tenants.digests.is_empty());
    assert_eq!(loaded.files.len(), 0);
}

/// A change to the good file, and where and with which word it is refused.
type Mistake = (&'static str, &'static str, &'static str, &'static str);

const MISTAKES: &[Mistake] = &[
    // Keys.
    ("api_key: \"sk-not-to-be-printed\"", "api_key:", "5:8", "`api_key` is missing"),
    ("auth: none", "auth: none\nnonsense: 1", "10:1", "unknown key `nonsense`"),
    ("auth: none", "auth: none\ntracing: {}", "10:10", "`otlp` is missing"),
    ("model: m }", "model: m, wieght: 3 }", "8:43", "did you mean `weight`"),
    ("model: m } ]", "model: m } ]\n    hedging: {}", "9:5", "unknown key `hedging`"),
    ("auth: none", "auth: none\nauth: keys", "10:1", "duplicate key `auth`"),
    ("auth: none", "teams: { t: {}, t: {} }", "9:17", "duplicate key `t`"),
    ("auth: none", "<<: {}", "9:1", "merge keys"),
    ("auth: none", "? [x]\n: y", "9:3", "key must be plain text"),
    ("auth: none", "auth: !mine none", "9:13", "tags"),
    // Types.
    ("auth: none", "teams: [t]", "9:8", "`teams` must be a mapping"),
    ("auth: none", "log: { level: [x] }\nauth: none", "9:15", "`level` must be a level: off, error, "),
    ("kind: openai", "kind: {}", "5:16", "`kind` must be a provider kind: "),
    ("[ { provider: one, model: m } ]", "one", "8:14", "`targets` must be a list"),
    ("[ { provider: one, model: m } ]", "[]", "8:14", "at least one"),
    ("model: m", "model: [m]", "8:40", "`model` must be text"),
    ("model: m }", "model: m, weight: -1 }", "8:51", "`weight`: `-1` is not a whole number"),
    ("model: m }", "model: m, weight: 1.5 }", "8:51", "weight"),
    ("model: m }", "model: m, price: { input: cheap, output: 1 } }", "8:59", "`cheap`"),
    ("model: m }", "model: m, price: { input: 0.1234567, output: 1 } }", "8:59", "six decimals"),
    ("model: m }", "model: m, price: { input: 1 } }", "8:50", "`output` is missing"),
    ("model: m }", "model: m, price: { image: 1, cached_input: 1 } }", "8:50", "`input` is missing"),
    ("model: m }", "model: m, price: {} }", "8:50", "`price` has no amount"),
    ("model: m }", "model: m, price: { second: 1e-13 } }", "8:60", "twelve decimals"),
    ("model: m }", "model: m, price: { image: 1001 } }", "8:59", "from 0 to 1000"),
    ("model: m }", "model: m, price: cheap }", "8:50", "a mapping like { input: 3, output: 15 }, or one of: catalogue, none"),
    ("model: m }", "model: m, price: catalogue }", "8:50", "the price catalogue has no model `m` of kind `openai`"),
    ("model: m }", "model: gpt-5-minor, price: catalogue }", "8:60", "(it has `gpt-5-mini`"),
    ("model: m }", "model: m, price: { catalogue: gpt-5-min } }", "8:63", "`gpt-5-mini`"),
    ("model: m }", "model: m, price: { catalogue: vllm/m } }", "8:63", "no prices of kind `vllm`"),
    ("model: m }", "model: m, price: { input: 1, output: 1, tiers: [ { above: 0, input: 1 } ] } }", "8:91", "`above`"),
    ("model: m }", "model: m, price: { input: 1, output: 1, tiers: [ { input: 1 } ] } }", "8:82", "`above` is missing"),
    ("model: m }", "model: m, price: { input: 1, output: 1, tiers: [ { above: 5 } ] } }", "8:82", "a tier needs a price"),
    (
        "model: m }",
        "model: m, price: { input: 1, output: 1, tiers: [ { above: 5, input: 2 }, { above: 5, input: 3 } ] } }",
        "8:115",
        "another tier above 5",
    ),
    ("model: m }", "model: m, price: { tiers: [ { above: 5, input: 2 } ] } }", "8:50", "`input` is missing"),
    ("model: m }", "model: whisper-1, price: { catalogue: \"*\", cached_input: 1 } }", "8:71", "`input` is missing: the catalogue"),
    ("auth: none", "auth: none\nprice: free", "10:8", "catalogue, none"),
    ("auth: none", "auth: maybe", "9:7", "keys, none"),
    ("auth: none", "log: { access: yes }", "9:16", "true or false"),
    ("auth: none", "log: { level: loud }", "9:15", "`loud`"),
    ("auth: none", "log: { attributes: [x-a] }", "9:20", "must be a mapping"),
    ("auth: none", "log: { attributes: { agent: authorization } }", "9:29", "carries no credentials"),
    ("auth: none", "log: { attributes: { agent: messages.0 } }", "9:29", "metadata.NAME"),
    ("auth: none", "log: { attributes: { Agent: x-a } }", "9:22", "lower-case letters"),
    ("auth: none", "log: { attributes: { agent: { values: [a] } } }", "9:29", "`from` is missing"),
    ("auth: none", "log: { attributes: { agent: { from: user, values: [a, a] } } }", "9:55", "duplicate value"),
    ("auth: none", "log: { attributes: { agent: { from: user, values: [other] } } }", "9:52", "count requests"),
    ("model: m } ]", "model: m } ]\n    balance: stickily", "9:14", "weighted, least_requests, latency, sticky"),
    ("auth: none", "server: { header_timeout: fast }", "9:27", "header_timeout"),
    ("auth: none", "server: { header_timeout: 0s }", "9:27", "header_timeout"),
    ("auth: none", "server: { body_timeout: 10 }", "9:25", "body_timeout"),
    ("auth: none", "server: { max_body: 32 miles }", "9:21", "max_body"),
    ("auth: none", "server: { threads: many }", "9:20", "threads"),
    ("auth: none", "server: { trust_forwarded_for: [10.0.0.0/33] }", "9:33", "`10.0.0.0/33`"),
    ("address: 127.0.0.1:0 }", "address: localhost }", "3:19", "`localhost`"),
    // Providers.
    ("kind: openai", "kind: opnai", "5:16", "did you mean `openai`?"),
    ("kind: openai", "kind: watson", "5:16", "a provider kind: anthropic, azure_openai, "),
    ("kind: openai, ", "", "5:8", "`kind` is missing"),
    (", api_key: \"sk-not-to-be-printed\"", "", "5:8", "`api_key` is missing"),
    ("\"sk-not-to-be-printed\"", "\"${NOT_SET}\"", "5:33", "`NOT_SET` is not set"),
    ("\"sk-not-to-be-printed\"", "\"${NOT_CLOSED\"", "5:33", "not closed"),
    ("\"sk-not-to-be-printed\"", "\"\"", "5:33", "empty"),
    ("api_key: \"sk-not-to-be-printed\"", "api_key_file: /none/there", "5:38", "cannot read the file"),
    ("api_key:", "api_key_file: /dev/null, api_key:", "5:38", "exclude each other"),
    ("kind: openai,", "kind: vllm,", "5:8", "`base_url` is missing"),
    ("kind: openai,", "kind: openai_compatible,", "5:8", "`base_url` is missing"),
    ("kind: openai,", "kind: openai, region: us-east-1,", "5:24", "belongs to bedrock, sagemaker"),
    ("kind: openai,", "kind: anthropic, responses: true,", "5:27", "belongs to azure_openai"),
    ("kind: openai,", "kind: sagemaker, region: us-east-1,", "5:46", "`api_key` is no key"),
    ("kind: openai,", "kind: bedrock,", "5:8", "`region` is missing"),
    ("kind: openai,", "kind: bedrock, region: \"evil.example/\",", "5:33", "`region` is a name"),
    ("kind: openai,", "kind: bedrock, region: r, credentials: { access_key_id: a, secret_access_key: b },", "5:49", "exclude each other"),
    ("kind: openai,", "kind: bedrock, region: r, credentials: { access_key_id: a },", "5:49", "`secret_access_key` is missing"),
    ("kind: openai, api_key: \"sk-not-to-be-printed\"", "kind: vertex, project: p", "5:8", "`location` is missing"),
    ("kind: openai, ", "kind: openai, base_url: \"ftp://h\", ", "5:34", "http"),
    ("kind: openai, ", "kind: openai, base_url: \"https://h/v1/chat/completions\", ", "5:34", "write `https://h/v1`"),
    ("kind: openai, ", "kind: openai, headers: { host: h }, ", "5:35", "`host`"),
    ("kind: openai, ", "kind: openai, headers: { \"a b\": h }, ", "5:35", "`a b`"),
    ("kind: openai, ", "kind: openai, max_connections: 0, ", "5:41", "max_connections"),
    ("kind: openai, ", "kind: openai, http: 3, ", "5:30", "one of: auto, 1.1, 2"),
    ("kind: openai, ", "kind: openai, tls: { client_key: /dev/null }, ", "5:43", "needs `client_certificate`"),
    ("kind: openai, ", "kind: openai, tls: { ca_file: /none }, ", "5:40", "cannot read the file"),
    ("kind: openai, ", "kind: openai, tls: { ca_file: TLS/key.pem }, ", "5:40", "no PEM certificate"),
    ("kind: openai, ", "kind: openai, tls: { client_key: TLS/other.pem, client_certificate: TLS/certificate.pem }, ", "5:43", "another"),
    (
        "kind: openai, api_key: \"sk-not-to-be-printed\"",
        "kind: vertex, project: p, location: l, credentials_file: TLS/key.pem",
        "5:67",
        "not a credentials file (line 1",
    ),
    (
        "kind: openai, api_key: \"sk-not-to-be-printed\"",
        "kind: vertex, project: p, location: l, credentials_file: TLS/../gemini/external-account.json",
        "5:67",
        "expected service_account or authorized_user",
    ),
    // Routes.
    ("provider: one", "provider: two", "8:28", "no provider `two`"),
    ("model: m }", "model: m, weight: 0 }", "8:51", "weight"),
    ("model: m }", "model: \"*\" }", "8:40", "`*`"),
    ("model: m }", "model: m, format: tgi }", "8:43", "belongs to sagemaker"),
    ("  a:\n", "  \"a*b*\":\n", "7:3", "exactly one `*`"),
    ("  a:\n", "  \"tensorzero::model_name::a\":\n", "7:3", "taken off"),
    ("model: m } ]", "model: m } ]\n    retry: { attempts: 0 }", "9:24", "attempts"),
    ("model: m } ]", "model: m } ]\n    retry: { on: [sometimes] }", "9:19", "`sometimes`"),
    ("model: m } ]", "model: m } ]\n    retry: { budget: { share: 1.5 } }", "9:31", "from 0 to 1"),
    ("model: m } ]", "model: m } ]\n    retry: { budget: { per_second: 1001 } }", "9:36", "0 to 1000"),
    ("model: m } ]", "model: m } ]\n    retry: { backoff: { initial: 3s } }", "9:23", "`initial`"),
    ("model: m } ]", "model: m } ]\n    ejection: { failures: 65 }", "9:27", "0 to 64"),
    ("model: m } ]", "model: m } ]\n    ejection: { window: 0s }", "9:25", "window"),
    ("model: m } ]", "model: m } ]\n    ejection: { cooldown: { max: 4s } }", "9:27", "`initial`"),
    ("model: m } ]", "model: m } ]\n    params: { overrides: { model: x } }", "9:28", "`model`"),
    ("model: m } ]", "model: m } ]\n    params: { defaults: { seed: .nan } }", "9:33", "JSON"),
    ("routes:\n  a:\n    targets: [ { provider: one, model: m } ]", "routes: {}", "6:1", "`routes` is missing or empty"),
    // Teams and keys.
    ("auth: none", "teams: { t: { routes: [b] } }", "9:24", "no route `b`"),
    ("auth: none", "teams: { anonymous: {} }", "9:10", "taken"),
    ("auth: none", "teams: { t: { keys: [ { id: x, sha256: tg-secret } ] } }", "9:40", "64 hexadecimal digits"),
    ("auth: none", "teams: { t: { keys: [ { id: x, sha256: \"SHA\", expires: soon } ] } }", "9:117", "`soon`"),
    (
        "auth: none",
        "teams:\n  t: { keys: [ { id: x, sha256: \"SHA\" } ] }\n  u: { keys: [ { id: x, sha256: \"SHB\" } ] }",
        "11:22",
        "two keys",
    ),
    (
        "auth: none",
        "teams:\n  t: { keys: [ { id: x, sha256: \"SHA\" } ] }\n  u: { keys: [ { id: y, sha256: \"SHA\" } ] }",
        "11:33",
        "same digest",
    ),
    // YAML itself.
    ("auth: none", "auth: [ none", "9:7", "not YAML"),
    ("auth: none", "--- 1", "9:1", "second YAML document"),
    ("auth: none", "auth: *nobody", "9:7", "not YAML"),
    ("auth: none", "auth: &x [ *x ]", "9:12", "alias"),
];

#[test]
fn every_mistake_is_told_once_with_its_place() {
    let mut surprises = Vec::new();
    for (from, to, place, word) in MISTAKES.iter().chain(listeners::MISTAKES).chain(routing::MISTAKES).chain(limits::MISTAKES) {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1).replace("SHA", &"ab".repeat(32)).replace("SHB", &"cd".repeat(32));
        let text = text.replace("TLS", "tests/fixtures/tls");
        let problems = bad(&text);
        let told = matches!(&problems[..], [one] if one.starts_with(&format!("t.yaml:{place}: ")) && one.contains(word));
        if !told || problems.iter().any(|problem| problem.contains("sk-not") || problem.contains("tg-secret")) {
            surprises.push(format!("{to}: not {place} {word} but {problems:#?}"));
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("auth: none", "auth: none\nnonsense: 1\nteams: { t: { routes: [b, c] } }")
        .replace("model: m }", "model: m, wieght: 3 }")
        .replace("kind: openai", "kind: opnai");
    let places: Vec<_> = bad(&text).iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
    // The provider that is wrong is not also said to be missing.
    assert_eq!(places, ["t.yaml:5:16", "t.yaml:8:43", "t.yaml:10:1", "t.yaml:11:24", "t.yaml:11:27"]);
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
        ("store: \"redis-sentinel://:hidden@h,,i/main\"", "10:18: `store` must be"),
        ("store: \"redis-cluster://:hidden@h:7000/1\"", "10:18: `store` must be"),
        ("store: memory, store_timeout: 0ms", "10:41: `store_timeout`: `0ms` is not a duration from 1ms to 10s"),
        ("store: memory, lease: 11s", "10:33: `lease`: `11s` is not a duration from 10ms to 10s"),
        ("store: memory, on_store_failure: panic", "10:44: `on_store_failure`: `panic` is not one of"),
    ] {
        let problems = bad(&format!("{GOOD}limits: {{ {limits} }}\n"));
        assert!(problems.len() == 1 && problems[0].contains(problem) && !problems[0].contains("hidden"), "{problems:?}");
    }
}

#[test]
fn seal_keys_are_the_same_on_all_nodes_and_change_with_no_credential() {
    let keys = |text: &str| good(text).snapshot.seal_keys.clone();
    let of = |list: &str| keys(&format!("{GOOD}server: {{ seal_keys: [{list}] }}\n"));
    let (one, two) = ("0123456789abcdef", "fedcba9876543210");
    let both = of(&format!("{one}, {two}"));
    assert_eq!((of(one).0, both.1.as_slice()), (both.0, [of(two).0].as_slice()));
    assert_ne!(of(one).0, keys(GOOD).0);
    assert_eq!(keys(&GOOD.replace("sk-not-to-be-printed", "sk-another")).0, keys(GOOD).0);
}

#[test]
fn origins_are_taken_as_browsers_send_them() {
    let cors = |value: &str| good(&format!("{GOOD}server: {{ cors: {value} }}\n")).snapshot.server.cors;
    assert_eq!((cors("{}"), cors("{ origins: [] }")), (None, None));
    let some =
        cors("{ origins: [\"HTTPS://App.Example:443\", \"http://localhost:8080\", \"chrome-extension://abc\"], max_age: 10m }").unwrap();
    assert_eq!(some.origins, ["https://app.example", "http://localhost:8080", "chrome-extension://abc"]);
    assert_eq!((some.any, some.max_age.as_secs()), (false, 600));
    let all = cors("{ origins: [\"*\"] }").unwrap();
    assert_eq!((all.any, all.max_age.as_secs()), (true, 3600));
    for wrong in ["app.example", "https://", "https://app.example/path", "https://app.example/", "https://u@h", "https://*.example", "://h"]
    {
        let problems = bad(&format!("{GOOD}server: {{ cors: {{ origins: [\"{wrong}\"] }} }}\n"));
        assert!(problems.len() == 1 && problems[0].contains("is not an origin"), "{wrong}: {problems:?}");
    }
}

#[test]
fn a_deep_or_endless_file_is_refused_and_not_followed() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(bad(&deep).len(), 1);
    // Each level repeats the one before nine times.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let uses = vec![format!("*a{}", i - 1); 9].join(", ");
        bomb += &format!("a{i}: &a{i} [{uses}]\n");
    }
    assert!(bad(&bomb)[0].contains("too large"));
    let mut chain = "a0: &a0 x\n".to_owned();
    for i in 1..200 {
        chain += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
    }
    assert!(bad(&chain)[0].contains("nested too deeply"));
}

#[test]
fn every_section_of_the_schema_is_what_the_reader_takes() {
    let mut sections = 0;
    compare(&file::schema(), &|inner| inner, &mut sections);
    assert!(sections > 20, "{sections}");
}

/// Puts an unknown key into every section that the schema knows, and compares what the reader says it takes there.
fn compare(schema: &serde_json::Value, wrap: &dyn Fn(String) -> String, sections: &mut usize) {
    if let Some(properties) = schema["properties"].as_object() {
        *sections += 1;
        let text = wrap("{ \"?????????????????\": 1 }".to_owned());
        let problems = bad(&text);
        let (_, keys) = problems.iter().find_map(|p| p.split_once("the keys here are ")).unwrap_or_else(|| panic!("{text}: {problems:?}"));
        let mut keys: Vec<_> = keys.split(", ").collect();
        keys.sort_unstable();
        let mut known: Vec<_> = properties.keys().map(String::as_str).collect();
        known.sort_unstable();
        assert_eq!(keys, known, "{text}");
        for (name, schema) in properties {
            assert!(!schema["description"].as_str().unwrap().is_empty());
            compare(schema, &|inner| wrap(format!("{{ {name}: {inner} }}")), sections);
        }
    }
    if schema["items"].is_object() {
        compare(&schema["items"], &|inner| wrap(format!("[ {inner} ]")), sections);
    }
    if schema["additionalProperties"].is_object() {
        compare(&schema["additionalProperties"], &|inner| wrap(format!("{{ name: {inner} }}")), sections);
    }
}

#[test]
fn the_example_shows_every_key_of_the_schema() {
    fn keys(schema: &serde_json::Value, all: &mut Vec<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            all.extend(properties.keys().cloned());
            properties.values().for_each(|schema| keys(schema, all));
        }
        for inner in [&schema["items"], &schema["additionalProperties"]] {
            if inner.is_object() {
                keys(inner, all);
            }
        }
    }
    let mut all = Vec::new();
    keys(&file::schema(), &mut all);
    let example = include_str!("../../conf/tidegate.yaml");
    let words: std::collections::HashSet<_> = example.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    for key in all {
        assert!(words.contains(key.as_str()), "{key}");
    }
}

#[test]
fn the_defaults_of_the_schema_are_the_readers() {
    let schema = file::schema();
    assert_eq!(schema["properties"]["server"]["properties"]["max_body"]["default"], "32MiB");
    assert_eq!(schema["properties"]["server"]["properties"]["threads"]["default"], 0);
    let retry = &schema["properties"]["routes"]["additionalProperties"]["properties"]["retry"]["properties"];
    assert_eq!(retry["on"]["default"].as_array().map(Vec::len), Some(7), "all but content_filter");
    let route = &schema["properties"]["routes"]["additionalProperties"]["properties"];
    assert_eq!(route["balance"]["enum"], serde_json::json!(["weighted", "least_requests", "latency", "sticky"]));
    let ejection = &route["ejection"]["properties"];
    assert_eq!((&ejection["failures"]["default"], &ejection["failures"]["maximum"]), (&5.into(), &64.into()));
    assert_eq!(ejection["cooldown"]["properties"]["max"]["default"], "30s");
    let target = &route["targets"]["items"];
    assert_eq!(target["required"], serde_json::json!(["provider", "model"]));
    assert_eq!(target["properties"]["weight"]["default"], 1);
}

const FULL: &str = r#"
listen: [ { address: "[::1]:3000" } ]
server: { threads: 3, max_body: 1MiB, stream_usage: separate, trust_forwarded_for: [10.0.0.0/8, "::1", unix, "::ffff:192.168.0.0/112"] }
providers:
  claude: { kind: anthropic, api_key: "${KEY}", beta: [a, b], default_max_tokens: 99 }
  aws: { kind: bedrock, region: eu-west-1, credentials: { access_key_id: a, secret_access_key: b, session_token: c } }
  aws-key: { kind: bedrock, region: eu-west-1, api_key: k }
  aws-chain: { kind: sagemaker, region: eu-west-1 }
  google: { kind: vertex, project: "example.com:p", location: us-central1, access_token: t }
  adc: { kind: vertex, project: p, location: global }
  studio: { kind: google_ai_studio, api_key: k }
  mistral: { kind: mistral, api_key: k }
  pool:
    kind: vllm
    base_url: "http://10.0.0.7:8000/v1/"
    guided: sglang
    inject_stream_options: false
    reasoning_field: content
    returns: [reasoning]
    max_connections: 7
    headers: { X-Team: blue }
    timeouts: &times { first_token: 20s, total: 5m }
    tls: { verify: false, server_name: other.example.com }
    http: 1.1
    limits: [ { concurrent: 400 } ]
  other: { kind: openai_compatible, base_url: "https://llm.example.com/v1" }
routes:
  r:
    targets:
      - { provider: pool, model: Qwen/Qwen3-4B, weight: 9, price: { input: 0.10, output: 0.40, cached_input: 0.02 } }
      - { provider: aws-chain, model: ep, weight: 0, format: tgi, inference_component: c, think_tags: split }
    fallback: [ { provider: claude, model: c, structured_output: tool, default_max_tokens: 5 } ]
    balance: latency
    retry: { attempts: 3, on: [connect] }
    ejection: { failures: 2, cooldown: { max: 1m } }
    timeouts: *times
    system: "Be brief, ${KEY}."
    params: { defaults: { temperature: 0.2, stop: ["a"] }, overrides: { user: "u-${KEY}" }, unsupported: reject }
    limits: [ { requests: 6000, per: 1m } ]
  "openai/*": { targets: [ { provider: other, model: "*" } ] }
  "openai/gpt-*": { balance: sticky, ejection: { failures: 0 }, targets: [ { provider: other, model: "x-*" }, { provider: pool, model: "*" } ] }
teams:
  search:
    routes: [ "openai/*" ]
    limits: [ { tokens: 200000, per: 1m, burst: 10 }, { usd: 0.5, per: 1d } ]
    keys:
      - { id: one, sha256: "AA", expires: 2027-01-01T01:00:00+01:00, routes: [r] }
      - { id: two, sha256: "BB", disabled: true }
log: { format: text, level: debug, access: false }
"#;

#[test]
fn a_full_file_becomes_what_it_says() {
    let loaded = good(&FULL.replace("AA", &"AA".repeat(32)).replace("BB", &"bb".repeat(32)));
    let snapshot = loaded.snapshot;
    assert_eq!((snapshot.listen[0].address.to_string().as_str(), snapshot.admin.port()), ("[::1]:3000", 9464));
    assert_eq!((snapshot.server.threads, snapshot.server.stream_usage), (3, StreamUsage::Separate));
    let trust = &snapshot.server.trust_forwarded_for;
    assert!(trust.networks[1].contains(&"::1".parse::<std::net::IpAddr>().unwrap()) && trust.unix);
    assert_eq!(trust.networks[2], "192.168.0.0/16".parse().unwrap());

    let by_name = |name: &str| snapshot.providers.iter().find(|provider| provider.name.as_ref() == name).unwrap();
    let header = |name: &str| match &by_name(name).credential {
        Credential::Header(header, key) => (header.to_string(), key.expose().to_owned()),
        _ => panic!("{name}"),
    };
    assert_eq!(header("claude"), ("x-api-key".to_owned(), "sk-from-env".to_owned()));
    assert_eq!(header("studio").0, "x-goog-api-key");
    let Protocol::Anthropic(claude) = &by_name("claude").protocol else { panic!("another protocol") };
    assert_eq!((&*claude.version, &*claude.beta, claude.default_max_tokens), ("2023-06-01", &["a".to_owned(), "b".to_owned()][..], 99));
    assert!(
        matches!(&by_name("aws").credential, Credential::Aws { keys: Some(AwsSecrets { session_token: Some(token), .. }), .. } if token.expose() == "c")
    );
    assert!(matches!(by_name("aws-key").credential, Credential::Bearer(_)));
    assert!(matches!(by_name("aws-chain").credential, Credential::Aws { keys: None, .. }));
    assert!(matches!(by_name("google").credential, Credential::Bearer(_)));
    assert!(matches!(by_name("adc").credential, Credential::Google(None)));
    assert!(matches!(by_name("mistral").credential, Credential::Bearer(_)));
    assert!(matches!(by_name("other").credential, Credential::None));
    assert_eq!(by_name("adc").base.host.as_ref(), "aiplatform.googleapis.com");
    let pool = by_name("pool");
    let quirks = pool.protocol.dialect().quirks().unwrap();
    assert_eq!((quirks.guided, quirks.usage_option, quirks.reasoning_field), (Guided::Sglang, false, ReasoningField::Content));
    assert_eq!(quirks.returns, [Returned::Reasoning]);
    assert_eq!((pool.max_connections, pool.headers[0].0.as_str(), pool.base.prefix.as_ref()), (Some(7), "x-team", "/v1"));
    assert!(format!("{:?}", pool.headers[0].1).contains("Sensitive"));
    assert_eq!((pool.timeouts.first_token, pool.timeouts.total), (Duration::from_secs(20), Some(Duration::from_secs(300))));
    assert_eq!(pool.http, HttpVersion::Http1);
    assert_eq!((pool.tls.verify, pool.tls.server_name.as_deref()), (false, Some("other.example.com")));
    assert_eq!((pool.limits[0].rule.dimension, pool.limits[0].rule.amount), (Dimension::Concurrent, 400));

    let route = &snapshot.routes[0];
    let rates = route.targets[0].pricing.of(|| "".into()).unwrap().rates;
    assert_eq!((rates.input, rates.output, rates.cached_input, rates.cache_write), (100_000, 400_000, 20_000, 100_000));
    assert_eq!((route.targets[1].index, route.fallback[0].index, snapshot.routes.targets), (1, 2, 6));
    let Protocol::SageMaker(endpoint) = &route.targets[1].protocol else { panic!("another protocol") };
    assert_eq!((endpoint.openai.split_think_tags, endpoint.format), (true, Format::Tgi));
    assert_eq!(endpoint.inference_component.as_deref(), Some("c"));
    let Protocol::Anthropic(claude) = &route.fallback[0].protocol else { panic!("another protocol") };
    assert_eq!((claude.structured_output, claude.default_max_tokens, &*claude.version), (StructuredOutput::Tool, 5, "2023-06-01"));
    assert_eq!((route.retry.attempts, route.retry.connect, route.retry.timeout), (3, true, false));
    assert_eq!((route.timeouts.first_token, route.timeouts.connect), (Some(Duration::from_secs(20)), None));
    let seconds = Duration::from_secs;
    let ejection = Ejection { failures: 2, share: 500_000, window: seconds(30), initial: seconds(5), max: seconds(60) };
    assert_eq!((route.balance, route.ejection), (Balance::Latency, ejection));
    assert_eq!((snapshot.routes[1].balance, snapshot.routes[2].balance), (Balance::Weighted, Balance::Sticky));
    assert_eq!(snapshot.routes[1].ejection.failures, 5, "also of a target that is alone");
    assert_eq!(snapshot.routes[2].ejection.failures, 0, "switched off");
    assert_eq!(route.system.as_deref(), Some("Be brief, sk-from-env."));
    let field = |name: &str, json: &str| (name.to_owned(), json.to_owned());
    assert_eq!(route.params.defaults, [field("temperature", "0.2"), field("stop", r#"["a"]"#)]);
    assert_eq!(route.params.overrides, [field("user", r#""u-sk-from-env""#)]);
    assert!(route.params.reject_unsupported);
    assert_eq!(snapshot.routes[1].targets[0].model, ModelName::Pattern("*".into()));
    let prefixes: Vec<_> = snapshot.routes.patterns.iter().map(|(prefix, ..)| prefix.as_ref()).collect();
    assert_eq!(prefixes, ["openai/gpt-", "openai/"]);

    let team = &snapshot.tenants.teams[0];
    assert_eq!(team.routes, Some(RouteSet(vec![false, true, false])));
    assert_eq!((team.limits[0].rule.amount, team.limits[0].rule.burst), (200_000, 10));
    let budget = team.limits[1].rule;
    assert_eq!((budget.amount, budget.burst, budget.per), (500_000, 500_000, LimitPeriod::Window(Duration::from_secs(86_400))));
    assert_eq!(snapshot.tenants.digests[&[0xaa; 32]], 0);
    assert_eq!((snapshot.tenants.keys[0].expires, snapshot.tenants.keys[1].disabled), (Some(1_798_761_600), true));
    assert_eq!((snapshot.log.format, snapshot.log.access, snapshot.log.level), (LogFormat::Text, false, log::LevelFilter::Debug));
}

#[test]
fn files_are_read_trimmed_listed_and_fingerprinted() {
    let folder = Dir::new();
    let key = folder.write("key", " sk-in-file\n");
    let text = GOOD.replace("api_key: \"sk-not-to-be-printed\"", &format!("api_key_file: \"{}\"", key.display()));
    let main = folder.write("main.yaml", &text);
    let loaded = load(&main).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(loaded.files, [main.clone(), key.clone()]);
    assert!(matches!(&loaded.snapshot.providers[0].credential, Credential::Bearer(secret) if secret.expose() == "sk-in-file"));
    let before = fingerprint(&loaded.files);
    assert_eq!(before, fingerprint(&loaded.files));
    std::fs::write(&key, "sk-other").unwrap();
    assert_ne!(before, fingerprint(&loaded.files));
    std::fs::write(&key, "\n").unwrap();
    let problems = load(&main).err().unwrap();
    assert!(problems[0].message.contains("empty") && problems[0].at.unwrap().line == 5, "{problems:?}");
}

#[test]
fn ten_thousand_keys_and_a_thousand_routes_load() {
    let mut text = "providers: { p: { kind: openai, api_key: k } }\nroutes:\n".to_owned();
    for i in 0..1_000 {
        text += &format!("  route-{i}: {{ targets: [ {{ provider: p, model: m{i} }} ], limits: [ {{ requests: 60, per: 1m }} ] }}\n");
    }
    text += "teams:\n  t:\n    keys:\n";
    for i in 0..10_000 {
        text += &format!(
            "      - {{ id: key-{i}, sha256: \"{i:064x}\", routes: [route-{}], limits: [ {{ requests: 10, per: 1m }} ] }}\n",
            i % 1_000
        );
    }
    let snapshot = good(&text).snapshot;
    assert_eq!((snapshot.tenants.keys.len(), snapshot.routes.len(), snapshot.tenants.digests.len()), (10_001, 1_000, 10_000));
    let again = text.replacen("  route-999:", "  route-5:", 1);
    assert!(bad(&again)[0].contains("duplicate key `route-5`"));
    // All of them wrong: still as quick, because hints are given for the first ones only.
    let problems = bad(&text.replace("routes: [route-", "routes: [rout-"));
    assert_eq!(problems.len(), 10_000);
    assert!(problems[0].contains("did you mean `route-0`"), "{}", problems[0]);
}

#[test]
fn a_provider_has_the_responses_api_by_its_kind_unless_its_section_says_otherwise() {
    for (provider, has_responses) in [
        ("kind: openai, api_key: k", true),
        ("kind: openai, api_key: k, responses: false", false),
        ("kind: deepseek, api_key: k", false),
        ("kind: deepseek, api_key: k, responses: true", true),
        ("kind: openai_compatible, base_url: \"http://h/v1\", api: responses", true),
        ("kind: openai_compatible, base_url: \"http://h/v1\", api: chat", false),
        ("kind: vllm, base_url: \"http://h/v1\"", true),
        ("kind: vllm, base_url: \"http://h/v1\", guided: sglang", true),
        ("kind: vllm, base_url: \"http://h/v1\", guided: llama_cpp", false),
        ("kind: anthropic, api_key: k", false),
    ] {
        let text =
            format!("auth: none\nproviders: {{ p: {{ {provider} }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}\n");
        let routes = &good(&text).snapshot.routes;
        assert_eq!(routes[0].targets[0].dialect().has_responses(), has_responses, "{provider}");
        let explained = crate::explain::explain(routes, "r").unwrap();
        assert_eq!(explained.contains("\n    api       responses"), provider.contains("api: responses"), "{explained}");
    }
    let problems = bad(
        "auth: none\nproviders: { p: { kind: openai, api_key: k, api: responses, responses: false } }\nroutes: { r: { targets: [ { provider: p, model: m } ] } }\n",
    );
    assert!(problems[0].contains("`api: responses` and `responses: false` exclude each other"), "{problems:?}");
}

#[test]
fn the_schema_knows_every_key_of_the_limit_store() {
    let schema = file::LimitStore::schema().to_string();
    for key in ["on_store_failure", "store_timeout", "\"lease\"", "\"deny\""] {
        assert!(schema.contains(key), "{key}");
    }
}
