//! A Responses answer in one piece: the response object and its output items.

use super::ENCRYPTED_REASONING;
use super::encrypted::seal;
use crate::simulate::ask::Ask;
use crate::simulate::dialect::Refusal;
use crate::simulate::openai::Service::{self, Compatible, OpenAi, Vllm, Xai};
use crate::simulate::openai::read::reasons;
use crate::simulate::openai::write::{CREATED, call_id, object, token_logprobs};
use crate::simulate::reply::{Block, Finish, Reply, Usage, pieces};
use crate::simulate::shape::{strings, text_of};
use serde_json::{Map, Value, json};

/// The response object of a reply.
pub(super) fn whole(service: Service, ask: &Ask, reply: &Reply) -> Value {
    let finish = reply.choices.first().map(|spoken| &spoken.finish);
    let reason = finish.and_then(incomplete);
    let mut out = response(service, ask, if reason.is_some() { "incomplete" } else { "completed" });
    match reason {
        Some(reason) => drop(out.insert("incomplete_details".into(), json!({ "reason": reason }))),
        None => drop(out.insert("completed_at".into(), json!(CREATED + 1))),
    }
    let items = items(service, ask, reply);
    out.insert("output".into(), items.iter().map(|item| item.whole.clone()).collect());
    out.insert("usage".into(), usage(service, reply.usage));
    Value::Object(out)
}

/// The response object of a generation that failed.
pub(super) fn failed(service: Service, ask: &Ask, refusal: &Refusal) -> Value {
    let mut out = response(service, ask, "failed");
    out.insert("error".into(), json!({ "code": error_code(refusal), "message": refusal.message }));
    Value::Object(out)
}

/// The code of an error in a response.
pub(super) fn error_code(refusal: &Refusal) -> &'static str {
    if refusal.code.is_empty() { "server_error" } else { refusal.code }
}

/// Why an answer is not complete; `None` if it is.
pub(super) fn incomplete(finish: &Finish) -> Option<&str> {
    match finish.word("stop", "length", "tool_calls") {
        "stop" | "tool_calls" => None,
        "length" => Some("max_output_tokens"),
        reason => Some(reason),
    }
}

/// The response object without output, repeating the request.
pub(super) fn response(service: Service, ask: &Ask, status: &str) -> Map<String, Value> {
    let mut out = object(json!({ "id": format!("resp_{}", ask.digest), "object": "response", "created_at": CREATED, "completed_at": null,
        "status": status, "model": ask.model, "output": [], "usage": null, "error": null, "incomplete_details": null,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "service_tier": "default", "tools": tools(service, ask) }));
    for (name, default) in [
        ("background", json!(false)),
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("max_tool_calls", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", Value::Null),
        ("prompt_cache_key", Value::Null),
        ("safety_identifier", Value::Null),
        ("store", json!(true)),
        ("temperature", json!(1.0)),
        ("tool_choice", json!("auto")),
        ("top_logprobs", json!(0)),
        ("top_p", json!(1.0)),
        ("truncation", json!("disabled")),
        ("user", Value::Null),
    ] {
        let given = ask.request.get(name).filter(|value| !value.is_null());
        out.insert(name.into(), given.cloned().unwrap_or(default));
    }
    let effort = reasons(service, &ask.model, None).then_some("medium");
    out.insert("reasoning".into(), merged(json!({ "effort": effort, "summary": null }), ask.request.get("reasoning")));
    out.insert("text".into(), merged(json!({ "format": { "type": "text" }, "verbosity": "medium" }), ask.request.get("text")));
    out
}

/// The tools of the request; functions with all their members.
fn tools(service: Service, ask: &Ask) -> Value {
    let mut tools = ask.request.get("tools").filter(|tools| !tools.is_null()).cloned().unwrap_or(json!([]));
    for tool in tools.as_array_mut().into_iter().flatten().filter(|tool| text_of(tool, "type") == "function") {
        let own = tool.take();
        *tool = merged(json!({ "description": null, "parameters": null, "strict": service == OpenAi }), Some(&own));
    }
    tools
}

/// `members` over `defaults`, without those that are null.
fn merged(mut defaults: Value, members: Option<&Value>) -> Value {
    let members = members.and_then(Value::as_object).into_iter().flatten().filter(|(_, value)| !value.is_null());
    if let Value::Object(out) = &mut defaults {
        out.extend(members.map(|(name, value)| (name.clone(), value.clone())));
    }
    defaults
}

/// `object` with one more member.
pub(super) fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.insert(name.to_owned(), value);
    }
    object
}

