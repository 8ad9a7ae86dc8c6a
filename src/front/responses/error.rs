//! Errors as OpenAI's Responses API has them: chat's object with OpenAI's own words as `code`.

use crate::error::{ApiError, ErrorKind};
use serde::Serialize;

/// OpenAI's word for a prompt that does not fit; Codex shortens the conversation by it.
const TOO_LONG: &str = "context_length_exceeded";
/// Its word for a request that cannot be served as it is, where a response has failed in a stream.
const INVALID: &str = "invalid_prompt";
/// Its word for whatever may be tried again.
const SERVER: &str = "server_error";

/// The members of an error.
#[derive(Serialize)]
pub(super) struct Wire<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

impl<'a> Wire<'a> {
    pub(super) fn of(error: &'a ApiError) -> Self {
        Self { message: &error.message, r#type: error.kind.name(), param: error.param.as_deref(), code: code(error) }
    }
}

/// OpenAI's word for an error, where it has one. That of a provider which refuses the request counts: Codex gives up by it.
pub fn code(error: &ApiError) -> Option<&str> {
    if error.said.as_ref().is_some_and(|said| said.overflow.is_some()) {
        return Some(TOO_LONG);
    }
    error.code.as_deref().or(match error.kind {
        ErrorKind::RateLimit => Some("rate_limit_exceeded"),
        ErrorKind::InsufficientQuota => Some("insufficient_quota"),
        ErrorKind::Internal | ErrorKind::Upstream | ErrorKind::Overloaded | ErrorKind::Timeout => Some(SERVER),
        ErrorKind::InvalidRequest | ErrorKind::Authentication | ErrorKind::Permission | ErrorKind::NotFound => None,
    })
}

/// The word for a response that has failed, which always has one.
pub(super) fn failed_code(error: &ApiError) -> &str {
    code(error).unwrap_or(INVALID)
}

/// The body of a response.
pub fn body(error: &ApiError) -> Vec<u8> {
    #[derive(Serialize)]
    struct Outer<'a> {
        error: Wire<'a>,
    }
    serde_json::to_vec(&Outer { error: Wire::of(error) }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Overflow, Said};

    #[test]
    fn each_kind_has_openais_word() {
        let words = "prompt is too long: 12 tokens > 9 maximum".to_owned();
        let overflow = Some(Overflow::read(&words));
        let too_long = ApiError { said: Some(Box::new(Said { words, overflow })), ..ApiError::invalid("m") };
        for (error, code, failed) in [
            (ApiError::field("x", "m"), None, "invalid_prompt"),
            (ApiError::new(429, ErrorKind::RateLimit, "m"), Some("rate_limit_exceeded"), "rate_limit_exceeded"),
            (ApiError::new(402, ErrorKind::InsufficientQuota, "m"), Some("insufficient_quota"), "insufficient_quota"),
            (ApiError::new(503, ErrorKind::Overloaded, "m"), Some("server_error"), "server_error"),
            (ApiError::upstream("m"), Some("server_error"), "server_error"),
            (ApiError { code: Some("cyber_policy".into()), ..ApiError::invalid("m") }, Some("cyber_policy"), "cyber_policy"),
            (too_long, Some("context_length_exceeded"), "context_length_exceeded"),
        ] {
            assert_eq!((super::code(&error), failed_code(&error)), (code, failed), "{error:?}");
        }
        let body = String::from_utf8(body(&ApiError::field("x", "m"))).unwrap();
        assert_eq!(body, r#"{"error":{"message":"m","type":"invalid_request_error","param":"x","code":null}}"#);
    }
}
