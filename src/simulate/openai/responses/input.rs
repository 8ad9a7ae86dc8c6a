//! The items of `input`: their shapes, the order that they must have, and that every call has its output.

use super::check::refusal;
use super::encrypted::open;
use super::shape::{ANSWER, HOSTED_ITEMS, ITEMS, PROMPT, ROLES};
use crate::simulate::dialect::Refusal;
use crate::simulate::openai::Service::{self, OpenAi, Vllm};
use crate::simulate::openai::check::{Checked, is_fetchable, refuse};
use crate::simulate::shape::{items, text_of};
use serde_json::Value;

/// Longest `call_id` that OpenAI takes.
const MAX_CALL_ID: usize = 64;
/// What OpenAI's ids of items begin with.
const ID_PREFIXES: [(&str, &str); 4] = [("message", "msg"), ("reasoning", "rs"), ("function_call", "fc"), ("custom_tool_call", "ctc")];

/// The type of an item, which may be left out of messages and references.
pub(super) fn kind(item: &Value) -> &str {
    match item.get("type").and_then(Value::as_str) {
        Some(kind) => kind,
        None if item.get("role").is_some() => "message",
        None if item.get("id").is_some() => "item_reference",
        None => "",
    }
}

/// Checks the items of a request.
///
/// # Errors
/// The first fault.
pub(super) fn check(service: Service, body: &Value) -> Checked {
    let all = items(body, "input");
    for (index, item) in all.iter().enumerate() {
        shape(service, body, item, index)?;
        parts(item, index)?;
        if service == OpenAi {
            ids(item, index)?;
            stored(body, item)?;
        }
        if kind(item) == "reasoning" {
            reasoning(service, item, all.get(index + 1))?;
        }
    }
    // the other half of a pair may be in what the request continues
    let continues =
        ["previous_response_id", "conversation", "prompt"].iter().any(|name| body.get(name).is_some_and(|value| !value.is_null()));
    if continues { Ok(()) } else { pairs(all) }
}

fn shape(service: Service, body: &Value, item: &Value, index: usize) -> Checked {
    let kind = kind(item);
    let shape = match kind {
        "message" => {
            let role = text_of(item, "role");
            if !ROLES.contains(&role) {
                let why = format!("Invalid value: '{role}'. Supported values are: 'assistant', 'system', 'developer', and 'user'.");
                return refuse("invalid_value", &format!("input[{index}].role"), why);
            }
            if role == "assistant" { &ANSWER } else { &PROMPT }
        }
        _ => match ITEMS.iter().find(|(known, _)| *known == kind) {
            Some((_, shape)) => shape,
            None if HOSTED_ITEMS.contains(&kind) && service != Vllm => return Ok(()),
            None if kind.is_empty() => {
                let at = format!("input[{index}].type");
                return refuse("missing_required_parameter", &at, format!("Missing required parameter: '{at}'."));
            }
            None => {
                let known: Vec<&str> = ITEMS.iter().map(|(known, _)| *known).chain(HOSTED_ITEMS).collect();
                let why = format!("Invalid value: '{kind}'. Supported values are: 'message', '{}'.", known.join("', '"));
                return refuse("invalid_value", &format!("input[{index}].type"), why);
            }
        },
    };
    shape.check(item, &format!("input.{index}")).map_err(|fault| refusal(body, fault))?;
    let length = text_of(item, "call_id").chars().count();
    if service == OpenAi && length > MAX_CALL_ID {
        let at = format!("input[{index}].call_id");
        let why = format!(
            "Invalid '{at}': string too long. Expected a string with maximum length {MAX_CALL_ID}, but got a string with length {length} instead."
        );
        return refuse("string_above_max_length", &at, why);
    }
    Ok(())
}

