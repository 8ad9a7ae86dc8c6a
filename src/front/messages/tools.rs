//! Reads the tools of a request and the choice among them.

use crate::error::ApiError;
use crate::front::asks::{asks, hint};
use crate::front::chat;
use crate::front::read::{cache, optional, raw_members, required};
use crate::json::walk::Cursor;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::llm::request::{Authority, Param, Path, Request, Tool, ToolChoice, same_text};
use crate::redact::shown;

/// Members of a tool that only steer Claude.
const STEERING: [&str; 4] = ["defer_loading", "eager_input_streaming", "input_examples", "allowed_callers"];

/// Reads `tools`; none where they are absent. A route has OpenAI's words for them.
///
/// # Errors
/// A 400 that names the tool: one that Anthropic runs itself, no name, a schema that is no object.
pub fn read<'a>(base: &ChatRequest<'a>, params: &mut Vec<Param<'a>>) -> Result<Vec<Tool<'a>>, ApiError> {
    if base.authority(Field::Tools) != Authority::Client {
        return chat::tools::read(base);
    }
    let mut tools = Vec::new();
    let Some(raw) = base.raw(Field::Tools) else { return Ok(tools) };
    Cursor::inside(raw).array(|cursor| {
        const NAMES: [&str; 10] =
            ["type", "name", "description", "input_schema", "strict", "cache_control", STEERING[0], STEERING[1], STEERING[2], STEERING[3]];
        let at = Path::element(Field::Tools.name(), tools.len());
        let [kind, name, description, schema, strict, mark, steering @ ..] = raw_members(cursor, at, NAMES)?;
        let kind = optional(kind, at.member("type"))?.map(|kind| kind.decode());
        if let Some(kind) = kind.filter(|kind| kind != "custom") {
            return Err(at.refused(&format!("a tool of type `{}` is run by Anthropic and known to Claude only", shown(&kind))));
        }
        for (value, name) in steering.iter().zip(STEERING) {
            if value.is_some_and(|value| !matches!(value, "null" | "false" | "[]")) {
                hint(params, name);
            }
        }
        tools.push(Tool {
            name: required(name, at.member("name"))?,
            description: optional(description, at.member("description"))?,
            parameters: match schema {
                Some(schema) if schema.starts_with('{') => Some(schema),
                _ => return Err(at.member("input_schema").must_be("a JSON schema, an object")),
            },
            strict: (strict == Some("true")).then_some(true),
            cache: mark.and_then(cache),
            at: at.member("input_schema"),
        });
        Ok(())
    })?;
    Ok(tools)
}

/// Reads `tool_choice`: the client's, or the route's in OpenAI's words.
///
/// # Errors
/// A 400 that names it: an unknown form, a tool that is not among `tools`, a call without tools.
pub fn choice<'a>(base: &ChatRequest<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
    const SERIAL: &str = "tool_choice.disable_parallel_tool_use";
    let (field, mut clients) = (Field::ToolChoice, None);
    if let Some(raw) = base.parsed.raw(field) {
        let (choice, serial) = clients_choice(raw, request)?;
        let serial = serial.filter(|_| !request.tools.is_empty() && choice != ToolChoice::None);
        if let Some(serial) = serial.filter(|_| asks(base, Field::ParallelToolCalls, SERIAL, request)) {
            request.serial_calls = serial;
            request.params.retain(|param| serial || param.field != Some(Field::ParallelToolCalls)); // asks for nothing
        }
        clients = Some(choice).filter(|_| !request.tools.is_empty() && base.raw(field).is_some());
    }
    request.tool_choice = match base.authority(field) {
        Authority::Client => clients,
        Authority::Default | Authority::Override => chat::tools::choice(base, &request.tools)?,
    };
    Ok(())
}

/// The client's choice, and whether calls may only be made one at a time, where it says so.
fn clients_choice<'a>(raw: &'a str, request: &Request<'a>) -> Result<(ToolChoice<'a>, Option<bool>), ApiError> {
    let at = Path::top(Field::ToolChoice.name());
    if raw.starts_with('"') {
        return Err(at.must_be("an object with a `type`"));
    }
    let [kind, name, serial] = raw_members(&mut Cursor::inside(raw), at, ["type", "name", "disable_parallel_tool_use"])?;
    let choice = match &*required(kind, at.member("type"))?.decode() {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "any" => ToolChoice::Required,
        "tool" => {
            let name = required(name, at.member("name"))?;
            if !request.tools.iter().any(|tool| same_text(tool.name, name)) {
                return Err(at.member("name").refused("no tool of `tools` has this name"));
            }
            ToolChoice::Named(name)
        }
        _ => return Err(at.member("type").must_be("auto, any, tool or none")),
    };
    if request.tools.is_empty() && choice == ToolChoice::Required {
        return Err(at.refused("it asks for a call, but there are no `tools`"));
    }
    Ok((choice, serial.filter(|serial| *serial != "null").map(|serial| serial == "true")))
}
