//! Requests and answers of `tests/fixtures/bedrock`, and what no fixture can show.

use super::*;
use crate::dialect::Decoder as _;
use crate::dialect::shared::claude::StructuredOutput;
use crate::dialect::shared::testing::{self, Events, pieces, seal};
use crate::frame::Frame;
use crate::frame::aws_event_stream::write_message;
use crate::front::chat::rules::{finish_reason, refusal, write_members};
use crate::llm::adjustments::Adjustments;
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::event::{Block, Event, Sink};
use crate::llm::failure::{FailureClass, Fault};
use crate::llm::settings::Params;
use crate::llm::state::Seal;
use serde_json::{Value, json};

/// Encodes a request, with the route's own system text where one is given.
pub(in crate::dialect) fn encode(
    dialect: &dyn Dialect,
    model: &str,
    body: &Value,
    system: Option<&str>,
    seal: Option<&Seal>,
) -> Result<Outgoing, ApiError> {
    let parsed = Parsed::parse(body.to_string().into())?;
    let request = ChatRequest { parsed: &parsed, params: &Params::default(), system, model, seal };
    dialect.encode(&request)
}

/// Runs every request of a folder. A file says the client's request and what becomes of it; with `UPDATE_FIXTURES` in
/// the environment the latter is written anew.
pub(in crate::dialect) fn requests<D: Dialect>(folder: &str, dialect: impl Fn(&Value) -> D) {
    for (path, mut case) in testing::cases(&format!("{folder}/requests")) {
        let outcome = match encode(&dialect(&case), case["model"].as_str().unwrap(), &case["request"], case["system"].as_str(), None) {
            Err(error) => json!({"status": error.status, "param": error.param, "message": error.message}),
            Ok(out) => json!({
                "path": out.path,
                "headers": out.headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect::<Vec<_>>(),
                "dropped": out.dropped,
                "adjusted": out.adjusted,
                "body": testing::body(&out),
            }),
        };
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            case["outcome"] = outcome;
            std::fs::write(&path, serde_json::to_string_pretty(&case).unwrap() + "\n").unwrap();
        } else {
            assert_eq!(outcome, case["outcome"], "{}", path.display());
        }
    }
}

const PLAIN: Bedrock = Bedrock { default_max_tokens: None, structured_output: StructuredOutput::Native };

/// How the end of a stream is shown.
const END: &str = "other: End";

/// What an answer said, one line an event; neighbouring pieces of one text are one line, so that every way of cutting
/// a stream gives the same.
#[derive(Default)]
pub(in crate::dialect) struct Told(Vec<(String, String)>, Option<Fault>);

impl Sink for Told {
    fn event(&mut self, event: Event<'_>) {
        let (key, text) = match event {
            _ if self.1.is_some() => return,
            Event::Raw { block, .. } if block.essential => return self.1 = Some(Fault::Broken(refusal(&block).into())),
            Event::Image { .. } | Event::Citations { .. } => return write_members(&event, self),
            Event::Extra { choice, key, json, .. } => {
                return self.0.push(("other".to_owned(), format!("Extra {{ choice: {choice}, key: {key:?}, json: {json:?} }}")));
            }
            // As the chat front has it.
            Event::BlockEnd { block: Block::Call(call), .. } if !self.0.iter().any(|(key, _)| *key == format!("arguments {call}")) => {
                (format!("arguments {call}"), "{}".to_owned())
            }
            Event::BlockEnd { .. } | Event::ReasoningStart { .. } | Event::Signature { .. } | Event::RedactedReasoning { .. } => return,
            Event::Content { text, .. } => ("content".to_owned(), text.decode().into_owned()),
            Event::Reasoning { text, .. } => ("reasoning".to_owned(), text.decode().into_owned()),
            Event::ToolArguments { call, fragment, .. } => (format!("arguments {call}"), fragment.decode().into_owned()),
            Event::ToolStart { call, id, name, state, .. } => {
                let id = id.map(Text::decode).unwrap_or_default();
                let id = state.map_or(id.clone().into(), |state| seal().seal(&id, state));
                return self.0.push((format!("call {call}"), format!("{id} {}", name.decode())));
            }
            Event::Finish { reason, .. } => return self.0.push(("finish".to_owned(), finish_reason(&reason).to_owned())),
            Event::Usage(u) => {
                return self.0.push(("usage".to_owned(), format!("{} {} {} {}", u.prompt, u.completion, u.cached, u.cache_write)));
            }
            other => return self.0.push(("other".to_owned(), format!("{other:?}"))),
        };
        match self.0.last_mut() {
            Some((last, all)) if *last == key => all.push_str(&text),
            _ => self.0.push((key, text)),
        }
    }
}

