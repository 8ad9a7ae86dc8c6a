//! Answers: streams cut in every way, whole bodies, failures inside of them, and what real services sent.

use super::*;
use crate::dialect;
use crate::dialect::shared::testing::Events;
use serde_json::json;

fn decoder(case: &Value) -> Box<dyn Decoder> {
    let mut case = case.clone();
    if case["request"].is_null() {
        case["request"] = serde_json::json!({"model": "r", "messages": [{"role": "user", "content": "x"}]});
    }
    encode(&case, None).unwrap().decoder
}

/// The bytes of a stream fixture, framed as the service frames them.
fn framed(events: &Value) -> Vec<u8> {
    let event = |e: &Value| format!("event: {}\r\ndata: {e}\r\n\r\n", e["type"].as_str().unwrap_or("x"));
    events.as_array().unwrap().iter().map(event).collect::<String>().into_bytes()
}

#[test]
fn streams_say_the_same_however_they_are_cut() {
    for (path, case) in named("stream-") {
        let bytes = framed(&case["events"]);
        let want: Vec<String> = serde_json::from_value(case["said"].clone()).unwrap();
        assert_eq!(stream(decoder(&case), [&bytes[..]]), want, "{}", path.display());
        assert_eq!(stream(decoder(&case), bytes.chunks(1)), want, "{}", path.display());
        for seed in 0..5 {
            assert_eq!(stream(decoder(&case), pieces(&bytes, seed)), want, "{}", path.display());
        }
    }
}

#[test]
fn whole_answers_are_streams_of_one_step() {
    for (path, case) in named("whole-") {
        let want: Vec<String> = serde_json::from_value(case["said"].clone()).unwrap();
        assert_eq!(whole(decoder(&case), case["body"].to_string().as_bytes()), want, "{}", path.display());
    }
}

#[test]
fn what_is_no_answer_is_broken() {
    for body in ["", "{}", "<html>", r#"{"type":"message","content":"x"}"#, r#"{"type":"completion"}"#, "[1]"] {
        assert_eq!(whole(decoder(&Value::Null), body.as_bytes()), ["broken"], "{body}");
    }
    for data in ["{", "[]", r#"{"type":"content_block_start","index":0}"#, r#"{"type":"message_stop"}"#] {
        let bytes = format!("data: {data}\n\n");
        assert_eq!(stream(decoder(&Value::Null), [bytes.as_bytes()]), ["broken"], "{data}");
    }
    let blocks: String = (0..1000)
        .map(|i| {
            format!("data: {{\"type\":\"content_block_start\",\"index\":{i},\"content_block\":{{\"type\":\"text\",\"text\":\"\"}}}}\n\n")
        })
        .collect();
    assert_eq!(stream(decoder(&Value::Null), [blocks.as_bytes()]), ["broken"]);
}

#[test]
fn every_cut_off_stream_is_truncated() {
    let (_, case) = named("stream-everything").remove(0);
    let events = case["events"].as_array().unwrap();
    for count in 0..events.len() - 1 {
        let bytes = framed(&Value::from(events[..count].to_vec()));
        assert_eq!(stream(decoder(&case), [&bytes[..]]).pop().unwrap(), "truncated", "{count}");
    }
}

