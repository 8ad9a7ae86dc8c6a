//! Faults of translation that users of gateways have met, each at other providers than the one where it was reported.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use serde_json::{Value, json};
use std::sync::Arc;
use tidegate::config;
use tidegate::dialect::shared::adjust::{self, Refused};
use tidegate::dialect::shared::blame::{Sent, paths};
use tidegate::dialect::{self, Outgoing};
use tidegate::error::ApiError;
use tidegate::frame::Framing;
use tidegate::frame::aws_event_stream::write_message;
use tidegate::front::chat::chunk::UsagePlace;
use tidegate::front::chat::head::Head;
use tidegate::llm::envelope::{ChatRequest, Parsed};
use tidegate::llm::failure::{FailureClass, Fault, ProviderError};
use tidegate::llm::state::{Seal, Sealer};
use tidegate::operation::Beside;
use tidegate::operation::Operation;
use tidegate::provider::{ModelName, Target};
use tidegate::relay::{Form, Relay};
use tidegate::route::settings::Route;
use uuid::Uuid;

const ANTHROPIC: &str = "{ kind: anthropic, api_key: k }";
const BEDROCK: &str = "{ kind: bedrock, region: us-east-1, api_key: k }";
const VERTEX: &str = "{ kind: vertex, project: p, location: l, access_token: t }";
const GEMINI: &str = "{ kind: google_ai_studio, api_key: k }";
const MISTRAL: &str = "{ kind: mistral, api_key: k }";
const SAGEMAKER: &str = "{ kind: sagemaker, region: us-east-1 }";
const TOGETHER: &str = "{ kind: together, api_key: k }";
const FIREWORKS: &str = "{ kind: fireworks, api_key: k }";
const DEEPSEEK: &str = "{ kind: deepseek, api_key: k }";
const XAI: &str = "{ kind: xai, api_key: k }";
const OPENAI: &str = "{ kind: openai, api_key: k }";
const VLLM: &str = "{ kind: vllm, base_url: \"http://127.0.0.1:1/v1\" }";
const LLAMA_CPP: &str = "{ kind: llama_cpp, base_url: \"http://127.0.0.1:1/v1\" }";

const CLAUDE_ON_BEDROCK: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const CLAUDE_ON_VERTEX: &str = "anthropic/claude-sonnet-4-5";

/// A whole answer that says a text.
type Answer<'a> = &'a dyn Fn(&str) -> Value;

/// A target, and the key that seals what it needs back.
struct At {
    route: Arc<Route>,
    seal: Seal,
}

/// The target of a provider and a model; a comma in the model begins further keys.
fn at(provider: &str, model: &str) -> At {
    let (model, more) = model.split_once(',').unwrap_or((model, ""));
    let yaml = format!(
        "auth: none\nproviders: {{ p: {provider} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: \"{model}\", {more} }} ] }} }}"
    );
    let loaded = config::parse(&yaml, "siblings", &|_| None).unwrap_or_else(|problems| panic!("{yaml}: {problems:?}"));
    At { route: loaded.snapshot.routes[0].clone(), seal: Seal::new(Arc::new(Sealer::new(&[7; 32]).unwrap()), "team".into(), "p".into()) }
}

fn request(more: Value) -> Value {
    let mut body = json!({"model": "r", "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

impl At {
    fn target(&self) -> &Target {
        &self.route.targets[0]
    }

    fn model(&self) -> &str {
        let (ModelName::Fixed(name) | ModelName::Pattern(name)) = &self.target().model;
        name
    }

    fn encode(&self, more: Value) -> Result<Outgoing, ApiError> {
        let parsed = Parsed::parse(request(more).to_string().into())?;
        let request =
            ChatRequest { parsed: &parsed, params: &self.route.params, system: None, model: self.model(), seal: Some(&self.seal) };
        Operation::Chat.encode(&request, &Beside::default(), self.target())
    }

    /// The body that is sent.
    fn sent(&self, more: Value) -> Value {
        let out = self.encode(more).unwrap_or_else(|error| panic!("{}: {error:?}", self.model()));
        serde_json::from_slice(&out.body.joined()).unwrap()
    }

    /// The field that a 400 names.
    fn refused(&self, more: Value) -> String {
        let error = self.encode(more).err().unwrap();
        assert_eq!(error.status, 400);
        let param = error.param.unwrap().into_owned();
        assert!(error.message.contains(&param), "{}", error.message);
        param
    }

    /// What a client gets of a whole answer.
    fn whole(&self, more: Value, answer: &Value) -> Result<Value, Fault> {
        let out = self.encode(more).unwrap();
        let mut relay =
            Relay::new(None, out.decoder, Head::new(Uuid::nil(), Uuid::nil(), 0, "r"), Form::Completion, Some(self.seal.clone()));
        let (_, pushed) = relay.push(answer.to_string().as_bytes());
        pushed?;
        let (bytes, end) = relay.end();
        end.map(|()| serde_json::from_slice(&bytes).unwrap())
    }

    /// The chunks that a client gets of a stream.
    fn stream(&self, more: Value, bytes: &[u8]) -> (Vec<Value>, Result<(), Fault>) {
        let mut more = more;
        more["stream"] = json!(true);
        let out = self.encode(more).unwrap();
        let form = Form::Chunks(UsagePlace::Separate);
        let mut relay =
            Relay::new(Some(out.framing), out.decoder, Head::new(Uuid::nil(), Uuid::nil(), 0, "r"), form, Some(self.seal.clone()));
        let (mut told, mut result) = relay.push(bytes);
        if result.is_ok() {
            let (more, end) = relay.end();
            told.extend(more);
            result = end;
        }
        let text = String::from_utf8(told).unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        (data.map(|data| serde_json::from_str(data).unwrap()).collect(), result)
    }

    /// What the client is told in `param` of a provider's refusal.
    fn blames(&self, more: Value, status: u16, refusal: &str) -> Option<String> {
        let parsed = Parsed::parse(request(more.clone()).to_string().into()).unwrap();
        let out = self.encode(more).unwrap();
        let dialect = self.target().dialect();
        let error = dialect.read_error(status, &http::HeaderMap::new(), refusal.as_bytes());
        let names = dialect.names(self.model());
        let sent = Sent { parsed: &parsed, body: &out.body, quirks: dialect.quirks(), names, is_responses: false };
        let own = error.param.as_deref().map(|text| dialect::shared::blame::Path { text, sure: true });
        own.into_iter().chain(paths(&error.message)).find_map(|path| sent.in_clients_words(path))
    }

    fn class(&self, status: u16, refusal: &str) -> FailureClass {
        self.target().dialect().read_error(status, &http::HeaderMap::new(), refusal.as_bytes()).judged()
    }
}

/// All texts of the content of a stream.
fn content(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

fn sse(events: &[Value]) -> Vec<u8> {
    events.iter().map(|event| format!("data: {event}\n\n")).collect::<String>().into_bytes()
}

/// OpenAI's chunks; `[DONE]` follows.
fn chunks(deltas: &[(Value, Option<&str>)]) -> Vec<u8> {
    let chunk = |(delta, finish): &(Value, Option<&str>)| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    [sse(&deltas.iter().map(chunk).collect::<Vec<_>>()), b"data: [DONE]\n\n".to_vec()].concat()
}

/// Converse's events.
fn frames(events: &[(&str, Value)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, payload) in events {
        write_message(&mut bytes, &[(":event-type", kind), (":message-type", "event")], payload.to_string().as_bytes());
    }
    bytes
}

/// Claude's events around these.
fn claude(events: &[Value]) -> Vec<u8> {
    let start =
        json!({"type": "message_start", "message": {"id": "m", "type": "message", "usage": {"input_tokens": 3, "output_tokens": 1}}});
    let stop = [
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}),
        json!({"type": "message_stop"}),
    ];
    sse(&[[start].as_slice(), events, stop.as_slice()].concat())
}

fn text_block(text: &str) -> Vec<Value> {
    vec![
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        json!({"type": "content_block_stop", "index": 0}),
    ]
}

fn tool(parameters: Value) -> Value {
    json!({"type": "function", "function": {"name": "f", "parameters": parameters}})
}

fn format(schema: Value) -> Value {
    json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "strict": true, "schema": schema}}})
}

