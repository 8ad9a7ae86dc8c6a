//! Google's embeddings: `:predict`, `:embedContent` or `:batchEmbedContents`, by host and model.
//!
//! | | request | answer |
//! | --- | --- | --- |
//! | `:predict` | `instances[].content`, `parameters.outputDimensionality` | `predictions[].embeddings.values`, `.statistics.token_count` |
//! | `:embedContent` | `content`, `embedContentConfig.outputDimensionality` | `embedding.values`, `usageMetadata` |
//! | `:batchEmbedContents` | `requests[]` of such | `embeddings[].values`, `usageMetadata` |
//! | AI Studio's | `requests[].content`, `requests[].outputDimensionality` | `embeddings[].values`, `usageMetadata` |
//!
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api>,
//! <https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.publishers.models/embedContent>,
//! <https://ai.google.dev/api/embeddings#method:-models.batchembedcontents>

use crate::dialect::Outgoing;
use crate::dialect::shared::embeddings::{Answer, Read, broken};
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::llm::embeddings::{EmbeddingRequest, INPUT};
use crate::llm::failure::Fault;
use crate::percent;
use serde::Deserialize;
use serde_json::value::RawValue;

/// How a model of Vertex AI is asked; Google's own SDK goes by the names too (`t_is_vertex_embed_content_model`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    /// `:predict`.
    Predict,
    /// `:embedContent`, or `:batchEmbedContents` for several contents.
    Embed,
    /// `:embedContent` with one content.
    EmbedOne,
}

impl Method {
    fn of(model: &str) -> Self {
        match model {
            "gemini-embedding-001" => Self::Predict,
            _ if model.contains("maas") => Self::EmbedOne,
            _ if model.contains("gemini") => Self::Embed,
            _ => Self::Predict,
        }
    }
}

/// Writes a request to the provider, whichever of the two it is.
pub(super) fn encode(request: &EmbeddingRequest<'_>, location: Option<&str>) -> Result<Outgoing, ApiError> {
    let (texts, settled) = (request.texts()?, request.settle(&[])?);
    let mut w = Writer::with_capacity(request.base.parsed.body().len() + texts.len() * 96 + 128);
    let model = request.base.model;
    let Some(location) = location else {
        studio(&mut w, request, &texts);
        return Ok(request.outgoing(
            format!("/v1beta/models/{}:batchEmbedContents", percent::google_segment(model)),
            w.finish(),
            settled,
            read_contents,
        ));
    };
    let (publisher, model) = model.split_once('/').unwrap_or(("google", model));
    let (operation, read) = match (Method::of(model), texts.as_slice()) {
        (Method::Predict, texts) => {
            predict(&mut w, request, texts);
            ("predict", read_predictions as Read)
        }
        (_, [text]) => {
            content(&mut w, request, text);
            ("embedContent", read_contents as _)
        }
        (Method::EmbedOne, _) => {
            return Err(ApiError::field(INPUT, "`input` can hold only one text for this model; send a request for each"));
        }
        (Method::Embed, texts) => {
            w.object().key("requests").array();
            texts.iter().for_each(|text| content(&mut w, request, text));
            w.end_array().end_object();
            ("batchEmbedContents", read_contents as _)
        }
    };
    let path =
        format!("{location}/publishers/{}/models/{}:{operation}", percent::google_segment(publisher), percent::google_segment(model));
    Ok(request.outgoing(path, w.finish(), settled, read))
}

fn predict(w: &mut Writer, request: &EmbeddingRequest<'_>, texts: &[&str]) {
    w.object().key("instances").array();
    for text in texts {
        w.object().key("content").raw(text).end_object();
    }
    w.end_array();
    if let Some(dimensions) = request.dimensions {
        w.key("parameters").object().key("outputDimensionality").raw(dimensions).end_object();
    }
    w.end_object();
}

/// One content and its configuration, as Vertex AI takes them.
fn content(w: &mut Writer, request: &EmbeddingRequest<'_>, text: &str) {
    parts(w.object(), text);
    if let Some(dimensions) = request.dimensions {
        w.key("embedContentConfig").object().key("outputDimensionality").raw(dimensions).end_object();
    }
    w.end_object();
}

fn studio(w: &mut Writer, request: &EmbeddingRequest<'_>, texts: &[&str]) {
    let model = format!("models/{}", request.base.model);
    w.object().key("requests").array();
    for text in texts {
        parts(w.object().key("model").string(&model), text);
        w.optional_raw("outputDimensionality", request.dimensions).end_object();
    }
    w.end_array().end_object();
}

fn parts(w: &mut Writer, text: &str) {
    w.key("content").object().key("parts").array().object().key("text").raw(text).end_object().end_array().end_object();
}

/// One vector.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct Vector<'a> {
    values: &'a RawValue,
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    /// A whole number in a field that has room for others (`4.0`).
    token_count: Option<f64>,
}

fn read_predictions(json: &str) -> Result<Answer<'_>, Fault> {
    #[derive(Deserialize)]
    #[serde(bound = "'de: 'a")]
    struct Wire<'a> {
        predictions: Vec<Prediction<'a>>,
    }
    #[derive(Deserialize)]
    #[serde(bound = "'de: 'a")]
    struct Prediction<'a> {
        embeddings: Vector<'a>,
    }
    let wire: Wire<'_> = serde_json::from_str(json).map_err(|e| broken(&e))?;
    let counts = wire.predictions.iter().map(|p| p.embeddings.statistics.as_ref()?.token_count);
    // `as` saturates: what is negative or no number is 0.
    let tokens = counts.sum::<Option<f64>>().map(|sum| sum as u64);
    Ok(Answer::in_order(wire.predictions.iter().map(|p| p.embeddings.values.get()), tokens))
}

/// One vector or several, and how many tokens they took.
fn read_contents(json: &str) -> Result<Answer<'_>, Fault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", bound = "'de: 'a")]
    struct Wire<'a> {
        embedding: Option<Vector<'a>>,
        #[serde(default)]
        embeddings: Vec<Vector<'a>>,
        usage_metadata: Option<Counts>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Counts {
        prompt_token_count: Option<u64>,
    }
    let wire: Wire<'_> = serde_json::from_str(json).map_err(|e| broken(&e))?;
    let tokens = wire.usage_metadata.and_then(|counts| counts.prompt_token_count);
    Ok(Answer::in_order(wire.embedding.iter().chain(&wire.embeddings).map(|vector| vector.values.get()), tokens))
}
