//! Answers: every fixture whole, byte by byte and cut at random; then what no fixture can show.

use super::*;
use crate::dialect::shared::testing;
use crate::frame::Framing;
use crate::front::chat::rules::{finish_reason, write_members};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What an answer said, put together; texts joined so that the cut does not show.
#[derive(Default)]
struct Said(Value);

impl Said {
    fn new() -> Self {
        Self(json!({"choices": {}}))
    }

    fn at(&mut self, choice: u32, key: &str) -> &mut Value {
        &mut self.0["choices"][choice.to_string()][key]
    }

    fn append(&mut self, choice: u32, key: &str, text: Text<'_>) {
        let slot = self.at(choice, key);
        *slot = json!(format!("{}{}", slot.as_str().unwrap_or_default(), text.decode()));
    }
}

impl Sink for Said {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Content { choice, text } => self.append(choice, "content", text),
            Event::Reasoning { choice, text } => self.append(choice, "reasoning", text),
            Event::ToolStart { choice, call, id, name, state, .. } => {
                let mut start = json!({"id": id.map(|id| id.decode().into_owned()), "name": name.decode(), "arguments": ""});
                if let Some(state) = state {
                    start["state"] = json!(state);
                }
                assert!(self.at(choice, "calls")[call.to_string()].is_null(), "call {call} begins twice");
                self.at(choice, "calls")[call.to_string()] = start;
            }
            Event::ToolArguments { choice, call, fragment } => {
                let slot = &mut self.at(choice, "calls")[call.to_string()]["arguments"];
                *slot = json!(format!("{}{}", slot.as_str().unwrap(), fragment.decode()));
            }
            Event::Finish { choice, reason } => *self.at(choice, "finish") = json!(finish_reason(&reason)),
            Event::Logprobs { choice, json } => *self.at(choice, "logprobs") = serde_json::from_str(json).unwrap(),
            Event::Image { .. } | Event::Audio { .. } | Event::Citations { .. } | Event::SearchResults { .. } => {
                write_members(&event, self)
            }
            Event::BlockEnd { choice, block: Block::Call(call) } => {
                let slot = &mut self.at(choice, "calls")[call.to_string()]["arguments"];
                if slot == "" {
                    *slot = json!("{}"); // as the chat front has it
                }
            }
            Event::Raw { block, .. } if !block.essential => {}
            Event::Extra { choice, key, json, .. } => {
                let more: Value = serde_json::from_str(json).unwrap();
                let slot = self.at(choice, key);
                match (slot.as_array_mut(), more) {
                    (Some(list), Value::Array(more)) => list.extend(more),
                    (_, more) => *slot = more,
                }
            }
            Event::Usage(u) => self.0["usage"] = json!([u.prompt, u.completion, u.cached, u.reasoning]),
            other => panic!("{other:?}"),
        }
    }
}

fn stream<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> (Value, Result<(), Fault>) {
    let mut said = Said::new();
    let end = testing::stream(Framing::Sse, &mut GeminiDecoder::default(), pieces, &mut said);
    (said.0, end)
}

fn whole(body: &str) -> (Value, Result<(), Fault>) {
    let (mut decoder, mut said) = (GeminiDecoder::default(), Said::new());
    let end = decoder.whole(body.as_bytes(), &mut said);
    (said.0, end)
}

fn outcome(end: &Result<(), Fault>) -> &'static str {
    match end {
        Ok(()) => "ok",
        Err(Fault::Provider(_)) => "provider",
        Err(Fault::Broken(_)) => "broken",
        Err(Fault::Truncated) => "truncated",
    }
}

/// The fixtures: name, body, whether it is a stream, what it says, how it ends.
fn fixtures() -> Vec<(String, String, bool, Value, String)> {
    let read = testing::cases("gemini/answers").map(|(path, case)| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let end = case["end"].as_str().unwrap_or("ok").to_owned();
        if let Some(chunks) = case["stream"].as_array() {
            // The real service ends lines with CR LF.
            let body = chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect();
            (name, body, true, case["says"].clone(), end)
        } else {
            let body = case["text"].as_str().map_or_else(|| case["whole"].to_string(), str::to_owned);
            (name, body, false, case["says"].clone(), end)
        }
    });
    read.collect()
}

