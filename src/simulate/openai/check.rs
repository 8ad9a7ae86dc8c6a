//! What each service refuses. The first fault is told, as the services do.

use super::Service::{self, DeepSeek, Fireworks, OpenAi, SgLang, Together, Xai};
use crate::simulate::dialect::Refusal;
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
/// What OpenAI's reasoning models refuse at any value but the default.
const REASONING_DEFAULTS: [(&str, f64); 4] = [("temperature", 1.0), ("top_p", 1.0), ("frequency_penalty", 0.0), ("presence_penalty", 0.0)];
/// The keys that constrain decoding on vLLM, beside `response_format` and what is inside `structured_outputs`.
const GUIDED: [&str; 5] = ["guided_json", "guided_regex", "guided_choice", "guided_grammar", "structural_tag"];
/// The same inside `structured_outputs`.
const STRUCTURED: [&str; 6] = ["json", "regex", "choice", "grammar", "json_object", "structural_tag"];

/// What a check gives.
type Checked = Result<(), Refusal>;

fn refuse(code: &'static str, param: &str, message: impl Into<String>) -> Checked {
    Err(Refusal::field(code, param, message))
}

/// A value that is there and not null.
pub(super) fn given<'a>(body: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    body.get(key).filter(|value| !value.is_null())
}

/// Checks all of a request and gives its body.
///
/// # Errors
/// The first fault.
pub(super) fn check(service: Service, headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    key(service, headers)?;
    let kind = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Err(Refusal::status(400, "The content-type must be application/json."));
    }
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::status(400, format!("We could not parse the JSON body of your request: {error}")))?;
    let Value::Object(body) = body else { return Err(Refusal::status(400, "The body must be a JSON object.")) };
    if service == OpenAi
        && let Some(unknown) = body.keys().find(|key| !OPENAI_KEYS.contains(&key.as_str()))
    {
        return Err(Refusal::field("unknown_parameter", unknown, format!("Unknown parameter: '{unknown}'.")));
    }
    let model = match body.get("model") {
        Some(Value::String(model)) if !model.is_empty() => model.as_str(),
        _ => return Err(Refusal::field("missing_required_parameter", "model", "you must provide a model parameter")),
    };
    messages(service, &body)?;
    numbers(service, &body)?;
    stop(service, &body)?;
    logprobs(service, &body)?;
    streaming(&body)?;
    tools(service, &body)?;
    format(service, &body)?;
    constraints(service, &body)?;
    reasoning(service, &body, model)?;
    Ok(body)
}

fn key(service: Service, headers: &HeaderMap) -> Checked {
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
        _ => {
            // the services print part of a wrong key, which a gateway must not pass on
            let tail: String = value.chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect();
            Err(Refusal::status(401, format!("Incorrect API key provided: ****{tail}.")))
        }
    }
}

