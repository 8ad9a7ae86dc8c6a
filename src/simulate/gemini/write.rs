//! Writes a `generateContent` answer, whole and as a stream's events.

use super::read::signs;
use crate::simulate::ask::Ask;
use crate::simulate::reply::{Block, Reply, Spoken, Usage};
use crate::simulate::signature::sign;
use bytes::Bytes;
use serde_json::{Value, json};

/// What every token's log probability is.
const LOGPROB: f64 = -0.125;

/// The answer in one piece.
pub(super) fn whole(ask: &Ask, reply: &Reply) -> Value {
    let candidates = reply.choices.iter().enumerate().map(|(index, spoken)| {
        let parts: Vec<Value> = spoken.blocks().into_iter().filter_map(|block| part(ask, block)).collect();
        candidate(ask, index, parts, Some(spoken))
    });
    response(ask, candidates.collect(), reply.usage)
}

/// The stream. A call comes in one piece, and the last piece of an answer says why it ended.
pub(super) fn events(ask: &Ask, reply: &Reply) -> Vec<Bytes> {
    let mut out = Vec::new();
    for (index, spoken) in reply.choices.iter().enumerate() {
        let mut parts = Vec::new();
        for block in spoken.blocks() {
            match block {
                Block::Call(..) => parts.extend(part(ask, block)),
                Block::Text(_) => parts.extend(block.pieces(ask).into_iter().map(|text| json!({ "text": text }))),
                Block::Thinking(_) => parts.extend(block.pieces(ask).into_iter().map(|text| json!({ "text": text, "thought": true }))),
            }
        }
        let last = parts.pop();
        out.extend(parts.into_iter().map(|part| candidate(ask, index, vec![part], None)));
        out.push(candidate(ask, index, last.into_iter().collect(), Some(spoken)));
    }
    out.into_iter().map(|candidate| event(&response(ask, json!([candidate]), reply.usage))).collect()
}

/// One event; Google ends lines with both characters.
pub(super) fn event(data: &Value) -> Bytes {
    Bytes::from(format!("data: {data}\r\n\r\n"))
}

/// An answer with these candidates.
pub(super) fn response(ask: &Ask, candidates: Value, usage: Usage) -> Value {
    let Usage { prompt, completion, reasoning } = usage;
    let mut count =
        json!({ "promptTokenCount": prompt, "candidatesTokenCount": completion - reasoning, "totalTokenCount": prompt + completion });
    if let (Value::Object(count), true) = (&mut count, reasoning > 0) {
        count.insert("thoughtsTokenCount".into(), json!(reasoning));
    }
    json!({ "candidates": candidates, "usageMetadata": count, "modelVersion": ask.model, "responseId": ask.digest })
}

/// Some parts of an answer; `ended` is the answer whose last parts they are.
fn candidate(ask: &Ask, index: usize, parts: Vec<Value>, ended: Option<&Spoken>) -> Value {
    let mut content = json!({ "role": "model" });
    let said: Vec<&Value> = parts.iter().filter(|part| part.get("thought").is_none()).filter_map(|part| part.get("text")).collect();
    let probable = ask.logprobs.filter(|_| !said.is_empty()).map(|top| logprobs(&said, top));
    // an answer without parts lacks the key, as where thinking has used up all tokens
    if let (Value::Object(content), false) = (&mut content, parts.is_empty()) {
        content.insert("parts".into(), parts.into());
    }
    let mut out = json!({ "content": content, "index": index });
    if let Value::Object(out) = &mut out {
        if let Some(spoken) = ended {
            out.insert("finishReason".into(), json!(spoken.finish.word("STOP", "MAX_TOKENS", "STOP")));
        }
        if let Some(probable) = probable {
            out.insert("logprobsResult".into(), probable);
        }
    }
    out
}

fn logprobs(said: &[&Value], top: u64) -> Value {
    let token =
        |text: &&Value, n: u64| json!({ "token": text, "logProbability": LOGPROB - f64::from(u32::try_from(n).unwrap_or(u32::MAX)) });
    let chosen: Vec<Value> = said.iter().map(|text| token(text, 0)).collect();
    let tops: Vec<Value> = said.iter().map(|text| json!({ "candidates": (0..top).map(|n| token(text, n)).collect::<Vec<_>>() })).collect();
    json!({ "chosenCandidates": chosen, "topCandidates": tops })
}

/// A block in one part; none where it is an empty text.
fn part(ask: &Ask, block: Block<'_>) -> Option<Value> {
    Some(match block {
        Block::Text("") => return None,
        Block::Text(text) => json!({ "text": text }),
        Block::Thinking(text) => json!({ "text": text, "thought": true }),
        // of calls that are made at once only the first is signed; ids are not given
        Block::Call(0, call) if signs(&ask.name) => {
            json!({ "functionCall": { "name": call.name, "args": call.arguments }, "thoughtSignature": sign(&call.name) })
        }
        Block::Call(_, call) => json!({ "functionCall": { "name": call.name, "args": call.arguments } }),
    })
}
