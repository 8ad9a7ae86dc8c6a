//! Bedrock's Converse and ConverseStream, and InvokeModel for Claude.

mod invoke;
mod read;
mod shape;

use super::ask::Ask;
use super::aws;
use super::dialect::{Dialect, Incoming, Refusal, unescape};
use super::reply::{Block, Reply, Spoken};
use super::shape::object;
use super::signature::sign;
use bytes::Bytes;
use serde_json::{Value, json};

/// bedrock-runtime.REGION.amazonaws.com.
pub(super) struct Bedrock;

/// Who answers at a path.
pub(super) fn find(path: &str) -> Option<&'static dyn Dialect> {
    let invoked = || invoke::parse(path).map(|_| &invoke::Claude as &dyn Dialect);
    parse(path).map(|_| &Bedrock as &dyn Dialect).or_else(invoked)
}

/// The model, as it came, and whether its answer is to be streamed.
fn parse(path: &str) -> Option<(&str, bool)> {
    let (model, operation) = path.strip_prefix("/bedrock/model/")?.split_once('/').filter(|(model, _)| !model.is_empty())?;
    match operation {
        "converse" => Some((model, false)),
        "converse-stream" => Some((model, true)),
        _ => None,
    }
}

impl Dialect for Bedrock {
    fn read(&self, request: Incoming<'_>) -> Result<Ask, Refusal> {
        aws::check(&request, "bedrock", true)?;
        let (model, stream) = parse(request.path()).unwrap_or_default();
        if !model.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)) {
            return Err(Refusal::status(400, "The model id in the path is not percent-encoded as one segment."));
        }
        let ask = read::body(unescape(model), object(request.headers, request.body)?, request.body)?;
        Ok(Ask { stream, ..ask })
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8> {
        let spoken = reply.choices.first();
        let content: Vec<Value> = spoken.into_iter().flat_map(Spoken::blocks).map(|block| whole_block(ask, block)).collect();
        let mut out = metadata(reply);
        if let (Value::Object(out), Some(spoken)) = (&mut out, spoken) {
            out.insert("output".into(), json!({ "message": { "role": "assistant", "content": content } }));
            out.insert("stopReason".into(), json!(spoken.finish.word("end_turn", "max_tokens", "tool_use")));
        }
        out.to_string().into_bytes()
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes> {
        let mut out = vec![self.idle()];
        for spoken in reply.choices.iter().take(1) {
            for (index, block) in spoken.blocks().into_iter().enumerate() {
                if let Block::Call(..) = block {
                    out.push(event("contentBlockStart", json!({ "contentBlockIndex": index, "start": begun(ask, block) })));
                }
                let mut delta = |delta: Value| out.push(event("contentBlockDelta", json!({ "contentBlockIndex": index, "delta": delta })));
                for piece in block.pieces(ask) {
                    delta(match block {
                        Block::Thinking(_) => json!({ "reasoningContent": { "text": piece } }),
                        Block::Text(_) => json!({ "text": piece }),
                        Block::Call(..) => json!({ "toolUse": { "input": piece } }),
                    });
                }
                if let Block::Thinking(text) = block {
                    delta(json!({ "reasoningContent": { "signature": sign(text) } }));
                }
                out.push(event("contentBlockStop", json!({ "contentBlockIndex": index })));
            }
            out.push(event("messageStop", json!({ "stopReason": spoken.finish.word("end_turn", "max_tokens", "tool_use") })));
        }
        out.push(event("metadata", metadata(reply)));
        out
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        json!({ "message": refusal.message })
    }

    fn refusal_headers(&self, refusal: &Refusal) -> Vec<(&'static str, String)> {
        aws::refusal_headers(refusal, aws::exception(refusal))
    }

    fn junk(&self, text: &str) -> Bytes {
        aws::message(true, "contentBlockDelta", text.as_bytes())
    }

    fn error_event(&self, _: &Ask, _: usize, refusal: &Refusal) -> Bytes {
        let exception = aws::exception(refusal); // in a stream its name is a member's: it begins small
        let (head, tail) = exception.split_at_checked(1).unwrap_or_default();
        aws::message(false, &(head.to_lowercase() + tail), self.refusal(refusal).to_string().as_bytes())
    }

    fn idle(&self) -> Bytes {
        event("messageStart", json!({ "role": "assistant" }))
    }

    fn stream_type(&self) -> &'static str {
        aws::EVENT_STREAM
    }
}

/// One event; `p` is padding that hides the length of what is said.
fn event(kind: &str, mut payload: Value) -> Bytes {
    if let Value::Object(payload) = &mut payload {
        payload.insert("p".into(), json!("abcdefgh"));
    }
    aws::message(true, kind, payload.to_string().as_bytes())
}

/// A call at its beginning.
fn begun(ask: &Ask, block: Block<'_>) -> Value {
    match block {
        Block::Call(n, call) => json!({ "toolUse": { "toolUseId": format!("tooluse_{}{n}", ask.digest), "name": call.name } }),
        _ => json!({}),
    }
}

fn whole_block(ask: &Ask, block: Block<'_>) -> Value {
    let mut out = match block {
        Block::Thinking(text) => return json!({ "reasoningContent": { "reasoningText": { "text": text, "signature": sign(text) } } }),
        Block::Text(text) => return json!({ "text": text }),
        Block::Call(..) => begun(ask, block),
    };
    if let (Block::Call(_, call), Some(Value::Object(members))) = (block, out.get_mut("toolUse")) {
        members.insert("input".into(), call.arguments.clone());
    }
    out
}

fn metadata(reply: &Reply) -> Value {
    let usage = reply.usage;
    json!({ "usage": { "inputTokens": usage.prompt, "outputTokens": usage.completion, "totalTokens": usage.prompt + usage.completion },
        "metrics": { "latencyMs": 1 } })
}
