//! Requests and answers of `tests/fixtures/openai`, every stream cut in every way, and real recordings where they are.

use super::quirks::{Guided, Quirks};
use super::*;
use crate::dialect::Decoder;
use crate::dialect::shared::testing::{self, body, fixtures, pieces, recordings};
use crate::frame::Framing;
use crate::front::chat::rules::{Rules, finish_reason, write_members};
use crate::json::text::Text;
use crate::json::{envelope, utf8};
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::event::{Block, Event, Sink, ToolForm};
use crate::llm::failure::Fault;
use crate::llm::settings::Params;
use crate::llm::state::Seal;
use serde_json::Value;
use std::path::Path;

/// What an answer said, texts of one kind joined; and every single event.
#[derive(Default)]
pub struct Record {
    lines: Vec<(String, String)>,
    usage: Option<String>,
    pub single: Vec<String>,
}

impl Sink for Record {
    fn event(&mut self, event: Event<'_>) {
        self.single.push(format!("{event:?}"));
        let text = |text: Text<'_>| text.decode().replace('\n', "\\n");
        let (key, value) = match event {
            Event::Fingerprint(t) => ("fingerprint".into(), text(t)),
            Event::ServiceTier(t) => ("tier".into(), text(t)),
            Event::Content { choice, text: t } => (format!("content {choice}"), text(t)),
            Event::Reasoning { choice, text: t } => (format!("reasoning {choice}"), text(t)),
            Event::Refusal { choice, text: t } => (format!("refusal {choice}"), text(t)),
            Event::ToolStart { choice, call, id, name, form, .. } => {
                let form = match form {
                    ToolForm::Function => String::new(),
                    other => format!(" {other:?}"),
                };
                (format!("call {choice}.{call}"), format!("{} {}{form}", id.map_or("-".into(), text), text(name)))
            }
            Event::ToolArguments { choice, call, fragment } => (format!("arguments {choice}.{call}"), text(fragment)),
            Event::BlockEnd { choice, block: Block::Call(call) } => (format!("end {choice}.{call}"), String::new()),
            Event::Logprobs { choice, json } => (format!("logprobs {choice}"), json.to_owned()),
            Event::Extra { choice, key, json, .. } => (format!("extra {choice} {key}"), json.to_owned()),
            Event::Finish { choice, reason } => (format!("finish {choice}"), finish_reason(&reason).to_owned()),
            Event::Raw { choice, block } => {
                (format!("raw {choice} {}", block.name), if block.essential { "essential".into() } else { String::new() })
            }
            Event::Embedding { index, json } => (format!("vector {index}"), json.to_owned()),
            Event::Usage(u) => {
                self.usage = Some(format!("usage {}+{} cached {} reasoning {}", u.prompt, u.completion, u.cached, u.reasoning));
                return;
            }
            Event::BlockEnd { block: Block::Text | Block::Reasoning, .. } | Event::End | Event::ReasoningStart { .. } => return,
            Event::Citations { .. } | Event::SearchResults { .. } => return write_members(&event, self),
            other => panic!("{other:?}"),
        };
        match self.lines.iter_mut().find(|(known, _)| *known == key) {
            Some((_, said)) => said.push_str(&value),
            None => self.lines.push((key, value)),
        }
    }
}

impl Record {
    pub fn tell(&self, end: &Result<(), Fault>) -> String {
        let mut out: Vec<String> = self.lines.iter().map(|(key, value)| format!("{key} {value}")).collect();
        out.extend(self.usage.clone());
        out.push(match end {
            Ok(()) => "complete".into(),
            Err(Fault::Truncated) => "truncated".into(),
            Err(Fault::Broken(_)) => "broken".into(),
            Err(Fault::Provider(e)) => format!("provider {:?} {}", e.class, e.message),
        });
        out.join("\n")
    }
}

