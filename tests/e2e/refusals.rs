//! A target that refuses a member of its request is asked again without it: the same attempt, at no cost, and from then on
//! without it from the start.

use crate::harness::config;
use crate::harness::gateway::Gateway;
use crate::harness::http1::Answer;
use crate::harness::manual::{Exchange, Manual};
use serde_json::{Value, json};

async fn refuse(mut exchange: Exchange, body: &Value) {
    exchange.json("400 Bad Request", &body.to_string()).await;
}

async fn answer(exchange: &mut Exchange) {
    exchange.begin().await;
    exchange.say("yes").await;
    exchange.end().await;
}

async fn gateway(manual: &Manual, params: &str) -> Gateway {
    let route = format!("retry: {{ attempts: 1 }}, params: {{ {params} }}");
    Gateway::start(&config("", ("p", &manual.provider()), "r", &route)).await
}

fn asked(more: Value) -> Value {
    let mut body = json!({"model": "r", "messages": [{"role": "user", "content": "x"}], "stream": true});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn injected_options_that_a_server_refuses_are_left_out_for_an_hour() {
    let manual = Manual::start().await;
    let gateway = gateway(&manual, "").await;
    let request = asked(json!({}));
    let (told, ()) = tokio::join!(gateway.chat(&request), async {
        let first = manual.accept().await;
        assert_eq!(first.body["stream_options"]["include_usage"], true);
        refuse(first, &json!({"error_code": "BAD_REQUEST", "message": "json: unknown field \"stream_options\""})).await;
        let mut second = manual.accept().await;
        assert!(second.body.get("stream_options").is_none(), "{}", second.body);
        answer(&mut second).await;
    });
    assert_eq!((told.status(), told.header("x-tidegate-attempts"), told.header("x-tidegate-dropped-params")), (200, "1", ""));
    assert!(told.text().ends_with("data: [DONE]\n\n"), "{}", told.text());
    let (told, ()) = tokio::join!(gateway.chat(&request), async {
        let mut third = manual.accept().await;
        assert!(third.body.get("stream_options").is_none(), "{}", third.body);
        answer(&mut third).await;
    });
    assert_eq!(told.status(), 200);
    let status = gateway.page("/status").await.json();
    let one = &status["refused_members"][0];
    assert_eq!((&one["provider"], &one["model"], &one["member"]), (&json!("p"), &json!("m"), &json!("stream_options")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_that_a_model_refuses_is_left_out_and_named() {
    let manual = Manual::start().await;
    let gateway = gateway(&manual, "").await;
    let request = asked(json!({"presence_penalty": 0.5, "frequency_penalty": 0.5, "temperature": 0.5}));
    let (told, ()) = tokio::join!(gateway.chat(&request), async {
        refuse(manual.accept().await, &json!({"code": "x", "error": "Argument not supported on this model: presencePenalty"})).await;
        let second = manual.accept().await;
        assert!(second.body.get("presence_penalty").is_none() && second.body["frequency_penalty"] == 0.5, "{}", second.body);
        refuse(second, &json!({"code": "x", "error": "Argument not supported on this model: frequencyPenalty"})).await;
        let mut third = manual.accept().await;
        assert!(third.body.get("frequency_penalty").is_none() && third.body["temperature"] == 0.5, "{}", third.body);
        answer(&mut third).await;
    });
    assert_eq!((told.status(), told.header("x-tidegate-attempts")), (200, "1"));
    assert_eq!(told.header("x-tidegate-dropped-params"), "frequency_penalty,presence_penalty");
}

/// What the provider gets for a request that it answers.
async fn sent(gateway: &Gateway, manual: &Manual, path: &str, asked: &Value) -> Value {
    let (told, body) = tokio::join!(gateway.post(path, &[], asked), async {
        let mut exchange = manual.accept().await;
        answer(&mut exchange).await;
        exchange.body
    });
    assert_eq!(told.status(), 200, "{}", told.text());
    body
}

/// Asks twice for the same, which the provider refuses the first time in these words; what it gets each time.
async fn taught(gateway: &Gateway, manual: &Manual, path: &str, asked: &Value, words: &str) -> (Answer, [Value; 3]) {
    let (told, [first, second]) = tokio::join!(gateway.post(path, &[], asked), async {
        let first = manual.accept().await;
        let body = first.body.clone();
        refuse(first, &json!({"error": {"message": words}})).await;
        let mut second = manual.accept().await;
        answer(&mut second).await;
        [body, second.body]
    });
    let third = sent(gateway, manual, path, asked).await;
    assert_eq!((told.status(), told.header("x-tidegate-attempts")), (200, "1"), "{}", told.text());
    (told, [first, second, third])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_tokens_that_is_too_high_for_a_model_becomes_the_highest() {
    let manual = Manual::start().await;
    let gateway = gateway(&manual, "").await;
    let words = "max_tokens is too large: 128000. This model supports at most 16384 completion tokens, whereas you provided 128000.";
    let request = json!({"model": "r", "max_tokens": 128_000, "stream": true, "messages": [{"role": "user", "content": "x"}]});
    let (told, bodies) = taught(&gateway, &manual, "/v1/messages", &request, words).await;
    assert_eq!(bodies.map(|body| body["max_tokens"].as_u64()), [Some(128_000), Some(16_384), Some(16_384)]);
    assert_eq!(told.header("x-tidegate-adjusted-params"), "max_tokens");
    let status = gateway.page("/status").await.json();
    assert_eq!(status["refused_members"][0]["adjustment"], "at most 16384");
    // A lower one stays.
    let body = sent(&gateway, &manual, "/v1/chat/completions", &asked(json!({"max_completion_tokens": 100}))).await;
    assert_eq!((&body["max_completion_tokens"], &body["max_tokens"]), (&json!(100), &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instructions_stand_first_at_a_server_that_takes_them_nowhere_else() {
    let manual = Manual::start().await;
    let gateway = gateway(&manual, "").await;
    let words = "System message must be at the beginning.";
    let chat = asked(json!({"messages": [
        {"role": "user", "content": "x"}, {"role": "system", "content": "a"}, {"role": "assistant", "content": "y"},
        {"role": "developer", "content": [{"type": "text", "text": "b"}]}, {"role": "user", "content": "z"}]}));
    let (_, [first, second, third]) = taught(&gateway, &manual, "/v1/chat/completions", &chat, words).await;
    assert_eq!(first["messages"][3], json!({"role": "system", "content": [{"type": "text", "text": "b"}]}));
    let want = json!([{"role": "system", "content": "a\n\nb"}, {"role": "user", "content": "x"},
        {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]);
    assert_eq!((&second["messages"], &third["messages"]), (&want, &want));
    let messages = json!({"model": "r", "stream": true, "max_tokens": 9, "system": "a", "messages": [
        {"role": "user", "content": "x"}, {"role": "system", "content": "b"}]});
    let body = sent(&gateway, &manual, "/v1/messages", &messages).await;
    assert_eq!(body["messages"], json!([{"role": "system", "content": "a\n\nb"}, {"role": "user", "content": "x"}]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cache_marks_that_a_server_refuses_are_left_out() {
    let manual = Manual::start().await;
    let gateway = gateway(&manual, "").await;
    let words = "messages.0.content.0.cache_control: Extra inputs are not permitted";
    let mark = json!({"type": "ephemeral"});
    let part = json!({"type": "text", "text": "x", "cache_control": mark});
    let tool = json!({"type": "function", "function": {"name": "f"}, "cache_control": mark});
    let chat = asked(json!({"messages": [{"role": "user", "content": [part]}], "tools": [tool]}));
    let (_, bodies) = taught(&gateway, &manual, "/v1/chat/completions", &chat, words).await;
    assert_eq!(bodies.map(|body| body.to_string().matches("cache_control").count()), [2, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_go_without_reasoning_where_chat_completions_take_no_other_and_there_is_no_other_api() {
    let manual = Manual::start().await;
    let provider = manual.provider().replace("kind: vllm", "kind: vllm, responses: false");
    let gateway = Gateway::start(&config("", ("p", &provider), "r", "retry: { attempts: 1 }")).await;
    let words = "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. To use function tools, use \
                 /v1/responses or set reasoning_effort to 'none'.";
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]);
    let request = asked(json!({"tools": tools, "reasoning_effort": "high"}));
    let (told, bodies) = taught(&gateway, &manual, "/v1/chat/completions", &request, words).await;
    assert_eq!(bodies.map(|body| body["reasoning_effort"].clone()), ["high", "none", "none"]);
    assert_eq!(told.header("x-tidegate-adjusted-params"), "reasoning_effort");
    // Without tools nothing changes.
    let body = sent(&gateway, &manual, "/v1/chat/completions", &asked(json!({"reasoning_effort": "high"}))).await;
    assert_eq!(body["reasoning_effort"], "high");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_spelled_as_the_server_wants_it() {
    let manual = Manual::start().await;
    let gateway = gateway(&manual, "").await;
    let words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    let (told, bodies) = taught(&gateway, &manual, "/v1/chat/completions", &asked(json!({"max_tokens": 9})), words).await;
    let limits = bodies.map(|body| (body["max_tokens"].as_u64(), body["max_completion_tokens"].as_u64()));
    assert_eq!(limits, [(Some(9), None), (None, Some(9)), (None, Some(9))]);
    assert_eq!(told.header("x-tidegate-dropped-params"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_out_already_is_not_tried_again() {
    let manual = Manual::start().await;
    let gateway = gateway(&manual, "").await;
    let words = json!({"error": {"message": "'temperature' is not supported with this model"}});
    let request = asked(json!({"temperature": 0.5}));
    let (told, ()) = tokio::join!(gateway.chat(&request), async {
        for _ in 0..2 {
            refuse(manual.accept().await, &words).await;
        }
    });
    assert_eq!(told.status(), 400);
    let (told, ()) = tokio::join!(gateway.chat(&request), async { refuse(manual.accept().await, &words).await });
    assert_eq!(told.status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_a_value_or_of_what_may_not_be_lost_is_the_clients() {
    let manual = Manual::start().await;
    let (open, strict) = (gateway(&manual, "").await, gateway(&manual, "unsupported: reject").await);
    for (gateway, message) in [
        (&open, "temperature: must be in range 0..1"),
        (&open, "'stop' is not supported with this model"),
        (&strict, "'temperature' is not supported with this model"),
    ] {
        let request = asked(json!({"temperature": 0.5, "stop": "x"}));
        let refusal = json!({"error": {"message": message}});
        let (told, ()) = tokio::join!(gateway.chat(&request), async { refuse(manual.accept().await, &refusal).await });
        assert_eq!(told.status(), 400, "{message}");
        assert!(told.text().contains(message), "{}", told.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reasoning_of_an_earlier_turn_that_a_model_refuses_is_left_out() {
    let manual = Manual::start().await;
    let provider = format!("{{ kind: openai_compatible, base_url: \"http://{}/v1\", returns: [reasoning] }}", manual.address());
    let gateway = Gateway::start(&config("", ("p", &provider), "r", "retry: { attempts: 1 }")).await;
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let mut request = asked(json!({"tools": tools}));
    let (called, ()) = tokio::join!(gateway.chat(&request), async {
        let mut first = manual.accept().await;
        first.begin().await;
        let call = json!([{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
        let delta = json!({"role": "assistant", "reasoning_content": "hm", "tool_calls": call});
        first.event(&json!({"choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]}).to_string()).await;
        first.event("[DONE]").await;
        first.close().await;
    });
    let text = called.text();
    let id = &text[text.find("c1--tg1-").unwrap()..];
    let id = &id[..id.find('"').unwrap()];
    let call = json!([{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": call}));
    messages.push(json!({"role": "tool", "tool_call_id": id, "content": "1"}));
    let (told, ()) = tokio::join!(gateway.chat(&request), async {
        let second = manual.accept().await;
        assert_eq!(second.body["messages"][1]["reasoning_content"], "hm", "{}", second.body);
        let why = "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation.";
        refuse(second, &json!({"type": "error", "error": {"type": "invalid_request_error", "message": why}})).await;
        let mut third = manual.accept().await;
        let turn = &third.body["messages"][1];
        assert!(turn.get("reasoning_content").is_none() && turn["tool_calls"][0]["id"] == "c1", "{}", third.body);
        answer(&mut third).await;
    });
    assert_eq!((told.status(), told.header("x-tidegate-attempts")), (200, "1"), "{}", told.text());
    // A second refusal is the client's.
    let (told, ()) = tokio::join!(gateway.chat(&request), async {
        for _ in 0..2 {
            refuse(manual.accept().await, &json!({"error": {"message": "Invalid signature in thinking block"}})).await;
        }
    });
    assert_eq!(told.status(), 400, "{}", told.text());
}
