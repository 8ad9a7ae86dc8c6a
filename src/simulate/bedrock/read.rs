//! Reads a Converse request: its shape, the rules that its shape does not tell, and then what it asks for.

use super::shape::BODY;
use crate::simulate::ask::{Ask, Choice, Constraint};
use crate::simulate::dialect::{Refusal, refuse};
use crate::simulate::shape::{Why, items, strings, text_of};
use crate::simulate::signature::{self, Kind};
use serde_json::{Map, Value};

/// Reads the body for this model; `raw` is what ids are made of.
///
/// # Errors
/// The first fault.
pub(super) fn body(model: String, body: Map<String, Value>, raw: &[u8]) -> Result<Ask, Refusal> {
    let body = Value::Object(body);
    BODY.check(&body, "").map_err(|(at, why)| {
        let why = match why {
            Why::Missing => "Member must not be null",
            Why::Unknown => "extraneous key is not permitted",
            Why::Wrong => "Member must satisfy its constraint",
        };
        Refusal::at(&at, format!("1 validation error detected: Value at '{at}' failed to satisfy constraint: {why}"))
    })?;
    let mut ask = Ask::begin(model, raw)?;
    ask.max_tokens = body.pointer("/inferenceConfig/maxTokens").and_then(Value::as_u64);
    ask.stop = strings(body.pointer("/inferenceConfig/stopSequences"));
    tools(&body, &mut ask)?;
    if let Some(schema) = body.pointer("/outputConfig/textFormat/structure/jsonSchema/schema").and_then(Value::as_str) {
        let schema = serde_json::from_str(schema)
            .map_err(|error| Refusal::at("outputConfig", format!("The JSON schema is not valid JSON: {error}")))?;
        ask.constraint = Constraint::Schema(schema);
    }
    let more = body.get("additionalModelRequestFields").unwrap_or(&Value::Null);
    let thinking = more.pointer("/thinking/type").and_then(Value::as_str).unwrap_or_default();
    ask.parallel = more.pointer("/tool_choice/disable_parallel_tool_use") != Some(&Value::Bool(true));
    ask.thinks |= matches!(thinking, "enabled" | "adaptive") || !matches!(text_of(more, "reasoning_effort"), "" | "none");
    for block in items(&body, "system") {
        ask.heard(text_of(block, "text"));
    }
    messages(items(&body, "messages"), thinking == "enabled", &mut ask)?;
    if ask.tools.is_empty() && (raw.windows(9).any(|part| part == b"\"toolUse\"")) {
        return refuse("toolConfig", "The toolConfig field must be defined when using toolUse and toolResult content blocks.");
    }
    Ok(ask)
}

fn tools(body: &Value, ask: &mut Ask) -> Result<(), Refusal> {
    let config = body.get("toolConfig").unwrap_or(&Value::Null);
    for (n, spec) in items(config, "tools").iter().filter_map(|tool| tool.get("toolSpec")).enumerate() {
        let schema = spec.pointer("/inputSchema/json");
        if schema.is_none_or(|schema| text_of(schema, "type") != "object") {
            return refuse(
                "toolConfig",
                format!("The value at toolConfig.tools.{n}.toolSpec.inputSchema.json.type must be one of the following: object."),
            );
        }
        ask.offer(text_of(spec, "name"), schema);
    }
    let choice = config.get("toolChoice").unwrap_or(&Value::Null);
    ask.choice = match choice.pointer("/tool/name").and_then(Value::as_str) {
        Some(name) if ask.tools.iter().all(|tool| tool.name != name) => {
            return refuse("toolConfig", format!("The tool {name} of toolChoice is not in toolConfig.tools."));
        }
        Some(name) => Choice::Named(name.to_owned()),
        None if choice.get("any").is_some() => Choice::Required,
        None => Choice::Auto,
    };
    Ok(())
}

fn messages(messages: &[Value], thinking: bool, ask: &mut Ask) -> Result<(), Refusal> {
    if messages.first().is_some_and(|message| text_of(message, "role") != "user") {
        return refuse(
            "messages",
            "A conversation must start with a user message. Try again with a conversation that starts with a user message.",
        );
    }
    let ids = |message: &'_ Value, key: &str| -> Vec<String> {
        let blocks = items(message, "content").iter().filter_map(|block| block.get(key));
        let mut ids: Vec<String> = blocks.map(|block| text_of(block, "toolUseId").to_owned()).collect();
        ids.sort_unstable();
        ids
    };
    let last = messages.iter().rposition(|message| text_of(message, "role") == "assistant");
    let answered = messages.last().is_some_and(|message| !ids(message, "toolResult").is_empty());
    let mut open: Vec<String> = Vec::new();
    for (n, message) in messages.iter().enumerate() {
        let at = format!("messages.{n}");
        let blocks = items(message, "content");
        if text_of(message, "role") == "assistant" {
            signature::check(blocks.iter().map(kind), thinking && answered && last == Some(n), &at)?;
            open = ids(message, "toolUse");
            for block in blocks {
                ask.heard(text_of(block, "text"));
                ask.heard(&block.pointer("/toolUse/input").map(Value::to_string).unwrap_or_default());
            }
            continue;
        }
        if ids(message, "toolResult") != open {
            return refuse(&at, format!("The toolResult blocks at {at}.content do not match the toolUse blocks of the previous turn."));
        }
        open.clear();
        user(blocks, &at, ask)?;
    }
    if open.is_empty() { Ok(()) } else { refuse("messages", "Expected toolResult blocks at the end of messages for the toolUse ids.") }
}

fn user(blocks: &[Value], at: &str, ask: &mut Ask) -> Result<(), Refusal> {
    let text: String = blocks.iter().map(|block| text_of(block, "text")).collect();
    for block in blocks {
        if let Some(result) = block.get("toolResult") {
            let said = items(result, "content").iter().map(|part| match part.get("json") {
                Some(json) => json.to_string(),
                None => text_of(part, "text").to_owned(),
            });
            ask.tool_says(said.collect());
        }
        for kind in ["image", "document", "audio", "video"] {
            if let Some(medium) = block.get(kind) {
                ask.user_shows(&format!("{kind}/{}", text_of(medium, "format")));
            }
        }
        if block.get("document").is_some() && text.is_empty() {
            return refuse(at, "A conversation turn that has a document must have a text block too.");
        }
    }
    if !text.is_empty() {
        ask.user_says(text);
    }
    Ok(())
}

fn kind(block: &Value) -> Kind<'_> {
    if block.get("toolUse").is_some() {
        return Kind::Call;
    }
    match (block.get("reasoningContent"), block.pointer("/reasoningContent/reasoningText")) {
        (_, Some(thought)) if thought.get("signature").is_some() => Kind::Thought(text_of(thought, "text"), text_of(thought, "signature")),
        (Some(_), _) => Kind::Sealed,
        _ => Kind::Other,
    }
}