#[test]
fn every_answer_says_what_its_fixture_says_however_it_is_cut() {
    let all = fixtures();
    assert!(all.len() >= 12, "only {} fixtures", all.len());
    for (name, body, streamed, says, end) in all {
        if !streamed {
            let (said, got) = whole(&body);
            assert_eq!((said, outcome(&got)), (says, &*end), "{name}");
            continue;
        }
        let (said, got) = stream([body.as_bytes()]);
        assert_eq!((&said, outcome(&got)), (&says, &*end), "{name}");
        let (bytes, got) = stream(body.as_bytes().chunks(1));
        assert_eq!((bytes, outcome(&got)), (says, &*end), "{name} byte by byte");
    }
}

proptest! {
    #[test]
    fn random_cuts_change_nothing(seed: u64) {
        for (name, body, _, says, end) in fixtures().into_iter().filter(|(_, _, streamed, ..)| *streamed) {
            let (said, got) = stream(testing::pieces(body.as_bytes(), seed));
            prop_assert_eq!((said, outcome(&got)), (says, &*end), "{}", name);
        }
    }

    #[test]
    fn no_answer_makes_it_panic(body in "[\\[\\]{}\":,a-z0-9 ]{0,80}") {
        let _ = whole(&body);
        let _ = whole(&format!("{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{body}}}]}}}}]}}"));
    }
}