/// Reads a stream that comes in these pieces.
pub fn stream<'p>(mut decoder: impl Decoder, pieces: impl IntoIterator<Item = &'p [u8]>) -> (Record, Result<(), Fault>) {
    let mut record = Record::default();
    let end = testing::stream(Framing::Sse, &mut decoder, pieces, &mut record);
    (record, end)
}

pub fn whole(mut decoder: impl Decoder, body: &[u8]) -> (Record, Result<(), Fault>) {
    let mut record = Record::default();
    let end = decoder.whole(body, &mut record);
    (record, end)
}

/// Reads a stream whole, byte by byte and in random pieces, which must all say the same.
pub fn cut<D: Decoder>(decoder: impl Fn() -> D, body: &[u8], name: &str) -> (Record, Result<(), Fault>) {
    let (whole, end) = stream(decoder(), [body]);
    let (bytes, bytes_end) = stream(decoder(), body.chunks(1));
    assert_eq!((&whole.single, &end), (&bytes.single, &bytes_end), "{name}, byte by byte");
    for seed in 1..4 {
        let (random, random_end) = stream(decoder(), pieces(body, seed));
        assert_eq!((&whole.single, &end), (&random.single, &random_end), "{name}, random pieces {seed}");
    }
    (whole, end)
}

/// The quirks of a kind, whose operator may say how it takes constraints.
fn quirks(kind: &str, guided: Option<Guided>) -> Quirks {
    let quirks = crate::provider::catalogue::named(kind).unwrap().quirks(guided);
    Quirks { guided: guided.unwrap_or(quirks.guided), ..quirks.clone() }
}

/// Checks the cases of a file of requests: a client's body, and the provider's or the field to blame.
pub fn requests(file: &Path, encode: impl Fn(&ChatRequest<'_>, &Quirks) -> Result<Outgoing, ApiError>) {
    let stem = file.file_stem().unwrap().to_str().unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for case in cases {
        let name = format!("{stem}: {}", case["name"].as_str().unwrap());
        let guided = match case["guided"].as_str() {
            Some("legacy") => Some(Guided::Legacy),
            Some("sglang") => Some(Guided::Sglang),
            _ => None,
        };
        let list = |key: &str| -> Vec<(String, String)> {
            case[key].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect()
        };
        let params = Params {
            defaults: list("defaults"),
            overrides: list("overrides"),
            reject_unsupported: case["reject"] == true,
            ..Params::default()
        };
        let parsed = Parsed::scan(case["client"].to_string().into()).unwrap();
        let request = ChatRequest { parsed: &parsed, params: &params, system: case["system"].as_str(), model: "up", seal: None };
        let out = match encode(&request, &quirks(stem, guided)) {
            Ok(out) => out,
            Err(e) => {
                assert_eq!((e.status, e.param.as_deref()), (400, case["error"].as_str()), "{name}: {}", e.message);
                continue;
            }
        };
        assert_eq!(case["error"], Value::Null, "{name}");
        utf8::text(&out.body.joined()).and_then(envelope::scan).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(body(&out), case["upstream"], "{name}");
        let names =
            |key: &str| -> Vec<String> { case[key].as_array().into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()).collect() };
        assert_eq!(out.dropped, names("dropped"), "{name}");
        assert_eq!(out.adjusted, names("adjusted"), "{name}");
    }
}

#[test]
fn requests_become_what_the_provider_wants() {
    for file in fixtures("openai/requests", "json") {
        requests(&file, |request, quirks| encode::encode(request, request, quirks, false));
    }
}

