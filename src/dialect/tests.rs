//! What every dialect does the same with a request that it translates.

use super::anthropic::Anthropic;
use super::bedrock::Bedrock;
use super::gemini::Gemini;
use super::mistral::Mistral;
use super::openai::{OpenAi, ResponsesUse};
use super::shared::claude::StructuredOutput;
use super::shared::testing;
use super::*;
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::event::Event;
use crate::llm::messages::{Headers, MessagesRequest};
use crate::llm::settings::Params;
use serde_json::{Value, json};
use std::sync::Arc;

mod large;

/// A client's protocol.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Front {
    Chat,
    Messages,
}

fn openai(kind: &str) -> OpenAi {
    let quirks = Arc::new(crate::provider::catalogue::named(kind).unwrap().quirks(None).clone());
    OpenAi { quirks, split_think_tags: false, responses: ResponsesUse::default() }
}

/// A dialect of each form with a model, and whether `front` is translated for it.
fn dialects(front: Front) -> Vec<(&'static str, Box<dyn Dialect>)> {
    let claude = Anthropic {
        version: "2023-06-01".into(),
        beta: Arc::default(),
        default_max_tokens: 64,
        structured_output: StructuredOutput::Native,
    };
    let bedrock = || Box::new(Bedrock { default_max_tokens: None, structured_output: StructuredOutput::Native });
    let mut list: Vec<(_, Box<dyn Dialect>)> = vec![
        ("amazon.nova-pro-v1:0", bedrock()),
        ("gemini-2.5-flash", Box::new(Gemini)),
        ("mistral-large", Box::new(Mistral(openai("mistral")))),
    ];
    list.push(("gpt-5", Box::new(OpenAi { responses: ResponsesUse::All, ..openai("openai") })));
    match front {
        Front::Chat => list.extend([("claude-opus-4-8", Box::new(claude) as Box<dyn Dialect>), ("anthropic.claude-opus-4-8", bedrock())]),
        Front::Messages => list.push(("gpt", Box::new(openai("openai")))),
    }
    list
}

fn encode(front: Front, dialect: &dyn Dialect, model: &str, body: &str) -> Outgoing {
    let params = Params::default();
    match front {
        Front::Chat => {
            let parsed = Parsed::parse(body.to_owned().into()).unwrap();
            dialect.encode(&ChatRequest { parsed: &parsed, params: &params, system: None, model, seal: None }).unwrap()
        }
        Front::Messages => {
            let parsed = crate::front::messages::parse(body.to_owned().into(), false).unwrap();
            let base = ChatRequest { parsed: &parsed, params: &params, system: None, model, seal: None };
            dialect.encode(&MessagesRequest { base, headers: &Headers::default() }).unwrap()
        }
    }
}

fn sent(front: Front, dialect: &dyn Dialect, model: &str, body: &Value) -> Value {
    testing::body(&encode(front, dialect, model, &body.to_string()))
}

/// A conversation in which a tool is called, with these arguments (the text of JSON) and this result.
fn called(front: Front, name: &str, arguments: &str, result: Value) -> Value {
    let mut body = match front {
        Front::Chat => json!({
            "tools": [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}],
            "messages": [{"role": "user", "content": "Hi"},
                {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}]},
                {"role": "tool", "tool_call_id": "call_1"}],
        }),
        Front::Messages => json!({
            "max_tokens": 64, "tools": [{"name": name, "input_schema": {"type": "object"}}],
            "messages": [{"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": name,
                    "input": serde_json::from_str::<Value>(arguments).unwrap()}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1"}]}],
        }),
    };
    let target = if front == Front::Chat { &mut body["messages"][2] } else { &mut body["messages"][2]["content"][0] };
    target.as_object_mut().unwrap().extend(result.as_object().unwrap().clone());
    body["model"] = "r".into();
    body
}

/// Every text in a document under one of these keys.
fn texts<'a>(value: &'a Value, keys: &[&str], found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| match value {
            Value::String(text) if keys.contains(&key.as_str()) => found.push(text),
            value => texts(value, keys, found),
        }),
        Value::Array(list) => list.iter().for_each(|value| texts(value, keys, found)),
        _ => {}
    }
}

#[test]
fn half_of_a_surrogate_pair_reaches_no_provider() {
    for front in [Front::Chat, Front::Messages] {
        for (model, dialect) in dialects(front) {
            for result in ["cut @", "{\"a\":\"@\"}"] {
                let body = called(front, "f", "{\"a\":\"@\"}", json!({"content": result})).to_string().replace('@', r"\ud83d");
                let sent = encode(front, &*dialect, model, &body).body.joined().to_vec();
                let sent = String::from_utf8(sent).unwrap();
                assert!(serde_json::from_str::<Value>(&sent).is_ok(), "{front:?} {model}: {sent}");
                // What is the text of JSON inside of a text is the tool's affair.
                assert!(!sent.replace(r"\\ud83d", "").contains(r"\ud83d"), "{front:?} {model}: {sent}");
            }
        }
    }
}