#[test]
fn a_setting_stands_in_one_place() {
    let forced = json!({"tools": [tool(json!({"type": "object", "properties": {}}))], "parallel_tool_calls": false,
        "tool_choice": {"type": "function", "function": {"name": "f"}}});
    let required =
        json!({"tools": [tool(json!({"type": "object", "properties": {}}))], "parallel_tool_calls": false, "tool_choice": "required"});
    let sent = at(VERTEX, CLAUDE_ON_VERTEX).sent(forced.clone());
    assert_eq!(sent["tool_choice"], json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true}));
    let sent = at(BEDROCK, CLAUDE_ON_BEDROCK).sent(required);
    assert_eq!(sent["additionalModelRequestFields"]["tool_choice"], json!({"type": "any", "disable_parallel_tool_use": true}));
    assert!(sent["toolConfig"]["toolChoice"].is_null() && sent["tool_choice"].is_null(), "{sent}");
    let both = json!({"max_tokens": 5, "max_completion_tokens": 7});
    for provider in [OPENAI, TOGETHER, MISTRAL] {
        let sent = at(provider, "m").sent(both.clone());
        assert_eq!((sent.to_string().matches(":7").count(), sent.to_string().matches(":5").count()), (1, 0), "{sent}");
    }
}

#[test]
fn a_hint_fails_no_request() {
    let user = json!({"user": "+49 30 901820", "metadata": {"a b?": "ü"}});
    let claude = at(VERTEX, CLAUDE_ON_VERTEX).sent(user.clone());
    assert_eq!(claude["metadata"]["user_id"].as_str().map(str::len), Some(64));
    let nova = at(BEDROCK, "amazon.nova-lite-v1:0").encode(user.clone()).unwrap();
    assert!(nova.dropped.iter().any(|name| name == "metadata"), "{:?}", nova.dropped);
    assert!(at(TOGETHER, "m").sent(user)["user"].is_null());
}