#[test]
fn every_block_has_events_of_its_own() {
    let start = |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let stop = |index: u64| json!({"type": "content_block_stop", "index": index});
    let search = json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}});
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"type": "web_search_result", "url": "u", "title": "t"}]});
    let usage = json!({"input_tokens": 1, "cache_creation_input_tokens": 7, "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5}});
    let events = [
        json!({"type": "message_start", "message": {"id": "m", "type": "message", "usage": usage}}),
        start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
        delta(0, json!({"type": "signature_delta", "signature": "c2ln"})),
        stop(0),
        start(1, json!({"type": "redacted_thinking", "data": "AAAA"})),
        stop(1),
        start(2, search.clone()),
        delta(2, json!({"type": "input_json_delta", "partial_json": "{}"})),
        stop(2),
        start(3, found.clone()),
        stop(3),
        start(4, json!({"type": "text", "text": ""})),
        delta(4, json!({"type": "text_delta", "text": "a"})),
        stop(4),
        start(5, json!({"type": "tool_use", "id": "t1", "name": "f", "input": {}})),
        stop(5),
        json!({"type": "message_delta", "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"}}),
        json!({"type": "message_stop"}),
    ];
    let mut decoder = decode::Decoder::new(None, true);
    let mut said = Events::default();
    events.iter().for_each(|event| decoder.event(&event.to_string(), &mut said).unwrap());
    let raw = |name, json: &Value| {
        format!(
            "Raw {{ choice: 0, block: RawBlock {{ name: {name:?}, media_type: \"\", json: {:?}, essential: false }} }}",
            json.to_string()
        )
    };
    let state = format!(r#"{THOUGHT},{{"type":"redacted_thinking","data":"AAAA"}}"#);
    let call = r#"ToolStart { choice: 0, call: 0, id: Some(Raw("t1")), name: Raw("f"), form: Function, state: "#;
    assert!(said.0.remove(0).contains("cache_write: 7, cache_write_hour: 5"));
    assert_eq!(
        said.0,
        [
            "ReasoningStart { choice: 0 }",
            r#"Reasoning { choice: 0, text: Raw("hm") }"#,
            r#"Signature { choice: 0, text: Raw("c2ln") }"#,
            "BlockEnd { choice: 0, block: Reasoning }",
            r#"RedactedReasoning { choice: 0, data: Raw("AAAA") }"#,
            &raw("server_tool_use", &search),
            r#"RawInput { choice: 0, fragment: Raw("{}") }"#,
            "BlockEnd { choice: 0, block: Raw }",
            &raw("web_search_tool_result", &found),
            r#"SearchResults { choice: 0, pages: [Page { url: Raw("u"), title: Some(Raw("t")) }] }"#,
            "BlockEnd { choice: 0, block: Raw }",
            r#"Content { choice: 0, text: Raw("a") }"#,
            "BlockEnd { choice: 0, block: Text }",
            &format!("{call}{:?} }}", Some(state.as_bytes())),
            "BlockEnd { choice: 0, block: Call(0) }",
            r#"Finish { choice: 0, reason: StopSequence(Some("END")) }"#,
            "End",
        ]
    );
    let message = json!({"type": "message", "content": [search, {"type": "video"}], "stop_reason": "refusal", "stop_details": {"type": "refusal", "category": "cyber"}});
    let mut said = Events::default();
    dialect::Decoder::whole(&mut decode::Decoder::new(None, false), message.to_string().as_bytes(), &mut said).unwrap();
    let video = raw("video", &json!({"type": "video"})).replace("false", "true");
    let end = "BlockEnd { choice: 0, block: Raw }";
    let refused = r#"Finish { choice: 0, reason: Refusal(Some("cyber")) }"#;
    assert_eq!(said.0, [&raw("server_tool_use", &search), end, &video, end, refused]);
}

const THOUGHT: &str = r#"{"type":"thinking","thinking":"hm","signature":"c2ln"}"#;

/// Joins what was said into texts, calls and a finish.
fn summary(said: &[String]) -> Value {
    let text = |kind: &str| said.iter().filter_map(|line| line.strip_prefix(kind)).collect::<String>();
    let calls = said.iter().filter_map(|line| line.strip_prefix("call ")).map(|call| {
        let (number, rest) = call.split_once(' ').unwrap();
        let (id, name) = rest.split_once(' ').unwrap();
        serde_json::json!([id, name, serde_json::from_str::<Value>(&text(&format!("arguments {number} "))).unwrap()])
    });
    serde_json::json!({"text": text("content "), "thinking": text("reasoning "), "calls": calls.collect::<Vec<_>>(), "end": said.last().unwrap()})
}

/// The same from a plain reading of a whole message.
fn plain(message: &Value) -> Value {
    let blocks = message["content"].as_array().unwrap();
    let text = |kind: &str| blocks.iter().filter(|b| b["type"] == kind).map(|b| b[kind].as_str().unwrap()).collect::<String>();
    let calls = blocks.iter().filter(|b| b["type"] == "tool_use").map(|b| serde_json::json!([b["id"], b["name"], b["input"]]));
    let end = match message["stop_reason"].as_str().unwrap() {
        "end_turn" | "stop_sequence" | "pause_turn" => "finish stop",
        "max_tokens" => "finish length",
        "tool_use" => "finish tool_calls",
        "refusal" => "finish content_filter",
        other => panic!("{other}"),
    };
    serde_json::json!({"text": text("text"), "thinking": text("thinking"), "calls": calls.collect::<Vec<_>>(), "end": end})
}

/// A stream put together into the message that it stands for.
fn assemble(body: &str) -> Value {
    let (mut blocks, mut stop) = (Vec::<Value>::new(), Value::Null);
    for event in body.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data:")?).ok()) {
        match event["type"].as_str().unwrap() {
            "content_block_start" => blocks.push(event["content_block"].clone()),
            "content_block_delta" => {
                let block = blocks.last_mut().unwrap();
                for (from, to) in [("text", "text"), ("thinking", "thinking"), ("partial_json", "json")] {
                    if let Some(more) = event["delta"][from].as_str() {
                        block[to] = (block[to].as_str().unwrap_or("").to_owned() + more).into();
                    }
                }
            }
            "message_delta" => stop = event["delta"]["stop_reason"].clone(),
            _ => {}
        }
    }
    for block in blocks.iter_mut().filter(|b| b["json"].as_str().is_some_and(|json| !json.is_empty())) {
        block["input"] = serde_json::from_str(block["json"].as_str().unwrap()).unwrap();
    }
    serde_json::json!({"content": blocks, "stop_reason": stop})
}