/// Keeps the names of the calls.
#[derive(Default)]
struct Names(Vec<String>);

impl Sink for Names {
    fn event(&mut self, event: Event<'_>) {
        if let Event::ToolStart { name, .. } = event {
            self.0.push(name.decode().into_owned());
        }
    }
}

#[test]
fn long_names_of_tools_are_shortened_and_come_back() {
    let long = format!("mcp__{}", "a".repeat(120));
    for front in [Front::Chat, Front::Messages] {
        for (model, dialect) in dialects(front).into_iter().filter(|(model, _)| *model != "claude-opus-4-8") {
            let mut outgoing = encode(front, &*dialect, model, &called(front, &long, "{}", json!({"content": "1"})).to_string());
            let body = testing::body(&outgoing);
            let mut names = Vec::new();
            texts(&body, &["name"], &mut names);
            let short = names.iter().find(|name| name.starts_with("mcp__")).unwrap();
            assert!(names.len() >= 2 && names.iter().all(|name| name == short) && short.len() <= 64, "{front:?} {model}: {body}");
            let answer = match model {
                "gemini-2.5-flash" => {
                    json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": short, "args": {}}}]}, "finishReason": "STOP"}]})
                }
                "mistral-large" | "gpt" => json!({"choices": [{"index": 0, "finish_reason": "tool_calls",
                    "message": {"role": "assistant", "tool_calls": [{"id": "t", "type": "function", "function": {"name": short, "arguments": "{}"}}]}}]}),
                "gpt-5" => {
                    json!({"status": "completed", "output": [{"type": "function_call", "call_id": "t", "name": short, "arguments": "{}"}]})
                }
                _ => {
                    json!({"output": {"message": {"role": "assistant", "content": [{"toolUse": {"name": short, "input": {}, "toolUseId": "t"}}]}}, "stopReason": "tool_use",
                    "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}})
                }
            };
            let mut called = Names::default();
            outgoing.decoder.whole(answer.to_string().as_bytes(), &mut called).unwrap();
            assert_eq!(called.0, [&*long], "{front:?} {model}");
        }
    }
}

#[test]
fn a_users_last_turn_stays_where_it_says_nothing() {
    for front in [Front::Chat, Front::Messages] {
        for (model, dialect) in dialects(front) {
            for last in [json!(""), json!([]), json!([{"type": "text", "text": ""}])] {
                if front == Front::Chat && last == json!([]) {
                    continue; // refused
                }
                let body = json!({"model": "r", "max_tokens": 64, "messages": [
                    {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": last}]});
                let sent = sent(front, &*dialect, model, &body);
                let turns = ["messages", "contents", "input"].iter().find_map(|name| sent.get(name)).and_then(Value::as_array).unwrap();
                assert_eq!(turns.last().unwrap()["role"], "user", "{front:?} {model}: {sent}");
            }
        }
    }
}

#[test]
fn a_failed_call_is_told_by_every_provider_as_one() {
    for (model, dialect) in dialects(Front::Messages) {
        for content in
            [json!("no such file"), json!(""), json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), Value::Null]
        {
            let result = |failed: bool| {
                let mut result = json!({"content": content, "is_error": failed});
                if content.is_null() {
                    result.as_object_mut().unwrap().remove("content");
                }
                sent(Front::Messages, &*dialect, model, &called(Front::Messages, "f", "{}", result))
            };
            assert_ne!(result(true), result(false), "{model}: {content}");
        }
        let said =
            sent(Front::Messages, &*dialect, model, &called(Front::Messages, "f", "{}", json!({"content": "Error: x", "is_error": true})));
        assert!(!said.to_string().contains("Error: Error"), "{model}: {said}");
    }
    let (model, dialect) = dialects(Front::Messages).pop().unwrap();
    for (content, want) in [("no such file", "Error: no such file"), ("", "Error: "), ("error 5", "error 5")] {
        let body = called(Front::Messages, "f", "{}", json!({"content": content, "is_error": true}));
        assert_eq!(sent(Front::Messages, &*dialect, model, &body)["messages"][2]["content"], want);
    }
}

#[test]
fn arguments_that_are_null_are_none() {
    for (model, dialect) in dialects(Front::Chat) {
        let empty = sent(Front::Chat, &*dialect, model, &called(Front::Chat, "f", "{}", json!({"content": "1"})));
        for arguments in ["null", " null", ""] {
            let sent = sent(Front::Chat, &*dialect, model, &called(Front::Chat, "f", arguments, json!({"content": "1"})));
            assert_eq!(sent, empty, "{model}: {arguments}");
        }
    }
}
