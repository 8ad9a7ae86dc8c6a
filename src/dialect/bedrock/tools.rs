//! Writes tools, the choice among them and the schema of the answer in Converse's words.

use super::messages::write_cache;
use crate::dialect::anthropic::toolbox::{ANY_OBJECT, Call, Spec};
use crate::dialect::anthropic::turns::Block;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::constraint::Schema;
use crate::llm::request::same_text;
use std::borrow::Cow;

/// Said to a model that must not call tools: the protocol has no such choice, and a conversation that holds tool
/// blocks must declare tools.
pub(super) const NO_CALLS: &str = "Do not call any tool in this turn; answer in text.";

/// Tools for a history that has calls while the request declares none; the service refuses it without.
pub(super) fn undeclared<'a: 'b, 'b, M: 'b>(blocks: impl Iterator<Item = &'b Block<'a, M>>) -> Vec<Spec<'a>> {
    let spec =
        |name| Spec { name, description: Some(Text::Plain(NO_CALLS)), schema: Cow::Borrowed(ANY_OBJECT), strict: false, cache: None };
    let mut specs: Vec<Spec<'a>> = Vec::new();
    for block in blocks {
        let Block::Call { name, .. } = block else { continue };
        if !specs.iter().any(|spec| same_text(spec.name, *name)) {
            specs.push(spec(*name));
        }
    }
    if specs.is_empty() {
        // A result whose call is not there: the service shall say so, not complain about missing tools.
        specs.push(spec(Text::Plain("unknown")));
    }
    specs
}

/// Writes `toolConfig`.
pub(super) fn write(w: &mut Writer, tools: &[Spec<'_>], call: Call<'_>) {
    w.key("toolConfig").object().key("tools").array();
    for tool in tools {
        w.object().key("toolSpec").object().key("name").text(tool.name);
        if let Some(description) = tool.description {
            w.key("description").text(description);
        }
        w.key("inputSchema").object().key("json").raw(&tool.schema).end_object();
        if tool.strict {
            w.key("strict").flag(true);
        }
        w.end_object().end_object();
        write_cache(w, tool.cache);
    }
    w.end_array();
    match call {
        Call::Unsaid | Call::None | Call::Auto => {}
        Call::Any => {
            w.key("toolChoice").object().key("any").object().end_object().end_object();
        }
        Call::Tool(name) => {
            w.key("toolChoice").object().key("tool").object().key("name").text(name).end_object().end_object();
        }
    }
    w.end_object();
}

/// Writes `outputConfig`: the schema as the *text* of JSON.
pub(super) fn write_output(w: &mut Writer, held: &Schema<'_>) {
    w.key("outputConfig").object().key("textFormat").object().key("type").string("json_schema");
    w.key("structure").object().key("jsonSchema").object().key("schema").string(&held.schema);
    w.key("name").text(held.name);
    if let Some(description) = held.description.filter(|text| !text.is_empty()) {
        w.key("description").text(description);
    }
    w.end_object().end_object().end_object().end_object();
}