#[test]
fn schemas_have_what_the_target_knows() {
    let schema = json!({"type": "object", "properties": {"a": {"oneOf": [{"type": "string"}, {"type": "integer"}]}, "b": {"not": {"const": 1}}},
        "required": ["a", "b"], "additionalProperties": false, "patternProperties": {"^x": {}}});
    for (provider, model) in [(VERTEX, CLAUDE_ON_VERTEX), (BEDROCK, CLAUDE_ON_BEDROCK), (MISTRAL, "m"), (OPENAI, "gpt-5")] {
        let out = at(provider, model).encode(format(schema.clone())).unwrap();
        let body = String::from_utf8(out.body.joined().to_vec()).unwrap();
        assert!(!body.contains("\"patternProperties\":{") && !body.contains("\"oneOf\":["), "{model}: {body}");
        assert!(out.adjusted.iter().any(|name| name == "response_format"), "{model}: {:?}", out.adjusted);
    }
    let union = json!({"tools": [tool(json!({"anyOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"type": "object", "properties": {}}]}))]});
    for (provider, model) in [(VERTEX, CLAUDE_ON_VERTEX), (BEDROCK, "amazon.nova-lite-v1:0")] {
        let sent = at(provider, model).sent(union.clone());
        let schema = [&sent["tools"][0]["input_schema"], &sent["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]];
        let schema = schema.into_iter().find(|schema| schema.is_object()).unwrap();
        assert!(schema["anyOf"].is_null() && schema["type"] == "object", "{model}: {schema}");
    }
}

#[test]
fn a_budget_is_below_the_limit_on_every_cloud() {
    for (provider, model) in
        [(VERTEX, CLAUDE_ON_VERTEX), (BEDROCK, "anthropic.claude-3-7-sonnet-20250219-v1:0"), (ANTHROPIC, "claude-opus-4-1")]
    {
        let sent = at(provider, model).sent(json!({"reasoning_effort": "high"}));
        let fields = if provider == BEDROCK { &sent["additionalModelRequestFields"] } else { &sent };
        let limit = if provider == BEDROCK { &sent["inferenceConfig"]["maxTokens"] } else { &sent["max_tokens"] };
        assert!(fields["thinking"]["budget_tokens"].as_u64().unwrap() < limit.as_u64().unwrap(), "{sent}");
    }
}

#[test]
fn what_a_provider_needs_back_goes_back() {
    let tools = json!({"tools": [tool(json!({"type": "object", "properties": {}}))]});
    let kimi = "{ kind: openai_compatible, base_url: \"http://127.0.0.1:1/v1\", returns: [reasoning] }";
    let call = json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    for provider in [kimi, DEEPSEEK] {
        let there = at(provider, "m");
        let answer = chunks(&[(json!({"reasoning_content": "because"}), None), (json!({"tool_calls": [call]}), Some("tool_calls"))]);
        let (told, end) = there.stream(tools.clone(), &answer);
        end.unwrap();
        let id = told.iter().find_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["id"].as_str()).unwrap().to_owned();
        let mut next = tools.clone();
        next["messages"] = json!([{"role": "user", "content": "Hi"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": id, "content": "1"}]);
        let sent = there.sent(next);
        let turn = &sent["messages"][1];
        assert_eq!((&turn["reasoning_content"], &turn["tool_calls"][0]["id"]), (&json!("because"), &json!("c1")), "{sent}");
        assert_eq!(sent["messages"][2]["tool_call_id"], "c1");
    }
}

#[test]
fn reasoning_goes_back_under_the_name_that_the_server_reads() {
    let history = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "c"}, {"role": "user", "content": "d"}]});
    let groq = "{ kind: openai_compatible, base_url: \"http://127.0.0.1:1/v1\", reasoning_field: reasoning }";
    let turn = |provider: &str, model: &str| at(provider, model).sent(history.clone())["messages"][1].clone();
    assert_eq!(turn(groq, "m"), json!({"role": "assistant", "content": "b", "reasoning": "c"}));
    assert_eq!(turn(VLLM, "m, think_tags: split")["content"], "<think>\nc\n</think>\n\nb");
    assert!(turn(OPENAI, "gpt-5")["reasoning_content"].is_null());
}

#[test]
fn calls_have_an_identity_however_they_are_streamed() {
    let tools = json!({"tools": [tool(json!({"type": "object", "properties": {}}))]});
    let call = |arguments: &str| json!({"index": 0, "function": {"name": "f", "arguments": arguments}});
    let two = chunks(&[
        (json!({"tool_calls": [call("{\"a\":1}")]}), None),
        (json!({"tool_calls": [call("{\"a\":2}")]}), None),
        (json!({}), Some("tool_calls")),
    ]);
    let object = chunks(&[(json!({"tool_calls": call("{\"a\":1}")}), None), (json!({}), Some("stop"))]);
    for provider in [TOGETHER, XAI, VLLM] {
        let ids = |bytes: &[u8]| {
            let (told, end) = at(provider, "m").stream(tools.clone(), bytes);
            end.unwrap();
            assert_eq!(told.iter().rev().find_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()), Some("tool_calls"));
            let calls = told.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array()).flatten();
            calls.filter_map(|call| Some((call["index"].as_u64()?, call["id"].as_str()?.to_owned()))).collect::<Vec<_>>()
        };
        let parallel = ids(&two);
        assert!(parallel.len() == 2 && parallel[0].0 == 0 && parallel[1].0 == 1 && parallel[0].1 != parallel[1].1, "{parallel:?}");
        assert_eq!(ids(&object).len(), 1);
    }
}

#[test]
fn errors_inside_of_a_stream_are_read_in_every_dialect() {
    let failures = [
        (r#"{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}"#, FailureClass::RateLimited),
        (r#"{"base_resp":{"status_code":1002,"status_msg":"slow down"}}"#, FailureClass::RateLimited),
        (r#"{"error_code":400,"error_msg":"slow down"}"#, FailureClass::BadRequest),
    ];
    for (provider, model) in [(ANTHROPIC, "claude-sonnet-4-5"), (VERTEX, CLAUDE_ON_VERTEX), (GEMINI, "gemini-2.5-pro"), (MISTRAL, "m")] {
        for (json, class) in failures {
            let (_, end) = at(provider, model).stream(json!({}), format!("data: {json}\n\n").as_bytes());
            let Err(Fault::Provider(error)) = end else { panic!("{model} {json}: {end:?}") };
            assert_eq!((error.judged(), error.message.as_str()), (class, "slow down"), "{model} {json}");
        }
    }
}

/// The fields that a request is written again without, behind this refusal.
fn left_out(asked: &ChatRequest<'_>, refusal: &ProviderError) -> Vec<&'static str> {
    let given = asked.fields().iter().filter(|field| asked.raw(*field).is_some()).collect();
    let refused = Refused { stream: asked.stream(), max_tokens: None, strict: false, given };
    adjust::adjustments(refusal, &refused).into_iter().map(|one| one.field().name()).collect()
}

#[test]
fn what_is_added_can_be_left_out() {
    let stream = json!({"stream": true, "stream_options": {"include_usage": true}});
    for kind in ["vllm", "sglang", "openai_compatible"] {
        let provider = format!("{{ kind: {kind}, base_url: \"http://127.0.0.1:1/v1\", inject_stream_options: false }}");
        assert!(at(&provider, "m").sent(json!({"stream": true}))["stream_options"].is_null(), "{kind}");
    }
    let parsed = Parsed::parse(request(stream).to_string().into()).unwrap();
    let there = at(FIREWORKS, "m");
    let asked = ChatRequest { parsed: &parsed, params: &there.route.params, system: None, model: "m", seal: None };
    for body in [
        r#"{"detail":[{"loc":["body","stream_options"],"msg":"extra fields not permitted"}]}"#,
        r#"{"error":"unknown field `include_usage`"}"#,
    ] {
        let refusal = there.target().dialect().read_error(422, &http::HeaderMap::new(), body.as_bytes());
        assert_eq!(left_out(&asked, &refusal), ["stream_options"], "{body}");
    }
}

#[test]
fn a_family_is_asked_for_what_it_has() {
    let forced = json!({"tools": [tool(json!({"type": "object", "properties": {}}))], "tool_choice": "required"});
    assert_eq!(at(BEDROCK, "us.meta.llama3-3-70b-instruct-v1:0").refused(forced.clone()), "tool_choice");
    assert_eq!(at(BEDROCK, "eu.mistral.pixtral-large-2502-v1:0").refused(forced.clone()), "tool_choice");
    assert!(at(BEDROCK, "amazon.nova-lite-v1:0").sent(forced)["toolConfig"]["toolChoice"]["any"].is_object());
}

#[test]
fn what_cannot_be_shown_is_an_error_or_an_extension() {
    let png = "iVBORw0KGgo=";
    let image = json!([{"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{png}")}}]);
    let nova = at(BEDROCK, "amazon.nova-pro-v1:0");
    let whole = |block: Value| nova.whole(json!({}), &json!({"output": {"message": {"content": [block]}}, "stopReason": "end_turn"}));
    let told = whole(json!({"image": {"format": "png", "source": {"bytes": png}}})).unwrap();
    assert_eq!(told["choices"][0]["message"]["images"], image);
    let (told, end) = nova.stream(
        json!({}),
        &frames(&[
            ("messageStart", json!({"role": "assistant"})),
            ("contentBlockStart", json!({"contentBlockIndex": 0, "start": {"image": {"format": "png"}}})),
            ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"image": {"source": {"bytes": "iVBORw=="}}}})),
            ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"image": {"source": {"bytes": "DQoaCg=="}}}})),
            ("contentBlockStop", json!({"contentBlockIndex": 0})),
            ("messageStop", json!({"stopReason": "end_turn"})),
            ("metadata", json!({"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}})),
        ]),
    );
    end.unwrap();
    assert_eq!(told.iter().find_map(|chunk| chunk["choices"][0]["delta"].get("images")), Some(&image));
    for block in ["video", "audio", "document", "searchResult"] {
        let Err(Fault::Broken(what)) = whole(json!({block: {}})) else { panic!("{block}") };
        assert!(what.contains(block), "{what}");
    }
    let Err(Fault::Provider(error)) = whole(json!({"image": {"error": {"message": "no image today"}}})) else { panic!() };
    assert_eq!(error.message, "no image today");

    // A link is an annotation, another source an extension, whole and streamed alike.
    let link =
        json!([{"type": "url_citation", "url_citation": {"start_index": 0, "end_index": 0, "url": "https://a.example", "title": "A"}}]);
    let web = json!({"title": "A", "location": {"web": {"url": "https://a.example"}}});
    let page = json!({"title": "B", "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}}});
    let told = whole(json!({"citationsContent": {"content": [{"text": "x"}], "citations": [web, page]}})).unwrap();
    let message = &told["choices"][0]["message"];
    assert_eq!((&message["content"], &message["annotations"], &message["citations"]), (&json!("x"), &link, &json!([page])));
    let (told, end) = nova.stream(
        json!({}),
        &frames(&[
            ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": "x"}})),
            ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"citation": web}})),
            ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"citation": page}})),
            ("messageStop", json!({"stopReason": "end_turn"})),
        ]),
    );
    end.unwrap();
    let delta = |key: &str| told.iter().find_map(|chunk| chunk["choices"][0]["delta"].get(key).cloned());
    assert_eq!((delta("annotations"), delta("citations")), (Some(link.clone()), Some(json!([page]))));

    for (provider, model) in [(ANTHROPIC, "claude-sonnet-4-5"), (VERTEX, CLAUDE_ON_VERTEX)] {
        let there = at(provider, model);
        let site = json!({"type": "web_search_result_location", "url": "https://a.example", "title": "A", "cited_text": "x"});
        let chars = json!({"type": "char_location", "document_title": "B", "cited_text": "x"});
        let found = json!({"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"type": "web_search_result", "url": "https://b.example", "title": "B", "encrypted_content": "e"}]});
        let results = json!([{"url": "https://b.example", "title": "B"}]);
        let text = json!({"type": "text", "text": "x", "citations": [site, chars]});
        let told = there.whole(json!({}), &json!({"type": "message", "content": [found, text], "stop_reason": "end_turn"})).unwrap();
        let message = &told["choices"][0]["message"];
        assert_eq!((&message["annotations"], &message["citations"], &message["search_results"]), (&link, &json!([chars]), &results));
        let cite = |citation: &Value| json!({"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": citation}});
        let events = [
            json!({"type": "content_block_start", "index": 0, "content_block": found}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "x"}}),
            cite(&site),
            cite(&chars),
        ];
        let (told, end) = there.stream(json!({}), &claude(&events));
        end.unwrap();
        let delta = |key: &str| told.iter().find_map(|chunk| chunk["choices"][0]["delta"].get(key).cloned());
        assert_eq!(
            (delta("annotations"), delta("citations"), delta("search_results")),
            (Some(link.clone()), Some(json!([chars])), Some(results))
        );
        let Err(Fault::Broken(what)) =
            there.whole(json!({}), &json!({"type": "message", "content": [{"type": "audio"}], "stop_reason": "end_turn"}))
        else {
            panic!()
        };
        assert!(what.contains("audio"), "{what}");
    }

    let grounded = json!({"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP", "groundingMetadata": {
        "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}, {"web": {"uri": "https://b.example", "title": "B"}}],
        "groundingSupports": [{"segment": {"endIndex": 1}, "groundingChunkIndices": [0]}]}}]});
    for (provider, model) in [(GEMINI, "gemini-2.5-pro"), (VERTEX, "gemini-2.5-flash")] {
        let there = at(provider, model);
        let told = there.whole(json!({}), &grounded).unwrap();
        let message = &told["choices"][0]["message"];
        assert_eq!(message["annotations"][0]["url_citation"]["end_index"], 1);
        assert_eq!(message["search_results"], json!([{"url": "https://b.example", "title": "B"}]));
        let (told, end) = there.stream(json!({}), &sse(std::slice::from_ref(&grounded)));
        end.unwrap();
        assert!(told.iter().any(|chunk| chunk["choices"][0]["delta"]["search_results"].is_array()), "{told:?}");
        let video = json!({"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "video/mp4", "data": "AA=="}}]}, "finishReason": "STOP"}]});
        assert!(matches!(there.whole(json!({}), &video), Err(Fault::Broken(what)) if what.contains("video/mp4")));
    }
}

#[test]
fn instructions_alone_are_answered_by_all() {
    let alone = json!({"messages": [{"role": "system", "content": "Say hello."}]});
    for (provider, model) in [
        (VERTEX, CLAUDE_ON_VERTEX),
        (BEDROCK, "amazon.nova-lite-v1:0"),
        (GEMINI, "gemini-2.5-pro"),
        (MISTRAL, "m"),
        (SAGEMAKER, "llama3, format: tgi"),
        (OPENAI, "gpt-5"),
    ] {
        assert!(at(provider, model).sent(alone.clone()).to_string().contains("Say hello."), "{model}");
    }
    let behind =
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "system", "content": "c"}]});
    for (provider, model, list) in
        [(VERTEX, CLAUDE_ON_VERTEX, "messages"), (GEMINI, "gemini-2.5-pro", "contents"), (MISTRAL, "m", "messages")]
    {
        let sent = at(provider, model).sent(behind.clone());
        assert_eq!(sent[list].as_array().unwrap().last().unwrap()["role"], "user", "{sent}");
    }
}

