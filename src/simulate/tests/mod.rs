//! The simulator from outside: requests over a socket, answers taken apart by hand.

mod foreign;
mod gateway;
mod hosted;
mod responses;

use super::{Ending, Handle, SeenBody, Simulator};
use serde_json::{Value, json};
use std::future::pending;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const OPENAI: &str = "/openai/v1/chat/completions";

async fn start() -> Handle {
    let simulator = Simulator::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let handle = simulator.handle();
    tokio::spawn(simulator.serve(pending::<()>()));
    handle
}

struct Answer {
    status: u16,
    head: String,
    body: String,
    /// Whether the body ended as its framing says.
    whole: bool,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.body))
    }

    fn events(&self) -> Vec<Value> {
        let datas = self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        datas.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap_or_else(|_| panic!("{data}"))).collect()
    }

    fn is_done(&self) -> bool {
        self.body.ends_with("data: [DONE]\n\n")
    }
}

async fn connect(handle: &Handle, path: &str, key: &str, body: &Value) -> TcpStream {
    let body = body.to_string();
    let mut stream = TcpStream::connect(handle.local_addr()).await.unwrap();
    let key = if key.is_empty() { String::new() } else { format!("authorization: Bearer {key}\r\n") };
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-type: application/json\r\n{key}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    stream
}

async fn finish(mut stream: TcpStream) -> Option<Answer> {
    let mut raw = Vec::new();
    let _ = stream.read_to_end(&mut raw).await; // a broken connection is part of what is tested
    let raw = String::from_utf8(raw).unwrap();
    let (head, mut rest) = raw.split_once("\r\n\r\n")?;
    let head = head.to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        return Some(Answer { status, body: rest.into(), whole: rest.len() == length.parse::<usize>().unwrap(), head });
    }
    let mut body = String::new();
    let mut whole = false;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole = size == 0;
        let Some(piece) = after.get(..size) else { break };
        body.push_str(piece);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    Some(Answer { status, head, body, whole })
}

async fn ask(handle: &Handle, path: &str, body: Value) -> Answer {
    finish(connect(handle, path, "sk-test", &body).await).await.expect("an answer")
}

fn hello(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hello there, JSON" }] })
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn until(handle: &Handle, what: impl Fn(&Handle) -> bool) {
    for _ in 0..5_000 {
        if what(handle) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it did not happen: {:?}", handle.seen());
}

#[tokio::test]
async fn a_plain_answer_and_what_is_remembered_of_it() {
    let sim = start().await;
    let body = hello("gpt-4o");
    let answer = ask(&sim, OPENAI, body.clone()).await;
    assert_eq!((answer.status, answer.whole), (200, true));
    let json = answer.json();
    assert_eq!(json["choices"][0]["message"]["content"], "Hello from gpt-4o! You said: Hello there, JSON");
    assert_eq!(
        json["usage"],
        with(
            json!({ "prompt_tokens": 5, "completion_tokens": 12, "total_tokens": 17 }),
            json!({
        "prompt_tokens_details": json["usage"]["prompt_tokens_details"], "completion_tokens_details": json["usage"]["completion_tokens_details"] })
        )
    );
    assert_eq!(answer.body, ask(&sim, OPENAI, body.clone()).await.body, "the same request gets the same bytes");
    let seen = sim.seen();
    assert_eq!((seen.len(), seen[0].path.as_str(), seen[0].ending), (2, OPENAI, Ending::Answered));
    assert_eq!(seen[0].headers["authorization"], "Bearer sk-test");
    assert_eq!(seen[0].body.json(), Some(body));
}

#[tokio::test]
async fn a_large_body_is_remembered_by_its_hash() {
    let sim = start().await;
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "x".repeat(1 << 20) }] });
    assert_eq!(ask(&sim, "/v1/chat/completions", body.clone()).await.status, 200);
    let sha256 = super::seen::sha256_hex(body.to_string().as_bytes());
    assert_eq!(sim.seen()[0].body, SeenBody::Digest { length: body.to_string().len(), sha256 });
}

#[tokio::test]
async fn the_simulators_own_pages() {
    let sim = start().await;
    ask(&sim, OPENAI, hello("gpt-4o")).await;
    let mut pages = Vec::new();
    for path in ["/healthz", "/_simulator/requests?last=1", "/nowhere"] {
        let mut stream = TcpStream::connect(sim.local_addr()).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        pages.push(finish(stream).await.unwrap());
    }
    assert_eq!((pages[0].status, pages[0].body.as_str(), pages[2].status), (200, "ok\n", 404));
    let shown = pages[1].json();
    assert_eq!(
        (&shown["seen"], &shown["requests"][0]["path"], &shown["requests"][0]["body"]["model"]),
        (&json!(1), &json!(OPENAI), &json!("gpt-4o"))
    );
}

