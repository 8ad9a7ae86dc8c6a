//! Tools and the choice among them, where a provider takes less than OpenAI.

use super::body::Body;
use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::llm::request::{Ask, Tool, ToolChoice, same_text};
use crate::provider::catalogue::{ForcedTools, Quirks};
use serde_json::value::RawValue;

/// Says the tools as the provider wants them.
///
/// # Errors
/// A 400 that names `tool_choice` or `tools` where they cannot be read.
pub fn encode<'a>(ask: &dyn Ask, request: &ChatRequest<'_>, quirks: &'a Quirks, body: &mut Body<'a>) -> Result<(), ApiError> {
    if request.asked(Field::Tools).is_none() {
        // `tools: []` is a 400 at OpenAI, and so is every word about tools that are not there.
        for field in [Field::Tools, Field::ToolChoice, Field::ParallelToolCalls] {
            if request.raw(field).is_some() && request.asked(field).is_none() {
                body.remove(field);
            }
        }
        return Ok(());
    }
    let Some(raw) = request.raw(Field::ToolChoice) else { return Ok(()) };
    let mut demanded = raw == "\"required\"" || raw.starts_with('{');
    if !quirks.allowed_tools && raw.starts_with('{') && raw.contains("allowed_tools") {
        let neutral = ask.request()?;
        if let Some(ToolChoice::Allowed { required, names }) = &neutral.tool_choice {
            demanded = *required;
            body.set(Field::ToolChoice, if *required { b"\"required\"".as_slice() } else { b"\"auto\"" });
            body.set(Field::Tools, narrowed(request, &neutral.tools, names)?);
        }
    }
    if !quirks.named_tools && raw.starts_with('{') && !raw.contains("allowed_tools") {
        let neutral = ask.request()?;
        if let Some(ToolChoice::Named(name)) = neutral.tool_choice {
            body.set(Field::ToolChoice, b"\"required\"".as_slice());
            body.set(Field::Tools, narrowed(request, &neutral.tools, &[name])?);
        }
    }
    if demanded && quirks.forced_tools == ForcedTools::WithoutThinking {
        quirks.reasoning_off.iter().for_each(|(name, json)| body.set(name.as_str(), json.as_bytes()));
    }
    Ok(())
}

/// The tools of these names, each as it came.
fn narrowed(request: &ChatRequest<'_>, tools: &[Tool<'_>], names: &[Text<'_>]) -> Result<Vec<u8>, ApiError> {
    let raw: Vec<&RawValue> = request.get(Field::Tools)?.unwrap_or_default();
    let mut w = Writer::default();
    w.array();
    for (json, tool) in raw.iter().zip(tools) {
        if names.iter().any(|name| same_text(*name, tool.name)) {
            w.raw(json.get());
        }
    }
    w.end_array();
    Ok(w.finish())
}