fn messages(service: Service, body: &Map<String, Value>) -> Checked {
    let Some(messages) = body.get("messages").and_then(Value::as_array).filter(|messages| !messages.is_empty()) else {
        return refuse(
            "missing_required_parameter",
            "messages",
            "Missing required parameter: 'messages', an array with at least one message.",
        );
    };
    let mut open: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let at = |field: &str| format!("messages[{index}]{field}");
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        let known =
            matches!(role, "system" | "user" | "assistant" | "tool") || (matches!(role, "developer" | "function") && service != DeepSeek);
        if !known {
            return refuse(
                "invalid_value",
                &at(".role"),
                format!("Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', and 'tool'."),
            );
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
            return refuse(
                "invalid_value",
                &at(".role"),
                format!(
                    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id': {id} has no answer."
                ),
            );
        }
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let (id, arguments) = (call.get("id").and_then(Value::as_str), call.pointer("/function/arguments").and_then(Value::as_str));
            match (id, arguments) {
                (Some(id), Some(_)) => open.push(id),
                _ => {
                    return refuse(
                        "invalid_type",
                        &at(".tool_calls"),
                        "A tool call needs an 'id' and its 'function.arguments' as a string.",
                    );
                }
            }
        }
        if service == DeepSeek && !open.is_empty() && super::read::thinks(service, body) && message.get("reasoning_content").is_none() {
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
fn is_fetchable(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("data:") else { return url.starts_with("https://") || url.starts_with("http://") };
    let base64 = |data: &str| {
        data.len().is_multiple_of(4) && data.trim_end_matches('=').bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    };
    rest.split_once(";base64,").is_some_and(|(_, data)| !data.is_empty() && base64(data))
}

fn numbers(service: Service, body: &Map<String, Value>) -> Checked {
    let hottest = if service.is_vllm() || service == SgLang { f64::MAX } else { 2.0 };
    for (name, least, most) in
        [("temperature", 0.0, hottest), ("top_p", 0.0, 1.0), ("frequency_penalty", -2.0, 2.0), ("presence_penalty", -2.0, 2.0)]
    {
        let Some(value) = given(body, name) else { continue };
        match value.as_f64() {
            None => return refuse("invalid_type", name, format!("Invalid type for '{name}': expected a decimal.")),
            Some(n) if n > most => {
                return refuse(
                    "decimal_above_max_value",
                    name,
                    format!("Invalid '{name}': decimal above maximum value. Expected a value <= {most}, but got {value} instead."),
                );
            }
            Some(n) if n < least => {
                return refuse(
                    "decimal_below_min_value",
                    name,
                    format!("Invalid '{name}': decimal below minimum value. Expected a value >= {least}, but got {value} instead."),
                );
            }
            Some(_) => {}
        }
    }
    for (name, least, most) in [("max_tokens", 1, u64::MAX), ("max_completion_tokens", 1, u64::MAX), ("n", 1, 128)] {
        let Some(value) = given(body, name) else { continue };
        if value.as_u64().is_none_or(|n| n < least || n > most) {
            return refuse(
                "invalid_value",
                name,
                format!("Invalid '{name}': expected an integer from {least} to {most}, but got {value} instead."),
            );
        }
    }
    if given(body, "seed").is_some_and(|seed| !seed.is_i64() && !seed.is_u64()) {
        return refuse("invalid_type", "seed", "Invalid type for 'seed': expected an integer.");
    }
    if service == OpenAi && given(body, "max_tokens").is_some() && given(body, "max_completion_tokens").is_some() {
        return refuse(
            "invalid_parameter_combination",
            "max_tokens",
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        );
    }
    Ok(())
}

fn stop(service: Service, body: &Map<String, Value>) -> Checked {
    let most = match service {
        OpenAi => 4,
        DeepSeek => 16,
        _ => usize::MAX,
    };
    match given(body, "stop") {
        None => Ok(()),
        Some(Value::String(_)) if service != Together => Ok(()),
        Some(Value::Array(texts)) if texts.len() <= most && texts.iter().all(Value::is_string) => Ok(()),
        Some(_) => refuse("invalid_value", "stop", "Invalid 'stop': expected an array of strings of the length that this service takes."),
    }
}

fn logprobs(service: Service, body: &Map<String, Value>) -> Checked {
    let most = match service {
        Fireworks => 5,
        Xai => 8,
        _ => 20,
    };
    let good = match given(body, "logprobs") {
        None => true,
        Some(Value::Bool(_)) => service != Together,
        Some(value) => matches!(service, Together | Fireworks) && value.as_u64().is_some_and(|n| n <= most),
    };
    if !good {
        let wanted = if service == Together { "an integer from 0 to 20" } else { "a boolean" };
        return refuse("invalid_type", "logprobs", format!("Invalid type for 'logprobs': expected {wanted}."));
    }
    let Some(top) = given(body, "top_logprobs") else { return Ok(()) };
    if top.as_u64().is_none_or(|n| n > most) {
        return refuse("integer_above_max_value", "top_logprobs", format!("Invalid 'top_logprobs': expected an integer from 0 to {most}."));
    }
    if body.get("logprobs") != Some(&Value::Bool(true)) && !matches!(service, Together | Fireworks) {
        return refuse("invalid_value", "top_logprobs", "'top_logprobs' needs 'logprobs' to be true.");
    }
    Ok(())
}

fn streaming(body: &Map<String, Value>) -> Checked {
    let stream = given(body, "stream");
    if stream.is_some_and(|stream| !stream.is_boolean()) {
        return refuse("invalid_type", "stream", "Invalid type for 'stream': expected a boolean.");
    }
    if given(body, "stream_options").is_some() && stream != Some(&Value::Bool(true)) {
        return refuse("invalid_value", "stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
    }
    Ok(())
}

fn tools(service: Service, body: &Map<String, Value>) -> Checked {
    let tools = match given(body, "tools") {
        None => &[][..],
        Some(Value::Array(tools)) if !tools.is_empty() => tools,
        Some(_) => return refuse("empty_array", "tools", "Invalid 'tools': expected an array with at least one tool."),
    };
    let name_of = |tool: &'_ Value| tool.pointer("/function/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    for (index, tool) in tools.iter().enumerate() {
        let (at, name) = (format!("tools[{index}]"), name_of(tool));
        let custom = tool.get("type").and_then(Value::as_str) == Some("custom") && service == OpenAi;
        if !custom && tool.get("type").and_then(Value::as_str) != Some("function") {
            return refuse("invalid_value", &at, format!("Invalid '{at}.type': expected 'function'."));
        }
        let good_name = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !custom && !good_name {
            return refuse(
                "invalid_value",
                &at,
                format!("Invalid '{at}.function.name': string does not match pattern '^[a-zA-Z0-9_-]+$' of at most 64 characters."),
            );
        }
        let parameters = tool.pointer("/function/parameters");
        if parameters
            .is_some_and(|schema| !schema.is_object() || (service == OpenAi && schema.get("type").is_some_and(|kind| kind != "object")))
        {
            return refuse(
                "invalid_function_parameters",
                &at,
                format!("Invalid schema for function '{name}': schema must be a JSON Schema of type 'object'."),
            );
        }
        if service == OpenAi && tool.pointer("/function/strict") == Some(&Value::Bool(true)) {
            strict(parameters.unwrap_or(&Value::Null), &at)?;
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
    if service == DeepSeek && needs_tools && super::read::thinks(service, body) {
        return refuse("", "tool_choice", "Thinking mode does not support this tool_choice.");
    }
    Ok(())
}

fn format(service: Service, body: &Map<String, Value>) -> Checked {
    let Some(format) = given(body, "response_format") else { return Ok(()) };
    let good = match format.get("type").and_then(Value::as_str) {
        Some("text") => true,
        Some("json_object") => {
            let says_json = body.get("messages").is_some_and(|messages| messages.to_string().to_lowercase().contains("json"));
            if matches!(service, OpenAi | DeepSeek) && !says_json {
                return refuse(
                    "",
                    "messages",
                    "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                );
            }
            true
        }
        Some("json_schema") if service == DeepSeek => return refuse("", "response_format", "This response_format type is unavailable now"),
        Some("json_schema") => {
            let schema = format.pointer("/json_schema/schema");
            if format.pointer("/json_schema/name").is_none_or(|name| !name.is_string()) || (service != OpenAi && schema.is_none()) {
                return refuse(
                    "missing_required_parameter",
                    "response_format.json_schema",
                    "'response_format.json_schema' needs a 'name' and a 'schema'.",
                );
            }
            if service == OpenAi && format.pointer("/json_schema/strict") == Some(&Value::Bool(true)) {
                strict(schema.unwrap_or(&Value::Null), "response_format")?;
            }
            true
        }
        Some("grammar") => service == Fireworks && format.get("grammar").is_some_and(Value::is_string),
        Some("regex") => service == Together && format.get("pattern").is_some_and(Value::is_string),
        Some("structural_tag") => service.is_vllm() || service == SgLang,
        _ => false,
    };
    if good { Ok(()) } else { refuse("invalid_value", "response_format", format!("Invalid value for 'response_format': {format}.")) }
}

/// What `strict` needs: every object closed, and all its properties required.
fn strict(schema: &Value, param: &str) -> Checked {
    match schema {
        Value::Object(object) => {
            if let Some(properties) = object.get("properties").and_then(Value::as_object) {
                let required = object.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                if object.get("additionalProperties") != Some(&Value::Bool(false)) {
                    return refuse(
                        "invalid_json_schema",
                        param,
                        "Invalid schema: 'additionalProperties' is required to be supplied and to be false.",
                    );
                }
                if let Some(missing) = properties.keys().find(|name| !required.iter().any(|known| known == name.as_str())) {
                    return refuse(
                        "invalid_json_schema",
                        param,
                        format!("Invalid schema: 'required' must include every key in properties. Missing '{missing}'."),
                    );
                }
            }
            object.values().try_for_each(|inner| strict(inner, param))
        }
        Value::Array(items) => items.iter().try_for_each(|inner| strict(inner, param)),
        _ => Ok(()),
    }
}

/// Self-hosted servers take one constraint at most.
fn constraints(service: Service, body: &Map<String, Value>) -> Checked {
    if !service.is_vllm() {
        return Ok(());
    }
    let mut found: Vec<&str> = Vec::new();
    if service == Service::VllmLegacy {
        found.extend(GUIDED.into_iter().filter(|key| given(body, key).is_some()));
    }
    match given(body, "structured_outputs") {
        Some(Value::Object(structured)) => {
            found.extend(STRUCTURED.into_iter().filter(|key| given(structured, key).is_some_and(|value| *value != false)))
        }
        Some(_) => return refuse("", "structured_outputs", "structured_outputs must be an object."),
        None => {}
    }
    if given(body, "response_format").and_then(|format| format.get("type")).is_some_and(|kind| kind != "text") {
        found.push("response_format");
    }
    if found.len() > 1 {
        return refuse(
            "",
            "structured_outputs",
            format!("You can only use one kind of constraints for structured outputs, but got {}.", found.join(", ")),
        );
    }
    Ok(())
}

/// OpenAI's own reasoning models.
pub(super) fn is_openai_reasoning(model: &str) -> bool {
    model.starts_with("gpt-5") || model.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn reasoning(service: Service, body: &Map<String, Value>, model: &str) -> Checked {
    let unsupported = |name: &str, more: &str| {
        refuse("unsupported_parameter", name, format!("Unsupported parameter: '{name}' is not supported with this model.{more}"))
    };
    if service == Xai && super::read::thinks(service, body) {
        for name in ["presence_penalty", "frequency_penalty", "stop"] {
            if given(body, name).is_some() {
                return unsupported(name, "");
            }
        }
    }
    if service != OpenAi || !is_openai_reasoning(model) {
        return Ok(());
    }
    if given(body, "max_tokens").is_some() {
        return unsupported("max_tokens", " Use 'max_completion_tokens' instead.");
    }
    if body.get("reasoning_effort").is_some_and(|effort| effort == "none") {
        return Ok(());
    }
    for (name, only) in REASONING_DEFAULTS {
        if given(body, name).and_then(Value::as_f64).is_some_and(|n| (n - only).abs() > f64::EPSILON) {
            return refuse(
                "unsupported_value",
                name,
                format!(
                    "Unsupported value: '{name}' does not support this value with this model. Only the default ({only}) value is supported."
                ),
            );
        }
    }
    match ["logprobs", "top_logprobs", "logit_bias"].into_iter().find(|name| given(body, name).is_some_and(|value| *value != false)) {
        Some(name) => unsupported(name, ""),
        None => Ok(()),
    }
}
