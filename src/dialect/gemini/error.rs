//! Google's errors: `{"error":{code,message,status,details}}`, as a body, in an array, or inside a stream. What Vertex
//! AI passes on from other publishers' servers has any shape at all, which [`openai::error`] knows.
#![expect(clippy::disallowed_types, reason = "errors are rare, and have any shape")]

use crate::dialect::openai;
use crate::dialect::shared::blame::Names;
use crate::dialect::shared::refusal;
use crate::llm::failure::{FailureClass, ProviderError};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::time::Duration;

/// What Google calls the client's fields, in either of its two spellings: those of JSON and of protocol buffers.
pub(in crate::dialect) const NAMES: Names = &[
    ("contents#", "messages#"),
    ("system_instruction", "messages"),
    ("generation_config.max_output_tokens", "max_tokens"),
    ("max_output_tokens", "max_tokens"),
    ("generation_config.temperature", "temperature"),
    ("generation_config.top_p", "top_p"),
    ("generation_config.stop_sequences", "stop"),
    ("generation_config.seed", "seed"),
    ("generation_config.candidate_count", "n"),
    ("candidate_count", "n"),
    ("generation_config.presence_penalty", "presence_penalty"),
    ("generation_config.frequency_penalty", "frequency_penalty"),
    ("generation_config.response_logprobs", "logprobs"),
    ("generation_config.logprobs", "top_logprobs"),
    ("generation_config.response_schema", "response_format"),
    ("generation_config.response_json_schema", "response_format"),
    ("generation_config.response_mime_type", "response_format"),
    ("response_schema", "response_format"),
    ("response_json_schema", "response_format"),
    ("response_mime_type", "response_format"),
    ("generation_config.thinking_config", "reasoning_effort"),
    ("thinking_config", "reasoning_effort"),
    ("thinking_budget", "reasoning_effort"),
    ("thinking_level", "reasoning_effort"),
    ("tools", "tools"),
    ("tools.function_declarations#", "tools#"),
    ("tools.function_declarations#.name", "tools#.function.name"),
    ("tools.function_declarations#.description", "tools#.function.description"),
    ("tools.function_declarations#.parameters", "tools#.function.parameters"),
    ("tools.function_declarations#.parameters_json_schema", "tools#.function.parameters"),
    ("function_declarations#", "tools#"),
    ("function_declarations#.parameters", "tools#.function.parameters"),
    ("tool_config", "tool_choice"),
    ("requests", "input"),
    ("instances", "input"),
    ("content", "input"),
    ("output_dimensionality", "dimensions"),
    ("parameters.output_dimensionality", "dimensions"),
    ("requests.output_dimensionality", "dimensions"),
    ("embed_content_config.output_dimensionality", "dimensions"),
];

/// `google.rpc.Status`. A publisher's own server writes words into `code` and an object into `details`.
#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    code: Value,
    message: Option<String>,
    status: Option<String>,
    #[serde(default)]
    details: Value,
}

/// Reads an answer whose status is not 2xx.
pub(super) fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
    #[derive(Deserialize)]
    struct Outer {
        error: Status,
    }
    // An array is how a stream that is not SSE tells its error. (serde would take it for the struct's members.)
    let outer = match body.trim_ascii_start() {
        [b'[', ..] => serde_json::from_slice::<Vec<Outer>>(body).ok().and_then(|list| list.into_iter().next()),
        _ => serde_json::from_slice::<Outer>(body).ok(),
    };
    let error = outer.and_then(|outer| judge(status, outer.error));
    let Some(mut error) = error else { return openai::error::read(status, headers, body) };
    error.retry_after = error.retry_after.or_else(|| refusal::from_headers(headers));
    error
}

/// Reads an error object that stands inside an answer.
pub(super) fn inside(error: &RawValue) -> ProviderError {
    let status: Status = serde_json::from_str(error.get()).unwrap_or_default();
    let code = status.code.as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
    judge(code, status).unwrap_or_else(|| openai::error::in_band(error.get()))
}

