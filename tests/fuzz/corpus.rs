//! Where inputs begin: the fixtures of every dialect, and `corpus/TARGET/`, which keeps what once went wrong.

use crate::wire::{self, Message};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn files(folder: &str) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder))
        .map(|all| all.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    out.sort();
    out
}

/// `corpus/TARGET/`, in the order of names; may be absent.
pub fn kept(target: &str) -> Vec<Vec<u8>> {
    files(&format!("fuzz/corpus/{target}")).iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Every JSON file below some folders of `tests/fixtures`.
fn documents(folders: &[&str]) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    for folder in folders {
        for path in files(&format!("fixtures/{folder}")).iter().filter(|path| path.extension().is_some_and(|e| e == "json")) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if let Ok(value) = serde_json::from_slice(&std::fs::read(path).unwrap()) {
                out.push((name, value));
            }
        }
    }
    out
}

/// What clients ask in the fixtures: objects under `request` or `client` that have this member.
fn asked(with: &str) -> Vec<Vec<u8>> {
    fn find(value: &Value, with: &str, out: &mut Vec<Vec<u8>>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| find(item, with, out)),
            Value::Object(members) => {
                for (key, member) in members {
                    if matches!(key.as_str(), "request" | "client") && member.get(with).is_some() {
                        out.push(serde_json::to_vec(member).unwrap());
                    } else {
                        find(member, with, out);
                    }
                }
            }
            _ => {}
        }
    }
    let folders = [
        "anthropic",
        "bedrock/requests",
        "gemini/requests",
        "mistral/requests",
        "openai/requests",
        "openai/responses/requests",
        "sagemaker/requests",
        "embeddings",
        "golden",
    ];
    let mut out = Vec::new();
    documents(&folders).iter().for_each(|(_, value)| find(value, with, &mut out));
    out.sort();
    out.dedup();
    out
}

/// Chat requests.
pub fn chats() -> Vec<Vec<u8>> {
    [kept("chat"), asked("messages")].concat()
}

/// Embeddings requests.
pub fn embeddings() -> Vec<Vec<u8>> {
    [kept("embeddings"), asked("input")].concat()
}

/// Requests of the Messages API.
pub fn messages() -> Vec<Vec<u8>> {
    kept("messages")
}

/// Requests of the Responses API.
pub fn responses() -> Vec<Vec<u8>> {
    kept("responses")
}

fn raw(folder: &str, extension: &str) -> Vec<Vec<u8>> {
    files(&format!("fixtures/{folder}"))
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.as_str().map_or_else(|| value.to_string().into_bytes(), |text| text.as_bytes().to_vec())
}

/// A stream's frames out of a fixture's list.
fn stream(list: &Value, one: impl Fn(&Value) -> Vec<u8>) -> Vec<u8> {
    list.as_array().into_iter().flatten().flat_map(one).collect()
}

/// What SageMaker's fixtures have under this key for this format; none is OpenAI's.
fn formatted(format: &str, key: &str) -> Vec<Vec<u8>> {
    let all = documents(&["sagemaker/answers"]);
    all.iter()
        .filter(|(_, value)| value["format"].as_str().unwrap_or_default() == format)
        .filter_map(|(_, v)| v.get(key))
        .map(bytes)
        .collect()
}

/// Streams inside of SageMaker's messages; and one that breaks off.
fn parts(inner: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let cut = |text: &Vec<u8>| text.chunks(97).map(|piece| Message::new("PayloadPart", piece)).collect::<Vec<_>>();
    let mut all: Vec<Vec<Message>> = inner.iter().map(cut).collect();
    let mut broken = all[0].clone();
    broken.push(Message::new("!ModelStreamError", br#"{"Message":"out of memory","ErrorCode":"M"}"#));
    all.push(broken);
    all.iter().map(|messages| wire::join(messages)).collect()
}

/// Streams of one dialect, framed.
pub fn streams(dialect: &str) -> Vec<Vec<u8>> {
    let from = |folder: &str, key: &str, frame: &dyn Fn(&Value) -> Vec<u8>| -> Vec<Vec<u8>> {
        documents(&[folder]).iter().filter_map(|(_, value)| value.get(key)).map(frame).collect()
    };
    let found = match dialect {
        "openai" => [raw("openai/answers", "sse"), raw("mistral/answers", "sse")].concat(),
        "openai/responses" => raw("openai/responses/answers", "sse"),
        "anthropic" => from("anthropic", "events", &|list| {
            stream(list, |event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("x")).into_bytes())
        }),
        "gemini" => from("gemini/answers", "stream", &|list| stream(list, |one| format!("data: {one}\r\n\r\n").into_bytes())),
        "bedrock" => from("bedrock/answers", "stream", &|list| {
            stream(list, |pair| wire::join(&[Message::new(pair[0].as_str().unwrap_or_default(), &bytes(&pair[1]))]))
        }),
        "sagemaker" => parts([formatted("", "stream"), raw("openai/answers", "sse")].concat()),
        "tgi" => parts(formatted("tgi", "stream")),
        other => panic!("no dialect {other}"),
    };
    [kept(&format!("stream-{dialect}")), found].concat()
}

/// Whole answers of one dialect.
pub fn wholes(dialect: &str) -> Vec<Vec<u8>> {
    let from =
        |folder: &str, key: &str| -> Vec<Vec<u8>> { documents(&[folder]).iter().filter_map(|(_, v)| v.get(key)).map(bytes).collect() };
    let found = match dialect {
        "openai" => raw("openai/answers", "json"),
        "openai/responses" => raw("openai/responses/answers", "json"),
        "anthropic" => from("anthropic", "body"),
        "gemini" => from("gemini/answers", "whole"),
        "bedrock" => from("bedrock/answers", "whole"),
        "tgi" | "llama2_chat" => formatted(dialect, "whole"),
        "embeddings" => documents(&["embeddings"])
            .iter()
            .flat_map(|(_, value)| value["answers"].as_array().cloned().unwrap_or_default())
            .map(|answer| bytes(&answer["body"]))
            .collect(),
        other => panic!("no dialect {other}"),
    };
    [kept(&format!("whole-{dialect}")), found].concat()
}

/// Refusals of all providers.
pub fn errors() -> Vec<Vec<u8>> {
    let known = [
        r#"{"error":{"message":"No such model","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#,
        r#"[{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"17.5s"}]}}]"#,
        r#"{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT"}}"#,
        r#"{"message":"The security token included in the request is expired"}"#,
        r#"{"Message":"x","OriginalMessage":"{\"error\":\"y\"}","OriginalStatusCode":424,"ErrorCode":"M"}"#,
        r#"{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","zz"],"msg":"Extra inputs are not permitted"}]},"type":"invalid_request_error","param":null,"code":null}"#,
        r#"{"detail":"Unauthorized"}"#,
        r#"{"error":"Input validation error","error_type":"validation"}"#,
        "<html><body>502 Bad Gateway</body></html>",
        "",
    ];
    let inside = wholes("openai").into_iter().chain(wholes("anthropic")).filter(|body| body.windows(7).any(|w| w == b"\"error\""));
    kept("error").into_iter().chain(known.iter().map(|text| text.as_bytes().to_vec())).chain(inside).collect()
}