/// Checks where images and files come from.
fn parts(item: &Value, index: usize) -> Checked {
    for member in ["content", "output"] {
        for (n, part) in items(item, member).iter().enumerate() {
            let at = format!("input[{index}].{member}[{n}]");
            let sources: &[&str] = match text_of(part, "type") {
                "input_image" => &["image_url", "file_id"],
                "input_file" => &["file_data", "file_url", "file_id"],
                _ => continue,
            };
            let Some((name, source)) = sources.iter().find_map(|name| Some((name, part.get(*name)?.as_str()?))) else {
                let why = format!("Missing required parameter: '{at}': one of '{}'.", sources.join("', '"));
                return refuse("missing_required_parameter", &at, why);
            };
            let good = match *name {
                "file_data" => source.starts_with("data:") && is_fetchable(source),
                "file_id" => !source.is_empty(),
                _ => is_fetchable(source),
            };
            if !good {
                let why = format!("Invalid '{at}.{name}'. Expected a valid URL, but got a value with an invalid format.");
                return refuse("invalid_value", &format!("{at}.{name}"), why);
            }
        }
    }
    Ok(())
}

fn ids(item: &Value, index: usize) -> Checked {
    let (kind, id) = (kind(item), text_of(item, "id"));
    match ID_PREFIXES.iter().find(|(known, prefix)| *known == kind && !id.is_empty() && !id.starts_with(prefix)) {
        Some((_, prefix)) => {
            let at = format!("input[{index}].id");
            refuse("invalid_value", &at, format!("Invalid '{at}': '{id}'. Expected an ID that begins with '{prefix}'."))
        }
        None => Ok(()),
    }
}

/// Without a store, OpenAI knows an item's id only if the item is there with all that it needs.
fn stored(body: &Value, item: &Value) -> Checked {
    let (kind, id) = (kind(item), text_of(item, "id"));
    let is_lost = kind == "item_reference" || (kind == "reasoning" && !id.is_empty() && text_of(item, "encrypted_content").is_empty());
    if body.get("store") != Some(&Value::Bool(false)) || !is_lost {
        return Ok(());
    }
    let why = format!(
        "Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try again with `store` set to true, or \
         remove this item from your input."
    );
    Err(Refusal { status: 404, ..Refusal::at("input", why) })
}

/// Checks encrypted reasoning, and at OpenAI that what came of the reasoning follows.
fn reasoning(service: Service, item: &Value, next: Option<&Value>) -> Checked {
    let (id, encrypted) = (text_of(item, "id"), text_of(item, "encrypted_content"));
    if !encrypted.is_empty() && service == Vllm {
        return Err(Refusal::status(400, "Encrypted content is not supported."));
    }
    if !encrypted.is_empty() && open(service, encrypted).is_none() {
        let which = if id.is_empty() { shortened(encrypted) } else { format!("for item {id}") };
        let why =
            format!("The encrypted content {which} could not be verified. Reason: Encrypted content could not be decrypted or parsed.");
        return Err(Refusal { code: "invalid_encrypted_content", ..Refusal::status(400, why) });
    }
    let follows = next.is_some_and(|next| match kind(next) {
        "message" => text_of(next, "role") == "assistant",
        kind => kind == "reasoning" || kind == "item_reference" || kind.ends_with("_call"),
    });
    if service == OpenAi && !follows {
        return refuse("", "input", format!("Item '{id}' of type 'reasoning' was provided without its required following item."));
    }
    Ok(())
}

/// First and last four characters.
fn shortened(text: &str) -> String {
    let all: Vec<char> = text.chars().collect();
    let part = |of: &[char]| of.iter().collect::<String>();
    format!("{}...{}", part(all.first_chunk::<4>().map_or(&all, |head| head)), part(all.last_chunk::<4>().map_or(&all, |tail| tail)))
}

/// Every output has a call before it, and every call an output.
fn pairs(all: &[Value]) -> Checked {
    let mut open: Vec<(&str, &str)> = Vec::new();
    for item in all {
        let id = text_of(item, "call_id");
        let (call, is_output) = match kind(item) {
            kind if id.is_empty() || !kind.contains("_call") && !kind.starts_with("tool_search") => continue,
            "tool_search_output" => ("tool_search_call", true),
            kind => kind.strip_suffix("_output").map_or((kind, false), |call| (call, true)),
        };
        if !is_output {
            open.push((call, id));
            continue;
        }
        match open.iter().position(|known| *known == (call, id)) {
            Some(found) => drop(open.swap_remove(found)),
            None => {
                let why = format!("No tool call found for {} output with call_id {id}.", call.replace('_', " "));
                return refuse("", "input", why);
            }
        }
    }
    match open.first() {
        Some((call, id)) => refuse("", "input", format!("No tool output found for {} {id}.", call.replace('_', " "))),
        None => Ok(()),
    }
}
