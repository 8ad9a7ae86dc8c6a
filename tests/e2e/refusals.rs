//! A target that refuses a member of its request is asked again without it: the same attempt, at no cost, and from then on
//! without it from the start.

use crate::harness::gateway::Gateway;
use crate::harness::manual::{Exchange, Manual};
use serde_json::{Value, json};

async fn refuse(mut exchange: Exchange, body: &Value) {
    let body = body.to_string();
    let head = format!("HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    exchange.write(format!("{head}{body}").as_bytes()).await;
}

async fn answer(exchange: &mut Exchange) {
    exchange.begin().await;
    exchange.say("yes").await;
    exchange.end().await;
}

async fn gateway(manual: &Manual, params: &str) -> Gateway {
    let provider = manual.provider();
    Gateway::start(&format!(
        "auth: none\nproviders: {{ p: {provider} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ], retry: {{ attempts: 1 }}, params: {{ {params} }} }} }}"
    ))
    .await
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
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders: {{ p: {{ kind: openai_compatible, base_url: \"http://{}/v1\", returns: [reasoning] }} }}\n\
         routes: {{ r: {{ targets: [ {{ provider: p, model: m }} ], retry: {{ attempts: 1 }} }} }}",
        manual.address()
    ))
    .await;
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
