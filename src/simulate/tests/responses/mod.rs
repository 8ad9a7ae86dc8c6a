//! The Responses API: that a stream adds up to the whole answer, and how it fails.

mod requests;

use super::{Answer, ask, connect, finish, start, with};
use crate::simulate::Handle;
use async_openai::types::responses::{Response, ResponseStreamEvent};
use serde_json::{Value, json};

const OPENAI: &str = "/openai/v1/responses";
const XAI: &str = "/xai/v1/responses";
const VLLM: &str = "/vllm/v1/responses";
const COMPATIBLE: &str = "/v1/responses";

fn hello(more: Value) -> Value {
    with(json!({ "model": "gpt-4o", "input": "Hello there" }), more)
}

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

fn weather() -> Value {
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    json!([{ "type": "function", "name": "get_weather", "parameters": parameters }])
}

/// The name and the data of each event but `[DONE]`.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    let events = answer.body.split_terminator("\n\n").filter(|event| *event != "data: [DONE]");
    let parse = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap_or_else(|_| panic!("{data}"));
        (name.strip_prefix("event: ").unwrap().to_owned(), data)
    };
    events.map(parse).collect()
}

/// The output of a stream, put together from its deltas; each item is compared with how the stream says it ends.
fn folded(events: &[(String, Value)]) -> Value {
    let mut output: Vec<Value> = Vec::new();
    for (n, (name, event)) in events.iter().enumerate() {
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(n)), "{event}");
        let at = event["output_index"].as_u64().map_or(0, |index| usize::try_from(index).unwrap());
        let append = |text: &mut Value| *text = json!(text.as_str().unwrap().to_owned() + event["delta"].as_str().unwrap());
        match name.strip_prefix("response.").unwrap_or(name) {
            "output_item.added" => {
                assert_eq!(at, output.len());
                output.push(event["item"].clone());
            }
            "content_part.added" | "reasoning_part.added" => {
                assert!(output[at].get("content").is_none_or(|content| content == &json!([])));
                output[at]["content"] = json!([event["part"]]);
            }
            "reasoning_summary_part.added" => output[at]["summary"] = json!([event["part"]]),
            "output_text.delta" => {
                append(&mut output[at]["content"][0]["text"]);
                output[at]["content"][0]["logprobs"].as_array_mut().unwrap().extend(event["logprobs"].as_array().unwrap().clone());
            }
            "reasoning_text.delta" => append(&mut output[at]["content"][0]["text"]),
            "reasoning_summary_text.delta" => append(&mut output[at]["summary"][0]["text"]),
            "function_call_arguments.delta" => append(&mut output[at]["arguments"]),
            "custom_tool_call_input.delta" => append(&mut output[at]["input"]),
            "output_text.done" | "reasoning_text.done" => assert_eq!(event["text"], output[at]["content"][0]["text"]),
            "reasoning_summary_text.done" => assert_eq!(event["text"], output[at]["summary"][0]["text"]),
            "function_call_arguments.done" => assert_eq!(event["arguments"], output[at]["arguments"]),
            "custom_tool_call_input.done" => assert_eq!(event["input"], output[at]["input"]),
            "content_part.done" | "reasoning_part.done" => assert_eq!(event["part"], output[at]["content"][0]),
            "reasoning_summary_part.done" => assert_eq!(event["part"], output[at]["summary"][0]),
            "output_item.done" => {
                for member in ["status", "encrypted_content"] {
                    if let Some(value) = event["item"].get(member) {
                        output[at][member] = value.clone();
                    }
                }
                assert_eq!(output[at], event["item"]);
            }
            "created" | "in_progress" => assert_eq!((n < 2, &event["response"]["status"]), (true, &json!("in_progress"))),
            "completed" | "incomplete" => {
                assert_eq!(n, events.len() - 1);
                assert_eq!(event["response"]["output"], json!(output));
            }
            other => panic!("{other}"),
        }
    }
    events.last().unwrap().1["response"].clone()
}

