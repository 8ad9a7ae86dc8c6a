//! The answer in OpenAI's shape, with the differences of each service that its recordings show.

use super::Service::{self, Compatible, DeepSeek, Fireworks, Hyperbolic, OpenAi, SgLang, Together, Vllm, VllmLegacy, Xai};
use crate::simulate::ask::Ask;
use crate::simulate::reply::{Block, Call, Finish, Reply, Spoken, Usage, pieces};
use serde_json::{Map, Value, json};

/// `created` of every answer: a fixed second, so that the same request gets the same bytes.
pub(super) const CREATED: u64 = 1_750_000_000;
/// What every token's log probability is.
const LOGPROB: f64 = -0.125;

/// The completion.
pub(super) fn whole(service: Service, ask: &Ask, reply: &Reply) -> Value {
    let choices: Vec<Value> = reply.choices.iter().enumerate().map(|(index, spoken)| choice(service, ask, index, spoken)).collect();
    let mut out = base(service, ask, "chat.completion");
    out.insert("choices".into(), choices.into());
    out.insert("usage".into(), usage(service, reply.usage));
    if service == Together {
        out.insert("prompt".into(), json!([]));
    }
    Value::Object(out)
}

fn choice(service: Service, ask: &Ask, index: usize, spoken: &Spoken) -> Value {
    let empty = if matches!(service, Xai | Fireworks) { json!("") } else { Value::Null };
    let content = if spoken.calls.is_empty() { json!(spoken.text) } else { empty };
    let mut message = object(json!({ "role": "assistant", "content": content }));
    if let (Some(key), Some(reasoning)) = (service.reasoning_key(), spoken.reasoning) {
        message.insert(key.into(), json!(reasoning));
    }
    let calls: Vec<Value> = spoken.calls.iter().enumerate().map(|(n, call)| whole_call(ask, index, n, call)).collect();
    if !calls.is_empty() {
        message.insert("tool_calls".into(), calls.into());
    } else if matches!(service, Together | Vllm | VllmLegacy | Hyperbolic) {
        message.insert("tool_calls".into(), json!([]));
    } else if service == SgLang {
        message.insert("tool_calls".into(), Value::Null);
    }
    if matches!(service, OpenAi | Xai) {
        message.insert("refusal".into(), Value::Null);
    }
    if service == OpenAi {
        message.insert("annotations".into(), json!([]));
    }
    let mut out = object(json!({ "index": index, "message": message }));
    let text = pieces(ask, &spoken.text);
    let probable = ask.logprobs.filter(|_| !text.is_empty());
    match probable {
        Some(_) if service == Together => {
            out.insert("logprobs".into(), json!({ "tokens": text, "token_logprobs": vec![LOGPROB; text.len()] }));
        }
        Some(top) => {
            out.insert("logprobs".into(), logprobs(text.iter(), top));
        }
        None if !matches!(service, Fireworks | Xai) => {
            out.insert("logprobs".into(), Value::Null);
        }
        None => {}
    }
    ending(service, &spoken.finish, &mut out);
    if service == Together {
        out.insert("seed".into(), json!(17_242_648_127_893_344_000_u64));
    }
    Value::Object(out)
}

/// The stream's chunks; answers of `n` above 1 take turns.
pub(super) fn chunks(service: Service, ask: &Ask, reply: &Reply) -> Vec<Value> {
    let mut lanes: Vec<_> = reply.choices.iter().enumerate().map(|(index, spoken)| lane(service, ask, index, spoken).into_iter()).collect();
    let mut choices = Vec::new();
    loop {
        let before = choices.len();
        choices.extend(lanes.iter_mut().filter_map(Iterator::next));
        if choices.len() == before {
            break;
        }
    }
    let base = base(service, ask, "chat.completion.chunk");
    let usage = usage(service, reply.usage);
    // where a service sends usage without being asked, or says that there is none yet
    let says_null = match service {
        OpenAi => ask.include_usage,
        Together | DeepSeek | Fireworks | SgLang => true,
        _ => false,
    };
    let on_finish = matches!(service, Together | DeepSeek | Fireworks) || (service == SgLang && ask.include_usage);
    let last = choices.len().saturating_sub(1);
    let mut out = Vec::with_capacity(choices.len() + 1);
    for (n, choice) in choices.into_iter().enumerate() {
        let mut chunk = base.clone();
        chunk.insert("choices".into(), json!([choice]));
        if n == last && on_finish {
            chunk.insert("usage".into(), usage.clone());
        } else if says_null {
            chunk.insert("usage".into(), Value::Null);
        }
        if service == OpenAi {
            chunk.insert("obfuscation".into(), json!("x7Qw"));
        }
        out.push(Value::Object(chunk));
    }
    if service == Xai || (ask.include_usage && matches!(service, OpenAi | Vllm | VllmLegacy | Hyperbolic | Compatible)) {
        let mut chunk = base;
        chunk.insert("choices".into(), json!([]));
        chunk.insert("usage".into(), usage);
        out.push(Value::Object(chunk));
    }
    out
}