#[tokio::test]
async fn a_stream_is_framed_and_adds_up() {
    let sim = start().await;
    let body = with(hello("gpt-4o"), json!({ "stream": true, "stream_options": { "include_usage": true }, "n": 2 }));
    let answer = ask(&sim, OPENAI, body).await;
    assert!(answer.is_done() && answer.whole && answer.head.contains("text/event-stream"));
    let events = answer.events();
    let choices: Vec<&Value> = events.iter().filter_map(|event| event["choices"].get(0)).collect();
    for index in [0, 1] {
        let own: Vec<&&Value> = choices.iter().filter(|choice| choice["index"] == index).collect();
        assert_eq!(own[0]["delta"]["role"], "assistant");
        let text: String = own.iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert!(text.starts_with("Hello from gpt-4o!") && text.ends_with("(choice 1)") == (index == 1), "{text}");
        assert_eq!(own.iter().filter(|choice| !choice["finish_reason"].is_null()).count(), 1);
    }
    let (last, rest) = events.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["prompt_tokens"]), (&json!([]), &json!(5)));
    assert!(rest.iter().all(|event| event["usage"].is_null() && event["id"] == last["id"]));
    let quiet = ask(&sim, OPENAI, with(hello("gpt-4o"), json!({ "stream": true }))).await;
    assert!(quiet.is_done() && !quiet.body.contains("usage"));
}

#[tokio::test]
async fn each_service_has_its_own_ways_in_a_stream() {
    let sim = start().await;
    let call = |path: &'static str, model: &str| {
        let tools = json!([{ "type": "function", "function": { "name": "get_weather", "parameters": { "type": "object", "properties": { "city": { "type": "string" } } } } }]);
        let asks = json!([{ "role": "user", "content": "How is the weather in Paris?" }]);
        ask_owned(
            sim.clone(),
            path,
            json!({ "model": model, "messages": asks, "tools": tools, "stream": true, "stream_options": { "include_usage": true } }),
        )
    };
    for (path, model, chunks_of_call, with_choices) in [
        (OPENAI, "gpt-4o", 3, false),
        ("/xai/v1/chat/completions", "grok-3-mini", 1, false),
        ("/together/v1/chat/completions", "m+reasoning", 3, true),
        ("/deepseek/chat/completions", "deepseek-v4-pro", 3, true),
        ("/fireworks/inference/v1/chat/completions", "m", 3, true),
        ("/hyperbolic/v1/chat/completions", "m", 3, false),
        ("/vllm/v1/chat/completions", "m+reasoning", 3, false),
        ("/vllm_legacy/v1/chat/completions", "m+reasoning", 3, false),
        ("/sglang/v1/chat/completions", "m", 3, true),
        ("/openai_compatible/v1/chat/completions", "m", 3, false),
    ] {
        let answer = call(path, model).await;
        assert!(answer.is_done(), "{path}: {}", answer.body);
        let events = answer.events();
        let fragments: Vec<&Value> = events.iter().filter_map(|event| event.pointer("/choices/0/delta/tool_calls/0")).collect();
        assert_eq!(fragments.len(), chunks_of_call, "{path}");
        let arguments: String = fragments.iter().filter_map(|call| call.pointer("/function/arguments")?.as_str()).collect();
        assert_eq!(arguments, r#"{"city":"Paris"}"#, "{path}");
        let usage = events.iter().rfind(|event| event["usage"].is_object()).unwrap();
        assert_eq!(usage["choices"].get(0).is_some(), with_choices, "{path}");
        assert!(events.iter().any(|event| event.pointer("/choices/0/finish_reason") == Some(&json!("tool_calls"))), "{path}");
        let key = events.iter().filter_map(|event| event.pointer("/choices/0/delta")?.as_object()).find_map(|delta| {
            ["reasoning", "reasoning_content"]
                .into_iter()
                .find(|key| delta.get(*key).and_then(Value::as_str).is_some_and(|text| !text.is_empty()))
        });
        let expected = match path.split('/').nth(1).unwrap() {
            "together" | "vllm" => Some("reasoning"),
            "xai" | "deepseek" | "vllm_legacy" => Some("reasoning_content"),
            _ => None,
        };
        assert_eq!(key, expected, "{path}");
        if path.starts_with("/xai") {
            let n = |key: &str| usage["usage"][key].as_u64().unwrap();
            assert!(n("total_tokens") > n("prompt_tokens") + n("completion_tokens"), "the total includes reasoning");
        }
    }
}

