//! What every kind of provider is sent for the same requests, kept in `fixtures/golden/`: a change in any encoder is a
//! difference there. With `UPDATE_FIXTURES` in the environment the files are written anew.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tidegate::llm::envelope::{ChatRequest, Parsed};
use tidegate::llm::settings::Params;
use tidegate::provider::Target;

#[path = "shared/targets.rs"]
mod targets;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden")
}

fn sent(request: &Value, target: &Target, params: &Params) -> Value {
    let parsed = Parsed::parse(request.to_string().into()).unwrap();
    let request = ChatRequest { parsed: &parsed, params, system: None, model: targets::model(target), seal: None };
    match target.dialect().encode(&request) {
        Err(error) => json!({"status": error.status, "param": error.param, "message": error.message}),
        Ok(out) => json!({
            "path": out.path,
            "headers": out.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect::<Vec<_>>(),
            "dropped": out.dropped,
            "adjusted": out.adjusted,
            "body": serde_json::from_slice::<Value>(&out.body.joined()).unwrap(),
        }),
    }
}

/// All targets that answer chats, with their names.
fn chats() -> impl Iterator<Item = (Arc<str>, Arc<Target>)> {
    targets::all().into_iter().filter(|(name, _)| !name.ends_with("-embed"))
}

#[test]
fn a_routes_cap_counts_more_than_the_clients_other_spelling() {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let request = json!({"model": "r", "messages": messages, "max_completion_tokens": 5000});
    let params = Params { overrides: vec![("max_tokens".into(), "100".into())], ..Params::default() };
    for (name, target) in chats() {
        let body = sent(&request, &target, &params)["body"].to_string();
        assert!(body.contains(":100") && !body.contains("5000"), "{name}: {body}");
    }
}

#[test]
fn every_provider_is_sent_what_it_was_sent_before() {
    let requests = std::fs::read(folder().join("requests.json")).unwrap();
    let requests: Map<String, Value> = serde_json::from_slice(&requests).unwrap();
    let update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let mut different = Vec::new();
    for (name, target) in chats() {
        let now: Map<String, Value> =
            requests.iter().map(|(what, case)| (what.clone(), sent(&case["request"], &target, &Params::default()))).collect();
        let path = folder().join(format!("{name}.json"));
        if update {
            std::fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
            continue;
        }
        let before: Map<String, Value> = serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|_| b"{}".to_vec())).unwrap();
        let wrong = |what: &&String| before.get(*what) != now.get(*what);
        let gone = before.keys().filter(|what| !now.contains_key(*what));
        different.extend(now.keys().filter(wrong).chain(gone).map(|what| format!("{}: {what}", path.display())));
    }
    assert!(different.is_empty(), "UPDATE_FIXTURES=1 shows what has changed in:\n{}", different.join("\n"));
}
