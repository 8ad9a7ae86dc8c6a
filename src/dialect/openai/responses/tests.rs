//! Requests and answers of `tests/fixtures/openai/responses`, for clients of other protocols, and the state that goes back.

use crate::dialect::openai::responses::decode::Decoder;
use crate::dialect::openai::tests::{Record, cut, requests, stream};
use crate::dialect::openai::{OpenAi, ResponsesUse};
use crate::dialect::shared::blame::{Path, Sent};
use crate::dialect::shared::testing::{fixtures, seal};
use crate::dialect::{Decoder as _, Dialect, Outgoing};
use crate::front::chat::rules::Rules;
use crate::llm::adjustments::Adjustments;
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::event::{Event, Sink};
use crate::llm::failure::Fault;
use crate::llm::field::{Field, Fields};
use crate::llm::messages::{Headers, MessagesRequest};
use crate::llm::responses::ResponsesRequest;
use crate::llm::settings::Params;
use crate::llm::state::Seal;
use serde_json::{Value, json};
use std::sync::Arc;

fn dialect(kind: &str) -> OpenAi {
    let quirks = Arc::new(crate::provider::catalogue::named(kind).unwrap().quirks(None).clone());
    OpenAi { quirks, split_think_tags: false, responses: ResponsesUse::All }
}

fn json_of(outgoing: &Outgoing) -> Value {
    assert_eq!(outgoing.path, "/responses");
    serde_json::from_slice(&outgoing.body.joined()).unwrap()
}

/// A chat completion for this model, as it is asked.
fn chat(body: &Value, model: &str, seal: Option<&Seal>) -> Outgoing {
    let parsed = Parsed::parse(body.to_string().into()).unwrap();
    let params = Params::default();
    dialect("openai").encode(&ChatRequest { parsed: &parsed, params: &params, system: None, model, seal }).unwrap()
}

/// A request of the Messages API, as it is asked, and the names of what was dropped.
fn messages(body: &Value, params: &Params) -> (Value, Vec<String>) {
    let parsed = crate::front::messages::parse(body.to_string().into(), false).unwrap();
    let base = ChatRequest { parsed: &parsed, params, system: None, model: "gpt-5.6", seal: None };
    let outgoing = dialect("openai").encode(&MessagesRequest { base, headers: &Headers::default() }).unwrap();
    (json_of(&outgoing), outgoing.dropped.iter().map(|name| name.clone().into_owned()).collect())
}

#[test]
fn requests_are_in_this_apis_words() {
    for file in fixtures("openai/responses/requests", "json") {
        requests(&file, |request, quirks| {
            OpenAi { quirks: Arc::new(quirks.clone()), split_think_tags: false, responses: ResponsesUse::All }.encode(request)
        });
    }
}

#[test]
fn answers_say_what_they_should() {
    for file in fixtures("openai/responses/answers", "events") {
        let name = file.display().to_string();
        let want = std::fs::read_to_string(&file).unwrap();
        let decoder = || Decoder::translating(false);
        let (record, end) = cut(decoder, &std::fs::read(file.with_extension("sse")).unwrap(), &name);
        assert_eq!(record.tell(&end), want.trim_end_matches('\n'), "{name}");
        let whole = file.with_file_name(format!("{}-whole.json", file.file_stem().unwrap().to_str().unwrap()));
        if let Ok(body) = std::fs::read(whole) {
            let (mut decoder, mut record) = (decoder(), Record::default());
            let end = decoder.whole(&body, &mut record);
            assert_eq!(record.tell(&end), want.trim_end_matches('\n'), "{name}, whole");
        }
    }
}

#[test]
fn cut_off_bytes_neither_panic_nor_complete() {
    for file in fixtures("openai/responses/answers", "sse") {
        let body = std::fs::read(&file).unwrap();
        for end in 0..body.len() {
            let (record, result) = stream(Decoder::translating(false), [&body[..end]]);
            let finished = record.single.iter().any(|event| event.starts_with("Finish"));
            assert!(finished || result.is_err(), "{} cut at {end}", file.display());
        }
    }
}

