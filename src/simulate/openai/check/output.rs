//! What the answer is to look like: response formats and guided decoding.

use super::{Checked, given, refuse};
use crate::simulate::openai::Service::{self, DeepSeek, Fireworks, OpenAi, SgLang, Together, VllmLegacy};
use serde_json::{Map, Value};

/// The keys that constrain decoding on vLLM, beside `response_format` and what is inside `structured_outputs`.
const GUIDED: [&str; 5] = ["guided_json", "guided_regex", "guided_choice", "guided_grammar", "structural_tag"];
/// The same inside `structured_outputs`.
const STRUCTURED: [&str; 6] = ["json", "regex", "choice", "grammar", "json_object", "structural_tag"];

/// Checks `response_format`.
pub(super) fn format(service: Service, body: &Map<String, Value>) -> Checked {
    let Some(format) = given(body, "response_format") else { return Ok(()) };
    let good = match format.get("type").and_then(Value::as_str) {
        Some("text") => true,
        Some("json_object") => {
            let says_json = body.get("messages").is_some_and(|messages| messages.to_string().to_lowercase().contains("json"));
            if matches!(service, OpenAi | DeepSeek) && !says_json {
                let why = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.";
                return refuse("", "messages", why);
            }
            true
        }
        Some("json_schema") if service == DeepSeek => return refuse("", "response_format", "This response_format type is unavailable now"),
        Some("json_schema") => {
            let schema = format.pointer("/json_schema/schema");
            if format.pointer("/json_schema/name").is_none_or(|name| !name.is_string()) || (service != OpenAi && schema.is_none()) {
                let why = "'response_format.json_schema' needs a 'name' and a 'schema'.";
                return refuse("missing_required_parameter", "response_format.json_schema", why);
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
pub(in crate::simulate::openai) fn strict(schema: &Value, param: &str) -> Checked {
    match schema {
        Value::Object(object) => {
            if let Some(properties) = object.get("properties").and_then(Value::as_object) {
                let required = object.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                if object.get("additionalProperties") != Some(&Value::Bool(false)) {
                    let why = "Invalid schema: 'additionalProperties' is required to be supplied and to be false.";
                    return refuse("invalid_json_schema", param, why);
                }
                if let Some(missing) = properties.keys().find(|name| !required.iter().any(|known| known == name.as_str())) {
                    let why = format!("Invalid schema: 'required' must include every key in properties. Missing '{missing}'.");
                    return refuse("invalid_json_schema", param, why);
                }
            }
            object.values().try_for_each(|inner| strict(inner, param))
        }
        Value::Array(items) => items.iter().try_for_each(|inner| strict(inner, param)),
        _ => Ok(()),
    }
}

/// Self-hosted servers take one constraint at most.
pub(super) fn constraints(service: Service, body: &Map<String, Value>) -> Checked {
    if !service.is_vllm() {
        return Ok(());
    }
    let mut found: Vec<&str> = Vec::new();
    if service == VllmLegacy {
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
        let why = format!("You can only use one kind of constraints for structured outputs, but got {}.", found.join(", "));
        return refuse("", "structured_outputs", why);
    }
    Ok(())
}