#[test]
fn data_uris_are_what_they_are() {
    let part = |url: &str| json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": url}}]}]});
    let jpeg = part("data:image/png;base64,/9j/ 4AAQ\n");
    assert!(at(GEMINI, "gemini-2.5-pro").sent(jpeg.clone()).to_string().contains("\"image/jpeg\""));
    assert_eq!(at(BEDROCK, "amazon.nova-lite-v1:0").sent(jpeg)["messages"][0]["content"][1]["image"]["format"], "jpeg");
    for (provider, model) in [(GEMINI, "gemini-2.5-pro"), (BEDROCK, CLAUDE_ON_BEDROCK), (VERTEX, CLAUDE_ON_VERTEX), (MISTRAL, "m")] {
        assert_eq!(at(provider, model).refused(part("data:image/png;base64,a*b")), "messages[0].content[1]", "{model}");
    }
}

#[test]
fn null_is_absence() {
    let nulls = json!({
        "tools": [{"type": "function", "function": {"name": "f", "description": null, "parameters": {"type": "object", "properties": {"a": {"default": null}}}, "strict": null}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}, "allowed_tools": null},
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "description": null, "strict": null, "schema": {"type": "object", "properties": {}}}},
        "stream": true, "stream_options": {"include_usage": true, "include_obfuscation": null}, "stop": null, "user": null, "temperature": null,
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": null}}], "name": null},
            {"role": "assistant", "content": null, "refusal": null, "audio": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":null}"}, "index": null}]},
            {"role": "tool", "tool_call_id": "c", "content": "1"}],
    });
    for (provider, model) in
        [(OPENAI, "gpt-4o"), (TOGETHER, "m"), (FIREWORKS, "m"), (VLLM, "m"), (MISTRAL, "m"), (XAI, "grok-4"), (VERTEX, "meta/llama")]
    {
        let sent = at(provider, model).sent(nulls.clone()).to_string();
        let left = sent.replace("\"default\":null", "").replace("\"content\":null", "").replace("\\\"a\\\":null", "");
        assert!(!left.contains(":null"), "{model}: {left}");
    }
    for (provider, model) in [(ANTHROPIC, "claude-sonnet-4-5"), (GEMINI, "gemini-2.5-pro"), (BEDROCK, CLAUDE_ON_BEDROCK)] {
        let mut some = nulls.clone();
        some["messages"][0]["content"] = json!("Hi");
        some.as_object_mut().unwrap().remove("stream");
        let sent = at(provider, model).sent(some).to_string();
        assert!(!sent.replace("\"default\":null", "").replace("\"a\":null", "").contains(":null"), "{model}: {sent}");
    }
}

#[test]
fn usage_does_not_fall() {
    let used = |prompt: u64, completion: u64| json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion});
    let said = json!({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}], "usage": used(7, 3)});
    let zero = json!({"choices": [], "usage": used(0, 0)});
    for provider in [XAI, FIREWORKS, VLLM] {
        let (told, end) = at(provider, "m").stream(json!({"stream_options": {"include_usage": true}}), &sse(&[said.clone(), zero.clone()]));
        end.unwrap();
        assert_eq!(told.last().unwrap()["usage"]["total_tokens"], 10, "{provider}");
    }
    let gemini = |prompt: u64, said: u64| json!({"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": prompt, "candidatesTokenCount": said, "totalTokenCount": prompt + said}});
    let (told, end) =
        at(GEMINI, "gemini-2.5-pro").stream(json!({"stream_options": {"include_usage": true}}), &sse(&[gemini(7, 3), gemini(0, 0)]));
    end.unwrap();
    assert_eq!(told.last().unwrap()["usage"]["total_tokens"], 10);
}

