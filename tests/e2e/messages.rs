//! Anthropic's Messages API in front: its stream and its errors, fail-over between targets of both kinds, heartbeats, and the
//! state that goes back to the provider that gave it.

use crate::harness::gateway::Gateway;
use crate::harness::http1::{Answer, request};
use crate::harness::manual::Manual;
use crate::harness::sim::Sim;
use crate::responses::with_fallbacks;
use crate::sdk::{DIALECTS, demo_with};
use serde_json::{Value, json};

fn hello(model: &str) -> Value {
    json!({"model": model, "max_tokens": 300, "messages": [{"role": "user", "content": "hello there"}]})
}

fn streamed(model: &str) -> Value {
    let mut body = hello(model);
    body["stream"] = true.into();
    body
}

const DEMO: &[(&str, &str)] = &[("x-api-key", "tg-demo"), ("anthropic-version", "2023-06-01")];

/// Names and data of the events of a stream.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    let text = answer.text();
    let event = |event: &str| {
        let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        (name.to_owned(), serde_json::from_str(data).unwrap())
    };
    text.split_terminator("\n\n").map(event).collect()
}

fn error(answer: &Answer) -> (u16, String, String) {
    let json = answer.json();
    assert_eq!((json["type"].as_str(), json["request_id"].as_str()), (Some("error"), Some(answer.header("request-id"))));
    assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
    let text = |key: &str| json["error"][key].as_str().unwrap().to_owned();
    (answer.status(), text("type"), text("message"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_provider_answers_whole_and_streamed_in_anthropics_form() {
    let sim = Sim::start().await;
    let gateway = demo_with(&sim, "").await;
    for route in DIALECTS {
        let whole = gateway.post("/v1/messages?beta=true", DEMO, &hello(route)).await;
        let json = whole.json();
        assert_eq!((whole.status(), &json["type"], &json["model"]), (200, &json!("message"), &json!(route)), "{json}");
        let said: String = json["content"].as_array().unwrap().iter().filter_map(|block| block["text"].as_str()).collect();
        assert!(said.ends_with("You said: hello there"), "{route}: {said}");
        let stream = gateway.post("/v1/messages", DEMO, &streamed(route)).await;
        let events = events(&stream);
        assert!(events.iter().all(|(name, data)| data["type"] == **name), "{events:?}");
        let own: Vec<_> = events.iter().filter(|(name, _)| name != "ping").collect();
        assert_eq!((&*own[0].0, &own[0].1["message"]["model"]), ("message_start", &json!(route)));
        assert_eq!(own.last().unwrap().0, "message_stop");
        let text: String = events.iter().filter_map(|(_, data)| data["delta"]["text"].as_str()).collect();
        assert_eq!(text, said, "{route}");
        let line = gateway.output.line(stream.header("x-request-id")).await;
        assert!(line.contains("\"endpoint\":\"messages\"") && line.contains("\"ended_by\":\"complete\""), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_gets_the_clients_bytes() {
    let manual = Manual::start().await;
    let provider = format!("{{ kind: anthropic, base_url: \"http://{}\", api_key: k }}", manual.address());
    let config =
        format!("auth: none\nproviders: {{ c: {provider} }}\nroutes: {{ r: {{ targets: [ {{ provider: c, model: claude-1 }} ] }} }}\n");
    let gateway = Gateway::start(&config).await;
    let body = r#"{ "max_tokens":1e3 ,"model" : "r", "messages":[{"content":[{"text":"\u00fc\/ 1","type":"text"}],"role":"user"}],"x":{"b":1.50} }"#;
    let mut conn = gateway.connect().await;
    conn.send(&request("POST", "/v1/messages", &[], Some(body.as_bytes()))).await.unwrap();
    let mut exchange = manual.accept().await;
    assert_eq!(exchange.text, body.replace("\"r\"", "\"claude-1\""));
    let answer = r#"{ "type":"message","id":"msg_up","model" : "claude-1","role":"assistant","content":[{"type":"text","text":"\u00fc"},{"type":"new","x":1.0}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}"#;
    exchange.json("200 OK", answer).await;
    assert_eq!(conn.answer().await.unwrap().text(), answer.replace("\"claude-1\"", "\"r\""));
    let line = gateway.output.line("\"endpoint\":\"messages\"").await;
    assert!(line.contains("\"tokens_in\":3,\"tokens_out\":2") && line.contains("\"upstream_id\":\"msg_up\""), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_anthropics_form_on_these_paths_and_openais_on_others() {
    let sim = Sim::start().await;
    let gateway = demo_with(&sim, "").await;
    let no = gateway.post("/v1/messages", &[("x-api-key", "tg-no")], &hello("openai")).await;
    assert_eq!(error(&no).1, "authentication_error");
    let unknown = gateway.post("/v1/messages", DEMO, &hello("nobody")).await;
    assert_eq!((error(&unknown).0, error(&unknown).1), (404, "not_found_error".to_owned()));
    assert_eq!(error(&gateway.post("/v1/messages/nonsense", DEMO, &hello("openai")).await).0, 404);
    let counted = gateway.post("/v1/messages/count_tokens", DEMO, &hello("openai")).await;
    assert_eq!((error(&counted).0, error(&counted).1), (404, "not_found_error".to_owned()));
    let mut typed = hello("openai");
    typed["tools"] = json!([{"name": "a", "input_schema": {"type": "object"}}, {"type": "web_search_20250305", "name": "web_search"}]);
    let typed = error(&gateway.post("/v1/messages", DEMO, &typed).await);
    assert!(typed.0 == 400 && typed.2.contains("`tools[1]`"), "{typed:?}");
    let mut image = hello("deepseek");
    image["messages"][0]["content"] =
        json!([{"type": "text", "text": "a"}, {"type": "image", "source": {"type": "url", "url": "https://h/a.png"}}]);
    let image = error(&gateway.post("/v1/messages", DEMO, &image).await);
    assert!(image.0 == 400 && image.2.contains("`messages[0].content[1]`"), "{image:?}");
    let budget = async || gateway.post("/v1/messages", DEMO, &hello("budget")).await;
    assert_eq!(budget().await.status(), 200);
    let spent = budget().await;
    assert_eq!((error(&spent).0, error(&spent).1, spent.header("x-should-retry")), (402, "billing_error".to_owned(), "false"));
    let chat = gateway.chat_as(&[("authorization", "Bearer tg-demo"), ("anthropic-version", "2023-06-01")], &hello("nobody")).await;
    assert_eq!(chat.json()["error"]["code"], 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_are_listed_in_the_form_that_the_client_speaks() {
    let sim = Sim::start().await;
    let gateway = demo_with(&sim, "").await;
    let list = gateway.get("/v1/models?limit=1000", DEMO).await.json();
    let first = &list["data"][0];
    assert_eq!((&first["type"], &list["has_more"], &list["first_id"]), (&json!("model"), &json!(false), &first["id"]));
    assert_eq!(gateway.get("/v1/models/openai", DEMO).await.json()["display_name"], "openai");
    assert_eq!(gateway.get("/v1/models", &DEMO[..1]).await.json()["object"], "list");
    for (path, headers, status) in [("/v1/models", DEMO, 200), ("/v1/models/nobody", DEMO, 404), ("/v1/models", &DEMO[1..], 401)] {
        let answer = gateway.get(path, headers).await;
        assert_eq!((answer.status(), answer.header("request-id")), (status, answer.header("x-request-id")), "{path}");
        assert_eq!(answer.header("request-id").len(), 36);
        assert_eq!(status >= 400, answer.json()["type"] == "error", "{path}");
    }
    let mut conn = gateway.connect().await;
    for path in ["/", "/api/hello"] {
        conn.send(&request("HEAD", path, &[], None)).await.unwrap();
        assert_eq!(conn.head().await.unwrap().status, 200);
    }
    assert!(!gateway.output.text().contains("\"path\":\"/api/hello\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_gets_pings_and_a_break_is_an_error_event() {
    let manual = Manual::start().await;
    let gateway = Gateway::start(&manual.config("keep_alive: 100ms", "retry: { attempts: 1 }")).await;
    let mut conn = gateway.connect().await;
    let mut body = streamed("hand");
    body["top_k"] = 40.into();
    conn.send(&request("POST", "/v1/messages", &[], Some(body.to_string().as_bytes()))).await.unwrap();
    let mut exchange = manual.accept().await;
    let head = conn.head().await.unwrap();
    assert_eq!((head.status, head.get("x-tidegate-provider")), (200, Some("manual")), "only this one can answer");
    assert_eq!(head.get("x-tidegate-dropped-params"), Some("top_k"));
    exchange.begin().await;
    exchange.say("Half an").await;
    exchange.close().await;
    let mut text = String::new();
    while let Some(piece) = conn.piece().await.unwrap() {
        text += std::str::from_utf8(&piece).unwrap();
    }
    let names: Vec<&str> = text.split_terminator("\n\n").map(|event| event.lines().next().unwrap()).collect();
    assert_eq!(names[0], "event: ping", "{text}");
    let own: Vec<&str> = names.into_iter().filter(|name| *name != "event: ping").collect();
    assert_eq!(own, ["event: message_start", "event: content_block_start", "event: content_block_delta", "event: error"], "{text}");
    assert!(text.contains("\"type\":\"api_error\""), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_moves_between_targets_and_state_goes_back_only_to_its_maker() {
    let sim = Sim::start().await;
    let gateway = demo_with(&sim, "").await;
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let mut turn = json!({"model": "google_ai_studio", "max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tools": [{"name": "get_weather", "input_schema": schema}], "messages": [{"role": "user", "content": "What is the weather in Paris?"}]});
    let called = gateway.post("/v1/messages", DEMO, &turn).await.json();
    let blocks = called["content"].as_array().unwrap().clone();
    let signature = blocks.iter().find(|block| block["type"] == "thinking").unwrap()["signature"].as_str().unwrap().to_owned();
    let call = blocks.iter().find(|block| block["type"] == "tool_use").unwrap()["id"].clone();
    let messages = turn["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": blocks}));
    messages.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call, "content": "sunny"}]}));
    // The simulator of Gemini refuses a turn without its signature.
    assert_eq!(gateway.post("/v1/messages", DEMO, &turn).await.status(), 200);
    for route in ["anthropic", "bedrock", "openai", "deepseek"] {
        turn["model"] = route.into();
        turn["thinking"] = json!({"type": "disabled"});
        let answer = gateway.post("/v1/messages", DEMO, &turn).await;
        assert_eq!(answer.status(), 200, "{route}: {}", answer.text());
    }
    let elsewhere = sim.seen().into_iter().filter(|seen| !seen.path.contains("google_ai_studio"));
    assert!(elsewhere.filter(|seen| format!("{:?}", seen.body).contains(&signature)).count() == 0, "a state reached another provider");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spliced_target_is_replaced_by_a_translated_one_and_the_other_way_round() {
    let sim = Sim::start().await;
    let gateway = with_fallbacks(&sim).await;
    for (route, provider) in [("a", "gpt"), ("b", "claude")] {
        for body in [hello(route), streamed(route)] {
            let answer = gateway.post("/v1/messages", &[], &body).await;
            assert_eq!((answer.status(), answer.header("x-tidegate-provider")), (200, provider), "{}", answer.text());
            let text = answer.text();
            assert!(text.contains("\"end_turn\"") && !text.contains("\"error\""), "{text}");
        }
    }
}
