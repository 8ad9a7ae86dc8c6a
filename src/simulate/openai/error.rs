//! One error, in the shape of each service.

use super::Service::{self, DeepSeek, Fireworks, Hyperbolic, SgLang, Together, Vllm, VllmLegacy, Xai};
use crate::simulate::dialect::Refusal;
use serde_json::{Value, json};

/// The body of an error answer.
pub(super) fn body(service: Service, refusal: &Refusal) -> Value {
    let Refusal { status, code, param, message, .. } = refusal;
    let code_or_null = if code.is_empty() { Value::Null } else { json!(code) };
    match service {
        // the error itself is a string
        Xai => json!({ "code": xai_code(*status), "error": message }),
        Vllm | VllmLegacy => json!({ "error": { "message": message, "type": class(*status), "param": param, "code": status } }),
        Hyperbolic if *status == 401 => json!({ "detail": message }),
        SgLang | Hyperbolic => json!({ "object": "error", "message": message, "type": class(*status), "param": param, "code": status }),
        Fireworks => json!({ "error": { "object": "error", "type": kind(*status), "code": kind(*status), "message": message } }),
        DeepSeek => {
            let kind = if *status == 401 { "authentication_error" } else { kind(*status) };
            json!({ "error": { "message": message, "type": kind, "param": Value::Null, "code": "invalid_request_error" } })
        }
        Together => {
            json!({ "id": "oV1nHvx-28Eivz-9c4b000000000000", "error": { "message": message, "type": kind(*status), "param": param, "code": code_or_null } })
        }
        _ => json!({ "error": { "message": message, "type": kind(*status), "param": param, "code": code_or_null } }),
    }
}

/// OpenAI's `type`.
fn kind(status: u16) -> &'static str {
    match status {
        429 => "requests",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// vLLM's and SGLang's `type`.
fn class(status: u16) -> &'static str {
    match status {
        401 => "AuthenticationError",
        404 => "NotFoundError",
        429 => "RateLimitError",
        500.. => "InternalServerError",
        _ => "BadRequestError",
    }
}

/// xAI's `code`.
fn xai_code(status: u16) -> &'static str {
    match status {
        401 | 403 => "unauthenticated:bad-credentials",
        404 => "not-found",
        429 => "resource-exhausted",
        503 => "unavailable",
        500.. => "internal",
        _ => "invalid-argument",
    }
}
