//! Anthropic's Messages API, versions 2023-06-01 and 2026-10-21.

pub(super) mod read;
mod shape;
pub(super) mod write;

use super::ask::Ask;
use super::dialect::{Dialect, Incoming, Refusal, typed_event};
use super::reply::Reply;
use bytes::Bytes;
use serde_json::{Value, json};

/// The version that most clients speak.
const VERSION: &str = "2023-06-01";
/// The version without sampling parameters.
const UNSAMPLED: &str = "2026-10-21";

/// api.anthropic.com.
pub(super) struct Anthropic;

/// Who answers at a path.
pub(super) fn find(path: &str) -> Option<&'static dyn Dialect> {
    (path == "/anthropic/v1/messages").then_some(&Anthropic)
}

impl Dialect for Anthropic {
    fn read(&self, request: Incoming<'_>) -> Result<Ask, Refusal> {
        let key = match request.header("x-api-key") {
            "" => request.header("authorization").strip_prefix("Bearer ").unwrap_or_default(),
            key => key,
        };
        if !key.starts_with("sk-") {
            return Err(Refusal::status(401, if key.is_empty() { "x-api-key header is required" } else { "invalid x-api-key" }));
        }
        let body = super::shape::object(request.headers, request.body)?;
        match request.header("anthropic-version") {
            VERSION => {}
            UNSAMPLED => {
                if let Some(name) = ["temperature", "top_p", "top_k"].into_iter().find(|name| body.contains_key(*name)) {
                    return Err(Refusal::at(name, format!("{name}: Extra inputs are not permitted")));
                }
            }
            "" => return Err(Refusal::status(400, "anthropic-version: header is required")),
            other => return Err(Refusal::status(400, format!("anthropic-version: \"{other}\" is not a valid version"))),
        }
        read::body(body, request.body)
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8> {
        write::whole(ask, reply)
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes> {
        write::events(ask, reply)
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        error(refusal)
    }

    fn refusal_headers(&self, refusal: &Refusal) -> Vec<(&'static str, String)> {
        let after = refusal.retry_after.iter().map(|after| ("retry-after", after.clone()));
        after.chain([("request-id", REQUEST_ID.to_owned())]).collect()
    }

    fn junk(&self, text: &str) -> Bytes {
        Bytes::from(format!("event: content_block_delta\ndata: {text}\n\n"))
    }

    fn error_event(&self, _: &Ask, _: usize, refusal: &Refusal) -> Bytes {
        typed_event(&error(refusal))
    }

    fn idle(&self) -> Bytes {
        typed_event(&json!({ "type": "ping" }))
    }
}

/// Name of every refused request: a fixed one, so that the same request gets the same bytes.
const REQUEST_ID: &str = "req_011CSimulated";

/// The body of an error answer, which is also the data of an error event.
pub(super) fn error(refusal: &Refusal) -> Value {
    let kind = match refusal.status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": refusal.message }, "request_id": REQUEST_ID })
}
