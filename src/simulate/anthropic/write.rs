//! Writes a Messages answer, whole and as a stream's events.

use crate::simulate::ask::Ask;
use crate::simulate::dialect::typed_event;
use crate::simulate::reply::{Block, Reply, Spoken};
use crate::simulate::signature::sign;
use bytes::Bytes;
use serde_json::{Value, json};

/// The answer in one piece. This protocol has no further choices: there is one.
pub(in crate::simulate) fn whole(ask: &Ask, reply: &Reply) -> Vec<u8> {
    let spoken = reply.choices.first();
    let content: Vec<Value> = spoken.into_iter().flat_map(Spoken::blocks).map(|block| whole_block(ask, block)).collect();
    let mut message = message(ask, reply);
    if let (Value::Object(message), Some(spoken)) = (&mut message, spoken) {
        message.insert("content".into(), content.into());
        message.insert("stop_reason".into(), json!(spoken.finish.word("end_turn", "max_tokens", "tool_use")));
    }
    message.to_string().into_bytes()
}

/// The stream.
pub(in crate::simulate) fn events(ask: &Ask, reply: &Reply) -> Vec<Bytes> {
    let mut start = message(ask, reply);
    if let Some(output) = start.pointer_mut("/usage/output_tokens") {
        *output = json!(1); // the count so far
    }
    let mut out = vec![json!({ "type": "message_start", "message": start }), json!({ "type": "ping" })];
    for spoken in reply.choices.iter().take(1) {
        for (index, block) in spoken.blocks().into_iter().enumerate() {
            out.push(json!({ "type": "content_block_start", "index": index, "content_block": begun(ask, block) }));
            let key = match block {
                Block::Thinking(_) => ("thinking_delta", "thinking"),
                Block::Text(_) => ("text_delta", "text"),
                Block::Call(..) => ("input_json_delta", "partial_json"),
            };
            let mut delta = |kind: &str, key: &str, text: String| {
                out.push(json!({ "type": "content_block_delta", "index": index, "delta": { "type": kind, key: text } }));
            };
            block.pieces(ask).into_iter().for_each(|piece| delta(key.0, key.1, piece));
            if let Block::Thinking(text) = block {
                delta("signature_delta", "signature", sign(text));
            }
            out.push(json!({ "type": "content_block_stop", "index": index }));
        }
        let ending = json!({ "stop_reason": spoken.finish.word("end_turn", "max_tokens", "tool_use"), "stop_sequence": null });
        out.push(json!({ "type": "message_delta", "delta": ending, "usage": usage(reply) }));
    }
    out.push(json!({ "type": "message_stop" }));
    out.iter().map(typed_event).collect()
}

/// The message before anything was said.
fn message(ask: &Ask, reply: &Reply) -> Value {
    json!({ "id": format!("msg_{}", ask.digest), "type": "message", "role": "assistant", "model": ask.model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(reply) })
}

fn usage(reply: &Reply) -> Value {
    let usage = reply.usage;
    json!({ "input_tokens": usage.prompt, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "output_tokens": usage.completion, "output_tokens_details": { "thinking_tokens": usage.reasoning } })
}

/// A block at its beginning in a stream.
fn begun(ask: &Ask, block: Block<'_>) -> Value {
    match block {
        Block::Thinking(_) => json!({ "type": "thinking", "thinking": "", "signature": "" }),
        Block::Text(_) => json!({ "type": "text", "text": "" }),
        Block::Call(n, call) => json!({ "type": "tool_use", "id": format!("toolu_{}{n}", ask.digest), "name": call.name, "input": {} }),
    }
}

fn whole_block(ask: &Ask, block: Block<'_>) -> Value {
    let mut out = begun(ask, block);
    let (key, value) = match block {
        Block::Thinking(text) => ("thinking", json!(text)),
        Block::Text(text) => ("text", json!(text)),
        Block::Call(_, call) => ("input", call.arguments.clone()),
    };
    if let Value::Object(members) = &mut out {
        members.insert(key.into(), value);
        if let Block::Thinking(text) = block {
            members.insert("signature".into(), json!(sign(text)));
        }
    }
    out
}
