//! Tools and the choice of them.

use super::output::strict;
use super::{Checked, given, refuse};
use crate::simulate::openai::Service::{self, DeepSeek, Fireworks, OpenAi};
use crate::simulate::openai::read::thinks;
use serde_json::{Map, Value};

/// Checks `tools`, `tool_choice` and `parallel_tool_calls`.
pub(super) fn check(service: Service, body: &Map<String, Value>) -> Checked {
    let tools = match given(body, "tools") {
        None => &[][..],
        Some(Value::Array(tools)) if !tools.is_empty() => tools,
        Some(_) => return refuse("empty_array", "tools", "Invalid 'tools': expected an array with at least one tool."),
    };
    let name_of = |tool: &'_ Value| tool.pointer("/function/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    for (index, tool) in tools.iter().enumerate() {
        let at = format!("tools[{index}]");
        let custom = tool.get("type").and_then(Value::as_str) == Some("custom") && service == OpenAi;
        if !custom && tool.get("type").and_then(Value::as_str) != Some("function") {
            return refuse("invalid_value", &at, format!("Invalid '{at}.type': expected 'function'."));
        }
        if !custom {
            let own = tool.get("function").unwrap_or(&Value::Null);
            function(service, &at, &format!("{at}.function"), own, own.get("parameters"))?;
        }
    }
    if service == OpenAi && tools.is_empty() && given(body, "parallel_tool_calls").is_some() {
        return refuse("invalid_value", "parallel_tool_calls", "'parallel_tool_calls' is only allowed when 'tools' are specified.");
    }
    let Some(choice) = given(body, "tool_choice") else { return Ok(()) };
    let named = choice.pointer("/function/name").and_then(Value::as_str);
    let (good, needs_tools) = match (choice.as_str(), choice.get("type").and_then(Value::as_str)) {
        (Some("none" | "auto"), _) => (true, false),
        (Some("required"), _) => (true, true),
        (Some("any"), _) => (service == Fireworks, true),
        (_, Some("function")) => (named.is_some_and(|name| tools.is_empty() || tools.iter().any(|tool| name_of(tool) == name)), true),
        (_, Some("allowed_tools")) => (service == OpenAi && choice.pointer("/allowed_tools/tools").is_some_and(Value::is_array), true),
        (_, Some("custom")) => (service == OpenAi, true),
        _ => (false, false),
    };
    if !good {
        return refuse("invalid_value", "tool_choice", format!("Invalid value for 'tool_choice': {choice}."));
    }
    if needs_tools && tools.is_empty() {
        return refuse("invalid_value", "tool_choice", "'tool_choice' is only allowed when 'tools' are specified.");
    }
    if service == DeepSeek && needs_tools && thinks(service, body) {
        return refuse("", "tool_choice", "Thinking mode does not support this tool_choice.");
    }
    Ok(())
}

/// Checks the name and the schema of a function that stands at `path`; faults are about the parameter `at`.
pub(in crate::simulate::openai) fn function(
    service: Service,
    at: &str,
    path: &str,
    function: &Value,
    parameters: Option<&Value>,
) -> Checked {
    let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
    let good_name = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !good_name {
        let why = format!("Invalid '{path}.name': string does not match pattern '^[a-zA-Z0-9_-]+$' of at most 64 characters.");
        return refuse("invalid_value", at, why);
    }
    let is_object = |schema: &Value| schema.is_object() && (service != OpenAi || schema.get("type").is_none_or(|kind| kind == "object"));
    if parameters.is_some_and(|schema| !is_object(schema)) {
        let why = format!("Invalid schema for function '{name}': schema must be a JSON Schema of type 'object'.");
        return refuse("invalid_function_parameters", at, why);
    }
    if service == OpenAi && function.get("strict") == Some(&Value::Bool(true)) {
        strict(parameters.unwrap_or(&Value::Null), at)?;
    }
    Ok(())
}
