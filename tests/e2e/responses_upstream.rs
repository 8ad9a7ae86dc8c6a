//! A provider that is asked by the Responses API for clients of chat completions and Messages: whole and streamed answers, calls of
//! tools, and the encrypted reasoning that goes back with them.

use crate::harness::gateway::Gateway;
use crate::harness::http1::Answer;
use crate::harness::sim::Sim;
use serde_json::{Value, json};

async fn start(sim: &Sim) -> Gateway {
    let config = format!(
        "auth: none\nproviders: {{ o: {{ kind: openai, base_url: \"http://{}/openai/v1\", api_key: sk-x, api: responses }} }}\n\
         routes: {{ \"*\": {{ targets: [ {{ provider: o, model: \"*\" }} ], retry: {{ attempts: 1 }}, params: {{ defaults: {{ \
         reasoning: {{ summary: auto }} }} }} }} }}\n",
        sim.address()
    );
    Gateway::start(&config).await
}

async fn sent(gateway: &Gateway, path: &str, body: &Value) -> Value {
    let answer = gateway.post(path, &[], body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

/// The data of a stream's events.
fn events(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// The bodies that arrived, each by the Responses API.
fn asked(sim: &Sim) -> Vec<Value> {
    let seen = sim.seen();
    assert!(seen.iter().all(|seen| seen.path == "/openai/v1/responses"));
    seen.iter().map(|seen| seen.body.json().unwrap()).collect()
}

fn weather() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
}

const QUESTION: &str = "What is the weather in Paris?";

/// The types of the items of a request.
fn kinds(body: &Value) -> Vec<&str> {
    let items = body["input"].as_array().unwrap().iter();
    items.map(|item| item["type"].as_str().or(item["role"].as_str()).unwrap()).collect()
}

/// Checks the two requests of a round trip of a call.
fn check_round_trip(bodies: &[Value]) {
    let [first, second] = bodies else { panic!("{bodies:?}") };
    for body in [first, second] {
        assert_eq!((&body["store"], &body["include"]), (&json!(false), &json!(["reasoning.encrypted_content"])), "{body}");
    }
    assert_eq!(kinds(second), ["user", "reasoning", "function_call", "function_call_output"], "{second}");
    assert!(second["input"][1]["encrypted_content"].as_str().unwrap().starts_with("gAAAAA"), "{second}");
    assert!(!second.to_string().contains("tg1"), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_client_calls_a_tool_and_reasoning_goes_back_with_the_call() {
    for stream in [false, true] {
        let sim = Sim::start().await;
        let gateway = start(&sim).await;
        let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": weather()}}]);
        let mut body =
            json!({"model": "gpt-5.6", "reasoning_effort": "low", "tools": tools, "messages": [{"role": "user", "content": QUESTION}]});
        body["stream"] = stream.into();
        let message = if stream {
            streamed_chat(&gateway.post("/v1/chat/completions", &[], &body).await)
        } else {
            let answer = sent(&gateway, "/v1/chat/completions", &body).await;
            assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{answer}");
            assert!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap() > 0, "{answer}");
            answer["choices"][0]["message"].clone()
        };
        assert!(!message["reasoning_content"].as_str().unwrap().is_empty(), "{message}");
        let call = &message["tool_calls"][0];
        assert_eq!(
            (&call["function"]["name"], call["id"].as_str().unwrap().contains("--tg1-")),
            (&json!("get_weather"), true),
            "{message}"
        );
        assert!(call["function"]["arguments"].as_str().unwrap().contains("Paris"), "{message}");
        // A plain client returns OpenAI's members only.
        let back = json!({"role": "assistant", "content": null, "tool_calls": message["tool_calls"]});
        let result = json!({"role": "tool", "tool_call_id": call["id"], "content": "sunny"});
        body["messages"].as_array_mut().unwrap().extend([back, result]);
        body["stream"] = false.into();
        let answer = sent(&gateway, "/v1/chat/completions", &body).await;
        assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().contains("sunny"), "{answer}");
        check_round_trip(&asked(&sim));
    }
}

/// The message of a stream, its pieces joined.
fn streamed_chat(answer: &Answer) -> Value {
    let mut message = json!({"reasoning_content": "", "content": "", "tool_calls": []});
    let mut finish = Value::Null;
    let push = |to: &mut Value, more: &Value| {
        if let Some(more) = more.as_str() {
            *to = format!("{}{more}", to.as_str().unwrap_or_default()).into();
        }
    };
    for event in events(answer) {
        let Some(choice) = event["choices"].get(0) else { continue };
        for member in ["reasoning_content", "content"] {
            push(&mut message[member], &choice["delta"][member]);
        }
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            if call["id"].is_string() {
                message["tool_calls"].as_array_mut().unwrap().push(call.clone());
            } else {
                let index = call["index"].as_u64().unwrap() as usize;
                push(&mut message["tool_calls"][index]["function"]["arguments"], &call["function"]["arguments"]);
            }
        }
        if choice["finish_reason"].is_string() {
            finish = choice["finish_reason"].clone();
        }
    }
    assert_eq!(finish, "tool_calls", "{message}");
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_messages_client_calls_a_tool_and_reasoning_goes_back_with_the_call() {
    for stream in [false, true] {
        let sim = Sim::start().await;
        let gateway = start(&sim).await;
        let mut body = json!({"model": "gpt-5.6", "max_tokens": 2000, "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"},
            "tools": [{"name": "get_weather", "input_schema": weather()}], "messages": [{"role": "user", "content": QUESTION}]});
        body["stream"] = stream.into();
        let blocks = if stream {
            streamed_blocks(&gateway.post("/v1/messages", &[], &body).await)
        } else {
            let answer = sent(&gateway, "/v1/messages", &body).await;
            assert_eq!(answer["stop_reason"], "tool_use", "{answer}");
            answer["content"].clone()
        };
        let [thinking, call] = blocks.as_array().unwrap().as_slice() else { panic!("{blocks}") };
        assert_eq!((&thinking["type"], &call["type"], &call["name"]), (&json!("thinking"), &json!("tool_use"), &json!("get_weather")));
        assert!(!thinking["thinking"].as_str().unwrap().is_empty() && !thinking["signature"].as_str().unwrap().is_empty(), "{blocks}");
        assert_eq!(call["input"], json!({"city": "Paris"}), "{blocks}");
        let result = json!({"type": "tool_result", "tool_use_id": call["id"], "content": "sunny"});
        let turns = [json!({"role": "assistant", "content": blocks}), json!({"role": "user", "content": [result]})];
        body["messages"].as_array_mut().unwrap().extend(turns);
        body["stream"] = false.into();
        let answer = sent(&gateway, "/v1/messages", &body).await;
        assert!(answer["content"].to_string().contains("sunny") && answer["stop_reason"] == "end_turn", "{answer}");
        check_round_trip(&asked(&sim));
    }
}

/// The blocks of a stream, their pieces joined.
fn streamed_blocks(answer: &Answer) -> Value {
    let mut blocks: Vec<Value> = Vec::new();
    let mut input = String::new();
    for event in events(answer) {
        let append = |to: &mut Value, more: &Value| *to = format!("{}{}", to.as_str().unwrap(), more.as_str().unwrap()).into();
        match event["type"].as_str().unwrap() {
            "content_block_start" => blocks.push(event["content_block"].clone()),
            "content_block_delta" => {
                let (block, delta) = (blocks.last_mut().unwrap(), &event["delta"]);
                match delta["type"].as_str().unwrap() {
                    "thinking_delta" => append(&mut block["thinking"], &delta["thinking"]),
                    "signature_delta" => block["signature"] = delta["signature"].clone(),
                    "text_delta" => append(&mut block["text"], &delta["text"]),
                    _ => input += delta["partial_json"].as_str().unwrap(),
                }
            }
            "content_block_stop" if blocks.last().unwrap()["type"] == "tool_use" => {
                blocks.last_mut().unwrap()["input"] = serde_json::from_str(&std::mem::take(&mut input)).unwrap();
            }
            "message_delta" => assert_eq!(event["delta"]["stop_reason"], "tool_use"),
            _ => {}
        }
    }
    blocks.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_whose_chat_completions_refuse_tools_is_asked_by_the_responses_api_from_then_on() {
    let sim = Sim::start().await;
    let config = format!(
        "auth: none\nproviders: {{ o: {{ kind: openai, base_url: \"http://{}/openai/v1\", api_key: sk-x }} }}\n\
         routes: {{ \"*\": {{ targets: [ {{ provider: o, model: \"*\" }} ], retry: {{ attempts: 1 }} }} }}\n",
        sim.address()
    );
    let gateway = Gateway::start(&config).await;
    let tool = json!({"type": "function", "function": {"name": "get_weather", "parameters": weather()}});
    let chat = json!({"model": "gpt-5.6", "tools": [tool], "messages": [{"role": "user", "content": QUESTION}]});
    let messages = json!({"model": "gpt-5.6", "max_tokens": 2000, "tools": [{"name": "get_weather", "input_schema": weather()}],
        "messages": [{"role": "user", "content": QUESTION}]});
    let paths = || sim.seen().iter().map(|seen| seen.path.trim_start_matches("/openai/v1").to_owned()).collect::<Vec<_>>();
    let answer = gateway.post("/v1/messages", &[], &messages).await;
    assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (200, "1"), "{}", answer.text());
    assert_eq!(answer.json()["stop_reason"], "tool_use");
    assert_eq!(paths(), ["/chat/completions", "/responses"]);
    let answer = sent(&gateway, "/v1/chat/completions", &chat).await;
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "get_weather");
    // What needs no other API stays, and so does what the other one cannot say.
    let with = |name: &str, value: Value| {
        let mut body = chat.clone();
        body[name] = value;
        body
    };
    for body in [with("tools", Value::Null), with("reasoning_effort", json!("none")), with("n", json!(2))] {
        sent(&gateway, "/v1/chat/completions", &body).await;
    }
    assert_eq!(paths()[2..], ["/responses", "/chat/completions", "/chat/completions", "/chat/completions"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_is_answered_whole_and_streamed_and_its_end_is_told() {
    let sim = Sim::start().await;
    let gateway = start(&sim).await;
    let chat =
        |model: &str, stream: bool| json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hello there"}]});
    let whole = sent(&gateway, "/v1/chat/completions", &chat("gpt-4o", false)).await;
    let said = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(said.ends_with("You said: hello there"), "{whole}");
    let stream = gateway.post("/v1/chat/completions", &[], &chat("gpt-4o", true)).await;
    let text: String =
        events(&stream).iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect();
    assert_eq!(text, said);
    assert!(stream.text().ends_with("data: [DONE]\n\n"), "{}", stream.text());
    for (model, finish) in [("gpt-4o+finish=length", "length"), ("gpt-4o+finish=content_filter", "content_filter")] {
        let cut = sent(&gateway, "/v1/chat/completions", &chat(model, false)).await;
        assert_eq!(cut["choices"][0]["finish_reason"], finish, "{cut}");
    }
    // A stream that breaks off has an error and no finish reason, and a refusal the provider's words.
    let broken = gateway.post("/v1/chat/completions", &[], &chat("gpt-4o+chunks=9+cut-after=6", true)).await;
    assert!(broken.text().contains("\"error\"") && !broken.text().contains("[DONE]"), "{}", broken.text());
    let long = gateway.post("/v1/chat/completions", &[], &chat("gpt-4o+error=context_length_exceeded", false)).await;
    assert!(long.status() == 400 && long.text().contains("maximum context length"), "{}", long.text());
    let wrong = gateway
        .post("/v1/chat/completions", &[], &json!({"model": "gpt-5.6", "top_p": 0.5, "messages": [{"role": "user", "content": "Hi"}]}))
        .await;
    assert_eq!((wrong.status(), wrong.header("x-tidegate-dropped-params")), (200, "top_p"), "{}", wrong.text());
    asked(&sim);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_does_not_reason_is_not_asked_for_encrypted_reasoning_again() {
    let sim = Sim::start().await;
    let gateway = start(&sim).await;
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": weather()}}]);
    let body = json!({"model": "gpt-4o", "tools": tools, "messages": [{"role": "user", "content": QUESTION}]});
    for _ in 0..2 {
        let answer = sent(&gateway, "/v1/chat/completions", &body).await;
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{answer}");
    }
    let included: Vec<bool> = asked(&sim).iter().map(|body| body.get("include").is_some()).collect();
    assert_eq!(included, [true, false, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_responses_api_passes_as_before() {
    let sim = Sim::start().await;
    let gateway = start(&sim).await;
    let answer = sent(&gateway, "/v1/responses", &json!({"model": "gpt-4o", "input": "hello there", "store": true})).await;
    assert_eq!((&answer["object"], &answer["store"]), (&json!("response"), &json!(true)), "{answer}");
    assert_eq!(asked(&sim)[0]["input"], "hello there");
}
