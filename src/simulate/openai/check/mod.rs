//! What each service refuses. The first fault is told, as the services do.

mod messages;
mod output;
mod sampling;
mod tools;

pub(super) use messages::is_fetchable;
pub(super) use output::strict;
pub(super) use sampling::{is_openai_reasoning, numbers, streaming};
pub(super) use tools::function;

use super::Service::{self, Compatible, OpenAi};
use crate::simulate::dialect::Refusal;
pub(super) use crate::simulate::shape::given;
use crate::simulate::shape::object;
use http::HeaderMap;
use serde_json::{Map, Value};

/// What OpenAI's chat completions know: its published schema.
const OPENAI_KEYS: [&str; 37] = [
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "modalities",
    "model",
    "moderation",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];

/// What a check gives.
pub(super) type Checked = Result<(), Refusal>;

/// A 400 about a field.
pub(super) fn refuse(code: &'static str, param: &str, message: impl Into<String>) -> Checked {
    Err(Refusal::field(code, param, message))
}

/// Checks what all endpoints have in common, the key, the body's form and the model, and gives the body and the model.
///
/// # Errors
/// The first fault; unknown keys are one at OpenAI alone, where `known` is what it knows.
pub(super) fn envelope(
    service: Service,
    headers: &HeaderMap,
    body: &[u8],
    known: &[&str],
) -> Result<(Map<String, Value>, String), Refusal> {
    key(service, headers)?;
    let body = object(headers, body)?;
    let model = model(service, &body, known)?;
    Ok((body, model))
}

fn model(service: Service, body: &Map<String, Value>, known: &[&str]) -> Result<String, Refusal> {
    if service == OpenAi
        && let Some(unknown) = body.keys().find(|key| !known.contains(&key.as_str()))
    {
        return Err(Refusal::field("unknown_parameter", unknown, format!("Unknown parameter: '{unknown}'.")));
    }
    match body.get("model") {
        Some(Value::String(model)) if !model.is_empty() => Ok(model.clone()),
        _ => Err(Refusal::field("missing_required_parameter", "model", "you must provide a model parameter")),
    }
}

/// Checks all of a chat request but its key.
///
/// # Errors
/// The first fault.
pub(super) fn check(service: Service, body: &Map<String, Value>) -> Checked {
    let model = model(service, body, &OPENAI_KEYS)?;
    messages::check(service, body)?;
    sampling::numbers(service, body)?;
    sampling::stop(service, body)?;
    sampling::logprobs(service, body)?;
    sampling::streaming(body)?;
    tools::check(service, body)?;
    output::format(service, body)?;
    output::constraints(service, body)?;
    sampling::reasoning(service, body, &model)
}

/// Checks the key.
///
/// # Errors
/// A 401.
pub(super) fn key(service: Service, headers: &HeaderMap) -> Checked {
    let value = match headers.get(http::header::AUTHORIZATION) {
        None if service.keyless() => return Ok(()),
        None => {
            return Err(Refusal::status(
                401,
                "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth.",
            ));
        }
        Some(value) => value.to_str().unwrap_or_default(),
    };
    match value.strip_prefix("Bearer ") {
        Some(key) if key.starts_with("sk-") => Ok(()),
        Some(token) if service == Compatible && token.starts_with("eyJ") => Ok(()), // an access token, as Azure takes
        _ => {
            // the services print part of a wrong key, which a gateway must not pass on
            let tail: String = value.chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect();
            Err(Refusal::status(401, format!("Incorrect API key provided: ****{tail}.")))
        }
    }
}
