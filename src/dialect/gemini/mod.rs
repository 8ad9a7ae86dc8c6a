//! Gemini's `generateContent`, as Vertex AI and Google AI Studio speak it.
//!
//! The two differ in the path, in who may fetch a URL, and in labels; everything else is one protocol. Vertex serves
//! other publishers too, by other protocols: see [`Vertex`].

mod contents;
mod decode;
mod embeddings;
mod encode;
mod error;
mod vertex;
mod wire;

use crate::dialect::shared::blame::Names;
use crate::dialect::{Dialect, Outgoing};
use crate::error::ApiError;
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::failure::ProviderError;
use crate::llm::request::Ask;
use crate::percent;
use crate::provider::{Provider, Settings, Target};
use http::HeaderMap;

#[cfg(test)]
pub(in crate::dialect) use error::NAMES;
pub use vertex::{Publisher, Vertex};

/// Gemini's protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gemini;

impl Dialect for Gemini {
    fn encode(&self, ask: &dyn Ask, target: &Target) -> Result<Outgoing, ApiError> {
        encode::encode(&ask.request()?, &target.provider)
    }

    fn encode_count(&self, ask: &dyn Ask, target: &Target) -> Result<Outgoing, ApiError> {
        encode::count(&ask.request()?, &target.provider)
    }

    fn encode_embeddings(&self, request: &EmbeddingRequest<'_>, target: &Target) -> Result<Outgoing, ApiError> {
        embeddings::encode(request, &target.provider)
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }

    fn names(&self, _model: &str) -> &'static [Names] {
        &[error::NAMES]
    }
}

/// Path of everything in a project's location on Vertex.
fn location(provider: &Provider) -> Option<String> {
    let Settings::Vertex { project, location } = &provider.settings else { return None };
    Some(format!("/v1/projects/{}/locations/{}", percent::google_segment(project), percent::google_segment(location)))
}