/// The choice objects of one answer's chunks.
fn lane(service: Service, ask: &Ask, index: usize, spoken: &Spoken) -> Vec<Value> {
    let key = service.reasoning_key();
    let reasoning = key.and(spoken.reasoning).map_or_else(Vec::new, |text| text.split_inclusive(' ').collect());
    let mut deltas: Vec<Value> = Vec::new();
    // Together and xAI open with content, the others with the role alone
    if !matches!(service, Together | Xai) {
        deltas.push(match service {
            OpenAi => json!({ "role": "assistant", "content": "", "refusal": null }),
            DeepSeek if !reasoning.is_empty() => json!({ "role": "assistant", "content": null, "reasoning_content": "" }),
            Fireworks => json!({ "role": "assistant" }),
            SgLang => json!({ "role": "assistant", "content": null }),
            _ => json!({ "role": "assistant", "content": "" }),
        });
    }
    for piece in reasoning {
        let mut delta = Map::new();
        if service == DeepSeek {
            delta.insert("content".into(), Value::Null);
        }
        delta.insert(key.unwrap_or_default().into(), json!(piece));
        deltas.push(Value::Object(delta));
    }
    let begin = deltas.len();
    let mut text = pieces(ask, &spoken.text);
    if !spoken.calls.is_empty() {
        text.clear();
    }
    deltas.extend(text.iter().map(|piece| {
        if service == DeepSeek && spoken.reasoning.is_some() {
            json!({ "content": piece, "reasoning_content": null })
        } else {
            json!({ "content": piece })
        }
    }));
    let end = deltas.len();
    for (n, call) in spoken.calls.iter().enumerate() {
        call_deltas(service, ask, index, n, call, &mut deltas);
    }
    deltas.push(if service == DeepSeek { json!({ "content": "" }) } else { json!({}) });
    let finish = deltas.len() - 1;
    deltas
        .into_iter()
        .enumerate()
        .map(|(n, mut delta)| {
            if let (Together | Xai, Value::Object(delta)) = (service, &mut delta) {
                delta.insert("role".into(), json!("assistant"));
            }
            if let (SgLang, Value::Object(delta)) = (service, &mut delta) {
                for absent in ["role", "content", "reasoning_content", "tool_calls"] {
                    delta.entry(absent).or_insert(Value::Null);
                }
            }
            let piece = n.checked_sub(begin).filter(|_| n < end).and_then(|n| text.get(n));
            let mut out = object(json!({ "index": index, "delta": delta }));
            if service == Together {
                out.insert("text".into(), json!(piece.map_or("", String::as_str)));
                out.insert("seed".into(), Value::Null);
            }
            if !matches!(service, Fireworks | Xai) {
                out.insert("logprobs".into(), Value::Null);
            }
            if let (Some(piece), Some(top)) = (piece, ask.logprobs)
                && service != Together
            {
                out.insert("logprobs".into(), logprobs(std::iter::once(piece), top));
            }
            if n == finish {
                ending(service, &spoken.finish, &mut out);
            } else if service != Xai {
                out.insert("finish_reason".into(), Value::Null);
            }
            Value::Object(out)
        })
        .collect()
}