async fn ask_owned(handle: Handle, path: &'static str, body: Value) -> Answer {
    ask(&handle, path, body).await
}

#[tokio::test]
async fn a_tool_result_is_answered_with_a_text() {
    let sim = start().await;
    let messages = json!([{ "role": "user", "content": "weather?" }, { "role": "assistant", "content": null, "tool_calls":
        [{ "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{}" } }] }, { "role": "tool", "tool_call_id": "c1", "content": "18 degrees" }]);
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    let answer = ask(&sim, OPENAI, json!({ "model": "gpt-4o", "messages": messages, "tools": tools })).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "Here is what the tool says: 18 degrees");
}

#[tokio::test]
async fn constraints_are_satisfied_in_each_spelling() {
    let sim = start().await;
    let schema =
        json!({ "type": "object", "properties": { "ok": { "type": "boolean" } }, "required": ["ok"], "additionalProperties": false });
    let format = json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "s", "schema": schema, "strict": true } } });
    for (path, extra, text) in [
        (OPENAI, format.clone(), r#"{"ok":true}"#),
        ("/sglang/v1/chat/completions", format, r#"{"ok":true}"#),
        ("/vllm/v1/chat/completions", json!({ "structured_outputs": { "json": schema } }), r#"{"ok":true}"#),
        ("/vllm_legacy/v1/chat/completions", json!({ "guided_json": schema.to_string() }), r#"{"ok":true}"#),
        ("/vllm_legacy/v1/chat/completions", json!({ "guided_choice": ["red", "green"] }), "red"),
        ("/vllm/v1/chat/completions", json!({ "structured_outputs": { "regex": "[a-c]{3}" } }), "aaa"),
        ("/sglang/v1/chat/completions", json!({ "regex": "(red|green)" }), "red"),
        ("/sglang/v1/chat/completions", json!({ "ebnf": "root ::= \"x\" | \"y\"" }), "x"),
        (
            "/fireworks/inference/v1/chat/completions",
            json!({ "response_format": { "type": "grammar", "grammar": "root ::= \"a\" \"b\"" } }),
            "ab",
        ),
        (
            "/deepseek/chat/completions",
            json!({ "response_format": { "type": "json_object" } }),
            r#"{"answer":"Hello from m! You said: Hello there, JSON"}"#,
        ),
    ] {
        let answer = ask(&sim, path, with(hello("m"), extra)).await;
        assert_eq!(answer.json()["choices"][0]["message"]["content"], text, "{path}");
    }
    let ignored = ask(&sim, "/vllm/v1/chat/completions", with(hello("m"), json!({ "guided_choice": ["red"] }))).await;
    assert_eq!(
        ignored.json()["choices"][0]["message"]["content"],
        "Hello from m! You said: Hello there, JSON",
        "a new vLLM ignores the old spelling"
    );
}

#[tokio::test]
async fn what_the_services_refuse() {
    let sim = start().await;
    let image = json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } }] }] });
    for (path, more, param) in [
        (OPENAI, json!({ "guided_json": {} }), "guided_json"),
        (OPENAI, json!({ "model": null }), "model"),
        (OPENAI, json!({ "messages": [] }), "messages"),
        (OPENAI, json!({ "temperature": 99 }), "temperature"),
        (OPENAI, json!({ "model": "gpt-5-mini", "max_tokens": 5 }), "max_tokens"),
        (OPENAI, json!({ "model": "o1", "temperature": 0.5 }), "temperature"),
        (OPENAI, json!({ "max_tokens": 5, "max_completion_tokens": 5 }), "max_tokens"),
        (OPENAI, json!({ "stop": ["a", "b", "c", "d", "e"] }), "stop"),
        (OPENAI, json!({ "top_logprobs": 2 }), "top_logprobs"),
        (OPENAI, json!({ "stream_options": {} }), "stream_options"),
        (OPENAI, json!({ "tools": [] }), "tools"),
        (OPENAI, json!({ "tool_choice": "required" }), "tool_choice"),
        (
            OPENAI,
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "s", "strict": true, "schema": { "type": "object", "properties": {} } } } }),
            "response_format",
        ),
        (OPENAI, json!({ "messages": [{ "role": "tool", "tool_call_id": "x", "content": "y" }] }), "messages[0].tool_call_id"),
        (OPENAI, json!({ "model": "m+hnag" }), "model"),
        ("/together/v1/chat/completions", json!({ "stop": "a" }), "stop"),
        ("/together/v1/chat/completions", json!({ "logprobs": true }), "logprobs"),
        ("/vllm/v1/chat/completions", json!({ "structured_outputs": { "regex": "a", "choice": ["a"] } }), "structured_outputs"),
    ] {
        let answer = ask(&sim, path, with(hello("gpt-4o"), more.clone())).await;
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{more} {}", answer.body);
    }
    for (path, more) in [
        ("/deepseek/chat/completions", image.clone()),
        (
            "/deepseek/chat/completions",
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "s", "schema": {} } } }),
        ),
        ("/xai/v1/chat/completions", json!({ "model": "grok-3-mini", "stop": ["a"] })),
    ] {
        assert_eq!(ask(&sim, path, with(hello("m"), more.clone())).await.status, 400, "{more}");
    }
    assert_eq!(ask(&sim, OPENAI, with(hello("gpt-4o"), image)).await.status, 200);
    assert_eq!(ask(&sim, "/together/v1/chat/completions", with(hello("m"), json!({ "logprobs": 1, "stop": ["x"] }))).await.status, 200);
}

