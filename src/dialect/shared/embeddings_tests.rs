//! Embeddings of every dialect: the requests and answers of `tests/fixtures/embeddings`, and what no fixture can show.

use super::testing;
use crate::dialect::Outgoing;
use crate::error::ApiError;
use crate::front::chat::head::Head;
use crate::llm::envelope::ChatRequest;
use crate::llm::failure::Fault;
use crate::llm::settings::Params;
use crate::operation::Beside;
use crate::operation::Operation;
use crate::provider::Target;
use crate::relay::{Form, Relay};
use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// What inputs are taken to have used where nobody counts.
const ESTIMATE: u64 = 77;

fn target(case: &Value) -> Arc<Target> {
    let kind = case["kind"].as_str().unwrap();
    let provider = match kind {
        "vertex" => ", project: p, location: us-central1",
        "bedrock" | "sagemaker" => ", region: us-east-1",
        "vllm" | "sglang" | "llama_cpp" | "openai_compatible" => ", base_url: \"http://h/v1\"",
        _ => ", api_key: k",
    };
    let own = |key: &str| case[key].as_str().map_or(String::new(), |value| format!(", {key}: {value}"));
    let target = own("format") + &own("inference_component");
    let text = format!(
        "auth: none\nproviders: {{ p: {{ kind: {kind}{provider} }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m{target} }} ] }} }}"
    );
    let loaded = crate::config::parse(&text, "t", &|_| None).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
    loaded.snapshot.routes[0].targets[0].clone()
}

fn encode(case: &Value) -> Result<Outgoing, ApiError> {
    let list = |key: &str| serde_json::from_value(case["params"][key].clone()).unwrap_or_default();
    let params = Params {
        defaults: list("defaults"),
        overrides: list("overrides"),
        reject_unsupported: case["params"]["reject"] == true,
        ..Params::default()
    };
    let parsed = Operation::Embeddings.parse(case["request"].to_string().into())?;
    let model = case["model"].as_str().unwrap();
    let request = ChatRequest { parsed: &parsed, params: &params, system: Some("Be brief."), model, seal: None };
    Operation::Embeddings.encode(&request, &Beside::default(), &target(case))
}

/// What the client is given for an answer that comes in two pieces.
fn tell(out: Outgoing, answer: &Value) -> Value {
    let (mut headers, mut decoder) = (HeaderMap::new(), out.decoder);
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        headers.insert(HeaderName::try_from(name.as_str()).unwrap(), value.as_str().unwrap().parse().unwrap());
    }
    decoder.headers(&headers);
    let head = Head::new(Uuid::nil(), Uuid::nil(), 0, "as \"asked\"");
    let mut relay = Relay::new(None, decoder, head, Form::Embeddings { estimate: ESTIMATE }, None);
    let (now, later) = answer["body"].as_str().unwrap().split_at(answer["body"].as_str().unwrap().len() / 2);
    for piece in [now, later] {
        assert_eq!(relay.push(piece.as_bytes()), (Vec::new(), Ok(())));
    }
    assert!(!relay.started());
    let (bytes, result) = relay.end();
    match result {
        Ok(()) => {
            assert!(relay.started());
            json!(String::from_utf8(bytes).unwrap())
        }
        Err(fault) => {
            assert!(bytes.is_empty());
            json!({"fault": match fault {
                Fault::Provider(error) => format!("{:?}: {}", error.class, error.message),
                Fault::Broken(what) => what.into_owned(),
                Fault::Truncated => "truncated".to_owned(),
            }})
        }
    }
}

/// A file says the client's request, what becomes of it, and what becomes of answers; with `UPDATE_FIXTURES` in the
/// environment the latter two are written anew.
#[test]
fn requests_and_answers_become_what_the_fixtures_say() {
    for (path, case) in testing::cases("embeddings") {
        let mut done = case.clone();
        done["outcome"] = match encode(&case) {
            Err(error) => json!({"status": error.status, "param": error.param, "message": error.message}),
            Ok(out) => json!({
                "path": out.path,
                "headers": out.headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect::<Vec<_>>(),
                "dropped": out.dropped,
                "body": String::from_utf8(out.body.joined().to_vec()).unwrap(),
            }),
        };
        for answer in done.get_mut("answers").and_then(Value::as_array_mut).into_iter().flatten() {
            answer["gives"] = tell(encode(&case).unwrap(), answer);
        }
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&path, serde_json::to_string_pretty(&done).unwrap() + "\n").unwrap();
        } else {
            assert_eq!(done, case, "{}", path.display());
        }
    }
}

#[test]
fn what_is_told_is_json_of_openais_shape() {
    let case = json!({"kind": "openai", "model": "e", "request": {"model": "r", "input": ["a", "b"]}});
    let body = r#"{"data":[{"index":1,"embedding":[2.50]},{"index":0,"embedding":[1]}],"usage":{"prompt_tokens":3,"total_tokens":3}}"#;
    let told = tell(encode(&case).unwrap(), &json!({"body": body}));
    let want = json!({"object": "list", "model": "as \"asked\"", "usage": {"prompt_tokens": 3, "total_tokens": 3}, "data": [
        {"object": "embedding", "index": 0, "embedding": [1]}, {"object": "embedding", "index": 1, "embedding": [2.5]}]});
    assert_eq!(serde_json::from_str::<Value>(told.as_str().unwrap()).unwrap(), want);
}

#[test]
fn a_request_without_its_parts_is_refused_by_name() {
    for (request, param) in [
        (json!({"input": "a"}), "model"),
        (json!({"model": 1, "input": "a"}), "model"),
        (json!({"model": "", "input": "a"}), "model"),
        (json!({"model": "r"}), "input"),
        (json!({"model": "r", "input": null}), "input"),
        (json!({"model": "r", "input": 1}), "input"),
        (json!({"model": "r", "input": {}}), "input"),
        (json!({"model": "r", "input": []}), "input"),
        (json!({"model": "r", "input": ["a", 1]}), "input"),
        (json!({"model": "r", "input": [1, [1]]}), "input"),
        (json!({"model": "r", "input": [1.5]}), "input"),
        (json!({"model": "r", "input": [-1]}), "input"),
        (json!({"model": "r", "input": [[]]}), "input"),
        (json!({"model": "r", "input": [["a"]]}), "input"),
        (json!({"model": "r", "input": [null]}), "input"),
        (json!({"model": "r", "input": "a", "dimensions": 0}), "dimensions"),
        (json!({"model": "r", "input": "a", "dimensions": 1.5}), "dimensions"),
        (json!({"model": "r", "input": "a", "dimensions": "3"}), "dimensions"),
        (json!({"model": "r", "input": "a", "encoding_format": "int8"}), "encoding_format"),
        (json!({"model": "r", "input": "a", "encoding_format": 1}), "encoding_format"),
        (json!({"model": "r", "input": "a", "user": 1}), "user"),
        (json!({"model": "r", "input": "a", "stream": true}), "stream"),
    ] {
        let error = encode(&json!({"kind": "openai", "model": "e", "request": request})).err().unwrap();
        assert_eq!((error.status, error.param.as_deref()), (400, Some(param)), "{request}");
        assert!(error.message.contains(param), "{}", error.message);
    }
}

#[test]
fn a_prompt_is_expected_and_no_completion() {
    let parsed = Operation::Embeddings.parse(r#"{"model":"r","input":["ab"],"max_tokens":9,"n":3}"#.into()).unwrap();
    let params = Params::default();
    let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "", seal: None };
    let size = Operation::Embeddings.prospect(&request);
    assert_eq!((size.prompt_bytes, size.max_tokens, size.choices), (6, Some(0), 1));
}