/// A call in chunks: whole at once from xAI, else its name and then its arguments bit by bit.
fn call_deltas(service: Service, ask: &Ask, index: usize, n: usize, call: &Call, deltas: &mut Vec<Value>) {
    let mut first = whole_call(ask, index, n, call);
    if let Value::Object(first) = &mut first
        && service != SgLang
    {
        first.insert("index".into(), json!(n)); // SGLang has been seen to leave it out
    }
    if service == Xai {
        deltas.push(json!({ "tool_calls": [first] }));
        return;
    }
    if let Some(function) = first.get_mut("function") {
        *function = if service == Fireworks { json!({ "name": call.name }) } else { json!({ "name": call.name, "arguments": "" }) };
    }
    deltas.push(json!({ "tool_calls": [first] }));
    for piece in Block::Call(n, call).pieces(ask) {
        let function = json!({ "arguments": piece });
        deltas.push(match service {
            Fireworks => json!({ "tool_calls": [{ "index": n, "id": null, "type": "function", "function": function }] }),
            SgLang => json!({ "tool_calls": [{ "id": null, "type": "function", "function": function }] }),
            _ => json!({ "tool_calls": [{ "index": n, "function": function }] }),
        });
    }
}

fn whole_call(ask: &Ask, index: usize, n: usize, call: &Call) -> Value {
    json!({ "id": call_id(ask, index, n), "type": "function", "function": { "name": call.name, "arguments": call.arguments.to_string() } })
}

/// The id of a call.
pub(super) fn call_id(ask: &Ask, index: usize, n: usize) -> String {
    format!("call_{}{index}{n}", ask.digest)
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn base(service: Service, ask: &Ask, kind: &str) -> Map<String, Value> {
    let prefix = match service {
        OpenAi | Hyperbolic | Compatible | Vllm | VllmLegacy => "chatcmpl-",
        _ => "",
    };
    let mut out = object(json!({ "id": format!("{prefix}{}", ask.digest), "object": kind, "created": CREATED, "model": ask.model }));
    if matches!(service, OpenAi | DeepSeek | Xai) {
        out.insert("system_fingerprint".into(), json!("fp_5104a7ed1d"));
    }
    if service == OpenAi {
        out.insert("service_tier".into(), json!("default"));
    }
    out
}

/// `finish_reason` and what stands beside it.
fn ending(service: Service, finish: &Finish, out: &mut Map<String, Value>) {
    let word = finish.word(if service == Together { "eos" } else { "stop" }, "length", "tool_calls");
    out.insert("finish_reason".into(), json!(word));
    match service {
        Vllm | VllmLegacy => drop(out.insert("stop_reason".into(), Value::Null)),
        SgLang => drop(out.insert("matched_stop".into(), Value::Null)),
        _ => {}
    }
}

fn usage(service: Service, usage: Usage) -> Value {
    let Usage { prompt, completion, reasoning } = usage;
    let mut out = object(json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion }));
    let mut add = |key: &str, value: Value| drop(out.insert(key.into(), value));
    let details =
        json!({ "reasoning_tokens": reasoning, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0 });
    match service {
        OpenAi => {
            add("prompt_tokens_details", json!({ "cached_tokens": 0, "audio_tokens": 0 }));
            add("completion_tokens_details", details);
        }
        Xai => {
            add("completion_tokens", json!(completion - reasoning)); // the total includes what this leaves out
            add("prompt_tokens_details", json!({ "text_tokens": prompt, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 0 }));
            add("completion_tokens_details", details);
            add("num_sources_used", json!(0));
        }
        DeepSeek => {
            add("prompt_tokens_details", json!({ "cached_tokens": 0 }));
            add("prompt_cache_hit_tokens", json!(0));
            add("prompt_cache_miss_tokens", json!(prompt));
            if reasoning > 0 {
                add("completion_tokens_details", json!({ "reasoning_tokens": reasoning }));
            }
        }
        Together => add("cached_tokens", json!(0)),
        SgLang | Vllm | VllmLegacy => add("prompt_tokens_details", Value::Null),
        _ => {}
    }
    Value::Object(out)
}

fn logprobs<'a>(pieces: impl Iterator<Item = &'a String>, top: u64) -> Value {
    json!({ "content": token_logprobs(pieces, top), "refusal": null })
}

/// The log probabilities of pieces, each with so many alternatives.
pub(super) fn token_logprobs<'a>(pieces: impl Iterator<Item = &'a String>, top: u64) -> Vec<Value> {
    let token = |piece: &str, n: u64| json!({ "token": piece, "logprob": LOGPROB - f64::from(u32::try_from(n).unwrap_or(u32::MAX)), "bytes": piece.as_bytes() });
    pieces
        .map(|piece| {
            let mut out = object(token(piece, 0));
            out.insert("top_logprobs".into(), (0..top).map(|n| token(piece, n)).collect());
            Value::Object(out)
        })
        .collect()
}