#[tokio::test]
async fn embeddings_where_there_are_any() {
    let sim = start().await;
    let input = json!({ "model": "e", "input": ["one", "two two"], "dimensions": 3 });
    let answer = ask(&sim, "/openai/v1/embeddings", input.clone()).await.json();
    assert_eq!((&answer["data"][1]["index"], answer["data"][1]["embedding"].as_array().map(Vec::len)), (&json!(1), Some(3)));
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 3, "total_tokens": 3 }));
    let packed = ask(&sim, "/vllm/v1/embeddings", with(input.clone(), json!({ "encoding_format": "base64" }))).await.json();
    assert_eq!(packed["data"][0]["embedding"].as_str().map(str::len), Some(16));
    assert_eq!(ask(&sim, "/openai/v1/embeddings", with(input.clone(), json!({ "input": [] }))).await.status, 400);
    assert_eq!(ask(&sim, "/openai/v1/embeddings", with(input.clone(), json!({ "model": "e+status=429" }))).await.status, 429);
    assert_eq!(ask(&sim, "/deepseek/embeddings", input).await.status, 404);
}

#[tokio::test]
async fn keys_and_the_shapes_of_errors() {
    let sim = start().await;
    let refused = async |path: &str, key: &str| {
        let answer = finish(connect(&sim, path, key, &hello("m")).await).await.unwrap();
        (answer.status, answer.json())
    };
    for path in [OPENAI, "/together/v1/chat/completions"] {
        assert_eq!(refused(path, "").await.0, 401);
        assert_eq!(refused(path, "wrong").await.1["error"]["code"], "invalid_api_key");
    }
    assert_eq!(refused("/deepseek/chat/completions", "").await.1["error"]["type"], "authentication_error");
    assert!(refused("/xai/v1/chat/completions", "").await.1["error"].is_string());
    assert!(refused("/hyperbolic/v1/chat/completions", "").await.1["detail"].is_string());
    assert_eq!(refused("/fireworks/inference/v1/chat/completions", "").await.1["error"]["object"], "error");
    assert_eq!(refused("/vllm/v1/chat/completions", "wrong").await.1["error"]["code"], 401);
    assert_eq!(refused("/sglang/v1/chat/completions", "wrong").await.1["object"], "error");
    assert_eq!(refused("/v1/chat/completions", "").await.0, 200, "a server of one's own needs no key");
}