/// The whole answer, after a comparison with the stream of the same request.
async fn both(sim: &Handle, path: &str, body: Value) -> Value {
    let whole = ask(sim, path, body.clone()).await;
    assert_eq!(whole.status, 200, "{path} {body}: {}", whole.body);
    serde_json::from_str::<Response>(&whole.body).unwrap_or_else(|error| panic!("{error}: {}", whole.body));
    let whole = whole.json();
    let stream = ask(sim, path, with(body.clone(), json!({ "stream": true }))).await;
    let events = events(&stream);
    for (name, event) in events.iter().filter(|(name, _)| !name.contains("reasoning_part")) {
        serde_json::from_value::<ResponseStreamEvent>(event.clone()).unwrap_or_else(|error| panic!("{name}: {error}: {event}"));
    }
    let response = folded(&events);
    // ids are made of the request, which says whether to stream
    let id = |response: &Value| response["id"].as_str().unwrap().strip_prefix("resp_").unwrap().to_owned();
    let renamed = response.to_string().replace(&id(&response), &id(&whole));
    assert_eq!(serde_json::from_str::<Value>(&renamed).unwrap(), whole, "{path} {body}");
    assert_eq!(stream.is_done(), ![OPENAI, XAI].contains(&path), "{path}");
    whole
}

