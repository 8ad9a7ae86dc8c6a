//! Vertex AI serves many publishers: Google's models by Gemini's protocol, Claude by Anthropic's, everybody else by an
//! endpoint that speaks OpenAI under Google's path. The target's model names the publisher.

use crate::dialect::anthropic::Anthropic;
use crate::dialect::gemini::{Gemini, embeddings, error, location};
use crate::dialect::openai::OpenAi;
use crate::dialect::shared::blame::Names;
use crate::dialect::shared::count;
use crate::dialect::shared::embeddings::unavailable;
use crate::dialect::{Dialect, Outgoing};
use crate::error::ApiError;
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::failure::ProviderError;
use crate::llm::request::Ask;
use crate::provider::Target;
use http::HeaderMap;

/// Who publishes a model of Vertex AI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// `gemini-…` or `google/…`.
    Google,
    /// `anthropic/…`.
    Anthropic,
    /// Any other `publisher/model`.
    Other,
}

impl Publisher {
    /// The publisher of a model.
    pub fn of(model: &str) -> Self {
        match model.split_once('/') {
            None | Some(("google", _)) => Self::Google,
            Some(("anthropic", _)) => Self::Anthropic,
            Some(_) => Self::Other,
        }
    }
}

/// The protocol of whoever publishes the model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vertex;

impl Dialect for Vertex {
    fn encode(&self, ask: &dyn Ask, target: &Target) -> Result<Outgoing, ApiError> {
        match Publisher::of(ask.model()) {
            Publisher::Google => Gemini.encode(ask, target),
            Publisher::Anthropic => Anthropic.encode(ask, target),
            Publisher::Other => {
                // The model stays in the body with its publisher.
                let place = location(&target.provider).ok_or_else(|| ApiError::upstream("this provider has no project and location"))?;
                let outgoing = OpenAi.encode(ask, target)?;
                Ok(Outgoing { path: format!("{place}/endpoints/openapi/chat/completions"), ..outgoing })
            }
        }
    }

    fn encode_count(&self, ask: &dyn Ask, target: &Target) -> Result<Outgoing, ApiError> {
        match Publisher::of(ask.model()) {
            Publisher::Google => Gemini.encode_count(ask, target),
            Publisher::Anthropic => Anthropic.encode_count(ask, target),
            Publisher::Other => Err(count::unavailable(target)),
        }
    }

    /// Every publisher's embedding models are asked in Google's protocol; Anthropic has none.
    fn encode_embeddings(&self, request: &EmbeddingRequest<'_>, target: &Target) -> Result<Outgoing, ApiError> {
        match Publisher::of(request.base.model) {
            Publisher::Anthropic => Err(unavailable(&target.provider)),
            Publisher::Google | Publisher::Other => embeddings::encode(request, &target.provider),
        }
    }

    /// Errors are Google's, or have whatever shape the publisher's own server gives them under Google's status.
    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }

    fn names(&self, model: &str) -> &'static [Names] {
        match Publisher::of(model) {
            Publisher::Google => Gemini.names(model),
            Publisher::Anthropic => Anthropic.names(model),
            Publisher::Other => OpenAi.names(model),
        }
    }
}
