//! Tools and the choice among them, where a provider takes less than OpenAI.

use super::body::Body;
use crate::chat::field::Field;
use crate::chat::request::ChatRequest;
use crate::dialect::params::asked;
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::provider::catalogue::{ForcedTools, Quirks};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    r#type: Cow<'a, str>,
    #[serde(borrow, default)]
    allowed_tools: Option<Allowed<'a>>,
}

#[derive(Deserialize)]
struct Allowed<'a> {
    #[serde(borrow, default)]
    mode: Cow<'a, str>,
    #[serde(borrow, default)]
    tools: Vec<Named<'a>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    function: Function<'a>,
}

#[derive(Deserialize, Default)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
}

/// Says the tools as the provider wants them.
///
/// # Errors
/// A 400 that names `tool_choice` or `tools` where they cannot be read.
pub fn encode<'a>(request: &ChatRequest<'a>, quirks: &Quirks, body: &mut Body<'a>) -> Result<(), ApiError> {
    if asked(request, Field::Tools).is_none() {
        // `tools: []` is a 400 at OpenAI, and so is every word about tools that are not there.
        if request.raw(Field::Tools).is_some() {
            for field in [Field::Tools, Field::ToolChoice, Field::ParallelToolCalls] {
                if asked(request, field).is_none() {
                    body.remove(field.name());
                }
            }
        }
        return Ok(());
    }
    let Some(raw) = request.raw(Field::ToolChoice) else { return Ok(()) };
    let mut mode = raw.trim_matches('"');
    let choice: Option<Choice<'a>> = if raw.starts_with('{') { request.get(Field::ToolChoice)? } else { None };
    let mut owned = None;
    if let Some(choice) = &choice {
        mode = "named";
        if choice.r#type == "allowed_tools" && !quirks.allowed_tools {
            let Some(allowed) = &choice.allowed_tools else {
                return Err(ApiError::field("tool_choice", "`tool_choice.allowed_tools` is missing"));
            };
            mode = if allowed.mode == "required" { "required" } else { "auto" };
            body.set(Field::Tools.name(), filtered(request, allowed)?);
            owned = Some(mode);
        }
    }
    if mode == "required" && quirks.tool_choice_any {
        owned = Some("any");
    }
    if let Some(word) = owned {
        body.set(Field::ToolChoice.name(), format!("\"{word}\"").into_bytes());
    }
    if quirks.forced_tools == ForcedTools::WithoutThinking && matches!(mode, "required" | "named") {
        body.set("thinking", br#"{"type":"disabled"}"#.as_slice());
    }
    Ok(())
}

/// The tools that the choice allows, each as it came.
fn filtered(request: &ChatRequest<'_>, allowed: &Allowed<'_>) -> Result<Vec<u8>, ApiError> {
    let tools: Vec<&RawValue> = request.get(Field::Tools)?.unwrap_or_default();
    let mut w = Writer::default();
    w.array();
    for raw in tools {
        let tool: Named<'_> = serde_json::from_str(raw.get()).map_err(|e| ApiError::field("tools", format!("`tools`: {e}")))?;
        if allowed.tools.iter().any(|one| one.function.name == tool.function.name) {
            w.raw(raw.get());
        }
    }
    w.end_array();
    Ok(w.finish())
}