#[test]
fn bytes_that_need_no_change_are_not_copied() {
    let parsed = Parsed::scan(r#" {"model":"up", "messages":[{"role":"user","content":"\u0041"}],"seed":10 }"#.into()).unwrap();
    let params = Params::default();
    let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "up", seal: None };
    let out = encode::encode(&request, &request, &quirks("vllm", None), false).unwrap();
    assert_eq!(out.body.joined().as_ptr(), parsed.body().as_ptr());
    let request = ChatRequest { model: "Q/\"4", ..request };
    let out = encode::encode(&request, &request, &quirks("vllm", None), false).unwrap();
    assert_eq!(out.body.joined(), r#" {"model":"Q/\"4", "messages":[{"role":"user","content":"\u0041"}],"seed":10 }"#);
    assert_eq!(out.path, "/chat/completions");
}

#[test]
fn a_choice_that_was_asked_for_as_an_object_comes_back_alone() {
    let parsed = Parsed::scan(r#"{"model":"r","messages":[],"guided_choice":["a","b"]}"#.into()).unwrap();
    let params = Params::default();
    let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "up", seal: None };
    let mut out = encode::encode(&request, &request, &quirks("openai", None), true).unwrap();
    let body = br#"{"choices":[{"message":{"content":"<think>hm</think>{\"choice\": \"b\"}"},"finish_reason":"stop"}]}"#;
    let mut record = Record::default();
    let end = out.decoder.whole(body, &mut record);
    assert_eq!(record.tell(&end), "reasoning 0 hm\ncontent 0 b\nfinish 0 stop\ncomplete");
}

#[test]
fn answers_say_what_they_should() {
    for file in fixtures("openai/answers", "events") {
        let name = file.display().to_string();
        let want = std::fs::read_to_string(&file).unwrap();
        let (record, end) = match std::fs::read(file.with_extension("sse")) {
            Ok(body) => cut(decode::Decoder::default, &body, &name),
            Err(_) => whole(decode::Decoder::default(), &std::fs::read(file.with_extension("json")).unwrap()),
        };
        assert_eq!(record.tell(&end), want.trim_end_matches('\n'), "{name}");
    }
}

#[test]
fn cut_off_bytes_neither_panic_nor_complete() {
    for file in fixtures("openai/answers", "sse") {
        let body = std::fs::read(&file).unwrap();
        for end in 0..body.len() {
            let (record, result) = stream(decode::Decoder::default(), [&body[..end]]);
            let finished = record.single.iter().any(|event| event.starts_with("Finish"));
            assert!(finished || result.is_err(), "{} cut at {end}", file.display());
        }
    }
}

#[test]
fn recorded_answers_are_read() {
    let Some(folder) = recordings() else { return };
    for provider in ["openai", "openai_compatible", "deepseek", "fireworks", "xai", "together", "vllm", "sglang", "hyperbolic"] {
        for entry in std::fs::read_dir(folder.join(provider)).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            let recording: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let body = recording["body_text"].as_str().unwrap_or_default().as_bytes();
            let decoder = || decode::Decoder::new(provider == "xai");
            if recording["status"] != 200 {
                let e = error::read(recording["status"].as_u64().unwrap() as u16, &HeaderMap::new(), body);
                assert!(!e.message.starts_with("the provider answered"), "{name}");
                continue;
            }
            let (record, end) = if recording["mode"] == "stream" { cut(decoder, body, &name) } else { whole(decoder(), body) };
            // A recording may be of an answer that failed or was cut off; then it must not count as complete.
            if end.is_ok() {
                assert!(record.lines.iter().any(|(key, _)| key.starts_with("finish")), "{name}");
            } else {
                eprintln!("{name}: {}", record.tell(&end).lines().last().unwrap_or_default());
            }
            let counted = body.windows(15).any(|w| w == b"\"prompt_tokens\"");
            assert!(record.usage.is_some() || !counted || end.is_err(), "{name}: no usage");
        }
    }
}

/// Encodes a request to a target that splits think texts, or not.
fn messages_of(kind: &'static str, messages: &Value, split: bool, seal: Option<&Seal>) -> Value {
    let parsed = Parsed::parse(serde_json::json!({"model": "r", "messages": messages}).to_string().into()).unwrap();
    let params = Params::default();
    let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "up", seal };
    let out = encode::encode(&request, &request, &quirks(kind, None), split).unwrap();
    body(&out)["messages"].clone()
}

