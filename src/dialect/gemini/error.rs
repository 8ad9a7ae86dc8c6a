//! Google's errors: `{"error":{code,message,status,details}}`, as a body, in an array, or inside a stream.

use crate::dialect::{FailureClass, ProviderError, retry_after};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::time::Duration;

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    code: Option<u16>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    details: Option<Vec<Detail>>,
}

/// `google.rpc.ErrorInfo` has a reason, `google.rpc.RetryInfo` a delay; other details have neither.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(default)]
    reason: Option<serde_json::Value>,
    #[serde(default)]
    retry_delay: Option<serde_json::Value>,
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
    let mut error = judge(status, outer.map(|o| o.error).unwrap_or_default());
    error.retry_after = error.retry_after.or_else(|| retry_after::from_headers(headers));
    error
}

/// Reads an error object that stands inside an answer.
pub(super) fn inside(error: &RawValue) -> ProviderError {
    let status: Status = serde_json::from_str(error.get()).unwrap_or_default();
    judge(status.code.unwrap_or(500), status)
}

fn judge(http: u16, status: Status) -> ProviderError {
    let details = status.details.as_deref().unwrap_or_default();
    // AI Studio tells a bad key as a bad request: the operator's fault must not look like the client's.
    let bad_key = details.iter().any(|d| matches!(&d.reason, Some(serde_json::Value::String(r)) if r.starts_with("API_KEY_")));
    let class = match status.status.as_deref() {
        _ if bad_key => FailureClass::Credential,
        Some("INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE") => FailureClass::BadRequest,
        Some("UNAUTHENTICATED" | "PERMISSION_DENIED") => FailureClass::Credential,
        Some("NOT_FOUND") => FailureClass::NotFound,
        Some("RESOURCE_EXHAUSTED") => FailureClass::RateLimited,
        Some("UNAVAILABLE") => FailureClass::Overloaded,
        Some("DEADLINE_EXCEEDED") => FailureClass::Timeout,
        _ => FailureClass::of_status(http),
    };
    let delay = details.iter().find_map(|d| d.retry_delay.as_ref()?.as_str());
    let message = status.message.filter(|m| !m.is_empty()).or(status.status);
    ProviderError {
        class,
        message: message.unwrap_or_else(|| format!("The provider answered with status {http}")),
        param: None,
        retry_after: delay.and_then(duration),
    }
}

/// A protocol-buffer duration in JSON, `34.4s`.
fn duration(text: &str) -> Option<Duration> {
    let wait = Duration::try_from_secs_f64(text.strip_suffix('s')?.parse().ok()?).ok()?;
    Some(wait.min(retry_after::MAX_WAIT))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
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
    fn a_bad_key_is_not_the_clients_bad_request() {
        let body = br#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT",
            "details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","metadata":{}}]}}"#;
        assert_eq!(read(400, &HeaderMap::new(), body).class, FailureClass::Credential);
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
