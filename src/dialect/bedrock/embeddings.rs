//! Embeddings at Bedrock: Converse has none, so each maker's own body goes through InvokeModel.
//!
//! | maker | request | answer |
//! | --- | --- | --- |
//! | Amazon Titan | `inputText` (one text), `dimensions` | `embedding`, `inputTextTokenCount` |
//! | Cohere | `texts`, `input_type`, `output_dimension` | `embeddings`, a list or `{"float": list}`; tokens in a header |
//!
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html>,
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html>

use crate::dialect::Outgoing;
use crate::dialect::shared::embeddings::{Answer, Whole, broken};
use crate::dialect::shared::params;
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::llm::embeddings::{DIMENSIONS, EmbeddingRequest, INPUT};
use crate::llm::failure::Fault;
use crate::percent;
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Cohere's models are made for a purpose, which OpenAI's shape has no word for: a client or a route may name it.
const INPUT_TYPE: &str = "input_type";
/// The purpose where nobody names one: texts that will be searched.
const DEFAULT_INPUT_TYPE: &str = "\"search_document\"";
/// Counts the input of every InvokeModel answer; Cohere's bodies do not.
const COUNTED_BY: HeaderName = HeaderName::from_static("x-amzn-bedrock-input-token-count");

/// Writes a request in the words of the model's maker.
pub(super) fn encode(request: &EmbeddingRequest<'_>) -> Result<Option<Outgoing>, ApiError> {
    // An ARN ends with the id of the model, or of an inference profile that is named after it.
    let model = request.base.model.rsplit('/').next().unwrap_or_default();
    let mut out = if model.contains("titan-embed") {
        titan(request, model)?
    } else if model.contains("cohere.embed") {
        cohere(request, model)?
    } else {
        return Ok(None);
    };
    out.path = format!("/model/{}/invoke", percent::segment(request.base.model));
    out.headers.push((ACCEPT, HeaderValue::from_static("application/json")));
    Ok(Some(out))
}

fn titan(request: &EmbeddingRequest<'_>, model: &str) -> Result<Outgoing, ApiError> {
    let texts = request.texts()?;
    let [text] = texts.as_slice() else {
        return Err(ApiError::field(INPUT, "This model takes one text a request; send each element of `input` on its own"));
    };
    let mut w = Writer::with_capacity(text.len() + 64);
    w.object().key("inputText").raw(text);
    if let Some(dimensions) = request.dimensions {
        if model.contains("titan-embed-image") {
            w.key("embeddingConfig").object().key("outputEmbeddingLength").raw(dimensions).end_object();
        } else if model.contains("titan-embed-text-v1") || model.contains("titan-embed-g1") {
            return Err(params::unsupported(DIMENSIONS));
        } else {
            w.key(DIMENSIONS).raw(dimensions);
        }
    }
    w.end_object();
    Ok(request.outgoing(String::new(), w.finish(), request.settle(&[])?, read_titan))
}

fn read_titan(json: &str) -> Result<Answer<'_>, Fault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", bound = "'de: 'a")]
    struct Wire<'a> {
        embedding: &'a RawValue,
        input_text_token_count: Option<u64>,
    }
    let wire: Wire<'_> = serde_json::from_str(json).map_err(|e| broken(&e))?;
    Ok(Answer::in_order([wire.embedding.get()], wire.input_text_token_count))
}

fn cohere(request: &EmbeddingRequest<'_>, model: &str) -> Result<Outgoing, ApiError> {
    let mut w = Writer::with_capacity(request.base.parsed.body().len() + 128);
    w.object()
        .key("texts")
        .raw_list(request.texts()?)
        .key(INPUT_TYPE)
        .raw(request.base.raw_named(INPUT_TYPE).unwrap_or(DEFAULT_INPUT_TYPE));
    if model.contains("-v3") {
        request.fixed_dimensions()?;
    } else {
        w.optional_raw("output_dimension", request.dimensions);
    }
    w.end_object();
    let mut out = request.outgoing(String::new(), w.finish(), request.settle(&[INPUT_TYPE])?, read_cohere);
    out.decoder = Box::new(Whole::new(request, read_cohere).counted_by(COUNTED_BY));
    Ok(out)
}

fn read_cohere(json: &str) -> Result<Answer<'_>, Fault> {
    #[derive(Deserialize)]
    #[serde(bound = "'de: 'a")]
    struct Wire<'a> {
        embeddings: &'a RawValue,
    }
    #[derive(Deserialize)]
    #[serde(bound = "'de: 'a")]
    struct ByType<'a> {
        float: Vec<&'a RawValue>,
    }
    let read = || {
        let list = serde_json::from_str::<Wire<'_>>(json)?.embeddings.get();
        if list.starts_with('[') { serde_json::from_str(list) } else { serde_json::from_str(list).map(|by: ByType<'_>| by.float) }
    };
    let list: Vec<&RawValue> = read().map_err(|e| broken(&e))?;
    Ok(Answer::in_order(list.into_iter().map(RawValue::get), None))
}
