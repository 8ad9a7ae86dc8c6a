//! The services and servers that speak OpenAI's chat completions by a documentation of their own: what they refuse, in which form,
//! asked directly.

use super::{Answer, connect, finish, start, with};
use crate::simulate::Handle;
use serde_json::{Value, json};

const AZURE: &str = "/azure_openai/openai/v1/chat/completions";
const AZURE_OLDER: &str = "/azure_openai/openai/deployments/d%201/chat/completions";

async fn ask(sim: &Handle, path: &str, key: &str, more: Value) -> Answer {
    let body = with(json!({ "model": "m", "messages": [{ "role": "user", "content": "Hello" }] }), more);
    finish(connect(sim, path, key, &body).await).await.unwrap()
}

fn tools() -> Value {
    json!([{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }])
}

#[tokio::test]
async fn what_each_refuses_and_how() {
    let sim = start().await;
    let developer = json!({ "messages": [{ "role": "developer", "content": "x" }, { "role": "user", "content": "x" }] });
    let named = json!({ "messages": [{ "role": "user", "name": "ann", "content": "x" }] });
    let image = json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://x.example/a.png" } }] }] });
    let choice = |choice: &str| json!({ "tools": tools(), "tool_choice": choice });
    let hot = |value: f64| json!({ "temperature": value });
    let groq = "/groq/openai/v1";
    for (base, more, status, at, want) in [
        (groq, json!({ "logprobs": true }), 400, "/error/type", json!("invalid_request_error")),
        (groq, json!({ "n": 2 }), 400, "/error/param", json!("n")),
        (groq, named.clone(), 400, "/error/param", json!("messages[0].name")),
        ("/cerebras/v1", json!({ "logit_bias": { "1": 1 } }), 400, "/error/param", json!("logit_bias")),
        ("/cerebras/v1", developer.clone(), 400, "/error/param", json!("messages[0].role")),
        ("/perplexity", json!({ "reasoning_effort": "xhigh" }), 400, "/error/type", json!("invalid_parameter")),
        ("/perplexity", developer.clone(), 400, "/error/type", json!("invalid_message")),
        ("/nvidia_nim/v1", hot(3.0), 400, "/error/code", json!(400)),
        ("/deepinfra/v1/openai", developer.clone(), 422, "/detail/0/loc/1", json!("messages[0].role")),
        ("/deepinfra/v1/openai", json!({ "max_completion_tokens": 5 }), 422, "/detail/0/loc/1", json!("max_completion_tokens")),
        ("/openrouter/api/v1", hot(3.0), 400, "/error/code", json!(400)),
        ("/moonshot/v1", hot(1.5), 400, "/error/param", json!("temperature")),
        ("/zhipu/api/paas/v4", json!({ "seed": 1 }), 400, "/error/code", json!("1210")),
        ("/zhipu/api/paas/v4", json!({ "stop": "x" }), 400, "/error/code", json!("1210")),
        ("/zhipu/api/paas/v4", choice("none"), 400, "/error/code", json!("1210")),
        ("/minimax/v1", image, 400, "/base_resp/status_code", json!(2013)),
        ("/dashscope/compatible-mode/v1", hot(2.0), 400, "/request_id", json!("sim")),
        ("/dashscope/compatible-mode/v1", choice("required"), 400, "/error/param", json!("tool_choice")),
        (
            "/cohere/compatibility/v1",
            json!({ "metadata": {} }),
            422,
            "/message",
            json!("unknown field: parameter 'metadata' is not a valid field"),
        ),
        ("/ollama/v1", json!({ "reasoning_effort": "minimal" }), 400, "/error/code", Value::Null),
        ("/ollama/v1", json!({ "max_completion_tokens": 5 }), 400, "/error/type", json!("invalid_request_error")),
        ("/lm_studio/v1", hot(3.0), 400, "/error/param", json!("temperature")),
        ("/databricks/serving-endpoints", hot(3.0), 400, "/error_code", json!("BAD_REQUEST")),
        ("/github_models/inference", hot(1.5), 400, "/error/param", json!("temperature")),
        ("/github_models/inference", json!({ "stop": "x" }), 400, "/error/param", json!("stop")),
    ] {
        let path = format!("{base}/chat/completions");
        let answer = ask(&sim, &path, "sk-1", more.clone()).await;
        let told = answer.json().pointer(at).cloned().unwrap_or_default();
        assert_eq!((answer.status, told), (status, want), "{base} {more} {}", answer.body);
        assert_eq!(ask(&sim, &path, "sk-1", json!({})).await.status, 200, "{base}");
    }
}

#[tokio::test]
async fn keys_and_deployments() {
    let sim = start().await;
    for (path, key, status) in [
        (AZURE, "eyJ1", 200),
        (AZURE, "wrong", 401),
        (AZURE, "", 401),
        ("/ollama/v1/chat/completions", "", 200),
        ("/lm_studio/v1/chat/completions", "", 200),
        ("/groq/openai/v1/chat/completions", "", 401),
        ("/databricks/serving-endpoints/chat/completions", "", 401),
        ("/groq/openai/v1/embeddings", "sk-1", 404),
    ] {
        assert_eq!(ask(&sim, path, key, json!({})).await.status, status, "{path} {key}");
    }
    let older = ask(&sim, &format!("{AZURE_OLDER}?api-version=2024-10-21"), "eyJ1", json!({ "model": "other" })).await;
    assert_eq!((older.status, &older.json()["model"]), (200, &json!("d 1")), "{}", older.body);
    let unversioned = ask(&sim, AZURE_OLDER, "eyJ1", json!({})).await;
    assert_eq!((unversioned.status, &unversioned.json()["error"]["code"]), (404, &json!("DeploymentNotFound")), "{}", unversioned.body);
}

#[tokio::test]
async fn thinking_models_refuse_demands_and_want_their_reasoning_back() {
    let sim = start().await;
    let demand = json!({ "tools": tools(), "tool_choice": { "type": "function", "function": { "name": "f" } } });
    for (path, model, off) in [
        ("/moonshot/v1/chat/completions", "kimi-k2.6", json!({ "thinking": { "type": "disabled" } })),
        ("/dashscope/compatible-mode/v1/chat/completions", "qwen3-max", json!({ "enable_thinking": false })),
    ] {
        let asked = with(demand.clone(), json!({ "model": model }));
        let answer = ask(&sim, path, "sk-1", asked.clone()).await;
        assert!(answer.status == 400 && answer.body.contains("thinking"), "{model} {}", answer.body);
        assert_eq!(ask(&sim, path, "sk-1", with(asked, off)).await.status, 200, "{model}");
    }
    let call = json!({ "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{}" } });
    for (reasoning, status) in [("", 400), ("I think.", 200)] {
        let turn = json!({ "role": "assistant", "content": null, "reasoning_content": reasoning, "tool_calls": [call] });
        let result = json!({ "role": "tool", "tool_call_id": "c1", "content": "18" });
        let messages = json!([{ "role": "user", "content": "x" }, turn, result]);
        let asked = json!({ "model": "kimi-k2.6", "tools": tools(), "messages": messages });
        let answer = ask(&sim, "/moonshot/v1/chat/completions", "sk-1", asked).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}
