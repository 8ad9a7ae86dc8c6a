//! Reads a Messages request: its shape, the rules that its shape does not tell, and then what it asks for.

use super::shape::BODY;
use crate::simulate::ask::{Ask, Choice, Constraint};
use crate::simulate::dialect::Refusal;
use crate::simulate::shape::{Why, items, strings, text_of};
use crate::simulate::signature::{self, Kind};
use serde_json::{Map, Value, json};

/// Most tools that may be strict.
const MAX_STRICT: usize = 20;

/// Reads the body of whoever may ask; `raw` is what ids are made of.
///
/// # Errors
/// The first fault.
pub(in crate::simulate) fn body(body: Map<String, Value>, raw: &[u8]) -> Result<Ask, Refusal> {
    let body = Value::Object(body);
    BODY.check(&body, "").map_err(|(at, why)| {
        let why = match why {
            Why::Missing => "Field required",
            Why::Unknown => "Extra inputs are not permitted",
            Why::Wrong => "Input should be a valid value of this field",
        };
        Refusal::at(&at, format!("{at}: {why}"))
    })?;
    let mut ask = Ask::begin(text_of(&body, "model").to_owned(), raw)?;
    ask.stream = body.get("stream") == Some(&Value::Bool(true));
    ask.max_tokens = body.get("max_tokens").and_then(Value::as_u64);
    ask.stop = strings(body.get("stop_sequences"));
    sampling(&body, &mut ask)?;
    tools(&body, &mut ask)?;
    if let Some(schema) = body.pointer("/output_config/format/schema") {
        closed_schema(schema)?;
        ask.constraint = Constraint::Schema(schema.clone());
    }
    let system = body.get("system");
    ask.heard(&system.and_then(Value::as_str).map_or_else(|| text_blocks(&body, "system"), str::to_owned));
    messages(&body, &mut ask)?;
    Ok(ask)
}

fn refuse<T>(at: &str, why: impl std::fmt::Display) -> Result<T, Refusal> {
    Err(Refusal::at(at, format!("{at}: {why}")))
}

/// Sampling and thinking.
fn sampling(body: &Value, ask: &mut Ask) -> Result<(), Refusal> {
    let temperature = body.get("temperature").and_then(Value::as_f64);
    if temperature.is_some() && body.get("top_p").is_some() {
        return refuse("temperature", "`temperature` and `top_p` cannot both be specified for this model. Please use only one.");
    }
    let thinking = body.get("thinking").unwrap_or(&Value::Null);
    let enabled = text_of(thinking, "type") == "enabled";
    if enabled {
        let budget = thinking.get("budget_tokens").and_then(Value::as_u64);
        if budget >= ask.max_tokens {
            return refuse("max_tokens", "`max_tokens` must be greater than `thinking.budget_tokens`.");
        }
        if temperature.is_some_and(|t| t != 1.0) {
            return refuse("temperature", "`temperature` may only be set to 1 when thinking is enabled.");
        }
        if matches!(body.pointer("/tool_choice/type").and_then(Value::as_str), Some("any" | "tool")) {
            return refuse("tool_choice", "Thinking may not be enabled when tool_choice forces tool use.");
        }
    }
    ask.thinks |= enabled || text_of(thinking, "type") == "adaptive";
    Ok(())
}

fn tools(body: &Value, ask: &mut Ask) -> Result<(), Refusal> {
    for (n, tool) in items(body, "tools").iter().enumerate() {
        let schema = tool.get("input_schema").unwrap_or(&Value::Null);
        if text_of(schema, "type") != "object" {
            return refuse(&format!("tools.{n}.custom.input_schema.type"), "Field required");
        }
        if ask.tools.iter().any(|known| known.name == text_of(tool, "name")) {
            return refuse("tools", "Tool names must be unique.");
        }
        ask.offer(text_of(tool, "name"), Some(schema));
    }
    let strict = items(body, "tools").iter().filter(|tool| tool.get("strict") == Some(&Value::Bool(true))).count();
    if strict > MAX_STRICT {
        return refuse("tools", format!("Too many strict tools ({strict}). The maximum number of strict tools supported is {MAX_STRICT}."));
    }
    let choice = body.get("tool_choice").unwrap_or(&Value::Null);
    if !choice.is_null() && ask.tools.is_empty() {
        return refuse("tool_choice", "`tool_choice` may only be specified while providing `tools`.");
    }
    ask.parallel = choice.get("disable_parallel_tool_use") != Some(&Value::Bool(true));
    let named = text_of(choice, "name");
    ask.choice = match text_of(choice, "type") {
        "none" => Choice::None,
        "any" => Choice::Required,
        "tool" if ask.tools.iter().all(|tool| tool.name != named) => {
            return refuse("tool_choice", format!("Tool '{named}' not found in provided tools"));
        }
        "tool" => Choice::Named(named.to_owned()),
        _ => Choice::Auto,
    };
    Ok(())
}

