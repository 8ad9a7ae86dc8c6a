//! Requests and answers of `tests/fixtures/mistral`, and real recordings where they are.

use super::*;
use crate::dialect::openai::decode::Decoder;
use crate::dialect::openai::tests::{cut, requests, whole};
use crate::dialect::shared::testing::{fixtures, recordings};
use crate::llm::request::Ask;
use serde_json::Value;

#[test]
fn requests_become_what_mistral_wants() {
    for file in fixtures("mistral/requests", "json") {
        requests(&file, |request, quirks| encode(&request.request()?, request, quirks, false));
    }
}

#[test]
fn answers_say_what_they_should() {
    for file in fixtures("mistral/answers", "sse") {
        let name = file.display().to_string();
        let (record, end) = cut(Decoder::default, &std::fs::read(&file).unwrap(), &name);
        let want = std::fs::read_to_string(file.with_extension("events")).unwrap();
        assert_eq!(record.tell(&end), want.trim_end_matches('\n'), "{name}");
    }
}

#[test]
fn recorded_answers_are_read() {
    let Some(folder) = recordings() else { return };
    for entry in std::fs::read_dir(folder.join("mistral")).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        let recording: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let body = recording["body_text"].as_str().unwrap_or_default().as_bytes();
        if recording["status"] != 200 {
            continue;
        }
        let (record, end) =
            if recording["mode"] == "stream" { cut(Decoder::default, body, &name) } else { whole(Decoder::default(), body) };
        let told = record.tell(&end);
        assert!(told.ends_with("complete") && told.contains("finish 0") && told.contains("usage"), "{name}: {told}");
    }
}
