//! Holds a request against what a service refuses.

use super::{Hosted, Key};
use crate::simulate::dialect::{Incoming, Refusal};
use crate::simulate::openai::check::{Checked, given, refuse};
use crate::simulate::shape::{items, text_of};
use serde_json::{Map, Value};

/// Checks the key.
///
/// # Errors
/// A 401.
pub(super) fn key(service: &Hosted, request: Incoming<'_>) -> Checked {
    let bearer = request.header("authorization").strip_prefix("Bearer ");
    let good = match service.key {
        Key::Open => true,
        Key::Bearer => bearer.is_some_and(|key| key.starts_with("sk-")),
        Key::Azure => request.header("api-key").starts_with("sk-") || bearer.is_some_and(|token| token.starts_with("eyJ")),
    };
    if good { Ok(()) } else { Err(Refusal::status(401, "Access denied: the key is missing or wrong.")) }
}

/// Whether the model thinks: by its name, unless it is told not to.
pub(super) fn thinks(service: &Hosted, body: &Map<String, Value>) -> bool {
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    let off = body.get("enable_thinking") == Some(&Value::Bool(false))
        || body.get("thinking").is_some_and(|thinking| text_of(thinking, "type") == "disabled");
    !off && service.thinkers.iter().any(|part| model.contains(part))
}

/// Checks the members of embeddings.
///
/// # Errors
/// The first that is not known.
pub(super) fn embeddings(service: &Hosted, body: &Map<String, Value>) -> Checked {
    match service.refused_embedding.iter().find(|name| given(body, name).is_some()) {
        Some(name) => refuse("unknown_parameter", name, format!("'{name}' is not supported.")),
        None => Ok(()),
    }
}

/// Checks a chat request.
///
/// # Errors
/// The first fault.
pub(super) fn chat(service: &Hosted, body: &Map<String, Value>) -> Checked {
    let unsupported = |name: &str| refuse("unknown_parameter", name, format!("'{name}' is not supported."));
    if let Some(name) = service.refused.iter().find(|name| given(body, name).is_some()) {
        return unsupported(name);
    }
    if let Some(name) = body.keys().find(|name| !service.known.is_empty() && !service.known.contains(&name.as_str())) {
        return unsupported(name);
    }
    if given(body, "temperature").and_then(Value::as_f64).is_some_and(|value| value > service.hottest) {
        return refuse("invalid_value", "temperature", format!("'temperature' must be at most {}.", service.hottest));
    }
    if given(body, "n").is_some_and(|n| *n != 1) && !service.takes_n {
        return refuse("invalid_value", "n", "'n' must be equal to 1.");
    }
    if given(body, "top_logprobs").and_then(Value::as_u64).is_some_and(|top| top > service.top_logprobs) {
        return refuse("invalid_value", "top_logprobs", format!("'top_logprobs' must be at most {}.", service.top_logprobs));
    }
    if given(body, "stop").is_some_and(Value::is_string) && service.needs_stop_list {
        return refuse("invalid_type", "stop", "'stop' must be an array.");
    }
    let effort = given(body, "reasoning_effort").and_then(Value::as_str).unwrap_or_default();
    if !service.efforts.is_empty() && !effort.is_empty() && !service.efforts.contains(&effort) {
        return refuse("invalid_value", "reasoning_effort", format!("invalid reasoning value: '{effort}'."));
    }
    if let Some(format) = given(body, "response_format").map(|format| text_of(format, "type"))
        && !service.formats.contains(&format)
    {
        return refuse("invalid_value", "response_format", format!("'response_format' cannot be of type '{format}'."));
    }
    tool_choice(service, body)?;
    messages(service, body)
}

fn tool_choice(service: &Hosted, body: &Map<String, Value>) -> Checked {
    let Some(choice) = given(body, "tool_choice") else { return Ok(()) };
    let word = choice.as_str().unwrap_or("named");
    if !service.choices.contains(&word) {
        return refuse("invalid_value", "tool_choice", format!("'tool_choice' cannot be '{word}'."));
    }
    if matches!(word, "required" | "named") && thinks(service, body) {
        return refuse("", "tool_choice", format!("tool_choice '{word}' is incompatible with thinking enabled"));
    }
    Ok(())
}

fn messages(service: &Hosted, body: &Map<String, Value>) -> Checked {
    let messages = body.get("messages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (index, message) in messages.iter().enumerate() {
        let role = text_of(message, "role");
        if !matches!(role, "user" | "assistant" | "tool") && !service.roles.contains(&role) {
            return refuse("invalid_value", &format!("messages[{index}].role"), format!("Input should be another role than '{role}'."));
        }
        if message.get("name").is_some() && !service.takes_names {
            return refuse("invalid_value", &format!("messages[{index}].name"), "'name' is not supported in messages.");
        }
        for part in items(message, "content") {
            let kind = text_of(part, "type");
            if kind != "text" && !service.parts.contains(&kind) {
                return refuse("invalid_value", &format!("messages[{index}].content"), format!("invalid message format: '{kind}'"));
            }
        }
        let called = message.get("tool_calls").is_some_and(|calls| !calls.is_null());
        if called && service.needs_reasoning_back && thinks(service, body) && text_of(message, "reasoning_content").is_empty() {
            let why = format!("thinking is enabled but reasoning_content is missing in assistant tool call message at index {index}");
            return refuse("", &format!("messages[{index}]"), why);
        }
    }
    Ok(())
}