impl Told {
    pub(in crate::dialect) fn lines(&self) -> Vec<String> {
        self.0.iter().map(|(key, text)| format!("{key}: {text}")).filter(|line| line != END).collect()
    }

    /// Whether it was said that nothing follows, and nothing followed.
    pub(in crate::dialect) fn ended(&self) -> bool {
        self.0.last().is_some_and(|(key, text)| format!("{key}: {text}") == END)
    }
}

/// What a stream says that comes in these pieces, and how it ended.
fn stream<'p>(case: &Value, pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<String>, Result<(), Fault>) {
    let mut told = Told::default();
    let result = testing::stream(Framing::AwsEventStream, &mut converse(case), pieces, &mut told);
    let lines = told.lines();
    assert_eq!(told.ended(), result.is_ok() && lines.last().is_some_and(|line| line.starts_with("usage")), "{lines:?}");
    (lines, result)
}

/// How the end of an answer stands in a fixture.
pub(in crate::dialect) fn ended(result: Result<(), Fault>) -> Value {
    match result {
        Ok(()) => Value::Null,
        Err(Fault::Provider(error)) => json!(format!("{:?}: {}", error.class, error.message)),
        Err(fault) => json!(format!("{fault:?}")),
    }
}

fn frames(events: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events.as_array().unwrap() {
        let (kind, payload) = (event[0].as_str().unwrap(), event[1].to_string());
        match kind.strip_prefix('!') {
            Some(kind) => write_message(&mut out, &[(":exception-type", kind), (":message-type", "exception")], payload.as_bytes()),
            None => write_message(&mut out, &[(":event-type", kind), (":message-type", "event")], payload.as_bytes()),
        }
    }
    out
}

/// The decoder of an answer fixture.
fn converse(case: &Value) -> decode::Converse {
    let family = Family::of(case["model"].as_str().unwrap_or("anthropic.claude-sonnet-4-5"));
    decode::Converse::new(family, (case["content_tool"] == true).then_some("json_answer"), false)
}

#[test]
fn requests_become_what_the_fixtures_say() {
    requests("bedrock", |case| Bedrock {
        structured_output: if case["structured_output"] == "tool" { StructuredOutput::Tool } else { StructuredOutput::Native },
        default_max_tokens: case["default_max_tokens"].as_u64().map(|limit| limit as u32),
    });
}

/// Ids that repeat, from a server that numbers the calls of each answer anew or gives all of them one id.
#[test]
fn ids_that_repeat_are_told_apart_and_each_call_has_one_result() {
    let call = |id: &str, n: u32| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": format!("{{\"n\":{n}}}")}});
    let result = |id: &str, text: &str| json!({"role": "tool", "tool_call_id": id, "content": text});
    let body = json!({"model": "r", "messages": [
        {"role": "user", "content": "Go"},
        {"role": "assistant", "tool_calls": [call("call_0", 1), call("call_0", 2), call("call_0-2", 3)]},
        result("call_0", "one"), result("call_0", "two"), result("call_0-2", "three"), result("call_0", "again"),
        {"role": "assistant", "tool_calls": [call("call_0", 4)]},
        result("call_0", "four"), result("call_9", "of nobody"),
    ]});
    let ids = |json: &Value, key: &str, field: &str| {
        let text = json.to_string();
        let found: Vec<String> = text
            .match_indices(key)
            .map(|(at, _)| {
                let from = &text[at..];
                let start = from.find(field).unwrap() + field.len();
                from[start..].split('"').next().unwrap().to_owned()
            })
            .collect();
        found
    };
    let sent = serde_json::from_slice::<Value>(
        &encode(&PLAIN, "us.anthropic.claude-sonnet-4-5-20250929-v1:0", &body, None, None).unwrap().body.joined(),
    )
    .unwrap();
    assert_eq!(ids(&sent["messages"], "\"toolUse\":", "\"toolUseId\":\""), ["call_0", "call_0-2", "call_0-2-2", "call_0-3"], "{sent}");
    assert_eq!(ids(&sent["messages"], "\"toolResult\":", "\"toolUseId\":\""), ["call_0", "call_0-2", "call_0-2-2", "call_0-3", "call_9"]);
    let texts = ["one", "two", "three", "four"].map(|text| sent.to_string().find(&format!("\"{text}\"")).unwrap());
    assert!(texts.is_sorted() && !sent.to_string().contains("again"), "{sent}");
}