/// What Google says; `None` where it is not Google that speaks, whose errors always have a word.
fn judge(http: u16, status: Status) -> Option<ProviderError> {
    let word = status.status.filter(|word| !word.is_empty())?;
    // `google.rpc.ErrorInfo` has a reason, `google.rpc.RetryInfo` a delay; other details have neither.
    let details = status.details.as_array().map(Vec::as_slice).unwrap_or_default();
    let detail = |key: &str| details.iter().find_map(|detail| detail.get(key)?.as_str());
    let message = status.message.filter(|m| !m.is_empty()).unwrap_or_else(|| word.clone());
    // AI Studio tells a bad key as a bad request: the operator's fault must not look like the client's.
    let bad_key = detail("reason").is_some_and(|reason| reason.starts_with("API_KEY_")) || openai::error::blames_key(&message);
    let class = match &*word {
        _ if bad_key => FailureClass::Credential,
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => FailureClass::BadRequest,
        "UNAUTHENTICATED" | "PERMISSION_DENIED" => FailureClass::Credential,
        "NOT_FOUND" => FailureClass::NotFound,
        "RESOURCE_EXHAUSTED" => FailureClass::RateLimited,
        "UNAVAILABLE" => FailureClass::Overloaded,
        "DEADLINE_EXCEEDED" => FailureClass::Timeout,
        _ => FailureClass::of_status(http),
    };
    // `google.rpc.BadRequest`
    let violations = details.iter().find_map(|detail| detail.get("fieldViolations")?.as_array()?.first());
    let param = violations.and_then(|violation| violation.get("field")?.as_str()).map(str::to_owned);
    let retry_after = detail("retryDelay").and_then(duration);
    Some(ProviderError { retry_after, param, ..ProviderError::new(class, message) })
}

/// A protocol-buffer duration in JSON, `34.4s`.
fn duration(text: &str) -> Option<Duration> {
    let wait = Duration::try_from_secs_f64(text.strip_suffix('s')?.parse().ok()?).ok()?;
    Some(wait.min(refusal::MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_comes_from_the_details_or_the_header() {
        let body = br#"[{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":[
            {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{}]},
            {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.4s"}]}}]"#;
        let error = read(429, &HeaderMap::new(), body);
        assert_eq!((error.class, &*error.message), (FailureClass::RateLimited, "Quota"));
        assert_eq!(error.retry_after, Some(Duration::from_millis(34_400)));
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, "7".parse().unwrap())]);
        assert_eq!(read(503, &headers, b"<html>").retry_after, Some(Duration::from_secs(7)));
        let odd = br#"{"error":{"details":[{"retryDelay":"-1s"}]}}"#;
        assert_eq!(read(429, &HeaderMap::new(), odd).retry_after, None);
    }

    #[test]
    fn what_another_publishers_server_says_is_passed_on() {
        for body in [
            r#"{"error":{"message":"too wide","type":"invalid_request_error","code":"bad_widget"}}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"too wide","details":{"error_code":"x"}}}"#,
            r#"{"object":"error","message":"too wide","code":400}"#,
            r#"{"detail":[{"msg":"too wide"}]}"#,
            r#"{"error":{"code":"400","message":"too wide","status":"INVALID_ARGUMENT"}}"#,
            r#"{"error":"too wide"}"#,
            "too wide",
        ] {
            let error = read(400, &HeaderMap::new(), body.as_bytes());
            assert_eq!((error.class, &*error.message), (FailureClass::BadRequest, "too wide"), "{body}");
        }
        let said = |error: &str| inside(serde_json::from_str(error).unwrap());
        let busy = said(r#"{"message":"slow down","type":"rate_limit_error","code":"busy"}"#);
        assert_eq!((busy.class, &*busy.message), (FailureClass::RateLimited, "slow down"));
        let died = said(r#""died""#);
        assert_eq!((died.class, &*died.message), (FailureClass::Server, "died"));
        assert_eq!(said(r#"{"code":504,"message":"late","status":"CANCELLED"}"#).class, FailureClass::Timeout);
    }

    #[test]
    fn a_bad_key_is_not_the_clients_bad_request() {
        let body = br#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT",
            "details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","metadata":{}}]}}"#;
        assert_eq!(read(400, &HeaderMap::new(), body).class, FailureClass::Credential);
        // The details may be missing.
        for message in ["API key not valid. Please pass a valid API key.", "API key expired. Please renew the API key."] {
            let body = serde_json::json!({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}});
            assert_eq!(read(400, &HeaderMap::new(), body.to_string().as_bytes()).class, FailureClass::Credential);
        }
    }

    #[test]
    fn the_word_counts_more_than_the_status_and_the_status_more_than_nothing() {
        let class = |status, body: &str| read(status, &HeaderMap::new(), body.as_bytes()).class;
        assert_eq!(class(500, r#"{"error":{"status":"UNAVAILABLE"}}"#), FailureClass::Overloaded);
        assert_eq!(class(504, r#"{"error":{"status":"DEADLINE_EXCEEDED"}}"#), FailureClass::Timeout);
        assert_eq!(class(400, r#"{"error":{"status":"INVALID_ARGUMENT","message":"m"}}"#), FailureClass::BadRequest);
        assert_eq!(class(404, r#"{"error":{"#), FailureClass::NotFound);
        assert_eq!(class(500, r#"{"error":{"status":"INTERNAL"}}"#), FailureClass::Server);
        assert!(read(502, &HeaderMap::new(), b"").message.contains("502"));
    }
}