#[test]
fn the_answer_to_a_translated_request_is_written_and_one_that_passes_is_not() {
    let hello = json!({"model": "r", "messages": [{"role": "user", "content": "Hi"}]});
    assert!(!chat(&hello, "gpt-5.6", None).decoder.is_native());
    let parsed = Parsed::scan(r#"{"model":"r","input":"Hi"}"#.into()).unwrap();
    let params = Params::default();
    let base = ChatRequest { parsed: &parsed, params: &params, system: None, model: "gpt-5.6", seal: None };
    let outgoing = dialect("openai").encode(&ResponsesRequest { base, functions: &Arc::default() }).unwrap();
    assert!(outgoing.decoder.is_native());
    assert_eq!(json_of(&outgoing), json!({"model": "gpt-5.6", "input": "Hi"}));
}

#[test]
fn a_setting_without_a_counterpart_is_dropped_from_a_request_that_passes() {
    let parsed = Parsed::scan(r#"{"model":"r","input":"Hi"}"#.into()).unwrap();
    let params = Params { overrides: vec![("seed".into(), "1".into())], ..Params::default() };
    let base = ChatRequest { parsed: &parsed, params: &params, system: None, model: "gpt", seal: None };
    let outgoing = dialect("openai").encode(&ResponsesRequest { base, functions: &Arc::default() }).unwrap();
    assert_eq!(&*outgoing.body.joined(), br#"{"model":"gpt","input":"Hi"}"#.as_slice());
    assert!(outgoing.headers.is_empty() && outgoing.dropped == ["seed"]);
}

#[test]
fn a_request_of_the_messages_api_has_this_apis_form() {
    let body = json!({
        "model": "r", "max_tokens": 300, "stream": true, "temperature": 0.5, "metadata": {"user_id": "u"}, "top_k": 4, "stop_sequences": ["a"],
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
                {"type": "document", "source": {"type": "url", "url": "https://h/a.pdf"}, "title": "t"}]},
            {"role": "system", "content": "Mind the gap."},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "EqQB"}, {"type": "text", "text": "Hm."},
                {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}, {"type": "tool_use", "id": "call_2", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "x"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}]},
                {"type": "tool_result", "tool_use_id": "call_2", "content": "no such file", "is_error": true},
                {"type": "text", "text": "Go on"}]},
        ],
    });
    let (sent, dropped) = messages(&body, &Params::default());
    let want = json!({
        "model": "gpt-5.6", "stream": true, "store": false, "max_output_tokens": 300, "temperature": 0.5, "user": "u",
        "reasoning": {"effort": "high"}, "text": {"format": {"type": "json_schema", "name": "response", "schema": {"type": "object"}}},
        "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}, "strict": false}],
        "tool_choice": "required", "parallel_tool_calls": false,
        "input": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"},
                {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
                {"type": "input_file", "file_url": "https://h/a.pdf"}]},
            {"role": "system", "content": "Mind the gap."},
            {"role": "assistant", "content": "Hm."},
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "call_2", "name": "f", "arguments": "{\"a\":1}"},
            {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "x"},
                {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"}]},
            {"type": "function_call_output", "call_id": "call_2", "output": "Error: no such file"},
            {"role": "user", "content": "Go on"},
        ],
    });
    assert_eq!(sent, want);
    assert_eq!(dropped, ["stop_sequences", "top_k"]);
    let refused = Params { adjustments: Adjustments::without(Fields::of(&[Field::Temperature])), ..Params::default() };
    let (sent, dropped) =
        messages(&json!({"model": "r", "max_tokens": 20, "temperature": 1, "messages": [{"role": "user", "content": "Hi"}]}), &refused);
    assert!(sent.get("temperature").is_none() && dropped == ["temperature"], "{sent}");
}

#[test]
fn encrypted_reasoning_is_asked_for_where_it_can_come_back_with_a_call() {
    let mut body = json!({"model": "r", "messages": [{"role": "user", "content": "Hi"}]});
    let included = |body: &Value, seal: Option<&Seal>, adjustments: Adjustments| {
        let parsed = Parsed::parse(body.to_string().into()).unwrap();
        let params = Params { adjustments, ..Params::default() };
        let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "gpt-5.6", seal };
        json_of(&dialect("openai").encode(&request).unwrap())["include"].clone()
    };
    let (seal, none) = (seal(), Adjustments::default());
    assert_eq!(included(&body, Some(&seal), none), Value::Null);
    body["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
    assert_eq!(included(&body, None, none), Value::Null);
    assert_eq!(included(&body, Some(&seal), none), json!(["reasoning.encrypted_content"]));
    assert_eq!(included(&body, Some(&seal), Adjustments { plain_reasoning: true, ..none }), Value::Null);
}

/// Keeps the ids of the calls.
#[derive(Default)]
struct Ids(Vec<String>);

impl Sink for Ids {
    fn event(&mut self, event: Event<'_>) {
        if let Event::ToolStart { id, .. } = event {
            self.0.push(id.unwrap().decode().into_owned());
        }
    }
}

impl crate::llm::order::Writer for Ids {}