/// A conversation of many calls under one id takes no more than time in proportion.
#[test]
fn many_calls_of_one_id_are_read_in_time() {
    let calls: Vec<Value> =
        (0..20_000).map(|_| json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}})).collect();
    let results = (0..20_000).map(|_| json!({"role": "tool", "tool_call_id": "c", "content": "x"}));
    let messages: Vec<Value> =
        [json!({"role": "user", "content": "Go"}), json!({"role": "assistant", "tool_calls": calls})].into_iter().chain(results).collect();
    let body = json!({"model": "r", "messages": messages});
    for model in ["us.anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon.nova-pro-v1:0"] {
        let sent = encode(&PLAIN, model, &body, None, None).unwrap().body.joined();
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        assert_eq!(sent["messages"][2]["content"].as_array().unwrap().len(), 20_000);
    }
}

#[test]
fn answers_say_what_the_fixtures_say_however_they_are_cut() {
    for (path, case) in testing::cases("bedrock/answers") {
        let want: Vec<String> = serde_json::from_value(case["says"].clone()).unwrap();
        if case["stream"].is_array() {
            let bytes = frames(&case["stream"]);
            let cuts = [vec![&bytes[..]], bytes.chunks(1).collect()].into_iter().chain((1..20).map(|seed| pieces(&bytes, seed)));
            for (number, cut) in cuts.enumerate() {
                let (lines, result) = stream(&case, cut);
                assert_eq!((&lines, ended(result)), (&want, case["fault"].clone()), "{} cut {number}", path.display());
            }
        }
        if case["whole"].is_object() {
            let mut told = Told::default();
            let result = converse(&case).whole(case["whole"].to_string().as_bytes(), &mut told);
            let result = told.1.take().map_or(result, Err);
            assert_eq!((told.lines(), ended(result)), (want, case["fault"].clone()), "{}", path.display());
        }
    }
}

#[test]
fn signed_and_redacted_reasoning_and_the_ends_of_blocks_are_events() {
    let delta = |block: u64, delta: Value| json!(["contentBlockDelta", {"contentBlockIndex": block, "delta": delta}]);
    let stop = |block: u64| json!(["contentBlockStop", {"contentBlockIndex": block}]);
    let bytes = frames(&json!([
        delta(0, json!({"reasoningContent": {"text": "hm"}})),
        delta(0, json!({"reasoningContent": {"signature": "c2ln"}})),
        stop(0),
        delta(1, json!({"reasoningContent": {"redactedContent": "QUFBQQ=="}})),
        stop(1),
        delta(2, json!({"text": "a"})),
        stop(2),
        ["metadata", {"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 10, "cacheWriteInputTokens": 7,
            "cacheDetails": [{"ttl": "5m", "inputTokens": 2}, {"ttl": "1h", "inputTokens": 5}]}}],
    ]));
    let (mut said, mut decoder) = (Events::default(), converse(&Value::Null));
    let end = testing::stream(Framing::AwsEventStream, &mut decoder, [&bytes[..]], &mut said);
    assert_eq!(end, Err(Fault::Truncated));
    assert!(said.0.pop().unwrap().contains("cache_write: 7, cache_write_hour: 5"));
    assert_eq!(
        said.0,
        [
            r#"Reasoning { choice: 0, text: Raw("hm") }"#,
            r#"Signature { choice: 0, text: Raw("c2ln") }"#,
            "BlockEnd { choice: 0, block: Reasoning }",
            r#"RedactedReasoning { choice: 0, data: Raw("AAAA") }"#,
            r#"Content { choice: 0, text: Raw("a") }"#,
            "BlockEnd { choice: 0, block: Text }",
        ]
    );
}

