//! OpenAI's Responses API in front: its stream and its errors, fail-over between targets of both kinds, heartbeats, stored
//! things, and the state that goes back to the provider that gave it.

use crate::harness::config;
use crate::harness::gateway::Gateway;
use crate::harness::http1::{Answer, request};
use crate::harness::manual::Manual;
use crate::harness::sim::Sim;
use crate::sdk::{DIALECTS, demo_with};
use serde_json::{Value, json};

fn hello(model: &str) -> Value {
    json!({"model": model, "input": "hello there"})
}

fn streamed(model: &str) -> Value {
    json!({"model": model, "input": "hello there", "stream": true})
}

async fn send(gateway: &Gateway, headers: &[(&str, &str)], body: &Value) -> Answer {
    gateway.post("/v1/responses", headers, body).await
}

const DEMO: &[(&str, &str)] = &[("authorization", "Bearer tg-demo")];

/// The events of a stream, which are named by their type and numbered without a gap.
fn events(text: &str) -> Vec<Value> {
    let mut events = Vec::new();
    for event in text.split_terminator("\n\n").filter(|event| event.starts_with("event: ")) {
        let (name, data) = event.split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str(), "{event}");
        assert_eq!(data["sequence_number"], events.len(), "{event}");
        events.push(data);
    }
    events
}

fn error(answer: &Answer) -> (u16, String, Value) {
    let json = answer.json();
    (answer.status(), json["error"]["type"].as_str().unwrap().to_owned(), json["error"]["code"].clone())
}