#[test]
fn an_unknown_end_is_a_stop_behind_words_and_a_failure_behind_none() {
    let gemini = |text: &str| json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "BRAND_NEW"}]});
    let claude = |text: &str| json!({"type": "message", "content": [{"type": "text", "text": text}], "stop_reason": "brand_new"});
    let converse = |text: &str| json!({"output": {"message": {"content": [{"text": text}]}}, "stopReason": "brand_new"});
    let openai = |text: &str| json!({"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "brand_new"}]});
    let tgi = |text: &str| json!([{"generated_text": text, "details": {"finish_reason": "brand_new"}}]);
    let all: [(&str, &str, Answer<'_>); 6] = [
        (GEMINI, "gemini-2.5-pro", &gemini),
        (ANTHROPIC, "claude-sonnet-4-5", &claude),
        (BEDROCK, "amazon.nova-lite-v1:0", &converse),
        (MISTRAL, "m", &openai),
        (TOGETHER, "m", &openai),
        (SAGEMAKER, "llama3, format: tgi", &tgi),
    ];
    for (provider, model, answer) in all {
        let told = at(provider, model).whole(json!({}), &answer("Hi")).unwrap();
        assert_eq!(told["choices"][0]["finish_reason"], "stop", "{model}");
        assert!(at(provider, model).whole(json!({}), &answer("")).is_err(), "{model}");
    }
}

#[test]
fn an_unpaid_account_is_the_operators() {
    for (provider, model, status, body) in [
        (TOGETHER, "m", 429, r#"{"error":{"message":"x","type":"insufficient_quota","code":"insufficient_quota"}}"#),
        (VLLM, "m", 429, r#"{"error":{"message":"x","type":"exceeded_current_quota_error"}}"#),
        (DEEPSEEK, "m", 402, r#"{"error":{"message":"Insufficient Balance"}}"#),
        (
            ANTHROPIC,
            "claude-sonnet-4-5",
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
        ),
        (
            XAI,
            "grok-4",
            429,
            r#"{"code":"resource-exhausted","error":"Your team has used all available credits or reached its monthly spending limit."}"#,
        ),
    ] {
        assert_eq!(at(provider, model).class(status, body), FailureClass::Credential, "{body}");
    }
}

#[test]
fn streams_are_read_as_the_standards_say() {
    let mut broken = claude(&text_block("a?b"));
    let at_mark = broken.iter().position(|b| *b == b'?').unwrap();
    broken[at_mark] = 0xff;
    let (told, end) = at(ANTHROPIC, "claude-sonnet-4-5").stream(json!({}), &broken);
    assert_eq!((content(&told), end), ("a\u{fffd}b".to_owned(), Ok(())));
    let (told, end) = at(BEDROCK, CLAUDE_ON_BEDROCK).stream(
        json!({}),
        &frames(&[
            ("contentBlockDelta", json!({"contentBlockIndex": 4, "delta": {"text": "x"}})),
            ("messageStop", json!({"stopReason": "end_turn"})),
        ]),
    );
    assert_eq!((content(&told), end), ("x".to_owned(), Ok(())));
    let history = json!({"tools": [tool(json!({"type": "object", "properties": {}}))], "messages": [{"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":\"\\ud83d\"}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "1"}]});
    for (provider, model) in [(GEMINI, "gemini-2.5-pro"), (BEDROCK, CLAUDE_ON_BEDROCK)] {
        assert!(!at(provider, model).sent(history.clone()).to_string().contains("ud83d"), "{model}");
    }
}

#[test]
fn what_asks_for_nothing_is_left_out() {
    let idle = json!({"tool_choice": "auto", "parallel_tool_calls": false});
    for (provider, model) in [(OPENAI, "gpt-5"), (DEEPSEEK, "m"), (XAI, "grok-4"), (VLLM, "m")] {
        let sent = at(provider, model).sent(idle.clone());
        assert!(sent["tool_choice"].is_null() && sent["parallel_tool_calls"].is_null(), "{sent}");
    }
    let none = json!({"reasoning_effort": "none"});
    assert_eq!(at(ANTHROPIC, "claude-opus-5").sent(none.clone())["thinking"], json!({"type": "disabled"}));
    assert_eq!(at(VERTEX, "anthropic/claude-sonnet-5-5").sent(none.clone())["thinking"], json!({"type": "between_tools"}));
    let bedrock = at(BEDROCK, "us.anthropic.claude-sonnet-5-v1:0").sent(none.clone());
    assert_eq!(bedrock["additionalModelRequestFields"]["thinking"], json!({"type": "disabled"}));
    let always = at(ANTHROPIC, "claude-opus-5-5").encode(none.clone()).unwrap();
    assert!(String::from_utf8(always.body.joined().to_vec()).unwrap().contains(r#""output_config":{"effort":"low"}"#));
    assert_eq!(always.adjusted, ["reasoning_effort"]);
    assert!(at(ANTHROPIC, "claude-opus-4-8").sent(none.clone())["thinking"].is_null());
    assert_eq!(at(TOGETHER, "m").sent(none.clone())["reasoning"], json!({"enabled": false}));
    assert_eq!(at(GEMINI, "gemini-2.5-flash").sent(none)["generationConfig"]["thinkingConfig"]["thinkingBudget"], 0);
}

#[test]
fn closed_lists_stay_closed() {
    let openai = json!({"service_tier": "", "choices": [{"index": 0, "message": {"content": "x", "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.example"}}]}, "finish_reason": "stop"}]});
    for provider in [OPENAI, XAI, TOGETHER] {
        let told = at(provider, "m").whole(json!({}), &openai).unwrap();
        assert!(told["service_tier"].is_null());
        assert_eq!(
            told["choices"][0]["message"]["annotations"][0]["url_citation"],
            json!({"start_index": 0, "end_index": 0, "url": "https://a.example", "title": ""})
        );
    }
    let claude = json!({"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn", "usage": {"service_tier": "standard", "input_tokens": 1, "output_tokens": 1}});
    assert!(at(ANTHROPIC, "claude-sonnet-4-5").whole(json!({}), &claude).unwrap()["service_tier"].is_null());
}

#[test]
fn every_spelling_of_a_constraint_is_one() {
    let choice = json!({"structured_outputs": {"choice": ["a", "b"]}});
    assert!(at(ANTHROPIC, "claude-sonnet-4-5").sent(choice.clone()).to_string().contains("\"enum\":[\"a\",\"b\"]"));
    assert!(at(GEMINI, "gemini-2.5-pro").sent(choice.clone()).to_string().contains("text/x.enum"));
    assert!(at(MISTRAL, "m").sent(choice)["response_format"]["json_schema"].is_object());
    for (provider, model) in
        [(ANTHROPIC, "claude-sonnet-4-5"), (GEMINI, "gemini-2.5-pro"), (BEDROCK, CLAUDE_ON_BEDROCK), (MISTRAL, "m"), (OPENAI, "gpt-5")]
    {
        assert_eq!(at(provider, model).refused(json!({"regex": "a+"})), "regex", "{model}");
        assert_eq!(at(provider, model).refused(json!({"ebnf": "root ::= \"a\""})), "ebnf", "{model}");
    }
}

#[test]
fn a_clients_fault_that_is_said_with_5xx_is_the_clients() {
    for (provider, model, body) in [
        (VLLM, "m", r#"{"error":{"message":"This model does not support tools","code":500}}"#),
        (LLAMA_CPP, "m", r#"{"error":{"message":"input is too large to process","type":"server_error","code":500}}"#),
        (
            SAGEMAKER,
            "chat, format: openai_chat",
            r#"{"OriginalStatusCode":500,"OriginalMessage":"{\"error\":\"image input is not supported\"}","Message":"x"}"#,
        ),
    ] {
        assert_eq!(at(provider, model).class(500, body), FailureClass::BadRequest, "{body}");
    }
}

#[test]
fn a_hint_that_is_refused_is_found() {
    let parsed = Parsed::parse(request(json!({"temperature": 0.5, "top_p": 0.5, "seed": 1, "stop": "x"})).to_string().into()).unwrap();
    for (provider, model, body, want) in [
        (
            ANTHROPIC,
            "claude-sonnet-4-5",
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"`temperature` is deprecated for this model."}}"#,
            Some("temperature"),
        ),
        (
            BEDROCK,
            CLAUDE_ON_BEDROCK,
            r#"{"message":"The model returned the following errors: `temperature` and `top_p` cannot both be specified for this model."}"#,
            Some("top_p"),
        ),
        (XAI, "grok-4", r#"{"code":"invalid-argument","error":"Argument not supported on this model: seed"}"#, Some("seed")),
        (TOGETHER, "m", r#"{"error":{"message":"stop is not supported"}}"#, None),
    ] {
        let there = at(provider, model);
        let asked = ChatRequest { parsed: &parsed, params: &there.route.params, system: None, model: there.model(), seal: None };
        let refusal = there.target().dialect().read_error(400, &http::HeaderMap::new(), body.as_bytes());
        assert_eq!(left_out(&asked, &refusal), Vec::from_iter(want), "{body}");
    }
}

#[test]
fn a_refusal_blames_the_clients_own_field() {
    let body = json!({"max_completion_tokens": 9, "tools": [tool(json!({"type": "object", "properties": {}}))],
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]});
    let claude = |message: &str| json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).to_string();
    let google = |message: &str| json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": message}}).to_string();
    for (provider, model, status, refusal, want) in [
        (ANTHROPIC, "claude-sonnet-4-5", 400, claude("messages.0.content: Field required"), "messages[1].content"),
        (VERTEX, CLAUDE_ON_VERTEX, 400, claude("tools.0.custom.input_schema.type: Field required"), "tools[0].function.parameters"),
        (BEDROCK, CLAUDE_ON_BEDROCK, 400, json!({"message": "1 validation error detected: Value at 'inferenceConfig.maxTokens' failed"}).to_string(), "max_completion_tokens"),
        (GEMINI, "gemini-2.5-pro", 400, google("Invalid value at 'generation_config.max_output_tokens'"), "max_completion_tokens"),
        (VERTEX, "gemini-2.5-flash", 400, google("* GenerateContentRequest.contents[0].parts[0].data: must be set"), "messages[1].content"),
        (MISTRAL, "m", 422, json!({"detail": [{"loc": ["body", "messages", 1, "content"], "msg": "no"}]}).to_string(), "messages[1].content"),
        (TOGETHER, "m", 400, json!({"error": {"message": "no", "param": "max_tokens"}}).to_string(), "max_completion_tokens"),
        (SAGEMAKER, "llama3, format: tgi", 424, json!({"OriginalStatusCode": 422, "OriginalMessage": "{\"error\":\"Input validation error: `max_new_tokens` must be strictly positive\",\"error_type\":\"validation\"}"}).to_string(), "max_completion_tokens"),
        (VERTEX, "meta/llama", 400, json!({"error": {"message": "Invalid 'messages[0].content'", "code": "invalid_value"}}).to_string(), "messages[0].content"),
    ] {
        let mut more = body.clone();
        if provider == SAGEMAKER {
            more.as_object_mut().unwrap().remove("tools");
        }
        assert_eq!(at(provider, model).blames(more, status, &refusal).as_deref(), Some(want), "{model}: {refusal}");
    }
}

#[test]
fn our_own_refusals_name_the_field_in_plain_words() {
    let bad = [
        (json!({"tools": {"a": 1}}), "tools"),
        (json!({"tools": [{"function": {"name": "f"}}]}), "tools[0].type"),
        (
            json!({"tools": [tool(json!({}))], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}}),
            "tool_choice.allowed_tools.tools",
        ),
        (json!({"tools": [tool(json!({}))], "tool_choice": {"type": "function", "function": {"name": 7}}}), "tool_choice.function.name"),
        (json!({"tools": [{"type": "function", "function": {"name": "f", "strict": "yes"}}]}), "tools[0].function.strict"),
        (json!({"response_format": {}}), "response_format.type"),
        (json!({"response_format": {"type": "json_schema", "json_schema": {"strict": "yes"}}}), "response_format.json_schema.strict"),
        (json!({"guided_json": "{\"a\""}), "guided_json"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"detail": "low"}}]}]}),
            "messages[0].content[0].image_url.url",
        ),
        (json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}), "messages[0].content[0].image_url"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_completion_tokens": -1}), "max_completion_tokens"),
    ];
    for (provider, model) in [(ANTHROPIC, "claude-sonnet-4-5"), (GEMINI, "gemini-2.5-pro"), (BEDROCK, CLAUDE_ON_BEDROCK)] {
        for (body, param) in &bad {
            let error = at(provider, model).encode(body.clone()).err().unwrap_or_else(|| panic!("{model}: {body}"));
            assert_eq!(error.param.as_deref(), Some(*param), "{model}: {body}: {}", error.message);
            for words in ["invalid type", "missing field", "expected ", "at line", "unknown variant"] {
                assert!(!error.message.contains(words), "{}", error.message);
            }
        }
    }
    for (provider, model) in [(OPENAI, "gpt-5"), (TOGETHER, "m"), (MISTRAL, "m"), (SAGEMAKER, "llama3, format: tgi")] {
        assert_eq!(at(provider, model).refused(json!({"max_tokens": 0})), "max_tokens", "{model}");
    }
}

