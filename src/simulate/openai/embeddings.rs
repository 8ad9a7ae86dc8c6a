//! `POST …/embeddings` on the services that have it.

use super::Service::{self, OpenAi};
use super::check::{envelope, given};
use crate::simulate::ask::{Ask, tokens};
use crate::simulate::dialect::Refusal;
use crate::simulate::embed::{DEFAULT_DIMENSIONS, Embed, Form, MAX_DIMENSIONS, MAX_INPUTS, base64, vector};
use http::HeaderMap;
use serde_json::{Value, json};

/// What OpenAI's embeddings know.
const KEYS: [&str; 5] = ["dimensions", "encoding_format", "input", "model", "user"];

/// Reads and checks a request.
///
/// # Errors
/// The first fault.
pub(super) fn read(service: Service, headers: &HeaderMap, body: &[u8]) -> Result<Ask, Refusal> {
    let (json, model) = envelope(service, headers, body, &KEYS)?;
    let missing =
        || Refusal::field("missing_required_parameter", "input", "'input' is required: a text or an array of texts that are not empty.");
    let inputs: Vec<String> = match json.get("input") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) if !items.is_empty() && items.iter().all(Value::is_u64) => vec![json!(items).to_string()],
        Some(Value::Array(items)) => items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect(),
        _ => return Err(missing()),
    };
    if inputs.is_empty() || inputs.len() > MAX_INPUTS || inputs.iter().any(String::is_empty) {
        return Err(missing());
    }
    let dimensions = match given(&json, "dimensions") {
        None => DEFAULT_DIMENSIONS,
        Some(value) => {
            let dimensions = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=MAX_DIMENSIONS).contains(n));
            dimensions
                .ok_or_else(|| Refusal::field("invalid_value", "dimensions", format!("'dimensions' must be from 1 to {MAX_DIMENSIONS}.")))?
        }
    };
    let base64 = match given(&json, "encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => false,
        Some(Some("base64")) => true,
        Some(_) => return Err(Refusal::field("invalid_value", "encoding_format", "'encoding_format' must be 'float' or 'base64'.")),
    };
    let prompt_tokens = inputs.iter().map(|text| tokens(text)).sum();
    Ok(Ask { prompt_tokens, embed: Some(Embed { inputs, dimensions, base64, form: Form::Data }), ..Ask::begin(model, body)? })
}

/// The list of vectors.
pub(super) fn whole(service: Service, ask: &Ask, embed: &Embed) -> Value {
    let mut out = json!({ "object": "list", "data": vectors(embed), "model": ask.model });
    let usage = json!({ "prompt_tokens": ask.prompt_tokens, "total_tokens": ask.prompt_tokens });
    if let Value::Object(out) = &mut out {
        if service != OpenAi {
            out.insert("id".into(), json!("embd-sim"));
        }
        out.insert("usage".into(), usage);
    }
    out
}

/// The vectors as members of `data`.
pub(in crate::simulate) fn vectors(embed: &Embed) -> Vec<Value> {
    let item = |(index, text): (usize, &String)| {
        let vector = vector(text, embed.dimensions);
        let embedding = if embed.base64 { json!(base64(&vector)) } else { json!(vector) };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    };
    embed.inputs.iter().enumerate().map(item).collect()
}
