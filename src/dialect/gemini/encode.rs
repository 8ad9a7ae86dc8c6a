//! Writing one attempt's request straight into Gemini's JSON.

use super::decode::GeminiDecoder;
use super::{config, contents, location};
use crate::dialect::Outgoing;
use crate::dialect::params::{Policy, Settled, settle};
use crate::error::ApiError;
use crate::frame::Framing;
use crate::json::write::Writer;
use crate::llm::field::Field;
use crate::llm::request::Request;
use crate::percent;
use crate::provider::{Kind, Provider};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Fields that Gemini has in its own words. `n` and the constraints are among them: [`config`] refuses what it cannot say.
const MAPPED: &[Field] = &[
    Field::MaxTokens,
    Field::MaxCompletionTokens,
    Field::Temperature,
    Field::TopP,
    Field::FrequencyPenalty,
    Field::PresencePenalty,
    Field::Stop,
    Field::Seed,
    Field::N,
    Field::Tools,
    Field::ToolChoice,
    Field::Functions, // refused by the reader of tools, with advice
    Field::FunctionCall,
    Field::ResponseFormat,
    Field::ReasoningEffort,
    Field::Logprobs,
    Field::TopLogprobs,
    Field::Metadata,
    Field::GuidedJson,
    Field::GuidedRegex,
    Field::GuidedChoice,
    Field::GuidedGrammar,
    Field::StructuralTag,
];

/// Longest key or value of a label.
/// <https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/add-labels-to-api-calls>
const MAX_LABEL: usize = 63;
/// Most labels of a request.
const MAX_LABELS: usize = 64;
/// Room for what is written beside the client's own bytes.
const OVERHEAD: usize = 512;

/// Writes the request.
pub(super) fn encode(request: &Request<'_>, provider: &Provider) -> Result<Outgoing, ApiError> {
    let mut settled = settle(request, |field| Policy::of(field, MAPPED))?;
    let model = request.model.strip_prefix("google/").unwrap_or(request.model);
    // One allocation for the whole body: a picture of some megabytes is copied once, from the client's bytes to here.
    let mut w = Writer::with_capacity(request.size + OVERHEAD);
    w.object();
    contents::write(&mut w, request, &contents::Place { kind: provider.kind, model })?;
    config::tools(&mut w, request, &mut settled)?;
    config::generation(&mut w, request, model, &mut settled)?;
    labels(&mut w, request, provider.kind, &mut settled)?;
    w.end_object();
    Ok(Outgoing {
        path: path(provider, model, request.stream),
        body: w.finish().into(),
        headers: Vec::new(),
        dropped: settled.dropped,
        adjusted: settled.adjusted,
        framing: Framing::Sse,
        decoder: Box::new(GeminiDecoder::default()),
    })
}

fn path(provider: &Provider, model: &str, stream: bool) -> String {
    let operation = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    let model = percent::google_segment(model);
    match location(provider) {
        Some(location) => format!("{location}/publishers/google/models/{model}:{operation}"),
        None => format!("/v1beta/models/{model}:{operation}"),
    }
}

/// Metadata becomes the labels of a Vertex request where every pair keeps the rules of labels; elsewhere it is a hint
/// without a counterpart.
fn labels(w: &mut Writer, request: &Request<'_>, kind: Kind, settled: &mut Settled) -> Result<(), ApiError> {
    let Some(raw) = request.metadata else { return Ok(()) };
    let pairs = serde_json::from_str::<BTreeMap<Cow<'_, str>, Cow<'_, str>>>(raw).ok();
    let fit = |pairs: &BTreeMap<Cow<'_, str>, Cow<'_, str>>| {
        let legal = |text: &str| text.len() <= MAX_LABEL && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        let key = |text: &str| legal(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
        pairs.len() <= MAX_LABELS && pairs.iter().all(|(k, v)| key(k) && legal(v))
    };
    match pairs.filter(|pairs| kind == Kind::Vertex && fit(pairs)) {
        None => settled.drop(request.name_of(Field::Metadata)),
        Some(pairs) => {
            w.key("labels").object();
            for (key, value) in pairs {
                w.key(&key).string(&value);
            }
            w.end_object();
            Ok(())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests;