/// Every object of an output schema must be closed.
fn closed_schema(schema: &Value) -> Result<(), Refusal> {
    let inner: Vec<&Value> = match schema {
        Value::Object(object) => {
            let is_object = object.get("type").is_some_and(|kind| kind == "object");
            if is_object && object.get("additionalProperties") != Some(&Value::Bool(false)) {
                let why = "For 'object' type, 'additionalProperties' must be explicitly set to false";
                return refuse("output_config.format.schema", why);
            }
            object.values().collect()
        }
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    };
    inner.into_iter().try_for_each(closed_schema)
}

fn messages(body: &Value, ask: &mut Ask) -> Result<(), Refusal> {
    let thinking = body.pointer("/thinking/type") == Some(&json!("enabled"));
    let all = items(body, "messages");
    let mut open: Vec<&str> = Vec::new();
    // neighbours of one role are one turn, and only the last turn of the assistant must have kept its thought
    let last = all.iter().rposition(|message| text_of(message, "role") == "assistant");
    let answered = all.last().is_some_and(|message| items(message, "content").iter().any(|block| text_of(block, "type") == "tool_result"));
    for (n, message) in all.iter().enumerate() {
        let at = format!("messages.{n}");
        let blocks = items(message, "content");
        if text_of(message, "role") == "system" {
            if n == 0 {
                return refuse("messages.0.role", "a system message cannot begin the conversation; use the top-level `system`");
            }
            ask.heard(text_of(message, "content"));
            ask.heard(&text_blocks(message, "content"));
            continue;
        }
        if text_of(message, "role") == "assistant" {
            signature::check(blocks.iter().map(kind), thinking && answered && last == Some(n), &at)?;
            ask.heard(text_of(message, "content"));
            ask.heard(&text_blocks(message, "content"));
            open.extend(blocks.iter().filter(|block| text_of(block, "type") == "tool_use").map(|block| text_of(block, "id")));
            for block in blocks.iter().filter(|block| text_of(block, "type") == "tool_use") {
                ask.heard(&block.get("input").map(Value::to_string).unwrap_or_default());
            }
            continue;
        }
        user(blocks, &mut open, &at, ask)?;
        let text = text_of(message, "content").to_owned() + &text_blocks(message, "content");
        if !text.is_empty() {
            ask.user_says(text);
        }
    }
    match open.first() {
        Some(id) => refuse("messages", format!("`tool_use` ids were found without `tool_result` blocks immediately after: {id}.")),
        None => Ok(()),
    }
}

/// The media and tool results of a user's turn; every call of the turn before must have its result here, first of all.
fn user<'a>(blocks: &'a [Value], open: &mut Vec<&'a str>, at: &str, ask: &mut Ask) -> Result<(), Refusal> {
    let mut others = false;
    for block in blocks {
        match text_of(block, "type") {
            "tool_result" => {
                let id = text_of(block, "tool_use_id");
                let Some(found) = open.iter().position(|call| *call == id) else {
                    return refuse(at, format!("unexpected `tool_use_id` found in `tool_result` blocks: {id}."));
                };
                open.swap_remove(found);
                if others {
                    return refuse(at, "`tool_result` blocks must come first in the content.");
                }
                ask.tool_says(text_of(block, "content").to_owned() + &text_blocks(block, "content"));
            }
            "image" | "document" => {
                let source = block.get("source").unwrap_or(&Value::Null);
                ask.user_shows(source.get("media_type").and_then(Value::as_str).unwrap_or("image by URL"));
                others = true;
            }
            "text" => others = true,
            kind => return refuse(at, format!("`{kind}` blocks are not permitted in a user's turn.")),
        }
    }
    match open.first() {
        Some(id) => refuse(at, format!("`tool_use` ids were found without `tool_result` blocks immediately after: {id}.")),
        None => Ok(()),
    }
}

fn kind(block: &Value) -> Kind<'_> {
    match text_of(block, "type") {
        "thinking" => Kind::Thought(text_of(block, "thinking"), text_of(block, "signature")),
        "redacted_thinking" => Kind::Sealed,
        "tool_use" => Kind::Call,
        _ => Kind::Other,
    }
}

/// The texts of a list of blocks in one.
fn text_blocks(of: &Value, key: &str) -> String {
    items(of, key).iter().map(|block| text_of(block, "text")).collect()
}