#[tokio::test]
async fn a_stream_adds_up_to_the_whole_answer() {
    let sim = start().await;
    let schema =
        json!({ "type": "object", "properties": { "ok": { "type": "boolean" } }, "required": ["ok"], "additionalProperties": false });
    let schema = json!({ "format": { "type": "json_schema", "name": "s", "schema": schema, "strict": true } });
    for path in [OPENAI, XAI, VLLM, COMPATIBLE, "/openai_compatible/v1/responses"] {
        let plain = both(&sim, path, hello(json!({}))).await;
        assert_eq!(plain["output"][0]["content"][0]["text"], "Hello from gpt-4o! You said: Hello there");
        assert_eq!((&plain["status"], &plain["usage"]["total_tokens"]), (&json!("completed"), &json!(13)));
        for member in [
            "background",
            "completed_at",
            "error",
            "incomplete_details",
            "instructions",
            "max_output_tokens",
            "max_tool_calls",
            "metadata",
            "previous_response_id",
            "prompt_cache_key",
            "reasoning",
            "safety_identifier",
            "service_tier",
            "text",
            "tool_choice",
            "tools",
            "truncation",
            "user",
        ] {
            assert!(plain.get(member).is_some(), "{member}");
        }
        assert_eq!(both(&sim, path, hello(json!({ "text": schema }))).await["output"][0]["content"][0]["text"], r#"{"ok":true}"#);
        let cut = both(&sim, path, hello(json!({ "model": "m+bytes=1000+chunks=7", "max_output_tokens": 20 }))).await;
        assert_eq!((&cut["status"], &cut["incomplete_details"]), (&json!("incomplete"), &json!({ "reason": "max_output_tokens" })));
        assert_eq!((&cut["output"][0]["status"], &cut["completed_at"]), (&json!("incomplete"), &Value::Null));
        let logprobs = hello(json!({ "include": ["message.output_text.logprobs"], "top_logprobs": 2 }));
        let logprobs = both(&sim, path, logprobs).await;
        assert_eq!(logprobs["output"][0]["content"][0]["logprobs"][0]["top_logprobs"].as_array().map(Vec::len), Some(2));
        let filtered = both(&sim, path, hello(json!({ "model": "m+finish=content_filter" }))).await;
        assert_eq!(filtered["incomplete_details"], json!({ "reason": "content_filter" }));
    }
}

#[tokio::test]
async fn the_end_of_a_cut_stream_is_the_services_own() {
    let sim = start().await;
    for (path, ending) in [(OPENAI, "response.incomplete"), (XAI, "response.incomplete"), (VLLM, "response.completed")] {
        let body = hello(json!({ "model": "m+bytes=1000", "max_output_tokens": 20, "stream": true }));
        assert_eq!(events(&ask(&sim, path, body).await).last().unwrap().0, ending, "{path}");
    }
}

#[tokio::test]
async fn reasoning_is_shown_in_the_services_own_way() {
    let sim = start().await;
    let include = json!(["reasoning.encrypted_content"]);
    for (path, model, member) in [
        (OPENAI, "gpt-5.5", "summary"),
        (XAI, "grok-3-mini", "summary"),
        (VLLM, "m+reasoning", "content"),
        (COMPATIBLE, "m+reasoning", "content"),
    ] {
        let asked = hello(json!({ "model": model, "include": include, "reasoning": { "summary": "auto" } }));
        let answer = both(&sim, path, asked).await;
        let reasoning = &answer["output"][0];
        assert!(reasoning[member][0]["text"].as_str().unwrap().starts_with("The user wants"), "{path} {reasoning}");
        assert_eq!((&reasoning["type"], &answer["output"][1]["type"]), (&json!("reasoning"), &json!("message")));
        assert_eq!(reasoning["encrypted_content"].is_string(), path != VLLM);
        assert!(answer["usage"]["output_tokens_details"]["reasoning_tokens"].as_u64() > Some(0));
    }
    let unasked = both(&sim, OPENAI, hello(json!({ "model": "gpt-5.5" }))).await;
    assert_eq!((&unasked["output"][0]["summary"], unasked["output"][0].get("encrypted_content")), (&json!([]), None));
    let effort = json!({ "model": "gpt-5.5", "reasoning": { "effort": "none" } });
    assert_eq!(both(&sim, OPENAI, hello(effort)).await["output"][0]["type"], "message");
    let spent = both(&sim, OPENAI, hello(json!({ "model": "gpt-5.5", "max_output_tokens": 16 }))).await;
    assert_eq!((spent["output"].as_array().map(Vec::len), &spent["status"]), (Some(1), &json!("incomplete")));
}

#[tokio::test]
async fn an_agent_s_conversation() {
    let sim = start().await;
    let grammar = "start: \"*** Begin Patch\" LF\n%import common.LF";
    let spawn = json!({ "type": "function", "name": "spawn_agent", "strict": false, "parameters": { "type": "object", "properties": {} } });
    let mut tools = weather();
    tools.as_array_mut().unwrap().extend([
        json!({ "type": "custom", "name": "apply_patch", "format": { "type": "grammar", "syntax": "lark", "definition": grammar } }),
        json!({ "type": "namespace", "name": "multi", "description": "d", "tools": [spawn] }),
        json!({ "type": "tool_search", "execution": "client", "parameters": {} }),
        json!({ "type": "web_search", "external_web_access": true }),
    ]);
    let request = |input: Value| {
        json!({ "model": "gpt-5.5", "input": input, "tools": tools, "tool_choice": "auto", "parallel_tool_calls": true, "store": false,
            "reasoning": { "effort": "medium", "summary": "auto" }, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k",
            "client_metadata": { "a": "b" }, "text": { "verbosity": "low" } })
    };
    let developer =
        json!({ "type": "message", "role": "developer", "content": [{ "type": "input_text", "text": "You are an agent." }], "x": 1 });
    let mut input = vec![developer, user("How is all the weather in Paris?")];
    let answer = both(&sim, OPENAI, request(json!(input))).await;
    let output = answer["output"].as_array().unwrap();
    let types: Vec<&str> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["reasoning", "function_call", "custom_tool_call", "function_call"]);
    assert_eq!((&output[1]["name"], &output[1]["arguments"]), (&json!("get_weather"), &json!(r#"{"city":"Paris"}"#)));
    assert_eq!((&output[2]["name"], &output[2]["input"]), (&json!("apply_patch"), &json!("*** Begin Patch\n")));
    assert_eq!((&output[3]["name"], &output[3]["namespace"]), (&json!("spawn_agent"), &json!("multi")));
    input.extend(output.clone());
    for (call, text) in [(1, json!("18 degrees")), (2, json!([{ "type": "input_text", "text": "done" }])), (3, json!("spawned"))] {
        let kind = format!("{}_output", output[call]["type"].as_str().unwrap());
        input.push(json!({ "type": kind, "call_id": output[call]["call_id"], "output": text }));
    }
    let answer = both(&sim, OPENAI, request(json!(input))).await;
    assert_eq!(answer["output"][1]["content"][0]["text"], "Here is what the tool says: 18 degrees; done; spawned");
    let other = ask(&sim, XAI, request(json!(input))).await;
    assert_eq!(other.status, 400, "another provider's reasoning");
    input[2]["encrypted_content"] = json!("tg1.sealed");
    let refused = ask(&sim, OPENAI, request(json!(input))).await.json();
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("The encrypted content for item rs_") && message.ends_with("could not be decrypted or parsed."),
        "{message}"
    );
    assert_eq!((&refused["error"]["code"], &refused["error"]["param"]), (&json!("invalid_encrypted_content"), &Value::Null));
}

#[tokio::test]
async fn who_has_the_api_and_for_which_key() {
    let sim = start().await;
    for path in ["/deepseek/responses", "/vllm_legacy/v1/responses", "/together/v1/responses", "/mistral/v1/responses"] {
        assert_eq!(ask(&sim, path, hello(json!({}))).await.status, 404, "{path}");
    }
    for (path, status) in [(OPENAI, 401), (XAI, 401), (VLLM, 200), (COMPATIBLE, 200)] {
        assert_eq!(finish(connect(&sim, path, "", &hello(json!({}))).await).await.unwrap().status, status, "{path}");
    }
}

#[tokio::test]
async fn failures_and_cuts() {
    let sim = start().await;
    let get = async |path: &str, model: &str, stream: bool| {
        finish(connect(&sim, path, "sk-1", &hello(json!({ "model": model, "stream": stream }))).await).await.unwrap()
    };
    for (path, names) in [(OPENAI, &["error", "response.failed"][..]), (VLLM, &["response.failed"])] {
        for sent in [0, 2, 5] {
            let failed = get(path, &format!("m+error-after={sent}"), true).await;
            let events = events(&failed);
            assert!(failed.whole && !failed.is_done());
            assert_eq!(events[sent..].iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
            assert!(events.iter().enumerate().all(|(n, (_, event))| event["sequence_number"] == json!(n)));
            let response = &events.last().unwrap().1["response"];
            assert_eq!((&response["status"], &response["error"]["code"]), (&json!("failed"), &json!("server_error")));
        }
    }
    let failed = get(OPENAI, "m+error-after=2", false).await;
    assert_eq!((failed.status, &failed.json()["status"]), (200, &json!("failed")));
    serde_json::from_str::<Response>(&failed.body).unwrap();
    let cut = get(OPENAI, "m+cut-after=3", true).await;
    assert_eq!((events(&cut).len(), cut.whole), (3, false));
    let cut = get(OPENAI, "m+cut", false).await;
    assert_eq!((cut.body.len(), cut.whole), (64, false));
    assert_eq!([get(OPENAI, "m+once", true).await.status, get(OPENAI, "m+once", true).await.status], [503, 200]);
    let limited = get(OPENAI, "m+status=429+retry-after=7", true).await;
    assert!(limited.status == 429 && limited.head.contains("retry-after: 7"));
    let long = get(OPENAI, "m+error=context_length_exceeded", true).await;
    assert_eq!((long.status, &long.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    assert!(get(OPENAI, "m+json=garbage", true).await.body.starts_with("event: response.output_text.delta\ndata: {\"choices"));
    let (sliced, plain) = (get(OPENAI, "m+slice=7", true).await, get(OPENAI, "m", true).await);
    assert_eq!((events(&sliced).len(), sliced.whole), (events(&plain).len(), true));
    assert_eq!(events(&get(OPENAI, "m+chunks=100", true).await).len(), 108);
}