#[test]
fn any_object_is_asked_for_in_words() {
    for (provider, model) in [(VERTEX, CLAUDE_ON_VERTEX), (BEDROCK, CLAUDE_ON_BEDROCK)] {
        let sent = at(provider, model).sent(json!({"response_format": {"type": "json_object"}})).to_string();
        assert!(sent.contains("JSON"), "{sent}");
        assert!(!sent.contains("\"additionalProperties\":false"), "{sent}");
    }
}

#[test]
fn llama_cpp_is_asked_in_its_own_way() {
    let there = at(LLAMA_CPP, "m");
    let two = json!([tool(json!({"type": "object"})), {"type": "function", "function": {"name": "g"}}]);
    let sent = there.sent(json!({"tools": two, "tool_choice": {"type": "function", "function": {"name": "g"}}}));
    assert_eq!((sent["tools"].as_array().map(Vec::len), &sent["tool_choice"]), (Some(1), &json!("required")));
    assert_eq!(there.sent(json!({"guided_grammar": "root ::= \"a\""}))["grammar"], "root ::= \"a\"");
    assert!(there.sent(json!({"guided_regex": "a+"})).to_string().contains("\"pattern\":"));
}

#[test]
fn vectors_of_another_length_are_an_error() {
    for (provider, model, body) in [
        (OPENAI, "e", json!({"data": [{"index": 0, "embedding": [1, 2]}]})),
        (MISTRAL, "e", json!({"data": [{"index": 0, "embedding": "AACAPwAAAMA="}]})),
        (GEMINI, "gemini-embedding-001", json!({"embeddings": [{"values": [1, 2]}]})),
        (VERTEX, "text-embedding-005", json!({"predictions": [{"embeddings": {"values": [1, 2]}}]})),
    ] {
        let there = at(provider, model);
        let ask = |dimensions: u64| {
            let parsed =
                Operation::Embeddings.parse(json!({"model": "r", "input": "a", "dimensions": dimensions}).to_string().into()).unwrap();
            let request = ChatRequest { parsed: &parsed, params: &there.route.params, system: None, model: there.model(), seal: None };
            let decoder = Operation::Embeddings.encode(&request, &Beside::default(), there.target()).unwrap().decoder;
            let mut relay = Relay::new(None, decoder, Head::new(Uuid::nil(), Uuid::nil(), 0, "r"), Form::Embeddings { estimate: 1 }, None);
            relay.push(body.to_string().as_bytes()).1.unwrap();
            relay.end().1
        };
        assert_eq!(ask(2), Ok(()));
        assert!(matches!(ask(3), Err(Fault::Broken(what)) if what.contains("the 3 `dimensions`") && what.contains("has 2")), "{model}");
    }
}

#[test]
fn a_message_that_begins_again_loses_nothing() {
    let start = |id: &str| json!({"type": "message_start", "message": {"id": id, "type": "message", "usage": {"input_tokens": 3, "output_tokens": 1}}});
    let events = |id: &str| [text_block("one "), vec![start(id)], text_block("two")].concat();
    for (provider, model) in [(VERTEX, CLAUDE_ON_VERTEX), (ANTHROPIC, "claude-opus-4-6")] {
        let (told, end) = at(provider, model).stream(json!({}), &claude(&events("m")));
        assert_eq!((content(&told), end), ("one two".to_owned(), Ok(())));
        let (_, end) = at(provider, model).stream(json!({}), &claude(&events("other")));
        assert!(matches!(end, Err(Fault::Broken(_))), "{end:?}");
    }
    assert_eq!(Framing::Sse, at(VERTEX, CLAUDE_ON_VERTEX).encode(json!({"stream": true})).unwrap().framing);
}