/// Real answers, where a folder of them is at hand (`TIDEGATE_RECORDINGS`): they say what a plain reading of their JSON
/// finds, however they are cut.
#[test]
fn recorded_answers_say_what_a_plain_reading_finds() {
    let Some(folder) = testing::recordings() else { return };
    let mut read = 0;
    for provider in ["anthropic", "vertex"] {
        for file in std::fs::read_dir(folder.join(provider)).unwrap() {
            let path = file.unwrap().path();
            let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            if case["dialect"] != "anthropic" {
                continue;
            }
            read += 1;
            let (status, body) = (case["status"].as_u64().unwrap() as u16, case["body_text"].as_str().unwrap());
            if status != 200 {
                let error = anthropic(&Value::Null).read_error(status, &HeaderMap::new(), body.as_bytes());
                assert_eq!(error.class, crate::llm::failure::FailureClass::of_status(status), "{}", path.display());
                assert!(!error.message.starts_with('{'), "{}", path.display());
            } else if case["mode"] == "stream" {
                let said = stream(decoder(&Value::Null), [body.as_bytes()]);
                assert_eq!(summary(&said), plain(&assemble(body)), "{}", path.display());
                assert_eq!(stream(decoder(&Value::Null), body.as_bytes().chunks(1)), said, "{}", path.display());
                for seed in 0..3 {
                    assert_eq!(stream(decoder(&Value::Null), pieces(body.as_bytes(), seed)), said, "{}", path.display());
                }
            } else {
                let said = whole(decoder(&Value::Null), body.as_bytes());
                assert_eq!(summary(&said), plain(&serde_json::from_str(body).unwrap()), "{}", path.display());
            }
        }
    }
    assert!(read > 0);
}

#[derive(Default)]
struct Log(Vec<String>);

impl Sink for Log {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Raw { block, .. } => self.0.push(format!("{} {}", block.name, block.essential)),
            Event::Finish { reason, .. } => self.0.push(format!("{reason:?}")),
            _ => {}
        }
    }
}

#[test]
fn what_is_unknown_in_an_answer_that_passes_is_no_failure() {
    for (kind, stop, log) in [
        ("compaction", "compaction", ["compaction true", "Pause"]),
        ("hologram", "brand_new", ["hologram false", "Stop"]),
        ("hologram", "tool_error", ["hologram false", "Stop"]),
    ] {
        let mut whole = Log::default();
        let block = format!(r#"{{"type":"{kind}","content":"s","encrypted_content":"x"}}"#);
        let body = format!(r#"{{"type":"message","content":[{block}],"stop_reason":"{stop}","usage":{{"output_tokens":3}}}}"#);
        decode::Decoder::native().whole(body.as_bytes(), &mut whole).unwrap();
        assert_eq!(whole.0, log);
        let mut streamed = (decode::Decoder::native(), Log::default());
        for data in [
            r#"{"type":"message_start","message":{"id":"msg_1"}}"#,
            &format!(r#"{{"type":"content_block_start","index":0,"content_block":{{"type":"{kind}","content":null}}}}"#),
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"compaction_delta","content":"s"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            &format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{stop}"}},"usage":{{"output_tokens":3}}}}"#),
            r#"{"type":"message_stop"}"#,
        ] {
            streamed.0.frame(crate::frame::Frame::Sse { event: None, data }, &mut streamed.1).unwrap();
        }
        streamed.0.end(&mut streamed.1).unwrap();
        assert_eq!(streamed.1.0, log);
    }
    let unsaid = r#"{"type":"message","content":[],"stop_reason":null}"#;
    assert!(decode::Decoder::native().whole(unsaid.as_bytes(), &mut Log::default()).is_err());
}
