//! From a checked Responses request to the neutral one.

use super::encrypted::open;
use super::input::kind;
use super::{LOGPROBS, tools};
use crate::simulate::ask::{Ask, Constraint};
use crate::simulate::dialect::Refusal;
use crate::simulate::openai::Service;
use crate::simulate::openai::read::{data_type, reasons};
use crate::simulate::shape::{items, strings, text_of};
use serde_json::{Map, Value};

/// Reads a request that [`super::check`] has accepted.
///
/// # Errors
/// A model's name with a bad script.
pub(super) fn read(service: Service, body: Map<String, Value>, raw: &[u8]) -> Result<Ask, Refusal> {
    let member = |name: &str| body.get(name).unwrap_or(&Value::Null);
    let model = member("model").as_str().unwrap_or_default();
    let mut ask = Ask::begin(model.to_owned(), raw)?;
    ask.stream = member("stream") == true;
    ask.parallel = member("parallel_tool_calls") != false;
    ask.max_tokens = member("max_output_tokens").as_u64();
    ask.thinks |= reasons(service, model, member("reasoning").get("effort").and_then(Value::as_str));
    if strings(body.get("include")).iter().any(|included| included == LOGPROBS) {
        ask.logprobs = Some(member("top_logprobs").as_u64().unwrap_or(0));
    }
    let format = member("text").get("format").unwrap_or(&Value::Null);
    ask.constraint = match text_of(format, "type") {
        "json_schema" => Constraint::Schema(format.get("schema").cloned().unwrap_or_default()),
        "json_object" => Constraint::Object,
        _ => Constraint::Free,
    };
    tools::read(&body, &mut ask);
    ask.heard(member("instructions").as_str().unwrap_or_default());
    match member("input") {
        Value::String(text) => ask.user_says(text.clone()),
        input => input.as_array().into_iter().flatten().for_each(|item| read_item(service, item, &mut ask)),
    }
    ask.request = body;
    Ok(ask)
}

fn read_item(service: Service, item: &Value, ask: &mut Ask) {
    match kind(item) {
        "message" => {
            let text = content(item, "content", ask);
            if text_of(item, "role") == "user" { ask.user_says(text) } else { ask.heard(&text) }
        }
        "function_call" => ask.heard(text_of(item, "arguments")),
        "custom_tool_call" => ask.heard(text_of(item, "input")),
        "reasoning" => {
            let shown = || content(item, "summary", ask) + &content(item, "content", ask);
            let text = open(service, text_of(item, "encrypted_content")).unwrap_or_else(shown);
            ask.heard(&text);
        }
        kind if kind.ends_with("_output") => {
            let text = content(item, "output", ask);
            ask.tool_says(text);
        }
        _ => ask.heard(""),
    }
}

/// The text of a member that is a text or parts; what else is in it is noted.
fn content(item: &Value, member: &str, ask: &mut Ask) -> String {
    if let Some(text) = item.get(member).and_then(Value::as_str) {
        return text.to_owned();
    }
    let mut out = String::new();
    for part in items(item, member) {
        match text_of(part, "type") {
            "input_image" => ask.user_shows(data_type(part.get("image_url"), "image by URL")),
            "input_file" => ask.user_shows(data_type(part.get("file_data"), "file")),
            _ => out.push_str(text_of(part, "text")),
        }
    }
    out
}
