//! Tools and the choice among them, with the keys that Mistral's schema has and no others.

use crate::dialect::openai::body::Body;
use crate::dialect::params::Settled;
use crate::dialect::schema::{self, rules};
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::llm::field::Field;
use crate::llm::request::{Request, ToolChoice, same_text};

/// Writes `tools` and `tool_choice`.
///
/// # Errors
/// A 400 that names the tool or the choice.
pub fn write(request: &Request<'_>, body: &mut Body<'_>, settled: &mut Settled) -> Result<(), ApiError> {
    let (tools, choice) = (&request.tools, &request.tool_choice);
    if tools.is_empty() {
        for field in [Field::Tools, Field::ToolChoice, Field::ParallelToolCalls] {
            body.remove(field);
        }
        return Ok(());
    }
    let allowed = match choice {
        Some(ToolChoice::Allowed { names, .. }) => Some(names),
        _ => None,
    };
    let mut w = Writer::default();
    w.array();
    for tool in tools.iter().filter(|tool| allowed.is_none_or(|names| names.iter().any(|name| same_text(*name, tool.name)))) {
        w.object().key("type").string("function").key("function").object().key("name").text(tool.name);
        if let Some(description) = tool.description {
            w.key("description").text(description);
        }
        let parameters = tool.parameters.unwrap_or(r#"{"type":"object","properties":{}}"#);
        let rules = if tool.strict == Some(true) { &rules::MISTRAL } else { &rules::MISTRAL_TOOL };
        match schema::adapt_tool(parameters, rules) {
            Some(adapted) => {
                if adapted.reworded {
                    settled.adjust(request.name_of(Field::Tools), "it takes a part of this schema as words only")?;
                }
                w.key("parameters").raw(&adapted.schema)
            }
            None => w.key("parameters").raw(parameters),
        };
        if let Some(strict) = tool.strict {
            w.key("strict").flag(strict);
        }
        w.end_object().end_object();
    }
    w.end_array();
    body.set(Field::Tools, w.finish());
    let mut w = Writer::default();
    match choice {
        None => return Ok(()),
        Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => w.string("auto"),
        Some(ToolChoice::None) => w.string("none"),
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => w.string("any"),
        Some(ToolChoice::Named(name)) => {
            w.object().key("type").string("function").key("function").object().key("name").text(*name).end_object().end_object()
        }
    };
    body.set(Field::ToolChoice, w.finish());
    Ok(())
}
