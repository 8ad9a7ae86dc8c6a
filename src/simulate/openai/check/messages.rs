//! Messages: roles, parts, and that every tool call has its answer.

use super::{Checked, refuse};
use crate::simulate::openai::Service::{self, DeepSeek, SgLang};
use crate::simulate::openai::read::thinks;
use crate::simulate::shape::is_base64;
use serde_json::{Map, Value};

/// Checks all of `messages`.
pub(super) fn check(service: Service, body: &Map<String, Value>) -> Checked {
    let Some(messages) = body.get("messages").and_then(Value::as_array).filter(|messages| !messages.is_empty()) else {
        let why = "Missing required parameter: 'messages', an array with at least one message.";
        return refuse("missing_required_parameter", "messages", why);
    };
    let mut open: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let at = |field: &str| format!("messages[{index}]{field}");
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        let known =
            matches!(role, "system" | "user" | "assistant" | "tool") || (matches!(role, "developer" | "function") && service != DeepSeek);
        if !known {
            let why = format!("Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', and 'tool'.");
            return refuse("invalid_value", &at(".role"), why);
        }
        content(service, message, role, index)?;
        if role == "tool" {
            let id = message.get("tool_call_id").and_then(Value::as_str).unwrap_or_default();
            match open.iter().position(|call| *call == id) {
                Some(found) => drop(open.swap_remove(found)),
                None => {
                    return refuse("invalid_value", &at(".tool_call_id"), format!("tool_call_id '{id}' answers no preceding tool call."));
                }
            }
            continue;
        }
        if let Some(id) = open.first() {
            let why = format!(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id': {id} has no answer."
            );
            return refuse("invalid_value", &at(".role"), why);
        }
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let (id, arguments) = (call.get("id").and_then(Value::as_str), call.pointer("/function/arguments").and_then(Value::as_str));
            match (id, arguments) {
                (Some(id), Some(_)) => open.push(id),
                _ => {
                    let why = "A tool call needs an 'id' and its 'function.arguments' as a string.";
                    return refuse("invalid_type", &at(".tool_calls"), why);
                }
            }
        }
        if service == DeepSeek && !open.is_empty() && thinks(service, body) && message.get("reasoning_content").is_none() {
            return refuse("", &at(""), "The reasoning_content in the thinking mode must be passed back to the API.");
        }
    }
    match open.first() {
        Some(id) => refuse("invalid_value", "messages", format!("The tool call {id} has no answer.")),
        None => Ok(()),
    }
}

fn content(service: Service, message: &Value, role: &str, index: usize) -> Checked {
    let at = format!("messages[{index}].content");
    let parts = match message.get("content") {
        Some(Value::String(_)) => return Ok(()),
        Some(Value::Array(parts)) if !parts.is_empty() => parts,
        None | Some(Value::Null) if role == "assistant" => return Ok(()),
        _ => return refuse("invalid_type", &at, format!("Invalid type for '{at}': expected a string or a non-empty array of parts.")),
    };
    for part in parts {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
        if service == DeepSeek && kind != "text" {
            let message = format!(
                "Failed to deserialize the JSON body into the target type: messages[{index}]: unknown variant `{kind}`, expected `text`"
            );
            return refuse("", &at, message);
        }
        let good = match kind {
            "text" => part.get("text").is_some_and(Value::is_string),
            "refusal" => role == "assistant",
            "image_url" if role == "user" => part.pointer("/image_url/url").and_then(Value::as_str).is_some_and(is_fetchable),
            "input_audio" if role == "user" => part.pointer("/input_audio/data").is_some_and(Value::is_string),
            "file" if role == "user" => part.get("file").is_some_and(Value::is_object),
            "video_url" | "audio_url" if role == "user" => service.is_vllm() || service == SgLang,
            _ => false,
        };
        if !good {
            return refuse("invalid_value", &at, format!("Invalid part of type '{kind}' in '{at}' of a {role} message."));
        }
    }
    Ok(())
}

/// An http URL, or a data URI whose data is base64.
pub(in crate::simulate::openai) fn is_fetchable(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("data:") else { return url.starts_with("https://") || url.starts_with("http://") };
    rest.split_once(";base64,").is_some_and(|(_, data)| !data.is_empty() && is_base64(data))
}
