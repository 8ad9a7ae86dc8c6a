//! What the services refuse of a Responses request, in OpenAI's words. Only the first fault is reported.

use super::shape::BODY;
use super::{ENCRYPTED_REASONING, input, tools};
use crate::simulate::dialect::Refusal;
use crate::simulate::openai::Service::{self, OpenAi};
use crate::simulate::openai::check::{Checked, is_openai_reasoning, numbers, refuse, streaming, strict};
use crate::simulate::shape::{Fault, Why, given, strings};
use serde_json::{Map, Value};

/// Members of chat completions, and where this API has them.
const MOVED: [(&str, &str); 5] = [
    ("messages", "input"),
    ("max_tokens", "max_output_tokens"),
    ("max_completion_tokens", "max_output_tokens"),
    ("response_format", "text.format"),
    ("reasoning_effort", "reasoning.effort"),
];
/// Members that say what is answered; one must be there.
const SOURCES: [&str; 4] = ["input", "previous_response_id", "prompt", "conversation"];
/// Fewest output tokens that OpenAI takes.
const LEAST_OUTPUT: u64 = 16;
/// Most alternatives of a log probability.
const MOST_LOGPROBS: u64 = 20;

/// Checks all of a request but its key.
///
/// # Errors
/// The first fault.
pub(super) fn check(service: Service, body: &Map<String, Value>) -> Checked {
    if let Some((name, new)) = MOVED.iter().find(|(name, _)| service == OpenAi && body.contains_key(*name)) {
        let why = format!("Unsupported parameter: '{name}'. In the Responses API, this parameter has moved to '{new}'.");
        return refuse("unsupported_parameter", name, why);
    }
    let whole = Value::Object(body.clone());
    BODY.check(&whole, "").map_err(|fault| refusal(&whole, fault))?;
    numbers(service, body)?;
    integer(body, "max_output_tokens", if service == OpenAi { LEAST_OUTPUT } else { 1 }, u64::MAX)?;
    integer(body, "max_tool_calls", 1, u64::MAX)?;
    integer(body, "top_logprobs", 0, MOST_LOGPROBS)?;
    streaming(body)?;
    state(service, body)?;
    input::check(service, &whole)?;
    tools::check(service, &whole)?;
    format(service, &whole)?;
    reasoning(service, body)
}

/// The refusal of a value that does not have its shape.
pub(super) fn refusal(root: &Value, (at, why): Fault) -> Refusal {
    let pointer = format!("/{}", at.replace('.', "/"));
    let param = param(&at);
    match (why, root.pointer(&pointer)) {
        (Why::Missing, _) => Refusal::field("missing_required_parameter", &param, format!("Missing required parameter: '{param}'.")),
        (Why::Unknown, _) => Refusal::field("unknown_parameter", &param, format!("Unknown parameter: '{param}'.")),
        (Why::Wrong, Some(Value::String(text))) => Refusal::field("invalid_value", &param, format!("Invalid value: '{text}'.")),
        (Why::Wrong, value) => {
            let kind = match value {
                Some(Value::Object(_)) => "an object",
                Some(Value::Array(_)) => "an array",
                Some(Value::Bool(_)) => "a boolean",
                Some(Value::Number(number)) if number.is_f64() => "a decimal",
                Some(Value::Number(_)) => "an integer",
                _ => "null",
            };
            Refusal::field("invalid_type", &param, format!("Invalid type for '{param}': expected another type, but got {kind} instead."))
        }
    }
}

/// `input.0.content` in OpenAI's spelling: `input[0].content`.
fn param(at: &str) -> String {
    at.split('.').fold(String::new(), |mut out, step| {
        if step.bytes().all(|b| b.is_ascii_digit()) {
            out.push_str(&format!("[{step}]"));
        } else {
            out.push_str(if out.is_empty() { "" } else { "." });
            out.push_str(step);
        }
        out
    })
}

fn integer(body: &Map<String, Value>, name: &str, least: u64, most: u64) -> Checked {
    let Some(value) = given(body, name) else { return Ok(()) };
    let (code, fault, sign, bound) = match value.as_i64() {
        None if !value.is_u64() => {
            return refuse("invalid_type", name, format!("Invalid type for '{name}': expected an integer, but got {value} instead."));
        }
        Some(n) if u64::try_from(n).is_ok_and(|n| n > most) => ("integer_above_max_value", "above maximum", "<=", most),
        Some(n) if u64::try_from(n).map_or(true, |n| n < least) => ("integer_below_min_value", "below minimum", ">=", least),
        _ => return Ok(()),
    };
    refuse(code, name, format!("Invalid '{name}': integer {fault} value. Expected a value {sign} {bound}, but got {value} instead."))
}

/// Checks what the request continues.
fn state(service: Service, body: &Map<String, Value>) -> Checked {
    if SOURCES.iter().all(|name| given(body, name).is_none()) {
        let why = "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided.";
        return refuse("missing_required_parameter", "input", why);
    }
    let previous = given(body, "previous_response_id").and_then(Value::as_str);
    if previous.is_some() && given(body, "conversation").is_some() {
        let why = "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you are only providing one of them.";
        return refuse("mutually_exclusive_parameters", "previous_response_id", why);
    }
    match previous.filter(|id| service == OpenAi && !id.starts_with("resp_")) {
        Some(id) => refuse(
            "invalid_value",
            "previous_response_id",
            format!("Invalid 'previous_response_id': '{id}'. Expected an ID that begins with 'resp'."),
        ),
        None => Ok(()),
    }
}

/// Checks `text.format` beyond its shape.
fn format(service: Service, body: &Value) -> Checked {
    let Some(format) = body.pointer("/text/format").filter(|_| service == OpenAi) else { return Ok(()) };
    let is = |name: &str, value: Value| format.get(name) == Some(&value);
    if is("type", "json_object".into()) && !body.get("input").is_some_and(|input| input.to_string().to_lowercase().contains("json")) {
        let why = "Response input messages must contain the word 'json' in some form to use 'text.format' of type 'json_object'.";
        return refuse("", "input", why);
    }
    if is("strict", true.into()) {
        strict(format.get("schema").unwrap_or(&Value::Null), "text.format.schema")?;
    }
    Ok(())
}

/// Checks what only some of OpenAI's models take.
fn reasoning(service: Service, body: &Map<String, Value>) -> Checked {
    if service != OpenAi {
        return Ok(());
    }
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if !is_openai_reasoning(model) && strings(body.get("include")).iter().any(|included| included == ENCRYPTED_REASONING) {
        return refuse("", "include", "Encrypted content is not supported with this model.");
    }
    let effort = body.get("reasoning").and_then(|reasoning| reasoning.get("effort")?.as_str());
    let unsupported = match is_openai_reasoning(model) {
        true if effort == Some("none") => None,
        true => ["temperature", "top_p", "top_logprobs"].into_iter().find(|name| given(body, name).is_some()),
        false => effort.map(|_| "reasoning.effort"),
    };
    match unsupported {
        Some(name) => refuse("unsupported_parameter", name, format!("Unsupported parameter: '{name}' is not supported with this model.")),
        None => Ok(()),
    }
}