const NOVA: &str = "us.amazon.nova-pro-v1:0";
const OPEN_OBJECT: &str = r#"{"type":"object","properties":{}}"#;

/// The declarations of tools that were sent, each with its name and its schema.
fn declared(sent: &Value) -> Vec<(String, Value)> {
    let list = [&sent["tools"][0]["functionDeclarations"], &sent["toolConfig"]["tools"], &sent["tools"]];
    let list = list.into_iter().find_map(Value::as_array).unwrap();
    let tool = |tool: &Value| {
        let tool = ["function", "toolSpec"].iter().map(|key| &tool[*key]).find(|inner| inner.is_object()).unwrap_or(tool).clone();
        let schema = [&tool["parameters"], &tool["parametersJsonSchema"], &tool["input_schema"], &tool["inputSchema"]["json"]];
        (tool["name"].as_str().unwrap().to_owned(), schema.into_iter().find(|schema| schema.is_object()).cloned().unwrap_or_default())
    };
    list.iter().map(tool).collect()
}

#[test]
fn an_answer_is_held_with_what_a_model_on_bedrock_has() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
    for model in ["cohere.command-r-plus-v1:0", "ai21.jamba-1-5-large-v1:0", "writer.palmyra-x5-v1:0"] {
        let sent = at(BEDROCK, model).sent(format(schema.clone()));
        assert!(sent["outputConfig"].is_null(), "{model}: {sent}");
        let [(name, parameters)] = declared(&sent).try_into().unwrap();
        assert_eq!((name.as_str(), &parameters["required"]), ("json_answer", &json!(["n"])));
        assert!(parameters["additionalProperties"].is_null(), "{parameters}");
        assert_eq!(sent["toolConfig"]["toolChoice"], json!({"any": {}}), "{model}");
    }
    for model in [NOVA, "qwen.qwen3-32b-v1:0", "deepseek.v3-v1:0", "openai.gpt-oss-120b-1:0"] {
        assert!(at(BEDROCK, model).sent(format(schema.clone()))["outputConfig"].is_object(), "{model}");
    }
}

#[test]
fn one_of_several_tools_is_the_only_one_where_it_cannot_be_named() {
    let named = |name: &str| {
        let g = json!({"type": "function", "function": {"name": "g"}});
        json!({"tools": [tool(json!({})), g], "tool_choice": {"type": "function", "function": {"name": name}}})
    };
    for (model, names, choice) in [
        (NOVA, &["f", "g"][..], json!({"tool": {"name": "g"}})),
        ("openai.gpt-oss-120b-1:0", &["f", "g"], json!({"tool": {"name": "g"}})),
        ("qwen.qwen3-32b-v1:0", &["g"], json!({"any": {}})),
        ("deepseek.v3-v1:0", &["g"], json!({"any": {}})),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", &["g"], json!({"any": {}})),
    ] {
        let sent = at(BEDROCK, model).sent(named("g"));
        let tools: Vec<_> = declared(&sent).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            (tools.as_slice(), &sent["toolConfig"]["toolChoice"]),
            (names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().as_slice(), &choice),
            "{model}"
        );
    }
    let refusal =
        r#"{"message":"This model doesn't support the toolConfig.toolChoice.any field. Remove toolConfig.toolChoice.any and try again."}"#;
    let there = at(BEDROCK, "writer.palmyra-x5-v1:0");
    let object = json!({"response_format": {"type": "json_object"}});
    assert_eq!(there.blames(object, 400, refusal).as_deref(), Some("response_format"));
    assert_eq!(there.blames(named("g"), 400, refusal).as_deref(), Some("tool_choice"));
}

#[test]
fn what_a_schema_says_of_a_tool_stands_in_its_description_at_nova() {
    let parameters = json!({"$schema": "x", "description": "Of points.", "type": "object", "properties": {"p": {"$ref": "#/$defs/p"}}, "$defs": {"p": {"type": "string"}}});
    for (own, want) in [(json!("Draws."), "Draws.\n\nOf points."), (Value::Null, "Of points.")] {
        let tools = json!({"tools": [{"type": "function", "function": {"name": "f", "description": own, "parameters": parameters}}]});
        let sent = at(BEDROCK, NOVA).sent(tools);
        assert_eq!(sent["toolConfig"]["tools"][0]["toolSpec"]["description"], want);
        assert_eq!(declared(&sent)[0].1, json!({"type": "object", "properties": {"p": {"type": "string"}}}));
    }
}

#[test]
fn a_result_that_says_nothing_says_so_on_bedrock() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let history = |content: &str| json!({"messages": [{"role": "user", "content": "Go"}, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": content}]});
    for content in ["", " \n"] {
        for model in [CLAUDE_ON_BEDROCK, NOVA] {
            let sent = at(BEDROCK, model).sent(history(content));
            assert_eq!(sent["messages"][2]["content"][0]["toolResult"]["content"], json!([{"text": "(no output)"}]), "{model}");
        }
    }
}

#[test]
fn tools_stand_beside_a_form_of_the_answer_where_gemini_takes_both() {
    let tools = json!([tool(json!({"type": "object", "properties": {"a": {"type": "string"}}}))]);
    let with = |more: Value, choice: &str| {
        let mut more = more;
        (more["tools"], more["tool_choice"]) = (tools.clone(), json!(choice));
        more
    };
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let object = json!({"response_format": {"type": "json_object"}});
    for (there, native) in
        [(at(GEMINI, "gemini-2.5-flash"), false), (at(VERTEX, "gemini-2.0-flash"), false), (at(GEMINI, "gemini-3-flash-preview"), true)]
    {
        for (form, adjusted) in [(object.clone(), false), (format(schema.clone()), true)] {
            let out = there.encode(with(form.clone(), "auto")).unwrap();
            let sent: Value = serde_json::from_slice(&out.body.joined()).unwrap();
            assert_eq!(sent["generationConfig"]["responseMimeType"].is_string(), native, "{sent}");
            assert_eq!(sent["systemInstruction"].is_object(), !native, "{sent}");
            assert_eq!(out.adjusted == ["response_format"], adjusted && !native, "{:?}", out.adjusted);
            let due = there.sent(with(form, "required"));
            assert_eq!(
                (due["systemInstruction"].is_object(), due["generationConfig"]["responseMimeType"].is_string()),
                (false, native),
                "{due}"
            );
        }
        assert!(there.sent(object.clone())["generationConfig"]["responseMimeType"].is_string(), "no tools");
    }
    let there = at(GEMINI, "gemini-2.5-flash");
    assert_eq!(there.refused(with(json!({"guided_choice": ["a", "b"]}), "auto")), "guided_choice");
    let fenced = json!({"candidates": [{"content": {"parts": [{"text": "```json\n{\"n\": 1}\n```"}]}, "finishReason": "STOP"}]});
    let told = there.whole(with(object, "auto"), &fenced).unwrap();
    assert_eq!(told["choices"][0]["message"]["content"], "{\"n\": 1}");
}

#[test]
fn instructions_stand_before_the_user_where_nothing_else_has_them() {
    let messages = json!({"messages": [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "Go"}, {"role": "developer", "content": "Be brief."}]});
    for model in ["gemma-3-27b-it", "gemma-3n-e4b-it", "gemma-2-9b-it", "gemma-7b-it", "gemini-2.0-flash-preview-image-generation"] {
        let sent = at(GEMINI, model).sent(messages.clone());
        assert!(sent["systemInstruction"].is_null(), "{sent}");
        assert_eq!(
            sent["contents"][0],
            json!({"role": "user", "parts": [{"text": "Rhyme."}, {"text": "Be brief."}, {"text": "Hi"}]}),
            "{model}"
        );
        assert_eq!(sent["contents"].as_array().unwrap().len(), 3);
    }
    for model in ["gemma-4-31b-it", "gemini-2.5-flash-image", "gemini-2.0-flash"] {
        assert!(at(GEMINI, model).sent(messages.clone())["systemInstruction"].is_object(), "{model}");
    }
}

#[test]
fn geminis_own_ids_go_back_whatever_their_form() {
    let there = at(GEMINI, "gemini-3-flash-preview");
    let tools = json!({"tools": [tool(json!({}))]});
    let part = |id: Option<&str>, signature: Option<&str>| {
        let mut part = json!({"functionCall": {"name": "f", "args": {}}});
        if let Some(id) = id {
            part["functionCall"]["id"] = json!(id);
        }
        if let Some(signature) = signature {
            part["thoughtSignature"] = json!(signature);
        }
        part
    };
    for (parts, want) in [
        (
            vec![part(Some("call_4162774"), Some("c2ln")), part(Some("call_4162775"), None)],
            vec![json!("call_4162774"), json!("call_4162775")],
        ),
        (vec![part(Some("a1"), Some("c2ln"))], vec![json!("a1")]),
        (vec![part(None, Some("c2ln"))], vec![Value::Null]),
        (vec![part(Some("call_4162774"), None)], vec![Value::Null]),
    ] {
        let answer = json!({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]});
        let message = there.whole(tools.clone(), &answer).unwrap()["choices"][0]["message"].clone();
        let results = message["tool_calls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": "1"}));
        let mut next = tools.clone();
        next["messages"] = [json!({"role": "user", "content": "Hi"}), message.clone()].into_iter().chain(results).collect();
        let sent = there.sent(next);
        let ids = |at: usize, kind: &str| {
            sent["contents"][at]["parts"].as_array().unwrap().iter().map(|part| part[kind]["id"].clone()).collect::<Vec<_>>()
        };
        assert_eq!((ids(1, "functionCall"), ids(2, "functionResponse")), (want.clone(), want), "{sent}");
    }
}