#[test]
fn reasoning_goes_back_before_its_call_and_the_message_between_with_its_phase() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openai/responses/answers/reasoning-text-and-calls");
    let seal = seal();
    let mut whole = Rules::new(Ids::default(), "", Some(seal.clone()));
    Decoder::translating(false).whole(&std::fs::read(format!("{folder}-whole.json")).unwrap(), &mut whole).unwrap();
    let ids = whole.writer.0;
    assert!(ids[0].starts_with("call_1--tg1-") && ids[1] == "call_2" && ids[2].starts_with("call_3--tg1-"), "{ids:?}");
    let call =
        |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let mut body = json!({"model": "r", "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "Let me look.",
            "tool_calls": [call(&ids[0], "get_weather", "{\"city\":\"Paris\"}"), call(&ids[1], "get_time", "{}"), call(&ids[2], "ping", "{}")]},
        {"role": "tool", "tool_call_id": ids[0], "content": "1"},
        {"role": "tool", "tool_call_id": ids[1], "content": "2"},
        {"role": "tool", "tool_call_id": ids[2], "content": "3"},
    ]});
    let input = |body: &Value, seal: &Seal| json_of(&chat(body, "gpt-5.6", Some(seal)))["input"].clone();
    let summary = |text: &str| json!({"type": "summary_text", "text": text});
    let reasoning = [
        json!({"type": "reasoning", "id": "rs_0", "encrypted_content": "gAAAA1==", "summary": [summary("**Weather** in \"Paris\""), summary("**Time** too")]}),
        json!({"type": "reasoning", "id": "rs_4", "encrypted_content": "gAAAA2==", "summary": []}),
    ];
    let called =
        |id: &str, name: &str, arguments: &str| json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments});
    let output = |id: &str, text: &str| json!({"type": "function_call_output", "call_id": id, "output": text});
    let want = json!([
        {"role": "user", "content": "q"},
        reasoning[0],
        {"role": "assistant", "content": "Let me look.", "phase": "commentary"},
        called("call_1", "get_weather", "{\"city\":\"Paris\"}"),
        called("call_2", "get_time", "{}"),
        reasoning[1],
        called("call_3", "ping", "{}"),
        output("call_1", "1"),
        output("call_2", "2"),
        output("call_3", "3"),
    ]);
    assert_eq!(input(&body, &seal), want);
    // A client that returns calls without the text, and a provider that could not read its reasoning.
    body["messages"][1]["content"] = Value::Null;
    assert_eq!(input(&body, &seal)[2]["type"], "function_call");
    let forgotten = input(&body, &seal.forgetting()).to_string();
    assert!(!forgotten.contains("reasoning") && !forgotten.contains("tg1") && forgotten.contains("call_3"), "{forgotten}");
    // The same state is of no use to chat completions.
    let quirks = dialect("openai").quirks;
    let parsed = Parsed::parse(body.to_string().into()).unwrap();
    let params = Params::default();
    let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "m", seal: Some(&self::seal()) };
    let completion =
        OpenAi { quirks, split_think_tags: false, responses: ResponsesUse::Own }.encode(&request).unwrap().body.joined().to_vec();
    let completion = String::from_utf8(completion).unwrap();
    assert!(!completion.contains("gAAAA") && !completion.contains("tg1"), "{completion}");
}

#[test]
fn a_choice_comes_back_alone() {
    let body = json!({"model": "r", "messages": [{"role": "user", "content": "Hi"}], "guided_choice": ["a", "b"]});
    let mut outgoing = chat(&body, "gpt-5.6", None);
    let text = json!({"type": "output_text", "text": "{\"choice\": \"b\"}", "annotations": []});
    let answer = json!({"status": "completed", "output": [{"type": "message", "role": "assistant", "content": [text]}]});
    let mut record = Record::default();
    let end: Result<(), Fault> = outgoing.decoder.whole(answer.to_string().as_bytes(), &mut record);
    assert_eq!(record.tell(&end), "content 0 b\nfinish 0 stop\ncomplete");
}

#[test]
fn refusals_name_the_clients_fields() {
    let body = json!({"model": "r", "max_tokens": 20, "verbosity": "low", "reasoning_effort": "low", "response_format": {"type": "json_object"},
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "messages": [{"role": "user", "content": "JSON"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"},
            {"type": "image_url", "image_url": {"url": "https://h/x"}}]}]});
    let (parsed, outgoing) = (Parsed::parse(body.to_string().into()).unwrap(), chat(&body, "gpt-5.6", None));
    let dialect = dialect("openai");
    let sent = Sent { parsed: &parsed, body: &outgoing.body, quirks: dialect.quirks(), names: dialect.names(""), is_responses: false };
    for (param, want) in [
        ("max_output_tokens", "max_tokens"),
        ("reasoning.effort", "reasoning_effort"),
        ("text.format.schema", "response_format"),
        ("text.verbosity", "verbosity"),
        ("input[2].content[1].image_url", "messages[2].content[1]"),
        ("input[7]", "messages"),
        ("input", "messages"),
        ("tools[0].parameters", "tools[0].function.parameters"),
        ("tools[0].name", "tools[0].function.name"),
        ("tools[0].type", "tools[0].type"),
    ] {
        assert_eq!(sent.in_clients_words(Path { text: param, sure: true }).as_deref(), Some(want), "{param}");
    }
}