#[tokio::test]
async fn scripts_that_answer() {
    let sim = start().await;
    let get = async |model: &str, stream: bool| ask(&sim, "/v1/chat/completions", with(hello(model), json!({ "stream": stream }))).await;
    let failed = get("sim+status=503+retry-after=7", false).await;
    assert!(failed.status == 503 && failed.head.contains("retry-after: 7"));
    assert_eq!(
        [get("s+fail-first=2", true).await.status, get("s+fail-first=2", true).await.status, get("s+fail-first=2", true).await.status],
        [503, 503, 200]
    );
    assert_eq!(get("sim+delay=3ms+pace=1ms", true).await.status, 200);
    assert_eq!(get("sim+chunks=100", true).await.events().len(), 102);
    let sized = get("sim+bytes=1000", false).await.json();
    assert_eq!(sized["choices"][0]["message"]["content"].as_str().map(str::len), Some(1000));
    assert_eq!(get("sim+finish=content_filter", false).await.json()["choices"][0]["finish_reason"], "content_filter");
    let (sliced, plain) = (get("sim+slice=7", true).await, get("sim", true).await);
    assert_eq!((sliced.events().len(), sliced.is_done()), (plain.events().len(), true));
    let error = get("sim+error-after=2", true).await;
    assert!(error.events().len() == 3 && error.events()[2]["error"].is_object() && !error.is_done() && error.whole);
    assert!(get("sim+error-after=2", false).await.json()["error"].is_object());
    let garbage = get("sim+json=garbage", false).await;
    assert!(garbage.status == 200 && serde_json::from_str::<Value>(&garbage.body).is_err());
    assert_eq!(get("sim+json=empty", false).await.body, "");
}

#[tokio::test]
async fn scripts_that_break_the_connection() {
    let sim = start().await;
    let get = async |model: &str, stream: bool| {
        let body = with(hello(model), json!({ "stream": stream }));
        finish(connect(&sim, "/v1/chat/completions", "", &body).await).await
    };
    let cut = get("sim+cut-after=3", true).await.unwrap();
    assert_eq!((cut.events().len(), cut.whole, cut.is_done()), (3, false, false));
    let cut = get("sim+cut", false).await.unwrap();
    assert_eq!((cut.status, cut.body.len(), cut.whole), (200, 64, false));
    for stream in [false, true] {
        let dead = get("sim+die-after-headers", stream).await.unwrap();
        assert_eq!((dead.status, dead.body.as_str(), dead.whole), (200, "", false));
        assert!(get("sim+close", stream).await.is_none());
    }
    assert!(sim.seen().iter().all(|seen| seen.ending == Ending::Broken));
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let sim = start().await;
    let cases = [
        ("sim+hang", false, "", ""),
        ("sim+stall", false, "HTTP/1.1 200", "\r\n\r\n"),
        ("sim+stall", true, "HTTP/1.1 200", "\r\n\r\n"),
        ("sim+comment-stall", true, "HTTP/1.1 200", ": keep-alive\n\n\r\n"),
        ("sim+comment-stall", false, "HTTP/1.1 200", "\r\n\r\n\n"),
        ("sim+delay=600s", true, "", ""),
        ("sim+pace=600s", true, "HTTP/1.1 200", "\n\n\r\n"),
    ];
    for (n, (model, stream, head, tail)) in cases.into_iter().enumerate() {
        let mut stream = connect(&sim, "/v1/chat/completions", "", &with(hello(model), json!({ "stream": stream }))).await;
        let mut raw = String::new();
        while !(raw.starts_with(head) && raw.ends_with(tail)) {
            let mut piece = [0; 4096];
            let n = stream.read(&mut piece).await.unwrap();
            assert_ne!(n, 0, "{model} closed");
            raw.push_str(std::str::from_utf8(&piece[..n]).unwrap());
        }
        until(&sim, |sim| sim.seen().get(n).is_some_and(|seen| seen.body.length() > 0)).await;
        assert_eq!(sim.seen()[n].ending, Ending::Open, "{model}");
        drop(stream);
        until(&sim, |sim| sim.seen()[n].ending == Ending::ClientLeft).await;
    }
}

#[tokio::test]
async fn the_simulator_s_own_pace_is_for_models_that_say_none() {
    let simulator = Simulator::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().with_pace(Duration::from_secs(3600));
    let handle = simulator.handle();
    tokio::spawn(simulator.serve(pending::<()>()));
    let body = |model: &str| json!({ "model": model, "stream": true, "messages": [{ "role": "user", "content": "hello there" }] });
    let mut slow = connect(&handle, OPENAI, "sk-1", &body("gpt-4o")).await;
    assert!(slow.read(&mut [0; 512]).await.unwrap() > 0);
    let fast = finish(connect(&handle, OPENAI, "sk-1", &body("gpt-4o+pace=0ms")).await).await.unwrap();
    assert!(fast.is_done());
    assert_eq!(handle.seen()[0].ending, Ending::Open);
}