#[test]
fn results_of_calls_under_one_id_keep_to_their_calls_at_gemini() {
    let call = |name: &str| json!({"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}});
    let result = |text: &str| json!({"role": "tool", "tool_call_id": "c", "content": text});
    let sent = at(GEMINI, "gemini-2.5-flash").sent(json!({"messages": [{"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [call("a"), call("b")]}, result("1"), result("2"), result("3"),
        {"role": "assistant", "tool_calls": [call("d")]}, result("4")]}));
    let names = |at: usize| {
        let parts = sent["contents"][at]["parts"].as_array().unwrap().iter();
        parts
            .map(|part| {
                format!(
                    "{}={}",
                    part["functionResponse"]["name"].as_str().unwrap(),
                    part["functionResponse"]["response"]["result"].as_str().unwrap()
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!((names(2), names(4)), (vec!["a=1".to_owned(), "b=2".to_owned()], vec!["d=4".to_owned()]));
}

#[test]
fn of_two_tools_of_one_name_the_first_is_sent() {
    let one = |n: u32| json!({"type": "function", "function": {"name": "f", "description": format!("{n}"), "parameters": serde_json::from_str::<Value>(OPEN_OBJECT).unwrap()}});
    for (provider, model) in [
        (ANTHROPIC, "claude-sonnet-4-5"),
        (BEDROCK, NOVA),
        (BEDROCK, CLAUDE_ON_BEDROCK),
        (GEMINI, "gemini-2.5-flash"),
        (DEEPSEEK, "deepseek-v4-flash"),
    ] {
        let out = at(provider, model).encode(json!({"tools": [one(1), one(2)]})).unwrap();
        let sent: Value = serde_json::from_slice(&out.body.joined()).unwrap();
        assert_eq!((declared(&sent).len(), out.adjusted.as_slice()), (1, &["tools".into()][..]), "{model}: {sent}");
        assert!(sent.to_string().contains("\"description\":\"1\""), "{sent}");
    }
    let allowed = json!({"tools": [one(1), one(2)], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}}});
    assert_eq!(declared(&at(DEEPSEEK, "deepseek-v4-flash").sent(allowed)).len(), 1);
    assert_eq!(declared(&at(OPENAI, "gpt-5").sent(json!({"tools": [one(1), one(2)]}))).len(), 2);
}

#[test]
fn a_name_that_a_provider_does_not_take_is_replaced_and_comes_back() {
    let name = "mcp.fs/read file";
    let call = json!({"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}});
    let more = json!({"tools": [{"type": "function", "function": {"name": name}}], "tool_choice": {"type": "function", "function": {"name": name}},
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "1"}]});
    for (provider, model) in
        [(ANTHROPIC, "claude-sonnet-4-5"), (VERTEX, CLAUDE_ON_VERTEX), (BEDROCK, NOVA), (MISTRAL, "m"), (GEMINI, "gemini-2.5-flash")]
    {
        let sent = at(provider, model).sent(more.clone());
        let (sent_name, _) = declared(&sent).remove(0);
        assert!(sent_name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')), "{model}: {sent_name}");
        let text = sent.to_string();
        assert!(!text.contains(name) && text.matches(&sent_name).count() >= 3, "{model}: {sent}");
        if provider == ANTHROPIC {
            let answer = json!({"type": "message", "role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": sent_name, "input": {}}],
                "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 1}});
            let told = at(provider, model).whole(more.clone(), &answer).unwrap();
            assert_eq!(told["choices"][0]["message"]["tool_calls"][0]["function"]["name"], name);
        }
    }
    let fits = json!({"tools": [{"type": "function", "function": {"name": "fs.read"}}]});
    assert_eq!(declared(&at(GEMINI, "gemini-2.5-flash").sent(fits.clone()))[0].0, "fs.read");
    assert_ne!(declared(&at(ANTHROPIC, "claude-sonnet-4-5").sent(fits))[0].0, "fs.read");
}

#[test]
fn openai_is_sent_no_list_of_no_calls_and_no_tool_without_properties() {
    let messages = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho", "tool_calls": [ ]}, {"role": "user", "content": "Go"}]);
    for provider in [OPENAI, VLLM, DEEPSEEK] {
        let sent = at(provider, "m").sent(json!({"messages": messages}));
        assert_eq!(sent["messages"][1], json!({"role": "assistant", "content": "Ho"}));
    }
    let azure = "{ kind: azure_openai, resource: r, api_key: k }";
    for provider in [OPENAI, azure] {
        let out = at(provider, "gpt-5").encode(json!({"tools": [tool(json!({})), tool(json!({"type": "object"}))]})).unwrap();
        let sent: Value = serde_json::from_slice(&out.body.joined()).unwrap();
        let want: Value = serde_json::from_str(OPEN_OBJECT).unwrap();
        assert!(declared(&sent).iter().all(|(_, schema)| *schema == want) && out.adjusted.is_empty(), "{sent}");
        let tuple = json!({"type": "object", "properties": {"a": {"type": "array", "items": [{"type": "string"}]}}});
        let sent = at(provider, "gpt-5").sent(json!({"tools": [tool(tuple)]}));
        assert_eq!(declared(&sent)[0].1["properties"]["a"]["items"], json!({"type": "string"}));
    }
    let bare = json!({"tools": [tool(json!({"type": "object"}))]});
    assert_eq!(declared(&at(VLLM, "m").sent(bare))[0].1, json!({"type": "object"}), "others take it");
}