#[test]
fn a_stream_that_ends_too_early_is_truncated() {
    let text = json!(["contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Once"}}]);
    let bytes = frames(&json!([["messageStart", {"role": "assistant"}], text, ["messageStop", {"stopReason": "end_turn"}]]));
    let until_stop = frames(&json!([["messageStart", {"role": "assistant"}], text])).len();
    for length in 0..bytes.len() {
        let (lines, result) = stream(&Value::Null, bytes[..length].chunks(7));
        assert_eq!(result, Err(Fault::Truncated), "{length} bytes");
        assert!(!lines.iter().any(|line| line.starts_with("finish")), "{length} bytes");
    }
    assert!(until_stop < bytes.len());
}

#[test]
fn an_error_frame_and_other_frames_end_the_answer() {
    let frame = |message_type: &str, kind: &str, text: &str| {
        let frame = Frame::Aws { message_type, kind, error_message: text, payload: b"" };
        converse(&Value::Null).frame(frame, &mut Told::default()).unwrap_err()
    };
    let Fault::Provider(error) = frame("error", "InternalError", "boom") else { panic!() };
    assert_eq!((error.class, error.message.as_str()), (FailureClass::Server, "boom"));
    let Fault::Provider(error) = frame("exception", "throttlingException", "") else { panic!() };
    assert_eq!(error.class, FailureClass::RateLimited);
    assert!(matches!(frame("", "", ""), Fault::Broken(_)));
    let sse = Frame::Sse { event: None, data: "{}" };
    assert!(matches!(converse(&Value::Null).frame(sse, &mut Told::default()), Err(Fault::Broken(_))));
}

#[test]
fn what_is_no_answer_is_broken() {
    for body in [&b""[..], b"<html>", b"[]", b"{}", br#"{"output":{}}"#, b"{\"output\":{\"message\":{\"content\":[{\"text\":\"\xff\"}]}}}"]
    {
        let result = converse(&Value::Null).whole(body, &mut Told::default());
        assert!(matches!(result, Err(Fault::Broken(_))), "{body:?}");
    }
    for payload in [&b"x"[..], br#"{"contentBlockIndex":-1}"#, br#"{"delta":{"text":7}}"#] {
        let frame = Frame::Aws { message_type: "event", kind: "contentBlockDelta", error_message: "", payload };
        let result = converse(&Value::Null).frame(frame, &mut Told::default());
        assert!(matches!(result, Err(Fault::Broken(_))), "{payload:?}");
    }
}

#[test]
fn thinking_comes_back_before_the_call_that_it_led_to() {
    let seal = seal();
    let answer = json!({"output": {"message": {"role": "assistant", "content": [
        {"reasoningContent": {"reasoningText": {"text": "I \"need\" it.\n", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "RXU4RUNrZ0k="}},
        {"text": "Let me see."},
        {"toolUse": {"toolUseId": "tooluse_1", "name": "get_time", "input": {}}},
        {"toolUse": {"toolUseId": "tooluse_2", "name": "get_time", "input": {}}}
    ]}}, "stopReason": "tool_use"});
    let mut told = Told::default();
    decode::Converse::new(Family::Claude, None, true).whole(answer.to_string().as_bytes(), &mut told).unwrap();
    let ids: Vec<String> =
        told.lines().iter().filter(|l| l.starts_with("call ")).map(|l| l.split(' ').nth(2).unwrap().to_owned()).collect();
    assert!(ids[0].starts_with("tooluse_1--tg1-"));
    assert_eq!(ids[1], "tooluse_2");

    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "get_time", "arguments": "{}"}});
    let body = json!({"model": "r", "reasoning_effort": "low", "messages": [
        {"role": "user", "content": "Time?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call(&ids[0]), call(&ids[1])]},
        {"role": "tool", "tool_call_id": ids[0], "content": "12:00"},
        {"role": "tool", "tool_call_id": ids[1], "content": "12:01"}
    ], "tools": [{"type": "function", "function": {"name": "get_time"}}]});
    let model = "us.anthropic.claude-sonnet-4-5-v1:0";
    let sent = |seal: Option<&Seal>| {
        let out = encode(&PLAIN, model, &body, None, seal).unwrap();
        (testing::body(&out), out.dropped)
    };
    let (body, dropped) = sent(Some(&seal));
    let content = body["messages"][1]["content"].as_array().unwrap();
    assert_eq!(content[..4], answer["output"]["message"]["content"].as_array().unwrap()[..4]);
    assert_eq!(body["messages"][2]["content"][0]["toolResult"]["toolUseId"], "tooluse_1");
    assert_eq!(body["additionalModelRequestFields"]["thinking"]["type"], "enabled");
    assert!(dropped.is_empty());
    // Without the thinking Claude refuses to think on.
    let (body, dropped) = sent(None);
    assert!(body.get("additionalModelRequestFields").is_none());
    assert_eq!(dropped, ["reasoning_effort"]);
}