fn usage(service: Service, usage: Usage) -> Value {
    let Usage { prompt, completion, reasoning } = usage;
    let mut input = object(json!({ "cached_tokens": 0 }));
    if matches!(service, OpenAi | Compatible) {
        input.insert("cache_write_tokens".into(), json!(0));
    }
    json!({ "input_tokens": prompt, "input_tokens_details": input, "output_tokens": completion,
        "output_tokens_details": { "reasoning_tokens": reasoning }, "total_tokens": prompt + completion })
}

/// An output item.
pub(super) struct Item<'a> {
    /// What it says.
    pub(super) block: Block<'a>,
    /// Its id.
    pub(super) id: String,
    /// The item as it begins in a stream.
    pub(super) begun: Value,
    /// The item as it ends.
    pub(super) whole: Value,
    /// Its one part, empty and full; `None` for a call.
    pub(super) part: Option<(Value, Value)>,
}

/// The output items of a reply. The API has no further choices.
pub(super) fn items<'a>(service: Service, ask: &Ask, reply: &'a Reply) -> Vec<Item<'a>> {
    let Some(spoken) = reply.choices.first() else { return Vec::new() };
    let cut = incomplete(&spoken.finish).is_some();
    // A model that spends its tokens on reasoning says nothing.
    let is_said = |block: &Block<'_>| !matches!(block, Block::Text("") if cut && spoken.reasoning.is_some());
    let blocks = spoken.blocks().into_iter().filter(is_said);
    blocks.enumerate().map(|(index, block)| item(service, ask, block, index, cut)).collect()
}

fn item<'a>(service: Service, ask: &Ask, block: Block<'a>, index: usize, cut: bool) -> Item<'a> {
    let named = |prefix: &str| format!("{prefix}_{}{index}", ask.digest);
    let status = if cut { "incomplete" } else { "completed" };
    match block {
        Block::Thinking(text) => {
            let id = named("rs");
            let (begun, whole, part) = reasoning(service, ask, &id, text);
            Item { block, id, begun, whole, part }
        }
        Block::Text(text) => {
            let id = named("msg");
            let logprobs = ask.logprobs.map_or_else(Vec::new, |top| token_logprobs(pieces(ask, text).iter(), top));
            let part =
                |text: &str, logprobs: Vec<Value>| json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": logprobs });
            let message = |status: &str, content: &[&Value]| json!({ "id": id, "type": "message", "role": "assistant", "status": status, "content": content });
            let (empty, full) = (part("", Vec::new()), part(text, logprobs));
            let (begun, whole) = (message("in_progress", &[]), message(status, &[&full]));
            Item { block, id, begun, whole, part: Some((empty, full)) }
        }
        Block::Call(n, call) => {
            let (id, kind, key) =
                if call.is_custom { (named("ctc"), "custom_tool_call", "input") } else { (named("fc"), "function_call", "arguments") };
            let made = |status: &str, text: &str| {
                let out = json!({ "id": id, "type": kind, "status": status, "call_id": call_id(ask, 0, n), "name": call.name, key: text });
                match &call.namespace {
                    Some(namespace) => with(out, "namespace", json!(namespace)),
                    None => out,
                }
            };
            let (begun, whole) = (made("in_progress", ""), made("completed", &call.text()));
            Item { block, id, begun, whole, part: None }
        }
    }
}

/// A reasoning item as it begins and as it ends, and its part.
fn reasoning(service: Service, ask: &Ask, id: &str, text: &str) -> (Value, Value, Option<(Value, Value)>) {
    let is_summary = matches!(service, OpenAi | Xai);
    let asks = |name: &str| ask.request.get("reasoning").and_then(|reasoning| reasoning.get(name)).is_some_and(|value| !value.is_null());
    let is_shown = service != OpenAi || asks("summary") || asks("generate_summary");
    let kind = if is_summary { "summary_text" } else { "reasoning_text" };
    let part = is_shown.then(|| (json!({ "type": kind, "text": "" }), json!({ "type": kind, "text": text })));
    let begun = json!({ "id": id, "type": "reasoning", "summary": [] });
    let mut whole = begun.clone();
    if let Some((_, full)) = &part {
        whole = with(whole, if is_summary { "summary" } else { "content" }, json!([full]));
    }
    if service == Vllm {
        whole = with(whole, "encrypted_content", Value::Null);
    } else if strings(ask.request.get("include")).iter().any(|included| included == ENCRYPTED_REASONING) {
        whole = with(whole, "encrypted_content", json!(seal(service, text)));
    }
    (begun, whole, part)
}
