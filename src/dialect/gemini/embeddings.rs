//! Google's embeddings: `:predict` on Vertex AI, `:batchEmbedContents` in AI Studio.
//!
//! | | request | answer |
//! | --- | --- | --- |
//! | Vertex AI | `instances[].content`, `parameters.outputDimensionality` | `predictions[].embeddings.values`, `.statistics.token_count` |
//! | AI Studio | `requests[].content`, `requests[].outputDimensionality` | `embeddings[].values` |
//!
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api>,
//! <https://ai.google.dev/api/embeddings#method:-models.batchembedcontents>

use super::{location, segment};
use crate::dialect::{Fault, Outgoing};
use crate::embed::answer::{Answer, broken};
use crate::embed::request::EmbeddingRequest;
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::provider::Provider;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Writes a request to the provider, whichever of the two it is.
pub(super) fn encode(request: &EmbeddingRequest<'_>, provider: &Provider) -> Result<Outgoing, ApiError> {
    let (texts, settled) = (request.texts()?, request.settle(&[])?);
    let mut w = Writer::with_capacity(request.base.parsed.body().len() + texts.len() * 96 + 128);
    w.object();
    let model = request.base.model;
    if let Some(location) = location(provider) {
        let (publisher, model) = model.split_once('/').unwrap_or(("google", model));
        w.key("instances").array();
        for text in texts {
            w.object().key("content").raw(text).end_object();
        }
        w.end_array();
        if let Some(dimensions) = request.dimensions {
            w.key("parameters").object().key("outputDimensionality").raw(dimensions).end_object();
        }
        w.end_object();
        let path = format!("{location}/publishers/{}/models/{}:predict", segment(publisher), segment(model));
        return Ok(request.outgoing(path, w.finish(), settled, read_vertex));
    }
    let full = format!("models/{model}");
    w.key("requests").array();
    for text in texts {
        w.object().key("model").string(&full).key("content").object().key("parts").array();
        w.object().key("text").raw(text).end_object().end_array().end_object();
        if let Some(dimensions) = request.dimensions {
            w.key("outputDimensionality").raw(dimensions);
        }
        w.end_object();
    }
    w.end_array().end_object();
    Ok(request.outgoing(format!("/v1beta/models/{}:batchEmbedContents", segment(model)), w.finish(), settled, read_studio))
}

/// One vector.
#[derive(Deserialize)]
struct Vector<'a> {
    #[serde(borrow)]
    values: &'a RawValue,
    #[serde(default)]
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    /// A whole number in a field that has room for others (`4.0`).
    #[serde(default)]
    token_count: Option<f64>,
}

fn read_vertex(json: &str) -> Result<Answer<'_>, Fault> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(borrow)]
        predictions: Vec<Prediction<'a>>,
    }
    #[derive(Deserialize)]
    struct Prediction<'a> {
        #[serde(borrow)]
        embeddings: Vector<'a>,
    }
    let wire: Wire<'_> = serde_json::from_str(json).map_err(|e| broken(&e))?;
    let counts = wire.predictions.iter().map(|p| p.embeddings.statistics.as_ref()?.token_count);
    // `as` saturates: what is negative or no number is 0.
    let tokens = counts.sum::<Option<f64>>().map(|sum| sum as u64);
    Ok(Answer::in_order(wire.predictions.iter().map(|p| p.embeddings.values.get()), tokens))
}

fn read_studio(json: &str) -> Result<Answer<'_>, Fault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire<'a> {
        #[serde(borrow)]
        embeddings: Vec<Vector<'a>>,
        #[serde(default)]
        usage_metadata: Option<Counts>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Counts {
        #[serde(default)]
        prompt_token_count: Option<u64>,
    }
    let wire: Wire<'_> = serde_json::from_str(json).map_err(|e| broken(&e))?;
    let tokens = wire.usage_metadata.and_then(|counts| counts.prompt_token_count);
    Ok(Answer::in_order(wire.embeddings.iter().map(|vector| vector.values.get()), tokens))
}