#[test]
fn thinking_between_calls_comes_back_between_them_and_to_claude_only() {
    let seal = seal();
    let thought = |text: &str| format!(r#"{{"type":"thinking","thinking":"{text}","signature":"c2ln"}}"#);
    let call = |id: &str, text: &str| {
        let id = seal.seal(id, thought(text).as_bytes());
        json!({"id": id, "type": "function", "function": {"name": "get_time", "arguments": "{}"}})
    };
    let (one, two) = (call("t1", "first"), call("t2", "second"));
    let body = json!({"model": "r", "reasoning_effort": "low", "messages": [
        {"role": "user", "content": "Time?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [one, two]},
        {"role": "tool", "tool_call_id": one["id"], "content": "12:00"},
        {"role": "tool", "tool_call_id": two["id"], "content": "12:01"},
        {"role": "user", "content": "Go on."}
    ], "tools": [{"type": "function", "function": {"name": "get_time"}}]});
    let kinds = |model: &str| {
        let body = testing::body(&encode(&PLAIN, model, &body, None, Some(&seal)).unwrap());
        let content = body["messages"][1]["content"].as_array().unwrap().clone();
        content.iter().map(|block| block.as_object().unwrap().keys().next().unwrap().clone()).collect::<Vec<_>>()
    };
    assert_eq!(kinds("us.anthropic.claude-sonnet-4-5-v1:0"), ["reasoningContent", "text", "toolUse", "reasoningContent", "toolUse"]);
    assert_eq!(kinds("us.amazon.nova-pro-v1:0"), ["text", "toolUse", "toolUse"]);
}

/// Real answers, where a folder of them is at hand (`TIDEGATE_RECORDINGS`): each is read to its end, however it is cut.
#[test]
fn a_model_that_has_refused_to_cache_is_not_asked_to() {
    let mark = json!({"type": "ephemeral"});
    let body = json!({"model": "r", "messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": mark}]}],
        "tools": [{"type": "function", "function": {"name": "f"}, "cache_control": mark}]});
    let parsed = Parsed::parse(body.to_string().into()).unwrap();
    let points = |without_cache_marks| {
        let adjustments = Adjustments { without_cache_marks, ..Adjustments::default() };
        let params = Params { adjustments, ..Params::default() };
        let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "us.anthropic.claude-sonnet-4-6", seal: None };
        testing::body(&PLAIN.encode(&request).unwrap()).to_string().matches("cachePoint").count()
    };
    assert_eq!((points(false), points(true)), (2, 0));
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-amzn-errortype"), "AccessDeniedException".parse().unwrap())]);
    let words = br#"{"message":"You invoked an unsupported model or your request did not allow prompt caching. See the documentation."}"#;
    assert_eq!(PLAIN.read_error(403, &headers, words).judged(), FailureClass::BadRequest);
}

#[test]
fn recorded_answers_are_read() {
    use base64::Engine;
    let Some(folder) = testing::recordings() else { return };
    for file in std::fs::read_dir(folder.join("bedrock")).unwrap() {
        let path = file.unwrap().path();
        let case: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let body = match case["body_base64"].as_str() {
            Some(text) => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
            None => case["body_text"].as_str().unwrap().as_bytes().to_vec(),
        };
        if case["status"] != 200 {
            let error = PLAIN.read_error(case["status"].as_u64().unwrap() as u16, &HeaderMap::new(), &body);
            assert!(!error.message.starts_with('{'), "{}", path.display());
            continue;
        }
        let mut told = Told::default();
        if case["mode"] == "stream" {
            let (lines, result) = stream(&Value::Null, [&body[..]]);
            assert_eq!(result, Ok(()), "{}", path.display());
            for seed in 0..3 {
                assert_eq!(stream(&Value::Null, pieces(&body, seed)), (lines.clone(), Ok(())), "{}", path.display());
            }
            assert!(lines.iter().any(|line| line.starts_with("finish: ")), "{}", path.display());
        } else {
            let result = converse(&Value::Null).whole(&body, &mut told);
            assert_eq!(result, Ok(()), "{}", path.display());
        }
    }
}
