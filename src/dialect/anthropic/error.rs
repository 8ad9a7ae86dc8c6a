//! Anthropic's errors: `{"type":"error","error":{"type","message"},"request_id"}`, the same inside a
//! stream and as a body. <https://docs.anthropic.com/en/api/errors>

use crate::dialect::shared::blame::Names;
use crate::dialect::shared::refusal::{self, is_target_unknown};
use crate::llm::failure::{FailureClass, ProviderError};
use http::HeaderMap;
use serde::Deserialize;
use std::borrow::Cow;
use std::time::Duration;

/// What the Messages API calls the client's fields.
pub(in crate::dialect) const NAMES: Names = &[
    ("messages#", "messages#"),
    ("system", "messages"),
    ("max_tokens", "max_tokens"),
    ("stop_sequences", "stop"),
    ("metadata", "user"),
    ("tools#", "tools#"),
    ("tools#.name", "tools#.function.name"),
    ("tools#.description", "tools#.function.description"),
    ("tools#.input_schema", "tools#.function.parameters"),
    ("tools#.custom", "tools#.function"),
    ("tools#.custom.name", "tools#.function.name"),
    ("tools#.custom.description", "tools#.function.description"),
    ("tools#.custom.input_schema", "tools#.function.parameters"),
    ("tool_choice.disable_parallel_tool_use", "parallel_tool_calls"),
    ("tool_choice", "tool_choice"),
    ("thinking", "reasoning_effort"),
    ("budget_tokens", "reasoning_effort"),
    ("output_config", "response_format"),
    ("output_config.effort", "reasoning_effort"),
    ("output_format", "response_format"),
];

/// The operator's account is used up, reported with a 400. All other requests would fail too.
const ACCOUNT: [&str; 2] = ["You have reached your specified API usage limits", "Your credit balance is too low"];

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
pub(super) struct WireError<'a> {
    r#type: Option<Cow<'a, str>>,
    message: Option<Cow<'a, str>>,
    details: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct WireBody<'a> {
    error: Option<WireError<'a>>,
}

impl WireError<'_> {
    /// The failure; `status` is that of the response.
    pub(super) fn read(&self, status: u16, wait: Option<Duration>) -> ProviderError {
        let message = self.message.as_deref().filter(|text| !text.is_empty()).unwrap_or("the provider gave no reason");
        let mut class = match self.r#type.as_deref().unwrap_or_default() {
            "invalid_request_error" | "request_too_large" => FailureClass::BadRequest,
            "authentication_error" | "billing_error" | "permission_error" => FailureClass::Credential,
            "not_found_error" => FailureClass::NotFound,
            "rate_limit_error" => FailureClass::RateLimited,
            "overloaded_error" => FailureClass::Overloaded,
            "timeout_error" => FailureClass::Timeout,
            "api_error" => FailureClass::Server,
            _ => FailureClass::of_status(status),
        };
        if class == FailureClass::NotFound && !is_target_unknown("", None, message) {
            class = FailureClass::UnknownReference; // a file, a container, a skill
        }
        // A spend limit comes as a 429 too, but waiting does not help.
        let spent = self.details.is_some_and(|details| details.get().contains("enforced_spend_limit_reached"));
        if spent || ACCOUNT.iter().any(|text| message.starts_with(text)) {
            class = FailureClass::Credential;
        }
        ProviderError { retry_after: wait, ..ProviderError::new(class, message) }
    }
}

/// Reads a refusal; `body` may be anything.
pub fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
    let wait = refusal::from_headers(headers);
    if let Ok(WireBody { error: Some(error) }) = serde_json::from_slice::<WireBody<'_>>(body) {
        return error.read(status, wait);
    }
    ProviderError { retry_after: wait, ..ProviderError::new(FailureClass::of_status(status), refusal::text(status, body)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, body: &str) -> FailureClass {
        read(status, &HeaderMap::new(), body.as_bytes()).class
    }

    #[test]
    fn the_error_type_decides_and_the_status_where_it_is_unknown() {
        for (status, kind, want) in [
            (400, "invalid_request_error", FailureClass::BadRequest),
            (413, "request_too_large", FailureClass::BadRequest),
            (401, "authentication_error", FailureClass::Credential),
            (402, "billing_error", FailureClass::Credential),
            (403, "permission_error", FailureClass::Credential),
            (404, "not_found_error", FailureClass::UnknownReference),
            (429, "rate_limit_error", FailureClass::RateLimited),
            (500, "api_error", FailureClass::Server),
            (504, "timeout_error", FailureClass::Timeout),
            (529, "overloaded_error", FailureClass::Overloaded),
            (409, "conflict_error", FailureClass::Server),
            (529, "brand_new_error", FailureClass::Overloaded),
        ] {
            let body = format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"m"}},"request_id":"r"}}"#);
            assert_eq!(class(status, &body), want, "{kind}");
        }
    }

    #[test]
    fn a_model_that_is_not_found_is_told_from_a_file() {
        let said = |message| class(404, &format!(r#"{{"type":"error","error":{{"type":"not_found_error","message":"{message}"}}}}"#));
        assert_eq!(["model: claude-x", "Not Found"].map(said), [FailureClass::NotFound; 2]);
        assert_eq!(said("File not found: file_011CNha8iCJcU1wXNR6q4V8w"), FailureClass::UnknownReference);
        assert_eq!(class(404, ""), FailureClass::NotFound);
    }

    #[test]
    fn a_spent_account_is_the_operators() {
        let spent =
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
        assert_eq!(class(429, spent), FailureClass::Credential);
        let credit =
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#;
        assert_eq!(class(400, credit), FailureClass::Credential);
    }

    #[test]
    fn any_body_gives_a_message() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "11".parse().unwrap());
        let e = read(429, &headers, br#"{"type":"error","error":{"type":"rate_limit_error","message":"slow \u0064own"}}"#);
        assert_eq!((e.message.as_str(), e.retry_after), ("slow down", Some(Duration::from_secs(11))));
        assert_eq!(read(500, &headers, br#"{"error":{"message":""}}"#).message, "the provider gave no reason");
        assert_eq!(read(500, &headers, b"").message, "the provider answered 500 without a message");
        assert_eq!(read(502, &headers, b"<html>bad").message, "<html>bad");
        assert_eq!(class(503, r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#), FailureClass::Overloaded);
        assert_eq!(class(529, r#"{"error":"#), FailureClass::Overloaded);
    }
}