#[test]
fn a_think_text_that_was_split_off_goes_back_into_the_content() {
    let back = |message: Value| {
        let mut all = messages_of("openai_compatible", &serde_json::json!([{"role": "user", "content": "q"}, message]), true, None);
        all[1].take()
    };
    let answer = serde_json::json!({"role": "assistant", "content": "a\"b", "reasoning_content": "t\nu"});
    assert_eq!(back(answer), serde_json::json!({"role": "assistant", "content": "<think>\nt\nu\n</think>\n\na\"b"}));
    let call = serde_json::json!([{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let silent = serde_json::json!({"role": "assistant", "content": null, "reasoning_content": "t", "tool_calls": call});
    assert_eq!(back(silent), serde_json::json!({"role": "assistant", "content": "<think>\nt\n</think>\n\n", "tool_calls": call}));
    let parts = serde_json::json!({"role": "assistant", "content": [{"type": "text", "text": "a"}], "reasoning_content": "t"});
    let want = serde_json::json!([{"type": "text", "text": "<think>\nt\n</think>\n\n"}, {"type": "text", "text": "a"}]);
    assert_eq!(back(parts)["content"], want);
    let plain = serde_json::json!({"role": "assistant", "content": "a"});
    assert_eq!(back(plain.clone()), plain);
}

#[test]
fn what_a_provider_needs_back_goes_back_with_a_plain_client() {
    let seal = testing::seal();
    let call = |id: &str, more: &str| format!(r#"{{"id":"{id}","type":"function"{more},"function":{{"name":"f","arguments":"{{}}"}}}}"#);
    for (kind, said, want) in [
        (
            "deepseek",
            format!(r#""reasoning_content":"t\n","tool_calls":[{},{}]"#, call("c1", ""), call("c2", "")),
            serde_json::json!({"reasoning_content": "t\n"}),
        ),
        (
            "openrouter",
            format!(
                r#""reasoning":"t","reasoning_details":[{{"type":"reasoning.text","text":"t","signature":"s"}}],"tool_calls":[{}]"#,
                call("c1", "")
            ),
            serde_json::json!({"reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "s"}]}),
        ),
        (
            "openai_compatible",
            format!(r#""tool_calls":[{}]"#, call("c1", r#","extra_content":{"google":{"thought_signature":"s="}}"#)),
            serde_json::json!({"extra_content": {"google": {"thought_signature": "s="}}}),
        ),
    ] {
        let parsed = Parsed::parse(r#"{"model":"r","messages":[{"role":"user","content":"q"}]}"#.into()).unwrap();
        let params = Params::default();
        let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "up", seal: None };
        let mut out = encode::encode(&request, &request, &quirks(kind, None), false).unwrap();
        let body = format!(r#"{{"choices":[{{"message":{{"role":"assistant","content":null,{said}}},"finish_reason":"tool_calls"}}]}}"#);
        let mut rules = Rules::new(Record::default(), "", Some(seal.clone()));
        out.decoder.whole(body.as_bytes(), &mut rules).unwrap();
        let told = rules.writer.tell(&Ok(()));
        let ids: Vec<&str> = told.lines().filter(|line| line.starts_with("call ")).map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert!(ids[0].starts_with("c1--tg1-"), "{told}");
        let calls: Vec<Value> = ids.iter().map(|id| serde_json::from_str(&call(id, "")).unwrap()).collect();
        let history = serde_json::json!([
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": null, "tool_calls": calls},
            {"role": "tool", "tool_call_id": ids[0], "content": "r"},
        ]);
        let back = messages_of(kind, &history, false, Some(&seal));
        assert_eq!((&back[1]["tool_calls"][0]["id"], &back[2]["tool_call_id"]), (&Value::from("c1"), &Value::from("c1")));
        for (member, value) in want.as_object().unwrap() {
            let place = if member == "extra_content" { &back[1]["tool_calls"][0] } else { &back[1] };
            assert_eq!(place[member], *value, "{kind}: {back}");
        }
        // Another provider is not sent what it has not said.
        let other = messages_of("openai", &history, false, Some(&seal))[1].to_string();
        assert!(!other.contains("reasoning") && !other.contains("tg1"), "{other}");
    }
}

#[test]
fn a_turn_without_the_reasoning_that_a_provider_requires_gets_some_that_says_nothing() {
    let call = serde_json::json!([{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let history = serde_json::json!([
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": null, "reasoning_content": null, "tool_calls": call},
        {"role": "tool", "tool_call_id": "c", "content": "r"},
        {"role": "assistant", "content": "a", "reasoning_content": ""},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "b", "reasoning": "t"},
        {"role": "user", "content": "q"},
    ]);
    for kind in ["deepseek", "moonshot"] {
        let sent = messages_of(kind, &history, false, None);
        let reasoning: Vec<_> = [1, 3, 5].iter().map(|at| sent[at]["reasoning_content"].as_str().unwrap()).collect();
        assert_eq!(reasoning, [" ", " ", "t"], "{sent}");
        assert!(sent[0].get("reasoning_content").is_none() && sent[5].get("reasoning").is_none(), "{sent}");
        // Without tool calls no reasoning is required.
        let plain =
            serde_json::json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}]);
        assert_eq!(messages_of(kind, &plain, false, None), plain);
    }
    let mut kept = history.clone();
    kept[1].as_object_mut().unwrap().remove("reasoning_content");
    assert_eq!(messages_of("openai_compatible", &history, false, None), kept);
}

/// The messages of a request as a kind of provider gets them.
fn messages_at(kind: &str, messages: &str) -> Value {
    let parsed = Parsed::parse(format!(r#"{{"model":"r","messages":{messages}}}"#).into()).unwrap();
    let params = Params::default();
    let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "up", seal: None };
    let out = encode::encode(&request, &request, &quirks(kind, None), false).unwrap();
    serde_json::from_slice::<Value>(&out.body.joined()).unwrap()["messages"].take()
}

#[test]
fn an_assistants_empty_turn_is_left_out_where_it_is_refused() {
    let call = r#"[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]"#;
    let messages = format!(
        r#"[{{"role":"user","content":"a"}},{{"role":"assistant","content":"","reasoning_content":"t"}},{{"role":"assistant"}},
        {{"role":"assistant","content":[{{"type":"text","text":""}}]}},{{"role":"assistant","content":[{{"type":"text","text":""}}],"tool_calls":{call}}},
        {{"role":"tool","tool_call_id":"c","content":""}},{{"role":"assistant","content":[{{"type":"text","text":"b"}}]}},{{"role":"user","content":""}}]"#
    );
    let sent = messages_at("moonshot", &messages);
    let roles: Vec<_> = sent.as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant", "user"]);
    assert_eq!((&sent[1]["content"], &sent[3]["content"][0]["text"]), (&Value::from(""), &Value::from("b")));
    assert_eq!(messages_at("vllm", &messages).as_array().unwrap().len(), 8);
}

#[test]
fn the_role_developer_is_sent_to_those_that_are_known_to_have_it() {
    for (kind, role) in
        [("openai", "developer"), ("xai", "developer"), ("vllm", "system"), ("groq", "system"), ("openai_compatible", "system")]
    {
        assert_eq!(messages_at(kind, r#"[{"role":"developer","content":"a"}]"#)[0]["role"], role, "{kind}");
    }
}

#[test]
fn cache_marks_are_left_out_where_they_are_refused() {
    let messages = r#"[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]"#;
    assert_eq!(messages_at("fireworks", messages), serde_json::json!([{"role": "user", "content": [{"type": "text", "text": "a"}]}]));
    assert_eq!(messages_at("openrouter", messages)[0]["content"][0]["cache_control"]["type"], "ephemeral");
}
