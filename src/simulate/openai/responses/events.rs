//! A Responses answer as a stream's events.

use super::write::{Item, error_code, failed, items, response, whole, with};
use crate::simulate::ask::Ask;
use crate::simulate::dialect::Refusal;
use crate::simulate::openai::Service::{self, OpenAi, Vllm, Xai};
use crate::simulate::openai::write::token_logprobs;
use crate::simulate::reply::{Block, Reply};
use crate::simulate::shape::text_of;
use serde_json::{Value, json};

/// The events of a reply, numbered from 0.
pub(super) fn events(service: Service, ask: &Ask, reply: &Reply) -> Vec<Value> {
    let mut out: Vec<Value> = ["response.created", "response.in_progress"]
        .map(|kind| json!({ "type": kind, "response": response(service, ask, "in_progress") }))
        .into();
    for (index, item) in items(service, ask, reply).iter().enumerate() {
        out.push(json!({ "type": "response.output_item.added", "output_index": index, "item": item.begun }));
        let mut within = Vec::new();
        match item.block {
            Block::Text(_) => text(service, ask, item, &mut within),
            Block::Thinking(_) => reasoning(service, ask, item, &mut within),
            Block::Call(..) => call(service, ask, item, &mut within),
        }
        let within = within.into_iter().map(|event| with(with(event, "item_id", json!(item.id)), "output_index", json!(index)));
        out.extend(within);
        out.push(json!({ "type": "response.output_item.done", "output_index": index, "item": item.whole }));
    }
    let response = whole(service, ask, reply);
    // vLLM ends every stream alike; only the status in the response differs.
    let is_cut = service != Vllm && text_of(&response, "status") == "incomplete";
    out.push(json!({ "type": if is_cut { "response.incomplete" } else { "response.completed" }, "response": response }));
    numbered(out, 0)
}

/// The events of a generation that failed after `sent` events.
pub(super) fn failure(service: Service, ask: &Ask, sent: usize, refusal: &Refusal) -> Vec<Value> {
    let error = json!({ "type": "server_error", "code": error_code(refusal), "message": refusal.message, "param": null });
    let error = (service != Vllm).then(|| json!({ "type": "error", "error": error }));
    let failed = json!({ "type": "response.failed", "response": failed(service, ask, refusal) });
    numbered(error.into_iter().chain([failed]).collect(), sent)
}

fn numbered(events: Vec<Value>, first: usize) -> Vec<Value> {
    (first..).zip(events).map(|(n, event)| with(event, "sequence_number", json!(n))).collect()
}

fn text(service: Service, ask: &Ask, item: &Item<'_>, out: &mut Vec<Value>) {
    let Some((empty, full)) = &item.part else { return };
    out.push(json!({ "type": "response.content_part.added", "part": empty }));
    for piece in item.block.pieces(ask) {
        let logprobs = ask.logprobs.map_or_else(Vec::new, |top| token_logprobs(std::iter::once(&piece), top));
        out.push(delta(service, ask, "response.output_text.delta", json!({ "delta": piece, "logprobs": logprobs })));
    }
    out.push(json!({ "type": "response.output_text.done", "text": full.get("text"), "logprobs": full.get("logprobs") }));
    out.push(json!({ "type": "response.content_part.done", "part": full }));
    indexed("content_index", out);
}

fn reasoning(service: Service, ask: &Ask, item: &Item<'_>, out: &mut Vec<Value>) {
    let Some((empty, full)) = &item.part else { return };
    let (part, text, index) = match service {
        OpenAi | Xai => ("reasoning_summary_part", "reasoning_summary_text", "summary_index"),
        Vllm => ("reasoning_part", "reasoning_text", "content_index"),
        _ => ("content_part", "reasoning_text", "content_index"),
    };
    out.push(json!({ "type": format!("response.{part}.added"), "part": empty }));
    for piece in item.block.pieces(ask) {
        out.push(delta(service, ask, &format!("response.{text}.delta"), json!({ "delta": piece })));
    }
    out.push(json!({ "type": format!("response.{text}.done"), "text": full.get("text") }));
    out.push(json!({ "type": format!("response.{part}.done"), "part": full }));
    indexed(index, out);
}

fn call(service: Service, ask: &Ask, item: &Item<'_>, out: &mut Vec<Value>) {
    let (kind, key) = match item.whole.get("input") {
        Some(_) => ("response.custom_tool_call_input", "input"),
        None => ("response.function_call_arguments", "arguments"),
    };
    let pieces = item.block.pieces(ask);
    let pieces = if service == Xai { vec![pieces.concat()] } else { pieces }; // xAI sends a call whole
    for piece in pieces {
        out.push(delta(service, ask, &format!("{kind}.delta"), json!({ "delta": piece })));
    }
    let done = json!({ "type": format!("{kind}.done"), key: item.whole.get(key) });
    out.push(if key == "arguments" { with(done, "name", json!(item.whole.get("name"))) } else { done });
}

/// A delta, which OpenAI pads unless the request declines.
fn delta(service: Service, ask: &Ask, kind: &str, event: Value) -> Value {
    let event = with(event, "type", json!(kind));
    let declined = ask.request.get("stream_options").and_then(|options| options.get("include_obfuscation")) == Some(&Value::Bool(false));
    if service == OpenAi && !declined { with(event, "obfuscation", json!("x7Qw")) } else { event }
}

/// Adds the index of an item's one part.
fn indexed(name: &str, events: &mut [Value]) {
    events.iter_mut().for_each(|event| *event = with(event.take(), name, json!(0)));
}
