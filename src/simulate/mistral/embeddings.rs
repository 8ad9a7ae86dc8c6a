//! Mistral's `POST /v1/embeddings`: a closed schema, and `output_dimension` for the length of a vector.

use crate::simulate::ask::{Ask, tokens};
use crate::simulate::dialect::Refusal;
use crate::simulate::embed::{DEFAULT_DIMENSIONS, Embed, Form, MAX_DIMENSIONS};
use crate::simulate::openai::embeddings::vectors;
use crate::simulate::shape::Rule::{Need, Null};
use crate::simulate::shape::{Shape, text_of};
use serde_json::{Value, json};

/// What a request may hold.
pub(super) static BODY: Shape = Shape::Closed(&[
    ("model", Need, &Shape::Filled),
    ("input", Need, &Shape::Either(&[&Shape::Text, &Shape::Some(&Shape::Text)])),
    ("metadata", Null, &Shape::Object),
    ("output_dimension", Null, &Shape::Whole(1, MAX_DIMENSIONS as i64)),
    ("output_dtype", Null, &Shape::Word(&["float"])),
    ("encoding_format", Null, &Shape::Word(&["float", "base64"])),
]);

/// What a request of that shape asks for.
///
/// # Errors
/// The first fault of the model's script.
pub(super) fn read(body: &Value, raw: &[u8]) -> Result<Ask, Refusal> {
    let inputs: Vec<String> = match body.get("input") {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => vec![text_of(body, "input").to_owned()],
    };
    let asked = body.get("output_dimension").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let base64 = text_of(body, "encoding_format") == "base64";
    let prompt_tokens = inputs.iter().map(|text| tokens(text)).sum();
    let embed = Embed { inputs, dimensions: asked.unwrap_or(DEFAULT_DIMENSIONS), base64, form: Form::Data };
    Ok(Ask { prompt_tokens, embed: Some(embed), ..Ask::begin(text_of(body, "model").to_owned(), raw)? })
}

/// The list of vectors.
pub(super) fn whole(ask: &Ask, embed: &Embed) -> Value {
    let usage = json!({ "prompt_tokens": ask.prompt_tokens, "completion_tokens": 0, "total_tokens": ask.prompt_tokens });
    json!({ "id": ask.digest, "object": "list", "data": vectors(embed), "model": ask.model, "usage": usage })
}