#[test]
fn a_stream_that_stops_anywhere_is_truncated() {
    for (name, body, _, _, _) in fixtures().into_iter().filter(|(.., streamed, _, end)| *streamed && end == "ok") {
        // The finish can stand in any chunk; before the first one that has it, every end is a cut.
        let finish = [body.find("finishReason"), body.find("blockReason")].into_iter().flatten().min().unwrap();
        for cut in [0, 1, finish / 2, finish] {
            let (said, got) = stream([&body.as_bytes()[..cut]]);
            assert_ne!(outcome(&got), "ok", "{name} cut at {cut}");
            assert!(!said.to_string().contains("finish"), "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_signature_is_the_state_of_its_call() {
    let body = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\"},\"thoughtSignature\":\"c2ln\"},\
        {\"functionCall\":{\"name\":\"g\",\"id\":\"own\"}},{\"functionCall\":{\"name\":\"h\"}},{\"functionCall\":{\"name\":\"i\"},\"thoughtSignature\":\"?!\"}]},\"finishReason\":\"STOP\"}]}\n\n";
    let (said, _) = stream([body.as_bytes()]);
    let call = |call: &str| said["choices"]["0"]["calls"][call].clone();
    assert_eq!(call("0")["state"], json!(b"\xffgemini:sig"));
    assert_eq!((&call("1")["id"], &call("1")["state"]), (&json!("own"), &Value::Null));
    assert!(call("2")["id"].is_null() && call("2")["state"].is_null());
    assert_eq!(call("3")["state"], json!(b"\xffgemini=?!"));
}

#[test]
fn texts_keep_their_spelling() {
    struct Raw(Vec<String>);
    impl Sink for Raw {
        fn event(&mut self, event: Event<'_>) {
            if let Event::Content { text: Text::Raw(raw), .. } = event {
                self.0.push(raw.to_owned());
            }
        }
    }
    let mut raw = Raw(Vec::new());
    let body = br#"{"candidates":[{"content":{"parts":[{"text":"\u00fc\n\ud83d\ude00"}]},"finishReason":"STOP"}]}"#;
    GeminiDecoder::default().whole(body, &mut raw).unwrap();
    assert_eq!(raw.0, [r"\u00fc\n\ud83d\ude00"]);
}

#[test]
fn failures_are_told_with_the_providers_words_and_never_as_an_answer() {
    let fail = |body: &str| whole(body).1.unwrap_err();
    let Fault::Provider(error) = fail(r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL","finishMessage":"bad call"}]}"#) else {
        panic!()
    };
    assert_eq!((error.class, &*error.message), (FailureClass::Server, "The answer ended with MALFORMED_FUNCTION_CALL. bad call"));
    let long = "ü".repeat(MAX_FINISH_MESSAGE);
    let Fault::Provider(error) = fail(&json!({"candidates": [{"finishReason": "OTHER", "finishMessage": long}]}).to_string()) else {
        panic!()
    };
    assert!(error.message.len() < MAX_FINISH_MESSAGE + 64);
    let Fault::Provider(error) = fail(r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#) else {
        panic!()
    };
    assert_eq!(error.class, FailureClass::Overloaded);
    let Fault::Broken(why) = fail(r#"{"candidates":"SECRET"}"#) else { panic!() };
    assert!(!why.contains("SECRET"));
    let many: Vec<_> = (0..=MAX_CHOICES).map(|i| json!({"index": i, "finishReason": "STOP"})).collect();
    assert!(matches!(fail(&json!({"candidates": many}).to_string()), Fault::Broken(_)));
}

/// What real providers answered, where a folder of recordings is at hand (`TIDEGATE_RECORDINGS`): the texts and calls
/// that a plain reading of the JSON finds must be those that the decoder tells.
#[test]
fn recordings_say_what_a_plain_reading_finds() {
    let Some(folder) = testing::recordings() else { return };
    let folders = ["google_ai_studio", "vertex"].map(|kind| folder.join(kind));
    for path in folders.iter().flat_map(|f| std::fs::read_dir(f).unwrap()).map(|file| file.unwrap().path()) {
        let case: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let (status, body) = (case["status"].as_u64().unwrap() as u16, case["body_text"].as_str().unwrap());
        if case["dialect"] != "gemini" {
            continue;
        }
        if status != 200 {
            let error = crate::dialect::gemini::error::read(status, &http::HeaderMap::new(), body.as_bytes());
            assert!(!error.message.is_empty() && error.class != FailureClass::Server, "{}: {error:?}", path.display());
            continue;
        }
        let streamed = case["mode"] == "stream";
        let (said, end) = if streamed { stream(body.as_bytes().chunks(1)) } else { whole(body) };
        let chunks: Vec<Value> = match streamed {
            true => body.lines().filter_map(|l| serde_json::from_str(l.strip_prefix("data:")?).ok()).collect(),
            false => vec![serde_json::from_str(body).unwrap()],
        };
        let candidates = || chunks.iter().flat_map(|c| c["candidates"].as_array().into_iter().flatten());
        let first = || candidates().filter(|c| c["index"].as_u64().unwrap_or(0) == 0);
        let parts: Vec<&Value> = first().flat_map(|c| c["content"]["parts"].as_array().into_iter().flatten()).collect();
        let finishes: Vec<&str> = candidates().filter_map(|c| c["finishReason"].as_str()).collect();
        let pieces = parts.iter().any(|p| p["functionCall"]["partialArgs"].is_array());
        let want = match finishes.last() {
            _ if pieces => "broken",
            Some(word) if Finish::of(word, !parts.is_empty()).is_none() => "provider",
            None if chunks.iter().all(|c| c["promptFeedback"].is_null()) => {
                if streamed || !parts.is_empty() {
                    "truncated"
                } else {
                    "broken"
                }
            }
            _ => "ok",
        };
        assert_eq!(outcome(&end), want, "{}", path.display());
        if pieces {
            continue;
        }
        let text = |thought: bool| -> String {
            let chosen = parts.iter().filter(|p| (p["thought"] == true) == thought && p["functionCall"].is_null());
            chosen.filter_map(|p| p["text"].as_str()).collect()
        };
        let choice = &said["choices"]["0"];
        assert_eq!(choice["content"].as_str().unwrap_or_default(), text(false), "{}", path.display());
        assert_eq!(choice["reasoning"].as_str().unwrap_or_default(), text(true), "{}", path.display());
        let named: Vec<&Value> = parts.iter().map(|p| &p["functionCall"]).filter(|c| c["name"].is_string()).collect();
        for (i, call) in named.iter().enumerate() {
            let got = &choice["calls"][i.to_string()];
            let arguments: Value = serde_json::from_str(got["arguments"].as_str().unwrap()).unwrap();
            let wanted = if call["args"].is_null() { json!({}) } else { call["args"].clone() };
            assert_eq!((&got["name"], &arguments), (&call["name"], &wanted), "{}", path.display());
        }
    }
}

#[test]
fn two_lists_become_one() {
    let json = r#"{"chosenCandidates":[{"token":"ü","tokenId":7,"logProbability":-0.25},{"token":"!"}],
        "topCandidates":[{"candidates":[{"token":"ü","logProbability":-0.25},{"token":"u","logProbability":"-Infinity"}]},{}]}"#;
    let got: serde_json::Value = serde_json::from_str(&super::convert(&serde_json::from_str(json).unwrap()).unwrap()).unwrap();
    let want = serde_json::json!({"refusal": null, "content": [
        {"token": "ü", "logprob": -0.25, "bytes": [195, 188], "top_logprobs": [
            {"token": "ü", "logprob": -0.25, "bytes": [195, 188]}, {"token": "u", "logprob": -9999.0, "bytes": [117]}]},
        {"token": "!", "logprob": 0.0, "bytes": [33], "top_logprobs": []}]});
    assert_eq!(got, want);
    assert!(super::convert(&serde_json::from_str("{}").unwrap()).is_none());
}
