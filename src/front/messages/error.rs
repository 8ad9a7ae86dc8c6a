//! Anthropic's errors: `{"type":"error","error":{"type":…,"message":…},"request_id":…}`, the same as a body and as an event.
//! <https://platform.claude.com/docs/en/api/errors>

use crate::error::{ApiError, ErrorKind, Overflow};
use serde::Serialize;
use uuid::Uuid;

/// How the message begins by which clients know that they have to shorten a conversation.
const TOO_LONG: &str = "prompt is too long";

/// What Anthropic says of a prompt that leaves too little room for `max_tokens`: clients then ask for less.
const TOO_LONG_ANSWER: &str = "exceed context limit";

/// The body of a response.
pub fn body(error: &ApiError, id: Uuid) -> Vec<u8> {
    #[derive(Serialize)]
    struct Wire<'a> {
        r#type: &'a str,
        message: &'a str,
    }
    #[derive(Serialize)]
    struct Outer<'a> {
        r#type: &'a str,
        error: Wire<'a>,
        request_id: String,
    }
    let words = error.said.as_deref().map_or(&*error.message, |said| &said.words);
    let message = match error.said.as_deref().and_then(|said| said.overflow.as_ref()) {
        Some(_) if words.starts_with(TOO_LONG) || words.contains(TOO_LONG_ANSWER) => words.to_owned(),
        Some(Overflow { reserved: Some((prompt, answer, maximum)), .. }) => format!(
            "input length and `max_tokens` {TOO_LONG_ANSWER}: {prompt} + {answer} > {maximum}, decrease input length or `max_tokens` and try again"
        ),
        Some(Overflow { tokens: Some((tokens, maximum)), .. }) => format!("{TOO_LONG}: {tokens} tokens > {maximum} maximum"),
        Some(_) => format!("{TOO_LONG}: {words}"),
        None => words.to_owned(),
    };
    let error = Wire { r#type: kind(error), message: &message };
    serde_json::to_vec(&Outer { r#type: "error", error, request_id: id.to_string() }).unwrap_or_default()
}

/// The event that ends a stream which cannot be completed.
pub fn event(error: &ApiError, id: Uuid) -> Vec<u8> {
    [b"event: error\ndata: ".as_slice(), &body(error, id), b"\n\n"].concat()
}

/// Anthropic's status of an error: what is overloaded is a 529.
pub const fn status(error: &ApiError) -> u16 {
    match error.kind {
        ErrorKind::Overloaded => 529,
        _ => error.status,
    }
}

const fn kind(error: &ApiError) -> &'static str {
    match error.kind {
        ErrorKind::InvalidRequest if error.status == 413 => "request_too_large",
        ErrorKind::InsufficientQuota => "billing_error",
        ErrorKind::Internal | ErrorKind::Upstream => "api_error",
        ErrorKind::InvalidRequest
        | ErrorKind::Authentication
        | ErrorKind::Permission
        | ErrorKind::NotFound
        | ErrorKind::RateLimit
        | ErrorKind::Overloaded
        | ErrorKind::Timeout => error.kind.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Said;

    #[test]
    fn a_prompt_that_is_too_long_reads_as_clients_know_it() {
        for (words, message) in [
            ("The input token count (12) exceeds the maximum number of tokens allowed (9).", "prompt is too long: 12 tokens > 9 maximum"),
            (
                "This model's maximum context length is 9 tokens. However, you requested 12 tokens (7 in the messages, 5 in the completion).",
                "input length and `max_tokens` exceed context limit: 7 + 5 > 9, decrease input length or `max_tokens` and try again",
            ),
            ("Input is too long for requested model.", "prompt is too long: Input is too long for requested model."),
            ("prompt is too long: 12 tokens > 9 maximum", "prompt is too long: 12 tokens > 9 maximum"),
            (
                "input length and `max_tokens` exceed context limit: 7 + 3 > 9, decrease one",
                "input length and `max_tokens` exceed context limit: 7 + 3 > 9, decrease one",
            ),
        ] {
            let said = Said { words: words.to_owned(), overflow: Some(Overflow::read(words)) };
            let error = ApiError { said: Some(Box::new(said)), ..ApiError::invalid("m") };
            let body: serde_json::Value = serde_json::from_slice(&body(&error, Uuid::nil())).unwrap();
            assert_eq!(body["error"]["message"], message);
        }
    }

    #[test]
    fn each_kind_has_anthropics_word_and_status() {
        for (error, status, word) in [
            (ApiError::field("x", "m"), 400, "invalid_request_error"),
            (ApiError::new(413, ErrorKind::InvalidRequest, "m"), 413, "request_too_large"),
            (ApiError::new(402, ErrorKind::InsufficientQuota, "m"), 402, "billing_error"),
            (ApiError::new(503, ErrorKind::Overloaded, "m"), 529, "overloaded_error"),
            (ApiError::upstream("m"), 502, "api_error"),
        ] {
            let json = format!(r#"{{"type":"error","error":{{"type":"{word}","message":"m"}},"request_id":"{}"}}"#, Uuid::nil());
            assert_eq!((super::status(&error), String::from_utf8_lossy(&body(&error, Uuid::nil())).into_owned()), (status, json));
        }
    }
}