/// The text of a response.
fn said(response: &Value) -> String {
    let parts = response["output"].as_array().unwrap().iter().filter_map(|item| item["content"].as_array()).flatten();
    parts.filter(|part| part["type"] == "output_text").filter_map(|part| part["text"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_provider_answers_whole_and_streamed() {
    let sim = Sim::start().await;
    let gateway = demo_with(&sim, "").await;
    for route in DIALECTS {
        let whole = send(&gateway, DEMO, &hello(route)).await;
        let json = whole.json();
        assert_eq!((whole.status(), &json["object"], &json["model"]), (200, &json!("response"), &json!(route)), "{json}");
        assert!(said(&json).ends_with("You said: hello there"), "{route}: {json}");
        let stream = send(&gateway, DEMO, &streamed(route)).await;
        let events = events(&stream.text());
        assert_eq!((&events[0]["type"], &events[0]["response"]["model"]), (&json!("response.created"), &json!(route)));
        let last = events.last().unwrap();
        assert_eq!((&last["type"], said(&last["response"])), (&json!("response.completed"), said(&json)), "{route}");
        let text: String = events
            .iter()
            .filter(|event| event["type"] == "response.output_text.delta")
            .filter_map(|event| event["delta"].as_str())
            .collect();
        assert_eq!(text, said(&json), "{route}");
        let line = gateway.output.line(stream.header("x-request-id")).await;
        assert!(line.contains("\"endpoint\":\"responses\"") && line.contains("\"ended_by\":\"complete\""), "{line}");
        assert!(!line.contains("\"tokens_out\":0"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_has_the_api_gets_the_clients_bytes_and_the_client_the_providers() {
    let manual = Manual::start().await;
    let provider = format!("{{ kind: openai, base_url: \"http://{}/v1\", api_key: k }}", manual.address());
    let config =
        format!("auth: none\nproviders: {{ o: {provider} }}\nroutes: {{ r: {{ targets: [ {{ provider: o, model: gpt-1 }} ] }} }}\n");
    let gateway = Gateway::start(&config).await;
    let body = r#"{ "input":[{"content":"\u00fc\/ 1","role":"user"},{"type":"item_reference","id":"msg_1"}] ,"model" : "r", "tools":[{"type":"web_search"}],"x":{"b":1.50} }"#;
    let mut conn = gateway.connect().await;
    conn.send(&request("POST", "/v1/responses", &[], Some(body.as_bytes()))).await.unwrap();
    let mut exchange = manual.accept().await;
    assert_eq!(exchange.text, body.replace("\"r\"", "\"gpt-1\""));
    let answer = r#"{ "object":"response","id":"resp_up","model" : "gpt-1","status":"completed","output":[{"type":"web_search_call","id":"ws_1","status":"completed"},{"type":"message","role":"assistant","id":"msg_2","content":[{"type":"output_text","text":"\u00fc","annotations":[]}]}],"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5} }"#;
    exchange.json("200 OK", answer).await;
    assert_eq!(conn.answer().await.unwrap().text(), answer.replace("\"gpt-1\"", "\"r\""));
    let line = gateway.output.line("\"endpoint\":\"responses\"").await;
    assert!(line.contains("\"tokens_in\":3,\"tokens_out\":2") && line.contains("\"upstream_id\":\"resp_up\""), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_openais_words() {
    let sim = Sim::start().await;
    let gateway = demo_with(&sim, "").await;
    let no = send(&gateway, &[("authorization", "Bearer tg-no")], &hello("openai")).await;
    assert_eq!(error(&no), (401, "authentication_error".to_owned(), Value::Null));
    assert_eq!(error(&send(&gateway, DEMO, &hello("nobody")).await).0, 404);
    let long = send(&gateway, DEMO, &hello("script/gpt-4o+error=context_length_exceeded")).await;
    assert_eq!(error(&long), (400, "invalid_request_error".to_owned(), json!("context_length_exceeded")));
    let budget = async || send(&gateway, DEMO, &hello("budget")).await;
    assert_eq!(budget().await.status(), 200);
    let spent = budget().await;
    assert_eq!(
        (error(&spent), spent.header("x-should-retry")),
        ((402, "insufficient_quota".to_owned(), json!("insufficient_quota")), "false")
    );
    let mut stored = hello("anthropic");
    stored["previous_response_id"] = "resp_1".into();
    let stored = send(&gateway, DEMO, &stored).await;
    assert_eq!((error(&stored).0, error(&stored).2), (400, json!("previous_response_not_found")));
    assert_eq!(stored.json()["error"]["param"], "previous_response_id");
    let mut conn = gateway.connect().await;
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket"), ("openai-beta", "responses_websockets=2026-02-06")];
    conn.send(&request("GET", "/v1/responses", &upgrade, None)).await.unwrap();
    assert_eq!(conn.answer().await.unwrap().status(), 426);
    assert_eq!(gateway.get("/v1/responses", DEMO).await.status(), 405);
    assert_eq!(gateway.get("/v1/responses/resp_1", DEMO).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_that_are_down_are_a_503_that_says_when_to_come_back() {
    let nobody = crate::harness::gateway::free_port();
    let provider = format!("{{ kind: openai, base_url: \"http://127.0.0.1:{nobody}/v1\", api_key: k }}");
    let gateway = Gateway::start(&config("", ("o", &provider), "r", "")).await;
    let down = send(&gateway, &[], &hello("r")).await;
    assert_eq!(error(&down), (503, "overloaded_error".to_owned(), json!("server_error")), "{}", down.text());
    assert_eq!(down.header("retry-after"), "1");
    assert_eq!(gateway.chat(&json!({"model": "r", "messages": [{"role": "user", "content": "x"}]})).await.status(), 502);
}

/// A gateway with frequent heartbeats, before a provider that does not have the API.
async fn translated(manual: &Manual) -> Gateway {
    let provider = format!("{{ kind: openai_compatible, base_url: \"http://{}\" }}", manual.address());
    Gateway::start(&config("keep_alive: 100ms", ("m", &provider), "r", "retry: { attempts: 1 }")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_translated_stream_begins_early_and_a_break_is_told_under_the_next_numbers() {
    let manual = Manual::start().await;
    let gateway = translated(&manual).await;
    let mut conn = gateway.connect().await;
    conn.send(&request("POST", "/v1/responses", &[], Some(streamed("r").to_string().as_bytes()))).await.unwrap();
    let mut exchange = manual.accept().await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    exchange.begin().await;
    exchange.say("Half an").await;
    exchange.close().await;
    let mut text = String::new();
    while let Some(piece) = conn.piece().await.unwrap() {
        text += std::str::from_utf8(&piece).unwrap();
    }
    let events = events(&text);
    let kinds: Vec<&str> =
        events.iter().map(|event| event["type"].as_str().unwrap()).filter(|kind| *kind != "response.in_progress").collect();
    let expected = ["created", "output_item.added", "content_part.added", "output_text.delta", "error", "failed"];
    assert_eq!(kinds.iter().map(|kind| kind.trim_start_matches("response.")).collect::<Vec<_>>(), expected, "{text}");
    let failed = &events.last().unwrap()["response"];
    assert_eq!((&failed["error"]["code"], &failed["id"]), (&json!("server_error"), &events[0]["response"]["id"]));
    assert!(text.ends_with("data: [DONE]\n\n"));
}

/// Routes whose first target fails, at once or late: `a` and `late` fall back from Claude to OpenAI, `b` and `early` the other way.
pub async fn with_fallbacks(sim: &Sim) -> Gateway {
    let (claude, gpt) = ("provider: claude, model: claude-sonnet-4-5", "provider: gpt, model: gpt-4o");
    let mut config = format!(
        "auth: none\nserver: {{ keep_alive: 100ms }}\nproviders:\n  claude: {{ kind: anthropic, base_url: \"http://{0}/anthropic\", \
         api_key: sk-ant-x }}\n  gpt: {{ kind: openai, base_url: \"http://{0}/openai/v1\", api_key: sk-x }}\nroutes:\n",
        sim.address()
    );
    for (route, target, script, fallback) in [
        ("a", claude, "+status=529", gpt),
        ("b", gpt, "+status=503", claude),
        ("late", claude, "+status=529+delay=400ms", gpt),
        ("early", gpt, "+status=503+delay=400ms", claude),
    ] {
        config += &format!("  {route}: {{ targets: [ {{ {target}{script} }} ], fallback: [ {{ {fallback} }} ] }}\n");
    }
    Gateway::start(&config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spliced_target_is_replaced_by_a_translated_one_and_the_other_way_round() {
    let sim = Sim::start().await;
    let gateway = with_fallbacks(&sim).await;
    for (route, provider) in [("a", "gpt"), ("b", "claude")] {
        for body in [hello(route), streamed(route)] {
            let answer = send(&gateway, &[], &body).await;
            assert_eq!((answer.status(), answer.header("x-tidegate-provider")), (200, provider), "{}", answer.text());
            assert!(answer.text().contains("\"status\":\"completed\""), "{}", answer.text());
        }
    }
    // Where a heartbeat has begun the response, whoever answers goes on with it.
    for route in ["late", "early"] {
        let text = send(&gateway, &[], &streamed(route)).await.text();
        let events = events(&text);
        let created = events.iter().filter(|event| event["type"] == "response.created").count();
        assert_eq!((created, &events.last().unwrap()["type"]), (1, &json!("response.completed")), "{text}");
        assert!(events[1..].iter().filter_map(|event| event.get("response")).all(|response| response["id"] == events[0]["response"]["id"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_moves_between_targets_and_state_goes_back_only_to_its_maker() {
    let sim = Sim::start().await;
    let gateway = demo_with(&sim, "").await;
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let mut turn = json!({"reasoning": {"effort": "low", "summary": "auto"}, "store": false, "include": ["reasoning.encrypted_content"],
        "tools": [{"type": "function", "name": "get_weather", "parameters": schema, "strict": false}],
        "input": [{"role": "user", "content": "What is the weather in Paris?"}]});
    let mut sealed = Vec::new();
    for route in ["anthropic", "google_ai_studio", "openai"] {
        turn["model"] = route.into();
        if route == "openai" {
            turn.as_object_mut().unwrap().retain(|name, _| name != "reasoning" && name != "include"); // its model does not reason
        }
        let answer = send(&gateway, DEMO, &turn).await;
        assert_eq!(answer.status(), 200, "{route}: {}", answer.text());
        let output = answer.json()["output"].as_array().unwrap().clone();
        let call =
            output.iter().find(|item| item["type"] == "function_call").unwrap_or_else(|| panic!("{route}: {output:?}"))["call_id"].clone();
        sealed.extend(output.iter().filter_map(|item| Some((route, item["encrypted_content"].as_str()?.to_owned()))));
        let input = turn["input"].as_array_mut().unwrap();
        input.extend(output);
        input.push(json!({"type": "function_call_output", "call_id": call, "output": "sunny"}));
        // The simulators refuse a turn without what they have signed, and one with what others have.
        let answer = send(&gateway, DEMO, &turn).await;
        assert_eq!(answer.status(), 200, "{route}: {}", answer.text());
        assert!(said(&answer.json()).contains("sunny"), "{route}: {}", answer.text());
        turn["input"].as_array_mut().unwrap().push(json!({"role": "user", "content": "What is the weather in Paris?"}));
    }
    assert!(sealed.iter().any(|(route, _)| *route == "anthropic") && sealed.iter().any(|(route, _)| *route == "google_ai_studio"));
    for (_, text) in &sealed {
        assert_eq!(sim.seen().iter().filter(|seen| format!("{:?}", seen.body).contains(text)).count(), 0, "what is sealed went upstream");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reasoning_that_a_provider_cannot_read_is_left_out_and_takes_no_attempt() {
    let sim = Sim::start().await;
    let gateway = demo_with(&sim, "").await;
    let foreign = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAAfrom-another-account"});
    let said_before = json!({"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
        "content": [{"type": "output_text", "text": "Hi.", "annotations": []}]});
    let again = json!({"role": "user", "content": "hello there"});
    let body = json!({"model": "script/gpt-4o", "store": false, "input": [{"role": "user", "content": "Hi"}, foreign, said_before, again]});
    let answer = send(&gateway, DEMO, &body).await;
    assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (200, "1"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_withheld_leaves_no_gap_before_the_next_one() {
    let sim = Sim::start().await;
    let target = |script: &str| format!("{{ provider: claude, model: claude-sonnet-4-5{script} }}");
    let config = format!(
        "auth: none\nproviders: {{ claude: {{ kind: anthropic, base_url: \"http://{}/anthropic\", api_key: sk-ant-x }} }}\nroutes: {{ r: {{ \
         targets: [ {} ], fallback: [ {} ], retry: {{ on: [content_filter] }} }} }}\n",
        sim.address(),
        target("+finish=content_filter+bytes=0"),
        target(""),
    );
    let gateway = Gateway::start(&config).await;
    let answer = send(&gateway, &[], &streamed("r")).await;
    let events = events(&answer.text());
    assert_eq!((&events[0]["type"], answer.header("x-tidegate-attempts")), (&json!("response.created"), "2"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_that_a_slow_client_does_not_take_is_not_cut_by_the_answer() {
    let manual = Manual::start().await;
    let gateway = translated(&manual).await;
    let mut body = streamed("r");
    body["instructions"] = "i".repeat(8 << 20).into();
    let mut conn = gateway.connect().await;
    conn.send(&request("POST", "/v1/responses", &[], Some(body.to_string().as_bytes()))).await.unwrap();
    let mut exchange = manual.accept().await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await; // heartbeats, which the client does not read
    exchange.begin().await;
    exchange.say("Hi").await;
    exchange.end().await;
    exchange.done().await;
    let text = conn.answer().await.unwrap().text();
    let events = events(&text);
    assert_eq!(events.iter().filter(|event| event["type"] == "response.created").count(), 1);
    let last = events.last().unwrap();
    assert_eq!((&last["type"], said(&last["response"])), (&json!("response.completed"), "Hi".to_owned()));
    assert_eq!(last["response"]["instructions"].as_str().unwrap().len(), 8 << 20);
}
